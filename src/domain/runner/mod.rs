//! The runner: the program that a host's shell reads to start a step at most once, to go on showing one, or to end one.
//!
//! **Invariant:** pure. Script, arguments and environment are in the stdin bytes and nowhere else; the command line
//! holds only words of this file and an account name, so nothing of a task is ever parsed by a shell as anything but a
//! single-quoted string. However often the same step is sent, the host starts it at most once: a file made with
//! `O_EXCL` is the gate, and what comes later shows what the first one started.
//!
//! The program travels in a [frame], so a shell that got only a part of it does nothing.

pub mod answer;
pub mod frame;
pub mod told;
mod variables;

use std::sync::LazyLock;
use told::Told;

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, TaskId, UserName};
use crate::base::limits;
use crate::domain::audit::Head;
use crate::domain::file_step;
use crate::domain::plan::{Plan, PlannedStep};
use crate::domain::template::tokens::FLOW_ID;

/// What is sent to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The words that start a shell; programs with the same words can share one.
    pub shell: Vec<String>,
    /// What it reads but for the runner, which is the same for all of them.
    text: String,
    /// Whether it hands the runner on to another account, and so has to bring it.
    hands_on: bool,
}

impl Program {
    /// Returns the words of the command that takes programs under `nonce`, a word that nobody knew before: [`command_line`] makes
    /// them one line.
    #[must_use]
    pub fn command(&self, nonce: &str) -> Vec<String> {
        let loader = ["-c", frame::LOADER, nonce].map(str::to_owned);
        self.shell.iter().cloned().chain(loader).collect()
    }

    /// Returns what that command reads first. Thousands of hosts run steps at once: it is made when it is sent and not kept.
    #[must_use]
    pub fn first(&self, nonce: &str) -> Vec<u8> {
        frame::framed(nonce, &self.text, &WITH_RUNNER)
    }

    /// Returns what it reads in its place once it knows the runner.
    #[must_use]
    pub fn again(&self, nonce: &str) -> Vec<u8> {
        frame::framed(nonce, &self.text, if self.hands_on { &WITH_RUNNER } else { &AGAIN })
    }

    /// Returns the whole text that the host's shell runs.
    #[must_use]
    pub fn text(&self) -> String {
        [&self.text, RUNNER.as_str(), CLOSE].concat()
    }
}

/// One attempt at one step of one task on one host; also how the names of its files there begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerId(String);

impl RunnerId {
    /// Names an attempt. `run_key` tells the run from every other one, of other daemons too.
    #[must_use]
    pub fn new(
        run_key: &Digest,
        task: TaskId,
        group: GroupNo,
        host: &HostName,
        step: &PlannedStep,
        attempt: u32,
    ) -> RunnerId {
        let whole = format!("{run_key} {task} {group} {host} {} {attempt}", step.name);
        RunnerId(format!("{task}-{group}-{}-{attempt}-{}", step.name, &Digest::of(whole.as_bytes()).hex()[..16]))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns an attempt of this name.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str) -> RunnerId {
        RunnerId(name.to_owned())
    }
}

/// How much of each stream the asking side has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Bytes of standard output.
    pub out: u64,
    /// Bytes of standard error.
    pub err: u64,
}

/// One conversation with a host's runner.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Which attempt.
    pub id: &'a RunnerId,
    /// A word that the script does not print by chance; marks the runner's own lines.
    pub nonce: &'a str,
    /// Where the streams go on.
    pub offsets: Offsets,
    /// Whether to remove what earlier tasks left long ago.
    pub clean: bool,
    /// Whether the host said before that it runs: then it is shown or lost, and never started.
    pub begun: bool,
    /// How long ago, in seconds, it may have been sent the first time; `None` when it was not.
    pub sent_s: Option<u64>,
    /// Where the audit ended when it was sent, for the host to keep beside the gate.
    pub audit: Head,
}

