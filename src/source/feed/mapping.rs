//! From the values of a changed row to the keys that were made of it.
//!
//! A key names its row by one text only (`param`), so a column's value must be written in exactly that text: as the
//! session or the trigger gives it, with the few differences that types have. Knows types by their ids, no database.

use super::super::matcher::Matcher;
use super::super::routes::Route;
use super::pgoutput::Field;
use std::borrow::Cow;
use std::sync::Arc;

/// A type without its domains: as Postgres numbers and names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeName {
    pub(super) id: u32,
    pub(super) name: String,
}

/// How a column's text becomes a capture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// As it is.
    Plain,
    /// `t` is written `true`.
    Bool,
    /// Without zeros at the end of a fraction.
    Numeric,
    /// Without blanks at the end.
    Padded,
    /// In lowercase.
    Lower,
    /// `-0` is `0`.
    Float,
}

/// What a type's values look like, as far as keys are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Integer,
    Numeric,
    Text,
    Padded,
    Bool,
    Float(u32),
    /// `citext`.
    AnyCase,
    /// One text for each value, like no other type's.
    Own(u32),
}

fn class(ty: &TypeName) -> Class {
    match ty.id {
        20 | 21 | 23 | 26 => Class::Integer,
        1700 => Class::Numeric,
        25 | 1043 | 19 | 705 => Class::Text,
        1042 => Class::Padded,
        16 => Class::Bool,
        700 | 701 => Class::Float(ty.id),
        _ if ty.name == "citext" => Class::AnyCase,
        other => Class::Own(other),
    }
}

/// How values of `column` are written in keys whose capture is a parameter of type `parameter`; None where they
/// cannot be told apart from others, or are other values altogether.
pub(super) fn writing(parameter: &TypeName, column: &TypeName) -> Option<Writing> {
    let writing = match (class(parameter), class(column)) {
        (Class::Integer, Class::Integer) => Writing::Plain,
        (Class::Integer | Class::Numeric, Class::Integer | Class::Numeric) => Writing::Numeric,
        (Class::Text | Class::Padded, Class::Padded) | (Class::Padded, Class::Text) => Writing::Padded,
        // A column is compared as text with what the key holds: `id::text = {id}`.
        (Class::Text, Class::Bool) | (Class::Bool, Class::Bool) => Writing::Bool,
        (Class::Text, _) => Writing::Plain,
        (Class::AnyCase, Class::AnyCase | Class::Text) => Writing::Lower,
        (Class::Float(a), Class::Float(b)) if a == b => Writing::Float,
        (Class::Own(a), Class::Own(b)) if a == b => Writing::Plain,
        _ => return None,
    };
    Some(writing)
}

impl Writing {
    /// A column's text as the key writes it; None where no key can hold it.
    pub(super) fn write(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        let written = match self {
            Writing::Plain => Cow::Borrowed(text),
            Writing::Bool => match text {
                b"t" | b"true" => Cow::Borrowed(&b"true"[..]),
                b"f" | b"false" => Cow::Borrowed(&b"false"[..]),
                _ => return None,
            },
            Writing::Numeric => Cow::Borrowed(match memchr::memchr(b'.', text) {
                Some(_) => {
                    let digits = text.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1);
                    let digits = &text[..digits];
                    digits.strip_suffix(b".").unwrap_or(digits)
                }
                None => text,
            }),
            Writing::Padded => {
                let length = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                Cow::Borrowed(&text[..length])
            }
            Writing::Lower => Cow::Owned(std::str::from_utf8(text).ok()?.to_lowercase().into_bytes()),
            Writing::Float => Cow::Borrowed(if text == b"-0" { &b"0"[..] } else { text }),
        };
        Some(written)
    }
}

/// What the changes of one table's rows do to one route.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) route: Arc<Route>,
    /// For each capture of the key, which of the row's columns holds it and how it is written. None: any change of the
    /// table concerns the whole route.
    pub(super) captures: Option<Vec<(usize, Writing)>>,
    /// The values that a row had before an UPDATE or DELETE are told. Otherwise those concern the whole route.
    pub(super) tells_old: bool,
    /// The route's template alone: a key is only one of the route's if it reads as it was written.
    reads: Arc<Matcher>,
}

