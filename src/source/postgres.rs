//! Postgres as a source: keys that are wanted at the same time, from their queue to their values, over the pool, within
//! their deadlines.
//!
//! The database is asked only for what can be a row: captures that are no values of the parameters' types end here
//! once the types are known. What fails for a moment is tried again, as long as the deadline and the `retry` budget
//! allow; a statement that the schema outgrew is prepared once more. A query for many keys that fails is run again for
//! each half of them, so that one bad key costs the others a few queries, not their values. One that nobody waits for any
//! more is cancelled. While the database fails, the `breaker` lets one key through at a time.

use super::breaker::{Breaker, Outcome, Pass, Trial};
use super::load_log::{Line, Stopwatch};
use super::param::ParamKind;
use super::pool::{Denied, Lease, Pool};
use super::postgres_batch::Fetched;
use super::postgres_link::Connector;
use super::postgres_rows::Brought;
use super::postgres_statement::{self as statement, Failure, Prepared, Trouble};
use super::postgres_write::{Attempt, Write, WriteError, Written, run_write};
use super::queue::{Answer, Pending, RouteQueue, Runner, Wish};
use super::retry::{self, Budget};
use super::routes::Route;
use super::source_config::{RetryConfig, SourceConfig};
use super::stats::{Counters, SourceSnapshot};
use super::template::Params;
use super::tls::Tls;
use super::writes::Verb;
use super::{Cause, LoadError, LoadResult, Loaded, Source};
use crate::clock;
use crate::freshness::Snapshot;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Statements kept on one connection; past it they are all let go, so that reloaded routes leave nothing behind.
pub(super) const STATEMENTS_MAX: usize = 16_384;
/// The driver buffers a row whole. In binary it is at most this many times as long as the value made of it (a list of
/// small numbers), plus some for what surrounds it.
const ROW_PER_VALUE_MAX: usize = 16;
const ROW_SURROUND_BYTES: usize = 64 << 10;
/// After a value of more bytes than this, the connection is closed: the driver's buffer has grown to the row's size, and
/// would stay so for as long as the connection lives.
const VALUE_BYTES_KEPT_MAX: usize = 1 << 20;

/// One Postgres database.
pub(super) struct Postgres {
    name: Box<str>,
    pool: Arc<Pool<Connector>>,
    breaker: Arc<Breaker>,
    retry: RetryConfig,
    budget: Budget,
    counters: Counters,
    /// By route id and the thread whose keys gather there: its runtime runs their queries.
    queues: RwLock<HashMap<(u64, ThreadId), Arc<RouteQueue>>>,
    /// Keys that wait for a connection, of all routes.
    waiting: AtomicUsize,
    waiting_max: usize,
    /// The parameters' kinds by route id, as last prepared: what cannot be a value needs no connection.
    kinds: RwLock<HashMap<u64, Arc<[ParamKind]>>>,
    /// Statements by route id that any connection can run.
    shared: RwLock<HashMap<u64, Arc<Prepared>>>,
}

/// What there is to say of the query that a load was part of. The default: there was none.
#[derive(Clone, Default)]
struct Trip {
    /// How long it took.
    time: Duration,
    /// The keys that it was for.
    batch: usize,
    snapshot: Option<Arc<Snapshot>>,
}

impl Postgres {
    /// A source for `routes`, not yet connected.
    pub(super) fn new(config: &SourceConfig, routes: &[Arc<Route>]) -> Arc<Postgres> {
        let pool = Pool::new(connector(config, routes), config.pool.clone());
        Arc::new(Postgres {
            name: config.name.clone(),
            pool,
            breaker: Breaker::new(&config.name),
            retry: config.retry.clone(),
            budget: Budget::default(),
            counters: Counters::default(),
            queues: RwLock::default(),
            waiting: AtomicUsize::new(0),
            waiting_max: config.pool.max_waiting,
            kinds: RwLock::default(),
            shared: RwLock::default(),
        })
    }

