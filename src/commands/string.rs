//! The string commands.

use super::{Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, Spec};
use crate::keyspace::{NewValue, Ttl, Value, View};
use crate::protocol::Reply;

const READ: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "get",
        arity: 2,
        flags: READ,
        acl: Acl::STRING,
        keys: Keys::READ_ONE,
        fill: Fill::Read,
        group: "string",
        syntax: "key",
        summary: "Returns the string at a key.",
        run: Run::Data(get),
        ..Spec::BASE
    },
    Spec {
        name: "mget",
        arity: -2,
        flags: READ,
        acl: Acl::STRING,
        keys: Keys::READ_ALL,
        fill: Fill::Read,
        tips: &["request_policy:multi_shard"],
        group: "string",
        syntax: "key [key ...]",
        complexity: "O(N) where N is the number of keys",
        summary: "Returns the strings at several keys.",
        run: Run::Data(mget),
        ..Spec::BASE
    },
    Spec {
        name: "set",
        arity: -3,
        flags: WRITE,
        acl: Acl::STRING,
        keys: Keys::Specs(&[KeySpec::one(
            1,
            KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
        )]),
        group: "string",
        syntax: "key value",
        summary: "Sets the string at a key.",
        run: Run::Data(set),
        ..Spec::BASE
    },
];

/// Writes a value as a bulk string.
#[inline]
fn bulk(reply: &mut Reply<'_>, value: Value<'_>) {
    match value {
        Value::Inline(bytes, _) => reply.bulk(bytes),
        Value::Int(number) => reply.bulk_integer(number),
        Value::Shared(bytes) => reply.bulk_shared(bytes),
    }
}

fn get(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match db.read(0) {
        Some(value) => bulk(reply, value),
        None => reply.null(),
    }
    Outcome::Done
}

fn mget(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(db.len());
    for key in 0..db.len() {
        match db.read(key) {
            Some(value) => bulk(reply, value),
            None => reply.null(),
        }
    }
    Outcome::Done
}

fn set(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    db.set(0, NewValue::of(args.at(2)), Ttl::None);
    reply.ok();
    Outcome::Done
}
