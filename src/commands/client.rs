//! CLIENT: what a connection may ask and set about itself, and do to others. Which others LIST and KILL mean, and
//! how they are shown, is in `client_list`. It must not know sockets.

use super::client_list::{info, kill, list};
use super::{Acl, Args, Ctx, Flags, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail};
use crate::keyspace::Ending;
use crate::protocol::Reply;
use crate::state::ReplyMode;
use std::sync::atomic::{AtomicBool, Ordering};

const PLAIN: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "client",
        arity: -2,
        group: "connection",
        since: "2.4.0",
        complexity: "Depends on subcommand.",
        summary: "Asks and says things about connections.",
        ..Spec::BASE
    },
    Spec {
        name: "client|id",
        arity: 2,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "5.0.0",
        summary: "Tells the connection's number.",
        run: Run::Server(id),
        ..Spec::BASE
    },
    Spec {
        name: "client|getname",
        arity: 2,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "2.6.9",
        summary: "Tells the connection's name.",
        run: Run::Server(get_name),
        ..Spec::BASE
    },
    Spec {
        name: "client|setname",
        arity: 3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        group: "connection",
        since: "2.6.9",
        syntax: "connection-name",
        summary: "Gives the connection a name; an empty one takes it away.",
        run: Run::Server(super::connection::client_set_name),
        ..Spec::BASE
    },
    Spec {
        name: "client|setinfo",
        arity: 4,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        group: "connection",
        since: "7.2.0",
        syntax: "<LIB-NAME libname | LIB-VER libver>",
        summary: "Notes which client library the connection uses.",
        run: Run::Server(set_info),
        ..Spec::BASE
    },
    Spec {
        name: "client|info",
        arity: 2,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        tips: &["nondeterministic_output"],
        group: "connection",
        since: "6.2.0",
        summary: "Describes the connection as CLIENT LIST does.",
        run: Run::Server(info),
        ..Spec::BASE
    },
    Spec {
        name: "client|list",
        arity: -2,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        tips: &["nondeterministic_output"],
        group: "connection",
        since: "2.4.0",
        syntax: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]] [USER username] [ADDR \
                 ip:port] [LADDR ip:port] [SKIPME <YES | NO>] [MAXAGE maxage] [NAME name] [IDLE idle] [FLAGS flags] \
                 [LIB-NAME lib-name] [LIB-VER lib-ver] [DB db] [CAPA capa] [IP ip] [NOT-TYPE <NORMAL | MASTER | \
                 REPLICA | PUBSUB>] [NOT-ID client-id [client-id ...]] [NOT-USER username] [NOT-ADDR ip:port] \
                 [NOT-LADDR ip:port] [NOT-NAME name] [NOT-FLAGS flags] [NOT-LIB-NAME lib-name] [NOT-LIB-VER lib-ver] \
                 [NOT-DB db] [NOT-CAPA capa] [NOT-IP ip]",
        complexity: "O(N) where N is the number of client connections",
        summary: "Describes the connections, or some of them.",
        run: Run::Server(list),
        ..Spec::BASE
    },
    Spec {
        name: "client|kill",
        arity: -3,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "2.4.0",
        syntax: "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | \
                 [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]> [<[ID client-id] | [TYPE \
                 <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | \
                 [SKIPME <YES | NO>] | [MAXAGE maxage]> ...]>",
        complexity: "O(N) where N is the number of client connections",
        summary: "Closes connections.",
        run: Run::Server(kill),
        ..Spec::BASE
    },
    Spec {
        name: "client|pause",
        arity: -3,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "3.0.0",
        syntax: "timeout [WRITE | ALL]",
        summary: "Makes commands wait for a time.",
        run: Run::Server(pause),
        ..Spec::BASE
    },
    Spec {
        name: "client|unpause",
        arity: 2,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Ends CLIENT PAUSE.",
        run: Run::Server(unpause),
        ..Spec::BASE
    },
    Spec {
        name: "client|reply",
        arity: 3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "3.2.0",
        syntax: "<ON | OFF | SKIP>",
        summary: "Says whether replies are wanted.",
        run: Run::Server(reply_mode),
        ..Spec::BASE
    },
    Spec {
        name: "client|no-evict",
        arity: 3,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "7.0.0",
        syntax: "<ON | OFF>",
        summary: "Keeps the connection from being closed to save memory.",
        run: Run::Server(no_evict),
        ..Spec::BASE
    },
    Spec {
        name: "client|no-touch",
        arity: 3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "7.2.0",
        syntax: "<ON | OFF>",
        summary: "Lets the connection's commands leave no trace in the keys' LRU and LFU data.",
        run: Run::Server(no_touch),
        ..Spec::BASE
    },
    Spec {
        name: "client|unblock",
        arity: -3,
        flags: PLAIN.or(Flags::ADMIN),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "5.0.0",
        syntax: "client-id [TIMEOUT | ERROR]",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Ends the wait of another connection's blocking command.",
        run: Run::Server(unblock),
        ..Spec::BASE
    },
    Spec {
        name: "client|capa",
        arity: -3,
        flags: PLAIN.or(Flags::ALLOW_BUSY),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "8.0.0",
        syntax: "capability [capability ...]",
        summary: "Notes what the client can do.",
        run: Run::Server(capabilities),
        ..Spec::BASE
    },
    Spec {
        name: "client|import-source",
        arity: 3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "8.1.0",
        syntax: "<ON | OFF>",
        summary: "Marks the connection as one that imports keys: in import mode it sees what has expired.",
        run: Run::Server(import_source),
        ..Spec::BASE
    },
    Spec {
        name: "client|help",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::CONNECTION,
        group: "connection",
        since: "5.0.0",
        summary: "Lists the subcommands.",
        run: Run::Server(help),
        ..Spec::BASE
    },
];

