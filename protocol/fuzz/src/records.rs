//! What a node reads of its own store and of people: records, receipts, names, labels, versions, roles, keys and rules.

#![allow(clippy::disallowed_types, reason = "a lock around what is kept from run to run")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, Shared, Time, Wall,
    action::{Action, Input},
    config::{Config, Follow, Install},
    label::{check_name, check_version},
    receipt::{MAX_WORDS, Outcome, Receipt, SignedReceipt, last_words},
    record::{AppRecord, Deferred, Installed, Record, ReleaseId, Trial},
    rules::{EVERYONE, Expression, Rules, Subject},
    trust::{
        client::encode,
        version::is_newer,
        write::{Role, parse_key},
    },
};

use super::{program::Program, shop};

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    match program.below(8) {
        0 => record(program),
        1 => names(&program.text(), &program.text()),
        2 => versions([program.text(), program.text(), program.text()]),
        3 => signed_receipt(program.rest()),
        4 => words(&String::from_utf8_lossy(program.rest())),
        5 => expression(program),
        6 => rules(&String::from_utf8_lossy(program.rest())),
        _ => restart(program),
    }
}

fn record(mut program: Program<'_>) {
    let key = program.take();
    let value = program.rest();
    let Ok(record) = Record::read(key, value) else { return };
    let (key, value) = record.entry().expect("what was read of an entry has one");
    let value = value.expect("what was read has a value");
    assert_eq!(Record::read(&key, &value), Ok(record));
}

fn names(text: &str, other: &str) {
    if let Ok(hash) = text.parse::<Hash>() {
        assert_eq!(hash.to_string(), text, "a name has one spelling");
    }
    if let Ok(role) = text.parse::<Role>() {
        assert_eq!(role.to_string(), text, "a role has one spelling");
    }
    if let Ok(key) = parse_key(text) {
        assert_eq!(shop::hex(key.as_bytes()), text.trim());
    }
    for sound in [check_name("app", text).is_ok(), check_version(text).is_ok()] {
        assert!(
            !sound || (!text.contains("..") && !text.contains(['/', '\\', '\0']) && (1..=64).contains(&text.len()))
        );
    }
    let encoded = encode(text);
    assert!(!encoded.contains('/'), "an encoded name is one part of a path");
    assert_eq!(encode(other) == encoded, other == text, "two names are not encoded as one");
}

/// Versions are in a total order, as far as it tells them apart.
fn versions([a, b, c]: [String; 3]) {
    assert!(!is_newer(&a, &a));
    assert!(!(is_newer(&a, &b) && is_newer(&b, &a)));
    if is_newer(&a, &b) && is_newer(&b, &c) {
        assert!(is_newer(&a, &c), "{a:?} {b:?} {c:?}");
    }
    let same = |a: &str, b: &str| !is_newer(a, b) && !is_newer(b, a);
    if same(&a, &b) && same(&b, &c) {
        assert!(same(&a, &c), "{a:?} {b:?} {c:?}");
    }
}

/// A receipt of any content: what its device signs within the bounds is believed, and nothing else.
fn signed_receipt(bytes: &[u8]) {
    if let Ok((signed, [])) = postcard::take_from_bytes::<SignedReceipt>(bytes)
        && let Ok(receipt) = signed.verify()
    {
        assert!(receipt.counter > 0 && receipt.sources.len() <= 16);
    }
    let Ok(mut receipt) = postcard::from_bytes::<Receipt>(bytes) else { return };
    let key = shop::key(101);
    match &mut receipt.via {
        Some(via) => via.gateway = shop::node(101),
        None => receipt.device = shop::node(101),
    }
    let signed = SignedReceipt::sign(&receipt, &key);
    if let Ok(read) = signed.verify() {
        assert_eq!(read, receipt);
        let mut signature = signed.signature();
        signature[0] ^= 1;
        assert!(SignedReceipt::of(signed.bytes().to_vec(), signature).verify().is_err());
    }
}

fn words(text: &str) {
    let last = last_words(text);
    assert!(last.len() <= MAX_WORDS && text.replace(|c: char| c.is_control() && c != '\n', " ").ends_with(&last));
}

