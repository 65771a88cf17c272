//! Many clients and slow queries: one query for all who want a key, and nobody else waits.

use std::time::{Duration, Instant};

use super::rig::{ROUTES, Rig, error, run, until, words};
use crate::support::{Client, Failure, Value};

#[test]
fn two_hundred_clients_who_want_one_cold_key_cost_one_query() {
    const CLIENTS: i64 = 200;
    let rig = Rig::with("", ROUTES, &["--workers", "2"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| rig.client()).collect();
    let gate = rig.shut_gate();
    for client in &mut clients {
        client.send(&["GET", "gated:1"]).expect("sent");
    }
    rig.wait_for_waiting(CLIENTS);
    let figures = rig.figures();
    let figures = ["readthrough_loading", "readthrough_leases", "readthrough_waits", "readthrough_joined"]
        .map(|name| figures.get(name));
    assert_eq!(figures, [1, 1, CLIENTS, CLIENTS - 1]);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("Ann"));
    }
    let figures = rig.figures();
    let figures = ["source_main.queries", "source_main.loads", "readthrough_stored", "readthrough_loading"]
        .map(|name| figures.get(name));
    assert_eq!(figures, [1, 1, 1, 0]);
}

#[test]
fn only_the_connection_that_asked_waits() {
    for workers in ["1", "2"] {
        let rig = Rig::with("", ROUTES, &["--workers", workers]);
        let mut waiting = rig.client();
        let mut others: Vec<Client> = (0..4).map(|_| rig.client()).collect();
        let gate = rig.shut_gate();
        waiting.send(&["GET", "gated:1"]).expect("sent");
        rig.wait_for_waiting(1);
        // A server that waited with it would not answer before the gate opens, and the test would fail of patience.
        for (index, client) in others.iter_mut().enumerate() {
            for round in 0..50 {
                let key = format!("k{index}:{round}");
                assert_eq!(client.cmd(&["SET", &key, "v"]), Value::ok());
                assert_eq!(client.cmd(&["GET", &key]), Value::bulk("v"));
            }
            assert_eq!(run(client, &format!("GET name:{}", index + 5)), Value::bulk(format!("user {}", index + 5)));
            assert!(run(client, "CLIENT LIST").text().is_some_and(|list| list.contains("flags=b")), "it waits");
        }
        rig.wait_for_waiting(1);
        gate.open();
        assert_eq!(waiting.read_reply().expect("a reply").value, Value::bulk("Ann"));
    }
}

#[test]
fn a_query_that_sleeps_keeps_nobody_else_waiting() {
    let sleep = "[[route]]\nkey = 'sleep:{s}'\nquery = \"SELECT 'slept' FROM pg_sleep({s}::int)\"\nas = 'string'\n\
                 ttl = '1h'\n";
    let rig = Rig::with("", sleep, &["--workers", "1"]);
    let (mut sleeper, mut other) = (rig.client(), rig.client());
    sleeper.send(&["GET", "sleep:5"]).expect("sent");
    rig.wait_for_waiting(1);
    let start = Instant::now();
    let mut rounds = 0;
    // A busy machine may manage a few only, but not none.
    while rounds < 100 && start.elapsed() < Duration::from_secs(2) {
        assert_eq!(run(&mut other, "SET k v"), Value::ok());
        assert_eq!(run(&mut other, "GET k"), Value::bulk("v"));
        rounds += 1;
    }
    // All this took a part of the five seconds, or the query would be over.
    assert_eq!(rig.figures().get("readthrough_loading"), 1, "{rounds} rounds took {:?}", start.elapsed());
    assert_eq!(sleeper.read_reply().expect("a reply").value, Value::bulk("slept"));
}

#[test]
fn a_pipeline_is_answered_in_its_order() {
    let rig = Rig::start();
    let mut client = rig.client();
    let lines = [
        ("GET gated:1", Value::bulk("Ann")),
        ("SET gated:1 mine", Value::ok()),
        ("GET gated:1", Value::bulk("mine")),
        ("PING", Value::simple("PONG")),
        ("GET gated:2", Value::bulk("Bob")),
        ("GET gated:2", Value::bulk("Bob")),
        ("APPEND gated:5 !", Value::Int(7)),
        ("GET gated:5", Value::bulk("user 5!")),
        ("MGET gated:6 gated:1", Value::Array(vec![Value::bulk("user 6"), Value::bulk("mine")])),
        ("DEL gated:6", Value::Int(1)),
        ("GET gated:6", Value::bulk("user 6")),
        ("GET gated:1000", Value::Nil),
        ("ECHO end", Value::bulk("end")),
    ];
    let commands: Vec<Vec<Vec<u8>>> =
        lines.iter().map(|(line, _)| words(line).iter().map(|word| word.as_bytes().to_vec()).collect()).collect();
    let replies = client.pipeline(&commands).expect("all are answered");
    for ((line, expected), reply) in lines.iter().zip(&replies) {
        assert_eq!(reply.value, *expected, "{line}");
    }
    // What comes before a miss is answered before the load is done.
    let gate = rig.shut_gate();
    for line in ["ECHO before", "GET gated:7", "ECHO behind"] {
        client.send(&words(line)).expect("sent");
    }
    assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("before"));
    rig.wait_for_waiting(1);
    gate.open();
    assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("user 7"));
    assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("behind"));
    // Muted replies stay muted.
    client.send(&words("CLIENT REPLY SKIP")).expect("sent");
    client.send(&words("GET gated:8")).expect("sent");
    assert_eq!(run(&mut client, "GET gated:9"), Value::bulk("user 9"));
}

