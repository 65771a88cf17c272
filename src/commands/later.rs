//! A reply that takes its time: for the few commands that ask somebody else. Knows no command.

use crate::protocol::Reply;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Writes a reply once it is known.
pub type Answer = Box<dyn FnOnce(&mut Reply<'_>) + Send>;

/// A reply to come. Its connection waits for it; dropping it gives it up.
pub struct Later(Pin<Box<dyn Future<Output = Answer> + Send>>);

impl Later {
    /// The reply that a future comes to.
    pub fn new(future: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Later {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}
