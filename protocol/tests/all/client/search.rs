//! Delegations: who is asked for a target, in which order, and who can't be made to answer.

use burr_protocol::trust::{
    TrustError,
    client::{ClientError, MAX_VISITS},
};
use serde_json::json;

use super::forge::{Forge, sha256};

/// Delegations, and the roles that a search asks then, in order.
type Case<'a> = (&'a [(&'a str, &'a str, serde_json::Value)], &'a [&'a str]);

/// A forge with these delegations, `from to`, in their order; each role has a key of its own.
fn graph(edges: &[(&str, &str, serde_json::Value)]) -> Forge {
    let mut forge = Forge::new();
    for (seed, (from, to, more)) in (100..).zip(edges) {
        forge.delegate(from, to, seed, more.clone());
    }
    publish_all(&mut forge);
    forge
}

fn publish_all(forge: &mut Forge) {
    let roles: Vec<String> = forge.signed.keys().cloned().collect();
    let top = ["root", "timestamp", "snapshot"];
    let roles: Vec<&str> = roles.iter().map(String::as_str).filter(|role| !top.contains(role)).collect();
    forge.publish(&roles);
    forge.publish(&["snapshot", "timestamp"]);
}

#[test]
fn roles_are_asked_in_pre_order_and_only_those_that_may_sign() {
    let no = json!({});
    let end = json!({ "terminating": true });
    let py = json!({ "paths": ["*.py"] });
    let cases: &[Case<'_>] = &[
        (&[("targets", "A", no.clone()), ("targets", "B", no.clone())], &["A", "B"]),
        (
            &[
                ("targets", "A", no.clone()),
                ("targets", "B", no.clone()),
                ("A", "C", no.clone()),
                ("A", "D", no.clone()),
            ],
            &["A", "C", "D", "B"],
        ),
        (
            &[
                ("targets", "A", no.clone()),
                ("targets", "B", no.clone()),
                ("A", "C", end.clone()),
                ("A", "D", no.clone()),
            ],
            &["A", "C"],
        ),
        (
            &[("targets", "A", no.clone()), ("targets", "B", no.clone()), ("A", "C", end), ("C", "D", no.clone())],
            &["A", "C", "D"],
        ),
        (&[("targets", "A", py), ("targets", "B", no.clone()), ("A", "C", no.clone())], &["B"]),
        (&[("targets", "A", no.clone()), ("A", "B", no.clone()), ("B", "A", no)], &["A", "B"]),
    ];
    for (edges, order) in cases {
        let forge = graph(edges);
        let mut visitor = forge.newcomer(1);
        assert_eq!(visitor.find(&forge, "missing"), Ok(None));
        let names: Vec<String> = order.iter().map(|role| format!("1.{role}.json")).collect();
        assert_eq!(visitor.asked, names);
        // What was kept is not asked for again.
        assert_eq!(visitor.find(&forge, "missing"), Ok(None));
        assert!(visitor.asked.is_empty(), "{:?}", visitor.asked);
    }
}

#[test]
fn a_target_is_found_by_the_first_role_and_named_by_its_hash() {
    let mut forge =
        graph(&[("targets", "A", json!({ "paths": ["dir/*"] })), ("targets", "B", json!({ "paths": ["dir/*"] }))]);
    forge.add_target("A", "dir/x", b"of A");
    forge.add_target("B", "dir/x", b"of B");
    forge.add_target("A", "elsewhere/x", b"not delegated");
    publish_all(&mut forge);
    let mut visitor = forge.newcomer(1);
    assert_eq!(visitor.find(&forge, "dir/x"), Ok(Some(format!("dir/{}.x", sha256(b"of A")))));
    assert_eq!(visitor.asked, ["2.A.json"]);
    assert_eq!(visitor.find(&forge, "elsewhere/x"), Ok(None));

    let mut client = visitor.refresh(&forge).unwrap();
    client.find("dir/x").unwrap();
    visitor.run(&forge, &mut client).unwrap();
    let target = client.found().unwrap();
    let check = |parts: &[&[u8]]| {
        let mut check = target.check();
        parts.iter().try_for_each(|part| check.update(part)).and_then(|()| check.finish())
    };
    assert_eq!(check(&[b"of", b" A"]), Ok(()));
    for wrong in [&[b"of B" as &[u8]] as &[&[u8]], &[b"of"], &[b"of A", b"!"], &[]] {
        assert!(matches!(check(wrong), Err(TrustError::Mismatch { .. })));
    }
}

