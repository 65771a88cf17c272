//! `cenote ping`: asks a running server whether it answers. The health check of the container image, which holds no
//! redis-cli. A client of one command; it must not know any of the server's rooms but the clock.

use cenote::clock::monotonic_ns;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

const REQUEST: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// Longest reply line that is read, in bytes: what does not speak RESP may never end its line.
const REPLY_BYTES_MAX: usize = 1024;

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Over TCP: host and port.
    Tcp(&'a str, u16),
    /// A Unix socket's path.
    Unix(&'a str),
}

/// Pings, prints the answer in one line, and returns the exit code: 0 if the server serves.
pub(crate) fn run(target: Target<'_>, timeout: Duration) -> ExitCode {
    let name = match target {
        Target::Tcp(host, port) => format!("{host}:{port}"),
        Target::Unix(path) => path.to_owned(),
    };
    match ask(target, timeout) {
        Ok(line) if serves(&line) => {
            println!("{}", line.trim_start_matches('+'));
            ExitCode::SUCCESS
        }
        Ok(line) => {
            eprintln!("cenote ping: {name} answers, but not with PONG: {}", line.escape_debug());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cenote ping: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A server that wants a password is up as well: the check has none to give.
fn serves(line: &str) -> bool {
    line == "+PONG" || line.starts_with("-NOAUTH ")
}

/// The first line of the reply, without its end.
fn ask(target: Target<'_>, timeout: Duration) -> io::Result<String> {
    let deadline = monotonic_ns().saturating_add(timeout.as_nanos() as u64);
    match target {
        Target::Tcp(host, port) => {
            let mut stream = connect(host, port, deadline)?;
            exchange(&mut stream, |stream| {
                let left = time_left(deadline)?;
                stream.set_write_timeout(Some(left))?;
                stream.set_read_timeout(Some(left))
            })
        }
        Target::Unix(path) => exchange(&mut UnixStream::connect(path)?, |stream| {
            let left = time_left(deadline)?;
            stream.set_write_timeout(Some(left))?;
            stream.set_read_timeout(Some(left))
        }),
    }
}

/// Connects to the first address of `host` that takes the connection.
fn connect(host: &str, port: u16, deadline: u64) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, time_left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends PING and reads one line. `bound` is called before each wait, to set what is left of the time.
fn exchange<S: Read + Write>(stream: &mut S, bound: impl Fn(&S) -> io::Result<()>) -> io::Result<String> {
    bound(stream)?;
    stream.write_all(REQUEST)?;
    let (mut line, mut piece) = (Vec::new(), [0; 256]);
    while !line.contains(&b'\n') && line.len() < REPLY_BYTES_MAX {
        bound(stream)?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed the connection without a reply")),
            Ok(read) => line.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
    Ok(String::from_utf8_lossy(&line[..end]).into_owned())
}

/// What is left until `deadline`, a time of the monotonic clock in ns.
fn time_left(deadline: u64) -> io::Result<Duration> {
    match deadline.saturating_sub(monotonic_ns()) {
        0 => Err(too_late()),
        left => Ok(Duration::from_nanos(left)),
    }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that answers with these pieces, one a read, and then closes.
    struct Peer(Vec<&'static [u8]>, Vec<u8>);

    impl Read for Peer {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buf[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Peer {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(pieces: &[&'static [u8]]) -> io::Result<String> {
        let mut peer = Peer(pieces.to_vec(), Vec::new());
        let line = exchange(&mut peer, |_| Ok(()));
        assert_eq!(peer.1, REQUEST);
        line
    }

    #[test]
    fn a_server_serves_if_it_says_pong_or_asks_for_a_password() {
        assert!(serves(&line(&[b"+PO", b"NG\r", b"\n"]).unwrap()));
        assert!(serves(&line(&[b"-NOAUTH Authentication required.\r\n"]).unwrap()));
        assert!(!serves(&line(&[b"-DENIED Redis is running in protected mode\r\n"]).unwrap()));
        assert!(!serves(&line(&[b"HTTP/1.1 400 Bad Request\r\n"]).unwrap()));
    }

    #[test]
    fn a_peer_that_says_nothing_or_never_ends_its_line_is_given_up() {
        assert_eq!(line(&[]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(line(&[[b'x'; 256].as_slice(); 9]).unwrap().len(), REPLY_BYTES_MAX);
        assert_eq!(time_left(0).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let socket = std::env::temp_dir().join("cenote-ping-no-such-socket");
        assert!(ask(Target::Unix(&socket.to_string_lossy()), Duration::from_secs(1)).is_err());
    }
}
