//! The audit's files: `audit/YYYY-MM.jsonl`, one chain over all of them. Floor 3.
//!
//! **Invariant:** only the store appends, and a line is written after the event it stands for is durable. After a power cut
//! the last line may be torn; it is kept aside as `audit/torn`, and the chain goes on with a line that says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::FILE_MODE;
use crate::adapters::spool::audit_head::{self, HeadFile, Memory};
use crate::adapters::spool::commit::Commit;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{SpoolError, fault_point};
use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::{AboutJournal, CUT, CUT_ACKNOWLEDGED, Entry, Fault, Head, LastEnd, Line, about_journal};

/// The open end of the audit.
#[derive(Debug)]
pub(super) struct AuditLog {
    dir: PathBuf,
    head: Head,
    /// The newest file's name without ending; lines never go to an older one, whatever the clock says.
    month: String,
    file: Option<File>,
    /// How long that file is, as far as it was written here.
    length: u64,
    /// What was cut off, until a line says so.
    torn: Option<String>,
    /// What somebody removed, until a line says so.
    cut: Option<String>,
    /// What is remembered of the end.
    memory: HeadFile,
    /// Changes of it that come with the lines that are being written.
    cuts: Vec<(u64, bool)>,
}

impl AuditLog {
    /// Finds the end of the chain and cuts off what a power cut left of a line.
    pub(super) fn open(layout: &Layout) -> Result<AuditLog, SpoolError> {
        let memory = audit_head::read(layout)?;
        let mut log = AuditLog {
            dir: layout.audit(),
            head: Head::default(),
            month: String::new(),
            file: None,
            length: 0,
            torn: None,
            cut: None,
            memory: HeadFile::new(layout, memory.clone()),
            cuts: Vec::new(),
        };
        let mut torn = None;
        for path in files(layout)?.into_iter().rev() {
            let bytes = fs::read(&path).map_err(|e| SpoolError::io("read", &path, e))?;
            let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            // A power cut leaves zeros at the end; whole lines after them are damage of another kind.
            if bytes[written..].split(|byte| *byte == b'\n').any(|line| head_of(line).is_some()) {
                return Err(damaged(&path, &bytes, written, "zeros stand in it, and lines after them"));
            }
            let whole = bytes[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
            if log.month.is_empty() {
                log.month = month_of(&path);
                log.length = whole as u64;
                if whole < bytes.len() {
                    torn = Some((path.clone(), bytes[whole..].to_vec(), whole));
                }
            }
            if let Some(end) = bytes[..whole].iter().rposition(|byte| *byte != b'\n') {
                let begin =
                    bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before.saturating_add(1));
                let last = head_of(&bytes[begin..=end]);
                log.head = last.ok_or_else(|| damaged(&path, &bytes, begin, "it is no line of an audit"))?;
                break;
            }
        }
        if let Some((path, rest, whole)) = torn {
            log.set_aside(&path, &rest, whole)?;
        }
        log.cut = cut_since(layout, &memory, log.head)?;
        if log.cut.is_none() {
            log.remember()?;
        }
        Ok(log)
    }

    /// Remembers where the chain ends; what was written of it is durable by now.
    pub(super) fn remember(&mut self) -> Result<(), SpoolError> {
        let changes = std::mem::take(&mut self.cuts);
        self.memory.write(self.head, |known| {
            for (line, open) in changes {
                if open {
                    known.cuts.insert(line)
                } else {
                    known.cuts.remove(&line)
                };
            }
        })
    }

    /// Returns the line that says what somebody removed from the chain, if somebody did since the last daemon.
    pub(super) fn take_cut(&mut self, now: Timestamp) -> Option<Entry> {
        self.cut.take().map(|what| Entry::of_daemon(now, CUT, Some(what)))
    }

    /// Returns the lines that speak of cuts which nobody took note of.
    pub(super) fn open_cuts(&self) -> &BTreeSet<u64> {
        &self.memory.known().cuts
    }

