//! The sorted set commands that mean ranges of members: by rank, by score, by the members themselves. All of them come
//! down to a range of ranks. Knows arguments and ranges, not how they are found.

use super::zset::{READ, REMOVE, WRITE, bulk, event};
use super::{Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Edit, NewValue, Ttl, View};
use crate::number::{parse_i64, parse_rounded_double};
use crate::protocol::Reply;
use crate::types::{Collection, Item, ScoreBound, TextBound, Zset};
use std::ops::Range;

const RANGE: Spec = Spec { arity: -4, flags: Flags::READONLY, ..READ };
const REMOVE_RANGE: Spec = Spec { arity: 4, flags: Flags::WRITE, ..REMOVE };
const COUNT: Spec = Spec { arity: 4, syntax: "key min max", complexity: COUNT_COMPLEXITY, ..READ };
const COUNT_COMPLEXITY: &str = "O(log(N)) with N being the number of elements in the sorted set.";
const RANGE_COMPLEXITY: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of \
    elements returned.";
const LIMIT_COMPLEXITY: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of \
    elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider \
    it O(log(N)).";
const REMOVE_COMPLEXITY: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of \
    elements removed by the operation.";
const OVERWRITE: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);
const ACCESS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "zrange",
        since: "1.2.0",
        syntax: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns members by rank, by score, or by the members themselves.",
        run: Run::Data(zrange),
        ..RANGE
    },
    Spec {
        name: "zrangestore",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: Keys::Specs(&[KeySpec::one(1, OVERWRITE), KeySpec::one(2, ACCESS)]),
        since: "6.2.0",
        syntax: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements \
            stored into the destination key.",
        summary: "Stores a range of members of a sorted set at another key.",
        run: Run::Data(zrangestore),
        ..WRITE
    },
    Spec {
        name: "zrevrange",
        since: "1.2.0",
        syntax: "key start stop [WITHSCORES]",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns members by rank, from the highest score down.",
        run: Run::Data(zrevrange),
        ..RANGE
    },
    Spec {
        name: "zrangebyscore",
        since: "1.0.5",
        syntax: "key min max [WITHSCORES] [LIMIT offset count]",
        complexity: LIMIT_COMPLEXITY,
        summary: "Returns the members with scores in a range.",
        run: Run::Data(zrangebyscore),
        ..RANGE
    },
    Spec {
        name: "zrevrangebyscore",
        since: "2.2.0",
        syntax: "key max min [WITHSCORES] [LIMIT offset count]",
        complexity: LIMIT_COMPLEXITY,
        summary: "Returns the members with scores in a range, from the highest score down.",
        run: Run::Data(zrevrangebyscore),
        ..RANGE
    },
    Spec {
        name: "zrangebylex",
        since: "2.8.9",
        syntax: "key min max [LIMIT offset count]",
        complexity: LIMIT_COMPLEXITY,
        summary: "Returns the members in a range of the members themselves.",
        run: Run::Data(zrangebylex),
        ..RANGE
    },
    Spec {
        name: "zrevrangebylex",
        since: "2.8.9",
        syntax: "key max min [LIMIT offset count]",
        complexity: LIMIT_COMPLEXITY,
        summary: "Returns the members in a range of the members themselves, from the last one on.",
        run: Run::Data(zrevrangebylex),
        ..RANGE
    },
    Spec {
        name: "zcount",
        since: "2.0.0",
        summary: "Counts the members with scores in a range.",
        run: Run::Data(zcount),
        ..COUNT
    },
    Spec {
        name: "zlexcount",
        since: "2.8.9",
        summary: "Counts the members in a range of the members themselves.",
        run: Run::Data(zlexcount),
        ..COUNT
    },
    Spec {
        name: "zremrangebyrank",
        since: "2.0.0",
        syntax: "key start stop",
        complexity: REMOVE_COMPLEXITY,
        summary: "Removes members by rank.",
        run: Run::Data(zremrangebyrank),
        ..REMOVE_RANGE
    },
    Spec {
        name: "zremrangebyscore",
        since: "1.2.0",
        syntax: "key min max",
        complexity: REMOVE_COMPLEXITY,
        summary: "Removes the members with scores in a range.",
        run: Run::Data(zremrangebyscore),
        ..REMOVE_RANGE
    },
    Spec {
        name: "zremrangebylex",
        since: "2.8.9",
        syntax: "key min max",
        complexity: REMOVE_COMPLEXITY,
        summary: "Removes the members in a range of the members themselves.",
        run: Run::Data(zremrangebylex),
        ..REMOVE_RANGE
    },
];

/// By what a range is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Text,
}

/// A range as it was asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted<'a> {
    /// From the start, negative from the end; both ends are in.
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Text(TextBound<'a>, TextBound<'a>),
}

