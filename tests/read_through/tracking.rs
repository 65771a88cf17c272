//! Clients that keep copies hear of changes in the database: of what was loaded, of what was not there, and after a gap;
//! and what they were given but should not keep is taken back at once.

use super::rig::{Figures, ROUTES, Rig, run, until};
use crate::support::{Client, Value};
use crate::tracking::expect_nothing;

fn start(mode: &str) -> Rig {
    let rig = Rig::with(&format!("invalidate = '{mode}'"), ROUTES, &["--workers", "2"]);
    rig.set_up();
    until("the changes are heard", || state(&rig) == "in_step");
    rig
}

fn state(rig: &Rig) -> String {
    Figures::read(&mut rig.client(), "readthrough").text("source_main_changes.state")
}

fn tracking(rig: &Rig, options: &str) -> Client {
    crate::tracking::tracking(&rig.server, options)
}

/// Waits for a message, which names this key; None: which says that all copies are void.
#[track_caller]
fn expect(client: &mut Client, key: Option<&str>) {
    let push = client.read_reply().expect("a message").value;
    let items = push.items();
    assert_eq!(items[0].text().as_deref(), Some("invalidate"), "{push:?}");
    match key {
        Some(key) => assert_eq!(items[1].items(), [Value::bulk(key)]),
        None => assert_eq!(items[1], Value::Nil),
    }
}

#[test]
fn a_commit_is_told() {
    for mode in ["wal", "notify"] {
        let rig = start(mode);
        let (mut a, mut b, mut all) = (tracking(&rig, ""), tracking(&rig, ""), tracking(&rig, "BCAST PREFIX name:"));
        assert_eq!(run(&mut a, "GET name:1"), Value::bulk("Ann"));
        expect(&mut all, Some("name:1"));
        assert_eq!(run(&mut b, "GET name:1"), Value::bulk("Ann"));
        assert_eq!(run(&mut a, "GET name:2"), Value::bulk("Bob"));
        expect(&mut all, Some("name:2"));
        // A load that somebody else waits for is no change of what is there.
        expect_nothing(&mut a);
        rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
        [&mut a, &mut b, &mut all].into_iter().for_each(|client| expect(client, Some("name:1")));
        assert_eq!(run(&mut a, "GET name:1"), Value::bulk("Eve"));
        // What is not there is kept as well, until it is.
        assert_eq!(run(&mut b, "GET user:500"), Value::Nil);
        expect_nothing(&mut b);
        rig.postgres.sql("INSERT INTO users VALUES (500, 'New')");
        expect(&mut b, Some("user:500"));
        assert_eq!(run(&mut b, "GET user:500").text().map(|text| text.contains("New")), Some(true));
        // In a transaction, and by several commands at once.
        run(&mut a, "MULTI");
        run(&mut a, "GET name:7");
        assert_eq!(run(&mut a, "EXEC").items(), [Value::bulk("user 7")]);
        assert_eq!(run(&mut a, "MGET name:8 name:9").items().len(), 2);
        rig.postgres.sql("UPDATE users SET name = 'x' WHERE id = 7; UPDATE users SET name = 'x' WHERE id = 9");
        expect(&mut a, Some("name:7"));
        expect(&mut a, Some("name:9"));
    }
}

/// The changes that were missed are nobody's news: copies of the route's keys are void all at once, others stay.
#[test]
fn a_gap_voids_the_copies_of_its_routes() {
    let rig = start("wal");
    let (mut a, mut all) = (tracking(&rig, ""), tracking(&rig, "BCAST PREFIX name:1"));
    let mut others = tracking(&rig, "BCAST PREFIX other:");
    run(&mut a, "SET other:1 x");
    assert_eq!(run(&mut a, "GET other:1"), Value::bulk("x"));
    expect(&mut others, Some("other:1"));
    assert_eq!(run(&mut a, "GET name:1"), Value::bulk("Ann"));
    expect(&mut all, Some("name:1"));
    rig.postgres.sql("TRUNCATE users");
    expect(&mut a, Some("name:1"));
    expect(&mut all, None);
    expect_nothing(&mut others);
    run(&mut others, "SET other:1 y");
    expect(&mut a, Some("other:1"));
}

/// A load that began before a change brings the old row after it. Whoever waited for it is answered, but the change has
/// been told already: a client that kept the answer would keep the old row until the next change.
#[test]
fn what_a_change_overtook_is_taken_back_behind_its_reply() {
    let rig = Rig::start();
    for options in ["", "BCAST PREFIX gated:", "OPTOUT NOLOOP"] {
        let (mut a, mut b) = (tracking(&rig, options), rig.client());
        let gate = rig.shut_gate();
        a.send(&["GET", "gated:1"]).unwrap();
        rig.wait_for_loads(1);
        run(&mut b, "DEL gated:1");
        gate.open();
        assert_eq!(a.read_reply().unwrap().value, Value::bulk("Ann"), "{options}");
        expect(&mut a, Some("gated:1"));
        // The next load is kept, and so may its answer be.
        assert_eq!(run(&mut b, "GET gated:1"), Value::bulk("Ann"));
        if options.starts_with("BCAST") {
            expect(&mut a, Some("gated:1"));
        }
        assert_eq!(run(&mut a, "GET gated:1"), Value::bulk("Ann"));
        expect_nothing(&mut a);
        run(&mut b, "DEL gated:1");
        expect(&mut a, Some("gated:1"));
    }
}

/// What is served stale is loaded anew meanwhile, if somebody asks: who keeps it would not.
#[test]
fn what_is_served_stale_is_not_kept() {
    let route = r#"
        [[route]]
        key = "brief:{id}"
        query = "SELECT name FROM users WHERE id = {id}"
        as = "string"
        ttl = "300ms"
        stale_while_revalidate = "1h"
    "#;
    let rig = Rig::with("", &format!("{ROUTES}{route}"), &["--workers", "1"]);
    let mut a = tracking(&rig, "");
    assert_eq!(run(&mut a, "GET brief:1"), Value::bulk("Ann"));
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    let mut told = false;
    until("the new value", || {
        a.send(&["GET", "brief:1"]).unwrap();
        loop {
            match a.read_reply().unwrap().value {
                Value::Push(_) => told = true,
                value => break value == Value::bulk("Eve"),
            }
        }
    });
    assert!(told, "the first value was void when it was given");
}

#[test]
fn a_refresh_by_hand_is_told() {
    let rig = Rig::start();
    let mut a = tracking(&rig, "");
    assert_eq!(run(&mut a, "GET name:1"), Value::bulk("Ann"));
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    assert_eq!(run(&mut rig.client(), "ROUTE REFRESH name:1"), Value::Int(1));
    expect(&mut a, Some("name:1"));
    assert_eq!(run(&mut a, "GET name:1"), Value::bulk("Eve"));
}
