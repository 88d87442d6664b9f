//! Reads at a start what the spool holds. Floor 3.
//!
//! **Invariant:** nothing that a task was announced by is changed here but a journal's torn end, which is kept aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::FILE_MODE;
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::intake::{HELD, TAKEN, put_back_held};
use crate::adapters::spool::store::{Store, box_of};
use crate::adapters::spool::{SpoolError, audit, bad};
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::run::TaskState;

/// Greater numbers are no task's: JSON numbers stop here for many a reader, and there is room above.
const ID_MAX: u64 = 1 << 53;

/// An unfinished task as it stands on disk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub id: TaskId,
    /// `plan.json`, which is only read when somebody asks: most tasks wait, and plans are large.
    pub plan: PlanFile,
    /// The whole lines of `events.jsonl`.
    pub events: Vec<u8>,
    /// The directories that hold a view of it.
    pub standing: Vec<TaskState>,
}

/// The plan of a task as it stands on disk.
#[derive(Clone, Debug)]
pub struct PlanFile(PathBuf);

impl PlanFile {
    /// Returns its bytes; none when it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, SpoolError> {
        read_or_empty(&self.0)
    }

    /// Returns how many bytes it has; none when nobody can say.
    #[must_use]
    pub fn length(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |meta| meta.len())
    }
}

/// What [`Store::load`] found beside the tasks.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// `history.jsonl`.
    pub history: Vec<u8>,
    /// The first number that no task has.
    pub next_id: u64,
    /// The last line of each unfinished task's journal that the audit has.
    pub audited: BTreeMap<TaskId, u64>,
    /// When a daemon looked at the time last.
    pub seen: Option<Timestamp>,
    /// Tasks whose files cannot be read, and why: they are left alone.
    pub unreadable: Vec<(TaskId, String)>,
}

impl Store {
    /// Reads what a start needs: the history, and every task that is not finished, which `take` is given one after the other,
    /// by their numbers. Those are all that do not stand in `done/` alone, and those in `done/` that the history does not know.
    ///
    /// Removes what a crash left in the staging directory. A torn end of a journal is kept aside as
    /// `events.jsonl.torn` and cut off; a torn line of the history is cut off, since it can be written again. A run
    /// that a power cut left without contents was never announced; it is moved to `bad/`. A view without contents is
    /// removed, to be written again. What of one task cannot be read is no other task's affair.
    ///
    /// # Errors
    /// When a file operation fails that concerns all tasks. What fails in `take` concerns one, unless something is lacking.
    pub fn load(&mut self, mut take: impl FnMut(Found) -> Result<(), SpoolError>) -> Result<Loaded, SpoolError> {
        // What a killed daemon wrote may be in memory alone; what follows acts on it.
        let spool = self.layout.spool();
        let dir = fs::File::open(&spool).map_err(|e| SpoolError::io("open", &spool, e))?;
        nix::unistd::syncfs(&dir).map_err(|e| SpoolError::io("sync the file system of", &spool, e))?;
        self.clear_staging()?;
        let history = self.read_history()?;
        let recorded = recorded(&history);
        let ids = numbers(&self.layout.runs(), "")?;
        let mut standing: BTreeMap<TaskId, Vec<TaskState>> = BTreeMap::new();
        for state in [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Done] {
            for id in numbers(&self.layout.state(state), ".json")? {
                if ids.contains(&id) && self.adopt(id, state) {
                    standing.entry(id).or_default().push(state);
                }
            }
        }
        let next_id = ids.last().map_or(1, |id| id.0.saturating_add(1));
        let (mut unfinished, mut unreadable) = (Vec::new(), Vec::new());
        for id in ids {
            let standing = standing.remove(&id).unwrap_or_default();
            if standing == [TaskState::Done] && recorded.contains(&id) {
                continue;
            }
            let taken = self.find(id, standing).and_then(|found| {
                unfinished.extend(found.as_ref().map(|found| found.id));
                found.map_or(Ok(()), &mut take)
            });
            match taken {
                Ok(()) => {}
                Err(error) if error.lack().is_some() => return Err(error),
                Err(error) => unreadable.push((id, error.to_string())),
            }
        }
        let audited = audit::audited(&self.layout, &unfinished)?;
        Ok(Loaded { history, next_id, audited, seen: self.seen(), unreadable })
    }

