//! Runs commands on this machine, for hosts that the inventory calls local. Floor 3.
//!
//! **Invariant:** the same shape as a command over SSH: stdin is fed while both streams are read, exit code and
//! signal are told apart. The process leads its own group, so a kill by process group reaches all of it.

use std::io::{self, BufRead};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::domain::output::{ExecEnd, Stream};

/// How long a process that was left in the background may hold the streams open after the command's end.
const LINGER: Duration = Duration::from_secs(2);
/// How much is read at once.
const BUFFER_BYTES: usize = 32 << 10;

/// Why a command did not end as a command ends.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It was not started.
    #[error("cannot start {command} on this machine: {source}")]
    NotStarted {
        /// What was to be started.
        command: String,
        /// Why it was not.
        source: io::Error,
    },
    /// It was started and lost from sight.
    #[error("lost sight of {command} on this machine: {source}")]
    Lost {
        /// What was started.
        command: String,
        /// What happened.
        source: io::Error,
    },
}

impl LocalError {
    /// Whether nothing of the command ran.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        matches!(self, LocalError::NotStarted { .. })
    }
}

/// This machine, as a host.
#[derive(Debug, Default)]
pub struct LocalShell {}

impl LocalShell {
    /// Returns this machine.
    #[must_use]
    pub fn new() -> LocalShell {
        LocalShell {}
    }

    /// Runs `command` with `stdin` and hands its output to `sink` as it comes. When the future is dropped the
    /// command goes on.
    ///
    /// # Errors
    /// When it cannot be started, or waiting for it fails.
    pub async fn exec(
        &mut self,
        command: &[String],
        stdin: impl BufRead + Send,
        sink: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, LocalError> {
        let mut child =
            start(command).map_err(|source| LocalError::NotStarted { command: command.join(" "), source })?;
        let status = pump(&mut child, stdin, sink).await;
        let status = status.map_err(|source| LocalError::Lost { command: command.join(" "), source })?;
        Ok(end_of(status))
    }
}

/// What a command on this machine keeps of our own environment: what a login would give it. Whatever else we were started
/// with (credentials, an agent's socket) is not for scripts.
const KEPT: &[&str] = &["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];

/// Starts a command of our own making.
fn start(command: &[String]) -> io::Result<Child> {
    // A session of its own, as sshd gives one: a process group whose parent dies in the same session gets HUP, where something
    // in it is stopped, and the runner stops a shell.
    Command::new("setsid")
        .args(command)
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

async fn pump(
    child: &mut Child,
    mut stdin: impl BufRead + Send,
    sink: &mut (impl FnMut(Stream, &[u8]) + Send),
) -> io::Result<ExitStatus> {
    let (mut input, mut out, mut err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(input) = &mut input {
            loop {
                let count = match stdin.fill_buf() {
                    Ok([]) => break,
                    // A command may end without reading everything.
                    Ok(piece) => match input.write_all(piece).await {
                        Ok(()) => piece.len(),
                        Err(_) => break,
                    },
                    // What was not sent whole is not taken for whole: its reader counts and compares.
                    Err(error) => {
                        tracing::error!("what is to be sent cannot be read: {error}");
                        break;
                    }
                };
                stdin.consume(count);
            }
        }
        drop(input);
    };
    tokio::pin!(feed);
    let (mut out_buffer, mut err_buffer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let (mut fed, mut status) = (false, None);
    let linger = tokio::time::sleep(Duration::MAX);
    tokio::pin!(linger);
    while out.is_some() || err.is_some() || status.is_none() {
        tokio::select! {
            () = &mut feed, if !fed => fed = true,
            count = read(&mut out, &mut out_buffer), if out.is_some() => match count? {
                0 => out = None,
                count => sink(Stream::Out, &out_buffer[..count]),
            },
            count = read(&mut err, &mut err_buffer), if err.is_some() => match count? {
                0 => err = None,
                count => sink(Stream::Err, &err_buffer[..count]),
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                linger.as_mut().reset(tokio::time::Instant::now() + LINGER);
            }
            () = &mut linger, if status.is_some() => break,
        }
    }
    status.ok_or_else(|| io::Error::other("it ended without a status"))
}

async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => Ok(0),
    }
}

fn end_of(status: ExitStatus) -> ExecEnd {
    match status.signal() {
        Some(number) => {
            let name =
                Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned());
            ExecEnd::Signal(name.trim_start_matches("SIG").to_owned())
        }
        None => ExecEnd::Exit(status.code().unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, want: &ExecEnd, out: &str, err: &str) {
        let (mut seen_out, mut seen_err) = (Vec::new(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let end = runtime.block_on(LocalShell::new().exec(
            &["/bin/sh".to_owned()],
            script.as_bytes(),
            &mut |stream, bytes: &[u8]| match stream {
                Stream::Out => seen_out.extend_from_slice(bytes),
                Stream::Err => seen_err.extend_from_slice(bytes),
            },
        ));
        assert_eq!(end.unwrap(), *want, "{script}");
        assert_eq!((seen_out.as_slice(), seen_err.as_slice()), (out.as_bytes(), err.as_bytes()), "{script}");
    }

    #[test]
    fn streams_codes_and_signals_are_told_apart() {
        check("echo a; echo b >&2; exit 3\n", &ExecEnd::Exit(3), "a\n", "b\n");
        check("kill -KILL $$\n", &ExecEnd::Signal("KILL".to_owned()), "", "");
        check("exit 255\n", &ExecEnd::Exit(255), "", "");
        check("sleep 100 & echo left one behind\n", &ExecEnd::Exit(0), "left one behind\n", "");
    }
}
