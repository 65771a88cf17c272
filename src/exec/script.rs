//! Running scripts and functions: alone in the keyspace (see `state/gate`), so nobody sees a part of what one does,
//! whichever keys it reaches. Its commands go through the same rows as a client's. One that has run for a while is put
//! aside while its worker serves others, and then goes on. It must not know Lua; that is `script`'s.

use super::block::{self, Around};
use super::call::{Calls, Shards};
use super::dispatch::{Batch, Dispatch};
use super::fill::{Fill, Filled};
use super::locks::{Held, Locks};
use crate::clock;
use crate::commands::{self, Args, Call, Load, Naming, Outcome};
use crate::keyspace::{Access, Key, Ready, Shard, View};
use crate::protocol::{Output, Reply, Span, Version};
use crate::rdb;
use crate::script::{Engine, Flags, Host, Library, Program, Ran, Script, sha1_hex};
use crate::state::{self, Policy, State};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

thread_local! {
    /// The worker's Lua, once a script has come; not here while it runs.
    static ENGINE: RefCell<Option<Box<Engine>>> = const { RefCell::new(None) };
}

/// Lets `f` use the worker's Lua. If it panics, what it leaves is not trusted: there will be a new one.
fn with_engine<T>(f: impl FnOnce(&mut Engine) -> T) -> Result<T, String> {
    let known = ENGINE.take();
    let mut engine = match known {
        Some(engine) => engine,
        None => Box::new(Engine::new().map_err(|error| format!("ERR Lua cannot start: {error}"))?),
    };
    let result = f(&mut engine);
    ENGINE.set(Some(engine));
    Ok(result)
}

const NO_SCRIPT: &str = "NOSCRIPT No matching script. Please use EVAL.";
const KILLED: &str = "ERR Script killed by user with SCRIPT KILL.";
const KILLED_FUNCTION: &str = "ERR Script killed by user with FUNCTION KILL.";
const TOO_LONG: &str = "ERR a script in a transaction may not run for longer than busy-reply-threshold";

/// What is to run.
#[derive(Clone, Debug)]
enum Named {
    Script(Arc<Script>),
    Function(Arc<Library>, String, Flags),
}

impl Named {
    fn flags(&self) -> Flags {
        match self {
            Self::Script(script) => script.flags,
            Self::Function(_, _, flags) => *flags,
        }
    }

    fn program(&self) -> Program<'_> {
        match self {
            Self::Script(script) => Program::Script(script),
            Self::Function(library, name, _) => Program::Function(library, name),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Script(script) => &script.sha,
            Self::Function(_, name, _) => name,
        }
    }
}

/// How far a script has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) access: Access,
    /// The time that all its commands see, in ms since the epoch.
    pub(super) now: i64,
    pub(super) read_only: bool,
    /// There was too much in memory when it began, and it may not ignore that.
    pub(super) is_full: bool,
    pub(super) wrote: bool,
    /// Keys that somebody may wait for.
    pub(super) ready: Vec<Ready>,
    /// The connection's database before.
    db: usize,
    is_function: bool,
}

/// The closed gate; it opens when this goes.
pub(super) struct Alone(Arc<State>);

impl std::fmt::Debug for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alone")
    }
}

impl Alone {
    pub(super) fn new(state: &Arc<State>) -> Option<Self> {
        (state.gate.close() || state.gate.wait() && state.gate.close()).then(|| Self(Arc::clone(state)))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.gate.open();
    }
}

/// A script that was put aside, with the request that called it.
#[derive(Debug)]
pub struct Running {
    alone: Option<Alone>,
    progress: Progress,
    buf: Vec<u8>,
    spans: Vec<Span>,
    /// By the monotonic clock, in ns.
    started: u64,
    /// Its reply is wanted (CLIENT REPLY).
    pub(super) answers: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(alone) = self.alone.take() {
            // Nobody will go on with it.
            ENGINE.take();
            alone.0.scripts.ended();
        }
    }
}

