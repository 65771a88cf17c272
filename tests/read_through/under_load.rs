//! What readers see while the database is stopped, killed, frozen, restarted, slow, out of connections, or altered under
//! them: each reply is the right value or one clear error, in time; hits are as ever; and once the database is back, so
//! are the loads, by themselves. How soon is printed: it should be within 2 s, which a busy machine may not keep.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::rig::{ROUTES, Rig, run, until};
use crate::support::{Client, Postgres, Server, Session, TempDir, Value, cenote_program};

const POOL: &str = "pool = { max = 8, min = 2 }";
/// A load may take 1 s; a busy machine may add to it.
const SOURCE: &str = "load_timeout = '1s'\npool = { max = 8, min = 2 }";
const IN_TIME: Duration = Duration::from_secs(10);
/// How long the load goes on before and after a disturbance, at least.
const CALM: Duration = Duration::from_millis(300);

/// What readers saw.
#[derive(Debug, Default)]
struct Seen {
    values: usize,
    errors: BTreeMap<String, usize>,
    slowest: Duration,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.values += other.values;
        other.errors.into_iter().for_each(|(text, count)| *self.errors.entry(text).or_default() += count);
        self.slowest = self.slowest.max(other.slowest);
    }

    fn note(&mut self, reply: Value, right: &[&str], time: Duration) {
        assert!(time < IN_TIME, "a reply took {time:?}");
        self.slowest = self.slowest.max(time);
        match reply {
            Value::Error(text) => {
                assert!(text.starts_with("TRYAGAIN route 'name:{id}': "), "{text}");
                *self.errors.entry(text).or_default() += 1;
            }
            value => {
                assert!(right.iter().any(|right| value == Value::bulk(*right)), "{value:?} is none of {right:?}");
                self.values += 1;
            }
        }
    }
}

/// Reads rows that are not cached; `name` makes the right values of an id.
fn read(server: &Server, done: &AtomicBool, offset: usize, spelled: &[fn(usize) -> String]) -> Seen {
    let (mut client, mut seen) = (server.client(), Seen::default());
    for number in offset.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let id = 5 + number % 90;
        run(&mut client, &format!("DEL name:{id}"));
        let start = Instant::now();
        let reply = run(&mut client, &format!("GET name:{id}"));
        let right: Vec<String> = spelled.iter().map(|spell| spell(id)).collect();
        seen.note(reply, &right.iter().map(String::as_str).collect::<Vec<_>>(), start.elapsed());
    }
    seen
}

