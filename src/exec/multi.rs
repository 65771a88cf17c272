//! Transactions: keeping the commands between MULTI and EXEC, and running them as one. Knows locks and the command
//! table; no sockets.
//!
//! EXEC locks the shards of all its commands' keys and of the watched keys (all shards, if a command is about the whole
//! keyspace), looks whether a watched key has changed, and runs the commands under these locks: so nobody sees a part
//! of it. A command that looks at shards by itself ([`Spec::locks`]) cannot run among them. Such commands tell about the
//! server (INFO, DEBUG …); they run when the locks are given back, and their replies are put where they belong.

use super::block;
use super::dispatch::{Batch, Dispatch, Wait, track};
use super::fill::{Fill, Filled};
use super::locks::{Locks, place_of};
use super::script::Alone;
use super::write::{self, Judgement, Within};
use crate::commands::{self, Args, Command, Ctx, Flags, Outcome, Run, Spec};
use crate::keyspace::{self, Key, Ready, Shard, View, Walk};
use crate::protocol::{Output, Reply};
use crate::state::acl::Context;
use crate::state::{Inside, Multi, Watched, Watching};
use std::ops::Range;
use std::time::Duration;

/// A queued command.
struct Queued<'a> {
    command: &'static Command,
    args: Args<'a>,
    /// Which of the transaction's keys are its own.
    keys: Range<usize>,
}

/// The replies of a transaction, in pieces: what came before, and the command whose reply is still to come.
type Pieces = Vec<(Output, usize)>;

/// What a transaction leaves to be done.
struct Ran {
    pieces: Pieces,
    last: Output,
    rest: Vec<Ready>,
    outcome: Outcome,
}

