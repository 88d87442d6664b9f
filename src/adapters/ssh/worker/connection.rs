//! One connection to one host. Floor 3.
//!
//! **Invariant:** the host's key is compared before anything else is said; the session is closed explicitly, never
//! by going out of scope.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ssh2::{ErrorCode, HashType, HostKeyType, MethodType, Session as Ssh2};
use tokio::time::{Instant, timeout, timeout_at};

use crate::adapters::ssh::error::SshError;
use crate::adapters::ssh::worker::inlet::{Inlet, OUR_NAME};
use crate::adapters::ssh::worker::methods::{self, Methods, Offer};
use crate::adapters::ssh::worker::socket::{Readiness, Socket};
use crate::adapters::ssh::workers::Destination;
use crate::base::text::visible;

/// How long a polite goodbye may take before the socket is shut.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long authentication on a blocking socket (the agent's) may wait for the host.
const BLOCKING_LIMIT_MS: u32 = 10_000;

/// The library's number for lists of methods that have nothing in common (`LIBSSH2_ERROR_KEX_FAILURE`).
const KEX_FAILURE: i32 = -5;
/// What OpenSSH says before it hangs up on one too many (since 9.9 also on one that it has shut out).
const CROWDED: [&str; 2] = ["Exceeded MaxStartups", "Not allowed at this time"];
/// How much of a host's name is shown, in characters.
const NAME_CHARS_MAX: usize = 100;

/// An open connection. Commands run on it one after the other.
pub(super) struct Connection {
    // Dropped before the session: see the invariant of `socket`.
    pub(super) readiness: Readiness,
    pub(super) ssh: Ssh2,
    socket: UnixStream,
    pub(super) inlet: Arc<Inlet>,
    pub(super) host: String,
    pub(super) keepalive: Duration,
    /// Channels of commands whose callers stopped waiting; closed with the connection.
    pub(super) abandoned: Vec<ssh2::Channel>,
    /// The channel of a shell that waits for the next program.
    pub(super) kept: Option<ssh2::Channel>,
    /// Whether the host has opened a channel.
    pub(super) opened: bool,
}

impl Connection {
    /// Returns the key exchange that both sides chose, by its name in the protocol.
    pub(super) fn key_exchange(&self) -> Option<String> {
        self.ssh.methods(MethodType::Kex).map(str::to_owned)
    }

    /// Says goodbye and closes, within a limit; a host that does not answer is cut off.
    pub(super) async fn close(mut self) {
        let ssh = self.ssh.clone();
        let kept = self.kept.take();
        for mut channel in std::mem::take(&mut self.abandoned).into_iter().chain(kept) {
            let closing = self.readiness.retry(|| ssh.block_directions(), || channel.close());
            let _ = timeout(CLOSE_LIMIT, closing).await;
        }
        let goodbye = self.readiness.retry(|| ssh.block_directions(), || ssh.disconnect(None, "done", None));
        let _ = timeout(CLOSE_LIMIT, goodbye).await;
    }

