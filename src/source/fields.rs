//! Reads typed fields out of TOML tables, noting every fault with its line instead of stopping at the first.
//!
//! Knows TOML and the texts of durations; not what the fields mean.

use super::fault::{Fault, nearest};
use super::reload::shown;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest duration a field may give: a century.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// The file being read and what was found wrong with it so far.
pub(super) struct Reading<'t> {
    text: &'t str,
    file: Arc<str>,
    pub(super) faults: Vec<Fault>,
}

impl<'t> Reading<'t> {
    pub(super) fn new(file: &str, text: &'t str) -> Reading<'t> {
        Reading { text, file: file.into(), faults: Vec::new() }
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + memchr::memchr_iter(b'\n', before).count()
    }

    pub(super) fn fault(&mut self, line: usize, message: impl Into<String>) {
        let fault = Fault { file: Arc::clone(&self.file), line, message: message.into() };
        self.faults.push(fault);
    }

    /// A fault that stops nothing: for the caller to keep as a warning.
    pub(super) fn warning(&self, line: usize, message: impl Into<String>) -> Fault {
        Fault { file: Arc::clone(&self.file), line, message: message.into() }
    }
}

/// A value with the line it stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// The fields of one table. `what` names it in faults: `route "user:{id}"`.
pub(super) struct Fields<'a> {
    /// None: the table is not there, and every field has its default.
    table: Option<&'a DeTable<'a>>,
    pub(super) line: usize,
    what: String,
}

impl<'a> Fields<'a> {
    /// Takes a table. Its fields are checked by [`Fields::refuse_unknown`], once its name is known.
    pub(super) fn open(
        reading: &mut Reading<'_>,
        value: &'a Spanned<DeValue<'a>>,
        line: usize,
        what: &str,
    ) -> Option<Fields<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            reading.fault(line, format!("{what} must be a table, not {}", kind(value.get_ref())));
        }
        Some(Fields { table: Some(table?), line, what: what.into() })
    }

    /// Faults every field that is not in `known`.
    pub(super) fn refuse_unknown(&self, reading: &mut Reading<'_>, known: &[&str]) {
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            if !known.contains(&name.get_ref().as_ref()) {
                let line = reading.line(name.span().start);
                reading.fault(line, unknown(&self.what, name.get_ref(), known));
            }
        }
    }

    /// All fields with their values as texts.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let fields = self.table.into_iter().flat_map(|table| table.iter());
        fields.map(|(name, value)| (name.get_ref().to_string(), shown(value.get_ref()))).collect()
    }

    /// A table that is not there.
    pub(super) fn absent(line: usize, what: &str) -> Fields<'a> {
        Fields { table: None, line, what: what.into() }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// Renames the table for later faults, once its own name is known.
    pub(super) fn rename(&mut self, what: String) {
        self.what = what;
    }

    pub(super) fn get(&self, reading: &Reading<'_>, name: &str) -> Option<At<&'a Spanned<DeValue<'a>>>> {
        let value = self.table?.get(name)?;
        Some(At { value, line: reading.line(value.span().start) })
    }

    fn mismatch(&self, reading: &mut Reading<'_>, at: At<&Spanned<DeValue<'_>>>, name: &str, wanted: &str) {
        let given = kind(at.value.get_ref());
        reading.fault(at.line, format!("{}: {name} must be {wanted}, not {given}", self.what));
    }

    pub(super) fn string(&self, reading: &mut Reading<'_>, name: &str) -> Option<At<&'a str>> {
        let at = self.get(reading, name)?;
        match at.value.get_ref().as_str() {
            Some(value) => Some(At { value, line: at.line }),
            None => {
                self.mismatch(reading, at, name, "a string");
                None
            }
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, reading: &mut Reading<'_>, name: &str, example: &str) -> Option<At<&'a str>> {
        if self.get(reading, name).is_none() {
            reading.fault(self.line, format!("{} has no {name}; write one such as {name} = {example}", self.what));
        }
        self.string(reading, name)
    }

    /// Whether something is so; false where nothing is said.
    pub(super) fn yes(&self, reading: &mut Reading<'_>, name: &str) -> bool {
        let Some(at) = self.get(reading, name) else { return false };
        at.value.get_ref().as_bool().unwrap_or_else(|| {
            self.mismatch(reading, at, name, "true or false");
            false
        })
    }

    /// A whole number within bounds, or the default.
    pub(super) fn number(
        &self,
        reading: &mut Reading<'_>,
        name: &str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(at) = self.get(reading, name) else { return default };
        match whole(at.value.get_ref()).filter(|value| bounds.contains(value)) {
            Some(value) => value,
            None => {
                let message =
                    format!("{}: {name} must be a whole number from {} to {}", self.what, bounds.start(), bounds.end());
                reading.fault(at.line, message);
                default
            }
        }
    }

    /// A duration such as `"90s"`, if given and right.
    pub(super) fn duration(&self, reading: &mut Reading<'_>, name: &str) -> Option<At<Duration>> {
        let at = self.get(reading, name)?;
        let parsed = match at.value.get_ref().as_str() {
            Some(text) => duration(text),
            None => Err(duration_form(kind(at.value.get_ref()))),
        };
        match parsed {
            Ok(value) => Some(At { value, line: at.line }),
            Err(message) => {
                reading.fault(at.line, format!("{}: {name} {message}", self.what));
                None
            }
        }
    }

    /// A duration above zero, or the default.
    pub(super) fn duration_or(&self, reading: &mut Reading<'_>, name: &str, default: Duration) -> Duration {
        match self.duration(reading, name) {
            Some(At { value: Duration::ZERO, line }) => {
                reading.fault(line, format!("{}: {name} must be longer than nothing", self.what));
                default
            }
            Some(at) => at.value,
            None => default,
        }
    }
}

/// Parses one field's text, noting the error as a fault of its line.
pub(super) fn note<T>(
    reading: &mut Reading<'_>,
    what: &str,
    at: At<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    parse(at.value).map_err(|message| reading.fault(at.line, format!("{what}: {message}"))).ok()
}

/// The texts of a list; None if the value is no such list.
pub(super) fn texts_of<'a>(value: &'a DeValue<'_>) -> Option<Vec<&'a str>> {
    value.as_array()?.iter().map(|entry| entry.get_ref().as_str()).collect()
}

/// A whole number that is not negative.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a TOML value is, for faults. Never shows the value: it may be a password.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("{what} has no field \"{name}\"; did you mean \"{near}\"?"),
        None => format!("{what} has no field \"{name}\"; its fields are {}", known.join(", ")),
    }
}

fn duration_form(given: &str) -> String {
    format!("must be a duration such as \"250ms\", \"90s\", \"15m\", \"1h30m\" or \"7d\", not {given}")
}

/// Reads `"250ms"`, `"90s"`, `"15m"`, `"1h30m"`, `"7d"`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || duration_form(&format!("\"{}\"", text.escape_debug()));
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).filter(|sum| *sum <= DURATION_MAX).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text: &str| duration(text).map(|value| value.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("90s"), Ok(90_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("7d"), Ok(604_800_000));
        assert_eq!(ms("0s"), Ok(0));
        for wrong in
            ["", "5", "s", "5 s", "-5s", "1.5h", "5y", "99999999999999999999s", "9999999d", "18446744073709551615d"]
        {
            let message = duration(wrong).expect_err(wrong);
            assert!(message.contains("\"1h30m\""), "{message}");
        }
    }
}
