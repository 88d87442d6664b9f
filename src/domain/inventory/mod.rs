//! The inventory: which hosts there are and how they are reached.
//!
//! **Invariant:** pure. Host names are unique; a file with one bad line is refused whole, with `file:line`.

pub(in crate::domain) mod address;
mod ansible;
pub mod build;
mod draft;
pub mod facts;
mod groups;
pub mod host;
mod index;
mod ini;
mod ini_words;
pub mod jump;
pub mod levels;
mod part;
pub mod proxy_command;
pub mod script;
pub mod selector;
mod ssh_args;
mod toml;
mod tree;
mod vars_files;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::HostName;
use crate::domain::problem::Problem;

use host::Host;
use index::Index;
use levels::Levels;

/// All hosts and the groups they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Hosts by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Host names by group name, children's hosts included.
    pub groups: BTreeMap<String, BTreeSet<HostName>>,
    /// Host names by what a group of theirs says that it is.
    pub levels: Levels,
    /// Who has an address, and which groups a host is in.
    pub index: Index,
}

impl Inventory {
    /// Returns the names of the groups that a host is in, itself or through their children.
    pub fn groups_of(&self, host: &HostName) -> impl Iterator<Item = &str> {
        self.index.entries(&self.hosts, &self.groups).groups_of(host)
    }

    /// Returns a host's tags and the groups it is in: what selectors and rules choose by.
    #[must_use]
    pub fn tags(&self, host: &Host) -> BTreeSet<String> {
        host.tags.iter().cloned().chain(self.groups_of(&host.name).map(str::to_owned)).collect()
    }

    /// Returns the host that a task means by `word`: the host of that name, or else the one with that address.
    ///
    /// # Errors
    /// When no host has the name or the address, or when several share the address.
    pub fn find(&self, word: &HostName) -> Result<&Host, Problem> {
        if let Some(host) = self.hosts.get(word) {
            return Ok(host);
        }
        let same: Vec<&Host> = self
            .index
            .entries(&self.hosts, &self.groups)
            .with_address(word.as_str())
            .iter()
            .filter_map(|name| self.hosts.get(name))
            .collect();
        match same.as_slice() {
            [host] => Ok(host),
            [] => Err(Problem::new("", word.as_str(), "the name or address of a host of the inventory")),
            _ => {
                let names = same.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
                Err(Problem::new("", word.as_str(), format!("one of the hosts at this address, by name: {names}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[track_caller]
    fn found(inventory: &Inventory, word: &str, want: &str) {
        let shown = match inventory.find(&word.parse().unwrap()) {
            Ok(host) => host.name.to_string(),
            Err(problem) => problem.to_string(),
        };
        assert_eq!(shown, want, "{word}");
    }

    #[test]
    fn a_word_is_a_name_or_else_a_unique_address() {
        let inventory = Inventory::assemble(files(&[
            ("a.toml", "[host.web1]\naddress = \"10.0.0.1\"\n[host.\"10.0.0.2\"]\naddress = \"10.0.0.1\"\n[host.v6]\naddress = \"::1\"\n"),
            ("b.ini", "[db]\ndb1 ansible_host=10.0.0.3\nweb9 ansible_host=10.0.0.2\n"),
        ]))
        .unwrap();
        found(&inventory, "web1", "web1");
        found(&inventory, "10.0.0.3", "db1");
        found(&inventory, "10.0.0.2", "10.0.0.2");
        found(
            &inventory,
            "10.0.0.1",
            "found 10.0.0.1; wanted one of the hosts at this address, by name: 10.0.0.2, web1",
        );
        found(&inventory, "web2", "found web2; wanted the name or address of a host of the inventory");
    }
}
