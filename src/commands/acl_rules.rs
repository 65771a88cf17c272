//! The rules of ACL SETUSER, ACL files and `user` lines: read, and put into a user. It must not know who is connected.

use super::registry::find_original;
use super::spec::Acl;
use super::{Command, registry};
use crate::config::line::split;
use crate::state::acl::{PasswordHash, Selector, Touch, User};
use std::borrow::Cow;

/// What a user or selector has before rules say otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blank {
    /// Rows of the command table.
    pub(super) rows: usize,
    /// `acl-pubsub-default allchannels`.
    pub(super) all_channels: bool,
}

impl Blank {
    fn selector(self) -> Selector {
        Selector::none(self.rows, self.all_channels)
    }

    /// A new user: off, and may do nothing.
    pub(super) fn user(self, name: &[u8]) -> User {
        User::new(name, self.selector())
    }
}

type Fault = &'static str;

const UNKNOWN: Fault = "Unknown command or category name in ACL";
const SYNTAX: Fault = "Syntax error";
const ALL_KEYS: Fault = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                         effect. Try 'resetkeys' to start with an empty list of patterns";
const ALL_CHANNELS: Fault = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not \
                             have any effect. Try 'resetchannels' to start with an empty list of channels";
const NO_PASSWORD: Fault = "The password you are trying to remove from the user does not exist";
const BAD_HASH: Fault =
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
const BAD_DATABASE: Fault = "The provided database ID is out of range";
const OF_SUBCOMMAND: Fault = "Allowing first-arg of a subcommand is not supported";

