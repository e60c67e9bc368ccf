//! Many small things over a long way: no round trip for each.
//!
//! A bundle is one payload, however many files it has, and a payload is one blob (§3, §7.3): files cost nothing here. A kiosk
//! of many apps fetches a blob of each.

use std::time::Duration;

use burr_protocol::config::Config;
use burr_sim::{Publisher, World, story::EPOCH};

use super::MIB;

/// There and back.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// Bytes of a payload.
const SIZE: u64 = 2000;

/// How long a kiosk of so many apps takes from when it meets a source until it has the payload of each.
fn fills(apps: usize) -> Duration {
    let mut world = World::new(EPOCH);
    let mut shops: Vec<_> =
        (0..apps).map(|n| Publisher::new(&format!("app{n}"), &format!("seed {n}"), EPOCH)).collect();
    let config = Config { follows: shops.iter().map(Publisher::cached).collect(), ..Config::default() };
    let source = world.add(config.clone());
    let mut blobs = Vec::new();
    for shop in &mut shops {
        let blob = shop.release("1.0.0", SIZE, EPOCH).payload.blob;
        world.import(source, shop.id(), Some((blob, SIZE)), shop.pack());
        blobs.push(blob);
    }
    let kiosk = world.add(config);
    world.run(Duration::from_secs(1));
    let begun = world.time();
    world.link(source, kiosk, ROUND_TRIP / 2, 4 * MIB);
    let has_all = |world: &World| blobs.iter().all(|blob| world.disk(kiosk).holds(*blob, 0, SIZE));
    assert!(world.run_while(Duration::from_mins(1), has_all), "{apps} apps");
    world.time().since(begun)
}

#[test]
fn many_small_blobs_are_asked_for_behind_each_other() {
    let (few, many) = (fills(4), fills(40));
    // The bytes of 36 more apps take their time, but no round trip each: that would be 7 s.
    assert!(many < few + 2 * ROUND_TRIP, "4 apps took {few:?}, and 40 {many:?}");
}
