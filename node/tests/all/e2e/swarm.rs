//! The swarm lab in small form, on real hosts: flat, and sites behind slow uplinks. What is held to is what crosses the
//! links; the time says more about the machine that builds and tests at the same time, and is printed as a multiple of what
//! the links allow. The lab itself, with our adapter `tests/lab/burr.json`, measures it.

use std::{path::Path, time::Instant};

use super::{
    namespace::Lan,
    program::{Node, Shop, publish},
};
use crate::support::{noise, tree};

const SIZE: usize = 4 << 20;
/// Seconds that the file takes over a link of 20 Mbit/s.
const BOUND: f64 = 4.0 * 1_048_576.0 * 8.0 / 20e6;

/// A publisher on the first host with a version that everyone has, and devices that know all the others' addresses.
struct Fleet {
    shop: Shop,
    publisher: Node,
    devices: Vec<Node>,
}

impl Fleet {
    /// Devices in these namespaces, at these addresses.
    fn start(lan: &Lan, devices: &[(String, String)]) -> Self {
        let shop = Shop::open(|build: &Path| _ = tree(build, &[("index.html", b"<h1>shop</h1>")]));
        let alone = ["--no-mdns", "--port", "7447"];
        let publisher = Node::start_in(&lan.host(0), &shop.publisher, &alone);
        let mut peers = vec!["10.77.0.1:7447".to_owned()];
        let mut started = Vec::new();
        for (number, (space, address)) in devices.iter().enumerate() {
            let mut arguments: Vec<&str> = vec!["--install", &shop.link, "--no-mdns", "--port", "7447"];
            arguments.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
            started.push(Node::start_in(space, &shop.data(&number.to_string()), &arguments));
            peers.push(format!("{address}:7447"));
        }
        // Each knows all: the last one met is as near as the first.
        for device in &mut started {
            device.hear_step("1.0.0", "active");
            while device.ask("status")["peers"].as_array().map_or(0, Vec::len) < devices.len() {
                device.listen(std::time::Duration::from_millis(50));
            }
        }
        Self { shop, publisher, devices: started }
    }

    /// Publishes the large version; returns the seconds until the last device has it.
    fn spread(&mut self) -> f64 {
        tree(&self.shop.source(), &[("data", &noise(3, SIZE))]);
        let begun = Instant::now();
        publish(&self.shop.publisher, &self.shop.source(), "2.0.0");
        for device in &mut self.devices {
            device.hear_step("2.0.0", "active");
        }
        begun.elapsed().as_secs_f64()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
fn times_the_file(bytes: u64) -> f64 {
    bytes as f64 / SIZE as f64
}

#[test]
fn a_flat_swarm_takes_little_more_than_one_copy_from_its_origin() {
    const DEVICES: u32 = 4;
    let Some(lan) = Lan::new(DEVICES + 1) else { return };
    if !(0..=DEVICES).all(|host| lan.slow(host, "20mbit", "20mbit")) {
        eprintln!("skipped: slow links need `tc`");
        return;
    }
    let devices: Vec<_> = (1..=DEVICES).map(|host| (lan.host(host), format!("10.77.0.{}", host + 1))).collect();
    let mut fleet = Fleet::start(&lan, &devices);
    let before = lan.sent(0);
    let took = fleet.spread();
    let sent = times_the_file(lan.sent(0) - before);
    eprintln!("flat: {took:.2} s, {:.2} x the bound; the origin sent {sent:.2} x the file", took / BOUND);
    assert!(sent < 2.0, "the origin sent {sent} copies to {DEVICES} devices");
    fleet.publisher.stop();
}

#[test]
fn each_piece_crosses_a_sites_uplink_about_once() {
    const DEVICES: u32 = 3;
    let Some(mut lan) = Lan::new(1) else { return };
    let slow = lan.slow(0, "20mbit", "20mbit");
    let sites: Vec<u32> = (0..2).filter_map(|_| lan.add_site(DEVICES, "8mbit", "2mbit")).collect();
    if !slow || sites.len() < 2 {
        eprintln!("skipped: slow links need `tc`");
        return;
    }
    let of = |site: u32, host: u32| (lan.host_of(site, host), format!("10.77.{}.{}", 100 + site, host + 1));
    let devices: Vec<_> = sites.iter().flat_map(|site| (0..DEVICES).map(|host| of(*site, host))).collect();
    let mut fleet = Fleet::start(&lan, &devices);
    let before: Vec<u64> = sites.iter().map(|site| lan.taken_in(*site)).collect();
    let took = fleet.spread();
    let into: Vec<f64> =
        sites.iter().zip(before).map(|(site, before)| times_the_file(lan.taken_in(*site) - before)).collect();
    eprintln!("sites: {took:.2} s; the uplinks took in {into:.2?} x the file for {DEVICES} devices each");
    assert!(into.iter().all(|into| *into < 1.6), "{into:?}");
    fleet.publisher.stop();
}
