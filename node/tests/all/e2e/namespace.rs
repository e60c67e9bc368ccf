//! Networks of hosts in network namespaces of their own, with links of known speed. Needs root, `ip` and, for the speed,
//! `tc`; where that is not to be had, it is said.

use std::{
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// A bridge with hosts on it, taken down with the value.
pub(super) struct Lan {
    name: String,
    hosts: u32,
    sites: Vec<u32>,
}

impl Lan {
    /// A LAN with this many hosts; `None` without the right to make one.
    pub(super) fn new(hosts: u32) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("b{}x{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        if !try_ip(&["netns", "add", &name]) {
            eprintln!("skipped: a LAN needs the right to make network namespaces, and `ip`");
            return None;
        }
        let lan = Self { name, hosts, sites: Vec::new() };
        lan.make();
        Some(lan)
    }

    /// The switch is in a namespace of its own: nothing of it touches the machine's network.
    fn make(&self) {
        let switch = &self.name;
        ip(&["-n", switch, "link", "add", "name", "switch", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", switch, "link", "set", "dev", "switch", "up"]);
        for host in 0..self.hosts {
            let space = self.host(host);
            plug(switch, &format!("port{host}"), &space, "eth0", &format!("10.77.0.{}/24", host + 1));
            ip(&["-n", &space, "route", "add", "default", "dev", "eth0"]);
        }
    }

    /// Adds a site: hosts behind a router that has one place on the switch, with so many bits a second into the site and
    /// out of it. Returns its number; false where links can't be slowed down.
    pub(super) fn add_site(&mut self, hosts: u32, into: &str, out: &str) -> Option<u32> {
        let site = u32::try_from(self.sites.len()).expect("few");
        self.sites.push(hosts);
        let (router, port) = (self.router(site), format!("site{site}"));
        plug(&self.name, &port, &router, "wan", &format!("10.77.0.{}/24", 100 + site));
        ip(&["-n", &router, "link", "add", "name", "lan", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &router, "address", "add", &format!("10.77.{}.254/24", 100 + site), "dev", "lan"]);
        ip(&["-n", &router, "link", "set", "dev", "lan", "up"]);
        ip(&["netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        for host in 0..hosts {
            let space = self.host_of(site, host);
            let port = format!("port{host}");
            ip(&["netns", "add", &space]);
            ip(&["-n", &router, "link", "add", "name", &port, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ip(&["-n", &router, "link", "set", "dev", &port, "master", "lan", "up"]);
            address(&space, "eth0", &format!("10.77.{}.{}/24", 100 + site, host + 1));
            ip(&["-n", &space, "route", "add", "default", "via", &format!("10.77.{}.254", 100 + site)]);
        }
        for other in 0..site {
            for (at, to) in [(site, other), (other, site)] {
                let (net, via) = (format!("10.77.{}.0/24", 100 + to), format!("10.77.0.{}", 100 + to));
                ip(&["-n", &self.router(at), "route", "add", &net, "via", &via]);
            }
        }
        for host in 0..self.hosts {
            let (net, via) = (format!("10.77.{}.0/24", 100 + site), format!("10.77.0.{}", 100 + site));
            ip(&["-n", &self.host(host), "route", "add", &net, "via", &via]);
        }
        (shape(&self.name, &port, into) && shape(&router, "wan", out)).then_some(site)
    }

    /// Bytes that a site took in over its uplink.
    pub(super) fn taken_in(&self, site: u32) -> u64 {
        counted(&self.router(site), "wan", "rx")
    }

    /// Bytes that a host sent.
    pub(super) fn sent(&self, number: u32) -> u64 {
        counted(&self.host(number), "eth0", "tx")
    }

    fn router(&self, site: u32) -> String {
        format!("{}s{site}", self.name)
    }

    /// The namespace of a host of a site.
    pub(super) fn host_of(&self, site: u32, number: u32) -> String {
        format!("{}s{site}h{number}", self.name)
    }

    /// The namespace of a host.
    pub(super) fn host(&self, number: u32) -> String {
        format!("{}h{number}", self.name)
    }

    /// Pulls a host's cable out of the switch, or puts it back.
    pub(super) fn cable(&self, number: u32, state: &str) {
        ip(&["-n", &self.name, "link", "set", "dev", &format!("port{number}"), state]);
    }

    /// Makes a host's cable this slow, down to it and up from it; false where that can't be had.
    pub(super) fn slow(&self, number: u32, down: &str, up: &str) -> bool {
        shape(&self.name, &format!("port{number}"), down) && shape(&self.host(number), "eth0", up)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            try_ip(&["netns", "del", &self.host(host)]);
        }
        for (site, hosts) in self.sites.iter().enumerate() {
            let site = u32::try_from(site).expect("few");
            (0..*hosts).for_each(|host| _ = try_ip(&["netns", "del", &self.host_of(site, host)]));
            try_ip(&["netns", "del", &self.router(site)]);
        }
        try_ip(&["netns", "del", &self.name]);
    }
}

/// A namespace with one cable into a switch's.
fn plug(switch: &str, port: &str, space: &str, device: &str, at: &str) {
    ip(&["netns", "add", space]);
    ip(&["-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", device, "netns", space]);
    ip(&["-n", switch, "link", "set", "dev", port, "master", "switch", "up"]);
    address(space, device, at);
}

fn address(space: &str, device: &str, at: &str) {
    ip(&["-n", space, "link", "set", "dev", "lo", "up"]);
    ip(&["-n", space, "address", "add", at, "dev", device]);
    ip(&["-n", space, "link", "set", "dev", device, "up"]);
}

/// A queue as long as 50 ms lie in it: what comes in more than that is dropped, as a real link does.
fn shape(space: &str, device: &str, rate: &str) -> bool {
    let mut tc = Command::new("tc");
    tc.args(["-n", space, "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "64kb"]);
    tc.args(["latency", "50ms"]).output().is_ok_and(|output| output.status.success())
}

fn counted(space: &str, device: &str, what: &str) -> u64 {
    let mut cat = Command::new("ip");
    cat.args(["netns", "exec", space, "cat", &format!("/sys/class/net/{device}/statistics/{what}_bytes")]);
    let read = cat.output().expect("`ip` runs");
    String::from_utf8_lossy(&read.stdout).trim().parse().expect("a counter")
}

fn ip(arguments: &[&str]) {
    assert!(try_ip(arguments), "ip {}", arguments.join(" "));
}

fn try_ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}