/// True for what runs at once although MULTI was called.
pub(super) fn runs_at_once(spec: &Spec) -> bool {
    matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

impl Dispatch<'_> {
    /// Keeps a command for EXEC. False if there is no room for it: the connection is to be closed.
    pub(super) fn queue(&mut self, command: &Command, args: &Args<'_>, out: &mut Output) -> bool {
        let limit = self.config.client_query_buffer_limit.min(u32::MAX.into()) as usize;
        let Some(multi) = &mut self.client.multi else { return true };
        let bytes: usize = args.from(0).map(<[u8]>::len).sum();
        if multi.memory() + bytes > limit {
            tracing::warn!(
                client = self.client.info.id,
                "closed: a transaction of more than client-query-buffer-limit"
            );
            return false;
        }
        let flags = command.spec.flags;
        multi.writes |= flags.any(Flags::WRITE.or(Flags::MAY_REPLICATE));
        multi.takes_memory |= flags.has(Flags::DENYOOM);
        multi.has_script |= matches!(command.spec.run, Run::Script(_));
        multi.push(args.from(0));
        self.client.note_multi();
        Reply::new(out, self.client.version).simple("QUEUED");
        true
    }

    /// EXEC was refused: the transaction is over.
    pub(super) fn abort(&mut self, why: &[u8], out: &mut Output) {
        let why = why.strip_prefix(b"ERR ").unwrap_or(why);
        let text = [b"EXECABORT Transaction discarded because of: ", why].concat();
        self.discard();
        Reply::new(out, self.client.version).error_bytes(&text);
    }

    fn discard(&mut self) {
        self.client.set_multi(None);
        self.client.unwatch(&self.state.keyspace);
    }

    /// EXEC.
    pub(super) fn exec(
        &mut self,
        batch: &mut Batch<'_>,
        inside: Option<Inside<'_>>,
        filled: Option<Filled>,
        out: &mut Output,
    ) -> Result<Outcome, Wait> {
        let version = self.client.version;
        let Some(mut multi) = self.client.multi.take() else {
            Reply::new(out, version).error("ERR EXEC without MULTI");
            return Ok(Outcome::Done);
        };
        if multi.failed {
            self.discard();
            Reply::new(out, version).error("EXECABORT Transaction discarded because of previous errors.");
            return Ok(Outcome::Done);
        }
        let filled = filled.unwrap_or_default();
        if let Err(line) = &filled.loaded {
            self.discard();
            Reply::new(out, version).error(line);
            return Ok(Outcome::Done);
        }
        let alone = if multi.has_script {
            drop(inside);
            let Some(alone) = Alone::new(self.state) else {
                self.client.multi = Some(multi);
                return Err(Wait::Gate);
            };
            Some(alone)
        } else {
            None
        };
        let ran = self.exec_locked(batch, &multi, filled, out).map_err(|(fill, db)| {
            // It comes again.
            multi.filled_db = db;
            self.client.multi = Some(multi);
            Wait::Fill(fill)
        });
        drop(alone);
        ran
    }

    fn exec_locked(
        &mut self,
        batch: &mut Batch<'_>,
        multi: &Multi,
        filled: Filled,
        out: &mut Output,
    ) -> Result<Outcome, (Fill, usize)> {
        let keyspace = &self.state.keyspace;
        let (queued, mut keys) = plan(multi, |key| (keyspace.hash(key), keyspace.shard_of(keyspace.hash(key))));
        let watching = self.client.watching.take();
        let is_all = |queued: &Queued<'_>| {
            matches!(queued.command.spec.run, Run::Walk(_) | Run::Script(_))
                || queued.command.spec.keys.reach_all(&queued.args)
        };
        let mut locks = if queued.iter().any(is_all) {
            Locks::all(keyspace)
        } else {
            let watched = watching.iter().flat_map(|watching| &watching.keys).map(|watched| watched.hash);
            let others = watched.chain(self.dependents(&queued)).map(|hash| keyspace.shard_of(hash) as u16);
            Locks::of(keyspace, keys.iter().map(|key| key.shard as u16).chain(others).collect())
        };
        locks.place(&mut keys);
        let numbers = locks.numbers.clone();
        let place = |shard: usize| place_of(&numbers, shard);
        let mut shards = locks.shards();
        let is_touched = watching.as_deref().is_some_and(|watching| {
            is_touched(watching, batch.now, &mut shards, |hash| place(keyspace.shard_of(hash)))
        });
        if !is_touched
            && let Some(fill) = self.fill_queued(batch, &queued, &keys, &mut shards, (filled, multi.filled_db))
        {
            self.client.watching = watching;
            return Err(fill);
        }
        if let Some(watching) = watching {
            for Watched { db, hash, key } in &watching.keys {
                shards[place(keyspace.shard_of(*hash))].unwatch(*db, *hash, key, &watching.watch);
            }
        }
        self.client.set_multi(None);
        self.client.note_watched();
        let ran = if is_touched {
            Reply::new(out, self.client.version).null_array();
            None
        } else {
            Reply::new(out, self.client.version).array(queued.len());
            Some(self.run_queued(batch, &queued, &keys, &mut shards, &numbers))
        };
        shards.iter_mut().for_each(|shard| self.garbage.append(&mut shard.garbage));
        drop(shards);
        drop(locks);
        let outcome = ran.map_or(Outcome::Done, |ran| self.finish_exec(batch, &queued, ran, out));
        self.garbage.free();
        Ok(outcome)
    }

    /// Hashes of keys that may be void after the transaction's writes.
    fn dependents(&self, queued: &[Queued<'_>]) -> Vec<keyspace::Hash> {
        if !self.state.sources.watches_writes() {
            return Vec::new();
        }
        let mut db = self.client.db();
        let mut hashes = Vec::new();
        for Queued { command, args, .. } in queued {
            db = selected(command, args).unwrap_or(db);
            if let Judgement::Runs(dependents) = write::judge(self.state, db, command, args, Within::Transaction) {
                hashes.extend(dependents.iter().map(|dependent| dependent.hash));
            }
        }
        hashes
    }

    /// What has to be loaded before the transaction runs: keys that its commands read, in the first database of which
    /// some are missing.
    fn fill_queued(
        &mut self,
        batch: &Batch<'_>,
        queued: &[Queued<'_>],
        keys: &[Key<'_>],
        shards: &mut [&mut Shard],
        (filled, filled_db): (Filled, usize),
    ) -> Option<(Fill, usize)> {
        if !self.state.sources.has_routes() {
            return None;
        }
        let mut db = self.client.db();
        let mut wanted: Vec<(usize, Vec<Key<'_>>)> = Vec::new();
        for Queued { command, args, keys: own } in queued {
            db = selected(command, args).unwrap_or(db);
            if command.spec.fill.with(args) != commands::Fill::No && db < self.state.keyspace.databases() {
                let at = wanted.iter().position(|(other, _)| *other == db).unwrap_or_else(|| {
                    wanted.push((db, Vec::new()));
                    wanted.len() - 1
                });
                let overwritten = command.spec.keys.overwritten(args);
                let own = keys[own.clone()].iter().enumerate().filter(|(place, _)| !overwritten.contains(place));
                wanted[at].1.extend(own.map(|(_, key)| *key));
            }
        }
        let loaded = filled.loaded.unwrap_or_default();
        let access = self.access(batch);
        for (db, keys) in wanted {
            let mut view = View::new(shards, &keys, db, batch.now, access);
            // After a load of another database's keys it says nothing of these.
            if filled_db == db && loaded.len() == keys.len() {
                view = view.with_loaded(&loaded);
            }
            if let Some(fill) = Fill::begin(self.state, &mut view, filled.round, false, &(0..0)) {
                return Some((fill, db));
            }
        }
        None
    }

    /// Runs the commands, with the shards of all their keys locked.
    fn run_queued(
        &mut self,
        batch: &mut Batch<'_>,
        queued: &[Queued<'_>],
        keys: &[Key<'_>],
        shards: &mut [&mut Shard],
        numbers: &[u16],
    ) -> Ran {
        let around = self.around(batch);
        let mut ran = Ran { pieces: Vec::new(), last: Output::new(), rest: Vec::new(), outcome: Outcome::Done };
        let mut ready = Vec::new();
        for (index, queued) in queued.iter().enumerate() {
            let Queued { command, args, keys: own } = queued;
            if matches!(command.spec.run, Run::Server(_)) && command.spec.locks {
                ran.pieces.push((std::mem::take(&mut ran.last), index));
                continue;
            }
            if !self.may_run_queued(queued, &mut ran.last, batch.now) {
                continue;
            }
            let (out, version) = (&mut ran.last, self.client.version);
            let mark = out.mark();
            let access = self.access(batch);
            let outcome = match command.spec.run {
                Run::Data(run) => {
                    let (db, state) = (self.client.db(), self.state);
                    // It may be another database than when the command was queued.
                    let dependents = match write::judge(state, db, command, args, Within::Transaction) {
                        Judgement::Runs(dependents) => dependents,
                        other => {
                            Reply::new(out, version).error(&other.refusal());
                            continue;
                        }
                    };
                    let mut view = View::new(shards, &keys[own.clone()], db, batch.now, access)
                        .with_limits(&self.config.limits)
                        .with_seen_at(self.client.seen_at(self.config, batch.now))
                        .with_reach(commands::may_reach(&self.client.user, command, args, db));
                    let outcome = run(&mut view, args, &mut Reply::new(out, version));
                    track(self.client, command.spec, &mut view);
                    if !out.is_error_since(mark) {
                        let place = |hash| place_of(numbers, state.keyspace.shard_of(hash));
                        write::drop_dependents(&dependents, shards, db, batch.now, place);
                    }
                    outcome
                }
                Run::Walk(run) => {
                    let seen_at = self.client.seen_at(self.config, batch.now);
                    let mut walk = Walk::held(&self.state.keyspace, shards, self.client.db(), seen_at);
                    run(&mut walk, args, &mut Reply::new(out, version))
                }
                Run::Server(run) => {
                    let mut ctx = Ctx { state: self.state, client: self.client, now: batch.now };
                    run(&mut ctx, args, &mut Reply::new(out, version))
                }
                Run::Script(call) => {
                    ready.extend(self.script_held(batch, call, args, shards, out));
                    Outcome::Done
                }
                Run::Load(load) => self.load(batch, load, args, out),
                Run::Exec | Run::Container => Outcome::Done,
            };
            ran.outcome =
                self.after_queued(queued, std::mem::replace(&mut ran.outcome, Outcome::Done), outcome, &mut ran.last);
            self.record(batch, command, args, &ran.last, mark);
            if keyspace::take_stirred() {
                ready.extend(block::tell(around, shards));
            }
        }
        ran.rest = block::serve(around, shards, numbers, ready, self.garbage);
        ran
    }

    /// Whether the user still may run a command that it might when it was queued; else the error is written.
    fn may_run_queued(&mut self, queued: &Queued<'_>, out: &mut Output, now: i64) -> bool {
        self.know_user();
        let Queued { command, args, .. } = queued;
        let Err(denied) = commands::permit(self.state, self.client, Context::Multi, command, args, now) else {
            return true;
        };
        let mark = out.mark();
        Reply::new(out, self.client.version).error(&denied.text_in_exec());
        self.stats.count_error(out.since(mark));
        self.stats.commands[command.id].rejected.add(1);
        false
    }

    /// Writes what a command left to be written, and shows it to the monitors. Returns the transaction's outcome.
    fn after_queued(&mut self, queued: &Queued<'_>, before: Outcome, outcome: Outcome, out: &mut Output) -> Outcome {
        let mut reply = Reply::new(out, self.client.version);
        block::answer_at_once(&outcome, "a transaction", &mut reply);
        if !self.state.monitors.is_empty() {
            commands::feed_monitors(self.state, self.client, queued.command.spec, &queued.args);
        }
        let slept = |outcome: &Outcome| if let Outcome::Sleep(time) = outcome { *time } else { Duration::ZERO };
        match (before, outcome) {
            (Outcome::Shutdown, _) | (_, Outcome::Shutdown) => Outcome::Shutdown,
            (Outcome::Close, _) | (_, Outcome::Close) => Outcome::Close,
            (before, outcome) => match slept(&before) + slept(&outcome) {
                Duration::ZERO => Outcome::Done,
                time => Outcome::Sleep(time),
            },
        }
    }

    /// Does what could not be done with the shards locked, and puts the replies together.
    fn finish_exec(&mut self, batch: &mut Batch<'_>, queued: &[Queued<'_>], ran: Ran, out: &mut Output) -> Outcome {
        if !ran.rest.is_empty() {
            let around = self.around(batch);
            block::settle_rest(around, ran.rest, self.garbage);
        }
        let mut all = ran.outcome;
        for (piece, index) in ran.pieces {
            out.append(piece);
            let Queued { command, args, .. } = &queued[index];
            let Run::Server(run) = command.spec.run else { continue };
            if !self.may_run_queued(&queued[index], out, batch.now) {
                continue;
            }
            let (mark, version) = (out.mark(), self.client.version);
            let mut ctx = Ctx { state: self.state, client: self.client, now: batch.now };
            let outcome = run(&mut ctx, args, &mut Reply::new(out, version));
            all = self.after_queued(&queued[index], all, outcome, out);
            self.record(batch, command, args, out, mark);
        }
        out.append(ran.last);
        all
    }
}

/// The database that SELECT asks for.
fn selected(command: &Command, args: &Args<'_>) -> Option<usize> {
    let db = if command.spec.name == "select" { args.integer(1)? } else { return None };
    usize::try_from(db).ok()
}

/// The commands of a transaction, and all their keys.
fn plan<'m>(multi: &'m Multi, place: impl Fn(&[u8]) -> (keyspace::Hash, usize)) -> (Vec<Queued<'m>>, Vec<Key<'m>>) {
    let mut keys = Vec::new();
    let queue = |request: &Range<usize>| {
        let args = Args::new(&multi.buf, &multi.spans[request.clone()]);
        // It was found when it was queued.
        let command = commands::find(&args)?;
        let first = keys.len();
        let found = command.spec.keys.each(&args, |index| {
            let bytes = args.at(index);
            let (hash, shard) = place(bytes);
            keys.push(Key { bytes, hash, shard });
        });
        if !found {
            keys.truncate(first);
        }
        Some(Queued { command, args, keys: first..keys.len() })
    };
    let queued = multi.requests.iter().filter_map(queue).collect();
    (queued, keys)
}

/// True if a watched key has changed, or its time has come.
fn is_touched(
    watching: &Watching,
    now: i64,
    shards: &mut [&mut Shard],
    place: impl Fn(keyspace::Hash) -> usize,
) -> bool {
    for watched in &watching.keys {
        shards[place(watched.hash)].find(watched.db, watched.hash, &watched.key, now);
    }
    watching.watch.is_touched()
}
