//! Clients of others, as they come from their makers, against the real program.

use std::path::Path;
use std::time::Duration;

use crate::support::{Server, run, tool};

/// As long as a busy machine may need for what takes a second.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn redis_py_works_unchanged() {
    let server = Server::cenote().args(["--requirepass", "secret"]).start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/redis_py.py");
    let script = script.to_str().expect("the project's path is text");
    // Warnings count as faults: a client warns of a reply that it did not expect.
    let finished = run(&tool("PYTHON"), &["-W", "error", script, &server.port().to_string()], b"", LIMIT);
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.out, finished.err);
    assert_eq!(finished.err, "");
}
