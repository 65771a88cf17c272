//! The loads of a shard's keys: joining one, storing what it brought if nothing speaks against it, and taking away
//! what changed at its source. It must not know who loads, or from where.

use super::access::Access;
use super::change::Event;
use super::lazyfree::Cause;
use super::lease::{ABSENT_BYTES_MAX, Flight, LoadedKey, Standing};
use super::shard::{Shard, Ttl};
use super::table::Hash;
use super::value::{NewValue, Text, Value};
use crate::freshness::{Snapshot, Terms};
use crate::types::Place;
use std::sync::Arc;

/// A load that ends.
#[derive(Clone, Copy, Debug)]
pub struct Landing<'a> {
    /// The load.
    pub flight: &'a Arc<Flight>,
    /// The key's database.
    pub db: usize,
    /// The key's hash.
    pub hash: Hash,
    /// The key.
    pub key: &'a [u8],
    /// What its route lays down.
    pub terms: &'a Arc<Terms>,
    /// What it saw.
    pub snapshot: Option<&'a Snapshot>,
    /// How long it took.
    pub took_ms: u32,
    /// Whether anything may speak against storing it: always, but in a test that shows what happens otherwise.
    pub is_fenced: bool,
}

/// What became of what a load brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// It is stored.
    Stored,
    /// The key has changed since the load's start.
    Voided,
    /// A change was announced that the load did not see.
    Fenced,
}

impl Shard {
    /// The load of a key that is under way, or a new one, which the caller must start (true) and which ends by `until`.
    pub fn join_flight(
        &mut self,
        key: (usize, Hash, &[u8]),
        terms: &Arc<Terms>,
        now: i64,
        until: i64,
    ) -> (Arc<Flight>, bool) {
        let joined = self.leases.join(key, terms, now, until);
        self.look_around();
        joined
    }

    /// A load ends without a value to store.
    pub fn end_flight(&mut self, hash: Hash, flight: &Arc<Flight>) {
        self.leases.end(hash, flight);
    }

    /// A load of a key failed. What is there of it is left alone for a while, which `random` spreads.
    pub fn fail_load(&mut self, db: usize, hash: Hash, flight: &Arc<Flight>, now: i64, random: u64) {
        if self.leases.end(hash, flight).is_some() {
            self.leases.set_failed(db, hash, now, random);
        }
    }

    /// The epoch in which a load began that may be stored.
    fn land(&mut self, landing: &Landing<'_>) -> Result<u32, Landed> {
        let held = self.leases.end(landing.hash, landing.flight);
        if !landing.is_fenced {
            return Ok(landing.terms.epoch());
        }
        let epoch = held.and_then(|held| held.current_epoch()).ok_or(Landed::Voided)?;
        let is_admitted = self.leases.admits(landing.hash, landing.terms, landing.snapshot);
        if is_admitted { Ok(epoch) } else { Err(Landed::Fenced) }
    }

    /// A load ends: stores what it found, unless the key has changed since its start, or a change was announced that
    /// it did not see. A key that is there still, because it was loaded ahead of its end, gets the new value.
    pub fn store_loaded(&mut self, landing: &Landing<'_>, value: NewValue<'_>, now: i64, access: Access) -> Landed {
        let Landing { db, hash, key, terms, .. } = *landing;
        let epoch = match self.land(landing) {
            Ok(epoch) => epoch,
            Err(landed) => return landed,
        };
        let expire_at = now.saturating_add(terms.fresh_ms(hash)).saturating_add(terms.stale_ms());
        match self.find(db, hash, key, now) {
            // Nobody who watches the key need know.
            Some(place) if self.holds(db, place, &value) => self.renew(db, place, expire_at),
            Some(place) => self.replace(db, hash, key, place, value, Ttl::At(expire_at), access, Event::LOADED),
            None => self.add(db, hash, key, value, Some(expire_at), access, Event::LOADED),
        }
        self.leases.set_loaded(db, hash, (terms, epoch), now, landing.took_ms);
        self.look_around();
        Landed::Stored
    }

    /// True if what is at `place` is the same as `value`.
    fn holds(&self, db: usize, place: Place, value: &NewValue<'_>) -> bool {
        let text = match self.entry(db, place).value() {
            Value::Text(text) => text,
            Value::Object(object) => return matches!(value, NewValue::Object(new) if object.is_same(new.by_ref())),
        };
        match (text, value) {
            (Text::Int(a), NewValue::Int(b)) => a == *b,
            (Text::Inline(a, _), NewValue::Bytes(b) | NewValue::Raw(b)) => a == *b,
            (Text::Shared(a), NewValue::Shared(b)) => a == b,
            (Text::Compressed(a), NewValue::Compressed(b)) => *a == **b,
            _ => false,
        }
    }

