//! CODO's templates as template files. Floor 1.
//!
//! CODO's API answers `{"code": 0, "data": [ROW, …]}` for the steps of a template (`/v2/task_layout/details/`), with `group`,
//! `level`, `command_name`, `command`, `args`, `trigger` (`order`, `hand`, `timed`), `exec_user` and `force_host`; for its list of
//! commands the same without group and level. Taken are such an answer, the rows alone, a template with its rows
//! (`temp_name`, `temp_id`, `data`), or a list of those.
//!
//! What CODO runs is `command args` by a login shell; here it is a bash script that gets each word of `args` as one argument,
//! in the same place. Rows with a `force_host` become groups of their own, once instead of once a host.
//!
//! **Invariant:** pure. What is made is read back as a template by whoever writes it; nothing of a row is dropped in silence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::ids::TemplateName;
use crate::domain::problem::Problem;

/// What a template is called where its file does not say.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// Its name.
    pub name: Option<TemplateName>,
    /// Its number.
    pub id: Option<u32>,
}

/// A template file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The template's name.
    pub name: TemplateName,
    /// The file's text.
    pub text: String,
    /// What whoever reads it should know.
    pub notes: Vec<String>,
}

/// One step of CODO's.
#[derive(Clone, Debug)]
struct CodoStep {
    group: u32,
    level: u32,
    name: String,
    command: String,
    args: String,
    trigger: &'static str,
    user: String,
    host: String,
}

/// Makes template files of what CODO's API answered; `aliases` is its list of parameters.
///
/// # Errors
/// Every row that is no step, with its place.
pub fn import(bytes: &[u8], aliases: Option<&[u8]>, naming: &Naming) -> Result<Vec<Imported>, Vec<Problem>> {
    let mut problems = Vec::new();
    let file = read(bytes, "", &mut problems);
    let labels = aliases.map(|bytes| read_aliases(&read(bytes, "aliases", &mut problems))).unwrap_or_default();
    let mut made = Vec::new();
    for (pointer, template) in templates(&file) {
        let (rows, named) = match template {
            Value::Object(fields) => {
                let rows = ["data", "details", "temp_data"].iter().find_map(|key| fields.get(*key)?.as_array());
                (rows.cloned().unwrap_or_default(), Some(template))
            }
            other => (other.as_array().cloned().unwrap_or_default(), None),
        };
        let field = |key: &str| named.and_then(|named| text_of(named, key));
        let name = field("temp_name").map(|name| word(&name)).and_then(|name| name.parse().ok());
        let Some(name) = name.or_else(|| naming.name.clone()) else {
            problems.push(Problem::new(pointer, "a template without temp_name", "--name, or the field temp_name"));
            continue;
        };
        let Some(id) = field("temp_id").and_then(|id| id.parse().ok()).or(naming.id) else {
            problems.push(Problem::new(pointer, "a template without temp_id", "--id, or the field temp_id"));
            continue;
        };
        if rows.is_empty() {
            problems.push(Problem::new(&pointer, "no rows", "the template's steps in data"));
        }
        let steps: Vec<CodoStep> = rows
            .iter()
            .enumerate()
            .filter_map(|(n, row)| step(row, &format!("{pointer}/{n}"), &mut problems))
            .collect();
        made.push(write(name, id, steps, &labels));
    }
    if problems.is_empty() { Ok(made) } else { Err(problems) }
}

fn read(bytes: &[u8], pointer: &str, problems: &mut Vec<Problem>) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        problems.push(Problem::new(pointer, error.to_string(), "JSON as CODO's API answers"));
        Value::Array(Vec::new())
    })
}

/// Returns the templates of a file: one, or a list of them.
fn templates(file: &Value) -> Vec<(String, &Value)> {
    let is_template =
        |value: &Value| value.get("data").or_else(|| value.get("details")).or_else(|| value.get("temp_data")).is_some();
    match file {
        Value::Array(items) if items.iter().any(is_template) => {
            items.iter().enumerate().map(|(n, item)| (format!("/{n}"), item)).collect()
        }
        other => vec![(String::new(), other)],
    }
}

