//! Feeds against a real Postgres: every change of a row reaches the sink as its key, by the log and by triggers.

use super::super::routes::Config;
use super::super::testdb::{Server, server};
use super::{Feed, FeedState, Sink, run_setup};
use crate::source::{Route, Sources};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes what it is told: keys as they are, a stale route as its name with `*`.
#[derive(Default)]
struct Notes(Mutex<Vec<(String, Option<u32>)>>);

impl Sink for Notes {
    fn key(&self, _: &Route, key: &[u8], xid: Option<u32>) -> u64 {
        self.0.lock().push((String::from_utf8_lossy(key).into_owned(), xid));
        1
    }

    fn route(&self, route: &Route, xid: Option<u32>) {
        self.0.lock().push((format!("{}*", route.name), xid));
    }
}

struct Rig {
    server: &'static Server,
    feed: Arc<Feed>,
    notes: Arc<Notes>,
    task: JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rig {
    /// Sets a database up for the routes and follows it. `name` keeps tests apart.
    async fn start(mode: &str, name: &str, routes: &str) -> Rig {
        let server = server();
        let text = format!(
            "[source.main]\nurl = \"{}\"\ninvalidate = \"{mode}\"\n{}\n{routes}",
            server.url(),
            if mode == "wal" { format!("publication = \"{name}\"") } else { String::new() }
        );
        let path = std::env::temp_dir().join(format!("cenote-feed-{name}-{mode}-{}.toml", std::process::id()));
        std::fs::write(&path, &text).unwrap();
        let (file, mut out) = (path.clone(), Vec::new());
        let (code, out) =
            tokio::task::spawn_blocking(move || (run_setup(&file, None, true, &mut out), out)).await.unwrap();
        let out = String::from_utf8_lossy(&out).into_owned();
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS), "{out}");
        std::fs::remove_file(&path).unwrap();
        let config = Config::parse("routes.toml", &text, None).unwrap();
        let sources = Sources::open(&config).unwrap();
        let (feed, notes) = (Arc::clone(&sources.feeds()[0]), Arc::new(Notes::default()));
        let task = tokio::spawn(Arc::clone(&feed).run(Arc::clone(&notes) as Arc<dyn Sink>));
        let rig = Rig { server, feed, notes, task };
        rig.until("in step", || rig.feed.snapshot(0).state == FeedState::InStep).await;
        rig.take();
        rig
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "not {what}: {:?} {:?}", self.feed.snapshot(0), self.notes.0.lock());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn take(&self) -> Vec<(String, Option<u32>)> {
        std::mem::take(&mut *self.notes.0.lock())
    }

    /// Runs SQL; what was told of it, sorted, each once. The last thing told is a mark of our own.
    async fn tells(&self, sql: &str, mark: &str) -> Vec<String> {
        self.take();
        self.sql(sql).await;
        self.sql(mark).await;
        self.until("the mark is told", || self.notes.0.lock().iter().any(|(key, _)| key == "mark:1")).await;
        let mut told: Vec<String> = self.take().into_iter().map(|(key, _)| key).filter(|key| key != "mark:1").collect();
        told.sort();
        told.dedup();
        told
    }

    async fn sql(&self, sql: &str) -> String {
        let (server, sql) = (self.server, sql.to_owned());
        tokio::task::spawn_blocking(move || server.sql(&sql)).await.unwrap()
    }
}

fn routes(name: &str) -> String {
    let route = |key: &str, query: &str, more: &str| {
        format!("[[route]]\nkey = \"{key}\"\nquery = \"{query}\"\nttl = \"1h\"\n{more}\n")
    };
    [
        route("mark:{id}", &format!("SELECT id FROM {name}.marks WHERE id = {{id}}"), ""),
        route("user:{id}", &format!("SELECT id, name FROM {name}.users WHERE id = {{id}}"), ""),
        route("mail:{m}", &format!("SELECT id FROM {name}.users WHERE mail = {{m}}"), ""),
        route(
            "orders:{id}",
            &format!("SELECT o.id FROM {name}.users u JOIN {name}.orders o ON o.user_id = u.id WHERE u.id = {{id}}"),
            &format!("depends = [\"{name}.users(id -> id)\", \"{name}.orders(user_id -> id)\"]"),
        ),
        route(
            "price:{p}:{f}:{d:*}",
            &format!("SELECT p FROM {name}.prices WHERE p = {{p}} AND d = {{d}} AND f = {{f}}"),
            "",
        ),
        route(
            "all:{x}",
            &format!("SELECT {{x}}::text || max(v) AS v FROM {name}.settings"),
            &format!("depends = [\"{name}.settings\"]"),
        ),
        route("part:{id}", &format!("SELECT id FROM {name}.parts WHERE id = {{id}}"), ""),
    ]
    .concat()
}

