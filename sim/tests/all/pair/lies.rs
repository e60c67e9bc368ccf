//! What liars can't do: be believed, stay, or hide what others hold.

use burr_protocol::{
    Hash,
    action::{GossipId, Input},
    fact::Fact,
    peers::Lie,
    trust::pack::Pack,
    wire::Announcement,
};
use burr_sim::{Answers, Lies, NodeIndex, Publisher, story::EPOCH};

use super::{MIB, Pair, active, stable};

/// A pair whose device has version 1 and knows one more node, that tells the device what a story makes it tell.
fn with_liar() -> (Pair, NodeIndex) {
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    let liar = pair.add_cache();
    pair.link(pair.device, liar);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    (pair, liar)
}

fn announce(pair: &mut Pair, from: NodeIndex, timestamp: &[u8], root: u64) {
    let announcement =
        Announcement { repository: pair.shop.id(), timestamp: timestamp.to_vec(), pack: Hash::of(b"pack"), root };
    let node = pair.world.id(from);
    let bytes = announcement.encode();
    pair.world.give(pair.device, Input::Announcement { node, id: GossipId(1 << 40), bytes });
}

#[test]
fn forged_packs_are_refused_and_their_sender_is_named() {
    // §5.8, §6.7
    let (mut pair, _) = with_liar();
    pair.sign("2.0.0", MIB);
    // Newer than what is held: what is not is turned away before it is read.
    let real = pair.shop.pack();
    let stranger = Publisher::new("shop", "mallory", EPOCH).pack();
    let half = real[..real.len() / 2].to_vec();
    let altered = |at: usize| {
        let mut altered = real.clone();
        altered[at] ^= 1;
        altered
    };
    let forgeries = [stranger, half, Vec::new(), altered(20), altered(real.len() / 2), altered(real.len() - 1)];
    for forgery in forgeries {
        let (mut pair, liar) = with_liar();
        let before = pair.world.disk(pair.device).records();
        pair.answer(liar, forgery);
        pair.run(60);
        assert_eq!(pair.refused(), [(pair.world.id(liar), Lie::ForgedMetadata)]);
        assert_eq!(pair.world.disk(pair.device).records(), before);
        // The honest one still brings news.
        pair.publish("2.0.0", MIB);
        pair.run(10);
        assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    }
}

#[test]
fn forged_announcements_are_refused_and_their_sender_is_named() {
    // §5.7, §6.7
    let (mut pair, liar) = with_liar();
    let before = pair.world.disk(pair.device).records();
    let stranger = Publisher::new("shop", "mallory", EPOCH).pack();
    let timestamp = Pack::decode(&stranger).unwrap().timestamp.to_vec();
    announce(&mut pair, liar, &timestamp, 1);
    pair.run(60);
    assert_eq!(pair.refused(), [(pair.world.id(liar), Lie::ForgedMetadata)]);
    assert_eq!(pair.world.disk(pair.device).records(), before);
}

#[test]
fn old_metadata_is_no_lie_and_changes_nothing() {
    // §5.8
    let (mut pair, other) = with_liar();
    let old = pair.shop.pack();
    pair.publish("2.0.0", MIB);
    pair.run(10);
    let before = pair.world.disk(pair.device).records();
    pair.answer(other, old.clone());
    announce(&mut pair, other, Pack::decode(&old).unwrap().timestamp, 1);
    pair.run(60);
    assert_eq!(pair.refused(), []);
    assert_eq!(pair.world.disk(pair.device).records(), before);
    assert_eq!((pair.active().as_deref(), pair.believed()), (Some("2.0.0"), Some(3)));
}

#[test]
fn a_pack_that_nobody_asked_for_is_dropped() {
    // §6.5
    let (mut pair, other) = with_liar();
    let repository = pair.shop.id();
    pair.say(other, &burr_protocol::wire::Message::Pack { repository, bytes: b"unasked".to_vec() });
    pair.run(1);
    assert_eq!(pair.refused(), []);
}

