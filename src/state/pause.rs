//! CLIENT PAUSE: until when commands wait, and which. It must not know connections or commands.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The pause that is on, if any.
#[derive(Debug, Default)]
pub struct Pause {
    /// In ms since the epoch; 0 for none. It may be over.
    until: AtomicI64,
    writes_only: AtomicBool,
    changing: Mutex<()>,
}

impl Pause {
    /// True if there is certainly no pause: one relaxed load. A pause that is over may still count as one until
    /// [`Pause::holds`] is asked.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.until.load(Ordering::Relaxed) == 0
    }

    /// Until when a command has to wait (ms since the epoch), if it has to; `writes`: it changes data.
    pub fn holds(&self, writes: bool, now: i64) -> Option<i64> {
        let until = self.until.load(Ordering::Acquire);
        if until > now {
            return (writes || !self.writes_only.load(Ordering::Relaxed)).then_some(until);
        }
        if until != 0 {
            self.until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
        None
    }

    /// True as long as nothing was changed since [`Pause::holds`] gave `until`.
    pub fn is_until(&self, until: i64) -> bool {
        self.until.load(Ordering::Relaxed) == until
    }

    /// Suspends commands until `until` (ms since the epoch): all, or only those that write. A pause that is on is
    /// never shortened, nor made milder.
    pub fn begin(&self, until: i64, writes_only: bool, now: i64) {
        let _one_at_a_time = self.changing.lock();
        let before = self.until.load(Ordering::Relaxed);
        let is_on = before > now;
        let all = !writes_only || (is_on && !self.writes_only.load(Ordering::Relaxed));
        self.writes_only.store(!all, Ordering::Relaxed);
        self.until.store(if is_on { until.max(before) } else { until }, Ordering::Release);
    }

    /// Ends it.
    pub(super) fn end(&self) {
        let _one_at_a_time = self.changing.lock();
        self.until.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_combine() {
        let pause = Pause::default();
        assert!(pause.is_off() && pause.holds(true, 0).is_none());
        pause.begin(100, true, 0);
        assert_eq!((pause.holds(true, 1), pause.holds(false, 1)), (Some(100), None));
        pause.begin(50, false, 1);
        assert_eq!(pause.holds(false, 2), Some(100));
        pause.begin(200, true, 2);
        assert_eq!(pause.holds(false, 199), Some(200));
        // It is over: the next one counts alone.
        assert!(!pause.is_off() && pause.holds(true, 200).is_none() && pause.is_off());
        pause.begin(300, true, 200);
        assert_eq!((pause.holds(true, 201), pause.holds(false, 201)), (Some(300), None));
        assert!(pause.is_until(300));
        pause.end();
        assert!(pause.is_off() && !pause.is_until(300));
    }
}
