//! Selectors: words that choose hosts by name, tag, group, environment, location, project, cluster or application.
//!
//! `tag:web & env:prod, !web9, 10%`: alternatives between commas are added one after the other, terms joined by `&` must
//! all hold, `!` takes hosts away again, and a share at the end keeps the first part of what was chosen.
//!
//! **Invariant:** pure. What is chosen is a list of names in the order of the selector, each once; a word that chooses
//! nothing is a problem, since it is mostly a typing error. A name costs one look; words that may choose many hosts are few in
//! a task, and each is looked for once.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Inventory;
use super::host::{Host, first};
use super::levels::Level;
use crate::base::ids::HostName;
use crate::base::limits;
use crate::domain::problem::excerpt;

/// What may stand before a colon in a selector.
pub const KINDS: [&str; 7] = ["tag", "env", "location", "group", "project", "cluster", "app"];

/// Returns the hosts that a selector chooses.
///
/// # Errors
/// What is wrong with it, one sentence for each word.
pub fn select(inventory: &Inventory, text: &str) -> Result<Vec<HostName>, Vec<String>> {
    Selecting::new(inventory).select(text)
}

/// The selectors of one task.
pub struct Selecting<'a> {
    inventory: &'a Inventory,
    /// What words that may choose many hosts stand for.
    known: HashMap<String, Found<'a>>,
    /// How many of them there may still be.
    left: usize,
}

/// Some hosts, in the order of their names.
type Found<'a> = Rc<[&'a HostName]>;

/// Why a word chooses no hosts.
enum Flaw {
    /// It is wrong itself.
    Word(String),
    /// There are too many before it.
    TooMany,
}

impl<'a> Selecting<'a> {
    /// Makes ready for the selectors of one task.
    #[must_use]
    pub fn new(inventory: &'a Inventory) -> Selecting<'a> {
        Selecting { inventory, known: HashMap::new(), left: limits::SELECTOR_WORDS_MAX }
    }

    /// Returns the hosts that a selector chooses.
    ///
    /// # Errors
    /// What is wrong with it, one sentence for each word; of many the first ones.
    pub fn select(&mut self, text: &str) -> Result<Vec<HostName>, Vec<String>> {
        let mut chosen = Chosen::default();
        let mut problems = Vec::new();
        for alternative in text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
            let done = if let Some(share) = alternative.strip_suffix('%') {
                self.spend().and_then(|()| chosen.keep(share.trim(), alternative))
            } else if let Some(terms) = alternative.strip_prefix('!') {
                self.matching(terms).map(|hosts| chosen.take_away(&hosts))
            } else {
                self.matching(alternative).map(|hosts| chosen.add(&hosts))
            };
            match done {
                Ok(()) => {}
                Err(Flaw::Word(problem)) => problems.push(problem),
                Err(Flaw::TooMany) => {
                    let most = limits::SELECTOR_WORDS_MAX;
                    return Err(vec![format!(
                        "at most {most} words other than names of hosts in the selectors of a task"
                    )]);
                }
            }
            if problems.len() >= limits::PROBLEMS_MAX {
                break;
            }
        }
        if problems.is_empty() { Ok(chosen.names()) } else { Err(problems) }
    }

    /// Counts a word that may cost a look at all hosts.
    fn spend(&mut self) -> Result<(), Flaw> {
        self.left = self.left.checked_sub(1).ok_or(Flaw::TooMany)?;
        Ok(())
    }

