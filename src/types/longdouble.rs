//! The 80-bit extended float of the x87, which INCRBYFLOAT counts with: 64 bits of mantissa, 15 of exponent. Read,
//! added and printed exactly as the C library does it, rounding to nearest and to even. Knows text only.

use num_bigint::BigUint;

/// A number as the x87 holds it; never NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongDouble {
    /// (-1)^negative · mantissa · 2^exponent. The mantissa's top bit is set unless the exponent is the smallest one.
    Finite {
        /// Below zero.
        negative: bool,
        /// 64 bits.
        mantissa: u64,
        /// Of the mantissa's lowest bit.
        exponent: i32,
    },
    /// Without end.
    Infinite {
        /// Below zero.
        negative: bool,
    },
}

use LongDouble::{Finite, Infinite};

/// Exponent of the lowest bit of the smallest numbers.
const MIN_EXPONENT: i32 = -16_445;
/// Exponent of the lowest bit of the largest numbers.
const MAX_EXPONENT: i32 = 16_320;
/// Text from this length on is no number for Redis, in bytes.
const MAX_TEXT: usize = 5 * 1024;
/// Decimal magnitudes outside of these are certainly too large, or too small, for the type.
const MAX_MAGNITUDE: i64 = 4_940;
const MIN_MAGNITUDE: i64 = -4_960;
/// Digits behind the point when printed, before trailing zeros are cut.
const DECIMALS: u32 = 17;
/// Binary digits of a hexadecimal number that are kept; the rest only decides the rounding.
const HEX_KEPT: u32 = 120;

impl LongDouble {
    /// Reads a number in any form of C's `strtold`: decimal or hexadecimal, with or without exponent, `inf`,
    /// `infinity`. None for anything else, spaces and NaN included, and for a number that is too large or too small.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= MAX_TEXT {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Infinite { negative });
        }
        match digits {
            [b'0', b'x' | b'X', hex @ ..] => parse_hex(negative, hex),
            decimal => parse_decimal(negative, decimal),
        }
    }

    /// The sum; None if it is no finite number.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (
            Finite { negative: a_negative, mantissa: a, exponent: a_exponent },
            Finite { negative: b_negative, mantissa: b, exponent: b_exponent },
        ) = (self, other)
        else {
            return None;
        };
        if a == 0 || (b != 0 && b_exponent > a_exponent) {
            return if a == 0 { Some(other) } else { other.checked_add(self) };
        }
        if b == 0 {
            return Some(self);
        }
        // 62 bits below the larger number's lowest leave its sum room for a carry. What lies even lower only
        // matters for being there or not: it is kept as one bit.
        let distance = (a_exponent - b_exponent).unsigned_abs();
        let shift = distance.min(62);
        let a = u128::from(a) << shift;
        let lost = distance - shift;
        let b = match lost {
            0 => u128::from(b),
            1..=63 => u128::from(b >> lost | u64::from(b << (64 - lost) != 0)),
            _ => 1,
        };
        let (negative, sum) = match (a_negative == b_negative, a >= b) {
            (true, _) => (a_negative, a + b),
            (false, true) => (a_negative, a - b),
            (false, false) => (b_negative, b - a),
        };
        match round(negative, sum, a_exponent - shift as i32, false) {
            Infinite { .. } => None,
            finite => Some(finite),
        }
    }
}

impl LongDouble {
    /// Nearly the same number as a double.
    pub fn to_f64(self) -> f64 {
        let (size, negative) = match self {
            Infinite { negative } => (f64::INFINITY, negative),
            Finite { negative, mantissa, exponent } => (mantissa as f64 * f64::from(exponent).exp2(), negative),
        };
        if negative { -size } else { size }
    }
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        round(value < 0, value.unsigned_abs().into(), 0, false)
    }
}

