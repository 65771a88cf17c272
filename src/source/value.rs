//! Column values as text: one stable form for every Postgres type, as JSON or bare.
//!
//! | type | in JSON | as a string |
//! |---|---|---|
//! | bool | `true` | `true` |
//! | int2, int4, int8, oid, float4, float8, numeric | a number: exact, floats in the shortest digits that read back the same; NaN and the infinities as strings | the same, bare |
//! | json, jsonb | embedded as it is | as it is |
//! | bytea | base64 | the bytes themselves |
//! | date, time, timestamp, timestamptz, interval | ISO 8601; timestamptz in UTC with `Z` | the same, bare |
//! | arrays | a JSON array of the elements' forms | the same |
//! | text and its kin, uuid, inet, cidr, macaddr, enums | a string | the same, bare |
//! | domains | as their base type | the same |
//! | every other type | a string: what Postgres shows for `::text` | the same, bare |
//!
//! Knows the binary formats of the wire, not the driver.

use super::{datetime, number};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes that are not what the type's binary format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Why a value could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// Not what its type's format says.
    Malformed,
    /// Longer than allowed.
    TooLarge,
}

impl From<Malformed> for Unwritable {
    fn from(_: Malformed) -> Unwritable {
        Unwritable::Malformed
    }
}

/// How a column's binary form is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    /// text, varchar, bpchar, name, enums, and what was cast to text.
    Text,
    /// `"char"`, one byte.
    Char,
    Json,
    Jsonb,
    Uuid,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    /// inet and cidr.
    Inet,
    /// macaddr and macaddr8.
    Mac,
    Array(Box<Form>),
}

/// What was appended: a JSON value as it stands, or text that JSON must quote.
enum Written {
    Bare,
    Quotable,
}

/// Exactly `N` bytes.
pub(super) fn array<const N: usize>(raw: &[u8]) -> Result<[u8; N], Malformed> {
    raw.try_into().map_err(|_| Malformed)
}

impl Form {
    /// Appends a column as JSON; `None` is NULL. `out` may not grow past `limit` bytes.
    pub(super) fn json(&self, raw: Option<&[u8]>, out: &mut Vec<u8>, limit: usize) -> Result<(), Unwritable> {
        let Some(raw) = raw else {
            out.extend_from_slice(b"null");
            return within(out, limit);
        };
        // None of these forms is shorter than its bytes: refused before it is copied.
        if matches!(self, Form::Text | Form::Json | Form::Jsonb | Form::Bytea) && out.len() + raw.len() > limit + 1 {
            return Err(Unwritable::TooLarge);
        }
        match self {
            Form::Text => string(raw, out)?,
            Form::Bytea => {
                out.push(b'"');
                base64(raw, out);
                out.push(b'"');
            }
            Form::Array(element) => elements(element, raw, out, limit)?,
            scalar => {
                let start = out.len();
                if let Written::Quotable = scalar.scalar(raw, out)? {
                    // Short, and nothing in it needs an escape.
                    out.insert(start, b'"');
                    out.push(b'"');
                }
            }
        }
        within(out, limit)
    }

