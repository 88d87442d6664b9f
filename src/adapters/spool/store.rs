//! The one writer of states and journals. Floor 3.
//!
//! **Invariant:** when a call returns, what it did survives a power cut; when it fails, the daemon must stop: what
//! reached the disk is then found by [`Store::load`] at the next start. Nothing is retried.
//!
//! A task is made in one step: its directory is written aside and renamed into `runs/`. The file in a state's
//! directory is a view that can be written again from the journal, so it is renamed, never trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{SpoolError, fault_point};
use crate::base::ids::TaskId;
use crate::domain::run::TaskState;
use crate::engine::DropBox;

/// From this many new tasks on, one sync of the whole file system costs less than one for each file.
const TASKS_PER_SYNCFS: usize = 2;
/// How many journals stay open between appends.
const OPEN_JOURNALS_MAX: usize = 256;
/// With this mode files are made: the group may read, nobody else may do anything.
const FILE_MODE: u32 = 0o640;

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
}

/// An unfinished task as it stands on disk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub id: TaskId,
    /// `plan.json`.
    pub plan: Vec<u8>,
    /// The whole lines of `events.jsonl`.
    pub events: Vec<u8>,
    /// The directories that hold a view of it.
    pub standing: Vec<TaskState>,
}

/// What [`Store::load`] found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every task that does not stand in `done/` alone.
    pub unfinished: Vec<Found>,
    /// `history.jsonl`.
    pub history: Vec<u8>,
    /// The first number that no task has.
    pub next_id: u64,
}

/// The open store. Holding it is holding the lock.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    _lock: Flock<File>,
    journals: BTreeMap<TaskId, File>,
    /// The inodes of the views in the two states that are drop boxes too, so that they are not taken for drops.
    own: BTreeMap<(DropBox, TaskId), u64>,
}

