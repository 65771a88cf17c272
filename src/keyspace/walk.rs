//! Commands over the whole keyspace: SCAN, KEYS, RANDOMKEY, DBSIZE walk it shard by shard, holding one lock at a time
//! and for a bounded number of buckets, and a bounded number of keys in one turn ([`Walk::in_turns`]), so they never stall
//! others however many keys there are; FLUSHALL and SWAPDB hold all locks, for a moment that does not depend on the keys.
//! It must not know commands or replies.
//!
//! A walk changes nothing: a key whose time has come is passed over, and left to the sweep. Where all shards are
//! locked already (EXEC, scripts) [`Walk::held`] does the same on them.

use super::entry::{Entry, Slot};
use super::shard::Shard;
use super::stripes::Keyspace;
use super::table::Table;
use std::cell::Cell;

/// Buckets looked at under one lock.
const LOCKED_BUCKETS: usize = 128;
/// Buckets (or empty shards) that SCAN looks at for each key asked for, at most, as in Redis ...
const BUCKETS_PER_KEY: u64 = 10;
/// Keys that are looked at in one turn, about: some 100 µs.
const TURN_KEYS: u64 = 1000;
/// Keys of a turn for each step of a walk to the first key that has not expired; such a step is longer.
const STEPS_PER_TURN: u64 = 100;
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
    turn: u64,
}

impl<'a, 's> Walk<'a, 's> {
    /// Over shards that are not locked, in database `db` at `now` (ms).
    pub fn new(keyspace: &'a Keyspace, db: usize, now: i64) -> Self {
        Self { keyspace, shards: Shards::Free, db, now, turn: u64::MAX }
    }

    /// The same for a command that may leave its work unfinished, to go on when others have had their turn.
    pub fn in_turns(mut self) -> Self {
        self.turn = TURN_KEYS;
        self
    }

