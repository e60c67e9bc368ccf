//! A search through delegations of any shape, beside a second searcher of a few lines: both must find the same.

use std::collections::BTreeSet;

use burr_protocol::trust::{
    client::{Client, Step},
    write::{key_id, sign},
};
use serde_json::{Map, Value, json};

use super::super::{
    program::Program,
    shop::{NOW, hex, key},
};

const ROLES: [&str; 5] = ["targets", "a", "b", "c", "d"];
const EXPIRES: &str = "2099-01-01T00:00:00Z";

struct Edge {
    to: usize,
    terminating: bool,
    pattern: String,
}

#[derive(Default)]
struct Delegator {
    edges: Vec<Edge>,
    lists: bool,
}

pub(super) fn run(mut program: Program<'_>) {
    let path = plain(&program.text());
    let mut roles: Vec<Delegator> = Vec::new();
    for _ in ROLES {
        let mut role = Delegator { edges: Vec::new(), lists: program.below(4) == 0 };
        for _ in 0..program.below(4) {
            let (to, terminating) = (1 + program.below(ROLES.len() - 1), program.below(4) == 0);
            let edge = Edge { to, terminating, pattern: plain(&program.text()) };
            if role.edges.iter().all(|other| other.to != to) {
                role.edges.push(edge);
            }
        }
        roles.push(role);
    }
    let mut visited = BTreeSet::new();
    let expected = match look(&roles, 0, &path, &mut visited) {
        Look::Found(role) => Some(role as u64),
        Look::Ended | Look::GoOn => None,
    };
    assert_eq!(found(&roles, &path), expected, "{path:?}");
}

/// Canonical JSON has control characters bare, which no JSON reader takes: no signed document holds one.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "_")
}

/// What the client finds: the length of the target, which is the number of the role that lists it.
fn found(roles: &[Delegator], path: &str) -> Option<u64> {
    let documents: Vec<Vec<u8>> = roles.iter().enumerate().map(|(at, role)| document(at, role, path)).collect();
    let pins: Map<String, Value> = ROLES.iter().map(|role| (format!("{role}.json"), json!({ "version": 1 }))).collect();
    let snapshot = signed("snapshot", json!({ "meta": pins }));
    let timestamp = signed("timestamp", json!({ "meta": { "snapshot.json": { "version": 1 } } }));
    let named = json!({ "keyids": [id()], "threshold": 1 });
    let root = signed(
        "root",
        json!({
            "consistent_snapshot": false,
            "keys": declared(),
            "roles": { "root": named, "timestamp": named, "snapshot": named, "targets": named },
        }),
    );
    let mut client = Client::new(NOW);
    let mut searching = false;
    loop {
        match client.step().expect("a sound repository") {
            Step::Kept { role, .. } => client.give((role == "root").then(|| root.clone())).expect("sound"),
            Step::Fetch { name, .. } => {
                let answer = match name.as_str() {
                    "2.root.json" => None,
                    "timestamp.json" => Some(timestamp.clone()),
                    "snapshot.json" => Some(snapshot.clone()),
                    name => {
                        ROLES.iter().position(|role| format!("{role}.json") == name).map(|role| documents[role].clone())
                    }
                };
                client.give(answer).expect("sound");
            }
            Step::Keep { .. } | Step::Forget { .. } => {}
            Step::Done if searching => return client.found().map(burr_protocol::trust::client::Target::length),
            Step::Done => {
                searching = true;
                client.find(path).expect("sound");
            }
        }
    }
}

fn document(at: usize, role: &Delegator, path: &str) -> Vec<u8> {
    let delegation = |edge: &Edge| {
        json!({
            "name": ROLES[edge.to], "keyids": [id()], "threshold": 1,
            "terminating": edge.terminating, "paths": [edge.pattern],
        })
    };
    let delegations: Vec<Value> = role.edges.iter().map(delegation).collect();
    let mut targets = Map::new();
    if role.lists {
        targets.insert(path.to_owned(), json!({ "length": at, "hashes": { "sha256": hex(&[0; 32]) } }));
    }
    signed("targets", json!({ "targets": targets, "delegations": { "keys": declared(), "roles": delegations } }))
}

