//! Counters that cost the hot path no shared cache line: each worker writes its own, a reader sums them.

use super::errors::ErrorKinds;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer; readers may be anywhere.
#[derive(Debug, Default)]
pub struct Cell64(AtomicU64);

impl Cell64 {
    /// Adds; only the owner may.
    #[inline]
    pub fn add(&self, n: u64) {
        // A plain load and store: there is no other writer to race with.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets; only the owner may.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Starts anew. An addition at the same moment may be lost.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

const SUB_BUCKETS: usize = 8;
const BUCKETS: usize = 40 * SUB_BUCKETS;

/// Durations in buckets of about 10 % width: eight to each power of two of nanoseconds.
#[derive(Debug)]
pub struct Histogram([Cell64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell64::default()))
    }
}

impl Histogram {
    #[inline]
    fn bucket(ns: u64) -> usize {
        let ns = ns.max(SUB_BUCKETS as u64);
        let power = 63 - ns.leading_zeros() as usize;
        let sub = (ns >> (power - 3)) as usize % SUB_BUCKETS;
        ((power - 3) * SUB_BUCKETS + sub).min(BUCKETS - 1)
    }

    /// The largest duration of a bucket, in ns.
    pub fn upper_bound_ns(bucket: usize) -> u64 {
        let (power, sub) = (bucket / SUB_BUCKETS + 3, bucket % SUB_BUCKETS);
        ((SUB_BUCKETS + sub + 1) as u64) << (power - 3)
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.0[Self::bucket(ns)].add(1);
    }

    /// The counts, by bucket.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(Cell64::get)
    }

    /// Starts anew.
    pub fn reset(&self) {
        self.0.iter().for_each(Cell64::reset);
    }
}

/// The duration in ns below which `percent` of `counts` (by bucket of a [`Histogram`]) lie; 0 without any.
pub fn percentile_ns(counts: &[u64], percent: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let rank = ((total as f64) * percent / 100.0).ceil().max(1.0) as u64;
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank && total > 0 {
            return Histogram::upper_bound_ns(bucket);
        }
    }
    0
}

/// Counters of one command on one worker.
#[derive(Debug, Default)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: Cell64,
    /// Time it took, in ns.
    pub ns: Cell64,
    /// Times it was refused before it ran.
    pub rejected: Cell64,
    /// Times it ran and answered an error.
    pub failed: Cell64,
    latency: OnceLock<Box<Histogram>>,
}

impl CommandStats {
    /// Counts one run.
    #[inline]
    pub fn record(&self, ns: u64, histogram: bool) {
        self.calls.add(1);
        self.ns.add(ns);
        if histogram {
            self.latency.get_or_init(Box::default).record(ns);
        }
    }

    /// The latencies, once there are any.
    pub fn latency(&self) -> Option<&Histogram> {
        self.latency.get().map(Box::as_ref)
    }

    /// Starts anew.
    pub fn reset(&self) {
        for cell in [&self.calls, &self.ns, &self.rejected, &self.failed] {
            cell.reset();
        }
        if let Some(histogram) = self.latency() {
            histogram.reset();
        }
    }
}

/// Counters of one worker; it alone writes them.
#[derive(Debug)]
pub struct WorkerStats {
    /// By the command's place among all rows of the table.
    pub commands: Box<[CommandStats]>,
    /// Commands that were run, over all.
    pub processed: Cell64,
    /// Once `processed` is so much, a command is looked at more closely.
    pub sample_at: Cell64,
    /// Bytes read from connections.
    pub net_in: Cell64,
    /// Bytes written to connections.
    pub net_out: Cell64,
    /// Reads and writes of sockets.
    pub reads: Cell64,
    /// See `reads`.
    pub writes: Cell64,
    /// Error replies.
    pub errors: Cell64,
    /// The same by their first word.
    pub error_kinds: ErrorKinds,
    /// Bytes that its Lua takes.
    pub lua_bytes: Cell64,
}

impl WorkerStats {
    /// Counts an error reply.
    #[cold]
    pub fn count_error(&self, text: &[u8]) {
        self.errors.add(1);
        self.error_kinds.note(text);
    }

    /// Starts anew.
    pub fn reset(&self) {
        self.commands.iter().for_each(CommandStats::reset);
        let cells =
            [&self.processed, &self.sample_at, &self.net_in, &self.net_out, &self.reads, &self.writes, &self.errors];
        cells.into_iter().for_each(Cell64::reset);
        self.error_kinds.reset();
    }
}

impl WorkerStats {
    /// Counters for so many rows of the command table.
    pub fn new(rows: usize) -> Self {
        Self {
            commands: (0..rows).map(|_| CommandStats::default()).collect(),
            processed: Cell64::default(),
            sample_at: Cell64::default(),
            net_in: Cell64::default(),
            net_out: Cell64::default(),
            reads: Cell64::default(),
            writes: Cell64::default(),
            errors: Cell64::default(),
            error_kinds: ErrorKinds::default(),
            lua_bytes: Cell64::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        for ns in 1..=100_000u64 {
            histogram.record(ns);
        }
        let counts: Vec<u64> = histogram.counts().collect();
        for (percent, exact) in [(50.0, 50_000.0), (99.0, 99_000.0), (99.9, 99_900.0)] {
            let got = percentile_ns(&counts, percent) as f64;
            assert!(got >= exact && got <= exact * 1.13, "{percent}: {got}");
        }
        assert_eq!(percentile_ns(&[0; 4], 50.0), 0);
        histogram.record(u64::MAX);
    }
}
