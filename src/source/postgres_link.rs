//! One connection to Postgres: opening it, cancelling what runs on it, closing it. Every connection to a database, of
//! the pool or not, is dialed here.

use super::password::{self, Account};
use super::pool::{Connect, Link};
use super::postgres_statement::Prepared;
use super::postgres_target::Target;
use super::postgres_write::PreparedWrite;
use super::source_config::PasswordFrom;
use super::tls::Tls;
use super::wire::{Address, Guarded, Stream};
use super::writes::Verb;
use super::{Cause, LoadError};
use std::collections::HashMap;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

/// How long a cancel request may take: as connecting, it may need a new process of the server, and TLS.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection's orderly end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What every session runs under. The texts that a query makes of dates, numbers and bytes must not depend on the
/// server's settings; a query must not write; and it must not outlive its load by much if the cancel request is lost.
const SESSION: &str = "-c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO \
                       -c IntervalStyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex \
                       -c standard_conforming_strings=on";

/// The same for one transaction, where a pooler stands between.
const TRANSACTION: &str = "BEGIN READ ONLY; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; \
                           SET LOCAL IntervalStyle = 'iso_8601'; SET LOCAL extra_float_digits = 1; \
                           SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = on";

/// Opens connections of one source.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) tls: Arc<Tls>,
    pub(super) password: PasswordFrom,
    /// The server's own bound on a query, in case the cancel request does not arrive.
    pub(super) statement_timeout: Duration,
    /// The longest message that is read.
    pub(super) message_bytes_max: usize,
    /// Each transaction may be another connection's: a pooler stands between.
    pub(super) is_pooled: bool,
}

/// One server that a source names, and how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// As it was named.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) address: Address,
    tls: Arc<Tls>,
}

impl Line {
    /// Connects, secured as the source has it. Nothing is said yet. The error is for an operator's eyes.
    pub(super) async fn dial(&self) -> Result<Stream, String> {
        self.tls.connect(&self.address, &self.host).await
    }
}

/// Who we are at a server, and under which settings.
pub(super) struct Introduction {
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

impl Refusal {
    /// No server was reached.
    pub(super) fn down(detail: impl Into<String>) -> Refusal {
        Refusal { error: Cause::Down.into(), detail: detail.into() }
    }

    /// The server does not believe that we are who we say.
    fn is_about_password(&self) -> bool {
        matches!(self.error.sqlstate.as_ref(), Some(b"28P01" | b"28000"))
    }
}

/// Servers that may be dialed. A host is looked up when its turn comes: a slow answer about one holds up no other.
pub(super) struct Lines<'a> {
    connector: &'a Connector,
    servers: std::iter::Enumerate<std::vec::IntoIter<(String, u16)>>,
    found: std::vec::IntoIter<Line>,
}

impl Lines<'_> {
    /// The next that may be dialed, or why one cannot.
    pub(super) async fn next(&mut self) -> Option<Result<Line, Refusal>> {
        let Connector { target, tls, .. } = self.connector;
        loop {
            if let Some(line) = self.found.next() {
                return Some(Ok(line));
            }
            let (index, (host, port)) = self.servers.next()?;
            let addresses = match target.resolve(index, &host, port).await {
                Ok(addresses) => addresses,
                Err(error) => return Some(Err(Refusal::down(format!("{host}: {error}")))),
            };
            let line = |address| Line { host: host.as_str().into(), port, address, tls: Arc::clone(tls) };
            self.found = addresses.into_iter().map(line).collect::<Vec<_>>().into_iter();
        }
    }
}

