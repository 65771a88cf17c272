//! SLOWLOG: the commands that took long. What gets in is dispatch's business.

use super::{Args, Ctx, Flags, Outcome, Run, Spec, fail, help};
use crate::protocol::Reply;

const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE),
    group: "server",
    since: "2.2.12",
    ..Spec::BASE
};

/// Entries that GET returns unless told.
const DEFAULT_COUNT: usize = 10;

pub(super) const COMMANDS: &[Spec] = &[
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
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
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
        tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        summary: "Returns the number of entries.",
        run: Run::Server(len),
        ..ROW
    },
    Spec {
        name: "slowlog|reset",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        complexity: "O(N) where N is the number of entries in the slowlog",
        summary: "Forgets all entries.",
        run: Run::Server(reset),
        ..ROW
    },
];

fn get(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = match args.len() {
        2 => DEFAULT_COUNT,
        3 => match args.integer(2) {
            Some(-1) => usize::MAX,
            Some(count) if count >= 0 => count as usize,
            _ => return fail(reply, "ERR count should be greater than or equal to -1"),
        },
        _ => return help::wrong_subcommand("SLOWLOG", args, reply),
    };
    let entries = ctx.state.slowlog.newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.at);
        reply.integer(entry.duration_us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.text(&entry.addr);
        reply.text(&entry.name);
    }
    Outcome::Done
}

fn len(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.slowlog.len() as i64);
    Outcome::Done
}

fn reset(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.slowlog.reset();
    reply.ok();
    Outcome::Done
}
