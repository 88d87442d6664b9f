//! One connection to one host. Floor 3.
//!
//! **Invariant:** the host's key is compared before anything else is said; the session is closed explicitly, never
//! by going out of scope.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ssh2::{ErrorCode, HashType, HostKeyType, MethodType, Session as Ssh2};
use tokio::time::{Instant, timeout, timeout_at};

use crate::adapters::ssh::auth::{log_in, turn_to_decrypt};
use crate::adapters::ssh::descriptors::is_short;
use crate::adapters::ssh::dial::{NotDialed, dial};
use crate::adapters::ssh::greeting::before_name;
use crate::adapters::ssh::methods::{self, Methods, Offer};
use crate::adapters::ssh::proxy::Proxy;
use crate::adapters::ssh::socket::{Readiness, Socket};
use crate::adapters::ssh::{SshError, Target};
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

/// An open, authenticated connection. Commands run on it one after the other.
pub struct Session {
    // Dropped before the session: see the invariant of `socket`.
    pub(super) readiness: Readiness,
    pub(super) ssh: Ssh2,
    socket: Socket,
    pub(super) host: String,
    pub(super) keepalive: Duration,
    /// Channels of commands whose callers stopped waiting; closed with the session.
    pub(super) abandoned: Vec<ssh2::Channel>,
    /// A shell that waits for the next program.
    pub(super) shell: Option<Shell>,
    /// Whether the host has opened a channel.
    pub(super) opened: bool,
    /// The command that leads there; ended with the session.
    proxy: Option<Proxy>,
}

/// A shell that takes programs.
pub(super) struct Shell {
    /// The words that started it.
    pub(super) words: Vec<String>,
    /// The word under which it takes programs.
    pub(super) nonce: String,
    pub(super) channel: ssh2::Channel,
}

impl Session {
    /// Connects, compares the host's key and logs in, all within the target's limit.
    ///
    /// # Errors
    /// Nothing of any command was sent then: every error of this function is [`SshError::never_sent`].
    pub async fn connect(target: &Target) -> Result<Session, SshError> {
        match Session::connect_over(target, None).await {
            Err(error) if error.is_disagreement() => Err(Session::explain(error, target, None).await),
            other => other,
        }
    }

    /// Like [`Session::connect`], through `way`: the end of a [`Tunnel`](super::Tunnel) to the target.
    ///
    /// # Errors
    /// As [`Session::connect`]; what [`Session::explain`] can say more of is left to the caller.
    pub async fn connect_over(target: &Target, way: Option<UnixStream>) -> Result<Session, SshError> {
        let host = place(target);
        if target.host_keys.is_empty() {
            return Err(SshError::UnknownHostKey { host });
        }
        let (way, mut proxy) = lead(target, way, &host)?;
        let limit = target.connect_timeout;
        let begin = Instant::now();
        let mut session = match (greet(target, &host, way, begin + limit).await, &mut proxy) {
            (Ok(session), _) => session,
            (Err(error), Some(proxy)) => return Err(of_proxy(error, limit, &proxy.last_words().await)),
            (Err(error), None) => return Err(error),
        };
        session.proxy = proxy;
        let left = limit.saturating_sub(begin.elapsed());
        // Many at once who open a key file would make each other late; whose turn it is not is not late.
        let _turn = turn_to_decrypt(target).await;
        log_in(target, &host, &session.ssh, &session.readiness, Instant::now() + left).await?;
        // When to ask is decided in `exec`; the library must only not hold a question back (2 is the least it takes).
        session.ssh.set_keepalive(true, 2);
        Ok(session)
    }

