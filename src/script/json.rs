//! The library `cjson`. It knows Lua values and bytes.

use super::sandbox::{self, Fault, Faulty, as_number, bad, shown, text};
use mlua::{LightUserData, Lua, Result, Table, Value};
use std::cell::Cell;
use std::rc::Rc;

/// What scripts can set. The engine's scripts share it, as in Redis.
struct Settings {
    sparse_convert: Cell<bool>,
    sparse_ratio: Cell<i64>,
    sparse_safe: Cell<i64>,
    encode_depth: Cell<usize>,
    decode_depth: Cell<usize>,
    precision: Cell<usize>,
    encode_invalid: Cell<bool>,
    decode_invalid: Cell<bool>,
}

/// No setting lets values nest deeper: the encoder and the parser call themselves.
const DEPTH_MAX: usize = 1000;

type Fallible = Result<Faulty<()>>;

/// The table.
pub(super) fn table(lua: &Lua) -> Result<Table> {
    let settings = Rc::new(Settings {
        sparse_convert: Cell::new(false),
        sparse_ratio: Cell::new(2),
        sparse_safe: Cell::new(10),
        encode_depth: Cell::new(1000),
        decode_depth: Cell::new(1000),
        precision: Cell::new(14),
        encode_invalid: Cell::new(false),
        decode_invalid: Cell::new(true),
    });
    let cjson = lua.create_table()?;
    cjson.raw_set("_NAME", "cjson")?;
    cjson.raw_set("_VERSION", "2.1.0")?;
    cjson.raw_set("null", Value::LightUserData(LightUserData(std::ptr::null_mut())))?;
    let own = Rc::clone(&settings);
    let encode = sandbox::function(lua, move |lua, args| {
        if args.len() != 1 {
            return Ok(Err(bad(1, "expected 1 argument")));
        }
        let mut out = Vec::new();
        match encode(lua, &own, &args[0], &mut out, 0)? {
            Ok(()) => Ok(Ok(Value::String(lua.create_string(out)?))),
            Err(text) => Ok(Err(text)),
        }
    })?;
    cjson.raw_set("encode", encode)?;
    let own = Rc::clone(&settings);
    let decode = sandbox::function(lua, move |lua, args| {
        if args.len() != 1 {
            return Ok(Err(bad(1, "expected 1 argument")));
        }
        let text = match text(lua, &args, 1)? {
            Ok(text) => text,
            Err(fault) => return Ok(Err(fault)),
        };
        let bytes = text.as_bytes();
        let mut parser = Parser { lua, settings: &own, bytes: &bytes, at: 0 };
        parser.whole()
    })?;
    cjson.raw_set("decode", decode)?;
    add_settings(lua, &cjson, &settings)?;
    Ok(cjson)
}