    fn queue(&self, route: &Arc<Route>) -> Arc<RouteQueue> {
        let place = (route.id, std::thread::current().id());
        if let Some(queue) = self.queues.read().get(&place) {
            return Arc::clone(queue);
        }
        let mut queues = self.queues.write();
        Arc::clone(queues.entry(place).or_insert_with(|| RouteQueue::new(Arc::clone(route))))
    }

    fn start_runner(self: &Arc<Self>, queue: &Arc<RouteQueue>) {
        tokio::spawn(Arc::clone(self).run(Arc::clone(queue)));
    }

    /// Waits for a connection, and serves with it what waits by then.
    async fn run(self: Arc<Self>, queue: Arc<RouteQueue>) {
        let runner = Runner(&queue);
        queue.gather().await;
        let mut tries = 0;
        let lease = loop {
            let Some(deadline) = queue.deadline() else { return };
            match self.pool.acquire(deadline, false).await {
                Ok(lease) => break lease,
                Err(denied) if self.waits_to_retry(&mut tries, &denied.error, false, deadline).await => {}
                Err(denied) => {
                    let late = queue.take_expired(Instant::now());
                    let failed = if late.is_empty() { queue.take() } else { late };
                    self.leave_queue(failed.len());
                    self.tell(None, denied.is_by_server.then(|| self.unreachable()), Some(&denied.error));
                    for pending in failed {
                        self.refuse(&queue.route, pending, no_connection(denied.error.clone()));
                    }
                }
            }
        };
        let batch = queue.take();
        drop(runner);
        let _under_way = queue.begin();
        self.leave_queue(batch.len());
        if !batch.is_empty() {
            self.serve(&queue, lease, batch, None).await;
        }
    }

    /// Loads one key to see whether the database is back: on a fresh connection, and with one try.
    async fn try_out(self: Arc<Self>, queue: Arc<RouteQueue>, pending: Pending, trial: Trial) {
        match self.pool.acquire(pending.deadline, true).await {
            Ok(lease) => self.serve(&queue, lease, vec![pending], Some(trial)).await,
            Err(denied) => {
                let outcome = denied.is_by_server.then_some(Outcome::Unreachable);
                self.tell(Some(trial), outcome, Some(&denied.error));
                self.refuse(&queue.route, pending, no_connection(denied.error));
            }
        }
    }

    /// What a failure to connect says of the database.
    fn unreachable(&self) -> Outcome {
        if self.pool.is_empty() { Outcome::Unreachable } else { Outcome::Silent }
    }

    /// Tells the breaker what a load says of the database; None: nothing.
    fn tell(&self, trial: Option<Trial>, outcome: Option<Outcome>, error: Option<&LoadError>) {
        let Some(outcome) = outcome else { return };
        let (now, sqlstate) = (Instant::now(), error.and_then(|error| error.sqlstate));
        match trial {
            Some(trial) => trial.end(now, outcome, sqlstate),
            // Loads that come after it are not to wait for connections that do not answer.
            None if self.breaker.count(now, outcome, sqlstate) => self.pool.close_idle(),
            None => {}
        }
    }

    fn leave_queue(&self, keys: usize) {
        self.waiting.fetch_sub(keys, Relaxed);
    }

