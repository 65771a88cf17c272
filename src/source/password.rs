//! Where a source's password comes from: a file, an environment variable, or what libpq honours (`PGPASSWORD`,
//! `PGPASSFILE`, `~/.pgpass`). Read at each connect, so a rotated password needs no restart. Never logged.

use super::source_config::PasswordFrom;
use std::path::{Path, PathBuf};

/// Largest password file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whose password is wanted: the four fields of a `.pgpass` line.
pub(super) struct Account<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password, if there is one. The error says which file or variable could not be used.
pub(super) fn find(from: &PasswordFrom, account: &Account<'_>) -> Result<Option<String>, String> {
    match from {
        PasswordFrom::Variable(name) => match std::env::var(&**name) {
            Ok(password) => Ok(Some(password)),
            Err(_) => Err(format!("the environment variable {name} of password_env is not set")),
        },
        PasswordFrom::File(path) => {
            let text = read(path).map_err(|error| format!("password_file {}: {error}", path.display()))?;
            Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
        }
        PasswordFrom::Environment => {
            if let Ok(password) = std::env::var("PGPASSWORD") {
                return Ok(Some(password));
            }
            let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
            let path = std::env::var_os("PGPASSFILE").map(PathBuf::from).or_else(home);
            // As in libpq, a file that is not there or that others can read counts as none.
            let text = path.filter(|path| is_private(path)).and_then(|path| read(&path).ok());
            Ok(text.and_then(|text| pgpass(&text, account)))
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("the file is too large"));
    }
    std::fs::read_to_string(path)
}

#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.is_file()
}

/// The password of the first line `host:port:database:user:password` that fits.
fn pgpass(text: &str, account: &Account<'_>) -> Option<String> {
    let port = account.port.to_string();
    let wanted = [account.host, &port, account.database, account.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, after, escaped) = field(rest)?;
            if (escaped || field != "*") && field != wanted {
                return None;
            }
            rest = after?;
        }
        Some(field(rest)?.0)
    })
}

/// One field up to its `:`, without the backslashes; what follows the `:`, if there is one; whether it had any
/// backslashes.
fn field(text: &str) -> Option<(String, Option<&str>, bool)> {
    let mut value = String::new();
    let mut escaped = false;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            ':' => return Some((value, Some(&text[at + 1..]), escaped)),
            '\\' => {
                escaped = true;
                value.push(chars.next()?.1);
            }
            other => value.push(other),
        }
    }
    Some((value, None, escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(text: &str) -> Option<String> {
        pgpass(text, &Account { host: "db", port: 5432, database: "shop", user: "app" })
    }

    #[test]
    fn finds_the_first_line_that_fits() {
        assert_eq!(lookup("other:*:*:*:no\n# db:5432:shop:app:no\ndb:5432:shop:app:yes\n*:*:*:*:no").unwrap(), "yes");
        assert_eq!(lookup("*:*:*:*:a\\:b\\\\c").unwrap(), "a:b\\c");
        assert_eq!(lookup("d\\b:5432:*:app:x").unwrap(), "x");
        assert_eq!(lookup("*:*:*:app:").unwrap(), "");
        assert_eq!(lookup("*:*:*:app"), None);
        assert_eq!(lookup("\\*:*:*:*:x"), None);
        assert_eq!(lookup("*:5433:*:*:x"), None);
        assert_eq!(lookup(""), None);
    }

    #[test]
    fn reads_the_first_line_of_a_file() {
        let path = std::env::temp_dir().join(format!("cenote-password-{}", std::process::id()));
        std::fs::write(&path, "se cret\r\nmore").unwrap();
        let account = Account { host: "", port: 0, database: "", user: "" };
        let found = find(&PasswordFrom::File(path.clone()), &account);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.unwrap().unwrap(), "se cret");
        assert!(find(&PasswordFrom::File(path), &account).unwrap_err().contains("password_file"));
        let missing = PasswordFrom::Variable("CENOTE_TEST_NOT_SET".into());
        assert!(find(&missing, &account).unwrap_err().contains("CENOTE_TEST_NOT_SET"));
    }
}
