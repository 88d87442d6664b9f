//! The one writer of states and journals. Floor 3.
//!
//! **Invariant:** what [`Store::write`] wrote survives a power cut when it returns, everything else when
//! [`Store::settle`] returns. When a call fails the daemon must stop: what reached the disk is then found by
//! [`Store::load`] at the next start. Nothing is retried.
//!
//! Journals are the truth. The file in a state's directory is a view that can be written again from its journal, so it
//! is renamed, never trusted, and the daemon may act before the renames are durable.

use super::FILE_MODE;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::sys::resource::{Resource, getrlimit};

use crate::adapters::spool::audit::{self, AuditLog};
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::folder::{Folder, is_of_the_disk};
use crate::adapters::spool::gates::{self, Gates};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::lock::Lock;
use crate::adapters::spool::prefix::Prefixes;
use crate::adapters::spool::{Lack, SpoolError, fault_point};
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::{Entry, Head};
use crate::domain::drop_name::stem;
use crate::domain::run::TaskState;
use crate::engine::DropBox;

/// How many journals stay open between appends, where that is an eighth of the files that may be open.
const OPEN_JOURNALS_MAX: u64 = 256;
/// How many names are tried for what stands in the way.
const ASIDE_MAX: u32 = 100;
/// With this one those that not every member of the group may read.
const CLOSED_MODE: u32 = 0o600;

/// The files of a task that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewFiles {
    /// Its number.
    pub id: TaskId,
    /// `plan.json`.
    pub plan: Vec<u8>,
    /// The first lines of `events.jsonl`.
    pub events: Vec<u8>,
    /// Which directory its view stands in.
    pub state: TaskState,
    /// The view.
    pub view: Vec<u8>,
    /// Who gets at the others; whoever may look at the state, where rules say nothing of it.
    pub gates: Option<Gates>,
}

