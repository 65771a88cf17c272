//! Scripts: any bytes are compiled and run, or refused; what they ask for is answered with replies made of the input. No
//! script may end the process, or run on when it was told to end.
#![no_main]

use cenote::protocol::{Output, Reply, Span, Version};
use cenote::script::{Engine, Host, Program, Ran, Script, sha1_hex};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

/// Slices that a script gets.
const SLICES: usize = 20;

/// Answers each command with its last argument, as raw RESP lines would come.
struct Echo;

impl Host for Echo {
    fn call(&mut self, buf: &[u8], spans: &[Span], version: Version, out: &mut Output) {
        let mut reply = Reply::new(out, version);
        reply.array(spans.len());
        for span in spans {
            reply.bulk(span.of(buf));
        }
    }

    fn may(&self, _: &[u8], spans: &[Span]) -> Option<bool> {
        (spans.len() > 1).then_some(true)
    }

    fn log(&self, _: i64, _: &[u8]) {}
}

thread_local! {
    static ENGINE: std::cell::RefCell<Engine> = std::cell::RefCell::new(Engine::new().expect("Lua starts"));
}

fuzz_target!(|input: (&[u8], Vec<&[u8]>)| {
    let (body, words) = input;
    let Ok(script) = Script::new(sha1_hex(body), body) else { return };
    let script = Arc::new(script);
    ENGINE.with_borrow_mut(|engine| {
        if engine.compile(&script).is_err() {
            return;
        }
        assert!(engine.begin(Program::Script(&script), words.len() / 2, words.into_iter(), Version::V3));
        let mut slices = 0;
        while engine.go_on(&mut Echo) == Ran::Paused {
            slices += 1;
            assert!(slices < SLICES * 3, "it was told to end");
            if slices >= SLICES {
                engine.end("ERR ended");
            }
        }
        engine.take_reply();
        script.forget();
        engine.known(&script.sha);
    });
});
