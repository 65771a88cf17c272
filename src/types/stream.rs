//! Entries with IDs, and groups of readers. Knows bytes only.
//!
//! Entries lie in blocks of about a hundred, found by the first ID of each in a B-tree: so adding and trimming cost
//! nothing that grows with the stream. A block ends where a node of Redis's stream would, because trimming with `~`
//! removes whole blocks, and clients see which.

use super::stream_block::Block;
pub use super::stream_block::{Entry, Id, Limits, StreamPart};
pub use super::stream_group::Group;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Entries with IDs, and groups of readers.
#[derive(Clone, Debug, Default)]
pub struct Stream(Option<Box<Inner>>);

#[derive(Clone, Debug, Default)]
struct Inner {
    /// By the first ID that was added to each; no block is without entries.
    blocks: BTreeMap<Id, Block>,
    len: u64,
    first_id: Id,
    last_id: Id,
    max_deleted_id: Id,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
}

/// Up to where a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many entries stay.
    Last(u64),
    /// Entries from this ID on stay.
    From(Id),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    /// What stays.
    pub keep: Keep,
    /// Only whole blocks go.
    pub is_rough: bool,
    /// No more than so many entries go; 0: any number.
    pub limit: u64,
    /// What becomes of the groups' notes about them.
    pub references: References,
}

/// What becomes of groups' notes about an entry that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum References {
    /// They stay.
    Keep,
    /// They go.
    Delete,
    /// The entry is only removed if all groups have acknowledged it.
    Acknowledged,
}

/// What came of removing an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// It is not there.
    Missing,
    /// A group has not acknowledged it.
    Referenced,
}

static NO_BLOCKS: BTreeMap<Id, Block> = BTreeMap::new();
static NO_GROUPS: BTreeMap<Box<[u8]>, Group> = BTreeMap::new();

impl Stream {
    fn inner(&mut self) -> &mut Inner {
        self.0.get_or_insert_default()
    }

