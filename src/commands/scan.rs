//! The keyspace as a whole: walking it (SCAN, KEYS, RANDOMKEY, DBSIZE), emptying it, exchanging databases.

use super::{Acl, Args, Flags, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, Turn, Turns, fail};
use crate::glob;
use crate::keyspace::{Cause, Walk, free_tables};
use crate::protocol::{Output, Reply};
use crate::random;

const KEYSPACE: Spec = Spec { flags: Flags::READONLY, acl: Acl::KEYSPACE, ..Spec::BASE };
const FLUSH: Spec = Spec {
    arity: -1,
    flags: Flags::WRITE,
    acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    group: "server",
    syntax: "[ASYNC | SYNC]",
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "scan",
        arity: -2,
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        since: "2.8.0",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor \
            to return back to 0. N is the number of elements inside the collection.",
        summary: "Walks over the keys of the database, some at each call.",
        run: Run::Walk(scan),
        ..KEYSPACE
    },
    Spec {
        name: "keys",
        arity: 2,
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        syntax: "pattern",
        complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in \
            the database and the given pattern have limited length.",
        summary: "Returns all keys that match a pattern.",
        run: Run::Walk(keys),
        ..KEYSPACE
    },
    Spec {
        name: "randomkey",
        arity: 1,
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        summary: "Returns a random key of the database.",
        run: Run::Walk(randomkey),
        ..KEYSPACE
    },
    Spec {
        name: "dbsize",
        arity: 1,
        flags: Flags::READONLY.or(Flags::FAST),
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        group: "server",
        summary: "Counts the keys of the database.",
        run: Run::Walk(dbsize),
        ..KEYSPACE
    },
    Spec {
        name: "swapdb",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
        group: "server",
        since: "4.0.0",
        syntax: "index1 index2",
        complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
        summary: "Exchanges two databases.",
        run: Run::Walk(swapdb),
        ..Spec::BASE
    },
    Spec {
        name: "flushdb",
        complexity: "O(N) where N is the number of keys in the selected database",
        summary: "Removes all keys of the database.",
        run: Run::Walk(flushdb),
        ..FLUSH
    },
    Spec {
        name: "flushall",
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Removes all keys of all databases.",
        run: Run::Walk(flushall),
        ..FLUSH
    },
];

/// Keys that SCAN looks at without COUNT.
const SCAN_COUNT: u64 = 10;

pub(super) const NO_VALUES: &str = "ERR NOVALUES option can only be used in HSCAN";
pub(super) const NO_SCORES: &str = "ERR NOSCORES option can only be used in ZSCAN";

/// Bytes of what was found that are kept in one piece: none is so large that to copy or to free it takes long.
const PIECE: usize = 64 * 1024;

/// What was found, as the elements of a reply whose number is not known yet.
#[derive(Default)]
pub(super) struct Found {
    full: Vec<Output>,
    output: Output,
    count: usize,
}

impl Found {
    pub(super) fn add(&mut self, key: &[u8], reply: &Reply<'_>) {
        Reply::new(&mut self.output, reply.version()).bulk(key);
        self.count += 1;
        if self.output.len() >= PIECE {
            self.full.push(std::mem::take(&mut self.output));
        }
    }

    /// Bytes, about.
    fn len(&self) -> usize {
        self.full.len() * PIECE + self.output.len()
    }

    pub(super) fn write(self, reply: &mut Reply<'_>) {
        reply.array(self.count);
        self.full.into_iter().for_each(|piece| reply.output().append(piece));
        reply.output().append(self.output);
    }
}

/// A cursor as C's `strtoul` reads one: leading blanks and a sign are allowed.
pub(super) fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let cursor = digits.iter().try_fold(0u64, |n, &d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))?;
    (!negative || cursor == 0).then_some(cursor)
}

/// SCAN's filters.
struct Filter {
    count: u64,
    pattern: Option<Box<[u8]>>,
    type_name: Option<Box<[u8]>>,
}

