//! One key with its value in one allocation, behind a tagged pointer of 8 bytes. The unsafe code of the
//! keyspace lives here. It must not know tables, locks or time.
//!
//! Layout of the allocation, packed, little-endian:
//!
//! ```text
//! flags 1 | access 3 | expire 0 or 8 | key length 1 or 4 | value length 0, 1 or 4 | key | payload
//! ```
//!
//! The payload is the string's bytes, an `i64`, a pointer to a boxed [`Bytes`] (strings of 16 KiB or more,
//! which replies take by reference), or the 8 bytes of a collection, 8-aligned, its type in the flags. So a 16-byte key
//! with a 32-byte value takes 54 bytes, one allocation in the allocator's class of 56; with a TTL 62, in the class of
//! 64; and a 16-byte key with a collection 32 bytes besides the collection's own.
//!
//! A [`Slot`] is the pointer with the 16 hash bits that tell entries of a bucket apart in the upper bits (user
//! space addresses have 47 or 48) and, in bit 0, whether the entry or a field of its hash has a TTL, so that a sweep for
//! what has expired touches no entry without one.
#![allow(unsafe_code)]

use super::value::{NewValue, Text, Value};
use crate::alloc::class_size;
use crate::types::{FULL, Hash, List, Object, ObjectMut, ObjectRef, Set, Stream, Zset, prefetch};
use bytes::Bytes;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::{NonNull, with_exposed_provenance_mut};

const KIND: u8 = 0b11;
const KIND_INLINE: u8 = 0;
const KIND_INT: u8 = 1;
const KIND_SHARED: u8 = 2;
const KIND_OBJECT: u8 = 3;
const HAS_EXPIRE: u8 = 4;
const RAW: u8 = 8;
const LONG_KEY: u8 = 16;
const LONG_VALUE: u8 = 32;
/// Of an inline string: it is compressed.
const COMPRESSED: u8 = 64;
/// The upper bits of the flags of a collection: its type.
const TYPE_SHIFT: u8 = 5;
const TYPE_HASH: u8 = 0;
const TYPE_LIST: u8 = 1;
const TYPE_SET: u8 = 2;
const TYPE_ZSET: u8 = 3;
const TYPE_STREAM: u8 = 4;

const ALIGN: usize = 8;
const TAG_SHIFT: u32 = 48;
const POINTER: u64 = (1 << TAG_SHIFT) - 8;
const TTL_BIT: u64 = 1;
/// Cache lines of a collection that are fetched ahead; the processor sees by itself that more are wanted.
const OBJECT_LINES: usize = 6;
/// In the expire field: no TTL.
const NO_EXPIRE: i64 = 0;

/// The owning 8-byte pointer to an entry, or nothing.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(u64);

impl Default for Slot {
    fn default() -> Self {
        Self::VACANT
    }
}

/// Where the parts of an entry lie.
struct Parts {
    flags: u8,
    key: usize,
    key_len: usize,
    payload: usize,
    payload_len: usize,
}

impl Slot {
    /// No entry.
    pub const VACANT: Self = Self(0);

