//! How a command says that its connection is to wait. It must not know who serves it, or how.
//!
//! A blocking command first tries. If there is nothing for it, it writes nothing and returns [`Outcome::Block`]. When
//! one of its keys has changed, its function is run again on all its keys, as if it had only come now; it either
//! answers, or returns [`Outcome::Block`] again and goes on waiting, with its first timeout. In MULTI and in scripts
//! nothing waits: the reply is [`Block::nil`].

use super::{Args, Outcome};
use crate::protocol::Reply;
use crate::types::LongDouble;
use std::time::Duration;

/// A wait.
#[derive(Debug)]
pub struct Block {
    /// How long, at most; None: for ever.
    pub timeout: Option<Duration>,
    /// What is waited for: a key that holds this type, as TYPE names it. The function is run again only then.
    pub of_type: &'static str,
    /// The function is also run again when a key is gone, or has got another type (XREADGROUP).
    pub or_gone: bool,
    /// The reply in a transaction. When the time of a wait is over, it is always no array.
    pub nil: Nil,
    /// How many of the command's keys are waited for, from the first on; None: all.
    pub keys: Option<usize>,
    /// The arguments to run with again, if they are not the same (XREAD's `$` is an ID by then).
    pub args: Option<Vec<Vec<u8>>>,
}

/// A reply of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nil {
    /// Where an array is expected.
    Array,
    /// Where a string is expected.
    Null,
}

impl Nil {
    /// Writes it.
    pub fn write(self, reply: &mut Reply<'_>) {
        match self {
            Self::Array => reply.null_array(),
            Self::Null => reply.null(),
        }
    }
}

impl Block {
    /// A wait for any of the command's keys to hold a value of a type; in a transaction it is answered with no array.
    pub fn new(of_type: &'static str, timeout: Option<Duration>) -> Self {
        Self { timeout, of_type, or_gone: false, nil: Nil::Array, keys: None, args: None }
    }

    /// What the handler returns.
    pub fn outcome(self) -> Outcome {
        Outcome::Block(Box::new(self))
    }
}

const NEGATIVE: &str = "ERR timeout is negative";
const OUT_OF_RANGE: &str = "ERR timeout is out of range";

/// A timeout in seconds, with a fraction: None for 0, which is for ever. Or the error.
pub fn timeout_seconds(args: &Args<'_>, index: usize, now: i64) -> Result<Option<Duration>, &'static str> {
    const NO_FLOAT: &str = "ERR timeout is not a float or out of range";
    let ms = LongDouble::parse(args.get(index).unwrap_or_default()).ok_or(NO_FLOAT)?.to_f64() * 1000.0;
    if ms > i64::MAX as f64 {
        return Err(OUT_OF_RANGE);
    }
    timeout(ms.ceil() as i64, now)
}

/// A timeout in milliseconds: None for 0, which is for ever. Or the error.
pub fn timeout_ms(args: &Args<'_>, index: usize, now: i64) -> Result<Option<Duration>, &'static str> {
    timeout(args.integer(index).ok_or("ERR timeout is not an integer or out of range")?, now)
}

fn timeout(ms: i64, now: i64) -> Result<Option<Duration>, &'static str> {
    match u64::try_from(ms) {
        Err(_) => Err(NEGATIVE),
        Ok(0) => Ok(None),
        Ok(_) if now.checked_add(ms).is_none() => Err(OUT_OF_RANGE),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Limits, Reader};

    fn read(
        word: &str,
        f: impl Fn(&Args<'_>) -> Result<Option<Duration>, &'static str>,
    ) -> Result<Option<u64>, String> {
        let (mut spans, mut request) = (Vec::new(), format!("*1\r\n${}\r\n{word}\r\n", word.len()).into_bytes());
        Reader::default().next(&mut request, 0, &mut spans, Limits { max_bulk: 1000, authenticated: true }).unwrap();
        let timeout = f(&Args::new(&request, &spans)).map_err(str::to_owned)?;
        Ok(timeout.map(|timeout| timeout.as_millis() as u64))
    }

    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        let seconds = |word| read(word, |args| timeout_seconds(args, 0, 1_000));
        for (word, ms) in [("0", None), ("-0", None), ("1", Some(1000)), ("0.0001", Some(1)), ("1e1", Some(10_000))] {
            assert_eq!(seconds(word), Ok(ms), "{word}");
        }
        assert_eq!(seconds("0x10"), Ok(Some(16_000)));
        for (words, error) in [
            (&["", "a", "1 ", "nan", "1s"][..], "ERR timeout is not a float or out of range"),
            (&["-1", "-0.001", "-inf"], "ERR timeout is negative"),
            (&["inf", "1e300", "9223372036854775"], "ERR timeout is out of range"),
        ] {
            words.iter().for_each(|word| assert_eq!(seconds(word), Err(error.to_owned()), "{word}"));
        }
        let ms = |word| read(word, |args| timeout_ms(args, 0, 1_000));
        assert_eq!((ms("0"), ms("15")), (Ok(None), Ok(Some(15))));
        assert_eq!(ms("1.5"), Err("ERR timeout is not an integer or out of range".to_owned()));
        assert_eq!(ms("-1"), Err("ERR timeout is negative".to_owned()));
        assert_eq!(ms("9223372036854775807"), Err("ERR timeout is out of range".to_owned()));
    }
}
