//! Client-side caching: which connections keep copies of keys, in which way, and telling them that copies are void. It
//! must not know commands, or when a command is done.
//!
//! The keyspace lists who has read what; here is where the words go: to the connection itself in RESP3, or to another
//! one that it names, in RESP2 as messages of a channel. As with channels, words go into outboxes while shards may be
//! locked outside, so nothing here locks a shard while it holds a list.

use super::State;
use super::client::{Client, ClientInfo, Clients, Kind};
use super::message::{Message, encode};
use crate::config::Config;
use crate::keyspace::{Lapse, Prefixes, Tracker};
use crate::protocol::{Reply, Version};
use crate::random;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Of which keys a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TrackingMode {
    /// Of none.
    #[default]
    Off,
    /// Of those that it read.
    All,
    /// Of those that it read right behind CLIENT CACHING YES.
    OptIn,
    /// Of those that it read, but not right behind CLIENT CACHING NO.
    OptOut,
    /// Of all with its prefixes.
    Broadcast,
}

/// What CLIENT TRACKING asked for.
#[derive(Clone, Debug, Default)]
pub struct TrackingOptions {
    /// Of which keys.
    pub mode: TrackingMode,
    /// NOLOOP: not of what it changed itself.
    pub no_loop: bool,
    /// REDIRECT: another connection is told; 0: none.
    pub redirect: u64,
    /// PREFIX.
    pub prefixes: BTreeSet<Box<[u8]>>,
}

/// A connection's own part of its tracking.
#[derive(Debug)]
pub struct Tracking {
    /// What it asked for.
    pub options: TrackingOptions,
    /// CLIENT CACHING was called for the command to come.
    pub caching: bool,
    tracker: Arc<Tracker>,
    /// The shards are to be told of other prefixes: [`State::settle_tracking`].
    is_unheard: bool,
}

impl Tracking {
    /// True if it is told of changes of what it reads now.
    fn is_listed(&self) -> bool {
        match self.options.mode {
            TrackingMode::Off | TrackingMode::Broadcast => false,
            TrackingMode::All => true,
            TrackingMode::OptIn => self.caching,
            TrackingMode::OptOut => !self.caching,
        }
    }
}

impl Client {
    /// Who is to be noted for the keys that are read now, and whether for their changes too ([`View::track`]); None if
    /// the connection keeps no copies.
    ///
    /// [`View::track`]: crate::keyspace::View::track
    #[inline]
    pub fn tracker(&self) -> Option<(&Arc<Tracker>, bool)> {
        let tracking = self.tracking.as_ref()?;
        let is_listed = tracking.is_listed();
        let keeps = is_listed || tracking.options.mode == TrackingMode::Broadcast;
        keeps.then_some((&tracking.tracker, is_listed))
    }

    /// What CLIENT TRACKING asked for, unless it is off.
    pub fn tracking_options(&self) -> Option<&TrackingOptions> {
        self.tracking.as_ref().map(|tracking| &tracking.options).filter(|options| options.mode != TrackingMode::Off)
    }
}

/// A connection that is told.
#[derive(Debug)]
struct Listener {
    info: Arc<ClientInfo>,
    redirect: u64,
    no_loop: bool,
}

/// Who listens to which prefix, by the connections' numbers.
#[derive(Debug, Default)]
struct Broadcasts {
    by_prefix: BTreeMap<Box<[u8]>, BTreeMap<u64, Arc<Listener>>>,
    /// The prefixes, as the shards are to know them.
    prefixes: Arc<Prefixes>,
}

/// The connections that are told.
#[derive(Debug, Default)]
pub struct Trackings {
    listeners: RwLock<HashMap<u64, Arc<Listener>>>,
    broadcasts: RwLock<Broadcasts>,
    /// One at a time tells the shards of the prefixes, so that the last word is the newest.
    settling: Mutex<()>,
}

impl Trackings {
    /// Connections that keep copies.
    pub fn clients(&self) -> usize {
        self.listeners.read().len()
    }

    /// Prefixes that somebody listens to.
    pub fn prefixes(&self) -> usize {
        self.broadcasts.read().by_prefix.len()
    }

