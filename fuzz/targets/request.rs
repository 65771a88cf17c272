//! The request reader: whatever bytes come, however they are cut, and whether or not the caller moves its buffer
//! meanwhile, the commands and the error are the same, and nothing panics.
//!
//! The input is `flags, max-bulk / 16, lengths of the pieces (2 bytes)`, then the bytes of a connection.
#![no_main]

use cenote::protocol::{Limits, ProtocolError, Reader, Span, Step};
use libfuzzer_sys::fuzz_target;

type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// A connection's bytes, the requests found in them, and the reader behind those.
#[derive(Default)]
struct Connection {
    reader: Reader,
    spans: Vec<Span>,
    buf: Vec<u8>,
    /// Where the unfinished request begins in `buf`.
    start: usize,
}

impl Connection {
    /// Reads all there is; false after an error.
    fn read(&mut self, limits: Limits, out: &mut Commands) -> bool {
        loop {
            match self.reader.next(&mut self.buf[self.start..], self.start, &mut self.spans, limits) {
                Ok(Step::Command(range, used)) => {
                    assert!(used > 0 && self.start + used <= self.buf.len());
                    self.start += used;
                    if !range.is_empty() {
                        out.0.push(self.spans[range].iter().map(|span| span.of(&self.buf).to_vec()).collect());
                    }
                }
                Ok(Step::Incomplete(_)) => return true,
                Err(error) => {
                    out.1 = Some(error);
                    return false;
                }
            }
        }
    }

    /// Forgets what was read, as a session does between two reads of its socket.
    fn forget(&mut self) {
        self.buf.drain(..self.start);
        let first = if self.reader.is_idle() { self.spans.len() } else { self.reader.unfinished() };
        self.spans.drain(..first);
        self.reader.drop_spans(first);
        self.spans.iter_mut().for_each(|span| *span = span.moved(self.start));
        self.start = 0;
    }
}

fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: Limits, forgets: bool) -> Commands {
    let (mut connection, mut out) = (Connection::default(), Commands::default());
    for piece in pieces {
        connection.buf.extend_from_slice(piece);
        if !connection.read(limits, &mut out) {
            break;
        }
        if forgets {
            connection.forget();
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let [flags, max_bulk, first, second, bytes @ ..] = data else { return };
    let limits = Limits { max_bulk: usize::from(*max_bulk) * 16, authenticated: flags & 1 == 0 };
    let whole = feed([bytes].into_iter(), limits, false);
    assert_eq!(whole, feed(bytes.chunks(1), limits, true));
    let (left, right) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let pieces = || [left].into_iter().chain(right.chunks(usize::from(*second).max(1)));
    assert_eq!(whole, feed(pieces(), limits, flags & 2 == 0));
});
