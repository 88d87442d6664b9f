//! `show`: everything about one task. Floor 4.
//!
//! **Invariant:** what a file claims about people is shown as a claim, beside what the kernel says.

use crate::shells::cli::sentences::said;
use clap::Args;

use crate::adapters::config;
use crate::adapters::spool::reader::{self, Follower};
use crate::base::ids::{HostName, StepName, TaskId};
use crate::base::limits::KILL_CONFIRM_S;
use crate::base::text::visible;
use crate::base::time::Zone;
use crate::domain::outcome::Outcome;
use crate::domain::policy::{Admission, Part};
use crate::domain::record::{StepRecord, step_records, view};
use crate::domain::run::lane::Lane;
use crate::domain::run::{Act, Event, Recorded, Run, Stage, StepState, TaskState};
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::sentences::contradiction;
use crate::shells::cli::tasks::{self, Meant};
use crate::shells::clock::now;
use crate::shells::describe::describe;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Show {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Show the plan too.
    #[arg(long)]
    plan: bool,
}

impl Show {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let meant = tasks::meant(context, &self.task).map_err(|failure| match failure.kind {
            Kind::Withheld(id) => show_known(context, id).err().unwrap_or(failure),
            _ => failure,
        });
        let task = match meant? {
            Meant::Task(task) => task,
            Meant::Refused(failure) => return Err(failure),
            Meant::InBox(file) if tasks::daemon_runs(context)? => {
                let message = format!("{file} is in its box, and the daemon has not taken it yet");
                return Err(Failure::new(Kind::Unavailable, message).hint(format!("spoolgate wait {}", self.task)));
            }
            Meant::InBox(file) => return Err(tasks::queued(&file)),
        };
        let id = tasks::run_of(&task)?.id;
        let (follower, events) = tasks::read(context, id)?;
        let run = tasks::run_of(&follower)?;
        if context.output.json {
            let lanes: Vec<_> = run
                .lanes
                .iter()
                .map(|lane| {
                    let steps: Vec<_> = step_records(run, lane).map(|step| step_value(run, lane, &step)).collect();
                    let (outcome, step) = (run.outcome_of(lane), running_step(run, lane));
                    serde_json::json!({"group": lane.group, "host": lane.host, "outcome": outcome, "step": step, "steps": steps})
                })
                .collect();
            let state = run.state().word();
            return context.output.object(serde_json::json!({
                "state": state, "task": view(run), "outcome": outcome(run), "approvals_missing": run.approvals_missing(),
                "events": events, "results": lanes, "contradicted": run.contradicted,
            }));
        }
        let zone = config::time_zone(&context.dirs.config).unwrap_or_else(Zone::system);
        context.output.bytes(text(run, &events, &zone).as_bytes())?;
        if let Some((host, other)) = waits_for(context, run)? {
            context.output.line(format!("waits for   {host}, on which task {other} is at work"))?;
        }
        if self.plan {
            context.output.bytes(format!("\n{}", describe(&run.plan, None)).as_bytes())?;
        }
        Ok(())
    }
}

/// Shows what everybody may know of a task.
fn show_known(context: &Context, id: TaskId) -> Result<(), Failure> {
    let Some(known) = tasks::known(context, id) else { return Ok(()) };
    if context.output.json {
        return context.output.object(serde_json::json!({
            "id": id, "state": known.state.word(), "outcome": known.outcome, "name": known.name, "task_name": known.task_name,
            "submitter": known.submitter, "accepted_at": known.accepted_at, "hosts": known.hosts,
            "withheld": Part::ALL.map(Part::word),
        }));
    }
    let zone = config::time_zone(&context.dirs.config).unwrap_or_else(Zone::system);
    let state = known.outcome.map_or(known.state.word(), Outcome::word);
    for line in [
        format!("task {id}  {}", visible(&known.task_name)),
        format!("state       {state}"),
        format!("dropped as  {}.json", visible(&known.name)),
        format!("submitter   {}", known.submitter),
        format!("accepted    {}", known.accepted_at.in_zone(&zone)),
        format!("hosts       {}", known.hosts),
    ] {
        context.output.line(line)?;
    }
    Ok(())
}

