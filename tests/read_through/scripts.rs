//! Scripts and missing rows: the keys that a script declares are loaded before it runs, where their route says so.

use super::rig::{ROUTES, Rig, run};
use crate::support::Value;

/// The usual routes, and one for scripts.
fn start() -> Rig {
    let route = r#"
        [[route]]
        key = "scripted:{id}"
        query = "SELECT name FROM users WHERE id = {id}"
        as = "string"
        ttl = "1h"
        scripts = true
    "#;
    Rig::with("", &format!("{ROUTES}{route}"), &["--workers", "1"])
}

#[test]
fn declared_keys_are_loaded_where_the_route_says_so() {
    let rig = start();
    let mut client = rig.client();
    rig.postgres.sql("INSERT INTO texts VALUES ('a', 'x')");
    let mut get = |key: &str| client.cmd(&["EVAL", "return redis.call('get',KEYS[1])", "1", key]);
    assert_eq!(get("scripted:1"), Value::bulk("Ann"));
    assert_eq!(get("scripted:none"), Value::Nil);
    assert_eq!(get("text:a"), Value::Nil, "its route says nothing of scripts");
    let before = rig.queries();
    assert_eq!(get("scripted:1"), Value::bulk("Ann"));
    assert_eq!(rig.queries(), before, "it is there");
    let undeclared = "return redis.call('get','scripted:2')";
    assert_eq!(client.cmd(&["EVAL", undeclared, "0"]), Value::Nil, "not declared");
    let many = "return redis.call('mget',KEYS[1],KEYS[2],KEYS[3])";
    let reply = client.cmd(&["EVAL", many, "3", "scripted:2", "scripted:none", "plain"]);
    assert_eq!(reply.items()[1..], [Value::Nil, Value::Nil]);
    assert!(reply.items()[0].text().is_some());
    assert_eq!(run(&mut client, "EXISTS text:a"), Value::Int(0));
}

#[test]
fn a_source_that_is_down_refuses_the_script() {
    let mut rig = start();
    let mut client = rig.client();
    rig.postgres.stop();
    let reply = client.cmd(&["EVAL", "redis.call('set','ran','1')", "1", "scripted:7"]);
    assert!(reply.text().is_some_and(|text| text.starts_with("TRYAGAIN")), "{reply:?}");
    assert_eq!(run(&mut client, "EXISTS ran"), Value::Int(0));
}
