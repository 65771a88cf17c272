//! A deque of chunks: how large lists are kept. Knows bytes only.
//!
//! Chunks lie in blocks of up to 128, each of which knows the number of its elements. So an element is found by its
//! index past whole blocks, then past whole chunks, and no growth moves more than a pointer per block.

use super::list_chunk::{Chunk, Element, LISTPACK_OVERHEAD, Run, Wanted};
use super::packed::Item;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// Chunks of a block, at most.
const BLOCK: usize = 128;

/// Bytes that a chunk may have if its elements are counted.
const SAFE_SIZE: usize = 8192;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The front: left, head.
    Front,
    /// The back: right, tail.
    Back,
}

/// How much a chunk holds, from `list-max-listpack-size`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of a listpack.
    size: usize,
    count: usize,
}

impl Room {
    /// As the directive says: elements, or negative, a class of sizes.
    pub(super) fn of(directive: i32) -> Self {
        match directive {
            0.. => Self { size: SAFE_SIZE, count: (directive as usize).clamp(1, (1 << 15) - 1) },
            negative => Self { size: 2048 << negative.unsigned_abs().min(5), count: usize::MAX },
        }
    }

    /// Half of it.
    pub(super) fn half(self) -> Self {
        Self { size: self.size / 2, count: self.count / 2 }
    }

    /// True if so many elements of so many bytes, as a listpack counts them, fit into one chunk.
    #[inline]
    pub(super) fn fits(self, count: usize, size: usize) -> bool {
        count <= self.count && size <= self.size
    }

    /// True for a value that must stand alone.
    #[inline]
    fn is_large(self, value: &[u8]) -> bool {
        value.len() > self.size
    }

    /// True if a value of `len` bytes may be added to a run.
    #[inline]
    fn takes(self, run: &Run, len: usize) -> bool {
        // The eight are what an element may take beyond its bytes, as Redis estimates it.
        self.fits(run.len() + 1, LISTPACK_OVERHEAD + run.size() + len + 8)
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => run.len(),
            Self::Large(_) => 1,
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Run(run) => run.memory(),
            Self::Large(bytes) => crate::alloc::class_size(bytes.len()),
        }
    }

    /// Its run, or its only element.
    fn parts(&self) -> (Option<&Run>, Option<Element<'_>>) {
        match self {
            Self::Run(run) => (Some(run), None),
            Self::Large(bytes) => (None, Some(Element::Large(bytes))),
        }
    }

    /// A chunk of one value.
    fn of(value: &[u8], room: Room) -> Self {
        if room.is_large(value) {
            return Self::Large(Bytes::copy_from_slice(value));
        }
        let mut run = Run::default();
        run.push_back(Item::of(value));
        Self::Run(run)
    }

    fn seal(&mut self) {
        if let Self::Run(run) = self {
            run.seal();
        }
    }
}

/// Chunks that lie next to each other.
#[derive(Clone, Debug, Default)]
struct Block {
    chunks: VecDeque<Chunk>,
    /// Elements of them.
    len: usize,
}

/// A deque of chunks; no chunk and no block is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    blocks: VecDeque<Block>,
    len: usize,
    /// Redis would call it a quicklist; else there is one run, which may hold more than its room.
    pub(super) is_quicklist: bool,
}

/// Where an element is.
#[derive(Clone, Copy, Debug)]
struct Place {
    block: usize,
    chunk: usize,
    /// Its number in the chunk.
    index: usize,
}

impl Chunks {
    /// One run.
    pub(super) fn of(run: Run) -> Self {
        let len = run.len();
        let mut chunks = VecDeque::with_capacity(1);
        chunks.push_back(Chunk::Run(run));
        let mut blocks = VecDeque::with_capacity(1);
        blocks.push_back(Block { chunks, len });
        Self { blocks, len, is_quicklist: false }
    }

    /// Elements.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it takes from the allocator, beside itself: what some chunks take, as if all were like them.
    pub(super) fn memory(&self) -> usize {
        let chunks: usize = self.blocks.iter().map(|block| block.chunks.len()).sum();
        let sample = chunks.min(64);
        let sampled: usize = self.blocks.iter().flat_map(|block| &block.chunks).take(sample).map(Chunk::memory).sum();
        let lists: usize = self.blocks.iter().map(|block| block.chunks.capacity() * size_of::<Chunk>()).sum();
        sampled * chunks / sample.max(1) + lists + self.blocks.capacity() * size_of::<Block>()
    }

