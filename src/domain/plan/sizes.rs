//! Whether what a script is given fits into what Linux lets a program begin with. Floor 1.
//!
//! **Invariant:** pure. A plan that passes starts on a host whose stack has the usual limit: what is only known at its time and
//! would not fit is left out then ([`crate::domain::runner`]).

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, PlannedStep};
use crate::base::ids::ParamName;
use crate::domain::arguments::{ALL_BYTES_MAX, ONE_BYTES_MAX, counted, variable};
use crate::domain::problem::{Problem, Problems};
use crate::domain::submission::{Submission, Work};
use crate::domain::template::tokens::FLOW_ID;

/// The longest number of a task.
const NUMBER_BYTES: usize = 20;

/// Finds arguments and variables that are too long, each once, and steps that are given too much.
///
/// # Errors
/// All of them.
pub(in crate::domain) fn check(plan: &Plan, submission: &Submission) -> Result<(), Vec<Problem>> {
    let mut sizes = Sizes { plan, submission, found: BTreeSet::new(), problems: Problems::default() };
    let shared = sizes.variables(&plan.env, |name| pointer_of(submission, name));
    let shared_twice = sizes.prefixed();
    let hosts: BTreeMap<_, _> = plan
        .hosts
        .iter()
        .map(|(name, host)| (name, sizes.variables(&host.env, |_| format!("/hosts: {name} in the inventory"))))
        .collect();
    for group in &plan.groups {
        let most = group.hosts.iter().filter_map(|name| Some((*hosts.get(name)?, name))).max();
        for step in &group.steps {
            let own = sizes.variables(&step.env, |_| "/temp_id".to_owned()).saturating_add(sizes.arguments(step));
            let all = shared
                .saturating_add(shared_twice)
                .saturating_add(own)
                .saturating_add(most.map_or(0, |(bytes, _)| bytes));
            if all > ALL_BYTES_MAX {
                let found = format!("{all} bytes of arguments and variables for the step {}", step.name);
                let wanted = format!(
                    "at most {ALL_BYTES_MAX} bytes together, which Linux lets a program begin with; bring more in a file (copy, render)"
                );
                sizes.problem(work_pointer(submission).to_owned(), found, wanted);
            }
        }
    }
    if sizes.problems.is_empty() { Ok(()) } else { Err(sizes.problems.into_vec()) }
}

struct Sizes<'a> {
    plan: &'a Plan,
    submission: &'a Submission,
    found: BTreeSet<(String, String)>,
    problems: Problems,
}

impl Sizes<'_> {
    fn problem(&mut self, pointer: String, found: String, wanted: String) {
        if self.found.insert((pointer.clone(), found.clone())) {
            self.problems.push(Problem::new(pointer, found, wanted));
        }
    }

    /// Checks variables one by one; returns how much they count together.
    fn variables(&mut self, env: &BTreeMap<ParamName, String>, pointer: impl Fn(&ParamName) -> String) -> usize {
        let mut all = 0_usize;
        for (name, value) in env {
            all = all.saturating_add(self.one_variable(name.as_str(), value, || pointer(name)));
        }
        all
    }

    /// Checks what the plan's variables become for ported scripts, which know them under other names.
    fn prefixed(&mut self) -> usize {
        let (plan, submission) = (self.plan, self.submission);
        let Some(prefix) = &plan.env_prefix else { return 0 };
        let mut all = 0_usize;
        for (name, value) in &plan.env {
            all = all
                .saturating_add(self.one_variable(&format!("{prefix}_{name}"), value, || pointer_of(submission, name)));
        }
        all
    }

    fn one_variable(&mut self, name: &str, value: &str, pointer: impl FnOnce() -> String) -> usize {
        let length = variable(name, value);
        if length > ONE_BYTES_MAX {
            let found = format!("{length} bytes in the variable {name}, with its name");
            self.problem(pointer(), found, too_long("variable"));
        }
        counted(length)
    }

    /// Checks a step's arguments one by one; returns how much they count together.
    fn arguments(&mut self, step: &PlannedStep) -> usize {
        let mut all = 0_usize;
        for (n, arg) in step.args.iter().enumerate() {
            let numbers = if step.flow_id { arg.matches(FLOW_ID).count().saturating_mul(NUMBER_BYTES) } else { 0 };
            let length = arg.len().saturating_add(numbers);
            if length > ONE_BYTES_MAX {
                let (pointer, found) = match &self.submission.work {
                    Work::Script { .. } => (format!("/args/{n}"), format!("{length} bytes")),
                    Work::Template { .. } => (
                        "/temp_id".to_owned(),
                        format!("{length} bytes in argument {} of the step {}", n.saturating_add(1), step.name),
                    ),
                };
                self.problem(pointer, found, too_long("argument"));
            }
            all = all.saturating_add(counted(length));
        }
        let words = |file: &super::PlannedFile| {
            [64, file.mode.len(), file.owner.as_ref().map_or(1, String::len), file.to.len()]
                .map(counted)
                .iter()
                .sum::<usize>()
        };
        all.saturating_add(step.files.iter().map(words).sum::<usize>())
    }
}

fn too_long(what: &str) -> String {
    format!("at most {ONE_BYTES_MAX} bytes: Linux takes no longer {what}; bring it in a file (copy, render)")
}

/// Returns where a variable of the plan comes from.
fn pointer_of(submission: &Submission, name: &ParamName) -> String {
    if submission.env.contains_key(name) {
        return format!("/env/{name}");
    }
    match &submission.work {
        // The lists of a proxy's hosts.
        _ if matches!(name.as_str(), "SERVER_IP" | "SERVER_HOST") && submission.proxy.is_some() => "/hosts".to_owned(),
        Work::Template { params, .. } if params.contains_key(name) => format!("/args/{name}"),
        _ => "/temp_id".to_owned(),
    }
}

fn work_pointer(submission: &Submission) -> &'static str {
    match submission.work {
        Work::Template { .. } => "/temp_id",
        Work::Script { .. } => "/args",
    }
}
