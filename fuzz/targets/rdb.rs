//! RESTORE's format: any bytes, signed as a payload of any version, are read or refused, and nothing is handed out that
//! is larger than what came in, compressed strings excepted.
#![no_main]

use cenote::rdb::{Part, load, sign};
use libfuzzer_sys::fuzz_target;

const MAX_TEXT: usize = 1 << 16;

fuzz_target!(|input: (u16, &[u8])| {
    let (version, value) = input;
    for version in [version, 10, 12, 80] {
        let payload = sign(value.to_vec(), version);
        let _ = load(&payload, MAX_TEXT, true, &mut |part| {
            if let Part::Text(text) = part {
                assert!(text.len() <= MAX_TEXT.max(value.len()));
            }
            Ok(())
        });
    }
});
