//! DUMP and RESTORE between Cenote and real servers, both ways; and payloads that were damaged on the way.

use crate::support::{Client, Oracle, Random, Server, Value};

/// Damaged payloads sent in one run.
const DAMAGED: usize = 20_000;

/// Commands on what was restored from a damaged payload, of whatever type it came to be.
const AFTERWARDS: [&str; 14] = [
    "DUMP k",
    "OBJECT ENCODING k",
    "HGETALL k",
    "HSET k f v",
    "SADD k m",
    "ZADD k 1 m",
    "ZRANGE k 0 -1 WITHSCORES",
    "LPUSH k e",
    "XINFO STREAM k FULL COUNT 0",
    "XADD k * f v",
    "XREADGROUP GROUP g alice STREAMS k >",
    "XAUTOCLAIM k g bob 0 0",
    "XTRIM k MAXLEN 3",
    "COPY k copy REPLACE",
];

/// Commands that make a key of every type and form that both sides know, and the one that shows it.
fn values() -> Vec<(Vec<Vec<String>>, Vec<&'static str>)> {
    let command = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let many = |head: &str, each: &dyn Fn(usize) -> String| {
        let words: Vec<_> = (0..700).map(each).collect();
        command(&format!("{head} {}", words.join(" ")))
    };
    let long = "x".repeat(9000);
    let show_list = vec!["LRANGE", "k", "0", "-1"];
    let show_hash = vec!["HGETALL", "k"];
    let show_set = vec!["SMEMBERS", "k"];
    let show_zset = vec!["ZRANGE", "k", "0", "-1", "WITHSCORES"];
    vec![
        (vec![command("SET k hello")], vec!["GET", "k"]),
        (vec![command("SET k 12345")], vec!["GET", "k"]),
        (vec![command("SET k -9223372036854775808")], vec!["GET", "k"]),
        (vec![command(&format!("SET k {}", "ab".repeat(40_000)))], vec!["GET", "k"]),
        (vec![command("SETRANGE k 100 x")], vec!["GET", "k"]),
        (vec![command("PFADD k a b c d e")], vec!["PFCOUNT", "k"]),
        (vec![command("RPUSH k a b 1 300 -70000 9223372036854775807 c")], show_list.clone()),
        (vec![many("RPUSH k", &|n| format!("element-{n}"))], show_list.clone()),
        (vec![command(&format!("RPUSH k a {long} b {long}"))], show_list),
        (vec![command("ZADD k 1 a 2.5 b inf c -inf d 0.25 e -3 f 1e100 g")], show_zset.clone()),
        (vec![many("ZADD k", &|n| format!("{}.5 member-{n}", n * 7 % 700))], show_zset.clone()),
        (vec![command(&format!("ZADD k 1 {long} 2 b"))], show_zset),
        (vec![command("HSET k f v g 7 h -70000 i 9223372036854775807")], show_hash.clone()),
        (vec![many("HSET k", &|n| format!("field-{n} {n}"))], show_hash.clone()),
        (vec![command(&format!("HSET k f {long} {long} v"))], show_hash),
        (vec![command("SADD k 1 2 300 -70000")], show_set.clone()),
        (vec![command("SADD k a b 3 1000000000000")], show_set.clone()),
        (vec![many("SADD k", &|n| n.to_string())], show_set.clone()),
        (vec![many("SADD k", &|n| format!("member-{n}"))], show_set),
        (streams(), vec!["XINFO", "STREAM", "k", "FULL", "COUNT", "0"]),
        (vec![command("XADD k 5-1 f v"), command("XDEL k 5-1")], vec!["XINFO", "STREAM", "k", "FULL"]),
        (vec![command("XGROUP CREATE k g $ MKSTREAM")], vec!["XINFO", "STREAM", "k", "FULL"]),
    ]
}

/// A stream of several nodes: entries with the same fields and with others, deleted ones, groups with pending entries.
fn streams() -> Vec<Vec<String>> {
    let command = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut commands: Vec<_> = (1..260)
        .map(|n| match n % 7 {
            3 => command(&format!("XADD k {n}-{n} other {n} fields text-{n} x 1")),
            _ => command(&format!("XADD k {n}-{n} name value-{n} number {n}")),
        })
        .collect();
    commands.extend(["XDEL k 1-1 5-5 6-6 200-200", "XGROUP CREATE k g 0", "XGROUP CREATE k empty 10-0"].map(command));
    commands.extend(
        ["XREADGROUP GROUP g alice COUNT 5 STREAMS k >", "XREADGROUP GROUP g bob COUNT 3 STREAMS k >"].map(command),
    );
    commands.extend(["XACK k g 3-3", "XDEL k 4-4", "XSETID k 18446744073709551615-9"].map(command));
    commands
}

