//! Read-through sources: what loads a missing key. Knows routes and databases, not the keyspace or the protocol.
//!
//! `routes` reads the file (`fields`, `fault`, `template`, `query`) and finds a key's route (`matcher`). [`Sources`]
//! loads it: `postgres` runs the query on a connection of its `pool`, with the key's captures as typed parameters
//! (`param`), and turns the row into a value (`value`). `check` explains a routes file.
//!
//! A command that writes to such a key may be taken to the database as well (`writes`, `postgres_write`).
//!
//! Keys of one route that are wanted at the same time go in one query (`queue`). Every query is a task of its own, which
//! outlives the client who asked. Nothing here remembers loaded values or joins loads of one key; that is the caller's.

mod breaker;
mod check;
mod datetime;
mod elements;
mod fault;
mod feed;
mod fields;
mod load_log;
mod matcher;
mod number;
mod param;
mod password;
mod plan;
#[cfg(test)]
mod plan_tests;
mod pool;
mod postgres;
mod postgres_batch;
mod postgres_link;
mod postgres_rows;
mod postgres_statement;
mod postgres_target;
#[cfg(test)]
mod postgres_tests;
mod postgres_types;
mod postgres_write;
mod query;
mod queue;
mod reload;
mod retry;
mod routes;
#[cfg(test)]
mod routes_tests;
mod session;
mod source_config;
mod stats;
mod template;
#[cfg(test)]
mod testdb;
mod tls;
mod value;
mod wire;
mod writes;

pub use check::run_check;
pub use elements::{Elements, Kind};
pub use fault::Fault;
pub use feed::{Dependencies, Dependency, Feed, FeedConfig, FeedSnapshot, FeedState, Mode, Sink, run_setup};
pub use matcher::{Matcher, Overlap};
pub use plan::{Fault as PlanFault, Finding, Plan};
pub use postgres_target::Target;
pub use postgres_write::{Write, WriteError, Written};
pub use query::Query;
pub use queue::{Answer, Wish};
pub use routes::{Config, Databases, Route, Routes, Shape};
pub use source_config::{Backoff, PasswordFrom, PoolConfig, RetryConfig, SourceConfig};
pub use stats::{
    BreakerSnapshot, HISTOGRAM_BUCKETS, Histogram, PoolSnapshot, RouteFigures, RouteStats, SourceSnapshot,
};
pub use template::{CAPTURES_MAX, Captures, Params, ROUTED_KEY_BYTES_MAX, TEMPLATE_BYTES_MAX, Template};
pub use writes::{Dependent, Statement, Verb, WriteMode, Writes};

use bytes::Bytes;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// All sources of a routes file with its routes: what the read-through needs.
#[derive(Default)]
pub struct Sources {
    /// What they were made of.
    config: Arc<Config>,
    /// Names of the routes that are switched off.
    disabled: BTreeSet<Box<str>>,
    routes: Routes,
    /// By [`Route::source`].
    sources: Vec<Arc<dyn Source>>,
    /// Of the sources that tell their changes.
    feeds: Vec<Arc<Feed>>,
    /// For each source, the largest value and the longest load that it was made for.
    limits: Vec<(usize, Duration)>,
}

impl Sources {
    /// Prepares the sources and routes of a file. Nothing is connected yet.
    pub fn open(config: &Config) -> Result<Sources, String> {
        reload::build(config.clone(), BTreeSet::new(), None)
    }

    /// Routes over sources of the caller's making, by [`Route::source`].
    pub fn with(routes: Routes, sources: Vec<Arc<dyn Source>>) -> Sources {
        Sources { routes, sources, ..Sources::default() }
    }

    /// The route that loads `key` of logical database `database`, with the key's captures. Costs a miss of all routes
    /// some ten nanoseconds.
    pub fn find(&self, database: u32, key: &[u8]) -> Option<(&Arc<Route>, Captures)> {
        self.routes.find(database, key)
    }

    /// Loads one key, together with others of its route that are wanted at the same time: `params` are the captures
    /// that [`Sources::find`] gave, with the key. `wish` is granted within the route's `load_timeout`, counted from
    /// this call, on a task of its own. To be called on a thread that runs a tokio runtime.
    pub fn load(&self, route: &Arc<Route>, params: Params, wish: Box<dyn Wish>) {
        let deadline = Instant::now() + route.load_timeout;
        // A wish for a route of another file than these sources is given up.
        if let Some(source) = self.sources.get(route.source) {
            Arc::clone(source).load(route, params, deadline, wish);
        }
    }