    /// An entry of `key` with `value`. `expire_at` is in milliseconds since the epoch and positive.
    pub fn new(tag: u16, key: &[u8], value: NewValue<'_>, expire_at: Option<i64>, access: u32) -> Self {
        assert!(key.len() < 1 << 32, "keys are shorter than 4 GiB");
        let (kind, payload_len) = match &value {
            NewValue::Bytes(bytes) => (KIND_INLINE, bytes.len()),
            NewValue::Raw(bytes) => (KIND_INLINE | RAW, bytes.len()),
            NewValue::Compressed(packed) => (KIND_INLINE | COMPRESSED, packed.len()),
            NewValue::Int(_) => (KIND_INT, 8),
            NewValue::Shared(_) => (KIND_SHARED, 8),
            NewValue::Object(object) => (KIND_OBJECT | type_of(object) << TYPE_SHIFT, 8),
        };
        assert!(payload_len < 1 << 32, "inline values are shorter than 4 GiB");
        let mut flags = kind;
        if expire_at.is_some() {
            flags |= HAS_EXPIRE;
        }
        if key.len() > 255 {
            flags |= LONG_KEY;
        }
        if kind & KIND == KIND_INLINE && payload_len > 255 {
            flags |= LONG_VALUE;
        }
        let key_at = key_offset(flags);
        let payload_at = payload_offset(kind, key_at + key.len());
        let total = payload_at + payload_len;
        let layout = entry_layout(total);
        // SAFETY: the layout is not empty: the header alone has 5 bytes.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let base = base.as_ptr();
        // SAFETY: all writes lie within the `total` bytes just allocated: the header up to `key_at`, then the
        // key, then the payload; the sources do not overlap a fresh allocation.
        unsafe {
            base.write(flags);
            write_access(base, access);
            let mut at = 4;
            if let Some(expire_at) = expire_at {
                base.add(at).cast::<i64>().write_unaligned(expire_at);
                at += 8;
            }
            at = write_len(base, at, key.len(), flags & LONG_KEY != 0);
            if kind & KIND == KIND_INLINE {
                at = write_len(base, at, payload_len, flags & LONG_VALUE != 0);
            }
            debug_assert_eq!(at, key_at);
            base.add(key_at).copy_from_nonoverlapping(key.as_ptr(), key.len());
            write_payload(base.add(payload_at), value);
        }
        let address = base.expose_provenance() as u64;
        assert_eq!(address & !POINTER, 0, "an address of 48 bits, 8-aligned");
        let mut slot = Self(address | u64::from(tag) << TAG_SHIFT);
        slot.set_timed(expire_at.is_some() || kind & KIND == KIND_OBJECT && slot.entry().deadline().is_some());
        slot
    }

    /// True without an entry.
    #[inline]
    pub fn is_vacant(&self) -> bool {
        self.0 == 0
    }

    /// True with an entry whose tag is `tag`.
    #[inline]
    pub fn has_tag(&self, tag: u16) -> bool {
        // A vacant slot has tag 0 too; its pointer is null.
        (self.0 >> TAG_SHIFT) as u16 == tag && self.0 != 0
    }

    /// The tag; 0 without an entry.
    #[inline]
    pub fn tag(&self) -> u16 {
        (self.0 >> TAG_SHIFT) as u16
    }

    /// True if the entry has a TTL, or a part of its value has.
    #[inline]
    pub fn has_ttl(&self) -> bool {
        self.0 & TTL_BIT != 0
    }

    /// Asks the processor to fetch the entry's first cache line.
    #[inline]
    pub fn prefetch(&self) {
        prefetch((self.0 & POINTER) as *const u8);
    }

    /// Asks the processor to fetch the first cache lines of a collection's allocation; true if the collection is large.
    #[inline]
    pub fn prefetch_object(&self) -> bool {
        let parts = self.entry().parts();
        if parts.flags & KIND == KIND_OBJECT {
            // SAFETY: the payload of this kind is 8 bytes, 8-aligned, of which every collection makes a pointer. It is
            // only read as a number, and a prefetch may name any address.
            let address = unsafe { self.base().add(parts.payload).cast::<u64>().read() } as usize;
            (0..OBJECT_LINES).for_each(|line| prefetch((address + 64 * line) as *const u8));
            return address & FULL != 0;
        }
        false
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        with_exposed_provenance_mut((self.0 & POINTER) as usize)
    }

