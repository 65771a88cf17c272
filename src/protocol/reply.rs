//! The reply writer: RESP2 or RESP3 straight into a connection's output. Knows bytes only.
//!
//! Small values are copied into one contiguous buffer; a value of [`SHARE_AT`] bytes or more is taken by
//! reference, so a large GET copies nothing and holds no lock while it is sent.

use crate::number::format_double;
use bytes::Bytes;
use std::collections::VecDeque;

/// Values from this size on are sent from where they lie instead of being copied, in bytes.
pub const SHARE_AT: usize = 16 * 1024;

/// Bytes of a bulk string besides its own, at most.
const BULK_FRAME: usize = 1 + 20 + 2 + 2;

/// The protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// RESP2, what a connection starts with.
    #[default]
    V2,
    /// RESP3, after `HELLO 3`.
    V3,
}

/// Replies waiting to be sent: bytes, with large values spliced in by reference.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Large values: each is sent after `bytes[..offset]`; offsets ascend.
    shared: VecDeque<(usize, Bytes)>,
    shared_len: usize,
}

/// A place in an [`Output`] to return to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize, usize);

impl Output {
    /// Nothing.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), shared: VecDeque::new(), shared_len: 0 }
    }

    /// Bytes waiting.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_len
    }

    /// True if nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// The current end.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.bytes.len(), self.shared.len())
    }

    /// Takes back what was written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.bytes.truncate(mark.0);
        while self.shared.len() > mark.1 {
            if let Some((_, value)) = self.shared.pop_back() {
                self.shared_len -= value.len();
            }
        }
    }

    /// True if what stands after `mark` is an error reply.
    pub fn is_error_since(&self, mark: Mark) -> bool {
        self.bytes.get(mark.0) == Some(&b'-')
    }

    /// The bytes written after `mark`, large values excepted.
    pub fn since(&self, mark: Mark) -> &[u8] {
        &self.bytes[mark.0..]
    }

    /// How many bytes were written since `mark`.
    #[inline]
    pub fn len_since(&self, mark: Mark) -> usize {
        let large: usize = self.shared.range(mark.1..).map(|(_, value)| value.len()).sum();
        self.bytes.len() - mark.0 + large
    }

    /// The contiguous bytes, if no large value is spliced in.
    #[inline]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.shared.is_empty().then_some(&self.bytes)
    }

    /// Empties it and keeps the memory, up to `keep` bytes of it.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.shared.clear();
        self.shared_len = 0;
    }

    /// Appends raw bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends another output; a large one is not copied.
    pub fn append(&mut self, other: Self) {
        if other.shared.is_empty() && other.bytes.len() >= SHARE_AT {
            return self.share(Bytes::from(other.bytes));
        }
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.shared.extend(other.shared.into_iter().map(|(at, value)| (at + offset, value)));
        self.shared_len += other.shared_len;
    }

    fn share(&mut self, value: Bytes) {
        self.shared_len += value.len();
        self.shared.push_back((self.bytes.len(), value));
    }

    /// Cuts the output into pieces in the order they are to be sent, and leaves it empty. `skip` bytes from the
    /// front have been sent already.
    pub fn drain_chunks(&mut self, mut skip: usize) -> VecDeque<Bytes> {
        let mut chunks = VecDeque::new();
        let mut add = |mut chunk: Bytes| {
            let cut = skip.min(chunk.len());
            skip -= cut;
            let rest = chunk.split_off(cut);
            if !rest.is_empty() {
                chunks.push_back(rest);
            }
        };
        let mut from = 0;
        for (offset, value) in self.shared.drain(..) {
            add(Bytes::copy_from_slice(&self.bytes[from..offset]));
            add(value);
            from = offset;
        }
        add(Bytes::copy_from_slice(&self.bytes[from..]));
        self.bytes.clear();
        self.shared_len = 0;
        chunks
    }
}