    /// Reads a task that has not ended; `None` when it was never announced.
    fn find(&self, id: TaskId, standing: Vec<TaskState>) -> Result<Option<Found>, SpoolError> {
        let run = self.layout.run(id);
        if !fs::metadata(&run).map_err(|e| SpoolError::io("look at", &run, e))?.is_dir() {
            return Err(SpoolError::io("read", &run, io::Error::other("it is no task's directory; move it away")));
        }
        let plan = PlanFile(self.layout.plan(id));
        let events = self.read_journal(id)?;
        if standing.is_empty() && (is_hollow(&plan.read()?) || events.is_empty()) {
            bad::set_aside(&self.layout, &run, &format!("run-{id}"))?;
            return Ok(None);
        }
        Ok(Some(Found { id, plan, events, standing }))
    }

    /// Returns when a daemon looked at the time last, or about when: what a power cut emptied still has its time of change.
    fn seen(&self) -> Option<Timestamp> {
        let path = self.layout.seen();
        let text = fs::read_to_string(&path).ok()?;
        serde_json::from_value(text.into()).ok().or_else(|| {
            let changed = fs::metadata(&path).ok()?;
            Some(Timestamp(changed.mtime().saturating_mul(1000).saturating_add(changed.mtime_nsec() / 1_000_000)))
        })
    }

