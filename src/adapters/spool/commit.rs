//! Brings what was written to the disk, many files in one wait. Floor 3.
//!
//! **Invariant:** when [`Commit::run`] returns, everything that was added survives a power cut; when it fails, nothing
//! is known of any of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::adapters::spool::{SpoolError, fault_point};

/// Up to this many files are synced side by side, which the file system makes one commit of; from there on, one sync of
/// the whole file system costs less.
const SIDE_BY_SIDE_MAX: usize = 8;

/// Files and directories that must reach the disk together.
#[derive(Debug, Default)]
pub(super) struct Commit {
    files: Vec<(PathBuf, File)>,
    dirs: BTreeSet<PathBuf>,
}

impl Commit {
    /// Adds the bytes of an open file.
    pub(super) fn file(&mut self, path: &Path, file: File) {
        self.files.push((path.to_owned(), file));
    }

    /// Adds the names in a directory.
    pub(super) fn dir(&mut self, path: PathBuf) {
        self.dirs.insert(path);
    }

    /// Syncs everything and forgets it.
    pub(super) fn run(&mut self) -> Result<(), SpoolError> {
        let mut files = std::mem::take(&mut self.files);
        for path in std::mem::take(&mut self.dirs) {
            let dir = File::open(&path).map_err(|e| SpoolError::io("open", &path, e))?;
            files.push((path, dir));
        }
        let Some(((path, first), others)) = files.split_first() else { return Ok(()) };
        fault_point("sync", path)?;
        if files.len() > SIDE_BY_SIDE_MAX {
            return nix::unistd::syncfs(first).map_err(|e| SpoolError::io("sync the file system of", path, e));
        }
        let sync = |path: &Path, file: &File| file.sync_all().map_err(|e| SpoolError::io("sync", path, e));
        std::thread::scope(|scope| {
            let waiting: Vec<_> = others.iter().map(|(path, file)| scope.spawn(move || sync(path, file))).collect();
            let mut done = sync(path, first);
            for thread in waiting {
                let panicked = || Err(SpoolError::io("sync", path, io::Error::other("the thread panicked")));
                done = done.and(thread.join().unwrap_or_else(|_| panicked()));
            }
            done
        })
    }
}
