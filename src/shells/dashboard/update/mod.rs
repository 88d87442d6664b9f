//! What changes when something happens.
//!
//! **Invariant:** pure: the model and a message in, commands out. No message makes an act on a task but through a dialog
//! that was open and answered, and no key answers it that came faster than people type.

mod acts;
mod can;
mod command;
mod dialogs;
mod forms;
mod logs;
mod marks;
mod screens;
mod settle;

use crossterm::event::{KeyEvent, MouseButton, MouseEvent, MouseEventKind};

use crate::base::ids::TaskId;
use crate::domain::record::view;
use crate::domain::run::{Event, Recorded, Run, TaskState};
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::{Anchor, Command, LogPart, Message};
use crate::shells::dashboard::model::{Answer, Model, Past, SMALLEST, Standing};
use crate::shells::dashboard::screens::Screen;
use crate::shells::dashboard::words::fill;

pub(super) use acts::consequences;
pub(super) use can::{called, can};
pub(super) use command::candidates;

/// How old a task may be to ring for it.
const RING_MS: i64 = 60_000;

/// Applies a message.
pub(super) fn update(model: &mut Model, message: Message) -> Vec<Command> {
    update_all(model, [message])
}

/// Applies messages that nobody saw anything between.
pub(super) fn update_all(model: &mut Model, messages: impl IntoIterator<Item = Message>) -> Vec<Command> {
    let commands = messages.into_iter().flat_map(|message| apply(model, message)).collect();
    settle(model);
    commands
}

fn apply(model: &mut Model, message: Message) -> Vec<Command> {
    let mut commands = Vec::new();
    match message {
        Message::Key(key) => commands = press(model, &key),
        Message::Burst(key) => commands = burst(model, &key),
        Message::Paste(text) => dialogs::paste(model, &text),
        Message::Mouse(mouse) => commands = click(model, mouse),
        Message::Resize(width, height) => model.size = (width, height),
        Message::Tick(now) => model.now = now,
        Message::Stands(view, state) => {
            let needs_me = state == TaskState::New
                && view.submitter.uid != model.me.actor.uid
                && model.now.0.saturating_sub(view.accepted_at.0) < RING_MS;
            if needs_me && model.bell && !model.tasks.contains_key(&view.id) {
                commands.push(Command::Bell);
            }
            model.place(Standing { state, view: *view, since: model.now });
        }
        Message::Gone(id) => {
            model.remove(id);
            for screen in &mut model.screens {
                if let Screen::Board(board) = screen {
                    board.marks.remove(&id);
                }
            }
        }
        Message::Opened(run) => {
            model.unreadable.remove(&run.id);
            model.withheld.remove(&run.id);
            stand(model, &run);
            model.runs.insert(run.id, *run);
        }
        Message::Events(id, events) => commands = news(model, id, &events),
        Message::Forgotten(id) => {
            model.runs.remove(&id);
            model.previous.remove(&id);
        }
        Message::Missing(id) => screens::missing(model, id),
        Message::Exported(Ok(path)) => model.say(fill(model.look.words.exported, &[&path]), Tone::Ok),
        Message::Exported(Err(why)) => model.say(why, Tone::Fail),
        Message::Withheld(id, part) => drop(model.withheld.insert(id, part)),
        Message::Unreadable(id, why) => drop(model.unreadable.insert(id, why)),
        Message::Library(Ok(library)) => {
            model.zone = library.zone.clone();
            model.library = Some(library);
            model.generation = model.generation.saturating_add(1);
            model.library_problems.clear();
            forms::recheck(model);
        }
        Message::Library(Err(why)) => model.library_problems = why,
        Message::Daemon(daemon) => (model.daemon, model.daemon_known) = (daemon, true),
        Message::WatchLost(lost) => model.watch_lost = lost,
        Message::Say(text) => model.say(text, Tone::Warn),
        Message::Edited(text) => forms::edited(model, text),
        other => read(model, other),
    }
    commands
}

