//! Read-through: which keys of a command are to be loaded, who waits for them, and what happens to what was loaded.
//! Knows the keyspace's flights and the sources' routes; no sockets, and nothing of how a source loads.
//!
//! A command that missed a routed key joins the key's flight, or starts one, while the key's shard is still locked:
//! so a change of the key either comes before the flight, or voids its lease. Then its connection alone waits. What is
//! stale but may be served is answered at once, and loaded anew with nobody waiting.

use crate::clock;
use crate::commands;
use crate::config::{Limits, MaxmemoryPolicy};
use crate::keyspace::{self, Flight, Found, Landed, Landing, Loaded, NewValue, Shard, Standing, View};
use crate::protocol::SHARE_AT;
use crate::random;
use crate::source::{self, Answer, Captures, Elements, Route, Sources, Wish};
use crate::state::{self, State};
use crate::types::{Collection, Hash, List, Object, Set, Zset};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A load ends by its own deadline; who waits for it gives it so much more, to get its error rather than another.
const GRACE: Duration = Duration::from_millis(250);
/// How long a client that may get a stale value waits for a fresh one.
const STALE_PATIENCE: Duration = Duration::from_millis(100);

/// How often a command that changes part of a value waits for it, at most: each time the value was gone again before
/// the command could run.
const MAX_ROUNDS: u32 = 3;
/// Loads under way, at most: an MGET may name a million keys. The sources bound what waits for them further.
const MAX_LOADS: u64 = 16_384;
/// Commands that wait for one load, at most.
const MAX_WAITERS: usize = 100_000;
/// Keys that are looked for ahead of one connection's commands, at most.
const MAX_AHEAD: usize = 1024;

/// What a command waits for before it can run again.
#[derive(Debug)]
pub struct Fill {
    /// For each key, what an earlier wait found: nobody waits for it again.
    found: Vec<Option<Found>>,
    /// How often the command will have waited.
    round: u32,
    /// The error line that answers the command without waiting.
    refusal: Option<Arc<str>>,
    flights: Vec<Awaited>,
    /// How long the client waits, at most.
    patience: Duration,
    /// Names the route in errors.
    route: Arc<str>,
}

/// A key that is being loaded.
#[derive(Debug)]
struct Awaited {
    /// Its position among the command's keys.
    key: usize,
    interest: Interest,
    /// What is there may be served if the load fails.
    may_be_stale: bool,
}

/// What a command waited for.
#[derive(Debug)]
pub struct Filled {
    /// What was found for each key of the command (empty: it did not wait), or the error line that answers it.
    pub(super) loaded: Result<Vec<Option<Found>>, Arc<str>>,
    /// Keys whose load failed, and which are served as they are, unless they are gone: then this is the answer.
    pub(super) stale: Vec<(usize, Arc<str>)>,
    /// How often it has waited.
    pub(super) round: u32,
}

impl Default for Filled {
    fn default() -> Self {
        Self { loaded: Ok(Vec::new()), stale: Vec::new(), round: 0 }
    }
}

/// Somebody's interest in a flight. The last one to lose it lets the source know.
pub struct Interest {
    sources: Arc<Sources>,
    route: Arc<Route>,
    flight: Arc<Flight>,
}

impl Interest {
    /// To be made with the key's shard locked.
    fn new(sources: &Arc<Sources>, route: &Arc<Route>, flight: &Arc<Flight>) -> Self {
        flight.enter();
        Self { sources: Arc::clone(sources), route: Arc::clone(route), flight: Arc::clone(flight) }
    }

    /// The load goes on whoever leaves: what it brings is wanted in the cache.
    fn persist(&self) {
        self.flight.enter();
    }

    /// True once the load has ended.
    pub fn is_over(&self) -> bool {
        self.flight.is_over()
    }
}

impl std::fmt::Debug for Interest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interest").field("route", &self.route.name).field("flight", &self.flight).finish()
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.flight.leave() && !self.flight.is_over() {
            self.sources.left(&self.route);
        }
    }
}

/// A routed key.
struct Routed<'a> {
    sources: &'a Arc<Sources>,
    route: &'a Arc<Route>,
    captures: Captures,
    db: usize,
    hash: keyspace::Hash,
    key: &'a [u8],
}

