//! Changes at the source, as they reach the keyspace: the one way in for whoever hears of them. Knows routes and keys,
//! not how a database tells.

use super::State;
use crate::keyspace::Garbage;
use crate::source::{Databases, Route};

impl State {
    /// Rows changed in the database: what is cached of these keys of `route` goes, what is being loaded of them is not
    /// kept, and their absence is forgotten, in every logical database that the route serves. `xid` is the low half of
    /// the changing transaction's id, as pgoutput's Begin gives it; None where the change is visible to every new
    /// snapshot already. Returns how many keys were removed.
    pub fn invalidate<K: AsRef<[u8]>>(
        &self,
        route: &Route,
        keys: impl IntoIterator<Item = K>,
        xid: Option<u32>,
        now: i64,
    ) -> u64 {
        let databases: Vec<usize> = match &route.databases {
            Databases::All => (0..self.keyspace.databases()).collect(),
            Databases::Some(list) => list.iter().map(|db| *db as usize).collect(),
        };
        let config = self.config.load();
        route.terms.note_change(now);
        let (mut removed, mut garbage) = (0, Garbage::new());
        for key in keys {
            let key = key.as_ref();
            let hash = self.keyspace.hash(key);
            for db in databases.iter().filter(|db| **db < self.keyspace.databases()) {
                let mut shard = self.keyspace.lock(self.keyspace.shard_of(hash));
                removed += u64::from(shard.invalidate((*db, hash, key), &route.terms, xid, now));
                garbage.append(&mut shard.garbage);
                self.tell(&config, None, &std::mem::take(&mut shard.news));
            }
            garbage.free();
        }
        removed
    }

    /// All that is cached of a route may be stale: changes were missed, or are too many to tell one by one. What was
    /// loaded before is not served as fresh any more; it is loaded anew when it is asked for. Takes the same time
    /// however many keys there are, but for those that clients keep copies of.
    pub fn bump_epoch(&self, route: &Route, xid: Option<u32>, now: i64) {
        let terms = &route.terms;
        if let Some(xid) = xid {
            terms.fence.add(xid, &terms.horizon);
        }
        // First the epoch, which ends what is under way; then each shard is told to look.
        terms.move_on(now);
        let (config, is_of_route) = (self.config.load(), route.key_test());
        for shard in 0..self.keyspace.shards() {
            let mut shard = self.keyspace.lock(shard);
            shard.recheck();
            shard.lapse_tracked(usize::MAX, &is_of_route);
            self.tell(&config, None, &std::mem::take(&mut shard.news));
        }
        self.broadcast_head(&config, &route.key.head());
    }
}
