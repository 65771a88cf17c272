//! Many clients and slow queries: one query for all who want a key, and nobody else waits.

use std::process::Command;
use std::time::{Duration, Instant};

use super::rig::{ROUTES, Rig, error, run, until, words};
use crate::support::{Client, Failure, Value, cenote_program};

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

/// That a client left while it waited was once not noticed until its load's deadline, and this test let that pass: its
/// query ran on for nobody. Now the deadline is too far away to be of help.
#[test]
fn clients_that_leave_or_are_killed_while_they_wait_take_nothing_with_them() {
    let rig = Rig::with("load_timeout = '300s'", ROUTES, &["--workers", "2"]);
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
    // Nobody is left who wants it: the query is cancelled.
    let mut leaves = rig.client();
    let gate = rig.shut_gate();
    leaves.send(&["GET", "gated:2"]).expect("sent");
    rig.wait_for_loads(1);
    drop(leaves);
    rig.wait_for_loads(0);
    gate.open();
    assert_eq!(run(&mut admin, "EXISTS gated:2"), Value::Int(0));
    assert_eq!(run(&mut admin, "GET gated:2"), Value::bulk("Bob"));
}

#[test]
fn a_server_that_stops_answers_who_waits() {
    let mut rig = Rig::start();
    let mut client = rig.client();
    let gate = rig.shut_gate();
    client.send(&["GET", "gated:1"]).expect("sent");
    // Nothing is looked for ahead behind this.
    client.send(&["SELECT", "0"]).expect("sent");
    client.send(&["GET", "gated:2"]).expect("sent");
    rig.wait_for_waiting(1);
    rig.server.signal("TERM");
    gate.open();
    assert_eq!(client.read_reply().expect("a reply").value, Value::bulk("Ann"));
    // What had not arrived by then is not read any more.
    let mut next = client.read_reply();
    if next.as_ref().is_ok_and(|reply| reply.value == Value::ok()) {
        next = client.read_reply();
    }
    assert_eq!(next, Err(Failure::Closed(String::new())), "no new load is begun");
    assert_eq!(rig.server.wait_for_exit().code(), Some(0));
}

