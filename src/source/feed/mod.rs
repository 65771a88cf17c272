//! What the database tells of its changes, and which keys each concerns. Knows routes and Postgres; what becomes of
//! the keys is the business of the [`Sink`].
//!
//! A [`Feed`] follows one source: `wal` by logical replication (`pgoutput`), `notify` by triggers. Both speak over a
//! [`super::session`] of their own, look up in the `catalog` what the routes depend on (`derive`, `settings`), and turn changed
//! rows into keys by the same rules (`mapping`). `setup` writes the SQL that the database needs for it.
//!
//! **What is promised.** As long as a feed is in step, every committed change of a row that a route depends on reaches
//! the sink, and if the change might not yet be visible to a new query, with its transaction's id. Whenever that may
//! not be so (the connection broke, the slot is gone, a table was altered, a message was not understood), each of the
//! feed's routes is told to be stale as a whole: when it is noticed, while it lasts, and once the feed is in step again.

mod catalog;
mod derive;
#[cfg(test)]
mod feed_tests;
mod mapping;
mod notify;
mod pgoutput;
mod settings;
mod setup;
mod status;
mod wal;

pub use derive::Dependency;
pub use settings::{Dependencies, FeedConfig, Mode};
pub use setup::run_setup;
pub use status::{FeedSnapshot, FeedState};

pub(super) use catalog::literal;
pub(super) use derive::{quote, quoted};
pub(super) use settings::{read_dependencies, read_feed};

use super::postgres::connector;
use super::postgres_link::Connector;
use super::routes::Route;
use super::session::{Problem, Session};
use super::source_config::SourceConfig;
use catalog::{Catalog, Remark};
use mapping::Rule;
use status::Status;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Pauses between attempts to get in step grow from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// While a feed is out of step, what was loaded is trusted for so long.
const DEGRADED: Duration = Duration::from_secs(5);
/// A server that says nothing for so long, though asked, is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a query to the catalogs may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes what a feed tells. Called from the feed's task; must not block.
pub trait Sink: Send + Sync {
    /// A row that this key was made of has changed. `xid`: the low half of the transaction's id, where new queries
    /// may still miss the change; None where they cannot. Returns how many cached keys went.
    fn key(&self, route: &Route, key: &[u8], xid: Option<u32>) -> u64;

    /// Any key of the route may be stale.
    fn route(&self, route: &Route, xid: Option<u32>);
}

/// Follows the changes of one source.
pub struct Feed {
    source: Box<str>,
    config: FeedConfig,
    connector: Connector,
    connect_timeout: Duration,
    routes: Vec<Arc<Route>>,
    status: Status,
}

impl Feed {
    /// A feed for those `routes` of a source that depend on rows; nothing is connected yet.
    pub(super) fn new(source: &SourceConfig, config: &FeedConfig, routes: &[Arc<Route>]) -> Feed {
        let concerned = |route: &&Arc<Route>| route.dependencies != Dependencies::Off;
        Feed {
            source: source.name.clone(),
            config: config.clone(),
            connector: connector(source, routes),
            connect_timeout: source.pool.connect_timeout,
            routes: routes.iter().filter(concerned).cloned().collect(),
            status: Status::default(),
        }
    }

