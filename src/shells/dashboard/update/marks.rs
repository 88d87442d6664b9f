//! Keys on the board: which tasks are selected, marked and compared.
//!
//! **Invariant:** pure; headings are never selected.

use crate::base::ids::TaskId;
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::screens::{Board, BoardRow, DiffScreen, List, Screen};
use crate::shells::dashboard::update::screens::{listed_anew, push};

pub(super) fn mark(model: &mut Model) {
    if let Screen::Board(board) = model.screen_mut()
        && let Some(id) = board.selected
    {
        if !board.marks.remove(&id) {
            board.marks.insert(id);
        }
        move_on_board(model, 1);
    }
}

/// Begins a range, or marks everything from where it began.
pub(super) fn mark_range(model: &mut Model) {
    let Screen::Board(board) = model.screen() else { return };
    let rows = model.board_rows();
    let position = |id: TaskId| rows.iter().position(|row| model.task_of_row(*row) == Some(id));
    let (begin, here) = (board.range, board.selected);
    let span = begin.and_then(position).zip(here.and_then(position));
    let marked: Vec<TaskId> = span.map_or_else(Vec::new, |(a, b)| {
        rows[a.min(b)..=a.max(b)].iter().filter_map(|row| model.task_of_row(*row)).collect()
    });
    let said = model.look.words.range_begun;
    let Screen::Board(board) = model.screen_mut() else { return };
    if begin.is_some() {
        board.marks.extend(marked);
        board.range = None;
    } else {
        board.range = here;
        model.say(said, Tone::Plain);
    }
}

/// Compares the two marked tasks, or the selected one with the one before it of the same kind.
pub(super) fn diff(model: &mut Model) {
    let marked: Vec<TaskId> = match model.screen() {
        Screen::Board(board) => board.marks.iter().copied().collect(),
        _ => Vec::new(),
    };
    let pair = match marked[..] {
        [was, now] => Some((was, now)),
        _ => model.current_task().and_then(|now| Some((before(model, now)?, now))),
    };
    match pair {
        Some((was, now)) => push(model, Screen::Diff(DiffScreen { was, now, list: List::default() })),
        None => model.say(model.look.words.nothing_to_compare, Tone::Warn),
    }
}

/// The newest run of the same work before a task, as far as the history is known.
pub(super) fn before(model: &Model, id: TaskId) -> Option<TaskId> {
    let work = match model.runs.get(&id) {
        Some(run) => run.plan.work_name().to_owned(),
        None => model.recent.iter().find(|line| line.id == id)?.work.clone(),
    };
    model.recent.iter().filter(|line| line.work == work && line.id < id).map(|line| line.id).max()
}

pub(super) fn failed_only(model: &mut Model) {
    match model.screen_mut() {
        Screen::Board(Board { list, .. }) | Screen::Hosts(list) | Screen::History(list) => {
            list.failed_only = !list.failed_only;
        }
        Screen::Task(screen) => screen.shape.failed_only = !screen.shape.failed_only,
        _ => {}
    }
    listed_anew(model);
}

/// Moves over headings to the next task.
pub(super) fn move_on_board(model: &mut Model, by: isize) {
    let Screen::Board(board) = model.screen() else { return };
    let rows = model.board_rows();
    let can = |row: &BoardRow| !matches!(row, BoardRow::Heading(_));
    let choices: Vec<usize> = (0..rows.len()).filter(|n| can(&rows[*n])).collect();
    let here = choices.iter().position(|n| *n >= board.list.at).unwrap_or(0);
    let there = here.saturating_add_signed(by).min(choices.len().saturating_sub(1));
    let Some(at) = choices.get(there).copied() else { return };
    if let Screen::Board(board) = model.screen_mut() {
        board.list.stand(at);
        board.moved = true;
    }
}
