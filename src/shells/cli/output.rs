//! Where commands write. Floor 4.
//!
//! **Invariant:** data on stdout, talk on stderr; a reader that has seen enough ends the command quietly.

use std::io::{self, IsTerminal as _, Write as _};

use crate::base::text::is_hidden;
use crate::shells::cli::failure::Failure;

/// The two streams of a command.
#[derive(Clone, Copy, Debug)]
pub(in crate::shells) struct Output {
    pub(in crate::shells) json: bool,
    quiet: bool,
}

impl Output {
    pub(in crate::shells) fn new(json: bool, quiet: bool) -> Output {
        Output { json, quiet }
    }

    /// Writes a line of data.
    pub(in crate::shells) fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Writes a line that is JSON already.
    pub(in crate::shells) fn json_line(self, json: &[u8]) -> Result<(), Failure> {
        self.line(escaped_text(&String::from_utf8_lossy(json)))
    }

    /// Writes data as it is.
    #[expect(clippy::unused_self, reason = "callers write through what they were given")]
    pub(in crate::shells) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // Nobody reads any more, which is no failure of ours: `spoolgate ls | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::closed_pipe()),
            other => Ok(other?),
        }
    }

    /// Writes one JSON object with the schema's name in it.
    pub(in crate::shells) fn object(self, mut value: serde_json::Value) -> Result<(), Failure> {
        if let Some(object) = value.as_object_mut() {
            object.insert("schema".to_owned(), "spoolgate/v1".into());
        }
        self.line(escaped(&value))
    }

    /// Says how a command failed, and what to do next: the last line of stderr, in JSON an object of its own.
    pub(in crate::shells) fn fail(self, failure: &Failure) {
        let (code, word) = failure.exit_code();
        if word.is_empty() {
            return;
        }
        let (message, hint) = (&failure.message, &failure.hint);
        let text = if self.json {
            let error = serde_json::json!({"code": word, "exit": code, "message": message, "try": hint});
            escaped(&serde_json::json!({"schema": "spoolgate/v1", "error": error}))
        } else {
            let hint = hint.as_ref().map(|hint| format!("\ntry: {hint}")).unwrap_or_default();
            format!("spoolgate: {word}: {message}{hint}")
        };
        Output { quiet: false, ..self }.say(text);
    }

    /// Says something to the person, not to the program that reads the data.
    pub(in crate::shells) fn say(self, text: impl AsRef<str>) {
        if !self.quiet {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// Whether a person reads the data.
    #[expect(clippy::unused_self, reason = "callers ask what they were given")]
    pub(in crate::shells) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }
}

/// Writes JSON in which no character commands a terminal: it stands there as JSON's own escape.
fn escaped(value: &serde_json::Value) -> String {
    escaped_text(&value.to_string())
}

/// Writes JSON that stands as text already.
fn escaped_text(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        if is_hidden(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_commands_no_terminal_and_says_the_same() {
        let value = serde_json::json!({"text": "a\u{1b}[2J\u{9b}2J\u{202e}b\u{e0041}\n发布"});
        let text = escaped(&value);
        assert!(!text.chars().any(is_hidden) && text.contains("发布"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
