//! PING, ECHO, SELECT and the other commands that a connection says of itself.

use super::{Acl, Args, Ctx, Flags, Outcome, Run, Spec, fail};
use crate::protocol::Reply;

const QUICK: Flags = Flags::FAST.or(Flags::LOADING).or(Flags::STALE);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "ping",
        arity: -1,
        flags: Flags::FAST,
        acl: Acl::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        group: "connection",
        syntax: "[message]",
        summary: "Answers PONG, or the message.",
        run: Run::Server(ping),
        ..Spec::BASE
    },
    Spec {
        name: "echo",
        arity: 2,
        flags: QUICK,
        acl: Acl::CONNECTION,
        group: "connection",
        syntax: "message",
        summary: "Answers the message.",
        run: Run::Server(echo),
        ..Spec::BASE
    },
    Spec {
        name: "select",
        arity: 2,
        flags: QUICK,
        acl: Acl::CONNECTION,
        group: "connection",
        syntax: "index",
        summary: "Changes the connection's database.",
        run: Run::Server(select),
        ..Spec::BASE
    },
    Spec {
        name: "quit",
        arity: -1,
        flags: QUICK.or(Flags::NOSCRIPT).or(Flags::NO_AUTH).or(Flags::ALLOW_BUSY),
        acl: Acl::CONNECTION,
        group: "connection",
        summary: "Closes the connection.",
        run: Run::Server(quit),
        ..Spec::BASE
    },
];

fn ping(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.at(1)),
        _ => reply.error("ERR wrong number of arguments for 'ping' command"),
    }
    Outcome::Done
}

fn echo(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(args.at(1));
    Outcome::Done
}

fn select(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(index) = args.integer(1).and_then(|index| i32::try_from(index).ok()) else {
        return fail(reply, "ERR invalid DB index");
    };
    match usize::try_from(index) {
        Ok(db) if db < ctx.state.keyspace.databases() => {
            ctx.client.select(db);
            reply.ok();
            Outcome::Done
        }
        _ => fail(reply, "ERR DB index is out of range"),
    }
}

fn quit(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.ok();
    Outcome::Close
}
