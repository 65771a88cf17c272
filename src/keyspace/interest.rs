//! Who is to know when a key changes: connections that WATCH it, and commands that wait for it, in the order in which
//! they came. One list for each shard, under the shard's lock. It must not know commands or connections.
//!
//! A change marks the watches of its key at once. Of a key that is waited for it only notes that it is *ready*: who
//! made the change serves the waiters (`exec/block`) once its command is done, and before it gives the lock back.

use super::shard::Shard;
use super::table::Hash;
use crate::protocol::{Output, Span, Version};
use hashbrown::HashTable;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// What WATCH of one connection has seen.
#[derive(Debug, Default)]
pub struct Watch(AtomicBool);

impl Watch {
    /// True if a watched key has changed. To be asked with the shards of these keys locked.
    pub fn is_touched(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Shard {
    /// Marks `watch` when the key changes from now on.
    pub fn watch(&mut self, db: usize, hash: Hash, key: &[u8], watch: &Arc<Watch>) {
        self.interests.watch(db, hash, key, watch);
        self.look_around();
    }

    /// The end of [`Shard::watch`].
    pub fn unwatch(&mut self, db: usize, hash: Hash, key: &[u8], watch: &Arc<Watch>) {
        self.interests.unwatch(db, hash, key, watch);
        self.look_around();
    }

    /// A command waits for a key from now on, behind those that do already.
    pub fn wait(&mut self, db: usize, hash: Hash, key: &[u8], waiter: &Arc<Waiter>) {
        self.interests.wait(db, hash, key, waiter);
        self.look_around();
    }

    /// The end of [`Shard::wait`].
    pub fn leave(&mut self, db: usize, hash: Hash, key: &[u8], waiter: &Arc<Waiter>) {
        self.interests.leave(db, hash, key, waiter);
        self.look_around();
    }

    /// Who waits for a key, in the order in which they came.
    pub fn waiters(&self, db: usize, hash: Hash, key: &[u8]) -> Vec<Arc<Waiter>> {
        self.interests.waiters(db, hash, key)
    }

    /// True if keys have changed that somebody waits for.
    pub fn has_ready(&self) -> bool {
        self.interests.has_ready()
    }

    /// Those keys.
    pub fn take_ready(&mut self) -> Vec<Ready> {
        self.interests.take_ready()
    }

    /// Keys that are watched, and keys that are waited for.
    pub fn interest_counts(&self) -> (usize, usize) {
        self.interests.counts()
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum Ending {
    /// With this reply.
    Served(Output),
    /// Its time is over, or CLIENT UNBLOCK says so.
    Timeout,
    /// CLIENT UNBLOCK … ERROR.
    Unblocked,
    /// The connection is gone, or will be.
    Gone,
}

/// A command that waits.
#[derive(Debug)]
pub struct Waiter {
    /// Its arguments' bytes.
    pub buf: Vec<u8>,
    /// Its arguments, the name included.
    pub spans: Vec<Span>,
    /// The number of its connection.
    pub client: u64,
    /// Its database.
    pub db: usize,
    /// The protocol of its reply.
    pub version: Version,
    /// Which state of the users it was permitted by.
    pub users: u64,
    /// It leaves no trace in the keys' access data.
    pub no_touch: bool,
    /// It can be served by a key of this type.
    pub of_type: &'static str,
    /// It is also to run again when a key is gone, or has another type.
    pub or_gone: bool,
    /// None while it waits.
    ending: Mutex<Option<Ending>>,
    ended: Notify,
}

/// What became of an attempt to serve a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It has its reply.
    Now,
    /// It waits on.
    NotYet,
    /// It did not wait any more.
    Over,
}

impl Waiter {
    /// A command that begins to wait.
    pub fn new(buf: Vec<u8>, spans: Vec<Span>, db: usize, version: Version) -> Self {
        Self {
            buf,
            spans,
            client: 0,
            users: 0,
            db,
            version,
            no_touch: false,
            of_type: "",
            or_gone: false,
            ending: Mutex::new(None),
            ended: Notify::new(),
        }
    }

    /// Runs `attempt` if the command still waits; a reply ends the wait. Nothing else can end it meanwhile.
    pub fn serve(&self, attempt: impl FnOnce() -> Option<Output>) -> Served {
        let mut ending = self.ending.lock();
        if ending.is_some() {
            return Served::Over;
        }
        let Some(reply) = attempt() else { return Served::NotYet };
        *ending = Some(Ending::Served(reply));
        drop(ending);
        self.ended.notify_waiters();
        Served::Now
    }

    /// Ends the wait without a reply; false if it was over.
    pub fn end(&self, how: Ending) -> bool {
        let mut ending = self.ending.lock();
        let waits = ending.is_none();
        if waits {
            *ending = Some(how);
            drop(ending);
            self.ended.notify_waiters();
        }
        waits
    }

    /// True until it ends.
    pub fn waits(&self) -> bool {
        self.ending.lock().is_none()
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Registered before the look, so that no end is missed.
            ended.as_mut().enable();
            if self.ending.lock().is_some() {
                return;
            }
            ended.await;
        }
    }

    /// How it ended: it waits no more.
    pub fn take_ending(&self) -> Ending {
        self.ending.lock().replace(Ending::Gone).unwrap_or(Ending::Gone)
    }
}

/// A key that has changed and is waited for.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Ascending among all of one thread.
    pub order: u64,
    /// The database.
    pub db: usize,
    /// The key's hash.
    pub hash: Hash,
    /// The key.
    pub key: Box<[u8]>,
}

#[derive(Debug)]
struct Interest {
    db: usize,
    hash: Hash,
    key: Box<[u8]>,
    watches: Vec<Arc<Watch>>,
    waiters: VecDeque<Arc<Waiter>>,
    /// It stands in `ready`.
    is_ready: bool,
}

/// The interests in keys of one shard.
#[derive(Debug, Default)]
pub(super) struct Interests {
    keys: HashTable<Interest>,
    ready: Vec<Ready>,
}

impl Interests {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The interest in a key; a new one if there was none.
    fn of(&mut self, db: usize, hash: Hash, key: &[u8]) -> &mut Interest {
        let same = |interest: &Interest| interest.db == db && *interest.key == *key;
        let new =
            || Interest { db, hash, key: key.into(), watches: Vec::new(), waiters: VecDeque::new(), is_ready: false };
        self.keys.entry(hash, same, |interest| interest.hash).or_insert_with(new).into_mut()
    }