    /// Finds out why a host and we do not agree: the library does not say. Asks the host what it offers, over one more
    /// connection; `way` leads there where it is not reached directly.
    pub async fn explain(error: SshError, target: &Target, way: Option<UnixStream>) -> SshError {
        let SshError::Disagreement { host, source } = error else { return error };
        let unknown = |host, source| SshError::Handshake { host, source, said: String::new() };
        let Ok(ours) = Ssh2::new().and_then(|ssh| Methods::ours(&ssh, target)) else { return unknown(host, source) };
        // It lives as long as the connection through it.
        let Ok((way, _proxy)) = lead(target, way, &host) else { return unknown(host, source) };
        let offered = match way {
            Some(way) => match way.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(way)) {
                Ok(way) => methods::ask(way).await,
                Err(_) => None,
            },
            None => match dial(&target.address, target.port, target.connect_timeout).await {
                Ok(stream) => methods::ask(stream).await,
                Err(_) => None,
            },
        };
        let misfits = match offered {
            Some(Offer::Lists(offered)) => ours.misfits(&offered, target),
            // Twice is no chance.
            Some(Offer::Nothing) => Some(
                "it hung up twice before it said which methods it has; its sshd's log says why (has it a key for its \
                 HostKeyAlgorithms?)"
                    .to_owned(),
            ),
            None => None,
        };
        match misfits {
            Some(why) => SshError::Methods { host, why },
            // They do agree: it was cut off, and may be tried again.
            None => unknown(host, source),
        }
    }

    /// Returns the key exchange that both sides chose, by its name in the protocol.
    #[must_use]
    pub fn key_exchange(&self) -> Option<String> {
        self.ssh.methods(MethodType::Kex).map(str::to_owned)
    }

    /// Says goodbye and closes, within a limit; a host that does not answer is cut off.
    pub async fn close(mut self) {
        let ssh = self.ssh.clone();
        let kept = self.shell.take().map(|shell| shell.channel);
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

impl Drop for Session {
    fn drop(&mut self) {
        // A shut socket keeps the library's own clean-up from waiting for the host. The registration, declared first,
        // ends before the session closes its socket.
        self.socket.shutdown();
    }
}

/// Returns how a target is called in what people read.
fn place(target: &Target) -> String {
    format!("{}:{}", target.address, target.port)
}

/// Starts the command that leads to a target, where there is one and no other way.
fn lead(target: &Target, way: Option<UnixStream>, host: &str) -> Result<(Option<UnixStream>, Option<Proxy>), SshError> {
    let (None, Some(command)) = (&way, &target.proxy_command) else { return Ok((way, None)) };
    let (way, proxy) = Proxy::start(command).map_err(|source| failed(host, source))?;
    Ok((Some(way), Some(proxy)))
}

/// Makes an error of what the system said before there was a connection.
fn failed(host: &str, source: std::io::Error) -> SshError {
    let host = host.to_owned();
    if is_short(&source) {
        SshError::Short { host, source }
    } else {
        SshError::Connect { host, why: source.to_string() }
    }
}

/// Makes the error of a connection that did not come about the command's, as far as it may be.
fn of_proxy(error: SshError, limit: Duration, said: &str) -> SshError {
    let (host, why) = match error {
        SshError::Connect { host, why } => (host, why),
        SshError::Handshake { host, source, .. } => (host, source.message().to_owned()),
        SshError::ConnectTimeout { host, .. } => (host, format!("no answer within {limit:?}")),
        // The host itself answered.
        other => return other,
    };
    SshError::Proxy { host, why, said: said.to_owned() }
}

/// Connects and compares the host's key.
async fn greet(target: &Target, host: &str, way: Option<UnixStream>, deadline: Instant) -> Result<Session, SshError> {
    let connect = |source| failed(host, source);
    let socket = if let Some(way) = way {
        way.set_nonblocking(true).map_err(connect)?;
        Socket::Unix(way)
    } else {
        let stream = match dial(&target.address, target.port, target.connect_timeout).await {
            Ok(stream) => stream.into_std().map_err(connect)?,
            Err(NotDialed::Late(why)) => return Err(SshError::ConnectTimeout { host: host.to_owned(), why }),
            Err(NotDialed::Failed(why)) => return Err(SshError::Connect { host: host.to_owned(), why }),
            Err(NotDialed::Short(source)) => return Err(failed(host, source)),
        };
        Readiness::prepare(&stream, target.keepalive).map_err(connect)?;
        Socket::Tcp(stream)
    };
    let readiness = Readiness::new(&socket).map_err(connect)?;
    let unable = |source| SshError::Handshake { host: host.to_owned(), source, said: String::new() };
    let mut ssh = Ssh2::new().map_err(unable)?;
    ssh.set_blocking(false);
    ssh.set_timeout(BLOCKING_LIMIT_MS);
    socket.give_to(&mut ssh).map_err(connect)?;
    Methods::ours(&ssh, target).and_then(|ours| ours.prefer(&ssh)).map_err(unable)?;
    let heard = match timeout_at(deadline, before_name(&readiness)).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(why)) => return Err(SshError::Connect { host: host.to_owned(), why }),
        // Nothing is left of the time; what was said is said below.
        Err(_) => Vec::new(),
    };
    let directions = ssh.clone();
    let shaken = timeout_at(deadline, readiness.retry(|| directions.block_directions(), || ssh.handshake())).await;
    match shaken {
        Ok(Ok(())) => {}
        Ok(Err(source)) => {
            return Err(not_shaken(
                host,
                source,
                said(&ssh).or_else(|| words(&socket.last_words())).or_else(|| words(&heard)),
            ));
        }
        Err(_) => {
            let (host, limit) = (host.to_owned(), target.connect_timeout);
            let why = match said(&ssh) {
                Some(name) => format!("it said {name}, and did not go on to a session within {limit:?}"),
                None => {
                    format!("it took the connection and said nothing within {limit:?}; is this the port of an sshd?")
                }
            };
            return Err(SshError::ConnectTimeout { host, why });
        }
    }
    compare_host_key(&ssh, target, host)?;
    let (host, keepalive, abandoned) = (host.to_owned(), target.keepalive, Vec::new());
    Ok(Session { readiness, ssh, socket, host, keepalive, abandoned, shell: None, opened: false, proxy: None })
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
        return SshError::Disagreement { host, source };
    }
    let mut error = SshError::Handshake { host, source, said: String::new() };
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

fn compare_host_key(ssh: &Ssh2, target: &Target, host: &str) -> Result<(), SshError> {
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
    if target.host_keys.contains(&found) {
        return Ok(());
    }
    Err(SshError::HostKey { host: host.to_owned(), found, wanted: target.host_keys.join(" or ") })
}
