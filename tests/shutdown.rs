//! The program's beginning and end: signals, SHUTDOWN, and settings that cannot be right.

use crate::support::{Client, Failure, PATIENCE, Port, Server, TempDir, Value, cenote_program, run, until};

#[test]
fn sigterm_and_sigint_end_the_server_in_order() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::cenote().start();
        let mut client = server.client();
        assert_eq!(client.cmd(&["SET", "k", "v"]), Value::ok());
        server.signal(signal);
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(0), "after {signal}:\n{}", server.log());
        assert!(client.is_closed(), "connections end with the server");
    }
}

/// The end of a terminal's session once ended the server that was started in it; Redis ignores the signal.
#[test]
fn a_hangup_does_not_end_the_server() {
    let mut server = Server::cenote().start();
    server.signal("HUP");
    let mut client = server.client();
    assert_eq!(client.cmd(&["SET", "k", "v"]), Value::ok());
    server.signal("HUP");
    assert_eq!(client.cmd(&["GET", "k"]), Value::bulk("v"));
    assert!(server.is_running());
}

/// `--requirepass -v` once printed the version instead of starting.
#[test]
fn a_value_that_looks_like_an_option_is_a_value() {
    let server = Server::cenote().args(["--requirepass", "-v"]).start();
    let mut client = server.client();
    assert!(client.cmd(&["GET", "k"]).is_error(), "a password is wanted");
    assert_eq!(client.cmd(&["AUTH", "-v"]), Value::ok());
}

#[test]
fn a_command_that_runs_is_finished_before_the_end() {
    let mut server = Server::cenote().start();
    let mut client = server.client();
    // A batch that was read is answered whole, or not at all; half an answer would be a lie about what was done.
    let commands: Vec<_> =
        (0..100).map(|n| vec![b"SET".to_vec(), format!("k{n}").into_bytes(), b"v".to_vec()]).collect();
    let replies = client.pipeline(&commands).expect("all are answered");
    assert!(replies.iter().all(|reply| reply.value == Value::ok()));
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(client.try_cmd(&["PING"]).err().map(|f| matches!(f, Failure::Closed(_))), Some(true));
}

#[test]
fn shutdown_ends_the_server_without_a_reply() {
    for args in [&["SHUTDOWN"][..], &["SHUTDOWN", "NOSAVE"], &["shutdown", "nosave", "now", "force"]] {
        let mut server = Server::cenote().start();
        let mut client = server.client();
        assert_eq!(client.try_cmd(args), Err(Failure::Closed(String::new())), "{args:?}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_configuration_file_and_arguments_are_read_as_by_redis() {
    let server =
        Server::cenote().config("maxclients 77\ntimeout 12\nrequirepass \"a b\"\n").args(["--timeout", "34"]).start();
    let mut client = server.client();
    assert!(client.cmd(&["GET", "k"]).is_error(), "a password is wanted");
    assert_eq!(client.cmd(&["AUTH", "a b"]), Value::ok());
    let get = |client: &mut crate::support::Client, name: &str| client.cmd(&["CONFIG", "GET", name]).items()[1].clone();
    assert_eq!(get(&mut client, "maxclients"), Value::bulk("77"));
    assert_eq!(get(&mut client, "timeout"), Value::bulk("34"), "arguments come after the file");
}

/// Settings that cannot be right end the program, and say so: `(arguments, what the message names)`.
#[test]
fn settings_that_cannot_be_right_are_told() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--maxclinets", "10"], &["maxclinets"]),
        (&["--maxmemory", "lots"], &["maxmemory"]),
        (&["--databases", "0"], &["databases"]),
        (&["--timeout"], &["timeout"]),
        (&["--maxmemory-policy", "newest"], &["maxmemory-policy"]),
        (&["--include", "/nowhere/at-all.conf"], &["/nowhere/at-all.conf"]),
    ];
    for (args, names) in cases {
        let (status, text) = Server::cenote().args(args.iter().copied()).start_and_fail();
        assert!(!status.success(), "{args:?} was accepted:\n{text}");
        for name in names {
            assert!(text.contains(name), "{args:?}: the message does not name {name}:\n{text}");
        }
    }
}

/// Cenote's own: the message names the directive that was probably meant. (No real server does.)
#[test]
fn an_unknown_directive_is_answered_with_the_nearest_known_one() {
    let cases = [("maxclinets", "maxclients"), ("requirepas", "requirepass"), ("max-memory", "maxmemory")];
    for (wrong, right) in cases {
        let (status, text) = Server::cenote().args([&format!("--{wrong}"), "10"]).start_and_fail();
        assert!(!status.success() && text.contains(wrong) && text.contains(right), "{wrong}:\n{text}");
        let (status, text) = Server::cenote().config(&format!("timeout 0\n{wrong} 10\n")).start_and_fail();
        assert!(!status.success() && text.contains(wrong) && text.contains(right), "{wrong} in a file:\n{text}");
        assert!(text.contains('2'), "the line is named:\n{text}");
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let server = Server::cenote().start();
    let port = server.port().to_string();
    let (status, text) = Server::cenote().args(["--port", &port]).start_and_fail();
    assert!(!status.success(), "two servers on port {port}:\n{text}");
    assert!(text.contains(&port), "the message names the port:\n{text}");
    // Metrics that nobody can read were once a line in the log only.
    let (status, text) = Server::cenote().args(["--metrics-port", &port]).start_and_fail();
    assert!(!status.success() && text.contains(&port), "metrics on a port that is taken:\n{text}");
}

/// `daemonize yes`, as units of the type `forking` and init scripts have it, once left the server in the foreground: whoever
/// waited for the program to end waited for ever.
#[test]
fn a_server_goes_to_the_background_and_is_ready_when_the_call_returns() {
    let dir = TempDir::new("daemon");
    let (port, path) = (Port::reserve(), |name: &str| dir.path().join(name).display().to_string());
    let args = |more: &[&str]| -> Vec<String> {
        let common =
            ["--port", &port.number.to_string(), "--daemonize", "yes", "--pidfile", &path("pid")].map(String::from);
        common.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    };
    let start = |more: &[&str]| {
        let args = args(more);
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&cenote_program(), &words, b"", PATIENCE)
    };
    let started = start(&["--logfile", &path("log"), "--dir", &dir.path().display().to_string()]);
    let log = || std::fs::read_to_string(path("log")).unwrap_or_default();
    assert_eq!((started.code, started.out.as_str(), started.err.as_str()), (Some(0), "", ""), "{}", log());
    let pid: u32 =
        std::fs::read_to_string(path("pid")).expect("the pid file is there").trim().parse().expect("a number");
    let mut client = Client::connect(port.number);
    assert!(client.cmd(&["INFO", "server"]).text().expect("a text").contains(&format!("process_id:{pid}\r\n")));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the name ends");
    assert_eq!(fields.split(' ').nth(3), Some(pid.to_string().as_str()), "it leads a session of its own");
    for fd in 0..3 {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("it is open");
        assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {fd}");
    }
    // A second one on the same port says why it cannot, and the call fails.
    let second = start(&[]);
    assert_eq!((second.code, second.err.contains(&port.number.to_string())), (Some(1), true), "{}", second.err);
    assert_eq!(client.try_cmd(&["SHUTDOWN"]), Err(Failure::Closed(String::new())));
    until("the pid file to go", || !dir.path().join("pid").exists());
    let refused = run(&cenote_program(), &["--daemonize", "yes", "-"], b"port 0\n", PATIENCE);
    assert!(refused.code != Some(0) && refused.err.contains("standard input"), "{}", refused.err);
}
