//! A sequence of byte strings in one allocation behind one thin pointer: how small collections are kept. Knows bytes
//! only.
//!
//! Layout of the allocation, little-endian: `bytes 4 | count 2 | elements`, where `bytes` is the length of the elements.
//! An element is, by its first byte:
//!
//! ```text
//! 0xxxxxxx                     the integer 0 to 127
//! 10xxxxxx text                text of up to 63 bytes
//! 110xxxxx yyyyyyyy            a signed integer of 13 bits
//! 1110xxxx yyyyyyyy text       text of up to 4,095 bytes
//! 11110000 len 4 text          longer text
//! 11110001, 2, 3, 4            a signed integer of 2, 3, 4 or 8 bytes behind it
//! 11110101                     the mark: not of the sequence, but says to its owner how the rest is to be read
//! ```
//!
//! The scheme is that of Redis's listpack without the trailing back-lengths; so a text that reads as an integer in
//! canonical form takes one to nine bytes. There is no capacity: the allocator's size classes serve as one.
//!
//! A place in the sequence is an *offset*: a byte position among the elements, valid until the next change before it.
#![allow(unsafe_code)]

use crate::number::parse_i64;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

const HEADER: usize = 6;
const MARK: u8 = 0xf5;
/// Elements that are sought by their bytes, at most.
const SHORT: usize = 64;
const ALIGN: usize = 8;

/// The most elements that a sequence holds.
pub const PACKED_MAX: usize = u16::MAX as usize;

/// What an empty sequence points to.
#[repr(align(8))]
struct Empty {
    _header: [u8; 8],
}
static EMPTY: Empty = Empty { _header: [0; 8] };

/// A sequence of byte strings.
#[repr(transparent)]
pub struct Packed(NonNull<u8>);

/// An element: text, or an integer that stands for its decimal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    /// An integer.
    Int(i64),
    /// Text that is no integer in canonical form.
    Text(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The form in which `text` is kept.
    #[inline]
    pub fn of(text: &'a [u8]) -> Self {
        if text.len() <= 20
            && let Some(number) = parse_i64(text)
        {
            return Self::Int(number);
        }
        Self::Text(text)
    }

    /// The bytes; `digits` serves to write out an integer.
    #[inline]
    pub fn bytes<'b>(self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Int(number) => digits.format(number).as_bytes(),
            Self::Text(text) => text,
        }
    }

    /// The bytes, copied.
    pub fn to_vec(self) -> Vec<u8> {
        self.bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Length of the bytes.
    pub fn len(self) -> usize {
        match self {
            Self::Int(number) => itoa::Buffer::new().format(number).len(),
            Self::Text(text) => text.len(),
        }
    }

    /// True for the empty text.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Text([]))
    }

    /// Bytes that the element takes.
    #[inline]
    pub(super) fn size(self) -> usize {
        match self {
            Self::Int(0..=127) => 1,
            Self::Int(-4096..=4095) => 2,
            Self::Int(-32_768..=32_767) => 3,
            Self::Int(-8_388_608..=8_388_607) => 4,
            Self::Int(-2_147_483_648..=2_147_483_647) => 5,
            Self::Int(_) => 9,
            Self::Text(text) => match text.len() {
                len @ 0..=63 => 1 + len,
                len @ 64..=4095 => 2 + len,
                len => 5 + len,
            },
        }
    }

    /// Writes the element over the start of `to`, which is at least [`Item::size`] long.
    pub(super) fn write(self, to: &mut [u8]) {
        let mut put = |parts: [&[u8]; 2]| {
            let (head, rest) = to.split_at_mut(parts[0].len());
            head.copy_from_slice(parts[0]);
            rest[..parts[1].len()].copy_from_slice(parts[1]);
        };
        match self {
            Self::Int(number @ 0..=127) => put([&[number as u8], &[]]),
            Self::Int(number @ -4096..=4095) => put([&[0xc0 | (number >> 8) as u8 & 0x1f, number as u8], &[]]),
            Self::Int(number) => {
                let (kind, width) = match self.size() {
                    3 => (0xf1, 2),
                    4 => (0xf2, 3),
                    5 => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                put([&[kind], &number.to_le_bytes()[..width]]);
            }
            Self::Text(text) => match text.len() {
                len @ 0..=63 => put([&[0x80 | len as u8], text]),
                len @ 64..=4095 => put([&[0xe0 | (len >> 8) as u8, len as u8], text]),
                len => {
                    let len = (len as u32).to_le_bytes();
                    put([&[0xf0, len[0], len[1], len[2], len[3]], text]);
                }
            },
        }
    }

    /// The element at the start of `from`, and its size.
    #[inline]
    pub(super) fn read(from: &'a [u8]) -> (Self, usize) {
        let first = from[0];
        let text = |head: usize, len: usize| (Self::Text(&from[head..head + len]), head + len);
        let number = |width: usize| {
            let mut bytes = [0; 8];
            bytes[8 - width..].copy_from_slice(&from[1..=width]);
            (Self::Int(i64::from_le_bytes(bytes) >> (64 - 8 * width)), 1 + width)
        };
        match first {
            0..=0x7f => (Self::Int(first.into()), 1),
            0x80..=0xbf => text(1, usize::from(first & 0x3f)),
            0xc0..=0xdf => {
                let bits = i64::from(first & 0x1f) << 8 | i64::from(from[1]);
                (Self::Int(bits << 51 >> 51), 2)
            }
            0xe0..=0xef => text(2, usize::from(first & 0xf) << 8 | usize::from(from[1])),
            0xf1 => number(2),
            0xf2 => number(3),
            0xf3 => number(4),
            0xf4 => number(8),
            MARK => (Self::Int(0), 1),
            _ => text(5, u32::from_le_bytes([from[1], from[2], from[3], from[4]]) as usize),
        }
    }

    /// Size of the element at the start of `from`.
    #[inline]
    pub(super) fn skip(from: &[u8]) -> usize {
        match from[0] {
            0..=0x7f => 1,
            first @ 0x80..=0xbf => 1 + usize::from(first & 0x3f),
            0xc0..=0xdf => 2,
            _ => Item::read(from).1,
        }
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::new()
    }
}