/// The number nearest to `mantissa · 2^exponent`; `sticky` says that a little more belongs to the mantissa, which
/// then has more than 65 bits or an exponent below the smallest.
fn round(negative: bool, mut mantissa: u128, mut exponent: i32, sticky: bool) -> LongDouble {
    let bits = 128 - mantissa.leading_zeros() as i32;
    let drop = (bits - 64).max(MIN_EXPONENT - exponent);
    if mantissa == 0 || drop > 127 {
        return Finite { negative, mantissa: 0, exponent: MIN_EXPONENT };
    }
    if drop > 0 {
        let rest = mantissa & ((1 << drop) - 1);
        let half = 1u128 << (drop - 1);
        mantissa >>= drop;
        exponent += drop;
        if rest > half || (rest == half && (sticky || mantissa & 1 != 0)) {
            mantissa += 1;
        }
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    } else {
        let raise = (64 - bits).min(exponent - MIN_EXPONENT);
        mantissa <<= raise;
        exponent -= raise;
    }
    if exponent > MAX_EXPONENT {
        return Infinite { negative };
    }
    Finite { negative, mantissa: mantissa as u64, exponent }
}

/// A number that was rounded from one that is not zero, as `strtold` accepts it: neither infinite nor zero.
fn in_range(number: LongDouble) -> Option<LongDouble> {
    matches!(number, Finite { mantissa: 1.., .. }).then_some(number)
}

/// The parts of `123.45e-6`: all digits, how many of them lie behind the point, the exponent.
fn split(text: &[u8], is_digit: fn(&u8) -> bool, marks: [u8; 2]) -> Option<(Vec<u8>, i64, i64)> {
    let until = |text: &[u8]| text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    let (whole, mut rest) = text.split_at(until(text));
    let mut digits = whole.to_vec();
    let mut behind = 0;
    if let [b'.', tail @ ..] = rest {
        let (fraction, tail) = tail.split_at(until(tail));
        digits.extend_from_slice(fraction);
        behind = fraction.len() as i64;
        rest = tail;
    }
    if digits.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [mark, tail @ ..] if marks.contains(mark) => {
            let (negative, number) = match tail {
                [b'-', number @ ..] => (true, number),
                [b'+', number @ ..] => (false, number),
                number => (false, number),
            };
            if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
                return None;
            }
            // Far beyond any exponent that can matter, and far from overflowing.
            let number = number.iter().fold(0i64, |n, digit| (n * 10 + i64::from(digit - b'0')).min(1 << 40));
            if negative { -number } else { number }
        }
        _ => return None,
    };
    Some((digits, behind, exponent))
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, behind, exponent) = split(text, u8::is_ascii_digit, [b'e', b'E'])?;
    let zero = |byte: &u8| *byte == b'0';
    let Some(first) = digits.iter().position(|byte| !zero(byte)) else {
        return Some(round(negative, 0, 0, false));
    };
    let last = digits.iter().rposition(|byte| !zero(byte)).unwrap_or(first);
    let power = exponent - behind + (digits.len() - 1 - last) as i64;
    let digits = &digits[first..=last];
    let magnitude = digits.len() as i64 + power;
    if !(MIN_MAGNITUDE..=MAX_MAGNITUDE).contains(&magnitude) {
        return None;
    }
    if let (1..=19, -19..=19) = (digits.len(), power) {
        let number = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        let ten = 10u64.pow(power.unsigned_abs() as u32);
        return Some(if power >= 0 {
            round(negative, u128::from(number) * u128::from(ten), 0, false)
        } else {
            divide(negative, number, ten)
        });
    }
    let number = BigUint::parse_bytes(digits, 10)?;
    let ten = BigUint::from(10u8).pow(power.unsigned_abs() as u32);
    let one = BigUint::from(1u8);
    let number = if power >= 0 { ratio(negative, number * ten, one) } else { ratio(negative, number, ten) };
    in_range(number)
}

/// `number / by`, of which neither is 0.
fn divide(negative: bool, number: u64, by: u64) -> LongDouble {
    let (a_shift, b_shift) = (number.leading_zeros(), by.leading_zeros());
    let (a, b) = (number << a_shift, by << b_shift);
    // The quotient has 63 or 64 bits; two more of it, and the rest, decide the rounding.
    let high = (u128::from(a) << 63) / u128::from(b);
    let rest = ((u128::from(a) << 63) % u128::from(b)) << 3;
    let low = rest / u128::from(b);
    let sticky = rest % u128::from(b) != 0;
    round(negative, high << 3 | low, b_shift as i32 - a_shift as i32 - 66, sticky)
}

