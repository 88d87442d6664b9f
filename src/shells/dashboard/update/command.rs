//! The lines in which something is typed: filters, searches, commands.
//!
//! **Invariant:** pure. A command is the same verb as on the command line, and opens the same question as its key.

use crossterm::event::{KeyCode, KeyEvent};

use crate::base::ids::{HostName, TaskId};
use crate::domain::order::{Which, Wish};
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::look::{Theme, Tone};
use crate::shells::dashboard::message::Command;
use crate::shells::dashboard::model::{Model, Prompt};
use crate::shells::dashboard::screens::{DiffScreen, List, Screen};
use crate::shells::dashboard::update::dialogs::typed;
use crate::shells::dashboard::update::logs::find;
use crate::shells::dashboard::update::screens::{perform, push, set_filter, show, show_task};
use crate::shells::dashboard::update::{acts, forms};
use crate::shells::dashboard::words::{Lang, fill};

/// The commands, for completion; those that take a task first.
const OF_TASK: [&str; 14] = [
    "approve", "reject", "withdraw", "hold", "release", "continue", "cancel", "retry", "skip", "task", "show", "same",
    "diff", "logs",
];
/// How many words are offered at most.
const OFFERED_MAX: usize = 200;
/// The other commands.
const OTHERS: [&str; 15] = [
    "board",
    "hosts",
    "host",
    "history",
    "audit",
    "templates",
    "new",
    "theme",
    "lang",
    "ascii",
    "bell",
    "help",
    "requests",
    "bad",
    "quit",
];

pub(super) fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    let Some(prompt) = model.prompt.take() else { return Vec::new() };
    match prompt {
        Prompt::Filter(mut edit) => match key.code {
            KeyCode::Enter => {}
            KeyCode::Esc => set_filter(model, ""),
            _ => {
                typed(&mut edit, key);
                set_filter(model, edit.text());
                model.prompt = Some(Prompt::Filter(edit));
            }
        },
        Prompt::Find(mut edit) => match key.code {
            KeyCode::Enter => {
                if let Screen::Log(screen) = model.screen_mut() {
                    edit.text().clone_into(&mut screen.find);
                }
                return find(model, true);
            }
            KeyCode::Esc => {}
            _ => {
                typed(&mut edit, key);
                model.prompt = Some(Prompt::Find(edit));
            }
        },
        Prompt::Keep(mut edit) => match key.code {
            KeyCode::Enter | KeyCode::Esc => {
                if let Screen::Log(screen) = model.screen_mut() {
                    screen.keep = if key.code == KeyCode::Enter { edit.text().to_owned() } else { String::new() };
                }
            }
            _ => {
                typed(&mut edit, key);
                model.prompt = Some(Prompt::Keep(edit));
            }
        },
        Prompt::Command(edit, at) => return command_line(model, edit, at, key),
    }
    Vec::new()
}

fn command_line(model: &mut Model, mut edit: Edit, at: Option<usize>, key: &KeyEvent) -> Vec<Command> {
    let earlier =
        |at: Option<usize>| at.and_then(|at| model.commands.get(at)).cloned().map_or_else(Edit::default, Edit::new);
    match key.code {
        KeyCode::Esc => return Vec::new(),
        KeyCode::Enter => {
            let line = edit.text().trim().to_owned();
            if !line.is_empty() {
                model.commands.retain(|known| *known != line);
                model.commands.push(line.clone());
            }
            return execute(model, &line);
        }
        KeyCode::Up => {
            let at = at.map_or(model.commands.len(), |at| at).checked_sub(1).or(at);
            model.prompt = Some(Prompt::Command(earlier(at), at));
            return Vec::new();
        }
        KeyCode::Down => {
            let at = at.map(|at| at.saturating_add(1)).filter(|at| *at < model.commands.len());
            model.prompt = Some(Prompt::Command(earlier(at), at));
            return Vec::new();
        }
        KeyCode::Tab => {
            if let Some(whole) = completion(model, edit.text()) {
                edit = Edit::new(whole);
            }
        }
        KeyCode::Backspace if edit.text().is_empty() => return Vec::new(),
        _ => drop(typed(&mut edit, key)),
    }
    model.prompt = Some(Prompt::Command(edit, at));
    Vec::new()
}

/// Returns what can follow what was typed, in the order in which it is offered.
pub(in crate::shells::dashboard) fn candidates(model: &Model, line: &str) -> Vec<String> {
    let (head, last) = line.rsplit_once(' ').map_or(("", line), |(head, last)| (head, last));
    let words: Vec<String> = match head.split(' ').next().unwrap_or_default() {
        "" => OF_TASK.iter().chain(&OTHERS).map(|word| (*word).to_owned()).collect(),
        "theme" => Theme::ALL.iter().map(|theme| theme.word().to_owned()).collect(),
        "lang" => Lang::ALL.iter().map(|lang| lang.word().to_owned()).collect(),
        "ascii" | "bell" => ["on", "off"].map(str::to_owned).into(),
        "new" => {
            model.library.iter().flat_map(|library| library.catalogue.iter()).map(|t| t.name.to_string()).collect()
        }
        "host" => {
            model.library.iter().flat_map(|library| library.inventory.hosts.keys()).map(ToString::to_string).collect()
        }
        verb if OF_TASK.contains(&verb) => {
            model.current_task().into_iter().chain(model.tasks.keys().copied()).map(|id| id.to_string()).collect()
        }
        _ => Vec::new(),
    };
    let mut found: Vec<String> = words.into_iter().filter(|word| word.starts_with(last)).collect();
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|word| seen.insert(word.clone()));
    found.truncate(OFFERED_MAX);
    found
}

