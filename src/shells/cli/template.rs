//! `template`: what the catalogue has, whether a file is one, and CODO's templates as files. Floor 4.
//!
//! **Invariant:** what is listed is what the daemon would resolve against, were it started now; `import` writes only files that
//! are not there yet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::adapters::config::texts_beside;
use crate::base::ids::TemplateName;
use crate::base::text::{visible, visible_lines};
use crate::domain::submission::TemplateRef;
use crate::domain::template::{
    Args as StepArgs, GroupHosts, OnFailure, Param, ParamKind, Step, StepWork, Template, Trigger,
};
use crate::domain::wire::codo_template::{Naming, import};
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::read_file;

/// Arguments of `template`.
#[derive(Debug, Args)]
pub(in crate::shells) struct TemplateVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the templates of the catalogue.
    Ls,
    /// Show everything about a template: parameters, steps, scripts.
    Show {
        /// Its name or number.
        template: String,
    },
    /// Check template files and list every problem [the whole catalogue].
    Check {
        /// Template files, with their scripts beside them.
        files: Vec<PathBuf>,
    },
    /// Import CODO's templates (its details or commands as JSON) as template files.
    Import(Import),
}

#[derive(Debug, Args)]
struct Import {
    /// The answer of CODO's API; `-` reads standard input.
    file: PathBuf,
    /// CODO's list of parameters as JSON; its aliases become labels.
    #[arg(long, value_name = "FILE")]
    args: Option<PathBuf>,
    /// The template's name, if the file has none.
    #[arg(long)]
    name: Option<TemplateName>,
    /// The template's number, if the file has none.
    #[arg(long)]
    id: Option<u32>,
    /// Write NAME.toml there instead of printing.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

impl TemplateVerb {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.verb {
            Verb::Ls => list(context),
            Verb::Show { template } => show(context, &template),
            Verb::Check { files } => check(context, &files),
            Verb::Import(wish) => wish.run(context),
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let catalogue = context.config()?.library.catalogue;
    if context.output.json {
        let rows: Vec<_> = catalogue
            .iter()
            .map(|template| {
                let params: Vec<_> = template.params.iter().map(|param| param.name.as_str()).collect();
                serde_json::json!({"id": template.id, "name": template.name, "title": template.title, "params": params})
            })
            .collect();
        return context.output.object(serde_json::json!({ "templates": rows }));
    }
    for template in catalogue.iter() {
        context.output.line(format!("{:>6}  {:<20} {}", template.id, template.name, visible(&template.title)))?;
        for param in &template.params {
            context.output.line(format!("          {}", describe_param(param)))?;
        }
    }
    Ok(())
}

fn describe_param(param: &Param) -> String {
    let kind = match (&param.secret, &param.kind) {
        (Some(names), _) => {
            let names: Vec<String> = names.iter().map(|name| format!("secret:{name}")).collect();
            names.join(" | ")
        }
        (None, ParamKind::String) => "string".to_owned(),
        (None, ParamKind::Path) => "path".to_owned(),
        (None, ParamKind::Int) => "int".to_owned(),
        (None, ParamKind::Bool) => "bool".to_owned(),
        (None, ParamKind::Enum(values)) => values.join(" | "),
        (None, ParamKind::Tag(repository)) => format!("tag of {repository}"),
    };
    let default = param.default.as_ref().map(|value| format!(" [{}]", visible(value))).unwrap_or_default();
    let required = if param.required { ", required" } else { "" };
    let kind = param.pattern.as_ref().map_or(kind.clone(), |pattern| format!("{kind}, {}", pattern.text()));
    format!("{}  {}{default}{required}  ({})", param.name, visible(&param.label), visible(&kind))
}

fn show(context: &Context, word: &str) -> Result<(), Failure> {
    let catalogue = context.config()?.library.catalogue;
    let wanted = word.parse().map(TemplateRef::Id).or_else(|_| word.parse().map(TemplateRef::Name));
    let template = wanted.ok().and_then(|wanted| catalogue.find(&wanted)).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("no template {}", visible(word))).hint("spoolgate template ls lists them")
    })?;
    if context.output.json {
        let steps: Vec<_> = template.steps.iter().map(step_value).collect();
        let params: Vec<_> = template.params.iter().map(|param| serde_json::json!({"name": param.name, "label": param.label, "default": param.default, "required": param.required, "secret": param.secret.is_some()})).collect();
        return context.output.object(serde_json::json!({
            "id": template.id, "name": template.name, "title": template.title, "file": template.file,
            "risk": template.risk, "missed": template.missed, "params": params, "steps": steps,
        }));
    }
    context.output.bytes(describe(template).as_bytes())
}

fn step_value(step: &Step) -> serde_json::Value {
    let part = |work: &StepWork| serde_json::json!({"script": work.script, "account": work.account, "timeout_s": work.timeout_s});
    serde_json::json!({
        "name": step.name, "group": step.group, "level": step.level, "trigger": step.trigger, "on_failure": step.on_failure,
        "when": step.when.as_ref().map(crate::domain::condition::Condition::text), "script": step.work.script,
        "account": step.work.account, "timeout_s": step.work.timeout_s,
        "handler": step.handler.as_ref().map(part), "rollback": step.rollback.as_ref().map(|rollback| part(&rollback.work)),
    })
}

