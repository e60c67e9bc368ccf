//! One agent and a peer that says too much, or that is heard while the disk fails. Rule numbers are those of `protocol/README.md`.

use std::collections::BTreeMap;

use burr_protocol::{
    Agent, Hash, NodeId, Now, RepositoryId, Time, Wall,
    action::{Action, Input, Token},
    config::Config,
    receipt::{Outcome, Receipt, SignedReceipt},
    record::Record,
    wire::{Digest, Mark, Message},
};
use burr_sim::{Publisher, story::EPOCH};
use ed25519_dalek::SigningKey;

const STRANGER: NodeId = NodeId([7; 32]);

struct Flooded {
    agent: Agent,
    now: Now,
}

impl Flooded {
    /// An agent that holds a shop's metadata, and a stranger that says it follows it.
    fn new(shop: &Publisher) -> Self {
        let config = Config { follows: vec![shop.cached()], ..Config::default() };
        let now = Now { time: Time(0), wall: Some(EPOCH) };
        let (agent, facts) = Agent::new(SigningKey::from_bytes(&[1; 32]), config, Vec::new(), BTreeMap::new(), now);
        assert!(facts.is_empty());
        let mut flooded = Self { agent, now };
        let persists = flooded.give(Input::Import { repository: shop.id(), pack: shop.pack() });
        for action in persists {
            if let Action::Persist { token, .. } = action {
                flooded.give(Input::Stored(token));
            }
        }
        flooded.give(Input::Connected { node: STRANGER, address: None, near: false });
        flooded.say(&Message::Digest(Digest { follows: vec![shop.id()], ..Digest::default() }));
        flooded
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.agent.handle(self.now, input, &mut actions);
        actions
    }

    fn say(&mut self, message: &Message) -> Vec<Action> {
        self.give(Input::Message { node: STRANGER, bytes: message.encode() })
    }

    /// Says receipts and returns the token of their persist.
    fn say_receipts(&mut self, receipts: &[SignedReceipt]) -> Token {
        let actions = self.say(&Message::Receipts(receipts.to_vec()));
        let token = |action: &Action| match action {
            Action::Persist { token, .. } => Some(*token),
            _ => None,
        };
        actions.iter().find_map(token).unwrap()
    }

    /// The next digest that the peer hears.
    fn next_digest(&mut self) -> Digest {
        self.now.time = self.now.time + Config::default().sync_interval;
        let digest = |message| if let Message::Digest(digest) = message { Some(digest) } else { None };
        sent(&self.give(Input::Wake)).into_iter().find_map(digest).unwrap()
    }
}

/// The messages among the actions.
fn sent(actions: &[Action]) -> Vec<Message> {
    let message = |action: &Action| match action {
        Action::Send { bytes, .. } => Some(Message::decode(bytes).unwrap()),
        _ => None,
    };
    actions.iter().filter_map(message).collect()
}

fn receipt(repository: RepositoryId, device: u64, counter: u64) -> SignedReceipt {
    let key = SigningKey::from_bytes(&Hash::of(&device.to_le_bytes()).0);
    let receipt = Receipt {
        repository,
        device: NodeId(key.verifying_key().to_bytes()),
        counter,
        app: "shop".to_owned(),
        channel: "stable".to_owned(),
        version: "1.0.0".to_owned(),
        seq: 1,
        bundle: Hash([1; 32]),
        active: None,
        outcome: Outcome::Active,
        sources: Vec::new(),
        took_ms: 0,
        said: String::new(),
        at: None,
        issued: Wall(0),
        via: None,
        attributes: None,
        member: None,
    };
    SignedReceipt::sign(&receipt, &key)
}

#[test]
fn a_pack_is_not_sent_again_and_again() {
    // §6.5
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let mut flooded = Flooded::new(&shop);
    let ask = Message::AskPack { repository: shop.id(), pack: Hash([0; 32]) };
    let sent = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Send { .. })).count();
    let first: usize = (0..100).map(|_| sent(flooded.say(&ask))).sum();
    assert_eq!(first, 1);
    // One whose answer was lost asks again after its patience.
    flooded.now.time = Time(10_000);
    assert_eq!(sent(flooded.say(&ask)), 1);
}

