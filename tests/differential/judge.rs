//! When two replies count as the same, and which real server's reply counts. Knows no sockets.

use std::collections::BTreeSet;

use crate::support::{Failure, Oracle, Reply, Value};

use super::transcript::Note;

/// What a server did with a command.
pub(super) type Outcome = Result<Option<Reply>, Failure>;

/// How closely replies must agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Byte for byte.
    Exact,
    /// The same value, arrays in any order.
    Unordered,
    /// The same kind of value.
    Kind,
    /// Numbers, alone or in arrays, no further apart than this; the rest the same.
    Near(f64),
    /// The names of fields that all oracles have must be there.
    Fields,
    /// Errors: the first so many words.
    Prefix(usize),
}

/// Why the reply under test is not acceptable, or `None` where it is.
pub(super) fn fault(rule: Rule, note: Option<Note>, tested: &Outcome, oracles: &[(Oracle, Outcome)]) -> Option<String> {
    match note {
        Some(Note::Differs) => {
            let failed = tested.is_err() && oracles.iter().all(|(_, outcome)| outcome.is_ok());
            return failed.then(|| "may differ, but must answer".to_owned());
        }
        Some(Note::Only(only)) => {
            let same = oracles.iter().any(|(oracle, outcome)| *oracle == only && agree(rule, tested, outcome));
            return (!same).then(|| format!("must be as {}", only.name()));
        }
        None => {}
    }
    if rule == Rule::Fields {
        return missing_fields(tested, oracles);
    }
    let counting = counting(oracles);
    let same = counting.iter().any(|(_, outcome)| agree(rule, tested, outcome));
    let names: Vec<_> = counting.iter().map(|(oracle, _)| oracle.name()).collect();
    (!same).then(|| format!("must be as {}", names.join(" or ")))
}

/// The oracles whose replies count: those that know the command, and of these the newer ones.
fn counting(oracles: &[(Oracle, Outcome)]) -> Vec<&(Oracle, Outcome)> {
    let one_knows =
        oracles.iter().any(|(_, outcome)| !error_starts(outcome, &[UNKNOWN_COMMAND, UNKNOWN_SUBCOMMAND, "noauth"]));
    let unknown = |outcome| one_knows && error_starts(outcome, &[UNKNOWN_COMMAND, UNKNOWN_SUBCOMMAND]);
    let known: Vec<_> = oracles.iter().filter(|(_, outcome)| !unknown(outcome)).collect();
    let newer: Vec<_> = known.iter().copied().filter(|(oracle, _)| *oracle != Oracle::Redis7).collect();
    if newer.is_empty() { known } else { newer }
}

const UNKNOWN_COMMAND: &str = "err unknown command '";
const UNKNOWN_SUBCOMMAND: &str = "err unknown subcommand '";

fn error_starts(outcome: &Outcome, starts: &[&str]) -> bool {
    let Ok(Some(Reply { value: Value::Error(text), .. })) = outcome else { return false };
    let text = text.to_lowercase();
    starts.iter().any(|start| text.starts_with(start))
}

fn agree(rule: Rule, a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Ok(Some(a)), Ok(Some(b))) => same_reply(rule, a, b),
        (Ok(None), Ok(None)) => true,
        (Err(a), Err(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
        _ => false,
    }
}

/// Whether two replies are the same under a rule.
pub(super) fn same_reply(rule: Rule, a: &Reply, b: &Reply) -> bool {
    match rule {
        Rule::Exact => a.raw == b.raw,
        Rule::Unordered => a.value.sorted() == b.value.sorted(),
        Rule::Kind | Rule::Fields => a.value.kind() == b.value.kind(),
        Rule::Near(tolerance) => near(tolerance, &a.value, &b.value),
        Rule::Prefix(count) => match (&a.value, &b.value) {
            (Value::Error(a), Value::Error(b)) => {
                a.split(' ').take(count).collect::<Vec<_>>() == b.split(' ').take(count).collect::<Vec<_>>()
            }
            _ => a.raw == b.raw,
        },
    }
}

fn near(tolerance: f64, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(tolerance, a, b)),
        (Value::Map(a), Value::Map(b)) => {
            let same = |((ka, va), (kb, vb)): (&(Value, Value), &(Value, Value))| ka == kb && near(tolerance, va, vb);
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        (a, b) if a == b => true,
        (Value::Int(-2..=-1), _) | (_, Value::Int(-2..=-1)) => a == b,
        _ => match (a.number(), b.number()) {
            (Some(x), Some(y)) => a.kind() == b.kind() && (x - y).abs() <= tolerance,
            _ => a == b,
        },
    }
}

