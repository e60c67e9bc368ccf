//! Whatever moment a power cut picks: what is restored goes on and converges.

use std::{collections::BTreeSet, time::Duration};

use burr_protocol::{
    config::{Config, Confirm, Install},
    receipt::Outcome,
    release::Release,
};
use burr_sim::{NodeIndex, Publisher, World, story::EPOCH};
use proptest::prelude::*;

/// A power cut after this many events, and how long it lasts.
#[derive(Debug, Clone)]
struct Cut {
    events: u32,
    at_source: bool,
    dark: u64,
}

fn cut() -> impl Strategy<Value = Cut> {
    (1u32..160, prop::bool::weighted(0.25), 0u64..2000).prop_map(|(events, at_source, dark)| Cut {
        events,
        at_source,
        dark,
    })
}

struct Town {
    world: World,
    shop: Publisher,
    source: NodeIndex,
    device: NodeIndex,
    releases: Vec<Release>,
}

impl Town {
    fn new() -> Self {
        let mut world = World::new(EPOCH);
        let shop = Publisher::new("shop", "the town", EPOCH);
        let source = world.add(Config { follows: vec![shop.cached()], collect: true, ..Config::default() });
        let confirm = Confirm::Command(Duration::from_secs(10));
        let follows = vec![shop.installed(Install { confirm, ..Install::of("stable") })];
        let device = world.add(Config { follows, ..Config::default() });
        world.link(source, device, Duration::from_millis(3), 4 << 20);
        Self { world, shop, source, device, releases: Vec::new() }
    }

    fn publish(&mut self, version: &str) {
        let now = self.world.now().wall.expect("the world has a clock");
        self.releases.push(self.shop.release(version, 1 << 20, now));
        self.import();
    }

    /// As a publisher does after each start: what it has is the same or newer.
    fn import(&mut self) {
        if let Some(newest) = self.releases.last() {
            let blob = (newest.payload.blob, newest.payload.size);
            self.world.import(self.source, self.shop.id(), Some(blob), self.shop.pack());
        }
    }

    fn cut(&mut self, cut: &Cut) {
        let (device, mut left) = (self.device, cut.events);
        self.world.run_while(Duration::from_secs(5), |world| {
            assert_whole(world, device);
            left -= 1;
            left == 0
        });
        let node = if cut.at_source { self.source } else { self.device };
        self.world.crash(node);
        assert_whole(&self.world, device);
        self.world.run(Duration::from_millis(cut.dark));
        self.world.start(node);
        if cut.at_source {
            self.import();
        }
    }
}

/// What `current` names is there, always.
fn assert_whole(world: &World, device: NodeIndex) {
    let disk = world.disk(device);
    assert!(disk.current("shop").is_none_or(|current| disk.slots("shop").contains(&current)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    // §10.3
    #[test]
    fn a_device_converges_from_whatever_was_durable(
        first in prop::collection::vec(cut(), 0..3),
        second in prop::collection::vec(cut(), 0..3),
        third in prop::collection::vec(cut(), 0..3),
    ) {
        let mut town = Town::new();
        for (version, cuts) in [("1.0.0", &first), ("2.0.0", &second), ("3.0.0", &third)] {
            town.publish(version);
            if version == "2.0.0" {
                let bundle = town.releases[1].bundle;
                town.world.make_unhealthy(bundle);
            }
            for cut in cuts {
                town.cut(cut);
            }
            town.world.run(Duration::from_secs(1));
        }
        // Longer than a sync interval: what a crash of the source dropped comes again.
        town.world.run(Duration::from_secs(400));

        let device = town.device;
        prop_assert_eq!(town.world.active(device, "shop"), Some("3.0.0".to_owned()));
        prop_assert_eq!(town.world.disk(device).current("shop"), Some(town.releases[2].bundle));
        let kept = |node| -> Vec<_> {
            let agent = town.world.agent(node).expect("on");
            agent.receipts().iter().map(|signed| signed.verify().expect("kept ones hold")).collect()
        };
        let receipts = kept(town.source);
        prop_assert_eq!(&receipts, &kept(device));
        let counters: Vec<u64> = receipts.iter().map(|receipt| receipt.counter).collect();
        prop_assert_eq!(counters, (1..=receipts.len() as u64).collect::<Vec<_>>());
        let versions: BTreeSet<&str> = receipts.iter().map(|receipt| receipt.version.as_str()).collect();
        prop_assert_eq!(versions.len(), receipts.len(), "each version ends once");
        for receipt in receipts {
            let active = receipt.outcome == Outcome::Active;
            prop_assert_eq!(active, receipt.version != "2.0.0", "{:?}", receipt);
        }
    }
}
