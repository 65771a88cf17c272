//! Collections from the database: each shape, each command that reads or changes one, what rows cannot make one, and
//! what it costs.

use super::rig::{Rig, error, exec, run, until};
use crate::support::Value;

/// Tables for all shapes, by a number or a name.
const TABLES: &str = "
    CREATE TABLE people (id int PRIMARY KEY, name text, mail text, born timestamptz, tags text[]);
    INSERT INTO people VALUES (1, 'Ann', 'ann@x', '2001-02-03 04:05:06+01', '{a,b}'), (2, 'Bob', NULL, NULL, '{}');
    CREATE TABLE settings (owner text, field text, value text);
    INSERT INTO settings VALUES ('a', 'colour', 'red'), ('a', 'size', '7'), ('a', NULL, 'x'), ('a', 'none', NULL),
        ('twice', 'colour', 'red'), ('twice', 'colour', 'blue');
    CREATE TABLE scores (board text, player text, points numeric);
    INSERT INTO scores VALUES ('b', 'ann', 30), ('b', 'bob', 10.5), ('b', 'cid', 20), ('b', 'none', NULL),
        ('ends', 'low', '-Infinity'), ('ends', 'high', 'Infinity'), ('odd', 'ann', 'NaN'), ('twice', 'ann', 1),
        ('twice', 'ann', 2);
";

const ROUTES: &str = r#"
    [[route]]
    key = "person:{id}"
    query = "SELECT id, name, mail, born, tags FROM people WHERE id = {id}"
    as = "hash"
    ttl = "1h"

    [[route]]
    key = "settings:{owner}"
    query = "SELECT field, value FROM settings WHERE owner = {owner}"
    as = "hash"
    rows = "many"
    ttl = "1h"

    [[route]]
    key = "list:{n}"
    query = "SELECT g * 10 FROM generate_series(1, {n}::int) g ORDER BY g DESC"
    as = "list"
    ttl = "1h"
    max_rows = 5

    [[route]]
    key = "set:{n}"
    query = "SELECT g % 3 FROM generate_series(1, {n}::int) g"
    as = "set"
    ttl = "1h"

    [[route]]
    key = "board:{b}"
    query = "SELECT player, points FROM scores WHERE board = {b}"
    as = "zset"
    ttl = "1h"

    [[route]]
    key = "words:{n}"
    query = "SELECT repeat('x', 100) || g FROM generate_series(1, {n}::int) g ORDER BY g"
    as = "list"
    ttl = "1h"
    max_value_bytes = 1000

    [[route]]
    key = "endless:{n}"
    query = "SELECT repeat('x', 1000) || generate_series(1, {n}::int)"
    as = "list"
    ttl = "1h"
    max_rows = 100
    max_value_bytes = 200000

    [[route]]
    key = "wide:{n}"
    query = "SELECT repeat('x', 1000) || generate_series(1, {n}::int)"
    as = "set"
    ttl = "1h"
    max_rows = 1000000
    max_value_bytes = 200000

    [[route]]
    key = "gone:{n}"
    query = "SELECT g FROM generate_series(1, {n}::int) g WHERE g > 100 ORDER BY g"
    as = "list"
    ttl = "1h"
    negative_ttl = "1h"
"#;

fn start() -> Rig {
    let rig = Rig::with("", ROUTES, &["--workers", "1"]);
    rig.postgres.sql(TABLES);
    rig
}

fn texts(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| Value::bulk(*text)).collect())
}

/// The elements of an array, in order of their texts.
fn sorted(value: Value) -> Vec<String> {
    let mut texts: Vec<String> = value.items().iter().map(|item| item.text().unwrap_or_default()).collect();
    texts.sort();
    texts
}

#[test]
fn rows_make_collections() {
    let rig = start();
    let mut client = rig.client();
    let ann = ["id", "1", "name", "Ann", "mail", "ann@x", "born", "2001-02-03T03:05:06Z", "tags", r#"["a","b"]"#];
    assert_eq!(run(&mut client, "HGETALL person:1"), texts(&ann));
    // A NULL column is no field.
    assert_eq!(run(&mut client, "HGETALL person:2"), texts(&["id", "2", "name", "Bob", "tags", "[]"]));
    assert_eq!(run(&mut client, "TYPE person:1"), Value::simple("hash"));
    assert_eq!(run(&mut client, "OBJECT ENCODING person:1"), Value::bulk("listpack"));
    assert!((3_240..=3_600).contains(&run(&mut client, "TTL person:1").int()));
    assert_eq!(sorted(run(&mut client, "HGETALL settings:a")), ["7", "colour", "red", "size"]);
    assert_eq!(run(&mut client, "LRANGE list:4 0 -1"), texts(&["40", "30", "20", "10"]));
    assert_eq!(sorted(run(&mut client, "SMEMBERS set:10")), ["0", "1", "2"]);
    assert_eq!(run(&mut client, "OBJECT ENCODING set:10"), Value::bulk("intset"));
    let board = texts(&["bob", "10.5", "cid", "20", "ann", "30"]);
    assert_eq!(run(&mut client, "ZRANGE board:b 0 -1 WITHSCORES"), board);
    assert_eq!(run(&mut client, "ZRANGE board:ends 0 -1 WITHSCORES"), texts(&["low", "-inf", "high", "inf"]));
    assert_eq!(rig.queries(), 7);
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(7));
    // A command of another type finds what it would find in Redis.
    for wrong in ["GET person:1", "HGET list:4 x", "LLEN board:b", "SCARD person:2", "ZCARD set:10", "GET list:3"] {
        assert!(error(run(&mut client, wrong)).starts_with("WRONGTYPE"), "{wrong}");
    }
}

