//! What a host says before its name. Floor 3.
//!
//! **Invariant:** the library is asked to begin only when the next thing to read is the host's name: its own loop over the lines
//! before that gives nobody else a turn, and has no end if the host has none.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::adapters::ssh::worker::socket::Readiness;

/// How every name begins (RFC 4253, section 4.2).
const NAME: &[u8] = b"SSH-";
/// How many lines a host may say before its name, and how many bytes in all.
const LINES_MAX: usize = 64;
const BYTES_MAX: usize = 8 << 10;
/// Whoever says nothing for so long may wait for us to speak first.
const SILENT: Duration = Duration::from_millis(500);
/// How long to wait for the rest of four bytes.
const REST: Duration = Duration::from_millis(10);

/// Takes the lines that a host says before its name, until that comes; returns them.
///
/// # Errors
/// Why the host is given up.
pub(super) async fn before_name(readiness: &Readiness) -> Result<Vec<u8>, String> {
    let (mut heard, mut lines, mut in_line) = (Vec::new(), 0_usize, false);
    loop {
        let Ok(shown) = timeout(SILENT, readiness.peek(BYTES_MAX)).await else { return Ok(heard) };
        let shown = match shown {
            // The library says what became of the connection.
            Err(_) => return Ok(heard),
            Ok(shown) if shown.is_empty() => return Ok(heard),
            Ok(shown) => shown,
        };
        if !in_line && shown.starts_with(NAME) {
            return Ok(heard);
        }
        if !in_line && NAME.starts_with(&shown) {
            sleep(REST).await;
            continue;
        }
        let end = shown.iter().position(|byte| *byte == b'\n').map_or(shown.len(), |at| at.saturating_add(1));
        in_line = !shown[..end].ends_with(b"\n");
        lines = lines.saturating_add(usize::from(!in_line));
        heard.extend_from_slice(&shown[..end]);
        if readiness.skip(end).is_err() {
            return Ok(heard);
        }
        if lines > LINES_MAX || heard.len() > BYTES_MAX {
            return Err(format!(
                "it said {lines} lines and {} bytes, and not its name among them; is this an sshd?",
                heard.len()
            ));
        }
    }
}
