//! Commands that wait for keys: how they begin to, how they are served, how their wait ends. Knows the keyspace's
//! interests and the command table; no sockets.
//!
//! Whoever changes a key serves those who wait for it, in the order in which they came, after its command (or its
//! whole transaction) and before it gives back the lock: so nobody sees an element that a waiter has a right to. To
//! serve is to run the waiter's command again on all its keys, as if it had only come now. That may change further
//! keys (BLMOVE), whose waiters are served next.

use super::locks::Locks;
use crate::commands::{self, Args, Block, Command, Outcome, Run};
use crate::config::Config;
use crate::keyspace::{Ending, Garbage, Key, Keyspace, News, Ready, Served, Shard, ShardGuard, View, Waiter};
use crate::protocol::{Output, Reply, Span};
use crate::state::acl::Context;
use crate::state::{Client, State, WorkerStats};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A command that waits, as its own connection sees it.
#[derive(Debug)]
pub struct Blocked {
    waiter: Arc<Waiter>,
    timeout: Option<Duration>,
    /// How many of its keys it waits for.
    keys: usize,
    /// Index of its row among all.
    command: usize,
    /// How long its first attempt took.
    ns: u64,
    /// Its reply is wanted (CLIENT REPLY).
    pub(super) answers: bool,
}

impl Blocked {
    /// Begins to wait for `keys`, whose shards are locked.
    pub(super) fn begin(
        (client, ns): (&Client, u64),
        command: &Command,
        args: &Args<'_>,
        block: Block,
        keys: &[Key<'_>],
        shards: &mut [&mut Shard],
    ) -> Self {
        let (mut buf, mut spans) = (Vec::new(), Vec::new());
        match &block.args {
            Some(words) => Span::pack(words.iter().map(Vec::as_slice), &mut buf, &mut spans),
            None => Span::pack(args.from(0), &mut buf, &mut spans),
        }
        let mut waiter = Waiter::new(buf, spans, client.db(), client.version);
        (waiter.client, waiter.users) = (client.info.id, client.acl_epoch());
        waiter.no_touch = client.info.no_touch.load(Ordering::Relaxed);
        (waiter.of_type, waiter.or_gone) = (block.of_type, block.or_gone);
        let waiter = Arc::new(waiter);
        let count = block.keys.unwrap_or(keys.len()).min(keys.len());
        for key in &keys[..count] {
            shards[key.shard].wait(client.db(), key.hash, key.bytes, &waiter);
        }
        client.info.set_waiting(Some(Arc::clone(&waiter)));
        Self { waiter, timeout: block.timeout, keys: count, command: command.id, ns, answers: true }
    }

    /// Waits until the command is served, its time is over, or somebody ends the wait.
    pub async fn wait(&self) {
        let ended = self.waiter.ended();
        match self.timeout {
            None => ended.await,
            Some(timeout) if tokio::time::timeout(timeout, ended).await.is_ok() => {}
            Some(_) => _ = self.waiter.end(Ending::Timeout),
        }
    }

    /// Ends the wait, if it still goes on, and gives the reply; None for a connection that wants none.
    pub fn finish(self, state: &State, client: &Client, stats: &WorkerStats, config: &Config) -> Option<Output> {
        self.waiter.end(Ending::Gone);
        client.info.set_waiting(None);
        self.leave(&state.keyspace);
        let mut out = Output::new();
        let mut reply = Reply::new(&mut out, client.version);
        match self.waiter.take_ending() {
            Ending::Served(served) => out = served,
            // Whatever the command would answer in a transaction.
            Ending::Timeout => reply.null_array(),
            Ending::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            Ending::Gone => return None,
        }
        let counts = &stats.commands[self.command];
        counts.record(self.ns, config.latency_tracking);
        stats.processed.add(1);
        client.info.commands.add(1);
        let start = Output::new().mark();
        if out.is_error_since(start) {
            counts.failed.add(1);
            stats.count_error(out.since(start));
        }
        self.answers.then_some(out)
    }

    /// Takes it off the lists of its keys.
    fn leave(&self, keyspace: &Keyspace) {
        let args = Args::new(&self.waiter.buf, &self.waiter.spans);
        let Some(command) = commands::find(&args) else { return };
        let mut left = self.keys;
        command.spec.keys.each(&args, |index| {
            if left > 0 {
                let (key, hash) = (args.at(index), keyspace.hash(args.at(index)));
                keyspace.lock(keyspace.shard_of(hash)).leave(self.waiter.db, hash, key, &self.waiter);
                left -= 1;
            }
        });
    }
}

/// What is needed around a command that changed keys.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) state: &'a State,
    pub(super) config: &'a Config,
    /// In ms since the epoch.
    pub(super) now: i64,
    /// The connection that it came from.
    pub(super) by: Option<u64>,
}

