//! Keys on screens: moving, opening, going back, marking.
//!
//! **Invariant:** pure; nothing here asks anything of the daemon.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::base::ids::TaskId;
use crate::domain::run::TaskState;
use crate::shells::dashboard::dialog::{Dialog, Help};
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::keys::{Action, Place, action};
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::{Anchor, Command};
use crate::shells::dashboard::model::{Model, Prompt, log_key};
use crate::shells::dashboard::screens::{Board, BoardRow, List, LogScreen, Screen, TaskScreen, Zoom};
use crate::shells::dashboard::table::{HostRow, heat};
use crate::shells::dashboard::update::acts;
use crate::shells::dashboard::update::logs::{copy, find, follow, other_log, other_stream, scroll_log};
use crate::shells::dashboard::update::marks::{diff, failed_only, mark, mark_range, move_on_board};
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::fill;

/// Where keys mean something on the screen that is seen.
pub(super) fn places(model: &Model) -> Vec<Place> {
    let here: &[Place] = match model.screen() {
        Screen::Board(_) | Screen::History(_) => &[Place::Tasks, Place::Lists],
        Screen::Task(_) => &[Place::Task, Place::Tasks, Place::Lists],
        Screen::Log(_) => &[Place::Log],
        _ => &[Place::Lists],
    };
    here.iter().copied().chain([Place::Everywhere]).collect()
}

/// Whether a key works in front of everything else.
pub(super) fn interrupts(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('z' | 'l' | 'c'))
}

/// Ctrl-C twice ends the dashboard from anywhere; once it leaves what is open.
pub(super) fn interrupt(model: &mut Model, key: &KeyEvent) -> Option<Vec<Command>> {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Char('z'), true) => return Some(vec![Command::Suspend]),
        (KeyCode::Char('l'), true) => return Some(vec![Command::Redraw]),
        (KeyCode::Char('c'), true) => {}
        _ => return None,
    }
    if model.dialog.take().is_some() || model.prompt.take().is_some() {
        model.said = None;
        return Some(Vec::new());
    }
    let again = model.look.words.again_to_quit;
    if model.said.as_ref().is_some_and(|(said, _)| said == again) {
        return Some(vec![Command::Quit]);
    }
    model.say(again, Tone::Warn);
    Some(Vec::new())
}

pub(super) fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    match action(key, &places(model), model.readonly) {
        Some(action) => perform(model, action),
        None => Vec::new(),
    }
}

/// Does what a key asks for.
pub(super) fn perform(model: &mut Model, action: Action) -> Vec<Command> {
    let half = isize::try_from(model.body_rows() / 2).unwrap_or(1).max(1);
    match action {
        Action::Down => return scroll(model, 1),
        Action::Up => return scroll(model, -1),
        Action::HalfDown => return scroll(model, half),
        Action::HalfUp => return scroll(model, half.saturating_neg()),
        Action::First => return jump(model, false),
        Action::Last => return jump(model, true),
        Action::Left => sideways(model, false),
        Action::Right => sideways(model, true),
        Action::Open => open(model),
        Action::Back => back(model),
        Action::Quit => return quit(model),
        Action::View(n) => show(model, n),
        Action::NextPane => return pane(model, true),
        Action::PreviousPane => return pane(model, false),
        Action::Find => find_or_filter(model),
        Action::FindNext => return find(model, true),
        Action::FindPrevious => return find(model, false),
        Action::Keep => {
            let kept = if let Screen::Log(screen) = model.screen() { screen.keep.clone() } else { String::new() };
            model.prompt = Some(Prompt::Keep(Edit::new(kept)));
        }
        Action::FailedOnly => failed_only(model),
        Action::CommandLine => model.prompt = Some(Prompt::Command(Edit::default(), None)),
        Action::Mark => mark(model),
        Action::MarkRange => mark_range(model),
        Action::ClearMarks => {
            if let Screen::Board(board) = model.screen_mut() {
                board.marks.clear();
                board.range = None;
            }
        }
        Action::PreviousLog => other_log(model, false),
        Action::NextLog => other_log(model, true),
        Action::Follow => follow(model),
        Action::Wrap | Action::Zoom | Action::Order => look_otherwise(model, action),
        Action::Diff => diff(model),
        Action::Copy => return copy(model),
        Action::Export => return export(model),
        Action::Mouse => {
            model.mouse = !model.mouse;
            let words = model.look.words;
            model.say(if model.mouse { words.mouse_on } else { words.mouse_off }, Tone::Plain);
            return vec![Command::Mouse(model.mouse)];
        }
        Action::Requests if matches!(model.screen(), Screen::Requests(_)) => {}
        Action::Requests => push(model, Screen::Requests(List { at: usize::MAX, ..List::default() })),
        Action::Help => model.dialog = Some(Dialog::Help(Help::default())),
        Action::Redraw => return vec![Command::Redraw],
        Action::Suspend => return vec![Command::Suspend],
        act => return acts::begin(model, act),
    }
    Vec::new()
}

