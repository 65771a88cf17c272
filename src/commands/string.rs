//! The string commands, those that count ([`super::counter`]) and LCS excepted.

use super::options::{Condition, Expiry, Options, Words};
use super::{
    Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, Write, fail,
    wrong_type,
};
use crate::keyspace::{Event, NewValue, Place, Text, Ttl, View, WrongType};
use crate::protocol::{Reply, SHARE_AT};
use crate::types;
use bytes::Bytes;

const READ: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::STRING,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "string",
    syntax: "key",
    ..Spec::BASE
};
const WRITE: Spec = Spec { flags: Flags::WRITE.or(Flags::DENYOOM), acl: Acl::STRING, group: "string", ..Spec::BASE };
const QUICK_WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const INSERT: KeyFlags = KeyFlags::OW.or(KeyFlags::INSERT);
const OVERWRITE: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);
const RANGE_COMPLEXITY: &str = "O(N) where N is the length of the returned string. The complexity is ultimately \
    determined by the returned length, but because creating a substring from an existing string is very cheap, it can \
    be considered O(1) for small strings.";
const ALL_SHARDS: &[&str] = &["request_policy:multi_shard", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec { name: "get", summary: "Returns the string at a key.", run: Run::Data(get), ..READ },
    Spec {
        name: "mget",
        arity: -2,
        keys: Keys::READ_ALL,
        tips: &["request_policy:multi_shard"],
        syntax: "key [key ...]",
        complexity: "O(N) where N is the number of keys to retrieve.",
        summary: "Returns the strings at several keys.",
        run: Run::Data(mget),
        ..READ
    },
    Spec {
        name: "strlen",
        keys: Keys::LOOK_ONE,
        since: "2.2.0",
        summary: "Returns the length of the string at a key.",
        run: Run::Data(strlen),
        ..READ
    },
    Spec {
        name: "getrange",
        arity: 4,
        flags: Flags::READONLY,
        since: "2.4.0",
        syntax: "key start end",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns a part of the string at a key.",
        run: Run::Data(getrange),
        ..READ
    },
    Spec {
        name: "substr",
        arity: 4,
        flags: Flags::READONLY,
        syntax: "key start end",
        complexity: RANGE_COMPLEXITY,
        summary: "Returns a part of the string at a key. The old name of GETRANGE.",
        run: Run::Data(getrange),
        ..READ
    },
    Spec {
        name: "getex",
        arity: -2,
        flags: Flags::WRITE.or(Flags::FAST),
        keys: Keys::ACCESS_UPDATE_ONE,
        since: "6.2.0",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        summary: "Returns the string at a key and sets or removes its TTL.",
        write: Write::Ttl,
        run: Run::Data(getex),
        ..READ
    },
    Spec {
        name: "getdel",
        flags: Flags::WRITE.or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))]),
        fill: Fill::Before,
        since: "6.2.0",
        summary: "Returns the string at a key and removes the key.",
        run: Run::Data(getdel),
        ..READ
    },
    Spec {
        name: "getset",
        arity: 3,
        flags: QUICK_WRITE,
        keys: Keys::ACCESS_UPDATE_ONE,
        fill: Fill::Before,
        syntax: "key value",
        summary: "Sets the string at a key and returns the one that was there.",
        run: Run::Data(getset),
        ..WRITE
    },
    Spec {
        name: "set",
        arity: -3,
        keys: Keys::Specs(&[KeySpec::one(
            1,
            KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
        )]),
        fill: Fill::BeforeIf(&["get", "ifeq"]),
        syntax: "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | \
            EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        summary: "Sets the string at a key, where asked under a condition, with a TTL, or returning the old one.",
        write: Write::Set(2, rehearse_set),
        run: Run::Data(set),
        ..WRITE
    },
    Spec {
        name: "setnx",
        arity: 3,
        flags: QUICK_WRITE,
        keys: Keys::Specs(&[KeySpec::one(1, INSERT)]),
        syntax: "key value",
        summary: "Sets the string at a key that does not exist.",
        run: Run::Data(setnx),
        ..WRITE
    },
    Spec {
        name: "setex",
        arity: 4,
        keys: Keys::OVERWRITE_ONE,
        since: "2.0.0",
        syntax: "key seconds value",
        summary: "Sets the string at a key with a TTL in seconds.",
        write: Write::Set(3, rehearse_setex),
        run: Run::Data(setex),
        ..WRITE
    },
    Spec {
        name: "psetex",
        arity: 4,
        keys: Keys::OVERWRITE_ONE,
        since: "2.6.0",
        syntax: "key milliseconds value",
        summary: "Sets the string at a key with a TTL in milliseconds.",
        write: Write::Set(3, rehearse_psetex),
        run: Run::Data(psetex),
        ..WRITE
    },
    Spec {
        name: "mset",
        arity: -3,
        keys: Keys::Specs(&[KeySpec::range(1, -1, 2, OVERWRITE)]),
        tips: ALL_SHARDS,
        since: "1.0.1",
        syntax: "key value [key value ...]",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Sets the strings at several keys.",
        run: Run::Data(mset),
        ..WRITE
    },
    Spec {
        name: "msetnx",
        arity: -3,
        keys: Keys::Specs(&[KeySpec::range(1, -1, 2, INSERT)]),
        since: "1.0.1",
        syntax: "key value [key value ...]",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Sets the strings at several keys if none of them exists.",
        run: Run::Data(msetnx),
        ..WRITE
    },
    Spec {
        name: "msetex",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[KeySpec::numbered(1, 2, OVERWRITE)]),
        tips: ALL_SHARDS,
        since: "9.1.0",
        syntax: "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
            PXAT unix-time-milliseconds | KEEPTTL]",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Sets the strings at several keys with one TTL, where asked only if all or none of them exist.",
        run: Run::Data(msetex),
        ..WRITE
    },
    Spec {
        name: "append",
        arity: 3,
        flags: QUICK_WRITE,
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))]),
        fill: Fill::Before,
        since: "2.0.0",
        syntax: "key value",
        complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already \
            present value is of any size, since the dynamic string library used by Redis will double the free space \
            available on every reallocation.",
        summary: "Appends to the string at a key.",
        run: Run::Data(append),
        ..WRITE
    },
    Spec {
        name: "setrange",
        arity: 4,
        keys: Keys::UPDATE_ONE,
        fill: Fill::Before,
        since: "2.2.0",
        syntax: "key offset value",
        complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very \
            small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the \
            value argument.",
        summary: "Overwrites a part of the string at a key, from an offset on.",
        run: Run::Data(setrange),
        ..WRITE
    },
    Spec {
        name: "delifeq",
        arity: 3,
        flags: Flags::WRITE.or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RM.or(KeyFlags::DELETE))]),
        since: "9.0.0",
        syntax: "key value",
        summary: "Removes a key if its string is the given one.",
        run: Run::Data(delifeq),
        ..WRITE
    },
];

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// Writes a string.
#[inline]
fn bulk(reply: &mut Reply<'_>, text: Text<'_>) {
    match text {
        Text::Inline(bytes, _) => reply.bulk(bytes),
        Text::Int(number) => reply.bulk_integer(number),
        Text::Shared(bytes) => reply.bulk_shared(bytes),
        Text::Compressed(_) => reply.bulk_shared(&text.to_bytes()),
    }
}