impl<'a> Wanted<'a> {
    /// Reads two ends, which `reverse` says are the other way round where they are no ranks.
    fn parse(by: By, from: &'a [u8], to: &'a [u8], reverse: bool) -> Result<Self, &'static str> {
        let (min, max) = if reverse { (to, from) } else { (from, to) };
        match by {
            By::Rank => {
                let rank = |text| parse_i64(text).ok_or(NOT_AN_INTEGER);
                Ok(Self::Rank(rank(from)?, rank(to)?))
            }
            By::Score => {
                let bound = |text| score_bound(text).ok_or("ERR min or max is not a float");
                Ok(Self::Score(bound(min)?, bound(max)?))
            }
            By::Text => {
                let bound = |text| text_bound(text).ok_or("ERR min or max not valid string range item");
                Ok(Self::Text(bound(min)?, bound(max)?))
            }
        }
    }

    /// The range of ranks in a set; ranks are meant from the end if `reverse`.
    fn ranks(self, set: &Zset, reverse: bool) -> Range<usize> {
        match self {
            Self::Rank(start, end) => {
                let range = rank_range(set.len(), start, end);
                if reverse { set.len() - range.end..set.len() - range.start } else { range }
            }
            Self::Score(min, max) => set.by_score(min, max),
            Self::Text(min, max) => set.by_text(min, max, reverse, 0),
        }
    }
}

fn score_bound(text: &[u8]) -> Option<ScoreBound> {
    let (exclusive, text) = match text {
        [b'(', rest @ ..] => (true, rest),
        text => (false, text),
    };
    // Nothing reads as 0 here.
    let score = if text.is_empty() { 0.0 } else { parse_rounded_double(text)? };
    Some(ScoreBound { score, exclusive })
}

fn text_bound(text: &[u8]) -> Option<TextBound<'_>> {
    match text {
        b"-" => Some(TextBound::First),
        b"+" => Some(TextBound::Last),
        [b'(', rest @ ..] => Some(TextBound::Excluding(rest)),
        [b'[', rest @ ..] => Some(TextBound::Including(rest)),
        _ => None,
    }
}

/// The ranks from `start` to `end`, both in, negative ones from the end.
fn rank_range(len: usize, start: i64, end: i64) -> Range<usize> {
    let len = len as i64;
    let start = if start < 0 { (start + len).max(0) } else { start };
    let end = if end < 0 { end + len } else { end.min(len - 1) };
    if start > end || start >= len { 0..0 } else { start as usize..end as usize + 1 }
}

/// What ZRANGE and its kin are asked for.
#[derive(Clone, Copy, Debug)]
struct Query<'a> {
    wanted: Wanted<'a>,
    reverse: bool,
    /// LIMIT: members to pass over, and at most to give; negative: none, and all.
    limit: (i64, i64),
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads a query from argument `from` on. What the command's name says already, no option may say.
    fn parse(
        args: &Args<'a>,
        from: usize,
        by: Option<By>,
        reverse: Option<bool>,
        stores: bool,
    ) -> Result<Self, &'static str> {
        let (mut found_by, mut found_reverse) = (by, reverse);
        let (mut with_scores, mut limit) = (false, None);
        let mut index = from + 2;
        while index < args.len() {
            if !stores && args.is(index, "withscores") {
                with_scores = true;
            } else if args.is(index, "limit") && index + 2 < args.len() {
                let offset = args.integer(index + 1).ok_or(NOT_AN_INTEGER)?;
                limit = Some((offset, args.integer(index + 2).ok_or(NOT_AN_INTEGER)?));
                index += 2;
            } else if found_reverse.is_none() && args.is(index, "rev") {
                found_reverse = Some(true);
            } else if found_by.is_none() && args.is(index, "bylex") {
                found_by = Some(By::Text);
            } else if found_by.is_none() && args.is(index, "byscore") {
                found_by = Some(By::Score);
            } else {
                return Err(SYNTAX_ERROR);
            }
            index += 1;
        }
        let (by, reverse) = (found_by.unwrap_or(By::Rank), found_reverse.unwrap_or(false));
        if by == By::Rank && limit.take().is_some_and(|(_, count)| count != -1) {
            return Err("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
        }
        if by == By::Text && with_scores {
            return Err("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        }
        let wanted = Wanted::parse(by, args.at(from), args.at(from + 1), reverse)?;
        Ok(Self { wanted, reverse, limit: limit.unwrap_or((0, -1)), with_scores })
    }

    /// The range of ranks, LIMIT considered.
    fn ranks(&self, set: &Zset) -> Range<usize> {
        let (offset, count) = self.limit;
        let (range, offset) = match (self.wanted, usize::try_from(offset)) {
            (Wanted::Text(min, max), Ok(skip)) => (set.by_text(min, max, self.reverse, skip), 0),
            (wanted, _) => (wanted.ranks(set, self.reverse), offset),
        };
        let offset = usize::try_from(offset).map_or(range.len(), |offset| offset.min(range.len()));
        let count = usize::try_from(count).map_or(range.len(), |count| count).min(range.len() - offset);
        if self.reverse {
            range.end - offset - count..range.end - offset
        } else {
            range.start + offset..range.start + offset + count
        }
    }
}

fn zrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, None, None)
}

