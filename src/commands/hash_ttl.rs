//! The hash commands on the TTLs of fields. Where Redis 8.2 and Valkey 9.1 word an error differently, the words are
//! Valkey's.

use super::expire::{Condition, seconds};
use super::hash::{HDEL, HSET, READ, WRITE, value};
use super::options::{Expiry, Time};
use super::{Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Edit, Event, View, WrongType, class};
use crate::protocol::Reply;
use crate::types::{FieldTtl, Hash};

const COMPLEXITY: &str = "O(N) where N is the number of specified fields.";
const EXPIRE: Spec = Spec {
    arity: -6,
    flags: Flags::WRITE.or(Flags::FAST),
    keys: Keys::UPDATE_ONE,
    since: "7.4.0",
    complexity: COMPLEXITY,
    ..WRITE
};
const TTL: Spec = Spec {
    arity: -5,
    since: "7.4.0",
    syntax: "key FIELDS numfields field [field ...]",
    complexity: COMPLEXITY,
    ..READ
};
const TAKE: Keys = Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "hexpire",
        syntax: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Sets the TTL of fields of a hash in seconds.",
        run: Run::Data(hexpire),
        ..EXPIRE
    },
    Spec {
        name: "hpexpire",
        syntax: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Sets the TTL of fields of a hash in milliseconds.",
        run: Run::Data(hpexpire),
        ..EXPIRE
    },
    Spec {
        name: "hexpireat",
        syntax: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Sets when fields of a hash expire, as a Unix time in seconds.",
        run: Run::Data(hexpireat),
        ..EXPIRE
    },
    Spec {
        name: "hpexpireat",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        summary: "Sets when fields of a hash expire, as a Unix time in milliseconds.",
        run: Run::Data(hpexpireat),
        ..EXPIRE
    },
    Spec {
        name: "hpersist",
        arity: -5,
        syntax: "key FIELDS numfields field [field ...]",
        summary: "Removes the TTL of fields of a hash.",
        run: Run::Data(hpersist),
        ..EXPIRE
    },
    Spec { name: "httl", summary: "Returns the TTL of fields of a hash in seconds.", run: Run::Data(httl), ..TTL },
    Spec {
        name: "hpttl",
        summary: "Returns the TTL of fields of a hash in milliseconds.",
        run: Run::Data(hpttl),
        ..TTL
    },
    Spec {
        name: "hexpiretime",
        summary: "Returns when fields of a hash expire, as a Unix time in seconds.",
        run: Run::Data(hexpiretime),
        ..TTL
    },
    Spec {
        name: "hpexpiretime",
        summary: "Returns when fields of a hash expire, as a Unix time in milliseconds.",
        run: Run::Data(hpexpiretime),
        ..TTL
    },
    Spec {
        name: "hgetdel",
        arity: -5,
        keys: TAKE,
        since: "8.0.0",
        syntax: "key FIELDS numfields field [field ...]",
        complexity: "O(N) where N is the number of fields to be retrieved and deleted.",
        summary: "Returns the values of fields of a hash and removes the fields.",
        run: Run::Data(hgetdel),
        ..EXPIRE
    },
    Spec {
        name: "hgetex",
        arity: -5,
        keys: Keys::ACCESS_UPDATE_ONE,
        since: "8.0.0",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] \
            FIELDS numfields field [field ...]",
        summary: "Returns the values of fields of a hash and sets or removes their TTLs.",
        run: Run::Data(hgetex),
        ..EXPIRE
    },
    Spec {
        name: "hsetex",
        arity: -6,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))]),
        since: "9.0.0",
        syntax: "key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
            PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
        summary: "Sets fields of a hash, and their TTLs.",
        run: Run::Data(hsetex),
        ..EXPIRE
    },
];

const HEXPIRE: Event = Event::new(class::HASH, "hexpire");
const HPERSIST: Event = Event::new(class::HASH, "hpersist");
const MISMATCH: &str = "ERR numfields should be greater than 0 and match the provided number of fields";