    /// Appends a column as bare text.
    pub(super) fn text(&self, raw: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Unwritable> {
        match self {
            Form::Text | Form::Bytea => {
                if out.len() + raw.len() > limit {
                    return Err(Unwritable::TooLarge);
                }
                out.extend_from_slice(raw);
            }
            Form::Array(element) => elements(element, raw, out, limit)?,
            scalar => {
                scalar.scalar(raw, out)?;
            }
        }
        within(out, limit)
    }

    /// Appends what is neither text nor a list.
    fn scalar(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<Written, Malformed> {
        let finite = |finite: bool| if finite { Written::Bare } else { Written::Quotable };
        match self {
            Form::Bool => match raw {
                [0] => out.extend_from_slice(b"false"),
                [1] => out.extend_from_slice(b"true"),
                _ => return Err(Malformed),
            },
            Form::Int2 => integer(i64::from(i16::from_be_bytes(array(raw)?)), out),
            Form::Int4 => integer(i64::from(i32::from_be_bytes(array(raw)?)), out),
            Form::Int8 => integer(i64::from_be_bytes(array(raw)?), out),
            Form::Oid => integer(i64::from(u32::from_be_bytes(array(raw)?)), out),
            Form::Float4 => return number::float4(f32::from_be_bytes(array(raw)?), out).map(finite),
            Form::Float8 => return number::float8(f64::from_be_bytes(array(raw)?), out).map(finite),
            Form::Numeric => return number::numeric(raw, out).map(finite),
            Form::Json => out.extend_from_slice(utf8(raw)?.as_bytes()),
            Form::Jsonb => match raw {
                [1, json @ ..] => out.extend_from_slice(utf8(json)?.as_bytes()),
                _ => return Err(Malformed),
            },
            other => {
                other.quotable(raw, out)?;
                return Ok(Written::Quotable);
            }
        }
        Ok(Written::Bare)
    }

    /// Appends what JSON shows as a string without escapes.
    fn quotable(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Form::Char => character(array(raw)?, out),
            Form::Uuid => uuid(array(raw)?, out),
            Form::Date => datetime::date(raw, out)?,
            Form::Time => datetime::time(raw, out)?,
            Form::TimeTz => datetime::time_with_zone(raw, out)?,
            Form::Timestamp => datetime::timestamp(raw, "", out)?,
            Form::TimestampTz => datetime::timestamp(raw, "Z", out)?,
            Form::Interval => datetime::interval(raw, out)?,
            Form::Inet => inet(raw, out)?,
            Form::Mac => mac(raw, out)?,
            // Written by the callers of `scalar` or by itself.
            _ => return Err(Malformed),
        }
        Ok(())
    }
}

fn within(out: &[u8], limit: usize) -> Result<(), Unwritable> {
    if out.len() > limit { Err(Unwritable::TooLarge) } else { Ok(()) }
}

fn utf8(raw: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(raw).map_err(|_| Malformed)
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a JSON string with its escapes. Only a database in SQL_ASCII can hold what is not UTF-8.
fn string(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    serde_json::to_writer(out, utf8(raw)?).map_err(|_| Malformed)
}

/// Appends a `"char"` as Postgres shows it: nothing for zero, and octal for what is not ASCII. The two that JSON must
/// escape cannot be told from bare text later, so they are shown in octal as well.
fn character([byte]: [u8; 1], out: &mut Vec<u8>) {
    match byte {
        0 => {}
        b'"' | b'\\' | 1..0x20 | 0x80.. => out.extend_from_slice(format!("{byte:03o}").as_bytes()),
        _ => out.push(byte),
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        hex(byte, out);
    }
}

fn mac(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if !matches!(raw.len(), 6 | 8) {
        return Err(Malformed);
    }
    for (index, byte) in raw.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        hex(*byte, out);
    }
    Ok(())
}

fn inet(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let ([_, bits, is_cidr, length], address) = raw.split_first_chunk::<4>().ok_or(Malformed)?;
    let (address, full) = match (length, address.len()) {
        (4, 4) => (Ipv4Addr::from(array::<4>(address)?).to_string(), 32),
        (16, 16) => (Ipv6Addr::from(array::<16>(address)?).to_string(), 128),
        _ => return Err(Malformed),
    };
    out.extend_from_slice(address.as_bytes());
    if *is_cidr != 0 || *bits != full {
        out.push(b'/');
        integer(i64::from(*bits), out);
    }
    Ok(())
}

/// Appends standard base64 with padding.
fn base64(raw: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in raw.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { b'=' } else { digit });
        }
    }
}

/// Reads big-endian numbers and byte runs from the front of a value.
struct Cursor<'r>(&'r [u8]);

impl<'r> Cursor<'r> {
    fn int(&mut self) -> Result<i32, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*bytes))
    }

    /// A value preceded by its length; -1 is NULL.
    fn field(&mut self) -> Result<Option<&'r [u8]>, Malformed> {
        let length = match self.int()? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| Malformed)?,
        };
        let (field, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Some(field))
    }
}

/// Most dimensions a Postgres array has.
const DIMENSIONS_MAX: usize = 6;

/// Appends an array, nested by its dimensions.
fn elements(element: &Form, raw: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Unwritable> {
    let mut cursor = Cursor(raw);
    let dimensions = usize::try_from(cursor.int()?).map_err(|_| Malformed)?;
    let (_has_null, _element_type) = (cursor.int()?, cursor.int()?);
    if dimensions > DIMENSIONS_MAX {
        return Err(Unwritable::Malformed);
    }
    let mut lengths = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        lengths.push(usize::try_from(cursor.int()?).map_err(|_| Malformed)?);
        let _lower_bound = cursor.int()?;
    }
    if lengths.is_empty() {
        out.extend_from_slice(b"[]");
    } else {
        dimension(element, &lengths, &mut cursor, out, limit)?;
    }
    if cursor.0.is_empty() { Ok(()) } else { Err(Unwritable::Malformed) }
}

