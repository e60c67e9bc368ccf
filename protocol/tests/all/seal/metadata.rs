//! Sealed releases and lists of keys in signed metadata: what is read, what is refused, and what drafts say of them.

use burr_protocol::{
    Hash,
    release::{Payload, Release},
    seal::{Epoch, EpochKey, Lock, MAX_KEYS, Owner, ReleaseKey, SUITE, Sealed},
    trust::{
        TrustError,
        write::{Draft, Repository, WriteError},
    },
};
use serde_json::{Value, json};

use crate::{
    member::{enroller, fleet_shop},
    trust::repository::{Bent, NOW, bent, keys, release},
};

fn list(epoch: u64) -> Payload {
    Payload { blob: Hash::of(&epoch.to_be_bytes()), size: 16 + 96 * epoch }
}

fn begin(shop: &mut Repository, epoch: u64) -> Result<(), WriteError> {
    let draft = shop.propose_keys("stores", epoch, &list(epoch), [7; 32], NOW)?;
    let draft = Draft::decode(&draft.encode())?;
    let said: Vec<_> = draft.differences().iter().map(ToString::to_string).collect();
    assert_eq!(said, [format!("epoch {epoch} of fleet stores, whose key {epoch} devices get")]);
    let solo = keys();
    let enroller = enroller();
    let all: Vec<_> = solo.all().into_iter().chain([&enroller]).collect();
    shop.sign_and_submit(draft, &all, NOW)
}

fn sealed_release(shop: &Repository, seq: u64) -> Release {
    let epoch = Epoch { repository: shop.id(), fleet: "stores".to_owned(), number: 1 };
    let owner = Owner { epoch, app: "shop".to_owned(), channel: "stable".to_owned(), seq };
    let key = EpochKey::from_bytes([5; 32]).wrap(&ReleaseKey::new(owner, [6; 32]), [7; 24]);
    let (fleet, channel, suite) = ("stores".to_owned(), "stable".to_owned(), SUITE.to_owned());
    Release { enc: Some(Sealed { fleet, epoch: 1, channel, seq, suite, key }), ..release("stable", seq) }
}

fn listed(shop: &Repository) -> Vec<u64> {
    shop.verified().keys().map(|(epoch, _)| epoch.number).collect()
}

#[test]
fn epochs_follow_on_each_other_and_the_newest_eight_are_listed() {
    // §12.8
    let mut shop = fleet_shop();
    assert!(matches!(begin(&mut shop, 2), Err(WriteError::EpochNotNext { newest: 0, offered: 2, .. })));
    (1..=10).for_each(|epoch| begin(&mut shop, epoch).unwrap());
    assert!(matches!(begin(&mut shop, 10), Err(WriteError::EpochNotNext { newest: 10, offered: 10, .. })));
    assert_eq!(listed(&shop), (3..=10).collect::<Vec<_>>());
    let (epoch, newest) = shop.verified().keys().last().unwrap();
    assert_eq!(epoch, Epoch { repository: shop.id(), fleet: "stores".to_owned(), number: 10 });
    assert_eq!(*newest, list(10));
    assert!(matches!(shop.propose_keys("vans", 1, &list(1), [7; 32], NOW), Err(WriteError::UnknownRole(_))));
}

#[test]
fn a_list_of_keys_that_breaks_a_rule_is_refused() {
    // §12.8
    let mut shop = fleet_shop();
    begin(&mut shop, 1).unwrap();
    let path = "fleet/stores/epoch-1.keys";
    let bends: [fn(&mut Value, &str); 8] = [
        |signed, path| signed["targets"][path]["custom"]["epoch"] = json!(2),
        |signed, path| signed["targets"][path]["custom"]["v"] = json!(2),
        |signed, path| signed["targets"][path]["custom"]["more"] = json!(1),
        |signed, path| signed["targets"][path]["custom"]["blob"] = json!("00"),
        |signed, path| signed["targets"][path]["length"] = json!(MAX_KEYS + 1),
        |signed, path| signed["targets"][path]["hashes"] = json!({ "sha512": "00" }),
        |signed, path| signed["targets"]["fleet/stores/epoch-2.keys"] = signed["targets"][path].clone(),
        |signed, path| {
            for epoch in 2..=9 {
                let mut more = signed["targets"][path].clone();
                more["custom"]["epoch"] = json!(epoch);
                signed["targets"][format!("fleet/stores/epoch-{epoch}.keys")] = more;
            }
        },
    ];
    for (number, bend) in bends.iter().enumerate() {
        let mut pack = Bent::of(&shop);
        let document = pack.delegated.get_mut("fleet.stores").unwrap();
        *document = bent(document, |signed| bend(signed, path), &[&enroller()]);
        pack.pin();
        let refused = pack.verify(None);
        assert!(matches!(refused, Err(TrustError::Malformed { .. })), "{number}: {refused:?}");
    }
}

#[test]
fn a_sealed_release_says_what_opens_it() {
    // §12.8
    let mut shop = fleet_shop();
    let sealed = sealed_release(&shop, 1);
    shop.release(&sealed, [1; 32], &keys(), NOW).unwrap();
    let read = shop.newest("stable").unwrap();
    assert_eq!(*read, sealed);
    let Lock { owner, key } = read.lock(shop.id()).unwrap();
    assert_eq!((owner.seq, owner.channel.as_str(), owner.epoch.number), (1, "stable", 1));
    assert!(EpochKey::from_bytes([5; 32]).unwrap(&Lock { owner, key }).is_ok());
    assert!(release("stable", 1).lock(shop.id()).is_none());
}

#[test]
fn sealing_that_breaks_a_rule_is_refused_and_other_algorithms_are_no_lie() {
    // §12.8
    let mut shop = fleet_shop();
    let sealed = sealed_release(&shop, 1);
    shop.release(&sealed, [1; 32], &keys(), NOW).unwrap();
    let bend = |bend: fn(&mut Value)| {
        let mut pack = Bent::of(&shop);
        pack.bend_stable(|signed| bend(&mut signed["targets"]["app/shop/stable/1.burr"]["custom"]["enc"]));
        pack.verify(None)
    };
    let future = bend(|enc| enc["suite"] = json!("aes-of-tomorrow"));
    assert!(matches!(&future, Err(error @ TrustError::Unsupported { .. }) if !error.is_lie()), "{future:?}");
    let bends: [fn(&mut Value); 7] = [
        |enc| enc["epoch"] = json!(0),
        |enc| enc["seq"] = json!(0),
        |enc| enc["fleet"] = json!("../etc"),
        |enc| enc["channel"] = json!("a/b"),
        |enc| enc["key"] = json!("00"),
        |enc| enc["more"] = json!(1),
        |enc| *enc = Value::Null,
    ];
    for (number, broken) in bends.into_iter().enumerate() {
        let refused = bend(broken);
        assert!(matches!(&refused, Err(TrustError::Release { .. })), "{number}: {refused:?}");
    }
}
