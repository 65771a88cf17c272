//! What a command may reach while the shards of its keys are locked: its own keys, by their position among the
//! command's keys. It must not know locks, commands or replies.

use super::access::Access;
use super::change::{Edit, Event};
use super::entry::Entry;
use super::lazyfree::Cause;
use super::lease::{Found, Standing};
use super::shard::{Shard, Ttl};
use super::table::Hash;
use super::tracking::Tracker;
use super::value::{NewValue, Text, WrongType};
use crate::config::Limits;
use crate::types::{Collection, Place, tag_of};
use std::sync::Arc;

/// A key of the running command.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key.
    pub bytes: &'a [u8],
    /// Its hash.
    pub hash: Hash,
    /// Index of its shard among the view's shards.
    pub shard: usize,
}

/// The time by which it is judged what has expired: for who imports keys, nothing ever has.
#[inline]
pub fn seen_at(now: i64, imports: bool) -> i64 {
    if imports { i64::MIN / 2 } else { now }
}

/// The keys of a command, in the database of its connection, with their shards locked.
pub struct View<'v, 's> {
    shards: &'v mut [&'s mut Shard],
    keys: &'v [Key<'v>],
    db: usize,
    now: i64,
    /// The time by which it is judged what has expired.
    seen_at: i64,
    access: Access,
    limits: &'v Limits,
    /// Keys that are not the command's may be read.
    may_reach: bool,
    missed: bool,
    /// A key was found that is to be loaded anew.
    due: bool,
    /// After a load: what it found, by key; None for those that it was not for. Empty before.
    loaded: &'v [Option<Found>],
}