/// Writes the string at a key, which is read, or nothing; false after the error for a value of another type.
#[inline]
fn bulk_at(db: &mut View<'_, '_>, key: usize, reply: &mut Reply<'_>) -> bool {
    match db.read(key) {
        Ok(Some(text)) => bulk(reply, text),
        Ok(None) => reply.null(),
        Err(WrongType) => {
            wrong_type(reply);
            return false;
        }
    }
    true
}

fn get(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    bulk_at(db, 0, reply);
    Outcome::Done
}

fn mget(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(db.len());
    for key in 0..db.len() {
        match db.read(key) {
            Ok(Some(text)) => bulk(reply, text),
            Ok(None) | Err(WrongType) => reply.null(),
        }
    }
    Outcome::Done
}

fn strlen(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(text) = db.read(0) else { return wrong_type(reply) };
    reply.integer(text.map_or(0, Text::len) as i64);
    Outcome::Done
}

fn getrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(start), Some(end)) = (args.integer(2), args.integer(3)) else { return fail(reply, NOT_AN_INTEGER) };
    match db.read(0) {
        Ok(Some(Text::Shared(bytes))) => reply.bulk_shared(&bytes.slice(types::range(bytes.len(), start, end))),
        Ok(Some(text)) => text.with(|bytes| reply.bulk(&bytes[types::range(bytes.len(), start, end)])),
        Ok(None) => reply.bulk(b""),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn getex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(options) = Options::parse(args, 2, Words::GETEX) else { return fail(reply, SYNTAX_ERROR) };
    match db.read(0) {
        Ok(Some(_)) => {}
        Ok(None) => {
            reply.null();
            return Outcome::Done;
        }
        Err(WrongType) => return wrong_type(reply),
    }
    let ttl = match options.expiry {
        Expiry::Unchanged => None,
        expiry => match expiry.ttl(db.now(), "getex") {
            Ok(ttl) => Some(ttl),
            Err(error) => return fail(reply, &error),
        },
    };
    let Some(place) = db.find(0) else {
        // It was loaded but not kept, so there is no TTL to set.
        bulk_at(db, 0, reply);
        return Outcome::Done;
    };
    let Ok(text) = db.text_at(0, place) else { return wrong_type(reply) };
    bulk(reply, text);
    let has_ttl = db.entry(0, place).expire_at().is_some();
    match ttl {
        Some(Ttl::At(at)) if db.is_over(at) => {
            db.remove(0);
        }
        Some(Ttl::At(at)) => db.set_expire(0, place, Some(at)),
        Some(Ttl::None) if has_ttl => db.set_expire(0, place, None),
        _ => {}
    }
    Outcome::Done
}