#[test]
fn bins_share_paths_by_the_hash_of_the_path() {
    let prefix = sha256(b"some/path")[..2].to_owned();
    let bin = |prefixes| json!({ "paths": null, "path_hash_prefixes": prefixes });
    let forge = graph(&[("targets", "no", bin(json!(["zz"]))), ("targets", "yes", bin(json!([prefix])))]);
    let mut visitor = forge.newcomer(1);
    assert_eq!(visitor.find(&forge, "some/path"), Ok(None));
    assert_eq!(visitor.asked, ["1.yes.json"]);
}

#[test]
fn a_search_visits_so_many_roles_and_no_more() {
    for (count, bounded) in [(MAX_VISITS, false), (MAX_VISITS + 1, true)] {
        let names: Vec<String> = (0..count).map(|at| format!("r{at}")).collect();
        let edges: Vec<_> = names.iter().map(|name| ("targets", name.as_str(), json!({}))).collect();
        let forge = graph(&edges);
        let mut visitor = forge.newcomer(1);
        let result = visitor.find(&forge, "missing");
        assert_eq!(matches!(result, Err(ClientError::TooManyRoles { .. })), bounded, "{result:?}");
        assert_eq!(visitor.asked.len(), MAX_VISITS);
    }
}

#[test]
fn a_role_that_is_kept_is_judged_again_by_each_who_delegates_to_it() {
    let mut forge = graph(&[
        ("targets", "a", json!({ "paths": ["a/*"] })),
        ("targets", "b", json!({ "paths": ["b/*"] })),
        ("a", "shared", json!({ "paths": ["a/*"] })),
        ("b", "shared", json!({ "paths": ["b/*"] })),
    ]);
    forge.signers.get_mut("shared").unwrap().truncate(1);
    forge.add_target("shared", "a/x", b"a");
    forge.add_target("shared", "b/x", b"b");
    publish_all(&mut forge);
    let mut visitor = forge.newcomer(1);
    let mut client = visitor.refresh(&forge).unwrap();
    client.find("a/x").unwrap();
    visitor.run(&forge, &mut client).unwrap();
    assert!(client.found().is_some());
    client.find("b/x").unwrap();
    let error = visitor.run(&forge, &mut client).unwrap_err();
    assert!(matches!(error, ClientError::Refused(TrustError::Forged { .. })), "{error}");
    assert!(client.found().is_none());
    // From the directory too.
    assert!(visitor.find(&forge, "b/x").is_err());
}

#[test]
fn a_role_that_the_snapshot_does_not_name_is_not_asked_for() {
    let mut forge = Forge::new();
    forge.delegate("targets", "a", 20, json!({}));
    forge.publish(&["targets", "snapshot", "timestamp"]);
    let mut visitor = forge.newcomer(1);
    let error = visitor.find(&forge, "x").unwrap_err();
    assert!(matches!(error, ClientError::Refused(TrustError::Mismatch { .. })), "{error}");
    assert!(visitor.asked.is_empty());
}

#[test]
fn delegations_of_no_tuf_form_are_refused() {
    let bends = [
        json!({ "name": "root" }),
        json!({ "name": "" }),
        json!({ "name": "/".repeat(100) }),
        json!({ "path_hash_prefixes": ["00"] }),
        json!({ "paths": null }),
        json!({ "threshold": 0 }),
        json!({ "keyids": ["x", "x"] }),
    ];
    for bend in bends {
        let mut forge = Forge::new();
        forge.delegate("targets", "a", 20, bend.clone());
        forge.publish(&["targets", "snapshot", "timestamp"]);
        let mut visitor = forge.newcomer(1);
        assert!(visitor.refresh(&forge).is_err(), "{bend}");
        assert_eq!(visitor.versions(), [1, 2, 2, 0], "{bend}");
    }
    let mut forge = Forge::new();
    forge.delegate("targets", "a", 20, json!({}));
    forge.delegate("targets", "a", 21, json!({}));
    forge.publish(&["targets", "snapshot", "timestamp"]);
    assert!(forge.newcomer(1).refresh(&forge).is_err());
}

#[test]
fn an_odd_role_name_is_encoded_and_a_target_needs_a_known_hash() {
    let mut forge = graph(&[("targets", "../odd ?", json!({}))]);
    let bytes = forge.served.remove("1.../odd ?.json").unwrap();
    forge.served.insert("1...%2Fodd%20%3F.json".to_owned(), bytes);
    let mut visitor = forge.newcomer(1);
    assert_eq!(visitor.find(&forge, "x"), Ok(None));
    assert_eq!(visitor.asked, ["1...%2Fodd%20%3F.json"]);

    forge["targets"]["targets"]["x"] = json!({ "length": 1, "hashes": { "moon": "00" } });
    forge.publish(&["targets", "snapshot", "timestamp"]);
    assert!(visitor.find(&forge, "x").is_err());
}