    /// The entry.
    ///
    /// # Panics
    /// Without one.
    #[inline]
    pub fn entry(&self) -> Entry<'_> {
        assert!(!self.is_vacant());
        Entry { base: self.base(), owner: PhantomData }
    }

    /// Replaces the value and the TTL; the key stays. Reuses the allocation where the sizes allow it.
    pub fn store(&mut self, value: NewValue<'_>, expire_at: Option<i64>) {
        let parts = self.entry().parts();
        if let (NewValue::Bytes(bytes), KIND_INLINE) = (&value, parts.flags & (KIND | RAW | COMPRESSED))
            && bytes.len() == parts.payload_len
            && (expire_at.is_none() || parts.flags & HAS_EXPIRE != 0)
        {
            // SAFETY: the payload has exactly this length, and `&mut self` makes this the only access. `bytes`
            // cannot alias the entry, which nobody else borrows now.
            unsafe { self.base().add(parts.payload).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            self.write_expire(expire_at);
            return;
        }
        if let (NewValue::Int(number), KIND_INT) = (&value, parts.flags & KIND)
            && (expire_at.is_none() || parts.flags & HAS_EXPIRE != 0)
        {
            // SAFETY: an integer's payload is 8 bytes, accessed by nobody else.
            unsafe { self.base().add(parts.payload).cast::<i64>().write_unaligned(*number) };
            self.write_expire(expire_at);
            return;
        }
        let entry = self.entry();
        let new = Self::new(self.tag(), entry.key(), value, expire_at, entry.access());
        *self = new;
    }

    /// Sets, changes or removes the TTL.
    pub fn set_expire(&mut self, expire_at: Option<i64>) {
        let entry = self.entry();
        let has_field = entry.flags() & HAS_EXPIRE != 0;
        if expire_at.is_none() && !has_field {
            return;
        }
        if has_field {
            return self.write_expire(expire_at);
        }
        // The entry grows by the field: move what can be moved, so that a large value is not copied.
        let (tag, access, object) = (self.tag(), entry.access(), self.take_object());
        let entry = self.entry();
        let value = object.map_or_else(|| entry.value().to_new(), NewValue::Object);
        let new = Self::new(tag, entry.key(), value, expire_at, access);
        *self = new;
    }

    /// The entry under another key; a collection is moved.
    pub fn with_key(mut self, tag: u16, key: &[u8]) -> Self {
        let object = self.take_object();
        let entry = self.entry();
        let value = object.map_or_else(|| entry.value().to_new(), NewValue::Object);
        Self::new(tag, key, value, entry.expire_at(), entry.access())
    }

    /// A copy of the entry under another key.
    pub fn copy_with_key(&self, tag: u16, key: &[u8]) -> Self {
        let entry = self.entry();
        Self::new(tag, key, entry.value().to_new(), entry.expire_at(), entry.access())
    }

    /// The collection, to be changed.
    #[inline]
    pub fn object_mut(&mut self) -> Option<ObjectMut<'_>> {
        let parts = self.entry().parts();
        if parts.flags & KIND != KIND_OBJECT {
            return None;
        }
        // SAFETY: the payload of this kind is a collection of the type that the flags tell, 8-aligned, written by
        // `Slot::new`; `&mut self` makes this the only access.
        unsafe {
            let at = self.base().add(parts.payload);
            Some(match parts.flags >> TYPE_SHIFT {
                TYPE_HASH => ObjectMut::Hash(&mut *at.cast()),
                TYPE_LIST => ObjectMut::List(&mut *at.cast()),
                TYPE_SET => ObjectMut::Set(&mut *at.cast()),
                TYPE_ZSET => ObjectMut::Zset(&mut *at.cast()),
                _ => ObjectMut::Stream(&mut *at.cast()),
            })
        }
    }

    /// Takes the collection out; the entry holds an empty one of its type instead.
    pub fn take_object(&mut self) -> Option<Object> {
        Some(match self.object_mut()? {
            ObjectMut::Hash(object) => Object::Hash(std::mem::take(object)),
            ObjectMut::List(object) => Object::List(std::mem::take(object)),
            ObjectMut::Set(object) => Object::Set(std::mem::take(object)),
            ObjectMut::Zset(object) => Object::Zset(std::mem::take(object)),
            ObjectMut::Stream(object) => Object::Stream(std::mem::take(object)),
        })
    }

    fn write_expire(&mut self, expire_at: Option<i64>) {
        if self.entry().flags() & HAS_EXPIRE == 0 {
            return;
        }
        // SAFETY: the flag says that the field is there, at offset 4; nobody else accesses the entry.
        unsafe { self.base().add(4).cast::<i64>().write_unaligned(expire_at.unwrap_or(NO_EXPIRE)) };
        self.set_timed(self.entry().deadline().is_some());
    }

    fn set_timed(&mut self, is_timed: bool) {
        if is_timed {
            self.0 |= TTL_BIT;
        } else {
            self.0 &= !TTL_BIT;
        }
    }

    /// Notes that a collection, which was changed, now has no element that expires before `deadline`.
    #[inline]
    pub fn set_deadline(&mut self, deadline: Option<i64>) {
        if deadline.is_some() {
            self.0 |= TTL_BIT;
        } else if self.has_ttl() {
            self.set_timed(self.entry().expire_at().is_some());
        }
    }

    /// Takes fields of a hash out that have expired at `now`, at most about `limit`; returns how many.
    pub fn remove_expired(&mut self, now: i64, limit: usize) -> usize {
        let Some(ObjectMut::Hash(hash)) = self.object_mut() else { return 0 };
        let (removed, deadline) = (hash.remove_expired(now, limit), hash.deadline());
        self.set_deadline(deadline);
        removed
    }

    /// Notes an access: 24 bits, of which the eviction policy decides the meaning.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        debug_assert!(!self.is_vacant());
        // SAFETY: every entry has these three bytes; nobody else accesses the entry.
        unsafe { write_access(self.base(), access) };
    }

    /// The bytes of a small string that was written to in place before, to be written to again.
    pub fn raw_mut(&mut self) -> Option<&mut [u8]> {
        let parts = self.entry().parts();
        if parts.flags & (KIND | RAW) != KIND_INLINE | RAW {
            return None;
        }
        // SAFETY: the payload of this kind is so many bytes of the entry, and `&mut self` makes this the only access.
        Some(unsafe { std::slice::from_raw_parts_mut(self.base().add(parts.payload), parts.payload_len) })
    }

    /// Takes a large string out of the entry to change it without a copy; the entry holds an empty string until
    /// the next [`Slot::store`].
    pub fn take_shared(&mut self) -> Option<Bytes> {
        let parts = self.entry().parts();
        if parts.flags & KIND != KIND_SHARED {
            return None;
        }
        // SAFETY: the payload of this kind is a pointer from `Box::into_raw`, valid while the entry lives, and
        // `&mut self` makes this the only access.
        let boxed = unsafe { &mut *self.base().add(parts.payload).cast::<*mut Bytes>().read_unaligned() };
        Some(std::mem::take(boxed))
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        if self.is_vacant() {
            return;
        }
        let parts = self.entry().parts();
        let base = self.base();
        // SAFETY: the slot owns the entry; the shared pointer came from `Box::into_raw`, and the allocation was
        // made with this layout, which the lengths in its header give again.
        unsafe {
            if parts.flags & KIND == KIND_SHARED {
                drop(Box::from_raw(base.add(parts.payload).cast::<*mut Bytes>().read_unaligned()));
            }
            if parts.flags & KIND == KIND_OBJECT {
                drop(self.take_object());
            }
            dealloc(base, entry_layout(parts.payload + parts.payload_len));
        }
    }
}

