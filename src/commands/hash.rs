//! The hash commands, those on the TTLs of fields ([`super::hash_ttl`]) excepted.

use super::collection::{Scanned, bulk_item, check_pairs, random_count, scan, write_random};
use super::{
    Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, Write, fail,
    wrong_type,
};
use crate::keyspace::{Event, View, WrongType, class};
use crate::protocol::{Reply, parse_i64};
use crate::random;
use crate::types::{FieldTtl, Hash, Item, LongDouble};

pub(super) const READ: Spec = Spec {
    arity: 3,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::HASH,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "hash",
    since: "2.0.0",
    syntax: "key field",
    ..Spec::BASE
};
const READ_ALL: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    syntax: "key",
    complexity: "O(N) where N is the size of the hash.",
    ..READ
};
pub(super) const WRITE: Spec = Spec {
    arity: 4,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Acl::HASH,
    keys: Keys::UPDATE_ONE,
    fill: Fill::Before,
    group: "hash",
    since: "2.0.0",
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "hset",
        arity: -4,
        syntax: "key field value [field value ...]",
        complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is \
            called with multiple field/value pairs.",
        summary: "Sets fields of a hash; counts the new ones.",
        write: Write::Fields(rehearse_hset),
        element: 2,
        run: Run::Data(hset),
        ..WRITE
    },
    Spec {
        name: "hmset",
        arity: -4,
        syntax: "key field value [field value ...]",
        complexity: "O(N) where N is the number of fields being set.",
        summary: "Sets fields of a hash. The old name of HSET.",
        write: Write::Fields(rehearse_hmset),
        element: 2,
        run: Run::Data(hmset),
        ..WRITE
    },
    Spec {
        name: "hsetnx",
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))]),
        syntax: "key field value",
        summary: "Sets a field of a hash unless it is there.",
        element: 2,
        run: Run::Data(hsetnx),
        ..WRITE
    },
    Spec {
        name: "hincrby",
        keys: Keys::ACCESS_UPDATE_ONE,
        syntax: "key field increment",
        summary: "Adds to the integer in a field of a hash.",
        element: 2,
        run: Run::Data(hincrby),
        ..WRITE
    },
    Spec {
        name: "hincrbyfloat",
        keys: Keys::ACCESS_UPDATE_ONE,
        since: "2.6.0",
        syntax: "key field increment",
        summary: "Adds to the floating-point number in a field of a hash.",
        element: 2,
        run: Run::Data(hincrbyfloat),
        ..WRITE
    },
    Spec {
        name: "hdel",
        arity: -3,
        flags: Flags::WRITE.or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]),
        syntax: "key field [field ...]",
        complexity: "O(N) where N is the number of fields to be removed.",
        summary: "Removes fields of a hash.",
        element: 2,
        run: Run::Data(hdel),
        ..WRITE
    },
    Spec { name: "hget", summary: "Returns the value of a field of a hash.", element: 2, run: Run::Data(hget), ..READ },
    Spec {
        name: "hmget",
        arity: -3,
        syntax: "key field [field ...]",
        complexity: "O(N) where N is the number of fields being requested.",
        summary: "Returns the values of fields of a hash.",
        element: 2,
        run: Run::Data(hmget),
        ..READ
    },
    Spec {
        name: "hexists",
        keys: Keys::LOOK_ONE,
        summary: "Tells whether a field is in a hash.",
        element: 2,
        run: Run::Data(hexists),
        ..READ
    },
    Spec {
        name: "hstrlen",
        keys: Keys::LOOK_ONE,
        since: "3.2.0",
        summary: "Returns the length of the value of a field of a hash.",
        element: 2,
        run: Run::Data(hstrlen),
        ..READ
    },
    Spec {
        name: "hlen",
        arity: 2,
        keys: Keys::LOOK_ONE,
        syntax: "key",
        summary: "Counts the fields of a hash.",
        run: Run::Data(hlen),
        ..READ
    },
    Spec {
        name: "hgetall",
        summary: "Returns the fields of a hash with their values.",
        run: Run::Data(hgetall),
        ..READ_ALL
    },
    Spec { name: "hkeys", summary: "Returns the fields of a hash.", run: Run::Data(hkeys), ..READ_ALL },
    Spec { name: "hvals", summary: "Returns the values of a hash.", run: Run::Data(hvals), ..READ_ALL },
    Spec {
        name: "hrandfield",
        arity: -2,
        tips: &["nondeterministic_output"],
        since: "6.2.0",
        syntax: "key [count [WITHVALUES]]",
        complexity: "O(N) where N is the number of fields returned",
        summary: "Returns random fields of a hash.",
        run: Run::Data(hrandfield),
        ..READ_ALL
    },
    Spec {
        name: "hscan",
        arity: -3,
        tips: &["nondeterministic_output"],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor \
            to return back to 0. N is the number of elements inside the collection.",
        summary: "Walks over the fields of a hash, some at each call.",
        run: Run::Data(hscan),
        ..READ_ALL
    },
];

