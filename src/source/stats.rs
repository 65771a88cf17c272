//! Counters of a source. Loads are rare next to hits, so plain shared atomics do.

use super::load_log::LoadLog;
use super::{Cause, LoadError, LoadResult, Loaded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets of a [`Histogram`]: the last one takes all that is longer (from about 36 minutes).
pub const HISTOGRAM_BUCKETS: usize = 32;

/// Times in buckets that double: bucket `n` counts those below `2^n` microseconds (and not below half of that).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell in each bucket.
    pub buckets: [u64; HISTOGRAM_BUCKETS],
    /// Their sum, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end, in microseconds, of the bucket in which the given share (0 to 1) of the times is reached.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen > 0 && seen >= wanted {
                return 1 << bucket;
            }
        }
        0
    }
}

/// The counters of one source as they stood at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// The source's name in the routes file.
    pub name: String,
    /// Loads begun.
    pub loads: u64,
    /// Loads that brought a value.
    pub rows: u64,
    /// Loads that found no row.
    pub absent: u64,
    /// Of those, keys that could not name a row; they cost no query.
    pub unparsable: u64,
    /// Queries sent, without what prepares them.
    pub queries: u64,
    /// Of these, queries for more than one key.
    pub batches: u64,
    /// Keys that those asked for.
    pub batched: u64,
    /// Loads tried another time, on a fresh connection or with a fresh statement.
    pub retries: u64,
    /// Failed loads by [`Cause::index`].
    pub errors: [u64; Cause::ALL.len()],
    /// From sending a query to its last row.
    pub query_time: Histogram,
    /// The pool.
    pub pool: PoolSnapshot,
    /// The circuit breaker.
    pub breaker: BreakerSnapshot,
}

/// A circuit breaker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// How often it opened.
    pub opened: u64,
    /// Loads that tried whether the database is back.
    pub trials: u64,
    /// Loads that it refused.
    pub refused: u64,
}

impl Default for BreakerSnapshot {
    fn default() -> Self {
        BreakerSnapshot { state: "closed", opened: 0, trials: 0, refused: 0 }
    }
}

/// A pool's figures at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Most connections it may have.
    pub max: u64,
    /// Connections open.
    pub size: u64,
    /// Of those, how many are idle.
    pub idle: u64,
    /// Loads waiting for a connection.
    pub waiting: u64,
    /// Connections opened so far.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub connect_errors: u64,
    /// Loads that gave up waiting for a connection.
    pub timeouts: u64,
    /// Loads refused because too many waited.
    pub refused: u64,
}

/// The figures of one route at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// Reads of the route's keys that were answered: estimated from a sample.
    pub reads: u64,
    /// Keys that a command waited for.
    pub waits: u64,
    /// Keys that were written in the database.
    pub writes: u64,
    /// Keys that could not be, or of which it is unknown.
    pub write_errors: u64,
    /// Loads begun.
    pub loads: u64,
    /// Loads that brought a value.
    pub rows: u64,
    /// Loads that found no row.
    pub absent: u64,
    /// Failed loads by [`Cause::index`].
    pub errors: [u64; Cause::ALL.len()],
    /// From the beginning of a load to its end, waiting for a connection included.
    pub load_time: Histogram,
    /// Queries sent.
    pub queries: u64,
    /// Of these, queries for more than one key.
    pub batches: u64,
    /// Keys that those asked for.
    pub batched: u64,
    /// From sending a query to its last row.
    pub query_time: Histogram,
    /// The same of those for one key alone.
    pub single_time: Histogram,
}

impl RouteFigures {
    /// Reads that were answered without waiting.
    pub fn hits(&self) -> u64 {
        self.reads.saturating_sub(self.waits)
    }

    /// How long the database was at work for one key, on average, in microseconds.
    pub fn key_us(&self) -> f64 {
        let keys = self.queries - self.batches + self.batched;
        if keys == 0 { 0.0 } else { self.query_time.sum_us as f64 / keys as f64 }
    }
}

/// The live figures of a route.
#[derive(Default)]
pub struct RouteStats {
    reads: AtomicU64,
    waits: AtomicU64,
    writes: AtomicU64,
    write_errors: AtomicU64,
    counters: Counters,
    /// By query.
    queries: Counters,
    /// By query for one key.
    singles: Counters,
    pub(super) log: LoadLog,
}

impl RouteStats {
    /// So many reads of the route's keys were answered.
    pub fn read(&self, count: u64) {
        self.reads.fetch_add(count, Relaxed);
    }

    /// A command waits for a key.
    pub fn wait(&self) {
        self.waits.fetch_add(1, Relaxed);
    }

    /// A write to the database ends.
    pub(super) fn write(&self, is_done: bool) {
        let counter = if is_done { &self.writes } else { &self.write_errors };
        counter.fetch_add(1, Relaxed);
    }