/// Returns the program that starts a step, or shows the one that was started under the same name.
#[must_use]
pub fn run_program(
    plan: &Plan,
    task: TaskId,
    host: &HostName,
    group: GroupNo,
    step: &PlannedStep,
    call: &Call<'_>,
    told: &Told<'_>,
) -> Program {
    let mut text = String::with_capacity(2048);
    let script = plan.scripts.get(&step.script).map_or("", String::as_str);
    push_head(&mut text, "run", call, step.account.as_ref());
    push_variable(&mut text, "sg_limit", &step.timeout_s.to_string());
    push_variable(&mut text, "sg_idle", &step.idle_timeout_s.to_string());
    if step.cpu_percent > 0 || step.memory_mib > 0 {
        push_variable(&mut text, "sg_needs", "systemd-run");
    }
    push_variable(&mut text, "sg_script", script);
    text.push_str("sg_job() {\n");
    for (name, value) in variables::of(plan, task, host, group, step, told) {
        text.push_str("export ");
        push_variable(&mut text, &name, &value);
    }
    if !step.files.is_empty() || step.fetch.is_some() {
        text.push_str("export SPOOLGATE_FILES=\"${sg_at%/*}/$sg_id.files\"\n");
    }
    if step.cpu_percent > 0 || step.memory_mib > 0 {
        text.push_str("sg_scope\n");
    }
    text.push_str("exec ");
    push_limits(&mut text, step);
    if step.nice > 0 {
        text.push_str(&format!("nice -n {} ", step.nice));
    }
    text.push_str("setsid ");
    push_interpreter(&mut text, script);
    text.push_str(" \"$sg_script_at\"");
    for arg in &step.args {
        text.push(' ');
        if step.flow_id {
            push_quoted(&mut text, &arg.replace(FLOW_ID, &task.to_string()));
        } else {
            push_quoted(&mut text, arg);
        }
    }
    push_files(&mut text, step, host);
    text.push_str("\n}\n");
    as_login(text, step)
}

/// Writes what holds a step to its limits; the host's systemd does.
fn push_limits(text: &mut String, step: &PlannedStep) {
    if step.cpu_percent == 0 && step.memory_mib == 0 {
        return;
    }
    text.push_str("systemd-run --quiet --scope --collect $sg_user");
    if step.cpu_percent > 0 {
        text.push_str(&format!(" -p CPUQuota={}%", step.cpu_percent));
    }
    if step.memory_mib > 0 {
        text.push_str(&format!(" -p MemoryMax={0}M -p MemorySwapMax=0", step.memory_mib));
    }
    text.push_str(" -- ");
}

/// Writes the files that a step puts on a host, by fours: SHA-256, mode, owner, place.
fn push_files(text: &mut String, step: &PlannedStep, host: &HostName) {
    for file in &step.files {
        let Some(digest) = file.digest_on(host) else { continue };
        text.push(' ');
        text.push_str(&digest.hex());
        for word in [file.mode.as_str(), file.owner.as_deref().unwrap_or("-"), file.to.as_str()] {
            text.push(' ');
            push_quoted(text, word);
        }
    }
}

/// Returns the program that asks a host which files it does not have yet. It answers with the directory to bring them to and
/// their SHA-256, a line each.
#[must_use]
pub fn want_program(step: &PlannedStep, host: &HostName, call: &Call<'_>) -> Program {
    let mut text = String::with_capacity(1024);
    push_head(&mut text, "want", call, None);
    push_variable(&mut text, "sg_needs", "tar sha256sum tee");
    push_variable(&mut text, "sg_script", &BRING);
    text.push_str("sg_files() {\n\"$1\"");
    push_files(&mut text, step, host);
    text.push_str("\n}\n");
    as_account(text, step)
}

/// Returns the command that takes a tar archive on standard input to a directory of a host, as the step's account.
#[must_use]
pub fn bring_command(step: &PlannedStep, directory: &str) -> Vec<String> {
    let mut command = shell_of(step);
    // No archive of ours holds owners; `o` keeps root from giving the files away.
    command.extend(["-c", "umask 077; exec tar -xomf - -C \"$0\"", directory].map(str::to_owned));
    command
}

/// Returns the command that takes one large file on standard input to the directory that a host answered, as the step's
/// account. What it runs came with the question, under its `nonce`: not every login shell takes a text of several lines.
#[must_use]
pub fn bring_whole_command(
    step: &PlannedStep,
    (directory, nonce): (&str, &str),
    digest: &Digest,
    length: u64,
) -> Vec<String> {
    let mut command = shell_of(step);
    command.extend([format!("{directory}/{nonce}.sh"), directory.to_owned(), digest.hex(), length.to_string()]);
    command
}

