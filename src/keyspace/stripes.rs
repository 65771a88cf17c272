//! The shards and their locks. Only `exec/locks` locks more than one of them, in ascending order; here one shard
//! at a time is locked, for walks. It must not know commands.

use super::access::Access;
use super::change::{Event, News};
use super::entry::Entry;
use super::evict::Policy;
use super::interest::Watch;
use super::lazyfree::Garbage;
use super::shard::{Counts, Shard, hash_key};
use super::table::Hash;
use super::tracking::Tracking;
use super::value::NewValue;
use crate::types::CURSOR_BITS;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

/// A locked shard.
pub type ShardGuard<'a> = MutexGuard<'a, Shard>;

/// Shards on cache lines of their own (two, for processors that fetch them in pairs).
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// All keys.
pub struct Keyspace {
    shards: Box<[Padded]>,
    shard_bits: u32,
    hasher: SeedableRandomState,
    databases: usize,
    /// Tracked keys of all shards.
    pub(super) tracked: Arc<AtomicUsize>,
    /// Connections that keep copies.
    pub(super) trackers: AtomicUsize,
}

/// Sums over one database.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatabaseSummary {
    /// Keys, those included that have expired and are not removed yet.
    pub keys: usize,
    /// Of these, keys with a TTL.
    pub with_ttl: usize,
    /// Sum of their expiry times, in ms since the epoch.
    pub expire_sum: i128,
    /// Buckets of the tables.
    pub buckets: usize,
    /// Bytes of the tables, entries excluded.
    pub table_bytes: usize,
}

impl DatabaseSummary {
    /// Mean time to live at `now` (ms since the epoch), in ms; 0 without TTLs.
    pub fn mean_ttl(&self, now: i64) -> i64 {
        let mean = self.expire_sum.checked_div(self.with_ttl as i128).unwrap_or(0) as i64;
        if self.with_ttl == 0 { 0 } else { (mean - now).max(0) }
    }
}

/// Shards for one worker, and the least there are; more workers get more, so that they seldom meet.
const SHARDS_PER_WORKER: usize = 128;
/// Shards, at most.
pub const MAX_SHARDS: usize = 4096;
/// Keys that are evicted from one shard before the memory is looked at again.
const EVICT_AT_ONCE: usize = 2;

impl Keyspace {
    /// An empty keyspace of `databases` databases for so many worker threads. Who does not know `seed` cannot predict
    /// the hashes.
    pub fn new(databases: usize, workers: usize, seed: u64) -> Self {
        let count = (workers * SHARDS_PER_WORKER).next_power_of_two().min(MAX_SHARDS);
        let shard_bits = count.trailing_zeros();
        // The first keyspace of the process is the one that serves.
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let hasher = SeedableRandomState::with_seed(seed, SHARED.get_or_init(|| SharedSeed::from_u64(!seed)));
        let tracked = Arc::default();
        let shard = |_| Shard::new(databases, shard_bits, hasher.clone(), Tracking::new(&tracked));
        let shards = (0..count).map(shard).map(|shard| Padded(Mutex::new(shard))).collect();
        Self { shards, shard_bits, hasher, databases, tracked, trackers: AtomicUsize::new(0) }
    }

    /// Databases.
    pub fn databases(&self) -> usize {
        self.databases
    }