/// Takes what was read because a screen wanted it, and the answers to requests.
fn read(model: &mut Model, message: Message) {
    match message {
        Message::Recent { all, failed, lines } => {
            model.set_recent(all, failed, lines);
        }
        Message::History { of, count, start, lines } => {
            settle::take_history(model, of, count, Past { start, lines, ..Past::default() });
        }
        Message::Blind(why) => model.blind = Some(why),
        Message::Unanswered(number) => {
            let words = model.look.words;
            if let Some(request) = model.request_mut(number) {
                request.answer = Answer::Unanswered;
            }
            model.say(words.unanswered, Tone::Warn);
        }
        Message::Audit(lines) => model.audit = lines,
        Message::Cuts(count) => model.cuts = count,
        Message::Refusals { count, files } => {
            model.refused.0 = count;
            model.refused.1 = files.unwrap_or_else(|| std::mem::take(&mut model.refused.1));
        }
        Message::Tails(tails) => model.tails = tails,
        Message::Log(page) => {
            if let Screen::Log(screen) = model.screen_mut()
                && screen.part() == page.of
            {
                screen.page = Some(page);
            }
        }
        Message::LogTop(of, offset) => move_log(model, &of, Some(offset)),
        Message::Found(of, offset) => {
            move_log(model, &of, offset);
            if offset.is_none() {
                let words = model.look.words;
                model.say(words.not_found, Tone::Warn);
            }
        }
        Message::Previous(id, plan) => drop(model.previous.insert(id, plan)),
        Message::Dropped(number, Ok(name)) => {
            let told = if model.daemon.is_some() { model.look.words.sent } else { model.look.words.queued };
            model.say(fill(told, &[&name]), Tone::Plain);
            if let Some(request) = model.request_mut(number) {
                request.answer = Answer::Waits(name);
            }
        }
        Message::Dropped(number, Err(why)) | Message::Refused(number, why) => {
            model.say(why.clone(), Tone::Fail);
            // What was written is not lost: it is there to be mended.
            if let Some(mut form) = model.sent.remove(&number) {
                form.notice = Some(fill(model.look.words.form_refused, &[&why]));
                model.refused_forms.push_back(form);
            }
            if let Some(request) = model.request_mut(number) {
                request.answer = Answer::Refused(why);
            }
        }
        Message::Taken(number, id) => {
            model.say(fill(model.look.words.taken, &[&id.to_string()]), Tone::Ok);
            model.sent.remove(&number);
            if let Some(request) = model.request_mut(number) {
                request.answer = Answer::Done(Some(id));
            }
        }
        _ => {}
    }
}

fn move_log(model: &mut Model, of: &LogPart, offset: Option<u64>) {
    if let Screen::Log(screen) = model.screen_mut()
        && screen.part() == *of
        && let Some(offset) = offset
    {
        screen.anchor = Anchor::At(offset);
    }
}

/// Lists a task as its journal says that it stands.
fn stand(model: &mut Model, run: &Run) {
    model.place(Standing { state: run.state(), view: view(run), since: model.now });
}

/// Folds what happened to a task, and finds the answers to what was asked.
fn news(model: &mut Model, id: TaskId, events: &[Recorded]) -> Vec<Command> {
    let Some(run) = model.runs.get_mut(&id) else { return Vec::new() };
    for recorded in events {
        if let Err(illegal) = run.apply(recorded) {
            model.unreadable.insert(id, illegal.to_string());
            return Vec::new();
        }
    }
    let changed = Standing { state: run.state(), view: view(run), since: model.now };
    model.place(changed);
    let mut commands = Vec::new();
    for recorded in events {
        let name = recorded.event.order().map(|key| key.name.to_string());
        let asked = model.requests.iter_mut().find(|request| match (&request.answer, &name) {
            (Answer::Waits(waits), Some(name)) => waits == name,
            _ => false,
        });
        if let Some(request) = asked {
            let what = request.what.clone();
            if let Event::OrderRefused { why, .. } = &recorded.event {
                request.answer = Answer::Refused(why.clone());
                model.say(fill(model.look.words.refused, &[&what, why]), Tone::Fail);
            } else {
                request.answer = Answer::Done(None);
                model.say(fill(model.look.words.done, &[&what]), Tone::Ok);
            }
        }
        if let Event::Closed { outcome } = &recorded.event
            && *outcome != crate::domain::outcome::Outcome::Ok
            && model.bell
            && model.now.0.saturating_sub(recorded.at.0) < RING_MS
        {
            commands.push(Command::Bell);
        }
    }
    commands
}

fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    if let Some(commands) = screens::interrupt(model, key) {
        return commands;
    }
    // Nothing is done that cannot be seen.
    if model.size.0 < SMALLEST.0 || model.size.1 < SMALLEST.1 {
        return Vec::new();
    }
    // What was said of one key is over with the next.
    model.said = None;
    if model.dialog.is_some() {
        return dialogs::press(model, key);
    }
    if model.prompt.is_some() {
        return command::press(model, key);
    }
    screens::press(model, key)
}

/// Takes a key that nobody typed by itself: what asks for an answer gets none by it.
fn burst(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    match model.dialog {
        Some(Dialog::Approve(_) | Dialog::Confirm(_) | Dialog::Form(_)) if !screens::interrupts(key) => {
            dialogs::burst(model, key)
        }
        _ => press(model, key),
    }
}

/// The mouse scrolls and selects; it answers no dialog.
fn click(model: &mut Model, mouse: MouseEvent) -> Vec<Command> {
    if model.dialog.is_some() || model.prompt.is_some() {
        return Vec::new();
    }
    match mouse.kind {
        MouseEventKind::ScrollDown => screens::scroll(model, 3),
        MouseEventKind::ScrollUp => screens::scroll(model, -3),
        MouseEventKind::Down(MouseButton::Left) => {
            screens::select_row(model, mouse.row);
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// Makes everything fit again: numbers, selections, what of a list is seen.
pub(super) fn settle(model: &mut Model) {
    if model.dialog.is_none() && model.prompt.is_none() {
        model.dialog = model.refused_forms.pop_front().map(Dialog::Form);
    }
    settle::forget(model);
    model.count_again();
    settle::settle(model);
    model.dialog = match model.dialog.take() {
        Some(Dialog::Approve(mut approval)) => {
            approval.refresh(model);
            dialogs::settle_approval(model, &mut approval);
            Some(Dialog::Approve(approval))
        }
        other => other,
    };
}
