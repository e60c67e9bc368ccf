//! One agent, and what it is given by a damaged disk or by many strangers at once: it goes on, and says no more than it
//! has to. Rule numbers are those of `protocol/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, Time, Wall,
    action::{Action, Input},
    budget::Traffic,
    config::{Config, Install},
    fact::Fact,
    fetch::PieceMap,
    peers::Address,
    receipt::{MAX_WORDS, Outcome, Receipt, SignedReceipt},
    record::{AppRecord, Record},
    rules::Rules,
    serving::QuestionId,
    wire::{Digest, Mark, Message, Room},
};
use burr_sim::{Publisher, story::EPOCH};
use ed25519_dalek::SigningKey;

/// An agent whose disk, store and slots do at once what they are asked for.
struct Alone {
    agent: Agent,
    now: Now,
    /// Every action that is no order to them, oldest first.
    seen: Vec<Action>,
}

impl Alone {
    fn new(config: Config, records: Vec<Record>) -> Self {
        let now = Now { time: Time(0), wall: Some(EPOCH) };
        let (agent, facts) = Agent::new(SigningKey::from_bytes(&[1; 32]), config, records, BTreeMap::new(), now);
        assert_eq!(facts, []);
        Self { agent, now, seen: Vec::new() }
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut actions = Vec::new();
            self.agent.handle(self.now, input, &mut actions);
            for action in actions.into_iter().rev() {
                match action {
                    Action::Persist { token, .. } => inputs.push(Input::Stored(token)),
                    Action::Stage { app, bundle, .. } => inputs.push(Input::Staged { app, bundle, result: Ok(()) }),
                    Action::Switch { app, bundle } => inputs.push(Input::Switched { app, bundle, result: Ok(()) }),
                    action => self.seen.push(action),
                }
            }
        }
    }

    /// A node that collects receipts and follows the shop, or follows it alone.
    fn meet(&mut self, number: u64, shop: &Publisher, collects: bool) -> NodeId {
        let node = NodeId(Hash::of(&number.to_be_bytes()).0);
        self.meet_node(node, shop, collects);
        node
    }

    fn meet_node(&mut self, node: NodeId, shop: &Publisher, collects: bool) {
        self.give(Input::Connected { node, address: None, near: false });
        let digest = Digest { collects, follows: vec![shop.id()], ..Digest::default() };
        self.give(Input::Message { node, bytes: Message::Digest(digest).encode() });
    }

    /// Receipts that were sent since this was asked last: to whom, and whose.
    fn receipts(&mut self) -> Vec<(NodeId, Receipt)> {
        let sent = std::mem::take(&mut self.seen).into_iter().filter_map(|action| match action {
            Action::Send { node, bytes } => Some((node, Message::decode(&bytes).unwrap())),
            _ => None,
        });
        let receipts = sent.filter_map(|(node, message)| match message {
            Message::Receipts(receipts) => Some(receipts.into_iter().map(move |one| (node, one.peek().unwrap()))),
            _ => None,
        });
        receipts.flatten().collect()
    }
}

fn receipt(shop: &Publisher, device: u64) -> SignedReceipt {
    numbered(shop, device, 1)
}

fn numbered(shop: &Publisher, device: u64, counter: u64) -> SignedReceipt {
    let key = SigningKey::from_bytes(&Hash::of(&device.to_le_bytes()).0);
    let receipt = Receipt {
        repository: shop.id(),
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
        at: None,
        issued: EPOCH,
        via: None,
        attributes: None,
        member: None,
        said: String::new(),
    };
    SignedReceipt::sign(&receipt, &key)
}

#[test]
fn a_device_whose_counter_is_damaged_installs_and_reports_still() {
    // §9.1, §10.4: the highest number there is, which nothing may be added to.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    let payload = shop.release("1.0.0", 1000, EPOCH).payload;
    let state = AppRecord { counter: u64::MAX, ..AppRecord::default() };
    let records = vec![Record::App { app: "shop".to_owned(), state }];
    let config = Config { follows: vec![shop.installed(Install::of("stable"))], ..Config::default() };
    let mut device = Alone::new(config, records);
    device.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    device.give(Input::Held { blob: payload.blob, size: payload.size, pieces: PieceMap::All });
    let status = device.agent.status();
    assert_eq!(status.apps[0].active.as_ref().map(|active| active.version.as_str()), Some("1.0.0"), "{status:?}");
    let receipts: Vec<_> = device.agent.receipts().iter().map(|signed| signed.verify().unwrap()).collect();
    let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
    assert_eq!((receipt.counter, &receipt.outcome), (u64::MAX, &Outcome::Active));
}