/// Tells one file from all others, also from a later one with the same inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Stamp {
        Stamp { ino: meta.ino(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// The open store. Holding it is holding the lock.
#[derive(Debug)]
pub struct Store {
    pub(super) layout: Layout,
    lock: Arc<Lock>,
    journals: BTreeMap<TaskId, File>,
    journals_max: usize,
    /// The same journals as far as the audit knows them.
    prefixes: Prefixes,
    /// The views in the two states that are drop boxes too, so that they are not taken for drops.
    own: BTreeMap<(DropBox, TaskId), Stamp>,
    /// What [`Store::settle`] brings to the disk.
    pub(super) unsettled: Commit,
    /// Lines of the history whose records are not on the disk yet.
    history: Vec<u8>,
    /// Tasks whose views were not where they belong.
    lost_views: Vec<TaskId>,
    /// Whether refused files are for those alone who dropped them.
    pub(super) closes_refused: bool,
    audit: AuditLog,
}

impl Store {
    /// Takes the lock and opens the store.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] when another daemon holds it.
    pub fn open(layout: Layout) -> Result<Store, SpoolError> {
        let lock = Arc::new(Lock::take(&layout)?);
        Store::with(layout, lock)
    }

    /// Opens the store for who has the lock.
    ///
    /// # Errors
    /// When the audit cannot be gone on with.
    pub fn with(layout: Layout, lock: Arc<Lock>) -> Result<Store, SpoolError> {
        let audit = AuditLog::open(&layout)?;
        let files_max = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_JOURNALS_MAX, |(soft, _)| soft / 8);
        Ok(Store {
            layout,
            lock,
            journals_max: usize::try_from(files_max.min(OPEN_JOURNALS_MAX)).unwrap_or_default(),
            journals: BTreeMap::new(),
            prefixes: Prefixes::default(),
            own: BTreeMap::new(),
            unsettled: Commit::default(),
            history: Vec::new(),
            lost_views: Vec::new(),
            closes_refused: false,
            audit,
        })
    }

    /// Sets whether refused files are for those alone who dropped them, beside the daemon's user.
    pub fn set_closes_refused(&mut self, closes: bool) {
        self.closes_refused = closes;
    }

    /// Whether the file of this name in a drop box is one that the store put there itself.
    #[must_use]
    pub fn is_own(&self, drop_box: DropBox, name: &str) -> bool {
        let id = name.strip_suffix(".json").and_then(|digits| digits.parse().ok()).map(TaskId);
        id.is_some_and(|id| self.is_own_view(drop_box, id))
    }

    fn is_own_view(&self, drop_box: DropBox, id: TaskId) -> bool {
        let Some(stamp) = self.own.get(&(drop_box, id)) else { return false };
        let folder = Folder::open(&self.layout, drop_box, None);
        folder.and_then(|folder| folder.look(&format!("{id}.json"))).is_ok_and(|meta| Stamp::of(&meta) == *stamp)
    }

    /// Takes a file for a view of ours.
    pub(super) fn own(&mut self, state: TaskState, id: TaskId, meta: &fs::Metadata) {
        if let Some(drop_box) = box_of(state) {
            self.own.insert((drop_box, id), Stamp::of(meta));
        }
    }

    /// Makes tasks, appends whole lines to journals and entries to the audit, all durable when it returns. The views of the tasks are written
    /// and not yet published, so that the files they came from can be taken away first: one of those may have a task's
    /// number for a name.
    ///
    /// After a power cut in the middle a new task is there whole, or as a directory that [`Store::load`] takes for
    /// nothing, and of the appended bytes any prefix; a torn line is dropped. The audit says nothing of what is not there.
    ///
    /// # Errors
    /// When a file operation fails or a number is taken.
    pub fn write(
        &mut self,
        tasks: &[NewFiles],
        lines: Vec<(TaskId, Vec<u8>)>,
        mut audit: Vec<Entry>,
    ) -> Result<(), SpoolError> {
        if !(tasks.is_empty() && lines.is_empty() && audit.is_empty()) {
            self.lock.check()?;
        }
        let mut commit = Commit::default();
        for task in tasks {
            self.create(task, &mut commit)?;
        }
        if !tasks.is_empty() {
            commit.dir(self.layout.runs());
        }
        let mut by_task: BTreeMap<TaskId, Vec<u8>> = BTreeMap::new();
        for (id, bytes) in lines {
            by_task.entry(id).or_default().extend(bytes);
        }
        for (id, bytes) in &by_task {
            let path = self.layout.events(*id);
            let journal = self.journal(*id, &path)?;
            // Lines added to a file that somebody replaced would be read by nobody.
            let (held, named) = (journal.metadata(), fs::symlink_metadata(&path));
            if !matches!((held, named), (Ok(held), Ok(named)) if (held.dev(), held.ino()) == (named.dev(), named.ino()))
            {
                let why = io::Error::other("it was replaced or removed; put the right one there and start the daemon");
                return Err(SpoolError::io("append to", &path, why));
            }
            fault_point("append to", &path)?;
            let appended = journal.write_all(bytes).and_then(|()| journal.try_clone());
            commit.file(&path, appended.map_err(|e| SpoolError::io("append to", &path, e))?);
        }
        while self.journals.len() > self.journals_max {
            self.journals.pop_first();
        }
        for entry in &mut audit {
            if let (Some(id), Some(event)) = (entry.task, entry.event) {
                entry.journal = Some(self.prefixes.up_to(&self.layout.events(id), id, event)?);
            }
        }
        commit.run()?;
        if audit.is_empty() {
            return Ok(());
        }
        // A line about an event that a power cut took would accuse somebody of having removed it. So the audit waits for the
        // journals, and what is remembered of its end for the audit: each may be behind after a power cut, never ahead.
        let mut commit = Commit::default();
        self.audit.append(audit, &mut commit)?;
        commit.run()?;
        self.audit.remember()
    }

    /// Has the audit say what somebody removed from it, if somebody did since the last daemon.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn say_cut(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        let cut = self.audit.take_cut(now);
        cut.map_or(Ok(()), |entry| self.write(&[], Vec::new(), vec![entry]))
    }

    /// Returns the lines of the audit that speak of cuts which nobody took note of.
    #[must_use]
    pub fn open_cuts(&self) -> &BTreeSet<u64> {
        self.audit.open_cuts()
    }

    /// Returns how many acts the audit has of each task, and the last line of its journal among them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn audited_acts(&self) -> Result<std::collections::HashMap<TaskId, (u64, u64)>, SpoolError> {
        audit::acts(&self.layout)
    }

    /// Returns where the audit ends.
    #[must_use]
    pub fn audit_head(&self) -> Head {
        self.audit.head()
    }

    /// Whether this state was under a policy once.
    #[must_use]
    pub fn is_ruled(&self) -> bool {
        self.layout.ruled().exists()
    }

    /// Remembers that this state is under a policy, durably.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn note_ruled(&self) -> Result<(), SpoolError> {
        if self.is_ruled() {
            return Ok(());
        }
        let path = self.layout.ruled();
        let mut commit = Commit::default();
        commit.file(&path, self.replace(&path, b"this state is under a policy\n")?);
        commit.dir(path.parent().unwrap_or(&path).to_owned());
        commit.run()
    }

    /// Notes when the daemon looked at the time. What a crash leaves of it may be older, and after a power cut it may be empty.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn note_seen(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.replace(&self.layout.seen(), now.to_string().as_bytes()).map(drop)
    }

    /// Lists the files that were taken and stand in directories that only their owners can write, so that those can remove them.
    ///
    /// After a power cut it may be the old one or empty: it is written again when they are looked at.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn list_taken(&self, stamps: &BTreeSet<String>) -> Result<(), SpoolError> {
        let text: String = stamps.iter().map(|stamp| format!("{stamp}\n")).collect();
        self.replace(&self.layout.taken(), text.as_bytes()).map(drop)
    }

    /// Looks whether the state is still the one that was locked.
    ///
    /// # Errors
    /// [`SpoolError::Replaced`] when it is another one by now.
    pub fn check_place(&self) -> Result<(), SpoolError> {
        self.lock.check()
    }

    /// Says to everybody what is missing, where something is.
    pub fn say(&self, lacks: Option<Lack>) {
        if let Err(error) = self.lock.say(lacks) {
            tracing::warn!("cannot write {}: {error}", self.layout.sign().display());
        }
    }

    /// Says to everybody who is at a limit.
    pub fn say_limited(&self, people: usize, first: &str) {
        if let Err(error) = self.lock.say_limited(people, first) {
            tracing::warn!("cannot write {}: {error}", self.layout.sign().display());
        }
    }

    /// Writes a file aside and renames it into place: whoever reads it, and whatever a killed daemon leaves, has the old one or
    /// the new one whole.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<File, SpoolError> {
        let staged = self.layout.staging().join(path.file_name().unwrap_or_default());
        let file = write_file(&staged, bytes)?;
        fault_point("rename", path)?;
        fs::rename(&staged, path).map_err(|e| SpoolError::io("rename into place", path, e))?;
        Ok(file)
    }

    /// Writes a task's files aside and renames their directory into `runs/`.
    fn create(&self, task: &NewFiles, commit: &mut Commit) -> Result<(), SpoolError> {
        let staging = self.layout.staging();
        let from = staging.join(task.id.to_string());
        make_run_dir(&from, if task.gates.is_some() { 0o700 } else { 0o750 })?;
        let plan = write_file(&from.join("plan.json"), &task.plan)?;
        let events = write_file(&from.join("events.jsonl"), &task.events)?;
        write_file(&staging.join(format!("{}.json", task.id)), &task.view)?;
        if let Some(gates) = task.gates {
            gates::set_dir(&from, gates, gates::group_of_all(&self.layout)?)?;
        }
        fault_point("rename", &from)?;
        rename_new(&from, &self.layout.run(task.id)).map_err(|errno| match errno {
            Errno::EEXIST => SpoolError::Exists { id: task.id, path: self.layout.runs() },
            errno => SpoolError::io("rename into runs/", &from, errno),
        })?;
        commit.file(&self.layout.plan(task.id), plan);
        commit.file(&self.layout.events(task.id), events);
        commit.dir(self.layout.run(task.id));
        Ok(())
    }

    fn journal(&mut self, id: TaskId, path: &Path) -> Result<&mut File, SpoolError> {
        use std::collections::btree_map::Entry;
        Ok(match self.journals.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let file = OpenOptions::new().append(true).open(path);
                vacant.insert(file.map_err(|e| SpoolError::io("open", path, e))?)
            }
        })
    }

    /// Publishes the views that [`Store::write`] wrote.
    ///
    /// After a power cut in the middle views may be missing; they are written again at the next start.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn publish_views(&mut self, tasks: &[NewFiles]) -> Result<(), SpoolError> {
        let staging = self.layout.staging();
        tasks.iter().try_for_each(|task| self.publish(task.id, task.state, &staging.join(format!("{}.json", task.id))))
    }

    /// Renames a staged view into its state's directory. A dropped file that has the same name makes room, under a
    /// name that nobody has: it is somebody's task. Where somebody put what cannot be moved (a mount, a file that is made
    /// immutable), the task goes on without a view in that state.
    fn publish(&mut self, id: TaskId, state: TaskState, staged: &Path) -> Result<(), SpoolError> {
        let target = self.layout.task_file(state, id);
        fault_point("rename", &target)?;
        let meta = fs::symlink_metadata(staged).map_err(|e| SpoolError::io("look at", staged, e))?;
        let (dir, file) = (self.layout.state(state), format!("{id}.json"));
        let folder = Folder::of_ours(&dir).map_err(|e| SpoolError::io("open", &dir, e))?;
        loop {
            match folder.move_in(staged, &file) {
                Ok(()) => break,
                Err(Errno::EEXIST) if make_room(&folder, &file)? => {}
                Err(errno) if box_of(state).is_none() || is_of_the_disk(errno) => {
                    return Err(SpoolError::io("rename into place", &target, errno));
                }
                Err(errno) => {
                    tracing::warn!(
                        task = %id,
                        "what stands at {} cannot be moved away ({errno}), so the task is not shown there; remove it",
                        target.display()
                    );
                    // It is written again from the journal wherever the task goes.
                    return fs::remove_file(staged).map_err(|e| SpoolError::io("remove", staged, e));
                }
            }
        }
        self.own(state, id, &meta);
        self.unsettled.dir(dir);
        Ok(())
    }

    /// Moves a task's view from one state to another. One that somebody took away is noted in
    /// [`Store::take_lost_views`]; what stands in its place is not touched.
    ///
    /// After a power cut in the middle it stands in one of the two; the journal says in which it belongs.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn move_task(&mut self, id: TaskId, from: TaskState, to: TaskState) -> Result<(), SpoolError> {
        if from == to {
            return Ok(());
        }
        if !self.stands(id, from) {
            self.forget(id, from);
            self.lost_views.push(id);
            return Ok(());
        }
        self.publish(id, to, &self.layout.task_file(from, id))?;
        self.forget(id, from);
        Ok(())
    }

    /// Whether the view that the store put into a state's directory still stands there.
    fn stands(&self, id: TaskId, state: TaskState) -> bool {
        match box_of(state) {
            Some(drop_box) => self.is_own_view(drop_box, id),
            None => fs::symlink_metadata(self.layout.task_file(state, id)).is_ok_and(|meta| meta.is_file()),
        }
    }

    fn forget(&mut self, id: TaskId, state: TaskState) {
        if let Some(drop_box) = box_of(state) {
            self.own.remove(&(drop_box, id));
        }
        self.unsettled.dir(self.layout.state(state));
    }

    /// Returns the tasks whose views were found missing since the last call.
    pub fn take_lost_views(&mut self) -> Vec<TaskId> {
        std::mem::take(&mut self.lost_views)
    }

    /// Writes a task's record over its view and moves it to `done/`. [`Store::settle`] adds its line to the history
    /// when the record is durable.
    ///
    /// After a power cut in the middle the view or any part of the record may stand in either place; without a line in
    /// the history, the next start writes the record again.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn finish(&mut self, id: TaskId, from: TaskState, record: &[u8], line: &[u8]) -> Result<(), SpoolError> {
        let staged = self.layout.staging().join(format!("{id}.json"));
        let file = write_with(&staged, record, CLOSED_MODE)?;
        gates::like(&staged, &self.layout, id)?;
        let done = self.layout.task_file(TaskState::Done, id);
        if from == TaskState::Done {
            fault_point("rename", &done)?;
            fs::rename(&staged, &done).map_err(|e| SpoolError::io("rename into place", &done, e))?;
            self.unsettled.dir(self.layout.state(TaskState::Done));
        } else if self.stands(id, from) {
            // One rename after the other, so that the task stands in one directory at any time.
            let standing = self.layout.task_file(from, id);
            fault_point("rename", &standing)?;
            fs::rename(&staged, &standing).map_err(|e| SpoolError::io("rename into place", &standing, e))?;
            self.publish(id, TaskState::Done, &standing)?;
            self.forget(id, from);
        } else {
            self.publish(id, TaskState::Done, &staged)?;
            self.forget(id, from);
        }
        // The gate may have changed hands meanwhile.
        gates::like_its_task(&self.layout, id)?;
        self.unsettled.file(&done, file);
        self.history.extend_from_slice(line);
        self.journals.remove(&id);
        Ok(())
    }

    /// Puts a view in the place of an ended task's record and takes it back to `running/`.
    ///
    /// After a power cut in the middle it may stand in both; the journal says where it belongs.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn reopen(&mut self, id: TaskId, view: &[u8]) -> Result<(), SpoolError> {
        self.restore_view(id, TaskState::Running, view)?;
        let done = self.layout.task_file(TaskState::Done, id);
        fault_point("remove", &done)?;
        match fs::remove_file(&done) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::io("remove", &done, error));
            }
            _ => self.unsettled.dir(self.layout.state(TaskState::Done)),
        }
        // The history's last word on it is that it has not ended; the journal is written next and must not be ahead.
        let path = self.layout.history();
        fault_point("append to", &path)?;
        let line = format!("{{\"id\":{id},\"reopened\":true}}\n");
        let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&path);
        let written = opened.and_then(|mut file| file.write_all(line.as_bytes()).map(|()| file));
        self.unsettled.file(&path, written.map_err(|e| SpoolError::io("append to", &path, e))?);
        self.unsettled.run()
    }

    /// Writes a task's later plan beside the first, and its view in `new/` anew. Both can be written again from the
    /// journal.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn replan(&mut self, id: TaskId, version: u32, plan: &[u8], view: &[u8]) -> Result<(), SpoolError> {
        let path = self.layout.later_plan(id, version);
        let file = self.replace(&path, plan)?;
        self.unsettled.file(&path, file);
        self.unsettled.dir(self.layout.run(id));
        if !self.stands(id, TaskState::New) {
            return Ok(());
        }
        let staged = self.layout.staging().join(format!("{id}.json"));
        let file = write_file(&staged, view)?;
        let meta = file.metadata().map_err(|e| SpoolError::io("look at", &staged, e))?;
        self.unsettled.file(&staged, file);
        let standing = self.layout.task_file(TaskState::New, id);
        fault_point("rename", &standing)?;
        fs::rename(&staged, &standing).map_err(|e| SpoolError::io("rename into place", &standing, e))?;
        self.own(TaskState::New, id, &meta);
        Ok(())
    }

    /// Makes everything durable that was written since the last call.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn settle(&mut self) -> Result<(), SpoolError> {
        self.unsettled.run()?;
        let lines = std::mem::take(&mut self.history);
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.layout.history();
        fault_point("append to", &path)?;
        let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&path);
        opened.and_then(|mut file| file.write_all(&lines)).map_err(|e| SpoolError::io("append to", &path, e))
    }

    /// Whether nobody waits for [`Store::settle`]: journals say all of it again.
    #[must_use]
    pub fn may_settle_later(&self) -> bool {
        self.history.is_empty()
    }

    /// Notes that names in a drop box or in `bad/` changed, for [`Store::settle`].
    pub fn touched(&mut self, dir: std::path::PathBuf) {
        self.unsettled.dir(dir);
    }

    /// Writes a task's view again, because it is missing.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn restore_view(&mut self, id: TaskId, state: TaskState, view: &[u8]) -> Result<(), SpoolError> {
        if self.stands(id, state) {
            return Ok(());
        }
        let staged = self.layout.staging().join(format!("{id}.json"));
        let file = write_file(&staged, view)?;
        self.unsettled.file(&staged, file);
        self.publish(id, state, &staged)
    }

    /// Removes a task's view from a state it does not belong in.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn remove_view(&mut self, id: TaskId, state: TaskState) -> Result<(), SpoolError> {
        if !self.stands(id, state) {
            return Ok(());
        }
        let path = self.layout.task_file(state, id);
        fault_point("remove", &path)?;
        fs::remove_file(&path).map_err(|e| SpoolError::io("remove", &path, e))?;
        self.forget(id, state);
        Ok(())
    }
}

