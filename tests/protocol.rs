//! Raw bytes, right and wrong, on Cenote and on real servers: the same bytes must come back, and the connection must be
//! in the same state afterwards. Each case is sent whole and byte by byte, which must make no difference.

use std::thread;
use std::time::Duration;

use crate::support::{Client, Failure, Oracle, Server, escape};

/// A complete command whose reply shows that the connection still answers. Starts on a line of its own.
const PROBE: &[u8] = b"*2\r\n$4\r\nECHO\r\n$6\r\n=mark=\r\n";
const MARK: &[u8] = b"$6\r\n=mark=\r\n";
/// How long a server that has something to say is waited for before the probe is sent, where it is not known what comes.
const QUIET: Duration = Duration::from_millis(150);

/// What a connection is after the bytes of a case.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It answers the probe.
    Open,
    /// The server closed it.
    Closed,
    /// It takes the probe as part of what it waits for.
    Waiting,
}

/// Requests of a client that may send what it likes.
const CASES: &[&[u8]] = &[
    // Inline commands.
    b"PING\r\n",
    b"PING\n",
    b"  PING  \r\n",
    b"\tPING\t\r\n",
    b"\r\n",
    b"\n",
    b"\r\n\r\n\nPING\r\n",
    b"   \r\nPING\r\n",
    b"PING\rPING\r\n",
    b"PING\0\r\n",
    b"ECHO \"a b\"\r\n",
    b"ECHO 'a b'\r\n",
    b"ECHO \"\\x41\\n\\r\\t\\a\\b\\\\\\\"\\q\"\r\n",
    b"ECHO '\\n\\'x'\r\n",
    b"ECHO \"\\xzz\"\r\n",
    b"ECHO \"\"\r\n",
    b"ECHO ''\r\n",
    b"ECHO a\"b\r\n",
    b"ECHO a\"b\"\r\n",
    b"ECHO \"a\"b\r\n",
    b"ECHO 'a'b\r\n",
    b"ECHO \"abc\r\n",
    b"ECHO 'abc\r\n",
    b"ECHO \"abc\\\r\n",
    b"SET k \"\\x00\\xff\"\r\nGET k\r\n",
    b"set k v\r\nget k\r\ndel k\r\n",
    b"GET\r\n",
    b"FOO BAR\r\n",
    b"\xff\xfe\r\n",
    b"PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n",
    // Arrays of bulk strings.
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\0\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*-10\r\n",
    b"*-9223372036854775808\r\n",
    b"*-0\r\n",
    b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"* 1\r\n$4\r\nPING\r\n",
    b"*1 \r\n$4\r\nPING\r\n",
    b"*\r\n",
    b"*\r\nPING\r\n",
    b"*a\r\n",
    b"*1a\r\n",
    b"*1.0\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"*1\r$4\r\nPING\r\n",
    b"*1\rx$4\r\nPING\r\n",
    b"*1048576\r\n",
    b"*1048577\r\n",
    b"*2147483647\r\n",
    b"*2147483648\r\n",
    b"*9223372036854775807\r\n",
    b"*9223372036854775808\r\n",
    b"*99999999999999999999999\r\n",
    b"*1\r\n:4\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n\0\r\n",
    b"*1\r\n\n\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n*1\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$-1\r\n",
    b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    b"*1\r\n$-5\r\n",
    b"*1\r\n$a\r\n",
    b"*1\r\n$4a\r\nPING\r\n",
    b"*1\r\n$ 4\r\nPING\r\n",
    b"*1\r\n$4 \r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$4.0\r\nPING\r\n",
    b"*1\r\n$4\n\nPING\r\n",
    b"*1\r\n$4\rxPING\r\n",
    b"*1\r\n$536870912\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$2147483648\r\n",
    b"*1\r\n$9223372036854775807\r\n",
    b"*1\r\n$9223372036854775808\r\n",
    b"*1\r\n$18446744073709551616\r\n",
    // The two bytes after a bulk string are taken for granted.
    b"*1\r\n$4\r\nPINGxx",
    b"*1\r\n$4\r\nPING\n\n",
    b"*1\r\n$0\r\n\r\n",
    b"*2\r\n$0\r\n\r\n$1\r\na\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    // Incomplete: the rest is still to come.
    b"*",
    b"*1",
    b"*1\r",
    b"*1\r\n$",
    b"*1\r\n$4\r\nPI",
    b"*1\r\n$100\r\nPI",
    b"*3\r\n$3\r\nGET\r\n",
    b"PIN",
    // Faults after good commands: these are answered first.
    b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n*a\r\n",
    b"PING\r\nECHO \"\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n:4\r\nPING\r\n",
    // What follows a fault, or the end of a connection, is not run.
    b"*a\r\n*1\r\n$4\r\nPING\r\n",
    b"QUIT\r\nPING\r\n",
    b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
    b"QUIT x\r\n",
    // Other protocols.
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\n",
    b"post / HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"host: a\r\n",
    b"HOST:\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n",
];

