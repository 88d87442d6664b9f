//! The seam to a host: over SSH or on this machine, the same four things. Floor 4.
//!
//! **Invariant:** connect, exec with streams, close; nothing else is known of a transport above this file. No conversation goes on
//! in which nothing moves: each has a limit for its first word and, but for a step's, one for what comes after it.

use std::collections::HashMap;
use std::io::{BufRead, Cursor};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::adapters::config::Settings;
use crate::adapters::file_folder::FileFolder;
use crate::adapters::local::LocalShell;
use crate::adapters::random;
use crate::adapters::secrets::Secrets;
use crate::adapters::ssh::SshError;
use crate::adapters::ssh::{Passphrase, Target};
use crate::adapters::ssh::{Session, Tunnel, Workers, descriptors};
use crate::base::ids::SecretName;
use crate::base::limits;
use crate::domain::inventory::host::Connection;
use crate::domain::output::{ExecEnd, Stream};
use crate::domain::plan::{PlannedHop, PlannedHost};
use crate::domain::runner::answer::Answer;
use crate::domain::runner::{Program, command_line};
use crate::shells::daemon::progress::Progress;

/// What every connection is made with.
#[derive(Clone, Debug)]
pub(super) struct LinkSettings {
    pub(super) connect_timeout: Duration,
    pub(super) first_word: Duration,
    pub(super) keepalive: Duration,
    pub(super) agent: bool,
    pub(super) tunnels: Tunnels,
    pub(super) workers: Workers,
    pub(super) secrets: Secrets,
    /// The files that steps copy.
    pub(super) files: FileFolder,
}

impl LinkSettings {
    /// Makes what a configuration says; files to copy lie in a folder beside it.
    pub(super) fn of(settings: &Settings, config_dir: &Path, workers: Workers) -> LinkSettings {
        LinkSettings {
            connect_timeout: settings.connect_timeout,
            first_word: settings.first_word,
            keepalive: settings.keepalive,
            agent: settings.agent,
            tunnels: Tunnels::default(),
            workers,
            files: FileFolder::new(config_dir.join("files")),
            secrets: Secrets::new(settings.secrets.directories.clone(), settings.secrets.file.clone()),
        }
    }

    /// Reads the passphrase of a key file.
    fn passphrase(&self, secret: &SecretName) -> Passphrase {
        let value = self.secrets.read(secret).map_err(|error| error.to_string());
        Passphrase { secret: secret.clone(), value }
    }
}

/// How many connections to one sshd may be on their way in at once. Its default (`MaxStartups 10:30:100`) begins to drop
/// some from ten on.
const STARTS_MAX: usize = 8;
/// How often a connection that was dropped on its way in is tried again at once.
const DROPPED_TRIES: u32 = 3;
/// How long what a host on the way said no to counts for others, who would hear the same.
const FAILURE_COUNTS: Duration = Duration::from_secs(3);
/// How long a host waits for file descriptors.
pub(super) const DESCRIPTORS_LIMIT: Duration = Duration::from_mins(10);

/// The connections to hosts on the way, each shared by everybody who goes through it, and who is on their way in where.
#[derive(Clone, Debug, Default)]
pub(super) struct Tunnels {
    doors: Arc<std::sync::Mutex<HashMap<Vec<PlannedHop>, Door>>>,
    starts: Arc<std::sync::Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Tunnels {
    /// Waits until one more connection may begin at a place.
    async fn start_at(&self, place: &str) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            // Places that nobody is on the way to are forgotten.
            starts.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(starts.entry(place.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(STARTS_MAX))))
        };
        gate.acquire_owned().await.ok()
    }

    /// Returns the end of a way to a target behind `hops`, for somebody who has wanted it since `asked`.
    async fn reach(
        &self,
        hops: &[PlannedHop],
        settings: &LinkSettings,
        (target, asked): (&Target, Instant),
    ) -> Result<UnixStream, SshError> {
        let to = format!("{}:{}", target.address, target.port);
        let mut way: Option<Tunnel> = None;
        for (n, hop) in hops.iter().enumerate() {
            let opened = self.door(&hops[..=n]).open(hop, settings, way.as_ref(), asked).await;
            way = Some(opened.map_err(|failure| failure.on_the_way(hop, &to))?);
        }
        match way {
            Some(last) => last.reach(&target.address, target.port).await,
            None => Err(SshError::Connect { host: to, why: "there is no host on the way".to_owned() }),
        }
    }

    /// Returns the place of the one connection to a host on the way.
    fn door(&self, passed: &[PlannedHop]) -> Door {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody waits for and nothing goes through is forgotten, once its failure counts for nobody any more.
        doors.retain(|_, door| Arc::strong_count(&door.0) > 1 || door.0.try_lock().is_ok_and(|door| door.counts()));
        doors.entry(passed.to_vec()).or_default().clone()
    }
}

