//! One shard: the keys of all databases whose hash starts with the same bits. A plain structure; the lock is
//! outside. It must not know commands, sockets or where values come from.
//!
//! Every operation takes `now` (ms since the epoch). A key whose time has come is never seen: it is removed by
//! the operation that meets it. What is removed goes to [`Shard::garbage`], which the caller drops after it has
//! released the lock.

use super::access::Access;
use super::change::{Edit, Event, News, Note};
use super::entry::{Entry, Slot};
use super::evict::Evictor;
use super::interest::Interests;
use super::lazyfree::{Cause, Garbage};
use super::lease::Leases;
use super::table::{Hash, Table};
use super::tracking::Tracking;
use super::value::{NewValue, Value, WrongType};
use crate::types::{Collection, ObjectRef, Place};
use foldhash::quality::SeedableRandomState;
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

/// How a write leaves the TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// As it is.
    Keep,
    /// Without one.
    None,
    /// Expires then, in ms since the epoch.
    At(i64),
}

/// Counts of one shard, since the start or CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Lookups of reading commands that found the key.
    pub hits: u64,
    /// Lookups of reading commands that did not.
    pub misses: u64,
    /// Keys removed because their time had come.
    pub expired: u64,
    /// Of these, by the active sweep.
    pub expired_actively: u64,
    /// Keys removed to make room.
    pub evicted: u64,
    /// Changes of the data.
    pub dirty: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
        self.expired_actively += other.expired_actively;
        self.evicted += other.evicted;
        self.dirty += other.dirty;
    }
}

/// A shard of the keyspace.
pub struct Shard {
    databases: Box<[Table]>,
    hasher: SeedableRandomState,
    pub(super) shard_bits: u32,
    pub(super) leases: Leases,
    /// What is remembered between evictions; None until there was one.
    pub(super) evictor: Option<Evictor>,
    pub(super) interests: Interests,
    pub(super) tracking: Tracking,
    /// Classes of events that somebody listens to; see [`Event`].
    listened: u32,
    /// What has expired stays for those who write, and for who imports keys: it is only hidden from those who read.
    keeps_expired: bool,
    /// Whether a change of a key may concern anybody: the one look that a write costs where nothing is watched.
    attentive: bool,
    /// What is to be told once the command is done.
    pub news: News,
    /// What was removed and is to be dropped after the lock is released.
    pub garbage: Garbage,
    /// What happened here.
    pub counts: Counts,
}

impl Shard {
    pub(super) fn new(databases: usize, shard_bits: u32, hasher: SeedableRandomState, tracking: Tracking) -> Self {
        Self {
            databases: (0..databases).map(|_| Table::new(shard_bits)).collect(),
            hasher,
            shard_bits,
            leases: Leases::default(),
            evictor: None,
            interests: Interests::default(),
            tracking,
            listened: 0,
            keeps_expired: false,
            attentive: false,
            news: News::default(),
            garbage: Garbage::new(),
            counts: Counts::default(),
        }
    }

    /// Hands over what was removed.
    #[inline]
    pub fn give_garbage(&mut self, to: &mut Garbage) {
        if !self.garbage.is_empty() {
            to.append(&mut self.garbage);
        }
    }

    /// The table of a database, for walks.
    pub fn table(&self, db: usize) -> &Table {
        &self.databases[db]
    }

    /// The one place that every change of a key goes through.
    #[inline]
    fn change(&mut self, db: usize, hash: Hash, key: &[u8], event: Event) {
        self.counts.dirty += 1;
        if self.attentive {
            self.attend(db, hash, key, event);
        }
    }

    #[cold]
    fn attend(&mut self, db: usize, hash: Hash, key: &[u8], event: Event) {
        self.leases.void(db, hash, matches!(event, Event::EXPIRE | Event::PERSIST));
        self.note(db, key, event);
        if !self.interests.is_empty() && self.interests.touch(db, hash, key, next_order()) {
            stir();
        }
        if !self.tracking.is_empty() {
            self.lapse(hash, key, event.is_unasked());
        }
        self.look_around();
    }

