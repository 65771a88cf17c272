//! The log's line of each load: at debug, or at warn if it failed or its query was slow.

use serde_json::Value as Json;

use super::rig::{ROUTES, Rig, error, run, until};
use crate::support::Value;

const MORE: &str = r#"
    [[route]]
    key = "all:{least}"
    query = "SELECT id FROM users WHERE id >= {least} ORDER BY id"
    rows = "many"
    ttl = "1h"

    [[route]]
    key = "stale:{id}"
    query = "SELECT name FROM users WHERE id = {id}"
    as = "string"
    ttl = "1h"
    stale_while_revalidate = "1h"

    [[route]]
    key = "slow:{id}"
    query = "SELECT name FROM users, pg_sleep(0.02) WHERE id = {id}"
    as = "string"
    ttl = "1h"
    slow_query = "10ms"

    [[route]]
    key = "wrong:{id}"
    query = "SELECT name FROM users WHERE id = {id} AND 1 / (id - 1) = 0"
    as = "string"
    ttl = "1h"
"#;

fn start(level: &str) -> Rig {
    let routes = format!("{ROUTES}{MORE}");
    Rig::with("", &routes, &["--workers", "1", "--log-format", "json", "--loglevel", level])
}

/// The lines of a route's loads so far.
fn lines(rig: &Rig, route: &str) -> Vec<Json> {
    let log = rig.server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    lines.filter(|line| line["fields"]["route"] == route && line["fields"]["batch"].is_u64()).collect()
}

/// Level, text, rows, whether it was a hit, and batch of each line.
fn told(rig: &Rig, route: &str) -> Vec<(String, String, u64, bool, u64)> {
    let told = |line: Json| {
        let fields = &line["fields"];
        let number = |name: &str| fields[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {line}"));
        // Times differ.
        let (_, _) = (number("query_time_ms"), number("load_time_ms"));
        assert_eq!(fields["source"], "main");
        let text = |json: &Json| json.as_str().expect("text").to_owned();
        let is_hit = fields["cache_hit"].as_bool().expect("whether it was a hit");
        (text(&line["level"]), text(&fields["message"]), number("rows"), is_hit, number("batch"))
    };
    lines(rig, route).into_iter().map(told).collect()
}

fn line(level: &str, text: &str, rows: u64, is_hit: bool, batch: u64) -> (String, String, u64, bool, u64) {
    (level.into(), text.into(), rows, is_hit, batch)
}

#[test]
fn each_load_has_a_line_at_debug() {
    let rig = start("verbose");
    let mut client = rig.client();
    for _ in 0..3 {
        run(&mut client, "GET name:1");
    }
    assert_eq!(told(&rig, "name:{id}"), [line("DEBUG", "loaded", 1, false, 1)], "hits have none");
    run(&mut client, "MGET user:1 user:2 user:1000");
    let mut three = told(&rig, "user:{id}");
    three.sort();
    let found = line("DEBUG", "loaded", 1, false, 3);
    assert_eq!(three, [line("DEBUG", "loaded", 0, false, 3), found.clone(), found], "one query for three keys");
    run(&mut client, "GET all:90");
    assert_eq!(told(&rig, "all:{least}"), [line("DEBUG", "loaded", 10, false, 1)]);
    // Behind the first of a kind, which was prepared: what can be no row costs no query.
    run(&mut client, "GET name:x");
    assert_eq!(told(&rig, "name:{id}").last(), Some(&line("DEBUG", "loaded", 0, false, 0)));
}

#[test]
fn a_load_is_a_hit_where_what_is_stale_is_served_meanwhile() {
    let rig = start("verbose");
    let mut client = rig.client();
    run(&mut client, "GET stale:1");
    run(&mut client, "ROUTE FLUSH stale:{id}");
    assert_eq!(run(&mut client, "GET stale:1"), Value::bulk("Ann"));
    until("the refresh", || told(&rig, "stale:{id}").len() == 2);
    assert_eq!(told(&rig, "stale:{id}"), [line("DEBUG", "loaded", 1, false, 1), line("DEBUG", "loaded", 1, true, 1)]);
}

#[test]
fn slow_and_failed_loads_are_told_at_warn_without_values() {
    let rig = start("notice");
    let mut client = rig.client();
    for _ in 0..3 {
        assert_eq!(run(&mut client, "GET slow:1"), Value::bulk("Ann"));
    }
    assert_eq!(told(&rig, "slow:{id}"), [line("WARN", "a load was slow", 1, false, 1)]);
    assert!(lines(&rig, "slow:{id}")[0]["fields"]["query_time_ms"].as_u64() >= Some(10));
    // The first is told; those of the same second are counted.
    let first = error(run(&mut client, "GET wrong:1"));
    assert!(first.starts_with("ERR route 'wrong:{id}': the query failed (SQLSTATE 22012)"), "{first}");
    assert_eq!(told(&rig, "wrong:{id}"), [line("WARN", "a load failed", 0, false, 1)]);
    let failed = &lines(&rig, "wrong:{id}")[0]["fields"];
    assert_eq!((&failed["cause"], &failed["unlogged"]), (&"sql".into(), &0.into()));
    assert_eq!(failed["detail"], "division by zero (SQLSTATE 22012)");
    until("a line that counts those that were left out", || {
        run(&mut client, "GET wrong:1");
        lines(&rig, "wrong:{id}").last().is_some_and(|line| line["fields"]["unlogged"].as_u64() > Some(0))
    });
    // Quick loads that succeed are not for this level, and no load shows what it found.
    run(&mut client, "GET name:1");
    assert_eq!(lines(&rig, "name:{id}"), [] as [Json; 0]);
    assert!(!rig.server.log().contains("Ann"));
}

#[test]
fn a_load_that_never_reached_the_database_is_told_as_well() {
    let mut rig = start("verbose");
    rig.postgres.kill();
    let mut client = rig.client();
    // The first may try a connection that it believes to be there.
    until("the line of a load without a query", || {
        error(run(&mut client, "GET name:1"));
        let is_refused = |line: &Json| line["fields"]["cause"] == "breaker_open" && line["fields"]["batch"] == 0;
        lines(&rig, "name:{id}").iter().any(is_refused)
    });
}
