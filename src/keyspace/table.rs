//! The hash table of one shard and database: a directory of small segments that grow alone and split one at a
//! time, so no insert ever moves more than one segment. It must not know locks, time or values.
//!
//! - A segment is at most [`MAX_BUCKETS`] buckets; a bucket is one cache line of 8 slots. A lookup that hits
//!   touches two lines: the bucket, and the entry. A full bucket overflows into the next one.
//! - The 64 hash bits are used thrice: the first choose the shard, the next 24 are the *prefix*, of which the
//!   directory takes as many as it needs; the lowest 16 are the *tag*, which is kept in the slot, gives the home bucket
//!   within the segment (so a segment is resized without touching an entry) and tells the entries apart.
//! - Segments grow in steps of a quarter, not by doubling, so the slots are 72–90 % full and cost some 10 bytes
//!   a key. (Doubling tables of hashbrown were 44–87 % full: 9 to 20 bytes a key.)
//! - Invariant: an entry in bucket `p` with home `h` means that the buckets `h..p` (cyclic) are all full. So a
//!   lookup ends at the first bucket with room, and a removal moves later entries back.
//! - SCAN walks in the order (prefix, tag), which neither growth nor a split changes: what was before the cursor
//!   stays before it.

use super::entry::{NewValue, Slot, prefetch};
use crate::types::{Object, ObjectMut};

const BUCKET_SLOTS: usize = 8;
/// Buckets of a segment, at most.
const MAX_BUCKETS: usize = 128;
/// Prefix bits: those that the directory can use, and that a cursor holds.
const PREFIX_BITS: u32 = 24;
/// A segment whose prefix is used up can not split further: it grows instead. Only colliding hashes lead there.
const MAX_DEPTH: u32 = PREFIX_BITS;
/// Random slots that are tried before a walk finds a random key.
const RANDOM_TRIES: usize = 256;
/// Bits of a table's SCAN cursor.
pub const CURSOR_BITS: u32 = PREFIX_BITS + 16;

/// The hash of a key; computed once per command and handed down.
pub type Hash = u64;

#[inline]
fn tag_of(hash: Hash) -> u16 {
    hash as u16
}

/// One cache line of slots.
#[derive(Default)]
#[repr(align(64))]
struct Bucket([Slot; BUCKET_SLOTS]);

impl Bucket {
    #[inline]
    fn vacant(&self) -> Option<usize> {
        // Slots fill from the front, but removal leaves holes anywhere.
        self.0.iter().position(Slot::is_vacant)
    }
}

/// A part of the table with its own, small set of buckets.
#[derive(Default)]
struct Segment {
    buckets: Box<[Bucket]>,
    len: u32,
    /// How many prefix bits (behind the shard's) all its keys share.
    depth: u32,
    /// No key of the segment expires before this time (ms); `i64::MAX` without TTLs.
    next_expire: i64,
}

/// Where a key lies: valid until the table is changed.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    segment: u32,
    bucket: u32,
    slot: u32,
}

/// A hash table from keys to entries.
pub struct Table {
    /// `2^depth` indices into `segments`, by the prefix bits behind the shard's.
    directory: Vec<u32>,
    segments: Vec<Segment>,
    depth: u32,
    /// Prefix bits that all keys of the table share because they chose the shard.
    shard_bits: u32,
    len: usize,
    with_ttl: usize,
    /// Sum of all expiry times, for the average.
    expire_sum: i128,
}

impl Table {
    /// An empty table for keys whose first `shard_bits` hash bits are the same. Allocates nothing.
    pub fn new(shard_bits: u32) -> Self {
        Self { directory: Vec::new(), segments: Vec::new(), depth: 0, shard_bits, len: 0, with_ttl: 0, expire_sum: 0 }
    }

    /// Keys.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys with a TTL.
    pub fn with_ttl(&self) -> usize {
        self.with_ttl
    }

    /// Sum of all expiry times, in ms since the epoch.
    pub fn expire_sum(&self) -> i128 {
        self.expire_sum
    }

    /// Buckets, and bytes of buckets and directory.
    pub fn footprint(&self) -> (usize, usize) {
        let buckets: usize = self.segments.iter().map(|s| s.buckets.len()).sum();
        let bytes = buckets * size_of::<Bucket>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.directory.capacity() * size_of::<u32>();
        (buckets, bytes)
    }

    #[inline]
    fn directory_index(&self, hash: Hash) -> usize {
        if self.depth == 0 { 0 } else { ((hash << self.shard_bits) >> (64 - self.depth)) as usize }
    }

