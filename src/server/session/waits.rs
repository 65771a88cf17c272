//! What takes time: the handshake, waiting for a pause, a key, a load or a script to end, and the last reply. It must not
//! know what a command means.

use super::{READ_BYTES, SHARED, Session};
use crate::clock;
use crate::config::Config;
use crate::exec::{Blocked, Dispatch, Running, Walked, Walking};
use crate::keyspace::Garbage;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a connection that was told why it is closed may take to read that.
const LINGER: Duration = Duration::from_secs(1);
/// How long a walk waits for a script that has the keyspace for itself.
const BARRED: Duration = Duration::from_millis(1);
/// How long a peer may take to agree on keys (TLS). It holds one of `maxclients`' places meanwhile.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Session {
    /// Agrees with the peer on what has to be agreed on, within [`HANDSHAKE`].
    pub(super) async fn shake_hands(&mut self) -> io::Result<()> {
        let agreed = poll_fn(|cx| {
            self.register(cx);
            if self.client.info.killed.load(Ordering::Acquire) || self.state.stopping.load(Ordering::Relaxed) {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            self.stream.poll_handshake(cx)
        });
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(HANDSHAKE, agreed).await.unwrap_or_else(late)
    }

    /// Waits until CLIENT PAUSE is over or has changed.
    pub(super) async fn wait_for_pause(&mut self, until: i64) {
        let state = Arc::clone(&self.state);
        let left = (until - clock::now_ms()).clamp(1, 1 << 40);
        let mut over = Box::pin(tokio::time::sleep(Duration::from_millis(left as u64)));
        let changed = poll_fn(|cx| {
            // 0: it is no pause that is waited for, but a script.
            let is_same = until == 0 || state.pause.is_until(until);
            let is_on = is_same && !state.stopping.load(Ordering::Relaxed);
            if is_on { over.as_mut().poll(cx) } else { Poll::Ready(()) }
        });
        self.wait_or_killed(changed).await;
    }

    /// Waits in a blocking command, and sends its reply.
    pub(super) async fn wait_for_keys(&mut self, blocked: Blocked) {
        {
            let mut wait = std::pin::pin!(blocked.wait());
            poll_fn(|cx| {
                self.register(cx);
                if self.send_output(cx).is_err() || self.read_ahead(cx).is_err() {
                    self.client.info.killed.store(true, Ordering::Release);
                }
                let is_over = self.client.info.killed.load(Ordering::Acquire);
                // A server that stops waits for nothing.
                let is_over = is_over || self.state.stopping.load(Ordering::Relaxed);
                if is_over { Poll::Ready(()) } else { wait.as_mut().poll(cx) }
            })
            .await;
        }
        let config = self.state.config.load();
        if let Some(reply) = blocked.finish(&self.state, &self.client, &self.stats, &config) {
            self.answer(reply);
        }
    }

    /// Goes on with a script, taking turns with the worker's other connections; to its end, even if the peer is gone.
    pub(super) async fn run_on(&mut self, mut running: Box<Running>) {
        loop {
            tokio::task::yield_now().await;
            let config = self.state.config.load();
            if let Some(reply) = self.dispatch(&config, |dispatch| dispatch.go_on(&mut running)) {
                return self.answer(reply);
            }
        }
    }

    /// Goes on with a walk over the keyspace, taking turns with the worker's other connections.
    pub(super) async fn walk_on(&mut self, mut walking: Walking) {
        let config = self.state.config.load();
        loop {
            tokio::task::yield_now().await;
            if self.client.info.killed.load(Ordering::Acquire) {
                return;
            }
            match walking.go_on(&self.state, &config, &self.client) {
                Walked::On => {}
                Walked::Done => break,
                Walked::Barred => tokio::time::sleep(BARRED).await,
                Walked::TooLarge => return self.client.info.killed.store(true, Ordering::Release),
            }
        }
        let reply = self.dispatch(&config, |dispatch| dispatch.end_walk(walking));
        self.answer(reply);
    }

    /// Goes on with a command that was put aside.
    fn dispatch<T>(&mut self, config: &Config, go_on: impl FnOnce(&mut Dispatch<'_>) -> T) -> T {
        let mut garbage = Garbage::new();
        go_on(&mut Dispatch {
            state: &self.state,
            config,
            stats: &self.stats,
            client: &mut self.client,
            garbage: &mut garbage,
            filled: None,
            ahead: &mut self.ahead,
        })
    }

    /// Reads what the peer sends although it has no reply yet, to run it later; an error when it is gone. It may send
    /// as much as `client-query-buffer-limit` allows.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let read = SHARED.with_borrow_mut(|shared| {
                shared.input.resize(READ_BYTES, 0);
                let read = self.stream.poll_read(cx, &mut shared.input);
                if let Poll::Ready(Ok(len)) = read {
                    self.input.extend_from_slice(&shared.input[..len]);
                }
                read
            });
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(len)) => self.count_read(len),
                Poll::Ready(Err(error)) => return Err(error),
            }
            (self.unread, self.extended) = (true, true);
            self.note_input();
            self.check_query_limit(self.state.config.load().client_query_buffer_limit)?;
        }
    }

    /// Waits for something while replies are sent; None if the connection ends meanwhile.
    pub(super) async fn wait_or_killed<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        self.wait_or_gone(what, false).await
    }

    /// The same; `listens`: a peer that sends no more is gone, and what is done for it is in vain.
    pub(super) async fn wait_or_gone<T>(&mut self, what: impl Future<Output = T>, listens: bool) -> Option<T> {
        let info = Arc::clone(&self.client.info);
        info.blocked.store(true, Ordering::Relaxed);
        let mut what = std::pin::pin!(what);
        let result = poll_fn(|cx| {
            self.register(cx);
            if self.send_output(cx).is_err() || listens && self.read_ahead(cx).is_err() {
                info.killed.store(true, Ordering::Release);
            }
            if info.killed.load(Ordering::Acquire) { Poll::Ready(None) } else { what.as_mut().poll(cx).map(Some) }
        })
        .await;
        info.blocked.store(false, Ordering::Relaxed);
        result
    }

    /// Sees that the last reply arrives. A socket that is closed with unread bytes resets the connection, and the
    /// peer may lose what it has not read; so they are read, for a while.
    pub(super) async fn linger(mut self) {
        self.state.leave(&mut self.client);
        let drained = poll_fn(|cx| {
            if self.stream.poll_shutdown(cx).is_pending() {
                return Poll::Pending;
            }
            SHARED.with_borrow_mut(|shared| {
                shared.input.resize(READ_BYTES, 0);
                loop {
                    match self.stream.poll_read(cx, &mut shared.input) {
                        Poll::Ready(Ok(len)) if len > 0 => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
        });
        let _ = tokio::time::timeout(LINGER, drained).await;
    }
}
