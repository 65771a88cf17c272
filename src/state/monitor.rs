//! Connections in MONITOR mode, and handing them lines. It must not know commands or how a line is made.

use super::client::ClientInfo;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections in MONITOR mode.
#[derive(Debug, Default)]
pub struct Monitors {
    /// Length of `list`, to be read without the lock.
    count: AtomicUsize,
    list: Mutex<Vec<Arc<ClientInfo>>>,
}

impl Monitors {
    /// True if nobody listens: one relaxed load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Adds a connection; false if it was in.
    pub fn add(&self, client: &Arc<ClientInfo>) -> bool {
        let mut list = self.list.lock();
        if client.monitor.swap(true, Ordering::Relaxed) {
            return false;
        }
        list.push(Arc::clone(client));
        self.count.store(list.len(), Ordering::Relaxed);
        true
    }

    /// Removes a connection, if it is in.
    pub fn remove(&self, client: &ClientInfo) {
        if !client.monitor.load(Ordering::Relaxed) {
            return;
        }
        let mut list = self.list.lock();
        client.monitor.store(false, Ordering::Relaxed);
        list.retain(|monitor| monitor.id != client.id);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Sends a line, with its line end, to all of them. One with more than `limit` bytes waiting (0: no limit) is
    /// closed instead; returns how many were.
    pub fn send(&self, line: &Bytes, limit: usize) -> usize {
        // Not under the lock: a push wakes a task.
        let monitors = self.list.lock().clone();
        monitors.iter().filter(|monitor| !monitor.push(line.clone(), limit)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Clients, Origin};
    use super::*;

    #[test]
    fn lines_go_to_those_in_the_list() {
        let (clients, monitors) = (Clients::default(), Monitors::default());
        let client = clients.connect(Origin::default(), true, 0);
        let line = Bytes::from_static(b"+x\r\n");
        monitors.send(&line, 0);
        assert!(monitors.add(&client.info) && !monitors.add(&client.info) && !monitors.is_empty());
        monitors.send(&line, 0);
        assert_eq!(client.info.take_outbox().concat(), line);
        monitors.remove(&client.info);
        monitors.remove(&client.info);
        monitors.send(&line, 0);
        assert!(monitors.is_empty() && client.info.take_outbox().is_empty());
    }
}
