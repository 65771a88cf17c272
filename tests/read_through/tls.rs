//! TLS to the database: which servers are believed, with which words the others are refused, and who we are there: by a
//! password (SCRAM), which may become another while the server runs, or by a certificate.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::rig::{ROUTES, Rig, run, until};
use crate::support::{Postgres, TempDir, Value, cenote_program};

const ROUTE: &str = "[[route]]\nkey = 'user:{id}'\nquery = 'SELECT name FROM users WHERE id = {id}'\nas = 'string'\n\
                     ttl = '1h'\n";
const USERS: &str =
    "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob')";

/// A folder with a CA and certificates of its making.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(TempDir::new("ca"));
        let blank = authority.path("openssl.cnf");
        fs::write(&blank, "[req]\ndistinguished_name = name\n[name]\n").expect("written");
        authority.make("ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        authority
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A certificate signed by itself.
    fn make(&self, name: &str, more: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        openssl.args(["-config", &self.path("openssl.cnf"), "-subj", &format!("/CN={name}")]);
        openssl.args(["-keyout", &self.path(&format!("{name}.key")), "-out", &self.path(&format!("{name}.pem"))]);
        let output = openssl.args(more).stdin(Stdio::null()).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate signed by the CA.
    fn sign(&self, name: &str, alternative: &str) {
        let (ca, key) = (self.path("ca.pem"), self.path("ca.key"));
        let alternative = format!("subjectAltName={alternative}");
        self.make(name, &["-CA", &ca, "-CAkey", &key, "-addext", "basicConstraints=CA:FALSE", "-addext", &alternative]);
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }
}

/// A Postgres that shows the certificate `name`, and lets nobody in over TCP without TLS.
fn secured(authority: &Authority, name: &str) -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(USERS);
    postgres
        .sql("CREATE ROLE app LOGIN PASSWORD 's3cret'; CREATE ROLE holder LOGIN; GRANT SELECT ON users TO app, holder");
    let certificate = postgres.write("server.pem", &authority.text(&format!("{name}.pem")));
    let key = postgres.write("server.key", &authority.text(&format!("{name}.key")));
    let ca = postgres.write("ca.pem", &authority.text("ca.pem"));
    let path = |path: &Path| path.display().to_string();
    postgres.configure(
        &[
            ("ssl_cert_file", &path(&certificate)),
            ("ssl_key_file", &path(&key)),
            ("ssl_ca_file", &path(&ca)),
            ("ssl", "on"),
        ],
        &[
            "hostssl all app 127.0.0.1/32 scram-sha-256",
            "hostssl all holder 127.0.0.1/32 cert",
            "hostssl all postgres 127.0.0.1/32 trust",
        ],
    );
    postgres
}

/// What `cenote check` says of connecting there.
#[track_caller]
fn check(dir: &TempDir, source: &str) -> String {
    let file = dir.path().join("routes.toml");
    fs::write(&file, format!("[source.main]\n{source}\n{ROUTE}")).expect("written");
    let output = Command::new(cenote_program()).arg("check").arg(&file).output().expect("cenote check runs");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!report.contains("s3cret"), "{report}");
    report
}

