//! Metadata that must not be believed, offered over the wire by a stranger, or by one who stole keys.

use burr_protocol::{
    Hash, NodeId, RepositoryId, Wall,
    peers::Lie,
    trust::write::{Change, Keys, Role},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    DAY, Desk, Device, EPOCH, Hands,
    rogue::Rogue,
    shop::{Bent, Shop, bent, bytes_below, in_words, key, keys, next},
};

/// A shop, and a device on which its version 1.0.0 is active.
async fn installed(desk: &Desk) -> (Shop, Device) {
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    (shop, device)
}

/// Refused, and whoever sent it is a liar.
#[track_caller]
fn a_lie(verdict: &(Lie, String), words: &str) {
    assert_eq!(verdict.0, Lie::ForgedMetadata, "{verdict:?}");
    assert!(verdict.1.contains(words), "{verdict:?} does not say {words:?}");
}

/// Not believed, and nobody's fault who carries it: it was refused only for the garbage after it.
#[track_caller]
fn no_lie(verdict: &(Lie, String)) {
    assert_eq!(verdict.0, Lie::Garbage, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t01_what_strangers_sign_installs_nothing() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    // A whole repository of the same name, by other keys.
    let mut theirs = keys();
    theirs.root = Some(key(66));
    let mut other = Shop::open_with(theirs, EPOCH);
    other.release("6.6.6");
    a_lie(&device.refuses(shop.id(), other.pack()).await, "expected");
    // The true roots, and each document below them signed by a stranger.
    shop.release("2.0.0");
    let thief = key(66);
    for role in ["timestamp", "snapshot", "targets", "channel"] {
        let mut forged = Bent::of(&shop.pack());
        let (snapshot, timestamp) = (key(3), key(4));
        match role {
            "timestamp" => forged.timestamp = bent(&forged.timestamp, &[&thief], next),
            "snapshot" => forged.pin(&thief, &timestamp),
            "targets" => {
                forged.targets = bent(&forged.targets, &[&thief], next);
                forged.pin(&snapshot, &timestamp);
            }
            _ => {
                forged.bend_stable(&[&thief], next);
                forged.pin(&snapshot, &timestamp);
            }
        }
        a_lie(&device.refuses(shop.id(), forged.pack()).await, "not signed");
    }
    // The honest news is taken all the same.
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t04_a_version_run_ahead_by_a_stolen_key_is_rotated_away() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let mut ahead = Bent::of(&shop.pack());
    let last = (1_u64 << 53) - 1;
    ahead.timestamp = bent(&ahead.timestamp, &[&key(4)], |signed| signed["version"] = json!(last));
    no_lie(&device.judge(shop.id(), ahead.pack()).await);
    device.hear_verified(last).await;
    // Now nothing is newer.
    shop.release("2.0.0");
    no_lie(&device.refuses(shop.id(), shop.pack()).await);
    // Not even one more: versions end there.
    let mut beyond = Bent::of(&shop.pack());
    beyond.timestamp = bent(&beyond.timestamp, &[&key(4)], |signed| signed["version"] = json!(last + 1));
    a_lie(&device.refuses(shop.id(), beyond.pack()).await, "version");
    shop.rotate(Role::Timestamp, 40);
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    assert_eq!(device.version().await, Some(shop.version()));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t07_documents_of_two_states_are_not_mixed() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let old = Bent::of(&shop.pack());
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    shop.release("3.0.0");
    for part in ["snapshot", "targets", "channel"] {
        let mut mixed = Bent::of(&shop.pack());
        match part {
            "snapshot" => mixed.snapshot = old.snapshot.clone(),
            "targets" => mixed.targets = bent(&old.targets, &[&key(66)], |_| {}),
            _ => mixed.channels = old.channels.clone(),
        }
        a_lie(&device.refuses(shop.id(), mixed.pack()).await, "not the one that the signed metadata names");
    }
    // Whoever stole the keys of snapshot and timestamp can name an old document, but not to who saw a newer one.
    let mut mixed = Bent::of(&shop.pack());
    mixed.channels = old.channels.clone();
    mixed.pin(&key(3), &key(4));
    no_lie(&device.refuses(shop.id(), mixed.pack()).await);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t08_older_metadata_is_not_taken_back() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let old = shop.pack();
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    no_lie(&device.refuses(shop.id(), old.clone()).await);
    // Nor after a restart.
    device.stop().await;
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    no_lie(&device.refuses(shop.id(), old).await);
    assert_eq!(device.active().await.as_deref(), Some("2.0.0"));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_channel_key_that_was_stolen_and_revoked_releases_nothing() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let stolen = key(6);
    shop.rotate(Role::Channel("stable".to_owned()), 60);
    device.import(&shop).await;
    device.hear_verified(shop.version()).await;
    // With the channel's old key and even both online keys.
    let mut forged = Bent::of(&shop.pack());
    forged.bend_stable(&[&stolen], next);
    forged.pin(&key(3), &key(4));
    a_lie(&device.refuses(shop.id(), forged.pack()).await, "app.shop.stable");
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_root_that_skips_a_version_is_refused() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    shop.rotate(Role::Root, 10);
    shop.rotate(Role::Root, 11);
    let mut skipping = Bent::of(&shop.pack());
    skipping.roots.remove(1);
    a_lie(&device.refuses(shop.id(), skipping.pack()).await, "version 2 must stand here");
    // A next root by its own new keys alone, without the old ones.
    let mut own = Bent::of(&shop.pack());
    own.roots.truncate(1);
    own.roots.push(bent(&own.roots[0], &[&key(66)], |signed| {
        next(signed);
        signed["roles"]["root"]["threshold"] = json!(1);
    }));
    a_lie(&device.refuses(shop.id(), own.pack()).await, "root 2 is not signed");
    device.import(&shop).await;
    device.hear_verified(shop.version()).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_stolen_of_two_releases_nothing() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let second = key(61);
    let role = Role::Channel("stable".to_owned());
    shop.change(&Change::AddKeys { role, keys: vec![second.verifying_key()], threshold: Some(2) }, &second);
    device.import(&shop).await;
    device.hear_verified(shop.version()).await;
    for stolen in [key(6), second.clone()] {
        let mut forged = Bent::of(&shop.pack());
        forged.bend_stable(&[&stolen], next);
        forged.pin(&key(3), &key(4));
        a_lie(&device.refuses(shop.id(), forged.pack()).await, "app.shop.stable");
    }
    // Two signatures by one key are one.
    let mut forged = Bent::of(&shop.pack());
    forged.bend_stable(&[&key(6)], next);
    let document = forged.channels.get_mut("app.shop.stable").unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(document).unwrap();
    let signature = value["signatures"][0].clone();
    value["signatures"] = json!([signature, signature]);
    *document = serde_json::to_vec(&value).unwrap();
    forged.pin(&key(3), &key(4));
    a_lie(&device.refuses(shop.id(), forged.pack()).await, "app.shop.stable");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stolen_online_keys_keep_a_release_fresh_and_make_none() {
    let desk = Desk::new();
    let (shop, mut device) = installed(&desk).await;
    let online = (key(3), key(4));
    let mut renewed = Bent::of(&shop.pack());
    renewed.pin(&online.0, &online.1);
    no_lie(&device.judge(shop.id(), renewed.pack()).await);
    device.hear_verified(shop.version() + 1).await;
    for role in ["root", "targets", "stable"] {
        let mut forged = Bent::of(&renewed.pack());
        match role {
            "root" => forged.roots.push(bent(&forged.roots[0], &[&online.0, &online.1], next)),
            "targets" => forged.targets = bent(&forged.targets, &[&online.0], next),
            _ => forged.bend_stable(&[&online.1], next),
        }
        forged.pin(&online.0, &online.1);
        a_lie(&device.refuses(shop.id(), forged.pack()).await, "not signed");
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_t32_a_release_counts_for_its_own_app_channel_and_repository_alone() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    shop.release_tree("beta", "9.0.0", &[("index.html", b"beta")]);
    let online = (key(3), key(4));
    // Another app's release, by the hand that may sign this app's.
    let mut other_app = Bent::of(&shop.pack());
    other_app.bend_stable(&[&key(6)], |signed| {
        next(signed);
        signed["targets"]["app/shop/stable/1.burr"]["custom"]["app"] = json!("till");
    });
    other_app.pin(&online.0, &online.1);
    a_lie(&device.refuses(shop.id(), other_app.pack()).await, "signed by the role of shop/stable");
    // The true document of beta, with its true signature, as that of stable.
    let mut other_channel = Bent::of(&shop.pack());
    let beta = other_channel.channels["app.shop.beta"].clone();
    other_channel.channels.insert("app.shop.stable".to_owned(), beta);
    other_channel.pin(&online.0, &online.1);
    a_lie(&device.refuses(shop.id(), other_channel.pack()).await, "app.shop.stable");
    // Beta's release in stable's document, even signed by stable's key: its path says where it belongs.
    let mut moved = Bent::of(&shop.pack());
    let beta: serde_json::Value = serde_json::from_slice(&moved.channels["app.shop.beta"]).unwrap();
    moved.bend_stable(&[&key(6)], |signed| {
        next(signed);
        signed["targets"]["app/shop/stable/1.burr"] = beta["signed"]["targets"]["app/shop/beta/1.burr"].clone();
    });
    moved.pin(&online.0, &online.1);
    a_lie(&device.refuses(shop.id(), moved.pack()).await, "signed by the role of shop/stable");
    // A repository of the same app, channels and keys below the root: another fleet's.
    let mut theirs = keys();
    theirs.root = Some(key(7));
    let mut fleet = Shop::open_with(theirs, EPOCH);
    fleet.release("9.0.0");
    a_lie(&device.refuses(shop.id(), fleet.pack()).await, "expected");
    // Its documents below this repository's roots: the keys are right, but this device saw newer versions already.
    let mut grafted = Bent::of(&fleet.pack());
    grafted.roots = Bent::of(&shop.pack()).roots;
    assert!(shop.version() > fleet.version());
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    no_lie(&device.refuses(shop.id(), grafted.pack()).await);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t30_a_device_that_was_off_walks_six_roots_and_then_refuses_the_old_keys() {
    let desk = Desk::new();
    let (mut shop, device) = installed(&desk).await;
    let before = shop.pack();
    device.stop().await;
    for round in 0..3 {
        shop.rotate(Role::Root, 10 + round);
        shop.rotate(Role::Timestamp, 20 + round);
    }
    shop.rotate(Role::Channel("stable".to_owned()), 60);
    shop.release("2.0.0");
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &Hands::at(EPOCH), None).await;
    kiosk.import(&shop).await;
    let (data, peers) = (desk.at("device"), [("peers", &*kiosk.address().0)]);
    let mut device = Device::start_with(&data, shop.id(), &Hands::at(EPOCH), &[("install", "stable")], &peers).await;
    device.hear_active("2.0.0").await;
    let mut old = Bent::of(&before);
    old.bend_stable(&[&key(6)], |signed| signed["version"] = json!(100));
    old.pin(&key(3), &key(4));
    // Under the old root alone it is merely old; under the new ones it is forged.
    no_lie(&device.refuses(shop.id(), old.pack()).await);
    old.roots = Bent::of(&shop.pack()).roots;
    a_lie(&device.refuses(shop.id(), old.pack()).await, "not signed");
    device.stop().await;
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t37_a_document_that_two_readers_could_read_in_two_ways_is_refused() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    shop.release("2.0.0");
    let text = String::from_utf8(Bent::of(&shop.pack()).timestamp).unwrap();
    let twice = text.replacen("\"version\":", "\"version\":1,\"version\":", 1);
    let float = text.replacen("\"version\":3", "\"version\":3.0", 1);
    let spaced = text.replacen("\"version\":", "\"version\": ", 1);
    let deep = text.replacen("\"version\":3", &format!("\"version\":3,\"x\":{}{}", "[".repeat(64), "]".repeat(64)), 1);
    let escaped = text.replacen("timestamp", "\\u0074imestamp", 1);
    for bytes in [twice, float, spaced, deep, escaped] {
        assert_ne!(bytes, text);
        let mut bent = Bent::of(&shop.pack());
        bent.timestamp = bytes.into_bytes();
        a_lie(&device.refuses(shop.id(), bent.pack()).await, "timestamp");
    }
    device.stop().await;
}

/// Changes what is signed of a document.
type Bend = fn(&mut serde_json::Value);

#[tokio::test(flavor = "multi_thread")]
async fn t40_a_threshold_of_nothing_and_keys_that_are_none_are_refused() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let bends: [Bend; 4] = [
        |signed| signed["roles"]["targets"]["threshold"] = json!(0),
        |signed| signed["roles"]["timestamp"]["keyids"] = json!([]),
        |signed| {
            let id = signed["roles"]["snapshot"]["keyids"][0].clone();
            signed["roles"]["snapshot"] = json!({ "keyids": [id, id], "threshold": 2 });
        },
        |signed| signed["roles"]["root"]["threshold"] = json!(2),
    ];
    for (number, bend) in bends.into_iter().enumerate() {
        let mut weak = Bent::of(&shop.pack());
        weak.roots = vec![bent(&weak.roots[0], &[&key(1)], bend)];
        let repository = RepositoryId::of_root(&weak.roots[0]);
        let data = desk.at(&format!("device-{number}"));
        let mut device = Device::start(&data, repository, &Hands::at(EPOCH), &[]).await;
        a_lie(&device.refuses(repository, weak.pack()).await, "root 1");
        assert_eq!(device.version().await, None);
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t41_what_was_refused_leaves_no_trace_and_stands_in_nobodys_way() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let clock = Hands::at(EPOCH);
    let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[]).await;
    // A good start with a bad root behind it, a good chain with a bad timestamp, and all good with a bad snapshot.
    let mut root = Bent::of(&shop.pack());
    root.roots.push(bent(&root.roots[0], &[&key(66)], next));
    a_lie(&device.refuses(shop.id(), root.pack()).await, "root 2");
    let mut timestamp = Bent::of(&shop.pack());
    timestamp.timestamp = bent(&timestamp.timestamp, &[&key(66)], |signed| signed["version"] = json!(1000));
    a_lie(&device.refuses(shop.id(), timestamp.pack()).await, "timestamp");
    let mut snapshot = Bent::of(&shop.pack());
    snapshot.snapshot = bent(&snapshot.snapshot, &[&key(66)], |signed| signed["version"] = json!(1000));
    snapshot.pin_snapshot(&key(4));
    a_lie(&device.refuses(shop.id(), snapshot.pack()).await, "snapshot");
    // Nothing is remembered of them over a restart either.
    device.stop().await;
    let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[]).await;
    assert_eq!(device.version().await, None);
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    assert_eq!(device.version().await, Some(shop.version()));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_a_role_named_like_a_path_goes_nowhere() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    for name in ["../../escaped", "/tmp/escaped", "app.shop.../../escaped"] {
        let mut bad = Bent::of(&shop.pack());
        bad.targets = bent(&bad.targets, &[&key(2)], |signed| {
            next(signed);
            let role = &mut signed["delegations"]["roles"][1];
            role["name"] = json!(name);
        });
        let document = bad.channels.remove("app.shop.stable").unwrap();
        bad.channels.insert(name.to_owned(), document);
        bad.pin(&key(3), &key(4));
        a_lie(&device.refuses(shop.id(), bad.pack()).await, "not that of a channel");
    }
    let found: Vec<_> = bytes_below(desk.0.path()).into_iter().map(|(path, _)| path).collect();
    assert!(!found.iter().any(|path| path.to_string_lossy().contains("escaped")), "{found:?}");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t43_who_goes_on_serving_what_was_yanked_installs_it_on_nobody_who_knows() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let before = shop.pack();
    shop.yank(1, "it loses orders");
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    device.node.import(shop.id(), shop.pack(), Vec::new()).await.unwrap();
    let why = device.hear_waiting().await;
    assert!(why.contains("it loses orders"), "{why}");
    let rogue = Rogue::start(shop.id()).await;
    rogue.hold(&shop.payloads()).await;
    rogue.meet(&device.address()).await;
    no_lie(&device.refuses(shop.id(), before).await);
    assert_eq!(device.active().await, None);
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    rogue.end().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t45_a_time_run_ahead_by_a_stolen_key_is_rotated_away() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let far = Wall(EPOCH.0 + 70 * 365 * DAY);
    let mut ahead = Bent::of(&shop.pack());
    ahead.timestamp = bent(&ahead.timestamp, &[&key(4)], |signed| {
        next(signed);
        signed["x-issued"] = json!(in_words(far));
    });
    a_lie(&device.refuses(shop.id(), ahead.pack()).await, "issued");
    // Nor is one that would be good for ever.
    let mut endless = ahead.clone();
    endless.timestamp = bent(&endless.timestamp, &[&key(4)], |signed| {
        signed["x-issued"] = json!(in_words(EPOCH));
        signed["expires"] = json!(in_words(far));
    });
    a_lie(&device.refuses(shop.id(), endless.pack()).await, "366 days");
    ahead.timestamp = bent(&ahead.timestamp, &[&key(4)], |signed| {
        signed["expires"] = json!(in_words(Wall(far.0 + 30 * DAY)));
    });
    no_lie(&device.judge(shop.id(), ahead.pack()).await);
    device.hear_verified(shop.version() + 1).await;
    // For this device it is 70 years later now, and a restart does not help.
    device.stop().await;
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    assert!(device.status().await.repositories[0].expires_in_s.unwrap() < -60 * 365 * DAY);
    // Until the publisher takes the stolen key away.
    shop.rotate(Role::Timestamp, 40);
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    let repository = device.status().await.repositories.remove(0);
    assert!(repository.expires_in_s.unwrap() > 0 && repository.age_s == Some(0), "{repository:?}");
    // Time goes on from there, and not back.
    let mut back = Bent::of(&shop.pack());
    back.timestamp = bent(&back.timestamp, &[&key(40)], |signed| {
        next(signed);
        signed["x-issued"] = json!(in_words(Wall(EPOCH.0 - DAY)));
    });
    no_lie(&device.refuses(shop.id(), back.pack()).await);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t45_a_time_that_one_publisher_runs_ahead_is_not_that_of_others() {
    let desk = Desk::new();
    let of = |seed| Shop::open_with(Keys { root: Some(key(seed)), ..keys() }, EPOCH);
    let (mut shop, mut other, mut third) = (Shop::open(EPOCH), of(80), of(81));
    let follows = [other.id(), third.id()];
    let app = [("install", "stable"), ("freshness", "strict")];
    let clock = Hands::at(EPOCH);
    let mut device = Device::start_beside(&desk.at("device"), shop.id(), &follows, &clock, &app, &[]).await;
    shop.release("1.0.0");
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    // All keys are the other publisher's own: nothing will ever take this time back.
    for _ in 0..10 {
        other.renew(Wall(EPOCH.0 + 70 * 365 * DAY));
    }
    device.node.import(other.id(), other.pack(), Vec::new()).await.unwrap();
    device.hear_verified(other.version()).await;
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    let status = device.status().await;
    let expires = |id| status.repositories.iter().find(|known| known.repository == id).unwrap().expires_in_s.unwrap();
    assert!(expires(shop.id()) > 29 * DAY, "{status:?}");
    device.stop().await;
    // A device without a clock has no other time than what is signed, but one publisher's word is not enough either.
    let mut device =
        Device::start_beside(&desk.at("device"), shop.id(), &follows, &Hands::at(Wall(0)), &app, &[]).await;
    shop.release("3.0.0");
    device.import(&shop).await;
    device.hear_active("3.0.0").await;
    // Where two agree it is believed: this is how a device without a clock learns that news are kept from it.
    third.renew(Wall(EPOCH.0 + 40 * DAY));
    device.node.import(third.id(), third.pack(), Vec::new()).await.unwrap();
    device.hear_verified(third.version()).await;
    shop.release("4.0.0");
    device.import(&shop).await;
    assert!(device.hear_waiting().await.contains("expired 240 hours ago"));
    assert_eq!(device.active().await.as_deref(), Some("3.0.0"));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t45_revocations_run_ahead_by_stolen_keys_are_rotated_away() {
    let desk = Desk::new();
    let (mut shop, mut device) = installed(&desk).await;
    let fleet = key(50);
    let add = Change::AddFleet { fleet: "stores".to_owned(), keys: vec![fleet.verifying_key()], threshold: 1 };
    shop.change(&add, &fleet);
    shop.revoke("stores", NodeId([1; 32]), &fleet);
    // A thief of the fleet's key and of the online ones counts the list to its end: no member could be revoked any more.
    let mut ahead = Bent::of(&shop.pack());
    let list = ahead.channels.get_mut("fleet.stores").unwrap();
    *list = bent(list, &[&fleet], |signed| {
        let target = &mut signed["targets"]["fleet/stores/revoked.json"];
        target["custom"]["seq"] = json!((1_u64 << 53) - 1);
        let file = serde_json::to_vec(&target["custom"]).unwrap();
        target["hashes"]["sha256"] = json!(Hash(Sha256::digest(&file).into()).to_string());
        target["length"] = json!(file.len());
        next(signed);
    });
    ahead.pin(&key(3), &key(4));
    no_lie(&device.judge(shop.id(), ahead.pack()).await);
    device.hear_verified(shop.version() + 1).await;
    shop.rotate(Role::Snapshot, 30);
    shop.revoke("stores", NodeId([2; 32]), &fleet);
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    // From there the list goes on, and not back.
    let before = Bent::of(&shop.pack());
    shop.revoke("stores", NodeId([3; 32]), &fleet);
    shop.release("3.0.0");
    device.import(&shop).await;
    device.hear_active("3.0.0").await;
    let mut back = Bent::of(&shop.pack());
    let list = back.channels.get_mut("fleet.stores").unwrap();
    let version = serde_json::from_slice::<serde_json::Value>(list).unwrap()["signed"]["version"].clone();
    *list = bent(&before.channels["fleet.stores"], &[&fleet], |signed| {
        signed["version"] = version;
        next(signed);
    });
    back.pin(&key(30), &key(4));
    no_lie(&device.refuses(shop.id(), back.pack()).await);
    device.stop().await;
}
