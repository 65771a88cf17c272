//! Tests of `routes`: what a routes file may hold, and how faults in it are told.

use super::fault::Fault;
use super::routes::*;
use super::source_config::{Backoff, PasswordFrom};
use std::time::Duration;

const SOURCE: &str = "[source.main]\nurl = 'postgres://a@h/d'\n";

fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    Config::parse("r.toml", text, None)
}

fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err(text).iter().map(ToString::to_string).collect()
}

/// The only fault of a file with one route, the fields of which start on line 4.
fn route_fault(fields: &str) -> String {
    let faults = faults(&format!("{SOURCE}[[route]]\n{fields}"));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn reads_a_file_with_defaults() {
    let text = format!("{SOURCE}[[route]]\nkey = 'user:{{id}}'\nquery = 'SELECT {{id}}::int'\nttl = '3s'\n");
    let config = parse(&text).unwrap();
    let source = &config.sources[0];
    assert_eq!((&*source.name, source.password.clone()), ("main", PasswordFrom::Environment));
    let pool = &source.pool;
    assert_eq!((pool.max, pool.min, pool.max_waiting), (20, 5, 10_000));
    assert_eq!((pool.idle_timeout, pool.connect_timeout), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!(pool.acquire_timeout, Duration::from_secs(10));
    let retry = (source.retry.max_attempts, source.retry.backoff, source.retry.initial_delay);
    assert_eq!(retry, (3, Backoff::Exponential, Duration::from_millis(100)));
    let route = &config.routes[0];
    assert_eq!((&*route.name, route.line, route.shape), ("user:{id}", 3, Shape::Json));
    assert_eq!((route.terms.ttl, route.terms.negative_ttl), (Duration::from_secs(3), Duration::from_secs(3)));
    assert_eq!((route.max_value_bytes, route.load_timeout), (1 << 20, Duration::from_secs(2)));
    assert_eq!(route.slow_query, Duration::from_millis(500));
    assert_eq!(route.databases, Databases::Some(vec![0]));
    assert!(config.warnings.is_empty());
    assert_eq!(parse("").unwrap().routes.len(), 0);
}

#[test]
fn reads_every_field() {
    let text = r#"
        [source.a]
        url = "postgres://a:x@h/d"
        password_file = "secret"
        pool = { max = 2, min = 1, idle_timeout = "1s", connect_timeout = "2s", acquire_timeout = "3s", max_waiting = 4 }
        retry = { max_attempts = 1, backoff = "constant", initial_delay = "1ms", max_delay = "2ms" }
        load_timeout = "500ms"
        [source.b]
        url = "postgres://b@h/d"
        password_env = "DB_PASSWORD"
        slow_query = "2s"
        [source.b.pool]
        max = 1
        [[route]]
        name = "users"
        key = "t:{t}:u:{u}"
        query = "SELECT 1 WHERE {u} = {t} AND {u} = 'x'"
        as = "string"
        ttl = "1h"
        negative_ttl = "0s"
        source = "b"
        max_value_bytes = 10
        databases = [3, 1]
        load_timeout = "6s"
    "#;
    let config = Config::parse("dir/r.toml", text, None).unwrap();
    assert_eq!(config.sources[0].password, PasswordFrom::File("dir/secret".into()));
    assert_eq!(config.sources[1].password, PasswordFrom::Variable("DB_PASSWORD".into()));
    assert_eq!((config.sources[1].pool.max, config.sources[1].pool.min), (1, 1));
    let route = &config.routes[0];
    assert_eq!((&*route.name, route.source, route.shape), ("users", 1, Shape::String));
    assert_eq!(route.captures, [1, 0], "$1 is u, $2 is t");
    assert_eq!(route.terms.negative_ttl, Duration::ZERO);
    assert_eq!(route.databases, Databases::Some(vec![1, 3]));
    assert_eq!(route.slow_query, Duration::from_secs(2), "the source's");
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].to_string().starts_with("dir/r.toml:14: route \"users\": load_timeout"));
}

