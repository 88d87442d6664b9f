//! How programs reach a host's shell: whole, or not at all, whatever took a part of them on the way.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use spoolgate::domain::output::Stream;
use spoolgate::domain::runner::answer::{Answer, Verdict};
use spoolgate::domain::runner::{Offsets, Program};

use crate::patience::{InTime as _, end_of};
use crate::runner::{SHELLS, Step, plan};
use crate::world::wait_at_most;

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A home in which a script leaves a file for each of its lines.
struct Home {
    dir: tempfile::TempDir,
    step: Step,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let traces: String = (0..30).map(|n| format!("echo {n} >>\"$HOME/traces\"\n")).collect();
        Home { dir, step: plan(&traces, 60) }
    }

    fn program(&self) -> Program {
        self.step.program(Offsets::default(), "n1")
    }

    /// Starts `words` with this on standard input, which then ends.
    fn start(&self, words: &[&str], input: &[u8]) -> Child {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.dir.path());
        command.current_dir(self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        child
    }

    /// Has a shell take programs from this input.
    fn load(&self, shell: &[&str], input: &[u8]) -> Output {
        let command = self.program().command(NONCE);
        let words: Vec<&str> = shell.iter().copied().chain(command.iter().skip(1).map(String::as_str)).collect();
        end_of(self.start(&words, input), &format!("{words:?}"))
    }

    fn traces(&self) -> PathBuf {
        self.dir.path().join("traces")
    }

    #[track_caller]
    fn has_no_trace(&self, what: &str) {
        let left: Vec<_> = std::fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!self.traces().exists() && left.is_empty(), "{what}: {left:?}");
    }
}

fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    SHELLS.into_iter()
}

#[test]
fn what_arrives_whole_runs_once_and_the_shell_takes_the_next() {
    for shell in shells() {
        let home = Home::new();
        let program = home.program();
        let output = home.load(shell, &[program.first(NONCE), program.again(NONCE)].concat());
        let mut answer = Answer::new("n1", &home.step.id, Offsets::default());
        answer.take(Stream::Out, &output.stdout, |_, _| {});
        answer.finish();
        assert_eq!(answer.ended.map(|ended| ended.0), Some(Verdict::Exit(0)), "{shell:?} {output:?}");
        assert_eq!(std::fs::read_to_string(home.traces()).unwrap().lines().count(), 30, "{shell:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.matches("spoolgate-end n1 exit 0").count(), 2, "{shell:?} {said}");
        assert!(!said.contains("torn") && output.status.success(), "{shell:?} {said}");
    }
}

#[test]
fn a_program_that_lost_anything_runs_nothing_and_says_so() {
    for (n, shell) in shells().enumerate() {
        let home = Home::new();
        let frame = home.program().first(NONCE);
        let line = frame.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        // Every byte around the line, the ends, and some between; the first shell gets more of them.
        let step = if n == 0 { 101 } else { 1501 };
        let near = (1..line + 3).chain((line..frame.len()).step_by(step)).chain(frame.len() - 5..=frame.len());
        for lost in near {
            let said = home.load(shell, &frame[lost..]);
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert_eq!(text, format!("spoolgate-torn {NONCE}\n"), "{shell:?}: the first {lost} bytes");
            home.has_no_trace(&format!("{shell:?}: the first {lost} bytes"));
        }
        // The last bytes are padding and a line feed: without them everything is there.
        for kept in (0..frame.len() - 8).step_by(step * 3).chain([frame.len() - 8]) {
            let said = home.load(shell, &frame[..kept]);
            assert_eq!(said.stdout, format!("spoolgate-torn {NONCE}\n").into_bytes(), "{shell:?}: after {kept} bytes");
            let middle = [&frame[..kept], &frame[(kept + 4).min(frame.len())..]].concat();
            assert!(home.load(shell, &middle).stdout.starts_with(b"spoolgate-torn"), "{shell:?}: 4 bytes at {kept}");
            home.has_no_trace(&format!("{shell:?}: cut at {kept}"));
        }
    }
}

#[test]
fn another_nonce_s_program_is_not_taken() {
    let home = Home::new();
    let other = NONCE.replace('0', "1");
    let said = home.load(SHELLS[0], &home.program().first(&other));
    assert_eq!(said.stdout, format!("spoolgate-torn {NONCE}\n").into_bytes());
    home.has_no_trace("another nonce");
}

/// Login files replace the shell with another one, which reads its commands from the input.
#[test]
fn a_shell_that_reads_a_frame_as_commands_does_nothing() {
    let words: [&[&str]; 14] = [
        &["dash"],
        &["dash", "-i"],
        &["bash"],
        &["bash", "-i"],
        &["bash", "--login"],
        &["busybox", "ash"],
        &["busybox", "ash", "-i"],
        &["zsh"],
        &["zsh", "-i"],
        &["fish"],
        &["fish", "-i"],
        &["tcsh"],
        &["tcsh", "-i"],
        &["python3", "-i"],
    ];
    for words in words {
        let home = Home::new();
        let program = home.program();
        let input = [program.first(NONCE), program.again(NONCE)].concat();
        let mut child = home.start(words, &input);
        drop((child.stdout.take(), child.stderr.take()));
        wait_at_most(Duration::from_mins(1), &format!("{words:?} to end"), || child.try_wait().unwrap());
        assert!(!home.traces().exists() && !home.dir.path().join(".spoolgate").exists(), "{words:?}");
    }
}

/// The first word cannot be said: whoever sent the program has given it up.
#[test]
fn a_program_that_nobody_listens_to_begins_nothing() {
    for shell in shells() {
        let home = Home::new();
        let program = home.program();
        let command = program.command(NONCE);
        let words: Vec<&str> = shell.iter().copied().chain(command.iter().skip(1).map(String::as_str)).collect();
        // The program is held back until nobody listens.
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        drop(child.stdout.take());
        stdin.write_all(&program.first(NONCE)).unwrap();
        wait_at_most(Duration::from_secs(30), "it to end by itself", || child.try_wait().unwrap());
        assert!(!home.traces().exists(), "{shell:?}");
        let state = std::fs::read_dir(home.dir.path().join(".spoolgate"));
        assert!(state.is_err() || state.unwrap().next().is_none(), "{shell:?} passed the gate");
    }
}

#[test]
fn a_host_without_a_program_that_is_needed_says_which() {
    let home = Home::new();
    let bin = tempfile::tempdir().unwrap();
    for name in ["head", "base64"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{name}"), bin.path().join(name)).unwrap();
    }
    let command = home.program().command(NONCE);
    let said = Command::new("/bin/dash")
        .args(&command[1..])
        .env_clear()
        .env("PATH", bin.path())
        .stdin(Stdio::null())
        .output_in_time()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), format!("spoolgate-lacks {NONCE} gzip\n"));
}
