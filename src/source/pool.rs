//! A bounded pool of connections to one database.
//!
//! A load first takes a slot (a fair semaphore: first come, first served, and a caller who leaves loses nothing), so
//! at most `max` connections are in use or being opened; then an idle connection, one whose task runs on this thread
//! if there is one, else any; else it opens one, and takes one that comes back meanwhile if that is sooner. Opening runs
//! in a task of its own, so a caller who no longer waits for it does not throw away a connection that is nearly there.
//!
//! Where the server lets no more in (it has no connection left for us), those who come make do with the connections that
//! are there, and it is asked again after a moment. When none is there at all, the breaker above decides.
//!
//! Knows nothing of Postgres or SQL: a connection is a [`Link`].

use super::source_config::PoolConfig;
use super::stats::PoolSnapshot;
use super::{Cause, LoadError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long no connection is opened after a failed attempt, as long as there are others to make do with.
const BAR: Duration = Duration::from_millis(100);

/// A connection, as the pool sees it.
pub(super) trait Link: Send + 'static {
    /// Whether it can still be used.
    fn is_open(&self) -> bool;

    /// Whether nothing runs on it, so that the next load can have it.
    fn is_quiet(&self) -> bool;

    /// Stops what runs on it and closes it. Must end by itself in bounded time.
    fn retire(self) -> impl Future<Output = ()> + Send + 'static;
}

/// Opens connections.
pub(super) trait Connect: Send + Sync + 'static {
    /// What it opens.
    type Link: Link;

    /// Opens one on the calling thread's runtime. The pool bounds the time.
    fn connect(&self) -> impl Future<Output = Result<Self::Link, LoadError>> + Send;
}

pub(super) struct Pool<C: Connect> {
    connector: C,
    config: PoolConfig,
    slots: Arc<Semaphore>,
    /// A connection came back to the idle ones.
    returned: Notify,
    state: Mutex<State<C::Link>>,
    size: Arc<AtomicUsize>,
    /// Connections that are being opened.
    opening: Arc<AtomicUsize>,
    /// A thread opens a connection of its own, although another's is idle.
    is_moving: AtomicBool,
    waiting: AtomicUsize,
    connects: AtomicU64,
    connect_errors: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
}

struct State<L> {
    /// The longest idle at the front.
    idle: VecDeque<Idle<L>>,
    /// Why the last attempt to connect failed, and until when there is no other.
    bar: Option<(LoadError, Instant)>,
    /// Whether a task waits to close idle connections.
    reaping: bool,
}

struct Idle<L> {
    member: Member<L>,
    since: Instant,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) error: LoadError,
    /// The server did not let us in; false: all connections are in use.
    pub(super) is_by_server: bool,
}

/// A connection that counts in the pool's size for as long as it lives.
struct Member<L> {
    link: L,
    /// The thread whose runtime drives it.
    home: ThreadId,
    counted: Counted,
}