// SAFETY: a slot owns its entry, whose contents (bytes, integers, `Bytes`) are all Send and Sync.
unsafe impl Send for Slot {}
// SAFETY: as above; a shared slot gives only shared access.
unsafe impl Sync for Slot {}

/// A borrowed entry.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    base: *mut u8,
    owner: PhantomData<&'a Slot>,
}

impl<'a> Entry<'a> {
    #[inline]
    fn flags(&self) -> u8 {
        // SAFETY: every entry starts with its flags and lives for 'a.
        unsafe { self.base.read() }
    }

    #[inline]
    fn parts(&self) -> Parts {
        let flags = self.flags();
        let at = if flags & HAS_EXPIRE != 0 { 12 } else { 4 };
        // SAFETY: the lengths were written at these offsets by `Slot::new`, in the width that the flags tell.
        unsafe {
            let (key_len, at) = read_len(self.base, at, flags & LONG_KEY != 0);
            let (payload_len, at) =
                if flags & KIND == KIND_INLINE { read_len(self.base, at, flags & LONG_VALUE != 0) } else { (8, at) };
            Parts { flags, key: at, key_len, payload: payload_offset(flags, at + key_len), payload_len }
        }
    }

    #[inline]
    fn bytes(&self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: only called with ranges of `parts`, which lie within the entry and were initialised; the
        // entry is not changed while 'a borrows its slot.
        unsafe { std::slice::from_raw_parts(self.base.add(at), len) }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        let parts = self.parts();
        self.bytes(parts.key, parts.key_len)
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> Value<'a> {
        let parts = self.parts();
        match parts.flags & KIND {
            KIND_INLINE if parts.flags & COMPRESSED != 0 => {
                Value::Text(Text::Compressed(self.bytes(parts.payload, parts.payload_len)))
            }
            KIND_INLINE => {
                Value::Text(Text::Inline(self.bytes(parts.payload, parts.payload_len), parts.flags & RAW != 0))
            }
            // SAFETY: an integer's payload is 8 bytes.
            KIND_INT => Value::Text(Text::Int(unsafe { self.base.add(parts.payload).cast::<i64>().read_unaligned() })),
            KIND_SHARED => {
                // SAFETY: the payload is a pointer from `Box::into_raw`, valid while the entry lives.
                Value::Text(Text::Shared(unsafe {
                    &*self.base.add(parts.payload).cast::<*const Bytes>().read_unaligned()
                }))
            }
            _ => Value::Object(self.object(&parts)),
        }
    }