fn schema(name: &str) -> String {
    format!(
        "CREATE SCHEMA {name};
         CREATE TABLE {name}.marks (id int PRIMARY KEY, n int);
         CREATE TABLE {name}.users (id int PRIMARY KEY, name text, mail text NOT NULL UNIQUE);
         CREATE TABLE {name}.orders (id int PRIMARY KEY, user_id int, what text);
         CREATE TABLE {name}.prices (p numeric(8,2), d timestamptz, f bool, PRIMARY KEY (p, d, f));
         CREATE TABLE {name}.settings (k text PRIMARY KEY, v text);
         CREATE TABLE {name}.parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE {name}.parts_1 PARTITION OF {name}.parts FOR VALUES FROM (0) TO (100);
         INSERT INTO {name}.marks VALUES (1, 0);
         INSERT INTO {name}.users VALUES (1, 'Ann', 'ann@x'), (2, 'Bob', 'bob@x');
         INSERT INTO {name}.orders VALUES (10, 1, 'tea'), (11, 2, 'cup');"
    )
}

async fn every_change_is_told(mode: &str) {
    let name = format!("told_{mode}");
    let server = server();
    server.sql(&schema(&name));
    let rig = Rig::start(mode, &name, &routes(&name)).await;
    let mark = format!("UPDATE {name}.marks SET n = n + 1 WHERE id = 1");
    for (sql, expected) in [
        ("INSERT INTO S.users VALUES (3, 'Cid', 'cid@x')", &["mail:cid@x", "orders:3", "user:3"][..]),
        ("UPDATE S.users SET name = 'A' WHERE id = 1", &["mail:ann@x", "orders:1", "user:1"]),
        ("UPDATE S.users SET mail = 'new@x' WHERE id = 1", &["mail:ann@x", "mail:new@x", "orders:1", "user:1"]),
        ("UPDATE S.users SET id = 7 WHERE id = 2", &["mail:bob@x", "orders:2", "orders:7", "user:2", "user:7"]),
        ("DELETE FROM S.users WHERE id = 7", &["mail:bob@x", "orders:7", "user:7"]),
        ("UPDATE S.orders SET user_id = 2 WHERE id = 10", &["orders:1", "orders:2"]),
        ("DELETE FROM S.orders WHERE id = 10", &["orders:2"]),
        ("INSERT INTO S.orders VALUES (12, NULL, 'x')", &[]),
        ("TRUNCATE S.orders", &["orders:{id}*"]),
        (
            "INSERT INTO S.prices VALUES (1.50, '2026-01-02 03:04:05.6+02', true)",
            &["price:1.5:true:2026-01-02 01:04:05.6+00"],
        ),
        ("UPDATE S.settings SET v = 'x'", &[]),
        ("INSERT INTO S.settings VALUES ('a', 'b')", &["all:{x}*"]),
        ("INSERT INTO S.parts VALUES (5, 'x')", &["part:5"]),
        ("UPDATE S.parts SET v = 'y' WHERE id = 5", &["part:5"]),
        ("BEGIN; UPDATE S.users SET name = 'no' WHERE id = 1; ROLLBACK", &[]),
    ] {
        assert_eq!(rig.tells(&sql.replace("S.", &format!("{name}.")), &mark).await, expected, "{mode}: {sql}");
    }
    let snapshot = rig.feed.snapshot(crate::clock::now_ms());
    assert_eq!((snapshot.gaps, snapshot.unserved), (0, 0), "{snapshot:?}");
    assert!(snapshot.keys > 20 && snapshot.changes > 10 && snapshot.flushes >= 2, "{snapshot:?}");
}

