//! Power cuts at the worst moments: between a write that was asked for and a durable one, and between a durable one
//! and the news of it.

use std::time::Duration;

use burr_protocol::{record::Record, release::Release};
use burr_sim::{NodeIndex, Write};

use super::{MIB, Pair, active, checked};

type Kind = fn(&Record) -> bool;

const METADATA: Kind = |record| matches!(record, Record::Metadata { .. });
const TRIAL: Kind = |record| matches!(record, Record::App { state, .. } if state.trial.is_some());
const BACK: Kind = |record| matches!(record, Record::App { state, .. } if state.trial.as_ref().is_some_and(|trial| trial.back.is_some()));
const RECEIPT: Kind = |record| matches!(record, Record::Receipt { .. });

/// Cuts a node's power when a write of this kind is this far.
fn crash_at(pair: &mut Pair, node: NodeIndex, kind: Kind, far: Write) {
    let there = pair.world.run_while(Duration::from_secs(60), |world| {
        world.writes(node).any(|(write, records)| write == far && records.iter().any(kind))
    });
    assert!(there, "such a write comes to be");
    pair.world.crash(node);
}

/// `current` is one of these, and it is there as a whole.
fn assert_whole(pair: &Pair, releases: &[&Release]) {
    let current = pair.current().expect("something is current");
    assert!(releases.iter().any(|release| release.bundle == current));
    assert!(pair.world.disk(pair.device).slots("shop").contains(&current));
}

#[test]
fn a_device_converges_whatever_write_a_power_cut_meets() {
    // §10.1, §10.3
    for kind in [METADATA, TRIAL, RECEIPT] {
        for far in [Write::Asked, Write::Durable] {
            let mut pair = Pair::new(checked());
            let first = pair.publish("1.0.0", MIB);
            pair.run(10);
            let second = pair.publish("2.0.0", MIB);
            let device = pair.device;
            crash_at(&mut pair, device, kind, far);
            assert_whole(&pair, &[&first, &second]);
            pair.run(5);
            pair.world.start(device);
            pair.run(30);
            assert_eq!((pair.active().as_deref(), pair.current()), (Some("2.0.0"), Some(second.bundle)));
            assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), active("2.0.0")]);
            assert_eq!(pair.receipts(device), pair.receipts(pair.source));
        }
    }
}

#[test]
fn a_roll_back_ends_whatever_write_a_power_cut_meets() {
    // §8.6, §10.3
    for kind in [TRIAL, BACK, RECEIPT] {
        for far in [Write::Asked, Write::Durable] {
            let mut pair = Pair::new(checked());
            let first = pair.publish("1.0.0", MIB);
            pair.run(10);
            let second = pair.sign("2.0.0", MIB);
            pair.world.make_unhealthy(second.bundle);
            pair.import(&second);
            let device = pair.device;
            crash_at(&mut pair, device, kind, far);
            assert_whole(&pair, &[&first, &second]);
            pair.world.start(device);
            pair.run(30);
            assert_eq!((pair.active().as_deref(), pair.current()), (Some("1.0.0"), Some(first.bundle)));
            let outcomes = pair.outcomes(pair.source);
            assert_eq!(outcomes.len(), 2, "{outcomes:?}");
            assert_eq!(outcomes[1].0, "2.0.0");
        }
    }
}

#[test]
fn an_acknowledged_receipt_survives_the_crash_of_the_acknowledger() {
    // §9.4
    for far in [Write::Asked, Write::Durable] {
        let mut pair = Pair::new(checked());
        pair.publish("1.0.0", MIB);
        let source = pair.source;
        crash_at(&mut pair, source, RECEIPT, far);
        pair.run(1);
        pair.world.start(source);
        if far == Write::Durable {
            // Nothing is owed to the sender for it any more.
            assert_eq!(pair.outcomes(source), [active("1.0.0")]);
        }
        pair.run(10);
        assert_eq!(pair.outcomes(source), [active("1.0.0")]);
        pair.restart(source);
        assert_eq!(pair.outcomes(source), [active("1.0.0")]);
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_on_disk() {
    // §10.1: a source that loses every write of a receipt never acknowledges it, so the device sends it again.
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    let source = pair.source;
    for _ in 0..5 {
        crash_at(&mut pair, source, RECEIPT, Write::Asked);
        pair.world.start(source);
        assert_eq!(pair.outcomes(source), []);
    }
    pair.run(10);
    assert_eq!(pair.outcomes(source), [active("1.0.0")]);
}

#[test]
fn a_lost_database_costs_no_receipt_number_and_no_metadata() {
    // §9.5, §10.4
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    pair.run(10);
    pair.world.crash(pair.device);
    pair.world.lose_records(pair.device);
    pair.world.start(pair.device);
    assert_eq!(pair.believed(), Some(2));
    pair.run(10);
    pair.publish("2.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    // What it installed anew is reported under a new number.
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), active("1.0.0"), active("2.0.0")]);
}