#[test]
fn who_is_alone_sleeps_unless_time_alone_may_bring_something() {
    // §6.3
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    let payload = shop.release("1.0.0", 1000, EPOCH).payload;
    let interval = Config::default().sync_interval;
    let config = Config { follows: vec![shop.installed(Install::of("stable"))], ..Config::default() };
    let mut device = Alone::new(config, Vec::new());
    device.give(Input::Held { blob: payload.blob, size: payload.size, pieces: PieceMap::All });
    device.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    assert_eq!(device.agent.wake_at(), None, "it has the newest");
    let digests = |device: &mut Alone| {
        let sent = std::mem::take(&mut device.seen).into_iter().filter_map(|action| match action {
            Action::Send { bytes, .. } => Message::decode(&bytes).ok(),
            _ => None,
        });
        sent.filter(|message| matches!(message, Message::Digest(_))).count()
    };
    let pass = |device: &mut Alone, span: Duration| {
        device.now.time = device.now.time + span;
        device.now.wall = device.now.wall.map(|wall| Wall(wall.0 + i64::try_from(span.as_secs()).unwrap()));
    };
    digests(&mut device);
    pass(&mut device, interval * 100);
    let first = device.meet(1, &shop, false);
    assert_eq!(digests(&mut device), 1, "whoever comes hears it once");
    pass(&mut device, interval / 2);
    device.meet(2, &shop, false);
    assert_eq!(digests(&mut device), 1);
    pass(&mut device, interval / 2);
    device.give(Input::Wake);
    assert_eq!(digests(&mut device), 2, "who stays hears it again in time");
    for node in [first, NodeId(Hash::of(&2u64.to_be_bytes()).0)] {
        device.give(Input::Disconnected { node });
    }
    assert_eq!(device.agent.wake_at(), None);

    // The next one is for later: that comes with time alone.
    let later = Wall(device.now.wall.unwrap().0 + 3600);
    let rules = Rules { not_before: Some(later), ..Rules::default() };
    let payload = shop.release_by(rules, "1.1.0", 2000, device.now.wall.unwrap()).payload;
    device.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    device.give(Input::Held { blob: payload.blob, size: payload.size, pieces: PieceMap::All });
    let active = |device: &Alone| device.agent.status().apps[0].active.as_ref().map(|active| active.version.clone());
    assert_eq!(active(&device).as_deref(), Some("1.0.0"));
    let mut wakes = 0;
    while let Some(at) = device.agent.wake_at() {
        let span = at.since(device.now.time);
        assert!(span <= interval, "{span:?}");
        pass(&mut device, span);
        device.give(Input::Wake);
        wakes += 1;
    }
    assert_eq!((active(&device).as_deref(), wakes), (Some("1.1.0"), 12));
}

#[test]
fn a_strangers_words_at_the_door_are_cut_and_do_nothing_to_a_terminal() {
    // §13.7
    let mut node = Alone::new(Config::default(), Vec::new());
    let words = format!("{}\u{1b}[2J\u{7}go away", "ä".repeat(100_000));
    node.give(Input::TurnedAway { node: NodeId([7; 32]), why: words });
    let told: Vec<_> = node
        .seen
        .iter()
        .filter_map(|action| match action {
            Action::Tell(Fact::TurnedAway { why, .. }) => Some(why),
            _ => None,
        })
        .collect();
    let [told] = told[..] else { panic!("told once: {told:?}") };
    assert!(told.len() <= MAX_WORDS && told.ends_with("go away"), "{} bytes", told.len());
    assert!(!told.contains(char::is_control), "{told:?}");
}

#[test]
fn a_crowd_of_strangers_at_the_door_is_told_of_a_few_times() {
    // §13.7
    let mut node = Alone::new(Config::default(), Vec::new());
    for number in 0..10_000_u64 {
        let stranger = NodeId(Hash::of(&number.to_be_bytes()).0);
        node.give(Input::TurnedAway { node: stranger, why: "no".to_owned() });
    }
    let told = node.seen.iter().filter(|action| matches!(action, Action::Tell(Fact::TurnedAway { .. }))).count();
    assert!((1..100).contains(&told), "{told} times in one moment");
}

