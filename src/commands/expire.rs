//! When keys expire: the EXPIRE and TTL families, PERSIST.

use super::options::Time;
use super::{Acl, Args, Flags, Keys, Outcome, Run, Spec, Write, fail};
use crate::keyspace::{Cause, View};
use crate::protocol::Reply;

const EXPIRE: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: Keys::UPDATE_ONE,
    write: Write::Ttl,
    ..Spec::BASE
};
const TTL: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::KEYSPACE,
    keys: Keys::READ_ONE,
    syntax: "key",
    ..Spec::BASE
};
const CHANGING: &[&str] = &["nondeterministic_output"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "expire",
        syntax: "key seconds [NX | XX | GT | LT]",
        summary: "Sets the TTL of a key in seconds.",
        run: Run::Data(expire),
        ..EXPIRE
    },
    Spec {
        name: "pexpire",
        since: "2.6.0",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        summary: "Sets the TTL of a key in milliseconds.",
        run: Run::Data(pexpire),
        ..EXPIRE
    },
    Spec {
        name: "expireat",
        since: "1.2.0",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]",
        summary: "Sets when a key expires, as a Unix time in seconds.",
        run: Run::Data(expireat),
        ..EXPIRE
    },
    Spec {
        name: "pexpireat",
        since: "2.6.0",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
        summary: "Sets when a key expires, as a Unix time in milliseconds.",
        run: Run::Data(pexpireat),
        ..EXPIRE
    },
    Spec {
        name: "persist",
        arity: 2,
        since: "2.2.0",
        syntax: "key",
        summary: "Removes the TTL of a key.",
        run: Run::Data(persist),
        ..EXPIRE
    },
    Spec { name: "ttl", tips: CHANGING, summary: "Returns the TTL of a key in seconds.", run: Run::Data(ttl), ..TTL },
    Spec {
        name: "pttl",
        tips: CHANGING,
        since: "2.6.0",
        summary: "Returns the TTL of a key in milliseconds.",
        run: Run::Data(pttl),
        ..TTL
    },
    Spec {
        name: "expiretime",
        since: "7.0.0",
        summary: "Returns when a key expires, as a Unix time in seconds.",
        run: Run::Data(expiretime),
        ..TTL
    },
    Spec {
        name: "pexpiretime",
        since: "7.0.0",
        summary: "Returns when a key expires, as a Unix time in milliseconds.",
        run: Run::Data(pexpiretime),
        ..TTL
    },
];

fn expire(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_at(db, args, reply, Time { text: args.at(2), in_seconds: true, absolute: false }, "expire")
}

fn pexpire(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_at(db, args, reply, Time { text: args.at(2), in_seconds: false, absolute: false }, "pexpire")
}

fn expireat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_at(db, args, reply, Time { text: args.at(2), in_seconds: true, absolute: true }, "expireat")
}

fn pexpireat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_at(db, args, reply, Time { text: args.at(2), in_seconds: false, absolute: true }, "pexpireat")
}

/// Under which condition the TTL is set.
#[derive(Clone, Copy, Default)]
pub(super) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    /// The condition that the arguments from `from` to `end` state.
    pub(super) fn parse(args: &Args<'_>, from: usize, end: usize) -> Result<Self, Vec<u8>> {
        let mut condition = Self::default();
        for index in from..end {
            let flag = match index {
                index if args.is(index, "nx") => &mut condition.nx,
                index if args.is(index, "xx") => &mut condition.xx,
                index if args.is(index, "gt") => &mut condition.gt,
                index if args.is(index, "lt") => &mut condition.lt,
                _ => return Err([b"ERR Unsupported option ", super::c_text(args.at(index))].concat()),
            };
            *flag = true;
        }
        if condition.nx && (condition.xx || condition.gt || condition.lt) {
            return Err(b"ERR NX and XX, GT or LT options at the same time are not compatible".to_vec());
        }
        if condition.gt && condition.lt {
            return Err(b"ERR GT and LT options at the same time are not compatible".to_vec());
        }
        Ok(condition)
    }

    /// True if a key that expires at `before` (never: None) may be set to expire at `at`.
    pub(super) fn is_met(self, before: Option<i64>, at: i64) -> bool {
        let blocked = self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| at <= before)
            || self.lt && before.is_some_and(|before| at >= before);
        !blocked
    }
}

fn expire_at(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, time: Time<'_>, command: &str) -> Outcome {
    let condition = match Condition::parse(args, 3, args.len()) {
        Ok(condition) => condition,
        Err(error) => {
            reply.error_bytes(&error);
            return Outcome::Done;
        }
    };
    let at = match time.resolve_signed(db.now(), command) {
        Ok(at) => at,
        Err(error) => return fail(reply, &error),
    };
    let place = db.find(0).filter(|&place| condition.is_met(db.entry(0, place).expire_at(), at));
    match place {
        Some(_) if db.is_over(at) => {
            db.remove_for(0, Cause::Expired);
        }
        Some(place) => db.set_expire(0, place, Some(at.max(1))),
        // It takes the key away, as DEL does: also one that is only being loaded.
        None if db.is_over(at) && db.find(0).is_none() => {
            db.remove_for(0, Cause::Expired);
        }
        None => {}
    }
    reply.integer(place.is_some().into());
    Outcome::Done
}

fn persist(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let place = db.find(0).filter(|&place| db.entry(0, place).expire_at().is_some());
    if let Some(place) = place {
        db.set_expire(0, place, None);
    }
    reply.integer(place.is_some().into());
    Outcome::Done
}

/// The reply for a key that is not there.
const NO_KEY: i64 = -2;
/// The reply for a key without a TTL.
const NO_TTL: i64 = -1;

/// Answers with what `f` makes of the time at which the key expires.
fn with_expire(db: &mut View<'_, '_>, reply: &mut Reply<'_>, f: impl FnOnce(i64) -> i64) -> Outcome {
    reply.integer(match db.peek(0) {
        None => NO_KEY,
        Some(entry) => entry.expire_at().map_or(NO_TTL, f),
    });
    Outcome::Done
}

/// To the nearest second.
pub(super) fn seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

fn ttl(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.now();
    with_expire(db, reply, |at| seconds((at - now).max(0)))
}

fn pttl(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = db.now();
    with_expire(db, reply, |at| (at - now).max(0))
}

fn expiretime(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_expire(db, reply, seconds)
}

fn pexpiretime(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    with_expire(db, reply, |at| at)
}
