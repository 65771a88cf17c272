//! TIME, LOLWUT, ROLE, SHUTDOWN and what a server without replicas, modules and files answers to those who ask for
//! them. Knows the server's state only.

use super::{Acl, Args, Ctx, Flags, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, help};
use crate::protocol::Reply;
use crate::{clock, version};
use std::sync::atomic::Ordering;

const ROW: Spec = Spec { group: "server", ..Spec::BASE };
const QUICK: Flags = Flags::LOADING.or(Flags::STALE).or(Flags::FAST);
const SAVES: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_ASYNC_LOADING);
const OPERATORS: Acl = Acl::ADMIN.or(Acl::DANGEROUS);
const LEAST: &[&str] = &["request_policy:all_shards", "response_policy:agg_min"];

const fn module(name: &'static str, arity: i32, since: &'static str) -> Spec {
    let summary = "Not available: there are no modules.";
    Spec { name, arity, flags: SAVES, since, summary, run: Run::Server(no_modules), ..ROW }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "time",
        arity: 1,
        flags: QUICK,
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Returns the time: seconds since the epoch, and microseconds of the second.",
        run: Run::Server(time),
        ..ROW
    },
    Spec {
        name: "lolwut",
        arity: -1,
        flags: Flags::READONLY.or(Flags::FAST),
        since: "5.0.0",
        syntax: "[VERSION version]",
        summary: "Shows a picture, and the version.",
        run: Run::Server(lolwut),
        ..ROW
    },
    Spec {
        name: "role",
        arity: 1,
        flags: QUICK.or(Flags::NOSCRIPT),
        acl: OPERATORS,
        since: "2.8.12",
        summary: "Returns the role in replication: master, without replicas.",
        run: Run::Server(role),
        ..ROW
    },
    Spec {
        name: "wait",
        arity: 3,
        flags: Flags::BLOCKING,
        acl: Acl::CONNECTION,
        tips: LEAST,
        group: "generic",
        since: "3.0.0",
        syntax: "numreplicas timeout",
        summary: "Returns how many replicas have the connection's writes: none, at once.",
        run: Run::Server(wait),
        ..ROW
    },
    Spec {
        name: "waitaof",
        arity: 4,
        flags: Flags::BLOCKING,
        acl: Acl::CONNECTION,
        tips: LEAST,
        group: "generic",
        since: "7.2.0",
        syntax: "numlocal numreplicas timeout",
        summary: "Returns how many append-only files have the connection's writes: none, at once.",
        run: Run::Server(waitaof),
        ..ROW
    },
    Spec {
        name: "lastsave",
        arity: 1,
        flags: QUICK,
        acl: OPERATORS,
        tips: &["nondeterministic_output"],
        summary: "Returns the time of the last save: the start of the server, since nothing is saved.",
        run: Run::Server(lastsave),
        ..ROW
    },
    Spec {
        name: "save",
        arity: 1,
        flags: SAVES.or(Flags::NO_MULTI),
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Not available: nothing is kept on disk.",
        run: Run::Server(no_persistence),
        ..ROW
    },
    Spec {
        name: "bgsave",
        arity: -1,
        flags: SAVES,
        syntax: "[SCHEDULE]",
        summary: "Not available: nothing is kept on disk.",
        run: Run::Server(no_persistence),
        ..ROW
    },
    Spec {
        name: "bgrewriteaof",
        arity: 1,
        flags: SAVES,
        summary: "Not available: nothing is kept on disk.",
        run: Run::Server(no_persistence),
        ..ROW
    },
    Spec {
        name: "shutdown",
        arity: -1,
        flags: Flags::ADMIN
            .or(Flags::NOSCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::NO_MULTI)
            .or(Flags::ALLOW_BUSY),
        syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, \
                     otherwise O(1)",
        summary: "Stops the server.",
        run: Run::Server(shutdown),
        ..ROW
    },
    Spec {
        name: "replicaof",
        arity: 3,
        flags: SAVES.or(Flags::STALE),
        since: "5.0.0",
        syntax: "<host port | NO ONE>",
        summary: "NO ONE: stays a master. A host is refused: replication is not available.",
        run: Run::Server(replicaof),
        ..ROW
    },
    Spec {
        name: "slaveof",
        arity: 3,
        flags: SAVES.or(Flags::STALE),
        syntax: "<host port | NO ONE>",
        summary: "The former name of REPLICAOF.",
        run: Run::Server(replicaof),
        ..ROW
    },
    Spec {
        name: "module",
        arity: -2,
        since: "4.0.0",
        complexity: "Depends on subcommand.",
        summary: "Modules, of which there are none.",
        run: Run::Container,
        ..ROW
    },
    help::row("module|help", "5.0.0"),
    Spec {
        name: "module|list",
        arity: 2,
        flags: Flags::ADMIN.or(Flags::NOSCRIPT),
        tips: &["nondeterministic_output_order"],
        since: "4.0.0",
        complexity: "O(N) where N is the number of loaded modules.",
        summary: "Returns the modules: none.",
        run: Run::Server(module_list),
        ..ROW
    },
    Spec { syntax: "path [arg [arg ...]]", ..module("module|load", -3, "4.0.0") },
    Spec {
        syntax: "path [CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]",
        ..module("module|loadex", -3, "7.0.0")
    },
    Spec { syntax: "name", ..module("module|unload", 3, "4.0.0") },
];

fn time(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let us = clock::now_us();
    reply.array(2);
    reply.bulk_integer(us / 1_000_000);
    reply.bulk_integer(us % 1_000_000);
    Outcome::Done
}

