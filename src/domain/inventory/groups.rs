//! Groups of hosts: who is in them, children's hosts included, and which variables a host inherits. Floor 1.
//!
//! **Invariant:** pure. Precedence is Ansible's: `all`, then groups by depth, then by priority, then by name, the
//! last one wins. A group that contains itself or names an unknown group has no members at all: it is a problem.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::host::Vars;
use super::levels::{self, Levels};
use crate::base::ids::HostName;
use crate::domain::problem::Problem;

/// The group that every host is in.
pub(super) const ALL: &str = "all";
/// The group of the hosts that are in no other.
pub(super) const UNGROUPED: &str = "ungrouped";

/// A group as a file describes it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The hosts it names itself.
    pub(super) hosts: BTreeSet<HostName>,
    /// The groups inside it, each with the place where it is named (`file:line`).
    pub(super) children: BTreeMap<String, String>,
    /// What its hosts inherit.
    pub(super) vars: Vars,
    /// Among groups of the same depth, the higher priority wins (`ansible_group_priority`).
    pub(super) priority: i64,
}

impl Default for Group {
    /// A group before anything is said about it; Ansible's priority is 1.
    fn default() -> Group {
        Group { hosts: BTreeSet::new(), children: BTreeMap::new(), vars: Vars::new(), priority: 1 }
    }
}

/// What groups mean for hosts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Which hosts are in a group, children's hosts included; without `all` and `ungrouped`.
    pub(super) members: BTreeMap<String, BTreeSet<HostName>>,
    /// What each host inherits.
    pub(super) inherited: BTreeMap<HostName, Vars>,
    /// The groups that say they are a project, a cluster or an application.
    pub(super) levels: Levels,
}

/// Resolves the groups of one file. What `outer` holds for a group outranks what the file says for any group, as
/// `group_vars/` do in Ansible; there `all` comes first and yields too.
///
/// # Errors
/// Every child that is not a group, and the groups that contain themselves.
pub(super) fn resolve(
    groups: &BTreeMap<String, Group>,
    hosts: &BTreeSet<HostName>,
    outer: &BTreeMap<String, Vars>,
) -> Result<Resolved, Vec<Problem>> {
    let order = parents_first(groups)?;
    let mut members: BTreeMap<&str, BTreeSet<HostName>> = BTreeMap::new();
    for (name, _) in order.iter().rev() {
        let group = &groups[*name];
        let mut all = group.hosts.clone();
        all.extend(group.children.keys().flat_map(|child| members[child.as_str()].iter().cloned()));
        members.insert(name, all);
    }
    let special = |name: &str| name == ALL || name == UNGROUPED;
    let grouped: BTreeSet<&HostName> = members.iter().filter(|(name, _)| !special(name)).flat_map(|(_, m)| m).collect();
    let ungrouped = hosts.iter().filter(|host| !grouped.contains(host)).cloned().collect();
    let mut ranked: Vec<(usize, i64, &str)> =
        order.iter().map(|(name, depth)| (*depth, groups[*name].priority, *name)).collect();
    ranked.sort_unstable();
    let inside = |name: &str| match name {
        ALL => hosts,
        UNGROUPED => &ungrouped,
        other => &members[other],
    };
    let mut inherited: BTreeMap<HostName, Vars> = BTreeMap::new();
    let mut levels = Levels::new();
    let in_file = ranked.iter().map(|(_, _, name)| (*name, &groups[*name].vars));
    let outside = ranked.iter().filter_map(|(_, _, name)| Some((*name, outer.get(*name)?)));
    for (name, vars) in in_file.chain(outside) {
        for host in inside(name) {
            inherited.entry(host.clone()).or_default().extend(vars.clone());
        }
    }
    for (_, _, name) in &ranked {
        let mut own = groups[*name].vars.clone();
        own.extend(outer.get(*name).cloned().unwrap_or_default());
        levels::note(&mut levels, &own, inside(name));
    }
    let members = members.into_iter().filter(|(name, _)| !special(name));
    Ok(Resolved { members: members.map(|(name, hosts)| (name.to_owned(), hosts)).collect(), inherited, levels })
}

/// Returns the groups so that parents come before their children, each with its depth below `all`.
fn parents_first(groups: &BTreeMap<String, Group>) -> Result<Vec<(&str, usize)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut parents: BTreeMap<&str, usize> = groups.keys().map(|name| (name.as_str(), 0)).collect();
    for (child, pointer) in groups.values().flat_map(|group| &group.children) {
        match parents.get_mut(child.as_str()) {
            Some(count) => *count = count.saturating_add(1),
            None => problems.push(Problem::new(pointer, format!("the child {child}"), "a group of this file")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let start = |name: &str| usize::from(name != ALL);
    let mut depths: BTreeMap<&str, usize> = groups.keys().map(|name| (name.as_str(), start(name))).collect();
    let mut free: VecDeque<&str> = parents.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(groups.len());
    while let Some(name) = free.pop_front() {
        order.push((name, depths[name]));
        for child in groups[name].children.keys() {
            let child = child.as_str();
            let below = depths[name].saturating_add(1);
            depths.entry(child).and_modify(|depth| *depth = below.max(*depth));
            if let Some(count) = parents.get_mut(child) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push_back(child);
                }
            }
        }
    }
    let above_all = groups.iter().find_map(|(name, group)| group.children.get(ALL).map(|pointer| (name, pointer)));
    if let Some((name, pointer)) = above_all {
        return Err(vec![Problem::new(pointer, format!("all inside {name}"), "all inside no other group")]);
    }
    if order.len() < groups.len() { Err(vec![loop_problem(groups, &order)]) } else { Ok(order) }
}

