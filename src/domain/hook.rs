//! What happens outside and asks for a task: a push to a git repository, a trigger of a monitor; and the rules of
//! `hooks.toml` that say which task.
//!
//! **Invariant:** pure. The first rule that matches counts, and it matches the whole name: a pattern is anchored at both
//! ends. What a push brings reaches a task as values of parameters only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex_lite::Regex;

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, ParamName};
use crate::domain::problem::Problem;
use crate::domain::read::toml_table::{Fields, Sheet, Text};
use crate::domain::submission::Schedule;
use crate::domain::template::fill;

/// How refs of tags begin.
pub const TAGS: &str = "refs/tags/";
/// How refs of branches begin.
pub const BRANCHES: &str = "refs/heads/";

/// How the keys begin that make reports of the same push one task; nobody else may use such a key.
pub const PUSH_KEY: &str = "git:";

/// What stands for a repository's name in the path of a rule.
const REPOSITORY: &str = "{repository}";

/// One ref that a push changed, as the hook saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// The repository, as its server names it, without `.git`.
    pub repository: String,
    /// The whole name of the ref.
    pub reference: String,
    /// What it pointed at; empty or zeros for nothing.
    pub old: String,
    /// What it points at; empty or zeros when it was deleted.
    pub new: String,
    /// The commit that it comes to, where the hook knows.
    pub commit: Option<String>,
    /// Who pushed, as the server says.
    pub pusher: Option<String>,
    /// Which hook saw it: `update` sees a ref before it moves.
    pub hook: String,
    /// Where the repository can be fetched from, where that is known.
    pub urls: Option<(String, String)>,
    /// What the object comes to when it comes to no commit: a tree, a blob.
    pub comes_to: Option<String>,
}

/// A trigger of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The host, as the monitor names it.
    pub host: String,
    /// Its address.
    pub address: String,
    /// The trigger.
    pub trigger: String,
    /// Its state.
    pub status: String,
    /// Its severity.
    pub severity: String,
}

/// The rules of `hooks.toml`.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    git: Vec<GitRule>,
    zabbix: Vec<ZabbixRule>,
}

#[derive(Clone, Debug)]
struct GitRule {
    rule: String,
    repository: String,
    /// How the refs begin that it is about.
    space: &'static str,
    pattern: Regex,
    /// Where the repository stands on this machine, with `{repository}` for its name.
    path: Option<String>,
    task: Wanted,
}

#[derive(Clone, Debug)]
struct ZabbixRule {
    rule: String,
    host: String,
    trigger: String,
    task: Wanted,
}

/// The task that a rule makes.
#[derive(Clone, Debug)]
struct Wanted {
    template: String,
    into: Schedule,
    hosts: BTreeMap<GroupNo, Vec<String>>,
    args: Vec<(ParamName, String)>,
    name: Option<String>,
}

/// A task that a rule made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The rule.
    pub rule: String,
    /// The state it wishes for the task.
    pub into: Schedule,
    /// The task file.
    pub text: String,
}

impl Push {
    /// Whether the ref was deleted: a zero is as long as the repository's digests are.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        !self.new.is_empty() && is_zero(&self.new)
    }

    /// Whether the ref stood elsewhere before.
    #[must_use]
    pub fn is_move(&self) -> bool {
        !is_zero(&self.old)
    }

    /// Returns the commit that the ref comes to; a task that asks for it gets nothing else.
    fn commit(&self) -> Result<&str, Problem> {
        match (&self.commit, &self.comes_to) {
            (Some(commit), _) => Ok(commit),
            (None, Some(kind)) => {
                let found = format!("{} comes to a {kind}, not to a commit", self.reference);
                Err(Problem::new("/ref", found, "a tag or branch of a commit: the rule asks for {commit}"))
            }
            (None, None) if !self.new.is_empty() => {
                let found = format!("the hook could not tell which commit {} comes to", self.reference);
                let wanted = "a repository that the hook can read: the rule asks for {commit}";
                Err(Problem::new("/commit", found, wanted))
            }
            // CODO's hook does not say which object.
            (None, None) => Ok(""),
        }
    }

    /// Returns what makes reports of the same push one task, whichever hook reports it; nothing where it does not say what
    /// was pushed.
    fn key(&self) -> Option<String> {
        let what = [self.repository.as_str(), &self.reference, &self.old, &self.new].join("\0");
        (!self.new.is_empty()).then(|| format!("{PUSH_KEY}{}", Digest::of(what.as_bytes()).hex()))
    }
}

