//! Places on the earth as scores of a sorted set: the geohash of 52 bits, distances on a sphere, and which ranges of scores
//! cover an area. Knows numbers only.
//!
//! Distances and the choice of cells follow Redis's, operation by operation: clients see the digits, and without an order
//! also in which order members are found.

use std::ops::Range;

/// Places are from -180 to 180 degrees east.
const LON: (f64, f64) = (-180.0, 180.0);
/// And so far north and south: what Web Mercator shows.
const LAT: (f64, f64) = (-85.051_128_78, 85.051_128_78);
/// Bits of each of the two coordinates in a score.
const STEP_MAX: u32 = 26;
/// In metres; the mean of what is used for a sphere.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the equator in Web Mercator, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East.
    pub lon: f64,
    /// North.
    pub lat: f64,
}

/// The area that a search is for, around a place, in metres.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// All within this distance.
    Circle(f64),
    /// A box of this width and height.
    Box(f64, f64),
    /// Within these corners, wherever the place is.
    Polygon(Vec<Place>),
}

/// The sides of an area, in degrees.
#[derive(Clone, Copy, Debug)]
struct Sides {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// A cell of the grid with so many bits for each coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    lon: u32,
    lat: u32,
    step: u32,
}

/// Spreads 32 bits over the even ones of 64.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Gathers the even bits of 64.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// Which of the `2^step` parts of a range a coordinate lies in.
fn part(value: f64, range: (f64, f64), step: u32) -> u32 {
    ((value - range.0) / (range.1 - range.0) * (1u64 << step) as f64) as u32
}

impl Cell {
    fn of(place: Place, step: u32) -> Self {
        Self { lon: part(place.lon, LON, step), lat: part(place.lat, LAT, step), step }
    }

    /// The coordinates' bits by turns.
    fn bits(self) -> u64 {
        spread(self.lat) | spread(self.lon) << 1
    }

    /// The scores of all places in it.
    fn scores(self) -> Range<u64> {
        let shift = 2 * (STEP_MAX - self.step);
        self.bits() << shift..(self.bits() + 1) << shift
    }

    /// West, east; south, north.
    fn area(self) -> ((f64, f64), (f64, f64)) {
        let side = |part: u32, range: (f64, f64)| {
            let (parts, width) = ((1u64 << self.step) as f64, range.1 - range.0);
            let end = |part: f64| range.0 + part / parts * width;
            (end(f64::from(part)), end(f64::from(part) + 1.0))
        };
        (side(self.lon, LON), side(self.lat, LAT))
    }

    /// The cell so many steps east and north, round the world.
    fn moved(self, east: i32, north: i32) -> Self {
        let mask = (1u32 << self.step) - 1;
        let moved = |part: u32, by: i32| part.wrapping_add_signed(by) & mask;
        Self { lon: moved(self.lon, east), lat: moved(self.lat, north), ..self }
    }
}

impl Place {
    /// A place, if there are scores for it.
    pub fn new(lon: f64, lat: f64) -> Option<Self> {
        let within = |value: f64, range: (f64, f64)| value >= range.0 && value <= range.1;
        (within(lon, LON) && within(lat, LAT)).then_some(Self { lon, lat })
    }

    /// Its score: an integer of 52 bits.
    pub fn score(self) -> f64 {
        Cell::of(self, STEP_MAX).bits() as f64
    }

    /// The place that a score stands for.
    pub fn of_score(score: f64) -> Self {
        let bits = score as u64;
        let cell = Cell { lon: gather(bits >> 1), lat: gather(bits), step: STEP_MAX };
        let (lon, lat) = cell.area();
        let middle = |side: (f64, f64), range: (f64, f64)| ((side.0 + side.1) / 2.0).clamp(range.0, range.1);
        Self { lon: middle(lon, LON), lat: middle(lat, LAT) }
    }

