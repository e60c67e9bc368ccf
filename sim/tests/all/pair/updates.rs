//! What a device does with a bundle: keep it, or go back.

use burr_protocol::{
    action::Input,
    fact::{Fact, UpdateStep},
    receipt::Outcome,
};

use super::{MIB, Pair, active, called, checked, stable};

#[test]
fn a_bad_bundle_is_reported_and_not_tried_again_until_a_newer_release() {
    // §8.4, §8.8
    let mut pair = Pair::new(stable());
    let good = pair.publish("1.0.0", MIB);
    pair.run(10);
    let bad = pair.sign("2.0.0", MIB);
    pair.world.break_bundle(bad.bundle);
    pair.import(&bad);
    pair.run(3600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.current(), Some(good.bundle));
    let failed = Outcome::Failed { reason: "the payload is not the bundle".to_owned() };
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), ("2.0.0".to_owned(), failed)]);
    let chosen =
        |fact: &Fact| matches!(fact, Fact::Update { version, step: UpdateStep::Chosen, .. } if version == "2.0.0");
    assert_eq!(pair.told(pair.device, chosen), 1);
    let waits = |fact: &Fact| matches!(fact, Fact::Waiting { why, .. } if why.contains("(release 2) is not taken: it failed here"));
    assert_eq!(pair.told(pair.device, waits), 1);
    // Neither does a restart forget it.
    pair.restart(pair.device);
    pair.run(60);
    assert_eq!(pair.told(pair.device, chosen), 1);
    pair.publish("3.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
}

#[test]
fn an_unhealthy_bundle_goes_and_the_old_one_is_back() {
    // §8.6
    let mut pair = Pair::new(checked());
    let good = pair.publish("1.0.0", MIB);
    pair.run(10);
    let bad = pair.sign("2.0.0", MIB);
    pair.world.make_unhealthy(bad.bundle);
    pair.import(&bad);
    pair.run(10);
    assert_eq!(pair.current(), Some(good.bundle));
    let back = Outcome::RolledBack { reason: "the page stays blank".to_owned() };
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), ("2.0.0".to_owned(), back)]);
    assert_eq!(pair.receipts(pair.source)[1].active.as_deref(), Some("1.0.0"));
    // Its slot is cleaned.
    assert_eq!(pair.world.disk(pair.device).slots("shop"), [good.bundle]);
}

#[test]
fn the_first_version_may_be_bad_too() {
    // §8.6
    let mut pair = Pair::new(checked());
    let bad = pair.sign("1.0.0", MIB);
    pair.world.make_unhealthy(bad.bundle);
    pair.import(&bad);
    pair.run(10);
    assert_eq!((pair.active(), pair.current()), (None, None));
    assert!(matches!(pair.outcomes(pair.source)[..], [(_, Outcome::RolledBack { .. })]));
}

#[test]
fn an_app_that_says_it_works_is_kept_and_one_that_stays_silent_is_not() {
    // §8.5
    let mut pair = Pair::new(called(30));
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    assert_eq!((pair.active(), pair.current()), (None, Some(first.bundle)));
    pair.world.give(pair.device, Input::Confirm { app: "shop".to_owned() });
    pair.run(1);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let second = pair.publish("2.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.current(), Some(second.bundle));
    pair.run(30);
    assert_eq!((pair.active().as_deref(), pair.current()), (Some("1.0.0"), Some(first.bundle)));
    let back = Outcome::RolledBack { reason: "not confirmed in time".to_owned() };
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), ("2.0.0".to_owned(), back)]);
    // Too late.
    pair.world.give(pair.device, Input::Confirm { app: "shop".to_owned() });
    pair.run(1);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn a_trial_that_never_ends_because_of_restarts_goes_back() {
    // §8.7
    let mut pair = Pair::new(called(300));
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.world.give(pair.device, Input::Confirm { app: "shop".to_owned() });
    let second = pair.publish("2.0.0", MIB);
    pair.run(10);
    for _ in 0..2 {
        pair.restart(pair.device);
        pair.run(10);
        assert_eq!(pair.current(), Some(second.bundle));
    }
    pair.restart(pair.device);
    pair.run(10);
    assert_eq!((pair.active().as_deref(), pair.current()), (Some("1.0.0"), Some(first.bundle)));
    let outcomes = pair.outcomes(pair.source);
    assert!(matches!(&outcomes[1].1, Outcome::RolledBack { reason } if reason.contains("interrupted 3 times")));
}
