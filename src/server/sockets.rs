//! The sockets that the directives ask for: bound, listening, and with their options. It must not know what comes
//! in.

use crate::config::{BindAddr, Config};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// A listening socket.
pub(super) enum Listening {
    /// And whether TLS is spoken on it.
    Tcp(TcpListener, bool),
    Unix(UnixListener, UnixFile),
}

/// The file of a Unix socket; removed with it.
pub(super) struct UnixFile(PathBuf);

impl UnixFile {
    /// The path as it was configured.
    pub(super) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("the Unix socket {} cannot be removed: {error}", self.path());
        }
    }
}

/// Opens all sockets that `config` asks for.
///
/// # Errors
/// When an address that must be there cannot be had, or when there is nothing to listen on; the text names it.
pub(super) fn open(config: &Config) -> io::Result<Vec<Listening>> {
    let mut open = open_tcp(config)?;
    if !config.unixsocket.is_empty() {
        let path = Path::new(&config.unixsocket);
        let (socket, file) = listen_unix(path, config).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on the Unix socket {}: {error}", path.display()))
        })?;
        open.push(Listening::Unix(socket, file));
    }
    if open.is_empty() {
        let text = "there is nothing to listen on: set `port` or `tls-port` and `bind`, or `unixsocket`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(open)
}

/// Opens the TCP sockets that `config` asks for, those for TLS included.
///
/// # Errors
/// When an address that must be there cannot be had; the text names it.
pub(super) fn open_tcp(config: &Config) -> io::Result<Vec<Listening>> {
    let mut open = Vec::new();
    for (port, is_tls) in [(config.port, false), (config.tls_port, true)] {
        open.extend(open_port(config, port)?.into_iter().map(|socket| Listening::Tcp(socket, is_tls)));
    }
    Ok(open)
}

fn open_port(config: &Config, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut open = Vec::new();
    let wanted = if port == 0 { &[][..] } else { &config.bind };
    for addr in wanted {
        match listen_tcp(&addr.host, port, config) {
            Ok(socket) => open.push(socket),
            Err(error) if may_be_missing(addr, &error) => tracing::debug!("not listening on {}: {error}", addr.host),
            Err(error) => {
                let text = format!("cannot listen on {} port {port}: {error}", addr.host);
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(open)
}

/// True for an address that was written with a `-` and that this machine does not have, and for protocols that it
/// does not speak (IPv6 in many containers).
fn may_be_missing(addr: &BindAddr, error: &io::Error) -> bool {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else { return false };
    let unsupported =
        [Errno::NOPROTOOPT, Errno::PROTONOSUPPORT, Errno::SOCKTNOSUPPORT, Errno::PFNOSUPPORT, Errno::AFNOSUPPORT];
    unsupported.contains(&errno) || (addr.optional && errno == Errno::ADDRNOTAVAIL)
}

fn listen_tcp(host: &str, port: u16, config: &Config) -> io::Result<TcpListener> {
    let host = match host {
        "*" => "0.0.0.0",
        "::*" => "::",
        host => host,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in (host, port).to_socket_addrs()? {
        match listen_at(addr, config) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_at(addr: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let protocol = if config.mptcp { Protocol::MPTCP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(protocol))?;
    if config.socket_mark_id != 0 {
        socket.set_mark(config.socket_mark_id)?;
    }
    if addr.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog(config))?;
    TcpListener::from_std(socket.into())
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX)
}

fn listen_unix(path: &Path, config: &Config) -> io::Result<(UnixListener, UnixFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = UnixFile(path.to_owned());
    if config.unixsocketperm != 0 {
        fs::set_permissions(path, Permissions::from_mode(config.unixsocketperm))?;
    }
    if !config.unixsocketgroup.is_empty() {
        let group = group_id(&config.unixsocketgroup, &fs::read_to_string("/etc/group").unwrap_or_default());
        let unknown = || io::Error::other(format!("there is no group '{}' (unixsocketgroup)", config.unixsocketgroup));
        chown(path, None, Some(group.ok_or_else(unknown)?))?;
    }
    socket.listen(backlog(config))?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// The number of a group, given by its name or as such; `groups` has the lines of `/etc/group`.
fn group_id(group: &str, groups: &str) -> Option<u32> {
    let named = groups.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let is_meant = fields.next() == Some(group);
        fields.nth(1).filter(|_| is_meant)?.parse().ok()
    });
    named.or_else(|| group.parse().ok())
}

/// Removes the file of a socket on which nobody listens any more. Anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        Err(_) => fs::remove_file(path),
    }
}

/// Sets the options of an accepted connection; `keepalive` in seconds, 0 for none.
pub(super) fn set_options(socket: &std::net::TcpStream, keepalive: u32) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    if keepalive > 0 {
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let probe = TcpKeepalive::new()
            .with_time(seconds(keepalive))
            .with_interval(seconds((keepalive / 3).max(1)))
            .with_retries(3);
        socket.set_tcp_keepalive(&probe)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn with(pairs: &[(&str, &str)]) -> io::Result<Vec<Listening>> {
        open(&Config::default().with(pairs).unwrap())
    }

    fn text(result: io::Result<Vec<Listening>>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn addresses_are_bound_or_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        // 192.0.2.0/24 belongs to documentation; .254 is no machine's.
        let taken = text(with(&[("port", &port), ("bind", "127.0.0.1")]));
        assert!(taken.contains(&format!("127.0.0.1 port {port}")), "{taken}");
        drop(free);
        let open = with(&[("port", &port), ("bind", "127.0.0.1 -192.0.2.254")]).unwrap();
        assert_eq!(open.len(), 1);
        drop(open);
        assert!(text(with(&[("port", &port), ("bind", "127.0.0.1 192.0.2.254")])).contains("192.0.2.254"));
        assert!(text(with(&[("port", "0")])).contains("nothing to listen on"));
        assert!(text(with(&[("port", &port), ("bind", "-192.0.2.254")])).contains("nothing to listen on"));
    }

    #[test]
    fn groups_have_names_and_numbers() {
        let groups = "root:x:0:\nredis:x:107:me,you\n12:x:13:\n";
        let found = ["redis", "root", "7", "12", "me", ""].map(|group| group_id(group, groups));
        assert_eq!(found, [Some(107), Some(0), Some(7), Some(13), None, None]);
    }

    #[tokio::test]
    async fn unix_sockets_are_taken_over_only_from_the_dead() {
        let dir = std::env::temp_dir().join(format!("cenote-sockets-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("socket");
        let name = path.to_str().unwrap();
        // The one group that a file may be given to without a privilege.
        let own = fs::metadata(&dir).unwrap().gid().to_string();
        let pairs = [("port", "0"), ("unixsocket", name), ("unixsocketperm", "700"), ("unixsocketgroup", own.as_str())];
        let first = with(&pairs).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid().to_string()), (0o700, own.clone()));
        assert!(text(with(&pairs)).contains("another server listens there"));
        drop(first);
        assert!(!path.exists(), "the file goes with the socket");
        // A server that was killed leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists() && with(&pairs).is_ok());
        fs::write(&path, "precious").unwrap();
        assert!(text(with(&pairs)).contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_dir_all(&dir).unwrap();
    }
}