/// Returns what a task waits for whose time has come.
fn waits_for(context: &Context, run: &Run) -> Result<Option<(HostName, TaskId)>, Failure> {
    if run.state() != TaskState::Ready || run.begins_at().is_some_and(|at| at > now()) {
        return Ok(None);
    }
    let running = reader::standing(&context.layout, TaskState::Running)?;
    let running: Vec<Follower> =
        running.into_iter().filter_map(|id| Some(Follower::open(&context.layout, id).ok()?.0)).collect();
    Ok(run.waits_for(running.iter().filter_map(Follower::run)).map(|(host, id)| (host.clone(), id)))
}

fn outcome(run: &Run) -> Option<Outcome> {
    match run.stage {
        Stage::Done { outcome, .. } => Some(outcome),
        _ => None,
    }
}

/// Returns the step that runs on a host.
fn running_step<'a>(run: &'a Run, lane: &Lane) -> Option<&'a StepName> {
    Some(&run.plan.group(lane.group)?.steps.get(lane.open_step()?)?.name)
}

/// Returns how a step ended; `None` while it waits or runs: a record calls what never began skipped, which is true at the end.
fn step_outcome(run: &Run, lane: &Lane, step: &StepRecord) -> Option<Outcome> {
    let waits = step.outcome == Outcome::Skipped && step.reason.is_none() && run.outcome_of(lane).is_none();
    let runs = step.started.is_some() && step.ended.is_none();
    (!waits && !runs).then_some(step.outcome)
}

fn step_value(run: &Run, lane: &Lane, step: &StepRecord) -> serde_json::Value {
    let mut value = serde_json::json!(step);
    value["outcome"] = serde_json::json!(step_outcome(run, lane, step));
    value
}

/// Says what a task waits for that is to be ended and whose host does not answer.
fn ending(run: &Run, lane: &Lane) -> Option<String> {
    let StepState::Open { unconfirmed, unreachable, .. } = &lane.steps.get(lane.open_step()?)?.state else {
        return None;
    };
    let why = unconfirmed.as_ref().or(unreachable.as_ref()).filter(|_| lane.stopped || run.cancelled.is_some())?;
    let minutes = KILL_CONFIRM_S / 60;
    Some(format!(
        "  to be ended: its host is asked for up to {minutes} minutes whether it is gone, then it is kill_unconfirmed ({})",
        visible(why)
    ))
}

/// Writes the hosts on which something happened with their steps, and how many wait.
fn lanes(run: &Run, zone: &Zone) -> Vec<String> {
    let mut lines = Vec::new();
    let mut waiting: Vec<&HostName> = Vec::new();
    for lane in &run.lanes {
        let word = match (running_step(run, lane), run.outcome_of(lane)) {
            (Some(step), _) => format!("running {step}"),
            (None, Some(outcome)) => outcome.word().to_owned(),
            (None, None) if lane.is_untouched() => {
                waiting.push(&lane.host);
                continue;
            }
            (None, None) => "waiting".to_owned(),
        };
        lines.push(format!("\nhost {} (group {})  {word}", lane.host, lane.group));
        lines.extend(ending(run, lane));
        for step in step_records(run, lane) {
            lines.push(step_line(&step, step_outcome(run, lane, &step), zone));
            lines.extend(step.targets.iter().map(|(name, target)| {
                let detail = visible(&target.detail);
                format!("    {name:<18} {:<16} {detail}", target.state.word()).trim_end().to_owned()
            }));
        }
    }
    if let (Some(first), TaskState::Running) = (waiting.first(), run.state()) {
        lines.push(format!("\n{} host(s) waiting, {first} first", waiting.len()));
    }
    lines
}

