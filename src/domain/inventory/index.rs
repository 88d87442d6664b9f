//! What a large inventory is asked again and again: who has an address, which groups a host is in. Floor 1.
//!
//! **Invariant:** made once, of the hosts and groups as they are when it is first asked; an inventory does not change after it was
//! put together. It says nothing that they do not, so two inventories are equal whether it was made or not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use super::host::Host;
use crate::base::ids::HostName;

/// The index of an inventory.
#[derive(Clone, Debug, Default)]
pub struct Index(OnceLock<Entries>);

/// What is looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    /// Host names by address, in their order.
    addresses: HashMap<String, Vec<HostName>>,
    /// The groups of each host, in their order.
    groups: HashMap<HostName, Vec<String>>,
}

impl PartialEq for Index {
    fn eq(&self, _: &Index) -> bool {
        true
    }
}

impl Eq for Index {}

impl Index {
    /// Returns what it says of these hosts and groups, which are always the same inventory's.
    pub(super) fn entries(
        &self,
        hosts: &BTreeMap<HostName, Host>,
        groups: &BTreeMap<String, BTreeSet<HostName>>,
    ) -> &Entries {
        self.0.get_or_init(|| {
            let mut entries = Entries::default();
            for host in hosts.values() {
                entries.addresses.entry(host.address.clone()).or_default().push(host.name.clone());
            }
            for (group, hosts) in groups {
                for host in hosts {
                    entries.groups.entry(host.clone()).or_default().push(group.clone());
                }
            }
            entries
        })
    }
}

impl Entries {
    /// Returns the hosts with an address.
    pub(super) fn with_address(&self, address: &str) -> &[HostName] {
        self.addresses.get(address).map_or(&[], Vec::as_slice)
    }

    /// Returns the names of the groups that a host is in, itself or through their children.
    pub(super) fn groups_of(&self, host: &HostName) -> impl Iterator<Item = &str> {
        self.groups.get(host).into_iter().flatten().map(String::as_str)
    }
}
