//! Makes a plan of a wish. Floor 1.
//!
//! **Invariant:** pure, and either whole or every problem at once. What a template, the inventory and a task say is looked
//! at here and nowhere later; the plan holds all of it.

mod engine_script;
mod files;
mod find_hosts;
mod host_env;
mod reach;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, ParamName, SecretName, StepName, UserName};
use crate::base::limits;
use crate::domain::batch::{Batching, Share, cut};
use crate::domain::condition::{Condition, Typed};
use crate::domain::delegate::Delegate;
use crate::domain::level::Level;
use crate::domain::library::Library;
use crate::domain::plan::{
    Commit, PLAN_FORMAT, Part, Plan, PlannedGroup, PlannedHost, PlannedStep, UsedTemplate, sizes,
};
use crate::domain::problem::{Problem, Problems};
use crate::domain::script_text::flaw;
use crate::domain::submission::{Hosts, Submission, TemplateRef, Work};
use crate::domain::template::bind::{secret_name, steers_programs};
use crate::domain::template::{Args, Missed, ParamKind, Step, StepWork, Template, fill, tokens};

use engine_script::{ansible_script, is_engines_own, salt_script};
use files::{FilePlanner, Sources, fill_in};
use find_hosts::HostFinder;
pub use find_hosts::unasked;

/// Resolves a submission to the plan that would run.
///
/// # Errors
/// Every problem at once: unknown template or host, parameters that do not fit, groups that do not match.
pub fn resolve(submission: &Submission, library: &Library) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let template = match &submission.work {
        Work::Template { template, .. } => find_template(template, library, &mut problems),
        Work::Script { .. } => None,
    };
    let work = match (&submission.work, template) {
        (Work::Template { params, .. }, Some(template)) => {
            from_template(template, params, submission, library, &mut problems)
        }
        (Work::Template { .. }, None) => None,
        (Work::Script { script, args, account }, _) => Some(from_script(script, args, account.as_ref(), submission)),
    };
    check_env(submission, work.as_ref(), &mut problems);
    check_task(submission, &mut problems);
    let prefix = template.and_then(|template| template.env_prefix.as_ref());
    let mut hosts = HostFinder::new(library, prefix);
    let groups = hosts.groups(submission, template.map(|template| &template.groups), &mut problems);
    let proxy = submission.proxy.as_ref().and_then(|word| hosts.find(word, "/proxy", &mut problems));
    if let Some((group, _)) =
        template.and_then(|template| template.groups.first_key_value()).filter(|_| proxy.is_some())
    {
        let wanted = "no proxy: the template says where its groups run";
        problems.push(Problem::new("/proxy", format!("a proxy for group {group}"), wanted));
    }
    check_groups(submission, template, work.as_ref(), &mut problems);
    let (Some(mut work), true) = (work, problems.is_empty()) else {
        return Err(Problems::from_iter(problems).into_vec());
    };
    if let Some(proxy) = &proxy {
        work.env.extend(server_lists(&groups, &hosts.planned, &mut problems));
        if submission.batching != Batching::default() {
            problems.push(Problem::new("/batches", "batches beside a proxy", "no batches: one host runs it"));
        }
        hosts.find(proxy, "/proxy", &mut problems);
    }
    let mut groups = assemble_groups(work.steps, &groups, proxy.as_ref(), &submission.batching);
    // What an engine reads as its variables is what the template declares, and nothing that a task adds.
    hand_over(&mut groups, &hosts.planned, &work.env, &mut work.scripts, &mut problems);
    let mut env = work.env;
    env.extend(submission.env.clone());
    let all_typed = template.map(typed_params).unwrap_or_default();
    settle_conditions(&mut groups, &mut hosts, (&env, &all_typed), &work.conditions, &mut problems);
    let texts = fill_in(&mut groups, &hosts, (&env, &all_typed), &work.sources, &mut problems);
    let typed = if work.conditions.is_empty() { BTreeMap::new() } else { all_typed };
    if !problems.is_empty() {
        return Err(Problems::from_iter(problems).into_vec());
    }
    let plan = Plan {
        batch_gate: submission.batching.gate,
        batch_interval_s: submission.batching.interval_s,
        commits: work.commits,
        env,
        env_prefix: prefix.cloned(),
        exec_time: submission.exec_time,
        format: PLAN_FORMAT,
        groups,
        hosts: hosts.planned,
        labels: work.labels,
        missed: work.missed,
        not_after: submission.not_after,
        risk: work.risk,
        scripts: work.scripts,
        secrets: work.secrets,
        task_name: submission.task_name.clone(),
        template: work.template,
        texts,
        typed,
    };
    sizes::check(&plan, submission).map(|()| plan)
}

