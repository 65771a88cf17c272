//! Channels and who listens to them. It must not know commands, or where messages come from.
//!
//! A message is put into its subscribers' outboxes under the lock of its channel, so all subscribers of a channel get
//! its messages in one order, and everybody gets those of one publisher in the order in which they were sent. Nothing
//! else is locked inside but outboxes; shards may be locked outside, for notifications are sent under their locks.

use super::client::ClientInfo;
use super::message::Message;
use super::{Client, State};
use crate::config::Config;
use crate::glob;
use crate::keyspace::{Event, News, Note};
use crate::protocol::{Reply, Version};
use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A channel.
    Channel = 0,
    /// All channels whose names match a pattern.
    Pattern = 1,
    /// A shard channel.
    Shard = 2,
}

/// The subscriptions of one connection, by [`Subject`].
#[derive(Debug, Default)]
pub struct Subscriptions([BTreeSet<Box<[u8]>>; 3]);

impl Subscriptions {
    /// What it is subscribed to.
    pub fn of(&self, subject: Subject) -> &BTreeSet<Box<[u8]>> {
        &self.0[subject as usize]
    }

    /// True without any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeSet::is_empty)
    }

    /// How many count together with those of a subject: channels and patterns do.
    pub fn count(&self, subject: Subject) -> usize {
        match subject {
            Subject::Shard => self.0[2].len(),
            Subject::Channel | Subject::Pattern => self.0[0].len() + self.0[1].len(),
        }
    }
}

/// Those who listen to one name, by their ids.
type Listeners = BTreeMap<u64, Arc<ClientInfo>>;

/// Who listens to which name.
type ByName = HashMap<Box<[u8]>, Listeners, RandomState>;

const STRIPES: usize = 64;

/// Channels by name, in parts that are locked by themselves.
#[derive(Debug)]
struct Channels {
    stripes: [Mutex<ByName>; STRIPES],
    hasher: RandomState,
    /// Channels that somebody listens to, to be read without a lock.
    count: AtomicUsize,
}

impl Default for Channels {
    fn default() -> Self {
        let stripes = std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(RandomState::default())));
        Self { stripes, hasher: RandomState::default(), count: AtomicUsize::new(0) }
    }
}

impl Channels {
    fn stripe(&self, name: &[u8]) -> &Mutex<ByName> {
        &self.stripes[self.hasher.hash_one(name) as usize % STRIPES]
    }

    fn add(&self, name: &[u8], client: &Arc<ClientInfo>) {
        let mut stripe = self.stripe(name).lock();
        let listeners = stripe.entry(name.into()).or_default();
        if listeners.is_empty() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        listeners.insert(client.id, Arc::clone(client));
    }

