//! A new task: fields that are checked while they are typed, the file they make, and the plan it comes to.
//!
//! **Invariant:** pure. The file is read and resolved by what the daemon uses, so what passes here is what it will take; the
//! hosts of a selector are written out by name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::ids::{GroupNo, ParamName, TemplateName};
use crate::domain::inventory::selector::select;
use crate::domain::library::Library;
use crate::domain::plan::Plan;
use crate::domain::problem::Problem;
use crate::domain::resolve::resolve;
use crate::domain::run::Run;
use crate::domain::submission::{Hosts, Schedule, TemplateRef, Work};
use crate::domain::template::{ParamKind, Template};
use crate::domain::wire::read_task;
use crate::shells::dashboard::edit::Edit;

/// A task that is being written.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) template: Option<TemplateName>,
    pub(super) title: String,
    pub(super) fields: Vec<Field>,
    pub(super) at: usize,
    pub(super) top: usize,
    pub(super) tab: Tab,
    /// The file as it is typed; the fields count no longer once it is `Some`.
    pub(super) raw: Option<Edit>,
    pub(super) ready: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) plan: Option<Box<Plan>>,
    /// Hosts to choose from, while they are.
    pub(super) picker: Option<Picker>,
    /// Whether problems are shown of fields that were never touched.
    pub(super) tried: bool,
    /// Whether the next Esc throws it away.
    pub(super) leaving: bool,
    /// What was said of it that is worth more than one key: why it was refused, or why an editor changed nothing.
    pub(super) notice: Option<String>,
    /// What an earlier task said that no field says.
    pub(super) base: serde_json::Map<String, Value>,
}

/// What of the form is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Fields,
    Json,
    Plan,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: FieldKey,
    pub(super) label: String,
    pub(super) kind: FieldKind,
    pub(super) edit: Edit,
    pub(super) required: bool,
    pub(super) touched: bool,
    /// Whether an earlier task said this value, so that it counts though it is empty.
    pub(super) said: bool,
}

/// Which part of the file a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FieldKey {
    TaskName,
    Script,
    Account,
    Param(ParamName),
    Hosts(GroupNo),
    ExecTime,
    NotAfter,
    Batches,
    BatchInterval,
    BatchGate,
    MaxFail,
    Details,
}

/// What a field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    /// Many lines.
    Lines,
    /// One of these; the arrows go through them.
    Choice(Vec<String>),
    Hosts,
}

/// Hosts to choose from.
#[derive(Debug, Default)]
pub(super) struct Picker {
    pub(super) filter: Edit,
    pub(super) chosen: Vec<String>,
    pub(super) at: usize,
}

impl FieldKey {
    /// The JSON pointer of its problems.
    fn pointer(&self) -> String {
        match self {
            FieldKey::TaskName => "/task_name".to_owned(),
            FieldKey::Script => "/script".to_owned(),
            FieldKey::Account => "/account".to_owned(),
            FieldKey::Param(name) => format!("/args/{name}"),
            FieldKey::Hosts(group) => format!("/hosts/{group}"),
            FieldKey::ExecTime => "/exec_time".to_owned(),
            FieldKey::NotAfter => "/not_after".to_owned(),
            FieldKey::Batches => "/batches".to_owned(),
            FieldKey::BatchInterval => "/batch_interval".to_owned(),
            FieldKey::BatchGate => "/batch_gate".to_owned(),
            FieldKey::MaxFail => "/max_fail".to_owned(),
            FieldKey::Details => "/details".to_owned(),
        }
    }
}

fn field(key: FieldKey, label: impl Into<String>, kind: FieldKind, text: impl Into<String>) -> Field {
    Field { key, label: label.into(), kind, edit: Edit::new(text), required: false, touched: false, said: false }
}