/// The functions that change a setting and tell it.
fn add_settings(lua: &Lua, cjson: &Table, settings: &Rc<Settings>) -> Result<()> {
    let number = |cell: fn(&Settings) -> &Cell<usize>, max: usize| {
        let own = Rc::clone(settings);
        sandbox::function(lua, move |lua, args| {
            if let Some(value) = args.front() {
                match lua.coerce_number(value.clone())? {
                    Some(value) if (1.0..=max as f64).contains(&value) => cell(&own).set(value as usize),
                    _ => return Ok(Err(bad(1, format!("expected integer between 1 and {max}")))),
                }
            }
            Ok(Ok(Value::Integer(cell(&own).get() as i64)))
        })
    };
    cjson.raw_set("encode_max_depth", number(|all| &all.encode_depth, i32::MAX as usize)?)?;
    cjson.raw_set("decode_max_depth", number(|all| &all.decode_depth, i32::MAX as usize)?)?;
    cjson.raw_set("encode_number_precision", number(|all| &all.precision, 14)?)?;
    let flag = |cell: fn(&Settings) -> &Cell<bool>| {
        let own = Rc::clone(settings);
        sandbox::function(lua, move |_, args| {
            if let Some(Value::Boolean(value)) = args.front() {
                cell(&own).set(*value);
            }
            Ok(Ok(Value::Boolean(cell(&own).get())))
        })
    };
    cjson.raw_set("encode_invalid_numbers", flag(|all| &all.encode_invalid)?)?;
    cjson.raw_set("decode_invalid_numbers", flag(|all| &all.decode_invalid)?)?;
    cjson.raw_set("encode_keep_buffer", sandbox::function(lua, |_, _| Ok(Ok(Value::Boolean(true))))?)?;
    let own = Rc::clone(settings);
    let sparse = sandbox::function_multi(lua, move |_, args| {
        if let Some(Value::Boolean(value)) = args.front() {
            own.sparse_convert.set(*value);
        }
        for (index, cell) in [(1, &own.sparse_ratio), (2, &own.sparse_safe)] {
            if let Some(value) = args.get(index).and_then(Value::as_i64).filter(|value| *value >= 0) {
                cell.set(value);
            }
        }
        let integers = [&own.sparse_ratio, &own.sparse_safe].map(|cell| Value::Integer(cell.get()));
        Ok(Ok(std::iter::once(Value::Boolean(own.sparse_convert.get())).chain(integers).collect()))
    })?;
    cjson.raw_set("encode_sparse_array", sparse)
}

fn encode(lua: &Lua, settings: &Settings, value: &Value, out: &mut Vec<u8>, depth: usize) -> Fallible {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(pointer) if pointer.0.is_null() => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::String(text) => encode_text(&text.as_bytes(), out),
        Value::Integer(_) | Value::Number(_) => {
            let number = as_number(value).unwrap_or_default();
            if !number.is_finite() && !settings.encode_invalid.get() {
                return Ok(Err("Cannot serialise number: must not be NaN or Inf".into()));
            }
            out.extend_from_slice(general(number, settings.precision.get()).as_bytes());
        }
        Value::Table(table) => return encode_table(lua, settings, table, out, depth + 1),
        other => return Ok(Err(format!("Cannot serialise {}: type not supported", other.type_name()).into())),
    }
    Ok(Ok(()))
}

