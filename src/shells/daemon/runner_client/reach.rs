//! Whether people know that the host of a running step cannot be reached. Floor 4.
//!
//! **Invariant:** said once, and once more when it is back: a host that is tried for a day fills no journal.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::domain::callback::Attempt;
use crate::engine::Input;
use crate::engine::Start;

/// After how long without a connection people are told.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);

/// What was said of one host.
pub(super) struct Reach {
    attempt: Attempt,
    inputs: UnboundedSender<Input>,
    /// Whether it was said to be reachable last; nothing where an earlier daemon said it.
    said: Option<bool>,
}

impl Reach {
    /// Begins with a host that nobody complained of, or of which only an earlier daemon knows.
    pub(super) fn new(start: &Start, inputs: UnboundedSender<Input>) -> Reach {
        Reach { attempt: start.attempt_name(), inputs, said: (!start.resume).then_some(true) }
    }

    /// A connection stands.
    pub(super) fn stands(&mut self) {
        self.say(true, None);
    }

    /// There has been no connection for so long.
    pub(super) fn fails(&mut self, silent: Duration, why: String) {
        if silent >= UNREACHABLE_AFTER {
            self.say(false, Some(why));
        }
    }

    fn say(&mut self, reachable: bool, barrier: Option<String>) {
        if self.said.replace(reachable) != Some(reachable) {
            // A daemon that stops hears nothing more.
            let _ = self.inputs.send(Input::Reach(self.attempt.clone(), barrier));
        }
    }
}
