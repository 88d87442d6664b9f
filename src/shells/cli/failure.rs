//! How a command ends: one table of exit codes. Floor 4.
//!
//! **Invariant:** nothing but [`Failure::exit_code`] turns a failure into a number, and only `main` ends the process.

use crate::adapters::config::ConfigError;
use crate::adapters::spool::SpoolError;
use crate::base::ids::TaskId;
use crate::domain::outcome::{Ending, Outcome};
use crate::domain::problem::Problem;
use crate::domain::run::lane::Lane;
use crate::domain::run::{Run, StepState};
use crate::shells::cli::sentences::ended;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shells) enum Kind {
    /// Our own broken promise.
    Bug,
    /// Words that mean nothing here.
    Usage,
    /// No such task, host or template.
    NotFound,
    /// The task changed meanwhile.
    Changed,
    /// A file that is not a task.
    Invalid,
    /// Not allowed.
    Refused,
    /// A task whose files this person may not read.
    Withheld(TaskId),
    /// The daemon does not answer, or the spool cannot be reached.
    Unavailable,
    /// The task failed on at least one host.
    TaskFailed,
    /// The task ended, and what some host did is not known.
    TaskLost,
    /// The task will never run, or was ended.
    TaskEnded,
    /// Waited too long.
    TimedOut,
    /// The reader of our output went away.
    ClosedPipe,
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(in crate::shells) struct Failure {
    pub(in crate::shells) kind: Kind,
    /// What happened, to what.
    pub(in crate::shells) message: String,
    /// What to do next.
    pub(in crate::shells) hint: Option<String>,
}

impl Failure {
    pub(in crate::shells) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), hint: None }
    }

    pub(in crate::shells) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The end of a command whose reader has seen enough; says nothing.
    pub(in crate::shells) fn closed_pipe() -> Failure {
        Failure::new(Kind::ClosedPipe, "")
    }

    /// The failure of a file with problems, each on its line.
    pub(in crate::shells) fn invalid(name: &str, problems: &[Problem]) -> Failure {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| match (problem.line, problem.column) {
                (Some(line), Some(column)) => {
                    let place = Problem { line: None, column: None, ..problem.clone() };
                    format!("{name}:{line}:{column}: {place}")
                }
                _ => format!("{name}: {problem}"),
            })
            .collect();
        // Of a file with which nothing else is wrong its writer knows that it is not the file.
        let denied = !problems.is_empty() && problems.iter().all(|problem| problem.denied);
        Failure::new(if denied { Kind::Refused } else { Kind::Invalid }, lines.join("\n"))
    }

    /// Returns the exit code, and the word that names the failure in every language.
    pub(in crate::shells) fn exit_code(&self) -> (u8, &'static str) {
        match self.kind {
            Kind::Bug => (1, "E-BUG"),
            Kind::Usage => (2, "E-USAGE"),
            Kind::NotFound => (3, "E-NOT-FOUND"),
            Kind::Changed => (4, "E-DIGEST"),
            Kind::Invalid => (5, "E-INVALID"),
            Kind::Refused | Kind::Withheld(_) => (6, "E-REFUSED"),
            Kind::Unavailable => (7, "E-UNAVAILABLE"),
            Kind::TaskFailed => (8, "E-TASK-FAILED"),
            Kind::TaskLost => (9, "E-TASK-LOST"),
            Kind::TaskEnded => (10, "E-TASK-ENDED"),
            Kind::TimedOut => (124, "E-TIMED-OUT"),
            Kind::ClosedPipe => (0, ""),
        }
    }
}

/// Returns how a command ends that ends with the task's own result.
pub(in crate::shells) fn of_outcome(task: &str, outcome: Outcome) -> Result<(), Failure> {
    let kind = match outcome {
        Outcome::Ok => return Ok(()),
        Outcome::Failed | Outcome::TimedOut | Outcome::RolledBack | Outcome::RollbackFailed | Outcome::Skipped => {
            Kind::TaskFailed
        }
        Outcome::Lost | Outcome::KillUnconfirmed => Kind::TaskLost,
        Outcome::Rejected | Outcome::Cancelled | Outcome::Expired | Outcome::Stale => Kind::TaskEnded,
    };
    Err(Failure::new(kind, format!("task {task} ended: {}", outcome.word())).hint(format!("spoolgate show {task}")))
}

