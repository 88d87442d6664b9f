//! Whether somebody still writes a dropped file. Floor 3.
//!
//! Two witnesses: what the watcher saw of the file (opened, changed, closed), and which descriptors the system shows
//! in `/proc`. The watcher knows of every writer on this machine that opened the file while it watched; `/proc` knows of
//! those before that too, and shows a daemon that is not root those of its own user alone.
//!
//! **Invariant:** a file that either witness says is held by a writer is not read. What was seen is counted by the
//! monotonic clock.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that nothing says is complete must have been quiet for this long before it is read.
const QUIET_MS: i64 = 2_000;
/// For how long an opened file may be silent of which no writer is to be found: the daemon may not see everybody.
const SILENT: Duration = Duration::from_mins(10);
/// How long a text that ends too early may stay where writers may be out of sight, counted from its last change.
const MAY_GROW_MS: i64 = 600_000;
/// What `/proc/self/ns/pid` says in the machine's own process namespace: below it, others' processes are out of sight.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";
/// Write permission in the mode of a link in `/proc/PID/fd`: the descriptor is open for writing.
const WRITES: u32 = 0o200;

/// What the watcher saw of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was opened or changed and not closed since; the last of it this long ago.
    Opened {
        /// How long ago.
        silent: Duration,
        /// Whether bytes were written; otherwise it may have been opened by a reader.
        changed: bool,
    },
    /// It was closed after writing, but was opened more than once.
    Closed,
    /// It was closed after writing by the only one who was seen to open it. Of two who open it one after the other the system may
    /// tell as of one.
    ClosedByOne,
    /// It was renamed in.
    Complete,
    /// It stood in a directory that was renamed in: it is whole, unless it came a moment later.
    Carried,
}

/// What `/proc` says of a file's writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Somebody has it open for writing.
    Yes,
    /// Nobody has.
    No,
    /// Nobody whom the daemon sees has.
    Unknown,
}

/// When a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not now.
    NotYet,
    /// Now; a text that ends too early stays for a while when `may_grow`.
    Now {
        /// Whether it may still be written.
        may_grow: bool,
    },
}

/// Decides when a file is read. `age_ms` counts from its last change; a change in the future was set by hand, so the
/// time says nothing and the file is not waited for.
#[must_use]
pub fn readiness(seen: Option<Seen>, held: Held, age_ms: i64, is_empty: bool) -> Readiness {
    let is_quiet = !(-QUIET_MS..QUIET_MS).contains(&age_ms);
    let may_grow = held != Held::No && (-QUIET_MS..MAY_GROW_MS).contains(&age_ms);
    match seen {
        Some(Seen::Complete) => Readiness::Now { may_grow: false },
        _ if held == Held::Yes => Readiness::NotYet,
        Some(Seen::ClosedByOne) => Readiness::Now { may_grow: false },
        Some(Seen::Carried) => Readiness::Now { may_grow },
        // What was linked in is opened by readers alone, and has its bytes.
        Some(Seen::Opened { silent, changed }) if (changed || is_empty) && silent < SILENT => Readiness::NotYet,
        Some(Seen::Closed) if held == Held::No => Readiness::Now { may_grow: false },
        _ if is_quiet => Readiness::Now { may_grow },
        _ => Readiness::NotYet,
    }
}

/// The descriptors that are open for writing on this machine, as far as the daemon sees them.
#[derive(Debug)]
pub struct Writers {
    proc: PathBuf,
    /// Whether files may be written from other machines.
    remote: bool,
    found: Option<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// By inode number, the links in `/proc`; those of kernels that do not tell the number are under 0.
    descriptors: BTreeMap<u64, Vec<PathBuf>>,
    sees_everybody: bool,
}

impl Writers {
    /// Looks nowhere yet. `remote` when files may be written from other machines.
    #[must_use]
    pub fn new(remote: bool) -> Writers {
        Writers { proc: PathBuf::from("/proc"), remote, found: None }
    }

    /// Forgets what was found: the next question looks again.
    pub fn forget(&mut self) {
        self.found = None;
    }

    /// Whether somebody has a file open for writing; looks through `/proc` once, until [`Writers::forget`].
    pub fn hold(&mut self, file: &Metadata) -> Held {
        let found = self.found.get_or_insert_with(|| look(&self.proc));
        let is_it =
            |link: &PathBuf| fs::metadata(link).is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
        if [0, file.ino()].iter().filter_map(|ino| found.descriptors.get(ino)).flatten().any(is_it) {
            Held::Yes
        } else if found.sees_everybody && !self.remote {
            Held::No
        } else {
            Held::Unknown
        }
    }
}