/// Whether an object's name stands for none.
fn is_zero(name: &str) -> bool {
    name.bytes().all(|byte| byte == b'0')
}

impl Hooks {
    /// Reads `hooks.toml`.
    ///
    /// # Errors
    /// Every problem of the file, each with `file:line`.
    pub fn parse(file: &str, text: &str) -> Result<Hooks, Vec<Problem>> {
        let sheet = Sheet::new(file, text);
        let mut fields = sheet.fields();
        let git = fields.tables("git").into_iter().filter_map(read_git).collect();
        let zabbix = fields.tables("zabbix").into_iter().filter_map(read_zabbix).collect();
        fields.finish();
        let problems = sheet.into_problems();
        if problems.is_empty() { Ok(Hooks { git, zabbix }) } else { Err(problems) }
    }

    /// Whether any rule is about a repository.
    #[must_use]
    pub fn know(&self, repository: &str) -> bool {
        self.git.iter().any(|rule| is_repository(&rule.repository, repository))
    }

    /// Returns the task that the first matching rule makes of a push; `None` when none matches, as for every deletion.
    ///
    /// # Errors
    /// When the rule asks for something that the push does not have.
    #[must_use]
    pub fn of_push(&self, push: &Push) -> Option<Result<Made, Problem>> {
        if push.is_deletion() {
            return None;
        }
        let rule = self.rule_of(push)?;
        let name = push.reference.strip_prefix(rule.space).unwrap_or_default();
        let (ssh, http) = push.urls.clone().unwrap_or_default();
        let commit = match push.commit() {
            Err(problem) if rule.task.asks_for("commit") => return Some(Err(problem)),
            commit => commit.unwrap_or_default(),
        };
        let said = [
            ("tag", name),
            ("ref", &push.reference),
            ("repository", &push.repository),
            ("commit", commit),
            ("old", &push.old),
            ("new", &push.new),
            ("pusher", push.pusher.as_deref().unwrap_or_default()),
            ("git_ssh_url", &ssh),
            ("git_http_url", &http),
        ];
        let moved = if push.is_move() { format!(", moved from {}", push.old) } else { String::new() };
        let at = push.commit.as_ref().unwrap_or(&push.new);
        let details = format!("{} of {} at {at}{moved}; {}", push.reference, push.repository, rule.rule);
        let title = format!("{} {name}", push.repository);
        let pusher = push.pusher.as_deref();
        Some(Ok(rule.task.make(&rule.rule, &said, &title, &details, pusher, push.key().as_deref())))
    }

    fn rule_of(&self, push: &Push) -> Option<&GitRule> {
        self.git.iter().find(|rule| {
            let name = push.reference.strip_prefix(rule.space);
            is_repository(&rule.repository, &push.repository) && name.is_some_and(|name| rule.pattern.is_match(name))
        })
    }

    /// Returns where the repository of a push stands on this machine, as its rule says. The name is what somebody claims, so
    /// it leads nowhere else.
    #[must_use]
    pub fn path_of(&self, push: &Push) -> Option<PathBuf> {
        let path = self.rule_of(push)?.path.as_ref()?;
        let name = push.repository.strip_suffix(".git").unwrap_or(&push.repository);
        let is_plain = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        (is_plain || !path.contains(REPOSITORY)).then(|| PathBuf::from(path.replace(REPOSITORY, name)))
    }

    /// Returns the task that the first matching rule makes of an alert.
    #[must_use]
    pub fn of_alert(&self, alert: &Alert) -> Option<Made> {
        let matches = |rule: &&ZabbixRule| {
            (rule.host == "*" || rule.host == alert.host) && (rule.trigger == "*" || rule.trigger == alert.trigger)
        };
        let rule = self.zabbix.iter().find(matches)?;
        let said = [
            ("host", alert.host.as_str()),
            ("address", &alert.address),
            ("trigger", &alert.trigger),
            ("status", &alert.status),
            ("severity", &alert.severity),
        ];
        let title = format!("{} on {}", alert.trigger, alert.host);
        let details = format!("{} is {} ({}) on {}", alert.trigger, alert.status, alert.severity, alert.host);
        Some(rule.task.make(&rule.rule, &said, &title, &details, Some("zabbix"), None))
    }
}

/// Whether a rule's repository, `ops/web`, `ops/*` or `*`, is this one.
fn is_repository(rule: &str, repository: &str) -> bool {
    let repository = repository.strip_suffix(".git").unwrap_or(repository);
    match rule.strip_suffix('*') {
        Some(before) => repository.starts_with(before),
        None => rule == repository,
    }
}

