//! DUMP and RESTORE. The format is [`crate::rdb`]'s; here it meets the values as they are kept.

use super::{Acl, Args, Fill, Flags, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail};
use crate::config::Limits;
use crate::keyspace::{Event, NewValue, Ttl, Value, View};
use crate::protocol::{Reply, SHARE_AT};
use crate::rdb::{Bad, Dump, Kind, Part, load};
use crate::types::{Element, End, List, Object, ObjectRef, Zset};
use bytes::Bytes;

const RESTORE: Spec = Spec {
    name: "restore",
    arity: -4,
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Acl::KEYSPACE.or(Acl::DANGEROUS),
    keys: Keys::OVERWRITE_ONE,
    fill: Fill::No,
    since: "2.6.0",
    syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the \
        number of Redis objects composing the value and M their average size. For small string values the time \
        complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity \
        is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).",
    summary: "Makes a key from what DUMP returned.",
    run: Run::Data(restore),
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "dump",
        arity: 2,
        flags: Flags::READONLY,
        acl: Acl::KEYSPACE,
        keys: Keys::READ_ONE,
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        syntax: "key",
        complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis \
            objects composing the value and M their average size. For small string values the time complexity is thus \
            O(1)+O(1*M) where M is small, so simply O(1).",
        summary: "Returns the value of a key in Redis's serialised format.",
        run: Run::Data(dump),
        ..Spec::BASE
    },
    RESTORE,
    Spec {
        name: "restore-asking",
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::ASKING),
        group: "server",
        since: "3.0.0",
        summary: "RESTORE, as nodes of a cluster send it to each other.",
        ..RESTORE
    },
];

fn dump(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let place = if db.read_any(0) { db.find(0) } else { None };
    let Some(place) = place else {
        reply.null();
        return Outcome::Done;
    };
    let dump = match db.entry(0, place).value() {
        Value::Text(text) => text.with(Dump::text),
        Value::Object(ObjectRef::List(list)) => Dump::list(|found| {
            list.each(0..list.len(), |element| match element {
                Element::Item(item) => found(item.bytes(&mut itoa::Buffer::new())),
                Element::Large(bytes) => found(bytes),
            });
        }),
        Value::Object(ObjectRef::Zset(set)) if set.encoding() == "listpack" => Dump::packed_zset(set.iter_all()),
        Value::Object(ObjectRef::Zset(set)) => Dump::zset(set.len(), set.iter_all().rev()),
        Value::Object(_) => return fail(reply, "ERR DUMP of a value of this type is not supported"),
    };
    reply.bulk_shared(&Bytes::from(dump.finish()));
    Outcome::Done
}

/// RESTORE's options.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    /// Seconds since the last access.
    idle: Option<i64>,
    /// The counter of accesses.
    frequency: Option<i64>,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Self, &'static str> {
        let mut options = Self::default();
        let mut index = 4;
        while index < args.len() {
            let has_more = index + 1 < args.len();
            match () {
                () if args.is(index, "replace") => options.replace = true,
                () if args.is(index, "absttl") => options.absolute = true,
                () if args.is(index, "idletime") && has_more && options.frequency.is_none() => {
                    index += 1;
                    let idle = args.integer(index).ok_or(NOT_AN_INTEGER)?;
                    options.idle = Some(idle);
                    if idle < 0 {
                        return Err("ERR Invalid IDLETIME value, must be >= 0");
                    }
                }
                () if args.is(index, "freq") && has_more && options.idle.is_none() => {
                    index += 1;
                    let frequency = args.integer(index).ok_or(NOT_AN_INTEGER)?;
                    options.frequency = Some(frequency);
                    if !(0..=255).contains(&frequency) {
                        return Err("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    }
                }
                () => return Err(SYNTAX_ERROR),
            }
            index += 1;
        }
        Ok(options)
    }
}

fn restore(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    if !options.replace && db.find(0).is_some() {
        return fail(reply, "BUSYKEY Target key name already exists.");
    }
    let Some(ttl) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    if ttl < 0 {
        return fail(reply, "ERR Invalid TTL value, must be >= 0");
    }
    let mut built = Builder { limits: db.limits(), value: None };
    match load(args.at(3), db.max_string(), &mut |part| built.take(part)) {
        Ok(true) => {}
        Ok(false) => return fail(reply, "ERR DUMP payload version or checksum are wrong"),
        Err(Bad) => return fail(reply, "ERR Bad data format"),
    }
    let text;
    let value = match built.value {
        Some(Built::Text(found)) if found.len() >= SHARE_AT => NewValue::Shared(Bytes::from(found)),
        Some(Built::Text(found)) => {
            text = found;
            NewValue::of(&text)
        }
        Some(Built::Object(object)) => NewValue::Object(object),
        None => return fail(reply, "ERR Bad data format"),
    };
    let ttl = match ttl {
        0 => Ttl::None,
        ttl if options.absolute => Ttl::At(ttl),
        // As in Redis, where a sum that overflows is a time long past.
        ttl => Ttl::At(ttl.wrapping_add(db.now())),
    };
    match ttl {
        Ttl::At(at) if at <= db.now() => {
            db.remove(0);
        }
        ttl => {
            db.set(0, value, ttl, Event::RESTORE);
            if let Some(place) = db.find(0) {
                let idle = options.idle.map(|seconds| seconds.unsigned_abs());
                let access = db.access().restored(idle, options.frequency.map(|count| count as u32));
                db.set_access(0, place, access);
            }
        }
    }
    reply.ok();
    Outcome::Done
}

/// A value being made of the parts of a payload.
struct Builder<'l> {
    limits: &'l Limits,
    value: Option<Built>,
}

enum Built {
    Text(Vec<u8>),
    Object(Object),
}

impl Builder<'_> {
    fn take(&mut self, part: Part<'_>) -> Result<(), Bad> {
        match (part, &mut self.value) {
            (Part::Text(text), None) => self.value = Some(Built::Text(text.into_owned())),
            (Part::Begin(Kind::List), None) => self.value = Some(Built::Object(Object::List(List::default()))),
            (Part::Begin(Kind::Zset), None) => self.value = Some(Built::Object(Object::Zset(Zset::default()))),
            (Part::Element(element), Some(Built::Object(Object::List(list)))) => {
                list.push(End::Back, std::iter::once(element), self.limits.list_max_listpack_size);
            }
            (Part::Scored(member, score), Some(Built::Object(Object::Zset(set)))) => {
                // A member twice is no set.
                return if set.set(member, score, self.limits).is_none() { Ok(()) } else { Err(Bad) };
            }
            _ => return Err(Bad),
        }
        Ok(())
    }
}
