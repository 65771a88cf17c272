//! The set commands on one set, and SMOVE; those that combine sets are in [`super::set_algebra`].

use super::collection::{Scanned, bulk_item, random_count, scan, write_random};
use super::{Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Edit, Event, View, WrongType, class};
use crate::protocol::Reply;
use crate::random;
use crate::types::{Item, Set};

const READ: Spec = Spec {
    arity: 2,
    flags: Flags::READONLY.or(Flags::FAST),
    acl: Acl::SET,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "set",
    syntax: "key",
    ..Spec::BASE
};
const WRITE: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::SET,
    fill: Fill::Before,
    group: "set",
    ..Spec::BASE
};
const INSERT: KeyFlags = KeyFlags::RW.or(KeyFlags::INSERT);
const TAKE: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "sadd",
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, INSERT)]),
        syntax: "key member [member ...]",
        complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple \
            arguments.",
        summary: "Adds members to a set; counts the new ones.",
        element: 2,
        run: Run::Data(sadd),
        ..WRITE
    },
    Spec {
        name: "srem",
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]),
        syntax: "key member [member ...]",
        complexity: "O(N) where N is the number of members to be removed.",
        summary: "Removes members from a set.",
        element: 2,
        run: Run::Data(srem),
        ..WRITE
    },
    Spec {
        name: "spop",
        arity: -2,
        keys: Keys::Specs(&[KeySpec::one(1, TAKE)]),
        tips: &["nondeterministic_output"],
        syntax: "key [count]",
        complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
        summary: "Removes random members of a set and returns them.",
        run: Run::Data(spop),
        ..WRITE
    },
    Spec {
        name: "smove",
        arity: 4,
        keys: Keys::Specs(&[KeySpec::one(1, TAKE), KeySpec::one(2, INSERT)]),
        syntax: "source destination member",
        summary: "Moves a member from one set to another.",
        element: 3,
        run: Run::Data(smove),
        ..WRITE
    },
    Spec {
        name: "sismember",
        arity: 3,
        keys: Keys::LOOK_ONE,
        syntax: "key member",
        summary: "Tells whether a set has a member.",
        element: 2,
        run: Run::Data(sismember),
        ..READ
    },
    Spec {
        name: "smismember",
        arity: -3,
        since: "6.2.0",
        syntax: "key member [member ...]",
        complexity: "O(N) where N is the number of elements being checked for membership",
        summary: "Tells which members a set has.",
        element: 2,
        run: Run::Data(smismember),
        ..READ
    },
    Spec {
        name: "smembers",
        flags: Flags::READONLY,
        tips: &["nondeterministic_output_order"],
        complexity: "O(N) where N is the set cardinality.",
        summary: "Returns the members of a set.",
        run: Run::Data(smembers),
        ..READ
    },
    Spec {
        name: "scard",
        keys: Keys::LOOK_ONE,
        summary: "Counts the members of a set.",
        run: Run::Data(scard),
        ..READ
    },
    Spec {
        name: "srandmember",
        arity: -2,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output"],
        syntax: "key [count]",
        complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
        summary: "Returns random members of a set.",
        run: Run::Data(srandmember),
        ..READ
    },
    Spec {
        name: "sscan",
        arity: -3,
        flags: Flags::READONLY,
        tips: &["nondeterministic_output"],
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor \
            to return back to 0. N is the number of elements inside the collection.",
        summary: "Walks over the members of a set, some at each call.",
        run: Run::Data(sscan),
        ..READ
    },
];

const SADD: Event = Event::new(class::SET, "sadd");
const SREM: Event = Event::new(class::SET, "srem");
const SPOP: Event = Event::new(class::SET, "spop");
const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";

fn sadd(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let limits = db.limits();
    let added = db.edit_or_new::<Set, _>(0, |set, edit| {
        set.reserve(args.len() - 2, args.at(2), limits);
        let added = args.from(2).filter(|member| set.add(member, limits)).count();
        if added > 0 {
            edit.changed(SADD);
        }
        added
    });
    let Ok(added) = added else { return wrong_type(reply) };
    reply.integer(added as i64);
    Outcome::Done
}