#[test]
fn receipts_go_to_those_that_collect_and_to_each_once() {
    // §9.3: 40 that collect and 40 that don't; 2000 devices' receipts come by one of the latter, 50 at a time.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    shop.release("1.0.0", 1000, EPOCH);
    let config = Config { follows: vec![shop.cached()], ..Config::default() };
    let mut carrier = Alone::new(config, Vec::new());
    carrier.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    let collectors: BTreeSet<NodeId> = (0..40).map(|number| carrier.meet(number, &shop, true)).collect();
    let others: Vec<NodeId> = (40..80).map(|number| carrier.meet(number, &shop, false)).collect();
    carrier.receipts();
    let mut sent: BTreeMap<(NodeId, NodeId), usize> = BTreeMap::new();
    let all: Vec<u64> = (0..2000).collect();
    for some in all.chunks(50) {
        let receipts = some.iter().map(|device| receipt(&shop, *device)).collect();
        carrier.give(Input::Message { node: others[0], bytes: Message::Receipts(receipts).encode() });
        // A message has room for 64; who acknowledges one gets the next.
        loop {
            let receipts = carrier.receipts();
            if receipts.is_empty() {
                break;
            }
            let mut marks: BTreeMap<NodeId, Vec<Mark>> = BTreeMap::new();
            for (to, Receipt { repository, device, counter, .. }) in receipts {
                *sent.entry((to, device)).or_default() += 1;
                marks.entry(to).or_default().push(Mark { repository, device, counter });
            }
            for (node, marks) in marks {
                carrier.give(Input::Message { node, bytes: Message::Stored(marks).encode() });
            }
        }
    }
    assert_eq!(sent.len(), 2000 * collectors.len(), "each that collects has all");
    assert!(sent.keys().all(|(to, _)| collectors.contains(to)), "nobody else is burdened");
    assert!(sent.values().all(|times| *times == 1), "none comes twice");
}

#[test]
fn where_receipts_end_those_of_others_go_to_nobody_who_came_from_afar() {
    // §9.3: a gateway behind a line that is paid for is not sent what all other sites' devices said.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    shop.release("1.0.0", 1000, EPOCH);
    let config = Config { follows: vec![shop.cached()], collect: true, ..Config::default() };
    let mut office = Alone::new(config, Vec::new());
    office.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    let node = |number: u64| NodeId(Hash::of(&number.to_be_bytes()).0);
    let (courier, archive) = (node(3), node(4));
    office.give(Input::Near { node: courier });
    let address = Address("archive".to_owned());
    office.give(Input::Found { address, node: Some(archive), fixed: true });
    let gateways = [office.meet(1, &shop, false), office.meet(2, &shop, false)];
    office.meet_node(courier, &shop, false);
    office.meet_node(archive, &shop, false);
    let receipts = (0..3).map(|device| receipt(&shop, device)).collect();
    office.give(Input::Message { node: gateways[0], bytes: Message::Receipts(receipts).encode() });
    let sent = office.receipts();
    let count = |node: NodeId| sent.iter().filter(|(to, _)| *to == node).count();
    assert_eq!((gateways.map(count), count(courier), count(archive)), ([0, 0], 3, 3));

    // §9.5: a device that lost its records hears what it said before, and nothing else.
    let device = receipt(&shop, 1).peek().unwrap().device;
    office.meet_node(device, &shop, false);
    let sent = office.receipts();
    assert!(matches!(&sent[..], [(to, receipt)] if *to == device && receipt.device == device), "{sent:?}");
    // Another collector makes no difference to that, and is sent all.
    let other = office.meet(5, &shop, true);
    assert!(office.receipts().iter().all(|(to, _)| *to == other));
    office.give(Input::Disconnected { node: device });
    office.meet_node(device, &shop, false);
    let sent = office.receipts();
    assert!(matches!(&sent[..], [(to, receipt)] if *to == device && receipt.device == device), "{sent:?}");
}

