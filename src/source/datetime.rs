//! Postgres's dates and times as ISO 8601 text, from their binary forms.
//!
//! `timestamptz` is in UTC with a `Z`; fractions are cut after their last digit that is not zero; years before 1 carry
//! ` BC` as Postgres writes them; the infinities are the words `infinity` and `-infinity`.

use super::value::{Malformed, array};
use std::fmt::Write;

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;
/// Days from 1970-01-01 to 2000-01-01, where Postgres counts from.
const EPOCH_DAYS: i64 = 10_957;

/// Appends a `date`.
pub(super) fn date(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    match i32::from_be_bytes(array(raw)?) {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            let (date, bc) = day(i64::from(days));
            out.extend_from_slice(date.as_bytes());
            out.extend_from_slice(bc.as_bytes());
        }
    }
    Ok(())
}

/// Appends a `timestamp`, or with `zone` = `Z` a `timestamptz`.
pub(super) fn timestamp(raw: &[u8], zone: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match i64::from_be_bytes(array(raw)?) {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        us => {
            let (date, bc) = day(us.div_euclid(US_PER_DAY));
            let clock = clock(us.rem_euclid(US_PER_DAY));
            out.extend_from_slice(format!("{date}T{clock}{zone}{bc}").as_bytes());
        }
    }
    Ok(())
}

/// Appends a `time`.
pub(super) fn time(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let us = i64::from_be_bytes(array(raw)?);
    if !(0..=US_PER_DAY).contains(&us) {
        return Err(Malformed);
    }
    out.extend_from_slice(clock(us).as_bytes());
    Ok(())
}

/// Appends a `timetz`: `03:15:00+01:00`.
pub(super) fn time_with_zone(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (us, zone) = raw.split_at_checked(8).ok_or(Malformed)?;
    time(us, out)?;
    // Seconds west of Greenwich.
    let west = i32::from_be_bytes(array(zone)?);
    let sign = if west > 0 { '-' } else { '+' };
    let (minutes, seconds) = (west.unsigned_abs() / 60, west.unsigned_abs() % 60);
    let mut text = format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    if seconds > 0 {
        let _ = write!(text, ":{seconds:02}");
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends an `interval`: `P1Y2M3DT4H5M6.7S`, each part with its own sign.
pub(super) fn interval(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let bytes: [u8; 16] = array(raw)?;
    let us = i64::from_be_bytes(array(&bytes[..8])?);
    let days = i32::from_be_bytes(array(&bytes[8..12])?);
    let months = i32::from_be_bytes(array(&bytes[12..])?);
    let text = match (us, days, months) {
        (0, 0, 0) => "PT0S".into(),
        (i64::MAX, i32::MAX, i32::MAX) => "infinity".into(),
        (i64::MIN, i32::MIN, i32::MIN) => "-infinity".into(),
        _ => parts(us, days, months),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn parts(us: i64, days: i32, months: i32) -> String {
    let mut text = String::from("P");
    let mut part = |amount: i64, unit: char| {
        if amount != 0 {
            let _ = write!(text, "{amount}{unit}");
        }
    };
    part(i64::from(months / 12), 'Y');
    part(i64::from(months % 12), 'M');
    part(i64::from(days), 'D');
    if us == 0 {
        return text;
    }
    text.push('T');
    let mut part = |amount: i64, unit: char| {
        if amount != 0 {
            let _ = write!(text, "{amount}{unit}");
        }
    };
    part(us / (3600 * US_PER_SECOND), 'H');
    part(us / (60 * US_PER_SECOND) % 60, 'M');
    let rest = us % (60 * US_PER_SECOND);
    if rest != 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let (seconds, fraction) = (rest.abs() / US_PER_SECOND, fraction(rest.abs() % US_PER_SECOND));
        let _ = write!(text, "{sign}{seconds}{fraction}S");
    }
    text
}

/// A day counted from 2000-01-01, as `YYYY-MM-DD` and what follows the whole (` BC` or nothing).
fn day(days: i64) -> (String, &'static str) {
    // Days in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
    let shifted = days + EPOCH_DAYS + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, bc) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), bc)
}

/// `HH:MM:SS[.ffffff]` from microseconds since midnight.
fn clock(us: i64) -> String {
    let seconds = us / US_PER_SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}{}", seconds % 60, fraction(us % US_PER_SECOND))
}

/// `.ffffff` without the zeros at its end, or nothing.
fn fraction(us: i64) -> String {
    match us {
        0 => String::new(),
        _ => format!(".{us:06}").trim_end_matches('0').into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (9824, "2026-11-24"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (2_921_940, "10000-01-01"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| date(&i32::to_be_bytes(days), out)), expected);
        }
    }

    #[test]
    fn times() {
        let stamp = |us: i64| text(|out| timestamp(&us.to_be_bytes(), "Z", out));
        assert_eq!(stamp(0), "2000-01-01T00:00:00Z");
        assert_eq!(stamp(-1), "1999-12-31T23:59:59.999999Z");
        assert_eq!(stamp(1_500_000), "2000-01-01T00:00:01.5Z");
        assert_eq!(stamp(i64::MAX), "infinity");
        assert_eq!(text(|out| time(&US_PER_DAY.to_be_bytes(), out)), "24:00:00");
        assert!(time(&(-1i64).to_be_bytes(), &mut Vec::new()).is_err());
        let zoned = [0i64.to_be_bytes().to_vec(), (-3600i32).to_be_bytes().to_vec()].concat();
        assert_eq!(text(|out| time_with_zone(&zoned, out)), "00:00:00+01:00");
    }

    #[test]
    fn intervals() {
        let span = |us: i64, days: i32, months: i32| {
            let raw = [&us.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
            text(|out| interval(&raw, out))
        };
        assert_eq!(span(0, 0, 0), "PT0S");
        assert_eq!(span(0, 3, 14), "P1Y2M3D");
        assert_eq!(span(14_706_700_000, 0, 0), "PT4H5M6.7S");
        assert_eq!(span(-500_000, -1, -1), "P-1M-1DT-0.5S");
        assert_eq!(span(3_600_000_000, 0, 0), "PT1H");
    }

    #[test]
    fn wrong_lengths_are_malformed() {
        for length in [0, 3, 5, 7, 9, 11, 13, 15, 17] {
            let raw = vec![0; length];
            let mut out = Vec::new();
            assert!(date(&raw, &mut out).is_err());
            assert!(timestamp(&raw, "", &mut out).is_err());
            assert!(time(&raw, &mut out).is_err());
            assert!(time_with_zone(&raw, &mut out).is_err());
            assert!(interval(&raw, &mut out).is_err());
        }
    }
}
