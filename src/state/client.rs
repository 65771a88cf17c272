//! Connections as commands see them: what the connection itself keeps ([`Client`]), what others may look at and do
//! to it ([`ClientInfo`]), and the list of all ([`Clients`]). No sockets.

use super::acl::{Acl, Selector, User};
use super::pubsub::{Subject, Subscriptions};
use super::stats::Cell64;
use super::tracking::Tracking;
use super::transaction::{Multi, Watching};
use crate::config::{Config, OutputLimit};
use crate::keyspace::{Ending, Keyspace, Waiter, seen_at};
use crate::protocol::Version;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Waker;

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None are.
    Off,
    /// The reply of the next command is not sent, then On.
    SkipNext,
    /// The reply of this command is not sent, then On.
    Skip,
}

/// What kind of client, as `client-output-buffer-limit` and CLIENT KILL TYPE tell them apart; the number is the
/// class's place in `client-output-buffer-limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary one, MONITOR included.
    Normal = 0,
    /// A subscriber.
    Pubsub = 2,
}

/// Words that CLIENT SETNAME and SETINFO set.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

/// The user of a connection that has not authenticated as another.
pub const DEFAULT_USER: &str = "default";

/// Where a connection comes from, and who serves it.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Its address: `ip:port`, or the path of the Unix socket and `:0`.
    pub addr: String,
    /// The address it connected to, in the same form.
    pub laddr: String,
    /// Its file descriptor.
    pub fd: i32,
    /// It came through the Unix socket.
    pub is_unix: bool,
    /// Index of its worker.
    pub worker: usize,
}

/// Bytes of a connection's own structures, its buffers excepted, about.
const OWN_BYTES: usize = 1024;

/// What every thread may know of a connection, and do to it.
#[derive(Debug)]
pub struct ClientInfo {
    /// Unique in this run; ascending.
    pub id: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// When it connected, in ms since the epoch.
    pub created_at: i64,
    /// When it last sent something.
    pub active_at: AtomicI64,
    /// Its database.
    pub db: AtomicU32,
    /// 2 or 3.
    pub resp: AtomicU8,
    /// The last command's place among all rows of the table, plus 1; 0 before the first.
    pub last_command: AtomicU32,
    /// Bytes received that are not run yet.
    pub query_bytes: AtomicUsize,
    /// Bytes of the buffer that they lie in.
    pub query_capacity: AtomicUsize,
    /// Bytes that wait to be sent.
    pub output_bytes: AtomicUsize,
    /// Pieces in which they lie.
    pub output_chunks: AtomicUsize,
    /// Since when `output_bytes` is past the soft limit of its class (ms since the epoch); 0: it is not.
    pub over_soft_limit_since: AtomicI64,
    /// Bytes received in all.
    pub net_in: Cell64,
    /// Bytes sent in all.
    pub net_out: Cell64,
    /// Commands run.
    pub commands: Cell64,
    /// It is in MONITOR mode.
    pub monitor: AtomicBool,
    /// It waits (for a load, a blocking command).
    pub blocked: AtomicBool,
    /// Commands since MULTI; negative without.
    pub multi: AtomicI64,
    /// Bytes that they take.
    pub multi_bytes: AtomicUsize,
    /// Keys it watches.
    pub watched: AtomicU32,
    /// What it is subscribed to, by [`Subject`].
    pub subscribed: [AtomicU32; 3],
    /// It is closed as soon as its replies are sent.
    pub closing: AtomicBool,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: AtomicBool,
    /// CLIENT CAPA redirect.
    pub capa_redirect: AtomicBool,
    /// CLIENT TRACKING: the connection that is told instead, 0 for this one itself; negative: it is off.
    pub redirect: AtomicI64,
    /// That connection was gone when it was to be told.
    pub redirect_broken: AtomicBool,
    /// CLIENT TRACKING … BCAST.
    pub broadcast: AtomicBool,
    /// It is to be closed.
    pub killed: AtomicBool,
    /// Names.
    pub labels: Mutex<Labels>,
    /// Its user, as it was when it authenticated.
    pub user: Mutex<Arc<User>>,
    has_outbox: AtomicBool,
    outbox: Mutex<Vec<Bytes>>,
    outbox_bytes: AtomicUsize,
    /// The blocking command it waits in.
    waiting: Mutex<Option<Arc<Waiter>>>,
    waker: Mutex<Option<Waker>>,
}

