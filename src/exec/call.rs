//! The commands of a running script: whether they may run, and on which shards. It must not know Lua.

use super::block::{self, Around};
use super::dispatch::track;
use super::locks::Held;
use super::script::{self, Progress};
use super::write::{self, Judgement, Within};
use crate::clock;
use crate::commands::{self, Args, Command, Ctx, DataFn, Flags, Outcome, Run};
use crate::config::Config;
use crate::keyspace::{self, Garbage, Key, Shard, View, Walk};
use crate::protocol::{Output, Reply, Span, Version};
use crate::script::Host;
use crate::state::acl::Context;
use crate::state::{Client, State, WorkerStats};
use std::sync::Arc;

/// The shards that a script works on.
pub(super) enum Shards<'h, 's, 'k> {
    /// Those it has touched, which it locks as it needs them: it is alone behind the gate.
    Own(Held<'k>),
    /// All of them, locked by its transaction.
    All(&'h mut [&'s mut Shard]),
}

/// What a script's commands run on.
pub(super) struct Calls<'a, 'h, 's> {
    pub(super) state: &'a Arc<State>,
    pub(super) config: &'a Config,
    pub(super) client: &'a mut Client,
    pub(super) stats: &'a WorkerStats,
    pub(super) garbage: &'a mut Garbage,
    pub(super) shards: Shards<'h, 's, 'a>,
    pub(super) progress: &'a mut Progress,
}

impl Calls<'_, '_, '_> {
    /// Finds a command and sees whether it may run here; or the error.
    fn admit(&self, args: &Args<'_>) -> Result<&'static Command, &'static str> {
        let command = commands::find(args).ok_or("ERR Unknown Redis command called from script")?;
        let spec = command.spec;
        if !command.subcommands.is_empty() && args.len() > 1 {
            return Err("ERR Unknown Redis command called from script");
        }
        if !spec.fits(args.len()) {
            return Err("ERR Wrong number of args calling Redis command from script");
        }
        let runs_here = match spec.run {
            Run::Data(_) | Run::Walk(_) => true,
            Run::Server(_) => !spec.locks || matches!(self.shards, Shards::Own(_)),
            _ => false,
        };
        if spec.flags.has(Flags::NOSCRIPT) || !runs_here {
            return Err("ERR This Redis command is not allowed from script");
        }
        let writes = spec.flags.any(Flags::WRITE.or(Flags::MAY_REPLICATE));
        if writes && self.progress.read_only {
            return Err("ERR Write commands are not allowed from read-only scripts.");
        }
        if self.progress.is_full && !self.progress.wrote && spec.flags.has(Flags::DENYOOM) {
            return Err(commands::OUT_OF_MEMORY);
        }
        Ok(command)
    }

    fn run(&mut self, command: &'static Command, args: &Args<'_>, version: Version, out: &mut Output) {
        let spec = command.spec;
        let (state, now) = (self.state, self.progress.now);
        let seen_at = self.client.seen_at(self.config, now);
        let outcome = match spec.run {
            Run::Data(run) => self.run_data(command, run, args, version, out),
            Run::Walk(run) => match &mut self.shards {
                Shards::All(shards) => {
                    let mut walk = Walk::held(&state.keyspace, shards, self.client.db(), seen_at);
                    run(&mut walk, args, &mut Reply::new(out, version))
                }
                Shards::Own(_) => {
                    self.release();
                    let mut walk = Walk::new(&state.keyspace, self.client.db(), seen_at);
                    run(&mut walk, args, &mut Reply::new(out, version))
                }
            },
            Run::Server(run) => {
                if spec.locks {
                    self.release();
                }
                let mut ctx = Ctx { state, client: self.client, now };
                run(&mut ctx, args, &mut Reply::new(out, version))
            }
            Run::Exec | Run::Script(_) | Run::Load(_) | Run::Container => Outcome::Done,
        };
        block::answer_at_once(&outcome, "a script", &mut Reply::new(out, version));
    }

    fn run_data(
        &mut self,
        command: &'static Command,
        run: DataFn,
        args: &Args<'_>,
        version: Version,
        out: &mut Output,
    ) -> Outcome {
        let keyspace = &self.state.keyspace;
        let mark = out.mark();
        let dependents = match write::judge(self.state, self.client.db(), command, args, Within::Script) {
            Judgement::Runs(dependents) => dependents,
            other => {
                Reply::new(out, version).error(&other.refusal());
                return Outcome::Done;
            }
        };
        let mut few = arrayvec::ArrayVec::<Key<'_>, 8>::new();
        let mut many = Vec::new();
        let found = command.spec.keys.each(args, |index| {
            let (bytes, hash) = (args.at(index), keyspace.hash(args.at(index)));
            let key = Key { bytes, hash, shard: keyspace.shard_of(hash) };
            if many.is_empty() && few.try_push(key).is_ok() {
                return;
            }
            many.extend(few.drain(..));
            many.push(key);
        });
        let keys: &mut [Key<'_>] = match found {
            true if many.is_empty() => &mut few,
            true => &mut many,
            false => &mut [],
        };
        let (db, now, access) = (self.client.db(), self.progress.now, self.progress.access);
        let limits = &self.config.limits;
        let may_reach = commands::may_reach(&self.client.user, command, args, db);
        let client = &mut *self.client;
        let seen_at = client.seen_at(self.config, now);
        let mut run_on = |shards: &mut [&mut Shard], keys: &[Key<'_>]| {
            let view = View::new(shards, keys, db, now, access).with_limits(limits);
            let mut view = view.with_reach(may_reach).with_seen_at(seen_at);
            let outcome = run(&mut view, args, &mut Reply::new(out, version));
            track(client, command.spec, &mut view);
            outcome
        };
        let outcome = match &mut self.shards {
            Shards::All(shards) => run_on(shards, keys),
            Shards::Own(held) => {
                if command.spec.keys.reach_all(args) {
                    held.lock_all();
                }
                keys.iter_mut().for_each(|key| key.shard = held.lock(key.shard));
                run_on(&mut held.shards(), keys)
            }
        };
        if dependents.is_empty() || out.is_error_since(mark) {
            return outcome;
        }
        match &mut self.shards {
            Shards::All(shards) => {
                write::drop_dependents(&dependents, shards, db, now, |hash| keyspace.shard_of(hash));
            }
            Shards::Own(held) => {
                let places: Vec<usize> = dependents.iter().map(|key| held.lock(keyspace.shard_of(key.hash))).collect();
                let mut places = places.into_iter();
                let place = |_| places.next().unwrap_or_default();
                write::drop_dependents(&dependents, &mut held.shards(), db, now, place);
            }
        }
        outcome
    }

    /// Gives back the shards that are the script's own.
    pub(super) fn release(&mut self) {
        if let Shards::Own(held) = &mut self.shards {
            held.release(self.garbage);
        }
    }
}

