//! Where everything stands, and how the directories are made. Floor 3.
//!
//! **Invariant:** paths are made of ids and fixed words only; no text from a task file becomes a path component.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};

use crate::adapters::spool::SpoolError;
use crate::base::ids::{HostName, StepName, TaskId};
use crate::domain::run::TaskState;
use crate::engine::DropBox;

/// The magic number of CIFS (linux/magic.h), which nix does not name.
const CIFS_MAGIC: i64 = 0xff53_4d42;

/// The description of a state: the table in it says which directories there are, and their modes.
const SKELETON: &str = include_str!("../../../spool/README.md");

/// A directory of a state.
struct Place {
    /// Its path below the state.
    path: &'static str,
    /// Its mode where no group shares the state.
    alone: u32,
    /// Its mode where one does.
    with_group: u32,
}

/// Reads the directories of a state out of its description, each before those below it.
fn places() -> impl Iterator<Item = Place> {
    let rows = SKELETON.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let mut cell = || cells.next().expect("a row has a path and two modes").trim_end_matches('`');
        let (path, alone, with_group) = (cell(), cell(), cell());
        let mode = |cell| u32::from_str_radix(cell, 8).expect("a mode is octal");
        Place { path, alone: mode(alone), with_group: mode(with_group) }
    })
}