/// Asks for a text to find in a log, or to filter a list by.
fn find_or_filter(model: &mut Model) {
    let text = Edit::new(filter_of(model).map_or_else(String::new, |filter| filter.clone()));
    let can = filter_of(model).is_some();
    if matches!(model.screen(), Screen::Log(_)) {
        model.prompt = Some(Prompt::Find(Edit::default()));
    } else if can {
        model.prompt = Some(Prompt::Filter(text));
    }
}

/// Shows the same in another way.
fn look_otherwise(model: &mut Model, action: Action) {
    match (model.screen_mut(), action) {
        (Screen::Log(screen), Action::Wrap) => {
            screen.wrap = !screen.wrap;
            screen.left = 0;
        }
        (Screen::Task(screen), Action::Zoom) => screen.zoom = screen.zoom.next(),
        (Screen::Task(screen), Action::Order) => {
            screen.shape.order = screen.shape.order.next();
            screen.list.again = true;
        }
        _ => {}
    }
}

pub(super) fn push(model: &mut Model, screen: Screen) {
    model.screens.push(screen);
}

/// Shows one of the views that digits name.
pub(super) fn show(model: &mut Model, n: usize) {
    model.screens.truncate(1);
    match n {
        1 => push(model, Screen::Hosts(List::default())),
        2 => push(model, Screen::History(List::default())),
        3 => push(model, Screen::Audit(List { at: usize::MAX, ..List::default() })),
        4 => push(model, Screen::Templates(List::default())),
        _ => {}
    }
}

/// Opens a task.
pub(super) fn show_task(model: &mut Model, id: TaskId) {
    if matches!(model.screen(), Screen::Task(screen) if screen.id == id) {
        return;
    }
    push(model, Screen::Task(TaskScreen::of(id)));
}

/// Leaves what shows a task that is not there.
pub(super) fn missing(model: &mut Model, id: TaskId) {
    let about = |screen: &Screen| match screen {
        Screen::Task(screen) => screen.id == id,
        Screen::Diff(screen) => screen.was == id || screen.now == id,
        _ => false,
    };
    while model.screens.len() > 1 && about(model.screen()) {
        model.screens.pop();
    }
    if model.dialog.as_ref().is_some_and(|dialog| dialog.tasks().contains(&id)) {
        model.dialog = None;
    }
    model.say(fill(model.look.words.no_such_task, &[&id.to_string()]), Tone::Warn);
}

fn back(model: &mut Model) {
    if filter_of(model).is_some_and(|filter| !filter.is_empty()) {
        set_filter(model, "");
        return;
    }
    let deep = model.screens.len() > 1;
    match model.screen_mut() {
        Screen::Task(screen) if screen.shape.only.is_some() => {
            screen.shape.only = None;
            screen.list.again = true;
        }
        Screen::Task(screen) if screen.zoom != Zoom::All => screen.zoom = Zoom::All,
        Screen::Log(screen) if !screen.keep.is_empty() => screen.keep.clear(),
        _ if deep => drop(model.screens.pop()),
        _ => {}
    }
}

fn quit(model: &mut Model) -> Vec<Command> {
    if model.screens.len() > 1 {
        model.screens.pop();
        return Vec::new();
    }
    vec![Command::Quit]
}

/// The text that chooses what of the screen's list is shown.
pub(super) fn filter_of(model: &mut Model) -> Option<&mut String> {
    match model.screen_mut() {
        Screen::Board(Board { list, .. })
        | Screen::Hosts(list)
        | Screen::History(list)
        | Screen::Audit(list)
        | Screen::Templates(list)
        | Screen::Refused(list) => Some(&mut list.filter),
        Screen::Task(screen) => Some(&mut screen.shape.filter),
        _ => None,
    }
}

/// Chooses what of the screen's list is shown.
pub(super) fn set_filter(model: &mut Model, text: &str) {
    if let Some(filter) = filter_of(model) {
        text.clone_into(filter);
    }
    listed_anew(model);
}

/// Remembers that somebody changed what is listed.
pub(super) fn listed_anew(model: &mut Model) {
    match model.screen_mut() {
        Screen::Board(board) => board.list.again = true,
        Screen::Task(screen) => screen.list.again = true,
        screen => {
            if let Some(list) = screen.list_mut() {
                list.again = true;
            }
        }
    }
}

