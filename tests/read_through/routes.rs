//! ROUTE and SIGHUP: routes seen and changed while the server runs.

use super::rig::{Rig, error, run, until};
use crate::support::Value;

#[test]
fn routes_are_listed_added_switched_and_removed() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(run(&mut client, "ROUTE LIST").items().len(), 4);
    let add = |client: &mut crate::support::Client, name: &str, key: &str| {
        let query = "SELECT email FROM users WHERE id = {id}";
        client.cmd(&["ROUTE", "ADD", name, "key", key, "query", query, "as", "string", "ttl", "1h"])
    };
    assert_eq!(run(&mut client, "GET mail:1"), Value::Nil);
    assert_eq!(add(&mut client, "mail", "mail:{id}"), Value::ok());
    assert_eq!(run(&mut client, "GET mail:1"), Value::bulk("ann@example.com"));
    assert!(error(add(&mut client, "mail", "m:{id}")).contains("has the name"));
    assert!(error(add(&mut client, "m2", "mail:{id}")).contains("overlaps"));
    assert!(error(run(&mut client, "ROUTE ADD x key x:{i} ttl 1h as")).contains("syntax"));
    assert!(error(run(&mut client, "ROUTE ADD x key x:{i} ttl 1h")).contains("no query"));
    let get = format!("{:?}", run(&mut client, "ROUTE GET mail"));
    for part in ["mail:{id}", "SELECT email", "enabled", "yes", "main"] {
        assert!(get.contains(part), "{part}: {get}");
    }
    assert_eq!(run(&mut client, "ROUTE DISABLE mail"), Value::ok());
    assert_eq!(run(&mut client, "GET mail:2"), Value::Nil);
    assert_eq!(run(&mut client, "ROUTE ENABLE mail"), Value::ok());
    assert_eq!(run(&mut client, "GET mail:1"), Value::bulk("ann@example.com"));
    assert_eq!(run(&mut client, "ROUTE DEL mail"), Value::ok());
    assert!(error(run(&mut client, "ROUTE GET mail")).contains("there is no route 'mail'"));
    assert_eq!(run(&mut client, "GET mail:3"), Value::Nil);
}

#[test]
fn a_flush_makes_a_route_stale_and_leaves_the_others() {
    let rig = Rig::start();
    let mut client = rig.client();
    for key in ["name:1", "user:1"] {
        run(&mut client, &format!("GET {key}"));
    }
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    assert_eq!(run(&mut client, "ROUTE FLUSH name:{id}"), Value::ok());
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Eve"));
    assert!(run(&mut client, "GET user:1").text().is_some_and(|text| text.contains("Ann")));
    assert_eq!(run(&mut client, "ROUTE FLUSH"), Value::ok());
    assert!(run(&mut client, "GET user:1").text().is_some_and(|text| text.contains("Eve")));
    assert!(error(run(&mut client, "ROUTE FLUSH nope")).contains("there is no route"));
}

#[test]
fn the_file_is_read_again_all_or_nothing() {
    let rig = Rig::start();
    let mut client = rig.client();
    run(&mut client, "GET name:1");
    run(&mut client, "GET user:1");
    let text = std::fs::read_to_string(rig.routes_file()).expect("the routes file");
    let write = |text: &str| std::fs::write(rig.routes_file(), text).expect("written");
    write(&format!("{text}\n[[route]]\nkey = 'mail:{{id}}'\nttl = '1h'\n"));
    assert!(error(run(&mut client, "ROUTE RELOAD")).contains("no query"));
    assert_eq!(run(&mut client, "ROUTE LIST").items().len(), 4);
    let changed = text.replace("SELECT name FROM users WHERE", "SELECT email FROM users WHERE");
    write(&changed);
    let queries = rig.queries();
    assert_eq!(run(&mut client, "ROUTE RELOAD"), Value::ok());
    // By the old query it was the name.
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("ann@example.com"));
    run(&mut client, "GET user:1");
    assert_eq!(rig.queries(), queries + 1, "a route that is the same keeps what was loaded");
    let mail =
        "[[route]]\nkey = 'mail:{id}'\nttl = '1h'\nas = 'string'\nquery = 'SELECT email FROM users WHERE id = {id}'\n";
    write(&format!("{changed}\n{mail}"));
    rig.server.signal("HUP");
    until("the new route", || run(&mut client, "GET mail:1") == Value::bulk("ann@example.com"));
    assert_eq!(run(&mut client, "ROUTE LIST").items().len(), 5);
}

