//! Everything that a submission is resolved against, read. Floor 1.
//!
//! **Invariant:** pure. It is one moment of the configuration: nothing in it changes while it is used.

use std::collections::BTreeMap;

use crate::base::ids::SecretName;
use crate::domain::file_step::SharedFiles;
use crate::domain::hook::Hooks;
use crate::domain::inventory::Inventory;
use crate::domain::known_hosts::KnownHosts;
use crate::domain::policy::Policy;
use crate::domain::share::Shares;
use crate::domain::ssh_config::Answers;
use crate::domain::template::Catalogue;

/// Everything that a submission is resolved against.
#[derive(Clone, Debug)]
pub struct Library {
    /// The templates.
    pub catalogue: Catalogue,
    /// The hosts.
    pub inventory: Inventory,
    /// Which keys hosts answer with.
    pub known_hosts: KnownHosts,
    /// What OpenSSH's configuration says of hosts, where it is to be asked.
    pub ssh: Option<Answers>,
    /// Who may do what.
    pub policy: Policy,
    /// What holds where a host or a task says nothing.
    pub defaults: Defaults,
    /// The tags of the git repositories that templates name, with the commits they point at.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    /// The files that can be copied to hosts.
    pub files: SharedFiles,
    /// The zone of times without an offset.
    pub zone: crate::base::time::Zone,
    /// Which tasks pushes and alerts make.
    pub hooks: Hooks,
    /// How much one person may take.
    pub shares: Shares,
}

/// What holds where a host or a task says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The user to log in as.
    pub user: String,
    /// The private key file; the agent only when `None`.
    pub key: Option<String>,
    /// The secret that is the passphrase of key files, where the inventory names no other.
    pub key_passphrase: Option<SecretName>,
    /// How many hosts a group may hold.
    pub hosts_per_group: usize,
    /// How many hosts may be in flight over all tasks.
    pub hosts_in_flight: usize,
    /// How long after its time a task counts as late, in milliseconds.
    pub late_after_ms: i64,
}