/// Each reading command on a key that is not there yet: its reply, and one query. The second time it is a hit.
#[test]
fn every_reading_command_loads() {
    let rig = start();
    let mut client = rig.client();
    let cases: &[(&str, Value)] = &[
        ("HGET person:1 name", Value::bulk("Ann")),
        ("HMGET person:1 name nothing id", Value::Array(vec![Value::bulk("Ann"), Value::Nil, Value::bulk("1")])),
        ("HLEN person:1", Value::Int(5)),
        ("HEXISTS person:1 mail", Value::Int(1)),
        ("HEXISTS person:2 mail", Value::Int(0)),
        ("HSTRLEN person:1 name", Value::Int(3)),
        ("HKEYS person:2", texts(&["id", "name", "tags"])),
        ("HVALS person:2", texts(&["2", "Bob", "[]"])),
        ("HSCAN person:2 0", Value::Array(vec![Value::bulk("0"), texts(&["id", "2", "name", "Bob", "tags", "[]"])])),
        ("HRANDFIELD settings:b", Value::Nil),
        ("HTTL person:1 FIELDS 1 name", Value::Array(vec![Value::Int(-1)])),
        ("LLEN list:3", Value::Int(3)),
        ("LINDEX list:3 -1", Value::bulk("10")),
        ("LPOS list:3 20", Value::Int(1)),
        ("LRANGE list:2 0 0", texts(&["20"])),
        ("SCARD set:9", Value::Int(3)),
        ("SISMEMBER set:9 2", Value::Int(1)),
        ("SMISMEMBER set:9 2 7", Value::Array(vec![Value::Int(1), Value::Int(0)])),
        ("SRANDMEMBER set:1", Value::bulk("1")),
        ("SSCAN set:1 0", Value::Array(vec![Value::bulk("0"), texts(&["1"])])),
        ("SINTER set:1 set:9", texts(&["1"])),
        ("SINTERCARD 2 set:1 set:9", Value::Int(1)),
        ("SDIFF set:2 set:1", texts(&["2"])),
        ("SUNION set:1", texts(&["1"])),
        ("ZCARD board:b", Value::Int(3)),
        ("ZSCORE board:b bob", Value::bulk("10.5")),
        ("ZMSCORE board:b bob zoe", Value::Array(vec![Value::bulk("10.5"), Value::Nil])),
        ("ZRANK board:b ann", Value::Int(2)),
        ("ZREVRANK board:b ann", Value::Int(0)),
        ("ZCOUNT board:b 15 +inf", Value::Int(2)),
        ("ZLEXCOUNT board:ends - +", Value::Int(2)),
        ("ZRANGEBYSCORE board:b 0 15", texts(&["bob"])),
        ("ZREVRANGE board:b 0 0", texts(&["ann"])),
        ("ZRANDMEMBER board:none", Value::Nil),
        ("ZUNION 1 board:b", texts(&["bob", "cid", "ann"])),
        ("ZINTER 2 board:b board:b", texts(&["bob", "cid", "ann"])),
        ("ZDIFF 1 board:b", texts(&["bob", "cid", "ann"])),
        ("ZINTERCARD 1 board:b", Value::Int(3)),
        ("GEOPOS board:b zoe", Value::Array(vec![Value::Nil])),
    ];
    for (line, reply) in cases {
        run(&mut client, "FLUSHALL");
        let before = rig.queries();
        assert_eq!(run(&mut client, line), *reply, "{line}");
        assert_eq!(rig.queries() - before, 1, "{line} loads in one query");
        assert_eq!(run(&mut client, line), *reply, "{line} again");
        assert_eq!(rig.queries() - before, 1, "{line} is a hit the second time");
    }
}

