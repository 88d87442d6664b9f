//! Removes what old tasks printed, and old files in `bad/`. Floor 3.
//!
//! **Invariant:** plans, events, records, history and audit stay for ever; only output goes, of tasks that have ended, and files
//! in `bad/`. Output goes aside first and is looked at again: what a retry needs comes back, beside what it has printed since.
//! A note says what went, when and by whom, before it goes: what is gone without one was lost.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use serde::{Deserialize, Serialize};

use crate::adapters::spool::SpoolError;
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::{rename_new, write_file};
use crate::base::ids::{Actor, TaskId};
use crate::base::time::Timestamp;
use crate::domain::run::TaskState;

/// Where output stands while it is removed; what stands there longer is left of a crash.
const ASIDE: &str = ".output-removed";
/// Where it is noted that output was removed.
const NOTE: &str = "output.removed";
/// How old output is at least that goes.
const DAY_MS: i64 = 86_400_000;

/// What is noted of output that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// How much.
    pub bytes: u64,
}

impl Removed {
    /// Whether it may have taken what was printed by `ended`: nothing goes before it is a day old.
    #[must_use]
    pub fn covers(&self, ended: Timestamp) -> bool {
        ended.plus_ms(DAY_MS) < self.at
    }
}

/// Returns what is noted of a task's output that was removed; nothing where none was.
#[must_use]
pub fn removed(layout: &Layout, id: TaskId) -> Option<Removed> {
    serde_json::from_slice(&fs::read(layout.run(id).join(NOTE)).ok()?).ok()
}

/// Removes the output of a task that `is_old`, and returns how many bytes; `None` when there is nothing, or somebody takes it
/// again. Without `by` it only counts. What an earlier removal left is removed too, or put back where the task is not old any
/// more.
///
/// # Errors
/// When a file operation fails.
pub fn output(
    layout: &Layout,
    id: TaskId,
    is_old: bool,
    by: Option<(Timestamp, &Actor)>,
) -> Result<Option<u64>, SpoolError> {
    let run = layout.run(id);
    let (output, aside) = (run.join("output"), run.join(ASIDE));
    let record = layout.task_file(TaskState::Done, id);
    if !is_old || !record.is_file() {
        if aside.is_dir() && by.is_some() {
            put_back(&aside, &output)?;
        }
        return Ok(None);
    }
    let found = [&output, &aside].into_iter().filter(|dir| dir.is_dir()).count();
    let bytes = size(&output).saturating_add(size(&aside));
    let Some((at, by)) = by.filter(|_| found > 0) else { return Ok((found > 0).then_some(bytes)) };
    let before = removed(layout, id);
    note(&run, Some(&Removed { at, by: by.clone(), bytes }))?;
    remove(&aside)?;
    match fs::rename(&output, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(bytes)),
        Err(error) => return Err(SpoolError::io("remove", &output, error)),
    }
    if !record.is_file() || output.exists() {
        put_back(&aside, &output)?;
        note(&run, before.as_ref())?;
        return Ok(None);
    }
    remove(&aside)?;
    Ok(Some(bytes))
}

/// Notes what goes, or takes the note back; durable when it returns.
fn note(run: &Path, removed: Option<&Removed>) -> Result<(), SpoolError> {
    let (path, aside) = (run.join(NOTE), run.join(format!("{NOTE}.new")));
    let mut commit = Commit::default();
    if let Some(removed) = removed {
        let bytes = serde_json::to_vec(removed).expect("a note holds nothing that JSON cannot say");
        let file = write_file(&aside, &bytes)?;
        file.sync_all().map_err(|e| SpoolError::io("sync", &aside, e))?;
        fs::rename(&aside, &path).map_err(|e| SpoolError::io("rename into place", &path, e))?;
    } else if let Err(error) = fs::remove_file(&path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(SpoolError::io("remove", &path, error));
    }
    commit.dir(run.to_owned());
    commit.run()
}

/// Removes the files in `bad/` that have not changed for so long, and returns how many. With `dry_run` it only counts.
///
/// # Errors
/// When a file operation fails.
pub fn bad(layout: &Layout, older_than: Duration, dry_run: bool) -> Result<usize, SpoolError> {
    let dir = layout.bad();
    let failed = |error| SpoolError::io("list", &dir, error);
    let mut count = 0_usize;
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let meta = match entry.metadata() {
            // Somebody else was quicker.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            meta => meta.map_err(failed)?,
        };
        let age = meta.modified().map_err(failed)?.elapsed().unwrap_or_default();
        if !meta.is_file() || age < older_than {
            continue;
        }
        count = count.saturating_add(1);
        if dry_run {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(|error| SpoolError::io("remove", &entry.path(), error))?,
        }
    }
    Ok(count)
}