/// What of a reply does not depend on the moment at which it is given, nor on how a server keeps the value.
fn lasting(value: &Value) -> Value {
    let is_passing = |name: &Value| {
        let name = name.text().unwrap_or_default();
        name.starts_with("radix-tree") || name == "active-time" || name.starts_with("idmp") || name.contains("iids")
    };
    match value {
        Value::Array(items) => {
            let mut kept = Vec::new();
            let mut items = items.iter();
            while let Some(item) = items.next() {
                if is_passing(item) {
                    items.next();
                } else {
                    kept.push(lasting(item));
                }
            }
            Value::Array(kept)
        }
        other => other.clone(),
    }
}

fn moved(from: &mut Client, to: &mut Client, what: &str) {
    for (commands, show) in values() {
        from.cmd(&["FLUSHALL"]);
        to.cmd(&["FLUSHALL"]);
        for command in &commands {
            assert!(!from.cmd(command).is_error(), "{what}: {:?}", &command[..2]);
        }
        let shown = |client: &mut Client| {
            let value = lasting(&client.cmd(&show));
            // Hashes and sets have no order.
            if matches!(show[0], "HGETALL" | "SMEMBERS") { value.sorted() } else { value }
        };
        let wanted = shown(from);
        let Value::Bulk(payload) = from.cmd(&["DUMP", "k"]) else { panic!("{what}: DUMP gives bytes") };
        let restore = [b"RESTORE".as_slice(), b"k", b"5000000", &payload];
        assert_eq!(to.cmd(&restore), Value::ok(), "{what}: {:?}", &commands[0][..2]);
        assert_eq!(shown(to), wanted, "{what}: {:?}", &commands[0][..2]);
        assert!(to.cmd(&["PTTL", "k"]).int() > 0);
    }
}

#[test]
fn values_move_between_servers_and_back() {
    let tested = Server::cenote().start();
    for oracle in Oracle::ALL {
        let server = Server::oracle(oracle).start();
        moved(&mut server.client(), &mut tested.client(), &format!("from {}", oracle.name()));
        moved(&mut tested.client(), &mut server.client(), &format!("to {}", oracle.name()));
    }
    let other = Server::cenote().start();
    moved(&mut tested.client(), &mut other.client(), "from Cenote to Cenote");
}

/// Redis 8.2 and Valkey 9.1 keep fields that expire in forms of their own: both are read, and Redis's is written.
#[test]
fn fields_that_expire_move_too() {
    let tested = Server::cenote().start();
    let show = |client: &mut Client| {
        let times = client.cmd(&["HPEXPIRETIME", "k", "FIELDS", "3", "f1", "f2", "f3"]);
        (client.cmd(&["HGETALL", "k"]).sorted(), times)
    };
    let make = |client: &mut Client, fields: usize| {
        client.cmd(&["DEL", "k"]);
        for field in 0..fields {
            client.cmd(&["HSET", "k", &format!("f{field}"), &field.to_string()]);
        }
        client.cmd(&["HPEXPIREAT", "k", "4102444800123", "FIELDS", "1", "f1"]);
        client.cmd(&["HPEXPIREAT", "k", "4102444800456", "FIELDS", "1", "f3"]);
    };
    for fields in [5, 600] {
        let mut ours = tested.client();
        for oracle in [Oracle::Redis8, Oracle::Valkey9] {
            let server = Server::oracle(oracle).start();
            let mut theirs = server.client();
            make(&mut theirs, fields);
            let Value::Bulk(payload) = theirs.cmd(&["DUMP", "k"]) else { panic!("DUMP gives bytes") };
            ours.cmd(&["DEL", "k"]);
            assert_eq!(ours.cmd(&[b"RESTORE".as_slice(), b"k", b"0", &payload]), Value::ok(), "{}", oracle.name());
            assert_eq!(show(&mut ours), show(&mut theirs), "{}", oracle.name());
            make(&mut ours, fields);
            let Value::Bulk(payload) = ours.cmd(&["DUMP", "k"]) else { panic!("DUMP gives bytes") };
            theirs.cmd(&["DEL", "k"]);
            let restored = theirs.cmd(&[b"RESTORE".as_slice(), b"k", b"0", &payload]);
            assert_eq!(restored == Value::ok(), oracle == Oracle::Redis8, "{}: {restored:?}", oracle.name());
            if oracle == Oracle::Redis8 {
                assert_eq!(show(&mut theirs), show(&mut ours));
            }
        }
        // What has expired on the way is not restored.
        ours.cmd(&["DEL", "k"]);
        ours.cmd(&["HSET", "k", "f", "v"]);
        ours.cmd(&["HPEXPIRE", "k", "1", "FIELDS", "1", "f"]);
        assert!(matches!(ours.cmd(&["DUMP", "k"]), Value::Bulk(_) | Value::Nil));
    }
}

