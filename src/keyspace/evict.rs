//! Which key goes when memory is full. Knows one shard's tables and the access bits of entries; no configuration, no
//! clock, and nothing of who needs the room.
//!
//! No policy keeps a list: a key costs no memory but the 24 access bits that every entry has, and for the `lru`
//! policies a 16-bit fingerprint of each key that was evicted. Each eviction looks at the entries of a few random buckets
//! and keeps the best candidates in a small pool for the next one, as Redis does with single keys.
//!
//! The `lru` policies follow S3-FIFO's idea (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
//! eviction", SOSP 2023), with random samples instead of queues and recency within each class. A new key is *new* until it
//! is read again; a share of [`NEW_SHARE`] of the keys may be new, and while there are more, the new key that was
//! unused for longest goes, unless it was read: then it is *proven*. Else the proven key goes that was unused for longest.
//! A new key whose fingerprint is remembered comes as proven. So a scan, or keys that are wanted once, push out each other
//! instead of what is in use. The simulation of `benches/eviction.rs` compares it with exact LRU, Redis's LRU and LFU,
//! SIEVE, S3-FIFO, W-TinyLFU and the optimum.
//!
//! The `cost` policies weigh what Cenote knows and Redis does not: how long the source took to load the key. The idea is
//! that of GreedyDual-Size-Frequency (Cherkasova 1998): frequency × cost / size, with LFU's decay instead of an inflation
//! of the values of new keys, for which there are no bits.

use super::access::Access;
use super::shard::{Shard, hash_key};
use super::table::Hash;
use crate::types::Place;
use arrayvec::ArrayVec;

/// Which key goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// The least recently used one.
    Lru,
    /// The least frequently used one.
    Lfu,
    /// The one whose loss costs least: what its accesses would have taken to load, for each byte that it takes.
    Cost,
    /// The one that expires first.
    Ttl,
    /// Any.
    Random,
}

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which key goes first.
    pub rank: Rank,
    /// Only keys with a TTL may go.
    pub volatile: bool,
}

/// Candidates that are kept for the next eviction, of each class.
const POOL: usize = 8;
/// Looks at random keys until one eviction gives up.
const LOOKS: usize = 32;
/// Share of the keys that may be new before proven ones are safe from them, in percent.
const NEW_SHARE: u32 = 15;
/// Weight of one look at the keys in the running share of new ones: one part in this many.
const SHARE_WEIGHT: u32 = 16;
/// In these units the share is kept: parts in a thousand.
const WHOLE: u32 = 1000;
/// Fingerprints remembered for each key that is there, at least; doubling keeps it below twice as many.
const GHOSTS_MIN: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// The higher, the sooner it goes.
    score: i64,
    db: usize,
    hash: Hash,
    /// The access bits it was chosen by; if they have changed, it is in use.
    access: u32,
}

type Pool = ArrayVec<Candidate, POOL>;

/// What a shard remembers between evictions.
#[derive(Debug, Default)]
pub(super) struct Evictor {
    new: Pool,
    proven: Pool,
    /// Running share of new keys among those looked at, in parts of [`WHOLE`].
    new_share: u32,
    ghosts: Ghosts,
}

/// Fingerprints of keys that were evicted while new; each may be overwritten by a later one.
#[derive(Debug, Default)]
struct Ghosts(Vec<u16>);

impl Ghosts {
    fn slot(&mut self, hash: Hash) -> Option<&mut u16> {
        let mask = self.0.len().checked_sub(1)?;
        self.0.get_mut((hash >> 16) as usize & mask)
    }

    fn add(&mut self, hash: Hash, keys: usize) {
        if self.0.len() < keys || self.0.is_empty() {
            self.0 = vec![0; keys.next_power_of_two().max(GHOSTS_MIN)];
        }
        if let Some(slot) = self.slot(hash) {
            *slot = fingerprint(hash);
        }
    }

    fn take(&mut self, hash: Hash) -> bool {
        let found = self.slot(hash).filter(|slot| **slot == fingerprint(hash));
        found.is_some_and(|slot| std::mem::take(slot) != 0)
    }
}

/// Never 0, which stands for none.
fn fingerprint(hash: Hash) -> u16 {
    (hash as u16) | 1
}

fn offer(pool: &mut Pool, candidate: Candidate) {
    if pool.iter().any(|known| known.hash == candidate.hash && known.db == candidate.db) {
        return;
    }
    let at = pool.partition_point(|known| known.score <= candidate.score);
    if !pool.is_full() {
        pool.insert(at, candidate);
    } else if at > 0 {
        pool.remove(0);
        pool.insert(at - 1, candidate);
    }
}

impl Evictor {
    /// True if the key was evicted while it was new, not long ago; it is forgotten then.
    pub(super) fn returns(&mut self, hash: Hash) -> bool {
        self.ghosts.take(hash)
    }

    fn note_share(&mut self, is_new: bool) {
        let now = if is_new { WHOLE } else { 0 };
        self.new_share = (self.new_share * (SHARE_WEIGHT - 1) + now) / SHARE_WEIGHT;
    }
}

