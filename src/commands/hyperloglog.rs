//! The HyperLogLog commands: estimates of how many distinct elements were added.

use super::string::edit;
use super::{Acl, Args, Ctx, Fill, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, Spec, fail, wrong_type};
use crate::keyspace::{Event, NewValue, Place, Text, Ttl, View};
use crate::protocol::Reply;
use crate::types::{
    Corrupt, HllForm, Registers, hll_add, hll_add_dense, hll_cached, hll_count, hll_decode, hll_form, hll_lacks,
    hll_make_dense, hll_new, hll_self_test, hll_set_cached, hll_set_stale,
};

const BASE: Spec = Spec { acl: Acl::HYPERLOGLOG, group: "hyperloglog", since: "2.8.9", ..Spec::BASE };
const MERGED: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "pfadd",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))]),
        fill: Fill::Before,
        syntax: "key [element [element ...]]",
        complexity: "O(1) to add every element.",
        summary: "Adds elements to the HyperLogLog at a key.",
        run: Run::Data(pfadd),
        ..BASE
    },
    Spec {
        name: "pfcount",
        arity: -2,
        flags: Flags::READONLY.or(Flags::MAY_REPLICATE),
        keys: Keys::Specs(&[KeySpec::range(1, -1, 1, KeyFlags::RW.or(KeyFlags::ACCESS))]),
        fill: Fill::Read,
        syntax: "key [key ...]",
        complexity: "O(1) with a very small average constant time when called with a single key. O(N) with N being \
            the number of keys, and much bigger constant times, when called with multiple keys.",
        summary: "Estimates how many distinct elements the HyperLogLogs at the keys have together.",
        run: Run::Data(pfcount),
        ..BASE
    },
    Spec {
        name: "pfmerge",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: Keys::Specs(&[
            KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::INSERT)),
            KeySpec::range(2, -1, 1, MERGED),
        ]),
        fill: Fill::Before,
        syntax: "destkey [sourcekey [sourcekey ...]]",
        complexity: "O(N) to merge N HyperLogLogs, but with high constant times.",
        summary: "Adds to the HyperLogLog at a key what was added to those at others.",
        run: Run::Data(pfmerge),
        ..BASE
    },
    Spec {
        name: "pfdebug",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::ADMIN),
        keys: Keys::Specs(&[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::ACCESS))]),
        syntax: "subcommand key",
        complexity: "N/A",
        summary: "Shows the inside of the HyperLogLog at a key, or changes its form.",
        run: Run::Data(pfdebug),
        ..BASE
    },
    Spec {
        name: "pfselftest",
        arity: 1,
        flags: Flags::ADMIN,
        complexity: "N/A",
        summary: "Tests how HyperLogLogs are kept and counted.",
        run: Run::Server(pfselftest),
        ..BASE
    },
];

const NOT_ONE: &str = "WRONGTYPE Key is not a valid HyperLogLog string value.";
const CORRUPT: &str = "INVALIDOBJ Corrupted HLL object detected";
/// What changes a string, but is no news.
const QUIET: Event = Event::new(0, "pfcount");

fn pfadd(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut elements = args.from(2);
    let max = db.limits().hll_sparse_max_bytes;
    let place = db.find(0);
    let (mut text, form) = match place.map(|place| db.text_at(0, place)) {
        None => (hll_new(), HllForm::Sparse),
        Some(Err(_)) => return wrong_type(reply),
        Some(Ok(text)) => match text.with(hll_form) {
            None => return fail(reply, NOT_ONE),
            // Most elements were seen before.
            Some(HllForm::Dense) if !text.with(|text| elements.any(|element| hll_lacks(text, element))) => {
                reply.integer(0);
                return Outcome::Done;
            }
            Some(HllForm::Dense) => (Vec::new(), HllForm::Dense),
            Some(HllForm::Sparse) => (text.with(<[u8]>::to_vec), HllForm::Sparse),
        },
    };
    let is_changed = match (place, form) {
        (Some(place), HllForm::Dense) => {
            edit(db, place, Event::PFADD, 0, |text| {
                for element in args.from(2) {
                    hll_add_dense(text, element);
                }
            });
            true
        }
        _ => {
            let mut is_changed = place.is_none();
            for element in elements {
                match hll_add(&mut text, element, max) {
                    Ok(changed) => is_changed |= changed,
                    Err(Corrupt) => return fail(reply, CORRUPT),
                }
            }
            if is_changed {
                store(db, place, &mut text);
            }
            is_changed
        }
    };
    reply.integer(is_changed.into());
    Outcome::Done
}

/// Stores the command's first key, the count in it being out of date.
fn store(db: &mut View<'_, '_>, place: Option<Place>, text: &mut [u8]) {
    hll_set_stale(text);
    match place {
        Some(place) => db.replace(0, place, NewValue::raw(text), Ttl::Keep, Event::PFADD),
        None => db.add(0, NewValue::raw(text), None, Event::PFADD),
    }
}

