//! A library of functions as it was sent: its code, its name, and what it registers. It knows no Lua.

use super::source::Flags;
use crate::config::line;
use bytes::Bytes;

/// A function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: Option<String>,
    /// What it may do.
    pub flags: Flags,
}

/// A library.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// The text, with its first line.
    pub code: Bytes,
    /// What it registers, by name.
    pub functions: Vec<FunctionInfo>,
}

impl Library {
    /// A library that is not loaded yet; or the error in its first line.
    pub fn new(code: &[u8]) -> Result<Self, String> {
        if !code.starts_with(b"#!") {
            return Err("ERR Missing library metadata".into());
        }
        const INVALID: &str = "ERR Invalid library metadata";
        let end = memchr::memchr(b'\n', code).ok_or(INVALID)?;
        let words = line::split(&code[..end]).map_err(|_| INVALID)?;
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let engine = words.first().map_or("", |word| &word[2..]);
        if !engine.eq_ignore_ascii_case("lua") {
            return Err(format!("ERR Engine '{engine}' not found"));
        }
        let mut name = None;
        for word in words.iter().skip(1) {
            let value = word.split_at_checked(5).filter(|(key, _)| key.eq_ignore_ascii_case("name=")).map(|(_, v)| v);
            match value {
                Some(_) if name.is_some() => {
                    return Err("ERR Invalid metadata value, name argument was given multiple times".into());
                }
                Some(value) => name = Some(value.to_owned()),
                None => return Err(format!("ERR Invalid metadata value given: {word}")),
            }
        }
        let name = name.ok_or("ERR Library name was not given")?;
        if !is_name(&name) {
            let rule = "can only contain letters, numbers, or underscores(_) and must be at least one character long";
            return Err(format!("ERR Library names {rule}"));
        }
        Ok(Self { name, code: Bytes::copy_from_slice(code), functions: Vec::new() })
    }

    /// What Lua gets: all but the first line, whose end stays, so that lines keep their numbers.
    pub(super) fn body(&self) -> &[u8] {
        &self.code[memchr::memchr(b'\n', &self.code).unwrap_or(self.code.len())..]
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let functions = self.functions.iter().map(|function| size_of::<FunctionInfo>() + function.name.len());
        size_of::<Self>() + self.name.len() + self.code.len() + functions.sum::<usize>()
    }
}

/// Whether libraries and functions may be called so.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_read_as_the_real_servers_read_them() {
        let name = |code: &str| Library::new(code.as_bytes()).map(|library| library.name);
        assert_eq!(name("#!LUA name=a_1\n"), Ok("a_1".into()));
        assert_eq!(name("#!lua \"name=a\" \r\n"), Ok("a".into()));
        for (code, error) in [
            ("return 1", "Missing library metadata"),
            ("#!lua name=a", "Invalid library metadata"),
            ("#!lua name='a\n", "Invalid library metadata"),
            ("#! name=a\n", "Engine '' not found"),
            ("#!lua\n", "Library name was not given"),
            ("#!lua foo=b\n", "Invalid metadata value given: foo=b"),
            ("#!lua name=a name=b\n", "Invalid metadata value, name argument was given multiple times"),
        ] {
            assert_eq!(name(code), Err(format!("ERR {error}")));
        }
        assert!(name("#!lua name=\n").is_err() && name("#!lua name='a b'\n").is_err());
    }
}
