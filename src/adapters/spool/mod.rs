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
mod folder;
pub mod follow_audit;
pub mod gates;
pub mod gc;
pub mod intake;
pub mod layout;
pub mod load;
pub mod lock;
pub mod logs;
pub mod past;
mod prefix;
pub mod proof;
pub mod reader;
pub mod rescan;
pub mod room;
pub mod store;
pub mod sweep;
pub mod writers;

use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// With this mode files are made: the group may read, nobody else may do anything.
pub(super) const FILE_MODE: u32 = 0o640;

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
    #[error("{holder} (pid {pid}) serves {path}; stop it first, or use another --state", path = path.display())]
    Locked {
        /// Who seems to hold it.
        holder: &'static str,
        /// The process id of the daemon that took it, as it wrote it.
        pid: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The state is another one than this daemon serves.
    #[error(
        "{path} is not the one that this daemon locked: the state directory was moved, replaced or restored below it. Nothing more \
         is written; see that the right one stands there, then start the daemon again",
        path = path.display()
    )]
    Replaced {
        /// The lock file.
        path: PathBuf,
    },
    /// A line of a file that must be believed cannot be.
    #[error(
        "line {line} of {path} is damaged: {why}. Nothing was changed. Put the file back from a copy; if there is none: \
         cp -p {path} {path}.damaged && truncate -s {begin} {path}, and start the daemon again, which then says in the audit that \
         its end was lost",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// At which byte it begins.
        begin: usize,
        /// What is wrong with it.
        why: &'static str,
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

/// What a daemon may lack that comes back: then it can go on later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Room on the disk, or what a quota leaves of it.
    Room,
    /// File descriptors or memory.
    Means,
    /// A configuration that can be read.
    Configuration,
}

impl Lack {
    /// All of them.
    pub const ALL: [Lack; 3] = [Lack::Room, Lack::Means, Lack::Configuration];

    /// Returns the word it is written as.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Lack::Room => "room",
            Lack::Means => "means",
            Lack::Configuration => "configuration",
        }
    }

    /// Returns what people call it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Lack::Room => "room on the disk",
            Lack::Means => "file descriptors or memory",
            Lack::Configuration => "configuration that can be read",
        }
    }
}

impl SpoolError {
    /// Returns what was missing, where something was that can come back.
    #[must_use]
    pub fn lack(&self) -> Option<Lack> {
        let SpoolError::Io { source, .. } = self else { return None };
        SpoolError::lack_of(source)
    }

    /// Whether it is that this person may not read a file.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, SpoolError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }

    /// Returns what was missing for a file operation, where something was that can come back.
    #[must_use]
    pub fn lack_of(error: &std::io::Error) -> Option<Lack> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOSPC | Errno::EDQUOT => Some(Lack::Room),
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => Some(Lack::Means),
            _ => None,
        }
    }

    fn io(act: &'static str, path: &Path, source: impl Into<std::io::Error>) -> SpoolError {
        SpoolError::Io { act, path: path.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests;
