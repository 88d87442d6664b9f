//! What the dashboard is told, and what it asks for.
//!
//! **Invariant:** pure values. The model learns of files, keys and time by messages alone, and does something by commands
//! alone, so that every screen can be made in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossterm::event::{KeyEvent, MouseEvent};

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::reader::Serving;
use crate::base::ids::{HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::audit::Line;
use crate::domain::library::Library;
use crate::domain::output::Stream;
use crate::domain::plan::Plan;
use crate::domain::policy::Part;
use crate::domain::record::{HistoryLine, View};
use crate::domain::run::{Recorded, Run, TaskState};
use crate::engine::DropBox;
use crate::shells::text::coloured;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Message {
    Key(KeyEvent),
    /// A key of several that came faster than people type: of a paste, whatever the terminal calls it, or of a program.
    Burst(KeyEvent),
    Paste(String),
    Mouse(MouseEvent),
    Resize(u16, u16),
    /// The time; comes with whatever else came.
    Tick(Timestamp),
    /// A task stands in a state, with what its file there says.
    Stands(Box<View>, TaskState),
    /// A task stands in none of the states that are listed one by one.
    Gone(TaskId),
    /// A task that was asked for, as it stands.
    Opened(Box<Run>),
    /// What happened to a task since.
    Events(TaskId, Vec<Recorded>),
    /// A task that nobody asks for any more.
    Forgotten(TaskId),
    /// A task that was asked for, and is not there.
    Missing(TaskId),
    /// A task of which this part and what follows from it are for others.
    Withheld(TaskId, Part),
    /// A task's files cannot be read.
    Unreadable(TaskId, String),
    /// The newest lines of the history, how many tasks it has, and how many of them failed.
    Recent {
        all: usize,
        failed: usize,
        lines: Vec<HistoryLine>,
    },
    /// A part of the history: of what was wanted, how many lines pass the filter, where the part begins, and the part.
    History {
        of: HistoryWant,
        count: usize,
        start: usize,
        lines: Vec<HistoryLine>,
    },
    /// The newest lines of the audit, oldest first.
    Audit(Vec<Line>),
    /// The configuration, or everything that is wrong with it.
    Library(Result<Arc<Library>, Vec<String>>),
    /// The daemon that serves the state.
    Daemon(Option<Serving>),
    /// Files were not watched for a while: what is shown may be as old as this.
    WatchLost(bool),
    /// The ends of logs.
    Tails(BTreeMap<LogKey, Tail>),
    /// A page of a log.
    Log(LogPage),
    /// Where a page begins that was asked for by going back.
    LogTop(LogPart, u64),
    /// Where something was found; `None` when it was not.
    Found(LogPart, Option<u64>),
    /// The plan of the last run of the same work.
    Previous(TaskId, Option<(TaskId, Box<Plan>)>),
    /// A file was put into a box, or could not be.
    Dropped(usize, Result<String, String>),
    /// Nobody answered what was dropped.
    Unanswered(usize),
    /// The state cannot be looked at.
    Blind(String),
    /// A dropped task was taken.
    Taken(usize, TaskId),
    /// A dropped file was refused, with the reasons.
    Refused(usize, String),
    /// How many files were refused, and which of them last, when that was asked for.
    Refusals {
        count: usize,
        files: Option<Vec<RefusedFile>>,
    },
    /// How many cuts of the audit nobody took note of.
    Cuts(usize),
    /// A text that was edited by another program, or why it was not.
    Edited(Result<String, NotEdited>),
    /// A screen was written into a file, or could not be.
    Exported(Result<String, String>),
    /// Something to say in the bottom line.
    Say(String),
}

/// What a task would be if it were planned now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    Same,
    Differs(Arc<Plan>),
    Unresolvable(Vec<String>),
}

/// Why a text that was to be edited by another program stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotEdited {
    /// The variable that names the editor cannot be split into words.
    Words { variable: String, command: String },
    /// There is no such program.
    NotFound { variable: String, program: String },
    /// It could not be started.
    Started { program: String, why: String },
    /// It ended, but not well.
    Ended { program: String, how: String },
    /// It left no file.
    Gone { program: String },
    /// It left something that is no text.
    NotText { program: String },
    /// It left more than a task may be.
    TooLong { program: String },
    /// It left nothing in the file.
    Empty { program: String },
    /// It left the text as it was.
    Unchanged { program: String },
    /// The file for it could not be written or read.
    File { path: String, why: String },
}

