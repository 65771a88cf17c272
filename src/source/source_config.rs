//! `[source.NAME]` of the routes file, read and checked: one database, how it is reached, and what it may be asked to bear.
//!
//! Every field is documented where it is declared. Knows no routes and connects to nothing.

use super::feed::{FeedConfig, read_feed};
use super::fields::{At, Fields, Reading, note};
use super::postgres_target::Target;
use super::tls::{TLS_FIELDS, TlsSettings};
use crate::freshness::Horizon;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SOURCE_FIELDS: &[&str] = &[
    "url",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "password_file",
    "password_env",
    "prepare",
    "pool",
    "retry",
    "load_timeout",
    "slow_query",
    "invalidate",
    "publication",
];
const POOL_FIELDS: &[&str] = &["max", "min", "idle_timeout", "connect_timeout", "acquire_timeout", "max_waiting"];
const RETRY_FIELDS: &[&str] = &["max_attempts", "backoff", "initial_delay", "max_delay"];

/// How long a load may take where nothing else is said: well below the 5 s for which clients wait.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
/// From which time on a query is slow where nothing else is said: a quarter of what a load may take.
pub(super) const SLOW_QUERY: Duration = Duration::from_millis(500);

/// `[source.NAME]`: one database.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// NAME.
    pub name: Box<str>,
    /// Where it is and who we are there (`url`, as libpq reads it), and how it is secured: `sslmode` (default: verify-full
    /// for a server on another machine), `sslrootcert` (default: the system's CAs), `sslcert` and `sslkey`.
    pub target: Target,
    /// Where the password comes from when the URL has none.
    pub password: PasswordFrom,
    /// `prepare`: true for `"unnamed"`, which sends each query as text in a transaction of its own, so that a pooler such
    /// as pgbouncer may give each another connection. Default `"named"`: queries are prepared once on each connection.
    pub is_pooled: bool,
    /// `pool`.
    pub pool: PoolConfig,
    /// `retry`.
    pub retry: RetryConfig,
    /// `load_timeout`: the most that one load may take, waiting for a connection included. Default 2 s.
    pub load_timeout: Duration,
    /// `slow_query`: from which time on a query is told in the log at warn. Default 500 ms.
    pub slow_query: Duration,
    /// What its loads have seen.
    pub horizon: Arc<Horizon>,
    /// `invalidate`: how the database tells its changes. Default: it does not, and values live for their `ttl`.
    pub feed: Option<FeedConfig>,
    /// Of all its fields: which of them differ is not told, as the URL may hold a password.
    print: u64,
    /// The line of its header.
    pub line: usize,
}

impl SourceConfig {
    /// True if both say the same.
    pub(super) fn is_same(&self, other: &SourceConfig) -> bool {
        self.name == other.name && self.print == other.print
    }
}

/// Where a source's password comes from. It is read at each connect, so that it can be changed while running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordFrom {
    /// The URL, else `PGPASSWORD`, else the file `PGPASSFILE` or `~/.pgpass`.
    Environment,
    /// `password_env`: the environment variable of this name.
    Variable(Box<str>),
    /// `password_file`: this file's first line. A relative path starts at the routes file's folder.
    File(PathBuf),
}

/// `pool = { … }`: bounds on a source's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Most connections, idle and in use. Default 20.
    pub max: usize,
    /// Idle connections kept past `idle_timeout`; they are opened on demand. Default 5.
    pub min: usize,
    /// How long a connection above `min` may idle. Default 30 s.
    pub idle_timeout: Duration,
    /// How long connecting may take, authentication included. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a load may wait for a connection (never past its own deadline). Default 10 s.
    pub acquire_timeout: Duration,
    /// Most keys that may wait for a connection at once; the next one fails at once. Default 10,000.
    pub max_waiting: usize,
}

/// `retry = { … }`: how failed loads are tried again, where that can help and within their deadline: at once on a fresh
/// connection where one broke, else after a pause of any length up to a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Attempts in all. Default 3.
    pub max_attempts: u32,
    /// How the bound grows. Default exponential.
    pub backoff: Backoff,
    /// The first bound. Default 100 ms: a load that may take 2 s has no time for longer ones.
    pub initial_delay: Duration,
    /// The last bound. Default 1 s.
    pub max_delay: Duration,
}

/// How the delay between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// It doubles.
    Exponential,
    /// It stays.
    Constant,
}