    /// Returns the hosts that all terms hold for.
    fn matching(&mut self, terms: &str) -> Result<Found<'a>, Flaw> {
        let mut hosts: Option<Found<'a>> = None;
        let mut not: BTreeSet<&HostName> = BTreeSet::new();
        for term in terms.split('&').map(str::trim) {
            if let Some(word) = term.strip_prefix('!') {
                not.extend(self.of_word(word.trim())?.iter());
                continue;
            }
            let these = self.of_word(term)?;
            hosts = Some(match hosts {
                None => these,
                Some(known) => both(&known, &these),
            });
        }
        let hosts = match hosts {
            Some(hosts) => hosts,
            None => self.of_word("all")?,
        };
        let hosts =
            if not.is_empty() { hosts } else { hosts.iter().copied().filter(|host| !not.contains(host)).collect() };
        if hosts.is_empty() {
            return Err(Flaw::Word(format!("{}: no host is all of this", brief(terms))));
        }
        Ok(hosts)
    }

    /// Returns the hosts that one word stands for.
    fn of_word(&mut self, word: &str) -> Result<Found<'a>, Flaw> {
        let kind = word.split_once(':').map(|(kind, _)| kind);
        if word != "all" && !word.contains('*') && kind.is_none_or(|kind| !KINDS.contains(&kind)) {
            return self.named(word).map_err(Flaw::Word);
        }
        self.spend()?;
        if let Some(found) = self.known.get(word) {
            return Ok(Rc::clone(found));
        }
        let found = self.look_for(word).map_err(Flaw::Word)?;
        self.known.insert(word.to_owned(), Rc::clone(&found));
        Ok(found)
    }

    fn named(&self, word: &str) -> Result<Found<'a>, String> {
        let name: HostName = word.parse().map_err(|wanted| format!("{}: wanted {wanted}", brief(word)))?;
        let found = self.inventory.find(&name).map_err(|problem| problem.to_string())?;
        Ok(Rc::from([&found.name]))
    }

    fn look_for(&self, word: &str) -> Result<Found<'a>, String> {
        let inventory = self.inventory;
        let all = |holds: &dyn Fn(&Host) -> bool| -> Found<'a> {
            inventory.hosts.values().filter(|host| holds(host)).map(|host| &host.name).collect()
        };
        let group = |word: &str| inventory.groups.get(word);
        let (found, kind) = match word.split_once(':') {
            Some(("tag", word)) => {
                let members = group(word);
                let tagged = |host: &Host| {
                    host.tags.contains(word) || members.is_some_and(|members| members.contains(&host.name))
                };
                (all(&tagged), "tag or group")
            }
            Some(("env", word)) => (all(&|host| host.environment() == word && !word.is_empty()), "environment"),
            Some((level, word)) if let Some(level) = Level::of_word(level) => {
                let members = inventory.put_into(level, word);
                let says = |host: &Host| first(&host.vars, &level.variables()) == word && !word.is_empty();
                let is_there = |host: &Host| says(host) || members.is_some_and(|members| members.contains(&host.name));
                (all(&is_there), level.word())
            }
            Some(("location", word)) => (all(&|host| host.location() == word && !word.is_empty()), "location"),
            Some(("group", word)) => {
                let members = group(word);
                (all(&|host| members.is_some_and(|members| members.contains(&host.name))), "group")
            }
            _ if word == "all" => (all(&|_| true), "host"),
            // A name and the characters for any others between all of its own.
            _ if word.len() > 2 * limits::HOST_NAME_BYTES_MAX => {
                let most = 2 * limits::HOST_NAME_BYTES_MAX;
                return Err(format!("{}: wanted a pattern of at most {most} bytes", brief(word)));
            }
            _ => (all(&|host| is_like(host.name.as_str(), word)), "name"),
        };
        if found.is_empty() { Err(format!("{}: no host has this {kind}", brief(word))) } else { Ok(found) }
    }
}

/// Returns the hosts that are in both lists.
fn both<'a>(one: &Found<'a>, other: &Found<'a>) -> Found<'a> {
    let (few, many) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    few.iter().copied().filter(|host| many.binary_search(host).is_ok()).collect()
}

/// Shortens a word to what fits on a line.
fn brief(word: &str) -> String {
    excerpt(word, limits::FOUND_CHARS_MAX)
}

/// The hosts that were chosen so far, in their order.
#[derive(Default)]
struct Chosen<'a> {
    /// Nothing where one was taken away.
    names: Vec<Option<&'a HostName>>,
    places: HashMap<&'a HostName, usize>,
}

