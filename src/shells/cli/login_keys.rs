//! Whether the key files that a plan names can be used: `check` and `plan` say it before a host does. Floor 4.
//!
//! **Invariant:** what whoever asks may not read is not judged: the daemon may.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::adapters::ssh::key_file::{self, Unfit};
use crate::base::ids::HostName;
use crate::domain::inventory::host::Connection;
use crate::domain::plan::Plan;
use crate::domain::problem::Problem;

/// What a host or one on the way to it is logged in to with.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Login<'p> {
    key: &'p str,
    certificate: Option<&'p str>,
    has_passphrase: bool,
}

/// Returns what is wrong with the key files of a plan, and what may be.
pub(in crate::shells) fn judge(plan: &Plan, agent: bool) -> (Vec<Problem>, Vec<String>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for (login, host) in logins(plan) {
        let place = |file: &str| format!("key {file} of {host}");
        match key_file::read(Path::new(login.key)) {
            Ok(key) if key.encrypted && !login.has_passphrase && !agent => {
                let wanted = "the secret that is its passphrase (key_passphrase), or the agent (agent = true)";
                problems.push(Problem::new(place(login.key), "an encrypted key without a passphrase", wanted));
            }
            // The private half may be in the agent alone; the public one beside the name chooses it.
            Err(Unfit::Missing) if agent && key_file::beside(Path::new(login.key), ".pub").exists() => {}
            Err(Unfit::Missing) if agent => {
                warnings.push(format!("{}: there is no such file; the agent must have a key", place(login.key)));
            }
            Err(Unfit::Missing) => {
                problems.push(Problem::new(place(login.key), "no such file", "the private key, where the name says"));
            }
            Err(Unfit::Wrong { found, wanted }) => problems.push(Problem::new(place(login.key), found, wanted)),
            Ok(_) | Err(Unfit::Unreadable(_)) => {}
        }
        let Some(certificate) = login.certificate else { continue };
        match key_file::certificate(Path::new(certificate)) {
            Ok(_) | Err(Unfit::Unreadable(_)) => {}
            Err(Unfit::Missing) => {
                problems.push(Problem::new(place(certificate), "no such file", "the key's certificate"));
            }
            Err(Unfit::Wrong { found, wanted }) => problems.push(Problem::new(place(certificate), found, wanted)),
        }
    }
    (problems, warnings)
}

/// Returns each way of logging in, with the first host that has it.
fn logins(plan: &Plan) -> BTreeMap<Login<'_>, &HostName> {
    let reached: BTreeSet<&HostName> = plan.groups.iter().flat_map(|group| &group.hosts).collect();
    let hosts = plan.hosts.iter().filter(|(name, host)| reached.contains(name) && host.connection == Connection::Ssh);
    let mut logins = BTreeMap::new();
    for (name, host) in hosts {
        let hops = host.jump.iter().map(|hop| (&hop.key, &hop.certificate, &hop.key_passphrase));
        for (key, certificate, passphrase) in hops.chain([(&host.key, &host.certificate, &host.key_passphrase)]) {
            let Some(key) = key.as_deref() else { continue };
            let login = Login { key, certificate: certificate.as_deref(), has_passphrase: passphrase.is_some() };
            logins.entry(login).or_insert(name);
        }
    }
    logins
}