impl Connector {
    /// The servers that may be dialed, in the order of trying.
    pub(super) fn lines(&self) -> Lines<'_> {
        let servers: Vec<_> = self.target.servers().collect();
        Lines { connector: self, servers: servers.into_iter().enumerate(), found: Vec::new().into_iter() }
    }

    /// Opens a connection to the first server that accepts one.
    pub(super) async fn open(&self) -> Result<PgLink, Refusal> {
        let mut last = Refusal::down("the host has no address");
        let mut lines = self.lines();
        while let Some(line) = lines.next().await {
            let opened = match line {
                Ok(line) => self.log_in(line).await,
                Err(refusal) => Err(refusal),
            };
            match opened {
                Ok(link) => return Ok(link),
                Err(refusal) => last = refusal,
            }
        }
        Err(last)
    }

    async fn log_in(&self, line: Line) -> Result<PgLink, Refusal> {
        let config = self.session(&line)?;
        match self.greet(&config, &line).await {
            Err(refusal) if refusal.is_about_password() => {
                // The password may have become another since it was read.
                let again = self.session(&line)?;
                if again.get_password() == config.get_password() {
                    return Err(refusal);
                }
                self.greet(&again, &line).await
            }
            outcome => outcome,
        }
    }

    /// The target's settings with the password and what every session runs under.
    fn session(&self, line: &Line) -> Result<Config, Refusal> {
        let mut config = self.target.config().clone();
        let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        if !self.is_pooled {
            config.options(format!("{given}{SESSION} -c statement_timeout={}", self.statement_timeout.as_millis()));
        }
        // The line is secured before the driver sees it.
        config.ssl_mode(SslMode::Disable);
        if config.get_application_name().is_none() {
            config.application_name("cenote");
        }
        if config.get_password().is_none() {
            let user = self.target.user().unwrap_or_default();
            let host = if Path::new(&*line.host).is_absolute() { "localhost" } else { &*line.host };
            let account =
                Account { host, port: line.port, database: config.get_dbname().unwrap_or(&user), user: &user };
            if let Some(password) = password::find(&self.password, &account).map_err(Refusal::down)? {
                config.password(password);
            }
        }
        Ok(config)
    }

    /// What a session must say of itself that the driver cannot hold.
    pub(super) fn introduction(&self, line: &Line) -> Result<Introduction, Refusal> {
        let config = self.session(line)?;
        let user = self.target.user().unwrap_or_default();
        Ok(Introduction {
            database: config.get_dbname().unwrap_or(&user).into(),
            user,
            password: config.get_password().map(<[u8]>::to_vec),
            // What it runs has deadlines of its own.
            options: match (self.is_pooled, config.get_options()) {
                (true, options) => options.unwrap_or_default().to_owned(),
                (false, options) => format!("{} -c statement_timeout=0", options.unwrap_or_default()),
            },
        })
    }

    async fn greet(&self, config: &Config, line: &Line) -> Result<PgLink, Refusal> {
        let stream = line.dial().await.map_err(Refusal::down)?;
        let overflowed = Arc::new(AtomicBool::new(false));
        let guarded = Guarded::new(stream, self.message_bytes_max, Arc::clone(&overflowed));
        let (client, connection) = config.connect_raw(guarded, NoTls).await.map_err(|error| refusal(&error))?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %explain(&error), "a connection to the database ended");
            }
        }));
        let timeout_ms = self.statement_timeout.as_millis();
        Ok(PgLink {
            client,
            driver,
            line: line.clone(),
            overflowed,
            statements: HashMap::new(),
            writes: HashMap::new(),
            transaction: self.is_pooled.then(|| format!("{TRANSACTION}; SET LOCAL statement_timeout = {timeout_ms}")),
            running: false,
            doomed: false,
        })
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

/// Whatever the reason, no query ran: the database is down for us, or has no connection left, and the code says more.
fn refusal(error: &tokio_postgres::Error) -> Refusal {
    let sqlstate = sqlstate(error);
    let cause = if matches!(sqlstate, Some([b'5', b'3', ..])) { Cause::Busy } else { Cause::Down };
    Refusal { error: LoadError { cause, sqlstate }, detail: explain(error) }
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
    /// How it was reached: a cancel request must go to the same server.
    line: Line,
    /// Set when the server sent a message that is too long; the connection is then at its end.
    pub(super) overflowed: Arc<AtomicBool>,
    /// What is prepared on it, by route id.
    pub(super) statements: HashMap<u64, Arc<Prepared>>,
    /// What begins the transaction that each query must have of its own; None where it need not.
    pub(super) transaction: Option<String>,
    /// Prepared statements that write, by route id and verb.
    pub(super) writes: HashMap<(u64, Verb), Arc<PreparedWrite>>,
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
        let PgLink { client, mut driver, statements, writes, .. } = self;
        drop((statements, writes, client));
        let _ = timeout(CLOSE_TIMEOUT, &mut driver.0).await;
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
        let outcome = timeout(CANCEL_TIMEOUT, cancel(&self.line, self.client.cancel_token())).await;
        if let Err(error) = outcome.unwrap_or_else(|_| Err("no answer in time".into())) {
            tracing::debug!(%error, "a cancel request could not be sent");
        }
        self.close().await;
    }
}

async fn cancel(line: &Line, token: CancelToken) -> Result<(), String> {
    let mut stream = line.dial().await?;
    token.cancel_query_raw(&mut stream, NoTls).await.map_err(|error| error.to_string())?;
    // Once the server closes it, the request has been seen: closed before, it might not have been.
    let _ = stream.read(&mut [0]).await;
    Ok(())
}
