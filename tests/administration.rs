//! What operators and their tools rely on: INFO's fields, the hints of redis-cli, the slow log, latency, metrics.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Client, Oracle, Port, Server, Value};

/// Sections whose lines depend on what ran, and those of Redis alone.
const VARIABLE: &[&str] = &["Threads", "Modules", "Commandstats", "Errorstats", "Latencystats", "Keyspace"];
const REDIS_ONLY: &[&str] = &["Keysizes"];

/// The sections of INFO with the names of their fields.
fn info(client: &mut Client) -> Vec<(String, Vec<String>)> {
    let text = client.cmd(&["INFO", "everything"]).text().expect("INFO is a text");
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(title) => sections.push((title.to_owned(), Vec::new())),
            None => {
                let (_, fields) = sections.last_mut().expect("a field is in a section");
                fields.push(line.split(':').next().expect("a field has a name").to_owned());
            }
        }
    }
    sections
}

/// Dashboards read INFO by the names of its fields; some by their order.
#[test]
fn info_has_the_fields_of_redis_in_their_order() {
    let (tested, redis) = (Server::cenote().start(), Server::oracle(Oracle::Redis8).start());
    let (ours, theirs) = (info(&mut tested.client()), info(&mut redis.client()));
    let titles: Vec<_> = ours.iter().map(|(title, _)| title.as_str()).collect();
    let expected: Vec<_> =
        theirs.iter().map(|(title, _)| title.as_str()).filter(|title| !REDIS_ONLY.contains(title)).collect();
    assert_eq!(titles.iter().filter(|title| expected.contains(title)).copied().collect::<Vec<_>>(), expected);
    for (title, fields) in theirs.iter().filter(|(title, _)| expected.contains(&title.as_str())) {
        if VARIABLE.contains(&title.as_str()) {
            continue;
        }
        let (_, own) = ours.iter().find(|(own, _)| own == title).expect("all titles are there");
        let common: Vec<_> = own.iter().filter(|field| fields.contains(field)).collect();
        assert_eq!(common, fields.iter().collect::<Vec<_>>(), "{title}");
    }
}

#[test]
fn info_gives_the_sections_that_are_asked_for() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let mut titles = |args: &[&str]| -> Vec<String> {
        let text = client.cmd(&[&["INFO"], args].concat()).text().expect("INFO is a text");
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    };
    assert_eq!(titles(&["KEYSPACE", "server", "nosuch", "server"]), ["Server", "Keyspace"]);
    assert_eq!(titles(&["default"]), titles(&[]));
    assert!(!titles(&[]).contains(&"Commandstats".to_owned()));
    assert!(titles(&["all"]).contains(&"Latencystats".to_owned()));
    assert!(titles(&["nosuch"]).is_empty());
}

/// Commands whose arguments are documented otherwise than by both servers: the command, and why.
const DOCUMENTED_OTHERWISE: &[(&str, &str)] = &[
    ("client|list", "the filters of both servers, in one row"),
    ("georadius", "our notation cannot say that the keys behind STORE and STOREDIST are two specifications"),
    ("georadiusbymember", "as GEORADIUS"),
    ("geosearch", "our notation groups BYBOX's numbers without their unit"),
    ("geosearchstore", "as GEOSEARCH"),
    ("hexpireat", "the time is an integer here, a Unix time there"),
    ("hpexpireat", "as HEXPIREAT"),
    ("hsetex", "the conditions of both servers, in one row"),
    ("sort", "our notation has no patterns of keys"),
    ("sort_ro", "as SORT"),
    ("xadd", "our notation has no names of its own for tokens that are signs"),
    ("xgroup|create", "as XADD"),
    ("xgroup|setid", "as XADD"),
    ("xtrim", "as XADD"),
    ("cluster|slot-stats", "its notation cannot tell a token of a group from one of its first argument"),
];

/// Name, type, token, flags and place of every argument, without the names of groups, which nobody is shown.
fn arguments(docs: &Value) -> String {
    let mut text = String::new();
    for argument in field(docs, "arguments").map(Value::items).unwrap_or_default() {
        for name in ["display_text", "type", "token", "key_spec_index"] {
            let value = field(argument, name).map(|value| value.text().unwrap_or_else(|| format!("{value:?}")));
            text += &format!("{}/", value.unwrap_or_default());
        }
        let mut flags: Vec<_> =
            field(argument, "flags").map(Value::items).unwrap_or_default().iter().filter_map(Value::text).collect();
        flags.sort();
        text += &format!("{}({}) ", flags.join("+"), arguments(argument));
    }
    text
}

/// A field of a map that came as a flat array.
fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.items().chunks(2).find(|pair| pair[0].text().as_deref() == Some(name)).map(|pair| &pair[1])
}

fn documented(client: &mut Client) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for pair in client.cmd(&["COMMAND", "DOCS"]).items().chunks(2) {
        all.push((pair[0].text().expect("a name"), arguments(&pair[1])));
        for sub in field(&pair[1], "subcommands").map(Value::items).unwrap_or_default().chunks(2) {
            all.push((sub[0].text().expect("a name"), arguments(&sub[1])));
        }
    }
    all
}