    /// Runs a batch and grants its wishes; if the query fails for all, each half by itself.
    async fn serve(
        self: &Arc<Self>,
        queue: &Arc<RouteQueue>,
        lease: Lease<Connector>,
        batch: Vec<Pending>,
        mut trial: Option<Trial>,
    ) {
        let mut lease = Some(lease);
        let mut groups = vec![batch];
        while let Some(mut group) = groups.pop() {
            let started = Instant::now();
            let deadline = group.iter().map(|pending| pending.deadline).max().unwrap_or(started);
            let params: Vec<&Params> = group.iter().map(|pending| &pending.params).collect();
            let mut watch = Stopwatch::default();
            let loading = self.persist(queue, &params, lease.take(), deadline, trial.is_some(), &mut watch);
            let served = unless_all_leave(queue, &group, timeout_at(deadline, loading)).await;
            let mut trip = Trip { time: watch.time(), batch: group.len(), snapshot: None };
            let is_wanted = served.is_some();
            let outcome = match served {
                Some(Ok(outcome)) => outcome,
                // Dropping what runs has cancelled it.
                Some(Err(_)) => Err(Failure::timed_out("the deadline passed during the query")),
                None => Err(Failure::timed_out("nobody waited for it any more")),
            };
            let (says, error) = self.meaning(&outcome);
            // A query that was given up says nothing of the database.
            self.tell(trial.take(), says.filter(|_| is_wanted), error);
            match outcome {
                Ok(Fetched { keys, snapshot }) => {
                    if let Some(snapshot) = &snapshot {
                        let now = (clock::monotonic_ns() / 1_000_000) as i64;
                        queue.route.terms.horizon.note(snapshot, now);
                    }
                    // What an earlier configuration wanted to be seen is not to be waited for.
                    let snapshot = snapshot.or_else(|| (!queue.route.is_fenced).then(Snapshot::of_all));
                    trip.snapshot = snapshot.map(Arc::new);
                    for (pending, brought) in group.into_iter().zip(keys) {
                        self.grant(&queue.route, pending, brought, &trip);
                    }
                }
                Err(Failure::Alone) => {
                    queue.set_batched(false);
                    let rest = group.split_off(1);
                    self.waiting.fetch_add(rest.len(), Relaxed);
                    (0..queue.put_back(rest)).for_each(|_| self.start_runner(queue));
                    groups.push(group);
                }
                Err(failure) if group.len() > 1 && failure.may_be_one_keys() => {
                    let half = group.split_off(group.len() / 2);
                    groups.extend([half, group]);
                }
                Err(failure) => {
                    let trouble = failure.into_trouble();
                    for pending in group {
                        self.grant(&queue.route, pending, Brought { loaded: Err(trouble.clone()), rows: 0 }, &trip);
                    }
                }
            }
        }
    }

    /// Hands over what was loaded for one key.
    fn grant(&self, route: &Route, pending: Pending, brought: Brought, trip: &Trip) {
        let now = Instant::now();
        let started = pending.deadline.checked_sub(route.load_timeout).unwrap_or(pending.deadline);
        let load_time = now.saturating_duration_since(started);
        let line = Line {
            source: &self.name,
            route,
            load_time,
            query_time: trip.time,
            batch: trip.batch,
            rows: brought.rows,
            is_hit: pending.wish.is_refresh(),
        };
        route.stats.log.write(&line, now, &brought.loaded);
        let result: LoadResult = brought.loaded.map_err(|trouble| trouble.error);
        self.counters.end(&result);
        route.stats.load(&result, load_time);
        pending.grant(Answer { result, snapshot: trip.snapshot.clone() });
    }

    /// Tells of a key that the database was not asked for why not.
    fn refuse(&self, route: &Route, pending: Pending, trouble: Trouble) {
        self.grant(route, pending, Brought { loaded: Err(trouble), rows: 0 }, &Trip::default());
    }

