//! TLS to a database: whether a connection is secured, and with whom it is believed to be made. Speaks libpq's language
//! (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`); knows certificates, nothing of what is said over the connection.
//!
//! Where nothing is said, a connection that leaves this machine must be made with the host that was named, by a
//! certificate that the system's CAs vouch for (`verify-full`); one that does not leave it goes plain. The files are
//! read again when they change, so that renewed certificates need no restart.

use super::wire::{Address, Stream};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The first message of a connection that is to be secured: its length, and a number that is no protocol's.
const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Largest file of certificates that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Where systems keep the certificates of the CAs that they trust.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Plain.
    Disable,
    /// Secured if the server can, with whomever.
    Prefer,
    /// Secured, with whomever; with `sslrootcert` as `VerifyCa`.
    Require,
    /// Secured, with a server that a trusted CA vouches for.
    VerifyCa,
    /// Secured, with the host that was named.
    VerifyFull,
}

impl Mode {
    const ALL: [(&'static str, Mode); 5] = [
        ("disable", Mode::Disable),
        ("prefer", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ];

    fn name(self) -> &'static str {
        Mode::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// What a source says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsSettings {
    /// Where it says nothing: by whether the connection leaves this machine.
    mode: Option<Mode>,
    /// The file with the CAs to trust; None: the system's.
    roots: Option<PathBuf>,
    /// Our own certificate, and its key.
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// The names of its fields, in URLs and in routes files.
pub(super) const TLS_FIELDS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

impl TlsSettings {
    /// Takes a field of [`TLS_FIELDS`]; relative paths start at `folder`. The error names what would be right.
    pub(super) fn set(&mut self, name: &str, value: &str, folder: &Path) -> Result<(), String> {
        let file = || Some(folder.join(value));
        match name {
            "sslmode" => match Mode::ALL.iter().find(|(name, _)| *name == value) {
                Some((_, mode)) => self.mode = Some(*mode),
                None => {
                    let names = Mode::ALL.map(|(name, _)| format!("\"{name}\"")).join(", ");
                    return Err(format!("sslmode can be {names}"));
                }
            },
            "sslrootcert" => self.roots = if value == "system" { None } else { file() },
            "sslcert" => self.certificate = file(),
            _ => self.key = file(),
        }
        Ok(())
    }

    /// What is said in `self`, and what it does not say as `others` say it.
    pub(super) fn or(self, others: TlsSettings) -> TlsSettings {
        TlsSettings {
            mode: self.mode.or(others.mode),
            roots: self.roots.or(others.roots),
            certificate: self.certificate.or(others.certificate),
            key: self.key.or(others.key),
        }
    }

    /// Fails where one field lacks another.
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => Err("sslcert needs sslkey, the file of its private key".into()),
            (None, Some(_)) => Err("sslkey needs sslcert, the file of its certificate".into()),
            _ => Ok(()),
        }
    }

    /// How a connection to `address` is made.
    fn mode(&self, address: &Address) -> Mode {
        let stays_here = match address {
            // As in libpq, whatever is said: there is no one to secure it against.
            Address::Unix(_) => return Mode::Disable,
            Address::Tcp(address) => address.ip().is_loopback(),
        };
        match self.mode {
            // As in libpq: whoever names a CA wants it to be asked.
            Some(Mode::Require) if self.roots.is_some() => Mode::VerifyCa,
            Some(mode) => mode,
            None if stays_here => Mode::Disable,
            None => Mode::VerifyFull,
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.roots, &self.certificate, &self.key].into_iter().flatten()
    }
}

/// Secures the connections of one source.
#[derive(Debug, Default)]
pub(super) struct Tls {
    settings: TlsSettings,
    made: Mutex<Option<Made>>,
}

/// What was made of the files as they were.
#[derive(Debug)]
struct Made {
    mode: Mode,
    /// Each file's time of change, in seconds and their fraction, and its size.
    stamp: Vec<(i64, i64, u64)>,
    config: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(settings: TlsSettings) -> Tls {
        Tls { settings, made: Mutex::default() }
    }

