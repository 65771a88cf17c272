//! A run of elements in one buffer, cheap to lengthen and shorten at both ends: what large lists are made of. Knows
//! bytes only.
//!
//! An element is an [`Item`] as [`super::Packed`] keeps it, followed by its length, so that a run can be walked from
//! either end. That is the layout of Redis's listpack; so a run has the size of a quicklist's node with the same
//! elements, and lists change their encoding where Redis changes it.

use super::packed::Item;
use crate::alloc::class_size;
use bytes::Bytes;

/// Bytes that a listpack takes beyond its elements.
pub(super) const LISTPACK_OVERHEAD: usize = 7;
/// The smallest buffer, in bytes.
const SMALLEST: usize = 128;
/// How much a large buffer grows by, in bytes.
const STEP: usize = 8192;

/// One value, or many in one buffer.
#[derive(Clone, Debug)]
pub(super) enum Chunk {
    /// Elements, at least one.
    Run(Run),
    /// A value too large to stand with others.
    Large(Bytes),
}

/// An element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A small one.
    Item(Item<'a>),
    /// A large one, which can be kept by reference.
    Large(&'a Bytes),
}

impl Element<'_> {
    /// The bytes, copied.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Self::Item(item) => item.to_vec(),
            Self::Large(bytes) => bytes.to_vec(),
        }
    }
}

/// What an element is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    text: &'a [u8],
    item: Item<'a>,
}

impl<'a> Wanted<'a> {
    /// Elements that are `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, item: Item::of(text) }
    }

    /// True for such an element.
    #[inline]
    pub fn is(&self, element: Element<'_>) -> bool {
        match element {
            Element::Item(item) => item == self.item,
            Element::Large(bytes) => bytes == self.text,
        }
    }
}

/// Elements in one buffer, with free space at both ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
    count: u32,
}

/// Bytes that the length behind an element of `size` bytes takes.
#[inline]
pub(super) fn back_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Bytes that an element takes with the length behind it.
#[inline]
pub(super) fn full_size(item: Item<'_>) -> usize {
    let size = item.size();
    size + back_size(size)
}

/// Writes an element and the length behind it, which fill `to`.
#[inline]
fn write(item: Item<'_>, to: &mut [u8]) {
    let mut size = item.size();
    item.write(to);
    let back = size;
    // The last byte is read first: seven bits a byte, the highest bit says that more stand before it.
    for at in (back..to.len()).rev() {
        let more = if at > back { 0x80 } else { 0 };
        to[at] = size as u8 & 0x7f | more;
        size >>= 7;
    }
}

impl Run {
    /// Elements.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the elements.
    #[inline]
    pub(super) fn size(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes that it takes from the allocator.
    pub(super) fn memory(&self) -> usize {
        if self.buffer.is_empty() { 0 } else { class_size(self.buffer.len()) }
    }

    #[inline]
    fn body(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }

    /// The elements with their offsets.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Item<'_>)> {
        self.iter_from(0)
    }

    /// The elements from the one at `offset` on, with their offsets.
    #[inline]
    pub(super) fn iter_from(&self, offset: usize) -> impl Iterator<Item = (usize, Item<'_>)> {
        let (body, mut at) = (self.body(), offset);
        std::iter::from_fn(move || {
            let (item, size) = Item::read(body.get(at..).filter(|rest| !rest.is_empty())?);
            let offset = at;
            at += size + back_size(size);
            Some((offset, item))
        })
    }

    /// The elements before `offset`, from the last to the first, with their offsets.
    #[inline]
    pub(super) fn iter_back(&self, offset: usize) -> impl Iterator<Item = (usize, Item<'_>)> {
        let (body, mut at) = (self.body(), offset);
        std::iter::from_fn(move || {
            at = before(body, at)?;
            Some((at, Item::read(&body[at..]).0))
        })
    }

    /// Offset of element number `index`; that of the end for the number of elements. Walks from the nearer end.
    pub(super) fn offset(&self, index: usize) -> usize {
        let body = self.body();
        let len = self.len();
        debug_assert!(index <= len, "the element is in the run");
        if index <= len / 2 {
            (0..index).fold(0, |at, _| next(body, at))
        } else {
            (index..len).fold(body.len(), |at, _| before(body, at).unwrap_or_default())
        }
    }

