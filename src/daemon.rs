//! `daemonize`: the server as a process of its own in the background. There is no fork, for a process with threads
//! cannot be: the program starts itself anew, in a session of its own, and ends when that one serves. It must not know
//! the server.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

/// Set for the one in the background.
const VARIABLE: &str = "CENOTE_DETACHED";

/// True in the background.
pub(crate) fn is_detached() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Starts the same program in the background. Returns when that accepts connections, or has ended with a fault, which it
/// has told on our standard error by then: so whoever starts it knows.
pub(crate) fn detach(args: &[OsString]) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cenote: the server cannot be started in the background: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &[OsString]) -> io::Result<ExitCode> {
    let mut command = Command::new(env::current_exe()?);
    command.args(args).env(VARIABLE, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut word = Vec::new();
    if let Some(mut told) = child.stdout.take() {
        told.read_to_end(&mut word)?;
    }
    if word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.filter(|code| *code != 0).map_or(ExitCode::FAILURE, ExitCode::from))
}

const READY: &[u8] = b"ready\n";

/// In the background: leaves the session, and with it the terminal, that it was started from.
///
/// # Errors
/// When the system refuses.
pub(crate) fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// In the background: tells who started it that it serves, and lets go of what it has of him.
///
/// # Errors
/// When he is gone, or there is no `/dev/null`.
pub(crate) fn tell_ready() -> io::Result<()> {
    let told = io::stdout().write_all(READY).and_then(|()| io::stdout().flush());
    let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    told
}