    fn remove(&self, name: &[u8], client: &ClientInfo) {
        let mut stripe = self.stripe(name).lock();
        let Some(listeners) = stripe.get_mut(name) else { return };
        listeners.remove(&client.id);
        if listeners.is_empty() {
            stripe.remove(name);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn send(&self, name: &[u8], message: &mut Publication<impl Fn(&mut Reply<'_>, Version)>) -> usize {
        if self.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.stripe(name).lock().get(name).map_or(0, |listeners| message.send(listeners))
    }

    /// The names that somebody listens to and that `pattern` matches.
    fn names(&self, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let mut names = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            let live = stripe.iter().filter(|(_, listeners)| live(listeners) > 0);
            names.extend(
                live.filter(|(name, _)| pattern.is_none_or(|p| glob::matches(p, name, false))).map(|(n, _)| n.clone()),
            );
        }
        names
    }

    fn listeners(&self, name: &[u8]) -> usize {
        self.stripe(name).lock().get(name).map_or(0, live)
    }

    /// Adds the listeners of which `is_meant` is true to `found`.
    fn find(&self, is_meant: impl Fn(&[u8], &ClientInfo) -> bool, found: &mut Vec<Arc<ClientInfo>>) {
        for stripe in &self.stripes {
            for (name, listeners) in &*stripe.lock() {
                found.extend(listeners.values().filter(|client| is_meant(name, client)).cloned());
            }
        }
    }
}

/// Listeners that are not about to be closed.
fn live(listeners: &Listeners) -> usize {
    listeners.values().filter(|client| !client.killed.load(Ordering::Acquire)).count()
}

/// A message on its way to subscribers.
struct Publication<W> {
    message: Message<W>,
    /// Unsent bytes of one subscriber, at most; 0: no limit.
    limit: usize,
    /// Subscribers that were closed because of it.
    closed: usize,
}

/// A message of these words.
fn publication(words: &[&[u8]], limit: usize) -> Publication<impl Fn(&mut Reply<'_>, Version)> {
    let write = |reply: &mut Reply<'_>, _| {
        reply.push(words.len());
        words.iter().for_each(|word| reply.bulk(word));
    };
    Publication { message: Message::new(write), limit, closed: 0 }
}

impl<W: Fn(&mut Reply<'_>, Version)> Publication<W> {
    /// Sends it to all of them; returns how many there are.
    fn send(&mut self, listeners: &Listeners) -> usize {
        let mut sent = 0;
        for client in listeners.values().filter(|client| !client.killed.load(Ordering::Acquire)) {
            if !client.push(self.message.encoded(client.version()), self.limit) {
                self.closed += 1;
            }
            sent += 1;
        }
        sent
    }
}

/// All channels.
#[derive(Debug, Default)]
pub struct PubSub {
    channels: Channels,
    shard_channels: Channels,
    patterns: RwLock<BTreeMap<Box<[u8]>, Listeners>>,
    /// Length of `patterns`, to be read without the lock.
    pattern_count: AtomicUsize,
}

impl PubSub {
    /// Subscribes a connection; false if it was already.
    pub fn subscribe(&self, client: &mut Client, subject: Subject, name: &[u8]) -> bool {
        if !client.subscriptions.0[subject as usize].insert(name.into()) {
            return false;
        }
        client.note_subscriptions();
        match subject {
            Subject::Channel => self.channels.add(name, &client.info),
            Subject::Shard => self.shard_channels.add(name, &client.info),
            Subject::Pattern => {
                let mut patterns = self.patterns.write();
                patterns.entry(name.into()).or_default().insert(client.info.id, Arc::clone(&client.info));
                self.pattern_count.store(patterns.len(), Ordering::Relaxed);
            }
        }
        true
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, client: &mut Client, subject: Subject, name: &[u8]) {
        if client.subscriptions.0[subject as usize].remove(name) {
            self.forget(&client.info, subject, name);
            client.note_subscriptions();
        }
    }

    /// Ends all subscriptions of a connection.
    pub fn leave(&self, client: &mut Client) {
        for subject in [Subject::Channel, Subject::Pattern, Subject::Shard] {
            for name in std::mem::take(&mut client.subscriptions.0[subject as usize]) {
                self.forget(&client.info, subject, &name);
            }
        }
        client.note_subscriptions();
    }

    fn forget(&self, client: &ClientInfo, subject: Subject, name: &[u8]) {
        match subject {
            Subject::Channel => self.channels.remove(name, client),
            Subject::Shard => self.shard_channels.remove(name, client),
            Subject::Pattern => {
                let mut patterns = self.patterns.write();
                if let Some(listeners) = patterns.get_mut(name) {
                    listeners.remove(&client.id);
                    if listeners.is_empty() {
                        patterns.remove(name);
                    }
                }
                self.pattern_count.store(patterns.len(), Ordering::Relaxed);
            }
        }
    }

    /// True if nobody listens to any channel, shard channels aside.
    fn is_quiet(&self) -> bool {
        self.channels.count.load(Ordering::Relaxed) == 0 && self.pattern_count.load(Ordering::Relaxed) == 0
    }