    /// Shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hash {
        hash_key(&self.hasher, key)
    }

    /// The shard that keys of this hash are in.
    #[inline]
    pub fn shard_of(&self, hash: Hash) -> usize {
        (hash >> (64 - self.shard_bits)) as usize
    }

    /// Locks one shard. Whoever locks several goes in ascending order.
    #[inline]
    pub fn lock(&self, shard: usize) -> ShardGuard<'_> {
        self.shards[shard].0.lock()
    }

    /// Locks one shard, unless somebody else has it.
    pub fn try_lock(&self, shard: usize) -> Option<ShardGuard<'_>> {
        self.shards[shard].0.try_lock()
    }

    /// Locks all shards.
    pub fn lock_all(&self) -> Vec<ShardGuard<'_>> {
        (0..self.shards.len()).map(|shard| self.lock(shard)).collect()
    }

    /// Keys with a lease on a load, and keys that are known to be nowhere at `now` (ms since the epoch).
    pub fn lease_counts(&self, now: i64) -> (usize, usize) {
        let counts = (0..self.shards.len()).map(|shard| self.lock(shard).lease_counts(now));
        counts.fold((0, 0), |sum, (held, absent)| (sum.0 + held, sum.1 + absent))
    }

    /// Marks `watch` when the key changes from now on. One whose time has come at `now` (ms) is removed before.
    pub fn watch(&self, db: usize, hash: Hash, key: &[u8], watch: &Arc<Watch>, now: i64) {
        let mut shard = self.lock(self.shard_of(hash));
        shard.find(db, hash, key, now);
        shard.watch(db, hash, key, watch);
    }

    /// Listens to these classes of events from now on; see [`Event`].
    pub fn listen(&self, classes: u32) {
        (0..self.shards.len()).for_each(|shard| self.lock(shard).listen(classes));
    }

    /// While keys are imported, what has expired is only hidden from those who read; see [`Shard::find_to_read`].
    pub fn keep_expired(&self, keep: bool) {
        (0..self.shards.len()).for_each(|shard| self.lock(shard).keep_expired(keep));
    }

    /// Keys that are watched, and keys that are waited for.
    pub fn interest_counts(&self) -> (usize, usize) {
        let counts = (0..self.shards.len()).map(|shard| self.lock(shard).interest_counts());
        counts.fold((0, 0), |sum, (watched, waited)| (sum.0 + watched, sum.1 + waited))
    }

    /// Sums over every database.
    pub fn summary(&self) -> Vec<DatabaseSummary> {
        let mut all = vec![DatabaseSummary::default(); self.databases];
        for shard in 0..self.shards.len() {
            let shard = self.lock(shard);
            for (db, sum) in all.iter_mut().enumerate() {
                let table = shard.table(db);
                let (buckets, bytes) = table.footprint();
                sum.keys += table.len();
                sum.with_ttl += table.with_ttl();
                sum.expire_sum += table.expire_sum();
                sum.buckets += buckets;
                sum.table_bytes += bytes;
            }
        }
        all
    }

    /// Looks at the entry of a key that has not expired; counts nothing.
    pub fn inspect<T>(&self, db: usize, key: &[u8], now: i64, look: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let hash = self.hash(key);
        let mut shard = self.lock(self.shard_of(hash));
        let place = shard.find(db, hash, key, now)?;
        Some(look(shard.entry(db, place)))
    }

    /// Adds a key without a TTL unless it is there; true if it was added.
    pub fn add(&self, db: usize, key: &[u8], value: NewValue<'_>, now: i64) -> bool {
        let hash = self.hash(key);
        let mut shard = self.lock(self.shard_of(hash));
        let absent = shard.find(db, hash, key, now).is_none();
        if absent {
            shard.add(db, hash, key, value, None, Access::lru(now), Event::SET);
        }
        absent
    }

    /// Removes keys that `policy` lets go until `is_enough`, which is asked every few keys, or there is none left. Returns
    /// how many it removed.
    /// One shard at a time is locked, for a few microseconds. `random` gives 64 random bits; `free` drops what was
    /// removed; `news` gets what is to be told.
    #[expect(clippy::too_many_arguments)]
    pub fn evict(
        &self,
        policy: Policy,
        access: Access,
        samples: usize,
        mut random: impl FnMut() -> u64,
        mut is_enough: impl FnMut() -> bool,
        mut free: impl FnMut(&mut Garbage),
        news: &mut News,
    ) -> usize {
        let mut at = random() as usize % self.shards.len();
        let (mut removed, mut without) = (0, 0);
        let mut garbage = Garbage::new();
        while without < self.shards.len() {
            let mut shard = self.lock(at);
            let evicted = (0..EVICT_AT_ONCE).take_while(|_| shard.evict(policy, access, samples, &mut random)).count();
            garbage.append(&mut shard.garbage);
            news.append(&mut shard.news);
            drop(shard);
            free(&mut garbage);
            removed += evicted;
            // One that has not found anything yet has not had its time either: the first shards may be empty.
            if removed > 0 && is_enough() {
                break;
            }
            without = if evicted > 0 { 0 } else { without + 1 };
            // Shards are filled alike, so any other one serves; in order, where most have nothing to give.
            at = if evicted > 0 { random() as usize } else { at + 1 } % self.shards.len();
        }
        removed
    }

    /// Counts over all shards.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for shard in 0..self.shards.len() {
            sum += self.lock(shard).counts;
        }
        sum
    }

    /// Forgets the counts, as CONFIG RESETSTAT does.
    pub fn reset_counts(&self) {
        for shard in 0..self.shards.len() {
            let mut shard = self.lock(shard);
            shard.counts = Counts { dirty: shard.counts.dirty, ..Counts::default() };
        }
    }

    /// Splits a SCAN cursor into shard and position; None if no SCAN gave it.
    pub fn split_cursor(&self, cursor: u64) -> Option<(usize, u64)> {
        let shard = (cursor >> CURSOR_BITS) as usize;
        (shard < self.shards.len()).then_some((shard, cursor & ((1 << CURSOR_BITS) - 1)))
    }

    /// The cursor of a position in a shard. It stays below 2^53, for clients that keep numbers as doubles.
    pub fn join_cursor(&self, shard: usize, position: u64) -> u64 {
        (shard as u64) << CURSOR_BITS | position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_fit_a_double_and_come_back() {
        let keyspace = Keyspace::new(1, 64, 1);
        let last = keyspace.join_cursor(keyspace.shards() - 1, (1 << CURSOR_BITS) - 1);
        assert!(last < 1 << 53);
        assert_eq!(keyspace.split_cursor(last), Some((keyspace.shards() - 1, (1 << CURSOR_BITS) - 1)));
        assert_eq!(keyspace.split_cursor(u64::MAX), None);
    }
}
