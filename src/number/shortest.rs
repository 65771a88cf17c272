//! The digits of a double: few, and enough to read the same double back. Knows arithmetic only.
//!
//! This is Loitsch's Grisu2. Newer Redis and Valkey print doubles by it, and once in a thousand times it finds more digits than
//! are needed (`9.999999999999999e22` for `1e23`); so no other algorithm prints what they print.

use arrayvec::ArrayVec;
use num_bigint::BigUint;
use std::sync::LazyLock;

/// Bits of a double's fraction.
const FRACTION: u32 = 52;
const HIDDEN: u64 = 1 << FRACTION;
/// What is taken off a double's exponent so that its fraction is an integer.
const BIAS: i32 = 1023 + FRACTION as i32;
/// The powers of ten that are kept: so many, from this exponent on, in these steps.
const POWERS: i32 = 87;
const FIRST_POWER: i32 = -348;
const STEP: i32 = 8;
/// Where the binary exponent of a scaled number has to lie: its integer part then has 4 to 32 bits.
const SCALED: std::ops::RangeInclusive<i32> = -60..=-32;

/// Digits, not all zero, without leading zeros.
pub(super) type Digits = ArrayVec<u8, 20>;

/// `fraction` times two to `exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        Self { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The product, rounded to 64 bits.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Self { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

static TENS: LazyLock<Vec<Scaled>> =
    LazyLock::new(|| (0..POWERS).map(|n| power_of_ten(FIRST_POWER + n * STEP)).collect());

/// Ten to a power, rounded to 64 bits.
fn power_of_ten(power: i32) -> Scaled {
    let ten = BigUint::from(10u8).pow(power.unsigned_abs());
    // As an integer of more bits than are kept.
    let (number, exponent): (BigUint, i32) =
        if power < 0 { ((BigUint::from(1u8) << 1400) / ten, -1400) } else { (ten << 64, -64) };
    let extra = number.bits() as i32 - 64;
    let rounded = (number + (BigUint::from(1u8) << (extra - 1) as u32)) >> extra as u32;
    let fraction = u64::try_from(&rounded).unwrap_or(u64::MAX);
    Scaled { fraction, exponent: exponent + extra }
}

/// The power of ten that brings a number with this binary exponent into [`SCALED`], and its exponent.
fn scale(exponent: i32) -> (Scaled, i32) {
    // The smallest one that does it, or one next to it: where two would do, the digits can depend on the choice.
    let estimate = (f64::from(-(exponent + POWERS)) * std::f64::consts::LOG10_2) as i32;
    let mut at = (estimate - FIRST_POWER) / STEP;
    loop {
        let ten = TENS[at as usize];
        let scaled = exponent + ten.exponent + 64;
        if scaled < *SCALED.start() {
            at += 1;
        } else if scaled > *SCALED.end() {
            at -= 1;
        } else {
            return (ten, FIRST_POWER + at * STEP);
        }
    }
}

/// The digits of a positive, finite double, and the power of ten of the last of them.
pub(super) fn digits(value: f64) -> (Digits, i32) {
    let bits = value.to_bits();
    let (fraction, biased) = (bits & (HIDDEN - 1), (bits >> FRACTION) as i32);
    let exact = if biased == 0 {
        Scaled { fraction, exponent: 1 - BIAS }
    } else {
        Scaled { fraction: fraction | HIDDEN, exponent: biased - BIAS }
    };
    // Half way to the neighbours on either side; the one below a power of two is nearer.
    let upper = Scaled { fraction: (exact.fraction << 1) + 1, exponent: exact.exponent - 1 }.normalized();
    let near = if exact.fraction == HIDDEN { 2 } else { 1 };
    let below = Scaled { fraction: (exact.fraction << near) - 1, exponent: exact.exponent - near };
    let lower = Scaled { fraction: below.fraction << (below.exponent - upper.exponent), exponent: upper.exponent };
    let (ten, power) = scale(upper.exponent);
    let (exact, upper, lower) = (exact.normalized().times(ten), upper.times(ten), lower.times(ten));
    // The products may be off by one: what lies within by more than that is safe.
    let high = Scaled { fraction: upper.fraction - 1, ..upper };
    generate(high, high.fraction - exact.fraction, high.fraction - (lower.fraction + 1), -power)
}

/// Writes the digits of `high` until the rest is less than `width`, the room below it; then takes the last one down towards
/// the exact value, which is `target` below it.
fn generate(high: Scaled, target: u64, mut width: u64, mut power: i32) -> (Digits, i32) {
    let shift = high.exponent.unsigned_abs();
    let one = 1u64 << shift;
    let (mut whole, mut rest) = (high.fraction >> shift, high.fraction & (one - 1));
    let mut digits = Digits::new();
    let push = |digits: &mut Digits, digit: u64| {
        if digit > 0 || !digits.is_empty() {
            digits.push(b'0' + digit as u8);
        }
    };
    for place in (0..10u32).rev() {
        let unit = 10u64.pow(place);
        push(&mut digits, whole / unit);
        whole %= unit;
        let left = (whole << shift) + rest;
        if left <= width {
            approach(&mut digits, left, width, unit << shift, target);
            return (digits, power + place as i32);
        }
    }
    let mut target = target;
    loop {
        rest *= 10;
        width = width.wrapping_mul(10);
        target = target.wrapping_mul(10);
        power -= 1;
        push(&mut digits, rest >> shift);
        rest &= one - 1;
        if rest < width {
            approach(&mut digits, rest, width, one, target);
            return (digits, power);
        }
    }
}

/// Takes the last digit down while that brings the number nearer to the exact value and leaves it within the room.
fn approach(digits: &mut Digits, mut left: u64, width: u64, unit: u64, target: u64) {
    let Some(last) = digits.last_mut() else { return };
    while left < target && width - left >= unit && (left + unit < target || target - left > left + unit - target) {
        *last -= 1;
        left += unit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let (digits, power) = digits(value);
        format!("{}e{power}", std::str::from_utf8(&digits).unwrap())
    }

    #[test]
    fn digits_are_those_of_grisu() {
        for (value, expected) in [
            (0.1, "1e-1"),
            (0.3, "3e-1"),
            (5e-324, "5e-324"),
            (f64::MIN_POSITIVE, "22250738585072014e-324"),
            (f64::MAX, "17976931348623157e292"),
            (123_456.75, "12345675e-2"),
            // One digit would do.
            (1e23, "9999999999999999e7"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn digits_read_back_as_the_same_double(bits in any::<u64>()) {
            let value = f64::from_bits(bits & (u64::MAX >> 1));
            prop_assume!(value.is_finite() && value > 0.0);
            let text = text(value);
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
            prop_assert!(text.split('e').next().unwrap().len() <= 17, "{}", text);
        }
    }
}