impl Routed<'_> {
    /// Joins the key's flight or starts one, with its shard locked; `is_refresh`: what is cached is served meanwhile. True
    /// if it is a new one.
    fn join(&self, state: &Arc<State>, shard: &mut Shard, now: i64, is_refresh: bool) -> (Interest, bool) {
        let until = now + (self.route.load_timeout + GRACE).as_millis() as i64;
        let (flight, is_new) = shard.join_flight((self.db, self.hash, self.key), &self.route.terms, now, until);
        let interest = Interest::new(self.sources, self.route, &flight);
        if is_new {
            state.fills.loading.fetch_add(1, Ordering::Relaxed);
            let key = Bytes::copy_from_slice(self.key);
            let load = Load {
                state: Arc::clone(state),
                db: self.db,
                hash: self.hash,
                key: key.clone(),
                route: Arc::clone(self.route),
                flight,
                started: clock::monotonic_ns(),
                is_refresh,
            };
            self.sources.load(self.route, self.captures.params(key), Box::new(load));
        }
        (interest, is_new)
    }
}

impl Fill {
    /// Joins or starts the flights of all keys of a command that are routed and unknown or stale; None if there are none
    /// to wait for. The view's shards are locked; the command has waited `round` times. `reads`: it only reads, so
    /// that what is stale may do. Its keys in `overwritten` are of no interest to it; one whose load has just found
    /// nothing is not waited for again.
    pub(super) fn begin(
        state: &Arc<State>,
        view: &mut View<'_, '_>,
        round: u32,
        reads: bool,
        overwritten: &Range<usize>,
    ) -> Option<Self> {
        let mut fill: Option<Self> = None;
        let guard = state.sources.load();
        let (sources, now, db) = (&*guard, view.now(), view.db());
        for key in 0..view.len() {
            let standing = view.standing(key);
            let is_known = match standing {
                Some(Standing::Fresh) => true,
                // What is stale may be read, but not changed into something that looks new.
                Some(Standing::Paused) => reads,
                // What a reading command was given is its answer, even if it is gone by now.
                _ => view.is_absent(key) || reads && view.loaded(key).is_some(),
            };
            if is_known || view.was_absent(key) || overwritten.contains(&key) {
                continue;
            }
            let Some((route, captures)) = sources.find(db as u32, view.key(key)) else {
                if standing == Some(Standing::Over) {
                    // Nobody will load it anew, and it must not be served.
                    view.remove(key);
                }
                continue;
            };
            let routed = Routed { sources, route, captures, db, hash: view.hash(key), key: view.key(key) };
            if let Some(Standing::Due | Standing::Stale) = standing
                && (reads || standing == Some(Standing::Due))
            {
                if standing == Some(Standing::Stale) || state.fills.may_refresh() {
                    let (interest, is_new) = routed.join(state, view.shard(key), now, true);
                    state.fills.refreshed.fetch_add(u64::from(is_new), Ordering::Relaxed);
                    interest.persist();
                }
                continue;
            }
            let patience = route.load_timeout + GRACE;
            let waited_for = fill.get_or_insert_with(|| {
                state.fills.waits.fetch_add(1, Ordering::Relaxed);
                let (round, name) = (round + 1, route.name.as_ref().into());
                let found = (0..view.len()).map(|key| view.loaded(key).filter(|_| reads).cloned()).collect();
                Self { found, round, refusal: None, flights: Vec::new(), patience, route: name }
            });
            waited_for.patience = waited_for.patience.max(patience);
            waited_for.refusal = refusal(state, route, view.loaded(key), round);
            if waited_for.refusal.is_some() {
                break;
            }
            route.stats.wait();
            let may_be_stale = reads && standing == Some(Standing::Fallback);
            let (interest, is_new) = routed.join(state, view.shard(key), now, false);
            if may_be_stale {
                interest.persist();
            }
            if is_new {
                state.fills.note_wanted();
            } else {
                state.fills.joined.fetch_add(1, Ordering::Relaxed);
            }
            if interest.flight.wanted() > MAX_WAITERS {
                let text = format!("TRYAGAIN route '{}': too many wait for this key", route.name);
                waited_for.refusal = Some(text.into());
                break;
            }
            waited_for.flights.push(Awaited { key, interest, may_be_stale });
        }
        fill
    }

    /// Waits for all flights, in any order, but no longer than the patience.
    pub async fn wait(self) -> Filled {
        let round = self.round;
        if let Some(line) = self.refusal {
            return Filled { loaded: Err(line), stale: Vec::new(), round };
        }
        let mut stale = Vec::new();
        let all = async {
            let mut loaded = self.found;
            for Awaited { key, interest, may_be_stale } in &self.flights {
                let flight = &interest.flight;
                let result = if *may_be_stale {
                    let late = |_| Err(late(&self.route));
                    tokio::time::timeout(STALE_PATIENCE, flight.wait()).await.unwrap_or_else(late)
                } else {
                    flight.wait().await
                };
                match result {
                    Ok(found) => loaded[*key] = Some(found),
                    Err(line) if *may_be_stale => stale.push((*key, line)),
                    Err(line) => return Err(line),
                }
            }
            Ok(loaded)
        };
        let loaded = tokio::time::timeout(self.patience, all).await.unwrap_or_else(|_| Err(late(&self.route)));
        Filled { loaded, stale, round }
    }
}