impl Shard {
    /// Removes one key that `policy` lets go; false if there is none. `access` is how accesses are noted, `samples` how
    /// many keys are looked at, about, `random` gives 64 random bits. The key goes to the garbage.
    pub fn evict(&mut self, policy: Policy, access: Access, samples: usize, random: &mut impl FnMut() -> u64) -> bool {
        let mut evictor = self.evictor.take().unwrap_or_default();
        let mut evicted = false;
        // Candidates may all turn out to be in use; then others are looked at.
        for _ in 0..LOOKS {
            if !self.look(&mut evictor, policy, access, samples, random) {
                break;
            }
            evicted = self.evict_best(&mut evictor, policy, access);
            if evicted {
                break;
            }
        }
        self.evictor = Some(evictor);
        evicted
    }

    /// Looks at some keys and puts them into the pools; false if there is none that may go.
    fn look(
        &self,
        evictor: &mut Evictor,
        policy: Policy,
        access: Access,
        samples: usize,
        random: &mut impl FnMut() -> u64,
    ) -> bool {
        let fits = |db: &usize| {
            let table = self.table(*db);
            if policy.volatile { table.with_ttl() > 0 } else { !table.is_empty() }
        };
        let Some(db) = self.pick_database(policy, random).or_else(|| (0..self.databases()).find(fits)) else {
            return false;
        };
        let mut seen = 0;
        while seen < samples {
            let before = seen;
            self.table(db).sample(policy.volatile, &mut *random, |slot| {
                seen += 1;
                let entry = slot.entry();
                if policy.volatile && entry.expire_at().is_none() {
                    // Only a part of it expires.
                    return;
                }
                let bits = entry.access();
                let is_new = policy.rank == Rank::Lru && access.is_new(bits);
                let score = match policy.rank {
                    Rank::Lru => i64::from(access.age(bits)),
                    Rank::Lfu => 255 - i64::from(access.frequency(bits)),
                    Rank::Cost => -access.worth(bits, entry.memory()),
                    Rank::Ttl => entry.expire_at().map_or(i64::MIN, |at| -at),
                    Rank::Random => 0,
                };
                evictor.note_share(is_new);
                let candidate = Candidate { score, db, hash: self.hash_of(entry.key()), access: bits };
                offer(if is_new { &mut evictor.new } else { &mut evictor.proven }, candidate);
            });
            if seen == before {
                break;
            }
        }
        seen > 0
    }

    /// A database, the more keys the likelier; None for one without keys that may go.
    fn pick_database(&self, policy: Policy, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let keys = |db| if policy.volatile { self.table(db).with_ttl() } else { self.table(db).len() };
        let total: usize = (0..self.databases()).map(keys).sum();
        let mut rank = (random() % total.max(1) as u64) as usize;
        (0..self.databases()).find(|&db| {
            let is_here = rank < keys(db);
            rank = rank.saturating_sub(keys(db));
            is_here
        })
    }

    fn evict_best(&mut self, evictor: &mut Evictor, policy: Policy, access: Access) -> bool {
        loop {
            let is_too_many = evictor.new_share * 100 >= NEW_SHARE * WHOLE;
            let from_new = !evictor.new.is_empty() && (is_too_many || evictor.proven.is_empty());
            let pool = if from_new { &mut evictor.new } else { &mut evictor.proven };
            let Some(Candidate { db, hash, access: bits, .. }) = pool.pop() else { return false };
            let Some(place) = self.find_hash(db, hash) else { continue };
            let slot = self.table(db).at(place);
            // It was used since, or written without the TTL that made it a candidate.
            if slot.entry().access() != bits || policy.volatile && slot.entry().expire_at().is_none() {
                continue;
            }
            if from_new && access.was_read(bits) {
                self.set_access(db, place, access.proven(bits));
                continue;
            }
            if from_new {
                let keys = (0..self.databases()).map(|db| self.table(db).len()).sum();
                evictor.ghosts.add(hash, keys);
            }
            self.evict_at(db, hash, place);
            return true;
        }
    }

    fn find_hash(&self, db: usize, hash: Hash) -> Option<Place> {
        self.table(db).find_hash(hash, |slot| hash_key(self.hasher(), slot.entry().key()))
    }

