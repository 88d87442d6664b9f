//! The board: every task that waits or runs, and those that ended last.
//!
//! **Invariant:** pure; headings are never selected.

mod draw;
mod rows;

use ratatui::layout::{Position, Rect};

use crate::base::ids::TaskId;
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::{Action, Place};
use crate::shells::dashboard::list::List;
use crate::shells::dashboard::look::{Pen, Tone};
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::screen::board::rows::BoardRow;
use crate::shells::dashboard::screen::{FILTER, LineFilter, OPEN, Offer, Reaction, Screen, ScreenEvent, Targets};
use crate::shells::dashboard::words::{Words, fill};
use crate::shells::dashboard::world::World;

pub(in crate::shells::dashboard) use rows::BoardScreen;

const OFFERS: &[Offer] = &[
    OPEN,
    (Action::Approve, |words| words.hint_approve),
    (Action::Reject, |words| words.hint_reject),
    (Action::Release, |words| words.hint_release),
    (Action::Hold, |words| words.hint_hold),
    (Action::Cancel, |words| words.hint_cancel),
    (Action::Retry, |words| words.hint_retry),
    (Action::New, |words| words.hint_new),
    (Action::Mark, |words| words.hint_mark),
    FILTER,
];

impl Screen for BoardScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        draw::draw(pen, cx, self, body)
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tasks, Place::Lists]
    }

    fn offers(&self) -> &'static [Offer] {
        OFFERS
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        let marked = fill(words.marked, &[&self.marks.len().to_string()]);
        let marked = (!self.marks.is_empty()).then_some((marked, Tone::Key));
        self.list.notes(words).into_iter().chain(marked).collect()
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        let rows = self.rows();
        let seen = rows.iter().skip(self.list.top).take(cx.size.body_rows());
        wants.follow.extend(seen.filter_map(|row| match row {
            BoardRow::Task(id) => Some(*id),
            _ => None,
        }));
        wants.follow.extend(self.selected);
    }

    fn targets(&self, _cx: Context<'_>) -> Targets {
        Targets { marked: self.marks.iter().copied().collect(), ..Targets::of(self.selected) }
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => return self.open(cx.world),
            Action::Left => self.fold(cx.world, false),
            Action::Right => self.fold(cx.world, true),
            Action::NextPane => self.next_section(true),
            Action::PreviousPane => self.next_section(false),
            Action::Mark => self.mark(),
            Action::MarkRange => return self.mark_range(cx),
            Action::ClearMarks => self.clear_marks(),
            _ => return Reaction::Pass,
        }
        Reaction::Stay
    }

    fn on_event(&mut self, _cx: Context<'_>, news: &ScreenEvent<'_>) {
        match news {
            ScreenEvent::Gone(id) => drop(self.marks.remove(id)),
            ScreenEvent::Ordered => self.clear_marks(),
            _ => {}
        }
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.list.filter), failed_only: Some(&mut self.list.failed_only) }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn scroll(&mut self, _cx: Context<'_>, by: isize) -> Reaction {
        self.step(by);
        Reaction::Stay
    }

    fn click(&mut self, cx: Context<'_>, row: usize) {
        if cx.size.is_wide() {
            return;
        }
        let at = self.list.top.saturating_add(row.saturating_sub(1));
        if self.rows().get(at).is_some_and(|row| row.task(cx.world).is_some()) {
            self.stand(at);
        }
    }

    fn settle(&mut self, cx: Context<'_>) {
        self.count_again(cx.world);
        self.settle_rows(cx.world, self.seen(cx));
    }
}

impl BoardScreen {
    fn stand(&mut self, at: usize) {
        self.list.stand(at);
        self.moved = true;
    }

    /// Moves over headings to the next task.
    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let can = |row: &BoardRow| !matches!(row, BoardRow::Heading(_));
        let choices: Vec<usize> = (0..rows.len()).filter(|n| can(&rows[*n])).collect();
        let here = choices.iter().position(|n| *n >= self.list.at).unwrap_or(0);
        let there = here.saturating_add_signed(by).min(choices.len().saturating_sub(1));
        if let Some(at) = choices.get(there) {
            self.stand(*at);
        }
    }

    fn open(&mut self, world: &World) -> Reaction {
        match self.row().filter(|_| !self.list.lost) {
            Some(BoardRow::More(..)) => {
                self.fold(world, true);
                Reaction::Stay
            }
            row => row.and_then(|row| row.task(world)).map_or(Reaction::Stay, Reaction::OpenTask),
        }
    }

    /// Folds or unfolds the section of the selected line.
    fn fold(&mut self, world: &World, open: bool) {
        let state: Option<TaskState> = match self.row() {
            Some(BoardRow::More(state, _)) => Some(state),
            Some(BoardRow::Task(id)) => world.tasks().get(&id).map(|task| task.state),
            _ => None,
        };
        if let Some(state) = state {
            self.list.again = true;
            if open {
                self.unfolded.insert(state)
            } else {
                self.unfolded.remove(&state)
            };
        }
    }

    fn next_section(&mut self, next: bool) {
        let rows = self.rows();
        let headings: Vec<usize> = (0..rows.len()).filter(|n| matches!(rows[*n], BoardRow::Heading(_))).collect();
        let section = headings.iter().rposition(|n| *n < self.list.at).unwrap_or(0);
        let to = if next {
            Some(section.saturating_add(1)).filter(|next| *next < headings.len()).unwrap_or(0)
        } else {
            section.checked_sub(1).unwrap_or(headings.len().saturating_sub(1))
        };
        if let Some(heading) = headings.get(to) {
            self.stand(heading.saturating_add(1));
        }
    }

    fn mark(&mut self) {
        if let Some(id) = self.selected {
            if !self.marks.remove(&id) {
                self.marks.insert(id);
            }
            self.step(1);
        }
    }

    /// Begins a range, or marks everything from where it began.
    fn mark_range(&mut self, cx: Context<'_>) -> Reaction {
        let Some(begin) = self.range else {
            self.range = self.selected;
            return Reaction::Say(cx.words.range_begun.to_owned(), Tone::Plain);
        };
        let rows = self.rows();
        let position = |id: TaskId| rows.iter().position(|row| row.task(cx.world) == Some(id));
        if let Some((a, b)) = position(begin).zip(self.selected.and_then(position)) {
            self.marks.extend(rows[a.min(b)..=a.max(b)].iter().filter_map(|row| row.task(cx.world)));
        }
        self.range = None;
        Reaction::Stay
    }

    fn clear_marks(&mut self) {
        self.marks.clear();
        self.range = None;
    }
}