/// What Redis makes a line of: text up to the first NUL, for it prints it as a C string.
pub fn c_text(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// Writes one reply.
pub struct Reply<'a> {
    out: &'a mut Output,
    version: Version,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`.
    #[inline]
    pub fn new(out: &'a mut Output, version: Version) -> Self {
        Self { out, version }
    }

    /// True in RESP3.
    #[inline]
    pub fn is_v3(&self) -> bool {
        self.version == Version::V3
    }

    /// The version it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Speaks another version from here on (HELLO).
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The output, to mark and take back.
    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        let out = &mut self.out.bytes;
        out.reserve(text.len() + 3);
        out.push(kind);
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn number_line(&mut self, kind: u8, value: i64) {
        let out = &mut self.out.bytes;
        // Nearly every length has one or two digits.
        if (0..10).contains(&value) {
            out.extend_from_slice(&[kind, b'0' + value as u8, b'\r', b'\n']);
            return;
        }
        if (10..100).contains(&value) {
            let digits = value as u8;
            out.extend_from_slice(&[kind, b'0' + digits / 10, b'0' + digits % 10, b'\r', b'\n']);
            return;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(value).as_bytes();
        self.line(kind, digits);
    }

    /// `+OK` and the like.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// The same of any bytes; line ends in them become spaces.
    pub fn simple_bytes(&mut self, text: &[u8]) {
        self.one_line(b'+', text);
    }

    /// A number of any length, as digits; a bulk string in RESP2. Line ends become spaces.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_v3() {
            return self.one_line(b'(', digits);
        }
        let digits: Vec<u8> = digits.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect();
        self.bulk(&digits);
    }

    fn one_line(&mut self, kind: u8, text: &[u8]) {
        let out = &mut self.out.bytes;
        out.push(kind);
        out.extend(text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
        out.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// An error; `text` opens with its code (`ERR …`, `WRONGTYPE …`). Line ends in it become spaces.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// An error whose text is not all UTF-8.
    pub fn error_bytes(&mut self, text: &[u8]) {
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        self.one_line(b'-', &text[..end]);
    }

    /// `:n`.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.number_line(b':', value);
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.out.bytes.reserve(value.len() + BULK_FRAME);
        self.number_line(b'$', value.len() as i64);
        let out = &mut self.out.bytes;
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    /// A bulk string that may be large: taken by reference from [`SHARE_AT`] on.
    pub fn bulk_shared(&mut self, value: &Bytes) {
        if value.len() < SHARE_AT {
            return self.bulk(value);
        }
        self.number_line(b'$', value.len() as i64);
        self.out.share(value.clone());
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// A number as a bulk string.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value).as_bytes());
    }

    /// Text as a bulk string.
    pub fn text(&mut self, value: &str) {
        self.bulk(value.as_bytes());
    }

    /// Nothing: `$-1`, in RESP3 `_`.
    #[inline]
    pub fn null(&mut self) {
        self.out.bytes.extend_from_slice(if self.is_v3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No array: `*-1`, in RESP3 `_`.
    pub fn null_array(&mut self) {
        self.out.bytes.extend_from_slice(if self.is_v3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// An array's head; `len` replies follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.number_line(b'*', len as i64);
    }

    /// A set's head; an array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.number_line(if self.is_v3() { b'~' } else { b'*' }, len as i64);
    }

    /// A map's head; `pairs` keys and values follow, in RESP2 as a flat array.
    pub fn map(&mut self, pairs: usize) {
        if self.is_v3() {
            self.number_line(b'%', pairs as i64);
        } else {
            self.number_line(b'*', pairs as i64 * 2);
        }
    }

    /// A push's head; an array in RESP2.
    pub fn push(&mut self, len: usize) {
        self.number_line(if self.is_v3() { b'>' } else { b'*' }, len as i64);
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        if self.is_v3() {
            self.line(b'#', if value { b"t" } else { b"f" });
        } else {
            self.integer(value.into());
        }
    }

    /// A double; a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = format_double(value);
        if self.is_v3() {
            self.line(b',', text.as_bytes());
        } else {
            self.text(&text);
        }
    }

    /// Text with a format of three letters (`txt`, `mkd`); a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if self.is_v3() {
            self.number_line(b'=', text.len() as i64 + 4);
            self.out.bytes.extend_from_slice(format.as_bytes());
            self.out.bytes.push(b':');
            self.out.bytes.extend_from_slice(text);
            self.out.bytes.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_are_spliced_in_order_and_can_be_taken_back() {
        let mut out = Output::default();
        let big = Bytes::from(vec![b'x'; SHARE_AT]);
        let mut reply = Reply::new(&mut out, Version::V2);
        reply.ok();
        reply.bulk_shared(&big);
        let mark = out.mark();
        Reply::new(&mut out, Version::V2).bulk_shared(&big);
        out.truncate(mark);
        Reply::new(&mut out, Version::V2).integer(12);
        let expected = [b"+OK\r\n$16384\r\n".as_slice(), &big, b"\r\n:12\r\n"].concat();
        assert_eq!(out.len(), expected.len());
        for skip in [0, 3, 14, 15, 1000, expected.len() - 1, expected.len()] {
            let mut copy = Output { bytes: out.bytes.clone(), shared: out.shared.clone(), shared_len: out.shared_len };
            let sent: Vec<u8> = copy.drain_chunks(skip).into_iter().flatten().collect();
            assert_eq!(sent, expected[skip..]);
        }
    }

    #[test]
    fn errors_stay_on_one_line() {
        let mut out = Output::default();
        Reply::new(&mut out, Version::V2).error("ERR a\r\nb");
        assert_eq!(out.contiguous().unwrap(), b"-ERR a  b\r\n");
    }
}
