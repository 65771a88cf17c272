//! Commands over the whole keyspace: SCAN, KEYS, RANDOMKEY, DBSIZE walk it shard by shard, holding one lock at a time
//! and for a bounded number of buckets, so they never stall others however many keys there are; FLUSHALL
//! and SWAPDB hold all locks, for a moment that does not depend on the keys. It must not know commands or replies.
//!
//! A walk changes nothing: a key whose time has come is passed over, and left to the sweep. Where all shards are
//! locked already (EXEC, scripts) [`Walk::held`] does the same on them.

use super::entry::{Entry, Slot};
use super::shard::Shard;
use super::stripes::Keyspace;
use super::table::Table;

/// Buckets looked at under one lock.
const LOCKED_BUCKETS: usize = 128;
/// Buckets (or empty shards) that SCAN looks at for each key asked for, at most, as in Redis ...
const BUCKETS_PER_KEY: u64 = 10;
/// Keys of a shard from which on any shard is as good as another for a random key.
const FAIR_LEN: usize = 64;
/// Random keys that are tried for one that has not expired.
const RANDOM_TRIES: usize = 100;

enum Shards<'a, 's> {
    /// To be locked one by one.
    Free,
    /// All of them, locked.
    Held(&'a mut [&'s mut Shard]),
}

/// One command's way through the keyspace.
pub struct Walk<'a, 's> {
    keyspace: &'a Keyspace,
    shards: Shards<'a, 's>,
    db: usize,
    now: i64,
}

impl<'a, 's> Walk<'a, 's> {
    /// Over shards that are not locked, in database `db` at `now` (ms).
    pub fn new(keyspace: &'a Keyspace, db: usize, now: i64) -> Self {
        Self { keyspace, shards: Shards::Free, db, now }
    }

    /// Over `shards`, which are all the shards of `keyspace`, locked.
    pub fn held(keyspace: &'a Keyspace, shards: &'a mut [&'s mut Shard], db: usize, now: i64) -> Self {
        Self { keyspace, shards: Shards::Held(shards), db, now }
    }

    /// The connection's database.
    pub fn db(&self) -> usize {
        self.db
    }

    /// Databases.
    pub fn databases(&self) -> usize {
        self.keyspace.databases()
    }

    fn table<T>(&mut self, shard: usize, f: impl FnOnce(&Table) -> T) -> T {
        match &self.shards {
            Shards::Free => f(self.keyspace.lock(shard).table(self.db)),
            Shards::Held(shards) => f(shards[shard].table(self.db)),
        }
    }

    /// All shards at once.
    fn all(&mut self, mut f: impl FnMut(&mut Shard)) {
        match &mut self.shards {
            Shards::Free => self.keyspace.lock_all().iter_mut().for_each(|shard| f(shard)),
            Shards::Held(shards) => shards.iter_mut().for_each(|shard| f(shard)),
        }
    }

    /// Keys of the database, expired ones that are not removed yet included.
    pub fn len(&mut self) -> usize {
        (0..self.keyspace.shards()).map(|shard| self.table(shard, Table::len)).sum()
    }

    /// True without keys.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// Calls `found` for the keys of the database from `cursor` (0 at the start) on, until there were `count`,
    /// or so many empty buckets that it costs too much to go on. Returns the cursor to go on with, 0 at the end.
    ///
    /// What is there from the first call to the last is found, however the tables grow and shrink meanwhile.
    pub fn scan(&mut self, cursor: u64, count: u64, mut found: impl FnMut(Entry<'_>)) -> u64 {
        let Some((mut shard, mut position)) = self.keyspace.split_cursor(cursor) else { return 0 };
        let now = self.now;
        let (mut keys, mut buckets) = (0, 0);
        // A nearly empty database is done in one call: an empty shard costs no more than taking its lock.
        let most = count.saturating_mul(BUCKETS_PER_KEY).saturating_add(self.keyspace.shards() as u64);
        loop {
            let mut here = 0;
            let is_enough = |keys: u64, buckets: u64| keys >= count || buckets >= most;
            let (keys_so_far, buckets_so_far) = (std::cell::Cell::new(keys), std::cell::Cell::new(buckets));
            let next = self.table(shard, |table| {
                let each = |slot: &Slot| {
                    keys_so_far.set(keys_so_far.get() + 1);
                    let entry = slot.entry();
                    if !slot.has_ttl() || entry.expire_at().is_none_or(|at| at > now) {
                        found(entry);
                    }
                };
                let enough = || {
                    here += 1;
                    buckets_so_far.set(buckets_so_far.get() + 1);
                    here >= LOCKED_BUCKETS || is_enough(keys_so_far.get(), buckets_so_far.get())
                };
                table.scan(position, each, enough)
            });
            (keys, buckets) = (keys_so_far.get(), buckets_so_far.get() + u64::from(next.is_none()));
            (shard, position) = match next {
                Some(position) => (shard, position),
                None if shard + 1 == self.keyspace.shards() => return 0,
                None => (shard + 1, 0),
            };
            if is_enough(keys, buckets) {
                return self.keyspace.join_cursor(shard, position);
            }
        }
    }

    /// Calls `found` for all keys of the database.
    pub fn each(&mut self, found: impl FnMut(Entry<'_>)) {
        self.scan(0, u64::MAX, found);
    }

    /// A random key of the database that has not expired, every one about as likely. `random` gives 64 random bits.
    pub fn random(&mut self, mut random: impl FnMut() -> u64) -> Option<Vec<u8>> {
        let now = self.now;
        let is_live = |slot: &Slot| !slot.has_ttl() || slot.entry().expire_at().is_none_or(|at| at > now);
        for _ in 0..RANDOM_TRIES {
            let shard = self.random_shard(&mut random)?;
            let key = self.table(shard, |table| {
                let slot = table.random(&mut random).filter(|slot| is_live(slot))?;
                Some(slot.entry().key().to_vec())
            });
            if key.is_some() {
                return key;
            }
        }
        // Nearly all have expired: the first that has not.
        let (mut cursor, mut key) = (0, None);
        loop {
            cursor = self.scan(cursor, 1, |entry| key = Some(entry.key().to_vec()));
            if cursor == 0 || key.is_some() {
                return key;
            }
        }
    }

    /// A shard that has keys, the more the likelier.
    fn random_shard(&mut self, mut random: impl FnMut() -> u64) -> Option<usize> {
        let shards = self.keyspace.shards();
        let shard = random() as usize % shards;
        if self.table(shard, Table::len) >= FAIR_LEN {
            return Some(shard);
        }
        let lens: Vec<usize> = (0..shards).map(|shard| self.table(shard, Table::len)).collect();
        let total: usize = lens.iter().sum();
        let mut rank = random() as usize % total.max(1);
        lens.iter().position(|&len| {
            let is_here = rank < len;
            rank = rank.saturating_sub(len);
            is_here
        })
    }

    /// Empties a database, or all of them; what was in there is for [`super::lazy_free`].
    #[must_use]
    pub fn flush(&mut self, db: Option<usize>) -> Vec<Table> {
        let mut tables = Vec::new();
        self.all(|shard| tables.extend(shard.flush(db).into_iter().filter(|table| table.segments() > 0)));
        tables
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.all(|shard| shard.swap(a, b));
    }
}