impl ClientInfo {
    /// Closes the connection as soon as it is not running a command.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.end_wait(Ending::Gone);
        self.wake();
    }

    /// A blocking command waits, or none any more.
    pub fn set_waiting(&self, waiter: Option<Arc<Waiter>>) {
        self.blocked.store(waiter.is_some(), Ordering::Relaxed);
        *self.waiting.lock() = waiter;
    }

    /// True if it waits; not any more as soon as it is served.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) && self.waiting.lock().as_ref().is_none_or(|waiter| waiter.waits())
    }

    /// Ends the wait of its blocking command; false if there is none.
    pub fn end_wait(&self, how: Ending) -> bool {
        let waiter = self.waiting.lock().clone();
        waiter.is_some_and(|waiter| waiter.end(how))
    }

    /// Bytes that it takes: its own structures, its unread requests, its unsent replies, its transaction.
    pub fn memory(&self) -> usize {
        let words = {
            let labels = self.labels.lock();
            labels.name.len() + labels.lib_name.len() + labels.lib_ver.len()
        };
        let addresses = self.origin.addr.len() + self.origin.laddr.len();
        let query = self.query_capacity.load(Ordering::Relaxed).max(self.query_bytes.load(Ordering::Relaxed));
        let unsent = self.output_bytes.load(Ordering::Relaxed) + self.outbox_bytes.load(Ordering::Relaxed);
        OWN_BYTES + words + addresses + query + unsent + self.multi_bytes.load(Ordering::Relaxed)
    }

    /// Runs the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// The connection's task tells how to run it.
    pub fn set_waker(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Sends the connection something that is not a reply (MONITOR, pub/sub, invalidations). More than `limit`
    /// bytes waiting (0: no limit) close it instead: then false.
    pub fn push(&self, message: Bytes, limit: usize) -> bool {
        let mut outbox = self.outbox.lock();
        let waiting = self.outbox_bytes.load(Ordering::Relaxed) + message.len();
        if limit > 0 && waiting + self.output_bytes.load(Ordering::Relaxed) > limit {
            drop(outbox);
            self.kill();
            return false;
        }
        self.outbox_bytes.store(waiting, Ordering::Relaxed);
        outbox.push(message);
        // Whoever pushed the first one has woken it.
        let is_first = !self.has_outbox.swap(true, Ordering::Release);
        drop(outbox);
        if is_first {
            self.wake();
        }
        true
    }

    /// What was pushed since the last call.
    #[inline]
    pub fn take_outbox(&self) -> Vec<Bytes> {
        if !self.has_outbox.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut outbox = self.outbox.lock();
        self.has_outbox.store(false, Ordering::Relaxed);
        self.outbox_bytes.store(0, Ordering::Relaxed);
        std::mem::take(&mut *outbox)
    }

    /// True if it comes from this machine: the loopback interface or the Unix socket.
    pub fn is_local(&self) -> bool {
        self.origin.is_unix || ["127.", "[::1]:"].iter().any(|start| self.origin.addr.starts_with(start))
    }

    /// Its protocol.
    pub fn version(&self) -> Version {
        if self.resp.load(Ordering::Relaxed) == 3 { Version::V3 } else { Version::V2 }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        let is_normal = self.subscribed.iter().all(|count| count.load(Ordering::Relaxed) == 0);
        if is_normal { Kind::Normal } else { Kind::Pubsub }
    }

    /// The class whose `client-output-buffer-limit` holds for it. A monitor is sent what it did not ask for one by
    /// one, as a subscriber is, so it gets a subscriber's limits: a slow monitor costs itself, not the server.
    pub fn output_class(&self) -> Kind {
        if self.monitor.load(Ordering::Relaxed) { Kind::Pubsub } else { self.kind() }
    }

    /// True if more bytes wait to be sent than `limit` allows: more than the hard limit, or more than the soft
    /// limit for too long. Notes since when; to be asked after each change of what waits, and now and then.
    pub fn is_over_limit(&self, limit: OutputLimit, now: i64) -> bool {
        let waiting = self.output_bytes.load(Ordering::Relaxed) as u64;
        if limit.hard > 0 && waiting > limit.hard {
            return true;
        }
        if limit.soft == 0 || waiting <= limit.soft {
            self.over_soft_limit_since.store(0, Ordering::Relaxed);
            return false;
        }
        let since = self.over_soft_limit_since.load(Ordering::Relaxed);
        if since == 0 {
            self.over_soft_limit_since.store(now, Ordering::Relaxed);
        }
        since != 0 && now - since > i64::from(limit.soft_seconds) * 1000
    }
}

