//! What a shard knows of keys that are loaded from elsewhere: which are being loaded, which are known to be nowhere,
//! how fresh those are that were loaded, and which changes at their source a load must have seen. It must not know who
//! loads, or from where.
//!
//! A **flight** is one load of one key, which everybody who wants the key shares. It holds the key's *lease* as long
//! as it stands in the shard's list. Every change of the key takes it off the list: a write, a removal, an expiry, a
//! flush, an invalidation. Only a flight that still holds the lease at its end stores what it loaded, so a slow load
//! never overwrites what came after its start; and only such a flight is joined, so whoever asks after a change gets a
//! load that began after it. Who joined before the change gets what the flight loaded.
//!
//! Leases are exact, per key. Counters striped over hashes would be smaller, but at 100,000 writes a second a load of
//! 100 ms would nearly always find its stripe changed by other keys.
//!
//! An **absence** says until when a key need not be looked for again. Any change of the key clears it.
//!
//! What was loaded is on **record** until it is changed, so that its age can be judged: only such keys pay for it.
//!
//! A **post** is a change at the source that was announced, and which a load of its key must have seen to be stored;
//! see [`crate::freshness`].

use super::table::Hash;
use crate::freshness::{Snapshot, Terms};
use crate::types::Object;
use bytes::Bytes;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// What a load found.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is no such thing.
    Nothing,
    /// A string.
    Text(Bytes),
    /// A collection.
    Object(Arc<Object>),
}

/// What a load gave, or the error line for the client (without the leading `-`).
pub type Loaded = Result<Found, Arc<str>>;

impl Found {
    /// Bytes that the value takes, about.
    pub fn memory(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Text(text) => text.len(),
            Self::Object(object) => object.by_ref().memory(),
        }
    }
}

/// One load of one key, shared by all who want it.
#[derive(Debug, Default)]
pub struct Flight {
    loaded: OnceLock<Loaded>,
    done: Notify,
    /// Who wants it. Changes from nothing only under the shard's lock.
    wanted: AtomicUsize,
}

impl Flight {
    /// Ends the flight and wakes all who wait. Only the first end counts.
    pub fn finish(&self, loaded: Loaded) {
        if self.loaded.set(loaded).is_ok() {
            self.done.notify_waiters();
        }
    }

    /// True once it has ended.
    pub fn is_over(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Loaded {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            // Registered before the look, so that no end is missed.
            done.as_mut().enable();
            if let Some(loaded) = self.loaded.get() {
                return loaded.clone();
            }
            done.await;
        }
    }

    /// One more wants it; to be called with the shard locked.
    pub fn enter(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// One wants it no more; true if that was the last.
    pub fn leave(&self) -> bool {
        self.wanted.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// How many want it.
    pub fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Held {
    hash: Hash,
    db: usize,
    key: Box<[u8]>,
    flight: Arc<Flight>,
    terms: Arc<Terms>,
    /// The terms' epoch at its start.
    epoch: u32,
    /// It should have ended by then (ms since the epoch).
    until: i64,
}

impl Held {
    /// The epoch in which its load began, if that is the one of now.
    pub(super) fn current_epoch(&self) -> Option<u32> {
        (self.epoch == self.terms.epoch()).then_some(self.epoch)
    }
}

#[derive(Debug)]
struct Absent {
    hash: Hash,
    db: usize,
    until: i64,
    key: Box<[u8]>,
    terms: Arc<Terms>,
    epoch: u32,
}

impl Absent {
    fn holds(&self, now: i64) -> bool {
        self.until > now && self.epoch == self.terms.epoch()
    }

    fn memory(key: &[u8]) -> usize {
        key.len() + size_of::<Self>() + 16
    }
}

/// A key that was loaded and not changed since.
#[derive(Debug)]
struct Record {
    hash: Hash,
    terms: Arc<Terms>,
    loaded_at: i64,
    /// How long the load took, in ms.
    took_ms: u32,
    /// After loads that failed: no other before so many ms after `loaded_at`.
    retry_in: u32,
    epoch: u32,
    db: u16,
    failures: u8,
    /// False once a command has set the key's TTL: only that counts then.
    is_timed: bool,
}

/// What is known of a key that was loaded and not changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedKey {
    /// When, in ms since the epoch.
    pub at: i64,
    /// How long the load took.
    pub took_ms: u32,
    /// How it may be served.
    pub standing: Standing,
}

/// How a key that is there may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it is: it is fresh, or was not loaded at all.
    Fresh,
    /// It is fresh, and to be loaded anew before it no longer is.
    Due,
    /// It is stale, may be served, and is to be loaded anew meanwhile.
    Stale,
    /// It is stale and may be served; its last load failed a moment ago.
    Paused,
    /// It is stale: to be loaded anew, and to be served only if that fails.
    Fallback,
    /// It is as good as absent.
    Over,
}

impl Record {
    fn end(&self) -> i64 {
        if self.is_timed { self.loaded_at.saturating_add(self.terms.fresh_ms(self.hash)) } else { i64::MAX }
    }

