//! What a shard knows of keys that are absent: which are being loaded, and which are known to be nowhere. It must
//! not know who loads, or from where.
//!
//! A **flight** is one load of one key, which everybody who wants the key shares. It holds the key's *lease* as long
//! as it stands in the shard's list. Every change of the key takes it off the list: a write, a removal, an expiry, a
//! flush. Only a flight that still holds the lease at its end stores what it loaded, so a slow load never overwrites
//! what came after its start; and only such a flight is joined, so whoever asks after a change gets a load that began
//! after it. Who joined before the change gets what the flight loaded.
//!
//! Leases are exact, per key. Counters striped over hashes would be smaller, but at 100,000 writes a second a load of
//! 100 ms would nearly always find its stripe changed by other keys.
//!
//! An **absence** says until when a key need not be looked for again. Any change of the key clears it.

use super::table::Hash;
use bytes::Bytes;
use hashbrown::HashTable;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// What a load gave: the value, or nothing, or the error line for the client (without the leading `-`).
pub type Loaded = Result<Option<Bytes>, Arc<str>>;

/// One load of one key, shared by all who want it.
#[derive(Debug, Default)]
pub struct Flight {
    loaded: OnceLock<Loaded>,
    done: Notify,
}

impl Flight {
    /// Ends the flight and wakes all who wait. Only the first end counts.
    pub fn finish(&self, loaded: Loaded) {
        if self.loaded.set(loaded).is_ok() {
            self.done.notify_waiters();
        }
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
}

#[derive(Debug)]
struct Held {
    hash: Hash,
    db: usize,
    key: Box<[u8]>,
    flight: Arc<Flight>,
}

#[derive(Debug)]
struct Absent {
    hash: Hash,
    db: usize,
    until: i64,
    key: Box<[u8]>,
}

/// Absent keys remembered per shard, at most.
const MAX_ABSENT: usize = 1024;

/// The leases and absences of one shard.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashTable<Held>,
    absent: HashTable<Absent>,
}

impl Leases {
    /// True if a change has nothing to void.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.absent.is_empty()
    }

    /// The flight of a key, and whether it is a new one, which the caller must start.
    pub(super) fn join(&mut self, db: usize, hash: Hash, key: &[u8]) -> (Arc<Flight>, bool) {
        if let Some(held) = self.held.find(hash, |held| held.db == db && *held.key == *key) {
            return (Arc::clone(&held.flight), false);
        }
        let flight = Arc::new(Flight::default());
        let held = Held { hash, db, key: key.into(), flight: Arc::clone(&flight) };
        self.held.insert_unique(hash, held, |held| held.hash);
        (flight, true)
    }

    /// Takes a flight that ends off the list; true if it still held its lease.
    pub(super) fn end(&mut self, hash: Hash, flight: &Arc<Flight>) -> bool {
        match self.held.find_entry(hash, |held| Arc::ptr_eq(&held.flight, flight)) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// The key has changed.
    #[cold]
    pub(super) fn void(&mut self, db: usize, hash: Hash) {
        // Keys whose 64 hash bits are the same are voided together; that is rare and does no harm.
        while let Ok(entry) = self.held.find_entry(hash, |held| held.hash == hash && held.db == db) {
            entry.remove();
        }
        while let Ok(entry) = self.absent.find_entry(hash, |absent| absent.hash == hash && absent.db == db) {
            entry.remove();
        }
    }

    /// All keys have changed.
    pub(super) fn void_all(&mut self) {
        self.held = HashTable::new();
        self.absent = HashTable::new();
    }

    pub(super) fn set_absent(&mut self, db: usize, hash: Hash, key: &[u8], until: i64, now: i64) {
        if self.absent.len() >= MAX_ABSENT {
            self.absent.retain(|absent| absent.until > now);
        }
        if self.absent.len() >= MAX_ABSENT {
            // Somebody asks for random keys: what is remembered of them is worth nothing.
            self.absent.clear();
        }
        match self.absent.find_mut(hash, |absent| absent.db == db && *absent.key == *key) {
            // Its time is over, or nobody would have looked again.
            Some(absent) => absent.until = until,
            None => {
                let absent = Absent { hash, db, until, key: key.into() };
                self.absent.insert_unique(hash, absent, |absent| absent.hash);
            }
        }
    }

    pub(super) fn is_absent(&self, db: usize, hash: Hash, key: &[u8], now: i64) -> bool {
        let same = |absent: &Absent| absent.db == db && *absent.key == *key && absent.until > now;
        self.absent.find(hash, same).is_some()
    }

    /// Loads that hold a lease, and absences that hold at `now`.
    pub(super) fn counts(&self, now: i64) -> (usize, usize) {
        (self.held.len(), self.absent.iter().filter(|absent| absent.until > now).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_voids_the_leases_of_its_key_alone() {
        let mut leases = Leases::default();
        let (a, new_a) = leases.join(0, 1, b"a");
        let (b, new_b) = leases.join(0, 2, b"b");
        let (other_db, new_other) = leases.join(1, 1, b"a");
        assert!(new_a && new_b && new_other);
        let (joined, new) = leases.join(0, 1, b"a");
        assert!(!new && Arc::ptr_eq(&joined, &a), "one flight per key");
        leases.void(0, 1);
        let (later, new) = leases.join(0, 1, b"a");
        assert!(new && !Arc::ptr_eq(&later, &a), "who asks after a change does not join the older flight");
        assert_eq!([leases.end(1, &a), leases.end(2, &b), leases.end(1, &other_db)], [false, true, true]);
        assert!(!leases.end(2, &b), "a lease is given back once");
        leases.void_all();
        assert!(!leases.end(1, &later) && leases.is_empty());
    }

    #[test]
    fn absences_end_by_time_or_change_and_are_bounded() {
        let mut leases = Leases::default();
        leases.set_absent(0, 1, b"a", 100, 0);
        assert!(leases.is_absent(0, 1, b"a", 99) && !leases.is_absent(0, 1, b"a", 100));
        assert!(!leases.is_absent(1, 1, b"a", 99) && !leases.is_absent(0, 1, b"b", 99));
        leases.void(0, 1);
        assert!(!leases.is_absent(0, 1, b"a", 99));
        leases.set_absent(0, 1, b"a", 100, 0);
        leases.set_absent(0, 1, b"a", 200, 100);
        assert_eq!((leases.counts(150).1, leases.absent.len()), (1, 1), "what is over makes room for what is new");
        assert_eq!(leases.counts(200).1, 0);
        for hash in 0..10 * MAX_ABSENT as u64 {
            leases.set_absent(0, hash, b"x", 100, 0);
        }
        assert!(leases.counts(0).1 <= MAX_ABSENT);
    }

    #[tokio::test]
    async fn all_who_wait_get_what_was_loaded() {
        let flight = Arc::new(Flight::default());
        let early: Vec<_> =
            (0..3).map(|_| Arc::clone(&flight)).map(|f| tokio::spawn(async move { f.wait().await })).collect();
        tokio::task::yield_now().await;
        flight.finish(Ok(Some(Bytes::from_static(b"v"))));
        flight.finish(Ok(None));
        for task in early {
            assert_eq!(task.await.unwrap(), Ok(Some(Bytes::from_static(b"v"))));
        }
        assert_eq!(flight.wait().await, Ok(Some(Bytes::from_static(b"v"))));
    }
}
