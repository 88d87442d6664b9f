//! The processes that speak SSH: starting them, giving them connections, and what is done when one ends. Floor 3.
//!
//! **Invariant:** a worker that ends takes nothing with it but its own connections, whose steps go on at their hosts and are
//! asked again. Whoever was connected to one that broke is given a worker of its own for a while: if what a host says ends the
//! process that reads it, no other host is harmed twice. One that does not show that it lives is killed.

use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::error::SshError;
use crate::adapters::ssh::agent::{Agent, Keyring, SOCKET};
use crate::adapters::ssh::descriptors::is_short;
use crate::adapters::ssh::frame::{Order, Report, Wire};
use crate::base::text::visible;

/// How many connections one worker has before another is started.
const CONNECTIONS_EACH: usize = 64;
/// How many workers there are at most, but for those with one connection.
const WORKERS_MAX: usize = 16;
/// How long somebody whose worker broke is given one of its own.
const SUSPECT_FOR: Duration = Duration::from_mins(10);
/// How long a worker may not show that it lives.
const SILENT_LIMIT: Duration = Duration::from_secs(30);
/// How long it is tried to hand over a connection: the worker reads them at once.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);
/// How often another worker is tried where one has ended.
const TRIES: u32 = 3;
/// How much is kept of what a worker complains of.
const SAID_BYTES_MAX: u64 = 2048;
/// The word by which the program knows that it is to be a worker.
pub(super) const VERB: &str = "ssh-worker";

/// What a worker is told with the descriptors of a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HandOver {
    /// A connection to a host: the wire, and the connection.
    Connection {
        number: u64,
        to: Destination,
        /// Whether it is only to say what the host offers.
        explain: bool,
    },
    /// A way through a connection that leads others through: its far end.
    Way { connection: u64, number: u64, address: String, port: u16 },
}

/// What a worker knows of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Destination {
    /// `address:port`.
    pub(super) place: String,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) host_keys: Vec<String>,
    /// How long greeting may take.
    pub(super) left_ms: u64,
    /// How long all of it was to take.
    pub(super) limit_ms: u64,
    pub(super) keepalive_ms: u64,
    /// Whether the connection is TCP, or the end of a way.
    pub(super) tcp: bool,
}

/// The processes that speak SSH. A clone is another handle of the same ones.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    program: PathBuf,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    workers: Vec<Arc<Worker>>,
    /// Places whose worker broke, and when.
    suspects: HashMap<String, Instant>,
    /// The number of the last worker and connection.
    number: u64,
}

