//! The audit's files: `audit/YYYY-MM.jsonl`, one chain over all of them. Floor 3.
//!
//! **Invariant:** only the store appends, and a line is durable together with the event it stands for. After a power cut
//! the last line may be torn; it is kept aside as `audit/torn`, and the chain goes on with a line that says so.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::store::FILE_MODE;
use crate::adapters::spool::{SpoolError, fault_point};
use crate::base::ids::TaskId;
use crate::domain::audit::{Entry, Fault, Head};

/// The open end of the audit.
#[derive(Debug)]
pub(super) struct AuditLog {
    dir: PathBuf,
    head: Head,
    /// The newest file's name without ending; lines never go to an older one, whatever the clock says.
    month: String,
    file: Option<File>,
}

impl AuditLog {
    /// Finds the end of the chain and cuts off what a power cut left of a line.
    pub(super) fn open(layout: &Layout) -> Result<AuditLog, SpoolError> {
        let dir = layout.audit();
        let mut log = AuditLog { dir, head: Head::default(), month: String::new(), file: None };
        let mut torn = None;
        for path in files(layout)?.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|e| SpoolError::io("read", &path, e))?;
            let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            let whole = bytes[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            if log.month.is_empty() {
                log.month = month_of(&path);
                if whole < bytes.len() {
                    torn = Some((path.clone(), bytes[whole..].to_vec(), whole));
                }
            }
            if let Some(last) = bytes[..whole].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()) {
                log.head = head_of(last).ok_or_else(|| {
                    let why = io::Error::other("its last line is no line of an audit; put the right file there, or move it away to begin a new chain");
                    SpoolError::io("go on with", &path, why)
                })?;
                break;
            }
        }
        if let Some((path, rest, whole)) = torn {
            log.set_aside(&path, &rest, whole)?;
        }
        Ok(log)
    }

    fn set_aside(&mut self, path: &Path, rest: &[u8], whole: usize) -> Result<(), SpoolError> {
        let aside = self.dir.join("torn");
        let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&aside);
        let mut commit = Commit::default();
        let kept = opened.and_then(|mut file| file.write_all(rest).map(|()| file));
        commit.file(&aside, kept.map_err(|e| SpoolError::io("append to", &aside, e))?);
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64).map(|()| file));
        commit.file(path, cut.map_err(|e| SpoolError::io("cut", path, e))?);
        commit.run()
    }

    /// Returns where the chain ends.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Adds lines; they are durable when the commit has run.
    pub(super) fn append(&mut self, entries: Vec<Entry>, commit: &mut Commit) -> Result<(), SpoolError> {
        let mut pending: Vec<u8> = Vec::new();
        for entry in entries {
            let month: String = entry.at.to_string().chars().take("YYYY-MM".len()).collect();
            if month > self.month {
                self.flush(&mut pending, commit)?;
                self.month = month;
                self.file = None;
            }
            pending.extend(self.head.write(entry));
        }
        self.flush(&mut pending, commit)
    }

    fn flush(&mut self, pending: &mut Vec<u8>, commit: &mut Commit) -> Result<(), SpoolError> {
        if pending.is_empty() {
            return Ok(());
        }
        let path = self.dir.join(format!("{}.jsonl", self.month));
        let fail = |act| {
            let path = path.clone();
            move |e: io::Error| SpoolError::io(act, &path, e)
        };
        fault_point("append to", &path)?;
        if self.file.is_none() {
            let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&path);
            self.file = Some(opened.map_err(fail("open"))?);
            commit.dir(self.dir.clone());
        }
        if let Some(file) = &mut self.file {
            file.write_all(pending).map_err(fail("append to"))?;
            commit.file(&path, file.try_clone().map_err(fail("append to"))?);
        }
        pending.clear();
        Ok(())
    }
}

fn month_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the head that a line is.
fn head_of(line: &[u8]) -> Option<Head> {
    let parsed: crate::domain::audit::Line = serde_json::from_slice(line).ok()?;
    Some(Head { seq: parsed.seq, digest: crate::base::digest::Digest::of(line) })
}

/// Returns the audit's files, the oldest first; none where there is no audit.
///
/// # Errors
/// When the directory is there and cannot be listed.
pub fn files(layout: &Layout) -> Result<Vec<PathBuf>, SpoolError> {
    let dir = layout.audit();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SpoolError::io("list", &dir, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| SpoolError::io("list", &dir, e))?.path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Goes through every line of the audit, in order; `each` says whether to go on.
///
/// # Errors
/// When a file cannot be read.
pub fn lines(layout: &Layout, mut each: impl FnMut(&Path, usize, &[u8]) -> bool) -> Result<(), SpoolError> {
    for path in files(layout)? {
        let mut reader =
            BufReader::with_capacity(1 << 20, File::open(&path).map_err(|e| SpoolError::io("open", &path, e))?);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(|e| SpoolError::io("read", &path, e))?;
            number += 1;
            // A line without its end is still written.
            if read == 0 || line.pop() != Some(b'\n') {
                break;
            }
            if !each(&path, number, &line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns for each of these tasks the last line of its journal that the audit has.
pub(super) fn audited(layout: &Layout, tasks: &[TaskId]) -> Result<BTreeMap<TaskId, u64>, SpoolError> {
    #[derive(serde::Deserialize)]
    struct About {
        task: Option<TaskId>,
        event: Option<u64>,
    }
    let mut found = BTreeMap::new();
    if tasks.is_empty() {
        return Ok(found);
    }
    let wanted: std::collections::HashSet<TaskId> = tasks.iter().copied().collect();
    lines(layout, |_, _, line| {
        if let Ok(About { task: Some(task), event: Some(event) }) = serde_json::from_slice(line)
            && wanted.contains(&task)
        {
            found.insert(task, event);
        }
        true
    })?;
    Ok(found)
}

/// What a look at the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where the chain ends, as far as it holds.
    pub head: Head,
    /// The first line that is wrong: its file, its number there from 1, and what is wrong.
    pub broken: Option<(PathBuf, usize, Fault)>,
    /// Whether the chain passes through the head that was asked for.
    pub passes: bool,
    /// The tasks whose end the audit has.
    pub closed: std::collections::HashSet<TaskId>,
}

/// Checks every link of the chain, and whether it passes through `known`, a head that somebody remembered outside.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(layout: &Layout, known: Option<Head>) -> Result<Verified, SpoolError> {
    #[derive(serde::Deserialize)]
    struct Closed<'a> {
        act: &'a str,
        task: Option<TaskId>,
    }
    let mut head = Head::default();
    let mut passes = known.is_none_or(|known| known == head);
    let (mut broken, mut closed) = (None, std::collections::HashSet::new());
    lines(layout, |path, number, line| {
        if let Err(fault) = head.follow(line) {
            broken = Some((path.to_owned(), number, fault));
            return false;
        }
        passes |= known.is_some_and(|known| known == head);
        // Only these are looked at closely: reading every line's words would take most of the time.
        if line.windows(CLOSED.len()).any(|window| window == CLOSED)
            && let Ok(Closed { act: "closed", task: Some(task) }) = serde_json::from_slice(line)
        {
            closed.insert(task);
        }
        true
    })?;
    Ok(Verified { head, broken, passes, closed })
}

/// How the line of a task's end says what it is.
const CLOSED: &[u8] = b"\"act\":\"closed\"";
