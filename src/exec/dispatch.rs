//! From parsed requests to replies. A batch of requests is cut into groups: the shards of all keys of a group are
//! locked once, in ascending order, its keys are fetched into the cache together, and its commands run one after
//! the other. So a pipeline waits for memory once, not once per command. It must not know sockets.

use super::admit::Refusal;
use super::block::{self, Around, Blocked};
use super::fill::{self, Fill, Filled, Interest};
use super::locks::{Locks, ShardSet, place_of};
use super::multi;
use super::script::{Running, Scripted};
use super::walking::Walking;
use super::write::{self, Dependent, Judgement, Within};
use crate::clock;
use crate::commands::{self, Args, Command, Ctx, DataFn, Flags, Later, Outcome, Run, Spec};
use crate::config::Config;
use crate::keyspace::{self, Access, Garbage, Hash, Key, Ready, Shard, View, Walk};
use crate::protocol::{Mark, Output, Reply, Span};
use crate::random;
use crate::state::{self, Client, Inside, ReplyMode, State, WorkerStats};
use arrayvec::ArrayVec;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A parsed request: its arguments among the batch's spans.
pub type Request = Range<usize>;

/// Why dispatch stopped.
#[derive(Debug)]
pub enum After {
    /// Everything was run.
    Done,
    /// The request at this index closes the connection once its reply is sent.
    Close,
    /// The request at this index wants its connection suspended, and then `+OK`, unless the last is false (CLIENT
    /// REPLY).
    Sleep(usize, Duration, bool),
    /// The request at this index is answered once this is done, unless the last is false (CLIENT REPLY).
    Later(usize, Later, bool),
    /// CLIENT PAUSE: the request at this index has not run; try again then (ms since the epoch).
    Paused(usize, i64),
    /// The request at this index waits for one of its keys to change.
    Block(usize, Blocked),
    /// The request at this index has not run: it waits for keys to be loaded, and then runs again.
    Fill(usize, Fill),
    /// The request at this index runs a script, which goes on when others have had their turn.
    Script(usize, Box<Running>),
    /// The request at this index has begun to walk over the keyspace, and goes on when others have had their turn.
    Walk(usize, Box<Walking>),
    /// The server is to stop.
    Shutdown,
}

/// Commands of a group, at most.
const GROUP: usize = 16;
/// Of so many commands one is looked at, on average, to know what the routes' hits are.
const SAMPLED: u64 = 64;
/// Keys of such a command that are looked at, at most.
const SAMPLED_KEYS: usize = 256;
/// What a new key takes besides its bytes, about.
const ENTRY_BYTES: usize = 64;
/// Keys of a group, at most.
const GROUP_KEYS: usize = 32;

/// A connection's way to run commands: everything dispatch needs besides the bytes.
pub struct Dispatch<'a> {
    /// The server.
    pub state: &'a Arc<State>,
    /// The directives in force for this batch.
    pub config: &'a Config,
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// The connection.
    pub client: &'a mut Client,
    /// The worker's list of removed entries; empty between batches.
    pub garbage: &'a mut Garbage,
    /// What was loaded for the first request, which waited for it.
    pub filled: Option<Filled>,
    /// Loads that were begun for later requests of the connection.
    pub ahead: &'a mut Vec<Interest>,
}

/// What a request waits for.
pub(super) enum Wait {
    /// Keys that are being loaded: it has not run.
    Fill(Fill),
    /// A change of one of its keys.
    Block(Blocked),
    /// The script of another one: it has not run.
    Gate,
    /// Its own script, which is put aside.
    Script(Box<Running>),
}

/// A command of a group: its request, its row and which of the group's keys are its own.
struct Planned {
    command: &'static Command,
    run: DataFn,
    keys: Range<usize>,
}

/// The batch being run.
pub(super) struct Batch<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
    requests: &'a [Request],
    /// Clock reading at the end of the last command, in ns.
    pub(super) clock: u64,
    /// The time of the running command, in ms since the epoch.
    pub(super) now: i64,
    /// Commands that take so long or longer, in ns, are looked at by the slow log and the latency monitor.
    slow_ns: u64,
}

impl<'a> Batch<'a> {
    /// One request, which began at `clock`.
    pub(super) fn of_one(buf: &'a [u8], spans: &'a [Span], clock: u64, now: i64, slow_ns: u64) -> Self {
        Self { buf, spans, requests: &[], clock, now, slow_ns }
    }