/// Names the groups that contain themselves: what is left after groups outside of every loop are taken away.
fn loop_problem(groups: &BTreeMap<String, Group>, free: &[(&str, usize)]) -> Problem {
    let free: BTreeSet<&str> = free.iter().map(|(name, _)| *name).collect();
    let mut looped: BTreeSet<&str> = groups.keys().map(String::as_str).filter(|name| !free.contains(name)).collect();
    loop {
        let inside = |name: &str| groups[name].children.keys().any(|child| looped.contains(child.as_str()));
        let kept: BTreeSet<&str> = looped.iter().copied().filter(|name| inside(name)).collect();
        if kept.len() == looped.len() {
            break;
        }
        looped = kept;
    }
    let pointers = looped.iter().flat_map(|name| &groups[*name].children);
    let pointer = pointers.filter(|(child, _)| looped.contains(child.as_str())).map(|(_, pointer)| pointer).next();
    let names = looped.iter().copied().collect::<Vec<_>>().join(", ");
    Problem::new(
        pointer.cloned().unwrap_or_default(),
        format!("a loop of groups: {names}"),
        "groups that do not contain themselves",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    /// Reads `name > child child : host host | var=value`; lines are joined by `;`.
    fn groups(text: &str) -> BTreeMap<String, Group> {
        let mut groups = BTreeMap::from([(ALL.to_owned(), Group::default()), (UNGROUPED.to_owned(), Group::default())]);
        for line in text.split(';') {
            let (head, vars) = line.split_once('|').unwrap_or((line, ""));
            let (head, hosts) = head.split_once(':').unwrap_or((head, ""));
            let (name, children) = head.split_once('>').unwrap_or((head, ""));
            let group = groups.entry(name.trim().to_owned()).or_default();
            group.hosts.extend(hosts.split_whitespace().map(host));
            group.children.extend(children.split_whitespace().map(|child| (child.to_owned(), format!("f:{name}"))));
            for pair in vars.split_whitespace() {
                let (name, value) = pair.split_once('=').unwrap();
                if name == "priority" {
                    group.priority = value.parse().unwrap();
                } else {
                    group.vars.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        groups
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        let hosts = BTreeSet::from([host("h"), host("lone")]);
        let shown = match resolve(&groups(text), &hosts, &BTreeMap::new()) {
            Ok(resolved) => {
                let vars = |name| {
                    let vars = resolved.inherited.get(&host(name)).cloned().unwrap_or_default();
                    vars.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
                };
                format!("{} / {}", vars("h"), vars("lone"))
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn the_last_of_depth_priority_and_name_wins() {
        check("all|v=all;aa:h|v=aa;zz:h|v=zz", "v=zz / v=all");
        check("aa:h|v=aa priority=5;zz:h|v=zz", "v=aa / ");
        check("zz>aa|v=zz;aa:h|v=aa", "v=aa / ");
        check("a>b|v=a w=a;b>c|v=b w=b;c:h|v=c;z:h|v=z priority=9", "v=c w=b / ");
        check("ungrouped|v=un;a:h|v=a", "v=a / v=un");
        check("a>c;b>c|v=b;c:h;all>a|v=all", "v=b / v=all");
    }

    #[test]
    fn loops_and_unknown_children_are_refused() {
        let wanted = "groups that do not contain themselves";
        check("a>b;b>a;b:h", &format!("f:a: found a loop of groups: a, b; wanted {wanted}"));
        check("a>a;x>a;a>y;y:h", &format!("f:a: found a loop of groups: a; wanted {wanted}"));
        check(
            "a>b;a>c",
            "f:a: found the child b; wanted a group of this file; f:a: found the child c; wanted a group of this file",
        );
        check("a>all", "f:a: found all inside a; wanted all inside no other group");
    }

    #[test]
    fn members_include_the_childrens() {
        let resolved =
            resolve(&groups("a>b;b:h;c:lone;a>c;empty"), &BTreeSet::from([host("h"), host("lone")]), &BTreeMap::new())
                .unwrap();
        assert_eq!(resolved.members["a"].len(), 2);
        assert_eq!(resolved.members.keys().collect::<Vec<_>>(), ["a", "b", "c", "empty"]);
    }
}
