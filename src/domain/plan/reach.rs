//! How a host is reached: as the inventory says, and as OpenSSH's configuration says where the inventory is silent. Floor 1.
//!
//! **Invariant:** pure. What the inventory states wins; a host that OpenSSH's configuration has to be asked about, and was not, is
//! not planned.

use std::collections::{BTreeMap, BTreeSet};

use super::{Library, PlannedHop};
use crate::base::ids::HostName;
use crate::domain::inventory::jump::Jump;
use crate::domain::inventory::proxy_command::{self, Values};
use crate::domain::inventory::{Connection, Host, Says};
use crate::domain::known_hosts::HostKey;
use crate::domain::ssh_config::{Answer, Query};

/// How many hosts a connection passes at most; hosts that lead to each other end here.
const HOPS_MAX: usize = 8;

/// Finds ways, and notes what it would have to be told for it.
pub(super) struct Ways<'a> {
    pub(super) library: &'a Library,
    /// The questions that nobody asked yet.
    pub(super) unasked: BTreeSet<Query>,
}

/// A host with everything that is said of its way.
pub(super) struct Reached {
    pub(super) host: Host,
    pub(super) user: String,
    pub(super) key: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) host_keys: BTreeSet<HostKey>,
}

impl Ways<'_> {
    /// Returns how a host is reached.
    ///
    /// # Errors
    /// What would have to be right for it to be reached.
    pub(super) fn reach(&mut self, host: &Host) -> Result<Reached, String> {
        let mut host = host.clone();
        let answer = self.ask(&host)?;
        let mut files = Vec::new();
        let mut certificate = None;
        if let Some(answer) = answer {
            if host.key.is_none() {
                certificate = answer.certificates.into_iter().next();
            }
            host.key = host.key.or_else(|| answer.keys.into_iter().next());
            if !host.says.way {
                (host.jump, host.proxy_command) = (answer.jump, answer.proxy_command);
            }
            (host.address, host.port, host.user) = (answer.address, answer.port, Some(answer.user));
            files = answer.known_hosts;
        }
        let defaults = &self.library.defaults;
        let user = host.user.clone().unwrap_or_else(|| defaults.user.clone());
        let key = host.key.clone().or_else(|| defaults.key.clone());
        let host_keys = self.keys_for(&host.address, host.port, &files);
        Ok(Reached { host, user, key, certificate, host_keys })
    }

    /// Returns what OpenSSH's configuration says of a host; nothing where it is not to be asked.
    fn ask(&mut self, host: &Host) -> Result<Option<Answer>, String> {
        let Some(answers) = self.library.ssh.as_ref().filter(|_| host.connection == Connection::Ssh) else {
            return Ok(None);
        };
        let query = Query {
            name: host.name.to_string(),
            address: Some(&host.address).filter(|address| *address != host.name.as_str()).cloned(),
            port: host.says.port.then_some(host.port),
            user: host.user.clone(),
        };
        match answers.said.get(&query) {
            Some(Ok(answer)) => Ok(Some(answer.clone())),
            Some(Err(why)) => Err(format!("an ssh_config that says how: {why}")),
            None if answers.lenient => Ok(None),
            None => {
                self.unasked.insert(query);
                Err("what ssh_config says of it, which was not asked yet; try again".to_owned())
            }
        }
    }

    /// Returns the keys of a place: those that our own file knows, or else those that the files of OpenSSH do.
    fn keys_for(&self, address: &str, port: u16, files: &[String]) -> BTreeSet<HostKey> {
        let own = self.library.known_hosts.keys_for(address, port);
        if !own.is_empty() || files.is_empty() {
            return own.into_iter().collect();
        }
        let known = self.library.ssh.iter().flat_map(|answers| files.iter().filter_map(|f| answers.known_hosts.get(f)));
        let known: Vec<_> = known.collect();
        let keys = known.iter().flat_map(|known| known.keys_for(address, port));
        // Whoever revokes a key revokes it in every file.
        let gone = |key: &HostKey| {
            let revokes = known.iter().any(|known| known.revokes(address, port, key));
            revokes || self.library.known_hosts.revokes(address, port, key)
        };
        keys.filter(|key| !gone(key)).collect()
    }

    /// Returns the way to a host that was reached.
    pub(super) fn hops(&mut self, reached: &Reached) -> Result<Vec<PlannedHop>, String> {
        self.hops_to(&reached.host, HOPS_MAX)
    }

    /// Returns before each of a host's hops the hops that lead there.
    fn hops_to(&mut self, host: &Host, most: usize) -> Result<Vec<PlannedHop>, String> {
        let mut way: Vec<PlannedHop> = Vec::new();
        for jump in host.jump.iter().filter(|_| host.connection == Connection::Ssh) {
            let known = jump.host.parse().ok().and_then(|word| self.library.inventory.find(&word).ok()).cloned();
            let mut hop = known.unwrap_or_else(|| stranger(jump, host));
            // What is said with the hop is said of it.
            if let Some(port) = jump.port {
                (hop.port, hop.says.port) = (port, true);
            }
            hop.user = jump.user.clone().or(hop.user);
            hop.connection = Connection::Ssh;
            let itself = hop.name == host.name;
            let reached = self.reach(&hop)?;
            let first = way.is_empty();
            if first && most > 1 && !itself {
                way.extend(self.hops_to(&reached.host, most - 1)?);
            }
            // What is behind another host is reached through it, whatever leads there from here.
            let proxy_command = if way.is_empty() { through(&reached)? } else { None };
            let passphrase = reached.host.key_passphrase.or_else(|| self.library.defaults.key_passphrase.clone());
            way.push(PlannedHop {
                address: reached.host.address,
                certificate: reached.certificate,
                host_keys: reached.host_keys,
                key: reached.key,
                key_passphrase: passphrase,
                port: reached.host.port,
                proxy_command,
                user: reached.user,
            });
        }
        way.truncate(HOPS_MAX);
        Ok(way)
    }
}

/// Returns the command that a connection to a host goes through.
pub(super) fn through(reached: &Reached) -> Result<Option<String>, String> {
    let host = &reached.host;
    let command = host.proxy_command.as_ref().filter(|_| host.connection == Connection::Ssh);
    let values = Values { address: &host.address, port: host.port, user: &reached.user, name: host.name.as_str() };
    command.map(|command| proxy_command::fill(command, &values)).transpose()
}

/// Makes a host of a hop that the inventory does not hold.
fn stranger(jump: &Jump, from: &Host) -> Host {
    Host {
        // An address such as ::1 is no name.
        name: jump.host.parse().or_else(|_| "localhost".parse::<HostName>()).unwrap_or_else(|_| from.name.clone()),
        address: jump.host.clone(),
        port: 22,
        user: None,
        key: None,
        key_passphrase: None,
        connection: Connection::Ssh,
        jump: Vec::new(),
        proxy_command: None,
        says: Says::default(),
        tags: BTreeSet::new(),
        vars: BTreeMap::new(),
    }
}