impl Store {
    /// Takes the lock and opens the store.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] at once when another daemon holds it.
    pub fn open(layout: Layout) -> Result<Store, SpoolError> {
        let path = layout.lock();
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(|e| SpoolError::io("open", &path, e))?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            if errno == nix::errno::Errno::EWOULDBLOCK {
                SpoolError::Locked { pid, path: path.clone() }
            } else {
                SpoolError::io("lock", &path, errno)
            }
        })?;
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| SpoolError::io("write", &path, e))?;
        Ok(Store { layout, _lock: lock, journals: BTreeMap::new(), own: BTreeMap::new() })
    }

    /// Whether the file of this name in a drop box is one that the store put there itself.
    #[must_use]
    pub fn is_own(&self, drop_box: DropBox, name: &str) -> bool {
        let Some(id) = name.strip_suffix(".json").and_then(|digits| digits.parse().ok()).map(TaskId) else {
            return false;
        };
        let Some(inode) = self.own.get(&(drop_box, id)) else { return false };
        let path = self.layout.drop_box(drop_box).join(name);
        fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == *inode)
    }

    /// Makes tasks: all of them are durable when it returns. Their views are written and not yet published, so that the
    /// files they came from can be taken away first: one of those may have a task's number for a name.
    ///
    /// After a power cut in the middle each task is there whole, without its view, or not at all.
    ///
    /// # Errors
    /// When a file operation fails or a number is taken.
    pub fn create(&mut self, tasks: &[NewFiles]) -> Result<(), SpoolError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let one_sync = tasks.len() >= TASKS_PER_SYNCFS;
        for task in tasks {
            self.stage(task, !one_sync)?;
        }
        let staging = self.layout.staging();
        if one_sync {
            fault_point("sync", &staging)?;
            let dir = open_dir(&staging)?;
            nix::unistd::syncfs(&dir).map_err(|e| SpoolError::io("sync the file system of", &staging, e))?;
        }
        let runs = self.layout.runs();
        for task in tasks {
            let from = staging.join(task.id.to_string());
            fault_point("rename", &from)?;
            rename_new(&from, &self.layout.run(task.id)).map_err(|source| match source {
                nix::errno::Errno::EEXIST => SpoolError::Exists { id: task.id, path: runs.clone() },
                errno => SpoolError::io("rename into runs/", &from, errno),
            })?;
        }
        sync_dir(&runs)
    }

    /// Publishes the views that [`Store::create`] wrote.
    ///
    /// After a power cut in the middle views may be missing; they are written again at the next start.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn publish_views(&mut self, tasks: &[NewFiles]) -> Result<(), SpoolError> {
        let staging = self.layout.staging();
        let mut touched = BTreeSet::new();
        for task in tasks {
            self.publish(task.id, task.state, &staging.join(format!("{}.json", task.id)))?;
            touched.insert(task.state);
        }
        touched.into_iter().try_for_each(|state| sync_dir(&self.layout.state(state)))
    }

    /// Writes a task's files aside.
    fn stage(&self, task: &NewFiles, sync: bool) -> Result<(), SpoolError> {
        let dir = self.layout.staging().join(task.id.to_string());
        if let Err(error) = make_run_dir(&dir) {
            // Left over from a crash: nothing in here was ever announced.
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(SpoolError::io("make", &dir, error));
            }
            fs::remove_dir_all(&dir).and_then(|()| make_run_dir(&dir)).map_err(|e| SpoolError::io("make", &dir, e))?;
        }
        write_file(&dir.join("plan.json"), &task.plan, sync)?;
        write_file(&dir.join("events.jsonl"), &task.events, sync)?;
        if sync {
            sync_dir(&dir)?;
        }
        write_file(&self.layout.staging().join(format!("{}.json", task.id)), &task.view, sync)
    }

    /// Renames a staged view into its state's directory. A dropped file that has the same name makes room, under a
    /// name that nobody has: it is somebody's task.
    fn publish(&mut self, id: TaskId, state: TaskState, staged: &Path) -> Result<(), SpoolError> {
        let target = self.layout.task_file(state, id);
        fault_point("rename", &target)?;
        let inode = fs::symlink_metadata(staged).map_err(|e| SpoolError::io("look at", staged, e))?.ino();
        loop {
            match rename_new(staged, &target) {
                Ok(()) => break,
                Err(nix::errno::Errno::EEXIST) => make_room(&target)?,
                Err(errno) => return Err(SpoolError::io("rename into place", &target, errno)),
            }
        }
        if let Some(drop_box) = box_of(state) {
            self.own.insert((drop_box, id), inode);
        }
        Ok(())
    }

    /// Appends whole lines to journals; all of them are durable when it returns.
    ///
    /// After a power cut in the middle any prefix of the bytes may be there; [`Store::load`] drops a torn line.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn append(&mut self, lines: Vec<(TaskId, Vec<u8>)>) -> Result<(), SpoolError> {
        let mut by_task: BTreeMap<TaskId, Vec<u8>> = BTreeMap::new();
        for (id, bytes) in lines {
            by_task.entry(id).or_default().extend(bytes);
        }
        for (id, bytes) in &by_task {
            let path = self.layout.events(*id);
            let journal = self.journal(*id, &path)?;
            fault_point("append to", &path)?;
            journal.write_all(bytes).map_err(|e| SpoolError::io("append to", &path, e))?;
        }
        for id in by_task.keys() {
            if let Some(journal) = self.journals.get(id) {
                journal.sync_data().map_err(|e| SpoolError::io("sync", &self.layout.events(*id), e))?;
            }
        }
        while self.journals.len() > OPEN_JOURNALS_MAX {
            self.journals.pop_first();
        }
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

    /// Moves a task's view from one state to another.
    ///
    /// After a power cut in the middle it stands in one of the two; the journal says in which it belongs.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn move_task(&mut self, id: TaskId, from: TaskState, to: TaskState) -> Result<(), SpoolError> {
        self.publish(id, to, &self.layout.task_file(from, id))?;
        self.forget(id, from);
        sync_dir(&self.layout.state(to))?;
        sync_dir(&self.layout.state(from))
    }

    fn forget(&mut self, id: TaskId, state: TaskState) {
        if let Some(drop_box) = box_of(state) {
            self.own.remove(&(drop_box, id));
        }
    }

    /// Writes a task's record over its view, moves it to `done/` and adds its line to the history.
    ///
    /// After a power cut in the middle the record or the view stands in the old state, or the record in `done/`;
    /// the history's line may be missing and can be written again from the record.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn finish(&mut self, id: TaskId, from: TaskState, record: &[u8], line: &[u8]) -> Result<(), SpoolError> {
        let staged = self.layout.staging().join(format!("{id}.json"));
        write_file(&staged, record, true)?;
        let standing = self.layout.task_file(from, id);
        fault_point("rename", &standing)?;
        fs::rename(&staged, &standing).map_err(|e| SpoolError::io("rename into place", &standing, e))?;
        if from == TaskState::Done {
            sync_dir(&self.layout.state(from))?;
        } else {
            self.move_task(id, from, TaskState::Done)?;
        }
        self.journals.remove(&id);
        let history = self.layout.history();
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(FILE_MODE)
            .open(&history)
            .and_then(|mut file| file.write_all(line))
            .map_err(|e| SpoolError::io("append to", &history, e))
    }

    /// Writes a task's view again, because it is missing.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn restore_view(&mut self, id: TaskId, state: TaskState, view: &[u8]) -> Result<(), SpoolError> {
        let staged = self.layout.staging().join(format!("{id}.json"));
        write_file(&staged, view, true)?;
        self.publish(id, state, &staged)?;
        sync_dir(&self.layout.state(state))
    }

    /// Removes a task's view from a state it does not belong in.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn remove_view(&mut self, id: TaskId, state: TaskState) -> Result<(), SpoolError> {
        let path = self.layout.task_file(state, id);
        fault_point("remove", &path)?;
        fs::remove_file(&path).map_err(|e| SpoolError::io("remove", &path, e))?;
        self.forget(id, state);
        sync_dir(&self.layout.state(state))
    }

    /// Reads what a start needs: every task that is not finished, and the history.
    ///
    /// Removes what a crash left in the staging directory. A torn last line of a journal is kept aside as
    /// `events.jsonl.torn` and cut off.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn load(&mut self) -> Result<Loaded, SpoolError> {
        self.clear_staging()?;
        let ids = numbers(&self.layout.runs(), "")?;
        let mut standing: BTreeMap<TaskId, Vec<TaskState>> = BTreeMap::new();
        for state in [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Done] {
            for id in numbers(&self.layout.state(state), ".json")? {
                if ids.contains(&id) && self.adopt(id, state)? {
                    standing.entry(id).or_default().push(state);
                }
            }
        }
        let mut loaded = Loaded { next_id: ids.last().map_or(1, |id| id.0 + 1), ..Loaded::default() };
        for id in ids {
            let standing = standing.remove(&id).unwrap_or_default();
            if standing != [TaskState::Done] {
                let plan = read(&self.layout.plan(id))?;
                let events = self.read_journal(id)?;
                loaded.unfinished.push(Found { id, plan, events, standing });
            }
        }
        let history = self.layout.history();
        loaded.history = match fs::read(&history) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|e| SpoolError::io("read", &history, e))?,
        };
        Ok(loaded)
    }

    /// Tells a view of ours from a file that somebody dropped under a number: ours says the number and the digest.
    fn adopt(&mut self, id: TaskId, state: TaskState) -> Result<bool, SpoolError> {
        let Some(drop_box) = box_of(state) else { return Ok(true) };
        let path = self.layout.task_file(state, id);
        let meta = fs::symlink_metadata(&path).map_err(|e| SpoolError::io("look at", &path, e))?;
        if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.nlink() != 1 {
            return Ok(false);
        }
        let ours = serde_json::from_slice::<serde_json::Value>(&read(&path)?)
            .is_ok_and(|view| view["id"] == id.0 && view["digest"].is_string() && view["admission"].is_object());
        if ours {
            self.own.insert((drop_box, id), meta.ino());
        }
        Ok(ours)
    }

    /// Reads a journal's whole lines; what follows the last one is kept aside.
    fn read_journal(&self, id: TaskId) -> Result<Vec<u8>, SpoolError> {
        let path = self.layout.events(id);
        let mut bytes = read(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            write_file(&path.with_extension("jsonl.torn"), &bytes[whole..], true)?;
            bytes.truncate(whole);
            let file = OpenOptions::new().write(true).open(&path).map_err(|e| SpoolError::io("open", &path, e))?;
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(|e| SpoolError::io("cut", &path, e))?;
        }
        Ok(bytes)
    }

    fn clear_staging(&self) -> Result<(), SpoolError> {
        let staging = self.layout.staging();
        let entries = fs::read_dir(&staging).map_err(|e| SpoolError::io("list", &staging, e))?;
        for entry in entries {
            let path = entry.map_err(|e| SpoolError::io("list", &staging, e))?.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| SpoolError::io("remove", &path, e))?;
        }
        Ok(())
    }
}

