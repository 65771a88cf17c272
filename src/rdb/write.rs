//! Writes payloads. Version 10 of the format and the types of Redis 7.0, which all later servers read; where a value has
//! what these cannot hold (fields that expire), the version and type of Redis 7.4. Knows bytes only.

use super::crc::crc64;
use super::lzf;
use super::packed::back_len;
use crate::number::{format_double, parse_i64};
use crate::types::Item;

/// Redis 7.0's version.
pub(super) const COMMON: u16 = 10;
/// The version of the servers that know fields with times of their own.
const EXPIRING: u16 = 12;
/// Strings up to this length are not compressed, in bytes.
const SHORT: usize = 20;
/// The longest text that may be written as an integer, in bytes.
const INTEGER: usize = 11;
/// A node of a list is written when its listpack is this long, in bytes.
const NODE: usize = 8192;

/// A payload being written.
#[derive(Debug)]
pub struct Dump {
    pub(super) out: Vec<u8>,
    version: u16,
}

impl Dump {
    pub(super) fn new(kind: u8) -> Self {
        Self { out: vec![kind], version: COMMON }
    }

    /// A string.
    pub fn text(text: &[u8]) -> Self {
        let mut dump = Self::new(0);
        dump.string(text);
        dump
    }

    /// A list; `each` calls what it is given with each element.
    pub fn list(each: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Self {
        let mut dump = Self::new(18);
        let (mut nodes, mut count, mut node) = (Vec::new(), 0, Listpack::default());
        each(&mut |item| {
            if item.len() > NODE {
                count += u64::from(dump_node(&mut nodes, &mut node)) + 1;
                length(&mut nodes, 1);
                string(&mut nodes, item);
                return;
            }
            node.push(Item::of(item));
            if node.len() > NODE {
                count += u64::from(dump_node(&mut nodes, &mut node));
            }
        });
        count += u64::from(dump_node(&mut nodes, &mut node));
        length(&mut dump.out, count);
        dump.out.append(&mut nodes);
        dump
    }

    /// A set of so many members.
    pub fn set<'a>(count: usize, members: impl Iterator<Item = Item<'a>>) -> Self {
        let mut dump = Self::new(2);
        length(&mut dump.out, count as u64);
        members.for_each(|member| dump.item(member));
        dump
    }

    /// A sorted set of so many members, the highest score first: so Redis reads it best.
    pub fn zset<'a>(count: usize, members: impl Iterator<Item = (Item<'a>, f64)>) -> Self {
        let mut dump = Self::new(5);
        length(&mut dump.out, count as u64);
        for (member, score) in members {
            dump.item(member);
            dump.out.extend_from_slice(&score.to_bits().to_le_bytes());
        }
        dump
    }

    /// The same in the packed form, in ascending order.
    pub fn packed_zset<'a>(members: impl Iterator<Item = (Item<'a>, f64)>) -> Self {
        let mut listpack = Listpack::default();
        for (member, score) in members {
            listpack.push(member);
            listpack.push(Item::of(format_double(score).as_bytes()));
        }
        Self::packed(17, listpack)
    }

    /// A hash of so many fields.
    pub fn hash<'a>(count: usize, fields: impl Iterator<Item = (Item<'a>, Item<'a>)>) -> Self {
        let mut dump = Self::new(4);
        length(&mut dump.out, count as u64);
        for (field, value) in fields {
            dump.item(field);
            dump.item(value);
        }
        dump
    }

    /// The same in the packed form.
    pub fn packed_hash<'a>(fields: impl Iterator<Item = (Item<'a>, Item<'a>)>) -> Self {
        let mut listpack = Listpack::default();
        for (field, value) in fields {
            listpack.push(field);
            listpack.push(value);
        }
        Self::packed(16, listpack)
    }

    /// A hash of so many fields of which some expire, the first of them at `first` (ms since the epoch).
    pub fn expiring_hash<'a>(
        count: usize,
        first: i64,
        fields: impl Iterator<Item = (Item<'a>, Item<'a>, Option<i64>)>,
    ) -> Self {
        let mut dump = Self::new(24);
        dump.version = EXPIRING;
        dump.out.extend_from_slice(&first.to_le_bytes());
        length(&mut dump.out, count as u64);
        for (field, value, at) in fields {
            length(&mut dump.out, at.map_or(0, |at| (at - first).unsigned_abs() + 1));
            dump.item(field);
            dump.item(value);
        }
        dump
    }

    fn packed(kind: u8, mut listpack: Listpack) -> Self {
        let mut dump = Self::new(kind);
        dump.string(&listpack.take());
        dump
    }

    fn string(&mut self, text: &[u8]) {
        string(&mut self.out, text);
    }

    fn item(&mut self, item: Item<'_>) {
        self.string(item.bytes(&mut itoa::Buffer::new()));
    }

    /// The payload, with its footer.
    pub fn finish(self) -> Vec<u8> {
        sign(self.out, self.version)
    }
}

