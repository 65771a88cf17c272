//! The hash table of the keyspace's shards and of large collections: a directory of small segments that grow alone and
//! split one at a time, so no insert ever moves more than one segment. Generic over what a slot holds; it must not know
//! keys' values, locks or time.
//!
//! - A segment is at most [`MAX_BUCKETS`] buckets; a bucket is one cache line of 8 slots. A lookup that hits
//!   touches two lines: the bucket, and the entry. A full bucket overflows into the next one.
//! - The 64 hash bits are used thrice: the first choose the shard, the next 24 are the *prefix*, of which the
//!   directory takes as many as it needs; the lowest 16 are the *tag*, which is kept in the slot, gives the home bucket
//!   within the segment (so a segment is resized without touching an entry) and tells the entries apart.
//! - Segments grow in steps of a quarter, to what fills a class of the allocator, not by doubling, so the slots are 72–90 % full and cost some 10 bytes
//!   a key. (Doubling tables of hashbrown were 44–87 % full: 9 to 20 bytes a key.)
//! - Invariant: an entry in bucket `p` with home `h` means that the buckets `h..p` (cyclic) are all full. So a
//!   lookup ends at the first bucket with room, and a removal moves later entries back.
//! - SCAN walks in the order (prefix, tag), which neither growth nor a split changes: what was before the cursor
//!   stays before it.

use super::prefetch::prefetch;
use crate::alloc::class_size;
use std::cell::Cell;
use std::fmt;

const BUCKET_SLOTS: usize = 8;
/// Buckets of a segment, at most.
const MAX_BUCKETS: usize = 128;
/// Prefix bits: those that the directory can use, and that a cursor holds.
const PREFIX_BITS: u32 = 24;
/// A segment whose prefix is used up can not split further: it grows instead. Only colliding hashes lead there.
const MAX_DEPTH: u32 = PREFIX_BITS;
/// Random buckets that are tried before a sample goes through the table.
const SAMPLE_TRIES: usize = 64;
/// Random slots that are tried before the segments are walked for a random entry.
const RANDOM_TRIES: usize = 256;
/// Buckets that a call of the SCAN family looks at for each entry asked for, at most, as in Redis.
const BUCKETS_PER_ENTRY: u64 = 10;
/// Buckets whose entries a scan fetches ahead of the one it looks at.
const SCAN_AHEAD: usize = 2;
/// Entries that are looked at to tell what all take.
const SAMPLE: usize = 64;
/// Bits of a table's SCAN cursor.
pub const CURSOR_BITS: u32 = PREFIX_BITS + 16;

/// What a table holds: an entry with its key, or nothing. It is vacant by default; 8 bytes, so that a bucket is a cache
/// line.
pub trait Slot: Default {
    /// True without an entry.
    fn is_vacant(&self) -> bool;

    /// The tag of its entry's hash; see [`tag_of`].
    fn tag(&self) -> u16;

    /// True with an entry whose tag is `tag`.
    fn has_tag(&self, tag: u16) -> bool;

    /// True if the entry's key is `key`. Only asked where there is an entry.
    fn is_of(&self, key: &[u8]) -> bool;

    /// Asks the processor to fetch the entry.
    fn prefetch(&self);

    /// Asks the processor to fetch what the entry points to, for which it looks at the entry; true if that is large.
    #[inline]
    fn prefetch_value(&self) -> bool {
        false
    }

    /// True if the entry, or a part of it, expires at some time; told without a look at the entry.
    #[inline]
    fn has_deadline(&self) -> bool {
        false
    }

    /// Nothing of the entry expires before this time (ms).
    #[inline]
    fn deadline(&self) -> Option<i64> {
        None
    }

    /// When the entry as a whole expires (ms). Only asked where there is a deadline.
    #[inline]
    fn expire_at(&self) -> Option<i64> {
        None
    }
}

/// The part of a hash that a slot keeps.
#[inline]
pub fn tag_of(hash: u64) -> u16 {
    hash as u16
}

/// One cache line of slots.
#[derive(Clone, Default)]
#[repr(align(64))]
struct Bucket<S>([S; BUCKET_SLOTS]);

impl<S: Slot> Bucket<S> {
    #[inline]
    fn vacant(&self) -> Option<usize> {
        // Slots fill from the front, but removal leaves holes anywhere.
        self.0.iter().position(S::is_vacant)
    }
}

/// A part of the table with its own, small set of buckets.
#[derive(Clone)]
struct Segment<S> {
    buckets: Box<[Bucket<S>]>,
    len: u32,
    /// How many prefix bits (behind the shard's) all its keys share.
    depth: u32,
    /// Nothing in the segment expires before this time (ms); `i64::MAX` without deadlines.
    next_expire: i64,
}