    #[inline]
    fn args(&self, index: usize) -> Args<'a> {
        Args::new(self.buf, &self.spans[self.requests[index].clone()])
    }

    /// Bytes that the group which begins with request `from` may take, about.
    fn room(&self, from: usize) -> u64 {
        let group = &self.requests[from..self.requests.len().min(from + GROUP)];
        let arguments = group.iter().flat_map(|request| &self.spans[request.clone()]);
        arguments.map(|span| span.of(self.buf).len() as u64).sum::<u64>() + (group.len() * ENTRY_BYTES) as u64
    }
}

impl<'a> Dispatch<'a> {
    /// What is needed around a command of this connection.
    pub(super) fn around(&self, batch: &Batch<'_>) -> Around<'a> {
        Around { state: self.state, config: self.config, now: batch.now, by: Some(self.client.info.id) }
    }
}

impl<'d> Dispatch<'d> {
    /// Runs `requests` in order, writing the replies to `out`.
    pub fn run(&mut self, buf: &[u8], spans: &[Span], requests: &[Request], out: &mut Output) -> After {
        let clock = clock::monotonic_ns();
        let mut batch = Batch { buf, spans, requests, clock, now: 0, slow_ns: self.slow_ns() };
        let mut at = 0;
        while at < requests.len() {
            batch.now = clock::wall_ms(batch.clock);
            self.know_user();
            let inside = self.enter();
            let is_plain = inside.is_some() && self.is_plain(&batch, at);
            let (ran, after) = if is_plain { self.group(&mut batch, at, out) } else { (0, None) };
            at += ran;
            let after = if ran > 0 || after.is_some() {
                drop(inside);
                after
            } else {
                at += 1;
                let after = self.single(&mut batch, at - 1, inside, out);
                self.settle_tracking(&batch.args(at - 1), after.as_ref());
                after
            };
            if let Some(after) = after {
                if let After::Fill(index, _) = &after {
                    self.look_ahead(&batch, index + 1);
                }
                return after;
            }
        }
        self.ahead.clear();
        After::Done
    }

    /// Enters the keyspace, unless a script has it for itself and goes on for more than a moment.
    #[inline]
    fn enter(&self) -> Option<Inside<'d>> {
        let state = self.state;
        let worker = self.client.info.origin.worker;
        state.gate.enter(worker).or_else(|| if state.gate.wait() { state.gate.enter(worker) } else { None })
    }

    /// A request waits for loads: begins those that the requests behind it will want, so that they go in one query.
    /// They run in their order all the same, and find what is there by then.
    fn look_ahead(&mut self, batch: &Batch<'_>, from: usize) {
        self.ahead.retain(|interest| !interest.is_over());
        let (keyspace, db) = (&self.state.keyspace, self.client.db());
        let mut changed: ArrayVec<Hash, GROUP_KEYS> = ArrayVec::new();
        for index in from..batch.requests.len() {
            let args = batch.args(index);
            let Some(command) = commands::find(&args) else { continue };
            let spec = command.spec;
            // Behind any other command things may be different altogether: another database, a transaction.
            if !matches!(spec.run, Run::Data(_)) || spec.keys.reach_all(&args) || changed.is_full() {
                return;
            }
            if !spec.fits(args.len()) {
                continue;
            }
            let fills = spec.fill.with(&args) != commands::Fill::No
                && commands::check_acl(&self.client.user, command, &args, db).is_ok();
            spec.keys.each(&args, |at| {
                let key = args.at(at);
                let hash = keyspace.hash(key);
                if changed.contains(&hash) {
                    return;
                }
                if fills {
                    fill::look_ahead(self.state, db, key, hash, batch.now, self.ahead);
                } else if spec.flags.has(Flags::WRITE) {
                    // What is loaded now would be void by then.
                    let _ = changed.try_push(hash);
                }
            });
        }
    }

    /// Sees that the user is known as it is now.
    #[inline]
    pub(super) fn know_user(&mut self) {
        if !self.client.knows_user(&self.state.acl) {
            self.state.look_up_user(self.client);
        }
    }