#[test]
fn faults_name_the_line_and_the_cure() {
    let rest = "key = 'k:{a}'\nquery = 'SELECT {a}'\nttl = '1h'\n";
    for (fields, fault) in [
        (
            "key = 'k:{a}'\nqurey = 'SELECT {a}'\nquery = 'SELECT {a}'\nttl = '1h'",
            "r.toml:5: route \"k:{a}\" has no field \"qurey\"; did you mean \"query\"?",
        ),
        ("key = 'k:{a}'\nquery = 'SELECT {a}'", "r.toml:3: route \"k:{a}\" has no ttl; write one such as ttl = \"1h\""),
        ("key = 'k:{a'\nquery = 'SELECT {a}'\nttl = '1h'", "r.toml:4: route \"k:{a\": a \"{\" without its \"}\""),
        (
            "key = 'k:{a}'\nquery = 'DROP TABLE t'\nttl = '1h'",
            "r.toml:5: route \"k:{a}\": the query must be one SELECT",
        ),
        (
            "key = 'k:{a}'\nquery = 'SELECT {a}, {b}'\nttl = '1h'",
            "r.toml:5: route \"k:{a}\": the query uses {b}, but the key captures {a}",
        ),
        (
            "key = 'k:{a}:{b}'\nquery = 'SELECT {a}'\nttl = '1h'",
            "r.toml:5: route \"k:{a}:{b}\": the query does not use {b} of the key",
        ),
        (&format!("{rest}as = 'table'"), "r.toml:7: route \"k:{a}\": as must be one of \"json\", \"string\", \"hash\""),
        (
            &format!("{rest}as = 'list'\nrows = 'one'"),
            "r.toml:8: route \"k:{a}\": rows = \"one\" does not go with a list or a set",
        ),
        (&format!("{rest}as = 'xml'"), "r.toml:7: route \"k:{a}\": as must be"),
        (&format!("{rest}negative_ttl = 5"), "r.toml:7: route \"k:{a}\": negative_ttl must be a duration such as"),
        (
            &format!("{rest}max_value_bytes = 0"),
            "r.toml:7: route \"k:{a}\": max_value_bytes must be a whole number from 1",
        ),
        (
            &format!("{rest}databases = []"),
            "r.toml:7: route \"k:{a}\": databases must be a list such as [0, 1], or \"all\"",
        ),
        (&format!("{rest}source = 'x'"), "r.toml:7: route \"k:{a}\": there is no source \"x\"; the file has: main"),
        (&format!("{rest}name = \"a\\nb\""), "r.toml:7: route \"a\\nb\": its name must be printable"),
    ] {
        let found = route_fault(fields);
        assert!(found.starts_with(fault), "{found}\n{fault}");
    }
}

#[test]
fn reports_everything_at_once_in_the_files_order() {
    let text = "[sources]\n[source.main]\nurl = 'http://x'\npool = { max = 1, min = 2 }\nretry = { backoff = 'no' }\n\
                password_file = 'a'\npassword_env = 'b'\n[[route]]\n[[route]]\nkey = 7\nquery = ''\nttl = '0s'\n";
    let found = faults(text);
    let lines: Vec<&str> = found.iter().map(|fault| fault.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["1", "3", "4", "5", "6", "8", "8", "8", "10", "11", "12"], "{found:#?}");
}

#[test]
fn broken_toml_is_a_fault_with_its_line() {
    let found = faults("[source.main]\nurl = 'postgres://a:s3cret@h/d\n");
    assert!(found[0].starts_with("r.toml:2: "), "{found:?}");
    assert!(!found.concat().contains("s3cret"), "{found:?}");
    assert!(faults("route = 1")[0].contains("[[route]]"));
    assert!(faults("source = 1")[0].contains("[source.main]"));
    assert!(faults("source.x = 1")[0].contains("must be a table"));
}

fn two(first: &str, second: &str) -> String {
    let route = |fields: &str| format!("[[route]]\nquery = 'SELECT {{x}}'\nttl = '1s'\n{fields}\n");
    format!("{SOURCE}{}{}", route(first), route(second))
}

#[test]
fn overlaps_name_both_routes() {
    let found = faults(&two("key = 'u:{x}'", "key = '{x}:me'"));
    assert_eq!(found, ["r.toml:7: route \"{x}:me\" overlaps route \"u:{x}\" (line 3): both match the key \"u:me\""]);
    let found = faults(&two("key = 'a:{x}'\nname = 'n'", "key = 'b:{x}'\nname = 'n'"));
    assert_eq!(found, ["r.toml:8: route \"n\" has the name of the route on line 3"]);
    assert!(faults(&two("key = 'u:{x}'\ndatabases = 'all'\nname = 'n'", "key = 'u:{x}'"))[0].contains("overlaps"));
}

#[test]
fn routes_serve_their_databases() {
    let config = parse(&two("key = 'u:{x}'\nname = 'n'", "key = 'u:{x}'\ndatabases = [1, 2]")).unwrap();
    let routes = Routes::build(&config.routes).unwrap();
    let name = |database| routes.find(database, b"u:7").map(|(route, _)| route.name.to_string());
    assert_eq!(name(0).as_deref(), Some("n"));
    assert_eq!((name(1).as_deref(), name(2).as_deref()), (Some("u:{x}"), Some("u:{x}")));
    assert_eq!(name(3), None);
    let config = parse(&two("key = 'u:{x}'\ndatabases = 'all'", "key = 'v:{x}'")).unwrap();
    let routes = Routes::build(&config.routes).unwrap();
    assert!(routes.find(9, b"u:7").is_some() && routes.find(9, b"v:7").is_none());
    assert!(routes.find(0, b"u:7").is_some() && routes.find(0, b"v:7").is_some());
    let (route, captures) = routes.find(0, b"u:7").unwrap();
    assert_eq!((&*route.key.names()[0], captures.get(b"u:7", 0)), ("x", &b"7"[..]));
    assert!(Routes::default().find(0, b"u:7").is_none());
}
