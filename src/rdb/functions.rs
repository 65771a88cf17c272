//! Libraries of functions as FUNCTION DUMP gives and FUNCTION RESTORE takes them: each one's code behind an opcode, and
//! the footer of all payloads. Knows bytes only.

use super::load::signed;
use super::read::{Bad, Reader};
use super::write::{COMMON, sign, string};

/// Stands before each library.
const FUNCTION: u8 = 245;

/// A payload of libraries.
pub fn dump_functions<'a>(codes: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for code in codes {
        out.push(FUNCTION);
        string(&mut out, code);
    }
    sign(out, COMMON)
}

/// The libraries' code in a payload; None where the footer is not right. A compressed one is at most `max_text` bytes.
pub fn load_functions(payload: &[u8], max_text: usize) -> Result<Option<Vec<Vec<u8>>>, Bad> {
    let Some((_, value)) = signed(payload, false) else { return Ok(None) };
    let mut reader = Reader::new(value, max_text);
    let mut codes = Vec::new();
    while !reader.is_done() {
        if reader.byte()? != FUNCTION {
            return Err(Bad);
        }
        codes.push(reader.string()?.into_owned());
    }
    Ok(Some(codes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_back_and_nothing_else_does() {
        let codes: [&[u8]; 3] = [b"#!lua name=a\n", b"", &b"a long line of code, again and again ".repeat(50)];
        let payload = dump_functions(codes.iter().copied());
        assert_eq!(load_functions(&payload, 1 << 20).unwrap().unwrap(), codes);
        assert_eq!(load_functions(&dump_functions(std::iter::empty()), 1 << 20).unwrap().unwrap().len(), 0);
        for end in 0..payload.len() {
            assert_eq!(load_functions(&payload[..end], 1 << 20), Ok(None));
        }
        assert_eq!(load_functions(&sign(vec![0, 1, b'a'], COMMON), 1 << 20), Err(Bad));
        assert_eq!(load_functions(&sign(vec![FUNCTION, 0x80, 0xff, 0xff, 0xff, 0xff], COMMON), 1 << 20), Err(Bad));
    }
}
