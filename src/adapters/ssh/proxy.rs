//! A command that a connection goes through: its standard input and output are the way. Floor 3.
//!
//! **Invariant:** the command stands in configuration and in the plan, never in a task. It and everything that it started in its
//! process group are ended when the connection is: TERM, then KILL, and it is waited for. What it complains of is kept for
//! the error of a connection that did not come about, the beginning of it only.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How much is kept of what it writes to its standard error.
const SAID_BYTES_MAX: usize = 4096;
/// How long it may take to end after TERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long its last words are waited for.
const WORDS_LIMIT: Duration = Duration::from_millis(500);
/// What it gets of this process's environment: what finds programs, files of the account and its agent.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "LANG", "SSH_AUTH_SOCK"];

/// A command that runs. It is ended when this is dropped.
pub(super) struct Proxy {
    said: Arc<Mutex<Vec<u8>>>,
    over: JoinHandle<()>,
    /// Nobody sends on it: that it is gone is the message.
    _open: oneshot::Sender<()>,
}

impl Proxy {
    /// Starts a command; the stream is the way through it.
    pub(super) fn start(text: &str) -> io::Result<(UnixStream, Proxy)> {
        let (near, far) = UnixStream::pair()?;
        let (input, output) = (OwnedFd::from(far.try_clone()?), OwnedFd::from(far));
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(text).current_dir("/").env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        // It holds the far end too, and nobody would see that the command's end is closed.
        drop(command);
        let stderr = child.stderr.take();
        let said = Arc::default();
        let (open, closed) = oneshot::channel();
        let over = tokio::spawn(watch(child, stderr, Arc::clone(&said), closed));
        Ok((near, Proxy { said, over, _open: open }))
    }

    /// Returns what it complained of. It is given a moment to end: who hangs up says why, often a little later.
    pub(super) async fn last_words(&mut self) -> String {
        // One that goes on has said what it had to say.
        let _ = timeout(WORDS_LIMIT, &mut self.over).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The process group of a command that may still run; it is killed when its owner goes away.
struct Group(Option<Pid>);

impl Group {
    /// Signals everybody in it. Gone already is as good.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Owns the command until it has ended.
async fn watch(
    mut child: Child,
    mut stderr: Option<ChildStderr>,
    said: Arc<Mutex<Vec<u8>>>,
    mut closed: oneshot::Receiver<()>,
) {
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    loop {
        tokio::select! {
            _ = &mut closed => break,
            more = listen(&mut stderr, &said), if stderr.is_some() => if !more { stderr = None },
            _ = child.wait() => {
                // Whom it left behind ends with it, while the number is still theirs.
                group.signal(Signal::SIGKILL);
                group.0 = None;
                let rest = async { while listen(&mut stderr, &said).await {} };
                // Somebody who left the group may hold the stream open.
                let _ = timeout(WORDS_LIMIT / 2, rest).await;
                return;
            }
        }
    }
    group.signal(Signal::SIGTERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        group.signal(Signal::SIGKILL);
        // It cannot refuse; what the system says of its end tells nothing more.
        let _ = child.wait().await;
    }
    // The group keeps its number as long as anybody is in it.
    if group.0.is_some_and(|pid| killpg(pid, None).is_err()) {
        group.0 = None;
    }
}

/// Takes what comes next on standard error; false at its end.
async fn listen(stderr: &mut Option<ChildStderr>, said: &Mutex<Vec<u8>>) -> bool {
    let Some(stream) = stderr else { return false };
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer).await.unwrap_or(0);
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let room = SAID_BYTES_MAX.saturating_sub(said.len());
    said.extend_from_slice(&buffer[..count.min(room)]);
    count > 0
}
