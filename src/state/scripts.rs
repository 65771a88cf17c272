//! The scripts that were loaded, by SHA-1, and the one that runs. It must not know Lua, or how scripts run.

use crate::script::{Script, sha1_hex};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Scripts that came by EVAL, at most: the one that was not used for longest makes room. SCRIPT LOAD's are kept.
const EVAL_MAX: usize = 500;

/// What SCRIPT KILL came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// It ends soon.
    Ends,
    /// None has run for long.
    NotBusy,
    /// It has written: ending it would leave half of its work.
    Wrote,
}

/// All scripts.
#[derive(Debug, Default)]
pub struct Scripts {
    all: Mutex<HashMap<String, Arc<Script>>>,
    /// Scripts that made room for others.
    pub evicted: AtomicU64,
    /// Since when a script runs that has run for some time, in ms since the epoch; 0: none.
    long_since: AtomicI64,
    wrote: AtomicBool,
    killed: AtomicBool,
}

impl Scripts {
    /// A script by its name, in any case.
    pub fn get(&self, sha: &[u8]) -> Option<Arc<Script>> {
        let sha = std::str::from_utf8(sha).ok().filter(|sha| sha.len() == 40)?;
        self.all.lock().get(sha.to_ascii_lowercase().as_str()).cloned()
    }

    /// The script of a text, new or known; or the error in its first line. `kept`: SCRIPT LOAD.
    pub fn of(&self, body: &[u8]) -> Result<Arc<Script>, String> {
        let sha = sha1_hex(body);
        if let Some(known) = self.all.lock().get(&sha) {
            return Ok(Arc::clone(known));
        }
        Ok(Arc::new(Script::new(sha, body)?))
    }

    /// Keeps a script that was found to be sound.
    pub fn add(&self, script: &Arc<Script>, kept: bool, now: i64) {
        script.used_at.store(now, Ordering::Relaxed);
        script.kept.fetch_or(kept, Ordering::Relaxed);
        let mut all = self.all.lock();
        if all.insert(script.sha.clone(), Arc::clone(script)).is_some() || kept || all.len() <= EVAL_MAX {
            return;
        }
        let passing = || all.values().filter(|script| !script.kept.load(Ordering::Relaxed));
        if passing().count() <= EVAL_MAX {
            return;
        }
        if let Some(oldest) = passing().min_by_key(|script| script.used_at.load(Ordering::Relaxed)).cloned() {
            oldest.forget();
            all.remove(&oldest.sha);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// SCRIPT FLUSH.
    pub fn flush(&self) {
        std::mem::take(&mut *self.all.lock()).values().for_each(|script| script.forget());
    }

    /// How many, and the bytes that they take.
    pub fn totals(&self) -> (usize, usize) {
        let all = self.all.lock();
        (all.len(), all.values().map(|script| script.memory()).sum())
    }

    /// The running script has run for some time; false if it is to end.
    pub fn runs_long(&self, since: i64, wrote: bool) -> bool {
        self.wrote.store(wrote, Ordering::Relaxed);
        self.long_since.store(since, Ordering::Release);
        !self.killed.load(Ordering::Acquire)
    }

    /// The script is over.
    pub fn ended(&self) {
        if self.long_since.load(Ordering::Relaxed) != 0 {
            self.long_since.store(0, Ordering::Release);
            self.killed.store(false, Ordering::Relaxed);
        }
    }

    /// Since when a script runs that has run for some time, in ms since the epoch; 0: none. One relaxed load.
    #[inline]
    pub fn long_since(&self) -> i64 {
        self.long_since.load(Ordering::Relaxed)
    }

    /// SCRIPT KILL.
    pub fn kill(&self) -> Kill {
        if self.long_since.load(Ordering::Acquire) == 0 {
            return Kill::NotBusy;
        }
        if self.wrote.load(Ordering::Relaxed) {
            return Kill::Wrote;
        }
        self.killed.store(true, Ordering::Release);
        Kill::Ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_eval_brought_makes_room_and_what_was_loaded_stays() {
        let scripts = Scripts::default();
        let loaded = scripts.of(b"return 'kept'").unwrap();
        scripts.add(&loaded, true, 0);
        for number in 0..EVAL_MAX + 10 {
            let script = scripts.of(format!("return {number}").as_bytes()).unwrap();
            scripts.add(&script, false, number as i64 + 1);
        }
        assert_eq!((scripts.totals().0, scripts.evicted.load(Ordering::Relaxed)), (EVAL_MAX + 1, 10));
        assert!(scripts.get(loaded.sha.to_uppercase().as_bytes()).is_some() && !loaded.is_gone());
        assert!(scripts.get(sha1_hex(b"return 0").as_bytes()).is_none());
        scripts.flush();
        assert!(loaded.is_gone() && scripts.totals() == (0, 0));
    }

    #[test]
    fn only_a_long_script_that_has_not_written_is_killed() {
        let scripts = Scripts::default();
        assert_eq!(scripts.kill(), Kill::NotBusy);
        assert!(scripts.runs_long(1, true) && scripts.kill() == Kill::Wrote && scripts.runs_long(1, false));
        assert_eq!(scripts.kill(), Kill::Ends);
        assert!(!scripts.runs_long(1, false));
        scripts.ended();
        assert!(scripts.long_since() == 0 && scripts.runs_long(2, false));
    }
}
