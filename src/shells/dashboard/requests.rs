//! What was asked of the daemon from here, and what came of it.
//!
//! **Invariant:** pure; a request keeps its number when older ones are forgotten.

use std::collections::VecDeque;

use crate::base::ids::TaskId;
use crate::base::time::Timestamp;

/// How many requests are remembered.
const REQUESTS_MAX: usize = 200;

/// Something that was asked of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: Timestamp,
    /// Which task it is about; `None` for a new one.
    pub(super) task: Option<TaskId>,
    /// What was asked, as a command line says it.
    pub(super) what: String,
    pub(super) answer: Answer,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is on its way into its box.
    Writing,
    /// It is in its box under this name.
    Waits(String),
    /// It was obeyed; a new task has this number.
    Done(Option<TaskId>),
    /// It was not, for this reason.
    Refused(String),
    /// Nobody said anything for a while.
    Unanswered,
}

/// The newest requests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests {
    known: VecDeque<Request>,
    /// How many were forgotten: the number of the first that is known.
    first: usize,
}

impl Requests {
    /// Remembers a request and returns its number.
    pub(super) fn add(&mut self, at: Timestamp, task: Option<TaskId>, what: String) -> usize {
        self.known.push_back(Request { at, task, what, answer: Answer::Writing });
        if self.known.len() > REQUESTS_MAX {
            self.known.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.first.saturating_add(self.known.len()).saturating_sub(1)
    }

    /// Notes what came of the request with a number; nothing where it was forgotten.
    pub(super) fn answer(&mut self, number: usize, answer: Answer) {
        if let Some(request) = self.place(number).and_then(|at| self.known.get_mut(at)) {
            request.answer = answer;
        }
    }

    /// The request that waits in its box under this name.
    pub(super) fn waiting_as(&mut self, name: &str) -> Option<&mut Request> {
        self.known.iter_mut().find(|request| matches!(&request.answer, Answer::Waits(waits) if waits == name))
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Request> {
        self.known.get(at)
    }

    /// The number of the request at a place.
    pub(super) fn number(&self, at: usize) -> Option<usize> {
        (at < self.known.len()).then_some(self.first.saturating_add(at))
    }

    /// Where the request with a number stands.
    pub(super) fn place(&self, number: usize) -> Option<usize> {
        number.checked_sub(self.first)
    }

    /// Each request with its number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Request)> {
        self.known.iter().enumerate().map(|(at, request)| (self.first.saturating_add(at), request))
    }

    /// Those that nobody answered yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Request> {
        self.known.iter().filter(|request| matches!(request.answer, Answer::Waits(_)))
    }
}