    /// True if no guard but those of the rows can stand in the way of the group that begins with request `from`.
    #[inline]
    fn is_plain(&self, batch: &Batch<'_>, from: usize) -> bool {
        self.client.authenticated
            && self.filled.is_none()
            && self.client.reply_mode == ReplyMode::On
            && self.client.multi.is_none()
            && !self.client.is_subscriber()
            && !self.client.tracking.as_ref().is_some_and(|tracking| tracking.caching)
            && self.state.monitors.is_empty()
            && self.state.pause.is_off()
            && (self.config.maxmemory == 0 || self.state.make_room(self.config, batch.room(from), batch.now))
    }

    pub(super) fn access(&self, batch: &Batch<'_>) -> Access {
        // The low bits of a nanosecond clock, spread, are random enough for a counter that is one in many.
        let random = (batch.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        access(self.config, self.client.info.no_touch.load(Ordering::Relaxed), batch.now, random)
    }

    /// Runs as many of the requests from `from` on as are data commands whose keys are found without trouble, up
    /// to the size of a group. Returns how many, and what the next one waits for.
    fn group(&mut self, batch: &mut Batch<'_>, from: usize, out: &mut Output) -> (usize, Option<After>) {
        let state = self.state;
        let keyspace = &state.keyspace;
        let (sources, db) = (&state.sources, self.client.db());
        let (has_routes, watches_writes) = (sources.has_routes(), sources.watches_writes());
        let mut planned: ArrayVec<Planned, GROUP> = ArrayVec::new();
        let mut keys: ArrayVec<Key<'_>, GROUP_KEYS> = ArrayVec::new();
        let mut set = ShardSet::new(keyspace.shards());
        let mut collections = false;
        for index in from..batch.requests.len().min(from + GROUP) {
            let args = batch.args(index);
            let user = &self.client.user;
            let is_watched = |command: &Command| watches_writes && command.spec.flags.has(Flags::WRITE);
            let may = |one: &Command| !is_watched(one) && commands::check_acl(user, one, &args, db).is_ok();
            let Some(plan) = plan(&args, &mut keys, has_routes, may, |key| keyspace.hash(key)) else { break };
            for key in &mut keys[plan.keys.clone()] {
                key.shard = keyspace.shard_of(key.hash);
                set.add(key.shard);
            }
            collections |= plan.command.spec.is_of_collections();
            planned.push(plan);
        }
        if planned.is_empty() {
            return (0, None);
        }
        let (order, mut guards) = set.lock::<GROUP_KEYS>(keyspace);
        let mut shards: ArrayVec<&mut Shard, GROUP_KEYS> = guards.iter_mut().map(|guard| &mut **guard).collect();
        for key in &mut keys {
            key.shard = set.place(key.shard);
        }
        if fetch_ahead(&shards, &keys, db, collections) {
            fetch_elements(&shards, &keys, db, &planned, |index| batch.args(from + index));
        }
        let (access, seen_at) = (self.access(batch), self.client.seen_at(self.config, batch.now));
        let version = self.client.version;
        let (mut ran, mut after, mut rest) = (planned.len(), None, Vec::new());
        for (index, plan) in planned.iter().enumerate() {
            let args = batch.args(from + index);
            let mark = out.mark();
            let mut view = View::new(&mut shards, &keys[plan.keys.clone()], db, batch.now, access)
                .with_limits(&self.config.limits)
                .with_seen_at(seen_at);
            (plan.run)(&mut view, &args, &mut Reply::new(out, version));
            if has_routes
                && view.wants()
                && plan.command.spec.fill == commands::Fill::Read
                && let Some(fill) = Fill::begin(state, &mut view, 0, true, &(0..0))
            {
                out.truncate(mark);
                (ran, after) = (index, Some(After::Fill(from + index, fill)));
                break;
            }
            track(self.client, plan.command.spec, &mut view);
            self.record(batch, plan.command, &args, out, mark);
            if keyspace::take_stirred() {
                rest = block::settle(self.around(batch), &mut shards, &order, self.garbage);
                self.take_pushes(out);
                if !rest.is_empty() {
                    ran = index + 1;
                    break;
                }
            }
        }
        for shard in &mut shards {
            shard.give_garbage(self.garbage);
        }
        drop(shards);
        drop(guards);
        self.end_group(batch, rest);
        (ran, after)
    }

    /// What is due behind a group, with no shard locked.
    #[inline]
    fn end_group(&mut self, batch: &Batch<'_>, rest: Vec<Ready>) {
        if !rest.is_empty() {
            block::settle_rest(self.around(batch), rest, self.garbage);
        }
        self.garbage.free();
        if self.client.tracking.is_some() {
            self.state.trim_tracking(self.config);
        }
    }

    /// What a command sends to its own connection comes behind its reply, and before the next one's.
    fn take_pushes(&self, out: &mut Output) {
        if self.client.is_subscriber() || self.client.tracking.is_some() {
            self.client.info.take_outbox().iter().for_each(|message| out.raw(message));
        }
    }

    /// What is due for a connection that tracks keys, behind a command that ran by itself.
    pub(super) fn settle_tracking(&mut self, args: &Args<'_>, after: Option<&After>) {
        let Some(tracking) = &mut self.client.tracking else { return };
        let is_client = |command: &Command| command.spec.name.starts_with("client");
        // CLIENT CACHING is for the next command, which is not over if it waits; a transaction is one command.
        if tracking.caching
            && !matches!(after, Some(After::Fill(..) | After::Paused(..) | After::Script(..)))
            && self.client.multi.is_none()
            && !commands::find(args).is_some_and(is_client)
        {
            tracking.caching = false;
        }
        self.state.settle_tracking(self.client);
        self.state.trim_tracking(self.config);
    }

    /// Runs one request with all guards in Redis's order.
    fn single(
        &mut self,
        batch: &mut Batch<'_>,
        index: usize,
        inside: Option<Inside<'_>>,
        out: &mut Output,
    ) -> Option<After> {
        // What was loaded is this request's, even if it is refused now: the next must not see it.
        let filled = self.filled.take();
        let args = batch.args(index);
        if args.is_empty() {
            return None;
        }
        let mark = out.mark();
        let command = match self.admit(&args, batch.now, inside.is_some()) {
            Ok(command) => command,
            Err(refusal) => return self.refuse(refusal, index, out),
        };
        self.client.info.last_command.store(command.id as u32 + 1, Ordering::Relaxed);
        if self.client.multi.is_some() && !multi::runs_at_once(command.spec) {
            if let Judgement::Refused(line) =
                write::judge(self.state, self.client.db(), command, &args, Within::Transaction)
            {
                return self.refuse(Refusal::error(line, command), index, out);
            }
            let fits = self.queue(command, &args, out);
            self.mute(out, mark);
            return if fits { None } else { Some(After::Close) };
        }
        let outcome = self.run_one(batch, (command, inside), &args, filled, out);
        let answers = self.client.reply_mode == ReplyMode::On;
        match outcome {
            Err(Wait::Fill(fill)) => {
                out.truncate(mark);
                return Some(After::Fill(index, fill));
            }
            Err(Wait::Gate) => return Some(After::Paused(index, 0)),
            _ => {}
        }
        if outcome.as_ref().is_ok_and(|outcome| !matches!(outcome, Outcome::Turns(_))) {
            self.record(batch, command, &args, out, mark);
        }
        if let Ok(Outcome::Sleep(duration)) = outcome {
            // It will have taken so long by the time the client can look.
            let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            if ns >= batch.slow_ns {
                self.slow(command, &args, ns, batch.now);
            }
        }
        self.mute(out, mark);
        if !self.state.monitors.is_empty() {
            commands::feed_monitors(self.state, self.client, command.spec, &args);
        }
        self.take_pushes(out);
        match outcome {
            Ok(Outcome::Done | Outcome::Block(_)) | Err(Wait::Fill(_) | Wait::Gate) => None,
            Ok(Outcome::Close) => Some(After::Close),
            // EXEC has answered for it.
            Ok(Outcome::Sleep(duration)) => {
                Some(After::Sleep(index, duration, answers && !matches!(command.spec.run, Run::Exec)))
            }
            Ok(Outcome::Later(later)) => Some(After::Later(index, later, answers)),
            Ok(Outcome::Turns(turns)) => {
                let spent = clock::monotonic_ns() - batch.clock;
                Some(After::Walk(index, Box::new(Walking::new(turns, spent, &args, answers))))
            }
            Ok(Outcome::Shutdown) => Some(After::Shutdown),
            Err(Wait::Block(mut blocked)) => {
                blocked.answers = answers;
                Some(After::Block(index, blocked))
            }
            Err(Wait::Script(mut running)) => {
                running.answers = answers;
                Some(After::Script(index, running))
            }
        }
    }

    /// Tells why a request does not run.
    fn refuse(&mut self, refusal: Refusal, index: usize, out: &mut Output) -> Option<After> {
        let (text, command) = match refusal {
            Refusal::Error(text, command) => (text, command),
            Refusal::Http => {
                out.clear(usize::MAX);
                return Some(After::Close);
            }
            Refusal::Paused(until) => return Some(After::Paused(index, until)),
        };
        let mark = out.mark();
        if command.is_some_and(|command| matches!(command.spec.run, Run::Exec)) {
            self.abort(&text, out);
        } else {
            self.client.multi.iter_mut().for_each(|multi| multi.failed = true);
            Reply::new(out, self.client.version).error_bytes(&text);
        }
        self.stats.count_error(out.since(mark));
        if let Some(command) = command {
            self.stats.commands[command.id].rejected.add(1);
        }
        self.mute(out, mark);
        None
    }

    /// Runs a request that may run.
    fn run_one(
        &mut self,
        batch: &mut Batch<'_>,
        (command, inside): (&'static Command, Option<Inside<'_>>),
        args: &Args<'_>,
        filled: Option<Filled>,
        out: &mut Output,
    ) -> Result<Outcome, Wait> {
        let outcome = match command.spec.run {
            Run::Data(run) => return self.run_data(batch, (command, run), args, filled, out),
            Run::Script(call) => {
                drop(inside);
                return match self.script(batch, call, args, filled, out).map_err(Wait::Fill)? {
                    Scripted::Done => Ok(Outcome::Done),
                    Scripted::Barred => Err(Wait::Gate),
                    Scripted::Running(running) => Err(Wait::Script(running)),
                };
            }
            Run::Load(load) => self.load(batch, load, args, out),
            Run::Exec => return self.exec(batch, inside, filled, out),
            Run::Server(run) => {
                let mark = out.mark();
                if self.state.sources.has_routes() && fills_before(command, args) {
                    self.run_locked(batch, (command, |_, _, _| Outcome::Done), args, filled, &[], out)?;
                    if out.is_error_since(mark) {
                        return Ok(Outcome::Done);
                    }
                }
                let version = self.client.version;
                let mut ctx = Ctx { state: self.state, client: self.client, now: batch.now };
                run(&mut ctx, args, &mut Reply::new(out, version))
            }
            Run::Walk(run) => {
                let seen_at = self.client.seen_at(self.config, batch.now);
                let mut walk = Walk::new(&self.state.keyspace, self.client.db(), seen_at).in_turns();
                run(&mut walk, args, &mut Reply::new(out, self.client.version))
            }
            Run::Container => Outcome::Done,
        };
        if keyspace::take_stirred() {
            let around = self.around(batch);
            block::settle_rest(around, Vec::new(), self.garbage);
            self.garbage.free();
        }
        Ok(outcome)
    }

    /// Runs a data command by itself: any number of keys, or all shards. If it does, `dependents` are void.
    pub(super) fn run_locked(
        &mut self,
        batch: &Batch<'_>,
        (command, run): (&Command, DataFn),
        args: &Args<'_>,
        filled: Option<Filled>,
        dependents: &[Dependent],
        out: &mut Output,
    ) -> Result<Outcome, Wait> {
        let mark = out.mark();
        let Filled { loaded, stale, round } = filled.unwrap_or_default();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(line) => {
                Reply::new(out, self.client.version).error(&line);
                return Ok(Outcome::Done);
            }
        };
        let keyspace = &self.state.keyspace;
        let mut keys = Vec::new();
        let found = command.spec.keys.each(args, |index| {
            let bytes = args.at(index);
            let hash = keyspace.hash(bytes);
            keys.push(Key { bytes, hash, shard: keyspace.shard_of(hash) });
        });
        if !found {
            // The handler sees no keys and says what is wrong with its arguments.
            keys.clear();
        }
        let mut locks = match command.spec.keys.reach_all(args) {
            true => Locks::all(keyspace),
            false => {
                let also = dependents.iter().map(|dependent| keyspace.shard_of(dependent.hash));
                Locks::of(keyspace, keys.iter().map(|key| key.shard).chain(also).map(|shard| shard as u16).collect())
            }
        };
        locks.place(&mut keys);
        let numbers = std::mem::take(&mut locks.numbers);
        let mut shards = locks.shards();
        let access = self.access(batch);
        let may_reach = commands::may_reach(&self.client.user, command, args, self.client.db());
        let view = View::new(&mut shards, &keys, self.client.db(), batch.now, access).with_limits(&self.config.limits);
        let view = view.with_reach(may_reach).with_seen_at(self.client.seen_at(self.config, batch.now));
        let mut view = view.with_loaded(&loaded);
        // What could not be loaded anew is served as it is; a nil would claim that the row does not exist.
        let gone = stale.iter().find(|(key, _)| view.find(*key).is_none());
        let outcome = match gone {
            Some((_, line)) => {
                Reply::new(out, self.client.version).error(line);
                Ok(Outcome::Done)
            }
            None => self.run_filled((command, run), view, round, args, out),
        };
        let ran = match outcome {
            Ok(Outcome::Block(block)) => {
                let ns = clock::monotonic_ns() - batch.clock;
                Err(Wait::Block(Blocked::begin((self.client, ns), command, args, *block, &keys, &mut shards)))
            }
            ran => ran.map_err(Wait::Fill),
        };
        if !dependents.is_empty() && ran.is_ok() && !out.is_error_since(mark) {
            let place = |hash| place_of(&numbers, keyspace.shard_of(hash));
            write::drop_dependents(dependents, &mut shards, self.client.db(), batch.now, place);
        }
        let around = self.around(batch);
        let rest = match keyspace::take_stirred() {
            true => block::settle(around, &mut shards, &numbers, self.garbage),
            false => Vec::new(),
        };
        for shard in &mut shards {
            self.garbage.append(&mut shard.garbage);
        }
        drop(shards);
        drop(locks);
        if !rest.is_empty() {
            block::settle_rest(around, rest, self.garbage);
        }
        self.garbage.free();
        ran
    }

