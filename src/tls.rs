//! What the server's TLS is made of: certificates, keys and parameters, read from the files that the `tls-` directives
//! name and checked as a whole. It must not know sockets or connections.

use crate::clock;
use crate::config::{TlsAuth, TlsSettings, io_text};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    NoServerSessionStorage, ServerConfig, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::{CipherSuite, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, version};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The cipher suites by the names that OpenSSL gives them.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
/// Words of OpenSSL's cipher lists that mean all of them, as there are none but strong ones.
const ALL_SUITES: &[&str] = &["ALL", "DEFAULT", "HIGH", "SECURE", "ECDHE", "EECDH"];
/// How the names of the suites of TLS 1.3 begin.
const OF_1_3: &str = "TLS_";
/// Sessions that are remembered where the directive sets no limit.
const SESSIONS: usize = 20_480;

/// What `settings` ask for.
///
/// # Errors
/// What is wrong, with the directive and the file.
pub fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(CryptoProvider { cipher_suites: suites(settings)?, ..ring::default_provider() });
    let versions = versions(&settings.protocols)?;
    let chain = certificates("tls-cert-file", &settings.cert_file)?;
    let key = private_key(settings)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls-protocols and tls-ciphersuites leave nothing to speak: {error}"))?;
    let builder = match settings.auth_clients {
        TlsAuth::No => builder.with_no_client_auth(),
        TlsAuth::Yes | TlsAuth::Optional => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(settings)?), provider);
            let verifier = match settings.auth_clients {
                TlsAuth::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("tls-ca-cert-file: {error}"))?)
        }
    };
    let (cert_file, key_file) = (&settings.cert_file, &settings.key_file);
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("tls-cert-file '{cert_file}' and tls-key-file '{key_file}' are no pair: {error}"))?;
    config.ignore_client_order = settings.prefer_server_ciphers;
    config.session_storage = match (settings.session_caching, settings.session_cache_size) {
        (false, _) => Arc::new(NoServerSessionStorage {}),
        (true, size) => Arc::new(Sessions {
            all: ServerSessionMemoryCache::new(if size == 0 { SESSIONS } else { size }),
            lifetime_ms: settings.session_cache_seconds.saturating_mul(1000),
        }),
    };
    if !settings.session_caching {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Sessions that clients may resume, for a time.
#[derive(Debug)]
struct Sessions {
    all: Arc<ServerSessionMemoryCache>,
    /// 0: no limit.
    lifetime_ms: i64,
}

impl Sessions {
    /// A session that was put, unless its time is over; its end stands before it.
    fn unless_over(stored: &[u8], now: i64) -> Option<Vec<u8>> {
        let (end, session) = stored.split_first_chunk::<8>()?;
        (now < i64::from_be_bytes(*end)).then(|| session.to_vec())
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        let end = if self.lifetime_ms == 0 { i64::MAX } else { clock::now_ms().saturating_add(self.lifetime_ms) };
        self.all.put(key, [&end.to_be_bytes(), session.as_slice()].concat())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::unless_over(&self.all.get(key)?, clock::now_ms())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        Self::unless_over(&self.all.take(key)?, clock::now_ms())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// `tls-ciphers` for TLS 1.2 and `tls-ciphersuites` for TLS 1.3, in the order in which they are given; all without them.
fn suites(settings: &TlsSettings) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut chosen = Vec::new();
    let lists = [("tls-ciphersuites", &settings.ciphersuites, true), ("tls-ciphers", &settings.ciphers, false)];
    for (directive, list, is_1_3) in lists {
        let known: Vec<_> = SUITES.iter().filter(|(name, _)| name.starts_with(OF_1_3) == is_1_3).collect();
        let words: Vec<&str> = list.split([':', ',', ' ']).filter(|word| !word.is_empty()).collect();
        // What is struck off (`!aNULL`) is not among those that there are.
        let mut wanted = words.iter().filter(|word| !word.starts_with(['!', '-', '@'])).peekable();
        if wanted.peek().is_none() {
            chosen.extend(known.iter().map(|(_, suite)| *suite));
        }
        for word in wanted {
            let named: Vec<CipherSuite> = match known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
                Some((_, suite)) => vec![*suite],
                None if !is_1_3 && ALL_SUITES.contains(word) => known.iter().map(|(_, suite)| *suite).collect(),
                None => {
                    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                    return Err(format!("{directive}: '{word}' is not supported; there are {}", names.join(":")));
                }
            };
            chosen.extend(named.into_iter().filter(|suite| !chosen.contains(suite)).collect::<Vec<_>>());
        }
    }
    let of_provider =
        |suite: &CipherSuite| ring::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == *suite).copied();
    Ok(chosen.iter().filter_map(of_provider).collect())
}

/// `tls-protocols`.
fn versions(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let mut versions = Vec::new();
    for word in text.split_whitespace() {
        versions.push(match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => &version::TLS12,
            "tlsv1.3" => &version::TLS13,
            _ => return Err(format!("tls-protocols: '{word}' is not supported; there are TLSv1.2 and TLSv1.3")),
        });
    }
    Ok(if versions.is_empty() { vec![&version::TLS13, &version::TLS12] } else { versions })
}