    /// Element number `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Item<'_> {
        self.at(self.offset(index))
    }

    /// The element at `offset`.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> Item<'_> {
        Item::read(&self.body()[offset..]).0
    }

    /// Adds an element at the front.
    #[inline]
    pub(super) fn push_front(&mut self, item: Item<'_>) {
        let size = full_size(item);
        if (self.start as usize) < size {
            self.make_room(size, 0);
        }
        let end = self.start as usize;
        write(item, &mut self.buffer[end - size..end]);
        self.start -= size as u32;
        self.count += 1;
    }

    /// Adds an element at the back.
    #[inline]
    pub(super) fn push_back(&mut self, item: Item<'_>) {
        let size = full_size(item);
        if self.buffer.len() - (self.end as usize) < size {
            self.make_room(0, size);
        }
        let start = self.end as usize;
        write(item, &mut self.buffer[start..start + size]);
        self.end += size as u32;
        self.count += 1;
    }

    /// Makes so many bytes free before or behind the elements; all that is free comes to lie there.
    #[cold]
    fn make_room(&mut self, front: usize, back: usize) {
        let (used, more) = (self.size(), front + back);
        let capacity = self.buffer.len();
        // A quarter must come free, so that a byte is moved a constant number of times.
        let fits = used + more <= capacity && capacity - used >= capacity / 4;
        let wanted = if fits { capacity } else { class_size((used + more + used.min(STEP)).max(SMALLEST)) };
        let start = if front > 0 { wanted - used } else { 0 };
        if fits {
            self.buffer.copy_within(self.start as usize..self.end as usize, start);
        } else {
            self.move_to(wanted, start);
        }
        self.start = start as u32;
        self.end = (start + used) as u32;
    }

    /// Takes a buffer of `capacity` bytes, with the elements from `start` on.
    fn move_to(&mut self, capacity: usize, start: usize) {
        let mut buffer = vec![0; capacity].into_boxed_slice();
        buffer[start..start + self.size()].copy_from_slice(self.body());
        self.end = (start + self.size()) as u32;
        self.start = start as u32;
        self.buffer = buffer;
    }

    /// Gives the free space back.
    pub(super) fn seal(&mut self) {
        let size = self.size();
        if class_size(self.buffer.len()) > class_size(size) {
            self.move_to(size, 0);
        }
    }

    /// Removes the first `count` elements.
    pub(super) fn drop_front(&mut self, count: usize) {
        let offset = self.offset(count);
        self.start += offset as u32;
        self.count -= count as u32;
    }

    /// Removes the last `count` elements.
    pub(super) fn drop_back(&mut self, count: usize) {
        let offset = self.offset(self.len() - count);
        self.end = self.start + offset as u32;
        self.count -= count as u32;
    }

    /// Replaces the bytes from `offset` to `end` by an element, or by nothing; moves the shorter side.
    fn splice(&mut self, offset: usize, end: usize, item: Option<Item<'_>>) {
        let size = item.map_or(0, full_size);
        let old = end - offset;
        if size > old {
            let more = size - old;
            if offset < self.size() - end {
                if (self.start as usize) < more {
                    self.make_room(more, 0);
                }
                let start = self.start as usize;
                self.buffer.copy_within(start..start + offset, start - more);
                self.start -= more as u32;
            } else {
                if self.buffer.len() - (self.end as usize) < more {
                    self.make_room(0, more);
                }
                let from = self.start as usize + end;
                self.buffer.copy_within(from..self.end as usize, from + more);
                self.end += more as u32;
            }
        } else {
            let less = old - size;
            let start = self.start as usize;
            self.buffer.copy_within(start + end..self.end as usize, start + end - less);
            self.end -= less as u32;
        }
        if let Some(item) = item {
            let start = self.start as usize + offset;
            write(item, &mut self.buffer[start..start + size]);
        }
    }

    /// Adds an element before the one at `offset`.
    pub(super) fn insert(&mut self, offset: usize, item: Item<'_>) {
        self.splice(offset, offset, Some(item));
        self.count += 1;
    }

    /// Replaces the element at `offset`.
    pub(super) fn replace(&mut self, offset: usize, item: Item<'_>) {
        self.splice(offset, next(self.body(), offset), Some(item));
    }

    /// Removes the element at `offset`.
    pub(super) fn remove(&mut self, offset: usize) {
        self.splice(offset, next(self.body(), offset), None);
        self.count -= 1;
    }

    /// Removes the elements at `offsets`, which ascend.
    pub(super) fn remove_all(&mut self, offsets: &[usize]) {
        let (start, mut to) = (self.start as usize, offsets.first().copied().unwrap_or(self.size()));
        for (index, &offset) in offsets.iter().enumerate() {
            let from = next(self.body(), offset);
            let until = offsets.get(index + 1).copied().unwrap_or(self.size());
            self.buffer.copy_within(start + from..start + until, start + to);
            to += until - from;
        }
        self.end = (start + to) as u32;
        self.count -= offsets.len() as u32;
    }

    /// Cuts off the elements from number `index` on.
    pub(super) fn split_off(&mut self, index: usize) -> Self {
        let offset = self.offset(index);
        let buffer: Box<[u8]> = self.body()[offset..].into();
        let rest = Self { start: 0, end: buffer.len() as u32, buffer, count: self.count - index as u32 };
        self.end = self.start + offset as u32;
        self.count = index as u32;
        rest
    }

    /// Adds the elements of another run.
    pub(super) fn append(&mut self, other: &Self) {
        let size = other.size();
        if self.buffer.len() - (self.end as usize) < size {
            self.make_room(0, size);
        }
        let end = self.end as usize;
        self.buffer[end..end + size].copy_from_slice(other.body());
        self.end += size as u32;
        self.count += other.count;
    }
}

