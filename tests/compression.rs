//! `compress-threshold`: long strings take less memory, and no command shows it.

use crate::support::{Client, Server, Value};

/// Some JSON, as a row would be: it repeats, but not altogether.
fn text(len: usize) -> Vec<u8> {
    let row = |n: usize| format!("{{\"id\":{n},\"name\":\"user {}\",\"mail\":\"{}@example.org\"}},", n * 7919, n * 31);
    let mut text: Vec<u8> = (0..).flat_map(|n| row(n).into_bytes()).take(len).collect();
    text[0] = b'[';
    text
}

/// What does not get smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut number = 88_172_645_463_325_252u64;
    let mut next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        (number >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What is done with the strings `a`, `b` and `c`.
const COMMANDS: &str = "GET a; STRLEN a; GETRANGE a 100 200; GETRANGE a -10 -1; MGET a b c nosuch; OBJECT ENCODING a; TYPE a; \
    GETBIT a 1000; BITCOUNT a; BITCOUNT a 10 500; BITPOS a 0; BITFIELD_RO a GET u8 100; INCR a; INCRBYFLOAT a 1; LPUSH a x; \
    PFADD a x; DUMP a; COPY a d; GET d; DUMP d; RENAME d e; GETEX e EX 1000; GET e; PERSIST e; GETDEL e; APPEND a tail; \
    STRLEN a; GET a; APPEND a again; GET a; SETRANGE b 50 inserted; GET b; SETBIT b 70000 1; STRLEN b; GET b; BITOP NOT f a; \
    GET f; BITOP AND g a b; BITCOUNT g; SET k 0; SADD s a; SORT s BY nosort GET *; OBJECT REFCOUNT c; \
    BITFIELD c INCRBY u8 8 1; GET c; EXPIRE c 1000; GET c; MOVE c 1; SELECT 1; GET c; SELECT 0; DBSIZE";

/// Commands on the strings `a`, `b`, `c`, none of which may show how these are kept.
fn commands(long: &[u8], other: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let with = |line: &str, value: &[u8]| [words(line), vec![value.to_vec()]].concat();
    let mut all = vec![with("SET a", long), with("SETNX b", long), with("GETSET c", other)];
    all.extend(COMMANDS.split(';').map(|line| words(line.trim())));
    all.push([words("MSET x"), vec![long.to_vec()], words("y"), vec![other.to_vec()]].concat());
    all.push(words("MGET x y"));
    all.push(with("SET x short IFEQ", long));
    all.push([words("SET x"), vec![other.to_vec()], words("KEEPTTL GET")].concat());
    all.push(words("EVAL return{redis.call('GET',KEYS[1]),redis.call('STRLEN',KEYS[1])} 1 x"));
    all
}

fn used(client: &mut Client) -> u64 {
    let info = client.cmd(&["INFO", "memory"]).text().expect("a text");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).expect("used_memory")
}

#[test]
fn no_command_shows_that_a_string_is_compressed() {
    let servers = ["0", "200"].map(|threshold| Server::cenote().args(["--compress-threshold", threshold]).start());
    let [mut plain, mut compressed] = servers.each_ref().map(Server::client);
    for (long, other) in [(300, 5000), (5000, 40_000), (40_000, 300_000), (1_000_000, 20_000)] {
        for (long, other) in [(text(long), text(other)), (noise(long), text(other)), (text(long), noise(other))] {
            let commands = commands(&long, &other);
            let [expected, got] = [&mut plain, &mut compressed].map(|client| {
                client.cmd(&["FLUSHALL"]);
                client.pipeline(&commands).expect("all are answered")
            });
            for ((command, expected), got) in commands.iter().zip(expected).zip(got) {
                assert!(expected.value == got.value, "{}: differs", command[0].escape_ascii());
            }
        }
    }
}

#[test]
fn what_is_compressed_takes_less_and_goes_to_servers_without_it() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let value = text(20_000);
    let mut taken = Vec::new();
    for threshold in ["0", "1000"] {
        client.cmd(&["FLUSHALL"]);
        assert_eq!(client.cmd(&["CONFIG", "SET", "compress-threshold", threshold]), Value::ok());
        let before = used(&mut client);
        for n in 0..100 {
            client.cmd(&[b"SET".as_slice(), format!("key:{n}").as_bytes(), &value]);
        }
        let bytes = client.cmd(&["MEMORY", "USAGE", "key:1"]);
        let Value::Int(bytes) = bytes else { panic!("{bytes:?}") };
        taken.push((used(&mut client).saturating_sub(before), bytes as u64));
    }
    assert!(taken[1].0 < taken[0].0 * 2 / 3 && taken[1].1 < taken[0].1 * 2 / 3, "{taken:?}");
    let dumped = client.cmd(&["DUMP", "key:1"]);
    let Value::Bulk(dumped) = dumped else { panic!("DUMP gives bytes") };
    client.cmd(&["CONFIG", "SET", "compress-threshold", "0"]);
    assert_eq!(client.cmd(&[b"RESTORE".as_slice(), b"copy", b"0", &dumped]), Value::ok());
    assert_eq!(client.cmd(&["GET", "copy"]), client.cmd(&["GET", "key:1"]));
}