    /// Runs a data command, unless a key must be loaded first; it has waited for loads `round` times.
    fn run_filled(
        &self,
        (command, run): (&Command, DataFn),
        mut view: View<'_, '_>,
        round: u32,
        args: &Args<'_>,
        out: &mut Output,
    ) -> Result<Outcome, Fill> {
        let has_routes = self.state.sources.has_routes();
        let before = has_routes && fills_before(command, args);
        // A key that was loaded and is not there any more has changed since: it is loaded again.
        if before
            && let overwritten = command.spec.keys.overwritten(args)
            && let Some(fill) = Fill::begin(self.state, &mut view, round, false, &overwritten)
        {
            return Err(fill);
        }
        let outcome = run(&mut view, args, &mut Reply::new(out, self.client.version));
        // Also after a wait: a key that was there when it began may be gone.
        if has_routes
            && view.wants()
            && command.spec.fill == commands::Fill::Read
            && let Some(fill) = Fill::begin(self.state, &mut view, round, true, &(0..0))
        {
            return Err(fill);
        }
        // One that waits now returns something later that nobody keeps: it is not tracked.
        if !matches!(outcome, Outcome::Block(_)) {
            track(self.client, command.spec, &mut view);
        }
        Ok(outcome)
    }

    /// Finds the routes of a reading command's keys, and counts them for [`SAMPLED`] such commands: a hit asks for no
    /// route, and is to cost no more for the figures.
    #[cold]
    fn sample(&self, command: &Command, args: &Args<'_>) {
        let next = self.stats.processed.get() + 1 + random::next() % (2 * SAMPLED - 1);
        self.stats.sample_at.set(next);
        if !self.state.sources.has_routes() || command.spec.fill != commands::Fill::Read {
            return;
        }
        let (sources, db) = (self.state.sources.load(), self.client.db() as u32);
        let mut left = SAMPLED_KEYS;
        command.spec.keys.each(args, |index| {
            left = left.saturating_sub(1);
            if left > 0
                && let Some((route, _)) = sources.find(db, args.at(index))
            {
                route.stats.read(SAMPLED);
            }
        });
    }