    fn set_aside(&mut self, path: &Path, rest: &[u8], whole: usize) -> Result<(), SpoolError> {
        let aside = self.dir.join("torn");
        let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&aside);
        let mut commit = Commit::default();
        let kept = opened.and_then(|mut file| file.write_all(rest).map(|()| file));
        commit.file(&aside, kept.map_err(|e| SpoolError::io("append to", &aside, e))?);
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64).map(|()| file));
        commit.file(path, cut.map_err(|e| SpoolError::io("cut", path, e))?);
        commit.run()?;
        self.torn = Some(format!("{} byte(s) with the digest {}", rest.len(), Digest::of(rest)));
        Ok(())
    }

    /// Returns where the chain ends.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Adds lines; they are durable when the commit has run.
    pub(super) fn append(&mut self, entries: Vec<Entry>, commit: &mut Commit) -> Result<(), SpoolError> {
        let mut pending: Vec<u8> = Vec::new();
        let at = entries.first().map(|entry| entry.at);
        let torn = at.and_then(|at| Some(Entry::of_daemon(at, "audit_torn", Some(self.torn.take()?))));
        let cut = at.and_then(|at| self.take_cut(at));
        for entry in torn.into_iter().chain(cut).chain(entries) {
            let month: String = entry.at.to_string().chars().take("YYYY-MM".len()).collect();
            if month > self.month {
                self.flush(&mut pending, commit)?;
                self.month = month;
                (self.file, self.length) = (None, 0);
            }
            let about = (entry.act == CUT_ACKNOWLEDGED).then_some(entry.line).flatten().map(|line| (line, false));
            let cut = (entry.act == CUT).then_some((self.head.seq.saturating_add(1), true));
            self.cuts.extend(about.or(cut));
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
            still_ours(file, self.length, &path).map_err(fail("append to"))?;
            file.write_all(pending).map_err(fail("append to"))?;
            self.length = self.length.saturating_add(pending.len() as u64);
            commit.file(&path, file.try_clone().map_err(fail("append to"))?);
        }
        pending.clear();
        Ok(())
    }
}

/// Checks that the open file is the one that has the name, and as long as it was left: what is added to another one would be
/// read by nobody, or stand behind lines that somebody removed.
fn still_ours(file: &File, length: u64, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let held = file.metadata()?;
    let same = fs::symlink_metadata(path).is_ok_and(|named| (held.dev(), held.ino()) == (named.dev(), named.ino()));
    match (same, held.len() == length) {
        (false, _) => Err(io::Error::other("it was replaced or removed; put the right one there and start the daemon")),
        (true, false) => {
            let why = format!(
                "somebody else changed it: it has {} bytes and had {length}; put the right one there and start the daemon",
                held.len()
            );
            Err(io::Error::other(why))
        }
        (true, true) => Ok(()),
    }
}

/// Says what was removed from a chain that ends at `end`, by what is remembered of it; nothing where nothing was.
fn cut_since(layout: &Layout, memory: &Memory, end: Head) -> Result<Option<String>, SpoolError> {
    let known = match memory {
        Memory::Of(LastEnd { head, .. }) => *head,
        Memory::Lost if end.seq > 0 => {
            let what = format!(
                "audit/head, which remembers where the chain ended, is gone; nobody can tell whether lines after line {} were removed",
                end.seq
            );
            return Ok(Some(what));
        }
        // Every task has a line: where there are tasks, there was an audit.
        Memory::Lost => {
            let has_tasks = fs::read_dir(layout.runs()).is_ok_and(|mut entries| entries.next().is_some());
            return Ok(has_tasks.then(|| "the whole audit is gone, and there are tasks".to_owned()));
        }
    };
    if known.seq > end.seq {
        let (count, ended, at) = (known.seq.saturating_sub(end.seq), known.seq, end.seq);
        return Ok(Some(format!(
            "{count} line(s) were removed: the chain ended at line {ended}, and ends at line {at}"
        )));
    }
    let found = head_at(layout, known.seq, end)?;
    Ok((found != Some(known)).then(|| {
        let line = known.seq;
        format!("the chain was written anew: its line {line} is not the one that the daemon wrote ({known})")
    }))
}

/// Returns the head that a chain had at line `seq`, looking for it from its end on.
fn head_at(layout: &Layout, seq: u64, end: Head) -> Result<Option<Head>, SpoolError> {
    if seq == end.seq || seq == 0 {
        return Ok(Some(if seq == 0 { Head::default() } else { end }));
    }
    let mut back = end.seq.saturating_sub(seq);
    for path in files(layout)?.into_iter().rev() {
        let bytes = fs::read(&path).map_err(|e| SpoolError::io("read", &path, e))?;
        for line in bytes.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()) {
            if back == 0 {
                return Ok(head_of(line));
            }
            back = back.saturating_sub(1);
        }
    }
    Ok(None)
}