/// redis-cli makes its hints, and clients their code, of COMMAND DOCS.
#[test]
fn arguments_are_documented_as_in_real_servers() {
    let tested = Server::cenote().start();
    let servers = [Oracle::Redis8, Oracle::Valkey9].map(|oracle| Server::oracle(oracle).start());
    let others = servers.each_ref().map(|server| documented(&mut server.client()));
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, own) in documented(&mut tested.client()) {
        let theirs: Vec<_> = others.iter().flatten().filter(|(other, _)| *other == name).collect();
        compared += usize::from(!theirs.is_empty() && !own.is_empty());
        let otherwise = DOCUMENTED_OTHERWISE.iter().any(|(allowed, _)| *allowed == name);
        if !theirs.is_empty() && !otherwise && theirs.iter().all(|(_, other)| *other != own) {
            wrong.push(format!("{name}\n    cenote {own}\n    others {}", theirs[0].1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 80, "{compared} commands with arguments");
}

#[test]
fn slow_commands_are_logged_without_their_secrets() {
    let server = Server::cenote().args(["--slowlog-log-slower-than", "0", "--slowlog-max-len", "4"]).start();
    let mut client = server.client();
    for args in [
        &["CLIENT", "SETNAME", "me"][..],
        &["CONFIG", "SET", "hz", "11", "masterauth", "secret"],
        &["AUTH", "default", "secret"],
        &["SET", "k", &"x".repeat(130)],
    ] {
        assert_eq!(client.cmd(args), Value::ok());
    }
    let entries = client.cmd(&["SLOWLOG", "GET", "-1"]);
    let shown: Vec<Vec<String>> = entries
        .items()
        .iter()
        .map(|entry| entry.items()[3].items().iter().map(|arg| arg.text().expect("a word")).collect())
        .collect();
    assert_eq!(shown.len(), 4, "as many as slowlog-max-len");
    let cut = format!("{}... (2 more bytes)", "x".repeat(128));
    assert_eq!(shown[0], ["SET", "k", &cut]);
    assert_eq!(shown[1], ["AUTH", "(redacted)", "(redacted)"]);
    assert_eq!(shown[2], ["CONFIG", "SET", "hz", "11", "masterauth", "(redacted)"]);
    let first = entries.items()[0].items();
    assert_eq!(first[4], Value::bulk(client.local_address()));
    assert_eq!(first[5], Value::bulk("me"));
    assert_eq!(client.cmd(&["SLOWLOG", "RESET"]), Value::ok());
    assert_eq!(client.cmd(&["SLOWLOG", "LEN"]).int(), 1, "the reset itself");
}

/// redis-py keeps copies of keys only where the server says that it is a Redis of 7.4 or later.
#[test]
fn clients_are_told_the_version_that_is_configured() {
    let server = Server::cenote().args(["--redis-version", "7.4.0"]).start();
    let mut client = server.client();
    let told = |client: &mut Client| {
        let hello = client.cmd(&["HELLO"]);
        let text = client.cmd(&["INFO", "server"]).text().expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("a version").to_owned();
        (field(&hello, "version").and_then(Value::text), line)
    };
    assert_eq!(told(&mut client), (Some("7.4.0".to_owned()), "7.4.0".to_owned()));
    assert_eq!(client.cmd(&["CONFIG", "SET", "redis-version", "8.2.10"]), Value::ok());
    assert_eq!(told(&mut client), (Some("8.2.10".to_owned()), "8.2.10".to_owned()));
    assert!(client.cmd(&["LOLWUT"]).text().expect("a text").contains("Redis ver. 8.2.10,"));
    for wrong in ["", "7", "7.4", "7.4.0.1", "7.04.0", "7.4.256", "7.4.-1", "7.4.x", "7..4"] {
        assert!(client.cmd(&["CONFIG", "SET", "redis-version", wrong]).is_error(), "{wrong}");
    }
}

/// Kernels that move memory to make a huge page of it stop whoever asked for it, for milliseconds.
#[test]
fn huge_pages_are_left_alone_unless_asked_for() {
    for (args, wanted) in [(&[][..], "0"), (&["--disable-thp", "no"], "1")] {
        let server = Server::cenote().args(args.iter().copied()).start();
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        let flag = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).map(str::trim);
        assert_eq!(flag, Some(wanted), "{args:?}");
    }
}

/// Servers with one hash seed list their keys in one order; without one nobody knows it before.
#[test]
fn the_hash_seed_tells_the_order_of_keys() {
    let order = |args: &[&'static str]| {
        let server = Server::cenote().args(args.iter().copied()).args(["--workers", "1"]).start();
        let mut client = server.client();
        (0..500).for_each(|n| assert_eq!(client.cmd(&["SET", &format!("key:{n}"), "v"]), Value::ok()));
        client.cmd(&["SCAN", "0", "COUNT", "1000"])
    };
    let first = order(&["--hash-seed", "one"]);
    assert_eq!(first, order(&["--hash-seed", "one"]));
    assert_ne!(first, order(&["--hash-seed", "two"]));
    assert_ne!(order(&[]), order(&[]));
}

#[test]
fn what_takes_long_shows_in_the_latency_monitor() {
    let args = ["--latency-monitor-threshold", "20", "--enable-debug-command", "local"];
    let server = Server::cenote().args(args).start();
    let mut client = server.client();
    assert_eq!(client.cmd(&["LATENCY", "LATEST"]).items().len(), 0);
    assert_eq!(client.cmd(&["DEBUG", "SLEEP", "0.03"]), Value::ok());
    let latest = client.cmd(&["LATENCY", "LATEST"]);
    let event = latest.items().iter().find(|event| event.items()[0] == Value::bulk("command")).expect("a spike");
    assert!(event.items()[2].int() >= 30, "{latest:?}");
    assert_eq!(client.cmd(&["LATENCY", "HISTORY", "command"]).items().len(), 1);
    assert!(client.cmd(&["LATENCY", "GRAPH", "command"]).text().expect("a text").starts_with("command - high "));
    assert!(client.cmd(&["LATENCY", "RESET", "command"]).int() == 1);
    assert!(client.cmd(&["LATENCY", "GRAPH", "command"]).is_error());
}

#[test]
fn debug_is_refused_unless_it_is_enabled() {
    let refused = Server::cenote().start();
    let text = refused.client().cmd(&["DEBUG", "SLEEP", "0"]);
    let real = Server::oracle(Oracle::Redis8).start();
    assert_eq!(text, real.client().cmd(&["DEBUG", "SLEEP", "0"]));
    let enabled = Server::cenote().args(["--enable-debug-command", "yes"]).start();
    let mut client = enabled.client();
    assert_eq!(client.cmd(&["DEBUG", "POPULATE", "1000", "p", "40"]), Value::ok());
    assert_eq!(client.cmd(&["DBSIZE"]).int(), 1000);
    assert_eq!(client.cmd(&["STRLEN", "p:999"]).int(), 40);
    let digest = client.cmd(&["DEBUG", "DIGEST"]);
    assert_eq!(client.cmd(&["SET", "p:1", "other"]), Value::ok());
    assert_ne!(client.cmd(&["DEBUG", "DIGEST"]), digest);
    assert_eq!(client.cmd(&["FLUSHALL"]), Value::ok());
    assert_eq!(client.cmd(&["DEBUG", "DIGEST"]), Value::simple(&"0".repeat(40)));
}

/// A sleeping connection must not hold up the others: with one worker, they share its thread.
#[test]
fn debug_sleep_suspends_its_own_connection_only() {
    let server = Server::cenote().args(["--enable-debug-command", "yes", "--workers", "1"]).start();
    let (mut sleeper, mut other) = (server.client(), server.client());
    sleeper.send(&["DEBUG", "SLEEP", "3600"]).expect("the request is sent");
    for _ in 0..10 {
        assert_eq!(other.cmd(&["PING"]), Value::simple("PONG"));
    }
}

#[test]
fn config_rewrite_writes_what_is_in_force() {
    let server = Server::cenote().config("# mine\nmaxclients 77\n").start();
    let mut client = server.client();
    assert_eq!(client.cmd(&["CONFIG", "SET", "maxclients", "78", "maxmemory", "100mb"]), Value::ok());
    assert_eq!(client.cmd(&["CONFIG", "REWRITE"]), Value::ok());
    let text = std::fs::read_to_string(server.dir().join("server.conf")).expect("the file is there");
    assert!(text.starts_with("# mine\nmaxclients 78\n") && text.contains("\nmaxmemory 100mb\n"), "{text}");
    assert!(client.cmd(&["CONFIG", "SET", "maxclients", "79", "databases", "3"]).is_error());
    assert_eq!(client.cmd(&["CONFIG", "GET", "maxclients"]).items()[1], Value::bulk("78"), "all or none");
}

fn http(port: u16, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the metrics are served");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the request is sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the answer is text");
    answer
}

#[test]
fn metrics_show_what_happened() {
    let reserved = Port::reserve();
    let port = reserved.number;
    let server = Server::cenote().args(["--metrics-port", &port.to_string()]).start();
    let mut client = server.client();
    assert_eq!(client.cmd(&["SET", "k", "v"]), Value::ok());
    assert_eq!(client.cmd(&["GET", "k"]), Value::bulk("v"));
    assert_eq!(client.cmd(&["GET", "nosuch"]), Value::Nil);
    assert!(client.cmd(&["INCR", "k"]).is_error());
    let text = http(port, "/metrics");
    for line in [
        "cenote_commands_total{command=\"get\"} 2",
        "cenote_commands_failed_total{command=\"incr\"} 1",
        "cenote_errors_total{error=\"ERR\"} 1",
        "cenote_keyspace_hits_total 1",
        "cenote_keyspace_misses_total 1",
        "cenote_keys{db=\"0\"} 1",
        "cenote_command_duration_seconds_count{command=\"set\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(http(port, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(http(port, "/readyz").starts_with("HTTP/1.1 200"));
}
