//! Fleets, as stories: who enrols is decided by the targets, who belongs by a certificate, and a revocation holds
//! wherever the metadata has come. Rule numbers are those of `protocol/README.md`.

mod enrol;

use std::collections::BTreeSet;

use burr_protocol::{
    NodeId, SealKey, Wall,
    member::{Capability, Certificate, MAX_CERTIFICATE, MemberError, admit},
    trust::{
        TrustError, Verified, verify,
        write::{Change, Difference, Draft, Repository, Role, WriteError, sign},
    },
};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::{
    ceremony::change,
    trust::repository::{Bent, NOW, bent, hex, key, keys, shop},
};

const DAY: i64 = 24 * 60 * 60;

/// The key that enrols.
pub(crate) fn enroller() -> SigningKey {
    key(40)
}

pub(crate) fn device() -> SigningKey {
    key(50)
}

pub(crate) fn node(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

pub(crate) fn fleets(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn add_fleet(shop: &mut Repository, fleet: &str, keys: &[&SigningKey], threshold: usize) {
    let public = keys.iter().map(|key| key.verifying_key()).collect();
    change(shop, &Change::AddFleet { fleet: fleet.to_owned(), keys: public, threshold }, keys);
}

/// A shop with the fleet `stores`.
pub(crate) fn fleet_shop() -> Repository {
    let mut shop = shop();
    add_fleet(&mut shop, "stores", &[&enroller()], 1);
    shop
}

pub(crate) fn certificate(shop: &Repository) -> Certificate {
    Certificate {
        repository: shop.id(),
        fleet: "stores".to_owned(),
        node: node(&device()),
        seal_key: SealKey([9; 32]),
        groups: ["berlin".to_owned()].into(),
        capabilities: [Capability::Device, Capability::Relay].into(),
        serial: 3,
        not_after: Wall(NOW.0 + DAY),
    }
}

fn revoke(shop: &mut Repository, serial: u64) -> Result<(), WriteError> {
    let draft = shop.propose_revocation("stores", node(&device()), serial, NOW)?;
    let draft = Draft::decode(&draft.encode())?;
    let said: Vec<_> = draft.differences().iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].starts_with("revoke "), "{said:?}");
    let solo = keys();
    let enroller = enroller();
    let all: Vec<_> = solo.all().into_iter().chain([&enroller]).collect();
    shop.sign_and_submit(draft, &all, NOW)
}

fn judge(shop: &Repository, bytes: &[u8]) -> Result<Certificate, MemberError> {
    admit(shop.verified(), &fleets(&["stores"]), bytes, node(&device()), NOW)
}

#[test]
fn a_member_is_admitted_by_its_certificate() {
    // §13.3
    let shop = fleet_shop();
    let bytes = certificate(&shop).sign(&[&enroller()]).unwrap();
    assert_eq!(judge(&shop, &bytes), Ok(certificate(&shop)));
    // The fleet survives a file and a pack, and a device that held nothing of it.
    let again = Repository::open(|name| shop.files().get(name).cloned()).unwrap();
    assert_eq!(judge(&again, &bytes), Ok(certificate(&shop)));
    assert_eq!(Role::Fleet("stores".to_owned()).to_string().parse(), Ok(Role::Fleet("stores".to_owned())));
}

#[test]
fn stolen_foreign_forged_and_expired_certificates_are_refused() {
    // §13.3
    let mut shop = fleet_shop();
    add_fleet(&mut shop, "vans", &[&key(41)], 1);
    add_fleet(&mut shop, "tills", &[&key(42), &key(43)], 2);
    let good = certificate(&shop);
    let bytes = good.sign(&[&enroller()]).unwrap();
    let all = fleets(&["stores", "tills"]);
    let judge = |bytes: &[u8], at| admit(shop.verified(), &all, bytes, node(&device()), at);
    // Shown by another node than it names.
    let thief = admit(shop.verified(), &all, &bytes, node(&key(51)), NOW);
    assert!(matches!(thief, Err(MemberError::Stolen { .. })), "{thief:?}");
    // Of a fleet that has no say, one that there is not, and another repository.
    let other = Certificate { fleet: "vans".to_owned(), ..good.clone() }.sign(&[&key(41)]).unwrap();
    assert!(matches!(judge(&other, NOW), Err(MemberError::Foreign { .. })));
    let gone = admit(shop.verified(), &fleets(&["ships"]), &bytes, node(&device()), NOW);
    assert!(matches!(gone, Err(MemberError::Foreign { .. })));
    let elsewhere = Certificate { repository: burr_protocol::RepositoryId([1; 32]), ..good.clone() };
    assert!(matches!(judge(&elsewhere.sign(&[&enroller()]).unwrap(), NOW), Err(MemberError::Foreign { .. })));
    // By another key, by the key of another fleet, by nobody, by one of two, and by one twice.
    let forged = |bytes: &[u8]| assert!(matches!(judge(bytes, NOW), Err(MemberError::Forged { .. })));
    forged(&good.sign(&[&key(99)]).unwrap());
    forged(&good.sign(&[&key(41)]).unwrap());
    forged(&good.sign(&[]).unwrap());
    forged(&good.sign(&[&enroller(), &key(99)]).unwrap());
    let tills = Certificate { fleet: "tills".to_owned(), ..good.clone() };
    forged(&tills.sign(&[&key(42)]).unwrap());
    assert_eq!(judge(&tills.sign(&[&key(42), &key(43)]).unwrap(), NOW), Ok(tills));
    // A word changed after signing.
    let text = String::from_utf8(bytes.clone()).unwrap().replace("berlin", "munich");
    forged(text.as_bytes());
    // It counts to its last second, and no longer.
    assert!(judge(&bytes, good.not_after).is_ok());
    let late = judge(&bytes, Wall(good.not_after.0 + 1));
    assert_eq!(late, Err(MemberError::Expired(good.not_after)));
    assert!(late.unwrap_err().to_string().contains("was good until 20"));
}

