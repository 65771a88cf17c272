//! A reply as a value that tests compare and print. Knows no command and no socket.

use std::fmt;

use redis_protocol::resp2::types::RangeFrame as Frame2;
use redis_protocol::resp3::types::RangeFrame as Frame3;

/// A decoded reply. Maps and sets are sorted: their order on the wire means nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// As Rust prints the number.
    Double(String),
    Big(String),
    /// `+OK`
    Simple(Vec<u8>),
    Bulk(Vec<u8>),
    /// The text of a verbatim string, without its format.
    Verbatim(Vec<u8>),
    Error(String),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Push(Vec<Value>),
}

impl Value {
    pub(crate) fn ok() -> Self {
        Self::simple("OK")
    }

    pub(crate) fn simple(text: &str) -> Self {
        Self::Simple(text.as_bytes().to_vec())
    }

    pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec())
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The text of any kind of string or error, with what is not UTF-8 replaced.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Simple(b) | Self::Bulk(b) | Self::Verbatim(b) => Some(String::from_utf8_lossy(b).into_owned()),
            Self::Error(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The number of an integer, a double, or a string that holds one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Double(text) | Self::Big(text) => text.parse().ok(),
            Self::Simple(b) | Self::Bulk(b) => std::str::from_utf8(b).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The integer, or a panic that shows what came instead.
    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// The elements of an array, set or push, or a panic that shows what came instead.
    pub(crate) fn items(&self) -> &[Value] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }

    /// The pairs of a map, or of an array of alternating keys and values, as RESP2 has it.
    pub(crate) fn pairs(&self) -> Vec<(Value, Value)> {
        match self {
            Self::Map(pairs) => pairs.clone(),
            other => other.items().chunks_exact(2).map(|p| (p[0].clone(), p[1].clone())).collect(),
        }
    }

    /// The kind's name, for comparing replies by type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Double(_) => "double",
            Self::Big(_) => "big number",
            Self::Simple(_) => "simple string",
            Self::Bulk(_) => "bulk string",
            Self::Verbatim(_) => "verbatim string",
            Self::Error(_) => "error",
            Self::Array(_) => "array",
            Self::Set(_) => "set",
            Self::Map(_) => "map",
            Self::Push(_) => "push",
        }
    }

    /// The same value with all arrays in it sorted, for replies whose order means nothing.
    pub(crate) fn sorted(&self) -> Self {
        let sorted = |items: &[Value]| {
            let mut items: Vec<_> = items.iter().map(Value::sorted).collect();
            items.sort();
            items
        };
        match self {
            Self::Array(items) => Self::Array(sorted(items)),
            Self::Set(items) => Self::Set(sorted(items)),
            Self::Push(items) => Self::Push(sorted(items)),
            Self::Map(pairs) => Self::map(pairs.iter().map(|(k, v)| (k.sorted(), v.sorted())).collect()),
            other => other.clone(),
        }
    }

    fn map(mut pairs: Vec<(Value, Value)>) -> Self {
        pairs.sort();
        Self::Map(pairs)
    }

    pub(crate) fn from_resp2(frame: Frame2, bytes: &[u8]) -> Self {
        let part = |(start, end): (usize, usize)| bytes[start..end].to_vec();
        match frame {
            Frame2::SimpleString(range) => Self::Simple(part(range)),
            Frame2::Error(range) => Self::Error(escape(&part(range))),
            Frame2::Integer(n) => Self::Int(n),
            Frame2::BulkString(range) => Self::Bulk(part(range)),
            Frame2::Array(items) => Self::Array(items.into_iter().map(|f| Self::from_resp2(f, bytes)).collect()),
            Frame2::Null => Self::Nil,
        }
    }

    pub(crate) fn from_resp3(frame: Frame3, bytes: &[u8]) -> Self {
        let part = |(start, end): (usize, usize)| bytes[start..end].to_vec();
        let all = |items: Vec<Frame3>| items.into_iter().map(|f| Self::from_resp3(f, bytes)).collect();
        match frame {
            Frame3::SimpleString { data, .. } => Self::Simple(part(data)),
            Frame3::BlobString { data, .. } | Frame3::ChunkedString(data) => Self::Bulk(part(data)),
            Frame3::VerbatimString { data, .. } => Self::Verbatim(part(data)),
            Frame3::SimpleError { data, .. } | Frame3::BlobError { data, .. } => Self::Error(escape(&part(data))),
            Frame3::Boolean { data, .. } => Self::Bool(data),
            Frame3::Null => Self::Nil,
            Frame3::Number { data, .. } => Self::Int(data),
            Frame3::Double { data, .. } => Self::Double(data.to_string()),
            Frame3::BigNumber { data, .. } => Self::Big(escape(&part(data))),
            Frame3::Array { data, .. } => Self::Array(all(data)),
            Frame3::Push { data, .. } => Self::Push(all(data)),
            Frame3::Set { data, .. } => {
                let mut items: Vec<_> = data.into_iter().map(|f| Self::from_resp3(f, bytes)).collect();
                items.sort();
                Self::Set(items)
            }
            Frame3::Map { data, .. } => Self::map(
                data.into_iter().map(|(k, v)| (Self::from_resp3(k, bytes), Self::from_resp3(v, bytes))).collect(),
            ),
            Frame3::Hello { .. } => Self::Error("a HELLO request where a reply was expected".to_owned()),
        }
    }
}

/// Bytes as text with redis-cli's escapes, so that every byte shows.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "#{value}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Double(text) => write!(f, "(double) {text}"),
            Self::Big(text) => write!(f, "(big) {text}"),
            Self::Simple(text) => f.write_str(&escape(text)),
            Self::Bulk(text) => write!(f, "\"{}\"", escape(text)),
            Self::Verbatim(text) => write!(f, "(text) \"{}\"", escape(text)),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Set(items) => f.debug_set().entries(items).finish(),
            Self::Push(items) => write!(f, "(push) {items:?}"),
            Self::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}