    /// True if it follows these routes of this source, of which nothing else is different.
    pub(super) fn is_for(&self, source: &SourceConfig, routes: &[Arc<Route>]) -> bool {
        let concerned = routes.iter().filter(|route| route.dependencies != Dependencies::Off);
        let concerned: Vec<_> = concerned.collect();
        let same = |(a, b): (&&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(a, b);
        self.source == source.name
            && concerned.len() == self.routes.len()
            && concerned.iter().zip(&self.routes).all(same)
    }

    /// Its figures.
    pub fn snapshot(&self, now: i64) -> FeedSnapshot {
        self.status.snapshot(&self.source, self.config.mode, now)
    }

    /// Counts anew (CONFIG RESETSTAT).
    pub(super) fn reset_counts(&self) {
        self.status.reset();
    }

    /// Why a route's changes are not told, as far as is known.
    pub fn remarks(&self, route: &Route) -> Vec<String> {
        self.status.remarks(route.id)
    }

    /// Follows the source for ever; to be dropped once the routes are others.
    pub async fn run(self: Arc<Self>, sink: Arc<dyn Sink>) {
        if !self.routes.is_empty() {
            tokio::join!(self.keep_in_step(&*sink), self.distrust(&*sink));
        }
    }

    async fn keep_in_step(&self, sink: &dyn Sink) {
        let mut pause = PAUSE_MIN;
        loop {
            self.status.starting();
            let problem = match self.config.mode {
                Mode::Wal => wal::follow(self, sink).await,
                Mode::Notify => notify::follow(self, sink).await,
            };
            let was_in_step = self.status.leave();
            if was_in_step {
                pause = PAUSE_MIN;
                self.flush_all(sink);
            }
            tracing::warn!(
                source = %self.source, mode = self.config.mode.name(), error = %problem, was_in_step,
                "the changes of the database are not heard; until they are, what is loaded is trusted for {DEGRADED:?}"
            );
            sleep(pause.mul_f64(0.5 + crate::random::share() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// As long as the feed is out of step, tells all to be stale again and again.
    async fn distrust(&self, sink: &dyn Sink) {
        loop {
            sleep(DEGRADED).await;
            if !self.status.is_in_step() {
                self.flush_all(sink);
            }
        }
    }

    /// From now on every change is heard: what was loaded before may have missed some.
    fn enter(&self, sink: &dyn Sink, catalog: &Catalog) {
        self.flush_all(sink);
        self.status.enter();
        tracing::info!(
            source = %self.source, mode = self.config.mode.name(), routes = catalog.served().len(),
            tables = catalog.watched.len(), "the changes of the database are heard"
        );
    }

    /// Tells all routes to be stale.
    fn flush_all(&self, sink: &dyn Sink) {
        self.routes.iter().for_each(|route| sink.route(route, None));
        self.status.flushed(self.routes.len() as u64);
    }

    /// The catalog is known: notes and logs what it lacks.
    fn note(&self, catalog: &Catalog) {
        for Remark { route, is_fatal, words } in &catalog.remarks {
            let route = self.routes.iter().find(|known| known.id == *route).map_or("", |route| &*route.name);
            match is_fatal {
                true => tracing::warn!(source = %self.source, %route, "changes do not reach this route: {words}"),
                false => tracing::warn!(source = %self.source, %route, "{words}"),
            }
        }
        let ids = catalog.remarks.iter().map(|remark| (remark.route, remark.words.clone()));
        self.status.set_remarks(ids.collect(), self.routes.len() - catalog.served().len());
    }
}

/// What `check` finds of the changes of a source's routes.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Why no change is told at all.
    pub(super) problem: Option<String>,
    /// By [`Route::id`]: whether the route's changes are told, and what there is to say of it.
    pub(super) routes: HashMap<u64, (bool, Vec<String>)>,
}

/// Looks whether the changes of `routes` would be told, as a feed does when it starts.
pub(super) async fn examine(source: &SourceConfig, routes: &[Arc<Route>]) -> Option<Examined> {
    let config = source.feed.as_ref()?;
    let feed = Feed::new(source, config, routes);
    let prepared = async {
        let mut session = within(feed.connect_timeout, Session::open(&feed.connector, false)).await?;
        let catalog = match config.mode {
            Mode::Wal => wal::prepare(&feed, &mut session).await?,
            Mode::Notify => notify::prepare(&feed, &mut session).await?,
        };
        if config.mode == Mode::Wal {
            // Whether the role may stream.
            within(feed.connect_timeout, Session::open(&feed.connector, true)).await?;
        }
        Ok(catalog)
    };
    let catalog = match within(QUERY_TIMEOUT, prepared).await {
        Ok(catalog) => catalog,
        Err(problem) => return Some(Examined { problem: Some(problem.to_string()), ..Examined::default() }),
    };
    let mut examined = Examined::default();
    for route in &feed.routes {
        let remarks = catalog.remarks.iter().filter(|remark| remark.route == route.id);
        let mut words: Vec<String> = remarks.map(|remark| remark.words.clone()).collect();
        let rules = catalog.watched.iter().flat_map(|watched| watched.rules.iter().map(move |rule| (watched, rule)));
        let told: Vec<String> = rules
            .filter(|(_, rule)| rule.route.id == route.id)
            .map(|(watched, rule)| tell(&watched.table, rule))
            .collect();
        if !told.is_empty() {
            words.insert(0, format!("told by {}", told.join(", ")));
        }
        examined.routes.insert(route.id, (!told.is_empty(), words));
    }
    Some(examined)
}

/// A rule as `depends` would write it.
fn tell(table: &catalog::Table, rule: &Rule) -> String {
    let name = table.full_name();
    let Some(captures) = rule.captures.as_ref().filter(|captures| !captures.is_empty()) else { return name };
    let pairs = captures.iter().zip(rule.route.key.names());
    let pairs = pairs.map(|((column, _), capture)| format!("{} -> {capture}", table.columns[*column].name));
    format!("{name}({})", pairs.collect::<Vec<_>>().join(", "))
}

/// Bounds a step of a conversation.
async fn within<T>(limit: Duration, step: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    match tokio::time::timeout(limit, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::new("the server did not answer in time")),
    }
}

/// A route is stale as a whole, once for each transaction.
fn flush(sink: &dyn Sink, status: &Status, rule: &Rule, xid: Option<u32>, done: &mut Vec<u64>) {
    if !done.contains(&rule.route.id) {
        done.push(rule.route.id);
        sink.route(&rule.route, xid);
        status.flushed(1);
    }
}

/// A session at `url`, for tests.
#[cfg(test)]
pub(super) async fn open_session(url: &str) -> Session {
    let text = format!("[source.main]\nurl = \"{url}\"\n");
    let config = super::routes::Config::parse("r", &text, None).expect("a source");
    Session::open(&connector(&config.sources[0], &[]), false).await.expect("a session")
}