#[test]
fn values_of_every_type_are_copied() {
    let server = Server::cenote().start();
    let mut client = server.client();
    for (commands, show) in values() {
        client.cmd(&["FLUSHALL"]);
        commands.iter().for_each(|command| drop(client.cmd(command)));
        let wanted = client.cmd(&show);
        assert_eq!(client.cmd(&["COPY", "k", "copy"]), Value::Int(1));
        client.cmd(&["DEL", "k"]);
        client.cmd(&["RENAME", "copy", "k"]);
        assert_eq!(client.cmd(&show).sorted(), wanted.sorted(), "{:?}", &commands[0][..2]);
    }
}

/// The checksum as the servers compute it, bit by bit, to sign what was damaged.
fn crc64(data: &[u8]) -> u64 {
    data.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u64::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 },
        )
    })
}

fn damaged(payload: &[u8], random: &mut Random) -> Vec<u8> {
    let mut value = payload[..payload.len() - 10].to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(value.len().max(1));
        match random.below(4) {
            0 => value.truncate(at + 1),
            1 => value.insert(at, random.next() as u8),
            _ if !value.is_empty() => value[at] = random.next() as u8,
            _ => {}
        }
    }
    value.extend_from_slice(&payload[payload.len() - 10..payload.len() - 8]);
    let sum = crc64(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// A damaged payload with a right checksum is refused, or read as another value; it never hurts the server.
#[test]
fn damaged_payloads_are_refused_or_read() {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let mut payloads = Vec::new();
    for oracle in Oracle::ALL {
        let server = Server::oracle(oracle).start();
        let mut client = server.client();
        let show: [&[&str]; 9] = [
            &["SET", "k", "hello hello hello hello hello hello"],
            &["RPUSH", "k", "a", "1", "300", "-70000", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"],
            &["SADD", "k", "1", "2", "300"],
            &["SADD", "k", "a", "b", "3"],
            &["HSET", "k", "f", "v", "g", "7"],
            &["ZADD", "k", "1", "a", "2.5", "b"],
            &["XADD", "k", "1-1", "a", "1", "b", "2"],
            &["ZADD", "k", "1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "2", "b"],
            &["HSET", "k", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "v"],
        ];
        for command in show {
            client.cmd(&["DEL", "k"]);
            client.cmd(command);
            let Value::Bulk(payload) = client.cmd(&["DUMP", "k"]) else { panic!("DUMP gives bytes") };
            payloads.push(payload);
        }
        for (commands, _) in
            values().into_iter().filter(|(commands, _)| commands.iter().any(|words| words[0] == "XADD"))
        {
            client.cmd(&["DEL", "k"]);
            commands.iter().for_each(|command| drop(client.cmd(command)));
            let Value::Bulk(payload) = client.cmd(&["DUMP", "k"]) else { panic!("DUMP gives bytes") };
            payloads.push(payload);
        }
    }
    let tested = Server::cenote().start();
    let mut client = tested.client();
    for _ in 0..DAMAGED / 100 {
        let commands: Vec<_> = (0..100)
            .flat_map(|_| {
                let payload = damaged(&payloads[random.below(payloads.len())], &mut random);
                let restore = vec![b"RESTORE".to_vec(), b"k".to_vec(), b"0".to_vec(), payload, b"REPLACE".to_vec()];
                // Whatever came of it, it can be looked at, changed and written again.
                let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
                let mut commands = vec![restore];
                commands.extend(AFTERWARDS.map(words));
                commands
            })
            .collect();
        client.pipeline(&commands).unwrap_or_else(|failure| panic!("CENOTE_SEED={seed}: {failure:?}"));
    }
}