fn encode_table(lua: &Lua, settings: &Settings, table: &Table, out: &mut Vec<u8>, depth: usize) -> Fallible {
    if depth > settings.encode_depth.get().min(DEPTH_MAX) {
        return Ok(Err(format!("Cannot serialise, excessive nesting ({depth})").into()));
    }
    let table = &shown(table)?;
    match array_len(settings, table)? {
        Err(text) => return Ok(Err(text)),
        Ok(Some(len)) => {
            out.push(b'[');
            for index in 1..=len {
                if index > 1 {
                    out.push(b',');
                }
                if let Err(text) = encode(lua, settings, &table.raw_get::<Value>(index)?, out, depth)? {
                    return Ok(Err(text));
                }
            }
            out.push(b']');
        }
        Ok(None) => {
            out.push(b'{');
            let (mut first, mut fault) = (true, None);
            table.for_each(|key: Value, value: Value| {
                if fault.is_some() {
                    return Ok(());
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                match &key {
                    Value::String(text) => encode_text(&text.as_bytes(), out),
                    Value::Integer(_) | Value::Number(_) => {
                        out.push(b'"');
                        let number = as_number(&key).unwrap_or_default();
                        out.extend_from_slice(general(number, settings.precision.get()).as_bytes());
                        out.push(b'"');
                    }
                    _ => {
                        let text = "table key must be a number or string";
                        fault = Some(format!("Cannot serialise {}: {text}", key.type_name()).into());
                        return Ok(());
                    }
                }
                out.push(b':');
                fault = encode(lua, settings, &value, out, depth)?.err();
                Ok(())
            })?;
            if let Some(text) = fault {
                return Ok(Err(text));
            }
            out.push(b'}');
        }
    }
    Ok(Ok(()))
}

/// The length of a table as an array; None for an object, which an empty table is too.
fn array_len(settings: &Settings, table: &Table) -> Result<Faulty<Option<i64>>> {
    let (mut max, mut items, mut is_array) = (0, 0, true);
    table.for_each(|key: Value, _: Value| {
        match key.as_i64().filter(|index| *index > 0 && key.is_number() | key.is_integer()) {
            Some(index) => {
                max = max.max(index);
                items += 1;
            }
            None => is_array = false,
        }
        Ok(())
    })?;
    if !is_array || items == 0 {
        return Ok(Ok(None));
    }
    let (ratio, safe) = (settings.sparse_ratio.get(), settings.sparse_safe.get());
    if ratio > 0 && max > items * ratio && max > safe {
        return Ok(match settings.sparse_convert.get() {
            true => Ok(None),
            false => Err("Cannot serialise table: excessively sparse array".into()),
        });
    }
    Ok(Ok(Some(max)))
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..=31 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A number as C's `%.{precision}g` prints it.
pub(super) fn general(number: f64, precision: usize) -> String {
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{number:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{number:.*}", (precision as i32 - 1 - exponent).max(0) as usize))
}

/// True for what C reads as a number and JSON does not.
fn is_invalid_number(text: &[u8]) -> bool {
    let unsigned = match text.first() {
        Some(b'+') => return true,
        Some(b'-') => &text[1..],
        _ => text,
    };
    let word = |word: &[u8]| unsigned.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match unsigned {
        [b'0', next, ..] => matches!(next, b'x' | b'X' | b'0'..=b'9'),
        _ => word(b"inf") || word(b"nan"),
    }
}

/// The number behind `0x`, with a fraction and an exponent of two if there are any, and its length.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let digits =
        |from: usize| text.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let whole = digits(0);
    let fraction = if text.get(whole) == Some(&b'.') { digits(whole + 1) } else { 0 };
    if whole + fraction == 0 {
        return None;
    }
    let mut len = if text.get(whole) == Some(&b'.') { whole + 1 + fraction } else { whole };
    let used = text[..len].iter().filter_map(|digit| char::from(*digit).to_digit(16));
    let number = used.fold(0.0, |sum: f64, digit| sum * 16.0 + f64::from(digit));
    let mut exponent = -4 * i32::try_from(fraction).ok()?;
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let negative = text.get(len + 1) == Some(&b'-');
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let power = text[len + 1 + sign..].iter().take_while(|b| b.is_ascii_digit());
        let count = power.clone().count();
        if count > 0 {
            let power = power.fold(0i32, |sum, digit| (sum * 10 + i32::from(digit - b'0')).min(100_000));
            exponent = exponent.saturating_add(if negative { -power } else { power });
            len += 1 + sign + count;
        }
    }
    // Nothing times infinity is no number.
    Some((if number == 0.0 { number } else { number * f64::from(exponent).exp2() }, len))
}

/// The number that a text begins with, as C's strtod reads it, and its length.
fn strtod(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let signs = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let rest = &text[signs..];
    let signed = |number: f64| if negative { -number } else { number };
    let word = |word: &[u8]| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let digits = |from: usize, is: fn(&u8) -> bool| rest[from.min(rest.len())..].iter().take_while(|b| is(b)).count();
    match () {
        () if word(b"infinity") => return Some((signed(f64::INFINITY), signs + 8)),
        () if word(b"inf") => return Some((signed(f64::INFINITY), signs + 3)),
        () if word(b"nan") => return Some((signed(f64::NAN), signs + 3)),
        () if word(b"0x") => {
            if let Some((number, len)) = hexadecimal(&rest[2..]) {
                return Some((signed(number), signs + 2 + len));
            }
        }
        () => {}
    }
    let whole = digits(0, u8::is_ascii_digit);
    let mut len = whole;
    if rest.get(whole) == Some(&b'.') {
        let fraction = digits(whole + 1, u8::is_ascii_digit);
        if whole + fraction > 0 {
            len = whole + 1 + fraction;
        }
    }
    if len == 0 {
        return None;
    }
    if matches!(rest.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(len + 1), Some(b'-' | b'+')));
        let exponent = digits(len + 1 + sign, u8::is_ascii_digit);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let number = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((signed(number), signs + len))
}

