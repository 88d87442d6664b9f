//! What OpenSSH's configuration says of hosts, as `ssh -G` prints it. Floor 1.
//!
//! The inventory comes first; of what it does not say, `ssh -G` is asked, host by host, by somebody else: here stand the
//! questions that planning has and the answers that it got.
//!
//! **Invariant:** pure. An answer names a host by an address and a port, and a way there, or it is none; a host that nobody asked
//! about is not planned.

use std::collections::BTreeMap;

use crate::domain::inventory::address::{check_address, check_user};
use crate::domain::inventory::jump::Jump;
use crate::domain::inventory::proxy_command;
use crate::domain::known_hosts::KnownHosts;

/// A question: what is said of this host, given what is known already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    /// What `ssh` would be called with.
    pub name: String,
    /// The address, where it is known.
    pub address: Option<String>,
    /// The port, where it is known.
    pub port: Option<u16>,
    /// The user, where they are known.
    pub user: Option<String>,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// Private key files, the first one first.
    pub keys: Vec<String>,
    /// Certificates of theirs.
    pub certificates: Vec<String>,
    /// The hosts on the way.
    pub jump: Vec<Jump>,
    /// The command that the connection goes through.
    pub proxy_command: Option<String>,
    /// Files with the keys that hosts answer with.
    pub known_hosts: Vec<String>,
}

/// Where the answers come from. Another one has other answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The configuration files, the first one first.
    pub files: Vec<String>,
    /// The user and the key file that `spoolgate.toml` names for hosts of which nobody says them.
    pub user: Option<String>,
    /// The key file of those.
    pub key: Option<String>,
    /// The home directory, for `~/` and `%d`.
    pub home: String,
    /// Who asks, for `%u`.
    pub local_user: String,
    /// What the files were when they were looked at.
    pub print: u64,
}

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Where they come from.
    pub source: Source,
    /// What was said, or why nothing was.
    pub said: BTreeMap<Query, Result<Answer, String>>,
    /// The files with host keys that the answers name, read.
    pub known_hosts: BTreeMap<String, KnownHosts>,
    /// Whether a host that nobody asked about is what the inventory says alone: for who only looks, and decides nothing.
    pub lenient: bool,
}

/// Reads what `ssh -G` prints.
///
/// # Errors
/// What makes the host one that cannot be reached as it says.
pub fn read(text: &str, query: &Query, source: &Source) -> Result<Answer, String> {
    let all = |keyword: &str| -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(name, _)| name.eq_ignore_ascii_case(keyword)).map(|(_, value)| value.trim()).collect()
    };
    let one = |keyword: &str| all(keyword).first().copied().filter(|value| !value.eq_ignore_ascii_case("none"));
    let address = one("hostname").unwrap_or_default().to_owned();
    check_address(&address).map_err(|wanted| format!("the HostName {address}; wanted {wanted}"))?;
    let port = one("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0).ok_or("no port")?;
    let user = one("user").unwrap_or_default().to_owned();
    check_user(&user).map_err(|wanted| format!("the User {user}; wanted {wanted}"))?;
    // What decides whom to trust, and is not obeyed here, is not passed over either.
    for keyword in ["revokedhostkeys", "hostkeyalias", "bindaddress", "bindinterface"] {
        if let Some(value) = one(keyword).filter(|value| *value != "none") {
            return Err(format!("{keyword} {value}; wanted a host without it: it is not obeyed here"));
        }
    }
    if one("proxyusefdpass") == Some("yes") {
        return Err("ProxyUseFdpass; wanted a ProxyCommand that passes bytes".to_owned());
    }
    let mut answer = Answer {
        address,
        port,
        user,
        keys: Vec::new(),
        certificates: Vec::new(),
        jump: Vec::new(),
        proxy_command: None,
        known_hosts: Vec::new(),
    };
    let paths = |keyword: &str| -> Result<Vec<String>, String> {
        all(keyword)
            .into_iter()
            .filter(|path| *path != "none")
            .map(|path| expand(path, &answer, query, source))
            .collect()
    };
    let (keys, certificates) = (paths("identityfile")?, paths("certificatefile")?);
    (answer.keys, answer.certificates) = (keys, certificates);
    if let Some(hops) = one("proxyjump") {
        answer.jump = Jump::parse_list(hops).map_err(|wanted| format!("the ProxyJump {hops}; wanted {wanted}"))?;
    }
    if let Some(command) = one("proxycommand") {
        proxy_command::check(command).map_err(|wanted| format!("the ProxyCommand {command}; wanted {wanted}"))?;
        answer.proxy_command = Some(command.to_owned());
    }
    let files = one("userknownhostsfile").unwrap_or_default().split_ascii_whitespace();
    answer.known_hosts = files.filter(|file| *file != "/dev/null").map(str::to_owned).collect();
    Ok(answer)
}

