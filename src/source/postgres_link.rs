//! One connection to Postgres: where to connect and as whom, opening it, cancelling what runs on it, closing it.

use super::password::{self, Account};
use super::pool::{Connect, Link};
use super::postgres_statement::Prepared;
use super::routes::PasswordFrom;
use super::wire::{Address, Guarded, Stream};
use super::{Cause, LoadError};
use std::collections::HashMap;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

const PORT_DEFAULT: u16 = 5432;
/// How long a cancel request may take, and then the connection's orderly end.
const RETIRE_STEP: Duration = Duration::from_secs(1);

/// What every session runs under. The texts that a query makes of dates, numbers and bytes must not depend on the
/// server's settings; a query must not write; and it must not outlive its load by much if the cancel request is lost.
const SESSION: &str = "-c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO \
                       -c IntervalStyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex \
                       -c standard_conforming_strings=on";

/// Where a database is and who we are there: a connection URL, read. Shown without its password.
#[derive(Clone)]
pub struct Target {
    config: Config,
}

impl Target {
    /// Reads a connection URL or `key=value` string, as libpq takes it.
    pub fn parse(url: &str) -> Result<Target, String> {
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            // The cause names the part that is wrong, never its value.
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            format!("url is not a Postgres connection URL such as \"postgres://app@localhost/shop\"{cause}")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("url names no host; write one such as \"postgres://app@localhost/shop\"".into());
        }
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            return Err("url: TLS is not available yet; sslmode can be \"disable\" or \"prefer\"".into());
        }
        if config.get_target_session_attrs() != TargetSessionAttrs::Any {
            return Err("url: target_session_attrs can only be \"any\"".into());
        }
        let (hosts, ports) = (config.get_hosts().len().max(config.get_hostaddrs().len()), config.get_ports().len());
        if ports > 1 && ports != hosts {
            return Err(format!("url names {hosts} hosts but {ports} ports; give one port for all or one for each"));
        }
        if !config.get_hosts().is_empty()
            && !matches!(config.get_hostaddrs().len(), 0)
            && config.get_hostaddrs().len() != hosts
        {
            return Err("url: host and hostaddr must name the same number of servers".into());
        }
        Ok(Target { config })
    }

    /// Each server's host as written and its port.
    fn servers(&self) -> impl Iterator<Item = (String, u16)> {
        let ports = self.config.get_ports();
        let count = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        (0..count).map(move |index| {
            let host = match (self.config.get_hosts().get(index), self.config.get_hostaddrs().get(index)) {
                (Some(Host::Tcp(name)), _) => name.clone(),
                (Some(Host::Unix(folder)), _) => folder.display().to_string(),
                (None, Some(address)) => address.to_string(),
                (None, None) => String::new(),
            };
            (host, ports.get(index).or(ports.first()).copied().unwrap_or(PORT_DEFAULT))
        })
    }

    /// True if it names more than one server.
    pub(super) fn is_several(&self) -> bool {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len()) > 1
    }

    /// All addresses of server `index`.
    async fn resolve(&self, index: usize, host: &str, port: u16) -> io::Result<Vec<Address>> {
        if let Some(address) = self.config.get_hostaddrs().get(index) {
            return Ok(vec![Address::Tcp((*address, port).into())]);
        }
        if let Some(Host::Unix(folder)) = self.config.get_hosts().get(index) {
            return Ok(vec![Address::Unix(folder.join(format!(".s.PGSQL.{port}")))]);
        }
        Ok(tokio::net::lookup_host((host, port)).await?.map(Address::Tcp).collect())
    }

    /// Who we are there.
    pub(super) fn user(&self) -> Option<String> {
        self.config.get_user().map(str::to_owned).or_else(|| std::env::var("USER").ok())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(f, "{}", servers.join(","))?;
        let user = self.user();
        if let Some(database) = self.config.get_dbname().or(user.as_deref()) {
            write!(f, ", database {database}")?;
        }
        match &user {
            Some(user) => write!(f, ", user {user}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Opens connections of one source.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) password: PasswordFrom,
    /// The server's own bound on a query, in case the cancel request does not arrive.
    pub(super) statement_timeout: Duration,
    /// The longest message that is read.
    pub(super) message_bytes_max: usize,
}

/// A connection before its first message, and what to say in it.
pub(super) struct Dialed {
    pub(super) stream: Stream,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) password: Option<Vec<u8>>,
    /// Settings of the session, as libpq's `options`.
    pub(super) options: String,
}

/// Why connecting failed: what clients may know, and what the log should say.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) error: LoadError,
    pub(super) detail: String,
}

