//! The inventory: which hosts there are and how they are reached.
//!
//! **Invariant:** pure. Host names are unique; a file with one bad line is refused whole, with `file:line`.

mod ansible;
mod groups;
mod ini;
mod ini_words;
pub mod jump;
pub mod selector;
mod toml;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::HostName;
use crate::domain::problem::Problem;

use jump::Jump;

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
    /// The hosts that the connection passes, the first one nearest to us.
    pub jump: Vec<Jump>,
    /// Words that selectors choose by.
    pub tags: BTreeSet<String>,
    /// Variables, as text.
    pub vars: BTreeMap<String, String>,
}

impl Host {
    /// Returns the environment it belongs to: its variable `environment`, or else `env`; empty when it has neither.
    #[must_use]
    pub fn environment(&self) -> &str {
        self.vars.get("environment").or_else(|| self.vars.get("env")).map_or("", String::as_str)
    }
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

/// What one file says.
#[derive(Debug, Default)]
struct Part {
    hosts: BTreeMap<HostName, Host>,
    /// Where each host is first named.
    pointers: BTreeMap<HostName, String>,
    groups: BTreeMap<String, BTreeSet<HostName>>,
}

impl Inventory {
    /// Returns a host's tags and the groups it is in: what selectors and rules choose by.
    #[must_use]
    pub fn tags(&self, host: &Host) -> BTreeSet<String> {
        let groups = self.groups.iter().filter(|(_, hosts)| hosts.contains(&host.name)).map(|(name, _)| name);
        host.tags.iter().chain(groups).cloned().collect()
    }

    /// Puts files together, each as (name, text): `*.toml` is ours, `*.ini` and names without an ending are
    /// Ansible's INI.
    ///
    /// A file speaks only about itself: variables and defaults do not reach the hosts of other files. A group
    /// that several files have holds the hosts of all of them.
    ///
    /// # Errors
    /// Every problem of every file; a host that two files name; a file of another kind.
    pub fn assemble(files: Vec<(String, String)>) -> Result<Inventory, Vec<Problem>> {
        let mut inventory = Inventory::default();
        let mut pointers: BTreeMap<HostName, String> = BTreeMap::new();
        let mut problems = Vec::new();
        for (file, text) in files {
            let part = match file.rsplit_once('.') {
                Some((_, "toml")) => toml::parse(&file, &text),
                Some((_, "ini")) | None => ini::parse(&file, &text),
                Some(_) => Err(vec![Problem::new(&file, "a file of an unknown kind", "*.toml or *.ini")]),
            };
            let part = match part {
                Ok(part) => part,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            for (name, host) in part.hosts {
                let pointer = part.pointers.get(&name).unwrap_or(&file);
                if let Some(first) = pointers.get(&name) {
                    let wanted = format!("each host in one file; {first} has it already");
                    problems.push(Problem::new(pointer, format!("the host {name}"), wanted));
                    continue;
                }
                pointers.insert(name.clone(), pointer.clone());
                inventory.hosts.insert(name, host);
            }
            for (name, hosts) in part.groups {
                inventory.groups.entry(name).or_default().extend(hosts);
            }
        }
        if problems.is_empty() { Ok(inventory) } else { Err(problems) }
    }

    /// Returns the host that a task means by `word`: the host of that name, or else the one with that address.
    ///
    /// # Errors
    /// When no host has the name or the address, or when several share the address.
    pub fn find(&self, word: &HostName) -> Result<&Host, Problem> {
        if let Some(host) = self.hosts.get(word) {
            return Ok(host);
        }
        let same: Vec<&Host> = self.hosts.values().filter(|host| host.address == word.as_str()).collect();
        match same.as_slice() {
            [host] => Ok(host),
            [] => Err(Problem::new("", word.as_str(), "the name or address of a host of the inventory")),
            _ => {
                let names = same.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
                Err(Problem::new("", word.as_str(), format!("one of the hosts at this address, by name: {names}")))
            }
        }
    }

    /// Returns the names of the groups that a host is in, itself or through their children.
    pub fn groups_of<'a>(&'a self, host: &'a HostName) -> impl Iterator<Item = &'a str> + 'a {
        self.groups.iter().filter(|(_, hosts)| hosts.contains(host)).map(|(name, _)| name.as_str())
    }
}

/// Checks what would be connected to; an address is never a command-line option or a path.
fn check_address(address: &str) -> Result<(), String> {
    let rule = "an address: letters, digits and . _ : - only, first a letter or digit";
    // An address may be `::1`, which begins like no name.
    if address.parse::<core::net::Ipv6Addr>().is_ok() || address.parse::<HostName>().is_ok() {
        Ok(())
    } else {
        Err(rule.to_owned())
    }
}

/// Checks a login name; directory services allow more in it than `useradd`.
fn check_user(user: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || crate::base::text::is_hidden(c) || matches!(c, '/' | ':');
    if user.is_empty() || user.starts_with('-') || user.contains(odd) {
        Err("a login name without spaces, / and :, not beginning with -".to_owned())
    } else {
        Ok(())
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

    #[test]
    fn files_share_groups_but_no_host() {
        let one = ("a.toml", "[host.web1]\n[group.web]\nhosts = [\"web1\"]\n");
        let merged = Inventory::assemble(files(&[one, ("b.ini", "[web]\nweb2\n[site:children]\nweb\n")])).unwrap();
        assert_eq!(merged.groups["web"].len(), 2);
        assert_eq!(merged.groups_of(&"web2".parse().unwrap()).collect::<Vec<_>>(), ["site", "web"]);
        let problems = Inventory::assemble(files(&[one, ("b.ini", "\nweb1\n"), ("c.yml", "")])).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let want = [
            "b.ini:2: found the host web1; wanted each host in one file; a.toml:1 has it already",
            "c.yml: found a file of an unknown kind; wanted *.toml or *.ini",
        ];
        assert_eq!(shown, want);
    }
}