    fn blocks(&self) -> &BTreeMap<Id, Block> {
        self.0.as_ref().map_or(&NO_BLOCKS, |inner| &inner.blocks)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.len as usize)
    }

    /// Entries, and what its groups note of them: what dropping it frees, at most.
    pub fn burden(&self) -> usize {
        self.len() + self.groups().values().map(Group::pending).sum::<usize>()
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted: what some blocks take, as if all were like them.
    pub fn memory(&self) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let sample = inner.blocks.len().min(64);
        let sampled: usize = inner.blocks.values().take(sample).map(Block::memory).sum();
        let nodes = inner.blocks.len() * (size_of::<Id>() + size_of::<Block>()) * 4 / 3;
        let groups: usize =
            inner.groups.iter().map(|(name, group)| name.len() + 16 + size_of::<Group>() + group.memory()).sum();
        size_of::<Inner>() + sampled * inner.blocks.len() / sample.max(1) + nodes + groups
    }

    /// Blocks.
    pub fn blocks_len(&self) -> usize {
        self.blocks().len()
    }

    /// The last ID that was given.
    pub fn last_id(&self) -> Id {
        self.0.as_ref().map_or(Id::MIN, |inner| inner.last_id)
    }

    /// The ID of the first entry; 0-0 without entries.
    pub fn first_id(&self) -> Id {
        self.0.as_ref().map_or(Id::MIN, |inner| inner.first_id)
    }

    /// The largest ID that was removed, not counting what was trimmed.
    pub fn max_deleted_id(&self) -> Id {
        self.0.as_ref().map_or(Id::MIN, |inner| inner.max_deleted_id)
    }

    /// Entries that were ever added.
    pub fn entries_added(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.entries_added)
    }

    /// Sets what XSETID sets.
    pub fn set_ids(&mut self, last_id: Id, entries_added: Option<u64>, max_deleted_id: Option<Id>) {
        let inner = self.inner();
        inner.last_id = last_id;
        inner.entries_added = entries_added.unwrap_or(inner.entries_added);
        inner.max_deleted_id = max_deleted_id.unwrap_or(inner.max_deleted_id);
    }

    /// Adds an entry, names and values in turn, with an ID larger than the last.
    pub fn add<'v>(&mut self, id: Id, words: impl ExactSizeIterator<Item = &'v [u8]> + Clone, limits: Limits) {
        let inner = self.inner();
        inner.entries_added = inner.entries_added.wrapping_add(1);
        inner.append(None, id, words, limits);
    }

    /// Adds an entry as it was kept elsewhere: among those from `node` on, which is not above its ID. That is larger than the
    /// IDs of all entries before.
    pub fn load<'v>(&mut self, node: Id, id: Id, words: impl ExactSizeIterator<Item = &'v [u8]> + Clone) {
        const ANY: Limits = Limits { bytes: 0, entries: 0 };
        self.inner().append(Some(node), id, words, ANY);
    }

    /// Its blocks.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = StreamPart<'_>> {
        self.blocks().iter().map(|(first, block)| StreamPart::new(*first, block))
    }

    /// The entries of a range, the first first.
    pub fn range(&self, range: RangeInclusive<Id>) -> impl Iterator<Item = Entry<'_>> {
        let (start, end) = range.into_inner();
        let from = self.block_of(start);
        let blocks = (start <= end).then(|| self.blocks().range(from..=end));
        blocks
            .into_iter()
            .flatten()
            .flat_map(|(first, block)| block.iter(*first))
            .map(|(_, entry)| entry)
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
    }

    /// The entries of a range, the last first.
    pub fn range_back(&self, range: RangeInclusive<Id>) -> impl Iterator<Item = Entry<'_>> {
        let (start, end) = range.into_inner();
        let from = self.block_of(start);
        let blocks = (start <= end).then(|| self.blocks().range(from..=end).rev());
        blocks
            .into_iter()
            .flatten()
            .flat_map(|(first, block)| {
                let entries: Vec<_> = block.iter(*first).map(|(_, entry)| entry).collect();
                entries.into_iter().rev()
            })
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
    }

    /// The first ID of the block in which `id` would be.
    fn block_of(&self, id: Id) -> Id {
        self.blocks().range(..=id).next_back().map_or(id, |(first, _)| *first)
    }

    /// An entry.
    pub fn get(&self, id: Id) -> Option<Entry<'_>> {
        self.range(id..=id).next()
    }

    /// Removes an entry as XDEL does.
    pub fn remove(&mut self, id: Id, references: References) -> Removal {
        let Some(inner) = &mut self.0 else { return Removal::Missing };
        if references == References::Acknowledged && !inner.groups.values().all(|group| group.is_done_with(id)) {
            return Removal::Referenced;
        }
        let is_removed = inner.take_out(id);
        if references == References::Delete {
            inner.groups.values_mut().for_each(|group| {
                group.acknowledge(id);
            });
        }
        if !is_removed {
            return Removal::Missing;
        }
        inner.max_deleted_id = inner.max_deleted_id.max(id);
        if id == inner.first_id {
            inner.find_first();
        }
        Removal::Done
    }

    /// Trims it; returns how many entries went, and whole blocks of them as a stream, to be dropped.
    pub fn trim(&mut self, trim: &Trim) -> (usize, Self) {
        let Some(inner) = &mut self.0 else { return (0, Self::default()) };
        let keeps_references = trim.references == References::Keep || inner.groups.is_empty() && !trim.is_rough;
        let cut = if keeps_references { inner.cut(trim) } else { Inner::default() };
        let removed = cut.len as usize + inner.trim(trim, cut.len);
        if removed > 0 {
            inner.find_first();
        }
        (removed, Self((cut.len > 0).then(|| Box::new(cut))))
    }

    /// The groups by name.
    pub fn groups(&self) -> &BTreeMap<Box<[u8]>, Group> {
        self.0.as_ref().map_or(&NO_GROUPS, |inner| &inner.groups)
    }

    /// The groups, to change.
    pub fn groups_mut(&mut self) -> &mut BTreeMap<Box<[u8]>, Group> {
        &mut self.inner().groups
    }

    /// Takes a group out, alone in a stream, to be dropped.
    pub fn take_group(&mut self, name: &[u8]) -> Option<Self> {
        let (name, group) = self.0.as_mut()?.groups.remove_entry(name)?;
        let mut taken = Self::default();
        taken.groups_mut().insert(name, group);
        Some(taken)
    }

    /// A group, to change.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.0.as_mut()?.groups.get_mut(name)
    }

    /// A group is given an entry: notes how far it has read.
    pub fn note_read(&mut self, name: &[u8], id: Id) {
        let Some(group) = self.groups().get(name).filter(|group| id > group.last_id) else { return };
        let read = match group.entries_read {
            Some(read) if group.last_id >= self.first_id() && !self.has_gaps_from(group.last_id) => {
                Some(read.wrapping_add(1))
            }
            _ if self.entries_added() > 0 => self.rank(id),
            read => read,
        };
        if let Some(group) = self.group_mut(name) {
            (group.last_id, group.entries_read) = (id, read);
        }
    }

    /// What a group is told to have read: never more than was ever added. (Counts wrap: XSETID sets them to anything.)
    pub fn read_at_most(&self, read: Option<i64>) -> Option<i64> {
        read.map(|read| (read as u64).min(self.entries_added()) as i64)
    }

    /// How many of the entries ever added have an ID up to `id`, if that can be told.
    pub fn rank(&self, id: Id) -> Option<i64> {
        let Some(inner) = &self.0 else { return Some(0) };
        let added = inner.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        if inner.len == 0 && id <= inner.last_id {
            return Some(added);
        }
        if id != Id::MIN && id < inner.max_deleted_id {
            return None;
        }
        if id >= inner.last_id {
            return (id == inner.last_id).then_some(added);
        }
        let is_whole = inner.max_deleted_id == Id::MIN || inner.max_deleted_id < inner.first_id;
        match id.cmp(&inner.first_id) {
            std::cmp::Ordering::Less if is_whole => Some(added.wrapping_sub(inner.len as i64)),
            std::cmp::Ordering::Equal if is_whole => Some(added.wrapping_sub(inner.len as i64 - 1)),
            _ => None,
        }
    }

    /// True if an entry from `id` on was removed that is not known to lie before the first.
    pub fn has_gaps_from(&self, id: Id) -> bool {
        let Some(inner) = &self.0 else { return false };
        inner.len > 0
            && inner.max_deleted_id != Id::MIN
            && inner.first_id <= inner.max_deleted_id
            && id <= inner.max_deleted_id
    }

    /// How many entries a group has still to read, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.entries_added() as i64;
        if added == 0 {
            return Some(0);
        }
        if self.is_empty() {
            return Some(0);
        }
        if group.last_id < self.first_id() && self.max_deleted_id() < self.first_id() {
            return Some(self.len() as i64);
        }
        match group.entries_read {
            Some(read) if !self.has_gaps_from(group.last_id) => Some(added.wrapping_sub(read)),
            _ => self.rank(group.last_id).map(|read| added.wrapping_sub(read)),
        }
    }
}

