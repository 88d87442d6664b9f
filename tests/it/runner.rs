//! The remote runner, alone: the program text under every shell it promises, with real processes.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spoolgate::base::digest::Digest;
use spoolgate::base::ids::{GroupNo, TaskId};
use spoolgate::base::limits;
use spoolgate::domain::audit::Head;
use spoolgate::domain::file_step::INSTALL;
use spoolgate::domain::outcome::ProvedBy;
use spoolgate::domain::output::Stream;
use spoolgate::domain::plan::{Plan, PlannedStep};
use spoolgate::domain::run::earlier::Earlier;
use spoolgate::domain::runner::answer::{Answer, Shown, Verdict};
use spoolgate::domain::runner::told::Told;
use spoolgate::domain::runner::{
    Call, Offsets, Program, RunnerId, forget_program, kill_program, run_program, want_program,
};

use crate::patience::end_of;

pub(crate) const SHELLS: [&[&str]; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "ash"]];
/// A bash whose here-documents are files, as those of older versions are.
const OLD_BASH: &[&str] = &["env", "BASH_COMPAT=50", "bash", "--posix"];
const LIMIT: Duration = Duration::from_mins(1);

/// How many steps there were.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// A host's account: a home, and the shell that reads programs there.
pub(crate) struct Account {
    pub(crate) home: tempfile::TempDir,
    pub(crate) shell: &'static [&'static str],
    /// Run as this user instead of the one who tests.
    pub(crate) user: Option<&'static str>,
}

/// One step and everything that was heard of it.
pub(crate) struct Step {
    plan: Plan,
    planned: PlannedStep,
    pub(crate) id: RunnerId,
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) ended: Option<(Verdict, Shown, Shown)>,
    pub(crate) proved_by: Option<ProvedBy>,
    pub(crate) refused: Option<String>,
    pub(crate) full: bool,
    pub(crate) ms_ago: u64,
    pub(crate) noise: String,
}

