//! Steps that another engine carries out: Ansible or Salt on a proxy host, for the hosts that a task is about. Floor 1.
//!
//! The engine prints a line for each host as it goes; [`Reports`] reads them. [`crate::domain::resolve`] writes the script that
//! starts it.
//!
//! **Invariant:** pure. What a host prints is inside a JSON text and never a line of its own, so no host can report for another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::HostName;

/// An engine that steps can be handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delegate {
    /// `ansible-playbook`, with a callback that reports each host.
    Ansible,
    /// `salt -L`, whose JSON output has a line for each minion.
    Salt,
}

impl Delegate {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Delegate::Ansible => "ansible",
            Delegate::Salt => "salt",
        }
    }
}

/// How a target fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// The engine is at work on it.
    Running,
    /// Done, and nothing had to be changed or it is not known.
    Ok,
    /// Done, and something was changed.
    Changed,
    /// The engine never came to it.
    Skipped,
    /// Something failed on it.
    Failed,
    /// It was not reached.
    Unreachable,
}

impl TargetState {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TargetState::Running => "running",
            TargetState::Ok => "ok",
            TargetState::Changed => "changed",
            TargetState::Skipped => "skipped",
            TargetState::Failed => "failed",
            TargetState::Unreachable => "unreachable",
        }
    }

    /// Whether it ended well.
    #[must_use]
    pub fn is_ok(self) -> bool {
        matches!(self, TargetState::Ok | TargetState::Changed)
    }
}

/// What an engine says of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The target.
    pub target: HostName,
    /// How it fares.
    pub state: TargetState,
    /// What the engine does there, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How much is kept of a detail, in characters.
const DETAIL_CHARS_MAX: usize = 200;
/// The longest line that is looked at.
const LINE_BYTES_MAX: usize = 256 << 10;
/// What begins a line of our callback.
const MARK: &str = "spoolgate-host ";

/// Reads the reports out of what an engine prints.
#[derive(Debug)]
pub struct Reports {
    engine: Delegate,
    line: Vec<u8>,
    /// Whether the line began before we listened, or is too long.
    torn: bool,
}

impl Reports {
    /// Reads from the beginning of the output, or from somewhere in it.
    #[must_use]
    pub fn new(engine: Delegate, from_the_beginning: bool) -> Reports {
        Reports { engine, line: Vec::new(), torn: !from_the_beginning }
    }

    /// Takes the next bytes of standard output and returns what they report.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Report> {
        let mut reports = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(piece.len()) > LINE_BYTES_MAX {
                self.torn = true;
                self.line.clear();
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                if !std::mem::replace(&mut self.torn, false) {
                    reports.extend(self.read(&String::from_utf8_lossy(&line)));
                }
            }
        }
        reports
    }

    fn read(&self, line: &str) -> Vec<Report> {
        match self.engine {
            Delegate::Ansible => {
                line.strip_prefix(MARK).and_then(|line| serde_json::from_str(line).ok()).into_iter().collect()
            }
            Delegate::Salt => read_minions(line),
        }
        .into_iter()
        .map(|report: Report| Report { detail: report.detail.chars().take(DETAIL_CHARS_MAX).collect(), ..report })
        .collect()
    }
}

/// Returns the last word about each target; of those that nobody reported, that the engine never came to them.
#[must_use]
pub fn last_words(engine: Delegate, output: &[u8], targets: &[HostName]) -> Vec<Report> {
    let mut reports = Reports::new(engine, true);
    let mut said = reports.take(output);
    said.extend(reports.take(b"\n"));
    let mut last: BTreeMap<HostName, Report> = said.into_iter().map(|report| (report.target.clone(), report)).collect();
    for report in last.values_mut().filter(|report| report.state == TargetState::Running) {
        report.state = TargetState::Failed;
        report.detail = format!("the engine was ended while at it: {}", report.detail);
    }
    let never = |target: &HostName| Report {
        target: target.clone(),
        state: TargetState::Skipped,
        detail: "the engine said nothing of it".to_owned(),
    };
    targets.iter().map(|target| last.remove(target).unwrap_or_else(|| never(target))).collect()
}

