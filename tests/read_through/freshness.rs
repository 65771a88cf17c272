//! How long what was loaded is served: jitter, refresh ahead, stale while it is loaded anew, stale while it cannot be.
//!
//! A route that is flushed makes all its values stale at once, so these tests need not wait for a TTL, except where the
//! TTL itself is what is tested.

use std::time::{Duration, Instant};

use super::rig::{Rig, error, run, until};
use crate::support::{Client, Value};

const ROUTES: &str = r#"
    [[route]]
    key = "stale:{id}"
    query = "SELECT name FROM users, gate WHERE id = {id}"
    as = "string"
    ttl = "1h"
    stale_while_revalidate = "1h"

    [[route]]
    key = "brief:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "100ms"
    stale_while_revalidate = "1h"

    [[route]]
    key = "fallback:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "1h"
    stale_if_error = "1h"

    [[route]]
    key = "fields:{id}"
    query = "SELECT name, email FROM users WHERE id = {id}"
    as = "hash"
    ttl = "1h"
    stale_if_error = "1h"

    [[route]]
    key = "ahead:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "8s"
    jitter_percent = 0
    refresh_ahead = "3900ms"

    [[route]]
    key = "spread:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "1000s"

    [[route]]
    key = "even:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "1000s"
    jitter_percent = 0
"#;

fn start() -> Rig {
    Rig::with("", ROUTES, &["--workers", "2"])
}

fn rename(rig: &Rig, id: i32, name: &str) {
    rig.postgres.sql(&format!("UPDATE users SET name = '{name}' WHERE id = {id}"));
}

fn get(client: &mut Client, key: &str) -> Value {
    run(client, &format!("GET {key}"))
}

#[test]
fn a_stale_value_is_served_while_it_is_loaded_anew() {
    let rig = start();
    let (mut client, mut other) = (rig.client(), rig.client());
    assert_eq!(get(&mut client, "stale:1"), Value::bulk("Ann"));
    rename(&rig, 1, "Eve");
    run(&mut client, "ROUTE FLUSH stale:{id}");
    let gate = rig.shut_gate();
    let before = rig.figures();
    for client in [&mut client, &mut other] {
        assert_eq!(get(client, "stale:1"), Value::bulk("Ann"), "nobody waits for the query");
    }
    let figures = rig.figures();
    let since = |name: &str| figures.get(name) - before.get(name);
    assert_eq!((since("readthrough_refreshed"), since("readthrough_waits")), (1, 0), "one load, for both");
    gate.open();
    until("the new value", || get(&mut client, "stale:1") == Value::bulk("Eve"));
    assert_eq!(rig.figures().get("readthrough_refreshed") - before.get("readthrough_refreshed"), 1);
    // A command that changes a part of it must not begin with what is stale.
    rename(&rig, 1, "7");
    run(&mut client, "ROUTE FLUSH stale:{id}");
    assert_eq!(run(&mut client, "INCR stale:1"), Value::Int(8));
}

#[test]
fn a_value_is_stale_once_its_ttl_is_over() {
    let rig = start();
    let mut client = rig.client();
    assert_eq!(get(&mut client, "brief:1"), Value::bulk("Ann"));
    rename(&rig, 1, "Eve");
    until("the new value", || {
        let value = get(&mut client, "brief:1");
        assert!(value == Value::bulk("Ann") || value == Value::bulk("Eve"), "{value:?}");
        value == Value::bulk("Eve")
    });
    let figures = rig.figures();
    assert_eq!(figures.get("readthrough_waits"), 1, "only the first reader waited");
    assert!(figures.get("readthrough_refreshed") >= 1);
    assert!(run(&mut client, "TTL brief:1").int() > 3_000, "it is kept for as long as it may be of use");
    // Its row is gone: so is the key, with the load that finds that out.
    rig.postgres.sql("DELETE FROM users WHERE id = 1");
    until("the key to be gone", || get(&mut client, "brief:1") == Value::Nil);
}

#[test]
fn a_stale_value_is_served_where_loading_it_fails() {
    let mut rig = start();
    let mut client = rig.client();
    assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Ann"));
    assert_eq!(run(&mut client, "HGET fields:1 name"), Value::bulk("Ann"));
    // While the database answers, nobody sees what is stale.
    rename(&rig, 1, "Eve");
    run(&mut client, "ROUTE FLUSH");
    assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Eve"));
    assert_eq!(run(&mut client, "HGET fields:1 name"), Value::bulk("Eve"));
    rig.postgres.stop();
    run(&mut client, "ROUTE FLUSH");
    assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Eve"));
    assert_eq!(run(&mut client, "HGETALL fields:1").items().len(), 4);
    assert!(error(get(&mut client, "fallback:2")).starts_with("TRYAGAIN"), "of this there is no copy");
    let keys = run(&mut client, "MGET fallback:1 plain");
    assert_eq!(keys, Value::Array(vec![Value::bulk("Eve"), Value::Nil]));
    // After a failure the database is left alone for a while.
    let loads = rig.figures().get("source_main.loads");
    for _ in 0..20 {
        assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Eve"));
    }
    assert!(rig.figures().get("source_main.loads") - loads <= 2, "it is not asked at each read");
    // What is stale is not to be changed into something that looks new.
    assert!(error(run(&mut client, "APPEND fallback:1 x")).starts_with("TRYAGAIN"));
    assert!(error(run(&mut client, "HSET fields:1 name x")).starts_with("TRYAGAIN"));
    rig.postgres.restart();
    rename(&rig, 1, "Zoe");
    until("the new value", || get(&mut client, "fallback:1") == Value::bulk("Zoe"));
    // That the row is gone is no failure.
    rig.postgres.sql("DELETE FROM users WHERE id = 1");
    run(&mut client, "ROUTE FLUSH");
    assert_eq!(get(&mut client, "fallback:1"), Value::Nil);
}

