//! Intersections, unions and differences of sets, returned or stored.

use super::collection::bulk_item;
use super::{Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{Event, NewValue, Place, Ttl, View, WrongType, class};
use crate::protocol::{Output, Reply};
use crate::types::{Collection, Item, Set};

const COMBINE: Spec = Spec {
    arity: -2,
    flags: Flags::READONLY,
    acl: Acl::SET,
    keys: Keys::READ_ALL,
    fill: Fill::Read,
    tips: &["nondeterministic_output_order"],
    group: "set",
    syntax: "key [key ...]",
    ..Spec::BASE
};
const STORE: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::DENYOOM),
    keys: Keys::Specs(&[
        KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
        KeySpec::range(2, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
    ]),
    fill: Fill::Before,
    tips: &[],
    syntax: "destination key [key ...]",
    ..COMBINE
};
const INTERSECTION: &str =
    "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.";
const ALL: &str = "O(N) where N is the total number of elements in all given sets.";

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "sinter",
        complexity: INTERSECTION,
        summary: "Returns the members that all sets have.",
        run: Run::Data(sinter),
        ..COMBINE
    },
    Spec {
        name: "sintercard",
        arity: -3,
        flags: Flags::READONLY.or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[KeySpec::numbered(1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))]),
        tips: &[],
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit]",
        complexity: INTERSECTION,
        summary: "Counts the members that all sets have.",
        run: Run::Data(sintercard),
        ..COMBINE
    },
    Spec {
        name: "sinterstore",
        complexity: INTERSECTION,
        summary: "Stores the members that all sets have.",
        run: Run::Data(sinterstore),
        ..STORE
    },
    Spec {
        name: "sunion",
        complexity: ALL,
        summary: "Returns the members that any of the sets has.",
        run: Run::Data(sunion),
        ..COMBINE
    },
    Spec {
        name: "sunionstore",
        complexity: ALL,
        summary: "Stores the members that any of the sets has.",
        run: Run::Data(sunionstore),
        ..STORE
    },
    Spec {
        name: "sdiff",
        complexity: ALL,
        summary: "Returns the members that only the first set has.",
        run: Run::Data(sdiff),
        ..COMBINE
    },
    Spec {
        name: "sdiffstore",
        complexity: ALL,
        summary: "Stores the members that only the first set has.",
        run: Run::Data(sdiffstore),
        ..STORE
    },
];

/// Where the sets of a command are: its keys from `first` on.
struct Sets {
    first: usize,
    places: Vec<Option<Place>>,
}

impl Sets {
    fn read(db: &mut View<'_, '_>, first: usize) -> Result<Self, WrongType> {
        for key in first..db.len() {
            db.read_as::<Set>(key)?;
        }
        // Found again: whatever has expired is removed now, and nothing moves any more.
        let places = (first..db.len()).map(|key| db.find(key)).collect();
        Ok(Self { first, places })
    }

