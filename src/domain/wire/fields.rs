//! Takes the fields of a task file one by one and gathers what is wrong with them.
//!
//! **Invariant:** every field is taken by name or reported as unknown; no field is looked at twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{GroupNo, HostName, ParamName};
use crate::base::limits;
use crate::base::time::{Timestamp, Zone, parse_time};
use crate::domain::inventory::selector::KINDS;
use crate::domain::problem::{Problem, Problems};
use crate::domain::read::json::{self, Member, Node, Value};
use crate::domain::read::python_literal;
use crate::domain::submission::Hosts;

/// The fields that nobody has asked for yet.
pub(super) struct Fields<'a> {
    members: Vec<Member>,
    known: Vec<&'static str>,
    problems: Problems,
    zone: &'a Zone,
}

impl<'a> Fields<'a> {
    pub(super) fn new(members: Vec<Member>, problems: Problems, zone: &'a Zone) -> Fields<'a> {
        Fields { members, known: Vec::new(), problems, zone }
    }

    /// Reports what nobody asked for and returns all problems.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        for (n, member) in std::mem::take(&mut self.members).into_iter().enumerate() {
            // Looking for a likely name costs time that a flood of unknown ones must not get.
            let meant = if n < limits::PROBLEMS_MAX { nearest(&member.name, &self.known) } else { None };
            let wanted = match meant {
                Some(name) => format!("a field that exists; did you mean {name}?"),
                None => format!("one of the fields: {}", self.known.join(", ")),
            };
            let problem = Problem::new(format!("/{}", member.name), "an unknown field", wanted);
            self.problems.push(problem.at(member.node.line, member.node.column));
        }
        self.problems.into_vec()
    }

    /// Adds a problem with a field's value.
    pub(super) fn problem(
        &mut self,
        pointer: impl AsRef<str>,
        node: &Node,
        found: impl AsRef<str>,
        wanted: impl Into<String>,
    ) {
        self.problems.push(Problem::new(pointer, found, wanted).at(node.line, node.column));
    }

    /// Adds a problem with a field that is not there.
    pub(super) fn missing(&mut self, name: &str, wanted: &str) {
        self.problems.push(Problem::new(format!("/{name}"), "nothing", wanted));
    }

    /// Adds a problem with a field that was taken and is not what it should be.
    pub(super) fn wrong(&mut self, name: &str, found: &str, wanted: &str) {
        self.problems.push(Problem::new(format!("/{name}"), found, wanted));
    }

    /// Whether there is a field that nobody has asked for yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// Returns the value of a field that nobody has asked for yet; null is the same as none.
    pub(super) fn peek(&self, name: &str) -> Option<&Value> {
        let member = self.members.iter().find(|member| member.name == name)?;
        Some(&member.node.value).filter(|value| **value != Value::Null)
    }

    /// Takes a field; null is the same as none.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let at = self.members.iter().position(|member| member.name == name)?;
        let node = self.members.remove(at).node;
        // A name that came twice is a problem already; the others are not unknown fields.
        self.members.retain(|member| member.name != name);
        (node.value != Value::Null).then_some(node)
    }

    fn mismatch(&mut self, name: &str, node: &Node, wanted: &str) {
        let found = node.value.kind();
        self.problem(format!("/{name}"), node, found, wanted);
    }

    /// Takes a text of a line: a title, a name, a remark. Empty text is none.
    pub(super) fn text(&mut self, name: &'static str, bytes_max: usize) -> Option<String> {
        let node = self.take(name)?;
        match &node.value {
            Value::String(text) if text.len() <= bytes_max => Some(text.clone()).filter(|text| !text.trim().is_empty()),
            Value::String(text) => {
                let found = format!("{} bytes", text.len());
                self.problem(format!("/{name}"), &node, found, format!("at most {bytes_max} bytes"));
                None
            }
            _ => {
                self.mismatch(name, &node, "a string");
                None
            }
        }
    }

    /// Takes a time.
    pub(super) fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        let node = self.take(name)?;
        let Value::String(text) = &node.value else {
            self.mismatch(name, &node, "a time as a string");
            return None;
        };
        match parse_time(text, self.zone) {
            _ if text.trim().is_empty() => None,
            Ok(time) => Some(time),
            Err(error) => {
                self.problem(format!("/{name}"), &node, text, error.to_string());
                None
            }
        }
    }

    /// Takes a yes or no; nothing is no.
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        match self.take(name) {
            Some(Node { value: Value::Bool(flag), .. }) => flag,
            Some(node) => {
                self.mismatch(name, &node, "true or false");
                false
            }
            None => false,
        }
    }

    /// Takes a length of time in seconds, as a number or as `90s`, `5m`, `2h`.
    pub(super) fn seconds(&mut self, name: &'static str) -> Option<u64> {
        let node = self.take(name)?;
        let seconds = match &node.value {
            Value::Number(text) => text.parse().ok(),
            Value::String(text) => parse_seconds(text),
            _ => None,
        };
        match seconds {
            Some(seconds) if seconds > limits::SECONDS_MAX => {
                let found = format!("{seconds} seconds");
                self.problem(format!("/{name}"), &node, found, format!("at most {} seconds", limits::SECONDS_MAX));
                None
            }
            Some(seconds) => Some(seconds),
            None => {
                self.mismatch(name, &node, "whole seconds, or 90s, 5m, 2h");
                None
            }
        }
    }

    /// Takes a value that CODO writes as a Python literal in a string; real JSON, in a string too, is taken alike.
    pub(super) fn structure(&mut self, name: &'static str) -> Option<Node> {
        let node = self.take(name)?;
        let Value::String(text) = &node.value else { return Some(node) };
        if text.trim().is_empty() {
            return None;
        }
        let bad = match python_literal::read(text, node.line, node.column) {
            Ok(inner) => return Some(inner),
            Err(bad) => bad,
        };
        let inner = json::read(text.as_bytes());
        if let (Some(root), true) = (inner.root, inner.problems.is_empty()) {
            return Some(root);
        }
        let wanted = format!("{}, at character {} of the string", bad.wanted, bad.column);
        self.problem(format!("/{name}"), &node, bad.found, wanted);
        None
    }

    /// Reads an object of values that have one text each: parameters, variables.
    pub(super) fn texts(&mut self, name: &'static str, node: Node) -> BTreeMap<ParamName, String> {
        let mut texts = BTreeMap::new();
        let Value::Object(members) = node.value else {
            self.mismatch(name, &node, "an object of names and values");
            return texts;
        };
        for member in members {
            let pointer = format!("/{name}/{}", member.name);
            let key = match member.name.parse::<ParamName>() {
                Ok(key) => key,
                Err(error) => {
                    self.problem(pointer, &member.node, &member.name, error.to_string());
                    continue;
                }
            };
            let text = match &member.node.value {
                Value::String(text) | Value::Number(text) => text.clone(),
                Value::Bool(true) => "True".to_owned(),
                Value::Bool(false) => "False".to_owned(),
                other => {
                    let found = other.kind();
                    self.problem(pointer, &member.node, found, "a string, a number, true or false");
                    continue;
                }
            };
            texts.insert(key, text);
        }
        texts
    }

    /// Reads people by role: `{'group-1': ['杨红飞']}`.
    pub(super) fn people(&mut self, name: &'static str) -> BTreeMap<String, Vec<String>> {
        let Some(node) = self.structure(name) else { return BTreeMap::new() };
        let Value::Object(members) = node.value else {
            self.mismatch(name, &node, "an object of lists of names");
            return BTreeMap::new();
        };
        let mut people = BTreeMap::new();
        for member in members {
            let names = self.strings(&format!("/{name}/{}", member.name), &member.node);
            people.insert(member.name, names.unwrap_or_default());
        }
        people
    }

    /// Reads a list of strings.
    pub(super) fn strings(&mut self, pointer: &str, node: &Node) -> Option<Vec<String>> {
        let Value::Array(items) = &node.value else {
            let found = node.value.kind();
            self.problem(pointer, node, found, "a list of strings");
            return None;
        };
        let mut strings = Vec::new();
        for (n, item) in items.iter().enumerate() {
            match &item.value {
                Value::String(text) => strings.push(text.clone()),
                other => self.problem(format!("{pointer}/{n}"), item, other.kind(), "a string"),
            }
        }
        Some(strings)
    }

    /// Reads the hosts of groups: `{"1": ["web1", "10.0.0.2"]}`, `{1: '10.0.0.1,10.0.0.2'}`.
    pub(super) fn groups(&mut self, node: Node) -> BTreeMap<GroupNo, Hosts> {
        let mut groups = BTreeMap::new();
        let Value::Object(members) = node.value else {
            self.mismatch("hosts", &node, "groups of hosts: {\"1\": [\"web1\", \"web2\"]}");
            return groups;
        };
        if members.len() > limits::GROUPS_MAX {
            let found = format!("{} groups", members.len());
            self.problems.push(Problem::new("/hosts", found, format!("at most {} groups", limits::GROUPS_MAX)));
            return groups;
        }
        for member in members {
            let pointer = format!("/hosts/{}", member.name);
            let number = member.name.parse().ok().filter(|number: &u32| *number > 0);
            let Some(number) = number else {
                self.problem(pointer, &member.node, &member.name, "the number of a group, 1 or more");
                continue;
            };
            let hosts = match &member.node.value {
                Value::String(text) if is_selector(text) => Hosts::Chosen(text.clone()),
                _ => Hosts::Named(self.hosts(&pointer, &member.node)),
            };
            if groups.insert(GroupNo(number), hosts).is_some() {
                self.problem(pointer, &member.node, &member.name, "each group once");
            }
        }
        groups
    }

    /// Reads hosts: a list, or one string with commas.
    pub(super) fn hosts(&mut self, pointer: &str, node: &Node) -> Vec<HostName> {
        let words: Vec<(&str, &Node)> = match &node.value {
            Value::String(text) => text.split(',').map(|word| (word.trim(), node)).collect(),
            Value::Array(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::String(text) => (text.as_str(), item),
                    other => (other.kind(), item),
                })
                .collect(),
            other => {
                self.problem(pointer, node, other.kind(), "a list of hosts");
                return Vec::new();
            }
        };
        if words.is_empty() {
            self.problem(pointer, node, "no host", "at least one host");
        }
        let mut seen = BTreeSet::new();
        let mut hosts: Vec<HostName> = Vec::new();
        for (word, place) in words {
            match word.parse::<HostName>() {
                Ok(_) if !seen.insert(word) => self.problem(pointer, place, word, "each host once"),
                Ok(host) => hosts.push(host),
                Err(error) => self.problem(pointer, place, word, error.to_string()),
            }
        }
        hosts
    }
}

/// Whether a text chooses hosts by more than their names; no name holds any of this.
fn is_selector(text: &str) -> bool {
    let word = |word: &str| {
        let word = word.trim().trim_start_matches('!').trim_start();
        word == "all" || word.split_once(':').is_some_and(|(kind, _)| KINDS.contains(&kind))
    };
    text.contains(['&', '!', '*', '%']) || text.split(',').any(word)
}

/// Reads `90`, `90s`, `5m`, `2h`.
pub(crate) fn parse_seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    number.checked_mul(unit)
}

/// Returns the known name that is one slip of a key away.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known.iter().copied().find(|candidate| distance(name, candidate) <= 2)
}

/// Counts the insertions, removals and changes of characters between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(limits::NAME_BYTES_MAX).enumerate() {
        let mut diagonal = row[0];
        row[0] = i.saturating_add(1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal.saturating_add(usize::from(x != *y));
            diagonal = row[j.saturating_add(1)];
            row[j.saturating_add(1)] = change.min(row[j].saturating_add(1)).min(diagonal.saturating_add(1));
        }
    }
    row[b.len()]
}