/// Reads one source; `url` replaces its URL.
pub(super) fn read_source(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    name: &str,
    file: &Path,
    url: Option<&str>,
) -> Option<SourceConfig> {
    fields.refuse_unknown(reading, SOURCE_FIELDS);
    let given = match url {
        Some(url) => Some(At { value: url, line: fields.line }),
        None => fields.required(reading, "url", "\"postgres://app@localhost/shop\""),
    };
    let what = fields.what().to_owned();
    let tls = read_tls(reading, fields, file);
    let target = given.and_then(|at| note(reading, &what, at, |url| Target::parse(url)?.with_tls(tls.clone())));
    let password = read_password(reading, fields, file);
    let is_pooled = read_prepare(reading, fields);
    let pool = read_pool(reading, fields);
    let retry = read_retry(reading, fields);
    let load_timeout = fields.duration_or(reading, "load_timeout", LOAD_TIMEOUT);
    let slow_query = fields.duration_or(reading, "slow_query", SLOW_QUERY);
    let feed = read_feed(reading, fields);
    let mut print = DefaultHasher::new();
    (fields.texts(), url).hash(&mut print);
    let print = print.finish();
    let (name, line) = (name.into(), fields.line);
    let (target, horizon) = (target?, Arc::<Horizon>::default());
    horizon.allow(load_timeout);
    if target.is_several() {
        horizon.set_varied();
    }
    Some(SourceConfig {
        name,
        target,
        password,
        is_pooled,
        pool,
        retry,
        load_timeout,
        slow_query,
        horizon,
        feed,
        print,
        line,
    })
}

/// True for `prepare = "unnamed"`.
fn read_prepare(reading: &mut Reading<'_>, fields: &Fields<'_>) -> bool {
    let Some(at) = fields.string(reading, "prepare") else { return false };
    if !matches!(at.value, "named" | "unnamed") {
        reading.fault(at.line, format!("{}: prepare must be \"named\" or \"unnamed\"", fields.what()));
    }
    at.value == "unnamed"
}

/// `sslmode` and its like, for what the URL does not say. Relative paths start at the routes file's folder.
fn read_tls(reading: &mut Reading<'_>, fields: &Fields<'_>, file: &Path) -> TlsSettings {
    let mut tls = TlsSettings::default();
    for name in TLS_FIELDS {
        if let Some(at) = fields.string(reading, name)
            && let Err(fault) = tls.set(name, at.value, file.parent().unwrap_or(Path::new("")))
        {
            reading.fault(at.line, format!("{}: {fault}", fields.what()));
        }
    }
    tls
}

fn read_password(reading: &mut Reading<'_>, fields: &Fields<'_>, file: &Path) -> PasswordFrom {
    let from_file = fields.string(reading, "password_file");
    let from_variable = fields.string(reading, "password_env");
    match (from_file, from_variable) {
        (Some(at), Some(_)) => {
            reading.fault(at.line, format!("{}: give password_file or password_env, not both", fields.what()));
            PasswordFrom::Environment
        }
        (Some(at), None) => PasswordFrom::File(file.parent().unwrap_or(Path::new("")).join(at.value)),
        (None, Some(at)) => PasswordFrom::Variable(at.value.into()),
        (None, None) => PasswordFrom::Environment,
    }
}

/// A table within a source, by name; all defaults where it is not given.
fn table<'a>(reading: &mut Reading<'_>, fields: &Fields<'a>, name: &str, known: &[&str]) -> Fields<'a> {
    let what = format!("{}: {name}", fields.what());
    let given = fields.get(reading, name).and_then(|at| Fields::open(reading, at.value, at.line, &what));
    let table = given.unwrap_or_else(|| Fields::absent(fields.line, &what));
    table.refuse_unknown(reading, known);
    table
}

fn read_pool(reading: &mut Reading<'_>, fields: &Fields<'_>) -> PoolConfig {
    let pool = table(reading, fields, "pool", POOL_FIELDS);
    let max = pool.number(reading, "max", 20, 1..=1000);
    let min = pool.number(reading, "min", 5.min(max), 0..=1000);
    if min > max {
        reading.fault(pool.line, format!("{}: min is {min}, above max, which is {max}", pool.what()));
    }
    PoolConfig {
        max: max as usize,
        min: min as usize,
        idle_timeout: pool.duration_or(reading, "idle_timeout", Duration::from_secs(30)),
        connect_timeout: pool.duration_or(reading, "connect_timeout", Duration::from_secs(5)),
        acquire_timeout: pool.duration_or(reading, "acquire_timeout", Duration::from_secs(10)),
        max_waiting: pool.number(reading, "max_waiting", 10_000, 0..=1_000_000) as usize,
    }
}

fn read_retry(reading: &mut Reading<'_>, fields: &Fields<'_>) -> RetryConfig {
    let retry = table(reading, fields, "retry", RETRY_FIELDS);
    let backoff = match retry.string(reading, "backoff") {
        None | Some(At { value: "exponential", .. }) => Backoff::Exponential,
        Some(At { value: "constant", .. }) => Backoff::Constant,
        Some(at) => {
            reading.fault(at.line, format!("{}: backoff must be \"exponential\" or \"constant\"", retry.what()));
            Backoff::Exponential
        }
    };
    RetryConfig {
        max_attempts: retry.number(reading, "max_attempts", 3, 1..=100) as u32,
        backoff,
        initial_delay: retry.duration_or(reading, "initial_delay", Duration::from_millis(100)),
        max_delay: retry.duration_or(reading, "max_delay", Duration::from_secs(1)),
    }
}
