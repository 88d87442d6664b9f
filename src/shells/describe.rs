//! A plan in words: everything that is approved. Floor 4.
//!
//! What is left out means nothing special: a field that is empty, `false` or no limit (0), a trigger `auto`, `missed` =
//! `hold` of a task without a time, batches of a group that has only one, port 22, one job at a time, and
//! `SPOOLGATE_ADDRESS` where it is the host's address. Nobody logs in to this machine, so of its own hosts there is no user and
//! key.
//!
//! **Invariant:** every field of a plan changes the text. The structs are taken apart without `..`, so a new field does not
//! compile until somebody says how it is shown; a test changes each one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use crate::base::ids::{HostName, ParamName, SecretName, TaskId};
use crate::base::text::{Secret, visible, visible_lines};
use crate::domain::audit::Head;
use crate::domain::condition::Typed;
use crate::domain::file_step::PlannedFetch;
use crate::domain::inventory::host::Connection;
use crate::domain::known_hosts::HostKey;
use crate::domain::level::Level;
use crate::domain::plan::{
    Commit, PLAN_FORMAT, Part, Plan, PlannedGroup, PlannedHop, PlannedHost, PlannedStep, UsedTemplate,
};
use crate::domain::run::earlier::Earlier;
use crate::domain::runner::told::Told;
use crate::domain::runner::{Call, Offsets, RunnerId, command_line, run_program, runner_text};
use crate::domain::template::{Missed, Trigger};

/// Writes a plan for people. With a task's number, also the bytes that go to each host.
pub(in crate::shells) fn describe(plan: &Plan, bytes_for: Option<TaskId>) -> String {
    let mut text = String::new();
    describe_task(&mut text, plan);
    let mut shown = BTreeSet::new();
    for group in &plan.groups {
        describe_group(&mut text, plan, group, &mut shown);
    }
    // What a proxy works on is not reached from here, but its variables and names count.
    for (name, host) in plan.hosts.iter().filter(|(name, _)| !shown.contains(name)) {
        describe_host(&mut text, name, host);
    }
    if let Some(task) = bytes_for {
        describe_bytes(&mut text, plan, task);
    }
    for warning in plan.warnings() {
        push(&mut text, "warning", &warning);
    }
    push(&mut text, "digest", &plan.digest().to_string());
    text
}

/// Writes one line: what it is, and what it is worth.
pub(super) fn push(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name:<10} {value}").expect("writing to a string cannot fail");
}

/// Writes what holds for the whole task.
fn describe_task(text: &mut String, plan: &Plan) {
    let Plan {
        batch_gate,
        batch_interval_s,
        commits,
        env,
        env_prefix,
        exec_time,
        format,
        groups: _,
        hosts: _,
        labels,
        missed,
        not_after,
        risk,
        scripts: _,
        secrets,
        task_name,
        template,
        texts: _,
        typed,
    } = plan;
    push(text, "task", &visible(task_name));
    match template {
        None => push(text, "template", "a script of its own"),
        Some(UsedTemplate { file, id, name }) => {
            push(text, "template", &format!("{name} ({id})"));
            push(text, "  file", &file.to_string());
        }
    }
    if *format != PLAN_FORMAT {
        push(text, "format", &format.to_string());
    }
    if *risk != Level::Low {
        push(text, "risk", &format!("at least {}, as its template says", risk.word()));
    }
    if let Some(time) = exec_time {
        push(text, "not before", &time.to_string());
    }
    if let Some(time) = not_after {
        push(text, "not after", &time.to_string());
    }
    if exec_time.is_some() || *missed != Missed::default() {
        push(text, "missed", &format!("{}, when its time passes while it cannot start", missed.word()));
    }
    if *batch_interval_s > 0 {
        push(text, "batches", &format!("{batch_interval_s} s between one and the next"));
    }
    if *batch_gate {
        push(text, "batches", "somebody lets each next one begin");
    }
    if let Some(prefix) = env_prefix {
        push(text, "variables", &format!("beginning with {prefix} too, for ported scripts"));
    }
    describe_parameters(text, (env, secrets), labels, typed);
    for (name, Commit { commit, repository, tag }) in commits {
        push(text, "commit", &format!("{name} = {} of {} at {commit}", visible(tag), visible(repository)));
    }
}

