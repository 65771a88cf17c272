//! Publishing and subscribing, and what a subscriber may do. It must not know sockets, or how messages travel.

use super::{Args, Ctx, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, Spec, help};
use crate::protocol::Reply;
use crate::state::{Subject, pubsub_limit};

const LOOSE: Flags = Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE);
const ROW: Spec = Spec { group: "pubsub", flags: LOOSE.or(Flags::NOSCRIPT), since: "2.0.0", ..Spec::BASE };
const SHARD_CHANNELS: Keys = Keys::Specs(&[KeySpec::range(1, -1, 1, KeyFlags::NOT_KEY)]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "subscribe",
        arity: -2,
        syntax: "channel [channel ...]",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        summary: "Listens to channels.",
        run: Run::Server(|ctx, args, reply| subscribe(ctx, args, reply, Subject::Channel)),
        ..ROW
    },
    Spec {
        name: "unsubscribe",
        arity: -1,
        syntax: "[channel [channel ...]]",
        complexity: "O(N) where N is the number of channels to unsubscribe.",
        summary: "Listens to channels no more: to those named, or to all.",
        run: Run::Server(|ctx, args, reply| unsubscribe(ctx, args, reply, Subject::Channel)),
        ..ROW
    },
    Spec {
        name: "psubscribe",
        arity: -2,
        syntax: "pattern [pattern ...]",
        complexity: "O(N) where N is the number of patterns to subscribe to.",
        summary: "Listens to all channels whose names match patterns.",
        run: Run::Server(|ctx, args, reply| subscribe(ctx, args, reply, Subject::Pattern)),
        ..ROW
    },
    Spec {
        name: "punsubscribe",
        arity: -1,
        syntax: "[pattern [pattern ...]]",
        complexity: "O(N) where N is the number of patterns to unsubscribe.",
        summary: "Listens by patterns no more: by those named, or by any.",
        run: Run::Server(|ctx, args, reply| unsubscribe(ctx, args, reply, Subject::Pattern)),
        ..ROW
    },
    Spec {
        name: "ssubscribe",
        arity: -2,
        keys: SHARD_CHANNELS,
        since: "7.0.0",
        syntax: "shardchannel [shardchannel ...]",
        complexity: "O(N) where N is the number of shard channels to subscribe to.",
        summary: "Listens to shard channels.",
        run: Run::Server(|ctx, args, reply| subscribe(ctx, args, reply, Subject::Shard)),
        ..ROW
    },
    Spec {
        name: "sunsubscribe",
        arity: -1,
        keys: SHARD_CHANNELS,
        since: "7.0.0",
        syntax: "[shardchannel [shardchannel ...]]",
        complexity: "O(N) where N is the number of shard channels to unsubscribe.",
        summary: "Listens to shard channels no more: to those named, or to all.",
        run: Run::Server(|ctx, args, reply| unsubscribe(ctx, args, reply, Subject::Shard)),
        ..ROW
    },
    Spec {
        name: "publish",
        arity: 3,
        flags: LOOSE.or(Flags::FAST).or(Flags::MAY_REPLICATE),
        syntax: "channel message",
        complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total \
                     number of subscribed patterns (by any client).",
        summary: "Sends a message to all who listen to a channel; returns how many.",
        run: Run::Server(publish),
        ..ROW
    },
    Spec {
        name: "spublish",
        arity: 3,
        flags: LOOSE.or(Flags::FAST).or(Flags::MAY_REPLICATE),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::NOT_KEY)]),
        since: "7.0.0",
        syntax: "shardchannel message",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        summary: "Sends a message to all who listen to a shard channel; returns how many.",
        run: Run::Server(publish_to_shard),
        ..ROW
    },
    Spec {
        name: "pubsub",
        arity: -2,
        flags: Flags::NONE,
        since: "2.8.0",
        complexity: "Depends on subcommand.",
        summary: "Asks about channels.",
        ..ROW
    },
    Spec {
        name: "pubsub|channels",
        arity: -2,
        flags: LOOSE,
        since: "2.8.0",
        syntax: "[pattern]",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching \
                     (relatively short channels and patterns)",
        summary: "Returns the channels that somebody listens to, all or those whose names match.",
        run: Run::Server(|ctx, args, reply| channels(ctx, args, reply, false)),
        ..ROW
    },
    Spec {
        name: "pubsub|numsub",
        arity: -2,
        flags: LOOSE,
        since: "2.8.0",
        syntax: "[channel [channel ...]]",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        summary: "Returns how many listen to each of these channels, patterns aside.",
        run: Run::Server(|ctx, args, reply| listeners(ctx, args, reply, false)),
        ..ROW
    },
    Spec {
        name: "pubsub|numpat",
        arity: 2,
        flags: LOOSE,
        since: "2.8.0",
        summary: "Returns the number of patterns that somebody listens by.",
        run: Run::Server(patterns),
        ..ROW
    },
    Spec {
        name: "pubsub|shardchannels",
        arity: -2,
        flags: LOOSE,
        since: "7.0.0",
        syntax: "[pattern]",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern matching \
                     (relatively short shard channels).",
        summary: "Returns the shard channels that somebody listens to, all or those whose names match.",
        run: Run::Server(|ctx, args, reply| channels(ctx, args, reply, true)),
        ..ROW
    },
    Spec {
        name: "pubsub|shardnumsub",
        arity: -2,
        flags: LOOSE,
        since: "7.0.0",
        syntax: "[shardchannel [shardchannel ...]]",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        summary: "Returns how many listen to each of these shard channels.",
        run: Run::Server(|ctx, args, reply| listeners(ctx, args, reply, true)),
        ..ROW
    },
    Spec { group: "pubsub", ..help::row("pubsub|help", "6.2.0") },
];

