//! Captured text as a query parameter: only in the one form that names its value.
//!
//! `user:7` and `user:007` would be two keys of one row, and an invalidation of the row would miss one of them; so
//! `007` names nothing, and neither does `+7`, ` 7`, an uppercase UUID or `1.50`. Types that are read here cost no
//! query for what they cannot be. The others are sent as text together with a second statement that returns them as
//! Postgres writes them: the captured text must come back unchanged.
//!
//! Knows types by what they hold, not by the driver's names.

/// What a parameter's type is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParamKind {
    Int2,
    Int4,
    Int8,
    Oid,
    /// `true` or `false`.
    Bool,
    /// Lowercase, with hyphens.
    Uuid,
    /// `YYYY-MM-DD`, from year 1.
    Date,
    /// Without leading zeros, and without zeros at the end of a fraction.
    Numeric,
    /// text and varchar.
    Text,
    /// `char(n)`: compared without the blanks at its end, so it may have none.
    Padded,
    /// `name`: at most 63 bytes, or Postgres would cut it.
    Name,
    /// Postgres says how it is written; compared with the text that was captured.
    Checked,
    /// As `Checked`, but equal in any case (`citext`): must be lowercase.
    CheckedLower,
    /// float4 and float8: as `Checked`, but `-0` equals `0`.
    Float,
    /// A domain: as its base, and Postgres says whether the value lies in it.
    Domain(Box<ParamKind>),
}

/// Longest `name`, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A parameter in the form in which it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoded {
    /// The type's binary format: the first `len` bytes.
    Binary { bytes: [u8; 16], len: usize },
    /// The captured text as it is.
    Text(String),
}

impl Encoded {
    fn binary(given: &[u8]) -> Encoded {
        let mut bytes = [0; 16];
        bytes[..given.len()].copy_from_slice(given);
        Encoded::Binary { bytes, len: given.len() }
    }
}

impl ParamKind {
    /// Whether Postgres must be asked if the text is a value.
    pub(super) fn is_checked(&self) -> bool {
        matches!(self, ParamKind::Domain(_)) || self.is_compared()
    }

    /// Whether Postgres must also write the value as it was captured.
    pub(super) fn is_compared(&self) -> bool {
        match self {
            ParamKind::Checked | ParamKind::CheckedLower | ParamKind::Float => true,
            ParamKind::Domain(base) => base.is_compared(),
            _ => false,
        }
    }

    /// The parameter for captured bytes; `None` where they are no such value, or not as it is written.
    pub(super) fn encode(&self, captured: &[u8]) -> Option<Encoded> {
        let text = std::str::from_utf8(captured).ok()?;
        match self {
            ParamKind::Int2 => integer::<i16>(text).map(|value| Encoded::binary(&value.to_be_bytes())),
            ParamKind::Int4 => integer::<i32>(text).map(|value| Encoded::binary(&value.to_be_bytes())),
            ParamKind::Int8 => integer::<i64>(text).map(|value| Encoded::binary(&value.to_be_bytes())),
            ParamKind::Oid => integer::<u32>(text).map(|value| Encoded::binary(&value.to_be_bytes())),
            ParamKind::Bool => match text {
                "true" => Some(Encoded::binary(&[1])),
                "false" => Some(Encoded::binary(&[0])),
                _ => None,
            },
            ParamKind::Uuid => uuid(captured).map(|bytes| Encoded::binary(&bytes)),
            ParamKind::Date => is_date(text).then(|| Encoded::Text(text.into())),
            ParamKind::Numeric => is_numeric(captured).then(|| Encoded::Text(text.into())),
            ParamKind::Text | ParamKind::Checked => plain(text),
            ParamKind::CheckedLower => plain(text).filter(|_| text.to_lowercase() == text),
            ParamKind::Float => plain(text).filter(|_| text != "-0"),
            ParamKind::Domain(base) => base.encode(captured),
            ParamKind::Padded => plain(text).filter(|_| !text.ends_with(' ')),
            ParamKind::Name => plain(text).filter(|_| text.len() <= NAME_BYTES_MAX),
        }
    }
}