/// How long a host may be at work on an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(limits::ANSWER_S);

fn no_answer() -> LinkError {
    LinkError::broken(format!("the host neither took nor said anything for {ANSWER_LIMIT:?}"))
}

fn no_word(limit: Duration) -> LinkError {
    let why = format!(
        "the host's shell said nothing for {limit:?}, so nothing was started: its login files, or a command that its sshd \
         forces, wait, read what is sent, or start another program; look at what `ssh HOST echo ok` does"
    );
    LinkError { silent: true, ..LinkError::broken(why) }
}

/// The one connection to a host on the way. Whoever waits for it waits for nobody else's.
#[derive(Clone, Debug, Default)]
struct Door(Arc<Mutex<Behind>>);

/// What is behind a door.
#[derive(Debug, Default)]
struct Behind {
    tunnel: Option<Tunnel>,
    /// When nobody got through last, and why.
    failed: Option<(Instant, Failure)>,
}

/// Why a host on the way was not reached, for everybody who waited.
#[derive(Clone, Debug)]
struct Failure {
    why: String,
    /// Whether another try may do.
    gone: bool,
    /// Whether it was not there, or did not answer.
    unreachable: bool,
    /// Whether this process had no descriptors left.
    short: bool,
}

impl Failure {
    fn of(error: &SshError) -> Failure {
        let short = matches!(error, SshError::Short { .. });
        let gone = error.is_cut() || error.is_crowded();
        Failure { why: error.to_string(), gone, unreachable: error.is_unreachable(), short }
    }

    /// Makes it the error of somebody who wanted to go through.
    fn on_the_way(self, hop: &PlannedHop, to: &str) -> SshError {
        let (host, to) = (format!("{}:{}", hop.address, hop.port), to.to_owned());
        if self.short {
            return SshError::Short { host, why: self.why };
        }
        SshError::Way { host, to, why: self.why, gone: self.gone, unreachable: self.unreachable }
    }
}

impl Behind {
    fn counts(&self) -> bool {
        self.is_open() || self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < FAILURE_COUNTS)
    }

    fn is_open(&self) -> bool {
        self.tunnel.as_ref().is_some_and(Tunnel::is_open)
    }
}