/// Says why a step is not done although its engine ended well: not every target is, or it was at work elsewhere.
#[must_use]
pub fn not_done(engine: Delegate, output: &[u8], targets: &[HostName]) -> Option<String> {
    let mut reports = Reports::new(engine, true);
    let stranger = reports.take(output).into_iter().find(|report| !targets.contains(&report.target));
    if let Some(stranger) = stranger {
        return Some(format!("the engine was at work on {}, which the task does not name", stranger.target));
    }
    let last = last_words(engine, output, targets);
    let mut bad = last.iter().filter(|report| !report.state.is_ok()).peekable();
    let first = bad.peek().map(|report| report.target.clone())?;
    Some(format!("{} of {} hosts were not done, {first} first", bad.count(), targets.len()))
}

/// Says in a few words how far an engine is.
#[must_use]
pub fn progress(reports: &BTreeMap<HostName, Report>, targets: usize) -> String {
    let count = |wanted: fn(TargetState) -> bool| reports.values().filter(|report| wanted(report.state)).count();
    let over = count(|state| state != TargetState::Running);
    let bad: Vec<&str> = reports
        .values()
        .filter(|report| matches!(report.state, TargetState::Failed | TargetState::Unreachable))
        .map(|report| report.target.as_str())
        .collect();
    let at = reports.values().find(|report| report.state == TargetState::Running);
    let at = at.map(|report| format!(", {} on {}", report.detail, report.target)).unwrap_or_default();
    match bad.first() {
        Some(first) => format!("{over} of {targets} hosts, {} failed ({first} first){at}", bad.len()),
        None => format!("{over} of {targets} hosts{at}"),
    }
}

/// Reads a line of Salt's JSON output: `{"MINION": what it returned}`.
fn read_minions(line: &str) -> Vec<Report> {
    let Ok(Value::Object(minions)) = serde_json::from_str(line) else { return Vec::new() };
    let report = |(name, returned): (&String, &Value)| {
        let target = name.parse().ok()?;
        let (state, detail) = salt_state(returned);
        Some(Report { target, state, detail })
    };
    minions.iter().filter_map(report).collect()
}

/// Says what a minion's return means: states have `result` each, commands a `retcode`, and what failed before either is text.
fn salt_state(returned: &Value) -> (TargetState, String) {
    match returned {
        Value::Bool(false) => (TargetState::Failed, "its function returned false".to_owned()),
        Value::String(text) if text.starts_with("Minion did not return") => {
            (TargetState::Unreachable, first_line(text))
        }
        Value::String(text) if text.starts_with("ERROR") || text.contains("Traceback (most recent call last)") => {
            (TargetState::Failed, first_line(text))
        }
        Value::String(text) if text.ends_with("is not available.") => (TargetState::Failed, first_line(text)),
        Value::Array(problems) if !problems.is_empty() && problems.iter().all(Value::is_string) => {
            (TargetState::Failed, first_line(problems[0].as_str().unwrap_or_default()))
        }
        Value::Object(fields) => match fields.get("retcode").and_then(Value::as_i64) {
            Some(0) => (TargetState::Ok, String::new()),
            Some(code) => {
                let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
                (TargetState::Failed, format!("exit {code} {}", first_line(text("stderr"))).trim().to_owned())
            }
            None => salt_states(fields),
        },
        _ => (TargetState::Ok, String::new()),
    }
}