pub(crate) fn plan(script: &str, timeout_s: u64) -> Step {
    let digest = Digest::of(script.as_bytes());
    let step = PlannedStep {
        args: vec!["one arg".to_owned(), "it's".to_owned()],
        timeout_s,
        ..PlannedStep::plain("step".parse().unwrap(), digest)
    };
    let plan: Plan = serde_json::from_value(serde_json::json!({
        "batch_gate": false, "batch_interval_s": 0, "commits": {}, "missed": "hold", "risk": "low", "env": {"GREETING": "it's \"here\"; $(id)\n"}, "exec_time": null, "format": 1, "groups": [], "hosts": {},
        "labels": {}, "not_after": null, "scripts": {digest.to_string(): script}, "task_name": "t", "template": null,
    }))
    .unwrap();
    let host = "web1".parse().unwrap();
    // Accounts of one user run side by side: each step is one of its own, as those of two daemons are.
    let run_key = Digest::of(&STEPS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let id = RunnerId::new(&run_key, TaskId(u64::from(std::process::id())), GroupNo(1), &host, &step, 1);
    Step { plan, planned: step, id }
}

/// A step of this script with these arguments and variables.
pub(crate) fn step_with(script: &str, args: Vec<String>, env: &BTreeMap<String, String>) -> Step {
    let mut step = plan(script, 60);
    step.planned.args = args;
    step.plan.env = env.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect();
    step
}

/// A step that puts one file in its place.
pub(crate) fn step_with_file(digest: &Digest, place: &Path) -> Step {
    let mut step = plan(INSTALL, 60);
    let file = serde_json::json!({"digest": digest, "from": "a", "mode": "0644", "to": place});
    step.planned.files = vec![serde_json::from_value(file).unwrap()];
    step
}

impl Step {
    /// Has it need a systemd, which no host of these tests has.
    pub(crate) fn limit_memory(&mut self) {
        self.planned.memory_mib = 64;
    }

    /// Has it be ended when it prints nothing for so long.
    pub(crate) fn limit_silence(&mut self, seconds: u64) {
        self.planned.idle_timeout_s = seconds;
    }

    /// Has its script run as another account.
    pub(crate) fn run_by(&mut self, account: &str) {
        self.planned.account = Some(account.parse().unwrap());
    }

    /// The program that ends it.
    pub(crate) fn end(&self, nonce: &str) -> Program {
        kill_program(&self.planned, &self.call(nonce, false, None))
    }

    /// The program that has a host forget it.
    pub(crate) fn forget(&self) -> Program {
        forget_program(&self.planned, &self.call("n5", false, None))
    }

    fn call<'a>(&'a self, nonce: &'a str, begun: bool, sent_s: Option<u64>) -> Call<'a> {
        let (offsets, audit) = (Offsets::default(), Head::default());
        Call { id: &self.id, nonce, offsets, clean: false, begun, sent_s, audit }
    }

    pub(crate) fn text(&self, offsets: Offsets, nonce: &str) -> Vec<u8> {
        self.program(offsets, nonce).text().into_bytes()
    }

    /// The program that starts it, or shows it from there on.
    pub(crate) fn program(&self, offsets: Offsets, nonce: &str) -> Program {
        let call =
            Call { id: &self.id, nonce, offsets, clean: true, begun: false, sent_s: None, audit: Head::default() };
        let (earlier, secrets) = (Earlier::default(), BTreeMap::new());
        let told = Told::preview(&earlier, &secrets);
        run_program(&self.plan, TaskId(7), &"web1".parse().unwrap(), GroupNo(1), &self.planned, &call, &told)
    }
}

impl Account {
    pub(crate) fn new(shell: &'static [&'static str]) -> Account {
        let home = tempfile::tempdir().unwrap();
        Account { home, shell, user: None }
    }

    pub(crate) fn start(&self, text: &[u8]) -> Child {
        let mut words: Vec<&str> = self.shell.to_vec();
        if let Some(user) = self.user {
            let other = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"];
            words.splice(0..0, other);
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let mut child = command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = text.to_vec();
        std::thread::spawn(move || drop(stdin.write_all(&text)));
        child
    }

    /// Hears a conversation to its end.
    pub(crate) fn hear(child: Child, nonce: &str, (id, known): (&RunnerId, Offsets)) -> Heard {
        let Output { stdout: out, stderr: err, .. } = end_of(child, "a conversation with the runner");
        let mut heard = Heard::default();
        let mut answer = Answer::new(nonce, id, known);
        for (stream, bytes) in [(Stream::Out, &out), (Stream::Err, &err)] {
            answer.take(stream, bytes, |stream, bytes| match stream {
                Stream::Out => heard.out.extend_from_slice(bytes),
                Stream::Err => heard.err.extend_from_slice(bytes),
            });
        }
        answer.finish();
        heard.noise = answer.noise();
        heard.ended = answer.ended;
        heard.proved_by = answer.proved_by;
        heard.full = answer.full.is_some();
        heard.ms_ago = answer.ended_ms_ago.get();
        heard.refused = answer.refused;
        heard
    }

    pub(crate) fn shell(&self) -> &'static [&'static str] {
        self.shell
    }

    /// Runs a step under a name of its own and returns what it printed.
    pub(crate) fn run_as(&self, step: &Step, round: u64) -> String {
        let name = |n: u64| Digest::of(&n.to_le_bytes());
        let id = RunnerId::new(&name(round), TaskId(7), GroupNo(1), &"web1".parse().unwrap(), &step.planned, 1);
        let step = Step { plan: step.plan.clone(), planned: step.planned.clone(), id };
        let heard = self.run(&step);
        assert_eq!(heard.ended.map(|(verdict, ..)| verdict), Some(Verdict::Exit(0)), "{}", heard.noise);
        String::from_utf8(heard.out).unwrap()
    }

    pub(crate) fn run(&self, step: &Step) -> Heard {
        Account::hear(self.start(&step.text(Offsets::default(), "n1")), "n1", (&step.id, Offsets::default()))
    }

    fn attach(&self, step: &Step, out: u64, err: u64) -> Heard {
        Account::hear(self.start(&step.text(Offsets { out, err }, "n2")), "n2", (&step.id, Offsets { out, err }))
    }

    /// Asks for a step of which the host said before that it runs.
    fn ask_again(&self, step: &Step) -> Heard {
        self.resend(step, true, Some(1))
    }

    /// Sends a step that may have been sent `sent_s` seconds ago for the first time.
    pub(crate) fn resend(&self, step: &Step, begun: bool, sent_s: Option<u64>) -> Heard {
        let call = step.call("n4", begun, sent_s);
        let host = "web1".parse().unwrap();
        let (earlier, secrets) = (Earlier::default(), BTreeMap::new());
        let told = Told::preview(&earlier, &secrets);
        let program = run_program(&step.plan, TaskId(7), &host, GroupNo(1), &step.planned, &call, &told);
        Account::hear(self.start(program.text().as_bytes()), "n4", (&step.id, Offsets::default()))
    }

    /// Asks which files a step needs brought.
    pub(crate) fn want(&self, step: &Step, sent_s: Option<u64>) -> Heard {
        let program = want_program(&step.planned, &"web1".parse().unwrap(), &step.call("n6", false, sent_s));
        Account::hear(self.start(program.text().as_bytes()), "n6", (&step.id, Offsets::default()))
    }

    pub(crate) fn kill(&self, step: &Step) -> Heard {
        self.kill_sent(step, None)
    }

    pub(crate) fn kill_sent(&self, step: &Step, sent_s: Option<u64>) -> Heard {
        let program = kill_program(&step.planned, &step.call("n3", false, sent_s));
        Account::hear(self.start(program.text().as_bytes()), "n3", (&step.id, Offsets::default()))
    }

    /// Whether a line of a step's state begins with `word`.
    pub(crate) fn knows(&self, step: &Step, word: &str) -> bool {
        let state = std::fs::read_to_string(self.file(step, "state")).unwrap_or_default();
        state.lines().any(|line| line.starts_with(word))
    }

    /// Whether the script of a step has ended, though nobody may have taken its end from the kernel.
    pub(crate) fn has_ended(&self, step: &Step) -> bool {
        let state = std::fs::read_to_string(self.file(step, "state")).unwrap_or_default();
        let Some(pid) = state.lines().find_map(|line| line.strip_prefix("session ")?.split(' ').next()) else {
            return false;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    pub(crate) fn file(&self, step: &Step, name: &str) -> PathBuf {
        self.home.path().join(".spoolgate").join(format!("{}.{name}", step.id.as_str()))
    }
}

/// Runs a test under every shell, side by side.
pub(crate) fn each_shell(test: impl Fn(&Account) + Sync) {
    std::thread::scope(|scope| {
        let shells = SHELLS.into_iter().chain([OLD_BASH]);
        let all: Vec<_> = shells.map(|shell| (shell, scope.spawn(|| test(&Account::new(shell))))).collect();
        let bad: Vec<_> = all.into_iter().filter_map(|(shell, one)| one.join().is_err().then_some(shell)).collect();
        assert!(bad.is_empty(), "the test failed under {bad:?}");
    });
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Counts the living processes whose environment holds a word.
pub(crate) fn living(word: &str) -> usize {
    let procs = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    procs
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter(|entry| std::fs::read(entry.path().join("environ")).is_ok_and(|env| find(&env, word.as_bytes())))
        .filter(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
        })
        .count()
}

fn find(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[track_caller]
pub(crate) fn check(heard: &Heard, verdict: Verdict, out: &str, err: &str) {
    assert_eq!(
        (String::from_utf8_lossy(&heard.out).as_ref(), String::from_utf8_lossy(&heard.err).as_ref()),
        (out, err),
        "{:?} {}",
        heard.refused,
        heard.noise
    );
    let Some((ended, of_out, of_err)) = heard.ended else { panic!("no end: {:?} {}", heard.refused, heard.noise) };
    assert_eq!(ended, verdict, "{}", heard.noise);
    for (shown, bytes) in [(of_out, out), (of_err, err)] {
        assert!(
            shown.total.is_none_or(|total| total.get() == bytes.len() as u64) && shown.cut.get() == 0,
            "{shown:?} of {bytes:?}"
        );
    }
}

#[test]
fn a_script_gets_its_arguments_and_variables_and_its_end_is_told() {
    each_shell(|account| {
        let script =
            "printf '%s|' \"$@\" \"$GREETING\" \"$SPOOLGATE_HOST\"; echo bad >&2; read -r x || echo no input; exit 3";
        let want = "one arg|it's|it's \"here\"; $(id)\n|web1|no input\n";
        check(&account.run(&plan(script, 30)), Verdict::Exit(3), want, "bad\n");
        check(
            &account.run(&plan("#!/usr/bin/env bash\necho \"${BASH_VERSION:+bash} $#\"\n", 30)),
            Verdict::Exit(0),
            "bash 2\n",
            "",
        );
        check(&account.run(&plan("printf 'no line feed'", 30)), Verdict::Exit(0), "no line feed", "");
        check(&account.run(&plan("kill -KILL $$", 30)), Verdict::Signal(9), "", "");
        check(&account.run(&plan("kill -TERM $$", 30)), Verdict::Signal(15), "", "");
        check(&account.run(&plan("exit 137", 30)), Verdict::Exit(137), "", "");
        check(&account.run(&plan("exit 255", 30)), Verdict::Exit(255), "", "");
        let heard = account.run(&plan("#!/nonexistent/shell\necho", 30));
        assert_eq!(
            heard.ended.map(|ended| ended.0),
            Some(Verdict::Exit(127)),
            "{}",
            String::from_utf8_lossy(&heard.err)
        );
    });
}

/// The streams of what ends at once are read by somebody else than those of what goes on for a while.
#[test]
fn whenever_a_script_ends_it_is_shown_whole() {
    each_shell(|account| {
        for wait in ["0", "0.06", "0.08", "0.09", "0.1", "0.11", "0.13", "0.2"] {
            for (out, err) in [(0, 0), (1, 0), (0, 70_000), (65_536, 1), (65_537, 65_537), (300_000, 3)] {
                let print = |bytes: u32| format!("head -c {bytes} /dev/zero | tr '\\0' x");
                let script = format!("{}; sleep {wait}; {} >&2", print(out), print(err));
                let heard = account.run(&plan(&script, 30));
                let lengths = (heard.out.len(), heard.err.len());
                assert_eq!(lengths, (out as usize, err as usize), "{wait} {:?} {}", heard.ended, heard.noise);
            }
        }
    });
}

#[test]
fn whatever_is_sent_twice_is_started_once_and_shown_again() {
    each_shell(|account| {
        let step = plan("echo started >>\"$HOME/journal\"; echo out; echo err >&2; exit 4", 30);
        check(&account.run(&step), Verdict::Exit(4), "out\n", "err\n");
        check(&account.run(&step), Verdict::Exit(4), "out\n", "err\n");
        let rest = account.attach(&step, 2, 3);
        assert_eq!((rest.out.as_slice(), rest.err.as_slice()), (&b"t\n"[..], &b"\n"[..]));
        assert_eq!(rest.ended.map(|ended| ended.0), Some(Verdict::Exit(4)));
        assert_eq!(std::fs::read_to_string(account.home.path().join("journal")).unwrap(), "started\n");
    });
}

#[test]
fn what_a_host_forgot_is_lost_and_not_started_again() {
    each_shell(|account| {
        let step = plan("echo started >>\"$HOME/journal\"", 30);
        check(&account.run(&step), Verdict::Exit(0), "", "");
        check(&account.ask_again(&step), Verdict::Exit(0), "", "");
        std::fs::remove_dir_all(account.home.path().join(".spoolgate")).unwrap();
        assert_eq!(account.ask_again(&step).ended.unwrap().0, Verdict::Forgotten);
        assert_eq!(std::fs::read_to_string(account.home.path().join("journal")).unwrap(), "started\n");
    });
}

#[test]
fn a_script_that_prints_past_its_head_is_not_silent() {
    each_shell(|account| {
        let mut step = plan("head -c 16000000 /dev/zero; for n in 1 2 3 4 5; do sleep 1; echo more; done", 60);
        step.planned.idle_timeout_s = 3;
        assert_eq!(account.run(&step).ended.unwrap().0, Verdict::Exit(0));
    });
}

#[test]
fn an_end_that_was_written_counts_though_the_runner_died() {
    each_shell(|account| {
        let step = plan("echo on; sleep 1; exit 7", 30);
        let mut child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("it runs", || account.knows(&step, "session "));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("its end", || account.has_ended(&step));
        assert_eq!(account.attach(&step, 0, 0).ended.unwrap().0, Verdict::Exit(7));
    });
}

#[test]
fn many_at_once_start_it_once_and_all_hear_everything() {
    each_shell(|account| {
        let step = plan("echo started >>\"$HOME/journal\"; echo a; sleep 0.5; echo b; exit 5", 30);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| account.run(&step))).collect();
            for heard in all {
                check(&heard.join().unwrap(), Verdict::Exit(5), "a\nb\n", "");
            }
        });
        assert_eq!(std::fs::read_to_string(account.home.path().join("journal")).unwrap(), "started\n");
    });
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    each_shell(|account| {
        let script = "trap 'echo hangup' HUP; for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done; exit 6";
        let step = plan(script, 30);
        let mut child = account.start(&step.text(Offsets::default(), "n1"));
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        drop(child.stderr.take());
        let want = "line 1\nline 2\nline 3\nline 4\nline 5\n";
        check(&account.attach(&step, 0, 0), Verdict::Exit(6), want, "");
        end_of(child, "the runner that nobody hears");
    });
}

