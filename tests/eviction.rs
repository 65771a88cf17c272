//! `maxmemory`: the limit holds, each policy lets go what its name says, and writes are refused only where nothing may
//! go.

use std::time::{Duration, Instant};

use crate::support::{Client, Server, Value};

/// Keys written at once.
const BATCH: usize = 500;

fn set(client: &mut Client, from: usize, to: usize, options: &[&str]) -> Vec<Value> {
    let mut replies = Vec::new();
    for start in (from..to).step_by(BATCH) {
        let command = |key: usize| {
            let words = ["SET", &format!("key:{key}"), &"v".repeat(200)].map(|word| word.as_bytes().to_vec());
            words.into_iter().chain(options.iter().map(|word| word.as_bytes().to_vec())).collect()
        };
        let commands: Vec<Vec<Vec<u8>>> = (start..to.min(start + BATCH)).map(command).collect();
        let batch = client.pipeline(&commands).expect("a reply to each");
        replies.extend(batch.into_iter().map(|reply| reply.value));
    }
    replies
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.cmd(&["INFO", "everything"]).text().expect("INFO is a text");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("INFO has {field}"))
}

fn limited(policy: &str) -> (Server, Client, u64) {
    let server = Server::cenote().args(["--maxmemory-policy", policy]).start();
    let mut client = server.client();
    // What clients and tables take at the start is not the keys'.
    let limit = info(&mut client, "used_memory") + 2 * 1024 * 1024;
    client.cmd(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    (server, client, limit)
}

#[test]
fn the_limit_holds_while_much_more_is_written() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "allkeys-cost"] {
        let (_server, mut client, limit) = limited(policy);
        for from in (0..40_000).step_by(5_000) {
            let replies = set(&mut client, from, from + 5_000, &[]);
            assert!(
                replies.iter().all(|reply| !reply.is_error()),
                "{policy}: {:?}",
                replies.iter().find(|r| r.is_error())
            );
            let used = info(&mut client, "used_memory");
            // One batch of requests and its replies, and one part in a hundred.
            assert!(used <= limit + limit / 100 + 256 * 1024, "{policy}: {used} of {limit}");
        }
        let (evicted, keys) = (info(&mut client, "evicted_keys"), client.cmd(&["DBSIZE"]));
        assert_eq!(Value::Int(40_000 - evicted as i64), keys, "{policy}");
        assert!(evicted > 20_000, "{policy}: {evicted}");
    }
}

#[test]
fn volatile_policies_take_only_keys_with_a_ttl() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let (_server, mut client, _) = limited(policy);
        set(&mut client, 0, 2000, &[]);
        let replies = set(&mut client, 10_000, 30_000, &["EX", "10000"]);
        assert!(replies.iter().all(|reply| !reply.is_error()), "{policy}");
        let keys: Vec<String> = (0..2000).map(|key| format!("key:{key}")).collect();
        let words: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        assert_eq!(client.cmd(&words), Value::Int(2000), "{policy}");
        // Once only keys without a TTL are left, nothing may go.
        let replies = set(&mut client, 200_000, 210_000, &[]);
        let last = replies.last().expect("a reply");
        assert_eq!(last.text().as_deref(), Some("OOM command not allowed when used memory > 'maxmemory'."), "{policy}");
        assert!(!client.cmd(&["GET", "key:1"]).is_error() && !client.cmd(&["DEL", "key:1"]).is_error());
    }
}

#[test]
fn without_eviction_writes_are_refused_and_reads_are_not() {
    let (_server, mut client, limit) = limited("noeviction");
    let replies = set(&mut client, 0, 15_000, &[]);
    assert!(replies.last().is_some_and(Value::is_error));
    assert_eq!(info(&mut client, "evicted_keys"), 0);
    assert!(info(&mut client, "used_memory") <= limit + limit / 100 + 256 * 1024);
    assert!(!client.cmd(&["GET", "key:0"]).is_error());
}

#[test]
fn a_lower_limit_takes_effect_without_a_write() {
    let (_server, mut client, limit) = limited("allkeys-lru");
    set(&mut client, 0, 15_000, &[]);
    let lower = limit - 1024 * 1024;
    client.cmd(&["CONFIG", "SET", "maxmemory", &lower.to_string()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while info(&mut client, "used_memory") > lower {
        assert!(Instant::now() < deadline, "the memory stays above the new limit");
        std::thread::sleep(Duration::from_millis(10));
    }
}