fn getdel(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if bulk_at(db, 0, reply) {
        db.remove(0);
    }
    Outcome::Done
}

fn getset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if bulk_at(db, 0, reply) {
        db.set(0, NewValue::of(args.at(2)), Ttl::None, Event::SET);
    }
    Outcome::Done
}

fn set(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 3 {
        db.set(0, NewValue::of(args.at(2)), Ttl::None, Event::SET);
        reply.ok();
        return Outcome::Done;
    }
    let Some(options) = Options::parse(args, 3, Words::SET) else { return fail(reply, SYNTAX_ERROR) };
    let ttl = match options.expiry.ttl(db.now(), "set") {
        Ok(ttl) => ttl,
        Err(error) => return fail(reply, &error),
    };
    if options.get && !bulk_at(db, 0, reply) {
        return Outcome::Done;
    }
    let met = match options.condition {
        Condition::Always => true,
        Condition::Absent => db.find(0).is_none(),
        Condition::Present => db.find(0).is_some(),
        Condition::Equal(wanted) => match is_equal(db, wanted) {
            Ok(is_equal) => is_equal,
            Err(WrongType) => return wrong_type(reply),
        },
    };
    if met {
        store(db, 0, args.at(2), ttl);
    }
    match (options.get, met) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Outcome::Done
}

/// SET of a key that is written in its database: only that can say whether a condition is met. The TTL, which is the
/// cache's, must be one; the copy that is loaded afterwards has its route's.
fn rehearse_set(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(options) = Options::parse(args, 3, Words::SET) else { return fail(reply, SYNTAX_ERROR) };
    if options.get || options.condition != Condition::Always {
        return fail(reply, "ERR SET with a condition or GET cannot be written to the database");
    }
    rehearse_ttl(db, options.expiry, "set", reply)
}

fn rehearse_setex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rehearse_ttl(db, Expiry::seconds(args.at(2)), "setex", reply)
}

fn rehearse_psetex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rehearse_ttl(db, Expiry::milliseconds(args.at(2)), "psetex", reply)
}

fn rehearse_ttl(db: &View<'_, '_>, expiry: Expiry<'_>, command: &str, reply: &mut Reply<'_>) -> Outcome {
    match expiry.ttl(db.now(), command) {
        Ok(_) => reply.ok(),
        Err(error) => reply.error(&error),
    }
    Outcome::Done
}

/// Whether the string at the command's key is there and is `wanted`.
fn is_equal(db: &mut View<'_, '_>, wanted: &[u8]) -> Result<bool, WrongType> {
    let Some(place) = db.find(0) else { return Ok(false) };
    Ok(db.text_at(0, place)?.with(|bytes| bytes == wanted))
}

/// Stores a string; one that has expired already removes the key.
fn store(db: &mut View<'_, '_>, key: usize, value: &[u8], ttl: Ttl) {
    match ttl {
        Ttl::At(at) if db.is_over(at) => {
            db.remove(key);
        }
        ttl => db.set(key, NewValue::of(value), ttl, Event::SET),
    }
}

fn setnx(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let absent = db.find(0).is_none();
    if absent {
        db.add(0, NewValue::of(args.at(2)), None, Event::SET);
    }
    reply.integer(absent.into());
    Outcome::Done
}

fn setex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiring(db, args, reply, Expiry::seconds(args.at(2)), "setex")
}

fn psetex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_expiring(db, args, reply, Expiry::milliseconds(args.at(2)), "psetex")
}

fn set_expiring(
    db: &mut View<'_, '_>,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    expiry: Expiry<'_>,
    command: &str,
) -> Outcome {
    match expiry.ttl(db.now(), command) {
        Ok(ttl) => {
            store(db, 0, args.at(3), ttl);
            reply.ok();
            Outcome::Done
        }
        Err(error) => fail(reply, &error),
    }
}

/// The keys and values of MSET and MSETNX: false if a value is missing.
fn are_pairs(args: &Args<'_>) -> bool {
    args.len() % 2 == 1
}