/// How many hosts are named of those that a task failed on.
const HOSTS_NAMED: usize = 5;

/// Returns how a command ends that ends with a task's result: where it failed, and why, stands in it.
pub(in crate::shells) fn of_run(run: &Run, outcome: Outcome) -> Result<(), Failure> {
    of_outcome(&run.id.to_string(), outcome).map_err(|mut failure| {
        let reasons: Vec<String> = run.lanes.iter().filter_map(|lane| why(run, lane)).collect();
        for reason in reasons.iter().take(HOSTS_NAMED) {
            failure.message.push_str(&format!("\n  {reason}"));
        }
        if reasons.len() > HOSTS_NAMED {
            failure.message.push_str(&format!("\n  and {} more host(s)", reasons.len().saturating_sub(HOSTS_NAMED)));
        }
        failure
    })
}

/// Says where and how a host failed; `None` when it did not.
fn why(run: &Run, lane: &Lane) -> Option<String> {
    let planned = &run.plan.group(lane.group)?.steps;
    let (step, ending) = planned.iter().zip(&lane.steps).rev().find_map(|(planned, step)| match &step.state {
        StepState::Ended(result) if result.ending != Ending::Exit(0) => Some((&planned.name, &result.ending)),
        _ => None,
    })?;
    (!matches!(lane.outcome(), Outcome::Ok)).then(|| format!("{}: {step} {}", lane.host, ended(ending)))
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Failure {
        let failure = Failure::new(Kind::Unavailable, error.to_string());
        match error {
            SpoolError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                failure.hint("you need to be in the group that spoolgate.toml names")
            }
            SpoolError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                failure.hint("is this the right --state? the daemon makes it: spoolgate daemon")
            }
            _ => failure,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let mut message = error.to_string();
        if let ConfigError::Wrong { problems, .. } = &error {
            for problem in problems {
                message.push_str(&format!("\n  {problem}"));
            }
        }
        Failure::new(Kind::Unavailable, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Kind::Unavailable, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_end_commands_with_their_own_codes() {
        for (outcome, code) in [
            (Outcome::Failed, 8),
            (Outcome::TimedOut, 8),
            (Outcome::Lost, 9),
            (Outcome::KillUnconfirmed, 9),
            (Outcome::Rejected, 10),
            (Outcome::Cancelled, 10),
            (Outcome::Expired, 10),
        ] {
            assert_eq!(of_outcome("1", outcome).unwrap_err().exit_code().0, code, "{outcome:?}");
        }
        assert!(of_outcome("1", Outcome::Ok).is_ok());
    }

    #[test]
    fn the_readme_has_every_outcome_and_every_exit_code() {
        let readme = include_str!("../../../README.md");
        let (_, words) = readme.split_once("Outcomes say only what is known: `").expect("the list");
        let named: Vec<&str> = words.split('`').next().unwrap().split_whitespace().collect();
        for outcome in Outcome::ALL {
            assert!(named.contains(&outcome.word()), "{} is not among {named:?}", outcome.word());
            let Err(failure) = of_outcome("1", outcome) else { continue };
            assert!(readme.contains(&format!("| {} | ", failure.exit_code().0)), "{outcome:?}");
        }
        assert_eq!(named.len(), Outcome::ALL.len());
        for kind in
            [Kind::Bug, Kind::Usage, Kind::NotFound, Kind::Changed, Kind::Invalid, Kind::Refused, Kind::Unavailable]
        {
            let code = Failure::new(kind, "").exit_code().0;
            assert!(readme.contains(&format!("| {code} | ")), "{kind:?}");
        }
        assert!(readme.contains(&format!("| {} | ", Failure::new(Kind::TimedOut, "").exit_code().0)));
    }
}
