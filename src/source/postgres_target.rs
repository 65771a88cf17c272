//! Where a database is and who we are there: a connection URL, read. Knows libpq's two forms of it; connects nowhere.

use super::tls::{TLS_FIELDS, TlsSettings};
use super::wire::Address;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::Path;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslNegotiation, TargetSessionAttrs};

const PORT_DEFAULT: u16 = 5432;

/// Where a database is and who we are there: a connection URL, read. Shown without its password.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: TlsSettings,
}

impl Target {
    /// Reads a connection URL or `key=value` string, as libpq takes it. Relative paths in it start at the working folder.
    pub fn parse(url: &str) -> Result<Target, String> {
        let mut tls = TlsSettings::default();
        let rest = split(url, |name, value| {
            let is_ours = TLS_FIELDS.contains(&name);
            if is_ours {
                tls.set(name, value, Path::new("")).map_err(|fault| format!("url: {fault}"))?;
            }
            Ok(is_ours)
        })?;
        let config: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
            // The cause names the part that is wrong, never its value.
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            format!("url is not a Postgres connection URL such as \"postgres://app@localhost/shop\"{cause}")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("url names no host; write one such as \"postgres://app@localhost/shop\"".into());
        }
        if config.get_ssl_negotiation() != SslNegotiation::Postgres {
            return Err("url: sslnegotiation can only be \"postgres\"".into());
        }
        if config.get_channel_binding() == ChannelBinding::Require {
            return Err("url: channel_binding can be \"disable\" or \"prefer\"".into());
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
        Ok(Target { config, tls })
    }

    /// The same with what a routes file says of TLS: what the URL says comes first.
    pub(super) fn with_tls(mut self, others: TlsSettings) -> Result<Target, String> {
        self.tls = self.tls.or(others);
        self.tls.check()?;
        Ok(self)
    }

    pub(super) fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Each server's host as written and its port.
    pub(super) fn servers(&self) -> impl Iterator<Item = (String, u16)> {
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
    pub(super) async fn resolve(&self, index: usize, host: &str, port: u16) -> io::Result<Vec<Address>> {
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

/// Takes parameters out of a connection URL or `key=value` string: those of which `take` says that they are its own.
/// What is malformed stays, for the driver to refuse.
fn split(text: &str, mut take: impl FnMut(&str, &str) -> Result<bool, String>) -> Result<String, String> {
    let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        return split_words(text, take);
    };
    // A password may hold a question mark.
    let after_user = rest.find('@').unwrap_or(0);
    let Some(at) = rest[after_user..].find('?') else { return Ok(text.to_owned()) };
    let (head, query) = text.split_at(text.len() - rest.len() + after_user + at);
    let mut kept = Vec::new();
    for part in query[1..].split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if !take(name, &decode(value))? {
            kept.push(part);
        }
    }
    Ok(if kept.is_empty() { head.to_owned() } else { format!("{head}?{}", kept.join("&")) })
}

/// Undoes `%2F` and the like.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match coded.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// [`split`] for `key=value` strings, whose values may be quoted.
fn split_words(text: &str, mut take: impl FnMut(&str, &str) -> Result<bool, String>) -> Result<String, String> {
    let (mut kept, mut rest) = (String::new(), text.trim_start());
    while let Some((name, after)) = rest.split_once('=') {
        let (value, length) = word(after.trim_start());
        let end = text.len() - after.trim_start().len() + length;
        let whole = &text[text.len() - rest.len()..end];
        if !take(name.trim(), &value)? {
            kept.push_str(whole);
            kept.push(' ');
        }
        rest = text[end..].trim_start();
    }
    Ok(kept + rest)
}

/// The value at the head of `text`, and how long it is as written.
fn word(text: &str) -> (String, usize) {
    let is_quoted = text.starts_with('\'');
    let (mut value, mut escaped) = (String::new(), false);
    for (at, char) in text.char_indices().skip(usize::from(is_quoted)) {
        match char {
            _ if escaped => escaped = false,
            '\\' => {
                escaped = true;
                continue;
            }
            '\'' if is_quoted => return (value, at + 1),
            blank if !is_quoted && blank.is_whitespace() => return (value, at),
            _ => {}
        }
        value.push(char);
    }
    (value, text.len())
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
        for url in [
            "postgres://app:s3cret@db/shop?sslmode=allow",
            "host=db password=s3cret sslmode=",
            "postgres://app:s3cret@db/shop?sslnegotiation=direct",
        ] {
            let message = shown(url).unwrap_err();
            assert!(message.contains("ssl") && !message.contains("s3cret"), "{message}");
        }
        for url in ["", "mysql://x", "postgres://", "postgres://a:s3cret@h:x/d", "postgres://a:s3cret@h/d?color=1"] {
            let message = shown(url).unwrap_err();
            assert!(!message.contains("s3cret"), "{message}");
        }
        assert!(!format!("{:?}", Target::parse("postgres://app:s3cret@db/shop")).contains("s3cret"));
    }

    #[test]
    fn takes_out_what_is_said_of_tls() {
        let mut taken = Vec::new();
        let mut rest = |text: &str| {
            taken.clear();
            let rest = split(text, |name, value| {
                let is_ours = name.starts_with("ssl");
                if is_ours {
                    taken.push(format!("{name}={value}"));
                }
                Ok(is_ours)
            });
            (rest.unwrap(), taken.join(" "))
        };
        for (text, kept, tls) in [
            ("postgres://u:p?x@h/d?sslmode=a&connect_timeout=3", "postgres://u:p?x@h/d?connect_timeout=3", "sslmode=a"),
            ("postgresql://h/d?sslrootcert=%2Fa%20b%zz", "postgresql://h/d", "sslrootcert=/a b%zz"),
            ("postgres://u@h/d", "postgres://u@h/d", ""),
            (
                "host=h sslmode = a user='o sslkey=k'  sslcert='c\\' d'",
                "host=h user='o sslkey=k' ",
                "sslmode=a sslcert=c' d",
            ),
            ("host=h nonsense", "host=h nonsense", ""),
            ("", "", ""),
        ] {
            assert_eq!(rest(text), (kept.to_owned(), tls.to_owned()), "{text}");
        }
        let target = Target::parse("postgres://a@db/shop?sslmode=verify-ca&sslrootcert=/ca.pem").unwrap();
        assert_eq!(target.to_string(), "db:5432, database shop, user a");
        assert_ne!(*target.tls(), TlsSettings::default());
        let lacking = Target::parse("postgres://a@db/shop?sslcert=/c.pem").unwrap().with_tls(TlsSettings::default());
        assert!(lacking.unwrap_err().contains("sslkey"));
    }
}
