//! What changes when something happens.
//!
//! **Invariant:** pure: the model and a message in, commands out. No message makes an act on a task but through a dialog
//! that was open and answered, and no key answers it that came faster than people type.

mod acts;
mod command;
mod dialogs;
mod forms;
mod screens;

use crossterm::event::{KeyEvent, MouseButton, MouseEvent, MouseEventKind};

use crate::base::ids::TaskId;
use crate::domain::outcome::Outcome;
use crate::domain::record::View;
use crate::domain::run::{Event, Recorded, TaskState};
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::{Command, LogPart, Message};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::requests::Answer;
use crate::shells::dashboard::screen::{Screen, ScreenEvent};
use crate::shells::dashboard::words::fill;
use crate::shells::dashboard::world::Past;

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
    match message {
        Message::Key(key) => return press(model, &key),
        Message::Burst(key) => return burst(model, &key),
        Message::Paste(text) => dialogs::paste(model, &text),
        Message::Mouse(mouse) => return click(model, mouse),
        Message::Resize(width, height) => model.ui.size = ScreenSize::new(width, height),
        Message::Stands(view, state) => return stands(model, *view, state),
        Message::Gone(id) => {
            model.world.remove(id);
            model.notify_screens(&ScreenEvent::Gone(id));
        }
        Message::Events(id, events) => return news(model, id, &events),
        Message::Missing(id) => screens::missing(model, id),
        Message::History { of, count, start, lines } => {
            let more = model.world.take_past(Past { of, count, start, lines });
            model.notify_screens(&ScreenEvent::PastGrew(more));
        }
        Message::Log(page) => model.on_screen(|screen, cx| screen.on_event(cx, &ScreenEvent::Page(&page))),
        Message::LogTop(of, offset) => move_log(model, &of, Some(offset)),
        Message::Found(of, offset) => move_log(model, &of, offset),
        Message::Dropped(..) | Message::Refused(..) | Message::Taken(..) | Message::Unanswered(_) => {
            answered(model, message);
        }
        Message::Exported(Ok(path)) => model.ui.say(fill(model.ui.look.words.exported, &[&path]), Tone::Ok),
        Message::Exported(Err(why)) => model.ui.say(why, Tone::Fail),
        Message::Say(text) => model.ui.say(text, Tone::Warn),
        Message::Edited(text) => forms::edited(model, text),
        fact => {
            let is_configuration = matches!(fact, Message::Library(Ok(_)));
            model.world.learn(fact);
            if is_configuration {
                forms::recheck(model);
            }
        }
    }
    Vec::new()
}

/// Lists a task where it stands, and rings for one that waits for somebody.
fn stands(model: &mut Model, view: View, state: TaskState) -> Vec<Command> {
    let world = &model.world;
    let needs_me = state == TaskState::New
        && view.submitter.uid != world.me().actor.uid
        && world.now().0.saturating_sub(view.accepted_at.0) < RING_MS;
    let rings = needs_me && model.ui.bell && !world.tasks().contains_key(&view.id);
    model.world.place(state, view);
    rings.then_some(Command::Bell).into_iter().collect()
}

/// Takes what came of a request.
fn answered(model: &mut Model, message: Message) {
    let Model { world, ui } = model;
    let words = ui.look.words;
    match message {
        Message::Unanswered(number) => {
            world.answer(number, Answer::Unanswered);
            ui.say(words.unanswered, Tone::Warn);
        }
        Message::Dropped(number, Ok(name)) => {
            let told = if world.daemon().is_some() { words.sent } else { words.queued };
            ui.say(fill(told, &[&name]), Tone::Plain);
            world.answer(number, Answer::Waits(name));
        }
        Message::Dropped(number, Err(why)) | Message::Refused(number, why) => {
            ui.say(why.clone(), Tone::Fail);
            ui.drafts.refuse(number, fill(words.form_refused, &[&why]));
            world.answer(number, Answer::Refused(why));
        }
        Message::Taken(number, id) => {
            ui.say(fill(words.taken, &[&id.to_string()]), Tone::Ok);
            ui.drafts.take(number);
            world.answer(number, Answer::Done(Some(id)));
        }
        _ => {}
    }
}

/// Shows a log from where something was found, or says that it was not.
fn move_log(model: &mut Model, of: &LogPart, offset: Option<u64>) {
    match offset {
        Some(offset) => model.on_screen(|screen, cx| screen.on_event(cx, &ScreenEvent::PageAt(of, offset))),
        None => model.ui.say(model.ui.look.words.not_found, Tone::Warn),
    }
}

/// Folds what happened to a task, and finds the answers to what was asked.
fn news(model: &mut Model, id: TaskId, events: &[Recorded]) -> Vec<Command> {
    let Model { world, ui } = model;
    if !world.fold(id, events) {
        return Vec::new();
    }
    let words = ui.look.words;
    let mut commands = Vec::new();
    for recorded in events {
        if let Some(key) = recorded.event.order() {
            let refused = match &recorded.event {
                Event::OrderRefused { why, .. } => Some(why.clone()),
                _ => None,
            };
            let answer = refused.clone().map_or(Answer::Done(None), Answer::Refused);
            match (world.answer_named(&key.name.to_string(), answer), refused) {
                (Some(what), Some(why)) => ui.say(fill(words.refused, &[&what, &why]), Tone::Fail),
                (Some(what), None) => ui.say(fill(words.done, &[&what]), Tone::Ok),
                (None, _) => {}
            }
        }
        if let Event::Closed { outcome } = &recorded.event
            && *outcome != Outcome::Ok
            && ui.bell
            && world.now().0.saturating_sub(recorded.at.0) < RING_MS
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
    if model.ui.size.is_too_small() {
        return Vec::new();
    }
    // What was said of one key is over with the next.
    model.ui.said = None;
    if model.ui.dialog.is_some() {
        return dialogs::press(model, key);
    }
    if model.ui.prompt.is_some() {
        return command::press(model, key);
    }
    screens::press(model, key)
}

/// Takes a key that nobody typed by itself: what asks for an answer gets none by it.
fn burst(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    match model.ui.dialog {
        Some(Dialog::Approve(_) | Dialog::Confirm(_) | Dialog::Form(_)) if !screens::interrupts(key) => {
            dialogs::burst(model, key)
        }
        _ => press(model, key),
    }
}

/// The mouse scrolls and selects; it answers no dialog.
fn click(model: &mut Model, mouse: MouseEvent) -> Vec<Command> {
    if model.ui.dialog.is_some() || model.ui.prompt.is_some() {
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
    if model.ui.dialog.is_none() && model.ui.prompt.is_none() {
        model.ui.dialog = model.ui.drafts.next_to_mend().map(Dialog::Form);
    }
    model.on_screen(Screen::settle);
    dialogs::settle(model);
}
