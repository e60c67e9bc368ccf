//! Releases by rule: who takes what, and what happens when the rules change.

use burr_protocol::{
    config::{Config, Install},
    fact::{Fact, UpdateStep},
    rules::{EVERYONE, Rules, Within, drawn_at},
};
use burr_sim::Clock;

use super::{MIB, Pair, active, stable};

/// Rules that roll a release out to this share, in hundredths of a percent.
fn share(rollout: u16) -> Rules {
    Rules { rollout, ..Rules::default() }
}

impl Pair {
    fn publish_by(&mut self, rules: Rules, version: &str, size: u64) {
        let now = self.world.now().wall.expect("the world has a clock");
        let release = self.shop.release_by(rules, version, size, now);
        self.import(&release);
    }

    fn waits_for(&self, words: &str) -> usize {
        self.told(self.device, |fact| matches!(fact, Fact::Waiting { why, .. } if why.contains(words)))
    }
}

#[test]
fn a_growing_rollout_reaches_a_device_at_its_own_place() {
    // §4.11, §8.2
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    let place = drawn_at(pair.shop.id(), "stable", 2, pair.world.id(pair.device));
    assert!((1..=EVERYONE).contains(&place));
    pair.publish_by(share(place - 1), "2.0.0", MIB);
    pair.run(3600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.waits_for("this device takes part from"), 1);
    pair.set_rules(2, &share(place));
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    // Whoever has it keeps it.
    pair.set_rules(2, &share(0));
    pair.run(3600);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
}

#[test]
fn who_may_not_have_the_newest_takes_the_one_before_it() {
    let mut pair = Pair::apart(stable());
    pair.publish("1.0.0", MIB);
    pair.publish("2.0.0", MIB);
    pair.publish_by(share(0), "3.0.0", MIB);
    pair.publish_by(Rules { yanked: Some("it eats the battery".to_owned()), ..Rules::default() }, "4.0.0", MIB);
    pair.meet();
    pair.run(20);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.waits_for("4.0.0 (release 4) is not taken: its publisher took it back: it eats the battery"), 1);
}

#[test]
fn a_pause_lets_go_of_what_is_being_fetched_and_its_end_takes_it_up_again() {
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.publish("2.0.0", 60 * MIB);
    pair.run(20);
    pair.set_rules(2, &Rules { paused: true, ..Rules::default() });
    pair.run(200);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let withdrawn = |fact: &Fact| matches!(fact, Fact::Update { step: UpdateStep::Withdrawn, .. });
    assert_eq!(pair.told(pair.device, withdrawn), 1);
    pair.set_rules(2, &Rules::default());
    pair.run(70);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), active("2.0.0")], "a pause is no failure");
}

#[test]
fn an_earlier_version_comes_back_under_a_new_number_without_being_fetched_again() {
    let mut pair = Pair::new(stable());
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.publish("2.0.0", MIB);
    pair.run(10);
    let fetched = |fact: &Fact| matches!(fact, Fact::FetchCompleted { .. });
    assert_eq!(pair.told(pair.device, fetched), 2);
    let now = pair.world.now().wall.expect("the world has a clock");
    let back = pair.shop.bring_back(1, now);
    assert_eq!((back.bundle, back.seq), (first.bundle, 3));
    pair.import(&back);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.current(), Some(first.bundle));
    assert_eq!(pair.told(pair.device, fetched), 2);
}

