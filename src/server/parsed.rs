//! Requests that a connection has parsed ahead of running them, and room for what it has yet to read. It must not know
//! sockets, or what a request means.

use super::session::{KEEP_BYTES, READ_BYTES};
use crate::exec::Request;
use crate::protocol::{Reader, Span};

/// Bytes that are reserved for a large argument before it has shown that it is in earnest, at most.
const GROW_AHEAD: usize = 32 * 1024 * 1024;

/// Requests that are parsed and not run.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) spans: Vec<Span>,
    pub(super) requests: Vec<Request>,
    /// Where each request ends in its buffer.
    pub(super) ends: Vec<usize>,
}

impl Parsed {
    /// None.
    pub(super) const fn new() -> Self {
        Self { spans: Vec::new(), requests: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(KEEP_BYTES / size_of::<Span>());
        self.requests.clear();
        self.ends.clear();
    }

    /// Forgets the requests before `next`, which were run, and what only they needed; `reader` may be amid a
    /// request behind them all.
    pub(super) fn drop_front(&mut self, next: usize, reader: &mut Reader) {
        self.ends.drain(..next);
        self.requests.drain(..next);
        let unfinished = if reader.is_idle() { self.spans.len() } else { reader.unfinished() };
        let first = self.requests.first().map_or(unfinished, |request| request.start);
        self.spans.drain(..first);
        reader.drop_spans(first);
        for request in &mut self.requests {
            *request = request.start - first..request.end - first;
        }
    }

    /// The bytes were moved from offset `from` to offset 0.
    pub(super) fn moved(&mut self, from: usize) {
        self.spans.iter_mut().for_each(|span| *span = span.moved(from));
        self.ends.iter_mut().for_each(|end| *end -= from);
    }
}

/// Makes room for what comes next. A large argument gets a part of what it says it needs, and all of that once the
/// part has come.
pub(super) fn make_room(input: &mut Vec<u8>, wanted: usize) {
    if wanted <= READ_BYTES {
        input.reserve(READ_BYTES);
    } else if input.capacity() - input.len() < READ_BYTES {
        input.reserve_exact(if input.len() < GROW_AHEAD { wanted.min(GROW_AHEAD) } else { wanted });
    }
}
