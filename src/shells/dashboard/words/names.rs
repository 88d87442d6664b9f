//! The words for what is counted out elsewhere: states, outcomes, acts, endings. None of them is made from a type's name.
//!
//! **Invariant:** pure.

use crate::base::ids::Actor;
use crate::domain::level::Level;
use crate::domain::outcome::{Ending, Outcome, ProvedBy};
use crate::domain::problem::Problem;
use crate::domain::run::{Run, StepState, TaskState};
use crate::domain::template::{Missed, OnFailure, Trigger};
use crate::shells::dashboard::look::Mark;
use crate::shells::dashboard::message::LogKey;
use crate::shells::dashboard::words::{Words, fill};

pub(in crate::shells::dashboard) fn state(words: &Words, state: TaskState) -> &'static str {
    match state {
        TaskState::New => words.new,
        TaskState::Ready => words.ready,
        TaskState::Running => words.running,
        TaskState::Done => words.done_state,
    }
}

pub(in crate::shells::dashboard) fn outcome(words: &Words, outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => words.ok,
        Outcome::Skipped => words.skipped,
        Outcome::RolledBack => words.rolled_back,
        Outcome::Failed => words.failed,
        Outcome::TimedOut => words.timed_out,
        Outcome::RollbackFailed => words.rollback_failed,
        Outcome::Cancelled => words.cancelled,
        Outcome::Lost => words.lost,
        Outcome::KillUnconfirmed => words.kill_unconfirmed,
        Outcome::Rejected => words.rejected,
        Outcome::Expired => words.expired,
        Outcome::Stale => words.stale,
    }
}

pub(in crate::shells::dashboard) fn mark(words: &Words, mark: Mark) -> &'static str {
    match mark {
        Mark::Ok => words.ok,
        Mark::Skipped => words.skipped,
        Mark::Waits => words.mark_wait,
        Mark::Asks => words.mark_asks,
        Mark::Runs => words.mark_run,
        Mark::Failed => words.failed,
        Mark::Lost => words.lost,
    }
}

pub(in crate::shells::dashboard) fn level(words: &Words, level: Level) -> &'static str {
    match level {
        Level::Low => words.low,
        Level::Medium => words.medium,
        Level::High => words.high,
    }
}

pub(in crate::shells::dashboard) fn trigger(words: &Words, trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Auto => words.trigger_auto,
        Trigger::Manual => words.trigger_manual,
        Trigger::Timed => words.trigger_timed,
    }
}

pub(in crate::shells::dashboard) fn on_failure(words: &Words, what: OnFailure) -> &'static str {
    match what {
        OnFailure::Stop => words.failure_stop,
        OnFailure::Continue => words.failure_continue,
        OnFailure::Rollback => words.failure_rollback,
    }
}

pub(in crate::shells::dashboard) fn missed(words: &Words, missed: Missed) -> &'static str {
    match missed {
        Missed::Run => words.missed_run,
        Missed::Hold => words.missed_hold,
        Missed::Expire => words.missed_expire,
    }
}

/// Says what the result of an attempt is worth, once it has one.
pub(in crate::shells::dashboard) fn proof(words: &Words, run: &Run, key: &LogKey) -> &'static str {
    let step = run.lanes.iter().filter(|lane| lane.host == key.host).find_map(|lane| {
        let steps = &run.plan.group(lane.group)?.steps;
        lane.steps.get(steps.iter().position(|step| step.name == key.step)?)
    });
    let last = step.and_then(|step| if let StepState::Ended(result) = &step.state { Some(result) } else { None });
    let mut results = step.into_iter().flat_map(|step| &step.earlier).chain(last);
    match results.find(|result| result.attempt == key.attempt).and_then(|result| result.proved_by) {
        Some(ProvedBy::SameAccount) => words.proved_same,
        Some(ProvedBy::OtherAccount) => words.proved_other,
        Some(ProvedBy::Root) => words.proved_root,
        None => "",
    }
}

