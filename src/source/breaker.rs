//! The circuit breaker of one source: while the database fails, loads are refused at once instead of each finding out
//! for itself, and one at a time tries whether it is back.
//!
//! *Closed*, it counts how loads end. It opens at once when no connection can be had, or when at least half of the loads
//! of the last seconds got no answer. *Open*, it refuses; after a pause the next load is a trial (*half-open*). If that
//! succeeds the breaker closes, if not it opens for twice as long. There is no timer and no traffic of its own, so that
//! recovery takes at most one pause, and a database that nobody asks for is left alone. Knows no connections.

use super::stats::BreakerSnapshot;
use super::{Cause, LoadError};
use crate::random;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The first pause; each failed trial doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause: what recovery may take at most once the database is back.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Loads are counted over one to two times so long.
const WINDOW: Duration = Duration::from_secs(5);
/// Fewer failures than this may be bad luck.
const FAILURES_MIN: u64 = 5;

/// How a load ended, as far as it says something of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered, if only with an error.
    Answered,
    /// It did not answer, or the connection broke.
    Silent,
    /// Not even a connection can be had.
    Unreachable,
}

/// A circuit breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    source: Box<str>,
    state: Mutex<State>,
    /// What every load looks at first.
    is_closed: AtomicBool,
    opened: AtomicU64,
    trials: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    pause: Duration,
    /// Postgres's code for the failure that opened it.
    sqlstate: Option<[u8; 5]>,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// How loads ended, in this stretch of time and in the one before.
#[derive(Debug)]
struct Window {
    began: Instant,
    /// All and failed ones.
    this: (u64, u64),
    last: (u64, u64),
}

impl Window {
    fn new(now: Instant) -> Window {
        Window { began: now, this: (0, 0), last: (0, 0) }
    }

    /// Counts one; true if too many failed.
    fn count(&mut self, now: Instant, failed: bool) -> bool {
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            self.last = if age < 2 * WINDOW { self.this } else { (0, 0) };
            (self.began, self.this) = (now, (0, 0));
        }
        self.this.0 += 1;
        self.this.1 += u64::from(failed);
        let (all, failures) = (self.this.0 + self.last.0, self.this.1 + self.last.1);
        failed && failures >= FAILURES_MIN && failures * 2 >= all
    }
}

/// What the breaker says to a load.
#[derive(Debug)]
pub(super) enum Pass {
    Free,
    /// It is the one that tries.
    Trial(Trial),
    Refused(LoadError),
}

/// The one load that tries whether the database is back. Dropped without an end, another may.
#[derive(Debug)]
pub(super) struct Trial(Option<Arc<Breaker>>);

impl Trial {
    pub(super) fn end(mut self, now: Instant, outcome: Outcome, sqlstate: Option<[u8; 5]>) {
        if let Some(breaker) = self.0.take() {
            breaker.end_trial(now, outcome, sqlstate);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.state.lock().phase = Phase::Open { until: Instant::now() };
        }
    }
}

