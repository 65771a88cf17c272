//! redis-cli and redis-benchmark, as Debian ships them, against the real program: each mode that people use.

use std::path::Path;
use std::time::Duration;

use crate::support::{Finished, Server, join_words, run, tool};

/// As long as a busy machine may need for what takes a second.
const LIMIT: Duration = Duration::from_secs(60);

/// redis-cli with these arguments; it must end with 0 and say nothing on its standard error.
#[track_caller]
fn redis_cli_with(server: &Server, args: &[&str], input: &[u8]) -> String {
    let port = server.port().to_string();
    let all: Vec<&str> = ["-p", &port].into_iter().chain(args.iter().copied()).collect();
    let Finished { code, out, err } = run(&tool("REDIS_CLI"), &all, input, LIMIT);
    assert_eq!((code, err.as_str()), (Some(0), ""), "redis-cli {args:?}\n{out}");
    out
}

#[track_caller]
fn redis_cli(server: &Server, args: &[&str]) -> String {
    redis_cli_with(server, args, b"")
}

/// redis-cli on a terminal: types `typed`, and all of `wanted` must be shown, in this order.
#[track_caller]
fn on_a_terminal(server: &Server, args: &[&str], typed: &str, wanted: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/terminal.py");
    let (cli, port, wanted) = (tool("REDIS_CLI"), server.port().to_string(), wanted.join("\n"));
    let path = |path: &Path| path.to_str().expect("its path is text").to_owned();
    let (script, cli) = (path(&script), path(&cli));
    let all: Vec<&str> = [&script, typed, &wanted, &cli, "-p", &port].into_iter().chain(args.iter().copied()).collect();
    let finished = run(&tool("PYTHON"), &all, b"", LIMIT);
    assert_eq!(finished.code, Some(0), "{wanted:?} was not shown, but:\n{}\n{}", finished.out, finished.err);
}

/// A server with `name:0` … `name:99`, of which `name:42` is by far the longest, and `other`.
fn server_with_keys() -> Server {
    let server = Server::cenote().start();
    let mut client = server.client();
    for n in 0..100 {
        let value = "x".repeat(if n == 42 { 5000 } else { 10 });
        client.cmd(&["SET", &format!("name:{n}"), &value]);
    }
    client.cmd(&["SET", "other", "1"]);
    server
}

/// The hints come from COMMAND DOCS: redis-cli 7.0 itself knows neither DELIFEQ nor IFEQ.
#[test]
fn hints_show_the_arguments_while_one_types() {
    let server = Server::cenote().start();
    on_a_terminal(&server, &[], "delifeq ", &["key value"]);
    on_a_terminal(&server, &[], "set k v ", &["IFEQ", "KEEPTTL"]);
    on_a_terminal(&server, &[], "config get ", &["parameter"]);
    on_a_terminal(&server, &[], "help delifeq\r", &["DELIFEQ", "key value", "since:", "9.0.0", "group:", "string"]);
    on_a_terminal(&server, &["-3"], "hello\r", &["1# \"server\" => \"redis\"", "\"proto\" => (integer) 3"]);
}

#[test]
fn stat_prints_a_line_each_interval() {
    on_a_terminal(&server_with_keys(), &["--stat", "-i", "0.1"], "", &["keys", "101", "(+", "101", "(+", "101", "(+"]);
}

#[test]
fn scan_lists_the_keys_of_a_pattern() {
    let server = server_with_keys();
    let mut keys: Vec<String> =
        redis_cli(&server, &["--scan", "--pattern", "name:*"]).lines().map(String::from).collect();
    keys.sort();
    let mut wanted: Vec<String> = (0..100).map(|n| format!("name:{n}")).collect();
    wanted.sort();
    assert_eq!(keys, wanted);
    assert_eq!(redis_cli(&server, &["--scan", "--pattern", "o*"]), "other\n");
}

#[test]
fn big_and_hot_keys_are_found() {
    let server = server_with_keys();
    let big = redis_cli(&server, &["--bigkeys"]);
    assert!(big.contains("Sampled 101 keys in the keyspace!"), "{big}");
    assert!(big.contains("Biggest string found '\"name:42\"' has 5000 bytes"), "{big}");
    assert!(big.contains("101 strings with"), "{big}");
    let heavy = redis_cli(&server, &["--memkeys"]);
    assert!(heavy.contains("Biggest string found '\"name:42\"' has 5"), "{heavy}");
    let mut client = server.client();
    client.cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    for _ in 0..2000 {
        client.cmd(&["GET", "name:7"]);
    }
    let hot = redis_cli(&server, &["--hotkeys"]);
    assert!(hot.contains("hot key found with counter") && hot.contains("\"name:7\""), "{hot}");
}

#[test]
fn latency_is_measured() {
    let server = Server::cenote().start();
    // min, max, average, samples
    let line = redis_cli(&server, &["--latency", "--raw", "-i", "0.2"]);
    let fields: Vec<f64> = line.split_whitespace().map(|field| field.parse().expect("a number")).collect();
    assert!(matches!(fields[..], [_, _, _, samples] if samples >= 1.0), "{line}");
}