#[test]
fn rules_speak_of_the_device_its_version_and_the_time() {
    let day = 24 * 3600;
    let attributes = [("site", "depot-7"), ("platform", "android"), ("native", "2.8.0")];
    let config = Config {
        attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Config::default()
    };
    let takes = |install: Install, rules: &dyn Fn(burr_protocol::Wall) -> Rules| {
        let mut pair = Pair::with(install, &config);
        pair.meet();
        pair.publish("1.2.3", MIB);
        pair.run(10);
        let now = pair.world.now().wall.expect("the world has a clock");
        pair.publish_by(rules(now), "1.3.0", MIB);
        pair.run(400);
        pair.active().as_deref() == Some("1.3.0")
    };
    let takes = |rules: &dyn Fn(burr_protocol::Wall) -> Rules| takes(stable(), rules);
    let some = |text: &str| Some(text.to_owned());
    let for_site = |text: &str| Rules { audience: Some(text.parse().expect("an expression")), ..Rules::default() };
    assert!(takes(&|_| for_site(r#"site = "depot-7" and model != "b""#)));
    assert!(!takes(&|_| for_site(r#"site in ["depot-1", "depot-2"]"#)));
    assert!(takes(&|_| Rules { platforms: vec!["ios".to_owned(), "android".to_owned()], ..Rules::default() }));
    assert!(!takes(&|_| Rules { platforms: vec!["ios".to_owned()], ..Rules::default() }));
    assert!(takes(&|_| Rules { min_native: some("2.8"), ..Rules::default() }));
    assert!(!takes(&|_| Rules { min_native: some("2.10"), ..Rules::default() }));
    assert!(takes(&|_| Rules { from: some(">=1.2, <2"), via: some("1.2.0"), ..Rules::default() }));
    assert!(!takes(&|_| Rules { from: some("<1.2"), ..Rules::default() }));
    assert!(!takes(&|_| Rules { not_from: some("=1.2.3"), ..Rules::default() }));
    assert!(!takes(&|_| Rules { via: some("1.2.4"), ..Rules::default() }));
    let within = |within| Rules { within: Some(within), ..Rules::default() };
    assert!(takes(&|_| within(Within::Major)));
    assert!(!takes(&|_| within(Within::Minor)));
    assert!(!takes(&|now| Rules { not_before: Some(burr_protocol::Wall(now.0 + day)), ..Rules::default() }));
    assert!(takes(&|now| Rules { not_before: Some(burr_protocol::Wall(now.0 + 60)), ..Rules::default() }));
    assert!(!takes(&|now| Rules { not_after: Some(burr_protocol::Wall(now.0 - 1)), ..Rules::default() }));
}

#[test]
fn a_device_goes_over_each_stepping_stone_on_its_way_to_the_newest() {
    // §4.11: 3.0.0 must follow 2.1 or later, which must follow 1.5 or later.
    let via = |least: &str| Rules { via: Some(least.to_owned()), ..Rules::default() };
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.part();
    for (version, rules) in [("1.5.0", Rules::default()), ("2.1.0", via("1.5")), ("3.0.0", via("2.1"))] {
        pair.publish_by(rules, version, MIB);
    }
    pair.meet();
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
    assert_eq!(pair.outcomes(pair.source), ["1.0.0", "1.5.0", "2.1.0", "3.0.0"].map(active));
    // One that never was on the stone stays before it.
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.publish_by(via("2.1"), "3.0.0", MIB);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.waits_for("3.0.0"), 1);
}

#[test]
fn a_device_never_jumps_farther_than_the_release_says() {
    // §4.11, from a pre-release of 1.2.3 to each version that is newer, within each bound.
    let takes = |within: Within, version: &str| {
        let mut pair = Pair::new(stable());
        pair.publish("1.2.3-rc.1", MIB);
        pair.run(10);
        pair.publish_by(Rules { within: Some(within), ..Rules::default() }, version, MIB);
        pair.run(20);
        pair.active().as_deref() == Some(version)
    };
    let versions = ["1.2.3", "1.2.4", "1.3.0", "2.0.0"];
    let table = [
        (Within::Patch, [true, false, false, false]),
        (Within::Minor, [true, true, false, false]),
        (Within::Major, [true, true, true, false]),
    ];
    for (within, may) in table {
        assert_eq!(versions.map(|version| takes(within, version)), may, "{within:?}");
    }
}

#[test]
fn a_pinned_device_takes_its_version_alone() {
    let mut pair = Pair::apart(Install { pin: Some("1.1.0".to_owned()), ..stable() });
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        pair.publish(version, MIB);
    }
    pair.meet();
    pair.run(20);
    assert_eq!(pair.active().as_deref(), Some("1.1.0"));
    assert_eq!(pair.waits_for("this device is pinned to 1.1.0"), 1);
}

#[test]
fn a_release_that_starts_later_waits_for_a_signed_time_on_a_device_without_a_clock() {
    // §8.2: trusted time is the newest signed time where there is no clock.
    let mut pair = Pair::new(stable());
    pair.world.set_clock(pair.device, Clock::Unset);
    pair.publish("1.0.0", MIB);
    pair.run(10);
    let start = burr_protocol::Wall(pair.world.now().wall.expect("the world has a clock").0 + 1000);
    pair.publish_by(Rules { not_before: Some(start), ..Rules::default() }, "2.0.0", MIB);
    pair.run(3600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.publish("2.0.1", MIB);
    pair.run(20);
    assert_eq!(pair.active().as_deref(), Some("2.0.1"));
}
