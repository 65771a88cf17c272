//! A large sorted set: the members in their order ([`Counted`]), and by their hash ([`Index`]). Knows bytes only.
//!
//! A member is one allocation, which both refer to, `score 8 | length 1 or 5 | text`; its score stands in the order
//! as well, so that finding a place there reads few members. [`Full`] owns the members: one is in both or in neither, and is
//! freed only after it has been taken out of both, or with the whole. That is why the unsafe code here is sound; it is in
//! this file alone.
#![allow(unsafe_code)]

use super::counted::{Counted, Iter};
use super::zset_index::Index;
use crate::alloc::class_size;
use foldhash::quality::RandomState;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::LazyLock;

/// In the byte of the length: the length stands in the four behind it.
const LONG: u8 = 255;
const TEXT: usize = 9;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

#[inline]
fn hash_of(text: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(text);
    hasher.finish()
}

/// A pointer to a member.
#[derive(Clone, Copy, Debug)]
struct Member(NonNull<u8>);

// SAFETY: the set owns its members, which are plain bytes; a shared set only reads them.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

fn layout(len: usize) -> Layout {
    let head = if len < usize::from(LONG) { TEXT } else { TEXT + 4 };
    Layout::from_size_align(head + len, 8).expect("a member is far smaller than the address space")
}

impl Member {
    fn new(text: &[u8], score: f64) -> Self {
        assert!(text.len() < 1 << 32, "members are shorter than 4 GiB");
        let layout = layout(text.len());
        // SAFETY: the layout is not empty.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: all writes lie within the layout: the score, the length in one byte or five, then the text.
        unsafe {
            base.cast::<f64>().write(score);
            let head = if text.len() < usize::from(LONG) {
                base.add(8).write(text.len() as u8);
                TEXT
            } else {
                base.add(8).write(LONG);
                base.add(TEXT).cast::<u32>().write_unaligned(text.len() as u32);
                TEXT + 4
            };
            base.add(head).as_ptr().copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
        Self(base)
    }

    /// # Safety
    /// The member must not be freed while the text is borrowed.
    #[inline]
    unsafe fn text<'a>(self) -> &'a [u8] {
        // SAFETY: the member is not freed, and was written in this form.
        unsafe {
            let (head, len) = match self.0.add(8).read() {
                LONG => (TEXT + 4, self.0.add(TEXT).cast::<u32>().read_unaligned() as usize),
                len => (TEXT, usize::from(len)),
            };
            std::slice::from_raw_parts(self.0.add(head).as_ptr(), len)
        }
    }

    /// # Safety
    /// The member must not have been freed.
    #[inline]
    unsafe fn score(self) -> f64 {
        // SAFETY: as the caller promises; the pointer is 8-aligned.
        unsafe { self.0.cast::<f64>().read() }
    }

    /// # Safety
    /// The member must not have been freed, and nobody else may read its score meanwhile.
    unsafe fn set_score(self, score: f64) {
        // SAFETY: as the caller promises.
        unsafe { self.0.cast::<f64>().write(score) }
    }

    /// Frees it; gives the bytes that the allocator gets back.
    ///
    /// # Safety
    /// The member must not have been freed, and nobody may use it again.
    unsafe fn free(self) -> usize {
        // SAFETY: as the caller promises; it was allocated with the layout of its length.
        unsafe {
            let layout = layout(self.text().len());
            dealloc(self.0.as_ptr(), layout);
            class_size(layout.size())
        }
    }
}

/// A member in the order.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    score: f64,
    member: Member,
}

impl Ranked {
    /// True if it stands in front of `(score, text)`.
    #[inline]
    fn is_before(&self, score: f64, text: &[u8]) -> bool {
        match self.score.partial_cmp(&score) {
            Some(Ordering::Less) => true,
            // SAFETY: what is in the order has not been freed.
            Some(Ordering::Equal) => unsafe { self.member.text() < text },
            _ => false,
        }
    }
}

/// A large sorted set.
#[derive(Debug, Default)]
pub(super) struct Full {
    order: Counted<Ranked>,
    index: Index<Member>,
    /// Of the members, in the allocator's classes.
    bytes: usize,
}

/// The hash of a member of an index.
fn rehash(member: &Member) -> u64 {
    // SAFETY: what is in the index has not been freed.
    hash_of(unsafe { member.text() })
}

impl Full {
    /// Members.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes that it takes from the allocator.
    pub(super) fn memory(&self) -> usize {
        class_size(size_of::<Self>()) + self.order.memory() + self.index.memory() + self.bytes
    }