#[test]
fn receipts_are_dropped_while_the_disk_is_behind_and_taken_once_it_is_not() {
    // §9.4, §11
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let mut flooded = Flooded::new(&shop);
    let mut tokens = Vec::new();
    for device in 0..200 {
        for action in flooded.say(&Message::Receipts(vec![receipt(shop.id(), device, 1)])) {
            if let Action::Persist { token, .. } = action {
                tokens.push(token);
            }
        }
    }
    assert_eq!(tokens.len(), 64);
    assert_eq!(flooded.agent.receipts().iter().count(), 0);
    for token in tokens {
        flooded.give(Input::Stored(token));
    }
    assert_eq!(flooded.agent.receipts().iter().count(), 64);
    let actions = flooded.say(&Message::Receipts(vec![receipt(shop.id(), 199, 1)]));
    assert!(actions.iter().any(|action| matches!(action, Action::Persist { .. })));
}

#[test]
fn a_receipt_that_could_not_be_written_comes_again_though_a_later_one_was() {
    // §9.3, §9.4
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let mut receiver = Flooded::new(&shop);
    let [first, second, third] = [1, 2, 3].map(|counter| receipt(shop.id(), 0, counter));
    let device = first.peek().unwrap().device;
    let mark = |counter| Mark { repository: shop.id(), device, counter };
    let [one, two, three] = [&first, &second, &third].map(|one| receiver.say_receipts(std::slice::from_ref(one)));
    receiver.give(Input::Stored(one));
    receiver.give(Input::StoreFailed { token: two, why: "the disk is full".to_owned() });
    assert_eq!(sent(&receiver.give(Input::Stored(three))), [Message::Stored(vec![mark(3)])]);
    let digest = receiver.next_digest();
    assert_eq!(digest.marks, [mark(1)]);

    // Whoever has them heard all be acknowledged, but sends again what the digest does not claim.
    let mut sender = Flooded::new(&shop);
    let token = sender.say_receipts(&[first, second, third]);
    sender.give(Input::Stored(token));
    let again = sent(&sender.say(&Message::Digest(digest)));
    let [Message::Receipts(again)] = &again[..] else { panic!("{again:?}") };
    assert_eq!(again.len(), 2);
    let token = receiver.say_receipts(again);
    assert_eq!(sent(&receiver.give(Input::Stored(token))), [Message::Stored(vec![mark(2)])]);
    assert_eq!(receiver.agent.receipts().iter().count(), 3);
    assert_eq!(receiver.next_digest().marks, [mark(3)]);
    assert_eq!(receiver.next_digest().marks, [], "what was told is not told again");
}

#[test]
fn a_receipt_that_was_missed_is_asked_for_after_a_restart_too() {
    // §9.3
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let record = |device, counter| {
        let signed = receipt(shop.id(), device, counter);
        let mark = Mark { repository: shop.id(), device: signed.peek().unwrap().device, counter };
        (Record::Receipt { mark, receipt: Some(signed) }, mark)
    };
    // Of one device the second was never written down, of the other the first ones went for newer ones.
    let kept = [record(0, 1), record(0, 3), record(1, 5), record(1, 6)];
    let (claimed, whole) = (kept[0].1, kept[3].1);
    let config = Config { follows: vec![shop.cached()], ..Config::default() };
    let now = Now { time: Time(0), wall: Some(EPOCH) };
    let records = kept.into_iter().map(|(record, _)| record).collect();
    let (mut agent, _) = Agent::new(SigningKey::from_bytes(&[1; 32]), config, records, BTreeMap::new(), now);
    let mut actions = Vec::new();
    agent.handle(now, Input::Connected { node: STRANGER, address: None, near: false }, &mut actions);
    let [Message::Digest(digest)] = &sent(&actions)[..] else { panic!("{actions:?}") };
    let mut marks = digest.marks.clone();
    marks.sort();
    let mut expected = [claimed, whole];
    expected.sort();
    assert_eq!(marks, expected);
}
