//! A script as it was sent: its text, its name by SHA-1, and what its first line says of it. It knows no Lua.

use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// What the first line (`#!lua flags=…`) says, or a function's registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// There is such a line; without, a script may do what its commands may.
    pub declared: bool,
    /// It does not write.
    pub no_writes: bool,
    /// It may run past `maxmemory`.
    pub allow_oom: bool,
    /// There are no replicas to be stale.
    allow_stale: bool,
    /// Nor slots.
    no_cluster: bool,
    allow_cross_slot_keys: bool,
}

impl Flags {
    /// Declared, and none set.
    pub(super) fn declared() -> Self {
        Self { declared: true, ..Self::default() }
    }

    fn by_name(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("no-writes", &mut self.no_writes),
            ("allow-oom", &mut self.allow_oom),
            ("allow-stale", &mut self.allow_stale),
            ("no-cluster", &mut self.no_cluster),
            ("allow-cross-slot-keys", &mut self.allow_cross_slot_keys),
        ]
    }

    /// Sets a flag; false if there is none of that name.
    pub(super) fn add(&mut self, name: &str) -> bool {
        self.by_name().into_iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag = true).is_some()
    }

    /// The names of those that are set.
    pub fn names(mut self) -> Vec<&'static str> {
        self.by_name().into_iter().filter(|(_, flag)| **flag).map(|(name, _)| name).collect()
    }
}

/// A script.
#[derive(Debug)]
pub struct Script {
    /// 40 hexadecimal digits, in lower case.
    pub sha: String,
    /// The text.
    pub body: Bytes,
    /// What its first line says.
    pub flags: Flags,
    /// SCRIPT LOAD keeps it; what EVAL brought may be forgotten for others.
    pub kept: AtomicBool,
    /// When it last ran, in ms since the epoch.
    pub used_at: AtomicI64,
    /// It is not in the cache any more.
    gone: AtomicBool,
}

/// The name of a text.
pub fn sha1_hex(text: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(text);
    digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)] as char).collect()
}

impl Script {
    /// Reads the first line; or the error.
    pub fn new(sha: String, body: &[u8]) -> Result<Self, String> {
        let flags = shebang(body)?;
        Ok(Self {
            sha,
            body: Bytes::copy_from_slice(body),
            flags,
            kept: AtomicBool::new(false),
            used_at: AtomicI64::new(0),
            gone: AtomicBool::new(false),
        })
    }

    /// What Lua gets: without the first line, if that is about the script; lines keep their numbers.
    pub(super) fn code(&self) -> &[u8] {
        let end = if self.flags.declared { memchr::memchr(b'\n', &self.body).unwrap_or(self.body.len()) } else { 0 };
        &self.body[end..]
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.sha.len() + self.body.len()
    }

    /// It was taken out of the cache.
    pub fn forget(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// True once it was taken out of the cache.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

fn shebang(body: &[u8]) -> Result<Flags, String> {
    if !body.starts_with(b"#!") {
        return Ok(Flags::default());
    }
    let end = memchr::memchr(b'\n', body).ok_or("ERR Invalid script shebang")?;
    let line = String::from_utf8_lossy(&body[..end]);
    let mut words = line.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
    let engine = words.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(format!("ERR Unexpected engine in script shebang: {engine}"));
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    for word in words {
        let Some(list) = word.strip_prefix("flags=") else {
            return Err(format!("ERR Unknown lua shebang option: {word}"));
        };
        for flag in list.split(',').filter(|_| !list.is_empty()) {
            if !flags.add(flag) {
                return Err(format!("ERR Unexpected flag in script shebang: {flag}"));
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_read_as_the_real_servers_read_them() {
        let read = |text: &str| Script::new(String::new(), text.as_bytes()).map(|script| script.flags);
        assert_eq!(read("return 1"), Ok(Flags::default()));
        let all = read("#!lua flags=no-writes flags=allow-oom,no-cluster\nreturn 1").map(Flags::names);
        assert_eq!(all, Ok(vec!["no-writes", "allow-oom", "no-cluster"]));
        assert_eq!(read("#!lua flags=\nreturn 1"), Ok(Flags { declared: true, ..Flags::default() }));
        for (text, error) in [
            ("#!lua", "Invalid script shebang"),
            ("#!js\n", "Unexpected engine in script shebang: #!js"),
            ("#!lua a=1\n", "Unknown lua shebang option: a=1"),
            ("#!lua flags=no-writes,\n", "Unexpected flag in script shebang: "),
        ] {
            assert_eq!(read(text), Err(format!("ERR {error}")));
        }
        let script = Script::new(sha1_hex(b"abc"), b"#!lua\nreturn 1").unwrap();
        assert_eq!(
            (script.code(), script.sha.as_str()),
            (&b"\nreturn 1"[..], "a9993e364706816aba3e25717850c26c9cd0d89d")
        );
    }
}
