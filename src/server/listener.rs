//! Accepting connections: refuses those past the limits, hands the others to the worker with the fewest, and stops
//! the server in order. It must not know the protocol beyond the lines that refuse.

use super::housekeeping;
use super::sockets::{self, Listening, UnixFile};
use super::stream::Accepted;
use super::worker::{self, Ending, Worker};
use crate::clock;
use crate::config::Config;
use crate::open_files;
use crate::state::{MoveRequest, Origin, State};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long nothing is accepted after the system had no means for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two log lines about that, in ms.
const ACCEPT_LOG_EVERY_MS: i64 = 5_000;
/// Refused connections that may take their time to read why, at a time.
const REFUSALS: usize = 32;
/// How long that time is.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

const TOO_MANY: &str = "-ERR max number of clients reached\r\n";
const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password \
    is set for the default user. In this mode connections are only accepted from the loopback interface. If you want \
    to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable \
    protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to \
    Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet \
    if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the \
    protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then \
    restarting the server. 3) If you started the server manually just for testing, restart it with the \
    '--protected-mode no' option. 4) Set up an authentication password for the default user. NOTE: You only need to \
    do one of the above things in order for the server to start accepting connections from the outside.\r\n";

/// Listens and serves until [`State::stop`].
///
/// # Errors
/// When a socket cannot be bound or a thread cannot be started.
pub async fn serve(state: Arc<State>) -> io::Result<()> {
    fit_open_files(&state)?;
    let config = state.config.load();
    state.set_tls(&config).map_err(|why| io::Error::other(format!("TLS cannot be offered: {why}")))?;
    let sockets = sockets::open(&config)?;
    *state.listeners.lock() = tell(&config, &sockets);
    let workers = (0..state.workers.len())
        .map(|index| worker::start(Arc::clone(&state), index))
        .collect::<io::Result<Vec<_>>>()?;
    let acceptor = Arc::new(Acceptor {
        state: Arc::clone(&state),
        workers,
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        failure_logged_at: AtomicI64::new(0),
    });
    let (mut tcp, mut others) = (JoinSet::new(), JoinSet::new());
    for socket in sockets {
        let acceptor = Arc::clone(&acceptor);
        match socket {
            Listening::Tcp(socket, is_tls) => tcp.spawn(acceptor.accept_tcp(socket, is_tls)),
            Listening::Unix(socket, file) => others.spawn(acceptor.accept_unix(socket, file)),
        };
    }
    others.spawn(housekeeping::run(Arc::clone(&state)));
    let mut moves = state.moves.requests();
    loop {
        tokio::select! {
            () = state.stopped() => break,
            Some(wanted) = moves.recv() => move_to(&acceptor, &mut tcp, wanted).await,
        }
    }
    // The sockets are closed, and a Unix socket's file removed, before the connections end.
    tcp.shutdown().await;
    others.shutdown().await;
    if let Some(acceptor) = Arc::into_inner(acceptor) {
        stop(&state, acceptor.workers.into_iter().map(Worker::finish).collect()).await;
    }
    Ok(())
}

/// CONFIG SET of `port` or `bind`: closes the TCP sockets and opens others, or the same again if that fails.
async fn move_to(acceptor: &Arc<Acceptor>, tcp: &mut JoinSet<()>, wanted: MoveRequest) {
    tcp.shutdown().await;
    let (config, result) = match sockets::open_tcp(&wanted.config) {
        Ok(sockets) if sockets.is_empty() && wants_tcp(&wanted.config) => {
            (acceptor.state.config.load(), Err("none of the addresses is this machine's".into()))
        }
        Ok(sockets) => {
            listen(acceptor, tcp, &wanted.config, sockets);
            return wanted.answer(Ok(()));
        }
        Err(error) => (acceptor.state.config.load(), Err(error.to_string())),
    };
    match sockets::open_tcp(&config) {
        Ok(sockets) => listen(acceptor, tcp, &config, sockets),
        Err(error) => tracing::error!("{error}: no TCP connection is accepted any more"),
    }
    wanted.answer(result);
}

