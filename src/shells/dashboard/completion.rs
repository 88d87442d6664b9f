//! What can follow what was typed of a command.
//!
//! **Invariant:** pure; offers only what can be executed.

use std::collections::BTreeSet;

use crate::base::ids::TaskId;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::screen::table::{NAMED_SCREENS, Placement};
use crate::shells::dashboard::words::Lang;

/// The commands that take a task first.
const OF_TASK: [&str; 14] = [
    "approve", "reject", "withdraw", "hold", "release", "continue", "cancel", "retry", "skip", "task", "show", "same",
    "diff", "logs",
];
/// The commands that are about the dashboard itself.
const OF_DASHBOARD: [&str; 6] = ["new", "theme", "lang", "ascii", "bell", "help"];
/// How many words are offered at most.
const OFFERED_MAX: usize = 200;

/// Whether a command takes a task first.
pub(super) fn is_of_task(verb: &str) -> bool {
    OF_TASK.contains(&verb)
}

/// Every command, in the order in which they are offered: what is over all views stands after what is a part of one.
fn commands() -> Vec<String> {
    let screens = |over: bool| {
        let stands = move |placement: Placement| matches!(placement, Placement::Over) == over;
        NAMED_SCREENS.iter().filter(move |named| stands(named.placement)).map(|named| named.word)
    };
    let all = OF_TASK.into_iter().chain(screens(false)).chain(OF_DASHBOARD).chain(screens(true)).chain(["quit"]);
    all.map(str::to_owned).collect()
}

/// Returns what can follow what was typed, in the order in which it is offered.
pub(super) fn candidates(cx: Context<'_>, selected: Option<TaskId>, line: &str) -> Vec<String> {
    let (head, last) = line.rsplit_once(' ').map_or(("", line), |(head, last)| (head, last));
    let words: Vec<String> = match head.split(' ').next().unwrap_or_default() {
        "" => commands(),
        "theme" => Theme::ALL.iter().map(|theme| theme.word().to_owned()).collect(),
        "lang" => Lang::ALL.iter().map(|lang| lang.word().to_owned()).collect(),
        "ascii" | "bell" => ["on", "off"].map(str::to_owned).into(),
        "new" => {
            cx.world.library().iter().flat_map(|library| library.catalogue.iter()).map(|t| t.name.to_string()).collect()
        }
        "host" => cx
            .world
            .library()
            .iter()
            .flat_map(|library| library.inventory.hosts.keys())
            .map(ToString::to_string)
            .collect(),
        verb if is_of_task(verb) => {
            selected.into_iter().chain(cx.world.tasks().keys().copied()).map(|id| id.to_string()).collect()
        }
        _ => Vec::new(),
    };
    let mut found: Vec<String> = words.into_iter().filter(|word| word.starts_with(last)).collect();
    let mut seen = BTreeSet::new();
    found.retain(|word| seen.insert(word.clone()));
    found.truncate(OFFERED_MAX);
    found
}

/// Completes the last word as far as all candidates agree.
pub(super) fn completion(cx: Context<'_>, selected: Option<TaskId>, line: &str) -> Option<String> {
    let found = candidates(cx, selected, line);
    let first = found.first()?;
    let head = &line[..line.rfind(' ').map_or(0, |at| at.saturating_add(1))];
    if let [only] = &found[..] {
        return Some(format!("{head}{only} "));
    }
    let same = (0..=first.len()).rev().find(|length| {
        first.is_char_boundary(*length) && found.iter().all(|word| word.get(..*length) == Some(&first[..*length]))
    })?;
    Some(format!("{head}{}", &first[..same]))
}
