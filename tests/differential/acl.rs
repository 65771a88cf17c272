//! Random ACL rules on Cenote and on real servers: what each makes of them, and what the user may then run. And on Cenote
//! alone: what DRYRUN says is what happens.

use std::collections::BTreeSet;

use crate::support::{Client, Oracle, Random, Server, Value};

const KEYS: &[&str] = &["a", "b", "a1", "ab", "x:1", "x:2", "y", ""];
const PATTERNS: &[&str] = &["a", "a*", "x:*", "?", "*", "[ab]*", "y", "\\a", "b?"];
const CATEGORIES: &[&str] = &[
    "all",
    "read",
    "WRITE",
    "keyspace",
    "string",
    "list",
    "hash",
    "set",
    "sortedset",
    "stream",
    "bitmap",
    "hyperloglog",
    "geo",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
    "nosuch",
];
const COMMANDS: &[&str] = &[
    "get",
    "SET",
    "del",
    "mget",
    "config",
    "config|get",
    "CONFIG|SET",
    "client",
    "client|id",
    "client|kill",
    "object",
    "object|encoding",
    "select",
    "publish",
    "subscribe",
    "eval",
    "lpush",
    "xinfo|stream",
    "acl",
    "acl|whoami",
    "ping",
    "config|nosuch",
    "nosuch",
    "get|x",
];
const COMMANDS_RUN: &[&str] = &[
    "GET $k",
    "SET $k v",
    "SET $k v GET",
    "SET $k v EX 100",
    "DEL $k $k",
    "MGET $k $k",
    "MSET $k v $k v",
    "EXISTS $k",
    "TYPE $k",
    "APPEND $k v",
    "INCR $k",
    "GETDEL $k",
    "GETEX $k",
    "RENAME $k $k",
    "COPY $k $k",
    "COPY $k $k DB 1",
    "OBJECT ENCODING $k",
    "OBJECT HELP",
    "LPUSH $k v",
    "LPOP $k",
    "LMOVE $k $k LEFT LEFT",
    "LRANGE $k 0 1",
    "LMPOP 2 $k $k LEFT",
    "HSET $k f v",
    "HGETALL $k",
    "SADD $k m",
    "SINTER $k $k",
    "SINTERCARD 2 $k $k",
    "SUNIONSTORE $k $k $k",
    "SMOVE $k $k m",
    "ZADD $k 1 m",
    "ZUNIONSTORE $k 2 $k $k",
    "ZUNION 2 $k $k",
    "ZUNION 9 $k $k",
    "ZRANGESTORE $k $k 0 1",
    "XADD $k * f v",
    "XLEN $k",
    "XREAD STREAMS $k $k 0 0",
    "XINFO STREAM $k",
    "SETBIT $k 1 1",
    "BITCOUNT $k",
    "BITFIELD $k GET u4 0",
    "BITFIELD $k SET u4 0 1",
    "BITOP AND $k $k $k",
    "PFADD $k v",
    "PFCOUNT $k",
    "PFMERGE $k $k",
    "GEOADD $k 1 1 m",
    "GEOSEARCHSTORE $k $k FROMLONLAT 0 0 BYRADIUS 1 m",
    "KEYS x*",
    "SCAN 0",
    "DBSIZE",
    "RANDOMKEY",
    "FLUSHDB",
    "FLUSHALL",
    "SELECT 0",
    "SELECT 1",
    "SELECT x",
    "SWAPDB 0 1",
    "MOVE $k 1",
    "PING",
    "ECHO x",
    "CLIENT ID",
    "CLIENT GETNAME",
    "CONFIG GET maxmemory",
    "CONFIG RESETSTAT",
    "INFO server",
    "PUBLISH $k v",
    "SPUBLISH $k v",
    "EVAL 'return 1' 0",
    "EVAL 'return 1' 1 $k",
    "EVAL_RO 'return 1' 2 $k $k",
    "EVAL 'return 1' x",
    "COMMAND COUNT",
    "ACL WHOAMI",
    "ACL CAT",
    "SLOWLOG LEN",
    "LATENCY RESET",
    "MEMORY USAGE $k",
    "EXPIRE $k 100",
    "TTL $k",
    "PERSIST $k",
    "DUMP $k",
    "TOUCH $k $k",
    "UNLINK $k",
    "TIME",
    "LASTSAVE",
    "WAIT 0 0",
    "SETRANGE $k 0 x",
    "GETRANGE $k 0 1",
    "STRLEN $k",
    "LCS $k $k",
];
/// What is only asked about: it does not come back at once, or changes the connection.
const ONLY_ASKED: &[&str] = &[
    "SUBSCRIBE $k $k",
    "PSUBSCRIBE $k",
    "SSUBSCRIBE $k",
    "UNSUBSCRIBE $k",
    "BLPOP $k $k 0",
    "MONITOR",
    "SHUTDOWN",
    "AUTH x",
    "HELLO",
    "RESET",
    "QUIT",
    "MULTI",
    "EXEC",
    "WATCH $k",
    "NOSUCH",
    "GET",
    "GET $k $k",
    "CONFIG",
    "CONFIG NOSUCH",
    "SELECT",
    "DEBUG SLEEP 0",
    "CLIENT KILL x",
    "ACL LIST",
    "BITFIELD $k",
    "BITFIELD $k OVERFLOW SAT GET u4 0",
    "BITFIELD $k OVERFLOW",
    "XREADGROUP GROUP g c STREAMS $k >",
];

