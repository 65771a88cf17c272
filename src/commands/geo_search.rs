//! The searches among places: GEOSEARCH, GEOSEARCHSTORE and the older GEORADIUS forms, which differ in how they are asked
//! only.

use super::geo::{READ, WRITE, parse_place, parse_unit, write_distance, write_place};
use super::zset_range::store;
use super::{Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type};
use crate::keyspace::{NewValue, Ttl, View};
use crate::number::parse_double;
use crate::protocol::Reply;
use crate::types::{Collection, GeoPlace, GeoShape, ScoreBound, Zset};
use std::cmp::Ordering;

const ACCESS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const OVERWRITE: KeyFlags = KeyFlags::OW.or(KeyFlags::UPDATE);
const SEARCH_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area \
    around the shape provided as the filter and M is the number of items inside the shape";
const RADIUS_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements inside the bounding box of the circular \
    area delimited by center and radius and M is the number of items inside the index.";
const RADIUS: Spec = Spec {
    arity: -6,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::MOVABLEKEYS),
    complexity: RADIUS_COMPLEXITY,
    ..WRITE
};
const RADIUS_RO: Spec = Spec { arity: -6, since: "3.2.10", complexity: RADIUS_COMPLEXITY, ..READ };

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "geosearch",
        arity: -7,
        since: "6.2.0",
        syntax: "key [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius <M | KM | FT | MI> | BYBOX width \
            height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        complexity: SEARCH_COMPLEXITY,
        summary: "Returns the members within a circle, a box or a polygon.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::Search)),
        ..READ
    },
    Spec {
        name: "geosearchstore",
        arity: -8,
        keys: Keys::Specs(&[KeySpec::one(1, OVERWRITE), KeySpec::one(2, ACCESS)]),
        since: "6.2.0",
        syntax: "destination source [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius \
            <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude \
            [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
        complexity: SEARCH_COMPLEXITY,
        summary: "Stores the members within a circle, a box or a polygon at another key.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::SearchStore)),
        ..WRITE
    },
    Spec {
        name: "georadius",
        keys: Keys::Specs(&[
            KeySpec::one(1, ACCESS),
            KeySpec { begin: super::Begin::Keyword("STORE", 6), ..KeySpec::one(0, OVERWRITE) },
            KeySpec { begin: super::Begin::Keyword("STOREDIST", 6), ..KeySpec::one(0, OVERWRITE) },
        ]),
        syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
            [ASC | DESC] [STORE key | STOREDIST key]",
        summary: "Returns the members within a circle, or stores them at another key.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::Radius)),
        ..RADIUS
    },
    Spec {
        name: "georadiusbymember",
        arity: -5,
        keys: Keys::Specs(&[
            KeySpec::one(1, ACCESS),
            KeySpec { begin: super::Begin::Keyword("STORE", 5), ..KeySpec::one(0, OVERWRITE) },
            KeySpec { begin: super::Begin::Keyword("STOREDIST", 5), ..KeySpec::one(0, OVERWRITE) },
        ]),
        syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] \
            [STORE key | STOREDIST key]",
        summary: "Returns the members within a circle around one of them, or stores them at another key.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::RadiusByMember)),
        ..RADIUS
    },
    Spec {
        name: "georadius_ro",
        syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
            [ASC | DESC]",
        summary: "Returns the members within a circle.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::RadiusRo)),
        ..RADIUS_RO
    },
    Spec {
        name: "georadiusbymember_ro",
        arity: -5,
        syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        summary: "Returns the members within a circle around one of them.",
        run: Run::Data(|db, args, reply| search(db, args, reply, Form::RadiusByMemberRo)),
        ..RADIUS_RO
    },
];

/// Which command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Search,
    SearchStore,
    Radius,
    RadiusByMember,
    RadiusRo,
    RadiusByMemberRo,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }

    /// Where the options begin.
    fn options_at(self) -> usize {
        match self {
            Self::Search => 2,
            Self::SearchStore => 3,
            Self::Radius | Self::RadiusRo => 6,
            Self::RadiusByMember | Self::RadiusByMemberRo => 5,
        }
    }
}

