//! The real servers, and where `scripts/oracles` put them. A missing one fails the test: nothing is skipped in silence.

use std::fs;
use std::path::{Path, PathBuf};

/// A real server that Cenote's replies are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oracle {
    Redis7,
    Redis8,
    Valkey9,
}

impl Oracle {
    pub(crate) const ALL: [Oracle; 3] = [Oracle::Redis7, Oracle::Redis8, Oracle::Valkey9];

    /// The name used in transcripts and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Oracle::Redis7 => "redis7",
            Oracle::Redis8 => "redis8",
            Oracle::Valkey9 => "valkey9",
        }
    }
}

/// The program of a real server.
pub(crate) fn oracle_program(oracle: Oracle) -> PathBuf {
    tool(&oracle.name().to_uppercase())
}

/// The path of `key` (`REDIS8`, `REDIS_CLI`, `PG_BIN`, …): from the environment, or as `scripts/oracles` noted it.
pub(crate) fn tool(key: &str) -> PathBuf {
    let path = std::env::var_os(key).map(PathBuf::from).or_else(|| noted(key));
    match path {
        Some(path) if path.exists() => path,
        Some(path) => panic!("{key} is {}, which does not exist: run scripts/oracles", path.display()),
        None => panic!("{key} is not known: run scripts/oracles"),
    }
}

/// The same of a tool that one can do without.
pub(crate) fn tool_if_any(key: &str) -> Option<PathBuf> {
    std::env::var_os(key).map(PathBuf::from).or_else(|| noted(key)).filter(|path| path.exists())
}

fn noted(key: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracles/env");
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    (!value.is_empty()).then(|| PathBuf::from(value))
}