impl Breaker {
    pub(super) fn new(source: &str) -> Arc<Breaker> {
        let state =
            State { phase: Phase::Closed, pause: PAUSE_FIRST, sqlstate: None, window: Window::new(Instant::now()) };
        Arc::new(Breaker {
            source: source.into(),
            state: Mutex::new(state),
            is_closed: AtomicBool::new(true),
            opened: AtomicU64::new(0),
            trials: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Whether a load may begin.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Pass {
        if self.is_closed.load(Relaxed) {
            return Pass::Free;
        }
        let mut state = self.state.lock();
        match state.phase {
            Phase::Closed => Pass::Free,
            Phase::Open { until } if until <= now => {
                state.phase = Phase::HalfOpen;
                self.trials.fetch_add(1, Relaxed);
                Pass::Trial(Trial(Some(Arc::clone(self))))
            }
            Phase::Open { .. } | Phase::HalfOpen => {
                self.refused.fetch_add(1, Relaxed);
                Pass::Refused(LoadError { cause: Cause::BreakerOpen, sqlstate: state.sqlstate })
            }
        }
    }

    /// A load ended that was no trial; true if that opened the breaker.
    pub(super) fn count(&self, now: Instant, outcome: Outcome, sqlstate: Option<[u8; 5]>) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Closed {
            // It began before the breaker opened.
            return false;
        }
        let opens = state.window.count(now, outcome != Outcome::Answered) || outcome == Outcome::Unreachable;
        if opens {
            state.pause = PAUSE_FIRST;
            self.open(&mut state, now, sqlstate);
            self.opened.fetch_add(1, Relaxed);
            let sqlstate = sqlstate.map(|code| code.escape_ascii().to_string());
            let cause = if outcome == Outcome::Unreachable { "no connection can be had" } else { "no answers" };
            tracing::warn!(source = %self.source, cause, sqlstate, "the circuit breaker opens: loads are refused");
        }
        opens
    }

    fn end_trial(&self, now: Instant, outcome: Outcome, sqlstate: Option<[u8; 5]>) {
        let mut state = self.state.lock();
        if outcome == Outcome::Answered {
            state.phase = Phase::Closed;
            state.window = Window::new(now);
            self.is_closed.store(true, Relaxed);
            tracing::info!(source = %self.source, "the circuit breaker closes: the database answers again");
        } else {
            state.pause = (state.pause * 2).min(PAUSE_MAX);
            self.open(&mut state, now, sqlstate);
        }
    }

    fn open(&self, state: &mut State, now: Instant, sqlstate: Option<[u8; 5]>) {
        // Between half of it and all: several servers do not come all at once.
        let share = random::share();
        state.phase = Phase::Open { until: now + state.pause.mul_f64(0.5 + share / 2.0) };
        state.sqlstate = sqlstate;
        self.is_closed.store(false, Relaxed);
    }

    /// What the database is asked with has changed: the next load is a trial.
    pub(super) fn reconsider(&self, now: Instant) {
        let mut state = self.state.lock();
        if let Phase::Open { .. } = state.phase {
            state.phase = Phase::Open { until: now };
        }
    }

    pub(super) fn snapshot(&self) -> BreakerSnapshot {
        let state = match self.state.lock().phase {
            Phase::Closed => "closed",
            Phase::Open { .. } => "open",
            Phase::HalfOpen => "half_open",
        };
        let [opened, trials, refused] = [&self.opened, &self.trials, &self.refused].map(|count| count.load(Relaxed));
        BreakerSnapshot { state, opened, trials, refused }
    }

    pub(super) fn reset_counts(&self) {
        [&self.opened, &self.trials, &self.refused].into_iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Option<[u8; 5]> = Some(*b"57P03");

    fn refusal(breaker: &Arc<Breaker>, now: Instant) -> LoadError {
        match breaker.enter(now) {
            Pass::Refused(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn trial(breaker: &Arc<Breaker>, now: Instant) -> Trial {
        match breaker.enter(now) {
            Pass::Trial(trial) => trial,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn opens_when_half_get_no_answer() {
        let (breaker, start) = (Breaker::new("s"), Instant::now());
        for _ in 0..FAILURES_MIN - 1 {
            assert!(!breaker.count(start, Outcome::Silent, None));
        }
        for _ in 0..FAILURES_MIN {
            assert!(!breaker.count(start, Outcome::Answered, None));
        }
        assert!(breaker.count(start, Outcome::Silent, CODE), "five of ten");
        assert_eq!(refusal(&breaker, start), LoadError { cause: Cause::BreakerOpen, sqlstate: CODE });
        assert!(!breaker.count(start, Outcome::Unreachable, None), "it is open already");
        // What is long past does not count.
        let breaker = Breaker::new("s");
        (0..FAILURES_MIN - 1).for_each(|_| assert!(!breaker.count(start, Outcome::Silent, None)));
        assert!(!breaker.count(start + 3 * WINDOW, Outcome::Silent, None));
    }

    #[test]
    fn one_tries_at_a_time_after_pauses_that_double() {
        let (breaker, mut now) = (Breaker::new("s"), Instant::now());
        assert!(breaker.count(now, Outcome::Unreachable, None));
        assert_eq!(breaker.snapshot().state, "open");
        refusal(&breaker, now + PAUSE_FIRST / 2 - Duration::from_millis(1));
        let mut pause = PAUSE_FIRST;
        for _ in 0..6 {
            now += pause;
            let trial = trial(&breaker, now);
            assert_eq!(breaker.snapshot().state, "half_open");
            refusal(&breaker, now);
            trial.end(now, Outcome::Silent, None);
            pause = (pause * 2).min(PAUSE_MAX);
            refusal(&breaker, now + pause / 2 - Duration::from_millis(1));
        }
        assert_eq!(pause, PAUSE_MAX);
        now += PAUSE_MAX;
        trial(&breaker, now).end(now, Outcome::Answered, None);
        assert!(matches!(breaker.enter(now), Pass::Free));
        let BreakerSnapshot { state, opened, trials, refused } = breaker.snapshot();
        assert_eq!((state, opened, trials, refused), ("closed", 1, 7, 13));
    }

    #[test]
    fn a_trial_that_is_given_up_leaves_room_for_another() {
        let (breaker, now) = (Breaker::new("s"), Instant::now());
        breaker.count(now, Outcome::Unreachable, None);
        drop(trial(&breaker, now + PAUSE_FIRST));
        drop(trial(&breaker, Instant::now() + PAUSE_FIRST));
        breaker.count(now, Outcome::Unreachable, None);
        breaker.reconsider(now);
        trial(&breaker, now).end(now, Outcome::Answered, None);
        breaker.reconsider(now);
        assert_eq!(breaker.snapshot().state, "closed");
    }
}
