//! Reads the history by parts: where each line stands, and only those lines that are looked at. Floor 3.
//!
//! **Invariant:** reads only, and no byte of the history twice to find its lines. A task that ran again counts by its last
//! end alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;

use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{SpoolError, reader};
use crate::base::ids::{Actor, TaskId};
use crate::domain::outcome::Outcome;
use crate::domain::record::HistoryLine;

/// How much of the history is read at a time.
const CHUNK: usize = 1 << 20;

/// Where the lines of the history stand.
#[derive(Debug, Default)]
pub struct Past {
    file: Option<File>,
    offset: u64,
    lines: Vec<Entry>,
    /// The line that counts, by the task's number.
    last: HashMap<u64, usize>,
    failed: usize,
    /// The tasks that run again, since somebody asked.
    reopened: Vec<TaskId>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    length: u32,
    failed: bool,
    /// Whether a later line of the same task counts.
    over: bool,
}

/// What of the history is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only lines with this text among what people know a task by, whatever its case; `!` in front turns it round.
    pub filter: String,
    /// Only what failed.
    pub failed_only: bool,
    /// How many lines are left away, the newest first.
    pub start: usize,
    /// How many are wanted.
    pub rows: usize,
}

/// A part of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// How many lines pass.
    pub count: usize,
    /// How many tasks the whole history has.
    pub all: usize,
    /// How many of them failed.
    pub failed: usize,
    /// The lines, the newest first.
    pub lines: Vec<HistoryLine>,
}

impl Past {
    /// Reads what was added since the last look; `true` when there was something.
    ///
    /// # Errors
    /// When the history is there and cannot be read.
    pub fn look(&mut self, layout: &Layout) -> Result<bool, SpoolError> {
        let path = layout.history();
        if self.file.is_none() {
            match File::open(&path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(SpoolError::io("open", &path, error)),
            }
        }
        let Some(file) = self.file.as_ref().and_then(|file| file.try_clone().ok()) else { return Ok(false) };
        let length = file.metadata().map_err(|e| SpoolError::io("look at", &path, e))?.len();
        if length <= self.offset {
            return Ok(false);
        }
        let from = self.offset;
        let read = each_line(&file, from, u64::MAX, |line| {
            self.add(line);
            self.offset = self.offset.saturating_add((line.len() as u64).saturating_add(1));
        });
        read.map_err(|e| SpoolError::io("read", &path, e))?;
        Ok(true)
    }

    /// Notes a line by its number and its outcome alone, which stand where the daemon writes them.
    fn add(&mut self, line: &[u8]) {
        let Some((id, rest)) = numbered(line) else { return };
        if let Some(known) = self.last.remove(&id) {
            self.lines[known].over = true;
            self.failed = self.failed.saturating_sub(usize::from(self.lines[known].failed));
        }
        if rest.starts_with(b",\"reopened\"") {
            self.reopened.push(TaskId(id));
            return;
        }
        // Inside of a string every quotation mark has a backslash before it, so this stands for itself.
        let mark = b"\"outcome\":\"";
        let word = memchr::memmem::find(rest, mark).map_or(&[][..], |at| &rest[at.saturating_add(mark.len())..]);
        let outcome = Outcome::ALL.into_iter().find(|outcome| {
            word.strip_prefix(outcome.word().as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'))
        });
        let failed = outcome.is_none_or(Outcome::is_failure);
        self.failed = self.failed.saturating_add(usize::from(failed));
        self.last.insert(id, self.lines.len());
        let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
        self.lines.push(Entry { offset: self.offset, length, failed, over: false });
    }

    /// Returns a number that grows with the history.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.offset
    }

    /// Whether the history's last word on a task is that it ended.
    #[must_use]
    pub fn has_ended(&self, id: TaskId) -> bool {
        self.last.contains_key(&id.0)
    }

    /// Returns the tasks that were found to run again since the last call.
    pub fn take_reopened(&mut self) -> Vec<TaskId> {
        std::mem::take(&mut self.reopened)
    }