    /// A connection listens in another way, or no more. There is no moment in which it does not listen.
    fn replace(&self, info: &Arc<ClientInfo>, before: &TrackingOptions, options: &TrackingOptions) {
        let mut listeners = self.listeners.write();
        if options.mode == TrackingMode::Off {
            listeners.remove(&info.id);
        } else {
            let (redirect, no_loop) = (options.redirect, options.no_loop);
            listeners.insert(info.id, Arc::new(Listener { info: Arc::clone(info), redirect, no_loop }));
        }
        if before.prefixes.is_empty() && options.prefixes.is_empty() {
            return;
        }
        let mut broadcasts = self.broadcasts.write();
        let by_prefix = &mut broadcasts.by_prefix;
        for prefix in before.prefixes.difference(&options.prefixes) {
            if let Some(listeners) = by_prefix.get_mut(prefix) {
                listeners.remove(&info.id);
                if listeners.is_empty() {
                    by_prefix.remove(prefix);
                }
            }
        }
        for prefix in &options.prefixes {
            if let Some(listener) = listeners.get(&info.id) {
                by_prefix.entry(prefix.clone()).or_default().insert(info.id, Arc::clone(listener));
            }
        }
        broadcasts.prefixes = Arc::new(Prefixes::new(broadcasts.by_prefix.keys().map(|prefix| &**prefix)));
    }
}

/// The channel of those who are told in RESP2.
const CHANNEL: &str = "__redis__:invalidate";

/// What is told of these keys; None: of all.
fn word(keys: Option<&[&[u8]]>) -> Message<impl Fn(&mut Reply<'_>, Version)> {
    Message::new(move |reply: &mut Reply<'_>, version| {
        if version == Version::V3 {
            reply.push(2);
            reply.text("invalidate");
        } else {
            reply.push(3);
            reply.text("message");
            reply.text(CHANNEL);
        }
        match keys {
            Some(keys) => {
                reply.array(keys.len());
                keys.iter().for_each(|key| reply.bulk(key));
            }
            None => reply.null(),
        }
    })
}

/// One telling: whom to find, and what they may be sent.
struct Telling<'a> {
    clients: &'a Clients,
    config: &'a Config,
    /// Whose command it was.
    by: Option<u64>,
    /// Connections that were closed, because too much waits for them.
    closed: usize,
}

impl Telling<'_> {
    fn tell(&mut self, listener: &Listener, word: &mut Message<impl Fn(&mut Reply<'_>, Version)>) {
        let origin = &listener.info;
        if listener.redirect == 0 {
            if origin.version() == Version::V3 {
                self.push(origin, word.encoded(Version::V3));
            }
            return;
        }
        let Some(target) = self.clients.get(listener.redirect) else {
            origin.redirect_broken.store(true, Ordering::Relaxed);
            if origin.version() == Version::V3 {
                self.push(origin, broken(listener.redirect));
            }
            return;
        };
        if target.version() == Version::V3 {
            self.push(&target, word.encoded(Version::V3));
        } else if target.kind() == Kind::Pubsub {
            // Nothing but a subscriber can be sent in RESP2 what it did not ask for.
            self.push(&target, word.encoded(Version::V2));
        }
    }

    fn push(&mut self, client: &ClientInfo, message: Bytes) {
        let limit = self.config.output_limits[client.output_class() as usize].hard as usize;
        self.closed += usize::from(!client.push(message, limit));
    }

    fn is_own(&self, listener: &Listener, lapse: &Lapse) -> bool {
        listener.no_loop && self.by == Some(listener.info.id) && !lapse.is_unasked
    }
}

/// What a connection is told whose redirection leads nowhere.
fn broken(redirect: u64) -> Bytes {
    encode(Version::V3, |reply| {
        reply.push(2);
        reply.text("tracking-redir-broken");
        reply.integer(redirect as i64);
    })
}

impl State {
    /// CLIENT TRACKING, RESET, or the end of a connection. [`State::settle_tracking`] has to follow.
    pub fn set_tracking(&self, client: &mut Client, options: TrackingOptions) {
        let info = &client.info;
        let is_on = options.mode != TrackingMode::Off;
        let tracking = match &mut client.tracking {
            Some(tracking) => tracking,
            None if !is_on => return,
            none => none.insert(Box::new(Tracking {
                options: TrackingOptions::default(),
                caching: false,
                tracker: Arc::new(Tracker::new(info.id)),
                is_unheard: false,
            })),
        };
        let before = std::mem::replace(&mut tracking.options, options);
        let options = &tracking.options;
        self.trackings.replace(info, &before, options);
        if (before.mode == TrackingMode::Broadcast) != (options.mode == TrackingMode::Broadcast) {
            // What it read in the other way is forgotten.
            tracking.tracker.set(false);
            tracking.tracker = Arc::new(Tracker::new(info.id));
        }
        tracking.tracker.set(is_on);
        tracking.caching = false;
        tracking.is_unheard |= before.prefixes != options.prefixes;
        self.keyspace.set_trackers(self.trackings.clients());
        info.redirect.store(if is_on { options.redirect as i64 } else { -1 }, Ordering::Relaxed);
        info.broadcast.store(options.mode == TrackingMode::Broadcast, Ordering::Relaxed);
        info.redirect_broken.store(false, Ordering::Relaxed);
    }

