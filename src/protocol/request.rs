//! The request reader: finds complete commands in a connection's bytes. It copies nothing, allocates nothing
//! per command once warm, never re-reads a byte it has already understood, and holds every limit that Redis
//! holds. It must not know sockets, commands or replies.
//!
//! Its output is spans into the caller's buffer. A request that is not complete yet stays in the [`Reader`]
//! as a position and the spans found so far, all relative to the request's first byte, so the caller is free
//! to move the bytes.

use std::ops::Range;

/// One argument: where it lies in the buffer that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The same argument after its bytes were moved from offset `from` to offset 0.
    #[must_use]
    pub fn moved(self, from: usize) -> Self {
        Self { start: self.start - from as u32, len: self.len }
    }

    /// Appends arguments to `buf`, which stays below 4 GiB, and where they lie in it to `spans`.
    pub fn pack<'a>(words: impl Iterator<Item = &'a [u8]>, buf: &mut Vec<u8>, spans: &mut Vec<Self>) {
        for word in words {
            spans.push(Self { start: buf.len() as u32, len: word.len() as u32 });
            buf.extend_from_slice(word);
        }
    }

    /// Bytes from the start of this argument to the end of a later one.
    #[inline]
    pub fn up_to(self, later: Self) -> usize {
        (later.start + later.len).saturating_sub(self.start) as usize
    }

    /// The bytes of the argument in `buf`, whose first byte is the first byte of the parse.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.start as usize + self.len as usize]
    }
}

/// What bounds a request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, in bytes.
    pub max_bulk: usize,
    /// False: the connection has not authenticated, and gets 10 arguments of 16 KB.
    pub authenticated: bool,
}

/// Arguments of one command, at most. Their bytes are bounded by `client-query-buffer-limit`.
const MAX_ARGS: i64 = i32::MAX as i64;
/// Bytes of an inline command, or of a length line, at most.
pub const MAX_INLINE: usize = 64 * 1024;
const MAX_ARGS_UNAUTHENTICATED: i64 = 10;
const MAX_BULK_UNAUTHENTICATED: i64 = 16 * 1024;
/// Spans are 32 bits wide: no request is longer.
const MAX_REQUEST: usize = u32::MAX as usize - 16;

/// Why a connection must be told and closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The line after `*` is not a number, or too large.
    MultibulkLength,
    /// The same before authentication.
    UnauthenticatedMultibulkLength,
    /// The line after `$` is not a number, or too large.
    BulkLength,
    /// The same before authentication.
    UnauthenticatedBulkLength,
    /// Another byte where `$` is due.
    ExpectedDollar(u8),
    /// A `*` line without an end.
    TooBigCount,
    /// A `$` line without an end.
    TooBigBulkCount,
    /// An inline command without an end.
    TooBigInline,
    /// Quotes in an inline command do not match.
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text as bytes: the offending byte stands in it as it came.
    pub fn text(&self) -> Vec<u8> {
        let text = match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::ExpectedDollar(got) => {
                return [b"Protocol error: expected '$', got '".as_slice(), &[*got], b"'"].concat();
            }
            Self::TooBigCount => "too big mbulk count string",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::TooBigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
        };
        [b"Protocol error: ", text.as_bytes()].concat()
    }
}

/// What [`Reader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A command: its arguments are `spans[range]`, and it took this many bytes of the buffer. The range may
    /// be empty (an empty line, `*0`): there is nothing to run and nothing to answer.
    Command(Range<usize>, usize),
    /// More bytes are needed; at least this many for the argument that is being read (0 if unknown).
    Incomplete(usize),
}

/// The state of one connection's parse.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes of the current request that are understood.
    pos: usize,
    /// Arguments of the current request still to come; 0 between requests.
    missing_args: i64,
    /// Length of the argument whose `$` line has been read.
    bulk: Option<usize>,
    /// Bytes of an inline command in which no line end was found.
    inline_scanned: usize,
    /// Index of the first span of the current request.
    first_span: usize,
}

