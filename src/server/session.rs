//! One connection: reads, hands complete requests to `exec`, writes the replies, and keeps what does not fit.
//! It must not know what a command means.
//!
//! Reading and replying go through buffers that all connections of a worker share, so an idle connection owns
//! nothing but its socket. Only what is not run yet and replies that the socket would not take are kept here.
//! Every byte is parsed once: when a request makes the connection wait, the parsed requests behind it are kept too.

mod waits;

use super::parsed::{Parsed, make_room};
use super::pending::{Pending, SLICES};
use super::stream::Stream;
use super::worker::Seat;
use crate::clock;
use crate::config::Config;
use crate::exec::{After, Dispatch, Filled, Interest};
use crate::keyspace::Garbage;
use crate::protocol::{Limits, Output, ProtocolError, Reader, Reply, Step};
use crate::state::{Client, ReplyMode, State, WorkerStats};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Bytes of waiting replies that are sent in one turn.
const SEND_BYTES: usize = 256 * 1024;
/// Requests parsed ahead of running them.
const BATCH: usize = 64;
/// Bytes of replies at which they are sent although more requests are at hand.
const FLUSH_BYTES: usize = 32 * 1024;
/// Memory that a worker's shared buffers keep between batches.
pub(super) const KEEP_BYTES: usize = 1024 * 1024;
/// How long a connection with many requests at hand runs them before others have their turn, about, in ns.
const TURN_NS: u64 = 1_000_000;
/// Connections of a worker that may do so at a time: they hold a file descriptor, but count for no limit.
const LINGERING: usize = 16;

/// The buffers that a worker's connections share; never held across an await.
struct Shared {
    input: Vec<u8>,
    parsed: Parsed,
    output: Output,
    garbage: Garbage,
    config: Option<(u64, Arc<Config>)>,
}

thread_local! {
    static LINGERS: Cell<usize> = const { Cell::new(0) };
    static SHARED: RefCell<Shared> = const { RefCell::new(Shared {
        input: Vec::new(), parsed: Parsed::new(),
        output: Output::new(), garbage: Garbage::new(), config: None,
    }) };
}

impl Shared {
    /// The directives in force: one relaxed load, unless they changed.
    fn config(&mut self, state: &State) -> Arc<Config> {
        let version = state.config.version();
        match &self.config {
            Some((known, config)) if *known == version => Arc::clone(config),
            _ => {
                let config = state.config.load();
                self.config = Some((version, Arc::clone(&config)));
                config
            }
        }
    }
}

/// What the synchronous part of a session stopped at.
enum Event {
    /// The connection is over.
    Over,
    /// Others have their turn.
    Yield,
    /// Dispatch wants something that takes time.
    After(After),
}

/// A connection.
pub(super) struct Session {
    stream: Stream,
    client: Client,
    state: Arc<State>,
    stats: Arc<WorkerStats>,
    _seat: Seat,
    /// Bytes that came; those before `done` have been run.
    input: Vec<u8>,
    done: usize,
    reader: Reader,
    /// What is parsed of `input` behind `done`: requests that were not run, and the arguments found so far of an
    /// unfinished one.
    parsed: Parsed,
    /// What is wrong behind the parsed requests.
    failed: Option<ProtocolError>,
    /// `input` may hold complete requests: run them before reading more.
    unread: bool,
    /// Bytes came behind a request whose beginning the reader has seen.
    extended: bool,
    /// There is more to do, but others are to have their turn first.
    yields: bool,
    /// Bytes that the argument being read still needs, as far as known.
    wanted: usize,
    /// Replies the socket would not take yet.
    pending: Pending,
    /// Nothing more is read; the connection ends when the replies are sent.
    closing: bool,
    /// The last reply says why it ends: see that it arrives.
    lingers: bool,
    waker: Option<Waker>,
    /// What was loaded for the first of the parsed requests.
    filled: Option<Filled>,
    /// Loads that were begun for those behind it.
    ahead: Vec<Interest>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.state.leave(&mut self.client);
    }
}