/// Something to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Put a file into a box; the number is the request's.
    Drop { request: usize, drop_box: DropBox, stem: String, bytes: Vec<u8> },
    /// Put a text where the terminal's user can paste it.
    Copy(String),
    /// Write a text into a file of the working directory.
    Export { name: String, text: String },
    /// Go to the background.
    Suspend,
    /// Let the user's editor change a text.
    Edit(String),
    /// Take the mouse's clicks, or leave them to the terminal.
    Mouse(bool),
    /// Paint everything anew.
    Redraw,
    /// Ring.
    Bell,
    /// Find where the page begins that ends before an offset.
    LogBack { of: LogPart, from: u64, lines: usize, keep: String },
    /// Find a text in a log.
    LogFind { of: LogPart, from: u64, needle: String, forward: bool },
    /// Find where something of one part of a log stands in another part of it.
    LogMove { of: LogPart, from: u64, to: Option<Stream> },
    /// Stop.
    Quit,
}

/// One log: an attempt at a step on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogKey {
    pub(super) task: TaskId,
    pub(super) host: HostName,
    pub(super) step: StepName,
    pub(super) attempt: u32,
}

/// What of a log is shown: all of it, or one stream. Every offset is one of what is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogPart {
    pub(super) key: LogKey,
    pub(super) stream: Option<Stream>,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// How long the log is.
    pub(super) length: u64,
    /// Its last lines, whole but perhaps for the last.
    pub(super) lines: Vec<Vec<u8>>,
}

impl Tail {
    /// Returns the last line that says something.
    pub(super) fn last_line(&self) -> Option<String> {
        let line = self.lines.iter().rev().find(|line| line.iter().any(|byte| !byte.is_ascii_whitespace()))?;
        Some(coloured(line).pieces.into_iter().map(|(text, _)| text).collect())
    }
}

/// Where a page of a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its last line is the log's last.
    End,
    /// Its first line begins here.
    At(u64),
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogPage {
    pub(super) of: LogPart,
    pub(super) anchor: Anchor,
    /// How long the log is.
    pub(super) length: u64,
    pub(super) lines: Vec<LogLine>,
    /// Where the line after the last one begins.
    pub(super) next: u64,
    /// The number of the first line, from 1, once that much was counted.
    pub(super) number: Option<u64>,
    /// How many bytes are left out of the log because there were too many, and before which offset.
    pub(super) cut: Option<u64>,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) offset: u64,
    pub(super) stream: Stream,
    /// The bytes without the line feed, at most [`LINE_BYTES_MAX`] of them.
    pub(super) bytes: Vec<u8>,
    /// How long it is with everything.
    pub(super) length: u64,
    /// Whether it goes on with a line that the other stream broke into.
    pub(super) goes_on: bool,
}

/// How much of a line is read.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedFile {
    /// What its owner is called.
    pub(super) by: String,
    pub(super) refusal: Why,
}

/// What a screen needs to know; files are read for nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// The tasks to follow.
    pub(super) follow: BTreeSet<TaskId>,
    /// The logs to show the ends of, each with how many bytes.
    pub(super) tails: BTreeMap<LogKey, usize>,
    /// The log to show a page of.
    pub(super) log: Option<LogWant>,
    /// The part of the history to show.
    pub(super) history: Option<HistoryWant>,
    /// The requests that were answered in journals.
    pub(super) answered: BTreeSet<usize>,
    /// Whether to read the audit.
    pub(super) audit: bool,
    /// Whether to read why files were refused.
    pub(super) refused: bool,
    /// The task whose last run of the same kind is wanted.
    pub(super) previous: Option<(TaskId, String)>,
}

/// A page of a log that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogWant {
    pub(super) of: LogPart,
    pub(super) anchor: Anchor,
    pub(super) rows: usize,
    /// Only lines with this text, unless it is empty.
    pub(super) keep: String,
}

/// A part of the history that is wanted: the newest line is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HistoryWant {
    pub(super) filter: String,
    /// Only what failed.
    pub(super) failed_only: bool,
    pub(super) start: usize,
    pub(super) rows: usize,
}
