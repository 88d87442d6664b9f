//! What one file of an inventory says. Floor 1.
//!
//! **Invariant:** pure. It speaks of the hosts of its own file alone.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::levels::Levels;
use crate::base::ids::HostName;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) hosts: BTreeMap<HostName, Host>,
    /// Where each host is first named.
    pub(super) pointers: BTreeMap<HostName, String>,
    pub(super) groups: BTreeMap<String, BTreeSet<HostName>>,
    pub(super) levels: Levels,
}
