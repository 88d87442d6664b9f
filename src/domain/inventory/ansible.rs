//! What Ansible's connection variables mean for a host. Floor 1.
//!
//! **Invariant:** pure. What would make Ansible reach a host in a way that is not built here (a proxy of another kind,
//! another transport) is a problem; it never becomes a direct connection. Passwords are never kept.

use std::collections::BTreeSet;

use super::address::{check_address, check_user};
use super::host::{Connection, Host, JOBS_MAX, Says, Vars};
use super::ssh_args::Way;
use crate::base::ids::{HostName, SecretName};

/// What is wrong with a host: what it is, and what would be right. No value stands in it, since it may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The host.
    pub(super) host: HostName,
    /// What is said of it, as in `with an ansible_port that is no port`.
    pub(super) what: String,
    /// What would be right.
    pub(super) wanted: String,
}

/// Makes a host from its variables, which stand for what the file said and what its groups gave it.
pub(super) fn host(name: HostName, vars: Vars, faults: &mut Vec<Fault>) -> Host {
    let mut complain = |what: String, wanted: &str| {
        faults.push(Fault { host: name.clone(), what, wanted: wanted.to_owned() });
    };
    let mut either = |names| either(&vars, names, &mut complain);
    let address = either(["ansible_host", "ansible_ssh_host"]);
    let port = either(["ansible_port", "ansible_ssh_port"]);
    let user = either(["ansible_user", "ansible_ssh_user"]);
    let key = either(["ansible_private_key_file", "ansible_ssh_private_key_file"]).map(|(_, path)| path);
    match &address {
        Some((variable, value)) => {
            if let Err(wanted) = check_address(value) {
                complain(format!("with an {variable} that is no address"), &wanted);
            }
        }
        None => {
            if let Err(wanted) = check_address(name.as_str()) {
                complain("whose name is no address".to_owned(), &format!("{wanted}; or ansible_host with the address"));
            }
        }
    }
    let address = address.map_or_else(|| name.to_string(), |(_, value)| value);
    let says_port = port.is_some();
    let port = port.map_or(22, |(variable, text)| {
        text.parse().ok().filter(|&port| port != 0).unwrap_or_else(|| {
            complain(format!("with an {variable} that is no port"), "a port from 1 to 65535");
            22
        })
    });
    if let Some((variable, Err(wanted))) = user.as_ref().map(|(variable, user)| (variable, check_user(user))) {
        complain(format!("with an {variable} that is no login name"), &wanted);
    }
    let connection = match vars.get("ansible_connection").map(|text| text.rsplit('.').next().unwrap_or(text)) {
        None | Some("ssh" | "smart" | "paramiko" | "paramiko_ssh") => Connection::Ssh,
        Some("local") => Connection::Local,
        Some(_) => {
            complain("with another ansible_connection".to_owned(), "ssh or local");
            Connection::Ssh
        }
    };
    let mut way = Way::default();
    for variable in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
        let Some(args) = vars.get(variable).filter(|_| connection == Connection::Ssh) else { continue };
        if let Err(refused) = way.read(args) {
            complain(format!("with {} in {variable}", refused.found), refused.wanted);
        }
    }
    if way.commands.len().saturating_add(usize::from(!way.jump.is_empty())) > 1 {
        complain("with more than one proxy".to_owned(), "hops, or one ProxyCommand");
    }
    let key_passphrase = vars.get(KEY_PASSPHRASE).and_then(|text| match text.parse::<SecretName>() {
        Ok(secret) => Some(secret),
        Err(wanted) => {
            complain(format!("with a {KEY_PASSPHRASE} that names no secret"), &wanted.to_string());
            None
        }
    });
    let jobs = vars.get(JOBS).map_or(1, |text| {
        text.parse::<u32>().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs)).unwrap_or_else(|| {
            complain(format!("with a {JOBS} that is out of bounds"), &format!("a whole number from 1 to {JOBS_MAX}"));
            1
        })
    });
    let vars = vars.into_iter().filter(|(name, _)| !is_password(name)).collect();
    let (jump, proxy_command) = (way.jump, way.commands.into_iter().next());
    let says = Says { port: says_port, way: way.said };
    let (tags, user) = (BTreeSet::new(), user.map(|(_, user)| user));
    Host { name, address, port, user, key, key_passphrase, connection, jobs, jump, proxy_command, says, tags, vars }
}

