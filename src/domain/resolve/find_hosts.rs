//! The hosts of a plan: which ones a task means, and how each is reached. Floor 1.
//!
//! **Invariant:** pure. Every host that a plan names is described in it once, with the keys it may answer with.

use std::collections::{BTreeMap, BTreeSet};

use super::host_env;
use super::reach::{Reached, Ways, through};
use crate::base::ids::{GroupNo, HostName, ParamName};
use crate::base::limits;
use crate::domain::inventory::host::{Connection, Host};
use crate::domain::inventory::selector::Selecting;
use crate::domain::library::Library;
use crate::domain::plan::PlannedHost;
use crate::domain::problem::Problem;
use crate::domain::ssh_config::Query;
use crate::domain::submission::{Hosts, Submission, Work};
use crate::domain::template::GroupHosts;

/// Finds hosts, and keeps what a plan says of each.
pub(super) struct HostFinder<'a> {
    pub(super) library: &'a Library,
    selecting: Selecting<'a>,
    ways: Ways<'a>,
    /// What variables for ported scripts begin with.
    prefix: Option<&'a ParamName>,
    pub(super) planned: BTreeMap<HostName, PlannedHost>,
}

impl<'a> HostFinder<'a> {
    pub(super) fn new(library: &'a Library, prefix: Option<&'a ParamName>) -> HostFinder<'a> {
        let ways = Ways { library, unasked: BTreeSet::new() };
        HostFinder { library, selecting: Selecting::new(&library.inventory), ways, prefix, planned: BTreeMap::new() }
    }

    /// Returns the hosts of each group: those that the task names, and those that the template does.
    pub(super) fn groups(
        &mut self,
        submission: &Submission,
        own: Option<&BTreeMap<GroupNo, GroupHosts>>,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<GroupNo, Vec<HostName>> {
        let none = BTreeMap::new();
        let own = own.unwrap_or(&none);
        let most = limits::HOSTS_PER_TASK.max(self.library.defaults.hosts_per_group);
        let (mut groups, mut all) = (BTreeMap::new(), 0_usize);
        for (group, wished) in submission.hosts.iter().filter(|(group, _)| !own.contains_key(*group)) {
            let Some(hosts) = self.group(*group, wished, problems) else { continue };
            all = all.saturating_add(hosts.len());
            if all > most {
                let wanted = format!("at most {most} hosts over all groups of a task");
                problems.push(Problem::new("/hosts", "more", wanted));
                return groups;
            }
            groups.insert(*group, hosts);
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
                chosen = match self.selecting.select(selector) {
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
                    match planned_host(host, &mut self.ways, self.prefix) {
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
fn planned_host(host: &Host, ways: &mut Ways<'_>, prefix: Option<&ParamName>) -> Result<PlannedHost, String> {
    let library = ways.library;
    let reached = ways.reach(host)?;
    let (jump, proxy_command) = (ways.hops(&reached)?, through(&reached)?);
    let Reached { host, user, key, certificate, host_keys } = reached;
    Ok(PlannedHost {
        connection: host.connection,
        certificate,
        env: host_env::variables(&host, &library.inventory, prefix),
        environment: host.environment().to_owned(),
        host_keys: if host.connection == Connection::Ssh { host_keys } else { BTreeSet::new() },
        jobs: host.jobs,
        jump,
        key,
        port: host.port,
        proxy_command,
        tags: library.inventory.tags(&host),
        user,
        vars: BTreeMap::new(),
        key_passphrase: host.key_passphrase.or_else(|| library.defaults.key_passphrase.clone()),
        address: host.address,
    })
}

/// Returns the questions about hosts that have to be answered before a task can be planned; the answers may raise others.
#[must_use]
pub fn unasked(submission: &Submission, library: &Library) -> BTreeSet<Query> {
    if library.ssh.is_none() {
        return BTreeSet::new();
    }
    let template = match &submission.work {
        Work::Template { template, .. } => library.catalogue.find(template),
        Work::Script { .. } => None,
    };
    let mut hosts = HostFinder::new(library, None);
    // What else is wrong with it is said when it is planned.
    let mut unheard = Vec::new();
    let _groups = hosts.groups(submission, template.map(|template| &template.groups), &mut unheard);
    if let Some(word) = &submission.proxy {
        let _proxy = hosts.find(word, "/proxy", &mut unheard);
    }
    hosts.ways.unasked
}
