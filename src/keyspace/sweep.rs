//! The active removal of expired keys, in slices: each call holds one shard's lock for at most one segment's
//! worth of work. It must not know timers or commands; who calls it decides how often.

use super::lazyfree::Garbage;
use super::shard::stir;
use super::stripes::Keyspace;

/// Where the sweep of some shards stands.
#[derive(Debug)]
pub struct Sweep {
    first_shard: usize,
    step: usize,
    shard: usize,
    db: usize,
    segment: usize,
}

/// Keys removed per slice, at most; about 10 µs.
const SLICE_KEYS: usize = 128;
/// Segments that are only looked at, per slice.
const SLICE_SEGMENTS: usize = 256;

/// What a slice did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Removed keys; there may be more at once.
    More,
    /// Nothing due in this slice.
    Idle,
    /// The last shard is done: the sweep starts anew at the next call.
    RoundDone,
}

impl Sweep {
    /// A sweep over every `step`-th shard from `first_shard` on: one per worker.
    pub fn new(first_shard: usize, step: usize) -> Self {
        Self { first_shard, step, shard: first_shard, db: 0, segment: 0 }
    }

    /// The shard that the next slice looks at.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Does one slice of work at time `now` (ms); what it removed goes to `garbage`.
    pub fn slice(&mut self, keyspace: &Keyspace, now: i64, garbage: &mut Garbage) -> Swept {
        if self.shard >= keyspace.shards() {
            self.shard = self.first_shard;
            (self.db, self.segment) = (0, 0);
            return Swept::RoundDone;
        }
        let mut shard = keyspace.lock(self.shard);
        let mut removed = 0;
        for _ in 0..SLICE_SEGMENTS {
            if self.db >= keyspace.databases() {
                self.shard += self.step;
                (self.db, self.segment) = (0, 0);
                break;
            }
            let table = shard.table(self.db);
            if table.timed() == 0 || self.segment >= table.segments() {
                self.db += 1;
                self.segment = 0;
                continue;
            }
            if !table.may_expire(self.segment, now) {
                self.segment += 1;
                continue;
            }
            removed = shard.expire_segment(self.db, self.segment, now, SLICE_KEYS);
            if removed < SLICE_KEYS {
                self.segment += 1;
            }
            break;
        }
        if !shard.news.is_empty() || shard.has_ready() {
            // Also what was left by others, who attend to no shard.
            stir();
        }
        garbage.append(&mut shard.garbage);
        drop(shard);
        if removed > 0 { Swept::More } else { Swept::Idle }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Event, NewValue, Ttl, Value};
    use super::*;
    use crate::config::Limits;
    use crate::types::{Collection, FieldTtl, Hash};

    #[test]
    fn slices_are_bounded_and_find_every_expired_key() {
        let keyspace = Keyspace::new(2, 1, 7);
        let access = Access::lru(0);
        for n in 0..20_000i64 {
            let key = n.to_be_bytes();
            let hash = keyspace.hash(&key);
            let ttl = if n % 2 == 0 { Ttl::At(100 + n % 10) } else { Ttl::None };
            let (db, mut shard) = ((n % 2) as usize, keyspace.lock(keyspace.shard_of(hash)));
            shard.set(db, hash, &key, NewValue::Int(n), ttl, 1, access, Event::SET);
        }
        let len = |db| (0..keyspace.shards()).map(|s| keyspace.lock(s).table(db).len()).sum::<usize>();
        let mut sweep = Sweep::new(0, 1);
        let mut sweep_at = |now| {
            while sweep.slice(&keyspace, now, &mut Garbage::new()) != Swept::RoundDone {}
        };
        sweep_at(99);
        assert_eq!((len(0), len(1)), (10_000, 10_000));
        sweep_at(104);
        assert_eq!((len(0), len(1)), (4_000, 10_000));
        sweep_at(1000);
        assert_eq!((len(0), len(1)), (0, 10_000));
        assert_eq!(keyspace.counts().expired_actively, 10_000);
    }

    /// A hash in the keyspace, and what is told of it.
    fn set_hash(keyspace: &Keyspace, key: &[u8], fields: &[(i64, Option<i64>)]) {
        let mut hash = Hash::default();
        for (field, at) in fields {
            let ttl = at.map_or(FieldTtl::Clear, FieldTtl::At);
            hash.set(&field.to_be_bytes(), b"v", ttl, 1, &Limits::DEFAULT);
        }
        let key_hash = keyspace.hash(key);
        let mut shard = keyspace.lock(keyspace.shard_of(key_hash));
        shard.listen(u32::MAX);
        let value = NewValue::Object(hash.into_object());
        shard.set(0, key_hash, key, value, Ttl::None, 1, Access::lru(0), Event::SET);
    }

    fn told(keyspace: &Keyspace) -> Vec<(&'static str, Vec<u8>)> {
        let notes = (0..keyspace.shards()).flat_map(|shard| std::mem::take(&mut keyspace.lock(shard).news.notes));
        let mut notes: Vec<_> = notes.collect();
        notes.sort_by_key(|note| note.order);
        notes.retain(|note| note.event != Event::MISS);
        notes.into_iter().map(|note| (note.event.name, note.key.to_vec())).collect()
    }

    #[test]
    fn fields_that_have_expired_are_swept_and_the_key_goes_with_the_last() {
        let keyspace = Keyspace::new(1, 1, 7);
        set_hash(&keyspace, b"small", &[(1, Some(50)), (2, Some(60)), (3, None)]);
        set_hash(&keyspace, b"gone", &[(1, Some(50)), (2, Some(55))]);
        set_hash(&keyspace, b"none", &[(1, None)]);
        let many: Vec<_> = (0..2000).map(|n| (n, (n % 2 == 0).then_some(50))).collect();
        set_hash(&keyspace, b"large", &many);
        told(&keyspace);
        let len = |key: &[u8], now| {
            let (hash, access) = (keyspace.hash(key), Access::lru(0));
            let mut shard = keyspace.lock(keyspace.shard_of(hash));
            let Some(entry) = shard.read(0, hash, key, now, access) else { return 0 };
            if let Value::Object(object) = entry.value() { object.len() } else { 0 }
        };
        let mut sweep = Sweep::new(0, 1);
        let mut sweep_at = |now| {
            // A large hash takes several rounds.
            for _ in 0..10 {
                while sweep.slice(&keyspace, now, &mut Garbage::new()) != Swept::RoundDone {}
            }
        };
        sweep_at(49);
        assert!(told(&keyspace).is_empty());
        sweep_at(55);
        // Looked at as they were before: nothing has been left for the look to remove.
        let lens = [b"small".as_slice(), b"gone", b"none", b"large"].map(|key| len(key, 1));
        assert_eq!(lens, [2, 0, 1, 1000]);
        let events = told(&keyspace);
        assert!(events.contains(&("hexpired", b"small".to_vec())) && events.contains(&("hexpired", b"large".to_vec())));
        let of_gone: Vec<_> = events.iter().filter(|(_, key)| key == b"gone").map(|(name, _)| *name).collect();
        assert_eq!(of_gone, ["hexpired", "del"]);
        // A look at a key removes what has expired as well.
        assert_eq!(len(b"small", 60), 1);
        assert_eq!(told(&keyspace), [("hexpired", b"small".to_vec())]);
        let timed: usize = (0..keyspace.shards()).map(|shard| keyspace.lock(shard).table(0).timed()).sum();
        assert_eq!(timed, 0);
    }
}
