//! The file of a template. Floor 1.
//!
//! ```toml
//! id = 32
//! name = "git-publish"
//! title = "publish a tag"
//! other_params = false            # whether parameters without a [[param]] are taken too
//! risk = "low"                    # or medium, high: at least that
//! missed = "hold"                 # or run, expire: when its time passed while it could not start
//!
//! [[param]]
//! name = "TAG"
//! label = "version"               # the name when left out
//! type = "string"                 # or int, bool, enum (with values = ["a", "b"]), tag (with repository = "/srv/a.git")
//! default = "v1"                  # the value when a task gives none
//! required = true                 # a task must give it; false when left out
//!
//! [[step]]
//! name = "clone"
//! group = 1
//! level = 10                      # ten times the step's position when left out
//! file = "clone.sh"               # beneath the templates folder; or script = "…"
//! args = ["{TAG}"]                # {NAME} of a parameter; {{ for a brace
//! env = { MODE = "fast" }
//! account = "deploy"
//! timeout = "5m"                  # s, m, h, d or a number of seconds; 0 is no limit
//! nice = 10
//! on_failure = "stop"             # or "continue"
//! trigger = "auto"                # or manual (somebody releases it), timed (it waits for the task's time)
//! ```
//!
//! **Invariant:** pure. The scripts that a file names are handed in; nothing is read here. A field that is not one
//! of these is a problem.

use std::collections::{BTreeMap, BTreeSet};

use super::{Missed, OnFailure, Param, ParamKind, RESERVED, Step, Template, Trigger, bind, placeholders};
use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, ParamName};
use crate::base::limits;
use crate::domain::problem::Problem;
use crate::domain::risk::Level;
use crate::domain::toml_table::{Fields, Sheet, Text};

/// The longest a step may be allowed to run, in seconds: a year. Longer ones mean 0, no limit.
const TIMEOUT_S_MAX: u64 = 366 * 86400;

impl Template {
    /// Reads the template in the text of `file`; `scripts` holds the texts of the script files of the same folder by
    /// their names.
    ///
    /// # Errors
    /// Every problem of the file, each with `file:line`.
    pub fn parse(file: &str, text: &str, scripts: &BTreeMap<String, String>) -> Result<Template, Vec<Problem>> {
        let sheet = Sheet::new(file, text);
        let template = read(&sheet, Digest::of(text.as_bytes()), scripts);
        let problems = sheet.into_problems();
        template.filter(|_| problems.is_empty()).ok_or(problems)
    }
}

fn read(sheet: &Sheet<'_>, file: Digest, scripts: &BTreeMap<String, String>) -> Option<Template> {
    let mut fields = sheet.fields();
    let id = fields.integer("id", 1..=u32::MAX);
    let name = fields.string("name");
    let title = fields.string("title").inspect(|text| check_line(sheet, text));
    let other_params = fields.boolean("other_params").unwrap_or(false);
    let levels = [Level::Low, Level::Medium, Level::High].map(|level| (level.word(), level));
    let risk = fields.choice("risk", &levels).unwrap_or_default();
    let missed = [("hold", Missed::Hold), ("run", Missed::Run), ("expire", Missed::Expire)];
    let missed = fields.choice("missed", &missed).unwrap_or_default();
    let mut params: Vec<Param> = Vec::new();
    for table in fields.tables("param") {
        let span = table.span().clone();
        let Some(param) = read_param(table) else { continue };
        if params.iter().any(|other| other.name == param.name) {
            sheet.problem(&span, format!("a second parameter {}", param.name), "each parameter once");
        }
        params.push(param);
    }
    let tables = fields.tables("step");
    if tables.is_empty() {
        sheet.problem(fields.span(), "no steps", "one [[step]] or more");
    }
    let mut steps = Vec::new();
    for (position, table) in tables.into_iter().enumerate() {
        let step = read_step(table, position, &params, other_params, scripts, &steps);
        steps.extend(step);
    }
    let id = fields.need("id", id);
    let name = fields.need("name", name).and_then(|text| text.parse(sheet));
    let title = fields.need("title", title);
    fields.finish();
    Some(Template { file, id: id?, name: name?, title: title?.value, params, other_params, risk, missed, steps })
}

