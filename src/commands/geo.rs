//! The geo commands that name members. A place is a score of a sorted set, so every other command on sorted sets works as
//! well. Searches are in [`super::geo_search`].

use super::zset::{AddOptions, NOT_A_FLOAT, READ as ZSET_READ, WRITE as ZSET_WRITE, add};
use super::{Acl, Args, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::View;
use crate::number::parse_double;
use crate::protocol::Reply;
use crate::types::{GeoPlace, Zset};

pub(super) const READ: Spec = Spec { flags: Flags::READONLY, acl: Acl::GEO, group: "geo", since: "3.2.0", ..ZSET_READ };
pub(super) const WRITE: Spec = Spec {
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Acl::GEO,
    group: "geo",
    since: "3.2.0",
    keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))]),
    ..ZSET_WRITE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "geoadd",
        arity: -5,
        syntax: "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
        complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        summary: "Adds members with places, or moves them.",
        run: Run::Data(geoadd),
        ..WRITE
    },
    Spec {
        name: "geopos",
        arity: -2,
        syntax: "key [member [member ...]]",
        complexity: "O(1) for each member requested.",
        summary: "Returns the places of members.",
        run: Run::Data(geopos),
        ..READ
    },
    Spec {
        name: "geodist",
        arity: -4,
        syntax: "key member1 member2 [M | KM | FT | MI]",
        complexity: "O(1)",
        summary: "Returns the distance between two members.",
        run: Run::Data(geodist),
        ..READ
    },
    Spec {
        name: "geohash",
        arity: -2,
        syntax: "key [member [member ...]]",
        complexity: "O(1) for each member requested.",
        summary: "Returns the places of members as geohashes.",
        run: Run::Data(geohash),
        ..READ
    },
];

/// The place of the arguments at `index`, or the error.
pub(super) fn parse_place(args: &Args<'_>, index: usize) -> Result<GeoPlace, String> {
    let degrees = |index| args.get(index).and_then(parse_double).ok_or(NOT_A_FLOAT);
    let (lon, lat) = (degrees(index)?, degrees(index + 1)?);
    GeoPlace::new(lon, lat).ok_or_else(|| format!("ERR invalid longitude,latitude pair {lon:.6},{lat:.6}"))
}

/// Metres in the unit that the argument at `index` names, or the error.
pub(super) fn parse_unit(args: &Args<'_>, index: usize) -> Result<f64, &'static str> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let unit = units.iter().find(|(name, _)| args.is(index, name));
    unit.map(|(_, metres)| *metres).ok_or("ERR unsupported unit provided. please use M, KM, FT, MI")
}

/// Writes a distance: four decimals, in RESP3 too as a string.
pub(super) fn write_distance(reply: &mut Reply<'_>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    reply.text(&format!("{}.{:04}", scaled / 10_000, scaled % 10_000));
}

/// Writes a place: two numbers.
pub(super) fn write_place(reply: &mut Reply<'_>, place: GeoPlace) {
    reply.array(2);
    reply.double(place.lon);
    reply.double(place.lat);
}

fn geoadd(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut options, mut first) = (AddOptions::default(), 2);
    loop {
        match args.get(first) {
            Some(word) if word.eq_ignore_ascii_case(b"nx") => options.absent_only = true,
            Some(word) if word.eq_ignore_ascii_case(b"xx") => options.present_only = true,
            Some(word) if word.eq_ignore_ascii_case(b"ch") => options.changed = true,
            _ => break,
        }
        first += 1;
    }
    if !(args.len() - first).is_multiple_of(3) || args.len() == first || options.absent_only && options.present_only {
        return fail(reply, SYNTAX_ERROR);
    }
    for index in (first..args.len()).step_by(3) {
        if let Err(error) = parse_place(args, index) {
            return fail(reply, &error);
        }
    }
    // Read again rather than kept, which would take memory for each command.
    let members = (first..args.len())
        .step_by(3)
        .map(|index| (args.at(index + 2), parse_place(args, index).map(GeoPlace::score).unwrap_or_default()));
    if let Some(tally) = add(db, members, options, reply) {
        reply.integer(tally.added + if options.changed { tally.changed } else { 0 });
    }
    Outcome::Done
}

fn place_of(set: Option<&Zset>, member: &[u8]) -> Option<GeoPlace> {
    set?.score(member).map(GeoPlace::of_score)
}

fn geopos(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    reply.array(args.len() - 2);
    for member in args.from(2) {
        match place_of(set, member) {
            Some(place) => write_place(reply, place),
            None => reply.null_array(),
        }
    }
    Outcome::Done
}

fn geohash(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    reply.array(args.len() - 2);
    for member in args.from(2) {
        match place_of(set, member) {
            Some(place) => reply.bulk(&place.geohash()),
            None => reply.null(),
        }
    }
    Outcome::Done
}

fn geodist(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let metres = match args.len() {
        4 => Ok(1.0),
        5 => parse_unit(args, 4),
        _ => Err(SYNTAX_ERROR),
    };
    let metres = match metres {
        Ok(metres) => metres,
        Err(error) => return fail(reply, error),
    };
    let Ok(set) = db.read_as::<Zset>(0) else { return wrong_type(reply) };
    match (place_of(set, args.at(2)), place_of(set, args.at(3))) {
        (Some(one), Some(other)) => write_distance(reply, one.distance(other) / metres),
        _ => reply.null(),
    }
    Outcome::Done
}
