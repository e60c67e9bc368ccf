//! When a device switches to what it has staged.

use burr_protocol::{
    Wall,
    action::Input,
    fact::{Fact, UpdateStep},
    policy::Conditions,
    rules::{Rules, Urgency},
};
use burr_sim::Clock;

use super::{MIB, Pair, stable};

const HOUR: u64 = 3600;

fn urgent(urgency: Urgency) -> Rules {
    Rules { urgency, ..Rules::default() }
}

/// A device on 1.0.0 that is in use.
fn busy() -> Pair {
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.say_busy();
    pair
}

impl Pair {
    fn say_busy(&mut self) {
        self.world
            .give(self.device, Input::Conditions(Conditions { idle: false, utc_offset: 0, ..Conditions::default() }));
    }

    fn publishes(&mut self, rules: Rules, version: &str) {
        let release = self.shop.release_by(rules, version, MIB, self.world.now().wall.expect("the world has a clock"));
        self.import(&release);
        self.run(10);
    }

    fn staged(&self) -> usize {
        self.told(self.device, |fact| matches!(fact, Fact::Update { step: UpdateStep::Staged, .. }))
    }
}

#[test]
fn a_window_is_waited_for_in_local_time_with_everything_ready() {
    // §8.11
    let mut pair = Pair::new(stable());
    // The world begins on 2026-11-01 at 00:00 UTC, a Sunday; the device is two hours ahead.
    pair.world
        .give(pair.device, Input::Conditions(Conditions { idle: true, utc_offset: 2 * 3600, ..Conditions::default() }));
    let windows = vec!["sat,sun 01:00-02:00".parse().expect("a window"), "sun 04:00-05:00".parse().expect("a window")];
    pair.publishes(Rules { windows, ..Rules::default() }, "1.0.0");
    assert_eq!((pair.staged(), pair.active()), (1, None));
    let waits =
        |fact: &Fact| matches!(fact, Fact::Waiting { why, .. } if why.contains("sun 04:00-05:00 in local time"));
    assert_eq!(pair.told(pair.device, waits), 1);
    pair.run(2 * HOUR - 60);
    assert_eq!(pair.active(), None);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.told(pair.device, waits), 1, "it is told once");
}

#[test]
fn a_device_without_a_clock_keeps_no_window_and_says_so() {
    let mut pair = Pair::new(stable());
    pair.world.set_clock(pair.device, Clock::Unset);
    let windows = vec!["00:00-24:00".parse().expect("a window")];
    pair.publishes(Rules { windows, ..Rules::default() }, "1.0.0");
    pair.run(24 * HOUR);
    assert_eq!(pair.active(), None);
    assert_eq!(pair.told(pair.device, |fact| matches!(fact, Fact::Waiting { why, .. } if why.contains("no clock"))), 1);
    pair.world.set_clock(pair.device, Clock::Stopped(Wall(1_800_000_000)));
    pair.run(600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn a_background_release_waits_until_the_device_is_idle_or_starts_again() {
    let mut pair = busy();
    pair.publishes(urgent(Urgency::Background), "2.0.0");
    pair.run(HOUR);
    assert_eq!((pair.staged(), pair.active().as_deref()), (2, Some("1.0.0")));
    pair.world.give(pair.device, Input::Conditions(Conditions::default()));
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));

    let mut pair = busy();
    pair.publishes(urgent(Urgency::Background), "2.0.0");
    pair.part();
    pair.world.crash(pair.device);
    pair.world.start(pair.device);
    pair.say_busy();
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"), "a start is the moment, even if the user is there at once");
}

#[test]
fn a_critical_release_waits_for_nobody_and_a_manual_one_for_a_word() {
    let mut pair = busy();
    let windows = vec!["mon 03:00-04:00".parse().expect("a window")];
    pair.publishes(Rules { windows, ..urgent(Urgency::Critical) }, "2.0.0");
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    pair.publishes(urgent(Urgency::Manual), "3.0.0");
    pair.restart(pair.device);
    pair.run(24 * HOUR);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    pair.world.give(pair.device, Input::Apply { app: "shop".to_owned() });
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
}

#[test]
fn what_is_staged_is_let_go_when_it_is_paused_and_replaced_by_what_is_newer() {
    let mut pair = busy();
    pair.publishes(urgent(Urgency::Background), "2.0.0");
    pair.set_rules(2, &Rules { paused: true, ..urgent(Urgency::Background) });
    pair.run(10);
    pair.world.give(pair.device, Input::Conditions(Conditions::default()));
    pair.run(HOUR);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.say_busy();
    pair.set_rules(2, &urgent(Urgency::Background));
    pair.run(10);
    pair.publishes(urgent(Urgency::Background), "3.0.0");
    pair.world.give(pair.device, Input::Conditions(Conditions::default()));
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
    let never =
        |fact: &Fact| matches!(fact, Fact::Update { version, step: UpdateStep::Active, .. } if version == "2.0.0");
    assert_eq!(pair.told(pair.device, never), 0);
}

#[test]
fn other_rules_bring_the_moment_for_what_is_staged() {
    let mut pair = busy();
    pair.publishes(urgent(Urgency::Manual), "2.0.0");
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    pair.set_rules(2, &urgent(Urgency::Critical));
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.staged(), 2, "it was not staged again");
}
