//! PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT: what a connection says of itself. It must not know keys.

use super::{Acl, Args, Ctx, Flags, NOT_AN_INTEGER, Outcome, Run, Spec, fail};
use crate::protocol::{Reply, Version, parse_i64};
use crate::state::acl::{Context, Reason};
use crate::state::{DEFAULT_USER, ReplyMode, TrackingOptions};
use std::sync::atomic::Ordering;

const QUICK: Flags = Flags::FAST.or(Flags::LOADING).or(Flags::STALE);
const HANDSHAKE: Flags = QUICK.or(Flags::NOSCRIPT).or(Flags::NO_AUTH).or(Flags::ALLOW_BUSY);

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
        flags: HANDSHAKE,
        acl: Acl::CONNECTION,
        group: "connection",
        summary: "Ends the connection, once it has its replies.",
        run: Run::Server(quit),
        ..Spec::BASE
    },
    Spec {
        name: "auth",
        arity: -2,
        flags: HANDSHAKE,
        acl: Acl::CONNECTION,
        group: "connection",
        syntax: "[username] password",
        complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Shows the password, so that commands are allowed.",
        run: Run::Server(auth),
        ..Spec::BASE
    },
    Spec {
        name: "hello",
        arity: -1,
        flags: HANDSHAKE,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.0.0",
        syntax: "[protover [AUTH username password] [SETNAME clientname]]",
        summary: "Chooses the protocol's version, authenticates, and tells about the server.",
        run: Run::Server(hello),
        ..Spec::BASE
    },
    Spec {
        name: "reset",
        arity: 1,
        flags: HANDSHAKE,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.2.0",
        summary: "Makes the connection as if it were new.",
        run: Run::Server(reset),
        ..Spec::BASE
    },
];

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
                           Are you sure your configuration is correct?";
const HELLO_NEEDS_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
                                HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
                                select the RESP protocol version at the same time";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn ping(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        1 | 2 if ctx.client.is_subscriber() && !reply.is_v3() => return super::pubsub::pong(args, reply),
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
    let Some(index) = args.integer(1) else { return fail(reply, NOT_AN_INTEGER) };
    if i32::try_from(index).is_err() {
        return fail(reply, "ERR value is out of range, value must between -2147483648 and 2147483647");
    }
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

fn auth(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (user, password) = match args.len() {
        2 if ctx.state.acl.has_no_password() => return fail(reply, NO_PASSWORD),
        2 => (DEFAULT_USER.as_bytes(), args.at(1)),
        3 => (args.at(1), args.at(2)),
        _ => return fail(reply, super::SYNTAX_ERROR),
    };
    if !authenticate(ctx, args.at(0), user, password) {
        return fail(reply, WRONG_PASSWORD);
    }
    reply.ok();
    Outcome::Done
}

/// Authenticates the connection; a failure leaves it as it was.
fn authenticate(ctx: &mut Ctx<'_>, command: &[u8], user: &[u8], password: &[u8]) -> bool {
    if ctx.state.log_in(ctx.client, user, password) {
        return true;
    }
    ctx.state.acl.refused.auth.fetch_add(1, Ordering::Relaxed);
    let context = if ctx.client.multi.is_some() { Context::Multi } else { Context::TopLevel };
    super::acl_check::note(ctx.state, &ctx.client.info, (Reason::Auth, context), command, user, ctx.now);
    false
}

/// What HELLO asks for.
#[derive(Default)]
struct Hello<'a> {
    version: Option<Version>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

/// Reads HELLO's arguments, or says what is wrong with them.
fn parse_hello<'a>(args: &Args<'a>) -> Result<Hello<'a>, Vec<u8>> {
    let mut hello = Hello::default();
    let Some(version) = args.get(1) else { return Ok(hello) };
    hello.version = Some(match parse_i64(version) {
        Some(2) => Version::V2,
        Some(3) => Version::V3,
        Some(_) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
        None => return Err(b"ERR Protocol version is not an integer or out of range".to_vec()),
    });
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "AUTH") && left >= 2 {
            hello.credentials = Some((args.at(at + 1), args.at(at + 2)));
            at += 3;
        } else if args.is(at, "SETNAME") && left >= 1 {
            let name = args.at(at + 1);
            if !is_plain_word(name) {
                return Err(BAD_NAME.into());
            }
            hello.name = Some(name);
            at += 2;
        } else {
            return Err([b"ERR Syntax error in HELLO option '", args.at(at), b"'"].concat());
        }
    }
    Ok(hello)
}

fn hello(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let hello = match parse_hello(args) {
        Ok(hello) => hello,
        Err(text) => {
            reply.error_bytes(&text);
            return Outcome::Done;
        }
    };
    if let Some((user, password)) = hello.credentials
        && !authenticate(ctx, args.at(0), user, password)
    {
        return fail(reply, WRONG_PASSWORD);
    }
    if !ctx.client.is_authenticated(&ctx.state.acl) {
        return fail(reply, HELLO_NEEDS_AUTH);
    }
    if let Some(name) = hello.name {
        set_name(ctx, name);
    }
    if let Some(version) = hello.version {
        ctx.client.set_version(version);
        reply.set_version(version);
    }
    let config = ctx.state.config.load();
    let zone = config.value("availability-zone").filter(|zone| !zone.is_empty());
    reply.map(7 + usize::from(zone.is_some()));
    for (key, value) in [("server", "redis"), ("version", &config.redis_version)] {
        reply.text(key);
        reply.text(value);
    }
    reply.text("proto");
    reply.integer(if ctx.client.version == Version::V3 { 3 } else { 2 });
    reply.text("id");
    reply.integer(ctx.client.info.id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.text(key);
        reply.text(value);
    }
    reply.text("modules");
    reply.array(0);
    if let Some(zone) = zone {
        reply.text("availability_zone");
        reply.text(zone);
    }
    Outcome::Done
}

/// True without spaces, line ends and other characters that would break CLIENT LIST's lines.
pub(super) fn is_plain_word(word: &[u8]) -> bool {
    word.iter().all(|byte| matches!(byte, b'!'..=b'~'))
}

/// CLIENT SETNAME, once the name is checked; an empty one takes the name away.
fn set_name(ctx: &Ctx<'_>, name: &[u8]) {
    ctx.client.info.labels.lock().name = String::from_utf8_lossy(name).into_owned();
}

/// CLIENT SETNAME.
pub(super) fn client_set_name(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = args.at(2);
    if !is_plain_word(name) {
        return fail(reply, BAD_NAME);
    }
    set_name(ctx, name);
    reply.ok();
    Outcome::Done
}

fn reset(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    use std::sync::atomic::Ordering::Relaxed;
    let client = &mut *ctx.client;
    ctx.state.monitors.remove(&client.info);
    client.set_multi(None);
    client.unwatch(&ctx.state.keyspace);
    ctx.state.pubsub.leave(client);
    ctx.state.set_tracking(client, TrackingOptions::default());
    client.select(0);
    client.set_version(Version::V2);
    client.reply_mode = ReplyMode::On;
    ctx.state.log_out(client);
    client.info.no_evict.store(false, Relaxed);
    client.info.no_touch.store(false, Relaxed);
    client.info.import_source.store(false, Relaxed);
    client.info.labels.lock().name.clear();
    reply.simple("RESET");
    Outcome::Done
}
