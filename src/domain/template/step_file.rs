//! The steps of a template's file, with what handles their failures and what undoes them. Floor 1.
//!
//! **Invariant:** pure, and as strict as the rest of the file: every problem is noted on the sheet.

use std::collections::BTreeMap;

use super::bind::secret_name;
use super::file_work::{WORDS, read_file_work};
use super::step_context::{StepContext, check_placeholders};
use super::{Args, OnFailure, Rollback, Step, StepWork, Trigger, tokens};
use crate::base::ids::{GroupNo, HostName, ParamName, SecretName, StepName};
use crate::base::limits;
use crate::domain::condition::Condition;
use crate::domain::delegate::Delegate;
use crate::domain::read::toml_table::{Fields, Sheet, Text, Texts};
use crate::domain::script_text::flaw;

/// Reads a step, and the host that it forces.
pub(super) fn read_step(
    mut table: Fields<'_>,
    position: usize,
    around: &StepContext<'_>,
) -> Option<(Step, Option<HostName>)> {
    let sheet = table.sheet();
    let name = table.string("name");
    let name = table.need("name", name);
    let group = table.integer("group", 1..=u32::MAX).unwrap_or(1);
    let by_position = u32::try_from(position.saturating_add(1)).unwrap_or(u32::MAX).saturating_mul(10);
    let level = table.integer("level", 0..=u32::MAX).unwrap_or(by_position);
    let work = read_work(&mut table, around, None);
    let on_failure = [("stop", OnFailure::Stop), ("continue", OnFailure::Continue), ("rollback", OnFailure::Rollback)];
    let on_failure = table.choice("on_failure", &on_failure).unwrap_or(OnFailure::Stop);
    let triggers = [("auto", Trigger::Auto), ("manual", Trigger::Manual), ("timed", Trigger::Timed)];
    let trigger = table.choice("trigger", &triggers).unwrap_or_default();
    let when = table.string("when").and_then(|text| read_condition(sheet, &text, around));
    let host = table.string("host").and_then(|text| text.parse(sheet));
    let handler = table.table("handler");
    let rollback = table.table("rollback");
    table.finish();
    let name = name?;
    let parsed: StepName = name.parse(sheet)?;
    if around.before.iter().any(|step| step.name == parsed) {
        sheet.problem(&name.span, format!("a second step {parsed}"), "each step's name once");
    }
    // Handlers and rollbacks have names of their own in plans and logs.
    for suffix in [HANDLER, ROLLBACK] {
        if parsed.as_str().ends_with(suffix) || part_name(&parsed, suffix).is_none() {
            let wanted = format!("a shorter name that does not end in {suffix}");
            sheet.problem(&name.span, parsed.as_str(), wanted);
        }
    }
    let work = work?;
    let handler = handler.and_then(|mut table| {
        let work = read_work(&mut table, around, Some(&work));
        table.finish();
        work
    });
    let rollback = rollback.and_then(|mut table| {
        let partial = table.boolean("partial").unwrap_or(false);
        let work = read_work(&mut table, around, Some(&work));
        table.finish();
        Some(Rollback { work: work?, partial })
    });
    let step = Step { name: parsed, group: GroupNo(group), level, work, on_failure, trigger, when, handler, rollback };
    Some((step, host))
}

/// What the names of handlers end in.
const HANDLER: &str = ".handler";
/// What the names of rollbacks end in.
const ROLLBACK: &str = ".rollback";

fn part_name(step: &StepName, suffix: &str) -> Option<StepName> {
    format!("{step}{suffix}").parse().ok()
}

impl Step {
    /// Returns the name of its handler in plans.
    #[must_use]
    pub fn handler_name(&self) -> StepName {
        part_name(&self.name, HANDLER).expect("the file's reader has checked its length")
    }

    /// Returns the name of its rollback in plans.
    #[must_use]
    pub fn rollback_name(&self) -> StepName {
        part_name(&self.name, ROLLBACK).expect("the file's reader has checked its length")
    }
}