/// The replies for a field.
const NO_FIELD: i64 = -2;
const NO_TTL: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// The index of the first field, where FIELDS stands at `at`; `mismatch` is the error for a wrong number of them.
fn first_field(args: &Args<'_>, at: usize, width: usize, mismatch: &'static str) -> Result<usize, &'static str> {
    if !args.is(at, "fields") {
        return Err(SYNTAX_ERROR);
    }
    let number = args.get(at + 1).and_then(crate::protocol::parse_i64).ok_or(NOT_AN_INTEGER)?;
    let there = args.len() - (at + 2);
    let matches = number > 0 && there.is_multiple_of(width) && number as usize == there / width;
    if matches { Ok(at + 2) } else { Err(mismatch) }
}

fn hexpire(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(db, args, reply, Time { text: args.at(2), in_seconds: true, absolute: false }, "hexpire")
}

fn hpexpire(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(db, args, reply, Time { text: args.at(2), in_seconds: false, absolute: false }, "hpexpire")
}

fn hexpireat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(db, args, reply, Time { text: args.at(2), in_seconds: true, absolute: true }, "hexpireat")
}

fn hpexpireat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(db, args, reply, Time { text: args.at(2), in_seconds: false, absolute: true }, "hpexpireat")
}

/// What a change of TTLs comes to.
#[derive(Default)]
struct Changes {
    set: bool,
    removed: bool,
}

impl Changes {
    fn tell(&self, set: Event, edit: &mut Edit) {
        if self.set {
            edit.changed(set);
        }
        if self.removed {
            edit.changed(Event::HEXPIRED);
        }
    }
}

fn expire(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, time: Time<'_>, command: &str) -> Outcome {
    let Some(fields) = (3..args.len() - 1).find(|&index| args.is(index, "fields")) else {
        return fail(reply, MISMATCH);
    };
    let condition = match Condition::parse(args, 3, fields) {
        Ok(condition) => condition,
        Err(error) => {
            reply.error_bytes(&error);
            return Outcome::Done;
        }
    };
    let first = match first_field(args, fields, 1, MISMATCH) {
        Ok(first) => first,
        Err(error) => return fail(reply, error),
    };
    let at = match time.resolve_not_negative(db.now(), command) {
        Ok(at) => at,
        Err(error) => return fail(reply, &error),
    };
    let (now, is_over) = (db.seen_at(), db.is_over(at));
    let result = db.edit::<Hash, _>(0, |hash, edit| {
        reply.array(args.len() - first);
        let mut changes = Changes::default();
        for field in args.from(first) {
            reply.integer(match hash.field(field, now) {
                None => NO_FIELD,
                Some((_, before)) if !condition.is_met(before, at) => NOT_MET,
                Some(_) if is_over => {
                    changes.removed |= hash.remove(field, now);
                    DELETED
                }
                Some(_) => {
                    changes.set |= hash.set_expire(field, Some(at.max(1)), now);
                    DONE
                }
            });
        }
        changes.tell(HEXPIRE, edit);
    });
    match result {
        Ok(Some(())) => Outcome::Done,
        Ok(None) => none_there(reply, args.len() - first),
        Err(WrongType) => wrong_type(reply),
    }
}

fn none_there(reply: &mut Reply<'_>, fields: usize) -> Outcome {
    reply.array(fields);
    (0..fields).for_each(|_| reply.integer(NO_FIELD));
    Outcome::Done
}

fn hpersist(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let first = match first_field(args, 2, 1, MISMATCH) {
        Ok(first) => first,
        Err(error) => return fail(reply, error),
    };
    let now = db.now();
    let result = db.edit::<Hash, _>(0, |hash, edit| {
        reply.array(args.len() - first);
        let mut changes = Changes::default();
        for field in args.from(first) {
            reply.integer(match hash.field(field, now) {
                None => NO_FIELD,
                Some((_, None)) => NO_TTL,
                Some(_) => {
                    changes.set |= hash.set_expire(field, None, now);
                    DONE
                }
            });
        }
        changes.tell(HPERSIST, edit);
    });
    match result {
        Ok(Some(())) => Outcome::Done,
        Ok(None) => none_there(reply, args.len() - first),
        Err(WrongType) => wrong_type(reply),
    }
}

