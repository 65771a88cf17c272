//! A worker: one thread with a runtime of its own. A connection that is handed to it stays with it. It also sweeps
//! expired keys out of its share of the shards. It must not know commands.

use super::session::Session;
use super::stream::Accepted;
use crate::clock;
use crate::exec;
use crate::keyspace::{self, Garbage, Sweep, Swept};
use crate::state::{Client, State};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A connection on its way to a worker.
pub(super) struct Handover {
    pub(super) socket: Accepted,
    pub(super) client: Client,
    pub(super) seat: Seat,
}

/// A connection's place among those of a worker, as long as it lasts.
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running worker.
pub(super) struct Worker {
    queue: mpsc::UnboundedSender<Handover>,
    connections: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
    /// Closed when the worker has ended.
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Connections.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Gives it a connection.
    pub(super) fn take_over(&self, socket: Accepted, client: Client) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(&self.connections));
        // Without the worker the server is at its end, and so is the connection.
        let _ = self.queue.send(Handover { socket, client, seat });
    }

    /// Lets it end once its connections have.
    pub(super) fn finish(self) -> Ending {
        Ending { thread: self.thread, ended: self.ended }
    }
}

/// A worker that takes no more connections.
pub(super) struct Ending {
    thread: std::thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Ending {
    /// Waits until its last connection is over.
    pub(super) async fn wait(&mut self) {
        // Ended or panicked: over either way.
        let _ = (&mut self.ended).await;
    }

    /// Waits for the thread, which is about to end.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker ended in a panic");
        }
    }
}

/// Looks for expired keys in a second while there are none, for each of `hz`.
const SWEEPS_PER_HZ: u32 = 5;
/// Time that one turn of the sweep takes before connections are served again, about, in ns.
const SWEEP_TURN_NS: u64 = 200_000;

/// A turn that takes so long, in ns, may be of interest to the latency monitor.
const SWEEP_SPIKE_NS: u64 = 1_000_000;

/// Starts worker number `index`.
pub(super) fn start(state: Arc<State>, index: usize) -> io::Result<Worker> {
    let (queue, inbox) = mpsc::unbounded_channel();
    let (ending, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        runtime.block_on(work(state, index, inbox));
        drop(runtime);
        drop(ending);
    })?;
    Ok(Worker { queue, connections: Arc::default(), thread, ended })
}

async fn work(state: Arc<State>, index: usize, mut inbox: mpsc::UnboundedReceiver<Handover>) {
    tokio::spawn(sweep(Arc::clone(&state), index));
    // The first misses need not wait for connections, and each worker has its own. A database that is down is the loads'
    // business.
    tokio::spawn(state.sources.load().warm(index, state.workers.len()));
    let stats = Arc::clone(&state.workers[index]);
    let mut sessions = tokio::task::JoinSet::new();
    while let Some(Handover { socket, client, seat }) = inbox.recv().await {
        while sessions.try_join_next().is_some() {}
        match socket.attach() {
            Ok(stream) => {
                sessions.spawn(Session::new(stream, client, Arc::clone(&state), Arc::clone(&stats), seat).run());
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken over");
                state.disconnect(&client.info);
            }
        }
    }
    // The listener is gone: the server stops. Every session ends after its current command.
    while sessions.join_next().await.is_some() {}
}

/// Removes expired keys from every shard that is this worker's, and keys past `maxmemory` where a lower limit asks for
/// more than commands evict on their way.
async fn sweep(state: Arc<State>, index: usize) {
    let mut sweep = Sweep::new(index, state.workers.len());
    let (mut removed, mut garbage) = (false, Garbage::new());
    loop {
        let config = state.config.load();
        let start = clock::monotonic_ns();
        let mut round_done = false;
        while !round_done && clock::monotonic_ns() - start < SWEEP_TURN_NS {
            // While writes are paused, or keys are imported, nothing is removed either.
            if !state.active_expire.load(Ordering::Relaxed) || !state.pause.is_off() || config.limits.import_mode {
                round_done = true;
                removed = false;
                break;
            }
            let (shard, now) = (sweep.shard(), clock::now_ms());
            // Nothing goes while a script runs.
            let Some(inside) = state.gate.enter(index) else {
                round_done = true;
                break;
            };
            let swept = sweep.slice(&state.keyspace, now, &mut garbage);
            drop(inside);
            state.free(&mut garbage, "expire-del");
            match swept {
                Swept::More => removed = true,
                Swept::Idle => {}
                Swept::RoundDone => round_done = true,
            }
            if keyspace::take_stirred() {
                exec::settle_shard(&state, shard, now);
            }
        }
        let now = clock::now_ms();
        if config.maxmemory > 0 && crate::alloc::used() > config.maxmemory && state.make_room(&config, 0, now) {
            removed = true;
        }
        let took = clock::monotonic_ns() - start;
        if took >= SWEEP_SPIKE_NS {
            state.note_latency("expire-cycle", took, clock::now_ms());
        }
        let pause = if round_done && !std::mem::take(&mut removed) {
            Duration::from_secs(1) / (config.hz_for(state.clients.len()) * SWEEPS_PER_HZ)
        } else {
            pause_after(Duration::from_nanos(took), config.active_expire_effort)
        };
        pause_for(pause).await;
    }
}

/// How long connections are served after so much time was spent on removing expired keys, while there are more:
/// `active-expire-effort`, 1 to 10, says how much of its time a worker spends so, from a third to two thirds.
fn pause_after(took: Duration, effort: u32) -> Duration {
    took * (21 - effort) / (9 + effort)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_effort_is_more_of_the_time() {
        let share = |effort| {
            let took = Duration::from_micros(300);
            100 * took.as_nanos() / (took + pause_after(took, effort)).as_nanos()
        };
        assert_eq!([1, 4, 10].map(share), [33, 43, 63]);
    }
}
