//! Keys in logs.
//!
//! **Invariant:** pure; where a page begins is known by an offset, and only what was read can be copied.

use crate::domain::output::Stream;
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::{Anchor, Command};
use crate::shells::dashboard::model::{Model, log_keys};
use crate::shells::dashboard::screens::{LogScreen, Screen};
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::fill;
use crate::shells::text::coloured;

pub(super) fn scroll_log(screen: &mut LogScreen, by: isize, seen: usize) -> Vec<Command> {
    let Some(page) = &screen.page else { return Vec::new() };
    // The page may be older than the last key: what counts is where the last key led.
    let at = match screen.anchor {
        Anchor::At(offset) => offset,
        Anchor::End => page.lines.first().map_or(page.length, |line| line.offset),
    };
    if by > 0 {
        if screen.anchor == Anchor::End {
            return Vec::new();
        }
        let here = page.lines.iter().position(|line| line.offset >= at).unwrap_or(page.lines.len());
        let there = here.saturating_add(by.unsigned_abs());
        // Past the end there is nothing to see: the log is followed again.
        let ends = page.next >= page.length;
        screen.anchor = match page.lines.get(there) {
            Some(line) if !(ends && page.lines.len().saturating_sub(there) < seen) => Anchor::At(line.offset),
            _ if ends => Anchor::End,
            _ => Anchor::At(page.next),
        };
        return Vec::new();
    }
    if screen.anchor == Anchor::End {
        screen.left_at = page.length;
    }
    let (of, keep) = (screen.part(), screen.keep.clone());
    vec![Command::LogBack { of, from: at, lines: by.unsigned_abs(), keep }]
}

/// Shows the log of the step or attempt before or after on the same host.
pub(super) fn other_log(model: &mut Model, next: bool) {
    let Screen::Log(screen) = model.screen() else { return };
    let Some(run) = model.runs.get(&screen.key.task) else { return };
    let all = log_keys(run, &screen.key.host);
    let here = all.iter().position(|key| *key == screen.key);
    let there = match (here, next) {
        (Some(at), true) => Some(at.saturating_add(1)),
        (Some(at), false) => at.checked_sub(1),
        (None, _) => Some(0),
    };
    if let Some(key) = there.and_then(|at| all.get(at)).cloned()
        && let Screen::Log(screen) = model.screen_mut()
    {
        let (wrap, find, keep, stream) = (screen.wrap, screen.find.clone(), screen.keep.clone(), screen.stream);
        *screen = LogScreen { wrap, find, keep, stream, ..LogScreen::of(key) };
    }
}

pub(super) fn find(model: &mut Model, forward: bool) -> Vec<Command> {
    let Screen::Log(screen) = model.screen() else { return Vec::new() };
    if screen.find.is_empty() {
        return Vec::new();
    }
    let lines = screen.page.as_ref().map_or(&[][..], |page| &page.lines);
    let first = lines.first().map_or(0, |line| line.offset);
    // From the line after the first that is seen, or from the first one backwards.
    let from = if forward { lines.get(1).map_or(first.saturating_add(1), |line| line.offset) } else { first };
    vec![Command::LogFind { of: screen.part(), from, needle: screen.find.clone(), forward }]
}

/// Shows the next or the previous of both streams, standard output and standard error, where the log stands.
pub(super) fn other_stream(screen: &mut LogScreen, next: bool) -> Vec<Command> {
    let of = screen.part();
    let stream = match (screen.stream, next) {
        (None, true) | (Some(Stream::Err), false) => Some(Stream::Out),
        (Some(Stream::Out), true) | (None, false) => Some(Stream::Err),
        _ => None,
    };
    // What was counted and read is of the other part.
    (screen.stream, screen.page, screen.left_at) = (stream, None, 0);
    match screen.anchor {
        Anchor::End => Vec::new(),
        Anchor::At(from) => vec![Command::LogMove { of, from, to: stream }],
    }
}

pub(super) fn follow(model: &mut Model) {
    if let Screen::Log(screen) = model.screen_mut() {
        screen.anchor = match (screen.anchor, &screen.page) {
            (Anchor::End, Some(page)) => {
                screen.left_at = page.length;
                Anchor::At(page.lines.first().map_or(0, |line| line.offset))
            }
            _ => Anchor::End,
        };
    }
}

pub(super) fn copy(model: &mut Model) -> Vec<Command> {
    let text = match model.screen() {
        Screen::Log(screen) => {
            let lines = screen.page.as_ref().map_or(&[][..], |page| &page.lines);
            // What is copied is what is seen: a clipboard is pasted into shells.
            let plain =
                |bytes: &[u8]| coloured(bytes).pieces.into_iter().map(|(text, _)| text).collect::<String>() + "\n";
            lines.iter().take(model.body_rows()).map(|line| plain(&line.bytes)).collect()
        }
        Screen::Hosts(list) => {
            view::hosts::rows(model, list).get(list.at).map_or_else(String::new, |host| host.name.to_string())
        }
        _ => match model.current_task() {
            Some(id) => model.runs.get(&id).map_or_else(|| id.to_string(), |run| format!("{id} {}", run.digest)),
            None => String::new(),
        },
    };
    if text.is_empty() {
        return Vec::new();
    }
    model.say(fill(model.look.words.copied, &[&text.len().to_string()]), Tone::Plain);
    vec![Command::Copy(text)]
}
