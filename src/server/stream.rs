//! A client's socket, whichever kind it is. Knows bytes only.

use super::tls::Tls;
use rustls::ServerConfig;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Room that is made for one read of decrypted bytes: no more come at once.
const TLS_BYTES: usize = 16 * 1024;

/// An accepted socket that no runtime has taken over yet.
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Tls(std::net::TcpStream, Arc<ServerConfig>),
    Unix(std::os::unix::net::UnixStream),
}

/// A connected socket.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Unix(UnixStream),
}

impl Accepted {
    /// Hands the socket to the runtime of the calling thread.
    pub(super) fn attach(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(socket) => Ok(Stream::Tcp(TcpStream::from_std(socket)?)),
            Self::Tls(socket, config) => Ok(Stream::Tls(Box::new(Tls::new(TcpStream::from_std(socket)?, config)?))),
            Self::Unix(socket) => Ok(Stream::Unix(UnixStream::from_std(socket)?)),
        }
    }
}

impl Stream {
    /// Agrees with the peer on what has to be agreed on before anything is read or written; to be called until it is
    /// ready.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_handshake(cx),
        }
    }

    /// True if bytes have come already that a read would give.
    pub(super) fn has_more(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.has_more())
    }

    /// True if something that counts as written has yet to be handed to the socket: [`Stream::poll_flush`].
    pub(super) fn wants_flush(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.wants_flush())
    }

    /// Hands it to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Reads into `buf`; 0 bytes at the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let result = match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, &mut buf),
            Self::Tls(tls) => return tls.poll_read(cx, buf.initialize_unfilled()),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, &mut buf),
        };
        result.map_ok(|()| buf.filled().len())
    }

    /// Reads into the room behind `buf`'s end, which there must be; 0 bytes at the end of the stream.
    pub(super) fn poll_read_more(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => pin!(socket.read_buf(buf)).poll(cx),
            Self::Tls(tls) => {
                let len = buf.len();
                buf.resize(buf.capacity().min(len + TLS_BYTES), 0);
                let read = tls.poll_read(cx, &mut buf[len..]);
                let got = if let Poll::Ready(Ok(got)) = read { got } else { 0 };
                buf.truncate(len + got);
                read
            }
            Self::Unix(socket) => pin!(socket.read_buf(buf)).poll(cx),
        }
    }

    /// Writes some of `slices`.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(tls) => tls.poll_write(cx, slices),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    /// Tells the peer that nothing more comes; it may still send.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    /// Writes some of `bytes`.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, &[IoSlice::new(bytes)]),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }
}
