//! Reads and writes `tokens.toml`. Floor 3.
//!
//! **Invariant:** the file is its owner's alone, and is replaced whole: a power cut leaves the old one or the new one. Its
//! only writer is the command line, one at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::base::time::Zone;
use crate::domain::problem::Problem;
use crate::domain::token::Tokens;

/// Why the tokens could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The system failed.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read or change it.
    #[error("{path} can be read or changed by others (mode {mode:o}, owner {uid}); try: chmod 600 {path}, as the daemon's user", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// What stands in it is wrong.
    #[error("{path} has {} problem(s): {}", problems.len(), problems.first().map(ToString::to_string).unwrap_or_default(), path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All of them.
        problems: Vec<Problem>,
    },
}

/// The tokens as they stand on disk at every look: what was revoked a moment ago is good for nothing.
#[derive(Debug)]
pub struct TokensOnDisk {
    dir: PathBuf,
    /// What the file was when it was read: inode, size and time of change.
    seen: Option<[i64; 4]>,
    tokens: Arc<Tokens>,
    /// What was said of it last.
    told: Option<String>,
}

impl TokensOnDisk {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> TokensOnDisk {
        TokensOnDisk { dir, seen: Some([-1; 4]), tokens: Arc::default(), told: None }
    }

    /// Returns the tokens as they are now, and why there are none when they cannot be read, once.
    pub fn look(&mut self, zone: &Zone) -> (Arc<Tokens>, Option<TokensError>) {
        let meta = fs::metadata(self.dir.join("tokens.toml")).ok();
        let seen = meta.map(|meta| {
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            [number(meta.ino()), number(meta.size()), meta.ctime(), meta.ctime_nsec()]
        });
        let mut error = None;
        if seen != self.seen {
            match read(&self.dir, zone) {
                Ok(tokens) => (self.tokens, self.seen, self.told) = (Arc::new(tokens), seen, None),
                // It is tried again at the next look, and told of once.
                Err(why) => {
                    self.tokens = Arc::default();
                    self.seen = Some([-1; 4]);
                    let text = why.to_string();
                    error = (self.told.as_ref() != Some(&text)).then_some(why);
                    self.told = Some(text);
                }
            }
        }
        (Arc::clone(&self.tokens), error)
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokensError {
    let path = path.to_owned();
    move |source| TokensError::Io { what, path, source }
}

/// Reads the tokens of a configuration directory; none when there is no file.
///
/// # Errors
/// When it cannot be read, when others can, or with every problem in it.
pub fn read(dir: &Path, zone: &Zone) -> Result<Tokens, TokensError> {
    let path = dir.join("tokens.toml");
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tokens::default()),
        Err(error) => return Err(failed("look at", &path)(error)),
    };
    let me = nix::unistd::geteuid().as_raw();
    // Root looks after it for whoever runs the daemon.
    if meta.mode() & 0o077 != 0 || (me != 0 && ![0, me].contains(&meta.uid())) {
        return Err(TokensError::Open { path, mode: meta.mode() & 0o7777, uid: meta.uid() });
    }
    let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
    Tokens::parse("tokens.toml", &text, zone).map_err(|problems| TokensError::Wrong { path, problems })
}

/// Changes the tokens: nobody else does meanwhile. They belong to whom the state belongs to, who runs the daemon.
///
/// # Errors
/// When they cannot be read or written.
pub fn change<T>(
    dir: &Path,
    state: &Path,
    zone: &Zone,
    change: impl FnOnce(&mut Tokens) -> T,
) -> Result<T, TokensError> {
    let lock = File::open(dir).map_err(failed("open", dir))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| TokensError::Io {
        what: "lock",
        path: dir.to_owned(),
        source: errno.into(),
    })?;
    let mut tokens = read(dir, zone)?;
    let result = change(&mut tokens);
    let path = dir.join("tokens.toml");
    let staged = dir.join(".tokens.toml.new");
    let head =
        "# HTTP tokens; written by: spoolgate token create | revoke. Secrets are not here, only their digests.\n";
    let text = tokens.0.iter().fold(head.to_owned(), |text, token| text + "\n" + &token.to_toml());
    // One that a crash left is ours: the lock is held.
    let _ = fs::remove_file(&staged);
    let mut file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged).map_err(failed("create", &staged))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write", &staged))?;
    if nix::unistd::geteuid().is_root() {
        // Before the first start nobody has a state; what was there before says whose it is then.
        let owner = fs::metadata(state).or_else(|_| fs::metadata(&path)).map_or(0, |meta| meta.uid());
        std::os::unix::fs::fchown(&file, Some(owner), None).map_err(failed("give away", &staged))?;
    }
    fs::rename(&staged, &path).map_err(failed("replace", &path))?;
    lock.sync_all().map_err(failed("sync", dir))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let zone = Zone::utc();
        assert_eq!(read(dir.path(), &zone).expect("none"), Tokens::default());
        change(dir.path(), dir.path(), &zone, |_| ()).expect("written");
        let path = dir.path().join("tokens.toml");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(read(dir.path(), &zone).expect("read"), Tokens::default());
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("changed");
        assert!(matches!(read(dir.path(), &zone), Err(TokensError::Open { mode: 0o640, .. })));
    }
}