    fn hash_of(&self, key: &[u8]) -> Hash {
        hash_key(self.hasher(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Event;
    use super::super::{Keyspace, NewValue, ShardGuard};
    use super::*;

    const LRU: Policy = Policy { rank: Rank::Lru, volatile: false };

    fn add(shard: &mut ShardGuard<'_>, keyspace: &Keyspace, key: u32, ttl: Option<i64>, access: Access) {
        let key = key.to_be_bytes();
        shard.add(0, keyspace.hash(&key), &key, NewValue::Int(1), ttl, access, Event::SET);
    }

    fn has(shard: &mut ShardGuard<'_>, keyspace: &Keyspace, key: u32) -> bool {
        let key = key.to_be_bytes();
        shard.find(0, keyspace.hash(&key), &key, 0).is_some()
    }

    fn read(shard: &mut ShardGuard<'_>, keyspace: &Keyspace, key: u32, access: Access) {
        let key = key.to_be_bytes();
        shard.read(0, keyspace.hash(&key), &key, 0, access);
    }

    /// One shard with `keys` keys, whatever their hashes; the tests call it directly.
    fn filled(keyspace: &Keyspace, keys: u32, access: Access) -> ShardGuard<'_> {
        let mut shard = keyspace.lock(0);
        (0..keys).for_each(|key| add(&mut shard, keyspace, key, None, access));
        shard
    }

    fn evict(shard: &mut ShardGuard<'_>, policy: Policy, access: Access, count: usize) -> usize {
        (0..count).filter(|_| shard.evict(policy, access, 5, &mut crate::random::next)).count()
    }

    #[test]
    fn what_is_read_again_outlives_a_scan() {
        let keyspace = Keyspace::new(1, 1, 1);
        let mut now = 0;
        let mut shard = filled(&keyspace, 1000, Access::segmented(now));
        now += 10_000;
        (0..500).for_each(|key| read(&mut shard, &keyspace, key, Access::segmented(now)));
        // A scan of ten times as many keys as there is room for, each wanted once.
        for key in 1000..11_000 {
            now += 100;
            assert_eq!(evict(&mut shard, LRU, Access::segmented(now), 1), 1);
            add(&mut shard, &keyspace, key, None, Access::segmented(now));
        }
        let kept = (0..500).filter(|&key| has(&mut shard, &keyspace, key)).count();
        assert!(kept > 400, "{kept} of 500 keys in use are left");
        assert_eq!(shard.counts.evicted, 10_000);
    }

    #[test]
    fn the_order_is_the_ranks() {
        let keyspace = Keyspace::new(1, 1, 1);
        let access = Access::segmented(0);
        for (rank, volatile) in [(Rank::Ttl, true), (Rank::Random, true), (Rank::Lru, true), (Rank::Lfu, true)] {
            let mut shard = keyspace.lock(0);
            (0..1000).for_each(|key| {
                add(&mut shard, &keyspace, key, (key % 2 == 0).then_some(1000 + i64::from(key)), access)
            });
            let policy = Policy { rank, volatile };
            assert_eq!(evict(&mut shard, policy, access, 250), 250);
            let left: Vec<u32> = (0..1000).filter(|&key| has(&mut shard, &keyspace, key)).collect();
            assert_eq!(left.iter().filter(|key| *key % 2 == 1).count(), 500, "{rank:?}: a key without a TTL went");
            if rank == Rank::Ttl {
                let early = left.iter().filter(|key| *key % 2 == 0 && **key < 250).count();
                assert!(early < 40, "{early} of the 125 that expire first are left");
            }
            assert_eq!(evict(&mut shard, policy, access, 1000), 250, "{rank:?}: all that may go");
            shard.flush(None);
        }
    }

    #[test]
    fn what_is_dear_to_load_outlives_what_is_cheap() {
        let keyspace = Keyspace::new(1, 1, 1);
        let access = Access::cost(0, 10, 1, 0);
        let mut shard = keyspace.lock(0);
        for key in 0..1000 {
            add(&mut shard, &keyspace, key, None, access.costing(if key % 2 == 0 { 50_000 } else { 200 }));
        }
        let policy = Policy { rank: Rank::Cost, volatile: false };
        assert_eq!(evict(&mut shard, policy, access, 400), 400);
        let dear = (0..1000).filter(|key| key % 2 == 0 && has(&mut shard, &keyspace, *key)).count();
        assert!(dear > 490, "{dear} of the 500 that are dear to load are left");
    }

    #[test]
    fn a_key_that_comes_back_soon_is_proven() {
        let keyspace = Keyspace::new(1, 1, 1);
        let access = Access::segmented(0);
        let mut shard = filled(&keyspace, 100, access);
        assert_eq!(evict(&mut shard, LRU, access, 50), 50);
        let gone: Vec<u32> = (0..100).filter(|&key| !has(&mut shard, &keyspace, key)).collect();
        for &key in &gone {
            add(&mut shard, &keyspace, key, None, access);
        }
        let proven = gone.iter().filter(|&&key| {
            let hash = keyspace.hash(&key.to_be_bytes());
            let place = shard.find(0, hash, &key.to_be_bytes(), 0).unwrap();
            !access.is_new(shard.entry(0, place).access())
        });
        assert!(proven.count() > 30, "fingerprints may be overwritten, but not most of them");
        add(&mut shard, &keyspace, 5000, None, access);
        let hash = keyspace.hash(&5000u32.to_be_bytes());
        let place = shard.find(0, hash, &5000u32.to_be_bytes(), 0).unwrap();
        assert!(access.is_new(shard.entry(0, place).access()));
    }
}