    fn object(&self, parts: &Parts) -> ObjectRef<'a> {
        // SAFETY: the payload of this kind is a collection of the type that the flags tell, 8-aligned; the entry is not
        // changed while 'a borrows its slot.
        unsafe {
            let at = self.base.add(parts.payload);
            match parts.flags >> TYPE_SHIFT {
                TYPE_HASH => ObjectRef::Hash(&*at.cast()),
                TYPE_LIST => ObjectRef::List(&*at.cast()),
                TYPE_SET => ObjectRef::Set(&*at.cast()),
                TYPE_ZSET => ObjectRef::Zset(&*at.cast()),
                _ => ObjectRef::Stream(&*at.cast()),
            }
        }
    }

    /// When the key expires, in milliseconds since the epoch.
    #[inline]
    pub fn expire_at(&self) -> Option<i64> {
        if self.flags() & HAS_EXPIRE == 0 {
            return None;
        }
        // SAFETY: the flag says that the field is there.
        let at = unsafe { self.base.add(4).cast::<i64>().read_unaligned() };
        (at != NO_EXPIRE).then_some(at)
    }

    /// Nothing of the entry, its fields included, expires before this time.
    #[inline]
    pub fn deadline(&self) -> Option<i64> {
        let at = self.expire_at();
        let parts = if self.flags() & KIND == KIND_OBJECT { Some(self.parts()) } else { None };
        match (at, parts.and_then(|parts| self.object(&parts).deadline())) {
            (Some(at), Some(part)) => Some(at.min(part)),
            (at, part) => at.or(part),
        }
    }

    /// The 24 bits of [`Slot::set_access`].
    #[inline]
    pub fn access(&self) -> u32 {
        // SAFETY: every entry has these three bytes.
        let bytes = unsafe { [self.base.add(1).read(), self.base.add(2).read(), self.base.add(3).read(), 0] };
        u32::from_le_bytes(bytes)
    }

    /// Bytes that the entry takes from the allocator.
    pub fn memory(&self) -> usize {
        let parts = self.parts();
        let outside = match self.value() {
            Value::Text(Text::Shared(bytes)) => class_size(bytes.len()) + class_size(size_of::<Bytes>()),
            Value::Text(_) => 0,
            Value::Object(object) => object.memory(),
        };
        class_size(parts.payload + parts.payload_len) + outside
    }
}

