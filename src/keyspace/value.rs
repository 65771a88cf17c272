//! The value of a key: what is to be stored, and what lies in an entry. How it lies there is `entry`'s.

use crate::protocol::SHARE_AT;
use crate::types::{Object, ObjectRef, compress, expand, expanded_len};
use bytes::Bytes;

/// A value to store.
#[derive(Clone, Debug)]
pub enum NewValue<'a> {
    /// A string, copied.
    Bytes(&'a [u8]),
    /// A string that was written to in place: OBJECT ENCODING says `raw`, however short it is.
    Raw(&'a [u8]),
    /// An integer.
    Int(i64),
    /// A large string, kept by reference.
    Shared(Bytes),
    /// One that [`compress`] made smaller.
    Compressed(Box<[u8]>),
    /// A collection.
    Object(Object),
}

impl<'a> NewValue<'a> {
    /// The form a string is best kept in: an integer where it is one in canonical form, shared where it is large.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Self {
        if bytes.len() <= 20
            && let Some(value) = crate::protocol::parse_i64(bytes)
        {
            return Self::Int(value);
        }
        if bytes.len() >= SHARE_AT { Self::Shared(Bytes::copy_from_slice(bytes)) } else { Self::Bytes(bytes) }
    }

    /// The same for a string that a command has just composed; never an integer.
    pub fn raw(bytes: &'a [u8]) -> Self {
        if bytes.len() >= SHARE_AT { Self::Shared(Bytes::copy_from_slice(bytes)) } else { Self::Raw(bytes) }
    }

    /// The same value, compressed if it is a string of `threshold` bytes or more (0: none is) for which that is worth
    /// while. One that is written to in place is left alone.
    #[inline]
    pub fn compressed_from(self, threshold: usize) -> Self {
        if threshold == 0 { self } else { self.compressed(threshold) }
    }

    #[cold]
    fn compressed(self, threshold: usize) -> Self {
        let text = match &self {
            Self::Bytes(bytes) => bytes,
            Self::Shared(bytes) => bytes.as_ref(),
            _ => return self,
        };
        if text.len() < threshold {
            return self;
        }
        compress(text).map_or(self, Self::Compressed)
    }
}

/// A value in place.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string.
    Text(Text<'a>),
    /// A collection.
    Object(ObjectRef<'a>),
}

/// A string in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Text<'a> {
    /// One that is no longer than [`SHARE_AT`]; `raw` as OBJECT ENCODING means it.
    Inline(&'a [u8], bool),
    /// An integer.
    Int(i64),
    /// A large one.
    Shared(&'a Bytes),
    /// A compressed one; see [`expand`].
    Compressed(&'a [u8]),
}

/// The longest string that OBJECT ENCODING calls `embstr`, in bytes.
const EMBSTR_MAX: usize = 44;

impl Text<'_> {
    /// Calls `f` with the bytes of the string.
    #[inline]
    pub fn with<T>(self, f: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::Inline(bytes, _) => f(bytes),
            Self::Int(number) => f(itoa::Buffer::new().format(number).as_bytes()),
            Self::Shared(bytes) => f(bytes),
            Self::Compressed(packed) => f(&expand(packed)),
        }
    }

    /// Length of the string, in bytes.
    pub fn len(self) -> usize {
        if let Self::Compressed(packed) = self { expanded_len(packed) } else { self.with(<[u8]>::len) }
    }

    /// True for the empty string.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes; a large string is not copied.
    pub fn to_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes.clone(),
            Self::Compressed(packed) => expand(packed).into(),
            _ => self.with(Bytes::copy_from_slice),
        }
    }
}

impl<'a> Value<'a> {
    /// The value's type, as TYPE names it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Object(object) => object.type_name(),
        }
    }

    /// How the value is kept, in the words of OBJECT ENCODING.
    pub fn encoding(self) -> &'static str {
        match self {
            Self::Text(Text::Int(_)) => "int",
            Self::Text(Text::Inline(bytes, false)) if bytes.len() <= EMBSTR_MAX => "embstr",
            Self::Text(_) => "raw",
            Self::Object(object) => object.encoding(),
        }
    }

    /// The string.
    #[inline]
    pub fn text(self) -> Result<Text<'a>, WrongType> {
        if let Self::Text(text) = self { Ok(text) } else { Err(WrongType) }
    }

    /// The same value, to be stored elsewhere. A large string is not copied; a collection is.
    pub fn to_new(self) -> NewValue<'a> {
        match self {
            Self::Text(Text::Inline(bytes, false)) => NewValue::Bytes(bytes),
            Self::Text(Text::Inline(bytes, true)) => NewValue::Raw(bytes),
            Self::Text(Text::Int(number)) => NewValue::Int(number),
            Self::Text(Text::Shared(bytes)) => NewValue::Shared(bytes.clone()),
            Self::Text(Text::Compressed(packed)) => NewValue::Compressed(packed.into()),
            Self::Object(object) => NewValue::Object(object.to_object()),
        }
    }
}

/// A key holds a value of another type than the command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;