fn wants_tcp(config: &Config) -> bool {
    (config.port != 0 || config.tls_port != 0) && !config.bind.is_empty()
}

fn listen(acceptor: &Arc<Acceptor>, tcp: &mut JoinSet<()>, config: &Config, sockets: Vec<Listening>) {
    let mut listeners = tell(config, &sockets);
    for socket in sockets {
        match socket {
            Listening::Tcp(socket, is_tls) => tcp.spawn(Arc::clone(acceptor).accept_tcp(socket, is_tls)),
            Listening::Unix(..) => continue,
        };
    }
    let mut told = acceptor.state.listeners.lock();
    listeners.extend(told.drain(..).filter(|line| line.starts_with(UNIX)));
    *told = listeners;
}

/// Lets the workers end: first in peace, then without.
async fn stop(state: &State, mut workers: Vec<Ending>) {
    let seconds = match state.hurried.load(Ordering::Relaxed) {
        true => 0,
        false => state.config.load().shutdown_timeout.into(),
    };
    let all = async {
        for worker in &mut workers {
            worker.wait().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(seconds), all).await.is_err() {
        tracing::warn!("{} connections did not end in time and are cut off", state.clients.len());
        state.clients.each(|client| client.kill());
    }
    workers.into_iter().for_each(Ending::join);
}

/// Makes `maxclients` and the limit of open files agree: raises the limit, or lowers `maxclients`.
fn fit_open_files(state: &State) -> io::Result<()> {
    let maxclients = state.config.load().maxclients;
    let fitting = open_files::make_room_for(maxclients);
    if fitting == maxclients {
        return Ok(());
    }
    let others = open_files::OTHERS;
    if fitting == 0 {
        let text = format!("this process may open too few files: `ulimit -n` must be more than {others}");
        return Err(io::Error::other(text));
    }
    tracing::warn!(
        "maxclients is lowered from {maxclients} to {fitting}: this process may open no more than {} files \
         (raise `ulimit -n`, LimitNOFILE= of the unit)",
        u64::from(fitting) + others,
    );
    let lowered = state.config.update(|config| config.with(&[("maxclients", &fitting.to_string())]));
    lowered.map(drop).map_err(|error| io::Error::other(error.to_string()))
}

/// How INFO's line on a Unix socket starts.
const UNIX: &str = "name=unix,";

/// Logs sockets that are listened on; returns the lines on them for INFO.
fn tell(config: &Config, sockets: &[Listening]) -> Vec<String> {
    let mut lines = Vec::new();
    let bind = config.bind.iter().map(|addr| format!("bind={}{},", if addr.optional { "-" } else { "" }, addr.host));
    let bind: String = bind.collect();
    for (name, port, of_tls) in [("tcp", config.port, false), ("tls", config.tls_port, true)] {
        if sockets.iter().any(|socket| matches!(socket, Listening::Tcp(_, is_tls) if *is_tls == of_tls)) {
            lines.push(format!("name={name},{bind}port={port}"));
        }
    }
    for listening in sockets {
        match listening {
            Listening::Tcp(socket, is_tls) => {
                if let Ok(addr) = socket.local_addr() {
                    let how = if *is_tls { " (TLS)" } else { "" };
                    tracing::info!("listening on {addr}{how}");
                }
            }
            Listening::Unix(_, file) => {
                tracing::info!("listening on {}", file.path());
                lines.push(format!("{UNIX}bind={}", file.path()));
            }
        }
    }
    lines
}

/// What the accepting tasks share.
struct Acceptor {
    state: Arc<State>,
    workers: Vec<Worker>,
    refusals: Arc<Semaphore>,
    /// When a failure to accept was last logged, in ms since the epoch.
    failure_logged_at: AtomicI64,
}

impl Acceptor {
    async fn accept_tcp(self: Arc<Self>, listener: TcpListener, is_tls: bool) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    if let Err(error) = self.admit_tcp(socket, peer, is_tls) {
                        tracing::debug!("the connection from {peer} was lost before it began: {error}");
                    }
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn accept_unix(self: Arc<Self>, listener: UnixListener, file: UnixFile) {
        let addr = format!("{}:0", file.path());
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    if let Err(error) = self.admit_unix(socket, &addr) {
                        tracing::debug!("a connection to {addr} was lost before it began: {error}");
                    }
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// A connection that was gone already costs nothing; but when the system is out of means, the next attempt
    /// would fail as well.
    async fn failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        let now = clock::now_ms();
        if now - self.failure_logged_at.load(Ordering::Relaxed) >= ACCEPT_LOG_EVERY_MS {
            self.failure_logged_at.store(now, Ordering::Relaxed);
            tracing::warn!("connections cannot be accepted: {error}");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    fn admit_tcp(&self, socket: TcpStream, peer: SocketAddr, is_tls: bool) -> io::Result<()> {
        let config = self.state.config.load();
        let mut socket = socket.into_std()?;
        if let Some(why) = self.refusal(&config, peer.ip().to_canonical().is_loopback()) {
            if is_tls {
                // It would take a handshake to say so.
                return Ok(());
            }
            socket.write_all(why.as_bytes())?;
            socket.shutdown(Shutdown::Write)?;
            self.see_off(TcpStream::from_std(socket)?);
            return Ok(());
        }
        sockets::set_options(&socket, config.tcp_keepalive)?;
        let laddr = socket.local_addr()?.to_string();
        let origin = Origin { addr: peer.to_string(), laddr, fd: socket.as_raw_fd(), is_unix: false, worker: 0 };
        let accepted = match self.state.tls.load_full() {
            Some(tls) if is_tls => Accepted::Tls(socket, tls),
            None if is_tls => return Ok(()),
            _ => Accepted::Tcp(socket),
        };
        self.hand_over(accepted, origin);
        Ok(())
    }

    fn admit_unix(&self, socket: UnixStream, addr: &str) -> io::Result<()> {
        let config = self.state.config.load();
        let mut socket = socket.into_std()?;
        if let Some(why) = self.refusal(&config, true) {
            socket.write_all(why.as_bytes())?;
            socket.shutdown(Shutdown::Write)?;
            self.see_off(UnixStream::from_std(socket)?);
            return Ok(());
        }
        let fd = socket.as_raw_fd();
        let origin = Origin { addr: addr.into(), laddr: addr.into(), fd, is_unix: true, worker: 0 };
        self.hand_over(Accepted::Unix(socket), origin);
        Ok(())
    }

    /// Why a connection may not come in, if so; counts it.
    fn refusal(&self, config: &Config, is_local: bool) -> Option<&'static str> {
        let why = if self.state.clients.len() >= config.maxclients as usize {
            TOO_MANY
        } else if config.protected_mode && self.state.acl.has_no_password() && !is_local {
            PROTECTED
        } else {
            return None;
        };
        self.state.clients.rejected.fetch_add(1, Ordering::Relaxed);
        Some(why)
    }

    /// Sees that a refused connection can read why: a socket that is closed with unread bytes would take the line
    /// back. If many are being seen off, it is closed at once.
    fn see_off(&self, mut socket: impl AsyncReadExt + Unpin + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        let mut bytes = [0; 1024];
        let drained = async move { while socket.read(&mut bytes).await.is_ok_and(|len| len > 0) {} };
        let drained = tokio::time::timeout(REFUSAL_PATIENCE, drained);
        tokio::spawn(async move {
            let _ = drained.await;
            drop(permit);
        });
    }

    fn hand_over(&self, socket: Accepted, mut origin: Origin) {
        let Some((index, worker)) = self.workers.iter().enumerate().min_by_key(|(_, worker)| worker.connections())
        else {
            return;
        };
        origin.worker = index;
        self.state.clients.accepted.fetch_add(1, Ordering::Relaxed);
        let client = self.state.clients.connect(origin, self.state.acl.is_open(), clock::now_ms());
        worker.take_over(socket, client);
    }
}