/// Checks the variables that a task adds: they take the place of nothing that was checked or that we say ourselves.
fn check_env(submission: &Submission, work: Option<&ResolvedWork>, problems: &mut Vec<Problem>) {
    let taken = |name: &ParamName| {
        let work = work.is_some_and(|work| work.env.contains_key(name) || work.secrets.contains_key(name));
        work || matches!(name.as_str(), SERVER_IP | SERVER_HOST)
    };
    for (name, value) in &submission.env {
        if steers_programs(name) {
            let wanted = "a variable that steers no program: not PATH, LD_*, SPOOLGATE_* and their like";
            problems.push(Problem::new(format!("/env/{name}"), name.as_str(), wanted));
        } else if secret_name(value).is_some() {
            let wanted = "no secret: a template says which steps get which secrets";
            problems.push(Problem::new(format!("/env/{name}"), "the name of a secret", wanted));
        } else if taken(name) {
            let wanted = "another name: it is a parameter, or says which hosts a proxy is about";
            problems.push(Problem::new(format!("/env/{name}"), name.as_str(), wanted));
        }
    }
}

/// The variables of a proxy's script: the addresses and the names of the hosts that it is about.
const SERVER_IP: &str = "SERVER_IP";
const SERVER_HOST: &str = "SERVER_HOST";

fn find_template<'a>(wanted: &TemplateRef, library: &'a Library, problems: &mut Vec<Problem>) -> Option<&'a Template> {
    let template = library.catalogue.find(wanted);
    if template.is_none() {
        let found = match wanted {
            TemplateRef::Id(id) => id.to_string(),
            TemplateRef::Name(name) => name.to_string(),
        };
        problems.push(Problem::new("/temp_id", found, "a template of the catalogue; try: spoolgate template ls"));
    }
    template
}

/// The half of a plan that says what runs.
struct ResolvedWork {
    commits: BTreeMap<ParamName, Commit>,
    conditions: BTreeMap<(GroupNo, usize), Condition>,
    env: BTreeMap<ParamName, String>,
    labels: BTreeMap<ParamName, String>,
    missed: Missed,
    risk: Level,
    scripts: BTreeMap<Digest, String>,
    secrets: BTreeMap<ParamName, SecretName>,
    sources: BTreeMap<StepName, Sources>,
    steps: BTreeMap<GroupNo, Vec<PlannedStep>>,
    template: Option<UsedTemplate>,
}

