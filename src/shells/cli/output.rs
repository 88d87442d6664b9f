//! Where commands write. Floor 4.
//!
//! **Invariant:** data on stdout, talk on stderr; a reader that has seen enough ends the command quietly.

use std::io::{self, IsTerminal as _, Write as _};

use crate::shells::cli::failure::Failure;

/// The two streams of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
    quiet: bool,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool) -> Output {
        Output { json, quiet }
    }

    /// Writes a line of data.
    pub(super) fn line(self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Writes data as it is.
    #[expect(clippy::unused_self, reason = "callers write through what they were given")]
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // Nobody reads any more, which is no failure of ours: `spoolgate ls | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::closed_pipe()),
            other => Ok(other?),
        }
    }

    /// Writes one JSON object with the schema's name in it.
    pub(super) fn object(self, mut value: serde_json::Value) -> Result<(), Failure> {
        if let Some(object) = value.as_object_mut() {
            object.insert("schema".to_owned(), "spoolgate/v1".into());
        }
        self.line(value.to_string())
    }

    /// Says something to the person, not to the program that reads the data.
    pub(super) fn say(self, text: impl AsRef<str>) {
        if !self.quiet {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// Whether a person reads the data.
    #[expect(clippy::unused_self, reason = "callers ask what they were given")]
    pub(super) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }
}
