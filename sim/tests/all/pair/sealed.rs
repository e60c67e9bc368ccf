//! Sealed releases: a device of the fleet finds its way to the key, another says what it lacks, and a cache carries all.

use burr_protocol::{Hash, fact::Fact, release::Payload};

use super::{MIB, Pair, RATE, stable};

impl Pair {
    /// The publisher's fleet begins another epoch, on the source.
    fn begin_epoch(&mut self) -> Payload {
        let list = self.shop.begin_epoch(self.world.now().wall.expect("the world has a clock"));
        self.world.import(self.source, self.shop.id(), Some((list.blob, list.size)), self.shop.pack());
        list
    }

    fn publish_sealed(&mut self, version: &str) {
        let now = self.world.now().wall.expect("the world has a clock");
        let release = self.shop.release_sealed(version, MIB, now);
        self.import(&release);
    }

    /// Why the device takes nothing.
    fn why(&self) -> String {
        let status = self.world.agent(self.device).expect("the device is on").status();
        status.apps[0].why.clone().unwrap_or_default()
    }

    /// How often the device fetched a blob to its end.
    fn fetched(&self, blob: Hash) -> usize {
        self.told(self.device, |fact| matches!(fact, Fact::FetchCompleted { blob: whole, .. } if *whole == blob))
    }

    /// Keeps nothing for others: the device that a fleet is made of.
    fn keeps_nothing() -> Self {
        let mut pair = Self::apart(stable());
        let mut follow = pair.shop.installed(stable());
        follow.cache = None;
        let config = burr_protocol::config::Config { follows: vec![follow], ..Default::default() };
        pair.device = pair.world.add(config);
        pair.meet();
        pair
    }
}

#[test]
fn a_device_of_the_fleet_gets_the_key_and_then_the_release() {
    // §12.9
    let mut pair = Pair::keeps_nothing();
    let list = pair.begin_epoch();
    pair.world.list_in(pair.device, list.blob);
    pair.publish_sealed("1.0.0");
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.fetched(list.blob), 1);
    assert!(!pair.world.disk(pair.device).store().contains_key(&list.blob), "a list that was read may go");
    // The same key opens what comes next, after a restart too.
    pair.restart(pair.device);
    pair.publish_sealed("1.1.0");
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("1.1.0"));
    assert_eq!(pair.fetched(list.blob), 1);
}

#[test]
fn a_device_that_is_not_listed_says_so_and_takes_what_is_for_everybody() {
    // §12.9
    let mut pair = Pair::keeps_nothing();
    pair.publish("1.0.0", MIB);
    let list = pair.begin_epoch();
    pair.publish_sealed("2.0.0");
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"), "what it can read, it takes");
    assert!(pair.why().contains("not a member of fleet stores in epoch 1"), "{}", pair.why());
    // Neither time nor news of the same list makes it fetch that again.
    pair.publish_sealed("2.1.0");
    pair.run(3600);
    assert_eq!(pair.fetched(list.blob), 1);
    // It comes into the fleet with the next epoch.
    let next = pair.begin_epoch();
    pair.world.list_in(pair.device, next.blob);
    pair.publish_sealed("3.0.0");
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
}

#[test]
fn a_device_that_can_not_get_the_list_says_which_key_it_needs() {
    // §12.9
    let mut pair = Pair::keeps_nothing();
    pair.run(1);
    let now = pair.world.now().wall.expect("the world has a clock");
    let list = pair.shop.begin_epoch(now);
    pair.publish_sealed("1.0.0");
    pair.run(60);
    assert!(pair.why().contains("needs the key of epoch 1"), "{}", pair.why());
    // Somebody brings it.
    pair.world.list_in(pair.device, list.blob);
    pair.world.import(pair.source, pair.shop.id(), Some((list.blob, list.size)), pair.shop.pack());
    pair.run(600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn a_cache_that_is_in_no_fleet_carries_the_keys_and_the_release() {
    // §7.9
    let mut pair = Pair::keeps_nothing();
    pair.part();
    let cache = pair.add_cache();
    pair.link(pair.source, cache);
    let list = pair.begin_epoch();
    pair.world.list_in(pair.device, list.blob);
    pair.publish_sealed("1.0.0");
    pair.run(30);
    pair.world.cut(pair.source, cache);
    pair.world.link(cache, pair.device, super::DELAY, RATE);
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn a_power_cut_at_any_time_on_the_way_to_the_key_loses_nothing() {
    // §10.3
    for cut in 0..12 {
        let mut pair = Pair::keeps_nothing();
        let list = pair.begin_epoch();
        pair.world.list_in(pair.device, list.blob);
        pair.publish_sealed("1.0.0");
        pair.world.run(std::time::Duration::from_millis(cut * 40));
        pair.restart(pair.device);
        pair.run(60);
        assert_eq!(pair.active().as_deref(), Some("1.0.0"), "cut after {} ms", cut * 40);
    }
}