fn id(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.client.info.id as i64);
    Outcome::Done
}

fn get_name(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let labels = ctx.client.info.labels.lock();
    if labels.name.is_empty() {
        reply.null()
    } else {
        reply.text(&labels.name)
    }
    Outcome::Done
}

fn set_info(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (is_name, value) = (args.is(2, "LIB-NAME"), args.at(3));
    if !is_name && !args.is(2, "LIB-VER") {
        reply.error_bytes(&[b"ERR Unrecognized option '", args.at(2), b"'"].concat());
        return Outcome::Done;
    }
    if !super::connection::is_plain_word(value) {
        let text = b" cannot contain spaces, newlines or special characters.";
        reply.error_bytes(&[b"ERR ", args.at(2), text.as_slice()].concat());
        return Outcome::Done;
    }
    let value = String::from_utf8_lossy(value).into_owned();
    let mut labels = ctx.client.info.labels.lock();
    *(if is_name { &mut labels.lib_name } else { &mut labels.lib_ver }) = value;
    drop(labels);
    reply.ok();
    Outcome::Done
}

fn pause(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 4 {
        return subcommand_syntax(args, reply);
    }
    let writes_only = args.is(3, "WRITE");
    if args.len() == 4 && !writes_only && !args.is(3, "ALL") {
        return fail(reply, "ERR CLIENT PAUSE mode must be WRITE or ALL");
    }
    match args.integer(2) {
        None => return fail(reply, "ERR timeout is not an integer or out of range"),
        Some(timeout) if timeout < 0 => return fail(reply, "ERR timeout is negative"),
        Some(timeout) => match timeout.checked_add(ctx.now) {
            None => return fail(reply, "ERR timeout is out of range"),
            Some(until) => ctx.state.pause.begin(until, writes_only, ctx.now),
        },
    }
    reply.ok();
    Outcome::Done
}

fn unpause(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.unpause();
    reply.ok();
    Outcome::Done
}

