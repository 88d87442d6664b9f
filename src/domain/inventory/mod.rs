//! The inventory: which hosts there are and how they are reached.
//!
//! **Invariant:** pure. Host names are unique; a file with one bad line is refused whole, with `file:line`.

mod ansible;
mod data;
mod draft;
pub mod facts;
mod groups;
mod index;
mod ini;
mod ini_words;
mod json;
pub mod jump;
pub mod proxy_command;
pub mod script;
pub mod selector;
mod ssh_args;
mod toml;
mod tree;
mod vars_files;
mod yaml;
mod yaml_scalar;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{HostName, SecretName};
use crate::base::limits;
use crate::domain::problem::Problem;

use facts::Levels;
use index::Index;
use jump::Jump;
use script::Script;
use vars_files::VarsFiles;

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

/// Everything that an inventory is made of, read.
#[derive(Debug, Default)]
pub struct Parts {
    /// Files by name.
    pub files: Vec<(String, String)>,
    /// What scripts said.
    pub scripts: Vec<Script>,
    /// What stands below `group_vars/` and `host_vars/`, by path (`group_vars/web/10.yml`); a directory ends in `/`.
    pub vars: BTreeMap<String, String>,
    /// The variables that every host must have.
    pub required: Vec<String>,
}

/// What one file says.
#[derive(Debug, Default)]
struct Part {
    hosts: BTreeMap<HostName, Host>,
    /// Where each host is first named.
    pointers: BTreeMap<HostName, String>,
    groups: BTreeMap<String, BTreeSet<HostName>>,
    levels: Levels,
}

impl Inventory {
    /// Returns a host's tags and the groups it is in: what selectors and rules choose by.
    #[must_use]
    pub fn tags(&self, host: &Host) -> BTreeSet<String> {
        host.tags.iter().cloned().chain(self.groups_of(&host.name).map(str::to_owned)).collect()
    }

    /// Puts files together, each as (name, text); see [`Inventory::build`].
    ///
    /// # Errors
    /// As [`Inventory::build`].
    pub fn assemble(files: Vec<(String, String)>) -> Result<Inventory, Vec<Problem>> {
        Inventory::build(Parts { files, ..Parts::default() })
    }

    /// Puts an inventory together. Of files, `*.toml` is ours, `*.ini` is Ansible's INI, `*.yml`, `*.yaml` and `*.json` are its
    /// YAML; names without an ending are YAML when they hold a mapping, and INI otherwise, as for Ansible.
    ///
    /// A file or script speaks only about itself: variables and defaults do not reach the hosts of others. A group
    /// that several have holds the hosts of all of them. `group_vars/` and `host_vars/` reach everything but ours.
    ///
    /// # Errors
    /// Every problem of every file; a host that two files name; a file of another kind; a host without a variable
    /// that it must have.
    pub fn build(parts: Parts) -> Result<Inventory, Vec<Problem>> {
        let mut inventory = Inventory::default();
        let mut pointers: BTreeMap<HostName, String> = BTreeMap::new();
        let mut problems = Vec::new();
        let around = VarsFiles::new(parts.vars);
        let files = parts.files.into_iter().map(|(file, text)| {
            let part = read_file(&file, &text, &around);
            (file, part)
        });
        let scripts = parts.scripts.iter().map(|said| (said.file.clone(), script::parse(said, &around)));
        for (file, part) in files.chain(scripts) {
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
                problems.extend(lacking(&host, &parts.required, pointer));
                pointers.insert(name.clone(), pointer.clone());
                inventory.hosts.insert(name, host);
            }
            for (name, hosts) in part.groups {
                inventory.groups.entry(name).or_default().extend(hosts);
            }
            for (level, hosts) in part.levels {
                inventory.levels.entry(level).or_default().extend(hosts);
            }
        }
        // What is wrong with a file of variables is said by everybody who uses it.
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.to_string()));
        problems.truncate(limits::PROBLEMS_MAX);
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
        let same: Vec<&Host> =
            self.with_address(word.as_str()).iter().filter_map(|name| self.hosts.get(name)).collect();
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

