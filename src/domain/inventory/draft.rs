//! What an Ansible file says, while it is read: the same acts that ansible-core's inventory data knows. Floor 1.
//!
//! **Invariant:** pure. Every form (INI, YAML, a script's JSON) goes through these acts and nothing else, so that all of
//! them mean the same. As in Ansible a variable set for a name that is a group is the group's, even when a host has that
//! name too; where that would reach other hosts it is refused, because nobody means it.

use std::collections::{BTreeMap, BTreeSet};

use super::ansible;
use super::ansible::Fault;
use super::groups::{self, ALL, Group, UNGROUPED};
use super::host::Vars;
use super::part::Part;
use super::vars_files::VarsFiles;
use crate::base::ids::HostName;
use crate::base::limits;
use crate::base::text::is_hidden;
use crate::domain::problem::Problem;
use crate::domain::read::data::Data;

/// The hosts and groups of one file.
pub(super) struct Draft<'a> {
    file: &'a str,
    /// Each host with the place where it is first named, and its own variables.
    hosts: BTreeMap<HostName, (String, Vars)>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Where each host is reached, as far as the lines of hosts say, and where they do.
    ends: BTreeMap<(HostName, End), (String, usize)>,
    /// Hosts whose variables went to the group of their name, and where.
    strays: BTreeMap<HostName, String>,
    problems: Vec<Problem>,
}

const WANTED_NAMES: &str = "a name of its own for every host, with ansible_host and ansible_port: of two with one name \
                            Ansible keeps one";

/// A part of where a host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Address,
    Port,
}