    fn standing(&self, now: i64) -> Standing {
        let (terms, end) = (&self.terms, self.end());
        let ms = |duration: std::time::Duration| duration.as_millis() as i64;
        let is_paused = now.saturating_sub(self.loaded_at) < i64::from(self.retry_in);
        let is_current = self.epoch == terms.epoch();
        if is_current && now < end {
            let is_due = !terms.refresh_ahead.is_zero() && now >= end - ms(terms.refresh_ahead) && !is_paused;
            return if is_due { Standing::Due } else { Standing::Fresh };
        }
        let since = if is_current { end } else { end.min(terms.moved_at()) };
        let age = now.saturating_sub(since).max(0);
        match (age < ms(terms.stale_while_revalidate), age < ms(terms.stale_if_error)) {
            (false, false) => Standing::Over,
            _ if is_paused => Standing::Paused,
            (true, _) => Standing::Stale,
            (false, true) => Standing::Fallback,
        }
    }

    /// From when on it is anything but fresh.
    fn check_at(&self) -> i64 {
        if self.epoch != self.terms.epoch() {
            return i64::MIN;
        }
        match (self.terms.refresh_ahead.as_millis() as i64, self.terms.stale_ms()) {
            // Its TTL says it all.
            (0, 0) => i64::MAX,
            (ahead, _) => self.end().saturating_sub(ahead),
        }
    }
}

/// A change at the source that a load of the key must have seen.
#[derive(Debug)]
struct Post {
    hash: Hash,
    xid: u32,
    terms: Arc<Terms>,
}

/// Bytes for absences of all shards, at most.
pub(super) const ABSENT_BYTES_MAX: usize = 64 << 20;
/// Invalidated keys that a shard remembers, at most.
const INVALIDATED_MAX: usize = 32;
/// Posts of a shard, at most; past them they stand for whole routes.
const POSTS_MAX: usize = 512;
/// Posts from which on it is worth looking for those that have done their duty.
const POSTS_FEW: usize = 32;
/// How often, at most, a shard looks through all its records for the next that needs a look, in ms.
const LOOK_EVERY_MS: i64 = 5000;
/// The first pause after a load that failed, in ms; it doubles with each further one, this many times at most.
const PAUSE_MS: i64 = 1000;
const PAUSE_DOUBLINGS: u8 = 5;

/// The leases, absences, records and posts of one shard.
#[derive(Debug)]
pub(super) struct Leases {
    held: HashTable<Held>,
    absent: HashTable<Absent>,
    absent_bytes: usize,
    records: HashTable<Record>,
    /// No record needs a look before then.
    check_at: i64,
    next_look: i64,
    posts: Vec<Post>,
    /// How many posts there may be before some are looked for that can go.
    posts_bound: usize,
    /// The keys that were invalidated last, with the time: for people who ask why.
    invalidated: VecDeque<(Hash, i64)>,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            held: HashTable::new(),
            absent: HashTable::new(),
            absent_bytes: 0,
            records: HashTable::new(),
            check_at: i64::MAX,
            next_look: 0,
            posts: Vec::new(),
            posts_bound: POSTS_FEW,
            invalidated: VecDeque::new(),
        }
    }
}