/// Says in a few words how a step ended.
pub(in crate::shells::dashboard) fn ending(words: &Words, ending: &Ending) -> String {
    match ending {
        Ending::Exit(code) => fill(words.ending_exit, &[&code.to_string()]),
        Ending::Signal(name) => fill(words.ending_signal, &[name]),
        Ending::TimedOut => words.timed_out.to_owned(),
        Ending::IdleTimedOut => words.ending_silent.to_owned(),
        Ending::NotAllDone(_) => words.ending_not_all.to_owned(),
        Ending::Died(_) => words.ending_died.to_owned(),
        Ending::Unreachable(_) => words.ending_unreachable.to_owned(),
        Ending::NotSent(_) => words.ending_not_sent.to_owned(),
        Ending::Lost(_) => words.lost.to_owned(),
        Ending::Cancelled => words.cancelled.to_owned(),
        Ending::KillUnconfirmed(_) => words.kill_unconfirmed.to_owned(),
    }
}

/// Returns what an act of a journal or the audit is called, by its word there.
pub(in crate::shells::dashboard) fn act(words: &Words, word: &str) -> String {
    let known = words.acts.iter().find(|(name, _)| *name == word);
    known.map_or_else(|| word.replace('_', " "), |(_, act)| (*act).to_owned())
}

/// How somebody is called in lists.
pub(in crate::shells::dashboard) fn person<'a>(words: &Words, actor: Option<&'a Actor>) -> &'a str {
    actor.map_or(words.the_daemon, |actor| actor.user.as_str())
}

/// Says what is wrong with a file. What was found and wanted stays as it was written.
pub(in crate::shells::dashboard) fn problem(words: &Words, problem: &Problem) -> String {
    let place = match (problem.line, problem.column) {
        (Some(line), Some(column)) => fill(words.problem_place, &[&line.to_string(), &column.to_string()]),
        _ => String::new(),
    };
    if problem.denied {
        let more = if problem.wanted.is_empty() { String::new() } else { format!(" ({})", problem.wanted) };
        return format!("{}{more}", problem.found);
    }
    let pointer = if problem.pointer.is_empty() { String::new() } else { format!("{}: ", problem.pointer) };
    format!("{place}{pointer}{}", fill(words.problem_found, &[&problem.found, &problem.wanted]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{CUT, CUT_ACKNOWLEDGED};
    use crate::shells::dashboard::words::Lang;

    /// Every word under which a journal or the audit names an act, read where they are written.
    fn acts() -> Vec<&'static str> {
        let events = include_str!("../../../domain/run/event.rs");
        let events = events.split("fn word(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
        let daemon = include_str!("../../daemon/mod.rs").split(".audit(\"").skip(1);
        let daemon = daemon.map(|rest| rest.split('"').next().unwrap());
        events
            .split("=> \"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .chain(daemon)
            .chain(["refused", "audit_torn", CUT, CUT_ACKNOWLEDGED])
            .collect()
    }

    #[test]
    fn everything_that_is_counted_out_has_a_chinese_word() {
        let zh = Lang::Zh.words();
        let endings = [
            Ending::TimedOut,
            Ending::IdleTimedOut,
            Ending::NotAllDone(String::new()),
            Ending::Died(String::new()),
            Ending::Unreachable(String::new()),
            Ending::NotSent(String::new()),
            Ending::Lost(String::new()),
            Ending::Cancelled,
            Ending::KillUnconfirmed(String::new()),
            Ending::Exit(1),
            Ending::Signal("TERM".to_owned()),
        ];
        let states = [TaskState::New, TaskState::Ready, TaskState::Running, TaskState::Done];
        let mut said: Vec<String> = endings.iter().map(|how| ending(zh, how)).collect();
        said.extend(acts().iter().map(|word| act(zh, word)));
        said.extend(Outcome::ALL.map(|how| outcome(zh, how).to_owned()));
        said.extend(states.map(|at| state(zh, at).to_owned()));
        said.extend(Mark::ALL.map(|at| mark(zh, at).to_owned()));
        said.extend([Level::Low, Level::Medium, Level::High].map(|of| level(zh, of).to_owned()));
        said.extend([Trigger::Auto, Trigger::Manual, Trigger::Timed].map(|by| trigger(zh, by).to_owned()));
        let failures = [OnFailure::Stop, OnFailure::Continue, OnFailure::Rollback];
        said.extend(failures.map(|then| on_failure(zh, then).to_owned()));
        said.extend([Missed::Run, Missed::Hold, Missed::Expire].map(|then| missed(zh, then).to_owned()));
        for word in &said {
            assert!(!word.is_ascii(), "{word} is no Chinese");
        }
        assert!(acts().len() > 25 && said.len() > 60, "{}", said.len());
    }
}
