//! Drafts: any file, and real drafts of any documents. What is read says what it changes, and a repository takes it in
//! or refuses it.

use burr_protocol::trust::write::{Change, Draft, Role};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::{
    program::Program,
    shop::{self, NOW, hex, history, key},
};

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    if program.flag() {
        check(program.rest());
        return;
    }
    // A draft's own words are few: what it starts from is real, its documents are the input's.
    let base = &history()[program.below(history().len())];
    let documents = program.rest();
    let head = format!(r#"{{"format":"burr draft 1","repository":"{}","documents":"#, shop::id());
    let tail = format!(r#","base":"{}"}}"#, hex(base.pack()));
    check(&[head.as_bytes(), documents, tail.as_bytes()].concat());
}

fn check(file: &[u8]) {
    let Ok(mut draft) = Draft::decode(file) else { return };
    assert_eq!(Draft::decode(&draft.encode()).as_ref(), Ok(&draft), "a draft comes back as it went");
    assert!(!draft.differences().is_empty(), "a draft says what it changes");
    for difference in draft.differences() {
        assert!(!difference.to_string().is_empty());
    }
    let keys = shop::all_keys();
    let keys: Vec<&SigningKey> = keys.iter().collect();
    draft.sign_where_named(&keys);
    let signed = Draft::decode(&draft.encode()).expect("its own signatures hold");
    assert!(draft.merge(&signed).is_ok());
    for state in history() {
        let mut repository = state.clone();
        if repository.submit(&draft, &keys, NOW).is_ok() {
            assert!(draft.missing().is_empty());
            assert!(repository.verified().timestamp_version() > state.verified().timestamp_version());
            assert_ne!(repository.offline_state(), state.offline_state());
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let last = history().len() - 1;
    let stable = Role::Channel("stable".to_owned());
    let add = |role, seed| Change::AddKeys { role, keys: vec![key(seed).verifying_key()], threshold: None };
    let more = Change::AddChannel { channel: "more".to_owned(), keys: vec![key(8).verifying_key()], threshold: 1 };
    let drafts = [
        (0, history()[0].propose_release(&shop::release("stable", 1), [7; 32], NOW)),
        (last, shop::newest().propose_release(&shop::release("stable", 5), [7; 32], NOW)),
        (1, history()[1].propose(&add(Role::Root, 8), NOW)),
        (2, history()[2].propose(&add(stable, 8), NOW)),
        (last, shop::newest().propose(&more, NOW)),
        (3, history()[3].propose(&add(Role::Targets, 8), NOW)),
        (last, shop::newest().propose_revocation("stores", shop::revoked(), 9, NOW)),
        (4, history()[4].propose_rules("stable", 2, &shop::rules(), NOW)),
    ];
    let mut seeds = Vec::new();
    for (state, draft) in drafts {
        let mut draft = draft.expect("a possible change");
        if state != last {
            draft.sign_where_named(&[&key(1), &key(2), &key(6)]);
        }
        let file = draft.encode();
        let value: Value = serde_json::from_slice(&file).expect("a draft is JSON");
        let documents = serde_json::to_vec(&value["documents"]).expect("a value");
        seeds.push([vec![0, u8::try_from(state).expect("few states")], documents].concat());
    }
    seeds.push([vec![1], history()[0].propose(&more, NOW).expect("a possible change").encode()].concat());
    seeds
}
