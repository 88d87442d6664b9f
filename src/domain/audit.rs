//! The audit: one line an act, each holding the digest of the line before.
//!
//! **Invariant:** pure. A line that was changed, removed, added or moved breaks the chain at the line after it; a removed
//! end is found by whoever remembers a later digest, or knows of an act that the end held.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{Actor, TaskId};
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::problem::Problem;
use crate::domain::run::{Act, TaskState};

/// The act of a line that says that lines are missing before it.
pub const CUT: &str = "audit_cut";
/// The act of a line by which somebody takes note of a cut.
pub const CUT_ACKNOWLEDGED: &str = "audit_cut_acknowledged";

/// A file that was not taken.
#[derive(Clone, Copy, Debug)]
pub struct RefusedFile<'a> {
    /// The name of the box that it stood in.
    pub drop_box: &'a str,
    /// What it was called.
    pub name: &'a str,
    /// The digest of its bytes, if they were read.
    pub digest: Option<Digest>,
}

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who; `None` for the daemon itself.
    pub by: Option<Actor>,
    /// What.
    pub act: String,
    /// On which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Which line of the task's journal, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// The digest of the task's journal up to that line and with it; whoever writes the line knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Digest>,
    /// Whether the line was missing when the daemon started, and added from the journal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovered: bool,
    /// The state before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TaskState>,
    /// The state after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<TaskState>,
    /// The plan it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// The number of the line of the audit that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is known beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Entry {
    /// Returns the entry of an act on a task.
    #[must_use]
    pub fn of(task: TaskId, act: &Act) -> Entry {
        Entry {
            at: act.at,
            by: act.by.clone(),
            act: act.act.clone(),
            task: Some(task),
            event: Some(act.event),
            journal: None,
            recovered: false,
            from: act.from,
            to: Some(act.to),
            plan: Some(act.plan),
            line: None,
            detail: act.detail.clone(),
        }
    }

    /// Returns the entry of a file from `drop_box` that was not taken, about an ended task or none: its name and digest, and
    /// the first thing wrong with it.
    #[must_use]
    pub fn of_refused(
        at: Timestamp,
        by: Option<&Actor>,
        task: Option<TaskId>,
        file: &RefusedFile<'_>,
        problems: &[Problem],
    ) -> Entry {
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count.saturating_sub(1)),
        };
        let why = problems.first().map(ToString::to_string).unwrap_or_default();
        let digest = file.digest.map(|digest| format!(" {digest}")).unwrap_or_default();
        let detail = format!("{}/{}{digest}: {why}{more}", file.drop_box, visible(file.name));
        Entry { by: by.cloned(), task, ..Entry::of_daemon(at, "refused", Some(detail)) }
    }

    /// Returns the entry of something the daemon did that is about no task.
    #[must_use]
    pub fn of_daemon(at: Timestamp, act: &str, detail: Option<String>) -> Entry {
        let act = act.to_owned();
        let (journal, recovered) = (None, false);
        Entry {
            at,
            by: None,
            act,
            task: None,
            event: None,
            journal,
            recovered,
            from: None,
            to: None,
            plan: None,
            line: None,
            detail,
        }
    }

    /// Returns the entry of somebody who takes note of the cut that a line speaks of.
    #[must_use]
    pub fn of_acknowledged(at: Timestamp, by: Actor, line: u64, reason: String) -> Entry {
        Entry { by: Some(by), line: Some(line), ..Entry::of_daemon(at, CUT_ACKNOWLEDGED, Some(reason)) }
    }
}

/// A line: an entry in its place of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub seq: u64,
    /// The digest of the line before, without its line feed; of nothing for the first.
    pub prev: Digest,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last line's number; 0 before the first.
    pub seq: u64,
    /// The last line's digest.
    pub digest: Digest,
}

impl Default for Head {
    fn default() -> Head {
        Head { seq: 0, digest: Digest::of(b"") }
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.digest)
    }
}

