//! The arguments of one command, as slices of the bytes that came in. Knows bytes only.

use crate::protocol::{Span, parse_i64};

/// The arguments of a command; number 0 is its name.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments at `spans` of `buf`.
    #[inline]
    pub fn new(buf: &'a [u8], spans: &'a [Span]) -> Self {
        Self { buf, spans }
    }

    /// Arguments, the name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True without even a name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// An argument.
    ///
    /// # Panics
    /// Past the end; the arity in the command's row is checked before it runs.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.spans[index].of(self.buf)
    }

    /// An argument, if there.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.buf))
    }

    /// True if the argument is this word, in upper or lower case.
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// An argument as an integer in canonical form.
    #[inline]
    pub fn integer(&self, index: usize) -> Option<i64> {
        parse_i64(self.get(index)?)
    }

    /// Bytes from the first argument to the end of the last, as they came.
    #[inline]
    pub fn extent(&self) -> usize {
        self.spans.first().zip(self.spans.last()).map_or(0, |(first, last)| first.up_to(*last))
    }

    /// Bytes of the whole request.
    pub fn request_len(&self) -> usize {
        let line = |number: usize| 3 + number.checked_ilog10().unwrap_or(0) as usize + 1;
        line(self.len()) + self.from(0).map(|arg| line(arg.len()) + arg.len() + 2).sum::<usize>()
    }

    /// The arguments from `index` on, as a command of their own.
    pub fn tail(&self, index: usize) -> Self {
        Self { buf: self.buf, spans: &self.spans[index.min(self.spans.len())..] }
    }

    /// The arguments from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let (buf, spans) = (self.buf, self.spans);
        spans[index.min(spans.len())..].iter().map(move |span| span.of(buf))
    }
}