#[test]
fn figures_of_each_route() {
    let rig = Rig::start();
    let mut client = rig.client();
    for _ in 0..4 {
        (0..500).for_each(|_| client.send(&["GET", "name:1"]).expect("sent"));
        (0..500).for_each(|_| drop(client.read_reply()));
    }
    run(&mut client, "GET name:500");
    let all = run(&mut client, "ROUTE STATS");
    assert_eq!(all.items().len(), 4);
    let one = run(&mut client, "ROUTE STATS name:{id}");
    let fields: Vec<String> = one.items()[0].items().iter().map(|item| format!("{item:?}")).collect();
    let figure = |name: &str| {
        let at = fields.iter().position(|field| field.contains(name)).unwrap_or_else(|| panic!("{name}: {fields:?}"));
        fields[at + 1].chars().filter(|c| c.is_ascii_digit()).collect::<String>().parse::<u64>().expect("a number")
    };
    assert_eq!((figure("waits"), figure("loads"), figure("rows"), figure("absent")), (2, 2, 1, 1));
    // One of 64 is counted for all of them.
    assert!((500..8000).contains(&figure("hits")), "{fields:?}");
    assert!(figure("load_usec_p50") > 0 && figure("single_query_usec_p99") >= figure("single_query_usec_p50"));
    assert_eq!((figure("queries"), figure("batches")), (2, 0));
    let keys: Vec<String> = (10..30).map(|id| format!("user:{id}")).collect();
    client.cmd(&std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect::<Vec<_>>());
    let users = format!("{:?}", run(&mut client, "ROUTE STATS user:{id}"));
    assert!(users.contains("\"batches\", 1, \"batched_keys\", 20"), "{users}");
    assert!(error(run(&mut client, "ROUTE STATS nope")).contains("there is no route"));
}

#[test]
fn why_a_key_is_as_it_is() {
    let rig = Rig::start();
    let mut client = rig.client();
    let mut why = |key: &str| format!("{:?}", run(&mut client, &format!("ROUTE WHY {key}")));
    assert!(why("name:1").contains("not cached: the next read loads it"));
    assert!(why("other").contains("no route loads it"));
    let mut other = rig.client();
    for key in ["name:1", "name:500"] {
        run(&mut other, &format!("GET {key}"));
    }
    run(&mut other, "SET name:2 mine");
    for (key, words) in [
        ("name:1", "it was loaded and is fresh"),
        ("name:500", "absent:"),
        ("name:2", "local:"),
        ("gated:1", "not cached"),
    ] {
        assert!(why(key).contains(words), "{key}: {}", why(key));
    }
    let gate = rig.shut_gate();
    other.send(&["GET", "gated:1"]).expect("sent");
    rig.wait_for_waiting(1);
    assert!(why("gated:1").contains("being loaded"));
    gate.open();
    assert_eq!(other.read_reply().expect("a reply").value, Value::bulk("Ann"));
    run(&mut other, "ROUTE FLUSH");
    assert!(why("name:1").contains("its source may have changed"));
    for field in ["age_ms", "load_time_ms", "invalidated_at_ms", "route_invalidated_at_ms", "route_flushed_at_ms"] {
        assert!(why("name:1").contains(field), "{field}: {}", why("name:1"));
    }
}

#[test]
fn a_key_is_loaded_anew_on_demand() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(run(&mut client, "ROUTE REFRESH name:1"), Value::Int(1));
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    assert_eq!(run(&mut client, "ROUTE REFRESH name:1"), Value::Int(1));
    let queries = rig.queries();
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Eve"));
    assert_eq!(rig.queries(), queries);
    assert_eq!(run(&mut client, "ROUTE REFRESH name:500"), Value::Int(0));
    rig.postgres.sql("INSERT INTO users VALUES (500, 'New')");
    assert_eq!(run(&mut client, "ROUTE REFRESH name:500"), Value::Int(1));
    assert_eq!(run(&mut client, "GET name:500"), Value::bulk("New"));
    assert_eq!(run(&mut client, "ROUTE REFRESH other"), Value::Int(0));
}

#[test]
fn a_plan_is_explained_without_holding_anybody_up() {
    let rig = Rig::start();
    rig.postgres
        .sql("INSERT INTO users SELECT i, 'n' || i, 'e' || i FROM generate_series(1000, 40000) i; ANALYZE users");
    let mut client = rig.client();
    let query = "SELECT name FROM users WHERE email = {m}";
    client.cmd(&["ROUTE", "ADD", "mail", "key", "mail:{m}", "query", query, "as", "string", "ttl", "1h"]);
    let bad = format!("{:?}", run(&mut client, "ROUTE EXPLAIN mail:e2000"));
    assert!(bad.contains("there is no index on email"), "{bad}");
    assert!(bad.contains("CREATE INDEX CONCURRENTLY ON"), "{bad}");
    let good = run(&mut client, "ROUTE EXPLAIN name:1");
    assert!(format!("{good:?}").contains("Index Scan"), "{good:?}");
    assert!(error(run(&mut client, "ROUTE EXPLAIN other")).contains("no route loads this key"));
    // Replies keep their order around one that takes its time.
    client.send(&["ROUTE", "EXPLAIN", "name:1"]).expect("sent");
    client.send(&["PING"]).expect("sent");
    assert!(format!("{:?}", client.read_reply().expect("a reply").value).contains("name:{id}"));
    assert_eq!(client.read_reply().expect("a reply").value, Value::simple("PONG"));
}
