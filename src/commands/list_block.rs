//! The list commands that wait for an element.

use super::list::{MOVE, TAKE, bulk, move_element, parse_end, parse_numkeys, parse_pop, pop_first, popped};
use super::{
    Acl, Args, Block, Fill, Flags, KeySpec, Keys, Nil, Outcome, Run, SYNTAX_ERROR, Spec, fail, timeout_seconds,
    wrong_type,
};
use crate::keyspace::{View, WrongType};
use crate::protocol::Reply;
use crate::types::{End, List};
use std::time::Duration;

const WAIT: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::BLOCKING),
    acl: Acl::LIST,
    fill: Fill::Before,
    group: "list",
    since: "2.0.0",
    ..Spec::BASE
};
const POP: Spec = Spec {
    keys: Keys::Specs(&[KeySpec::range(1, -2, 1, TAKE)]),
    syntax: "key [key ...] timeout",
    complexity: "O(N) where N is the number of provided keys.",
    ..WAIT
};
const MOVING: Spec = Spec { flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::BLOCKING), keys: MOVE, ..WAIT };

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "blpop",
        summary: "Returns and removes the first element of one of several lists, or waits for one.",
        run: Run::Data(blpop),
        ..POP
    },
    Spec {
        name: "brpop",
        summary: "Returns and removes the last element of one of several lists, or waits for one.",
        run: Run::Data(brpop),
        ..POP
    },
    Spec {
        name: "blmove",
        arity: 6,
        since: "6.2.0",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        summary: "Takes an element from one list, adds it to another one, and returns it, or waits for one.",
        run: Run::Data(blmove),
        ..MOVING
    },
    Spec {
        name: "brpoplpush",
        arity: 4,
        since: "2.2.0",
        syntax: "source destination timeout",
        summary: "Takes the last element of one list, adds it at the front of another one, and returns it, or waits \
            for one.",
        run: Run::Data(brpoplpush),
        ..MOVING
    },
    Spec {
        name: "blmpop",
        arity: -5,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[KeySpec::numbered(2, 1, TAKE)]),
        since: "7.0.0",
        syntax: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        summary: "Returns and removes elements of the first of several lists that is not empty, or waits for one.",
        run: Run::Data(blmpop),
        ..WAIT
    },
];

fn blpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(db, args, reply, End::Front)
}

fn brpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(db, args, reply, End::Back)
}

fn pop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, end: End) -> Outcome {
    let timeout = match timeout_seconds(args, args.len() - 1, db.now()) {
        Ok(timeout) => timeout,
        Err(error) => return fail(reply, error),
    };
    let directive = db.limits().list_max_listpack_size;
    for key in 0..db.len() {
        let name = db.key(key);
        let found = db.edit(key, |list: &mut List, edit| {
            reply.array(2);
            reply.bulk(name);
            list.pop(end, directive, |element| bulk(reply, element));
            edit.changed(popped(end));
        });
        match found {
            Ok(Some(())) => return Outcome::Done,
            Ok(None) => {}
            Err(WrongType) => return wrong_type(reply),
        }
    }
    Block::new("list", timeout).outcome()
}

fn blmove(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(from), Some(to)) = (parse_end(args, 3), parse_end(args, 4)) else { return fail(reply, SYNTAX_ERROR) };
    move_or_wait(db, from, to, timeout_seconds(args, 5, db.now()), reply)
}

fn brpoplpush(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    move_or_wait(db, End::Back, End::Front, timeout_seconds(args, 3, db.now()), reply)
}

fn move_or_wait(
    db: &mut View<'_, '_>,
    from: End,
    to: End,
    timeout: Result<Option<Duration>, &str>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let timeout = match timeout {
        Ok(timeout) => timeout,
        Err(error) => return fail(reply, error),
    };
    match move_element(db, from, to, reply) {
        Ok(true) => Outcome::Done,
        Ok(false) => Block { nil: Nil::Null, keys: Some(1), ..Block::new("list", timeout) }.outcome(),
        Err(WrongType) => wrong_type(reply),
    }
}

fn blmpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let parsed = parse_numkeys(args, 2).and_then(|index| parse_pop(args, index));
    let parsed = parsed.and_then(|pop| timeout_seconds(args, 1, db.now()).map(|timeout| (pop, timeout)));
    let ((end, count), timeout) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    match pop_first(db, end, count, reply) {
        Ok(true) => Outcome::Done,
        Ok(false) => Block::new("list", timeout).outcome(),
        Err(WrongType) => wrong_type(reply),
    }
}