#[test]
fn who_loses_its_collector_for_a_moment_does_not_send_everybody_all_receipts() {
    // §9.3: a mirror whose publisher starts again has a thousand gateways behind lines that are paid for.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    shop.release("1.0.0", 1000, EPOCH);
    let mut mirror = Alone::new(Config { follows: vec![shop.cached()], ..Config::default() }, Vec::new());
    mirror.give(Input::Import { repository: shop.id(), pack: shop.pack() });
    let (publisher, courier) = (NodeId([8; 32]), NodeId([9; 32]));
    let address = Address("publisher".to_owned());
    mirror.give(Input::Found { address, node: Some(publisher), fixed: true });
    mirror.give(Input::Near { node: courier });
    mirror.meet_node(publisher, &shop, true);
    let gateways = [mirror.meet(1, &shop, false), mirror.meet(2, &shop, false)];
    let bring = |mirror: &mut Alone, devices: std::ops::Range<u64>| {
        let receipts = devices.map(|device| receipt(&shop, device)).collect();
        mirror.give(Input::Message { node: gateways[0], bytes: Message::Receipts(receipts).encode() });
        let mut sent: BTreeMap<NodeId, usize> = BTreeMap::new();
        mirror.receipts().into_iter().for_each(|(to, _)| *sent.entry(to).or_default() += 1);
        sent
    };
    assert_eq!(bring(&mut mirror, 0..3), [(publisher, 3)].into());
    mirror.give(Input::Disconnected { node: publisher });
    assert_eq!(bring(&mut mirror, 3..5), [].into());
    // Who is beside it may carry them.
    mirror.meet_node(courier, &shop, false);
    assert_eq!(bring(&mut mirror, 0..0), [(courier, 5)].into());
    mirror.meet_node(publisher, &shop, true);
    mirror.receipts();
    assert_eq!(bring(&mut mirror, 5..6), [(publisher, 1)].into());

    // It is gone for longer: anybody may know a way.
    mirror.give(Input::Disconnected { node: publisher });
    mirror.now.time = mirror.now.time + Config::default().sync_interval;
    assert_eq!(bring(&mut mirror, 6..7).get(&gateways[1]), Some(&7));
}

#[test]
fn what_a_near_node_was_not_sent_counts_as_near_though_it_is_gone() {
    let mut node = Alone::new(Config { site: Some("hall".to_owned()), ..Config::default() }, Vec::new());
    let (beside, fellow, blob) = (NodeId([8; 32]), NodeId([9; 32]), Hash([7; 32]));
    node.give(Input::Connected { node: beside, address: None, near: true });
    node.give(Input::Connected { node: fellow, address: None, near: false });
    let digest = Digest { site: Some("hall".to_owned()), ..Digest::default() };
    node.give(Input::Message { node: fellow, bytes: Message::Digest(digest).encode() });
    for (id, peer) in [(QuestionId(1), beside), (QuestionId(2), fellow)] {
        node.give(Input::Asked { id, node: peer, blob, bytes: 1000 });
        let traffic = node.agent.status().budget.traffic;
        assert!(traffic.lan_up >= 1000 && traffic.wan_up == 0, "{traffic:?}");
        node.give(Input::Disconnected { node: peer });
        node.give(Input::Served { id, bytes: 0 });
        assert_eq!(node.agent.status().budget.traffic, Traffic::default());
    }
}