/// Reads a row that is cached; returns the times, sorted.
fn hit(server: &Server, done: &AtomicBool) -> Vec<Duration> {
    let (mut client, mut times) = (server.client(), Vec::new());
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
        times.push(start.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    times.sort();
    times
}

/// Loads that succeed again: how long that took from now on.
fn recovery(server: &Server) -> Duration {
    let (start, mut client) = (Instant::now(), server.client());
    until("loads to succeed again", || {
        run(&mut client, "DEL name:99");
        run(&mut client, "GET name:99") == Value::bulk("user 99")
    });
    start.elapsed()
}

/// Reads under way while `disturb` does its work; what was seen, and how soon loads succeeded after it.
fn under_load(rig: &mut Rig, name: &str, disturb: impl FnOnce(&mut Postgres)) -> Seen {
    spelled_under_load(rig, name, &[|id| format!("user {id}")], disturb)
}

fn spelled_under_load(
    rig: &mut Rig,
    name: &str,
    spelled: &[fn(usize) -> String],
    disturb: impl FnOnce(&mut Postgres),
) -> Seen {
    let (server, postgres) = (&rig.server, &mut rig.postgres);
    until("the first row", || run(&mut server.client(), "GET name:1") == Value::bulk("Ann"));
    let done = &AtomicBool::new(false);
    let (seen, hits, recovered) = thread::scope(|scope| {
        let readers: Vec<_> =
            (0..4).map(|reader| scope.spawn(move || read(server, done, reader * 20, spelled))).collect();
        let hitter = scope.spawn(|| hit(server, done));
        thread::sleep(CALM);
        disturb(postgres);
        let recovered = recovery(server);
        thread::sleep(CALM);
        done.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        readers.into_iter().for_each(|reader| seen.add(reader.join().expect("a reader")));
        (seen, hitter.join().expect("hits"), recovered)
    });
    let p99 = hits[hits.len() * 99 / 100];
    println!("{name}: {seen:?}; recovered {recovered:?} after it was back; hits: {}, p99 {p99:?}", hits.len());
    assert!(recovered < IN_TIME, "recovered only after {recovered:?}");
    // A hit waits for nothing: only a machine that is too busy could slow it.
    assert!(p99 < IN_TIME / 10, "the p99 of hits was {p99:?}");
    assert!(seen.values > 0);
    seen
}

fn rig() -> Rig {
    Rig::with(SOURCE, ROUTES, &["--workers", "2"])
}

#[test]
fn stopped_and_started() {
    let mut rig = rig();
    let seen = under_load(&mut rig, "stopped", |postgres| {
        postgres.stop();
        thread::sleep(CALM);
        postgres.restart();
    });
    assert!(!seen.errors.is_empty(), "a database that is down cannot go unnoticed");
    let figures = rig.figures();
    assert!(figures.get("source_main_breaker.opened") >= 1 && figures.get("source_main_breaker.trials") >= 1);
    assert_eq!(figures.text("source_main_breaker.state"), "closed");
    let log = rig.server.log();
    assert!(log.contains("the circuit breaker opens") && log.contains("the circuit breaker closes"), "{log}");
}

#[test]
fn killed_and_started() {
    let mut rig = rig();
    let seen = under_load(&mut rig, "killed", |postgres| {
        postgres.kill();
        thread::sleep(CALM);
        postgres.restart();
    });
    assert!(!seen.errors.is_empty(), "a database that is down cannot go unnoticed");
}

#[test]
fn restarted_in_one_go() {
    under_load(&mut rig(), "restarted", Postgres::restart);
}

#[test]
fn every_connection_ended() {
    // Nothing is to time out, however busy the machine is: an error could only be that of a connection.
    let mut rig = Rig::with(POOL, ROUTES, &["--workers", "2"]);
    let seen = under_load(&mut rig, "connections ended", |postgres| {
        for _ in 0..3 {
            postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cenote'");
            thread::sleep(CALM);
        }
    });
    assert!(seen.errors.is_empty(), "a retry on a fresh connection hides it: {seen:?}");
    assert!(rig.figures().get("source_main.retries") > 0);
}

#[test]
fn frozen_and_thawed() {
    let mut rig = rig();
    let seen = under_load(&mut rig, "frozen", |postgres| {
        postgres.freeze();
        // Longer than the loads' deadline, so that they end by it.
        thread::sleep(Duration::from_secs(3));
        postgres.thaw();
    });
    let late = "TRYAGAIN route 'name:{id}': the database did not answer in time";
    assert!(seen.errors.contains_key(late), "{seen:?}");
}

#[test]
fn slower_than_the_deadline() {
    let mut rig = rig();
    let seen = under_load(&mut rig, "slow", |postgres| {
        // Nobody can read the table for as long as the lock is held.
        let mut session = postgres.session("postgres", "locks");
        session.send("BEGIN; LOCK TABLE users;");
        thread::sleep(Duration::from_secs(3));
    });
    assert!(!seen.errors.is_empty(), "{seen:?}");
}

#[test]
fn out_of_connections() {
    let mut postgres = Postgres::start();
    postgres.sql("CREATE TABLE users (id int PRIMARY KEY, name text, email text)");
    postgres.sql("INSERT INTO users SELECT id, 'user ' || id, NULL FROM generate_series(1, 99) id");
    postgres.sql("UPDATE users SET name = 'Ann' WHERE id = 1; CREATE ROLE app LOGIN; GRANT SELECT ON users TO app");
    // Three of them are the superuser's.
    postgres.restart_with(&["max_connections=10", "superuser_reserved_connections=3", "max_wal_senders=0"]);
    let url = postgres.url().replace("postgres@", "app@");
    let routes =
        "[[route]]\nkey = 'name:{id}'\nquery = 'SELECT name FROM users WHERE id = {id}'\nas = 'string'\nttl = '1h'\n";
    let mut rig = Rig::over(postgres, &url, SOURCE, routes, &["--workers", "2"]);
    // With two connections of its own, it makes do with them, whoever has the rest.
    until("the pool's min", || rig.figures().get("source_main_pool.size") >= 2);
    let seen = under_load(&mut rig, "few connections", |postgres| {
        let others: Vec<Session> = (0..7).map(|_| postgres.session("app", "other")).collect();
        thread::sleep(CALM * 3);
        drop(others);
    });
    println!("few connections: {:?}", seen.errors);
    // With none, it is told so, and tries again.
    let full = under_load(&mut rig, "no connections", |postgres| {
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cenote'";
        postgres.sql("ALTER ROLE app CONNECTION LIMIT 0");
        postgres.sql(ended);
        thread::sleep(CALM * 3);
        postgres.sql("ALTER ROLE app CONNECTION LIMIT -1");
    });
    assert!(full.errors.keys().any(|text| text.contains("SQLSTATE 53300")), "{full:?}");
}

#[test]
fn altered_under_the_queries() {
    // The changes lock the table: nothing is to time out.
    let mut rig = Rig::with(POOL, ROUTES, &["--workers", "2"]);
    // The upper case comes with the last change.
    let spelled: [fn(usize) -> String; 2] = [|id| format!("user {id}"), |id| format!("USER {id}")];
    let seen = spelled_under_load(&mut rig, "altered", &spelled, |postgres| {
        for change in [
            "ALTER TABLE users ADD COLUMN more int",
            "ALTER TABLE users ALTER COLUMN name TYPE varchar(100)",
            "ALTER TABLE users ALTER COLUMN id TYPE bigint",
            "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT id, name::text, email FROM people",
            "DROP VIEW users; CREATE VIEW users AS SELECT id::bigint, upper(name) AS name FROM people",
            "DROP VIEW users; CREATE VIEW users AS SELECT id, name FROM people",
        ] {
            postgres.sql(change);
            thread::sleep(CALM);
        }
    });
    assert!(seen.errors.is_empty(), "a statement is prepared anew, unseen: {seen:?}");
}

#[test]
fn what_may_be_stale_is_served_while_the_database_is_down() {
    let routes = "[[route]]\nkey = 'name:{id}'\nquery = 'SELECT name FROM users WHERE id = {id}'\nas = 'string'\n\
                  ttl = '100ms'\nstale_if_error = '1h'\njitter_percent = 0\n";
    let mut rig = Rig::with(SOURCE, routes, &["--workers", "1"]);
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    rig.postgres.kill();
    thread::sleep(CALM);
    for _ in 0..5 {
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"), "stale, which the route permits");
    }
    assert!(run(&mut client, "GET name:2").is_error(), "there is nothing stale of it");
    rig.postgres.restart();
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    until("the new value", || run(&mut client, "GET name:1") == Value::bulk("Eve"));
}

/// A pgbouncer in front of a Postgres, gone when dropped. Like Postgres, it refuses root.
struct Pooler {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Pooler {
    /// None where there is no pgbouncer.
    fn start(postgres: &Postgres) -> Option<Pooler> {
        let program = crate::support::tool_if_any("PGBOUNCER")?;
        let (dir, port) = (TempDir::new("pgbouncer"), crate::support::Port::reserve());
        let (config, users) = (dir.path().join("pgbouncer.ini"), dir.path().join("users.txt"));
        std::fs::write(&users, "\"postgres\" \"\"\n").expect("written");
        let text = format!(
            "[databases]\npostgres = user=postgres host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nauth_type = any\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\n\
             unix_socket_dir =\n",
            postgres.port(),
            port.number,
            users.display()
        );
        std::fs::write(&config, text).expect("written");
        Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status().expect("chmod runs");
        let mut command = postgres.as_owner(&program);
        let child = command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pooler = Pooler { child: child.expect("pgbouncer starts"), port: port.number, _dir: dir };
        until("pgbouncer to listen", || std::net::TcpStream::connect(("127.0.0.1", pooler.port)).is_ok());
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pooler_gives_each_transaction_another_connection() {
    let postgres = Postgres::start();
    let Some(pooler) = Pooler::start(&postgres) else {
        println!("skipped: there is no pgbouncer; scripts/oracles installs Debian's package where it can");
        return;
    };
    postgres.sql(
        "CREATE TABLE users (id int PRIMARY KEY, name text, at timestamptz);
         INSERT INTO users SELECT id, 'user ' || id, '2024-01-02 03:04:05+00' FROM generate_series(1, 99) id;
         CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE moods (id int PRIMARY KEY, mood mood, moods mood[]);
         INSERT INTO moods VALUES (1, 'glad', '{sad,glad}')",
    );
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", pooler.port);
    let routes = "[[route]]\nkey = 'user:{id}'\nquery = 'SELECT * FROM users WHERE id = {id}'\nttl = '1h'\n\
                  [[route]]\nkey = 'moods:{id}'\nquery = 'SELECT * FROM moods WHERE id = {id}'\nttl = '1h'\n\
                  [[route]]\nkey = 'count:{mood}'\nquery = 'SELECT count(*) FROM moods WHERE mood = {mood}'\nas = 'string'\nttl = '1h'\n";
    let rig =
        Rig::over(postgres, &url, "prepare = 'unnamed'\npool = { max = 8, min = 4 }", routes, &["--workers", "2"]);
    let row = |id: usize| format!(r#"{{"id":{id},"name":"user {id}","at":"2024-01-02T03:04:05Z"}}"#);
    thread::scope(|scope| {
        for reader in 0..6 {
            let rig = &rig;
            scope.spawn(move || {
                let mut client: Client = rig.client();
                for round in 0..30 {
                    let ids: Vec<usize> = (0..3).map(|n| 1 + (reader * 17 + round * 3 + n) % 99).collect();
                    let mut keys = vec!["MGET".to_owned()];
                    keys.extend(ids.iter().map(|id| format!("user:{id}")));
                    let right = Value::Array(ids.iter().map(|id| Value::bulk(row(*id))).collect());
                    assert_eq!(run(&mut client, &keys.join(" ")), right);
                    run(&mut client, &keys.join(" ").replace("MGET", "DEL"));
                }
            });
        }
    });
    let mut client = rig.client();
    // Types that the driver must look up.
    assert_eq!(run(&mut client, "GET moods:1"), Value::bulk(r#"{"id":1,"mood":"glad","moods":["sad","glad"]}"#));
    assert_eq!(run(&mut client, "GET count:glad"), Value::bulk("1"));
    assert_eq!(run(&mut client, "GET count:angry"), Value::Nil);
    rig.postgres.sql("ALTER TABLE users ADD COLUMN more int DEFAULT 7");
    run(&mut client, "DEL user:1");
    let wider = row(1).replace('}', r#","more":7}"#);
    until("the new column", || {
        run(&mut client, "DEL user:1");
        run(&mut client, "GET user:1") == Value::bulk(wider.clone())
    });
    assert!(format!("{:?}", run(&mut client, "ROUTE EXPLAIN user:1")).contains("users_pkey"));
    let checked =
        Command::new(cenote_program()).arg("check").arg(rig.routes_file()).output().expect("cenote check runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    assert_eq!(rig.figures().get("source_main_errors.sql"), 0);
}
