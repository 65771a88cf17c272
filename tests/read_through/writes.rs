//! Commands that change a part of a value load it first; those that replace it never do. A change during a load comes
//! out on top of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::rig::{Figures, ROUTES, Rig, error, run, until, words};
use crate::support::Value;

#[test]
fn a_part_is_changed_in_what_was_loaded() {
    let rig = Rig::start();
    let mut client = rig.client();
    let rows = [
        ("INCR", "10", "INCR text:{}", Value::Int(11), Some("11")),
        ("DECRBY", "10", "DECRBY text:{} 3", Value::Int(7), Some("7")),
        ("INCRBYFLOAT", "1.5", "INCRBYFLOAT text:{} 1", Value::bulk("2.5"), Some("2.5")),
        ("APPEND", "ab", "APPEND text:{} cd", Value::Int(4), Some("abcd")),
        ("SETRANGE", "abcd", "SETRANGE text:{} 1 XY", Value::Int(4), Some("aXYd")),
        ("GETSET", "old", "GETSET text:{} new", Value::bulk("old"), Some("new")),
        ("GETDEL", "old", "GETDEL text:{}", Value::bulk("old"), None),
        ("SETGET", "old", "SET text:{} new GET", Value::bulk("old"), Some("new")),
        ("NXGET", "old", "SET text:{} new NX GET", Value::bulk("old"), Some("old")),
        ("IFEQ", "old", "SET text:{} new IFEQ old", Value::ok(), Some("new")),
    ];
    for (name, row, line, reply, after) in rows {
        rig.postgres.sql(&format!("INSERT INTO texts VALUES ('{name}', '{row}')"));
        let before = rig.queries();
        assert_eq!(run(&mut client, &line.replace("{}", name)), reply, "{name}");
        assert_eq!(rig.queries() - before, 1, "{name} loads once");
        match after {
            Some(value) => {
                assert_eq!(run(&mut client, &format!("GET text:{name}")), Value::bulk(value), "{name}");
                assert_eq!(rig.queries() - before, 1, "{name}: the cache has it");
            }
            None => assert_eq!(run(&mut client, &format!("EXISTS text:{name}")), Value::Int(0)),
        }
    }
    assert!(run(&mut client, "TTL text:INCR").int() > 3_000, "a part that changes keeps the row's TTL");
    assert_eq!(run(&mut client, "TTL text:GETSET"), Value::Int(-1), "a value that is replaced has none");
    // Without a row they begin with nothing, and ask no more than once.
    let before = rig.queries();
    assert_eq!(run(&mut client, "INCR text:none"), Value::Int(1));
    assert_eq!(run(&mut client, "APPEND text:nothing ab"), Value::Int(2));
    assert_eq!(run(&mut client, "GETSET text:nil new"), Value::Nil);
    assert_eq!(run(&mut client, "SET text:nix new GET"), Value::Nil);
    assert_eq!(run(&mut client, "GETDEL text:nought"), Value::Nil);
    assert_eq!(rig.queries() - before, 5);
    assert_eq!(run(&mut client, "MGET text:none text:nothing text:nil text:nix").items().len(), 4);
    assert_eq!(rig.queries() - before, 5);
    // What is no number is told as in Redis.
    assert_eq!(error(run(&mut client, "INCR name:1")), "ERR value is not an integer or out of range");
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
}

/// What is done to a key while it is loaded, and what it is then: a value, or None where it is to be loaded anew. The
/// reader who asked before gets a value either way: the one that was set, if there is one when its reply is made.
const CHANGES: &[(&str, Option<&str>)] = &[
    ("SET {} mine", Some("mine")),
    ("SETEX {} 1000 mine", Some("mine")),
    ("SETNX {} mine", Some("mine")),
    ("MSET {} mine other mine", Some("mine")),
    ("RENAME other {}", Some("mine")),
    ("DEL {}", None),
    ("UNLINK {} nothing", None),
    ("EXPIRE {} 0", None),
    ("PEXPIREAT {} 1", None),
    ("SET {} mine PXAT 1", None),
    ("FLUSHDB", None),
    ("FLUSHALL ASYNC", None),
    ("SWAPDB 0 1", None),
];

