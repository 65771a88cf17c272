//! Postgres's numbers as text: exact `numeric`, and floats in the shortest digits that read back the same, laid out as
//! Postgres lays them out. (Postgres itself sometimes shows one digit more, or another last one, of the same float.)

use super::value::Malformed;
use std::fmt::Write;

/// Decimal digits in one base-10000 digit of a `numeric`.
const GROUP_DIGITS: i32 = 4;

/// Appends a binary `numeric`; says whether it is a finite number (NaN and the infinities are words).
pub(super) fn numeric(raw: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let word = |index: usize| -> Result<u16, Malformed> {
        let bytes = raw.get(index * 2..index * 2 + 2).ok_or(Malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)? & 0x3fff);
    if raw.len() != 8 + 2 * usize::from(count) {
        return Err(Malformed);
    }
    match sign {
        0x0000 => {}
        0x4000 => out.push(b'-'),
        0xc000 => return word_of(out, "NaN"),
        0xd000 => return word_of(out, "Infinity"),
        0xf000 => return word_of(out, "-Infinity"),
        _ => return Err(Malformed),
    }
    // Groups left and right of those sent are zero.
    let group = |place: i32| -> Result<u16, Malformed> {
        match usize::try_from(i32::from(weight) - place) {
            Ok(index) if index < usize::from(count) => word(4 + index).and_then(|group| match group {
                0..=9999 => Ok(group),
                _ => Err(Malformed),
            }),
            _ => Ok(0),
        }
    };
    let mut text = String::new();
    let _ = write!(text, "{}", group(i32::from(weight).max(0))?);
    for place in (0..i32::from(weight)).rev() {
        let _ = write!(text, "{:04}", group(place)?);
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + usize::from(scale);
        for place in 1..=(i32::from(scale) + GROUP_DIGITS - 1) / GROUP_DIGITS {
            let _ = write!(text, "{:04}", group(-place)?);
        }
        text.truncate(end);
    }
    out.extend_from_slice(text.as_bytes());
    Ok(true)
}

/// Appends a `float8`; says whether it is a finite number.
pub(super) fn float8(value: f64, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    if let Some(word) = not_finite(value) {
        return word_of(out, word);
    }
    shortest(&format!("{value:e}"), 15, out);
    Ok(true)
}

/// Appends a `float4`; says whether it is a finite number.
pub(super) fn float4(value: f32, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    if let Some(word) = not_finite(f64::from(value)) {
        return word_of(out, word);
    }
    shortest(&format!("{value:e}"), 6, out);
    Ok(true)
}

fn word_of(out: &mut Vec<u8>, word: &str) -> Result<bool, Malformed> {
    out.extend_from_slice(word.as_bytes());
    Ok(false)
}

fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// Writes `d.ddde-5`, the shortest digits, as Postgres lays them out: plainly where the exponent is from -4 to below
/// `plain_below`, else with an exponent of at least two digits.
fn shortest(scientific: &str, plain_below: i32, out: &mut Vec<u8>) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let mut text = String::from(sign);
    if (0..plain_below).contains(&exponent) {
        let whole = exponent as usize + 1;
        let _ = match digits.len() {
            len if len <= whole => write!(text, "{digits:0<whole$}"),
            _ => write!(text, "{}.{}", &digits[..whole], &digits[whole..]),
        };
    } else if (-4..0).contains(&exponent) {
        let zeros = (-exponent - 1) as usize;
        let _ = write!(text, "0.{:0<zeros$}{digits}", "");
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "{first}{point}{rest}e{sign}{:02}", exponent.abs());
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn eight(value: f64) -> String {
        let mut out = Vec::new();
        float8(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn exact(words: &[u16]) -> Result<String, Malformed> {
        let raw: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut out = Vec::new();
        numeric(&raw, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn floats_as_postgres_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100_000.0, "100000"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.25e20, "1.25e+20"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(eight(value), text);
        }
        let mut out = Vec::new();
        float4(1e6, &mut out).unwrap();
        assert_eq!(out, b"1e+06");
    }

    #[test]
    fn numerics_are_exact() {
        assert_eq!(exact(&[0, 0, 0, 0]).unwrap(), "0");
        assert_eq!(exact(&[0, 0, 0, 2]).unwrap(), "0.00");
        assert_eq!(exact(&[2, 0, 0, 2, 12, 5000]).unwrap(), "12.50");
        assert_eq!(exact(&[1, 1, 0x4000, 0, 7]).unwrap(), "-70000");
        assert_eq!(exact(&[1, 0xffff, 0, 4, 12]).unwrap(), "0.0012");
        assert_eq!(exact(&[1, 0xfffe, 0, 7, 1230]).unwrap(), "0.0000123");
        assert_eq!(exact(&[0, 0, 0xc000, 0]).unwrap(), "NaN");
        assert_eq!(exact(&[0, 0, 0xf000, 0]).unwrap(), "-Infinity");
        assert!(exact(&[1, 0, 0, 0]).is_err());
        assert!(exact(&[1, 0, 0, 0, 10_000]).is_err());
        assert!(exact(&[0, 0, 0x1234, 0]).is_err());
    }

    proptest! {
        #[test]
        fn floats_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(eight(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn numeric_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = numeric(&raw, &mut Vec::new());
        }
    }
}