    /// What the end of a query says of the database.
    fn meaning<'o>(&self, outcome: &'o Result<Fetched, Failure>) -> (Option<Outcome>, Option<&'o LoadError>) {
        let Some(trouble) = outcome.as_ref().err().and_then(Failure::trouble) else {
            return (Some(Outcome::Answered), None);
        };
        let outcome = match trouble.error.cause {
            Cause::Down => Some(self.unreachable()),
            Cause::TimedOut => Some(Outcome::Silent),
            Cause::QueueFull => None,
            _ => Some(Outcome::Answered),
        };
        (outcome, Some(&trouble.error))
    }

    /// Tries as often as that may help; a trial once.
    async fn persist(
        &self,
        queue: &RouteQueue,
        params: &[&Params],
        mut lease: Option<Lease<Connector>>,
        deadline: Instant,
        is_trial: bool,
        watch: &mut Stopwatch,
    ) -> Result<Fetched, Failure> {
        let (mut tries, mut fresh) = (0, false);
        loop {
            let failure = match self.attempt(queue, params, lease.take(), deadline, fresh, watch).await {
                Ok(fetched) => {
                    self.budget.earn();
                    return Ok(fetched);
                }
                Err(failure) => failure,
            };
            // A connection that broke says little of the next one.
            let is_lost = matches!(failure, Failure::Lost(_));
            let Some(trouble) = failure.trouble().filter(|_| !is_trial) else { return Err(failure) };
            if !self.waits_to_retry(&mut tries, &trouble.error, is_lost && !fresh, deadline).await {
                return Err(failure);
            }
            fresh = is_lost;
        }
    }

    /// Waits before another try; false if there is to be none.
    async fn waits_to_retry(&self, tries: &mut u32, error: &LoadError, at_once: bool, deadline: Instant) -> bool {
        let pause = if at_once { Duration::ZERO } else { retry::pause(&self.retry, *tries) };
        *tries += 1;
        let is_in_vain = *tries >= self.retry.max_attempts || Instant::now() + pause >= deadline;
        if is_in_vain || !retry::may_help(error) || !self.budget.spend() {
            return false;
        }
        self.counters.retry();
        sleep(pause).await;
        true
    }

    /// One try on one connection: the one at hand, or another.
    async fn attempt(
        &self,
        queue: &RouteQueue,
        params: &[&Params],
        lease: Option<Lease<Connector>>,
        deadline: Instant,
        fresh: bool,
        watch: &mut Stopwatch,
    ) -> Result<Fetched, Failure> {
        let mut lease = match lease {
            Some(lease) => lease,
            None => match self.pool.acquire(deadline, fresh).await {
                Ok(lease) => lease,
                Err(Denied { error, .. }) => return Err(Failure::Final(no_connection(error))),
            },
        };
        let mut outcome = self.query(&mut lease, queue, params, watch).await;
        if let Err(Failure::Outdated(_)) = outcome {
            lease.statements.remove(&queue.route.id);
            self.shared.write().remove(&queue.route.id);
            self.counters.retry();
            outcome = self.query(&mut lease, queue, params, watch).await;
        }
        if lease.is_overflowed() {
            outcome = Err(Failure::Final(Trouble::new(Cause::Size, "the row is far larger than max_value_bytes")));
        }
        let is_large = |brought: &Brought| match &brought.loaded {
            Ok(Loaded::Value(value)) => value.len() > VALUE_BYTES_KEPT_MAX,
            // Each row was small, unless there was one.
            Ok(Loaded::Many(elements)) => elements.bytes() > VALUE_BYTES_KEPT_MAX,
            _ => false,
        };
        lease.doomed |= match &outcome {
            Ok(fetched) => fetched.keys.iter().any(is_large),
            Err(Failure::Lost(_)) => true,
            Err(_) => false,
        };
        outcome
    }

    async fn query(
        &self,
        lease: &mut Lease<Connector>,
        queue: &RouteQueue,
        params: &[&Params],
        watch: &mut Stopwatch,
    ) -> Result<Fetched, Failure> {
        let route = &*queue.route;
        let known = lease.statements.get(&route.id).cloned();
        let prepared = match known.or_else(|| self.shared.read().get(&route.id).cloned()) {
            Some(prepared) => prepared,
            None => self.prepare(lease, route).await?,
        };
        if params.len() > 1 && prepared.batch.is_err() {
            return Err(Failure::Alone);
        }
        let mut keys = Vec::with_capacity(params.len());
        let mut is_asked = Vec::with_capacity(params.len());
        for params in params {
            let encoded = statement::encode(&prepared.kinds, route, params);
            is_asked.push(encoded.is_some());
            match encoded {
                Some(encoded) => keys.push((*params, encoded)),
                None => self.counters.unparsable(),
            }
        }
        if keys.is_empty() {
            return Ok(Fetched { keys: params.iter().map(|_| Brought::ABSENT).collect(), snapshot: None });
        }
        watch.start();
        let outcome = prepared.run(lease, route, &keys).await;
        let time = watch.stop();
        self.counters.query(time, keys.len());
        route.stats.query(time, keys.len());
        let Fetched { keys, snapshot } = outcome?;
        let mut keys = keys.into_iter();
        let keys = is_asked.iter().filter_map(|is_asked| if *is_asked { keys.next() } else { Some(Brought::ABSENT) });
        Ok(Fetched { keys: keys.collect(), snapshot })
    }

    async fn prepare(&self, lease: &mut Lease<Connector>, route: &Route) -> Result<Arc<Prepared>, Failure> {
        lease.running = true;
        let is_pooled = lease.transaction.is_some();
        let prepared = statement::prepare(&lease.client, route, is_pooled).await;
        lease.running = false;
        // What the driver knows of it and a pooler does not is not to be relied on.
        lease.doomed |= is_pooled;
        let prepared = Arc::new(prepared?);
        if let Err(reason) = &prepared.batch {
            tracing::debug!(route = %route.name, %reason, "each key of the route is loaded by a query of its own");
        }
        self.kinds.write().insert(route.id, Arc::clone(&prepared.kinds));
        let mut shared = is_pooled.then(|| self.shared.write());
        let statements = shared.as_deref_mut().unwrap_or(&mut lease.statements);
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(route.id, Arc::clone(&prepared));
        Ok(prepared)
    }
}

