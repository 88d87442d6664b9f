//! Keys in the form of a new task.
//!
//! **Invariant:** pure. Nothing is sent that the daemon would refuse, as far as the configuration on this screen says.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::base::ids::{TaskId, TemplateName};
use crate::domain::submission::{Schedule, TemplateRef};
use crate::engine::DropBox;
use crate::shells::dashboard::dialog::{Choose, Chosen, Dialog};
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::form::{FieldKey, FieldKind, Form, Picker, Tab, template_of};
use crate::shells::dashboard::look::Tone;
use crate::shells::dashboard::message::{Command, NotEdited};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::view::form::picker_items;
use crate::shells::dashboard::words::{Words, fill, names};

/// Asks which template a new task is of.
pub(super) fn choose(model: &mut Model) {
    let words = model.ui.look.words;
    let Some(library) = model.world.library() else {
        model.ui.say(words.no_configuration, Tone::Fail);
        return;
    };
    let mut items: Vec<(String, Chosen)> = library
        .catalogue
        .iter()
        .map(|template| {
            (format!("{}  {}", template.name, template.title), Chosen::Template(Some(template.name.clone())))
        })
        .collect();
    items.push((words.own_script.to_owned(), Chosen::Template(None)));
    model.ui.dialog = Some(Dialog::Choose(Choose { title: words.which_template.to_owned(), items, at: 0 }));
}

fn labels(words: &Words) -> [&'static str; 11] {
    [
        words.field_task_name,
        words.field_script,
        words.field_account,
        words.field_hosts,
        words.field_exec_time,
        words.field_not_after,
        words.field_batches,
        words.field_interval,
        words.field_gate,
        words.field_max_fail,
        words.field_details,
    ]
}

/// Opens an empty form.
pub(super) fn open(model: &mut Model, name: Option<&TemplateName>) {
    if model.ui.readonly {
        return;
    }
    let Some(library) = model.world.library() else { return };
    let template = name.and_then(|name| library.catalogue.find(&TemplateRef::Name(name.clone())));
    let form = Form::of(template, &labels(model.ui.look.words));
    model.ui.dialog = Some(Dialog::Form(Box::new(form)));
    recheck(model);
}

/// Opens a form with what an earlier task said.
pub(super) fn same(model: &mut Model, id: TaskId) {
    let words = model.ui.look.words;
    let (Some(library), Some(run)) = (model.world.library(), model.world.run(id)) else {
        model.ui.say(words.no_configuration, Tone::Warn);
        return;
    };
    let template = template_of(library, run);
    if run.plan.template.is_some() && template.is_none() {
        model.ui.say(words.template_gone, Tone::Fail);
        return;
    }
    let form = Form::of(template, &labels(words)).like(run, library);
    model.ui.dialog = Some(Dialog::Form(Box::new(form)));
    recheck(model);
}

/// Checks the form that is open again.
pub(super) fn recheck(model: &mut Model) {
    if let (Some(Dialog::Form(form)), Some(library)) = (&mut model.ui.dialog, model.world.library()) {
        form.check(library);
    }
}

/// Takes the text that another program edited.
pub(super) fn edited(model: &mut Model, text: Result<String, NotEdited>) {
    let words = model.ui.look.words;
    match (text, &mut model.ui.dialog) {
        (Ok(text), Some(Dialog::Form(form))) => {
            form.raw = Some(Edit::new(text));
            form.tab = Tab::Json;
            form.tried = true;
        }
        (Err(why), Some(Dialog::Form(form))) => form.notice = Some(not_edited(words, &why)),
        (Err(why), _) => model.ui.say(not_edited(words, &why), Tone::Fail),
        _ => {}
    }
    recheck(model);
}

/// Says why a text stays as it was.
fn not_edited(words: &Words, why: &NotEdited) -> String {
    match why {
        NotEdited::Words { variable, command } => fill(words.edit_words, &[variable, command]),
        NotEdited::NotFound { variable, program } => fill(words.edit_not_found, &[variable, program]),
        NotEdited::Started { program, why } => fill(words.edit_not_started, &[program, why]),
        NotEdited::Ended { program, how } => fill(words.edit_ended, &[program, how]),
        NotEdited::Gone { program } => fill(words.edit_gone, &[program]),
        NotEdited::NotText { program } => fill(words.edit_not_text, &[program]),
        NotEdited::TooLong { program } => fill(words.edit_too_long, &[program]),
        NotEdited::Empty { program } => fill(words.edit_empty, &[program]),
        NotEdited::Unchanged { program } => fill(words.edit_unchanged, &[program]),
        NotEdited::File { path, why } => fill(words.edit_file, &[path, why]),
    }
}

