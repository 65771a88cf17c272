//! XGROUP, XACK and XACKDEL.

use super::stream::{WRITE, answer_codes, event, parse_removal, removal_code};
use super::stream_args::{parse_id, parse_ids};
use super::stream_info::no_group;
use super::{Acl, Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, Spec, fail, help, wrong_type};
use crate::keyspace::{View, WrongType};
use crate::protocol::Reply;
use crate::types::{Group, References, Removal, Stream};

const GROUP: Spec = Spec { arity: 5, flags: Flags::WRITE, keys: UPDATE, ..WRITE };

const UPDATE: Keys = Keys::Specs(&[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::UPDATE))]);
const INSERT: Keys = Keys::Specs(&[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::INSERT))]);
const DELETE: Keys = Keys::Specs(&[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::DELETE))]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "xgroup",
        arity: -2,
        flags: Flags::NONE,
        acl: Acl::NONE,
        keys: Keys::None,
        complexity: "Depends on subcommand.",
        summary: "Manages the groups of streams.",
        run: Run::Container,
        ..GROUP
    },
    Spec {
        name: "xgroup|create",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: INSERT,
        syntax: "key group <id | $> [MKSTREAM] [ENTRIESREAD entriesread]",
        summary: "Makes a group that reads a stream.",
        run: Run::Data(create),
        ..GROUP
    },
    Spec {
        name: "xgroup|setid",
        arity: -5,
        syntax: "key group <id | $> [ENTRIESREAD entriesread]",
        summary: "Sets how far a group has read.",
        run: Run::Data(setid),
        ..GROUP
    },
    Spec {
        name: "xgroup|destroy",
        arity: 4,
        keys: DELETE,
        syntax: "key group",
        complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
        summary: "Removes a group.",
        run: Run::Data(destroy),
        ..GROUP
    },
    Spec {
        name: "xgroup|createconsumer",
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: INSERT,
        since: "6.2.0",
        syntax: "key group consumer",
        summary: "Makes a consumer of a group.",
        run: Run::Data(create_consumer),
        ..GROUP
    },
    Spec {
        name: "xgroup|delconsumer",
        keys: DELETE,
        syntax: "key group consumer",
        summary: "Removes a consumer of a group, and what it has not acknowledged.",
        run: Run::Data(delete_consumer),
        ..GROUP
    },
    Spec { acl: Acl::STREAM, group: "stream", ..help::row("xgroup|help", "5.0.0") },
    Spec {
        name: "xack",
        arity: -4,
        syntax: "key group id [id ...]",
        complexity: "O(1) for each message ID processed.",
        summary: "Tells a group that entries are done with.",
        run: Run::Data(xack),
        ..WRITE
    },
    Spec {
        name: "xackdel",
        arity: -6,
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE).or(KeyFlags::DELETE))]),
        since: "8.2.0",
        syntax: "key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
        complexity: "O(1) for each message ID processed.",
        summary: "Tells a group that entries are done with, and removes them.",
        run: Run::Data(xackdel),
        ..WRITE
    },
];

const NO_KEY: &str = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
    MKSTREAM option to create an empty stream automatically.";

