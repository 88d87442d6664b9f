//! Steps that another engine carries out: Ansible or Salt on a proxy host, for the hosts that a task is about. Floor 1.
//!
//! The plan holds the script that starts the engine, with the inventory and the playbook in it, so that what is approved is
//! what runs there. The engine prints a line for each host as it goes; [`Reports`] reads them. How the proxy reaches the hosts,
//! with which keys, is the proxy's affair; their host keys are checked there (`StrictHostKeyChecking=yes`).
//!
//! **Invariant:** pure. What a host prints is inside a JSON text and never a line of its own, so no host can report for another.
//! Values are marked unsafe, so Ansible reads no template in them; they take no name of Ansible's own, and begin no argument.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::digest::Digest;
use crate::base::ids::{HostName, ParamName};
use crate::domain::inventory::Connection;
use crate::domain::plan::{PlannedHop, PlannedHost};

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

/// Returns the script that hands a playbook to Ansible. `params` become extra variables.
#[must_use]
pub fn ansible_script(
    playbook: &str,
    targets: &[(&HostName, &PlannedHost)],
    params: &BTreeMap<ParamName, String>,
) -> String {
    let mut inventory = "all:\n  hosts:\n".to_owned();
    for (name, host) in targets {
        inventory.push_str(&format!("    {}:\n", quoted(name.as_str())));
        for (name, value) in ansible_host(host) {
            inventory.push_str(&format!("      {name}: {value}\n"));
        }
    }
    let mut vars = "---\n".to_owned();
    for (name, value) in params {
        vars.push_str(&format!("{name}: !unsafe {}\n", quoted(value)));
    }
    let files = [
        ("playbook.yml", playbook.to_owned()),
        ("inventory.yml", inventory),
        ("params.yml", vars),
        ("callbacks/spoolgate.py", CALLBACK.to_owned()),
    ];
    let mut script = String::from(
        "#!/bin/sh\n# Hands this task's hosts to Ansible, which reports each of them.\nset -eu\numask 077\n\
         work=$(mktemp -d)\ntrap 'rm -rf \"$work\"' EXIT\ntrap 'exit 143' TERM\nmkdir \"$work/callbacks\"\n",
    );
    for (name, text) in files {
        script.push_str(&here_document(name, &text));
    }
    script.push_str(
        "export ANSIBLE_CALLBACK_PLUGINS=\"$work/callbacks\" ANSIBLE_STDOUT_CALLBACK=spoolgate ANSIBLE_NOCOLOR=1\n\
         export ANSIBLE_RETRY_FILES_ENABLED=0 ANSIBLE_HOST_KEY_CHECKING=1 ANSIBLE_LOCALHOST_WARNING=0 PYTHONUNBUFFERED=1\n\
         ansible-playbook -i \"$work/inventory.yml\" -e \"@$work/params.yml\" \"$@\" \"$work/playbook.yml\"\n",
    );
    script
}

/// Returns the script that hands a function to Salt, with its arguments as the script's.
#[must_use]
pub fn salt_script(function: &str, targets: &[(&HostName, &PlannedHost)]) -> String {
    let names = targets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let mut script = String::from(
        "#!/bin/sh\n# Hands this task's hosts to Salt, whose output has a line for each of them.\nset -eu\n",
    );
    // Names of hosts hold nothing that a shell reads; a function is checked by whoever reads the template.
    script.push_str(&format!("exec salt --no-color --out=json --out-indent=-1 -L '{names}' '{function}' \"$@\"\n"));
    script
}

/// Returns the variables of a host as they stand in the inventory.
fn ansible_host(host: &PlannedHost) -> Vec<(String, String)> {
    let own = |name: &str, value: &str| (name.to_owned(), format!("!unsafe {}", quoted(value)));
    let mut vars = vec![own("ansible_host", &host.address), own("ansible_user", &host.user)];
    vars.push(("ansible_port".to_owned(), host.port.to_string()));
    if host.connection == Connection::Local {
        vars.push(own("ansible_connection", "local"));
    }
    let hop = |hop: &PlannedHop| format!("{}@{}:{}", hop.user, hop.address, hop.port);
    let jump: Vec<String> = host.jump.iter().map(hop).collect();
    let jump = if jump.is_empty() { String::new() } else { format!(" -o ProxyJump={}", jump.join(",")) };
    vars.push(own("ansible_ssh_common_args", &format!("-o StrictHostKeyChecking=yes{jump}")));
    vars.extend(host.env.iter().map(|(name, value)| own(name.as_str(), value)));
    vars
}

/// Writes a text as a scalar of YAML: JSON's strings are, with what a YAML reader would refuse written out.
fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).expect("a text is JSON");
    let escape = |c: char| match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    };
    json.chars().map(escape).collect()
}

/// Names that mean something to Ansible itself: a value of one would choose other hosts, users or programs.
const ENGINES_OWN: &[&str] = &[
    "environment",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "omit",
    "play_hosts",
    "playbook_dir",
    "role_name",
    "role_path",
    "vars",
];

/// Whether a variable of this name means something to an engine itself.
#[must_use]
pub fn is_engines_own(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("ansible") || ENGINES_OWN.contains(&name)
}

/// Writes a file of a script's own; the word at its end is in no line of the text.
fn here_document(name: &str, text: &str) -> String {
    let end = format!("END_{}", &Digest::of(text.as_bytes()).hex()[..24]);
    let text = text.strip_suffix('\n').unwrap_or(text);
    format!("cat >\"$work/{name}\" <<'{end}'\n{text}\n{end}\n")
}

/// The callback that Ansible loads: a line for each host and task, one JSON text behind the mark.
const CALLBACK: &str = include_str!("delegate/callback.py");

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