impl Door {
    /// Returns the connection, made over the one before it when there is none.
    async fn open(
        &self,
        hop: &PlannedHop,
        settings: &LinkSettings,
        before: Option<&Tunnel>,
        asked: Instant,
    ) -> Result<Tunnel, Failure> {
        let mut behind = self.0.lock().await;
        if let Some(tunnel) = behind.tunnel.as_ref().filter(|tunnel| tunnel.is_open()) {
            return Ok(tunnel.clone());
        }
        // Of many who wanted it the first one's word is enough; what another try may change counts only for them.
        let counts = |at: Instant, failure: &Failure| if failure.gone { at } else { at + FAILURE_COUNTS };
        if let Some((_, failure)) = behind.failed.as_ref().filter(|(at, failure)| counts(*at, failure) >= asked) {
            return Err(failure.clone());
        }
        let target = hop_target(hop, settings);
        let way = || async {
            match before {
                Some(before) => before.reach(&hop.address, hop.port).await.map(Some),
                None => Ok(None),
            }
        };
        let made = async { Session::connect_over(&target, way().await?).await };
        let made = match made.await {
            Err(error) if error.is_disagreement() => Err(match way().await {
                Ok(way) => Session::explain(error, &target, way).await,
                Err(_) => error,
            }),
            other => other,
        };
        match made {
            Ok(session) => {
                let tunnel = Tunnel::start(session);
                *behind = Behind { tunnel: Some(tunnel.clone()), failed: None };
                Ok(tunnel)
            }
            Err(error) => {
                let failure = Failure::of(&error.masked(&settings.secrets.masker()));
                behind.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }
}

fn hop_target(hop: &PlannedHop, settings: &LinkSettings) -> Target {
    Target {
        address: hop.address.clone(),
        port: hop.port,
        user: hop.user.clone(),
        key: hop.key.as_ref().map(PathBuf::from),
        certificate: hop.certificate.as_ref().map(PathBuf::from),
        passphrase: hop.key_passphrase.as_ref().map(|secret| settings.passphrase(secret)),
        proxy_command: hop.proxy_command.clone(),
        agent: settings.agent,
        host_keys: hop.host_keys.iter().map(ToString::to_string).collect(),
        connect_timeout: settings.connect_timeout,
        keepalive: settings.keepalive,
        workers: settings.workers.clone(),
    }
}

fn host_target(host: &PlannedHost, settings: &LinkSettings) -> Target {
    Target {
        address: host.address.clone(),
        port: host.port,
        user: host.user.clone(),
        key: host.key.as_ref().map(PathBuf::from),
        certificate: host.certificate.as_ref().map(PathBuf::from),
        passphrase: host.key_passphrase.as_ref().map(|secret| settings.passphrase(secret)),
        proxy_command: host.proxy_command.clone(),
        agent: settings.agent,
        host_keys: host.host_keys.iter().map(ToString::to_string).collect(),
        connect_timeout: settings.connect_timeout,
        keepalive: settings.keepalive,
        workers: settings.workers.clone(),
    }
}

/// Connects to a host, through others where the plan says so.
async fn connect(host: &PlannedHost, settings: &LinkSettings) -> Result<Session, SshError> {
    let (mut tries, begun) = (0_u32, Instant::now());
    let mut asked = begun;
    loop {
        // What was missing may be there by now, such as the file of a secret.
        let target = host_target(host, settings);
        let error = match connect_once(host, &target, settings, asked).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        tries = tries.saturating_add(1);
        // Without descriptors nothing can be said of the host, nor of our keys.
        let short = matches!(error, SshError::Short { .. }) || descriptors::are_short();
        if short && begun.elapsed() < DESCRIPTORS_LIMIT {
            tokio::time::sleep(spread(host, tries.min(5))).await;
            descriptors::wait_if_short(DESCRIPTORS_LIMIT.saturating_sub(begun.elapsed())).await;
        } else if error.is_crowded() && begun.elapsed() < settings.connect_timeout
            || error.is_cut() && tries < DROPPED_TRIES
        {
            // Dropped before it could say anything: the host has too many on their way in.
            // Or what led there broke, perhaps because of somebody else's host.
            tokio::time::sleep(spread(host, tries)).await;
        } else {
            return Err(error.masked(&settings.secrets.masker()));
        }
        asked = Instant::now();
    }
}

/// Returns how long a host waits before the next try, so that not all do it at once.
fn spread(host: &PlannedHost, tries: u32) -> Duration {
    let bytes = host.address.bytes().chain(host.port.to_be_bytes());
    let spread = bytes.fold(u64::from(std::process::id()), |sum, byte| {
        (sum.saturating_mul(31) % 997).saturating_add(u64::from(byte))
    }) % 16;
    Duration::from_millis((100_u64 << tries.min(5)).saturating_add(spread.saturating_mul(20)))
}

/// Tries to connect to a host, among those who are on their way in there.
async fn connect_once(
    host: &PlannedHost,
    target: &Target,
    settings: &LinkSettings,
    asked: Instant,
) -> Result<Session, SshError> {
    // Behind a host on the way, addresses may be one and the same sshd: all of them share the gate of the way.
    let place = host
        .jump
        .last()
        .map_or_else(|| format!("{}:{}", host.address, host.port), |hop| format!("via {}:{}", hop.address, hop.port));
    let _start = settings.tunnels.start_at(&place).await;
    if host.jump.is_empty() {
        return Session::connect(target).await;
    }
    let way = || settings.tunnels.reach(&host.jump, settings, (target, asked));
    match Session::connect_over(target, Some(way().await?)).await {
        Err(error) if error.is_disagreement() => match way().await {
            Ok(way) => Err(Session::explain(error, target, Some(way)).await),
            Err(_) => Err(error),
        },
        other => other,
    }
}

/// An open way to a host.
pub(super) enum Link {
    Ssh(Box<Session>),
    Local(LocalShell),
}

/// Why something did not come back from a host.
#[derive(Debug)]
pub(super) struct LinkError {
    /// What happened, to what, and what to do.
    pub(super) why: String,
    /// Whether nothing of the command can have reached the host.
    pub(super) never_sent: bool,
    /// Whether the host was not there at all, or did not answer in time.
    pub(super) unreachable: bool,
    /// Whether sshd answers and took what was sent, and nothing of ours ever said a word.
    pub(super) silent: bool,
}

impl LinkError {
    /// Makes the error of a conversation that broke off.
    pub(super) fn broken(why: impl Into<String>) -> LinkError {
        LinkError { why: why.into(), never_sent: false, unreachable: false, silent: false }
    }
}

impl From<SshError> for LinkError {
    fn from(error: SshError) -> LinkError {
        LinkError {
            never_sent: error.never_sent(),
            unreachable: error.is_unreachable(),
            silent: false,
            why: error.to_string(),
        }
    }
}

impl Link {
    pub(super) async fn open(host: &PlannedHost, settings: &LinkSettings) -> Result<Link, LinkError> {
        match host.connection {
            Connection::Local => Ok(Link::Local(LocalShell::new())),
            Connection::Ssh => Ok(Link::Ssh(Box::new(connect(host, settings).await?))),
        }
    }

    /// Has the host run a program to its end, and hands on what is not the runner's own. When the future is dropped the process
    /// is left alone and the link stays usable.
    pub(super) async fn ask(
        &mut self,
        program: &Program,
        first_word: Duration,
        answer: &mut Answer,
        pass: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, LinkError> {
        let (progress, nonce) = (Progress::new(), random::nonce());
        let mut hear = |stream, bytes: &[u8]| {
            answer.take(stream, bytes, &mut *pass);
            if answer.spoke() {
                progress.spoke();
            }
        };
        let (command, stdin) = (program.command(&nonce), progress.of(Cursor::new(program.first(&nonce))));
        let ended = tokio::select! {
            ended = self.exec(&command, stdin, &mut hear) => ended,
            () = progress.stalls(first_word, Some(ANSWER_LIMIT)) => Err(if progress.has_spoken() { no_answer() } else { no_word(first_word) }),
        };
        answer.finish();
        ended
    }

    /// Has a shell run a program, until `sink` returns that it has heard all. Over SSH the shell stays for the next program.
    /// `progress` is told of what is taken, and has to be told of the first word.
    pub(super) async fn tell(
        &mut self,
        program: &Program,
        first_word: Duration,
        progress: &Progress,
        sink: &mut (impl FnMut(Stream, &[u8]) -> bool + Send),
    ) -> Result<Option<ExecEnd>, LinkError> {
        progress.begin();
        let nonce = random::nonce();
        let told = async {
            match self {
                Link::Ssh(session) => {
                    Ok(session.tell(program, nonce, |text| progress.of(Cursor::new(text)), sink).await?)
                }
                Link::Local(_) => {
                    let mut to_the_end = |stream, bytes: &[u8]| {
                        sink(stream, bytes);
                    };
                    let (command, stdin) = (program.command(&nonce), progress.of(Cursor::new(program.first(&nonce))));
                    self.exec(&command, stdin, &mut to_the_end).await.map(Some)
                }
            }
        };
        tokio::select! {
            told = told => told,
            () = progress.stalls(first_word, None) => Err(no_word(first_word)),
        }
    }

    /// Runs a command that reads what is fed to it. When the future is dropped the process is left alone.
    pub(super) async fn feed(
        &mut self,
        command: &[String],
        stdin: impl BufRead + Send,
        sink: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, LinkError> {
        let progress = Progress::new();
        let mut hear = |stream, bytes: &[u8]| {
            progress.moved();
            sink(stream, bytes);
        };
        let stdin = progress.of(stdin);
        tokio::select! {
            ended = self.exec(command, stdin, &mut hear) => ended,
            () = progress.stalls(ANSWER_LIMIT, Some(ANSWER_LIMIT)) => Err(no_answer()),
        }
    }

    async fn exec(
        &mut self,
        command: &[String],
        stdin: impl BufRead + Send,
        sink: &mut (impl FnMut(Stream, &[u8]) + Send),
    ) -> Result<ExecEnd, LinkError> {
        match self {
            Link::Ssh(session) => Ok(session.exec(&command_line(command), stdin, sink).await?),
            Link::Local(shell) => {
                // It takes some to start a command.
                descriptors::wait_if_short(DESCRIPTORS_LIMIT).await;
                shell.exec(command, stdin, sink).await.map_err(|error| LinkError {
                    never_sent: error.never_sent(),
                    ..LinkError::broken(error.to_string())
                })
            }
        }
    }

    pub(super) async fn close(self) {
        match self {
            Link::Ssh(session) => session.close().await,
            Link::Local(_) => {}
        }
    }
}
