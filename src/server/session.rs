//! One connection: reads, hands complete requests to `exec`, writes the replies, and keeps what does not fit.
//! It must not know what a command means.
//!
//! Reading and replying go through buffers that all connections of a worker share, so an idle connection owns
//! nothing but its socket. Only an unfinished request and replies that the socket would not take are kept here.

use super::stream::Stream;
use crate::clock;
use crate::config::Config;
use crate::exec::{After, Dispatch, Filled, Request};
use crate::keyspace::Slot;
use crate::protocol::{Limits, Output, ProtocolError, Reader, Reply, Span, Step};
use crate::state::{Client, State, WorkerStats};
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;
/// Reads before a connection that keeps sending lets the worker's other connections have their turn. The second
/// one mostly finds nothing, which costs no system call.
const STEPS_PER_TURN: usize = 2;
/// Requests parsed ahead of running them.
const BATCH: usize = 64;
/// Memory that a worker's shared buffers keep between batches.
const KEEP_BYTES: usize = 1024 * 1024;
/// Bytes by which the buffer of an unfinished request grows ahead of what has come, at most.
const GROW_AHEAD: usize = 32 * 1024 * 1024;

/// The buffers that a worker's connections share; never held across an await.
struct Shared {
    input: Vec<u8>,
    spans: Vec<Span>,
    requests: Vec<Request>,
    ends: Vec<usize>,
    output: Output,
    garbage: Vec<Slot>,
    config: Option<(u64, Arc<Config>)>,
}

