//! One session at a Postgres server, outside of the pool, spoken in the simple protocol: what the driver cannot do.
//! Streams of replication are here, and notifications as they come; queries return their rows as text.
//!
//! Every message is bounded before it is buffered. Knows the protocol's frames, not what is asked or told in them.

use super::postgres_link::{Connector, Introduction, Line, Refusal};
use super::wire::Stream;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest message that is read. A row of a stream with all its columns is one message.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Most bytes of rows that one query may return: catalogs and plans are small.
const ROWS_BYTES_MAX: usize = 16 << 20;
/// Space that is made for input at a time, and kept between messages at most.
const INPUT_BYTES: usize = 64 << 10;

/// Why a session is of no use any more, or what a query is at fault with. For the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) detail: String,
    /// What the server gave as SQLSTATE; the session goes on after it.
    pub(super) sqlstate: Option<String>,
}

impl Problem {
    pub(super) fn new(detail: impl Into<String>) -> Problem {
        Problem { detail: detail.into(), sqlstate: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        match &self.sqlstate {
            Some(code) => write!(f, " (SQLSTATE {code})"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::new(format!("the connection broke: {error}"))
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::new(refusal.detail)
    }
}

type Outcome<T> = Result<T, Problem>;

/// A row: its columns' texts, None for NULL.
pub(super) type Row = Vec<Option<String>>;

/// A notification: its channel and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) channel: String,
    pub(super) payload: String,
}

/// What arrives in a stream of replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Streamed {
    /// A message of the plugin.
    Data(Bytes),
    /// The server is at `end_lsn`, and may want an answer.
    Alive { end_lsn: u64, wants_reply: bool },
}

/// An open session.
pub(super) struct Session {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    /// Notifications that came while something else was waited for.
    notifications: VecDeque<Notification>,
}

impl Session {
    /// Opens a session at the first server that lets us in; `replication` makes it one that can stream changes.
    pub(super) async fn open(connector: &Connector, replication: bool) -> Outcome<Session> {
        let mut last = Problem::new("the host has no address");
        let mut lines = connector.lines();
        while let Some(line) = lines.next().await {
            let opened = match line {
                Ok(line) => Session::greet(connector, &line, replication).await,
                Err(refusal) => Err(refusal.into()),
            };
            match opened {
                Ok(session) => return Ok(session),
                Err(problem) => last = problem,
            }
        }
        Err(last)
    }

    async fn greet(connector: &Connector, line: &Line, replication: bool) -> Outcome<Session> {
        let Introduction { user, database, password, options } = connector.introduction(line)?;
        let stream = line.dial().await.map_err(Problem::new)?;
        let mut session =
            Session { stream, input: BytesMut::new(), output: BytesMut::new(), notifications: VecDeque::new() };
        let mut parameters = vec![
            ("user", &*user),
            ("database", &*database),
            ("client_encoding", "UTF8"),
            ("application_name", "cenote"),
        ];
        if !options.is_empty() {
            parameters.push(("options", &*options));
        }
        if replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut session.output)?;
        session.flush().await?;
        session.authenticate(&user, password.as_deref()).await?;
        loop {
            match session.message().await? {
                (b'Z', _) => return Ok(session),
                (b'E', body) => return Err(server_error(&body)),
                _ => {}
            }
        }
    }

    async fn authenticate(&mut self, user: &str, password: Option<&[u8]>) -> Outcome<()> {
        let mut scram = None;
        loop {
            let (kind, mut body) = self.message().await?;
            match kind {
                b'R' if body.len() >= 4 => {}
                b'E' => return Err(server_error(&body)),
                b'N' => continue,
                _ => return Err(Problem::new("the server speaks another protocol")),
            }
            let wanted = || password.ok_or_else(|| Problem::new("the server wants a password, and there is none"));
            match (body.get_u32(), &mut scram) {
                (0, _) => return Ok(()),
                (3, _) => frontend::password_message(wanted()?, &mut self.output)?,
                (5, _) if body.len() >= 4 => {
                    let salt = [body[0], body[1], body[2], body[3]];
                    let hashed = md5_hash(user.as_bytes(), wanted()?, salt);
                    frontend::password_message(hashed.as_bytes(), &mut self.output)?;
                }
                (10, None) if body.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => {
                    let started = ScramSha256::new(wanted()?, ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, started.message(), &mut self.output)?;
                    scram = Some(started);
                }
                (11, Some(scram)) => {
                    scram.update(&body)?;
                    frontend::sasl_response(scram.message(), &mut self.output)?;
                }
                (12, Some(scram)) => scram.finish(&body)?,
                (method, _) => {
                    return Err(Problem::new(format!("the server wants authentication method {method}")));
                }
            }
            self.flush().await?;
        }
    }

