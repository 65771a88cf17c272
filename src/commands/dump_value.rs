//! Values as payloads of the serialised format, and back: what DUMP and RESTORE do between [`crate::rdb`], which knows
//! bytes only, and the values as they are kept. Knows no keys and no replies.

use crate::config::Limits;
use crate::keyspace::Value;
use crate::rdb::{Bad, Dump, Group as GroupHead, Kind, Node, Part, StreamId, StreamInfo};
use crate::types::{Element, End, FieldTtl, Group, Hash, Id, Item, List, Object, ObjectRef, Set, Stream, Zset};
use std::collections::BTreeMap;

/// A field's time can be no later, as in Redis: in ms since the epoch.
const FIELD_TIME_MAX: i64 = (1 << 46) - 1;

/// A value as a payload; None if nothing of it is left at `now`.
pub(super) fn dump(value: Value<'_>, now: i64) -> Option<Dump> {
    Some(match value {
        Value::Text(text) => text.with(Dump::text),
        Value::Object(ObjectRef::List(list)) => Dump::list(|found| {
            list.each(0..list.len(), |element| match element {
                Element::Item(item) => found(item.bytes(&mut itoa::Buffer::new())),
                Element::Large(bytes) => found(bytes),
            });
        }),
        // The form that all servers read: Redis 7.0 knows no packed sets, and later ones pack it.
        Value::Object(ObjectRef::Set(set)) => Dump::set(set.len(), set.iter()),
        Value::Object(ObjectRef::Zset(set)) if set.is_packed() => Dump::packed_zset(set.iter_all()),
        Value::Object(ObjectRef::Zset(set)) => Dump::zset(set.len(), set.iter_all().rev()),
        Value::Object(ObjectRef::Hash(hash)) => return dump_hash(hash, now),
        Value::Object(ObjectRef::Stream(stream)) => dump_stream(stream),
    })
}

fn dump_hash(hash: &Hash, now: i64) -> Option<Dump> {
    let (count, first) = hash.iter_timed(now).fold((0, None), |(count, first): (usize, Option<i64>), (.., at)| {
        (count + 1, first.map_or(at, |first| Some(first.min(at.unwrap_or(first)))))
    });
    Some(match first {
        _ if count == 0 => return None,
        Some(first) => Dump::expiring_hash(count, first, hash.iter_timed(now)),
        None if hash.is_table() => Dump::hash(count, hash.iter(now)),
        None => Dump::packed_hash(hash.iter(now)),
    })
}

fn pair(id: Id) -> StreamId {
    (id.ms, id.seq)
}

fn dump_stream(stream: &Stream) -> Dump {
    let mut dump = Dump::stream(stream.blocks_len());
    for part in stream.parts() {
        let mut node = Node::new(pair(part.first()), part.len(), part.names());
        for entry in part.entries() {
            let own = (!entry.has_shared_names()).then_some(entry.len());
            node.entry(pair(entry.id), own, |found| {
                let mut is_name = false;
                entry.each(|word| {
                    is_name = !is_name;
                    if own.is_some() || !is_name {
                        found(word);
                    }
                });
            });
        }
        dump.node(node);
    }
    let info = StreamInfo {
        len: stream.len() as u64,
        last_id: pair(stream.last_id()),
        first_id: pair(stream.first_id()),
        max_deleted_id: pair(stream.max_deleted_id()),
        entries_added: stream.entries_added(),
    };
    dump.stream_info(&info, stream.groups().len());
    for (name, group) in stream.groups() {
        let head = GroupHead {
            name: (&**name).into(),
            last_id: pair(group.last_id),
            entries_read: group.entries_read.map(|read| read as u64),
        };
        let all: Vec<_> = group.pending_range(Id::MIN..=Id::MAX).collect();
        let pending = all.iter().map(|(id, pending, _)| (pair(*id), pending.time, pending.count as u64));
        dump.group(&head, pending, group.consumers().len());
        for (name, consumer) in group.consumers() {
            let owned: Vec<_> = consumer.iter().flat_map(|consumer| consumer.pending_from(Id::MIN)).collect();
            let seen = consumer.map_or(0, |consumer| consumer.seen);
            dump.consumer(name, seen, owned.into_iter().map(pair));
        }
    }
    dump
}

/// A value being made of the parts of a payload.
pub(super) struct Builder<'l> {
    limits: &'l Limits,
    now: i64,
    value: Option<Built>,
    /// The group being read.
    group: Option<OpenGroup>,
}

/// What a payload came to.
pub(super) enum Built {
    Text(Vec<u8>),
    Object(Object),
    /// All fields of a hash have expired.
    Nothing,
}

/// A group whose consumers are still to come.
struct OpenGroup {
    name: Vec<u8>,
    group: Group,
    /// The number of the last consumer.
    consumer: u32,
    /// Pending entries that are nobody's yet: when each was delivered last, and how often.
    pending: BTreeMap<Id, (i64, i64)>,
}

fn id((ms, seq): StreamId) -> Id {
    Id { ms, seq }
}