    fn get<'a>(&self, db: &'a View<'_, '_>, index: usize) -> Option<&'a Set> {
        db.collection_at(self.first + index, self.places[index]?).ok()
    }

    /// All that are there.
    fn present<'a>(&self, db: &'a View<'_, '_>) -> Vec<&'a Set> {
        (0..self.places.len()).filter_map(|index| self.get(db, index)).collect()
    }

    /// Calls `found` for the members that all sets have, until it says no.
    fn intersect(&self, db: &View<'_, '_>, mut found: impl FnMut(Item<'_>) -> bool) {
        let mut sets = self.present(db);
        if sets.len() < self.places.len() {
            return;
        }
        sets.sort_by_key(|set| set.len());
        let Some((smallest, others)) = sets.split_first() else { return };
        for member in smallest.iter() {
            if others.iter().all(|set| set.contains_item(member)) && !found(member) {
                return;
            }
        }
    }

    fn union(&self, db: &View<'_, '_>) -> Set {
        let (limits, mut all) = (db.limits(), Set::default());
        for member in self.present(db).into_iter().flat_map(Set::iter) {
            all.add_item(member, limits);
        }
        all
    }

    /// Calls `found` for the members that only the first set has.
    fn subtract(&self, db: &View<'_, '_>, mut found: impl FnMut(Item<'_>)) {
        let Some(first) = self.get(db, 0) else { return };
        let mut others: Vec<_> = (1..self.places.len()).filter_map(|index| self.get(db, index)).collect();
        // Either every member of the first is sought in the others, which often ends early, or all of the others are taken out.
        let sought = first.len() * (others.len() + 1) / 2;
        let taken = first.len() + others.iter().map(|set| set.len()).sum::<usize>();
        if sought <= taken {
            others.sort_by_key(|set| std::cmp::Reverse(set.len()));
            first.iter().filter(|&member| !others.iter().any(|set| set.contains_item(member))).for_each(found);
            return;
        }
        let mut rest = first.clone();
        for member in others.into_iter().flat_map(Set::iter) {
            rest.remove(member.bytes(&mut itoa::Buffer::new()));
            if rest.is_empty() {
                return;
            }
        }
        rest.iter().for_each(&mut found);
    }
}

/// Answers with the members that `collect` gives.
fn members(
    db: &mut View<'_, '_>,
    reply: &mut Reply<'_>,
    collect: impl FnOnce(&Sets, &View<'_, '_>, &mut dyn FnMut(Item<'_>)),
) -> Outcome {
    let Ok(sets) = Sets::read(db, 0) else { return wrong_type(reply) };
    let (mut output, mut count, version) = (Output::new(), 0, reply.version());
    collect(&sets, db, &mut |member| {
        bulk_item(&mut Reply::new(&mut output, version), member);
        count += 1;
    });
    reply.set(count);
    reply.output().append(output);
    Outcome::Done
}

/// Stores the set that `collect` gives, and answers with its size.
fn store(
    db: &mut View<'_, '_>,
    reply: &mut Reply<'_>,
    event: &'static str,
    collect: impl FnOnce(&Sets, &View<'_, '_>) -> Set,
) -> Outcome {
    let Ok(sets) = Sets::read(db, 1) else { return wrong_type(reply) };
    let set = collect(&sets, db);
    reply.integer(set.len() as i64);
    if set.is_empty() {
        db.remove(0);
    } else {
        db.set(0, NewValue::Object(set.into_object()), Ttl::None, Event::new(class::SET, event));
    }
    Outcome::Done
}

fn sinter(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    members(db, reply, |sets, db, found| {
        sets.intersect(db, |member| {
            found(member);
            true
        });
    })
}

fn sinterstore(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    store(db, reply, "sinterstore", |sets, db| {
        let mut result = Set::default();
        sets.intersect(db, |member| {
            result.add_item(member, db.limits());
            true
        });
        result
    })
}

fn sunion(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    members(db, reply, |sets, db, found| sets.union(db).iter().for_each(found))
}

fn sunionstore(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    store(db, reply, "sunionstore", |sets, db| sets.union(db))
}

fn sdiff(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    members(db, reply, |sets, db, found| sets.subtract(db, found))
}

fn sdiffstore(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    store(db, reply, "sdiffstore", |sets, db| {
        let mut result = Set::default();
        sets.subtract(db, |member| {
            result.add_item(member, db.limits());
        });
        result
    })
}

fn sintercard(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(keys) = args.integer(1).and_then(|keys| usize::try_from(keys).ok()).filter(|&keys| keys > 0) else {
        return fail(reply, "ERR numkeys should be greater than 0");
    };
    if keys > args.len() - 2 {
        return fail(reply, "ERR Number of keys can't be greater than number of args");
    }
    let (mut limit, mut index) = (0, 2 + keys);
    while index < args.len() {
        if !args.is(index, "limit") || index + 1 == args.len() {
            return fail(reply, SYNTAX_ERROR);
        }
        let Some(number) = args.integer(index + 1).and_then(|limit| usize::try_from(limit).ok()) else {
            return fail(reply, "ERR LIMIT can't be negative");
        };
        limit = number;
        index += 2;
    }
    let Ok(sets) = Sets::read(db, 0) else { return wrong_type(reply) };
    let mut count = 0;
    sets.intersect(db, |_| {
        count += 1;
        count != limit
    });
    reply.integer(count as i64);
    Outcome::Done
}
