//! What a host's verdict means for a step. Floor 4.
//!
//! **Invariant:** a step of which something lives on has not ended as it was to.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::domain::outcome::{Ending, OutputFacts, ProvedBy};
use crate::domain::runner::answer::{Shown, Verdict};

/// How an attempt ended.
pub(in crate::shells::daemon) struct Ended {
    /// What it came to.
    pub(in crate::shells::daemon) ending: Ending,
    /// What it printed.
    pub(in crate::shells::daemon) output: OutputFacts,
    /// How long ago, as far as the host says.
    pub(in crate::shells::daemon) ago: Duration,
    /// By what its host proved it.
    pub(in crate::shells::daemon) proved_by: Option<ProvedBy>,
}

impl Ended {
    /// Makes the end of an attempt that printed nothing.
    pub(in crate::shells::daemon) fn silent(ending: Ending) -> Ended {
        Ended { ending, output: OutputFacts::default(), ago: Duration::ZERO, proved_by: None }
    }

    /// Returns what is said of processes that live on, if some do.
    pub(in crate::shells::daemon) fn lives_on(&self) -> Option<&str> {
        match &self.ending {
            Ending::KillUnconfirmed(why) => Some(why),
            _ => None,
        }
    }
}

/// What the host said of a step's end beside the verdict.
#[derive(Clone, Copy, Default)]
pub(super) struct ToldEnd {
    pub(super) out: Shown,
    pub(super) err: Shown,
    /// Whether it had no room for some of the output.
    pub(super) full: bool,
    /// How long ago it was.
    pub(super) ago: Duration,
    /// Who could write it.
    pub(super) proved_by: Option<ProvedBy>,
}

/// Says what a verdict means for the step.
pub(super) fn ending(verdict: Verdict) -> Ending {
    let lives_on = |left, ending| {
        let why = "some of its processes are still there after KILL".to_owned();
        if left { Ending::KillUnconfirmed(why) } else { ending }
    };
    match verdict {
        Verdict::Exit(code) => Ending::Exit(code),
        Verdict::Signal(number) => {
            let name = Signal::try_from(number).map_or_else(|_| number.to_string(), |known| known.to_string());
            Ending::Signal(name.trim_start_matches("SIG").to_owned())
        }
        Verdict::TimedOut { left } => lives_on(left, Ending::TimedOut),
        Verdict::Idle { left } => lives_on(left, Ending::IdleTimedOut),
        Verdict::Cancelled { left } => lives_on(left, Ending::Cancelled),
        Verdict::Died { left } => {
            let why = "its runner was killed on the host, which was not started again; what was left of it was ended. Was it \
                 somebody's kill, a lack of memory, or a logout? Where logind has KillUserProcesses=yes: loginctl enable-linger USER"
                .to_owned();
            lives_on(left, Ending::Died(why))
        }
        Verdict::Rebooted => Ending::Lost("the host was started again while it ran".to_owned()),
        Verdict::Forgotten => Ending::Lost("the host does not know of it any more".to_owned()),
        Verdict::Never => Ending::NotSent("it never began on the host".to_owned()),
    }
}
