//! Runs inventory scripts and keeps what they said for a while.
//!
//! **Invariant:** a script runs only when nobody but root and this process's user could have written it; without our
//! environment, without stdin, in a process group of its own that is killed whole when its time or its output is over.
//! All scripts run at once, so that waiting for them takes no longer than the timeout of one.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, geteuid};

use crate::base::limits;
use crate::domain::inventory::script::{Script, hosts_to_ask};
use crate::domain::problem::Problem;

/// How long a failure is kept, so that a dashboard that looks every second does not run a broken script as often.
const FAILURE_KEPT: Duration = Duration::from_secs(10);
/// Where a script finds its interpreter.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How scripts are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// How long a script may take, with all that is asked of it.
    pub(super) timeout: Duration,
    /// How long its answer is good.
    pub(super) cache: Duration,
}

/// What a script said, and until when that is good.
type Answer = (Result<Script, Problem>, Instant);

/// Which file an answer is of: device, inode, size, and when it changed.
type Stamp = (u64, u64, u64, i64, i64);

struct Kept {
    stamp: Stamp,
    answer: Answer,
}

/// The answers of this process, by path.
static KEPT: Mutex<BTreeMap<PathBuf, Kept>> = Mutex::new(BTreeMap::new());

/// Asks scripts, or says what they said a moment ago.
pub(super) fn ask(paths: &[PathBuf], options: Options) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = paths.iter().map(|path| scope.spawn(move || ask_one(path, options))).collect();
        let joined = threads.into_iter().zip(paths).map(|(thread, path)| {
            let panicked = || (Err(problem(path, "a panic of ours", "a report of it")), Instant::now());
            thread.join().unwrap_or_else(|_| panicked())
        });
        joined.collect()
    })
}

fn ask_one(path: &Path, options: Options) -> Answer {
    let stamp = match trusted(path) {
        Ok(stamp) => stamp,
        Err((found, wanted)) => return (Err(problem(path, found, &wanted)), Instant::now() + FAILURE_KEPT),
    };
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept().get(path)
        && known.stamp == stamp
        && known.answer.1 > Instant::now()
    {
        return known.answer.clone();
    }
    let said = question(path, Instant::now() + options.timeout);
    let good = if said.is_ok() { options.cache } else { options.cache.min(FAILURE_KEPT) };
    let answer = (said, Instant::now() + good);
    kept().insert(path.to_owned(), Kept { stamp, answer: answer.clone() });
    answer
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn problem(path: &Path, found: impl AsRef<str>, wanted: &str) -> Problem {
    Problem::new(name(path), found, wanted)
}

/// Checks who could have written the script, or put another one in its place.
///
/// # Errors
/// What was found, and what would have been right.
fn trusted(path: &Path) -> Result<Stamp, (String, String)> {
    let unreadable =
        |error: std::io::Error| (format!("a script that cannot be looked at: {error}"), "a file".to_owned());
    let real = path.canonicalize().map_err(unreadable)?;
    let meta = real.metadata().map_err(unreadable)?;
    let us = geteuid().as_raw();
    let folders = [path.parent(), real.parent()].into_iter().flatten().map(Path::to_owned);
    for place in std::iter::once(real.clone()).chain(folders) {
        let meta = place.metadata().map_err(unreadable)?;
        let shown = if meta.is_dir() { format!("the directory {}", place.display()) } else { "the script".to_owned() };
        if meta.uid() != 0 && meta.uid() != us {
            let found = format!("a script that user {} could replace", meta.uid());
            return Err((found, format!("{shown} owned by root or by the user who reads it")));
        }
        // In a sticky directory nobody takes away what is not theirs.
        let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        if meta.mode() & 0o022 != 0 && !sticky {
            let found = format!("a script that others can write (mode {:o})", meta.mode() & 0o7777);
            return Err((found, format!("{shown} that only its owner can write: chmod go-w")));
        }
    }
    let changed = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
    let status = meta.ctime().wrapping_mul(1_000_000_000).wrapping_add(meta.ctime_nsec());
    Ok((meta.dev(), meta.ino(), meta.size(), changed, status))
}

/// Asks a script for its list, and for its hosts one by one where the list lacks their variables.
fn question(path: &Path, deadline: Instant) -> Result<Script, Problem> {
    let list = run(path, &["--list"], deadline)?;
    let mut hosts = BTreeMap::new();
    for host in hosts_to_ask(&list) {
        let said = run(path, &["--host", host.as_str()], deadline)?;
        hosts.insert(host.to_string(), said);
    }
    Ok(Script { file: name(path), list, hosts })
}

/// Runs a script once and returns what it printed.
fn run(path: &Path, words: &[&str], deadline: Instant) -> Result<String, Problem> {
    let asked = words.join(" ");
    let fail = |found: String, wanted: &str| problem(path, format!("{asked}: {found}"), wanted);
    let mut child = start(path, words).map_err(|error| fail(format!("not started: {error}"), "a script that runs"))?;
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let ended = wait(&mut child, stdout, deadline);
    // What stderr says is there when the script is gone, or nobody will ever say it.
    let said = stderr.and_then(|stream| stream.recv_timeout(Duration::from_millis(200)).ok()).unwrap_or_default();
    let said = match last_words(&said) {
        words if words.is_empty() => words,
        words => format!(", and said: {words}"),
    };
    match ended {
        Err(Stopped::Late) => {
            Err(fail(format!("no end in time{said}"), "an answer within script_timeout_s; it was killed"))
        }
        Err(Stopped::TooLong) => Err(fail("more than 16 MiB".to_owned(), "less output; it was killed")),
        Err(Stopped::Lost(error)) => Err(fail(format!("lost from sight: {error}"), "a script that ends")),
        Ok((status, _)) if !status.success() => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
            };
            Err(fail(format!("{how}{said}"), "exit code 0"))
        }
        Ok((_, bytes)) => String::from_utf8(bytes).map_err(|_| fail("bytes that are not UTF-8".to_owned(), "UTF-8")),
    }
}

