//! Keys of any type: whether they are there, what they are, and taking them elsewhere. When they expire is in
//! [`super::expire`]; walks over all keys are in [`super::scan`].

use super::{
    Acl, Args, Ctx, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, Write, fail,
};
use crate::keyspace::{Cause, Entry, View};
use crate::protocol::Reply;

const KEY: Spec = Spec { acl: Acl::KEYSPACE, syntax: "key", ..Spec::BASE };
const OBJECT: Spec = Spec {
    arity: 3,
    flags: Flags::READONLY,
    keys: Keys::Specs(&[KeySpec::one(2, KeyFlags::RO)]),
    tips: &["nondeterministic_output"],
    since: "2.2.3",
    ..KEY
};
const QUICK_READ: Flags = Flags::READONLY.or(Flags::FAST);
const QUICK_WRITE: Flags = Flags::WRITE.or(Flags::FAST);
const SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const REMOVED: Keys = Keys::Specs(&[KeySpec::range(1, -1, 1, KeyFlags::RM.or(KeyFlags::DELETE))]);
const MOVED: KeySpec = KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE));

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "del",
        arity: -2,
        flags: Flags::WRITE,
        keys: REMOVED,
        tips: SUM,
        syntax: "key [key ...]",
        complexity: "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other \
            than a string, the individual complexity for this key is O(M) where M is the number of elements in the \
            list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
        summary: "Removes keys.",
        write: Write::Delete,
        run: Run::Data(del),
        ..KEY
    },
    Spec {
        name: "unlink",
        arity: -2,
        flags: QUICK_WRITE,
        keys: REMOVED,
        tips: SUM,
        since: "4.0.0",
        syntax: "key [key ...]",
        complexity: "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different \
            thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed \
            of.",
        summary: "Removes keys; nobody waits for their memory to be freed.",
        write: Write::Delete,
        run: Run::Data(unlink),
        ..KEY
    },
    Spec {
        name: "exists",
        arity: -2,
        flags: QUICK_READ,
        keys: Keys::LOOK_ALL,
        tips: SUM,
        syntax: "key [key ...]",
        complexity: "O(N) where N is the number of keys to check.",
        summary: "Counts which of the keys exist.",
        run: Run::Data(exists),
        ..KEY
    },
    Spec {
        name: "touch",
        arity: -2,
        flags: QUICK_READ,
        keys: Keys::LOOK_ALL,
        tips: SUM,
        since: "3.2.1",
        syntax: "key [key ...]",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Counts which of the keys exist, and notes an access to them.",
        run: Run::Data(touch),
        ..KEY
    },
    Spec {
        name: "type",
        arity: 2,
        flags: QUICK_READ,
        keys: Keys::LOOK_ONE,
        summary: "Returns the type of the value at a key.",
        run: Run::Data(type_of),
        ..KEY
    },
    Spec {
        name: "rename",
        arity: 3,
        flags: Flags::WRITE,
        keys: Keys::Specs(&[MOVED, KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE))]),
        syntax: "key newkey",
        summary: "Gives a key another name; what was there is overwritten.",
        run: Run::Data(rename),
        ..KEY
    },
    Spec {
        name: "renamenx",
        arity: 3,
        flags: QUICK_WRITE,
        keys: Keys::Specs(&[MOVED, KeySpec::one(2, KeyFlags::OW.or(KeyFlags::INSERT))]),
        syntax: "key newkey",
        summary: "Gives a key another name if there is no key of that name.",
        run: Run::Data(renamenx),
        ..KEY
    },
    Spec {
        name: "copy",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: Keys::Specs(&[
            KeySpec::one(1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
        ]),
        since: "6.2.0",
        syntax: "source destination [DB destination-db] [REPLACE]",
        complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
        summary: "Copies the value at a key, and its TTL, to another key.",
        run: Run::Data(copy),
        ..KEY
    },
    Spec {
        name: "move",
        arity: 3,
        flags: QUICK_WRITE,
        keys: Keys::ACCESS_UPDATE_ONE,
        syntax: "key db",
        summary: "Moves a key to another database, unless it is there already.",
        run: Run::Data(move_key),
        ..KEY
    },
    Spec {
        name: "object",
        arity: -2,
        since: "2.2.3",
        complexity: "Depends on subcommand.",
        summary: "Commands that look at how a value is kept.",
        ..Spec::BASE
    },
    Spec {
        name: "object|encoding",
        summary: "Returns how the value at a key is kept.",
        run: Run::Data(encoding),
        ..OBJECT
    },
    Spec {
        name: "object|freq",
        since: "4.0.0",
        summary: "Returns the logarithmic access counter of a key.",
        run: Run::Data(freq),
        ..OBJECT
    },
    Spec {
        name: "object|idletime",
        summary: "Returns the seconds since the last access to a key.",
        run: Run::Data(idletime),
        ..OBJECT
    },
    Spec {
        name: "object|refcount",
        summary: "Returns how many references the value at a key has.",
        run: Run::Data(refcount),
        ..OBJECT
    },
    Spec {
        name: "object|help",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        acl: Acl::KEYSPACE,
        since: "6.2.0",
        summary: "Lists the subcommands of OBJECT.",
        run: Run::Server(help),
        ..Spec::BASE
    },
];