    /// A load ends: the key is nowhere, and need not be looked for again for its terms' `negative_ttl`.
    pub fn store_absent(&mut self, landing: &Landing<'_>, now: i64) -> Landed {
        let Landing { db, hash, key, terms, .. } = *landing;
        let epoch = match self.land(landing) {
            Ok(epoch) => epoch,
            Err(landed) => return landed,
        };
        if let Some(place) = self.find(db, hash, key, now) {
            // It was loaded ahead of its end, or is stale: its row is gone.
            self.remove(db, hash, key, place, Event::DEL, Cause::Expired);
        }
        let until = now.saturating_add(terms.negative_ttl.as_millis() as i64);
        if until > now {
            let bytes_max = ABSENT_BYTES_MAX >> self.shard_bits;
            self.leases.set_absent((db, hash, key), (terms, epoch), until, now, bytes_max);
        }
        self.look_around();
        Landed::Stored
    }

    /// True if the key is known to be nowhere.
    pub fn is_absent(&self, db: usize, hash: Hash, key: &[u8], now: i64) -> bool {
        self.leases.is_absent(db, hash, key, now)
    }

    /// A command took a key away that is not there: what is being loaded for it is not to bring it back, and what is
    /// known of its absence may be old.
    #[inline]
    pub fn forget_load(&mut self, db: usize, hash: Hash) {
        if !self.leases.is_empty() {
            self.leases.void(db, hash, false);
        }
    }

    /// A key's rows have changed at their source, in transaction `xid` if loads may not see that yet. True if there was
    /// something to remove.
    pub fn invalidate(
        &mut self,
        (db, hash, key): (usize, Hash, &[u8]),
        terms: &Arc<Terms>,
        xid: Option<u32>,
        now: i64,
    ) -> bool {
        if let Some(xid) = xid {
            self.leases.set_post(hash, xid, terms);
        }
        self.leases.note_invalidated(hash, now);
        let was_there = self.void((db, hash, key), now);
        self.look_around();
        was_there
    }

    /// A key is void: it goes, or what is known and being loaded of it does. True if it was there.
    pub fn void(&mut self, (db, hash, key): (usize, Hash, &[u8]), now: i64) -> bool {
        let place = self.find(db, hash, key, now);
        match place {
            Some(place) => self.remove(db, hash, key, place, Event::DEL, Cause::Expired),
            None => {
                self.forget_load(db, hash);
                // Who was told that it is nowhere, or got what was not kept, may have kept that.
                self.lapse(hash, key, true);
            }
        }
        place.is_some()
    }

    /// An epoch has moved on: hits look at their keys' records again.
    pub fn recheck(&mut self) {
        self.leases.recheck();
    }

    /// True if some key may be anything but fresh: the one look that a hit costs.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        self.leases.is_due(now)
    }

    /// How a key that is there may be served.
    #[cold]
    pub fn standing(&mut self, db: usize, hash: Hash, now: i64) -> Standing {
        self.leases.standing(db, hash, now)
    }

    /// Makes what is known of a key void: the next read loads it. What a command wrote stays as it is.
    pub fn make_stale(&mut self, (db, hash, key): (usize, Hash, &[u8])) {
        self.leases.make_stale(db, hash);
        self.lapse(hash, key, true);
    }

    /// True if a key is being loaded.
    pub fn is_loading(&self, db: usize, hash: Hash, key: &[u8]) -> bool {
        self.leases.is_loading(db, hash, key)
    }

    /// What is known of a key that was loaded; None if it was not.
    pub fn loaded(&mut self, db: usize, hash: Hash, now: i64) -> Option<LoadedKey> {
        self.leases.loaded(db, hash, now)
    }

    /// When a key was last invalidated, if it is one of the last few.
    pub fn invalidated_at(&self, hash: Hash) -> Option<i64> {
        self.leases.invalidated_at(hash)
    }

    /// Keys with a lease on a load, and keys that are known to be nowhere at `now`.
    pub fn lease_counts(&self, now: i64) -> (usize, usize) {
        self.leases.counts(now)
    }
}
