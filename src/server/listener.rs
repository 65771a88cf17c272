//! The listening sockets: accepts connections, refuses those past the limits, and hands the others to the worker
//! with the fewest. It must not know the protocol beyond the line that refuses.

use super::stream::Accepted;
use super::worker::{self, Handover, Worker};
use crate::clock;
use crate::state::State;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// Listens and serves until [`State::stop`].
///
/// # Errors
/// When a socket cannot be bound or a thread cannot be started.
pub async fn serve(state: Arc<State>) -> io::Result<()> {
    let port = state.config.load().port;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let workers = (0..state.workers.len())
        .map(|index| worker::start(Arc::clone(&state), index))
        .collect::<io::Result<Vec<_>>>()?;
    state.listening.store(true, Ordering::Relaxed);
    let mut next = 0;
    loop {
        let (socket, peer) = listener.accept().await?;
        let socket = socket.into_std()?;
        socket.set_nodelay(true)?;
        accept(&state, &workers, &mut next, socket, peer.to_string())?;
    }
}

fn accept(
    state: &Arc<State>,
    workers: &[Worker],
    next: &mut usize,
    mut socket: std::net::TcpStream,
    peer: String,
) -> io::Result<()> {
    let config = state.config.load();
    if state.clients.len() >= config.maxclients as usize {
        state.clients.rejected.fetch_add(1, Ordering::Relaxed);
        let _ = socket.write_all(b"-ERR max number of clients reached\r\n");
        return Ok(());
    }
    state.clients.accepted.fetch_add(1, Ordering::Relaxed);
    let laddr = socket.local_addr()?.to_string();
    let authenticated = config.requirepass.is_empty();
    let client = state.clients.connect(peer, laddr, socket.as_raw_fd(), authenticated, clock::now_ms());
    *next = (*next + 1) % workers.len();
    let _ = workers[*next].queue.send(Handover { socket: Accepted::Tcp(socket), client });
    Ok(())
}
