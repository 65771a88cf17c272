//! A real Postgres for one test: its own cluster in a temporary folder, on a port and a socket of its own.
//! Knows nothing of Cenote. Postgres refuses to run as root, so root starts it as `postgres` or `nobody`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::Port;
use super::{PATIENCE, TempDir, process, tool};

/// A private Postgres with user and database `postgres`, trust authentication, `wal_level=logical`, nothing fsynced.
pub(crate) struct Postgres {
    dir: TempDir,
    port: Port,
    /// Parameters beyond the usual ones.
    settings: Vec<String>,
    owner: Option<&'static str>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts it. Takes about a second.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let mut postgres =
            Self { dir: TempDir::new("pg"), port: Port::reserve(), settings: Vec::new(), owner: owner(), server: None };
        if let Some(owner) = postgres.owner {
            run(Command::new("chown").arg(owner).arg(postgres.dir.path()));
        }
        let mut initdb = postgres.as_owner(&bin("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
        run(initdb.arg(postgres.data()));
        postgres.restart();
        postgres
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    /// The folder of the server's Unix socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// `postgres://…` over TCP.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port.number)
    }

    /// Runs SQL and returns what psql prints without headers: a line a row, `|` between columns.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As `sql`; `Err` is what psql says.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(bin("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-c", sql]);
        psql.arg("-h").arg(self.dir.path()).arg("-p").arg(self.port.number.to_string());
        let output = psql.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    /// A session of `user` that stays, under the name `application`.
    #[track_caller]
    pub(crate) fn session(&self, user: &str, application: &str) -> Session {
        let mut psql = Command::new(bin("psql"));
        psql.args(["-X", "-q", "-U", user, "-d", "postgres", "-p", &self.port.number.to_string(), "-h"]);
        psql.arg(self.dir.path()).env("PGAPPNAME", application);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Session(psql.spawn().expect("psql starts"))
    }

    /// Sets parameters for good, without a restart, and the lines of `pg_hba.conf` behind those for the Unix socket.
    #[track_caller]
    pub(crate) fn configure(&self, settings: &[(&str, &str)], hba: &[&str]) {
        for (name, value) in settings {
            self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        }
        let file = self.sql("SHOW hba_file");
        let lines: Vec<String> = ["local all all trust"].iter().chain(hba).map(|line| format!("('{line}')")).collect();
        self.sql(&format!("COPY (VALUES {}) TO '{file}'", lines.join(", ")));
        self.sql("SELECT pg_reload_conf()");
        let is_set = || settings.iter().all(|(name, value)| self.sql(&format!("SHOW {name}")) == *value);
        let deadline = Instant::now() + PATIENCE;
        // Shown by a session that began after the new lines were read.
        while !is_set() || self.sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") != "0" {
            assert!(Instant::now() < deadline, "the settings are not taken:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes a file that only the server may read.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let lines = format!("SELECT unnest(string_to_array($text${}$text$, chr(10)))", text.trim_end());
        self.sql(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {}'", path.display()));
        path
    }

    /// Kills every process of the server at once, as a crash does. Connections break; the port is free.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // A process left over would keep the data from a successor, and answer on a connection it has.
            process::kill_all(server.id());
            let _ = server.wait();
        }
    }

    /// Stops in order: open connections are ended, nothing is lost.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        process::signal(server.id(), "INT");
        let deadline = Instant::now() + PATIENCE;
        while matches!(server.try_wait(), Ok(None)) {
            assert!(Instant::now() < deadline, "Postgres did not stop:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts the server (after `kill` or `stop`, or in place of the running one) on the same port, with the same data.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let errors = log.try_clone().expect("the log can be shared");
        let port = self.port.number.to_string();
        let socket_dir = format!("unix_socket_directories={}", self.dir.path().display());
        let mut command = self.as_owner(&bin("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", &socket_dir]);
        for setting in ["fsync=off", "wal_level=logical", "max_connections=200", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        self.settings.iter().for_each(|setting| _ = command.args(["-c", setting]));
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("postgres starts");
        self.server = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while self.try_sql("SELECT 1").is_err() {
            let running = self.server.as_mut().is_some_and(|s| matches!(s.try_wait(), Ok(None)));
            assert!(running && Instant::now() < deadline, "Postgres did not start:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// As `restart`, from now on with these parameters, as `max_connections=10`.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(ToString::to_string).collect();
        self.restart();
    }

    /// Stops every process of the server where it stands: connections stay open and nothing answers.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        process::freeze(self.postmaster());
    }

    /// Undoes `freeze`.
    #[track_caller]
    pub(crate) fn thaw(&self) {
        process::thaw(self.postmaster());
    }

    /// Stops the process of one session where it stands; it stays so.
    #[track_caller]
    pub(crate) fn stop_session(&self, pid: u32) {
        assert!(process::signal(pid, "STOP"), "there is no session {pid}");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The postmaster's process: `setpriv`, too, becomes what it starts.
    #[track_caller]
    fn postmaster(&self) -> u32 {
        self.server.as_ref().expect("Postgres runs").id()
    }

    /// A program, run as the cluster's owner, who is not root, in a folder that the owner may enter.
    pub(crate) fn as_owner(&self, program: &Path) -> Command {
        let mut command = match self.owner {
            None => Command::new(program),
            Some(owner) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", owner, "--regid", &group_of(owner), "--clear-groups", "--"]).arg(program);
                command
            }
        };
        command.current_dir(self.dir.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is sent runs one after the other, and holds its locks, until this is dropped.
pub(crate) struct Session(Child);

impl Session {
    /// Sends SQL, and waits for nothing.
    #[track_caller]
    pub(crate) fn send(&mut self, sql: &str) {
        let stdin = self.0.stdin.as_mut().expect("psql's input is ours");
        stdin.write_all(format!("{sql}\n").as_bytes()).expect("psql reads");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn bin(program: &str) -> PathBuf {
    tool("PG_BIN").join(program)
}

/// Who must own the cluster, where this process is root: Debian's `postgres` user, or `nobody`.
fn owner() -> Option<&'static str> {
    if id(&["-u"]) != "0" {
        return None;
    }
    Some(if id(&["-u", "postgres"]).is_empty() { "nobody" } else { "postgres" })
}

fn group_of(user: &str) -> String {
    id(&["-g", user])
}

fn id(args: &[&str]) -> String {
    let output = Command::new("id").args(args).output().expect("the program `id` runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn postgres_survives_being_killed_stopped_and_frozen() {
    let mut postgres = Postgres::start();
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'one'), (2, NULL)");
    postgres.kill();
    assert!(postgres.try_sql("SELECT 1").is_err());
    postgres.restart();
    postgres.stop();
    assert!(postgres.try_sql("SELECT 1").is_err());
    postgres.restart();
    postgres.freeze();
    postgres.thaw();
    assert_eq!(postgres.sql("SELECT * FROM t ORDER BY id"), "1|one\n2|");
    assert!(postgres.try_sql("SELECT nothing").unwrap_err().contains("does not exist"));
}