thread_local! {
    static SHARED: RefCell<Shared> = const { RefCell::new(Shared {
        input: Vec::new(), spans: Vec::new(), requests: Vec::new(), ends: Vec::new(),
        output: Output::new(), garbage: Vec::new(), config: None,
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
    /// Dispatch wants something that takes time.
    After(After),
}

/// A connection.
pub(super) struct Session {
    stream: Stream,
    client: Client,
    state: Arc<State>,
    stats: Arc<WorkerStats>,
    /// Bytes that are not run yet, from the first byte of a request.
    input: Vec<u8>,
    reader: Reader,
    /// Arguments found so far of the unfinished request in `input`.
    spans: Vec<Span>,
    /// `input` may hold complete requests: run them before reading more.
    unread: bool,
    /// Bytes that the argument being read still needs, as far as known.
    wanted: usize,
    /// Replies the socket would not take yet.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    /// Since when `pending_bytes` is past the soft limit (ms since the epoch).
    soft_limit_since: Option<i64>,
    /// Nothing more is read; the connection ends when the replies are sent.
    closing: bool,
    waker: Option<Waker>,
    /// What was loaded for the first request of `input`.
    filled: Option<Filled>,
}

impl Session {
    pub(super) fn new(stream: Stream, client: Client, state: Arc<State>, stats: Arc<WorkerStats>) -> Self {
        Self {
            stream,
            client,
            state,
            stats,
            input: Vec::new(),
            reader: Reader::default(),
            spans: Vec::new(),
            unread: false,
            wanted: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            soft_limit_since: None,
            closing: false,
            waker: None,
            filled: None,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        loop {
            let event = poll_fn(|cx| self.poll(cx)).await;
            match event {
                Event::Over | Event::After(After::Done | After::Close) => break,
                Event::After(After::Shutdown) => self.state.stop(),
                Event::After(After::Sleep(_, duration)) => {
                    self.wait(duration).await;
                    self.reply_now(|reply| reply.ok());
                }
                Event::After(After::Fill(_, fill)) => {
                    self.filled = self.wait_or_killed(fill.wait()).await;
                }
                Event::After(After::Paused(_, until)) => {
                    let left = (until - clock::now_ms()).clamp(1, 100);
                    self.wait(Duration::from_millis(left as u64)).await;
                }
            }
        }
        self.state.clients.disconnect(self.client.info.id);
    }

    /// Waits so long, or until the connection is killed.
    async fn wait(&mut self, duration: Duration) {
        self.wait_or_killed(tokio::time::sleep(duration)).await;
    }

    /// Waits for something; None if the connection is killed meanwhile.
    async fn wait_or_killed<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let info = Arc::clone(&self.client.info);
        info.blocked.store(true, Ordering::Relaxed);
        let mut what = std::pin::pin!(what);
        let result = poll_fn(|cx| {
            self.register(cx);
            if info.killed.load(Ordering::Acquire) { Poll::Ready(None) } else { what.as_mut().poll(cx).map(Some) }
        })
        .await;
        info.blocked.store(false, Ordering::Relaxed);
        result
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.client.info.set_waker(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Everything that can be done without waiting.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.register(cx);
        for _ in 0..STEPS_PER_TURN {
            if self.client.info.killed.load(Ordering::Acquire) {
                return Poll::Ready(Event::Over);
            }
            for message in self.client.info.take_outbox() {
                self.pend(message);
            }
            if !self.pending.is_empty() && self.send_pending(cx).is_err() {
                return Poll::Ready(Event::Over);
            }
            if self.closing {
                return if self.pending.is_empty() { Poll::Ready(Event::Over) } else { Poll::Pending };
            }
            let step = SHARED.with_borrow_mut(|shared| self.step(cx, shared));
            match step {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(After::Done)) => {}
                Poll::Ready(Ok(After::Close)) => self.closing = true,
                Poll::Ready(Ok(after)) => return Poll::Ready(Event::After(after)),
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Over),
            }
        }
        // There is more to read: the worker's other connections come first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once (unless unread requests are at hand), runs what is complete, and sends the replies.
    fn step(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Poll<io::Result<After>> {
        let config = shared.config(&self.state);
        shared.spans.clear();
        if self.input.is_empty() {
            let mut input = std::mem::take(&mut shared.input);
            input.resize(READ_BYTES, 0);
            let read = self.stream.poll_read(cx, &mut input);
            let result = match read {
                Poll::Ready(Ok(len)) if len > 0 => {
                    self.count_read(len);
                    let (after, used) = self.execute(cx, &mut input[..len], shared, &config);
                    self.input.extend_from_slice(&input[used..len]);
                    self.keep_unfinished(shared, used);
                    Poll::Ready(Ok(after))
                }
                Poll::Ready(Ok(_)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            };
            shared.input = input;
            return result;
        }
        let mut input = std::mem::take(&mut self.input);
        if !std::mem::take(&mut self.unread) {
            input.reserve(self.wanted.clamp(READ_BYTES / 4, GROW_AHEAD));
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
        std::mem::swap(&mut shared.spans, &mut self.spans);
        let (after, used) = self.execute(cx, &mut input, shared, &config);
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        self.keep_unfinished(shared, used);
        if self.input.len() as u64 > config.client_query_buffer_limit {
            self.state.clients.query_limit_hits.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        Poll::Ready(Ok(after))
    }

    /// Keeps the arguments found so far of the request at the front of `input`, which was at `from`.
    fn keep_unfinished(&mut self, shared: &mut Shared, from: usize) {
        self.client.info.query_bytes.store(self.input.len(), Ordering::Relaxed);
        self.spans.clear();
        if self.reader.is_idle() {
            return self.spans.shrink_to(KEEP_BYTES / size_of::<Span>());
        }
        self.spans.extend_from_slice(&shared.spans[self.reader.unfinished()..]);
        self.reader.rebase(&mut self.spans, from);
    }

    fn count_read(&mut self, len: usize) {
        self.stats.net_in.add(len as u64);
        self.stats.reads.add(1);
        self.client.info.net_in.add(len as u64);
        self.client.info.active_at.store(clock::wall_ms(clock::monotonic_ns()), Ordering::Relaxed);
    }

    /// Parses and runs the requests in `buf`, whose first one may have been begun before. Returns how many bytes
    /// are done with.
    fn execute(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        shared: &mut Shared,
        config: &Config,
    ) -> (After, usize) {
        let mut start = 0;
        loop {
            let batch_start = start;
            let parsed = self.parse(buf, &mut start, shared, config);
            let mut dispatch = Dispatch {
                state: &self.state,
                config,
                stats: &self.stats,
                client: &mut self.client,
                garbage: &mut shared.garbage,
                filled: self.filled.take(),
            };
            let after = dispatch.run(buf, &shared.spans, &shared.requests, &mut shared.output);
            let stopped_at = match &after {
                After::Done => None,
                After::Close | After::Shutdown => Some(buf.len()),
                After::Sleep(index, _) => Some(shared.ends[*index]),
                After::Paused(index, _) | After::Fill(index, _) => {
                    Some(if *index == 0 { batch_start } else { shared.ends[*index - 1] })
                }
            };
            if let Some(used) = stopped_at {
                self.reader = Reader::default();
                self.unread = used < buf.len();
                self.flush(cx, shared, config);
                return (after, used);
            }
            if let Err(error) = &parsed {
                Reply::new(&mut shared.output, self.client.version)
                    .error_bytes(&[b"ERR ", error.text().as_slice()].concat());
            }
            self.flush(cx, shared, config);
            match parsed {
                Ok(true) => return (After::Done, start),
                Ok(false) => shared.spans.clear(),
                Err(_) => {
                    self.reader = Reader::default();
                    return (After::Close, buf.len());
                }
            }
        }
    }

    /// Parses requests from `start` on into `shared`; moves `start` behind the last complete one. True if no
    /// complete request is left, false if there may be more.
    fn parse(
        &mut self,
        buf: &mut [u8],
        start: &mut usize,
        shared: &mut Shared,
        config: &Config,
    ) -> Result<bool, ProtocolError> {
        let limits = Limits { max_bulk: config.proto_max_bulk_len as usize, authenticated: self.client.authenticated };
        // AUTH changes the limits of what comes behind it.
        let batch = if limits.authenticated { BATCH } else { 1 };
        shared.requests.clear();
        shared.ends.clear();
        while shared.requests.len() < batch {
            match self.reader.next(&mut buf[*start..], *start, &mut shared.spans, limits)? {
                Step::Command(range, used) => {
                    *start += used;
                    if !range.is_empty() {
                        shared.requests.push(range);
                        shared.ends.push(*start);
                    }
                }
                Step::Incomplete(wanted) => {
                    self.wanted = wanted;
                    return Ok(true);
                }
            }
        }
        Ok(false)
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
            self.pend(chunk);
        }
        output.clear(KEEP_BYTES);
        if self.send_pending(cx).is_err() || self.output_is_too_large(config) {
            self.client.info.killed.store(true, Ordering::Release);
        }
    }

    fn pend(&mut self, chunk: Bytes) {
        self.pending_bytes += chunk.len();
        self.pending.push_back(chunk);
        self.client.info.output_bytes.store(self.pending_bytes, Ordering::Relaxed);
    }

    /// Sends as much as the socket takes now.
    fn send_pending(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(chunk) = self.pending.front_mut() {
            match self.stream.poll_write(cx, chunk) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => {
                    chunk.advance(len);
                    if chunk.is_empty() {
                        self.pending.pop_front();
                    }
                    self.pending_bytes -= len;
                    self.count_written(len);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.client.info.output_bytes.store(self.pending_bytes, Ordering::Relaxed);
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
            self.soft_limit_since = None;
        }
        Ok(())
    }

    fn count_written(&mut self, len: usize) {
        self.stats.net_out.add(len as u64);
        self.stats.writes.add(1);
        self.client.info.net_out.add(len as u64);
    }

    /// `client-output-buffer-limit`: too much at once, or more than the soft limit for too long.
    fn output_is_too_large(&mut self, config: &Config) -> bool {
        let limit = config.output_limits[self.client.info.kind() as usize];
        let waiting = self.pending_bytes as u64;
        let now = clock::now_ms();
        if limit.soft == 0 || waiting <= limit.soft {
            self.soft_limit_since = None;
        } else if self.soft_limit_since.is_none() {
            self.soft_limit_since = Some(now);
        }
        let too_long = self.soft_limit_since.is_some_and(|since| now - since > limit.soft_seconds as i64 * 1000);
        let too_large = too_long || (limit.hard > 0 && waiting > limit.hard);
        if too_large {
            self.state.clients.output_limit_hits.fetch_add(1, Ordering::Relaxed);
        }
        too_large
    }

    /// Replies outside of a batch.
    fn reply_now(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let mut output = Output::new();
        write(&mut Reply::new(&mut output, self.client.version));
        for chunk in output.drain_chunks(0) {
            self.pend(chunk);
        }
    }
}