fn entry_layout(total: usize) -> Layout {
    Layout::from_size_align(total, ALIGN).expect("an entry is far smaller than the address space")
}

fn type_of(object: &Object) -> u8 {
    match object {
        Object::Hash(_) => TYPE_HASH,
        Object::List(_) => TYPE_LIST,
        Object::Set(_) => TYPE_SET,
        Object::Zset(_) => TYPE_ZSET,
        Object::Stream(_) => TYPE_STREAM,
    }
}

/// Where the payload lies behind a key that ends at `key_end`.
#[inline]
fn payload_offset(flags: u8, key_end: usize) -> usize {
    if flags & KIND == KIND_OBJECT { key_end.next_multiple_of(ALIGN) } else { key_end }
}

#[inline]
fn key_offset(flags: u8) -> usize {
    let expire = if flags & HAS_EXPIRE != 0 { 8 } else { 0 };
    let key_len = if flags & LONG_KEY != 0 { 4 } else { 1 };
    let value_len = match flags & (KIND | LONG_VALUE) {
        KIND_INLINE => 1,
        LONG_VALUE => 4,
        _ => 0,
    };
    4 + expire + key_len + value_len
}

/// # Safety
/// `base` points to an entry's first byte, with the header allocated.
#[inline]
unsafe fn write_access(base: *mut u8, access: u32) {
    let bytes = access.to_le_bytes();
    // SAFETY: the header has these three bytes.
    unsafe {
        base.add(1).write(bytes[0]);
        base.add(2).write(bytes[1]);
        base.add(3).write(bytes[2]);
    }
}

/// # Safety
/// `at` and the 1 or 4 bytes behind it lie within the allocation.
#[inline]
unsafe fn write_len(base: *mut u8, at: usize, len: usize, long: bool) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        if long {
            base.add(at).cast::<u32>().write_unaligned(len as u32);
            at + 4
        } else {
            base.add(at).write(len as u8);
            at + 1
        }
    }
}

/// # Safety
/// A length of this width was written at `at`.
#[inline]
unsafe fn read_len(base: *const u8, at: usize, long: bool) -> (usize, usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if long {
            (base.add(at).cast::<u32>().read_unaligned() as usize, at + 4)
        } else {
            (base.add(at).read() as usize, at + 1)
        }
    }
}