#[test]
fn a_certificate_has_one_spelling_within_bounds() {
    // §13.2
    let shop = fleet_shop();
    let good = certificate(&shop);
    let bytes = good.sign(&[&enroller()]).unwrap();
    let signed = |bend: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        bend(&mut value["signed"]);
        sign(&value["signed"], &[&enroller()])
    };
    let bends: [&dyn Fn(&mut Value); 11] = [
        &|signed| signed["serial"] = json!(0),
        &|signed| signed["serial"] = json!(1u64 << 53),
        &|signed| signed["v"] = json!(2),
        &|signed| signed["more"] = json!(1),
        &|signed| signed["groups"] = json!(["b", "a"]),
        &|signed| signed["groups"] = json!(["../x"]),
        &|signed| signed["groups"] = json!((0..17).map(|n| format!("g{n:02}")).collect::<Vec<_>>()),
        &|signed| signed["capabilities"] = json!([]),
        &|signed| signed["capabilities"] = json!(["king"]),
        &|signed| signed["not_after"] = json!("2030-01-01"),
        &|signed| signed["node"] = json!(hex(&[7; 31])),
    ];
    for (at, bend) in bends.iter().enumerate() {
        let read = Certificate::read(&signed(*bend));
        assert!(matches!(read, Err(MemberError::Malformed(_))), "{at}: {read:?}");
    }
    assert!(Certificate::read(&[b' '; MAX_CERTIFICATE + 1]).is_err());
    assert!(Certificate::read(&[b"[".repeat(5000), b"]".repeat(5000)].concat()).is_err());
    for cut in 0..bytes.len() {
        assert!(Certificate::read(&bytes[..cut]).is_err());
    }
    let too_late = Certificate { not_after: Wall(i64::MAX), ..good };
    assert!(too_late.sign(&[&enroller()]).is_err());
}

#[test]
fn a_revoked_member_is_none_until_it_is_enrolled_anew() {
    // §13.4
    let mut shop = fleet_shop();
    let bytes = certificate(&shop).sign(&[&enroller()]).unwrap();
    let before = shop.verified().clone();
    revoke(&mut shop, 3).unwrap();
    assert_eq!(judge(&shop, &bytes), Err(MemberError::Revoked));
    let fleet = shop.verified().fleet("stores").unwrap();
    assert_eq!((fleet.revoked.seq(), fleet.revoked.iter().collect::<Vec<_>>()), (1, vec![(node(&device()), 3)]));
    // Whoever holds the older metadata learns it from the pack.
    let learned = verify(shop.id(), Some(&before), shop.pack()).unwrap();
    assert_eq!(admit(&learned, &fleets(&["stores"]), &bytes, node(&device()), NOW), Err(MemberError::Revoked));
    assert!(matches!(revoke(&mut shop, 3), Err(WriteError::NotRevocable { .. })), "there is nothing more to revoke");
    let anew = Certificate { serial: 4, ..certificate(&shop) }.sign(&[&enroller()]).unwrap();
    assert!(judge(&shop, &anew).is_ok());
    revoke(&mut shop, 4).unwrap();
    assert_eq!(judge(&shop, &anew), Err(MemberError::Revoked));
}