impl Form {
    /// Opens a form for a template, or for a script of the task's own. `labels` are the words for the fields that every
    /// task has.
    pub(super) fn of(template: Option<&Template>, labels: &[&str; 11]) -> Form {
        let [task_name, script, account, hosts, exec_time, not_after, batches, interval, gate, max_fail, details] =
            *labels;
        let choice = || FieldKind::Choice(["", "true", "false"].map(str::to_owned).into());
        let mut fields = vec![field(FieldKey::TaskName, task_name, FieldKind::Text, "")];
        let mut groups: Vec<GroupNo> = vec![GroupNo(1)];
        if let Some(template) = template {
            fields[0].edit =
                Edit::new(if template.title.is_empty() { template.name.as_str() } else { &template.title });
            for param in &template.params {
                let kind = match (&param.secret, &param.kind) {
                    (Some(names), _) => FieldKind::Choice(names.iter().map(|name| format!("secret:{name}")).collect()),
                    (None, ParamKind::Bool) => choice(),
                    (None, ParamKind::Enum(values)) => FieldKind::Choice(values.clone()),
                    (None, ParamKind::String | ParamKind::Path | ParamKind::Int | ParamKind::Tag(_)) => FieldKind::Text,
                };
                let label = if param.label.is_empty() { param.name.to_string() } else { param.label.clone() };
                let text = param.default.clone().unwrap_or_default();
                let required = param.required && param.default.is_none();
                fields.push(Field { required, ..field(FieldKey::Param(param.name.clone()), label, kind, text) });
            }
            groups = template.named_groups().collect();
            groups.sort_unstable();
            groups.dedup();
        } else {
            fields.push(Field { required: true, ..field(FieldKey::Script, script, FieldKind::Lines, "#!/bin/sh\n") });
            fields.push(field(FieldKey::Account, account, FieldKind::Text, ""));
        }
        fields[0].required = true;
        for group in &groups {
            let label = if groups.len() > 1 { format!("{hosts} {group}") } else { hosts.to_owned() };
            fields.push(Field { required: true, ..field(FieldKey::Hosts(*group), label, FieldKind::Hosts, "") });
        }
        let plain = [
            (FieldKey::ExecTime, exec_time, FieldKind::Text),
            (FieldKey::NotAfter, not_after, FieldKind::Text),
            (FieldKey::Batches, batches, FieldKind::Text),
            (FieldKey::BatchInterval, interval, FieldKind::Text),
            (FieldKey::BatchGate, gate, choice()),
            (FieldKey::MaxFail, max_fail, FieldKind::Text),
            (FieldKey::Details, details, FieldKind::Text),
        ];
        fields.extend(plain.into_iter().map(|(key, label, kind)| field(key, label, kind, "")));
        let title =
            template.map_or_else(|| script.to_owned(), |template| format!("{} ({})", template.name, template.id));
        Form {
            template: template.map(|template| template.name.clone()),
            title,
            fields,
            at: 0,
            top: 0,
            tab: Tab::Fields,
            raw: None,
            ready: false,
            problems: Vec::new(),
            plan: None,
            picker: None,
            tried: false,
            leaving: false,
            notice: None,
            base: serde_json::Map::new(),
        }
    }

    /// Fills in what a task said that ran before, but for its times. A parameter that the template does not name has a field
    /// of its own.
    pub(super) fn like(mut self, run: &Run, library: &Library) -> Form {
        let said: Value = serde_json::from_str(&run.accepted.submission).unwrap_or_default();
        if let Value::Object(members) = &said {
            // Its times, its key and its claims were that task's own.
            let own =
                ["exec_time", "not_after", "schedule", "idempotency_key", "submitter", "title", "creator", "command"];
            let kept = members.iter().filter(|(name, _)| !own.contains(&name.as_str()));
            self.base = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        }
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = |name: &str| match &said[name] {
            Value::Null => String::new(),
            Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(" "),
            other => word(other),
        };
        let (params, chosen) = match read_task(run.accepted.submission.as_bytes(), &library.zone) {
            Ok(submission) => match submission.work {
                Work::Template { params, .. } => (params, submission.hosts),
                Work::Script { .. } => (BTreeMap::new(), submission.hosts),
            },
            Err(_) => (BTreeMap::new(), BTreeMap::new()),
        };
        let known: Vec<&FieldKey> = self.fields.iter().map(|field| &field.key).collect();
        let others = params.keys().map(|name| FieldKey::Param(name.clone())).filter(|key| !known.contains(&key));
        let others: Vec<Field> =
            others.map(|key| field(key.clone(), &key.pointer()["/args/".len()..], FieldKind::Text, "")).collect();
        let at = self
            .fields
            .iter()
            .rposition(|field| matches!(field.key, FieldKey::Param(_)))
            .map_or(1, |n| n.saturating_add(1));
        self.fields.splice(at..at, others);
        for field in &mut self.fields {
            match &field.key {
                FieldKey::TaskName => field.edit = Edit::new(run.plan.task_name.clone()),
                FieldKey::Details => field.edit = Edit::new(run.accepted.details.clone()),
                FieldKey::Param(name) => {
                    field.said = params.contains_key(name);
                    if let Some(value) = params.get(name).or_else(|| run.plan.env.get(name)) {
                        field.edit = Edit::new(value.clone());
                    }
                }
                FieldKey::Hosts(group) => {
                    // What chose the hosts chooses them again; a list says which they were.
                    let text = if let Some(Hosts::Chosen(selector)) = chosen.get(group) {
                        selector.clone()
                    } else {
                        let hosts = run.plan.group(*group).map_or(&[][..], |group| &group.hosts);
                        hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                    };
                    field.edit = Edit::new(text);
                }
                FieldKey::Script => {
                    let script = run.plan.scripts.values().next().cloned().unwrap_or_default();
                    field.edit = Edit::new(script);
                }
                FieldKey::Account => field.edit = Edit::new(text("account")),
                FieldKey::Batches => field.edit = Edit::new(text("batches")),
                FieldKey::BatchInterval => field.edit = Edit::new(text("batch_interval")),
                FieldKey::BatchGate => field.edit = Edit::new(text("batch_gate")),
                FieldKey::MaxFail => field.edit = Edit::new(text("max_fail")),
                FieldKey::ExecTime | FieldKey::NotAfter => {}
            }
        }
        self
    }