fn no_connection(error: LoadError) -> Trouble {
    Trouble { error, detail: "no connection".into() }
}

impl Postgres {
    /// Runs a write; once more on another connection if nothing can have happened on the first.
    async fn try_write(
        &self,
        route: &Route,
        write: &Write,
        deadline: Instant,
    ) -> Result<Written, (WriteError, String)> {
        let no_connection = |denied: Denied| (denied.error.into(), "no connection".into());
        let mut lease = self.pool.acquire(deadline, false).await.map_err(no_connection)?;
        let mut is_last = false;
        loop {
            let mut is_ending = false;
            let attempt = run_write(&mut lease, route, write, &mut is_ending);
            match timeout_at(deadline, attempt).await {
                Ok(Ok(written)) => return Ok(written),
                Ok(Err(Attempt::Over(error, detail))) => return Err((error, detail)),
                Ok(Err(Attempt::Again(Trouble { error, detail }, _))) if is_last => return Err((error.into(), detail)),
                Ok(Err(Attempt::Again(_, is_lost))) => {
                    self.counters.retry();
                    is_last = true;
                    lease.writes.clear();
                    if is_lost {
                        lease.doomed = true;
                        drop(lease);
                        lease = self.pool.acquire(deadline, true).await.map_err(no_connection)?;
                    }
                }
                Err(_) if is_ending => return Err((WriteError::Unknown, "the deadline passed during COMMIT".into())),
                // Dropping the connection rolls it back.
                Err(_) => {
                    let error = LoadError::from(Cause::TimedOut);
                    return Err((error.into(), "the deadline passed during the write".into()));
                }
            }
        }
    }

    fn log_write(&self, route: &Route, verb: Verb, started: Instant, result: &Result<Written, (WriteError, String)>) {
        let write_time_ms = started.elapsed().as_millis() as u64;
        let (source, route, verb) = (&self.name, &route.name, verb.name());
        match result {
            Ok(Written { rows, .. }) => tracing::debug!(%source, %route, verb, write_time_ms, rows, "written"),
            // That is between the client and the database.
            Err((WriteError::Refused { .. } | WriteError::NoRow | WriteError::NoKey | WriteError::NoField(_), _)) => {
                tracing::debug!(%source, %route, verb, write_time_ms, "a write was refused");
            }
            Err((error, detail)) => {
                let error = error.line(route);
                tracing::warn!(%source, verb, write_time_ms, %error, %detail, "a write failed");
            }
        }
    }
}

