//! Changes in the database reach the cache: by the log, by triggers, and after a gap.

use std::thread;
use std::time::{Duration, Instant};

use super::rig::{Figures, ROUTES, Rig, run, until};
use crate::support::{Client, Value};

/// The four routes over a source that tells its changes.
const CHANGES: &str = "CREATE PUBLICATION cenote FOR TABLE users, texts, gate";

fn start(mode: &str) -> Rig {
    let rig = Rig::with(&format!("invalidate = '{mode}'"), ROUTES, &["--workers", "2"]);
    rig.set_up();
    until("the changes are heard", || state(&mut rig.client()) == "in_step");
    rig
}

fn state(client: &mut Client) -> String {
    Figures::read(client, "readthrough").text("source_main_changes.state")
}

/// Asks until a key has a value.
fn until_it_is(client: &mut Client, key: &str, value: &str) {
    until(&format!("{key} = {value}"), || run(client, &format!("GET {key}")) == Value::bulk(value));
}

#[test]
fn a_change_of_a_row_removes_its_keys() {
    for mode in ["wal", "notify"] {
        let rig = start(mode);
        let mut client = rig.client();
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
        assert_eq!(run(&mut client, "GET name:5"), Value::bulk("user 5"));
        assert_eq!(run(&mut client, "GET name:500"), Value::Nil);
        let queries = rig.queries();
        assert_eq!(run(&mut client, "GET name:500"), Value::Nil);
        assert_eq!(rig.queries(), queries, "its absence is known");
        rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1; INSERT INTO users VALUES (500, 'New')");
        until_it_is(&mut client, "name:1", "Eve");
        until_it_is(&mut client, "name:500", "New");
        assert_eq!(run(&mut client, "EXISTS name:5"), Value::Int(1), "{mode}: other keys stay");
        rig.postgres.sql("DELETE FROM users WHERE id = 1");
        until("the row is gone", || run(&mut client, "GET name:1") == Value::Nil);
        rig.postgres.sql("TRUNCATE users");
        until("all rows are gone", || run(&mut client, "GET name:5") == Value::Nil);
        let figures = rig.figures();
        assert_eq!(figures.get("source_main_changes.gaps"), 0, "{mode}");
        assert!(figures.get("source_main_invalidations.keys") >= 3, "{mode}");
        assert!(figures.get("source_main_invalidations.route_flushes") >= 1, "{mode}");
    }
}

/// Nobody tells what happened while the stream was broken. Without the flush, name:1 would stay 'Ann' for its TTL.
#[test]
fn what_changed_during_a_gap_is_not_served() {
    for mode in ["wal", "notify"] {
        let mut rig = start(mode);
        let mut client = rig.client();
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
        rig.postgres.kill();
        until("the gap is noticed", || state(&mut client) != "in_step");
        rig.postgres.restart();
        rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
        until("the changes are heard", || state(&mut client) == "in_step");
        until_it_is(&mut client, "name:1", "Eve");
        assert!(rig.figures().get("source_main_changes.gaps") >= 1);
    }
}

/// A session that only listens looks alive for days after the other side has stopped to speak, and what changes meanwhile
/// would be stale for as long.
#[test]
fn a_session_that_hears_nothing_any_more_is_given_up() {
    for (mode, session) in [("wal", "backend_type = 'walsender'"), ("notify", "query LIKE 'NOTIFY cenote%'")] {
        let rig = start(mode);
        let mut client = rig.client();
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
        let mut pid = None;
        until("its session", || {
            let pids = format!("SELECT pid FROM pg_stat_activity WHERE {session} AND pid <> pg_backend_pid()");
            pid = rig.postgres.sql(&pids).parse().ok();
            pid.is_some()
        });
        pid.iter().for_each(|pid| rig.postgres.stop_session(*pid));
        rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
        // Ten seconds of silence are enough, and a busy machine may take several times as long.
        let deadline = Instant::now() + Duration::from_secs(60);
        while rig.figures().get("source_main_changes.gaps") == 0 {
            assert!(Instant::now() < deadline, "{mode}: the silence is not noticed");
            thread::sleep(Duration::from_millis(10));
        }
        until_it_is(&mut client, "name:1", "Eve");
        until("the changes are heard again", || state(&mut client) == "in_step");
    }
}

/// A transaction is in the log before it is visible: with a synchronous standby that is away, for as long as that is
/// away. A load in between reads the old row, and no second announcement comes; kept, it would be stale for its TTL.
#[test]
fn what_was_loaded_before_a_commit_was_visible_is_not_kept() {
    let rig = start("wal");
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    rig.postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'absent'");
    rig.postgres.sql("SELECT pg_reload_conf()");
    until("the setting", || rig.postgres.sql("SHOW synchronous_standby_names") == "absent");
    let keys = rig.figures().get("source_main_invalidations.keys");
    let url = rig.postgres.url();
    let psql = crate::support::tool("PG_BIN").join("psql");
    let mut update = std::process::Command::new(psql)
        .args(["-X", "-q", "-d", &url, "-c", "UPDATE users SET name = 'Eve' WHERE id = 1"])
        .spawn()
        .expect("psql starts");
    until("the change is announced", || rig.figures().get("source_main_invalidations.keys") > keys);
    // The commit waits for its standby: whoever asks gets the old row, each time by a query of its own.
    for _ in 0..3 {
        let queries = rig.queries();
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
        assert!(rig.queries() > queries, "a row that is about to change was kept");
    }
    rig.postgres.sql("ALTER SYSTEM RESET synchronous_standby_names");
    rig.postgres.sql("SELECT pg_reload_conf()");
    assert!(update.wait().expect("psql ends").success());
    until_it_is(&mut client, "name:1", "Eve");
    // What saw the change is kept.
    run(&mut client, "DEL name:1");
    let queries = rig.queries();
    for _ in 0..2 {
        assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Eve"));
    }
    assert_eq!(rig.queries() - queries, 1);
}

#[test]
fn it_says_what_is_missing_and_picks_it_up_once_it_is_there() {
    let rig = Rig::with("invalidate = 'wal'", ROUTES, &[]);
    let mut client = rig.client();
    until("it asks for the publication", || rig.server.log().contains("there is no publication"));
    assert_ne!(state(&mut client), "in_step");
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"), "loads go on");
    rig.postgres.sql(CHANGES);
    rig.postgres.sql("ALTER TABLE gate REPLICA IDENTITY FULL");
    until("the changes are heard", || state(&mut client) == "in_step");
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    until_it_is(&mut client, "name:1", "Eve");
    // Two tables, and the query does not say which rows of them.
    assert_eq!(rig.figures().get("source_main_changes.routes_unheard"), 1);
    let get = format!("{:?}", run(&mut client, "ROUTE GET gated:{id}"));
    assert!(get.contains("more than one table") && get.contains("depends"), "{get}");
}