impl std::str::FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Head, &'static str> {
        const WANTED: &str = "a line's number and its digest: 12:sha256:…";
        let (seq, digest) = text.split_once(':').ok_or(WANTED)?;
        Ok(Head { seq: seq.parse().map_err(|_| WANTED)?, digest: digest.parse().map_err(|_| WANTED)? })
    }
}

impl Head {
    /// Writes the next line, with its line feed, and moves on to it.
    pub fn write(&mut self, entry: Entry) -> Vec<u8> {
        let line = Line { seq: self.seq.saturating_add(1), prev: self.digest, entry };
        let mut bytes = serde_json::to_vec(&line).expect("a line holds nothing that JSON cannot say");
        *self = Head { seq: line.seq, digest: Digest::of(&bytes) };
        bytes.push(b'\n');
        bytes
    }

    /// Checks that `line`, without its line feed, is the next one, and moves on to it; `digest` is the line's own.
    ///
    /// # Errors
    /// What is wrong with it; the head stays.
    pub fn follow(&mut self, line: &[u8], digest: Digest) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Links {
            seq: u64,
            prev: Digest,
        }
        // As every line begins that was written here; what is said in it is covered by the next line's link.
        let number = self.seq.saturating_add(1).to_string();
        let links = line
            .strip_prefix(b"{\"seq\":")
            .and_then(|rest| rest.strip_prefix(number.as_bytes()))
            .and_then(|rest| rest.strip_prefix(b",\"prev\":\"sha256:"))
            .and_then(|rest| rest.strip_prefix(self.digest.hex().as_bytes()))
            .is_some_and(|rest| rest.starts_with(b"\","));
        if links {
            *self = Head { seq: self.seq.saturating_add(1), digest };
            return Ok(());
        }
        let links: Links = serde_json::from_slice(line).map_err(|_| Fault::Unreadable)?;
        if links.prev != self.digest {
            return Err(if links.seq == self.seq.saturating_add(1) {
                Fault::Changed
            } else {
                Fault::Missing { wanted: self.seq.saturating_add(1) }
            });
        }
        if links.seq != self.seq.saturating_add(1) {
            return Err(Fault::Missing { wanted: self.seq.saturating_add(1) });
        }
        *self = Head { seq: links.seq, digest };
        Ok(())
    }
}

/// What the daemon remembers of the chain beside it, in `audit/head`: a chain that ends before this end was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastEnd {
    /// Where it ended last.
    pub head: Head,
    /// The lines that speak of cuts which nobody took note of yet.
    pub cuts: BTreeSet<u64>,
}

impl std::fmt::Display for LastEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.head)?;
        self.cuts.iter().try_for_each(|line| write!(f, "\ncut {line}"))
    }
}

impl std::str::FromStr for LastEnd {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LastEnd, &'static str> {
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default().parse()?;
        let cut = |line: &str| line.strip_prefix("cut ").and_then(|number| number.parse().ok());
        let cuts = lines.map(|line| cut(line).ok_or("cut and the number of a line")).collect::<Result<_, _>>()?;
        Ok(LastEnd { head, cuts })
    }
}

/// What a line says of a task's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboutJournal {
    /// Which task.
    pub task: TaskId,
    /// Which line of its journal, from 0.
    pub event: u64,
    /// The digest of the journal up to that line; lines of older daemons have none.
    pub digest: Option<Digest>,
}

/// Returns what a line says of a task's journal, without reading all of the line; nothing where it is about none. Inside of
/// strings a quotation mark has a backslash before it, so the word stands for itself.
#[must_use]
pub fn about_journal(line: &[u8]) -> Option<AboutJournal> {
    let number = |text: &'_ str| text.find(|c: char| !c.is_ascii_digit());
    let rest = std::str::from_utf8(line).ok()?.split_once("\"task\":")?.1;
    let (task, rest) = rest.split_at(number(rest)?);
    let rest = rest.strip_prefix(",\"event\":")?;
    let (event, rest) = rest.split_at(number(rest)?);
    let digest = rest.strip_prefix(",\"journal\":\"").and_then(|rest| rest.split_once('"')?.0.parse().ok());
    Some(AboutJournal { task: TaskId(task.parse().ok()?), event: event.parse().ok()?, digest })
}