fn late(route: &str) -> Arc<str> {
    format!("TRYAGAIN route '{route}': no answer from the source in time").into()
}

/// Starts the load of a key that a later command of the connection will look for, if it is routed and unknown; without
/// waiting, and nothing else: that command decides what to make of it.
pub(super) fn look_ahead(
    state: &Arc<State>,
    db: usize,
    key: &[u8],
    hash: keyspace::Hash,
    now: i64,
    ahead: &mut Vec<Interest>,
) {
    if ahead.len() >= MAX_AHEAD || state.fills.loading.load(Ordering::Relaxed) >= MAX_LOADS {
        return;
    }
    let guard = state.sources.load();
    let Some((route, captures)) = guard.find(db as u32, key) else { return };
    let mut shard = state.keyspace.lock(state.keyspace.shard_of(hash));
    if shard.is_absent(db, hash, key, now) {
        return;
    }
    if shard.find(db, hash, key, now).is_some() {
        let is_due = shard.is_due(now);
        if !is_due || !matches!(shard.standing(db, hash, now), Standing::Fallback | Standing::Over) {
            return;
        }
    }
    let routed = Routed { sources: &guard, route, captures, db, hash, key };
    let (interest, is_new) = routed.join(state, &mut shard, now, false);
    state.fills.ahead.fetch_add(u64::from(is_new), Ordering::Relaxed);
    let garbage = &mut std::mem::take(&mut shard.garbage);
    drop(shard);
    garbage.free();
    ahead.push(interest);
}

/// Why a key is not loaded (again), as the error line for the client. `before` is what the last load brought.
fn refusal(state: &State, route: &Route, before: Option<&Found>, round: u32) -> Option<Arc<str>> {
    if before.is_some_and(|found| never_fits(state, found)) {
        // It would never be kept, and a change needs what it changes.
        return Some(commands::OUT_OF_MEMORY.into());
    }
    let why = match round {
        MAX_ROUNDS.. => "the key keeps changing",
        _ if state.fills.loading.load(Ordering::Relaxed) >= MAX_LOADS => "too many loads are under way",
        _ => return None,
    };
    Some(format!("TRYAGAIN route '{}': {why}", route.name).into())
}

/// One load. Dropped without an answer, it ends the flight, so that nobody waits for nothing.
struct Load {
    state: Arc<State>,
    db: usize,
    hash: keyspace::Hash,
    key: Bytes,
    route: Arc<Route>,
    flight: Arc<Flight>,
    /// By the monotonic clock, in ns.
    started: u64,
    is_refresh: bool,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.fills.loading.fetch_sub(1, Ordering::Relaxed);
        if !self.flight.is_over() {
            self.lock().end_flight(self.hash, &self.flight);
            self.flight.finish(Err(self.given_up()));
        }
    }
}

impl Wish for Load {
    fn grant(self: Box<Self>, answer: Answer) {
        let loaded: Loaded = match answer.result {
            Ok(source::Loaded::Value(text)) => Ok(Found::Text(text)),
            Ok(source::Loaded::Many(elements)) => {
                let object = collect(&elements, &self.state.config.load().limits);
                Ok(Found::Object(Arc::new(object)))
            }
            Ok(source::Loaded::Absent) => Ok(Found::Nothing),
            Err(error) => Err(error.line(&self.route.name).into()),
        };
        self.store(&loaded, answer.snapshot.as_deref());
        self.flight.finish(loaded);
    }

    fn is_wanted(&self) -> bool {
        self.flight.wanted() > 0
    }

    fn is_refresh(&self) -> bool {
        self.is_refresh
    }

    fn give_up(&self) -> bool {
        let mut shard = self.lock();
        // Whoever joins does so with the shard locked.
        let is_alone = self.flight.wanted() == 0;
        if is_alone {
            shard.end_flight(self.hash, &self.flight);
            self.flight.finish(Err(self.given_up()));
        }
        is_alone
    }
}

