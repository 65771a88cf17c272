//! A server process on a port of its own, Cenote and real servers alike: started, waited for, killed on drop.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, Oracle, PATIENCE, TempDir, oracle_program, process};

/// How often an unanswered question is asked again.
const POLL: Duration = Duration::from_millis(2);

/// The program under test: Cenote, or what `CENOTE_UNDER_TEST` names. Pointing that at a real server tests the tests.
pub(crate) fn cenote_program() -> PathBuf {
    std::env::var_os("CENOTE_UNDER_TEST").map_or_else(|| env!("CARGO_BIN_EXE_cenote").into(), PathBuf::from)
}

/// What to start, and how.
#[derive(Clone)]
pub(crate) struct ServerBuilder {
    name: &'static str,
    program: PathBuf,
    config: Option<String>,
    args: Vec<String>,
    envs: Vec<(String, String)>,
}

impl ServerBuilder {
    /// Arguments as on the command line, after those that every server here gets.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The text of a configuration file to be given as first argument.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it answers; panics with its log where it does not.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let mut last = String::new();
        for _ in 0..5 {
            match self.try_start() {
                Ok(server) => return server,
                Err(log) if log.to_lowercase().contains("in use") => last = log,
                Err(log) => panic!("{} did not start:\n{log}", self.name),
            }
        }
        panic!("{} found no free port:\n{last}", self.name);
    }

    /// Starts a server that cannot be asked in the usual way, and waits until `is_up`.
    #[track_caller]
    pub(crate) fn start_unanswered(self, is_up: impl Fn() -> bool) -> Server {
        let mut server = self.spawn(Port::reserve());
        let deadline = Instant::now() + PATIENCE;
        while !is_up() {
            assert!(server.is_running() && Instant::now() < deadline, "it does not come up:\n{}", server.log());
            thread::sleep(POLL);
        }
        server
    }

    /// Starts the server expecting it to give up by itself; its exit status and all it printed.
    #[track_caller]
    pub(crate) fn start_and_fail(self) -> (ExitStatus, String) {
        let port = Port::reserve();
        let mut server = self.spawn(port);
        let status = server.wait_for_exit();
        (status, server.log())
    }

    fn try_start(&self) -> Result<Server, String> {
        let mut server = self.spawn(Port::reserve());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("(exited: {status})\n{}", server.log()));
            }
            if server.answers() {
                return Ok(server);
            }
            if Instant::now() > deadline {
                return Err(format!("(no answer to PING)\n{}", server.log()));
            }
            thread::sleep(POLL);
        }
    }

    fn spawn(&self, port: Port) -> Server {
        let dir = TempDir::new(self.name);
        let log = dir.path().join("server.log");
        let output = File::create(&log).expect("the server's log can be made");
        let errors = output.try_clone().expect("the server's log can be shared");
        let mut command = Command::new(&self.program);
        if let Some(text) = &self.config {
            let file = dir.path().join("server.conf");
            fs::write(&file, text).expect("the configuration can be written");
            command.arg(file);
        }
        command.args(["--port", &port.number.to_string(), "--bind", "127.0.0.1", "--save", ""]).args(&self.args);
        command.envs(self.envs.iter().map(|(name, value)| (name, value))).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", self.program.display()));
        Server { name: self.name, child, port, dir, log }
    }
}

/// A running server. Killed on drop; its folder goes with it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    child: Child,
    port: Port,
    dir: TempDir,
    log: PathBuf,
}

impl Server {
    /// The program under test.
    pub(crate) fn cenote() -> ServerBuilder {
        Self::of("cenote", cenote_program())
    }

    pub(crate) fn oracle(oracle: Oracle) -> ServerBuilder {
        Self::of(oracle.name(), oracle_program(oracle))
    }

    fn of(name: &'static str, program: PathBuf) -> ServerBuilder {
        ServerBuilder { name, program, config: None, args: Vec::new(), envs: Vec::new() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder the server runs in.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port.number)
    }

    /// All that the server has printed.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map_or_else(|e| e.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        assert!(process::signal(self.pid(), name), "cannot send {name} to {}", self.pid());
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended; panics where it does not end in time.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the server is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end:\n{}", self.name, self.log());
            thread::sleep(POLL);
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut client) = Client::try_connect(self.port.number) else {
            return false;
        };
        client.set_patience(Duration::from_secs(1));
        client.try_cmd(&["PING"]).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() && self.name == "cenote" {
            eprintln!("cenote's log:\n{}", self.log());
        }
    }
}

/// A TCP port that no other test takes. Tests are processes of their own, so the reservation must be one that they
/// all see: the UDP port of the same number, held as long as this lives. Below the range of outgoing connections.
pub(crate) struct Port {
    pub(crate) number: u16,
    _reservation: UdpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        const FIRST: u16 = 20_000;
        const COUNT: u16 = 12_000;
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + step) % COUNT;
            if let Ok(reservation) = UdpSocket::bind(("127.0.0.1", number))
                && TcpListener::bind(("127.0.0.1", number)).is_ok()
            {
                return Self { number, _reservation: reservation };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }
}
