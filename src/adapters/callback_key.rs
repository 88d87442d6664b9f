//! Keeps the key that tokens of running scripts are signed with. Floor 3.
//!
//! **Invariant:** made once, for the owner alone, and durable before it is used: steps go on over a restart, and so do their
//! tokens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::domain::callback::CallbackKey;

/// Reads the key at `path`, or makes it.
///
/// # Errors
/// When it can be neither read nor made.
pub fn read_or_make(path: &Path) -> io::Result<CallbackKey> {
    if let Ok(bytes) = fs::read(path)
        && let Ok(key) = bytes.try_into()
    {
        return Ok(CallbackKey(key));
    }
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let staged = path.with_extension("new");
    // One that a crash left is worth nothing.
    let _ = fs::remove_file(&staged);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged)?;
    file.write_all(&key).and_then(|()| file.sync_all())?;
    fs::rename(&staged, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(CallbackKey(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("callback.key");
        let first = read_or_make(&path).expect("made");
        assert_eq!(read_or_make(&path).expect("read").0, first.0);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        fs::write(&path, "torn").expect("written");
        assert_ne!(read_or_make(&path).expect("made again").0, first.0);
    }
}