/// Columns and rows of the picture.
const WIDTH: usize = 44;
const DEPTH: usize = 9;

fn lolwut(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut text = String::new();
    let wanted = if args.len() > 2 && args.is(1, "version") {
        match args.integer(2) {
            Some(version) => version,
            None => return fail(reply, NOT_AN_INTEGER),
        }
    } else {
        8
    };
    if (5..=9).contains(&wanted) {
        text = cenote(ctx.now as u64);
        text.push('\n');
    }
    let redis = &ctx.state.config.load().redis_version;
    text += &format!("Redis ver. {redis}, Cenote ver. {}\n", version::CENOTE);
    reply.verbatim("txt", text.as_bytes());
    Outcome::Done
}

/// A well in the limestone, with ripples where something has just fallen in.
fn cenote(seed: u64) -> String {
    let drop = (seed / 7) as usize % (WIDTH - 16) + 8;
    let mut text = format!("{}  {}\n", "\"'".repeat(4), " ".repeat(WIDTH - 12) + &"'\"".repeat(5));
    for row in 0..DEPTH {
        // The walls lean outwards as the well goes down.
        let wall = 8usize.saturating_sub(row / 2 + row % 2);
        let inside = WIDTH - 2 * wall;
        let water: String = (0..inside)
            .map(|column| match row {
                0..=2 => ' ',
                3 => '~',
                _ => {
                    let distance = (column + wall).abs_diff(drop) + (row - 4) * 2;
                    if distance.is_multiple_of(5) && distance < 16 { '-' } else { ' ' }
                }
            })
            .collect();
        text += &format!("{}\\{water}/{}\n", "#".repeat(wall), "#".repeat(wall));
    }
    text
}

fn role(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(3);
    reply.text("master");
    reply.integer(0);
    reply.array(0);
    Outcome::Done
}

/// What is wrong with a timeout in ms, if anything.
fn bad_timeout(args: &Args<'_>, index: usize) -> Option<&'static str> {
    match args.integer(index) {
        None => Some("ERR timeout is not an integer or out of range"),
        Some(timeout) if timeout < 0 => Some("ERR timeout is negative"),
        Some(_) => None,
    }
}

fn wait(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.integer(1).is_none() {
        return fail(reply, NOT_AN_INTEGER);
    }
    if let Some(error) = bad_timeout(args, 2) {
        return fail(reply, error);
    }
    // No replica can come while the client waits, so there is nothing to wait for.
    reply.integer(0);
    Outcome::Done
}

fn waitaof(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(local) = args.integer(1) else { return fail(reply, NOT_AN_INTEGER) };
    if !(0..=1).contains(&local) {
        return fail(reply, "ERR value is out of range, value must between 0 and 1");
    }
    if args.integer(2).is_none_or(|replicas| replicas < 0) {
        return fail(reply, "ERR value is out of range, must be positive");
    }
    if let Some(error) = bad_timeout(args, 3) {
        return fail(reply, error);
    }
    if local > 0 {
        return fail(reply, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
    }
    reply.array(2);
    reply.integer(0);
    reply.integer(0);
    Outcome::Done
}

fn lastsave(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.started_at / 1000);
    Outcome::Done
}

fn no_persistence(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 1 && !(args.len() == 2 && args.is(1, "schedule")) {
        return fail(reply, SYNTAX_ERROR);
    }
    let name = String::from_utf8_lossy(args.at(0)).to_uppercase();
    fail(reply, &format!("ERR {name} is not available: Cenote keeps no data on disk"))
}

fn shutdown(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let [mut nosave, mut save, mut abort, mut force, mut now] = [false; 5];
    for index in 1..args.len() {
        let words = [("nosave", &mut nosave), ("save", &mut save), ("abort", &mut abort), ("force", &mut force)];
        match words.into_iter().find(|(word, _)| args.is(index, word)) {
            Some((_, seen)) => *seen = true,
            None if args.is(index, "now") => now = true,
            None => return fail(reply, SYNTAX_ERROR),
        }
    }
    if (save && nosave) || (abort && (save || nosave || force || now)) {
        return fail(reply, SYNTAX_ERROR);
    }
    if abort {
        return fail(reply, "ERR No shutdown in progress.");
    }
    let threshold = ctx.state.config.load().busy_reply_threshold;
    if !nosave && let Some(text) = ctx.state.scripts.busy(ctx.now, threshold) {
        return fail(reply, text);
    }
    if save && !force {
        let text = "ERR Errors trying to SHUTDOWN: Cenote keeps no data on disk. SHUTDOWN NOSAVE stops it.";
        return fail(reply, text);
    }
    ctx.state.hurried.fetch_or(now, Ordering::Relaxed);
    Outcome::Shutdown
}

fn replicaof(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.is(1, "no") && args.is(2, "one") {
        reply.ok();
        return Outcome::Done;
    }
    if args.integer(2).is_none_or(|port| !(0..=65535).contains(&port)) {
        return fail(reply, "ERR Invalid master port");
    }
    fail(reply, "ERR Replication is not available: Cenote is always a master (REPLICAOF NO ONE is accepted)")
}

fn no_modules(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = String::from_utf8_lossy(args.at(1)).to_uppercase();
    fail(reply, &format!("ERR MODULE {name} is not available: Cenote has no modules"))
}

fn module_list(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(0);
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_drawn_for_any_seed() {
        for seed in 0..300 {
            let text = cenote(seed);
            assert_eq!(text.lines().count(), DEPTH + 1);
            assert!(text.lines().skip(1).all(|line| line.len() == WIDTH + 2), "{text}");
        }
    }
}