/// One in a count, until dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Relaxed);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<C: Connect> Pool<C> {
    pub(super) fn new(connector: C, config: PoolConfig) -> Arc<Pool<C>> {
        Arc::new(Pool {
            connector,
            slots: Arc::new(Semaphore::new(config.max)),
            config,
            returned: Notify::new(),
            state: Mutex::new(State { idle: VecDeque::new(), bar: None, reaping: false }),
            size: Arc::default(),
            opening: Arc::default(),
            is_moving: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// A connection for one load, by `deadline`. `fresh` asks for a new one, where an idle one turned out dead.
    pub(super) async fn acquire(self: &Arc<Self>, deadline: Instant, mut fresh: bool) -> Result<Lease<C>, Denied> {
        loop {
            let slot = self.slot(deadline).await?;
            // From now on no return is missed.
            let mut returned = pin!(self.returned.notified());
            returned.as_mut().enable();
            if let Some(member) = self.take_idle(fresh) {
                if member.home != std::thread::current().id() {
                    self.move_in();
                }
                return Ok(self.lease(member, slot));
            }
            let takes_any = !std::mem::take(&mut fresh);
            if let Some((error, until)) = self.barred() {
                if timeout_at(deadline.min(until), returned).await.is_err() && Instant::now() >= deadline {
                    return Err(Denied { error, is_by_server: true });
                }
                continue;
            }
            let mut opening = pin!(self.open(slot, deadline));
            let outcome = loop {
                tokio::select! {
                    biased;
                    outcome = opening.as_mut() => break outcome,
                    () = returned.as_mut(), if takes_any => {}
                }
                // Another came back sooner. The new one is of use to the next who asks.
                returned.set(self.returned.notified());
                returned.as_mut().enable();
                if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
                    && let Some(member) = self.take_idle(false)
                {
                    return Ok(self.lease(member, slot));
                }
            };
            match outcome {
                // There are others to make do with.
                Err(_) if self.barred().is_some() => {}
                outcome => return outcome.map_err(|error| Denied { error, is_by_server: true }),
            }
        }
    }

    /// Why no further connection is opened for a moment, and until when; None if one may be.
    fn barred(&self) -> Option<(LoadError, Instant)> {
        let mut state = self.state.lock();
        let holds = |(_, until): &(LoadError, Instant)| *until > Instant::now() && self.size.load(Relaxed) > 0;
        state.bar = state.bar.take().filter(holds);
        state.bar.clone()
    }

    /// True if there is no connection at all.
    pub(super) fn is_empty(&self) -> bool {
        self.size.load(Relaxed) == 0
    }

    /// Closes the idle connections: the server does not answer, and what they are good for is not known.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.state.lock().idle);
        drop(idle);
    }

    /// Opens a thread's part of `min` connections, by its number among so many, unless one fails. A connection is driven by
    /// the thread that opened it: a load of another thread costs two wake-ups more.
    pub(super) async fn warm(self: Arc<Self>, thread: usize, threads: usize) {
        let (mut leases, up_to) = (Vec::new(), |thread| self.config.min * thread / threads);
        let part = up_to(thread + 1) - up_to(thread);
        while leases.len() < part && self.size.load(Relaxed) < self.config.min {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else { return };
            let deadline = Instant::now() + self.config.connect_timeout;
            match self.open(slot, deadline).await {
                Ok(lease) => leases.push(lease),
                Err(_) => return,
            }
        }
    }

    pub(super) fn snapshot(&self) -> PoolSnapshot {
        PoolSnapshot {
            max: self.config.max as u64,
            size: self.size.load(Relaxed) as u64,
            idle: self.state.lock().idle.len() as u64,
            waiting: self.waiting.load(Relaxed) as u64,
            connects: self.connects.load(Relaxed),
            connect_errors: self.connect_errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// A load was refused before it asked for a connection.
    pub(super) fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn reset_counts(&self) {
        for counter in [&self.connects, &self.connect_errors, &self.timeouts, &self.refused] {
            counter.store(0, Relaxed);
        }
    }

    /// The right to have one connection, in the order of asking.
    async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Denied> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = match Waiting::enter(&self.waiting, self.config.max_waiting) {
            Some(waiting) => waiting,
            None => {
                self.refused.fetch_add(1, Relaxed);
                return Err(Denied { error: Cause::QueueFull.into(), is_by_server: false });
            }
        };
        let deadline = deadline.min(Instant::now() + self.config.acquire_timeout);
        match timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            // The semaphore is never closed: an error can only be the timeout.
            Ok(Err(_)) | Err(_) => {
                self.timeouts.fetch_add(1, Relaxed);
                Err(Denied { error: Cause::TimedOut.into(), is_by_server: false })
            }
        }
    }

    /// An idle connection, preferably one of this thread. With `fresh`, one is closed instead, so that its place is
    /// free for the new one.
    fn take_idle(&self, fresh: bool) -> Option<Member<C::Link>> {
        let here = std::thread::current().id();
        loop {
            // Dropped at the end of the round, outside of the lock.
            let taken = {
                let mut state = self.state.lock();
                let near = state.idle.iter().rposition(|idle| idle.member.home == here);
                let place = near.or(state.idle.len().checked_sub(1))?;
                state.idle.remove(place)?
            };
            if !taken.member.link.is_open() {
                continue;
            }
            return (!fresh).then_some(taken.member);
        }
    }

    /// Opens a connection that this thread drives, which had none idle, for later loads: what they do not use will idle for
    /// too long. One at a time, and only where there is room.
    fn move_in(self: &Arc<Self>) {
        let is_full = || self.size.load(Relaxed) + self.opening.load(Relaxed) >= self.config.max;
        if is_full() || self.barred().is_some() || self.is_moving.swap(true, Relaxed) {
            return;
        }
        let (pool, slot) = (Arc::clone(self), Arc::clone(&self.slots).try_acquire_owned());
        let opening = Counted::new(&self.opening);
        tokio::spawn(async move {
            if let Ok(slot) = slot {
                drop(pool.attempt(slot).await);
            }
            drop(opening);
            pool.is_moving.store(false, Relaxed);
        });
    }

    /// Opens a connection in a task of its own and waits for it.
    async fn open(self: &Arc<Self>, slot: OwnedSemaphorePermit, deadline: Instant) -> Result<Lease<C>, LoadError> {
        let (sender, receiver) = oneshot::channel();
        let (pool, opening) = (Arc::clone(self), Counted::new(&self.opening));
        tokio::spawn(async move {
            let result = pool.attempt(slot).await;
            drop(opening);
            // A lease that nobody waits for any more goes back to the pool as it is dropped.
            let _ = sender.send(result);
        });
        match timeout_at(deadline, receiver).await {
            Ok(Ok(result)) => result,
            // The runtime went away under the task.
            Ok(Err(_)) => Err(Cause::Down.into()),
            Err(_) => {
                self.timeouts.fetch_add(1, Relaxed);
                Err(Cause::TimedOut.into())
            }
        }
    }

    async fn attempt(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Result<Lease<C>, LoadError> {
        // The load that asked has its own, shorter deadline; the connection is of use to the next one, too.
        let result = timeout(self.config.connect_timeout, self.connector.connect()).await;
        let result = result.unwrap_or_else(|_| Err(Cause::Down.into()));
        match result {
            Ok(link) => {
                self.connects.fetch_add(1, Relaxed);
                self.state.lock().bar = None;
                let home = std::thread::current().id();
                Ok(self.lease(Member { link, home, counted: Counted::new(&self.size) }, slot))
            }
            Err(error) => {
                self.connect_errors.fetch_add(1, Relaxed);
                self.state.lock().bar = Some((error.clone(), Instant::now() + BAR));
                Err(error)
            }
        }
    }

    fn lease(self: &Arc<Self>, member: Member<C::Link>, slot: OwnedSemaphorePermit) -> Lease<C> {
        Lease { pool: Arc::clone(self), held: Some((member, slot)) }
    }

    /// Keeps a quiet connection for the next load.
    fn put_back(self: &Arc<Self>, member: Member<C::Link>) {
        let mut state = self.state.lock();
        state.idle.push_back(Idle { member, since: Instant::now() });
        if !state.reaping
            && self.size.load(Relaxed) > self.config.min
            && let Ok(runtime) = Handle::try_current()
        {
            state.reaping = true;
            runtime.spawn(Reaper(Arc::downgrade(self)).run());
        }
    }

    /// Takes out the connections above `min` that have idled too long; says when the next one will have.
    fn expire(&self) -> (Vec<Member<C::Link>>, Option<Instant>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut expired = Vec::new();
        loop {
            let above_min = self.size.load(Relaxed).saturating_sub(expired.len()) > self.config.min;
            let expiry = state.idle.front().map(|idle| idle.since + self.config.idle_timeout);
            match expiry.filter(|_| above_min) {
                Some(at) if at <= now => expired.extend(state.idle.pop_front().map(|idle| idle.member)),
                next => {
                    state.reaping = next.is_some();
                    return (expired, next);
                }
            }
        }
    }
}

/// Closes idle connections in time; ends when there are none to watch.
struct Reaper<C: Connect>(Weak<Pool<C>>);

impl<C: Connect> Reaper<C> {
    async fn run(self) {
        while let Some(pool) = self.0.upgrade() {
            let (expired, next) = pool.expire();
            drop((expired, pool));
            match next {
                Some(at) => sleep_until(at).await,
                None => return,
            }
        }
    }
}

impl<C: Connect> Drop for Reaper<C> {
    /// The thread's runtime may end before the pool does: another thread's may then watch.
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.state.lock().reaping = false;
        }
    }
}