/// A string that is none: what is wrong, and where.
type Unreadable = (&'static str, usize);

fn unreadable(wanted: &str, (what, at): Unreadable) -> Fault {
    format!("Expected {wanted} but found {what} at character {at}").into()
}

struct Parser<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fault(&self, wanted: &str) -> Faulty<Value> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let token = match rest {
            [] | [0, ..] => "T_END",
            [b'{', ..] => "T_OBJ_BEGIN",
            [b'}', ..] => "T_OBJ_END",
            [b'[', ..] => "T_ARR_BEGIN",
            [b']', ..] => "T_ARR_END",
            [b':', ..] => "T_COLON",
            [b',', ..] => "T_COMMA",
            [b'"', ..] => match (Parser { at: self.at, ..*self }).string() {
                Ok(_) => "T_STRING",
                Err(why) => return Err(unreadable(wanted, why)),
            },
            _ if rest.starts_with(b"true") || rest.starts_with(b"false") => "T_BOOLEAN",
            _ if rest.starts_with(b"null") => "T_NULL",
            _ => self.read_number().err().unwrap_or("T_NUMBER"),
        };
        Err(format!("Expected {wanted} but found {token} at character {}", self.at + 1).into())
    }

    /// The number that comes next and its length, or what stands there instead.
    fn read_number(&self) -> std::result::Result<(f64, usize), &'static str> {
        let rest = &self.bytes[self.at..];
        let (is_plain, is_invalid) = (matches!(rest.first(), Some(b'-' | b'0'..=b'9')), is_invalid_number(rest));
        let allowed = self.settings.decode_invalid.get();
        match strtod(rest) {
            _ if !(is_plain || allowed && is_invalid) => Err("invalid token"),
            Some(number) if allowed || !is_invalid => Ok(number),
            _ => Err("invalid number"),
        }
    }

    fn whole(&mut self) -> Result<Faulty<Value>> {
        if self.bytes.len() >= 2 && (self.bytes[0] == 0 || self.bytes[1] == 0) {
            return Ok(Err("JSON parser does not support UTF-16 or UTF-32".into()));
        }
        let value = match self.value(0)? {
            Ok(value) => value,
            fault => return Ok(fault),
        };
        self.space();
        Ok(if self.bytes.get(self.at).is_some_and(|byte| *byte != 0) { self.fault("the end") } else { Ok(value) })
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let is = self.bytes[self.at..].starts_with(word);
        self.at += if is { word.len() } else { 0 };
        is
    }

    fn value(&mut self, depth: usize) -> Result<Faulty<Value>> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => return self.object(depth + 1),
            Some(b'[') => return self.array(depth + 1),
            Some(b'"') => {
                return Ok(match self.string() {
                    Ok(text) => Ok(Value::String(self.lua.create_string(text)?)),
                    Err(why) => Err(unreadable("value", why)),
                });
            }
            _ => {}
        }
        Ok(if self.word(b"null") {
            Ok(Value::LightUserData(LightUserData(std::ptr::null_mut())))
        } else if self.word(b"true") {
            Ok(Value::Boolean(true))
        } else if self.word(b"false") {
            Ok(Value::Boolean(false))
        } else {
            self.number()
        })
    }

    fn number(&mut self) -> Faulty<Value> {
        match self.read_number() {
            Ok((number, len)) => {
                self.at += len;
                Ok(Value::Number(number))
            }
            Err(_) => self.fault("value"),
        }
    }

    fn too_deep(&self, depth: usize) -> Option<Faulty<Value>> {
        (depth > self.settings.decode_depth.get().min(DEPTH_MAX)).then(|| {
            let at = self.at + 1;
            Err(format!("Found too many nested data structures ({depth}) at character {at}").into())
        })
    }

    fn object(&mut self, depth: usize) -> Result<Faulty<Value>> {
        if let Some(fault) = self.too_deep(depth) {
            return Ok(fault);
        }
        self.at += 1;
        let table = self.lua.create_table()?;
        self.space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Ok(Value::Table(table)));
        }
        loop {
            self.space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Ok(self.fault("object key string"));
            }
            let key = match self.string() {
                Ok(key) => self.lua.create_string(key)?,
                Err(why) => return Ok(Err(unreadable("object key string", why))),
            };
            self.space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Ok(self.fault("colon"));
            }
            self.at += 1;
            match self.value(depth)? {
                Ok(value) => table.raw_set(key, value)?,
                fault => return Ok(fault),
            }
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Ok(Value::Table(table)));
                }
                _ => return Ok(self.fault("comma or object end")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Faulty<Value>> {
        if let Some(fault) = self.too_deep(depth) {
            return Ok(fault);
        }
        self.at += 1;
        let table = self.lua.create_table()?;
        self.space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Ok(Value::Table(table)));
        }
        for index in 1_i64.. {
            match self.value(depth)? {
                Ok(value) => table.raw_set(index, value)?,
                fault => return Ok(fault),
            }
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Ok(self.fault("comma or array end")),
            }
        }
        self.at += 1;
        Ok(Ok(Value::Table(table)))
    }

    fn string(&mut self) -> std::result::Result<Vec<u8>, Unreadable> {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let Some(&byte) = self.bytes.get(self.at).filter(|byte| **byte != 0) else {
                return Err(("unexpected end of string", self.at + 1));
            };
            self.at += 1;
            match byte {
                b'"' => return Ok(text),
                b'\\' => {
                    let escape = self.bytes.get(self.at).copied();
                    self.at += 1;
                    match escape {
                        Some(c @ (b'"' | b'\\' | b'/')) => text.push(c),
                        Some(b'b') => text.push(8),
                        Some(b'f') => text.push(12),
                        Some(b'n') => text.push(b'\n'),
                        Some(b'r') => text.push(b'\r'),
                        Some(b't') => text.push(b'\t'),
                        Some(b'u') => {
                            let at = self.at - 1;
                            let c = self.code_point().ok_or(("invalid unicode escape code", at))?;
                            text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        _ => return Err(("invalid escape code", self.at - 1)),
                    }
                }
                _ => text.push(byte),
            }
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// The code point behind `\u`, of one escape or two.
    fn code_point(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        if !self.word(b"\\u") {
            return None;
        }
        let low = self.hex().filter(|low| (0xdc00..0xe000).contains(low))?;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, number, len) in [
            ("1.5e3x", 1500.0, 5),
            ("1e", 1.0, 1),
            ("-.5", -0.5, 3),
            ("1.", 1.0, 2),
            ("+0x1Fg", 31.0, 5),
            ("0x", 0.0, 1),
            ("Infinity", f64::INFINITY, 8),
            ("-inf1", f64::NEG_INFINITY, 4),
            ("007", 7.0, 3),
        ] {
            assert_eq!(strtod(text.as_bytes()), Some((number, len)), "{text}");
        }
        assert!(["", "-", "+x", ".", "e5"].iter().all(|text| strtod(text.as_bytes()).is_none()));
        assert!(["+1", "01", "0x1", "-nan", "INF"].iter().all(|text| is_invalid_number(text.as_bytes())));
        assert!(["1", "-0", "0.5", "1e5"].iter().all(|text| !is_invalid_number(text.as_bytes())));
    }

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333333333333"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "1.2345678901234e+14"),
            (-0.0001, "-0.0001"),
            (0.00001, "1e-05"),
            (99_999_999_999_999.0, "99999999999999"),
        ] {
            assert_eq!(general(number, 14), text);
        }
    }
}