#[test]
fn a_change_during_a_load_is_not_overwritten_by_it() {
    let rig = Rig::start();
    let (mut reader, mut writer) = (rig.client(), rig.client());
    for (id, (change, value)) in (10..).zip(CHANGES) {
        let (key, row) = (format!("gated:{id}"), Value::bulk(format!("user {id}")));
        let voided = rig.figures().get("readthrough_voided");
        let gate = rig.shut_gate();
        reader.send(&["GET", &key]).expect("sent");
        rig.wait_for_waiting(1);
        let reply = run(&mut writer, &change.replace("{}", &key));
        assert!(!reply.is_error(), "{change}: {reply:?}");
        let now = run(&mut writer, &format!("EXISTS {key}")).int();
        assert_eq!(now, i64::from(value.is_some()), "{change} is done at once");
        assert_eq!(rig.figures().get("readthrough_leases"), 0, "{change} takes the lease");
        gate.open();
        let expected = value.map_or_else(|| row.clone(), Value::bulk);
        assert_eq!(reader.read_reply().expect("a reply").value, expected, "{change}: who waited");
        assert_eq!(rig.figures().get("readthrough_voided") - voided, 1, "{change}: the load was not kept");
        rig.postgres.sql(&format!("UPDATE users SET name = 'newer' WHERE id = {id}"));
        let later = Value::bulk(value.unwrap_or("newer"));
        assert_eq!(run(&mut writer, &format!("GET {key}")), later, "{change}: who came later");
    }
}

#[test]
fn who_comes_after_a_change_does_not_join_the_older_load() {
    let rig = Rig::start();
    let (mut early, mut late, mut writer) = (rig.client(), rig.client(), rig.client());
    let gate = rig.shut_gate();
    early.send(&["GET", "gated:10"]).expect("sent");
    rig.wait_for_waiting(1);
    // Both would go in one query if the first had no connection yet.
    let held_up =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cenote' AND wait_event_type = 'Lock'";
    until("the first query", || rig.postgres.sql(held_up) == "1");
    assert_eq!(run(&mut writer, "DEL gated:10"), Value::Int(0));
    late.send(&["GET", "gated:10"]).expect("sent");
    rig.wait_for_waiting(2);
    let figures = rig.figures();
    let loads = ["readthrough_loading", "readthrough_leases", "readthrough_joined"].map(|name| figures.get(name));
    assert_eq!(loads, [2, 1, 0]);
    gate.open();
    for client in [&mut early, &mut late] {
        assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("user 10"));
    }
    assert_eq!(rig.queries(), 2);
}

/// GETEX on a value that was loaded but not kept must still answer: without a reply, every later reply of the
/// connection would belong to the command before.
#[test]
fn every_command_that_waited_has_its_reply_where_the_value_was_not_kept() {
    let rig = Rig::start();
    let mut writer = rig.client();
    let cases = [
        ("GETEX gated:20 EX 100", Value::bulk("user 20")),
        ("GETEX gated:20 PERSIST", Value::bulk("user 20")),
        ("STRLEN gated:20", Value::Int(7)),
        ("GETRANGE gated:20 0 3", Value::bulk("user")),
        ("LCS gated:20 gated:20 LEN", Value::Int(7)),
        ("MGET gated:20 plain", Value::Array(vec![Value::bulk("user 20"), Value::Nil])),
    ];
    for (line, reply) in cases {
        let mut reader = rig.client();
        let gate = rig.shut_gate();
        reader.send(&words(line)).expect("sent");
        reader.send(&["PING"]).expect("sent");
        rig.wait_for_waiting(1);
        run(&mut writer, "DEL gated:20");
        gate.open();
        assert_eq!(reader.read_reply().expect("a reply").value, reply, "{line}");
        assert_eq!(reader.read_reply().expect("a reply").value, Value::simple("PONG"), "{line}");
        assert_eq!(run(&mut writer, "EXISTS gated:20"), Value::Int(0), "{line}");
    }
}

