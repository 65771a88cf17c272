//! Loads from a real Postgres: values, parameters, errors, deadlines, and what happens when the server goes away.

use super::testdb::{Server, ask, load, server, value};
use super::{Cause, Config, LoadError, Loaded, Sources};
use std::sync::Arc;
use std::time::Duration;

fn route(key: &str, query: &str, more: &str) -> String {
    format!("[[route]]\nkey = '{key}'\nquery = '''{query}'''\nttl = '1h'\n{more}\n")
}

async fn cause(sources: &Sources, key: &str) -> Cause {
    load(sources, key).await.expect_err(key).cause
}

#[tokio::test]
async fn loads_rows_as_json_and_string() {
    let server = server();
    server.sql("CREATE TABLE people (id int PRIMARY KEY, name text, email text, photo bytea)");
    server.sql("INSERT INTO people VALUES (7, 'Ada', 'a@x', '\\x00ff'), (8, 'Bob', NULL, NULL)");
    let routes = [
        route("user:{id}", "SELECT id, name, email FROM people WHERE id = {id}; -- one", ""),
        route("mail:{id}", "SELECT email FROM people WHERE id = {id}", "as = 'string'"),
        route("photo:{id}", "SELECT photo FROM people WHERE id = {id}", "as = 'string'"),
        route(
            "named:{n}:{id}",
            "SELECT id FROM people WHERE id = {id} AND (name = {n} OR {n} = 'any')",
            "as = 'string'",
        ),
        route("all", "SELECT count(*) FROM people", "as = 'string'"),
    ];
    let sources = server.sources(&routes.concat());
    assert_eq!(value(&sources, "user:7").await.unwrap(), r#"{"id":7,"name":"Ada","email":"a@x"}"#);
    assert_eq!(value(&sources, "user:8").await.unwrap(), r#"{"id":8,"name":"Bob","email":null}"#);
    assert_eq!(value(&sources, "user:9").await, None);
    assert_eq!(value(&sources, "mail:7").await.unwrap(), "a@x");
    assert_eq!(value(&sources, "mail:8").await, None, "NULL has no form as a string");
    assert_eq!(load(&sources, "photo:7").await, Ok(Loaded::Value(vec![0, 255].into())));
    assert_eq!(value(&sources, "named:Ada:7").await.unwrap(), "7");
    assert_eq!(value(&sources, "named:any:8").await.unwrap(), "8");
    assert_eq!(value(&sources, "named:Ada:8").await, None);
    assert_eq!(value(&sources, "all").await.unwrap(), "2");
    let queries = sources.snapshots()[0].queries;
    for odd in ["user:abc", "user:007", "user:+7", "user: 7", "user:99999999999", "user:7\u{0}"] {
        assert_eq!(value(&sources, odd).await, None, "{odd}");
    }
    let after = &sources.snapshots()[0];
    assert_eq!((after.queries, after.unparsable), (queries, 6), "no query for what cannot be a row");
    assert_eq!((after.pool.connects, after.pool.size, after.pool.idle), (1, 1, 1));
    assert_eq!(after.query_time.count(), queries);
}

/// Every type in JSON; `column` is an SQL expression.
async fn shown(column: &str) -> String {
    let routes = [
        route("json:{k}", &format!("SELECT {column} AS v, {{k}}::text AS k"), ""),
        route("text:{k}", &format!("SELECT {column} AS v WHERE {{k}}::text <> ''"), "as = 'string'"),
    ];
    let sources = server().sources(&routes.concat());
    let json = value(&sources, "json:x").await.unwrap();
    let text = load(&sources, "text:x").await.unwrap();
    let json = json.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix(",\"k\":\"x\"}")).unwrap().to_owned();
    let Loaded::Value(text) = text else { return json };
    // A string is its JSON form without the quotes, but for bytea.
    if let Ok(plain) = serde_json::from_str::<String>(&json)
        && !column.contains("bytea")
    {
        assert_eq!(plain.as_bytes(), text, "{column}");
    } else if !json.starts_with('"') {
        assert_eq!(json.as_bytes(), text, "{column}");
    }
    json
}

/// Values as SQL, and their JSON.
const TEXTS: &[(&str, &str)] = &[
    ("true", "true"),
    ("7::int2", "7"),
    ("'-9223372036854775808'::int8", "-9223372036854775808"),
    ("4294967295::oid", "4294967295"),
    ("1.5::float4", "1.5"),
    ("1e20::float8", "1e+20"),
    ("'NaN'::float8", "\"NaN\""),
    ("12345678901234567890.1200::numeric", "12345678901234567890.1200"),
    ("'Infinity'::numeric", "\"Infinity\""),
    ("'a\"\\b'", r#""a\"\\b""#),
    ("'x '::char(3)", "\"x  \""),
    ("'n'::name", "\"n\""),
    ("'c'::\"char\"", "\"c\""),
    ("NULL::text", "null"),
    ("NULL", "null"),
    ("'{\"a\": [1, 2]}'::json", "{\"a\": [1, 2]}"),
    ("'{\"a\":[1,2]}'::jsonb", "{\"a\": [1, 2]}"),
    ("'\\x00ff10'::bytea", "\"AP8Q\""),
    ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
    ("'2026-11-24 04:15:00.5+01'::timestamptz", "\"2026-11-24T03:15:00.5Z\""),
    ("'2026-11-24 04:15:00'::timestamp", "\"2026-11-24T04:15:00\""),
    ("'infinity'::timestamptz", "\"infinity\""),
    ("'0044-03-15 BC'::date", "\"0044-03-15 BC\""),
    ("'24:00'::time", "\"24:00:00\""),
    ("'04:05:06.789-08:30'::timetz", "\"04:05:06.789-08:30\""),
    ("'1 year 2 mons -3 days 04:05:06.7'::interval", "\"P1Y2M-3DT4H5M6.7S\""),
    ("'10.1.0.0/16'::cidr", "\"10.1.0.0/16\""),
    ("'10.1.0.1'::inet", "\"10.1.0.1\""),
    ("'2001:db8::1/64'::inet", "\"2001:db8::1/64\""),
    ("'08:00:2b:01:02:03'::macaddr", "\"08:00:2b:01:02:03\""),
    ("'so \"so\"'::mood", r#""so \"so\"""#),
    ("4::even", "4"),
    ("ARRAY[1,NULL,3]", "[1,null,3]"),
    ("ARRAY[['a','b'],['c','\"']]", r#"[["a","b"],["c","\""]]"#),
    ("'{}'::timestamptz[]", "[]"),
    ("ARRAY['sad']::mood[]", "[\"sad\"]"),
    ("ARRAY['sad']::moods", "[\"sad\"]"),
    // Without a form of their own: what ::text shows.
    ("'(1,2)'::point", "\"(1,2)\""),
    ("'(1,2)'::place", "\"(1,2)\""),
    ("ARRAY['(1,2)']::point[]", "[\"(1,2)\"]"),
    ("'[1,5)'::int4range", "\"[1,5)\""),
    ("ROW(1,'x y')::pair", r#""(1,\"x y\")""#),
    ("ARRAY[ROW(1,'x')::pair]", "[\"(1,x)\"]"),
    ("ROW(1,NULL)", "\"(1,)\""),
    ("B'101'", "\"101\""),
    ("'a & b'::tsquery", "\"'a' & 'b'\""),
    ("'<a/>'::xml", "\"<a/>\""),
    ("'1 2'::int2vector", "[1,2]"),
    ("'pg_class'::regclass", "\"pg_class\""),
    ("false", "false"),
    ("'NaN'::numeric", "\"NaN\""),
    ("'-Infinity'::numeric", "\"-Infinity\""),
    ("-0.00::numeric", "0.00"),
    ("'-Infinity'::float4", "\"-Infinity\""),
    ("'-0'::float8", "-0"),
    ("'é'::varchar(5)", "\"é\""),
    ("''::text", "\"\""),
    ("'\\x'::bytea", "\"\""),
    ("'2026-11-24'::date", "\"2026-11-24\""),
    ("'-infinity'::date", "\"-infinity\""),
    ("'04:05:06'::time", "\"04:05:06\""),
    ("'2026-07-01 12:00:00'::timestamp AT TIME ZONE 'Europe/Berlin'", "\"2026-07-01T10:00:00Z\""),
    ("'0'::interval", "\"PT0S\""),
    ("'1 day'::interval", "\"P1D\""),
    ("'-1 days -02:03:04'::interval", "\"P-1DT-2H-3M-4S\""),
    ("'08:00:2b:01:02:03:04:05'::macaddr8", "\"08:00:2b:01:02:03:04:05\""),
    ("'[1, {\"a\": null}]'::jsonb", "[1, {\"a\": null}]"),
    ("'null'::jsonb", "null"),
    ("ARRAY[[1,2],[3,NULL]]", "[[1,2],[3,null]]"),
    ("ARRAY[ARRAY[ARRAY[1]]]", "[[[1]]]"),
    ("'[0:1]={1,2}'::int[]", "[1,2]"),
    ("ARRAY[NULL]::int8[]", "[null]"),
    ("ARRAY[true,false]", "[true,false]"),
    ("ARRAY[1.50,NULL]", "[1.50,null]"),
    ("ARRAY['\\x00ff'::bytea]", "[\"AP8=\"]"),
    ("ARRAY['{\"a\":1}'::jsonb, 'null']", "[{\"a\": 1},null]"),
    ("ARRAY['2026-11-24 04:15:00+00'::timestamptz]", "[\"2026-11-24T04:15:00Z\"]"),
    ("ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]", "[\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"]"),
    ("ARRAY[4::even]", "[4]"),
    ("ARRAY['NaN'::float8]", "[\"NaN\"]"),
    ("'12.34'::money", "\"$12.34\""),
    ("'fat cat'::tsvector", "\"'cat' 'fat'\""),
    ("'1'::bit(1)", "\"1\""),
    ("'101'::varbit", "\"101\""),
    ("'[(0,0),(1,1)]'::lseg", "\"[(0,0),(1,1)]\""),
    ("'(1,1),(0,0)'::box", "\"(1,1),(0,0)\""),
    ("'((0,0),(1,1))'::path", "\"((0,0),(1,1))\""),
    ("'((0,0),(1,1))'::polygon", "\"((0,0),(1,1))\""),
    ("'<(0,0),1>'::circle", "\"<(0,0),1>\""),
    ("'{1,2,3}'::line", "\"{1,2,3}\""),
    ("'[2026-01-01,2026-02-01)'::daterange", "\"[2026-01-01,2026-02-01)\""),
    ("'[1.5,2.5]'::numrange", "\"[1.5,2.5]\""),
    ("'empty'::int8range", "\"empty\""),
    ("'[2026-01-01,)'::tstzrange", r#""[\"2026-01-01 00:00:00+00\",)""#),
    ("'{[1,3),[5,7)}'::int4multirange", "\"{[1,3),[5,7)}\""),
    ("ARRAY[int4range(1,5), NULL]", "[\"[1,5)\",null]"),
    ("'0/16B3748'::pg_lsn", "\"0/16B3748\""),
    ("'$.a'::jsonpath", r#""$.\"a\"""#),
    ("'10:20:10,14'::pg_snapshot", "\"10:20:10,14\""),
    ("'5'::xid8", "\"5\""),
    ("'(0,1)'::tid", "\"(0,1)\""),
];

#[tokio::test]
async fn every_type_has_its_text() {
    let server = server();
    server.sql("CREATE TYPE mood AS ENUM ('sad', 'so \"so\"'); CREATE DOMAIN even AS int CHECK (value % 2 = 0)");
    server.sql("CREATE TYPE pair AS (a int, b text); CREATE DOMAIN moods AS mood[]; CREATE DOMAIN place AS point");
    for (column, json) in TEXTS {
        assert_eq!(shown(column).await, *json, "{column}");
    }
}

/// All that Postgres knows of: none is refused, alone or in a list.
#[tokio::test]
async fn every_type_of_the_catalog_can_be_read() {
    let server = server();
    let types = "SELECT string_agg(format('NULL::%s AS t%s', format_type(oid, NULL), oid), ', ' ORDER BY oid) FROM pg_type \
                 WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND (typelem = 0 OR \
                 (SELECT typtype IN ('b', 'r', 'm') FROM pg_type e WHERE e.oid = pg_type.typelem))";
    let columns = server.sql(types);
    let number = columns.matches("NULL::").count();
    assert!(number > 100, "{number} types");
    let sources = server.sources(&route("all:{k}", &format!("SELECT {columns} WHERE {{k}} <> ''"), ""));
    let text = value(&sources, "all:x").await.unwrap();
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(fields.len() == number && fields.values().all(serde_json::Value::is_null), "{text}");
}

/// Numbers, dates and intervals must read as Postgres itself writes them.
#[tokio::test]
async fn texts_agree_with_postgres_on_many_values() {
    let server = server();
    let list = "SELECT json_agg(format('%s', v)) FROM";
    for (kind, values) in [
        ("float8", "(SELECT (random() - 0.5) * 10 ^ (i % 40 - 20) AS v FROM generate_series(1, 500) i) t"),
        ("float4", "(SELECT ((random() - 0.5) * 10 ^ (i % 40 - 20))::float4 AS v FROM generate_series(1, 500) i) t"),
        (
            "numeric",
            "(SELECT round((random() * 10 ^ (i % 30 - 15))::numeric, i % 12) AS v FROM generate_series(1, 500) i) t",
        ),
        ("date", "(SELECT '0001-01-01'::date + i * 7919 AS v FROM generate_series(-90, 500) i) t"),
        (
            "interval",
            "(SELECT make_interval(0, i % 31 - 15, 0, i % 7 - 3, 0, 0, (random() - 0.5) * 10 ^ (i % 6)) AS v \
                      FROM generate_series(1, 500) i) t",
        ),
        (
            "inet",
            "(SELECT set_masklen('::'::inet + (random() * 1e18)::int8, i % 129) AS v FROM generate_series(1, 200) i) t",
        ),
    ] {
        server.sql(&format!("CREATE TABLE many_{kind} AS SELECT row_number() OVER () AS n, v FROM {values}"));
        let expected =
            server.sql(&format!("SET intervalstyle = 'iso_8601'; {list} (SELECT * FROM many_{kind} ORDER BY n) o"));
        let expected: Vec<String> = serde_json::from_str(&expected).unwrap();
        let query = format!("SELECT array_agg(v ORDER BY n) AS v FROM many_{kind} WHERE {{k}} = 'x'");
        let sources = server.sources(&route(&format!("{kind}:{{k}}"), &query, ""));
        let text = value(&sources, &format!("{kind}:x")).await.unwrap();
        let items = text.trim_start_matches("{\"v\":[").trim_end_matches("]}");
        let items: Vec<&str> = items.split(',').map(|item| item.trim_matches('"')).collect();
        assert_eq!(items.len(), expected.len());
        for (item, expected) in items.into_iter().zip(&expected) {
            // Of a float there are several texts; the layout must be the same, and the value.
            let same = match kind {
                "float8" => item.parse::<f64>() == expected.parse() && item.contains('e') == expected.contains('e'),
                "float4" => item.parse::<f32>() == expected.parse() && item.contains('e') == expected.contains('e'),
                _ => item == expected,
            };
            assert!(same, "{kind} {item} {expected}");
        }
    }
}

#[tokio::test]
async fn parameters_take_one_text_for_one_value() {
    let server = server();
    server.sql("CREATE TYPE hue AS ENUM ('red'); CREATE DOMAIN age AS int CHECK (value >= 0)");
    for (ty, right, wrong) in [
        ("int8", vec!["7", "-7"], vec!["07", "x", "9223372036854775808"]),
        ("uuid", vec!["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], vec!["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        ("bool", vec!["true"], vec!["t"]),
        ("date", vec!["2026-11-24"], vec!["2026-11-31", "today"]),
        ("numeric", vec!["1.5"], vec!["1.50"]),
        ("text", vec!["x", " "], vec![]),
        ("hue", vec!["red"], vec!["blue", "RED"]),
        ("age", vec!["7"], vec!["-1", "07", "x"]),
        ("inet", vec!["10.0.0.1", "10.0.0.0/8"], vec!["10.0.0.1/32", "10", "x"]),
        ("float8", vec!["1.5", "0", "1e+20"], vec!["1.50", "-0", "1e20", "x"]),
        ("bytea", vec!["\\x00ff"], vec!["\\x00FF", "abc"]),
        ("macaddr", vec!["0800.2b01"], vec![]),
        ("timestamp", vec!["infinity"], vec!["yesterday", "2026-11-24"]),
    ] {
        let key = format!("{ty}:{{v:*}}");
        let sources = server.sources(&route(&key, &format!("SELECT 1 AS one WHERE {{v}}::{ty} IS NOT NULL"), ""));
        for text in wrong {
            assert_eq!(value(&sources, &format!("{ty}:{text}")).await, None, "{ty} {text}");
        }
        if ty != "macaddr" {
            for text in right {
                assert!(value(&sources, &format!("{ty}:{text}")).await.is_some(), "{ty} {text}");
            }
        }
    }
    let sources = server.sources(&route("span:{v}", "SELECT 1 AS one WHERE {v}::interval > '0'", ""));
    assert_eq!(cause(&sources, "span:PT1H").await, Cause::Type);
}

#[tokio::test]
async fn errors_have_their_cause_and_leave_the_connection_usable() {
    let routes = [
        route("many:{n}", "SELECT generate_series(1, {n}) AS n", ""),
        route("big:{n}", "SELECT repeat('x', {n}) AS x", "max_value_bytes = 100"),
        route("none:{n}", "SELECT * FROM not_there WHERE n = {n}", ""),
        route("zero:{n}", "SELECT 1 / {n}::int AS n", ""),
        route("twice:{n}", "SELECT 1 AS a, 2 AS a, {n}::int AS n", ""),
        route("two:{n}", "SELECT 1, {n}::int", "as = 'string'"),
        route(
            "write:{n}",
            "WITH d AS (DELETE FROM pg_class WHERE relname = {n} RETURNING 1) SELECT count(*) FROM d",
            "",
        ),
    ];
    let sources = server().sources_with("pool = { max = 1 }", &routes.concat());
    assert_eq!(cause(&sources, "many:2").await, Cause::Rows);
    assert_eq!(value(&sources, "many:1").await.unwrap(), "{\"n\":1}");
    assert_eq!(value(&sources, "many:0").await, None);
    assert_eq!(cause(&sources, "big:101").await, Cause::Size);
    assert_eq!(value(&sources, "big:92").await.unwrap().len(), 100);
    assert_eq!(cause(&sources, "big:93").await, Cause::Size);
    assert_eq!(load(&sources, "none:1").await, Err(LoadError { cause: Cause::Sql, sqlstate: Some(*b"42P01") }));
    assert_eq!(load(&sources, "zero:0").await, Err(LoadError { cause: Cause::Sql, sqlstate: Some(*b"22012") }));
    assert_eq!(load(&sources, "write:x").await, Err(LoadError { cause: Cause::Sql, sqlstate: Some(*b"0A000") }));
    assert_eq!(cause(&sources, "twice:1").await, Cause::Type);
    assert_eq!(cause(&sources, "two:1").await, Cause::Type);
    assert_eq!(sources.snapshots()[0].pool.connects, 1);
    // Rows without end: given up after some, and the query is cancelled.
    assert_eq!(cause(&sources, "many:2000000000").await, Cause::Rows);
    assert_eq!(value(&sources, "many:1").await.unwrap(), "{\"n\":1}");
    // A row far beyond the limit is not even read.
    assert_eq!(cause(&sources, "big:2000000").await, Cause::Size);
    assert_eq!(value(&sources, "many:1").await.unwrap(), "{\"n\":1}");
    let error = load(&sources, "zero:0").await.unwrap_err();
    assert_eq!(error.line("zero:{n}"), "ERR route 'zero:{n}': the query failed (SQLSTATE 22012)");
}

#[tokio::test]
async fn a_schema_change_is_prepared_again() {
    let server = server();
    server.sql("CREATE TABLE shifting (id int, a text); INSERT INTO shifting VALUES (1, 'x')");
    let sources = server.sources(&route("s:{id}", "SELECT * FROM shifting WHERE id = {id}", ""));
    assert_eq!(value(&sources, "s:1").await.unwrap(), r#"{"id":1,"a":"x"}"#);
    server.sql("ALTER TABLE shifting ADD COLUMN b int DEFAULT 2");
    assert_eq!(value(&sources, "s:1").await.unwrap(), r#"{"id":1,"a":"x","b":2}"#);
    let counters = &sources.snapshots()[0];
    assert_eq!((counters.retries, counters.pool.connects), (1, 1));
}

/// A pooler, or a function, may take away what was prepared.
#[tokio::test]
async fn a_statement_that_the_server_lost_is_prepared_again() {
    let server = server();
    server.sql(
        "CREATE FUNCTION forget(id int) RETURNS text LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 'gone'; END $$",
    );
    let routes = [
        route("lost:{id}", "SELECT forget({id})", "as = 'string'"),
        route("kept:{id}", "SELECT {id}::int", "as = 'string'"),
    ];
    let sources = server.sources_with("pool = { max = 1 }", &routes.concat());
    assert_eq!(value(&sources, "kept:1").await.unwrap(), "1");
    assert_eq!(value(&sources, "lost:1").await.unwrap(), "gone");
    assert_eq!(value(&sources, "kept:2").await.unwrap(), "2");
    let counters = &sources.snapshots()[0];
    assert_eq!((counters.retries, counters.pool.connects), (1, 1));
}

#[tokio::test]
async fn a_conflict_is_tried_again_and_a_fault_is_not() {
    let server = server();
    server.sql(
        "CREATE TABLE troubles (code text); INSERT INTO troubles VALUES ('40001');
         CREATE FUNCTION troubled(id int) RETURNS text LANGUAGE plpgsql AS $$
         DECLARE told text := (SELECT code FROM troubles);
         BEGIN
             IF told <> '' THEN RAISE EXCEPTION 'as told' USING ERRCODE = told; END IF;
             RETURN 'fine';
         END $$",
    );
    let (routes, code) = (route("trouble:{id}", "SELECT troubled({id})", "as = 'string'"), "UPDATE troubles SET code");
    let retry = "retry = { max_attempts = 100, initial_delay = '1ms', max_delay = '5ms' }";
    let sources = server.sources_with(retry, &routes);
    let retries = || sources.snapshots()[0].retries;
    let mut asked = ask(&sources, "trouble:1");
    while retries() < 3 {
        assert!(asked.try_recv().is_err(), "it was not tried again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // That blocks this thread, and with it the retries.
    server.sql(&format!("{code} = ''"));
    assert_eq!(asked.await.unwrap().result, Ok(Loaded::Value("fine".into())));
    let before = retries();
    server.sql(&format!("{code} = '22012'"));
    assert_eq!(cause(&sources, "trouble:2").await, Cause::Sql);
    assert_eq!(retries(), before);
    // Where it does not pass, the tries come to their end.
    server.sql(&format!("{code} = '40001'"));
    let sources = server.sources(&routes);
    assert_eq!(load(&sources, "trouble:3").await, Err(LoadError { cause: Cause::Busy, sqlstate: Some(*b"40001") }));
    assert_eq!(sources.snapshots()[0].retries, 2, "three tries by default");
}

#[tokio::test]
async fn a_deadline_cancels_the_query_and_frees_the_slot() {
    let server = server();
    let routes = [
        route("sleep:{s}", "SELECT pg_sleep({s}) IS NULL AS slept", "load_timeout = '100ms'"),
        route("one:{n}", "SELECT {n}::int AS n", ""),
    ];
    let sources = server.sources_with("pool = { max = 1, min = 0 }", &routes.concat());
    let error = load(&sources, "sleep:60").await.unwrap_err();
    assert_eq!(error, Cause::TimedOut.into());
    assert!(error.line("sleep:{s}").starts_with("TRYAGAIN route 'sleep:{s}': "));
    // Waits until the cancelled connection has given up its slot.
    assert_eq!(value(&sources, "one:1").await.unwrap(), "{\"n\":1}");
    // The server was asked to cancel the query; when it does is its own affair.
    let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS slept' AND state = 'active'";
    while server.sql(sleepers) != "0" {}
}

#[tokio::test]
async fn sessions_are_read_only_and_named() {
    let query = "SELECT current_setting('application_name') AS a, current_setting('transaction_read_only') AS r, \
                 current_setting('statement_timeout') AS t, {x}::text AS x";
    let sources = server().sources(&route("me:{x}", query, "load_timeout = '3s'"));
    assert_eq!(value(&sources, "me:x").await.unwrap(), r#"{"a":"cenote","r":"on","t":"3s","x":"x"}"#);
}

#[tokio::test]
async fn terminated_sessions_go_unnoticed_by_clients() {
    let server = Server::start();
    let fields = "pool = { max = 4, min = 2 }";
    let sources = server.sources_with(fields, &route("t:{n}", "SELECT {n}::int AS terminated", ""));
    sources.warm(0, 1).await;
    assert_eq!(sources.snapshots()[0].pool.idle, 2);
    server.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'cenote'");
    for _ in 0..3 {
        assert_eq!(value(&sources, "t:5").await.unwrap(), "{\"terminated\":5}");
    }
}

#[tokio::test]
async fn many_at_once_share_few_connections_across_threads() {
    let server = server();
    let fields = "pool = { max = 3, min = 0 }";
    let sources = Arc::new(server.sources_with(fields, &route("c:{n}", "SELECT {n}::int8 AS n", "as = 'string'")));
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let sources = Arc::clone(&sources);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let loads: Vec<_> = (0..100)
                        .map(|n| {
                            let (sources, key) = (Arc::clone(&sources), format!("c:{}", thread * 1000 + n));
                            tokio::spawn(async move { (value(&sources, &key).await, key) })
                        })
                        .collect();
                    for load in loads {
                        let (value, key) = load.await.unwrap();
                        assert_eq!(format!("c:{}", value.unwrap()), key);
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // The threads are gone and their runtimes with them: their connections too.
    let counters = &sources.snapshots()[0];
    assert_eq!(counters.rows, 300);
    assert!(counters.pool.size <= 3, "{counters:?}");
    assert_eq!(value(&sources, "c:1").await.unwrap(), "1");
}

#[tokio::test]
async fn a_stopped_server_is_an_error_at_once_and_recovers_by_itself() {
    let server = Server::start();
    let sources = server.sources(&route("r:{n}", "SELECT {n}::int AS n", ""));
    assert!(value(&sources, "r:1").await.is_some());
    server.control(&["-m", "immediate", "-w", "stop"]);
    let error = load(&sources, "r:1").await.unwrap_err();
    assert!(error.line("r:{n}").starts_with("TRYAGAIN route 'r:{n}': the database is down"));
    for _ in 0..50 {
        let error = load(&sources, "r:1").await.unwrap_err();
        assert!(matches!(error.cause, Cause::Down | Cause::BreakerOpen));
        assert!(error.line("r:{n}").starts_with("TRYAGAIN route 'r:{n}': the database "));
    }
    assert!(sources.snapshots()[0].pool.connect_errors < 50, "the pause kept most attempts away");
    // What cannot be a row is absent all the same.
    assert_eq!(value(&sources, "r:x").await, None);
    server.control(&["-w", "start"]);
    let recovered = async {
        while load(&sources, "r:1").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), recovered).await.expect("recovers");
}

/// A server that hangs rather than refuses: loads end by their deadline, and all is well once it goes on.
#[tokio::test]
async fn a_frozen_server_costs_no_more_than_the_deadline() {
    let server = Server::start();
    let quick = route("f:{n}", "SELECT {n}::int AS n", "load_timeout = '200ms'");
    let sources = server.sources_with("pool = { max = 2, min = 0 }", &quick);
    while value_or_error(&sources).await.is_err() {}
    server.freeze();
    for _ in 0..4 {
        let started = std::time::Instant::now();
        assert_eq!(value_or_error(&sources).await, Err(Cause::TimedOut));
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "bounded, if late on a busy machine");
    }
    server.thaw();
    while value_or_error(&sources).await.is_err() {}
}

async fn value_or_error(sources: &Sources) -> Result<(), Cause> {
    load(sources, "f:1").await.map(drop).map_err(|error| error.cause)
}

#[tokio::test]
async fn passwords_come_from_a_file_and_are_read_anew() {
    let server = Server::start();
    server.sql("CREATE ROLE locked LOGIN PASSWORD 'right one'");
    server.require("local all locked scram-sha-256");
    let file = server.folder().join("password");
    let fields = format!("password_file = '{}'", file.display());
    let config = format!(
        "[source.main]\nurl = '{}'\n{fields}\n{}",
        server.url().replace("user=app", "user=locked"),
        route("p:{n}", "SELECT {n}::int AS n, current_user::text AS who", "")
    );
    let config = Config::parse("routes.toml", &config, None).unwrap();
    let sources = Sources::open(&config).unwrap();
    assert_eq!(load(&sources, "p:1").await, Err(Cause::Down.into()), "no such file yet");
    std::fs::write(&file, "wrong\n").unwrap();
    let denied = LoadError { cause: Cause::Down, sqlstate: Some(*b"28P01") };
    while load(&sources, "p:1").await != Err(denied.clone()) {}
    assert!(!denied.line("p:{n}").contains("wrong"));
    std::fs::write(&file, "right one\n").unwrap();
    while load(&sources, "p:1").await.is_err() {}
    assert_eq!(value(&sources, "p:1").await.unwrap(), r#"{"n":1,"who":"locked"}"#);
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_is_cancelled() {
    let server = server();
    let routes =
        [route("s:{s}", "SELECT pg_sleep({s}) IS NULL AS dozed", ""), route("one:{n}", "SELECT {n}::int AS n", "")];
    let sources = server.sources_with("pool = { max = 1, min = 0 }", &routes.concat());
    let (found, _) = sources.find(0, b"s:600").unwrap();
    let wish = ask(&sources, "s:600");
    let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS doz' || 'ed%' AND state = 'active'";
    while server.sql(sleepers) != "1" {
        tokio::task::yield_now().await;
    }
    drop(wish);
    sources.left(found);
    assert_eq!(value(&sources, "one:1").await.unwrap(), "{\"n\":1}");
    while server.sql(sleepers) != "0" {}
}