/// Requests of a client that has not given the password: less is allowed.
const UNAUTHENTICATED: &[&[u8]] = &[
    b"PING\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*10\r\n",
    b"*11\r\n",
    b"*1048577\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$16384\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    b"*1\r\n$536870913\r\n",
    b"*-5\r\n",
    b"*11\r\n$4\r\nAUTH\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n*11\r\n",
    b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*11\r\n",
    b"AUTH secret\r\n*1\r\n$16385\r\n",
    b"AUTH wrong\r\nGET k\r\n",
    b"QUIT\r\n",
    b"FOO\r\n",
];

/// Cases too long to be written down.
fn long_cases() -> Vec<Vec<u8>> {
    let inline = |length: usize, end: &str| [b"ECHO ".to_vec(), vec![b'a'; length - 5], end.into()].concat();
    let count = |digits: usize| [b"*".to_vec(), vec![b'1'; digits]].concat();
    let length = |digits: usize| [b"*1\r\n$".to_vec(), vec![b'1'; digits]].concat();
    vec![
        inline(60_000, "\r\n"),
        inline(64 * 1024 - 2, "\r\n"),
        inline(64 * 1024, ""),
        inline(64 * 1024 + 1, ""),
        inline(70_000, ""),
        inline(200_000, ""),
        count(70_000),
        length(70_000),
        "*1\r\n$4\r\nPING\r\n".repeat(2000).into_bytes(),
        "PING\r\n".repeat(2000).into_bytes(),
        "\r\n".repeat(40_000).into_bytes(),
        [b"*1001\r\n$3\r\nDEL\r\n".to_vec(), b"$1\r\nk\r\n".repeat(1000)].concat(),
        [b"*2\r\n$4\r\nECHO\r\n$300000\r\n".to_vec(), vec![b'z'; 300_000], b"\r\n".to_vec()].concat(),
        "*1\r\n".repeat(10_000).into_bytes(),
    ]
}

/// How long is waited for what is known to come.
const LONG: Duration = Duration::from_secs(4);

/// What came back for a case, and what the connection is then.
struct Observation {
    reply: Vec<u8>,
    state: State,
    /// How much of the reply came, and whether the server closed, before the probe was sent.
    early: (usize, bool),
}

impl Observation {
    fn same(&self, other: &Self) -> bool {
        self.reply == other.reply && self.state == other.state
    }
}

/// Sends a case and sees what happens. Where it is known from another server what to wait for, that is waited for long
/// enough for a busy machine; else a server is taken to be done when it has been quiet for a moment.
fn observe(server: &Server, case: &[u8], piecemeal: bool, known: Option<&Observation>) -> Observation {
    let mut client = Client::connect(server.port());
    let sent =
        if piecemeal { case.chunks(1).try_for_each(|byte| client.send_raw(byte)) } else { client.send_raw(case) };
    let (first, wanted) = match known.map(|k| k.early) {
        None | Some((0, false)) => (QUIET, None),
        Some((_, true)) => (LONG, None),
        Some((length, false)) => (LONG, Some(length)),
    };
    client.set_patience(first);
    let (mut reply, failure) = client.read_raw_until(|bytes| wanted.is_some_and(|n| bytes.len() >= n));
    let early = (reply.len(), sent.is_err() || matches!(failure, Some(Failure::Closed(_))));
    if early.1 {
        return Observation { reply, state: State::Closed, early };
    }
    let _ = client.send_raw(PROBE);
    client.set_patience(if known.is_some_and(|k| k.state != State::Waiting) { LONG } else { QUIET * 2 });
    let (rest, failure) = client.read_raw_until(|bytes| bytes.ends_with(MARK));
    let (rest, state) = match (rest.strip_suffix(MARK), failure) {
        (Some(rest), _) => (rest, State::Open),
        (None, Some(Failure::Closed(_))) => (&rest[..], State::Closed),
        (None, _) => (&rest[..], State::Waiting),
    };
    reply.extend_from_slice(rest);
    Observation { reply, state, early }
}