impl<S> Default for Segment<S> {
    fn default() -> Self {
        Self { buckets: Box::default(), len: 0, depth: 0, next_expire: i64::MAX }
    }
}

/// Where a key lies: valid until the table is changed.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    segment: u32,
    bucket: u32,
    slot: u32,
}

/// A hash table of entries.
#[derive(Clone)]
pub struct Table<S> {
    /// `2^depth` indices into `segments`, by the prefix bits behind the shard's.
    directory: Vec<u32>,
    segments: Vec<Segment<S>>,
    depth: u32,
    /// Prefix bits that all keys of the table share because they chose the shard.
    shard_bits: u32,
    /// The most buckets that a segment has or had.
    most_buckets: u32,
    len: usize,
    /// Entries with a deadline.
    timed: usize,
    /// Entries that expire as a whole.
    with_ttl: usize,
    /// Sum of all expiry times, for the average.
    expire_sum: i128,
}

impl<S: Slot> Table<S> {
    /// An empty table for keys whose first `shard_bits` hash bits are the same. Allocates nothing.
    pub fn new(shard_bits: u32) -> Self {
        Self {
            directory: Vec::new(),
            segments: Vec::new(),
            depth: 0,
            shard_bits,
            most_buckets: 0,
            len: 0,
            timed: 0,
            with_ttl: 0,
            expire_sum: 0,
        }
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

    /// Entries of which something expires.
    pub fn timed(&self) -> usize {
        self.timed
    }

    /// Entries that expire as a whole.
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
        let bytes = buckets * size_of::<Bucket<S>>()
            + self.segments.capacity() * size_of::<Segment<S>>()
            + self.directory.capacity() * size_of::<u32>();
        (buckets, bytes)
    }

