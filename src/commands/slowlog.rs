//! COMMANDLOG, and SLOWLOG, its oldest part: the commands that took long, came in large requests or had large replies.
//! What gets in is dispatch's business.

use super::{Args, Ctx, Flags, Outcome, Run, Spec, fail, help};
use crate::protocol::Reply;
use crate::state::Slowlog;

const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
    group: "server",
    since: "2.2.12",
    ..Spec::BASE
};
const COMMANDLOG: Spec = Spec { arity: 3, since: "8.1.0", ..ROW };

/// Entries that SLOWLOG GET returns unless told.
const DEFAULT_COUNT: usize = 10;

const GET_TIPS: &[&str] = &["request_policy:all_nodes", "nondeterministic_output"];
const LEN_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
const RESET_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "commandlog",
        arity: -2,
        flags: Flags::NONE,
        complexity: "Depends on subcommand.",
        summary: "Shows the commands that took long, were large, or had large replies.",
        run: Run::Container,
        ..COMMANDLOG
    },
    Spec {
        name: "commandlog|get",
        arity: 4,
        tips: GET_TIPS,
        syntax: "count <SLOW | LARGE-REQUEST | LARGE-REPLY>",
        complexity: "O(N) where N is the number of entries returned",
        summary: "Returns the newest entries of a log (all for -1): \
                  id, time, microseconds or bytes, command, client's address and name.",
        run: Run::Server(commandlog_get),
        ..COMMANDLOG
    },
    help::row("commandlog|help", "8.1.0"),
    Spec {
        name: "commandlog|len",
        tips: LEN_TIPS,
        syntax: "<SLOW | LARGE-REQUEST | LARGE-REPLY>",
        summary: "Returns the number of entries of a log.",
        run: Run::Server(commandlog_len),
        ..COMMANDLOG
    },
    Spec {
        name: "commandlog|reset",
        tips: RESET_TIPS,
        syntax: "<SLOW | LARGE-REQUEST | LARGE-REPLY>",
        complexity: "O(N) where N is the number of entries in the commandlog",
        summary: "Forgets all entries of a log.",
        run: Run::Server(commandlog_reset),
        ..COMMANDLOG
    },
    Spec {
        name: "slowlog",
        arity: -2,
        flags: Flags::NONE,
        complexity: "Depends on subcommand.",
        summary: "Shows the commands that took long.",
        run: Run::Container,
        ..ROW
    },
    Spec {
        name: "slowlog|get",
        arity: -2,
        tips: GET_TIPS,
        syntax: "[count]",
        complexity: "O(N) where N is the number of entries returned",
        summary: "Returns the newest entries (10 unless told, all for -1): \
                  id, time, microseconds, command, client's address and name.",
        run: Run::Server(get),
        ..ROW
    },
    help::row("slowlog|help", "6.2.0"),
    Spec {
        name: "slowlog|len",
        tips: LEN_TIPS,
        summary: "Returns the number of entries.",
        run: Run::Server(len),
        ..ROW
    },
    Spec {
        name: "slowlog|reset",
        tips: RESET_TIPS,
        complexity: "O(N) where N is the number of entries in the slowlog",
        summary: "Forgets all entries.",
        run: Run::Server(reset),
        ..ROW
    },
];

const BAD_COUNT: &str = "ERR count should be greater than or equal to -1";
const BAD_TYPE: &str = "ERR type should be one of the following: slow, large-request, large-reply";

/// The log that an argument names.
fn named<'a>(ctx: &Ctx<'a>, args: &Args<'_>, index: usize) -> Option<&'a Slowlog> {
    let logs = &ctx.state.command_logs;
    let all = [("slow", &logs.slow), ("large-request", &logs.large_requests), ("large-reply", &logs.large_replies)];
    all.into_iter().find(|(name, _)| args.is(index, name)).map(|(_, log)| log)
}

fn count(args: &Args<'_>) -> Option<usize> {
    match args.integer(2)? {
        -1 => Some(usize::MAX),
        count => usize::try_from(count).ok(),
    }
}

fn commandlog_get(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(count) = count(args) else { return fail(reply, BAD_COUNT) };
    let Some(log) = named(ctx, args, 3) else { return fail(reply, BAD_TYPE) };
    entries(log, count, reply)
}

fn commandlog_len(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(log) = named(ctx, args, 2) else { return fail(reply, BAD_TYPE) };
    reply.integer(log.len() as i64);
    Outcome::Done
}

fn commandlog_reset(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(log) = named(ctx, args, 2) else { return fail(reply, BAD_TYPE) };
    log.reset();
    reply.ok();
    Outcome::Done
}

fn get(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = match args.len() {
        2 => Some(DEFAULT_COUNT),
        3 => count(args),
        _ => return help::wrong_subcommand("SLOWLOG", args, reply),
    };
    let Some(count) = count else { return fail(reply, BAD_COUNT) };
    entries(&ctx.state.command_logs.slow, count, reply)
}

fn entries(log: &Slowlog, count: usize, reply: &mut Reply<'_>) -> Outcome {
    let entries = log.newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.at);
        reply.integer(entry.figure as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.text(&entry.addr);
        reply.text(&entry.name);
    }
    Outcome::Done
}

fn len(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.command_logs.slow.len() as i64);
    Outcome::Done
}

fn reset(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.command_logs.slow.reset();
    reply.ok();
    Outcome::Done
}