fn text_of(row: &Value, key: &str) -> Option<String> {
    match row.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn step(row: &Value, pointer: &str, problems: &mut Vec<Problem>) -> Option<CodoStep> {
    let mut need = |key: &str| {
        let found = text_of(row, key).filter(|text| !text.trim().is_empty());
        if found.is_none() {
            problems.push(Problem::new(format!("{pointer}/{key}"), "nothing", "a text"));
        }
        found
    };
    let (name, command) = (need("command_name"), need("command"));
    let number = |key: &str, otherwise: u32| text_of(row, key).map_or(Some(otherwise), |text| text.trim().parse().ok());
    let mut wrong = |key: &str, wanted: &str| {
        let found = text_of(row, key).unwrap_or_default();
        problems.push(Problem::new(format!("{pointer}/{key}"), found, wanted));
    };
    // CODO's own defaults, where a row does not say.
    let (group, level) = (number("group", 99).filter(|group| *group > 0), number("level", 99));
    if group.is_none() {
        wrong("group", "a number from 1 on; CODO never starts group 0");
    }
    if level.is_none() {
        wrong("level", "a number");
    }
    let trigger = match text_of(row, "trigger").as_deref().unwrap_or("order") {
        "order" | "" => Some("auto"),
        "hand" => Some("manual"),
        "timed" => Some("timed"),
        _ => None,
    };
    if trigger.is_none() {
        wrong("trigger", "order, hand or timed");
    }
    let text = |key: &str| text_of(row, key).unwrap_or_default().trim().to_owned();
    Some(CodoStep {
        group: group?,
        level: level?,
        name: name?,
        command: command?,
        args: text("args"),
        trigger: trigger?,
        user: text("exec_user"),
        host: text("force_host"),
    })
}

/// Returns the aliases of parameters by their names (`args_self`).
fn read_aliases(file: &Value) -> BTreeMap<String, String> {
    let rows = file.get("data").unwrap_or(file).as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| Some((text_of(row, "args_self")?, text_of(row, "args_name")?))).collect()
}

/// Makes a word that may be a name of what people called something.
fn word(text: &str) -> String {
    let kept: String = text
        .trim()
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    let mut end = kept.len().min(80);
    while !kept.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    kept[..end].trim_matches(['-', '.']).to_owned()
}

fn write(name: TemplateName, id: u32, mut steps: Vec<CodoStep>, labels: &BTreeMap<String, String>) -> Imported {
    steps.sort_by_key(|step| (step.group, step.level));
    let mut notes = Vec::new();
    let groups = own_groups(&steps, &mut notes);
    let mut text = format!(
        "# Made of CODO's template {name} ({id}). A command gets each word of args as one argument, behind its own.\n\
         id = {id}\nname = {}\ntitle = {}\nother_params = true\n# CODO starts what is late.\nmissed = \"run\"\n",
        quoted(name.as_str()),
        quoted(name.as_str()),
    );
    for param in params(&steps) {
        let label = labels.get(&param).map(|label| format!("label = {}\n", quoted(label))).unwrap_or_default();
        text.push_str(&format!("\n[[param]]\nname = {}\n{label}required = true\n", quoted(&param)));
    }
    let mut names = BTreeSet::new();
    for (step, group) in steps.iter().zip(&groups.of_steps) {
        let mut own = word(&step.name);
        if own.is_empty() || own.ends_with(".handler") || own.ends_with(".rollback") {
            own = format!("step-{own}").trim_end_matches(['-', '.']).replace('.', "-");
        }
        let mut unique = own.clone();
        for n in 2.. {
            if names.insert(unique.clone()) {
                break;
            }
            unique = format!("{own}-{n}");
        }
        if unique != step.name {
            notes.push(format!("the step {} is called {unique}", step.name));
        }
        text.push_str(&format!("\n[[step]]\nname = {}\ngroup = {group}\nlevel = {}\n", quoted(&unique), step.level));
        let script = format!("#!/usr/bin/env bash\n{} \"$@\"\n", step.command.trim().replace("\r\n", "\n"));
        text.push_str(&format!("script = {}\n", quoted(&script)));
        if !step.args.is_empty() {
            text.push_str(&format!("args = {}\n", quoted(&step.args)));
        }
        if !step.user.is_empty() {
            text.push_str(&format!("account = {}\n", quoted(&step.user)));
        }
        if step.trigger != "auto" {
            text.push_str(&format!("trigger = {}\n", quoted(step.trigger)));
        }
        if !step.host.is_empty() {
            text.push_str(&format!("host = {}\n", quoted(&step.host)));
        }
    }
    for (group, other) in &groups.same_hosts {
        text.push_str(&format!("\n[[group]]\nnumber = {group}\nhosts_of = {other}\n"));
    }
    Imported { name, text, notes }
}

/// The groups that steps get: rows of one group that run on other hosts are groups of their own.
struct OwnGroups {
    of_steps: Vec<u32>,
    /// Groups that go on with the hosts of an earlier one.
    same_hosts: Vec<(u32, u32)>,
}

fn own_groups(steps: &[CodoStep], notes: &mut Vec<String>) -> OwnGroups {
    let mut own = OwnGroups { of_steps: Vec::new(), same_hosts: Vec::new() };
    let mixed = |group: u32| {
        let mut hosts = steps.iter().filter(|step| step.group == group).map(|step| &step.host);
        let first = hosts.next();
        hosts.any(|host| Some(host) != first)
    };
    if !steps.iter().any(|step| mixed(step.group)) {
        own.of_steps = steps.iter().map(|step| step.group).collect();
        return own;
    }
    // Numbers between two groups there are none, so all of them are counted anew.
    let (mut next, mut last) = (0_u32, None);
    let mut first_of: BTreeMap<u32, u32> = BTreeMap::new();
    for step in steps {
        let key = (step.group, &step.host);
        if last.as_ref() != Some(&key) {
            next = next.saturating_add(1);
            if step.host.is_empty() {
                match first_of.get(&step.group) {
                    Some(first) => own.same_hosts.push((next, *first)),
                    None => drop(first_of.insert(step.group, next)),
                }
            }
            last = Some(key);
        }
        own.of_steps.push(next);
    }
    let moved = first_of.iter().filter(|(group, number)| group != number);
    notes.extend(
        moved.map(|(group, number)| format!("CODO's group {group} is group {number}: tasks name hosts for that")),
    );
    notes.push("steps with a force_host run once, not once a host".to_owned());
    own
}