    /// Lets `f` take something off the interest in a key, if there is one; forgets it when nothing is left.
    fn reduce(&mut self, db: usize, hash: Hash, key: &[u8], f: impl FnOnce(&mut Interest)) {
        let same = |interest: &Interest| interest.db == db && *interest.key == *key;
        if let Ok(mut entry) = self.keys.find_entry(hash, same) {
            f(entry.get_mut());
            if entry.get().watches.is_empty() && entry.get().waiters.is_empty() {
                entry.remove();
            }
        }
        if self.keys.is_empty() {
            self.keys = HashTable::new();
        }
    }

    pub(super) fn watch(&mut self, db: usize, hash: Hash, key: &[u8], watch: &Arc<Watch>) {
        self.of(db, hash, key).watches.push(Arc::clone(watch));
    }

    pub(super) fn unwatch(&mut self, db: usize, hash: Hash, key: &[u8], watch: &Arc<Watch>) {
        self.reduce(db, hash, key, |interest| interest.watches.retain(|other| !Arc::ptr_eq(other, watch)));
    }

    /// A command begins to wait for a key, unless it does already: it may name a key twice.
    pub(super) fn wait(&mut self, db: usize, hash: Hash, key: &[u8], waiter: &Arc<Waiter>) {
        let waiters = &mut self.of(db, hash, key).waiters;
        // Whoever was there before came earlier, so a second mention finds it at the end.
        if waiters.back().is_none_or(|last| !Arc::ptr_eq(last, waiter)) {
            waiters.push_back(Arc::clone(waiter));
        }
    }

    pub(super) fn leave(&mut self, db: usize, hash: Hash, key: &[u8], waiter: &Arc<Waiter>) {
        self.reduce(db, hash, key, |interest| interest.waiters.retain(|other| !Arc::ptr_eq(other, waiter)));
    }

    /// Who waits for a key, in the order in which they came.
    pub(super) fn waiters(&self, db: usize, hash: Hash, key: &[u8]) -> Vec<Arc<Waiter>> {
        let same = |interest: &Interest| interest.db == db && *interest.key == *key;
        self.keys.find(hash, same).map_or_else(Vec::new, |interest| interest.waiters.iter().cloned().collect())
    }

    /// A key has changed; true if it is waited for.
    pub(super) fn touch(&mut self, db: usize, hash: Hash, key: &[u8], order: u64) -> bool {
        let same = |interest: &Interest| interest.db == db && *interest.key == *key;
        self.keys.find_mut(hash, same).is_some_and(|interest| interest.touch(order, &mut self.ready))
    }

    /// Who waits for a key is to run again; true if anybody does.
    pub(super) fn wake(&mut self, db: usize, hash: Hash, key: &[u8], order: u64) -> bool {
        let same = |interest: &Interest| interest.db == db && *interest.key == *key;
        self.keys.find_mut(hash, same).is_some_and(|interest| interest.wake(order, &mut self.ready))
    }

