//! The library `struct`: numbers and strings to and from bytes, by a format. It knows Lua values and bytes.

use super::sandbox::{Fault, Faulty, bad, function, function_multi, integer, number, text};
use mlua::{Lua, MultiValue, Result, Table, Value};

/// The largest integer, in bytes; of those above eight the rest is zeros.
const INTEGER_MAX: usize = 32;
/// What `!` alone aligns to.
const ALIGN: usize = 8;
/// Results of one call, at most.
const RESULTS_MAX: usize = 7900;

/// A format being read.
struct Format<'f> {
    rest: &'f [u8],
    big: bool,
    align: usize,
}

impl<'f> Format<'f> {
    /// A format ends at its first zero.
    fn new(text: &'f [u8]) -> Self {
        Self { rest: text.split(|byte| *byte == 0).next().unwrap_or_default(), big: false, align: 1 }
    }

    /// The number that comes next, if one does.
    fn number(&mut self, absent: usize) -> Faulty<usize> {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok(absent);
        }
        let mut sum = 0usize;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            sum = sum * 10 + usize::from(digit - b'0');
            if sum > i32::MAX as usize {
                return Err("integral size overflow".into());
            }
            self.rest = rest;
        }
        Ok(sum)
    }

    /// The next option, with its size.
    fn next(&mut self) -> Faulty<Option<(u8, usize)>> {
        let Some((&option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_MAX {
                    return Err(format!("integral size {size} is larger than limit of {INTEGER_MAX}").into());
                }
                size
            }
            _ => 0,
        };
        Ok(Some((option, size)))
    }

    /// Bytes that lie between position `at` and the place of the option.
    fn padding(&self, at: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.align);
        size.wrapping_sub(at & (size - 1)) & (size - 1)
    }

    /// An option that moves nothing.
    fn control(&mut self, option: u8) -> Faulty<()> {
        match option {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(ALIGN)?;
                if !align.is_power_of_two() {
                    return Err(format!("alignment {align} is not a power of 2").into());
                }
                self.align = align;
            }
            other => return Err(bad(1, format!("invalid format option '{}'", other as char))),
        }
        Ok(())
    }
}

/// As C casts: what does not fit wraps to one edge or the other.
fn to_bits(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    match number {
        n if n.is_nan() || n < -HALF => 1 << 63,
        n if n < HALF => n as i64 as u64,
        n if n < HALF * 2.0 => n as u64,
        _ => 0,
    }
}

fn put_integer(out: &mut Vec<u8>, value: u64, size: usize, big: bool) {
    let byte = |index: usize| if index < 8 { (value >> (index * 8)) as u8 } else { 0 };
    match big {
        true => out.extend((0..size).rev().map(byte)),
        false => out.extend((0..size).map(byte)),
    }
}

fn get_integer(bytes: &[u8], signed: bool, big: bool) -> f64 {
    let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    let mut value = if big { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) };
    if !signed {
        return value as f64;
    }
    let mask = u64::MAX << ((bytes.len() * 8).wrapping_sub(1) & 63);
    if value & mask != 0 {
        value |= mask;
    }
    value as i64 as f64
}

/// Extends a number's bytes, which come in the machine's order.
fn in_order<const N: usize>(mut bytes: [u8; N], big: bool) -> [u8; N] {
    if big {
        bytes.reverse();
    }
    bytes
}

fn pack(lua: &Lua, mut args: MultiValue) -> Result<Faulty<Vec<u8>>> {
    // Real servers see a nil behind the last argument.
    if !args.is_empty() {
        args.push_back(Value::Nil);
    }
    let args = &args;
    let format = match text(lua, args, 1)? {
        Ok(format) => format,
        Err(fault) => return Ok(Err(fault)),
    };
    let format = format.as_bytes();
    let mut format = Format::new(&format);
    let (mut out, mut arg) = (Vec::new(), 2);
    // Wrong sizes are not repaired: `s` counts its zero, and padding is of what was counted.
    let mut total = 0;
    loop {
        let (option, mut size) = match format.next() {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Ok(out)),
            Err(fault) => return Ok(Err(fault)),
        };
        let padding = format.padding(total, option, size);
        total += padding;
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' | b'f' | b'd' => {
                let value = match number(lua, args, arg)? {
                    Ok(value) => value,
                    Err(fault) => return Ok(Err(fault)),
                };
                arg += 1;
                match option {
                    b'f' => out.extend(in_order((value as f32).to_le_bytes(), format.big)),
                    b'd' => out.extend(in_order(value.to_le_bytes(), format.big)),
                    _ => put_integer(&mut out, to_bits(value), size, format.big),
                }
            }
            b'x' => out.push(0),
            b'c' | b's' => {
                let value = match text(lua, args, arg)? {
                    Ok(value) => value,
                    Err(fault) => return Ok(Err(fault)),
                };
                arg += 1;
                let value = value.as_bytes();
                if size == 0 {
                    size = value.len();
                }
                let Some(value) = value.get(..size) else { return Ok(Err(bad(arg, "string too short"))) };
                out.extend_from_slice(value);
                if option == b's' {
                    out.push(0);
                    size += 1;
                }
            }
            _ => {
                if let Err(fault) = format.control(option) {
                    return Ok(Err(fault));
                }
            }
        }
        total += size;
    }
}

