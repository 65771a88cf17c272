//! A member of a large set, or a field of a large hash with its value, in one allocation, behind a tagged pointer of 8 bytes: the slot of their tables.
//! Knows bytes only.
//!
//! Layout of the allocation, packed, little-endian:
//!
//! ```text
//! name length 1 | name
//! flags 1 | expire 0 or 8 | name length 1 or 4 | value length 0, 1 or 4 | name | value
//! ```
//!
//! The first for a member of up to 127 bytes that has neither a value nor a time; flags have their highest bit set.
//!
//! So a field of 10 bytes with a value of 20 takes 33 bytes, in the class of 40, and a member of 15 bytes 16. The pointer
//! has the tag of the name's hash in its upper 16 bits (user space addresses have 47 or 48) and, in bit 0, whether the
//! element expires.
#![allow(unsafe_code)]

use super::prefetch::prefetch;
use super::table::Slot;
use crate::alloc::class_size;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::{NonNull, with_exposed_provenance_mut};

const HAS_EXPIRE: u8 = 1;
const LONG_NAME: u8 = 2;
const HAS_VALUE: u8 = 4;
const LONG_VALUE: u8 = 8;
const FLAGS: u8 = 0x80;

const ALIGN: usize = 8;
const TAG_SHIFT: u32 = 48;
const POINTER: u64 = (1 << TAG_SHIFT) - 8;
const EXPIRE_BIT: u64 = 1;

/// A name, perhaps with a value and a time at which it expires; or nothing.
#[derive(Default)]
#[repr(transparent)]
pub struct Member(u64);

/// Where the parts of an element lie.
struct Parts {
    name: usize,
    name_len: usize,
    value_len: usize,
}

impl Member {
    /// An element, with the tag of its name's hash. `expire_at` is in ms since the epoch.
    pub fn new(tag: u16, name: &[u8], value: Option<&[u8]>, expire_at: Option<i64>) -> Self {
        let value_bytes = value.unwrap_or_default();
        assert!(name.len() < 1 << 32 && value_bytes.len() < 1 << 32, "elements are shorter than 4 GiB");
        let is_plain = value.is_none() && expire_at.is_none() && name.len() < FLAGS.into();
        let mut flags = if is_plain { name.len() as u8 } else { FLAGS };
        let mut head = if is_plain { 1 } else { 2 };
        let mut add = |is_so: bool, flag: u8, bytes: usize| {
            if is_so {
                flags |= flag;
                head += bytes;
            }
        };
        add(expire_at.is_some(), HAS_EXPIRE, 8);
        add(name.len() > 255, LONG_NAME, 3);
        add(value.is_some(), HAS_VALUE, 1);
        add(value_bytes.len() > 255, LONG_VALUE, 3);
        let layout = layout(head + name.len() + value_bytes.len());
        // SAFETY: the layout is not empty: the head alone has a byte.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let base = base.as_ptr();
        // SAFETY: all writes lie within the bytes just allocated: the head, then the name, then the value; the sources
        // do not overlap a fresh allocation.
        unsafe {
            base.write(flags);
            let mut at = 1;
            if let Some(expire_at) = expire_at {
                base.add(at).cast::<i64>().write_unaligned(expire_at);
                at += 8;
            }
            if !is_plain {
                at = write_len(base, at, name.len(), flags & LONG_NAME != 0);
            }
            if value.is_some() {
                at = write_len(base, at, value_bytes.len(), flags & LONG_VALUE != 0);
            }
            debug_assert_eq!(at, head);
            base.add(head).copy_from_nonoverlapping(name.as_ptr(), name.len());
            base.add(head + name.len()).copy_from_nonoverlapping(value_bytes.as_ptr(), value_bytes.len());
        }
        let address = base.expose_provenance() as u64;
        assert_eq!(address & !POINTER, 0, "an address of 48 bits, 8-aligned");
        Self(address | u64::from(tag) << TAG_SHIFT | if expire_at.is_some() { EXPIRE_BIT } else { 0 })
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        assert!(self.0 != 0, "there is an element");
        with_exposed_provenance_mut((self.0 & POINTER) as usize)
    }

    #[inline]
    fn flags(&self) -> u8 {
        // SAFETY: every element starts with its flags.
        unsafe { self.base().read() }
    }

    fn has_value(&self) -> bool {
        self.flags() & (FLAGS | HAS_VALUE) == FLAGS | HAS_VALUE
    }

    #[inline]
    fn parts(&self) -> Parts {
        let (base, flags) = (self.base(), self.flags());
        if flags & FLAGS == 0 {
            return Parts { name: 1, name_len: flags.into(), value_len: 0 };
        }
        let at = if flags & HAS_EXPIRE != 0 { 9 } else { 1 };
        // SAFETY: the lengths were written at these offsets by `new`, in the width that the flags tell.
        unsafe {
            let (name_len, at) = read_len(base, at, flags & LONG_NAME != 0);
            let (value_len, name) =
                if flags & HAS_VALUE != 0 { read_len(base, at, flags & LONG_VALUE != 0) } else { (0, at) };
            Parts { name, name_len, value_len }
        }
    }

