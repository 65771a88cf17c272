//! The format's primitives: lengths, strings, doubles, times. Knows bytes only.

use super::lzf;
use std::borrow::Cow;

/// The payload makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad;

/// What of a payload is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The longest text that may come out of a compressed one.
    max_text: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8], max_text: usize) -> Self {
        Self { rest, max_text }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Bad)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Bad)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Bad> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number of eight bytes, little-endian: times and binary doubles.
    pub(super) fn fixed(&mut self) -> Result<u64, Bad> {
        self.array().map(u64::from_le_bytes)
    }

    /// A stream ID: two numbers of eight bytes, big-endian.
    pub(super) fn raw_id(&mut self) -> Result<(u64, u64), Bad> {
        Ok((u64::from_be_bytes(self.array()?), u64::from_be_bytes(self.array()?)))
    }

    /// A length; the error is also for what is no length but a string's encoding.
    pub(super) fn number(&mut self) -> Result<u64, Bad> {
        match self.length()? {
            Length::Plain(number) => Ok(number),
            Length::Encoded(_) => Err(Bad),
        }
    }

    /// The number of things that follow, of which each takes at least one byte. So what is claimed is bounded by what
    /// is there.
    pub(super) fn count(&mut self) -> Result<usize, Bad> {
        let count = self.number()?;
        usize::try_from(count).ok().filter(|count| *count <= self.rest.len()).ok_or(Bad)
    }

    fn length(&mut self) -> Result<Length, Bad> {
        let byte = self.byte()?;
        let low = byte & 0x3f;
        Ok(match (byte >> 6, byte) {
            (0, _) => Length::Plain(low.into()),
            (1, _) => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            (3, _) => Length::Encoded(low),
            (_, 0x80) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            _ => return Err(Bad),
        })
    }

    /// A string, copied only if it was an integer or compressed.
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Bad> {
        let number = match self.length()? {
            Length::Plain(len) => return self.bytes(usize::try_from(len).map_err(|_| Bad)?).map(Cow::Borrowed),
            Length::Encoded(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Encoded(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Encoded(2) => i32::from_le_bytes(self.array()?),
            Length::Encoded(3) => {
                let data_len = self.count()?;
                let len = usize::try_from(self.number()?).ok().filter(|len| *len <= self.max_text).ok_or(Bad)?;
                return lzf::decompress(self.bytes(data_len)?, len).map(Cow::Owned).ok_or(Bad);
            }
            Length::Encoded(_) => return Err(Bad),
        };
        Ok(Cow::Owned(number.to_string().into_bytes()))
    }

    /// A double as text, as before version 8 of the format.
    pub(super) fn text_double(&mut self) -> Result<f64, Bad> {
        match self.byte()? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => double(self.bytes(len.into())?),
        }
    }
}

enum Length {
    Plain(u64),
    /// The kind of a string that is not plain.
    Encoded(u8),
}

/// A double in decimal.
pub(super) fn double(text: &[u8]) -> Result<f64, Bad> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Bad)
}