pub(super) fn paste(form: &mut Form, text: &str) {
    if let Some(picker) = &mut form.picker {
        picker.filter.insert(&text.replace(['\r', '\n'], " "));
        return;
    }
    match (form.tab, &mut form.raw) {
        (Tab::Json, Some(raw)) => raw.insert(&text.replace("\r\n", "\n").replace('\r', "\n")),
        (Tab::Json, None) => form.raw = Some(Edit::new(text)),
        (Tab::Fields, _) => {
            if let Some(field) = form.fields.get_mut(form.at) {
                let many = field.kind == FieldKind::Lines;
                let text = text.replace("\r\n", "\n").replace('\r', "\n");
                field.edit.insert(&if many { text } else { text.replace('\n', " ") });
                field.touched = true;
            }
        }
        (Tab::Plan, _) => {}
    }
}

pub(super) fn press(model: &mut Model, mut form: Box<Form>, key: &KeyEvent) -> Vec<Command> {
    let held = key.modifiers.contains(KeyModifiers::CONTROL);
    if form.picker.is_some() {
        choose_hosts(model, &mut form, key);
        model.ui.dialog = Some(Dialog::Form(form));
        recheck(model);
        return Vec::new();
    }
    let mut commands = Vec::new();
    if key.code != KeyCode::Esc {
        form.leaving = false;
    }
    match (key.code, held) {
        (KeyCode::Esc, _) if form.leaving || !form.is_touched() => return Vec::new(),
        (KeyCode::Esc, _) => {
            form.leaving = true;
            model.ui.say(model.ui.look.words.again_to_leave, Tone::Warn);
            model.ui.dialog = Some(Dialog::Form(form));
            return Vec::new();
        }
        (KeyCode::Char('g'), true) => form.raw = None,
        (KeyCode::Char('s'), true) => return submit(model, form),
        (KeyCode::Char('r'), true) => form.ready = !form.ready,
        (KeyCode::Char('o'), true) => {
            form.notice = None;
            commands.extend(edit_outside(model, &form));
        }
        (KeyCode::F(2), _) | (KeyCode::Char('t'), true) => {
            form.tab = match form.tab {
                Tab::Fields => Tab::Json,
                Tab::Json => Tab::Plan,
                Tab::Plan => Tab::Fields,
            };
            form.top = 0;
        }
        _ => match form.tab {
            Tab::Fields => in_fields(&mut form, key),
            Tab::Json => in_json(model, &mut form, key),
            Tab::Plan => match key.code {
                KeyCode::Down | KeyCode::Char('j') => form.top = form.top.saturating_add(1),
                KeyCode::Up | KeyCode::Char('k') => form.top = form.top.saturating_sub(1),
                KeyCode::PageDown => form.top = form.top.saturating_add(10),
                KeyCode::PageUp => form.top = form.top.saturating_sub(10),
                _ => {}
            },
        },
    }
    model.ui.dialog = Some(Dialog::Form(form));
    recheck(model);
    commands
}

fn in_fields(form: &mut Form, key: &KeyEvent) {
    let last = form.fields.len().saturating_sub(1);
    let Some(field) = form.fields.get_mut(form.at) else { return };
    let many = field.kind == FieldKind::Lines;
    match key.code {
        KeyCode::Tab => form.at = if form.at == last { 0 } else { form.at.saturating_add(1) },
        KeyCode::BackTab => form.at = form.at.checked_sub(1).unwrap_or(last),
        KeyCode::Down if !(many && field.edit.down()) => form.at = form.at.saturating_add(1).min(last),
        KeyCode::Up if !(many && field.edit.up()) => form.at = form.at.saturating_sub(1),
        KeyCode::Down | KeyCode::Up => {}
        KeyCode::Enter if many => {
            field.edit.insert("\n");
            field.touched = true;
        }
        KeyCode::Enter if field.kind == FieldKind::Hosts => form.picker = Some(Picker::default()),
        KeyCode::Enter => form.at = form.at.saturating_add(1).min(last),
        KeyCode::Left | KeyCode::Right | KeyCode::Char(' ') if matches!(field.kind, FieldKind::Choice(_)) => {
            if let FieldKind::Choice(values) = &field.kind {
                let here = values.iter().position(|value| value == field.edit.text());
                let next = match (here, key.code) {
                    (None, _) => 0,
                    (Some(at), KeyCode::Left) => at.checked_sub(1).unwrap_or(values.len().saturating_sub(1)),
                    (Some(at), _) => Some(at.saturating_add(1)).filter(|next| *next < values.len()).unwrap_or(0),
                };
                field.edit = Edit::new(values.get(next).cloned().unwrap_or_default());
                field.touched = true;
            }
        }
        _ => {
            if field.edit.typed(key) {
                field.touched = true;
            }
        }
    }
}

