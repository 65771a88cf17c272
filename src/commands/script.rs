//! EVAL and its kin, and SCRIPT. How a script runs is in `exec/script`; it must not know Lua.

use super::{Acl, Args, Ctx, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, Spec, fail, help};
use crate::protocol::Reply;
use crate::state::Kill;

/// How a command names its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its text.
    Text,
    /// By its SHA-1.
    Sha,
    /// By the name of a library's function.
    Function,
}

/// What code is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// SCRIPT LOAD.
    Script,
    /// FUNCTION LOAD.
    Library,
    /// FUNCTION RESTORE.
    Dump,
}

/// Which script to run, and whether it may write.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// How it is named.
    pub naming: Naming,
    /// It may not write.
    pub read_only: bool,
}

pub(super) const fn call(naming: Naming, read_only: bool) -> Run {
    Run::Script(Call { naming, read_only })
}

pub(super) const EVAL_FLAGS: Flags =
    Flags::NOSCRIPT.or(Flags::STALE).or(Flags::SKIP_MONITOR).or(Flags::NO_MANDATORY_KEYS).or(Flags::MOVABLEKEYS);
pub(super) const WRITES: Keys =
    Keys::Specs(&[KeySpec::numbered(2, 1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))]);
pub(super) const READS: Keys = Keys::Specs(&[KeySpec::numbered(2, 1, KeyFlags::RO.or(KeyFlags::ACCESS))]);
const ROW: Spec = Spec {
    arity: -3,
    flags: EVAL_FLAGS.or(Flags::MAY_REPLICATE),
    acl: Acl::SCRIPTING,
    keys: WRITES,
    group: "scripting",
    since: "2.6.0",
    complexity: "Depends on the script that is executed.",
    ..Spec::BASE
};
const SUB: Spec = Spec { flags: Flags::NOSCRIPT, keys: Keys::None, complexity: "O(1)", ..ROW };
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "eval",
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script.",
        run: call(Naming::Text, false),
        ..ROW
    },
    Spec {
        name: "evalsha",
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script that was loaded before.",
        run: call(Naming::Sha, false),
        ..ROW
    },
    Spec {
        name: "eval_ro",
        flags: EVAL_FLAGS.or(Flags::READONLY),
        keys: READS,
        since: "7.0.0",
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script that may not write.",
        run: call(Naming::Text, true),
        ..ROW
    },
    Spec {
        name: "evalsha_ro",
        flags: EVAL_FLAGS.or(Flags::READONLY),
        keys: READS,
        since: "7.0.0",
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a Lua script that was loaded before and may not write.",
        run: call(Naming::Sha, true),
        ..ROW
    },
    Spec {
        name: "script",
        arity: -2,
        flags: Flags::NONE,
        acl: Acl::NONE,
        complexity: "Depends on subcommand.",
        summary: "Keeps and shows scripts.",
        run: Run::Container,
        ..SUB
    },
    Spec {
        name: "script|debug",
        arity: 3,
        since: "3.2.0",
        syntax: "<YES | SYNC | NO>",
        summary: "Turns the debugger off; there is none.",
        run: Run::Server(debug),
        ..SUB
    },
    Spec {
        name: "script|exists",
        arity: -3,
        flags: Flags::NOSCRIPT.or(Flags::STALE),
        tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
        syntax: "sha1 [sha1 ...]",
        complexity: "O(N) with N being the number of scripts to check (so checking a single script is an O(1) \
                     operation).",
        summary: "Tells which scripts are loaded.",
        run: Run::Server(exists),
        ..SUB
    },
    Spec {
        name: "script|flush",
        arity: -2,
        flags: Flags::NOSCRIPT.or(Flags::STALE),
        tips: ALL_NODES,
        syntax: "[ASYNC | SYNC]",
        complexity: "O(N) with N being the number of scripts in cache",
        summary: "Forgets all scripts.",
        run: Run::Server(flush),
        ..SUB
    },
    Spec { acl: Acl::SCRIPTING, group: "scripting", ..help::row("script|help", "5.0.0") },
    Spec {
        name: "script|kill",
        arity: 2,
        flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        summary: "Ends a script that has run for long and has not written.",
        run: Run::Server(kill),
        ..SUB
    },
    Spec {
        name: "script|load",
        arity: 3,
        flags: Flags::NOSCRIPT.or(Flags::STALE),
        tips: ALL_NODES,
        syntax: "script",
        complexity: "O(N) with N being the length in bytes of the script body.",
        summary: "Compiles a script and keeps it for EVALSHA.",
        run: Run::Load(Load::Script),
        ..SUB
    },
    Spec {
        name: "script|show",
        arity: 3,
        flags: Flags::NOSCRIPT.or(Flags::STALE),
        since: "8.0.0",
        syntax: "sha1",
        summary: "Returns the text of a script.",
        run: Run::Server(show),
        ..SUB
    },
];

fn exists(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(args.len() - 2);
    args.from(2).for_each(|sha| reply.integer(ctx.state.scripts.get(sha).is_some().into()));
    Outcome::Done
}

fn debug(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match () {
        () if args.is(2, "no") => reply.ok(),
        () if args.is(2, "yes") || args.is(2, "sync") => reply.error("ERR there is no script debugger"),
        () => reply.error("ERR Use SCRIPT DEBUG YES/SYNC/NO"),
    }
    Outcome::Done
}

fn flush(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 || args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return fail(reply, "ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    }
    ctx.state.scripts.flush();
    reply.ok();
    Outcome::Done
}

fn kill(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    kill_running(ctx, false, reply)
}

/// Ends what has run for long: a function, or else a script.
pub(super) fn kill_running(ctx: &mut Ctx<'_>, function: bool, reply: &mut Reply<'_>) -> Outcome {
    let threshold = ctx.state.config.load().busy_reply_threshold;
    match ctx.state.scripts.kill(function, ctx.now, threshold) {
        Kill::Other => {
            if let Some(text) = ctx.state.scripts.busy(ctx.now, threshold) {
                reply.error(text);
            }
        }
        Kill::Ends => reply.ok(),
        Kill::NotBusy => reply.error("NOTBUSY No scripts in execution right now."),
        Kill::Wrote => reply.error(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ),
    }
    Outcome::Done
}

fn show(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match ctx.state.scripts.get(args.at(2)) {
        Some(script) => reply.bulk(&script.body),
        None => reply.error("NOSCRIPT No matching script."),
    }
    Outcome::Done
}
