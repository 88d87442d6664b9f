//! Keys in dialogs.
//!
//! **Invariant:** pure. An approval is sent only while its field is open and holds exactly the phrase; what is pasted never
//! gets into it, and a key that came in a burst sends nothing.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::domain::order::Wish;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::{Approval, Choose, Chosen, Confirm, DIFF, Dialog, SECTIONS};
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::Command;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::pace::sends;
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::update::{acts, forms};
use crate::shells::dashboard::view;

/// From how many rows on a section can be read.
const READABLE_ROWS: usize = 3;

pub(super) fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    match model.ui.dialog.take() {
        Some(Dialog::Approve(approval)) => approve(model, approval, key),
        Some(Dialog::Confirm(confirm)) => answer(model, confirm, key),
        Some(Dialog::Choose(choose)) => pick(model, choose, key),
        Some(Dialog::Form(form)) => forms::press(model, form, key),
        Some(Dialog::Help(mut help)) => {
            let by = steps(key);
            match key.code {
                KeyCode::Esc | KeyCode::F(1) | KeyCode::Enter => return Vec::new(),
                KeyCode::Char('q' | '?') if help.filter.text().is_empty() => return Vec::new(),
                _ if by != 0 => {
                    let rows = view::help::rows(model.context(), &help).len();
                    help.top = help.top.saturating_add_signed(by).min(rows.saturating_sub(1));
                }
                _ => {
                    help.filter.typed(key);
                    help.top = 0;
                }
            }
            model.ui.dialog = Some(Dialog::Help(help));
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// By how many lines a key scrolls.
fn steps(key: &KeyEvent) -> isize {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Up, _) => -1,
        (KeyCode::Down, _) => 1,
        (KeyCode::PageUp, _) | (KeyCode::Char('u'), true) => -10,
        (KeyCode::PageDown, _) | (KeyCode::Char('d'), true) => 10,
        (KeyCode::Home, _) => isize::MIN + 1,
        (KeyCode::End, _) => isize::MAX,
        _ => 0,
    }
}

/// Puts pasted text where text is typed, but for the field of an approval.
pub(super) fn paste(model: &mut Model, text: &str) {
    let line = text.replace(['\r', '\n'], " ");
    match (&mut model.ui.dialog, &mut model.ui.prompt) {
        (Some(Dialog::Approve(_)), _) => {
            let words = model.ui.look.words;
            model.ui.say(words.no_paste, Tone::Warn);
        }
        (Some(Dialog::Confirm(confirm)), _) if confirm.at_reason => confirm.reason.insert(&line),
        (Some(Dialog::Form(form)), _) => {
            forms::paste(form, text);
            forms::recheck(model);
        }
        (Some(Dialog::Help(help)), _) => help.filter.insert(&line),
        (None, Some(Prompt::Filter(edit) | Prompt::Find(edit) | Prompt::Keep(edit) | Prompt::Command(edit, _))) => {
            edit.insert(&line);
        }
        (Some(_), _) | (None, None) => {}
    }
}

/// Takes a key that came faster than people type, where a question is open. It is part of a paste: where texts may be pasted
/// its character is, and nothing else of it does anything.
pub(super) fn burst(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    let words = model.ui.look.words;
    let now = model.world.now();
    match &mut model.ui.dialog {
        Some(Dialog::Approve(approval)) => {
            approval.shut_burst(now);
            model.ui.say(words.no_paste, Tone::Warn);
        }
        Some(Dialog::Confirm(confirm)) if !confirm.at_reason => {
            confirm.typed.clear();
            confirm.problem = Some(words.no_paste.to_owned());
        }
        Some(Dialog::Confirm(confirm)) => {
            confirm.problem = None;
            match key.code {
                KeyCode::Enter => confirm.problem = Some(words.enter_in_paste.to_owned()),
                KeyCode::Tab => confirm.reason.insert(" "),
                KeyCode::Char(_) | KeyCode::Backspace | KeyCode::Delete | KeyCode::Left | KeyCode::Right => {
                    confirm.reason.typed(key);
                }
                _ => {}
            }
        }
        Some(Dialog::Form(_)) if sends(*key) && key.code != KeyCode::Enter => {
            model.ui.say(words.sent_in_paste, Tone::Warn);
        }
        _ => {
            model.ui.said = None;
            return press(model, key);
        }
    }
    Vec::new()
}