impl Load {
    fn lock(&self) -> keyspace::ShardGuard<'_> {
        self.state.keyspace.lock(self.state.keyspace.shard_of(self.hash))
    }

    fn compress_threshold(&self) -> usize {
        self.route.compress_threshold.unwrap_or_else(|| self.state.config.load().limits.compress_threshold)
    }

    fn given_up(&self) -> Arc<str> {
        format!("TRYAGAIN route '{}': the load was given up", self.route.name).into()
    }

    fn store(&self, loaded: &Loaded, snapshot: Option<&crate::freshness::Snapshot>) {
        let (state, terms) = (&*self.state, &self.route.terms);
        let now = clock::now_ms();
        // Past its time, what it had to see may have been forgotten.
        let took_us = (clock::monotonic_ns() - self.started) / 1000;
        let is_late = (took_us / 1000) as i64 > terms.horizon.longest_ms();
        let is_fenced = !state.fills.unfenced.load(Ordering::Relaxed);
        let kept = match loaded {
            Ok(found) if !is_late && fits(state, found) => new_value(found, self.compress_threshold()),
            _ => None,
        };
        let is_kept = kept.is_some();
        // Keys are evicted by these bits, as those that clients set are.
        let access = state::access(&state.config.load(), now, random::next() as u32).costing(took_us);
        let mut shard = self.lock();
        let landing = Landing {
            flight: &self.flight,
            db: self.db,
            hash: self.hash,
            key: &self.key,
            terms,
            snapshot,
            took_ms: u32::try_from(took_us / 1000).unwrap_or(u32::MAX),
            is_fenced,
        };
        let landed = match (loaded, kept) {
            (_, Some(value)) => shard.store_loaded(&landing, value, now, access),
            (Ok(Found::Nothing), _) if !is_late => {
                state.fills.absent.fetch_add(1, Ordering::Relaxed);
                shard.store_absent(&landing, now)
            }
            (Ok(_), _) => {
                shard.end_flight(self.hash, &self.flight);
                if is_late { Landed::Voided } else { Landed::Stored }
            }
            (Err(_), _) => {
                shard.fail_load(self.db, self.hash, &self.flight, now, random::next());
                Landed::Stored
            }
        };
        let mut garbage = std::mem::take(&mut shard.garbage);
        drop(shard);
        garbage.free();
        if keyspace::take_stirred() {
            super::block::settle_shard(state, state.keyspace.shard_of(self.hash), now);
        }
        let counter = match (landed, loaded) {
            (Landed::Voided, _) => &state.fills.voided,
            (Landed::Fenced, _) => &state.fills.fenced,
            (Landed::Stored, _) if is_kept => &state.fills.stored,
            (Landed::Stored, Ok(Found::Nothing) | Err(_)) => return,
            (Landed::Stored, Ok(_)) => &state.fills.unkept,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The collection of some elements.
fn collect(elements: &Elements, limits: &Limits) -> Object {
    match elements.kind() {
        source::Kind::Hash => Hash::from_pairs(elements.pairs(), limits).into_object(),
        source::Kind::List => List::of(elements.texts(), limits.list_max_listpack_size).into_object(),
        source::Kind::Set => Set::from_members(elements.texts(), limits).into_object(),
        source::Kind::Zset => {
            let mut set = Zset::default();
            set.expect(elements.len(), elements.texts().map(<[u8]>::len).max().unwrap_or(0), limits);
            for (member, score) in elements.members() {
                set.set(member, score, limits);
            }
            set.into_object()
        }
    }
}

/// What is stored of what was found; strings of `threshold` bytes or more compressed.
fn new_value(found: &Found, threshold: usize) -> Option<NewValue<'_>> {
    let value = match found {
        Found::Nothing => return None,
        Found::Text(text) if text.len() < SHARE_AT => NewValue::of(text),
        Found::Text(text) => NewValue::Shared(text.clone()),
        Found::Object(object) => NewValue::Object(Object::clone(object)),
    };
    Some(value.compressed_from(threshold))
}

/// True if a value cannot be stored, whatever is evicted. Evicts nothing itself: the command's shards are locked.
fn never_fits(state: &State, found: &Found) -> bool {
    let config = state.config.load();
    let (used, len, limit) = (crate::alloc::used(), found.memory() as u64, config.maxmemory);
    limit > 0 && (len > limit || config.maxmemory_policy == MaxmemoryPolicy::NoEviction && used + len > limit)
}

/// False if storing a value would exceed `maxmemory`: it is answered, but not kept.
fn fits(state: &State, found: &Found) -> bool {
    state.make_room(&state.config.load(), found.memory() as u64, clock::now_ms())
}