#[test]
fn a_change_of_a_key_that_never_stays_is_given_up() {
    let slow = "[[route]]\nkey = 'slow:{id}'\nquery = 'SELECT {id}::int::text FROM pg_sleep(0.3)'\nas = 'string'\n\
                ttl = '1h'\n";
    let rig = Rig::with("", &format!("{ROUTES}{slow}"), &["--workers", "2"]);
    let mut client = rig.client();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = rig.client();
            while !done.load(Ordering::Relaxed) {
                run(&mut other, "DEL slow:1");
            }
        });
        let reply = run(&mut client, "INCR slow:1");
        done.store(true, Ordering::Relaxed);
        assert_eq!(error(reply), "TRYAGAIN route 'slow:{id}': the key keeps changing");
    });
    assert_eq!(rig.queries(), 3);
    assert_eq!(run(&mut client, "INCR slow:1"), Value::Int(2));
}

/// What was loaded for a command that is then refused must not be taken for the value of the next command's key.
#[test]
fn what_a_refused_command_had_loaded_is_nobody_elses() {
    let rig = Rig::start();
    let (mut client, mut other) = (rig.client(), rig.client());
    let gate = rig.shut_gate();
    client.send(&["APPEND", "gated:1", "x"]).expect("sent");
    client.send(&["GET", "nothing"]).expect("sent");
    rig.wait_for_waiting(1);
    assert_eq!(run(&mut other, "CONFIG SET maxmemory 1"), Value::ok());
    gate.open();
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(error(client.read_reply().expect("a reply").value), oom);
    assert_eq!(client.read_reply().expect("a reply").value, Value::Nil);
}

#[test]
fn a_value_that_does_not_fit_in_memory_is_answered_and_not_kept() {
    let big = "[[route]]\nkey = 'big:{n}'\nquery = \"SELECT repeat('x', {n}::int)\"\nas = 'string'\nttl = '1h'\n\
               max_value_bytes = 100000000\n";
    let rig = Rig::with("", &format!("{ROUTES}{big}"), &["--workers", "1"]);
    let mut client = rig.client();
    run(&mut client, "GET big:1");
    let used = Figures::read(&mut client, "memory").get("used_memory");
    run(&mut client, &format!("CONFIG SET maxmemory {}", used + 4_000_000));
    for _ in 0..2 {
        assert_eq!(run(&mut client, "STRLEN big:8000000"), Value::Int(8_000_000));
    }
    assert_eq!((rig.figures().get("readthrough_unkept"), rig.queries()), (2, 3));
    assert_eq!(run(&mut client, "EXISTS big:8000000"), Value::Int(0));
    until("the memory to be free again", || run(&mut client, "SET plain value") == Value::ok());
    // A change of what cannot be kept is refused as any other that does not fit.
    let refused = error(run(&mut client, "APPEND big:8000000 x"));
    assert_eq!(refused, "OOM command not allowed when used memory > 'maxmemory'.");
    assert_eq!(rig.queries(), 4);
    // With keys to evict, the command once tried to evict while it held its own shard, and hung for good.
    run(&mut client, "CONFIG SET maxmemory-policy allkeys-lru");
    let reply = run(&mut client, "APPEND big:8000000 x");
    assert!(reply == Value::Int(8_000_001) || reply.is_error(), "{reply:?}");
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
}

/// An MGET once answered nil for a row that exists: a key of it that was cached when it began to wait for another key, and
/// was gone when it ran again, was not loaded any more. A nil claims that there is no such row.
#[test]
fn a_key_that_goes_while_its_command_waits_for_another_is_loaded() {
    let rig = Rig::start();
    let (mut reader, mut other) = (rig.client(), rig.client());
    run(&mut other, "GET name:2");
    let gate = rig.shut_gate();
    reader.send(&["MGET", "gated:1", "name:2", "name:99999"]).expect("sent");
    rig.wait_for_waiting(1);
    assert_eq!(run(&mut other, "DEL name:2"), Value::Int(1));
    gate.open();
    let reply = reader.read_reply().expect("a reply").value;
    assert_eq!(reply, Value::Array(vec![Value::bulk("Ann"), Value::bulk("Bob"), Value::Nil]));
}