impl Leases {
    /// True if a change has nothing to void.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.absent.is_empty() && self.records.is_empty()
    }

    /// The flight of a key, and whether it is a new one, which the caller must start and which ends by `until`.
    pub(super) fn join(
        &mut self,
        (db, hash, key): (usize, Hash, &[u8]),
        terms: &Arc<Terms>,
        now: i64,
        until: i64,
    ) -> (Arc<Flight>, bool) {
        let flight = match self.held.find_mut(hash, |held| held.db == db && *held.key == *key) {
            Some(held) if held.current_epoch().is_some() && held.until > now => {
                return (Arc::clone(&held.flight), false);
            }
            Some(held) => {
                // It hangs, or what it loads may be stale: who waits gets it, who comes now gets another.
                (held.flight, held.epoch, held.until) = (Arc::default(), terms.epoch(), until);
                held.terms = Arc::clone(terms);
                Arc::clone(&held.flight)
            }
            None => {
                let flight = Arc::new(Flight::default());
                let (terms, epoch) = (Arc::clone(terms), terms.epoch());
                let held = Held { hash, db, key: key.into(), flight: Arc::clone(&flight), terms, epoch, until };
                self.held.insert_unique(hash, held, |held| held.hash);
                flight
            }
        };
        (flight, true)
    }

    /// Takes a flight that ends off the list, if it still held its lease.
    pub(super) fn end(&mut self, hash: Hash, flight: &Arc<Flight>) -> Option<Held> {
        let found = self.held.find_entry(hash, |held| Arc::ptr_eq(&held.flight, flight));
        found.ok().map(|entry| entry.remove().0)
    }

    /// The key has changed; its record stays if only its TTL did.
    #[cold]
    pub(super) fn void(&mut self, db: usize, hash: Hash, only_ttl: bool) {
        // Keys whose 64 hash bits are the same are voided together; that is rare and does no harm.
        while let Ok(entry) = self.held.find_entry(hash, |held| held.hash == hash && held.db == db) {
            entry.remove();
        }
        while let Ok(entry) = self.absent.find_entry(hash, |absent| absent.hash == hash && absent.db == db) {
            self.absent_bytes -= Absent::memory(&entry.get().key);
            entry.remove();
        }
        if only_ttl {
            if let Some(record) = self.record(db, hash) {
                record.is_timed = false;
            }
        } else if let Ok(entry) = self.records.find_entry(hash, |record| record.is_of(db, hash)) {
            entry.remove();
        }
    }

    /// All keys of a database, or of all, are gone. What loads must have seen stays.
    pub(super) fn void_all(&mut self, db: Option<usize>) {
        let stays = |other: usize| db.is_some_and(|db| db != other);
        self.held.retain(|held| stays(held.db));
        self.absent.retain(|absent| stays(absent.db));
        self.absent_bytes = self.absent.iter().map(|absent| Absent::memory(&absent.key)).sum();
        self.records.retain(|record| stays(record.db.into()));
        self.held.shrink_to(0, |held| held.hash);
        self.absent.shrink_to(0, |absent| absent.hash);
        self.records.shrink_to(0, |record| record.hash);
    }

    /// Two databases were exchanged. Whatever was loaded is elsewhere now, where no invalidation will look for it.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        for record in &mut self.records {
            let db = usize::from(record.db);
            if db == a || db == b {
                record.db = (a + b - db) as u16;
                record.epoch = record.epoch.wrapping_sub(1);
                self.check_at = i64::MIN;
            }
        }
        self.held.clear();
        self.absent.clear();
        self.absent_bytes = 0;
    }

    /// Remembers that a key is nowhere, as a load of that epoch found. `bytes_max` bounds what absences take.
    pub(super) fn set_absent(
        &mut self,
        (db, hash, key): (usize, Hash, &[u8]),
        (terms, epoch): (&Arc<Terms>, u32),
        until: i64,
        now: i64,
        bytes_max: usize,
    ) {
        let memory = Absent::memory(key);
        if self.absent_bytes + memory > bytes_max {
            self.absent.retain(|absent| absent.holds(now));
            self.absent_bytes = self.absent.iter().map(|absent| Absent::memory(&absent.key)).sum();
        }
        if self.absent_bytes + memory > bytes_max {
            // Somebody asks for random keys: what is remembered of them is worth nothing.
            self.absent.clear();
            self.absent_bytes = 0;
        }
        match self.absent.find_mut(hash, |absent| absent.db == db && *absent.key == *key) {
            // Its time is over, or nobody would have looked again.
            Some(absent) => (absent.until, absent.epoch, absent.terms) = (until, epoch, Arc::clone(terms)),
            None => {
                let absent = Absent { hash, db, until, key: key.into(), terms: Arc::clone(terms), epoch };
                self.absent.insert_unique(hash, absent, |absent| absent.hash);
                self.absent_bytes += memory;
            }
        }
    }

    pub(super) fn is_absent(&self, db: usize, hash: Hash, key: &[u8], now: i64) -> bool {
        self.absent.find(hash, |absent| absent.db == db && *absent.key == *key && absent.holds(now)).is_some()
    }

    /// Loads that hold a lease, and absences that hold at `now`.
    pub(super) fn counts(&self, now: i64) -> (usize, usize) {
        (self.held.len(), self.absent.iter().filter(|absent| absent.holds(now)).count())
    }

    fn record(&mut self, db: usize, hash: Hash) -> Option<&mut Record> {
        self.records.find_mut(hash, |record| record.is_of(db, hash))
    }

    /// Puts a key on record that was loaded at `now`, by a load that began in that epoch.
    pub(super) fn set_loaded(
        &mut self,
        db: usize,
        hash: Hash,
        (terms, epoch): (&Arc<Terms>, u32),
        now: i64,
        took_ms: u32,
    ) {
        let (terms, db) = (Arc::clone(terms), db as u16);
        let record =
            Record { hash, terms, loaded_at: now, took_ms, retry_in: 0, epoch, db, failures: 0, is_timed: true };
        let db = usize::from(db);
        self.check_at = self.check_at.min(record.check_at());
        match self.record(db, hash) {
            Some(known) => *known = record,
            None => {
                self.records.insert_unique(hash, record, |record| record.hash);
            }
        }
    }

    /// A load of a key that is there failed: no other for a while, which `random` spreads.
    pub(super) fn set_failed(&mut self, db: usize, hash: Hash, now: i64, random: u64) {
        if let Some(record) = self.record(db, hash) {
            let pause = PAUSE_MS << record.failures;
            record.failures = (record.failures + 1).min(PAUSE_DOUBLINGS);
            let until = now + pause / 2 + (random % (pause as u64 / 2)) as i64;
            record.retry_in = u32::try_from(until.saturating_sub(record.loaded_at)).unwrap_or(u32::MAX);
        }
    }

    /// True if some key may be anything but fresh at `now`: the one look that a hit costs.
    #[inline]
    pub(super) fn is_due(&self, now: i64) -> bool {
        now >= self.check_at
    }

    /// An epoch has moved on.
    pub(super) fn recheck(&mut self) {
        self.check_at = i64::MIN;
        self.next_look = 0;
    }

    /// How a key that is there may be served.
    pub(super) fn standing(&mut self, db: usize, hash: Hash, now: i64) -> Standing {
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY_MS;
            self.check_at = self.records.iter().map(Record::check_at).min().unwrap_or(i64::MAX);
        }
        self.record(db, hash).map_or(Standing::Fresh, |record| record.standing(now))
    }

    /// Whatever is known of a key counts no more, and nobody joins a load of it that is under way.
    pub(super) fn make_stale(&mut self, db: usize, hash: Hash) {
        self.void(db, hash, true);
        if let Some(record) = self.record(db, hash) {
            record.epoch = record.epoch.wrapping_sub(1);
            self.check_at = i64::MIN;
        }
    }

    /// True if a key is being loaded.
    pub(super) fn is_loading(&self, db: usize, hash: Hash, key: &[u8]) -> bool {
        self.held.find(hash, |held| held.db == db && *held.key == *key).is_some()
    }

    /// What is known of a key that was loaded.
    pub(super) fn loaded(&mut self, db: usize, hash: Hash, now: i64) -> Option<LoadedKey> {
        let record = self.record(db, hash)?;
        Some(LoadedKey { at: record.loaded_at, took_ms: record.took_ms, standing: record.standing(now) })
    }

    /// Remembers that a key was invalidated: of the last few.
    pub(super) fn note_invalidated(&mut self, hash: Hash, now: i64) {
        if self.invalidated.len() >= INVALIDATED_MAX {
            self.invalidated.pop_front();
        }
        self.invalidated.push_back((hash, now));
    }

    pub(super) fn invalidated_at(&self, hash: Hash) -> Option<i64> {
        self.invalidated.iter().rev().find(|(other, _)| *other == hash).map(|(_, at)| *at)
    }

    /// Asks for a change to be seen by every load of a key that is to be stored.
    pub(super) fn set_post(&mut self, hash: Hash, xid: u32, terms: &Arc<Terms>) {
        if self.posts.last().is_some_and(|post| post.hash == hash && post.xid == xid) {
            return;
        }
        if self.posts.len() >= self.posts_bound {
            self.posts.retain(|post| !post.terms.horizon.is_settled(post.xid));
            if self.posts.len() >= POSTS_MAX {
                for post in self.posts.drain(..) {
                    post.terms.fence.add(post.xid, &post.terms.horizon);
                }
            }
            self.posts_bound = (2 * self.posts.len()).clamp(POSTS_FEW, POSTS_MAX);
        }
        self.posts.push(Post { hash, xid, terms: Arc::clone(terms) });
    }

    /// True if a load with this snapshot saw every change that concerns its key.
    pub(super) fn admits(&self, hash: Hash, terms: &Terms, snapshot: Option<&Snapshot>) -> bool {
        let sees = |post: &Post| {
            post.terms.horizon.is_settled(post.xid) || snapshot.is_some_and(|snapshot| snapshot.sees(post.xid))
        };
        self.posts.iter().filter(|post| post.hash == hash).all(sees) && terms.fence.admits(snapshot, &terms.horizon)
    }
}