fn mset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !are_pairs(args) {
        return fail(reply, "ERR wrong number of arguments for 'mset' command");
    }
    for key in 0..db.len() {
        db.set(key, NewValue::of(args.at(2 + key * 2)), Ttl::None, Event::SET);
    }
    reply.ok();
    Outcome::Done
}

fn msetnx(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !are_pairs(args) {
        return fail(reply, "ERR wrong number of arguments for 'msetnx' command");
    }
    let none = (0..db.len()).all(|key| db.find(key).is_none());
    if none {
        for key in 0..db.len() {
            db.set(key, NewValue::of(args.at(2 + key * 2)), Ttl::None, Event::SET);
        }
    }
    reply.integer(none.into());
    Outcome::Done
}

fn msetex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(keys) = args.integer(1).filter(|keys| (1..=i64::from(i32::MAX)).contains(keys)) else {
        return fail(reply, "ERR invalid numkeys value or out of range");
    };
    let end = 2 + keys as usize * 2;
    if end > args.len() {
        return fail(reply, SYNTAX_ERROR);
    }
    let Some(options) = Options::parse(args, end, Words::MSETEX) else { return fail(reply, SYNTAX_ERROR) };
    let ttl = match options.expiry.ttl(db.now(), "msetex") {
        Ok(ttl) => ttl,
        Err(error) => return fail(reply, &error),
    };
    let met = match options.condition {
        Condition::Absent => (0..db.len()).all(|key| db.find(key).is_none()),
        Condition::Present => (0..db.len()).all(|key| db.find(key).is_some()),
        Condition::Always | Condition::Equal(_) => true,
    };
    if met {
        for key in 0..db.len() {
            store(db, key, args.at(3 + key * 2), ttl);
        }
    }
    reply.integer(met.into());
    Outcome::Done
}

fn append(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let more = args.at(2);
    let Some(place) = db.find(0) else {
        db.add(0, NewValue::of(more), None, Event::APPEND);
        reply.integer(more.len() as i64);
        return Outcome::Done;
    };
    let Ok(text) = db.text_at(0, place) else { return wrong_type(reply) };
    let len = text.len() + more.len();
    if len > db.max_string() {
        return fail(reply, TOO_LONG);
    }
    change(db, place, Event::APPEND, |text| types::append(text, more));
    reply.integer(len as i64);
    Outcome::Done
}

fn setrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(offset) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    if offset < 0 {
        return fail(reply, "ERR offset is out of range");
    }
    let part = args.at(3);
    let place = db.find(0);
    let len = match place.map(|place| db.text_at(0, place)) {
        None => 0,
        Some(Ok(text)) => text.len(),
        Some(Err(WrongType)) => return wrong_type(reply),
    };
    if part.is_empty() {
        reply.integer(len as i64);
        return Outcome::Done;
    }
    let end = offset as u64 + part.len() as u64;
    if end > db.max_string() as u64 {
        return fail(reply, TOO_LONG);
    }
    let offset = offset as usize;
    match place {
        Some(place) => edit(db, place, Event::SETRANGE, end as usize, |text| {
            text[offset..offset + part.len()].copy_from_slice(part);
        }),
        None => {
            let text = types::edit(Bytes::new(), end as usize, |text| text[offset..].copy_from_slice(part));
            let value = if text.len() >= SHARE_AT { NewValue::Shared(text) } else { NewValue::Raw(&text) };
            db.add(0, value, None, Event::SETRANGE);
        }
    }
    reply.integer(len.max(end as usize) as i64);
    Outcome::Done
}

/// Changes bytes of the string of the command's key, which was found and is a string, filled up with zero bytes to at
/// least `len` bytes. It is not copied if it is large, or if it need not grow and was changed before.
pub(super) fn edit(db: &mut View<'_, '_>, place: Place, event: Event, len: usize, f: impl FnOnce(&mut [u8])) {
    match db.edit_raw(0, place, event, len) {
        Some(text) => f(text),
        None => change(db, place, event, |text| types::edit(text, len, f)),
    }
}

/// Changes the string of the command's key, which was found and is a string, in place where it is large.
fn change(db: &mut View<'_, '_>, place: Place, event: Event, f: impl FnOnce(Bytes) -> Bytes) {
    let text = match db.take_shared(0, place) {
        Some(text) => text,
        None => db.text_at(0, place).map(Text::to_bytes).unwrap_or_default(),
    };
    let text = f(text);
    if text.len() >= SHARE_AT {
        db.replace(0, place, NewValue::Shared(text), Ttl::Keep, event);
    } else {
        db.replace(0, place, NewValue::Raw(&text), Ttl::Keep, event);
    }
}

fn delifeq(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(is_equal) = is_equal(db, args.at(2)) else { return wrong_type(reply) };
    if is_equal {
        db.remove(0);
    }
    reply.integer(is_equal.into());
    Outcome::Done
}
