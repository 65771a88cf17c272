//! Writes to keys of a route: refused, taken to the database first, or followed by the keys that are void after them, as
//! the route says. Knows rows, routes and keys; nothing of how a database writes.
//!
//! A write through is never applied to the cache: once it is done, the cached copy goes, and what is being loaded of it
//! is void. The next read loads what the database has made of it, with its defaults and triggers. So two writers, or a
//! writer and an invalidation, cannot leave in the cache what the database no longer has; it costs one query. Where the
//! outcome is unknown, the copy goes as well.

use super::dispatch::{Batch, Dispatch, Wait};
use super::fill::Filled;
use crate::clock;
use crate::commands::{self, Args, Command, DataFn, Flags, KeyFlags, Later, Outcome};
use crate::keyspace::{self, Hash, Shard};
use crate::protocol::{Output, Reply};
use crate::source::{Params, Route, Sources, Verb, Write, WriteError, WriteMode};
use crate::state::State;
use bytes::Bytes;
use std::sync::Arc;

/// Keys of one DEL that may be written through, at most.
const THROUGH_MAX: usize = 1024;

/// From where a command comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// From a client.
    Nothing,
    /// From a transaction.
    Transaction,
    /// From a script.
    Script,
}

/// What a route has to say to a command.
pub(super) enum Judgement {
    /// It runs, and these keys are void after it.
    Runs(Vec<Dependent>),
    /// It is answered with this error.
    Refused(String),
    /// The database is written first.
    Through(Box<Through>),
}

impl Judgement {
    /// Why it does not run, for one that does not.
    pub(super) fn refusal(self) -> String {
        match self {
            Self::Refused(line) => line,
            Self::Runs(_) | Self::Through(_) => "ERR this write cannot run here".into(),
        }
    }
}

/// A key that is void after a write.
pub(super) struct Dependent {
    pub(super) hash: Hash,
    key: Vec<u8>,
}

/// A write that is to be taken to the database.
pub(super) struct Through {
    /// Checks the command and says what it answers, with its keys locked; nothing to check for DEL.
    pub(super) rehearse: Option<DataFn>,
    writes: Vec<(Arc<Route>, Write)>,
    /// Other keys of a DEL.
    others: Vec<Bytes>,
    dependents: Vec<Dependent>,
}

/// Finds out what the routes of a command's keys say. Costs one branch where no route says anything.
pub(super) fn judge(state: &State, db: usize, command: &Command, args: &Args<'_>, within: Within) -> Judgement {
    let spec = command.spec;
    if !state.sources.watches_writes() || !spec.flags.has(Flags::WRITE) || matches!(spec.write, commands::Write::Ttl) {
        return Judgement::Runs(Vec::new());
    }
    let sources = state.sources.load();
    let mut through = Vec::new();
    let (mut others, mut dependents, mut refused) = (Vec::new(), Vec::new(), None);
    spec.keys.each_with(spec.name, args, |index, flags| {
        let key = args.at(index);
        if flags.any(KeyFlags::RO.or(KeyFlags::NOT_KEY)) || refused.is_some() {
            return;
        }
        let Some((route, captures)) = sources.find(db as u32, key) else {
            others.push(index);
            return;
        };
        for dependent in &route.writes.invalidates {
            if let Some(key) = dependent.key(&captures, key) {
                dependents.push(Dependent { hash: state.keyspace.hash(&key), key });
            }
        }
        match route.writes.mode {
            WriteMode::Local => others.push(index),
            WriteMode::Reject => refused = Some(format!("ERR route '{}': its keys are not to be written", route.name)),
            WriteMode::Through => through.push((Arc::clone(route), captures.params(Bytes::copy_from_slice(key)))),
        }
    });
    if let Some(line) = refused {
        return Judgement::Refused(line);
    }
    let Some((first, _)) = through.first() else { return Judgement::Runs(dependents) };
    let name = &first.name;
    let within = match within {
        Within::Nothing => "",
        Within::Transaction => "a transaction",
        Within::Script => "a script",
    };
    if !within.is_empty() {
        return Judgement::Refused(format!("ERR route '{name}': a write to the database cannot be part of {within}"));
    }
    match writes(command, args, through) {
        Ok((writes, rehearse)) => {
            let others = others.into_iter().map(|index| Bytes::copy_from_slice(args.at(index))).collect();
            Judgement::Through(Box::new(Through { rehearse, writes, others, dependents }))
        }
        Err(line) => Judgement::Refused(line),
    }
}

type Writes = (Vec<(Arc<Route>, Write)>, Option<DataFn>);

/// What a command writes, and how it is rehearsed; or why it cannot be written.
fn writes(command: &Command, args: &Args<'_>, keys: Vec<(Arc<Route>, Params)>) -> Result<Writes, String> {
    let at = |index: usize| Bytes::copy_from_slice(args.at(index));
    let (verb, values, rehearse) = match command.spec.write {
        commands::Write::Set(index, rehearse) => (Verb::Set, vec![(Bytes::new(), at(index))], Some(rehearse)),
        commands::Write::Fields(rehearse) => {
            let pairs = (2..args.len().saturating_sub(1)).step_by(2);
            (Verb::Hset, pairs.map(|index| (at(index), at(index + 1))).collect(), Some(rehearse))
        }
        commands::Write::Delete => (Verb::Del, Vec::new(), None),
        commands::Write::Ttl | commands::Write::Other => {
            let (name, command) = (&keys[0].0.name, command.spec.name.to_uppercase());
            return Err(format!("ERR route '{name}': {command} cannot be written to the database"));
        }
    };
    if keys.len() > THROUGH_MAX {
        return Err(format!("ERR more than {THROUGH_MAX} keys to be deleted in the database"));
    }
    if let Some((route, _)) = keys.iter().find(|(route, _)| route.writes.statement(verb).is_none()) {
        return Err(format!("ERR route '{}': it has no statement '{}'", route.name, verb.name()));
    }
    let write = |(route, params)| (route, Write { verb, params, values: values.clone() });
    Ok((keys.into_iter().map(write).collect(), rehearse))
}