/// Moves a directory back, or what is in it where there is another one by now. Attempts are numbered on, so what is new has
/// other names; what has the same one stays aside.
fn put_back(from: &Path, to: &Path) -> Result<(), SpoolError> {
    match rename_new(from, to) {
        Err(Errno::EEXIST) if from.is_dir() && to.is_dir() => {}
        Ok(()) | Err(Errno::ENOENT | Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(SpoolError::io("put back", from, errno)),
    }
    let failed = |error| SpoolError::io("list", from, error);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        put_back(&entry.path(), &to.join(entry.file_name()))?;
    }
    match fs::remove_dir(from) {
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(SpoolError::io("remove", from, error)),
        _ => Ok(()),
    }
}

fn remove(dir: &Path) -> Result<(), SpoolError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SpoolError::io("remove", dir, error)),
        _ => Ok(()),
    }
}

/// Counts the bytes of the files in a directory.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let size_of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size_of).sum()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const ID: TaskId = TaskId(7);

    fn somebody() -> Actor {
        Actor { uid: 0, user: "root".to_owned() }
    }

    /// Removes as somebody does at a time, or only counts.
    fn output(layout: &Layout, id: TaskId, is_old: bool, dry_run: bool) -> Result<Option<u64>, SpoolError> {
        let by = somebody();
        super::output(layout, id, is_old, (!dry_run).then_some((Timestamp(DAY_MS), &by)))
    }

    /// A task that has ended, with logs in some directories.
    fn task(logs: &[&str]) -> (tempfile::TempDir, Layout, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        layout.create(None, true).unwrap();
        for log in logs {
            let log = layout.run(ID).join(log);
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            fs::write(log, "12345").unwrap();
        }
        fs::write(layout.task_file(TaskState::Done, ID), "{}").unwrap();
        let run = layout.run(ID);
        (dir, layout, run)
    }

    fn left(run: &Path) -> Vec<String> {
        let mut found: Vec<String> =
            fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    }

    #[test]
    fn what_a_task_printed_goes_when_it_is_old_and_has_ended() {
        let (_dir, layout, run) = task(&["output/h1/a.log", "output/h2/a.log"]);
        assert_eq!(output(&layout, ID, false, false).unwrap(), None);
        assert_eq!(output(&layout, ID, true, true).unwrap(), Some(10));
        assert_eq!((left(&run), removed(&layout, ID)), (vec!["output".to_owned()], None));
        assert_eq!(output(&layout, ID, true, false).unwrap(), Some(10));
        assert_eq!(left(&run), [NOTE]);
        let noted = removed(&layout, ID).unwrap();
        assert_eq!(noted, Removed { at: Timestamp(DAY_MS), by: somebody(), bytes: 10 });
        assert!(noted.covers(Timestamp(-1)) && !noted.covers(Timestamp(0)), "what is younger did not go");
        assert_eq!(output(&layout, ID, true, false).unwrap(), None);
    }

    #[test]
    fn a_task_that_is_taken_again_keeps_what_it_printed() {
        let (_dir, layout, run) = task(&["output/h1/a.log"]);
        fs::remove_file(layout.task_file(TaskState::Done, ID)).unwrap();
        assert_eq!(output(&layout, ID, true, false).unwrap(), None);
        assert!(run.join("output/h1/a.log").exists());
    }

    #[test]
    fn what_a_crash_left_of_a_removal_is_removed_the_next_time() {
        let (_dir, layout, run) = task(&[".output-removed/h1/a.log"]);
        assert_eq!(output(&layout, ID, true, true).unwrap(), Some(5));
        assert_eq!(output(&layout, ID, true, false).unwrap(), Some(5));
        assert_eq!(left(&run), [NOTE]);
        let (_dir, layout, run) = task(&[".output-removed/h1/a.log", "output/h1/a@2.log"]);
        assert_eq!(output(&layout, ID, true, false).unwrap(), Some(10));
        assert_eq!(left(&run), [NOTE]);
    }

    #[test]
    fn what_a_crash_left_comes_back_beside_what_a_retry_printed_since() {
        let (_dir, layout, run) = task(&[".output-removed/h1/a.log", ".output-removed/h2/a.log", "output/h1/a@2.log"]);
        assert_eq!(output(&layout, ID, false, true).unwrap(), None);
        assert_eq!(left(&run), [".output-removed", "output"], "nothing is touched");
        assert_eq!(output(&layout, ID, false, false).unwrap(), None);
        assert_eq!(left(&run), ["output"]);
        assert_eq!(left(&run.join("output/h1")), ["a.log", "a@2.log"]);
        assert_eq!(left(&run.join("output/h2")), ["a.log"]);
    }
}