    /// The only chunk, if it is a run.
    pub(super) fn only_run(&self) -> Option<&Run> {
        match (self.blocks.len(), self.blocks.front()?.chunks.front()?) {
            (1, Chunk::Run(run)) if self.blocks[0].chunks.len() == 1 => Some(run),
            _ => None,
        }
    }

    #[inline]
    fn chunk_at(&mut self, end: End) -> Option<&mut Chunk> {
        match end {
            End::Front => self.blocks.front_mut()?.chunks.front_mut(),
            End::Back => self.blocks.back_mut()?.chunks.back_mut(),
        }
    }

    #[inline]
    fn block_at(&mut self, end: End) -> Option<&mut Block> {
        match end {
            End::Front => self.blocks.front_mut(),
            End::Back => self.blocks.back_mut(),
        }
    }

    /// Adds a value at an end.
    #[inline]
    pub(super) fn push(&mut self, end: End, value: &[u8], room: Room) {
        let is_quicklist = self.is_quicklist;
        if let Some(block) = self.block_at(end) {
            let chunk = if end == End::Front { block.chunks.front_mut() } else { block.chunks.back_mut() };
            if let Some(Chunk::Run(run)) = chunk
                && (!is_quicklist || !room.is_large(value) && room.takes(run, value.len()))
            {
                let item = Item::of(value);
                if end == End::Front {
                    run.push_front(item)
                } else {
                    run.push_back(item)
                }
                block.len += 1;
                self.len += 1;
                return;
            }
        }
        if let Some(chunk) = self.chunk_at(end) {
            chunk.seal();
        }
        self.push_chunk(end, Chunk::of(value, room));
    }

    fn push_chunk(&mut self, end: End, chunk: Chunk) {
        if self.block_at(end).is_none_or(|block| block.chunks.len() >= BLOCK) {
            match end {
                End::Front => self.blocks.push_front(Block::default()),
                End::Back => self.blocks.push_back(Block::default()),
            }
        }
        let len = chunk.len();
        self.len += len;
        if let Some(block) = self.block_at(end) {
            block.len += len;
            if end == End::Front { block.chunks.push_front(chunk) } else { block.chunks.push_back(chunk) }
        }
    }

    /// Calls `f` with the element at an end, and removes it.
    #[inline]
    pub(super) fn pop<R>(&mut self, end: End, f: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        let result = match self.chunk_at(end)? {
            Chunk::Run(run) => {
                let index = if end == End::Front { 0 } else { run.len() - 1 };
                f(Element::Item(run.get(index)))
            }
            Chunk::Large(bytes) => f(Element::Large(bytes)),
        };
        self.drop(end, 1);
        Some(result)
    }

    /// Takes whole blocks off an end, of so many elements at most; None if there are none.
    pub(super) fn cut(&mut self, end: End, count: usize) -> Option<Self> {
        let mut cut = Self { is_quicklist: true, ..Self::default() };
        while let Some(block) = self.block_at(end)
            && cut.len + block.len <= count
        {
            let block = std::mem::take(block);
            cut.len += block.len;
            if end == End::Front {
                self.blocks.pop_front();
                cut.blocks.push_back(block);
            } else {
                self.blocks.pop_back();
                cut.blocks.push_front(block);
            }
        }
        self.len -= cut.len;
        (cut.len > 0).then_some(cut)
    }

    /// Removes so many elements, as many as there are, at an end.
    pub(super) fn drop(&mut self, end: End, mut count: usize) {
        while count > 0 {
            let Some(block) = self.block_at(end) else { return };
            let chunk = if end == End::Front { block.chunks.front_mut() } else { block.chunks.back_mut() };
            let len = chunk.as_ref().map_or(0, |chunk| chunk.len());
            let gone = match chunk {
                _ if count >= block.len => {
                    let gone = block.len;
                    if end == End::Front {
                        self.blocks.pop_front()
                    } else {
                        self.blocks.pop_back()
                    };
                    self.len -= gone;
                    count -= gone;
                    continue;
                }
                Some(Chunk::Run(run)) if count < len => {
                    if end == End::Front {
                        run.drop_front(count)
                    } else {
                        run.drop_back(count)
                    }
                    count
                }
                _ => {
                    if end == End::Front {
                        block.chunks.pop_front()
                    } else {
                        block.chunks.pop_back()
                    };
                    len
                }
            };
            block.len -= gone;
            self.len -= gone;
            count -= gone;
        }
    }

    /// Where element number `index` is; it must be there.
    fn place(&self, index: usize) -> Place {
        let (block, rest) = seek(self.blocks.iter().map(|block| block.len), self.len, index);
        let Block { chunks, len } = &self.blocks[block];
        let (chunk, index) = seek(chunks.iter().map(Chunk::len), *len, rest);
        Place { block, chunk, index }
    }