    /// A load ends that took so long.
    pub(super) fn load(&self, result: &LoadResult, time: Duration) {
        self.counters.begin();
        self.counters.end(result);
        self.counters.query(time, 1);
    }

    /// A query for so many keys ends that took so long.
    pub(super) fn query(&self, time: Duration, keys: usize) {
        self.queries.query(time, keys);
        if keys == 1 {
            self.singles.query(time, keys);
        }
    }

    pub(super) fn reset(&self) {
        self.queries.reset();
        self.singles.reset();
        self.reads.store(0, Relaxed);
        self.waits.store(0, Relaxed);
        self.writes.store(0, Relaxed);
        self.write_errors.store(0, Relaxed);
        self.counters.reset();
    }

    /// The figures as they stand.
    pub fn snapshot(&self) -> RouteFigures {
        let of = |counters: &Counters| counters.snapshot("", PoolSnapshot::default());
        let (counted, queries) = (of(&self.counters), of(&self.queries));
        RouteFigures {
            reads: self.reads.load(Relaxed),
            waits: self.waits.load(Relaxed),
            writes: self.writes.load(Relaxed),
            write_errors: self.write_errors.load(Relaxed),
            loads: counted.loads,
            rows: counted.rows,
            absent: counted.absent,
            errors: counted.errors,
            load_time: counted.query_time,
            queries: queries.queries,
            batches: queries.batches,
            batched: queries.batched,
            query_time: queries.query_time,
            single_time: of(&self.singles).query_time,
        }
    }
}

impl std::fmt::Debug for RouteStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The live counters behind [`SourceSnapshot`].
#[derive(Default)]
pub(super) struct Counters {
    loads: AtomicU64,
    rows: AtomicU64,
    absent: AtomicU64,
    unparsable: AtomicU64,
    queries: AtomicU64,
    batches: AtomicU64,
    batched: AtomicU64,
    retries: AtomicU64,
    errors: [AtomicU64; Cause::ALL.len()],
    buckets: [AtomicU64; HISTOGRAM_BUCKETS],
    sum_us: AtomicU64,
}

impl Counters {
    pub(super) fn begin(&self) {
        self.loads.fetch_add(1, Relaxed);
    }

    pub(super) fn unparsable(&self) {
        self.unparsable.fetch_add(1, Relaxed);
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self, result: &LoadResult) {
        let counter = match result {
            Ok(Loaded::Value(_) | Loaded::Many(_)) => &self.rows,
            Ok(Loaded::Absent) => &self.absent,
            Err(LoadError { cause, .. }) => &self.errors[cause.index()],
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A query for so many keys.
    pub(super) fn query(&self, time: Duration, keys: usize) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.queries.fetch_add(1, Relaxed);
        if keys > 1 {
            self.batches.fetch_add(1, Relaxed);
            self.batched.fetch_add(keys as u64, Relaxed);
        }
        self.buckets[bucket.min(HISTOGRAM_BUCKETS - 1)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    pub(super) fn reset(&self) {
        let plain = [&self.loads, &self.rows, &self.absent, &self.unparsable, &self.queries, &self.batches];
        let plain = plain.into_iter().chain([&self.batched, &self.retries, &self.sum_us]);
        plain.chain(&self.errors).chain(&self.buckets).for_each(|counter| counter.store(0, Relaxed));
    }

    pub(super) fn snapshot(&self, name: &str, pool: PoolSnapshot) -> SourceSnapshot {
        SourceSnapshot {
            name: name.into(),
            loads: self.loads.load(Relaxed),
            rows: self.rows.load(Relaxed),
            absent: self.absent.load(Relaxed),
            unparsable: self.unparsable.load(Relaxed),
            queries: self.queries.load(Relaxed),
            batches: self.batches.load(Relaxed),
            batched: self.batched.load(Relaxed),
            retries: self.retries.load(Relaxed),
            errors: std::array::from_fn(|index| self.errors[index].load(Relaxed)),
            query_time: Histogram {
                buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
                sum_us: self.sum_us.load(Relaxed),
            },
            pool,
            breaker: BreakerSnapshot::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_in_doubling_buckets() {
        let counters = Counters::default();
        for us in [0, 1, 2, 3, 1000, u64::MAX] {
            counters.query(Duration::from_micros(us), 1);
        }
        let histogram = counters.snapshot("s", PoolSnapshot::default()).query_time;
        assert_eq!(histogram.count(), 6);
        for (bucket, count) in [(0, 1), (1, 1), (2, 2), (10, 1), (31, 1)] {
            assert_eq!(histogram.buckets[bucket], count, "{bucket}");
        }
        assert_eq!(histogram.quantile_us(0.5), 4);
        assert_eq!(histogram.quantile_us(0.8), 1024);
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }

    #[test]
    fn causes_have_their_index() {
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.index(), index);
        }
    }
}
