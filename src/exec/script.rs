//! Running scripts: with all shards locked, so nobody sees a part of what a script does, whichever keys it reaches.
//! Its commands go through the same rows as a client's. It must not know Lua; that is `script`'s.

use super::admit::arity_fits;
use super::block::{self, Around};
use super::dispatch::{Batch, Dispatch, track};
use super::locks::Locks;
use crate::clock;
use crate::commands::{self, Args, Call, Ctx, Flags, Naming, Outcome, Run};
use crate::config::Config;
use crate::keyspace::{self, Access, Key, Ready, Shard, View, Walk};
use crate::protocol::{Output, Reply, Span, Version};
use crate::script::{self, Engine, Host, Ran, Script};
use crate::state::{Client, State, WorkerStats};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

thread_local! {
    /// The worker's Lua, once a script has come.
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

fn with_engine<T>(f: impl FnOnce(&mut Engine) -> T) -> Result<T, String> {
    ENGINE.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Engine::new().map_err(|error| format!("ERR Lua cannot start: {error}"))?);
        }
        slot.as_mut().map(f).ok_or_else(|| "ERR Lua cannot start".to_owned())
    })
}

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

impl Dispatch<'_> {
    /// SCRIPT LOAD.
    pub(super) fn load_script(&mut self, batch: &Batch<'_>, args: &Args<'_>, out: &mut Output) -> Outcome {
        let loaded = self.compiled(args.at(2), true, batch.now);
        let mut reply = Reply::new(out, self.client.version);
        match loaded {
            Ok(script) => reply.text(&script.sha),
            Err(text) => reply.error(&text),
        }
        Outcome::Done
    }

    fn compiled(&self, body: &[u8], kept: bool, now: i64) -> Result<Arc<Script>, String> {
        let script = self.state.scripts.of(body)?;
        with_engine(|engine| engine.compile(&script))??;
        self.state.scripts.add(&script, kept, now);
        Ok(script)
    }

    /// EVAL and its kin, with no shard locked.
    pub(super) fn script(&mut self, batch: &Batch<'_>, call: Call, args: &Args<'_>, out: &mut Output) -> Outcome {
        let state = self.state;
        let mut locks = Locks::all(&state.keyspace);
        let numbers = std::mem::take(&mut locks.numbers);
        let mut shards = locks.shards();
        let ready = self.script_held(batch, call, args, &mut shards, out);
        let around = self.around(batch);
        let rest = block::serve(around, &mut shards, &numbers, ready, self.garbage);
        for shard in &mut shards {
            self.garbage.append(&mut shard.garbage);
        }
        drop(shards);
        drop(locks);
        if !rest.is_empty() {
            block::settle_rest(around, rest, self.garbage);
        }
        keyspace::free(self.garbage);
        Outcome::Done
    }

    /// The same with all shards locked. Returns the keys that somebody may wait for.
    pub(super) fn script_held(
        &mut self,
        batch: &Batch<'_>,
        call: Call,
        args: &Args<'_>,
        shards: &mut [&mut Shard],
        out: &mut Output,
    ) -> Vec<Ready> {
        match self.admit_script(batch, call, args) {
            Ok((script, keys)) => self.run_script(batch, call, (&script, args, keys), shards, out),
            Err(text) => {
                Reply::new(out, self.client.version).error(&text);
                Vec::new()
            }
        }
    }

    /// The script of a command, and how many keys it is given; or the error.
    fn admit_script(&self, batch: &Batch<'_>, call: Call, args: &Args<'_>) -> Result<(Arc<Script>, usize), String> {
        let keys = args.integer(2).ok_or(commands::NOT_AN_INTEGER)?;
        if keys > args.len() as i64 - 3 {
            return Err("ERR Number of keys can't be greater than number of args".into());
        }
        let keys = usize::try_from(keys).map_err(|_| "ERR Number of keys can't be negative")?;
        let script = match call.naming {
            Naming::Text => self.compiled(args.at(1), false, batch.now)?,
            Naming::Sha => {
                let script = self.state.scripts.get(args.at(1)).ok_or(NO_SCRIPT)?;
                with_engine(|engine| engine.compile(&script))??;
                script.used_at.store(batch.now, Ordering::Relaxed);
                script
            }
        };
        let script::Flags { declared, no_writes, allow_oom } = script.flags;
        if declared && call.read_only && !no_writes {
            return Err("ERR Can not execute a script with write flag using *_ro command.".into());
        }
        if declared && !no_writes && !allow_oom && is_full(self.config) {
            return Err(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'".into()
            );
        }
        Ok((script, keys))
    }

    fn run_script(
        &mut self,
        batch: &Batch<'_>,
        call: Call,
        (script, args, keys): (&Arc<Script>, &Args<'_>, usize),
        shards: &mut [&mut Shard],
        out: &mut Output,
    ) -> Vec<Ready> {
        let db = self.client.db();
        let version = self.client.version;
        let access = self.access(batch);
        let mut host = Commands {
            state: self.state,
            config: self.config,
            client: self.client,
            stats: self.stats,
            shards,
            access,
            now: batch.now,
            read_only: call.read_only || script.flags.no_writes,
            is_full: !script.flags.allow_oom && is_full(self.config),
            wrote: false,
            ready: Vec::new(),
        };
        let mark = out.mark();
        let ran = with_engine(|engine| {
            let run = script::Run { script, keys: args.from(3).take(keys), args: args.from(3 + keys) };
            engine.run(run, &mut host, &mut Reply::new(out, version))
        });
        let ready = host.ready;
        if ran != Ok(Ran::Done) {
            // What is left of it is not to be trusted.
            ENGINE.with_borrow_mut(|engine| *engine = None);
            out.truncate(mark);
            let place = format!("script: {}, on @user_script:1.", script.sha);
            let text = format!("ERR Error running script: Script killed by user with SCRIPT KILL. {place}");
            Reply::new(out, version).error(&text);
        }
        self.state.scripts.ended();
        if self.client.db() != db {
            self.client.select(db);
        }
        ready
    }
}