/// Answers with what `f` makes of the time at which each field expires.
fn times(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, f: impl Fn(i64) -> i64) -> Outcome {
    let first = match first_field(args, 2, 1, SYNTAX_ERROR) {
        Ok(first) => first,
        Err(error) => return fail(reply, error),
    };
    let now = db.now();
    let Ok(hash) = db.read_as::<Hash>(0) else { return wrong_type(reply) };
    reply.array(args.len() - first);
    for field in args.from(first) {
        reply.integer(match hash.and_then(|hash| hash.field(field, now)) {
            None => NO_FIELD,
            Some((_, at)) => at.map_or(NO_TTL, &f),
        });
    }
    Outcome::Done
}

fn httl(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.now();
    times(db, args, reply, |at| seconds((at - now).max(0)))
}

fn hpttl(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.now();
    times(db, args, reply, |at| (at - now).max(0))
}

fn hexpiretime(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    times(db, args, reply, seconds)
}

fn hpexpiretime(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    times(db, args, reply, |at| at)
}

/// Answers that none of so many fields is there.
fn nulls(reply: &mut Reply<'_>, fields: usize) -> Outcome {
    reply.array(fields);
    (0..fields).for_each(|_| reply.null());
    Outcome::Done
}

fn hgetdel(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let first = match first_field(args, 2, 1, MISMATCH) {
        Ok(first) => first,
        Err(error) => return fail(reply, error),
    };
    let now = db.now();
    let result = db.edit::<Hash, _>(0, |hash, edit| {
        reply.array(args.len() - first);
        let mut is_changed = false;
        for field in args.from(first) {
            value(reply, hash.get(field, now));
            is_changed |= hash.remove(field, now);
        }
        if is_changed {
            edit.changed(HDEL);
        }
    });
    match result {
        Ok(Some(())) => Outcome::Done,
        Ok(None) => nulls(reply, args.len() - first),
        Err(WrongType) => wrong_type(reply),
    }
}

fn hgetex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = Options::parse(args, false).and_then(|options| {
        let first = first_field(args, options.fields, 1, MISMATCH)?;
        Ok((options, first))
    });
    let (options, first) = match options {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    if let Err(WrongType) = db.collection::<Hash>(0) {
        return wrong_type(reply);
    }
    let ttl = match options.ttl(db.now(), "hgetex") {
        Ok(ttl) => ttl,
        Err(error) => return fail(reply, &error),
    };
    let now = db.now();
    let result = db.edit::<Hash, _>(0, |hash, edit| {
        reply.array(args.len() - first);
        let mut changes = Changes::default();
        for field in args.from(first) {
            let found = hash.field(field, now);
            value(reply, found.map(|(value, _)| value));
            let Some((_, before)) = found else { continue };
            match ttl {
                FieldTtl::Keep => {}
                FieldTtl::Clear => changes.set |= before.is_some() && hash.set_expire(field, None, now),
                FieldTtl::At(at) if at <= now => changes.removed |= hash.remove(field, now),
                FieldTtl::At(at) => changes.set |= hash.set_expire(field, Some(at), now),
            }
        }
        changes.tell(if ttl == FieldTtl::Clear { HPERSIST } else { HEXPIRE }, edit);
    });
    match result {
        Ok(Some(())) => Outcome::Done,
        Ok(None) => nulls(reply, args.len() - first),
        Err(WrongType) => wrong_type(reply),
    }
}