pub(super) const HSET: Event = Event::new(class::HASH, "hset");
pub(super) const HDEL: Event = Event::new(class::HASH, "hdel");
const HINCRBY: Event = Event::new(class::HASH, "hincrby");
const HINCRBYFLOAT: Event = Event::new(class::HASH, "hincrbyfloat");
const NOT_A_FLOAT: &str = "ERR value is not a valid float";

/// Sets the pairs among the arguments; how many fields are new, or None after an error.
fn set_pairs(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, name: &str) -> Option<i64> {
    if args.len() % 2 == 1 {
        fail(reply, &format!("ERR wrong number of arguments for '{name}' command"));
        return None;
    }
    let (now, limits) = (db.seen_at(), db.limits());
    let added = db.edit_or_new::<Hash, _>(0, |hash, edit| {
        edit.changed(HSET);
        hash.reserve(args.len() / 2 - 1, 0, limits);
        let pairs = (2..args.len()).step_by(2);
        pairs.map(|at| i64::from(hash.set(args.at(at), args.at(at + 1), FieldTtl::Clear, now, limits))).sum()
    });
    if let Err(WrongType) = added {
        wrong_type(reply);
    }
    added.ok()
}

fn hset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(added) = set_pairs(db, args, reply, "hset") {
        reply.integer(added);
    }
    Outcome::Done
}

fn hmset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if set_pairs(db, args, reply, "hmset").is_some() {
        reply.ok();
    }
    Outcome::Done
}

/// HSET of a key that is written in its database: which fields would be new.
fn rehearse_hset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() % 2 == 1 {
        return fail(reply, "ERR wrong number of arguments for 'hset' command");
    }
    let now = db.seen_at();
    let Ok(hash) = db.collection::<Hash>(0) else { return wrong_type(reply) };
    let is_new = |field: &&[u8]| hash.is_none_or(|hash| hash.get(field, now).is_none());
    let fields: std::collections::BTreeSet<&[u8]> = (2..args.len()).step_by(2).map(|at| args.at(at)).collect();
    reply.integer(fields.iter().filter(|field| is_new(field)).count() as i64);
    Outcome::Done
}

fn rehearse_hmset(_: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() % 2 == 1 {
        return fail(reply, "ERR wrong number of arguments for 'hmset' command");
    }
    reply.ok();
    Outcome::Done
}

fn hsetnx(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (now, limits, field) = (db.seen_at(), db.limits(), args.at(2));
    let added = db.edit_or_new::<Hash, _>(0, |hash, edit| {
        let is_free = hash.get(field, now).is_none();
        if is_free {
            hash.set(field, args.at(3), FieldTtl::Clear, now, limits);
            edit.changed(HSET);
        }
        is_free
    });
    let Ok(added) = added else { return wrong_type(reply) };
    reply.integer(added.into());
    Outcome::Done
}

