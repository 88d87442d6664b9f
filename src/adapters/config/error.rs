//! Why there is no configuration, and the reading of one file of it. Floor 3.
//!
//! **Invariant:** every variant names the file or the directory.

use std::path::{Path, PathBuf};

use crate::domain::problem::Problem;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory that is there could not be read.
    #[error("cannot read {path}: {source}{}", hint(source), path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Files were read and are wrong.
    #[error("the configuration in {dir} has {} problem(s)", problems.len(), dir = dir.display())]
    Wrong {
        /// The configuration directory.
        dir: PathBuf,
        /// Everything wrong with it.
        problems: Vec<Problem>,
    },
}

fn hint(source: &std::io::Error) -> &'static str {
    // What it holds is wrong then.
    if source.kind() == std::io::ErrorKind::InvalidData { "" } else { "; check its owner and mode" }
}

/// Reads a file that must be text.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read(path).and_then(|bytes| {
        let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        let found = if is_utf16 { "it is text in UTF-16; save it as UTF-8" } else { "it is no text in UTF-8" };
        String::from_utf8(bytes).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, found))
    });
    text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}