/// The options of CREATE and SETID: MKSTREAM, and ENTRIESREAD if it is given.
fn options(args: &Args<'_>, is_create: bool) -> Option<Result<(bool, Option<i64>), &'static str>> {
    let (mut makes_stream, mut read, mut at) = (false, None, 5);
    while at < args.len() {
        if is_create && args.is(at, "mkstream") {
            makes_stream = true;
        } else if args.is(at, "entriesread") && at + 1 < args.len() {
            at += 1;
            read = match args.integer(at) {
                Some(-1) => None,
                Some(number @ 0..) => Some(number),
                Some(_) => return Some(Err("ERR value for ENTRIESREAD must be positive or -1")),
                None => return Some(Err(NOT_AN_INTEGER)),
            };
        } else {
            return None;
        }
        at += 1;
    }
    // The same word twice is more than real servers take.
    (args.len() <= if is_create { 8 } else { 7 }).then_some(Ok((makes_stream, read)))
}

/// What a subcommand answers.
enum Answer {
    Ok,
    Integer(i64),
    Error(&'static str),
    NoGroup,
}

fn write(answer: Result<Option<Answer>, WrongType>, (key, group): (&[u8], &[u8]), reply: &mut Reply<'_>) -> Outcome {
    match answer {
        Ok(Some(Answer::Ok)) => reply.ok(),
        Ok(Some(Answer::Integer(number))) => reply.integer(number),
        Ok(Some(Answer::Error(error))) => return fail(reply, error),
        Ok(Some(Answer::NoGroup)) => no_group(reply, group, key),
        Ok(None) => return fail(reply, NO_KEY),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn create(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (makes_stream, read) = match options(args, true) {
        Some(Ok(options)) => options,
        Some(Err(error)) => return fail(reply, error),
        None => return help::wrong_subcommand("XGROUP", args, reply),
    };
    let (names, is_there) = ((db.key(0), args.at(3)), db.find(0).is_some());
    let create = |stream: &mut Stream, edit: &mut crate::keyspace::Edit| {
        let id = if args.at(4) == b"$" { Ok(stream.last_id()) } else { parse_id(args.at(4), 0) };
        let id = match id {
            Ok(id) => id,
            Err(error) => return Answer::Error(error),
        };
        if stream.groups().contains_key(args.at(3)) {
            return Answer::Error("BUSYGROUP Consumer Group name already exists");
        }
        let read = stream.read_at_most(read);
        stream.groups_mut().insert(args.at(3).into(), Group::new(id, read));
        let event = event("xgroup-create");
        if is_there {
            edit.told(event)
        } else {
            edit.changed(event)
        }
        Answer::Ok
    };
    let answer = if makes_stream { db.edit_or_new(0, create).map(Some) } else { db.edit(0, create) };
    write(answer, names, reply)
}

fn setid(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let read = match options(args, false) {
        Some(Ok((_, read))) => read,
        Some(Err(error)) => return fail(reply, error),
        None => return help::wrong_subcommand("XGROUP", args, reply),
    };
    let names = (db.key(0), args.at(3));
    let answer = db.edit(0, |stream: &mut Stream, edit| {
        let (last_id, read) = (stream.last_id(), stream.read_at_most(read));
        let Some(group) = stream.group_mut(args.at(3)) else { return Answer::NoGroup };
        let id = if args.at(4) == b"$" { Ok(last_id) } else { parse_id(args.at(4), 0) };
        match id {
            Ok(id) => (group.last_id, group.entries_read) = (id, read),
            Err(error) => return Answer::Error(error),
        }
        edit.told(event("xgroup-setid"));
        Answer::Ok
    });
    write(answer, names, reply)
}

fn destroy(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let names = (db.key(0), args.at(3));
    let answer = db.edit(0, |stream: &mut Stream, edit| {
        let Some(taken) = stream.take_group(args.at(3)) else { return Answer::Integer(0) };
        edit.discard(taken);
        edit.told(event("xgroup-destroy"));
        // Who reads for the group learns that it is gone.
        edit.wakes();
        Answer::Integer(1)
    });
    write(answer, names, reply)
}

fn create_consumer(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (names, now) = ((db.key(0), args.at(3)), db.now());
    let answer = db.edit(0, |stream: &mut Stream, edit| {
        let Some(group) = stream.group_mut(args.at(3)) else { return Answer::NoGroup };
        let (_, is_new) = group.find_or_add(args.at(4), now);
        if is_new {
            edit.told(event("xgroup-createconsumer"));
        }
        Answer::Integer(is_new.into())
    });
    write(answer, names, reply)
}

fn delete_consumer(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let names = (db.key(0), args.at(3));
    let answer = db.edit(0, |stream: &mut Stream, edit| {
        let Some(group) = stream.group_mut(args.at(3)) else { return Answer::NoGroup };
        let removed = group.remove_consumer(args.at(4));
        if removed.is_some() {
            edit.told(event("xgroup-delconsumer"));
        }
        Answer::Integer(removed.unwrap_or(0) as i64)
    });
    write(answer, names, reply)
}

fn xack(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let result = db.edit(0, |stream: &mut Stream, _| {
        let Some(group) = stream.group_mut(args.at(2)) else { return Ok(0) };
        let ids = parse_ids(args, 3, args.len())?;
        Ok(ids.iter().filter(|id| group.acknowledge(**id)).count())
    });
    match result {
        Ok(None) => reply.integer(0),
        Ok(Some(Ok(count))) => reply.integer(count as i64),
        Ok(Some(Err(error))) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn xackdel(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if db.collection::<Stream>(0).is_err() {
        return wrong_type(reply);
    }
    let (references, start, end) = match parse_removal(args, 3) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    let result = db.edit(0, |stream: &mut Stream, edit| {
        if !stream.groups().contains_key(args.at(2)) {
            return Ok(vec![-1; end - start]);
        }
        let ids = parse_ids(args, start, end)?;
        let mut is_any = false;
        let codes = ids.iter().map(|&id| {
            if !stream.group_mut(args.at(2)).is_some_and(|group| group.acknowledge(id)) {
                return -1;
            }
            let removal = stream.remove(id, references);
            is_any |= removal == Removal::Done;
            // It was acknowledged, so it counts as gone also if it was removed before.
            if removal == Removal::Referenced && references == References::Acknowledged {
                removal_code(removal)
            } else {
                1
            }
        });
        let codes = codes.collect();
        if is_any {
            edit.changed(event("xdel"));
        }
        Ok(codes)
    });
    answer_codes(result, end - start, reply)
}
