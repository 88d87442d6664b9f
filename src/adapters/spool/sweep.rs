//! Deletes the files that were taken out of their boxes, a part at a time. Floor 3.
//!
//! **Invariant:** nothing is deleted that was written after it had been read, and nothing that a writer still holds. A part ends
//! when its time is over, however many files are left.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::folder::Folder;
use crate::adapters::spool::intake::{TAKEN, file_name, is_hollow, mtime_ns, read_at_most};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::writers::{Held, Writers};
use crate::base::digest::Digest;
use crate::base::limits;

/// A file that was written after it had been read.
#[derive(Debug)]
pub struct Rewritten {
    /// Where it stands.
    pub path: PathBuf,
    /// What it was called in its box.
    pub name: String,
    /// Its owner.
    pub uid: u32,
    /// What was read: the beginning of its digest.
    pub read: String,
}

/// A look at all files that were taken.
#[derive(Debug)]
pub struct Sweep {
    staging: PathBuf,
    /// Those that nobody has looked at yet.
    names: Option<fs::ReadDir>,
    writers: Writers,
}

impl Sweep {
    /// Looks at nothing yet. `remote` when files may be written from other machines.
    #[must_use]
    pub fn new(remote: bool) -> Sweep {
        Sweep { staging: PathBuf::new(), names: None, writers: Writers::new(remote) }
    }

    /// Begins, unless one is under way.
    ///
    /// # Errors
    /// When the files cannot be listed.
    pub fn begin(&mut self, layout: &Layout) -> Result<(), SpoolError> {
        if self.names.is_none() {
            self.staging = layout.staging();
            self.names = Some(fs::read_dir(&self.staging).map_err(|e| SpoolError::io("list", &self.staging, e))?);
        }
        Ok(())
    }

    /// Whether something is left to look at.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.names.is_some()
    }

    /// Goes on for so long, and returns the files that were written after they had been read: a writer was out of sight then. A
    /// file that a writer still holds stays for the next time.
    ///
    /// # Errors
    /// When a file operation fails; then it is over.
    pub fn part(&mut self, most: Duration) -> Result<Vec<Rewritten>, SpoolError> {
        if self.names.is_none() {
            return Ok(Vec::new());
        }
        let mut writers = std::mem::replace(&mut self.writers, Writers::new(true));
        writers.forget();
        let swept = self.part_unless_held(most, &mut |file| writers.hold(file));
        self.writers = writers;
        swept
    }

    pub(super) fn part_unless_held(
        &mut self,
        most: Duration,
        held: &mut dyn FnMut(&Metadata) -> Held,
    ) -> Result<Vec<Rewritten>, SpoolError> {
        let Some(mut names) = self.names.take() else { return Ok(Vec::new()) };
        let (begun, mut rewritten) = (Instant::now(), Vec::new());
        for entry in names.by_ref() {
            let path = entry.map_err(|e| SpoolError::io("list", &self.staging, e))?.path();
            rewritten.extend(sweep(path, held)?);
            if begun.elapsed() >= most {
                self.names = Some(names);
                break;
            }
        }
        Ok(rewritten)
    }
}

/// Deletes one file, if it was taken and nobody wrote it since; returns it where somebody did.
fn sweep(path: PathBuf, held: &mut dyn FnMut(&Metadata) -> Held) -> Result<Option<Rewritten>, SpoolError> {
    let look = |path: &Path| match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SpoolError::io("look at", path, error)),
    };
    let name = file_name(&path);
    if !name.starts_with(TAKEN) {
        return Ok(None);
    }
    let Some(meta) = look(&path)? else { return Ok(None) };
    if held(&meta) == Held::Yes {
        return Ok(None);
    }
    // To look for writers takes its time; what was written meanwhile, by one who has closed it, counts too.
    let Some(meta) = look(&path)? else { return Ok(None) };
    if let Some((_, read, name)) = taken_words(&name).filter(|words| was_written_since(&path, &meta, words)) {
        let (name, read) = (name.to_owned(), read.to_owned());
        return Ok(Some(Rewritten { path, name, uid: meta.uid(), read }));
    }
    fs::remove_file(&path).map_err(|e| SpoolError::io("remove", &path, e))?;
    Ok(None)
}

/// Returns what the name of a taken file says: its time, the beginning of its digest and what it was called.
fn taken_words(name: &str) -> Option<(&str, &str, &str)> {
    let mut words = name.strip_prefix(TAKEN)?.splitn(3, '_');
    let (mtime, read, name) = (words.next()?, words.next()?, words.next()?);
    mtime.parse::<i128>().ok().map(|_| (mtime, read, name))
}

/// Whether a file that was taken says something else than was read: its time then, and the beginning of its digest.
fn was_written_since(path: &Path, meta: &Metadata, (mtime, read, _): &(&str, &str, &str)) -> bool {
    if !meta.is_file() || *mtime == mtime_ns(meta) {
        return false;
    }
    let dir = Folder::of_ours(path.parent().unwrap_or(path));
    let file = dir.and_then(|dir| dir.read(&file_name(path)));
    let bytes = file.and_then(|mut file| read_at_most(&mut file, limits::DROPPED_FILE_BYTES_MAX));
    bytes.is_ok_and(|bytes| Digest::of(&bytes).short() != *read && !is_hollow(&bytes, meta, mtime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_when_its_time_is_over_and_the_next_goes_on() {
        const FILES: usize = 300;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        let staging = layout.staging();
        for n in 0..FILES {
            fs::write(staging.join(format!("{TAKEN}1_0123456789ab_{n}.json")), "\0").unwrap();
        }
        fs::write(staging.join("why"), "not taken").unwrap();
        let mut sweep = Sweep::new(false);
        // Whoever holds some of them open keeps nothing else from being deleted.
        let mut held = |file: &Metadata| if file.ino().is_multiple_of(10) { Held::Yes } else { Held::No };
        sweep.begin(&layout).unwrap();
        let mut parts = 0;
        while sweep.is_under_way() {
            assert!(sweep.part_unless_held(Duration::ZERO, &mut held).unwrap().len() <= 1);
            parts += 1;
        }
        assert!(parts >= FILES, "{parts} parts of one file each");
        sweep.begin(&layout).unwrap();
        let found = sweep.part_unless_held(Duration::MAX, &mut |_| Held::No).unwrap();
        assert!(found.len() + fs::read_dir(&staging).unwrap().count() >= 1 && !sweep.is_under_way());
    }
}
