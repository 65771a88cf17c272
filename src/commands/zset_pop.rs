//! The sorted set commands that take out the lowest or highest members, waiting for them or not, and the one that gives
//! random members.

use super::zset::{READ, WRITE, bulk, event};
use super::zset_range::{take_out, write_members};
use super::{
    Acl, Args, Block, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail,
    timeout_seconds, wrong_type,
};
use crate::keyspace::{View, WrongType};
use crate::protocol::Reply;
use crate::random;
use crate::types::Zset;
use std::collections::HashSet;

const TAKE: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);
const POP: Spec = Spec {
    arity: -2,
    flags: Flags::WRITE.or(Flags::FAST),
    keys: Keys::Specs(&[KeySpec::one(1, TAKE)]),
    since: "5.0.0",
    syntax: "key [count]",
    complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements \
        popped.",
    ..WRITE
};
const WAITING_POP: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::FAST).or(Flags::BLOCKING),
    acl: Acl::SORTEDSET,
    keys: Keys::Specs(&[KeySpec::range(1, -2, 1, TAKE)]),
    syntax: "key [key ...] timeout",
    complexity: "O(log(N)) with N being the number of elements in the sorted set.",
    ..POP
};
const MULTI_POP: Spec = Spec {
    arity: -4,
    flags: Flags::WRITE.or(Flags::MOVABLEKEYS),
    keys: Keys::Specs(&[KeySpec::numbered(1, 1, TAKE)]),
    since: "7.0.0",
    syntax: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
    complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the \
        sorted set, and M being the number of elements popped.",
    ..POP
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "zpopmin",
        summary: "Removes and returns the members with the lowest scores.",
        run: Run::Data(zpopmin),
        ..POP
    },
    Spec {
        name: "zpopmax",
        summary: "Removes and returns the members with the highest scores.",
        run: Run::Data(zpopmax),
        ..POP
    },
    Spec {
        name: "zmpop",
        summary: "Removes and returns members of the first of several sorted sets that is there.",
        run: Run::Data(zmpop),
        ..MULTI_POP
    },
    Spec {
        name: "bzpopmin",
        summary: "Removes and returns the member with the lowest score of the first of several sorted sets that is \
            there, and waits for one if none is.",
        run: Run::Data(bzpopmin),
        ..WAITING_POP
    },
    Spec {
        name: "bzpopmax",
        summary: "Removes and returns the member with the highest score of the first of several sorted sets that is \
            there, and waits for one if none is.",
        run: Run::Data(bzpopmax),
        ..WAITING_POP
    },
    Spec {
        name: "bzmpop",
        arity: -5,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[KeySpec::numbered(2, 1, TAKE)]),
        syntax: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
        summary: "Removes and returns members of the first of several sorted sets that is there, and waits for one if \
            none is.",
        run: Run::Data(bzmpop),
        ..MULTI_POP
    },
    Spec {
        name: "zrandmember",
        arity: -2,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output"],
        fill: Fill::Read,
        since: "6.2.0",
        syntax: "key [count [WITHSCORES]]",
        complexity: "O(N) where N is the number of members returned",
        summary: "Returns random members.",
        run: Run::Data(zrandmember),
        ..READ
    },
];

/// From which end members are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

/// How members and scores are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One behind the other, without a head.
    Bare,
    /// One behind the other.
    Flat,
    /// In pairs.
    Pairs,
}

/// Takes up to `count` members out of the set at a key and answers with them; None if the key is not there.
fn pop(
    db: &mut View<'_, '_>,
    key: usize,
    end: End,
    count: usize,
    shape: Shape,
    reply: &mut Reply<'_>,
) -> Result<Option<()>, WrongType> {
    db.edit::<Zset, _>(key, |set, edit| {
        let count = count.min(set.len());
        let range = if end == End::Lowest { 0..count } else { set.len() - count..set.len() };
        match shape {
            Shape::Bare => {}
            Shape::Flat => reply.array(count * 2),
            Shape::Pairs => reply.array(count),
        }
        let members = set.iter(range.clone());
        let mut write = |(member, score)| {
            if shape == Shape::Pairs {
                reply.array(2);
            }
            bulk(reply, member);
            reply.double(score);
        };
        if end == End::Lowest {
            members.for_each(&mut write)
        } else {
            members.rev().for_each(&mut write)
        }
        if count > 0 {
            take_out(set, range, edit);
            edit.changed(event(if end == End::Lowest { "zpopmin" } else { "zpopmax" }));
        }
    })
}

fn zpopmin(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_one(db, args, reply, End::Lowest)
}

fn zpopmax(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_one(db, args, reply, End::Highest)
}