/// A value with the footer that makes it a payload of this version of the format.
pub fn sign(mut value: Vec<u8>, version: u16) -> Vec<u8> {
    value.extend_from_slice(&version.to_le_bytes());
    let sum = crc64(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// Writes a list's node, if it has elements.
fn dump_node(out: &mut Vec<u8>, node: &mut Listpack) -> bool {
    if node.count == 0 {
        return false;
    }
    length(out, 2);
    string(out, &node.take());
    true
}

pub(super) fn length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3f => out.push(len as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        _ => match u32::try_from(len) {
            Ok(len) => {
                out.push(0x80);
                out.extend_from_slice(&len.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&len.to_be_bytes());
            }
        },
    }
}

pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= INTEGER
        && let Some(number) = parse_i64(text).and_then(|number| i32::try_from(number).ok())
    {
        let bytes = number.to_le_bytes();
        match number {
            -128..=127 => out.extend_from_slice(&[0xc0, bytes[0]]),
            -32_768..=32_767 => out.extend_from_slice(&[0xc1, bytes[0], bytes[1]]),
            _ => {
                out.push(0xc2);
                out.extend_from_slice(&bytes);
            }
        }
        return;
    }
    if text.len() > SHORT
        && let Some(data) = lzf::compress(text)
    {
        out.push(0xc3);
        length(out, data.len() as u64);
        length(out, text.len() as u64);
        out.extend_from_slice(&data);
        return;
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// A listpack being written.
#[derive(Debug, Default)]
pub(super) struct Listpack {
    elements: Vec<u8>,
    pub(super) count: usize,
}

impl Listpack {
    const AROUND: usize = 7;

    fn len(&self) -> usize {
        self.elements.len() + Self::AROUND
    }

    pub(super) fn push(&mut self, item: Item<'_>) {
        let from = self.elements.len();
        let out = &mut self.elements;
        match item {
            Item::Int(number @ 0..=127) => out.push(number as u8),
            Item::Int(number @ -4096..=4095) => {
                out.extend_from_slice(&[0xc0 | (number >> 8) as u8 & 0x1f, number as u8]);
            }
            Item::Int(number) => {
                let (kind, width) = match number {
                    -32_768..=32_767 => (0xf1, 2),
                    -8_388_608..=8_388_607 => (0xf2, 3),
                    -2_147_483_648..=2_147_483_647 => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                out.push(kind);
                out.extend_from_slice(&number.to_le_bytes()[..width]);
            }
            Item::Text(text) => {
                match text.len() {
                    len @ 0..=0x3f => out.push(0x80 | len as u8),
                    len @ 0x40..=0xfff => out.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
                    len => {
                        out.push(0xf0);
                        out.extend_from_slice(&(len as u32).to_le_bytes());
                    }
                }
                out.extend_from_slice(text);
            }
        }
        let size = out.len() - from;
        out.extend_from_slice(back_len(size).bytes());
        self.count += 1;
    }

    /// The listpack, and begins another.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        out.append(&mut self.elements);
        out.push(0xff);
        self.count = 0;
        out
    }
}
