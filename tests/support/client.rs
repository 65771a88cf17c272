//! A blocking client for tests: sends commands or raw bytes, gives each reply both as bytes and as a value.
//! It decodes with redis-protocol, an implementation that is not ours. Every wait has an end.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use redis_protocol::{resp2, resp3};

use super::{PATIENCE, Value, escape};

/// One reply: its exact bytes, and what they mean.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) raw: Vec<u8>,
    pub(crate) value: Value,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server closed the connection; the bytes of the reply it did not finish.
    Closed(String),
    /// Nothing (more) came in time; what had come.
    Silent(String),
    /// The bytes are not a reply of the protocol version in use.
    Malformed(String),
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    resp3: bool,
    patience: Duration,
}

impl Client {
    /// Connects to `port` of this machine.
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap_or_else(|e| panic!("cannot connect to port {port}: {e}"))
    }

    pub(crate) fn try_connect(port: u16) -> std::io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), resp3: false, patience: PATIENCE })
    }

    /// How long a reply may take before it counts as `Failure::Silent`.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// `address:port` of this end, as CLIENT LIST names it.
    pub(crate) fn local_address(&self) -> String {
        self.stream.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    /// Sends a command and returns its reply's value; panics where there is no reply.
    #[track_caller]
    pub(crate) fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        match self.try_cmd(args) {
            Ok(reply) => reply.value,
            Err(failure) => {
                let words: Vec<_> = args.iter().map(|a| escape(a.as_ref())).collect();
                panic!("no reply to {}: {failure:?}", words.join(" "))
            }
        }
    }

    pub(crate) fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, Failure> {
        self.send(args)?;
        let reply = self.read_reply()?;
        self.note_protocol(args, &reply);
        Ok(reply)
    }

    /// Switches to protocol version 2 or 3.
    #[track_caller]
    pub(crate) fn hello(&mut self, version: u8) {
        let reply = self.cmd(&["HELLO", &version.to_string()]);
        assert!(!reply.is_error(), "HELLO {version}: {reply:?}");
    }

    /// Sends all commands at once and returns the replies in order.
    pub(crate) fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>, Failure> {
        let mut bytes = Vec::new();
        for command in commands {
            encode(command, &mut bytes);
        }
        self.send_raw(&bytes)?;
        commands.iter().map(|_| self.read_reply()).collect()
    }

    /// Sends a command without waiting for the reply.
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::Silent("(while sending)".to_owned()),
            _ => Failure::Closed(String::new()),
        })
    }

    /// Tells the server that nothing more will come; replies can still be read.
    pub(crate) fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    pub(crate) fn read_reply(&mut self) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(reply);
            }
            if !self.fill(deadline)? {
                return Err(Failure::Closed(escape(&self.buffer)));
            }
        }
    }

    /// Reads until the server closes the connection; what came.
    pub(crate) fn read_to_end(&mut self) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + self.patience;
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads until `enough` says so of all that came, the server closes, or patience ends.
    pub(crate) fn read_raw_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> (Vec<u8>, Option<Failure>) {
        let deadline = Instant::now() + self.patience;
        let mut failure = None;
        while !enough(&self.buffer) && failure.is_none() {
            failure = match self.fill(deadline) {
                Ok(true) => None,
                Ok(false) => Some(Failure::Closed(String::new())),
                Err(failure) => Some(failure),
            };
        }
        (std::mem::take(&mut self.buffer), failure)
    }

    /// Whether the server has closed, or closes in time, with nothing more to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        let deadline = Instant::now() + self.patience;
        self.buffer.is_empty() && matches!(self.fill(deadline), Ok(false))
    }

    /// Keeps the decoder in step with what a HELLO or RESET has just agreed on.
    pub(crate) fn note_protocol<A: AsRef<[u8]>>(&mut self, args: &[A], reply: &Reply) {
        let Some(name) = args.first() else { return };
        if reply.value.is_error() {
            return;
        }
        if name.as_ref().eq_ignore_ascii_case(b"hello") {
            match args.get(1).map(AsRef::as_ref) {
                Some(b"3") => self.resp3 = true,
                Some(b"2") => self.resp3 = false,
                _ => {}
            }
        } else if name.as_ref().eq_ignore_ascii_case(b"reset") {
            self.resp3 = false;
        }
    }

    /// Takes a complete reply from the front of the buffer.
    fn take_reply(&mut self) -> Result<Option<Reply>, Failure> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let bytes = &self.buffer;
        // The reply that agrees on RESP3 is itself a map, before this client knows.
        let decoded = if self.resp3 || bytes[0] == b'%' {
            resp3::decode::complete::decode_range(bytes)
                .map(|frame| frame.map(|(frame, length)| (Value::from_resp3(frame, bytes), length)))
        } else {
            resp2::decode::decode_range(bytes)
                .map(|frame| frame.map(|(frame, length)| (Value::from_resp2(frame, bytes), length)))
        };
        match decoded {
            Ok(None) => Ok(None),
            Ok(Some((value, length))) => {
                let rest = self.buffer.split_off(length);
                let raw = std::mem::replace(&mut self.buffer, rest);
                Ok(Some(Reply { raw, value }))
            }
            Err(e) => Err(Failure::Malformed(format!("{e}: {}", escape(bytes)))),
        }
    }

    /// Reads what is there, waiting until `deadline`; `false` when the server has closed.
    fn fill(&mut self, deadline: Instant) -> Result<bool, Failure> {
        let silent = |buffer: &[u8]| Failure::Silent(escape(buffer));
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
            return Err(silent(&self.buffer));
        }
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(silent(&self.buffer)),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Ok(false),
        }
    }
}

/// Appends a command as an array of bulk strings.
fn encode<A: AsRef<[u8]>>(args: &[A], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
}