impl Packed {
    /// An empty sequence. Allocates nothing.
    pub const fn new() -> Self {
        // SAFETY: the address of a static is not null.
        Self(unsafe { NonNull::new_unchecked((&raw const EMPTY).cast_mut().cast()) })
    }

    #[inline]
    fn is_allocated(&self) -> bool {
        !std::ptr::eq(self.0.as_ptr(), (&raw const EMPTY).cast())
    }

    /// The bytes of all elements.
    #[inline]
    fn body(&self) -> &[u8] {
        // SAFETY: every sequence starts with its header, and `size` bytes follow it, initialised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(HEADER), self.size()) }
    }

    /// Bytes of all elements together.
    #[inline]
    pub fn size(&self) -> usize {
        // SAFETY: the header is there and aligned, also that of the shared empty sequence.
        (unsafe { self.0.as_ptr().cast::<u32>().read() }) as usize
    }

    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: as above; offset 4 is aligned for two bytes.
        usize::from(unsafe { self.0.as_ptr().add(4).cast::<u16>().read() })
    }

    /// True without elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes from the allocator.
    pub fn memory(&self) -> usize {
        if self.is_allocated() { crate::alloc::class_size(HEADER + self.size()) } else { 0 }
    }

    /// True if `more` could be added: neither the count nor the size runs over.
    pub fn has_room(&self, elements: usize, bytes: usize) -> bool {
        self.len() + elements <= PACKED_MAX && self.size() + bytes + 5 * elements <= u32::MAX as usize / 2
    }

    /// The elements with their offsets, in order.
    #[inline]
    pub fn iter(&self) -> Items<'_> {
        Items { body: self.body(), at: 0 }
    }

    /// The elements with their offsets, from the element at `offset` on.
    #[inline]
    pub fn iter_from(&self, offset: usize) -> Items<'_> {
        Items { body: self.body(), at: offset }
    }

    /// Offset of element number `index`; that of the end for the number of elements.
    ///
    /// # Panics
    /// Past the end.
    pub fn offset(&self, index: usize) -> usize {
        let body = self.body();
        (0..index).fold(0, |at, _| at + Item::skip(&body[at..]))
    }

    /// The element at `offset`.
    #[inline]
    pub fn at(&self, offset: usize) -> Item<'_> {
        Item::read(&self.body()[offset..]).0
    }

    /// Offset of the element behind the one at `offset`.
    #[inline]
    pub fn next(&self, offset: usize) -> usize {
        offset + Item::skip(&self.body()[offset..])
    }

    /// Element number `index`.
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        (index < self.len()).then(|| self.at(self.offset(index)))
    }

    /// Offset of the first element that is `text`, among every `step`-th from the first on.
    #[inline]
    pub fn find(&self, text: &[u8], step: usize) -> Option<usize> {
        self.find_item(0, Item::of(text), step)
    }

    /// Offset of the first element that is `wanted`, among every `step`-th from the one at `offset` on.
    #[inline]
    pub fn find_item(&self, offset: usize, wanted: Item<'_>, step: usize) -> Option<usize> {
        let (body, size) = (self.body(), wanted.size());
        let mut head = [0; SHORT];
        if size > SHORT {
            return self.find_long(offset, wanted, step);
        }
        // An element is written in one way only, and none is the beginning of another: so bytes are compared, not read.
        wanted.write(&mut head);
        let (needle, last) = (&head[..size], size - 1);
        let mut at = offset;
        while at < body.len() {
            // Names of one kind begin alike: their ends tell them apart without a comparison.
            let may_be = body[at] == needle[0] && body.get(at + last) == Some(&needle[last]);
            if may_be && body[at..].starts_with(needle) {
                return Some(at);
            }
            for _ in 0..step {
                if at < body.len() {
                    at += Item::skip(&body[at..]);
                }
            }
        }
        None
    }

    fn find_long(&self, offset: usize, wanted: Item<'_>, step: usize) -> Option<usize> {
        let mut elements = self.iter_from(offset).step_by(step);
        elements.find(|(_, item)| *item == wanted).map(|(at, _)| at)
    }

    /// Adds an element at the end.
    ///
    /// # Panics
    /// Without room; see [`Packed::has_room`].
    #[inline]
    pub fn push(&mut self, item: Item<'_>) {
        self.insert(self.size(), item);
    }

    /// Adds an element before the one at `offset`.
    ///
    /// # Panics
    /// Without room.
    pub fn insert(&mut self, offset: usize, item: Item<'_>) {
        let size = item.size();
        self.splice(offset..offset, size, 1);
        item.write(&mut self.body_mut()[offset..offset + size]);
    }

    /// Replaces the element at `offset`.
    pub fn replace(&mut self, offset: usize, item: Item<'_>) {
        let (end, size) = (self.next(offset), item.size());
        self.splice(offset..end, size, 0);
        item.write(&mut self.body_mut()[offset..offset + size]);
    }

    /// Removes `count` elements from the one at `offset` on, as many as there are; returns how many were removed.
    pub fn remove(&mut self, offset: usize, count: usize) -> usize {
        let (mut end, mut removed) = (offset, 0);
        while removed < count && end < self.size() {
            end = self.next(end);
            removed += 1;
        }
        if removed > 0 {
            self.splice(offset..end, 0, -(removed as isize));
        }
        removed
    }

    /// Puts the mark before everything else; it counts as an element, one byte long.
    pub fn mark(&mut self) {
        self.splice(0..0, 1, 1);
        self.body_mut()[0] = MARK;
    }

    /// True if it begins with the mark.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.body().first() == Some(&MARK)
    }

    /// What stands behind the mark, which need not be elements.
    #[inline]
    pub fn raw(&self) -> &[u8] {
        self.body().get(1..).unwrap_or_default()
    }

    /// Puts bytes, which count as `count` elements, at an offset of [`Packed::raw`].
    ///
    /// # Panics
    /// Without room.
    pub fn raw_insert(&mut self, offset: usize, bytes: &[u8], count: usize) {
        let start = 1 + offset;
        self.splice(start..start, bytes.len(), count as isize);
        self.body_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Removes bytes, which count as `count` elements, from an offset of [`Packed::raw`] on.
    pub fn raw_remove(&mut self, offset: usize, bytes: usize, count: usize) {
        self.splice(1 + offset..1 + offset + bytes, 0, -(count as isize));
    }

    /// Replaces the bytes of `range` by `size` bytes, which the caller writes; `count` elements more or fewer.
    fn splice(&mut self, range: Range<usize>, size: usize, count: isize) {
        let (old, len) = (self.size(), self.len().checked_add_signed(count));
        let len = len.filter(|len| *len <= PACKED_MAX).expect("a sequence has room for what is added");
        let new = old - range.len() + size;
        assert!(range.end <= old && new <= u32::MAX as usize - HEADER, "the range lies within the sequence");
        if new == 0 {
            *self = Self::new();
            return;
        }
        if new > old {
            self.resize(new);
        }
        // SAFETY: the allocation holds the larger of the old and the new size behind the header; the rest behind the
        // range is moved within it, and the caller writes the bytes in between.
        unsafe {
            let body = self.0.as_ptr().add(HEADER);
            body.add(range.end).copy_to(body.add(range.start + size), old - range.end);
        }
        if new < old {
            self.resize(new);
        }
        // SAFETY: the header belongs to the allocation, which is not the shared empty one any more.
        unsafe {
            self.0.as_ptr().cast::<u32>().write(new as u32);
            self.0.as_ptr().add(4).cast::<u16>().write(len as u16);
        }
    }

    /// Makes the allocation fit `size` bytes of elements, at least one. The header may tell the old size still.
    fn resize(&mut self, size: usize) {
        let layout = layout(size);
        // SAFETY: a sequence that is allocated was made with the layout of its size; the new layout is not empty.
        let (base, old) = unsafe {
            if self.is_allocated() {
                let old = self::layout(self.size());
                (realloc(self.0.as_ptr(), old, layout.size()), old.size())
            } else {
                (alloc(layout), 0)
            }
        };
        self.0 = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        if layout.size() > old {
            // SAFETY: these bytes lie in the allocation; nothing may be borrowed that was never written.
            unsafe { base.add(old).write_bytes(0, layout.size() - old) };
        }
    }

    #[inline]
    fn body_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `body`; `&mut self` makes this the only access. The empty sequence gives an empty slice.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().add(HEADER), self.size()) }
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(HEADER + size, ALIGN).expect("a sequence is far smaller than the address space")
}