fn rule(random: &mut Random, databases: bool) -> String {
    let sign = |random: &mut Random| random.pick(&["+", "-"]).to_owned();
    match random.below(if databases { 16 } else { 14 }) {
        0..4 => sign(random) + random.pick(COMMANDS),
        4..7 => sign(random) + "@" + random.pick(CATEGORIES),
        7 => {
            "+".to_owned() + random.pick(&["select|0", "select|X", "ping|x", "get|a", "config|get|x", "get|", "echo|x"])
        }
        8..10 => random.pick(&["~", "%R~", "%W~", "%RW~", "%r~", "%~", "%X~"]).to_owned() + random.pick(PATTERNS),
        10 => "&".to_owned() + random.pick(PATTERNS),
        11 => random
            .pick(&[
                "allkeys",
                "resetkeys",
                "allchannels",
                "resetchannels",
                "allcommands",
                "nocommands",
                "on",
                "off",
                "nopass",
                "resetpass",
                ">pw",
                "<pw",
                ">other",
                "#12",
                "clearselectors",
                "reset",
                "RESET",
                "ALLKEYS",
            ])
            .to_owned(),
        12..14 => {
            let inner: Vec<_> = (0..random.below(4)).map(|_| rule(random, databases)).collect();
            if inner.iter().any(|rule| rule.contains(['(', ')'])) {
                "(".to_owned() + ")"
            } else {
                format!("({})", inner.join(" "))
            }
        }
        14 => random.pick(&["alldbs", "resetdbs", "db=0", "db=1", "db=0,1", "db=x", "db=-1", "DB=2"]).to_owned(),
        _ => random.pick(&["alldbs", "db=0"]).to_owned(),
    }
}

fn words(template: &str, random: &mut Random) -> Vec<String> {
    let word = |word: &str, random: &mut Random| match word {
        "$k" => random.pick(KEYS).to_owned(),
        other => other.to_owned(),
    };
    // The only words with a blank are scripts.
    let template = template.replace("'return 1'", "return_1");
    template.split(' ').map(|w| word(w, random).replace("return_1", "return 1")).collect()
}

/// What the servers say of the same.
fn ask(clients: &mut [(&str, Client)], command: &[String]) -> Vec<Value> {
    clients.iter_mut().map(|(_, client)| client.cmd(command)).collect()
}

fn report(seed: u64, history: &[String], command: &[String], clients: &[(&str, Client)], replies: &[Value]) -> String {
    let told: Vec<_> =
        clients.iter().zip(replies).map(|((name, _), reply)| format!("    {name:7} {reply:?}")).collect();
    format!("CENOTE_SEED={seed}\n  {}\n  {}\n{}", history.join("\n  "), command.join(" "), told.join("\n"))
}

