//! Puts an inventory together from its files, its scripts and the variables beside them. Floor 1.
//!
//! **Invariant:** pure. A host stands in one file; every problem of every file is said at once.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::part::Part;
use super::script::{self, Script};
use super::vars_files::VarsFiles;
use super::{Inventory, ini, toml, tree};
use crate::base::ids::HostName;
use crate::base::limits;
use crate::domain::problem::Problem;
use crate::domain::read::{data, yaml};

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

impl Inventory {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
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
