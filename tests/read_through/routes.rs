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
