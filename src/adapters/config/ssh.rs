//! Asks OpenSSH what its configuration says of hosts: `ssh -G`.
//!
//! **Invariant:** `ssh` connects nowhere here; a name is never taken for an option. A configuration counts only when nobody but
//! root and this process's user could have written it, since it may run commands (`Match exec`). Answers are kept while all
//! files of it are what they were, those that it includes too.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::geteuid;

use super::script::{Stopped, drain, wait};
use crate::base::limits;
use crate::base::text::visible;
use crate::domain::known_hosts::KnownHosts;
use crate::domain::problem::Problem;
use crate::domain::ssh_config::{Answer, Answers, Query, Source, read};

/// The word for the configuration of whoever runs this, with the system's behind it, as `ssh` without `-F` reads it.
const OWN: &str = "user";
/// How many processes are asked at once.
const ASKED_AT_ONCE: usize = 4;
/// A name that stands for no host: with it the files are found that belong to the configuration, and their mistakes.
const NOBODY: &str = "spoolgate.invalid";

/// How much is shown of what it complains of, in characters.
const SAID_CHARS_MAX: usize = 300;
/// What it and the commands of `Match exec` get of this process's environment.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK"];

/// What `spoolgate.toml` says of it.
pub(super) struct Wish<'a> {
    pub(super) config: &'a str,
    pub(super) user: Option<String>,
    pub(super) key: Option<String>,
    pub(super) home: &'a Path,
    pub(super) local_user: &'a str,
}

/// Where answers come from, the files and directories that it depends on, and when it must be looked at again.
pub(super) type Found = (Answers, Vec<PathBuf>, Option<Instant>);

/// Looks at a configuration.
///
/// # Errors
/// When it cannot be read, is wrong, or could have been written by others.
pub(super) fn look(wish: Wish<'_>) -> Result<Found, Problem> {
    let files = if wish.config == OWN {
        vec![wish.home.join(".ssh/config"), PathBuf::from("/etc/ssh/ssh_config")]
    } else {
        vec![PathBuf::from(wish.config)]
    };
    let problem = |found: String, wanted: &str| Problem::new("spoolgate.toml: [ssh] config", found, wanted);
    if let Some(missing) = files.iter().find(|file| wish.config != OWN && !file.is_file()) {
        return Err(problem(missing.display().to_string(), "an ssh_config file, or \"user\""));
    }
    let mut source = Source {
        files: files.iter().map(|file| file.display().to_string()).collect(),
        user: wish.user,
        key: wish.key,
        home: wish.home.display().to_string(),
        local_user: wish.local_user.to_owned(),
        print: 0,
    };
    let deadline = Instant::now() + Duration::from_secs(limits::SSH_CONFIG_TIMEOUT_S);
    let (_, said) = run(&source, &["-v", "--", NOBODY].map(str::to_owned), deadline)
        .map_err(|why| problem(wish.config.to_owned(), &format!("a configuration that ssh -G reads: {why}")))?;
    let named = said.lines().filter_map(|line| line.trim().split_once("Reading configuration data "));
    let read: BTreeSet<PathBuf> = named.map(|(_, path)| PathBuf::from(path)).filter(|path| path.is_file()).collect();
    let mut watched: Vec<PathBuf> = files.clone();
    for file in &read {
        check_owner(file).map_err(|(found, wanted)| problem(found, &wanted))?;
        // What is included by a pattern may get company.
        let included = !files.contains(file);
        watched.extend(included.then(|| file.parent().map(Path::to_owned)).flatten());
        watched.push(file.clone());
    }
    let runs = read.iter().any(|file| runs_commands(&std::fs::read_to_string(file).unwrap_or_default()));
    let (print, expires) = print_of(&watched, runs);
    source.print = print;
    Ok((Answers { source, ..Answers::default() }, watched, expires))
}

/// Checks who could have written a file.
fn check_owner(file: &Path) -> Result<(), (String, String)> {
    let meta = file.metadata().map_err(|error| (format!("{}: {error}", file.display()), "a file".to_owned()))?;
    let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    if ours && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    let found = format!("{}, which others can write", file.display());
    Err((found, "files of root or of the user who reads them, that only their owner can write: chmod go-w".to_owned()))
}

/// Whether a configuration runs commands to find out what it says.
fn runs_commands(text: &str) -> bool {
    let lines = text.lines().map(|line| line.trim().to_ascii_lowercase());
    lines.into_iter().any(|line| line.starts_with("match") && line.contains("exec"))
}

/// Returns a number that another state of the files hardly has. What commands say does not stand in a file: it is
/// good for a while.
fn print_of(files: &[PathBuf], runs: bool) -> (u64, Option<Instant>) {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let kept = Duration::from_secs(limits::SSH_CONFIG_CACHE_S);
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        if let Ok(meta) = file.metadata() {
            (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
            (meta.ctime(), meta.ctime_nsec()).hash(&mut hasher);
        }
    }
    if !runs {
        return (hasher.finish(), None);
    }
    BEGUN.elapsed().as_secs().checked_div(kept.as_secs()).hash(&mut hasher);
    (hasher.finish(), Some(Instant::now() + kept))
}

/// The answers of this process, as long as they come from the same source.
static KEPT: Mutex<Option<(Source, BTreeMap<Query, Answer>)>> = Mutex::new(None);

