//! The system's log: the audit's head goes there, out of the daemon's own reach. Floor 3.
//!
//! **Invariant:** never waits: a log that does not listen loses the line, and the caller is told.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Facility `authpriv`, severity `info` (RFC 3164, section 4.1.1).
const PRIORITY: u32 = 10 * 8 + 6;

/// Why a line did not get there.
#[derive(Debug, thiserror::Error)]
#[error("cannot send to the system log at {path}: {source}; is something listening there?", path = path.display())]
pub struct SyslogError {
    /// The socket.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Sends one line.
///
/// # Errors
/// When nothing listens, or it does not take the line at once.
pub fn send(path: &Path, text: &str) -> Result<(), SyslogError> {
    let fail = |source| SyslogError { path: path.to_owned(), source };
    let socket = UnixDatagram::unbound().map_err(fail)?;
    socket.set_nonblocking(true).map_err(fail)?;
    let line = format!("<{PRIORITY}>spoolgate[{}]: {text}", std::process::id());
    socket.send_to(line.as_bytes(), path).map(drop).map_err(fail)
}
