//! What a stranger can make a reader do before it knows who signed is bounded, and so are the words about it.

use burr_protocol::trust::{TrustError, write::sign};
use serde_json::{Value, json};

use super::repository::{Bent, bent, key, shop};

/// Root 2 as a stranger makes it, behind the true root 1.
fn stranger(bend: impl FnOnce(&mut Value)) -> TrustError {
    let mut forged = Bent::of(&shop());
    let next = |signed: &mut Value| {
        signed["version"] = json!(2);
        bend(signed);
    };
    forged.roots.push(bent(&forged.roots[0], next, &[&key(66)]));
    forged.verify(None).unwrap_err()
}

#[test]
fn a_root_that_names_very_many_keys_is_refused_before_they_are_compared() {
    // §4.4: 512 KiB of short names, which took seconds when each was compared with all before it.
    let names: Vec<String> = (0..60_000).map(|number| format!("{number:x}")).collect();
    let error = stranger(|signed| signed["roles"]["root"]["keyids"] = json!(names));
    assert!(error.to_string().contains("more than 32 keys"), "{error}");
    let names: Vec<String> = (0..33).map(|number| format!("{number:064x}")).collect();
    let error = stranger(|signed| signed["roles"]["x"] = json!({ "keyids": names, "threshold": 1 }));
    assert!(error.to_string().contains("more than 32 keys"), "{error}");
}

#[test]
fn a_document_has_at_most_as_many_signatures_as_two_roles_have_keys() {
    // §4.4
    let mut forged = Bent::of(&shop());
    let keys: Vec<_> = (100..165).map(key).collect();
    let mut signed: Value = serde_json::from_slice(&forged.roots[0]).unwrap();
    signed["signed"]["version"] = json!(2);
    forged.roots.push(sign(&signed["signed"], &keys.iter().collect::<Vec<_>>()));
    let error = forged.verify(None).unwrap_err();
    assert!(error.to_string().contains("more than 64 signatures") && error.is_lie(), "{error}");
}

#[test]
fn what_is_told_of_a_refused_document_is_short_however_long_it_is() {
    let long = "x".repeat(200_000);
    let errors = [
        stranger(|signed| signed["version"] = json!(long)),
        stranger(|signed| signed["expires"] = json!(long)),
        stranger(|signed| signed["roles"][&long] = json!({ "keyids": [], "threshold": 1 })),
        stranger(|signed| signed["keys"][&long] = json!({ "keytype": long, "keyval": {} })),
        stranger(|signed| signed["_type"] = json!(long)),
    ];
    for error in errors {
        assert!(error.to_string().len() < 500, "{} bytes", error.to_string().len());
    }
}

#[test]
fn a_repository_is_of_one_app() {
    // §4.6
    let two_apps = |signed: &mut Value| {
        let roles = signed["delegations"]["roles"].as_array_mut().unwrap();
        roles[0]["name"] = json!("app.bank.beta");
        roles[0]["paths"] = json!(["app/bank/beta/*"]);
    };
    let mut forged = Bent::of(&shop());
    let beta = forged.delegated.remove("app.shop.beta").unwrap();
    forged.delegated.insert("app.bank.beta".to_owned(), beta);
    forged.bend_targets(two_apps);
    let error = forged.verify(None).unwrap_err();
    assert!(error.to_string().contains("channels of 2 apps"), "{error}");

    let mut forged = Bent::of(&shop());
    forged.delegated.clear();
    forged.bend_targets(|signed| signed["delegations"]["roles"] = json!([]));
    let error = forged.verify(None).unwrap_err();
    assert!(error.to_string().contains("channels of 0 apps"), "{error}");
}