fn salt_states(states: &serde_json::Map<String, Value>) -> (TargetState, String) {
    let states = || states.values().filter(|state| state.get("result").is_some());
    let failed = states().find(|state| state["result"] == Value::Bool(false));
    if let Some(failed) = failed {
        let text = |key: &str| failed.get(key).and_then(Value::as_str).unwrap_or_default();
        return (TargetState::Failed, format!("{}: {}", text("__id__"), first_line(text("comment"))));
    }
    let changed = states().any(|state| state["changes"].as_object().is_some_and(|changes| !changes.is_empty()));
    (if changed { TargetState::Changed } else { TargetState::Ok }, String::new())
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reports: &[Report]) -> Vec<String> {
        reports
            .iter()
            .map(|report| format!("{} {} {}", report.target, report.state.word(), report.detail).trim().to_owned())
            .collect()
    }

    #[test]
    fn reports_are_lines_of_their_own_however_they_are_cut() {
        let text = "PLAY [all]\nspoolgate-host {\"target\":\"web1\",\"state\":\"running\",\"detail\":\"copy\"}\n  spoolgate-host {\"target\":\"web2\",\"state\":\"ok\"}\nspoolgate-host {\"target\":\"web2\",\"state\":\"failed\",\"detail\":\"no disk\"}\nspoolgate-host {}\n";
        for size in [1, 7, 1000] {
            let mut reports = Reports::new(Delegate::Ansible, true);
            let all: Vec<Report> = text.as_bytes().chunks(size).flat_map(|piece| reports.take(piece)).collect();
            assert_eq!(shown(&all), ["web1 running copy", "web2 failed no disk"]);
        }
        let mut late = Reports::new(Delegate::Ansible, false);
        assert_eq!(late.take(b"spoolgate-host {\"target\":\"web1\",\"state\":\"ok\"}\n"), []);
        assert_eq!(late.take(b"spoolgate-host {\"target\":\"web1\",\"state\":\"ok\"}\n").len(), 1);
    }

    #[test]
    fn the_last_word_counts_and_silence_is_told() {
        let names: Vec<HostName> = ["a", "b"].map(|name| name.parse().unwrap()).into();
        let text = b"spoolgate-host {\"target\":\"a\",\"state\":\"running\"}\nspoolgate-host {\"target\":\"a\",\"state\":\"changed\"}";
        let last = last_words(Delegate::Ansible, text, &names);
        assert_eq!(shown(&last), ["a changed", "b skipped the engine said nothing of it"]);
        let by_name = last.into_iter().map(|report| (report.target.clone(), report)).collect();
        assert_eq!(progress(&by_name, 2), "2 of 2 hosts");
        let at_work = b"spoolgate-host {\"target\":\"a\",\"state\":\"running\",\"detail\":\"copy\"}\n";
        let last = last_words(Delegate::Ansible, at_work, &names);
        assert_eq!(shown(&last)[0], "a failed the engine was ended while at it: copy");
        assert_eq!(not_done(Delegate::Ansible, text, &names).unwrap(), "1 of 2 hosts were not done, b first");
        assert_eq!(not_done(Delegate::Ansible, text, &names[..1]), None);
        let why = not_done(Delegate::Ansible, text, &names[1..]).unwrap();
        assert_eq!(why, "the engine was at work on a, which the task does not name");
    }

    #[test]
    fn salts_returns_are_read() {
        let check = |line: &str, want: &str| {
            let said = shown(&Reports::new(Delegate::Salt, true).take(format!("{line}\n").as_bytes()));
            assert_eq!(said.join("; "), want, "{line}");
        };
        check(r#"{"m1": true}"#, "m1 ok");
        check(r#"{"m1": false}"#, "m1 failed its function returned false");
        check(
            r#"{"m1": "Minion did not return. [Not connected]"}"#,
            "m1 unreachable Minion did not return. [Not connected]",
        );
        check(
            r#"{"m1": {"pid": 9, "retcode": 2, "stdout": "", "stderr": "sh: nope: not found"}}"#,
            "m1 failed exit 2 sh: nope: not found",
        );
        check(r#"{"m1": {"pid": 9, "retcode": 0, "stdout": "x", "stderr": ""}}"#, "m1 ok");
        check(r#"{"m1": "'no.such' is not available."}"#, "m1 failed 'no.such' is not available.");
        check(
            r#"{"m1": ["No matching sls found for 'x' in env 'base'"]}"#,
            "m1 failed No matching sls found for 'x' in env 'base'",
        );
        check(
            r#"{"m1": {"file_|-a_|-/tmp/a_|-managed": {"__id__": "a", "result": true, "changes": {"diff": "new"}, "comment": "ok"}}, "m2": {"cmd_|-b_|-false_|-run": {"__id__": "b", "result": false, "changes": {}, "comment": "Command \"false\" run"}}}"#,
            "m1 changed; m2 failed b: Command \"false\" run",
        );
        check("[ERROR   ] something", "");
    }
}
