//! The byte stream to a database server: TCP, plain or secured, or a Unix socket, and a guard that bounds what one
//! message may weigh.
//!
//! A row arrives as one message, which the driver would buffer whole, however large. The guard reads the length at the
//! head of each message as it passes and fails the stream before such a message is buffered. Knows that messages are a
//! byte of type and four of length, nothing else of the protocol.

use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// Keepalives, so that a connection whose server vanished without a word is found within a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Type byte and length.
const HEADER_BYTES: usize = 5;

/// Where one server listens, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    /// The socket file itself.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Address {
    /// Connects. The caller bounds the time.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE_IDLE)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_RETRIES);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    }
}

/// A connected stream of any kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Forwards to the stream within.
macro_rules! within {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        within!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        within!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A stream that fails at the head of a message longer than `limit`, and says so in `overflowed`.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    watch: Watch,
    overflowed: Arc<AtomicBool>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, limit_bytes: usize, overflowed: Arc<AtomicBool>) -> Guarded<S> {
        Guarded { stream, watch: Watch { limit_bytes, header: [0; HEADER_BYTES], filled: 0, left: 0 }, overflowed }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled
            && !this.watch.passes(&buf.filled()[before..])
        {
            this.overflowed.store(true, Relaxed);
            let message = "a message of the database is longer than any route allows";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Follows the messages in a stream of bytes cut anywhere.
#[derive(Debug)]
struct Watch {
    limit_bytes: usize,
    header: [u8; HEADER_BYTES],
    /// How much of `header` is there.
    filled: usize,
    /// What is left of the message's body.
    left: usize,
}

impl Watch {
    /// Whether no message that begins in `bytes` is too long.
    fn passes(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEADER_BYTES - self.filled);
            if self.left > 0 {
                return true;
            }
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                // The length counts itself. One too short is the driver's to refuse.
                self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.filled = 0;
                if self.left > self.limit_bytes {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body: usize) -> Vec<u8> {
        let mut bytes = vec![b'D'];
        bytes.extend((body as u32 + 4).to_be_bytes());
        bytes.extend(vec![0xff; body]);
        bytes
    }

    proptest! {
        #[test]
        fn finds_the_long_message_however_it_is_cut(
            bodies in proptest::collection::vec(0usize..20, 0..8), cut in 1usize..30
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| message(*body)).collect();
            let mut watch = Watch { limit_bytes: 15, header: [0; HEADER_BYTES], filled: 0, left: 0 };
            let passed = bytes.chunks(cut).all(|chunk| watch.passes(chunk));
            prop_assert_eq!(passed, bodies.iter().all(|body| *body <= 15));
        }
    }

    #[tokio::test]
    async fn fails_before_the_body_is_there() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut far, near) = tokio::io::duplex(64);
        let overflowed = Arc::new(AtomicBool::new(false));
        let mut guarded = Guarded::new(near, 10, Arc::clone(&overflowed));
        far.write_all(&message(10)).await.unwrap();
        let mut buffer = [0; 15];
        guarded.read_exact(&mut buffer).await.unwrap();
        assert!(!overflowed.load(Relaxed));
        far.write_all(&message(11)[..5]).await.unwrap();
        assert_eq!(guarded.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(overflowed.load(Relaxed));
    }
}
