//! DUMP and RESTORE between Cenote and real servers, both ways; and payloads that were damaged on the way.

use crate::support::{Client, Oracle, Random, Server, Value};

/// Damaged payloads sent in one run.
const DAMAGED: usize = 20_000;

/// Commands that make a key of every type and form that both sides know, and the one that shows it.
fn values() -> Vec<(Vec<Vec<String>>, Vec<&'static str>)> {
    let command = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let many = |head: &str, each: &dyn Fn(usize) -> String| {
        let words: Vec<_> = (0..700).map(each).collect();
        command(&format!("{head} {}", words.join(" ")))
    };
    let long = "x".repeat(9000);
    let show_list = vec!["LRANGE", "k", "0", "-1"];
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
    ]
}

fn moved(from: &mut Client, to: &mut Client, what: &str) {
    for (commands, show) in values() {
        from.cmd(&["FLUSHALL"]);
        to.cmd(&["FLUSHALL"]);
        for command in &commands {
            assert!(!from.cmd(command).is_error(), "{what}: {:?}", &command[..2]);
        }
        let wanted = from.cmd(&show);
        let Value::Bulk(payload) = from.cmd(&["DUMP", "k"]) else { panic!("{what}: DUMP gives bytes") };
        let restore = [b"RESTORE".as_slice(), b"k", b"5000000", &payload];
        assert_eq!(to.cmd(&restore), Value::ok(), "{what}: {:?}", &commands[0][..2]);
        assert_eq!(to.cmd(&show), wanted, "{what}: {:?}", &commands[0][..2]);
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
    }
    let tested = Server::cenote().start();
    let mut client = tested.client();
    for _ in 0..DAMAGED / 100 {
        let commands: Vec<_> = (0..100)
            .flat_map(|_| {
                let payload = damaged(&payloads[random.below(payloads.len())], &mut random);
                let restore = vec![b"RESTORE".to_vec(), b"k".to_vec(), b"0".to_vec(), payload, b"REPLACE".to_vec()];
                [
                    restore,
                    vec![b"DUMP".to_vec(), b"k".to_vec()],
                    vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), b"k".to_vec()],
                ]
            })
            .collect();
        client.pipeline(&commands).unwrap_or_else(|failure| panic!("CENOTE_SEED={seed}: {failure:?}"));
    }
}
