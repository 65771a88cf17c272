//! INCR, DECR and their kind: strings that are numbers.

use super::{Acl, Args, Fill, Flags, Keys, NOT_AN_INTEGER, Outcome, Run, Spec, fail, wrong_type};
use crate::keyspace::{Event, NewValue, Text, Ttl, View, WrongType};
use crate::protocol::{Reply, parse_i64};
use crate::types::LongDouble;

const COUNT: Spec = Spec {
    arity: 2,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    acl: Acl::STRING,
    keys: Keys::ACCESS_UPDATE_ONE,
    fill: Fill::Before,
    group: "string",
    syntax: "key",
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec { name: "incr", summary: "Adds one to the integer at a key.", run: Run::Data(incr), ..COUNT },
    Spec { name: "decr", summary: "Takes one from the integer at a key.", run: Run::Data(decr), ..COUNT },
    Spec {
        name: "incrby",
        arity: 3,
        syntax: "key increment",
        summary: "Adds to the integer at a key.",
        run: Run::Data(incrby),
        ..COUNT
    },
    Spec {
        name: "decrby",
        arity: 3,
        syntax: "key decrement",
        summary: "Takes from the integer at a key.",
        run: Run::Data(decrby),
        ..COUNT
    },
    Spec {
        name: "incrbyfloat",
        arity: 3,
        since: "2.6.0",
        syntax: "key increment",
        summary: "Adds to the floating-point number at a key.",
        run: Run::Data(incrbyfloat),
        ..COUNT
    },
];

fn incr(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(db, 1, reply)
}

fn decr(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(db, -1, reply)
}

fn incrby(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.integer(2) {
        Some(by) => add(db, by, reply),
        None => fail(reply, NOT_AN_INTEGER),
    }
}

fn decrby(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(by) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    match by.checked_neg() {
        Some(by) => add(db, by, reply),
        None => fail(reply, "ERR decrement would overflow"),
    }
}

fn add(db: &mut View<'_, '_>, by: i64, reply: &mut Reply<'_>) -> Outcome {
    let Some(place) = db.find(0) else {
        db.add(0, NewValue::Int(by), None, Event::INCRBY);
        reply.integer(by);
        return Outcome::Done;
    };
    let number = match db.text_at(0, place) {
        Ok(Text::Int(number)) => Some(number),
        Ok(Text::Inline(bytes, _)) => parse_i64(bytes),
        Ok(Text::Shared(_) | Text::Compressed(_)) => None,
        Err(WrongType) => return wrong_type(reply),
    };
    let Some(number) = number else { return fail(reply, NOT_AN_INTEGER) };
    let Some(sum) = number.checked_add(by) else {
        return fail(reply, "ERR increment or decrement would overflow");
    };
    db.replace(0, place, NewValue::Int(sum), Ttl::Keep, Event::INCRBY);
    reply.integer(sum);
    Outcome::Done
}

fn incrbyfloat(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let place = db.find(0);
    let number = match place.map(|place| db.text_at(0, place)) {
        None => Some(LongDouble::from(0)),
        Some(Ok(Text::Int(number))) => Some(LongDouble::from(number)),
        Some(Ok(Text::Shared(_))) => None,
        Some(Ok(text)) => text.with(LongDouble::parse),
        Some(Err(WrongType)) => return wrong_type(reply),
    };
    let (Some(number), Some(by)) = (number, LongDouble::parse(args.at(2))) else {
        return fail(reply, "ERR value is not a valid float");
    };
    let Some(sum) = number.checked_add(by) else { return fail(reply, "ERR increment would produce NaN or Infinity") };
    let text = sum.to_string();
    let value = NewValue::Bytes(text.as_bytes());
    match place {
        Some(place) => db.replace(0, place, value, Ttl::Keep, Event::INCRBYFLOAT),
        None => db.add(0, value, None, Event::INCRBYFLOAT),
    }
    reply.text(&text);
    Outcome::Done
}
