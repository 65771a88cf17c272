//! XINFO: what is in a stream, its groups and their consumers.

use super::stream::{CHANGING, READ};
use super::stream_args::{write_counted, write_entries, write_entry, write_id};
use super::{Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, Spec, c_text, fail, help, wrong_type};
use crate::keyspace::{View, WrongType};
use crate::protocol::Reply;
use crate::types::{Consumer, Group, Id, Stream};

const KEY: Keys = Keys::Specs(&[KeySpec::one(2, KeyFlags::RO.or(KeyFlags::ACCESS))]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "xinfo",
        arity: -2,
        flags: Flags::NONE,
        acl: super::Acl::NONE,
        keys: Keys::None,
        complexity: "Depends on subcommand.",
        summary: "Tells about streams.",
        run: Run::Container,
        ..READ
    },
    Spec {
        name: "xinfo|stream",
        arity: -3,
        keys: KEY,
        syntax: "key [FULL [COUNT count]]",
        summary: "Tells about a stream, where asked with its entries and groups.",
        run: Run::Data(stream),
        ..READ
    },
    Spec {
        name: "xinfo|groups",
        arity: 3,
        keys: KEY,
        syntax: "key",
        summary: "Tells about the groups of a stream.",
        run: Run::Data(groups),
        ..READ
    },
    Spec {
        name: "xinfo|consumers",
        arity: 4,
        keys: KEY,
        tips: CHANGING,
        syntax: "key group",
        summary: "Tells about the consumers of a group.",
        run: Run::Data(consumers),
        ..READ
    },
    Spec { acl: super::Acl::STREAM, group: "stream", ..help::row("xinfo|help", "5.0.0") },
];

const NO_KEY: &str = "ERR no such key";

/// Runs `f` on the stream at the key.
fn with_stream(db: &mut View<'_, '_>, reply: &mut Reply<'_>, f: impl FnOnce(&Stream, &mut Reply<'_>)) -> Outcome {
    match db.read_as::<Stream>(0) {
        Ok(Some(stream)) => f(stream, reply),
        Ok(None) => return fail(reply, NO_KEY),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn integer(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.text(name);
    reply.integer(value);
}

fn id(reply: &mut Reply<'_>, name: &str, value: Id) {
    reply.text(name);
    write_id(reply, value);
}

fn known(reply: &mut Reply<'_>, name: &str, value: Option<i64>) {
    reply.text(name);
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}

fn stream(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    // It is looked up before the words behind it are read.
    if let answer @ (Ok(None) | Err(WrongType)) = db.collection::<Stream>(0) {
        return if answer.is_ok() { fail(reply, NO_KEY) } else { wrong_type(reply) };
    }
    let full = match args.len() {
        3 => None,
        4 if args.is(3, "full") => Some(10),
        6 if args.is(3, "full") && args.is(4, "count") => match args.integer(5) {
            Some(0) => Some(usize::MAX),
            Some(count) => Some(usize::try_from(count).unwrap_or(10)),
            None => return fail(reply, NOT_AN_INTEGER),
        },
        _ => return help::wrong_subcommand("XINFO", args, reply),
    };
    with_stream(db, reply, |stream, reply| {
        reply.map(if full.is_some() { 9 } else { 10 });
        integer(reply, "length", stream.len() as i64);
        integer(reply, "radix-tree-keys", stream.blocks_len() as i64);
        integer(reply, "radix-tree-nodes", stream.blocks_len() as i64 + 1);
        id(reply, "last-generated-id", stream.last_id());
        id(reply, "max-deleted-entry-id", stream.max_deleted_id());
        integer(reply, "entries-added", stream.entries_added() as i64);
        id(reply, "recorded-first-entry-id", stream.first_id());
        if let Some(count) = full {
            reply.text("entries");
            write_entries(reply, stream.range(Id::MIN..=Id::MAX).take(count));
            reply.text("groups");
            reply.array(stream.groups().len());
            stream.groups().iter().for_each(|(name, group)| full_group(stream, name, group, count, reply));
            return;
        }
        integer(reply, "groups", stream.groups().len() as i64);
        let first = stream.range(Id::MIN..=Id::MAX).next();
        for (name, entry) in [("first-entry", first), ("last-entry", stream.range_back(Id::MIN..=Id::MAX).next())] {
            reply.text(name);
            match entry {
                Some(entry) => write_entry(reply, &entry),
                None => reply.null(),
            }
        }
    })
}

fn full_group(stream: &Stream, name: &[u8], group: &Group, count: usize, reply: &mut Reply<'_>) {
    reply.map(7);
    reply.text("name");
    reply.bulk(name);
    id(reply, "last-delivered-id", group.last_id);
    known(reply, "entries-read", group.entries_read);
    known(reply, "lag", stream.lag(group));
    integer(reply, "pel-count", group.pending() as i64);
    reply.text("pending");
    write_counted(reply, |reply| {
        let pending = group.pending_range(Id::MIN..=Id::MAX).take(count);
        pending
            .map(|(id, pending, consumer)| {
                reply.array(4);
                write_id(reply, id);
                reply.bulk(consumer);
                reply.integer(pending.time);
                reply.integer(pending.count);
            })
            .count()
    });
    reply.text("consumers");
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers() {
        reply.map(5);
        reply.text("name");
        reply.bulk(name);
        integer(reply, "seen-time", consumer.map_or(-1, |consumer| consumer.seen));
        integer(reply, "active-time", consumer.map_or(-1, |consumer| consumer.active));
        integer(reply, "pel-count", consumer.map_or(0, Consumer::pending) as i64);
        reply.text("pending");
        write_counted(reply, |reply| {
            let own = consumer.into_iter().flat_map(|consumer| consumer.pending_from(Id::MIN)).take(count);
            own.filter_map(|id| Some((id, group.get(id)?)))
                .map(|(id, pending)| {
                    reply.array(3);
                    write_id(reply, id);
                    reply.integer(pending.time);
                    reply.integer(pending.count);
                })
                .count()
        });
    }
}

fn groups(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_stream(db, reply, |stream, reply| {
        reply.array(stream.groups().len());
        for (name, group) in stream.groups() {
            reply.map(6);
            reply.text("name");
            reply.bulk(name);
            integer(reply, "consumers", group.consumers().len() as i64);
            integer(reply, "pending", group.pending() as i64);
            id(reply, "last-delivered-id", group.last_id);
            known(reply, "entries-read", group.entries_read);
            known(reply, "lag", stream.lag(group));
        }
    })
}

fn consumers(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, now) = (db.key(0), db.now());
    with_stream(db, reply, |stream, reply| {
        let Some(group) = stream.groups().get(args.at(3)) else {
            return no_group(reply, args.at(3), key);
        };
        reply.array(group.consumers().len());
        for (name, consumer) in group.consumers() {
            let (seen, active) = consumer.map_or((now, -1), |consumer| (consumer.seen, consumer.active));
            reply.map(4);
            reply.text("name");
            reply.bulk(name);
            integer(reply, "pending", consumer.map_or(0, Consumer::pending) as i64);
            integer(reply, "idle", (now - seen).max(0));
            integer(reply, "inactive", if active < 0 { -1 } else { (now - active).max(0) });
        }
    })
}

/// Answers that there is no such group.
pub(super) fn no_group(reply: &mut Reply<'_>, group: &[u8], key: &[u8]) {
    let parts: [&[u8]; 5] =
        [b"NOGROUP No such consumer group '", c_text(group), b"' for key name '", c_text(key), b"'"];
    reply.error_bytes(&parts.concat());
}