    #[inline]
    fn segment_of(&self, hash: Hash) -> Option<usize> {
        self.directory.get(self.directory_index(hash)).map(|&index| index as usize)
    }

    /// First of two hints for a key that is about to be looked up: fetches its bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: Hash) {
        if let Some(segment) = self.segment_of(hash) {
            let segment = &self.segments[segment];
            if let Some(bucket) = segment.buckets.get(segment.home(tag_of(hash))) {
                prefetch(std::ptr::from_ref(bucket).cast());
            }
        }
    }

    /// Second hint: fetches the entries in that bucket that may be the key's.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) {
        if let Some(segment) = self.segment_of(hash) {
            let segment = &self.segments[segment];
            if let Some(bucket) = segment.buckets.get(segment.home(tag_of(hash))) {
                for slot in &bucket.0 {
                    if slot.has_tag(tag_of(hash)) {
                        slot.prefetch();
                    }
                }
            }
        }
    }

    /// The tag that a slot of a key with this hash must have.
    pub fn tag(hash: Hash) -> u16 {
        tag_of(hash)
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: Hash, key: &[u8]) -> Option<Place> {
        let index = self.segment_of(hash)?;
        let (bucket, slot) = self.segments[index].find(tag_of(hash), key)?;
        Some(Place { segment: index as u32, bucket: bucket as u32, slot: slot as u32 })
    }

    /// The slot at a place that [`Table::find`] gave.
    #[inline]
    pub fn at(&self, place: Place) -> &Slot {
        &self.segments[place.segment as usize].buckets[place.bucket as usize].0[place.slot as usize]
    }

    #[inline]
    fn at_mut(&mut self, place: Place) -> &mut Slot {
        &mut self.segments[place.segment as usize].buckets[place.bucket as usize].0[place.slot as usize]
    }

    /// Notes an access to the entry at `place`.
    #[inline]
    pub fn set_access(&mut self, place: Place, access: u32) {
        self.at_mut(place).set_access(access);
    }

    /// Takes a large string out of its entry, to be put back changed with [`Table::store`].
    pub fn take_shared(&mut self, place: Place) -> Option<bytes::Bytes> {
        self.at_mut(place).take_shared()
    }

    /// The collection at `place`, to be changed.
    #[inline]
    pub fn object_mut(&mut self, place: Place) -> Option<ObjectMut<'_>> {
        self.at_mut(place).object_mut()
    }

    /// Takes the collection at `place` out; the entry holds an empty one instead, to be replaced with [`Table::store`].
    pub fn take_object(&mut self, place: Place) -> Option<Object> {
        self.at_mut(place).take_object()
    }

    /// Replaces value and TTL of the entry at `place`.
    #[inline]
    pub fn store(&mut self, place: Place, value: NewValue<'_>, expire_at: Option<i64>) {
        if self.at(place).has_ttl() || expire_at.is_some() {
            self.count_expire(place, expire_at);
        }
        self.at_mut(place).store(value, expire_at);
    }

    /// Sets or removes the TTL of the entry at `place`.
    pub fn set_expire(&mut self, place: Place, expire_at: Option<i64>) {
        self.count_expire(place, expire_at);
        self.at_mut(place).set_expire(expire_at);
    }

    fn count_expire(&mut self, place: Place, expire_at: Option<i64>) {
        let before = self.at(place).entry().expire_at();
        self.uncount(before);
        self.count(place.segment as usize, expire_at);
    }

    fn uncount(&mut self, expire_at: Option<i64>) {
        if let Some(at) = expire_at {
            self.with_ttl -= 1;
            self.expire_sum -= i128::from(at);
        }
    }

    fn count(&mut self, segment: usize, expire_at: Option<i64>) {
        if let Some(at) = expire_at {
            self.with_ttl += 1;
            self.expire_sum += i128::from(at);
            let segment = &mut self.segments[segment];
            segment.next_expire = segment.next_expire.min(at);
        }
    }

    /// Adds a key that is not in the table. `rehash` gives the hash of a key, for the segment that splits.
    pub fn insert(
        &mut self,
        hash: Hash,
        key: &[u8],
        value: NewValue<'_>,
        expire_at: Option<i64>,
        access: u32,
        rehash: impl Fn(&[u8]) -> Hash,
    ) {
        self.insert_slot(hash, Slot::new(tag_of(hash), key, value, expire_at, access), rehash);
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert_slot(&mut self, hash: Hash, slot: Slot, rehash: impl Fn(&[u8]) -> Hash) {
        debug_assert_eq!(slot.tag(), tag_of(hash));
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment { next_expire: i64::MAX, ..Segment::default() });
        }
        let expire_at = if slot.has_ttl() { slot.entry().expire_at() } else { None };
        let mut index = self.directory[self.directory_index(hash)] as usize;
        while !self.segments[index].has_room() {
            if self.segments[index].buckets.len() < MAX_BUCKETS || self.segments[index].depth >= MAX_DEPTH {
                self.segments[index].grow();
            } else {
                self.split(index, hash, &rehash);
                index = self.directory[self.directory_index(hash)] as usize;
            }
        }
        self.segments[index].place(slot);
        self.segments[index].len += 1;
        self.len += 1;
        self.count(index, expire_at);
    }

    /// Takes the entry at `place` out.
    pub fn remove(&mut self, place: Place) -> Slot {
        let segment = &mut self.segments[place.segment as usize];
        let slot = segment.remove(place.bucket as usize, place.slot as usize);
        segment.shrink_if_sparse();
        self.len -= 1;
        if slot.has_ttl() {
            let expire_at = slot.entry().expire_at();
            self.uncount(expire_at);
        }
        slot
    }

    /// Splits segment `index` (in which `hash` lies) in two by the next prefix bit.
    fn split(&mut self, index: usize, hash: Hash, rehash: &impl Fn(&[u8]) -> Hash) {
        let depth = self.segments[index].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
        }
        let old = std::mem::take(&mut self.segments[index]);
        for bucket in &old.buckets {
            bucket.0.iter().filter(|slot| !slot.is_vacant()).for_each(Slot::prefetch);
        }
        // Both halves get room for what they can expect, and a little more.
        let expected = (old.len as usize / 2 + old.len as usize / 16) / BUCKET_SLOTS + 4;
        let half =
            || Segment { buckets: empty_buckets(expected), len: 0, depth: depth + 1, next_expire: old.next_expire };
        let mut halves = [half(), half()];
        let bit = 63 - self.shard_bits - depth;
        for mut bucket in old.buckets {
            for slot in &mut bucket.0 {
                if slot.is_vacant() {
                    continue;
                }
                let side = ((rehash(slot.entry().key()) >> bit) & 1) as usize;
                let half = &mut halves[side];
                while !half.has_room() {
                    half.grow();
                }
                half.place(slot.take());
                half.len += 1;
            }
        }
        let [low, high] = halves;
        self.segments[index] = low;
        self.segments.push(high);
        let new = self.segments.len() as u32 - 1;
        // The directory entries of the old segment are one run; its upper half goes to the new one.
        let run = 1usize << (self.depth - depth);
        let start = self.directory_index(hash) & !(run - 1);
        self.directory[start + run / 2..start + run].fill(new);
    }

    /// Calls `found` for the entries in the order of SCAN from `cursor` (0 at the start), until `enough` says
    /// so after a bucket, or the table ends. Returns the next cursor, or None at the end. A cursor is
    /// `prefix << 16 | tag`, of [`CURSOR_BITS`] bits.
    pub fn scan(&self, cursor: u64, mut found: impl FnMut(&Slot), mut enough: impl FnMut() -> bool) -> Option<u64> {
        let mut prefix = (cursor >> 16) as u32 & ((1 << PREFIX_BITS) - 1);
        let mut tag = cursor as u16;
        while !self.directory.is_empty() {
            let at = if self.depth == 0 { 0 } else { (prefix >> (PREFIX_BITS - self.depth)) as usize };
            let segment = &self.segments[self.directory[at] as usize];
            let count = segment.buckets.len();
            let mut bucket = if count == 0 { 0 } else { segment.home(tag) };
            while bucket < count {
                segment.for_each_at_home(bucket, |slot| {
                    if slot.tag() >= tag {
                        found(slot);
                    }
                });
                bucket += 1;
                // The smallest tag whose home is the next bucket.
                let next = (bucket << 16).div_ceil(count);
                if bucket < count {
                    tag = next as u16;
                    if enough() {
                        return Some(u64::from(prefix) << 16 | u64::from(tag));
                    }
                }
            }
            tag = 0;
            let width = 1u32 << (PREFIX_BITS - segment.depth);
            prefix = (prefix & !(width - 1)) + width;
            if prefix >> PREFIX_BITS != 0 {
                return None;
            }
            if enough() {
                return Some(u64::from(prefix) << 16);
            }
        }
        None
    }

    /// Segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// True if segment `index` may hold a key that has expired at `now`.
    pub fn may_expire(&self, index: usize, now: i64) -> bool {
        self.segments.get(index).is_some_and(|segment| segment.next_expire <= now)
    }

    /// Takes expired keys out of segment `index`, at most `limit`, handing each to `expired`. Returns how many;
    /// fewer than `limit` means that the segment is done.
    pub fn expire_segment(&mut self, index: usize, now: i64, limit: usize, mut expired: impl FnMut(Slot)) -> usize {
        let Some(segment) = self.segments.get_mut(index) else { return 0 };
        let (mut removed, mut next) = (0, i64::MAX);
        for bucket in 0..segment.buckets.len() {
            let line = &segment.buckets[bucket].0;
            if !line.iter().any(Slot::has_ttl) {
                continue;
            }
            line.iter().filter(|slot| slot.has_ttl()).for_each(Slot::prefetch);
        }
        let mut bucket = 0;
        while bucket < segment.buckets.len() {
            let mut slot = 0;
            while slot < BUCKET_SLOTS {
                let here = &segment.buckets[bucket].0[slot];
                if !here.has_ttl() {
                    slot += 1;
                    continue;
                }
                let at = here.entry().expire_at().unwrap_or(i64::MAX);
                if at > now {
                    next = next.min(at);
                    slot += 1;
                } else if removed == limit {
                    return removed;
                } else {
                    // The hole may be filled from behind: look at this slot again.
                    let gone = segment.remove(bucket, slot);
                    self.len -= 1;
                    self.with_ttl -= 1;
                    self.expire_sum -= i128::from(at);
                    removed += 1;
                    expired(gone);
                }
            }
            bucket += 1;
        }
        // Entries that wrapped around from the last bucket to the first were seen at the first.
        segment.next_expire = next;
        segment.shrink_if_sparse();
        removed
    }

    /// A random entry, every one about as likely. `random` gives 64 random bits.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<&Slot> {
        if self.len == 0 {
            return None;
        }
        for _ in 0..RANDOM_TRIES {
            let at = (random() % self.directory.len() as u64) as usize;
            let segment = &self.segments[self.directory[at] as usize];
            if segment.len == 0 {
                continue;
            }
            let bucket = (random() % segment.buckets.len() as u64) as usize;
            let slot = &segment.buckets[bucket].0[(random() % BUCKET_SLOTS as u64) as usize];
            if !slot.is_vacant() {
                return Some(slot);
            }
        }
        // Nearly empty: the next entry from a random one of its segments on.
        let start = (random() % self.segments.len() as u64) as usize;
        let (behind, front) = self.segments.split_at(start);
        let mut slots = front.iter().chain(behind).flat_map(|s| s.buckets.iter().flat_map(|b| &b.0));
        slots.find(|slot| !slot.is_vacant())
    }
}