/// Returns which of two variables of the same meaning is set, and its value. A range in it is none: it is said to be one, and
/// nothing else is said of it.
fn either(
    vars: &Vars,
    names: [&'static str; 2],
    complain: &mut impl FnMut(String, &str),
) -> Option<(&'static str, String)> {
    let given: Vec<(&'static str, &String)> = names.into_iter().filter_map(|n| vars.get(n).map(|v| (n, v))).collect();
    if let [(_, first), (_, second)] = given.as_slice()
        && first != second
    {
        complain(format!("with both {} and {}", names[0], names[1]), "one of the two");
    }
    let (variable, value) = *given.first()?;
    if may_be_a_range(value) {
        complain(format!("with a range in the value of {variable}"), WANTED_RANGE);
        return None;
    }
    Some((variable, value.clone()))
}

/// The variable that says how many tasks may run on a host at once.
const JOBS: &str = "spoolgate_jobs";
/// The variable that names the secret with the passphrase of a host's key. It is ours: Ansible's own would hold the passphrase.
const KEY_PASSPHRASE: &str = "spoolgate_key_passphrase";
const WANTED_RANGE: &str = "ranges in names only, as in web[1:3]: a value is the same for every host of its line, so give \
                            each host a line of its own";

/// Whether a value holds what is a range in the name of a host.
fn may_be_a_range(value: &str) -> bool {
    let inside = value.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
    let bounds = inside.and_then(|inside| inside.split_once(':'));
    bounds.is_some_and(|(from, to)| {
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == ':');
        // An address in brackets has more colons.
        let begins = to.starts_with(|c: char| c.is_ascii_alphanumeric());
        begins && plain(from) && plain(to) && to.matches(':').count() < 2
    })
}

/// Whether a variable of Ansible's holds a password.
fn is_password(name: &str) -> bool {
    name.starts_with("ansible_")
        && (name.ends_with("_pass") || name.ends_with("password") || name.ends_with("passphrase"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(vars: &[(&str, &str)], want: &str) {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut problems = Vec::new();
        let host = host("h".parse().unwrap(), vars, &mut problems);
        let mut shown = format!("{} {}", host.address, host.port);
        shown.extend(host.user.map(|user| format!(" user={user}")));
        for hop in &host.jump {
            let user = hop.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            let port = hop.port.map(|port| format!(":{port}")).unwrap_or_default();
            shown.push_str(&format!(" via {user}{}{port}", hop.host));
        }
        shown.extend(host.proxy_command.map(|command| format!(" through [{command}]")));
        shown.extend(host.key.map(|key| format!(" key={key}")));
        shown.extend(host.key_passphrase.map(|secret| format!(" secret={secret}")));
        shown.push_str(if host.connection == Connection::Local { " local" } else { "" });
        shown.extend(
            host.vars
                .keys()
                .filter(|name| name.starts_with("ansible_") && name.contains("pass"))
                .map(|name| format!(" kept {name}")),
        );
        shown.extend(problems.iter().map(|fault| format!(" | {}", fault.what)));
        assert_eq!(shown, want);
    }

    #[test]
    fn connection_variables_are_mapped() {
        check(&[], "h 22");
        check(&[("ansible_host", "10.0.0.1"), ("ansible_port", "2222"), ("ansible_user", "u")], "10.0.0.1 2222 user=u");
        check(
            &[("ansible_ssh_host", "::1"), ("ansible_ssh_port", "23"), ("ansible_ssh_user", "d\\u")],
            "::1 23 user=d\\u",
        );
        check(
            &[("ansible_ssh_private_key_file", "~/.ssh/k"), ("ansible_connection", "local")],
            "h 22 key=~/.ssh/k local",
        );
        check(&[("ansible_password", "x"), ("ansible_become_pass", "x"), ("ansible_ssh_pass", "x")], "h 22");
        check(
            &[("ansible_host", "a"), ("ansible_ssh_host", "b")],
            "a 22 | with both ansible_host and ansible_ssh_host",
        );
        check(&[("ansible_ssh_private_key_passphrase", "x"), ("spoolgate_key_passphrase", "keys")], "h 22 secret=keys");
        check(
            &[("spoolgate_key_passphrase", "not a name")],
            "h 22 | with a spoolgate_key_passphrase that names no secret",
        );
        for address in ["-oProxyCommand=x", "10.0.0.1:2222", "gw:ssh", "[::1]", "[::1]:22", "::1:", "u@h", ""] {
            let want = format!("{address} 22 | with an ansible_host that is no address");
            check(&[("ansible_host", address)], &want);
        }
        check(&[("ansible_ssh_port", "0")], "h 22 | with an ansible_ssh_port that is no port");
        check(&[("ansible_user", "-l root")], "h 22 user=-l root | with an ansible_user that is no login name");
        check(&[("ansible_connection", "community.docker.docker")], "h 22 | with another ansible_connection");
        check(&[("spoolgate_jobs", "0")], "h 22 | with a spoolgate_jobs that is out of bounds");
    }

    #[test]
    fn a_range_in_a_value_is_said_to_be_one() {
        for value in ["10.0.0.[1:30]", "web[01:10:3].example", "[a:f]"] {
            check(&[("ansible_host", value)], "h 22 | with a range in the value of ansible_host");
            check(&[("ansible_ssh_port", value)], "h 22 | with a range in the value of ansible_ssh_port");
        }
        check(&[("ansible_host", "10.0.0.[1]")], "10.0.0.[1] 22 | with an ansible_host that is no address");
    }
}
