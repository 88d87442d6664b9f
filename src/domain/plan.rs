//! Plans: every byte that will run, on which host, in which order.
//!
//! **Invariant:** pure and whole: a [`Plan`] names only hosts, scripts and steps that it holds itself. Equal
//! inputs give equal bytes, so a digest computed anywhere can be compared with one computed here.
//!
//! The canonical form is JSON with sorted keys, no white space and whole numbers only. The structs below declare
//! their fields in alphabetical order and hold sorted maps, so serialising them *is* the canonical form; a test
//! keeps that true.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, ParamName, StepName, TemplateName, UserName};
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::domain::batch::{Batching, cut};
use crate::domain::hook::Hooks;
use crate::domain::inventory::selector::select;
use crate::domain::inventory::{Connection, Host, Inventory};
use crate::domain::known_hosts::{HostKey, KnownHosts};
use crate::domain::policy::Policy;
use crate::domain::problem::{Problem, Problems};
use crate::domain::risk::Level;
use crate::domain::submission::{Hosts, Submission, TemplateRef, Work};
use crate::domain::template::bind::steers_programs;
use crate::domain::template::{Catalogue, Missed, OnFailure, ParamKind, Template, Trigger, fill};

/// Everything that a submission is resolved against.
#[derive(Clone, Debug)]
pub struct Library {
    /// The templates.
    pub catalogue: Catalogue,
    /// The hosts.
    pub inventory: Inventory,
    /// Which keys hosts answer with.
    pub known_hosts: KnownHosts,
    /// Who may do what.
    pub policy: Policy,
    /// What holds where a host or a task says nothing.
    pub defaults: Defaults,
    /// The tags of the git repositories that templates name, with the commits they point at.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    /// The zone of times without an offset.
    pub zone: crate::base::time::Zone,
    /// Which tasks pushes and alerts make.
    pub hooks: Hooks,
}

/// What holds where a host or a task says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The user to log in as.
    pub user: String,
    /// The private key file; the agent only when `None`.
    pub key: Option<String>,
    /// How many hosts a group may hold.
    pub hosts_per_group: usize,
    /// How many hosts may be in flight over all tasks.
    pub hosts_in_flight: usize,
    /// How long after its time a task counts as late, in milliseconds.
    pub late_after_ms: i64,
}

/// What will run. Immutable; named by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whether somebody must let each next batch begin.
    pub batch_gate: bool,
    /// How long to wait between two batches, in seconds.
    pub batch_interval_s: u64,
    /// The git commits that tags among the parameters point at.
    pub commits: BTreeMap<ParamName, Commit>,
    /// The environment of every step: the parameters and the task's own variables.
    pub env: BTreeMap<ParamName, String>,
    /// Not before this time.
    pub exec_time: Option<Timestamp>,
    /// The version of this form.
    pub format: u32,
    /// The groups in the order they run.
    pub groups: Vec<PlannedGroup>,
    /// The hosts by name, as the inventory described them when the plan was made.
    pub hosts: BTreeMap<HostName, PlannedHost>,
    /// What people see instead of the parameters' names.
    pub labels: BTreeMap<ParamName, String>,
    /// What becomes of it when its time passes while it cannot start.
    pub missed: Missed,
    /// Not started by this time: expired.
    pub not_after: Option<Timestamp>,
    /// How much it can break at least, as its template says.
    pub risk: Level,
    /// The scripts by digest, each once.
    pub scripts: BTreeMap<Digest, String>,
    /// What people call the task.
    pub task_name: String,
    /// The template it came from; `None` for a script of its own.
    pub template: Option<UsedTemplate>,
}

/// A git commit, and the tag that pointed at it when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The commit's id.
    pub commit: String,
    /// The repository's path.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// The template a plan came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedTemplate {
    /// The digest of its file: whatever is changed in it is another plan.
    pub file: Digest,
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: TemplateName,
}

/// A group of hosts and the steps that each of them takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedGroup {
    /// How many of the hosts are in each batch, one batch after the other.
    pub batches: Vec<u32>,
    /// The hosts, in the order the task names them.
    pub hosts: Vec<HostName>,
    /// How many of them may fail before no other begins; any number when `None`.
    pub max_fail: Option<u32>,
    /// The group's number.
    pub number: GroupNo,
    /// The steps, in the order a host takes them.
    pub steps: Vec<PlannedStep>,
}