/// Puts rules into a user, all or none; the error names the rule.
///
/// # Errors
/// The text behind `ERR `.
pub(super) fn apply(user: &User, blank: Blank, rules: &[Cow<'_, [u8]>]) -> Result<User, Vec<u8>> {
    let mut user = user.clone();
    for rule in rules {
        one(&mut user, blank, rule)
            .map_err(|fault| [b"Error in ACL SETUSER modifier '", &**rule, b"': ", fault.as_bytes()].concat())?;
    }
    Ok(user)
}

/// Joins the words of each selector, from the one with `(` to the one with `)`; the error is a `(` without end.
pub(super) fn join<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Cow<'a, [u8]>>, &'a [u8]> {
    let mut joined = Vec::new();
    let mut open: Option<(&'a [u8], Vec<u8>)> = None;
    for word in words {
        let ends = word.last() == Some(&b')');
        match &mut open {
            Some((_, text)) => {
                text.push(b' ');
                text.extend(word);
            }
            None if word.first() == Some(&b'(') && !ends => open = Some((word, word.to_vec())),
            None => joined.push(Cow::Borrowed(word)),
        }
        if ends && let Some((_, text)) = open.take() {
            joined.push(Cow::Owned(text));
        }
    }
    match open {
        Some((start, _)) => Err(start),
        None => Ok(joined),
    }
}

/// True if a name can stand in a line of rules.
pub(super) fn is_plain(text: &[u8]) -> bool {
    !text.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

fn one(user: &mut User, blank: Blank, rule: &[u8]) -> Result<(), Fault> {
    match rule {
        [] => {}
        [b'>', password @ ..] => user.add_password(PasswordHash::of(password)),
        [b'#', hash @ ..] => user.add_password(PasswordHash::parse(hash).ok_or(BAD_HASH)?),
        [b'<', password @ ..] => return removed(user, PasswordHash::of(password)),
        [b'!', hash @ ..] => return removed(user, PasswordHash::parse(hash).ok_or(BAD_HASH)?),
        [b'(', inner @ .., b')'] => {
            let mut selector = blank.selector();
            let words = split(inner).map_err(|_| SYNTAX)?;
            words.iter().try_for_each(|word| of_selector(&mut selector, word))?;
            user.add_selector(selector);
        }
        _ => match rule.to_ascii_lowercase().as_slice() {
            b"on" => user.enabled = true,
            b"off" => user.enabled = false,
            b"nopass" => user.clear_passwords(true),
            b"resetpass" => user.clear_passwords(false),
            // Payloads of RESTORE are always checked.
            b"sanitize-payload" | b"skip-sanitize-payload" => {}
            b"clearselectors" => user.clear_selectors(),
            b"reset" => *user = blank.user(&user.name),
            _ => return user.change_own(|own| of_selector(own, rule)),
        },
    }
    Ok(())
}

fn removed(user: &mut User, hash: PasswordHash) -> Result<(), Fault> {
    if user.remove_password(hash) { Ok(()) } else { Err(NO_PASSWORD) }
}

/// A rule that a selector may have as well as a user.
fn of_selector(selector: &mut Selector, rule: &[u8]) -> Result<(), Fault> {
    match rule.to_ascii_lowercase().as_slice() {
        b"allkeys" | b"~*" => selector.allow_all_keys(),
        b"resetkeys" => selector.deny_keys(),
        b"allchannels" | b"&*" => selector.allow_all_channels(),
        b"resetchannels" => selector.deny_channels(),
        b"allcommands" | b"+@all" => selector.allow_all_commands(),
        b"nocommands" | b"-@all" => selector.deny_all_commands(),
        b"alldbs" => selector.allow_all_databases(),
        b"resetdbs" => selector.deny_databases(),
        [b'd', b'b', b'=', list @ ..] => databases(selector, list)?,
        _ => match rule {
            [b'~', pattern @ ..] => keys(selector, Touch::BOTH, pattern)?,
            [b'%', rest @ ..] => {
                let (may, pattern) = permission(rest).unwrap_or_default();
                keys(selector, may, pattern)?;
            }
            [b'&', pattern @ ..] => channel(selector, pattern)?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => category(selector, *sign == b'+', name)?,
            [b'+', name @ ..] => allow(selector, name)?,
            [b'-', name @ ..] => {
                let command = find_original(name).ok_or(UNKNOWN)?;
                set(selector, command, false);
                selector.note_rule(false, command.spec.name);
            }
            _ => return Err(SYNTAX),
        },
    }
    Ok(())
}

/// `RW~pattern`: what may be done, and the pattern.
fn permission(rest: &[u8]) -> Option<(Touch, &[u8])> {
    // As in Redis, letters alone allow the key that has no name.
    let end = rest.iter().position(|byte| *byte == b'~').unwrap_or(rest.len());
    let mut may = Touch::default();
    for letter in &rest[..end] {
        match letter {
            b'R' | b'r' if !may.reads => may.reads = true,
            b'W' | b'w' if !may.writes => may.writes = true,
            _ => return None,
        }
    }
    Some((may, rest.get(end + 1..).unwrap_or_default()))
}

fn keys(selector: &mut Selector, may: Touch, pattern: &[u8]) -> Result<(), Fault> {
    if selector.has_all_keys() {
        return Err(ALL_KEYS);
    }
    if may == Touch::default() || !is_plain(pattern) {
        return Err(SYNTAX);
    }
    selector.allow_keys(may, pattern);
    Ok(())
}

fn channel(selector: &mut Selector, pattern: &[u8]) -> Result<(), Fault> {
    if selector.has_all_channels() {
        return Err(ALL_CHANNELS);
    }
    if !is_plain(pattern) {
        return Err(SYNTAX);
    }
    selector.allow_channel(pattern);
    Ok(())
}

fn databases(selector: &mut Selector, list: &[u8]) -> Result<(), Fault> {
    let number = |word: &[u8]| {
        let number: i64 = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).ok_or(SYNTAX)?;
        i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok()).ok_or(BAD_DATABASE)
    };
    let numbers: Vec<u32> = list.split(|byte| *byte == b',').map(number).collect::<Result<_, _>>()?;
    selector.allow_databases(numbers);
    Ok(())
}

/// A command and all below it.
fn set(selector: &mut Selector, command: &Command, allowed: bool) {
    selector.set_command(command.id, allowed);
    command.subcommands.iter().for_each(|sub| selector.set_command(sub.id, allowed));
}

/// `+get`, `+config|get`, and `+select|0`, which allows a command with this first argument.
fn allow(selector: &mut Selector, name: &[u8]) -> Result<(), Fault> {
    if let Some(command) = find_original(name) {
        set(selector, command, true);
        selector.note_rule(true, command.spec.name);
        return Ok(());
    }
    let at = name.iter().rposition(|byte| *byte == b'|').ok_or(UNKNOWN)?;
    let (command, arg) = (find_original(&name[..at]).ok_or(UNKNOWN)?, &name[at + 1..]);
    if command.spec.name.contains('|') {
        return Err(OF_SUBCOMMAND);
    }
    if arg.is_empty() {
        return Err(SYNTAX);
    }
    if !command.subcommands.is_empty() {
        return Err(UNKNOWN);
    }
    // What could not be told again in one word is no rule.
    let rule = std::str::from_utf8(name).ok().filter(|name| is_plain(name.as_bytes())).ok_or(SYNTAX)?;
    selector.allow_first_arg(command.id, arg);
    selector.note_rule(true, rule);
    Ok(())
}

/// The category of a name without `@`.
pub(super) fn category_named(name: &[u8]) -> Option<Acl> {
    Acl::all().find(|(_, known)| known.as_bytes()[1..].eq_ignore_ascii_case(name)).map(|(category, _)| category)
}

fn category(selector: &mut Selector, allowed: bool, name: &[u8]) -> Result<(), Fault> {
    let category = category_named(name).ok_or(UNKNOWN)?;
    for command in registry().all().filter(|command| command.spec.categories().has(category)) {
        set(selector, command, allowed);
    }
    selector.note_rule(allowed, &format!("@{}", String::from_utf8_lossy(name)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLANK: Blank = Blank { rows: 2000, all_channels: false };

    fn with(rules: &[&str]) -> Result<String, String> {
        let joined = join(rules.iter().map(|rule| rule.as_bytes())).map_err(|_| "unmatched".to_owned())?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        apply(&BLANK.user(b"u"), BLANK, &joined).map(|user| text(user.rules())).map_err(text)
    }

    #[test]
    fn rules_are_told_as_they_would_have_to_be_given() {
        for (rules, told) in [
            (&[][..], "off resetchannels -@all"),
            (&["on", "nopass", "allkeys", "&*", "+@all"], "on nopass ~* &* +@all"),
            (&["+get", "-get", "+config", "-config|get"], "off resetchannels -@all -get +config -config|get"),
            (&["+config|get", "+config"], "off resetchannels -@all +config"),
            (&["%R~a", "%W~a", "%r~b", "&c"], "off ~a %R~b resetchannels &c -@all"),
            (&["+select|0", "+SELECT|A", "-select"], "off resetchannels -@all -select"),
            (
                &["(~x", "+get)", "(+@read)"],
                "off resetchannels -@all (~x resetchannels -@all +get) (resetchannels -@all +@read)",
            ),
            (&["on", ">a", "reset"], "off resetchannels -@all"),
        ] {
            assert_eq!(with(rules).as_deref(), Ok(told), "{rules:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (rules, fault) in [
            (&["+nosuch"][..], UNKNOWN),
            (&["+@nosuch"], UNKNOWN),
            (&["-select|0"], UNKNOWN),
            (&["+config|nosuch"], UNKNOWN),
            (&["+config|get|x"], OF_SUBCOMMAND),
            (&["+select|"], SYNTAX),
            (&["%~x"], SYNTAX),
            (&["%RX~x"], SYNTAX),
            (&["~a b"], SYNTAX),
            (&["allkeys", "~x"], ALL_KEYS),
            (&["allchannels", "&x"], ALL_CHANNELS),
            (&["<x"], NO_PASSWORD),
            (&["#12"], BAD_HASH),
            (&["(on)"], SYNTAX),
            (&["nosuch"], SYNTAX),
        ] {
            let told = with(rules).unwrap_err();
            assert!(told.ends_with(&format!("': {fault}")), "{rules:?}: {told}");
        }
        assert_eq!(with(&["(~x", "+get"]), Err("unmatched".to_owned()));
    }

    proptest! {
        /// What ACL LIST gives makes the same user again, and no rule can do harm.
        #[test]
        fn told_rules_make_the_same_user(rules in prop::collection::vec("(on|off|[-+](get|config\\|get|config|select\\|1|@read|@all)|[~&%(][RWa~*+ )]{0,4}|[>#]a)", 0..8)) {
            let words: Vec<&str> = rules.iter().map(String::as_str).collect();
            if let Ok(told) = with(&words) {
                let again: Vec<&str> = told.split(' ').collect();
                prop_assert_eq!(with(&again), Ok(told.clone()));
            }
        }
    }
}
