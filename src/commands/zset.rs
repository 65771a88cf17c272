//! The sorted set commands that name members: adding, counting up, removing, looking up. Ranges are in
//! [`super::zset_range`], what takes members out or any in [`super::zset_pop`], what combines sets in
//! [`super::zset_combine`].

use super::collection::{Scanned, scan};
use super::{Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Edit, Event, View, WrongType, class};
use crate::number::{format_digits, format_double, parse_double};
use crate::protocol::Reply;
use crate::types::{Item, Zset};

pub(super) const READ: Spec = Spec {
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::SORTEDSET,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "sorted-set",
    ..Spec::BASE
};
pub(super) const WRITE: Spec =
    Spec { flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST), keys: Keys::UPDATE_ONE, fill: Fill::Before, ..READ };
const DELETE_ONE: Keys = Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]);
pub(super) const REMOVE: Spec = Spec { flags: Flags::WRITE.or(Flags::FAST), keys: DELETE_ONE, ..WRITE };

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "zadd",
        arity: -4,
        since: "1.2.0",
        syntax: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
        complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        summary: "Adds members to a sorted set, or changes their scores.",
        run: Run::Data(zadd),
        ..WRITE
    },
    Spec {
        name: "zincrby",
        arity: 4,
        keys: Keys::ACCESS_UPDATE_ONE,
        since: "1.2.0",
        syntax: "key increment member",
        complexity: "O(log(N)) where N is the number of elements in the sorted set.",
        summary: "Adds to the score of a member.",
        run: Run::Data(zincrby),
        ..WRITE
    },
    Spec {
        name: "zrem",
        arity: -3,
        since: "1.2.0",
        syntax: "key member [member ...]",
        complexity: "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements \
            to be removed.",
        summary: "Removes members from a sorted set.",
        run: Run::Data(zrem),
        ..REMOVE
    },
    Spec {
        name: "zscore",
        arity: 3,
        since: "1.2.0",
        syntax: "key member",
        summary: "Returns the score of a member.",
        run: Run::Data(zscore),
        ..READ
    },
    Spec {
        name: "zmscore",
        arity: -3,
        since: "6.2.0",
        syntax: "key member [member ...]",
        complexity: "O(N) where N is the number of members being requested.",
        summary: "Returns the scores of several members.",
        run: Run::Data(zmscore),
        ..READ
    },
    Spec {
        name: "zcard",
        arity: 2,
        keys: Keys::LOOK_ONE,
        since: "1.2.0",
        syntax: "key",
        summary: "Counts the members of a sorted set.",
        run: Run::Data(zcard),
        ..READ
    },
    Spec {
        name: "zrank",
        arity: -3,
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        complexity: "O(log(N))",
        summary: "Returns how many members stand in front of one.",
        run: Run::Data(zrank),
        ..READ
    },
    Spec {
        name: "zrevrank",
        arity: -3,
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        complexity: "O(log(N))",
        summary: "Returns how many members stand behind one.",
        run: Run::Data(zrevrank),
        ..READ
    },
    Spec {
        name: "zscan",
        arity: -3,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output"],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOSCORES]",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor \
            to return back to 0. N is the number of elements inside the collection.",
        summary: "Walks over the members of a sorted set, some at each call.",
        run: Run::Data(zscan),
        ..READ
    },
];

pub(super) const NOT_A_FLOAT: &str = "ERR value is not a valid float";
const NOT_A_NUMBER: &str = "ERR resulting score is not a number (NaN)";

pub(super) const fn event(name: &'static str) -> Event {
    Event::new(class::ZSET, name)
}

/// Writes a member.
#[inline]
pub(super) fn bulk(reply: &mut Reply<'_>, member: Item<'_>) {
    match member {
        Item::Int(number) => reply.bulk_integer(number),
        Item::Text(text) => reply.bulk(text),
    }
}

/// ZADD's options.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddOptions {
    pub(super) absent_only: bool,
    pub(super) present_only: bool,
    greater: bool,
    less: bool,
    /// CH: count what was changed, not only what was added.
    pub(super) changed: bool,
    incr: bool,
}