/// Says what is wrong with the line that byte `at` stands in, and what to do.
fn damaged(path: &Path, bytes: &[u8], at: usize, why: &'static str) -> SpoolError {
    let begin = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
    let line = memchr::memchr_iter(b'\n', &bytes[..begin]).count().saturating_add(1);
    SpoolError::Damaged { path: path.to_owned(), line, begin, why }
}

fn month_of(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the head that a line is.
pub(super) fn head_of(line: &[u8]) -> Option<Head> {
    let parsed: Line = serde_json::from_slice(line).ok()?;
    Some(Head { seq: parsed.seq, digest: Digest::of(line) })
}

/// Whether a file is called `YYYY-MM.jsonl`; a copy that somebody put beside it is none of the chain.
fn is_month(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((year, month)) = name.strip_suffix(".jsonl").and_then(|stem| stem.split_once('-')) else { return false };
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(year, 4) && digits(month, 2)
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
        if is_month(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Goes through every whole line of the audit, in order; `each` says whether to go on.
///
/// # Errors
/// When a file cannot be read.
pub fn lines(layout: &Layout, mut each: impl FnMut(&Path, usize, &[u8]) -> bool) -> Result<(), SpoolError> {
    for path in files(layout)? {
        let file = File::open(&path).map_err(|e| SpoolError::io("open", &path, e))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut line, mut number) = (Vec::new(), 0_usize);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(|e| SpoolError::io("read", &path, e))?;
            number = number.saturating_add(1);
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

/// Returns how many acts the audit has of each task, and the last line of its journal among them.
///
/// # Errors
/// When a file cannot be read.
pub fn acts(layout: &Layout) -> Result<HashMap<TaskId, (u64, u64)>, SpoolError> {
    let mut found: HashMap<TaskId, (u64, u64)> = HashMap::new();
    lines(layout, |_, _, line| {
        if let Some(about) = about_journal(line) {
            let known = found.entry(about.task).or_default();
            *known = (known.0.saturating_add(1), known.1.max(about.event));
        }
        true
    })?;
    Ok(found)
}

/// Returns the lines that speak of cuts which nobody took note of, as the daemon remembers them.
///
/// # Errors
/// When `audit/head` is there and cannot be read.
pub fn open_cuts(layout: &Layout) -> Result<BTreeSet<u64>, SpoolError> {
    Ok(match audit_head::read(layout)? {
        Memory::Of(known) => known.cuts,
        Memory::Lost => BTreeSet::new(),
    })
}

/// A line that says that lines were removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The line.
    pub line: Line,
    /// The line by which somebody took note of it.
    pub acknowledged: Option<Line>,
}

/// Whether the daemon's memory of the end agrees with the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastKnown {
    /// The chain passes through the end that the daemon wrote last.
    Passes,
    /// It does not.
    Differs(Head),
    /// Nothing is remembered.
    Lost,
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
    /// Whether it passes through the head that the daemon wrote last.
    pub last: LastKnown,
    /// The lines that say that something was removed, in their order.
    pub cuts: Vec<Cut>,
    /// Whether the newest file ends in the middle of a line.
    pub unfinished: bool,
    /// What the audit has of each task's journal.
    pub journals: HashMap<TaskId, Audited>,
}

/// What the audit has of one task's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// How many acts.
    pub acts: u64,
    /// Up to which line, from 0, and the digest of the journal up to there; by the last line that says.
    pub last: Option<(u64, Digest)>,
}

/// Checks every link of the chain, and whether it passes through `known`, a head that somebody remembered outside.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(layout: &Layout, known: Option<Head>) -> Result<Verified, SpoolError> {
    let last = match audit_head::read(layout)? {
        Memory::Of(LastEnd { head, .. }) => Some(head),
        Memory::Lost => None,
    };
    let newest = files(layout)?.pop();
    let mut head = Head::default();
    let mut found = Verified {
        head,
        broken: None,
        passes: known.is_none_or(|known| known == head),
        last: match last {
            Some(last) if last == head => LastKnown::Passes,
            Some(last) => LastKnown::Differs(last),
            None => LastKnown::Lost,
        },
        cuts: Vec::new(),
        unfinished: false,
        journals: HashMap::new(),
    };
    'files: for path in files(layout)? {
        let mut number = 0_usize;
        let mut blocks = Blocks::open(&path)?;
        while let Some(block) = blocks.next()? {
            for looked in look_at(block) {
                number = number.saturating_add(1);
                let fault = match looked.line.strip_suffix(b"\n") {
                    Some(whole) => head.follow(whole, looked.digest).map(|()| {
                        note_cut(&mut found.cuts, looked.of_cut.as_ref());
                        let Some(about) = looked.about else { return };
                        let known = found.journals.entry(about.task).or_default();
                        known.acts = known.acts.saturating_add(1);
                        known.last = about.digest.map(|digest| (about.event, digest)).or(known.last);
                    }),
                    None if Some(&path) == newest.as_ref() => {
                        found.unfinished = true;
                        break 'files;
                    }
                    None => Err(Fault::Unreadable),
                };
                if let Err(fault) = fault {
                    found.broken = Some((path, number, fault));
                    break 'files;
                }
                found.passes |= known == Some(head);
                if last == Some(head) {
                    found.last = LastKnown::Passes;
                }
            }
        }
    }
    found.head = head;
    Ok(found)
}