impl Record {
    fn is_of(&self, db: usize, hash: Hash) -> bool {
        self.hash == hash && usize::from(self.db) == db
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn join(leases: &mut Leases, db: usize, hash: Hash, key: &[u8]) -> (Arc<Flight>, bool) {
        leases.join((db, hash, key), &Arc::default(), 0, 100)
    }

    #[test]
    fn a_change_voids_the_leases_of_its_key_alone() {
        let mut leases = Leases::default();
        let (a, new_a) = join(&mut leases, 0, 1, b"a");
        let (b, new_b) = join(&mut leases, 0, 2, b"b");
        let (other_db, new_other) = join(&mut leases, 1, 1, b"a");
        assert!(new_a && new_b && new_other);
        let (joined, new) = join(&mut leases, 0, 1, b"a");
        assert!(!new && Arc::ptr_eq(&joined, &a), "one flight per key");
        leases.void(0, 1, false);
        let (later, new) = join(&mut leases, 0, 1, b"a");
        assert!(new && !Arc::ptr_eq(&later, &a), "who asks after a change does not join the older flight");
        let ends = [leases.end(1, &a), leases.end(2, &b), leases.end(1, &other_db)].map(|held| held.is_some());
        assert_eq!(ends, [false, true, true]);
        assert!(leases.end(2, &b).is_none(), "a lease is given back once");
        leases.void_all(None);
        assert!(leases.end(1, &later).is_none() && leases.is_empty());
    }

    #[test]
    fn a_flight_that_hangs_or_is_of_an_earlier_epoch_is_replaced() {
        let (mut leases, terms) = (Leases::default(), Arc::new(Terms::default()));
        let (first, _) = leases.join((0, 1, b"a"), &terms, 0, 100);
        assert!(!leases.join((0, 1, b"a"), &terms, 99, 199).1);
        let (second, new) = leases.join((0, 1, b"a"), &terms, 100, 200);
        assert!(new && !Arc::ptr_eq(&first, &second), "the first should have ended");
        terms.move_on(101);
        let (third, new) = leases.join((0, 1, b"a"), &terms, 101, 201);
        assert!(new && leases.end(1, &first).is_none() && leases.end(1, &second).is_none());
        terms.move_on(102);
        assert!(leases.end(1, &third).expect("it holds the lease").current_epoch().is_none());
    }

    #[test]
    fn absences_end_by_time_change_or_epoch_and_are_bounded() {
        let (mut leases, terms) = (Leases::default(), Arc::new(Terms::default()));
        let set = |leases: &mut Leases, hash, key: &[u8], until, now| {
            leases.set_absent((0, hash, key), (&terms, terms.epoch()), until, now, 100_000);
        };
        set(&mut leases, 1, b"a", 100, 0);
        assert!(leases.is_absent(0, 1, b"a", 99) && !leases.is_absent(0, 1, b"a", 100));
        assert!(!leases.is_absent(1, 1, b"a", 99) && !leases.is_absent(0, 1, b"b", 99));
        leases.void(0, 1, false);
        assert!(!leases.is_absent(0, 1, b"a", 99) && leases.absent_bytes == 0);
        set(&mut leases, 1, b"a", 100, 0);
        set(&mut leases, 1, b"a", 200, 100);
        assert_eq!((leases.counts(150).1, leases.absent.len()), (1, 1), "what is over makes room for what is new");
        assert_eq!(leases.counts(200).1, 0);
        terms.move_on(150);
        assert!(!leases.is_absent(0, 1, b"a", 150));
        for hash in 0..10_000 {
            set(&mut leases, hash, &[b'x'; 100], 100, 0);
            assert!(leases.absent_bytes <= 100_000);
        }
        assert!(leases.counts(0).1 <= 1000);
    }

    #[tokio::test]
    async fn all_who_wait_get_what_was_loaded() {
        let flight = Arc::new(Flight::default());
        let early: Vec<_> =
            (0..3).map(|_| Arc::clone(&flight)).map(|f| tokio::spawn(async move { f.wait().await })).collect();
        tokio::task::yield_now().await;
        flight.finish(Ok(Found::Text(Bytes::from_static(b"v"))));
        flight.finish(Ok(Found::Nothing));
        let is_v = |loaded: &Loaded| matches!(loaded, Ok(Found::Text(text)) if text == "v");
        for task in early {
            assert!(is_v(&task.await.unwrap()));
        }
        assert!(is_v(&flight.wait().await));
    }

    fn terms(ahead: u64, revalidate: u64, error: u64) -> Arc<Terms> {
        let ms = Duration::from_millis;
        let (refresh_ahead, stale_while_revalidate, stale_if_error) = (ms(ahead), ms(revalidate), ms(error));
        Arc::new(Terms { ttl: ms(1000), refresh_ahead, stale_while_revalidate, stale_if_error, ..Terms::default() })
    }

    #[test]
    fn what_was_loaded_ages() {
        let (mut leases, terms) = (Leases::default(), terms(100, 50, 200));
        leases.set_loaded(0, 7, (&terms, terms.epoch()), 0, 0);
        assert!(!leases.is_due(899) && leases.is_due(900));
        let stages = [
            (899, Standing::Fresh),
            (900, Standing::Due),
            (999, Standing::Due),
            (1000, Standing::Stale),
            (1049, Standing::Stale),
            (1050, Standing::Fallback),
            (1199, Standing::Fallback),
            (1200, Standing::Over),
        ];
        for (now, standing) in stages {
            assert_eq!(leases.standing(0, 7, now), standing, "{now}");
        }
        assert_eq!(leases.standing(0, 8, 5000), Standing::Fresh, "never loaded");
        // After a failure it is left alone for a while, and served where that is permitted.
        leases.set_failed(0, 7, 950, 0);
        assert_eq!(
            [950, 1000, 1100].map(|now| leases.standing(0, 7, now)),
            [Standing::Fresh, Standing::Paused, Standing::Paused]
        );
        assert_eq!(leases.standing(0, 7, 1200), Standing::Over);
        // A TTL of a command's own ends all this, but no epoch.
        leases.set_loaded(0, 7, (&terms, terms.epoch()), 0, 0);
        leases.void(0, 7, true);
        assert_eq!(leases.standing(0, 7, 5000), Standing::Fresh);
        terms.move_on(5000);
        assert_eq!(
            [5000, 5100, 5200].map(|now| leases.standing(0, 7, now)),
            [Standing::Stale, Standing::Fallback, Standing::Over]
        );
        leases.void(0, 7, false);
        assert_eq!(leases.loaded(0, 7, 0), None);
    }

    #[test]
    fn an_epoch_that_moves_on_makes_stale_what_was_loaded_before() {
        let (mut leases, terms) = (Leases::default(), terms(0, 0, 0));
        leases.set_loaded(0, 7, (&terms, terms.epoch()), 0, 0);
        assert!(!leases.is_due(i64::MAX - 1), "without windows the TTL says it all");
        terms.move_on(10);
        leases.recheck();
        assert!(leases.is_due(10));
        assert_eq!(leases.standing(0, 7, 10), Standing::Over);
        leases.set_loaded(0, 7, (&terms, terms.epoch()), 11, 0);
        assert_eq!(leases.standing(0, 7, 11), Standing::Fresh);
        leases.standing(0, 7, 10 + LOOK_EVERY_MS);
        assert!(!leases.is_due(20_000), "once all is fresh, hits cost nothing again");
    }

    #[test]
    fn posts_keep_out_what_did_not_see_them_and_are_bounded() {
        let (mut leases, terms) = (Leases::default(), Arc::new(Terms::default()));
        let before = Snapshot::parse("728:728:", false);
        let after = Snapshot::parse("729:729:", false);
        leases.set_post(7, 728, &terms);
        assert!(!leases.admits(7, &terms, before.as_ref()) && !leases.admits(7, &terms, None));
        assert!(leases.admits(7, &terms, after.as_ref()));
        assert!(leases.admits(8, &terms, before.as_ref()), "another key");
        leases.void_all(None);
        assert!(!leases.admits(7, &terms, before.as_ref()), "a flush does not make it visible");
        for hash in 0..10 * POSTS_MAX as u64 {
            leases.set_post(hash, 728, &terms);
            assert!(leases.posts.len() <= POSTS_MAX);
        }
        assert!(!leases.admits(3, &terms, before.as_ref()), "still asked for, of the whole route");
        assert!(leases.admits(3, &terms, after.as_ref()));
        // Once it is settled it is forgotten.
        terms.horizon.note(after.as_ref().expect("a snapshot"), 0);
        terms.horizon.note(after.as_ref().expect("a snapshot"), 1);
        assert!(leases.admits(7, &terms, None) && leases.admits(3, &terms, None));
    }
}