/// What is asked for.
struct Query<'a> {
    /// None with a source that is not there: then nobody needs it.
    middle: Option<GeoPlace>,
    shape: Option<GeoShape>,
    /// Metres in the unit of the answer.
    unit: f64,
    /// The nearest first, or the farthest.
    order: Option<Order>,
    /// 0: all.
    count: usize,
    any: bool,
    with_place: bool,
    with_distance: bool,
    with_hash: bool,
    /// Of GEORADIUS; GEOSEARCHSTORE's is its first.
    store_key: Option<&'a [u8]>,
    store_distance: bool,
    from_member: bool,
    from_place: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// A member in the area.
struct Found {
    member: Vec<u8>,
    score: f64,
    distance: f64,
}

const NO_SUCH_MEMBER: &str = "ERR could not decode requested zset member";

/// A length at argument `index`, which is called `name` in the error.
fn parse_length(args: &Args<'_>, index: usize, name: &str) -> Result<f64, String> {
    args.get(index).and_then(parse_double).ok_or_else(|| format!("ERR need numeric {name}"))
}

/// A radius with its unit at argument `index`: in metres, and the metres of the unit.
fn parse_radius(args: &Args<'_>, index: usize) -> Result<(GeoShape, f64), String> {
    let radius = parse_length(args, index, "radius")?;
    if radius < 0.0 {
        return Err("ERR radius cannot be negative".to_owned());
    }
    let unit = parse_unit(args, index + 1)?;
    Ok((GeoShape::Circle(radius * unit), unit))
}

fn parse_box(args: &Args<'_>, index: usize) -> Result<(GeoShape, f64), String> {
    let (width, height) = (parse_length(args, index, "width")?, parse_length(args, index + 1, "height")?);
    if width < 0.0 || height < 0.0 {
        return Err("ERR height or width cannot be negative".to_owned());
    }
    let unit = parse_unit(args, index + 2)?;
    Ok((GeoShape::Box(width * unit, height * unit), unit))
}

/// The corners of a polygon, whose number stands at argument `index`.
fn parse_corners(args: &Args<'_>, index: usize) -> Result<Vec<GeoPlace>, String> {
    let count = args.integer(index).and_then(|count| i32::try_from(count).ok());
    let count = count.ok_or("ERR invalid number of vertices")?;
    let count = usize::try_from(count).ok().filter(|count| *count >= 3 && *count <= (args.len() - index - 1) / 2);
    let count = count.ok_or("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices")?;
    (0..count).map(|corner| parse_place(args, index + 1 + 2 * corner)).collect()
}

fn member_place(set: &Zset, member: &[u8]) -> Result<GeoPlace, String> {
    set.score(member).map(GeoPlace::of_score).ok_or_else(|| NO_SUCH_MEMBER.to_owned())
}

impl<'a> Query<'a> {
    /// Reads the arguments; members are looked up in the source on the way, as Redis does it, which shows in the errors.
    fn parse(args: &Args<'a>, set: Option<&Zset>, form: Form) -> Result<Self, String> {
        let mut query = Self {
            middle: None,
            shape: None,
            unit: 1.0,
            order: None,
            count: 0,
            any: false,
            with_place: false,
            with_distance: false,
            with_hash: false,
            store_key: None,
            store_distance: false,
            from_member: false,
            from_place: false,
        };
        match (form, set) {
            (Form::Radius | Form::RadiusRo, _) => {
                query.middle = Some(parse_place(args, 2)?);
                query.set_shape(parse_radius(args, 4)?);
            }
            (Form::RadiusByMember | Form::RadiusByMemberRo, Some(set)) => {
                query.middle = Some(member_place(set, args.at(2))?);
                query.set_shape(parse_radius(args, 3)?);
            }
            _ => {}
        }
        let mut index = form.options_at();
        while index < args.len() {
            let is_option = query.parse_flag(args, index)
                || query.parse_value(args, &mut index, form)?
                || form.is_search() && query.parse_area(args, &mut index, set)?;
            if !is_option {
                return Err(SYNTAX_ERROR.to_owned());
            }
            index += 1;
        }
        query.check(args, form)?;
        Ok(query)
    }