    #[inline]
    fn directory_index(&self, hash: u64) -> usize {
        if self.depth == 0 { 0 } else { ((hash << self.shard_bits) >> (64 - self.depth)) as usize }
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> Option<usize> {
        self.directory.get(self.directory_index(hash)).map(|&index| index as usize)
    }

    /// First of two hints for a key that is about to be looked up: fetches its bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if let Some(segment) = self.segment_of(hash) {
            let segment = &self.segments[segment];
            if let Some(bucket) = segment.buckets.get(segment.home(tag_of(hash))) {
                prefetch(std::ptr::from_ref(bucket).cast());
            }
        }
    }

    /// Second hint: fetches the entries in that bucket that may be the key's.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.at_home(hash, S::prefetch);
    }

    /// Third hint, where the entries are collections: fetches what they point to; true if that is large.
    #[inline]
    pub fn prefetch_value(&self, hash: u64) -> bool {
        let mut is_large = false;
        self.at_home(hash, |slot| is_large |= slot.prefetch_value());
        is_large
    }

    /// Calls `found` for the entries in the hash's home bucket that may be the key's.
    #[inline]
    pub fn at_home(&self, hash: u64, found: impl FnMut(&S)) {
        if let Some(segment) = self.segment_of(hash) {
            let segment = &self.segments[segment];
            if let Some(bucket) = segment.buckets.get(segment.home(tag_of(hash))) {
                bucket.0.iter().filter(|slot| slot.has_tag(tag_of(hash))).for_each(found);
            }
        }
    }

    /// Finds a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let index = self.segment_of(hash)?;
        let tag = tag_of(hash);
        let (bucket, slot) = self.segments[index].find(tag, |slot| slot.has_tag(tag) && slot.is_of(key))?;
        Some(Place { segment: index as u32, bucket: bucket as u32, slot: slot as u32 })
    }

    /// Finds an entry of which only the hash is known; `rehash` gives the hash of an entry.
    pub fn find_hash(&self, hash: u64, rehash: impl Fn(&S) -> u64) -> Option<Place> {
        let index = self.segment_of(hash)?;
        let tag = tag_of(hash);
        let (bucket, slot) = self.segments[index].find(tag, |slot| slot.has_tag(tag) && rehash(slot) == hash)?;
        Some(Place { segment: index as u32, bucket: bucket as u32, slot: slot as u32 })
    }

    /// Calls `found` for the entries of a random bucket, every bucket about as likely; with `with_ttl` only for those
    /// that have a deadline. Goes on to further buckets until there was one, if there is any. `random` gives 64 random
    /// bits.
    pub fn sample(&self, with_ttl: bool, random: &mut impl FnMut() -> u64, mut found: impl FnMut(&S)) {
        if self.len == 0 || with_ttl && self.timed == 0 {
            return;
        }
        let fits = |slot: &&S| !slot.is_vacant() && (!with_ttl || slot.has_deadline());
        let mut look = |bucket: &Bucket<S>| {
            bucket.0.iter().filter(fits).for_each(S::prefetch);
            bucket.0.iter().filter(fits).for_each(&mut found);
            bucket.0.iter().any(|slot| fits(&slot))
        };
        for _ in 0..SAMPLE_TRIES {
            let segment =
                &self.segments[self.directory[below(random(), self.directory.len() as u64) as usize] as usize];
            let count = segment.buckets.len() as u64;
            if segment.len > 0 && look(&segment.buckets[below(random(), count) as usize]) {
                return;
            }
        }
        // There are few: the next from a random segment on.
        let (behind, front) = self.segments.split_at(below(random(), self.segments.len() as u64) as usize);
        let mut buckets = front.iter().chain(behind).flat_map(|segment| &segment.buckets);
        buckets.find(|bucket| look(bucket));
    }

    /// The slot at a place that [`Table::find`] gave.
    #[inline]
    pub fn at(&self, place: Place) -> &S {
        &self.segments[place.segment as usize].buckets[place.bucket as usize].0[place.slot as usize]
    }

    /// Changes the entry at `place` in a way that leaves its key and its deadline as they are.
    #[inline]
    pub fn at_mut(&mut self, place: Place) -> &mut S {
        &mut self.segments[place.segment as usize].buckets[place.bucket as usize].0[place.slot as usize]
    }

    /// Changes the entry at `place` in a way that leaves its key as it is.
    #[inline]
    pub fn change<R>(&mut self, place: Place, f: impl FnOnce(&mut S) -> R) -> R {
        let slot = self.at_mut(place);
        let before = if slot.has_deadline() { Some(slot.expire_at()) } else { None };
        let result = f(slot);
        if before.is_some() || slot.has_deadline() {
            self.recount(place, before);
        }
        result
    }

    /// Counts the deadlines of an entry anew that had `before`.
    #[cold]
    fn recount(&mut self, place: Place, before: Option<Option<i64>>) {
        if let Some(expire_at) = before {
            self.uncount(expire_at);
        }
        let slot = self.at(place);
        if slot.has_deadline() {
            let (expire_at, deadline) = (slot.expire_at(), slot.deadline());
            self.count(place.segment as usize, expire_at, deadline);
        }
    }

    fn uncount(&mut self, expire_at: Option<i64>) {
        self.timed -= 1;
        if let Some(at) = expire_at {
            self.with_ttl -= 1;
            self.expire_sum -= i128::from(at);
        }
    }

    fn count(&mut self, segment: usize, expire_at: Option<i64>, deadline: Option<i64>) {
        self.timed += 1;
        if let Some(at) = expire_at {
            self.with_ttl += 1;
            self.expire_sum += i128::from(at);
        }
        if let Some(at) = deadline {
            let segment = &mut self.segments[segment];
            segment.next_expire = segment.next_expire.min(at);
        }
    }

    /// Adds an entry whose key is not in the table. `rehash` gives the hash of an entry's key, for the segment that splits.
    pub fn insert_slot(&mut self, hash: u64, slot: S, rehash: impl Fn(&S) -> u64) {
        debug_assert_eq!(slot.tag(), tag_of(hash));
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment::default());
        }
        let deadlines = slot.has_deadline().then(|| (slot.expire_at(), slot.deadline()));
        let mut index = self.directory[self.directory_index(hash)] as usize;
        while !self.segments[index].has_room() {
            if self.segments[index].buckets.len() < MAX_BUCKETS || self.segments[index].depth >= MAX_DEPTH {
                self.segments[index].grow();
                self.most_buckets = self.most_buckets.max(self.segments[index].buckets.len() as u32);
            } else {
                self.split(index, hash, &rehash);
                index = self.directory[self.directory_index(hash)] as usize;
            }
        }
        self.segments[index].place(slot);
        self.segments[index].len += 1;
        self.len += 1;
        if let Some((expire_at, deadline)) = deadlines {
            self.count(index, expire_at, deadline);
        }
    }

    /// Takes the entry at `place` out.
    pub fn remove(&mut self, place: Place) -> S {
        let segment = &mut self.segments[place.segment as usize];
        let slot = segment.remove(place.bucket as usize, place.slot as usize);
        segment.shrink_if_sparse();
        self.len -= 1;
        if slot.has_deadline() {
            self.uncount(slot.expire_at());
        }
        slot
    }

    /// Splits segment `index` (in which `hash` lies) in two by the next prefix bit.
    fn split(&mut self, index: usize, hash: u64, rehash: &impl Fn(&S) -> u64) {
        let depth = self.segments[index].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
        }
        let old = std::mem::take(&mut self.segments[index]);
        for bucket in &old.buckets {
            bucket.0.iter().filter(|slot| !slot.is_vacant()).for_each(S::prefetch);
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
                let side = ((rehash(slot) >> bit) & 1) as usize;
                let half = &mut halves[side];
                while !half.has_room() {
                    half.grow();
                }
                half.place(std::mem::take(slot));
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
    /// so after a bucket (it is told whether a segment ends there), or the table ends. Returns the next cursor, or None at
    /// the end. A cursor is `prefix << 16 | tag`, of [`CURSOR_BITS`] bits. Whoever stops only where a segment ends meets
    /// no entry twice, as no segment that splits meanwhile lies on both sides of the cursor.
    pub fn scan(&self, cursor: u64, mut found: impl FnMut(&S), mut enough: impl FnMut(bool) -> bool) -> Option<u64> {
        let mut prefix = (cursor >> 16) as u32 & ((1 << PREFIX_BITS) - 1);
        let mut tag = cursor as u16;
        while !self.directory.is_empty() {
            let at = if self.depth == 0 { 0 } else { (prefix >> (PREFIX_BITS - self.depth)) as usize };
            let segment = &self.segments[self.directory[at] as usize];
            let count = segment.buckets.len();
            let mut bucket = if count == 0 { 0 } else { segment.home(tag) };
            while bucket < count {
                if let Some(ahead) = segment.buckets.get(bucket + SCAN_AHEAD) {
                    ahead.0.iter().for_each(S::prefetch);
                }
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
                    if enough(false) {
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
            if enough(true) {
                return Some(u64::from(prefix) << 16);
            }
        }
        None
    }

    /// [`Table::scan`] for about `count` entries, as the SCAN family counts; returns the next cursor, 0 at the end.
    pub fn scan_some(&self, cursor: u64, count: u64, mut found: impl FnMut(&S)) -> u64 {
        let (seen, mut buckets) = (Cell::new(0), 0);
        let most = count.saturating_mul(BUCKETS_PER_ENTRY);
        let each = |slot: &S| {
            seen.set(seen.get() + 1);
            found(slot);
        };
        let enough = |_| {
            buckets += 1;
            seen.get() >= count || buckets >= most
        };
        self.scan(cursor, each, enough).unwrap_or(0)
    }

    /// Bytes that the table and its entries take from the allocator; each of the entries looked at takes `memory`.
    pub fn memory(&self, memory: impl Fn(&S) -> usize) -> usize {
        let (mut looked_at, mut bytes) = (0, 0);
        for slot in self.iter().take(SAMPLE) {
            looked_at += 1;
            bytes += memory(slot);
        }
        self.footprint().1 + (bytes * self.len).checked_div(looked_at).unwrap_or(0)
    }

    /// Segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// True if segment `index` may hold a key that has expired at `now`.
    pub fn may_expire(&self, index: usize, now: i64) -> bool {
        self.segments.get(index).is_some_and(|segment| segment.next_expire <= now)
    }

    /// Takes what has expired at `now` out of segment `index`, at most `limit` entries, handing each to `expired`. An
    /// entry of which only a part has expired is handed to `partly`, which takes that out; if it says so, the entry is to
    /// go as well. Returns how many entries went or were changed; fewer than `limit` means that the segment is done.
    pub fn expire_segment(
        &mut self,
        index: usize,
        now: i64,
        limit: usize,
        mut partly: impl FnMut(&mut S) -> bool,
        mut expired: impl FnMut(S),
    ) -> usize {
        let Some(segment) = self.segments.get_mut(index) else { return 0 };
        let (mut done, mut next) = (0, i64::MAX);
        for bucket in &segment.buckets {
            bucket.0.iter().filter(|slot| slot.has_deadline()).for_each(S::prefetch);
        }
        let (mut bucket, mut slot) = (0, 0);
        while bucket < segment.buckets.len() {
            if slot == BUCKET_SLOTS {
                (bucket, slot) = (bucket + 1, 0);
                continue;
            }
            let here = &mut segment.buckets[bucket].0[slot];
            let deadline = if here.has_deadline() { here.deadline() } else { None };
            let Some(deadline) = deadline else {
                slot += 1;
                continue;
            };
            if deadline > now {
                next = next.min(deadline);
                slot += 1;
                continue;
            }
            if done == limit {
                return done;
            }
            done += 1;
            let expire_at = here.expire_at();
            self.timed -= 1;
            self.with_ttl -= usize::from(expire_at.is_some());
            self.expire_sum -= i128::from(expire_at.unwrap_or(0));
            if expire_at.is_some_and(|at| at <= now) || partly(here) {
                // The hole may be filled from behind: look at this slot again.
                let gone = segment.remove(bucket, slot);
                self.len -= 1;
                expired(gone);
            } else {
                if here.has_deadline() {
                    self.timed += 1;
                    self.with_ttl += usize::from(expire_at.is_some());
                    self.expire_sum += i128::from(expire_at.unwrap_or(0));
                    next = next.min(here.deadline().unwrap_or(i64::MAX));
                }
                slot += 1;
            }
        }
        // Entries that wrapped around from the last bucket to the first were seen at the first.
        segment.next_expire = next;
        segment.shrink_if_sparse();
        done
    }

    /// The earliest deadline, or an earlier time; costs a look at each segment.
    pub fn next_expire(&self) -> i64 {
        self.segments.iter().map(|segment| segment.next_expire).min().unwrap_or(i64::MAX)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        let buckets = self.segments.iter().flat_map(|segment| &segment.buckets);
        buckets.flat_map(|bucket| &bucket.0).filter(|slot| !slot.is_vacant())
    }

    /// A random entry, every one equally likely. `random` gives 64 random bits.
    pub fn random(&self, random: impl FnMut() -> u64) -> Option<&S> {
        self.random_place(random).map(|place| self.at(place))
    }

    /// Where it lies.
    pub fn random_place(&self, mut random: impl FnMut() -> u64) -> Option<Place> {
        if self.len == 0 {
            return None;
        }
        // Every slot of every segment is equally likely, and of those that a smaller segment does not have.
        let most =
            if self.segments.len() == 1 { self.segments[0].buckets.len() as u64 } else { self.most_buckets.into() };
        for _ in 0..RANDOM_TRIES {
            let index = below(random(), self.segments.len() as u64) as usize;
            let at = below(random(), most * BUCKET_SLOTS as u64) as usize;
            let (bucket, slot) = (at / BUCKET_SLOTS, at % BUCKET_SLOTS);
            if self.segments[index].buckets.get(bucket).is_some_and(|bucket| !bucket.0[slot].is_vacant()) {
                return Some(Place { segment: index as u32, bucket: bucket as u32, slot: slot as u32 });
            }
        }
        // Nearly empty: the entry of a random rank.
        let mut rank = below(random(), self.len as u64) as usize;
        for (index, segment) in self.segments.iter().enumerate() {
            if rank < segment.len as usize {
                let places =
                    (0..segment.buckets.len()).flat_map(|bucket| (0..BUCKET_SLOTS).map(move |slot| (bucket, slot)));
                let mut taken = places.filter(|&(bucket, slot)| !segment.buckets[bucket].0[slot].is_vacant());
                let place = |(bucket, slot)| Place { segment: index as u32, bucket: bucket as u32, slot: slot as u32 };
                return taken.nth(rank).map(place);
            }
            rank -= segment.len as usize;
        }
        None
    }
}

impl<S: Slot + fmt::Debug> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A number below `limit` from 64 random bits.
#[inline]
fn below(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

/// At least `count` buckets: as many as the allocator's class for them holds.
fn empty_buckets<S: Slot>(count: usize) -> Box<[Bucket<S>]> {
    let count = class_size(count * size_of::<Bucket<S>>()) / size_of::<Bucket<S>>();
    (0..count).map(|_| Bucket::default()).collect()
}

impl<S: Slot> Segment<S> {
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
    fn find(&self, tag: u16, is_it: impl Fn(&S) -> bool) -> Option<(usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut at = self.home(tag);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut full = true;
            for (index, slot) in bucket.0.iter().enumerate() {
                if is_it(slot) {
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
    fn place(&mut self, slot: S) {
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
                    self.place(std::mem::take(slot));
                }
            }
        }
    }

    /// Takes an entry out and restores the invariant: an entry that had to move on for want of room moves back.
    fn remove(&mut self, bucket: usize, slot: usize) -> S {
        let taken = std::mem::take(&mut self.buckets[bucket].0[slot]);
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
                let moved = std::mem::take(&mut self.buckets[at].0[index]);
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
    fn for_each_at_home(&self, home: usize, mut found: impl FnMut(&S)) {
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
#[path = "table_tests.rs"]
mod tests;
