//! Receipts on their way to whoever collects them.

use burr_protocol::{
    action::Input,
    config::Config,
    peers::{Address, Lie},
    receipt::{Outcome, SignedReceipt},
    rules::Rules,
    wire::Message,
};

use burr_sim::NodeIndex;

use super::{MIB, Pair, active, checked, stable};

#[test]
fn receipts_of_two_devices_reach_a_collector_through_a_carrier() {
    // §9.3, §9.4
    let mut pair = Pair::apart(checked());
    let other = pair.world.add(Config { follows: vec![pair.shop.installed(checked())], ..Config::default() });
    let carrier = pair.add_cache();
    pair.link(pair.source, carrier);
    pair.publish("1.0.0", MIB);
    pair.run(10);
    // The carrier drives to the devices.
    pair.world.cut(pair.source, carrier);
    pair.link(carrier, pair.device);
    pair.link(carrier, other);
    pair.run(20);
    assert_eq!(pair.receipts(pair.source), []);
    assert_eq!(pair.receipts(carrier).len(), 2);
    // And back, after a night in the garage.
    pair.world.cut(carrier, pair.device);
    pair.world.cut(carrier, other);
    pair.restart(carrier);
    pair.world.mend(pair.source, carrier);
    pair.run(10);
    let receipts = pair.receipts(pair.source);
    assert_eq!(receipts, pair.receipts(carrier));
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), active("1.0.0")]);
    let mut devices: Vec<_> = receipts.iter().map(|receipt| receipt.device).collect();
    devices.dedup();
    assert_eq!(devices.len(), 2);
}

impl Pair {
    /// A depot with the device's receipt and a courier beside it. The collector that the depot is configured to know has it
    /// too, left, and is not about to be back.
    fn whose_collector_left() -> (Self, [NodeIndex; 2]) {
        let mut pair = Self::apart(checked());
        let (depot, courier) = (pair.add_cache(), pair.add_cache());
        let configured = Address(format!("node {}", pair.source));
        pair.world.give(depot, Input::Found { address: configured, node: None, fixed: true });
        pair.link(pair.source, depot);
        pair.publish("1.0.0", MIB);
        pair.link(depot, pair.device);
        pair.run(20);
        assert_eq!(pair.receipts(pair.source).len(), 1);
        pair.world.cut(pair.source, depot);
        pair.run(Config::default().sync_interval.as_secs() + 10);
        pair.link(depot, courier);
        pair.run(10);
        (pair, [depot, courier])
    }
}

#[test]
fn what_is_carried_no_further_is_told_once_it_may_halt_a_release() {
    // §9.3, §9.8
    let (mut pair, [depot, courier]) = Pair::whose_collector_left();
    assert_eq!(pair.receipts(courier), []);
    let rules = Rules { halt: Some("1/50%/1".parse().expect("a threshold")), ..Rules::default() };
    pair.shop.set_rules(1, &rules, pair.world.now().wall.expect("the world has a clock"));
    pair.world.import(depot, pair.shop.id(), None, pair.shop.pack());
    pair.run(Config::default().sync_interval.as_secs() + 10);
    assert_eq!(pair.receipts(courier), pair.receipts(depot));
}

#[test]
fn what_a_configured_collector_has_is_carried_no_further() {
    // §9.3
    let (mut pair, [depot, courier]) = Pair::whose_collector_left();
    let other = pair.world.add(Config { follows: vec![pair.shop.installed(checked())], ..Config::default() });
    pair.run(Config::default().sync_interval.as_secs() + 10);
    assert_eq!(pair.receipts(courier), [], "the collector has it");
    // What came since is carried, and what the collector has is sent to another one of those.
    pair.link(depot, other);
    pair.run(20);
    let second = pair.receipts(courier);
    assert_eq!(second.iter().map(|receipt| receipt.device).collect::<Vec<_>>(), [pair.world.id(other)]);
    let follows = vec![pair.shop.cached()];
    let collector = pair.world.add(Config { follows, collect: true, ..Config::default() });
    pair.link(depot, collector);
    pair.run(20);
    assert_eq!(pair.receipts(collector), pair.receipts(depot));
    assert_eq!(pair.receipts(collector).len(), 2);
    // Who starts again does not know what others have.
    pair.world.cut(depot, collector);
    pair.restart(depot);
    pair.run(20);
    assert_eq!(pair.receipts(courier).len(), 2);
}

#[test]
fn a_collector_that_said_that_it_holds_the_same_has_all_of_it() {
    // §6.3, §9.3
    let (mut pair, [depot, _]) = Pair::whose_collector_left();
    let interval = Config::default().sync_interval.as_secs();
    // Of more devices than are named on contact.
    for _ in 0..9 {
        let other = pair.world.add(Config { follows: vec![pair.shop.installed(checked())], ..Config::default() });
        pair.link(depot, other);
    }
    pair.run(60);
    // It comes for those, and comes again: both have the same by then.
    for _ in 0..2 {
        pair.world.mend(pair.source, depot);
        pair.run(20);
        pair.world.cut(pair.source, depot);
        pair.run(interval + 10);
    }
    assert_eq!(pair.receipts(pair.source).len(), 10);
    let late = pair.add_cache();
    pair.link(depot, late);
    pair.run(interval + 10);
    assert_eq!(pair.receipts(late), []);
}

#[test]
fn a_receipt_that_its_device_did_not_sign_is_a_lie() {
    // §9.2
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    let liar = pair.add_cache();
    pair.link(pair.device, liar);
    pair.run(10);
    let before = pair.receipts(pair.device);
    let honest = pair.world.agent(pair.device).unwrap().receipts().iter().next().cloned().unwrap();
    let mut claim = honest.verify().unwrap();
    claim.counter = 2;
    claim.outcome = Outcome::Failed { reason: "mallory says so".to_owned() };
    let stolen = SignedReceipt::of(postcard::to_stdvec(&claim).unwrap(), honest.signature());
    pair.say(liar, &Message::Receipts(vec![stolen]));
    pair.run(10);
    assert_eq!(pair.refused(), [(pair.world.id(liar), Lie::ForgedReceipt)]);
    assert_eq!(pair.receipts(pair.device), before);
}