#[test]
fn garbage_is_refused() {
    // §6.2
    for garbage in [&b"\xff\xff"[..], b"", &[0; 64]] {
        let (mut pair, liar) = with_liar();
        let node = pair.world.id(liar);
        pair.world.give(pair.device, Input::Message { node, bytes: garbage.to_vec() });
        pair.run(1);
        assert_eq!(pair.refused(), [(node, Lie::Garbage)]);
    }
}

#[test]
fn a_refused_node_is_not_dealt_with_again() {
    // §6.7
    let (mut pair, liar) = with_liar();
    let node = pair.world.id(liar);
    pair.world.give(pair.device, Input::Message { node, bytes: vec![0xff] });
    pair.run(1);
    pair.link(pair.device, liar);
    pair.run(60);
    let status = pair.world.agent(pair.device).unwrap().status();
    assert!(status.peers.iter().all(|peer| peer.node != node));
    let connected = |fact: &Fact| matches!(fact, Fact::PeerConnected { node: n } if *n == node);
    assert_eq!(pair.told(pair.device, connected), 1);
}

#[test]
fn altered_bytes_are_refused_and_named_and_the_payload_comes_from_an_honest_node() {
    // §7.5
    let mut pair = Pair::new(stable());
    let honest = pair.add_cache();
    pair.link(pair.source, honest);
    pair.publish("1.0.0", 4 * MIB);
    // The honest node has it from a time when the source did not lie yet.
    let there = |world: &burr_sim::World| world.received(honest) >= 4 * MIB;
    pair.part();
    assert!(pair.world.run_while(std::time::Duration::from_secs(60), there));
    pair.world.lie(pair.source, Lies { answers: Answers::Altered, ..Lies::default() });
    pair.link(pair.device, honest);
    pair.meet();
    pair.run(60);
    assert_eq!(pair.refused(), [(pair.world.id(pair.source), Lie::AlteredBytes)]);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let from = pair.receipts(honest).remove(0).sources;
    assert_eq!(from, [(pair.world.id(honest), 4 * MIB)]);
}

#[test]
fn one_that_claims_much_and_answers_nothing_hides_no_news() {
    // §6.5
    let (mut pair, liar) = with_liar();
    pair.part();
    let silent = pair.add_cache();
    pair.link(pair.device, silent);
    pair.world.cut(pair.device, liar);
    pair.run(5);
    pair.publish("2.0.0", MIB);
    pair.boast(silent);
    pair.meet();
    pair.run(30);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    // Nor does it when it claims again and again.
    for _ in 0..20 {
        pair.boast(silent);
        pair.run(1);
    }
    pair.part();
    pair.publish("3.0.0", MIB);
    pair.meet();
    pair.boast(silent);
    pair.run(15);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
    assert_eq!(pair.refused(), []);
}

#[test]
fn one_that_claims_much_and_answers_with_old_metadata_hides_no_news() {
    // §6.5
    let (mut pair, other) = with_liar();
    let old = pair.shop.pack();
    pair.part();
    pair.publish("2.0.0", MIB);
    pair.answer(other, old);
    pair.meet();
    pair.boast(other);
    pair.run(20);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.refused(), []);
    assert_eq!(pair.outcomes(pair.source), [active("1.0.0"), active("2.0.0")]);
}

#[test]
fn one_that_claims_pieces_it_does_not_have_is_left_alone() {
    // §7.5
    let mut pair = Pair::new(stable());
    let liar = pair.add_cache();
    pair.link(pair.device, liar);
    pair.run(1);
    let release = pair.publish("1.0.0", 8 * MIB);
    for _ in 0..100 {
        pair.world.run(std::time::Duration::from_millis(50));
        pair.claim_blob(liar, &release);
    }
    pair.run(20);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.world.received(pair.device), 8 * MIB);
}