impl End {
    /// Returns which part a variable of a host says.
    fn of(variable: &str) -> Option<End> {
        match variable {
            "ansible_host" | "ansible_ssh_host" => Some(End::Address),
            "ansible_port" | "ansible_ssh_port" => Some(End::Port),
            _ => None,
        }
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(file: &'a str) -> Draft<'a> {
        let groups = [ALL, UNGROUPED].map(|name| (name.to_owned(), Group::default())).into();
        Draft {
            file,
            hosts: BTreeMap::new(),
            groups,
            ends: BTreeMap::new(),
            strays: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn pointer(&self, line: usize) -> String {
        // A script's answer has lines that nobody sees.
        if line == 0 { self.file.to_owned() } else { format!("{}:{line}", self.file) }
    }

    pub(super) fn problem(&mut self, line: usize, found: impl AsRef<str>, wanted: impl Into<String>) {
        let pointer = self.pointer(line);
        self.problems.push(Problem::new(pointer, found, wanted));
    }

    /// Whether there are so many problems that more of them help nobody.
    pub(super) fn is_hopeless(&self) -> bool {
        self.problems.len() >= limits::PROBLEMS_MAX
    }

    /// Adds a group if it is not there yet; says whether its name is one.
    pub(super) fn add_group(&mut self, name: &str, line: usize) -> bool {
        if name.is_empty() || name.contains(is_hidden) {
            self.problem(line, format!("the group \"{name}\""), "a name without control and invisible characters");
            return false;
        }
        if !self.groups.contains_key(name) {
            self.groups.insert(name.to_owned(), Group::default());
        }
        true
    }

    /// Adds a host to a group that is there; its port counts only where it is named first. Returns its name.
    pub(super) fn add_host(&mut self, name: &str, group: &str, port: Option<&str>, line: usize) -> Option<HostName> {
        let host: HostName = match name.parse() {
            Ok(host) => host,
            Err(error) => {
                let wanted = format!("{error}");
                self.problem(line, name, wanted.trim_start_matches("not "));
                return None;
            }
        };
        // Zero is no port, and no leading zero is kept: Ansible makes it a number.
        let port = port.map(|port| port.trim_start_matches('0')).filter(|port| !port.is_empty());
        let first = self.hosts.get(&host).map(|(pointer, _)| pointer.clone());
        match (port, &first) {
            // What was named without a port is named with one: Ansible would not look at it.
            (Some(_), Some(first)) if !self.ends.contains_key(&(host.clone(), End::Port)) => {
                self.problem(line, format!("{host} with a port, and without one at {first}"), WANTED_NAMES);
            }
            (Some(port), _) => self.reach(&host, End::Port, port, line),
            (None, _) => {}
        }
        if first.is_none() {
            let pointer = self.pointer(line);
            let own = port.map(|port| ("ansible_port".to_owned(), port.to_owned())).into_iter().collect();
            self.hosts.insert(host.clone(), (pointer, own));
        }
        self.groups.entry(group.to_owned()).or_default().hosts.insert(host.clone());
        Some(host)
    }

    /// Notes where a line says that a host is reached. Two hosts under one name would be one of them, and nobody would miss
    /// the other.
    fn reach(&mut self, host: &HostName, end: End, value: &str, line: usize) {
        let key = (host.clone(), end);
        if let Some((known, at)) = self.ends.get(&key)
            && known != value
            && *at != line
        {
            let what = if end == End::Port { "port" } else { "address" };
            let found = format!("{host} with another {what} than at {}", self.pointer(*at));
            return self.problem(line, found, WANTED_NAMES);
        }
        self.ends.insert(key, (value.to_owned(), line));
    }

    /// Puts one group into another; both are there, or will be.
    pub(super) fn add_child(&mut self, group: &str, child: &str, line: usize) {
        let pointer = self.pointer(line);
        let children = &mut self.groups.entry(group.to_owned()).or_default().children;
        children.entry(child.to_owned()).or_insert(pointer);
    }

    /// Sets a variable of a group.
    pub(super) fn set_group(&mut self, group: &str, name: &str, value: &Data, line: usize) {
        if name == "ansible_group_priority" {
            match whole(value) {
                Some(priority) => self.groups.entry(group.to_owned()).or_default().priority = priority,
                None => self.problem(line, format!("ansible_group_priority of {group}"), "a whole number as priority"),
            }
            return;
        }
        if let Some(text) = self.text(name, value, line) {
            self.groups.entry(group.to_owned()).or_default().vars.insert(name.to_owned(), text);
        }
    }

    /// Sets a variable of a host, or of the group of its name.
    pub(super) fn set_host(&mut self, host: &HostName, name: &str, value: &Data, line: usize) {
        if self.groups.contains_key(host.as_str()) {
            let pointer = self.pointer(line);
            self.strays.entry(host.clone()).or_insert(pointer);
            return self.set_group(host.as_str(), name, value, line);
        }
        let Some(text) = self.text(name, value, line) else { return };
        if let Some(end) = End::of(name) {
            self.reach(host, end, &text, line);
        }
        if let Some((_, own)) = self.hosts.get_mut(host) {
            own.insert(name.to_owned(), text);
        }
    }

    fn text(&mut self, name: &str, value: &Data, line: usize) -> Option<String> {
        if name.contains(is_hidden) {
            self.problem(line, format!("the variable {name}"), "a name without control and invisible characters");
            return None;
        }
        match value.text() {
            Ok(text) => Some(text),
            Err(wanted) => {
                self.problem(line, format!("the variable {name}"), wanted);
                None
            }
        }
    }

    /// Resolves groups and variables, and makes the hosts.
    ///
    /// # Errors
    /// Every problem of the file.
    pub(super) fn finish(mut self, around: &VarsFiles) -> Result<Part, Vec<Problem>> {
        if let Some(pointer) = self.groups[UNGROUPED].children.values().next() {
            let found = "groups inside of ungrouped";
            self.problems.push(Problem::new(pointer, found, "ungrouped for hosts that are in no group"));
        }
        let outer = around.of_groups(self.groups.keys(), &mut self.problems);
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let hosts: BTreeSet<HostName> = self.hosts.keys().cloned().collect();
        let mut resolved = groups::resolve(&self.groups, &hosts, &outer)?;
        for (host, pointer) in &self.strays {
            let reached = match host.as_str() {
                ALL | UNGROUPED => Some(&hosts),
                name => resolved.members.get(name),
            };
            if reached.is_some_and(|members| members.iter().any(|member| member != host)) {
                let found = format!("variables of the host {host}, which is the name of a group too");
                self.problems.push(Problem::new(
                    pointer,
                    found,
                    "another name: Ansible would set them for the whole group",
                ));
            }
        }
        let mut part = Part { groups: resolved.members, levels: resolved.levels, ..Part::default() };
        let mut faults: Vec<(String, Fault)> = Vec::new();
        for (name, (pointer, own)) in self.hosts {
            let mut vars = resolved.inherited.remove(&name).unwrap_or_default();
            vars.extend(own);
            vars.extend(around.of_host(name.as_str(), &mut self.problems));
            let mut own = Vec::new();
            part.hosts.insert(name.clone(), ansible::host(name.clone(), vars, &mut own));
            faults.extend(own.into_iter().map(|fault| (pointer.clone(), fault)));
            part.pointers.insert(name, pointer);
        }
        self.problems.extend(together(&faults));
        self.problems.truncate(limits::PROBLEMS_MAX);
        if self.problems.is_empty() { Ok(part) } else { Err(self.problems) }
    }
}

/// Makes one problem of what is wrong in the same way with several hosts of one line.
fn together(faults: &[(String, Fault)]) -> Vec<Problem> {
    let mut kinds: Vec<(&str, &Fault, usize)> = Vec::new();
    for (pointer, fault) in faults {
        let same = |(at, known, _): &&mut (&str, &Fault, usize)| {
            (*at, &known.what, &known.wanted) == (pointer.as_str(), &fault.what, &fault.wanted)
        };
        match kinds.iter_mut().find(same) {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None => kinds.push((pointer, fault, 1)),
        }
    }
    let problem = |(pointer, fault, count): (&str, &Fault, usize)| {
        let others =
            if count > 1 { format!(" and {} more of its line", count.saturating_sub(1)) } else { String::new() };
        Problem::new(pointer, format!("{}{others} {}", fault.host, fault.what), &*fault.wanted)
    };
    kinds.into_iter().map(problem).collect()
}

/// Reads a value as Python's `int` does.
fn whole(value: &Data) -> Option<i64> {
    match value {
        Data::Bool(yes) => Some(i64::from(*yes)),
        Data::Int(digits) => digits.parse().ok(),
        Data::Float(value) => format!("{:.0}", value.trunc()).parse().ok(),
        Data::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}