impl Connector {
    /// Opens a connection to the first server that accepts one.
    pub(super) async fn open(&self) -> Result<PgLink, Refusal> {
        let mut refusal = None;
        for (index, (host, port)) in self.target.servers().enumerate() {
            let config = self.session(&host, port).map_err(|detail| Refusal { error: Cause::Down.into(), detail })?;
            let addresses = match self.target.resolve(index, &host, port).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    refusal = Some(Refusal { error: Cause::Down.into(), detail: format!("{host}: {error}") });
                    continue;
                }
            };
            for address in addresses {
                match self.greet(&config, address).await {
                    Ok(link) => return Ok(link),
                    Err(failed) => refusal = Some(failed),
                }
            }
        }
        let none = || Refusal { error: Cause::Down.into(), detail: "the host has no address".into() };
        Err(refusal.unwrap_or_else(none))
    }

    /// The target's settings with the password and what every session runs under.
    fn session(&self, host: &str, port: u16) -> Result<Config, String> {
        let mut config = self.target.config.clone();
        let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        config.options(format!("{given}{SESSION} -c statement_timeout={}", self.statement_timeout.as_millis()));
        if config.get_application_name().is_none() {
            config.application_name("cenote");
        }
        if config.get_password().is_none() {
            let user = self.target.user().unwrap_or_default();
            let host = if Path::new(host).is_absolute() { "localhost" } else { host };
            let account = Account { host, port, database: config.get_dbname().unwrap_or(&user), user: &user };
            if let Some(password) = password::find(&self.password, &account)? {
                config.password(password);
            }
        }
        Ok(config)
    }

    /// Connects to the first server that can be reached, for a session that the driver cannot hold. Nothing is said yet.
    pub(super) async fn dial(&self) -> Result<Dialed, String> {
        let mut refusal = String::from("the host has no address");
        for (index, (host, port)) in self.target.servers().enumerate() {
            let config = self.session(&host, port)?;
            let addresses = match self.target.resolve(index, &host, port).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    refusal = format!("{host}: {error}");
                    continue;
                }
            };
            for address in addresses {
                match address.connect().await {
                    Ok(stream) => {
                        let user = self.target.user().unwrap_or_default();
                        let options = config.get_options().unwrap_or_default();
                        return Ok(Dialed {
                            stream,
                            database: config.get_dbname().unwrap_or(&user).into(),
                            user,
                            password: config.get_password().map(<[u8]>::to_vec),
                            // What it runs has deadlines of its own.
                            options: format!("{options} -c statement_timeout=0"),
                        });
                    }
                    Err(error) => refusal = format!("{host}: {error}"),
                }
            }
        }
        Err(refusal)
    }

    async fn greet(&self, config: &Config, address: Address) -> Result<PgLink, Refusal> {
        let stream = address.connect().await.map_err(|error| {
            let detail = match &address {
                Address::Tcp(address) => format!("{address}: {error}"),
                Address::Unix(path) => format!("{}: {error}", path.display()),
            };
            Refusal { error: Cause::Down.into(), detail }
        })?;
        let overflowed = Arc::new(AtomicBool::new(false));
        let guarded = Guarded::new(stream, self.message_bytes_max, Arc::clone(&overflowed));
        let (client, connection) = config.connect_raw(guarded, NoTls).await.map_err(|error| refusal(&error))?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %explain(&error), "a connection to the database ended");
            }
        }));
        Ok(PgLink { client, driver, address, overflowed, statements: HashMap::new(), running: false, doomed: false })
    }
}