/// What a command answers that would wait, where nothing can: in `within`.
pub(super) fn answer_at_once(outcome: &Outcome, within: &str, reply: &mut Reply<'_>) {
    match outcome {
        Outcome::Block(block) => block.nil.write(reply),
        Outcome::Sleep(_) => reply.ok(),
        Outcome::Later(_) | Outcome::Turns(_) => {
            reply.error(&format!("ERR this command takes its time and cannot run in {within}"));
        }
        Outcome::Done | Outcome::Close | Outcome::Shutdown => {}
    }
}

/// Tells what happened in these locked shards, and returns the keys that are ready, in the order in which they changed.
pub(super) fn tell(around: Around<'_>, shards: &mut [&mut Shard]) -> Vec<Ready> {
    let (mut news, mut ready): (News, Vec<Ready>) = (News::default(), Vec::new());
    for shard in shards {
        news.append(&mut shard.news);
        if shard.has_ready() {
            ready.append(&mut shard.take_ready());
        }
    }
    news.sort();
    ready.sort_by_key(|ready| ready.order);
    around.state.tell(around.config, around.by, &news);
    ready
}

/// Does what is due after a command, with its shards still locked: tells of its changes, and serves who waited for
/// them. Returns keys that could not be served now, because somebody else had a shard: they are for [`settle_rest`].
#[cold]
pub(super) fn settle(
    around: Around<'_>,
    shards: &mut [&mut Shard],
    numbers: &[u16],
    garbage: &mut Garbage,
) -> Vec<Ready> {
    let ready = tell(around, shards);
    serve(around, shards, numbers, ready, garbage)
}

/// Serves who waits for these keys; see [`settle`].
pub(super) fn serve(
    around: Around<'_>,
    shards: &mut [&mut Shard],
    numbers: &[u16],
    ready: Vec<Ready>,
    garbage: &mut Garbage,
) -> Vec<Ready> {
    if ready.is_empty() {
        return ready;
    }
    let held = Held { keyspace: &around.state.keyspace, shards, numbers, extra: Vec::new() };
    Service { around, held, queue: ready.into(), left: Vec::new() }.run(garbage)
}

/// The same with no shard locked, for changes that nobody attended to and for keys that could not be served before.
#[cold]
pub(super) fn settle_rest(around: Around<'_>, rest: Vec<Ready>, garbage: &mut Garbage) {
    let mut locks = Locks::all(&around.state.keyspace);
    let numbers = std::mem::take(&mut locks.numbers);
    let mut shards = locks.shards();
    let mut queue = VecDeque::from(rest);
    queue.extend(tell(around, &mut shards));
    let held = Held { keyspace: &around.state.keyspace, shards: &mut shards, numbers: &numbers, extra: Vec::new() };
    Service { around, held, queue, left: Vec::new() }.run(garbage);
    shards.iter_mut().for_each(|shard| garbage.append(&mut shard.garbage));
}

/// Does what is due after a shard was changed by no command: an expiry, a load that ended.
pub fn settle_shard(state: &State, shard: usize, now: i64) {
    if shard >= state.keyspace.shards() {
        return;
    }
    // While a script runs, it is left to the end of that.
    let Some(_visit) = state.gate.visit() else { return };
    let config = state.config.load();
    let around = Around { state, config: &config, now, by: None };
    let mut garbage = Garbage::new();
    let mut locks = Locks::of(&state.keyspace, vec![shard as u16]);
    let numbers = locks.numbers.clone();
    let mut shards = locks.shards();
    let rest = settle(around, &mut shards, &numbers, &mut garbage);
    shards.iter_mut().for_each(|shard| garbage.append(&mut shard.garbage));
    drop(shards);
    drop(locks);
    if !rest.is_empty() {
        settle_rest(around, rest, &mut garbage);
    }
    garbage.free();
}

/// The shards that are locked while waiters are served: those of the command, and those that waiters needed.
struct Held<'h, 's, 'k> {
    keyspace: &'k Keyspace,
    shards: &'h mut [&'s mut Shard],
    /// Their numbers.
    numbers: &'h [u16],
    extra: Vec<(u16, ShardGuard<'k>)>,
}

