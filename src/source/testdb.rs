//! For this room's tests: a throwaway Postgres on a Unix socket in a temporary folder, started by the first test of
//! the process that asks, and gone when the process ends, however it ends.

#[allow(dead_code)]
#[path = "../../tests/support/process.rs"]
mod process;

use super::{Answer, Config, LoadResult, Sources, Wish};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tokio::sync::oneshot;

/// A running server. Dropping it stops it and removes its folder.
pub(super) struct Server {
    folder: PathBuf,
    bin: PathBuf,
    /// Waits for the end of this process, then cleans up.
    _watch: Child,
}

/// The folder of Postgres's programs: from the environment, or as `scripts/oracles` noted it. (Debian's `pg_config` knows
/// it only where packages for developers are installed.)
fn bin() -> PathBuf {
    let noted = || {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracles/env");
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("PG_BIN=")).map(PathBuf::from)
    };
    std::env::var_os("PG_BIN").map(PathBuf::from).or_else(noted).expect("PG_BIN is not known: run scripts/oracles")
}

/// Runs a program as a user that Postgres accepts: it refuses root.
fn unprivileged(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id -u");
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    command
}

fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// Starts a server of its own, for a test that stops it.
    pub(super) fn start() -> Server {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let bin = bin();
        let folder = std::env::temp_dir().join(format!("cenote-db-{}-{number}", std::process::id()));
        let mut make = unprivileged(Path::new("mkdir"));
        make.arg(&folder);
        run(make);
        let script = "cat >/dev/null; \"$1/pg_ctl\" -D \"$2/data\" -m immediate stop >/dev/null 2>&1; rm -rf \"$2\"";
        let mut watch = unprivileged(Path::new("sh"));
        watch.args(["-c", script, "sh"]).arg(&bin).arg(&folder).stdin(Stdio::piped());
        watch.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { _watch: watch.spawn().expect("sh"), folder, bin };
        let mut initdb = unprivileged(&server.bin.join("initdb"));
        initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "app", "-D"]);
        initdb.arg(server.folder.join("data"));
        run(initdb);
        server.control(&["-w", "start"]);
        server
    }

    /// Runs `pg_ctl`, as `["-m", "fast", "stop"]`.
    pub(super) fn control(&self, args: &[&str]) {
        let mut command = unprivileged(&self.bin.join("pg_ctl"));
        let options = format!("-k {} -c listen_addresses= -c fsync=off -c wal_level=logical", self.folder.display());
        command.arg("-D").arg(self.folder.join("data")).args(["-l", "/dev/null", "-o", &options]).args(args);
        run(command);
    }

    /// Stops the server and its sessions where they stand.
    pub(super) fn freeze(&self) {
        process::freeze(self.postmaster());
    }

    /// Undoes [`Server::freeze`].
    pub(super) fn thaw(&self) {
        process::thaw(self.postmaster());
    }

    fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|line| line.trim().parse().ok()).expect("its process")
    }

    /// Puts a line at the head of `pg_hba.conf` and has it read.
    pub(super) fn require(&self, hba: &str) {
        let path = self.folder.join("data/pg_hba.conf");
        let rest = std::fs::read_to_string(&path).expect("readable");
        std::fs::write(&path, format!("{hba}\n{rest}")).expect("writable");
        self.control(&["reload"]);
    }

    /// A folder for a test's own files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("host={} user=app dbname=postgres", self.folder.display())
    }

    /// Runs SQL with psql; returns the rows as text.
    pub(super) fn sql(&self, sql: &str) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql]);
        let output = command.output().expect("psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Sources for routes whose file has no sources of its own. Loads have long to go: the machine may be busy.
    pub(super) fn sources(&self, routes: &str) -> Sources {
        self.sources_with("", routes)
    }

    /// As [`Server::sources`], with more fields for the source.
    pub(super) fn sources_with(&self, fields: &str, routes: &str) -> Sources {
        let text = format!("[source.main]\nurl = \"{}\"\nload_timeout = \"30s\"\n{fields}\n{routes}", self.url());
        let config = Config::parse("routes.toml", &text, None).unwrap_or_else(|faults| panic!("{faults:?}"));
        Sources::open(&config).unwrap()
    }
}

/// The server that tests share. Each makes tables under names of its own.
pub(super) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// Begins to load a key that some route matches.
pub(super) fn ask(sources: &Sources, key: &str) -> oneshot::Receiver<Answer> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let (route, captures) = sources.find(0, &key).expect("a route matches");
    let (sender, receiver) = oneshot::channel();
    sources.load(route, captures.params(key.clone()), Box::new(Asked(sender)));
    receiver
}

/// Loads a key that some route matches.
pub(super) async fn load(sources: &Sources, key: &str) -> LoadResult {
    ask(sources, key).await.expect("the wish is granted").result
}

/// A wish for one key.
struct Asked(oneshot::Sender<Answer>);

impl Wish for Asked {
    fn grant(self: Box<Self>, answer: Answer) {
        let _ = self.0.send(answer);
    }

    fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }

    fn is_refresh(&self) -> bool {
        false
    }

    fn give_up(&self) -> bool {
        self.0.is_closed()
    }
}

/// The value of a key, as text; `None` where it is absent.
pub(super) async fn value(sources: &Sources, key: &str) -> Option<String> {
    match load(sources, key).await.unwrap_or_else(|error| panic!("{key}: {error}")) {
        super::Loaded::Value(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        super::Loaded::Absent => None,
        super::Loaded::Many(elements) => panic!("{key}: {elements:?}"),
    }
}