/// Reads a script and how it is run; a handler and a rollback run as their step does where they do not say otherwise.
fn read_work(table: &mut Fields<'_>, around: &StepContext<'_>, of: Option<&StepWork>) -> Option<StepWork> {
    let sheet = table.sheet();
    let files = read_file_work(table, around);
    let engine = table.choice("engine", &[("ansible", Delegate::Ansible), ("salt", Delegate::Salt)]);
    let script = match engine {
        None if let Some((_, script)) = &files => Some((*script).to_owned()),
        // A step that carries files has had its problems.
        None if !WORDS.into_iter().all(|word| table.missed(word)) => None,
        None => read_script(table, ("script", "file"), around.scripts),
        Some(Delegate::Ansible) => read_script(table, ("play", "playbook"), around.scripts),
        Some(Delegate::Salt) => read_function(table),
    };
    let args = table.texts_or_one("args");
    let env = table.texts("env");
    let account = table.string("account").and_then(|text| text.parse(sheet));
    let seconds = |text: Option<Text>, field: &str| text.map(|text| read_seconds(sheet, field, &text));
    let timeout_s = seconds(table.scalar("timeout"), "timeout").unwrap_or(limits::STEP_TIMEOUT_S);
    let idle_timeout_s = seconds(table.scalar("idle_timeout"), "idle_timeout").unwrap_or(0);
    let retries = table.integer("retries", 0..=limits::RETRIES_MAX).unwrap_or(0);
    let retry_delay_s = seconds(table.scalar("retry_delay"), "retry_delay").unwrap_or(0);
    let idempotent = table.boolean("idempotent").unwrap_or(false);
    let cpu_percent = table.integer("cpu_percent", 1..=100_000);
    let memory_mib = table.integer("memory_mib", 1..=1 << 24);
    let nice = table.integer("nice", 0..=19).and_then(|nice| u8::try_from(nice).ok());
    if engine.is_some() {
        check_engine_args(sheet, &args);
    }
    let args = read_args(sheet, args, around);
    let (env, secrets) = read_env(sheet, env, around);
    Some(StepWork {
        files: files.map(|(work, _)| work),
        cpu_percent: cpu_percent.unwrap_or_else(|| of.map_or(0, |of| of.cpu_percent)),
        memory_mib: memory_mib.unwrap_or_else(|| of.map_or(0, |of| of.memory_mib)),
        engine,
        script: script?,
        args,
        env,
        secrets,
        account: account.or_else(|| of.and_then(|of| of.account.clone())),
        timeout_s,
        idle_timeout_s,
        retries,
        retry_delay_s,
        idempotent,
        nice: nice.unwrap_or_else(|| of.map_or(0, |of| of.nice)),
    })
}

/// Checks that no argument of an engine begins with a value: it could be an option, another playbook or inventory.
fn check_engine_args(sheet: &Sheet<'_>, args: &Texts) {
    let wanted =
        "arguments that begin with text of the template's: \"--tags={TAGS}\"; playbooks have parameters as variables";
    match args {
        Texts::List(list) => {
            for text in list.iter().filter(|text| text.value.starts_with('{') && !text.value.starts_with("{{")) {
                sheet.problem(&text.span, &text.value, wanted);
            }
        }
        Texts::One(text) => sheet.problem(&text.span, &text.value, format!("a list of {wanted}")),
    }
}

fn read_args(sheet: &Sheet<'_>, args: Texts, around: &StepContext<'_>) -> Args {
    match args {
        Texts::List(list) => {
            for text in &list {
                check_placeholders(sheet, text, around, "arguments are seen by everybody on the host; use env");
            }
            Args::List(list.into_iter().map(|text| text.value).collect())
        }
        Texts::One(text) => {
            let param = |word: &str| around.params.iter().find(|param| param.name.as_str() == word);
            for param in tokens::words(&text.value).filter_map(param) {
                if param.secret.is_some() {
                    let wanted = "arguments are seen by everybody on the host; use env";
                    sheet.problem(&text.span, format!("the secret {}", param.name), wanted);
                } else if !param.required && param.default.is_none() {
                    let wanted = format!("a default for {}, or required = true", param.name);
                    sheet.problem(&text.span, param.name.as_str(), wanted);
                }
            }
            if text.value.contains(['\0', '\n']) {
                sheet.problem(&text.span, "arguments on several lines", "words with single spaces between them");
            }
            Args::Tokens(text.value)
        }
    }
}

