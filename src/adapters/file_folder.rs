//! The folder of files that steps copy to hosts: `files/` of the configuration. Floor 3.
//!
//! **Invariant:** reads only, regular files only, and nothing that lies outside of the folder, wherever links lead. A digest is
//! computed again when anything about the file changed that the file system knows of: size, times, inode.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::base::digest::{Digest, Digester};
use crate::base::limits;
use crate::domain::file_step::{Files, FoundFile, is_beneath};

/// How deep folders are read; a link to a folder above would have no end.
const DEPTH_MAX: usize = 32;

/// The folder.
#[derive(Clone, Debug)]
pub struct FileFolder {
    root: PathBuf,
}

/// What is known of files of this process's folders: the configuration is read again more often than files change.
static KNOWN: LazyLock<Mutex<HashMap<PathBuf, (Stamp, Digest)>>> = LazyLock::new(Mutex::default);

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileFolder {
    /// Returns the folder at `root`, which need not exist.
    #[must_use]
    pub fn new(root: PathBuf) -> FileFolder {
        FileFolder { root }
    }

    /// Opens a file beneath the folder.
    ///
    /// # Errors
    /// When it is not there, lies elsewhere, is no regular file, or cannot be read.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let file = File::open(self.place(name)?)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
    }

    /// Returns where a name leads, if that is beneath the folder.
    fn place(&self, name: &str) -> io::Result<PathBuf> {
        if !is_beneath(name) {
            return Err(io::Error::other("it is no name beneath the folder"));
        }
        let root = self.root.canonicalize()?;
        let place = root.join(name).canonicalize()?;
        if place.starts_with(&root) { Ok(place) } else { Err(io::Error::other("it leads out of the folder")) }
    }

    fn walk(&self, name: &str, below: &str, depth: usize, found: &mut Vec<FoundFile>) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("a file that can be read: {name}: {error}");
        let whole = if below.is_empty() { name.to_owned() } else { format!("{name}/{below}") };
        let place = self.place(&whole).map_err(|error| failed(&error))?;
        let meta = place.metadata().map_err(|error| failed(&error))?;
        if meta.is_file() {
            let mode = format!("{:04o}", meta.permissions().mode() & 0o777);
            let digest = Self::digest(&place, &meta).map_err(|error| failed(&error))?;
            found.push(FoundFile { below: below.to_owned(), digest, mode });
        } else if meta.is_dir() && depth < DEPTH_MAX {
            let entries = place.read_dir().and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let names =
                entries.map_err(|error| failed(&error))?.into_iter().map(|entry| entry.file_name().into_string());
            let mut names: Vec<String> = names
                .collect::<Result<_, _>>()
                .map_err(|name| failed(&format!("the name {} is no UTF-8", name.display())))?;
            names.sort_unstable();
            for entry in names {
                let below = if below.is_empty() { entry } else { format!("{below}/{entry}") };
                self.walk(name, &below, depth.saturating_add(1), found)?;
            }
        } else {
            return Err(format!("files and folders in {name}, at most {DEPTH_MAX} deep; {below} is neither"));
        }
        if found.len() > limits::FILES_PER_STEP {
            return Err(format!("at most {} files in {name}", limits::FILES_PER_STEP));
        }
        Ok(())
    }

    fn digest(place: &Path, meta: &Metadata) -> io::Result<Digest> {
        let stamp = Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        if let Some((_, digest)) = known().get(place).filter(|(known, _)| *known == stamp) {
            return Ok(*digest);
        }
        let (mut file, mut digester, mut buffer) = (File::open(place)?, Digester::default(), vec![0; 256 << 10]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digester.update(&buffer[..count]);
        }
        let digest = digester.finish();
        known().insert(place.to_owned(), (stamp, digest));
        Ok(digest)
    }

    /// Returns the folder and every folder in it: whatever changes among the files shows in one of them.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.root.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            let entries = folder.read_dir().into_iter().flatten().filter_map(Result::ok);
            let inner: Vec<PathBuf> = entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            folders.extend(inner);
            next = next.saturating_add(1);
        }
        folders
    }
}

fn known() -> MutexGuard<'static, HashMap<PathBuf, (Stamp, Digest)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files for FileFolder {
    fn find(&self, name: &str) -> Result<Vec<FoundFile>, String> {
        let mut found = Vec::new();
        self.walk(name, "", 0, &mut found)?;
        if found.is_empty() {
            return Err(format!("a folder with files in it: {name} has none"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_with_what_they_hold_now_and_nothing_outside_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("files");
        std::fs::create_dir_all(root.join("conf/deep")).unwrap();
        std::fs::write(root.join("conf/b"), "two").unwrap();
        std::fs::write(root.join("conf/deep/a"), "one").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../../../secret", root.join("conf/deep/out")).unwrap();
        let folder = FileFolder::new(root.clone());
        assert!(folder.find("conf").unwrap_err().contains("leads out of the folder"));
        std::fs::remove_file(root.join("conf/deep/out")).unwrap();
        let found = |folder: &FileFolder| {
            let all = folder.find("conf").unwrap().into_iter();
            all.map(|file| (file.below, file.digest)).collect::<Vec<_>>()
        };
        let want = |two: &[u8]| vec![("b".to_owned(), Digest::of(two)), ("deep/a".to_owned(), Digest::of(b"one"))];
        assert_eq!(found(&folder), want(b"two"));
        std::fs::write(root.join("conf/b"), "2.0").unwrap();
        assert_eq!(found(&folder), want(b"2.0"));
        for bad in ["nope", "../secret", "/etc/passwd", "conf/../../secret", ""] {
            assert!(folder.find(bad).is_err() && folder.open(bad).is_err(), "{bad}");
        }
    }
}