#[tokio::test]
async fn the_log_tells_every_change() {
    every_change_is_told("wal").await;
}

#[tokio::test]
async fn triggers_tell_every_change() {
    every_change_is_told("notify").await;
}

#[tokio::test]
async fn a_change_goes_on_with_its_transaction_only_where_it_may_not_be_visible_yet() {
    for (mode, has_id) in [("wal", true), ("notify", false)] {
        let name = format!("ids_{mode}");
        server().sql(&schema(&name));
        let rig = Rig::start(mode, &name, &routes(&name)).await;
        let id = rig.sql(&format!("UPDATE {name}.marks SET n = 7 WHERE id = 1 RETURNING txid_current()")).await;
        rig.until("told", || !rig.notes.0.lock().is_empty()).await;
        let expected = has_id.then(|| id.parse::<u64>().unwrap() as u32);
        assert_eq!(rig.take(), [("mark:1".to_owned(), expected)], "{mode}");
    }
}

/// While a feed is away nobody tells what it missed, and no slot keeps it: so all of its routes must be told to be
/// stale, or what was cached before the gap would be served until its TTL.
#[tokio::test]
async fn after_a_gap_everything_is_stale() {
    for mode in ["wal", "notify"] {
        let name = format!("gap_{mode}");
        server().sql(&schema(&name));
        let rig = Rig::start(mode, &name, &routes(&name)).await;
        rig.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cenote'").await;
        rig.until("gone", || rig.feed.snapshot(0).gaps == 1).await;
        rig.until("in step", || rig.feed.snapshot(0).state == FeedState::InStep).await;
        let told = rig.take();
        for route in ["mark:{id}*", "user:{id}*", "orders:{id}*", "all:{x}*"] {
            // Once for the gap, once when it is over.
            assert!(told.iter().filter(|(key, _)| key == route).count() >= 2, "{mode} {route}: {told:?}");
        }
        let mark = format!("UPDATE {name}.marks SET n = n + 1 WHERE id = 1");
        let told = rig.tells(&format!("UPDATE {name}.users SET name = 'B' WHERE id = 1"), &mark).await;
        assert_eq!(told, ["mail:ann@x", "orders:1", "user:1"], "{mode}");
    }
}

#[tokio::test]
async fn an_altered_table_makes_its_routes_stale() {
    for mode in ["wal", "notify"] {
        let name = format!("alter_{mode}");
        server().sql(&schema(&name));
        let rig = Rig::start(mode, &name, &routes(&name)).await;
        rig.sql(&format!("ALTER TABLE {name}.users ADD COLUMN age int DEFAULT 7")).await;
        rig.until("told", || rig.notes.0.lock().iter().any(|(key, _)| key == "user:{id}*")).await;
        rig.until("in step", || rig.feed.snapshot(0).state == FeedState::InStep).await;
    }
}

#[tokio::test]
async fn large_changes_are_told_in_pieces_or_as_a_whole() {
    let name = "large_notify";
    server().sql(&schema(name));
    let rig = Rig::start("notify", name, &routes(name)).await;
    let mark = format!("UPDATE {name}.marks SET n = n + 1 WHERE id = 1");
    let insert =
        |from: u32, to: u32| format!("INSERT INTO {name}.parts SELECT i, 'x' FROM generate_series({from}, {to}) i");
    rig.sql(&format!("CREATE TABLE {name}.parts_2 PARTITION OF {name}.parts FOR VALUES FROM (100) TO (100000)")).await;
    let told = rig.tells(&insert(1, 3000), &mark).await;
    assert_eq!(told.iter().filter(|key| key.starts_with("part:")).count(), 3000);
    assert!(!told.iter().any(|key| key.ends_with('*')), "{told:?}");
    assert_eq!(rig.tells(&insert(3001, 14_000), &mark).await, ["part:{id}*"]);
    let long = "x".repeat(7900);
    let told = rig.tells(&format!("INSERT INTO {name}.users VALUES (9, 'L', '{long}')"), &mark).await;
    assert_eq!(told, ["mail:{m}*", "orders:{id}*", "user:{id}*"]);
}