    /// Lets the shards know of other prefixes, if the connection has changed them. To be called with no shard locked.
    pub fn settle_tracking(&self, client: &mut Client) {
        let Some(tracking) = &mut client.tracking else { return };
        if std::mem::take(&mut tracking.is_unheard) {
            let _settling = self.trackings.settling.lock();
            let prefixes = Arc::clone(&self.trackings.broadcasts.read().prefixes);
            self.keyspace.set_prefixes(&Some(prefixes).filter(|prefixes| !prefixes.is_empty()));
        }
    }

    /// Tells of copies that are void. `by`: the connection whose command it was.
    pub(super) fn tell_lapses(&self, config: &Config, by: Option<u64>, lapses: &[Lapse]) {
        if lapses.is_empty() {
            return;
        }
        let mut telling = Telling { clients: &self.clients, config, by, closed: 0 };
        let (listeners, mut all) = (self.trackings.listeners.read(), word(None));
        for lapse in lapses {
            match &lapse.key {
                None => listeners.values().for_each(|listener| telling.tell(listener, &mut all)),
                Some(key) => {
                    let keys = [&**key];
                    let mut word = word(Some(&keys));
                    let told = lapse.trackers().iter().filter(|tracker| tracker.is_on());
                    for listener in told.filter_map(|tracker| listeners.get(&tracker.id())) {
                        if !telling.is_own(listener, lapse) {
                            telling.tell(listener, &mut word);
                        }
                    }
                }
            }
        }
        drop(listeners);
        self.broadcast(&mut telling, lapses);
        self.count_closed(telling.closed);
    }

    /// Tells those who listen to prefixes: each prefix's keys at once, in their order.
    fn broadcast(&self, telling: &mut Telling<'_>, lapses: &[Lapse]) {
        let broadcasts = self.trackings.broadcasts.read();
        let Broadcasts { by_prefix, prefixes } = &*broadcasts;
        let mut keys: BTreeMap<&[u8], BTreeMap<&[u8], &Lapse>> = BTreeMap::new();
        for lapse in lapses.iter().filter(|lapse| lapse.is_change) {
            let Some(key) = &lapse.key else { continue };
            for prefix in prefixes.of(key) {
                keys.entry(prefix).or_default().insert(key, lapse);
            }
        }
        for (prefix, lapses) in keys {
            let changed: Vec<&[u8]> = lapses.keys().copied().collect();
            let mut all = word(Some(&changed));
            for listener in by_prefix.get(prefix).into_iter().flat_map(BTreeMap::values) {
                if !lapses.values().any(|lapse| telling.is_own(listener, lapse)) {
                    telling.tell(listener, &mut all);
                    continue;
                }
                let others = lapses.iter().filter(|(_, lapse)| !telling.is_own(listener, lapse));
                let others: Vec<&[u8]> = others.map(|(key, _)| *key).collect();
                if !others.is_empty() {
                    telling.tell(listener, &mut word(Some(&others)));
                }
            }
        }
    }

    /// Tells those who listen to prefixes that keys beginning with `head` may have changed, whichever these are: all their
    /// copies are void.
    pub(super) fn broadcast_head(&self, config: &Config, head: &[u8]) {
        let mut telling = Telling { clients: &self.clients, config, by: None, closed: 0 };
        let (mut told, mut all) = (BTreeSet::new(), word(None));
        for (prefix, listeners) in &self.trackings.broadcasts.read().by_prefix {
            if prefix.starts_with(head) || head.starts_with(prefix) {
                let new = listeners.values().filter(|listener| told.insert(listener.info.id));
                new.for_each(|listener| telling.tell(listener, &mut all));
            }
        }
        self.count_closed(telling.closed);
    }

    /// Sees that no more keys are tracked than `tracking-table-max-keys` allows, or does a part of it.
    #[inline]
    pub fn trim_tracking(&self, config: &Config) {
        let limit = config.tracking_table_max_keys;
        if limit > 0 && self.keyspace.tracked() as u64 > limit {
            self.tell(config, None, &self.keyspace.trim_tracked(limit as usize, random::next()));
        }
    }
}