/// True once, for what must not come twice.
fn once(is_new: bool) -> Result<(), Bad> {
    if is_new { Ok(()) } else { Err(Bad) }
}

impl<'l> Builder<'l> {
    pub(super) fn new(limits: &'l Limits, now: i64) -> Self {
        Self { limits, now, value: None, group: None }
    }

    /// Takes the next part.
    pub(super) fn take(&mut self, part: Part<'_>) -> Result<(), Bad> {
        let limits = self.limits;
        let object = match (part, &mut self.value) {
            (Part::Text(text), None) => {
                self.value = Some(Built::Text(text.into_owned()));
                return Ok(());
            }
            (Part::Begin(kind), None) => {
                self.value = Some(Built::Object(match kind {
                    Kind::Hash => Object::Hash(Hash::default()),
                    Kind::List => Object::List(List::default()),
                    Kind::Set => Object::Set(Set::default()),
                    Kind::Zset => Object::Zset(Zset::default()),
                    Kind::Stream => Object::Stream(Stream::default()),
                }));
                return Ok(());
            }
            (part, Some(Built::Object(object))) => (part, object),
            _ => return Err(Bad),
        };
        match object {
            (Part::Element(element), Object::List(list)) => {
                list.push(End::Back, std::iter::once(element), limits.list_max_listpack_size);
                Ok(())
            }
            (Part::Element(member), Object::Set(set)) => once(set.add(member, limits)),
            (Part::Scored(member, score), Object::Zset(set)) => once(set.set(member, score, limits).is_none()),
            (Part::Field(_, _, Some(at)), _) if !(1..=FIELD_TIME_MAX).contains(&at) => Err(Bad),
            (Part::Field(field, value, at), Object::Hash(hash)) => {
                let ttl = at.map_or(FieldTtl::Clear, FieldTtl::At);
                once(hash.set(field, value, ttl, i64::MIN, limits))
            }
            (Part::Entry { node, id: own, fields }, Object::Stream(stream)) => {
                add_entry(stream, id(node), id(own), fields);
                Ok(())
            }
            (Part::Stream(info), Object::Stream(stream)) => {
                stream.set_ids(id(info.last_id), Some(info.entries_added), Some(id(info.max_deleted_id)));
                Ok(())
            }
            (part, Object::Stream(stream)) => {
                if let Part::Group(_) = part {
                    close_group(self.group.take(), stream)?;
                }
                take_group(&mut self.group, part)
            }
            _ => Err(Bad),
        }
    }

    /// The value, all parts of which have come.
    pub(super) fn finish(mut self) -> Result<Built, Bad> {
        let mut built = self.value.take().ok_or(Bad)?;
        match &mut built {
            Built::Object(Object::Stream(stream)) => close_group(self.group.take(), stream)?,
            Built::Object(Object::Hash(hash)) => {
                hash.remove_expired(self.now, usize::MAX);
                if hash.is_empty() {
                    return Ok(Built::Nothing);
                }
            }
            _ => {}
        }
        Ok(built)
    }
}

fn add_entry(stream: &mut Stream, node: Id, own: Id, fields: &[(Item<'_>, Item<'_>)]) {
    // Integers have no bytes yet.
    let (mut digits, mut bytes, mut ends) = (itoa::Buffer::new(), Vec::new(), vec![0]);
    for item in fields.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(item.bytes(&mut digits));
        ends.push(bytes.len());
    }
    stream.load(node, own, ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]));
}

/// Takes a part of a group.
fn take_group(open: &mut Option<OpenGroup>, part: Part<'_>) -> Result<(), Bad> {
    match (part, open) {
        (Part::Group(head), open) => {
            let group = Group::new(id(head.last_id), head.entries_read.map(|read| read as i64));
            let name = head.name.to_vec();
            *open = Some(OpenGroup { name, group, consumer: 0, pending: BTreeMap::new() });
            Ok(())
        }
        (Part::Pending { id: own, at, count }, Some(open)) => {
            once(open.pending.insert(id(own), (at, count as i64)).is_none())
        }
        (Part::Consumer { name, seen, active }, Some(open)) => {
            let (number, is_new) = open.group.find_or_add(name, seen);
            open.consumer = number;
            open.group.consumer_mut(number).into_iter().for_each(|consumer| consumer.active = active);
            once(is_new)
        }
        (Part::Owned(own), Some(open)) => {
            let (at, count) = open.pending.remove(&id(own)).ok_or(Bad)?;
            open.group.assign(id(own), open.consumer, at, count);
            Ok(())
        }
        _ => Err(Bad),
    }
}

/// Adds a group all parts of which have come to its stream.
fn close_group(open: Option<OpenGroup>, stream: &mut Stream) -> Result<(), Bad> {
    let Some(OpenGroup { name, group, pending, .. }) = open else { return Ok(()) };
    // Every pending entry is a consumer's.
    once(pending.is_empty())?;
    once(stream.groups_mut().insert(name.into(), group).is_none())
}
