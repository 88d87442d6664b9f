//! The hosts of a plan: which ones a task means, and how each is reached. Floor 1.
//!
//! **Invariant:** pure. Every host that a plan names is described in it once, with the keys it may answer with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Library, PlannedHop, PlannedHost, host_env};
use crate::base::ids::{GroupNo, HostName, ParamName};
use crate::domain::inventory::proxy_command::{self, Values};
use crate::domain::inventory::selector::select;
use crate::domain::inventory::{Connection, Host};
use crate::domain::problem::Problem;
use crate::domain::submission::{Hosts, Submission};
use crate::domain::template::GroupHosts;

/// Finds hosts, and keeps what a plan says of each.
pub(super) struct HostFinder<'a> {
    pub(super) library: &'a Library,
    /// What variables for ported scripts begin with.
    pub(super) prefix: Option<&'a ParamName>,
    pub(super) planned: BTreeMap<HostName, PlannedHost>,
}

impl HostFinder<'_> {
    /// Returns the hosts of each group: those that the task names, and those that the template does.
    pub(super) fn groups(
        &mut self,
        submission: &Submission,
        own: Option<&BTreeMap<GroupNo, GroupHosts>>,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<GroupNo, Vec<HostName>> {
        let none = BTreeMap::new();
        let own = own.unwrap_or(&none);
        let mut groups = BTreeMap::new();
        for (group, wished) in submission.hosts.iter().filter(|(group, _)| !own.contains_key(*group)) {
            groups.extend(self.group(*group, wished, problems).map(|hosts| (*group, hosts)));
        }
        for (group, hosts) in own {
            let hosts = match hosts {
                GroupHosts::Forced(word) => {
                    self.find(word, &format!("/hosts/{group}"), problems).map(|host| vec![host])
                }
                GroupHosts::SameAs(other) => groups.get(other).cloned(),
            };
            groups.extend(hosts.map(|hosts| (*group, hosts)));
        }
        groups
    }

    /// Returns the hosts of one group, each once; none when there is a problem with all of them.
    fn group(&mut self, group: GroupNo, wished: &Hosts, problems: &mut Vec<Problem>) -> Option<Vec<HostName>> {
        let pointer = format!("/hosts/{group}");
        let chosen;
        let words = match wished {
            Hosts::Named(words) => words,
            Hosts::Chosen(selector) => {
                chosen = match select(&self.library.inventory, selector) {
                    Ok(names) => names,
                    Err(found) => {
                        problems.extend(found.into_iter().map(|why| Problem::new(&pointer, selector, why)));
                        return None;
                    }
                };
                if chosen.is_empty() {
                    let wanted = "a selector that leaves at least one host";
                    problems.push(Problem::new(&pointer, selector, wanted));
                    return None;
                }
                &chosen
            }
        };
        let most = self.library.defaults.hosts_per_group;
        if words.len() > most {
            let found = format!("{} hosts", words.len());
            problems.push(Problem::new(&pointer, found, format!("at most {most} hosts in a group")));
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut names = Vec::with_capacity(words.len());
        for word in words {
            let Some(name) = self.find(word, &pointer, problems) else { continue };
            if !seen.insert(name.clone()) {
                let wanted = format!("each host once; {name} is in this group already");
                problems.push(Problem::new(&pointer, word.as_str(), wanted));
            }
            names.push(name);
        }
        Some(names)
    }

    /// Finds one host by its name or address, and plans it.
    pub(super) fn find(&mut self, word: &HostName, pointer: &str, problems: &mut Vec<Problem>) -> Option<HostName> {
        match self.library.inventory.find(word) {
            Ok(host) => {
                if !self.planned.contains_key(&host.name) {
                    match planned_host(host, self.library, self.prefix) {
                        Ok(planned) => drop(self.planned.insert(host.name.clone(), planned)),
                        Err(wanted) => {
                            problems.push(Problem::new(pointer, format!("the way to {}", host.name), wanted));
                            return None;
                        }
                    }
                }
                Some(host.name.clone())
            }
            Err(problem) => {
                problems.push(Problem { pointer: pointer.to_owned(), ..problem });
                None
            }
        }
    }
}

/// Plans one host.
///
/// # Errors
/// What would have to be right for it to be reached.
fn planned_host(host: &Host, library: &Library, prefix: Option<&ParamName>) -> Result<PlannedHost, String> {
    let user = host.user.as_ref().unwrap_or(&library.defaults.user);
    Ok(PlannedHost {
        address: host.address.clone(),
        connection: host.connection,
        env: host_env::variables(host, &library.inventory, prefix),
        environment: host.environment().to_owned(),
        host_keys: match host.connection {
            Connection::Ssh => library.known_hosts.keys_for(&host.address, host.port).into_iter().collect(),
            Connection::Local => BTreeSet::new(),
        },
        jump: if host.connection == Connection::Ssh { hops(host, library, HOPS_MAX)? } else { Vec::new() },
        key: host.key.clone().or_else(|| library.defaults.key.clone()),
        key_passphrase: host.key_passphrase.clone().or_else(|| library.defaults.key_passphrase.clone()),
        port: host.port,
        proxy_command: through(host, (&host.address, host.port, user))?,
        tags: library.inventory.tags(host),
        user: user.clone(),
        vars: BTreeMap::new(),
    })
}

/// Returns the command that a connection to a host goes through.
fn through(host: &Host, (address, port, user): (&str, u16, &str)) -> Result<Option<String>, String> {
    let command = host.proxy_command.as_ref().filter(|_| host.connection == Connection::Ssh);
    let values = Values { address, port, user, name: host.name.as_str() };
    command.map(|command| proxy_command::fill(command, &values)).transpose()
}

/// How many hosts a connection passes at most; hosts that lead to each other end here.
const HOPS_MAX: usize = 8;

/// Returns the way to a host: before each of its hops the hops that lead there.
fn hops(host: &Host, library: &Library, most: usize) -> Result<Vec<PlannedHop>, String> {
    let mut way: Vec<PlannedHop> = Vec::new();
    for jump in &host.jump {
        let known = jump.host.parse().ok().and_then(|word| library.inventory.find(&word).ok());
        if let Some(known) = known.filter(|known| way.is_empty() && most > 1 && known.name != host.name) {
            way.extend(hops(known, library, most - 1)?);
        }
        let address = known.map_or(&jump.host, |known| &known.address).clone();
        let port = jump.port.or(known.map(|known| known.port)).unwrap_or(22);
        let user = jump.user.clone().or_else(|| known.and_then(|known| known.user.clone()));
        let user = user.unwrap_or_else(|| library.defaults.user.clone());
        let key = known.and_then(|known| known.key.clone());
        let passphrase = known.and_then(|known| known.key_passphrase.clone());
        // What is behind another host is reached through it, whatever leads there from here.
        let first = known.filter(|_| way.is_empty());
        way.push(PlannedHop {
            host_keys: library.known_hosts.keys_for(&address, port).into_iter().collect(),
            proxy_command: first.map_or(Ok(None), |first| through(first, (&address, port, &user)))?,
            address,
            key: key.or_else(|| library.defaults.key.clone()),
            key_passphrase: passphrase.or_else(|| library.defaults.key_passphrase.clone()),
            port,
            user,
        });
    }
    way.truncate(HOPS_MAX);
    Ok(way)
}