    /// The file that it makes.
    pub(super) fn bytes(&self, library: &Library) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.text().as_bytes().to_vec();
        }
        let mut file = self.base.clone();
        for field in &self.fields {
            // What a field says is said by the field alone.
            let pointer = field.key.pointer();
            file.remove(pointer[1..].split('/').next().unwrap_or_default());
        }
        let mut file = Value::Object(file);
        let mut args: BTreeMap<String, Value> = BTreeMap::new();
        let mut hosts: BTreeMap<String, Value> = BTreeMap::new();
        if let Some(template) = &self.template {
            file["temp_id"] = json!(template);
        }
        let in_percent =
            self.fields.iter().any(|field| field.key == FieldKey::Batches && field.edit.text().contains('%'));
        for field in &self.fields {
            let text = field.edit.text();
            let words = || -> Vec<&str> { text.split([',', ' ']).filter(|word| !word.is_empty()).collect() };
            match &field.key {
                _ if text.trim().is_empty() && (field.touched || !field.said) => {}
                FieldKey::Param(name) => drop(args.insert(name.to_string(), json!(text))),
                FieldKey::Hosts(group) => {
                    let names = match select(&library.inventory, text) {
                        // Percentages are of what a selector chooses; a list says exactly which hosts.
                        Ok(_) if in_percent => json!(text.trim()),
                        Ok(names) => json!(names),
                        Err(_) => {
                            json!(text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>())
                        }
                    };
                    hosts.insert(group.to_string(), names);
                }
                FieldKey::Batches => file["batches"] = json!(words()),
                FieldKey::BatchGate => file["batch_gate"] = json!(text == "true"),
                FieldKey::Script => file["script"] = json!(text),
                key => file[&key.pointer()[1..]] = json!(text.trim()),
            }
        }
        if !args.is_empty() {
            file["args"] = json!(args);
        }
        file["hosts"] = json!(hosts);
        serde_json::to_vec_pretty(&file).expect("texts serialise")
    }

    /// Whether anything was typed.
    pub(super) fn is_touched(&self) -> bool {
        self.raw.is_some() || self.fields.iter().any(|field| field.touched)
    }

    /// Reads and resolves the file.
    pub(super) fn check(&mut self, library: &Library) {
        let bytes = self.bytes(library);
        let read = read_task(&bytes, &library.zone).map_err(|unreadable| unreadable.problems);
        match read.and_then(|submission| resolve(&submission, library)) {
            Ok(plan) => {
                self.plan = Some(Box::new(plan));
                self.problems.clear();
            }
            Err(problems) => {
                self.plan = None;
                self.problems = problems;
            }
        }
        if self.raw.is_none() {
            self.selector_problems(library);
        }
    }

    /// Says of a selector what is wrong with it, instead of what its words would be as names.
    fn selector_problems(&mut self, library: &Library) {
        for field in &self.fields {
            let FieldKey::Hosts(_) = field.key else { continue };
            if let Err(found) = select(&library.inventory, field.edit.text()) {
                let pointer = field.key.pointer();
                self.problems.retain(|problem| problem.pointer != pointer);
                self.problems.extend(found.into_iter().map(|why| Problem::new(&pointer, "a selector", why)));
            }
        }
    }

    /// What is wrong with a field.
    pub(super) fn problem(&self, field: &Field) -> Option<&Problem> {
        let pointer = field.key.pointer();
        let deeper = format!("{pointer}/");
        let whole = matches!(field.key, FieldKey::Hosts(_)).then_some("/hosts");
        self.problems.iter().find(|problem| {
            problem.pointer == pointer
                || problem.pointer.starts_with(&deeper)
                || Some(problem.pointer.as_str()) == whole
        })
    }

    /// How many hosts a field chooses.
    pub(super) fn host_count(field: &Field, library: &Library) -> Option<usize> {
        select(&library.inventory, field.edit.text()).ok().map(|hosts| hosts.len())
    }

    /// What the file wishes: a drop into `ready/` asks to run without approval.
    pub(super) fn schedule(&self) -> Schedule {
        if self.ready { Schedule::Ready } else { Schedule::New }
    }
}

/// Returns the template that a run came from, as the catalogue has it now.
pub(super) fn template_of<'a>(library: &'a Library, run: &Run) -> Option<&'a Template> {
    let name = run.plan.template.as_ref()?.name.clone();
    library.catalogue.find(&TemplateRef::Name(name))
}