#[test]
fn commands_that_change_a_part_load_first() {
    let rig = start();
    let mut client = rig.client();
    let cases: &[(&str, Value, &str, Value)] = &[
        ("HSET person:2 mail b@x", Value::Int(1), "HLEN person:2", Value::Int(4)),
        ("HSETNX person:1 name Zoe", Value::Int(0), "HGET person:1 name", Value::bulk("Ann")),
        ("HDEL person:1 name", Value::Int(1), "HLEN person:1", Value::Int(4)),
        ("HINCRBY settings:a size 3", Value::Int(10), "HLEN settings:a", Value::Int(2)),
        ("RPUSH list:2 x", Value::Int(3), "LRANGE list:2 0 -1", texts(&["20", "10", "x"])),
        ("LPUSHX list:2 x", Value::Int(3), "LLEN list:2", Value::Int(3)),
        ("LPOP list:2", Value::bulk("20"), "LLEN list:2", Value::Int(1)),
        ("LSET list:2 0 y", Value::ok(), "LINDEX list:2 0", Value::bulk("y")),
        ("BLPOP list:2 0", texts(&["list:2", "20"]), "LLEN list:2", Value::Int(1)),
        ("LMOVE list:2 list:1 LEFT RIGHT", Value::bulk("20"), "LRANGE list:1 0 -1", texts(&["10", "20"])),
        ("SADD set:1 9", Value::Int(1), "SCARD set:1", Value::Int(2)),
        ("SREM set:2 1", Value::Int(1), "SMEMBERS set:2", texts(&["2"])),
        ("SMOVE set:2 set:1 2", Value::Int(1), "SCARD set:1", Value::Int(2)),
        ("ZADD board:b 5 zoe", Value::Int(1), "ZCARD board:b", Value::Int(4)),
        ("ZINCRBY board:b 1 bob", Value::bulk("11.5"), "ZCARD board:b", Value::Int(3)),
        ("ZPOPMIN board:b", texts(&["bob", "10.5"]), "ZCARD board:b", Value::Int(2)),
        ("ZREM board:b cid", Value::Int(1), "ZCARD board:b", Value::Int(2)),
        ("SINTERSTORE set:5 set:1 set:2", Value::Int(1), "SMEMBERS set:5", texts(&["1"])),
        ("ZRANGESTORE board:ends board:b 0 0", Value::Int(1), "ZRANGE board:ends 0 -1", texts(&["bob"])),
    ];
    for (line, reply, look, found) in cases {
        run(&mut client, "FLUSHALL");
        let before = rig.queries();
        assert_eq!(run(&mut client, line), *reply, "{line}");
        assert_eq!(rig.queries() - before, 1, "{line} loads what it changes or reads, in one query");
        assert_eq!(run(&mut client, look), *found, "{line}, then {look}");
        assert_eq!(rig.queries() - before, 1, "{look} is a hit");
    }
    // What looks at the cache loads nothing.
    run(&mut client, "FLUSHALL");
    let before = rig.figures().get("source_main.loads");
    for look in
        ["EXISTS person:1", "TYPE list:2", "TTL set:1", "OBJECT ENCODING board:b", "DBSIZE", "SCAN 0", "DEL list:2"]
    {
        run(&mut client, look);
        assert_eq!(rig.figures().get("source_main.loads"), before, "{look} loaded");
    }
}

#[test]
fn no_rows_are_no_key() {
    let rig = start();
    let mut client = rig.client();
    for (line, reply) in [
        ("LRANGE gone:5 0 -1", Value::Array(vec![])),
        ("LLEN gone:5", Value::Int(0)),
        ("LINDEX gone:5 0", Value::Nil),
        ("EXISTS gone:5", Value::Int(0)),
        ("TYPE gone:5", Value::simple("none")),
    ] {
        assert_eq!(run(&mut client, line), reply, "{line}");
    }
    assert_eq!(rig.queries(), 1, "that there are none is remembered");
    assert_eq!(run(&mut client, "RPUSH gone:5 x"), Value::Int(1));
    assert_eq!(rig.queries(), 1);
    assert_eq!(run(&mut client, "HGETALL person:77"), Value::Array(vec![]));
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(1));
    // Rows of which each has a NULL.
    rig.postgres.sql("INSERT INTO settings VALUES ('empty', NULL, 'x'), ('empty', 'y', NULL)");
    assert_eq!(run(&mut client, "HLEN settings:empty"), Value::Int(0));
    assert_eq!(run(&mut client, "EXISTS settings:empty"), Value::Int(0));
}

