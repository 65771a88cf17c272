//! CONFIG SET has its effect: a directive that counts as applied does what it says, from the next command on.

use std::fs;
use std::net::TcpStream;

use crate::support::{Client, Server, ServerBuilder, Value, until};

/// Sets a directive.
#[track_caller]
fn set(client: &mut Client, name: &str, value: &str) {
    assert_eq!(client.cmd(&["CONFIG", "SET", name, value]), Value::ok(), "{name} {value}");
}

/// A field of INFO.
fn info(client: &mut Client, section: &str, field: &str) -> String {
    let text = client.cmd(&["INFO", section]).text().expect("INFO is a text");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
}

/// The string `v` as DUMP would give it in version 100 of the format.
const UNKNOWN_VERSION: &[u8] = b"\x00\x01\x76\x64\x00\xa2\xe9\x53\xec\xa4\x42\xba\x51";

fn debugging() -> ServerBuilder {
    Server::cenote().args(["--enable-debug-command", "yes"])
}

#[test]
fn values_are_packed_as_the_directives_in_force_say() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let long = "x".repeat(20);
    // The directive, a small limit, what goes past it, and the encodings before and after.
    for (directive, limit, command, [packed, other]) in [
        ("hash-max-listpack-entries", "1", &["HSET", "k", "a", "1", "b", "2"][..], ["listpack", "hashtable"]),
        ("hash-max-ziplist-entries", "1", &["HSET", "k", "a", "1", "b", "2"], ["listpack", "hashtable"]),
        ("hash-max-listpack-value", "10", &["HSET", "k", "a", &long], ["listpack", "hashtable"]),
        ("hash-max-ziplist-value", "10", &["HSET", "k", "a", &long], ["listpack", "hashtable"]),
        ("list-max-listpack-size", "1", &["RPUSH", "k", "a", "b"], ["listpack", "quicklist"]),
        ("list-max-ziplist-size", "1", &["RPUSH", "k", "a", "b"], ["listpack", "quicklist"]),
        ("set-max-intset-entries", "1", &["SADD", "k", "1", "2"], ["intset", "hashtable"]),
        ("set-max-listpack-entries", "1", &["SADD", "k", "a", "b"], ["listpack", "hashtable"]),
        ("set-max-listpack-value", "10", &["SADD", "k", &long], ["listpack", "hashtable"]),
        ("zset-max-listpack-entries", "1", &["ZADD", "k", "1", "a", "2", "b"], ["listpack", "skiplist"]),
        ("zset-max-ziplist-entries", "1", &["ZADD", "k", "1", "a", "2", "b"], ["listpack", "skiplist"]),
        ("zset-max-listpack-value", "10", &["ZADD", "k", "1", &long], ["listpack", "skiplist"]),
        ("zset-max-ziplist-value", "10", &["ZADD", "k", "1", &long], ["listpack", "skiplist"]),
    ] {
        let before = client.cmd(&["CONFIG", "GET", directive]).items()[1].text().expect("a value");
        for (value, encoding) in [(before.as_str(), packed), (limit, other), (&before, packed)] {
            set(&mut client, directive, value);
            client.cmd(&["DEL", "k"]);
            assert!(!client.cmd(command).is_error());
            assert_eq!(client.cmd(&["OBJECT", "ENCODING", "k"]), Value::bulk(encoding), "{directive} {value}");
        }
    }
    let nodes = |client: &mut Client| {
        client.cmd(&["DEL", "s"]);
        (1..=20).for_each(|n| _ = client.cmd(&["XADD", "s", &format!("{n}-1"), "f", &"v".repeat(100)]));
        let info = client.cmd(&["XINFO", "STREAM", "s"]);
        let at = info.items().iter().position(|name| *name == Value::bulk("radix-tree-keys")).expect("the field");
        info.items()[at + 1].int()
    };
    assert_eq!(nodes(&mut client), 1);
    set(&mut client, "stream-node-max-entries", "5");
    assert_eq!(nodes(&mut client), 4);
    set(&mut client, "stream-node-max-entries", "0");
    set(&mut client, "stream-node-max-bytes", "300");
    assert!(nodes(&mut client) > 4);
    // A value in a version of the format that nobody knows yet, with its checksum.
    let unknown = |client: &mut Client| client.cmd(&[&b"RESTORE"[..], b"d", b"0", UNKNOWN_VERSION, b"REPLACE"]);
    assert!(unknown(&mut client).is_error());
    set(&mut client, "rdb-version-check", "relaxed");
    assert_eq!(unknown(&mut client), Value::ok());
    assert_eq!(client.cmd(&["GET", "d"]), Value::bulk("v"));
    let hll = |client: &mut Client| {
        client.cmd(&["DEL", "h"]);
        (0..200).for_each(|n| _ = client.cmd(&["PFADD", "h", &n.to_string()]));
        client.cmd(&["STRLEN", "h"]).int()
    };
    let sparse = hll(&mut client);
    set(&mut client, "hll-sparse-max-bytes", "100");
    assert!(hll(&mut client) > 10 * sparse, "it is dense");
}