fn dimension(
    element: &Form,
    lengths: &[usize],
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Unwritable> {
    let (length, inner) = lengths.split_first().ok_or(Malformed)?;
    out.push(b'[');
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        if inner.is_empty() {
            element.json(cursor.field()?, out, limit)?;
        } else {
            dimension(element, inner, cursor, out, limit)?;
        }
    }
    out.push(b']');
    within(out, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(form: &Form, raw: Option<&[u8]>) -> Result<String, Unwritable> {
        let mut out = Vec::new();
        form.json(raw, &mut out, 1000).map(|()| String::from_utf8(out).unwrap())
    }

    fn list(dimensions: &[(i32, i32)], fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut raw = Vec::new();
        for number in [dimensions.len() as i32, 0, 25] {
            raw.extend(number.to_be_bytes());
        }
        for (length, lower) in dimensions {
            raw.extend(length.to_be_bytes());
            raw.extend(lower.to_be_bytes());
        }
        for field in fields {
            raw.extend(field.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            raw.extend(field.unwrap_or_default());
        }
        raw
    }

    #[test]
    fn scalars() {
        assert_eq!(json(&Form::Int4, None).unwrap(), "null");
        assert_eq!(json(&Form::Int8, Some(&i64::MIN.to_be_bytes())).unwrap(), "-9223372036854775808");
        assert_eq!(json(&Form::Oid, Some(&[0xff; 4])).unwrap(), "4294967295");
        assert_eq!(json(&Form::Bool, Some(&[1])).unwrap(), "true");
        assert_eq!(json(&Form::Text, Some(b"a\"\n\\\xc3\xa9\x01")).unwrap(), "\"a\\\"\\n\\\\\u{e9}\\u0001\"");
        assert_eq!(json(&Form::Json, Some(b"{ \"a\": 1 }")).unwrap(), "{ \"a\": 1 }");
        assert_eq!(json(&Form::Jsonb, Some(b"\x01[1]")).unwrap(), "[1]");
        assert_eq!(json(&Form::Float8, Some(&f64::NAN.to_be_bytes())).unwrap(), "\"NaN\"");
        assert_eq!(json(&Form::Uuid, Some(&[0xab; 16])).unwrap(), "\"abababab-abab-abab-abab-abababababab\"");
        assert_eq!(json(&Form::Inet, Some(&[2, 32, 0, 4, 10, 0, 0, 1])).unwrap(), "\"10.0.0.1\"");
        assert_eq!(json(&Form::Inet, Some(&[2, 24, 1, 4, 10, 0, 0, 0])).unwrap(), "\"10.0.0.0/24\"");
        assert_eq!(json(&Form::Mac, Some(&[8, 0, 0x2b, 1, 2, 3])).unwrap(), "\"08:00:2b:01:02:03\"");
        assert_eq!(json(&Form::Char, Some(b"\"")).unwrap(), "\"042\"");
    }

    #[test]
    fn base64_of_all_remainders() {
        for (raw, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(json(&Form::Bytea, Some(raw.as_bytes())).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn lists_nest_and_bare_text_is_bare() {
        let texts = Form::Array(Box::new(Form::Text));
        assert_eq!(json(&texts, Some(&list(&[], &[]))).unwrap(), "[]");
        let raw = list(&[(2, 1), (2, 0)], &[Some(b"a"), None, Some(b"\""), Some(b"")]);
        assert_eq!(json(&texts, Some(&raw)).unwrap(), r#"[["a",null],["\"",""]]"#);
        let mut out = Vec::new();
        texts.text(&raw, &mut out, 100).unwrap();
        Form::Date.text(&0i32.to_be_bytes(), &mut out, 100).unwrap();
        Form::Bytea.text(b"\x00\xff", &mut out, 100).unwrap();
        assert_eq!(out, b"[[\"a\",null],[\"\\\"\",\"\"]]2000-01-01\x00\xff");
    }

    #[test]
    fn refuses_what_is_too_large_or_malformed() {
        assert_eq!(Form::Text.json(Some(b"123456789"), &mut Vec::new(), 10), Err(Unwritable::TooLarge));
        assert_eq!(Form::Text.json(Some(b"12345678"), &mut Vec::new(), 10), Ok(()));
        assert_eq!(Form::Text.text(b"12345678", &mut Vec::new(), 7), Err(Unwritable::TooLarge));
        let huge = list(&[(i32::MAX, 1), (i32::MAX, 1), (0, 1)], &[]);
        let empties = Form::Array(Box::new(Form::Text));
        assert_eq!(json(&empties, Some(&huge)), Err(Unwritable::TooLarge));
        assert_eq!(json(&Form::Text, Some(b"\xff")), Err(Unwritable::Malformed));
        assert_eq!(json(&empties, Some(&list(&[(2, 1)], &[Some(b"a")]))), Err(Unwritable::Malformed));
        assert_eq!(json(&empties, Some(&list(&[(0, 1)], &[Some(b"a")]))), Err(Unwritable::Malformed));
    }

    fn any_form() -> impl Strategy<Value = Form> {
        let scalar = proptest::sample::select(vec![
            Form::Bool,
            Form::Int2,
            Form::Int4,
            Form::Int8,
            Form::Oid,
            Form::Float4,
            Form::Float8,
            Form::Numeric,
            Form::Text,
            Form::Char,
            Form::Json,
            Form::Jsonb,
            Form::Uuid,
            Form::Bytea,
            Form::Date,
            Form::Time,
            Form::TimeTz,
            Form::Timestamp,
            Form::TimestampTz,
            Form::Interval,
            Form::Inet,
            Form::Mac,
        ]);
        (scalar, any::<bool>()).prop_map(|(form, list)| if list { Form::Array(Box::new(form)) } else { form })
    }

    proptest! {
        #[test]
        fn any_bytes_are_valid_json_or_an_error(
            form in any_form(), raw in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut out = Vec::new();
            let embeds = matches!(&form, Form::Json | Form::Jsonb)
                || matches!(&form, Form::Array(inner) if matches!(**inner, Form::Json | Form::Jsonb));
            if form.json(Some(&raw), &mut out, 500).is_ok() && !embeds {
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
            }
            let _ = form.text(&raw, &mut Vec::new(), 500);
        }
    }
}
