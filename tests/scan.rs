//! SCAN's guarantee: an element that is there from start to end is returned, while the table grows and shrinks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Client, Server, Value};

type Command = Vec<Vec<u8>>;

fn words(words: &[&str]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// SET or DEL of `prefix:0` … `prefix:<count - 1>`, pipelined.
fn change(client: &mut Client, set: bool, prefix: &str, count: usize) {
    let numbers: Vec<_> = (0..count).collect();
    for part in numbers.chunks(1000) {
        let command = |n: &usize| {
            let key = format!("{prefix}:{n}");
            if set { words(&["SET", &key, "v"]) } else { words(&["DEL", &key]) }
        };
        let commands: Vec<_> = part.iter().map(command).collect();
        client.pipeline(&commands).expect("all are answered");
    }
}

/// One full iteration: each key with the number of times it came. Stops at a cursor that comes again and again.
fn scan_all(client: &mut Client, options: &[&str]) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    let mut cursor = "0".to_owned();
    for _ in 0..1_000_000 {
        let mut args = vec!["SCAN", &cursor];
        args.extend(options);
        let reply = client.cmd(&args);
        let [next, keys] = reply.items() else { panic!("SCAN gives a cursor and keys, not {reply:?}") };
        for key in keys.items() {
            *seen.entry(key.text().expect("a key")).or_insert(0) += 1;
        }
        cursor = next.text().expect("a cursor");
        if cursor == "0" {
            return seen;
        }
    }
    panic!("SCAN did not come to an end");
}

fn assert_complete(seen: &HashMap<String, usize>, prefix: &str, count: usize) {
    let missing: Vec<_> = (0..count).map(|n| format!("{prefix}:{n}")).filter(|key| !seen.contains_key(key)).collect();
    assert!(missing.is_empty(), "{} of {count} were not returned, such as {}", missing.len(), missing[0]);
}

#[test]
fn every_key_of_a_quiet_table_comes_once() {
    let server = Server::cenote().start();
    let mut client = server.client();
    assert!(scan_all(&mut client, &[]).is_empty());
    change(&mut client, true, "stay", 20_000);
    for count in ["1", "10", "1000", "1000000"] {
        let seen = scan_all(&mut client, &["COUNT", count]);
        assert_complete(&seen, "stay", 20_000);
        assert_eq!(seen.len(), 20_000);
        assert!(seen.values().all(|times| *times == 1), "nothing moves, so nothing comes twice");
    }
    let seen = scan_all(&mut client, &["MATCH", "stay:1999?", "COUNT", "100"]);
    assert_eq!(seen.len(), 10);
    assert!(scan_all(&mut client, &["TYPE", "hash", "COUNT", "1000"]).is_empty());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Adds and removes so many keys until it is to stop; returns how often.
fn grow_and_shrink(server: &Server, passing: usize, stop: &AtomicBool) -> usize {
    let mut client = server.client();
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        change(&mut client, true, "pass", passing);
        change(&mut client, false, "pass", passing);
        turns += 1;
    }
    turns
}

#[test]
fn nothing_that_stays_is_missed_while_the_table_grows_and_shrinks() {
    const STAYING: usize = 5_000;
    const PASSING: usize = 60_000;
    let server = Server::cenote().start();
    let mut client = server.client();
    change(&mut client, true, "stay", STAYING);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| grow_and_shrink(&server, PASSING, &stop));
        // Also where an assertion below fails: the scope waits for the writer.
        let stop_writer = StopOnDrop(&stop);
        for round in 0..12 {
            let count = ["10", "100", "1000"][round % 3];
            let seen = scan_all(&mut client, &["COUNT", count]);
            assert_complete(&seen, "stay", STAYING);
        }
        drop(stop_writer);
        assert!(writer.join().expect("the writer ends") > 0, "the table grew and shrank");
    });
}

/// The iteration itself pauses while the table becomes very much larger, or smaller, between two calls.
#[test]
fn a_cursor_survives_growth_and_shrinkage_between_calls() {
    let server = Server::cenote().start();
    let mut client = server.client();
    change(&mut client, true, "stay", 3_000);
    for grow in [true, false] {
        if !grow {
            change(&mut client, true, "pass", 100_000);
        }
        let mut seen = HashSet::new();
        let mut cursor = "0".to_owned();
        let mut calls = 0;
        loop {
            let reply = client.cmd(&["SCAN", &cursor, "COUNT", "50"]);
            seen.extend(reply.items()[1].items().iter().filter_map(Value::text));
            cursor = reply.items()[0].text().expect("a cursor");
            calls += 1;
            if calls == 5 {
                change(&mut client, grow, "pass", 100_000);
            }
            if cursor == "0" {
                break;
            }
        }
        assert!(calls > 5, "the table changed in the middle of the iteration");
        let missing = (0..3_000).filter(|n| !seen.contains(&format!("stay:{n}"))).count();
        assert_eq!(missing, 0, "keys missed although they were there all the time (table grew: {grow})");
    }
}

