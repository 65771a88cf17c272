//! What happens to a connection around its commands: requests that wait, pipelines nobody reads, clients that leave
//! half way, are thrown out, watch others, or come where there is no room.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use crate::support::{Client, Failure, PATIENCE, Server, Value};

/// Asks `look` until it gives something; panics where it does not in time.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// A field of CLIENT LIST's line on the client with this id, if it is still there.
fn field(client: &mut Client, id: i64, name: &str) -> Option<String> {
    let line = client.cmd(&["CLIENT", "LIST", "ID", &id.to_string()]).text()?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")))?;
    Some(value.to_owned())
}

fn id(client: &mut Client) -> i64 {
    client.cmd(&["CLIENT", "ID"]).int()
}

fn info(client: &mut Client, name: &str) -> i64 {
    let text = client.cmd(&["INFO", "stats"]).text().unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Requests were once parsed again after the one before them had waited. Inline commands are unquoted in place, so the
/// second time they were others: `GET "a b"` after a CLIENT PAUSE was answered as something else, or not at all.
#[test]
fn requests_behind_one_that_waits_are_run_as_they_were_sent() {
    let server = Server::cenote().start();
    let requests = b"PING 1\r\nCLIENT PAUSE 20 WRITE\r\nSET q \"a b \\x43\"\r\nGET \"q\"\r\nPING 'x y'\r\n\
        *2\r\n$3\r\nGET\r\n$1\r\nq\r\nCLIENT PAUSE 20 ALL\r\nSET \"w w\" \"1 2\"\r\nGET \"w w\"\r\n*1\r\n$x\r\nPING\r\n";
    let replies = b"$1\r\n1\r\n+OK\r\n+OK\r\n$5\r\na b C\r\n$3\r\nx y\r\n$5\r\na b C\r\n+OK\r\n+OK\r\n$3\r\n1 2\r\n\
        -ERR Protocol error: invalid bulk length\r\n";
    for cut in (0..requests.len()).step_by(9) {
        let mut client = server.client();
        client.send_raw(&requests[..cut]).unwrap();
        // The answer to what is complete shows that the first part was read.
        let seen = if cut > 8 { client.read_raw_until(|bytes| bytes.len() >= 7).0 } else { Vec::new() };
        client.send_raw(&requests[cut..]).unwrap();
        let rest = client.read_to_end().unwrap();
        assert_eq!(
            [seen, rest].concat().escape_ascii().to_string(),
            replies.escape_ascii().to_string(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_pause_holds_writers_until_it_is_ended() {
    let server = Server::cenote().start();
    let (mut admin, mut writer, mut reader) = (server.client(), server.client(), server.client());
    let writer_id = id(&mut writer);
    assert_eq!(admin.cmd(&["CLIENT", "PAUSE", "1000000", "WRITE"]), Value::ok());
    // A shorter pause makes it no shorter.
    assert_eq!(admin.cmd(&["CLIENT", "PAUSE", "1", "WRITE"]), Value::ok());
    writer.send(&["SET", "k", "v"]).unwrap();
    wait_for("the writer waits", || field(&mut admin, writer_id, "flags").filter(|flags| flags == "b"));
    assert_eq!(reader.cmd(&["GET", "k"]).text(), None);
    assert_eq!(admin.cmd(&["CLIENT", "UNPAUSE"]), Value::ok());
    assert_eq!(writer.read_reply().unwrap().value, Value::ok());
    assert_eq!(reader.cmd(&["GET", "k"]), Value::bulk("v"));
}

#[test]
fn replies_that_are_not_wanted_are_not_sent() {
    let server = Server::cenote().args(["--enable-debug-command", "yes"]).start();
    let cases: [(&str, &str); 7] = [
        ("CLIENT REPLY OFF\r\nPING\r\nFOO\r\nCLIENT REPLY ON\r\nPING\r\n", "+OK\r\n+PONG\r\n"),
        ("CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n", "$1\r\nb\r\n"),
        ("CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING b\r\nPING c\r\n", "$1\r\nc\r\n"),
        ("CLIENT REPLY SKIP\r\nFOO\r\nPING b\r\n", "$1\r\nb\r\n"),
        ("CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING b\r\n", "+OK\r\n$1\r\nb\r\n"),
        ("CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nPING b\r\nCLIENT REPLY ON\r\n", "+OK\r\n"),
        ("CLIENT REPLY SKIP\r\nDEBUG SLEEP 0.001\r\nPING c\r\n", "$1\r\nc\r\n"),
    ];
    for (requests, replies) in cases {
        let mut client = server.client();
        client.send_raw(requests.as_bytes()).unwrap();
        client.finish_sending();
        assert_eq!(String::from_utf8(client.read_to_end().unwrap()).unwrap(), replies, "{requests}");
    }
}

#[test]
fn a_client_that_sends_first_and_reads_later_gets_every_reply() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let one =
        format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100\r\n{}\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", "v".repeat(100));
    let (rounds, reply_len) = (60_000, "+OK\r\n$100\r\n\r\n".len() + 100);
    client.send_raw(one.repeat(rounds).as_bytes()).unwrap();
    let (replies, failure) = client.read_raw_until(|bytes| bytes.len() >= rounds * reply_len);
    assert_eq!((replies.len(), failure), (rounds * reply_len, None));
    let first = replies[..reply_len].to_vec();
    assert!(replies.chunks(reply_len).all(|reply| reply == first));
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_costs_nobody_else() {
    let limits = "normal 1mb 0 0 pubsub 1mb 0 0";
    let server = Server::cenote().args(["--client-output-buffer-limit", limits]).start();
    let (mut other, mut greedy) = (server.client(), server.client());
    assert_eq!(other.cmd(&["SET", "big", &"x".repeat(1_000_000)]), Value::ok());
    let greedy_id = id(&mut greedy);
    greedy.send_raw("GET big\r\n".repeat(50).as_bytes()).unwrap();
    wait_for("the greedy client is gone", || field(&mut other, greedy_id, "id").is_none().then_some(()));
    assert_eq!(info(&mut other, "client_output_buffer_limit_disconnections"), 1);
    assert!(greedy.read_to_end().unwrap().len() < 50_000_000);
}

/// Redis lets the memory of a monitor that does not read grow as that of any normal client, without limit.
#[test]
fn a_monitor_that_does_not_read_is_dropped() {
    let server = Server::cenote().args(["--client-output-buffer-limit", "pubsub 1mb 0 0"]).start();
    let (mut other, mut monitor) = (server.client(), server.client());
    let monitor_id = id(&mut monitor);
    assert_eq!(monitor.cmd(&["MONITOR"]), Value::ok());
    let big = "x".repeat(1_000_000);
    wait_for("the monitor is gone", || {
        assert_eq!(other.cmd(&["ECHO", &big]), Value::bulk(&big));
        field(&mut other, monitor_id, "id").is_none().then_some(())
    });
    assert_eq!(info(&mut other, "client_output_buffer_limit_disconnections"), 1);
}

#[test]
fn a_monitor_sees_what_others_run_but_no_secrets() {
    let server = Server::cenote().start();
    let (mut monitor, mut client) = (server.client(), server.client());
    assert_eq!(monitor.cmd(&["MONITOR"]), Value::ok());
    let shown: [(&[&str], &str); 6] = [
        (&["Set", "k", "a\"b\\\n\u{1}"], r#""Set" "k" "a\"b\\\n\x01""#),
        (&["GET"], ""),
        (&["CONFIG", "GET", "save"], ""),
        (&["AUTH", "name", "secret"], r#""AUTH" "(redacted)" "(redacted)""#),
        (&["HELLO", "2", "AUTH", "default", "secret"], r#""HELLO" "2" "AUTH" "(redacted)" "(redacted)""#),
        (&["SELECT", "3"], r#""SELECT" "3""#),
    ];
    for (args, _) in shown {
        client.cmd(args);
    }
    client.cmd(&["ECHO", "last"]);
    let (seen, _) = monitor.read_raw_until(|bytes| bytes.ends_with(b"\"last\"\r\n"));
    let seen = String::from_utf8(seen).unwrap();
    let address = client.local_address();
    let lines: Vec<&str> = seen.lines().map(|line| line.split_once(" [").unwrap_or_default().1).collect();
    let mut expected: Vec<String> = shown.iter().filter(|case| !case.1.is_empty()).map(|case| case.1.into()).collect();
    expected.push("\"ECHO\" \"last\"".into());
    let last = expected.len() - 2;
    for (index, line) in expected.iter_mut().enumerate() {
        *line = format!("{} {address}] {line}", if index >= last { 3 } else { 0 });
    }
    assert_eq!(lines, expected);
    // It may not look at keys; RESET makes it a client like others.
    assert!(monitor.cmd(&["GET", "k"]).is_error());
    assert_eq!(monitor.cmd(&["RESET"]), Value::simple("RESET"));
    client.cmd(&["PING"]);
    assert!(!monitor.cmd(&["GET", "k"]).is_error());
}

#[test]
fn clients_are_killed_by_what_they_are() {
    let server = Server::cenote().start();
    let mut admin = server.client();
    let filters: [fn(&mut Client) -> Vec<String>; 4] = [
        |client| vec![client.local_address()],
        |client| vec!["ID".into(), id(client).to_string()],
        |client| vec!["ADDR".into(), client.local_address(), "TYPE".into(), "normal".into()],
        |client| vec!["USER".into(), "default".into(), "LADDR".into(), laddr(client), "SKIPME".into(), "yes".into()],
    ];
    for filter in filters {
        let mut victim = server.client();
        // Once it is answered, the server knows it.
        assert_eq!(victim.cmd(&["PING"]), Value::simple("PONG"));
        let mut command = vec!["CLIENT".to_owned(), "KILL".to_owned()];
        command.extend(filter(&mut victim));
        let reply = admin.cmd(&command);
        let expected = if command.len() == 3 { Value::ok() } else { Value::Int(1) };
        assert_eq!(reply, expected, "{command:?}");
        assert_eq!(admin.cmd(&["CLIENT", "LIST"]).text().map(|text| text.lines().count()), Some(1), "{command:?}");
        assert!(victim.is_closed(), "{command:?}");
    }
    // Who kills itself is told first.
    let own = id(&mut admin).to_string();
    assert_eq!(admin.cmd(&["CLIENT", "KILL", "ID", &own]), Value::Int(0));
    assert_eq!(admin.cmd(&["CLIENT", "KILL", "ID", &own, "SKIPME", "no"]), Value::Int(1));
    assert!(admin.is_closed());
}

fn laddr(client: &mut Client) -> String {
    let own = id(client);
    field(client, own, "laddr").unwrap_or_default()
}

/// Redis itself loses this race. A socket that is closed with unread bytes resets the connection, and takes back what the peer has not read yet: so
/// a client that went on sending never learned what it had done wrong.
#[test]
fn a_client_that_goes_on_sending_learns_what_was_wrong() {
    let server = Server::cenote().start();
    for _ in 0..20 {
        let mut client = server.client();
        client.send_raw(&[b"*1\r\n$x\r\n".as_slice(), &[b'x'; 3_000_000]].concat()).unwrap();
        let told = client.read_to_end().unwrap();
        assert_eq!(told.escape_ascii().to_string(), r"-ERR Protocol error: invalid bulk length\r\n");
    }
}

#[test]
fn clients_past_the_limit_are_told_so() {
    let server = Server::cenote().args(["--maxclients", "2"]).start();
    let mut first = server.client();
    let mut second = wait_for("the second place", || {
        let mut client = server.client();
        client.try_cmd(&["PING"]).is_ok_and(|reply| !reply.value.is_error()).then_some(client)
    });
    let refused = info(&mut second, "rejected_connections");
    let mut third = server.client();
    assert_eq!(third.read_to_end(), Ok(b"-ERR max number of clients reached\r\n".to_vec()));
    assert_eq!(info(&mut first, "rejected_connections"), refused + 1);
    drop(second);
    wait_for("the place is free again", || {
        server.client().try_cmd(&["PING"]).is_ok_and(|reply| !reply.value.is_error()).then_some(())
    });
}

#[test]
fn the_unix_socket_is_served() {
    let server = Server::cenote().args(["--unixsocket", "socket", "--unixsocketperm", "700"]).start();
    let path = server.dir().join("socket");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"CLIENT INFO\r\nQUIT\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    for part in [" addr=socket:0 ", " laddr=socket:0 ", " flags=U "] {
        assert!(reply.contains(part), "{reply}");
    }
}

#[test]
fn the_port_can_be_changed() {
    let server = Server::cenote().start();
    let mut client = server.client();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = client.cmd(&["CONFIG", "SET", "port", &port.to_string()]);
    assert!(refused.text().is_some_and(|text| text.contains("Unable to listen on this port")), "{refused:?}");
    assert_eq!(server.client().cmd(&["PING"]), Value::simple("PONG"));
    drop(taken);
    assert_eq!(client.cmd(&["CONFIG", "SET", "port", &port.to_string()]), Value::ok());
    assert_eq!(Client::connect(port).cmd(&["PING"]), Value::simple("PONG"));
    assert!(Client::try_connect(server.port()).is_err(), "the former port is closed");
    // Connections stay.
    assert_eq!(client.cmd(&["CONFIG", "GET", "port"]).items()[1], Value::bulk(port.to_string()));
}

#[test]
fn who_connected_before_there_was_a_password_stays_in() {
    let server = Server::cenote().start();
    let (mut before, mut reset) = (server.client(), server.client());
    assert_eq!(before.cmd(&["CONFIG", "SET", "requirepass", "hush"]), Value::ok());
    assert_eq!(before.cmd(&["PING"]), Value::simple("PONG"));
    assert_eq!(reset.cmd(&["RESET"]), Value::simple("RESET"));
    let mut after = server.client();
    for client in [&mut reset, &mut after] {
        assert!(client.cmd(&["PING"]).text().is_some_and(|text| text.starts_with("NOAUTH")));
        assert!(client.cmd(&["AUTH", "hus"]).text().is_some_and(|text| text.starts_with("WRONGPASS")));
    }
    assert_eq!(after.cmd(&["AUTH", "hush"]), Value::ok());
    assert_eq!(after.cmd(&["PING"]), Value::simple("PONG"));
    // Without a password nobody needs one.
    assert_eq!(before.cmd(&["CONFIG", "SET", "requirepass", ""]), Value::ok());
    assert_eq!(reset.cmd(&["PING"]), Value::simple("PONG"));
}

#[test]
fn the_largest_connection_goes_when_all_together_take_too_much() {
    let server = Server::cenote().args(["--maxmemory-clients", "2mb"]).start();
    let mut small = server.client();
    let mut kept = server.client();
    assert_eq!(kept.cmd(&["CLIENT", "NO-EVICT", "ON"]), Value::ok());
    // Requests without their last two bytes: what came of them is kept.
    let begun =
        |bytes: usize| [format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n").into_bytes(), vec![b'x'; bytes]].concat();
    kept.send_raw(&begun(900_000)).expect("it is sent");
    let mut large = server.client();
    // It may be closed before all of it is sent.
    let _ = large.send_raw(&begun(1_500_000));
    assert!(matches!(large.read_reply(), Err(Failure::Closed(_))));
    let stats = small.cmd(&["INFO", "stats"]).text().unwrap_or_default();
    assert!(stats.contains("evicted_clients:1"), "{stats}");
    kept.send_raw(b"\r\n").expect("it is sent");
    assert_eq!(kept.read_reply().map(|reply| reply.value), Ok(Value::ok()));
    assert_eq!(small.cmd(&["CONFIG", "SET", "maxmemory-clients", "0"]), Value::ok());
}
