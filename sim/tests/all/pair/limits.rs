//! What has a bound keeps it.

use burr_protocol::{config::Config, fact::Fact};

use super::{MIB, Pair, stable};

#[test]
fn the_quota_keeps_the_newest_payloads_and_lets_the_old_ones_go() {
    // §7.9
    let mut pair = Pair::with(stable(), &Config { quota: 2 * MIB, ..Config::default() });
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
    let mut pair = Pair::with(stable(), &Config { quota: 2 * MIB, ..Config::default() });
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
