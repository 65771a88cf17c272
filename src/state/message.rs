//! What connections are sent without having asked for it just now, encoded once for each version of the protocol. It must
//! not know who gets it.

use crate::protocol::{Output, Reply, Version};
use bytes::Bytes;

/// Encodes what `write` writes.
pub(super) fn encode(version: Version, write: impl FnOnce(&mut Reply<'_>)) -> Bytes {
    let mut out = Output::new();
    write(&mut Reply::new(&mut out, version));
    Bytes::copy_from_slice(out.contiguous().unwrap_or_default())
}

/// A message, encoded when it is first wanted in a version.
pub(super) struct Message<W> {
    write: W,
    encoded: [Option<Bytes>; 2],
}

impl<W: Fn(&mut Reply<'_>, Version)> Message<W> {
    /// What `write` writes.
    pub(super) fn new(write: W) -> Self {
        Self { write, encoded: [None, None] }
    }

    /// It in a version.
    pub(super) fn encoded(&mut self, version: Version) -> Bytes {
        let form = &mut self.encoded[usize::from(version == Version::V3)];
        form.get_or_insert_with(|| encode(version, |reply| (self.write)(reply, version))).clone()
    }
}