#[test]
fn the_pool_has_its_bounds() {
    const CLIENTS: i64 = 50;
    let source = "pool = { max = 3, min = 1, max_waiting = 46 }";
    let alone = ROUTES.replace("key = \"gated:{id}\"", "key = \"gated:{id}\"\nbatch_max = 1");
    let rig = Rig::with(source, &alone, &["--workers", "2"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| rig.client()).collect();
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cenote'";
    // One connection is there before anybody asks.
    until("the first connection", || rig.postgres.sql(connections) == "1");
    let gate = rig.shut_gate();
    for (id, client) in (1..).zip(&mut clients) {
        client.send(&["GET", &format!("gated:{}", id + 10)]).expect("sent");
        if id <= 3 {
            until("it to have a connection", || {
                let figures = rig.figures();
                let waiting = figures.get("source_main_pool.waiting");
                (figures.get("readthrough_loading"), waiting) == (id, 0)
            });
        }
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

/// A hundred misses of one pipeline, one after the other, cost a hundred round trips in a cache that does not look ahead.
#[test]
fn a_pipeline_of_cold_keys_costs_few_queries_and_keeps_its_order() {
    let rig = Rig::start();
    let mut client = rig.client();
    let pipeline = |lines: &[String]| -> Vec<Vec<Vec<u8>>> {
        lines.iter().map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect()).collect()
    };
    let lines: Vec<String> = (0..100).map(|id| format!("GET name:{}", id + 100)).collect();
    rig.postgres.sql("INSERT INTO users SELECT id, 'user ' || id, NULL FROM generate_series(100, 999) id");
    let replies = client.pipeline(&pipeline(&lines)).expect("all are answered");
    for (id, reply) in (100..).zip(&replies) {
        assert_eq!(reply.value, Value::bulk(format!("user {id}")));
    }
    assert!(rig.queries() <= 3, "{} queries", rig.queries());
    // What is looked for ahead is in nobody's way: each command finds what those before it left.
    let lines = [
        ("GET name:300", Value::bulk("user 300")),
        ("SET name:301 mine", Value::ok()),
        ("GET name:301", Value::bulk("mine")),
        ("GET name:302", Value::bulk("user 302")),
        ("DEL name:302", Value::Int(1)),
        ("APPEND name:303 !", Value::Int(9)),
        ("GET name:303", Value::bulk("user 303!")),
        ("MGET name:304 name:305", Value::Array(vec![Value::bulk("user 304"), Value::bulk("user 305")])),
        ("SELECT 1", Value::ok()),
        ("GET name:306", Value::Nil),
        ("SELECT 0", Value::ok()),
        ("EXISTS name:302", Value::Int(0)),
    ];
    let before = rig.queries();
    let texts: Vec<String> = lines.iter().map(|(line, _)| (*line).to_owned()).collect();
    let replies = client.pipeline(&pipeline(&texts)).expect("all are answered");
    for ((line, expected), reply) in lines.iter().zip(&replies) {
        assert_eq!(reply.value, *expected, "{line}");
    }
    assert!(rig.queries() - before <= 3);
}

#[test]
fn one_bad_key_of_a_batch_hurts_no_other() {
    let routes = "[[route]]\nkey = 'inverse:{n}'\nquery = 'SELECT 100 / {n}::int'\nas = 'string'\nttl = '1h'\n\
                  [[route]]\nkey = 'rows:{n}'\nquery = 'SELECT g FROM generate_series(1, {n}::int) g'\nttl = '1h'\n\
                  [[route]]\nkey = 'list:{n}'\nquery = 'SELECT g FROM generate_series(1, {n}::int) g'\nrows = 'many'\n\
                  max_rows = 3\nttl = '1h'\n";
    let rig = Rig::with("", routes, &["--workers", "1"]);
    let mut client = rig.client();
    let mut ask = |keys: &[&str]| -> Vec<Value> {
        let commands: Vec<Vec<Vec<u8>>> =
            keys.iter().map(|key| vec![b"GET".to_vec(), key.as_bytes().to_vec()]).collect();
        client.pipeline(&commands).expect("all are answered").into_iter().map(|reply| reply.value).collect()
    };
    let replies = ask(&["inverse:1", "inverse:0", "inverse:5", "inverse:10"]);
    assert_eq!(replies[1], Value::Error("ERR route 'inverse:{n}': the query failed (SQLSTATE 22012)".into()));
    assert_eq!([&replies[0], &replies[2], &replies[3]], [&Value::bulk("100"), &Value::bulk("20"), &Value::bulk("10")]);
    let replies = ask(&["rows:1", "rows:2", "rows:0", "list:3", "list:4", "list:0", "list:1"]);
    let expected = [
        Value::bulk("{\"g\":1}"),
        Value::Error("ERR route 'rows:{n}': the query returned more than one row".into()),
        Value::Nil,
        Value::bulk("[{\"g\":1},{\"g\":2},{\"g\":3}]"),
        Value::Error("ERR route 'list:{n}': the query returned more than max_rows rows".into()),
        Value::Nil,
        Value::bulk("[{\"g\":1}]"),
    ];
    assert_eq!(replies, expected);
}

/// Only Postgres can say whether a text is a value of an enum, and an error would end the whole batch.
#[test]
fn what_cannot_go_in_one_query_goes_one_by_one_and_check_says_why() {
    let routes = "[[route]]\nkey = 'paint:{hue}'\nquery = 'SELECT n FROM paints WHERE hue = {hue}'\nas = 'string'\n\
                  ttl = '1h'\n";
    let rig = Rig::with("", routes, &["--workers", "1"]);
    rig.postgres.sql("CREATE TYPE hue AS ENUM ('red', 'blue'); CREATE TABLE paints (hue hue PRIMARY KEY, n int)");
    rig.postgres.sql("INSERT INTO paints VALUES ('red', 1), ('blue', 2)");
    let all = run(&mut rig.client(), "MGET paint:red paint:blue paint:green");
    assert_eq!(all, Value::Array(vec![Value::bulk("1"), Value::bulk("2"), Value::Nil]));
    let figures = rig.figures();
    assert_eq!((figures.get("source_main.queries"), figures.get("source_main.batches")), (3, 0));
    let check = Command::new(cenote_program()).arg("check").arg(rig.routes_file()).output().expect("cenote check runs");
    let told = String::from_utf8_lossy(&check.stdout);
    let why = "none, each key has a query of its own: Postgres itself must say of each {hue} whether it is a hue";
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_thousand_clients_who_want_a_thousand_cold_keys_cost_few_queries() {
    let rig = Rig::with("", ROUTES, &["--workers", "2"]);
    rig.postgres.sql("INSERT INTO users SELECT id, 'user ' || id, NULL FROM generate_series(100, 1999) id");
    let mut clients: Vec<Client> = (0..1000).map(|_| rig.client()).collect();
    // Held up at first, so that it does not count how fast this machine's clients are.
    let gate = rig.shut_gate();
    for (id, client) in (1000..).zip(&mut clients) {
        client.send(&["GET", &format!("gated:{id}")]).expect("sent");
    }
    rig.wait_for_waiting(1000);
    gate.open();
    for (id, client) in (1000..).zip(&mut clients) {
        assert_eq!(client.read_reply().expect("a reply").value, Value::bulk(format!("user {id}")));
    }
    assert!(rig.queries() <= 40, "{} queries", rig.queries());
}

#[test]
fn what_comes_in_pieces_while_a_load_is_waited_for_is_run_after_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    let gate = rig.shut_gate();
    client.send_raw(b"GET gated:1\r\nPING one\r\nPING 'x").expect("sent");
    rig.wait_for_waiting(1);
    client.send_raw(b" y'\r\n*2\r\n$4\r\nPI").expect("sent");
    // The pieces are read before the gate opens: nothing else of it shows.
    let mut admin = rig.client();
    until("the pieces to be read", || {
        run(&mut admin, "CLIENT LIST").text().is_some_and(|list| list.contains("qbuf=45 "))
    });
    gate.open();
    client.send_raw(b"NG\r\n$1\r\nz\r\n").expect("sent");
    for reply in ["Ann", "one", "x y", "z"] {
        assert_eq!(client.read_reply().expect("a reply").value, Value::bulk(reply));
    }
}
