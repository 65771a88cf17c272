//! The configuration as the server shares it: replaced as a whole, read without a lock as long as
//! it did not change. Knows nothing of what is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Config;

/// The one configuration in force.
pub struct ConfigHandle {
    current: RwLock<Arc<Config>>,
    version: AtomicU64,
    /// Held while an update is prepared, so that none is lost and readers do not wait for it.
    updating: Mutex<()>,
}

impl ConfigHandle {
    /// Puts the first configuration into force, version 1.
    pub fn new(config: Config) -> Self {
        ConfigHandle { current: RwLock::new(Arc::new(config)), version: AtomicU64::new(1), updating: Mutex::new(()) }
    }

    /// Grows with each update. One relaxed load; ask before [`ConfigHandle::load`], not after.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The configuration in force.
    pub fn load(&self) -> Arc<Config> {
        self.current.read().clone()
    }

    /// Replaces the configuration by what `change` makes of it, unless that fails. Updates run one
    /// at a time; `change` may take its time (bind a port), readers go on with the old one.
    /// It must not update in turn.
    pub fn update<E>(&self, change: impl FnOnce(&Config) -> Result<Config, E>) -> Result<Arc<Config>, E> {
        let _one_at_a_time = self.updating.lock();
        let new = Arc::new(change(&self.load())?);
        // The version moves last: who sees the new version loads the new configuration.
        *self.current.write() = new.clone();
        self.version.fetch_add(1, Ordering::Relaxed);
        Ok(new)
    }
}

/// One reader's cached view of a [`ConfigHandle`].
pub struct ConfigReader {
    handle: Arc<ConfigHandle>,
    version: u64,
    config: Arc<Config>,
}

impl ConfigReader {
    /// A view that is up to date.
    pub fn new(handle: Arc<ConfigHandle>) -> Self {
        let version = handle.version();
        let config = handle.load();
        ConfigReader { handle, version, config }
    }

    /// The configuration in force: one relaxed load if it did not change since the last call.
    pub fn current(&mut self) -> &Arc<Config> {
        let version = self.handle.version();
        if version != self.version {
            self.version = version;
            self.config = self.handle.load();
        }
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_updates() {
        let handle = Arc::new(ConfigHandle::new(Config::default()));
        let mut reader = ConfigReader::new(handle.clone());
        let before = reader.current().clone();
        assert!(Arc::ptr_eq(&before, reader.current()));
        handle.update(|config| config.set(&[(b"hz", b"50")], true)).unwrap();
        assert_eq!((before.hz, reader.current().hz, handle.version()), (10, 50, 2));
        handle.update(|config| config.set(&[(b"hz", b"x")], true)).unwrap_err();
        assert_eq!((reader.current().hz, handle.version()), (50, 2));
    }

    #[test]
    fn no_update_is_lost() {
        let handle = ConfigHandle::new(Config::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let more = |config: &Config| {
                            let next = (config.timeout + 1).to_string();
                            config.set(&[(b"timeout", next.as_bytes())], true)
                        };
                        handle.update(more).unwrap();
                    }
                });
            }
        });
        assert_eq!(handle.load().timeout, 100);
    }
}