/// Returns the program that shows what a step fetched.
#[must_use]
pub fn take_program(step: &PlannedStep, call: &Call<'_>) -> Program {
    let mut text = String::with_capacity(256);
    push_head(&mut text, "take", call, None);
    as_account(text, step)
}

/// Returns a command's words as one line that every login shell reads back as these words. The login shell becomes the command:
/// nobody stands by to print a word about its end.
#[must_use]
pub fn command_line(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'=' | b','))
    };
    let mut line = "exec".to_owned();
    for word in words {
        line.push(' ');
        if plain(word) { line.push_str(word) } else { push_quoted(&mut line, word) }
    }
    line
}

/// Returns the program that ends a step and proves it, or makes sure that it never starts.
///
/// What signals the processes of another account runs as that account: nobody else may, or sees that they are there.
#[must_use]
pub fn kill_program(step: &PlannedStep, call: &Call<'_>) -> Program {
    let mut text = String::with_capacity(256);
    push_head(&mut text, "kill", call, step.account.as_ref());
    as_login(text, step)
}

/// Returns the program that removes what a step printed from its host, once it has ended and its log is here.
#[must_use]
pub fn forget_program(step: &PlannedStep, call: &Call<'_>) -> Program {
    let mut text = String::with_capacity(256);
    push_head(&mut text, "forget", call, step.account.as_ref());
    as_login(text, step)
}

/// Returns the part of every program that is the same.
#[must_use]
pub fn runner_text() -> &'static str {
    &RUNNER
}

/// The runner's text without what a shell does not need.
static RUNNER: LazyLock<String> = LazyLock::new(|| bare(include_str!("runner.sh")));
/// What runs programs on a host.
const SHELL: &str = "/bin/sh";
/// Closes the compound command that a program is.
const CLOSE: &str = "}\n";
/// How a shell's first program ends.
static WITH_RUNNER: LazyLock<frame::Ending> = LazyLock::new(|| frame::Ending::new(&[&RUNNER, CLOSE].concat()));
/// How every later one does.
static AGAIN: LazyLock<frame::Ending> = LazyLock::new(|| frame::Ending::new(&["sg_main\n", CLOSE].concat()));
/// What takes a large file, likewise.
static BRING: LazyLock<String> = LazyLock::new(|| bare(file_step::BRING));

/// Returns a shell's text without indents, comments and empty lines.
fn bare(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start_matches('\t'));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).fold(String::new(), |text, line| text + line + "\n")
}

fn push_head(text: &mut String, act: &str, call: &Call<'_>, account: Option<&UserName>) {
    text.push_str("{\n");
    // First: what is handed on to another account begins behind it.
    push_variable(text, "sg_nonce", call.nonce);
    push_variable(text, "sg_id", call.id.as_str());
    push_variable(text, "sg_account", account.map_or("", UserName::as_str));
    push_variable(text, "sg_act", act);
    push_variable(text, "sg_needs", "");
    push_variable(text, "sg_clean", if call.clean { "yes" } else { "" });
    push_variable(text, "sg_begun", if call.begun { "yes" } else { "" });
    push_variable(text, "sg_since", &call.sent_s.map_or_else(String::new, |seconds| seconds.to_string()));
    push_variable(text, "sg_audit", &call.audit.to_string());
    let numbers = [
        ("sg_head", limits::OUTPUT_HEAD_BYTES),
        ("sg_tail", limits::OUTPUT_TAIL_BYTES),
        ("sg_grace", limits::KILL_GRACE_S),
        ("sg_out_at", call.offsets.out),
        ("sg_err_at", call.offsets.err),
    ];
    for (name, number) in numbers {
        push_variable(text, name, &number.to_string());
    }
}

/// Returns a program for the account that is logged in to, which hands on to the step's account what that has to do.
fn as_login(mut text: String, step: &PlannedStep) -> Program {
    text.shrink_to_fit();
    Program { shell: vec![SHELL.to_owned()], text, hands_on: step.account.is_some() }
}

/// Returns a program for the step's account.
fn as_account(mut text: String, step: &PlannedStep) -> Program {
    text.shrink_to_fit();
    Program { shell: shell_of(step), text, hands_on: false }
}