    /// Connects to `address`, secured as the settings have it; `host` is who should be there. The caller bounds the
    /// time. The error is for an operator's eyes.
    pub(super) async fn connect(&self, address: &Address, host: &str) -> Result<Stream, String> {
        let told = |error: io::Error| format!("{address}: {error}");
        let mode = self.settings.mode(address);
        let stream = match address.connect().await.map_err(told)? {
            Stream::Tcp(stream) if mode != Mode::Disable => stream,
            stream => return Ok(stream),
        };
        match self.secure(stream, mode, host).await {
            Ok(stream) => Ok(stream),
            // As in libpq, plain is second best, not a failure.
            Err(_) if mode == Mode::Prefer => address.connect().await.map_err(told),
            Err(problem) => Err(format!("{address}: {problem}")),
        }
    }

    async fn secure(&self, mut stream: TcpStream, mode: Mode, host: &str) -> Result<Stream, String> {
        let broken = |error: io::Error| format!("the connection broke before it was secured: {error}");
        stream.write_all(&REQUEST).await.map_err(broken)?;
        // One byte and no more: what comes after it must be TLS's own.
        let mut answer = [0];
        stream.read_exact(&mut answer).await.map_err(broken)?;
        match answer {
            [b'S'] => {}
            [b'N'] if mode == Mode::Prefer => return Ok(Stream::Tcp(stream)),
            [b'N'] => {
                let why = match self.settings.mode {
                    Some(_) => format!("which sslmode={} demands", mode.name()),
                    None => "which is demanded of a server on another machine; where the network is trusted, \
                             sslmode=disable does without"
                        .to_owned(),
                };
                return Err(format!("the server offers no TLS, {why}"));
            }
            [b'E'] => return Err("the server refused the connection before it could be secured".into()),
            _ => return Err("the server speaks another protocol".into()),
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name of a host"))?;
        let connector = TlsConnector::from(self.config(mode)?);
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(explain(&error, host)),
        }
    }

    /// The settings as rustls takes them, made anew when a file has changed.
    fn config(&self, mode: Mode) -> Result<Arc<ClientConfig>, String> {
        let mut stamp = Vec::new();
        for path in self.settings.files() {
            let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
            stamp.push((found.mtime(), found.mtime_nsec(), found.len()));
        }
        let mut made = self.made.lock();
        if let Some(made) = made.as_ref().filter(|made| made.mode == mode && made.stamp == stamp) {
            return Ok(Arc::clone(&made.config));
        }
        let config = Arc::new(make(&self.settings, mode)?);
        *made = Some(Made { mode, stamp, config: Arc::clone(&config) });
        Ok(config)
    }
}

fn make(settings: &TlsSettings, mode: Mode) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(settings, mode, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let unreadable = |_| format!("{}: holds no private key in PEM form that is not encrypted", key.display());
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(unreadable)?;
    config.with_client_auth_cert(chain, key).map_err(|error| format!("{}: {error}", certificate.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(told)?.len() > FILE_BYTES_MAX {
        return Err(format!("{}: the file is too large", path.display()));
    }
    std::fs::read(path).map_err(told)
}

/// The certificates of a file, of which there must be some.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(format!("{}: holds no certificates in PEM form", path.display())),
    }
}

/// The CAs that this system trusts: of the file that `SSL_CERT_FILE` names, as OpenSSL has it, or of the usual ones.
fn system_roots() -> Result<RootCertStore, String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = || SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = named.or_else(usual) else {
        return Err("this system has no file of trusted CAs; name one in sslrootcert".into());
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&path)?);
    Ok(roots)
}