/// Finds the descriptors that are open for writing on regular files. Nothing here asks the file systems that those stand
/// on: one of them may not answer.
fn look(proc: &Path) -> Found {
    let namespace = fs::read_link(proc.join("self/ns/pid")).unwrap_or_default();
    // Where others' processes are not even listed, the first one is not either.
    let everybody = fs::read_link(proc.join("1/cwd")).is_ok() && namespace == Path::new(FIRST_NAMESPACE);
    let mut found = Found { sees_everybody: everybody, ..Found::default() };
    let own = std::process::id().to_string();
    let Ok(processes) = fs::read_dir(proc) else { return Found::default() };
    for process in processes.flatten() {
        let name = process.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || name.to_str() == Some(&own) {
            continue;
        }
        match fs::read_dir(process.path().join("fd")) {
            Ok(links) => {
                for link in links.flatten() {
                    let is_seen = note(&process.path(), &link.path(), &mut found.descriptors);
                    found.sees_everybody &= is_seen;
                }
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => found.sees_everybody = false,
            // It has ended.
            Err(_) => {}
        }
    }
    found
}

/// Notes one descriptor, if something can be written to a file through it; false when the system does not show it.
fn note(process: &Path, link: &Path, descriptors: &mut BTreeMap<u64, Vec<PathBuf>>) -> bool {
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) => return error.kind() != ErrorKind::PermissionDenied,
    };
    let writes = fs::symlink_metadata(link).is_ok_and(|meta| meta.permissions().mode() & WRITES != 0);
    // Sockets and pipes have no path, devices are no files that anybody drops.
    if writes && target.is_absolute() && !target.starts_with("/dev") {
        let said = link.file_name().and_then(|n| fs::read_to_string(process.join("fdinfo").join(n)).ok());
        let inode = said.and_then(|said| inode_of(&said));
        descriptors.entry(inode.unwrap_or(0)).or_default().push(link.to_owned());
    }
    true
}

/// Returns the inode number that a descriptor's `fdinfo` tells.
pub(crate) fn inode_of(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Readiness = Readiness::Now { may_grow: false };
    const GROWS: Readiness = Readiness::Now { may_grow: true };
    const WAIT: Readiness = Readiness::NotYet;

    #[test]
    fn a_file_is_read_when_nobody_writes_it_any_more() {
        let opened = |s| Some(Seen::Opened { silent: Duration::from_secs(s), changed: true });
        let day = 86_400_000;
        for (seen, held, age_ms, want) in [
            (Some(Seen::Complete), Held::Unknown, 0, NOW),
            (Some(Seen::ClosedByOne), Held::Unknown, 0, NOW),
            (Some(Seen::ClosedByOne), Held::Yes, day, WAIT),
            // However long its writer pauses.
            (opened(75), Held::Yes, 75_000, WAIT),
            (opened(75), Held::Unknown, 75_000, WAIT),
            (opened(75), Held::No, 75_000, WAIT),
            (opened(599), Held::Unknown, day, WAIT),
            (opened(600), Held::Unknown, day, NOW),
            (opened(600), Held::Yes, day, WAIT),
            (Some(Seen::Closed), Held::Yes, day, WAIT),
            (Some(Seen::Closed), Held::No, 0, NOW),
            (Some(Seen::Closed), Held::Unknown, 1_999, WAIT),
            (Some(Seen::Closed), Held::Unknown, 2_000, GROWS),
            // A daemon that was started in the pause.
            (None, Held::Yes, day, WAIT),
            (None, Held::No, 1_999, WAIT),
            (None, Held::No, 2_000, NOW),
            (None, Held::Unknown, 2_000, GROWS),
            (None, Held::Unknown, 599_999, GROWS),
            (None, Held::Unknown, 600_000, NOW),
        ] {
            assert_eq!(readiness(seen, held, age_ms, false), want, "{seen:?} {held:?} {age_ms}");
        }
    }

    #[test]
    fn a_file_that_was_linked_in_does_not_wait_for_those_who_read_it() {
        let read = Some(Seen::Opened { silent: Duration::ZERO, changed: false });
        assert_eq!(readiness(read, Held::No, 2_000, false), NOW);
        assert_eq!(readiness(read, Held::No, 2_000, true), WAIT, "opened and nothing written yet");
    }

    #[test]
    fn a_time_in_the_future_is_not_waited_for() {
        let ahead = -3_600_000;
        assert_eq!(readiness(None, Held::No, ahead, false), NOW);
        assert_eq!(readiness(None, Held::Unknown, ahead, false), NOW);
        assert_eq!(readiness(None, Held::No, -100, false), WAIT, "clocks of files and of the daemon differ by a tick");
        let opened = Some(Seen::Opened { silent: Duration::ZERO, changed: true });
        assert_eq!(readiness(opened, Held::No, ahead, false), WAIT, "whatever its time, it was not closed");
    }

    #[test]
    fn a_descriptor_of_another_process_that_can_be_written_is_found() {
        use std::process::{Command, Stdio};
        let dir = tempfile::tempdir().unwrap();
        let held = |name: &str| {
            let meta = fs::metadata(dir.path().join(name)).unwrap();
            Writers::new(false).hold(&meta)
        };
        let begin = |redirection: &str| {
            let script = format!("exec 5{redirection}; echo held; read -r wait");
            let mut child = Command::new("sh");
            child.args(["-c", &script]).current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = child.spawn().unwrap();
            let mut said = [0; 5];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
            child
        };
        for (name, redirection, yes) in [("a", ">a", true), ("b", "<>b", true), ("c", "<c", false)] {
            fs::write(dir.path().join("c"), "").unwrap();
            let mut child = begin(redirection);
            assert_eq!(held(name) == Held::Yes, yes, "{redirection}");
            // Whatever it is called now.
            fs::rename(dir.path().join(name), dir.path().join("other")).unwrap();
            assert_eq!(held("other") == Held::Yes, yes, "{redirection}");
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_ne!(held("other"), Held::Yes);
        }
        let meta = fs::metadata(dir.path().join("other")).unwrap();
        assert_eq!(Writers::new(true).hold(&meta), Held::Unknown, "other machines are out of sight");
    }
}