fn signed(kind: &str, mut fields: Value) -> Vec<u8> {
    for (name, value) in
        [("_type", json!(kind)), ("spec_version", json!("1.0.31")), ("version", json!(1)), ("expires", json!(EXPIRES))]
    {
        fields[name] = value;
    }
    // One key signs for all: this is about the way to a role.
    sign(&fields, &[&key(1)])
}

fn id() -> String {
    key_id(&key(1).verifying_key())
}

fn declared() -> Value {
    let public = hex(key(1).verifying_key().as_bytes());
    json!({ id(): { "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } } })
}

enum Look {
    Found(usize),
    /// A terminating delegation was followed: nothing else is asked.
    Ended,
    GoOn,
}

fn look(roles: &[Delegator], at: usize, path: &str, visited: &mut BTreeSet<usize>) -> Look {
    if !visited.insert(at) {
        return Look::GoOn;
    }
    if roles[at].lists {
        return Look::Found(at);
    }
    for edge in roles[at].edges.iter().filter(|edge| matches(&edge.pattern, path)) {
        match look(roles, edge.to, path, visited) {
            Look::GoOn if edge.terminating => return Look::Ended,
            Look::GoOn => {}
            over => return over,
        }
    }
    Look::GoOn
}

fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(pattern, part)| matches_part(pattern, part))
}

/// By a table: which prefixes of the part each prefix of the pattern matches.
fn matches_part(pattern: &str, part: &str) -> bool {
    let (pattern, part): (Vec<char>, Vec<char>) = (pattern.chars().collect(), part.chars().collect());
    let mut reached = vec![false; part.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; part.len() + 1];
        let (element, end) = element(&pattern, at);
        for (length, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            match element {
                Element::Any => next[length..].fill(true),
                Element::One(accepts) if length < part.len() => {
                    next[length + 1] |= accepts.is_none_or(|(set, negated)| in_set(set, part[length]) != negated);
                }
                Element::One(_) => {}
            }
        }
        (reached, at) = (next, end);
    }
    reached[part.len()]
}

#[derive(Clone, Copy)]
enum Element<'a> {
    Any,
    /// One character: any, or of a set, or of none of it.
    One(Option<(&'a [char], bool)>),
}

fn element(pattern: &[char], at: usize) -> (Element<'_>, usize) {
    match pattern[at] {
        '*' => (Element::Any, at + 1),
        '?' => (Element::One(None), at + 1),
        '[' => {
            let negated = pattern.get(at + 1) == Some(&'!');
            let first = at + 1 + usize::from(negated);
            // The first member may be `]` itself.
            match (first + 1..pattern.len()).find(|end| pattern[*end] == ']') {
                Some(end) => (Element::One(Some((&pattern[first..end], negated))), end + 1),
                None => (Element::One(Some((&pattern[at..=at], false))), at + 1),
            }
        }
        _ => (Element::One(Some((&pattern[at..=at], false))), at + 1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    match set {
        [] => false,
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&c) || in_set(rest, c),
        [member, rest @ ..] => *member == c || in_set(rest, c),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let edge = |to: u8, terminating: u8, pattern: &str| [&[to, terminating], text(pattern).as_slice()].concat();
    let role = |lists: u8, edges: &[Vec<u8>]| {
        [&[lists, u8::try_from(edges.len()).expect("few")], edges.concat().as_slice()].concat()
    };
    let none = role(1, &[]);
    let repository = |path: &str, roles: [Vec<u8>; 5]| [vec![1], text(path), roles.concat()].concat();
    vec![
        repository(
            "x/y.js",
            [
                role(1, &[edge(0, 1, "x/*"), edge(1, 1, "*/[a-z].js")]),
                role(0, &[]),
                none.clone(),
                none.clone(),
                none.clone(),
            ],
        ),
        repository(
            "x/y.js",
            [
                role(1, &[edge(0, 0, "x/?.js"), edge(1, 1, "x/*")]),
                role(1, &[edge(2, 1, "*/*.[!a]s")]),
                role(0, &[]),
                role(1, &[edge(0, 1, "**/*"), edge(1, 0, "x/[]y]*")]),
                none.clone(),
            ],
        ),
        repository("", [role(1, &[edge(3, 1, "*")]), none.clone(), none.clone(), none, role(0, &[])]),
    ]
}
