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