/// The cost of one call is bounded by COUNT, also where nothing matches.
#[test]
fn a_call_returns_no_more_than_it_was_asked_for() {
    let server = Server::cenote().start();
    let mut client = server.client();
    change(&mut client, true, "stay", 50_000);
    let mut cursor = "0".to_owned();
    let mut calls = 0;
    loop {
        let reply = client.cmd(&["SCAN", &cursor, "COUNT", "100"]);
        let length = reply.items()[1].items().len();
        // Redis promises no exact number: a bucket is returned whole. A small multiple is still bounded.
        assert!(length <= 400, "{length} keys for COUNT 100");
        cursor = reply.items()[0].text().expect("a cursor");
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert!(calls >= 50_000 / 400, "{calls} calls");
}

/// KEYS of a large keyspace used to keep the worker from all its other connections until it was done: a tenth of a second
/// for a million keys. It goes on in turns now, and must find each key once all the same, whatever is written meanwhile.
#[test]
fn keys_gives_each_key_once_while_others_write_and_their_commands_come_between() {
    const STAYING: usize = 60_000;
    let server = Server::cenote().args(["--workers", "1"]).start();
    let mut client = server.client();
    change(&mut client, true, "stay", STAYING);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| grow_and_shrink(&server, 60_000, &stop));
        let stop_writer = StopOnDrop(&stop);
        for _ in 0..6 {
            let reply = client.cmd(&["KEYS", "*"]);
            let keys: Vec<_> = reply.items().iter().map(|key| key.text().expect("a key")).collect();
            let once: HashSet<_> = keys.iter().collect();
            assert_eq!(once.len(), keys.len(), "a key came twice");
            let staying = keys.iter().filter(|key| key.starts_with("stay:")).count();
            assert_eq!(staying, STAYING);
        }
        drop(stop_writer);
        writer.join().expect("the writer ends");
    });
}

/// The same in a pipeline, in a transaction, in a script, and with a reply that nobody wants.
#[test]
fn long_walks_keep_their_place_among_the_replies() {
    let server = Server::cenote().args(["--workers", "1", "--slowlog-log-slower-than", "0"]).start();
    let mut client = server.client();
    change(&mut client, true, "key", 20_000);
    let pipeline = [
        words(&["PING"]),
        words(&["KEYS", "key:1*"]),
        words(&["SCAN", "0", "COUNT", "1000000"]),
        words(&["SCAN", "0", "COUNT", "5000", "MATCH", "nosuch"]),
        words(&["MULTI"]),
        words(&["KEYS", "*"]),
        words(&["EXEC"]),
        words(&["EVAL", "return #redis.call('KEYS', '*') + #redis.call('SCAN', 0, 'COUNT', 100000)[2]", "0"]),
        words(&["CLIENT", "REPLY", "SKIP"]),
        words(&["KEYS", "*"]),
    ];
    let replies: Vec<Value> =
        client.pipeline(&pipeline[..8]).expect("all are answered").into_iter().map(|reply| reply.value).collect();
    assert_eq!(replies[1].items().len(), 11_111);
    assert_eq!(replies[2].items()[0].text().as_deref(), Some("0"));
    assert_eq!(replies[2].items()[1].items().len(), 20_000);
    assert_ne!(replies[3].items()[0].text().as_deref(), Some("0"));
    assert!(replies[3].items()[1].items().is_empty());
    assert_eq!(replies[6].items()[0].items().len(), 20_000);
    assert_eq!(replies[7], Value::Int(40_000));
    pipeline[8..10].iter().for_each(|command| client.send(command).expect("it is sent"));
    assert_eq!(client.cmd(&["PING", "last"]).text().as_deref(), Some("last"));
    let logged = client.cmd(&["SLOWLOG", "GET", "100"]);
    let called = |entry: &Value| entry.items()[3].items()[0].text() == Some("KEYS".into());
    assert_eq!(logged.items().iter().filter(|entry| called(entry)).count(), 3, "each call stands there once");
}

/// What is held for a reply counts against the connection's limit while it is made, not only when it is sent.
#[test]
fn a_walk_whose_reply_becomes_too_large_ends_the_connection() {
    let server = Server::cenote().args(["--client-output-buffer-limit", "normal 100kb 0 0"]).start();
    let mut client = server.client();
    change(&mut client, true, "key", 20_000);
    client.send(&words(&["KEYS", "*"])).expect("it is sent");
    assert!(client.is_closed());
    let mut other = server.client();
    assert_eq!(other.cmd(&["KEYS", "key:1234"]).items().len(), 1);
    assert!(other.cmd(&["INFO", "stats"]).text().unwrap().contains("client_output_buffer_limit_disconnections:1"));
}
