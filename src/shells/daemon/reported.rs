//! What another engine says of its hosts while a step runs, on its way to the record. Floor 4.
//!
//! **Invariant:** nothing waits for longer than half a second, and what is said more often is recorded together.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::domain::callback::Attempt;
use crate::domain::delegate::Report;
use crate::engine::Input;

/// How often reports are recorded at most.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What another engine said of its hosts in a conversation.
pub(super) struct Reported {
    /// What was not passed on yet.
    waiting: Mutex<Vec<Report>>,
    inputs: UnboundedSender<Input>,
    attempt: Attempt,
}

impl Reported {
    pub(super) fn new(inputs: UnboundedSender<Input>, attempt: Attempt) -> Reported {
        Reported { waiting: Mutex::default(), inputs, attempt }
    }

    /// Returns what waits, to be added to.
    pub(super) fn waiting(&self) -> MutexGuard<'_, Vec<Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on now and then what waits: an engine may be silent for a long time after it said something.
    pub(super) async fn pass_on_often(&self) -> Infallible {
        loop {
            sleep(REPORT_EVERY).await;
            self.pass_on();
        }
    }

    /// Passes on what waits.
    pub(super) fn pass_on(&self) {
        let reports = std::mem::take(&mut *self.waiting());
        if !reports.is_empty() {
            // A daemon that stops hears nothing more; the next one reads the log.
            let _ = self.inputs.send(Input::Reported(self.attempt.clone(), reports));
        }
    }
}