fn missing_fields(tested: &Outcome, oracles: &[(Oracle, Outcome)]) -> Option<String> {
    let counting = counting(oracles);
    if !counting.iter().any(|(_, outcome)| agree(Rule::Kind, tested, outcome)) {
        return Some("must be of the same kind".to_owned());
    }
    let shared = counting.into_iter().map(|(_, outcome)| field_names(outcome));
    let shared = shared.reduce(|a, b| a.intersection(&b).cloned().collect()).unwrap_or_default();
    // A module of its own each; Cenote has none to list.
    let missing: Vec<_> = shared.difference(&field_names(tested)).filter(|name| *name != "module").cloned().collect();
    (!missing.is_empty()).then(|| format!("lacks the fields {}", missing.join(", ")))
}

/// What stands before `:` or `=` in each word of a text, or the names of a map or a flat array of pairs.
fn field_names(outcome: &Outcome) -> BTreeSet<String> {
    let Ok(Some(reply)) = outcome else {
        return BTreeSet::new();
    };
    match (&reply.value, reply.value.text()) {
        (_, Some(text)) => {
            text.split_whitespace().filter_map(|w| Some(w.split_once([':', '='])?.0.to_owned())).collect()
        }
        (Value::Map(_) | Value::Array(_), _) => {
            reply.value.pairs().iter().filter_map(|(name, _)| name.text()).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(raw: &str, value: Value) -> Outcome {
        Ok(Some(Reply { raw: raw.as_bytes().to_vec(), value }))
    }

    fn oracles(replies: [Outcome; 3]) -> Vec<(Oracle, Outcome)> {
        Oracle::ALL.into_iter().zip(replies).collect()
    }

    fn unknown() -> Outcome {
        reply("-", Value::Error("ERR unknown command 'X', with args beginning with: ".to_owned()))
    }

    #[test]
    fn the_newer_servers_that_know_the_command_count() {
        let one = || reply(":1\r\n", Value::Int(1));
        let two = || reply(":2\r\n", Value::Int(2));
        let exact = |tested: &Outcome, replies| fault(Rule::Exact, None, tested, &oracles(replies));
        assert_eq!(exact(&one(), [one(), one(), one()]), None);
        assert!(exact(&two(), [one(), one(), one()]).is_some());
        assert_eq!(exact(&two(), [one(), one(), two()]), None, "either of two that disagree");
        assert!(exact(&two(), [two(), one(), one()]).is_some(), "the oldest does not count against the newer ones");
        assert!(exact(&unknown(), [unknown(), unknown(), one()]).is_some(), "one knows the command");
        assert_eq!(exact(&unknown(), [unknown(), unknown(), unknown()]), None);
        assert!(exact(&Err(Failure::Closed(String::new())), [one(), one(), one()]).is_some());
    }

    #[test]
    fn notes_and_rules_loosen_no_more_than_they_say() {
        let one = || reply(":1\r\n", Value::Int(1));
        let three = || reply(":3\r\n", Value::Int(3));
        let all = |replies| oracles(replies);
        assert!(fault(Rule::Exact, Some(Note::Only(Oracle::Redis8)), &one(), &all([one(), three(), one()])).is_some());
        assert_eq!(fault(Rule::Near(2.0), None, &one(), &all([three(), three(), three()])), None);
        assert!(fault(Rule::Near(1.0), None, &one(), &all([three(), three(), three()])).is_some());
        let never = || reply(":-1\r\n", Value::Int(-1));
        assert!(fault(Rule::Near(9.0), None, &never(), &all([three(), three(), three()])).is_some());
        let nil = || reply("$-1\r\n", Value::Nil);
        assert!(fault(Rule::Kind, None, &nil(), &all([one(), one(), one()])).is_some());
        let null_array = || reply("*-1\r\n", Value::Nil);
        assert!(fault(Rule::Exact, None, &nil(), &all([null_array(), null_array(), null_array()])).is_some());
        let text = |t: &str| reply(t, Value::bulk(t));
        let info = || all([text("a:1\r\nb:2"), text("a:3\r\nc:4"), text("a:5\r\nc:1\r\nd:1")]);
        assert_eq!(fault(Rule::Fields, None, &text("c:0 a:0"), &info()), None);
        assert!(fault(Rule::Fields, None, &text("a:0"), &info()).is_some());
    }
}