impl<'a> Chosen<'a> {
    fn add(&mut self, hosts: &[&'a HostName]) {
        for host in hosts {
            let next = self.names.len();
            if *self.places.entry(host).or_insert(next) == next {
                self.names.push(Some(host));
            }
        }
    }

    fn take_away(&mut self, hosts: &[&'a HostName]) {
        for host in hosts {
            if let Some(place) = self.places.remove(host) {
                self.names[place] = None;
            }
        }
    }

    /// Keeps the first part of them.
    fn keep(&mut self, share: &str, word: &str) -> Result<(), Flaw> {
        let Some(percent @ 1..=100) = share.parse::<usize>().ok() else {
            return Err(Flaw::Word(format!("{}: wanted a share from 1% to 100%", brief(word))));
        };
        let kept = self.places.len().saturating_mul(percent).div_ceil(100);
        self.names = std::mem::take(&mut self.names).into_iter().flatten().take(kept).map(Some).collect();
        self.places = self.names.iter().flatten().enumerate().map(|(place, host)| (*host, place)).collect();
        Ok(())
    }

    fn names(self) -> Vec<HostName> {
        self.names.into_iter().flatten().cloned().collect()
    }
}

/// Whether a name is like a pattern, in which `*` stands for any characters.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
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

    /// An inventory of so many hosts, all of them in one group.
    fn large(count: usize) -> Inventory {
        let hosts: String = (0..count).map(|n| format!("h{n:05}\n")).collect();
        Inventory::assemble(vec![("a.ini".to_owned(), format!("[web]\n{hosts}"))]).unwrap()
    }

    #[test]
    fn whatever_a_selector_says_it_costs_little() {
        let inventory = large(10_000);
        let most = limits::SELECTOR_WORDS_MAX;
        let repeated = |word: &str, between: &str| vec![word; (1 << 20) / (word.len() + 1)].join(between);
        let stars = "*".repeat(1 << 20);
        let few = |word: &str, between: &str| vec![word; most].join(between);
        let chain = few("tag:web", "&");
        let different: String = (0..most).map(|n| format!("*{n}*,")).collect();
        let too_many = format!("at most {most} words other than names of hosts in the selectors of a task");
        for (selector, want) in [
            (repeated("*", ","), Err(&*too_many)),
            (repeated("all", "&"), Err(&*too_many)),
            (repeated("!*0", "&"), Err(&*too_many)),
            (repeated("50%", ","), Err(&*too_many)),
            (repeated("nope*", ","), Err("nope*: no host has this name")),
            (repeated("h00001", ","), Ok(1)),
            (repeated("h00001", "&"), Ok(1)),
            (format!("web*,h00001,{}", repeated("!h00001", ",")), Err("web*: no host has this name")),
            (format!("all,{}", repeated("!h00001", ",")), Ok(9_999)),
            (format!("all&{}", repeated("!h00001", "&")), Ok(9_999)),
            (repeated("nobody", ","), Err("found nobody; wanted the name or address of a host of the inventory")),
            (format!("{stars}9"), Err("wanted a pattern of at most 506 bytes")),
            (few("*", ","), Ok(10_000)),
            (chain, Ok(10_000)),
            (different, Ok(10_000)),
        ] {
            let begin = std::time::Instant::now();
            let found = select(&inventory, &selector).map(|names| names.len());
            let took = begin.elapsed();
            let shown = &selector[..20];
            match (&found, want) {
                (Ok(count), Ok(wanted)) => assert_eq!(*count, wanted, "{shown}"),
                (Err(problems), Err(wanted)) => {
                    assert!(problems[0].contains(wanted), "{shown}: {}", problems[0]);
                    assert!(problems.len() <= limits::PROBLEMS_MAX && problems.iter().all(|said| said.len() < 1000));
                }
                _ => panic!("{shown}: {found:?}"),
            }
            // Without a limit it would be minutes.
            assert!(took.as_secs() < 20, "{shown}: {took:?}");
        }
    }

    #[test]
    fn all_selectors_of_a_task_have_one_limit() {
        let inventory = large(10);
        let mut selecting = Selecting::new(&inventory);
        for _ in 0..limits::SELECTOR_WORDS_MAX {
            assert_eq!(selecting.select("*1").unwrap().len(), 1);
        }
        assert!(selecting.select("*1").is_err());
        assert_eq!(selecting.select("h00001").unwrap().len(), 1);
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