#[test]
fn rows_that_make_no_collection_are_refused() {
    let rig = start();
    let mut client = rig.client();
    for (line, text) in [
        ("HGETALL settings:twice", "ERR route 'settings:{owner}': the query returned a field or member twice"),
        ("ZCARD board:twice", "ERR route 'board:{b}': the query returned a field or member twice"),
        ("ZCARD board:odd", "ERR route 'board:{b}': the query returned a score that is not a number"),
        ("LLEN list:6", "ERR route 'list:{n}': the query returned more than max_rows rows"),
        ("LLEN words:10", "ERR route 'words:{n}': the value is larger than max_value_bytes"),
    ] {
        assert_eq!(error(run(&mut client, line)), text, "{line}");
    }
    assert_eq!(run(&mut client, "LLEN list:5"), Value::Int(5));
    assert_eq!(run(&mut client, "LLEN words:9"), Value::Int(9));
    // Of a result without end only so much is read as shows that it is too large.
    assert!(error(run(&mut client, "LLEN endless:2000000000")).contains("max_rows"));
    assert!(error(run(&mut client, "SCARD wide:2000000000")).contains("max_value_bytes"));
    assert_eq!(run(&mut client, "LLEN list:5"), Value::Int(5));
}

#[test]
fn many_keys_go_in_one_query_each_with_its_own_rows() {
    let rig = start();
    let mut client = rig.client();
    run(&mut client, "GET nothing");
    for id in 1..=20 {
        client.send(&["LRANGE", &format!("list:{}", id % 6), "0", "-1"]).expect("sent");
    }
    for id in 1..=20 {
        let expected: Vec<String> = (1..=id % 6).rev().map(|n| (n * 10).to_string()).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_eq!(client.read_reply().expect("a reply").value, texts(&expected), "list:{}", id % 6);
    }
    assert!(rig.queries() <= 3, "{} queries for a pipeline", rig.queries());
    // One bad key does not spoil the others.
    for board in ["b", "odd", "ends", "twice"] {
        client.send(&["ZCARD", &format!("board:{board}")]).expect("sent");
    }
    let replies: Vec<Value> = (0..4).map(|_| client.read_reply().expect("a reply").value).collect();
    assert_eq!((&replies[0], &replies[2]), (&Value::Int(3), &Value::Int(2)));
    assert!(replies[1].is_error() && replies[3].is_error(), "{replies:?}");
}

/// A reply from what was loaded but not kept must be as right as one from the cache.
#[test]
fn what_is_not_kept_is_answered_all_the_same() {
    let gated = "[[route]]\nkey = 'slow:{id}'\nquery = 'SELECT name, id FROM users, gate WHERE id <= {id}'\nas = 'zset'\nttl = '1h'\n";
    let rig = Rig::with("", &format!("{ROUTES}{gated}"), &["--workers", "1"]);
    let (mut reader, mut writer) = (rig.client(), rig.client());
    for (line, reply) in [("ZCARD slow:2", Value::Int(2)), ("ZSCORE slow:2 Bob", Value::bulk("2"))] {
        let gate = rig.shut_gate();
        reader.send(&super::rig::words(line)).expect("sent");
        rig.wait_for_waiting(1);
        run(&mut writer, "DEL slow:2");
        gate.open();
        assert_eq!(reader.read_reply().expect("a reply").value, reply, "{line}");
        assert_eq!(run(&mut writer, "EXISTS slow:2"), Value::Int(0));
    }
    let gate = rig.shut_gate();
    reader.send(&["GET", "slow:2"]).expect("sent");
    rig.wait_for_waiting(1);
    run(&mut writer, "DEL slow:2");
    gate.open();
    assert!(error(reader.read_reply().expect("a reply").value).starts_with("WRONGTYPE"));
}

/// A client that waits for a list is served by the load that brings it.
#[test]
fn a_load_serves_who_waits_for_the_list() {
    let more = "[[route]]\nkey = 'jobs:{q}'\nquery = 'SELECT value FROM texts WHERE key = {q} ORDER BY value'\nas = 'list'\n\
                ttl = '1h'\nnegative_ttl = '0s'\n";
    let rig = Rig::with("", more, &["--workers", "2"]);
    let (mut waiter, mut other) = (rig.client(), rig.client());
    waiter.send(&["BLPOP", "jobs:a", "0"]).expect("sent");
    rig.wait_for_waiting(1);
    rig.postgres.sql("ALTER TABLE texts DROP CONSTRAINT texts_pkey; INSERT INTO texts VALUES ('a', '1'), ('a', '2')");
    until("the load", || run(&mut other, "LLEN jobs:a") == Value::Int(1));
    assert_eq!(waiter.read_reply().expect("a reply").value, texts(&["jobs:a", "1"]));
}

#[test]
fn transactions_read_collections() {
    let rig = start();
    let mut client = rig.client();
    let reply =
        exec(&mut client, &["HGET person:1 name", "RPUSH list:1 x", "ZCARD board:b", "SUNIONSTORE set:7 set:1"]);
    assert_eq!(reply, Value::Array(vec![Value::bulk("Ann"), Value::Int(2), Value::Int(3), Value::Int(1)]));
    assert_eq!(rig.queries(), 4);
}