#[test]
fn a_pipe_inserts_in_bulk() {
    let server = Server::cenote().start();
    let mut input = Vec::new();
    for n in 0..20_000 {
        let (key, value) = (format!("k{n}"), [&b"\0\r\n"[..], &n.to_string().into_bytes()].concat());
        input.extend(format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len()).as_bytes());
        input.extend(&value);
        input.extend(b"\r\n");
    }
    let out = redis_cli_with(&server, &["--pipe"], &input);
    assert!(out.ends_with("errors: 0, replies: 20000\n"), "{out}");
    let mut client = server.client();
    assert_eq!(client.cmd(&["DBSIZE"]).int(), 20_000);
    assert_eq!(client.cmd(&["STRLEN", "k19999"]).int(), 8);
    // Inline commands, as a text file has them.
    let text: String = (0..1000).map(|n| format!("INCR counter{}\n", n % 10)).collect();
    let out = redis_cli_with(&server, &["--pipe"], text.as_bytes());
    assert!(out.ends_with("errors: 0, replies: 1000\n"), "{out}");
}

#[test]
fn json_and_resp3_are_shown() {
    let server = server_with_keys();
    let json = |args: &[&str]| -> serde_json::Value {
        let all: Vec<&str> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        serde_json::from_str(&redis_cli(&server, &all)).expect("it is JSON")
    };
    assert_eq!(json(&["mget", "other", "none"]), serde_json::json!(["1", null]));
    assert_eq!(json(&["config", "get", "hz"]), serde_json::json!({"hz": "10"}));
    let docs = json(&["command", "docs"]);
    assert_eq!(docs["get"]["group"], "string");
    assert_eq!(docs["config"]["subcommands"]["config|get"]["arguments"][0]["name"], "parameter");
    assert_eq!(json(&["hello"])["proto"], 3);
    assert!(json(&["command"]).as_array().is_some_and(|commands| commands.len() > 50));
    let hello = redis_cli(&server, &["-3", "hello"]);
    assert!(hello.contains("proto 3\n"), "{hello}");
    assert_eq!(redis_cli(&server, &["-3", "--csv", "mget", "other", "none"]), "\"1\",NULL\n");
}

#[test]
fn a_password_is_given_on_the_command_line_and_in_an_address() {
    let server = Server::cenote().args(["--requirepass", "it's a secret"]).start();
    assert_eq!(redis_cli(&server, &["--no-auth-warning", "-a", "it's a secret", "ping"]), "PONG\n");
    assert_eq!(
        redis_cli(&server, &["--no-auth-warning", "--user", "default", "--pass", "it's a secret", "ping"]),
        "PONG\n"
    );
    let url = format!("redis://default:it's%20a%20secret@127.0.0.1:{}/5", server.port());
    let out = redis_cli(&server, &["--no-auth-warning", "-u", &url, "client", "info"]);
    assert!(out.contains(" db=5 ") && out.contains(" user=default "), "{out}");
    assert!(redis_cli(&server, &["ping"]).contains("NOAUTH Authentication required."));
}

#[test]
fn commands_come_from_arguments_and_from_the_input() {
    let server = Server::cenote().start();
    assert_eq!(redis_cli_with(&server, &["-x", "set", "k"], b"a\0b"), "OK\n");
    assert_eq!(redis_cli(&server, &["get", "k"]), "a\0b\n");
    assert_eq!(redis_cli_with(&server, &["-X", "tag", "set", "k", "tag"], b"tagged"), "OK\n");
    assert_eq!(redis_cli(&server, &["-r", "3", "incr", "n"]), "1\n2\n3\n");
    let words = join_words(&["SET", "two words", "\r\n"].map(|word| word.as_bytes().to_vec()));
    let text = format!("{words}\nget \"two words\"\nselect 1\ndbsize\n");
    assert_eq!(redis_cli_with(&server, &["--no-raw"], text.as_bytes()), "OK\n\"\\r\\n\"\nOK\n(integer) 0\n");
    assert_eq!(redis_cli(&server, &["-n", "1", "dbsize"]), "0\n");
    let failed = run(&tool("REDIS_CLI"), &["-p", &server.port().to_string(), "-e", "incr", "k"], b"", LIMIT);
    assert_eq!(failed.code, Some(1), "-e: an error is told by the exit code: {failed:?}");
}

/// redis-benchmark with its usual 50 clients; each test must report its requests, and nothing else may be said.
#[track_caller]
fn benchmark(args: &[&str], reports: &[&str]) {
    let server = Server::cenote().start();
    let port = server.port().to_string();
    let all: Vec<&str> = ["-p", &port, "-q"].into_iter().chain(args.iter().copied()).collect();
    let Finished { code, out, err } = run(&tool("REDIS_BENCHMARK"), &all, b"", LIMIT);
    assert_eq!((code, err.as_str()), (Some(0), ""), "redis-benchmark {args:?}\n{out}");
    // A line is redrawn as the figures come in; what stands last counts.
    let lines: Vec<&str> =
        out.lines().map(|line| line.rsplit('\r').next().unwrap_or_default().trim()).filter(|l| !l.is_empty()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(names, reports, "redis-benchmark {args:?}\n{out}");
    assert!(lines.iter().all(|line| line.contains("requests per second")), "{out}");
}

const REPORTS: [&str; 6] = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"];

#[test]
fn a_default_benchmark_runs_without_an_error() {
    benchmark(&["-t", "ping,set,get,incr,mset", "-n", "20000"], &REPORTS);
}

#[test]
fn a_pipelined_benchmark_with_random_keys_runs_without_an_error() {
    benchmark(
        &["-t", "ping,set,get,incr,mset", "-n", "20000", "-P", "16", "-r", "1000", "-d", "1000", "--threads", "2"],
        &REPORTS,
    );
}