    /// Reads a task that waits or has ended; `None` when its journal is not there.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn fetch(&self, id: TaskId) -> Result<Option<Found>, SpoolError> {
        let events = self.read_journal(id)?;
        let found = Found { id, plan: PlanFile(self.layout.plan(id)), events, standing: Vec::new() };
        Ok((!found.events.is_empty()).then_some(found))
    }

    /// Tells a view of ours from a file that somebody dropped under a number: ours says the number and the digest. One of
    /// ours that a power cut left without its contents is removed.
    fn adopt(&mut self, id: TaskId, state: TaskState) -> bool {
        // A record that is not whole has no line in the history, and is written again where it stands.
        if state == TaskState::Done {
            return true;
        }
        let path = self.layout.task_file(state, id);
        // Anybody may put something there that cannot be looked at, or take it away.
        let Ok(meta) = fs::symlink_metadata(&path) else { return false };
        if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.nlink() != 1 {
            return box_of(state).is_none();
        }
        let Ok(bytes) = fs::read(&path) else { return box_of(state).is_none() };
        if is_torn_view(&bytes, id) && fs::remove_file(&path).is_ok() {
            tracing::info!(task = %id, state = state.word(), "its view had lost its contents and is written again");
            return false;
        }
        if box_of(state).is_none() {
            return true;
        }
        let ours = serde_json::from_slice::<OurView>(&bytes).is_ok_and(|view| view.id == id.0);
        if ours {
            self.own(state, id, &meta);
        }
        ours
    }

    /// Reads a journal's whole lines; what follows the last one is kept aside. A power cut may leave zeros where bytes
    /// were not written yet; they were never durable. Whole lines after zeros are damage of another kind: the journal is
    /// left as it is, and cannot be believed.
    fn read_journal(&self, id: TaskId) -> Result<Vec<u8>, SpoolError> {
        let path = self.layout.events(id);
        let mut bytes = read_or_empty(&path)?;
        let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let whole = bytes[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
        let is_line = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
        if bytes[written..].split(|byte| *byte == b'\n').any(is_line) {
            return Ok(bytes);
        }
        if whole < bytes.len() {
            let aside = path.with_extension("jsonl.torn");
            let mut commit = Commit::default();
            let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&aside);
            let kept = opened.and_then(|mut file| file.write_all(&bytes[whole..]).map(|()| file));
            commit.file(&aside, kept.map_err(|e| SpoolError::io("append to", &aside, e))?);
            commit.dir(self.layout.run(id));
            commit.run()?;
            cut(&path, whole)?;
            bytes.truncate(whole);
        }
        Ok(bytes)
    }

    fn read_history(&self) -> Result<Vec<u8>, SpoolError> {
        let path = self.layout.history();
        let mut bytes = read_or_empty(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
        if whole < bytes.len() {
            cut(&path, whole)?;
            bytes.truncate(whole);
        }
        Ok(bytes)
    }

    fn clear_staging(&self) -> Result<(), SpoolError> {
        let staging = self.layout.staging();
        let entries = fs::read_dir(&staging).map_err(|e| SpoolError::io("list", &staging, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| SpoolError::io("list", &staging, e))?;
            let (path, kind) = (entry.path(), entry.file_type());
            // Taken away, and not yet known to be the file that was read.
            if entry.file_name().to_string_lossy().starts_with(HELD) {
                if !put_back_held(&self.layout, &path)? {
                    bad::set_aside(&self.layout, &path, "held")?;
                }
                continue;
            }
            // However many those are, a sweep sees to them by and by; who wrote one since it was read hears of it then.
            if entry.file_name().to_string_lossy().starts_with(TAKEN) {
                continue;
            }
            let removed = match kind {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            // Nothing is read from here, and what is in the way is removed again when its name is wanted.
            if let Err(error) = removed {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
        Ok(())
    }
}

/// What tells a view of ours from what somebody dropped.
#[derive(serde::Deserialize)]
struct OurView {
    id: u64,
    #[serde(rename = "digest")]
    _digest: String,
    #[serde(rename = "admission")]
    _admission: BTreeMap<String, serde_json::Value>,
}

/// Whether a plan is what a power cut leaves of a file that was never synced: nothing, zeros or a part.
fn is_hollow(plan: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(plan).is_err()
}

/// Whether this is what a power cut left of a task's view: nothing, zeros, or its beginning.
fn is_torn_view(bytes: &[u8], id: TaskId) -> bool {
    let written = &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())];
    let first = format!("{{\n  \"id\": {id},\n");
    let begins = written.starts_with(first.as_bytes()) || first.as_bytes().starts_with(written);
    begins && serde_json::from_slice::<serde::de::IgnoredAny>(written).is_err()
}

/// Returns the tasks that the history knows to have ended; a line that cannot be read knows none.
fn recorded(history: &[u8]) -> BTreeSet<TaskId> {
    #[derive(serde::Deserialize)]
    struct Line {
        id: TaskId,
        #[serde(default)]
        reopened: bool,
    }
    let mut ended = BTreeSet::new();
    for line in history.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok()) {
        // The last word on a task counts: it ended, or it runs again.
        if line.reopened {
            ended.remove(&line.id)
        } else {
            ended.insert(line.id)
        };
    }
    ended
}

fn cut(path: &Path, length: usize) -> Result<(), SpoolError> {
    let file = OpenOptions::new().write(true).open(path).map_err(|e| SpoolError::io("open", path, e))?;
    file.set_len(length as u64).and_then(|()| file.sync_all()).map_err(|e| SpoolError::io("cut", path, e))
}

fn read_or_empty(path: &Path) -> Result<Vec<u8>, SpoolError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|e| SpoolError::io("read", path, e)),
    }
}

/// Returns the numbers that name entries of a directory, with `ending` after them.
fn numbers(dir: &Path, ending: &str) -> Result<BTreeSet<TaskId>, SpoolError> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(|e| SpoolError::io("list", dir, e))? {
        let name = entry.map_err(|e| SpoolError::io("list", dir, e))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(ending)).unwrap_or_default();
        // `007` and `+7` are names that somebody gave; ours are written in one way only.
        let id = digits.parse().ok().filter(|id: &u64| (1..=ID_MAX).contains(id) && id.to_string() == digits);
        ids.extend(id.map(TaskId));
    }
    Ok(ids)
}