#[test]
fn the_server_must_be_who_it_should_be() {
    let authority = Authority::new();
    authority.sign("server", "DNS:db.test");
    let stranger = Authority::new();
    let postgres = secured(&authority, "server");
    let dir = TempDir::new("routes");
    let (ca, wrong_ca) = (authority.path("ca.pem"), stranger.path("ca.pem"));
    let place = |host: &str, more: &str| {
        let port = postgres.port();
        format!("url = \"host={host} hostaddr=127.0.0.1 port={port} user=app password=s3cret dbname=postgres {more}\"")
    };
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    for (source, wanted) in [
        (place("db.test", &full), "connected"),
        (place("other.test", &full), "certificate is not for other.test but for db.test"),
        (place("127.0.0.1", &full), "certificate is not for 127.0.0.1"),
        (place("other.test", &format!("sslmode=verify-ca sslrootcert={ca}")), "connected"),
        (place("db.test", &format!("sslmode=verify-full sslrootcert={wrong_ca}")), "vouched for by no CA"),
        (place("db.test", &format!("sslmode=require sslrootcert={wrong_ca}")), "vouched for by no CA"),
        (place("db.test", "sslmode=verify-full"), "vouched for by no CA"),
        (place("other.test", "sslmode=require"), "connected"),
        (place("other.test", "sslmode=prefer"), "connected"),
        (place("db.test", "sslmode=disable"), "no pg_hba.conf entry for host"),
        // A loopback address needs no TLS by itself.
        (place("db.test", ""), "no pg_hba.conf entry for host"),
        (place("db.test", "sslmode=verify-full sslrootcert=/nowhere/ca.pem"), "/nowhere/ca.pem: No such file"),
        // The same in fields of the file: relative to it.
        (format!("{}\nsslmode = 'verify-full'\nsslrootcert = '{ca}'", place("db.test", "")), "connected"),
        (format!("{}\nsslmode = 'verify-full'\nsslrootcert = 'gone.pem'", place("db.test", "")), "gone.pem: No such"),
    ] {
        let report = check(&dir, &source);
        let fits = report.contains(&format!(": {wanted}\n")) || wanted != "connected" && report.contains(wanted);
        assert!(fits, "{source}\n{wanted}\n{report}");
    }
    let report = check(&dir, &place("db.test", "sslmode=never"));
    assert!(report.contains("sslmode can be \"disable\", \"prefer\""), "{report}");
    let url =
        format!("postgres://app:s3cret@127.0.0.1:{}/postgres?sslmode=verify-full&sslrootcert={ca}", postgres.port());
    assert!(check(&dir, &format!("url = '{url}'")).contains("not for 127.0.0.1"));
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_demanded() {
    let postgres = Postgres::start();
    postgres.sql(USERS);
    let dir = TempDir::new("routes");
    for mode in ["require", "verify-ca", "verify-full"] {
        let report = check(&dir, &format!("url = '{}?sslmode={mode}'", postgres.url()));
        assert!(report.contains(&format!("the server offers no TLS, which sslmode={mode} demands")), "{report}");
    }
    for mode in ["prefer", "disable"] {
        let report = check(&dir, &format!("url = '{}?sslmode={mode}'", postgres.url()));
        assert!(report.contains(": connected\n"), "{report}");
    }
}

#[test]
fn a_self_signed_certificate_is_known_by_itself() {
    // As Postgres's manual makes one: OpenSSL marks it as a CA's, which a server's may not be elsewhere.
    let authority = Authority::new();
    authority
        .make("db.test", &["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectAltName=DNS:db.test"]);
    let postgres = secured(&authority, "db.test");
    let dir = TempDir::new("routes");
    let known = authority.path("db.test.pem");
    for (host, wanted) in [("db.test", ": connected\n"), ("other.test", "not for other.test but for db.test")] {
        let port = postgres.port();
        let report = check(
            &dir,
            &format!(
                "url = \"host={host} hostaddr=127.0.0.1 port={port} user=app password=s3cret dbname=postgres \
                 sslmode=verify-full sslrootcert={known}\""
            ),
        );
        assert!(report.contains(wanted), "{report}");
    }
}

#[test]
fn a_certificate_says_who_we_are() {
    let authority = Authority::new();
    authority.sign("server", "DNS:db.test");
    authority.sign("holder", "DNS:holder");
    authority.sign("nobody", "DNS:nobody");
    let postgres = secured(&authority, "server");
    let dir = TempDir::new("routes");
    let source = |name: &str, more: &str| {
        let (port, ca) = (postgres.port(), authority.path("ca.pem"));
        let (certificate, key) = (authority.path(&format!("{name}.pem")), authority.path(&format!("{name}.key")));
        format!(
            "url = \"host=db.test hostaddr=127.0.0.1 port={port} user=holder dbname=postgres sslmode=verify-full\"\n\
             sslrootcert = '{ca}'\nsslcert = '{certificate}'\nsslkey = '{key}'\n{more}"
        )
    };
    assert!(check(&dir, &source("holder", "")).contains(": connected\n"));
    let report = check(&dir, &source("nobody", ""));
    assert!(report.contains("certificate authentication failed for user \"holder\""), "{report}");
    let lacking = source("holder", "").replace("sslkey", "# sslkey");
    assert!(check(&dir, &lacking).contains("sslcert needs sslkey"));
}

#[test]
fn loads_cancellations_and_changes_are_all_secured() {
    let authority = Authority::new();
    authority.sign("server", "DNS:db.test");
    let postgres = secured(&authority, "server");
    postgres.sql("CREATE TABLE gate (open bool); INSERT INTO gate VALUES (true)");
    let url = format!("host=db.test hostaddr=127.0.0.1 port={} user=postgres dbname=postgres", postgres.port());
    let source = format!(
        "sslmode = 'verify-full'\nsslrootcert = '{}'\ninvalidate = 'wal'\nload_timeout = '300s'",
        authority.path("ca.pem")
    );
    let routes = ROUTES.split("[[route]]").filter(|route| !route.contains("email") && !route.contains("texts"));
    let rig = Rig::over(postgres, &url, &source, &routes.collect::<Vec<_>>().join("[[route]]"), &["--workers", "1"]);
    rig.set_up();
    until("the changes are heard", || rig.figures().text("source_main_changes.state") == "in_step");
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET name:1"), Value::bulk("Ann"));
    rig.postgres.sql("UPDATE users SET name = 'Eve' WHERE id = 1");
    until("the change to be heard", || run(&mut client, "GET name:1") == Value::bulk("Eve"));
    let gate = rig.shut_gate();
    let mut leaver = rig.client();
    leaver.send(&["GET", "gated:1"]).expect("sent");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%users, gate%' AND \
                   application_name = 'cenote'";
    // A request to cancel what the server has not begun yet is lost, however it is sent.
    until("the query to run", || rig.postgres.sql(running) == "1");
    drop(leaver);
    until("the query to be cancelled", || rig.postgres.sql(running) == "0");
    gate.open();
    let plain = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl JOIN \
                 pg_stat_activity USING (pid) WHERE application_name = 'cenote'";
    let (secured, plain) = (rig.postgres.sql(plain), "|0");
    assert!(secured.ends_with(plain) && !secured.starts_with('0'), "{secured}");
}

#[test]
fn a_password_may_become_another_while_the_server_runs() {
    let authority = Authority::new();
    authority.sign("server", "DNS:db.test");
    let postgres = secured(&authority, "server");
    let secrets = TempDir::new("secrets");
    let file = secrets.path().join("password");
    fs::write(&file, "s3cret\n").expect("written");
    let url = format!("host=127.0.0.1 port={} user=app dbname=postgres sslmode=require", postgres.port());
    let source = format!("password_file = '{}'\npool = {{ min = 0, max = 2 }}", file.display());
    let rig = Rig::over(postgres, &url, &source, ROUTE, &["--workers", "1", "--loglevel", "debug"]);
    let mut client = rig.client();
    assert_eq!(run(&mut client, "GET user:1"), Value::bulk("Ann"));
    let throw_out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cenote'";
    // Another password, and the file tells: nothing else is to be done.
    rig.postgres.sql("ALTER ROLE app PASSWORD 'an0ther'");
    fs::write(&file, "an0ther\n").expect("written");
    rig.postgres.sql(throw_out);
    assert_eq!(run(&mut client, "GET user:2"), Value::bulk("Bob"));
    // The file tells later: until then it is an error, and the breaker need not be waited for after RELOAD.
    rig.postgres.sql("ALTER ROLE app PASSWORD 'th1rd'");
    rig.postgres.sql(throw_out);
    run(&mut client, "DEL user:1");
    let Value::Error(text) = run(&mut client, "GET user:1") else { panic!("the password is wrong") };
    assert!(text.starts_with("TRYAGAIN route 'user:{id}': the database ") && text.contains("28P01"), "{text}");
    fs::write(&file, "th1rd\n").expect("written");
    assert_eq!(run(&mut client, "ROUTE RELOAD"), Value::ok());
    assert_eq!(run(&mut client, "GET user:1"), Value::bulk("Ann"));
    let log = rig.server.log();
    assert!(log.contains("password authentication failed for user \"app\""), "{log}");
    for secret in ["s3cret", "an0ther", "th1rd"] {
        assert!(!log.contains(secret), "{log}");
        assert!(!format!("{:?}", run(&mut client, "INFO everything")).contains(secret));
        assert!(!format!("{:?}", run(&mut client, "ROUTE GET user:{id}")).contains(secret));
    }
}
