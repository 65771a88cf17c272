//! Postgres as a source: one load from its key to its value, over the pool, within its deadline.
//!
//! The database is asked only for what can be a row: captures that are no values of the parameters' types end here
//! once the types are known. A connection that turns out dead costs one more try on a fresh one; a statement that the
//! schema outgrew is prepared once more.

use super::param::ParamKind;
use super::pool::{Lease, Pool};
use super::postgres_link::Connector;
use super::postgres_statement::{self as statement, Failure, Prepared, Trouble};
use super::routes::{Route, SourceConfig};
use super::stats::{Counters, SourceSnapshot};
use super::template::Params;
use super::{Cause, LoadFuture, LoadResult, Loaded, Source};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

pub use super::postgres_link::Target;

/// Statements kept on one connection; past it they are all let go, so that reloaded routes leave nothing behind.
const STATEMENTS_MAX: usize = 16_384;
/// The driver buffers a row whole. In binary it is at most this many times as long as the value made of it (a list of
/// small numbers), plus some for what surrounds it.
const ROW_PER_VALUE_MAX: usize = 16;
const ROW_SURROUND_BYTES: usize = 64 << 10;
/// After a value of more bytes than this, the connection is closed: the driver's buffer has grown to the row's size, and
/// would stay so for as long as the connection lives.
const VALUE_BYTES_KEPT_MAX: usize = 1 << 20;
/// At most one line a second is logged for failed loads.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// Queries slower than this are logged.
const SLOW_QUERY: Duration = Duration::from_secs(1);

/// One Postgres database.
pub(super) struct Postgres {
    name: Box<str>,
    pool: Arc<Pool<Connector>>,
    counters: Counters,
    /// The parameters' kinds by route id, as last prepared: what cannot be a value needs no connection.
    kinds: RwLock<HashMap<u64, Arc<[ParamKind]>>>,
    log: Mutex<LogPause>,
}

#[derive(Default)]
struct LogPause {
    until: Option<Instant>,
    /// Failures that were not logged since.
    silent: u64,
}

impl Postgres {
    /// A source for `routes`, not yet connected.
    pub(super) fn new(config: &SourceConfig, routes: &[Arc<Route>]) -> Arc<Postgres> {
        let pool = Pool::new(connector(config, routes), config.pool.clone());
        Arc::new(Postgres {
            name: config.name.clone(),
            pool,
            counters: Counters::default(),
            kinds: RwLock::default(),
            log: Mutex::default(),
        })
    }

    async fn find(&self, route: &Route, params: &Params, deadline: Instant) -> Result<Loaded, Trouble> {
        let known = self.kinds.read().get(&route.id).cloned();
        if let Some(kinds) = known
            && statement::encode(&kinds, route, params).is_none()
        {
            return Ok(self.unparsable());
        }
        match timeout_at(deadline, self.try_twice(route, params, deadline)).await {
            Ok(result) => result,
            // Dropping what runs has cancelled it.
            Err(_) => Err(Trouble::new(Cause::TimedOut, "the deadline passed during the query")),
        }
    }

    fn unparsable(&self) -> Loaded {
        self.counters.unparsable();
        Loaded::Absent
    }

    async fn try_twice(&self, route: &Route, params: &Params, deadline: Instant) -> Result<Loaded, Trouble> {
        match self.attempt(route, params, deadline, false).await? {
            Ok(loaded) => Ok(loaded),
            Err(Failure::Lost(_)) => {
                self.counters.retry();
                self.attempt(route, params, deadline, true).await?.map_err(Failure::into_trouble)
            }
            Err(failure) => Err(failure.into_trouble()),
        }
    }

    /// One try on one connection; the outer error is for none to be had.
    async fn attempt(
        &self,
        route: &Route,
        params: &Params,
        deadline: Instant,
        fresh: bool,
    ) -> Result<Result<Loaded, Failure>, Trouble> {
        let mut lease = match self.pool.acquire(deadline, fresh).await {
            Ok(lease) => lease,
            Err(error) => return Err(Trouble { error, detail: "no connection".into() }),
        };
        let mut result = self.query(&mut lease, route, params).await;
        if let Err(Failure::Outdated(_)) = result {
            lease.statements.remove(&route.id);
            self.counters.retry();
            result = self.query(&mut lease, route, params).await;
        }
        if lease.is_overflowed() {
            result = Err(Failure::Final(Trouble::new(Cause::Size, "the row is far larger than max_value_bytes")));
        }
        lease.doomed |= match &result {
            Ok(Loaded::Value(value)) => value.len() > VALUE_BYTES_KEPT_MAX,
            Err(Failure::Lost(_)) => true,
            _ => false,
        };
        Ok(result)
    }

