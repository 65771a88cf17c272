//! The sources and routes in force: replaced as a whole (ROUTE RELOAD, SIGHUP), read without a lock. Knows nothing of
//! what is in them.

use crate::source::Sources;
use arc_swap::{ArcSwap, Guard};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The one set of sources and routes in force.
pub struct SourcesHandle {
    current: ArcSwap<Sources>,
    /// Asked for each command that misses, or more often: a load of the whole would cost more.
    has_routes: AtomicBool,
    /// Asked for each command that writes.
    watches_writes: AtomicBool,
    /// The file that they are read from.
    pub file: Option<PathBuf>,
    /// Held while a replacement is made, so that none is lost.
    replacing: parking_lot::Mutex<()>,
    replaced: Notify,
}

impl SourcesHandle {
    /// Puts the first sources into force; `file` is where they were read.
    pub fn new(sources: Sources, file: Option<PathBuf>) -> Self {
        Self {
            has_routes: AtomicBool::new(sources.has_routes()),
            watches_writes: AtomicBool::new(sources.watches_writes()),
            current: ArcSwap::from_pointee(sources),
            file,
            replacing: parking_lot::Mutex::default(),
            replaced: Notify::new(),
        }
    }

    /// True if any key may be loaded. One relaxed load.
    #[inline]
    pub fn has_routes(&self) -> bool {
        self.has_routes.load(Ordering::Relaxed)
    }

    /// True if some route has to say something to those who write its keys. One relaxed load.
    #[inline]
    pub fn watches_writes(&self) -> bool {
        self.watches_writes.load(Ordering::Relaxed)
    }

    /// The sources in force, for a moment: not to be held over an await.
    #[inline]
    pub fn load(&self) -> Guard<Arc<Sources>> {
        self.current.load()
    }

    /// The sources in force, to keep.
    pub fn load_full(&self) -> Arc<Sources> {
        self.current.load_full()
    }

    /// Replaces the sources by what `change` makes of them, unless that fails. Loads under way go on with the old
    /// ones. Returns the old and the new.
    pub fn replace<E>(
        &self,
        change: impl FnOnce(&Sources) -> Result<Sources, E>,
    ) -> Result<(Arc<Sources>, Arc<Sources>), E> {
        let _one_at_a_time = self.replacing.lock();
        let old = self.load_full();
        let new = Arc::new(change(&old)?);
        self.has_routes.store(new.has_routes(), Ordering::Relaxed);
        self.watches_writes.store(new.watches_writes(), Ordering::Relaxed);
        self.current.store(Arc::clone(&new));
        self.replaced.notify_waiters();
        Ok((old, new))
    }

    /// Waits for the next replacement.
    pub fn replaced(&self) -> Notified<'_> {
        self.replaced.notified()
    }
}

impl From<Sources> for SourcesHandle {
    fn from(sources: Sources) -> Self {
        Self::new(sources, None)
    }
}