fn empty_buckets(count: usize) -> Box<[Bucket]> {
    (0..count).map(|_| Bucket::default()).collect()
}

impl Segment {
    #[inline]
    fn home(&self, tag: u16) -> usize {
        (usize::from(tag) * self.buckets.len()) >> 16
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// True if another entry may go in: at most 90 % of the slots are taken.
    #[inline]
    fn has_room(&self) -> bool {
        let slots = self.buckets.len() * BUCKET_SLOTS;
        (self.len as usize) < slots - slots.div_ceil(10)
    }

    #[inline]
    fn find(&self, tag: u16, key: &[u8]) -> Option<(usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut full = true;
            for (index, slot) in bucket.0.iter().enumerate() {
                if slot.has_tag(tag) && slot.entry().key() == key {
                    return Some((at, index));
                }
                full &= !slot.is_vacant();
            }
            if !full {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Puts an entry into the first bucket with room, from its home on.
    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag());
        loop {
            if let Some(index) = self.buckets[at].vacant() {
                self.buckets[at].0[index] = slot;
                return;
            }
            at = self.next(at);
        }
    }

    fn grow(&mut self) {
        let count = self.buckets.len();
        let step = (count / 4).max(1);
        let target = if count < MAX_BUCKETS { (count + step).min(MAX_BUCKETS) } else { count + step };
        self.resize(target);
    }

    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.buckets, empty_buckets(count));
        for mut bucket in old {
            for slot in &mut bucket.0 {
                if !slot.is_vacant() {
                    self.place(slot.take());
                }
            }
        }
    }

    /// Takes an entry out and restores the invariant: an entry that had to move on for want of room moves back.
    fn remove(&mut self, bucket: usize, slot: usize) -> Slot {
        let taken = self.buckets[bucket].0[slot].take();
        self.len -= 1;
        let was_full = self.buckets[bucket].0.iter().filter(|slot| slot.is_vacant()).count() == 1;
        if was_full {
            self.fill_hole(bucket, slot);
        }
        taken
    }

    /// A segment that has become mostly empty gives its memory back.
    #[inline]
    fn shrink_if_sparse(&mut self) {
        if self.buckets.len() > 4 && (self.len as usize) < self.buckets.len() * BUCKET_SLOTS / 4 {
            self.resize((self.len as usize * 5 / 4).div_ceil(BUCKET_SLOTS) + 1);
        }
    }

    fn fill_hole(&mut self, bucket: usize, slot: usize) {
        let (mut hole_bucket, mut hole_slot) = (bucket, slot);
        let count = self.buckets.len();
        let mut at = self.next(hole_bucket);
        while at != hole_bucket {
            let full = self.buckets[at].vacant().is_none();
            // Distance from the hole to the candidate's home, cyclic: an entry whose home lies behind the hole
            // must not move before its home.
            let span = (at + count - hole_bucket) % count;
            let movable = self.buckets[at].0.iter().position(|candidate| {
                !candidate.is_vacant() && {
                    let displaced = (at + count - self.home(candidate.tag())) % count;
                    displaced >= span
                }
            });
            if let Some(index) = movable {
                let moved = self.buckets[at].0[index].take();
                self.buckets[hole_bucket].0[hole_slot] = moved;
                (hole_bucket, hole_slot) = (at, index);
            }
            if !full {
                return;
            }
            at = self.next(at);
        }
    }

    /// Calls `found` for every entry whose home is `home`.
    fn for_each_at_home(&self, home: usize, mut found: impl FnMut(&Slot)) {
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut full = true;
            for slot in &bucket.0 {
                if slot.is_vacant() {
                    full = false;
                } else if self.home(slot.tag()) == home {
                    found(slot);
                }
            }
            if !full {
                return;
            }
            at = self.next(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Text, Value};
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SHARD_BITS: u32 = 4;

    /// A hash that collides as `mask` wants it: the model test runs with all bits, few prefixes, few tags.
    fn hash(key: &[u8], mask: u64) -> Hash {
        let mut h = 0xcbf2_9ce4_8422_2325u64;
        for &byte in key {
            h = (h ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            h ^= h >> 29;
        }
        h & mask
    }

    fn insert(table: &mut Table, mask: u64, key: &[u8], value: i64, ttl: Option<i64>) {
        let h = hash(key, mask);
        match table.find(h, key) {
            Some(place) => table.store(place, NewValue::Int(value), ttl),
            None => table.insert(h, key, NewValue::Int(value), ttl, 0, |key| hash(key, mask)),
        }
    }

    fn get(table: &Table, mask: u64, key: &[u8]) -> Option<i64> {
        match table.at(table.find(hash(key, mask), key)?).entry().value() {
            Value::Text(Text::Int(value)) => Some(value),
            other => panic!("{other:?}"),
        }
    }

    fn check_invariants(table: &Table) {
        let mut len = 0;
        for segment in &table.segments {
            let count = segment.buckets.len();
            let mut here = 0;
            for (at, bucket) in segment.buckets.iter().enumerate() {
                for slot in bucket.0.iter().filter(|slot| !slot.is_vacant()) {
                    here += 1;
                    let mut home = segment.home(slot.tag());
                    while home != at {
                        assert!(segment.buckets[home].vacant().is_none(), "a hole before a displaced entry");
                        home = (home + 1) % count;
                    }
                    if let Some(expire_at) = slot.entry().expire_at() {
                        assert!(segment.next_expire <= expire_at);
                    }
                }
            }
            assert_eq!(segment.len, here);
            len += here as usize;
        }
        assert_eq!(table.len, len);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u16, Option<i64>),
        Remove(u16),
        Expire(i64, usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            6 => (0..2000u16, prop::option::of(1..100i64)).prop_map(|(k, t)| Op::Insert(k, t)),
            3 => (0..2000u16).prop_map(Op::Remove),
            1 => (1..100i64, 1..50usize).prop_map(|(now, limit)| Op::Expire(now, limit)),
        ];
        prop::collection::vec(op, 0..3000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn is_a_map(ops in ops(), mask in prop_oneof![Just(u64::MAX), Just(0x0fff_ffff_ffff_000f), Just(0x7),
                Just(0x0ff0_0000_0000_ffff), Just(0xf)]) {
            let (mut table, mut model) = (Table::new(SHARD_BITS), BTreeMap::new());
            for (step, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Insert(key, ttl) => {
                        insert(&mut table, mask, &key.to_be_bytes(), step as i64, ttl);
                        model.insert(key, (step as i64, ttl));
                    }
                    Op::Remove(key) => {
                        let bytes = key.to_be_bytes();
                        let place = table.find(hash(&bytes, mask), &bytes);
                        prop_assert_eq!(place.is_some(), model.remove(&key).is_some());
                        if let Some(place) = place {
                            let slot = table.remove(place);
                            prop_assert_eq!(slot.entry().key(), bytes);
                        }
                    }
                    Op::Expire(now, limit) => {
                        for segment in 0..table.segments() {
                            while table.may_expire(segment, now) {
                                let mut gone = Vec::new();
                                table.expire_segment(segment, now, limit, |slot| gone.push(slot));
                                for slot in gone {
                                    let key = u16::from_be_bytes(slot.entry().key().try_into().unwrap());
                                    let (_, ttl) = model.remove(&key).unwrap();
                                    prop_assert!(ttl.unwrap() <= now);
                                }
                            }
                        }
                        prop_assert!(model.values().all(|(_, ttl)| ttl.is_none_or(|at| at > now)));
                    }
                }
            }
            check_invariants(&table);
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.with_ttl(), model.values().filter(|v| v.1.is_some()).count());
            prop_assert_eq!(table.expire_sum(), model.values().filter_map(|v| v.1).map(i128::from).sum::<i128>());
            for (key, (value, _)) in &model {
                prop_assert_eq!(get(&table, mask, &key.to_be_bytes()), Some(*value));
            }
        }
    }

    /// SCAN's guarantee: what is there from the first call to the last is returned, while the table grows from
    /// nothing to many segments and shrinks again between the calls; and a call's cost is bounded.
    #[test]
    fn a_scan_returns_all_that_stays_while_the_table_grows_and_shrinks() {
        for (before, during) in [(100u32, 20_000u32), (20_000, 0), (3000, 3000)] {
            let mut table = Table::new(SHARD_BITS);
            let key = |kind: u8, n: u32| [&[kind], n.to_be_bytes().as_slice()].concat();
            for n in 0..before {
                insert(&mut table, u64::MAX, &key(b'o', n), 0, None);
            }
            for n in 0..500 {
                insert(&mut table, u64::MAX, &key(b's', n), 0, None);
            }
            let (mut cursor, mut calls, mut seen) = (Some(0), 0, BTreeSet::new());
            while let Some(at) = cursor {
                let mut found = Vec::new();
                let looked_at = std::cell::Cell::new(0);
                cursor = table.scan(
                    at,
                    |slot| {
                        found.push(slot.entry().key().to_vec());
                    },
                    || {
                        looked_at.set(looked_at.get() + 1);
                        looked_at.get() >= 3
                    },
                );
                assert!(found.len() <= 100, "a call returned {}", found.len());
                seen.extend(found);
                calls += 1;
                let turn = calls * 97;
                for n in 0..97 {
                    if turn + n < during {
                        insert(&mut table, u64::MAX, &key(b'n', turn + n), 0, None);
                    } else if let Some(n) = before.checked_sub(turn + n) {
                        let k = key(b'o', n);
                        if let Some(place) = table.find(hash(&k, u64::MAX), &k) {
                            table.remove(place);
                        }
                    }
                }
                assert!(calls < 100_000);
            }
            assert_eq!(seen.iter().filter(|key| key[0] == b's').count(), 500);
        }
    }

    #[test]
    fn a_random_key_is_any_key() {
        let mut table = Table::new(SHARD_BITS);
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        };
        assert!(table.random(&mut random).is_none());
        for n in 0..50u8 {
            insert(&mut table, u64::MAX, &[n], 0, None);
        }
        let seen: BTreeSet<u8> = (0..5000).map(|_| table.random(&mut random).unwrap().entry().key()[0]).collect();
        assert_eq!(seen.len(), 50);
    }
}