impl Reader {
    /// Reads the next command from `buf`, which starts at the request's first byte. The spans are appended to
    /// `spans` with offsets relative to `base`: pass the offset of `buf` in the caller's larger buffer. Quoted
    /// arguments of inline commands are unquoted in place.
    ///
    /// # Errors
    /// The connection is to be told and closed; the reader is of no further use.
    pub fn next(
        &mut self,
        buf: &mut [u8],
        base: usize,
        spans: &mut Vec<Span>,
        limits: Limits,
    ) -> Result<Step, ProtocolError> {
        if self.missing_args == 0 {
            if buf.is_empty() {
                return Ok(Step::Incomplete(0));
            }
            self.first_span = spans.len();
            if buf[0] != b'*' {
                return self.inline(buf, base, spans);
            }
            let Some((count, after)) = self.length_line(buf, 1, ProtocolError::TooBigCount)? else {
                return Ok(Step::Incomplete(0));
            };
            let count = count.filter(|n| *n <= MAX_ARGS).ok_or(ProtocolError::MultibulkLength)?;
            self.pos = after;
            if count <= 0 {
                self.pos = 0;
                return Ok(Step::Command(spans.len()..spans.len(), after));
            }
            if !limits.authenticated && count > MAX_ARGS_UNAUTHENTICATED {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            self.missing_args = count;
        }
        while self.missing_args > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_line(buf, limits)? {
                    Some(len) => len,
                    None => return Ok(Step::Incomplete(0)),
                },
            };
            let end = self.pos + len;
            if end + 2 > MAX_REQUEST {
                return Err(ProtocolError::BulkLength);
            }
            if buf.len() < end + 2 {
                self.bulk = Some(len);
                return Ok(Step::Incomplete(end + 2 - buf.len()));
            }
            spans.push(Span { start: (base + self.pos) as u32, len: len as u32 });
            // As in Redis, the two bytes after an argument are skipped unseen.
            self.pos = end + 2;
            self.bulk = None;
            self.missing_args -= 1;
        }
        let used = std::mem::take(&mut self.pos);
        Ok(Step::Command(self.first_span..spans.len(), used))
    }

    /// True if no argument of an unfinished request has been found.
    pub fn is_idle(&self) -> bool {
        self.missing_args == 0
    }

    /// The caller dropped so many spans in front of those of the unfinished request.
    pub fn drop_spans(&mut self, count: usize) {
        self.first_span = self.first_span.saturating_sub(count);
    }

    /// Index of the first span of the unfinished request.
    pub fn unfinished(&self) -> usize {
        self.first_span
    }

    fn bulk_line(&mut self, buf: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        let Some(&mark) = buf.get(self.pos) else { return Ok(None) };
        // Redis waits for the whole line before it looks at its first byte.
        let Some((len, after)) = self.length_line(buf, self.pos + 1, ProtocolError::TooBigBulkCount)? else {
            return Ok(None);
        };
        if mark != b'$' {
            return Err(ProtocolError::ExpectedDollar(mark));
        }
        let len = len.filter(|n| (0..=limits.max_bulk as i64).contains(n)).ok_or(ProtocolError::BulkLength)?;
        if !limits.authenticated && len > MAX_BULK_UNAUTHENTICATED {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.pos = after;
        Ok(Some(len as usize))
    }

    /// Reads a number up to CRLF from `start`: the number (None if it is not one) and the offset behind the line.
    #[inline]
    fn length_line(
        &self,
        buf: &[u8],
        start: usize,
        too_big: ProtocolError,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        // Nearly every length has one or two digits.
        if let [digit @ b'0'..=b'9', b'\r', _, ..] = buf[start.min(buf.len())..] {
            return Ok(Some((Some(i64::from(digit - b'0')), start + 3)));
        }
        if let [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _, ..] = buf[start.min(buf.len())..] {
            return Ok(Some((Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')), start + 4)));
        }
        let rest = &buf[start.min(buf.len())..];
        let window = &rest[..rest.len().min(MAX_INLINE)];
        // A NUL ends the line for Redis, which reads it as a C string: no end is found.
        let Some(cr) = memchr::memchr2(b'\r', 0, window).filter(|at| window[*at] != 0) else {
            return if rest.len() >= MAX_INLINE { Err(too_big) } else { Ok(None) };
        };
        if start + cr + 2 > buf.len() {
            return Ok(None);
        }
        Ok(Some((crate::number::parse_i64(&rest[..cr]), start + cr + 2)))
    }

    fn inline(&mut self, buf: &mut [u8], base: usize, spans: &mut Vec<Span>) -> Result<Step, ProtocolError> {
        let scanned = self.inline_scanned.min(buf.len());
        // A NUL ends the text for Redis, which reads it as a C string: no line end is found behind it.
        let end = memchr::memchr2(b'\n', 0, &buf[scanned..]).map(|at| at + scanned);
        let Some(lf) = end.filter(|at| buf[*at] == b'\n') else {
            if buf.len() > MAX_INLINE {
                return Err(ProtocolError::TooBigInline);
            }
            self.inline_scanned = end.unwrap_or(buf.len());
            return Ok(Step::Incomplete(0));
        };
        self.inline_scanned = 0;
        let end = if lf > 0 && buf[lf - 1] == b'\r' { lf - 1 } else { lf };
        split_line(&mut buf[..end], |start, len| {
            spans.push(Span { start: (base + start) as u32, len: len as u32 });
        })?;
        Ok(Step::Command(self.first_span..spans.len(), lf + 1))
    }
}

/// Splits an inline command into arguments with redis-cli's quoting: `"…"` with escapes, `'…'` with `\'`.
/// A quoted argument is unquoted in place, where it fits, for it only gets shorter.
fn split_line(line: &mut [u8], mut found: impl FnMut(usize, usize)) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = at;
        let mut to = at;
        while at < line.len() && !matches!(line[at], b' ' | b'\n' | b'\r' | b'\t') {
            match line[at] {
                quote @ (b'"' | b'\'') => {
                    at = unquote(line, at, &mut to, quote)?;
                    if at < line.len() && !is_space(line[at]) {
                        return Err(ProtocolError::UnbalancedQuotes);
                    }
                    break;
                }
                byte => {
                    line[to] = byte;
                    to += 1;
                    at += 1;
                }
            }
        }
        found(start, to - start);
    }
}

/// Copies the quoted text that opens at `at` down to `to`; returns the offset behind the closing quote.
fn unquote(line: &mut [u8], at: usize, to: &mut usize, quote: u8) -> Result<usize, ProtocolError> {
    let mut at = at + 1;
    while at < line.len() {
        let (byte, used) = match &line[at..] {
            [first, ..] if *first == quote => return Ok(at + 1),
            [b'\\', b'x', high, low, ..] if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, 2)
            }
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        line[*to] = byte;
        *to += 1;
        at += used;
    }
    Err(ProtocolError::UnbalancedQuotes)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: Limits = Limits { max_bulk: 512 << 20, authenticated: true };

    /// Feeds `input` in pieces that end at `cuts`, as a session does, and returns the commands and the error.
    fn feed(input: &[u8], cuts: &[usize], limits: Limits) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let (mut reader, mut spans, mut buf, mut commands) = (Reader::default(), Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        for &cut in cuts.iter().chain([&input.len()]) {
            buf.extend_from_slice(&input[from..cut]);
            from = cut;
            loop {
                match reader.next(&mut buf, 0, &mut spans, limits) {
                    Ok(Step::Command(range, used)) => {
                        let args: Vec<Vec<u8>> = spans[range].iter().map(|s| s.of(&buf).to_vec()).collect();
                        if !args.is_empty() {
                            commands.push(args);
                        }
                        spans.clear();
                        buf.drain(..used);
                    }
                    Ok(Step::Incomplete(_)) => break,
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }

    fn oracle(mut input: &[u8]) -> Vec<Vec<Vec<u8>>> {
        use redis_protocol::resp2::types::OwnedFrame;
        let mut commands = Vec::new();
        while let Ok(Some((OwnedFrame::Array(items), used))) = redis_protocol::resp2::decode::decode(input) {
            let args: Vec<Vec<u8>> = items
                .into_iter()
                .map(|item| match item {
                    OwnedFrame::BulkString(bytes) => bytes,
                    other => panic!("{other:?}"),
                })
                .collect();
            if !args.is_empty() {
                commands.push(args);
            }
            input = &input[used..];
        }
        commands
    }

    fn encode(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            out.extend(format!("*{}\r\n", command.len()).bytes());
            for arg in command {
                out.extend(format!("${}\r\n", arg.len()).bytes());
                out.extend(arg);
                out.extend(b"\r\n");
            }
        }
        out
    }

    proptest! {
        #[test]
        fn agrees_with_redis_protocol_on_every_cut(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6), 1..4),
        ) {
            let input = encode(&commands);
            let expected = oracle(&input);
            for cut in 0..=input.len() {
                let (got, error) = feed(&input, &[cut], OPEN);
                prop_assert_eq!(error, None);
                prop_assert_eq!(&got, &expected);
            }
            let all: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(feed(&input, &all, OPEN).0, expected);
        }

        #[test]
        fn garbage_gives_the_same_answer_however_it_is_cut(
            input in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'),
                Just(b'1'), Just(b'2'), Just(b'-'), Just(b'"'), Just(b'\''), Just(b'\\'), Just(b' '), any::<u8>()], 0..60),
            authenticated in any::<bool>(),
        ) {
            let limits = Limits { max_bulk: 1000, authenticated };
            let whole = feed(&input, &[], limits);
            let bytewise: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(whole, feed(&input, &bytewise, limits));
        }
    }

    fn words(line: &str) -> Result<Vec<String>, ProtocolError> {
        let (commands, error) = feed(format!("{line}\n").as_bytes(), &[], OPEN);
        let first = commands.into_iter().next().unwrap_or_default();
        error.map_or(Ok(first.into_iter().map(|w| String::from_utf8(w).unwrap()).collect()), Err)
    }

    #[test]
    fn inline_quoting_is_that_of_redis_cli() {
        assert_eq!(words(r#"set  k "a b\x41\n""#).unwrap(), ["set", "k", "a bA\n"]);
        assert_eq!(words(r"set k 'it\'s'").unwrap(), ["set", "k", "it's"]);
        assert_eq!(words(r#"set k ab"c d""#).unwrap(), ["set", "k", "abc d"]);
        assert_eq!(words("get \"\"").unwrap(), ["get", ""]);
        assert_eq!(words("get \"a\"b"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(words("get \"a"), Err(ProtocolError::UnbalancedQuotes));
        assert!(words("   ").unwrap().is_empty());
    }

    #[test]
    fn limits_are_those_of_redis() {
        let closed = Limits { max_bulk: 512 << 20, authenticated: false };
        let error = |input: &[u8], limits| feed(input, &[], limits).1.unwrap();
        assert_eq!(error(b"*11\r\n", closed), ProtocolError::UnauthenticatedMultibulkLength);
        assert_eq!(error(b"*1\r\n$16385\r\n", closed), ProtocolError::UnauthenticatedBulkLength);
        assert_eq!(error(b"*x\r\n", OPEN), ProtocolError::MultibulkLength);
        assert_eq!(error(b"*1\r\n$-1\r\n", OPEN), ProtocolError::BulkLength);
        assert_eq!(error(b"*1\r\n:1\r\n", OPEN), ProtocolError::ExpectedDollar(b':'));
        assert_eq!(error(&[b'a'; MAX_INLINE + 1], OPEN), ProtocolError::TooBigInline);
        assert_eq!(error(&[b"*".as_slice(), &[b'1'; MAX_INLINE + 1]].concat(), OPEN), ProtocolError::TooBigCount);
        assert_eq!(feed(b"*-1\r\n*1\r\n$4\r\nPING\r\n", &[], OPEN).0.len(), 1);
    }
}
