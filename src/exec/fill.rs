//! Read-through: which missing keys of a command are to be loaded, and what happens to what was loaded. Knows the
//! keyspace's flights and the sources' routes; no sockets, and nothing of how a source loads.
//!
//! A command that missed a routed key joins the key's flight, or starts one, while the key's shard is still locked:
//! so a change of the key either comes before the flight, or voids its lease. Then its connection alone waits.

use crate::clock;
use crate::keyspace::{self, Access, Flight, Hash, Landed, Landing, Loaded, NewValue, Standing, View};
use crate::protocol::SHARE_AT;
use crate::random;
use crate::source::{self, Params, Route, Sources};
use crate::state::State;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A load ends by its own deadline; who waits for it gives it so much more, to get its error rather than another.
const GRACE: Duration = Duration::from_millis(250);

/// How often a command that changes part of a value waits for it, at most: each time the value was gone again before
/// the command could run.
const MAX_ROUNDS: u32 = 3;
/// Loads under way, at most: an MGET may name a million keys. The sources bound what waits for them further.
const MAX_LOADS: u64 = 16_384;

/// What a command waits for before it can run again.
#[derive(Debug)]
pub struct Fill {
    /// Number of the command's keys.
    keys: usize,
    /// How often the command will have waited.
    round: u32,
    /// The error line that answers the command without waiting.
    refusal: Option<Arc<str>>,
    /// The keys that are being loaded, by their position among the command's keys.
    flights: Vec<(usize, Arc<Flight>)>,
    /// How long the client waits, at most.
    patience: Duration,
    /// Names the route in errors.
    route: Arc<str>,
}

/// What a command waited for.
#[derive(Debug)]
pub struct Filled {
    /// What was loaded for each key of the command (empty: it did not wait), or the error line that answers it.
    pub(super) loaded: Result<Vec<Option<Bytes>>, Arc<str>>,
    /// How often it has waited.
    pub(super) round: u32,
}

impl Default for Filled {
    fn default() -> Self {
        Self { loaded: Ok(Vec::new()), round: 0 }
    }
}

impl Fill {
    /// Joins or starts the flights of all keys of a command that are routed and unknown; None if there are none.
    /// The view's shards are locked; the command has waited `round` times.
    pub(super) fn begin(state: &Arc<State>, view: &mut View<'_, '_>, round: u32) -> Option<Self> {
        let mut fill: Option<Self> = None;
        let sources = state.sources.load();
        for key in 0..view.len() {
            let is_known = matches!(view.standing(key), Some(Standing::Fresh | Standing::Paused));
            if is_known || view.is_absent(key) {
                continue;
            }
            let Some((route, captures)) = sources.find(view.db() as u32, view.key(key)) else { continue };
            let patience = route.load_timeout + GRACE;
            let waited_for = fill.get_or_insert_with(|| {
                state.fills.waits.fetch_add(1, Ordering::Relaxed);
                Self {
                    keys: view.len(),
                    round: round + 1,
                    refusal: None,
                    flights: Vec::new(),
                    patience,
                    route: route.name.as_ref().into(),
                }
            });
            waited_for.patience = waited_for.patience.max(patience);
            waited_for.refusal = refusal(state, route, view.loaded(key), round);
            if waited_for.refusal.is_some() {
                break;
            }
            route.stats.wait();
            let (flight, is_new) = view.join_flight(key, &route.terms, view.now() + patience.as_millis() as i64);
            if is_new {
                let params = captures.params(Bytes::copy_from_slice(view.key(key)));
                let load = Load {
                    sources: Arc::clone(&sources),
                    db: view.db(),
                    hash: view.hash(key),
                    route: Arc::clone(route),
                    flight: Arc::clone(&flight),
                };
                state.fills.loading.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(load.run(Arc::clone(state), params));
            } else {
                state.fills.joined.fetch_add(1, Ordering::Relaxed);
            }
            waited_for.flights.push((key, flight));
        }
        fill
    }

