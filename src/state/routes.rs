//! Other sources and routes while the server runs: from the file, all of it or nothing, or from ROUTE. Knows that what
//! was loaded for a route that is gone may be wrong.

use super::State;
use crate::source::{Config, Sources};
use std::path::Path;

impl State {
    /// Puts other sources into force, unless making them fails. What was loaded for routes that are gone, or are others
    /// now, counts as stale.
    pub fn replace_sources(
        &self,
        change: impl FnOnce(&Sources) -> Result<Sources, String>,
        now: i64,
    ) -> Result<(), String> {
        let (old, new) = self.sources.replace(change)?;
        old.not_in(&new).iter().for_each(|route| self.bump_epoch(route, None, now));
        Ok(())
    }

    /// Reads the routes file again (ROUTE RELOAD, SIGHUP). If anything is wrong with it, all stays as it was.
    pub fn reload_routes(&self, now: i64) -> Result<(), String> {
        let Some(file) = &self.sources.file else {
            return Err("the server was started without a routes file".into());
        };
        let outcome = self.read_routes(file, now);
        match &outcome {
            Ok(()) => tracing::info!(routes = self.sources.load().routes().len(), "the routes file was read again"),
            Err(message) => tracing::warn!("the routes stay as they were: {message}"),
        }
        outcome
    }

    fn read_routes(&self, file: &Path, now: i64) -> Result<(), String> {
        let config = Config::read(file, None).map_err(|faults| {
            let rest = if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
            faults.iter().skip(1).for_each(|fault| tracing::warn!("{fault}"));
            faults.first().map_or_else(String::new, |fault| format!("{fault}{rest}"))
        })?;
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.replace_sources(|sources| sources.reloaded(config), now)
    }
}