fn zrevrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, Some(By::Rank), Some(true))
}

fn zrangebyscore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, Some(By::Score), Some(false))
}

fn zrevrangebyscore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, Some(By::Score), Some(true))
}

fn zrangebylex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, Some(By::Text), Some(false))
}

fn zrevrangebylex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, Some(By::Text), Some(true))
}

fn range(
    db: &mut View<'_, '_>,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    by: Option<By>,
    reverse: Option<bool>,
) -> Outcome {
    let query = match Query::parse(args, 2, by, reverse, false) {
        Ok(query) => query,
        Err(error) => return fail(reply, error),
    };
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    let Some(set) = set else {
        reply.array(0);
        return Outcome::Done;
    };
    let ranks = query.ranks(set);
    let (len, members) = (ranks.len(), set.iter(ranks));
    if query.reverse {
        write_members(reply, len, members.rev(), query.with_scores);
    } else {
        write_members(reply, len, members, query.with_scores);
    }
    Outcome::Done
}

/// Writes `len` members, with their scores in pairs in RESP3, one behind the other in RESP2.
pub(super) fn write_members<'m>(
    reply: &mut Reply<'_>,
    len: usize,
    members: impl Iterator<Item = (Item<'m>, f64)>,
    with_scores: bool,
) {
    let in_pairs = with_scores && reply.is_v3();
    reply.array(if with_scores && !in_pairs { len * 2 } else { len });
    for (member, score) in members {
        if in_pairs {
            reply.array(2);
        }
        bulk(reply, member);
        if with_scores {
            reply.double(score);
        }
    }
}

fn zrangestore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = match Query::parse(args, 3, None, None, true) {
        Ok(query) => query,
        Err(error) => return fail(reply, error),
    };
    let limits = db.limits();
    let Ok(set) = db.read_as::<Zset>(1) else { return wrong_type(reply) };
    let range = set.map(|set| {
        // One by one as in Redis: a -0 becomes 0 in a packed set, even if that does not stay one.
        let (mut range, mut digits, ranks) = (Zset::default(), itoa::Buffer::new(), query.ranks(set));
        if matches!(query.wanted, Wanted::Rank(..)) {
            range.expect(ranks.len(), 0, limits);
        }
        let mut add = |(member, score): (Item<'_>, f64)| _ = range.set(member.bytes(&mut digits), score, limits);
        match query.reverse {
            true => set.iter(ranks).rev().for_each(&mut add),
            false => set.iter(ranks).for_each(&mut add),
        }
        range
    });
    store(db, range.unwrap_or_default(), "zrangestore", reply);
    Outcome::Done
}

/// Stores a set at the command's first key, which goes if the set is empty; answers with the number of its members.
pub(super) fn store(db: &mut View<'_, '_>, set: Zset, name: &'static str, reply: &mut Reply<'_>) {
    let len = set.len();
    if len == 0 {
        db.remove(0);
    } else {
        db.set(0, NewValue::Object(set.into_object()), Ttl::None, event(name));
    }
    reply.integer(len as i64);
}

fn zcount(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, args, reply, By::Score)
}

fn zlexcount(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, args, reply, By::Text)
}

fn count(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, by: By) -> Outcome {
    let wanted = match Wanted::parse(by, args.at(2), args.at(3), false) {
        Ok(wanted) => wanted,
        Err(error) => return fail(reply, error),
    };
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    reply.integer(set.map_or(0, |set| wanted.ranks(set, false).len()) as i64);
    Outcome::Done
}

/// Removes the members of a range of ranks.
pub(super) fn take_out(set: &mut Zset, range: Range<usize>, edit: &mut Edit) {
    let old = set.cut(range);
    if !old.is_empty() {
        edit.discard(old);
    }
}

fn zremrangebyrank(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(db, args, reply, By::Rank, "zremrangebyrank")
}

fn zremrangebyscore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(db, args, reply, By::Score, "zremrangebyscore")
}

fn zremrangebylex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(db, args, reply, By::Text, "zremrangebylex")
}

fn remove_range(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, by: By, name: &'static str) -> Outcome {
    let wanted = match Wanted::parse(by, args.at(2), args.at(3), false) {
        Ok(wanted) => wanted,
        Err(error) => return fail(reply, error),
    };
    let removed = db.edit::<Zset, _>(0, |set, edit| {
        let range = wanted.ranks(set, false);
        let removed = range.len();
        if removed > 0 {
            take_out(set, range, edit);
            edit.changed(event(name));
        }
        removed
    });
    let Ok(removed) = removed else { return wrong_type(reply) };
    reply.integer(removed.unwrap_or(0) as i64);
    Outcome::Done
}
