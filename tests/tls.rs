//! TLS for clients: who gets in, what may go wrong on the way, and that everything works behind it as it does without.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Port, Server, ServerBuilder, TempDir, Value, run, tool, until};

/// As long as a busy machine may need for what takes a second.
const LIMIT: Duration = Duration::from_secs(60);

/// An authority, certificates that it has signed, and one that another has.
struct Papers(TempDir);

impl Papers {
    fn new() -> Self {
        let papers = Self(TempDir::new("tls"));
        for authority in ["ca", "other-ca"] {
            papers.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout \
                 {authority}.key -out {authority}.crt"
            ));
        }
        for (name, authority) in [("server", "ca"), ("client", "ca"), ("stranger", "other-ca")] {
            papers.issue(name, authority, name);
        }
        papers
    }

    /// A certificate in `NAME.crt`, its key in `NAME.key`.
    fn issue(&self, name: &str, authority: &str, subject: &str) {
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        fs::write(self.0.path().join("extensions"), extensions).expect("a file can be written");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={subject} -keyout {name}.key -out \
             {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2 -extfile \
             extensions -out {name}.crt"
        ));
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split_whitespace()).current_dir(self.0.path()).output();
        let output = output.expect("openssl runs (Debian: apt-get install openssl)");
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    /// A server that speaks TLS on `port`, besides.
    fn server(&self, port: &Port) -> ServerBuilder {
        let args =
            ["--tls-port", &port.number.to_string(), "--tls-cert-file", &self.path("server.crt")].map(String::from);
        let more = ["--tls-key-file", &self.path("server.key"), "--tls-ca-cert-file", &self.path("ca.crt")];
        Server::cenote().args(args).args(more)
    }

    fn cli(&self, port: u16, options: &str, command: &[&str]) -> (Option<i32>, String) {
        let ca = self.path("ca.crt");
        let port = port.to_string();
        let mut args = vec!["-p", &port, "-h", "127.0.0.1", "--tls", "--cacert", &ca];
        let files: Vec<String> = options
            .split_whitespace()
            .map(|word| if word.contains('.') { self.path(word) } else { word.into() })
            .collect();
        args.extend(files.iter().map(String::as_str));
        args.extend(command);
        let finished = run(&tool("REDIS_CLI"), &args, b"", LIMIT);
        (finished.code, format!("{}{}", finished.out, finished.err))
    }

    fn ping(&self, port: u16, options: &str) -> String {
        self.cli(port, options, &["PING"]).1.trim().to_owned()
    }
}

/// With the client's certificate.
const SHOWN: &str = "--cert client.crt --key client.key";
const STRANGER: &str = "--cert stranger.crt --key stranger.key";

/// A connection through `openssl s_client`, which knows nothing of ours.
struct Tunnel {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Tunnel {
    fn open(papers: &Papers, port: u16, options: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-connect"]);
        command.arg(format!("127.0.0.1:{port}")).args([
            "-CAfile",
            "ca.crt",
            "-cert",
            "client.crt",
            "-key",
            "client.key",
        ]);
        command.args(options.split_whitespace()).current_dir(papers.0.path());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl runs");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).expect("the tunnel takes it");
    }

    #[track_caller]
    fn expect(&mut self, wanted: &[u8]) {
        let mut got = vec![0; wanted.len()];
        self.output.read_exact(&mut got).expect("the answer comes");
        assert!(got == wanted, "{} instead of {}", got.escape_ascii(), wanted.escape_ascii());
    }

    /// What comes until the server ends the connection.
    fn rest(mut self) -> Vec<u8> {
        let (sender, receiver) = mpsc::channel();
        let mut output = self.output;
        thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = output.read_to_end(&mut rest);
            let _ = sender.send(rest);
        });
        let rest = receiver.recv_timeout(PATIENCE).expect("the connection ends");
        let _ = self.child.kill();
        let _ = self.child.wait();
        rest
    }
}