/// Decides whether a server is who it should be.
#[derive(Debug)]
struct Verifier {
    /// None: whoever it is.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates of `sslrootcert`. A server that shows one of them is known by it: self-signed ones, as Postgres's
    /// manual makes them, are no CAs.
    known: Vec<CertificateDer<'static>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(settings: &TlsSettings, mode: Mode, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
        let mut verifier =
            Verifier { chain: None, known: Vec::new(), checks_name: false, provider: Arc::clone(provider) };
        if !matches!(mode, Mode::VerifyCa | Mode::VerifyFull) {
            return Ok(verifier);
        }
        let roots = match &settings.roots {
            None => system_roots()?,
            Some(path) => {
                verifier.known = certificates(path)?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(verifier.known.iter().cloned());
                roots
            }
        };
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        verifier.chain = Some(chain.map_err(|error| format!("the trusted CAs cannot be used: {error}"))?);
        verifier.checks_name = mode == Mode::VerifyFull;
        Ok(verifier)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let outcome = if self.known.contains(shown) {
            verify_server_name(&ParsedCertificate::try_from(shown)?, name).map(|()| ServerCertVerified::assertion())
        } else {
            chain.verify_server_cert(shown, between, name, ocsp, now)
        };
        match outcome {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake failed, in words.
fn explain(error: &io::Error, host: &str) -> String {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return format!("the connection broke while it was secured: {error}");
    };
    let Error::InvalidCertificate(fault) = cause else { return format!("the connection cannot be secured: {cause}") };
    let why = match fault {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            // Shown as `DnsName("db")`.
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let names: Vec<String> = presented.iter().map(bare).collect();
            format!("is not for {host} but for {}", names.join(", "))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("is not for {host}: it has no such subjectAltName")
        }
        // The second: by a CA of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is vouched for by no CA that is trusted; sslrootcert names a file of CAs to trust".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet".into(),
        other => format!("is not to be trusted: {other:?}"),
    };
    format!("the server's certificate {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(fields: &[(&str, &str)]) -> TlsSettings {
        let mut settings = TlsSettings::default();
        fields.iter().for_each(|(name, value)| settings.set(name, value, Path::new("/etc")).unwrap());
        settings
    }

    #[test]
    fn what_leaves_the_machine_is_verified_unless_said_otherwise() {
        let far = Address::Tcp("10.0.0.7:5432".parse().unwrap());
        let near = Address::Tcp("127.0.0.1:5432".parse().unwrap());
        let socket = Address::Unix("/run/x".into());
        let modes = |settings: TlsSettings| [&far, &near, &socket].map(|address| settings.mode(address).name());
        assert_eq!(modes(settings(&[])), ["verify-full", "disable", "disable"]);
        assert_eq!(modes(settings(&[("sslmode", "prefer")])), ["prefer", "prefer", "disable"]);
        let with_roots = settings(&[("sslmode", "require"), ("sslrootcert", "ca.pem")]);
        assert_eq!(modes(with_roots), ["verify-ca", "verify-ca", "disable"]);
        assert_eq!(modes(settings(&[("sslrootcert", "system")])), ["verify-full", "disable", "disable"]);
    }

    #[test]
    fn fields_are_checked() {
        let mut found = TlsSettings::default();
        let message = found.set("sslmode", "allow", Path::new("")).unwrap_err();
        assert!(message.contains("\"verify-full\""), "{message}");
        assert!(settings(&[("sslcert", "a")]).check().unwrap_err().contains("sslkey"));
        assert!(settings(&[("sslkey", "a")]).check().unwrap_err().contains("sslcert"));
        let both = settings(&[("sslcert", "a"), ("sslkey", "/b")]);
        assert_eq!(both.check(), Ok(()));
        assert_eq!(both.files().collect::<Vec<_>>(), [Path::new("/etc/a"), Path::new("/b")]);
        let first = settings(&[("sslmode", "prefer")]).or(settings(&[("sslmode", "disable"), ("sslcert", "c")]));
        assert_eq!(first, settings(&[("sslmode", "prefer"), ("sslcert", "c")]));
    }

    #[test]
    fn files_without_certificates_are_named() {
        let lacking = settings(&[("sslmode", "verify-ca"), ("sslrootcert", "/dev/null")]);
        assert!(make(&lacking, Mode::VerifyCa).unwrap_err().contains("/dev/null"));
        assert!(make(&TlsSettings::default(), Mode::Require).is_ok());
    }
}
