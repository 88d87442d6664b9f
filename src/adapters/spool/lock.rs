//! The lock that makes a daemon the only one over its state, and the sign that tells others of it. Floor 3.
//!
//! **Invariant:** whoever holds a [`Lock`] is the only writer of the state, for as long as [`Lock::check`] says so. The sign
//! decides nothing; it is there to be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{Lack, SpoolError};

/// How long a daemon that lives is given to let go: one that is stopping, or a command that asks who holds the lock.
const LIVING: Duration = Duration::from_millis(300);
/// How long the lock of a daemon that is dead may stay: a process that it was making has it until it becomes its program.
const DEAD: Duration = Duration::from_secs(5);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// How many bytes each half of the sign has, whatever it says: what is written over it needs no room on the disk. The first half is
/// who serves and what is missing, the second who is at a limit.
const HALF_BYTES: usize = 64;

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
    /// What commands look at to see whether a daemon serves; `None` when somebody else holds it.
    sign: Option<Flock<File>>,
}

impl Lock {
    /// Takes the lock, and waits a moment where it is held.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] when another daemon holds it.
    pub fn take(layout: &Layout) -> Result<Lock, SpoolError> {
        let path = layout.lock();
        let mut lock = Lock { file: lock_file(&path)?, path, sign: None };
        // Somebody may have put another one there in the meantime.
        lock.check()?;
        let path = layout.sign();
        lock.sign = take_sign(open(&path, 0o644)?);
        let written = lock.file.set_len(0).and_then(|()| writeln!(lock.file, "{}", std::process::id()));
        written.map_err(|e| SpoolError::io("write", &lock.path, e))?;
        lock.say(None).and_then(|()| lock.say_limited(0, "")).map_err(|e| SpoolError::io("write", &path, e))?;
        Ok(lock)
    }

    /// Looks whether this is still the lock that others would take.
    ///
    /// # Errors
    /// [`SpoolError::Replaced`] when the state is another one by now.
    pub fn check(&self) -> Result<(), SpoolError> {
        let held = self.file.metadata().map_err(|e| SpoolError::io("look at", &self.path, e))?;
        match fs::symlink_metadata(&self.path) {
            Ok(named) if (held.dev(), held.ino()) == (named.dev(), named.ino()) => Ok(()),
            Ok(_) => Err(SpoolError::Replaced { path: self.path.clone() }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(SpoolError::Replaced { path: self.path.clone() })
            }
            Err(error) => Err(SpoolError::io("look at", &self.path, error)),
        }
    }

    /// Says to everybody who this is, and what it waits for, if it does. The bytes that stand there are written over, so that
    /// it can be said on a full disk, too.
    ///
    /// # Errors
    /// When the sign cannot be written.
    pub fn say(&self, lacks: Option<Lack>) -> io::Result<()> {
        self.write(format!("{}\n{}", std::process::id(), lacks.map_or("", Lack::word)), 0)
    }

    /// Says to everybody how many people are at a limit, and who the first of them is.
    ///
    /// # Errors
    /// When the sign cannot be written.
    pub fn say_limited(&self, people: usize, first: &str) -> io::Result<()> {
        self.write(if people == 0 { String::new() } else { format!("{people} {first}") }, HALF_BYTES as u64)
    }

    fn write(&self, text: String, at: u64) -> io::Result<()> {
        let Some(sign) = &self.sign else { return Ok(()) };
        let mut text = text.into_bytes();
        text.resize(HALF_BYTES - 1, b' ');
        text.push(b'\n');
        sign.write_all_at(&text, at)
    }
}

fn lock_file(path: &Path) -> Result<Flock<File>, SpoolError> {
    let begun = Instant::now();
    let mut file = open(path, 0o600)?;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(SpoolError::io("lock", path, errno)),
        };
        let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let lives = lives(&pid);
        if begun.elapsed() >= if lives { LIVING } else { DEAD } {
            let holder = if lives { "another daemon" } else { "a process that a dead daemon left behind" };
            return Err(SpoolError::Locked { holder, pid, path: path.to_owned() });
        }
        pause();
    }
}

