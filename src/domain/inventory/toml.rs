//! The native inventory file. Floor 1.
//!
//! ```toml
//! [defaults]                      # for the hosts of this file
//! user = "deploy"
//! port = 22
//! key = "~/.ssh/id_ed25519"
//!
//! [host.web1]                     # names with dots in quotes: [host."10.0.0.1"]
//! address = "10.0.0.1"            # the name itself when left out
//! port = 2222
//! connection = "ssh"              # or "local"
//! proxy_command = "nc -x p %h %p" # in the place of jump = ["gw"]
//! jobs = 3                        # how many tasks may run on it at once; one when left out
//! key_passphrase = "deploy-key"   # the secret that is the passphrase of the key
//! tags = ["web", "prod"]
//! vars = { rack = "b12" }
//!
//! [group.web]
//! hosts = ["web1"]
//! children = ["static"]
//! vars = { tier = 1 }
//! ```
//!
//! **Invariant:** pure. A file speaks only about itself: its groups name its own hosts and groups. A field that is
//! not one of these is a problem.

use std::collections::{BTreeMap, BTreeSet};

use super::address::{check_address, check_user};
use super::groups::{self, ALL, Group, UNGROUPED};
use super::host::{Connection, Host, JOBS_MAX, Says, Vars};
use super::jump::Jump;
use super::part::Part;
use super::proxy_command;
use crate::base::ids::{HostName, SecretName};
use crate::domain::problem::Problem;
use crate::domain::read::toml_table::{Fields, Sheet, Text};

/// What holds for hosts that do not say otherwise.
#[derive(Default)]
struct Defaults {
    user: Option<String>,
    port: Option<u16>,
    key: Option<String>,
    key_passphrase: Option<SecretName>,
}