fn pop_one(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, end: End) -> Outcome {
    let count = match args.len() {
        2 => Some(1),
        3 => args.integer(2).and_then(|count| usize::try_from(count).ok()),
        _ => return fail(reply, SYNTAX_ERROR),
    };
    let Some(count) = count else { return fail(reply, "ERR value is out of range, must be positive") };
    let shape = if args.len() == 3 && reply.is_v3() { Shape::Pairs } else { Shape::Flat };
    match pop(db, 0, end, count, shape, reply) {
        Ok(Some(())) => {}
        Ok(None) => reply.array(0),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// The arguments of ZMPOP from the number of keys on.
fn parse_pop(args: &Args<'_>, from: usize) -> Result<(End, usize), &'static str> {
    let positive = |index| args.integer(index).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let keys = positive(from).ok_or("ERR numkeys should be greater than 0")?;
    let index = from.saturating_add(1).saturating_add(keys);
    let end = match args.get(index) {
        Some(word) if word.eq_ignore_ascii_case(b"min") => End::Lowest,
        Some(word) if word.eq_ignore_ascii_case(b"max") => End::Highest,
        _ => return Err(SYNTAX_ERROR),
    };
    match args.len() - index {
        1 => Ok((end, 1)),
        3.. if args.is(index + 1, "count") => {
            let count = positive(index + 2).ok_or("ERR count should be greater than 0")?;
            if args.len() - index > 3 { Err(SYNTAX_ERROR) } else { Ok((end, count)) }
        }
        _ => Err(SYNTAX_ERROR),
    }
}

/// Takes members out of the first set that is there and answers with its key and them; false if none is.
fn pop_first(
    db: &mut View<'_, '_>,
    end: End,
    count: usize,
    shape: Shape,
    reply: &mut Reply<'_>,
) -> Result<bool, WrongType> {
    for key in 0..db.len() {
        if db.collection::<Zset>(key)?.is_none() {
            continue;
        }
        reply.array(if shape == Shape::Bare { 3 } else { 2 });
        reply.bulk(db.key(key));
        pop(db, key, end, count, shape, reply)?;
        return Ok(true);
    }
    Ok(false)
}

fn zmpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (end, count) = match parse_pop(args, 1) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    match pop_first(db, end, count, Shape::Pairs, reply) {
        Ok(true) => {}
        Ok(false) => reply.null_array(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn bzpopmin(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(db, args, reply, args.len() - 1, (End::Lowest, 1), Shape::Bare)
}

fn bzpopmax(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(db, args, reply, args.len() - 1, (End::Highest, 1), Shape::Bare)
}

fn bzmpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match parse_pop(args, 2) {
        Ok(wanted) => pop_or_wait(db, args, reply, 1, wanted, Shape::Pairs),
        Err(error) => fail(reply, error),
    }
}

/// As [`pop_first`]; if no set is there, waits for one as long as argument `timeout` says.
fn pop_or_wait(
    db: &mut View<'_, '_>,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    timeout: usize,
    (end, count): (End, usize),
    shape: Shape,
) -> Outcome {
    let timeout = match timeout_seconds(args, timeout, db.now()) {
        Ok(timeout) => timeout,
        Err(error) => return fail(reply, error),
    };
    match pop_first(db, end, count, shape, reply) {
        Ok(true) => Outcome::Done,
        Ok(false) => Block::new("zset", timeout).outcome(),
        Err(WrongType) => wrong_type(reply),
    }
}

/// Members that may be asked for with repetitions, at most: a reply is made in memory.
const REPEATED_MAX: usize = 1 << 26;

/// What ZRANDMEMBER is asked for: distinct members, or so many with repetitions.
enum Draw {
    Distinct(usize),
    Repeated(usize),
}

fn parse_draw(args: &Args<'_>) -> Result<(Draw, bool), &'static str> {
    let count = args.integer(2).ok_or(NOT_AN_INTEGER)?;
    if count == i64::MIN {
        return Err("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");
    }
    let with_scores = args.len() == 4 && args.is(3, "withscores");
    if args.len() > 4 || args.len() == 4 && !with_scores {
        return Err(SYNTAX_ERROR);
    }
    let magnitude = count.unsigned_abs() as usize;
    if with_scores && magnitude > i64::MAX as usize / 2 || count < 0 && magnitude > REPEATED_MAX {
        return Err("ERR value is out of range");
    }
    Ok((if count < 0 { Draw::Repeated(magnitude) } else { Draw::Distinct(magnitude) }, with_scores))
}

/// A random number below `bound`, which is not 0.
fn below(bound: usize) -> usize {
    ((u128::from(random::next()) * bound as u128) >> 64) as usize
}

fn zrandmember(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 2 {
        let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
        match set.and_then(|set| set.iter(below(set.len())..set.len()).next()) {
            Some((member, _)) => bulk(reply, member),
            None => reply.null(),
        }
        return Outcome::Done;
    }
    let (draw, with_scores) = match parse_draw(args) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    let Some(set) = set else {
        reply.array(0);
        return Outcome::Done;
    };
    let len = set.len();
    let count = match draw {
        Draw::Distinct(count) => count.min(len),
        Draw::Repeated(count) => count,
    };
    let one = |rank: usize| set.iter(rank..rank + 1);
    match draw {
        Draw::Repeated(_) => {
            write_members(reply, count, (0..count).flat_map(|_| one(below(len))), with_scores);
        }
        // Few of many: a rank that came before is drawn again.
        Draw::Distinct(_) if count < len / 4 => {
            let mut drawn = HashSet::with_capacity(count);
            let ranks = std::iter::repeat_with(|| below(len)).filter(|rank| drawn.insert(*rank)).take(count);
            write_members(reply, count, ranks.flat_map(one), with_scores);
        }
        // Each in turn, with the chance that leaves all choices equally likely.
        Draw::Distinct(_) => {
            let mut wanted = count;
            let members = set.iter_all().enumerate().filter(|(passed, _)| {
                let chosen = below(len - passed) < wanted;
                wanted -= usize::from(chosen);
                chosen
            });
            write_members(reply, count, members.map(|(_, pair)| pair), with_scores);
        }
    }
    Outcome::Done
}