fn is_full(config: &Config) -> bool {
    config.maxmemory > 0 && crate::alloc::used() > config.maxmemory
}

/// What a script's commands run on.
struct Commands<'a, 's> {
    state: &'a Arc<State>,
    config: &'a Config,
    client: &'a mut Client,
    stats: &'a WorkerStats,
    shards: &'a mut [&'s mut Shard],
    access: Access,
    now: i64,
    read_only: bool,
    /// There was too much in memory when the script began.
    is_full: bool,
    wrote: bool,
    ready: Vec<Ready>,
}

impl Commands<'_, '_> {
    /// Finds a command and sees whether it may run here; or the error.
    fn admit(&self, args: &Args<'_>) -> Result<&'static commands::Command, &'static str> {
        let command = commands::find(args).ok_or("ERR Unknown Redis command called from script")?;
        let spec = command.spec;
        if !command.subcommands.is_empty() && args.len() > 1 {
            return Err("ERR Unknown Redis command called from script");
        }
        if !arity_fits(spec.arity, args.len()) {
            return Err("ERR Wrong number of args calling Redis command from script");
        }
        let runs_here = matches!(spec.run, Run::Data(_) | Run::Walk(_)) || !spec.locks;
        if spec.flags.has(Flags::NOSCRIPT) || !runs_here {
            return Err("ERR This Redis command is not allowed from script");
        }
        let writes = spec.flags.any(Flags::WRITE.or(Flags::MAY_REPLICATE));
        if writes && self.read_only {
            return Err("ERR Write commands are not allowed from read-only scripts.");
        }
        if self.is_full && !self.wrote && spec.flags.has(Flags::DENYOOM) {
            return Err(OOM);
        }
        Ok(command)
    }

    fn run(&mut self, command: &'static commands::Command, args: &Args<'_>, version: Version, out: &mut Output) {
        let spec = command.spec;
        let outcome = match spec.run {
            Run::Data(run) => {
                let keyspace = &self.state.keyspace;
                let mut keys = arrayvec::ArrayVec::<Key<'_>, 8>::new();
                let mut many = Vec::new();
                let found = spec.keys.each(args, |index| {
                    let (bytes, hash) = (args.at(index), keyspace.hash(args.at(index)));
                    let key = Key { bytes, hash, shard: keyspace.shard_of(hash) };
                    if many.is_empty() && keys.try_push(key).is_ok() {
                        return;
                    }
                    many.extend(keys.drain(..));
                    many.push(key);
                });
                let keys: &[Key<'_>] = match found {
                    true if many.is_empty() => &keys,
                    true => &many,
                    false => &[],
                };
                let mut view = View::new(self.shards, keys, self.client.db(), self.now, self.access)
                    .with_limits(&self.config.limits);
                let outcome = run(&mut view, args, &mut Reply::new(out, version));
                track(self.client, spec, &mut view);
                outcome
            }
            Run::Walk(run) => {
                let mut walk = Walk::held(&self.state.keyspace, self.shards, self.client.db(), self.now);
                run(&mut walk, args, &mut Reply::new(out, version))
            }
            Run::Server(run) => {
                let mut ctx = Ctx { state: self.state, client: self.client, now: self.now };
                run(&mut ctx, args, &mut Reply::new(out, version))
            }
            Run::Exec | Run::Script(_) | Run::ScriptLoad | Run::Container => Outcome::Done,
        };
        if let Outcome::Block(block) = outcome {
            block.nil.write(&mut Reply::new(out, version));
        }
    }
}

impl Host for Commands<'_, '_> {
    fn call(&mut self, buf: &[u8], spans: &[Span], version: Version, out: &mut Output) {
        let args = Args::new(buf, spans);
        let mark = out.mark();
        let command = match self.admit(&args) {
            Ok(command) => command,
            Err(text) => return Reply::new(out, version).error(text),
        };
        self.wrote |= command.spec.flags.has(Flags::WRITE);
        let start = clock::monotonic_ns();
        self.run(command, &args, version, out);
        let stats = &self.stats.commands[command.id];
        stats.record(clock::monotonic_ns() - start, self.config.latency_tracking);
        if out.is_error_since(mark) {
            stats.failed.add(1);
            self.stats.errors.add(1);
            self.stats.error_kinds.note(out.since(mark));
        }
        if keyspace::take_stirred() {
            let by = Some(self.client.info.id);
            let around = Around { state: self.state, config: self.config, now: self.now, by };
            self.ready.extend(block::tell(around, self.shards));
        }
    }

    fn may(&self, buf: &[u8], spans: &[Span]) -> Option<bool> {
        commands::find(&Args::new(buf, spans)).map(|_| true)
    }

    fn log(&self, level: i64, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match level {
            0 | 1 => tracing::debug!(script = true, "{line}"),
            2 => tracing::info!(script = true, "{line}"),
            _ => tracing::warn!(script = true, "{line}"),
        }
    }

    fn may_go_on(&self) -> bool {
        self.state.scripts.runs_long(self.now, self.wrote) && !self.state.stopping.load(Ordering::Relaxed)
    }
}
