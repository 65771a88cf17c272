//! A client of others, as it comes from its makers, against the real program, with each change. Many more are run by
//! `scripts/test-clients`.

use std::path::Path;
use std::time::Duration;

use crate::support::{Server, run, tool};

/// As long as a busy machine may need for what takes a second.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn redis_py_works_unchanged() {
    let server = Server::cenote().args(["--requirepass", "secret"]).start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/redis_py.py");
    let script = script.to_str().expect("the project's path is text");
    let url = format!("redis://:secret@127.0.0.1:{}", server.port());
    // Warnings count as faults: a client warns of a reply that it did not expect.
    let finished = run(&tool("PYTHON"), &["-W", "error", script, &url], b"", LIMIT);
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.out, finished.err);
    assert_eq!(finished.err, "");
}
