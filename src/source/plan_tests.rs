//! The judge of plans against a corpus of good and bad queries on a real Postgres: every bad one is told with its
//! index, and no good one raises an alarm.

use super::feed::open_session;
use super::plan::{Fault, explain};
use super::testdb::server;

const SCHEMA: &str = "
    CREATE TABLE users (id int PRIMARY KEY, name varchar(40), email text, country text, born date, \"Nick\" text,
        data jsonb, code char(8), uid uuid, balance numeric);
    INSERT INTO users SELECT i, 'n' || i, 'e' || i || '@x', 'c' || i % 5, date '2000-01-01' + i % 5000, 'k' || i,
        jsonb_build_object('a', i), 'c' || i, md5(i::text)::uuid, i FROM generate_series(1, 50000) i;
    CREATE UNIQUE INDEX ON users (email);
    CREATE INDEX ON users (uid);
    CREATE TABLE orders (id bigint PRIMARY KEY, user_id int, product_id int, at timestamptz, total numeric, state text);
    INSERT INTO orders SELECT i, i % 50000, i % 200, now() - i * interval '1 minute', i, 's' || i % 3
        FROM generate_series(1, 200000) i;
    CREATE INDEX orders_at ON orders (at);
    CREATE TABLE lines (order_id bigint, no int, what text, PRIMARY KEY (order_id, no));
    INSERT INTO lines SELECT i / 4, i % 4, 'w' || i % 1000 FROM generate_series(1, 200000) i;
    CREATE TABLE visits (user_id int, at timestamptz, page text);
    INSERT INTO visits SELECT i % 20, now() - i * interval '1 second', 'p' || i % 50 FROM generate_series(1, 300000) i;
    CREATE INDEX visits_user ON visits (user_id);
    CREATE TABLE small (k text PRIMARY KEY, v text, n int);
    INSERT INTO small SELECT 'k' || i, 'v', i FROM generate_series(1, 300) i;
    CREATE VIEW rich AS SELECT id, name FROM users WHERE balance > 49000;
    ANALYZE;
";

/// What is wrong with each, and the columns of the index that helps.
const BAD: &[(&str, Fault, &str)] = &[
    ("SELECT * FROM users WHERE name = $1", Fault::Scan, "users\" (name)"),
    ("SELECT * FROM users WHERE country = 'c1' AND born = $1", Fault::Scan, "users\" (country, born)"),
    ("SELECT id FROM users WHERE \"Nick\" = $1", Fault::Scan, "users\" (\"Nick\")"),
    ("SELECT * FROM users WHERE lower(email) = $1", Fault::Scan, "users\" ((lower(email)))"),
    ("SELECT * FROM users u WHERE u.born = $1::date ORDER BY u.id", Fault::Scan, "users\" (born)"),
    ("SELECT * FROM users WHERE id::text = $1", Fault::Cast, ""),
    ("SELECT * FROM users WHERE id = $1::numeric", Fault::Cast, ""),
    ("SELECT * FROM users WHERE uid::text = $1", Fault::Cast, ""),
    ("SELECT * FROM users WHERE data ->> 'a' = $1", Fault::Scan, "users\" ((data ->> 'a'::text))"),
    ("SELECT * FROM users WHERE email LIKE '%' || $1", Fault::Scan, ""),
    ("SELECT * FROM orders WHERE user_id = $1", Fault::Scan, "orders\" (user_id)"),
    ("SELECT count(*) FROM orders WHERE user_id = $1", Fault::Scan, "orders\" (user_id)"),
    ("SELECT * FROM orders WHERE user_id = $1 ORDER BY at DESC LIMIT 10", Fault::Scan, "orders\" (user_id)"),
    (
        "SELECT u.id, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1",
        Fault::Scan,
        "orders\" (user_id)",
    ),
    ("SELECT count(*) FROM small a, small b WHERE a.n + b.n > $1::int", Fault::Loop, ""),
    (
        "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id) AS n FROM users u WHERE u.id = $1",
        Fault::Scan,
        "orders\" (user_id)",
    ),
    ("SELECT what FROM lines WHERE no = 1 AND what = $1", Fault::Scan, "lines\" (no, what)"),
    ("SELECT count(*), $1::int AS x FROM visits", Fault::Whole, ""),
    ("SELECT page FROM visits WHERE user_id = $1 ORDER BY page LIMIT 10", Fault::Sort, "visits\" (user_id, page)"),
    (
        "SELECT sum(o.total) FROM orders o JOIN lines l ON l.order_id = o.id WHERE o.product_id = $1 AND l.what = 'w1'",
        Fault::Scan,
        "lines\" (what)",
    ),
];

const GOOD: &[&str] = &[
    "SELECT * FROM users WHERE id = $1",
    "SELECT * FROM users WHERE id = $1::int",
    "SELECT * FROM users WHERE id = $1::bigint",
    "SELECT * FROM users WHERE email = $1",
    "SELECT * FROM users WHERE uid = $1",
    "SELECT * FROM users WHERE id = $1 AND country = 'c1'",
    "SELECT * FROM small WHERE v = $1",
    "SELECT * FROM small WHERE n::text = $1",
    "SELECT k, v, $1::int AS x FROM small ORDER BY v",
    "SELECT * FROM lines WHERE order_id = $1",
    "SELECT * FROM lines WHERE order_id = $1 ORDER BY no",
    "SELECT o.id, l.what FROM orders o JOIN lines l ON l.order_id = o.id WHERE o.id = $1",
    "SELECT u.name, o.total FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = $1",
    "SELECT (SELECT count(*) FROM lines l WHERE l.order_id = o.id) AS n FROM orders o WHERE o.id = $1",
    "SELECT * FROM orders WHERE at > now() - interval '5 minutes' AND id = $1",
    "SELECT id FROM orders ORDER BY at DESC LIMIT $1::int",
    "SELECT id FROM orders WHERE state = $1 LIMIT 10",
    "SELECT max(at) FROM orders WHERE at < $1::timestamptz",
    "SELECT id FROM users WHERE country = $1 LIMIT 20",
    "SELECT name FROM rich WHERE id = $1",
    "SELECT * FROM users WHERE id = ANY (ARRAY[$1::int, 7])",
    "SELECT $1::int AS one",
    "SELECT * FROM generate_series(1, $1::int)",
    "SELECT * FROM orders o JOIN small s ON s.n = o.product_id WHERE o.id = $1",
    "SELECT data FROM users WHERE id = $1 UNION ALL SELECT data FROM users WHERE id = $1 + 1",
];

#[tokio::test]
async fn tells_what_is_wrong_and_raises_no_false_alarm() {
    server().sql(SCHEMA);
    let mut session = open_session(&server().url()).await;
    let mut faults = Vec::new();
    for (sql, fault, index) in BAD {
        let plan =
            explain(&mut session, sql, &["key".into()]).await.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
        let is_told = plan.findings.iter().any(|found| {
            let helps = found.index.as_deref().unwrap_or_default();
            found.fault == *fault && (if index.is_empty() { helps.is_empty() } else { helps.contains(index) })
        });
        if !is_told {
            faults.push(format!("not told: {sql}\n  {:#?}\n{}", plan.findings, plan.lines.join("\n")));
        }
    }
    for sql in GOOD {
        let plan =
            explain(&mut session, sql, &["key".into()]).await.unwrap_or_else(|problem| panic!("{sql}: {problem}"));
        if !plan.findings.is_empty() {
            faults.push(format!("false alarm: {sql}\n  {:#?}\n{}", plan.findings, plan.lines.join("\n")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(BAD.len() + GOOD.len() >= 30);
}