/// Completes the last word as far as all candidates agree.
fn completion(model: &Model, line: &str) -> Option<String> {
    let found = candidates(model, line);
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

fn execute(model: &mut Model, line: &str) -> Vec<Command> {
    let words = model.look.words;
    let mut parts = line.split_whitespace();
    let verb = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let task = match rest.first() {
        Some(word) => find_task(model, word),
        None => model.current_task(),
    };
    if OF_TASK.contains(&verb) {
        let Some(id) = task else {
            model.say(fill(words.no_such_task, &[rest.first().unwrap_or(&"")]), Tone::Warn);
            return Vec::new();
        };
        if !model.runs.contains_key(&id) && !model.tasks.contains_key(&id) && verb != "diff" {
            // What can be done with it is known once it was read.
            show_task(model, id);
            return Vec::new();
        }
        return of_task(model, verb, id, rest.get(1..).unwrap_or_default());
    }
    let arg = rest.first().copied().unwrap_or_default();
    match verb {
        "" => {}
        "board" => show(model, 0),
        "hosts" => show(model, 1),
        "history" => show(model, 2),
        "audit" => show(model, 3),
        "templates" => show(model, 4),
        "bad" => push(model, Screen::Refused(List::default())),
        "host" => match arg.parse::<HostName>() {
            Ok(name) => push(model, Screen::Host(name, List::default())),
            Err(wanted) => model.say(format!("host {arg}: {wanted}"), Tone::Warn),
        },
        "new" if model.readonly => model.say(words.readonly, Tone::Warn),
        "new" => match arg.parse() {
            Ok(name) => forms::open(model, Some(&name)),
            Err(_) => forms::choose(model),
        },
        "theme" => match Theme::parse(arg) {
            Some(theme) => model.look.theme = theme,
            None => model.say(fill(words.unknown_word, &[arg]), Tone::Warn),
        },
        "lang" => match Lang::parse(arg) {
            Some(lang) => {
                model.lang = lang;
                model.look.words = lang.words();
            }
            None => model.say(fill(words.unknown_word, &[arg]), Tone::Warn),
        },
        "ascii" => model.look.ascii = arg != "off",
        "bell" => model.bell = arg != "off",
        "help" => return perform(model, crate::shells::dashboard::keys::Action::Help),
        "requests" => return perform(model, crate::shells::dashboard::keys::Action::Requests),
        "q" | "quit" => return vec![Command::Quit],
        other => model.say(fill(words.unknown_command, &[other]), Tone::Warn),
    }
    Vec::new()
}

fn find_task(model: &Model, word: &str) -> Option<TaskId> {
    if let Some(id) = word.parse().ok().map(TaskId) {
        return Some(id);
    }
    let named = model.tasks.values().rev().find(|task| task.view.name == word).map(|task| task.view.id);
    named.or_else(|| model.recent.iter().find(|line| line.name == word).map(|line| line.id))
}

fn of_task(model: &mut Model, verb: &str, id: TaskId, rest: &[&str]) -> Vec<Command> {
    let words = model.look.words;
    if model.readonly && !matches!(verb, "task" | "show" | "logs" | "diff") {
        model.say(words.readonly, Tone::Warn);
        return Vec::new();
    }
    let takes_step = matches!(verb, "release" | "skip");
    let named =
        rest.iter().skip(usize::from(takes_step)).flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
    let mut hosts: Vec<HostName> = Vec::new();
    for word in named.filter(|_| verb != "diff") {
        // A word that names nothing must not make it the whole task.
        let known =
            |host: &HostName| model.runs.get(&id).is_none_or(|run| run.lanes.iter().any(|lane| lane.host == *host));
        match word.parse::<HostName>() {
            Ok(host) if known(&host) => hosts.push(host),
            _ => {
                model.say(fill(words.not_a_host, &[word, &id.to_string()]), Tone::Fail);
                return Vec::new();
            }
        }
    }
    let wish = match verb {
        "approve" => {
            acts::approve(model, vec![id]);
            return Vec::new();
        }
        "task" | "show" | "logs" => {
            show_task(model, id);
            return Vec::new();
        }
        "same" => {
            forms::same(model, id);
            return Vec::new();
        }
        "diff" => {
            let other = rest.first().and_then(|word| find_task(model, word));
            match other {
                Some(other) => push(model, Screen::Diff(DiffScreen { was: other, now: id, list: List::default() })),
                None => model.say(words.nothing_to_compare, Tone::Warn),
            }
            return Vec::new();
        }
        "reject" => Wish::Reject,
        "withdraw" => Wish::Withdraw,
        "hold" => Wish::Hold,
        "continue" => {
            let Some(wait) = model.runs.get(&id).and_then(|run| run.batch_wait) else {
                model.say(fill(words.nothing_waits, &[&id.to_string()]), Tone::Warn);
                return Vec::new();
            };
            Wish::Continue { group: wait.group, batch: wait.batch }
        }
        "cancel" => Wish::Cancel { hosts },
        "release" | "skip" => match (rest.first().and_then(|word| word.parse().ok()), verb) {
            (Some(step), "release") => Wish::ReleaseStep { step, hosts },
            (Some(step), _) => Wish::Skip { step, hosts },
            (None, "release") => Wish::Release,
            (None, _) => {
                model.say(words.which_step, Tone::Warn);
                return Vec::new();
            }
        },
        _ => {
            let which = if hosts.is_empty() { Which::Failed } else { Which::Hosts(hosts) };
            Wish::Retry { which, step: None, again: false }
        }
    };
    acts::confirm(model, vec![id], wish);
    Vec::new()
}