impl Session {
    pub(super) fn new(stream: Stream, client: Client, state: Arc<State>, stats: Arc<WorkerStats>, seat: Seat) -> Self {
        Self {
            stream,
            client,
            state,
            stats,
            _seat: seat,
            input: Vec::new(),
            done: 0,
            reader: Reader::default(),
            parsed: Parsed::default(),
            failed: None,
            unread: false,
            extended: false,
            yields: false,
            wanted: 0,
            pending: Pending::default(),
            closing: false,
            lingers: false,
            waker: None,
            filled: None,
            ahead: Vec::new(),
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        if let Err(why) = self.shake_hands().await {
            let origin = &self.client.info.origin;
            return tracing::debug!("the connection from {} was not secured: {why}", origin.addr);
        }
        loop {
            let event = poll_fn(|cx| self.poll(cx)).await;
            match event {
                Event::Over | Event::After(After::Done | After::Close) => break,
                Event::Yield => tokio::task::yield_now().await,
                Event::After(After::Shutdown) => self.state.stop(),
                Event::After(After::Sleep(_, duration, answers)) => {
                    self.wait_or_killed(tokio::time::sleep(duration)).await;
                    if answers {
                        self.reply_now(|reply| reply.ok());
                    }
                }
                Event::After(After::Later(_, later, answers)) => {
                    if let Some(answer) = self.wait_or_killed(later).await
                        && answers
                    {
                        self.reply_now(answer);
                    }
                }
                // A server that stops finishes what waits, but begins no more.
                Event::After(After::Fill(..)) if self.state.stopping.load(Ordering::Relaxed) => self.close(),
                Event::After(After::Fill(_, fill)) => {
                    self.filled = self.wait_or_gone(fill.wait(), true).await;
                }
                Event::After(After::Block(_, blocked)) => self.wait_for_keys(blocked).await,
                Event::After(After::Script(_, running)) => self.run_on(running).await,
                Event::After(After::Walk(_, walking)) => self.walk_on(*walking).await,
                Event::After(After::Paused(_, until)) => self.wait_for_pause(until).await,
            }
        }
        if self.lingers && !self.client.info.killed.load(Ordering::Relaxed) && LINGERS.get() < LINGERING {
            LINGERS.set(LINGERS.get() + 1);
            self.linger().await;
            LINGERS.set(LINGERS.get() - 1);
        }
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.client.info.set_waker(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Reads and runs nothing more.
    fn close(&mut self) {
        self.closing = true;
        self.client.info.closing.store(true, Ordering::Relaxed);
    }

    /// Everything that can be done without waiting.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.register(cx);
        loop {
            if self.client.info.killed.load(Ordering::Acquire) {
                return Poll::Ready(Event::Over);
            }
            if self.state.stopping.load(Ordering::Relaxed) && self.filled.is_none() {
                self.close();
            }
            if self.send_output(cx).is_err() {
                return Poll::Ready(Event::Over);
            }
            if std::mem::take(&mut self.yields) {
                return Poll::Ready(Event::Yield);
            }
            if self.closing {
                let is_sent = self.pending.is_empty() && !self.stream.wants_flush();
                return if is_sent { Poll::Ready(Event::Over) } else { Poll::Pending };
            }
            let step = SHARED.with_borrow_mut(|shared| self.step(cx, shared));
            match step {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(After::Done)) => {
                    if std::mem::take(&mut self.yields) {
                        return Poll::Ready(Event::Yield);
                    }
                }
                Poll::Ready(Ok(After::Close)) => {
                    self.lingers = true;
                    self.close();
                }
                Poll::Ready(Ok(after)) => return Poll::Ready(Event::After(after)),
                // The peer may still read: what was asked before is answered.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.close(),
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Over),
            }
        }
    }

