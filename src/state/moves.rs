//! Asking the server, from a command, to listen elsewhere: CONFIG SET of `port` and `bind`. It must not know sockets.

use crate::config::Config;
use parking_lot::Mutex;
use std::sync::mpsc as answers;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the server may take to open its sockets.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server is asked: to listen as `config` says.
#[derive(Debug)]
pub struct MoveRequest {
    /// The directives that are to be in force.
    pub config: Config,
    answer: answers::Sender<Result<(), String>>,
}

impl MoveRequest {
    /// Done, or why not; then the server listens where it did.
    pub fn answer(self, result: Result<(), String>) {
        // Who asked may have lost patience.
        let _ = self.answer.send(result);
    }
}

/// The way from commands to the server's sockets.
#[derive(Debug, Default)]
pub struct Moves(Mutex<Option<mpsc::UnboundedSender<MoveRequest>>>);

impl Moves {
    /// What the server is asked from now on.
    pub fn requests(&self) -> mpsc::UnboundedReceiver<MoveRequest> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lock() = Some(sender);
        receiver
    }

    /// Asks the server to listen as `config` says, and waits until it does.
    ///
    /// # Errors
    /// Why it does not.
    pub fn ask(&self, config: Config) -> Result<(), String> {
        let (answer, answered) = answers::channel();
        let request = MoveRequest { config, answer };
        let sent = self.0.lock().as_ref().is_some_and(|sender| sender.send(request).is_ok());
        if !sent {
            return Err("the server does not listen".into());
        }
        answered.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("the server is busy".into()))
    }
}
