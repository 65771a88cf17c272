//! A Postgres with tables, and a server with routes to them. Queries of the route `gated:{id}` can be held up for as
//! long as a test wants, so that no test has to guess how long something takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use crate::support::until;
use crate::support::{Client, Postgres, Server, Session, TempDir, Value, cenote_program};

/// Users 1 to 99, the first four by name, and what the other routes read.
const SCHEMA: &str = "
    CREATE TABLE users (id int PRIMARY KEY, name text, email text);
    INSERT INTO users VALUES (1, 'Ann', 'ann@example.com'), (2, 'Bob', NULL), (3, NULL, NULL), (4, 'Zoë \"Z\"', '');
    INSERT INTO users SELECT id, 'user ' || id, NULL FROM generate_series(5, 99) id;
    CREATE TABLE texts (key text PRIMARY KEY, value text);
    CREATE TABLE gate (open bool);
    INSERT INTO gate VALUES (true);
";

/// The routes, by what they are good for. Loads have long to go: the machine may be busy.
pub(super) const ROUTES: &str = r#"
    [[route]]
    key = "user:{id}"
    query = "SELECT id, name, email FROM users WHERE id = {id}"
    ttl = "1h"
    negative_ttl = "1h"

    [[route]]
    key = "name:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "90s"

    [[route]]
    key = "text:{key}"
    query = "SELECT value FROM texts WHERE key = {key}"
    as = "string"
    ttl = "1h"
    negative_ttl = "1h"

    [[route]]
    key = "gated:{id}"
    query = "SELECT name FROM users, gate WHERE id = {id}"
    as = "string"
    ttl = "1h"
"#;

/// Both, running.
pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) postgres: Postgres,
    dir: TempDir,
}

impl Rig {
    /// [`ROUTES`], one worker.
    #[track_caller]
    pub(super) fn start() -> Self {
        Self::with("", ROUTES, &["--workers", "1"])
    }

    /// More fields for the source, the routes, arguments for the server.
    #[track_caller]
    pub(super) fn with(source: &str, routes: &str, args: &[&str]) -> Self {
        let postgres = Postgres::start();
        postgres.sql(SCHEMA);
        let url = postgres.url();
        Self::over(postgres, &url, source, routes, args)
    }

    /// The same over a Postgres as it stands, which may be down, and the URL to reach it.
    #[track_caller]
    pub(super) fn over(postgres: Postgres, url: &str, source: &str, routes: &str, args: &[&str]) -> Self {
        let dir = TempDir::new("routes");
        let file = dir.path().join("routes.toml");
        let timeout = if source.contains("load_timeout") { "" } else { "load_timeout = '20s'" };
        let text = format!("[source.main]\nurl = '{url}'\n{timeout}\n{source}\n{routes}");
        std::fs::write(&file, text).expect("the routes file can be written");
        let file = file.display().to_string();
        let server = Server::cenote().args(["--routes", &file]).args(args.iter().copied()).start();
        Self { server, postgres, dir }
    }

    #[track_caller]
    pub(super) fn client(&self) -> Client {
        self.server.client()
    }

    /// The routes file.
    pub(super) fn routes_file(&self) -> PathBuf {
        self.dir.path().join("routes.toml")
    }

    /// Runs `cenote setup --apply`, so that the database tells its changes.
    #[track_caller]
    pub(super) fn set_up(&self) {
        let output = Command::new(cenote_program()).arg("setup").arg(self.routes_file()).arg("--apply").output();
        let output = output.expect("cenote setup runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// What INFO's section shows.
    #[track_caller]
    pub(super) fn figures(&self) -> Figures {
        Figures::read(&mut self.client(), "readthrough")
    }

    /// Queries sent so far.
    #[track_caller]
    pub(super) fn queries(&self) -> i64 {
        self.figures().get("source_main.queries")
    }

    /// Waits until so many clients wait for a load.
    #[track_caller]
    pub(super) fn wait_for_waiting(&self, clients: i64) {
        let mut client = self.client();
        until("clients that wait", || Figures::read(&mut client, "clients").get("blocked_clients") == clients);
    }

    /// Waits until so many loads are under way.
    #[track_caller]
    pub(super) fn wait_for_loads(&self, loads: i64) {
        let mut client = self.client();
        until("loads under way", || Figures::read(&mut client, "readthrough").get("readthrough_loading") == loads);
    }

    /// From now on, queries of `gated:{id}` wait.
    #[track_caller]
    pub(super) fn shut_gate(&self) -> Gate {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // By its name: an earlier gate's session may hold its lock for a moment after the gate was opened.
        let name = format!("gate {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut session = self.postgres.session("postgres", &name);
        session.send("BEGIN; LOCK TABLE gate;");
        let shut = format!(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = '{name}' AND \
             relation = 'gate'::regclass AND granted AND mode = 'AccessExclusiveLock'"
        );
        until("the gate", || self.postgres.sql(&shut) == "1");
        Gate(session)
    }
}

/// Holds up queries until it is opened, or dropped.
pub(super) struct Gate(#[allow(dead_code, reason = "held for its lock")] Session);

impl Gate {
    pub(super) fn open(self) {
        drop(self);
    }
}

/// A section of INFO: a field by its name, or a figure of one as `field.figure`.
pub(super) struct Figures(BTreeMap<String, String>);

impl Figures {
    #[track_caller]
    pub(super) fn read(client: &mut Client, section: &str) -> Self {
        let text = client.cmd(&["INFO", section]).text().expect("INFO is text");
        let mut figures = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            for (figure, count) in value.split(',').filter_map(|part| part.split_once('=')) {
                figures.insert(format!("{name}.{figure}"), count.to_owned());
            }
            figures.insert(name.to_owned(), value.to_owned());
        }
        Self(figures)
    }

    #[track_caller]
    pub(super) fn text(&self, name: &str) -> String {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0)).clone()
    }

    #[track_caller]
    pub(super) fn get(&self, name: &str) -> i64 {
        let figure = self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0));
        figure.parse().unwrap_or_else(|_| panic!("{name} is {figure}"))
    }
}

/// Runs these as a transaction.
#[track_caller]
pub(super) fn exec(client: &mut Client, lines: &[&str]) -> Value {
    assert_eq!(run(client, "MULTI"), Value::ok());
    lines.iter().for_each(|line| assert_eq!(run(client, line), Value::simple("QUEUED"), "{line}"));
    run(client, "EXEC")
}

/// Arguments separated by blanks.
#[track_caller]
pub(super) fn run(client: &mut Client, line: &str) -> Value {
    client.cmd(&words(line))
}

pub(super) fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// The text of an error reply.
#[track_caller]
pub(super) fn error(value: Value) -> String {
    match value {
        Value::Error(text) => text,
        other => panic!("expected an error, got {other:?}"),
    }
}