/// Whether a process of this number runs; one that has ended and was not waited for does not.
fn lives(pid: &str) -> bool {
    is_alive(&fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default())
}

/// Whether a process's `stat` is one of a process that has not ended.
pub(crate) fn is_alive(stat: &str) -> bool {
    // The state follows the name, which may hold anything.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Opens a lock file. Whoever can open it can lock it, so its mode decides who can be in the way.
fn open(path: &Path, mode: u32) -> Result<File, SpoolError> {
    let opened = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(mode).open(path);
    let file = opened.map_err(|e| SpoolError::io("open", path, e))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| SpoolError::io("set the mode of", path, e))?;
    Ok(file)
}

/// Locks the file that says that a daemon serves. Commands hold it for an instant while they ask.
fn take_sign(mut file: File) -> Option<Flock<File>> {
    let begun = Instant::now();
    while begun.elapsed() < LIVING {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((file, _)) => file,
        };
        pause();
    }
    None
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when the other process lets go, and it does at once")]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::adapters::spool::reader;

    fn spool() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        (dir, layout)
    }

    /// Another process that holds the lock for `seconds`, which a daemon of number `pid` left.
    fn held(layout: &Layout, pid: u32, seconds: &str) -> Child {
        fs::write(layout.lock(), format!("{pid}\n")).unwrap();
        let child = Command::new("flock").arg(layout.lock()).args(["sleep", seconds]).spawn().unwrap();
        while Flock::lock(File::open(layout.lock()).unwrap(), FlockArg::LockSharedNonblock).is_ok() {
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn the_lock_of_a_dead_daemon_is_waited_for_and_that_of_a_living_one_is_not() {
        let (_dir, layout) = spool();
        // No process has this number: it is more than the kernel gives.
        let mut child = held(&layout, 4_194_305, "1");
        Lock::take(&layout).unwrap();
        child.wait().unwrap();
        let mut child = held(&layout, std::process::id(), "3");
        let refused = Lock::take(&layout).unwrap_err();
        let said = format!("another daemon (pid {}) serves", std::process::id());
        assert!(refused.to_string().starts_with(&said), "{refused}");
        assert!(child.try_wait().unwrap().is_none(), "it was waited for");
        child.wait().unwrap();
        // It has ended, and nobody has asked how.
        let mut zombie = Command::new("true").spawn().unwrap();
        while lives(&zombie.id().to_string()) {
            std::thread::yield_now();
        }
        zombie.wait().unwrap();
    }

    #[test]
    fn a_lock_that_was_replaced_is_noticed() {
        let (dir, layout) = spool();
        let lock = Lock::take(&layout).unwrap();
        lock.check().unwrap();
        let aside = dir.path().join("aside");
        fs::rename(dir.path().join("state"), &aside).unwrap();
        assert!(matches!(lock.check(), Err(SpoolError::Replaced { .. })));
        layout.create(None, true).unwrap();
        let other = Lock::take(&layout).unwrap();
        let error = lock.check().unwrap_err();
        assert!(error.to_string().contains("is not the one that this daemon locked"), "{error}");
        other.check().unwrap();
    }

    #[test]
    fn a_sign_keeps_its_length_whatever_it_says() {
        let (_dir, layout) = spool();
        let lock = Lock::take(&layout).unwrap();
        for lacks in [None].into_iter().chain(Lack::ALL.map(Some)).chain([None]) {
            lock.say(lacks).unwrap();
            for (people, first) in [(0, ""), (1, "eve"), (70_000, "长长长长长长长长长长长长长长长长长长长长长长长长长")]
            {
                lock.say_limited(people, first).unwrap();
                assert_eq!(fs::read(layout.sign()).unwrap().len(), 2 * HALF_BYTES);
                let pid = std::process::id().to_string();
                let serving = reader::daemon(&layout).unwrap().unwrap();
                assert_eq!((serving.pid, serving.lacks), (pid, lacks));
                let (said, who) = serving.limited.unwrap_or_default();
                assert_eq!(said, people);
                assert!(
                    who == first || (who.len() > 30 && first.starts_with(who.trim_end_matches('\u{fffd}'))),
                    "{who}"
                );
            }
        }
    }
}