/// One step as every host of its group takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// The account it runs as (sudo); the connection's user when `None`.
    pub account: Option<UserName>,
    /// The script's arguments, each one whole argv element.
    pub args: Vec<String>,
    /// Variables beside the plan's.
    pub env: BTreeMap<ParamName, String>,
    /// Whether it may run twice without harm, so that a lost one may be started again.
    pub idempotent: bool,
    /// How long it may print nothing, in seconds; 0 = as long as it likes.
    pub idle_timeout_s: u64,
    /// Its name, unique in the plan.
    pub name: StepName,
    /// Added to its niceness.
    pub nice: u8,
    /// What its failure means for the host's later steps.
    pub on_failure: OnFailure,
    /// How often it is started again after it failed by itself.
    pub retries: u32,
    /// How long to wait before that, in seconds.
    pub retry_delay_s: u64,
    /// Which script.
    pub script: Digest,
    /// How long it may run, in seconds; 0 = no limit.
    pub timeout_s: u64,
    /// What lets it begin.
    pub trigger: Trigger,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedHost {
    /// Name or address to connect to.
    pub address: String,
    /// Over SSH or on this machine.
    pub connection: Connection,
    /// The environment it belongs to; empty when the inventory does not say.
    pub environment: String,
    /// The keys it may answer with; with none of them it is refused.
    pub host_keys: BTreeSet<HostKey>,
    /// The hosts that the connection passes, the first one nearest to us.
    pub jump: Vec<PlannedHop>,
    /// The private key file.
    pub key: Option<String>,
    /// The port.
    pub port: u16,
    /// Its tags, and the inventory's groups that it is in.
    pub tags: BTreeSet<String>,
    /// The user to log in as.
    pub user: String,
}

/// A host that a connection passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedHop {
    /// Name or address to connect to, as seen from the hop before.
    pub address: String,
    /// The keys it may answer with; with none of them it is refused.
    pub host_keys: BTreeSet<HostKey>,
    /// The private key file.
    pub key: Option<String>,
    /// The port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
}

/// The version of the plan's form that this program writes.
pub const PLAN_FORMAT: u32 = 1;

impl Plan {
    /// Returns the canonical JSON: what is written to `plan.json` and what the digest covers.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a plan holds nothing that JSON cannot say")
    }

    /// Returns the SHA-256 digest over [`Plan::canonical`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// Returns the group of that number.
    #[must_use]
    pub fn group(&self, number: GroupNo) -> Option<&PlannedGroup> {
        self.groups.iter().find(|group| group.number == number)
    }

    /// Returns what policy knows the work as: the template's name, `script` for a script of its own.
    #[must_use]
    pub fn work_name(&self) -> &str {
        self.template.as_ref().map_or("script", |template| template.name.as_str())
    }

    /// Returns what an approver should look at twice, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let keyless: Vec<&str> = self
            .hosts
            .iter()
            .filter(|(_, host)| {
                let keyless = host.host_keys.is_empty() || host.jump.iter().any(|hop| hop.host_keys.is_empty());
                host.connection == Connection::Ssh && keyless
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let mut warnings = Vec::new();
        if let Some(first) = keyless.first() {
            warnings.push(format!(
                "{} host(s), or hosts on the way to them, have no known key and will be refused, {first} first; add their keys to known_hosts",
                keyless.len()
            ));
        }
        for (name, value) in self.env.iter().chain(self.groups.iter().flat_map(|g| &g.steps).flat_map(|s| &s.env)) {
            if value.chars().any(crate::base::text::is_hidden) {
                warnings.push(format!("parameter {name} holds hidden characters"));
            }
        }
        for script in self.scripts.values() {
            if script.chars().any(|c| !matches!(c, '\n' | '\t' | '\r') && crate::base::text::is_hidden(c)) {
                warnings.push("a script holds hidden characters".to_owned());
            }
        }
        warnings
    }

    /// Returns a plan with nothing in it.
    #[cfg(test)]
    pub(crate) fn empty_for_tests() -> Plan {
        Plan {
            batch_gate: false,
            batch_interval_s: 0,
            commits: BTreeMap::new(),
            env: BTreeMap::new(),
            exec_time: None,
            format: PLAN_FORMAT,
            groups: Vec::new(),
            hosts: BTreeMap::new(),
            labels: BTreeMap::new(),
            missed: Missed::Hold,
            not_after: None,
            risk: Level::Low,
            scripts: BTreeMap::new(),
            task_name: "empty".to_owned(),
            template: None,
        }
    }
}