#[test]
fn certificates_are_asked_for_as_configured() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).start();
    let tls = port.number;
    let mut control = server.client();
    assert_eq!(papers.ping(tls, SHOWN), "PONG");
    assert_ne!(papers.ping(tls, ""), "PONG");
    assert_ne!(papers.ping(tls, STRANGER), "PONG");
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-auth-clients", "optional"]), Value::ok());
    assert_eq!([papers.ping(tls, SHOWN), papers.ping(tls, "")], ["PONG", "PONG"]);
    assert_ne!(papers.ping(tls, STRANGER), "PONG");
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-auth-clients", "no"]), Value::ok());
    assert_eq!([papers.ping(tls, STRANGER), papers.ping(tls, "")], ["PONG", "PONG"]);
    // Who does not know the authority does not trust the server.
    let ca = papers.path("other-ca.crt");
    let finished = run(&tool("REDIS_CLI"), &["-p", &tls.to_string(), "--tls", "--cacert", &ca, "PING"], b"", LIMIT);
    assert!(finished.out.is_empty() && finished.err.contains("certificate verify failed"), "{}", finished.err);
    let info = control.cmd(&["INFO", "server"]).text().unwrap_or_default();
    assert!(info.contains(&format!("listener1:name=tls,bind=127.0.0.1,port={tls}")), "{info}");
    // The authority may lie in a folder.
    fs::create_dir(papers.0.path().join("authorities")).unwrap();
    fs::copy(papers.path("other-ca.crt"), papers.path("authorities/one.pem")).unwrap();
    let dir = papers.path("authorities");
    let words = ["CONFIG", "SET", "tls-ca-cert-dir", &dir, "tls-ca-cert-file", "", "tls-auth-clients", "yes"];
    assert_eq!(control.cmd(&words), Value::ok());
    assert_eq!(papers.ping(tls, STRANGER), "PONG");
    assert_ne!(papers.ping(tls, SHOWN), "PONG");
}

#[test]
fn versions_and_suites_are_those_configured() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).start();
    let mut control = server.client();
    let speaks = |options: &str| {
        let mut tunnel = Tunnel::open(&papers, port.number, options);
        let _ = tunnel.input.write_all(b"PING\r\nQUIT\r\n");
        tunnel.rest() == b"+PONG\r\n+OK\r\n"
    };
    assert!(speaks("-tls1_2") && speaks("-tls1_3"));
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-protocols", "TLSv1.3"]), Value::ok());
    assert!(!speaks("-tls1_2") && speaks("-tls1_3"));
    let suite = "TLS_CHACHA20_POLY1305_SHA256";
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-ciphersuites", suite]), Value::ok());
    assert!(speaks(&format!("-ciphersuites {suite}")) && !speaks("-ciphersuites TLS_AES_128_GCM_SHA256"));
    let refused = control.cmd(&["CONFIG", "SET", "tls-ciphers", "RC4-SHA"]);
    let text = "ERR CONFIG SET failed (possibly related to argument 'tls-ciphers') - Unable to update TLS configuration. \
                Check server logs.";
    assert_eq!(refused.text().as_deref(), Some(text));
    assert!(server.log().contains("tls-ciphers: 'RC4-SHA' is not supported"));
    assert!(control.cmd(&["CONFIG", "SET", "tls-protocols", "SSLv3"]).is_error());
    assert!(speaks(&format!("-ciphersuites {suite}")), "what was refused has changed nothing");
}

#[test]
fn files_are_read_again_without_a_restart_and_bad_ones_change_nothing() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).config("tls-auth-clients no\n").start();
    let mut control = server.client();
    let subject = || {
        let line = format!("s_client -connect 127.0.0.1:{} -CAfile ca.crt", port.number);
        let mut command = Command::new("openssl");
        command.args(line.split_whitespace()).current_dir(papers.0.path()).stdin(Stdio::null());
        let output = command.output().expect("openssl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_default().replace(' ', "")
    };
    assert_eq!(subject(), "CN=server");
    // The same name, another content: by CONFIG SET, by SIGHUP.
    papers.issue("server", "ca", "second");
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-cert-file", &papers.path("server.crt")]), Value::ok());
    assert_eq!(subject(), "CN=second");
    papers.issue("server", "ca", "third");
    server.signal("HUP");
    until("the third certificate", || subject() == "CN=third");
    // Now and then by itself.
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-auto-reload-interval", "1"]), Value::ok());
    papers.issue("server", "ca", "timed");
    until("the certificate to be read by itself", || subject() == "CN=timed");
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-auto-reload-interval", "0"]), Value::ok());
    // A key that does not belong to it, a file that is none, one that is not there.
    fs::copy(papers.path("client.key"), papers.path("server.key")).unwrap();
    assert!(control.cmd(&["CONFIG", "SET", "tls-key-file", &papers.path("server.key")]).is_error());
    server.signal("HUP");
    until("the reason", || server.log().contains("TLS stays as it was: "));
    assert!(control.cmd(&["CONFIG", "SET", "tls-cert-file", &papers.path("extensions")]).is_error());
    assert!(control.cmd(&["CONFIG", "SET", "tls-cert-file", "/nowhere"]).is_error());
    assert_eq!((subject(), server.log().contains("no pair")), ("CN=timed".to_owned(), true));
    let get = control.cmd(&["CONFIG", "GET", "tls-cert-file"]);
    assert_eq!(get.items()[1].text(), Some(papers.path("server.crt")));
    assert_eq!(control.cmd(&["CONFIG", "REWRITE"]), Value::ok());
    // Another port, and none.
    let other = Port::reserve();
    papers.issue("server", "ca", "fourth");
    let words = ["CONFIG", "SET", "tls-key-file", &papers.path("server.key"), "tls-port", &other.number.to_string()];
    assert_eq!(control.cmd(&words), Value::ok());
    assert_eq!(papers.ping(other.number, ""), "PONG");
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-port", "0"]), Value::ok());
    assert!(TcpStream::connect(("127.0.0.1", other.number)).is_err());
    assert_eq!(control.cmd(&["PING"]), Value::simple("PONG"), "connections stay");
}

