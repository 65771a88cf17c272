//! Numbers as the protocol and the commands write them. Knows bytes only.

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
/// excepted; no spaces, no NaN.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let first = text.bytes().find(|b| !matches!(b, b'+' | b'-'))?;
    if first.is_ascii_alphabetic() && !first.eq_ignore_ascii_case(&b'i') {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// A double as RESP3 and the sorted sets print it: the shortest form that reads back equal, integers without a
/// fraction, exponents as `e+20`.
pub fn format_double(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value.is_nan() {
        return "nan".into();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    // `{:e}` gives the shortest digits and the exponent; the C format %.17g then decides the shape.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..17).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
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
        for (value, text) in
            [(1.0, "1"), (0.1, "0.1"), (1e20, "1e+20"), (1.5e-7, "1.5e-07"), (-0.0, "-0"), (123456.75, "123456.75")]
        {
            assert_eq!(format_double(value), text);
        }
    }
}
