//! Same seed, same world: what a run does hashes to the same twice.

use burr_sim::story;

#[test]
fn a_story_is_told_the_same_way_twice_and_otherwise_with_other_keys() {
    let once = story::three_nodes("1");
    assert_eq!(once, story::three_nodes("1"));
    assert_eq!(once.active.as_deref(), Some("1.0.0"));
    assert_eq!(once.receipts, 2);
    assert_ne!(once.digest, story::three_nodes("2").digest);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "runs beside each other are what is tried; each has one thread")]
fn threads_beside_each_other_change_nothing() {
    let alone = story::three_nodes("1").digest;
    let beside: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| story::three_nodes("1").digest)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(beside.iter().all(|digest| *digest == alone));
}
