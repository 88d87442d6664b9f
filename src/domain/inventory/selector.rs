//! Selectors: words that choose hosts by name, tag, group, environment, location, project, cluster or application.
//!
//! `tag:web & env:prod, !web9, 10%`: alternatives between commas are added one after the other, terms joined by `&` must
//! all hold, `!` takes hosts away again, and a share at the end keeps the first part of what was chosen.
//!
//! **Invariant:** pure. What is chosen is a list of names in the order of the selector, each once; a word that chooses
//! nothing is a problem, since it is mostly a typing error.

use std::collections::BTreeSet;

use crate::base::ids::HostName;
use crate::domain::inventory::facts::Level;
use crate::domain::inventory::{Host, Inventory};

/// What may stand before a colon in a selector.
pub const KINDS: [&str; 7] = ["tag", "env", "location", "group", "project", "cluster", "app"];

/// Returns the hosts that a selector chooses.
///
/// # Errors
/// What is wrong with it, one sentence for each word.
pub fn select(inventory: &Inventory, text: &str) -> Result<Vec<HostName>, Vec<String>> {
    let mut chosen: Vec<HostName> = Vec::new();
    let mut problems = Vec::new();
    for alternative in text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
        if let Some(share) = alternative.strip_suffix('%') {
            match share.trim().parse::<usize>() {
                Ok(percent @ 1..=100) => chosen.truncate(chosen.len().saturating_mul(percent).div_ceil(100)),
                _ => problems.push(format!("{alternative}: wanted a share from 1% to 100%")),
            }
            continue;
        }
        let (away, terms) = match alternative.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, alternative),
        };
        match matching(inventory, terms) {
            Err(problem) => problems.push(problem),
            Ok(hosts) if away => {
                let gone: BTreeSet<HostName> = hosts.into_iter().collect();
                chosen.retain(|name| !gone.contains(name));
            }
            Ok(hosts) => {
                let known: BTreeSet<HostName> = chosen.iter().cloned().collect();
                chosen.extend(hosts.into_iter().filter(|name| !known.contains(name)));
            }
        }
    }
    if problems.is_empty() { Ok(chosen) } else { Err(problems) }
}

/// Returns the hosts that all terms hold for, in the order of their names.
fn matching(inventory: &Inventory, terms: &str) -> Result<Vec<HostName>, String> {
    let mut hosts: Option<BTreeSet<HostName>> = None;
    for term in terms.split('&').map(str::trim) {
        let these = of_term(inventory, term)?;
        hosts = Some(match hosts {
            None => these,
            Some(known) => known.intersection(&these).cloned().collect(),
        });
    }
    let hosts = hosts.unwrap_or_default();
    if hosts.is_empty() { Err(format!("{terms}: no host is all of this")) } else { Ok(hosts.into_iter().collect()) }
}

fn of_term(inventory: &Inventory, term: &str) -> Result<BTreeSet<HostName>, String> {
    let (term, not) = match term.strip_prefix('!') {
        Some(rest) => (rest.trim(), true),
        None => (term, false),
    };
    let all = |holds: &dyn Fn(&Host) -> bool| -> BTreeSet<HostName> {
        inventory.hosts.values().filter(|host| holds(host)).map(|host| host.name.clone()).collect()
    };
    let (found, kind) = match term.split_once(':') {
        Some(("tag", word)) => (all(&|host| inventory.tags(host).contains(word)), "tag or group"),
        Some(("env", word)) => (all(&|host| host.environment() == word && !word.is_empty()), "environment"),
        Some((level, word)) if let Some(level) = Level::of_word(level) => {
            (inventory.of_level(level, word), level.word())
        }
        Some(("location", word)) => (all(&|host| host.location() == word && !word.is_empty()), "location"),
        Some(("group", word)) => (inventory.groups.get(word).cloned().unwrap_or_default(), "group"),
        _ if term == "all" => (all(&|_| true), "host"),
        _ if term.contains('*') => (all(&|host| is_like(host.name.as_str(), term)), "name"),
        _ => {
            let word: HostName = term.parse().map_err(|wanted| format!("{term}: wanted {wanted}"))?;
            let found = inventory.find(&word).map_err(|problem| problem.to_string())?;
            (BTreeSet::from([found.name.clone()]), "name")
        }
    };
    if found.is_empty() {
        return Err(format!("{term}: no host has this {kind}"));
    }
    Ok(if not { all(&|host| !found.contains(&host.name)) } else { found })
}