fn compare(oracle: Oracle) {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let databases = oracle == Oracle::Valkey9;
    let servers = [("cenote", Server::cenote().start()), (oracle.name(), Server::oracle(oracle).start())];
    let mut clients = servers.each_ref().map(|(name, server)| (*name, server.client()));
    let mut faults = Vec::new();
    let rounds: usize = std::env::var("CENOTE_RANDOM_COMMANDS").map_or(60, |text| text.parse().expect("a number"));
    for _ in 0..rounds {
        let mut history = Vec::new();
        ask(&mut clients, &["ACL".to_owned(), "DELUSER".to_owned(), "u".to_owned()]);
        for _ in 0..4 {
            let mut set: Vec<String> = ["ACL", "SETUSER", "u"].map(str::to_owned).into();
            set.extend((0..1 + random.below(4)).map(|_| rule(&mut random, databases)));
            history.push(set.join(" "));
            let mut commands = vec![set];
            if databases {
                commands.push(["ACL", "GETUSER", "u"].map(str::to_owned).into());
            }
            commands.push(["ACL", "LIST"].map(str::to_owned).into());
            for number in 0..15 {
                let template = random.pick(if number < 12 { COMMANDS_RUN } else { ONLY_ASKED });
                let mut dryrun: Vec<String> = ["ACL", "DRYRUN", "u"].map(str::to_owned).into();
                dryrun.extend(words(template, &mut random));
                commands.push(dryrun);
            }
            for command in commands {
                let mut replies = ask(&mut clients, &command);
                if !databases && command[1] == "LIST" {
                    replies = replies.iter().map(without_payload_flags).collect();
                }
                if replies[0] != replies[1] {
                    faults.push(report(seed, &history, &command, &clients, &replies));
                    break;
                }
            }
        }
        if faults.len() > 5 {
            break;
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Redis tells whether payloads are checked; Valkey, as Cenote, does not.
fn without_payload_flags(list: &Value) -> Value {
    Value::Array(
        list.items()
            .iter()
            .map(|line| Value::bulk(line.text().unwrap_or_default().replace("sanitize-payload ", "")))
            .collect(),
    )
}

#[test]
fn random_rules_are_as_in_valkey() {
    compare(Oracle::Valkey9);
}

#[test]
fn random_rules_are_as_in_redis() {
    compare(Oracle::Redis8);
}

/// A rule that DRYRUN knows and execution does not is a hole.
#[test]
fn what_a_dry_run_says_is_what_happens() {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let server = Server::cenote().start();
    let mut admin = server.client();
    admin.cmd(&["ACL", "SETUSER", "admin", "on", "nopass", "+@all", "~*", "&*"]);
    admin.cmd(&["AUTH", "admin", ""]);
    let mut outcomes = BTreeSet::new();
    for round in 0..80 {
        admin.cmd(&["ACL", "DELUSER", "u"]);
        let mut set: Vec<String> = ["ACL", "SETUSER", "u", "on", "nopass"].map(str::to_owned).into();
        set.extend(["+@all", "+@read", "~*", "&*"].iter().filter(|_| random.one_in(2)).map(|rule| (*rule).to_owned()));
        admin.cmd(&set);
        for _ in 0..6 {
            admin.cmd(&["ACL", "SETUSER", "u", &rule(&mut random, true)]);
        }
        admin.cmd(&["ACL", "SETUSER", "u", "on", "nopass"]);
        let mut client = server.client();
        assert_eq!(client.cmd(&["AUTH", "u", ""]), Value::ok(), "round {round}");
        for template in (0..25).map(|_| random.pick(COMMANDS_RUN)).collect::<Vec<_>>() {
            let command = words(template, &mut random);
            let db = client_db(&mut admin);
            admin.cmd(&["SELECT", &db]);
            let mut dryrun: Vec<String> = ["ACL", "DRYRUN", "u"].map(str::to_owned).into();
            dryrun.extend(command.clone());
            let says = admin.cmd(&dryrun);
            let happens = client.cmd(&command);
            let denied = happens.text().is_some_and(|text| text.starts_with("NOPERM "));
            let rules = admin.cmd(&["ACL", "LIST"]);
            assert_eq!(says != Value::ok(), denied, "CENOTE_SEED={seed} {command:?}: {says:?} {happens:?} {rules:?}");
            outcomes.insert(denied);
        }
    }
    assert_eq!(outcomes.len(), 2, "some are denied and some are not");
}

/// The database of the connection of `u`.
fn client_db(admin: &mut Client) -> String {
    let list = admin.cmd(&["CLIENT", "LIST", "USER", "u"]).text().unwrap_or_default();
    list.split(' ').find_map(|word| word.strip_prefix("db=")).unwrap_or("0").to_owned()
}