/// Returns the words of arguments that look like CODO's parameters.
fn params(steps: &[CodoStep]) -> BTreeSet<String> {
    let is_param = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && !word.contains("FLOW_ID")
    };
    let words = steps.iter().flat_map(|step| step.args.split(' '));
    words.filter(is_param).map(str::to_owned).collect()
}

/// Writes a text as a TOML string.
fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, but for the slash and DEL.
    let json = serde_json::to_string(text).expect("a text is JSON");
    json.replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::Template;

    #[track_caller]
    fn check(file: &str, want: &str) {
        let naming = Naming { name: None, id: Some(7) };
        let aliases = br#"[{"args_id": 1, "args_name": "\u7248\u672c", "args_self": "VERSION"}]"#;
        let shown = match import(file.as_bytes(), Some(aliases), &naming) {
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Ok(made) => {
                let mut shown = String::new();
                for file in made {
                    let read = Template::parse("t.toml", &file.text, &BTreeMap::new());
                    let read = read.unwrap_or_else(|problems| panic!("{problems:?} in\n{}", file.text));
                    shown += &format!("{} {}:", read.name, read.id);
                    for param in &read.params {
                        shown += &format!(" <{} {}>", param.name, param.label);
                    }
                    for step in &read.steps {
                        let account = step.work.account.as_ref().map(|a| format!(" as {a}")).unwrap_or_default();
                        shown += &format!(" [{} {}.{} {:?}{account}]", step.name, step.group, step.level, step.trigger);
                    }
                    shown += &format!(" {:?} {:?}", read.groups, file.notes);
                }
                shown
            }
        };
        assert_eq!(shown, want, "{file}");
    }

    #[test]
    fn rows_become_steps() {
        check(
            r#"{"code": 0, "temp_name": "示例 模板1", "data": [
                {"group": 2, "level": 10, "command_name": "restart", "command": "systemctl restart", "args": "APP FLOW_ID", "trigger": "hand", "exec_user": "root", "force_host": ""},
                {"group": 1, "level": 88, "command_name": "pull code", "command": "python3 /opt/pull.py 'a b'", "args": "--v=VERSION VERSION", "trigger": "order", "exec_user": "deploy"},
                {"group": 1, "level": 88, "command_name": "pull code", "command": "x", "args": "", "trigger": "timed", "exec_user": ""}]}"#,
            "示例-模板1 7: <APP APP> <VERSION 版本> [pull-code 1.88 Auto as deploy] [pull-code-2 1.88 Timed] \
             [restart 2.10 Manual as root] {} [\"the step pull code is called pull-code\", \"the step pull code is called pull-code-2\"]",
        );
    }

    #[test]
    fn a_forced_host_is_a_group_of_its_own() {
        let row = |group, level, host| {
            format!(
                r#"{{"group": {group}, "level": {level}, "command_name": "s{group}{level}", "command": "x", "force_host": "{host}"}}"#
            )
        };
        let rows = [row(1, 1, ""), row(1, 2, "lb1"), row(1, 3, ""), row(2, 1, "")].join(",");
        check(
            &format!(r#"{{"temp_name": "t", "temp_id": "9", "data": [{rows}]}}"#),
            "t 9: [s11 1.1 Auto] [s12 2.2 Auto] [s13 3.3 Auto] [s21 4.1 Auto] {GroupNo(2): Forced(\"lb1\"), GroupNo(3): SameAs(GroupNo(1))} \
             [\"CODO's group 2 is group 4: tasks name hosts for that\", \"steps with a force_host run once, not once a host\"]",
        );
    }

    #[test]
    fn what_is_no_step_is_named() {
        check("[{}]", "found a template without temp_name; wanted --name, or the field temp_name");
        check(
            r#"{"temp_name": "t", "data": [{"group": 0, "level": "x", "command_name": "", "command": "c", "trigger": "often"}]}"#,
            "/0/command_name: found nothing; wanted a text\n/0/group: found 0; wanted a number from 1 on; CODO never starts group 0\n\
             /0/level: found x; wanted a number\n/0/trigger: found often; wanted order, hand or timed",
        );
        check(
            "{",
            "found EOF while parsing an object at line 1 column 1; wanted JSON as CODO's API answers\nfound a template without temp_name; wanted --name, or the field temp_name",
        );
    }
}