    /// Keys of some databases have changed: all that are waited for, and those watched ones of which `has` says that
    /// they were or are there. True if any is waited for.
    pub(super) fn touch_all(
        &mut self,
        of: impl Fn(usize) -> bool,
        has: impl Fn(usize, Hash, &[u8]) -> bool,
        mut order: impl FnMut() -> u64,
    ) -> bool {
        let mut waited = false;
        for interest in self.keys.iter_mut().filter(|interest| of(interest.db)) {
            if has(interest.db, interest.hash, &interest.key) {
                interest.watches.iter().for_each(|watch| watch.touch());
            }
            if !interest.waiters.is_empty() {
                waited |= interest.wake(order(), &mut self.ready);
            }
        }
        waited
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The keys that are ready.
    pub(super) fn take_ready(&mut self) -> Vec<Ready> {
        let ready = std::mem::take(&mut self.ready);
        for Ready { db, hash, key, .. } in &ready {
            let same = |interest: &Interest| interest.db == *db && interest.key == *key;
            if let Some(interest) = self.keys.find_mut(*hash, same) {
                interest.is_ready = false;
            }
        }
        ready
    }

    /// Keys that are watched, and keys that are waited for.
    pub(super) fn counts(&self) -> (usize, usize) {
        let count = |f: fn(&&Interest) -> bool| self.keys.iter().filter(f).count();
        (count(|interest| !interest.watches.is_empty()), count(|interest| !interest.waiters.is_empty()))
    }
}

impl Interest {
    fn touch(&mut self, order: u64, ready: &mut Vec<Ready>) -> bool {
        self.watches.iter().for_each(|watch| watch.touch());
        self.wake(order, ready)
    }

    /// Notes that the key is ready, if it is waited for.
    fn wake(&mut self, order: u64, ready: &mut Vec<Ready>) -> bool {
        if self.waiters.is_empty() {
            return false;
        }
        if !std::mem::replace(&mut self.is_ready, true) {
            ready.push(Ready { order, db: self.db, hash: self.hash, key: self.key.clone() });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter() -> Arc<Waiter> {
        Arc::new(Waiter::new(Vec::new(), Vec::new(), 0, Version::V2))
    }

    #[test]
    fn a_change_touches_the_watches_of_its_key_alone() {
        let mut interests = Interests::default();
        let (a, b) = (Arc::<Watch>::default(), Arc::<Watch>::default());
        interests.watch(0, 7, b"a", &a);
        interests.watch(0, 7, b"b", &b);
        interests.watch(1, 7, b"a", &b);
        assert!(!interests.touch(0, 7, b"a", 0), "nobody waits");
        assert!(a.is_touched() && !b.is_touched());
        interests.unwatch(0, 7, b"b", &b);
        interests.touch(0, 7, b"b", 0);
        assert!(!b.is_touched());
        interests.touch_all(|db| db == 1, |_, _, _| false, || 0);
        assert!(!b.is_touched(), "a key that is in no database was not changed by its flush");
        interests.touch_all(|db| db == 1, |_, _, key| key == b"a", || 0);
        assert!(b.is_touched());
        interests.unwatch(0, 7, b"a", &a);
        interests.unwatch(1, 7, b"a", &b);
        assert!(interests.is_empty());
    }

    #[test]
    fn waiters_keep_their_order_and_a_key_is_ready_once() {
        let mut interests = Interests::default();
        let (first, second) = (waiter(), waiter());
        interests.wait(0, 7, b"a", &first);
        interests.wait(0, 7, b"a", &first);
        interests.wait(0, 7, b"a", &second);
        assert!(interests.touch(0, 7, b"a", 1) && interests.touch(0, 7, b"a", 2));
        assert_eq!(interests.take_ready().iter().map(|ready| ready.order).collect::<Vec<_>>(), [1]);
        assert!(interests.touch(0, 7, b"a", 3) && interests.has_ready());
        let waiters = interests.waiters(0, 7, b"a");
        assert!(waiters.len() == 2 && Arc::ptr_eq(&waiters[0], &first));
        interests.leave(0, 7, b"a", &first);
        interests.leave(0, 7, b"a", &second);
        assert!(interests.is_empty() && interests.counts() == (0, 0));
        // A key that is ready although nobody waits any more does no harm.
        assert_eq!((interests.take_ready().len(), interests.has_ready()), (1, false));
    }

    #[tokio::test]
    async fn a_wait_ends_once() {
        let waiter = waiter();
        assert_eq!(waiter.serve(|| None), Served::NotYet);
        let waits = tokio::spawn({
            let waiter = Arc::clone(&waiter);
            async move { waiter.ended().await }
        });
        assert_eq!(waiter.serve(|| Some(Output::new())), Served::Now);
        assert!(!waiter.end(Ending::Timeout));
        assert_eq!(waiter.serve(|| panic!("it was served")), Served::Over);
        waits.await.unwrap();
        assert!(matches!(waiter.take_ending(), Ending::Served(_)));
    }
}
