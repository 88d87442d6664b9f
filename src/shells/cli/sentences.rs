//! What happened, in one sentence each. Floor 4.
//!
//! **Invariant:** what tasks and hosts say is made visible here, so that no verb forgets it.

use crate::base::count::Count;
use crate::base::text::visible;
use crate::domain::delegate::Report;
use crate::domain::outcome::{Ending, Outcome, OutputFacts};
use crate::domain::run::Event;

/// Says how a step ended.
pub(in crate::shells) fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Exit(code) => format!("exit {code}"),
        Ending::Signal(name) => format!("signal {name}"),
        Ending::TimedOut => "ran too long and was ended".to_owned(),
        Ending::IdleTimedOut => "printed nothing for too long and was ended".to_owned(),
        Ending::NotAllDone(why) => visible(why),
        Ending::Died(why) => format!("its runner was killed: {}", visible(why)),
        Ending::Unreachable(why) => format!("was not reached: {}", visible(why)),
        Ending::Cancelled => "was ended".to_owned(),
        Ending::NotSent(why) => format!("was not sent: {}", visible(why)),
        Ending::Lost(why) => format!("is lost: {}", visible(why)),
        Ending::KillUnconfirmed(why) => format!("may still run: {}", visible(why)),
    }
}

/// Says what happened.
pub(in crate::shells) fn said(event: &Event) -> String {
    match event {
        Event::Accepted(accepted) => format!("accepted from {}", accepted.by),
        Event::Approved { approval, .. } => {
            let start = approval.start.map(|start| format!(", to start at {start}")).unwrap_or_default();
            let until = approval.until.map(|until| format!(", until {until}")).unwrap_or_default();
            format!("approved by {} for plan {}{start}{until}", approval.by, approval.digest.short())
        }
        Event::Stale { differences, .. } => {
            let differences: Vec<String> = differences.iter().map(|found| visible(&found.to_string())).collect();
            format!("what would run has changed and waits for approval again:\n  {}", differences.join("\n  "))
        }
        Event::Withdrawn(_)
        | Event::Lapsed { .. }
        | Event::Readmitted { .. }
        | Event::Unresolvable { .. }
        | Event::Rejected(_)
        | Event::Cancelled(_)
        | Event::HostsStopped { .. }
        | Event::Held { .. }
        | Event::Released(_)
        | Event::HoldReleased(_)
        | Event::StepsReleased { .. }
        | Event::Retried { .. }
        | Event::StepsSkipped { .. }
        | Event::BatchWaits { .. }
        | Event::Continued { .. }
        | Event::BatchStarted { .. }
        | Event::Frozen(_) => {
            let by = event.actor().map(|by| format!(" by {by}")).unwrap_or_default();
            let detail = event.detail().map(|detail| format!(": {}", visible(&detail))).unwrap_or_default();
            format!("{}{by}{detail}", event.word().replace('_', " "))
        }
        Event::OrderRefused { by, act, why, .. } => format!("{act} by {by} refused: {}", visible(why)),
        Event::Started => "started".to_owned(),
        Event::KillUnconfirmed { host, step, why, .. } => {
            format!("{host}: {step} could not be confirmed stopped; it may still be running: {}", visible(why))
        }
        Event::TargetsReported { host, step, reports, .. } => {
            let told = |report: &Report| format!("{} {}", report.target, report.state.word());
            let told: Vec<String> = reports.iter().map(told).collect();
            format!("{host}: {step} reports {}", visible(&told.join(", ")))
        }
        Event::StepPassedOver { host, step, .. } => {
            format!("{host}: goes on without {step}: its condition does not hold")
        }
        Event::StepStarted { host, step, .. } => format!("{host}: {step} started"),
        Event::HostUnreachable { host, step, why, .. } => {
            format!("{host}: cannot be reached while {step} runs there: {}", visible(why))
        }
        Event::HostReachable { host, step, .. } => format!("{host}: is reached again, where {step} runs"),
        Event::StepSaid { host, step, text, .. } => format!("{host}: {step} says: {}", visible(text)),
        Event::StepEnded { host, step, result, .. } => {
            format!("{host}: {step} {}{}", ended(&result.ending), unkept(&result.output))
        }
        Event::Closed { outcome } => format!("ended: {}", outcome.word()),
    }
}

/// Says that a journal contradicts itself.
pub(in crate::shells) fn contradiction(task: &str, outcome: Outcome, said: Outcome) -> String {
    let (by_steps, said) = (outcome.word(), said.word());
    format!("task {task} ended {by_steps} by its steps, and its last event says {said}: somebody changed its journal")
}

/// Says how much of what a step printed is kept nowhere.
fn unkept(output: &OutputFacts) -> String {
    match (output.dropped_bytes, output.host_full) {
        (Count::ZERO, _) => String::new(),
        (bytes, true) => format!("; at least {bytes} byte(s) of its output found no room on the host's disk"),
        (bytes, false) => format!("; {bytes} byte(s) of its output are kept nowhere"),
    }
}
