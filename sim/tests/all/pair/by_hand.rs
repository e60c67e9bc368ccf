//! What someone at the device may do: put a release off, go back, try again.

use std::time::Duration;

use burr_protocol::{
    action::{Input, Ticket, Wish},
    config::Install,
    fact::{Fact, UpdateStep},
    receipt::Outcome,
    rules::{Rules, Urgency},
};
use burr_sim::Clock;

use super::{MIB, Pair, checked, stable};

const HOUR: u64 = 3600;

impl Pair {
    fn wish(&mut self, wish: Wish) {
        self.world.give(self.device, Input::Wished { ticket: Ticket(1), app: "shop".to_owned(), wish });
        self.run(10);
    }

    fn defer(&mut self, hours: u64) {
        self.wish(Wish::Defer(Duration::from_secs(hours * HOUR)));
    }

    fn releases(&mut self, rules: Rules, version: &str) {
        let release =
            self.shop.release_by(rules, version, 4 * MIB, self.world.now().wall.expect("the world has a clock"));
        self.import(&release);
        self.run(2);
    }

    fn words(&self) -> String {
        let status = self.world.agent(self.device).expect("the device is on").status();
        status.apps[0].why.clone().unwrap_or_default()
    }

    fn on(&self, version: &str) {
        assert_eq!(self.active().as_deref(), Some(version), "{}", self.words());
    }
}

#[test]
fn a_release_that_was_put_off_is_fetched_and_waits_and_a_restart_does_not_forget_it() {
    // §8.13
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.releases(Rules::default(), "2.0.0");
    pair.defer(2);
    pair.run(HOUR);
    pair.on("1.0.0");
    assert_eq!(pair.told(pair.device, |fact| matches!(fact, Fact::Update { step: UpdateStep::Staged, .. })), 2);
    assert!(
        pair.words().contains("2.0.0 is staged; someone at this device put it off until 2026-11-01T02:0"),
        "{}",
        pair.words()
    );
    pair.restart(pair.device);
    pair.run(HOUR / 2);
    pair.on("1.0.0");
    pair.run(HOUR);
    pair.on("2.0.0");
}

#[test]
fn the_device_and_the_release_say_for_how_long_in_all() {
    let mut pair = Pair::new(Install { defer: Duration::from_secs(5 * HOUR), ..stable() });
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.releases(Rules { defer: Some(3 * HOUR), ..Rules::default() }, "2.0.0");
    pair.defer(4);
    pair.run(60);
    pair.on("2.0.0");
    pair.releases(Rules { defer: Some(3 * HOUR), ..Rules::default() }, "3.0.0");
    pair.defer(2);
    pair.run(HOUR);
    // Two of three hours are left, not three.
    pair.defer(3);
    pair.defer(1);
    pair.run(HOUR / 2);
    pair.on("2.0.0");
    pair.run(HOUR);
    pair.on("3.0.0");
}

#[test]
fn what_is_critical_waits_for_nobody_and_what_has_no_clock_can_wait_for_nothing() {
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.releases(Rules { urgency: Urgency::Critical, ..Rules::default() }, "2.0.0");
    pair.defer(2);
    pair.on("2.0.0");
    pair.world.set_clock(pair.device, Clock::Unset);
    pair.releases(Rules::default(), "3.0.0");
    pair.defer(2);
    pair.on("3.0.0");
}

#[test]
fn someone_goes_back_and_it_stays_so_until_they_say_otherwise() {
    // §8.14
    let mut pair = Pair::new(checked());
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.publish("2.0.0", MIB);
    pair.run(10);
    pair.on("2.0.0");
    pair.wish(Wish::RollBack);
    pair.on("1.0.0");
    assert_eq!(pair.current(), Some(first.bundle));
    let back = Outcome::RolledBack { reason: "taken back by hand".to_owned() };
    assert_eq!(pair.outcomes(pair.source).last(), Some(&("2.0.0".to_owned(), back)));
    assert!(pair.words().contains("stays so until `burr retry`"), "{}", pair.words());
    pair.publish("3.0.0", MIB);
    pair.restart(pair.device);
    pair.run(HOUR);
    pair.on("1.0.0");
    pair.wish(Wish::Retry);
    pair.on("3.0.0");
}

#[test]
fn a_trial_is_ended_by_hand_and_what_failed_is_tried_again_by_hand() {
    let mut pair = Pair::new(super::called(300));
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.world.give(pair.device, Input::Confirm { app: "shop".to_owned() });
    pair.run(1);
    let second = pair.publish("2.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.current(), Some(second.bundle));
    pair.wish(Wish::RollBack);
    pair.on("1.0.0");
    pair.run(600);
    pair.on("1.0.0");
    pair.wish(Wish::Retry);
    assert_eq!(pair.current(), Some(second.bundle));
    pair.world.give(pair.device, Input::Confirm { app: "shop".to_owned() });
    pair.run(1);
    pair.on("2.0.0");
}

#[test]
fn the_first_version_of_all_stays_as_the_last_resort() {
    // §8.9, §8.10
    let mut pair = Pair::new(Install { keep: 0, ..stable() });
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    let mut last = first.clone();
    for version in ["2.0.0", "3.0.0", "4.0.0"] {
        last = pair.publish(version, MIB);
        pair.run(10);
        pair.on(version);
    }
    let mut kept = vec![first.bundle, last.bundle];
    kept.sort_unstable();
    assert_eq!(pair.world.disk(pair.device).slots("shop"), kept);
    pair.wish(Wish::RollBack);
    pair.on("1.0.0");
    // There is nothing before it.
    pair.wish(Wish::RollBack);
    pair.on("1.0.0");
    assert_eq!(pair.current(), Some(first.bundle));
}