    /// Over `shards`, which are all the shards of `keyspace`, locked.
    pub fn held(keyspace: &'a Keyspace, shards: &'a mut [&'s mut Shard], db: usize, now: i64) -> Self {
        Self { keyspace, shards: Shards::Held(shards), db, now, turn: u64::MAX }
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

    /// How many keys are looked at before others have their turn.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// Calls `found` for the keys of the database from `cursor` (0 at the start) on, until there were `count`,
    /// or so many empty buckets that it costs too much to go on. Returns the cursor to go on with, 0 at the end.
    ///
    /// What is there from the first call to the last is found, however the tables grow and shrink meanwhile.
    pub fn scan(&mut self, cursor: u64, count: u64, found: impl FnMut(Entry<'_>)) -> u64 {
        self.go(cursor, count, false, found)
    }

    /// The same for as many keys as one turn allows, which may be all. What is there from the first call to the last is
    /// found exactly once, where SCAN may meet it again after a table has grown.
    pub fn scan_turn(&mut self, cursor: u64, found: impl FnMut(Entry<'_>)) -> u64 {
        self.go(cursor, self.turn, true, found)
    }

    /// `whole`: stops only where a segment of a table ends.
    fn go(&mut self, cursor: u64, count: u64, whole: bool, mut found: impl FnMut(Entry<'_>)) -> u64 {
        let Some((mut shard, mut position)) = self.keyspace.split_cursor(cursor) else { return 0 };
        let now = self.now;
        let (keys, buckets) = (Cell::new(0), Cell::new(0));
        // A nearly empty database is done in one call: an empty shard costs no more than taking its lock.
        let most = count.saturating_mul(BUCKETS_PER_KEY).saturating_add(self.keyspace.shards() as u64);
        let is_enough = || keys.get() >= count || buckets.get() >= most;
        loop {
            let mut here = 0;
            let next = self.table(shard, |table| {
                let each = |slot: &Slot| {
                    keys.set(keys.get() + 1);
                    let entry = slot.entry();
                    if !slot.has_ttl() || entry.expire_at().is_none_or(|at| at > now) {
                        found(entry);
                    }
                };
                let enough = |segment_ends: bool| {
                    here += 1;
                    buckets.set(buckets.get() + 1);
                    (segment_ends || !whole) && (here >= LOCKED_BUCKETS || is_enough())
                };
                table.scan(position, each, enough)
            });
            buckets.set(buckets.get() + u64::from(next.is_none()));
            (shard, position) = match next {
                Some(position) => (shard, position),
                None if shard + 1 == self.keyspace.shards() => return 0,
                None => (shard + 1, 0),
            };
            if is_enough() {
                return self.keyspace.join_cursor(shard, position);
            }
        }
    }

    /// The first key from `cursor` on that has not expired, or the cursor to go on with in another turn; 0: there is none.
    pub fn first(&mut self, mut cursor: u64) -> Result<Vec<u8>, u64> {
        let mut key = None;
        for _ in 0..=self.turn / STEPS_PER_TURN {
            cursor = self.scan(cursor, 1, |entry| key = Some(entry.key().to_vec()));
            if cursor == 0 || key.is_some() {
                break;
            }
        }
        key.ok_or(cursor)
    }

    /// A random key of the database that has not expired, every one about as likely; None if none was met, because
    /// there is none or nearly all have expired. `random` gives 64 random bits.
    pub fn random(&mut self, mut random: impl FnMut() -> u64) -> Option<Vec<u8>> {
        let now = self.now;
        let is_live = |slot: &Slot| !slot.has_ttl() || slot.entry().expire_at().is_none_or(|at| at > now);
        (0..RANDOM_TRIES).find_map(|_| {
            let shard = self.random_shard(&mut random)?;
            self.table(shard, |table| {
                let slot = table.random(&mut random).filter(|slot| is_live(slot))?;
                Some(slot.entry().key().to_vec())
            })
        })
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
        assert_eq!(Walk::new(&keyspace, 0, 1).scan_turn(0, |_| all += 1), 0);
        assert_eq!(all, 20_000);
    }

    #[test]
    fn a_walk_in_turns_meets_no_key_twice_while_the_tables_grow() {
        let keyspace = filled(100_000, |_| Ttl::None);
        let (mut cursor, mut keys, mut turns, mut next) = (0, Vec::new(), 0, 100_000u32);
        loop {
            let before = keys.len();
            let found = |entry: Entry<'_>| keys.push(u32::from_be_bytes(entry.key().try_into().unwrap()));
            cursor = Walk::new(&keyspace, 0, 1).in_turns().scan_turn(cursor, found);
            assert!(keys.len() - before < 3 * TURN_KEYS as usize);
            turns += 1;
            if cursor == 0 {
                break;
            }
            // So the segments split, some of them between two turns.
            for key in next..next + 3000 {
                keyspace.add(0, &key.to_be_bytes(), NewValue::Int(0), 1);
            }
            next += 3000;
        }
        assert!(turns >= 50, "{turns}");
        let all: BTreeSet<_> = keys.iter().copied().collect();
        assert_eq!(all.len(), keys.len(), "a key came twice");
        assert_eq!(all.range(..100_000).count(), 100_000);
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
        let live: BTreeSet<_> = (290..300u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut walk = Walk::new(&keyspace, 0, 50);
        let seen: BTreeSet<_> = (0..1000).filter_map(|_| walk.random(crate::random::next)).collect();
        assert_eq!(seen, live);
        assert!(live.contains(&walk.first(0).unwrap()));
        let keyspace = filled(300, |_| Ttl::At(50));
        assert_eq!(Walk::new(&keyspace, 0, 50).random(crate::random::next), None);
        assert_eq!(Walk::new(&keyspace, 0, 50).first(0), Err(0));
        assert_eq!(Walk::new(&keyspace, 1, 0).random(crate::random::next), None);
    }
}