fn expression(mut program: Program<'_>) {
    let mut attributes = BTreeMap::new();
    while program.flag() {
        attributes.insert(program.text(), program.text());
    }
    let text = String::from_utf8_lossy(program.rest());
    let Ok(expression) = text.parse::<Expression>() else { return };
    let groups: BTreeSet<String> = attributes.values().cloned().collect();
    assert_eq!(expression.to_string(), text, "what was signed is what is shown");
    let negated: Result<Expression, _> = format!("not ({text})").parse();
    assert!(
        negated.is_err()
            || negated.is_ok_and(|not| not.holds(&attributes, &groups) != expression.holds(&attributes, &groups))
    );
}

/// Rules of any content: those within their bounds can be judged and shown.
fn rules(text: &str) {
    let Ok(rules) = serde_json::from_str::<Rules>(text) else { return };
    if rules.check().is_err() {
        return;
    }
    let attributes = BTreeMap::from([("native".to_owned(), "2.9".to_owned()), ("site".to_owned(), "x".to_owned())]);
    let groups = BTreeSet::from(["x".to_owned()]);
    for (active, now) in [(None, Wall(0)), (Some("1.2.3"), shop::NOW), (Some("odd"), Wall(i64::MAX))] {
        let subject = Subject { device: NodeId([7; 32]), attributes: &attributes, groups: &groups, active, now };
        let against = rules.against(shop::id(), "stable", 1, &subject);
        assert!(against.iter().all(|against| !against.to_string().is_empty()));
        assert!(!rules.is_for_everyone() || against.is_empty(), "what is for everyone is for this one");
        let everyone = Rules { rollout: EVERYONE, ..rules.clone() };
        assert!(everyone.against(shop::id(), "stable", 1, &subject).len() <= against.len());
        let _ = active.map(|active| rules.is_too_far(active, "1.2.4"));
    }
    assert!(!rules.to_string().is_empty());
    let again = serde_json::to_string(&rules).expect("plain");
    assert_eq!(serde_json::from_str(&again).ok(), Some(rules));
}

/// A start from whatever the store holds: the agent comes up, and whatever the record says is under way goes on.
fn restart(mut program: Program<'_>) {
    let mut records = Vec::new();
    while !program.is_over() && records.len() < 8 {
        let (key, value) = (program.take(), program.take());
        if let Ok(record) = Record::read(key, value) {
            records.push(record);
        }
    }
    let install = Some(Install::of("stable").into());
    let follow = Follow { repository: shop::id(), app: "shop".to_owned(), cache: Some(None), install };
    let config = Config { follows: vec![follow], max_receipts: 4, ..Config::default() };
    let mut now = Now { time: Time(1), wall: Some(shop::NOW) };
    let (mut agent, _) = Agent::new(shop::key(101), config, records, BTreeMap::new(), now);
    let mut actions = Vec::new();
    agent.handle(now, Input::Wake, &mut actions);
    for _ in 0..20 {
        for action in std::mem::take(&mut actions) {
            let input = match action {
                Action::Persist { token, records } => {
                    let entries = records.iter().filter_map(Record::entry);
                    for (key, value) in entries.filter_map(|(key, value)| Some((key, value?))) {
                        assert!(Record::read(&key, &value).is_ok(), "what is written can be read");
                    }
                    Input::Stored(token)
                }
                Action::Switch { app, bundle } => Input::Switched { app, bundle, result: Ok(()) },
                Action::CheckHealth { app, bundle, .. } => {
                    Input::Health { app, bundle, healthy: false, words: "no".to_owned() }
                }
                _ => continue,
            };
            agent.handle(now, input, &mut actions);
        }
        let Some(at) = agent.wake_at() else { break };
        now.time = now.time.max(at);
        agent.handle(now, Input::Wake, &mut actions);
    }
    assert!(agent.receipts().iter().count() <= 4);
}

/// Receipts that were signed before, by device and number: signing is slower than all that is done with them.
static SIGNED: Mutex<BTreeMap<(u8, u64), (Receipt, SignedReceipt)>> = Mutex::new(BTreeMap::new());

