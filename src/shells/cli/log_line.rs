//! Where the daemon's log goes. Floor 4.
//!
//! **Invariant:** an event is a line, whatever is in it: what hosts and people wrote begins no line of its own, and commands
//! neither a terminal nor the journal.

use std::io::{self, Write};

use crate::base::text::visible;

/// Standard error, a line an event.
#[derive(Clone, Copy, Debug)]
pub(in crate::shells) struct LogLine;

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(one_line(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Writes what an event says on one line.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    format!("{}\n", visible(text.strip_suffix('\n').unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let said = b"2026  INFO it said \"no\n<0>2026 ERROR forged\r\x1b[2J\"\n";
        assert_eq!(one_line(said), "2026  INFO it said \"no<U+000A><0>2026 ERROR forged<U+000D><U+001B>[2J\"\n");
        assert_eq!(one_line("ok 发布\n".as_bytes()), "ok 发布\n");
    }
}