/// Returns the words that start a shell of the step's account.
fn shell_of(step: &PlannedStep) -> Vec<String> {
    let words: &[&str] = if step.account.is_some() { &["sudo", "-n", "-u"] } else { &[] };
    let account = step.account.iter().flat_map(|account| [account.to_string(), "--".to_owned()]);
    words.iter().map(|word| (*word).to_owned()).chain(account).chain([SHELL.to_owned()]).collect()
}

/// Writes what runs the script: its `#!` line as the kernel would read it, `/bin/sh` without one.
fn push_interpreter(text: &mut String, script: &str) {
    let line = script.strip_prefix("#!").and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    push_quoted(text, if program.is_empty() { "/bin/sh" } else { program });
    // Everything after the interpreter is one argument.
    if !argument.trim().is_empty() {
        text.push(' ');
        push_quoted(text, argument.trim());
    }
}

fn push_variable(text: &mut String, name: &str, value: &str) {
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
    use crate::domain::run::earlier::Earlier;

    fn written(script: &str, args: &[&str], account: Option<&str>, nice: u8) -> (String, String) {
        let digest = Digest::of(script.as_bytes());
        let mut plan = Plan::empty_for_tests();
        plan.scripts = BTreeMap::from([(digest, script.to_owned())]);
        plan.env.insert("NOTE".parse().unwrap(), "it's; $(id)\n".to_owned());
        let step = PlannedStep {
            account: account.map(|a| a.parse().unwrap()),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            nice,
            ..PlannedStep::plain("greet".parse().unwrap(), digest)
        };
        let host = "web1".parse().unwrap();
        let id = RunnerId::new(&digest, TaskId(7), GroupNo(1), &host, &step, 1);
        let call = Call {
            id: &id,
            nonce: "n",
            offsets: Offsets::default(),
            clean: false,
            begun: false,
            sent_s: None,
            audit: Head::default(),
        };
        let (earlier, secrets) = (Earlier::default(), BTreeMap::new());
        let told = Told::preview(&earlier, &secrets);
        let program = run_program(&plan, TaskId(7), &host, GroupNo(1), &step, &call, &told);
        (command_line(&program.shell), program.text())
    }

    #[test]
    fn nothing_of_a_task_is_on_the_command_line() {
        assert_eq!(written("echo 'hi'", &["a b", "$(id)"], None, 0).0, "exec /bin/sh");
        assert_eq!(written("x", &[], Some("deploy"), 5).0, "exec /bin/sh");
        let mut step = PlannedStep::plain("x".parse().unwrap(), Digest::of(b""));
        let line = command_line(&bring_command(&step, "/home/a b/.spoolgate/7.files"));
        assert_eq!(line, "exec /bin/sh -c 'umask 077; exec tar -xomf - -C \"$0\"' '/home/a b/.spoolgate/7.files'");
        step.account = Some("deploy".parse().unwrap());
        assert!(command_line(&bring_command(&step, "/x")).starts_with("exec sudo -n -u deploy -- /bin/sh -c "));
    }

    #[test]
    fn words_are_quoted_and_never_looked_at_again() {
        let (_, text) = written("echo 'hi'", &["a b", "it's", "{HOST}"], None, 3);
        assert!(text.contains("export NOTE='it'\\''s; $(id)\n'\n"), "{text}");
        assert!(
            text.contains("exec nice -n 3 setsid '/bin/sh' \"$sg_script_at\" 'a b' 'it'\\''s' '{HOST}'\n"),
            "{text}"
        );
        assert!(text.contains("sg_script='echo '\\''hi'\\'''\n"), "{text}");
        let (_, text) = written("#!/usr/bin/env  python3 \nprint(1)", &[], None, 0);
        assert!(text.contains("setsid '/usr/bin/env' 'python3' \"$sg_script_at\"\n"), "{text}");
    }

    #[test]
    fn every_attempt_has_a_name_of_its_own() {
        let host: HostName = "web1".parse().unwrap();
        let (_, text) = written("x", &[], None, 0);
        assert!(text.contains("sg_id='7-1-greet-1-"), "{text}");
        let step = PlannedStep::plain("greet".parse().unwrap(), Digest::of(b""));
        let id = |key: &[u8], attempt| RunnerId::new(&Digest::of(key), TaskId(7), GroupNo(1), &host, &step, attempt);
        assert_eq!(id(b"a", 1), id(b"a", 1));
        assert!(id(b"a", 1) != id(b"a", 2) && id(b"a", 1) != id(b"b", 1));
    }
}
