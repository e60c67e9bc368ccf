//! Upstreams: when one is asked for a payload, and how the files of a repository become the pack that they are.

use std::collections::BTreeMap;

use burr_protocol::{
    Hash, NodeId, Time,
    fact::Fact,
    trust::{Verified, verify, write::Repository},
    upstream::{Gather, LastResort, Next, PATIENCE},
};
use serde_json::json;

use crate::trust::repository::{self, verified};

#[test]
fn a_payload_is_asked_for_when_peers_brought_nothing_of_it_for_a_while() {
    let blob = Hash::of(b"payload");
    let mut resort = LastResort::default();
    assert_eq!((resort.due(Time(0)), resort.wake_at()), (None, None));
    resort.told(&Fact::FetchStarted { blob, size: 9, held: 0 }, Time(0));
    let patience = Time(0) + PATIENCE;
    assert_eq!((resort.due(Time(patience.0 - 1)), resort.wake_at()), (None, Some(patience)));
    // Something came: others bring it.
    resort.told(&Fact::FetchProgress { blob, held: 3, size: 9 }, patience);
    assert_eq!(resort.due(patience), None);
    let due = patience + PATIENCE;
    assert_eq!(resort.due(due), Some((blob, 9)));
    // Each failure doubles the wait, up to an hour.
    resort.failed(blob, due);
    assert_eq!(resort.wake_at(), Some(due + PATIENCE * 2));
    for _ in 0..40 {
        resort.failed(blob, due);
    }
    assert_eq!(resort.wake_at(), Some(due + std::time::Duration::from_secs(3600)));
    let sources = vec![(NodeId([1; 32]), 9)];
    resort.told(&Fact::FetchCompleted { blob, size: 9, sources, took_ms: 1 }, due);
    assert_eq!(resort.wake_at(), None);
}

#[test]
fn what_is_left_is_asked_for_no_more_and_what_was_missed_is() {
    let [left, kept, missed] = ["left", "kept", "missed"].map(|name| Hash::of(name.as_bytes()));
    let mut resort = LastResort::default();
    for blob in [left, kept] {
        resort.told(&Fact::FetchStarted { blob, size: 9, held: 0 }, Time(0));
    }
    resort.told(&Fact::FetchLeft { blob: left }, Time(1));
    let due = Time(0) + PATIENCE;
    assert_eq!(resort.due(due), Some((kept, 9)));
    // Who listened too slowly looks at what is fetched by now; the rest waits as before.
    resort.failed(kept, due);
    let again = resort.wake_at();
    resort.fetched(&[(kept, 9), (missed, 5)], due);
    assert_eq!(resort.due(due + PATIENCE), Some((missed, 5)));
    resort.fetched(&[(kept, 9)], due);
    assert_eq!((resort.due(due + PATIENCE), resort.wake_at()), (None, again));
}

/// Gathers what a server has; which files it was asked for.
fn gather(files: &BTreeMap<String, Vec<u8>>, held: Option<Verified>) -> Result<(Option<Vec<u8>>, Vec<String>), String> {
    let (mut gather, mut asked) = (Gather::new(held), Vec::new());
    loop {
        match gather.next().map_err(|error| error.to_string())? {
            Next::File { name, limit } => {
                let file = files.get(&name).filter(|bytes| bytes.len() <= limit).cloned();
                asked.push(name);
                gather.give(file).map_err(|error| error.to_string())?;
            }
            Next::Pack(pack) => return Ok((Some(pack), asked)),
            Next::Nothing => return Ok((None, asked)),
        }
    }
}

#[test]
fn the_files_of_a_repository_become_its_pack_and_what_is_held_is_not_asked_for() {
    let mut shop: Repository = repository::shop();
    repository::publish(&mut shop, "stable", 1);
    let first = verified(&shop, None).unwrap();
    let (pack, asked) = gather(&first.files(), None).unwrap();
    assert_eq!(pack.as_deref(), Some(shop.pack()));
    assert_eq!(asked[..3], ["1.root.json", "2.root.json", "timestamp.json"]);
    let (nothing, asked) = gather(&first.files(), Some(first.clone())).unwrap();
    assert_eq!((nothing, asked), (None, vec!["2.root.json".to_owned(), "timestamp.json".to_owned()]));

    repository::publish(&mut shop, "stable", 2);
    let second = verified(&shop, Some(&first)).unwrap();
    let (pack, _) = gather(&second.files(), Some(first.clone())).unwrap();
    assert_eq!(verify(shop.id(), Some(&first), &pack.unwrap()).unwrap(), second);
}

#[test]
fn files_that_lead_elsewhere_lack_something_or_have_too_much_make_no_pack() {
    let mut shop: Repository = repository::shop();
    repository::publish(&mut shop, "stable", 1);
    let files = verified(&shop, None).unwrap().files();
    let (name, snapshot) = files.iter().find(|(name, _)| name.ends_with(".snapshot.json")).unwrap();
    let bent = |meta: serde_json::Value| {
        let mut value: serde_json::Value = serde_json::from_slice(snapshot).unwrap();
        value["signed"]["meta"].as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
        let mut files = files.clone();
        files.insert(name.clone(), value.to_string().into_bytes());
        gather(&files, None).unwrap_err()
    };
    for name in ["../../etc/passwd.json", "a/b.json", ".json", "A.json", "x"] {
        let error = bent(json!({ name: { "version": 1 } }));
        assert!(error.contains("a role with a name that is none") || error.contains("no JSON"), "{name}: {error}");
    }
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("r{n}.json"), json!({ "version": 1 }))).collect();
    assert!(bent(many.into()).contains("too many roles"));
    assert!(bent(json!({ "gone.json": { "version": 1 } })).contains("there is no 1.gone.json"));
    assert!(gather(&BTreeMap::new(), None).unwrap_err().contains("there is no 1.root.json"));
    let nonsense = BTreeMap::from([("1.root.json".to_owned(), vec![0]), ("timestamp.json".to_owned(), vec![0])]);
    assert!(gather(&nonsense, None).unwrap_err().contains("no JSON"));
}