impl Wanted {
    /// Whether a text of the rule names this in braces.
    fn asks_for(&self, name: &str) -> bool {
        let texts = self.args.iter().map(|(_, text)| text).chain(&self.name);
        texts.into_iter().any(|text| braced(text).any(|word| word == name))
    }

    fn make(
        &self,
        rule: &str,
        said: &[(&str, &str)],
        title: &str,
        details: &str,
        submitter: Option<&str>,
        key: Option<&str>,
    ) -> Made {
        let values: BTreeMap<ParamName, String> =
            said.iter().filter_map(|(name, value)| Some((name.parse().ok()?, (*value).to_owned()))).collect();
        let hosts: BTreeMap<String, &Vec<String>> =
            self.hosts.iter().map(|(no, hosts)| (no.to_string(), hosts)).collect();
        let args: BTreeMap<&str, String> =
            self.args.iter().map(|(name, text)| (name.as_str(), fill(text, &values))).collect();
        let name = self.name.as_ref().map_or_else(|| title.to_owned(), |text| fill(text, &values));
        let task = serde_json::json!({
            "task_name": name,
            "temp_id": self.template,
            "hosts": hosts,
            "args": args,
            "details": details,
            "submitter": submitter,
            "idempotency_key": key,
        });
        Made { rule: rule.to_owned(), into: self.into, text: task.to_string() }
    }
}

/// The names that texts of rules may have in braces, for each kind of rule.
const OF_PUSH: [&str; 9] =
    ["tag", "ref", "repository", "commit", "old", "new", "pusher", "git_ssh_url", "git_http_url"];
const OF_ALERT: [&str; 5] = ["host", "address", "trigger", "status", "severity"];

fn rule_name(table: &Fields<'_>, kind: &str) -> String {
    format!("{} [[{kind}]]", table.sheet().pointer(table.span().start))
}

fn read_git(mut table: Fields<'_>) -> Option<GitRule> {
    let (sheet, rule) = (table.sheet(), rule_name(&table, "git"));
    let repository = table.string("repository");
    let repository = table.need("repository", repository).map(|text| {
        if text.value.trim_end_matches('*').contains('*') {
            sheet.problem(&text.span, &text.value, "a repository, or the beginning of some and *");
        }
        text.value.strip_suffix(".git").unwrap_or(&text.value).to_owned()
    });
    let (tag, prefix, branch) = (table.string("tag"), table.string("prefix"), table.string("branch"));
    let matched = match (tag, prefix, branch) {
        (Some(tag), None, None) => pattern(sheet, &tag).map(|pattern| (TAGS, pattern)),
        (None, Some(prefix), None) => {
            let begins = Text { value: format!("{}.*", escape(&prefix.value)), span: prefix.span };
            pattern(sheet, &begins).map(|pattern| (TAGS, pattern))
        }
        (None, None, Some(branch)) => pattern(sheet, &branch).map(|pattern| (BRANCHES, pattern)),
        _ => {
            let wanted = "one of tag = \"pattern\", prefix = \"begin\" and branch = \"pattern\"";
            sheet.problem(table.span(), "none or several of tag, prefix and branch", wanted);
            None
        }
    };
    let path = table.string("path");
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
        sheet.problem(
            &path.span,
            &path.value,
            "the absolute path of the repository, such as /srv/git/{repository}.git",
        );
    }
    let task = read_wanted(&mut table, &OF_PUSH);
    table.finish();
    let (space, pattern) = matched?;
    let path = path.map(|path| path.value);
    Some(GitRule { rule, repository: repository?, space, pattern, path, task: task? })
}

fn read_zabbix(mut table: Fields<'_>) -> Option<ZabbixRule> {
    let rule = rule_name(&table, "zabbix");
    let (host, trigger) = (table.string("host"), table.string("trigger"));
    let (host, trigger) = (table.need("host", host), table.need("trigger", trigger));
    let task = read_wanted(&mut table, &OF_ALERT);
    table.finish();
    Some(ZabbixRule { rule, host: host?.value, trigger: trigger?.value, task: task? })
}