/// A place among those who wait for a slot.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn enter(waiting: &'p AtomicUsize, max: usize) -> Option<Waiting<'p>> {
        let place = Waiting(waiting);
        (waiting.fetch_add(1, Relaxed) < max).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A connection on loan. Dropping it gives it back; if something still runs on it, that is stopped first, and its slot
/// stays taken until it has.
pub(super) struct Lease<C: Connect> {
    pool: Arc<Pool<C>>,
    held: Option<(Member<C::Link>, OwnedSemaphorePermit)>,
}

impl<C: Connect> Deref for Lease<C> {
    type Target = C::Link;

    fn deref(&self) -> &C::Link {
        let (member, _) = self.held.as_ref().expect("held until dropped");
        &member.link
    }
}

impl<C: Connect> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C::Link {
        let (member, _) = self.held.as_mut().expect("held until dropped");
        &mut member.link
    }
}

impl<C: Connect> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some((member, slot)) = self.held.take() else { return };
        if !member.link.is_open() {
            return;
        }
        if member.link.is_quiet() {
            self.pool.put_back(member);
            // Only now: whoever gets the slot finds the connection.
            drop(slot);
            self.pool.returned.notify_one();
        } else if let Ok(runtime) = Handle::try_current() {
            let Member { link, counted, .. } = member;
            runtime.spawn(async move {
                link.retire().await;
                drop((counted, slot));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    /// What a test and its connections share.
    #[derive(Default)]
    struct Stage {
        down: AtomicBool,
        attempts: AtomicUsize,
        /// While set, connecting waits for `go`.
        hold: AtomicBool,
        go: Notify,
        retired: AtomicUsize,
    }

    struct Opener(Arc<Stage>);

    struct Line {
        stage: Arc<Stage>,
        number: usize,
        open: Arc<AtomicBool>,
        quiet: bool,
    }

    impl Connect for Opener {
        type Link = Line;

        async fn connect(&self) -> Result<Line, LoadError> {
            let number = self.0.attempts.fetch_add(1, Relaxed);
            if self.0.hold.load(Relaxed) {
                self.0.go.notified().await;
            }
            match self.0.down.load(Relaxed) {
                true => Err(Cause::Down.into()),
                false => {
                    let open = Arc::new(AtomicBool::new(true));
                    Ok(Line { stage: Arc::clone(&self.0), number, open, quiet: true })
                }
            }
        }
    }

    impl Link for Line {
        fn is_open(&self) -> bool {
            self.open.load(Relaxed)
        }

        fn is_quiet(&self) -> bool {
            self.quiet
        }

        async fn retire(self) {
            self.stage.go.notified().await;
            self.stage.retired.fetch_add(1, Relaxed);
        }
    }

    fn pool(max: usize, min: usize) -> (Arc<Stage>, Arc<Pool<Opener>>) {
        let stage = Arc::new(Stage::default());
        let config = PoolConfig {
            max,
            min,
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            max_waiting: 2,
        };
        (Arc::clone(&stage), Pool::new(Opener(stage), config))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    async fn cause(pool: &Arc<Pool<Opener>>) -> Cause {
        pool.acquire(soon(), false).await.err().expect("should fail").error.cause
    }

    /// Lets every task that can run do so.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reuses_the_idle_and_never_exceeds_max() {
        let (stage, pool) = pool(2, 0);
        drop(pool.acquire(soon(), false).await.unwrap());
        let first = pool.acquire(soon(), false).await.unwrap();
        assert_eq!((first.number, stage.attempts.load(Relaxed)), (0, 1));
        let second = pool.acquire(soon(), false).await.unwrap();
        assert_eq!(cause(&pool).await, Cause::TimedOut);
        assert_eq!(pool.snapshot().size, 2);
        assert_eq!(pool.snapshot().timeouts, 1);
        drop((first, second));
        assert_eq!(pool.snapshot().idle, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn serves_in_order_and_survives_callers_who_leave() {
        let (_, pool) = pool(1, 0);
        let lease = pool.acquire(soon(), false).await.unwrap();
        let waiter = |pool: &Arc<Pool<Opener>>| {
            let pool = Arc::clone(pool);
            tokio::spawn(async move { pool.acquire(soon(), false).await.map(drop) })
        };
        let (first, second) = (waiter(&pool), waiter(&pool));
        settle().await;
        assert_eq!(pool.snapshot().waiting, 2);
        assert_eq!(cause(&pool).await, Cause::QueueFull);
        first.abort();
        settle().await;
        assert_eq!(pool.snapshot().waiting, 1);
        drop(lease);
        assert_eq!(second.await.unwrap(), Ok(()));
        assert_eq!((pool.snapshot().waiting, pool.snapshot().refused), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn discards_the_dead_and_makes_room_for_fresh_ones() {
        let (_, pool) = pool(1, 0);
        let lease = pool.acquire(soon(), false).await.unwrap();
        lease.open.store(false, Relaxed);
        drop(lease);
        assert_eq!(pool.snapshot().size, 0);
        let lease = pool.acquire(soon(), false).await.unwrap();
        let open = Arc::clone(&lease.open);
        drop(lease);
        open.store(false, Relaxed);
        // Died while idle.
        assert_eq!(pool.acquire(soon(), false).await.unwrap().number, 2);
        // Alive, but the caller does not believe it.
        assert_eq!(pool.acquire(soon(), true).await.unwrap().number, 3);
        assert_eq!(pool.snapshot().size, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_lets_no_more_in_is_made_do_with() {
        let (stage, pool) = pool(10, 0);
        let lease = pool.acquire(soon(), false).await.unwrap();
        stage.down.store(true, Relaxed);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.acquire(soon(), false).await.map(drop) })
            })
            .collect();
        settle().await;
        assert_eq!(stage.attempts.load(Relaxed), 3, "both tried");
        assert_eq!(cause(&pool).await, Cause::Down, "in vain until the deadline");
        assert!(stage.attempts.load(Relaxed) < 100, "not all the time");
        for waiter in waiters {
            assert!(waiter.await.unwrap().is_err());
        }
        let waiter = {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.acquire(soon(), false).await.map(|lease| lease.number) })
        };
        settle().await;
        drop(lease);
        assert_eq!(waiter.await.unwrap(), Ok(0), "what comes back is had");
        let lease = pool.acquire(soon(), false).await.unwrap();
        lease.open.store(false, Relaxed);
        drop(lease);
        // With none left, each who comes asks.
        let denied = pool.acquire(soon(), false).await.err().unwrap();
        assert_eq!(denied, Denied { error: Cause::Down.into(), is_by_server: true });
        stage.down.store(false, Relaxed);
        assert!(pool.acquire(soon(), false).await.is_ok(), "at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_connection_is_kept() {
        let (stage, pool) = pool(1, 0);
        stage.hold.store(true, Relaxed);
        assert_eq!(cause(&pool).await, Cause::TimedOut);
        stage.go.notify_one();
        settle().await;
        assert_eq!((pool.snapshot().size, pool.snapshot().idle), (1, 1));
        assert!(pool.acquire(soon(), false).await.is_ok());
    }

    /// A load once waited for the connection that it had asked for, which may take as long as `connect_timeout`, while
    /// others came back to the pool and idled.
    #[tokio::test(start_paused = true)]
    async fn what_comes_back_is_taken_before_what_is_being_opened() {
        let (stage, pool) = pool(2, 0);
        let lease = pool.acquire(soon(), false).await.unwrap();
        stage.hold.store(true, Relaxed);
        let waiter = |fresh| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.acquire(soon(), fresh).await.map(|lease| lease.number) })
        };
        let any = waiter(false);
        settle().await;
        assert_eq!(stage.attempts.load(Relaxed), 2, "it is being opened");
        drop(lease);
        assert_eq!(any.await.unwrap(), Ok(0));
        stage.go.notify_one();
        settle().await;
        assert_eq!((pool.snapshot().size, pool.snapshot().idle), (2, 2), "the other is kept for the next");
        // Who does not believe in those that are there waits for a new one.
        let lease = pool.acquire(soon(), false).await.unwrap();
        let fresh = waiter(true);
        settle().await;
        drop(lease);
        settle().await;
        assert!(!fresh.is_finished());
        stage.go.notify_one();
        assert_eq!(fresh.await.unwrap(), Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_is_bounded() {
        let (stage, pool) = pool(1, 0);
        stage.hold.store(true, Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(pool.acquire(deadline, false).await.err().map(|denied| denied.error.cause), Some(Cause::Down));
        assert_eq!(pool.snapshot().connect_errors, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_keeps_its_slot_until_it_is_retired() {
        let (stage, pool) = pool(1, 0);
        let mut lease = pool.acquire(soon(), false).await.unwrap();
        lease.quiet = false;
        drop(lease);
        assert_eq!(cause(&pool).await, Cause::TimedOut);
        assert_eq!(pool.snapshot().size, 1);
        stage.go.notify_one();
        settle().await;
        assert_eq!((stage.retired.load(Relaxed), pool.snapshot().size), (1, 0));
        assert_eq!(pool.acquire(soon(), false).await.unwrap().number, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn closes_idle_connections_down_to_min() {
        let (_, pool) = pool(4, 1);
        let leases = [
            pool.acquire(soon(), false).await.unwrap(),
            pool.acquire(soon(), false).await.unwrap(),
            pool.acquire(soon(), false).await.unwrap(),
        ];
        drop(leases);
        assert_eq!(pool.snapshot().idle, 3);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(pool.snapshot().idle, 1);
        assert!(!pool.state.lock().reaping);
    }

    #[tokio::test(start_paused = true)]
    async fn warms_to_min() {
        let (stage, pool) = pool(4, 3);
        Arc::clone(&pool).warm(0, 2).await;
        assert_eq!((pool.snapshot().idle, stage.attempts.load(Relaxed)), (1, 1));
        Arc::clone(&pool).warm(1, 2).await;
        assert_eq!((pool.snapshot().idle, stage.attempts.load(Relaxed)), (3, 3));
        Arc::clone(&pool).warm(0, 1).await;
        assert_eq!(stage.attempts.load(Relaxed), 3);
    }

    /// All connections were once opened by one worker: the loads of the others woke it for each query, and were woken by it,
    /// and its core did most of the work of all.
    #[tokio::test]
    async fn each_thread_comes_to_have_connections_of_its_own() {
        let (_, pool) = pool(3, 0);
        let of_thread = |pool: &Arc<Pool<Opener>>| {
            let pool = Arc::clone(pool);
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let lease = pool.acquire(soon(), false).await.unwrap();
                    let home = lease.held.as_ref().unwrap().0.home;
                    drop(lease);
                    settle().await;
                    home == std::thread::current().id()
                })
            });
            thread.join().unwrap()
        };
        drop(pool.acquire(soon(), false).await.unwrap());
        assert!(!of_thread(&pool), "the one that is there serves at once");
        assert_eq!((pool.snapshot().size, pool.snapshot().idle), (2, 2), "and one is opened for the next load");
        let lease = pool.acquire(soon(), false).await.unwrap();
        assert_eq!(lease.held.as_ref().unwrap().0.home, std::thread::current().id());
        assert_eq!(pool.snapshot().size, 2, "who has one needs no more");
    }
}
