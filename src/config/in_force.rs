//! The values in force: made at start, replaced as a whole by `CONFIG SET`, never changed in
//! place. Knows neither files nor who shares it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::directives::{Change, DIRECTIVES, Directive, Effect, Found, Kind, find};
use super::settings::Settings;
use super::value::parse;
use crate::glob;

/// A value of each directive. Those that Cenote acts on are fields, through [`Settings`]:
/// `config.maxmemory`. Cloning copies one pointer a directive; share it in an `Arc`.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// Canonical texts, in the order of [`DIRECTIVES`].
    pub(super) values: Vec<Arc<str>>,
    pub(super) lines: Arc<[Line]>,
    settings: Settings,
}

/// A line of the file that is no value: `rename-command`, `user`, `loadmodule` …
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The directive.
    pub name: &'static str,
    /// The words behind it.
    pub words: Vec<String>,
}

/// Why `CONFIG SET` changed nothing. `Display` is the text of Redis behind `-ERR `, one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// There is no such directive.
    Unknown {
        /// As the client wrote it.
        name: String,
    },
    /// A directive cannot have this value, or cannot be set.
    Failed {
        /// The directive, as the table spells it.
        name: String,
        /// Why.
        text: Cow<'static, str>,
    },
}

impl SetError {
    /// An error of putting a value into force, such as an address that cannot be bound.
    pub fn failed(name: &str, text: impl Into<Cow<'static, str>>) -> Self {
        SetError::Failed { name: name.to_owned(), text: text.into() }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown { name } => {
                write!(f, "Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Failed { name, text } => {
                write!(f, "CONFIG SET failed (possibly related to argument '{name}') - {text}")
            }
        }
    }
}

impl std::error::Error for SetError {}

impl Default for Config {
    fn default() -> Self {
        let value = |row: &Directive| match parse(row, row.default, &[row.default]) {
            Ok(text) if row.is_value() => text.into(),
            // `dir`, where the working directory is gone.
            _ => row.default.into(),
        };
        Config::new(DIRECTIVES.iter().map(value).collect(), Vec::new())
    }
}

impl Deref for Config {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Config {
    pub(super) fn new(values: Vec<Arc<str>>, lines: Vec<Line>) -> Self {
        let settings = Settings::new(&values);
        Config { values, lines: lines.into(), settings }
    }

    /// The value of a directive, by any of its names, as `CONFIG GET` prints it.
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = find(name.as_bytes()).filter(|found| found.directive.is_value())?;
        Some(&self.values[found.index])
    }

    /// The lines of the file that are no values, in order: `rename-command`, `user`, `loadmodule`.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// `CONFIG GET`: the names that match one of the patterns, each once, and their values.
    ///
    /// A pattern without magic is answered under the name as the client spelt it; aliases are
    /// names of their own. Sorted by the directive (Redis's order is that of a hash table).
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(String, String)> {
        let mut seen = HashSet::new();
        let mut out = Vec::new();
        for &pattern in patterns {
            if glob::is_literal(pattern) {
                if let Some(found) = find(pattern)
                    && found.directive.is_value()
                    && seen.insert(found.name)
                {
                    let name = String::from_utf8_lossy(pattern).into_owned();
                    out.push((name, self.values[found.index].to_string()));
                }
                continue;
            }
            for (row, value) in DIRECTIVES.iter().zip(&self.values) {
                if row.hidden || !row.is_value() {
                    continue;
                }
                for name in row.names() {
                    if glob::matches(pattern, name.as_bytes(), true) && seen.insert(name) {
                        out.push((name.to_owned(), value.to_string()));
                    }
                }
            }
        }
        out
    }

    /// `CONFIG SET`: all of the pairs or none. `local`: the connection comes from this machine
    /// (for `enable-protected-configs local`). The caller puts the result into force.
    pub fn set(&self, pairs: &[(&[u8], &[u8])], local: bool) -> Result<Config, SetError> {
        let mut found: Vec<Found> = Vec::with_capacity(pairs.len());
        let mut seen = HashSet::with_capacity(pairs.len());
        for (name, _) in pairs {
            let one = find(name).filter(|found| found.directive.is_value());
            let one = one.ok_or_else(|| SetError::Unknown { name: printable(name) })?;
            let refused = match one.directive.change {
                Change::Immutable => Some("can't set immutable config"),
                Change::Protected if !self.enable_protected_configs.permits(local) => {
                    Some("can't set protected config")
                }
                _ if !seen.insert(one.name) => Some("duplicate parameter"),
                _ => None,
            };
            if let Some(text) = refused {
                return Err(SetError::failed(one.name, text));
            }
            found.push(one);
        }
        self.replaced(found.iter().zip(pairs.iter().map(|pair| pair.1)))
    }

