//! Who removes much waits for nothing: what was removed is freed by a thread of its own.

use crate::support::{Client, Server, Value, until};

const ELEMENTS: usize = 5000;

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Makes a large collection of a type at `k`.
fn fill(client: &mut Client, kind: &str) {
    let padding = "x".repeat(1000);
    let command = |n: usize| match kind {
        "list" => format!("RPUSH k {n}{padding}"),
        "set" => format!("SADD k {n}"),
        "hash" => format!("HSET k {n} v"),
        "zset" => format!("ZADD k {n} {n}"),
        _ => format!("XADD k {}-1 f v", n + 1),
    };
    let commands: Vec<_> = (0..ELEMENTS).map(|n| words(&command(n))).collect();
    client.pipeline(&commands).expect("all are answered");
}

fn freed(client: &mut Client) -> u64 {
    let info = client.cmd(&["INFO", "memory"]).text().expect("a text");
    let line = info.lines().find_map(|line| line.strip_prefix("lazyfreed_objects:"));
    line.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn what_is_large_is_freed_elsewhere() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let kept = ELEMENTS - 1;
    for (kind, command) in [
        ("list", "DEL k".to_owned()),
        ("set", "DEL k".to_owned()),
        ("hash", "DEL k".to_owned()),
        ("zset", "DEL k".to_owned()),
        ("stream", "DEL k".to_owned()),
        ("list", "SET k v".to_owned()),
        ("list", "LTRIM k 0 0".to_owned()),
        ("list", "LTRIM k -1 -1".to_owned()),
        ("list", format!("LPOP k {kept}")),
        ("list", format!("RPOP k {kept}")),
        ("set", format!("SPOP k {ELEMENTS}")),
        ("zset", "ZREMRANGEBYRANK k 0 -2".to_owned()),
        ("zset", "ZREMRANGEBYSCORE k -inf +inf".to_owned()),
        ("zset", format!("ZPOPMIN k {kept}")),
        ("stream", "XTRIM k MAXLEN 1".to_owned()),
        ("stream", format!("XTRIM k MINID {kept}")),
        ("stream", "XADD k MAXLEN ~ 1 * f v".to_owned()),
    ] {
        client.cmd(&["DEL", "k"]);
        fill(&mut client, kind);
        let before = freed(&mut client);
        assert!(!client.cmd(&words(&command)).is_error(), "{kind}: {command}");
        until(&format!("{kind}: {command}: something to be freed elsewhere"), || freed(&mut client) != before);
        let len = match (kind, command.as_str()) {
            (_, command) if command.contains("DEL") || command.contains("SPOP") || command.contains("inf") => 0,
            ("list", "SET k v") => continue,
            ("list", _) => client.cmd(&["LLEN", "k"]).int(),
            ("zset", _) => client.cmd(&["ZCARD", "k"]).int(),
            _ => client.cmd(&["XLEN", "k"]).int(),
        };
        let most = if command.contains('~') { 200 } else { 2 };
        assert!(len <= most, "{kind}: {command}: {len} are left");
        assert_eq!(client.cmd(&["EXISTS", "k"]), Value::Int(i64::from(len > 0)), "{kind}: {command}");
    }
}

/// `lazyfree-lazy-…` once had no effect: whoever set them to `no`, to have the memory back with the reply, did not.
#[test]
fn who_removes_waits_where_the_directives_say_so() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let cases: [(&str, &[&str]); 7] = [
        ("lazyfree-lazy-user-del", &["DEL k"]),
        ("lazyfree-lazy-server-del", &["SET k v"]),
        ("lazyfree-lazy-server-del", &["SET other v", "RENAME other k"]),
        ("lazyfree-lazy-server-del", &["SUNIONSTORE k nothing"]),
        ("lazyfree-lazy-expire", &["PEXPIRE k 1"]),
        ("lazyfree-lazy-expire", &["PEXPIRE k -1"]),
        ("lazyfree-lazy-eviction", &["CONFIG SET maxmemory-policy allkeys-random maxmemory 1"]),
    ];
    for (directive, commands) in cases {
        for (value, elsewhere) in [("no", 0), ("yes", 1)] {
            fill(&mut client, "set");
            client.cmd(&["CONFIG", "SET", directive, value]);
            let before = freed(&mut client);
            for command in commands {
                assert!(!client.cmd(&words(command)).is_error(), "{command}");
            }
            until("the set to go", || client.cmd(&["TYPE", "k"]) != Value::simple("set"));
            client.cmd(&["CONFIG", "SET", "maxmemory", "0"]);
            until(&format!("{directive} {value}"), || freed(&mut client) == before + elsewhere);
            client.cmd(&["DEL", "k"]);
        }
    }
    // UNLINK and ASYNC never wait, SYNC always does.
    let flush = |client: &mut Client, directives: &str, command: &str, elsewhere: u64| {
        let keys: Vec<_> = (0..ELEMENTS).map(|n| words(&format!("SET {n} v"))).collect();
        client.pipeline(&keys).expect("all are answered");
        client.cmd(&["CONFIG", "SET", "lazyfree-lazy-user-flush", directives]);
        let before = freed(client);
        assert_eq!(client.cmd(&words(command)), Value::ok());
        until(&format!("{command}, {directives}"), || freed(client) == before + elsewhere);
    };
    let all = ELEMENTS as u64;
    for (directives, command, elsewhere) in
        [("no", "FLUSHALL", 0), ("no", "FLUSHDB ASYNC", all), ("yes", "FLUSHDB", all), ("yes", "FLUSHALL SYNC", 0)]
    {
        flush(&mut client, directives, command, elsewhere);
    }
    client.cmd(&["CONFIG", "SET", "lazyfree-lazy-user-del", "no"]);
    fill(&mut client, "set");
    let before = freed(&mut client);
    assert_eq!(client.cmd(&["UNLINK", "k"]), Value::Int(1));
    until("UNLINK waits for nothing", || freed(&mut client) == before + 1);
}