fn start(path: &Path, words: &[&str]) -> std::io::Result<Child> {
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The script's own path must hold from its folder too.
    let program = std::path::absolute(path)?;
    let mut tries = 0_u32;
    // Nobody says anything on it; waiting for it is a pause.
    let (_quiet, pause) = channel::<()>();
    loop {
        let mut command = Command::new(&program);
        command.args(words).current_dir(folder).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        match command.spawn() {
            // Somebody who forked while the file was written holds it open for an instant.
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) && tries < 10 => {
                tries = tries.saturating_add(1);
                let _over = pause.recv_timeout(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// Reads a stream to its end, or to one byte more than is allowed. The thread outlives a script that was killed and left a
/// process outside of its group behind; it ends with that one.
pub(super) fn drain(stream: impl std::io::Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ended = stream.take(limits::SCRIPT_OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        let _unheard = sender.send(bytes);
    });
    receiver
}

/// Why a script did not end by itself.
pub(super) enum Stopped {
    Late,
    TooLong,
    Lost(String),
}

/// Waits for the end of a script and its output, and kills whatever is left of its process group.
pub(super) fn wait(
    child: &mut Child,
    stdout: Option<Receiver<Vec<u8>>>,
    deadline: Instant,
) -> Result<(ExitStatus, Vec<u8>), Stopped> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = match stdout.map(|stream| stream.recv_timeout(left())) {
        Some(Ok(bytes)) if bytes.len() as u64 > limits::SCRIPT_OUTPUT_BYTES_MAX => Err(Stopped::TooLong),
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(RecvTimeoutError::Timeout)) => Err(Stopped::Late),
        Some(Err(RecvTimeoutError::Disconnected)) | None => Ok(Vec::new()),
    };
    let (sender, gone) = channel();
    // It is looked at and left a zombie, so that its number still means its group when that is killed.
    let watch = std::thread::spawn(move || {
        let mut seen = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        while seen == Err(Errno::EINTR) {
            seen = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        }
        let _unheard = sender.send(());
        seen.map(|_| ())
    });
    let ended = match output {
        Ok(bytes) => gone.recv_timeout(left()).map(|()| bytes).map_err(|_| Stopped::Late),
        Err(stopped) => Err(stopped),
    };
    // Gone already is as good as killed.
    let _killed = killpg(pid, Signal::SIGKILL);
    let seen = watch.join().unwrap_or(Err(Errno::UnknownErrno));
    let status = child.wait().map_err(|error| Stopped::Lost(error.to_string()));
    let bytes = ended?;
    seen.map_err(|error| Stopped::Lost(error.to_string()))?;
    Ok((status?, bytes))
}

/// The first line of what a script complained; of a Python traceback the last one, which says what happened.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64 << 10)]);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let line = if first.starts_with("Traceback") { lines.next_back().unwrap_or(first) } else { first };
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(dir: &Path, body: &str, mode: u32) -> PathBuf {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.join("s.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn options(timeout_ms: u64, cache_ms: u64) -> Options {
        Options { timeout: Duration::from_millis(timeout_ms), cache: Duration::from_millis(cache_ms) }
    }

    #[track_caller]
    fn check(body: &str, want: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), body, 0o755);
        let shown = match ask(&[path], options(5_000, 1)).remove(0).0 {
            Ok(said) => format!("{} {:?}", said.list.trim(), said.hosts),
            Err(problem) => problem.to_string(),
        };
        assert_eq!(shown, want, "{body}");
    }

    #[test]
    fn what_scripts_print_is_taken_and_failures_say_why() {
        check("echo '{\"_meta\": {}}'; echo warned >&2", "{\"_meta\": {}} {}");
        check(
            "[ $1 = --list ] && echo '{\"g\": [\"h\"]}' || printf '{\"x\": \"%s\"}' $2",
            r#"{"g": ["h"]} {"h": "{\"x\": \"h\"}"}"#,
        );
        check(
            "echo oh no >&2; echo more >&2; exit 3",
            "s.sh: found --list: exit code 3, and said: oh no; wanted exit code 0",
        );
        check("kill -9 $$", "s.sh: found --list: killed by signal 9; wanted exit code 0");
        check("printf '\\377'", "s.sh: found --list: bytes that are not UTF-8; wanted UTF-8");
        check(
            "cat; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort",
            &format!("LANG=C.UTF-8\nPATH={PATH} {{}}"),
        );
        check("yes | head -c 20000000", "s.sh: found --list: more than 16 MiB; wanted less output; it was killed");
        check(
            "echo 'Traceback:' >&2; echo '  x' >&2; echo 'KeyError: 1' >&2; exit 1",
            "s.sh: found --list: exit code 1, and said: KeyError: 1; wanted exit code 0",
        );
    }

    #[test]
    fn a_script_that_hangs_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "sleep 300 & echo $! > pids; echo $$ >> pids; echo '{}'; wait", 0o755);
        let begun = Instant::now();
        let said = ask(&[path], options(700, 1)).remove(0).0.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(said.found, "--list: no end in time");
        for pid in std::fs::read_to_string(dir.path().join("pids")).unwrap().lines() {
            // A killed one may still wait for whoever inherits it to take notice.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        }
        // What is left in the background holds nobody up, though it has the output open.
        let path = script(dir.path(), "sleep 300 & echo '{}' ", 0o755);
        assert!(ask(&[path], options(500, 1)).remove(0).0.is_err());
    }

    #[test]
    fn answers_are_kept_for_their_time_and_not_for_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "echo x >> runs; echo '{}'", 0o755);
        let runs = || std::fs::read_to_string(dir.path().join("runs")).unwrap().lines().count();
        let paths = [path.clone(), path];
        let (_, expires) = ask(&paths[..1], options(5_000, 60_000)).remove(0);
        assert!(expires > Instant::now() + Duration::from_secs(50));
        ask(&paths[..1], options(5_000, 60_000));
        assert_eq!(runs(), 1);
        script(dir.path(), "echo x >> runs; echo '{ }'", 0o755);
        ask(&paths[..1], options(5_000, 300));
        assert_eq!(runs(), 2);
        let begun = Instant::now();
        while runs() == 2 {
            ask(&paths[..1], options(5_000, 300));
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        assert!(begun.elapsed() > Duration::from_millis(100));
    }

    #[test]
    fn what_others_can_write_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let said =
            |path: &PathBuf| ask(std::slice::from_ref(path), options(5_000, 1)).remove(0).0.unwrap_err().to_string();
        let path = script(dir.path(), "touch ran; echo '{}'", 0o775);
        assert_eq!(
            said(&path),
            "s.sh: found a script that others can write (mode 775); wanted the script that only its owner can write: chmod go-w"
        );
        let path = script(dir.path(), "touch ran; echo '{}'", 0o755);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(said(&path).contains("wanted the directory "), "{}", said(&path));
        if geteuid().is_root() {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
            assert!(said(&path).contains("a script that user 4242 could replace"), "{}", said(&path));
        }
        assert!(!dir.path().join("ran").exists());
    }
}