    /// The same values but some, as if they stood in the file: what cannot change at run time
    /// can be given too.
    pub fn with(&self, pairs: &[(&str, &str)]) -> Result<Config, SetError> {
        let mut found = Vec::with_capacity(pairs.len());
        for (name, _) in pairs {
            let one = find(name.as_bytes()).filter(|found| found.directive.is_value());
            found.push(one.ok_or_else(|| SetError::Unknown { name: (*name).to_owned() })?);
        }
        self.replaced(found.iter().zip(pairs.iter().map(|pair| pair.1.as_bytes())))
    }

    fn replaced<'a>(&self, pairs: impl Iterator<Item = (&'a Found, &'a [u8])>) -> Result<Config, SetError> {
        let mut values = self.values.clone();
        for (found, value) in pairs {
            let parsed = match std::str::from_utf8(value) {
                Ok(text) => parse(found.directive, &values[found.index], &[text]),
                Err(_) => Err("argument must be valid UTF-8".into()),
            };
            match parsed {
                Ok(text) => values[found.index] = text.into(),
                Err(text) => return Err(SetError::failed(found.name, text)),
            }
        }
        let settings = Settings::new(&values);
        Ok(Config { values, lines: self.lines.clone(), settings })
    }

    /// The directives whose value differs between two configurations.
    pub fn changed(&self, other: &Config) -> Vec<&'static str> {
        let pairs = self.values.iter().zip(&other.values);
        let rows = DIRECTIVES.iter().zip(pairs);
        rows.filter(|(_, (one, two))| one != two).map(|(row, _)| row.name).collect()
    }

    /// One line for each directive that was set to something else than its default although
    /// Cenote does not act on it yet.
    pub fn warnings(&self) -> Vec<String> {
        let standard = Config::default();
        let mut out = Vec::new();
        for (at, row) in DIRECTIVES.iter().enumerate() {
            let set = match row.kind {
                Kind::Line { .. } => self.lines.iter().any(|line| line.name == row.name),
                _ => self.values[at] != standard.values[at],
            };
            if set && row.effect == Effect::Accepted {
                let value = match row.is_value() && !row.secret {
                    true => format!(" {}", super::line::shown(&self.values[at])),
                    false => String::new(),
                };
                out.push(format!("{}{value}: accepted, but without effect in Cenote", row.name));
            }
        }
        out
    }
}

/// Only what differs from the default, and no secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standard = Config::default();
        let mut map = f.debug_map();
        for (at, row) in DIRECTIVES.iter().enumerate() {
            if self.values[at] != standard.values[at] {
                let value: &str = if row.secret { "<secret>" } else { &self.values[at] };
                map.entry(&row.name, &value);
            }
        }
        map.finish()
    }
}

/// Only the name: the words of `user` hold passwords.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} …", self.name)
    }
}

