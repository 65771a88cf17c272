//! Where the memory is: the figures that INFO, MEMORY and the metrics show. It must not know how they are shown.

use super::State;
use crate::keyspace::DatabaseSummary;
use crate::process;
use std::sync::atomic::Ordering;

/// Memory in use, in bytes.
#[derive(Clone, Debug)]
pub struct MemoryReport {
    /// Handed out by the allocator.
    pub used: u64,
    /// The most that was.
    pub peak: u64,
    /// When it was, in ms since the epoch.
    pub peak_at: i64,
    /// In use before there were keys.
    pub startup: u64,
    /// Held by the process, as the operating system counts it.
    pub resident: u64,
    /// Of the machine.
    pub machine: u64,
    /// Requests and replies that wait in connections.
    pub clients: u64,
    /// Everything but keys and values.
    pub overhead: u64,
    /// Keys over all databases.
    pub keys: u64,
    /// Every database.
    pub databases: Vec<DatabaseSummary>,
}

impl MemoryReport {
    /// Keys and values.
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead)
    }

    /// Share of `dataset` in what came after the start, in percent.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup))
    }

    /// Share of `used` in `peak`, in percent.
    pub fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }

    /// `resident` to `used`.
    pub fn fragmentation(&self) -> f64 {
        self.resident as f64 / self.used.max(1) as f64
    }

    /// `resident` without `used`.
    pub fn fragmentation_bytes(&self) -> i64 {
        self.resident as i64 - self.used as i64
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

impl State {
    /// Where the memory is at `now` (ms since the epoch).
    pub fn memory(&self, now: i64) -> MemoryReport {
        let used = crate::alloc::used();
        let (peak, peak_at) = self.note_memory(used, now);
        let mut clients = 0;
        self.clients.each(|client| {
            let bytes = client.query_bytes.load(Ordering::Relaxed) + client.output_bytes.load(Ordering::Relaxed);
            clients += bytes as u64;
        });
        let databases = self.keyspace.summary();
        let tables: usize = databases.iter().map(|database| database.table_bytes).sum();
        MemoryReport {
            used,
            peak,
            peak_at,
            startup: self.startup_memory(),
            resident: process::resident_bytes(),
            machine: process::machine_memory_bytes(),
            clients,
            overhead: self.startup_memory() + tables as u64 + clients,
            keys: databases.iter().map(|database| database.keys as u64).sum(),
            databases,
        }
    }
}