/// What came of a command that runs a script.
pub(super) enum Scripted {
    /// It is over; its reply is written.
    Done,
    /// Another one runs: nothing has happened yet.
    Barred,
    /// It runs on.
    Running(Box<Running>),
}

/// Lets libraries that are loaded write to the log, and nothing else.
struct Logging;

impl Host for Logging {
    fn call(&mut self, _: &[u8], _: &[Span], version: Version, out: &mut Output) {
        Reply::new(out, version).error("ERR redis.call can only be used by functions that run");
    }

    fn may(&self, _: &[u8], _: &[Span]) -> Option<bool> {
        None
    }

    fn log(&self, level: i64, line: &[u8]) {
        log(level, line);
    }
}

/// `redis.log`.
pub(super) fn log(level: i64, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    match level {
        0 | 1 => tracing::debug!(script = true, "{line}"),
        2 => tracing::info!(script = true, "{line}"),
        _ => tracing::warn!(script = true, "{line}"),
    }
}

impl Dispatch<'_> {
    /// SCRIPT LOAD, FUNCTION LOAD, FUNCTION RESTORE.
    pub(super) fn load(&mut self, batch: &Batch<'_>, load: Load, args: &Args<'_>, out: &mut Output) -> Outcome {
        let loaded = match load {
            Load::Script => self.compiled(args.at(2), true, batch.now).map(|script| Some(script.sha.clone())),
            Load::Library => self.load_library(args).map(Some),
            Load::Dump => self.load_dump(args).map(|()| None),
        };
        let mut reply = Reply::new(out, self.client.version);
        match loaded {
            Ok(Some(name)) => reply.text(&name),
            Ok(None) => reply.ok(),
            Err(text) => reply.error(&text),
        }
        Outcome::Done
    }

    fn compiled(&self, body: &[u8], kept: bool, now: i64) -> Result<Arc<Script>, String> {
        // What this worker has compiled needs no look at what all have.
        if !kept && let Some(script) = with_engine(|engine| engine.known(&sha1_hex(body)))? {
            script.used_at.store(now, Ordering::Relaxed);
            return Ok(script);
        }
        let script = self.state.scripts.of(body)?;
        with_engine(|engine| engine.compile(&script))??;
        self.state.scripts.add(&script, kept, now);
        Ok(script)
    }

    fn load_library(&self, args: &Args<'_>) -> Result<String, String> {
        let options = 2..args.len() - 1;
        if let Some(unknown) = options.clone().find(|index| !args.is(*index, "replace")) {
            return Err(format!("ERR Unknown option given: {}", String::from_utf8_lossy(args.at(unknown))));
        }
        let policy = if options.is_empty() { Policy::Append } else { Policy::Replace };
        let mut library = Library::new(args.at(args.len() - 1))?;
        let name = library.name.clone();
        if policy == Policy::Append && self.state.functions.load().libraries.contains_key(&name) {
            return Err(format!("ERR Library '{name}' already exists"));
        }
        with_engine(|engine| engine.load(&mut library, &mut Logging))??;
        self.state.functions.add(vec![library], policy)?;
        Ok(name)
    }

    fn load_dump(&self, args: &Args<'_>) -> Result<(), String> {
        let policy = match () {
            () if args.len() > 4 => {
                let name = String::from_utf8_lossy(args.at(1));
                let why = "unknown subcommand or wrong number of arguments for";
                return Err(format!("ERR {why} '{name}'. Try FUNCTION HELP."));
            }
            () if args.len() == 3 || args.is(3, "append") => Policy::Append,
            () if args.is(3, "replace") => Policy::Replace,
            () if args.is(3, "flush") => Policy::Flush,
            () => {
                return Err("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.".into());
            }
        };
        let codes = match rdb::load_functions(args.at(2), self.config.limits.max_string) {
            Ok(Some(codes)) => codes,
            Ok(None) => return Err("ERR DUMP payload version or checksum are wrong".into()),
            Err(rdb::Bad) => return Err("ERR failed loading functions payload".into()),
        };
        let mut libraries = Vec::new();
        for code in codes {
            let mut library = Library::new(&code)?;
            with_engine(|engine| engine.load(&mut library, &mut Logging))??;
            libraries.push(library);
        }
        self.state.functions.add(libraries, policy)
    }

    /// EVAL and its kin, FCALL; nobody of this worker is in the gate.
    pub(super) fn script(
        &mut self,
        batch: &Batch<'_>,
        call: Call,
        args: &Args<'_>,
        filled: Option<Filled>,
        out: &mut Output,
    ) -> Result<Scripted, Fill> {
        let (named, keys) = match self.admit_script(batch, call, args) {
            Ok(admitted) => admitted,
            Err(text) => {
                Reply::new(out, self.client.version).error(&text);
                return Ok(Scripted::Done);
            }
        };
        if self.state.sources.has_routes()
            && let Some(scripted) = self.fill_declared(batch, (args, keys), filled, out)?
        {
            return Ok(scripted);
        }
        let Some(alone) = Alone::new(self.state) else { return Ok(Scripted::Barred) };
        self.show_monitors(args);
        let mut progress = self.progress(batch, call, &named);
        let words = args.from(3);
        if !begin(&named, keys, words, self.client.version) {
            Reply::new(out, self.client.version).error(NO_SCRIPT);
            return Ok(Scripted::Done);
        }
        if self.run_slice(&mut progress, Shards::Own(Held::new(&self.state.keyspace))) == Ran::Done {
            self.finish_script(progress, alone, out);
            return Ok(Scripted::Done);
        }
        self.note_running(&named, args, &progress);
        let (mut buf, mut spans) = (Vec::new(), Vec::new());
        Span::pack(args.from(0), &mut buf, &mut spans);
        let alone = Some(alone);
        Ok(Scripted::Running(Box::new(Running { alone, progress, buf, spans, started: batch.clock, answers: true })))
    }

    /// A script in a transaction, which has locked all shards and closed the gate. Returns the keys that somebody may
    /// wait for.
    pub(super) fn script_held(
        &mut self,
        batch: &Batch<'_>,
        call: Call,
        args: &Args<'_>,
        shards: &mut [&mut Shard],
        out: &mut Output,
    ) -> Vec<Ready> {
        let begun = self.admit_script(batch, call, args).and_then(|(named, keys)| {
            let is_there = begin(&named, keys, args.from(3), self.client.version);
            if is_there { Ok(named) } else { Err(NO_SCRIPT.to_owned()) }
        });
        let named = match begun {
            Ok(named) => named,
            Err(text) => {
                Reply::new(out, self.client.version).error(&text);
                return Vec::new();
            }
        };
        self.show_monitors(args);
        let mut progress = self.progress(batch, call, &named);
        let mut is_noted = false;
        while self.run_slice(&mut progress, Shards::All(shards)) == Ran::Paused {
            // The worker's other connections cannot be served meanwhile, so nobody could end it.
            let threshold = self.config.busy_reply_threshold;
            if threshold > 0 && !progress.wrote && clock::now_ms() - progress.now >= threshold {
                let _ = with_engine(|engine| engine.end(TOO_LONG));
            }
            if !std::mem::replace(&mut is_noted, true) {
                self.note_running(&named, args, &progress);
            }
        }
        take_reply(out);
        if is_noted {
            self.state.scripts.ended();
        }
        if self.client.db() != progress.db {
            self.client.select(progress.db);
        }
        progress.ready
    }

    /// Goes on with a script that was put aside: its reply once it is over.
    pub fn go_on(&mut self, running: &mut Running) -> Option<Output> {
        let held = Held::new(&self.state.keyspace);
        if self.run_slice(&mut running.progress, Shards::Own(held)) == Ran::Paused {
            return None;
        }
        let alone = running.alone.take()?;
        let args = Args::new(&running.buf, &running.spans);
        let now = clock::now_ms();
        let progress = Progress { ready: std::mem::take(&mut running.progress.ready), ..running.progress };
        let mut out = Output::new();
        let mark = out.mark();
        self.state.scripts.ended();
        self.finish_script(progress, alone, &mut out);
        self.settle_tracking(&args, None);
        if let Some(command) = commands::find(&args) {
            let mut batch = Batch::of_one(&running.buf, &running.spans, running.started, now, self.slow_ns());
            self.record(&mut batch, command, &args, &out, mark);
        }
        if !running.answers {
            out.clear(0);
        }
        Some(out)
    }

    fn show_monitors(&self, args: &Args<'_>) {
        if !self.state.monitors.is_empty() {
            commands::feed_script(self.state, self.client, args);
        }
    }

    /// What a command names, and how many keys it is given; or the error.
    fn admit_script(&self, batch: &Batch<'_>, call: Call, args: &Args<'_>) -> Result<(Named, usize), String> {
        let libraries = matches!(call.naming, Naming::Function).then(|| self.state.functions.load());
        let function =
            libraries.as_ref().map(|all| all.find(args.at(1)).ok_or("ERR Function not found")).transpose()?;
        let no_number = if function.is_some() { "ERR Bad number of keys provided" } else { commands::NOT_AN_INTEGER };
        let keys = args.integer(2).ok_or(no_number)?;
        if keys > args.len() as i64 - 3 {
            return Err("ERR Number of keys can't be greater than number of args".into());
        }
        let keys = usize::try_from(keys).map_err(|_| "ERR Number of keys can't be negative")?;
        let named = match (call.naming, function) {
            (_, Some((library, info))) => {
                with_engine(|engine| {
                    if engine.ensure(library, &mut Logging)? {
                        let set = self.state.functions.load();
                        engine.forget(|other| !set.has(other) && !Arc::ptr_eq(other, library));
                    }
                    Ok::<_, String>(())
                })??;
                Named::Function(Arc::clone(library), info.name.clone(), info.flags)
            }
            (Naming::Sha, _) => Named::Script(self.known(args.at(1), batch.now)?),
            _ => Named::Script(self.compiled(args.at(1), false, batch.now)?),
        };
        let Flags { declared, no_writes, allow_oom, .. } = named.flags();
        if declared && call.read_only && !no_writes {
            return Err("ERR Can not execute a script with write flag using *_ro command.".into());
        }
        if declared && !no_writes && !allow_oom && self.is_full(batch.now) {
            return Err(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'".into()
            );
        }
        Ok((named, keys))
    }

    /// Loads declared keys that are missing, where their routes say so. None: the script may run.
    fn fill_declared(
        &self,
        batch: &Batch<'_>,
        (args, keys): (&Args<'_>, usize),
        filled: Option<Filled>,
        out: &mut Output,
    ) -> Result<Option<Scripted>, Fill> {
        let Filled { loaded, round, .. } = filled.unwrap_or_default();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(line) => {
                Reply::new(out, self.client.version).error(&line);
                return Ok(Some(Scripted::Done));
            }
        };
        let (keyspace, db, sources) = (&self.state.keyspace, self.client.db(), self.state.sources.load());
        let wants = |key: &[u8]| sources.find(db as u32, key).is_some_and(|(route, _)| route.scripts);
        let declared = args.from(3).take(keys).filter(|key| wants(key)).map(|bytes| {
            let hash = keyspace.hash(bytes);
            Key { bytes, hash, shard: keyspace.shard_of(hash) }
        });
        let mut declared: Vec<_> = declared.collect();
        if declared.is_empty() {
            return Ok(None);
        }
        // Another script runs: it comes again.
        let Some(_visit) = self.state.gate.visit() else { return Ok(Some(Scripted::Barred)) };
        let mut locks = Locks::of(keyspace, declared.iter().map(|key| key.shard as u16).collect());
        locks.place(&mut declared);
        let mut shards = locks.shards();
        let view = View::new(&mut shards, &declared, db, batch.now, self.access(batch));
        let mut view = view.with_loaded(&loaded);
        if (0..view.len()).any(|key| !view.was_absent(key))
            && let Some(fill) = Fill::begin(self.state, &mut view, round, false, &(0..0))
        {
            return Err(fill);
        }
        Ok(None)
    }

    /// A script by its SHA-1, compiled.
    fn known(&self, sha: &[u8], now: i64) -> Result<Arc<Script>, String> {
        let exact = std::str::from_utf8(sha).ok();
        let known = exact.and_then(|sha| with_engine(|engine| engine.known(sha)).ok().flatten());
        let script = match known {
            Some(script) => script,
            None => {
                let script = self.state.scripts.get(sha).ok_or(NO_SCRIPT)?;
                with_engine(|engine| engine.compile(&script))??;
                script
            }
        };
        script.used_at.store(now, Ordering::Relaxed);
        Ok(script)
    }

    /// Past `maxmemory`, with nothing left to evict.
    fn is_full(&self, now: i64) -> bool {
        self.config.maxmemory > 0 && !self.state.make_room(self.config, 0, now)
    }

    fn progress(&self, batch: &Batch<'_>, call: Call, named: &Named) -> Progress {
        let flags = named.flags();
        Progress {
            access: self.access(batch),
            now: batch.now,
            read_only: call.read_only || flags.no_writes,
            is_full: !flags.allow_oom && self.is_full(batch.now),
            wrote: false,
            ready: Vec::new(),
            db: self.client.db(),
            is_function: matches!(named, Named::Function(..)),
        }
    }

    /// Runs what was begun, for a while at most.
    fn run_slice(&mut self, progress: &mut Progress, shards: Shards<'_, '_, '_>) -> Ran {
        let state = self.state;
        let is_function = progress.is_function;
        let (had_written, ends) = (progress.wrote, state.scripts.is_killed() || state.stopping.load(Ordering::Relaxed));
        let mut calls = Calls {
            state,
            config: self.config,
            client: self.client,
            stats: self.stats,
            garbage: self.garbage,
            shards,
            progress,
        };
        let ran = with_engine(|engine| {
            if ends {
                engine.end(if is_function { KILLED_FUNCTION } else { KILLED });
            }
            let ran = engine.go_on(&mut calls);
            calls.stats.lua_bytes.set(engine.memory() as u64);
            ran
        });
        calls.release();
        drop(calls);
        self.garbage.free();
        if ran == Ok(Ran::Paused) {
            state.gate.note_long();
            if progress.wrote && !had_written {
                state.scripts.note_write();
            }
        }
        ran.unwrap_or(Ran::Done)
    }

    #[cold]
    fn note_running(&self, named: &Named, args: &Args<'_>, progress: &Progress) {
        self.state.scripts.note_running(state::Running {
            name: named.name().to_owned(),
            is_function: progress.is_function,
            command: args.from(0).map(<[u8]>::to_vec).collect(),
            since: progress.now,
            wrote: progress.wrote,
        });
    }

    /// Answers, serves who waited for what a script changed, and lets the others in again.
    fn finish_script(&mut self, progress: Progress, alone: Alone, out: &mut Output) {
        take_reply(out);
        if self.client.db() != progress.db {
            self.client.select(progress.db);
        }
        if !progress.ready.is_empty() || self.state.gate.take_unsettled() {
            let by = Some(self.client.info.id);
            let around = Around { state: self.state, config: self.config, now: progress.now, by };
            block::settle_rest(around, progress.ready, self.garbage);
            self.garbage.free();
        }
        drop(alone);
    }
}

fn begin<'a>(named: &Named, keys: usize, words: impl Iterator<Item = &'a [u8]>, version: Version) -> bool {
    with_engine(|engine| engine.begin(named.program(), keys, words, version)).unwrap_or(false)
}

fn take_reply(out: &mut Output) {
    if let Ok(reply) = with_engine(Engine::take_reply) {
        out.append(reply);
    }
}