#[inline]
fn next(body: &[u8], at: usize) -> usize {
    let size = Item::skip(&body[at..]);
    at + size + back_size(size)
}

/// Offset of the element that ends at `at`.
#[inline]
fn before(body: &[u8], at: usize) -> Option<usize> {
    let mut end = at.checked_sub(1)?;
    let mut size = usize::from(body[end] & 0x7f);
    let mut shift = 7;
    while body[end] & 0x80 != 0 {
        end -= 1;
        size |= usize::from(body[end] & 0x7f) << shift;
        shift += 7;
    }
    Some(end - size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_is_a_vector(steps in prop::collection::vec((0..8u8, any::<u16>(), "[0-9]{0,3}|[a-z]{0,90}|x{120,140}"), 0..80)) {
            let mut run = Run::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (step, place, text) in steps {
                let place = usize::from(place) % (model.len() + 1);
                let item = Item::of(text.as_bytes());
                match step {
                    0 => {
                        run.push_front(item);
                        model.insert(0, text.into_bytes());
                    }
                    1 => {
                        run.push_back(item);
                        model.push(text.into_bytes());
                    }
                    2 => {
                        run.insert(run.offset(place), item);
                        model.insert(place, text.into_bytes());
                    }
                    3 if place < model.len() => {
                        run.replace(run.offset(place), item);
                        model[place] = text.into_bytes();
                    }
                    4 if place < model.len() => {
                        run.remove(run.offset(place));
                        model.remove(place);
                    }
                    5 => {
                        run.drop_front(place.min(2));
                        model.drain(..place.min(2));
                    }
                    6 => {
                        run.drop_back(place.min(2));
                        model.truncate(model.len() - place.min(2));
                    }
                    7 => {
                        let rest = run.split_off(place);
                        prop_assert_eq!(rest.len(), model.len() - place);
                        run.seal();
                        run.append(&rest);
                    }
                    _ => {}
                }
                let got: Vec<_> = run.iter().map(|(_, item)| item.to_vec()).collect();
                prop_assert_eq!(&got, &model);
                let mut back: Vec<_> = run.iter_back(run.size()).map(|(_, item)| item.to_vec()).collect();
                back.reverse();
                prop_assert_eq!(&back, &model);
                prop_assert_eq!(run.len(), model.len());
            }
        }
    }

    #[test]
    fn lengths_of_all_sizes_lead_back() {
        let mut run = Run::default();
        let sizes = [0, 62, 63, 124, 125, 126, 127, 4095, 16_376, 16_377, 16_378, 16_379, 70_000, 2_097_145, 2_097_146];
        for size in sizes {
            run.push_front(Item::Text(&vec![b'x'; size]));
        }
        let sizes_back: Vec<_> = run.iter_back(run.size()).map(|(_, item)| item.len()).collect();
        assert_eq!(sizes_back, sizes);
    }
}