/// Returns the drop box that is the directory of a state.
fn box_of(state: TaskState) -> Option<DropBox> {
    match state {
        TaskState::New => Some(DropBox::New),
        TaskState::Ready => Some(DropBox::Ready),
        TaskState::Running | TaskState::Done => None,
    }
}

/// Renames a dropped file that stands where a view belongs to a name that nobody has.
fn make_room(path: &Path) -> Result<(), SpoolError> {
    let mut n = 0_u32;
    loop {
        let aside = path.with_extension(format!("dropped-{n}.json"));
        match rename_new(path, &aside) {
            Err(nix::errno::Errno::EEXIST) => n += 1,
            Ok(()) | Err(nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(SpoolError::io("make room at", path, errno)),
        }
    }
}

/// Renames without ever replacing anything.
pub(super) fn rename_new(from: &Path, to: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
}

fn make_run_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o750).create(path)
}

fn write_file(path: &Path, bytes: &[u8], sync: bool) -> Result<(), SpoolError> {
    fault_point("write", path)?;
    let written =
        OpenOptions::new().create(true).write(true).truncate(true).mode(FILE_MODE).open(path).and_then(|mut file| {
            file.write_all(bytes)?;
            if sync { file.sync_all() } else { Ok(()) }
        });
    written.map_err(|e| SpoolError::io("write", path, e))
}

