//! The first story: a publisher, a kiosk and a device. The device never sees the publisher.

use std::{fmt, time::Duration};

use burr_protocol::{
    Hash, Wall,
    config::{Config, Confirm, Install},
    fact::Fact,
};

use crate::{NodeIndex, Publisher, World};

/// 2026-11-01, when every story begins.
pub const EPOCH: Wall = Wall(1_793_491_200);

/// What came of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What each node told, a line each.
    pub lines: Vec<String>,
    /// The version that is active on the device at the end.
    pub active: Option<String>,
    /// Receipts at the kiosk.
    pub receipts: usize,
    /// What all actions hash to.
    pub digest: Hash,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let active = self.active.as_deref().unwrap_or("nothing");
        writeln!(f, "active on the device: {active}; receipts at the kiosk: {}", self.receipts)?;
        writeln!(f, "digest {}", self.digest)
    }
}

/// Version 1 travels over the kiosk to a device that the publisher never meets; the publisher goes; version 2 fails its
/// health check and the device goes back by itself; both receipts reach the kiosk.
#[must_use]
pub fn three_nodes(seed: &str) -> Told {
    let mut world = World::new(EPOCH);
    let mut shop = Publisher::new("shop", seed, EPOCH);
    let caching = |collect| Config { follows: vec![shop.cached()], collect, ..Config::default() };
    let publisher = world.add(caching(true));
    let kiosk = world.add(caching(true));
    let confirm = Confirm::Command(Duration::from_secs(10));
    let install = Install { confirm, ..Install::of("stable") };
    let device = world.add(Config { follows: vec![shop.installed(install)], ..Config::default() });

    world.link(publisher, kiosk, Duration::from_millis(20), 1 << 20);
    let first = shop.release("1.0.0", 3 << 20, EPOCH);
    world.import(publisher, shop.id(), Some((first.payload.blob, first.payload.size)), shop.pack());
    world.run(Duration::from_secs(30));
    let second = shop.release("2.0.0", 4 << 20, Wall(EPOCH.0 + 30));
    world.make_unhealthy(second.bundle);
    world.import(publisher, shop.id(), Some((second.payload.blob, second.payload.size)), shop.pack());
    world.cut(publisher, kiosk);
    world.link(kiosk, device, Duration::from_millis(2), 10 << 20);
    world.run(Duration::from_secs(30));
    world.cut(kiosk, device);
    world.mend(publisher, kiosk);
    world.run(Duration::from_secs(30));
    world.crash(publisher);
    world.mend(kiosk, device);
    world.run(Duration::from_secs(60));

    let lines = [(publisher, "publisher"), (kiosk, "kiosk"), (device, "device")];
    Told {
        lines: lines.iter().flat_map(|(node, name)| lines_of(&world, *node, name)).collect(),
        active: world.active(device, "shop"),
        receipts: world.agent(kiosk).map_or(0, |agent| agent.receipts().iter().count()),
        digest: world.digest(),
    }
}

fn lines_of(world: &World, node: NodeIndex, name: &str) -> Vec<String> {
    let line = |(time, fact): &(burr_protocol::Time, Fact)| format!("{:>7} ms {name:<9} {fact}", time.0);
    world.facts(node).iter().map(line).collect()
}