/// `number / by`, of which neither is 0.
fn ratio(negative: bool, number: BigUint, by: BigUint) -> LongDouble {
    let bits = number.bits() as i64 - by.bits() as i64;
    // 66 bits of the quotient, or less where the exponent cannot go down: then two more than are kept.
    let exponent = (bits - 66).max(i64::from(MIN_EXPONENT) - 2) as i32;
    let (number, by) =
        if exponent <= 0 { (number << exponent.unsigned_abs(), by) } else { (number, by << exponent.unsigned_abs()) };
    let quotient = &number / &by;
    let sticky = &quotient * &by != number;
    round(negative, u128::try_from(&quotient).unwrap_or(u128::MAX), exponent, sticky)
}

fn parse_hex(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, behind, exponent) = split(text, u8::is_ascii_hexdigit, [b'p', b'P'])?;
    let (mut mantissa, mut exponent, mut sticky) = (0u128, exponent - behind * 4, false);
    for &digit in &digits {
        let digit = char::from(digit).to_digit(16)?;
        if mantissa >> HEX_KEPT == 0 {
            mantissa = mantissa << 4 | u128::from(digit);
        } else {
            exponent += 4;
            sticky |= digit != 0;
        }
    }
    if mantissa == 0 {
        return Some(round(negative, 0, 0, false));
    }
    // Beyond these nothing fits, and they fit the type of the exponent.
    let exponent = exponent.clamp(-40_000, 40_000) as i32;
    in_range(round(negative, mantissa, exponent, sticky))
}

