//! Figures of a feed: whether it is in step, how far behind, what it has told. Written by the feed's task, read by all.

use super::settings::Mode;
use crate::clock;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Where a feed stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedState {
    /// Changes are not heard.
    #[default]
    Down,
    /// The server is asked what it needs to be asked, or waits for transactions that were running.
    Starting,
    /// Every change is heard.
    InStep,
}

impl FeedState {
    /// A word for INFO.
    pub fn name(self) -> &'static str {
        match self {
            FeedState::Down => "down",
            FeedState::Starting => "starting",
            FeedState::InStep => "in_step",
        }
    }
}

/// The figures of a feed at one moment.
#[derive(Clone, Debug)]
pub struct FeedSnapshot {
    /// The source's name.
    pub source: String,
    /// How it is followed.
    pub mode: Mode,
    /// Where it stands.
    pub state: FeedState,
    /// Everything that was committed so many ms ago has been applied; None if it never was in step.
    pub behind_ms: Option<i64>,
    /// From a transaction's commit to its application, for the last one, by both machines' clocks.
    pub last_lag_ms: i64,
    /// When the last transaction that was applied was committed, in ms since the epoch; 0: there was none.
    pub last_commit_at: i64,
    /// Its id (`wal`).
    pub last_xid: u64,
    /// Transactions (`wal`) or notifications.
    pub transactions: u64,
    /// Changed rows.
    pub changes: u64,
    /// Keys that were told to be stale.
    pub keys: u64,
    /// Of these, cached ones that were removed.
    pub removed: u64,
    /// Times that a route was told to be stale as a whole.
    pub flushes: u64,
    /// Times that changes may have been missed.
    pub gaps: u64,
    /// Routes whose changes are not told.
    pub unserved: u64,
}

/// The live figures.
#[derive(Default)]
pub(super) struct Status {
    state: Mutex<FeedState>,
    /// All that was committed by then (ms since the epoch) is applied.
    in_step_at: AtomicI64,
    last_lag_ms: AtomicI64,
    last_commit_at: AtomicI64,
    last_xid: AtomicU64,
    transactions: AtomicU64,
    changes: AtomicU64,
    keys: AtomicU64,
    removed: AtomicU64,
    flushes: AtomicU64,
    gaps: AtomicU64,
    unserved: AtomicU64,
    remarks: Mutex<Vec<(u64, String)>>,
}

impl Status {
    pub(super) fn starting(&self) {
        *self.state.lock() = FeedState::Starting;
    }

    /// From now on every change is heard.
    pub(super) fn enter(&self) {
        *self.state.lock() = FeedState::InStep;
        self.in_step_at(clock::now_ms());
    }

    /// Changes are not heard any more; true if they were until now.
    pub(super) fn leave(&self) -> bool {
        let before = std::mem::take(&mut *self.state.lock());
        let was_in_step = before == FeedState::InStep;
        if was_in_step {
            self.gaps.fetch_add(1, Relaxed);
        }
        was_in_step
    }

    /// All that was committed before `at` is applied.
    pub(super) fn in_step_at(&self, at: i64) {
        self.in_step_at.fetch_max(at, Relaxed);
    }

    pub(super) fn transaction(&self, xid: u32, committed_at: i64, now: i64) {
        self.transactions.fetch_add(1, Relaxed);
        self.last_xid.store(xid.into(), Relaxed);
        self.last_commit_at.store(committed_at, Relaxed);
        self.last_lag_ms.store(now - committed_at, Relaxed);
    }

    pub(super) fn changed(&self, rows: u64) {
        self.changes.fetch_add(rows, Relaxed);
    }

    pub(super) fn key(&self, removed: u64) {
        self.keys.fetch_add(1, Relaxed);
        self.removed.fetch_add(removed, Relaxed);
    }

    pub(super) fn flushed(&self, routes: u64) {
        self.flushes.fetch_add(routes, Relaxed);
    }

    pub(super) fn is_in_step(&self) -> bool {
        *self.state.lock() == FeedState::InStep
    }

    pub(super) fn set_remarks(&self, remarks: Vec<(u64, String)>, unserved: usize) {
        *self.remarks.lock() = remarks;
        self.unserved.store(unserved as u64, Relaxed);
    }

    pub(super) fn remarks(&self, route: u64) -> Vec<String> {
        self.remarks.lock().iter().filter(|(id, _)| *id == route).map(|(_, words)| words.clone()).collect()
    }

    pub(super) fn reset(&self) {
        for counter in [&self.transactions, &self.changes, &self.keys, &self.removed, &self.flushes, &self.gaps] {
            counter.store(0, Relaxed);
        }
    }

    pub(super) fn snapshot(&self, source: &str, mode: Mode, now: i64) -> FeedSnapshot {
        let in_step_at = self.in_step_at.load(Relaxed);
        FeedSnapshot {
            source: source.into(),
            mode,
            state: *self.state.lock(),
            behind_ms: (in_step_at > 0).then(|| (now - in_step_at).max(0)),
            last_lag_ms: self.last_lag_ms.load(Relaxed),
            last_commit_at: self.last_commit_at.load(Relaxed),
            last_xid: self.last_xid.load(Relaxed),
            transactions: self.transactions.load(Relaxed),
            changes: self.changes.load(Relaxed),
            keys: self.keys.load(Relaxed),
            removed: self.removed.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            unserved: self.unserved.load(Relaxed),
        }
    }
}
