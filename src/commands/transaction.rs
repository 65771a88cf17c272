//! MULTI, DISCARD, WATCH and UNWATCH; what EXEC does is in `exec/multi`. It must not know locks or sockets.

use super::{Acl, Args, Ctx, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, Spec, fail};
use crate::protocol::Reply;
use crate::state::Watching;
use std::sync::atomic::Ordering;

const STEADY: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const QUICK: Flags = STEADY.or(Flags::FAST).or(Flags::ALLOW_BUSY);
const ROW: Spec = Spec { acl: Acl::TRANSACTION, group: "transactions", flags: QUICK, ..Spec::BASE };

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "multi",
        arity: 1,
        since: "1.2.0",
        summary: "Keeps the commands that follow, until EXEC runs them as one.",
        run: Run::Server(multi),
        ..ROW
    },
    Spec {
        name: "exec",
        arity: 1,
        flags: STEADY.or(Flags::SKIP_SLOWLOG),
        since: "1.2.0",
        complexity: "Depends on commands in the transaction",
        summary: "Runs the commands since MULTI, unless a watched key has changed.",
        run: Run::Exec,
        ..ROW
    },
    Spec {
        name: "discard",
        arity: 1,
        since: "2.0.0",
        complexity: "O(N), when N is the number of queued commands",
        summary: "Forgets the commands since MULTI, and the watched keys.",
        run: Run::Server(discard),
        ..ROW
    },
    Spec {
        name: "watch",
        arity: -2,
        keys: Keys::Specs(&[KeySpec::range(1, -1, 1, KeyFlags::RO)]),
        // A key that is loaded later would have changed.
        fill: Fill::Before,
        since: "2.2.0",
        syntax: "key [key ...]",
        complexity: "O(1) for every key.",
        summary: "Makes the next EXEC depend on it that these keys do not change before.",
        run: Run::Server(watch),
        ..ROW
    },
    Spec {
        name: "unwatch",
        arity: 1,
        since: "2.2.0",
        summary: "Forgets the watched keys.",
        run: Run::Server(unwatch),
        ..ROW
    },
];

fn multi(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if ctx.client.multi.is_some() {
        return fail(reply, "ERR MULTI calls can not be nested");
    }
    ctx.client.set_multi(Some(Box::default()));
    reply.ok();
    Outcome::Done
}

fn discard(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if ctx.client.multi.is_none() {
        return fail(reply, "ERR DISCARD without MULTI");
    }
    ctx.client.set_multi(None);
    ctx.client.unwatch(&ctx.state.keyspace);
    reply.ok();
    Outcome::Done
}

fn watch(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if ctx.client.multi.is_some() {
        return fail(reply, "ERR WATCH inside MULTI is not allowed");
    }
    let db = ctx.client.db();
    let watching: &mut Watching = ctx.client.watching.get_or_insert_default();
    args.from(1).for_each(|key| watching.add(&ctx.state.keyspace, db, key, ctx.now));
    ctx.client.info.watched.store(watching.keys.len() as u32, Ordering::Relaxed);
    reply.ok();
    Outcome::Done
}

fn unwatch(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    // In EXEC nothing is watched any more.
    ctx.client.unwatch(&ctx.state.keyspace);
    reply.ok();
    Outcome::Done
}
