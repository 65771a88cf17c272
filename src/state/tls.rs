//! The TLS that is in force: read from the files, and read again while the server runs. It must not know sockets.

use super::State;
use crate::config::Config;
use crate::tls;
use rustls::ServerConfig;
use std::sync::Arc;

/// What TLS `config` asks for; none without a port for it.
pub fn tls_of(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
    if config.tls_port == 0 { Ok(None) } else { tls::server_config(&config.tls).map(Some) }
}

impl State {
    /// Puts the TLS into force that `config` asks for. What connections have agreed on stays.
    ///
    /// # Errors
    /// What is wrong; then all stays as it was.
    pub fn set_tls(&self, config: &Config) -> Result<(), String> {
        self.tls.store(tls_of(config)?);
        Ok(())
    }

    /// Reads the files of certificates and keys again; the log tells what came of it.
    pub fn reload_tls(&self) {
        let config = self.config.load();
        if config.tls_port == 0 {
            return;
        }
        match self.set_tls(&config) {
            Ok(()) => tracing::info!("the certificates and keys of TLS were read again"),
            Err(why) => tracing::error!("TLS stays as it was: {why}"),
        }
    }
}
