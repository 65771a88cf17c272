//! A client's TLS connection: what comes is decrypted, what goes is encrypted, on a socket that never blocks. Knows
//! bytes only.
//!
//! A connection at rest owns rustls's state and nothing else: the socket is read into a buffer that all connections of
//! a worker share, and what is encrypted but not taken by the socket is bounded by rustls's own buffer limit (64 KiB).

use rustls::{ServerConfig, ServerConnection};
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Encrypted bytes that are read at once.
const READ_BYTES: usize = 32 * 1024;
/// Decrypted bytes that rustls keeps, at most: it takes no more before they are read.
const PLAIN_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A connection.
pub(super) struct Tls {
    socket: TcpStream,
    session: ServerConnection,
    /// Encrypted bytes that came and are not decrypted yet, for there was no room.
    left: Vec<u8>,
}

/// The socket as rustls writes to it.
struct ToSocket<'s, 'w>(&'s mut TcpStream, &'s mut Context<'w>);

impl Write for ToSocket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.0).poll_write(self.1, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.0).poll_write_vectored(self.1, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same where nobody can wait.
struct ToSocketNow<'s>(&'s TcpStream);

impl Write for ToSocketNow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocking<T>(result: Poll<io::Result<T>>) -> io::Result<T> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Tls {
    pub(super) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(invalid)?;
        Ok(Self { socket, session, left: Vec::new() })
    }

    /// Agrees with the peer on keys; to be called until it is ready.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_flush(cx))?;
            if self.session.is_handshaking() && ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll_flush(cx)
    }

    /// True if bytes have come that are not read yet.
    pub(super) fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    /// True if the socket has not taken all that was written.
    pub(super) fn wants_flush(&self) -> bool {
        self.session.wants_write()
    }

    /// Hands the socket what it has not taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut ToSocket(&mut self.socket, cx)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gets encrypted bytes and decrypts them; how many came, 0 at the end of the stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.left.is_empty() {
            let left = std::mem::take(&mut self.left);
            let used = self.decrypt(&left)?;
            self.left = left;
            self.left.drain(..used);
            if self.left.is_empty() {
                self.left = Vec::new();
            }
            return Poll::Ready(Ok(used));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
            let came = buf.filled();
            if came.is_empty() {
                // rustls tells an end that was announced from one that was not; for a request both are the end.
                let _ = self.session.read_tls(&mut io::empty());
                return Poll::Ready(Ok(0));
            }
            let used = self.decrypt(came)?;
            self.left.extend_from_slice(&came[used..]);
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Decrypts as much as there is room for; how many bytes it took.
    fn decrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.session.read_tls(&mut rest)? == 0 {
                // Nothing counts behind the peer's last word.
                return Ok(bytes.len());
            }
            match self.session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() >= PLAIN_BYTES => break,
                Ok(_) => {}
                Err(error) => {
                    // The peer is told why, if the socket takes that.
                    let _ = self.session.write_tls(&mut ToSocketNow(&self.socket));
                    return Err(invalid(error));
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Reads into `buf`; 0 bytes at the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(buf) {
                Ok(len) => return Poll::Ready(Ok(len)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            // What the peer wants answered before it goes on, and what was left unsent.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Encrypts some of `slices`, and hands it to the socket, or a part of it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let len = self.session.writer().write_vectored(slices)?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(len)),
        }
    }

    /// Tells the peer that nothing more comes; it may still send.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // Without this word the peer could not tell the end from an attack that cuts the connection.
        self.session.send_close_notify();
        while self.session.wants_write()
            && self.session.write_tls(&mut ToSocketNow(&self.socket)).is_ok_and(|len| len > 0)
        {}
    }
}
