//! The envelope: the program text that goes to a host's shell through stdin.
//!
//! **Invariant:** pure. Script, arguments and environment are in the stdin bytes and nowhere else; the command
//! line holds only words of this file and an account name, so nothing of a task is ever parsed by a shell as
//! anything but a single-quoted string.
//!
//! The text is POSIX sh (dash, bash, busybox ash). It is one compound command, so the shell has read all of it
//! before the first word runs and stdin can be closed to the script. Its first line of output is
//! [`START_MARK`] and the shell's process id, which is also the id of the session that sshd gave it: with it a
//! later connection can end the whole process group. The resumable runner will take this module's place.

use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::domain::plan::{Plan, PlannedStep};

/// What the envelope prints before anything else, followed by the process id and a line feed.
pub const START_MARK: &str = "spoolgate-start ";

/// What is sent to a host for one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The command that the host's sshd starts.
    pub command: String,
    /// What it reads.
    pub stdin: Vec<u8>,
}

/// Writes the envelope of `step` on `host`. The bytes depend on nothing but the arguments.
#[must_use]
pub fn envelope(plan: &Plan, task: TaskId, group: GroupNo, host: &HostName, step: &PlannedStep) -> Envelope {
    let mut text = String::with_capacity(1024);
    text.push_str("{ printf '");
    text.push_str(START_MARK);
    text.push_str("%s\\n' \"$$\"\n");
    let own = [
        ("SPOOLGATE_TASK", task.to_string()),
        ("SPOOLGATE_TASK_NAME", plan.task_name.clone()),
        ("SPOOLGATE_HOST", host.to_string()),
        ("SPOOLGATE_GROUP", group.to_string()),
        ("SPOOLGATE_STEP", step.name.to_string()),
    ];
    for (name, value) in own {
        push_export(&mut text, name, &value);
    }
    for (name, value) in plan.env.iter().chain(&step.env) {
        push_export(&mut text, name.as_str(), value);
    }
    text.push_str("set --");
    for arg in &step.args {
        text.push(' ');
        push_quoted(&mut text, arg);
    }
    text.push_str("\nexec </dev/null\n");
    let script = plan.scripts.get(&step.script).map_or("", String::as_str);
    push_script(&mut text, script);
    text.push_str("}\n");
    Envelope { command: command(step), stdin: text.into_bytes() }
}

/// Writes the program that ends the process group of a step that an envelope started, and looks whether it is
/// gone: exit 0 when nothing of it is left, 1 when something survives KILL.
///
/// It runs as the step's account, because nobody else may signal its processes or see that they are there.
#[must_use]
pub fn kill_envelope(step: &PlannedStep, process_group: u32, grace_s: u64) -> Envelope {
    // No `--` before the group: dash takes it for a process and fails.
    let text = format!(
        "{{ exec </dev/null 2>/dev/null\n\
         gone() {{ n=0; while kill -0 \"-{process_group}\"; do [ \"$n\" -lt \"$1\" ] || return 1; n=$((n + 1)); sleep 1; done; }}\n\
         kill -TERM \"-{process_group}\"\n\
         gone {grace_s} && exit 0\n\
         kill -KILL \"-{process_group}\"\n\
         gone 5 && exit 0\n\
         exit 1\n}}\n"
    );
    Envelope { command: command(&PlannedStep { nice: 0, ..step.clone() }), stdin: text.into_bytes() }
}

/// Returns the command that starts the envelope's shell. Account names hold no character a shell reads.
fn command(step: &PlannedStep) -> String {
    let mut command = String::new();
    if let Some(account) = &step.account {
        command.push_str("sudo -n -u ");
        command.push_str(account.as_str());
        command.push_str(" -- ");
    }
    if step.nice > 0 {
        command.push_str(&format!("nice -n {} ", step.nice));
    }
    command.push_str("/bin/sh");
    command
}