#[test]
fn logs_are_cut_to_the_lengths_in_force() {
    let server = Server::cenote().start();
    let mut client = server.client();
    for (threshold, length, log, entry) in [
        ("slowlog-log-slower-than", "slowlog-max-len", "slow", &["PING"][..]),
        ("commandlog-execution-slower-than", "commandlog-slow-execution-max-len", "slow", &["PING"]),
        ("commandlog-request-larger-than", "commandlog-large-request-max-len", "large-request", &["PING"]),
        ("commandlog-reply-larger-than", "commandlog-large-reply-max-len", "large-reply", &["PING"]),
    ] {
        set(&mut client, length, "3");
        set(&mut client, threshold, "0");
        (0..10).for_each(|_| _ = client.cmd(entry));
        set(&mut client, threshold, "-1");
        assert_eq!(client.cmd(&["COMMANDLOG", "LEN", log]).int(), 3, "{length}");
        client.cmd(&["COMMANDLOG", "RESET", log]);
        assert!(!client.cmd(entry).is_error());
        assert_eq!(client.cmd(&["COMMANDLOG", "LEN", log]).int(), 0, "{threshold}");
    }
    set(&mut client, "acllog-max-len", "2");
    (0..5).for_each(|n| _ = client.cmd(&["AUTH", &format!("nobody{n}"), "x"]));
    assert_eq!(client.cmd(&["ACL", "LOG"]).items().len(), 2);
    // Latencies of commands, and what INFO shows of them.
    assert!(client.cmd(&["INFO", "latencystats"]).text().expect("a text").contains(":p50="));
    set(&mut client, "latency-tracking-info-percentiles", "42");
    assert!(client.cmd(&["INFO", "latencystats"]).text().expect("a text").contains("_ping:p42="));
    set(&mut client, "latency-tracking", "no");
    assert_eq!(client.cmd(&["TIME"]).items().len(), 2);
    assert_eq!(client.cmd(&["LATENCY", "HISTOGRAM", "time"]).items().len(), 0);
    set(&mut client, "latency-tracking", "yes");
    client.cmd(&["TIME"]);
    assert_eq!(client.cmd(&["LATENCY", "HISTOGRAM", "time"]).items().len(), 2);
}

#[test]
fn limits_hold_from_the_next_request_on() {
    let server = Server::cenote().start();
    let mut client = server.client();
    set(&mut client, "proto-max-bulk-len", "1mb");
    let mut other = server.client();
    assert!(other.try_cmd(&["SET", "k", &"x".repeat(1_100_000)]).map_or(true, |reply| reply.value.is_error()));
    set(&mut client, "client-query-buffer-limit", "1mb");
    let mut other = server.client();
    let words: Vec<String> = (0..20_000).map(|n| format!("{n}{}", "x".repeat(100))).collect();
    let many: Vec<&str> = ["RPUSH", "k"].into_iter().chain(words.iter().map(String::as_str)).collect();
    assert!(other.try_cmd(&many).is_err(), "it is closed");
    assert_eq!(info(&mut client, "stats", "client_query_buffer_limit_disconnections"), "1");
    set(&mut client, "maxclients", "1");
    assert!(server.client().try_cmd(&["PING"]).map_or(true, |reply| reply.value.is_error()));
    set(&mut client, "maxclients", "100");
    assert_eq!(server.client().cmd(&["PING"]), Value::simple("PONG"));
    set(&mut client, "timeout", "1");
    let mut idle = server.client();
    until("the idle one to be closed", || {
        client.cmd(&["PING"]);
        idle.is_closed()
    });
}