/// Writes the parameters with what people call them, and those that have no value.
fn describe_parameters(
    text: &mut String,
    (env, secrets): (&BTreeMap<ParamName, String>, &BTreeMap<ParamName, SecretName>),
    labels: &BTreeMap<ParamName, String>,
    typed: &BTreeMap<ParamName, Typed>,
) {
    let label = |name| labels.get(name).map(|label| format!(" ({})", visible(label))).unwrap_or_default();
    let kind = |name| typed.get(name).map(|typed| format!(", {} in conditions", typed.word())).unwrap_or_default();
    for (name, value) in env {
        push(text, "parameter", &format!("{name}{} = {}{}", label(name), quoted(value), kind(name)));
    }
    for (name, secret) in secrets {
        push(text, "secret", &format!("{name}{} = secret:{secret}{}", label(name), kind(name)));
    }
    let names: BTreeSet<_> = labels.keys().chain(typed.keys()).collect();
    for name in names.into_iter().filter(|name| !env.contains_key(*name) && !secrets.contains_key(*name)) {
        push(text, "parameter", &format!("{name}{} is not set{}", label(name), kind(name)));
    }
}

fn describe_group<'a>(text: &mut String, plan: &Plan, group: &'a PlannedGroup, shown: &mut BTreeSet<&'a HostName>) {
    let PlannedGroup { batch_max_fail, batches, hosts, max_fail, number, steps, targets } = group;
    push(text, &format!("group {number}"), &format!("{} host(s)", hosts.len()));
    if batches.len() > 1 || batches.iter().any(|size| usize::try_from(*size) != Ok(hosts.len())) {
        push(text, "  batches", &format!("of {} host(s)", list(batches)));
    }
    if let Some(most) = max_fail {
        push(text, "  max_fail", &format!("{most} host(s) may fail before no other begins"));
    }
    if !batch_max_fail.is_empty() {
        push(
            text,
            "  max_fail",
            &format!("{} host(s) of each batch may fail before no other begins", list(batch_max_fail)),
        );
    }
    if !targets.is_empty() {
        push(text, "  about", &format!("{} host(s): {}", targets.len(), list(targets)));
    }
    for name in hosts {
        match plan.hosts.get(name) {
            // A host of several groups is described once.
            Some(host) if shown.insert(name) => describe_host(text, name, host),
            _ => push(text, "  host", name.as_str()),
        }
    }
    for step in steps {
        describe_step(text, plan, step);
    }
}

fn describe_host(text: &mut String, name: &HostName, host: &PlannedHost) {
    let PlannedHost {
        address,
        certificate,
        connection,
        env,
        environment,
        host_keys,
        jobs,
        jump,
        key,
        key_passphrase,
        port,
        proxy_command,
        tags,
        user,
        vars,
    } = host;
    let way = match connection {
        Connection::Local => format!("on this machine, {address}"),
        Connection::Ssh => format!("{user}@{address} port {port}  {}", keys(host_keys)),
    };
    push(text, "  host", &format!("{name}  {}", visible(&way)));
    if *connection == Connection::Ssh {
        describe_login(text, proxy_command.as_ref(), key.as_ref(), certificate.as_ref(), key_passphrase.as_ref());
        for hop in jump {
            describe_hop(text, hop);
        }
    }
    if !environment.is_empty() {
        push(text, "    in", &visible(environment));
    }
    if !tags.is_empty() {
        push(text, "    tags", &visible(&list(tags)));
    }
    if *jobs != 1 {
        push(text, "    jobs", &format!("up to {jobs} tasks at once"));
    }
    let said = |(name, value): &(&ParamName, &String)| name.as_str() != "SPOOLGATE_ADDRESS" || *value != address;
    for (name, value) in env.iter().filter(said) {
        push(text, "    env", &format!("{name} = {}", quoted(value)));
    }
    for (name, value) in vars {
        push(text, "    var", &format!("{} = {}", visible(name), quoted(value)));
    }
}

fn describe_hop(text: &mut String, hop: &PlannedHop) {
    let PlannedHop { address, certificate, host_keys, key, key_passphrase, port, proxy_command, user } = hop;
    push(text, "    via", &visible(&format!("{user}@{address} port {port}  {}", keys(host_keys))));
    describe_login(text, proxy_command.as_ref(), key.as_ref(), certificate.as_ref(), key_passphrase.as_ref());
}

/// Writes how the connection to a host or hop is made, where the inventory says more than an address.
fn describe_login(
    text: &mut String,
    proxy_command: Option<&String>,
    key: Option<&String>,
    certificate: Option<&String>,
    key_passphrase: Option<&SecretName>,
) {
    if let Some(command) = proxy_command {
        push(text, "    through", &format!("the daemon's command {}", quoted(command)));
    }
    if let Some(key) = key {
        push(text, "    key", &visible(key));
    }
    if let Some(certificate) = certificate {
        push(text, "    key", &format!("with the certificate {}", visible(certificate)));
    }
    if let Some(secret) = key_passphrase {
        push(text, "    key", &format!("with the passphrase secret:{secret}"));
    }
}