    /// Element number `index`, which must be there.
    pub(super) fn get(&self, index: usize) -> Element<'_> {
        let Place { block, chunk, index } = self.place(index);
        match &self.blocks[block].chunks[chunk] {
            Chunk::Run(run) => Element::Item(run.get(index)),
            Chunk::Large(bytes) => Element::Large(bytes),
        }
    }

    /// Calls `f` with the elements of a range, which must be there.
    pub(super) fn each(&self, range: Range<usize>, mut f: impl FnMut(Element<'_>)) {
        let mut left = range.len();
        if left == 0 {
            return;
        }
        let Place { block, mut chunk, mut index } = self.place(range.start);
        for block in self.blocks.range(block..) {
            for chunk in block.chunks.range(chunk..) {
                let count = left.min(chunk.len() - index);
                match chunk {
                    Chunk::Run(run) => {
                        run.iter_from(run.offset(index)).take(count).for_each(|(_, item)| f(Element::Item(item)));
                    }
                    Chunk::Large(bytes) => f(Element::Large(bytes)),
                }
                left -= count;
                index = 0;
                if left == 0 {
                    return;
                }
            }
            chunk = 0;
        }
    }

    /// The elements from the first to the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.blocks.iter().flat_map(|block| block.chunks.iter()).flat_map(|chunk| {
            let (run, large) = chunk.parts();
            run.into_iter().flat_map(Run::iter).map(|(_, item)| Element::Item(item)).chain(large)
        })
    }

    /// The elements from the last to the first.
    pub(super) fn iter_back(&self) -> impl Iterator<Item = Element<'_>> {
        self.blocks.iter().rev().flat_map(|block| block.chunks.iter().rev()).flat_map(|chunk| {
            let (run, large) = chunk.parts();
            let items = run.into_iter().flat_map(|run| run.iter_back(run.size()));
            items.map(|(_, item)| Element::Item(item)).chain(large)
        })
    }

    /// Replaces element number `index`, which must be there.
    pub(super) fn set(&mut self, index: usize, value: &[u8], room: Room) {
        let Place { block: at, chunk, index } = self.place(index);
        let block = &mut self.blocks[at];
        match &mut block.chunks[chunk] {
            Chunk::Run(run) if run.len() > 1 && room.is_large(value) => {
                run.remove(run.offset(index));
                block.len -= 1;
                self.len -= 1;
                self.insert_between(at, chunk, index, Chunk::of(value, room));
            }
            Chunk::Run(run) if !room.is_large(value) => {
                run.replace(run.offset(index), Item::of(value));
                if self.is_quicklist && run.len() > 1 && run.size() > room.size * 2 {
                    let rest = Chunk::Run(run.split_off(run.len() / 2));
                    block.chunks.insert(chunk + 1, rest);
                    self.split_block(at);
                }
            }
            only => {
                *only = Chunk::of(value, room);
                block.join(chunk, room);
                block.join(chunk.wrapping_sub(1), room);
            }
        }
    }

    /// Adds a value before element number `index`, which must be there.
    pub(super) fn insert(&mut self, index: usize, value: &[u8], room: Room) {
        let Place { block: at, chunk, index } = self.place(index);
        let (is_quicklist, block) = (self.is_quicklist, &mut self.blocks[at]);
        let add = |chunk: Option<&mut Chunk>, index: usize| {
            let Some(Chunk::Run(run)) = chunk else { return false };
            let fits = !is_quicklist || !room.is_large(value) && room.takes(run, value.len());
            if fits {
                run.insert(run.offset(index.min(run.len())), Item::of(value));
            }
            fits
        };
        let before = chunk.checked_sub(1).filter(|_| index == 0);
        if add(block.chunks.get_mut(chunk), index)
            || before.is_some_and(|before| add(block.chunks.get_mut(before), usize::MAX))
        {
            block.len += 1;
            self.len += 1;
        } else {
            self.insert_between(at, chunk, index, Chunk::of(value, room));
        }
    }

    /// Puts a chunk of one value before number `index` of another.
    fn insert_between(&mut self, at: usize, chunk: usize, index: usize, new: Chunk) {
        let block = &mut self.blocks[at];
        block.len += 1;
        self.len += 1;
        match &mut block.chunks[chunk] {
            Chunk::Run(run) if index > 0 && index < run.len() => {
                let rest = Chunk::Run(run.split_off(index));
                run.seal();
                block.chunks.insert(chunk + 1, new);
                block.chunks.insert(chunk + 2, rest);
            }
            whole => {
                let behind = usize::from(index > 0 && index >= whole.len());
                block.chunks.insert(chunk + behind, new);
            }
        }
        self.split_block(at);
    }

    /// Cuts a block in two if it has grown too large.
    fn split_block(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        if block.chunks.len() <= BLOCK {
            return;
        }
        let chunks = block.chunks.split_off(BLOCK / 2);
        let len = chunks.iter().map(Chunk::len).sum();
        block.len -= len;
        self.blocks.insert(at + 1, Block { chunks, len });
    }

    /// Removes elements that are `wanted`, from `end` on, `most` of them at most; returns how many were removed.
    pub(super) fn remove(&mut self, wanted: Wanted<'_>, end: End, most: usize, room: Room) -> usize {
        let (count, mut left) = (self.blocks.len(), most);
        for step in 0..count {
            let block = &mut self.blocks[if end == End::Front { step } else { count - 1 - step }];
            let removed = block.remove(wanted, end, left, room);
            left -= removed;
            self.len -= removed;
            if left == 0 {
                break;
            }
        }
        self.blocks.retain(|block| block.len > 0);
        most - left
    }
}