/// Opens connections for `routes` of a source.
pub(super) fn connector(config: &SourceConfig, routes: &[Arc<Route>]) -> Connector {
    let value_bytes_max = routes.iter().map(|route| route.max_value_bytes).max().unwrap_or(0);
    Connector {
        target: config.target.clone(),
        tls: Arc::new(Tls::new(config.target.tls().clone())),
        password: config.password.clone(),
        statement_timeout: routes.iter().map(|route| route.load_timeout).max().unwrap_or(config.load_timeout),
        message_bytes_max: value_bytes_max * ROW_PER_VALUE_MAX + ROW_SURROUND_BYTES,
        is_pooled: config.is_pooled,
    }
}

/// Runs a query to its end, unless all who waited for it leave.
async fn unless_all_leave<T>(queue: &RouteQueue, group: &[Pending], query: impl Future<Output = T>) -> Option<T> {
    let mut query = pin!(query);
    loop {
        let mut left = pin!(queue.left.notified());
        left.as_mut().enable();
        let is_wanted = || group.iter().any(|pending| pending.wish.is_wanted());
        // Whoever joins meanwhile keeps it going.
        if !is_wanted() && group.iter().all(|pending| pending.wish.give_up()) {
            return None;
        }
        tokio::select! {
            biased;
            done = query.as_mut() => return Some(done),
            () = left => {}
        }
    }
}

impl Source for Postgres {
    fn load(self: Arc<Self>, route: &Arc<Route>, params: Params, deadline: Instant, wish: Box<dyn Wish>) {
        self.counters.begin();
        let pending = Pending { params, deadline, wish };
        let refuse = |loaded: Result<Loaded, Trouble>| {
            let (source, route) = (Arc::clone(&self), Arc::clone(route));
            move |pending: Pending| {
                let brought = Brought { loaded, rows: 0 };
                tokio::spawn(async move { source.grant(&route, pending, brought, &Trip::default()) });
            }
        };
        let is_no_row = |kinds: &Arc<[ParamKind]>| !statement::can_encode(kinds, route, &pending.params);
        if self.kinds.read().get(&route.id).is_some_and(is_no_row) {
            self.counters.unparsable();
            return refuse(Ok(Loaded::Absent))(pending);
        }
        match self.breaker.enter(Instant::now()) {
            Pass::Free => {}
            Pass::Trial(trial) => {
                tokio::spawn(Arc::clone(&self).try_out(self.queue(route), pending, trial));
                return;
            }
            Pass::Refused(error) => {
                return refuse(Err(Trouble { error, detail: "the circuit breaker is open".into() }))(pending);
            }
        }
        if self.waiting.fetch_add(1, Relaxed) >= self.waiting_max {
            self.leave_queue(1);
            self.pool.note_refused();
            return refuse(Err(Trouble::new(Cause::QueueFull, "too many keys wait")))(pending);
        }
        let queue = self.queue(route);
        if queue.push(pending) {
            self.start_runner(&queue);
        }
    }

    fn write(
        self: Arc<Self>,
        route: Arc<Route>,
        write: Write,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Result<Written, WriteError>> + Send + 'static>> {
        Box::pin(async move {
            let started = Instant::now();
            let result = self.try_write(&route, &write, deadline).await;
            self.log_write(&route, write.verb, started, &result);
            let result = result.map_err(|(error, _)| error);
            route.stats.write(result.is_ok());
            result
        })
    }

    fn left(&self, route: &Route) {
        let queues = self.queues.read();
        let of_route = queues.iter().filter(|((id, _), _)| *id == route.id);
        of_route.for_each(|(_, queue)| queue.left.notify_waiters());
    }

    fn warm(self: Arc<Self>, thread: usize, threads: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        Box::pin(Arc::clone(&self.pool).warm(thread, threads))
    }

    fn snapshot(&self) -> SourceSnapshot {
        let mut pool = self.pool.snapshot();
        pool.waiting = self.waiting.load(Relaxed) as u64;
        SourceSnapshot { breaker: self.breaker.snapshot(), ..self.counters.snapshot(&self.name, pool) }
    }

    fn reconsider(&self) {
        self.breaker.reconsider(Instant::now());
    }

    fn reset_counts(&self) {
        self.counters.reset();
        self.pool.reset_counts();
        self.breaker.reset_counts();
    }
}