    /// Returns a part of what was found.
    #[must_use]
    pub fn part(&self, wanted: &Wanted) -> Part {
        let alive = self.lines.iter().rev().filter(|entry| !(entry.over || wanted.failed_only && !entry.failed));
        let filter = wanted.filter.to_lowercase();
        if filter.is_empty() {
            let count = if wanted.failed_only { self.failed } else { self.last.len() };
            let lines = alive.skip(wanted.start).take(wanted.rows).filter_map(|entry| self.read(entry)).collect();
            return Part { count, all: self.last.len(), failed: self.failed, lines };
        }
        let (not, needle) = match filter.strip_prefix('!') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, filter.as_str()),
        };
        let mut part = Part { all: self.last.len(), failed: self.failed, ..Part::default() };
        for entry in alive {
            let Some(text) = self.text(entry) else { continue };
            // Most lines are out without being understood.
            if !not && !text.to_lowercase().contains(needle) {
                continue;
            }
            let Ok(line) = serde_json::from_str::<HistoryLine>(&text) else { continue };
            if line.words().to_lowercase().contains(needle) == not {
                continue;
            }
            if part.count >= wanted.start && part.lines.len() < wanted.rows {
                part.lines.push(line);
            }
            part.count = part.count.saturating_add(1);
        }
        part
    }

    /// Returns the line of a task that has ended.
    #[must_use]
    pub fn line(&self, id: TaskId) -> Option<HistoryLine> {
        self.read(self.lines.get(*self.last.get(&id.0)?)?).filter(|line| line.id == id)
    }

    /// Returns the newest line before `before` that `wanted` holds for.
    #[must_use]
    pub fn newest(&self, needle: &str, wanted: impl Fn(&HistoryLine) -> bool) -> Option<HistoryLine> {
        let alive = self.lines.iter().rev().filter(|entry| !entry.over);
        alive
            .filter(|entry| self.text(entry).is_some_and(|text| text.contains(needle)))
            .filter_map(|entry| self.read(entry))
            .find(|line| wanted(line))
    }

    /// Returns each user's highest number of a task of this name that the history has.
    ///
    /// # Errors
    /// When it cannot be read.
    fn named(&self, layout: &Layout, name: &str) -> Result<BTreeMap<u32, TaskId>, SpoolError> {
        #[derive(Deserialize)]
        struct Line {
            submitter: Actor,
        }
        let mut newest = BTreeMap::new();
        let Some(file) = &self.file else { return Ok(newest) };
        // Behind the number, where the daemon writes it; inside of a string a quotation mark has a backslash before it.
        let wanted = format!(",\"name\":{},", serde_json::Value::from(name));
        let read = each_line(file, 0, self.offset, |line| {
            let Some((id, rest)) = numbered(line) else { return };
            if rest.starts_with(wanted.as_bytes())
                && let Ok(Line { submitter }) = serde_json::from_slice(line)
            {
                let known = newest.entry(submitter.uid).or_insert(TaskId(id));
                *known = (*known).max(TaskId(id));
            }
        });
        read.map_err(|e| SpoolError::io("read", &layout.history(), e))?;
        Ok(newest)
    }

    fn text(&self, entry: &Entry) -> Option<String> {
        let mut bytes = vec![0; entry.length as usize];
        self.file.as_ref()?.read_exact_at(&mut bytes, entry.offset).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn read(&self, entry: &Entry) -> Option<HistoryLine> {
        serde_json::from_str(&self.text(entry)?).ok()
    }
}

/// Reads whole lines from an offset on, up to another one, piece by piece.
fn each_line(file: &File, from: u64, until: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut rest: Vec<u8> = Vec::new();
    let mut at = from;
    while at < until {
        let wanted = usize::try_from(until.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
        let read = file.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        at = at.saturating_add(read as u64);
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..read]) {
            if rest.is_empty() {
                each(&buffer[begin..end]);
            } else {
                rest.extend_from_slice(&buffer[begin..end]);
                each(&rest);
                rest.clear();
            }
            begin = end.saturating_add(1);
        }
        rest.extend_from_slice(&buffer[begin..read]);
    }
    Ok(())
}