    /// Takes a write to the database, within the route's `load_timeout`. To be run to its end, on a task of its own: to
    /// drop it leaves unknown whether it was done.
    pub fn write(
        &self,
        route: &Arc<Route>,
        write: Write,
    ) -> impl Future<Output = Result<Written, WriteError>> + Send + 'static {
        let deadline = Instant::now() + route.load_timeout;
        let (source, route) = (self.sources.get(route.source).cloned(), Arc::clone(route));
        async move {
            match source {
                Some(source) => source.write(route, write, deadline).await,
                None => Err(WriteError::Failed(Cause::Down.into())),
            }
        }
    }

    /// Somebody left who waited for a key of a route: a query that nobody waits for any more is cancelled.
    pub fn left(&self, route: &Route) {
        if let Some(source) = self.sources.get(route.source) {
            source.left(route);
        }
    }

    /// Asks for the plan of a route's query, and what is wrong with it; the error is for an operator's eyes. It takes a
    /// connection of its own.
    pub fn explain(&self, route: &Route) -> impl Future<Output = Result<Plan, String>> + Send + 'static {
        let source = self.source_of(route);
        let connect = source.map(|source| (postgres::connector(source, &[]), source.pool.connect_timeout));
        let (sql, names) = (route.query.sql(), route.query.names().to_vec());
        async move {
            let Some((connector, limit)) = connect else { return Err("it has no source".into()) };
            match tokio::time::timeout(limit, plan::explain_query(&connector, &sql, &names)).await {
                Ok(Ok(plan)) => Ok(plan),
                Ok(Err(problem)) => Err(problem.to_string()),
                Err(_) => Err("the database did not answer in time".into()),
            }
        }
    }

    /// Opens the calling thread's part, by its number among so many, of each pool's `min` connections on its runtime.
    /// Failures are left to the loads.
    pub fn warm(&self, thread: usize, threads: usize) -> impl Future<Output = ()> + Send + 'static {
        let warming: Vec<_> = self.sources.iter().map(|source| Arc::clone(source).warm(thread, threads)).collect();
        async move {
            for source in warming {
                source.await;
            }
        }
    }

    /// True if any key may be loaded.
    #[inline]
    pub fn has_routes(&self) -> bool {
        !self.sources.is_empty() && !self.routes.all().is_empty()
    }

    /// True if some route has to say something to those who write its keys.
    pub fn watches_writes(&self) -> bool {
        self.routes.all().iter().any(|route| route.writes.are_watched())
    }

    /// All routes, in the file's order.
    pub fn routes(&self) -> &[Arc<Route>] {
        self.routes.all()
    }

    /// Counts anew (CONFIG RESETSTAT).
    pub fn reset_counts(&self) {
        self.sources.iter().for_each(|source| source.reset_counts());
        self.feeds.iter().for_each(|feed| feed.reset_counts());
        self.config.routes.iter().for_each(|route| route.stats.reset());
    }

    /// What follows the changes of the sources that tell them.
    pub fn feeds(&self) -> &[Arc<Feed>] {
        &self.feeds
    }

    /// The counters of each source as they stand.
    pub fn snapshots(&self) -> Vec<SourceSnapshot> {
        self.sources.iter().map(|source| source.snapshot()).collect()
    }
}

/// What a load found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A string value, in the form the route's `as` names.
    Value(Bytes),
    /// The elements of a collection; at least one.
    Many(Elements),
    /// The database has no such row, or the key cannot name one (`user:abc` where the id is an integer).
    Absent,
}

/// The result of loading one key. It is cheap to clone, for the many who may wait for one load.
pub type LoadResult = Result<Loaded, LoadError>;

/// A database that rows are loaded from. Its methods may be called from any thread that runs a tokio runtime with
/// time and I/O.
pub trait Source: Send + Sync {
    /// Loads one key of `route`; `wish` is granted by `deadline`, whatever the database does.
    fn load(self: Arc<Self>, route: &Arc<Route>, params: Params, deadline: Instant, wish: Box<dyn Wish>);

