//! A submission: a well-formed wish, every field parsed, nothing looked up.
//!
//! **Invariant:** whatever file form a submission came in, it is the same value; only `wire` knows the forms.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::ids::{GroupNo, HostName, ParamName, TemplateName, UserName};
use crate::base::time::Timestamp;
use crate::domain::batch::Batching;

/// A task as its submitter wishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What people call the task (`task_name`, `title`).
    pub task_name: String,
    /// What is to be done.
    pub work: Work,
    /// Where, by group; never empty, and no group is empty.
    pub hosts: BTreeMap<GroupNo, Hosts>,
    /// The one host that does the work for them, where they are not reached directly.
    pub proxy: Option<HostName>,
    /// Whether the submitter wishes to skip approval; `None` when the file does not say.
    pub schedule: Option<Schedule>,
    /// Not before this time; `None` = as soon as it may.
    pub exec_time: Option<Timestamp>,
    /// Not at or after this time: a task that has not started by then expires.
    pub not_after: Option<Timestamp>,
    /// How the hosts of each group are cut into batches.
    pub batching: Batching,
    /// An upper limit for every step, in seconds; a template's smaller limit stays.
    pub timeout_s: Option<u64>,
    /// Variables for every step's environment, beside the parameters.
    pub env: BTreeMap<ParamName, String>,
    /// A remark (`details`).
    pub details: String,
    /// What kind of task its submitter says it is; shown, never decided on.
    pub task_type: String,
    /// Makes repeated submissions one task: same key and same bytes, same task.
    pub idempotency_key: Option<String>,
    /// What the file claims about people; shown as claims, never trusted.
    pub claims: Claims,
}

/// What a submission says about people. Identity comes from the kernel; these are shown beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who the file says submitted it (`submitter`, `creator`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<String>,
    /// Who the file says should execute it (`executor`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// People to involve, by role (`associated_user`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub associated_user: BTreeMap<String, Vec<String>>,
    /// Who stands behind the token that it was posted with: `tokens.toml` says so, no file can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Claims {
    /// Returns the people who are behind it, as far as anybody says so. It takes rights from them, and gives them none.
    #[must_use]
    pub fn behind(&self) -> BTreeSet<String> {
        self.submitter.iter().chain(&self.owner).cloned().collect()
    }
}

/// The hosts of a group, as a task wishes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// By names or addresses.
    Named(Vec<HostName>),
    /// Those that a selector chooses when the task is planned; the plan holds their names.
    Chosen(String),
}

/// What a task is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The steps of a template from the catalogue, with parameters.
    Template {
        /// Which template (`temp_id`: its number or its name).
        template: TemplateRef,
        /// Values for the template's parameters (`args`).
        params: BTreeMap<ParamName, String>,
    },
    /// One script that the submission itself carries.
    Script {
        /// The script's text; its `#!` line chooses the interpreter, `/bin/sh` without one.
        script: String,
        /// The script's arguments, each one whole argv element.
        args: Vec<String>,
        /// The account to run as; the connection's user when `None`.
        account: Option<UserName>,
    },
}

/// A template by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateRef {
    /// Its numeric `id`.
    Id(u32),
    /// Its name.
    Name(TemplateName),
}

/// The state a submitter wishes for (`schedule`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Wait for approval.
    New,
    /// Run without approval, where policy lets this person do so.
    Ready,
}

impl Schedule {
    /// Returns the word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Schedule::New => "new",
            Schedule::Ready => "ready",
        }
    }
}
