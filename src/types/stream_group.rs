//! The groups that read a stream: what each has read, and what its consumers have not acknowledged. Knows bytes only.

use super::id_map::IdMap;
use super::stream_block::Id;
use crate::alloc::class_size;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// An entry that was delivered and is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    consumer: u32,
    /// When it was delivered last, in ms since the epoch.
    pub time: i64,
    /// How often.
    pub count: i64,
}

/// A reader of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it asked last, in ms since the epoch.
    pub seen: i64,
    /// When it got something last; -1: never.
    pub active: i64,
    pending: IdMap<()>,
}

impl Consumer {
    /// Entries that it has not acknowledged.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Their IDs from `from` on.
    pub fn pending_from(&self, from: Id) -> impl Iterator<Item = Id> {
        self.pending.range(from..=Id::MAX).map(|(id, ())| *id)
    }
}

/// A group of readers.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_id: Id,
    /// How many entries of the stream's history are at or before it, if that is known.
    pub entries_read: Option<i64>,
    pending: IdMap<Pending>,
    names: BTreeMap<Box<[u8]>, u32>,
    /// By the numbers in `names` and `pending`.
    consumers: Vec<Option<Consumer>>,
    free: Vec<u32>,
}

impl Group {
    /// A group that has read up to `last_id`.
    pub fn new(last_id: Id, entries_read: Option<i64>) -> Self {
        Self { last_id, entries_read, ..Self::default() }
    }

    /// Bytes that it takes from the allocator, about.
    pub(super) fn memory(&self) -> usize {
        let own = |consumer: &Consumer| consumer.pending.memory() + 2 * class_size(consumer.name.len());
        let consumers: usize = self.consumers.iter().flatten().map(own).sum();
        // A B-tree's nodes are some three quarters full.
        let names = self.names.len() * (size_of::<Box<[u8]>>() + size_of::<u32>()) * 4 / 3;
        self.pending.memory() + consumers + names + self.consumers.capacity() * size_of::<Option<Consumer>>()
    }

    /// The number of a consumer.
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// The number of a consumer, which is made at `now` if it is not there; and whether it was.
    pub fn find_or_add(&mut self, name: &[u8], now: i64) -> (u32, bool) {
        if let Some(number) = self.find(name) {
            return (number, false);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() as u32 - 1
        });
        let consumer = Consumer { name: name.into(), seen: now, active: -1, pending: IdMap::default() };
        self.consumers[number as usize] = Some(consumer);
        self.names.insert(name.into(), number);
        (number, true)
    }

    /// Removes a consumer and what it has not acknowledged; how many entries these were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.names.remove(name)?;
        let consumer = self.consumers[number as usize].take()?;
        self.free.push(number);
        consumer.pending.iter().for_each(|(id, ())| {
            self.pending.remove(*id);
        });
        Some(consumer.pending.len())
    }

    /// A consumer.
    pub fn consumer(&self, number: u32) -> Option<&Consumer> {
        self.consumers[number as usize].as_ref()
    }

    /// A consumer, to change its times.
    pub fn consumer_mut(&mut self, number: u32) -> Option<&mut Consumer> {
        self.consumers[number as usize].as_mut()
    }

    /// The consumers with their names, by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&Consumer>)> {
        self.names.iter().map(|(name, number)| (&**name, self.consumers[*number as usize].as_ref()))
    }

    /// Entries that nobody has acknowledged.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The first and the last of them.
    pub fn pending_ends(&self) -> Option<(Id, Id)> {
        Some((self.pending.first()?, self.pending.last()?))
    }

    /// One of them.
    pub fn get(&self, id: Id) -> Option<Pending> {
        self.pending.get(id).copied()
    }

    /// One of them, to change when and how often it was delivered.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Pending> {
        self.pending.get_mut(id)
    }

    /// Those of a range, with the names of their consumers.
    pub fn pending_range(&self, range: RangeInclusive<Id>) -> impl Iterator<Item = (Id, Pending, &[u8])> {
        self.pending.range(range).map(|&(id, pending)| (id, pending, self.owner(pending)))
    }

    fn owner(&self, pending: Pending) -> &[u8] {
        self.consumer(pending.consumer).map_or(&[], |consumer| &consumer.name)
    }

    /// Those of a range that are a consumer's.
    pub fn pending_of(&self, number: u32, range: RangeInclusive<Id>) -> impl Iterator<Item = (Id, Pending, &[u8])> {
        let ids = self.consumer(number).map(|consumer| consumer.pending.range(range));
        ids.into_iter().flatten().filter_map(|&(id, ())| {
            let pending = self.get(id)?;
            Some((id, pending, self.owner(pending)))
        })
    }

    /// Notes that an entry is a consumer's now.
    pub fn assign(&mut self, id: Id, number: u32, time: i64, count: i64) {
        if let Some(before) = self.pending.insert(id, Pending { consumer: number, time, count })
            && before.consumer != number
            && let Some(consumer) = self.consumer_mut(before.consumer)
        {
            consumer.pending.remove(id);
        }
        if let Some(consumer) = self.consumer_mut(number) {
            consumer.pending.insert(id, ());
        }
    }

    /// An entry is acknowledged; false if it was not pending.
    pub fn acknowledge(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(id) else { return false };
        if let Some(consumer) = self.consumer_mut(pending.consumer) {
            consumer.pending.remove(id);
        }
        true
    }

    /// True if an entry was delivered and acknowledged.
    pub fn is_done_with(&self, id: Id) -> bool {
        id <= self.last_id && self.pending.get(id).is_none()
    }
}