    fn set_shape(&mut self, (shape, unit): (GeoShape, f64)) {
        (self.shape, self.unit) = (Some(shape), unit);
    }

    /// Reads an option of one word; false if there is none.
    fn parse_flag(&mut self, args: &Args<'_>, index: usize) -> bool {
        let word = args.at(index).to_ascii_lowercase();
        match word.as_slice() {
            b"withdist" => self.with_distance = true,
            b"withhash" => self.with_hash = true,
            b"withcoord" => self.with_place = true,
            b"any" => self.any = true,
            b"asc" => self.order = Some(Order::Nearest),
            b"desc" => self.order = Some(Order::Farthest),
            _ => return false,
        }
        true
    }

    /// Reads COUNT or where to store, and moves `index` to the last argument of it.
    fn parse_value(&mut self, args: &Args<'a>, index: &mut usize, form: Form) -> Result<bool, String> {
        if form == Form::SearchStore && args.is(*index, "storedist") {
            self.store_distance = true;
            return Ok(true);
        }
        let Some(value) = args.get(*index + 1) else { return Ok(false) };
        if args.is(*index, "count") {
            let count = args.integer(*index + 1).ok_or(NOT_AN_INTEGER)?;
            self.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or("ERR COUNT must be > 0")?;
        } else if matches!(form, Form::Radius | Form::RadiusByMember)
            && (args.is(*index, "store") || args.is(*index, "storedist"))
        {
            self.store_key = Some(value);
            self.store_distance = args.is(*index, "storedist");
        } else {
            return Ok(false);
        }
        *index += 1;
        Ok(true)
    }