/// Returns the drop box that is the directory of a state.
pub(super) fn box_of(state: TaskState) -> Option<DropBox> {
    match state {
        TaskState::New => Some(DropBox::New),
        TaskState::Ready => Some(DropBox::Ready),
        TaskState::Running | TaskState::Done => None,
    }
}

/// Renames what stands in the way in a box to a name that nobody has: it is somebody's file. Returns whether it is out of the
/// way; what is mounted or immutable stays.
pub(super) fn make_room(folder: &Folder, file: &str) -> Result<bool, SpoolError> {
    for n in 0..ASIDE_MAX {
        let aside = format!("{}.dropped-{n}.json", stem(file));
        match folder.rename(file, &aside) {
            Err(Errno::EEXIST) => {}
            Ok(()) | Err(Errno::ENOENT) => return Ok(true),
            Err(errno) if is_of_the_disk(errno) => {
                return Err(SpoolError::io("make room at", &folder.path_of(file), errno));
            }
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

/// Renames without ever replacing anything.
pub(super) fn rename_new(from: &Path, to: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
}

fn make_run_dir(path: &Path, mode: u32) -> Result<(), SpoolError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let make = || fs::DirBuilder::new().mode(mode).create(path);
    let made = match make() {
        // Left over from a failure: nothing in here was ever announced.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_dir_all(path).and_then(|()| make()),
        other => other,
    };
    made.map_err(|e| SpoolError::io("make", path, e))
}

/// Writes a whole file and returns it open, for the sync that follows.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<File, SpoolError> {
    write_with(path, bytes, FILE_MODE)
}

/// Writes a whole file that is made with this mode.
fn write_with(path: &Path, bytes: &[u8], mode: u32) -> Result<File, SpoolError> {
    fault_point("write", path)?;
    let flags = OFlag::O_NOFOLLOW.bits();
    let opened = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).custom_flags(flags).open(path);
    let written = opened.and_then(|mut file| file.write_all(bytes).map(|()| file));
    written.map_err(|e| SpoolError::io("write", path, e))
}
