//! The keys of one route that wait for a connection on one thread, and how they become batches. Knows neither databases nor queries.
//!
//! The first key starts a *runner*, a task that asks for a connection and then takes what waits by then, up
//! to the batch's size. With a connection idle it has one as soon as the task that missed lets go of the thread, so a
//! lone miss goes at once, and what a pipeline or an MGET misses goes together. While all connections are busy, keys
//! gather, and each full batch of them gets a runner of its own. While some batches of the route are under way, a runner
//! whose batch is not full waits until one of them ends, or for a moment: many small queries at once would cost the
//! database more than few larger ones, and their keys more time.

use super::routes::Route;
use super::template::Params;
use super::{Cause, LoadError, LoadResult};
use crate::freshness::Snapshot;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// With so many batches of a queue under way, the next one waits for company.
const UNDER_WAY: usize = 2;
/// For so long at most: what is under way may hang.
const COMPANY: Duration = Duration::from_millis(1);

/// Who wants a key. Dropped ungranted when the load is given up.
pub trait Wish: Send + Sync + 'static {
    /// Takes what was loaded. Not called on the stack of the load's caller, who may hold locks.
    fn grant(self: Box<Self>, answer: Answer);

    /// False once nobody waits for it any more.
    fn is_wanted(&self) -> bool;

    /// True if what is cached is served meanwhile.
    fn is_refresh(&self) -> bool;

    /// Gives it up for good, unless somebody has joined; true if it was.
    fn give_up(&self) -> bool;
}

/// What a load brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value, or why there is none.
    pub result: LoadResult,
    /// What the query saw; None where there was none.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl From<LoadError> for Answer {
    fn from(error: LoadError) -> Self {
        Self { result: Err(error), snapshot: None }
    }
}

impl From<Cause> for Answer {
    fn from(cause: Cause) -> Self {
        LoadError::from(cause).into()
    }
}

/// One key that is to be loaded.
pub(super) struct Pending {
    pub(super) params: Params,
    pub(super) deadline: Instant,
    pub(super) wish: Box<dyn Wish>,
}

impl Pending {
    pub(super) fn grant(self, answer: impl Into<Answer>) {
        self.wish.grant(answer.into());
    }
}

/// The queue of one route.
pub(super) struct RouteQueue {
    pub(super) route: Arc<Route>,
    state: Mutex<State>,
    /// Keys that go in one query, at most.
    limit: AtomicUsize,
    /// Somebody who waited has left.
    pub(super) left: Notify,
    /// A batch under way has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Runners that have no connection yet.
    runners: usize,
    /// Batches that have one.
    under_way: usize,
}

impl RouteQueue {
    pub(super) fn new(route: Arc<Route>) -> Arc<Self> {
        let limit = AtomicUsize::new(route.batch_max);
        Arc::new(Self { route, state: Mutex::default(), limit, left: Notify::new(), ended: Notify::new() })
    }

    /// From now on, or no more, each key goes alone.
    pub(super) fn set_batched(&self, is_batched: bool) {
        self.limit.store(if is_batched { self.route.batch_max } else { 1 }, Relaxed);
    }

    /// Adds a key; true if the caller must start a runner.
    pub(super) fn push(&self, pending: Pending) -> bool {
        let mut state = self.state.lock();
        state.waiting.push_back(pending);
        self.needs_runner(&mut state)
    }

    fn needs_runner(&self, state: &mut State) -> bool {
        let needed = state.waiting.len() > state.runners * self.limit.load(Relaxed);
        state.runners += usize::from(needed);
        needed
    }

    /// Puts back what turned out to be too many for one query; says how many runners the caller must start.
    pub(super) fn put_back(&self, rest: Vec<Pending>) -> usize {
        let mut state = self.state.lock();
        rest.into_iter().rev().for_each(|pending| state.waiting.push_front(pending));
        std::iter::from_fn(|| self.needs_runner(&mut state).then_some(())).count()
    }

    /// Waits, for a moment, for more keys to go with those that wait, if others are under way anyway. To be called on the
    /// queue's own thread.
    pub(super) async fn gather(&self) {
        let may_grow = {
            let state = self.state.lock();
            state.under_way >= UNDER_WAY && state.waiting.len() < self.limit.load(Relaxed)
        };
        if may_grow {
            let _ = timeout(COMPANY, self.ended.notified()).await;
        }
    }

    /// A batch is under way until what is returned is dropped.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.state.lock().under_way += 1;
        UnderWay(self)
    }

    /// When the longest waiting key gives up; None if a runner has nothing to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.lock().waiting.front().map(|pending| pending.deadline)
    }

    /// The next batch, for a runner that has a connection or the reason why there is none.
    pub(super) fn take(&self) -> Vec<Pending> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(self.limit.load(Relaxed));
        state.waiting.drain(..count).collect()
    }

    /// Those whose time is over.
    pub(super) fn take_expired(&self, now: Instant) -> Vec<Pending> {
        let mut state = self.state.lock();
        let count = state.waiting.iter().take_while(|pending| pending.deadline <= now).count();
        state.waiting.drain(..count).collect()
    }
}

/// A batch under way.
pub(super) struct UnderWay<'q>(&'q RouteQueue);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
        self.0.ended.notify_waiters();
    }
}

/// A runner's place among those without a connection.
pub(super) struct Runner<'q>(pub(super) &'q RouteQueue);

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        self.0.state.lock().runners -= 1;
    }
}
