//! Which arguments are secrets, for everything that shows commands to others (SLOWLOG, MONITOR). Knows names and
//! positions only.

use super::{Args, Command};
use crate::config::directives;

const REDACTED: &[u8] = b"(redacted)";

/// The arguments with secrets (passwords, ACL rules) replaced by `(redacted)`.
pub fn redacted<'a>(command: &Command, args: &Args<'a>) -> Vec<&'a [u8]> {
    let mut shown: Vec<&[u8]> = args.from(0).collect();
    let hide = |from: usize, count: usize, shown: &mut Vec<&[u8]>| {
        shown.iter_mut().skip(from).take(count).for_each(|arg| *arg = REDACTED);
    };
    match command.spec.name {
        "auth" => hide(1, usize::MAX, &mut shown),
        "acl|setuser" | "acl|getuser" | "acl|deluser" => hide(2, usize::MAX, &mut shown),
        "hello" => {
            if let Some(auth) = (2..args.len()).find(|&index| args.is(index, "auth")) {
                hide(auth + 1, 2, &mut shown);
            }
        }
        "config|set" => {
            for index in (2..args.len()).step_by(2) {
                let secret = |found: directives::Found| found.directive.secret || found.name == "masteruser";
                if directives::find(args.at(index)).is_some_and(secret) {
                    hide(index + 1, 1, &mut shown);
                }
            }
        }
        "migrate" => {
            if let Some(auth) = (6..args.len()).find(|&index| args.is(index, "auth") || args.is(index, "auth2")) {
                hide(auth + 1, if args.is(auth, "auth2") { 2 } else { 1 }, &mut shown);
            }
        }
        _ => {}
    }
    shown
}
