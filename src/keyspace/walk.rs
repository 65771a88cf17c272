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

    /// Empties a database, or all of them; what was in there is for [`super::free_tables`].
    #[must_use]
    pub fn flush(&mut self, db: Option<usize>) -> Vec<Table> {
        let mut tables = Vec::new();
        self.replace(|shard| tables.extend(shard.flush(db).into_iter().filter(|table| table.segments() > 0)));
        tables
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.replace(|shard| shard.swap(a, b));
    }

    /// Changes all shards in a way that leaves no client's copy of any key worth anything.
    fn replace(&mut self, mut f: impl FnMut(&mut Shard)) {
        let mut tells = self.keyspace.has_trackers();
        self.all(|shard| {
            f(shard);
            shard.lapse_all(std::mem::take(&mut tells));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Event, NewValue, Ttl};
    use super::*;
    use std::collections::BTreeSet;

    fn filled(keys: u32, ttl: impl Fn(u32) -> Ttl) -> Keyspace {
        let keyspace = Keyspace::new(2, 1, 3);
        for n in 0..keys {
            let key = n.to_be_bytes();
            let hash = keyspace.hash(&key);
            let mut shard = keyspace.lock(keyspace.shard_of(hash));
            shard.set(0, hash, &key, NewValue::Int(0), ttl(n), 1, Access::lru(0), Event::SET);
        }
        keyspace
    }

    fn scan_all(walk: &mut Walk<'_, '_>, count: u64) -> (Vec<Vec<u8>>, usize) {
        let (mut cursor, mut keys, mut calls) = (0, Vec::new(), 0);
        loop {
            let before = keys.len();
            cursor = walk.scan(cursor, count, |entry| keys.push(entry.key().to_vec()));
            assert!(keys.len() - before < count as usize + 100);
            calls += 1;
            if cursor == 0 {
                return (keys, calls);
            }
        }
    }

    #[test]
    fn scan_gives_every_live_key_once_and_about_count_at_a_time() {
        let keyspace = filled(20_000, |n| if n % 2 == 0 { Ttl::At(50) } else { Ttl::None });
        for (now, live) in [(1, 20_000), (50, 10_000)] {
            let mut walk = Walk::new(&keyspace, 0, now);
            let (keys, calls) = scan_all(&mut walk, 100);
            assert_eq!(keys.len(), live);
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), live);
            assert!((100..=250).contains(&calls), "{calls}");
        }
        let mut all = 0;
        Walk::new(&keyspace, 0, 1).each(|_| all += 1);
        assert_eq!(all, 20_000);
    }

    #[test]
    fn a_small_database_takes_one_call_and_a_foreign_cursor_ends() {
        let keyspace = filled(5, |_| Ttl::None);
        let mut walk = Walk::new(&keyspace, 0, 1);
        assert_eq!(scan_all(&mut walk, 10).1, 1);
        assert_eq!(walk.scan(u64::MAX, 10, |_| panic!("a key behind the end")), 0);
        assert_eq!(scan_all(&mut Walk::new(&keyspace, 1, 1), 10), (vec![], 1));
    }

    #[test]
    fn what_is_held_is_walked_without_its_locks() {
        let keyspace = filled(1000, |_| Ttl::None);
        let mut guards = keyspace.lock_all();
        let mut shards: Vec<&mut Shard> = guards.iter_mut().map(|guard| &mut **guard).collect();
        let mut walk = Walk::held(&keyspace, &mut shards, 0, 1);
        assert_eq!(walk.len(), 1000);
        walk.swap(0, 1);
        assert_eq!((walk.len(), scan_all(&mut walk, 10).0.len()), (0, 0));
        assert_eq!(walk.flush(None).iter().map(Table::len).sum::<usize>(), 1000);
    }

    #[test]
    fn a_random_key_is_any_live_key() {
        let keyspace = filled(300, |n| if n < 290 { Ttl::At(50) } else { Ttl::None });
        let mut walk = Walk::new(&keyspace, 0, 50);
        let seen: BTreeSet<_> = (0..1000).map(|_| walk.random(crate::random::next).unwrap()).collect();
        assert_eq!(seen, (290..300u32).map(|n| n.to_be_bytes().to_vec()).collect());
        let keyspace = filled(300, |_| Ttl::At(50));
        assert_eq!(Walk::new(&keyspace, 0, 50).random(crate::random::next), None);
        assert_eq!(Walk::new(&keyspace, 1, 0).random(crate::random::next), None);
    }
}