#[test]
fn where_there_is_no_network_nobody_is_dialled_until_there_is_one_again() {
    // §6.8
    let mut node = Alone::new(Config::default(), Vec::new());
    let kiosk = Address("kiosk".to_owned());
    let dials = |node: &mut Alone, input| {
        node.give(input);
        let dials = |action: &Action| *action == Action::Dial(kiosk.clone());
        std::mem::take(&mut node.seen).iter().filter(|action| dials(action)).count()
    };
    assert_eq!(dials(&mut node, Input::Found { address: kiosk.clone(), node: None, fixed: true }), 1);
    assert_eq!(dials(&mut node, Input::Network { up: false }), 0);
    assert_eq!(dials(&mut node, Input::DialFailed { address: kiosk.clone() }), 0);
    assert_eq!(node.agent.wake_at(), None, "it sleeps until something happens");
    node.now.time = node.now.time + Config::default().sync_interval;
    assert_eq!(dials(&mut node, Input::Wake), 0);
    assert_eq!(dials(&mut node, Input::Network { up: true }), 1);
    // The neighbour of one network is tried once on another, and then waits to be heard of; the kiosk is tried again soon.
    let neighbour = Address("neighbour".to_owned());
    let found = Input::Found { address: neighbour.clone(), node: None, fixed: false };
    node.give(found.clone());
    node.give(Input::Connected { node: NodeId([1; 32]), address: Some(neighbour.clone()), near: false });
    node.give(Input::Network { up: false });
    node.give(Input::Disconnected { node: NodeId([1; 32]) });
    node.seen.clear();
    node.give(Input::Network { up: true });
    let dialled = |node: &mut Alone| {
        let dials = std::mem::take(&mut node.seen);
        [&kiosk, &neighbour].map(|address| dials.contains(&Action::Dial(address.clone())))
    };
    assert_eq!(dialled(&mut node), [false, true], "the kiosk is being dialled");
    node.give(Input::DialFailed { address: kiosk.clone() });
    node.give(Input::DialFailed { address: neighbour.clone() });
    node.now.time = node.now.time + Duration::from_secs(20);
    node.give(Input::Wake);
    assert_eq!(dialled(&mut node), [true, false]);
    node.give(found);
    assert_eq!(dialled(&mut node), [false, true]);
}

#[test]
fn who_was_found_and_is_heard_of_no_more_is_dialled_once_more_until_it_is_found_again() {
    // §6.8: the neighbours of a device that wakes now and then sleep most of the time.
    let mut node = Alone::new(Config::default(), Vec::new());
    let [neighbour, kiosk] = ["neighbour", "kiosk"].map(|address| Address(address.to_owned()));
    let found = |address: &Address, fixed| Input::Found { address: address.clone(), node: None, fixed };
    let lost = |address: &Address| Input::Lost { address: address.clone() };
    node.give(found(&neighbour, false));
    node.give(found(&kiosk, true));
    // How often each is dialled in an hour in which nobody is there.
    let dials = |node: &mut Alone| {
        let end = node.now.time + Duration::from_secs(3600);
        let mut dialled = Vec::new();
        loop {
            for action in std::mem::take(&mut node.seen) {
                if let Action::Dial(address) = action {
                    node.give(Input::DialFailed { address: address.clone() });
                    dialled.push(address);
                }
            }
            let Some(wake) = node.agent.wake_at().filter(|wake| *wake < end) else { break };
            node.now.time = wake;
            node.give(Input::Wake);
        }
        [&neighbour, &kiosk].map(|address| dialled.iter().filter(|other| *other == address).count())
    };
    let [one, other] = dials(&mut node);
    assert!(one > 10 && one == other, "while it is heard of it may well be there: {one}, {other}");
    node.give(lost(&neighbour));
    node.give(lost(&kiosk));
    let [one, other] = dials(&mut node);
    assert!(one == 1 && other > 10, "what is configured stays: {one}, {other}");
    node.give(found(&neighbour, false));
    let [one, _] = dials(&mut node);
    assert!(one > 10, "{one}");

    // It was connected since it was heard of last: not all that is there is heard of.
    node.give(found(&neighbour, false));
    let id = NodeId([1; 32]);
    node.give(Input::Connected { node: id, address: Some(neighbour.clone()), near: false });
    node.give(lost(&neighbour));
    node.now.time = node.now.time + Duration::from_secs(60);
    node.give(Input::Disconnected { node: id });
    let [one, _] = dials(&mut node);
    assert!(one > 10, "{one}");
}

#[test]
fn a_receipt_for_which_there_is_no_room_is_not_even_written() {
    // §9.6: it would be removed again at once, each time that it comes.
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let config = Config { follows: vec![shop.cached()], max_receipts: 1, ..Config::default() };
    let mut carrier = Alone::new(config, Vec::new());
    let node = carrier.meet(1, &shop, false);
    let mut persists = |device| {
        let mut actions = Vec::new();
        let bytes = Message::Receipts(vec![receipt(&shop, device)]).encode();
        carrier.agent.handle(carrier.now, Input::Message { node, bytes }, &mut actions);
        let tokens = actions.iter().filter_map(|action| match action {
            Action::Persist { token, .. } => Some(*token),
            _ => None,
        });
        let tokens: Vec<_> = tokens.collect();
        for token in &tokens {
            carrier.give(Input::Stored(*token));
        }
        tokens.len()
    };
    assert_eq!((persists(1), persists(2), persists(2)), (1, 0, 0));
    assert_eq!(carrier.agent.receipts().iter().count(), 1);
}

