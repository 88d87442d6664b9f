//! What a host's verdict means for a step. Floor 4.
//!
//! **Invariant:** a step of which something lives on has not ended as it was to.

use nix::sys::signal::Signal;

use crate::domain::run::Ending;
use crate::domain::runner::answer::Verdict;

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