impl Dispatch<'_> {
    /// Runs a data command by itself, unless the routes of its keys say otherwise.
    pub(super) fn run_data(
        &mut self,
        batch: &Batch<'_>,
        (command, run): (&Command, DataFn),
        args: &Args<'_>,
        filled: Option<Filled>,
        out: &mut Output,
    ) -> Result<Outcome, Wait> {
        let through = match judge(self.state, self.client.db(), command, args, Within::Nothing) {
            Judgement::Runs(dependents) => {
                return self.run_locked(batch, (command, run), args, filled, &dependents, out);
            }
            Judgement::Refused(line) => {
                Reply::new(out, self.client.version).error(&line);
                return Ok(Outcome::Done);
            }
            Judgement::Through(through) => through,
        };
        let mut answer = Vec::new();
        if let Some(rehearse) = through.rehearse {
            let mark = out.mark();
            self.run_locked(batch, (command, rehearse), args, filled, &[], out)?;
            if out.is_error_since(mark) {
                return Ok(Outcome::Done);
            }
            answer.extend_from_slice(out.since(mark));
            out.truncate(mark);
        }
        Ok(Outcome::Later(through.begin(self.state, self.client.db(), answer)))
    }
}

impl Through {
    /// Begins the writes; `answer` is the reply once they are done (DEL counts). They go on if the client leaves.
    pub(super) fn begin(self, state: &Arc<State>, db: usize, answer: Vec<u8>) -> Later {
        let state = Arc::clone(state);
        let done = tokio::spawn(async move { self.run(&state, db).await });
        Later::new(async move {
            let done = done.await.unwrap_or_else(|_| Err(WriteError::Unknown.line("")));
            Box::new(move |reply: &mut Reply<'_>| match done {
                Ok(removed) if answer.is_empty() => reply.integer(removed),
                Ok(_) => reply.output().raw(&answer),
                Err(line) => reply.error(&line),
            }) as commands::Answer
        })
    }

    /// Runs the writes, all at once, and drops what is void after them. Returns how many keys were there.
    async fn run(self, state: &Arc<State>, db: usize) -> Result<i64, String> {
        let sources = state.sources.load_full();
        let under_way: Vec<_> = self
            .writes
            .into_iter()
            .map(|(route, write)| {
                let (state, sources) = (Arc::clone(state), Arc::clone(&sources));
                tokio::spawn(async move { one(&state, &sources, &route, write).await })
            })
            .collect();
        let (mut removed, mut failed, mut is_untouched) = (0, None, true);
        for write in under_way {
            match write.await {
                Ok(Ok(rows)) => (removed, is_untouched) = (removed + i64::from(rows > 0), false),
                Ok(Err((line, was_untouched))) => {
                    is_untouched &= was_untouched;
                    failed = failed.or(Some(line));
                }
                Err(_) => (failed, is_untouched) = (Some("ERR a write was given up".into()), false),
            }
        }
        if !is_untouched {
            for Dependent { hash, key } in &self.dependents {
                drop_key(state, db, *hash, key);
            }
        }
        if let Some(line) = failed {
            return Err(line);
        }
        for key in &self.others {
            removed += i64::from(drop_key(state, db, state.keyspace.hash(key), key));
        }
        Ok(removed)
    }
}

/// Runs one write, and drops the cached copies of its key unless nothing was written. Returns how many rows were, or the
/// error and whether it is certain that none was.
async fn one(state: &State, sources: &Sources, route: &Arc<Route>, write: Write) -> Result<u64, (String, bool)> {
    let key = write.params.key().clone();
    let result = sources.write(route, write).await;
    let is_untouched = matches!(&result, Err(error) if *error != WriteError::Unknown);
    if !is_untouched {
        let xid = result.as_ref().ok().and_then(|written| written.xid);
        state.invalidate(route, [&key], xid, clock::now_ms());
    }
    result.map(|written| written.rows).map_err(|error| (error.line(&route.name), is_untouched))
}

fn drop_key(state: &Arc<State>, db: usize, hash: Hash, key: &[u8]) -> bool {
    let now = clock::now_ms();
    let shard = state.keyspace.shard_of(hash);
    let mut locked = state.keyspace.lock(shard);
    let was_there = locked.void((db, hash, key), now);
    let mut garbage = std::mem::take(&mut locked.garbage);
    drop(locked);
    garbage.free();
    if keyspace::take_stirred() {
        super::block::settle_shard(state, shard, now);
    }
    was_there
}

/// Drops the keys that are void after a write, whose shards are locked; `place` finds them, in order.
pub(super) fn drop_dependents(
    dependents: &[Dependent],
    shards: &mut [&mut Shard],
    db: usize,
    now: i64,
    mut place: impl FnMut(Hash) -> usize,
) {
    for Dependent { hash, key } in dependents {
        shards[place(*hash)].void((db, *hash, key), now);
    }
}
