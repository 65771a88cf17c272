//! Streams in the format: listpacks of entries, and groups with what was delivered to their consumers. Knows bytes only.

use super::load::{Part, Visit};
use super::packed;
use super::read::{Bad, Reader};
use crate::types::Item;
use std::borrow::Cow;

/// An entry's ID.
pub type StreamId = (u64, u64);

/// What stands behind a stream's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamInfo {
    /// Entries.
    pub len: u64,
    /// The highest ID ever.
    pub last_id: StreamId,
    /// The first entry's ID; 0-0 where the payload is too old to say.
    pub first_id: StreamId,
    /// The highest ID that was deleted.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

/// A group's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name.
    pub name: Cow<'a, [u8]>,
    /// The last ID that was delivered.
    pub last_id: StreamId,
    /// Entries read, if known.
    pub entries_read: Option<u64>,
}

/// An entry is deleted.
const DELETED: i64 = 1;
/// An entry has the fields of the first one of its listpack.
pub(super) const SAME_FIELDS: i64 = 2;

/// Reads a stream of the first, second or third edition of the type.
pub(super) fn load(reader: &mut Reader<'_>, edition: u8, visit: &mut Visit<'_>) -> Result<(), Bad> {
    let listpacks = reader.count()?;
    let mut last = None;
    let mut entries = 0;
    for _ in 0..listpacks {
        let key = reader.string()?;
        let mut key = Reader::new(&key, 0);
        let first = key.raw_id()?;
        if !key.is_done() || last.is_some_and(|last| first <= last) {
            return Err(Bad);
        }
        entries += load_entries(&reader.string()?, first, &mut last, visit)?;
    }
    let mut info = StreamInfo { len: reader.number()?, last_id: read_id(reader)?, ..StreamInfo::default() };
    if info.len != entries || last.is_some_and(|last| info.last_id < last) {
        return Err(Bad);
    }
    if edition >= 2 {
        info.first_id = read_id(reader)?;
        info.max_deleted_id = read_id(reader)?;
        info.entries_added = reader.number()?;
    } else {
        info.entries_added = info.len;
    }
    visit(Part::Stream(&info))?;
    for _ in 0..reader.count()? {
        load_group(reader, edition, visit)?;
    }
    Ok(())
}

fn read_id(reader: &mut Reader<'_>) -> Result<StreamId, Bad> {
    Ok((reader.number()?, reader.number()?))
}

/// Reads one listpack: `count, deleted, fields, field…, 0`, then entries: `flags, ms, seq, [fields, field, value… |
/// value…], elements`. Returns how many of the entries are not deleted.
fn load_entries(data: &[u8], first: StreamId, last: &mut Option<StreamId>, visit: &mut Visit<'_>) -> Result<u64, Bad> {
    let items = packed::listpack(data)?;
    let mut items = items.into_iter();
    let number = |items: &mut std::vec::IntoIter<Item<'_>>| match items.next() {
        Some(Item::Int(number)) => Ok(number),
        _ => Err(Bad),
    };
    let (count, deleted, fields) = (number(&mut items)?, number(&mut items)?, number(&mut items)?);
    let fields = usize::try_from(fields).ok().filter(|fields| *fields < items.len()).ok_or(Bad)?;
    let shared: Vec<Item<'_>> = items.by_ref().take(fields).collect();
    if number(&mut items)? != 0 {
        return Err(Bad);
    }
    let (mut alive, mut dead) = (0, 0);
    let mut pairs = Vec::new();
    while items.len() > 0 {
        let flags = number(&mut items)?;
        let (ms, seq) = (number(&mut items)?, number(&mut items)?);
        let id = (first.0.wrapping_add_signed(ms), first.1.wrapping_add_signed(seq));
        pairs.clear();
        let mut elements = 3;
        if flags & SAME_FIELDS != 0 {
            for field in &shared {
                pairs.push((*field, items.next().ok_or(Bad)?));
            }
            elements += pairs.len();
        } else {
            let fields =
                usize::try_from(number(&mut items)?).ok().filter(|fields| *fields <= items.len()).ok_or(Bad)?;
            for _ in 0..fields {
                pairs.push((items.next().ok_or(Bad)?, items.next().ok_or(Bad)?));
            }
            elements += 1 + 2 * fields;
        }
        if number(&mut items)? != elements as i64 {
            return Err(Bad);
        }
        if flags & DELETED != 0 {
            dead += 1;
            continue;
        }
        if pairs.is_empty() || id < first || last.is_some_and(|last| id <= last) {
            return Err(Bad);
        }
        *last = Some(id);
        alive += 1;
        visit(Part::Entry { node: first, id, fields: &pairs })?;
    }
    if (count, deleted) == (alive as i64, dead) { Ok(alive) } else { Err(Bad) }
}

fn load_group(reader: &mut Reader<'_>, edition: u8, visit: &mut Visit<'_>) -> Result<(), Bad> {
    let name = reader.string()?;
    let last_id = read_id(reader)?;
    // An unknown number is written as -1.
    let entries_read = if edition >= 2 { Some(reader.number()?).filter(|read| *read != u64::MAX) } else { None };
    visit(Part::Group(&Group { name, last_id, entries_read }))?;
    for _ in 0..reader.count()? {
        let id = reader.raw_id()?;
        let (at, count) = (reader.fixed()?, reader.number()?);
        visit(Part::Pending { id, at: at as i64, count })?;
    }
    for _ in 0..reader.count()? {
        let name = reader.string()?;
        let seen = reader.fixed()? as i64;
        let active = if edition >= 3 { reader.fixed()? as i64 } else { seen };
        visit(Part::Consumer { name: &name, seen, active })?;
        for _ in 0..reader.count()? {
            visit(Part::Owned(reader.raw_id()?))?;
        }
    }
    Ok(())
}
