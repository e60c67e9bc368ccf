//! Old metadata and wrong clocks.

use std::time::Duration;

use burr_protocol::{
    Wall,
    config::{Config, Freshness, Install},
    fact::Fact,
};
use burr_sim::{Clock, Publisher, story::EPOCH};

use super::{MIB, Pair, stable};

const DAY: i64 = 24 * 3600;

fn strict() -> Install {
    Install { freshness: Freshness::Strict, ..stable() }
}

/// What a device with this clock installs of a version that was signed at the world's start, and how often it waits.
fn installs(install: Install, clock: Clock) -> (Option<String>, usize) {
    let mut pair = Pair::apart(install);
    pair.world.set_clock(pair.device, clock);
    pair.publish("1.0.0", MIB);
    pair.meet();
    pair.run(10);
    (pair.active(), pair.told(pair.device, |fact| matches!(fact, Fact::Waiting { .. })))
}

#[test]
fn expired_metadata_installs_as_the_policy_says() {
    // §8.2: the timestamp expires after 30 days.
    let (yes, no) = ((Some("1.0.0".to_owned()), 0), (None, 1));
    let after = |days| Clock::Stopped(Wall(EPOCH.0 + days * DAY));
    assert_eq!(installs(strict(), after(29)), yes);
    assert_eq!(installs(strict(), after(31)), no);
    assert_eq!(installs(stable(), after(31)), yes);
    assert_eq!(installs(stable(), after(209)), yes);
    assert_eq!(installs(stable(), after(211)), no);
    let day = Freshness::Tolerant { max_staleness: Duration::from_secs(24 * 3600) };
    assert_eq!(installs(Install { freshness: day, ..stable() }, after(32)), no);
}

#[test]
fn a_device_without_a_right_clock_installs() {
    // §8.2
    for clock in [Clock::Unset, Clock::Stopped(Wall(0)), Clock::Stopped(Wall(-1))] {
        assert_eq!(installs(strict(), clock), (Some("1.0.0".to_owned()), 0));
    }
}

#[test]
fn signed_time_is_a_floor_that_no_clock_undercuts_and_no_restart_forgets() {
    // §8.2, §10.2: what two publishers say of the time is believed, and what one says is not, where no clock is right.
    for publishers in [1, 2] {
        let mut pair = Pair::apart(strict());
        let later = Wall(EPOCH.0 + 60 * DAY);
        let mut follows = vec![pair.shop.installed(strict())];
        let others: Vec<Publisher> = (0..publishers)
            .map(|number| {
                let mut other = Publisher::new(&format!("other-{number}"), &format!("another shop {number}"), later);
                other.release("1.0.0", MIB, later);
                follows.push(other.cached());
                other
            })
            .collect();
        let device = pair.world.add(Config { follows, ..Config::default() });
        pair.device = device;
        pair.world.set_clock(device, Clock::Stopped(Wall(0)));
        for other in &others {
            pair.world.import(device, other.id(), None, other.pack());
        }
        pair.run(1);
        pair.restart(device);
        pair.publish("1.0.0", MIB);
        pair.meet();
        pair.run(10);
        let expired = pair.told(device, |fact| matches!(fact, Fact::Waiting { why, .. } if why.contains("expired")));
        let expected = if publishers == 1 { (Some("1.0.0".to_owned()), 0) } else { (None, 1) };
        assert_eq!((pair.active(), expired), expected);
    }
}