/// How much of a file is looked at together: enough to keep every core busy, and little memory.
const BLOCK_BYTES: usize = 8 << 20;

/// A file in blocks of whole lines; the last one may end without a line feed.
struct Blocks {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
    /// How many of the bytes were handed out.
    done: usize,
}

impl Blocks {
    fn open(path: &Path) -> Result<Blocks, SpoolError> {
        let file = File::open(path).map_err(|e| SpoolError::io("open", path, e))?;
        Ok(Blocks { path: path.to_owned(), file, bytes: Vec::new(), done: 0 })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, SpoolError> {
        self.bytes.drain(..self.done);
        self.done = 0;
        loop {
            let before = self.bytes.len();
            let read = Read::by_ref(&mut self.file).take(BLOCK_BYTES as u64).read_to_end(&mut self.bytes);
            let read = read.map_err(|e| SpoolError::io("read", &self.path, e))?;
            let whole = self.bytes[before..]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map(|end| before.saturating_add(end).saturating_add(1));
            self.done = if read == 0 { self.bytes.len() } else { whole.unwrap_or(0) };
            if read == 0 || self.done > 0 {
                return Ok((self.done > 0).then(|| &self.bytes[..self.done]));
            }
        }
    }
}

/// A line, and what can be known of it without the lines before.
struct Looked<'a> {
    /// With its line feed, if it has one.
    line: &'a [u8],
    /// Of the line without it.
    digest: Digest,
    about: Option<AboutJournal>,
    /// The line, where it speaks of a cut.
    of_cut: Option<Line>,
}

/// Adds a cut, or the line by which somebody took note of one.
fn note_cut(cuts: &mut Vec<Cut>, line: Option<&Line>) {
    let Some(line) = line else { return };
    if line.entry.act == CUT {
        return cuts.push(Cut { line: line.clone(), acknowledged: None });
    }
    if let Some(cut) = cuts.iter_mut().find(|cut| Some(cut.line.seq) == line.entry.line) {
        cut.acknowledged.get_or_insert_with(|| line.clone());
    }
}

/// Looks at every line of a block, on all cores.
fn look_at(block: &[u8]) -> Vec<Looked<'_>> {
    let look = |line| {
        let whole = <[u8]>::strip_suffix(line, b"\n").unwrap_or(line);
        // Inside of strings a quotation mark has a backslash before it.
        let speaks = memchr::memmem::find(whole, b"\"act\":\"audit_cut").is_some();
        let of_cut = speaks.then(|| serde_json::from_slice(whole).ok()).flatten();
        Looked { line, digest: Digest::of(whole), about: about_journal(whole), of_cut }
    };
    let cores = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let share = (block.len() / cores).max(1 << 16);
    std::thread::scope(|scope| {
        let mut parts = Vec::new();
        let mut rest = block;
        while !rest.is_empty() {
            let from = share.min(rest.len()).saturating_sub(1);
            let end = rest[from..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(rest.len(), |end| from.saturating_add(end).saturating_add(1));
            let (part, after) = rest.split_at(end);
            rest = after;
            parts.push(scope.spawn(move || part.split_inclusive(|byte| *byte == b'\n').map(look).collect::<Vec<_>>()));
        }
        parts.into_iter().flat_map(|part| part.join().expect("looking does not panic")).collect()
    })
}