/// How many lines the list of the screen has.
pub(super) fn count(model: &Model) -> usize {
    match model.screen() {
        Screen::Board(_) => model.board_rows().len(),
        Screen::Task(screen) => match screen.zoom {
            Zoom::Acts => model.runs.get(&screen.id).map_or(0, |run| run.acts.len()),
            _ => model.host_rows().len(),
        },
        Screen::Hosts(list) => view::hosts::rows(model, list).len(),
        Screen::Host(name, _) => view::hosts::page(model, name).len(),
        Screen::History(_) => model.past.count,
        Screen::Audit(list) => view::audit::rows(model, list).len(),
        Screen::Templates(list) => view::templates::rows(model, list).len(),
        Screen::Refused(list) => view::refused::rows(model, list).len(),
        Screen::Diff(screen) => view::diff::rows(model, screen).len(),
        Screen::Requests(_) => model.requests.len(),
        Screen::Log(_) => 0,
    }
}

pub(super) fn scroll(model: &mut Model, by: isize) -> Vec<Command> {
    let rows = count(model);
    let seen = model.body_rows();
    let columns = isize::try_from(view::task::map_room(model).1).unwrap_or(1);
    match model.screen_mut() {
        Screen::Log(screen) => return scroll_log(screen, by, seen),
        Screen::Task(screen) if screen.zoom == Zoom::Map => {
            screen.cell = screen.cell.saturating_add_signed(by.saturating_mul(columns));
        }
        Screen::Task(screen) if screen.zoom == Zoom::Acts => {
            screen.acts_top = screen.acts_top.saturating_add_signed(by).min(rows.saturating_sub(1));
        }
        Screen::Board(_) => move_on_board(model, by),
        Screen::Task(_) => {
            let all = model.host_rows();
            let Screen::Task(screen) = model.screen_mut() else { return Vec::new() };
            screen.list.step(by, all.len());
        }
        screen => {
            if let Some(list) = screen.list_mut() {
                list.step(by, rows);
            }
        }
    }
    Vec::new()
}

fn jump(model: &mut Model, last: bool) -> Vec<Command> {
    if let Screen::Log(screen) = model.screen_mut() {
        if !last && screen.anchor == Anchor::End {
            screen.left_at = screen.page.as_ref().map_or(0, |page| page.length);
        }
        screen.anchor = if last { Anchor::End } else { Anchor::At(0) };
        return Vec::new();
    }
    scroll(model, if last { isize::MAX } else { isize::MIN + 1 })
}

/// Folds and unfolds, moves on a map and along a log's lines.
fn sideways(model: &mut Model, right: bool) {
    let step: isize = if right { 1 } else { -1 };
    let row = match model.screen() {
        Screen::Board(board) => model.board_rows().get(board.list.at).copied(),
        _ => None,
    };
    let state = match row {
        Some(BoardRow::More(state, _)) => Some(state),
        Some(BoardRow::Task(id)) => model.tasks.get(&id).map(|task| task.state),
        _ => None,
    };
    match model.screen_mut() {
        Screen::Board(board) => {
            if let Some(state) = state {
                board.list.again = true;
                if right {
                    board.unfolded.insert(state)
                } else {
                    board.unfolded.remove(&state)
                };
            }
        }
        Screen::Task(screen) if screen.zoom == Zoom::Map => {
            screen.cell = screen.cell.saturating_add_signed(step);
        }
        Screen::Task(screen) => {
            if let Some(key) = screen.selected.clone() {
                screen.list.again = true;
                if right {
                    screen.shape.unfolded.insert(key)
                } else {
                    screen.shape.unfolded.remove(&key)
                };
            }
        }
        Screen::Log(screen) => screen.left = screen.left.saturating_add_signed(step.saturating_mul(20)),
        _ => {}
    }
}

