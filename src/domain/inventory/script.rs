//! What an inventory script prints: Ansible's `--list` protocol. Floor 1.
//!
//! ```json
//! {"web": {"hosts": ["web1"], "vars": {"tier": 1}, "children": ["static"]}, "static": ["web2"],
//!  "_meta": {"hostvars": {"web1": {"ansible_host": "10.0.0.1"}}}}
//! ```
//!
//! **Invariant:** pure; the scripts themselves are run elsewhere. Means what it means to ansible-core 2.19, where a group
//! without `hosts`, `vars` and `children` is one host of the group's name.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::part::Part;
use super::vars_files::VarsFiles;
use crate::base::ids::HostName;
use crate::domain::problem::Problem;
use crate::domain::read::data::{Data, Node};
use crate::domain::read::data_json;

/// What a script said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Its file's name.
    pub file: String,
    /// What it printed when it was called with `--list`.
    pub list: String,
    /// What it printed when it was called with `--host NAME`, by name.
    pub hosts: BTreeMap<String, String>,
}

/// Returns the hosts whose variables must be asked for one by one: all of them when a list has no `_meta`.
#[must_use]
pub fn hosts_to_ask(list: &str) -> Vec<HostName> {
    let Ok(Node { data: Data::Map(groups), .. }) = data_json::read(list) else { return Vec::new() };
    let mut hosts = std::collections::BTreeSet::new();
    for (key, group) in &groups {
        let Data::Text(name) = &key.data else { continue };
        if name == "_meta" {
            return Vec::new();
        }
        match shape(&group.data) {
            Shape::Hosts(Data::List(items)) => {
                hosts.extend(items.iter().filter_map(|item| match &item.data {
                    Data::Text(host) => host.parse().ok(),
                    _ => None,
                }));
            }
            Shape::Alone(_) => hosts.extend(name.parse()),
            Shape::Hosts(_) | Shape::Empty => {}
        }
    }
    hosts.into_iter().collect()
}

/// What a group's value says.
enum Shape<'a> {
    /// A list of hosts, or what stands in its place.
    Hosts(&'a Data),
    /// A mapping without hosts.
    Empty,
    /// Variables of the one host that has the group's name.
    Alone(&'a [(Node, Node)]),
}

fn shape(data: &Data) -> Shape<'_> {
    match data {
        Data::Map(pairs) if ["hosts", "vars", "children"].iter().all(|key| data.get(key).is_none()) => {
            Shape::Alone(pairs)
        }
        Data::Map(_) => data.get("hosts").map_or(Shape::Empty, |hosts| Shape::Hosts(&hosts.data)),
        other => Shape::Hosts(other),
    }
}

/// Reads what a script said.
///
/// # Errors
/// Everything wrong with it, under its file's name.
pub(super) fn parse(script: &Script, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
    let mut draft = Draft::new(&script.file);
    match data_json::read(&script.list) {
        Err(bad) => {
            let found = format!("--list: no JSON in line {} of what it printed", bad.line);
            draft.problem(0, found, bad.wanted);
        }
        Ok(Node { data: Data::Map(groups), .. }) => {
            let mut reader = Reader { script, draft: &mut draft, hosts: Vec::new() };
            for (key, group) in &groups {
                if let Data::Text(name) = &key.data
                    && name != "_meta"
                {
                    reader.read_group(name, group);
                }
            }
            reader.read_variables(
                groups.iter().find(|(key, _)| matches!(&key.data, Data::Text(name) if name == "_meta")),
            );
        }
        Ok(other) => draft.problem(0, format!("--list: {}", other.data.kind()), "a mapping of groups"),
    }
    draft.finish(around)
}

struct Reader<'a, 'b> {
    script: &'a Script,
    draft: &'a mut Draft<'b>,
    hosts: Vec<HostName>,
}

impl Reader<'_, '_> {
    fn problem(&mut self, found: &str, wanted: &str) {
        self.draft.problem(0, format!("--list: {found}"), wanted);
    }

    fn read_group(&mut self, name: &str, group: &Node) {
        if !self.draft.add_group(name, 0) || self.draft.is_hopeless() {
            return;
        }
        match shape(&group.data) {
            Shape::Empty => {}
            Shape::Alone(vars) => {
                self.read_host(name, name);
                self.read_group_vars(name, vars);
            }
            Shape::Hosts(Data::List(items)) => {
                for item in items {
                    match &item.data {
                        Data::Text(host) => self.read_host(name, host),
                        other => self.problem(&format!("{} as host of {name}", other.kind()), "the name of a host"),
                    }
                }
            }
            Shape::Hosts(other) => self.problem(&format!("{} as hosts of {name}", other.kind()), "a list of names"),
        }
        match group.data.get("vars").map(|node| &node.data) {
            None => {}
            Some(Data::Map(vars)) => self.read_group_vars(name, vars),
            Some(other) => self.problem(&format!("{} as vars of {name}", other.kind()), "a mapping"),
        }
        let children: Vec<&Data> = match group.data.get("children").map(|node| &node.data) {
            None => Vec::new(),
            Some(Data::List(items)) => items.iter().map(|item| &item.data).collect(),
            Some(Data::Map(pairs)) => pairs.iter().map(|(key, _)| &key.data).collect(),
            Some(other) => return self.problem(&format!("{} as children of {name}", other.kind()), "a list of names"),
        };
        for child in children {
            match child {
                Data::Text(child) if self.draft.add_group(child, 0) => self.draft.add_child(name, child, 0),
                Data::Text(_) => {}
                other => self.problem(&format!("{} as child of {name}", other.kind()), "the name of a group"),
            }
        }
    }