#[test]
fn a_reader_that_takes_nothing_holds_nothing_up() {
    each_shell(|account| {
        let step =
            plan("i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done", 30);
        // Nobody reads this one's pipes.
        let mut deaf = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("the step ends", || account.knows(&step, "code 0 "));
        let heard = account.attach(&step, 0, 0);
        assert_eq!(heard.out.len(), 20_000 * 41);
        assert_eq!(heard.ended.unwrap().0, Verdict::Exit(0));
        deaf.kill().unwrap();
        deaf.wait().unwrap();
    });
}

#[test]
fn limits_are_kept_on_the_host_and_nothing_is_left() {
    each_shell(|account| {
        let word = format!("SG_TEST={}-{}", std::process::id(), account.shell[0]);
        let tree = format!(
            "export {word}; (trap '' TERM; sleep 9999 & sleep 9998) & trap '' TERM; echo on; while :; do sleep 9997; done"
        );
        let begin = Instant::now();
        let mut step = plan(&tree, 1);
        let heard = account.run(&step);
        assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::TimedOut { left: false }));
        assert_eq!(heard.out, b"on\n");
        assert!(begin.elapsed() < Duration::from_secs(limits::KILL_GRACE_S + 8), "{:?}", begin.elapsed());
        assert_eq!(living(&word), 0);
        // TERM alone is enough for what obeys it.
        step = plan("echo on; exec sleep 9996", 1);
        let begin = Instant::now();
        check(&account.run(&step), Verdict::TimedOut { left: false }, "on\n", "");
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    });
}