    /// Reads once (unless unread requests are at hand), runs what is complete, and sends the replies.
    fn step(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Poll<io::Result<After>> {
        let config = shared.config(&self.state);
        shared.parsed.clear();
        if !shared.output.is_empty() {
            // A handler panicked amid another connection's batch: these replies are nobody's.
            shared.output.clear(KEEP_BYTES);
        }
        if self.input.is_empty() { self.step_shared(cx, shared, &config) } else { self.step_own(cx, shared, &config) }
    }

    /// A step with the worker's buffer: nothing is left from before.
    fn step_shared(&mut self, cx: &mut Context<'_>, shared: &mut Shared, config: &Config) -> Poll<io::Result<After>> {
        let mut input = std::mem::take(&mut shared.input);
        input.resize(READ_BYTES, 0);
        let result = match self.stream.poll_read(cx, &mut input) {
            Poll::Ready(Ok(len)) if len > 0 => {
                self.count_read(len);
                let (after, used) = self.execute(cx, &mut input[..len], 0, shared, config);
                if used < len {
                    self.input.extend_from_slice(&input[used..len]);
                    self.parsed.clear();
                    self.parsed.spans.extend_from_slice(&shared.parsed.spans);
                    self.parsed.requests.extend_from_slice(&shared.parsed.requests);
                    self.parsed.ends.extend_from_slice(&shared.parsed.ends);
                    self.parsed.moved(used);
                    self.note_input();
                }
                Poll::Ready(Ok(after))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        shared.input = input;
        result
    }

    /// A step with the connection's own buffer.
    fn step_own(&mut self, cx: &mut Context<'_>, shared: &mut Shared, config: &Config) -> Poll<io::Result<After>> {
        let mut input = std::mem::take(&mut self.input);
        if !std::mem::take(&mut self.unread) {
            if self.done > 0 {
                input.drain(..self.done);
                self.parsed.moved(std::mem::take(&mut self.done));
            }
            make_room(&mut input, self.wanted);
            match self.stream.poll_read_more(cx, &mut input) {
                Poll::Ready(Ok(len)) if len > 0 => self.count_read(len),
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.input = input;
                    return Poll::Pending;
                }
            }
        }
        std::mem::swap(&mut shared.parsed, &mut self.parsed);
        let (after, used) = self.execute(cx, &mut input, self.done, shared, config);
        std::mem::swap(&mut shared.parsed, &mut self.parsed);
        if used == input.len() {
            self.done = 0;
        } else {
            self.done = used;
            if used > KEEP_BYTES && used > input.len() / 2 {
                // A large request is done: its memory is not kept for a small rest.
                input = input[used..].to_vec();
                self.parsed.moved(std::mem::take(&mut self.done));
            }
            self.input = input;
        }
        self.note_input();
        Poll::Ready(self.check_query_limit(config.client_query_buffer_limit).map(|()| after))
    }

    /// `client-query-buffer-limit`.
    fn check_query_limit(&self, limit: u64) -> io::Result<()> {
        if (self.input.len() - self.done) as u64 <= limit {
            return Ok(());
        }
        self.state.clients.query_limit_hits.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(client = self.client.info.id, "closed: more unread requests than client-query-buffer-limit");
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn note_input(&self) {
        let info = &self.client.info;
        info.query_bytes.store(self.input.len() - self.done, Ordering::Relaxed);
        info.query_capacity.store(self.input.capacity(), Ordering::Relaxed);
    }

    fn count_read(&mut self, len: usize) {
        self.yields = len >= READ_BYTES || self.stream.has_more();
        self.stats.net_in.add(len as u64);
        self.stats.reads.add(1);
        self.client.info.net_in.add(len as u64);
        self.client.info.active_at.store(clock::wall_ms(clock::monotonic_ns()), Ordering::Relaxed);
    }

    /// Runs the parsed requests in `buf`, then parses and runs those from `start` on, the first of which may have
    /// been begun before. Returns how many bytes are done with; what is parsed behind them stays in `shared`.
    fn execute(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        mut start: usize,
        shared: &mut Shared,
        config: &Config,
    ) -> (After, usize) {
        let mut turn_ends = None;
        loop {
            let batch_start = start;
            let error = self.parse(buf, &mut start, &mut shared.parsed, config);
            let parsed = &shared.parsed;
            let mut dispatch = Dispatch {
                state: &self.state,
                config,
                stats: &self.stats,
                client: &mut self.client,
                garbage: &mut shared.garbage,
                filled: self.filled.take(),
                ahead: &mut self.ahead,
            };
            let after = dispatch.run(buf, &parsed.spans, &parsed.requests, &mut shared.output);
            let next = match &after {
                After::Done => parsed.requests.len(),
                After::Sleep(index, ..)
                | After::Later(index, ..)
                | After::Block(index, _)
                | After::Script(index, _)
                | After::Walk(index, _) => index + 1,
                After::Paused(index, _) | After::Fill(index, _) => *index,
                After::Close | After::Shutdown => return self.end(cx, buf.len(), after, shared, config),
            };
            let used = match next.checked_sub(1) {
                _ if next == parsed.requests.len() => start,
                Some(last) => parsed.ends[last],
                None => batch_start,
            };
            shared.parsed.drop_front(next, &mut self.reader);
            if !matches!(after, After::Done) {
                self.failed = error;
                self.unread = used < buf.len();
                self.flush(cx, shared, config);
                return (after, used);
            }
            if let Some(error) = error {
                if self.client.reply_mode != ReplyMode::Off {
                    let text = [b"ERR ", error.text().as_slice()].concat();
                    Reply::new(&mut shared.output, self.client.version).error_bytes(&text);
                }
                return self.end(cx, buf.len(), After::Close, shared, config);
            }
            let is_partial = !self.reader.is_idle() && !self.extended;
            let is_all = start == buf.len() || is_partial || !self.unread;
            if is_all || shared.output.len() >= FLUSH_BYTES {
                self.flush(cx, shared, config);
            }
            if is_all || self.turn_is_over(&mut turn_ends) {
                self.flush(cx, shared, config);
                self.unread &= !is_all;
                return (after, used);
            }
        }
    }

    /// Ends the connection after what was run last.
    fn end(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        after: After,
        shared: &mut Shared,
        config: &Config,
    ) -> (After, usize) {
        self.reader = Reader::default();
        shared.parsed.clear();
        self.flush(cx, shared, config);
        (after, len)
    }

    /// True once the connection has run requests for long enough, or is to end; asked between batches.
    fn turn_is_over(&mut self, turn_ends: &mut Option<u64>) -> bool {
        let now = clock::monotonic_ns();
        let ends = *turn_ends.get_or_insert(now + TURN_NS);
        let is_over = now >= ends || self.client.info.killed.load(Ordering::Relaxed);
        self.yields |= is_over;
        is_over
    }

    /// Parses requests from `start` on, unless some were parsed before; moves `start` behind the last complete one.
    /// `self.unread` tells whether there may be more. Returns what is wrong behind the requests.
    fn parse(
        &mut self,
        buf: &mut [u8],
        start: &mut usize,
        parsed: &mut Parsed,
        config: &Config,
    ) -> Option<ProtocolError> {
        self.unread = true;
        if let Some(end) = parsed.ends.last() {
            *start = *end;
            return self.failed.take();
        }
        if self.failed.is_some() {
            return self.failed.take();
        }
        let authenticated = self.client.is_authenticated(&self.state.acl);
        let limits = Limits { max_bulk: config.proto_max_bulk_len as usize, authenticated };
        // AUTH changes the limits of what comes behind it.
        let batch = if authenticated { BATCH } else { 1 };
        self.extended = false;
        while parsed.requests.len() < batch {
            match self.reader.next(&mut buf[*start..], *start, &mut parsed.spans, limits) {
                Ok(Step::Command(range, used)) => {
                    *start += used;
                    if !range.is_empty() {
                        parsed.requests.push(range);
                        parsed.ends.push(*start);
                    }
                }
                Ok(Step::Incomplete(wanted)) => {
                    self.wanted = wanted;
                    self.unread = false;
                    return None;
                }
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Sends what the batch wrote; what the socket does not take is kept.
    fn flush(&mut self, cx: &mut Context<'_>, shared: &mut Shared, config: &Config) {
        let output = &mut shared.output;
        if output.is_empty() {
            return;
        }
        let mut sent = 0;
        if self.pending.is_empty()
            && let Some(bytes) = output.contiguous()
        {
            // An error here shows again at the next read.
            if let Poll::Ready(Ok(len)) = self.stream.poll_write(cx, bytes) {
                sent = len;
                self.count_written(len);
            }
            if sent == bytes.len() {
                return shared.output.clear(KEEP_BYTES);
            }
        }
        for chunk in output.drain_chunks(sent) {
            self.pending.push(chunk);
        }
        output.clear(KEEP_BYTES);
        if self.send_pending(cx).is_err() || self.is_over_limit(config) {
            self.client.info.killed.store(true, Ordering::Release);
        }
    }

    /// Sends what others pushed and what the socket did not take before.
    fn send_output(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let pushed = if self.closing { Vec::new() } else { self.client.info.take_outbox() };
        let is_pushed = !pushed.is_empty();
        for message in pushed {
            self.pending.push(message);
        }
        if self.pending.is_empty() {
            if self.stream.wants_flush()
                && let Poll::Ready(sent) = self.stream.poll_flush(cx)
            {
                return sent;
            }
            return Ok(());
        }
        self.send_pending(cx)?;
        if is_pushed && self.is_over_limit(&self.state.config.load()) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }

    /// Sends as much as the socket takes now.
    fn send_pending(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let before = self.pending.len();
        let result = loop {
            if self.pending.is_empty() {
                break Ok(());
            }
            let sent = before - self.pending.len();
            if sent >= SEND_BYTES {
                // A peer that reads as fast as this sends would keep the worker to itself.
                self.yields = true;
                cx.waker().wake_by_ref();
                break Ok(());
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.pending.fill(&mut slices, SEND_BYTES - sent);
            match self.stream.poll_write_vectored(cx, &slices[..used]) {
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => {
                    self.pending.sent(len);
                    self.count_written(len);
                }
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => break Ok(()),
            }
        };
        let info = &self.client.info;
        info.output_bytes.store(self.pending.len(), Ordering::Relaxed);
        info.output_chunks.store(self.pending.chunks(), Ordering::Relaxed);
        if self.pending.len() < before {
            info.active_at.store(clock::wall_ms(clock::monotonic_ns()), Ordering::Relaxed);
        }
        result
    }

    fn count_written(&mut self, len: usize) {
        self.stats.net_out.add(len as u64);
        self.stats.writes.add(1);
        self.client.info.net_out.add(len as u64);
    }

    fn is_over_limit(&self, config: &Config) -> bool {
        self.state.is_over_output_limit(&self.client.info, config)
    }

    /// Replies outside of a batch.
    fn reply_now(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let mut output = Output::new();
        write(&mut Reply::new(&mut output, self.client.version));
        self.answer(output);
    }

    /// The reply of a command that was put aside, or another one outside of a batch.
    fn answer(&mut self, mut output: Output) {
        output.drain_chunks(0).into_iter().for_each(|chunk| self.pending.push(chunk));
    }
}