impl Held<'_, '_, '_> {
    /// The place of a shard among all that are held; None if somebody else holds it.
    fn hold(&mut self, shard: usize) -> Option<usize> {
        let number = shard as u16;
        if let Ok(at) = self.numbers.binary_search(&number) {
            return Some(at);
        }
        if let Some(at) = self.extra.iter().position(|(other, _)| *other == number) {
            return Some(self.numbers.len() + at);
        }
        self.extra.push((number, self.keyspace.try_lock(shard)?));
        Some(self.numbers.len() + self.extra.len() - 1)
    }

    fn all(&mut self) -> Vec<&mut Shard> {
        let extra = self.extra.iter_mut().map(|(_, guard)| &mut **guard);
        self.shards.iter_mut().map(|shard| &mut **shard).chain(extra).collect()
    }
}

/// The service of the keys that are ready.
struct Service<'a, 'h, 's, 'k> {
    around: Around<'a>,
    held: Held<'h, 's, 'k>,
    queue: VecDeque<Ready>,
    left: Vec<Ready>,
}

impl Service<'_, '_, '_, '_> {
    fn run(mut self, garbage: &mut Garbage) -> Vec<Ready> {
        while let Some(ready) = self.queue.pop_front() {
            if self.serve_key(&ready).is_none() {
                self.left.push(ready);
            }
        }
        self.held.extra.iter_mut().for_each(|(_, shard)| garbage.append(&mut shard.garbage));
        self.left
    }

    /// Serves those who wait for a key; None if a shard cannot be had.
    fn serve_key(&mut self, ready: &Ready) -> Option<()> {
        let Ready { db, hash, key, .. } = ready;
        let at = self.held.hold(self.held.keyspace.shard_of(*hash))?;
        let waiters = self.held.all()[at].waiters(*db, *hash, key);
        for waiter in waiters {
            let mut shards = self.held.all();
            let found = shards[at].find(*db, *hash, key, self.around.now);
            let is_of_type =
                found.is_some_and(|at_place| shards[at].entry(*db, at_place).value().type_name() == waiter.of_type);
            if is_of_type || waiter.or_gone {
                self.attempt(&waiter)?;
                let mut shards = self.held.all();
                let around = Around { by: Some(waiter.client), ..self.around };
                self.queue.extend(tell(around, &mut shards));
            }
        }
        Some(())
    }

    /// What a waiter is told whose user has lost the right to its command meanwhile.
    fn refusal(&self, waiter: &Waiter, command: &Command, args: &Args<'_>) -> Option<Output> {
        let Around { state, now, .. } = self.around;
        if waiter.users == state.acl.epoch() || !waiter.waits() {
            return None;
        }
        let client = state.clients.get(waiter.client)?;
        let before = Arc::clone(&client.user.lock());
        // Who is gone is being closed.
        let user = state.acl.current(&before)?;
        let who = (&*user, &*client, waiter.db);
        let denied = commands::permit_as(state, who, Context::TopLevel, command, args, now).err()?;
        let mut out = Output::new();
        Reply::new(&mut out, waiter.version).error_bytes(&[b"NOPERM ", denied.text(&user).as_slice()].concat());
        Some(out)
    }

    /// Runs a waiter's command again; None if a shard cannot be had.
    fn attempt(&mut self, waiter: &Arc<Waiter>) -> Option<()> {
        let args = Args::new(&waiter.buf, &waiter.spans);
        let command = commands::find(&args)?;
        let Run::Data(run) = command.spec.run else { return Some(()) };
        let keyspace = self.held.keyspace;
        let mut keys = Vec::new();
        command.spec.keys.each(&args, |index| {
            let (bytes, hash) = (args.at(index), keyspace.hash(args.at(index)));
            keys.push(Key { bytes, hash, shard: keyspace.shard_of(hash) });
        });
        for key in &mut keys {
            key.shard = self.held.hold(key.shard)?;
        }
        let Around { config, now, .. } = self.around;
        let access = super::dispatch::access(config, waiter.no_touch, now, crate::random::next() as u32);
        let mut refusal = self.refusal(waiter, command, &args);
        let mut shards = self.held.all();
        let served = waiter.serve(|| {
            if refusal.is_some() {
                return refusal.take();
            }
            let mut out = Output::new();
            let mut view = View::new(&mut shards, &keys, waiter.db, now, access).with_limits(&config.limits);
            match run(&mut view, &args, &mut Reply::new(&mut out, waiter.version)) {
                Outcome::Block(_) => None,
                _ => Some(out),
            }
        });
        if served == Served::Now {
            keys.iter().for_each(|key| shards[key.shard].leave(waiter.db, key.hash, key.bytes, waiter));
        }
        Some(())
    }
}
