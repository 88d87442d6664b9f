//! What Ansible's connection variables mean for a host. Floor 1.
//!
//! **Invariant:** pure. What would make Ansible reach a host in a way that is not built here (a proxy of another kind,
//! another transport) is a problem; it never becomes a direct connection. Passwords are never kept.

use std::collections::BTreeSet;

use super::groups::Vars;
use super::ini_words::split_words;
use super::jump::Jump;
use super::{Connection, Host, JOBS_MAX, Says, check_address, check_user, proxy_command};
use crate::base::ids::{HostName, SecretName};
use crate::domain::problem::Problem;

/// `ssh_config` keywords that do not change which host is reached, as which user and with which key; they may stand
/// in `ansible_ssh_common_args` and its like, and have no effect. Host keys are checked whatever they say.
const HARMLESS: &[&str] = &[
    "batchmode",
    "checkhostip",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "forwardagent",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "identitiesonly",
    "kbdinteractiveauthentication",
    "loglevel",
    "passwordauthentication",
    "preferredauthentications",
    "pubkeyauthentication",
    "requesttty",
    "serveralivecountmax",
    "serveraliveinterval",
    "stricthostkeychecking",
    "tcpkeepalive",
    "userknownhostsfile",
];

/// Makes a host from its variables, which stand for what the file said at `pointer` and what its groups gave it.
pub(super) fn host(name: HostName, vars: Vars, pointer: &str, problems: &mut Vec<Problem>) -> Host {
    let mut complain = |found: String, wanted: String| problems.push(Problem::new(pointer, found, wanted));
    let mut either = |names: [&str; 2]| {
        let given: Vec<(&str, &String)> =
            names.into_iter().filter_map(|n| vars.get(n).map(|value| (n, value))).collect();
        if let [(_, first), (_, second)] = given.as_slice()
            && first != second
        {
            complain(format!("{name} with both {} and {}", names[0], names[1]), "one of the two".to_owned());
        }
        given.first().map(|(_, value)| (*value).clone())
    };
    let address = either(["ansible_host", "ansible_ssh_host"]).unwrap_or_else(|| name.to_string());
    let port = either(["ansible_port", "ansible_ssh_port"]);
    let user = either(["ansible_user", "ansible_ssh_user"]);
    let key = either(["ansible_private_key_file", "ansible_ssh_private_key_file"]);
    if let Err(wanted) = check_address(&address) {
        complain(format!("{name} at {address}"), wanted);
    }
    let says_port = port.is_some();
    let port = port.map_or(22, |text| {
        text.parse().ok().filter(|&port| port != 0).unwrap_or_else(|| {
            complain(format!("{name} on port {text}"), "a port from 1 to 65535".to_owned());
            22
        })
    });
    if let Some(Err(wanted)) = user.as_deref().map(check_user) {
        complain(format!("{name} with the user {}", user.as_deref().unwrap_or_default()), wanted);
    }
    let connection = match vars.get("ansible_connection").map(|text| text.rsplit('.').next().unwrap_or(text)) {
        None | Some("ssh" | "smart" | "paramiko" | "paramiko_ssh") => Connection::Ssh,
        Some("local") => Connection::Local,
        Some(other) => {
            complain(format!("{name} with ansible_connection={other}"), "ssh or local".to_owned());
            Connection::Ssh
        }
    };
    let mut way = Way::default();
    for variable in ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"] {
        let Some(args) = vars.get(variable).filter(|_| connection == Connection::Ssh) else { continue };
        if let Err(found) = way.read(args) {
            complain(format!("{name} with {found} in {variable}"), WANTED_ARGS.to_owned());
        }
    }
    if way.commands.len() + usize::from(!way.jump.is_empty()) > 1 {
        complain(format!("{name} with more than one proxy"), "hops, or one ProxyCommand".to_owned());
    }
    let key_passphrase = vars.get(KEY_PASSPHRASE).and_then(|text| match text.parse::<SecretName>() {
        Ok(secret) => Some(secret),
        Err(wanted) => {
            complain(format!("{name} with a {KEY_PASSPHRASE} that names no secret"), wanted.to_string());
            None
        }
    });
    let jobs = vars.get(JOBS).map_or(1, |text| {
        text.parse::<u32>().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs)).unwrap_or_else(|| {
            complain(format!("{name} with {JOBS}={text}"), format!("a whole number from 1 to {JOBS_MAX}"));
            1
        })
    });
    let vars = vars.into_iter().filter(|(name, _)| !is_password(name)).collect();
    let (jump, proxy_command) = (way.jump, way.commands.into_iter().next());
    let says = Says { port: says_port, way: way.said };
    let tags = BTreeSet::new();
    Host { name, address, port, user, key, key_passphrase, connection, jobs, jump, proxy_command, says, tags, vars }
}

/// The variable that says how many tasks may run on a host at once.
const JOBS: &str = "spoolgate_jobs";
/// The variable that names the secret with the passphrase of a host's key. It is ours: Ansible's own would hold the passphrase.
const KEY_PASSPHRASE: &str = "spoolgate_key_passphrase";