fn read_param(mut table: Fields<'_>) -> Option<Param> {
    let sheet = table.sheet();
    let name = table.string("name");
    let name = table.need("name", name);
    let label = table.string("label").inspect(|text| check_line(sheet, text));
    let kind = table.string("type");
    let listed = table.has("values");
    let values = table.strings("values");
    let repository = table.string("repository");
    let default = table.scalar("default");
    let required = table.boolean("required");
    let span = table.span().clone();
    table.finish();
    let name = name?;
    let parsed: ParamName = name.parse(sheet)?;
    if RESERVED.contains(&parsed.as_str()) || bind::steers_programs(&parsed) {
        sheet.problem(&name.span, &name.value, "a name that is not TASK, HOST or GROUP and does not steer programs");
    }
    let kind = match kind.as_ref().map_or("string", |text| text.value.as_str()) {
        "string" => ParamKind::String,
        "int" => ParamKind::Int,
        "bool" => ParamKind::Bool,
        "enum" => ParamKind::Enum(values.into_iter().map(|text| text.value).collect()),
        "tag" => ParamKind::Tag(repository.as_ref().map(|text| text.value.clone()).unwrap_or_default()),
        other => {
            sheet.problem(kind.as_ref().map_or(&span, |text| &text.span), other, "string, int, bool, enum or tag");
            return None;
        }
    };
    match (&kind, &repository) {
        (ParamKind::Tag(_), Some(path)) if !path.value.starts_with('/') => {
            sheet.problem(&path.span, &path.value, "the whole path of a git repository on this machine");
        }
        (ParamKind::Tag(_), None) => {
            sheet.problem(&span, format!("the tag {parsed} without a repository"), "repository = \"/srv/app.git\"");
        }
        (ParamKind::Tag(_), Some(_)) | (_, None) => {}
        (_, Some(path)) => sheet.problem(&path.span, "a repository", "type = \"tag\" beside repository"),
    }
    match (&kind, listed) {
        (ParamKind::Enum(values), _) if values.is_empty() => {
            sheet.problem(&span, format!("the enum {parsed} without values"), "values = [\"…\", \"…\"]");
        }
        (ParamKind::Enum(_), _) | (_, false) => {}
        (_, true) => sheet.problem(&span, format!("values for {parsed}"), "type = \"enum\" beside values"),
    }
    let label = label.map_or_else(|| parsed.to_string(), |text| text.value);
    let required = required.unwrap_or(false);
    let mut param = Param { name: parsed, label, kind, default: None, required };
    if let Some(text) = default {
        match param.read(&text.value) {
            Ok(value) => param.default = Some(value),
            Err(wanted) => sheet.problem(&text.span, format!("default = {}", text.value), wanted),
        }
    }
    Some(param)
}

