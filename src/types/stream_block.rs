//! Some entries of a stream in one buffer. Knows bytes only.
//!
//! The buffer begins with the field names of the first entry; an entry with the same names holds only its values. An
//! entry is `flags 1 | ms | seq | fields`: the ID as its difference from the block's first, numbers with seven bits a byte,
//! values as [`Item`]s. A removed entry stays, with a flag, until the last of its block is removed.

use super::packed::Item;
use std::fmt;

/// An entry's ID: a time in ms, and a number among the entries of that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The time.
    pub ms: u64,
    /// The number.
    pub seq: u64,
}

impl Id {
    /// The smallest.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The largest.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The next one.
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The one before.
    pub fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// An entry.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its ID.
    pub id: Id,
    fields: usize,
    /// The block's field names, if they are the entry's.
    names: Option<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Fields.
    pub fn len(&self) -> usize {
        self.fields
    }

    /// True without fields, which no entry is.
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// True if its field names are those of its block.
    pub fn has_shared_names(&self) -> bool {
        self.names.is_some()
    }

    /// Calls `f` with each field's name and value in turn.
    #[inline]
    pub fn each(&self, mut f: impl FnMut(Item<'a>)) {
        let (mut names, mut body) = (self.names, self.body);
        for _ in 0..self.fields {
            f(match &mut names {
                Some(names) => take(names),
                None => take(&mut body),
            });
            f(take(&mut body));
        }
    }
}

#[inline]
fn take<'a>(from: &mut &'a [u8]) -> Item<'a> {
    let (item, size) = Item::read(from);
    *from = &from[size..];
    item
}

const DELETED: u8 = 1;
const SAME_NAMES: u8 = 2;

/// Some entries; its first ID is kept beside it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Where the entries begin.
    start: u32,
    /// Entries that are not removed.
    pub(super) live: u32,
    deleted: u32,
    /// The size that Redis's node with the same entries has: it says when the block is full.
    listpack: u32,
}

fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[inline]
fn number(from: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = from[0];
        *from = &from[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

fn put_item(to: &mut Vec<u8>, item: Item<'_>) -> usize {
    let (start, size) = (to.len(), item.size());
    to.resize(start + size, 0);
    item.write(&mut to[start..]);
    size + super::list_chunk::back_size(size)
}

/// Bytes that a listpack takes for an integer.
fn integer_size(value: i64) -> usize {
    super::list_chunk::full_size(Item::Int(value))
}

impl Block {
    /// A block with the field names of its first entry, which is still to be added.
    pub(super) fn new<'v>(mut words: impl ExactSizeIterator<Item = &'v [u8]>) -> Self {
        let (mut bytes, names) = (Vec::with_capacity(120), words.len() / 2);
        put_number(&mut bytes, names as u64);
        // The head, an empty listpack's bytes, and the counts: entries, removed entries, fields, a final 0.
        let mut listpack = 7 + 2 + 2 + 2 + integer_size(names as i64);
        while let (Some(name), Some(_)) = (words.next(), words.next()) {
            listpack += put_item(&mut bytes, Item::of(name));
        }
        let start = bytes.len() as u32;
        Self { bytes, start, live: 0, deleted: 0, listpack: listpack as u32 }
    }

    /// True if an entry of so many bytes may be added.
    pub(super) fn has_room(&self, bytes: usize, limits: Limits) -> bool {
        let max_bytes = if limits.bytes == 0 { BYTES_MAX } else { limits.bytes.min(BYTES_MAX) };
        let max_entries = if limits.entries == 0 { usize::MAX } else { limits.entries };
        self.listpack as usize + bytes < max_bytes && ((self.live + self.deleted) as usize) < max_entries
    }

    /// Adds an entry: names and values in turn. Its ID is the largest; `first` is the block's first.
    pub(super) fn add<'v>(&mut self, first: Id, id: Id, words: impl ExactSizeIterator<Item = &'v [u8]> + Clone) {
        let count = words.len() / 2;
        let same = self.has_names(words.clone());
        let ms = id.ms - first.ms;
        let seq = if ms == 0 { id.seq - first.seq } else { id.seq };
        self.bytes.push(if same { SAME_NAMES } else { 0 });
        put_number(&mut self.bytes, ms);
        put_number(&mut self.bytes, seq);
        let mut listpack = 2 + integer_size(ms as i64) + integer_size(id.seq.wrapping_sub(first.seq) as i64);
        let mut parts = 3 + count;
        if !same {
            put_number(&mut self.bytes, count as u64);
            listpack += integer_size(count as i64);
            parts += 1 + count;
        }
        for (index, word) in words.enumerate() {
            if !same || index % 2 == 1 {
                listpack += put_item(&mut self.bytes, Item::of(word));
            }
        }
        self.listpack += (listpack + integer_size(parts as i64)) as u32;
        self.live += 1;
    }

    fn has_names<'v>(&self, mut words: impl ExactSizeIterator<Item = &'v [u8]>) -> bool {
        let mut names = &self.bytes[..self.start as usize];
        if number(&mut names) != (words.len() / 2) as u64 {
            return false;
        }
        while let (Some(name), Some(_)) = (words.next(), words.next()) {
            if take(&mut names) != Item::of(name) {
                return false;
            }
        }
        true
    }

    /// Gives free space back.
    pub(super) fn seal(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Bytes that it takes from the allocator.
    pub(super) fn memory(&self) -> usize {
        crate::alloc::class_size(self.bytes.capacity())
    }

    /// The entries that are not removed, with their offsets. `first` is the block's first ID.
    #[inline]
    pub(super) fn iter(&self, first: Id) -> impl Iterator<Item = (usize, Entry<'_>)> {
        let mut at = self.start as usize;
        std::iter::from_fn(move || {
            while at < self.bytes.len() {
                let (offset, flags) = (at, self.bytes[at]);
                let (entry, end) = self.entry(first, at);
                at = end;
                if flags & DELETED == 0 {
                    return Some((offset, entry));
                }
            }
            None
        })
    }

    /// The entry at an offset, and where it ends.
    #[inline]
    fn entry(&self, first: Id, at: usize) -> (Entry<'_>, usize) {
        let mut rest = &self.bytes[at + 1..];
        let (ms, seq) = (number(&mut rest), number(&mut rest));
        let id = Id { ms: first.ms + ms, seq: if ms == 0 { first.seq + seq } else { seq } };
        let mut names = &self.bytes[..self.start as usize];
        let count = number(&mut names) as usize;
        let same = self.bytes[at] & SAME_NAMES != 0;
        let fields = if same { count } else { number(&mut rest) as usize };
        let body = rest;
        for _ in 0..if same { fields } else { fields * 2 } {
            rest = &rest[Item::skip(rest)..];
        }
        let entry = Entry { id, fields, names: same.then_some(names), body: &body[..body.len() - rest.len()] };
        (entry, self.bytes.len() - rest.len())
    }

    /// The last ID that was added, removed or not.
    pub(super) fn last_id(&self, first: Id) -> Id {
        let (mut at, mut last) = (self.start as usize, first);
        while at < self.bytes.len() {
            let (entry, end) = self.entry(first, at);
            (at, last) = (end, entry.id);
        }
        last
    }

    /// Removes the entry at an offset.
    pub(super) fn remove(&mut self, offset: usize) {
        self.bytes[offset] |= DELETED;
        self.live -= 1;
        self.deleted += 1;
    }
}

/// A block of a stream as it is written out: entries that share the names of their fields.
#[derive(Clone, Copy, Debug)]
pub struct StreamPart<'a> {
    first: Id,
    block: &'a Block,
}

impl<'a> StreamPart<'a> {
    pub(super) fn new(first: Id, block: &'a Block) -> Self {
        Self { first, block }
    }

    /// No entry has an ID below.
    pub fn first(&self) -> Id {
        self.first
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.block.live as usize
    }

    /// True without entries, which no part is.
    pub fn is_empty(&self) -> bool {
        self.block.live == 0
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = Item<'a>> + Clone + use<'a> {
        let mut rest = &self.block.bytes[..self.block.start as usize];
        let count = number(&mut rest);
        (0..count).map(move |_| take(&mut rest))
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (first, block) = (self.first, self.block);
        block.iter(first).map(|(_, entry)| entry)
    }
}

/// The most that a block holds, whatever the directives say.
const BYTES_MAX: usize = 1 << 30;

/// How much a block holds; 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `stream-node-max-bytes`.
    pub bytes: usize,
    /// `stream-node-max-entries`.
    pub entries: usize,
}