    /// Takes a write to the database, by `deadline`.
    fn write(
        self: Arc<Self>,
        route: Arc<Route>,
        write: Write,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Result<Written, WriteError>> + Send + 'static>>;

    /// Somebody left who waited for a key of a route.
    fn left(&self, route: &Route);

    /// Opens the part of the pool's `min` connections that falls to a thread, by its number among so many, so that the
    /// first loads need not. Failures are left to the loads.
    fn warm(self: Arc<Self>, thread: usize, threads: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

    /// The counters as they stand.
    fn snapshot(&self) -> SourceSnapshot;

    /// What it is asked with, such as a password, may have changed: if it failed, it may be asked again at once.
    fn reconsider(&self);

    /// Counts anew.
    fn reset_counts(&self);
}

/// Why a load failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The database cannot be reached, refuses the connection, or went away.
    Down,
    /// The circuit breaker is open: the database failed just now, and is not asked for a moment.
    BreakerOpen,
    /// Too many loads wait for a connection.
    QueueFull,
    /// The deadline passed while waiting for a connection or for the query.
    TimedOut,
    /// The database could not serve it at this moment: a conflict, a lock, too little memory.
    Busy,
    /// The query failed.
    Sql,
    /// The query's parameters or columns have types or a number that the route cannot serve.
    Type,
    /// The value is larger than the route's `max_value_bytes`.
    Size,
    /// More than one row where one is due.
    Rows,
    /// More rows than the route's `max_rows`.
    MaxRows,
    /// A hash's field or a sorted set's member comes twice.
    Double,
    /// A sorted set's score is not a number.
    Score,
}

impl Cause {
    /// Every cause, in the order of [`Cause::index`].
    pub const ALL: [Cause; 12] = [
        Cause::Down,
        Cause::BreakerOpen,
        Cause::QueueFull,
        Cause::TimedOut,
        Cause::Busy,
        Cause::Sql,
        Cause::Type,
        Cause::Size,
        Cause::Rows,
        Cause::MaxRows,
        Cause::Double,
        Cause::Score,
    ];

    /// Its place in [`Cause::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// A short name for counters and labels.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Down => "down",
            Cause::BreakerOpen => "breaker_open",
            Cause::QueueFull => "queue_full",
            Cause::TimedOut => "timed_out",
            Cause::Busy => "busy",
            Cause::Sql => "sql",
            Cause::Type => "type",
            Cause::Size => "size",
            Cause::Rows => "rows",
            Cause::MaxRows => "max_rows",
            Cause::Double => "double",
            Cause::Score => "score",
        }
    }

    /// Whether the same load may succeed in a moment: `-TRYAGAIN` instead of `-ERR`.
    pub fn is_passing(self) -> bool {
        matches!(self, Cause::Down | Cause::BreakerOpen | Cause::QueueFull | Cause::TimedOut | Cause::Busy)
    }

    fn words(self) -> &'static str {
        match self {
            Cause::Down => "the database is down",
            Cause::BreakerOpen => "the database failed just now and is not asked for a moment",
            Cause::QueueFull => "too many loads wait for the database",
            Cause::TimedOut => "the database did not answer in time",
            Cause::Busy => "the database could not serve the query now",
            Cause::Sql => "the query failed",
            Cause::Type => "the query does not fit the route",
            Cause::Size => "the value is larger than max_value_bytes",
            Cause::Rows => "the query returned more than one row",
            Cause::MaxRows => "the query returned more than max_rows rows",
            Cause::Double => "the query returned a field or member twice",
            Cause::Score => "the query returned a score that is not a number",
        }
    }
}

/// A failed load: what a client may know of it. The rest is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Why.
    pub cause: Cause,
    /// Postgres's five-character code, where it gave one.
    pub sqlstate: Option<[u8; 5]>,
}

impl LoadError {
    /// The error as a reply's text, without the leading `-`: `TRYAGAIN route 'user:{id}': the database is down`.
    /// Names the route and the cause; never the SQL, the DSN or a value. One printable line.
    pub fn line(&self, route: &str) -> String {
        let prefix = if self.cause.is_passing() { "TRYAGAIN" } else { "ERR" };
        format!("{prefix} route '{route}': {self}")
    }
}

impl From<Cause> for LoadError {
    fn from(cause: Cause) -> LoadError {
        LoadError { cause, sqlstate: None }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.words())?;
        match &self.sqlstate {
            Some(code) => write!(f, " (SQLSTATE {})", code.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LoadError {}
