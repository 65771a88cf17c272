//! `cenote check FILE`, and what the server itself says of a routes file that is wrong.

use std::process::Command;

use crate::support::{Postgres, Server, TempDir, cenote_program};

/// A routes file for a database at `port`, and its path.
fn file(dir: &TempDir, port: u16, routes: &str) -> String {
    let path = dir.path().join("routes.toml");
    let text = format!("[source.main]\nurl = \"postgres://postgres:s3cret@127.0.0.1:{port}/postgres\"\n{routes}");
    std::fs::write(&path, text).expect("the routes file can be written");
    path.display().to_string()
}

/// Runs the check; all it printed, and its exit code.
fn check(args: &[&str]) -> (String, i32) {
    let output = Command::new(cenote_program()).arg("check").args(args).output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert!(!text.contains("s3cret"), "{text}");
    (text, output.status.code().expect("it ends by itself"))
}

const GOOD: &str = r#"
[[route]]
key = "user:{id}"
query = "SELECT id, name, born FROM users WHERE id = {id}"
ttl = "1h"

[[route]]
name = "names by two"
key = "name:{id}:{name}"
query = "SELECT email FROM users WHERE id = {id} AND name = {name}"
as = "string"
ttl = "90s"
databases = [0, 3]
"#;

#[test]
fn a_good_file_passes_and_shows_types_and_columns() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE users (id bigint PRIMARY KEY, name varchar(20), email text, born date)");
    let dir = TempDir::new("check");
    let path = file(&dir, postgres.port(), GOOD);
    let (text, code) = check(&[&path]);
    assert_eq!(code, 0, "{text}");
    let parts = [
        "connected",
        &format!("route user:{{id}} ({path}:4)"),
        "id int8",
        "id int8, name varchar, born date",
        "names by two",
        "id int8, name text",
        "email text",
        "as string, ttl 90s",
        "0, 3",
        "2 routes, no faults",
    ];
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    // Another database in the place of the file's.
    let other = postgres.url();
    std::fs::write(
        dir.path().join("routes.toml"),
        format!("[source.main]\nurl = 'postgres://a@127.0.0.1:1/d'\n{GOOD}"),
    )
    .expect("written");
    assert_eq!(check(&[&path, "--url", &other]).1, 0);
}

/// What is wrong in the fields of a route, and what the report says of its line. The route's header is on line 3.
const FAULTS: &[(&str, &str)] = &[
    // What the file alone shows.
    ("qurey = 'x'\nkey = 'k:{a}'\nttl = '1h'", "4: route \"k:{a}\" has no field \"qurey\"; did you mean \"query\"?"),
    ("key = 'k:{a}'\nquery = 'SELECT {a}'", "3: route \"k:{a}\" has no ttl"),
    ("key = 'k:{a'\nquery = 'SELECT 1'\nttl = '1h'", "4: route \"k:{a\": "),
    ("key = 'k:{a}'\nquery = 'DELETE FROM users'\nttl = '1h'", "5: route \"k:{a}\": the query must be one SELECT"),
    ("key = 'k:{a}'\nquery = 'SELECT {b}'\nttl = '1h'", "5: route \"k:{a}\": the query"),
    ("key = 'k:{a}'\nquery = 'SELECT {a}'\nttl = 'soon'", "6: route \"k:{a}\": ttl must be a duration"),
    ("key = 'k:{a}'\nquery = 'SELECT {a}'\nttl = '1h'\nas = 'table'", "7: route \"k:{a}\": as must be"),
    ("key = 'k:{a}'\nquery = \"SELECT", "5: "),
    // What only the database can tell.
    ("key = 'k:{a}'\nquery = 'SELECT id FROM nowhere WHERE id = {a}'\nttl = '1h'", "3: relation \"nowhere\" does not"),
    ("key = 'k:{a}'\nquery = 'SELECT id FROM users WHERE height = {a}'\nttl = '1h'", "3: column \"height\" does not"),
    ("key = 'k:{a}'\nquery = 'SELEC {a}'\nttl = '1h'", "5: route \"k:{a}\": the query must be one SELECT"),
    ("key = 'k:{a}'\nquery = 'SELECT id id FROM users users WHERE WHERE id = {a}'\nttl = '1h'", "3: syntax error"),
    (
        "key = 'k:{a}'\nquery = 'SELECT id, name FROM users WHERE id = {a}'\nas = 'string'\nttl = '1h'",
        "3: as = \"string\" takes one column, the query returns 2",
    ),
    (
        "key = 'k:{a}'\nquery = 'SELECT id, name FROM users WHERE id = {a}'\nas = 'list'\nttl = '1h'",
        "3: as = \"list\" takes one column, the query returns 2",
    ),
    (
        "key = 'k:{a}'\nquery = 'SELECT id FROM users WHERE id = {a}'\nas = 'hash'\nrows = 'many'\nttl = '1h'",
        "3: as = \"hash\" takes two columns (field, value) of many rows, the query returns 1",
    ),
    (
        "key = 'k:{a}'\nquery = 'SELECT id, name FROM users WHERE id = {a}'\nas = 'zset'\nttl = '1h'",
        "3: as = \"zset\" takes its scores from a column of numbers; \"name\" is of type text",
    ),
    (
        "key = 'k:{a}'\nquery = 'SELECT id, id FROM users WHERE id = {a}'\nas = 'hash'\nttl = '1h'",
        "3: the query returns two columns named \"id\"",
    ),
    (
        "key = 'k:{a}'\nquery = 'SELECT id, id FROM users WHERE id = {a}'\nttl = '1h'",
        "3: the query returns two columns named \"id\"",
    ),
];