/// One process. It ends when this is dropped.
#[derive(Debug)]
struct Worker {
    number: u64,
    socket: OwnedFd,
    agent: Arc<Agent>,
    /// Whether it is for one connection only.
    alone: bool,
    /// The places of its connections.
    places: Mutex<HashMap<u64, String>>,
    /// Whether it has ended.
    over: std::sync::atomic::AtomicBool,
    /// Its directory.
    dir: PathBuf,
    /// Told when it is to end.
    ending: Arc<Notify>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.ending.notify_one();
        // What is left behind is removed at the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    fn connections(&self) -> usize {
        lock(&self.places).len()
    }

    fn is_over(&self) -> bool {
        self.over.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Workers {
    /// Makes workers of `program` whose directories lie in `dir`, which is emptied. None is started before it is needed.
    #[must_use]
    pub fn new(program: PathBuf, dir: PathBuf) -> Workers {
        // What was left by one that was killed. Where it cannot be removed, nothing can be made there either.
        let _ = fs::remove_dir_all(&dir);
        Workers(Arc::new(Pool { program, dir, state: Mutex::default() }))
    }

    /// Makes workers of the program that this process runs, whatever lies at its path by now.
    #[must_use]
    pub fn of_this_program(dir: PathBuf) -> Workers {
        Workers::new(PathBuf::from("/proc/self/exe"), dir)
    }

    /// Gives a connection to a worker; returns its slot there and the wire to it.
    pub(super) async fn slot(
        &self,
        to: Destination,
        connection: impl AsFd,
        explain: bool,
    ) -> Result<(Slot, Wire<Report, Order>), SshError> {
        let place = to.place.clone();
        let failed = |error: &io::Error| -> SshError {
            let host = place.clone();
            let why = format!("the process for it could not be started: {error}");
            if is_short(error) { SshError::Short { host, why } } else { SshError::Worker { host, why } }
        };
        let (near, far) = UnixStream::pair().map_err(|error| failed(&error))?;
        let mut tries = 0_u32;
        let slot = loop {
            let (worker, number) = self.choose(&place).map_err(|error| failed(&error))?;
            let slot = Slot { workers: self.clone(), worker, number };
            let words = HandOver::Connection { number, to: to.clone(), explain };
            match slot.hand_over(&words, &[far.as_fd(), connection.as_fd()]).await {
                Ok(()) => break slot,
                // It ended a moment ago, and took nothing.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && tries < TRIES => {
                    slot.worker.over.store(true, std::sync::atomic::Ordering::Relaxed);
                    tries = tries.saturating_add(1);
                }
                Err(error) => return Err(failed(&error)),
            }
        };
        let wire = Wire::new(near).map_err(|error| failed(&error))?;
        Ok((slot, wire))
    }

    /// Chooses a worker for a place, or starts one.
    fn choose(&self, place: &str) -> io::Result<(Arc<Worker>, u64)> {
        let mut state = lock(&self.0.state);
        state.suspects.retain(|_, since| since.elapsed() < SUSPECT_FOR);
        state.workers.retain(|worker| !worker.is_over());
        let alone = state.suspects.contains_key(place);
        let shared = || state.workers.iter().filter(|worker| !worker.alone);
        let least = shared()
            .min_by_key(|worker| worker.connections())
            .filter(|least| !alone && (least.connections() < CONNECTIONS_EACH || shared().count() >= WORKERS_MAX));
        let least = least.map(Arc::clone);
        state.number = state.number.saturating_add(1);
        let number = state.number;
        let worker = if let Some(worker) = least {
            worker
        } else {
            let worker = self.start(number, alone)?;
            state.workers.push(Arc::clone(&worker));
            worker
        };
        lock(&worker.places).insert(number, place.to_owned());
        Ok((worker, number))
    }

    fn start(&self, number: u64, alone: bool) -> io::Result<Arc<Worker>> {
        let dir = made(&self.0.dir, number)?;
        let listener = Agent::bind(&dir)?;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
        let mut command = Command::new(&self.0.program);
        command.arg(VERB).current_dir(&dir).env_clear().env("SSH_AUTH_SOCK", SOCKET);
        command.stdin(Stdio::from(far)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        // It holds the far end too, and the worker would not see that this process is gone.
        drop(command);
        let agent = Arc::new(Agent::default());
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            agent.belongs_to(pid);
        }
        let (places, over) = (Mutex::default(), std::sync::atomic::AtomicBool::new(false));
        let ending = Arc::<Notify>::default();
        let end = Arc::clone(&ending);
        let worker =
            Arc::new(Worker { number, socket: near, agent: Arc::clone(&agent), alone, places, over, dir, ending });
        tokio::spawn(watch(child, self.clone(), Arc::downgrade(&worker), agent.serve(listener), end));
        Ok(worker)
    }

    /// Takes in that a worker has ended before nobody needed it any more.
    fn lost(&self, worker: &Worker, how: &str) {
        worker.over.store(true, std::sync::atomic::Ordering::Relaxed);
        let places: Vec<String> = lock(&worker.places).values().cloned().collect();
        let mut state = lock(&self.0.state);
        state.workers.retain(|other| other.number != worker.number);
        let shown: Vec<&str> = places.iter().take(5).map(String::as_str).collect();
        tracing::error!(
            connections = places.len(),
            hosts = %shown.join(", "),
            "a process that speaks SSH {how}; its steps go on at their hosts, which are connected to again, each by a process of its own"
        );
        let now = Instant::now();
        state.suspects.extend(places.into_iter().map(|place| (place, now)));
    }
}

/// Makes the directory of one worker, which other accounts may pass through and not look into.
fn made(dir: &Path, number: u64) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let made = dir.join(number.to_string());
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&made)?;
    for dir in [dir, &made] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711))?;
    }
    Ok(made)
}