    #[inline]
    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: only called with ranges of `parts`, which lie within the element and were initialised.
        unsafe { std::slice::from_raw_parts(self.base().add(at), len) }
    }

    /// The name.
    #[inline]
    pub fn name(&self) -> &[u8] {
        let parts = self.parts();
        self.bytes(parts.name, parts.name_len)
    }

    /// The value; empty without one.
    #[inline]
    pub fn value(&self) -> &[u8] {
        let parts = self.parts();
        self.bytes(parts.name + parts.name_len, parts.value_len)
    }

    /// Name and value.
    #[inline]
    pub fn pair(&self) -> (&[u8], &[u8]) {
        let parts = self.parts();
        (self.bytes(parts.name, parts.name_len), self.bytes(parts.name + parts.name_len, parts.value_len))
    }

    /// When it expires.
    #[inline]
    pub fn expire_at(&self) -> Option<i64> {
        if self.0 & EXPIRE_BIT == 0 {
            return None;
        }
        // SAFETY: the bit says that the time was written, behind the flags.
        Some(unsafe { self.base().add(1).cast::<i64>().read_unaligned() })
    }

    /// Replaces the value and the time.
    pub fn set(&mut self, value: &[u8], expire_at: Option<i64>) {
        let parts = self.parts();
        if value.len() == parts.value_len && self.has_value() && expire_at == self.expire_at() {
            // SAFETY: the value has exactly this length; `&mut self` makes this the only access, so `value`, which is
            // borrowed elsewhere, lies elsewhere.
            unsafe {
                self.base().add(parts.name + parts.name_len).copy_from_nonoverlapping(value.as_ptr(), value.len());
            }
            return;
        }
        *self = Self::new(self.tag(), self.name(), Some(value), expire_at);
    }

    /// Replaces the time.
    pub fn set_expire(&mut self, expire_at: Option<i64>) {
        if expire_at != self.expire_at() {
            let (name, value) = self.pair();
            let value = self.has_value().then_some(value);
            *self = Self::new(self.tag(), name, value, expire_at);
        }
    }

    /// Bytes that it takes from the allocator.
    pub fn memory(&self) -> usize {
        let parts = self.parts();
        class_size(parts.name + parts.name_len + parts.value_len)
    }
}

impl Slot for Member {
    #[inline]
    fn is_vacant(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn tag(&self) -> u16 {
        (self.0 >> TAG_SHIFT) as u16
    }

    #[inline]
    fn has_tag(&self, tag: u16) -> bool {
        // A vacant slot has tag 0 too; its pointer is null.
        (self.0 >> TAG_SHIFT) as u16 == tag && self.0 != 0
    }

    #[inline]
    fn is_of(&self, key: &[u8]) -> bool {
        self.name() == key
    }

    #[inline]
    fn prefetch(&self) {
        prefetch((self.0 & POINTER) as *const u8);
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.0 & EXPIRE_BIT != 0
    }

    #[inline]
    fn deadline(&self) -> Option<i64> {
        self.expire_at()
    }

    #[inline]
    fn expire_at(&self) -> Option<i64> {
        self.expire_at()
    }
}

impl Drop for Member {
    #[inline]
    fn drop(&mut self) {
        if self.is_vacant() {
            return;
        }
        let parts = self.parts();
        // SAFETY: the slot owns the element, which was allocated with this layout.
        unsafe { dealloc(self.base(), layout(parts.name + parts.name_len + parts.value_len)) };
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        if self.is_vacant() {
            return Self::default();
        }
        let (name, value) = self.pair();
        Self::new(self.tag(), name, self.has_value().then_some(value), self.expire_at())
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_vacant() { f.write_str("nothing") } else { (self.pair(), self.expire_at()).fmt(f) }
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("an element is far smaller than the address space")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_turns_into_every_other() {
        let (short, long) = ([1u8; 32], [2u8; 300]);
        for name in [b"".as_slice(), b"k", &[7u8; 127], &[7u8; 128], &[7u8; 255], &[7u8; 256]] {
            for first in [None, Some(b"".as_slice()), Some(&short), Some(&long)] {
                for second in [b"".as_slice(), &short, &[3u8; 32], &long] {
                    for (before, after) in [(None, None), (None, Some(5)), (Some(5), None), (Some(5), Some(6))] {
                        let mut member = Member::new(0xabcd, name, first, before);
                        let check = |member: &Member, value: &[u8], expire_at| {
                            assert_eq!((member.pair(), member.expire_at()), ((name, value), expire_at));
                            assert!(member.has_tag(0xabcd) && member.is_of(name) && !member.is_vacant());
                            assert_eq!(member.has_deadline(), expire_at.is_some());
                        };
                        check(&member, first.unwrap_or_default(), before);
                        member.set_expire(after);
                        check(&member.clone(), first.unwrap_or_default(), after);
                        member.set(second, before);
                        check(&member, second, before);
                    }
                }
            }
        }
        assert!(Member::default().is_vacant() && Member::default().clone().is_vacant());
        assert_eq!(Member::new(0, &[0; 15], None, None).memory(), 16);
        assert_eq!(Member::new(0, &[0; 10], Some(&[0; 20]), None).memory(), 40);
    }
}