/// Text that Postgres can hold.
fn plain(text: &str) -> Option<Encoded> {
    (!text.contains('\0')).then(|| Encoded::Text(text.into()))
}

/// An integer without sign `+`, leading zeros or `-0`.
fn integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if canonical { text.parse().ok() } else { None }
}

fn is_numeric(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let mut halves = unsigned.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (halves.next().unwrap_or_default(), halves.next());
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits(whole)
        && (whole == b"0" || whole[0] != b'0')
        && fraction.is_none_or(|fraction| digits(fraction) && !fraction.ends_with(b"0"))
        && text != b"-0"
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut part = |length: usize| {
        parts.next().filter(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let (Some(year), Some(month), Some(day)) = (part(4), part(2), part(2)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days: u32 = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    year > 0u32 && (1..=days).contains(&day)
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|place| text[*place] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, byte) in text.iter().enumerate() {
        let digit = match byte {
            b'-' if matches!(place, 8 | 13 | 18 | 23) => continue,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn takes(kind: &ParamKind, text: &str) -> bool {
        kind.encode(text.as_bytes()).is_some()
    }

    fn check(kind: ParamKind, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert!(takes(&kind, text), "{kind:?} {text}");
        }
        for text in wrong {
            assert!(!takes(&kind, text), "{kind:?} {text}");
        }
    }

    #[test]
    fn only_canonical_texts_are_values() {
        let odd = ["", "007", "+7", " 7", "7 ", "-0", "00", "-", "abc", "1e3", "7.0", "0x7", "\u{0667}"];
        check(ParamKind::Int2, &["0", "7", "-7", "32767", "-32768"], &["32768", "-32769"]);
        check(ParamKind::Int2, &[], &odd);
        check(ParamKind::Int4, &["2147483647"], &["2147483648"]);
        check(ParamKind::Int8, &["-9223372036854775808"], &["9223372036854775808"]);
        check(ParamKind::Oid, &["4294967295"], &["-1", "4294967296"]);
        check(ParamKind::Bool, &["true", "false"], &["t", "TRUE", "1", ""]);
        check(
            ParamKind::Numeric,
            &["0", "-1.5", "0.05", "123456789012345678901234567890"],
            &["1.50", "1.", ".5", "01", "+1", "1e3", "-0", "1.2.3", "NaN", "", "-", "0.0"],
        );
        check(
            ParamKind::Date,
            &["2026-11-24", "2024-02-29", "0001-01-01"],
            &[
                "2026-02-29",
                "2026-1-1",
                "0000-01-01",
                "2026-13-01",
                "2026-00-01",
                "2026-01-00",
                "2026-11-24 ",
                "+026-01-01",
            ],
        );
        check(
            ParamKind::Uuid,
            &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
            &[
                "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
                "a0eebc999c0b4ef8bb6d6bb9bd380a11",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1-",
                "",
            ],
        );
        check(ParamKind::Text, &["", "x", "7 ", "é"], &["a\0b"]);
        check(ParamKind::Padded, &["a b"], &["a "]);
        check(ParamKind::Name, &[&"n".repeat(63)], &[&"n".repeat(64)]);
        check(ParamKind::CheckedLower, &["é"], &["É"]);
        check(ParamKind::Float, &["1.5", "0"], &["-0"]);
        check(ParamKind::Domain(Box::new(ParamKind::Int4)), &["7"], &["07"]);
        assert!(ParamKind::Text.encode(b"\xff").is_none());
    }

    #[test]
    fn encodes_as_the_wire_wants() {
        assert_eq!(ParamKind::Int4.encode(b"258"), Some(Encoded::binary(&[0, 0, 1, 2])));
        let uuid = ParamKind::Uuid.encode(b"00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(uuid, Some(Encoded::binary(&std::array::from_fn::<u8, 16, _>(|index| index as u8))));
    }

    proptest! {
        #[test]
        fn a_value_has_one_text(value: i64, text in "[-+0-9 ]{0,4}") {
            prop_assert!(takes(&ParamKind::Int8, &value.to_string()));
            let canonical = text.parse::<i64>().is_ok_and(|value| value.to_string() == text);
            prop_assert_eq!(takes(&ParamKind::Int8, &text), canonical);
        }
    }
}
