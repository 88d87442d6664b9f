//! Keys on screens: moving, opening, going back.
//!
//! **Invariant:** pure; nothing here asks anything of the daemon. What one screen alone does with a key it does itself.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::base::ids::TaskId;
use crate::shells::dashboard::dialog::{Dialog, Help};
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::keys::{Action, Place, action};
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::Command;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::screen::table::{NamedScreen, Placement, screen_named, views};
use crate::shells::dashboard::screen::{DiffScreen, Reaction, RequestsScreen, TaskScreen};
use crate::shells::dashboard::update::{acts, forms};
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::fill;

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
    let ui = &mut model.ui;
    if ui.dialog.take().is_some() || ui.prompt.take().is_some() {
        ui.said = None;
        return Some(Vec::new());
    }
    let again = ui.look.words.again_to_quit;
    if ui.said.as_ref().is_some_and(|(said, _)| said == again) {
        return Some(vec![Command::Quit]);
    }
    ui.say(again, Tone::Warn);
    Some(Vec::new())
}

pub(super) fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    let places: Vec<Place> = model.ui.screen().places().iter().copied().chain([Place::Everywhere]).collect();
    match action(key, &places, model.ui.readonly) {
        Some(action) => perform(model, action),
        None => Vec::new(),
    }
}

/// Does what a key asks for: first what the screen does with it, then what is the same on every screen.
pub(super) fn perform(model: &mut Model, action: Action) -> Vec<Command> {
    // A filter is left before anything else is.
    if action == Action::Back && filter(model).is_some_and(|filter| !filter.is_empty()) {
        set_filter(model, "");
        return Vec::new();
    }
    match model.on_screen(|screen, cx| screen.key(cx, action)) {
        Reaction::Pass => everywhere(model, action),
        reaction => follow(model, reaction),
    }
}

/// Does what follows from a key on a screen.
pub(super) fn follow(model: &mut Model, reaction: Reaction) -> Vec<Command> {
    let Model { world, ui } = &mut *model;
    match reaction {
        Reaction::Pass | Reaction::Stay => {}
        Reaction::Open(screen) => ui.push(world, screen),
        Reaction::OpenTask(id) => show_task(model, id),
        Reaction::OpenForm(template) => forms::open(model, Some(&template)),
        Reaction::Say(text, tone) => ui.say(text, tone),
        Reaction::Ask(prompt) => ui.prompt = Some(prompt),
        Reaction::Copy(text) => return copy(model, text),
        Reaction::Do(command) => return vec![command],
    }
    Vec::new()
}

/// Does what a key means on every screen.
fn everywhere(model: &mut Model, action: Action) -> Vec<Command> {
    let half = isize::try_from(model.ui.size.body_rows() / 2).unwrap_or(1).max(1);
    match action {
        Action::Down => return scroll(model, 1),
        Action::Up => return scroll(model, -1),
        Action::HalfDown => return scroll(model, half),
        Action::HalfUp => return scroll(model, half.saturating_neg()),
        Action::First => return scroll(model, isize::MIN + 1),
        Action::Last => return scroll(model, isize::MAX),
        Action::Quit if model.ui.depth() == 0 => return vec![Command::Quit],
        Action::Back | Action::Quit => model.ui.pop(),
        Action::View(n) => {
            if let Some((named, _)) = views().nth(n) {
                show(model, named, "");
            }
        }
        Action::Find => {
            if let Some(filter) = filter(model) {
                model.ui.prompt = Some(Prompt::Filter(Edit::new(filter)));
            }
        }
        Action::FailedOnly => model.on_screen(|screen, _| {
            if let Some(failed_only) = screen.line_filter().failed_only {
                *failed_only = !*failed_only;
            }
            screen.listed_anew();
        }),
        Action::CommandLine => model.ui.prompt = Some(Prompt::Command(Edit::default(), None)),
        Action::Diff => diff(model),
        Action::Copy => {
            let known =
                |id: TaskId| model.world.run(id).map_or_else(|| id.to_string(), |run| format!("{id} {}", run.digest));
            let text = model.targets().task.map_or_else(String::new, known);
            return copy(model, text);
        }
        Action::Export => return export(model),
        Action::Mouse => return mouse(model),
        Action::Requests if model.ui.screen().is::<RequestsScreen>() => {}
        Action::Requests => {
            if let Some(named) = screen_named("requests") {
                show(model, named, "");
            }
        }
        Action::Help => model.ui.dialog = Some(Dialog::Help(Help::default())),
        Action::Redraw => return vec![Command::Redraw],
        Action::Suspend => return vec![Command::Suspend],
        act if act.is_act() => return acts::begin(model, act),
        // It means something on other screens only.
        _ => {}
    }
    Vec::new()
}