    /// Counts a command that ran.
    #[inline]
    pub(super) fn record(
        &mut self,
        batch: &mut Batch<'_>,
        command: &Command,
        args: &Args<'_>,
        out: &Output,
        mark: Mark,
    ) {
        let end = clock::monotonic_ns();
        let ns = end - batch.clock;
        batch.clock = end;
        let stats = &self.stats.commands[command.id];
        stats.record(ns, self.config.latency_tracking);
        self.stats.processed.add(1);
        if self.stats.processed.get() >= self.stats.sample_at.get() {
            self.sample(command, args);
        }
        self.client.info.commands.add(1);
        self.client.info.last_command.store(command.id as u32 + 1, Ordering::Relaxed);
        if out.is_error_since(mark) {
            stats.failed.add(1);
            self.stats.count_error(out.since(mark));
        }
        if ns >= batch.slow_ns {
            self.slow(command, args, ns, batch.now);
        }
        self.note_size(command, args, out.len_since(mark), batch.now);
    }

    /// CLIENT REPLY: takes back the reply of a connection that wants none.
    fn mute(&mut self, out: &mut Output, mark: Mark) {
        match self.client.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => out.truncate(mark),
            ReplyMode::SkipNext => {
                self.client.reply_mode = ReplyMode::Skip;
                out.truncate(mark);
            }
            ReplyMode::Skip => {
                self.client.reply_mode = ReplyMode::On;
                out.truncate(mark);
            }
        }
    }
}

