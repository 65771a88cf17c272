//! Numbers as the protocol and the commands write them. Knows bytes only.

mod shortest;

use arrayvec::ArrayString;
use std::fmt::Write as _;

/// An integer in its one canonical form: no sign but a leading `-`, no leading zero, no space, no `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits never overflow 64 bits.
        value = value * 10 + u64::from(digit);
    }
    if negative { (value <= 1 << 63).then(|| (value as i64).wrapping_neg()) } else { i64::try_from(value).ok() }
}

/// A double as commands take it: decimal or exponent form, `inf`, `infinity`, with sign, hexadecimal floats
/// excepted; no spaces, no NaN, nothing that is too large, or so small that nothing would be left of it.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    if text.len() <= 15
        && let Some(whole) = parse_i64(text)
    {
        return Some(whole as f64);
    }
    let value = parse_rounded_double(text)?;
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let is_word = digits.first().is_some_and(u8::is_ascii_alphabetic);
    let mut mantissa = digits.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let vanished = value == 0.0 && mantissa.any(|byte| matches!(byte, b'1'..=b'9'));
    (value.is_infinite() == is_word && !vanished).then_some(value)
}

/// The same where what is too large is infinite, and what is too small 0.
pub fn parse_rounded_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_alphabetic() && !c.eq_ignore_ascii_case(&'i')) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| !value.is_nan())
}

/// Room for a double as text.
pub type DoubleText = ArrayString<32>;

/// A double as RESP3 and the sorted sets print it: integers of up to 62 bits as such, else few digits that read back
/// equal, with an exponent (`1.5e-7`, `1e+20`) where zeros would be many.
pub fn format_double(value: f64) -> DoubleText {
    let mut text = DoubleText::new();
    if value.is_nan() {
        text.push_str("nan");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "inf" } else { "-inf" });
    } else if value == 0.0 {
        text.push_str(if value.is_sign_negative() { "-0" } else { "0" });
    } else if value.abs() <= WHOLE_MAX && value as i64 as f64 == value {
        text.push_str(itoa::Buffer::new().format(value as i64));
    } else {
        if value < 0.0 {
            text.push('-');
        }
        push_digits(&mut text, value.abs());
    }
    text
}

/// A double with 17 significant digits, as C's `%.17g` prints one.
pub fn format_digits(value: f64) -> DoubleText {
    const DIGITS: i32 = 17;
    if !value.is_finite() || value == 0.0 {
        return format_double(value);
    }
    let mut text = DoubleText::new();
    let mut exact = ArrayString::<32>::new();
    // Never longer than the room for it: a sign, 17 digits, a point, and an exponent of up to four characters.
    let _ = write!(exact, "{:.16e}", value.abs());
    let (mantissa, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
    let magnitude: i32 = exponent.parse().unwrap_or(0);
    let mut digits = ArrayString::<17>::new();
    mantissa.chars().filter(char::is_ascii_digit).for_each(|digit| digits.push(digit));
    let digits = digits.trim_end_matches('0');
    if value < 0.0 {
        text.push('-');
    }
    if (-4..DIGITS).contains(&magnitude) {
        push_decimal(&mut text, digits, magnitude + 1 - digits.len() as i32);
    } else {
        push_scientific(&mut text, digits, magnitude, 2);
    }
    text
}

/// 2^62: up to here a double without a fraction is printed as the integer that it is.
const WHOLE_MAX: f64 = (1u64 << 62) as f64;
/// Zeros behind the digits of a large number, at most.
const TRAILING_ZEROS_MAX: i32 = 6;
/// Digits behind the point of a number that is printed without an exponent, unless it is 0.0001 or more.
const DECIMALS_MAX: i32 = 6;

/// Appends a positive, finite number that is no small integer.
fn push_digits(text: &mut DoubleText, value: f64) {
    // The value is these digits times ten to this power.
    let (digits, power) = shortest::digits(value);
    let digits = std::str::from_utf8(&digits).unwrap_or_default();
    let count = digits.len() as i32;
    let magnitude = power + count - 1;
    let is_short = if power >= 0 {
        magnitude < count + TRAILING_ZEROS_MAX + 1
    } else {
        power >= -DECIMALS_MAX || magnitude.abs() < 4
    };
    if is_short {
        push_decimal(text, digits, power);
    } else {
        push_scientific(text, digits, magnitude, 1);
    }
}

/// Appends digits times ten to a power, without an exponent.
fn push_decimal(text: &mut DoubleText, digits: &str, power: i32) {
    let zeros = |text: &mut DoubleText, count: i32| (0..count).for_each(|_| text.push('0'));
    let before = digits.len() as i32 + power;
    if power >= 0 {
        text.push_str(digits);
        zeros(text, power);
    } else if before <= 0 {
        text.push_str("0.");
        zeros(text, -before);
        text.push_str(digits);
    } else {
        let (whole, fraction) = digits.split_at(before as usize);
        text.push_str(whole);
        text.push('.');
        text.push_str(fraction);
    }
}

/// Appends digits of which the first stands for a power of ten, with an exponent of at least `width` digits.
fn push_scientific(text: &mut DoubleText, digits: &str, magnitude: i32, width: usize) {
    let (first, rest) = digits.split_at(1);
    text.push_str(first);
    if !rest.is_empty() {
        text.push('.');
        text.push_str(rest);
    }
    text.push_str(if magnitude < 0 { "e-" } else { "e+" });
    let mut number = itoa::Buffer::new();
    let exponent = number.format(magnitude.abs());
    (exponent.len()..width).for_each(|_| text.push('0'));
    text.push_str(exponent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        for (text, value) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "9223372036854775808",
            "-9223372036854775809",
            "1a",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_print_as_in_redis() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (123_456.75, "123456.75"),
            (1e20, "1e+20"),
            (-1.5e21, "-1.5e+21"),
            (1.5e-7, "1.5e-7"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.234e-5, "1.234e-5"),
            (0.001_234_567_891, "0.001234567891"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (-9_223_372_036_854_775_808.0, "-9223372036854776000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (0.300_000_000_000_000_04, "0.30000000000000004"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(&format_double(value)[..], text);
        }
    }

    #[test]
    fn seventeen_digits_are_as_c_prints_them() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (-2.5, "-2.5"),
            (0.0, "0"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789.123, "123456789.123"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.2500000000000001e-05"),
            (1e300, "1.0000000000000001e+300"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(&format_digits(value)[..], text);
        }
    }

    #[test]
    fn doubles_are_read_as_in_redis() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("-0", Some(0.0)),
            (".5", Some(0.5)),
            ("+5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("INF", Some(f64::INFINITY)),
            ("0e999", Some(0.0)),
            ("123456789012345678", Some(123_456_789_012_345_680.0)),
            ("1e400", None),
            ("1e-400", None),
            ("nan", None),
            ("-nan", None),
            ("", None),
            (".", None),
            ("++5", None),
            ("1e", None),
            ("0x10", None),
            (" 1", None),
            ("1 ", None),
            ("e5", None),
            ("infinit", None),
        ] {
            assert_eq!(parse_double(text.as_bytes()), value, "{text}");
        }
        assert!(parse_double(b"-0").is_some_and(|zero| zero.is_sign_negative()));
    }
}