/// A connection's own state, used by its task alone.
#[derive(Debug)]
pub struct Client {
    /// What others see.
    pub info: Arc<ClientInfo>,
    /// RESP2 or RESP3.
    pub version: Version,
    /// AUTH succeeded, or no password was set when it connected; see [`Client::is_authenticated`].
    pub authenticated: bool,
    /// Its user, as it was when [`Acl::epoch`] was `acl_epoch`.
    pub user: Arc<User>,
    acl_epoch: u64,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// The commands since MULTI.
    pub multi: Option<Box<Multi>>,
    /// What WATCH named.
    pub watching: Option<Box<Watching>>,
    /// What it is subscribed to.
    pub subscriptions: Subscriptions,
    /// CLIENT TRACKING, once it was called.
    pub tracking: Option<Box<Tracking>>,
    db: usize,
}

impl Client {
    /// The database.
    #[inline]
    pub fn db(&self) -> usize {
        self.db
    }

    /// True if it may run commands: it has authenticated, or there is no password (any more).
    #[inline]
    pub fn is_authenticated(&self, acl: &Acl) -> bool {
        self.authenticated || acl.is_open()
    }

    /// True if no user has changed since this connection's was looked up.
    #[inline]
    pub fn knows_user(&self, acl: &Acl) -> bool {
        self.acl_epoch == acl.epoch()
    }

    /// Which state of the users its own is of: [`Acl::epoch`].
    pub fn acl_epoch(&self) -> u64 {
        self.acl_epoch
    }

    /// Makes it a user's, as it was at this epoch.
    pub(super) fn set_user(&mut self, user: Arc<User>, epoch: u64) {
        *self.info.user.lock() = Arc::clone(&user);
        (self.user, self.acl_epoch) = (user, epoch);
    }

    /// True if its user may listen to everything it is subscribed to.
    pub(super) fn may_listen_on(&self) -> bool {
        let subjects = [Subject::Channel, Subject::Pattern, Subject::Shard];
        subjects.iter().all(|subject| {
            let mut names = self.subscriptions.of(*subject).iter();
            names.all(|name| self.user.may_listen(name, *subject == Subject::Pattern))
        })
    }

    /// The time by which it is judged what has expired for it: nothing has if it imports keys, and the server lets it.
    #[inline]
    pub fn seen_at(&self, config: &Config, now: i64) -> i64 {
        seen_at(now, config.limits.import_mode && self.info.import_source.load(Ordering::Relaxed))
    }

