//! A worker: one thread with a runtime of its own. A connection that is handed to it stays with it. It also sweeps
//! expired keys out of its share of the shards. It must not know commands.

use super::session::Session;
use super::stream::Accepted;
use crate::clock;
use crate::keyspace::{Sweep, Swept};
use crate::state::{Client, State};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// A connection on its way to a worker.
pub(super) struct Handover {
    pub(super) socket: Accepted,
    pub(super) client: Client,
}

/// A running worker.
pub(super) struct Worker {
    pub(super) queue: mpsc::UnboundedSender<Handover>,
    pub(super) thread: std::thread::JoinHandle<()>,
}

/// How long between two looks for expired keys while there are none.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// Share of its time that a worker spends on removing expired keys while there are many: one part in this many.
const SWEEP_SHARE: u32 = 3;
/// Time that one turn of the sweep takes before connections are served again, about, in ns.
const SWEEP_TURN_NS: u64 = 200_000;

/// Starts worker number `index`.
pub(super) fn start(state: Arc<State>, index: usize) -> io::Result<Worker> {
    let (queue, inbox) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || runtime.block_on(work(state, index, inbox)))?;
    Ok(Worker { queue, thread })
}

async fn work(state: Arc<State>, index: usize, mut inbox: mpsc::UnboundedReceiver<Handover>) {
    tokio::spawn(sweep(Arc::clone(&state), index));
    let stats = Arc::clone(&state.workers[index]);
    let mut sessions = tokio::task::JoinSet::new();
    while let Some(Handover { socket, client }) = inbox.recv().await {
        while sessions.try_join_next().is_some() {}
        match socket.attach() {
            Ok(stream) => {
                sessions.spawn(Session::new(stream, client, Arc::clone(&state), Arc::clone(&stats)).run());
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken over");
                state.clients.disconnect(client.info.id);
            }
        }
    }
    // The listener is gone: the server stops. Every session ends after its current command.
    while sessions.join_next().await.is_some() {}
}

/// Removes expired keys from every shard that is this worker's.
async fn sweep(state: Arc<State>, index: usize) {
    let mut sweep = Sweep::new(index, state.workers.len());
    let mut removed = false;
    loop {
        let start = clock::monotonic_ns();
        let mut round_done = false;
        while !round_done && clock::monotonic_ns() - start < SWEEP_TURN_NS {
            if !state.active_expire.load(Ordering::Relaxed) {
                round_done = true;
                removed = false;
                break;
            }
            match sweep.slice(&state.keyspace, clock::now_ms()) {
                Swept::More => removed = true,
                Swept::Idle => {}
                Swept::RoundDone => round_done = true,
            }
        }
        let pause = if round_done && !std::mem::take(&mut removed) {
            SWEEP_PAUSE
        } else {
            Duration::from_nanos(clock::monotonic_ns() - start) * (SWEEP_SHARE - 1)
        };
        pause_for(pause).await;
    }
}

/// Timers have a resolution of a millisecond: shorter pauses are left to the connections' tasks.
async fn pause_for(pause: Duration) {
    if pause >= Duration::from_millis(1) {
        tokio::time::sleep(pause).await;
    } else {
        let until = clock::monotonic_ns() + pause.as_nanos() as u64;
        tokio::task::yield_now().await;
        if clock::monotonic_ns() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
