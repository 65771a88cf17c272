//! IDs, ranges and trimming as the stream commands take and write them. Knows arguments, no keys.

use super::{Args, NOT_AN_INTEGER, SYNTAX_ERROR};
use crate::config::Limits;
use crate::protocol::Reply;
use crate::types::{Entry, Id, Item, Keep, References, Trim};
use std::ops::RangeInclusive;

pub(super) const INVALID_ID: &str = "ERR Invalid stream ID specified as stream command argument";
const TWO_STRATEGIES: &str = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";

/// A number as C's `strtoull` reads it: blanks and a plus sign may stand before it, zeros too.
fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The two parts of an ID.
fn parts(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'-') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// An ID; `seq` is what it has if it is only a time.
pub(super) fn parse_id(text: &[u8], seq: u64) -> Result<Id, &'static str> {
    let (ms, rest) = parts(text);
    let id = number(ms).and_then(|ms| Some(Id { ms, seq: rest.map_or(Some(seq), number)? }));
    id.ok_or(INVALID_ID)
}

/// An end of a range; the flag says that it is not part of it.
fn parse_end(text: &[u8], seq: u64) -> Result<(Id, bool), &'static str> {
    match text {
        b"-" => Ok((Id::MIN, false)),
        b"+" => Ok((Id::MAX, false)),
        [b'(', rest @ ..] if rest.len() > 1 || rest.first().is_some_and(|byte| !matches!(byte, b'-' | b'+')) => {
            Ok((parse_id(rest, seq)?, true))
        }
        text => Ok((parse_id(text, seq)?, false)),
    }
}

/// The start of a range.
pub(super) fn parse_start(text: &[u8]) -> Result<Id, &'static str> {
    match parse_end(text, 0)? {
        (id, false) => Ok(id),
        (id, true) => id.next().ok_or("ERR invalid start ID for the interval"),
    }
}

/// A range from its two ends.
pub(super) fn parse_range(start: &[u8], end: &[u8]) -> Result<RangeInclusive<Id>, &'static str> {
    let start = parse_start(start)?;
    let end = match parse_end(end, u64::MAX)? {
        (id, false) => id,
        (id, true) => id.previous().ok_or("ERR invalid end ID for the interval")?,
    };
    Ok(start..=end)
}

/// IDs from argument `from` on.
pub(super) fn parse_ids(args: &Args<'_>, from: usize, to: usize) -> Result<Vec<Id>, &'static str> {
    (from..to).map(|index| parse_id(args.at(index), 0)).collect()
}

/// The ID of an entry to be added.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewId {
    /// `*`.
    Auto,
    /// `ms-*`.
    Time(u64),
    /// All of it.
    Given(Id),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        match parts(text) {
            (b"*", None) => Ok(Self::Auto),
            (ms, Some(b"*")) => number(ms).map(Self::Time).ok_or(INVALID_ID),
            _ => parse_id(text, 0).map(Self::Given),
        }
    }

    /// The ID at `now` in a stream whose last one is `last`.
    pub(super) fn resolve(self, last: Id, now: u64) -> Result<Id, &'static str> {
        const SMALL: &str = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
        if last == Id::MAX {
            return Err("ERR The stream has exhausted the last possible ID, unable to add more items");
        }
        match self {
            Self::Auto if now > last.ms => Ok(Id { ms: now, seq: 0 }),
            Self::Auto => last.next().ok_or(SMALL),
            Self::Time(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| Id { ms, seq }).ok_or(SMALL),
            Self::Time(ms) => Some(Id { ms, seq: 0 }).filter(|_| ms > last.ms).ok_or(SMALL),
            Self::Given(id) => Some(id).filter(|_| id > last).ok_or(SMALL),
        }
    }
}

/// KEEPREF, DELREF or ACKED.
pub(super) fn parse_references(args: &Args<'_>, index: usize) -> Option<References> {
    let words = [("keepref", References::Keep), ("delref", References::Delete), ("acked", References::Acknowledged)];
    words.iter().find(|(word, _)| args.is(index, word)).map(|(_, references)| *references)
}

/// The options of XADD and XTRIM.
pub(super) struct Options {
    pub(super) trim: Option<Trim>,
    pub(super) makes_stream: bool,
    /// XADD: the ID, and where the fields begin.
    pub(super) id: NewId,
    pub(super) fields: usize,
}