fn open(model: &mut Model) {
    match model.screen() {
        Screen::Board(board) => {
            let row = model.board_rows().get(board.list.at).copied().filter(|_| !board.list.lost);
            match row {
                Some(BoardRow::More(..)) => sideways(model, true),
                Some(row) => {
                    if let Some(id) = model.task_of_row(row) {
                        show_task(model, id);
                    }
                }
                None => {}
            }
        }
        Screen::History(_) | Screen::Audit(_) | Screen::Requests(_) => {
            if let Some(id) = model.current_task() {
                show_task(model, id);
            }
        }
        Screen::Task(screen) => {
            if screen.zoom == Zoom::Map {
                open_cell(model);
                return;
            }
            let row = model.host_rows().get(screen.list.at).filter(|_| !screen.list.lost).cloned();
            match row {
                Some(HostRow::Fold { .. }) => sideways(model, true),
                Some(HostRow::Lane(lane)) => open_log(model, lane),
                None => {}
            }
        }
        Screen::Hosts(list) => {
            let name = view::hosts::rows(model, list).get(list.at).map(|host| host.name.clone());
            if let Some(name) = name {
                push(model, Screen::Host(name, List::default()));
            }
        }
        Screen::Host(name, list) => {
            let task = view::hosts::page(model, name).into_iter().nth(list.at).and_then(|(_, task)| task);
            if let Some(id) = task {
                show_task(model, id);
            }
        }
        Screen::Templates(list) => {
            let name = view::templates::rows(model, list).get(list.at).copied();
            if !model.readonly
                && let Some(template) = name
            {
                let template = template.name.clone();
                super::forms::open(model, Some(&template));
            }
        }
        Screen::Log(_) | Screen::Diff(_) | Screen::Refused(_) => {}
    }
}

fn open_log(model: &mut Model, lane: usize) {
    let Screen::Task(screen) = model.screen() else { return };
    let Some(run) = model.runs.get(&screen.id) else { return };
    let words = model.look.words;
    let nothing = if run.state() == TaskState::Done { words.was_skipped } else { words.not_begun };
    match log_key(run, lane) {
        Some(key) => push(model, Screen::Log(LogScreen::of(key))),
        None => model.say(nothing, Tone::Plain),
    }
}

/// Shows the hosts that a cell of the map stands for.
fn open_cell(model: &mut Model) {
    let (rows, columns) = view::task::map_room(model);
    let Some(table) = model.table() else { return };
    let (_, each) = heat(table, rows.saturating_mul(columns));
    let all = table.lanes.len();
    if let Screen::Task(screen) = model.screen_mut() {
        let first = screen.cell.saturating_mul(each).min(all);
        screen.shape.only = Some((first..first.saturating_add(each).min(all)).collect());
        screen.zoom = Zoom::Hosts;
        screen.list = List::default();
    }
}

/// Goes to the next or the previous section, attempt or stream.
fn pane(model: &mut Model, next: bool) -> Vec<Command> {
    match model.screen() {
        Screen::Board(board) => {
            let rows = model.board_rows();
            let headings: Vec<usize> = (0..rows.len()).filter(|n| matches!(rows[*n], BoardRow::Heading(_))).collect();
            let here = board.list.at;
            let section = headings.iter().rposition(|n| *n < here).unwrap_or(0);
            let to = if next {
                Some(section.saturating_add(1)).filter(|next| *next < headings.len()).unwrap_or(0)
            } else {
                section.checked_sub(1).unwrap_or(headings.len().saturating_sub(1))
            };
            let Some(heading) = headings.get(to).copied() else { return Vec::new() };
            if let Screen::Board(board) = model.screen_mut() {
                board.list.stand(heading.saturating_add(1));
                board.moved = true;
            }
        }
        Screen::Log(_) => {
            if let Screen::Log(screen) = model.screen_mut() {
                return other_stream(screen, next);
            }
        }
        Screen::Task(_) => {
            if let Screen::Task(screen) = model.screen_mut() {
                screen.zoom = if next { screen.zoom.next() } else { screen.zoom.next().next().next() };
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Writes what is on the screen, without its colours, into a file.
fn export(model: &mut Model) -> Vec<Command> {
    let text = view::as_text(model);
    // In UTC, without signs that shells and file systems care about: 20261122T035130Z.
    let stamp: String = model.now.to_string().chars().take(19).filter(|c| !"-:".contains(*c)).collect();
    let name = format!("spoolgate-{stamp}Z.txt");
    vec![Command::Export { name, text }]
}

/// Selects what a row of the terminal shows.
pub(super) fn select_row(model: &mut Model, row: u16) {
    let first = if model.is_low() { 1 } else { 3 };
    let Some(row) = usize::from(row).checked_sub(first).filter(|row| *row < model.body_rows()) else { return };
    if model.is_wide() && matches!(model.screen(), Screen::Board(_)) {
        return;
    }
    if let Screen::Board(board) = model.screen() {
        // The first line of the body names the columns.
        let at = board.list.top.saturating_add(row.saturating_sub(1));
        let found = model.board_rows().get(at).copied();
        let selected = found.and_then(|row| model.task_of_row(row));
        if let (Screen::Board(board), Some(_)) = (model.screen_mut(), selected) {
            board.list.stand(at);
            board.moved = true;
        }
    } else if let Some(list) = model.screen_mut().list_mut() {
        list.stand(list.top.saturating_add(row.saturating_sub(1)));
    }
}
