//! The scripts that were loaded, by SHA-1, and the one that has run for some time. It must not know Lua, or how scripts
//! run.

use crate::script::{Script, sha1_hex};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Scripts that came by EVAL, at most: the one that was not used for longest makes room. SCRIPT LOAD's are kept.
const EVAL_MAX: usize = 500;

/// What SCRIPT KILL and FUNCTION KILL came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// It ends soon.
    Ends,
    /// None has run for long.
    NotBusy,
    /// It has written: ending it would leave half of its work.
    Wrote,
    /// It is one of the other kind.
    Other,
}

/// A script or function that has run for some time.
#[derive(Clone, Debug)]
pub struct Running {
    /// The function's name, or the script's SHA-1.
    pub name: String,
    /// It is a function.
    pub is_function: bool,
    /// The command that called it.
    pub command: Vec<Vec<u8>>,
    /// When it began, in ms since the epoch.
    pub since: i64,
    /// It has written.
    pub wrote: bool,
}

impl Running {
    /// True once it has run for `threshold` ms (0: it never is that long).
    fn is_busy(&self, now: i64, threshold: i64) -> bool {
        threshold > 0 && now - self.since >= threshold
    }
}

/// All scripts.
#[derive(Debug, Default)]
pub struct Scripts {
    all: Mutex<HashMap<String, Arc<Script>>>,
    /// Scripts that made room for others.
    pub evicted: AtomicU64,
    running: Mutex<Option<Running>>,
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
        let mut all = self.all.lock();
        let known = all.get(&script.sha).unwrap_or(script);
        known.used_at.store(now, Ordering::Relaxed);
        known.kept.fetch_or(kept, Ordering::Relaxed);
        if all.contains_key(&script.sha) {
            if !Arc::ptr_eq(known, script) {
                // Another worker was first: here it is compiled again, from that one's.
                script.forget();
            }
            return;
        }
        all.insert(script.sha.clone(), Arc::clone(script));
        if kept || all.len() <= EVAL_MAX {
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

    /// What runs has run for some time.
    pub fn note_running(&self, running: Running) {
        *self.running.lock() = Some(running);
    }

    /// It has written.
    pub fn note_write(&self) {
        self.running.lock().iter_mut().for_each(|running| running.wrote = true);
    }

    /// It is over.
    pub fn ended(&self) {
        *self.running.lock() = None;
        self.killed.store(false, Ordering::Relaxed);
    }

    /// What has run for some time.
    pub fn running(&self) -> Option<Running> {
        self.running.lock().clone()
    }

    /// The error for everybody else, once something has run for `threshold` ms (0: it never is that long).
    pub fn busy(&self, now: i64, threshold: i64) -> Option<&'static str> {
        let running = self.running.lock();
        let running = running.as_ref().filter(|running| running.is_busy(now, threshold))?;
        Some(if running.is_function { BUSY_FUNCTION } else { BUSY_SCRIPT })
    }

    /// True if what runs is to end.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// SCRIPT KILL, or of a function FUNCTION KILL, of what has run for `threshold` ms.
    pub fn kill(&self, function: bool, now: i64, threshold: i64) -> Kill {
        match &*self.running.lock() {
            Some(running) if !running.is_busy(now, threshold) => return Kill::NotBusy,
            None => return Kill::NotBusy,
            Some(running) if running.wrote => return Kill::Wrote,
            Some(running) if running.is_function != function => return Kill::Other,
            Some(_) => {}
        }
        self.killed.store(true, Ordering::Release);
        Kill::Ends
    }
}

const BUSY_SCRIPT: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";

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
        assert_eq!(scripts.kill(false, 9, 5), Kill::NotBusy);
        let running = Running { name: "f".into(), is_function: true, command: Vec::new(), since: 0, wrote: false };
        scripts.note_running(running);
        assert_eq!(scripts.kill(true, 4, 5), Kill::NotBusy);
        assert!(scripts.busy(4, 5).is_none() && scripts.busy(5, 5).is_some() && scripts.busy(9, 0).is_none());
        assert_eq!(scripts.kill(false, 9, 5), Kill::Other);
        assert!(!scripts.is_killed());
        assert_eq!(scripts.kill(true, 9, 5), Kill::Ends);
        assert!(scripts.is_killed());
        scripts.note_write();
        assert_eq!(scripts.kill(true, 9, 5), Kill::Wrote);
        scripts.ended();
        assert!(scripts.running().is_none() && !scripts.is_killed());
    }
}