    /// True if it is subscribed to something.
    #[inline]
    pub fn is_subscriber(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Begins or ends a transaction.
    pub fn set_multi(&mut self, multi: Option<Box<Multi>>) {
        self.multi = multi;
        self.note_multi();
    }

    /// Lets others see how large the transaction is.
    pub fn note_multi(&self) {
        let (commands, bytes) = match &self.multi {
            Some(multi) => (multi.requests.len() as i64, multi.memory()),
            None => (-1, 0),
        };
        self.info.multi.store(commands, Ordering::Relaxed);
        self.info.multi_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Watches nothing any more.
    pub fn unwatch(&mut self, keyspace: &Keyspace) {
        if let Some(watching) = self.watching.take() {
            watching.end(keyspace);
            self.note_watched();
        }
    }

    /// Lets others see how many keys are watched.
    pub fn note_watched(&self) {
        let count = self.watching.as_ref().map_or(0, |watching| watching.keys.len());
        self.info.watched.store(count as u32, Ordering::Relaxed);
    }

    /// Lets others see how many subscriptions there are.
    pub(super) fn note_subscriptions(&self) {
        for subject in [Subject::Channel, Subject::Pattern, Subject::Shard] {
            let count = self.subscriptions.of(subject).len() as u32;
            self.info.subscribed[subject as usize].store(count, Ordering::Relaxed);
        }
    }

    /// Changes the database.
    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.info.db.store(db as u32, Ordering::Relaxed);
    }

    /// Changes the protocol.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
        self.info.resp.store(if version == Version::V3 { 3 } else { 2 }, Ordering::Relaxed);
    }
}

/// An epoch that has never been: the user is to be looked up before the first command.
const NEVER: u64 = u64::MAX;

/// The default user, as far as it matters until then.
static SOMEBODY: LazyLock<Arc<User>> =
    LazyLock::new(|| Arc::new(User::new(DEFAULT_USER.as_bytes(), Selector::none(0, false))));

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    next_id: AtomicU64,
    list: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections refused because of `maxclients`.
    pub rejected: AtomicU64,
    /// Connections closed because their output buffer was full.
    pub output_limit_hits: AtomicU64,
    /// Connections closed because their query buffer was full.
    pub query_limit_hits: AtomicU64,
    /// Connections closed because of `maxmemory-clients`.
    pub evicted: AtomicU64,
}

impl Clients {
    /// Registers a connection.
    pub fn connect(&self, origin: Origin, authenticated: bool, now: i64) -> Client {
        let user = Arc::clone(&SOMEBODY);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let info = Arc::new(ClientInfo {
            id,
            origin,
            created_at: now,
            active_at: AtomicI64::new(now),
            db: AtomicU32::new(0),
            resp: AtomicU8::new(2),
            last_command: AtomicU32::new(0),
            query_bytes: AtomicUsize::new(0),
            query_capacity: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            output_chunks: AtomicUsize::new(0),
            over_soft_limit_since: AtomicI64::new(0),
            net_in: Cell64::default(),
            net_out: Cell64::default(),
            commands: Cell64::default(),
            monitor: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            multi: AtomicI64::new(-1),
            multi_bytes: AtomicUsize::new(0),
            watched: AtomicU32::new(0),
            subscribed: Default::default(),
            closing: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            import_source: AtomicBool::new(false),
            capa_redirect: AtomicBool::new(false),
            redirect: AtomicI64::new(-1),
            redirect_broken: AtomicBool::new(false),
            broadcast: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            labels: Mutex::default(),
            user: Mutex::new(Arc::clone(&user)),
            has_outbox: AtomicBool::new(false),
            outbox: Mutex::default(),
            outbox_bytes: AtomicUsize::new(0),
            waiting: Mutex::new(None),
            waker: Mutex::new(None),
        });
        self.list.lock().insert(id, Arc::clone(&info));
        Client {
            info,
            version: Version::V2,
            authenticated,
            user,
            acl_epoch: NEVER,
            reply_mode: ReplyMode::On,
            multi: None,
            watching: None,
            subscriptions: Subscriptions::default(),
            tracking: None,
            db: 0,
        }
    }