    /// Tells those who listen to its class of an event that changes nothing (or whose change was told).
    pub fn note(&mut self, db: usize, key: &[u8], event: Event) {
        if self.listened & event.class != 0 {
            self.news.notes.push(Note { event, db, key: key.into(), order: next_order() });
            stir();
        }
    }

    /// Tells that a value of a type takes the place of another one.
    pub(super) fn note_overwritten(&mut self, db: usize, key: &[u8], before: &str, after: &str) {
        self.note(db, key, Event::OVERWRITTEN);
        if before != after {
            self.note(db, key, Event::TYPE_CHANGED);
        }
    }

    /// Says which classes of events somebody listens to.
    pub fn listen(&mut self, classes: u32) {
        self.listened = classes;
        self.look_around();
    }

    pub(super) fn look_around(&mut self) {
        let is_kept = !self.leases.is_empty() || !self.interests.is_empty() || !self.tracking.is_empty();
        self.attentive = is_kept || self.listened != 0;
    }

    /// While keys are imported, what has expired is not removed by those who only read: see [`Shard::find_to_read`].
    pub fn keep_expired(&mut self, keep: bool) {
        self.keeps_expired = keep;
    }

    /// Finds a key that has not expired at `now`; one that has is removed.
    #[inline]
    pub fn find(&mut self, db: usize, hash: Hash, key: &[u8], now: i64) -> Option<Place> {
        self.find_or(db, hash, key, now, false)
    }

    /// The same for a command that does not write to it.
    #[inline]
    pub fn find_to_read(&mut self, db: usize, hash: Hash, key: &[u8], now: i64) -> Option<Place> {
        self.find_or(db, hash, key, now, self.keeps_expired)
    }

    #[inline]
    fn find_or(&mut self, db: usize, hash: Hash, key: &[u8], now: i64, keep: bool) -> Option<Place> {
        let table = &self.databases[db];
        let place = table.find(hash, key)?;
        let slot = table.at(place);
        if slot.has_ttl() && slot.entry().deadline().is_some_and(|at| at <= now) {
            return self.expire(db, hash, key, place, now, keep);
        }
        Some(place)
    }

    /// Removes what has expired of a key, all of it or fields of its hash, unless it is to be kept. The place, if it may
    /// be seen.
    #[cold]
    fn expire(&mut self, db: usize, hash: Hash, key: &[u8], place: Place, now: i64, keep: bool) -> Option<Place> {
        if keep {
            return Some(place).filter(|place| self.entry(db, *place).expire_at().is_none_or(|at| at > now));
        }
        if self.entry(db, place).expire_at().is_none_or(|at| at > now) {
            let removed = self.databases[db].change(place, |slot| slot.remove_expired(now, FIELDS_AT_ONCE));
            if removed > 0 {
                self.change(db, hash, key, Event::HEXPIRED);
            }
            if self.object(db, place).is_some_and(ObjectRef::is_empty) {
                self.remove(db, hash, key, place, Event::DEL, Cause::Expired);
                return None;
            }
            return Some(place);
        }
        let slot = self.databases[db].remove(place);
        self.garbage.push(slot, Cause::Expired);
        self.change(db, hash, key, Event::EXPIRED);
        self.counts.expired += 1;
        None
    }