    /// Makes the error of a connection that broke.
    pub(super) fn lost(&self, why: impl Into<String>) -> SshError {
        SshError::Lost { host: self.host.clone(), why: why.into() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A shut socket keeps the library's own clean-up from waiting for the host. The registration, declared first,
        // ends before the session closes its socket.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.inlet.close();
    }
}

/// Asks a host what it offers, on a fresh connection; returns what we have not in common, or nothing where it would fit.
pub(super) async fn explain(to: &Destination, socket: Socket) -> Option<String> {
    let ours = Ssh2::new().and_then(|ssh| Methods::ours(&ssh, to)).ok()?;
    let offered = match socket {
        Socket::Tcp(stream) => {
            stream.set_nonblocking(true).ok()?;
            methods::ask(tokio::net::TcpStream::from_std(stream).ok()?).await
        }
        Socket::Unix(stream) => {
            stream.set_nonblocking(true).ok()?;
            methods::ask(tokio::net::UnixStream::from_std(stream).ok()?).await
        }
    };
    match offered? {
        Offer::Lists(offered) => ours.misfits(&offered, to),
        // Twice is no chance.
        Offer::Nothing => Some(
            "it hung up twice before it said which methods it has; its sshd's log says why (has it a key for its \
             HostKeyAlgorithms?)"
                .to_owned(),
        ),
    }
}

/// Greets a host on a fresh connection, and compares its key.
pub(super) async fn greet(to: &Destination, socket: Socket) -> Result<Connection, SshError> {
    let (host, deadline) = (to.place.as_str(), Instant::now() + Duration::from_millis(to.left_ms));
    let connect = |error: std::io::Error| SshError::Connect { host: host.to_owned(), why: error.to_string() };
    let (inlet, socket) = Inlet::open(socket).map_err(connect)?;
    let readiness = Readiness::new(&socket).map_err(connect)?;
    let unable =
        |source: ssh2::Error| SshError::Handshake { host: host.to_owned(), source: source.into(), said: String::new() };
    let mut ssh = Ssh2::new().map_err(unable)?;
    ssh.set_blocking(false);
    ssh.set_timeout(BLOCKING_LIMIT_MS);
    ssh.set_tcp_stream(socket.try_clone().map_err(connect)?);
    ssh.set_banner(OUR_NAME).map_err(unable)?;
    Methods::ours(&ssh, to).and_then(|ours| ours.prefer(&ssh)).map_err(unable)?;
    let directions = ssh.clone();
    let shaken = timeout_at(deadline, readiness.retry(|| directions.block_directions(), || ssh.handshake())).await;
    match shaken {
        Ok(Ok(())) => {}
        Ok(Err(source)) => {
            if let Some(why) = inlet.given_up() {
                return Err(SshError::Connect { host: host.to_owned(), why });
            }
            return Err(not_shaken(host, source, said(&ssh).or_else(|| words(&inlet.greeting()))));
        }
        Err(_) => {
            let (host, limit) = (host.to_owned(), Duration::from_millis(to.limit_ms));
            let why = match said(&ssh) {
                Some(name) => format!("it said {name}, and did not go on to a session within {limit:?}"),
                None => {
                    format!("it took the connection and said nothing within {limit:?}; is this the port of an sshd?")
                }
            };
            return Err(SshError::ConnectTimeout { host, why });
        }
    }
    compare_host_key(&ssh, to, host)?;
    let (host, keepalive) = (host.to_owned(), Duration::from_millis(to.keepalive_ms));
    Ok(Connection { readiness, ssh, socket, inlet, host, keepalive, abandoned: Vec::new(), kept: None, opened: false })
}

/// Returns what a host said its name is, or what else it said first.
fn said(ssh: &Ssh2) -> Option<String> {
    words(ssh.banner_bytes()?)
}

/// Quotes the first line of what a host said.
fn words(said: &[u8]) -> Option<String> {
    let line = said.split(|byte| matches!(byte, b'\r' | b'\n')).next().filter(|line| !line.is_empty())?;
    let shown: String = visible(&String::from_utf8_lossy(line)).chars().take(NAME_CHARS_MAX).collect();
    Some(format!("\"{shown}\""))
}

/// Makes an error of a handshake that failed, and of what the host said before.
fn not_shaken(host: &str, source: ssh2::Error, said: Option<String>) -> SshError {
    let host = host.to_owned();
    if said.as_ref().is_some_and(|said| CROWDED.iter().any(|words| said.contains(words))) {
        return SshError::Crowded { host };
    }
    // What the library says when the lists have nothing in common, and also when it was cut off before it got them.
    if source.code() == ErrorCode::Session(KEX_FAILURE) {
        return SshError::Disagreement { host, source: source.into() };
    }
    let mut error = SshError::Handshake { host, source: source.into(), said: String::new() };
    let why = match said {
        None if error.is_cut() => {
            "; it hung up before it greeted: too many at once (MaxStartups), or it refuses this address".to_owned()
        }
        Some(said) if error.is_cut() => format!("; it hung up, and said only {said}"),
        Some(said) => format!("; it said {said}"),
        None => String::new(),
    };
    if let SshError::Handshake { said, .. } = &mut error {
        *said = why;
    }
    error
}

fn compare_host_key(ssh: &Ssh2, to: &Destination, host: &str) -> Result<(), SshError> {
    let algorithm = match ssh.host_key() {
        Some((_, HostKeyType::Rsa)) => "ssh-rsa",
        Some((_, HostKeyType::Dss)) => "ssh-dss",
        Some((_, HostKeyType::Ecdsa256)) => "ecdsa-sha2-nistp256",
        Some((_, HostKeyType::Ecdsa384)) => "ecdsa-sha2-nistp384",
        Some((_, HostKeyType::Ecdsa521)) => "ecdsa-sha2-nistp521",
        Some((_, HostKeyType::Ed25519)) => "ssh-ed25519",
        _ => "unknown",
    };
    let hash = ssh.host_key_hash(HashType::Sha256).map(|hash| STANDARD_NO_PAD.encode(hash)).unwrap_or_default();
    let found = format!("{algorithm} SHA256:{hash}");
    if to.host_keys.contains(&found) {
        return Ok(());
    }
    Err(SshError::HostKey { host: host.to_owned(), found, wanted: to.host_keys.join(" or ") })
}
