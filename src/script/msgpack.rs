//! The library `cmsgpack`: Lua values to and from MessagePack. It knows Lua values and bytes.

use super::sandbox::{Fault, Faulty, as_number, bad, function, function_multi, integer, shown, text};
use mlua::{Lua, MultiValue, Result, Table, Value};

/// Tables in tables that are packed; what lies deeper is nil.
const PACK_DEPTH: usize = 16;
/// Values of one call, at most: Lua's stack holds no more.
const VALUES_MAX: usize = 7990;
/// Tables in tables that are unpacked. Redis allows some thousands; here the machine's stack has to hold them, too.
const UNPACK_DEPTH: usize = 1000;

fn pack(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::String(text) => {
            let text = text.as_bytes();
            head(out, text.len(), Some((0xa0, 31)), &[(0xd9, 1), (0xda, 2), (0xdb, 4)]);
            out.extend_from_slice(&text);
        }
        Value::Boolean(truth) => out.push(if *truth { 0xc3 } else { 0xc2 }),
        Value::Integer(_) | Value::Number(_) => pack_number(as_number(value).unwrap_or_default(), out),
        Value::Table(table) if depth < PACK_DEPTH => return pack_table(table, depth, out),
        _ => out.push(0xc0),
    }
    Ok(())
}

/// A type's first byte and a length: in that byte, or behind it in as few bytes as there is a form for.
fn head(out: &mut Vec<u8>, len: usize, short: Option<(u8, usize)>, forms: &[(u8, usize)]) {
    if let Some((byte, max)) = short
        && len <= max
    {
        return out.push(byte | len as u8);
    }
    for &(byte, size) in forms {
        if size == 4 || len < 1 << (size * 8) {
            out.push(byte);
            return out.extend_from_slice(&(len as u32).to_be_bytes()[4 - size..]);
        }
    }
}

fn pack_number(number: f64, out: &mut Vec<u8>) {
    let whole = number as i64;
    if whole as f64 != number || number >= i64::MAX as f64 {
        let single = number as f32;
        if f64::from(single) == number {
            out.push(0xca);
            return out.extend_from_slice(&single.to_be_bytes());
        }
        out.push(0xcb);
        return out.extend_from_slice(&number.to_be_bytes());
    }
    let (byte, size) = match whole {
        -32..=127 => return out.push(whole as u8),
        128..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -128..=-33 => (0xd0, 1),
        -0x8000..=-129 => (0xd1, 2),
        -0x8000_0000..=-0x8001 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(byte);
    out.extend_from_slice(&whole.to_be_bytes()[8 - size..]);
}

fn pack_table(table: &Table, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    let table = &shown(table)?;
    // Keys 1 to n and no others make an array; so does no key at all.
    let (mut max, mut count, mut is_array) = (0.0, 0, true);
    table.for_each(|key: Value, _: Value| {
        count += 1;
        match as_number(&key) {
            Some(index) if index > 0.0 && index.fract() == 0.0 => max = index.max(max),
            _ => is_array = false,
        }
        Ok(())
    })?;
    if is_array && max == count as f64 {
        head(out, count, Some((0x90, 15)), &[(0xdc, 2), (0xdd, 4)]);
        return (1..=count).try_for_each(|index| pack(&table.raw_get::<Value>(index)?, depth + 1, out));
    }
    head(out, count, Some((0x80, 15)), &[(0xde, 2), (0xdf, 4)]);
    table.for_each(|key: Value, value: Value| {
        pack(&key, depth + 1, out)?;
        pack(&value, depth + 1, out)
    })
}

/// What is left to unpack.
struct Input<'b> {
    lua: &'b Lua,
    rest: &'b [u8],
}

