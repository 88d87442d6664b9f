//! The native form: CODO's field names, with real JSON where CODO has literals in strings.
//!
//! **Invariant:** a CODO file is a native file.

use std::collections::BTreeMap;

use crate::base::limits;
use crate::domain::batch::{Batching, Share};
use crate::domain::read::json::{Node, Value};
use crate::domain::submission::{Claims, Schedule, Submission, TemplateRef, Work};
use crate::domain::wire::fields::Fields;
use crate::domain::wire::open_devops;

/// Fields of the design that this version does not obey yet. To ignore one would be to run something else than what
/// was asked for.
const NOT_YET: [&str; 1] = ["notify"];

/// Every field of the form.
pub(super) const FIELDS: [&str; 24] = [
    "task_name",
    "temp_id",
    "script",
    "command",
    "account",
    "args",
    "hosts",
    "proxy",
    "schedule",
    "exec_time",
    "not_after",
    "timeout",
    "batches",
    "batch_interval",
    "batch_gate",
    "max_fail",
    "batch_max_fail",
    "env",
    "details",
    "task_type",
    "idempotency_key",
    "submitter",
    "executor",
    "associated_user",
];

/// Reads the fields of a native or CODO file; the problems stay in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Submission> {
    let task_name = fields.text("task_name", limits::TITLE_BYTES_MAX);
    if task_name.is_none() {
        fields.missing("task_name", "what people call the task");
    }
    let work = read_work(fields);
    let hosts = match fields.structure("hosts") {
        Some(node) => fields.groups(node),
        None => BTreeMap::new(),
    };
    if hosts.is_empty() {
        fields.missing("hosts", "the hosts of each group: {\"1\": [\"web1\"]}");
    }
    let proxy = fields.text("proxy", limits::HOST_NAME_BYTES_MAX).and_then(|word| match word.parse() {
        Ok(host) => Some(host),
        Err(error) => {
            let error: crate::base::ids::BadId = error;
            fields.wrong("proxy", &word, error.to_string().trim_start_matches("not "));
            None
        }
    });
    let schedule = read_schedule(fields);
    let (exec_time, not_after) = (fields.time("exec_time"), fields.time("not_after"));
    let timeout_s = fields.seconds("timeout");
    let batching = read_batching(fields);
    let env = match fields.structure("env") {
        Some(node) => fields.texts("env", node),
        None => BTreeMap::new(),
    };
    let details = fields.text("details", limits::STRING_BYTES_MAX).unwrap_or_default();
    let task_type = fields.text("task_type", limits::TITLE_BYTES_MAX).unwrap_or_default();
    let idempotency_key = fields.text("idempotency_key", limits::TITLE_BYTES_MAX);
    let claims = Claims {
        submitter: fields.text("submitter", limits::TITLE_BYTES_MAX),
        executor: fields.text("executor", limits::TITLE_BYTES_MAX),
        associated_user: fields.people("associated_user"),
        owner: None,
    };
    refuse_not_yet(fields);
    Some(Submission {
        task_name: task_name?,
        work: work?,
        hosts,
        proxy,
        schedule,
        exec_time,
        not_after,
        batching,
        timeout_s,
        env,
        details,
        task_type,
        idempotency_key,
        claims,
    })
}

fn read_batching(fields: &mut Fields<'_>) -> Batching {
    let mut batching = Batching::default();
    if let Some(node) = fields.structure("batches") {
        let items = match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&node),
        };
        for item in items {
            batching.shares.extend(read_share(fields, "batches", item));
        }
        let percent: u64 =
            batching.shares.iter().map(|share| if let Share::Percent(p) = share { u64::from(*p) } else { 0 }).sum();
        let only_percents = batching.shares.iter().all(|share| matches!(share, Share::Percent(_)));
        if percent > 100 || (only_percents && percent != 100 && !batching.shares.is_empty()) {
            fields.problem("/batches", &node, format!("{percent} percent"), "100 percent together");
        }
    }
    batching.interval_s = fields.seconds("batch_interval").unwrap_or(0);
    batching.gate = fields.flag("batch_gate");
    if let Some(node) = fields.take("max_fail") {
        batching.max_fail = read_share(fields, "max_fail", &node);
    }
    if let Some(node) = fields.take("batch_max_fail") {
        batching.batch_max_fail = read_share(fields, "batch_max_fail", &node);
    }
    batching
}

fn read_share(fields: &mut Fields<'_>, name: &str, node: &Node) -> Option<Share> {
    let word = match &node.value {
        Value::String(word) | Value::Number(word) => word.as_str(),
        other => other.kind(),
    };
    match word.parse() {
        Ok(share) => Some(share),
        Err(wanted) => {
            fields.problem(format!("/{name}"), node, word, wanted);
            None
        }
    }
}

fn refuse_not_yet(fields: &mut Fields<'_>) {
    for name in NOT_YET {
        if let Some(node) = fields.take(name) {
            fields.problem(format!("/{name}"), &node, "a field of a later version", "a task without it");
        }
    }
}

fn read_schedule(fields: &mut Fields<'_>) -> Option<Schedule> {
    let node = fields.take("schedule")?;
    match &node.value {
        Value::String(word) if word == "new" => Some(Schedule::New),
        Value::String(word) if word == "ready" => Some(Schedule::Ready),
        Value::String(word) if word.is_empty() => None,
        other => {
            let found = if let Value::String(word) = other { word.as_str() } else { other.kind() };
            fields.problem("/schedule", &node, found, "new or ready");
            None
        }
    }
}

/// Reads what is to be done: exactly one of a template, a script and a command.
fn read_work(fields: &mut Fields<'_>) -> Option<Work> {
    let template = fields.take("temp_id");
    let script = fields.text("script", limits::STRING_BYTES_MAX);
    let command = fields.text("command", limits::STRING_BYTES_MAX);
    let account = open_devops::account(fields);
    if script.is_some() && command.is_some() {
        let wanted = "one of temp_id, script and command";
        fields.wrong("command", "a command beside a script", wanted);
    }
    match (template, script.or(command.clone())) {
        (Some(node), None) => {
            if account.is_some() {
                fields.missing("script", "a script of the task's own: account does not go with temp_id");
            }
            let params = match fields.structure("args") {
                Some(args) => fields.texts("args", args),
                None => BTreeMap::new(),
            };
            template_ref(fields, &node).map(|template| Work::Template { template, params })
        }
        (None, Some(script)) => {
            let args = open_devops::args(fields);
            Some(Work::Script { script, args, account })
        }
        (Some(node), Some(_)) => {
            let both = "temp_id and a script";
            fields.problem("/temp_id", &node, both, "one of temp_id, script and command");
            fields.take("args");
            None
        }
        (None, None) => {
            fields.missing("temp_id", "the number or name of a template, or a script");
            fields.take("args");
            None
        }
    }
}

fn template_ref(fields: &mut Fields<'_>, node: &Node) -> Option<TemplateRef> {
    let word = match &node.value {
        Value::String(word) | Value::Number(word) => word.as_str(),
        other => other.kind(),
    };
    if let Ok(id) = word.parse() {
        return Some(TemplateRef::Id(id));
    }
    match word.parse() {
        Ok(name) if matches!(node.value, Value::String(_)) => Some(TemplateRef::Name(name)),
        _ => {
            fields.problem("/temp_id", node, word, "the number or name of a template");
            None
        }
    }
}