fn reply_mode(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.is(2, "ON") {
        ctx.client.reply_mode = ReplyMode::On;
        reply.ok();
    } else if args.is(2, "OFF") {
        ctx.client.reply_mode = ReplyMode::Off;
    } else if args.is(2, "SKIP") {
        if ctx.client.reply_mode != ReplyMode::Off {
            ctx.client.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        reply.error(SYNTAX_ERROR);
    }
    Outcome::Done
}

/// Sets a flag to what argument 2 says: ON or OFF.
fn set_flag(flag: &AtomicBool, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let on = args.is(2, "ON");
    if !on && !args.is(2, "OFF") {
        return fail(reply, SYNTAX_ERROR);
    }
    flag.store(on, Ordering::Relaxed);
    reply.ok();
    Outcome::Done
}

fn no_evict(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_flag(&ctx.client.info.no_evict, args, reply)
}

fn no_touch(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_flag(&ctx.client.info.no_touch, args, reply)
}

fn unblock(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 4 {
        return subcommand_syntax(args, reply);
    }
    if args.len() == 4 && !args.is(3, "TIMEOUT") && !args.is(3, "ERROR") {
        return fail(reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    }
    let Some(id) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    // What waits for a load or a pause cannot be unblocked.
    let client = u64::try_from(id).ok().and_then(|id| ctx.state.clients.get(id));
    let how = if args.is(3, "ERROR") { Ending::Unblocked } else { Ending::Timeout };
    reply.integer(client.is_some_and(|client| client.end_wait(how)).into());
    Outcome::Done
}

fn capabilities(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    // Unknown ones are no fault: a client tells all it can.
    if (2..args.len()).any(|index| args.is(index, "REDIRECT")) {
        ctx.client.info.capa_redirect.store(true, Ordering::Relaxed);
    }
    reply.ok();
    Outcome::Done
}

fn import_source(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.is(2, "OFF") && !ctx.state.config.load().limits.import_mode {
        return fail(reply, "ERR Server is not in import mode");
    }
    set_flag(&ctx.client.info.import_source, args, reply)
}

/// The error of too many arguments, where the row's arity does not catch them.
fn subcommand_syntax(args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    super::help::wrong_subcommand("CLIENT", args, reply)
}

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Track the keys of the next command, or not. Needs TRACKING.",
    "CAPA <capability> [<capability> ...]",
    "    Tell what the client can do.",
    "GETNAME",
    "    The name of this connection.",
    "GETREDIR",
    "    The connection that gets this one's invalidation messages.",
    "ID",
    "    The number of this connection.",
    "IMPORT-SOURCE (ON|OFF)",
    "    Mark this connection as one that imports data.",
    "INFO",
    "    This connection as LIST shows it.",
    "KILL <ip:port>",
    "    Close the connection from this address.",
    "KILL <filter> <value> [<filter> <value> [...]]",
    "    Close all connections that pass the filters; see LIST. SKIPME is yes unless given.",
    "LIST [<filter> <value> [...]]",
    "    Show all connections that pass the filters:",
    "    * ID <client-id> [<client-id> ...]",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "    * ADDR <ip:port>, LADDR <ip:port>, IP <ip>",
    "    * USER <username>, NAME <name>, LIB-NAME <name>, LIB-VER <version>",
    "    * DB <index>, FLAGS <letters>, CAPA <letters>",
    "    * MAXAGE <seconds>, IDLE <seconds>: at least so old, at least so long idle",
    "    * SKIPME (YES|NO): leave this connection out",
    "    All but the last two lines also with NOT- in front.",
    "NO-EVICT (ON|OFF)",
    "    Do not close this connection to save memory.",
    "NO-TOUCH (ON|OFF)",
    "    Leave no trace of this connection's commands in the keys' LRU and LFU data.",
    "PAUSE <milliseconds> [WRITE|ALL]",
    "    Make all commands, or those that write, wait.",
    "REPLY (ON|OFF|SKIP)",
    "    Send replies, none, or all but the next.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tell the client library's name or version.",
    "SETNAME <name>",
    "    Name this connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
    "    Invalidation messages for client-side caching.",
    "TRACKINGINFO",
    "    How this connection tracks keys.",
    "UNBLOCK <client-id> [TIMEOUT|ERROR]",
    "    End the wait of a blocking command.",
    "UNPAUSE",
    "    End PAUSE.",
    "HELP",
    "    This text.",
];

fn help(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Outcome::Done
}
