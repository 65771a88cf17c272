//! The words of a line of redis.conf: splitting it and quoting them. Knows no directive.

/// Why a line cannot be split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbalanced;

/// Splits a line as redis.conf, `redis-cli` and inline commands do: words between blanks;
/// `"…"` with `\n \r \t \b \a \xHH \c`, `'…'` with `\'`; a closing quote ends its word.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, tail)) = rest.split_first() {
            if !is_space(*first) {
                break;
            }
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(words);
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
}

/// Writes a word so that [`split`] reads it back: always in double quotes.
pub fn quote(word: &[u8]) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for &byte in word {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// A word for a message: in single quotes, on one line, shortened if it is long.
pub(super) fn shown(word: &str) -> String {
    const MOST: usize = 80;
    let mut text: String = word.chars().take(MOST).flat_map(char::escape_debug).collect();
    if word.chars().nth(MOST).is_some() {
        text.push('…');
    }
    format!("'{text}'")
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0)
}

/// Reads one word at the start of `text`: the word and what follows it.
fn word(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            byte if ends_word(byte) => return Ok((out, &text[at + 1..])),
            b'"' => return closed(double_quoted(&text[at + 1..], &mut out)?).map(|t| (out, t)),
            b'\'' => return closed(single_quoted(&text[at + 1..], &mut out)?).map(|t| (out, t)),
            byte => out.push(byte),
        }
        at += 1;
    }
    Ok((out, &[]))
}

/// After a closing quote a blank or the end must follow.
fn closed(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    let mut at = 0;
    loop {
        match (*text.get(at).ok_or(Unbalanced)?, &text[at + 1..]) {
            (b'"', rest) => return Ok(rest),
            (b'\\', &[b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            (b'\\', &[escaped, ..]) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    let mut at = 0;
    loop {
        match (*text.get(at).ok_or(Unbalanced)?, text.get(at + 1)) {
            (b'\'', _) => return Ok(&text[at + 1..]),
            (b'\\', Some(b'\'')) => {
                out.push(b'\'');
                at += 2;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// The value of a hexadecimal digit (the caller has checked that it is one).
fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Result<Vec<String>, Unbalanced> {
        let text = |word: Vec<u8>| String::from_utf8_lossy(&word).into_owned();
        split(line.as_bytes()).map(|words| words.into_iter().map(text).collect())
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(words(" a  b\tc\r\n").unwrap(), ["a", "b", "c"]);
        assert_eq!(words(r#"p "a\x41b \n\"q""#).unwrap(), ["p", "aAb \n\"q"]);
        assert_eq!(words(r"p 'it\'s \n'").unwrap(), ["p", r"it's \n"]);
        assert_eq!(words(r#"p "" ''"#).unwrap(), ["p", "", ""]);
        assert_eq!(words(r#"ab"c d""#).unwrap(), ["abc d"]);
        assert_eq!(words(r#""\xzz""#).unwrap(), ["xzz"]);
        assert_eq!(words("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn unbalanced() {
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "a'b'c", "\"a\\", "'\\'"] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(list: Vec<Vec<u8>>) {
            let line = list.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(line.as_bytes()).unwrap(), list);
        }

        #[test]
        fn any_line_is_split_or_refused(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
