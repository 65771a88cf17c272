//! What the commands on several types of collections share: elements in replies, HSCAN and its like, random elements.
//! It must not know which types there are.

use super::scan::{Found, NO_SCORES, NO_VALUES, parse_cursor};
use super::{Args, NOT_AN_INTEGER, Outcome, SYNTAX_ERROR, fail, wrong_type};
use crate::glob;
use crate::keyspace::{View, WrongType};
use crate::protocol::{Mark, Reply};
use crate::random;
use crate::types::{Collection, Item};

/// Elements that HSCAN and the like look at without COUNT.
const SCAN_COUNT: u64 = 10;
/// What a client may ask for with a negative count of random elements, in bytes of the reply.
const RANDOM_REPLY_MAX: usize = 1 << 30;
const OUT_OF_RANGE: &str = "ERR value is out of range";
const NOT_IN_RANGE: &str = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";

/// Writes an element as a bulk string.
#[inline]
pub(super) fn bulk_item(reply: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Int(number) => reply.bulk_integer(number),
        Item::Text(text) => reply.bulk(text),
    }
}

/// What HSCAN and the like walk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    Hash,
    Set,
    Zset,
}

/// The options of HSCAN and the like.
struct ScanOptions<'a> {
    count: u64,
    pattern: Option<&'a [u8]>,
    /// NOVALUES, NOSCORES.
    names_only: bool,
}

impl<'a> ScanOptions<'a> {
    fn parse(args: &Args<'a>, scanned: Scanned) -> Result<Self, &'static str> {
        let mut options = Self { count: SCAN_COUNT, pattern: None, names_only: false };
        let mut index = 3;
        while index < args.len() {
            match args.get(index + 1) {
                Some(_) if args.is(index, "count") => {
                    let count = args.integer(index + 1).ok_or(NOT_AN_INTEGER)?;
                    options.count = u64::try_from(count).ok().filter(|&count| count > 0).ok_or(SYNTAX_ERROR)?;
                    index += 1;
                }
                Some(pattern) if args.is(index, "match") => {
                    options.pattern = Some(pattern).filter(|pattern| *pattern != b"*");
                    index += 1;
                }
                _ if args.is(index, "novalues") && scanned == Scanned::Hash => options.names_only = true,
                _ if args.is(index, "novalues") => return Err(NO_VALUES),
                _ if args.is(index, "noscores") && scanned == Scanned::Zset => options.names_only = true,
                _ if args.is(index, "noscores") => return Err(NO_SCORES),
                _ => return Err(SYNTAX_ERROR),
            }
            index += 1;
        }
        Ok(options)
    }

    /// True if an element is asked for.
    fn passes(&self, item: Item<'_>) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, item.bytes(&mut itoa::Buffer::new()), false))
    }
}

/// HSCAN, SSCAN and ZSCAN. `walk` looks at about so many elements from a cursor on, calls what it is given with each
/// name and what stands with it, and gives the next cursor.
pub(super) fn scan<T: Collection>(
    (db, args, reply): (&mut View<'_, '_>, &Args<'_>, &mut Reply<'_>),
    scanned: Scanned,
    walk: impl FnOnce(&T, u64, u64, &mut dyn FnMut(Item<'_>, Option<Item<'_>>)) -> u64,
) -> Outcome {
    let Some(cursor) = parse_cursor(args.at(2)) else { return fail(reply, "ERR invalid cursor") };
    let collection = match db.read_as::<T>(0) {
        Ok(Some(collection)) => collection,
        Ok(None) => {
            reply.array(2);
            reply.bulk(b"0");
            reply.array(0);
            return Outcome::Done;
        }
        Err(WrongType) => return wrong_type(reply),
    };
    let options = match ScanOptions::parse(args, scanned) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let mut found = Found::default();
    let next = walk(collection, cursor, options.count, &mut |name, with| {
        if options.passes(name) {
            found.add(name.bytes(&mut itoa::Buffer::new()), reply);
            if let Some(with) = with.filter(|_| !options.names_only) {
                found.add(with.bytes(&mut itoa::Buffer::new()), reply);
            }
        }
    });
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    found.write(reply);
    Outcome::Done
}

/// The count of random elements that an argument asks for, or the error; `pairs`: each is two elements of the reply.
pub(super) fn random_count(args: &Args<'_>, index: usize) -> Result<i64, &'static str> {
    match args.integer(index) {
        None => Err(NOT_AN_INTEGER),
        Some(i64::MIN) => Err(NOT_IN_RANGE),
        Some(count) => Ok(count),
    }
}

/// The error for a count of pairs that a reply cannot hold.
pub(super) fn check_pairs(count: i64) -> Result<(), &'static str> {
    if count.unsigned_abs() > i64::MAX as u64 / 2 { Err(OUT_OF_RANGE) } else { Ok(()) }
}

/// Writes `count` random ones of `all`, each with `write`: distinct ones, or, negative, any. The head of the reply stands
/// behind `mark`. `one` gives a random element where only few of `len` are wanted, so that `all` need not be called, which
/// costs a walk.
pub(super) fn write_random<T: Copy + Ord>(
    reply: &mut Reply<'_>,
    mark: Mark,
    count: i64,
    len: usize,
    mut one: impl FnMut() -> Option<T>,
    all: impl FnOnce() -> Vec<T>,
    write: impl Fn(&mut Reply<'_>, T),
) -> Outcome {
    let wanted = count.unsigned_abs().min(usize::MAX as u64) as usize;
    if count < 0 {
        return write_repeated(reply, mark, wanted, len, one, all, write);
    }
    if wanted > len / 3 {
        let mut all = all();
        if wanted >= all.len() {
            all.into_iter().for_each(|element| write(reply, element));
            return Outcome::Done;
        }
        let end = wanted.min(all.len());
        for index in 0..end {
            let other = index + below(all.len() - index);
            all.swap(index, other);
            write(reply, all[index]);
        }
    } else {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < wanted {
            let Some(element) = one() else { break };
            if seen.insert(element) {
                write(reply, element);
            }
        }
    }
    Outcome::Done
}

fn write_repeated<T: Copy>(
    reply: &mut Reply<'_>,
    mark: Mark,
    wanted: usize,
    len: usize,
    mut one: impl FnMut() -> Option<T>,
    all: impl FnOnce() -> Vec<T>,
    write: impl Fn(&mut Reply<'_>, T),
) -> Outcome {
    let most = reply.output().len().saturating_add(RANDOM_REPLY_MAX);
    let all = if wanted > len / 3 { all() } else { Vec::new() };
    for _ in 0..wanted {
        let element = if all.is_empty() { one() } else { Some(all[below(all.len())]) };
        let Some(element) = element else { break };
        write(reply, element);
        if reply.output().len() > most {
            reply.output().truncate(mark);
            return fail(reply, OUT_OF_RANGE);
        }
    }
    Outcome::Done
}

/// A random number below `limit`, which is not 0.
fn below(limit: usize) -> usize {
    ((u128::from(random::next()) * limit as u128) >> 64) as usize
}