/// What `openssl s_client` says of a handshake.
fn handshake(papers: &Papers, port: u16, options: &str) -> String {
    let line = format!("s_client -connect 127.0.0.1:{port} -CAfile ca.crt {options}");
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(papers.0.path()).stdin(Stdio::null());
    String::from_utf8_lossy(&command.output().expect("openssl runs").stdout).into_owned()
}

#[test]
fn sessions_are_resumed_as_long_as_configured() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).config("tls-auth-clients no\n").start();
    let mut control = server.client();
    let first = || handshake(&papers, port.number, "-tls1_2 -sess_out session");
    let is_resumed = || handshake(&papers, port.number, "-tls1_2 -sess_in session").contains("\nReused, TLSv1.2");
    assert!(first().contains("\nNew, TLSv1.2") && is_resumed() && is_resumed());
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-session-cache-timeout", "1"]), Value::ok());
    first();
    until("the session to be over", || !is_resumed());
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-session-cache-timeout", "300"]), Value::ok());
    first();
    assert!(is_resumed());
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-session-caching", "no"]), Value::ok());
    first();
    assert!(!is_resumed());
}

#[test]
fn the_order_of_the_suites_is_the_clients_or_the_servers() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).config("tls-auth-clients no\n").start();
    let mut control = server.client();
    let [ours, theirs] = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];
    assert_eq!(control.cmd(&["CONFIG", "SET", "tls-ciphersuites", &format!("{ours}:{theirs}")]), Value::ok());
    for (value, suite) in [("yes", ours), ("no", theirs)] {
        assert_eq!(control.cmd(&["CONFIG", "SET", "tls-prefer-server-ciphers", value]), Value::ok());
        let told = handshake(&papers, port.number, &format!("-tls1_3 -ciphersuites {theirs}:{ours}"));
        assert!(told.contains(&format!("Cipher is {suite}")), "{value}: {told}");
    }
}

#[test]
fn a_server_that_cannot_offer_tls_does_not_start_and_says_why() {
    let papers = Papers::new();
    papers.openssl("pkcs8 -topk8 -in server.key -out locked.key -passout pass:x");
    let fails = |args: &[(&str, &str)], reason: &str| {
        let port = Port::reserve();
        let args = args.iter().flat_map(|(name, file)| [(*name).to_owned(), papers.path(file)]);
        let builder = Server::cenote().args(["--tls-port", &port.number.to_string()]).args(args);
        let (status, log) = builder.start_and_fail();
        assert!(!status.success() && log.contains(reason), "{reason}: {log}");
    };
    let (cert, key) = (("--tls-cert-file", "server.crt"), ("--tls-key-file", "server.key"));
    fails(&[], "TLS cannot be offered: tls-cert-file is not set");
    fails(&[cert], "tls-key-file is not set");
    fails(&[cert, key], "tls-auth-clients asks for certificates: set tls-ca-cert-file");
    fails(&[cert, ("--tls-key-file", "nowhere.key")], "nowhere.key': No such file or directory");
    fails(&[cert, ("--tls-key-file", "client.key"), ("--tls-ca-cert-file", "ca.crt")], "are no pair");
    fails(&[cert, ("--tls-key-file", "locked.key")], "is encrypted: tls-key-file-pass is not supported");
}

#[test]
fn a_server_may_speak_tls_alone() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let socket = TempDir::new("tls-alone");
    let path = socket.path().join("s").display().to_string();
    let server = papers.server(&port).args(["--port", "0", "--unixsocket", &path, "--tls-auth-clients", "no"]);
    let _server = server.start_unanswered(|| papers.ping(port.number, "") == "PONG");
    let (_, info) = papers.cli(port.number, "", &["INFO", "server"]);
    assert!(info.contains(&format!("tcp_port:{}", port.number)), "{info}");
}