#[test]
fn only_the_fleets_own_keys_revoke_and_a_draft_hides_nothing() {
    // §13.4, §4 (drafts)
    let mut shop = fleet_shop();
    add_fleet(&mut shop, "vans", &[&key(41)], 1);
    let draft = shop.propose_revocation("stores", node(&device()), 3, NOW).unwrap();
    assert_eq!(draft.missing()[0].role, Role::Fleet("stores".to_owned()));
    let mut by_others = draft.clone();
    by_others.sign_where_named(&[&key(41), &key(2), &key(1)]);
    assert!(matches!(shop.submit(&by_others, &keys().all(), NOW), Err(WriteError::Unsigned(_))));
    let one = &draft.differences()[0];
    assert!(matches!(one, Difference::Revoked { serial: 3, seq: 1, .. }), "{one}");
    // A second revocation, or anything else, beside the one that it shows.
    let mut file: Value = serde_json::from_slice(&draft.encode()).unwrap();
    let target = "fleet/stores/revoked.json";
    let more = json!({ "node": hex(&[255; 32]), "serial": 1 });
    let signed = &mut file["documents"][0]["document"]["signed"];
    signed["targets"][target]["custom"]["revoked"].as_array_mut().unwrap().push(more);
    let custom = serde_json::to_vec(&signed["targets"][target]["custom"]).unwrap();
    signed["targets"][target]["length"] = json!(custom.len());
    signed["targets"][target]["hashes"] = json!({ "sha256": sha256(&custom) });
    let refused = Draft::decode(&serde_json::to_vec(&file).unwrap());
    assert!(matches!(refused, Err(WriteError::Draft(_))), "{refused:?}");
}

/// A pack whose fleet's document says something else, signed by the right keys.
fn bend_fleet(shop: &Repository, bend: impl FnOnce(&mut Value)) -> Bent {
    let mut pack = Bent::of(shop);
    let document = pack.delegated.get_mut("fleet.stores").unwrap();
    *document = bent(document, bend, &[&enroller()]);
    pack.pin();
    pack
}

fn later(signed: &mut Value) {
    signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
}

#[test]
fn a_list_of_revocations_never_goes_back() {
    // §13.4
    let mut shop = fleet_shop();
    let first = shop.verified().clone();
    revoke(&mut shop, 3).unwrap();
    let held: Verified = shop.verified().clone();
    // The fleet's own key signs a newer document without the list.
    let mut pack = bend_fleet(&shop, |signed| {
        later(signed);
        signed["targets"] = json!({});
    });
    pack.snapshot = bent(&pack.snapshot, later, &[&key(3)]);
    pack.timestamp = bent(&pack.timestamp, later, &[&key(4)]);
    pack.pin_snapshot();
    let refused = pack.verify(Some(&held)).unwrap_err();
    assert!(matches!(&refused, TrustError::Rollback { document, held: 1, offered: 0 } if document.contains("stores")));
    assert!(!refused.is_lie());
    assert!(pack.verify(Some(&first)).is_ok(), "who never saw the list can't know");
}

#[test]
fn a_fleets_document_has_one_form() {
    // §13.4
    let mut shop = fleet_shop();
    revoke(&mut shop, 3).unwrap();
    let target = "fleet/stores/revoked.json";
    let bends: [&dyn Fn(&mut Value); 8] = [
        &|signed| signed["targets"]["fleet/stores/other"] = signed["targets"][target].clone(),
        &|signed| signed["targets"][target]["custom"]["seq"] = json!(0),
        &|signed| signed["targets"][target]["custom"]["v"] = json!(2),
        &|signed| signed["targets"][target]["custom"]["fleet"] = json!("vans"),
        &|signed| signed["targets"][target]["custom"]["revoked"] = json!([]),
        &|signed| signed["targets"][target]["length"] = json!(1),
        &|signed| signed["targets"][target]["hashes"] = json!({ "sha256": hex(&[0; 32]) }),
        &|signed| signed["delegations"] = json!({ "keys": {}, "roles": [] }),
    ];
    for (at, bend) in bends.iter().enumerate() {
        let refused = bend_fleet(&shop, |signed| bend(signed)).verify(None);
        assert!(matches!(refused, Err(TrustError::Malformed { .. })), "{at}: {refused:?}");
    }
    assert!(bend_fleet(&shop, |_| ()).verify(None).is_ok());
}

#[test]
fn a_delegation_of_another_shape_is_no_fleet() {
    // §4.6
    let shop = fleet_shop();
    let bends: [&dyn Fn(&mut Value); 4] = [
        &|role| role["name"] = json!("fleet.vans"),
        &|role| role["paths"] = json!(["fleet/stores/*", "app/shop/stable/*"]),
        &|role| role["paths"] = json!(["fleet/*"]),
        &|role| role["terminating"] = json!(false),
    ];
    for (at, bend) in bends.iter().enumerate() {
        let mut pack = Bent::of(&shop);
        pack.bend_targets(|signed| bend(signed["delegations"]["roles"].as_array_mut().unwrap().last_mut().unwrap()));
        assert!(pack.verify(None).is_err(), "{at}");
    }
    let mut pack = Bent::of(&shop);
    let target = json!({ "length": 1, "hashes": { "sha256": hex(&[0; 32]) } });
    pack.bend_targets(|signed| signed["targets"]["fleet/stores/revoked.json"] = target);
    assert!(pack.verify(None).is_err(), "the targets speak for no fleet themselves");
}

fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::read(&bytes);
    }
}
