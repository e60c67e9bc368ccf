//! How a bundle arrives: announced, late, over a link that breaks, from whoever has it.

use std::time::Duration;

use burr_protocol::{
    action::{GossipId, Input},
    config::Config,
    fact::Fact,
    trust,
    wire::Announcement,
};

use super::{MIB, Pair, RATE, active, stable};

#[test]
fn an_announcement_reaches_a_connected_follower_and_it_installs() {
    // §6.6, §8.3
    let mut pair = Pair::new(stable());
    pair.run(1);
    let release = pair.publish("1.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.current(), Some(release.bundle));
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0")]);
    assert_eq!(pair.world.received(pair.device), MIB);
    let from = pair.receipts(pair.source).remove(0).sources;
    assert_eq!(from, [(pair.world.id(pair.source), MIB)]);
}

#[test]
fn a_late_joiner_gets_by_sync_what_it_did_not_hear() {
    // §6.3
    let mut pair = Pair::apart(stable());
    pair.publish("1.0.0", MIB);
    let release = pair.publish("2.0.0", MIB);
    pair.run(3600);
    assert_eq!(pair.active(), None);
    pair.meet();
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.current(), Some(release.bundle));
    // Only what it needs came.
    assert_eq!(pair.world.received(pair.device), MIB);
}

#[test]
fn a_fetch_goes_on_where_a_lost_link_left_it() {
    // §7.7
    let mut pair = Pair::new(stable());
    let size = 64 * MIB;
    pair.publish("1.0.0", size);
    for reached in [10, 25, 47] {
        let device = pair.device;
        assert!(pair.world.run_while(Duration::from_secs(120), |world| world.received(device) >= reached * MIB));
        pair.part();
        pair.run(7);
        pair.meet();
    }
    pair.run(120);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let twice = pair.world.received(pair.device) - size;
    assert!(twice * 20 < size, "{twice} bytes came twice");
}

#[test]
fn a_fetch_goes_on_where_a_power_cut_left_it() {
    // §7.7, §10.3
    let mut pair = Pair::new(stable());
    let size = 32 * MIB;
    pair.publish("1.0.0", size);
    for reached in [5, 12, 21] {
        let device = pair.device;
        assert!(pair.world.run_while(Duration::from_secs(120), |world| world.received(device) >= reached * MIB));
        pair.restart(device);
    }
    pair.run(120);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let twice = pair.world.received(pair.device) - size;
    assert!(twice * 20 < size, "{twice} bytes came twice");
}

#[test]
fn two_devices_that_fetch_at_once_give_each_other_pieces() {
    // §7.6: the one that heard first asked the other before that knew of the blob.
    let mut pair = Pair::new(stable());
    let follows = vec![pair.shop.installed(stable())];
    let other = pair.world.add(Config { follows, ..Config::default() });
    pair.world.link(pair.source, other, Duration::from_millis(300), RATE);
    pair.link(pair.device, other);
    pair.run(2);
    pair.publish("1.0.0", 32 * MIB);
    pair.run(120);
    for (node, from) in [(pair.device, other), (other, pair.device)] {
        assert_eq!(pair.world.active(node, "shop").as_deref(), Some("1.0.0"));
        let from = pair.world.id(from);
        let is = |fact: &Fact| matches!(fact, Fact::FetchCompleted { sources, .. } if sources.iter().any(|(source, _)| *source == from));
        assert_eq!(pair.told(node, is), 1);
    }
}

#[test]
fn a_device_that_serves_nothing_claims_nothing_and_still_installs() {
    // §6.4
    let mut pair = Pair::with(stable(), &Config { serve: false, ..Config::default() });
    let other = pair.add_cache();
    pair.link(pair.device, other);
    pair.meet();
    pair.publish("1.0.0", MIB);
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let heard = pair.world.agent(other).unwrap().status().repositories[0].version;
    assert_eq!(heard, None);
}

#[test]
fn a_release_that_its_publisher_had_no_room_to_write_is_told_once_there_is() {
    // §10.5
    let mut pair = Pair::new(stable());
    pair.run(1);
    pair.world.set_full(pair.source, true);
    pair.publish("1.0.0", MIB);
    pair.run(700);
    assert_eq!(pair.active(), None);
    pair.world.set_full(pair.source, false);
    pair.run(310);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
}

#[test]
fn an_announcement_that_overtakes_its_pack_costs_no_wait() {
    // §6.5, §6.6: a relay passes an announcement on at once, and may be asked before it has what is announced.
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(3);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let release = pair.sign("2.0.0", MIB);
    let verified = trust::verify(pair.shop.id(), None, &pair.shop.pack()).expect("the publisher's own");
    let announcement = Announcement {
        repository: pair.shop.id(),
        timestamp: verified.timestamp().to_vec(),
        pack: verified.pack_hash(),
        root: verified.root_version(),
    };
    let node = pair.world.id(pair.source);
    let bytes = announcement.encode();
    pair.world.give(pair.device, Input::Announcement { node, id: GossipId(1 << 40), bytes });
    pair.world.run(Duration::from_millis(100));
    pair.import(&release);
    pair.run(3);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
}