#[test]
fn a_peer_is_not_sent_what_it_has_no_room_for() {
    // §9.6: a device and a full kiosk would send each other what neither keeps, at each contact.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    shop.release("1.0.0", 1000, EPOCH);
    let mut carrier = Alone::new(Config { follows: vec![shop.cached()], ..Config::default() }, Vec::new());
    let source = carrier.meet(0, &shop, false);
    let bring = |carrier: &mut Alone, numbers: &[(u64, u64)]| {
        let receipts = numbers.iter().map(|(device, number)| numbered(&shop, *device, *number)).collect();
        carrier.give(Input::Message { node: source, bytes: Message::Receipts(receipts).encode() });
    };
    let says = |carrier: &mut Alone, node: NodeId, room, marks: &[(u64, u64)]| {
        let mark = |(device, number): &(u64, u64)| {
            let Receipt { repository, device, counter, .. } = numbered(&shop, *device, *number).peek().unwrap();
            Mark { repository, device, counter }
        };
        let digest =
            Digest { room, follows: vec![shop.id()], marks: marks.iter().map(mark).collect(), ..Digest::default() };
        carrier.give(Input::Message { node, bytes: Message::Digest(digest).encode() });
    };
    let sent = |carrier: &mut Alone| -> BTreeSet<_> {
        carrier.receipts().into_iter().map(|(to, receipt)| (to, receipt.device, receipt.counter)).collect()
    };
    let [one, two, three, four] = [1, 2, 3, 4].map(|device| receipt(&shop, device).peek().unwrap().device);
    bring(&mut carrier, &[(1, 1), (2, 1), (2, 2), (3, 1)]);
    carrier.receipts();

    let full = NodeId([9; 32]);
    carrier.give(Input::Connected { node: full, address: None, near: false });
    says(&mut carrier, full, Room::None, &[(2, 1)]);
    assert_eq!(sent(&mut carrier), [(full, two, 2)].into(), "it has the one before");
    bring(&mut carrier, &[(4, 1)]);
    assert_eq!(sent(&mut carrier), [(full, four, 1)].into(), "it may have others of the device, and was not asked");
    says(&mut carrier, full, Room::None, &[(2, 2)]);
    assert_eq!(sent(&mut carrier), [].into(), "it did not keep that");
    says(&mut carrier, full, Room::All, &[]);
    assert_eq!(sent(&mut carrier), [(full, one, 1), (full, three, 1), (full, four, 1)].into());

    // A device that lost its records has room for its own.
    carrier.give(Input::Connected { node: three, address: None, near: false });
    says(&mut carrier, three, Room::None, &[]);
    assert_eq!(sent(&mut carrier), [(three, three, 1)].into());
}

#[test]
fn a_node_says_when_it_has_no_room_for_more() {
    // §9.6
    let shop = Publisher::new("shop", "the shop", EPOCH);
    let config = Config { follows: vec![shop.cached()], max_receipts: 1, ..Config::default() };
    let mut carrier = Alone::new(config, Vec::new());
    let room = |carrier: &mut Alone| {
        carrier.give(Input::Connected { node: NodeId([9; 32]), address: None, near: false });
        carrier.give(Input::Disconnected { node: NodeId([9; 32]) });
        let digest = std::mem::take(&mut carrier.seen).into_iter().find_map(|action| match action {
            Action::Send { bytes, .. } => Some(Message::decode(&bytes).unwrap()),
            _ => None,
        });
        let Some(Message::Digest(digest)) = digest else { panic!("{digest:?}") };
        digest.room
    };
    assert_eq!(room(&mut carrier), Room::All);
    let node = carrier.meet(1, &shop, false);
    carrier.give(Input::Message { node, bytes: Message::Receipts(vec![receipt(&shop, 1)]).encode() });
    carrier.seen.clear();
    assert_eq!(room(&mut carrier), Room::Members, "a fleet's members go before strangers");
}

