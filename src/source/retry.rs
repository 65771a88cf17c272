//! Trying again: after which failures, after which pause, and how much of that a source's database is asked to bear.
//! Knows no connections and no queries.

use super::source_config::{Backoff, RetryConfig};
use super::{Cause, LoadError};
use crate::random;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// Retries in store at most.
const STORE_MAX: i64 = 100;
/// So many loads that succeed earn one retry.
const LOADS_PER_RETRY: i64 = 10;

/// The retries that a source may still make. When much fails, retries would double and triple the load of a database
/// that has too much of it: so they are at most a tenth of what succeeds, and a store for short troubles.
#[derive(Debug)]
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicI64::new(STORE_MAX * LOADS_PER_RETRY))
    }
}

impl Budget {
    /// A load succeeded.
    pub(super) fn earn(&self) {
        // A few too many, or too few, are no harm: no loop of compare and exchange for every load.
        if self.0.load(Relaxed) < STORE_MAX * LOADS_PER_RETRY {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Takes one retry; false if there is none.
    pub(super) fn spend(&self) -> bool {
        let left = self.0.fetch_sub(LOADS_PER_RETRY, Relaxed) - LOADS_PER_RETRY;
        if left < 0 {
            self.0.fetch_add(LOADS_PER_RETRY, Relaxed);
        }
        left >= 0
    }
}

/// Whether the same may succeed in a moment: a connection that broke or was refused, a server that starts, stops or has
/// no connection left, a conflict. Not what the server says of our name, our password or the query.
pub(super) fn may_help(error: &LoadError) -> bool {
    match error.sqlstate.as_ref().map(|code| &code[..]) {
        None => error.cause == Cause::Down,
        Some(code) => matches!(code, [b'0', b'8', ..] | [b'5', b'7', b'P', ..] | b"53300" | b"40001" | b"40P01"),
    }
}

/// How long to wait before retry number `retry`, from 0: anything up to a bound that grows, so that those who failed
/// together do not come back together.
pub(super) fn pause(config: &RetryConfig, retry: u32) -> Duration {
    let bound = match config.backoff {
        Backoff::Constant => config.initial_delay,
        Backoff::Exponential => config.initial_delay.saturating_mul(1 << retry.min(20)),
    };
    bound.min(config.max_delay).mul_f64(random::share())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_what_succeeds() {
        let budget = Budget::default();
        let spent = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(spent, STORE_MAX as usize);
        (0..LOADS_PER_RETRY - 1).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend() && !budget.spend());
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), STORE_MAX as usize);
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        let error = |cause, code: &[u8; 5]| LoadError { cause, sqlstate: Some(*code) };
        assert!(may_help(&Cause::Down.into()));
        for code in [b"57P01", b"57P03", b"53300", b"40001", b"40P01", b"08006"] {
            assert!(may_help(&error(Cause::Busy, code)), "{}", code.escape_ascii());
        }
        for code in [b"28P01", b"3D000", b"42P01", b"57014", b"53200", b"55P03"] {
            assert!(!may_help(&error(Cause::Down, code)), "{}", code.escape_ascii());
        }
        for cause in [Cause::TimedOut, Cause::QueueFull, Cause::Sql, Cause::Size, Cause::BreakerOpen] {
            assert!(!may_help(&cause.into()), "{cause:?}");
        }
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let ms = Duration::from_millis;
        let mut config =
            RetryConfig { max_attempts: 9, backoff: Backoff::Exponential, initial_delay: ms(50), max_delay: ms(300) };
        for (retry, bound) in [(0, 50), (1, 100), (2, 200), (3, 300), (99, 300)] {
            let longest = (0..200).map(|_| pause(&config, retry)).max().unwrap();
            assert!(longest <= ms(bound) && longest > ms(bound / 2), "{retry}: {longest:?}");
        }
        config.backoff = Backoff::Constant;
        assert!((0..100).all(|_| pause(&config, 7) <= ms(50)));
    }
}