impl Drop for Packed {
    #[inline]
    fn drop(&mut self) {
        if self.is_allocated() {
            // SAFETY: the allocation was made with this layout.
            unsafe { dealloc(self.0.as_ptr(), layout(self.size())) };
        }
    }
}

impl Clone for Packed {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        if !self.is_empty() {
            copy.resize(self.size());
            // SAFETY: both allocations hold the header and as many bytes behind it.
            unsafe { copy.0.as_ptr().copy_from_nonoverlapping(self.0.as_ptr(), HEADER + self.size()) };
        }
        copy
    }
}

// SAFETY: a sequence owns its bytes.
unsafe impl Send for Packed {}
// SAFETY: as above; a shared sequence gives only shared access.
unsafe impl Sync for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_marked() {
            return f.debug_tuple("Marked").field(&self.raw()).finish();
        }
        f.debug_list().entries(self.iter().map(|(_, item)| item)).finish()
    }
}

/// The elements of a [`Packed`] with their offsets.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = (usize, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(usize, Item<'a>)> {
        if self.at >= self.body.len() {
            return None;
        }
        let (item, size) = Item::read(&self.body[self.at..]);
        let at = self.at;
        self.at += size;
        Some((at, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_comes_back_as_it_went_in() {
        let numbers = [0, 1, 127, 128, -1, 4095, 4096, -4096, -4097, 32_767, 32_768, -32_768, -32_769, 8_388_607];
        let more = [8_388_608, -8_388_608, -8_388_609, i64::from(i32::MAX), 1 << 31, i64::from(i32::MIN), i64::MIN];
        let mut packed = Packed::new();
        let mut texts: Vec<Vec<u8>> =
            numbers.iter().chain(&more).chain(&[i64::MAX]).map(|number| number.to_string().into_bytes()).collect();
        texts.extend([0, 1, 63, 64, 4095, 4096, 70_000].map(|len| vec![b'x'; len]));
        texts.extend(["007", "-0", "+1", "9223372036854775808", " 1"].map(|text| text.as_bytes().to_vec()));
        for text in &texts {
            packed.push(Item::of(text));
        }
        assert_eq!(packed.iter().map(|(_, item)| item.to_vec()).collect::<Vec<_>>(), texts);
        for (index, text) in texts.iter().enumerate() {
            assert_eq!(packed.find(text, 1), Some(packed.offset(index)), "{index}");
            assert_eq!((packed.get(index).unwrap().to_vec(), Item::of(text).len()), (text.clone(), text.len()));
        }
        assert_eq!(packed.clone().iter().count(), texts.len());
        assert_eq!((packed.get(texts.len()), packed.find(b"none", 1)), (None, None));
    }

    proptest! {
        #[test]
        fn a_sequence_is_a_vector(steps in prop::collection::vec((0..4u8, any::<u16>(), "[0-9]{0,3}|[a-z]{0,90}"), 0..60)) {
            let mut packed = Packed::new();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (step, place, text) in steps {
                let place = usize::from(place) % (model.len() + 1);
                let offset = packed.offset(place);
                match step {
                    0 | 1 => {
                        packed.insert(offset, Item::of(text.as_bytes()));
                        model.insert(place, text.into_bytes());
                    }
                    2 if place < model.len() => {
                        packed.replace(offset, Item::of(text.as_bytes()));
                        model[place] = text.into_bytes();
                    }
                    _ => {
                        let count = text.len() % 4;
                        let end = (place + count).min(model.len());
                        prop_assert_eq!(packed.remove(offset, count), end - place);
                        model.drain(place..end);
                    }
                }
                let got: Vec<_> = packed.iter().map(|(_, item)| item.to_vec()).collect();
                prop_assert_eq!(&got, &model);
                prop_assert_eq!(packed.len(), model.len());
                prop_assert_eq!(packed.is_empty(), packed.memory() == 0);
            }
        }
    }
}