/// `hz` once had no effect, and INFO showed it as if it had.
#[test]
fn the_pace_of_background_work_follows_hz_and_the_clients() {
    let server = Server::cenote().start();
    let mut client = server.client();
    set(&mut client, "hz", "1");
    let _crowd: Vec<Client> = (0..450).map(|_| server.client()).collect();
    until("all to be connected", || info(&mut client, "clients", "connected_clients") == "451");
    assert_eq!(
        (info(&mut client, "server", "configured_hz"), info(&mut client, "server", "hz")),
        ("1".into(), "4".into())
    );
    set(&mut client, "dynamic-hz", "no");
    assert_eq!(info(&mut client, "server", "hz"), "1");
    // Keys that nobody asks for go all the same, at any pace and effort.
    for (hz, effort) in [("1", "1"), ("500", "10")] {
        assert_eq!(client.cmd(&["CONFIG", "SET", "hz", hz, "active-expire-effort", effort]), Value::ok());
        (0..100).for_each(|n| _ = client.cmd(&["SET", &format!("k{n}"), "v", "PX", "1"]));
        until("the keys to expire", || client.cmd(&["DBSIZE"]).int() == 0);
    }
}

#[test]
fn the_system_is_told_how_willing_the_process_is_to_be_killed() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let score = || {
        let text = fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid())).expect("Linux has it");
        text.trim().parse::<i32>().expect("a number")
    };
    let inherited = score();
    assert_eq!(
        client.cmd(&["CONFIG", "SET", "oom-score-adj", "absolute", "oom-score-adj-values", "900 901 902"]),
        Value::ok()
    );
    assert_eq!(score(), 900);
    set(&mut client, "oom-score-adj-values", "950 951 952");
    assert_eq!(score(), 950);
    assert_eq!(
        client.cmd(&["CONFIG", "SET", "oom-score-adj", "relative", "oom-score-adj-values", "20 30 40"]),
        Value::ok()
    );
    assert_eq!(score(), (inherited + 20).min(1000));
    set(&mut client, "oom-score-adj", "no");
    assert_eq!(score(), inherited);
    let started = Server::cenote().args(["--oom-score-adj", "yes", "--oom-score-adj-values", "7 8 9"]).start();
    let text = fs::read_to_string(format!("/proc/{}/oom_score_adj", started.pid())).expect("Linux has it");
    assert_eq!(text.trim(), (inherited + 7).min(1000).to_string());
}

#[test]
fn lines_of_the_log_tell_their_time_as_configured() {
    let server = Server::cenote().start();
    let mut client = server.client();
    // What has no effect is told in the log.
    let mut line = |format: &str, marker: &str| {
        set(&mut client, "log-timestamp-format", format);
        set(&mut client, "cluster-announce-ip", marker);
        let mut found = String::new();
        until("the line to be written", || {
            let log = server.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains("cluster-announce-ip")).collect();
            found = lines.last().map(|line| (*line).to_owned()).unwrap_or_default();
            lines.len() == marker.len()
        });
        found
    };
    let iso = line("iso8601", "1");
    assert!(iso.as_bytes()[4] == b'-' && iso.as_bytes()[10] == b'T' && iso.contains("Z "), "{iso}");
    let ms = line("milliseconds", "12");
    assert!(ms.split_whitespace().next().is_some_and(|word| word.len() == 13 && word.parse::<u64>().is_ok()), "{ms}");
    let legacy = line("legacy", "123");
    let words: Vec<&str> = legacy.split_whitespace().collect();
    assert!(words[1].len() == 3 && words[2].starts_with("20") && words[3].len() == 12, "{legacy}");
    set(&mut client, "loglevel", "nothing");
    set(&mut client, "cluster-announce-ip", "unheard");
    set(&mut client, "loglevel", "notice");
    set(&mut client, "cluster-announce-ip", "4");
    until("the next line", || server.log().matches("cluster-announce-ip").count() == 4);
}

