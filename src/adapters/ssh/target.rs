//! A host to connect to, and with what. Floor 3.
//!
//! **Invariant:** it holds no key: key files are opened when they are needed.

use std::path::PathBuf;
use std::time::Duration;

use super::workers::Workers;
use crate::base::ids::SecretName;
use crate::base::text::Secret;

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
    /// The processes that speak SSH, of which one speaks with this host.
    pub workers: Workers,
}

/// The passphrase of a key file.
#[derive(Clone, Debug)]
pub struct Passphrase {
    /// The secret that it is.
    pub secret: SecretName,
    /// Its value, or why there is none.
    pub value: Result<Secret, String>,
}
