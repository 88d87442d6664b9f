//! Who gets at the files of a task: the modes of its directory, of what it printed, and of its record. Floor 3.
//!
//! **Invariant:** a gate is closed before it changes hands, and only then opened. What stands behind a gate keeps the group of
//! the whole state, so a gate can change hands without touching it. A record is as open as the directory of its task.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

use nix::errno::Errno;

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::layout::Layout;
use crate::base::ids::{HostName, TaskId};
use crate::domain::run::TaskState;

/// What a directory and a file are for their owner alone.
const CLOSED: (u32, u32) = (0o700, 0o600);
/// The same with a group that reads them.
const OPEN: (u32, u32) = (0o750, 0o640);
/// A directory hands its group on to what is made in it.
const HANDS_ON: u32 = 0o2000;

/// Who gets through a gate, beside the daemon's own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The members of this group, by its number.
    Group(u32),
    /// Nobody.
    Closed,
}

/// The gates of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Before its directory and its record.
    pub task: Gate,
    /// Before what it printed; it stands in the directory.
    pub output: Gate,
}

/// Returns the number of the group that the whole state belongs to.
///
/// # Errors
/// When the runs cannot be looked at.
pub fn group_of_all(layout: &Layout) -> Result<u32, SpoolError> {
    let dir = layout.runs();
    fs::metadata(&dir).map(|meta| meta.gid()).map_err(|e| SpoolError::io("look at", &dir, e))
}

/// Sets the gates of a task; `false` where the system does not let this process give them to a group, so that they stay
/// closed. A task that is not there, or not whole, is passed over.
///
/// # Errors
/// When a file operation fails.
pub fn set(layout: &Layout, id: TaskId, gates: Gates) -> Result<bool, SpoolError> {
    let all = group_of_all(layout)?;
    let dir = layout.run(id);
    let given = set_dir(&dir, gates, all)?;
    like_its_task(layout, id)?;
    Ok(given)
}

/// Sets the gates of the directory of a task wherever it stands.
pub(super) fn set_dir(dir: &Path, gates: Gates, all: u32) -> Result<bool, SpoolError> {
    let output = dir.join("output");
    if dir.is_dir() && gates.output != Gate::Group(all) {
        // It must stand before anything is printed into it.
        match DirBuilder::new().mode(CLOSED.0).create(&output) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(SpoolError::io("make", &output, error));
            }
            _ => {}
        }
    }
    // The inner one first: nobody gets through both before each is what it is to be.
    let inner = gate(&output, gates.output, all)?;
    Ok(gate(dir, gates.task, all)? && inner)
}

/// Makes a task's record as open as its directory.
///
/// # Errors
/// When a file operation fails.
pub(super) fn like_its_task(layout: &Layout, id: TaskId) -> Result<(), SpoolError> {
    let all = group_of_all(layout)?;
    gate(&layout.task_file(TaskState::Done, id), of(&layout.run(id))?, all).map(drop)
}

/// Makes a file as open as the directory of a task.
pub(super) fn like(path: &Path, layout: &Layout, id: TaskId) -> Result<(), SpoolError> {
    gate(path, of(&layout.run(id))?, group_of_all(layout)?).map(drop)
}

/// Makes the directory of a host's logs, so that it belongs to the group of the whole state: the gates are before it.
///
/// # Errors
/// When a file operation fails.
pub fn make_host(layout: &Layout, id: TaskId, host: &HostName) -> Result<(), SpoolError> {
    let dir = layout.output(id, host);
    match DirBuilder::new().mode(CLOSED.0).create(&dir) {
        // It is there, or what it stands in is not, and belongs to the right group when it is made.
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => return Ok(()),
        made => made.map_err(|e| SpoolError::io("make", &dir, e))?,
    }
    let all = group_of_all(layout)?;
    gate(&dir, Gate::Group(all), all).map(drop)
}

/// Closes the place where files are written before they are renamed, and where those stand for a while that were taken out of
/// boxes. Nobody else has anything to look for there, so it stays closed.
///
/// # Errors
/// When a file operation fails.
pub fn close_staging(layout: &Layout) -> Result<(), SpoolError> {
    gate(&layout.staging(), Gate::Closed, group_of_all(layout)?).map(drop)
}

/// Returns what was remembered of the rules that the gates follow; nothing where they never followed any.
#[must_use]
pub fn remembered(layout: &Layout) -> Option<String> {
    fs::read_to_string(layout.gated()).ok()
}

/// Remembers the rules that all gates follow by now, or that they follow none.
///
/// # Errors
/// When a file operation fails.
pub fn remember(layout: &Layout, rules: Option<&str>) -> Result<(), SpoolError> {
    let path = layout.gated();
    let Some(rules) = rules else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::io("remove", &path, error)),
            _ => Ok(()),
        };
    };
    let staged = layout.staging().join("see");
    write(&staged, rules.as_bytes()).map_err(|e| SpoolError::io("write", &staged, e))?;
    fs::rename(&staged, &path).map_err(|e| SpoolError::io("rename into place", &path, e))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(OPEN.1).open(path)?.write_all(bytes)
}