fn in_json(model: &Model, form: &mut Form, key: &KeyEvent) {
    let Some(library) = model.world.library() else { return };
    let bytes = form.bytes(library);
    let moves = [KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Home, KeyCode::End];
    // Looking at it changes nothing.
    if moves.contains(&key.code) && form.raw.is_none() {
        return;
    }
    let raw = form.raw.get_or_insert_with(|| Edit::new(String::from_utf8_lossy(&bytes).into_owned()));
    form.tried = true;
    match key.code {
        KeyCode::Up => drop(raw.up()),
        KeyCode::Down => drop(raw.down()),
        KeyCode::Enter => raw.insert("\n"),
        KeyCode::Tab => raw.insert("  "),
        _ => drop(raw.typed(key)),
    }
}

/// Chooses hosts and words that stand for hosts.
fn choose_hosts(model: &Model, form: &mut Form, key: &KeyEvent) {
    let Some(library) = model.world.library() else { return };
    let Some(picker) = &mut form.picker else { return };
    let items = picker_items(library, picker);
    match key.code {
        KeyCode::Esc => form.picker = None,
        KeyCode::Down => picker.at = picker.at.saturating_add(1).min(items.len().saturating_sub(1)),
        KeyCode::Up => picker.at = picker.at.saturating_sub(1),
        KeyCode::PageDown => picker.at = picker.at.saturating_add(10).min(items.len().saturating_sub(1)),
        KeyCode::PageUp => picker.at = picker.at.saturating_sub(10),
        KeyCode::Char(' ') => {
            if let Some(word) = items.get(picker.at) {
                match picker.chosen.iter().position(|known| known == word) {
                    Some(at) => drop(picker.chosen.remove(at)),
                    None => picker.chosen.push(word.clone()),
                }
                picker.at = picker.at.saturating_add(1).min(items.len().saturating_sub(1));
            }
        }
        KeyCode::Enter => {
            let mut words = std::mem::take(&mut picker.chosen);
            if words.is_empty() {
                words.extend(items.get(picker.at).cloned());
            }
            form.picker = None;
            if let Some(field) = form.fields.get_mut(form.at) {
                let known = field.edit.text().trim().trim_end_matches(',').to_owned();
                let all: Vec<String> = (!known.is_empty()).then_some(known).into_iter().chain(words).collect();
                field.edit = Edit::new(all.join(", "));
                field.touched = true;
            }
        }
        _ => {
            picker.filter.typed(key);
            picker.at = 0;
        }
    }
}

fn edit_outside(model: &Model, form: &Form) -> Option<Command> {
    let library = model.world.library()?;
    Some(Command::Edit(String::from_utf8_lossy(&form.bytes(library)).into_owned()))
}

/// Sends the task, when nothing is wrong with it.
fn submit(model: &mut Model, mut form: Box<Form>) -> Vec<Command> {
    let words = model.ui.look.words;
    form.tried = true;
    form.notice = None;
    let Some(library) = model.world.library() else {
        model.ui.say(words.no_configuration, Tone::Fail);
        model.ui.dialog = Some(Dialog::Form(form));
        return Vec::new();
    };
    form.check(library);
    if let Some(first) = form.problems.first() {
        model.ui.say(
            fill(words.problems_left, &[&form.problems.len().to_string(), &names::problem(words, first)]),
            Tone::Fail,
        );
        let wrong = form.fields.iter().position(|field| form.problem(field).is_some());
        form.at = wrong.unwrap_or(form.at);
        model.ui.dialog = Some(Dialog::Form(form));
        return Vec::new();
    }
    let bytes = form.bytes(library);
    let name =
        form.fields.iter().find(|field| field.key == FieldKey::TaskName).map_or("task", |field| field.edit.text());
    let request = model.world.request(None, format!("submit {name}"));
    let drop_box = if form.schedule() == Schedule::Ready { DropBox::Ready } else { DropBox::New };
    model.ui.drafts.send(request, form);
    vec![Command::Drop { request, drop_box, stem: "dashboard".to_owned(), bytes }]
}