/// Reads one file by its ending.
fn read_file(file: &str, text: &str, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
    match file.rsplit_once('.') {
        Some((_, "toml")) => toml::parse(file, text),
        Some((_, "ini")) => ini::parse(file, text, around),
        Some((_, "yml" | "yaml" | "json")) => tree::parse(file, text, around),
        None => match yaml::read(file, text) {
            Ok(root) if matches!(root.data, data::Data::Map(_)) => tree::read(file, &root, around),
            _ => ini::parse(file, text, around),
        },
        Some(_) => Err(vec![Problem::new(file, "a file of an unknown kind", "*.toml, *.ini, *.yml or *.yaml")]),
    }
}

/// Names the variables that a host must have and has not; an empty one is none.
fn lacking(host: &Host, required: &[String], pointer: &str) -> Vec<Problem> {
    let has = |name: &str| {
        // Of a host in hosts.toml the address is a field.
        let address = name == "ansible_host" && host.address != host.name.as_str();
        address || host.vars.get(name).is_some_and(|value| !value.is_empty())
    };
    let missing = required.iter().filter(|name| !has(name));
    missing
        .map(|name| {
            Problem::new(
                pointer,
                format!("the host {} without {name}", host.name),
                "a value: spoolgate.toml requires it",
            )
        })
        .collect()
}

/// Checks what would be connected to; an address is never a command-line option or a path.
pub(super) fn check_address(address: &str) -> Result<(), String> {
    let rule = "an address: letters, digits and . _ - only, first a letter or digit, or an IPv6 address";
    // An address may be `::1`, which begins like no name.
    if address.parse::<core::net::Ipv6Addr>().is_ok() {
        return Ok(());
    }
    // What a name may hold that stands for a host without a port.
    match address.split_once(':') {
        None if address.parse::<HostName>().is_ok() => Ok(()),
        Some((host, port)) if !host.is_empty() && !port.is_empty() && !port.contains(':') => {
            Err("an address without a port: the port has a place of its own".to_owned())
        }
        _ => Err(rule.to_owned()),
    }
}

/// Checks a login name; directory services allow more in it than `useradd`.
pub(super) fn check_user(user: &str) -> Result<(), String> {
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
    fn a_host_has_what_is_required_of_it() {
        let ini = "[all:vars]\nENV=test\n[web]\nweb1 ansible_host=10.0.0.1\nweb2 ENV=\n";
        let parts = Parts {
            files: files(&[("a.ini", ini), ("b.toml", "[host.b]\naddress = \"10.0.0.9\"\nvars = { ENV = \"x\" }\n")]),
            required: ["ENV", "ansible_host"].map(str::to_owned).to_vec(),
            ..Parts::default()
        };
        let problems = Inventory::build(parts).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let want = [
            "a.ini:5: found the host web2 without ENV; wanted a value: spoolgate.toml requires it",
            "a.ini:5: found the host web2 without ansible_host; wanted a value: spoolgate.toml requires it",
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn files_share_groups_but_no_host() {
        let one = ("a.toml", "[host.web1]\n[group.web]\nhosts = [\"web1\"]\n");
        let merged = Inventory::assemble(files(&[one, ("b.ini", "[web]\nweb2\n[site:children]\nweb\n")])).unwrap();
        assert_eq!(merged.groups["web"].len(), 2);
        assert_eq!(merged.groups_of(&"web2".parse().unwrap()).collect::<Vec<_>>(), ["site", "web"]);
        let problems = Inventory::assemble(files(&[one, ("b.ini", "\nweb1\n"), ("c.cfg", "")])).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let want = [
            "b.ini:2: found the host web1; wanted each host in one file; a.toml:1 has it already",
            "c.cfg: found a file of an unknown kind; wanted *.toml, *.ini, *.yml or *.yaml",
        ];
        assert_eq!(shown, want);
    }
}
