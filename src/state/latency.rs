//! The latency monitor: spikes by event, one sample a second each, as LATENCY shows them. It must not know what the
//! events are or how long is too long.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Samples kept of one event.
const MAX_SAMPLES: usize = 160;

/// One second in which an event was slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spike {
    /// In seconds since the epoch.
    pub at: i64,
    /// The longest of that second, in ms.
    pub ms: u64,
}

/// What is kept of one event.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    /// Oldest first.
    pub samples: VecDeque<Spike>,
    /// The longest ever, in ms.
    pub max_ms: u64,
}

/// All events that were slow.
#[derive(Debug, Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Spikes>>);

impl LatencyMonitor {
    /// Notes that `event` took `ms` at time `at` (seconds since the epoch).
    pub fn add(&self, event: &'static str, at: i64, ms: u64) {
        let mut events = self.0.lock();
        let spikes = events.entry(event).or_default();
        spikes.max_ms = spikes.max_ms.max(ms);
        match spikes.samples.back_mut() {
            Some(last) if last.at == at => last.ms = last.ms.max(ms),
            _ => {
                if spikes.samples.len() == MAX_SAMPLES {
                    spikes.samples.pop_front();
                }
                spikes.samples.push_back(Spike { at, ms });
            }
        }
    }

    /// All events with their spikes; each has at least one.
    pub fn events(&self) -> Vec<(&'static str, Spikes)> {
        self.0.lock().iter().map(|(event, spikes)| (*event, spikes.clone())).collect()
    }

    /// The spikes of one event.
    pub fn event(&self, name: &[u8]) -> Option<(&'static str, Spikes)> {
        let events = self.0.lock();
        let found = events.iter().find(|(event, _)| event.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(event, spikes)| (*event, spikes.clone()))
    }

    /// Forgets one event; true if it was known.
    pub fn reset(&self, name: &[u8]) -> bool {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|event, _| !event.as_bytes().eq_ignore_ascii_case(name));
        events.len() < before
    }

    /// Forgets all events; returns how many there were.
    pub fn reset_all(&self) -> usize {
        std::mem::take(&mut *self.0.lock()).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_their_number_is_bounded() {
        let monitor = LatencyMonitor::default();
        for (at, ms) in [(1, 20), (1, 50), (1, 30), (2, 10)] {
            monitor.add("command", at, ms);
        }
        let (_, spikes) = monitor.event(b"COMMAND").unwrap();
        assert_eq!(spikes.samples, [Spike { at: 1, ms: 50 }, Spike { at: 2, ms: 10 }]);
        assert_eq!(spikes.max_ms, 50);
        for at in 0..500 {
            monitor.add("fast-command", at, 1);
        }
        let events = monitor.events();
        assert_eq!((events.len(), events[1].1.samples.len(), events[1].1.samples[0].at), (2, 160, 340));
        assert!(monitor.reset(b"command") && !monitor.reset(b"command"));
        assert_eq!(monitor.reset_all(), 1);
    }
}