/// # Safety
/// The payload's room lies within the allocation and holds nothing that must be dropped.
unsafe fn write_payload(to: *mut u8, value: NewValue<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match value {
            NewValue::Bytes(bytes) | NewValue::Raw(bytes) => {
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
            NewValue::Compressed(packed) => to.copy_from_nonoverlapping(packed.as_ptr(), packed.len()),
            NewValue::Int(number) => to.cast::<i64>().write_unaligned(number),
            NewValue::Shared(bytes) => to.cast::<*mut Bytes>().write_unaligned(Box::into_raw(Box::new(bytes))),
            NewValue::Object(Object::Hash(object)) => to.cast::<Hash>().write(object),
            NewValue::Object(Object::List(object)) => to.cast::<List>().write(object),
            NewValue::Object(Object::Set(object)) => to.cast::<Set>().write(object),
            NewValue::Object(Object::Zset(object)) => to.cast::<Zset>().write(object),
            NewValue::Object(Object::Stream(object)) => to.cast::<Stream>().write(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SHARE_AT;

    fn values<'a>(short: &'a [u8], long: &'a [u8]) -> [NewValue<'a>; 9] {
        [
            NewValue::Bytes(b""),
            NewValue::Bytes(short),
            NewValue::Bytes(long),
            NewValue::Raw(short),
            NewValue::Int(-7),
            NewValue::Shared(Bytes::from(vec![9; SHARE_AT])),
            NewValue::Shared(Bytes::from(vec![9; SHARE_AT])).compressed_from(100),
            NewValue::Object(Object::Set(Set::default())),
            NewValue::Object(Object::Stream(Stream::default())),
        ]
    }

    fn check(slot: &Slot, key: &[u8], value: &NewValue<'_>, expire_at: Option<i64>) {
        let entry = slot.entry();
        assert_eq!(entry.key(), key);
        assert_eq!(entry.expire_at(), expire_at);
        assert_eq!(slot.has_ttl(), expire_at.is_some());
        assert_eq!((slot.tag(), entry.access()), (0xabcd, 0x123456));
        match (entry.value(), value) {
            (Value::Text(Text::Inline(got, false)), NewValue::Bytes(want))
            | (Value::Text(Text::Inline(got, true)), NewValue::Raw(want)) => assert_eq!(got, *want),
            (Value::Text(Text::Int(got)), NewValue::Int(want)) => assert_eq!(got, *want),
            (Value::Text(Text::Shared(got)), NewValue::Shared(want)) => assert_eq!(got, want),
            (Value::Text(Text::Compressed(got)), NewValue::Compressed(want)) => assert_eq!(*got, **want),
            (Value::Object(got), NewValue::Object(want)) => {
                assert_eq!(format!("{:?}", got.to_object()), format!("{want:?}"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_shape_turns_into_every_other() {
        let (short, long) = ([1u8; 32], [2u8; 300]);
        for key in [b"k".as_slice(), &[7u8; 255], &[7u8; 256]] {
            for first in values(&short, &long) {
                for second in values(&short, &long) {
                    for (ttl_a, ttl_b) in [(None, None), (None, Some(5)), (Some(5), None), (Some(5), Some(6))] {
                        let mut slot = Slot::new(0xabcd, key, first.clone(), ttl_a, 0x123456);
                        check(&slot, key, &first, ttl_a);
                        slot.set_expire(ttl_b);
                        check(&slot, key, &first, ttl_b);
                        slot.store(second.clone(), ttl_a);
                        check(&slot, key, &second, ttl_a);
                    }
                }
            }
        }
    }

    #[test]
    fn the_promised_sizes_hold() {
        let size = |value, ttl| Slot::new(0, &[1; 16], value, ttl, 0).entry().memory();
        assert_eq!(size(NewValue::Bytes(&[1; 32]), None), 56);
        assert_eq!(size(NewValue::Bytes(&[1; 32]), Some(1)), 64);
        assert_eq!(size(NewValue::Int(1), None), 32);
        assert_eq!(size(NewValue::Object(Object::Hash(Hash::default())), None), 32);
    }

    #[test]
    fn a_small_string_can_be_changed_in_place_once_it_is_raw() {
        let mut slot = Slot::new(1, b"key", NewValue::Raw(b"hello"), Some(7), 0);
        slot.raw_mut().unwrap()[0] = b'J';
        assert_eq!(slot.entry().value().text(), Ok(Text::Inline(b"Jello", true)));
        for value in [NewValue::Bytes(b"hello"), NewValue::Int(1), NewValue::Shared(Bytes::from(vec![9; SHARE_AT]))] {
            assert!(Slot::new(1, b"key", value, None, 0).raw_mut().is_none());
        }
    }

    #[test]
    fn a_large_string_can_be_taken_out_and_put_back() {
        let mut slot = Slot::new(1, b"k", NewValue::Shared(Bytes::from(vec![9; SHARE_AT])), None, 0);
        let taken = slot.take_shared().unwrap();
        assert_eq!(taken.len(), SHARE_AT);
        assert_eq!(slot.entry().value().text(), Ok(Text::Shared(&Bytes::new())));
        slot.store(NewValue::Shared(taken), None);
        assert_eq!(slot.take_shared().unwrap().len(), SHARE_AT);
        assert!(Slot::new(1, b"k", NewValue::Int(1), None, 0).take_shared().is_none());
        assert!(Slot::VACANT.is_vacant() && !Slot::VACANT.has_tag(0));
    }
}