/// Asks what is not answered yet, some at once, and reads the files of host keys that the answers name.
pub fn ask(answers: &mut Answers, queries: &BTreeSet<Query>) {
    let source = &answers.source;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, known) = kept.take().filter(|(of, _)| of == source).unwrap_or_else(|| (source.clone(), BTreeMap::new()));
    let open = Mutex::new(queries.iter().filter(|query| !known.contains_key(*query)));
    let deadline = Instant::now() + Duration::from_secs(limits::SSH_CONFIG_ALL_TIMEOUT_S);
    let turn = || {
        let mut said = Vec::new();
        let next = || open.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(query) = next() {
            said.push((query.clone(), ask_one(source, query, deadline)));
        }
        said
    };
    let said: Vec<(Query, Result<Answer, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ASKED_AT_ONCE.min(queries.len())).map(|_| scope.spawn(turn)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let mut known = known;
    known.extend(said.iter().filter_map(|(query, said)| Some((query.clone(), said.clone().ok()?))));
    for query in queries {
        let answer = known.get(query).map(|answer| Ok(answer.clone()));
        let failed = || said.iter().find(|(of, _)| of == query).map(|(_, said)| said.clone());
        let answer = answer.or_else(failed).unwrap_or_else(|| Err("ssh -G was not asked".to_owned()));
        for file in answer.iter().flat_map(|answer| &answer.known_hosts) {
            let read = || KnownHosts::parse(&std::fs::read_to_string(file).unwrap_or_default());
            answers.known_hosts.entry(file.clone()).or_insert_with(read);
        }
        answers.said.insert(query.clone(), answer);
    }
    *kept = Some((answers.source.clone(), known));
}

fn ask_one(source: &Source, query: &Query, deadline: Instant) -> Result<Answer, String> {
    let mut words = Vec::new();
    words.extend(query.address.as_ref().map(|address| format!("-oHostName={address}")));
    words.extend(query.port.map(|port| format!("-oPort={port}")));
    if let Some(user) = &query.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    words.extend(["--".to_owned(), query.name.clone()]);
    let limit = Instant::now() + Duration::from_secs(limits::SSH_CONFIG_TIMEOUT_S);
    let (text, _) = run(source, &words, limit.min(deadline))?;
    let mut answer = read(&text, query, source)?;
    // ssh has a list of files that may be there when nobody names one.
    for files in [&mut answer.keys, &mut answer.certificates] {
        files.retain(|file| Path::new(file).is_file());
    }
    Ok(answer)
}

/// The configuration that `ssh` reads: the files, and behind them what `spoolgate.toml` says for whom they say nothing.
fn wrapper(source: &Source) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text: String = source.files.iter().map(|file| format!("Include {}\n", quoted(file))).collect();
    text.push_str("Host *\n");
    text.extend(source.user.iter().map(|user| format!("User {}\n", quoted(user))));
    text.extend(source.key.iter().map(|key| format!("IdentityFile {}\n", quoted(&key.replace('%', "%%")))));
    text
}

/// Runs `ssh -G` once and returns what it printed on both streams.
fn run(source: &Source, words: &[String], deadline: Instant) -> Result<(String, String), String> {
    let failed = |error: &dyn std::fmt::Display| format!("ssh -G was not started: {error}");
    // A file that has no name: it can be read twice (`Match final`), and nobody else can change it.
    let file = memfd_create("ssh_config", MFdFlags::MFD_CLOEXEC).map_err(|error| failed(&error))?;
    let mut file = std::fs::File::from(file);
    file.write_all(wrapper(source).as_bytes()).map_err(|error| failed(&error))?;
    let mut command = Command::new("ssh");
    command.args(["-G", "-F", "/dev/stdin"]).args(words).current_dir("/").process_group(0).env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).env("LC_ALL", "C");
    command.stdin(Stdio::from(file)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let (stdout, stderr) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
    let ended = wait(&mut child, stdout, deadline);
    let said = stderr.and_then(|stream| stream.recv_timeout(Duration::from_millis(200)).ok()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let complaint = || {
        let noise = ["debug", "OpenSSH_", "Pseudo-terminal"];
        let mut lines = said.lines().map(str::trim).filter(|line| !noise.iter().any(|word| line.starts_with(word)));
        let first = lines.find(|line| !line.is_empty());
        let shown = first.map(|line| visible(line).chars().take(SAID_CHARS_MAX).collect::<String>());
        shown.map(|line| format!(", and said: {line}")).unwrap_or_default()
    };
    match ended {
        Ok((status, bytes)) if status.success() => Ok((String::from_utf8_lossy(&bytes).into_owned(), said)),
        Ok(_) => Err(format!("ssh -G failed{}", complaint())),
        Err(Stopped::Late) => Err(format!("ssh -G did not end in time{}", complaint())),
        Err(Stopped::TooLong | Stopped::Lost(_)) => Err(format!("ssh -G was lost{}", complaint())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_seen_and_texts_quoted() {
        assert!(runs_commands("Host a\n  Match host b exec \"test -f /x\"\n"));
        assert!(!runs_commands("Host exec\n# Match exec x\nMatch user x\n"));
        let source = Source {
            files: vec!["/a b".to_owned()],
            user: Some("d\\\"u".to_owned()),
            key: Some("/k%h".to_owned()),
            ..Source::default()
        };
        let want = "Include \"/a b\"\nHost *\nUser \"d\\\\\\\"u\"\nIdentityFile \"/k%%h\"\n";
        assert_eq!(wrapper(&source), want);
    }
}
