//! The packed forms of small collections: listpack, and the older ziplist, intset and zipmap. Each is checked as a whole
//! before its elements are handed out. Knows bytes only.

use super::read::Bad;
use crate::types::Item;

/// The elements of a listpack: `total 4 | count 2 | elements | 0xff`, each element followed by its length backwards.
pub(super) fn listpack(data: &[u8]) -> Result<Vec<Item<'_>>, Bad> {
    let (total, rest) = data.split_first_chunk::<4>().ok_or(Bad)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Bad)?;
    let (end, mut rest) = rest.split_last().ok_or(Bad)?;
    if u32::from_le_bytes(*total) as usize != data.len() || *end != 0xff {
        return Err(Bad);
    }
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (item, size) = listpack_item(rest)?;
        let back = back_len(size);
        if rest.get(size..size + back.len()) != Some(back.bytes()) {
            return Err(Bad);
        }
        rest = &rest[size + back.len()..];
        items.push(item);
    }
    check_count(*count, items.len())?;
    Ok(items)
}

/// A number of elements that does not fit is written as the largest.
fn check_count(count: [u8; 2], found: usize) -> Result<(), Bad> {
    let count = usize::from(u16::from_le_bytes(count));
    if count == usize::from(u16::MAX) || count == found { Ok(()) } else { Err(Bad) }
}

/// A listpack's element and its size without its length backwards.
fn listpack_item(data: &[u8]) -> Result<(Item<'_>, usize), Bad> {
    let first = *data.first().ok_or(Bad)?;
    let text = |head: usize, len: usize| {
        let text = data.get(head..head.checked_add(len).ok_or(Bad)?).ok_or(Bad)?;
        Ok((Item::Text(text), head + len))
    };
    let low = |bits: u32| usize::from(first & ((1 << bits) - 1));
    let byte = |at: usize| data.get(at).copied().map(usize::from).ok_or(Bad);
    match first {
        0..=0x7f => Ok((Item::Int(first.into()), 1)),
        0x80..=0xbf => text(1, low(6)),
        0xc0..=0xdf => Ok((Item::Int(signed((low(5) << 8 | byte(1)?) as u64, 13)), 2)),
        0xe0..=0xef => text(2, low(4) << 8 | byte(1)?),
        0xf0 => {
            let len = data.get(1..5).and_then(|len| len.try_into().ok()).ok_or(Bad)?;
            text(5, u32::from_le_bytes(len) as usize)
        }
        0xf1..=0xf4 => {
            let width = [2, 3, 4, 8][usize::from(first - 0xf1)];
            Ok((Item::Int(little_endian(data, 1, width)?), 1 + width))
        }
        _ => Err(Bad),
    }
}

/// A signed little-endian integer of `width` bytes at `at`.
fn little_endian(data: &[u8], at: usize, width: usize) -> Result<i64, Bad> {
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(data.get(at..at + width).ok_or(Bad)?);
    Ok(signed(u64::from_le_bytes(bytes), width as u32 * 8))
}

/// A number whose highest of `bits` bits is its sign.
fn signed(number: u64, bits: u32) -> i64 {
    (number << (64 - bits)).cast_signed() >> (64 - bits)
}

/// The length of a listpack's element as it stands behind it, to be read from its end: seven bits a byte.
pub(super) struct BackLen([u8; 5], usize);

impl BackLen {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    pub(super) fn len(&self) -> usize {
        self.1
    }
}

pub(super) fn back_len(size: usize) -> BackLen {
    let len = (1..5).find(|len| size < 1 << (7 * len)).unwrap_or(5);
    let mut bytes = [0; 5];
    for (index, byte) in bytes[..len].iter_mut().enumerate() {
        let bits = (size >> (7 * (len - 1 - index))) as u8 & 0x7f;
        *byte = if index == 0 { bits } else { bits | 0x80 };
    }
    BackLen(bytes, len)
}

