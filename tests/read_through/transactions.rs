//! Transactions and missing rows: what a transaction reads is loaded before it runs, in one go, never inside; a key that
//! is watched is loaded before it is watched, or the load would count as a change.

use super::rig::{Rig, exec, run};
use crate::support::Value;

#[test]
fn what_is_queued_is_loaded_before_it_runs() {
    let rig = Rig::start();
    let mut client = rig.client();
    rig.postgres.sql("INSERT INTO texts VALUES ('n', '41'), ('a', 'x'), ('b', 'y')");
    let reply = exec(&mut client, &["GET name:1", "INCR text:n", "MGET text:a text:b text:none", "GET plain"]);
    let many = Value::Array(vec![Value::bulk("x"), Value::bulk("y"), Value::Nil]);
    assert_eq!(reply, Value::Array(vec![Value::bulk("Ann"), Value::Int(42), many, Value::Nil]));
    let before = rig.queries();
    assert_eq!(exec(&mut client, &["GET name:1", "GET text:none"]), Value::Array(vec![Value::bulk("Ann"), Value::Nil]));
    assert_eq!(rig.queries(), before, "both are known");
    // What comes first counts: a key that is deleted inside is not loaded again.
    let reply = exec(&mut client, &["DEL name:1", "GET name:1", "SET name:2 mine", "GET name:2"]);
    assert_eq!(reply, Value::Array(vec![Value::Int(1), Value::Nil, Value::ok(), Value::bulk("mine")]));
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    // A route serves database 0 alone, unless it says otherwise: also where a transaction comes from another one.
    let reply = exec(&mut client, &["SELECT 1", "GET name:5", "SELECT 0", "GET name:5"]);
    assert_eq!(reply.items()[1..], [Value::Nil, Value::ok(), Value::bulk("user 5")]);
}

#[test]
fn a_key_is_loaded_before_it_is_watched() {
    let rig = Rig::start();
    let (mut client, mut other) = (rig.client(), rig.client());
    assert_eq!(run(&mut client, "WATCH name:1 text:none"), Value::ok());
    assert_eq!(run(&mut other, "GET name:1"), Value::bulk("Ann"));
    assert_eq!(exec(&mut client, &["GET name:1"]), Value::Array(vec![Value::bulk("Ann")]));
    assert_eq!(run(&mut client, "WATCH name:1"), Value::ok());
    assert_eq!(run(&mut other, "SET name:1 changed"), Value::ok());
    assert_eq!(exec(&mut client, &["GET name:1"]), Value::Nil);
}

#[test]
fn a_source_that_is_down_refuses_the_transaction() {
    let mut rig = Rig::start();
    let mut client = rig.client();
    rig.postgres.stop();
    let reply = exec(&mut client, &["SET plain 1", "GET name:7"]);
    assert!(reply.text().is_some_and(|text| text.starts_with("TRYAGAIN")), "{reply:?}");
    assert_eq!(run(&mut client, "EXISTS plain"), Value::Int(0), "nothing of it ran");
    assert_eq!(run(&mut client, "EXEC"), Value::Error("ERR EXEC without MULTI".to_owned()));
}
