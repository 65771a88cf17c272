//! What no client and no log may see: the SQL, the URL, the password. And what they may: the figures.

use super::rig::{ROUTES, Rig, error, run};
use crate::support::{Postgres, Value};

#[test]
fn no_client_sees_the_sql_and_nobody_the_password() {
    let postgres = Postgres::start();
    postgres
        .sql("CREATE TABLE users (id int PRIMARY KEY, name text, email text); INSERT INTO users VALUES (1, 'Ann', '')");
    let url = postgres.url().replace("postgres@", "postgres:s3cret@");
    let args = ["--workers", "1", "--slowlog-log-slower-than", "0", "--loglevel", "debug"];
    let rig = Rig::over(postgres, &url, "", ROUTES, &args);
    let (mut client, mut monitor) = (rig.client(), rig.client());
    assert_eq!(run(&mut monitor, "MONITOR"), Value::ok());
    run(&mut client, "GET user:1");
    run(&mut client, "GET user:2");
    run(&mut client, "INCR name:1");
    error(run(&mut client, "GET text:x"));
    run(&mut client, "ECHO end");
    let mut seen = vec![String::new()];
    while !seen.last().is_some_and(|line| line.contains("\"ECHO\"")) {
        seen.push(monitor.read_reply().expect("a line").value.text().expect("text"));
    }
    assert_eq!(seen.iter().filter(|line| line.contains("\"GET\" \"user:1\"")).count(), 1, "a load is no command");
    assert!(seen.iter().any(|line| line.contains("\"INCR\" \"name:1\"")));
    for line in ["SLOWLOG GET 128", "CONFIG GET *", "INFO everything", "CLIENT LIST", "LATENCY DOCTOR"] {
        let text = format!("{:?}", run(&mut client, line));
        assert!(!text.is_empty());
        seen.push(text);
    }
    for text in &seen {
        for secret in ["s3cret", "FROM users", "WHERE id", "postgres://", &rig.postgres.port().to_string()] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let log = rig.server.log();
    assert!(log.contains("user:{id}") && !log.contains("s3cret"), "{log}");
}

#[test]
fn figures_of_loads_are_in_info_and_metrics() {
    let metrics_port = crate::support::Port::reserve();
    let port = metrics_port.number.to_string();
    let rig = Rig::with("pool = { max = 7, min = 1 }", ROUTES, &["--workers", "2", "--metrics-port", &port]);
    let mut client = rig.client();
    for line in ["GET name:1", "GET name:2", "GET name:1", "GET user:1000", "GET user:x"] {
        run(&mut client, line);
    }
    let figures = rig.figures();
    for (name, figure) in [
        ("readthrough_enabled", 1),
        ("readthrough_routes", 4),
        ("readthrough_waits", 4),
        ("readthrough_stored", 2),
        ("readthrough_absent", 2),
        ("readthrough_absent_keys", 2),
        ("source_main.loads", 4),
        ("source_main.rows", 2),
        ("source_main.absent", 2),
        ("source_main.unparsable", 1),
        ("source_main.queries", 3),
        ("source_main.retries", 0),
        ("source_main_pool.max", 7),
        ("source_main_pool.waiting", 0),
    ] {
        assert_eq!(figures.get(name), figure, "{name}");
    }
    let [p50, p99, total] = ["p50", "p99", "total"].map(|name| figures.get(&format!("source_main_query_usec.{name}")));
    assert!(0 < p50 && p50 <= p99 && p99 <= 2 * total, "p50 {p50}, p99 {p99}, total {total}");
    let text = metrics(metrics_port.number);
    for line in [
        "cenote_waits_total 4",
        "cenote_fills_total{outcome=\"stored\"} 2",
        "cenote_loads_total{source=\"main\",result=\"row\"} 2",
        "cenote_loads_total{source=\"main\",result=\"absent\"} 2",
        "cenote_load_errors_total{source=\"main\",cause=\"down\"} 0",
        "cenote_loads_unparsable_total{source=\"main\"} 1",
        "cenote_queries_total{source=\"main\"} 3",
        "cenote_query_duration_seconds_count{source=\"main\"} 3",
        "cenote_query_duration_seconds_bucket{source=\"main\",le=\"+Inf\"} 3",
        "cenote_pool_connections_max{source=\"main\"} 7",
        "cenote_pool_waiting{source=\"main\"} 0",
        "cenote_loads_in_progress 0",
        "cenote_absent_keys 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(run(&mut client, "CONFIG RESETSTAT"), Value::ok());
    let figures = rig.figures();
    for name in ["readthrough_waits", "source_main.loads", "source_main.queries", "source_main_pool.connects"] {
        assert_eq!(figures.get(name), 0, "{name} after RESETSTAT");
    }
    assert_eq!((figures.get("readthrough_absent_keys"), figures.get("readthrough_routes")), (2, 4));
}

/// What Prometheus would be told.
fn metrics(port: u16) -> String {
    let mut client = crate::support::Client::connect(port);
    client.send_raw(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").expect("sent");
    String::from_utf8(client.read_to_end().expect("an answer")).expect("text")
}
