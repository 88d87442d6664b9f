//! How a host is reached: as the inventory says, and as OpenSSH's configuration says where the inventory is silent. Floor 1.
//!
//! **Invariant:** pure. What the inventory states wins; a host that OpenSSH's configuration has to be asked about, and was not, is
//! not planned.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::HostName;
use crate::domain::inventory::host::{Connection, Host, Says};
use crate::domain::inventory::jump::Jump;
use crate::domain::inventory::proxy_command::{self, Values};
use crate::domain::known_hosts::HostKey;
use crate::domain::library::Library;
use crate::domain::plan::PlannedHop;
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
                way.extend(self.hops_to(&reached.host, most.saturating_sub(1))?);
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
        jobs: 1,
        jump: Vec::new(),
        proxy_command: None,
        says: Says::default(),
        tags: BTreeSet::new(),
        vars: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Zone;
    use crate::domain::hook::Hooks;
    use crate::domain::inventory::Inventory;
    use crate::domain::known_hosts::KnownHosts;
    use crate::domain::library::Defaults;
    use crate::domain::policy::Policy;
    use crate::domain::share::Shares;
    use crate::domain::ssh_config::Answers;
    use crate::domain::template::Catalogue;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ/k3uTuN2tHDvcf9dD4aX90HmglmF7JC1SK26SePpi0";
    const ED2: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFnUjL+UjhUD/z7c2rF2QphDt9LS6pFVoiNbgwhHCb3B";

    fn library(inventory: &str, own: &str, answers: Answers) -> Library {
        Library {
            catalogue: Catalogue::default(),
            inventory: Inventory::assemble(vec![("a.toml".to_owned(), inventory.to_owned())]).unwrap(),
            known_hosts: KnownHosts::parse(own),
            ssh: Some(answers),
            policy: Policy::Personal { owner: 0 },
            defaults: Defaults {
                user: "ops".to_owned(),
                key: Some("/default".to_owned()),
                key_passphrase: None,
                hosts_per_group: 10,
                hosts_in_flight: 10,
                late_after_ms: 0,
            },
            tags: BTreeMap::new(),
            files: std::sync::Arc::new(crate::domain::file_step::NoFiles),
            zone: Zone::utc(),
            hooks: Hooks::default(),
            shares: Shares::default(),
        }
    }

    fn answers() -> Answers {
        let answer = Answer {
            address: "10.0.0.9".to_owned(),
            port: 2222,
            user: "theirs".to_owned(),
            keys: vec!["/theirs".to_owned()],
            certificates: vec!["/theirs-cert".to_owned()],
            jump: Jump::parse_list("gw").unwrap(),
            proxy_command: None,
            known_hosts: vec!["/known".to_owned()],
        };
        let gw = Answer { address: "10.0.0.1".to_owned(), port: 22, jump: Vec::new(), ..answer.clone() };
        let query = |name: &str| Query { name: name.to_owned(), address: None, port: None, user: None };
        let stated = Query { port: Some(7), user: Some("ours".to_owned()), ..query("web2") };
        let said = [(query("web1"), answer.clone()), (stated, Answer { port: 7, ..answer }), (query("gw"), gw)];
        Answers { said: said.map(|(query, answer)| (query, Ok(answer))).into(), ..Answers::default() }
    }

    #[track_caller]
    fn check(host: &str, own: &str, theirs: &str, want: &str) {
        let inventory =
            "[host.web1]\n[host.web2]\nport = 7\nuser = \"ours\"\nkey = \"/ours\"\njump = [\"gw\"]\n[host.web3]\n";
        let mut answers = answers();
        answers.known_hosts.insert("/known".to_owned(), KnownHosts::parse(theirs));
        let library = library(inventory, own, answers);
        let mut ways = Ways { library: &library, unasked: BTreeSet::new() };
        let way = ways.reach(&library.inventory.hosts[&host.parse().unwrap()]).and_then(|reached| {
            let hops: Vec<String> = ways.hops(&reached)?.iter().map(|hop| format!(" via {}", hop.address)).collect();
            let keys = reached.host_keys.iter().map(|key| &key.fingerprint[7..11]).collect::<Vec<_>>().join(" ");
            let Reached { host, user, key, certificate, .. } = reached;
            let [key, certificate] = [key, certificate].map(Option::unwrap_or_default);
            Ok(format!("{user}@{}:{} {key} {certificate}{} keys {keys}", host.address, host.port, hops.concat()))
        });
        let unasked: Vec<String> = ways.unasked.iter().map(|query| format!(" unasked {}", query.name)).collect();
        assert_eq!(way.unwrap_or_else(|_| "no way".to_owned()) + &unasked.concat(), want, "{host}");
    }

    #[test]
    fn the_inventory_wins_value_by_value_and_who_was_not_asked_about_is_not_planned() {
        check("web1", "", "", "theirs@10.0.0.9:2222 /theirs /theirs-cert via 10.0.0.1 keys ");
        check("web2", "", "", "theirs@10.0.0.9:7 /ours  via 10.0.0.1 keys ");
        check("web3", "", "", "no way unasked web3");
    }

    #[test]
    fn our_known_hosts_come_first_and_revoke_everywhere() {
        let place = "[10.0.0.9]:2222";
        let way = |keys: &str| format!("theirs@10.0.0.9:2222 /theirs /theirs-cert via 10.0.0.1 keys {keys}");
        check("web1", "", &format!("{place} {ED}\n"), &way("w20d"));
        check("web1", &format!("{place} {ED2}\n"), &format!("{place} {ED}\n"), &way("M5b3"));
        check("web1", &format!("@revoked * {ED}\n"), &format!("{place} {ED}\n{place} {ED2}\n"), &way("M5b3"));
        check("web1", "", &format!("@revoked * {ED}\n{place} {ED}\n"), &way(""));
    }
}
