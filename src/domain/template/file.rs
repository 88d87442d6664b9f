//! The file of a template. Floor 1.
//!
//! ```toml
//! id = 32
//! name = "git-publish"
//! title = "publish a tag"
//! other_params = false            # whether parameters without a [[param]] are taken too
//! risk = "low"                    # or medium, high: at least that
//! missed = "hold"                 # or run, expire: when its time passed while it could not start
//! env_prefix = "ZDOPS"            # variables as ported scripts know them, beside SPOOLGATE_…
//!
//! [[param]]
//! name = "TAG"
//! label = "version"               # the name when left out
//! pattern = "v[0-9.]+"            # the whole of a text must match it
//! type = "string"                 # or path (whole, without ..), int, bool, enum (with values = ["a", "b"]), tag (with repository = "/srv/a.git")
//! default = "v1"                  # the value when a task gives none
//! required = true                 # a task must give it; false when left out
//! secret = true                   # its value is secret:NAME, one of values (default among them)
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
//! on_failure = "stop"             # or "continue", "rollback" (undoes what earlier steps did on that host)
//! trigger = "auto"                # or manual (somebody releases it), timed (it waits for the task's time)
//! when = "host.environment == 'prod'"   # whether a host takes it, see condition
//! host = "lb1"                    # runs there, once; all steps of its group do
//! [step.handler]                  # runs on a host where the step failed; script or file, args, … as above
//! [step.rollback]                 # undoes the step; partial = true: also when the step itself failed
//!
//! [[group]]
//! number = 3
//! hosts_of = 1                    # the hosts that the task names for group 1
//! ```
//!
//! **Invariant:** pure. The scripts that a file names are handed in; nothing is read here. A field that is not one
//! of these is a problem.

use super::step_context::StepContext;
use std::collections::BTreeMap;

use super::step_file::read_step;
use super::{GroupHosts, Missed, Param, ParamKind, Pattern, RESERVED, Step, Template, bind};
use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, ParamName, SecretName};
use crate::base::limits;
use crate::domain::level::Level;
use crate::domain::problem::Problem;
use crate::domain::read::toml_table::{Fields, Sheet, Text};

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
    let mut steps: Vec<Step> = Vec::new();
    let mut forced = BTreeMap::new();
    for (position, table) in tables.into_iter().enumerate() {
        let surroundings = StepContext { params: &params, other_params, scripts, before: &steps };
        let span = table.span().clone();
        let Some((step, host)) = read_step(table, position, &surroundings) else { continue };
        if steps.iter().any(|other| other.group == step.group) && forced.get(&step.group) != Some(&host) {
            let wanted = "the same host for every step of a group; a step that runs elsewhere is a group of its own";
            sheet.problem(&span, format!("another host for {} in group {}", step.name, step.group), wanted);
        }
        forced.insert(step.group, host);
        steps.push(step);
    }
    let groups = read_groups(&mut fields, &steps, forced);
    let env_prefix = fields.string("env_prefix").and_then(|text| read_prefix(sheet, &text));
    let id = fields.need("id", id);
    let name = fields.need("name", name).and_then(|text| text.parse(sheet));
    let title = fields.need("title", title);
    fields.finish();
    Some(Template {
        file,
        id: id?,
        name: name?,
        title: title?.value,
        params,
        other_params,
        risk,
        missed,
        steps,
        groups,
        env_prefix,
    })
}