    /// Sends a message; returns how many got it, and how many were closed because more than `limit` bytes waited.
    fn publish(&self, channel: &[u8], text: &[u8], limit: usize) -> (usize, usize) {
        if self.is_quiet() {
            return (0, 0);
        }
        let words: [&[u8]; 3] = [b"message", channel, text];
        let mut message = publication(&words, limit);
        let mut sent = self.channels.send(channel, &mut message);
        let mut closed = message.closed;
        if self.pattern_count.load(Ordering::Relaxed) > 0 {
            for (pattern, listeners) in &*self.patterns.read() {
                if glob::matches(pattern, channel, false) {
                    let words: [&[u8]; 4] = [b"pmessage", pattern, channel, text];
                    let mut message = publication(&words, limit);
                    sent += message.send(listeners);
                    closed += message.closed;
                }
            }
        }
        (sent, closed)
    }

    /// Channels that somebody listens to and that `pattern` matches, in any order.
    pub fn names(&self, is_shard: bool, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        self.by_kind(is_shard).names(pattern)
    }

    /// How many listen to a channel.
    pub fn listeners(&self, is_shard: bool, name: &[u8]) -> usize {
        self.by_kind(is_shard).listeners(name)
    }

    /// The connections that listen to something of which `is_meant` is true; some may be there twice.
    pub fn listeners_that(&self, is_meant: impl Fn(Subject, &[u8], &ClientInfo) -> bool) -> Vec<Arc<ClientInfo>> {
        let mut found = Vec::new();
        self.channels.find(|name, client| is_meant(Subject::Channel, name, client), &mut found);
        self.shard_channels.find(|name, client| is_meant(Subject::Shard, name, client), &mut found);
        for (name, listeners) in &*self.patterns.read() {
            found.extend(listeners.values().filter(|client| is_meant(Subject::Pattern, name, client)).cloned());
        }
        found
    }

    fn by_kind(&self, is_shard: bool) -> &Channels {
        if is_shard { &self.shard_channels } else { &self.channels }
    }

    /// Channels, patterns and shard channels that somebody listens to.
    pub fn counts(&self) -> [usize; 3] {
        [&self.channels.count, &self.pattern_count, &self.shard_channels.count].map(|n| n.load(Ordering::Relaxed))
    }
}

/// Unsent bytes of a subscriber or a monitor, at most; 0: no limit.
pub fn pubsub_limit(config: &Config) -> usize {
    config.output_limits[super::Kind::Pubsub as usize].hard as usize
}

impl State {
    /// Sends a message to all who listen to a channel, or a pattern that matches it; returns how many.
    pub fn publish(&self, channel: &[u8], text: &[u8], limit: usize) -> usize {
        let (sent, closed) = self.pubsub.publish(channel, text, limit);
        self.count_closed(closed);
        sent
    }

    /// Sends a message to all who listen to a shard channel; returns how many.
    pub fn publish_to_shard(&self, channel: &[u8], text: &[u8], limit: usize) -> usize {
        let words: [&[u8]; 3] = [b"smessage", channel, text];
        let mut message = publication(&words, limit);
        let sent = self.pubsub.shard_channels.send(channel, &mut message);
        self.count_closed(message.closed);
        sent
    }

    pub(super) fn count_closed(&self, closed: usize) {
        if closed > 0 {
            tracing::warn!("closed {closed} subscribers: more unsent messages than client-output-buffer-limit");
            self.clients.output_limit_hits.fetch_add(closed as u64, Ordering::Relaxed);
        }
    }

    /// Tells what happened: of copies that are void, and of changes of keys as `notify-keyspace-events` says. To be called
    /// with the keys' shards locked: so the messages on a key come in the order of its changes. `by`: the connection whose
    /// command it was.
    pub fn tell(&self, config: &Config, by: Option<u64>, news: &News) {
        self.tell_lapses(config, by, &news.lapses);
        let notes = &news.notes;
        if notes.is_empty() || self.pubsub.is_quiet() {
            return;
        }
        let (by_key, by_event) = scopes(config);
        let limit = pubsub_limit(config);
        for Note { event, db, key, .. } in notes {
            if by_key {
                let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
                self.publish(&channel, event.name.as_bytes(), limit);
            }
            if by_event {
                let channel = format!("__keyevent@{db}__:{}", event.name);
                self.publish(channel.as_bytes(), key, limit);
            }
        }
    }