fn read_step(
    mut table: Fields<'_>,
    position: usize,
    params: &[Param],
    other_params: bool,
    scripts: &BTreeMap<String, String>,
    before: &[Step],
) -> Option<Step> {
    let sheet = table.sheet();
    let name = table.string("name");
    let name = table.need("name", name);
    let group = table.integer("group", 1..=u32::MAX).unwrap_or(1);
    let by_position = u32::try_from(position + 1).unwrap_or(u32::MAX).saturating_mul(10);
    let level = table.integer("level", 0..=u32::MAX).unwrap_or(by_position);
    let script = read_script(&mut table, scripts);
    let args = table.strings("args");
    let env = table.texts("env");
    let account = table.string("account").and_then(|text| text.parse(sheet));
    let timeout_s =
        table.scalar("timeout").map_or(limits::STEP_TIMEOUT_S, |text| read_seconds(sheet, "timeout", &text));
    let idle_timeout_s = table.scalar("idle_timeout").map_or(0, |text| read_seconds(sheet, "idle_timeout", &text));
    let retries = table.integer("retries", 0..=limits::RETRIES_MAX).unwrap_or(0);
    let retry_delay_s = table.scalar("retry_delay").map_or(0, |text| read_seconds(sheet, "retry_delay", &text));
    let idempotent = table.boolean("idempotent").unwrap_or(false);
    let nice = table.integer("nice", 0..=19).and_then(|nice| u8::try_from(nice).ok()).unwrap_or(0);
    let on_failure = [("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
    let on_failure = table.choice("on_failure", &on_failure).unwrap_or(OnFailure::Stop);
    let triggers = [("auto", Trigger::Auto), ("manual", Trigger::Manual), ("timed", Trigger::Timed)];
    let trigger = table.choice("trigger", &triggers).unwrap_or_default();
    table.finish();
    for text in args.iter().chain(env.iter().map(|(_, value)| value)) {
        check_placeholders(sheet, text, params, other_params);
    }
    let name = name?;
    let parsed = name.parse(sheet)?;
    if before.iter().any(|step| step.name == parsed) {
        sheet.problem(&name.span, format!("a second step {parsed}"), "each step's name once");
    }
    Some(Step {
        name: parsed,
        group: GroupNo(group),
        level,
        script: script?,
        args: args.into_iter().map(|text| text.value).collect(),
        env: read_env(sheet, env),
        account,
        timeout_s,
        idle_timeout_s,
        retries,
        retry_delay_s,
        idempotent,
        nice,
        on_failure,
        trigger,
    })
}

/// Reads a step's own script or takes the file that it names.
fn read_script(table: &mut Fields<'_>, scripts: &BTreeMap<String, String>) -> Option<String> {
    let sheet = table.sheet();
    let (script, file) = (table.string("script"), table.string("file"));
    let (text, span) = match (script, file) {
        (Some(script), None) => (script.value, script.span),
        (None, Some(file)) => {
            let beneath = |part: &str| !matches!(part, "" | "." | "..");
            if !file.value.split('/').all(beneath) || file.value.contains(['\\', '\0']) {
                sheet.problem(&file.span, &file.value, "the name of a file beneath the templates folder, without ..");
                return None;
            }
            let Some(text) = scripts.get(&file.value) else {
                let known = scripts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                sheet.problem(&file.span, &file.value, format!("a script file of the templates folder: {known}"));
                return None;
            };
            (text.clone(), file.span)
        }
        (Some(script), Some(_)) => {
            sheet.problem(&script.span, "script and file", "one of the two");
            return None;
        }
        (None, None) => {
            // A field of the wrong type has its own problem.
            if table.missed("script") && table.missed("file") {
                sheet.problem(table.span(), "no script and no file", "one of the two");
            }
            return None;
        }
    };
    if text.trim().is_empty() {
        sheet.problem(&span, "an empty script", "a script that does something");
    } else if text.len() > limits::STRING_BYTES_MAX {
        sheet.problem(&span, format!("{} bytes", text.len()), format!("at most {} bytes", limits::STRING_BYTES_MAX));
    } else if text.contains('\0') || text.contains("\r\n") {
        sheet.problem(&span, "a script with NUL or with lines that end in CR LF", "text with lines that end in LF");
    }
    Some(text)
}

fn read_env(sheet: &Sheet<'_>, pairs: Vec<(Text, Text)>) -> BTreeMap<ParamName, String> {
    let mut env = BTreeMap::new();
    for (name, value) in pairs {
        let Some(parsed) = name.parse::<ParamName>(sheet) else { continue };
        if parsed.as_str().starts_with("SPOOLGATE_") {
            sheet.problem(&name.span, &name.value, "a name that does not begin with SPOOLGATE_");
        }
        env.insert(parsed, value.value);
    }
    env
}

/// Checks that every `{NAME}` of an argument or variable will have a value.
fn check_placeholders(sheet: &Sheet<'_>, text: &Text, params: &[Param], other_params: bool) {
    if text.value.contains('\0') {
        sheet.problem(&text.span, &text.value, "text without NUL");
    }
    let names = match placeholders(&text.value) {
        Ok(names) => names,
        Err(found) => return sheet.problem(&text.span, found, "{NAME} of a parameter, or {{ for a brace"),
    };
    for name in names.iter().collect::<BTreeSet<_>>() {
        let param = params.iter().find(|param| param.name == *name);
        let always = param.is_some_and(|param| param.required || param.default.is_some());
        if param.is_some() && !always {
            sheet.problem(&text.span, format!("{{{name}}}"), format!("a default for {name}, or required = true"));
        } else if param.is_none() && !other_params {
            let known: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
            sheet.problem(&text.span, format!("{{{name}}}"), format!("one of {}", known.join(", ")));
        }
    }
}

/// Reads `90`, `90s`, `5m`, `2h` or `1d` as seconds.
fn read_seconds(sheet: &Sheet<'_>, field: &str, text: &Text) -> u64 {
    let end = text.value.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.value.len());
    let (digits, unit) = text.value.split_at(end);
    let seconds = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86400),
        _ => None,
    };
    let total = seconds.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
    total.filter(|&total| total <= TIMEOUT_S_MAX).unwrap_or_else(|| {
        let wanted = "a number with s, m, h or d, such as \"5m\", at most a year; 0 is no limit";
        sheet.problem(&text.span, format!("{field} = {}", text.value), wanted);
        0
    })
}