/// Returns who gets through the gate that a directory is.
fn of(dir: &Path) -> Result<Gate, SpoolError> {
    let meta = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Gate::Closed),
        meta => meta.map_err(|e| SpoolError::io("look at", dir, e))?,
    };
    Ok(if meta.mode() & 0o050 == 0o050 { Gate::Group(meta.gid()) } else { Gate::Closed })
}

/// Sets one gate; `false` where it stays closed because the system does not let this process give it to the group.
fn gate(path: &Path, wanted: Gate, all: u32) -> Result<bool, SpoolError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        meta => meta.map_err(|e| SpoolError::io("look at", path, e))?,
    };
    let choose = |(dir, file): (u32, u32)| if meta.is_dir() { dir } else { file };
    let handing = if meta.is_dir() { meta.mode() & HANDS_ON } else { 0 };
    let set = |mode: u32| {
        let set = |mode| fs::set_permissions(path, Permissions::from_mode(mode));
        match set(mode | handing) {
            // A service that is locked up may set no such bit, not even one that is set; what it makes has the group anyway.
            Err(error) if handing != 0 && error.kind() == io::ErrorKind::PermissionDenied => set(mode),
            done => done,
        }
    };
    let closed = |error| SpoolError::io("set the mode of", path, error);
    let Gate::Group(group) = wanted else {
        return if meta.mode() & 0o777 == choose(CLOSED) {
            Ok(true)
        } else {
            set(choose(CLOSED)).map_err(closed).map(|()| true)
        };
    };
    if meta.gid() != group {
        set(choose(CLOSED)).map_err(closed)?;
        match chown(path, None, Some(group)) {
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => return Ok(false),
            given => given.map_err(|e| SpoolError::io("change the group of", path, e))?,
        }
        if meta.is_dir() {
            keep_group_of_all(path, all)?;
        }
    } else if meta.mode() & 0o777 == choose(OPEN) {
        return Ok(true);
    }
    set(choose(OPEN)).map_err(closed).map(|()| true)
}

/// Gives the files right behind a gate that changed hands the group of the whole state: what was made there meanwhile has
/// the gate's.
fn keep_group_of_all(dir: &Path, all: u32) -> Result<(), SpoolError> {
    let failed = |e| SpoolError::io("list", dir, e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if !meta.is_file() || meta.gid() == all {
            continue;
        }
        match chown(&path, None, Some(all)) {
            // They are notes, which fewer people can read then.
            Err(error) if error.raw_os_error() != Some(Errno::EPERM as i32) => {
                return Err(SpoolError::io("change the group of", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> (u32, u32) {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.mode() & 0o777, meta.gid())
    }

    #[test]
    fn gates_change_hands_and_what_is_behind_them_keeps_its_group() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(Some(100), true).unwrap();
        let (id, host) = (TaskId(7), "web1".parse().unwrap());
        let (run, output) = (layout.run(id), layout.run(id).join("output"));
        assert!(set(&layout, id, Gates { task: Gate::Closed, output: Gate::Closed }).unwrap(), "nothing is there");
        DirBuilder::new().mode(0o750).create(&run).unwrap();
        write(&layout.plan(id), b"{}").unwrap();
        let record = layout.task_file(TaskState::Done, id);
        write(&record, b"{}").unwrap();
        for (gates, task, printed, kept) in [
            (Gates { task: Gate::Closed, output: Gate::Closed }, (0o700, 100), (0o700, 100), (0o600, 100)),
            (Gates { task: Gate::Group(60), output: Gate::Group(61) }, (0o750, 60), (0o750, 61), (0o640, 60)),
            (Gates { task: Gate::Group(60), output: Gate::Closed }, (0o750, 60), (0o700, 61), (0o640, 60)),
            (Gates { task: Gate::Group(62), output: Gate::Group(100) }, (0o750, 62), (0o750, 100), (0o640, 62)),
            (Gates { task: Gate::Group(100), output: Gate::Group(100) }, (0o750, 100), (0o750, 100), (0o640, 100)),
        ] {
            assert!(set(&layout, id, gates).unwrap());
            assert_eq!((mode(&run), mode(&output), mode(&record)), (task, printed, kept), "{gates:?}");
            make_host(&layout, id, &host).unwrap();
            let log = layout.output(id, &host).join("step.log");
            write(&log, b"").unwrap();
            write(&run.join("note"), b"").unwrap();
            assert_eq!((mode(&layout.output(id, &host)), mode(&log)), ((0o750, 100), (0o640, 100)), "{gates:?}");
            assert_eq!(mode(&layout.plan(id)), (0o640, 100));
        }
        assert_eq!(mode(&run.join("note")).1, 100);
        remember(&layout, Some("rules")).unwrap();
        assert_eq!(remembered(&layout).as_deref(), Some("rules"));
        remember(&layout, None).unwrap();
        remember(&layout, None).unwrap();
        assert_eq!(remembered(&layout), None);
    }
}
