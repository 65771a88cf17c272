//! Read-through: which missing keys of a command are to be loaded, and what happens to what was loaded. Knows the
//! keyspace's flights and the sources' routes; no sockets, and nothing of how a source loads.
//!
//! A command that missed a routed key joins the key's flight, or starts one, while the key's shard is still locked:
//! so a change of the key either comes before the flight, or voids its lease. Then its connection alone waits.

use crate::clock;
use crate::keyspace::{Access, Flight, Hash, Loaded, NewValue, Ttl, View};
use crate::protocol::SHARE_AT;
use crate::source::{self, Params, Route};
use crate::state::State;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A load ends by its own deadline; who waits for it gives it so much more, to get its error rather than another.
const GRACE: Duration = Duration::from_millis(250);

/// What a command waits for before it can run again.
#[derive(Debug)]
pub struct Fill {
    /// Number of the command's keys.
    keys: usize,
    /// The keys that are being loaded, by their position among the command's keys.
    flights: Vec<(usize, Arc<Flight>)>,
    /// How long the client waits, at most.
    patience: Duration,
    /// Names the route in errors.
    route: Arc<str>,
}

/// What was loaded for each key of a command, or the error line that answers it.
pub type Filled = Result<Vec<Option<Bytes>>, Arc<str>>;

impl Fill {
    /// Joins or starts the flights of all keys of a command that are routed and unknown; None if there are none.
    /// The view's shards are locked.
    pub(super) fn begin(state: &Arc<State>, view: &mut View<'_, '_>) -> Option<Self> {
        let mut fill: Option<Self> = None;
        for key in 0..view.len() {
            if !view.is_unknown(key) {
                continue;
            }
            let Some((route, captures)) = state.sources.find(view.db() as u32, view.key(key)) else { continue };
            let patience = route.load_timeout + GRACE;
            let (flight, is_new) = view.join_flight(key);
            let waited_for = fill.get_or_insert_with(|| Self {
                keys: view.len(),
                flights: Vec::new(),
                patience,
                route: route.name.as_ref().into(),
            });
            waited_for.patience = waited_for.patience.max(patience);
            if is_new {
                let params = captures.params(Bytes::copy_from_slice(view.key(key)));
                let load =
                    Load { db: view.db(), hash: view.hash(key), route: Arc::clone(route), flight: Arc::clone(&flight) };
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
        let all = async {
            let mut filled = vec![None; self.keys];
            for (key, flight) in &self.flights {
                filled[*key] = flight.wait().await?;
            }
            Ok(filled)
        };
        match tokio::time::timeout(self.patience, all).await {
            Ok(filled) => filled,
            Err(_) => Err(format!("TRYAGAIN route '{}': no answer from the source in time", self.route).into()),
        }
    }
}

/// One load, in a task of its own: the client who asked first may leave.
struct Load {
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
        state.keyspace.lock(state.keyspace.shard_of(load.hash)).end_flight(load.hash, &load.flight);
        load.flight.finish(Err(format!("TRYAGAIN route '{}': the load was given up", load.route.name).into()));
    }
}

impl Load {
    async fn run(self, state: Arc<State>, params: Params) {
        let guard = EndOnDrop(&state, &self);
        let key = params.key().clone();
        let loaded: Loaded = match state.sources.load(&self.route, params).await {
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
        match loaded {
            Ok(Some(value)) if fits(state, value) => {
                let form = if value.len() < SHARE_AT { NewValue::of(value) } else { NewValue::Shared(value.clone()) };
                let ttl = Ttl::At(now + self.route.ttl.as_millis() as i64);
                let stored =
                    shard.store_loaded(&self.flight, self.db, self.hash, key, form, ttl, now, Access::lru(now));
                let counter = if stored { &state.fills.stored } else { &state.fills.voided };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => {
                state.fills.absent.fetch_add(1, Ordering::Relaxed);
                let until = now + self.route.negative_ttl.as_millis() as i64;
                shard.store_absent(&self.flight, self.db, self.hash, key, until, now);
            }
            Ok(Some(_)) => {
                state.fills.unkept.fetch_add(1, Ordering::Relaxed);
                shard.end_flight(self.hash, &self.flight);
            }
            Err(_) => shard.end_flight(self.hash, &self.flight),
        }
        let garbage = std::mem::take(&mut shard.garbage);
        drop(shard);
        drop(garbage);
    }
}

/// False if storing a value would exceed `maxmemory`: it is answered, but not kept.
fn fits(state: &State, value: &Bytes) -> bool {
    let limit = state.config.load().maxmemory;
    limit == 0 || crate::alloc::used() + value.len() as u64 <= limit
}