fn pfcount(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if db.len() > 1 {
        return count_together(db, reply);
    }
    let counted = match db.read(0) {
        Err(_) => return wrong_type(reply),
        Ok(None) => Some((Ok(0), true)),
        Ok(Some(text)) => text.with(|text| {
            hll_form(text)?;
            let cached = hll_cached(text);
            Some((cached.map_or_else(|| hll_count(text), Ok), cached.is_some()))
        }),
    };
    let (count, is_cached) = match counted {
        None => return fail(reply, NOT_ONE),
        Some((Err(Corrupt), _)) => return fail(reply, CORRUPT),
        Some((Ok(count), is_cached)) => (count, is_cached),
    };
    if !is_cached && let Some(place) = db.find(0) {
        edit(db, place, QUIET, 0, |text| hll_set_cached(text, count));
    }
    reply.integer(count as i64);
    Outcome::Done
}

fn count_together(db: &mut View<'_, '_>, reply: &mut Reply<'_>) -> Outcome {
    let mut registers = Registers::default();
    match merge_all(db, &mut registers) {
        Ok(_) => reply.integer(registers.count() as i64),
        Err(Refusal::WrongType) => return wrong_type(reply),
        Err(Refusal::Text(text)) => return fail(reply, text),
    }
    Outcome::Done
}

enum Refusal {
    WrongType,
    Text(&'static str),
}

/// Merges those of the command's keys that are there; true if one of them is dense.
fn merge_all(db: &mut View<'_, '_>, registers: &mut Registers) -> Result<bool, Refusal> {
    let mut any_dense = false;
    for key in 0..db.len() {
        let Some(text) = db.read(key).map_err(|_| Refusal::WrongType)? else { continue };
        text.with(|text| {
            let form = hll_form(text).ok_or(Refusal::Text(NOT_ONE))?;
            any_dense |= form == HllForm::Dense;
            registers.merge(text).map_err(|Corrupt| Refusal::Text(CORRUPT))
        })?;
    }
    Ok(any_dense)
}

fn pfmerge(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut registers = Registers::default();
    let any_dense = match merge_all(db, &mut registers) {
        Ok(any_dense) => any_dense,
        Err(Refusal::WrongType) => return wrong_type(reply),
        Err(Refusal::Text(text)) => return fail(reply, text),
    };
    let max = db.limits().hll_sparse_max_bytes;
    let place = db.find(0);
    let mut text = match place.map(|place| db.text_at(0, place)) {
        Some(Ok(text)) => text.with(<[u8]>::to_vec),
        _ => hll_new(),
    };
    let made_dense = if any_dense { hll_make_dense(&mut text).map(drop) } else { Ok(()) };
    if made_dense.and_then(|()| registers.write(&mut text, max)).is_err() {
        return fail(reply, CORRUPT);
    }
    store(db, place, &mut text);
    reply.ok();
    Outcome::Done
}

fn pfdebug(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(place) = db.find(0) else { return fail(reply, "ERR The specified key does not exist") };
    let Ok(text) = db.text_at(0, place) else { return wrong_type(reply) };
    let Some(form) = text.with(hll_form) else { return fail(reply, NOT_ONE) };
    if args.is(1, "getreg") {
        let mut registers = Registers::default();
        if text.with(|text| registers.merge(text)).is_err() || make_dense(db, place).is_err() {
            return fail(reply, CORRUPT);
        }
        reply.array(registers.iter().len());
        registers.iter().for_each(|register| reply.integer(register.into()));
    } else if args.is(1, "decode") {
        match (form, text.with(hll_decode)) {
            (HllForm::Dense, _) => return fail(reply, "ERR HLL encoding is not sparse"),
            (_, Ok(runs)) => reply.text(&runs),
            (_, Err(Corrupt)) => return fail(reply, CORRUPT),
        }
    } else if args.is(1, "encoding") {
        reply.simple(if form == HllForm::Dense { "dense" } else { "sparse" });
    } else if args.is(1, "todense") {
        match make_dense(db, place) {
            Ok(made) => reply.integer(made.into()),
            Err(Corrupt) => return fail(reply, CORRUPT),
        }
    } else {
        reply.error_bytes(&[b"ERR Unknown PFDEBUG subcommand '", super::c_text(args.at(1)), b"'"].concat());
    }
    Outcome::Done
}

/// Makes the HyperLogLog of the command's key, which was found, dense; false if it was.
fn make_dense(db: &mut View<'_, '_>, place: Place) -> Result<bool, Corrupt> {
    let mut text = db.text_at(0, place).map_or_else(|_| Vec::new(), |text: Text<'_>| text.with(<[u8]>::to_vec));
    let made = hll_make_dense(&mut text)?;
    if made {
        db.replace(0, place, NewValue::Raw(&text), Ttl::Keep, QUIET);
    }
    Ok(made)
}

fn pfselftest(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match hll_self_test() {
        Ok(()) => reply.ok(),
        Err(what) => return fail(reply, &format!("TESTFAILED {what}")),
    }
    Outcome::Done
}