#[cfg(test)]
impl PlannedGroup {
    /// Returns a group with one step of this script.
    pub(crate) fn one_step_for_tests(script: &str) -> PlannedGroup {
        let step = PlannedStep {
            account: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            idempotent: false,
            idle_timeout_s: 0,
            name: "a".parse().expect("a name"),
            nice: 0,
            on_failure: OnFailure::Stop,
            retries: 0,
            retry_delay_s: 0,
            script: Digest::of(script.as_bytes()),
            timeout_s: 0,
            trigger: Trigger::Auto,
        };
        PlannedGroup { batches: Vec::new(), hosts: Vec::new(), max_fail: None, number: GroupNo(1), steps: vec![step] }
    }
}

#[cfg(test)]
impl PlannedHost {
    /// Returns a host of this machine.
    pub(crate) fn local_for_tests() -> PlannedHost {
        PlannedHost {
            address: "127.0.0.1".to_owned(),
            connection: Connection::Local,
            environment: String::new(),
            host_keys: BTreeSet::new(),
            jump: Vec::new(),
            key: None,
            port: 22,
            tags: BTreeSet::new(),
            user: "me".to_owned(),
        }
    }
}

/// Resolves a submission to the plan that would run.
///
/// # Errors
/// Every problem at once: unknown template or host, parameters that do not fit, groups that do not match.
pub fn resolve(submission: &Submission, library: &Library) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let work = match &submission.work {
        Work::Template { template, params } => from_template(template, params, submission, library, &mut problems),
        Work::Script { script, args, account } => Some(from_script(script, args, account.as_ref(), submission)),
    };
    for name in submission.env.keys().filter(|name| steers_programs(name)) {
        let wanted = "a variable that steers no program: not PATH, LD_*, SPOOLGATE_* and their like";
        problems.push(Problem::new(format!("/env/{name}"), name.as_str(), wanted));
    }
    let hosts = resolve_hosts(submission, library, &mut problems);
    let (Some(work), true) = (work, problems.is_empty()) else { return Err(Problems::from_iter(problems).into_vec()) };
    let groups = assemble_groups(work.steps, &hosts.groups, &submission.batching, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut env = work.env;
    env.extend(submission.env.clone());
    Ok(Plan {
        batch_gate: submission.batching.gate,
        batch_interval_s: submission.batching.interval_s,
        commits: work.commits,
        env,
        exec_time: submission.exec_time,
        format: PLAN_FORMAT,
        groups,
        hosts: hosts.planned,
        labels: work.labels,
        missed: work.missed,
        not_after: submission.not_after,
        risk: work.risk,
        scripts: work.scripts,
        task_name: submission.task_name.clone(),
        template: work.template,
    })
}

/// The half of a plan that says what runs.
struct ResolvedWork {
    commits: BTreeMap<ParamName, Commit>,
    env: BTreeMap<ParamName, String>,
    labels: BTreeMap<ParamName, String>,
    missed: Missed,
    risk: Level,
    scripts: BTreeMap<Digest, String>,
    steps: BTreeMap<GroupNo, Vec<PlannedStep>>,
    template: Option<UsedTemplate>,
}