/// Shows a screen that has a name.
pub(super) fn show(model: &mut Model, named: &NamedScreen, arg: &str) {
    let Model { world, ui } = model;
    let screen = match (named.open)(arg) {
        Ok(screen) => screen,
        Err(why) => {
            ui.say(why, Tone::Warn);
            return;
        }
    };
    match named.placement {
        Placement::View(_) => ui.show_view(world, screen),
        Placement::OfView | Placement::Over => ui.push(world, screen),
    }
}

/// Opens a task.
pub(super) fn show_task(model: &mut Model, id: TaskId) {
    let Model { world, ui } = model;
    let is_shown = ui.screen().is::<TaskScreen>() && ui.screen().is_about(id);
    if !is_shown {
        ui.push(world, Box::new(TaskScreen::of(id)));
    }
}

/// Compares two tasks.
pub(super) fn show_diff(model: &mut Model, was: TaskId, now: TaskId) {
    let Model { world, ui } = model;
    ui.push(world, Box::new(DiffScreen::of(was, now)));
}

/// Leaves what shows a task that is not there.
pub(super) fn missing(model: &mut Model, id: TaskId) {
    let ui = &mut model.ui;
    while ui.depth() > 0 && ui.screen().is_about(id) {
        ui.pop();
    }
    if ui.dialog.as_ref().is_some_and(|dialog| dialog.tasks().contains(&id)) {
        ui.dialog = None;
    }
    ui.say(fill(ui.look.words.no_such_task, &[&id.to_string()]), Tone::Warn);
}

/// The text that chooses what of the screen's list is shown.
fn filter(model: &mut Model) -> Option<String> {
    model.on_screen(|screen, _| screen.line_filter().filter.cloned())
}

/// Chooses what of the screen's list is shown.
pub(super) fn set_filter(model: &mut Model, text: &str) {
    model.on_screen(|screen, _| {
        if let Some(filter) = screen.line_filter().filter {
            text.clone_into(filter);
        }
        screen.listed_anew();
    });
}

pub(super) fn scroll(model: &mut Model, by: isize) -> Vec<Command> {
    let reaction = model.on_screen(|screen, cx| screen.scroll(cx, by));
    follow(model, reaction)
}

/// Compares the two marked tasks, or the selected one with the one before it of the same kind.
fn diff(model: &mut Model) {
    let targets = model.targets();
    let pair = match targets.marked[..] {
        [was, now] => Some((was, now)),
        _ => targets.task.and_then(|now| Some((before(model, now)?, now))),
    };
    match pair {
        Some((was, now)) => show_diff(model, was, now),
        None => model.ui.say(model.ui.look.words.nothing_to_compare, Tone::Warn),
    }
}

/// The newest run of the same work before a task, as far as the history is known.
fn before(model: &Model, id: TaskId) -> Option<TaskId> {
    let recent = model.world.recent();
    let work = match model.world.run(id) {
        Some(run) => run.plan.work_name().to_owned(),
        None => recent.iter().find(|line| line.id == id)?.work.clone(),
    };
    recent.iter().filter(|line| line.work == work && line.id < id).map(|line| line.id).max()
}

/// Puts a text where it can be pasted.
fn copy(model: &mut Model, text: String) -> Vec<Command> {
    if text.is_empty() {
        return Vec::new();
    }
    model.ui.say(fill(model.ui.look.words.copied, &[&text.len().to_string()]), Tone::Plain);
    vec![Command::Copy(text)]
}

/// Writes what is on the screen, without its colours, into a file.
fn export(model: &Model) -> Vec<Command> {
    let text = view::as_text(model);
    // In UTC, without signs that shells and file systems care about: 20261122T035130Z.
    let stamp: String = model.world.now().to_string().chars().take(19).filter(|c| !"-:".contains(*c)).collect();
    let name = format!("spoolgate-{stamp}Z.txt");
    vec![Command::Export { name, text }]
}

/// Takes the mouse's clicks, or leaves them to the terminal.
fn mouse(model: &mut Model) -> Vec<Command> {
    let ui = &mut model.ui;
    ui.mouse = !ui.mouse;
    let words = ui.look.words;
    ui.say(if ui.mouse { words.mouse_on } else { words.mouse_off }, Tone::Plain);
    vec![Command::Mouse(ui.mouse)]
}

/// Selects what a row of the terminal shows.
pub(super) fn select_row(model: &mut Model, row: u16) {
    if let Some(row) = model.ui.size.body_row(row) {
        model.on_screen(|screen, cx| screen.click(cx, row));
    }
}