fn pem_fault(directive: &str, file: &str, error: &pem::Error) -> String {
    let why = match error {
        pem::Error::Io(error) => io_text(error),
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        other => other.to_string(),
    };
    format!("{directive} '{file}': {why}")
}

fn certificates(directive: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if file.is_empty() {
        return Err(format!("{directive} is not set"));
    }
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(pem_fault(directive, file, &pem::Error::NoItemsFound)),
        read => read.map_err(|error| pem_fault(directive, file, &error)),
    }
}

fn private_key(settings: &TlsSettings) -> Result<PrivateKeyDer<'static>, String> {
    let file = &settings.key_file;
    if file.is_empty() {
        return Err("tls-key-file is not set".into());
    }
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        if fs::read_to_string(file).is_ok_and(|text| text.contains("ENCRYPTED")) {
            return format!(
                "tls-key-file '{file}' is encrypted: tls-key-file-pass is not supported, decrypt the file \
                 (openssl pkey -in '{file}' -out FILE) and protect it by its permissions"
            );
        }
        pem_fault("tls-key-file", file, &error)
    })
}

/// Who may have signed a client's certificate: `tls-ca-cert-file`, and all files of `tls-ca-cert-dir`.
fn authorities(settings: &TlsSettings) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let mut add = |directive: &str, file: &str| {
        for certificate in certificates(directive, file)? {
            store.add(certificate).map_err(|error| format!("{directive} '{file}': {error}"))?;
        }
        Ok::<_, String>(())
    };
    if !settings.ca_cert_file.is_empty() {
        add("tls-ca-cert-file", &settings.ca_cert_file)?;
    }
    if !settings.ca_cert_dir.is_empty() {
        let dir = Path::new(&settings.ca_cert_dir);
        let fault = |error: std::io::Error| format!("tls-ca-cert-dir '{}': {}", dir.display(), io_text(&error));
        for file in fs::read_dir(dir).map_err(fault)? {
            let path = file.map_err(fault)?.path();
            if path.is_file() {
                add("tls-ca-cert-dir", &path.to_string_lossy())?;
            }
        }
    }
    if store.is_empty() {
        return Err("tls-auth-clients asks for certificates: set tls-ca-cert-file or tls-ca-cert-dir, or \
                    `tls-auth-clients no`"
            .into());
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ciphers: &str, ciphersuites: &str) -> Result<Vec<&'static str>, String> {
        let settings =
            TlsSettings { ciphers: ciphers.into(), ciphersuites: ciphersuites.into(), ..TlsSettings::default() };
        let name = |suite: &SupportedCipherSuite| {
            SUITES.iter().find(|(_, known)| *known == suite.suite()).map_or("unknown", |(name, _)| name)
        };
        suites(&settings).map(|suites| suites.iter().map(name).collect())
    }

    #[test]
    fn every_suite_has_a_name() {
        let all = names("", "").unwrap();
        assert_eq!((all.len(), all.contains(&"unknown")), (ring::ALL_CIPHER_SUITES.len(), false));
        assert_eq!(names("HIGH:!aNULL:!MD5", "").unwrap().len(), all.len());
    }

    #[test]
    fn suites_come_in_the_order_given_or_with_a_reason() {
        let both = names("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_128_GCM_SHA256").unwrap();
        assert_eq!(both, ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]);
        assert!(names("RC4-SHA", "").unwrap_err().contains("tls-ciphers: 'RC4-SHA' is not supported; there are ECDHE"));
        assert!(names("", "DEFAULT").unwrap_err().starts_with("tls-ciphersuites: 'DEFAULT'"));
        assert_eq!(versions("TLSv1.3").unwrap().len(), 1);
        assert_eq!(versions("").unwrap().len(), 2);
        assert!(versions("TLSv1.1 TLSv1.2").unwrap_err().contains("'TLSv1.1' is not supported"));
    }

    #[test]
    fn sessions_have_their_time() {
        let sessions = |lifetime_ms| Sessions { all: ServerSessionMemoryCache::new(10), lifetime_ms };
        let (kept, gone) = (sessions(0), sessions(-1));
        for sessions in [&kept, &gone, &sessions(60_000)] {
            assert!(sessions.put(b"key".to_vec(), b"session".to_vec()));
            let wanted = (sessions.lifetime_ms >= 0).then(|| b"session".to_vec());
            assert_eq!((sessions.get(b"key"), sessions.take(b"key")), (wanted.clone(), wanted));
            assert_eq!((sessions.get(b"key"), sessions.take(b"key")), (None, None));
        }
        assert_eq!(Sessions::unless_over(&[&9i64.to_be_bytes(), b"s".as_slice()].concat(), 9), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let fault = |settings: &TlsSettings| server_config(settings).err().unwrap_or_default();
        let mut settings = TlsSettings::default();
        assert_eq!(fault(&settings), "tls-cert-file is not set");
        settings.cert_file = "/nowhere/cert.pem".into();
        assert_eq!(fault(&settings), "tls-cert-file '/nowhere/cert.pem': No such file or directory");
        settings.cert_file = file!().into();
        assert!(fault(&settings).ends_with("there is none in it"), "{}", fault(&settings));
    }
}
