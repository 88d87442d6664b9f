//! A host as the inventory describes it, and what its variables say of it. Floor 1.
//!
//! **Invariant:** pure. A variable that is empty says nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::jump::Jump;
use crate::base::ids::{HostName, SecretName};

/// Variables by name, as text.
pub(super) type Vars = BTreeMap<String, String>;

/// A host as the inventory describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: HostName,
    /// The name or address to connect to.
    pub address: String,
    /// The port sshd listens on.
    pub port: u16,
    /// The user to log in as; the configuration's default when `None`.
    pub user: Option<String>,
    /// The private key file; the configuration's default, then the agent, when `None`.
    pub key: Option<String>,
    /// The secret that is the passphrase of its key; the configuration's default when `None`.
    pub key_passphrase: Option<SecretName>,
    /// How it is reached.
    pub connection: Connection,
    /// How many tasks may run on it at once.
    pub jobs: u32,
    /// The hosts that the connection passes, the first one nearest to us.
    pub jump: Vec<Jump>,
    /// The command on this machine that the connection goes through, as `ssh_config` writes it.
    pub proxy_command: Option<String>,
    /// What the inventory says itself, where that cannot be seen otherwise.
    pub says: Says,
    /// Words that selectors choose by.
    pub tags: BTreeSet<String>,
    /// Variables, as text.
    pub vars: BTreeMap<String, String>,
}

/// What an inventory says of a host itself, where its value could as well be the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// On which port it listens.
    pub port: bool,
    /// How the connection gets there, be it directly.
    pub way: bool,
}

/// The most tasks that a host may take at once; each is a connection, and sshd takes ten sessions by default.
pub const JOBS_MAX: u32 = 100;

/// How a host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Over SSH.
    Ssh,
    /// On this machine, without SSH; only where the inventory says so.
    Local,
}

/// The variables that say where a host stands, the one that counts first.
pub(super) const LOCATION: [&str; 2] = ["ZDOPS_LOCATION", "location"];

/// The variables that say which environment a host belongs to, the one that counts first.
pub(super) const ENVIRONMENT: [&str; 3] = ["ZDOPS_SYSTEM_ENV", "environment", "env"];

/// Returns the first of some variables that is not empty.
pub(super) fn first<'a>(vars: &'a Vars, names: &[&str]) -> &'a str {
    names.iter().filter_map(|name| vars.get(*name)).find(|value| !value.is_empty()).map_or("", String::as_str)
}

impl Host {
    /// Returns the environment it belongs to: its variable `ZDOPS_SYSTEM_ENV`, or else `environment`, or else `env`;
    /// empty when it has none.
    #[must_use]
    pub fn environment(&self) -> &str {
        first(&self.vars, &ENVIRONMENT)
    }

    /// Returns where it stands: its variable `ZDOPS_LOCATION`, or else `location`; empty when it has none.
    #[must_use]
    pub fn location(&self) -> &str {
        first(&self.vars, &LOCATION)
    }
}