fn from_template(
    wanted: &TemplateRef,
    params: &BTreeMap<ParamName, String>,
    submission: &Submission,
    library: &Library,
    problems: &mut Vec<Problem>,
) -> Option<ResolvedWork> {
    let Some(template) = library.catalogue.find(wanted) else {
        let found = match wanted {
            TemplateRef::Id(id) => id.to_string(),
            TemplateRef::Name(name) => name.to_string(),
        };
        problems.push(Problem::new("/temp_id", found, "a template of the catalogue; try: spoolgate templates"));
        return None;
    };
    let mut values = match template.bind(params) {
        Ok(values) => values,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    let commits = pin_tags(template, &values, library, problems);
    for (name, pinned) in &commits {
        // A script that asks for the tag may be given another commit a moment later; this one stays.
        values.extend(format!("{name}_COMMIT").parse().ok().map(|name: ParamName| (name, pinned.commit.clone())));
    }
    let mut scripts = BTreeMap::new();
    let mut steps: BTreeMap<GroupNo, Vec<(u32, PlannedStep)>> = BTreeMap::new();
    for step in &template.steps {
        let script = Digest::of(step.script.as_bytes());
        scripts.entry(script).or_insert_with(|| step.script.clone());
        let planned = PlannedStep {
            account: step.account.clone(),
            args: step.args.iter().map(|arg| fill(arg, &values)).collect(),
            env: step.env.iter().map(|(name, value)| (name.clone(), fill(value, &values))).collect(),
            idempotent: step.idempotent,
            idle_timeout_s: step.idle_timeout_s,
            name: step.name.clone(),
            nice: step.nice,
            on_failure: step.on_failure,
            retries: step.retries,
            retry_delay_s: step.retry_delay_s,
            script,
            timeout_s: shorter_limit(step.timeout_s, submission.timeout_s),
            trigger: step.trigger,
        };
        steps.entry(step.group).or_default().push((step.level, planned));
    }
    let steps = steps
        .into_iter()
        .map(|(group, mut steps)| {
            steps.sort_by_key(|(level, _)| *level);
            (group, steps.into_iter().map(|(_, step)| step).collect())
        })
        .collect();
    let labels = labels(template);
    let used = UsedTemplate { file: template.file, id: template.id, name: template.name.clone() };
    let (missed, risk) = (template.missed, template.risk);
    Some(ResolvedWork { commits, env: values, labels, missed, risk, scripts, steps, template: Some(used) })
}

/// Looks up the commits that tags among the values point at.
fn pin_tags(
    template: &Template,
    values: &BTreeMap<ParamName, String>,
    library: &Library,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ParamName, Commit> {
    let mut commits = BTreeMap::new();
    for param in &template.params {
        let (ParamKind::Tag(repository), Some(tag)) = (&param.kind, values.get(&param.name)) else { continue };
        if let Some(commit) = library.tags.get(repository).and_then(|tags| tags.get(tag)) {
            let (commit, repository, tag) = (commit.clone(), repository.clone(), tag.clone());
            commits.insert(param.name.clone(), Commit { commit, repository, tag });
        } else {
            let wanted = format!("a tag of {repository} that points at a commit");
            problems.push(Problem::new(format!("/args/{}", param.name), tag.as_str(), wanted));
        }
    }
    commits
}

fn labels(template: &Template) -> BTreeMap<ParamName, String> {
    template
        .params
        .iter()
        .filter(|param| param.label != param.name.as_str())
        .map(|param| (param.name.clone(), param.label.clone()))
        .collect()
}

/// Returns the shorter of two limits, of which 0 means none.
fn shorter_limit(template_s: u64, task_s: Option<u64>) -> u64 {
    match (template_s, task_s.unwrap_or(0)) {
        (0, limit) | (limit, 0) => limit,
        (a, b) => a.min(b),
    }
}

fn from_script(script: &str, args: &[String], account: Option<&UserName>, submission: &Submission) -> ResolvedWork {
    let digest = Digest::of(script.as_bytes());
    let step = PlannedStep {
        account: account.cloned(),
        args: args.to_vec(),
        env: BTreeMap::new(),
        idempotent: false,
        idle_timeout_s: 0,
        name: "script".parse().expect("a step name"),
        nice: 0,
        on_failure: OnFailure::Stop,
        retries: 0,
        retry_delay_s: 0,
        script: digest,
        timeout_s: submission.timeout_s.unwrap_or(limits::STEP_TIMEOUT_S),
        trigger: Trigger::Auto,
    };
    ResolvedWork {
        commits: BTreeMap::new(),
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        missed: Missed::default(),
        risk: Level::Low,
        scripts: BTreeMap::from([(digest, script.to_owned())]),
        // A script of its own runs on every group the task names.
        steps: submission.hosts.keys().map(|group| (*group, vec![named_for_group(&step, *group)])).collect(),
        template: None,
    }
}

/// Step names are unique in a plan, so the same script in a later group has the group in its name.
fn named_for_group(step: &PlannedStep, group: GroupNo) -> PlannedStep {
    let mut step = step.clone();
    if group != GroupNo(1) {
        step.name = format!("{}-{group}", step.name).parse().expect("a step name with a number stays one");
    }
    step
}

/// The half of a plan that says where.
struct ResolvedHosts {
    planned: BTreeMap<HostName, PlannedHost>,
    groups: BTreeMap<GroupNo, Vec<HostName>>,
}

fn resolve_hosts(submission: &Submission, library: &Library, problems: &mut Vec<Problem>) -> ResolvedHosts {
    let mut resolved = ResolvedHosts { planned: BTreeMap::new(), groups: BTreeMap::new() };
    for (group, wished) in &submission.hosts {
        let words = match wished {
            Hosts::Named(words) => words.clone(),
            Hosts::Chosen(selector) => match select(&library.inventory, selector) {
                Ok(names) if !names.is_empty() => names,
                Ok(_) => {
                    let wanted = "a selector that leaves at least one host";
                    problems.push(Problem::new(format!("/hosts/{group}"), selector, wanted));
                    continue;
                }
                Err(found) => {
                    problems
                        .extend(found.into_iter().map(|why| Problem::new(format!("/hosts/{group}"), selector, why)));
                    continue;
                }
            },
        };
        let most = library.defaults.hosts_per_group;
        if words.len() > most {
            let found = format!("{} hosts", words.len());
            problems.push(Problem::new(format!("/hosts/{group}"), found, format!("at most {most} hosts in a group")));
            continue;
        }
        let mut seen = BTreeSet::new();
        let names = resolved.groups.entry(*group).or_default();
        for word in &words {
            match library.inventory.find(word) {
                Ok(host) => {
                    if !seen.insert(host.name.clone()) {
                        let wanted = format!("each host once; {} is in this group already", host.name);
                        problems.push(Problem::new(format!("/hosts/{group}"), word.as_str(), wanted));
                    }
                    names.push(host.name.clone());
                    resolved.planned.entry(host.name.clone()).or_insert_with(|| planned_host(host, library));
                }
                Err(problem) => problems.push(Problem { pointer: format!("/hosts/{group}"), ..problem }),
            }
        }
    }
    resolved
}

fn planned_host(host: &Host, library: &Library) -> PlannedHost {
    PlannedHost {
        address: host.address.clone(),
        connection: host.connection,
        environment: host.environment().to_owned(),
        host_keys: match host.connection {
            Connection::Ssh => library.known_hosts.keys_for(&host.address, host.port).into_iter().collect(),
            Connection::Local => BTreeSet::new(),
        },
        jump: if host.connection == Connection::Ssh { hops(host, library, HOPS_MAX) } else { Vec::new() },
        key: host.key.clone().or_else(|| library.defaults.key.clone()),
        port: host.port,
        tags: library.inventory.tags(host),
        user: host.user.clone().unwrap_or_else(|| library.defaults.user.clone()),
    }
}

/// How many hosts a connection passes at most; hosts that lead to each other end here.
const HOPS_MAX: usize = 8;

/// Returns the way to a host: before each of its hops the hops that lead there.
fn hops(host: &Host, library: &Library, most: usize) -> Vec<PlannedHop> {
    let mut way: Vec<PlannedHop> = Vec::new();
    for jump in &host.jump {
        let known = jump.host.parse().ok().and_then(|word| library.inventory.find(&word).ok());
        if let Some(known) = known.filter(|known| way.is_empty() && most > 1 && known.name != host.name) {
            way.extend(hops(known, library, most - 1));
        }
        let address = known.map_or(&jump.host, |known| &known.address).clone();
        let port = jump.port.or(known.map(|known| known.port)).unwrap_or(22);
        let user = jump.user.clone().or_else(|| known.and_then(|known| known.user.clone()));
        let key = known.and_then(|known| known.key.clone());
        way.push(PlannedHop {
            host_keys: library.known_hosts.keys_for(&address, port).into_iter().collect(),
            address,
            key: key.or_else(|| library.defaults.key.clone()),
            port,
            user: user.unwrap_or_else(|| library.defaults.user.clone()),
        });
    }
    way.truncate(HOPS_MAX);
    way
}

/// Pairs each group's steps with its hosts; a group with only one of the two is a problem, never dropped.
fn assemble_groups(
    mut steps: BTreeMap<GroupNo, Vec<PlannedStep>>,
    hosts: &BTreeMap<GroupNo, Vec<HostName>>,
    batching: &Batching,
    problems: &mut Vec<Problem>,
) -> Vec<PlannedGroup> {
    let wanted = steps.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut groups = Vec::new();
    for (number, hosts) in hosts {
        match steps.remove(number) {
            Some(steps) => groups.push(PlannedGroup {
                batches: cut(&batching.shares, hosts.len()),
                hosts: hosts.clone(),
                max_fail: batching.max_fail.map(|share| share.of_failures(hosts.len())),
                number: *number,
                steps,
            }),
            None => problems.push(Problem::new(
                format!("/hosts/{number}"),
                format!("group {number}"),
                format!("a group that the template has steps for: {wanted}"),
            )),
        }
    }
    for number in steps.keys() {
        problems.push(Problem::new("/hosts", format!("no group {number}"), format!("hosts for group {number}")));
    }
    groups
}