/// Checks text that people see on one line.
fn check_line(sheet: &Sheet<'_>, text: &Text) {
    let hidden = text.value.chars().any(crate::base::text::is_hidden);
    if text.value.trim().is_empty() || hidden || text.value.len() > limits::TITLE_BYTES_MAX {
        let wanted = format!("one line of visible text, at most {} bytes", limits::TITLE_BYTES_MAX);
        sheet.problem(&text.span, &text.value, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts() -> BTreeMap<String, String> {
        [("run.sh", "#!/bin/sh\ntrue\n"), ("empty.sh", "\n"), ("dos.sh", "true\r\n")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into()
    }

    fn parse(text: &str) -> Result<Template, Vec<Problem>> {
        Template::parse("t.toml", text, &scripts())
    }

    /// Checks the problems of a whole file.
    #[track_caller]
    fn refused(text: &str, want: &[&str]) {
        let problems = parse(text).expect_err("has problems");
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown, want, "{text}");
    }

    /// Checks the one problem of a step's line, which is line 6.
    #[track_caller]
    fn step_refused(line: &str, want: &str) {
        let script = if line.starts_with("file") || line.starts_with("script") { "" } else { "script = 'x'" };
        let head = "id = 1\nname = 't'\ntitle = 't'\n[[step]]\nname = 's'\n";
        refused(
            &format!("{head}{line}\n{script}\n[[param]]\nname = 'A'\nrequired = true\n[[param]]\nname = 'OPT'\n"),
            &[want],
        );
    }

    #[test]
    fn a_full_template() {
        let text = r#"
            id = 7
            name = "full"
            title = "all fields"
            [[param]]
            name = "TAG"
            label = "版本"
            required = true
            [[param]]
            name = "N"
            type = "int"
            default = 0x10
            [[step]]
            name = "one"
            file = "run.sh"
            args = ["{TAG}", "a {TAG} b", "{{x}"]
            env = { MODE = "{N}", DEPTH = 3 }
            account = "deploy"
            timeout = "5m"
            nice = 10
            on_failure = "continue"
            [[step]]
            name = "two"
            group = 2
            level = 5
            script = "true"
            timeout = 90
        "#;
        let template = parse(text).unwrap();
        assert_eq!((template.id, template.name.as_str(), template.other_params), (7, "full", false));
        assert_eq!((template.params[0].label.as_str(), template.params[0].required), ("版本", true));
        assert_eq!((template.params[1].default.as_deref(), template.params[1].required), (Some("16"), false));
        let [one, two] = template.steps.as_slice() else { panic!("two steps") };
        assert_eq!((one.group, one.level, one.timeout_s, one.nice), (GroupNo(1), 10, 300, 10));
        assert_eq!((one.script.as_str(), one.on_failure), ("#!/bin/sh\ntrue\n", OnFailure::Continue));
        assert_eq!(one.env.values().collect::<Vec<_>>(), ["3", "{N}"]);
        assert_eq!((two.group, two.level, two.timeout_s, two.on_failure), (GroupNo(2), 5, 90, OnFailure::Stop));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        refused(
            "id = 0\nname = '-x'\nidd = 2\n[[param]]\nname = 'A-B'\n[[param]]\nname = 'X'\ntype = 'enum'\n\
             [[param]]\nname = 'X'\ntype = 'int'\ndefault = 'one'\n[[param]]\nlabel = 'l'\n[[param]]\nname = 'PATH'\n\
             [[step]]\nname = 's'\nscript = 'x'\n[[step]]\nname = 's'\nscript = 'x'\nbogus = 1\n",
            &[
                "t.toml:1: found no title; wanted title = …",
                "t.toml:1: found id = 0; wanted id = a whole number from 1 to 4294967295",
                "t.toml:2: found -x; wanted a template name: letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
                "t.toml:3: found the field idd; wanted one of the fields id, name, title, other_params, risk, missed, param, step",
                "t.toml:5: found A-B; wanted a parameter name: ASCII letters, digits and _ only, first no digit, at most 100 bytes",
                "t.toml:6: found the enum X without values; wanted values = [\"…\", \"…\"]",
                "t.toml:9: found a second parameter X; wanted each parameter once",
                "t.toml:12: found default = one; wanted a whole number",
                "t.toml:13: found no name; wanted name = …",
                "t.toml:16: found PATH; wanted a name that is not TASK, HOST or GROUP and does not steer programs",
                "t.toml:21: found a second step s; wanted each step's name once",
                "t.toml:23: found the field bogus; wanted one of the fields name, group, level, script, file, args, env, account, timeout, idle_timeout, retries, retry_delay, idempotent, nice, on_failure, trigger",
            ],
        );
        refused("id = 1\nname = 't'\ntitle = 't'\n", &["t.toml:1: found no steps; wanted one [[step]] or more"]);
        refused(
            "id = 1\nname = 't'\ntitle = 't'\nstep = []\n",
            &["t.toml:1: found no steps; wanted one [[step]] or more"],
        );
        refused(
            "id = 1\nname = 't'\ntitle = 't'\n[[step]]\nname = 's'\n",
            &["t.toml:4: found no script and no file; wanted one of the two"],
        );
    }

    #[test]
    fn steps_are_checked() {
        let beneath = "the name of a file beneath the templates folder, without ..";
        for bad in ["../run.sh", "/etc/passwd", "a//b", "./run.sh", ""] {
            step_refused(&format!("file = '{bad}'"), &format!("t.toml:6: found {bad}; wanted {beneath}"));
        }
        step_refused(
            "file = 'no.sh'",
            "t.toml:6: found no.sh; wanted a script file of the templates folder: dos.sh, empty.sh, run.sh",
        );
        step_refused("file = 'empty.sh'", "t.toml:6: found an empty script; wanted a script that does something");
        step_refused(
            "file = 'dos.sh'",
            "t.toml:6: found a script with NUL or with lines that end in CR LF; wanted text with lines that end in LF",
        );
        step_refused("script = 3", "t.toml:6: found script = 3; wanted a string in quotes");
        step_refused("group = 0", "t.toml:6: found group = 0; wanted group = a whole number from 1 to 4294967295");
        step_refused("nice = 20", "t.toml:6: found nice = 20; wanted nice = a whole number from 0 to 19");
        step_refused("on_failure = 'retry'", "t.toml:6: found on_failure = retry; wanted stop or continue");
        step_refused("args = ['{B}']", "t.toml:6: found {B}; wanted one of A, OPT");
        step_refused("args = ['{A}', '{']", "t.toml:6: found {; wanted {NAME} of a parameter, or {{ for a brace");
        step_refused("args = ['{OPT}']", "t.toml:6: found {OPT}; wanted a default for OPT, or required = true");
        step_refused(
            "env = { SPOOLGATE_X = 1 }",
            "t.toml:6: found SPOOLGATE_X; wanted a name that does not begin with SPOOLGATE_",
        );
        step_refused("env = { X = '${HOME}' }", "t.toml:6: found {HOME}; wanted one of A, OPT");
        step_refused(
            "account = 'a b'",
            "t.toml:6: found a b; wanted a user name: letters, digits and . _ - only, first a letter, digit or _, at most 100 bytes",
        );
    }

    #[test]
    fn timeouts_have_units() {
        for (written, want) in [("0", 0), ("'90'", 90), ("'90s'", 90), ("'5m'", 300), ("'2h'", 7200), ("'1d'", 86400)] {
            let text =
                format!("id = 1\nname = 't'\ntitle = 't'\n[[step]]\nname = 's'\nscript = 'x'\ntimeout = {written}\n");
            assert_eq!(parse(&text).unwrap().steps[0].timeout_s, want, "{written}");
        }
        for bad in ["-1", "5 m", "m", "99999999999999999999", "400d", "1.5"] {
            let want = "a number with s, m, h or d, such as \"5m\", at most a year; 0 is no limit";
            step_refused(&format!("timeout = '{bad}'"), &format!("t.toml:6: found timeout = {bad}; wanted {want}"));
        }
    }
}
