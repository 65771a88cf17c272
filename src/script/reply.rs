//! Replies to Lua values and back. It must not know commands.

use crate::number::format_double;
use crate::protocol::{Reply, parse_i64};
use mlua::{Lua, Result, Table, Value};

/// Tables in tables that are answered, at most.
const MAX_DEPTH: usize = 256;

/// Writes what a script returned. `bool3`: it speaks RESP3, in which there are booleans.
pub(super) fn write(reply: &mut Reply<'_>, value: &Value, bool3: bool, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        reply.error("ERR reached lua stack limit");
        return Ok(());
    }
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Integer(number) => reply.integer(*number),
        // As a C compiler's code casts: what does not fit is the least number.
        Value::Number(number) if number.abs() < 9.3e18 && (*number as i64) != i64::MAX => reply.integer(*number as i64),
        Value::Number(_) => reply.integer(i64::MIN),
        Value::Boolean(truth) if bool3 => reply.boolean(*truth),
        Value::Boolean(true) => reply.integer(1),
        Value::Table(table) => return write_table(reply, table, bool3, depth),
        _ => reply.null(),
    }
    Ok(())
}

fn write_table(reply: &mut Reply<'_>, table: &Table, bool3: bool, depth: usize) -> Result<()> {
    if let Value::String(text) = table.raw_get("err")? {
        reply.error_bytes(&text.as_bytes());
    } else if let Value::String(text) = table.raw_get("ok")? {
        reply.simple_bytes(&text.as_bytes());
    } else if let Value::Number(number) = as_number(table.raw_get("double")?) {
        reply.double(number);
    } else if let Value::Table(map) = table.raw_get("map")? {
        reply.map(count(&map)?);
        return map.for_each(|key: Value, value: Value| {
            write(reply, &key, bool3, depth + 1)?;
            write(reply, &value, bool3, depth + 1)
        });
    } else if let Value::Table(set) = table.raw_get("set")? {
        reply.set(count(&set)?);
        return set.for_each(|key: Value, _: Value| write(reply, &key, bool3, depth + 1));
    } else if let Value::String(digits) = table.raw_get("big_number")? {
        reply.big_number(&digits.as_bytes());
    } else if let Some((format, text)) = verbatim(table)? {
        reply.verbatim(&format, &text);
    } else {
        let mut len = 0;
        while !matches!(table.raw_get::<Value>(len + 1)?, Value::Nil) {
            len += 1;
        }
        reply.array(len);
        for index in 1..=len {
            write(reply, &table.raw_get::<Value>(index)?, bool3, depth + 1)?;
        }
    }
    Ok(())
}

fn as_number(value: Value) -> Value {
    if let Value::Integer(number) = value { Value::Number(number as f64) } else { value }
}

fn count(table: &Table) -> Result<usize> {
    let mut count = 0;
    table.for_each(|_: Value, _: Value| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn verbatim(table: &Table) -> Result<Option<(String, Vec<u8>)>> {
    let Value::Table(parts) = table.raw_get("verbatim_string")? else { return Ok(None) };
    let (Value::String(format), Value::String(text)) = (parts.raw_get("format")?, parts.raw_get("string")?) else {
        return Ok(None);
    };
    Ok(Some((format.to_string_lossy(), text.as_bytes().to_vec())))
}

/// Reads a reply that Cenote itself has written.
pub(super) struct Parser<'a> {
    bytes: &'a [u8],
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn line(&mut self) -> &'a [u8] {
        let end = memchr::memchr(b'\r', self.bytes).unwrap_or(self.bytes.len());
        let line = &self.bytes[..end];
        self.bytes = self.bytes.get(end + 2..).unwrap_or_default();
        line
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let text = self.bytes.get(..len).unwrap_or_default();
        self.bytes = self.bytes.get(len + 2..).unwrap_or_default();
        text
    }

    /// The next value.
    pub(super) fn value(&mut self, lua: &Lua) -> Result<Value> {
        let line = self.line();
        let Some((kind, rest)) = line.split_first() else { return Ok(Value::Nil) };
        let number = || parse_i64(rest).unwrap_or_default();
        let text = |bytes: &[u8]| lua.create_string(bytes).map(Value::String);
        Ok(match kind {
            b'$' if number() < 0 => Value::Boolean(false),
            b'*' if number() < 0 => Value::Boolean(false),
            b'$' => text(self.take(number() as usize))?,
            b':' => Value::Number(number() as f64),
            b'+' => field(lua, "ok", text(rest)?)?,
            b'-' => error(lua, rest)?,
            b'*' | b'>' => {
                let table = lua.create_table()?;
                for index in 1..=number() {
                    let value = self.value(lua)?;
                    table.raw_set(index, value)?;
                }
                Value::Table(table)
            }
            b'%' => {
                let table = lua.create_table()?;
                for _ in 0..number() {
                    let (key, value) = (self.value(lua)?, self.value(lua)?);
                    if !key.is_nil() {
                        table.raw_set(key, value)?;
                    }
                }
                field(lua, "map", Value::Table(table))?
            }
            b'~' => {
                let table = lua.create_table()?;
                for _ in 0..number() {
                    let key = self.value(lua)?;
                    if !key.is_nil() {
                        table.raw_set(key, true)?;
                    }
                }
                field(lua, "set", Value::Table(table))?
            }
            b'|' => {
                for _ in 0..number() * 2 {
                    self.value(lua)?;
                }
                self.value(lua)?
            }
            b',' => {
                let number = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                field(lua, "double", Value::Number(number))?
            }
            b'#' => Value::Boolean(rest == b"t"),
            b'(' => field(lua, "big_number", text(rest)?)?,
            b'=' => {
                let all = self.take(number() as usize);
                let parts = lua.create_table()?;
                parts.raw_set("format", text(all.get(..3).unwrap_or_default())?)?;
                parts.raw_set("string", text(all.get(4..).unwrap_or_default())?)?;
                field(lua, "verbatim_string", Value::Table(parts))?
            }
            _ => Value::Nil,
        })
    }
}

fn field(lua: &Lua, name: &str, value: Value) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

/// An error reply as scripts see it.
pub(super) fn error(lua: &Lua, line: &[u8]) -> Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(line)?)?;
    // It is counted where it occurred.
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// A number, which Lua's binding gives in two forms.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// A number as an argument of a command.
pub(super) fn argument(number: f64, buf: &mut Vec<u8>) {
    if number.fract() == 0.0 && number.abs() < 9.2e18 {
        buf.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else if number.is_nan() {
        buf.extend_from_slice(if number.is_sign_negative() { b"-nan" } else { b"nan" });
    } else {
        buf.extend_from_slice(format_double(number).as_bytes());
    }
}