/// Whoever connects and says nothing, or nothing sensible, is closed; others do not notice.
#[test]
fn those_who_do_not_speak_tls_are_closed() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).args(["--loglevel", "debug"]).start();
    let mut plain = TcpStream::connect(("127.0.0.1", port.number)).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"), "{}", answer.escape_ascii());
    until("the reason", || server.log().contains("was not secured"));
    // One that says nothing, and one that sends a byte now and then.
    let mut silent = TcpStream::connect(("127.0.0.1", port.number)).unwrap();
    let mut slow = TcpStream::connect(("127.0.0.1", port.number)).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00];
    let started = Instant::now();
    for turn in 0.. {
        assert!(started.elapsed() < PATIENCE, "it is still there");
        if slow.write_all(&[hello.get(turn).copied().unwrap_or(1)]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert!(silent.read_to_end(&mut Vec::new()).is_ok(), "it is closed as well");
    assert_eq!(papers.ping(port.number, SHOWN), "PONG");
    let mut control = server.client();
    until("only one is left", || control.cmd(&["CLIENT", "LIST"]).text().unwrap_or_default().lines().count() == 1);
}

#[test]
fn pipelines_and_large_values_go_through() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let _server = papers.server(&port).start();
    let mut tunnel = Tunnel::open(&papers, port.number, "");
    let value = vec![b'v'; 5_000_000];
    let set = [format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    tunnel.send(&set);
    tunnel.expect(b"+OK\r\n");
    tunnel.send(b"STRLEN big\r\n");
    tunnel.expect(b":5000000\r\n");
    tunnel.send(&b"GET big\r\n".repeat(3));
    let reply = [b"$5000000\r\n".as_slice(), &value, b"\r\n"].concat();
    (0..3).for_each(|_| tunnel.expect(&reply));
    // Sent and read at once: neither side waits for the other.
    let (rounds, one) =
        (50_000, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20\r\nvvvvvvvvvvvvvvvvvvvv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    let input = tunnel.input.by_ref();
    thread::scope(|scope| {
        scope.spawn(move || input.write_all(&one.repeat(rounds)).expect("the tunnel takes it"));
        let wanted = b"+OK\r\n$20\r\nvvvvvvvvvvvvvvvvvvvv\r\n".repeat(rounds);
        let mut got = vec![0; wanted.len()];
        tunnel.output.read_exact(&mut got).expect("the answers come");
        assert!(got == wanted);
    });
    // The last replies come before the end, and the end is announced.
    tunnel.input.write_all(&[b"GET big\r\n".as_slice(), b"QUIT\r\n"].concat()).unwrap();
    assert!(tunnel.rest() == [reply.as_slice(), b"+OK\r\n"].concat());
}

#[test]
fn messages_and_waits_go_through() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).start();
    let mut plain = server.client();
    let (mut listens, mut waits) = (Tunnel::open(&papers, port.number, ""), Tunnel::open(&papers, port.number, ""));
    listens.send(b"SUBSCRIBE c\r\n");
    listens.expect(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    let text = "x".repeat(100_000);
    for _ in 0..20 {
        assert_eq!(plain.cmd(&["PUBLISH", "c", &text]), Value::Int(1));
    }
    let message = format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$100000\r\n{text}\r\n");
    (0..20).for_each(|_| listens.expect(message.as_bytes()));
    waits.send(b"BLPOP l 0\r\n");
    until("it waits", || plain.cmd(&["CLIENT", "LIST"]).text().unwrap_or_default().contains("cmd=blpop"));
    plain.cmd(&["RPUSH", "l", "x"]);
    waits.expect(b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    waits.send(b"CLIENT TRACKING ON BCAST REDIRECT 0\r\nHELLO 3\r\n");
    waits.send(b"BLPOP l 0\r\n");
    until("it waits", || plain.cmd(&["CLIENT", "LIST"]).text().unwrap_or_default().contains("resp=3"));
    plain.cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(!waits.rest().is_empty());
    drop(listens.input);
    let _ = listens.child.kill();
}

#[test]
fn redis_py_works_unchanged() {
    let (papers, port) = (Papers::new(), Port::reserve());
    let server = papers.server(&port).args(["--requirepass", "secret"]).start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/redis_py_tls.py");
    let files = [("AUTHORITY", "ca.crt"), ("CERTIFICATE", "client.crt"), ("KEY", "client.key")];
    let mut words: Vec<String> = files.iter().map(|(name, file)| format!("TLS_{name}={}", papers.path(file))).collect();
    words.push(format!("REDIS_TLS_PORT={}", port.number));
    words.push(format!("REDIS_CLI={}", tool("REDIS_CLI").display()));
    words.extend(["REDIS_HOST=127.0.0.1", "REDIS_PORT=0", "REDIS_URL=", "REDIS_PASSWORD=secret"].map(String::from));
    words.push(tool("PYTHON").display().to_string());
    let args: Vec<&str> = words.iter().map(String::as_str).chain(["-W", "error", script]).collect();
    let finished = run(Path::new("env"), &args, b"", LIMIT);
    assert_eq!((finished.code, finished.out.as_str(), finished.err.as_str()), (Some(0), "ok\n", ""));
    drop(server);
}