impl<'v, 's> View<'v, 's> {
    /// A view of `keys` in database `db` at `now` (ms).
    #[inline]
    pub fn new(shards: &'v mut [&'s mut Shard], keys: &'v [Key<'v>], db: usize, now: i64, access: Access) -> Self {
        Self {
            shards,
            keys,
            db,
            now,
            seen_at: now,
            access,
            limits: &Limits::DEFAULT,
            may_reach: true,
            missed: false,
            due: false,
            loaded: &[],
        }
    }

    /// The same view with other limits than the defaults.
    #[inline]
    pub fn with_limits(mut self, limits: &'v Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same view, in which what had not expired at another time has not; see [`seen_at`].
    #[inline]
    pub fn with_seen_at(mut self, seen_at: i64) -> Self {
        self.seen_at = seen_at;
        self
    }

    /// The time by which it is judged what has expired, fields of hashes included: not always that of [`View::now`].
    pub fn seen_at(&self) -> i64 {
        self.seen_at
    }

    /// True if what expires then is not to be stored in the first place.
    pub fn is_over(&self, at: i64) -> bool {
        at <= self.now && !self.limits.import_mode
    }

    /// The same view for a user who may read keys that are not the command's, or may not.
    pub fn with_reach(mut self, may_reach: bool) -> Self {
        self.may_reach = may_reach;
        self
    }

    /// Whether [`View::read_other`] may be used.
    pub fn may_reach(&self) -> bool {
        self.may_reach
    }

    /// The same keys in another database.
    pub fn in_db(&mut self, db: usize) -> View<'_, 's> {
        View {
            shards: self.shards,
            keys: self.keys,
            db,
            now: self.now,
            seen_at: self.seen_at,
            access: self.access,
            may_reach: self.may_reach,
            missed: false,
            due: false,
            loaded: self.loaded,
            limits: self.limits,
        }
    }

    /// The command's keys.
    #[inline]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True for a command without keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The bytes of a key.
    #[inline]
    pub fn key(&self, key: usize) -> &'v [u8] {
        self.keys[key].bytes
    }

    /// The hash of a key.
    pub fn hash(&self, key: usize) -> Hash {
        self.keys[key].hash
    }

    /// The connection's database.
    pub fn db(&self) -> usize {
        self.db
    }

    /// The time of the command, in ms since the epoch.
    #[inline]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// How accesses are noted.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Databases; 0 for a command without keys.
    pub fn databases(&self) -> usize {
        self.shards.first().map_or(0, |shard| shard.databases())
    }

    /// The length that no command may let a string grow past, in bytes.
    pub fn max_string(&self) -> usize {
        self.limits.max_string
    }

    /// How values are kept.
    #[inline]
    pub fn limits(&self) -> &'v Limits {
        self.limits
    }

    /// The locked shards: all of them for a command that takes the whole keyspace.
    pub fn shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().map(|shard| &mut **shard)
    }

    /// Finds a key as a reading command does: counts a hit or miss, and the access.
    #[inline]
    fn read_place(&mut self, key: usize) -> Option<Place> {
        let Key { bytes, hash, shard: at } = self.keys[key];
        let shard = &mut self.shards[at];
        let place = if self.loaded.is_empty() {
            let place = shard.read_place(self.db, hash, bytes, self.seen_at, self.access);
            if place.is_some() && shard.is_due(self.now) { self.judge(key, place) } else { place }
        } else {
            // The miss that led to the load has been counted.
            let place = shard.find(self.db, hash, bytes, self.seen_at);
            if place.is_some() && shard.is_due(self.now) { self.judge_filled(key, place) } else { place }
        };
        self.missed |= place.is_none() && self.loaded(key).is_none();
        place
    }

    /// Whether a key that was found may be served: what is stale may be as good as absent.
    #[cold]
    fn judge(&mut self, key: usize, place: Option<Place>) -> Option<Place> {
        let Key { hash, shard, .. } = self.keys[key];
        let shard = &mut self.shards[shard];
        match shard.standing(self.db, hash, self.now) {
            Standing::Fresh | Standing::Paused => place,
            Standing::Due | Standing::Stale => {
                self.due = true;
                place
            }
            Standing::Fallback | Standing::Over => {
                shard.counts.hits -= 1;
                shard.counts.misses += 1;
                None
            }
        }
    }

    /// The same after a load. What it brought may not have been stored, because it had not seen a change that was
    /// announced: the stale value is still there then, and must not be the answer.
    #[cold]
    fn judge_filled(&mut self, key: usize, place: Option<Place>) -> Option<Place> {
        let Key { hash, shard, .. } = self.keys[key];
        match self.shards[shard].standing(self.db, hash, self.now) {
            Standing::Over => None,
            Standing::Fallback if self.loaded(key).is_some() => None,
            _ => place,
        }
    }

    /// Reads the string at a key as a reading command does: counts a hit or miss, and the access.
    #[inline]
    pub fn read(&mut self, key: usize) -> Result<Option<Text<'_>>, WrongType> {
        match self.read_place(key) {
            Some(place) => self.entry(key, place).value().text().map(Some),
            // What was loaded but could not be stored is still this command's answer.
            None => match self.loaded(key) {
                Some(Found::Text(text)) => Ok(Some(Text::Shared(text))),
                Some(Found::Object(_)) => Err(WrongType),
                _ => Ok(None),
            },
        }
    }

    /// Reads the collection at a key in the same way.
    #[inline]
    pub fn read_as<T: Collection>(&mut self, key: usize) -> Result<Option<&T>, WrongType> {
        match self.read_place(key) {
            Some(place) => self.collection_at(key, place).map(Some),
            None => match self.loaded(key) {
                Some(Found::Object(object)) => T::of(object.by_ref()).map(Some).ok_or(WrongType),
                Some(Found::Text(_)) => Err(WrongType),
                _ => Ok(None),
            },
        }
    }

    /// Looks for a key as a reading command does, whatever its type.
    pub fn read_any(&mut self, key: usize) -> bool {
        self.read_place(key).is_some()
    }

    /// The same for TOUCH, which leaves a trace even for a connection that leaves none.
    pub fn touch_any(&mut self, key: usize) -> bool {
        let access = self.access;
        self.access = access.touched();
        let found = self.read_any(key);
        self.access = access;
        found
    }

    /// The same view after a load: `loaded` has what was found for each key.
    pub fn with_loaded(mut self, loaded: &'v [Option<Found>]) -> Self {
        self.loaded = loaded;
        self
    }

    /// True after a load.
    pub fn is_filled(&self) -> bool {
        !self.loaded.is_empty()
    }

    /// What a load found for a key; None if there was no load of it, or it failed.
    pub fn loaded(&self, key: usize) -> Option<&'v Found> {
        self.loaded.get(key)?.as_ref()
    }

    /// True if a key was looked for by a load, and was not found.
    pub fn was_absent(&self, key: usize) -> bool {
        matches!(self.loaded(key), Some(Found::Nothing))
    }

    /// How a key may be served; None if it is not there.
    pub fn standing(&mut self, key: usize) -> Option<Standing> {
        self.find(key)?;
        let Key { hash, shard, .. } = self.keys[key];
        let shard = &mut self.shards[shard];
        Some(if shard.is_due(self.now) { shard.standing(self.db, hash, self.now) } else { Standing::Fresh })
    }

    /// Makes what is known of a key void: the next read loads it.
    pub fn make_stale(&mut self, key: usize) {
        let Key { bytes, hash, shard } = self.keys[key];
        self.shards[shard].make_stale((self.db, hash, bytes));
    }

    /// The keys were read for a connection that keeps copies of what it reads. What is stale, or was loaded and could
    /// not be kept, is void at once: no later change would tell of it. `is_listed`: it is told of changes of what it read.
    pub fn track(&mut self, tracker: &Arc<Tracker>, is_listed: bool) {
        for key in 0..self.keys.len() {
            let Key { bytes, hash, shard } = self.keys[key];
            let is_kept = match self.standing(key) {
                Some(standing) => matches!(standing, Standing::Fresh | Standing::Due),
                None => self.loaded(key).is_none() || self.is_absent(key),
            };
            match is_kept {
                true if is_listed => self.shards[shard].track(hash, bytes, tracker),
                true => {}
                false => self.shards[shard].disown(bytes, tracker),
            }
        }
    }

    /// True if a key is known to be nowhere.
    pub fn is_absent(&self, key: usize) -> bool {
        let Key { bytes, hash, shard } = self.keys[key];
        self.shards[shard].is_absent(self.db, hash, bytes, self.now)
    }

    /// The locked shard of a key.
    pub fn shard(&mut self, key: usize) -> &mut Shard {
        self.shards[self.keys[key].shard]
    }

    /// True if a key was not found, or is to be loaded anew.
    #[inline]
    pub fn wants(&self) -> bool {
        self.missed | self.due
    }

    /// True if [`View::read`] did not find a key.
    #[inline]
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// Looks at a key as TTL and TYPE do: counts a hit or miss, but no access.
    pub fn peek(&mut self, key: usize) -> Option<Entry<'_>> {
        let clock = self.access.untouched();
        let key = &self.keys[key];
        self.shards[key.shard].read(self.db, key.hash, key.bytes, self.seen_at, clock)
    }

    /// Reads a key that is not among the command's, as a reading command does. None without all shards, which the row of
    /// such a command asks for.
    pub fn read_other(&mut self, key: &[u8]) -> Option<Entry<'_>> {
        let (hash, shard) = self.shards.first()?.locate(key, self.shards.len())?;
        let shard = &mut self.shards[shard];
        let place = shard.read_place(self.db, hash, key, self.seen_at, self.access)?;
        let is_stale = shard.is_due(self.now)
            && matches!(shard.standing(self.db, hash, self.now), Standing::Fallback | Standing::Over);
        if is_stale { None } else { Some(shard.entry(self.db, place)) }
    }

    /// Finds a key to write to it; counts nothing.
    #[inline]
    pub fn find(&mut self, key: usize) -> Option<Place> {
        let key = &self.keys[key];
        self.shards[key.shard].find(self.db, key.hash, key.bytes, self.seen_at)
    }

    /// The entry of a key that [`View::find`] found.
    #[inline]
    pub fn entry(&self, key: usize, place: Place) -> Entry<'_> {
        self.shards[self.keys[key].shard].entry(self.db, place)
    }

    /// The string of a key that was found.
    #[inline]
    pub fn text_at(&self, key: usize, place: Place) -> Result<Text<'_>, WrongType> {
        self.entry(key, place).value().text()
    }

    /// The collection of a key that was found.
    pub fn collection_at<T: Collection>(&self, key: usize, place: Place) -> Result<&T, WrongType> {
        let object = self.shards[self.keys[key].shard].object(self.db, place);
        object.and_then(T::of).ok_or(WrongType)
    }

    /// Looks at the collection of a key for a command that may change it; counts nothing.
    pub fn collection<T: Collection>(&mut self, key: usize) -> Result<Option<&T>, WrongType> {
        match self.find(key) {
            Some(place) => self.collection_at(key, place).map(Some),
            None => Ok(None),
        }
    }

    /// Changes the collection of a key, if it is there. `f` says with [`Edit::changed`] what it changed; if it leaves
    /// the collection empty, the key goes.
    #[inline]
    pub fn edit<T: Collection, R>(
        &mut self,
        key: usize,
        f: impl FnOnce(&mut T, &mut Edit) -> R,
    ) -> Result<Option<R>, WrongType> {
        let Some(place) = self.find(key) else { return Ok(None) };
        let Key { bytes, hash, shard } = self.keys[key];
        self.shards[shard].edit(self.db, hash, bytes, place, self.access, f).map(Some)
    }

    /// The same for a command that makes the key if it is not there: then `f` gets an empty collection.
    #[inline]
    pub fn edit_or_new<T: Collection, R>(
        &mut self,
        key: usize,
        f: impl FnOnce(&mut T, &mut Edit) -> R,
    ) -> Result<R, WrongType> {
        let Key { bytes, hash, shard } = self.keys[key];
        if let Some(place) = self.find(key) {
            return self.shards[shard].edit(self.db, hash, bytes, place, self.access, f);
        }
        let (mut collection, mut edit) = (T::default(), Edit::default());
        let result = f(&mut collection, &mut edit);
        if let Some(event) = edit.events().first()
            && !collection.is_over()
        {
            let value = NewValue::Object(collection.into_object());
            let shard = &mut self.shards[shard];
            shard.add(self.db, hash, bytes, value, None, self.access, *event);
            edit.events()[1..].iter().for_each(|event| shard.note(self.db, bytes, *event));
        }
        Ok(result)
    }

    /// Tells those who listen of an event that changes nothing by itself.
    pub fn note(&mut self, key: usize, event: Event) {
        let key = &self.keys[key];
        self.shards[key.shard].note(self.db, key.bytes, event);
    }

    /// Sets the access bits of a key that was found.
    pub fn set_access(&mut self, key: usize, place: Place, access: u32) {
        self.shards[self.keys[key].shard].set_access(self.db, place, access);
    }

    /// Notes an access to a key that was found.
    pub fn touch(&mut self, key: usize, place: Place) {
        self.shards[self.keys[key].shard].touch(self.db, place, self.access);
    }

    /// Stores a value, whether or not the key is there; a long string compressed, where `compress-threshold` says so.
    #[inline]
    pub fn set(&mut self, key: usize, value: NewValue<'_>, ttl: Ttl, event: Event) {
        let value = value.compressed_from(self.limits.compress_threshold);
        let key = &self.keys[key];
        self.shards[key.shard].set(self.db, key.hash, key.bytes, value, ttl, self.seen_at, self.access, event);
    }

    /// Replaces the value of a key that was found. A string is kept as it is: who changes it may do so again.
    #[inline]
    pub fn replace(&mut self, key: usize, place: Place, value: NewValue<'_>, ttl: Ttl, event: Event) {
        let key = &self.keys[key];
        self.shards[key.shard].replace(self.db, key.hash, key.bytes, place, value, ttl, self.access, event);
    }

    /// Adds a key that was not found; a long string as [`View::set`] does.
    #[inline]
    pub fn add(&mut self, key: usize, value: NewValue<'_>, expire_at: Option<i64>, event: Event) {
        let value = value.compressed_from(self.limits.compress_threshold);
        let key = &self.keys[key];
        self.shards[key.shard].add(self.db, key.hash, key.bytes, value, expire_at, self.access, event);
    }

    /// The bytes of a small string of a key that was found, to be changed in place; None if it was never written to in
    /// place before, or is shorter than `len`. This tells of the change.
    pub fn edit_raw(&mut self, key: usize, place: Place, event: Event, len: usize) -> Option<&mut [u8]> {
        let key = &self.keys[key];
        self.shards[key.shard].edit_raw(self.db, key.hash, key.bytes, place, self.access, event, len)
    }

    /// Takes a large string out of a key that was found, to be put back changed with [`View::replace`].
    pub fn take_shared(&mut self, key: usize, place: Place) -> Option<bytes::Bytes> {
        self.shards[self.keys[key].shard].take_shared(self.db, place)
    }

    /// Sets or removes the TTL of a key that was found.
    pub fn set_expire(&mut self, key: usize, place: Place, expire_at: Option<i64>) {
        let key = &self.keys[key];
        self.shards[key.shard].set_expire(self.db, key.hash, key.bytes, place, expire_at);
    }

    /// Removes a key for which a command puts nothing in its place; true if it was there. One that is only being loaded
    /// is not kept when it comes.
    pub fn remove(&mut self, key: usize) -> bool {
        self.remove_for(key, Cause::Replaced)
    }

    /// The same for another cause.
    #[inline]
    pub fn remove_for(&mut self, key: usize, cause: Cause) -> bool {
        let key = &self.keys[key];
        let shard = &mut self.shards[key.shard];
        let Some(place) = shard.find(self.db, key.hash, key.bytes, self.seen_at) else {
            shard.forget_load(self.db, key.hash);
            return false;
        };
        shard.remove(self.db, key.hash, key.bytes, place, Event::DEL, cause);
        true
    }

    /// Gives the value of a key, which must be there, another key of the command, which is overwritten; the TTL
    /// goes along.
    pub fn rename(&mut self, from: usize, to: usize) {
        let displaced = self.displace(to);
        let (from, to) = (&self.keys[from], &self.keys[to]);
        let Some(place) = self.shards[from.shard].find(self.db, from.hash, from.bytes, self.seen_at) else { return };
        let slot = self.shards[from.shard].take(self.db, from.hash, from.bytes, place, Event::RENAME_FROM);
        let slot = slot.with_key(tag_of(to.hash), to.bytes);
        let after = slot.entry().value().type_name();
        self.shards[to.shard].put(self.db, to.hash, to.bytes, slot, Event::RENAME_TO);
        if let Some(before) = displaced {
            self.shards[to.shard].note_overwritten(self.db, to.bytes, before, after);
        }
    }

    /// Removes a key whose place another value takes; the type of what was there.
    pub fn displace(&mut self, key: usize) -> Option<&'static str> {
        let Key { bytes, hash, shard } = self.keys[key];
        let place = self.shards[shard].find(self.db, hash, bytes, self.seen_at)?;
        let before = self.shards[shard].entry(self.db, place).value().type_name();
        self.shards[shard].remove(self.db, hash, bytes, place, Event::QUIET, Cause::Replaced);
        Some(before)
    }

    /// Copies a key that was found, with its TTL, to another key of the command and a database in which that one is not;
    /// `displaced` was there before.
    pub fn copy(&mut self, from: usize, place: Place, to: usize, db: usize, displaced: Option<&str>) {
        let (from, to) = (&self.keys[from], &self.keys[to]);
        let source = self.shards[from.shard].table(self.db).at(place);
        let mut slot = source.copy_with_key(tag_of(to.hash), to.bytes);
        slot.set_access(self.access.first());
        let after = slot.entry().value().type_name();
        self.shards[to.shard].put(db, to.hash, to.bytes, slot, Event::COPY_TO);
        if let Some(before) = displaced {
            self.shards[to.shard].note_overwritten(db, to.bytes, before, after);
        }
    }

    /// Moves a key that was found to a database in which it is not.
    pub fn move_to(&mut self, key: usize, place: Place, db: usize) {
        let key = &self.keys[key];
        let shard = &mut self.shards[key.shard];
        let slot = shard.take(self.db, key.hash, key.bytes, place, Event::MOVE_FROM);
        shard.put(db, key.hash, key.bytes, slot, Event::MOVE_TO);
    }
}
