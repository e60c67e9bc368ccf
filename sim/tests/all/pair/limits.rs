//! What has a bound keeps it.

use burr_protocol::{
    action::Input,
    cache::{BASE, on_disk},
    config::Config,
    fact::Fact,
};

use burr_sim::{Publisher, World, story::EPOCH};

use super::{MIB, Pair, stable};

#[test]
fn the_quota_keeps_the_newest_payloads_and_lets_the_old_ones_go() {
    // §7.9
    let mut pair = Pair::with(stable(), &Config { quota: BASE + 2 * on_disk(MIB), ..Config::default() });
    pair.meet();
    let releases: Vec<_> = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
        .into_iter()
        .map(|version| {
            let release = pair.publish(version, MIB);
            pair.run(10);
            assert_eq!(pair.active().as_deref(), Some(version));
            release
        })
        .collect();
    let store = pair.world.disk(pair.device).store();
    let kept: Vec<bool> = releases.iter().map(|release| store.contains_key(&release.payload.blob)).collect();
    assert_eq!(kept, [false, false, true, true]);
    assert_eq!(pair.told(pair.device, |fact| matches!(fact, Fact::FetchCompleted { .. })), 4);
}

#[test]
fn what_does_not_fit_is_told_once_and_not_fetched() {
    // §7.9
    let mut pair = Pair::with(stable(), &Config { quota: BASE + 2 * on_disk(MIB), ..Config::default() });
    pair.meet();
    pair.publish("1.0.0", MIB);
    pair.run(10);
    let large = pair.publish("2.0.0", 3 * MIB);
    pair.run(3600);
    let no_room = |fact: &Fact| matches!(fact, Fact::NoRoom { blob, .. } if *blob == large.payload.blob);
    assert_eq!(pair.told(pair.device, no_room), 1);
    assert_eq!(pair.world.received(pair.device), MIB);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    // A release that fits goes on.
    pair.publish("3.0.0", MIB);
    pair.run(10);
    assert_eq!(pair.active().as_deref(), Some("3.0.0"));
}

#[test]
fn what_is_being_read_goes_when_that_has_ended_and_its_space_is_used_after_that() {
    // §7.9
    let mut pair = Pair::new(stable());
    let source = pair.source;
    let first = pair.publish("1.0.0", 8 * MIB);
    pair.run(2);
    let quota = BASE + on_disk(8 * MIB);
    let config = pair.world.agent(source).expect("it is on").config().clone();
    pair.world.give(source, Input::Settings(Box::new(Config { quota, ..config })));
    // Room for one alone, and the first is being read.
    let second = pair.publish("2.0.0", 8 * MIB);
    assert!(pair.world.disk(source).store().contains_key(&first.payload.blob));
    pair.run(60);
    let store = pair.world.disk(source).store();
    assert!(!store.contains_key(&first.payload.blob) && store.contains_key(&second.payload.blob));
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.told(pair.device, |fact| matches!(fact, Fact::ProviderFailed { .. })), 0);
}

#[test]
fn a_kiosk_keeps_the_newest_of_every_app_before_an_older_one_of_any() {
    // §7.9
    let mut world = World::new(EPOCH);
    let mut shops: Vec<_> = (0..100).map(|n| Publisher::new(&format!("app{n}"), &format!("seed {n}"), EPOCH)).collect();
    let follows: Vec<_> = shops.iter().map(Publisher::cached).collect();
    let feed = world.add(Config { follows: follows.clone(), ..Config::default() });
    let quota = BASE + 107 * on_disk(MIB);
    let kiosk = world.add(Config { follows, quota, ..Config::default() });
    world.link(feed, kiosk, std::time::Duration::from_millis(5), 64 * MIB);
    let mut newest = Vec::new();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        newest.clear();
        for shop in &mut shops {
            let release = shop.release(version, MIB, world.now().wall.expect("the world has a clock"));
            let blob = (release.payload.blob, release.payload.size);
            world.import(feed, shop.id(), Some(blob), shop.pack());
            newest.push(release.payload.blob);
            world.run(std::time::Duration::from_secs(1));
        }
        world.run(std::time::Duration::from_secs(20));
    }
    let store = world.disk(kiosk).store();
    assert!(newest.iter().all(|blob| store.get(blob).is_some_and(|held| held.whole)), "the newest of all hundred");
    assert_eq!(store.len(), 107, "and seven older ones, which fit");
}

#[test]
fn an_agent_with_nothing_to_do_sleeps() {
    // §11: nothing is due before the next sync.
    let mut pair = Pair::new(stable());
    pair.publish("1.0.0", MIB);
    pair.run(30);
    for node in [pair.source, pair.device] {
        let agent = pair.world.agent(node).unwrap();
        let wait = agent.wake_at().unwrap().since(pair.world.time());
        assert!(wait.as_secs() > 200, "{wait:?}");
    }
}