/// Returns the number that a line begins with, and what stands behind it.
fn numbered(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(b"{\"id\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some((id, &rest[digits..]))
}

/// Finds each user's newest task that was dropped under a name: names are their users' own. The history has the names of those
/// that have ended; of the others the first line of the journal is looked at, and no more.
///
/// # Errors
/// When the history or the runs cannot be read.
pub fn newest_named(layout: &Layout, ids: &[TaskId], name: &str) -> Result<BTreeMap<u32, TaskId>, SpoolError> {
    let mut past = Past::default();
    past.look(layout)?;
    let mut newest = past.named(layout, name)?;
    newest.retain(|_, id| ids.binary_search(id).is_ok());
    for id in ids.iter().filter(|id| !past.has_ended(**id)) {
        if let Some((_, uid)) = reader::name_of(layout, *id).filter(|(known, _)| known == name) {
            let known = newest.entry(uid).or_insert(*id);
            *known = (*known).max(*id);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn line(id: u64, name: &str, outcome: &str) -> String {
        let digest = crate::base::digest::Digest::of(b"");
        format!(
            "{{\"id\":{id},\"name\":\"n\",\"task_name\":\"{name}\",\"work\":\"w\",\"submitter\":{{\"uid\":1,\"user\":\"u\"}},\
             \"outcome\":\"{outcome}\",\"accepted_at\":\"2026-11-21T00:00:00.000Z\",\"started\":null,\
             \"ended\":\"2026-11-21T00:00:01.000Z\",\"hosts\":1,\"hosts_not_ok\":0,\"submission\":\"{digest}\"}}\n"
        )
    }

    fn ids(part: &Part) -> Vec<u64> {
        part.lines.iter().map(|line| line.id.0).collect()
    }

    #[test]
    fn a_task_is_found_by_its_name_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let named = |id: u64, name: &str| {
            let name = serde_json::Value::from(name).to_string();
            line(id, "t", "ok").replace("\"name\":\"n\"", &format!("\"name\":{name}"))
        };
        // Ends do not come in the order of numbers, and a name may stand where another one's words do.
        let odd = "\",\"name\":\"a\",\"";
        let history =
            named(3, "a") + &named(1, "a") + &named(2, "b") + &named(5, odd) + "{\"id\":3,\"reopened\":true}\n";
        std::fs::write(layout.history(), history).unwrap();
        let unfinished = |id: u64, name: &str| {
            let event = format!("{{\"at\":\"2026-11-21T00:00:00.000Z\",\"event\":\"accepted\",\"name\":\"{name}\"");
            std::fs::create_dir_all(layout.run(TaskId(id))).unwrap();
            let by = format!(",\"by\":{{\"uid\":{},\"user\":\"u\"}}}}\n", if id == 8 { 2 } else { 1 });
            std::fs::write(layout.events(TaskId(id)), event + &by).unwrap();
        };
        unfinished(4, "c");
        unfinished(6, "b");
        let ids: Vec<TaskId> = (1..=6).map(TaskId).collect();
        let find = |name: &str| newest_named(&layout, &ids, name).unwrap().get(&1).map(|id| id.0);
        let found = ["a", "b", "c", odd, "d", ""].map(find);
        assert_eq!(found, [Some(3), Some(6), Some(4), Some(5), None, None]);
        unfinished(6, "a");
        assert_eq!((find("a"), find("b")), (Some(6), Some(2)));
        // A task whose directory is gone is none.
        assert!(newest_named(&layout, &ids[..1], "b").unwrap().is_empty());
        // Somebody else's task of the same name is another one.
        unfinished(8, "a");
        let both = newest_named(&layout, &[TaskId(1), TaskId(6), TaskId(8)], "a").unwrap();
        assert_eq!(both.into_iter().map(|(uid, id)| (uid, id.0)).collect::<Vec<_>>(), [(1, 6), (2, 8)]);
    }

    #[test]
    fn the_last_end_of_a_task_counts_and_parts_are_cut_from_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let mut past = Past::default();
        assert!(!past.look(&layout).unwrap());
        std::fs::write(layout.history(), line(1, "Alpha", "ok") + &line(2, "beta", "failed") + &line(3, "gamma", "ok"))
            .unwrap();
        assert!(past.look(&layout).unwrap());
        assert!(!past.look(&layout).unwrap());
        let all = Wanted { rows: 10, ..Wanted::default() };
        assert_eq!(ids(&past.part(&all)), [3, 2, 1]);
        assert_eq!(past.part(&all).failed, 1);
        assert_eq!(ids(&past.part(&Wanted { start: 1, rows: 1, ..all.clone() })), [2]);
        assert_eq!(ids(&past.part(&Wanted { filter: "ALPHA".to_owned(), ..all.clone() })), [1]);
        assert_eq!(ids(&past.part(&Wanted { filter: "!alpha".to_owned(), ..all.clone() })), [3, 2]);
        assert_eq!(ids(&past.part(&Wanted { failed_only: true, ..all.clone() })), [2]);
        let mut file = std::fs::OpenOptions::new().append(true).open(layout.history()).unwrap();
        write!(file, "{{\"id\":2,\"reopened\":true}}\n{}", &line(2, "beta", "ok")[..30]).unwrap();
        past.look(&layout).unwrap();
        assert_eq!((ids(&past.part(&all)), past.part(&all).count, past.part(&all).failed), (vec![3, 1], 2, 0));
        write!(file, "{}", &line(2, "beta", "ok")[30..]).unwrap();
        past.look(&layout).unwrap();
        assert_eq!(ids(&past.part(&all)), [2, 3, 1]);
        write!(file, "{}{}", line(4, "not ok", "rejected"), line(5, "stopped", "cancelled")).unwrap();
        past.look(&layout).unwrap();
        assert_eq!((past.part(&all).count, past.part(&all).failed), (5, 0), "what people end has not failed");
        assert_eq!(past.newest("\"work\":\"w\"", |line| line.id.0 < 2).unwrap().id.0, 1);
    }
}
