//! One server with its named connections, as transcripts use them. Knows no rules of comparison.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Client, Failure, Oracle, PATIENCE, Server, Value};

use super::judge::Outcome;
use super::transcript::Ending;

/// Long enough for a busy machine, short enough for many unanswered commands.
const REPLY_PATIENCE: Duration = Duration::from_secs(5);

/// A server and its connections.
pub(super) struct Member {
    pub(super) server: Server,
    clients: HashMap<String, Client>,
    current: String,
    resp3: bool,
}

/// Starts Cenote and all oracles with the same arguments, Cenote first.
pub(super) fn start_all(args: &[String], resp3: bool) -> (Member, Vec<(Oracle, Member)>) {
    let tested = Member::new(Server::cenote().args(args).start(), resp3);
    let oracle = |oracle| (oracle, Member::new(Server::oracle(oracle).args(args).start(), resp3));
    (tested, Oracle::ALL.map(oracle).into())
}

impl Member {
    pub(super) fn new(server: Server, resp3: bool) -> Self {
        Self { server, clients: HashMap::new(), current: "main".to_owned(), resp3 }
    }

    /// Closes all connections, opens a new one, and empties the server.
    pub(super) fn new_section(&mut self) {
        self.clients.clear();
        self.use_connection("main");
        let _ = self.ask(&["FLUSHALL"]);
    }

    pub(super) fn use_connection(&mut self, name: &str) {
        self.current = name.to_owned();
        self.client();
    }

    pub(super) fn hello(&mut self, version: u8) {
        let _ = self.ask(&["HELLO", &version.to_string()]);
    }

    /// Sends a command and takes what follows.
    pub(super) fn run(&mut self, words: &[Vec<u8>], ending: Ending) -> Outcome {
        let words: Vec<_> = words.iter().map(|word| self.fill_in(word)).collect();
        let outcome = self.exchange(&words, ending);
        if outcome.is_err() || ending == Ending::ReplyAndClose {
            self.clients.remove(&self.current);
        }
        outcome
    }

    /// Repeats a command until the reply is nil, 0 or -2; `false` where that does not come.
    pub(super) fn until_nil(&mut self, words: &[Vec<u8>]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.run(words, Ending::Reply) {
                Ok(Some(reply)) if matches!(reply.value, Value::Nil | Value::Int(0 | -2)) => {
                    return true;
                }
                Ok(Some(reply)) if reply.value.is_error() => return false,
                Ok(_) => thread::sleep(Duration::from_millis(2)),
                Err(_) => return false,
            }
        }
        false
    }

    fn exchange(&mut self, words: &[Vec<u8>], ending: Ending) -> Outcome {
        let client = self.client();
        client.send(words)?;
        if ending == Ending::NoReply {
            return Ok(None);
        }
        let reply = client.read_reply()?;
        client.note_protocol(words, &reply);
        if ending == Ending::ReplyAndClose && !client.is_closed() {
            return Err(Failure::Silent("(the connection stays open)".to_owned()));
        }
        Ok(Some(reply))
    }

    fn ask(&mut self, words: &[&str]) -> Outcome {
        self.client().try_cmd(words).map(Some)
    }

    /// The current connection, opened where it is not.
    fn client(&mut self) -> &mut Client {
        let (port, resp3) = (self.server.port(), self.resp3);
        self.clients.entry(self.current.clone()).or_insert_with(|| {
            let mut client = Client::connect(port);
            client.set_patience(REPLY_PATIENCE);
            if resp3 {
                let _ = client.try_cmd(&["HELLO", "3"]);
            }
            client
        })
    }

    /// Replaces what stands in braces, where it is one of the known forms.
    fn fill_in(&mut self, word: &[u8]) -> Vec<u8> {
        let inner = std::str::from_utf8(word).ok().and_then(|w| w.strip_prefix('{')?.strip_suffix('}'));
        inner.and_then(|inner| self.meaning(inner)).unwrap_or_else(|| word.to_vec())
    }

    fn meaning(&mut self, inner: &str) -> Option<Vec<u8>> {
        let text = if let Some(name) = inner.strip_prefix("id:") {
            let client = self.clients.get_mut(name)?;
            client.cmd(&["CLIENT", "ID"]).int().to_string()
        } else if let Some(name) = inner.strip_prefix("addr:") {
            self.clients.get(name)?.local_address()
        } else if let Some(rest) = inner.strip_prefix("repeat:") {
            let (text, count) = rest.rsplit_once(':')?;
            text.repeat(count.parse().ok()?)
        } else if inner == "laddr" {
            format!("127.0.0.1:{}", self.server.port())
        } else if let Some(offset) = inner.strip_prefix("nowms") {
            (now_ms()? + offset_of(offset)?).to_string()
        } else {
            (now_ms()? / 1000 + offset_of(inner.strip_prefix("now")?)?).to_string()
        };
        Some(text.into_bytes())
    }
}

fn now_ms() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn offset_of(text: &str) -> Option<i64> {
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}