fn approve(model: &mut Model, mut approval: Approval, key: &KeyEvent) -> Vec<Command> {
    let held = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Esc => {
            model.ui.queue.clear();
            return Vec::new();
        }
        KeyCode::Char('n') if held && !model.ui.queue.is_empty() => {
            next_approval(model);
            return Vec::new();
        }
        KeyCode::Tab => approval.section = approval.section.saturating_add(1) % SECTIONS,
        KeyCode::BackTab => approval.section = approval.section.saturating_add(SECTIONS).saturating_sub(1) % SECTIONS,
        KeyCode::Char('y') if held => {
            let digest = approval.shown.as_ref().map(|(digest, _)| digest.to_string());
            model.ui.dialog = Some(Dialog::Approve(approval));
            return digest.into_iter().map(Command::Copy).collect();
        }
        KeyCode::Char('x') if held => {
            acts::confirm(model, vec![approval.id], Wish::Reject);
            if model.ui.dialog.is_none() {
                model.ui.dialog = Some(Dialog::Approve(approval));
            }
            return Vec::new();
        }
        KeyCode::Enter => return give(model, approval),
        _ if approval.closed(&model.world).is_some() && matches!(key.code, KeyCode::Char('j' | 'k')) => {
            let by = if key.code == KeyCode::Char('j') { 1 } else { -1 };
            approval.tops[approval.section] = approval.tops[approval.section].saturating_add_signed(by);
        }
        _ => {
            let by = steps(key);
            // In the line that is typed these move the cursor, and there is more to read than to type.
            if by != 0 {
                approval.tops[approval.section] = approval.tops[approval.section].saturating_add_signed(by);
            } else if approval.closed(&model.world).is_none() {
                approval.field.typed(key);
            }
        }
    }
    model.ui.dialog = Some(Dialog::Approve(approval));
    Vec::new()
}

/// Sends the approval, if the field is open and holds the phrase.
fn give(model: &mut Model, mut approval: Approval) -> Vec<Command> {
    let phrase = approval.phrase(&model.world);
    let open = approval.closed(&model.world).is_none();
    if let (true, Some(phrase), Some((digest, _))) = (open, phrase, approval.shown.clone())
        && approval.field.text().trim() == phrase
    {
        let wish = Wish::Approve { digest, start: None, until: None };
        let commands = acts::send(model, &[approval.id], &wish, None);
        next_approval(model);
        return commands;
    }
    if open {
        model.ui.say(model.ui.look.words.not_the_phrase, Tone::Warn);
        approval.shut_wrong(model.world.now());
    }
    model.ui.dialog = Some(Dialog::Approve(approval));
    Vec::new()
}

/// Opens the question about the next marked task.
pub(super) fn next_approval(model: &mut Model) {
    if !model.ui.queue.is_empty() {
        let next = model.ui.queue.remove(0);
        model.ui.dialog = Some(Dialog::Approve(Approval::of(next, model.world.now())));
    }
}

/// Shows what would run now, and what of it was read.
pub(super) fn settle(model: &mut Model) {
    let cx = model.ui.context(&model.world);
    if let Some(Dialog::Approve(approval)) = &mut model.ui.dialog {
        approval.refresh(cx);
        note_what_was_read(cx, approval);
    }
}

/// Notes which section was seen to its end.
fn note_what_was_read(cx: Context<'_>, approval: &mut Approval) {
    if approval.shown.is_none() {
        return;
    }
    let (total, seen) = view::approve::section_size(cx, approval);
    let section = approval.section;
    // Of a few lines nobody can read a plan, and what is still read from the disk was not seen.
    let known = section != DIFF || !approval.is_reading(cx.world);
    approval.tops[section] = approval.tops[section].min(total.saturating_sub(seen));
    if approval.tops[section].saturating_add(seen) >= total && seen >= READABLE_ROWS && known {
        approval.read[section] = true;
    }
}

fn answer(model: &mut Model, mut confirm: Confirm, key: &KeyEvent) -> Vec<Command> {
    match key.code {
        KeyCode::Esc => {
            model.ui.queue.clear();
            return Vec::new();
        }
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down if confirm.phrase.is_some() => {
            confirm.at_reason = !confirm.at_reason;
        }
        KeyCode::Enter => {
            let words = model.ui.look.words;
            let reason = confirm.reason.text().trim().to_owned();
            let said = confirm.phrase.as_ref().is_none_or(|phrase| confirm.typed.text().trim() == phrase);
            if !said {
                confirm.problem = Some(words.not_the_phrase.to_owned());
                confirm.at_reason = false;
            } else if confirm.needs_reason && reason.is_empty() {
                confirm.problem = Some(words.needs_reason.to_owned());
                confirm.at_reason = true;
            } else {
                let reason = (!reason.is_empty()).then_some(reason);
                let commands = acts::send(model, &confirm.targets, &confirm.wish, reason.as_deref());
                next_approval(model);
                return commands;
            }
        }
        _ => {
            let edit = if confirm.at_reason { &mut confirm.reason } else { &mut confirm.typed };
            edit.typed(key);
            confirm.problem = None;
        }
    }
    model.ui.dialog = Some(Dialog::Confirm(confirm));
    Vec::new()
}

fn pick(model: &mut Model, mut choose: Choose, key: &KeyEvent) -> Vec<Command> {
    let last = choose.items.len().saturating_sub(1);
    match key.code {
        KeyCode::Esc | KeyCode::Char('q') => return Vec::new(),
        KeyCode::Char('j') => choose.at = choose.at.saturating_add(1).min(last),
        KeyCode::Char('k') => choose.at = choose.at.saturating_sub(1),
        KeyCode::Enter => {
            match choose.items.into_iter().nth(choose.at) {
                Some((_, Chosen::Wish(id, wish))) => acts::confirm(model, vec![id], wish),
                Some((_, Chosen::Template(name))) => forms::open(model, name.as_ref()),
                None => {}
            }
            return Vec::new();
        }
        _ => choose.at = choose.at.saturating_add_signed(steps(key)).min(last),
    }
    model.ui.dialog = Some(Dialog::Choose(choose));
    Vec::new()
}
