//! redis-cli's way of writing a command: words, "double quotes" with escapes, 'single quotes'.

/// Splits a line into arguments as redis-cli does. `Err` says what is wrong with the quotes.
pub(crate) fn split_words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == bytes.len() {
            return Ok(words);
        }
        let (word, end) = match bytes[at] {
            b'"' => double_quoted(bytes, at + 1)?,
            b'\'' => single_quoted(bytes, at + 1)?,
            _ => plain(bytes, at),
        };
        if bytes.get(end).is_some_and(|b| !b.is_ascii_whitespace()) {
            return Err(format!("a quote is followed by text in: {line}"));
        }
        words.push(word);
        at = end;
    }
}

fn plain(bytes: &[u8], start: usize) -> (Vec<u8>, usize) {
    let length = bytes[start..].iter().take_while(|b| !b.is_ascii_whitespace()).count();
    (bytes[start..start + length].to_vec(), start + length)
}

fn single_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), String> {
    let mut word = Vec::new();
    loop {
        match bytes.get(at) {
            None => return Err("a single quote is not closed".to_owned()),
            Some(b'\'') => return Ok((word, at + 1)),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            Some(_) => {}
        }
        word.push(bytes[at]);
        at += 1;
    }
}

fn double_quoted(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), String> {
    let mut word = Vec::new();
    loop {
        match bytes.get(at) {
            None => return Err("a double quote is not closed".to_owned()),
            Some(b'"') => return Ok((word, at + 1)),
            Some(b'\\') => {
                let (byte, length) = escaped(&bytes[at + 1..])?;
                word.push(byte);
                at += 1 + length;
            }
            Some(byte) => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

/// The byte that an escape stands for and the escape's length without its backslash.
fn escaped(rest: &[u8]) -> Result<(u8, usize), String> {
    match rest {
        [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digits = [*high, *low].map(char::from).iter().collect::<String>();
            Ok((u8::from_str_radix(&digits, 16).map_err(|e| e.to_string())?, 3))
        }
        [b'n', ..] => Ok((b'\n', 1)),
        [b'r', ..] => Ok((b'\r', 1)),
        [b't', ..] => Ok((b'\t', 1)),
        [b'a', ..] => Ok((7, 1)),
        [b'b', ..] => Ok((8, 1)),
        [byte, ..] => Ok((*byte, 1)),
        [] => Err("a line ends in a backslash".to_owned()),
    }
}

/// Arguments as a line that redis-cli reads back as the same arguments.
pub(crate) fn join_words(words: &[Vec<u8>]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
        if !word.is_empty() && word.iter().all(plain) {
            String::from_utf8_lossy(word).into_owned()
        } else {
            format!("\"{}\"", super::escape(word))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[test]
fn words_split_and_join_as_redis_cli_does() {
    let line = r#"SET "a\x00\"b\n" 'it\'s' plain "" "#;
    let words = split_words(line).unwrap();
    assert_eq!(words, [&b"SET"[..], b"a\0\"b\n", b"it's", b"plain", b""]);
    assert_eq!(split_words(&join_words(&words)).unwrap(), words);
    assert!(split_words("a \"b").is_err() && split_words("'a'b").is_err());
}