/// Owns a process until it has ended: it says now and then that it lives.
async fn watch(
    mut child: Child,
    workers: Workers,
    worker: std::sync::Weak<Worker>,
    agent: impl Future<Output = ()> + Send + 'static,
    end: Arc<Notify>,
) {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = tokio::spawn(async move {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said).await;
        }
        said
    });
    let agent = tokio::spawn(agent);
    let (mut silent, mut first) = (false, true);
    if let Some(mut stdout) = stdout {
        let mut words = [0; 512];
        loop {
            let heard = tokio::select! {
                heard = timeout(SILENT_LIMIT, stdout.read(&mut words)) => heard,
                () = end.notified() => break,
            };
            match heard {
                Ok(Ok(count)) if count > 0 => {
                    if std::mem::take(&mut first) {
                        tell_confinement(&String::from_utf8_lossy(&words[..count]));
                    }
                }
                Ok(_) => break,
                Err(_) => {
                    silent = true;
                    break;
                }
            }
        }
    }
    let status = match timeout(Duration::from_secs(1), child.wait()).await {
        Ok(status) if !silent => status.ok(),
        _ => {
            // It cannot refuse, nor can anything that it started; gone already is as good.
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            let _ = child.kill().await;
            None
        }
    };
    agent.abort();
    if let Some(worker) = worker.upgrade() {
        let said = timeout(Duration::from_secs(1), said).await.ok().and_then(Result::ok).unwrap_or_default();
        workers.lost(&worker, &ending(silent, status, &said));
    }
}

/// Says once what the processes that speak SSH may not do, and what this system lets them do all the same.
fn tell_confinement(said: &str) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| {
        let line = visible(said.lines().next().unwrap_or_default());
        if line.contains("=no") || line.contains("=open") {
            tracing::warn!("what hosts send is read by processes that this system confines in part only: {line}");
        } else {
            tracing::info!("what hosts send is read by processes of their own: {line}");
        }
    });
}

/// Says how a worker ended.
fn ending(silent: bool, status: Option<ExitStatus>, said: &[u8]) -> String {
    let how = match status {
        _ if silent => format!("did not answer for {SILENT_LIMIT:?} and was killed"),
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, code) => format!("ended with {}", code.unwrap_or_default()),
        },
        None => "had to be killed".to_owned(),
    };
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    if said.is_empty() { how } else { format!("{how} (it said: {})", visible(said)) }
}

/// The place of one connection in a worker. When it is dropped the worker is free of it.
pub(super) struct Slot {
    workers: Workers,
    worker: Arc<Worker>,
    number: u64,
}

impl Slot {
    /// Takes in that the connection's process is gone, perhaps because of what its host said.
    pub(super) fn suspect(&self) {
        let place = lock(&self.worker.places).get(&self.number).cloned();
        if let Some(place) = place {
            lock(&self.workers.0.state).suspects.insert(place, Instant::now());
        }
    }

    /// Takes in that the connection's process does not do its work: it is ended.
    pub(super) fn retire(&self) {
        self.suspect();
        self.worker.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.worker.ending.notify_one();
    }

    /// Lists keys to the worker, which asks next for this connection.
    pub(super) fn lend(&self, keyring: &Arc<Keyring>) {
        self.worker.agent.lend(keyring);
    }

    /// Hands the far end of a way over.
    pub(super) async fn lead(&self, number: u64, address: &str, port: u16, far: &UnixStream) -> io::Result<()> {
        let words = HandOver::Way { connection: self.number, number, address: address.to_owned(), port };
        self.hand_over(&words, &[far.as_fd()]).await
    }

    async fn hand_over(&self, words: &HandOver, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let words = serde_json::to_vec(words)?;
        let until = Instant::now() + HAND_OVER_LIMIT;
        loop {
            match pass(&self.worker.socket, &words, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                other => return other,
            }
        }
    }
}

/// Sends words and descriptors in one message.
fn pass(socket: &OwnedFd, words: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    sendmsg(socket, &[IoSlice::new(words)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.worker.places).remove(&self.number);
        if self.worker.connections() == 0 {
            let mut state = lock(&self.workers.0.state);
            // One is kept for the next connection.
            let others = state.workers.iter().any(|other| other.number != self.worker.number && !other.alone);
            if self.worker.alone || others {
                state.workers.retain(|other| other.number != self.worker.number);
            }
        }
    }
}