const NO_SUCH_KEY: &str = "ERR no such key";
const SAME_OBJECT: &str = "ERR source and destination objects are the same";
const NOT_AN_INT: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
const NO_SUCH_DB: &str = "ERR DB index is out of range";
const NO_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
    when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const LFU: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
    between policies at runtime LRU and LFU data will take some time to adjust.";

/// Answers for how many of its keys `f` says yes.
fn count(db: &mut View<'_, '_>, reply: &mut Reply<'_>, f: impl Fn(&mut View<'_, '_>, usize) -> bool) -> Outcome {
    let found = (0..db.len()).filter(|&key| f(db, key)).count();
    reply.integer(found as i64);
    Outcome::Done
}

fn del(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, reply, |db, key| db.remove_for(key, Cause::Deleted))
}

fn unlink(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, reply, |db, key| db.remove_for(key, Cause::Unlinked))
}

fn exists(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, reply, |db, key| db.peek(key).is_some())
}

fn touch(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(db, reply, |db, key| db.touch_any(key))
}

fn type_of(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.simple(db.peek(0).map_or("none", |entry| entry.value().type_name()));
    Outcome::Done
}

fn rename(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if db.find(0).is_none() {
        return fail(reply, NO_SUCH_KEY);
    }
    if db.key(0) != db.key(1) {
        db.rename(0, 1);
    }
    reply.ok();
    Outcome::Done
}

fn renamenx(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if db.find(0).is_none() {
        return fail(reply, NO_SUCH_KEY);
    }
    let is_free = db.find(1).is_none();
    if is_free {
        db.rename(0, 1);
    }
    reply.integer(is_free.into());
    Outcome::Done
}

/// The database that an argument names, or the error.
fn database(db: &View<'_, '_>, args: &Args<'_>, index: usize) -> Result<usize, &'static str> {
    let number = args.integer(index).ok_or(NOT_AN_INTEGER)?;
    let number = i32::try_from(number).map_err(|_| NOT_AN_INT)?;
    usize::try_from(number).ok().filter(|&number| number < db.databases()).ok_or(NO_SUCH_DB)
}

fn copy(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut to_db, mut replace) = (db.db(), false);
    let mut index = 3;
    while index < args.len() {
        if args.is(index, "replace") {
            replace = true;
        } else if args.is(index, "db") && index + 1 < args.len() {
            index += 1;
            to_db = match database(db, args, index) {
                Ok(to_db) => to_db,
                Err(error) => return fail(reply, error),
            };
        } else {
            return fail(reply, SYNTAX_ERROR);
        }
        index += 1;
    }
    if to_db == db.db() && db.key(0) == db.key(1) {
        return fail(reply, SAME_OBJECT);
    }
    let exists = db.peek(0).is_some();
    let is_free = exists && (db.in_db(to_db).find(1).is_none() || replace);
    let displaced = if is_free { db.in_db(to_db).displace(1) } else { None };
    // Found again: removing the destination may have moved the source.
    let place = if is_free { db.find(0) } else { None };
    if let Some(place) = place {
        db.copy(0, place, 1, to_db, displaced);
    }
    reply.integer(place.is_some().into());
    Outcome::Done
}

fn move_key(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let to_db = match database(db, args, 2) {
        Ok(to_db) if to_db == db.db() => return fail(reply, SAME_OBJECT),
        Ok(to_db) => to_db,
        Err(error) => return fail(reply, error),
    };
    let place = if db.in_db(to_db).find(0).is_none() { db.find(0) } else { None };
    if let Some(place) = place {
        db.move_to(0, place, to_db);
    }
    reply.integer(place.is_some().into());
    Outcome::Done
}

/// Answers with what `f` says of the entry at the key, or nothing.
fn object(
    db: &mut View<'_, '_>,
    reply: &mut Reply<'_>,
    f: impl FnOnce(Entry<'_>, &mut Reply<'_>) -> Outcome,
) -> Outcome {
    match db.peek(0) {
        Some(entry) => f(entry, reply),
        None => {
            reply.null();
            Outcome::Done
        }
    }
}

fn encoding(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    object(db, reply, |entry, reply| {
        reply.text(entry.value().encoding());
        Outcome::Done
    })
}

fn refcount(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    object(db, reply, |_, reply| {
        reply.integer(1);
        Outcome::Done
    })
}

fn freq(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let access = db.access();
    object(db, reply, |entry, reply| {
        if !access.is_lfu() {
            return fail(reply, NO_LFU);
        }
        reply.integer(access.frequency(entry.access()).into());
        Outcome::Done
    })
}

fn idletime(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let access = db.access();
    object(db, reply, |entry, reply| {
        if access.is_lfu() {
            return fail(reply, LFU);
        }
        reply.integer(access.idle_seconds(entry.access()).into());
        Outcome::Done
    })
}

fn help(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let lines = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    How the value at the key is kept in memory.",
        "FREQ <key>",
        "    The access counter of the key, which grows with the logarithm of the accesses.",
        "IDLETIME <key>",
        "    Seconds since the last access to the key, roughly.",
        "REFCOUNT <key>",
        "    References to the value at the key.",
        "HELP",
        "    This text.",
    ];
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Outcome::Done
}