#[test]
fn each_fault_is_told_with_its_line() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text)");
    let dir = TempDir::new("check");
    for (fields, fault) in FAULTS {
        let path = file(&dir, postgres.port(), &format!("[[route]]\n{fields}\n"));
        let (text, code) = check(&[&path]);
        assert_eq!(code, 1, "{fields}\n{text}");
        assert!(text.contains(&format!("{path}:{fault}")), "no {fault:?} in\n{text}");
        assert!(text.contains("1 fault") || text.contains(" faults"), "{text}");
    }
    let (text, code) = check(&["/nowhere/routes.toml"]);
    assert!(code == 1 && text.contains("/nowhere/routes.toml: cannot be read"), "{text}");
}

#[test]
fn without_a_database_it_says_what_it_could_not_check() {
    let dir = TempDir::new("check");
    let path = file(&dir, 1, GOOD);
    let (text, code) = check(&[&path]);
    assert_eq!(code, 0, "{text}");
    for part in ["cannot connect", "not checked", "the queries of 2 routes"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let (text, code) = check(&[&path, "--url", "postgres://a@127.0.0.1:1/d"]);
    assert_eq!(code, 1, "a database that was named must answer: {text}");
    // What the file alone shows is a fault without a database, too.
    let path = file(&dir, 1, &GOOD.replace("ttl", "tll"));
    let (text, code) = check(&[&path]);
    assert!(code == 1 && text.contains("did you mean \"ttl\"?"), "{text}");
    assert_ne!(check(&[]).1, 0, "the file is missing");
}

#[test]
fn the_server_does_not_start_with_a_routes_file_that_is_wrong() {
    let dir = TempDir::new("check");
    let path = file(&dir, 1, "[[route]]\nkey = 'k:{a}'\nqurey = 'SELECT {a}'\nttl = '1h'\n[[route]]\nkey = 7\n");
    let (status, text) = Server::cenote().args(["--routes", &path]).start_and_fail();
    assert_eq!(status.code(), Some(2), "{text}");
    for part in [":5: route \"k:{a}\" has no field \"qurey\"; did you mean \"query\"?", ":8: "] {
        assert!(text.contains(&format!("{path}{part}")), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    let (status, text) = Server::cenote().args(["--routes", "/nowhere/routes.toml"]).start_and_fail();
    assert!(!status.success() && text.contains("/nowhere/routes.toml"), "{text}");
}