    /// Eleven letters that other services understand.
    pub fn geohash(self) -> [u8; 11] {
        let lat = part(self.lat, (-90.0, 90.0), STEP_MAX);
        let bits = spread(lat) | spread(part(self.lon, LON, STEP_MAX)) << 1;
        // 52 bits are ten letters and a little; what is over is not told.
        std::array::from_fn(|at| if at == 10 { ALPHABET[0] } else { ALPHABET[(bits >> (47 - at * 5)) as usize & 31] })
    }

    /// Metres to another place.
    pub fn distance(self, other: Self) -> f64 {
        let v = ((other.lon.to_radians_as_c() - self.lon.to_radians_as_c()) / 2.0).sin();
        if v == 0.0 {
            return lat_distance(self.lat, other.lat);
        }
        let (lat, other_lat) = (self.lat.to_radians_as_c(), other.lat.to_radians_as_c());
        let u = ((other_lat - lat) / 2.0).sin();
        let a = u * u + lat.cos() * other_lat.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }
}

trait Degrees {
    /// Radians, rounded as π/180 first and the product then.
    fn to_radians_as_c(self) -> f64;
}

impl Degrees for f64 {
    fn to_radians_as_c(self) -> f64 {
        self * (std::f64::consts::PI / 180.0)
    }
}

fn to_degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

fn lat_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (b.to_radians_as_c() - a.to_radians_as_c()).abs()
}

impl Shape {
    /// The middle of corners: the mean of their directions from the middle of the earth.
    pub fn middle(corners: &[Place]) -> Place {
        let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
        for corner in corners {
            let (lon, lat) = (corner.lon.to_radians_as_c(), corner.lat.to_radians_as_c());
            x += lat.cos() * lon.cos();
            y += lat.cos() * lon.sin();
            z += lat.sin();
        }
        let count = corners.len() as f64;
        let (x, y, z) = (x / count, y / count, z / count);
        Place { lon: to_degrees(y.atan2(x)), lat: to_degrees(z.atan2((x * x + y * y).sqrt())) }
    }

    /// The distance to a place from the middle of the area, if it is in there.
    pub fn distance(&self, middle: Place, place: Place) -> Option<f64> {
        match *self {
            Self::Circle(radius) => Some(middle.distance(place)).filter(|distance| *distance <= radius),
            Self::Polygon(ref corners) => is_within(place, corners).then(|| middle.distance(place)),
            Self::Box(width, height) => {
                if lat_distance(place.lat, middle.lat) > height / 2.0 {
                    return None;
                }
                let beside = Place { lon: middle.lon, lat: place.lat };
                (place.distance(beside) <= width / 2.0).then(|| middle.distance(place))
            }
        }
    }

    /// The sides of the area, and how far it reaches.
    fn extent(&self, middle: Place) -> (Sides, f64) {
        let around = |width: f64, height: f64| {
            let lat_delta = to_degrees(height / EARTH_RADIUS);
            // The side nearer to the pole is the wider one in degrees.
            let nearer = if middle.lat < 0.0 { middle.lat - lat_delta } else { middle.lat + lat_delta };
            let lon_delta = to_degrees(width / EARTH_RADIUS / nearer.to_radians_as_c().cos());
            let (west, east) = (middle.lon - lon_delta, middle.lon + lon_delta);
            Sides { west, east, south: middle.lat - lat_delta, north: middle.lat + lat_delta }
        };
        match *self {
            Self::Circle(radius) => (around(radius, radius), radius),
            Self::Box(width, height) => {
                let (x, y) = (width / 2.0, height / 2.0);
                (around(x, y), (x * x + y * y).sqrt())
            }
            Self::Polygon(ref corners) => {
                let least = |side: fn(&Place) -> f64| corners.iter().map(side).fold(f64::INFINITY, f64::min);
                let most = |side: fn(&Place) -> f64| corners.iter().map(side).fold(f64::NEG_INFINITY, f64::max);
                let (west, east) = (least(|corner| corner.lon), most(|corner| corner.lon));
                let (south, north) = (least(|corner| corner.lat), most(|corner| corner.lat));
                let reach = corners.iter().map(|corner| middle.distance(*corner)).fold(0.0, f64::max);
                (Sides { west, east, south, north }, reach)
            }
        }
    }