/// Whether a name is like a pattern, in which `*` stands for any characters.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at.saturating_add(piece.len())..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        let hosts = "[host.web1]\naddress = \"10.0.0.1\"\ntags = [\"web\"]\nvars = { env = \"prod\" }\n\
                     [host.web2]\naddress = \"10.0.0.2\"\ntags = [\"web\"]\nvars = { env = \"prod\" }\n\
                     [host.web9]\naddress = \"10.0.0.9\"\ntags = [\"web\"]\nvars = { env = \"test\" }\n\
                     [host.db1]\naddress = \"10.0.1.1\"\n[group.data]\nhosts = [\"db1\"]\n";
        Inventory::assemble(vec![("a.toml".to_owned(), hosts.to_owned())]).unwrap()
    }

    #[track_caller]
    fn check(selector: &str, want: &str) {
        let shown = match select(&inventory(), selector) {
            Ok(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(problems) => problems.join("; "),
        };
        assert_eq!(shown, want, "{selector}");
    }

    #[test]
    fn hosts_are_chosen_by_their_place() {
        let text = "[all:vars]\nZDOPS_SYSTEM_ENV=test\n[a]\nh1 ZDOPS_LOCATION=aliyun\nboth\n[a:vars]\nZDOPS_APP=a\n\
                    [b]\nboth\nh2 location=idc ZDOPS_SYSTEM_ENV=prod\n[b:vars]\napp=b\n[c:children]\na\nb\n\
                    [c:vars]\nZDOPS_CLUSTER=front\n[d:children]\nc\n[d:vars]\nZDOPS_PROJECT=shop\n[e]\nlone\n";
        let inventory = Inventory::assemble(vec![("a.ini".to_owned(), text.to_owned())]).unwrap();
        let chosen = |selector| match select(&inventory, selector) {
            Ok(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(problems) => problems.join("; "),
        };
        for (selector, want) in [
            ("app:a", "both h1"),
            ("app:b", "both h2"),
            ("app:a, app:b", "both h1 h2"),
            ("cluster:front", "both h1 h2"),
            ("project:shop & !app:a", "h2"),
            ("project:shop, 34%", "both h1"),
            ("env:prod", "h2"),
            ("env:test & app:a", "both h1"),
            ("location:aliyun, location:idc", "h1 h2"),
            ("group:e", "lone"),
            ("app:x", "app:x: no host has this app"),
            ("project:", "project:: no host has this project"),
            ("env:", "env:: no host has this environment"),
        ] {
            assert_eq!(chosen(selector), want, "{selector}");
        }
    }

    #[test]
    fn hosts_are_chosen_by_what_they_are() {
        check("web2, web1", "web2 web1");
        check("10.0.0.9,db1", "web9 db1");
        check("tag:web", "web1 web2 web9");
        check("tag:web & env:prod", "web1 web2");
        check("tag:web & !env:prod", "web9");
        check("tag:web, !web9, db1", "web1 web2 db1");
        check("group:data, tag:data", "db1");
        check("all, 50%", "db1 web1");
        check("web*, 10%", "web1");
        check("w*9, *1", "web9 db1 web1");
        check("web1, web1", "web1");
        check("", "");
        check(
            "tag:no, env:no, web3",
            "tag:no: no host has this tag or group; env:no: no host has this environment; found web3; wanted the name or address of a host of the inventory",
        );
        check("tag:web & db1", "tag:web & db1: no host is all of this");
        check("all, 0%", "0%: wanted a share from 1% to 100%");
        check(
            "a b",
            "a b: wanted a host name: letters, digits and . _ : - only, first a letter or digit, at most 253 bytes",
        );
    }
}