fn unpack(lua: &Lua, args: &MultiValue) -> Result<Faulty<Vec<Value>>> {
    let (format, data, at) = match (text(lua, args, 1)?, text(lua, args, 2)?, integer(lua, args, 3, Some(1))?) {
        (Ok(format), Ok(data), Ok(at)) => (format, data, at),
        (Err(fault), ..) | (_, Err(fault), _) | (_, _, Err(fault)) => return Ok(Err(fault)),
    };
    if at == 0 {
        return Ok(Err(bad(3, "offset must be 1 or greater")));
    }
    let (format, data) = (format.as_bytes(), data.as_bytes());
    let mut results = Vec::new();
    Ok(match read(lua, &mut Format::new(&format), &data, at as usize - 1, &mut results)? {
        Ok(end) => {
            results.push(Value::Number((end as i64).wrapping_add(1) as f64));
            Ok(results)
        }
        Err(fault) => Err(fault),
    })
}

/// Reads `data` from position `at` on. Returns the end's position.
fn read(
    lua: &Lua,
    format: &mut Format<'_>,
    data: &[u8],
    mut at: usize,
    results: &mut Vec<Value>,
) -> Result<Faulty<usize>> {
    let short = || Ok(Err(bad(2, "data string too short")));
    loop {
        let (option, mut size) = match format.next() {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Ok(at)),
            Err(fault) => return Ok(Err(fault)),
        };
        at = at.wrapping_add(format.padding(at, option, size));
        if at > data.len() || size > data.len() - at {
            return short();
        }
        if results.len() >= RESULTS_MAX {
            return Ok(Err("stack overflow (too many results)".into()));
        }
        let bytes = &data[at..at + size];
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = option.is_ascii_lowercase();
                results.push(Value::Number(get_integer(bytes, signed, format.big)));
            }
            b'x' => {}
            b'f' => {
                let bytes = in_order(bytes.try_into().unwrap_or_default(), format.big);
                results.push(Value::Number(f32::from_le_bytes(bytes).into()));
            }
            b'd' => {
                let bytes = in_order(bytes.try_into().unwrap_or_default(), format.big);
                results.push(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if size == 0 {
                    let Some(Value::Number(before)) = numeric(lua, results.last())? else {
                        return Ok(Err("format 'c0' needs a previous size".into()));
                    };
                    size = to_bits(before) as usize;
                    results.pop();
                    if size > data.len() - at {
                        return short();
                    }
                }
                results.push(Value::String(lua.create_string(&data[at..at + size])?));
            }
            b's' => {
                let Some(len) = memchr::memchr(0, &data[at..]) else {
                    return Ok(Err("unfinished string in data".into()));
                };
                size = len + 1;
                results.push(Value::String(lua.create_string(&data[at..at + len])?));
            }
            _ => {
                if let Err(fault) = format.control(option) {
                    return Ok(Err(fault));
                }
            }
        }
        at += size;
    }
}

/// A result as a number, if it is one or reads as one.
fn numeric(lua: &Lua, value: Option<&Value>) -> Result<Option<Value>> {
    let Some(value) = value else { return Ok(None) };
    Ok(lua.coerce_number(value.clone())?.map(Value::Number))
}

fn size(format: &[u8]) -> Faulty<usize> {
    let mut format = Format::new(format);
    let mut total = 0usize;
    while let Some((option, size)) = format.next()? {
        total = total.wrapping_add(format.padding(total, option, size));
        match option {
            b's' => return Err(bad(1, "option 's' has no fixed size")),
            b'c' if size == 0 => return Err(bad(1, "option 'c0' has no fixed size")),
            // Letters that are no option count for nothing here.
            _ if !option.is_ascii_alphanumeric() => format.control(option)?,
            _ => {}
        }
        total = total.wrapping_add(size);
    }
    Ok(total)
}

/// The table.
pub(super) fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let packing = function(lua, |lua, args| {
        Ok(match pack(lua, args)? {
            Ok(bytes) => Ok(Value::String(lua.create_string(bytes)?)),
            Err(fault) => Err(fault),
        })
    })?;
    table.raw_set("pack", packing)?;
    table.raw_set("unpack", function_multi(lua, |lua, args| unpack(lua, &args))?)?;
    let sizing = function(lua, |lua, args| {
        Ok(match text(lua, &args, 1)? {
            Ok(format) => size(&format.as_bytes()).map(|size| Value::Number(size as f64)),
            Err(fault) => Err::<_, Fault>(fault),
        })
    })?;
    table.raw_set("size", sizing)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_their_edges() {
        for (number, bits) in [
            (-1.0, u64::MAX),
            (255.9, 255),
            (-1e300, 1 << 63),
            (1e300, 0),
            (f64::NAN, 1 << 63),
            (9_223_372_036_854_775_808.0, 1 << 63),
        ] {
            assert_eq!(to_bits(number), bits, "{number}");
        }
        let mut out = Vec::new();
        put_integer(&mut out, to_bits(-2.0), 9, true);
        assert_eq!(out, [0, 255, 255, 255, 255, 255, 255, 255, 254]);
        assert_eq!(get_integer(&[0xfe, 0xff], true, false), -2.0);
        assert_eq!(get_integer(&[0xfe, 0xff], false, false), 65534.0);
    }

    #[test]
    fn sizes_count_the_padding() {
        assert_eq!(size(b"!bh"), Ok(4));
        assert_eq!(size(b"!8bd"), Ok(16));
        assert_eq!(size(b"bd"), Ok(9));
        assert_eq!(size(b"i99999999999"), Err("integral size overflow".into()));
        assert!(size(b"s").is_err() && size(b"c0").is_err() && size(b"!3").is_err() && size(b"?").is_err());
    }
}
