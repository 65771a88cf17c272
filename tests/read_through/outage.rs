//! A database that is down, frozen, or refuses: an error in time, hits as ever, and recovery by itself.

use std::time::{Duration, Instant};

use super::rig::{ROUTES, Rig, error, run, until};
use crate::support::{Client, Postgres, Value};

/// An error must come in time: where the database is down, long before the loads' deadline of 20 s; where it does not
/// answer, soon after [`DEADLINE`]. A busy machine may add to it.
const IN_TIME: Duration = Duration::from_secs(10);
/// The loads' deadline where the database does not answer.
const DEADLINE: &str = "load_timeout = '1s'";

#[track_caller]
fn fails_in_time(client: &mut Client, line: &str) -> String {
    let start = Instant::now();
    let text = error(run(client, line));
    assert!(start.elapsed() < IN_TIME, "{line} took {:?}", start.elapsed());
    assert!(text.starts_with("TRYAGAIN route 'user:{id}': the database "), "{text}");
    text
}

#[test]
fn a_killed_database_is_an_error_and_comes_back_by_itself() {
    let mut rig = Rig::with("", ROUTES, &["--workers", "2"]);
    let (mut client, mut other) = (rig.client(), rig.client());
    let row = run(&mut client, "GET user:1");
    rig.postgres.kill();
    assert_eq!(fails_in_time(&mut client, "GET user:2"), "TRYAGAIN route 'user:{id}': the database is down");
    for _ in 0..3 {
        fails_in_time(&mut client, "GET user:2");
        assert_eq!(run(&mut other, "GET user:1"), row, "hits are as ever");
        assert_eq!(run(&mut client, "SET mine value"), Value::ok());
    }
    fails_in_time(&mut client, "MGET user:1 user:2 mine");
    fails_in_time(&mut client, "INCR user:3");
    fails_in_time(&mut client, "SET user:3 x GET");
    assert_eq!(run(&mut client, "EXISTS user:2 user:3"), Value::Int(0), "a failure leaves nothing behind");
    assert_eq!(run(&mut client, "SET user:4 mine"), Value::ok());
    assert_eq!(run(&mut client, "GET user:4"), Value::bulk("mine"), "what replaces a value needs no database");
    let figures = rig.figures();
    assert!(figures.get("source_main_errors.down") >= 1 && figures.get("source_main_breaker.opened") == 1);
    assert!(figures.get("source_main_errors.breaker_open") > 0, "most loads find the breaker open");
    rig.postgres.restart();
    let bob = Value::bulk(r#"{"id":2,"name":"Bob","email":null}"#);
    until("the database to be used again", || run(&mut client, "GET user:2") == bob);
    assert_eq!(run(&mut other, "GET name:1"), Value::bulk("Ann"));
    // Connections that died while they idled go unnoticed.
    rig.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cenote'");
    assert_eq!(run(&mut client, "GET name:2"), Value::bulk("Bob"));
}

#[test]
fn a_database_that_dies_under_a_query_is_told_to_all_who_wait() {
    let mut rig = Rig::with("", ROUTES, &["--workers", "1"]);
    let mut clients: Vec<Client> = (0..20).map(|_| rig.client()).collect();
    let gate = rig.shut_gate();
    for client in &mut clients {
        client.send(&["GET", "gated:1"]).expect("sent");
    }
    rig.wait_for_waiting(20);
    rig.postgres.kill();
    for client in &mut clients {
        let text = error(client.read_reply().expect("a reply").value);
        // With a SQLSTATE where the dying server still said a word to the second try.
        assert!(text.starts_with("TRYAGAIN route 'gated:{id}': the database is down"), "{text}");
    }
    drop(gate);
    rig.postgres.restart();
    until("the database to be used again", || run(&mut clients[0], "GET gated:1") == Value::bulk("Ann"));
}

#[test]
fn a_frozen_database_is_an_error_in_time_and_comes_back_by_itself() {
    let rig = Rig::with(DEADLINE, ROUTES, &["--workers", "1"]);
    let (mut client, mut other) = (rig.client(), rig.client());
    until("a row", || !run(&mut client, "GET user:1").is_error());
    let row = run(&mut client, "GET user:1");
    // Returns when every process of Postgres has stopped. It once returned when they had been asked to: one that had
    // not stopped yet answered now and then, and the test failed for no fault of the program.
    rig.postgres.freeze();
    let text = fails_in_time(&mut client, "GET user:2");
    assert_eq!(text, "TRYAGAIN route 'user:{id}': the database did not answer in time");
    assert_eq!(run(&mut other, "GET user:1"), row, "hits are as ever");
    for _ in 0..2 {
        fails_in_time(&mut other, "GET user:2");
    }
    rig.postgres.thaw();
    let bob = Value::bulk(r#"{"id":2,"name":"Bob","email":null}"#);
    until("the database to be used again", || run(&mut client, "GET user:2") == bob);
}

#[test]
fn a_database_that_is_down_at_the_start_does_not_prevent_it() {
    let mut postgres = Postgres::start();
    postgres
        .sql("CREATE TABLE users (id int PRIMARY KEY, name text, email text); INSERT INTO users VALUES (1, 'Ann', '')");
    postgres.stop();
    let url = postgres.url();
    let mut rig = Rig::over(postgres, &url, "", ROUTES, &["--workers", "1"]);
    let mut client = rig.client();
    fails_in_time(&mut client, "GET user:1");
    until("a word in the log", || rig.server.log().contains("cannot connect to the database"));
    rig.postgres.restart();
    until("the database to be used", || run(&mut client, "GET name:1") == Value::bulk("Ann"));
}

#[test]
fn connections_are_there_before_the_first_miss() {
    let rig = Rig::with("pool = { max = 6, min = 4 }", ROUTES, &["--workers", "2"]);
    until("the pool's min", || rig.figures().get("source_main_pool.idle") == 4);
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    assert_eq!(rig.figures().get("source_main_pool.connects"), 4, "the miss needed none of its own");
}

#[test]
fn a_wrong_password_is_told_without_the_password() {
    let mut postgres = Postgres::start();
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'right-s3cret'; CREATE TABLE t (id int); GRANT SELECT ON t TO app");
    let file = postgres.sql("SHOW hba_file");
    let lines = "VALUES ('local all all trust'), ('host all app 127.0.0.1/32 scram-sha-256')";
    postgres.sql(&format!("COPY ({lines}) TO '{file}'"));
    postgres.restart();
    let url = format!("postgres://app:wrong-s3cret@127.0.0.1:{}/postgres", postgres.port());
    let route = "[[route]]\nkey = 'user:{id}'\nquery = 'SELECT 1 AS one WHERE {id} = 1'\nttl = '1h'\n";
    let rig = Rig::over(postgres, &url, "", route, &["--workers", "1"]);
    let text = fails_in_time(&mut rig.client(), "GET user:1");
    assert_eq!(text, "TRYAGAIN route 'user:{id}': the database is down (SQLSTATE 28P01)");
    let log = rig.server.log();
    assert!(log.contains("password authentication failed for user \"app\""), "{log}");
    assert!(log.contains(&format!("127.0.0.1:{}", rig.postgres.port())), "the log names the database:\n{log}");
    assert!(!log.contains("s3cret"), "{log}");
    // The right one, changed in the database while the server runs.
    rig.postgres.sql("ALTER ROLE app PASSWORD 'wrong-s3cret'");
    until("the password to be right", || run(&mut rig.client(), "GET user:1") == Value::bulk(r#"{"one":1}"#));
}