/// What a row's values mean for a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Key(Vec<u8>),
    /// No key of the route can be of this row.
    Nothing,
    /// The values needed were not sent.
    Unknown,
}

impl Rule {
    pub(super) fn new(route: &Arc<Route>, captures: Option<Vec<(usize, Writing)>>, tells_old: bool) -> Rule {
        let reads = Matcher::build(&[Some(&route.key)]).unwrap_or_default();
        Rule { route: Arc::clone(route), captures, tells_old, reads: Arc::new(reads) }
    }

    /// The key of the row whose columns `field` gives.
    pub(super) fn key<'f>(&self, field: impl Fn(usize) -> Option<Field<'f>>) -> Named {
        let Some(captures) = &self.captures else { return Named::Unknown };
        let mut values: Vec<Cow<'_, [u8]>> = Vec::with_capacity(captures.len());
        for (column, writing) in captures {
            match field(*column) {
                Some(Field::Text(text)) => match writing.write(text) {
                    Some(written) => values.push(written),
                    None => return Named::Nothing,
                },
                // Nothing equals NULL.
                Some(Field::Null) => return Named::Nothing,
                Some(Field::Unchanged) | None => return Named::Unknown,
            }
        }
        let Some(key) = self.route.key.render(&values) else { return Named::Nothing };
        let reads_back = self.reads.find(&key).is_some_and(|(_, found)| {
            values.iter().enumerate().all(|(index, value)| found.get(&key, index) == &**value)
        });
        if reads_back { Named::Key(key) } else { Named::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::routes::Config;
    use super::*;

    fn ty(id: u32) -> TypeName {
        TypeName { id, name: if id == 9999 { "citext".into() } else { String::new() } }
    }

    #[test]
    fn types_are_written_as_keys_write_them() {
        for (parameter, column, expected) in [
            (23, 20, Some(Writing::Plain)),
            (23, 1700, Some(Writing::Numeric)),
            (1700, 1700, Some(Writing::Numeric)),
            (25, 1043, Some(Writing::Plain)),
            (1042, 25, Some(Writing::Padded)),
            (25, 2950, Some(Writing::Plain)),
            (2950, 2950, Some(Writing::Plain)),
            (16, 16, Some(Writing::Bool)),
            (9999, 9999, Some(Writing::Lower)),
            (701, 701, Some(Writing::Float)),
            (701, 700, None),
            (23, 25, None),
            (1184, 1114, None),
            (23, 1184, None),
        ] {
            assert_eq!(writing(&ty(parameter), &ty(column)), expected, "{parameter} {column}");
        }
        for (writing, text, expected) in [
            (Writing::Bool, "t", Some("true")),
            (Writing::Bool, "x", None),
            (Writing::Numeric, "1.50", Some("1.5")),
            (Writing::Numeric, "10.00", Some("10")),
            (Writing::Numeric, "100", Some("100")),
            (Writing::Padded, "a b  ", Some("a b")),
            (Writing::Lower, "É", Some("é")),
            (Writing::Float, "-0", Some("0")),
        ] {
            assert_eq!(writing.write(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn a_key_is_only_one_that_reads_back() {
        let text =
            "[source.m]\nurl='postgres://a@h/d'\n[[route]]\nkey='t:{t}:u:{id}'\nquery='SELECT {t}, {id}'\nttl='1h'\n";
        let route = Config::parse("r", text, None).unwrap().routes.remove(0);
        let rule = Rule::new(&route, Some(vec![(1, Writing::Plain), (0, Writing::Plain)]), true);
        let key = |a: Field<'static>, b: Field<'static>| rule.key(|column| [a, b].get(column).copied());
        assert_eq!(key(Field::Text(b"7"), Field::Text(b"x")), Named::Key(b"t:x:u:7".to_vec()));
        assert_eq!(key(Field::Text(b"7"), Field::Text(b"x:y")), Named::Nothing, "a capture holds no colon");
        assert_eq!(key(Field::Text(b""), Field::Text(b"x")), Named::Nothing);
        assert_eq!(key(Field::Null, Field::Text(b"x")), Named::Nothing);
        assert_eq!(key(Field::Unchanged, Field::Text(b"x")), Named::Unknown);
    }
}
