//! Writes streams, part by part as [`super::Dump`]'s caller hands them over. In the edition of Redis 7.0, which all later
//! servers read. Knows bytes only.

use super::stream::{Group, SAME_FIELDS, StreamId, StreamInfo};
use super::write::{Dump, Listpack, length, string};
use crate::types::Item;

/// Entries that share the names of their fields, being written.
#[derive(Debug)]
pub struct Node {
    first: StreamId,
    listpack: Listpack,
}

impl Node {
    /// A node for so many entries. Their IDs are `first` or later; `names` are the field names that they share.
    pub fn new<'a>(first: StreamId, entries: usize, names: impl Iterator<Item = Item<'a>> + Clone) -> Self {
        let mut listpack = Listpack::default();
        let count = |count: usize| Item::Int(count as i64);
        [count(entries), count(0), count(names.clone().count())].into_iter().for_each(|item| listpack.push(item));
        names.for_each(|name| listpack.push(name));
        listpack.push(Item::Int(0));
        Self { first, listpack }
    }

    /// An entry: its values if it has the shared names, else the names and values of so many fields.
    pub fn entry<'a>(&mut self, id: StreamId, own_names: Option<usize>, words: impl FnOnce(&mut dyn FnMut(Item<'a>))) {
        let flags = if own_names.is_none() { SAME_FIELDS } else { 0 };
        let differences = [id.0.wrapping_sub(self.first.0), id.1.wrapping_sub(self.first.1)];
        let before = self.listpack.count;
        self.listpack.push(Item::Int(flags));
        differences.into_iter().for_each(|difference| self.listpack.push(Item::Int(difference as i64)));
        if let Some(fields) = own_names {
            self.listpack.push(Item::Int(fields as i64));
        }
        words(&mut |word| self.listpack.push(word));
        let elements = self.listpack.count - before;
        self.listpack.push(Item::Int(elements as i64));
    }
}

impl Dump {
    /// A stream of so many nodes, which follow.
    pub fn stream(nodes: usize) -> Self {
        let mut dump = Self::new(19);
        length(&mut dump.out, nodes as u64);
        dump
    }

    /// A node of the stream.
    pub fn node(&mut self, mut node: Node) {
        let mut first = Vec::new();
        raw_id(&mut first, node.first);
        string(&mut self.out, &first);
        string(&mut self.out, &node.listpack.take());
    }

    /// What the stream is beyond its nodes, which have come; so many groups follow.
    pub fn stream_info(&mut self, info: &StreamInfo, groups: usize) {
        length(&mut self.out, info.len);
        self.id(info.last_id);
        self.id(info.first_id);
        self.id(info.max_deleted_id);
        length(&mut self.out, info.entries_added);
        length(&mut self.out, groups as u64);
    }

    /// A group with its pending entries: when each was delivered last, and how often. So many consumers follow.
    pub fn group(
        &mut self,
        group: &Group<'_>,
        pending: impl ExactSizeIterator<Item = (StreamId, i64, u64)>,
        consumers: usize,
    ) {
        string(&mut self.out, &group.name);
        self.id(group.last_id);
        length(&mut self.out, group.entries_read.unwrap_or(u64::MAX));
        length(&mut self.out, pending.len() as u64);
        for (id, at, count) in pending {
            raw_id(&mut self.out, id);
            self.out.extend_from_slice(&at.to_le_bytes());
            length(&mut self.out, count);
        }
        length(&mut self.out, consumers as u64);
    }

    /// A consumer of the group, when it was seen last, and which pending entries are its.
    pub fn consumer(&mut self, name: &[u8], seen: i64, owned: impl ExactSizeIterator<Item = StreamId>) {
        string(&mut self.out, name);
        self.out.extend_from_slice(&seen.to_le_bytes());
        length(&mut self.out, owned.len() as u64);
        owned.for_each(|id| raw_id(&mut self.out, id));
    }

    fn id(&mut self, id: StreamId) {
        length(&mut self.out, id.0);
        length(&mut self.out, id.1);
    }
}

fn raw_id(out: &mut Vec<u8>, id: StreamId) {
    out.extend_from_slice(&id.0.to_be_bytes());
    out.extend_from_slice(&id.1.to_be_bytes());
}
