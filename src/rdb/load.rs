//! Reads a payload of any type, part by part. Knows bytes only.

use super::crc::crc64;
use super::packed;
use super::read::{Bad, Reader, double};
use super::stream::{self, Group, StreamId, StreamInfo};
use crate::types::Item;
use std::borrow::Cow;

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fields with values.
    Hash,
    /// Values in order.
    List,
    /// Distinct members.
    Set,
    /// Distinct members with scores.
    Zset,
    /// Entries with IDs.
    Stream,
}

/// A part of a value, in the order in which they come. A string is one part; a collection begins with its kind.
#[derive(Debug)]
pub enum Part<'a> {
    /// A string.
    Text(Cow<'a, [u8]>),
    /// A collection of this kind follows.
    Begin(Kind),
    /// An element of a list, or a member of a set.
    Element(&'a [u8]),
    /// A member of a sorted set; the score is a number.
    Scored(&'a [u8], f64),
    /// A field of a hash, with its value and when it expires, in ms since the epoch.
    Field(&'a [u8], &'a [u8], Option<i64>),
    /// An entry of a stream.
    Entry {
        /// The ID from which on the entries lie that are kept together.
        node: StreamId,
        /// Its own.
        id: StreamId,
        /// Names and values, at least one.
        fields: &'a [(Item<'a>, Item<'a>)],
    },
    /// What a stream is beyond its entries, which have come.
    Stream(&'a StreamInfo),
    /// A group of a stream; its pending entries and its consumers follow.
    Group(&'a Group<'a>),
    /// An entry that was delivered and not acknowledged: when last (ms since the epoch), and how often.
    Pending {
        /// The entry.
        id: StreamId,
        /// When it was delivered last.
        at: i64,
        /// How often.
        count: u64,
    },
    /// A consumer of the group; its pending entries follow.
    Consumer {
        /// Its name.
        name: &'a [u8],
        /// When it last asked, in ms since the epoch.
        seen: i64,
        /// When it last got something.
        active: i64,
    },
    /// A pending entry of the group that is the consumer's.
    Owned(StreamId),
}

/// Who takes the parts.
pub(super) type Visit<'v> = dyn FnMut(Part<'_>) -> Result<(), Bad> + 'v;

/// Behind the value: version 2, checksum 8.
const FOOTER: usize = 10;
/// The newest version of Redis's that is known, Redis 8.2's. Those of Valkey's own begin at [`VALKEY`].
const NEWEST: u16 = 12;
/// The version of Valkey 9, which gave type 22 another meaning than the candidates of Redis 7.4 had.
const VALKEY: u16 = 80;

/// The version and the value of a payload, if its footer is right. `any_version`: also of a version that is not known.
pub(super) fn signed(payload: &[u8], any_version: bool) -> Option<(u16, &[u8])> {
    let (value, footer) = payload.split_last_chunk::<FOOTER>()?;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let is_known = any_version || version <= NEWEST || version == VALKEY;
    (is_known && footer[2..] == crc64(&payload[..payload.len() - 8]).to_le_bytes()).then_some((version, value))
}

/// Reads a payload, handing the parts of its value to `visit`. Strings that are compressed are at most `max_text` bytes.
/// The value of a payload without a right footer is not looked at: that is `Ok(false)`. `any_version`: a version that is
/// not known is read as the newest.
pub fn load(payload: &[u8], max_text: usize, any_version: bool, visit: &mut Visit<'_>) -> Result<bool, Bad> {
    let Some((version, value)) = signed(payload, any_version) else { return Ok(false) };
    let mut reader = Reader::new(value, max_text);
    load_value(&mut reader, version, visit)?;
    if reader.is_done() { Ok(true) } else { Err(Bad) }
}

fn load_value(reader: &mut Reader<'_>, version: u16, visit: &mut Visit<'_>) -> Result<(), Bad> {
    let kind = reader.byte()?;
    if kind == 0 {
        return visit(Part::Text(reader.string()?));
    }
    let begin = match kind {
        1 | 10 | 14 | 18 => Kind::List,
        2 | 11 | 20 => Kind::Set,
        3 | 5 | 12 | 17 => Kind::Zset,
        4 | 9 | 13 | 16 | 24 | 25 => Kind::Hash,
        22 if version == VALKEY => Kind::Hash,
        15 | 19 | 21 => Kind::Stream,
        _ => return Err(Bad),
    };
    visit(Part::Begin(begin))?;
    let mut count = 0;
    let mut counted = |part: Part<'_>| {
        count += 1;
        visit(part)
    };
    match kind {
        1 | 2 => load_strings(reader, &mut counted)?,
        3 | 5 => load_scores(reader, kind == 5, &mut counted)?,
        4 | 22 => load_fields(reader, kind == 22, &mut counted)?,
        24 => load_expiring(reader, &mut counted)?,
        14 | 18 => load_nodes(reader, kind == 18, &mut counted)?,
        15 => stream::load(reader, 1, &mut counted)?,
        19 => stream::load(reader, 2, &mut counted)?,
        21 => stream::load(reader, 3, &mut counted)?,
        25 => {
            reader.fixed()?;
            load_packed(&reader.string()?, kind, &mut counted)?;
        }
        _ => load_packed(&reader.string()?, kind, &mut counted)?,
    }
    // No server keeps an empty collection, streams excepted.
    if count == 0 { Err(Bad) } else { Ok(()) }
}

fn load_strings(reader: &mut Reader<'_>, visit: &mut Visit<'_>) -> Result<(), Bad> {
    for _ in 0..reader.count()? {
        visit(Part::Element(&reader.string()?))?;
    }
    Ok(())
}

fn load_scores(reader: &mut Reader<'_>, binary: bool, visit: &mut Visit<'_>) -> Result<(), Bad> {
    for _ in 0..reader.count()? {
        let member = reader.string()?;
        let score = if binary { f64::from_bits(reader.fixed()?) } else { reader.text_double()? };
        visit_scored(&member, score, visit)?;
    }
    Ok(())
}

fn visit_scored(member: &[u8], score: f64, visit: &mut Visit<'_>) -> Result<(), Bad> {
    if score.is_nan() { Err(Bad) } else { visit(Part::Scored(member, score)) }
}

/// Fields and values; in Valkey's type 22 with an absolute time, or -1, behind each.
fn load_fields(reader: &mut Reader<'_>, with_times: bool, visit: &mut Visit<'_>) -> Result<(), Bad> {
    for _ in 0..reader.count()? {
        let (field, value) = (reader.string()?, reader.string()?);
        let at = if with_times { reader.fixed()?.cast_signed() } else { -1 };
        visit(Part::Field(&field, &value, (at != -1).then_some(at)))?;
    }
    Ok(())
}

/// Redis's fields that expire: the earliest time, then each field behind its time from there on, plus one, or 0.
fn load_expiring(reader: &mut Reader<'_>, visit: &mut Visit<'_>) -> Result<(), Bad> {
    let first = reader.fixed()?;
    for _ in 0..reader.count()? {
        let later = reader.number()?;
        let (field, value) = (reader.string()?, reader.string()?);
        let at = match later {
            0 => None,
            later => Some(first.checked_add(later - 1).and_then(|at| i64::try_from(at).ok()).ok_or(Bad)?),
        };
        visit(Part::Field(&field, &value, at))?;
    }
    Ok(())
}

/// The nodes of a list: ziplists, or listpacks and elements that stand alone.
fn load_nodes(reader: &mut Reader<'_>, listpacks: bool, visit: &mut Visit<'_>) -> Result<(), Bad> {
    for _ in 0..reader.count()? {
        let container = if listpacks { reader.number()? } else { 0 };
        let node = reader.string()?;
        match container {
            0 => each_element(packed::ziplist(&node)?, visit)?,
            1 => visit(Part::Element(&node))?,
            2 => each_element(packed::listpack(&node)?, visit)?,
            _ => return Err(Bad),
        }
    }
    Ok(())
}

fn each_element(items: Vec<Item<'_>>, visit: &mut Visit<'_>) -> Result<(), Bad> {
    for item in items {
        visit(Part::Element(item.bytes(&mut itoa::Buffer::new())))?;
    }
    Ok(())
}

/// A collection that is one string of the packed forms.
fn load_packed(data: &[u8], kind: u8, visit: &mut Visit<'_>) -> Result<(), Bad> {
    let items = match kind {
        9 => {
            for (field, value) in packed::zipmap(data)? {
                visit(Part::Field(field, value, None))?;
            }
            return Ok(());
        }
        11 => {
            for member in packed::intset(data)? {
                visit(Part::Element(itoa::Buffer::new().format(member).as_bytes()))?;
            }
            return Ok(());
        }
        10 | 12 | 13 => packed::ziplist(data)?,
        _ => packed::listpack(data)?,
    };
    let step = match kind {
        10 | 20 => return each_element(items, visit),
        25 => 3,
        _ => 2,
    };
    if items.len() % step != 0 {
        return Err(Bad);
    }
    for group in items.chunks_exact(step) {
        let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
        let [a, b] = &mut digits;
        let (first, second) = (group[0].bytes(a), group[1]);
        match (kind, second) {
            (12 | 17, Item::Int(score)) => visit_scored(first, score as f64, visit)?,
            (12 | 17, Item::Text(score)) => visit_scored(first, double(score)?, visit)?,
            _ => {
                let at = match group.get(2) {
                    None | Some(Item::Int(0)) => None,
                    Some(Item::Int(at)) if *at > 0 => Some(*at),
                    Some(_) => return Err(Bad),
                };
                visit(Part::Field(first, second.bytes(b), at))?;
            }
        }
    }
    Ok(())
}