/// Which of the parts, which hold so many elements each and `total` together, has number `index`, and as which
/// number of its own. Walks from the nearer end.
#[inline]
fn seek(
    parts: impl DoubleEndedIterator<Item = usize> + ExactSizeIterator,
    total: usize,
    index: usize,
) -> (usize, usize) {
    if index < total / 2 {
        let mut rest = index;
        for (at, len) in parts.enumerate() {
            if rest < len {
                return (at, rest);
            }
            rest -= len;
        }
    } else {
        let mut rest = total - 1 - index;
        for (at, len) in parts.enumerate().rev() {
            if rest < len {
                return (at, len - 1 - rest);
            }
            rest -= len;
        }
    }
    unreachable!("the parts hold {total} elements")
}

impl Block {
    /// Makes one chunk of number `at` and the one behind it, if they are there and fit into one.
    fn join(&mut self, at: usize, room: Room) {
        let behind = at.wrapping_add(1);
        if let (Some(Chunk::Run(first)), Some(Chunk::Run(second))) = (self.chunks.get(at), self.chunks.get(behind))
            && room.fits(first.len() + second.len(), LISTPACK_OVERHEAD + first.size() + second.size())
            && let Some(Chunk::Run(second)) = self.chunks.remove(behind)
            && let Some(Chunk::Run(first)) = self.chunks.get_mut(at)
        {
            first.append(&second);
        }
    }

    /// As [`Chunks::remove`]; small chunks that come to lie next to each other are joined.
    fn remove(&mut self, wanted: Wanted<'_>, end: End, most: usize, room: Room) -> usize {
        let (count, mut left) = (self.chunks.len(), most);
        for step in 0..count {
            let chunk = &mut self.chunks[if end == End::Front { step } else { count - 1 - step }];
            left -= match chunk {
                Chunk::Run(run) => remove_from_run(run, wanted, end, left),
                Chunk::Large(bytes) if wanted.is(Element::Large(bytes)) => {
                    *chunk = Chunk::Run(Run::default());
                    1
                }
                Chunk::Large(_) => 0,
            };
            if left == 0 {
                break;
            }
        }
        if left < most {
            self.len -= most - left;
            let half = room.half();
            for chunk in std::mem::take(&mut self.chunks) {
                match (self.chunks.back_mut(), chunk) {
                    (_, Chunk::Run(run)) if run.len() == 0 => {}
                    (Some(Chunk::Run(last)), Chunk::Run(run))
                        if half.fits(last.len() + run.len(), last.size() + run.size()) =>
                    {
                        last.append(&run);
                    }
                    (_, chunk) => self.chunks.push_back(chunk),
                }
            }
        }
        most - left
    }
}

fn remove_from_run(run: &mut Run, wanted: Wanted<'_>, end: End, most: usize) -> usize {
    let is_wanted = |item: Item<'_>| wanted.is(Element::Item(item));
    let mut offsets: Vec<usize> = match end {
        End::Front => run.iter().filter(|(_, item)| is_wanted(*item)).map(|(at, _)| at).take(most).collect(),
        End::Back => {
            run.iter_back(run.size()).filter(|(_, item)| is_wanted(*item)).map(|(at, _)| at).take(most).collect()
        }
    };
    if end == End::Back {
        offsets.reverse();
    }
    run.remove_all(&offsets);
    offsets.len()
}
