//! Hooks around a switch: one before it that may stop it, one after it that may undo it.

use std::time::Duration;

use burr_protocol::{
    config::Install,
    fact::{Fact, UpdateStep},
    receipt::Outcome,
};

use super::{MIB, Pair, checked};

fn hooked(before: bool, after: bool) -> Install {
    let limit = |is: bool| is.then_some(Duration::from_secs(60));
    Install { before: limit(before), after: limit(after), ..checked() }
}

#[test]
fn what_hooks_write_is_in_the_receipt() {
    // §8.15
    let mut pair = Pair::new(hooked(true, true));
    pair.publish("1.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.receipts(pair.source)[0].said, "before\nafter");
}

#[test]
fn a_hook_before_the_switch_that_says_no_changes_nothing_and_is_asked_again_a_few_times() {
    let mut pair = Pair::new(hooked(true, false));
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    let second = pair.sign("2.0.0", MIB);
    pair.world.refuse_in_hooks(second.bundle, true);
    pair.import(&second);
    pair.run(8);
    assert_eq!(pair.current(), Some(first.bundle));
    pair.world.refuse_in_hooks(second.bundle, false);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"), "the next try may be better");

    let third = pair.sign("3.0.0", MIB);
    pair.world.refuse_in_hooks(third.bundle, true);
    pair.import(&third);
    pair.run(3600);
    assert_eq!(pair.current(), Some(second.bundle));
    let tried = |fact: &Fact| matches!(fact, Fact::Update { version, step: UpdateStep::Failed { .. }, .. } if version == "3.0.0");
    assert_eq!(pair.told(pair.device, tried), 3);
    let on_trial =
        |fact: &Fact| matches!(fact, Fact::Update { version, step: UpdateStep::OnTrial, .. } if version == "3.0.0");
    assert_eq!(pair.told(pair.device, on_trial), 0);
    let failed = Outcome::Failed { reason: "the hook `before` says no".to_owned() };
    assert_eq!(pair.outcomes(pair.source).last(), Some(&("3.0.0".to_owned(), failed)));
}

#[test]
fn a_hook_after_the_switch_that_says_no_takes_it_back() {
    let mut pair = Pair::new(hooked(false, true));
    let first = pair.publish("1.0.0", MIB);
    pair.run(10);
    let second = pair.sign("2.0.0", MIB);
    pair.world.refuse_in_hooks(second.bundle, true);
    pair.import(&second);
    pair.run(10);
    assert_eq!((pair.active().as_deref(), pair.current()), (Some("1.0.0"), Some(first.bundle)));
    let back = Outcome::RolledBack { reason: "the hook `after` says no".to_owned() };
    assert_eq!(pair.outcomes(pair.source).last(), Some(&("2.0.0".to_owned(), back)));
}

#[test]
fn a_power_cut_at_any_moment_around_the_hooks_leaves_the_old_or_the_new_version() {
    // The installer takes 20 ms a step: every moment from the choice to the end is cut once.
    for milliseconds in (0..400).step_by(7) {
        let mut pair = Pair::new(hooked(true, true));
        let first = pair.publish("1.0.0", 1 << 16);
        pair.run(10);
        let second = pair.publish("2.0.0", 1 << 16);
        pair.world.run(Duration::from_millis(milliseconds));
        pair.restart(pair.device);
        let current = pair.current();
        assert!(current == Some(first.bundle) || current == Some(second.bundle), "{milliseconds}");
        pair.run(60);
        assert_eq!(pair.active().as_deref(), Some("2.0.0"), "{milliseconds}");
        assert_eq!(pair.outcomes(pair.source).len(), 2, "{milliseconds}");
    }
}
