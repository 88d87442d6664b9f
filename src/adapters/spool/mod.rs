//! The spool: every file the daemon keeps, and the boxes people drop files into. Floor 3.
//!
//! **Invariant:** only [`store`] writes states and journals, only [`intake`] and [`bad`] take files out of drop boxes,
//! only [`gc`] removes what is old. Nothing
//! here decides what a file means.

pub mod audit;
mod audit_head;
pub mod bad;
mod commit;
pub mod drop_file;
pub mod gc;
pub mod intake;
pub mod layout;
pub mod load;
pub mod logs;
pub mod past;
mod prefix;
pub mod proof;
pub mod reader;
pub mod store;
pub mod writers;

use std::path::{Path, PathBuf};

/// Stands before every operation of the store that changes a file: where tests make one fail, in turn.
#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "in tests it fails")]
fn fault_point(_act: &'static str, _path: &Path) -> Result<(), SpoolError> {
    Ok(())
}

#[cfg(test)]
use fault::point as fault_point;

/// Makes the n-th file operation of this thread fail.
#[cfg(test)]
mod fault {
    use std::cell::Cell;
    use std::path::Path;

    use super::SpoolError;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets `count` operations succeed, and no other after them.
    pub(super) fn after(count: Option<u32>) {
        LEFT.set(count);
    }

    pub(super) fn point(act: &'static str, path: &Path) -> Result<(), SpoolError> {
        match LEFT.get() {
            Some(0) => Err(SpoolError::io(act, path, std::io::Error::other("a fault of the test"))),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

/// Why the spool could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file operation failed; a daemon that sees it must stop and start again.
    #[error("cannot {act} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another daemon serves this state.
    #[error("another daemon (pid {pid}) serves {path}; stop it first, or use another --state", path = path.display())]
    Locked {
        /// Its process id, as it wrote it.
        pid: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The directory is not safe to keep state in.
    #[error("{path} cannot hold the spool: {why}", path = path.display())]
    Unsuitable {
        /// Which directory.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A task with this number exists already.
    #[error("task {id} exists already in {path}; two daemons?", path = path.display())]
    Exists {
        /// The number.
        id: crate::base::ids::TaskId,
        /// The runs directory.
        path: PathBuf,
    },
}

impl SpoolError {
    fn io(act: &'static str, path: &Path, source: impl Into<std::io::Error>) -> SpoolError {
        SpoolError::Io { act, path: path.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests;
