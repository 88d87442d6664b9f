//! The scripts that hand a task's hosts to Ansible or Salt on a proxy host. Floor 1.
//!
//! The plan holds such a script, with the inventory and the playbook in it, so that what is approved is what runs there. How the
//! proxy reaches the hosts, with which keys, is the proxy's affair; their host keys are checked there
//! (`StrictHostKeyChecking=yes`).
//!
//! **Invariant:** pure. Values are marked unsafe, so Ansible reads no template in them; they take no name of Ansible's own, and
//! begin no argument.

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::base::ids::{HostName, ParamName};
use crate::domain::inventory::host::Connection;
use crate::domain::plan::{PlannedHop, PlannedHost};

/// Returns the script that hands a playbook to Ansible. `params` become extra variables.
pub(super) fn ansible_script(
    playbook: &str,
    targets: &[(&HostName, &PlannedHost)],
    params: &BTreeMap<ParamName, String>,
) -> String {
    let mut inventory = "all:\n  hosts:\n".to_owned();
    for (name, host) in targets {
        inventory.push_str(&format!("    {}:\n", quoted(name.as_str())));
        for (name, value) in ansible_host(host) {
            inventory.push_str(&format!("      {name}: {value}\n"));
        }
    }
    let mut vars = "---\n".to_owned();
    for (name, value) in params {
        vars.push_str(&format!("{name}: !unsafe {}\n", quoted(value)));
    }
    let files = [
        ("playbook.yml", playbook.to_owned()),
        ("inventory.yml", inventory),
        ("params.yml", vars),
        ("callbacks/spoolgate.py", CALLBACK.to_owned()),
    ];
    let mut script = String::from(
        "#!/bin/sh\n# Hands this task's hosts to Ansible, which reports each of them.\nset -eu\numask 077\n\
         work=$(mktemp -d)\ntrap 'rm -rf \"$work\"' EXIT\ntrap 'exit 143' TERM\nmkdir \"$work/callbacks\"\n",
    );
    for (name, text) in files {
        script.push_str(&here_document(name, &text));
    }
    script.push_str(
        "export ANSIBLE_CALLBACK_PLUGINS=\"$work/callbacks\" ANSIBLE_STDOUT_CALLBACK=spoolgate ANSIBLE_NOCOLOR=1\n\
         export ANSIBLE_RETRY_FILES_ENABLED=0 ANSIBLE_HOST_KEY_CHECKING=1 ANSIBLE_LOCALHOST_WARNING=0 PYTHONUNBUFFERED=1\n\
         ansible-playbook -i \"$work/inventory.yml\" -e \"@$work/params.yml\" \"$@\" \"$work/playbook.yml\"\n",
    );
    script
}

/// Returns the script that hands a function to Salt, with its arguments as the script's.
pub(super) fn salt_script(function: &str, targets: &[(&HostName, &PlannedHost)]) -> String {
    let names = targets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let mut script = String::from(
        "#!/bin/sh\n# Hands this task's hosts to Salt, whose output has a line for each of them.\nset -eu\n",
    );
    // Names of hosts hold nothing that a shell reads; a function is checked by whoever reads the template.
    script.push_str(&format!("exec salt --no-color --out=json --out-indent=-1 -L '{names}' '{function}' \"$@\"\n"));
    script
}

/// Returns the variables of a host as they stand in the inventory.
fn ansible_host(host: &PlannedHost) -> Vec<(String, String)> {
    let own = |name: &str, value: &str| (name.to_owned(), format!("!unsafe {}", quoted(value)));
    let mut vars = vec![own("ansible_host", &host.address), own("ansible_user", &host.user)];
    vars.push(("ansible_port".to_owned(), host.port.to_string()));
    if host.connection == Connection::Local {
        vars.push(own("ansible_connection", "local"));
    }
    let hop = |hop: &PlannedHop| format!("{}@{}:{}", hop.user, hop.address, hop.port);
    let jump: Vec<String> = host.jump.iter().map(hop).collect();
    let jump = if jump.is_empty() { String::new() } else { format!(" -o ProxyJump={}", jump.join(",")) };
    vars.push(own("ansible_ssh_common_args", &format!("-o StrictHostKeyChecking=yes{jump}")));
    vars.extend(host.env.iter().map(|(name, value)| own(name.as_str(), value)));
    vars
}

/// Writes a text as a scalar of YAML: JSON's strings are, with what a YAML reader would refuse written out.
fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).expect("a text is JSON");
    let escape = |c: char| match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    };
    json.chars().map(escape).collect()
}

/// Names that mean something to Ansible itself: a value of one would choose other hosts, users or programs.
const ENGINES_OWN: &[&str] = &[
    "environment",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "omit",
    "play_hosts",
    "playbook_dir",
    "role_name",
    "role_path",
    "vars",
];

/// Whether a variable of this name means something to an engine itself.
pub(super) fn is_engines_own(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("ansible") || ENGINES_OWN.contains(&name)
}

/// Writes a file of a script's own; the word at its end is in no line of the text.
fn here_document(name: &str, text: &str) -> String {
    let end = format!("END_{}", &Digest::of(text.as_bytes()).hex()[..24]);
    let text = text.strip_suffix('\n').unwrap_or(text);
    format!("cat >\"$work/{name}\" <<'{end}'\n{text}\n{end}\n")
}

/// The callback that Ansible loads: a line for each host and task, one JSON text behind the mark.
const CALLBACK: &str = include_str!("ansible_callback.py");