impl AddOptions {
    /// Reads the options; also gives the index of the first score, or the error.
    fn parse(args: &Args<'_>) -> Result<(Self, usize), &'static str> {
        let (mut options, mut index) = (Self::default(), 2);
        while index < args.len() {
            let option = match args.at(index) {
                word if word.eq_ignore_ascii_case(b"nx") => &mut options.absent_only,
                word if word.eq_ignore_ascii_case(b"xx") => &mut options.present_only,
                word if word.eq_ignore_ascii_case(b"gt") => &mut options.greater,
                word if word.eq_ignore_ascii_case(b"lt") => &mut options.less,
                word if word.eq_ignore_ascii_case(b"ch") => &mut options.changed,
                word if word.eq_ignore_ascii_case(b"incr") => &mut options.incr,
                _ => break,
            };
            *option = true;
            index += 1;
        }
        let rest = args.len() - index;
        if rest == 0 || !rest.is_multiple_of(2) {
            return Err(SYNTAX_ERROR);
        }
        if options.absent_only && options.present_only {
            return Err("ERR XX and NX options at the same time are not compatible");
        }
        if u8::from(options.greater) + u8::from(options.less) + u8::from(options.absent_only) > 1 {
            return Err("ERR GT, LT, and/or NX options at the same time are not compatible");
        }
        if options.incr && rest > 2 {
            return Err("ERR INCR option supports a single increment-element pair");
        }
        Ok((options, index))
    }
}

/// What became of one member.
enum Added {
    New,
    Changed,
    /// It had the score already.
    Same,
    /// An option forbade it.
    Skipped,
}

/// What an addition made of a set.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) added: i64,
    pub(super) changed: i64,
    /// Of the last member, unless an option forbade it.
    score: Option<f64>,
}

/// Adds one member; `score` is added to the one it has with INCR. The error: a sum of opposite infinities.
fn add_one(
    set: &mut Zset,
    (member, score): (&[u8], f64),
    options: AddOptions,
    db: &crate::config::Limits,
) -> Result<(Added, f64), ()> {
    let old = if options.absent_only || options.present_only || options.greater || options.less || options.incr {
        set.score(member)
    } else {
        // Nothing to weigh: one search does.
        return Ok(match set.set(member, score, db) {
            None => (Added::New, score),
            Some(old) if old == score => (Added::Same, score),
            Some(_) => (Added::Changed, score),
        });
    };
    let Some(old) = old else {
        if options.present_only {
            return Ok((Added::Skipped, score));
        }
        set.set(member, score, db);
        return Ok((Added::New, score));
    };
    if options.absent_only {
        return Ok((Added::Skipped, old));
    }
    let score = if options.incr { old + score } else { score };
    if score.is_nan() {
        return Err(());
    }
    if options.less && score >= old || options.greater && score <= old {
        return Ok((Added::Skipped, old));
    }
    if score == old {
        return Ok((Added::Same, score));
    }
    set.set(member, score, db);
    Ok((Added::Changed, score))
}

/// Adds members with scores to the set at the command's key, or tells an error.
pub(super) fn add<'m>(
    db: &mut View<'_, '_>,
    members: impl ExactSizeIterator<Item = (&'m [u8], f64)> + Clone,
    options: AddOptions,
    reply: &mut Reply<'_>,
) -> Option<Tally> {
    let limits = db.limits();
    let name = if options.incr { "zincr" } else { "zadd" };
    let all = |set: &mut Zset, edit: &mut Edit| {
        let mut tally = Tally::default();
        if set.is_empty() {
            // By the first member alone, as Redis does it.
            let first = members.clone().next().map_or(0, |(member, _)| member.len());
            set.expect(members.len(), first, limits);
        }
        for pair in members {
            let Ok((added, score)) = add_one(set, pair, options, limits) else { return None };
            tally.score = (!matches!(added, Added::Skipped)).then_some(score);
            tally.added += i64::from(matches!(added, Added::New));
            tally.changed += i64::from(matches!(added, Added::Changed));
        }
        if tally.added + tally.changed > 0 {
            edit.changed(event(name));
        }
        Some(tally)
    };
    let done = if options.present_only {
        db.edit(0, all).map(|tally| tally.unwrap_or_else(|| Some(Tally::default())))
    } else {
        db.edit_or_new(0, all)
    };
    match done {
        Ok(Some(tally)) => return Some(tally),
        Ok(None) => reply.error(NOT_A_NUMBER),
        Err(WrongType) => drop(wrong_type(reply)),
    }
    None
}

