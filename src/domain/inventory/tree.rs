//! Ansible's YAML inventory: groups of hosts, variables and groups. Floor 1.
//!
//! ```yaml
//! all:
//!   vars: {ansible_user: deploy}
//!   children:
//!     web:
//!       hosts:
//!         web[1:3]:
//!         web9: {ansible_host: 10.0.0.9}
//! ```
//!
//! **Invariant:** pure. Means what it means to ansible-core 2.19. Where that warns and goes on without a part of the file (a
//! group that is no mapping, a key that is none of `hosts`, `vars` and `children`), the file is refused: hosts that are
//! silently missing are hosts that a task silently misses.

use super::draft::Draft;
use super::ini_words;
use super::part::Part;
use super::vars_files::VarsFiles;
use crate::domain::problem::Problem;
use crate::domain::read::data::{Data, Node};
use crate::domain::read::yaml;

/// Reads one file.
///
/// # Errors
/// Every problem of the file, each with `file:line`.
pub(super) fn parse(file: &str, text: &str, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
    let root = yaml::read(file, text).map_err(|problem| vec![problem])?;
    let says_nothing = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if root.data == Data::Null && !text.lines().all(says_nothing) {
        return Err(vec![Problem::new(format!("{file}:{}", root.line), "nothing", WANTED_GROUPS)]);
    }
    read(file, &root, around)
}

const WANTED_GROUPS: &str = "a mapping of groups, such as all:";

/// Reads one file that is YAML already.
///
/// # Errors
/// Every problem of the file, each with `file:line`.
pub(super) fn read(file: &str, root: &Node, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
    let mut draft = Draft::new(file);
    match &root.data {
        // Nothing but comments.
        Data::Null => {}
        Data::Map(_) if root.data.get("plugin").is_some_and(|plugin| !plugin.data.is_falsy()) => {
            draft.problem(root.line, "the configuration of an inventory plugin", "hosts and groups");
        }
        Data::Map(groups) => {
            for (name, group) in groups {
                read_group(&mut draft, name, group);
            }
        }
        other => draft.problem(root.line, other.kind(), WANTED_GROUPS),
    }
    draft.finish(around)
}

/// Reads a group and those inside of it; returns its name.
fn read_group<'a>(draft: &mut Draft<'_>, key: &'a Node, node: &Node) -> Option<&'a str> {
    let Data::Text(name) = &key.data else {
        draft.problem(key.line, format!("{} as name of a group", key.data.kind()), "text, in quotes if need be");
        return None;
    };
    if !draft.add_group(name, key.line) || draft.is_hopeless() {
        return None;
    }
    let sections = match &node.data {
        Data::Null => return Some(name),
        Data::Map(sections) => sections,
        other => {
            draft.problem(
                key.line,
                format!("{} as the group {name}", other.kind()),
                "a mapping of hosts, vars and children",
            );
            return Some(name);
        }
    };
    for (key, value) in sections {
        let Data::Text(section) = &key.data else {
            draft.problem(key.line, format!("{} in the group {name}", key.data.kind()), WANTED_SECTION);
            continue;
        };
        if !["hosts", "vars", "children"].contains(&section.as_str()) {
            draft.problem(key.line, format!("{section} in the group {name}"), WANTED_SECTION);
            continue;
        }
        let none = Node { line: value.line, data: Data::Null };
        let single;
        let pairs = match &value.data {
            Data::Null => continue,
            Data::Map(pairs) => pairs,
            // One word without a colon is a key without a value.
            Data::Text(_) => {
                single = vec![(value.clone(), none)];
                &single
            }
            other => {
                draft.problem(key.line, format!("{} as {section} of the group {name}", other.kind()), "a mapping");
                continue;
            }
        };
        for (key, value) in pairs {
            match section.as_str() {
                "vars" => read_variable(draft, name, key, value),
                "children" => {
                    if let Some(child) = read_group(draft, key, value) {
                        draft.add_child(name, child, key.line);
                    }
                }
                _ => read_hosts(draft, name, key, value),
            }
        }
    }
    Some(name)
}

const WANTED_SECTION: &str = "hosts, vars or children";
const WANTED_NAME: &str = "the name of a variable, in quotes where it looks like something else";

fn read_variable(draft: &mut Draft<'_>, group: &str, key: &Node, value: &Node) {
    match &key.data {
        Data::Text(name) => draft.set_group(group, name, &value.data, key.line),
        other => draft.problem(key.line, format!("{} as variable", other.kind()), WANTED_NAME),
    }
}

fn read_hosts(draft: &mut Draft<'_>, group: &str, key: &Node, value: &Node) {
    let Data::Text(pattern) = &key.data else {
        return draft.problem(key.line, format!("{} as host", key.data.kind()), "the name of a host, in quotes");
    };
    let none = Vec::new();
    let vars = match &value.data {
        Data::Map(vars) => vars,
        data if data.is_falsy() => &none,
        other => {
            let found = format!("{} as variables of {pattern}", other.kind());
            return draft.problem(value.line, found, "a mapping of variables, or nothing");
        }
    };
    let (names, port) = match ini_words::expand(pattern) {
        Ok(expanded) => expanded,
        Err(wanted) => return draft.problem(key.line, pattern, wanted),
    };
    for name in names {
        let Some(host) = draft.add_host(&name, group, port, key.line) else { return };
        for (key, value) in vars {
            match &key.data {
                Data::Text(name) => draft.set_host(&host, name, &value.data, key.line),
                other => draft.problem(key.line, format!("{} as variable", other.kind()), WANTED_NAME),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the hosts of a file, their variables and groups, or what is wrong with it.
    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match parse("f.yml", text, &VarsFiles::default()) {
            Ok(part) => {
                let hosts = part.hosts.values().map(|host| {
                    let vars = host.vars.iter().map(|(name, value)| format!(" {name}=<{value}>")).collect::<String>();
                    format!("{}{vars}", host.name)
                });
                let groups = part.groups.iter().map(|(name, hosts)| {
                    format!("{name}: {}", hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
                });
                [hosts.collect::<Vec<_>>().join("; "), groups.collect::<Vec<_>>().join("; ")].join(" | ")
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn groups_hosts_and_variables_are_read() {
        check(
            "all:\n  vars: {a: yes, b: 0123}\n  children:\n    web:\n      hosts:\n        web[1:2]:2200:\n        web9: {a: [1, {x: y}]}\n",
            "web1 a=<True> ansible_port=<2200> b=<83>; web2 a=<True> ansible_port=<2200> b=<83>; web9 a=<[1,{\"x\":\"y\"}]> b=<83> | web: web1 web2 web9",
        );
        check("web:\n  hosts: w1\ndb:\n  children: web\nempty:\n", "w1 | db: w1; empty: ; web: w1");
        check("# nothing\n", " | ");
    }

    #[test]
    fn what_would_be_dropped_in_silence_is_refused() {
        check("web:\n  host:\n    w1:\n", "f.yml:2: found host in the group web; wanted hosts, vars or children");
        check("web:\n  - w1\n", "f.yml:1: found a list as the group web; wanted a mapping of hosts, vars and children");
        check("web:\n  hosts: [w1]\n", "f.yml:2: found a list as hosts of the group web; wanted a mapping");
        check("web:\n  hosts:\n    5:\n", "f.yml:3: found a number as host; wanted the name of a host, in quotes");
        check("plugin: aws_ec2\n", "f.yml:1: found the configuration of an inventory plugin; wanted hosts and groups");
        check(
            "a:\n  children:\n    b:\n      children:\n        a:\n",
            "f.yml:3: found a loop of groups: a, b; wanted groups that do not contain themselves",
        );
    }
}
