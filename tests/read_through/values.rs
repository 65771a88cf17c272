//! Which commands load a missing key, what they answer, and what it costs.

use super::rig::{ROUTES, Rig, error, run, until};
use crate::support::Value;

const ANN: &str = r#"{"id":1,"name":"Ann","email":"ann@example.com"}"#;

#[test]
fn a_key_that_was_never_set_is_its_row() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET user:1"), Value::bulk(ANN));
    assert_eq!(rig.queries(), 1);
    assert_eq!(run(&mut client, "GET user:1"), Value::bulk(ANN));
    assert_eq!(rig.queries(), 1, "the second GET is a hit");
    assert!((3_240..=3_600).contains(&run(&mut client, "TTL user:1").int()), "the route's ttl, less the jitter");
    assert_eq!(run(&mut client, "TYPE user:1"), Value::simple("string"));
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(1));
    // A NULL column is null in JSON; a string has no form for it.
    assert_eq!(run(&mut client, "GET user:2"), Value::bulk(r#"{"id":2,"name":"Bob","email":null}"#));
    assert_eq!(run(&mut client, "GET user:4"), Value::bulk(r#"{"id":4,"name":"Zoë \"Z\"","email":""}"#));
    assert_eq!(run(&mut client, "GET name:4"), Value::bulk("Zoë \"Z\""));
    assert!((80..=90).contains(&run(&mut client, "TTL name:4").int()));
    assert_eq!(run(&mut client, "GET name:3"), Value::Nil);
    // A value of one's own hides the row, and is the cache's alone.
    assert_eq!(run(&mut client, "SET user:5 mine"), Value::ok());
    assert_eq!(run(&mut client, "GET user:5"), Value::bulk("mine"));
    assert_eq!(run(&mut client, "TTL user:5"), Value::Int(-1));
}

#[test]
fn commands_that_read_the_value_load_and_those_that_look_at_the_cache_do_not() {
    let rig = Rig::start();
    let mut client = rig.client();
    for look in [
        "EXISTS user:1",
        "TTL user:1",
        "PTTL user:1",
        "EXPIRETIME user:1",
        "TYPE user:1",
        "OBJECT ENCODING user:1",
        "TOUCH user:1",
        "MEMORY USAGE user:1",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "EXPIRE user:1 100",
        "PERSIST user:1",
        "RENAMENX other user:1",
        "COPY user:1 other",
        "DEL user:1 user:2",
        "UNLINK user:1",
        "SET user:1 x XX",
        "SETNX user:2 x",
        "MSET user:3 x user:4 x",
        "MSETNX user:3 x user:5 x",
        "SETEX user:6 100 x",
        "DELIFEQ user:1 x",
    ] {
        run(&mut client, look);
        assert_eq!(rig.figures().get("source_main.loads"), 0, "{look} loaded");
    }
    run(&mut client, "FLUSHALL");
    // The reply, and how many queries it took.
    let cases = [
        ("GETEX user:1 EX 50", Value::bulk(ANN), 1),
        ("STRLEN name:1", Value::Int(3), 1),
        ("GETRANGE name:2 1 -1", Value::bulk("ob"), 1),
        ("SUBSTR name:4 0 2", Value::bulk(&"Zo\u{eb}".as_bytes()[..3]), 1),
        ("LCS name:5 name:6", Value::bulk("user "), 1),
        ("GET name:7", Value::bulk("user 7"), 1),
        ("STRLEN user:1000", Value::Int(0), 1),
        ("GETRANGE user:1001 0 -1", Value::bulk(""), 1),
    ];
    for (line, reply, queries) in cases {
        let before = rig.queries();
        assert_eq!(run(&mut client, line), reply, "{line}");
        assert_eq!(run(&mut client, line), reply, "{line} again");
        assert_eq!(rig.queries() - before, queries, "{line}");
    }
    assert!((40..=50).contains(&run(&mut client, "TTL user:1").int()), "GETEX sets its own TTL");
}

#[test]
fn mget_mixes_hits_rows_absent_rows_and_unrouted_keys() {
    let rig = Rig::start();
    let mut client = rig.client();
    run(&mut client, "SET plain value");
    run(&mut client, "GET name:2");
    let all = "MGET name:1 plain nothing name:2 user:1000 name:1 user:x name:9";
    let expected = Value::Array(vec![
        Value::bulk("Ann"),
        Value::bulk("value"),
        Value::Nil,
        Value::bulk("Bob"),
        Value::Nil,
        Value::bulk("Ann"),
        Value::Nil,
        Value::bulk("user 9"),
    ]);
    assert_eq!(run(&mut client, all), expected);
    assert_eq!(rig.queries(), 3, "name:2 before, user:1000, and both of name:1 and name:9");
    assert_eq!(run(&mut client, all), expected);
    assert_eq!(rig.queries(), 3);
    // More keys than dispatch takes in one go.
    let keys: Vec<String> = (1..=99).map(|id| format!("user:{id}")).collect();
    let mget: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    let replies = client.cmd(&mget);
    assert_eq!(replies.items().len(), 99);
    for (id, value) in (1..).zip(replies.items()) {
        assert!(value.text().is_some_and(|text| text.starts_with(&format!("{{\"id\":{id},"))), "{id}: {value:?}");
    }
}

#[test]
fn an_absent_row_is_remembered_and_hidden() {
    let routes = format!(
        "{ROUTES}\n[[route]]\nkey = 'brief:{{id}}'\nquery = 'SELECT name FROM users WHERE id = {{id}}'\n\
         as = 'string'\nttl = '1h'\nnegative_ttl = '50ms'\n\
         [[route]]\nkey = 'never:{{id}}'\nquery = 'SELECT name FROM users WHERE id = {{id}}'\n\
         as = 'string'\nttl = '1h'\nnegative_ttl = '0s'\n"
    );
    let rig = Rig::with("", &routes, &["--workers", "1"]);
    let mut client = rig.client();
    for _ in 0..3 {
        assert_eq!(run(&mut client, "GET user:1000"), Value::Nil);
    }
    assert_eq!((rig.queries(), rig.figures().get("readthrough_absent_keys")), (1, 1), "asked once, then known");
    assert_eq!(run(&mut client, "EXISTS user:1000"), Value::Int(0));
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(0));
    assert_eq!(run(&mut client, "TYPE user:1000"), Value::simple("none"));
    assert_eq!(run(&mut client, "SCAN 0 COUNT 1000").items()[1], Value::Array(vec![]));
    // What clears it: its own SET, and DEL. EXPIRE into the past is a DEL.
    assert_eq!(run(&mut client, "SET user:1000 mine"), Value::ok());
    assert_eq!(run(&mut client, "GET user:1000"), Value::bulk("mine"));
    rig.postgres.sql("INSERT INTO users VALUES (1000, 'New', NULL)");
    for (id, clear) in [(1000, "DEL"), (1001, "DEL"), (1002, "UNLINK"), (1003, "EXPIRE"), (1004, "FLUSHALL")] {
        if id > 1000 {
            assert_eq!(run(&mut client, &format!("GET user:{id}")), Value::Nil);
            rig.postgres.sql(&format!("INSERT INTO users VALUES ({id}, 'New', NULL)"));
            assert_eq!(run(&mut client, &format!("GET user:{id}")), Value::Nil, "still known to be absent");
        }
        let line = match clear {
            "FLUSHALL" => clear.to_owned(),
            "EXPIRE" => format!("EXPIRE user:{id} 0"),
            _ => format!("{clear} user:{id}"),
        };
        run(&mut client, &line);
        let row = format!(r#"{{"id":{id},"name":"New","email":null}}"#);
        assert_eq!(run(&mut client, &format!("GET user:{id}")), Value::bulk(row), "after {line}");
    }
    // It ends by itself after negative_ttl; without one it is not remembered at all.
    assert_eq!(run(&mut client, "GET brief:2000"), Value::Nil);
    assert_eq!(run(&mut client, "GET never:2000"), Value::Nil);
    rig.postgres.sql("INSERT INTO users VALUES (2000, 'Late', NULL)");
    assert_eq!(run(&mut client, "GET never:2000"), Value::bulk("Late"));
    until("negative_ttl to end", || run(&mut client, "GET brief:2000") == Value::bulk("Late"));
}

#[test]
fn only_canonical_text_of_a_parameter_is_a_key_of_its_row() {
    let typed = |name: &str, ty: &str| {
        format!(
            "[[route]]\nkey = '{name}:{{v}}'\nquery = \"SELECT 'is ' || {{v}}::{ty}::text\"\nas = 'string'\nttl = '1h'\n"
        )
    };
    let types = ["int4", "int8", "uuid", "bool", "date"].map(|ty| typed(ty, ty)).concat();
    let pair = "[[route]]\nkey = 'pair:{a}:{b}'\nquery = 'SELECT {b}::text || {a}::int'\nas = 'string'\nttl = '1h'\n";
    let rig = Rig::with("", &format!("{ROUTES}{types}{pair}"), &["--workers", "1"]);
    let mut client = rig.client();
    let good = [
        ("int4:7", "is 7"),
        ("int4:-7", "is -7"),
        ("int8:9223372036854775807", "is 9223372036854775807"),
        ("uuid:0b0e7e1c-7f3a-4c1e-9d5f-0123456789ab", "is 0b0e7e1c-7f3a-4c1e-9d5f-0123456789ab"),
        ("bool:true", "is true"),
        ("date:2024-02-29", "is 2024-02-29"),
        ("pair:1:x", "x1"),
    ];
    for (key, value) in good {
        assert_eq!(client.cmd(&["GET", key]), Value::bulk(value), "{key}");
    }
    let before = rig.figures();
    let (loads, queries) = (before.get("source_main.loads"), before.get("source_main.queries"));
    let bad = [
        "int4:007",
        "int4:+7",
        "int4: 7",
        "int4:7 ",
        "int4:abc",
        "int4:2147483648",
        "int4:-0",
        "int8:9223372036854775808",
        "uuid:0B0E7E1C-7F3A-4C1E-9D5F-0123456789AB",
        "uuid:{0b0e7e1c-7f3a-4c1e-9d5f-0123456789ab}",
        "date:2024-2-29",
        "bool:TRUE",
        "pair:01:x",
    ];
    for key in bad {
        assert_eq!(client.cmd(&["GET", key]), Value::Nil, "{key}");
    }
    let after = rig.figures();
    assert_eq!(after.get("source_main.loads") - loads, bad.len() as i64);
    assert_eq!(after.get("source_main.queries") - queries, 0, "a key that can name no row costs no query");
    assert_eq!(after.get("source_main.unparsable"), bad.len() as i64);
    // What Postgres would run is a value to it.
    rig.postgres.sql("INSERT INTO texts VALUES ('hello''; DROP TABLE users; --', 'safe'), ('007', 'agent')");
    assert_eq!(client.cmd(&["GET", "text:hello'; DROP TABLE users; --"]), Value::bulk("safe"));
    assert_eq!(client.cmd(&["GET", "text:007"]), Value::bulk("agent"));
    assert_eq!(rig.postgres.sql("SELECT count(*) FROM users"), "99");
}

#[test]
fn other_databases_are_not_routed_unless_the_route_says_so() {
    let more = "[[route]]\nkey = 'everywhere:{id}'\nquery = 'SELECT name FROM users WHERE id = {id}'\nas = 'string'\n\
                ttl = '1h'\ndatabases = 'all'\n";
    let rig = Rig::with("", &format!("{ROUTES}{more}"), &["--workers", "1"]);
    let mut client = rig.client();
    run(&mut client, "SELECT 1");
    assert_eq!(run(&mut client, "GET user:1"), Value::Nil);
    assert_eq!(rig.figures().get("source_main.loads"), 0);
    assert_eq!(run(&mut client, "GET everywhere:1"), Value::bulk("Ann"));
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(1));
    run(&mut client, "SELECT 0");
    assert_eq!(run(&mut client, "DBSIZE"), Value::Int(0));
    assert_eq!(run(&mut client, "GET everywhere:1"), Value::bulk("Ann"));
    assert_eq!(rig.queries(), 2, "each database has its own copy");
}

#[test]
fn faults_of_a_query_are_one_line_that_tells_nothing_of_it() {
    let routes = r#"
        [[route]]
        key = "rows:{n}"
        query = "SELECT name FROM users WHERE id <= {n}"
        ttl = "1h"
        [[route]]
        key = "size:{n}"
        query = "SELECT repeat('x', {n}::int)"
        as = "string"
        ttl = "1h"
        max_value_bytes = 1000
        [[route]]
        name = "inverse of a number"
        key = "inverse:{n}"
        query = "SELECT 1 / {n}::int AS secret_column"
        ttl = "1h"
        [[route]]
        key = "gone:{n}"
        query = "SELECT * FROM nowhere WHERE id = {n}::int"
        ttl = "1h"
    "#;
    let rig = Rig::with("", &format!("{ROUTES}{routes}"), &["--workers", "1"]);
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET size:1000").text().map(|text| text.len()), Some(1000));
    assert_eq!(run(&mut client, "GET rows:1"), Value::bulk(r#"{"name":"Ann"}"#));
    let cases = [
        ("GET rows:2", "ERR route 'rows:{n}': the query returned more than one row"),
        ("GET size:1001", "ERR route 'size:{n}': the value is larger than max_value_bytes"),
        ("GET inverse:0", "ERR route 'inverse of a number': the query failed (SQLSTATE 22012)"),
        ("STRLEN inverse:0", "ERR route 'inverse of a number': the query failed (SQLSTATE 22012)"),
        ("APPEND inverse:0 x", "ERR route 'inverse of a number': the query failed (SQLSTATE 22012)"),
        ("MGET user:1 gone:7", "ERR route 'gone:{n}': the query failed (SQLSTATE 42P01)"),
    ];
    for (line, text) in cases {
        assert_eq!(error(run(&mut client, line)), text, "{line}");
        assert_eq!(run(&mut client, "GET user:1"), Value::bulk(ANN), "the next command is answered");
    }
    let figures = rig.figures();
    for (cause, count) in [("rows", 1), ("size", 1), ("sql", 4), ("down", 0)] {
        assert_eq!(figures.get(&format!("source_main_errors.{cause}")), count, "{cause}");
    }
    // Faults are not remembered: the next GET asks again.
    rig.postgres.sql("DELETE FROM users WHERE id = 2");
    assert_eq!(run(&mut client, "GET rows:2"), Value::bulk(r#"{"name":"Ann"}"#));
    assert_eq!(run(&mut client, "EXISTS inverse:0 gone:7 size:1001"), Value::Int(0));
}

#[test]
fn both_protocols_have_their_own_nil() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.try_cmd(&["GET", "user:1000"]).expect("a reply").raw, b"$-1\r\n");
    client.hello(3);
    assert_eq!(client.try_cmd(&["GET", "user:1000"]).expect("a reply").raw, b"_\r\n");
    assert_eq!(client.try_cmd(&["GET", "user:1001"]).expect("a reply").raw, b"_\r\n");
    assert_eq!(client.try_cmd(&["MGET", "user:1002", "name:1"]).expect("a reply").raw, b"*2\r\n_\r\n$3\r\nAnn\r\n");
    let row = client.try_cmd(&["GET", "user:1"]).expect("a reply").raw;
    assert_eq!(row, format!("${}\r\n{ANN}\r\n", ANN.len()).into_bytes());
}
