//! `check` and `plan`: what a file means, without daemon and network. Floor 4.
//!
//! **Invariant:** the same reader and resolver as the daemon's, so the digest is the one it will compute.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::adapters::spool::reader;
use crate::base::ids::TaskId;
use crate::base::text::{visible, visible_lines};
use crate::domain::plan::Plan;
use crate::domain::plan::diff::{differences, script_changes};
use crate::domain::record::HistoryLine;
use crate::domain::resolve::resolve;
use crate::domain::wire::read_task;
use crate::shells::ask_ssh;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::login_keys;
use crate::shells::cli::submit::read_file;
use crate::shells::cli::tasks;
use crate::shells::describe::{describe, push};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Check {
    /// The task file; `-` reads standard input.
    file: PathBuf,
}

impl Check {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let (shown, plan, more) = plan_of_file(context, &self.file)?;
        for warning in plan.warnings().into_iter().chain(more) {
            context.output.say(format!("{shown}: warning: {warning}"));
        }
        if context.output.json {
            return context.output.object(serde_json::json!({"ok": true, "digest": plan.digest()}));
        }
        context.output.line(format!("{shown}: ok, {} host(s), plan {}", plan.hosts.len(), plan.digest()))
    }
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(in crate::shells) struct PlanOf {
    /// A task file, `-` for standard input, or a task's number or name.
    what: PathBuf,
    /// Also print the exact bytes that each host's shell reads.
    #[arg(long)]
    bytes: bool,
}

impl PlanOf {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let word = self.what.to_string_lossy();
        let (id, plan, more) = if word == "-" || tasks::is_file(&word) {
            let (_, plan, more) = plan_of_file(context, &self.what)?;
            (TaskId(0), plan, more)
        } else {
            let follower = tasks::open(context, &word).map_err(|failure| match failure.kind {
                Kind::NotFound => {
                    Failure { message: format!("{}, and no file of that name", failure.message), ..failure }
                }
                _ => failure,
            })?;
            let run = tasks::run_of(&follower)?;
            (run.id, (*run.plan).clone(), Vec::new())
        };
        let before = last_run(context, &plan, id);
        let changes = before.as_ref().map(|(_, was)| differences(was, &plan)).unwrap_or_default();
        if context.output.json {
            let since = before.as_ref().map(|(id, _)| serde_json::json!({"task": id, "differences": changes}));
            let warnings: Vec<String> = plan.warnings().into_iter().chain(more).collect();
            let value = serde_json::json!({
                "digest": plan.digest(), "plan": plan, "warnings": warnings, "since": since,
            });
            return context.output.object(value);
        }
        let mut text = describe(&plan, self.bytes.then_some(id));
        for warning in &more {
            push(&mut text, "warning", &visible(warning));
        }
        if let Some((id, was)) = &before {
            push(&mut text, "since", &format!("task {id}, the last run of {}", plan.work_name()));
            for change in &changes {
                push(&mut text, "  change", &visible(&change.to_string()));
            }
            for change in script_changes(was, &plan) {
                push(&mut text, "  script", &format!("{}, line {}", change.step, change.line));
                for (sign, lines) in [("-", &change.was), ("+", &change.now)] {
                    for line in lines {
                        writeln!(text, "      {sign} {}", visible_lines(line))
                            .expect("writing to a string cannot fail");
                    }
                }
            }
        }
        context.output.bytes(text.as_bytes())
    }
}

/// Returns the last task of the same template that ran, and what it ran; a script of its own has none.
fn last_run(context: &Context, plan: &Plan, but: TaskId) -> Option<(TaskId, Plan)> {
    plan.template.as_ref()?;
    // A plan can be made where there is no spool yet.
    let layout = &context.layout;
    let history = reader::history(layout).unwrap_or_default();
    let same = |line: &&HistoryLine| line.work == plan.work_name() && line.started.is_some() && line.id != but;
    let line = history.iter().filter(same).max_by_key(|line| line.id)?;
    reader::plan(layout, line.id).ok().map(|was| (line.id, was))
}

/// Returns how a file is called, its plan, and what to look at twice that the plan does not hold.
fn plan_of_file(context: &Context, file: &std::path::Path) -> Result<(String, Plan, Vec<String>), Failure> {
    let (shown, bytes) = read_file(file)?;
    let config = context.config()?;
    let (mut library, agent) = (config.library, config.settings.agent);
    let submission = read_task(&bytes, &library.zone).map_err(|bad| Failure::invalid(&shown, &bad.problems))?;
    ask_ssh::complete(&mut library, std::slice::from_ref(&submission));
    let plan = resolve(&submission, &library).map_err(|problems| Failure::invalid(&shown, &problems))?;
    let (problems, warnings) = login_keys::judge(&plan, agent);
    if problems.is_empty() { Ok((shown, plan, warnings)) } else { Err(Failure::invalid(&shown, &problems)) }
}
