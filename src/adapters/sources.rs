//! Whether files are still what they were when they were read. Floor 3.
//!
//! **Invariant:** reads only. A change after the look is never missed: a file that had only just been changed then is
//! taken for changed once more, because a second change in the same tick of the file system's clock leaves no trace.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::digest::{Digest, Digester};
use crate::base::limits;
use crate::base::time::Timestamp;

/// How coarse a file system's clock may be, in milliseconds.
const TICK_MS: i64 = 20;
/// When what could not be read is read again though no file changed.
const AGAIN: Duration = Duration::from_secs(limits::RESCAN_S);

/// Files and directories, as they stood at one moment; in a directory, the files in it.
#[derive(Clone, Debug)]
pub struct Sources {
    paths: Vec<PathBuf>,
    /// More of them, which are no part of the digest.
    watched: Vec<PathBuf>,
    print: u64,
    /// Whether one of them had only just been changed.
    fresh: bool,
    /// When they count as changed in any case.
    expires: Option<Instant>,
}

impl Sources {
    /// Looks at them; `since` is when the reading of them began. A change of what is only watched is a change too, but
    /// what it holds is no part of the digest: it may be large.
    #[must_use]
    pub fn look(paths: Vec<PathBuf>, watched: Vec<PathBuf>, since: Timestamp) -> Sources {
        let (print, newest) = look(paths.iter().chain(&watched));
        Sources { paths, watched, print, fresh: newest.plus_ms(TICK_MS) >= since, expires: None }
    }

    /// Lets them count as changed from a moment on: what a program said does not stand in a file.
    #[must_use]
    pub fn until(self, expires: Option<Instant>) -> Sources {
        Sources { expires, ..self }
    }

    /// Looks at them again, after they could not be read. What kept them from being read may be no file of theirs (a
    /// script that asks a server), so that they soon count as changed.
    #[must_use]
    pub fn again(&self, now: Timestamp) -> Sources {
        Sources::look(self.paths.clone(), self.watched.clone(), now).until(Some(Instant::now() + AGAIN))
    }

    /// Returns the digest of their names and contents, as they stand now.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::default();
        let mut add = |path: &PathBuf| {
            // To read a pipe is to wait for whoever writes.
            if path.is_file()
                && let Ok(bytes) = std::fs::read(path)
            {
                digester.update(path.as_os_str().as_encoded_bytes());
                digester.update(Digest::of(&bytes).to_string().as_bytes());
            }
        };
        for path in &self.paths {
            if path.is_dir() { files_of(path).iter().for_each(&mut add) } else { add(path) }
        }
        digester.finish()
    }

    /// Whether one of them may have changed since.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.fresh
            || self.expires.is_some_and(|at| at <= Instant::now())
            || look(self.paths.iter().chain(&self.watched)).0 != self.print
    }
}

/// Returns what stands in a directory, by name.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Returns a number that another state of the files hardly has, and when one of them changed last.
fn look<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> (u64, Timestamp) {
    let mut hasher = DefaultHasher::new();
    let mut newest = Timestamp(i64::MIN);
    let mut add = |path: &PathBuf| {
        path.hash(&mut hasher);
        let Ok(meta) = std::fs::metadata(path) else { return false };
        let changed = (meta.ctime(), meta.ctime_nsec());
        (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), changed).hash(&mut hasher);
        newest = newest.max(Timestamp(changed.0.saturating_mul(1000).saturating_add(changed.1 / 1_000_000)));
        meta.is_dir()
    };
    for path in paths {
        if add(path) {
            for file in &files_of(path) {
                add(file);
            }
        }
    }
    (hasher.finish(), newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_and_no_change_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a");
        std::fs::write(&file, "one").expect("written");
        let paths = vec![dir.path().to_owned(), dir.path().join("missing")];
        let fresh = Sources::look(paths.clone(), Vec::new(), Timestamp(0));
        assert!(fresh.changed(), "what was written a moment before may have been written again since");
        // As if the reading had begun long after the last change.
        let look = || Sources::look(paths.clone(), Vec::new(), Timestamp(i64::MAX));
        let sources = look();
        assert!(!sources.changed());
        std::fs::write(&file, "two").expect("written");
        assert!(sources.changed(), "another content");
        let sources = look();
        std::fs::write(dir.path().join("b"), "").expect("written");
        assert!(sources.changed(), "a new file");
        let sources = look();
        std::fs::write(dir.path().join("missing"), "").expect("written");
        assert!(sources.changed(), "a file that was not there");
        assert!(!look().until(Some(Instant::now() + Duration::from_mins(1))).changed());
        assert!(look().until(Some(Instant::now())).changed(), "its time is over");
    }
}