/// A client that has asked for more than its socket takes, and reads nothing.
fn stuck(server: &Server) -> Client {
    let mut client = server.client();
    assert_eq!(client.cmd(&["SET", "large", &"x".repeat(1 << 20)]), Value::ok());
    (0..32).for_each(|_| client.send(&["GET", "large"]).expect("it is sent"));
    let mut other = server.client();
    until("replies to wait", || {
        let list = other.cmd(&["CLIENT", "LIST"]).text().expect("a text");
        list.lines().any(|line| line.split(" omem=").nth(1).is_some_and(|omem| !omem.starts_with("0 ")))
    });
    client
}

#[test]
fn a_server_that_stops_waits_for_what_is_under_way_as_long_as_configured() {
    for (directive, value, signal) in [
        ("shutdown-timeout", "0", "TERM"),
        ("shutdown-on-sigterm", "now", "TERM"),
        ("shutdown-on-sigint", "nosave now", "INT"),
    ] {
        let mut server = Server::cenote().args(["--shutdown-timeout", "3600"]).start();
        let mut waits = stuck(&server);
        set(&mut server.client(), directive, value);
        server.signal(signal);
        assert_eq!(server.wait_for_exit().code(), Some(0), "{directive}");
        drop(waits);
        // Without that it waits until the replies are read.
        server = Server::cenote().args(["--shutdown-timeout", "3600"]).start();
        waits = stuck(&server);
        server.signal(signal);
        until("the port to be closed", || TcpStream::connect(("127.0.0.1", server.port())).is_err());
        assert!(server.is_running(), "{directive}");
        let replies = waits.read_to_end().expect("what was under way");
        let reply = "$1048576\r\n".len() + (1 << 20) + "\r\n".len();
        assert!(!replies.is_empty() && replies.len().is_multiple_of(reply), "whole replies: {}", replies.len());
        assert_eq!(server.wait_for_exit().code(), Some(0), "{directive}");
    }
    let mut server = Server::cenote().args(["--shutdown-timeout", "3600"]).start();
    let _waits = stuck(&server);
    server.client().send(&["SHUTDOWN", "NOW"]).expect("it is sent");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn what_was_slow_is_noted_under_its_event() {
    let server = debugging().args(["--workers", "1"]).start();
    let mut client = server.client();
    set(&mut client, "latency-monitor-threshold", "1");
    let has = |client: &mut Client, event: &str| {
        let latest = client.cmd(&["LATENCY", "LATEST"]);
        latest.items().iter().any(|noted| noted.items()[0] == Value::bulk(event))
    };
    client.cmd(&["DEBUG", "SLEEP", "0.01"]);
    assert!(has(&mut client, "command"));
    // A command that is to be fast and is not: it looks at many keys.
    let keys: Vec<String> = (0..30_000).map(|n| format!("key{n}")).collect();
    let exists: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    until("a fast command to be slow", || {
        client.cmd(&exists);
        has(&mut client, "fast-command")
    });
    let large = "for i = 1, 60000 do redis.call('sadd', 'large', 'm' .. i) end";
    // Large values are freed within the cycle that removes them.
    set(&mut client, "lazyfree-lazy-expire", "no");
    until("a slow expire cycle", || {
        client.cmd(&["EVAL", large, "0"]);
        client.cmd(&["PEXPIRE", "large", "1"]);
        until("the key to expire", || client.cmd(&["DBSIZE"]).int() == 0);
        has(&mut client, "expire-cycle") && has(&mut client, "expire-del")
    });
    set(&mut client, "lazyfree-lazy-eviction", "no");
    set(&mut client, "maxmemory-policy", "allkeys-random");
    until("a slow eviction cycle", || {
        set(&mut client, "maxmemory", "0");
        client.cmd(&["EVAL", large, "0"]);
        set(&mut client, "maxmemory", "1");
        until("the key to be evicted", || client.cmd(&["DBSIZE"]).int() == 0);
        has(&mut client, "eviction-cycle") && has(&mut client, "eviction-del")
    });
}