impl Options {
    /// Reads them from the third argument on.
    pub(super) fn parse(args: &Args<'_>, is_add: bool, limits: &Limits) -> Result<Self, &'static str> {
        let mut options = Self { trim: None, makes_stream: true, id: NewId::Auto, fields: args.len() };
        let (mut keep, mut is_rough, mut limit, mut references) = (None, false, None, None);
        let mut at = 2;
        while at < args.len() {
            let more = args.len() - 1 - at;
            let is_len = args.is(at, "maxlen");
            if is_add && args.at(at) == b"*" {
                options.fields = at + 1;
                break;
            } else if more > 0 && (is_len || args.is(at, "minid")) {
                if keep.is_some() {
                    return Err(TWO_STRATEGIES);
                }
                is_rough = more > 1 && args.at(at + 1) == b"~";
                at += usize::from(is_rough || more > 1 && args.at(at + 1) == b"=") + 1;
                keep = Some(parse_keep(args, at, is_len)?);
            } else if more > 0 && args.is(at, "limit") {
                at += 1;
                let number = args.integer(at).ok_or(NOT_AN_INTEGER)?;
                limit = Some(u64::try_from(number).map_err(|_| "ERR The LIMIT argument must be >= 0.")?);
            } else if is_add && args.is(at, "nomkstream") {
                options.makes_stream = false;
            } else if references.is_none() && parse_references(args, at).is_some() {
                references = parse_references(args, at);
            } else if is_add {
                options.id = NewId::parse(args.at(at))?;
                options.fields = at + 1;
                break;
            } else {
                return Err(SYNTAX_ERROR);
            }
            at += 1;
        }
        if limit.is_some() && keep.is_none() {
            return Err("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
        }
        if limit.is_some() && !is_rough {
            return Err("ERR syntax error, LIMIT cannot be used without the special ~ option");
        }
        if !is_add && keep.is_none() {
            return Err(SYNTAX_ERROR);
        }
        let limit = if is_rough { limit.unwrap_or_else(|| usual_limit(limits)) } else { 0 };
        let references = references.unwrap_or(References::Keep);
        options.trim = keep.map(|keep| Trim { keep, is_rough, limit, references });
        Ok(options)
    }
}

fn parse_keep(args: &Args<'_>, at: usize, is_len: bool) -> Result<Keep, &'static str> {
    if !is_len {
        return parse_id(args.at(at), 0).map(Keep::From);
    }
    let number = args.integer(at).ok_or(NOT_AN_INTEGER)?;
    u64::try_from(number).map(Keep::Last).map_err(|_| "ERR The MAXLEN argument must be >= 0.")
}

/// Without LIMIT, a rough trim removes no more entries than a hundred blocks hold.
fn usual_limit(limits: &Limits) -> u64 {
    match 100 * limits.stream_node_max_entries as u64 {
        0 => 10_000,
        limit => limit.min(1_000_000),
    }
}

/// Writes an ID.
#[inline]
pub(super) fn write_id(reply: &mut Reply<'_>, id: Id) {
    let (mut text, mut digits) = ([0; 41], itoa::Buffer::new());
    let ms = digits.format(id.ms).as_bytes();
    text[..ms.len()].copy_from_slice(ms);
    text[ms.len()] = b'-';
    let at = ms.len() + 1;
    let seq = digits.format(id.seq).as_bytes();
    text[at..at + seq.len()].copy_from_slice(seq);
    reply.bulk(&text[..at + seq.len()]);
}

/// Writes an entry.
#[inline]
pub(super) fn write_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    write_id(reply, entry.id);
    reply.array(entry.len() * 2);
    entry.each(|item| match item {
        Item::Text(text) => reply.bulk(text),
        Item::Int(number) => reply.bulk_integer(number),
    });
}

/// Writes an array whose length is known only when all of it is written.
pub(super) fn write_counted(reply: &mut Reply<'_>, write: impl FnOnce(&mut Reply<'_>) -> usize) {
    let mut output = crate::protocol::Output::new();
    let count = write(&mut Reply::new(&mut output, reply.version()));
    reply.array(count);
    reply.output().append(output);
}

/// Writes entries as an array.
pub(super) fn write_entries<'e>(reply: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'e>>) {
    write_counted(reply, |reply| entries.map(|entry| write_entry(reply, &entry)).count());
}