/// The paths below one state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Names the state directory; nothing is made.
    #[must_use]
    pub fn new(root: PathBuf) -> Layout {
        Layout { root }
    }

    /// Returns the spool directory.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Returns a drop box.
    #[must_use]
    pub fn drop_box(&self, drop_box: DropBox) -> PathBuf {
        self.spool().join(drop_box.name())
    }

    /// Returns `audit/`.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Returns the file that says when a daemon looked at the time last.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        self.root.join(".seen")
    }

    /// Returns the file that remembers that this state is under a policy.
    #[must_use]
    pub fn ruled(&self) -> PathBuf {
        self.root.join(".policy")
    }

    /// Returns the file that remembers by which rules the files of tasks are open or closed.
    #[must_use]
    pub fn gated(&self) -> PathBuf {
        self.root.join(".see")
    }

    /// Returns the file that holds where the audit ended last.
    #[must_use]
    pub fn audit_head(&self) -> PathBuf {
        self.audit().join("head")
    }

    /// Returns the path of a task's later plan, `runs/ID/plan@N.json`.
    #[must_use]
    pub fn later_plan(&self, id: TaskId, version: u32) -> PathBuf {
        self.run(id).join(format!("plan@{version}.json"))
    }

    /// Returns the directory of a state.
    #[must_use]
    pub fn state(&self, state: TaskState) -> PathBuf {
        self.spool().join(state.word())
    }

    /// Returns the file of a task in a state.
    #[must_use]
    pub fn task_file(&self, state: TaskState, id: TaskId) -> PathBuf {
        self.state(state).join(format!("{id}.json"))
    }

    /// Returns where refused files stand.
    #[must_use]
    pub fn bad(&self) -> PathBuf {
        self.spool().join("bad")
    }

    /// Returns where files are written before they are renamed into place.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.spool().join(".tmp")
    }

    /// Returns the file that commands look at to see whether a daemon serves.
    #[must_use]
    pub fn sign(&self) -> PathBuf {
        self.spool().join(".serving")
    }

    /// Returns the daemon's lock file, which nobody else can open.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.spool().join(".lock")
    }

    /// Returns the list of dropped files that were taken and that the daemon may not move.
    #[must_use]
    pub fn taken(&self) -> PathBuf {
        self.spool().join("taken")
    }

    /// Returns the directory of all runs.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Returns the directory of one run.
    #[must_use]
    pub fn run(&self, id: TaskId) -> PathBuf {
        self.runs().join(id.to_string())
    }

    /// Returns a run's plan.
    #[must_use]
    pub fn plan(&self, id: TaskId) -> PathBuf {
        self.run(id).join("plan.json")
    }

    /// Returns a run's journal.
    #[must_use]
    pub fn events(&self, id: TaskId) -> PathBuf {
        self.run(id).join("events.jsonl")
    }

    /// Returns the directory of a host's logs in a run.
    #[must_use]
    pub fn output(&self, id: TaskId, host: &HostName) -> PathBuf {
        self.run(id).join("output").join(host.as_str())
    }

    /// Returns the log of an attempt at a step on a host.
    #[must_use]
    pub fn log(&self, id: TaskId, host: &HostName, step: &StepName, attempt: u32) -> PathBuf {
        self.output(id, host).join(log_name(step, attempt))
    }

    /// Returns the key that tokens of running scripts are signed with.
    #[must_use]
    pub fn callback_key(&self) -> PathBuf {
        self.root.join("callback.key")
    }

    /// Returns the directory of the processes that speak SSH: a directory each, with the socket of its agent.
    #[must_use]
    pub fn ssh(&self) -> PathBuf {
        self.root.join("ssh")
    }

    /// Returns the file that holds how far an observer has come.
    #[must_use]
    pub fn observer(&self, name: &str) -> PathBuf {
        self.root.join("notify").join(name)
    }

    /// Returns the index of finished tasks.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    /// Makes every directory of `spool/README.md` with its group and mode, and checks that they can hold a spool.
    ///
    /// Drop boxes are mode 3730: members of `group` can put files in, and can neither list nor take away what others
    /// put in. With `group` the rest can be read by its members, without it by the owner only.
    ///
    /// # Errors
    /// When a directory cannot be made, others could write to it, or it stands on a file system where renames and
    /// owners cannot be relied on (unless `network_spool`).
    pub fn create(&self, group: Option<u32>, network_spool: bool) -> Result<(), SpoolError> {
        self.check_place()?;
        for place in places() {
            let dir = if place.path == "." { self.root.clone() } else { self.root.join(place.path) };
            // What is written there is renamed into the others and keeps its group; rules about who sees what close it.
            if dir == self.staging() && group.is_some_and(|group| is_closed(&dir, group)) {
                continue;
            }
            make(&dir, if group.is_some() { place.with_group } else { place.alone }, group)?;
        }
        self.check(network_spool)
    }

    /// Checks that the state directory is ours alone, before anything in it is changed: that nobody else can replace it,
    /// and that it holds nothing but a state.
    fn check_place(&self) -> Result<(), SpoolError> {
        let unsuitable =
            |path: &Path, why: &str| Err(SpoolError::Unsuitable { path: path.to_owned(), why: why.to_owned() });
        let me = nix::unistd::geteuid().as_raw();
        let root = std::path::absolute(&self.root).map_err(|e| SpoolError::io("find", &self.root, e))?;
        for dir in root.ancestors().skip(1) {
            let meta = match fs::metadata(dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| SpoolError::io("look at", dir, e))?,
            };
            if meta.mode() & 0o1002 == 0o0002 {
                return unsuitable(dir, "everybody may rename what is in it; try: chmod o-w, or another --state");
            }
        }
        let meta = match fs::symlink_metadata(&root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| SpoolError::io("look at", &root, e))?,
        };
        if !meta.is_dir() {
            return unsuitable(&root, "it is not a directory; name the directory itself as --state");
        }
        if meta.uid() != me {
            let why = format!("it belongs to uid {}, the daemon runs as {me}; use another --state", meta.uid());
            return unsuitable(&root, &why);
        }
        let mut entries = fs::read_dir(&root).map_err(|e| SpoolError::io("list", &root, e))?;
        if entries.next().is_some() && !root.join("spool").is_dir() {
            return unsuitable(&root, "it holds other files and no spool; name an empty or a new directory as --state");
        }
        Ok(())
    }

    /// Whether files may be written from other machines, or by programs that the system does not know of.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn is_remote(&self) -> Result<bool, SpoolError> {
        let kind = statfs(&self.root).map_err(|e| SpoolError::io("look at the file system of", &self.root, e))?;
        let magic = kind.filesystem_type();
        Ok([NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&magic) || magic.0 == CIFS_MAGIC)
    }

    fn check(&self, network_spool: bool) -> Result<(), SpoolError> {
        let device =
            |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(|e| SpoolError::io("look at", path, e));
        let here = device(&self.root)?;
        for dir in [self.spool(), self.runs(), self.bad(), self.state(TaskState::Running), self.state(TaskState::Done)]
        {
            if device(&dir)? != here {
                let why = "it is another file system than the state directory; a rename cannot cross them".to_owned();
                return Err(SpoolError::Unsuitable { path: dir, why });
            }
        }
        if self.is_remote()? && !network_spool {
            let why = "a network or FUSE file system keeps neither owners nor renames reliably; \
                       use a local disk, or set network_spool = true and accept that"
                .to_owned();
            return Err(SpoolError::Unsuitable { path: self.root.clone(), why });
        }
        Ok(())
    }
}

