//! Which arguments are secrets, for everything that shows commands to others (SLOWLOG, MONITOR). Knows names and
//! positions only.

use super::{Args, Command};
use crate::config::directives;

const REDACTED: &[u8] = b"(redacted)";

/// True if an argument of the command with this full name is a password, or a name that goes with one: no log may
/// show it.
pub fn is_secret(command: &str, args: &Args<'_>, index: usize) -> bool {
    let behind = |word: &str, distance: usize| index > distance && args.is(index - distance, word);
    match command {
        "auth" => index >= 1,
        "hello" => index >= 3 && (behind("auth", 1) || (index >= 4 && behind("auth", 2))),
        "acl|setuser" | "acl|getuser" | "acl|deluser" => index >= 2,
        "config|set" => index % 2 == 1 && index >= 3 && is_secret_directive(args.at(index - 1)),
        "migrate" => index >= 7 && (behind("auth", 1) || behind("auth2", 1) || (index >= 8 && behind("auth2", 2))),
        _ => false,
    }
}

fn is_secret_directive(name: &[u8]) -> bool {
    directives::find(name).is_some_and(|found| found.directive.secret || found.directive.name == "masteruser")
}

/// The arguments with secrets replaced by `(redacted)`.
pub fn redacted<'a>(command: &Command, args: &Args<'a>) -> Vec<&'a [u8]> {
    let name = command.spec.name;
    args.from(0).enumerate().map(|(index, arg)| if is_secret(name, args, index) { REDACTED } else { arg }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;
    use crate::protocol::{Limits, Reader};

    fn shown(request: &str) -> String {
        let mut spans = Vec::new();
        let mut request = format!("{request}\r\n").into_bytes();
        let limits = Limits { max_bulk: 1000, authenticated: true };
        Reader::default().next(&mut request, 0, &mut spans, limits).unwrap();
        let args = Args::new(&request, &spans);
        let words = redacted(find(&args).unwrap(), &args);
        String::from_utf8(words.join(b" ".as_slice())).unwrap()
    }

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (request, safe) in [
            ("AUTH pw", "AUTH (redacted)"),
            ("HELLO 3 AUTH u pw SETNAME n", "HELLO 3 AUTH (redacted) (redacted) SETNAME n"),
            ("CONFIG SET hz 10 requirepass pw", "CONFIG SET hz 10 requirepass (redacted)"),
            ("CONFIG SET masteruser u primaryauth p", "CONFIG SET masteruser (redacted) primaryauth (redacted)"),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
            ("SET auth pw", "SET auth pw"),
        ] {
            assert_eq!(shown(request), safe);
        }
    }
}
