//! The lines in which something is typed: filters, searches, commands.
//!
//! **Invariant:** pure. A command is the same verb as on the command line, and opens the same question as its key.

use crossterm::event::{KeyCode, KeyEvent};

use crate::base::ids::{HostName, TaskId};
use crate::domain::order::{Which, Wish};
use crate::shells::dashboard::completion::{completion, is_of_task};
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::look::{Theme, Tone};
use crate::shells::dashboard::message::Command;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::screen::table::screen_named;
use crate::shells::dashboard::update::screens::{follow, perform, set_filter, show, show_diff, show_task};
use crate::shells::dashboard::update::{acts, forms};
use crate::shells::dashboard::words::{Lang, fill};

pub(super) fn press(model: &mut Model, key: &KeyEvent) -> Vec<Command> {
    let Some(prompt) = model.ui.prompt.take() else { return Vec::new() };
    match prompt {
        Prompt::Filter(mut edit) => match key.code {
            KeyCode::Enter => {}
            KeyCode::Esc => set_filter(model, ""),
            _ => {
                edit.typed(key);
                set_filter(model, edit.text());
                model.ui.prompt = Some(Prompt::Filter(edit));
            }
        },
        Prompt::Find(mut edit) => match key.code {
            KeyCode::Enter => return answer(model, &Prompt::Find(edit)),
            KeyCode::Esc => {}
            _ => {
                edit.typed(key);
                model.ui.prompt = Some(Prompt::Find(edit));
            }
        },
        Prompt::Keep(mut edit) => match key.code {
            KeyCode::Enter => return answer(model, &Prompt::Keep(edit)),
            KeyCode::Esc => return answer(model, &Prompt::Keep(Edit::default())),
            _ => {
                edit.typed(key);
                model.ui.prompt = Some(Prompt::Keep(edit));
            }
        },
        Prompt::Command(edit, at) => return command_line(model, edit, at, key),
    }
    Vec::new()
}

/// Gives a screen what it had asked for.
fn answer(model: &mut Model, prompt: &Prompt) -> Vec<Command> {
    let reaction = model.on_screen(|screen, _| screen.answer(prompt));
    follow(model, reaction)
}

fn command_line(model: &mut Model, mut edit: Edit, at: Option<usize>, key: &KeyEvent) -> Vec<Command> {
    match key.code {
        KeyCode::Esc => return Vec::new(),
        KeyCode::Enter => {
            let line = edit.text().trim();
            model.ui.typed_commands.add(line);
            return execute(model, line);
        }
        KeyCode::Up => {
            model.ui.prompt = Some(model.ui.typed_commands.before(at));
            return Vec::new();
        }
        KeyCode::Down => {
            model.ui.prompt = Some(model.ui.typed_commands.after(at));
            return Vec::new();
        }
        KeyCode::Tab => {
            if let Some(whole) = completion(model.context(), model.targets().task, edit.text()) {
                edit = Edit::new(whole);
            }
        }
        KeyCode::Backspace if edit.text().is_empty() => return Vec::new(),
        _ => drop(edit.typed(key)),
    }
    model.ui.prompt = Some(Prompt::Command(edit, at));
    Vec::new()
}

fn execute(model: &mut Model, line: &str) -> Vec<Command> {
    let words = model.ui.look.words;
    let mut parts = line.split_whitespace();
    let verb = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let task = match rest.first() {
        Some(word) => find_task(model, word),
        None => model.targets().task,
    };
    if is_of_task(verb) {
        let Some(id) = task else {
            model.ui.say(fill(words.no_such_task, &[rest.first().unwrap_or(&"")]), Tone::Warn);
            return Vec::new();
        };
        if !model.world.runs().contains_key(&id) && !model.world.tasks().contains_key(&id) && verb != "diff" {
            // What can be done with it is known once it was read.
            show_task(model, id);
            return Vec::new();
        }
        return of_task(model, verb, id, rest.get(1..).unwrap_or_default());
    }
    let arg = rest.first().copied().unwrap_or_default();
    match verb {
        "" => {}
        "new" if model.ui.readonly => model.ui.say(words.readonly, Tone::Warn),
        "new" => match arg.parse() {
            Ok(name) => forms::open(model, Some(&name)),
            Err(_) => forms::choose(model),
        },
        "theme" => match Theme::parse(arg) {
            Some(theme) => model.ui.look.theme = theme,
            None => model.ui.say(fill(words.unknown_word, &[arg]), Tone::Warn),
        },
        "lang" => match Lang::parse(arg) {
            Some(lang) => {
                model.ui.lang = lang;
                model.ui.look.words = lang.words();
            }
            None => model.ui.say(fill(words.unknown_word, &[arg]), Tone::Warn),
        },
        "ascii" => model.ui.look.ascii = arg != "off",
        "bell" => model.ui.bell = arg != "off",
        "help" => return perform(model, Action::Help),
        "requests" => return perform(model, Action::Requests),
        "q" | "quit" => return vec![Command::Quit],
        other => match screen_named(other) {
            Some(named) => show(model, named, arg),
            None => model.ui.say(fill(words.unknown_command, &[other]), Tone::Warn),
        },
    }
    Vec::new()
}

fn find_task(model: &Model, word: &str) -> Option<TaskId> {
    if let Some(id) = word.parse().ok().map(TaskId) {
        return Some(id);
    }
    let named = model.world.tasks().values().rev().find(|task| task.view.name == word).map(|task| task.view.id);
    named.or_else(|| model.world.recent().iter().find(|line| line.name == word).map(|line| line.id))
}

/// Reads the names of a task's hosts, or returns the first word that is none: it must not make it the whole task.
fn hosts_of<'a>(model: &Model, id: TaskId, words: &[&'a str]) -> Result<Vec<HostName>, &'a str> {
    let known = |host: &HostName| model.world.run(id).is_none_or(|run| run.lanes.iter().any(|lane| lane.host == *host));
    let named = words.iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
    named.map(|word| word.parse().ok().filter(&known).ok_or(word)).collect()
}

fn of_task(model: &mut Model, verb: &str, id: TaskId, rest: &[&str]) -> Vec<Command> {
    let words = model.ui.look.words;
    if model.ui.readonly && !matches!(verb, "task" | "show" | "logs" | "diff") {
        model.ui.say(words.readonly, Tone::Warn);
        return Vec::new();
    }
    // What follows a verb that takes a step is that step.
    let named = rest.get(usize::from(matches!(verb, "release" | "skip"))..).unwrap_or_default();
    let hosts = match hosts_of(model, id, if verb == "diff" { &[] } else { named }) {
        Ok(hosts) => hosts,
        Err(word) => {
            model.ui.say(fill(words.not_a_host, &[word, &id.to_string()]), Tone::Fail);
            return Vec::new();
        }
    };
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
                Some(other) => show_diff(model, other, id),
                None => model.ui.say(words.nothing_to_compare, Tone::Warn),
            }
            return Vec::new();
        }
        "reject" => Wish::Reject,
        "withdraw" => Wish::Withdraw,
        "hold" => Wish::Hold,
        "continue" => {
            let Some(wait) = model.world.run(id).and_then(|run| run.batch_wait) else {
                model.ui.say(fill(words.nothing_waits, &[&id.to_string()]), Tone::Warn);
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
                model.ui.say(words.which_step, Tone::Warn);
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