    #[inline]
    fn find(&self, hash: u64, text: &[u8]) -> Option<Member> {
        // SAFETY: what is in the index has not been freed.
        self.index.find(hash, |member| unsafe { member.text() == text })
    }

    /// The score of a member.
    #[inline]
    pub(super) fn score(&self, text: &[u8]) -> Option<f64> {
        // SAFETY: what is in the index has not been freed.
        Some(unsafe { self.find(hash_of(text), text)?.score() })
    }

    /// How many stand in front of `(score, text)`.
    fn place(&self, score: f64, text: &[u8]) -> usize {
        self.order.partition_point(|other| other.is_before(score, text))
    }

    /// The rank and the score of a member.
    pub(super) fn rank(&self, text: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(text)?;
        Some((self.place(score, text), score))
    }

    /// Adds a member or changes its score; gives the score that it had.
    pub(super) fn set(&mut self, text: &[u8], score: f64) -> Option<f64> {
        let hash = hash_of(text);
        let Some(member) = self.find(hash, text) else {
            let member = Member::new(text, score);
            self.bytes += class_size(layout(text.len()).size());
            self.order.insert(self.place(score, text), Ranked { score, member });
            self.index.insert(hash, member, rehash);
            return None;
        };
        // SAFETY: what is in the index has not been freed.
        let old = unsafe { member.score() };
        if old != score {
            let (from, to) = (self.place(old, text), self.place(score, text));
            let ranked = Ranked { score, member };
            if to == from || to == from + 1 {
                self.order.replace(from, ranked);
            } else {
                self.order.remove(from..from + 1, drop);
                self.order.insert(if to > from { to - 1 } else { to }, ranked);
            }
            // SAFETY: as above; `&mut self` makes this the only access.
            unsafe { member.set_score(score) };
        }
        Some(old)
    }

    /// Removes a member; gives the score that it had.
    pub(super) fn remove(&mut self, text: &[u8]) -> Option<f64> {
        let (rank, score) = self.rank(text)?;
        self.remove_range(rank..rank + 1);
        Some(score)
    }

    /// Removes the members of a range of ranks.
    ///
    /// # Panics
    /// Past the end.
    pub(super) fn remove_range(&mut self, range: Range<usize>) {
        let (index, bytes) = (&mut self.index, &mut self.bytes);
        self.order.remove(range, |ranked| {
            let member = ranked.member;
            index.remove(rehash(&member), |other| other.0 == member.0, rehash);
            // SAFETY: it is in neither of the two any more.
            *bytes -= unsafe { member.free() };
        });
    }

    /// How many members stand at the start of which `before` holds for score and text.
    pub(super) fn partition_point(&self, mut before: impl FnMut(f64, &[u8]) -> bool) -> usize {
        // SAFETY: what is in the order has not been freed.
        self.order.partition_point(|ranked| before(ranked.score, unsafe { ranked.member.text() }))
    }

    /// The same where only the score counts.
    pub(super) fn partition_by_score(&self, mut before: impl FnMut(f64) -> bool) -> usize {
        self.order.partition_point(|ranked| before(ranked.score))
    }

    /// The members of a range of ranks with their scores.
    ///
    /// # Panics
    /// Past the end.
    pub(super) fn iter(&self, range: Range<usize>) -> Members<'_> {
        Members(self.order.iter(range))
    }

    /// Some members by a cursor; see [`Index::scan`].
    pub(super) fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(&[u8], f64)) -> u64 {
        // SAFETY: what is in the index has not been freed.
        self.index.scan(cursor, count, rehash, |member| unsafe { found(member.text(), member.score()) })
    }
}

impl Clone for Full {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        for (text, score) in self.iter(0..self.len()) {
            copy.set(text, score);
        }
        copy
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        for ranked in self.order.iter(0..self.order.len()) {
            // SAFETY: the set goes, and with it all that refers to its members.
            unsafe { ranked.member.free() };
        }
    }
}

/// Members of a range with their scores, from either end.
#[derive(Debug)]
pub(super) struct Members<'a>(Iter<'a, Ranked>);

impl<'a> Members<'a> {
    #[inline]
    fn give(ranked: Ranked) -> (&'a [u8], f64) {
        // SAFETY: the set is borrowed, so its members live.
        (unsafe { ranked.member.text() }, ranked.score)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Self::give)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Members<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(Self::give)
    }
}