/// What may stand in the arguments for `ssh`.
const WANTED_ARGS: &str = "ProxyJump, -J, ProxyCommand with %h, %p, %r and %n, or options that change nothing";

/// How arguments for `ssh` lead to a host.
#[derive(Default)]
struct Way {
    jump: Vec<Jump>,
    commands: Vec<String>,
    /// Whether they say anything about it, be it that there is no proxy.
    said: bool,
}

impl Way {
    /// Reads arguments for `ssh`.
    ///
    /// # Errors
    /// The argument that would change how or whether the host is reached in another way.
    fn read(&mut self, args: &str) -> Result<(), String> {
        let words = split_words(args).map_err(|wanted| format!("quotes that lack {wanted}"))?;
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let option = match word {
                "-C" | "-q" | "-v" | "-vv" | "-vvv" | "-T" | "-t" | "-tt" | "-4" | "-x" => continue,
                "-J" => {
                    let hops = words.next().unwrap_or_default();
                    self.said = true;
                    self.jump.extend(Jump::parse_list(hops).map_err(|_| format!("-J {hops}"))?);
                    continue;
                }
                "-o" => words.next().unwrap_or_default(),
                other => other.strip_prefix("-o").ok_or_else(|| other.to_owned())?,
            };
            let option = option.trim_start();
            let end = option.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(option.len());
            let (keyword, value) =
                (option[..end].trim(), option[end..].trim_start_matches(|c: char| c == '=' || c.is_whitespace()));
            match keyword.to_ascii_lowercase().as_str() {
                "proxyjump" | "proxycommand" if value.eq_ignore_ascii_case("none") => self.said = true,
                "proxyjump" => {
                    self.said = true;
                    self.jump.extend(Jump::parse_list(value).map_err(|_| format!("ProxyJump {value}"))?);
                }
                "proxycommand" => {
                    self.said = true;
                    if let Some(hop) = Jump::of_proxy_command(&split_words(value).unwrap_or_default()) {
                        self.jump.push(hop);
                    } else {
                        proxy_command::check(value).map_err(|_| format!("ProxyCommand {value}"))?;
                        self.commands.push(value.to_owned());
                    }
                }
                known if HARMLESS.contains(&known) => {}
                _ => return Err(keyword.to_owned()),
            }
        }
        Ok(())
    }
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
        let host = host("h".parse().unwrap(), vars, "f:1", &mut problems);
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
        shown.extend(problems.iter().map(|problem| format!(" | {}", problem.found)));
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
            "a 22 | h with both ansible_host and ansible_ssh_host",
        );
        check(&[("ansible_ssh_private_key_passphrase", "x"), ("spoolgate_key_passphrase", "keys")], "h 22 secret=keys");
        check(
            &[("spoolgate_key_passphrase", "not a name")],
            "h 22 | h with a spoolgate_key_passphrase that names no secret",
        );
        check(&[("ansible_host", "-oProxyCommand=x")], "-oProxyCommand=x 22 | h at -oProxyCommand=x");
        check(&[("ansible_port", "0")], "h 22 | h on port 0");
        check(&[("ansible_user", "-l root")], "h 22 user=-l root | h with the user -l root");
        check(&[("ansible_connection", "community.docker.docker")], "h 22 | h with ansible_connection=docker");
    }

    #[test]
    fn a_proxy_is_never_dropped_in_silence() {
        let args = |args| [("ansible_ssh_common_args", args)];
        check(&args("-o 'ProxyCommand ssh -W %h:%p user@gw -p 51006'"), "h 22 via user@gw:51006");
        check(&args("-o ProxyCommand=\"ssh -q -W %h:%p gw\""), "h 22 via gw");
        check(&args("-oproxyjump=gw"), "h 22 via gw");
        check(&args("-J a,ops@b:23"), "h 22 via a via ops@b:23");
        check(&args("-o ProxyJump=none"), "h 22");
        check(&args("-o 'ProxyCommand nc -x proxy %h %p'"), "h 22 through [nc -x proxy %h %p]");
        check(&args("-o ProxyCommand='ssh -i key -W %h:%p gw'"), "h 22 through [ssh -i key -W %h:%p gw]");
        check(&args("-o ProxyCommand=none"), "h 22");
        check(&args("-o 'ProxyCommand nc %X'"), "h 22 | h with ProxyCommand nc %X in ansible_ssh_common_args");
        check(&args("-J gw -o 'ProxyCommand nc %h %p'"), "h 22 via gw through [nc %h %p] | h with more than one proxy");
        check(&args("-J 'a b'"), "h 22 | h with -J a b in ansible_ssh_common_args");
        check(&args("-o Port=23 -C"), "h 22 | h with Port in ansible_ssh_common_args");
        check(&args("-o 'x"), "h 22 | h with quotes that lack a closing ' in ansible_ssh_common_args");
        check(&args("-o"), "h 22 | h with  in ansible_ssh_common_args");
        check(&args("-C -o ControlMaster=auto -o 'ControlPersist 60s' -oStrictHostKeyChecking=no"), "h 22");
        check(&[args("-J gw")[0], ("ansible_connection", "local")], "h 22 local");
    }
}
