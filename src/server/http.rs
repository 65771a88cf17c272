//! HTTP for operators: `/metrics`, `/healthz` and `/readyz`. It runs on the main runtime, away from the workers, and
//! a scraper that is slow, or many of them, cost no more than a few bounded connections. It must not know commands.

use crate::state::State;
use crate::{clock, metrics};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 16;
/// Time that one connection has, from its first byte to the last.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's head, at most.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the metrics until the runtime ends.
pub async fn serve_metrics(state: Arc<State>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection to the metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without a free slot the connection is dropped, which closes it.
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(DEADLINE, connection(state, socket)).await;
                drop(slot);
            });
        }
    }
}

/// One request. What goes wrong with it is the client's affair.
async fn connection(state: Arc<State>, socket: TcpStream) {
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, &request)) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "a connection to the metrics failed");
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are allowed\n".into())
        }
        "/metrics" => (StatusCode::OK, PROMETHEUS, metrics::render(state, clock::now_ms())),
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => match not_ready(state) {
            None => (StatusCode::OK, TEXT, "ok\n".into()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".into()),
    };
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, kind);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = response.header(ALLOW, "GET, HEAD");
    }
    // The status and the headers are constants that a response can have.
    response.body(Full::from(body)).unwrap_or_default()
}

/// Why the server should get no requests now, if so.
fn not_ready(state: &State) -> Option<&'static str> {
    if state.stopping.load(Ordering::Relaxed) {
        return Some("stopping");
    }
    state.listeners.lock().is_empty().then_some("not listening yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigHandle};
    use crate::source::Sources;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn start() -> (Arc<State>, SocketAddr) {
        let sources = Sources::default();
        let state = Arc::new(State::new(
            ConfigHandle::new(Config::default()),
            sources,
            1,
            crate::commands::registry().rows(),
            None,
            0,
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve_metrics(Arc::clone(&state), listener));
        (state, addr)
    }

    async fn send(addr: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A refused request may end in a reset; what came before it counts.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(addr: SocketAddr, path: &str) -> String {
        send(addr, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    #[tokio::test]
    async fn paths_and_methods() {
        let (state, addr) = start().await;
        let metrics = get(addr, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\ncenote_clients 0\n"), "{metrics}");
        assert!(get(addr, "/healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 503"));
        state.listeners.lock().push("name=tcp".into());
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        state.stopping.store(true, Ordering::Relaxed);
        assert!(get(addr, "/readyz").await.ends_with("stopping\n"));
        assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "/nosuch").await.starts_with("HTTP/1.1 404"));
        assert!(send(addr, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(send(addr, "*1\r\n$4\r\nPING\r\n").await.starts_with("HTTP/1.1 400"));
        let head = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        assert!(!send(addr, &head).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn idle_connections_take_no_more_than_their_slots() {
        let (_state, addr) = start().await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            socket.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
            idle.push(socket);
        }
        let mut refused = TcpStream::connect(addr).await.unwrap();
        assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0);
        // Finishing one makes room for the next.
        let mut first = idle.remove(0);
        first.write_all(b"Host: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
    }
}
