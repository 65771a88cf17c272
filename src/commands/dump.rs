//! DUMP and RESTORE. The format is [`crate::rdb`]'s, and [`super::dump_value`] knows how values are kept.

use super::dump_value::{self, Builder, Built};
use super::{Acl, Args, Fill, Flags, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail};
use crate::keyspace::{Event, NewValue, Ttl, View};
use crate::protocol::{Reply, SHARE_AT};
use crate::rdb::{Bad, load};
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
    match dump_value::dump(db.entry(0, place).value(), db.now()) {
        Some(dump) => reply.bulk_shared(&Bytes::from(dump.finish())),
        None => reply.null(),
    }
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
    let mut builder = Builder::new(db.limits(), db.now());
    let built = match load(args.at(3), db.max_string(), db.limits().any_dump_version, &mut |part| builder.take(part)) {
        Ok(true) => builder.finish(),
        Ok(false) => return fail(reply, "ERR DUMP payload version or checksum are wrong"),
        Err(Bad) => Err(Bad),
    };
    let text;
    let value = match built {
        Ok(Built::Text(found)) if found.len() >= SHARE_AT => NewValue::Shared(Bytes::from(found)),
        Ok(Built::Text(found)) => {
            text = found;
            NewValue::of(&text)
        }
        Ok(Built::Object(object)) => NewValue::Object(object),
        Ok(Built::Nothing) => {
            db.remove(0);
            reply.ok();
            return Outcome::Done;
        }
        Err(Bad) => return fail(reply, "ERR Bad data format"),
    };
    let ttl = match ttl {
        0 => Ttl::None,
        ttl if options.absolute => Ttl::At(ttl),
        // As in Redis, where a sum that overflows is a time long past.
        ttl => Ttl::At(ttl.wrapping_add(db.now()).max(1)),
    };
    match ttl {
        Ttl::At(at) if db.is_over(at) => {
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