/// Writes the part that runs the script.
///
/// A script for `sh` is evaluated by the shell that read it: no file, no further process. Any other
/// interpreter gets it as a private file, removed afterwards.
fn push_script(text: &mut String, script: &str) {
    let interpreter = script.strip_prefix("#!").map(|rest| rest.lines().next().unwrap_or("").trim());
    match interpreter {
        None | Some("" | "/bin/sh" | "/usr/bin/env sh") => {
            text.push_str("eval ");
            push_quoted(text, script);
            text.push('\n');
        }
        Some(line) => {
            text.push_str("umask 077\nd=$(mktemp -d \"${TMPDIR:-/tmp}/spoolgate.XXXXXXXX\") || exit 125\n");
            text.push_str("printf %s ");
            push_quoted(text, script);
            text.push_str(" >\"$d/script\" || exit 125\n");
            let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            push_quoted(text, program);
            // The kernel hands everything after the interpreter over as one argument; `env` is the exception
            // that people rely on, where it is a program's name.
            if !argument.trim().is_empty() {
                text.push(' ');
                push_quoted(text, argument.trim());
            }
            text.push_str(" \"$d/script\" \"$@\"\ns=$?\nrm -rf -- \"$d\"\nexit \"$s\"\n");
        }
    }
}

fn push_export(text: &mut String, name: &str, value: &str) {
    text.push_str("export ");
    text.push_str(name);
    text.push('=');
    push_quoted(text, value);
    text.push('\n');
}

/// Writes a word that every POSIX shell reads back byte for byte.
fn push_quoted(text: &mut String, word: &str) {
    text.push('\'');
    for (n, piece) in word.split('\'').enumerate() {
        if n > 0 {
            text.push_str("'\\''");
        }
        text.push_str(piece);
    }
    text.push('\'');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::digest::Digest;
    use crate::domain::template::OnFailure;

    fn written(script: &str, args: &[&str], account: Option<&str>, nice: u8) -> (String, String) {
        let digest = Digest::of(script.as_bytes());
        let mut plan = Plan::empty_for_tests();
        plan.scripts = BTreeMap::from([(digest, script.to_owned())]);
        plan.env.insert("NOTE".parse().unwrap(), "it's; $(id)\n".to_owned());
        let step = PlannedStep {
            account: account.map(|a| a.parse().unwrap()),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            env: BTreeMap::new(),
            name: "greet".parse().unwrap(),
            nice,
            on_failure: OnFailure::Stop,
            script: digest,
            timeout_s: 0,
        };
        let envelope = envelope(&plan, TaskId(7), GroupNo(1), &"web1".parse().unwrap(), &step);
        (envelope.command, String::from_utf8(envelope.stdin).unwrap())
    }

    #[test]
    fn nothing_of_a_task_is_on_the_command_line() {
        assert_eq!(written("echo 'hi'", &["a b", "$(id)"], None, 0).0, "/bin/sh");
        assert_eq!(written("x", &[], Some("deploy"), 5).0, "sudo -n -u deploy -- nice -n 5 /bin/sh");
    }

    #[test]
    fn words_are_quoted_and_scripts_evaluated() {
        let (_, text) = written("echo 'hi'", &["a b", "it's"], None, 0);
        assert!(text.contains("export NOTE='it'\\''s; $(id)\n'\n"), "{text}");
        assert!(text.contains("set -- 'a b' 'it'\\''s'\n"), "{text}");
        assert!(text.ends_with("eval 'echo '\\''hi'\\'''\n}\n"), "{text}");
        let (_, text) = written("x", &["{TASK}-{HOST}"], None, 0);
        assert!(text.contains("set -- '{TASK}-{HOST}'\n"), "a value is never looked at again: {text}");
    }

    #[test]
    fn another_interpreter_gets_a_file() {
        let (_, text) = written("#!/usr/bin/env python3\nprint(1)", &[], None, 0);
        assert!(text.contains("'/usr/bin/env' 'python3' \"$d/script\" \"$@\""), "{text}");
    }
}