impl Inner {
    /// Appends an entry: to the last block, if that is `node` (None: whichever it is) and has room, else to a new one.
    fn append<'v>(
        &mut self,
        node: Option<Id>,
        id: Id,
        words: impl ExactSizeIterator<Item = &'v [u8]> + Clone,
        limits: Limits,
    ) {
        let bytes = words.clone().map(<[u8]>::len).sum();
        if self.len == 0 {
            self.first_id = id;
        }
        self.len += 1;
        self.last_id = id;
        let mut start = node.unwrap_or(id);
        if let Some(mut last) = self.blocks.last_entry() {
            let first = *last.key();
            let is_its = node.is_none_or(|node| node == first);
            let block = last.get_mut();
            // A block's IDs are kept as differences from its first, which must fit what Redis keeps them in.
            if is_its && block.has_room(bytes, limits) {
                return block.add(first, id, words);
            }
            block.seal();
            if is_its {
                start = id;
            }
        }
        let mut block = Block::new(words.clone());
        block.add(start, id, words);
        self.blocks.insert(start, block);
    }

    fn find_first(&mut self) {
        let first = self.blocks.iter().next().and_then(|(first, block)| block.iter(*first).next());
        self.first_id = first.map_or(Id::MIN, |(_, entry)| entry.id);
    }

    /// Removes an entry; true if it was there.
    fn take_out(&mut self, id: Id) -> bool {
        let Some((&first, block)) = self.blocks.range_mut(..=id).next_back() else { return false };
        let Some((offset, _)) = block.iter(first).find(|(_, entry)| entry.id == id) else { return false };
        block.remove(offset);
        if block.live == 0 {
            self.blocks.remove(&first);
        }
        self.len -= 1;
        true
    }

    /// Takes out the blocks of which nothing is to stay.
    fn cut(&mut self, trim: &Trim) -> Self {
        let (mut gone, mut stays) = (0, None);
        let mut blocks = self.blocks.iter().peekable();
        while let Some((&first, block)) = blocks.next() {
            let live = u64::from(block.live);
            let is_whole = match trim.keep {
                Keep::Last(len) => self.len - gone - live >= len,
                // Only the last of these blocks has to be read.
                Keep::From(id) => blocks.peek().is_some_and(|(next, _)| **next <= id) || block.last_id(first) < id,
            };
            if !is_whole || trim.limit > 0 && gone + live > trim.limit {
                stays = Some(first);
                break;
            }
            gone += live;
        }
        if gone == 0 {
            return Self::default();
        }
        let kept = stays.map(|first| self.blocks.split_off(&first)).unwrap_or_default();
        self.len -= gone;
        Self { blocks: std::mem::replace(&mut self.blocks, kept), len: gone, ..Self::default() }
    }

    /// Removes entries, of which so many have gone.
    fn trim(&mut self, trim: &Trim, gone: u64) -> usize {
        let (mut removed, mut from) = (0, Id::MIN);
        while let Some((&first, block)) = self.blocks.range_mut(from..).next() {
            let live = u64::from(block.live);
            let is_enough = match trim.keep {
                Keep::Last(len) => self.len <= len,
                Keep::From(id) => first >= id,
            };
            if is_enough {
                break;
            }
            if trim.limit > 0 && gone + removed as u64 + live > trim.limit {
                break;
            }
            let is_whole = match trim.keep {
                Keep::Last(len) => self.len - live >= len,
                Keep::From(id) => block.last_id(first) < id,
            };
            if trim.is_rough && (!is_whole || trim.references != References::Keep) {
                // As in Redis, where whole nodes are only dropped if no group must be asked.
                break;
            }
            let entries: Vec<_> = block.iter(first).map(|(offset, entry)| (offset, entry.id)).collect();
            for (offset, id) in entries {
                let is_kept = match trim.keep {
                    Keep::Last(len) => self.len <= len,
                    Keep::From(from) => id >= from,
                };
                if is_kept {
                    break;
                }
                if trim.references == References::Acknowledged
                    && !self.groups.values().all(|group| group.is_done_with(id))
                {
                    continue;
                }
                block.remove(offset);
                self.len -= 1;
                removed += 1;
                if trim.references == References::Delete {
                    self.groups.values_mut().for_each(|group| {
                        group.acknowledge(id);
                    });
                }
            }
            if block.live == 0 {
                self.blocks.remove(&first);
            }
            let Some(next) = first.next() else { break };
            from = next;
        }
        removed
    }
}