/// Answers with the score that INCR left, or nothing where an option forbade it.
fn answer_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zadd(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (options, first) = match AddOptions::parse(args) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    if (first..args.len()).step_by(2).any(|index| parse_double(args.at(index)).is_none()) {
        return fail(reply, NOT_A_FLOAT);
    }
    // Read again rather than kept, which would take memory for each command.
    let members = (first..args.len())
        .step_by(2)
        .map(|index| (args.at(index + 1), parse_double(args.at(index)).unwrap_or_default()));
    let Some(tally) = add(db, members, options, reply) else { return Outcome::Done };
    if options.incr {
        answer_score(reply, tally.score);
    } else {
        reply.integer(tally.added + if options.changed { tally.changed } else { 0 });
    }
    Outcome::Done
}

fn zincrby(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if ["nx", "xx", "gt", "lt", "ch", "incr"].iter().any(|word| args.is(2, word)) {
        // Real servers read it as ZADD's option, and miss the increment.
        return fail(reply, SYNTAX_ERROR);
    }
    let Some(increment) = parse_double(args.at(2)) else { return fail(reply, NOT_A_FLOAT) };
    let options = AddOptions { incr: true, ..AddOptions::default() };
    if let Some(tally) = add(db, std::iter::once((args.at(3), increment)), options, reply) {
        answer_score(reply, tally.score);
    }
    Outcome::Done
}

fn zrem(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = db.edit::<Zset, _>(0, |set, edit| {
        let removed = args.from(2).filter(|member| set.remove(member).is_some()).count();
        if removed > 0 {
            edit.changed(event("zrem"));
        }
        removed
    });
    let Ok(removed) = removed else { return wrong_type(reply) };
    reply.integer(removed.unwrap_or(0) as i64);
    Outcome::Done
}

fn zscore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    answer_score(reply, set.and_then(|set| set.score(args.at(2))));
    Outcome::Done
}

fn zmscore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    reply.array(args.len() - 2);
    for member in args.from(2) {
        answer_score(reply, set.and_then(|set| set.score(member)));
    }
    Outcome::Done
}

fn zcard(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    reply.integer(set.map_or(0, Zset::len) as i64);
    Outcome::Done
}

fn zrank(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(db, args, reply, false)
}

fn zrevrank(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(db, args, reply, true)
}

fn rank(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, reverse: bool) -> Outcome {
    if args.len() > 4 {
        let name = if reverse { "zrevrank" } else { "zrank" };
        return fail(reply, &format!("ERR wrong number of arguments for '{name}' command"));
    }
    let with_score = args.len() == 4;
    if with_score && !args.is(3, "withscore") {
        return fail(reply, SYNTAX_ERROR);
    }
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    let found = set.and_then(|set| set.rank(args.at(2)).map(|(rank, score)| (rank, score, set.len())));
    let Some((rank, score, len)) = found else {
        if with_score {
            reply.null_array();
        } else {
            reply.null();
        }
        return Outcome::Done;
    };
    let rank = if reverse { len - 1 - rank } else { rank };
    if with_score {
        reply.array(2);
    }
    reply.integer(rank as i64);
    if with_score {
        reply.double(score);
    }
    Outcome::Done
}

fn zscan(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    scan((db, args, reply), Scanned::Zset, |set: &Zset, cursor, count, found| {
        // As in Redis, which keeps the scores of a packed set as text.
        let format = if set.is_packed() { format_double } else { format_digits };
        set.scan(cursor, count, |member, score| found(member, Some(Item::Text(format(score).as_bytes()))))
    })
}
