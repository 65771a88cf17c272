//! What a shard keeps its keys in: a [`types::Table`] of [`Slot`]s, and what keys have that no other entries have. It
//! must not know locks or time.

use super::entry::Slot;
use super::value::{NewValue, Value};
use crate::types::{self, Object, ObjectMut, tag_of};

/// The hash of a key; computed once per command and handed down.
pub type Hash = u64;

/// A hash table from keys to entries.
pub type Table = types::Table<Slot>;

impl types::Slot for Slot {
    #[inline]
    fn is_vacant(&self) -> bool {
        self.is_vacant()
    }

    #[inline]
    fn tag(&self) -> u16 {
        self.tag()
    }

    #[inline]
    fn has_tag(&self, tag: u16) -> bool {
        self.has_tag(tag)
    }

    #[inline]
    fn is_of(&self, key: &[u8]) -> bool {
        self.entry().key() == key
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch();
    }

    #[inline]
    fn prefetch_value(&self) -> bool {
        self.prefetch_object()
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.has_ttl()
    }

    fn deadline(&self) -> Option<i64> {
        self.entry().deadline()
    }

    fn expire_at(&self) -> Option<i64> {
        self.entry().expire_at()
    }
}

impl Table {
    /// Notes an access to the entry at `place`.
    #[inline]
    pub fn set_access(&mut self, place: types::Place, access: u32) {
        self.at_mut(place).set_access(access);
    }

    /// Takes a large string out of its entry, to be put back changed with [`Table::store`].
    pub fn take_shared(&mut self, place: types::Place) -> Option<bytes::Bytes> {
        self.at_mut(place).take_shared()
    }

    /// The bytes of a small string that was written to in place before; see [`Slot::raw_mut`].
    pub fn raw_mut(&mut self, place: types::Place) -> Option<&mut [u8]> {
        self.at_mut(place).raw_mut()
    }

    /// First of two hints that an element of a key's collection is about to be looked up; the element's hash, where the
    /// collection is large.
    #[inline]
    pub fn prefetch_place(&self, hash: Hash, element: &[u8]) -> Option<u64> {
        let mut found = None;
        self.at_home(hash, |slot| {
            if let Value::Object(object) = slot.entry().value() {
                found = object.prefetch_place(element);
            }
        });
        found
    }

    /// Second hint.
    #[inline]
    pub fn prefetch_element(&self, hash: Hash, element: u64) {
        self.at_home(hash, |slot| {
            if let Value::Object(object) = slot.entry().value() {
                object.prefetch_element(element);
            }
        });
    }

    /// The collection at `place`, to be changed.
    #[inline]
    pub fn object_mut(&mut self, place: types::Place) -> Option<ObjectMut<'_>> {
        self.at_mut(place).object_mut()
    }

    /// Takes the collection at `place` out; the entry holds an empty one instead, to be replaced with [`Table::store`].
    pub fn take_object(&mut self, place: types::Place) -> Option<Object> {
        self.at_mut(place).take_object()
    }

    /// Replaces value and TTL of the entry at `place`.
    #[inline]
    pub fn store(&mut self, place: types::Place, value: NewValue<'_>, expire_at: Option<i64>) {
        self.change(place, |slot| slot.store(value, expire_at));
    }

    /// Sets or removes the TTL of the entry at `place`.
    pub fn set_expire(&mut self, place: types::Place, expire_at: Option<i64>) {
        self.change(place, |slot| slot.set_expire(expire_at));
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
        let slot = Slot::new(tag_of(hash), key, value, expire_at, access);
        self.insert_slot(hash, slot, |slot| rehash(slot.entry().key()));
    }
}