    /// Reads GEOSEARCH's middle or area, and moves `index` to the last argument of it.
    fn parse_area(&mut self, args: &Args<'_>, index: &mut usize, set: Option<&Zset>) -> Result<bool, String> {
        let (at, left) = (*index, args.len() - *index - 1);
        // A polygon has its own middle.
        let is_polygon = matches!(self.shape, Some(GeoShape::Polygon(_)));
        if args.is(at, "frommember") && left >= 1 && !self.from_place && !is_polygon {
            if let Some(set) = set {
                self.middle = Some(member_place(set, args.at(at + 1))?);
            }
            self.from_member = true;
            *index += 1;
        } else if args.is(at, "fromlonlat") && left >= 2 && !self.from_member && !is_polygon {
            self.middle = Some(parse_place(args, at + 1)?);
            self.from_place = true;
            *index += 2;
        } else if args.is(at, "byradius") && left >= 2 && matches!(self.shape, None | Some(GeoShape::Circle(_))) {
            self.set_shape(parse_radius(args, at + 1)?);
            *index += 2;
        } else if args.is(at, "bybox") && left >= 3 && matches!(self.shape, None | Some(GeoShape::Box(..))) {
            self.set_shape(parse_box(args, at + 1)?);
            *index += 3;
        } else if args.is(at, "bypolygon")
            && left >= 2
            && (is_polygon || self.shape.is_none() && !self.from_member && !self.from_place)
        {
            let corners = parse_corners(args, at + 1)?;
            *index += 1 + 2 * corners.len();
            self.middle = Some(GeoShape::middle(&corners));
            self.set_shape((GeoShape::Polygon(corners), 1.0));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// What options do not go together.
    fn check(&self, args: &Args<'_>, form: Form) -> Result<(), String> {
        let stores = form == Form::SearchStore || self.store_key.is_some();
        if stores && (self.with_distance || self.with_hash || self.with_place) {
            let name = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(format!("ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"));
        }
        let name = String::from_utf8_lossy(args.at(0));
        let is_polygon = matches!(self.shape, Some(GeoShape::Polygon(_)));
        if form.is_search() && !is_polygon && !self.from_member && !self.from_place {
            return Err(format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(format!("ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for {name}"));
        }
        if self.any && self.count == 0 {
            return Err("ERR the ANY argument requires COUNT argument".to_owned());
        }
        Ok(())
    }

    /// The members in the area, in order, not more than wanted.
    fn find(&self, set: &Zset) -> Vec<Found> {
        let (Some(middle), Some(shape)) = (self.middle, &self.shape) else { return Vec::new() };
        let limit = if self.any { self.count } else { usize::MAX };
        let mut found: Vec<Found> = Vec::new();
        for scores in shape.scores(middle) {
            if found.len() >= limit {
                break;
            }
            let bound = |score: u64, exclusive| ScoreBound { score: score as f64, exclusive };
            let ranks = set.by_score(bound(scores.start, false), bound(scores.end, true));
            let inside = set.iter(ranks).filter_map(|(member, score)| {
                let distance = shape.distance(middle, GeoPlace::of_score(score))?;
                Some(Found { member: member.to_vec(), score, distance })
            });
            let left = limit - found.len();
            found.extend(inside.take(left));
        }
        let nearest = |a: &Found, b: &Found| a.distance.partial_cmp(&b.distance).unwrap_or(Ordering::Equal);
        match self.order {
            Some(Order::Farthest) => found.sort_by(|a, b| nearest(b, a)),
            Some(Order::Nearest) => found.sort_by(nearest),
            None if self.count > 0 && !self.any => found.sort_by(nearest),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }
}

fn search(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, form: Form) -> Outcome {
    let limits = db.limits();
    let source = usize::from(form == Form::SearchStore);
    if db.is_empty() {
        // STORE without a key: the command has none that are known.
        let error = Query::parse(args, None, form).err();
        return fail(reply, error.as_deref().unwrap_or(SYNTAX_ERROR));
    }
    let Ok(set) = db.read_as::<Zset>(source) else { return wrong_type(reply) };
    let query = match Query::parse(args, set, form) {
        Ok(query) => query,
        Err(error) => return fail(reply, &error),
    };
    let found = set.map(|set| query.find(set)).unwrap_or_default();
    if form != Form::SearchStore && query.store_key.is_none() {
        answer(reply, &query, &found);
        return Outcome::Done;
    }
    let mut members: Vec<(&[u8], f64)> = found
        .iter()
        .map(|found| (&found.member[..], if query.store_distance { found.distance / query.unit } else { found.score }))
        .collect();
    members.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal).then_with(|| a.0.cmp(b.0)));
    let result = Zset::from_sorted(members.into_iter(), limits);
    let Some(key) = query.store_key else {
        store(db, result, "geosearchstore", reply);
        return Outcome::Done;
    };
    // Of two keys the last one counts; only the first is locked then, so two are refused.
    let Some(position) = (1..db.len()).find(|position| db.key(*position) == key) else {
        return fail(reply, SYNTAX_ERROR);
    };
    let len = result.len();
    if len == 0 {
        db.remove(position);
    } else {
        db.set(position, NewValue::Object(result.into_object()), Ttl::None, super::zset::event("georadiusstore"));
    }
    reply.integer(len as i64);
    Outcome::Done
}

fn answer(reply: &mut Reply<'_>, query: &Query<'_>, found: &[Found]) {
    let extras = [query.with_distance, query.with_hash, query.with_place].iter().filter(|with| **with).count();
    reply.array(found.len());
    for one in found {
        if extras > 0 {
            reply.array(1 + extras);
        }
        reply.bulk(&one.member);
        if query.with_distance {
            write_distance(reply, one.distance / query.unit);
        }
        if query.with_hash {
            reply.integer(one.score as i64);
        }
        if query.with_place {
            write_place(reply, GeoPlace::of_score(one.score));
        }
    }
}