    /// Listens to the classes of events that `notify-keyspace-events` names, from now on.
    pub fn listen(&self, config: &Config) {
        self.keyspace.listen(listened(config));
    }
}

/// Whether changes are told by key, and by event.
fn scopes(config: &Config) -> (bool, bool) {
    let letters = &config.notify_keyspace_events;
    (letters.contains('K'), letters.contains('E'))
}

/// The letters that `A` stands for.
const ALL: &str = "g$lshzxetd";

/// The classes of events that are to be told.
fn listened(config: &Config) -> u32 {
    if scopes(config) == (false, false) {
        return 0;
    }
    let letters = &config.notify_keyspace_events;
    let is_on = |letter: char| letters.contains(letter) || letters.contains('A') && ALL.contains(letter);
    let on = Event::CLASSES.iter().filter(|(letter, _)| is_on(char::from(*letter)));
    on.fold(0, |classes, (_, class)| classes | class)
}

#[cfg(test)]
mod tests {
    use super::super::{Clients, Origin};
    use super::*;
    use crate::keyspace::class;

    fn client(clients: &Clients, version: Version) -> Client {
        let mut client = clients.connect(Origin::default(), true, 0);
        client.set_version(version);
        client
    }

    #[test]
    fn messages_reach_channels_and_patterns_in_both_protocols() {
        let (pubsub, clients) = (PubSub::default(), Clients::default());
        let (mut a, mut b) = (client(&clients, Version::V2), client(&clients, Version::V3));
        assert_eq!(pubsub.publish(b"news", b"x", 0), (0, 0));
        assert!(pubsub.subscribe(&mut a, Subject::Channel, b"news"));
        assert!(!pubsub.subscribe(&mut a, Subject::Channel, b"news"));
        pubsub.subscribe(&mut b, Subject::Pattern, b"n*");
        pubsub.subscribe(&mut b, Subject::Channel, b"news");
        assert_eq!(pubsub.publish(b"news", b"x", 0), (3, 0));
        assert_eq!(pubsub.publish(b"nothing", b"y", 0), (1, 0));
        assert_eq!(a.info.take_outbox().concat(), b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n");
        let got = b.info.take_outbox();
        assert_eq!(got[0], b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"[..]);
        assert_eq!(got[1], b">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$1\r\nx\r\n"[..]);
        assert_eq!((got.len(), pubsub.counts()), (3, [1, 1, 0]));
        pubsub.unsubscribe(&mut a, Subject::Channel, b"news");
        pubsub.leave(&mut b);
        assert_eq!((pubsub.counts(), pubsub.publish(b"news", b"x", 0)), ([0, 0, 0], (0, 0)));
        assert!(a.subscriptions.is_empty() && b.subscriptions.is_empty());
    }

    #[test]
    fn a_slow_subscriber_is_closed_and_counts_no_more() {
        let (pubsub, clients) = (PubSub::default(), Clients::default());
        let mut slow = client(&clients, Version::V2);
        pubsub.subscribe(&mut slow, Subject::Channel, b"c");
        assert_eq!(pubsub.publish(b"c", &[b'x'; 50], 100), (1, 0));
        assert_eq!(pubsub.publish(b"c", &[b'x'; 50], 100), (1, 1));
        assert_eq!(pubsub.publish(b"c", b"x", 100), (0, 0));
        assert_eq!((pubsub.listeners(false, b"c"), pubsub.names(false, None).len()), (0, 0));
    }

    #[test]
    fn letters_name_classes() {
        let classes = |letters| listened(&Config::default().with(&[("notify-keyspace-events", letters)]).unwrap());
        assert_eq!((classes(""), classes("A"), classes("K"), classes("xm")), (0, 0, 0, 0));
        assert_eq!(classes("Kx"), class::EXPIRED);
        assert_eq!(classes("Em$"), class::MISS | class::STRING);
        let all = classes("KEA");
        assert!(all & class::MODULE != 0 && all & (class::MISS | class::NEW | class::OVERWRITTEN) == 0);
    }
}