#[test]
fn a_stale_value_is_served_soon_where_the_database_hangs() {
    let rig = start();
    let mut client = rig.client();
    assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Ann"));
    run(&mut client, "ROUTE FLUSH");
    rig.postgres.freeze();
    let begun = Instant::now();
    assert_eq!(get(&mut client, "fallback:1"), Value::bulk("Ann"));
    // The load's own deadline is 20 s.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    rig.postgres.thaw();
    rename(&rig, 1, "Eve");
    run(&mut client, "ROUTE FLUSH");
    until("the new value", || get(&mut client, "fallback:1") == Value::bulk("Eve"));
}

/// Asked for often enough, a key never expires, and nobody waits for it a second time.
#[test]
fn a_value_is_loaded_anew_ahead_of_its_end() {
    let rig = start();
    let mut client = rig.client();
    // A busy machine may sleep through the moment: then it is tried with another key.
    let refreshed = (1..=4).any(|id| {
        let key = format!("ahead:{id}");
        assert!(!get(&mut client, &key).is_error());
        let before = rig.figures();
        rename(&rig, id, "new");
        until("the new value", || get(&mut client, &key) == Value::bulk("new"));
        let figures = rig.figures();
        let since = |name: &str| figures.get(name) - before.get(name);
        since("readthrough_waits") == 0 && since("readthrough_refreshed") == 1
    });
    assert!(refreshed, "each key expired before it was loaded anew");
}

/// Nobody who watches a key need know that it was loaded anew, unless it is another value.
#[test]
fn a_refresh_with_the_same_value_disturbs_nobody() {
    let rig = start();
    let (mut client, mut other) = (rig.client(), rig.client());
    for (name, is_same) in [("Ann", true), ("Eve", false)] {
        let stored = rig.figures().get("readthrough_stored");
        assert!(!get(&mut client, "stale:1").is_error());
        assert_eq!(run(&mut client, "WATCH stale:1"), Value::ok());
        rename(&rig, 1, name);
        run(&mut other, "ROUTE FLUSH");
        get(&mut other, "stale:1");
        until("the load", || {
            rig.figures().get("readthrough_loading") == 0 && rig.figures().get("readthrough_stored") > stored
        });
        until("the value", || get(&mut other, "stale:1") == Value::bulk(name));
        run(&mut client, "MULTI");
        run(&mut client, "PING");
        let reply = run(&mut client, "EXEC");
        assert_eq!(reply != Value::Nil, is_same, "{name}: {reply:?}");
    }
}

#[test]
fn a_ttl_that_a_client_sets_is_the_copys_alone() {
    let rig = start();
    let mut client = rig.client();
    assert_eq!(get(&mut client, "even:1"), Value::bulk("Ann"));
    rename(&rig, 1, "Eve");
    assert_eq!(run(&mut client, "PERSIST even:1"), Value::Int(1));
    assert_eq!((get(&mut client, "even:1"), run(&mut client, "TTL even:1")), (Value::bulk("Ann"), Value::Int(-1)));
    assert_eq!(run(&mut client, "PEXPIRE even:1 1"), Value::Int(1));
    until("the row to be read again", || get(&mut client, "even:1") == Value::bulk("Eve"));
    assert!(run(&mut client, "TTL even:1").int() > 900, "what was loaded anew has the route's");
    assert_eq!(rig.queries(), 2);
}

#[test]
fn values_that_are_loaded_together_do_not_end_together() {
    let rig = start();
    let mut client = rig.client();
    let mut spread = |name: &str| {
        let keys: Vec<String> = (5..=54).map(|id| format!("{name}:{id}")).collect();
        let mget: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        assert_eq!(client.cmd(&mget).items().len(), 50);
        let ends: Vec<i64> = keys.iter().map(|key| run(&mut client, &format!("PEXPIRETIME {key}")).int()).collect();
        ends.iter().max().unwrap_or(&0) - ends.iter().min().unwrap_or(&0)
    };
    let (spread_ms, even_ms) = (spread("spread"), spread("even"));
    assert!((30_000..=110_000).contains(&spread_ms), "up to a tenth of the ttl: {spread_ms}");
    assert!(even_ms < 20_000, "{even_ms}");
    assert!((890..=1000).contains(&run(&mut client, "TTL spread:5").int()), "never longer than the ttl");
}
