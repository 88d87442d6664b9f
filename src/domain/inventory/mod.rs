//! The inventory: which hosts there are and how they are reached.
//!
//! **Invariant:** pure. Host names are unique; a file with one bad line is refused whole, with `file:line`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::HostName;

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
    /// How it is reached.
    pub connection: Connection,
    /// Words that selectors choose by.
    pub tags: BTreeSet<String>,
    /// Variables, as text.
    pub vars: BTreeMap<String, String>,
}

/// How a host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Over SSH.
    Ssh,
    /// On this machine, without SSH; only where the inventory says so.
    Local,
}

/// All hosts and the groups they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Hosts by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Host names by group name, children's hosts included.
    pub groups: BTreeMap<String, BTreeSet<HostName>>,
}