fn text(run: &Run, events: &[Recorded], zone: &Zone) -> String {
    let mut lines = vec![format!("task {}  {}", run.id, visible(&run.plan.task_name))];
    let mut push = |name: &str, value: String| lines.push(format!("{name:<11} {value}"));
    push("state", outcome(run).map_or(run.state().word(), Outcome::word).to_owned());
    if let (Some(said), Some(outcome)) = (run.contradicted, outcome(run)) {
        push("WARNING", format!("{}; spoolgate audit verify", contradiction(&run.id.to_string(), outcome, said)));
    }
    push("dropped as", format!("{}.json", run.accepted.name));
    push("submitter", run.accepted.by.to_string());
    if run.accepted.unproved {
        let why = "its file lay flat in a box, where others may have put it; spoolgate submit proves whose it is";
        push("unproved", why.to_owned());
    }
    if let Some(claim) = &run.accepted.claims.submitter {
        push("claim", format!("the file says: submitted by {}", visible(claim)));
    }
    if let Some(claim) = &run.accepted.claims.executor {
        push("claim", format!("the file says: executed by {}", visible(claim)));
    }
    for (role, people) in &run.accepted.claims.associated_user {
        push("claim", format!("the file says: {} are {}", visible(role), visible(&people.join(", "))));
    }
    if !run.accepted.details.is_empty() {
        push("details", visible(&run.accepted.details));
    }
    push("digest", run.digest.to_string());
    if run.plan_version > 1 {
        push("plan", format!("number {}; the original plan no longer applies", run.plan_version));
    }
    match &run.accepted.admission {
        Admission::Ready { rule } if run.needs.is_empty() => push("approvals", format!("none needed: {rule}")),
        _ => {
            for need in &run.needs {
                let of = if need.of.is_empty() { "whoever may approve".to_owned() } else { need.of.join(", ") };
                let missing = need.missing(run.approvals.iter().map(|(_, approval)| approval));
                push("approvals", format!("{} of {of}, {missing} missing ({})", need.approvals, need.rule));
            }
        }
    }
    for hold in &run.holds {
        let by = hold.by.as_ref().map_or_else(|| "the daemon".to_owned(), ToString::to_string);
        push("held", format!("by {by} since {}: {}", hold.at.in_zone(zone), visible(&hold.why)));
    }
    if let Some(time) = run.plan.exec_time {
        push("not before", time.in_zone(zone));
    }
    for warning in run.plan.warnings() {
        push("warning", warning);
    }
    lines.push(String::new());
    lines.extend(run.acts.iter().map(|act| act_line(act, zone)));
    lines.extend(events.iter().filter_map(|event| sentence(event, zone)));
    lines.extend(self::lanes(run, zone));
    lines.join("\n") + "\n"
}

fn step_line(step: &StepRecord, outcome: Option<Outcome>, zone: &Zone) -> String {
    let end = match (&step.exit_code, &step.signal, &step.reason) {
        (Some(code), _, _) => format!("exit {code}"),
        (_, Some(signal), _) => format!("signal {signal}"),
        (_, _, Some(reason)) => visible(reason),
        _ => String::new(),
    };
    let times = match (step.started, step.ended) {
        (Some(started), Some(ended)) => {
            let (from, to) = (started.in_zone(zone), ended.in_zone(zone));
            // Of a step that began and ended on one day the day stands there once.
            let to = if from.get(..10) == to.get(..10) { to.get(11..).unwrap_or(&to) } else { &to };
            format!("{} .. {to}  {:.3} s", from.get(..19).unwrap_or(&from), Seconds(ended.0.saturating_sub(started.0)))
        }
        (Some(started), None) => format!("since {}", started.in_zone(zone)),
        _ => String::new(),
    };
    let outcome = outcome.map_or(if step.started.is_some() { "running" } else { "waiting" }, Outcome::word);
    let proof = step.proved_by.map_or_else(String::new, |by| format!("  proved by {}", by.word()));
    format!("  {:<20} {outcome:<16} {end}  {times}{proof}", step.step).trim_end().to_owned()
}

/// Milliseconds, written as seconds.
struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0.rem_euclid(1000))
    }
}

/// Says who did what when, and what it did to the task's state.
fn act_line(act: &Act, zone: &Zone) -> String {
    let by = act.by.as_ref().map_or_else(|| "the daemon".to_owned(), ToString::to_string);
    let states = match act.from {
        Some(from) if from != act.to => format!("{} -> {}", from.word(), act.to.word()),
        _ => act.to.word().to_owned(),
    };
    let detail = act.detail.as_ref().map(|detail| format!(": {}", visible(detail))).unwrap_or_default();
    format!("{}  {states:<18} {} by {by}{detail}", act.at.in_zone(zone), act.act.replace('_', " "))
}

/// Says what no act and no step's own line says.
fn sentence(recorded: &Recorded, zone: &Zone) -> Option<String> {
    use Event::{HostReachable, HostUnreachable, KillUnconfirmed};
    matches!(recorded.event, KillUnconfirmed { .. } | HostUnreachable { .. } | HostReachable { .. })
        .then(|| format!("{}  {}", recorded.at.in_zone(zone), said(&recorded.event)))
}
