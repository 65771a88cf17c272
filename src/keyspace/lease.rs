//! What a shard knows of keys that are absent: which are being loaded, and which are known to be nowhere. It must
//! not know who loads, or from where.
//!
//! A **lease** is taken when a load of a key starts. Every change of the key voids it: a write, a removal, an
//! expiry, a flush. Only an unvoided lease lets the loaded value be stored, so a slow load never overwrites what
//! came after its start. Leases are exact, per key: counters striped over hashes would be smaller, but at 100,000
//! writes a second a load of 100 ms would nearly always find its stripe changed by other keys.
//!
//! An **absence** says until when a key need not be looked for again. Any change of the key clears it.

use super::table::Hash;
use hashbrown::HashTable;

/// A load that is allowed to store its value, unless the key changes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    id: u64,
    hash: Hash,
}

#[derive(Debug)]
struct Held {
    id: u64,
    hash: Hash,
    db: usize,
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
    held: Vec<Held>,
    next_id: u64,
    absent: HashTable<Absent>,
}

impl Leases {
    /// True if a change has nothing to void.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.absent.is_empty()
    }

    pub(super) fn take(&mut self, db: usize, hash: Hash) -> Lease {
        self.next_id += 1;
        self.held.push(Held { id: self.next_id, hash, db });
        Lease { id: self.next_id, hash }
    }

    /// Gives a lease back; true if the key has not changed meanwhile.
    pub(super) fn give_back(&mut self, lease: Lease) -> bool {
        let Some(at) = self.held.iter().position(|held| held.id == lease.id) else { return false };
        self.held.swap_remove(at);
        true
    }

    /// The key has changed.
    pub(super) fn void(&mut self, db: usize, hash: Hash) {
        self.held.retain(|held| held.hash != hash || held.db != db);
        if let Ok(entry) = self.absent.find_entry(hash, |absent| absent.hash == hash && absent.db == db) {
            entry.remove();
        }
    }

    /// All keys have changed.
    pub(super) fn void_all(&mut self) {
        self.held.clear();
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
        let absent = Absent { hash, db, until, key: key.into() };
        self.absent.insert_unique(hash, absent, |absent| absent.hash);
    }

    pub(super) fn is_absent(&self, db: usize, hash: Hash, key: &[u8], now: i64) -> bool {
        let same = |absent: &Absent| absent.db == db && *absent.key == *key && absent.until > now;
        self.absent.find(hash, same).is_some()
    }

    /// Loads in flight, and absences remembered.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.absent.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_voids_the_leases_of_its_key_alone() {
        let mut leases = Leases::default();
        let [a, b, other_db] = [leases.take(0, 1), leases.take(0, 2), leases.take(1, 1)];
        leases.void(0, 1);
        assert_eq!([a, b, other_db].map(|lease| leases.give_back(lease)), [false, true, true]);
        assert!(!leases.give_back(b), "a lease is given back once");
        let c = leases.take(0, 3);
        leases.void_all();
        assert!(!leases.give_back(c) && leases.is_empty());
    }

    #[test]
    fn absences_end_by_time_or_change_and_are_bounded() {
        let mut leases = Leases::default();
        leases.set_absent(0, 1, b"a", 100, 0);
        assert!(leases.is_absent(0, 1, b"a", 99) && !leases.is_absent(0, 1, b"a", 100));
        assert!(!leases.is_absent(1, 1, b"a", 99) && !leases.is_absent(0, 1, b"b", 99));
        leases.void(0, 1);
        assert!(!leases.is_absent(0, 1, b"a", 99));
        for hash in 0..10 * MAX_ABSENT as u64 {
            leases.set_absent(0, hash, b"x", 100, 0);
        }
        assert!(leases.counts().1 <= MAX_ABSENT);
    }
}
