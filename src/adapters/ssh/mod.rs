//! SSH to one host: connect, run a command with streams, close. Floor 3.
//!
//! **Invariant:** nothing is sent to a host that does not answer with a key it is known by; every wait has a limit;
//! one owner works with a session at a time. These three calls are all that is known of the library (libssh2)
//! outside this folder, so another one could stand beside it.

mod auth;
mod exec;
mod key_file;
mod proxy;
mod session;
mod socket;
mod tunnel;

use std::path::PathBuf;
use std::time::Duration;

use crate::base::ids::SecretName;
use crate::base::text::{Secret, visible};
use crate::domain::mask::Masker;

pub use session::Session;
pub use tunnel::Tunnel;

/// A host to connect to, and with what.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name or address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// User to log in as.
    pub user: String,
    /// Private key file, tried first.
    pub key: Option<PathBuf>,
    /// The key's certificate; the one beside it when `None`.
    pub certificate: Option<PathBuf>,
    /// The passphrase of the key file; one that is not encrypted needs none.
    pub passphrase: Option<Passphrase>,
    /// The command on this machine that leads there, as a shell reads it.
    pub proxy_command: Option<String>,
    /// Whether the agent's keys are tried.
    pub agent: bool,
    /// The keys the host may answer with, as `ssh-ed25519 SHA256:…`; with none the host is refused.
    pub host_keys: Vec<String>,
    /// How long it may take until logged in.
    pub connect_timeout: Duration,
    /// How often a silent connection is asked whether it lives; after three without an answer it is lost.
    pub keepalive: Duration,
}

/// The passphrase of a key file.
#[derive(Clone, Debug)]
pub struct Passphrase {
    /// The secret that it is.
    pub secret: SecretName,
    /// Its value, or why there is none.
    pub value: Result<Secret, String>,
}

/// Why something did not come back from a host.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// No TCP connection.
    #[error("cannot connect to {host}: {source}; is sshd running and reachable?")]
    Connect {
        /// `address:port`.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The command that leads there did not.
    #[error("cannot connect to {host} through its ProxyCommand: {why}{}", complaint(said))]
    Proxy {
        /// `address:port`.
        host: String,
        /// Why not.
        why: String,
        /// What the command wrote to its standard error.
        said: String,
    },
    /// Not logged in in time.
    #[error("cannot connect to {host}: no answer within {limit:?}")]
    ConnectTimeout {
        /// `address:port`.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The two sides found no common ground.
    #[error("cannot agree on a protocol with {host}: {source}")]
    Handshake {
        /// `address:port`.
        host: String,
        /// Why.
        source: ssh2::Error,
    },
    /// No key of the host is known.
    #[error(
        "the key of {host} is not known or revoked, so nothing was sent; if it is new, add it: \
             ssh-keyscan -p PORT HOST >> known_hosts"
    )]
    UnknownHostKey {
        /// `address:port`.
        host: String,
    },
    /// The host answered with a key that is not the known one.
    #[error(
        "{host} answered with the key {found}, but is known by {wanted}: refused, nothing was sent; \
             if the change is right, replace it in known_hosts and approve again"
    )]
    HostKey {
        /// `address:port`.
        host: String,
        /// What it answered with.
        found: String,
        /// What it is known by.
        wanted: String,
    },
    /// The host did not let us in.
    #[error("{host} does not let {user} in: {why}")]
    Auth {
        /// `address:port`.
        host: String,
        /// The user.
        user: String,
        /// What was tried and what came back.
        why: String,
    },
    /// The command could not be started.
    #[error("{host} did not start the command: {source}")]
    NotStarted {
        /// `address:port`.
        host: String,
        /// Why.
        source: ssh2::Error,
    },
    /// The host on the way did not lead on.
    #[error("{host} does not lead on to {to}: {why}")]
    Way {
        /// The host on the way, as `address:port`.
        host: String,
        /// Where it should have led, as `address:port`.
        to: String,
        /// Why not.
        why: String,
        /// Whether the connection to the host on the way is what failed, so that a new one may lead there.
        gone: bool,
    },
    /// The connection broke while the command ran, or may have run.
    #[error("the connection to {host} was lost: {why}; what the command did is not known")]
    Lost {
        /// `address:port`.
        host: String,
        /// What was seen.
        why: String,
    },
}

impl SshError {
    /// Whether nothing of a command can have reached the host.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        !matches!(self, SshError::Lost { .. })
    }

    /// Hides secrets in what a command wrote.
    #[must_use]
    pub fn masked(self, masker: &Masker) -> SshError {
        match self {
            SshError::Proxy { host, why, said } => SshError::Proxy { host, why, said: masker.text(&said) },
            other => other,
        }
    }
}

/// How much is shown of what a command wrote, in characters.
const SAID_CHARS_MAX: usize = 500;

fn complaint(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let shown: String = visible(&lines.join(" / ")).chars().take(SAID_CHARS_MAX).collect();
    format!("; it said: {shown}")
}