/// The options of HGETEX and HSETEX.
struct Options<'a> {
    /// NX (true) or XX (false): only if the key is new.
    key_is_new: Option<bool>,
    /// FNX (true) or FXX (false): only if all fields are new, or there.
    fields_are_new: Option<bool>,
    expiry: Expiry<'a>,
    /// Where FIELDS stands.
    fields: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, to_set: bool) -> Result<Self, &'static str> {
        let fields = (1..args.len() - 1).find(|&index| args.is(index, "fields")).ok_or(MISMATCH)?;
        let mut options = Self { key_is_new: None, fields_are_new: None, expiry: Expiry::Unchanged, fields };
        let mut index = 2;
        while index < fields {
            let choose = |choice: &mut Option<bool>, chosen: bool| choice.replace(chosen).is_none_or(|c| c == chosen);
            let fits = match index {
                at if to_set && args.is(at, "nx") => choose(&mut options.key_is_new, true),
                at if to_set && args.is(at, "xx") => choose(&mut options.key_is_new, false),
                at if to_set && args.is(at, "fnx") => choose(&mut options.fields_are_new, true),
                at if to_set && args.is(at, "fxx") => choose(&mut options.fields_are_new, false),
                _ => options.parse_expiry(args, &mut index, to_set),
            };
            if !fits {
                return Err(SYNTAX_ERROR);
            }
            index += 1;
        }
        Ok(options)
    }

    fn parse_expiry(&mut self, args: &Args<'a>, index: &mut usize, to_set: bool) -> bool {
        let expiry = if to_set && args.is(*index, "keepttl") {
            Expiry::Keep
        } else if !to_set && args.is(*index, "persist") {
            Expiry::Persist
        } else {
            let Some(time) = Time::parse(args, *index).filter(|_| *index + 1 < self.fields) else { return false };
            *index += 1;
            Expiry::At(time)
        };
        std::mem::replace(&mut self.expiry, expiry).may_precede(expiry)
    }

    /// What becomes of the TTLs, where HGETEX leaves them and HSETEX removes them without an option.
    fn ttl(&self, now: i64, command: &str) -> Result<FieldTtl, String> {
        Ok(match self.expiry {
            Expiry::Unchanged | Expiry::Keep => FieldTtl::Keep,
            Expiry::Persist => FieldTtl::Clear,
            Expiry::At(time) => FieldTtl::At(time.resolve_not_negative(now, command)?),
        })
    }
}

fn hsetex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = Options::parse(args, true).and_then(|options| {
        let first = first_field(args, options.fields, 2, MISMATCH)?;
        Ok((options, first))
    });
    let (options, first) = match options {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let (now, limits) = (db.now(), db.limits());
    let key_is_new = match db.collection::<Hash>(0) {
        Ok(hash) => hash.is_none(),
        Err(WrongType) => return wrong_type(reply),
    };
    if options.key_is_new.is_some_and(|wanted| key_is_new != wanted) {
        reply.integer(0);
        return Outcome::Done;
    }
    let ttl = match options.ttl(now, "hsetex") {
        Ok(_) if options.expiry == Expiry::Unchanged => FieldTtl::Clear,
        Ok(ttl) => ttl,
        Err(error) => return fail(reply, &error),
    };
    if let Some(wanted) = options.fields_are_new {
        let hash = db.collection::<Hash>(0).ok().flatten();
        let is_new = |field: &[u8]| hash.is_none_or(|hash| hash.get(field, now).is_none());
        if (first..args.len()).step_by(2).any(|at| is_new(args.at(at)) != wanted) {
            reply.integer(0);
            return Outcome::Done;
        }
    }
    let is_over = matches!(ttl, FieldTtl::At(at) if at <= now);
    let _ = db.edit_or_new::<Hash, _>(0, |hash, edit| {
        edit.changed(HSET);
        let mut changes = Changes::default();
        for at in (first..args.len()).step_by(2) {
            if is_over {
                hash.remove(args.at(at), now);
                changes.removed = true;
            } else {
                hash.set(args.at(at), args.at(at + 1), ttl, now, limits);
                changes.set |= matches!(ttl, FieldTtl::At(_));
            }
        }
        changes.tell(HEXPIRE, edit);
    });
    if is_over && db.find(0).is_none() {
        // Also what is only being loaded is not to come.
        db.remove(0);
    }
    reply.integer(1);
    Outcome::Done
}
