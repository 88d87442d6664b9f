//! The variables that a step's script gets. Floor 1.
//!
//! | variable | what it holds |
//! | --- | --- |
//! | `SPOOLGATE_TASK`, `_TASK_NAME`, `_TEMPLATE` | the task's number and name, its template's name |
//! | `SPOOLGATE_HOST`, `_GROUP`, `_BATCH`, `_STEP`, `_ATTEMPT` | where it runs, and which attempt this is |
//! | `SPOOLGATE_ATTEMPT_ID` | a name that no other attempt has; the runner sets it, and looks for it |
//! | `SPOOLGATE_PREVIOUS_STEP`, `_ARGV`, `_CODE` | the step before it on this host: name, arguments as JSON, exit code |
//! | `SPOOLGATE_FAILED_STEP`, `_CODE`, `_RESULT` | for handlers and rollbacks: the step that failed, and what it came to, as JSON |
//! | `SPOOLGATE_CALLBACK`, `_TOKEN` | where it may say how far it is |
//! | `SPOOLGATE_LEFT_OUT` | which of these are not set because they, or all together, would be too long for a program |
//! | `SPOOLGATE_VERSION` | the tag that the task names, or its parameter VERSION, APPVER or TAG |
//!
//! What the inventory says of the host comes with the plan. A template with `env_prefix = "ZDOPS"` gets the same under the
//! names of seed 003 too. What is not known is not set. The task's own parameters and variables come last but one, and its
//! secrets last.
//!
//! **Invariant:** pure.

use super::told::Told;
use crate::base::ids::{GroupNo, HostName, ParamName, TaskId};
use crate::domain::arguments::{ALL_BYTES_MAX, ONE_BYTES_MAX, counted, variable};
use crate::domain::plan::{Plan, PlannedStep};
use crate::domain::run::earlier::Taken;

/// Returns the variables in the order in which they are set; a later one of the same name counts.
pub(super) fn of(
    plan: &Plan,
    task: TaskId,
    host: &HostName,
    group: GroupNo,
    step: &PlannedStep,
    told: &Told<'_>,
) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| variables.push((format!("SPOOLGATE_{name}"), value));
    set("TASK", task.to_string());
    set("TASK_NAME", plan.task_name.clone());
    set("HOST", host.to_string());
    set("GROUP", group.to_string());
    set("BATCH", told.batch.to_string());
    set("STEP", step.name.to_string());
    set("ATTEMPT", told.attempt.to_string());
    if let Some(template) = &plan.template {
        set("TEMPLATE", template.name.to_string());
    }
    if let Some(Taken { step, args, code, .. }) = &told.earlier.previous {
        set("PREVIOUS_STEP", step.to_string());
        set("PREVIOUS_ARGV", serde_json::to_string(args).expect("texts serialise"));
        if let Some(code) = code {
            set("PREVIOUS_CODE", code.to_string());
        }
    }
    if let Some(Taken { step, code, result, .. }) = &told.earlier.failed {
        set("FAILED_STEP", step.to_string());
        if let Some(code) = code {
            set("FAILED_CODE", code.to_string());
        }
        set("FAILED_RESULT", result.clone());
    }
    if let Some(callback) = told.callback {
        set("CALLBACK", callback.url.clone());
        set("TOKEN", callback.token.clone());
    }
    if let Some(version) = version(plan) {
        set("VERSION", version.to_owned());
    }
    if let Some(prefix) = &plan.env_prefix {
        // What a task says comes first: it stands for nothing that we or the inventory know.
        variables.extend(plan.env.iter().map(|(name, value)| (format!("{prefix}_{name}"), value.clone())));
        variables.extend(ported(prefix.as_str(), task, step, told));
    }
    let of_host = plan.hosts.get(host).into_iter().flat_map(|host| &host.env);
    let named = plan.env.iter().chain(of_host).chain(&step.env);
    variables.extend(named.map(|(name, value)| (name.to_string(), value.clone())));
    variables.extend(told.secrets.iter().map(|(name, secret)| (name.to_string(), secret.reveal().to_owned())));
    leave_out(&mut variables, step, plan.env_prefix.as_ref().map(ParamName::as_str));
    variables
}

/// Leaves out what we add and a program could not begin with: no script fails for what nobody asked for. What a task says fits,
/// which was looked at when it was planned.
fn leave_out(variables: &mut Vec<(String, String)>, step: &PlannedStep, prefix: Option<&str>) {
    // The least needed first.
    let ported = prefix.map(|prefix| format!("{prefix}_PrevJobArgv"));
    let ours = ["SPOOLGATE_PREVIOUS_ARGV", "SPOOLGATE_FAILED_RESULT", "SPOOLGATE_VERSION"];
    let mut all: usize = step.args.iter().map(|arg| counted(arg.len())).sum();
    all = all.saturating_add(variables.iter().map(|(name, value)| counted(variable(name, value))).sum::<usize>());
    let mut left_out = Vec::new();
    for own in ported.as_deref().into_iter().chain(ours) {
        variables.retain(|(name, value)| {
            let length = variable(name, value);
            let keep = name != own || length <= ONE_BYTES_MAX && all <= ALL_BYTES_MAX;
            if !keep {
                all = all.saturating_sub(counted(length));
                left_out.push(name.clone());
            }
            keep
        });
    }
    if !left_out.is_empty() {
        // First: whatever a task sets comes later.
        variables.insert(0, ("SPOOLGATE_LEFT_OUT".to_owned(), left_out.join(" ")));
    }
}

/// Returns which version a task is about: the tag that it names, or the parameter that is called so.
fn version(plan: &Plan) -> Option<&str> {
    let tag = plan.commits.values().next().map(|commit| commit.tag.as_str());
    let named = ["VERSION", "APPVER", "TAG"];
    let value =
        |wanted: &str| plan.env.iter().find(|(name, _)| name.as_str() == wanted).map(|(_, value)| value.as_str());
    tag.or_else(|| named.into_iter().find_map(value))
}

/// Returns what changes from step to step under the names that ported scripts know.
fn ported(prefix: &str, task: TaskId, step: &PlannedStep, told: &Told<'_>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((format!("{prefix}_{name}"), value));
    set("JobID", task.to_string());
    set("JobName", step.name.to_string());
    if let Some(callback) = told.callback {
        set("CallBack", callback.url.clone());
        set("Token", callback.token.clone());
        // What a script may ask stands beside what it may say.
        set("JobAPI", callback.url.strip_suffix("/progress").unwrap_or(&callback.url).to_owned());
    }
    if let Some(Taken { step, args, code, .. }) = &told.earlier.previous {
        set("PrevJobName", step.to_string());
        set("PrevJobAlias", step.to_string());
        set("PrevJobArgv", args.join(" "));
        if let Some(code) = code {
            set("PrevJobCode", code.to_string());
        }
    }
    variables
}