    async fn query(&self, lease: &mut Lease<Connector>, route: &Route, params: &Params) -> Result<Loaded, Failure> {
        let prepared = match lease.statements.get(&route.id) {
            Some(prepared) => Arc::clone(prepared),
            None => self.prepare(lease, route).await?,
        };
        let Some(encoded) = statement::encode(&prepared.kinds, route, params) else {
            return Ok(self.unparsable());
        };
        let started = Instant::now();
        let result = prepared.run(lease, route, params, &encoded).await;
        let time = started.elapsed();
        self.counters.query(time);
        if time >= SLOW_QUERY {
            tracing::warn!(route = %route.name, query_time_ms = time.as_millis() as u64, "a load was slow");
        }
        result
    }

    async fn prepare(&self, lease: &mut Lease<Connector>, route: &Route) -> Result<Arc<Prepared>, Failure> {
        lease.running = true;
        let prepared = statement::prepare(&lease.client, route).await;
        lease.running = false;
        let prepared = Arc::new(prepared?);
        self.kinds.write().insert(route.id, Arc::clone(&prepared.kinds));
        if lease.statements.len() >= STATEMENTS_MAX {
            lease.statements.clear();
        }
        lease.statements.insert(route.id, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Logs each load at debug, and failed ones at warn, but no more than one a second of these.
    fn log(&self, route: &Route, started: Instant, result: &Result<Loaded, Trouble>) {
        let load_time_ms = started.elapsed().as_millis() as u64;
        let trouble = match result {
            Ok(loaded) => {
                let found = matches!(loaded, Loaded::Value(_));
                tracing::debug!(source = %self.name, route = %route.name, load_time_ms, found, "loaded");
                return;
            }
            Err(trouble) => trouble,
        };
        let silent = {
            let mut log = self.log.lock();
            let now = Instant::now();
            if log.until.is_some_and(|until| now < until) {
                log.silent += 1;
                None
            } else {
                log.until = Some(now + LOG_PAUSE);
                Some(std::mem::take(&mut log.silent))
            }
        };
        let (source, route, cause, detail) = (&self.name, &route.name, trouble.error.cause.name(), &trouble.detail);
        match silent {
            Some(unlogged) => tracing::warn!(%source, %route, load_time_ms, cause, %detail, unlogged, "a load failed"),
            None => tracing::debug!(%source, %route, load_time_ms, cause, %detail, "a load failed"),
        }
    }
}

/// Opens connections for `routes` of a source.
pub(super) fn connector(config: &SourceConfig, routes: &[Arc<Route>]) -> Connector {
    let value_bytes_max = routes.iter().map(|route| route.max_value_bytes).max().unwrap_or(0);
    Connector {
        target: config.target.clone(),
        password: config.password.clone(),
        statement_timeout: routes.iter().map(|route| route.load_timeout).max().unwrap_or(config.load_timeout),
        message_bytes_max: value_bytes_max * ROW_PER_VALUE_MAX + ROW_SURROUND_BYTES,
    }
}

impl Source for Postgres {
    fn load(self: Arc<Self>, route: Arc<Route>, params: Params, deadline: Instant) -> LoadFuture {
        Box::pin(async move {
            self.counters.begin();
            let started = Instant::now();
            let result = self.find(&route, &params, deadline).await;
            self.log(&route, started, &result);
            let result: LoadResult = result.map_err(|trouble| trouble.error);
            self.counters.end(&result);
            result
        })
    }

    fn warm(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        Box::pin(Arc::clone(&self.pool).warm())
    }

    fn snapshot(&self) -> SourceSnapshot {
        self.counters.snapshot(&self.name, self.pool.snapshot())
    }

    fn reset_counts(&self) {
        self.counters.reset();
        self.pool.reset_counts();
    }
}