/// Reads where groups get their hosts from, beside the hosts that their steps force.
fn read_groups(
    fields: &mut Fields<'_>,
    steps: &[Step],
    forced: BTreeMap<GroupNo, Option<HostName>>,
) -> BTreeMap<GroupNo, GroupHosts> {
    let sheet = fields.sheet();
    let mut groups: BTreeMap<GroupNo, GroupHosts> =
        forced.into_iter().filter_map(|(group, host)| Some((group, GroupHosts::Forced(host?)))).collect();
    for mut table in fields.tables("group") {
        let number = table.integer("number", 1..=u32::MAX);
        let number = table.need("number", number).map(GroupNo);
        let other = table.integer("hosts_of", 1..=u32::MAX);
        let other = table.need("hosts_of", other).map(GroupNo);
        let span = table.span().clone();
        table.finish();
        let (Some(number), Some(other)) = (number, other) else { continue };
        let has_steps = |group: GroupNo| steps.iter().any(|step| step.group == group);
        if !has_steps(number) || !has_steps(other) || number == other || groups.contains_key(&other) {
            let wanted = "two groups with steps, of which the second gets its hosts from the task";
            sheet.problem(&span, format!("group {number} with the hosts of {other}"), wanted);
        } else if groups.insert(number, GroupHosts::SameAs(other)).is_some() {
            sheet.problem(
                &span,
                format!("hosts for group {number}"),
                "hosts once: its steps or another [[group]] say so",
            );
        }
    }
    // A group that follows one which follows another would have no hosts of its own.
    if let Some((number, _)) = groups.iter().find(|(_, hosts)| match hosts {
        GroupHosts::SameAs(other) => groups.contains_key(other),
        GroupHosts::Forced(_) => false,
    }) {
        sheet.problem(fields.span(), format!("group {number}"), "hosts_of a group that gets its hosts from the task");
    }
    groups
}

/// Reads what the variables of ported scripts begin with.
fn read_prefix(sheet: &Sheet<'_>, text: &Text) -> Option<ParamName> {
    let prefix: ParamName = text.parse(sheet)?;
    let taken =
        format!("{prefix}_X").parse().is_ok_and(|name| bind::steers_unported(&name)) || text.value.ends_with('_');
    if taken {
        sheet.problem(&text.span, &text.value, "a word such as ZDOPS, which variables then begin with");
    }
    (!taken).then_some(prefix)
}

fn read_param(mut table: Fields<'_>) -> Option<Param> {
    let sheet = table.sheet();
    let name = table.string("name");
    let name = table.need("name", name);
    let label = table.string("label").inspect(|text| check_line(sheet, text));
    let kind = table.string("type");
    let listed = table.has("values");
    let values = table.strings("values");
    let listed_values = values.clone();
    let repository = table.string("repository");
    let default = table.scalar("default");
    let required = table.boolean("required");
    let secret = table.boolean("secret").unwrap_or(false);
    let pattern = table.string("pattern").and_then(|text| read_pattern(sheet, &text));
    let span = table.span().clone();
    table.finish();
    let name = name?;
    let parsed: ParamName = name.parse(sheet)?;
    if RESERVED.contains(&parsed.as_str()) || bind::steers_programs(&parsed) {
        sheet.problem(&name.span, &name.value, "a name that is not TASK, HOST or GROUP and does not steer programs");
    }
    let kind = match kind.as_ref().map_or("string", |text| text.value.as_str()) {
        "string" => ParamKind::String,
        "path" => ParamKind::Path,
        "int" => ParamKind::Int,
        "bool" => ParamKind::Bool,
        "enum" => ParamKind::Enum(values.into_iter().map(|text| text.value).collect()),
        "tag" => ParamKind::Tag(repository.as_ref().map(|text| text.value.clone()).unwrap_or_default()),
        other => {
            sheet.problem(
                kind.as_ref().map_or(&span, |text| &text.span),
                other,
                "string, path, int, bool, enum or tag",
            );
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
    if secret {
        let default = default.as_ref();
        return Some(read_secret_param(sheet, parsed, label, (&kind, &span), &listed_values, default, required));
    }
    match (&kind, listed) {
        (ParamKind::Enum(values), _) if values.is_empty() => {
            sheet.problem(&span, format!("the enum {parsed} without values"), "values = [\"…\", \"…\"]");
        }
        (ParamKind::Enum(_), _) | (_, false) => {}
        (_, true) => sheet.problem(&span, format!("values for {parsed}"), "type = \"enum\" beside values"),
    }
    if pattern.is_some() && !matches!(kind, ParamKind::String | ParamKind::Path | ParamKind::Tag(_)) {
        sheet.problem(&span, format!("a pattern for {parsed}"), "a pattern for a text, a path or a tag");
    }
    let label = label.map_or_else(|| parsed.to_string(), |text| text.value);
    let required = required.unwrap_or(false);
    let mut param = Param { name: parsed, label, kind, pattern, default: None, required, secret: None };
    if let Some(text) = default {
        match param.read(&text.value) {
            Ok(value) => param.default = Some(value),
            Err(wanted) => sheet.problem(&text.span, format!("default = {}", text.value), wanted),
        }
    }
    Some(param)
}

fn read_pattern(sheet: &Sheet<'_>, text: &Text) -> Option<Pattern> {
    match Pattern::parse(&text.value) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            sheet.problem(&text.span, &text.value, format!("a pattern such as v[0-9.]+ ({why})"));
            None
        }
    }
}