/// Reads a step's own script or takes the file that it names.
fn read_script(
    table: &mut Fields<'_>,
    (own, named): (&'static str, &'static str),
    scripts: &BTreeMap<String, String>,
) -> Option<String> {
    let sheet = table.sheet();
    let (script, file) = (table.string(own), table.string(named));
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
            sheet.problem(&script.span, format!("{own} and {named}"), "one of the two");
            return None;
        }
        (None, None) => {
            // A field of the wrong type has its own problem.
            if table.missed(own) && table.missed(named) {
                sheet.problem(table.span(), format!("no {own} and no {named}"), "one of the two");
            }
            return None;
        }
    };
    if text.trim().is_empty() {
        sheet.problem(&span, "an empty script", "a script that does something");
    } else if text.len() > limits::STRING_BYTES_MAX {
        sheet.problem(&span, format!("{} bytes", text.len()), format!("at most {} bytes", limits::STRING_BYTES_MAX));
    } else if let Some((found, wanted)) = flaw(&text) {
        sheet.problem(&span, found, wanted);
    }
    Some(text)
}

/// Reads the name of a Salt function: two words or more with points between them, and nothing that a shell reads.
fn read_function(table: &mut Fields<'_>) -> Option<String> {
    let sheet = table.sheet();
    let function = table.string("function");
    let function = table.need("function", function)?;
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !function.value.contains('.') || !function.value.split('.').all(word) {
        sheet.problem(&function.span, &function.value, "a function of Salt's, such as state.apply");
    }
    Some(function.value)
}

/// Reads variables; those whose value is `secret:NAME` are told apart.
fn read_env(
    sheet: &Sheet<'_>,
    pairs: Vec<(Text, Text)>,
    around: &StepContext<'_>,
) -> (BTreeMap<ParamName, String>, BTreeMap<ParamName, SecretName>) {
    let (mut env, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in pairs {
        let Some(parsed) = name.parse::<ParamName>(sheet) else { continue };
        if parsed.as_str().starts_with("SPOOLGATE_") {
            sheet.problem(&name.span, &name.value, "a name that does not begin with SPOOLGATE_");
        }
        if let Some(secret) = secret_name(&value.value) {
            secrets.insert(parsed, secret);
            continue;
        }
        if value.value.starts_with("secret:") {
            sheet.problem(&value.span, "secret: without the name of a secret", "secret:NAME");
        }
        check_placeholders(sheet, &value, around, "its own variable holds it: scripts have it as $NAME");
        env.insert(parsed, value.value);
    }
    (env, secrets)
}

fn read_condition(sheet: &Sheet<'_>, text: &Text, around: &StepContext<'_>) -> Option<Condition> {
    let condition = match Condition::parse(&text.value) {
        Ok(condition) => condition,
        Err(wanted) => {
            sheet.problem(&text.span, &text.value, wanted);
            return None;
        }
    };
    for name in condition.params() {
        let param = around.params.iter().find(|param| param.name.as_str() == name);
        if param.is_some_and(|param| param.secret.is_some()) {
            sheet.problem(&text.span, format!("the secret {name}"), "a condition that asks for no secret");
        } else if param.is_none() && !around.other_params {
            let known: Vec<&str> = around.params.iter().map(|param| param.name.as_str()).collect();
            sheet.problem(&text.span, name, format!("host, steps or a parameter: {}", known.join(", ")));
        }
    }
    Some(condition)
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
    total.filter(|&total| total <= limits::SECONDS_MAX).unwrap_or_else(|| {
        let wanted = "a number with s, m, h or d, such as \"5m\", at most a year; 0 is no limit";
        sheet.problem(&text.span, format!("{field} = {}", text.value), wanted);
        0
    })
}
