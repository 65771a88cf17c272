//! The sorted set commands that combine several sets: union, intersection, difference, answered or stored. Sets count
//! as sorted sets whose members all have the score 1.

use super::zset::{READ, WRITE};
use super::zset_range::{store, write_members};
use super::{Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Place, Value, View, WrongType};
use crate::number::parse_double;
use crate::protocol::Reply;
use crate::types::{Item, ObjectRef, Set, Zset};
use foldhash::quality::RandomState;
use std::collections::HashMap;

const ACCESS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const ANSWERED: Spec = Spec {
    arity: -3,
    flags: Flags::READONLY.or(Flags::MOVABLEKEYS),
    keys: Keys::Specs(&[KeySpec::numbered(1, 1, ACCESS)]),
    since: "6.2.0",
    syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    ..READ
};
const STORED: Spec = Spec {
    arity: -4,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::MOVABLEKEYS),
    keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE)), KeySpec::numbered(2, 1, ACCESS)]),
    since: "2.0.0",
    syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    ..WRITE
};
const UNION_COMPLEXITY: &str = "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being \
    the number of elements in the resulting sorted set.";
const INTER_COMPLEXITY: &str = "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the \
    number of input sorted sets and M being the number of elements in the resulting sorted set.";
const DIFF_COMPLEXITY: &str = "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N \
    is the size of the first set, and K is the size of the result set.";

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "zunion",
        complexity: UNION_COMPLEXITY,
        summary: "Returns the members of any of several sorted sets.",
        run: Run::Data(|db, args, reply| answer(db, args, reply, Combination::Union)),
        ..ANSWERED
    },
    Spec {
        name: "zinter",
        complexity: INTER_COMPLEXITY,
        summary: "Returns the members of all of several sorted sets.",
        run: Run::Data(|db, args, reply| answer(db, args, reply, Combination::Intersection)),
        ..ANSWERED
    },
    Spec {
        name: "zdiff",
        syntax: "numkeys key [key ...] [WITHSCORES]",
        complexity: DIFF_COMPLEXITY,
        summary: "Returns the members of the first of several sorted sets that are in none of the others.",
        run: Run::Data(|db, args, reply| answer(db, args, reply, Combination::Difference)),
        ..ANSWERED
    },
    Spec {
        name: "zintercard",
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit]",
        complexity: "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted \
            sets.",
        summary: "Counts the members of all of several sorted sets.",
        run: Run::Data(zintercard),
        ..ANSWERED
    },
    Spec {
        name: "zunionstore",
        complexity: "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number \
            of elements in the resulting sorted set.",
        summary: "Stores the members of any of several sorted sets at another key.",
        run: Run::Data(|db, args, reply| keep(db, args, reply, Combination::Union, "zunionstore")),
        ..STORED
    },
    Spec {
        name: "zinterstore",
        complexity: INTER_COMPLEXITY,
        summary: "Stores the members of all of several sorted sets at another key.",
        run: Run::Data(|db, args, reply| keep(db, args, reply, Combination::Intersection, "zinterstore")),
        ..STORED
    },
    Spec {
        name: "zdiffstore",
        since: "6.2.0",
        syntax: "destination numkeys key [key ...]",
        complexity: DIFF_COMPLEXITY,
        summary: "Stores the members of the first of several sorted sets that are in none of the others at another key.",
        run: Run::Data(|db, args, reply| keep(db, args, reply, Combination::Difference, "zdiffstore")),
        ..STORED
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combination {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores of a member of several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Opposite infinities come to nothing.
            Self::Sum => zero_if_nan(a + b),
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What a command is asked for beyond its keys.
struct Options {
    weights: Option<Vec<f64>>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// A set to combine.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// There is nothing at the key.
    Empty,
    Zset(&'a Zset),
    /// All its members have the score 1.
    Set(&'a Set),
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Zset(set) => set.len(),
            Self::Set(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Empty => None,
            Self::Zset(set) => set.score(member),
            Self::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    fn iter(self) -> impl Iterator<Item = (Item<'a>, f64)> {
        let (scored, plain) = match self {
            Self::Empty => (None, None),
            Self::Zset(set) => (Some(set.iter_all()), None),
            Self::Set(set) => (None, Some(set.iter().map(|member| (member, 1.0)))),
        };
        scored.into_iter().flatten().chain(plain.into_iter().flatten())
    }
}

/// How many keys are given; argument `index` says.
fn parse_numkeys(args: &Args<'_>, index: usize, name: &str) -> Result<usize, String> {
    let number = args.integer(index).ok_or(NOT_AN_INTEGER)?;
    if number < 1 {
        return Err(format!("ERR at least 1 input key is needed for '{name}' command"));
    }
    usize::try_from(number).ok().filter(|keys| *keys < args.len() - index).ok_or(SYNTAX_ERROR.to_owned())
}

impl Options {
    /// Reads the options from argument `index` on, for so many keys.
    fn parse(
        args: &Args<'_>,
        mut index: usize,
        keys: usize,
        is_diff: bool,
        stores: bool,
    ) -> Result<Self, &'static str> {
        let mut options = Self { weights: None, aggregate: Aggregate::Sum, with_scores: false };
        while index < args.len() {
            if !is_diff && args.is(index, "weights") && index + keys < args.len() {
                let weights: Option<Vec<f64>> = args.from(index + 1).take(keys).map(parse_double).collect();
                options.weights = Some(weights.ok_or("ERR weight value is not a float")?);
                index += keys;
            } else if !is_diff && args.is(index, "aggregate") && index + 1 < args.len() {
                options.aggregate = match args.at(index + 1) {
                    word if word.eq_ignore_ascii_case(b"sum") => Aggregate::Sum,
                    word if word.eq_ignore_ascii_case(b"min") => Aggregate::Min,
                    word if word.eq_ignore_ascii_case(b"max") => Aggregate::Max,
                    _ => return Err(SYNTAX_ERROR),
                };
                index += 1;
            } else if !stores && args.is(index, "withscores") {
                options.with_scores = true;
            } else {
                return Err(SYNTAX_ERROR);
            }
            index += 1;
        }
        Ok(options)
    }
}

/// The sets at the command's keys from number `first` on.
fn sources<'a>(db: &'a mut View<'_, '_>, first: usize) -> Result<Vec<Source<'a>>, WrongType> {
    // First all that may remove a key, as an expired one is: then nothing moves any more.
    for key in first..db.len() {
        db.read_any(key);
    }
    let places: Vec<_> = (first..db.len()).map(|key| db.find(key)).collect();
    let db = &*db;
    let source = |(index, place): (usize, Option<Place>)| {
        let Some(place) = place else { return Ok(Source::Empty) };
        match db.entry(first + index, place).value() {
            Value::Object(ObjectRef::Zset(set)) => Ok(Source::Zset(set)),
            Value::Object(ObjectRef::Set(set)) => Ok(Source::Set(set)),
            _ => Err(WrongType),
        }
    };
    places.into_iter().enumerate().map(source).collect()
}

/// A combination, in order.
type Combined = Vec<(Vec<u8>, f64)>;

/// Combines sets.
fn combine(sources: &[Source<'_>], combination: Combination, options: &Options) -> Combined {
    let weight = |index: usize| options.weights.as_ref().map_or(1.0, |weights| weights[index]);
    let weighted = |index: usize, score: f64| zero_if_nan(score * weight(index));
    let mut digits = itoa::Buffer::new();
    let mut combined: Combined = Vec::new();
    // In the order of their sizes: so scores are added up as in Redis, where the order shows in the last digit.
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|index| sources[*index].len());
    match combination {
        Combination::Union => {
            let mut scores: HashMap<Vec<u8>, f64, RandomState> = HashMap::default();
            for index in order {
                for (member, score) in sources[index].iter() {
                    let (member, score) = (member.bytes(&mut digits), weighted(index, score));
                    if let Some(sum) = scores.get_mut(member) {
                        *sum = options.aggregate.of(*sum, score);
                    } else {
                        scores.insert(member.to_vec(), score);
                    }
                }
            }
            combined.extend(scores);
        }
        Combination::Intersection => {
            let [smallest, others @ ..] = &order[..] else { return combined };
            for (member, score) in sources[*smallest].iter() {
                let member = member.bytes(&mut digits);
                let sum = others.iter().try_fold(weighted(*smallest, score), |sum, index| {
                    let score = sources[*index].score(member)?;
                    // Not a number (0 times infinity) makes the sum 0 here, as in Redis.
                    Some(options.aggregate.of(sum, score * weight(*index)))
                });
                combined.extend(sum.map(|sum| (member.to_vec(), sum)));
            }
        }
        Combination::Difference => {
            let [first, others @ ..] = sources else { return combined };
            // Either every member of the first is sought in the others, or all of theirs are taken out of it.
            let sought = first.len().saturating_mul(others.len() + 1) / 2;
            if sought <= sources.iter().map(|source| source.len()).sum() {
                for (member, score) in first.iter() {
                    let member = member.bytes(&mut digits);
                    if !others.iter().any(|other| other.score(member).is_some()) {
                        combined.push((member.to_vec(), score));
                    }
                }
            } else {
                let mut rest: HashMap<Vec<u8>, f64, RandomState> =
                    first.iter().map(|(member, score)| (member.to_vec(), score)).collect();
                for (member, _) in others.iter().flat_map(|other| other.iter()) {
                    rest.remove(member.bytes(&mut digits));
                    if rest.is_empty() {
                        break;
                    }
                }
                combined.extend(rest);
            }
        }
    }
    // The order of the result.
    combined.sort_unstable_by(|(a, x), (b, y)| {
        x.partial_cmp(y).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.cmp(b))
    });
    combined
}

/// Reads a command's arguments, the number of keys at `from`, and combines its sets; or answers with an error.
fn combined(
    db: &mut View<'_, '_>,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    (combination, name, from): (Combination, &str, usize),
) -> Option<(Combined, bool)> {
    let keys = match parse_numkeys(args, from, name) {
        Ok(keys) => keys,
        Err(error) => return failed(reply, &error),
    };
    let Ok(sources) = sources(db, from - 1) else {
        wrong_type(reply);
        return None;
    };
    let is_diff = combination == Combination::Difference;
    let options = match Options::parse(args, from + 1 + keys, keys, is_diff, from > 1) {
        Ok(options) => options,
        Err(error) => return failed(reply, error),
    };
    Some((combine(&sources, combination, &options), options.with_scores))
}

fn failed<T>(reply: &mut Reply<'_>, error: &str) -> Option<T> {
    fail(reply, error);
    None
}

fn answer(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, combination: Combination) -> Outcome {
    let name = match combination {
        Combination::Union => "zunion",
        Combination::Intersection => "zinter",
        Combination::Difference => "zdiff",
    };
    if let Some((members, with_scores)) = combined(db, args, reply, (combination, name, 1)) {
        let len = members.len();
        let members = members.iter().map(|(member, score)| (Item::Text(member), *score));
        write_members(reply, len, members, with_scores);
    }
    Outcome::Done
}

fn keep(
    db: &mut View<'_, '_>,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    combination: Combination,
    name: &'static str,
) -> Outcome {
    if let Some((members, _)) = combined(db, args, reply, (combination, name, 2)) {
        let members = members.iter().map(|(member, score)| (member.as_slice(), *score));
        let set = Zset::from_sorted(members, db.limits());
        store(db, set, name, reply);
    }
    Outcome::Done
}

fn zintercard(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let keys = match parse_numkeys(args, 1, "zintercard") {
        Ok(keys) => keys,
        Err(error) => return fail(reply, &error),
    };
    let Ok(sources) = sources(db, 0) else { return wrong_type(reply) };
    let mut limit = 0;
    let mut index = 2 + keys;
    while index < args.len() {
        if !args.is(index, "limit") || index + 1 >= args.len() {
            return fail(reply, SYNTAX_ERROR);
        }
        let Some(number) = args.integer(index + 1).and_then(|number| usize::try_from(number).ok()) else {
            return fail(reply, "ERR LIMIT can't be negative");
        };
        limit = number;
        index += 2;
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut digits = itoa::Buffer::new();
    let smallest = sources.iter().copied().min_by_key(|source| source.len()).unwrap_or(Source::Empty);
    let members = smallest.iter().filter(|(member, _)| {
        let member = member.bytes(&mut digits);
        sources.iter().all(|source| source.score(member).is_some())
    });
    reply.integer(members.take(limit).count() as i64);
    Outcome::Done
}