#[test]
fn who_has_receipts_of_many_tells_those_that_have_few_what_concerns_them() {
    // §6.3: all it holds would be most of what is said at each contact.
    let mut shop = Publisher::new("shop", "the shop", EPOCH);
    shop.release("1.0.0", 1000, EPOCH);
    let mut kiosk = Alone::new(Config { follows: vec![shop.cached()], ..Config::default() }, Vec::new());
    let source = kiosk.meet(0, &shop, false);
    for all in (0..100).collect::<Vec<u64>>().chunks(50) {
        let receipts = all.iter().map(|device| receipt(&shop, *device)).collect();
        kiosk.give(Input::Message { node: source, bytes: Message::Receipts(receipts).encode() });
    }
    kiosk.seen.clear();
    let mark = |device| {
        let Receipt { repository, device, counter, .. } = receipt(&shop, device).peek().unwrap();
        Mark { repository, device, counter }
    };
    let said = |kiosk: &mut Alone, number: u64, digest: Option<Digest>| -> Vec<Message> {
        let node = NodeId(Hash::of(&number.to_be_bytes()).0);
        match digest {
            None => kiosk.give(Input::Connected { node, address: None, near: false }),
            Some(digest) => kiosk.give(Input::Message { node, bytes: Message::Digest(digest).encode() }),
        }
        let said = std::mem::take(&mut kiosk.seen).into_iter().filter_map(|action| match action {
            Action::Send { node: to, bytes } if to == node => Some(Message::decode(&bytes).unwrap()),
            _ => None,
        });
        said.collect()
    };
    let of = |message: &Message| match message {
        Message::Digest(digest) => (digest.marks.len(), digest.more.is_some()),
        other => panic!("{other:?}"),
    };
    let follows = Digest { follows: vec![shop.id()], collects: true, ..Digest::default() };

    // A device that has two receipts, of which one is here.
    assert_eq!(said(&mut kiosk, 1, None).iter().map(of).collect::<Vec<_>>(), [(0, true)]);
    let few = Digest { marks: vec![mark(3), mark(1000)], ..follows.clone() };
    let answer = said(&mut kiosk, 1, Some(few));
    let told = Digest { follows: vec![shop.id()], marks: vec![mark(3)], ..Digest::default() };
    assert!(answer.len() == 2 && answer.contains(&Message::Digest(told)), "{answer:?}");
    let sent = |message: &Message| matches!(message, Message::Receipts(receipts) if receipts.len() == 64);
    assert!(answer.iter().any(sent), "it collects, and is sent what it lacks");

    // One that has many is told all, and is sent nothing before it told what it has.
    said(&mut kiosk, 2, None);
    let answer = said(&mut kiosk, 2, Some(Digest { more: Some(Hash([7; 32])), ..follows.clone() }));
    assert_eq!(answer.iter().map(of).collect::<Vec<_>>(), [(100, false)]);
    let all = (0..100).map(mark).collect();
    assert_eq!(said(&mut kiosk, 2, Some(Digest { marks: all, ..follows.clone() })), []);

    // One that holds the same is told nothing more, and sent what comes after that.
    let greeting = said(&mut kiosk, 3, None);
    let [Message::Digest(Digest { more: same @ Some(_), .. })] = &greeting[..] else { panic!("{greeting:?}") };
    let between = Message::Receipts(vec![receipt(&shop, 100)]);
    kiosk.give(Input::Message { node: source, bytes: between.encode() });
    kiosk.seen.clear();
    let sent = |said: Vec<Message>| -> Vec<NodeId> {
        let receipts = said.into_iter().map(|message| match message {
            Message::Receipts(receipts) => receipts.into_iter().map(|one| one.peek().unwrap().device),
            other => panic!("{other:?}"),
        });
        receipts.flatten().collect()
    };
    let answer = said(&mut kiosk, 3, Some(Digest { more: *same, ..follows.clone() }));
    assert_eq!(sent(answer), [mark(100).device], "which came after the two met");
    let later = Message::Receipts(vec![numbered(&shop, 3, 2)]);
    kiosk.give(Input::Message { node: source, bytes: later.encode() });
    let node = NodeId(Hash::of(&3_u64.to_be_bytes()).0);
    let later = std::mem::take(&mut kiosk.seen).into_iter().filter_map(|action| match action {
        Action::Send { node: to, bytes } if to == node => Some(Message::decode(&bytes).unwrap()),
        _ => None,
    });
    assert_eq!(sent(later.collect()), [mark(3).device]);
}