/// Reads one file.
///
/// # Errors
/// Every problem of the file, each with `file:line`.
pub(super) fn parse(file: &str, text: &str) -> Result<Part, Vec<Problem>> {
    let sheet = Sheet::new(file, text);
    let mut fields = sheet.fields();
    let defaults = fields.table("defaults").map(read_defaults).unwrap_or_default();
    let mut part = Part::default();
    for (name, table) in fields.named_tables("host") {
        let pointer = sheet.pointer(name.span.start);
        if let Some(host) = read_host(&name, table, &defaults) {
            part.pointers.insert(host.name.clone(), pointer);
            part.hosts.insert(host.name.clone(), host);
        }
    }
    let hosts: BTreeSet<HostName> = part.hosts.keys().cloned().collect();
    let mut groups = BTreeMap::from([(ALL.to_owned(), Group::default()), (UNGROUPED.to_owned(), Group::default())]);
    for (name, table) in fields.named_tables("group") {
        let group = read_group(&name, table, &hosts);
        groups.insert(name.value, group);
    }
    fields.finish();
    let resolved = groups::resolve(&groups, &hosts, &BTreeMap::new());
    let mut problems = sheet.into_problems();
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(found) => {
            problems.extend(found);
            return Err(problems);
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    for (name, inherited) in resolved.inherited {
        if let Some(host) = part.hosts.get_mut(&name) {
            let own = std::mem::replace(&mut host.vars, inherited);
            host.vars.extend(own);
        }
    }
    part.groups = resolved.members;
    part.levels = resolved.levels;
    Ok(part)
}

fn read_defaults(mut table: Fields<'_>) -> Defaults {
    let defaults = Defaults {
        user: read_user(&mut table),
        port: read_port(&mut table),
        key: read_key(&mut table),
        key_passphrase: read_passphrase(&mut table),
    };
    table.finish();
    defaults
}

fn read_host(name: &Text, mut table: Fields<'_>, defaults: &Defaults) -> Option<Host> {
    let sheet = table.sheet();
    let parsed: Option<HostName> = name.parse(sheet);
    let address = table.string("address");
    if let Some(text) = &address
        && let Err(wanted) = check_address(&text.value)
    {
        sheet.problem(&text.span, &text.value, wanted);
    }
    let port = read_port(&mut table);
    let user = read_user(&mut table);
    let key = read_key(&mut table);
    let key_passphrase = read_passphrase(&mut table);
    let connection = match table.string("connection") {
        None => Connection::Ssh,
        Some(text) => match text.value.as_str() {
            "ssh" => Connection::Ssh,
            "local" => Connection::Local,
            _ => {
                sheet.problem(&text.span, &text.value, "ssh or local");
                Connection::Ssh
            }
        },
    };
    let jobs = table.integer("jobs", 1..=JOBS_MAX).unwrap_or(1);
    let (jump, proxy_command) = read_way(&mut table);
    let tags = table.strings("tags");
    for tag in tags.iter().filter(|tag| tag.value.is_empty() || tag.value.contains(char::is_whitespace)) {
        sheet.problem(&tag.span, format!("the tag \"{}\"", tag.value), "a word without spaces");
    }
    let vars = read_vars(&mut table);
    table.finish();
    let name = parsed?;
    Some(Host {
        address: address.map_or_else(|| name.to_string(), |text| text.value),
        says: Says { port: port.or(defaults.port).is_some(), way: !jump.is_empty() || proxy_command.is_some() },
        port: port.or(defaults.port).unwrap_or(22),
        user: user.or_else(|| defaults.user.clone()),
        key: key.or_else(|| defaults.key.clone()),
        key_passphrase: key_passphrase.or_else(|| defaults.key_passphrase.clone()),
        connection,
        jobs,
        jump,
        proxy_command,
        tags: tags.into_iter().map(|tag| tag.value).collect(),
        vars,
        name,
    })
}

/// Reads how a connection gets to a host: over others, or through a command.
fn read_way(table: &mut Fields<'_>) -> (Vec<Jump>, Option<String>) {
    let sheet = table.sheet();
    let mut jump = Vec::new();
    for text in table.strings("jump") {
        match Jump::parse(&text.value) {
            Ok(hop) => jump.push(hop),
            Err(wanted) => sheet.problem(&text.span, &text.value, wanted),
        }
    }
    let command = table.string("proxy_command");
    if let Some(text) = &command {
        if let Err(wanted) = proxy_command::check(&text.value) {
            sheet.problem(&text.span, &text.value, wanted);
        } else if !jump.is_empty() {
            sheet.problem(&text.span, "proxy_command beside jump", "one of the two");
        }
    }
    (jump, command.map(|text| text.value))
}

fn read_group(name: &Text, mut table: Fields<'_>, known: &BTreeSet<HostName>) -> Group {
    let sheet = table.sheet();
    if name.value.is_empty() || name.value.contains(|c: char| c.is_whitespace() || matches!(c, ':' | ']')) {
        sheet.problem(&name.span, format!("the group \"{}\"", name.value), "a name without spaces and without : and ]");
    }
    let mut group = Group::default();
    for text in table.strings("hosts") {
        let Some(host) = text.parse::<HostName>(sheet) else { continue };
        if known.contains(&host) {
            group.hosts.insert(host);
        } else {
            sheet.problem(&text.span, &text.value, "the name of a host of this file");
        }
    }
    for text in table.strings("children") {
        group.children.insert(text.value, sheet.pointer(text.span.start));
    }
    group.vars = read_vars(&mut table);
    table.finish();
    group
}

fn read_vars(table: &mut Fields<'_>) -> Vars {
    table.texts("vars").into_iter().map(|(name, value)| (name.value, value.value)).collect()
}

fn read_port(table: &mut Fields<'_>) -> Option<u16> {
    table.integer("port", 1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

fn read_user(table: &mut Fields<'_>) -> Option<String> {
    let text = table.string("user")?;
    if let Err(wanted) = check_user(&text.value) {
        table.sheet().problem(&text.span, &text.value, wanted);
    }
    Some(text.value)
}

fn read_passphrase(table: &mut Fields<'_>) -> Option<SecretName> {
    let text = table.string("key_passphrase")?;
    text.parse(table.sheet())
}

fn read_key(table: &mut Fields<'_>) -> Option<String> {
    let text = table.string("key")?;
    if text.value.is_empty() {
        table.sheet().problem(&text.span, "an empty path", "the path of a private key file");
    }
    Some(text.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, want: &[&str]) {
        let problems = parse("hosts.toml", text).expect_err("has problems");
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn a_host_has_its_own_values_then_the_defaults() {
        let text = r#"
            [defaults]
            user = "deploy"
            port = 2022
            [host.web1]
            address = "10.0.0.1"
            tags = ["web", "prod"]
            vars = { rack = "b12", slot = 0x10, spare = true, load = 1.5 }
            [host."10.0.0.2"]
            port = 22
            user = "root"
            key = "~/.ssh/other"
            [host.here]
            connection = "local"
            [group.web]
            hosts = ["web1"]
            vars = { rack = "none", tier = 1 }
            [group.site]
            children = ["web"]
            hosts = ["10.0.0.2"]
            vars = { tier = 2 }
        "#;
        let part = parse("hosts.toml", text).unwrap();
        let web1 = &part.hosts[&"web1".parse().unwrap()];
        assert_eq!((web1.address.as_str(), web1.port, web1.user.as_deref()), ("10.0.0.1", 2022, Some("deploy")));
        let vars: Vec<String> = web1.vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(vars, ["load=1.5", "rack=b12", "slot=16", "spare=true", "tier=1"]);
        assert_eq!(web1.tags.iter().collect::<Vec<_>>(), ["prod", "web"]);
        let two = &part.hosts[&"10.0.0.2".parse().unwrap()];
        assert_eq!((two.address.as_str(), two.port, two.key.as_deref()), ("10.0.0.2", 22, Some("~/.ssh/other")));
        assert_eq!(part.hosts[&"here".parse().unwrap()].connection, Connection::Local);
        assert_eq!(part.groups["site"].len(), 2);
        assert_eq!(part.pointers[&"here".parse().unwrap()], "hosts.toml:13");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        refused(
            "[defaults]\nprot = 1\n[host.\"a b\"]\n[host.b]\nport = 0\naddress = \"-oProxyCommand=x\"\n\
             connection = \"docker\"\n[group.g]\nhosts = [\"b\", \"c\"]\nchildren = [\"x\"]\n[hots.d]\n",
            &[
                "hosts.toml:2: found the field prot; wanted one of the fields user, port, key, key_passphrase",
                "hosts.toml:3: found a b; wanted a host name: letters, digits and . _ : - only, first a letter or digit, at most 253 bytes",
                "hosts.toml:5: found port = 0; wanted port = a whole number from 1 to 65535",
                "hosts.toml:6: found -oProxyCommand=x; wanted an address: letters, digits and . _ - only, first a letter or digit, or an IPv6 address",
                "hosts.toml:7: found docker; wanted ssh or local",
                "hosts.toml:9: found c; wanted the name of a host of this file",
                "hosts.toml:11: found the field hots; wanted one of the fields defaults, host, group",
                "hosts.toml:10: found the child x; wanted a group of this file",
            ],
        );
        refused(
            "[host.a]\njump = [\"b\"]\nproxy_command = \"nc %h %p\"\nkey_passphrase = \"a b\"\n[host.b]\nproxy_command = \"nc %x\"\n",
            &[
                "hosts.toml:3: found proxy_command beside jump; wanted one of the two",
                "hosts.toml:4: found a b; wanted a name of a secret: letters, digits and . _ - only, first a letter or digit, at most 100 bytes",
                "hosts.toml:6: found nc %x; wanted %h, %p, %r, %n and %% alone behind a % of a ProxyCommand",
            ],
        );
        refused(
            "[host.10.0.0.1]\n",
            &["hosts.toml:1: found the field 0; wanted a name with dots in quotes, such as [host.\"10.0.0.1\"]"],
        );
        refused("[host.a]\n[host.a]\n", &["hosts.toml:2: found duplicate key; wanted valid TOML"]);
    }
}