    /// Waits for all flights, in any order, but no longer than the patience.
    pub async fn wait(self) -> Filled {
        let round = self.round;
        if let Some(line) = self.refusal {
            return Filled { loaded: Err(line), round };
        }
        let all = async {
            let mut loaded = vec![None; self.keys];
            for (key, flight) in &self.flights {
                loaded[*key] = flight.wait().await?;
            }
            Ok(loaded)
        };
        let late = |_| Err(format!("TRYAGAIN route '{}': no answer from the source in time", self.route).into());
        let loaded = tokio::time::timeout(self.patience, all).await.unwrap_or_else(late);
        Filled { loaded, round }
    }
}

/// Why a key is not loaded (again), as the error line for the client. `before` is what the last load brought.
fn refusal(state: &State, route: &Route, before: Option<&Bytes>, round: u32) -> Option<Arc<str>> {
    if before.is_some_and(|value| !fits(state, value)) {
        // It would never be kept, and a change needs what it changes.
        return Some("OOM command not allowed when used memory > 'maxmemory'.".into());
    }
    let why = match round {
        MAX_ROUNDS.. => "the key keeps changing",
        _ if state.fills.loading.load(Ordering::Relaxed) >= MAX_LOADS => "too many loads are under way",
        _ => return None,
    };
    Some(format!("TRYAGAIN route '{}': {why}", route.name).into())
}

/// One load, in a task of its own: the client who asked first may leave.
struct Load {
    /// Those that the route was found in: others may be in force by now.
    sources: Arc<Sources>,
    db: usize,
    hash: Hash,
    route: Arc<Route>,
    flight: Arc<Flight>,
}

/// Ends the flight even if the load's task is dropped or panics, so that nobody waits for nothing.
struct EndOnDrop<'a>(&'a State, &'a Load);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        let Self(state, load) = self;
        state.fills.loading.fetch_sub(1, Ordering::Relaxed);
        state.keyspace.lock(state.keyspace.shard_of(load.hash)).end_flight(load.hash, &load.flight);
        load.flight.finish(Err(format!("TRYAGAIN route '{}': the load was given up", load.route.name).into()));
    }
}

impl Load {
    async fn run(self, state: Arc<State>, params: Params) {
        let guard = EndOnDrop(&state, &self);
        let key = params.key().clone();
        let loaded: Loaded = match self.sources.load(&self.route, params).await {
            Ok(source::Loaded::Value(value)) => Ok(Some(value)),
            Ok(source::Loaded::Absent) => Ok(None),
            Err(error) => Err(error.line(&self.route.name).into()),
        };
        self.store(&state, &key, &loaded);
        self.flight.finish(loaded);
        drop(guard);
    }

    fn store(&self, state: &State, key: &[u8], loaded: &Loaded) {
        let now = clock::now_ms();
        let mut shard = state.keyspace.lock(state.keyspace.shard_of(self.hash));
        let (flight, terms) = (&self.flight, &self.route.terms);
        let landing = Landing { flight, db: self.db, hash: self.hash, key, terms, snapshot: None };
        match loaded {
            Ok(Some(value)) if fits(state, value) => {
                let form = if value.len() < SHARE_AT { NewValue::of(value) } else { NewValue::Shared(value.clone()) };
                let counter = match shard.store_loaded(&landing, form, now, Access::lru(now)) {
                    Landed::Stored => &state.fills.stored,
                    Landed::Voided => &state.fills.voided,
                    Landed::Fenced => &state.fills.fenced,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => {
                state.fills.absent.fetch_add(1, Ordering::Relaxed);
                shard.store_absent(&landing, now);
            }
            Ok(Some(_)) => {
                state.fills.unkept.fetch_add(1, Ordering::Relaxed);
                shard.end_flight(self.hash, &self.flight);
            }
            Err(_) => shard.fail_load(self.db, self.hash, &self.flight, now, random::next()),
        }
        let mut garbage = std::mem::take(&mut shard.garbage);
        drop(shard);
        keyspace::free(&mut garbage);
        if keyspace::take_stirred() {
            super::block::settle_shard(state, state.keyspace.shard_of(self.hash), now);
        }
    }
}

/// False if storing a value would exceed `maxmemory`: it is answered, but not kept.
fn fits(state: &State, value: &Bytes) -> bool {
    state.make_room(&state.config.load(), value.len() as u64, clock::now_ms())
}