/// What is wrong with a line of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not a line of an audit.
    #[error("it cannot be read as a line of the audit")]
    Unreadable,
    /// The line before it is not the one it was written after.
    #[error("the line before it was changed, or this one's link to it")]
    Changed,
    /// It is not the line that comes next.
    #[error("expected line {wanted} here: lines were removed, added or moved")]
    Missing {
        /// The number of the line that was to come.
        wanted: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: i64) -> Vec<Vec<u8>> {
        let mut head = Head::default();
        let entry = |n| Entry::of_daemon(Timestamp(n), "reloaded", Some(format!("line {n}")));
        (0..count).map(|n| head.write(entry(n))).map(|mut line| (line.pop(), line).1).collect()
    }

    /// Returns the number of the first line that does not follow, from 1, and the head before it.
    fn follow(lines: &[Vec<u8>]) -> (Option<usize>, Head) {
        let mut head = Head::default();
        let broken = lines.iter().position(|line| head.follow(line, Digest::of(line)).is_err());
        (broken.map(|n| n + 1), head)
    }

    #[test]
    fn a_chain_follows_itself_and_remembers_its_end() {
        let lines = chain(20);
        let (broken, head) = follow(&lines);
        assert_eq!((broken, head.seq), (None, 20));
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_ne!(follow(&lines[..19]).1, head, "a removed end shows to who remembers it");
    }

    #[test]
    fn what_is_remembered_of_the_chain_is_read_as_it_was_written() {
        let (_, head) = follow(&chain(7));
        for cuts in [vec![], vec![3], vec![3, 12]] {
            let known = LastEnd { head, cuts: cuts.into_iter().collect() };
            assert_eq!(known.to_string().parse(), Ok(known));
        }
        // What an older daemon wrote is the end alone.
        assert_eq!(head.to_string().parse(), Ok(LastEnd { head, cuts: BTreeSet::new() }));
        for text in ["", "7", "7:sha256:12", &format!("{head}\ncut"), &format!("{head}\ncut x"), &format!("{head}\n\n")]
        {
            assert!(text.parse::<LastEnd>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_task_of_a_line_is_its_own_and_not_one_that_its_words_name() {
        let mut entry =
            Entry::of_daemon(Timestamp(1), "rejected", Some("see \"task\":99 and {\"task\":98}".to_owned()));
        let check = |entry: &Entry, want: Option<(u64, u64, Option<Digest>)>| {
            let line = Head::default().write(entry.clone());
            let line = &line[..line.len() - 1];
            assert_eq!(Head::default().follow(line, Digest::of(line)), Ok(()));
            let about = about_journal(line).map(|about| (about.task.0, about.event, about.digest));
            assert_eq!(about, want, "{}", String::from_utf8_lossy(line));
        };
        check(&entry, None);
        entry.by = Some(Actor { uid: 1, user: "\"task\":97".to_owned() });
        check(&entry, None);
        entry.task = Some(TaskId(12));
        check(&entry, None);
        entry.event = Some(3);
        check(&entry, Some((12, 3, None)));
        (entry.journal, entry.recovered) = (Some(Digest::of(b"x")), true);
        check(&entry, Some((12, 3, Some(Digest::of(b"x")))));
    }

    #[test]
    fn whatever_is_done_to_a_line_shows_there_or_after_it() {
        let lines = chain(12);
        for n in 0..12 {
            let mut removed = lines.clone();
            removed.remove(n);
            let expected = if n == 11 { None } else { Some(n + 1) };
            assert_eq!(follow(&removed).0, expected, "line {n} removed");
            let mut doubled = lines.clone();
            doubled.insert(n, lines[n].clone());
            assert_eq!(follow(&doubled).0, Some(n + 2), "line {n} doubled");
            if n < 11 {
                let mut swapped = lines.clone();
                swapped.swap(n, n + 1);
                assert_eq!(follow(&swapped).0, Some(n + 1), "lines {n} and after it swapped");
            }
        }
    }
}
