//! Where the memory is: the figures that INFO, MEMORY and the metrics show. It must not know how they are shown.

use super::State;
use crate::config::{Config, MaxmemoryPolicy};
use crate::keyspace::{Access, DatabaseSummary, Garbage, News, Policy, Rank, lazy_pending_bytes};
use crate::{alloc, clock, process, random};
use std::sync::atomic::Ordering;

/// Memory in use, in bytes.
#[derive(Clone, Debug)]
pub struct MemoryReport {
    /// Handed out by the allocator.
    pub used: u64,
    /// The most that was.
    pub peak: u64,
    /// When it was, in ms since the epoch.
    pub peak_at: i64,
    /// In use before there were keys.
    pub startup: u64,
    /// Held by the process, as the operating system counts it.
    pub resident: u64,
    /// Of the machine.
    pub machine: u64,
    /// Requests and replies that wait in connections.
    pub clients: u64,
    /// Everything but keys and values.
    pub overhead: u64,
    /// Keys over all databases.
    pub keys: u64,
    /// Every database.
    pub databases: Vec<DatabaseSummary>,
}

impl MemoryReport {
    /// Keys and values.
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead)
    }

    /// Share of `dataset` in what came after the start, in percent.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup))
    }

    /// Share of `used` in `peak`, in percent.
    pub fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }

    /// `resident` to `used`.
    pub fn fragmentation(&self) -> f64 {
        self.resident as f64 / self.used.max(1) as f64
    }

    /// `resident` without `used`.
    pub fn fragmentation_bytes(&self) -> i64 {
        self.resident as i64 - self.used as i64
    }
}

impl State {
    /// Sees that `bytes` more can be taken within `maxmemory`: evicts keys as `maxmemory-policy` says. False if there is
    /// no room and nothing to evict. Takes a bounded time (`maxmemory-eviction-tenacity`), after which the rest is
    /// left to the workers' sweep, and true is given if anything went. `now` is in ms since the epoch.
    #[inline]
    pub fn make_room(&self, config: &Config, bytes: u64, now: i64) -> bool {
        config.maxmemory == 0 || alloc::used() + bytes <= config.maxmemory || self.evict(config, bytes, now)
    }

    #[cold]
    fn evict(&self, config: &Config, bytes: u64, now: i64) -> bool {
        // While keys are imported, none goes but as who imports them says.
        let policy = policy(config.maxmemory_policy).filter(|_| !config.limits.import_mode);
        let Some(policy) = policy else {
            // Redis counts what is used, not what is about to be.
            return used() <= config.maxmemory;
        };
        let started = clock::monotonic_ns();
        let limit_ns = tenacity_ns(config.maxmemory_eviction_tenacity);
        let fits = || used() + bytes <= config.maxmemory;
        if fits() {
            return true;
        }
        let is_enough = || fits() || clock::monotonic_ns() - started > limit_ns;
        let samples = config.maxmemory_samples as usize;
        let access = access(config, now, 0);
        let free = |garbage: &mut Garbage| self.free(garbage, "eviction-del");
        // Where nothing was found just now, all shards need not be searched again by every command.
        let mut news = News::default();
        let found = self.barren_at.load(Ordering::Relaxed) != now
            && self.keyspace.evict(policy, access, samples, random::next, is_enough, free, &mut news) > 0;
        if !news.is_empty() {
            self.tell(config, None, &news);
        }
        self.note_latency("eviction-cycle", clock::monotonic_ns() - started, now);
        if !found {
            self.barren_at.store(now, Ordering::Relaxed);
        }
        // What is asked for may still fit: a request takes less if it replaces a value.
        found || used() <= config.maxmemory
    }
}

/// Bytes in use, those not counted that are being dropped: room for them is not to be made twice.
fn used() -> u64 {
    alloc::used().saturating_sub(lazy_pending_bytes())
}

impl State {
    /// Drops what was removed for no command; the latency monitor hears of it as `event` if it takes long.
    pub fn free(&self, garbage: &mut Garbage, event: &'static str) {
        if garbage.is_empty() {
            return;
        }
        let started = clock::monotonic_ns();
        garbage.free();
        let took = clock::monotonic_ns() - started;
        if took >= SPIKE_MIN_NS {
            self.note_latency(event, took, clock::now_ms());
        }
    }
}

/// What takes less, in ns, is no latency spike whatever the threshold: it has whole milliseconds.
const SPIKE_MIN_NS: u64 = 1_000_000;

/// How accesses are noted under the directives in force; `random` serves LFU.
#[inline]
pub fn access(config: &Config, now: i64, random: u32) -> Access {
    match config.maxmemory_policy {
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => {
            Access::lfu(now, config.lfu_log_factor, config.lfu_decay_time, random)
        }
        MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => Access::segmented(now),
        MaxmemoryPolicy::AllkeysCost | MaxmemoryPolicy::VolatileCost => {
            Access::cost(now, config.lfu_log_factor, config.lfu_decay_time, random)
        }
        _ => Access::lru(now),
    }
}

/// How long one command may evict, in ns, by `maxmemory-eviction-tenacity`: as in Redis, up to 500 µs at the default
/// of 10, growing by 15 % a step beyond, without a limit at 100.
fn tenacity_ns(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50_000 * u64::from(tenacity),
        11..100 => (500_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

fn policy(directive: MaxmemoryPolicy) -> Option<Policy> {
    let (rank, volatile) = match directive {
        MaxmemoryPolicy::AllkeysLru => (Rank::Lru, false),
        MaxmemoryPolicy::VolatileLru => (Rank::Lru, true),
        MaxmemoryPolicy::AllkeysLfu => (Rank::Lfu, false),
        MaxmemoryPolicy::VolatileLfu => (Rank::Lfu, true),
        MaxmemoryPolicy::AllkeysCost => (Rank::Cost, false),
        MaxmemoryPolicy::VolatileCost => (Rank::Cost, true),
        MaxmemoryPolicy::AllkeysRandom => (Rank::Random, false),
        MaxmemoryPolicy::VolatileRandom => (Rank::Random, true),
        MaxmemoryPolicy::VolatileTtl => (Rank::Ttl, true),
        MaxmemoryPolicy::NoEviction => return None,
    };
    Some(Policy { rank, volatile })
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

impl State {
    /// Where the memory is at `now` (ms since the epoch).
    pub fn memory(&self, now: i64) -> MemoryReport {
        let used = crate::alloc::used();
        let (peak, peak_at) = self.note_memory(used, now);
        let mut clients = 0;
        self.clients.each(|client| {
            let bytes = client.query_bytes.load(Ordering::Relaxed) + client.output_bytes.load(Ordering::Relaxed);
            clients += bytes as u64;
        });
        let databases = self.keyspace.summary();
        let tables: usize = databases.iter().map(|database| database.table_bytes).sum();
        MemoryReport {
            used,
            peak,
            peak_at,
            startup: self.startup_memory(),
            resident: process::resident_bytes(),
            machine: process::machine_memory_bytes(),
            clients,
            overhead: self.startup_memory() + tables as u64 + clients,
            keys: databases.iter().map(|database| database.keys as u64).sum(),
            databases,
        }
    }
}