/// Writes a template for people.
fn describe(template: &Template) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<12} {value}").expect("writing to a string cannot fail");
    };
    line("template", &format!("{} ({})", template.name, template.id));
    line("title", &visible(&template.title));
    line("file", &template.file.to_string());
    line("risk", template.risk.word());
    line("missed", template.missed.word());
    if let Some(prefix) = &template.env_prefix {
        line("env_prefix", prefix.as_str());
    }
    for param in &template.params {
        line("parameter", &describe_param(param));
    }
    if template.other_params {
        line("parameter", "any other one");
    }
    for (group, hosts) in &template.groups {
        let hosts = match hosts {
            GroupHosts::Forced(host) => format!("runs on {host}, once"),
            GroupHosts::SameAs(other) => format!("has the hosts of group {other}"),
        };
        line(&format!("group {group}"), &hosts);
    }
    let mut steps: Vec<&Step> = template.steps.iter().collect();
    steps.sort_by_key(|step| (step.group, step.level));
    for step in steps {
        let mut facts = vec![format!("group {}, level {}", step.group, step.level)];
        if step.trigger != Trigger::Auto {
            facts.push(step.trigger.word().to_owned());
        }
        if step.on_failure != OnFailure::Stop {
            facts.push(format!("on failure {}", step.on_failure.word()));
        }
        facts.extend(step.when.as_ref().map(|when| format!("when {}", visible(when.text()))));
        text.push_str(&format!("{:<12} {}: {}\n", "step", step.name, facts.join(", ")));
        describe_work(&mut text, &step.work);
        if let Some(handler) = &step.handler {
            text.push_str(&format!("{:<12} if {} failed\n", "  handler", step.name));
            describe_work(&mut text, handler);
        }
        if let Some(rollback) = &step.rollback {
            let partial = if rollback.partial { ", also when it failed itself" } else { "" };
            text.push_str(&format!("{:<12} undoes {}{partial}\n", "  rollback", step.name));
            describe_work(&mut text, &rollback.work);
        }
    }
    text
}

fn describe_work(text: &mut String, work: &StepWork) {
    let account = work.account.as_ref().map(|account| format!("as {account}, ")).unwrap_or_default();
    let limit = if work.timeout_s == 0 { "no limit".to_owned() } else { format!("at most {} s", work.timeout_s) };
    text.push_str(&format!("    {account}{limit}\n"));
    match &work.args {
        StepArgs::List(list) if list.is_empty() => {}
        StepArgs::List(list) => {
            let args: Vec<String> =
                list.iter().map(|arg| format!("'{}'", visible(arg).replace('\'', "'\\''"))).collect();
            text.push_str(&format!("    args {}\n", args.join(" ")));
        }
        StepArgs::Tokens(words) => text.push_str(&format!("    args {} (words)\n", visible(words))),
    }
    for (name, value) in &work.env {
        text.push_str(&format!("    env {name} = {}\n", visible(value)));
    }
    for (name, secret) in &work.secrets {
        text.push_str(&format!("    secret {name} = secret:{secret}\n"));
    }
    for line in work.script.lines() {
        text.push_str(&format!("    | {}\n", visible_lines(line)));
    }
}

fn check(context: &Context, files: &[PathBuf]) -> Result<(), Failure> {
    if files.is_empty() {
        let count = context.config()?.library.catalogue.iter().count();
        if context.output.json {
            return context.output.object(serde_json::json!({ "templates": count }));
        }
        return context.output.line(format!("{count} template(s): ok"));
    }
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        let (shown, bytes) = read_file(file)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(Kind::Invalid, format!("{shown} is no text in UTF-8; save it as one")))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        match Template::parse(&shown, &text, &texts_beside(folder).unwrap_or_default()) {
            Ok(template) => {
                let steps = template.steps.len();
                if context.output.json {
                    right.push(serde_json::json!({
                        "file": shown, "name": template.name, "id": template.id, "steps": steps,
                    }));
                    continue;
                }
                context.output.line(format!("{shown}: ok, {} ({}), {steps} step(s)", template.name, template.id))?;
            }
            Err(problems) => wrong.extend(problems.iter().map(ToString::to_string)),
        }
    }
    if context.output.json {
        context.output.object(serde_json::json!({ "checked": right }))?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(Kind::Invalid, wrong.join("\n"))) }
}

impl Import {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let (shown, bytes) = read_file(&self.file)?;
        let aliases = self.args.as_deref().map(read_file).transpose()?;
        let naming = Naming { name: self.name, id: self.id };
        let made = import(&bytes, aliases.as_ref().map(|(_, bytes)| bytes.as_slice()), &naming)
            .map_err(|problems| Failure::invalid(&shown, &problems))?;
        for template in made {
            for note in &template.notes {
                context.output.say(format!("{}: {note}", template.name));
            }
            // What is written is what would be read.
            Template::parse(&format!("{}.toml", template.name), &template.text, &BTreeMap::new())
                .map_err(|problems| Failure::invalid(&shown, &problems))?;
            let Some(folder) = &self.into else {
                context.output.bytes(template.text.as_bytes())?;
                continue;
            };
            let path = folder.join(format!("{}.toml", template.name));
            let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
            written.and_then(|mut file| file.write_all(template.text.as_bytes())).map_err(|error| {
                Failure::new(Kind::Unavailable, format!("cannot write {}: {error}", path.display()))
                    .hint("what is there already is never replaced: remove it, or choose another --name")
            })?;
            context.output.line(path.display().to_string())?;
        }
        Ok(())
    }
}
