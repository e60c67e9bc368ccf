//! A publisher that is not what it seems, and the machine that renews its metadata while nobody looks.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use burr_node::{
    Publisher,
    publisher::{Publication, read_key_file},
};
use burr_protocol::{
    Wall,
    fact::Fact,
    trust::{
        audit::{self, Act},
        write::{Keys, Repository},
    },
};

use super::{DAY, Desk, Device, EPOCH, Hands, mesh::Process, shop::Shop};
use crate::support::small_app;

async fn hear_forked(device: &mut Device) -> String {
    device
        .hear("a second history", |fact| match fact {
            Fact::HistoryForked { why, .. } => Some(why.clone()),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn t61_two_devices_that_were_shown_two_histories_find_out_when_they_meet() {
    for renewals in [1, 2] {
        let desk = Desk::new();
        let mut one = Shop::open(EPOCH);
        one.note("init");
        one.release("1.0.0");
        let mut two = one.fork();
        one.note("2.0.0 for the one");
        one.release("2.0.0");
        two.note("2.0.0 for the other");
        for _ in 0..renewals {
            two.renew(EPOCH);
        }
        let clock = Hands::at(EPOCH);
        let mut first = Device::start(&desk.at("first"), one.id(), &clock, &[]).await;
        first.import(&one).await;
        first.hear_active("2.0.0").await;
        let peers = [("peers", &*first.address().0)];
        let mut second = Device::start_with(&desk.at("second"), one.id(), &clock, &[("install", "stable")], &[]).await;
        second.import(&two).await;
        second.hear_active("1.0.0").await;
        second.stop().await;
        let mut second =
            Device::start_with(&desk.at("second"), one.id(), &clock, &[("install", "stable")], &peers).await;
        let why = hear_forked(&mut first).await;
        let words = if renewals == 1 { "the timestamp version" } else { "entry 2 of its publisher's log" };
        assert!(why.contains(words) && why.contains("ask its publisher"), "{why}");
        assert_eq!(first.status().await.repositories[0].forked, Some(why));
        if renewals == 1 {
            // As new as each other: both find out.
            hear_forked(&mut second).await;
        }
        // Each keeps what it saw first, and neither is a liar for what it was shown.
        for device in [&first, &second] {
            assert!(device.status().await.refused.is_empty());
        }
        assert_eq!((first.active().await.as_deref(), first.version().await), (Some("2.0.0"), Some(one.version())));
        assert_eq!((second.active().await.as_deref(), second.version().await), (Some("1.0.0"), Some(two.version())));
        first.stop().await;
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_shows_of_the_log_is_what_the_publisher_shows() {
    let desk = Desk::new();
    let data = desk.at("publisher");
    let source = small_app(&desk.at("source"), "1");
    Publisher::init(&data, "shop", &["stable"], None).unwrap();
    let mut publisher = Publisher::open(&data, "shop").unwrap();
    for version in ["1.0.0", "2.0.0"] {
        publisher.publish(&Publication::new(&source, "stable", version), None, &|_, _| ()).unwrap();
    }
    publisher.refresh(None).unwrap();
    let entries = publisher.audit().unwrap();
    let head = entries.last().unwrap().name();
    assert_eq!(entries.len(), 3);
    let mut device = Device::start(&desk.at("device"), publisher.id(), &Hands::at(now()), &[]).await;
    device.node.import(publisher.id(), publisher.pack().to_vec(), Vec::new()).await.unwrap();
    device.hear_verified(4).await;
    assert_eq!(device.status().await.repositories[0].log, Some((3, head)));
    device.stop().await;
    // T60: a log that says something else is not believed even if all of it is signed: here, one act fewer.
    let log = data.join("publish/shop/audit.log");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    assert!(publisher.audit().is_err());
    fs::write(&log, text).unwrap();
    publisher.audit().unwrap();
}

fn now() -> Wall {
    Wall(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap())
}

/// Puts a repository of `issued` in the place of the one that was just made, signed by the same keys.
fn age(data: &Path, issued: Wall) -> Repository {
    let home = data.join("publish/shop");
    let key = |role: &str| read_key_file(&home.join(format!("keys/{role}.key")), None).unwrap();
    let keys = Keys {
        root: Some(key("root")),
        targets: Some(key("targets")),
        snapshot: key("snapshot"),
        timestamp: key("timestamp"),
        channels: BTreeMap::from([("stable".to_owned(), key("channel.stable"))]),
    };
    let repository = Repository::create("shop", &["stable"], &keys, issued).unwrap();
    let act = Act { kind: "init", what: vec!["shop with channel stable".to_owned()], by: Vec::new() };
    let entry = audit::next(&repository, None, act, &keys.all(), issued).unwrap();
    fs::write(home.join("audit.log"), entry + "\n").unwrap();
    let metadata = home.join("repository/metadata");
    fs::remove_dir_all(&metadata).unwrap();
    fs::create_dir(&metadata).unwrap();
    for (name, bytes) in repository.files() {
        fs::write(metadata.join(name), bytes).unwrap();
    }
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_the_online_keys_renews_by_itself_what_devices_then_hear_and_nothing_else() {
    let desk = Desk::new();
    let data = desk.at("publisher");
    Publisher::init(&data, "shop", &["stable"], None).unwrap();
    let before = age(&data, Wall(now().0 - 20 * DAY));
    let keys = data.join("publish/shop/keys");
    for role in ["root", "targets", "channel.stable"] {
        fs::remove_file(keys.join(format!("{role}.key"))).unwrap();
    }
    let machine = Process::start(&data, &[]);
    let place = machine.address().0;
    let mut device = Device::start_with(
        &desk.at("device"),
        before.id(),
        &Hands::at(now()),
        &[("install", "stable")],
        &[("peers", &place)],
    )
    .await;
    device.hear_verified(2).await;
    let repository = device.status().await.repositories.remove(0);
    assert!(repository.age_s.unwrap() < DAY && repository.expires_in_s.unwrap() > 29 * DAY, "{repository:?}");
    assert_eq!(repository.log.map(|log| log.0), Some(1));
    drop(machine);
    let after = Publisher::open(&data, "shop").unwrap();
    assert_eq!(after.signers(), before.signers());
    let metadata = data.join("publish/shop/repository/metadata");
    for (name, bytes) in before.files() {
        let offline = ["1.root.json", "1.targets.json", "1.app.shop.stable.json"].contains(&name.as_str());
        if offline {
            assert_eq!(fs::read(metadata.join(&name)).unwrap(), bytes, "{name}");
        }
    }
    assert!(!metadata.join("2.targets.json").exists() && !metadata.join("2.root.json").exists());
    device.stop().await;
}
