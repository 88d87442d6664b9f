//! Plans: every byte that will run, on which host, in which order.
//!
//! **Invariant:** pure and whole: a [`Plan`] names only hosts, scripts and steps that it holds itself. Equal
//! inputs give equal bytes, so a digest computed anywhere can be compared with one computed here.
//!
//! The canonical form is JSON with sorted keys, no white space and whole numbers only. The structs below declare
//! their fields in alphabetical order and hold sorted maps, so serialising them *is* the canonical form; a test
//! keeps that true.

pub mod diff;
pub(in crate::domain) mod sizes;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, ParamName, SecretName, StepName, TemplateName, UserName};
use crate::base::time::Timestamp;
use crate::domain::condition::{Facts, Typed};
use crate::domain::delegate::Delegate;
use crate::domain::file_step::{PlannedFetch, PlannedFile, Texts};
use crate::domain::inventory::host::Connection;
use crate::domain::known_hosts::HostKey;
use crate::domain::level::Level;
use crate::domain::outcome::Outcome;
use crate::domain::template::{Missed, OnFailure, Trigger};

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
    /// What variables for ported scripts begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_prefix: Option<ParamName>,
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
    /// Variables of every step whose values are secrets, by the secrets' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ParamName, SecretName>,
    /// What people call the task.
    pub task_name: String,
    /// The template it came from; `None` for a script of its own.
    pub template: Option<UsedTemplate>,
    /// What templates of files became, by digest, each once.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    pub texts: Texts,
    /// Which parameters are no texts, for conditions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub typed: BTreeMap<ParamName, Typed>,
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
    /// How many hosts of each batch may fail before no other begins; any number when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch_max_fail: Vec<u32>,
    /// How many of the hosts are in each batch, one batch after the other.
    pub batches: Vec<u32>,
    /// The hosts, in the order the task names them.
    pub hosts: Vec<HostName>,
    /// How many of them may fail before no other begins; any number when `None`.
    pub max_fail: Option<u32>,
    /// The group's number.
    pub number: GroupNo,
    /// The steps, in the order a host takes them; behind them their handlers, then their rollbacks.
    pub steps: Vec<PlannedStep>,
    /// Hosts that the steps are about, where they run on a proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<HostName>,
}

/// One step as every host of its group takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// The account it runs as (sudo); the connection's user when `None`.
    pub account: Option<UserName>,
    /// The script's arguments, each one whole argv element.
    pub args: Vec<String>,
    /// How much of a processor it may use, in percent of one; 0 = no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cpu_percent: u32,
    /// The engine that its script hands the group's targets to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Delegate>,
    /// Variables beside the plan's.
    pub env: BTreeMap<ParamName, String>,
    /// What it fetches from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<PlannedFetch>,
    /// The files that it puts on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
    /// Whether `FLOW_ID` in the arguments stands for the task's number.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flow_id: bool,
    /// Whether it may run twice without harm, so that a lost one may be started again.
    pub idempotent: bool,
    /// How long it may print nothing, in seconds; 0 = as long as it likes.
    pub idle_timeout_s: u64,
    /// How much memory it may use, in MiB; 0 = no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_mib: u32,
    /// Its name, unique in the plan.
    pub name: StepName,
    /// Added to its niceness.
    pub nice: u8,
    /// The hosts that do not take it, because its condition says so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub not_on: BTreeSet<HostName>,
    /// What its failure means for the host's later steps.
    pub on_failure: OnFailure,
    /// Whether it is one of the host's steps, or only taken when one of them failed.
    #[serde(default, skip_serializing_if = "Part::is_step")]
    pub part: Part,
    /// How often it is started again after it failed by itself.
    pub retries: u32,
    /// How long to wait before that, in seconds.
    pub retry_delay_s: u64,
    /// Which script.
    pub script: Digest,
    /// Variables beside the plan's whose values are secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ParamName, SecretName>,
    /// How long it may run, in seconds; 0 = no limit.
    pub timeout_s: u64,
    /// What lets it begin.
    pub trigger: Trigger,
    /// Whether a host takes it. What can be answered before is in `not_on` already; the rest is asked when its turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// What a planned step is to the host that takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// One of the host's steps.
    #[default]
    Step,
    /// Taken when this step failed. It never makes the failure good.
    Handler(StepName),
    /// Undoes a step.
    Rollback {
        /// The step.
        of: StepName,
        /// Whether also when that step itself failed.
        partial: bool,
    },
}

impl PlannedStep {
    /// Returns what systemd on the host holds it to, for people.
    pub fn limits(&self) -> impl Iterator<Item = String> {
        let cpu = (self.cpu_percent > 0).then(|| format!("{} % of a processor", self.cpu_percent));
        let memory = (self.memory_mib > 0).then(|| format!("{} MiB of memory", self.memory_mib));
        cpu.into_iter().chain(memory)
    }
}