/// The elements of a ziplist: `total 4 | last 4 | count 2 | elements | 0xff`, each behind the size of the one before.
pub(super) fn ziplist(data: &[u8]) -> Result<Vec<Item<'_>>, Bad> {
    let (total, rest) = data.split_first_chunk::<4>().ok_or(Bad)?;
    let (_, rest) = rest.split_first_chunk::<4>().ok_or(Bad)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Bad)?;
    let (end, mut rest) = rest.split_last().ok_or(Bad)?;
    if u32::from_le_bytes(*total) as usize != data.len() || *end != 0xff {
        return Err(Bad);
    }
    let (mut items, mut before) = (Vec::new(), 0);
    while !rest.is_empty() {
        let (said, head) = match rest {
            [254, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 5),
            [len @ 0..=253, ..] => (usize::from(*len), 1),
            _ => return Err(Bad),
        };
        if said != before {
            return Err(Bad);
        }
        let (item, size) = ziplist_item(&rest[head..])?;
        before = head + size;
        rest = rest.get(before..).ok_or(Bad)?;
        items.push(item);
    }
    check_count(*count, items.len())?;
    Ok(items)
}

fn ziplist_item(data: &[u8]) -> Result<(Item<'_>, usize), Bad> {
    let first = *data.first().ok_or(Bad)?;
    let text = |head: usize, len: usize| {
        let text = data.get(head..head.checked_add(len).ok_or(Bad)?).ok_or(Bad)?;
        Ok((Item::Text(text), head + len))
    };
    let number = |width: usize| Ok((Item::Int(little_endian(data, 1, width)?), 1 + width));
    match (first >> 6, first) {
        (0, _) => text(1, first.into()),
        (1, _) => text(2, usize::from(first & 0x3f) << 8 | usize::from(*data.get(1).ok_or(Bad)?)),
        (2, 0x80) => {
            let len = data.get(1..5).and_then(|len| len.try_into().ok()).ok_or(Bad)?;
            text(5, u32::from_be_bytes(len) as usize)
        }
        (_, 0xc0) => number(2),
        (_, 0xd0) => number(4),
        (_, 0xe0) => number(8),
        (_, 0xf0) => number(3),
        (_, 0xfe) => number(1),
        (_, 0xf1..=0xfd) => Ok((Item::Int(i64::from(first & 0xf) - 1), 1)),
        _ => Err(Bad),
    }
}

/// The members of an intset, ascending: `width 4 | count 4 | integers`.
pub(super) fn intset(data: &[u8]) -> Result<impl ExactSizeIterator<Item = i64>, Bad> {
    let (width, rest) = data.split_first_chunk::<4>().ok_or(Bad)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(Bad)?;
    let (width, count) = (u32::from_le_bytes(*width) as usize, u32::from_le_bytes(*count) as usize);
    if !matches!(width, 2 | 4 | 8) || count == 0 || count.checked_mul(width) != Some(rest.len()) {
        return Err(Bad);
    }
    let members = rest.chunks_exact(width).map(move |bytes| little_endian(bytes, 0, width).unwrap_or_default());
    if members.clone().is_sorted_by(|a, b| a < b) { Ok(members) } else { Err(Bad) }
}

/// A field and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The fields and values of a zipmap: `count 1 | (length, field, length, free 1, value, free bytes)… | 0xff`.
pub(super) fn zipmap(data: &[u8]) -> Result<Vec<Pair<'_>>, Bad> {
    let (count, mut rest) = data.split_first().ok_or(Bad)?;
    let mut pairs = Vec::new();
    loop {
        if rest == [0xff] {
            let said = usize::from(*count);
            return if said >= 254 || said == pairs.len() { Ok(pairs) } else { Err(Bad) };
        }
        let len = zipmap_len(&mut rest)?;
        let (field, behind) = rest.split_at_checked(len).ok_or(Bad)?;
        rest = behind;
        let len = zipmap_len(&mut rest)?;
        let free = usize::from(*rest.split_off_first().ok_or(Bad)?);
        let (value, behind) = rest.split_at_checked(len).ok_or(Bad)?;
        rest = behind.get(free..).ok_or(Bad)?;
        pairs.push((field, value));
    }
}

fn zipmap_len(rest: &mut &[u8]) -> Result<usize, Bad> {
    match *rest.split_off_first().ok_or(Bad)? {
        len @ 0..=253 => Ok(len.into()),
        254 => {
            let (len, behind) = rest.split_first_chunk::<4>().ok_or(Bad)?;
            *rest = behind;
            Ok(u32::from_le_bytes(*len) as usize)
        }
        255 => Err(Bad),
    }
}