/// The number in decimals without exponent: 17 digits behind the point, correctly rounded, of which trailing zeros
/// are cut.
impl std::fmt::Display for LongDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (negative, mantissa, exponent) = match *self {
            Infinite { negative } => return f.write_str(if negative { "-inf" } else { "inf" }),
            Finite { negative, mantissa, exponent } => (negative, mantissa, exponent),
        };
        let sign = if negative { "-" } else { "" };
        if exponent >= 0 {
            if exponent <= 64 {
                return write!(f, "{sign}{}", u128::from(mantissa) << exponent);
            }
            return write!(f, "{sign}{}", BigUint::from(mantissa) << exponent.unsigned_abs());
        }
        let drop = exponent.unsigned_abs();
        let one = 10u128.pow(DECIMALS);
        let scaled = u128::from(mantissa) * one;
        let decimals = if drop > 127 {
            0
        } else {
            let (kept, rest, half) = (scaled >> drop, scaled & ((1 << drop) - 1), 1u128 << (drop - 1));
            kept + u128::from(rest > half || (rest == half && kept & 1 != 0))
        };
        if decimals == 0 {
            return f.write_str("0");
        }
        let digits = format!("{:017}", decimals % one);
        match digits.trim_end_matches('0') {
            "" => write!(f, "{sign}{}", decimals / one),
            fraction => write!(f, "{sign}{}.{fraction}", decimals / one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<LongDouble> {
        LongDouble::parse(text.as_bytes())
    }

    /// Sums as Redis 8.2 on x86-64 gave them.
    #[test]
    fn sums_have_the_digits_of_redis() {
        for (a, b, sum) in [
            ("3.0", "1.1", "4.1"),
            ("10.5", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "0.000000000000000005", "0"),
            ("0", "0.000000000000000015", "0.00000000000000002"),
            ("0", "1e-18", "0"),
            ("0.5", "-0.500000000000000001", "0"),
            ("5", "-7.25", "-2.25"),
            ("1e17", "0.1", "100000000000000000.1015625"),
            ("1e20", "0.5", "100000000000000000000"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551615", "2", "18446744073709551616"),
            ("-9223372036854775808", "-0.5", "-9223372036854775808"),
            ("9223372036854775807", "0.5", "9223372036854775807.5"),
            ("1e30", "10", "1000000000000000000024696061952"),
            ("123456789.123456789", "0.000000001", "123456789.12345678999554366"),
            ("1000000", "-999999.99999999999", "0.00000000001000444"),
            ("99999999999999999999.99999", "0.00001", "100000000000000000000"),
            ("0x1.8p1", "0X.8", "3.5"),
            ("0xfffffffffffffffff", "0", "295147905179352825856"),
            ("0x1.00000000000000008p0", "0", "1"),
            ("1e-4945", "0", "0"),
            ("3.6e-4951", "1", "1"),
            ("00012.500", "-0", "12.5"),
            ("1.", "+.5", "1.5"),
            ("0e99999999999", "1", "1"),
        ] {
            let got = parse(a).unwrap().checked_add(parse(b).unwrap()).unwrap();
            assert_eq!(got.to_string(), sum, "{a} + {b}");
        }
    }

    #[test]
    fn the_largest_numbers_print_all_their_digits() {
        let text = parse("-1.18973149535723176502e4932").unwrap().to_string();
        assert_eq!(text.len(), 4934);
        assert!(text.starts_with("-118973149535723176502126385303097020516"));
        assert!(text.ends_with("08849149662444156604419552086811989770240"));
    }

    #[test]
    fn only_numbers_within_reach_are_numbers() {
        for text in [
            "",
            " 1",
            "1 ",
            "1\0",
            "+",
            "-",
            ".",
            ".e1",
            "1e",
            "1e+",
            "1e1.5",
            "1,5",
            "1_0",
            "+-1",
            "0x",
            "0x.p1",
            "0x1p",
            "infinit",
            "nan",
            "nan(1)",
            "1e4933",
            "1e-4960",
            "1.8e-4951",
            "1.189731495357231765086e+4932",
            "0x1p99999",
            "0x1p-99999",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&"0".repeat(5120)), None);
        for text in ["1.83e-4951", "1.189731495357231765085e+4932"] {
            assert_eq!(parse(text).is_some(), text.starts_with("1.83"), "{text}");
        }
        assert!(parse("1.18973149535723176503e4932").is_some() && parse(&"0".repeat(5119)).is_some());
        assert_eq!(parse("-InFinity"), Some(Infinite { negative: true }));
        assert_eq!(parse("inf").unwrap().checked_add(LongDouble::from(1)), None);
        assert_eq!(parse("1.1e4932").unwrap().checked_add(parse("1.1e4932").unwrap()), None);
    }

    /// `mantissa · 2^exponent` as a fraction.
    fn fraction(number: u64, exponent: i32) -> (BigUint, BigUint) {
        let (up, down) = (exponent.max(0) as u32, exponent.min(0).unsigned_abs());
        (BigUint::from(number) << up, BigUint::from(1u8) << down)
    }

    proptest! {
        #[test]
        fn the_short_division_is_the_long_one(number in 1u64.., power in 1u32..=19) {
            let by = 10u64.pow(power);
            prop_assert_eq!(divide(true, number, by), ratio(true, number.into(), by.into()));
        }

        #[test]
        fn a_sum_is_the_exact_sum_rounded(a in 1u64.., b in 1u64.., e in -80i32..80, f in -80i32..80, minus in any::<bool>()) {
            let sum = round(false, a.into(), e, false).checked_add(round(minus, b.into(), f, false)).unwrap();
            let ((an, ad), (bn, bd)) = (fraction(a, e), fraction(b, f));
            let (x, y) = (an * &bd, bn * &ad);
            let exact = match (minus, x.cmp(&y)) {
                (false, _) => ratio(false, x + y, ad * bd),
                (true, std::cmp::Ordering::Equal) => {
                    prop_assert_eq!(sum.to_string(), "0");
                    return Ok(());
                }
                (true, std::cmp::Ordering::Greater) => ratio(false, x - y, ad * bd),
                (true, std::cmp::Ordering::Less) => ratio(true, y - x, ad * bd),
            };
            prop_assert_eq!(sum, exact);
        }

        #[test]
        fn what_is_printed_reads_back(number in any::<i64>(), more in -1000i64..1000) {
            let sum = LongDouble::from(number).checked_add(LongDouble::from(more)).unwrap();
            prop_assert_eq!(parse(&sum.to_string()), Some(sum));
            prop_assert_eq!(LongDouble::from(number).to_string(), number.to_string());
        }
    }
}