impl Host for Calls<'_, '_, '_> {
    fn call(&mut self, buf: &[u8], spans: &[Span], version: Version, out: &mut Output) {
        let args = Args::new(buf, spans);
        let mark = out.mark();
        let command = match self.admit(&args) {
            Ok(command) => command,
            Err(text) => return Reply::new(out, version).error(text),
        };
        let now = self.progress.now;
        if let Err(denied) = commands::permit(self.state, self.client, Context::Script, command, &args, now) {
            let text = [b"ERR ACL failure in script: ", denied.text(&self.client.user).as_slice()].concat();
            return Reply::new(out, version).error_bytes(&text);
        }
        self.progress.wrote |= command.spec.flags.has(Flags::WRITE);
        if !self.state.monitors.is_empty() {
            commands::feed_script_call(self.state, self.client.db(), command.spec, &args);
        }
        let start = clock::monotonic_ns();
        self.run(command, &args, version, out);
        let stats = &self.stats.commands[command.id];
        stats.record(clock::monotonic_ns() - start, self.config.latency_tracking);
        if out.is_error_since(mark) {
            stats.failed.add(1);
            self.stats.count_error(out.since(mark));
        }
        if keyspace::take_stirred() {
            let by = Some(self.client.info.id);
            let around = Around { state: self.state, config: self.config, now: self.progress.now, by };
            let ready = match &mut self.shards {
                Shards::All(shards) => block::tell(around, shards),
                Shards::Own(held) => block::tell(around, &mut held.shards()),
            };
            self.progress.ready.extend(ready);
        }
    }

    fn may(&self, buf: &[u8], spans: &[Span]) -> Option<bool> {
        let args = Args::new(buf, spans);
        let command = commands::find(&args)?;
        Some(commands::check_acl(&self.client.user, command, &args, self.client.db()).is_ok())
    }

    fn log(&self, level: i64, line: &[u8]) {
        script::log(level, line);
    }
}
