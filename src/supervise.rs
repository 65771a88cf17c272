//! What whoever started the program watches: the working folder, the pid file, systemd's notification. Knows files
//! and one socket, nothing of the server.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

/// A pid file, removed when this is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process's id to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(path: &str) -> io::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.into()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where systemd waits for word, if `supervised` is `systemd` or `auto` and systemd asked for it.
fn notify_socket(supervised: &str) -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|_| matches!(supervised, "systemd" | "auto"))
}

/// True if systemd waits for word from this process.
pub fn is_notified(supervised: &str) -> bool {
    notify_socket(supervised).is_some()
}

/// Tells systemd that the server is ready, if it waits for that. Returns whether it was told.
///
/// # Errors
/// When the socket that systemd named cannot be reached.
pub fn notify_ready(supervised: &str) -> io::Result<bool> {
    let Some(socket) = notify_socket(supervised) else { return Ok(false) };
    notify(socket.as_bytes()).map(|()| true)
}

fn notify(socket: &[u8]) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1\nSTATUS=Ready to accept connections", &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_by_path_or_abstract_name() {
        let name = format!("cenote-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, address) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
            notify(address.as_bytes()).unwrap();
            let mut text = [0; 100];
            let len = socket.recv(&mut text).unwrap();
            assert!(text[..len].starts_with(b"READY=1\n"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(notify(b"/nonexistent/socket").is_err());
    }

    #[test]
    fn a_pid_file_lives_as_long_as_the_program() {
        let path = std::env::temp_dir().join(format!("cenote-test-{}.pid", std::process::id()));
        let file = PidFile::write(path.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