/// Notes what a command read for a connection that keeps copies.
#[inline]
pub(super) fn track(client: &Client, spec: &Spec, view: &mut View<'_, '_>) {
    if client.tracking.is_some()
        && spec.flags.has(Flags::READONLY)
        && let Some((tracker, is_listed)) = client.tracker()
    {
        view.track(tracker, is_listed);
    }
}

/// How a command notes its accesses.
#[inline]
pub(super) fn access(config: &Config, no_touch: bool, now: i64, random: u32) -> Access {
    let access = state::access(config, now, random);
    if no_touch { access.untouched() } else { access }
}

/// Plans a request for a group: None if it is no data command, or something about it needs [`Dispatch::single`].
#[inline]
fn plan<'a>(
    args: &Args<'a>,
    keys: &mut ArrayVec<Key<'a>, GROUP_KEYS>,
    has_routes: bool,
    may: impl Fn(&Command) -> bool,
    hash: impl Fn(&[u8]) -> Hash,
) -> Option<Planned> {
    let command = commands::find(args)?;
    let Run::Data(run) = command.spec.run else { return None };
    let is_special = command.spec.flags.has(Flags::BLOCKING) || command.spec.keys.reach_all(args);
    if is_special || !command.spec.fits(args.len()) || !may(command) {
        return None;
    }
    if has_routes && fills_before(command, args) {
        return None;
    }
    let first = keys.len();
    let mut fits = true;
    let mut add = |index: usize| {
        let bytes = args.at(index);
        fits &= keys.try_push(Key { bytes, hash: hash(bytes), shard: 0 }).is_ok();
    };
    let found = command.spec.keys.each(args, &mut add);
    if !fits || !found {
        keys.truncate(first);
        return None;
    }
    Some(Planned { command, run, keys: first..keys.len() })
}