impl Connect for Connector {
    type Link = PgLink;

    async fn connect(&self) -> Result<PgLink, LoadError> {
        self.open().await.map_err(|refusal| {
            tracing::warn!(database = %self.target, error = %refusal.detail, "cannot connect to the database");
            refusal.error
        })
    }
}

/// Whatever the reason, no query ran: the database is down for us, and the code says more.
fn refusal(error: &tokio_postgres::Error) -> Refusal {
    Refusal { error: LoadError { cause: Cause::Down, sqlstate: sqlstate(error) }, detail: explain(error) }
}

/// The five-character code, if the server sent one.
pub(super) fn sqlstate(error: &tokio_postgres::Error) -> Option<[u8; 5]> {
    error.code()?.code().as_bytes().try_into().ok()
}

/// What a log or `check` may show of an error: the server's message with its code, or the chain of causes.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", server.message(), server.code().code());
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// One open connection.
pub(super) struct PgLink {
    pub(super) client: Client,
    driver: Driver,
    /// Where it is connected: a cancel request must go to the same server.
    address: Address,
    /// Set when the server sent a message that is too long; the connection is then at its end.
    pub(super) overflowed: Arc<AtomicBool>,
    /// What is prepared on it, by route id.
    pub(super) statements: HashMap<u64, Arc<Prepared>>,
    /// Whether the server may still be at work for us.
    pub(super) running: bool,
    /// Whether it is not to be used again, or known to end soon though it has not yet.
    pub(super) doomed: bool,
}

/// The task that moves the connection's bytes; it ends with the link, whatever the server does.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PgLink {
    /// Whether the guard ended it.
    pub(super) fn is_overflowed(&self) -> bool {
        self.overflowed.load(Relaxed)
    }

    /// Closes it in order: lets the server know, and waits a moment for that to be sent.
    async fn close(self) {
        let PgLink { client, mut driver, statements, .. } = self;
        drop((statements, client));
        let _ = timeout(RETIRE_STEP, &mut driver.0).await;
    }
}

impl Link for PgLink {
    fn is_open(&self) -> bool {
        !self.doomed && !self.client.is_closed()
    }

    fn is_quiet(&self) -> bool {
        !self.running
    }

    /// Asks the server to stop, so that it does not work on for nobody. A cancel request can arrive late and would
    /// then hit the next query, so the connection is not used again.
    async fn retire(self) {
        if let Ok(Err(error)) = timeout(RETIRE_STEP, cancel(&self.address, self.client.cancel_token())).await {
            tracing::debug!(%error, "a cancel request could not be sent");
        }
        self.close().await;
    }
}

async fn cancel(address: &Address, token: CancelToken) -> io::Result<()> {
    let stream: Stream = address.connect().await?;
    token.cancel_query_raw(stream, NoTls).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let shown = |url: &str| Target::parse(url).map(|target| target.to_string());
        assert_eq!(shown("postgres://app:secret@db/shop").unwrap(), "db:5432, database shop, user app");
        assert_eq!(shown("host=/run/x port=7 user=a dbname=b").unwrap(), "/run/x:7, database b, user a");
        assert_eq!(shown("postgres://a@h1:1,h2:2/d").unwrap(), "h1:1,h2:2, database d, user a");
        for url in
            ["postgres://app:s3cret@db/shop?sslmode=require", "postgres://app:s3cret@db/shop?sslmode=verify-full"]
        {
            let message = shown(url).unwrap_err();
            assert!(message.contains("sslmode") && !message.contains("s3cret"), "{message}");
        }
        for url in ["", "mysql://x", "postgres://", "postgres://a:s3cret@h:x/d", "postgres://a:s3cret@h/d?color=1"] {
            let message = shown(url).unwrap_err();
            assert!(!message.contains("s3cret"), "{message}");
        }
        assert!(!format!("{:?}", Target::parse("postgres://app:s3cret@db/shop")).contains("s3cret"));
    }
}