/// A client's word for an error text: one line.
fn printable(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Allowed, LogLevel, MaxmemoryPolicy};
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let bytes: Vec<_> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        Config::default().set(&bytes, true).map_err(|error| error.to_string())
    }

    fn names(patterns: &[&str]) -> Vec<String> {
        let bytes: Vec<_> = patterns.iter().map(|p| p.as_bytes()).collect();
        Config::default().get(&bytes).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn defaults_are_typed() {
        let config = Config::default();
        assert_eq!((config.port, config.databases, config.hz), (6379, 16, 10));
        assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::NoEviction);
        assert_eq!(config.log.level, LogLevel::Notice);
        assert_eq!(config.output_limits[0].hard, 1 << 30);
        assert_eq!(config.output_limits[1].soft_seconds, 60);
        assert_eq!(config.latency_tracking_info_percentiles, [50.0, 99.0, 99.9]);
        assert_eq!(config.bind.len(), 2);
        assert!(config.bind[1].optional && config.bind[1].host == "::1");
        assert!(config.protected_mode && config.lazyfree == [true; 5]);
        assert!(config.warnings().is_empty());
    }

    #[test]
    fn typed_fields_follow_the_texts() {
        let config = set(&[
            ("maxmemory", "1gb"),
            ("maxmemory-policy", "ALLKEYS-LFU"),
            ("client-output-buffer-limit", "replica 1kb 2 3"),
            ("slowlog-log-slower-than", "-1"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.maxmemory, 1 << 30);
        assert_eq!(config.maxmemory_policy, MaxmemoryPolicy::AllkeysLfu);
        assert_eq!((config.output_limits[1].hard, config.output_limits[1].soft), (1024, 2));
        assert_eq!(config.slowlog_log_slower_than, -1);
        let changed = Config::default().changed(&config);
        assert_eq!(changed.len(), 4);
        let file = Config::default().with(&[("workers", "3"), ("enable-debug-command", "local")]);
        let file = file.unwrap();
        assert_eq!((file.workers, file.enable_debug_command), (3, Allowed::Local));
        assert!(file.enable_debug_command.permits(true));
        assert!(!file.enable_debug_command.permits(false));
    }

    #[test]
    fn set_refuses_as_redis_does() {
        let failed =
            |name: &str, text: &str| Err(format!("CONFIG SET failed (possibly related to argument '{name}') - {text}"));
        let unknown = "Unknown option or number of arguments for CONFIG SET - 'nosuch'";
        assert_eq!(set(&[("nosuch", "1"), ("alsono", "2")]), Err(unknown.to_owned()));
        assert_eq!(set(&[("hz", "x"), ("nosuch", "1")]), Err(unknown.to_owned()));
        for name in ["include", "user", "rename-command", "loadmodule"] {
            assert!(set(&[(name, "x")]).unwrap_err().starts_with("Unknown option"));
        }
        assert_eq!(set(&[("hz", "1"), ("HZ", "2")]), failed("hz", "duplicate parameter"));
        let immutable = failed("databases", "can't set immutable config");
        assert_eq!(set(&[("hz", "x"), ("databases", "5")]), immutable);
        assert_eq!(set(&[("dir", "/tmp")]), failed("dir", "can't set protected config"));
        let text = "argument couldn't be parsed into an integer";
        assert_eq!(set(&[("timeout", "5"), ("slave-priority", "x")]), failed("slave-priority", text));
        assert!(Config::default().set(&[(b"requirepass", b"\xff")], true).is_err());
        // Both names of one directive are two parameters.
        let both = set(&[("slave-priority", "5"), ("replica-priority", "6")]).unwrap();
        assert_eq!(both.value("slave-priority"), Some("6"));
    }

    #[test]
    fn protected_directives_can_be_allowed() {
        let config = Config::default().with(&[("enable-protected-configs", "local")]).unwrap();
        assert!(config.set(&[(b"dbfilename", b"x.rdb")], true).is_ok());
        assert!(config.set(&[(b"dbfilename", b"x.rdb")], false).is_err());
    }

    #[test]
    fn get_by_name_and_pattern() {
        assert_eq!(names(&["HZ", "hz", "h?"]), ["HZ"]);
        assert_eq!(names(&["slave-p*"]), ["slave-priority"]);
        let max = names(&["max[cm]*[s]"]);
        assert_eq!(max, ["maxclients", "maxmemory-clients", "maxmemory-samples"]);
        assert!(names(&["", "nosuch", "include", "user"]).is_empty());
        assert_eq!(names(&["key-load-delay"]), ["key-load-delay"]);
        let all = names(&["*"]);
        assert!(!all.iter().any(|name| name == "key-load-delay" || name == "include"));
        assert!(all.len() > 240);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let config = set(&[("appendonly", "yes"), ("timeout", "20"), ("masterauth", "hush")]).unwrap();
        let warnings = config.warnings();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("appendonly 'yes': "));
        assert!(!warnings[1].contains("hush"));
    }

    #[test]
    fn debug_hides_secrets() {
        let config = set(&[("requirepass", "hush"), ("timeout", "5")]).unwrap();
        let debug = format!("{config:?}");
        assert!(debug.contains("timeout") && debug.contains("requirepass"));
        assert!(!debug.contains("hush"));
    }
}