/// Asks the processor to fetch what the commands of a group will look at; true if there are large collections.
#[inline]
fn fetch_ahead(shards: &[&mut Shard], keys: &[Key<'_>], db: usize, collections: bool) -> bool {
    if keys.len() < 2 {
        return false;
    }
    keys.iter().for_each(|key| shards[key.shard].table(db).prefetch_bucket(key.hash));
    keys.iter().for_each(|key| shards[key.shard].table(db).prefetch_entry(key.hash));
    let fetch = |are_large, key: &Key<'_>| shards[key.shard].table(db).prefetch_value(key.hash) | are_large;
    collections && keys.iter().fold(false, fetch)
}

/// The same for the elements that they look up in large collections: two further cache misses each.
#[inline(never)]
fn fetch_elements<'a>(
    shards: &[&mut Shard],
    keys: &[Key<'_>],
    db: usize,
    planned: &[Planned],
    args: impl Fn(usize) -> Args<'a>,
) {
    let mut sought: ArrayVec<(usize, Hash), GROUP> = ArrayVec::new();
    for (index, plan) in planned.iter().enumerate() {
        if plan.command.spec.element > 0
            && let Some(key) = keys.get(plan.keys.start)
            && let Some(element) = args(index).get(plan.command.spec.element)
            && let Some(hash) = shards[key.shard].table(db).prefetch_place(key.hash, element)
        {
            sought.push((plan.keys.start, hash));
        }
    }
    for (key, hash) in sought {
        let key = &keys[key];
        shards[key.shard].table(db).prefetch_element(key.hash, hash);
    }
}

/// True if a missing routed key is loaded before the command runs.
fn fills_before(command: &Command, args: &Args<'_>) -> bool {
    command.spec.fill.with(args) == commands::Fill::Before
}
