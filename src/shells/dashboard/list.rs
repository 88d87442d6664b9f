//! A list of lines: which one is selected, what of it is seen, and how it is painted.
//!
//! **Invariant:** pure. What is selected is known by what it is, not by where it stands, so that lists may change under it.

use ratatui::layout::{Position, Rect};

use crate::base::ids::{GroupNo, HostName, TaskId, TemplateName};
use crate::base::time::Timestamp;
use crate::domain::run::TaskState;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::table::RowKey;
use crate::shells::dashboard::words::Words;

/// A list of lines with one selected.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// Which line is selected.
    pub(super) at: usize,
    /// The first line that is seen.
    pub(super) top: usize,
    pub(super) filter: String,
    pub(super) failed_only: bool,
    /// What is selected, once it is known; the line changes when it stands elsewhere.
    pub(super) chosen: Option<Item>,
    /// Whether somebody changed what is listed: what stands where the selection was is selected, when that is gone.
    pub(super) again: bool,
    /// Whether what was selected is not listed any more: then nothing is selected, until somebody selects something.
    pub(super) lost: bool,
}

/// What a line of a list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Task(TaskId),
    /// A section of the board, where the line stands for what is not listed of it.
    More(TaskState),
    /// A host of a task.
    Lane(GroupNo, HostName),
    /// Hosts of a task in the same state, and which of them there were.
    Fold(RowKey, Vec<usize>),
    Host(HostName),
    Template(TemplateName),
    /// A line of the audit, by its number.
    Entry(u64),
    /// A refused file, by when it was refused and its name.
    File(Timestamp, String),
    /// A request, by its number.
    Request(usize),
}

impl List {
    /// Moves by so many lines of `count`.
    pub(super) fn step(&mut self, by: isize, count: usize) {
        self.stand(self.at.saturating_add_signed(by).min(count.saturating_sub(1)));
    }

    /// Selects what stands in a line, whatever that is.
    pub(super) fn stand(&mut self, at: usize) {
        (self.at, self.chosen, self.lost) = (at, None, false);
    }

    /// Follows what is selected to where it stands now, `None` when it is nowhere. Returns whether what stands at its old
    /// place is to be selected instead.
    pub(super) fn follow(&mut self, found: Option<usize>) -> bool {
        let again = std::mem::take(&mut self.again);
        if let Some(at) = found {
            // It stays where it is on the screen; what comes in above the first line is seen.
            if self.top > 0 {
                self.top = self.top.saturating_add(at).saturating_sub(self.at);
            }
            (self.at, self.lost) = (at, false);
            return false;
        }
        self.lost = self.chosen.is_some() && !again;
        !self.lost
    }

    /// Keeps the selected line on a screen of `rows` lines.
    pub(super) fn settle(&mut self, count: usize, rows: usize) {
        // An empty list may only not have been read yet; whoever stands at its end stays there.
        if count == 0 {
            return;
        }
        self.at = self.at.min(count.saturating_sub(1));
        let rows = rows.max(1);
        self.top = self.top.min(count.saturating_sub(rows)).min(self.at);
        if self.at >= self.top.saturating_add(rows) {
            self.top = self.at.saturating_add(1).saturating_sub(rows);
        }
    }

    /// Says what chooses the lines that are shown.
    pub(super) fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        notes(words, &self.filter, self.failed_only)
    }
}

/// Paints a list: a heading, and the rows that are seen, each made by `row`.
pub(super) fn draw(
    pen: &mut Pen<'_>,
    area: Rect,
    heading: &Row,
    list: &List,
    count: usize,
    row: impl Fn(usize) -> Row,
) -> Option<Position> {
    pen.row(area, heading);
    let rows = usize::from(area.height).saturating_sub(1);
    let mut cursor = None;
    for (n, at) in (list.top..count).take(rows).enumerate() {
        let y = area.y.saturating_add(1).saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        let line = Rect { y, height: 1, ..area };
        if at == list.at && !list.lost {
            pen.row_over(line, &row(at), pen.look.selected());
            // A colour alone is no sign.
            if pen.buffer[(area.x, y)].symbol() == " " {
                pen.buffer[(area.x, y)].set_symbol(">");
            }
            cursor = Some(Position { x: area.x, y });
        } else {
            pen.row(line, &row(at));
        }
    }
    cursor
}

/// Why a list is empty: what chooses its lines leaves none, or there are none.
pub(super) fn nothing(words: &Words, list: &List, otherwise: &'static str) -> &'static str {
    match (list.filter.is_empty(), list.failed_only) {
        (false, _) => words.nothing_matches,
        (true, true) => words.none_failed,
        (true, false) => otherwise,
    }
}

/// Says what chooses the lines of a list.
pub(super) fn notes(words: &Words, filter: &str, failed_only: bool) -> Vec<(String, Tone)> {
    let filter = (!filter.is_empty()).then(|| (format!("{} {filter}", words.filter), Tone::Warn));
    let failed = failed_only.then(|| (words.failed_only.to_owned(), Tone::Warn));
    filter.into_iter().chain(failed).collect()
}

/// Says why there is nothing in a list, where its first line would stand.
pub(super) fn draw_nothing(pen: &mut Pen<'_>, body: Rect, said: &str) {
    pen.row(Rect { y: body.y.saturating_add(2), ..body }, &Row::new().gap(2).put(said, Tone::Plain));
}