#[test]
fn clients_that_leave_or_are_killed_while_they_wait_take_nothing_with_them() {
    let rig = Rig::with("", ROUTES, &["--workers", "2"]);
    let (mut stays, mut killed, mut leaves, mut admin) = (rig.client(), rig.client(), rig.client(), rig.client());
    let gate = rig.shut_gate();
    // Who began the load leaves.
    leaves.send(&["GET", "gated:1"]).expect("sent");
    rig.wait_for_waiting(1);
    killed.send(&["GET", "gated:1"]).expect("sent");
    stays.send(&["GET", "gated:1"]).expect("sent");
    rig.wait_for_waiting(3);
    drop(leaves);
    let address = killed.local_address();
    assert_eq!(admin.cmd(&["CLIENT", "KILL", "ADDR", &address]), Value::Int(1));
    assert!(killed.is_closed(), "a client that waits is killed at once");
    assert_eq!(rig.figures().get("readthrough_loading"), 1);
    gate.open();
    assert_eq!(stays.read_reply().expect("a reply").value, Value::bulk("Ann"));
    assert_eq!(rig.queries(), 1);
    until("the connections to be forgotten", || {
        run(&mut admin, "CLIENT LIST").text().is_some_and(|list| list.lines().count() == 2)
    });
    // Nobody is left who wants it: it is kept all the same.
    let mut leaves = rig.client();
    let gate = rig.shut_gate();
    leaves.send(&["GET", "gated:2"]).expect("sent");
    rig.wait_for_loads(1);
    drop(leaves);
    gate.open();
    until("the value to be kept", || run(&mut admin, "EXISTS gated:2") == Value::Int(1));
}

#[test]
fn a_server_that_stops_answers_who_waits() {
    let mut rig = Rig::start();
    let mut client = rig.client();
    let gate = rig.shut_gate();
    client.send(&["GET", "gated:1"]).expect("sent");
    client.send(&["GET", "gated:2"]).expect("sent");
    rig.wait_for_waiting(1);
    rig.server.signal("TERM");
    gate.open();
    assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("Ann"));
    assert_eq!(client.read_reply(), Err(Failure::Closed(String::new())), "no new load is begun");
    assert_eq!(rig.server.wait_for_exit().code(), Some(0));
}

#[test]
fn the_pool_has_its_bounds() {
    const CLIENTS: i64 = 50;
    let source = "pool = { max = 3, min = 1, max_waiting = 46 }";
    let rig = Rig::with(source, ROUTES, &["--workers", "2"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| rig.client()).collect();
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cenote'";
    // One connection is there before anybody asks.
    until("the first connection", || rig.postgres.sql(connections) == "1");
    let gate = rig.shut_gate();
    for (id, client) in (1..).zip(&mut clients) {
        client.send(&["GET", &format!("gated:{}", id + 10)]).expect("sent");
    }
    // Three have a connection, 46 wait for one, and the last is told.
    rig.wait_for_waiting(CLIENTS - 1);
    until("the pool to be full", || {
        let figures = rig.figures();
        (figures.get("source_main_pool.size"), figures.get("source_main_pool.waiting")) == (3, 46)
    });
    assert_eq!(rig.postgres.sql(connections), "3");
    gate.open();
    let refused = "TRYAGAIN route 'gated:{id}': too many loads wait for the database";
    let mut refusals = 0;
    for (id, client) in (11..).zip(&mut clients) {
        match client.read_reply().expect("a reply").value {
            Value::Error(text) if text == refused => refusals += 1,
            value => assert_eq!(value, Value::bulk(format!("user {id}"))),
        }
    }
    let figures = rig.figures();
    assert_eq!((refusals, figures.get("source_main_errors.queue_full")), (1, 1));
    assert_eq!((figures.get("source_main_pool.connects"), figures.get("source_main_pool.max")), (3, 3));
    assert_eq!(rig.postgres.sql(connections), "3");
}

/// An MGET may name a million keys; each load costs memory before the pool's queue can refuse it.
#[test]
fn one_command_cannot_start_loads_without_bound() {
    let rig = Rig::start();
    let mut client = rig.client();
    let gate = rig.shut_gate();
    let keys: Vec<String> = (1..=20_000).map(|id| format!("gated:{id}")).collect();
    let mget: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(error(client.cmd(&mget)), "TRYAGAIN route 'gated:{id}': too many loads are under way");
    gate.open();
    until("the loads to end", || rig.figures().get("readthrough_loading") == 0);
    assert_eq!(run(&mut client, "GET gated:1"), Value::bulk("Ann"));
}