/// What the replies to subscribing and to its end are called.
fn words(subject: Subject) -> (&'static str, &'static str) {
    match subject {
        Subject::Channel => ("subscribe", "unsubscribe"),
        Subject::Pattern => ("psubscribe", "punsubscribe"),
        Subject::Shard => ("ssubscribe", "sunsubscribe"),
    }
}

/// What was sent to the connection so far goes out before what it is answered now.
fn flush(ctx: &Ctx<'_>, reply: &mut Reply<'_>) {
    ctx.client.info.take_outbox().iter().for_each(|message| reply.output().raw(message));
}

/// One reply for each name, none for the command.
fn confirm(ctx: &Ctx<'_>, reply: &mut Reply<'_>, word: &str, name: Option<&[u8]>, subject: Subject) {
    reply.push(3);
    reply.text(word);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(ctx.client.subscriptions.count(subject) as i64);
}

fn subscribe(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>, subject: Subject) -> Outcome {
    flush(ctx, reply);
    for name in args.from(1) {
        ctx.state.pubsub.subscribe(ctx.client, subject, name);
        confirm(ctx, reply, words(subject).0, Some(name), subject);
    }
    // Who changed the user a moment ago may have looked at its subscriptions before these were there.
    if !ctx.client.knows_user(&ctx.state.acl) {
        ctx.state.look_up_user(ctx.client);
    }
    Outcome::Done
}

fn unsubscribe(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>, subject: Subject) -> Outcome {
    let word = words(subject).1;
    let names: Vec<Box<[u8]>> = match args.len() {
        1 => ctx.client.subscriptions.of(subject).iter().cloned().collect(),
        _ => args.from(1).map(Box::from).collect(),
    };
    if names.is_empty() {
        confirm(ctx, reply, word, None, subject);
    }
    for name in names {
        ctx.state.pubsub.unsubscribe(ctx.client, subject, &name);
        // Nothing can come from there any more.
        flush(ctx, reply);
        confirm(ctx, reply, word, Some(&name), subject);
    }
    Outcome::Done
}

/// Unsent bytes of a subscriber, at most; 0: no limit.
fn limit(ctx: &Ctx<'_>) -> usize {
    pubsub_limit(&ctx.state.config.load())
}

fn publish(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.publish(args.at(1), args.at(2), limit(ctx)) as i64);
    Outcome::Done
}

fn publish_to_shard(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.publish_to_shard(args.at(1), args.at(2), limit(ctx)) as i64);
    Outcome::Done
}

fn channels(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>, is_shard: bool) -> Outcome {
    if args.len() > 3 {
        return help::wrong_subcommand("PUBSUB", args, reply);
    }
    let names = ctx.state.pubsub.names(is_shard, args.get(2));
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Outcome::Done
}

fn listeners(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>, is_shard: bool) -> Outcome {
    reply.array((args.len() - 2) * 2);
    for name in args.from(2) {
        reply.bulk(name);
        reply.integer(ctx.state.pubsub.listeners(is_shard, name) as i64);
    }
    Outcome::Done
}

fn patterns(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.state.pubsub.counts()[1] as i64);
    Outcome::Done
}

/// PING of a subscriber in RESP2, which could not tell a plain reply from a message.
pub(super) fn pong(args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(2);
    reply.text("pong");
    reply.bulk(args.get(1).unwrap_or_default());
    Outcome::Done
}
