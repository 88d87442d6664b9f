//! One connection to one host. Floor 3.
//!
//! **Invariant:** the host's key is compared before anything else is said; the session is closed explicitly, never
//! by going out of scope.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ssh2::{HashType, HostKeyType, MethodType, Session as Ssh2};
use tokio::time::{Instant, timeout};

use crate::adapters::ssh::auth::{log_in, turn_to_decrypt};
use crate::adapters::ssh::proxy::Proxy;
use crate::adapters::ssh::socket::{Readiness, Socket};
use crate::adapters::ssh::{SshError, Target};

/// How long a polite goodbye may take before the socket is shut.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long authentication on a blocking socket (the agent's) may wait for the host.
const BLOCKING_LIMIT_MS: u32 = 10_000;

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
        Session::connect_over(target, None).await
    }

    /// Like [`Session::connect`], through `way`: the end of a [`Tunnel`](super::Tunnel) to the target.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_over(target: &Target, way: Option<UnixStream>) -> Result<Session, SshError> {
        let host = format!("{}:{}", target.address, target.port);
        if target.host_keys.is_empty() {
            return Err(SshError::UnknownHostKey { host });
        }
        let (way, mut proxy) = match (way, &target.proxy_command) {
            (None, Some(command)) => {
                let (way, proxy) =
                    Proxy::start(command).map_err(|source| SshError::Connect { host: host.clone(), source })?;
                (Some(way), Some(proxy))
            }
            (way, _) => (way, None),
        };
        let limit = target.connect_timeout;
        let begin = Instant::now();
        let late = || SshError::ConnectTimeout { host: host.clone(), limit };
        let greeted = timeout(limit, greet(target, &host, way)).await.unwrap_or_else(|_| Err(late()));
        let mut session = match (greeted, &mut proxy) {
            (Ok(session), _) => session,
            (Err(error), Some(proxy)) => return Err(of_proxy(error, &proxy.last_words().await)),
            (Err(error), None) => return Err(error),
        };
        session.proxy = proxy;
        let left = limit.saturating_sub(begin.elapsed());
        // Many at once who open a key file would make each other late; whose turn it is not is not late.
        let _turn = turn_to_decrypt(target).await;
        let logged_in = log_in(target, &host, &session.ssh, &session.readiness);
        timeout(left, logged_in).await.unwrap_or_else(|_| Err(late()))?;
        // When to ask is decided in `exec`; the library must only not hold a question back (2 is the least it takes).
        session.ssh.set_keepalive(true, 2);
        Ok(session)
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

/// Makes the error of a connection that did not come about the command's, as far as it may be.
fn of_proxy(error: SshError, said: &str) -> SshError {
    let (host, why) = match error {
        SshError::Connect { host, source } => (host, source.to_string()),
        SshError::Handshake { host, source } => (host, source.message().to_owned()),
        SshError::ConnectTimeout { host, limit } => (host, format!("no answer within {limit:?}")),
        // The host itself answered.
        other => return other,
    };
    SshError::Proxy { host, why, said: said.to_owned() }
}

/// Connects and compares the host's key.
async fn greet(target: &Target, host: &str, way: Option<UnixStream>) -> Result<Session, SshError> {
    let connect = |source| SshError::Connect { host: host.to_owned(), source };
    let socket = if let Some(way) = way {
        way.set_nonblocking(true).map_err(connect)?;
        Socket::Unix(way)
    } else {
        let stream = tokio::net::TcpStream::connect((target.address.as_str(), target.port)).await.map_err(connect)?;
        let stream = stream.into_std().map_err(connect)?;
        Readiness::prepare(&stream, target.keepalive).map_err(connect)?;
        Socket::Tcp(stream)
    };
    let readiness = Readiness::new(&socket).map_err(connect)?;
    let handshake = |source| SshError::Handshake { host: host.to_owned(), source };
    let mut ssh = Ssh2::new().map_err(handshake)?;
    ssh.set_blocking(false);
    ssh.set_timeout(BLOCKING_LIMIT_MS);
    socket.give_to(&mut ssh).map_err(connect)?;
    prefer(&ssh, target).map_err(handshake)?;
    let directions = ssh.clone();
    readiness.retry(|| directions.block_directions(), || ssh.handshake()).await.map_err(handshake)?;
    compare_host_key(&ssh, target, host)?;
    let (host, keepalive, abandoned) = (host.to_owned(), target.keepalive, Vec::new());
    Ok(Session { readiness, ssh, socket, host, keepalive, abandoned, shell: None, proxy: None })
}

/// Chooses what keeps a secret longest and costs least, and asks the host for the kinds of key it is known by.
fn prefer(ssh: &Ssh2, target: &Target) -> Result<(), ssh2::Error> {
    let offered = |kind, wanted: &[&str]| -> Result<String, ssh2::Error> {
        let supported = ssh.supported_algs(kind)?;
        Ok(wanted.iter().filter(|name| supported.contains(name)).copied().collect::<Vec<_>>().join(","))
    };
    let kex = offered(
        MethodType::Kex,
        &[
            // With ML-KEM first: whoever records a session today cannot read it with a computer of tomorrow.
            "mlkem768x25519-sha256",
            "mlkem768nistp256-sha256",
            "mlkem1024nistp384-sha384",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "ecdh-sha2-nistp256",
            "ecdh-sha2-nistp384",
            "ecdh-sha2-nistp521",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group14-sha256",
        ],
    )?;
    ssh.method_pref(MethodType::Kex, &kex)?;
    let ciphers = offered(
        MethodType::CryptCs,
        &[
            "aes128-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
            "aes256-gcm@openssh.com",
            "aes128-ctr",
            "aes256-ctr",
        ],
    )?;
    ssh.method_pref(MethodType::CryptCs, &ciphers)?;
    ssh.method_pref(MethodType::CryptSc, &ciphers)?;
    let known: Vec<&str> =
        target.host_keys.iter().filter_map(|key| key.split(' ').next()).flat_map(signatures).collect();
    let host_keys = offered(MethodType::HostKey, &known)?;
    if host_keys.is_empty() { Ok(()) } else { ssh.method_pref(MethodType::HostKey, &host_keys) }
}

/// Returns the signature algorithms that a kind of host key can answer with: RSA keys sign with SHA-2 nowadays.
fn signatures(algorithm: &str) -> Vec<&str> {
    match algorithm {
        "ssh-rsa" => vec!["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
        other => vec![other],
    }
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