    /// Runs one or more statements; returns the rows of the last one that has any. After an error of the server the
    /// session can go on.
    pub(super) async fn query(&mut self, sql: &str) -> Outcome<Vec<Row>> {
        frontend::query(sql, &mut self.output)?;
        self.flush().await?;
        let (mut rows, mut bytes, mut fault) = (Vec::new(), 0, None);
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                b'T' => rows.clear(),
                b'D' => {
                    bytes += body.len();
                    if bytes > ROWS_BYTES_MAX {
                        return Err(Problem::new("the server returned more than was asked for"));
                    }
                    rows.push(row(body)?);
                }
                b'E' => fault = Some(server_error(&body)),
                b'Z' => return fault.map_or(Ok(rows), Err),
                b'A' => self.note(&body)?,
                // A stream would have to be left again.
                b'G' | b'H' | b'W' => return Err(Problem::new("the server began a stream that was not asked for")),
                _ => {}
            }
        }
    }

    /// Begins a stream of replication.
    pub(super) async fn start_stream(&mut self, command: &str) -> Outcome<()> {
        frontend::query(command, &mut self.output)?;
        self.flush().await?;
        loop {
            match self.message().await? {
                (b'W', _) => return Ok(()),
                (b'E', body) => return Err(server_error(&body)),
                (b'Z', _) => return Err(Problem::new("the server began no stream")),
                _ => {}
            }
        }
    }

    /// The next message of the stream. Can be dropped and called again without a loss.
    pub(super) async fn streamed(&mut self) -> Outcome<Streamed> {
        loop {
            let (kind, mut body) = self.message().await?;
            match kind {
                b'd' if body.is_empty() => {}
                b'd' => match body.get_u8() {
                    // Where it begins, where the server is, its clock.
                    b'w' if body.len() >= 24 => return Ok(Streamed::Data(body.split_off(24))),
                    b'k' if body.len() >= 17 => {
                        let end_lsn = body.get_u64();
                        body.advance(8);
                        return Ok(Streamed::Alive { end_lsn, wants_reply: body.get_u8() != 0 });
                    }
                    _ => return Err(Problem::new("a message of the stream is malformed")),
                },
                b'E' => return Err(server_error(&body)),
                b'c' | b'Z' => return Err(Problem::new("the server ended the stream")),
                _ => {}
            }
        }
    }

    /// Tells the server of a stream that everything up to `lsn` is done with; `ping` makes it answer.
    pub(super) async fn confirm(&mut self, lsn: u64, clock_us: i64, ping: bool) -> Outcome<()> {
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        // Written, flushed, applied.
        (0..3).for_each(|_| status.extend_from_slice(&lsn.to_be_bytes()));
        status.extend_from_slice(&clock_us.to_be_bytes());
        status.push(u8::from(ping));
        frontend::CopyData::new(&status[..])?.write(&mut self.output);
        self.flush().await
    }

    /// The next notification. Can be dropped and called again without a loss.
    pub(super) async fn notification(&mut self) -> Outcome<Notification> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(notification);
            }
            match self.message().await? {
                (b'A', body) => self.note(&body)?,
                (b'E', body) => return Err(server_error(&body)),
                _ => {}
            }
        }
    }

    fn note(&mut self, body: &[u8]) -> Outcome<()> {
        let malformed = || Problem::new("a notification is malformed");
        let mut texts = body.get(4..).ok_or_else(malformed)?.split(|byte| *byte == 0);
        let mut text = || Some(String::from_utf8_lossy(texts.next()?).into_owned());
        let (channel, payload) = (text().ok_or_else(malformed)?, text().ok_or_else(malformed)?);
        self.notifications.push_back(Notification { channel, payload });
        Ok(())
    }

    async fn flush(&mut self) -> Outcome<()> {
        self.stream.write_all_buf(&mut self.output).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message: its type and body. What was read stays if this is dropped.
    async fn message(&mut self) -> Outcome<(u8, Bytes)> {
        loop {
            let missing = match frame(&self.input)? {
                Some(length) if self.input.len() > length => {
                    let mut whole = self.input.split_to(1 + length).freeze();
                    let kind = whole.get_u8();
                    whole.advance(4);
                    return Ok((kind, whole));
                }
                Some(length) => 1 + length - self.input.len(),
                None => 1,
            };
            self.input.reserve(missing.clamp(INPUT_BYTES / 8, INPUT_BYTES));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Problem::new("the server closed the connection"));
            }
        }
    }
}

/// The length at the head of a message, which counts itself but not the type before it; None if it is not all there.
fn frame(input: &[u8]) -> Outcome<Option<usize>> {
    let Some(&[_, a, b, c, d]) = input.first_chunk::<5>() else { return Ok(None) };
    match u32::from_be_bytes([a, b, c, d]) as usize {
        length if (4..=MESSAGE_BYTES_MAX).contains(&length) => Ok(Some(length)),
        _ => Err(Problem::new(format!("a message of the server is longer than {MESSAGE_BYTES_MAX} bytes"))),
    }
}

fn row(mut body: Bytes) -> Outcome<Row> {
    let malformed = || Problem::new("a row is malformed");
    if body.len() < 2 {
        return Err(malformed());
    }
    let count = body.get_u16();
    let mut row = Vec::new();
    for _ in 0..count {
        if body.len() < 4 {
            return Err(malformed());
        }
        row.push(match body.get_i32() {
            length if length < 0 => None,
            length if length as usize <= body.len() => {
                Some(String::from_utf8_lossy(&body.split_to(length as usize)).into_owned())
            }
            _ => return Err(malformed()),
        });
    }
    Ok(row)
}

/// The fields of an error that people need.
fn server_error(body: &[u8]) -> Problem {
    let mut problem = Problem::new("the server reported an error");
    for field in body.split(|byte| *byte == 0) {
        let text = || String::from_utf8_lossy(&field[1..]).into_owned();
        match field.first() {
            Some(b'M') => problem.detail = text(),
            Some(b'C') => problem.sqlstate = Some(text()),
            _ => {}
        }
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_bounded() {
        assert_eq!(frame(b"D\0\0"), Ok(None));
        assert_eq!(frame(b"D\0\0\0\x04"), Ok(Some(4)));
        assert!(frame(b"D\0\0\0\x03").is_err());
        assert!(frame(b"D\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn errors_show_message_and_code() {
        let problem = server_error(b"SERROR\0C42P01\0Mno such table\0\0");
        assert_eq!(problem.to_string(), "no such table (SQLSTATE 42P01)");
        assert_eq!(server_error(b"").sqlstate, None);
    }

    proptest! {
        #[test]
        fn rows_and_errors_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = row(Bytes::copy_from_slice(&bytes));
            let _ = server_error(&bytes);
        }
    }
}