#[test]
fn a_kill_is_proved_and_reaches_the_whole_session() {
    each_shell(|account| {
        let word = format!("SG_KILL={}-{}", std::process::id(), account.shell[0]);
        let tree = format!(
            "export {word}; (trap '' TERM HUP; sleep 9999 & sleep 9998) & trap '' TERM; echo on; while :; do sleep 9997; done"
        );
        let step = plan(&tree, 0);
        let child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("the tree stands", || living(&word) >= 3);
        let killed = account.kill(&step);
        assert_eq!(killed.ended.map(|ended| ended.0), Some(Verdict::Cancelled { left: false }), "{}", killed.noise);
        assert_eq!(living(&word), 0);
        // The script's own shell may say on its standard error that its child was killed.
        let heard = Account::hear(child, "n1", (&step.id, Offsets::default()));
        assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::Cancelled { left: false }));
        assert_eq!(heard.out, b"on\n");
        assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Cancelled { left: false }, "asked again");
        // What never began never begins.
        let step = plan("echo never", 0);
        assert_eq!(account.kill(&step).ended.unwrap().0, Verdict::Never);
        assert_eq!(account.run(&step).ended.unwrap().0, Verdict::Never);
    });
}

#[test]
fn a_killed_runner_is_told_and_its_step_does_not_run_on_unseen() {
    each_shell(|account| {
        let word = format!("SG_DIED={}-{}", std::process::id(), account.shell[0]);
        let step = plan(&format!("export {word}; echo on; sleep 9999"), 0);
        let mut child = account.start(&step.text(Offsets::default(), "n1"));
        wait_until("it runs", || living(&word) >= 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let heard = account.attach(&step, 0, 0);
        assert_eq!(heard.ended.unwrap().0, Verdict::Died { left: false });
        assert_eq!((heard.out.as_slice(), living(&word)), (&b"on\n"[..], 0));
        // Another boot of the host: what ran is lost.
        let step = plan("sleep 0.1 # another", 0);
        drop(account.run(&step));
        std::fs::write(account.file(&step, "state"), "run 4711 another-boot 42 end\n").unwrap();
        assert_eq!(account.attach(&step, 0, 0).ended.unwrap().0, Verdict::Rebooted);
    });
}

#[test]
fn a_flood_leaves_its_head_and_tail_to_the_byte() {
    each_shell(|account| {
        let total: u64 = 24 << 20;
        // Lines of 8 bytes, numbered, so that every kept byte can be checked.
        let script = format!("awk 'BEGIN {{ for (i = 0; i < {}; i++) printf \"%07d\\n\", i }}'; printf end", total / 8);
        let heard = account.run(&plan(&script, 60));
        let (head, tail) = (limits::OUTPUT_HEAD_BYTES, limits::OUTPUT_TAIL_BYTES);
        let cut = total + 3 - head - tail;
        assert_eq!(
            heard.ended,
            Some((
                Verdict::Exit(0),
                Shown { total: Some((total + 3).into()), cut: cut.into() },
                Shown { total: Some(0.into()), cut: 0.into() }
            ))
        );
        let at = |n: u64| usize::try_from(n).unwrap();
        assert_eq!(heard.out.len(), at(head + tail));
        let lines = |from: u64| (from / 8..total / 8).flat_map(|n| format!("{n:07}\n").into_bytes());
        assert!(lines(0).take(at(head)).eq(heard.out[..at(head)].iter().copied()), "the head is exact");
        // The tail begins in the middle of a line: three bytes follow the last one.
        let last = lines(head + cut - 8).chain(*b"end").skip(at((head + cut) % 8)).collect::<Vec<_>>();
        assert!(last.ends_with(&heard.out[at(head)..]), "the tail is exact");
    });
}

#[test]
fn what_is_left_in_the_background_is_not_waited_for() {
    each_shell(|account| {
        let begin = Instant::now();
        let word = format!("SG_LEFT={}-{}", std::process::id(), account.shell[0]);
        let step = plan(&format!("{word} sleep 20 & echo done"), 30);
        check(&account.run(&step), Verdict::Exit(0), "done\n", "");
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            if std::fs::read(entry.path().join("environ")).is_ok_and(|env| find(&env, word.as_bytes())) {
                let pid = entry.file_name().to_string_lossy().parse().unwrap();
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
    });
}

#[test]
fn a_program_that_was_cut_off_does_nothing() {
    let account = Account::new(SHELLS[0]);
    let step = plan("echo ran >>\"$HOME/journal\"", 30);
    let text = step.text(Offsets::default(), "n1");
    for length in (0..text.len()).step_by(97).chain(text.len() - 3..text.len() - 1) {
        drop(Account::hear(account.start(&text[..length]), "n1", (&step.id, Offsets::default())));
        assert!(!account.home.path().join("journal").exists(), "cut at {length}");
        assert!(!account.home.path().join(".spoolgate").exists(), "cut at {length}");
    }
}