fn srem(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = db.edit::<Set, _>(0, |set, edit| {
        let removed = args.from(2).filter(|member| set.remove(member)).count();
        if removed > 0 {
            edit.changed(SREM);
        }
        removed
    });
    let Ok(removed) = removed else { return wrong_type(reply) };
    reply.integer(removed.unwrap_or(0) as i64);
    Outcome::Done
}

fn spop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 {
        return fail(reply, SYNTAX_ERROR);
    }
    if args.len() == 2 {
        let popped = db.edit::<Set, _>(0, |set, edit| {
            edit.changed(SPOP);
            set.pop(random::next, |member| bulk_item(reply, member))
        });
        match popped {
            Ok(Some(Some(()))) => {}
            Ok(_) => reply.null(),
            Err(WrongType) => return wrong_type(reply),
        }
        return Outcome::Done;
    }
    let Some(count) = args.integer(2).and_then(|count| usize::try_from(count).ok()) else {
        return fail(reply, NOT_POSITIVE);
    };
    match db.edit::<Set, _>(0, |set, edit| pop_many(set, count, edit, reply)) {
        Ok(Some(())) => {}
        Ok(None) => reply.set(0),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// Answers with `count` random members, which are taken out.
fn pop_many(set: &mut Set, count: usize, edit: &mut Edit, reply: &mut Reply<'_>) {
    let count = count.min(set.len());
    reply.set(count);
    if count == 0 {
        return;
    }
    edit.changed(SPOP);
    if count == set.len() {
        set.iter().for_each(|member| bulk_item(reply, member));
        edit.discard(std::mem::take(set));
        return;
    }
    for _ in 0..count {
        set.pop(random::next, |member| bulk_item(reply, member));
    }
}

fn smove(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (limits, member) = (db.limits(), args.at(3));
    let has = match db.collection::<Set>(0) {
        Ok(None) => {
            reply.integer(0);
            return Outcome::Done;
        }
        Ok(Some(set)) => set.contains(member),
        Err(WrongType) => return wrong_type(reply),
    };
    if db.collection::<Set>(1).is_err() {
        return wrong_type(reply);
    }
    if has && db.key(0) != db.key(1) {
        let _ = db.edit::<Set, _>(0, |set, edit| {
            set.remove(member);
            edit.changed(SREM);
        });
        let _ = db.edit_or_new::<Set, _>(1, |set, edit| {
            if set.add(member, limits) {
                edit.changed(SADD);
            }
        });
    }
    reply.integer(has.into());
    Outcome::Done
}

fn sismember(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
    reply.integer(set.is_some_and(|set| set.contains(args.at(2))).into());
    Outcome::Done
}

fn smismember(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
    reply.array(args.len() - 2);
    for member in args.from(2) {
        reply.integer(set.is_some_and(|set| set.contains(member)).into());
    }
    Outcome::Done
}

fn smembers(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
    reply.set(set.map_or(0, Set::len));
    set.iter().flat_map(|set| set.iter()).for_each(|member| bulk_item(reply, member));
    Outcome::Done
}

fn scard(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
    reply.integer(set.map_or(0, Set::len) as i64);
    Outcome::Done
}

fn srandmember(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 {
        return fail(reply, SYNTAX_ERROR);
    }
    if args.len() == 2 {
        let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
        match set.and_then(|set| set.random(random::next)) {
            Some(member) => bulk_item(reply, member),
            None => reply.null(),
        }
        return Outcome::Done;
    }
    let count = match random_count(args, 2) {
        Ok(count) => count,
        Err(error) => return fail(reply, error),
    };
    let Ok(set) = db.read_as::<Set>(0) else { return wrong_type(reply) };
    let Some(set) = set.filter(|_| count != 0) else {
        reply.array(0);
        return Outcome::Done;
    };
    let written = if count < 0 { count.unsigned_abs() as usize } else { set.len().min(count as usize) };
    let mark = reply.output().mark();
    reply.array(written);
    let wanted = if set.is_table() { set.len() } else { 0 };
    let write = |reply: &mut Reply<'_>, member: Item<'_>| bulk_item(reply, member);
    write_random(reply, mark, count, wanted, || set.random(random::next), || set.iter().collect(), write)
}

fn sscan(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    scan((db, args, reply), Scanned::Set, |set: &Set, cursor, count, found| {
        set.scan(cursor, count, |member| found(member, None))
    })
}