fn read(path: &Path) -> Result<Vec<u8>, SpoolError> {
    fs::read(path).map_err(|e| SpoolError::io("read", path, e))
}

fn open_dir(path: &Path) -> Result<File, SpoolError> {
    File::open(path).map_err(|e| SpoolError::io("open", path, e))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), SpoolError> {
    fault_point("sync", path)?;
    open_dir(path)?.sync_all().map_err(|e| SpoolError::io("sync", path, e))
}

/// Returns the numbers that name entries of a directory, with `ending` after them.
fn numbers(dir: &Path, ending: &str) -> Result<BTreeSet<TaskId>, SpoolError> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(|e| SpoolError::io("list", dir, e))? {
        let name = entry.map_err(|e| SpoolError::io("list", dir, e))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(ending)).unwrap_or_default();
        // `007` and `+7` are names that somebody gave; ours are written in one way only.
        let id = digits.parse().ok().filter(|id: &u64| *id > 0 && id.to_string() == digits);
        ids.extend(id.map(TaskId));
    }
    Ok(ids)
}

/// Returns the free name that a refused file gets: its own, or its own with a number.
pub(super) fn move_aside(from: &Path, dir: &Path, stem: &str) -> Result<Option<PathBuf>, SpoolError> {
    for n in 0_u32.. {
        let name = if n == 0 { format!("{stem}.json") } else { format!("{stem}.{n}.json") };
        let to = dir.join(name);
        match rename_new(from, &to) {
            Ok(()) => return Ok(Some(to)),
            Err(nix::errno::Errno::EEXIST) => {}
            Err(nix::errno::Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(SpoolError::io("move to bad/", from, errno)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::spool::fault;

    fn layout(dir: &tempfile::TempDir) -> Layout {
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        layout
    }

    fn task(id: u64) -> NewFiles {
        NewFiles {
            id: TaskId(id),
            plan: b"{\"plan\":1}".to_vec(),
            events: b"{\"event\":\"accepted\"}\n".to_vec(),
            state: TaskState::New,
            view: format!("{{\"id\":{id},\"digest\":\"d\",\"admission\":{{}}}}").into_bytes(),
        }
    }

    /// A whole life of three tasks: made, voted on, started, ended.
    fn live(store: &mut Store) -> Result<(), SpoolError> {
        let tasks = [task(1), task(2), task(3)];
        store.create(&tasks)?;
        store.publish_views(&tasks)?;
        for (event, from, to) in
            [("approved", TaskState::New, TaskState::Ready), ("started", TaskState::Ready, TaskState::Running)]
        {
            let line = format!("{{\"event\":\"{event}\"}}\n").into_bytes();
            store.append(vec![(TaskId(1), line.clone()), (TaskId(2), line)])?;
            store.move_task(TaskId(1), from, to)?;
            store.move_task(TaskId(2), from, to)?;
        }
        store.append(vec![(TaskId(1), b"{\"event\":\"closed\"}\n".to_vec())])?;
        store.finish(TaskId(1), TaskState::Running, b"{\"record\":1}", b"{\"id\":1}\n")
    }

    #[test]
    fn a_failure_at_any_operation_leaves_before_or_after() {
        for count in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let layout = layout(&dir);
            let mut store = Store::open(layout.clone()).unwrap();
            fault::after(Some(count));
            let lived = live(&mut store);
            fault::after(None);
            drop(store);
            let loaded = Store::open(layout.clone()).unwrap().load().unwrap();
            for found in &loaded.unfinished {
                assert_eq!(found.plan, task(1).plan, "after {count} operations");
                assert!(found.events.starts_with(&task(1).events), "after {count} operations");
                assert!(found.standing.len() <= 1, "after {count} operations: {:?}", found.standing);
            }
            if lived.is_ok() {
                assert!(count > 20, "the life has more operations than {count}");
                assert_eq!(loaded.unfinished.len(), 2, "task 1 is done and is not read");
                assert_eq!(loaded.history, b"{\"id\":1}\n");
                assert_eq!(loaded.next_id, 4);
                assert_eq!(fs::read(layout.task_file(TaskState::Done, TaskId(1))).unwrap(), b"{\"record\":1}");
                return;
            }
        }
    }

    #[test]
    fn a_journal_cut_at_any_byte_keeps_its_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let mut store = Store::open(layout.clone()).unwrap();
        store.create(&[task(1)]).unwrap();
        let journal = layout.events(TaskId(1));
        let lines = b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n";
        for end in 0..=lines.len() {
            fs::write(&journal, &lines[..end]).unwrap();
            let found = store.load().unwrap().unfinished.remove(0);
            let whole = lines[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert_eq!(found.events, &lines[..whole]);
            assert_eq!(fs::read(&journal).unwrap(), &lines[..whole], "the torn line is cut off");
            if whole < end {
                assert_eq!(fs::read(journal.with_extension("jsonl.torn")).unwrap(), &lines[whole..end]);
            }
        }
    }

    #[test]
    fn a_dropped_file_with_a_tasks_number_makes_room_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let mut store = Store::open(layout.clone()).unwrap();
        let dropped = layout.task_file(TaskState::New, TaskId(1));
        fs::write(&dropped, b"somebody's task").unwrap();
        assert!(!store.is_own(DropBox::New, "1.json"));
        store.create(&[task(1)]).unwrap();
        store.publish_views(&[task(1)]).unwrap();
        assert!(store.is_own(DropBox::New, "1.json"));
        assert_eq!(fs::read(&dropped).unwrap(), task(1).view);
        assert_eq!(fs::read(dropped.with_extension("dropped-0.json")).unwrap(), b"somebody's task");
        // A start tells the two apart again, and takes no name for a number that is not written like ours.
        fs::write(layout.drop_box(DropBox::New).join("001.json"), b"another task").unwrap();
        drop(store);
        let mut store = Store::open(layout).unwrap();
        store.load().unwrap();
        assert!(store.is_own(DropBox::New, "1.json") && !store.is_own(DropBox::New, "1.dropped-0.json"));
    }

    #[test]
    fn a_second_store_is_refused_with_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let _first = Store::open(layout.clone()).unwrap();
        let refused = Store::open(layout).unwrap_err();
        assert!(
            matches!(&refused, SpoolError::Locked { pid, .. } if *pid == std::process::id().to_string()),
            "{refused}"
        );
    }
}
