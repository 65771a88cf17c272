//! Lists of tracked keys: who is on them, who leaves them, and that they follow those who are there.

use super::*;
use std::sync::Arc;

fn keyspace() -> Keyspace {
    Keyspace::new(2, 1, 1)
}

fn track(keyspace: &Keyspace, key: &[u8], tracker: &Arc<Tracker>) {
    let hash = keyspace.hash(key);
    keyspace.lock(keyspace.shard_of(hash)).track(hash, key, tracker);
}

fn set(keyspace: &Keyspace, db: usize, key: &[u8]) -> News {
    let hash = keyspace.hash(key);
    let mut shard = keyspace.lock(keyspace.shard_of(hash));
    shard.set(db, hash, key, NewValue::Int(1), Ttl::None, 0, Access::lru(0), Event::SET);
    std::mem::take(&mut shard.news)
}

fn told(news: &News) -> Vec<(Option<&[u8]>, Vec<u64>)> {
    let ids = |lapse: &Lapse| lapse.trackers().iter().map(|tracker| tracker.id()).collect();
    news.lapses.iter().map(|lapse| (lapse.key.as_deref(), ids(lapse))).collect()
}

#[test]
fn a_change_is_told_once_to_all_who_read_the_key() {
    let keyspace = keyspace();
    let (a, b) = (Arc::new(Tracker::new(1)), Arc::new(Tracker::new(2)));
    track(&keyspace, b"k", &a);
    track(&keyspace, b"k", &a);
    track(&keyspace, b"k", &b);
    track(&keyspace, b"l", &b);
    assert_eq!((keyspace.tracked(), keyspace.tracked_items()), (2, 3));
    // Whichever database it was read in.
    assert_eq!(told(&set(&keyspace, 1, b"k")), [(Some(b"k".as_slice()), vec![1, 2])]);
    assert!(set(&keyspace, 1, b"k").is_empty() && set(&keyspace, 0, b"other").is_empty());
    assert_eq!((keyspace.tracked(), keyspace.tracked_items()), (1, 1));
}

/// The list of a key that never changes grew by every connection that read it once and went.
#[test]
fn the_list_of_a_key_follows_those_who_are_there() {
    let keyspace = keyspace();
    let stays = Arc::new(Tracker::new(0));
    track(&keyspace, b"k", &stays);
    for id in 1..10_000 {
        let tracker = Arc::new(Tracker::new(id));
        track(&keyspace, b"k", &tracker);
        tracker.set(false);
    }
    assert!(keyspace.tracked_items() < 20, "{} on the list", keyspace.tracked_items());
    assert!(told(&set(&keyspace, 0, b"k"))[0].1.contains(&0));
}

#[test]
fn prefixes_are_found_by_their_lengths() {
    let prefixes = Prefixes::new([b"user:".as_slice(), b"u", b"user:1", b"item:"]);
    let of =
        |key: &[u8]| prefixes.of(key).map(|prefix| String::from_utf8_lossy(prefix).into_owned()).collect::<Vec<_>>();
    assert_eq!(of(b"user:17"), ["u", "user:", "user:1"]);
    assert_eq!((of(b"user:"), of(b"us"), of(b"item")), (vec!["u".into(), "user:".into()], vec!["u".into()], vec![]));
    assert!(of(b"").is_empty() && Prefixes::new([b"".as_slice()]).of(b"").count() == 1);
    let keyspace = keyspace();
    keyspace.set_prefixes(&Some(Arc::new(prefixes)));
    assert_eq!(told(&set(&keyspace, 0, b"item:1")), [(Some(b"item:1".as_slice()), vec![])]);
    assert!(set(&keyspace, 0, b"other").is_empty());
    keyspace.set_prefixes(&None);
    assert!(set(&keyspace, 0, b"item:1").is_empty());
}

#[test]
fn the_list_is_cut_to_its_limit_and_what_goes_is_told() {
    let keyspace = keyspace();
    let tracker = Arc::new(Tracker::new(1));
    (0..3000u32).for_each(|n| track(&keyspace, &n.to_be_bytes(), &tracker));
    let mut told = 0;
    for _ in 0..3000 {
        told += keyspace.trim_tracked(100, crate::random::next()).lapses.len();
    }
    assert_eq!((keyspace.tracked(), told), (100, 2900));
    assert!(keyspace.trim_tracked(100, 0).is_empty());
}

#[test]
fn a_flush_leaves_no_copy_and_says_so_once() {
    let keyspace = keyspace();
    let tracker = Arc::new(Tracker::new(1));
    let news = |keyspace: &Keyspace| {
        let mut news = News::default();
        (0..keyspace.shards()).for_each(|shard| news.append(&mut keyspace.lock(shard).news));
        news
    };
    drop(Walk::new(&keyspace, 0, 0).flush(None));
    assert!(news(&keyspace).is_empty(), "nobody keeps copies");
    keyspace.set_trackers(1);
    (0..100u32).for_each(|n| track(&keyspace, &n.to_be_bytes(), &tracker));
    drop(Walk::new(&keyspace, 0, 0).flush(Some(1)));
    assert_eq!((told(&news(&keyspace)), keyspace.tracked()), (vec![(None, vec![])], 0));
    track(&keyspace, b"k", &tracker);
    Walk::new(&keyspace, 0, 0).swap(0, 1);
    assert_eq!((told(&news(&keyspace)), keyspace.tracked_items()), (vec![(None, vec![])], 0));
    assert!(super::take_stirred());
}