    /// Forgets a connection.
    pub fn disconnect(&self, id: u64) {
        self.list.lock().remove(&id);
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// True without connections.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// A connection by its id.
    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.list.lock().get(&id).cloned()
    }

    /// All connections, oldest first.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.list.lock().values().cloned().collect()
    }

    /// Forgets the counts, as CONFIG RESETSTAT does.
    pub fn reset_counts(&self) {
        let limits = [&self.output_limit_hits, &self.query_limit_hits, &self.evicted];
        for count in [&self.accepted, &self.rejected].into_iter().chain(limits) {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Closes the connections that take most memory until all take no more than `limit` bytes together. Those with
    /// CLIENT NO-EVICT stay, and count.
    pub fn evict(&self, limit: u64) {
        // What is closed already is as good as gone.
        let alive = self.all().into_iter().filter(|client| !client.killed.load(Ordering::Relaxed));
        let mut sizes: Vec<_> = alive.map(|client| (client.memory() as u64, client)).collect();
        let mut total: u64 = sizes.iter().map(|(size, _)| size).sum();
        if total <= limit {
            return;
        }
        sizes.retain(|(_, client)| !client.no_evict.load(Ordering::Relaxed));
        sizes.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (size, client) in sizes {
            if total <= limit {
                break;
            }
            tracing::info!(client = client.id, bytes = size, "closed: maxmemory-clients");
            self.evicted.fetch_add(1, Ordering::Relaxed);
            client.kill();
            total -= size;
        }
    }

    /// Calls `f` for every connection, without holding the list.
    pub fn each(&self, f: impl FnMut(&Arc<ClientInfo>)) {
        self.all().iter().for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limits_need_time_and_hard_limits_do_not() {
        let client = Clients::default().connect(Origin::default(), true, 0);
        let limit = OutputLimit { hard: 1000, soft: 100, soft_seconds: 2 };
        let over = |bytes, now| {
            client.info.output_bytes.store(bytes, Ordering::Relaxed);
            client.info.is_over_limit(limit, now)
        };
        assert!(!over(1000, 10_000) && over(1001, 10_000));
        assert!(!over(101, 12_000) && over(101, 12_001));
        // Once below, the time starts anew.
        assert!(!over(100, 12_002) && !over(101, 12_003) && !over(1000, 14_003) && over(101, 14_004));
        let none = OutputLimit::default();
        client.info.output_bytes.store(usize::MAX, Ordering::Relaxed);
        assert!(!client.info.is_over_limit(none, i64::MAX));
    }

    #[test]
    fn the_largest_connections_go_first_and_no_evict_stays() {
        let clients = Clients::default();
        let with = |bytes| {
            let client = clients.connect(Origin::default(), true, 0);
            client.info.query_bytes.store(bytes, Ordering::Relaxed);
            client.info
        };
        let [small, large, larger, kept] = [1_000, 50_000, 60_000, 90_000].map(with);
        kept.no_evict.store(true, Ordering::Relaxed);
        let is_killed = |client: &ClientInfo| client.killed.load(Ordering::Relaxed);
        clients.evict(300_000);
        assert!(![&small, &large, &larger, &kept].into_iter().any(|client| is_killed(client)));
        clients.evict(150_000);
        assert!(is_killed(&larger) && !is_killed(&large) && !is_killed(&kept) && !is_killed(&small));
        assert_eq!(clients.evicted.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_pushed_is_bounded() {
        let clients = Clients::default();
        let client = clients.connect(Origin::default(), true, 0);
        assert!(
            client.info.push(Bytes::from_static(b"12345"), 10) && client.info.push(Bytes::from_static(b"12345"), 10)
        );
        assert!(!client.info.killed.load(Ordering::Relaxed));
        assert_eq!(client.info.take_outbox().len(), 2);
        client.info.output_bytes.store(10, Ordering::Relaxed);
        assert!(!client.info.push(Bytes::from_static(b"1"), 10));
        assert!(client.info.killed.load(Ordering::Relaxed));
    }
}
