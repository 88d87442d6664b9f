//! New tasks that were sent, until the daemon has taken them.
//!
//! **Invariant:** pure; what was written is not lost when it is refused: it comes back to be mended.

use std::collections::{BTreeMap, VecDeque};

use crate::shells::dashboard::form::Form;

/// New tasks on their way, as they were written.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// By the numbers of their requests.
    sent: BTreeMap<usize, Box<Form>>,
    /// Those that were refused, the first that came back first.
    refused: VecDeque<Box<Form>>,
}

impl Drafts {
    /// Keeps what was sent with a request.
    pub(super) fn send(&mut self, request: usize, form: Box<Form>) {
        self.sent.insert(request, form);
    }

    /// Forgets what was taken.
    pub(super) fn take(&mut self, request: usize) {
        self.sent.remove(&request);
    }

    /// Takes back what was refused, with what is to be said of it.
    pub(super) fn refuse(&mut self, request: usize, notice: String) {
        if let Some(mut form) = self.sent.remove(&request) {
            form.notice = Some(notice);
            self.refused.push_back(form);
        }
    }

    /// Hands out what is to be mended next.
    pub(super) fn next_to_mend(&mut self) -> Option<Box<Form>> {
        self.refused.pop_front()
    }
}