/// Expands the tokens of a path, which `ssh -G` leaves as they are.
fn expand(path: &str, answer: &Answer, query: &Query, source: &Source) -> Result<String, String> {
    let mut expanded = String::new();
    let path = match path.strip_prefix("~/") {
        Some(rest) => {
            expanded = format!("{}/", source.home);
            rest
        }
        None => path,
    };
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let token = if c == '%' { chars.next().unwrap_or(' ') } else { '\0' };
        match token {
            '\0' => expanded.push(c),
            '%' => expanded.push('%'),
            'd' => expanded.push_str(&source.home),
            'h' => expanded.push_str(&answer.address),
            'n' => expanded.push_str(&query.name),
            'p' => expanded.push_str(&answer.port.to_string()),
            'r' => expanded.push_str(&answer.user),
            'u' => expanded.push_str(&source.local_user),
            _ => return Err(format!("the path {path}; wanted one with %d, %h, %n, %p, %r, %u and %% alone")),
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let query = Query { name: "web1".to_owned(), address: None, port: None, user: None };
        let source = Source { home: "/home/me".to_owned(), local_user: "me".to_owned(), ..Source::default() };
        let basis = "host web1\nuser ops\nhostname 10.0.0.9\nport 2222\n";
        let shown = match read(&format!("{text}{basis}"), &query, &source) {
            Ok(answer) => format!(
                "{}@{}:{} keys {} {} jump {} command {} known {}",
                answer.user,
                answer.address,
                answer.port,
                answer.keys.join(" "),
                answer.certificates.join(" "),
                answer.jump.len(),
                answer.proxy_command.unwrap_or_default(),
                answer.known_hosts.join(" ")
            ),
            Err(why) => why,
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn answers_are_read() {
        check("", "ops@10.0.0.9:2222 keys   jump 0 command  known ");
        check(
            "identityfile ~/.ssh/%h_%n\nidentityfile /k/%r%%\ncertificatefile %d/c\nproxyjump a,b@c:1\n",
            "ops@10.0.0.9:2222 keys /home/me/.ssh/10.0.0.9_web1 /k/ops% /home/me/c jump 2 command  known ",
        );
        check(
            "proxycommand nc %h %p\nuserknownhostsfile /a /dev/null /b\nproxyjump none\n",
            "ops@10.0.0.9:2222 keys   jump 0 command nc %h %p known /a /b",
        );
        check(
            "hostname a b\n",
            "the HostName a b; wanted an address: letters, digits and . _ - only, first a letter or digit, or an IPv6 address",
        );
        check("port x\n", "no port");
        check("user -x\n", "the User -x; wanted a login name without spaces, / and :, not beginning with -");
        check("identityfile /k/%C\n", "the path /k/%C; wanted one with %d, %h, %n, %p, %r, %u and %% alone");
        check("hostkeyalias x\n", "hostkeyalias x; wanted a host without it: it is not obeyed here");
        check("proxyusefdpass yes\n", "ProxyUseFdpass; wanted a ProxyCommand that passes bytes");
        check(
            "proxycommand nc %T\n",
            "the ProxyCommand nc %T; wanted %h, %p, %r, %n and %% alone behind a % of a ProxyCommand",
        );
    }
}