fn from_template(
    template: &Template,
    params: &BTreeMap<ParamName, String>,
    submission: &Submission,
    library: &Library,
    problems: &mut Vec<Problem>,
) -> Option<ResolvedWork> {
    let bound = match template.bind(params) {
        Ok(bound) => bound,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    let mut values = bound.values;
    let commits = pin_tags(template, &values, library, problems);
    for (name, pinned) in &commits {
        // A script that asks for the tag may be given another commit a moment later; this one stays.
        values.extend(format!("{name}_COMMIT").parse().ok().map(|name: ParamName| (name, pinned.commit.clone())));
    }
    let mut scripts = BTreeMap::new();
    let mut grouped: BTreeMap<GroupNo, Vec<&Step>> = BTreeMap::new();
    for step in &template.steps {
        grouped.entry(step.group).or_default().push(step);
        for work in step.works() {
            scripts.entry(Digest::of(work.script.as_bytes())).or_insert_with(|| work.script.clone());
        }
    }
    let (mut steps, mut conditions) = (BTreeMap::new(), BTreeMap::new());
    let mut planner = FilePlanner {
        params: &template.params,
        values: &values,
        files: &*library.files,
        sources: BTreeMap::new(),
        problems,
    };
    for (group, mut of_group) in grouped {
        of_group.sort_by_key(|step| step.level);
        for (n, step) in of_group.iter().enumerate() {
            conditions.extend(step.when.clone().map(|when| ((group, n), when)));
        }
        steps.insert(group, planned_steps(&of_group, &values, submission.timeout_s, &mut planner));
    }
    let sources = planner.sources;
    let labels = labels(template);
    let used = UsedTemplate { file: template.file, id: template.id, name: template.name.clone() };
    let (missed, risk) = (template.missed, template.risk);
    Some(ResolvedWork {
        commits,
        conditions,
        env: values,
        labels,
        missed,
        risk,
        scripts,
        secrets: bound.secrets,
        sources,
        steps,
        template: Some(used),
    })
}

/// Lays out a group's steps in the order of their levels; behind them their handlers, and then what undoes them, the last one
/// first: the order in which it would be taken.
fn planned_steps(
    steps: &[&Step],
    values: &BTreeMap<ParamName, String>,
    task_timeout_s: Option<u64>,
    files: &mut FilePlanner<'_>,
) -> Vec<PlannedStep> {
    let mut planned = |work: &StepWork, plain| {
        let step = planned_work(work, plain, values, task_timeout_s);
        match &work.files {
            Some(carried) => files.plan(carried, step),
            None => step,
        }
    };
    let mut all = Vec::new();
    for step in steps {
        all.push(PlannedStep {
            on_failure: step.on_failure,
            trigger: step.trigger,
            when: step.when.as_ref().map(|when| when.text().to_owned()),
            ..planned(&step.work, PlannedStep::plain(step.name.clone(), Digest::of(b"")))
        });
    }
    for (step, work) in steps.iter().filter_map(|step| Some((step, step.handler.as_ref()?))) {
        let part = Part::Handler(step.name.clone());
        all.push(planned(work, PlannedStep { part, ..PlannedStep::plain(step.handler_name(), Digest::of(b"")) }));
    }
    for (step, rollback) in steps.iter().rev().filter_map(|step| Some((step, step.rollback.as_ref()?))) {
        let part = Part::Rollback { of: step.name.clone(), partial: rollback.partial };
        let plain = PlannedStep { part, ..PlannedStep::plain(step.rollback_name(), Digest::of(b"")) };
        all.push(planned(&rollback.work, plain));
    }
    all
}

fn planned_work(
    work: &StepWork,
    plain: PlannedStep,
    values: &BTreeMap<ParamName, String>,
    task_timeout_s: Option<u64>,
) -> PlannedStep {
    let (args, flow_id) = match &work.args {
        Args::List(list) => (list.iter().map(|arg| fill(arg, values)).collect(), false),
        Args::Tokens(text) => {
            let args = tokens::substitute(text, values);
            let flow_id = args.iter().any(|arg| arg.contains(tokens::FLOW_ID));
            (args, flow_id)
        }
    };
    PlannedStep {
        account: work.account.clone(),
        args,
        cpu_percent: work.cpu_percent,
        engine: work.engine,
        env: work.env.iter().map(|(name, value)| (name.clone(), fill(value, values))).collect(),
        flow_id,
        idempotent: work.idempotent,
        idle_timeout_s: work.idle_timeout_s,
        memory_mib: work.memory_mib,
        nice: work.nice,
        retries: work.retries,
        retry_delay_s: work.retry_delay_s,
        script: Digest::of(work.script.as_bytes()),
        secrets: work.secrets.clone(),
        timeout_s: shorter_limit(work.timeout_s, task_timeout_s),
        ..plain
    }
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
        timeout_s: submission.timeout_s.unwrap_or(limits::STEP_TIMEOUT_S),
        ..PlannedStep::plain("script".parse().expect("a step name"), digest)
    };
    ResolvedWork {
        commits: BTreeMap::new(),
        conditions: BTreeMap::new(),
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        missed: Missed::default(),
        risk: Level::Low,
        scripts: BTreeMap::from([(digest, script.to_owned())]),
        secrets: BTreeMap::new(),
        sources: BTreeMap::new(),
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

/// Returns the lists that a proxy's script gets: the addresses and the names of the hosts that it is about, in one order.
fn server_lists(
    groups: &BTreeMap<GroupNo, Vec<HostName>>,
    planned: &BTreeMap<HostName, PlannedHost>,
    problems: &mut Vec<Problem>,
) -> Vec<(ParamName, String)> {
    let mut lists = groups.values();
    let (Some(hosts), None) = (lists.next(), lists.next()) else {
        problems.push(Problem::new("/hosts", format!("{} groups", groups.len()), "one group of hosts beside a proxy"));
        return Vec::new();
    };
    let joined = |part: &dyn Fn(&HostName) -> String| hosts.iter().map(part).collect::<Vec<_>>().join(",");
    let addresses = joined(&|host| planned.get(host).map(|host| host.address.clone()).unwrap_or_default());
    let name = |name: &str| name.parse().expect("a name of a variable");
    vec![(name(SERVER_IP), addresses), (name(SERVER_HOST), joined(&ToString::to_string))]
}

/// Writes the scripts of steps that another engine carries out, now that their targets are known.
fn hand_over(
    groups: &mut [PlannedGroup],
    planned: &BTreeMap<HostName, PlannedHost>,
    env: &BTreeMap<ParamName, String>,
    scripts: &mut BTreeMap<Digest, String>,
    problems: &mut Vec<Problem>,
) {
    for group in groups.iter_mut() {
        let targets: Vec<(&HostName, &PlannedHost)> =
            group.targets.iter().filter_map(|name| Some((name, planned.get(name)?))).collect();
        for step in group.steps.iter_mut().filter(|step| step.engine.is_some()) {
            if targets.is_empty() {
                let wanted = "\"proxy\": the host that the engine runs on, for the hosts of the task";
                problems.push(Problem::new("/proxy", format!("no proxy for the step {}", step.name), wanted));
                return;
            }
            if let Some((name, _)) = targets.iter().find(|(_, host)| goes_through_a_command(host)) {
                let wanted = "hosts that the engine reaches itself: their ProxyCommand is for the daemon's machine";
                problems.push(Problem::new("/proxy", format!("the way to {name} for the step {}", step.name), wanted));
            }
            for name in env.keys().filter(|name| is_engines_own(name.as_str())) {
                let wanted = "a name that is not the engine's own: not ansible_*, inventory_hostname and their like";
                problems.push(Problem::new(format!("/args/{name}"), name.as_str(), wanted));
            }
            let text = scripts.get(&step.script).cloned().unwrap_or_default();
            let script = match step.engine {
                Some(Delegate::Salt) => salt_script(&text, &targets),
                _ => ansible_script(&text, &targets, env),
            };
            step.script = Digest::of(script.as_bytes());
            scripts.insert(step.script, script);
        }
    }
    // Of playbooks the plan holds what runs: the scripts that they stand in.
    let used: BTreeSet<Digest> = groups.iter().flat_map(|group| &group.steps).map(|step| step.script).collect();
    scripts.retain(|digest, _| used.contains(digest));
}

fn goes_through_a_command(host: &PlannedHost) -> bool {
    host.proxy_command.is_some() || host.jump.iter().any(|hop| hop.proxy_command.is_some())
}

/// Returns which parameters of a template are numbers, or yes or no.
fn typed_params(template: &Template) -> BTreeMap<ParamName, Typed> {
    let typed = template.params.iter().filter_map(|param| match param.kind {
        ParamKind::Int => Some((param.name.clone(), Typed::Int)),
        ParamKind::Bool => Some((param.name.clone(), Typed::Bool)),
        _ => None,
    });
    typed.collect()
}

/// Asks conditions that can be answered before anything runs, of every host: who approves sees where a step is not taken.
/// Of hosts that must be asked later the variables are kept that the conditions may name.
fn settle_conditions(
    groups: &mut [PlannedGroup],
    hosts: &mut HostFinder<'_>,
    (params, typed): (&BTreeMap<ParamName, String>, &BTreeMap<ParamName, Typed>),
    conditions: &BTreeMap<(GroupNo, usize), Condition>,
    problems: &mut Vec<Problem>,
) {
    for group in groups {
        for (n, step) in group.steps.iter_mut().enumerate() {
            let Some(condition) = conditions.get(&(group.number, n)) else { continue };
            for name in &group.hosts {
                let (Some(host), Some(planned)) =
                    (hosts.library.inventory.hosts.get(name), hosts.planned.get_mut(name))
                else {
                    continue;
                };
                if condition.needs_results() {
                    let kept = condition.vars_of(&host.vars).map(|(name, value)| (name.clone(), value.clone()));
                    planned.vars.extend(kept);
                    continue;
                }
                match condition.holds(&planned.facts(name, (params, typed), &host.vars, Vec::new())) {
                    Ok(true) => {}
                    Ok(false) => {
                        step.not_on.insert(name.clone());
                    }
                    Err(why) => {
                        let wanted = format!("an answer to the condition of the step {}", step.name);
                        problems.push(Problem::new(format!("/hosts/{}", group.number), why, wanted));
                    }
                }
            }
        }
    }
}

/// Checks what a task says itself: a script that is what it looks like, batches that fit its hosts.
fn check_task(submission: &Submission, problems: &mut Vec<Problem>) {
    if let Work::Script { script, .. } = &submission.work {
        problems.extend(flaw(script).map(|(found, wanted)| Problem::new("/script", found, wanted)));
    }
    check_batches(submission, problems);
}

/// Checks that only what a selector chooses is cut by percentages.
fn check_batches(submission: &Submission, problems: &mut Vec<Problem>) {
    let listed = submission.hosts.values().any(|hosts| matches!(hosts, Hosts::Named(_)));
    if listed && submission.batching.shares.iter().any(|share| matches!(share, Share::Percent(_))) {
        let wanted = "numbers of hosts, or a selector in the place of the list";
        problems.push(Problem::new("/batches", "percentages of a list of hosts", wanted));
    }
}

/// Checks that each group has both steps and hosts; one with only one of the two is a problem, never dropped.
fn check_groups(
    submission: &Submission,
    template: Option<&Template>,
    work: Option<&ResolvedWork>,
    problems: &mut Vec<Problem>,
) {
    let Some(ResolvedWork { steps, .. }) = work else { return };
    let own = template.iter().flat_map(|template| template.groups.keys());
    let with_hosts: BTreeSet<&GroupNo> = submission.hosts.keys().chain(own).collect();
    let wanted = steps.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for number in with_hosts.iter().filter(|number| !steps.contains_key(**number)) {
        let wanted = format!("a group that the template has steps for: {wanted}");
        problems.push(Problem::new(format!("/hosts/{number}"), format!("group {number}"), wanted));
    }
    for number in steps.keys().filter(|number| !with_hosts.contains(number)) {
        problems.push(Problem::new("/hosts", format!("no group {number}"), format!("hosts for group {number}")));
    }
}

/// Pairs each group's steps with its hosts.
fn assemble_groups(
    mut steps: BTreeMap<GroupNo, Vec<PlannedStep>>,
    hosts: &BTreeMap<GroupNo, Vec<HostName>>,
    proxy: Option<&HostName>,
    batching: &Batching,
) -> Vec<PlannedGroup> {
    let mut groups = Vec::new();
    for (number, hosts) in hosts {
        let Some(steps) = steps.remove(number) else { continue };
        let (hosts, targets) = match proxy {
            Some(proxy) => (vec![proxy.clone()], hosts.clone()),
            None => (hosts.clone(), Vec::new()),
        };
        let batches = cut(&batching.shares, hosts.len());
        let of_batch = |size: &u32| {
            batching.batch_max_fail.map(|share| share.of_failures(usize::try_from(*size).unwrap_or(usize::MAX)))
        };
        groups.push(PlannedGroup {
            batch_max_fail: batches.iter().filter_map(of_batch).collect(),
            batches,
            max_fail: batching.max_fail.map(|share| share.of_failures(hosts.len())),
            number: *number,
            hosts,
            steps,
            targets,
        });
    }
    groups
}