/// Returns the name of an attempt's log: `STEP.log`, then `STEP@2.log`. No step's name holds an `@`.
#[must_use]
pub fn log_name(step: &StepName, attempt: u32) -> String {
    if attempt <= 1 { format!("{step}.log") } else { format!("{step}@{attempt}.log") }
}

/// Whether a directory of ours is closed, and what is made in it has the right group all the same.
fn is_closed(path: &Path, group: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        let hands_on = meta.mode() & 0o7777 == 0o2700 && meta.gid() == group;
        let has_it = meta.mode() & 0o7777 == 0o700 && nix::unistd::getegid().as_raw() == group;
        meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && (hands_on || has_it)
    })
}

/// Makes one directory with its group and mode, or gives them to one that is ours.
fn make(path: &Path, mode: u32, group: Option<u32>) -> Result<(), SpoolError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| SpoolError::io("make", path, e))?;
    let meta = fs::symlink_metadata(path).map_err(|e| SpoolError::io("look at", path, e))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        let why = "it is a link or belongs to somebody else; move it away".to_owned();
        return Err(SpoolError::Unsuitable { path: path.to_owned(), why });
    }
    if group.is_none() && meta.mode() & 0o2000 != 0 && meta.gid() != nix::unistd::getegid().as_raw() {
        let why = format!(
            "it is prepared for the group {} and spoolgate.toml names none; write group = \"…\" there, or take the group \
             away: chmod g-s",
            meta.gid()
        );
        return Err(SpoolError::Unsuitable { path: path.to_owned(), why });
    }
    // What is right already is left alone: a service that is locked up may not change it.
    if group.is_some_and(|group| meta.gid() != group) {
        chown(path, None, group).map_err(|e| SpoolError::io("change the group of", path, e))?;
    } else if meta.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| SpoolError::io("set the mode of", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(root: &Path, why: &str) {
        let before = fs::metadata(root).map(|meta| meta.mode()).ok();
        let error = Layout::new(root.to_owned()).create(None, true).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(fs::metadata(root).map(|meta| meta.mode()).ok(), before, "it was left as it was");
    }

    #[test]
    fn the_skeleton_has_the_boxes_that_its_table_names() {
        let skeleton = Path::new(env!("CARGO_MANIFEST_DIR")).join("spool");
        let boxes =
            places().filter_map(|place| place.path.strip_prefix("spool/")).filter(|name| !name.starts_with('.'));
        let named: Vec<String> = boxes.map(str::to_owned).collect();
        let dirs = fs::read_dir(skeleton).unwrap().map(|entry| entry.unwrap());
        let there = dirs.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.file_name());
        let mut there: Vec<String> = there.map(|name| name.into_string().unwrap()).collect();
        let layout = Layout::new(PathBuf::new());
        let mut known: Vec<PathBuf> = [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Done]
            .map(|state| layout.state(state))
            .to_vec();
        known.extend([layout.bad(), layout.drop_box(DropBox::Orders)]);
        let mut known: Vec<String> =
            known.iter().map(|dir| dir.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        let mut sorted = named.clone();
        sorted.sort();
        there.sort();
        known.sort();
        assert_eq!((&sorted, &sorted), (&there, &known));
    }

    #[test]
    fn a_state_is_made_only_where_it_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let good = Layout::new(at("a/b/state"));
        good.create(None, true).unwrap();
        good.create(None, true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&at("a/b/state")), mode(&good.drop_box(DropBox::New))), (0o700, 0o3730));

        fs::create_dir(at("full")).unwrap();
        fs::write(at("full/letter"), "dear").unwrap();
        refused(&at("full"), "holds other files");
        fs::write(at("file"), "").unwrap();
        refused(&at("file"), "not a directory");
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        refused(&at("link"), "not a directory");
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
        refused(&at("open/state"), "everybody may rename");
        fs::remove_dir(good.bad()).unwrap();
        std::os::unix::fs::symlink(at("full"), good.bad()).unwrap();
        refused(&at("a/b/state"), "it is a link");
        if nix::unistd::geteuid().is_root() {
            fs::create_dir(at("theirs")).unwrap();
            chown(at("theirs"), Some(65_534), None).unwrap();
            refused(&at("theirs"), "belongs to uid 65534");
        }
    }
}