impl Part {
    /// Whether it is one of the host's steps.
    #[must_use]
    pub fn is_step(&self) -> bool {
        *self == Part::Step
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_one(value: &u32) -> bool {
    *value == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedHost {
    /// Name or address to connect to.
    pub address: String,
    /// The certificate of the key, if not `KEY-cert.pub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Over SSH or on this machine.
    pub connection: Connection,
    /// Variables that the inventory has for scripts on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<ParamName, String>,
    /// The environment it belongs to; empty when the inventory does not say.
    pub environment: String,
    /// The keys it may answer with; with none of them it is refused.
    pub host_keys: BTreeSet<HostKey>,
    /// How many tasks may run on it at once.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub jobs: u32,
    /// The hosts that the connection passes, the first one nearest to us.
    pub jump: Vec<PlannedHop>,
    /// The private key file.
    pub key: Option<String>,
    /// The secret that is the key file's passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_passphrase: Option<SecretName>,
    /// The port.
    pub port: u16,
    /// The command on the daemon's machine that the connection goes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_command: Option<String>,
    /// Its tags, and the inventory's groups that it is in.
    pub tags: BTreeSet<String>,
    /// The user to log in as.
    pub user: String,
    /// Its variables that conditions may ask for while the task runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
}

impl PlannedHost {
    /// Returns what conditions may ask about the host, with these variables and results.
    #[must_use]
    pub fn facts<'a>(
        &'a self,
        name: &'a HostName,
        (params, typed): (&'a BTreeMap<ParamName, String>, &'a BTreeMap<ParamName, Typed>),
        vars: &'a BTreeMap<String, String>,
        steps: Vec<(&'a str, Outcome, Option<i32>)>,
    ) -> Facts<'a> {
        Facts {
            params,
            typed,
            name: name.as_str(),
            address: &self.address,
            environment: &self.environment,
            tags: &self.tags,
            vars,
            steps,
        }
    }
}

/// A host that a connection passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedHop {
    /// Name or address to connect to, as seen from the hop before.
    pub address: String,
    /// The certificate of the key, if not `KEY-cert.pub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The keys it may answer with; with none of them it is refused.
    pub host_keys: BTreeSet<HostKey>,
    /// The private key file.
    pub key: Option<String>,
    /// The secret that is the key file's passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_passphrase: Option<SecretName>,
    /// The port.
    pub port: u16,
    /// The command on the daemon's machine that the connection goes through; only the first hop has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_command: Option<String>,
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

    /// Returns how many tasks may run on a host at once.
    #[must_use]
    pub fn jobs_on(&self, host: &HostName) -> u32 {
        self.hosts.get(host).map_or(1, |host| host.jobs)
    }

    /// Returns the names of all secrets that its steps get.
    pub fn secret_names(&self) -> impl Iterator<Item = &SecretName> {
        let steps = self.groups.iter().flat_map(|group| &group.steps);
        self.secrets.values().chain(steps.flat_map(|step| step.secrets.values()))
    }

    /// Returns what policy knows the work as: the template's name, `script` for a script of its own.
    #[must_use]
    pub fn work_name(&self) -> &str {
        self.template.as_ref().map_or("script", |template| template.name.as_str())
    }

    /// Returns a plan with nothing in it.
    #[cfg(test)]
    pub(crate) fn empty_for_tests() -> Plan {
        Plan {
            batch_gate: false,
            batch_interval_s: 0,
            commits: BTreeMap::new(),
            env: BTreeMap::new(),
            env_prefix: None,
            exec_time: None,
            format: PLAN_FORMAT,
            groups: Vec::new(),
            hosts: BTreeMap::new(),
            labels: BTreeMap::new(),
            missed: Missed::Hold,
            not_after: None,
            risk: Level::Low,
            scripts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            task_name: "empty".to_owned(),
            template: None,
            texts: Texts::new(),
            typed: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
impl PlannedGroup {
    /// Returns a group with one step of this script.
    pub(crate) fn one_step_for_tests(script: &str) -> PlannedGroup {
        let step = PlannedStep::plain("a".parse().expect("a name"), Digest::of(script.as_bytes()));
        PlannedGroup {
            batch_max_fail: Vec::new(),
            batches: Vec::new(),
            hosts: Vec::new(),
            max_fail: None,
            number: GroupNo(1),
            steps: vec![step],
            targets: Vec::new(),
        }
    }
}

impl PlannedStep {
    /// Returns a step that runs a script without arguments, limits or conditions.
    #[must_use]
    pub fn plain(name: StepName, script: Digest) -> PlannedStep {
        PlannedStep {
            account: None,
            args: Vec::new(),
            cpu_percent: 0,
            engine: None,
            env: BTreeMap::new(),
            fetch: None,
            files: Vec::new(),
            flow_id: false,
            idempotent: false,
            idle_timeout_s: 0,
            memory_mib: 0,
            name,
            nice: 0,
            not_on: BTreeSet::new(),
            on_failure: OnFailure::Stop,
            part: Part::Step,
            retries: 0,
            retry_delay_s: 0,
            script,
            secrets: BTreeMap::new(),
            timeout_s: 0,
            trigger: Trigger::Auto,
            when: None,
        }
    }
}

#[cfg(test)]
impl PlannedHost {
    /// Returns a host of this machine.
    pub(crate) fn local_for_tests() -> PlannedHost {
        PlannedHost {
            address: "127.0.0.1".to_owned(),
            certificate: None,
            connection: Connection::Local,
            jobs: 1,
            env: BTreeMap::new(),
            environment: String::new(),
            host_keys: BTreeSet::new(),
            jump: Vec::new(),
            key: None,
            key_passphrase: None,
            port: 22,
            proxy_command: None,
            tags: BTreeSet::new(),
            user: "me".to_owned(),
            vars: BTreeMap::new(),
        }
    }
}
