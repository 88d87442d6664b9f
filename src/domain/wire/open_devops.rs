//! The open-devops form: a script, an account and hosts as a JSON string inside the JSON.
//!
//! **Invariant:** its hosts are group 1; its `created`, `done` and `id` are what its server answers with, and are
//! taken and not looked at, so that an exported task can be dropped again.

use std::collections::BTreeMap;

use crate::base::ids::{GroupNo, UserName};
use crate::base::limits;
use crate::domain::batch::Batching;
use crate::domain::read::json::Value;
use crate::domain::submission::{Claims, Hosts, Submission, Work};
use crate::domain::wire::fields::Fields;

/// Reads the fields of an open-devops file; the problems stay in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Submission> {
    let title = fields.text("title", limits::TITLE_BYTES_MAX);
    if title.is_none() {
        fields.missing("title", "what people call the task");
    }
    let script = fields.text("script", limits::STRING_BYTES_MAX);
    if script.is_none() {
        fields.missing("script", "the script to run");
    }
    let hosts = if let Some(node) = fields.structure("hosts") {
        fields.hosts("/hosts", &node)
    } else {
        fields.missing("hosts", "a list of hosts");
        Vec::new()
    };
    let timeout_s = fields.seconds("timeout").filter(|limit| *limit > 0);
    let work = Work::Script { args: args(fields), account: account(fields), script: script? };
    let creator = fields.text("creator", limits::TITLE_BYTES_MAX);
    for name in ["created", "done", "id"] {
        fields.take(name);
    }
    Some(Submission {
        task_name: title?,
        work,
        hosts: BTreeMap::from([(GroupNo(1), Hosts::Named(hosts))]),
        proxy: None,
        schedule: None,
        exec_time: None,
        not_after: None,
        batching: Batching::default(),
        timeout_s,
        env: BTreeMap::new(),
        details: String::new(),
        task_type: String::new(),
        idempotency_key: None,
        claims: Claims { submitter: creator, ..Claims::default() },
    })
}

/// Reads a script's arguments: a list, or one string in which `,,` separates them.
pub(super) fn args(fields: &mut Fields<'_>) -> Vec<String> {
    let Some(node) = fields.take("args") else { return Vec::new() };
    match &node.value {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => text.split(",,").map(str::to_owned).collect(),
        _ => fields.strings("/args", &node).unwrap_or_default(),
    }
}

/// Reads the account to run as.
pub(super) fn account(fields: &mut Fields<'_>) -> Option<UserName> {
    let node = fields.take("account")?;
    let word = match &node.value {
        Value::String(word) if word.is_empty() => return None,
        Value::String(word) => word.as_str(),
        other => other.kind(),
    };
    match word.parse() {
        Ok(account) if matches!(node.value, Value::String(_)) => Some(account),
        _ => {
            fields.problem("/account", &node, word, "the name of an account");
            None
        }
    }
}