    fn read_host(&mut self, group: &str, name: &str) {
        self.hosts.extend(self.draft.add_host(name, group, None, 0));
    }

    fn read_group_vars(&mut self, group: &str, vars: &[(Node, Node)]) {
        for (key, value) in vars {
            if let Data::Text(name) = &key.data {
                self.draft.set_group(group, name, &value.data, 0);
            }
        }
    }

    fn read_variables(&mut self, meta: Option<&(Node, Node)>) {
        let hosts = std::mem::take(&mut self.hosts);
        let Some((_, meta)) = meta else {
            let script = self.script;
            for host in hosts {
                match script
                    .hosts
                    .get(host.as_str())
                    .filter(|text| !text.trim().is_empty())
                    .map(|text| data_json::read(text))
                {
                    None => {}
                    Some(Ok(node)) => self.read_host_vars(&host, &node.data),
                    Some(Err(bad)) => self.draft.problem(0, format!("--host {host}: no JSON"), bad.wanted),
                }
            }
            return;
        };
        let Some(all) = meta.data.get("hostvars").filter(|node| matches!(node.data, Data::Map(_))) else {
            return self.problem("_meta without a mapping of hostvars", "\"_meta\": {\"hostvars\": {…}}");
        };
        let Data::Map(pairs) = &all.data else { return };
        let by_name: BTreeMap<&str, &Data> = pairs
            .iter()
            .filter_map(|(key, value)| match &key.data {
                Data::Text(name) => Some((name.as_str(), &value.data)),
                _ => None,
            })
            .collect();
        for host in hosts {
            if let Some(vars) = by_name.get(host.as_str()) {
                self.read_host_vars(&host, vars);
            }
        }
    }

    fn read_host_vars(&mut self, host: &HostName, vars: &Data) {
        let Data::Map(pairs) = vars else {
            return self.problem(&format!("{} as variables of {host}", vars.kind()), "a mapping");
        };
        for (key, value) in pairs {
            if let Data::Text(name) = &key.data {
                self.draft.set_host(host, name, &value.data, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, hosts: &[(&str, &str)], want: &str) {
        let hosts = hosts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let script = Script { file: "s.py".to_owned(), list: list.to_owned(), hosts };
        let shown = match parse(&script, &VarsFiles::default()) {
            Ok(part) => {
                let hosts = part.hosts.values().map(|host| {
                    let vars = host.vars.iter().map(|(name, value)| format!(" {name}=<{value}>")).collect::<String>();
                    format!("{}{vars}", host.name)
                });
                format!(
                    "{} | {}",
                    hosts.collect::<Vec<_>>().join("; "),
                    part.groups.into_keys().collect::<Vec<_>>().join(" ")
                )
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        assert_eq!(shown, want, "{list}");
    }

    #[test]
    fn lists_are_read_as_ansible_reads_them() {
        let meta = r#"{"web": {"hosts": ["w1"], "vars": {"t": 1}, "children": ["s"]}, "s": ["w2"],
            "_meta": {"hostvars": {"w1": {"a": [1], "b": true}, "gone": {}}}}"#;
        check(meta, &[], "w1 a=<[1]> b=<True> t=<1>; w2 t=<1> | s web");
        check(r#"{"s": ["w2", "w1"]}"#, &[("w1", "{\"x\": null}"), ("w2", "\n")], "w1 x=<None>; w2 | s");
        check(r#"{"lone": {"x": 1}}"#, &[], "lone x=<1> | lone");
        check(r#"{"lone": {"hosts": ["lone"]}, "_meta": {"hostvars": {"lone": {"x": 1}}}}"#, &[], "lone x=<1> | lone");
        assert_eq!(hosts_to_ask(r#"{"a": ["h2", "-x"], "b": {"hosts": ["h1"]}, "c": {}}"#).len(), 3);
        assert!(hosts_to_ask(meta).is_empty());
    }

    #[test]
    fn what_is_wrong_bears_the_scripts_name() {
        check("Traceback", &[], "s.py: found --list: no JSON in line 1 of what it printed; wanted a JSON value");
        check("[]", &[], "s.py: found --list: a list; wanted a mapping of groups");
        check(r#"{"a": {"hosts": "h"}}"#, &[], "s.py: found --list: text as hosts of a; wanted a list of names");
        check(
            r#"{"_meta": {}}"#,
            &[],
            "s.py: found --list: _meta without a mapping of hostvars; wanted \"_meta\": {\"hostvars\": {…}}",
        );
        check(r#"{"a": ["h"]}"#, &[("h", "oops")], "s.py: found --host h: no JSON; wanted a JSON value");
        let stray = r#"{"h": {"hosts": ["h", "h2"]}, "_meta": {"hostvars": {"h": {"ansible_host": "10.0.0.1"}}}}"#;
        check(
            stray,
            &[],
            "s.py: found variables of the host h, which is the name of a group too; wanted another name: Ansible would set them for the whole group",
        );
    }
}
