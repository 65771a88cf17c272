//! Users in files: the ACL file, and the `user` lines of redis.conf. It must not know who is connected.

use super::acl::blank;
use super::acl_rules::{Blank, apply, is_plain, join};
use crate::config::{Config, io_text, write_in_one_step};
use crate::state::State;
use crate::state::acl::{PasswordHash, User};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A larger file is none that people write.
const BYTES_MAX: u64 = 64 << 20;

/// Reads an ACL file; all that is wrong with it is told at once.
///
/// # Errors
/// The text behind `ERR `.
pub(super) fn read(path: &str, blank: Blank) -> Result<Vec<User>, Vec<u8>> {
    let read = std::fs::metadata(path).and_then(|about| match about.len() {
        0..=BYTES_MAX => std::fs::read(path),
        _ => Err(std::io::Error::other("larger than 64 MB")),
    });
    match read {
        Ok(text) => parse(path, &text, blank),
        Err(error) => Err(format!("Error loading ACLs, opening file '{path}': {}", io_text(&error)).into_bytes()),
    }
}

fn parse(path: &str, text: &[u8], blank: Blank) -> Result<Vec<User>, Vec<u8>> {
    let (mut users, mut names, mut faults) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let parsed = user_of(line, blank).and_then(|user| match names.insert(user.name.clone()) {
            true => Ok(user),
            false => Err([b"WARNING: user '", &*user.name, b"' is defined twice. "].concat()),
        });
        match parsed {
            Ok(user) => users.push(user),
            Err(fault) => {
                faults.extend(format!("{path}:{}: ", number + 1).bytes());
                faults.extend(fault);
            }
        }
    }
    if faults.is_empty() {
        return Ok(users);
    }
    faults.extend(b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
    Err(faults)
}

/// The user of a line `user name rule …`.
fn user_of(line: &[u8], blank: Blank) -> Result<User, Vec<u8>> {
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [keyword, name, rules @ ..] if *keyword == b"user" => made(name, rules, blank),
        _ => Err(b"should start with user keyword. ".to_vec()),
    }
}

fn made(name: &[u8], rules: &[&[u8]], blank: Blank) -> Result<User, Vec<u8>> {
    if !is_plain(name) {
        return Err([b"username '", name, b"' contains invalid characters. "].concat());
    }
    let unmatched = |start: &[u8]| [b"Unmatched parenthesis in acl selector starting at '", start, b"'. "].concat();
    let rules: Vec<Cow<'_, [u8]>> = join(rules.iter().copied()).map_err(unmatched)?;
    apply(&blank.user(name), blank, &rules).map_err(|fault| [fault.as_slice(), b". "].concat())
}

/// Writes all users to an ACL file.
///
/// # Errors
/// When the file cannot be written; it is as before then.
pub(super) fn write(path: &str, users: &[Arc<User>]) -> std::io::Result<()> {
    let mut text = Vec::new();
    for user in users {
        text.extend(user.line());
        text.push(b'\n');
    }
    write_in_one_step(Path::new(path), &text)
}

/// What CONFIG REWRITE writes behind `user`: nothing is to be told where an ACL file holds the users, or where
/// `requirepass` says all; where a name or rule is not UTF-8, no line can.
pub(super) fn lines_for_config(state: &State, config: &Config) -> Option<Vec<String>> {
    let users = state.acl.users();
    let mut default = state.acl.default_user_at_start();
    if !config.requirepass.is_empty() {
        default.add_password(PasswordHash::of(config.requirepass.as_bytes()));
    }
    let says_all = users.len() == 1 && users[0].line() == default.line();
    if !config.aclfile.is_empty() || says_all {
        return Some(Vec::new());
    }
    users.iter().map(|user| String::from_utf8([&*user.name, b" ", &user.rules()].concat()).ok()).collect()
}

/// Makes the users of the ACL file, or of the `user` lines of redis.conf, as the server starts.
///
/// # Errors
/// What is wrong with them, in a line for the operator.
pub fn load_users(state: &State) -> Result<(), String> {
    let config: &Config = &state.config.load();
    let lines: Vec<&[String]> =
        config.lines().iter().filter(|line| line.name == "user").map(|line| line.words.as_slice()).collect();
    let blank = blank(state, config);
    if config.aclfile.is_empty() {
        return load_lines(state, &lines, blank);
    }
    if !lines.is_empty() {
        return Err("users are declared by `user` lines and by `aclfile`: only one of them can be".to_owned());
    }
    let users = read(&config.aclfile, blank).map_err(|fault| String::from_utf8_lossy(&fault).into_owned())?;
    state.acl.replace_all(users);
    Ok(())
}

fn load_lines(state: &State, lines: &[&[String]], blank: Blank) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for line in lines {
        let [name, rules @ ..] = line else { continue };
        if !names.insert(name) {
            return Err(format!("the user '{name}' is defined twice"));
        }
        let rules: Vec<&[u8]> = rules.iter().map(|rule| rule.as_bytes()).collect();
        let user = made(name.as_bytes(), &rules, blank).map_err(|fault| {
            let fault = String::from_utf8_lossy(&fault).into_owned();
            format!("user '{name}': {}", fault.trim_end())
        })?;
        if !user.enabled {
            tracing::warn!("the user '{name}' is off: its line has no `on`");
        }
        let Ok(_) = state.acl.change::<std::convert::Infallible>(name.as_bytes(), |_| Ok(user));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLANK: Blank = Blank { rows: 2000, all_channels: false };

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match parse("f", text.as_bytes(), BLANK) {
            Ok(users) => Ok(users.iter().map(|user| text_of(user.line())).collect()),
            Err(faults) => Err(text_of(faults)),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let text = "# users\n\nuser a on nopass ~* &* +@all (%R~x resetchannels -@all +get)\r\nuser b off";
        let users = parsed(text).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(parsed(&users.join("\n")), Ok(users));
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let told = parsed("user a +nosuch\nuser b on\nusr c\nuser b on\nuser d (~x\n").unwrap_err();
        for start in ["f:1: Error in ACL SETUSER modifier '+nosuch'", "f:3: ", "f:4: ", "f:5: "] {
            assert!(told.contains(start), "{told}");
        }
        assert!(!told.contains("f:2:") && told.ends_with("was performed"));
    }
}