fn read_wanted(table: &mut Fields<'_>, known: &[&str]) -> Option<Wanted> {
    let sheet = table.sheet();
    let template = table.string("template");
    let template = table.need("template", template);
    let into = table.choice("into", &[("new", Schedule::New), ("ready", Schedule::Ready)]);
    let into = if table.missed("into") { Some(Schedule::New) } else { into };
    let mut hosts: BTreeMap<GroupNo, Vec<String>> = BTreeMap::new();
    for (group, words) in table.texts("hosts") {
        let words = words.value.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty());
        match group.value.parse() {
            Ok(number) => drop(hosts.insert(GroupNo(number), words.collect())),
            Err(_) => sheet.problem(&group.span, &group.value, "the number of a group, such as 1 = \"web1,web2\""),
        }
    }
    if hosts.values().all(Vec::is_empty) {
        sheet.problem(table.span(), "no hosts", "hosts = { 1 = \"web1,web2\" }");
    }
    let mut check = |text: &Text| {
        for name in braced(&text.value).filter(|name| !known.contains(name)) {
            sheet.problem(&text.span, format!("{{{name}}}"), format!("one of {}", known.join(", ")));
        }
    };
    let mut args = Vec::new();
    for (name, text) in table.texts("args") {
        check(&text);
        args.extend(name.parse(sheet).map(|name: ParamName| (name, text.value)));
    }
    let name = table.string("name");
    name.iter().for_each(&mut check);
    Some(Wanted { template: template?.value, into: into?, hosts, args, name: name.map(|text| text.value) })
}

/// Returns the names in single braces.
fn braced(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

/// Reads a regular expression that must match the whole of a name.
fn pattern(sheet: &Sheet<'_>, text: &Text) -> Option<Regex> {
    match Regex::new(&format!(r"\A(?:{})\z", text.value)) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            sheet.problem(&text.span, &text.value, format!("a regular expression: {error}"));
            None
        }
    }
}