    /// The entry at a place that [`Shard::find`] gave.
    #[inline]
    pub fn entry(&self, db: usize, place: Place) -> Entry<'_> {
        self.databases[db].at(place).entry()
    }

    /// The collection at a place that [`Shard::find`] gave.
    #[inline]
    pub fn object(&self, db: usize, place: Place) -> Option<ObjectRef<'_>> {
        if let Value::Object(object) = self.entry(db, place).value() { Some(object) } else { None }
    }

    /// Finds a key for a reading command: counts the hit or miss and notes the access.
    #[inline]
    pub fn read_place(&mut self, db: usize, hash: Hash, key: &[u8], now: i64, access: Access) -> Option<Place> {
        let Some(place) = self.find_to_read(db, hash, key, now) else {
            self.counts.misses += 1;
            if self.attentive {
                self.note(db, key, Event::MISS);
            }
            return None;
        };
        self.counts.hits += 1;
        self.touch(db, place, access);
        Some(place)
    }

    /// The same, and gives the entry.
    #[inline]
    pub fn read(&mut self, db: usize, hash: Hash, key: &[u8], now: i64, access: Access) -> Option<Entry<'_>> {
        let place = self.read_place(db, hash, key, now, access)?;
        Some(self.entry(db, place))
    }

    /// Sets the access bits of a key that was found.
    pub fn set_access(&mut self, db: usize, place: Place, access: u32) {
        self.databases[db].set_access(place, access);
    }

    /// Notes an access.
    #[inline]
    pub fn touch(&mut self, db: usize, place: Place, access: Access) {
        let table = &mut self.databases[db];
        let before = table.at(place).entry().access();
        let after = access.next(before);
        // A cache line that does not change need not be written back.
        if after != before {
            table.set_access(place, after);
        }
    }

    /// Stores a value, whether or not the key is there.
    #[expect(clippy::too_many_arguments)]
    #[inline]
    pub fn set(
        &mut self,
        db: usize,
        hash: Hash,
        key: &[u8],
        value: NewValue<'_>,
        ttl: Ttl,
        now: i64,
        access: Access,
        event: Event,
    ) {
        match self.find(db, hash, key, now) {
            Some(place) => {
                if self.attentive {
                    self.note_overwritten(db, key, self.entry(db, place).value().type_name(), type_name(&value));
                }
                self.replace(db, hash, key, place, value, ttl, access, event);
            }
            None => {
                let expire_at = if let Ttl::At(at) = ttl { Some(at) } else { None };
                self.add(db, hash, key, value, expire_at, access, event);
            }
        }
    }

    /// Replaces the value of a key that was found.
    #[expect(clippy::too_many_arguments)]
    #[inline]
    pub fn replace(
        &mut self,
        db: usize,
        hash: Hash,
        key: &[u8],
        place: Place,
        value: NewValue<'_>,
        ttl: Ttl,
        access: Access,
        event: Event,
    ) {
        let entry = self.entry(db, place);
        let expire_at = match ttl {
            Ttl::None => None,
            Ttl::At(at) => Some(at),
            Ttl::Keep => entry.expire_at(),
        };
        if let Value::Object(object) = entry.value()
            && object.burden() > 1
        {
            // Not dropped here, under the lock.
            if let Some(object) = self.databases[db].take_object(place) {
                self.garbage.push(Slot::new(0, b"", NewValue::Object(object), None, 0), Cause::Replaced);
            }
        }
        self.touch(db, place, access);
        self.databases[db].store(place, value, expire_at);
        self.change(db, hash, key, event);
        if let Ttl::At(_) = ttl
            && self.attentive
            && event != Event::LOADED
        {
            self.note(db, key, Event::EXPIRE);
        }
    }

    /// The bytes of a small string of a key that was found, to be changed in place; None if it was never written to in
    /// place before, or is shorter than `len`.
    #[expect(clippy::too_many_arguments)]
    pub fn edit_raw(
        &mut self,
        db: usize,
        hash: Hash,
        key: &[u8],
        place: Place,
        access: Access,
        event: Event,
        len: usize,
    ) -> Option<&mut [u8]> {
        if self.databases[db].raw_mut(place)?.len() < len {
            return None;
        }
        self.touch(db, place, access);
        self.change(db, hash, key, event);
        self.databases[db].raw_mut(place)
    }

    /// Adds a key that is not there.
    #[expect(clippy::too_many_arguments)]
    pub fn add(
        &mut self,
        db: usize,
        hash: Hash,
        key: &[u8],
        value: NewValue<'_>,
        expire_at: Option<i64>,
        access: Access,
        event: Event,
    ) {
        let mut bits = access.first();
        if let Some(evictor) = &mut self.evictor
            && evictor.returns(hash)
        {
            bits = access.proven(bits);
        }
        let hasher = &self.hasher;
        self.databases[db].insert(hash, key, value, expire_at, bits, |key| hash_key(hasher, key));
        if self.attentive {
            self.note(db, key, Event::NEW);
        }
        self.change(db, hash, key, event);
        if expire_at.is_some() && self.attentive && event != Event::LOADED {
            self.note(db, key, Event::EXPIRE);
        }
    }

    /// Changes the collection of a key that was found. If `f` leaves it empty, the key goes.
    pub fn edit<T: Collection, R>(
        &mut self,
        db: usize,
        hash: Hash,
        key: &[u8],
        place: Place,
        access: Access,
        f: impl FnOnce(&mut T, &mut Edit) -> R,
    ) -> Result<R, WrongType> {
        self.touch(db, place, access);
        let mut edit = Edit::default();
        let (result, is_over) = self.databases[db].change(place, |slot| {
            let collection = slot.object_mut().and_then(T::of_mut).ok_or(WrongType)?;
            let result = f(collection, &mut edit);
            let (is_over, deadline) = (collection.is_over(), collection.deadline());
            slot.set_deadline(deadline);
            Ok((result, is_over))
        })?;
        for object in edit.taken.drain(..) {
            self.garbage.push(Slot::new(0, b"", NewValue::Object(object), None, 0), Cause::Unlinked);
        }
        for event in edit.events() {
            self.change(db, hash, key, *event);
        }
        if self.attentive
            && let Some(event) = edit.told
        {
            self.note(db, key, event);
        }
        if edit.wakes && self.interests.wake(db, hash, key, next_order()) {
            stir();
        }
        if is_over && !edit.events().is_empty() {
            self.remove(db, hash, key, place, Event::DEL, Cause::Replaced);
        }
        Ok(result)
    }

    /// Takes a large string out of the entry at `place`, to be put back changed with [`Shard::replace`].
    pub fn take_shared(&mut self, db: usize, place: Place) -> Option<bytes::Bytes> {
        self.databases[db].take_shared(place)
    }

    /// Sets or removes the TTL of a key that was found.
    pub fn set_expire(&mut self, db: usize, hash: Hash, key: &[u8], place: Place, expire_at: Option<i64>) {
        self.databases[db].set_expire(place, expire_at);
        let event = if expire_at.is_some() { Event::EXPIRE } else { Event::PERSIST };
        self.change(db, hash, key, event);
    }

    /// Moves the TTL of a key whose value is what was loaded anew: no change that anybody need know of.
    pub(super) fn renew(&mut self, db: usize, place: Place, expire_at: i64) {
        self.databases[db].set_expire(place, Some(expire_at));
    }

    /// Removes a key that was found.
    pub fn remove(&mut self, db: usize, hash: Hash, key: &[u8], place: Place, event: Event, cause: Cause) {
        let slot = self.databases[db].remove(place);
        self.garbage.push(slot, cause);
        self.change(db, hash, key, event);
    }

    /// Removes a key, of which only the place is known, to make room.
    pub(super) fn evict_at(&mut self, db: usize, hash: Hash, place: Place) {
        self.counts.evicted += 1;
        let slot = self.databases[db].remove(place);
        self.change(db, hash, slot.entry().key(), Event::EVICTED);
        self.garbage.push(slot, Cause::Evicted);
    }

    /// The hash of a key, and the number of its shard; None if there are not so many shards.
    pub(super) fn locate(&self, key: &[u8], shards: usize) -> Option<(Hash, usize)> {
        let hash = hash_key(&self.hasher, key);
        (shards == 1 << self.shard_bits).then(|| (hash, (hash >> (64 - self.shard_bits)) as usize))
    }

    pub(super) fn hasher(&self) -> &SeedableRandomState {
        &self.hasher
    }

    /// Takes out a key that was found, to put it elsewhere.
    pub fn take(&mut self, db: usize, hash: Hash, key: &[u8], place: Place, event: Event) -> Slot {
        self.change(db, hash, key, event);
        self.databases[db].remove(place)
    }

    /// Adds an entry, taken out elsewhere, whose key is not there.
    pub fn put(&mut self, db: usize, hash: Hash, key: &[u8], slot: Slot, event: Event) {
        let hasher = &self.hasher;
        self.databases[db].insert_slot(hash, slot, |slot| hash_key(hasher, slot.entry().key()));
        self.change(db, hash, key, event);
        if self.attentive {
            self.note(db, key, Event::NEW);
        }
    }

    /// Databases.
    pub fn databases(&self) -> usize {
        self.databases.len()
    }

    /// Empties a database, or all of them; returns what was in there, to be dropped elsewhere.
    pub fn flush(&mut self, db: Option<usize>) -> Vec<Table> {
        self.touch_all(|other| db.is_none_or(|db| db == other), |other| [other, other]);
        let shard_bits = self.shard_bits;
        let chosen = match db {
            Some(db) => &mut self.databases[db..=db],
            None => &mut self.databases[..],
        };
        let taken: Vec<Table> =
            chosen.iter_mut().map(|table| std::mem::replace(table, Table::new(shard_bits))).collect();
        self.counts.dirty += taken.iter().map(|table| table.len() as u64).sum::<u64>();
        self.leases.void_all(db);
        taken
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.touch_all(|db| db == a || db == b, |_| [a, b]);
        self.databases.swap(a, b);
        self.leases.swap(a, b);
    }

    /// Keys of some databases change. Those that are in one of `found_in`'s databases count as changed to who watches them.
    fn touch_all(&mut self, of: impl Fn(usize) -> bool, found_in: impl Fn(usize) -> [usize; 2]) {
        let databases = &self.databases;
        let has = |db, hash, key: &[u8]| found_in(db).iter().any(|&db| databases[db].find(hash, key).is_some());
        if !self.interests.is_empty() && self.interests.touch_all(of, has, next_order) {
            stir();
        }
    }

    /// Removes what has expired of the keys of one segment, at most `limit` of them; see [`Table::expire_segment`].
    pub fn expire_segment(&mut self, db: usize, segment: usize, now: i64, limit: usize) -> usize {
        let attentive = self.attentive;
        let (mut gone, mut partly) = (Vec::new(), Vec::<Box<[u8]>>::new());
        let remove_fields = |slot: &mut Slot| {
            let removed = slot.remove_expired(now, FIELDS_AT_ONCE);
            if attentive && removed > 0 {
                partly.push(slot.entry().key().into());
            }
            matches!(slot.entry().value(), Value::Object(object) if object.is_empty())
        };
        let done = self.databases[db].expire_segment(segment, now, limit, remove_fields, |slot| gone.push(slot));
        self.counts.dirty += done as u64;
        let is_expired = |slot: &Slot| slot.entry().expire_at().is_some_and(|at| at <= now);
        let expired = gone.iter().filter(|slot| is_expired(slot)).count() as u64;
        self.counts.expired += expired;
        self.counts.expired_actively += expired;
        if attentive {
            for key in &partly {
                self.attend(db, hash_key(&self.hasher, key), key, Event::HEXPIRED);
            }
            for slot in &gone {
                let (key, event) = (slot.entry().key(), if is_expired(slot) { Event::EXPIRED } else { Event::DEL });
                self.attend(db, hash_key(&self.hasher, key), key, event);
            }
        }
        gone.into_iter().for_each(|slot| self.garbage.push(slot, Cause::Expired));
        done
    }
}

/// Fields of one hash that are removed at once when they have expired; more stay, unseen. About 20 µs.
const FIELDS_AT_ONCE: usize = 256;

thread_local! {
    /// The number of the next note, or key that is ready.
    static ORDER: Cell<u64> = const { Cell::new(0) };
    /// There is news, or a key is ready, in some shard that this thread has changed.
    static STIRRED: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn next_order() -> u64 {
    ORDER.replace(ORDER.get() + 1)
}

#[inline]
pub(super) fn stir() {
    STIRRED.set(true);
}

/// True if this thread has left news or ready keys in a shard since the last call: the one look that a command costs
/// where nobody listens.
#[inline]
pub fn take_stirred() -> bool {
    STIRRED.get() && STIRRED.replace(false)
}

fn type_name(value: &NewValue<'_>) -> &'static str {
    if let NewValue::Object(object) = value { object.by_ref().type_name() } else { "string" }
}

/// The hash of a key under this process's seed.
#[inline]
pub(super) fn hash_key(hasher: &SeedableRandomState, key: &[u8]) -> Hash {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}