/// Runs all cases, some at a time, and reports every one that Cenote answers neither as Redis 8.2 nor as Valkey 9.1.
fn compare(cases: &[Vec<u8>], args: &[&str], piecemeal: bool) {
    let tested = Server::cenote().args(args.iter().copied()).start();
    let redis = Server::oracle(Oracle::Redis8).args(args.iter().copied()).start();
    let valkey = Server::oracle(Oracle::Valkey9).args(args.iter().copied()).start();
    let compare_one = |case: &Vec<u8>| {
        let theirs = observe(&redis, case, false, None);
        let ours = observe(&tested, case, piecemeal, Some(&theirs));
        if ours.same(&theirs) {
            return None;
        }
        let others = observe(&valkey, case, false, None);
        // Once more, in case that what is waited for is not what Cenote does.
        let ours = observe(&tested, case, piecemeal, Some(&others));
        let bytes = |bytes: &[u8]| escape(&bytes[..bytes.len().min(300)]);
        let show = |seen: &Observation| format!("{:?}: {}", seen.state, bytes(&seen.reply));
        let (redis, valkey) = (show(&theirs), show(&others));
        (!ours.same(&others))
            .then(|| format!("{}\n    cenote  {}\n    redis8  {redis}\n    valkey9 {valkey}", bytes(case), show(&ours)))
    };
    let part = cases.len().div_ceil(16).max(1);
    let differences: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = cases
            .chunks(part)
            .map(|cases| scope.spawn(move || cases.iter().filter_map(compare_one).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the thread ends")).collect()
    });
    let count = differences.len();
    assert!(count == 0, "{count} differences in {} cases\n{}", cases.len(), differences.join("\n"));
}

fn owned(cases: &[&[u8]]) -> Vec<Vec<u8>> {
    cases.iter().map(|case| case.to_vec()).collect()
}

#[test]
fn requests_are_answered_as_by_redis() {
    compare(&owned(CASES), &[], false);
}

#[test]
fn requests_byte_by_byte_are_answered_as_by_redis() {
    compare(&owned(CASES), &[], true);
}

#[test]
fn unauthenticated_clients_may_send_little() {
    compare(&owned(UNAUTHENTICATED), &["--requirepass", "secret"], false);
    compare(&owned(UNAUTHENTICATED), &["--requirepass", "secret"], true);
}

#[test]
fn long_requests_are_answered_as_by_redis() {
    compare(&long_cases(), &[], false);
}

#[test]
fn a_bulk_length_limit_is_kept() {
    let cases: [&[u8]; 2] = [b"*2\r\n$4\r\nECHO\r\n$1048576\r\n", b"*2\r\n$4\r\nECHO\r\n$1048577\r\n"];
    compare(&owned(&cases), &["--proto-max-bulk-len", "1mb"], false);
}

/// One connection's garbage costs nobody else anything.
#[test]
fn garbage_on_one_connection_leaves_the_others_alone() {
    let server = Server::cenote().start();
    let mut neighbour = server.client();
    assert_eq!(neighbour.cmd(&["SET", "neighbour", "v"]), crate::support::Value::ok());
    for case in CASES {
        let mut client = server.client();
        let _ = client.send_raw(case);
    }
    assert_eq!(neighbour.cmd(&["GET", "neighbour"]), crate::support::Value::bulk("v"));
}