fn hincrby(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(by) = args.integer(3) else { return fail(reply, NOT_AN_INTEGER) };
    let (now, limits, field) = (db.seen_at(), db.limits(), args.at(2));
    let sum = db.edit_or_new::<Hash, _>(0, |hash, edit| {
        let number = match hash.get(field, now) {
            None => Some(0),
            Some(Item::Int(number)) => Some(number),
            Some(Item::Text(text)) => parse_i64(text),
        };
        let number = number.ok_or("ERR hash value is not an integer")?;
        let sum = number.checked_add(by).ok_or("ERR increment or decrement would overflow")?;
        hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), FieldTtl::Keep, now, limits);
        edit.changed(HINCRBY);
        Ok(sum)
    });
    match sum {
        Ok(Ok(sum)) => reply.integer(sum),
        Ok(Err(error)) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn hincrbyfloat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let by = match LongDouble::parse(args.at(3)) {
        Some(LongDouble::Infinite { .. }) => return fail(reply, "ERR value is NaN or Infinity"),
        Some(by) => by,
        None => return fail(reply, NOT_A_FLOAT),
    };
    let (now, limits, field) = (db.seen_at(), db.limits(), args.at(2));
    let sum = db.edit_or_new::<Hash, _>(0, |hash, edit| {
        let number = match hash.get(field, now) {
            None => Some(LongDouble::from(0)),
            Some(Item::Int(number)) => Some(LongDouble::from(number)),
            Some(Item::Text(text)) => LongDouble::parse(text),
        };
        let number = number.ok_or("ERR hash value is not a float")?;
        let sum = number.checked_add(by).ok_or("ERR increment would produce NaN or Infinity")?.to_string();
        hash.set(field, sum.as_bytes(), FieldTtl::Keep, now, limits);
        edit.changed(HINCRBYFLOAT);
        Ok(sum)
    });
    match sum {
        Ok(Ok(sum)) => reply.text(&sum),
        Ok(Err(error)) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn hdel(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let removed = db.edit::<Hash, _>(0, |hash, edit| {
        let removed = args.from(2).filter(|field| hash.remove(field, now)).count();
        if removed > 0 {
            edit.changed(HDEL);
        }
        removed
    });
    let Ok(removed) = removed else { return wrong_type(reply) };
    reply.integer(removed.unwrap_or(0) as i64);
    Outcome::Done
}

/// Writes a value, or nothing.
pub(super) fn value(reply: &mut Reply<'_>, item: Option<Item<'_>>) {
    match item {
        Some(item) => bulk_item(reply, item),
        None => reply.null(),
    }
}

fn hget(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    value(reply, hash.and_then(|hash| hash.get(args.at(2), now)));
    Outcome::Done
}

fn hmget(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.array(args.len() - 2);
    for field in args.from(2) {
        value(reply, hash.and_then(|hash| hash.get(field, now)));
    }
    Outcome::Done
}

fn hexists(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.integer(hash.is_some_and(|hash| hash.get(args.at(2), now).is_some()).into());
    Outcome::Done
}

fn hstrlen(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.integer(hash.and_then(|hash| hash.get(args.at(2), now)).map_or(0, Item::len) as i64);
    Outcome::Done
}

fn hlen(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.integer(hash.map_or(0, |hash| hash.live(now)) as i64);
    Outcome::Done
}

fn hgetall(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.map(hash.map_or(0, |hash| hash.live(now)));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter(now)) {
        bulk_item(reply, field);
        bulk_item(reply, value);
    }
    Outcome::Done
}

fn hkeys(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    halves(db, reply, |(field, _)| field)
}

fn hvals(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    halves(db, reply, |(_, value)| value)
}

fn halves(
    db: &mut View<'_, '_>,
    reply: &mut Reply<'_>,
    half: impl for<'i> Fn((Item<'i>, Item<'i>)) -> Item<'i>,
) -> Outcome {
    let now = db.seen_at();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.array(hash.map_or(0, |hash| hash.live(now)));
    hash.iter().flat_map(|hash| hash.iter(now)).for_each(|pair| bulk_item(reply, half(pair)));
    Outcome::Done
}

fn hrandfield(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    if args.len() == 2 {
        let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
        value(reply, hash.and_then(|hash| hash.random(now, random::next)).map(|(field, _)| field));
        return Outcome::Done;
    }
    let count = match random_count(args, 2) {
        Ok(count) => count,
        Err(error) => return fail(reply, error),
    };
    let with_values = args.is(3, "withvalues");
    if args.len() > 4 || args.len() == 4 && !with_values {
        return fail(reply, SYNTAX_ERROR);
    }
    if with_values && let Err(error) = check_pairs(count) {
        return fail(reply, error);
    }
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    let len = hash.map_or(0, |hash| hash.live(now));
    let Some(hash) = hash.filter(|_| len > 0 && count != 0) else {
        reply.array(0);
        return Outcome::Done;
    };
    let written = if count < 0 { count.unsigned_abs() as usize } else { len.min(count as usize) };
    let is_flat = with_values && !reply.is_v3();
    let mark = reply.output().mark();
    reply.array(if is_flat { written * 2 } else { written });
    let write = |reply: &mut Reply<'_>, (field, value): (Item<'_>, Item<'_>)| {
        if with_values && !is_flat {
            reply.array(2);
        }
        bulk_item(reply, field);
        if with_values {
            bulk_item(reply, value);
        }
    };
    // Where most have expired, one that has not is hard to hit.
    let wanted = if hash.is_table() && len > hash.len() / 4 { len } else { 0 };
    write_random(reply, mark, count, wanted, || hash.random(now, random::next), || hash.iter(now).collect(), write)
}

fn hscan(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.seen_at();
    scan((db, args, reply), Scanned::Hash, |hash: &Hash, cursor, count, found| {
        hash.scan(cursor, count, now, |field, value| found(field, Some(value)))
    })
}