/// Writes a text as an expression that matches nothing else.
fn escape(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\x{{{:x}}}", u32::from(c)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
[[git]]
repository = "ops/web"
tag = 'release-[\w.-]+'
template = "git-publish"
hosts = { 1 = "web1, web2", 2 = "db1" }
args = { TAG = "{tag}", WHO = "{pusher}" }
[[git]]
repository = "ops/*"
prefix = "qa-"
template = "git-publish"
into = "ready"
hosts = { 1 = "web1" }
args = { TAG = "{tag}" }
name = "qa {tag} of {repository}"
[[zabbix]]
host = "web1"
trigger = "disk full"
template = "clean"
into = "ready"
hosts = { 1 = "web1" }
args = { WHY = "{severity}: {trigger}" }
"#;

    fn push(repository: &str, reference: &str) -> Push {
        let new = "a".repeat(40);
        Push {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            old: "0".repeat(40),
            new,
            pusher: Some("zhang".to_owned()),
            hook: "update".to_owned(),
            ..Push::default()
        }
    }

    #[test]
    fn the_first_rule_that_matches_the_whole_name_counts() {
        let hooks = Hooks::parse("hooks.toml", RULES).expect("rules");
        let of = |repository: &str, reference: &str| {
            hooks.of_push(&push(repository, reference)).map(|made| made.expect("a task").rule)
        };
        let (first, second) = (Some("hooks.toml:2 [[git]]".to_owned()), Some("hooks.toml:8 [[git]]".to_owned()));
        assert_eq!(of("ops/web", "refs/tags/release-1.0"), first);
        assert_eq!(of("ops/web.git", "refs/tags/release-1.0"), first);
        assert_eq!(of("ops/other", "refs/tags/qa-x/y z;id"), second);
        for (repository, reference) in [
            ("ops/web", "refs/tags/my-release-1"),
            ("ops/web", "refs/tags/release-1;id"),
            ("ops/web", "refs/tags/release-"),
            ("ops/web", "refs/heads/release-1"),
            ("ops/web", "refs/tags/a/release-1"),
            ("dev/web", "refs/tags/qa-1"),
            ("ops", "refs/tags/qa-1"),
        ] {
            assert_eq!(of(repository, reference), None, "{repository} {reference}");
        }
        let gone = Push { new: "0".repeat(64), ..push("ops/web", "refs/tags/release-1") };
        assert_eq!(hooks.of_push(&gone), None, "a deletion, in a SHA-256 repository");
    }

    #[test]
    fn a_push_is_one_task_whichever_hook_reports_it() {
        let hooks = Hooks::parse("hooks.toml", RULES).expect("rules");
        let seen = push("ops/web", "refs/tags/release-1");
        let made = |push: &Push| hooks.of_push(push).expect("a rule").expect("a task");
        let update = made(&seen);
        let later = made(&Push { hook: "post-receive".to_owned(), ..seen.clone() });
        assert_eq!(update, later);
        let task: serde_json::Value = serde_json::from_str(&update.text).expect("JSON");
        assert_eq!(task["args"], serde_json::json!({"TAG": "release-1", "WHO": "zhang"}));
        assert_eq!(task["hosts"], serde_json::json!({"1": ["web1", "web2"], "2": ["db1"]}));
        assert_eq!((update.into, task["task_name"].as_str()), (Schedule::New, Some("ops/web release-1")));
        let moved = Push { old: "b".repeat(40), new: "c".repeat(40), ..seen };
        let moved: serde_json::Value = serde_json::from_str(&made(&moved).text).expect("JSON");
        assert_ne!(moved["idempotency_key"], task["idempotency_key"]);
        assert!(moved["details"].as_str().expect("text").contains("moved from bbbb"));
    }

    #[test]
    fn a_rule_that_asks_for_a_commit_gets_nothing_else() {
        let rules = RULES.replace("WHO = \"{pusher}\"", "WHO = \"{commit}\"");
        let (asks, asks_not) = (Hooks::parse("h", &rules).expect("rules"), Hooks::parse("h", RULES).expect("rules"));
        let seen = push("ops/web", "refs/tags/release-1");
        let commit = Push { commit: Some("c".repeat(40)), ..seen.clone() };
        let made = asks.of_push(&commit).expect("a rule").expect("a task");
        assert!(made.text.contains(&format!("\"WHO\":\"{}\"", "c".repeat(40))), "{}", made.text);
        for (comes_to, why) in
            [(Some("tree"), "comes to a tree, not to a commit"), (None, "could not tell which commit")]
        {
            let push = Push { comes_to: comes_to.map(str::to_owned), ..seen.clone() };
            let refused = asks.of_push(&push).expect("a rule").expect_err("no commit");
            assert!(refused.found.contains(why), "{refused}");
            assert!(asks_not.of_push(&push).expect("a rule").is_ok());
        }
    }

    #[test]
    fn a_rule_says_where_its_repository_stands_and_a_name_leads_nowhere_else() {
        let rules = RULES.replace("prefix = \"qa-\"", "prefix = \"qa-\"\npath = \"/srv/git/{repository}.git\"");
        let hooks = Hooks::parse("h", &rules).expect("rules");
        let path = |repository: &str, tag: &str| hooks.path_of(&push(repository, &format!("refs/tags/{tag}")));
        assert_eq!(path("ops/web", "qa-1"), Some(PathBuf::from("/srv/git/ops/web.git")));
        assert_eq!(path("ops/web.git", "qa-1"), Some(PathBuf::from("/srv/git/ops/web.git")));
        assert_eq!(path("ops/web", "release-1"), None, "its rule does not say");
        for name in ["ops/../../etc", "ops/./x", "ops//x", "ops/.hidden"] {
            assert_eq!(path(name, "qa-1"), None, "{name}");
        }
        assert!(Hooks::parse("h", &rules.replace("/srv", "srv")).is_err());
    }

    #[test]
    fn alerts_match_exactly() {
        let hooks = Hooks::parse("hooks.toml", RULES).expect("rules");
        let alert = |host: &str, trigger: &str| Alert {
            host: host.to_owned(),
            address: "10.0.0.1".to_owned(),
            trigger: trigger.to_owned(),
            status: "PROBLEM".to_owned(),
            severity: "High".to_owned(),
        };
        let made = hooks.of_alert(&alert("web1", "disk full")).expect("a task");
        assert!(made.text.contains("\"WHY\":\"High: disk full\""), "{}", made.text);
        assert_eq!(made.into, Schedule::Ready);
        assert_eq!(hooks.of_alert(&alert("web1", "disk full!")), None);
        assert_eq!(hooks.of_alert(&alert("web10", "disk full")), None);
    }

    #[test]
    fn every_problem_of_the_file_is_found() {
        let text = "[[git]]\nrepository = \"a*b\"\ntag = \"(\"\ntemplate = \"t\"\ninto = \"done\"\nhosts = { x = \"h\" }\n\
                    args = { A = \"{nobody}\" }\nmore = 1\n[[git]]\nrepository = \"r\"\ntag = \"a\"\nprefix = \"b\"\n";
        let problems = Hooks::parse("h", text).expect_err("wrong");
        let lines: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(lines, ["h:1", "h:2", "h:3", "h:5", "h:6", "h:7", "h:8", "h:9", "h:9", "h:9"], "{problems:#?}");
    }
}