impl Input<'_> {
    fn take(&mut self, len: usize) -> Faulty<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("Missing bytes in input.")?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, size: usize) -> Faulty<u64> {
        Ok(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, size: usize) -> Faulty<f64> {
        let unused = 64 - size as u32 * 8;
        Ok(((self.unsigned(size)? << unused) as i64 >> unused) as f64)
    }

    /// The next value, which lies in so many tables.
    fn value(&mut self, depth: usize) -> Result<Faulty<Value>> {
        let kind = match self.take(1) {
            Ok(byte) => byte[0],
            Err(fault) => return Ok(Err(fault)),
        };
        let number = match kind {
            0..=0x7f => Ok(f64::from(kind)),
            0xe0.. => Ok(f64::from(kind as i8)),
            0xca => self.unsigned(4).map(|bits| f32::from_bits(bits as u32).into()),
            0xcb => self.unsigned(8).map(f64::from_bits),
            // What is past an integer wraps.
            0xcc..=0xcf => self.unsigned(1 << (kind - 0xcc)).map(|number| number as i64 as f64),
            0xd0..=0xd3 => self.signed(1 << (kind - 0xd0)),
            0xc0 => return Ok(Ok(Value::Nil)),
            0xc2 | 0xc3 => return Ok(Ok(Value::Boolean(kind == 0xc3))),
            0xa0..=0xbf => return self.string(Ok(u64::from(kind & 31))),
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (kind - 0xd9));
                return self.string(len);
            }
            0x90..=0x9f => return self.array(Ok(u64::from(kind & 15)), depth),
            0xdc | 0xdd => {
                let len = self.unsigned(2 << (kind - 0xdc));
                return self.array(len, depth);
            }
            0x80..=0x8f => return self.map(Ok(u64::from(kind & 15)), depth),
            0xde | 0xdf => {
                let len = self.unsigned(2 << (kind - 0xde));
                return self.map(len, depth);
            }
            _ => Err("Bad data format in input.".into()),
        };
        Ok(number.map(Value::Number))
    }

    fn string(&mut self, len: Faulty<u64>) -> Result<Faulty<Value>> {
        let lua = self.lua;
        Ok(match len.and_then(|len| self.take(len as usize)) {
            Ok(text) => Ok(Value::String(lua.create_string(text)?)),
            Err(fault) => Err(fault),
        })
    }

    fn array(&mut self, len: Faulty<u64>, depth: usize) -> Result<Faulty<Value>> {
        let len = match len {
            Ok(_) if depth >= UNPACK_DEPTH => {
                return Ok(Err("stack overflow (in function mp_decode_to_lua_array)".into()));
            }
            Ok(len) => len,
            Err(fault) => return Ok(Err(fault)),
        };
        let table = self.lua.create_table()?;
        for index in 1..=len {
            match self.value(depth + 1)? {
                Ok(value) => table.raw_set(index, value)?,
                fault => return Ok(fault),
            }
        }
        Ok(Ok(Value::Table(table)))
    }

    fn map(&mut self, len: Faulty<u64>, depth: usize) -> Result<Faulty<Value>> {
        let len = match len {
            Ok(_) if depth >= UNPACK_DEPTH => {
                return Ok(Err("stack overflow (in function mp_decode_to_lua_hash)".into()));
            }
            Ok(len) => len,
            Err(fault) => return Ok(Err(fault)),
        };
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let key = match self.value(depth + 1)? {
                Ok(key) => key,
                fault => return Ok(fault),
            };
            let value = match self.value(depth + 1)? {
                Ok(value) => value,
                fault => return Ok(fault),
            };
            match &key {
                Value::Nil => return Ok(Err(Fault::Line("ERR table index is nil".into()))),
                Value::Number(number) if number.is_nan() => {
                    return Ok(Err(Fault::Line("ERR table index is NaN".into())));
                }
                _ => table.raw_set(key, value)?,
            }
        }
        Ok(Ok(Value::Table(table)))
    }
}

/// Values from `offset` on, `limit` at most; with neither, all of them and no offset of the rest in front.
fn unpack(lua: &Lua, args: &MultiValue, limit: i64, offset: i64) -> Result<Faulty<Vec<Value>>> {
    let bytes = match text(lua, args, 1)? {
        Ok(bytes) => bytes,
        Err(fault) => return Ok(Err(fault)),
    };
    let bytes = bytes.as_bytes();
    let len = bytes.len();
    let (limit, offset) = (limit as i32, offset as i32);
    if limit < 0 || offset < 0 {
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Ok(Err(text.into()));
    }
    let Some(rest) = bytes.get(offset as usize..) else {
        return Ok(Err(format!("Start offset {offset} greater than input length {len}.").into()));
    };
    let all = limit == 0 && offset == 0;
    let mut input = Input { lua, rest };
    let mut values = Vec::new();
    while !input.rest.is_empty() && (all || values.len() < limit as usize) {
        match input.value(0)? {
            Ok(value) => values.push(value),
            Err(fault) => return Ok(Err(fault)),
        }
        if values.len() >= VALUES_MAX {
            return Ok(Err("stack overflow (in function mp_unpack_full)".into()));
        }
    }
    if !all {
        let next = if input.rest.is_empty() { -1 } else { (len - input.rest.len()) as i64 };
        values.insert(0, Value::Integer(next));
    }
    Ok(Ok(values))
}

/// The table.
pub(super) fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let packing = function(lua, |lua, args| {
        if args.is_empty() {
            return Ok(Err(bad(0, "MessagePack pack needs input.")));
        }
        let mut out = Vec::new();
        args.iter().try_for_each(|value| pack(value, 0, &mut out))?;
        Ok(Ok(Value::String(lua.create_string(out)?)))
    })?;
    table.raw_set("pack", packing)?;
    table.raw_set("unpack", function_multi(lua, |lua, args| unpack(lua, &args, 0, 0))?)?;
    let one = function_multi(lua, |lua, args| match integer(lua, &args, 2, Some(0))? {
        Ok(offset) => unpack(lua, &args, 1, offset),
        Err(fault) => Ok(Err(fault)),
    })?;
    table.raw_set("unpack_one", one)?;
    let limit =
        function_multi(lua, |lua, args| match (integer(lua, &args, 2, None)?, integer(lua, &args, 3, Some(0))?) {
            (Ok(limit), Ok(offset)) => unpack(lua, &args, limit, offset),
            (Err(fault), _) | (_, Err(fault)) => Ok(Err(fault)),
        })?;
    table.raw_set("unpack_limit", limit)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Redis Ltd.")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}