/// Reads a parameter whose values are names of secrets. Which ones it may name stands in the template, so that nobody gets
/// at another secret by naming it in a task.
fn read_secret_param(
    sheet: &Sheet<'_>,
    name: ParamName,
    label: Option<Text>,
    (kind, span): (&ParamKind, &std::ops::Range<usize>),
    values: &[Text],
    default: Option<&Text>,
    required: Option<bool>,
) -> Param {
    if *kind != ParamKind::String {
        sheet.problem(span, format!("the secret {name} with a type"), "no type beside secret = true");
    }
    let mut allowed = Vec::new();
    for text in values.iter().chain(default) {
        match bind::secret_name(&text.value) {
            Some(secret) => allowed.push(secret),
            None => sheet.problem(&text.span, "a secret's value, or its name", "secret:NAME"),
        }
    }
    allowed.dedup();
    if allowed.is_empty() {
        let wanted = "default = \"secret:NAME\", or values = [\"secret:NAME\", …]: the secrets it may name";
        sheet.problem(span, format!("the secret {name} without one"), wanted);
    }
    let label = label.map_or_else(|| name.to_string(), |text| text.value);
    let default = default.map(|text| text.value.clone());
    let secret: Option<Vec<SecretName>> = Some(allowed);
    Param { name, label, kind: ParamKind::String, pattern: None, default, required: required.unwrap_or(false), secret }
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
    use crate::domain::template::OnFailure;

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
        assert_eq!((one.group, one.level, one.work.timeout_s, one.work.nice), (GroupNo(1), 10, 300, 10));
        assert_eq!((one.work.script.as_str(), one.on_failure), ("#!/bin/sh\ntrue\n", OnFailure::Continue));
        assert_eq!(one.work.env.values().collect::<Vec<_>>(), ["3", "{N}"]);
        assert_eq!((two.group, two.level, two.work.timeout_s, two.on_failure), (GroupNo(2), 5, 90, OnFailure::Stop));
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
                "t.toml:3: found the field idd; wanted one of the fields id, name, title, other_params, risk, missed, param, step, group, env_prefix",
                "t.toml:5: found A-B; wanted a parameter name: ASCII letters, digits and _ only, first no digit, at most 100 bytes",
                "t.toml:6: found the enum X without values; wanted values = [\"…\", \"…\"]",
                "t.toml:9: found a second parameter X; wanted each parameter once",
                "t.toml:12: found default = one; wanted a whole number",
                "t.toml:13: found no name; wanted name = …",
                "t.toml:16: found PATH; wanted a name that is not TASK, HOST or GROUP and does not steer programs",
                "t.toml:21: found a second step s; wanted each step's name once",
                "t.toml:23: found the field bogus; wanted one of the fields name, group, level, copy, render, fetch, engine, script, file, args, env, account, timeout, idle_timeout, retries, retry_delay, idempotent, cpu_percent, memory_mib, nice, on_failure, trigger, when, host, handler, rollback",
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
            "t.toml:6: found a script with lines that end in CR LF, line 1 first; wanted lines that end in LF (dos2unix): a shell takes the CR for a part of the last word",
        );
        step_refused("script = 3", "t.toml:6: found script = 3; wanted a string in quotes");
        step_refused("group = 0", "t.toml:6: found group = 0; wanted group = a whole number from 1 to 4294967295");
        step_refused("nice = 20", "t.toml:6: found nice = 20; wanted nice = a whole number from 0 to 19");
        step_refused("on_failure = 'retry'", "t.toml:6: found on_failure = retry; wanted stop, continue or rollback");
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
            assert_eq!(parse(&text).unwrap().steps[0].work.timeout_s, want, "{written}");
        }
        for bad in ["-1", "5 m", "m", "99999999999999999999", "400d", "1.5"] {
            let want = "a number with s, m, h or d, such as \"5m\", at most a year; 0 is no limit";
            step_refused(&format!("timeout = '{bad}'"), &format!("t.toml:6: found timeout = {bad}; wanted {want}"));
        }
    }
}