fn keys(host_keys: &BTreeSet<HostKey>) -> String {
    if host_keys.is_empty() { "NO KNOWN KEY".to_owned() } else { list(host_keys) }
}

fn describe_step(text: &mut String, plan: &Plan, step: &PlannedStep) {
    let PlannedStep {
        account,
        args,
        cpu_percent: _,
        engine,
        env,
        fetch,
        files,
        flow_id,
        idempotent,
        idle_timeout_s,
        memory_mib: _,
        name,
        nice,
        not_on,
        on_failure,
        part,
        retries,
        retry_delay_s,
        script,
        secrets,
        timeout_s,
        trigger,
        when,
    } = step;
    let head = match part {
        Part::Step => "  step".to_owned(),
        Part::Handler(of) => format!("  if {of} failed"),
        Part::Rollback { of, partial } => {
            format!("  to undo {of}{}", if *partial { ", also when it failed" } else { "" })
        }
    };
    let account = account.as_ref().map(|account| format!(" as {account}")).unwrap_or_default();
    let mut facts = vec![if *timeout_s == 0 { "no limit".to_owned() } else { format!("at most {timeout_s} s") }];
    let mut fact = |holds: bool, words: String| facts.extend(holds.then_some(words));
    fact(*idle_timeout_s > 0, format!("silent for at most {idle_timeout_s} s"));
    fact(*nice > 0, format!("nice {nice}"));
    fact(*trigger != Trigger::Auto, format!("{} trigger", trigger.word()));
    fact(*retries > 0 || *retry_delay_s > 0, format!("{retries} retries, {retry_delay_s} s apart"));
    fact(*idempotent, "idempotent".to_owned());
    fact(true, format!("on failure {}", on_failure.word()));
    push(text, &head, &format!("{name}{account}, {}", facts.join(", ")));
    if !args.is_empty() {
        push(text, "    args", &args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "));
    }
    if *flow_id {
        push(text, "    args", "FLOW_ID stands for the task's number");
    }
    describe_variables(text, env, secrets);
    if let Some(when) = when {
        push(text, "    when", &visible(when));
    }
    if !not_on.is_empty() {
        push(text, "    not on", &list(not_on));
    }
    if let Some(engine) = engine {
        push(text, "    engine", engine.word());
    }
    for line in files.iter().flat_map(|file| file.lines(&plan.texts)) {
        push(text, "    file", &visible_lines(&line));
    }
    if let Some(PlannedFetch { most_bytes, path }) = fetch {
        push(text, "    fetch", &format!("{}, at most {most_bytes} bytes", visible(path)));
    }
    for limit in step.limits() {
        push(text, "    limit", &limit);
    }
    push(text, "    script", &script.to_string());
    push_lines(text, '|', plan.scripts.get(script).map_or("", String::as_str));
}

fn describe_variables(text: &mut String, env: &BTreeMap<ParamName, String>, secrets: &BTreeMap<ParamName, SecretName>) {
    for (name, value) in env {
        push(text, "    env", &format!("{name} = {}", quoted(value)));
    }
    for (name, secret) in secrets {
        push(text, "    secret", &format!("{name} = secret:{secret}"));
    }
}

/// Writes lines beneath what they belong to.
fn push_lines(text: &mut String, sign: char, lines: &str) {
    for line in lines.lines() {
        writeln!(text, "      {sign} {}", visible_lines(line)).expect("writing to a string cannot fail");
    }
}

/// Writes things in one line.
fn list<T: Display>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

fn describe_bytes(text: &mut String, plan: &Plan, task: TaskId) {
    let earlier = Earlier::default();
    for group in &plan.groups {
        for host in &group.hosts {
            for step in &group.steps {
                let secrets = names_of_secrets(plan, step);
                // What names the run comes with the run: here the digest stands for it.
                let id = RunnerId::new(&plan.digest(), task, group.number, host, step, 1);
                let call = Call {
                    id: &id,
                    nonce: "NONCE",
                    offsets: Offsets::default(),
                    clean: false,
                    begun: false,
                    sent_s: None,
                    audit: Head::default(),
                };
                let told = Told::preview(&earlier, &secrets);
                let program = run_program(plan, task, host, group.number, step, &call, &told);
                let whole = program.text();
                let shown = whole.replace(runner_text(), RUNNER_STANDS_HERE);
                push(
                    text,
                    "bytes",
                    &format!("{host} {}: {} runs {} bytes", step.name, command_line(&program.shell), whole.len()),
                );
                push_lines(text, '>', &shown);
            }
        }
    }
    push(text, "bytes", "the runner, the same for every step:");
    push_lines(text, '>', runner_text());
}

/// Stands for the values of secrets, which only the daemon reads, with their names.
fn names_of_secrets(plan: &Plan, step: &PlannedStep) -> BTreeMap<ParamName, Secret> {
    let named = plan.secrets.iter().chain(&step.secrets);
    named.map(|(name, secret)| (name.clone(), Secret::new(format!("secret:{secret}")))).collect()
}

/// Stands for the runner's text where it would come again and again.
const RUNNER_STANDS_HERE: &str = "# here stands the runner, printed once below\n";

/// Writes a value as one word, so that its ends can be seen.
fn quoted(value: &str) -> String {
    format!("'{}'", visible(value).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::base::digest::Digest;
    use crate::base::ids::GroupNo;
    use crate::base::time::Timestamp;
    use crate::domain::delegate::Delegate;
    use crate::domain::file_step::PlannedFile;
    use crate::domain::template::OnFailure;

    fn of<K: std::str::FromStr + Ord, V>(name: &str, value: V) -> BTreeMap<K, V> {
        [(word(name), value)].into()
    }

    fn word<T: std::str::FromStr>(text: &str) -> T {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn key() -> BTreeSet<HostKey> {
        [word(&format!("ssh-ed25519 SHA256:{}", "A".repeat(43)))].into()
    }

    fn host() -> PlannedHost {
        PlannedHost {
            address: "10.0.0.1".to_owned(),
            certificate: Some("/etc/cert".to_owned()),
            connection: Connection::Ssh,
            env: of("SPOOLGATE_PROJECT", "shop".to_owned()),
            environment: "prod".to_owned(),
            host_keys: key(),
            jobs: 2,
            jump: vec![PlannedHop {
                address: "10.0.0.9".to_owned(),
                certificate: Some("/etc/hop-cert".to_owned()),
                host_keys: key(),
                key: Some("/etc/hop-key".to_owned()),
                key_passphrase: Some(word("hop")),
                port: 23,
                proxy_command: Some("nc hop".to_owned()),
                user: "hopper".to_owned(),
            }],
            key: Some("/etc/key".to_owned()),
            key_passphrase: Some(word("pass")),
            port: 24,
            proxy_command: Some("nc host".to_owned()),
            tags: ["web".to_owned()].into(),
            user: "deploy".to_owned(),
            vars: of("tier", "front".to_owned()),
        }
    }

    fn step(script: &str, text: &str) -> PlannedStep {
        PlannedStep {
            account: Some(word("root")),
            args: vec!["a b".to_owned()],
            cpu_percent: 50,
            engine: Some(Delegate::Salt),
            env: of("STEP_VAR", "1".to_owned()),
            fetch: Some(PlannedFetch { most_bytes: 9, path: "/var/out".to_owned() }),
            files: vec![PlannedFile {
                digest: None,
                from: "motd.in".to_owned(),
                mode: "0644".to_owned(),
                of_host: of("web1", Digest::of(text.as_bytes())),
                owner: Some("root".to_owned()),
                to: "/etc/motd".to_owned(),
            }],
            flow_id: true,
            idempotent: true,
            idle_timeout_s: 5,
            memory_mib: 64,
            name: word("undo"),
            nice: 3,
            not_on: [word("web1")].into(),
            on_failure: OnFailure::Continue,
            part: Part::Rollback { of: word("a"), partial: true },
            retries: 2,
            retry_delay_s: 4,
            script: Digest::of(script.as_bytes()),
            secrets: of("STEP_SECRET", word("db")),
            timeout_s: 6,
            trigger: Trigger::Timed,
            when: Some("true".to_owned()),
        }
    }

    /// A plan in which nothing is left at its default.
    fn whole() -> Plan {
        let (script, text) = ("echo hello\n", "welcome\n");
        Plan {
            batch_gate: true,
            batch_interval_s: 60,
            commits: of(
                "VERSION",
                Commit { commit: "c0ffee".to_owned(), repository: "/repo".to_owned(), tag: "v1".to_owned() },
            ),
            env: of("VERSION", "v1".to_owned()),
            env_prefix: Some(word("ZDOPS")),
            exec_time: Some(Timestamp(1_000)),
            format: PLAN_FORMAT + 1,
            groups: vec![PlannedGroup {
                batch_max_fail: vec![3],
                batches: vec![4],
                hosts: vec![word("web1")],
                max_fail: Some(1),
                number: GroupNo(7),
                steps: vec![step(script, text)],
                targets: vec![word("web2")],
            }],
            hosts: of("web1", host()),
            labels: of("VERSION", "which one".to_owned()),
            missed: Missed::Run,
            not_after: Some(Timestamp(2_000)),
            risk: Level::High,
            scripts: of(&Digest::of(script.as_bytes()).to_string(), script.to_owned()),
            secrets: of("PASSWORD", word("db")),
            task_name: "everything".to_owned(),
            template: Some(UsedTemplate { file: Digest::of(b""), id: 8, name: word("deploy") }),
            texts: of(&Digest::of(text.as_bytes()).to_string(), text.to_owned()),
            typed: of("VERSION", Typed::Int),
        }
    }

    /// What stands in the place of a value, one after the other, until it makes a plan.
    fn others(value: &Value) -> Vec<Value> {
        match value {
            Value::Bool(known) => vec![json!(!known)],
            Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1)],
            Value::String(text) => {
                let mut others = vec![json!("1970-01-01T00:00:09Z"), json!(Digest::of(b"another"))];
                others.push(json!(format!("ssh-rsa SHA256:{}", "B".repeat(42) + "A")));
                others.extend(["local", "hold", "low", "bool", "ansible", "stop", "manual"].map(|word| json!(word)));
                others.push(json!(format!("{text}x")));
                others
            }
            other => panic!("{other}: no leaf of a plan"),
        }
    }

    /// Returns the pointers of everything in a JSON value that holds nothing else, and of the maps' entries.
    fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, value)| leaves(value, &format!("{at}/{n}"), found));
            }
            _ => found.push(at.to_owned()),
        }
    }

    /// The text without the lines that are worked out from others.
    fn text_of(plan: &Plan) -> String {
        let text = describe(plan, None);
        text.lines().filter(|line| !line.starts_with("digest ") && !line.starts_with("warning ")).collect()
    }

    #[test]
    fn whatever_changes_in_a_plan_changes_what_an_approver_reads() {
        let plan = whole();
        let text = text_of(&plan);
        let value = serde_json::to_value(&plan).unwrap();
        let mut found = Vec::new();
        leaves(&value, "", &mut found);
        assert!(found.len() > 70, "{found:?}");
        for pointer in &found {
            let mut changed = None;
            for other in others(value.pointer(pointer).unwrap()) {
                let mut value = value.clone();
                *value.pointer_mut(pointer).unwrap() = other;
                let made = serde_json::from_value::<Plan>(value).ok();
                changed = changed.or(made.filter(|made| *made != plan));
            }
            let changed = changed.unwrap_or_else(|| panic!("{pointer}: no other value makes a plan"));
            assert_ne!(text_of(&changed), text, "{pointer} can be changed and nobody sees it");
        }
    }

    #[test]
    fn whatever_is_taken_out_of_a_plan_changes_what_an_approver_reads() {
        let plan = whole();
        let value = serde_json::to_value(&plan).unwrap();
        let parts =
            ["", "/groups/0", "/groups/0/steps/0", "/hosts/web1", "/hosts/web1/jump/0", "/groups/0/steps/0/files/0"];
        for part in parts {
            for (name, old) in value.pointer(part).unwrap().as_object().unwrap() {
                for nothing in [Value::Null, json!([]), json!({}), json!(0), json!(""), json!(false)] {
                    let mut value = value.clone();
                    *value.pointer_mut(&format!("{part}/{name}")).unwrap() = nothing.clone();
                    // Where a field cannot be empty so, it is empty otherwise or never.
                    let Ok(made) = serde_json::from_value::<Plan>(value) else { continue };
                    assert_ne!(text_of(&made), text_of(&plan), "{part}/{name}: {old} became {nothing}");
                }
            }
        }
    }

    #[test]
    fn an_ordinary_plan_has_an_ordinary_text() {
        let mut plan = Plan::empty_for_tests();
        let mut group = PlannedGroup::one_step_for_tests("true");
        (group.hosts, group.batches) = (vec![word("here")], vec![1]);
        plan.groups = vec![group];
        plan.scripts = of(&Digest::of(b"true").to_string(), "true".to_owned());
        plan.hosts = of("here", PlannedHost::local_for_tests());
        let text = describe(&plan, None);
        let (text, _) = text.split_once("digest ").unwrap();
        assert_eq!(
            text,
            "task       empty\n\
             template   a script of its own\n\
             group 1    1 host(s)\n  host     here  on this machine, 127.0.0.1\n  step     a, no limit, on failure stop\n    \
             script sha256:b5bea41b6c623f7c09f1bf24dcae58ebab3c0cdd90ad966bc43a45b44867e12b\n      | true\nwarning    here is this machine: its scripts run as \
             the daemon's own user, who can change every record and approval\n"
        );
    }
}
