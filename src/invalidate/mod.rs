//! Keeps the cache in step with its databases: runs the feeds of the sources in force, and carries what they tell to
//! the keyspace. Knows neither how a database tells its changes, nor how keys are kept.

use crate::clock;
use crate::source::{Feed, Route, Sink};
use crate::state::State;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Carries a feed's words to the keyspace.
struct ToState(Arc<State>);

impl Sink for ToState {
    fn key(&self, route: &Route, key: &[u8], xid: Option<u32>) -> u64 {
        self.0.invalidate(route, [key], xid, clock::now_ms())
    }

    fn route(&self, route: &Route, xid: Option<u32>) {
        self.0.bump_epoch(route, xid, clock::now_ms());
    }
}

/// A feed that runs; it ends with this.
struct Running {
    feed: Arc<Feed>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the feeds of the sources in force, until it is dropped. What is replaced ends, what is new begins, what is the
/// same goes on.
pub async fn run(state: Arc<State>) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        let replaced = state.sources.replaced();
        let mut replaced = std::pin::pin!(replaced);
        // Registered before the look, so that no replacement is missed.
        replaced.as_mut().enable();
        let sources = state.sources.load_full();
        running.retain(|run| sources.feeds().iter().any(|feed| Arc::ptr_eq(feed, &run.feed)));
        for feed in sources.feeds() {
            if !running.iter().any(|run| Arc::ptr_eq(feed, &run.feed)) {
                let sink: Arc<dyn Sink> = Arc::new(ToState(Arc::clone(&state)));
                let task = tokio::spawn(Arc::clone(feed).run(sink));
                running.push(Running { feed: Arc::clone(feed), task });
            }
        }
        drop(sources);
        replaced.await;
    }
}