impl Filter {
    fn parse(args: &Args<'_>) -> Result<Self, &'static str> {
        let mut filter = Self { count: SCAN_COUNT, pattern: None, type_name: None };
        let mut index = 2;
        while index < args.len() {
            let value = args.get(index + 1);
            match value {
                Some(_) if args.is(index, "count") => {
                    let count = args.integer(index + 1).ok_or(NOT_AN_INTEGER)?;
                    filter.count = u64::try_from(count).ok().filter(|&count| count > 0).ok_or(SYNTAX_ERROR)?;
                }
                Some(pattern) if args.is(index, "match") => {
                    filter.pattern = (pattern != b"*").then(|| pattern.into());
                }
                Some(name) if args.is(index, "type") => filter.type_name = Some(name.into()),
                _ if args.is(index, "novalues") => return Err(NO_VALUES),
                _ if args.is(index, "noscores") => return Err(NO_SCORES),
                _ => return Err(SYNTAX_ERROR),
            }
            index += 2;
        }
        Ok(filter)
    }

    fn passes(&self, key: &[u8], type_name: &str) -> bool {
        self.type_name.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(type_name.as_bytes()))
            && self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key, false))
    }
}

fn scan(walk: &mut Walk<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(mut cursor) = parse_cursor(args.at(1)) else { return fail(reply, "ERR invalid cursor") };
    let filter = match Filter::parse(args) {
        Ok(filter) => filter,
        Err(error) => return fail(reply, error),
    };
    let (mut left, mut found) = (filter.count, Found::default());
    Turns::begin(walk, reply, move |walk, reply| {
        let count = left.min(walk.turn());
        left -= count;
        cursor = walk.scan(cursor, count, |entry| {
            if filter.passes(entry.key(), entry.value().type_name()) {
                found.add(entry.key(), reply);
            }
        });
        if cursor > 0 && left > 0 {
            return Turn::On(found.len());
        }
        reply.array(2);
        reply.text(&cursor.to_string());
        std::mem::take(&mut found).write(reply);
        Turn::Done
    })
}

fn keys(walk: &mut Walk<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pattern = args.at(1).to_vec();
    let (mut cursor, mut found) = (0, Found::default());
    Turns::begin(walk, reply, move |walk, reply| {
        cursor = walk.scan_turn(cursor, |entry| {
            if pattern == b"*" || glob::matches(&pattern, entry.key(), false) {
                found.add(entry.key(), reply);
            }
        });
        if cursor > 0 {
            return Turn::On(found.len());
        }
        std::mem::take(&mut found).write(reply);
        Turn::Done
    })
}

/// Where nearly all keys have expired, the first that has not.
fn randomkey(walk: &mut Walk<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(key) = walk.random(random::next) {
        reply.bulk(&key);
        return Outcome::Done;
    }
    let mut cursor = 0;
    Turns::begin(walk, reply, move |walk, reply| {
        match walk.first(cursor) {
            Ok(key) => reply.bulk(&key),
            Err(0) => reply.null(),
            Err(next) => {
                cursor = next;
                return Turn::On(0);
            }
        }
        Turn::Done
    })
}

fn dbsize(walk: &mut Walk<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(walk.len() as i64);
    Outcome::Done
}

fn swapdb(walk: &mut Walk<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let index = |at: usize| args.integer(at).and_then(|number| i32::try_from(number).ok());
    let Some(first) = index(1) else { return fail(reply, "ERR invalid first DB index") };
    let Some(second) = index(2) else { return fail(reply, "ERR invalid second DB index") };
    let database = |number: i32| usize::try_from(number).ok().filter(|&number| number < walk.databases());
    let (Some(first), Some(second)) = (database(first), database(second)) else {
        return fail(reply, "ERR DB index is out of range");
    };
    if first != second {
        walk.swap(first, second);
    }
    reply.ok();
    Outcome::Done
}

fn flushdb(walk: &mut Walk<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let db = walk.db();
    flush(walk, Some(db), args, reply)
}

fn flushall(walk: &mut Walk<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    flush(walk, None, args, reply)
}

/// The keys are gone when the reply is sent. Their memory is, too, if SYNC or `lazyfree-lazy-user-flush` wants it so.
fn flush(walk: &mut Walk<'_, '_>, db: Option<usize>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        1 => free_tables(walk.flush(db), Cause::Flushed),
        2 if args.is(1, "async") => free_tables(walk.flush(db), Cause::Unlinked),
        2 if args.is(1, "sync") => drop(walk.flush(db)),
        _ => return fail(reply, SYNTAX_ERROR),
    };
    reply.ok();
    Outcome::Done
}