/// A receipt of the device with this number, and its signed form.
pub(crate) fn receipt(device: u8, counter: u64) -> (Receipt, SignedReceipt) {
    let mut signed = SIGNED.lock().expect("nothing fails while it is held");
    signed.entry((device, counter)).or_insert_with(|| sign(device, counter)).clone()
}

fn sign(device: u8, counter: u64) -> (Receipt, SignedReceipt) {
    let key = shop::key(101 + device);
    let release = shop::release("stable", 1);
    let receipt = Receipt {
        repository: shop::id(),
        device: shop::node(101 + device),
        counter,
        app: release.app,
        channel: release.channel,
        version: release.version.clone(),
        seq: release.seq,
        bundle: release.bundle,
        active: Some(release.version),
        outcome: Outcome::RolledBack { reason: "unwell".to_owned() },
        sources: vec![(NodeId([5; 32]), 1001)],
        took_ms: 300,
        said: "stopped".to_owned(),
        at: Some(shop::NOW),
        issued: Wall(shop::NOW.0 - 60),
        via: None,
        attributes: Some([("site".to_owned(), "depot-7".to_owned())].into()),
        member: Some(vec![7; 40]),
    };
    let signed = SignedReceipt::sign(&receipt, &key);
    (receipt, signed)
}

fn record_seeds() -> Vec<Record> {
    let release = shop::release("stable", 2);
    let id = ReleaseId::of(shop::id(), &release);
    let installed = Installed { id: id.clone(), version: release.version.clone(), bundle: release.bundle, bytes: 9 };
    let installed = Shared::from(installed);
    let trial = Box::new(Trial {
        repository: shop::id(),
        release,
        starts: 2,
        back: Some("unwell".to_owned()),
        sources: vec![(NodeId([5; 32]), 1001)],
        took_ms: 300,
        issued: shop::NOW,
        said: "stopped".to_owned(),
    });
    let state = |trial| AppRecord {
        active: Some(installed.clone()),
        previous: vec![installed.clone()],
        trial,
        bad: vec![id.clone()],
        counter: 3,
        factory: Some(installed.clone()),
        held: true,
        deferred: Some(Box::new(Deferred { id: id.clone(), since: shop::NOW, until: Wall(shop::NOW.0 + 60) })),
    };
    let (receipt, signed) = receipt(0, 7);
    let mark = burr_protocol::wire::Mark { repository: receipt.repository, device: receipt.device, counter: 7 };
    let app = "shop".to_owned();
    vec![
        Record::App { app: app.clone(), state: state(None) },
        Record::App { app, state: state(Some(trial)) },
        Record::Receipt { mark, receipt: Some(signed) },
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let run = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_le_bytes(), bytes].concat();
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let mut seeds = Vec::new();
    for record in record_seeds() {
        let (key, value) = record.entry().expect("an entry");
        let value = value.expect("a value");
        seeds.push([vec![0], run(&key), value.clone()].concat());
        seeds.push([vec![7], run(&key), run(&value)].concat());
    }
    let hash = Hash([0xab; 32]).to_string();
    for name in ["shop", "channel.stable", "root", "../x y", &hash] {
        seeds.push([vec![1], text(name), text("shop")].concat());
    }
    for [a, b, c] in [["1.0", "1", "1.0.0-rc.1"], ["2.10+x", "2.9", "a.b"], ["1-", "1", "1.-"]] {
        seeds.push([vec![2], text(a), text(b), text(c)].concat());
    }
    let (receipt, signed) = receipt(0, 1);
    seeds.push([vec![3], postcard::to_stdvec(&signed).expect("plain")].concat());
    seeds.push([vec![3], postcard::to_stdvec(&receipt).expect("plain")].concat());
    let expression = shop::rules().audience.expect("rules that ask").to_string();
    seeds.push([vec![5, 1], text("site"), text("depot-7"), vec![0], expression.into_bytes()].concat());
    seeds.push([vec![6], serde_json::to_vec(&shop::rules()).expect("plain")].concat());
    seeds.push([vec![4], "wörter ".repeat(200).into_bytes()].concat());
    seeds
}