    /// Ranges of scores in which all places of the area lie, in the order in which Redis searches them.
    pub fn scores(&self, middle: Place) -> Vec<Range<u64>> {
        let (Sides { west, east, south, north }, reach) = self.extent(middle);
        let mut cell = Cell::of(middle, estimate_step(reach, middle.lat));
        let too_small = cell.moved(0, 1).area().1.1 < north
            || cell.moved(0, -1).area().1.0 > south
            || cell.moved(1, 0).area().0.1 < east
            || cell.moved(-1, 0).area().0.0 > west;
        if cell.step > 1 && too_small {
            cell = Cell::of(middle, cell.step - 1);
        }
        let (lon, lat) = cell.area();
        let is_needed = |east_by: i32, north_by: i32| {
            cell.step < 2
                || !(north_by < 0 && lat.0 < south
                    || north_by > 0 && lat.1 > north
                    || east_by < 0 && lon.0 < west
                    || east_by > 0 && lon.1 > east)
        };
        let around = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::with_capacity(around.len());
        for (east_by, north_by) in around {
            let next = cell.moved(east_by, north_by);
            // Where the cells are huge, neighbours can be the same.
            if is_needed(east_by, north_by) && (cells.len() < 2 || cells.last() != Some(&next)) {
                cells.push(next);
            }
        }
        cells.into_iter().map(Cell::scores).collect()
    }
}

/// True if a place lies within corners: a line to the east crosses their sides an odd number of times.
fn is_within(place: Place, corners: &[Place]) -> bool {
    let Some(mut before) = corners.last() else { return false };
    let mut is_within = false;
    for corner in corners {
        let rises = (corner.lat > place.lat) != (before.lat > place.lat);
        let slope = (before.lon - corner.lon) / (before.lat - corner.lat);
        if rises && place.lon < slope * (place.lat - corner.lat) + corner.lon {
            is_within = !is_within;
        }
        before = corner;
    }
    is_within
}

/// Bits for each coordinate so that nine cells cover what lies within `reach` metres.
fn estimate_step(mut reach: f64, lat: f64) -> u32 {
    if reach == 0.0 {
        return STEP_MAX;
    }
    let mut step = 1i32;
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        step += 1;
    }
    step -= 2;
    // Cells are narrower towards the poles.
    step -= i32::from(lat.abs() > 66.0) + i32::from(lat.abs() > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_places_have_known_hashes_and_distances() {
        let palermo = Place::new(13.361389, 38.115556).unwrap();
        let catania = Place::new(15.087269, 37.502669).unwrap();
        assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
        let [palermo, catania] = [palermo, catania].map(|place| Place::of_score(place.score()));
        assert_eq!((&palermo.geohash(), &catania.geohash()), (b"sqc8b49rny0", b"sqdtr74hyu0"));
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
        assert_eq!(Place::new(180.1, 0.0), None);
        assert_eq!(Place::new(0.0, -85.06), None);
    }

    proptest! {
        #[test]
        fn what_lies_in_an_area_is_in_its_ranges(
            lon in -180.0..180.0f64, lat in -85.0..85.0f64, east in -3.0..3.0f64, north in -3.0..3.0f64,
            size in 1.0..400_000.0f64, is_box in any::<bool>(),
        ) {
            let Some(place) = Place::new(lon + east, lat + north) else { return Ok(()) };
            let (middle, place) = (Place { lon, lat }, Place::of_score(place.score()));
            let shape = if is_box { Shape::Box(size, size / 2.0) } else { Shape::Circle(size) };
            if shape.distance(middle, place).is_some() {
                let score = place.score() as u64;
                prop_assert!(shape.scores(middle).iter().any(|range| range.contains(&score)));
            }
        }
    }
}
