//! `check` and `plan`: what a file means, without daemon and network. Floor 4.
//!
//! **Invariant:** the same reader and resolver as the daemon's, so the digest is the one it will compute.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::adapters::spool::reader;
use crate::base::ids::{HostName, ParamName, TaskId};
use crate::base::text::{Secret, visible, visible_lines};
use crate::domain::audit::Head;
use crate::domain::inventory::Connection;
use crate::domain::plan::{Part, Plan, PlannedHost, PlannedStep, resolve};
use crate::domain::plan_diff::{differences, script_changes};
use crate::domain::record::HistoryLine;
use crate::domain::run::earlier::Earlier;
use crate::domain::runner::{Call, Offsets, RunnerId, Told, command_line, run_program, runner_text};
use crate::domain::wire::read_task;
use crate::shells::ask_ssh;
use crate::shells::cli::failure::Failure;
use crate::shells::cli::submit::read_file;
use crate::shells::cli::{Context, tasks};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The task file; `-` reads standard input.
    file: PathBuf,
}

impl Check {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let (shown, plan) = plan_of_file(context, &self.file)?;
        for warning in plan.warnings() {
            context.output.say(format!("{shown}: warning: {warning}"));
        }
        if context.output.json {
            return context.output.object(serde_json::json!({"ok": true, "digest": plan.digest()}));
        }
        context.output.line(format!("{shown}: ok, {} host(s), plan {}", plan.hosts.len(), plan.digest()))
    }
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanOf {
    /// A task file, `-` for standard input, or a task's number or name.
    what: PathBuf,
    /// Print also the exact bytes that each host's shell reads.
    #[arg(long)]
    bytes: bool,
}

impl PlanOf {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let word = self.what.to_string_lossy();
        // A file that is there is meant; a task has a number or a name without a slash.
        let is_file = word == "-" || self.what.is_file();
        let (id, plan) = if is_file {
            (TaskId(0), plan_of_file(context, &self.what)?.1)
        } else {
            let follower = tasks::open(context, &word)?;
            let run = tasks::run_of(&follower)?;
            (run.id, (*run.plan).clone())
        };
        let before = last_run(context, &plan, id);
        let changes = before.as_ref().map(|(_, was)| differences(was, &plan)).unwrap_or_default();
        if context.output.json {
            let since = before.as_ref().map(|(id, _)| serde_json::json!({"task": id, "differences": changes}));
            let value = serde_json::json!({
                "digest": plan.digest(), "plan": plan, "warnings": plan.warnings(), "since": since,
            });
            return context.output.object(value);
        }
        let mut text = describe(&plan, self.bytes.then_some(id));
        if let Some((id, was)) = &before {
            push(&mut text, "since", &format!("task {id}, the last run of {}", plan.work_name()));
            for change in &changes {
                push(&mut text, "  change", &visible(&change.to_string()));
            }
            for change in script_changes(was, &plan) {
                push(&mut text, "  script", &format!("{}, line {}", change.step, change.line));
                for (sign, lines) in [("-", &change.was), ("+", &change.now)] {
                    for line in lines {
                        writeln!(text, "      {sign} {}", visible_lines(line))
                            .expect("writing to a string cannot fail");
                    }
                }
            }
        }
        context.output.bytes(text.as_bytes())
    }
}

/// Returns the last task of the same template that ran, and what it ran; a script of its own has none.
fn last_run(context: &Context, plan: &Plan, but: TaskId) -> Option<(TaskId, Plan)> {
    plan.template.as_ref()?;
    // A plan can be made where there is no spool yet.
    let layout = &context.layout;
    let history = reader::history(layout).unwrap_or_default();
    let same = |line: &&HistoryLine| line.work == plan.work_name() && line.started.is_some() && line.id != but;
    let line = history.iter().filter(same).max_by_key(|line| line.id)?;
    reader::plan(layout, line.id).ok().map(|was| (line.id, was))
}

fn plan_of_file(context: &Context, file: &std::path::Path) -> Result<(String, Plan), Failure> {
    let (shown, bytes) = read_file(file)?;
    let mut library = context.config()?.library;
    let submission = read_task(&bytes, &library.zone).map_err(|bad| Failure::invalid(&shown, &bad.problems))?;
    ask_ssh::complete(&mut library, std::slice::from_ref(&submission));
    let plan = resolve(&submission, &library).map_err(|problems| Failure::invalid(&shown, &problems))?;
    Ok((shown, plan))
}

/// Writes a plan for people. With a task's number, also the bytes that go to each host.
pub(in crate::shells) fn describe(plan: &Plan, bytes_for: Option<TaskId>) -> String {
    let mut text = format!("task       {}\n", visible(&plan.task_name));
    let work =
        plan.template.as_ref().map_or_else(|| "a script of its own".to_owned(), |t| format!("{} ({})", t.name, t.id));
    push(&mut text, "template", &work);
    if let Some(time) = plan.exec_time {
        push(&mut text, "not before", &time.to_string());
    }
    if let Some(time) = plan.not_after {
        push(&mut text, "not after", &time.to_string());
    }
    for (name, value) in &plan.env {
        let label = plan.labels.get(name).map(|label| format!(" ({label})")).unwrap_or_default();
        push(&mut text, "parameter", &format!("{name}{label} = {}", quoted(value)));
    }
    for (name, secret) in &plan.secrets {
        let label = plan.labels.get(name).map(|label| format!(" ({label})")).unwrap_or_default();
        push(&mut text, "secret", &format!("{name}{label} = secret:{secret}"));
    }
    for group in &plan.groups {
        push(&mut text, &format!("group {}", group.number), &format!("{} host(s)", group.hosts.len()));
        if !group.targets.is_empty() {
            let named = group.targets.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
            push(&mut text, "  about", &format!("{} host(s): {named}", group.targets.len()));
        }
        for name in &group.hosts {
            if let Some(host) = plan.hosts.get(name) {
                push(&mut text, "  host", &format!("{name}  {}", describe_host(host)));
            }
        }
        for step in &group.steps {
            describe_step(&mut text, plan, step);
        }
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

fn push(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name:<10} {value}").expect("writing to a string cannot fail");
}

fn describe_host(host: &PlannedHost) -> String {
    match host.connection {
        Connection::Local => "on this machine".to_owned(),
        Connection::Ssh => {
            let keys: Vec<String> = host.host_keys.iter().map(ToString::to_string).collect();
            let keys = if keys.is_empty() { "NO KNOWN KEY".to_owned() } else { keys.join(", ") };
            let hops: Vec<String> =
                host.jump.iter().map(|hop| format!(" via {}@{} port {}", hop.user, hop.address, hop.port)).collect();
            let command = host.proxy_command.as_ref().or(host.jump.first().and_then(|hop| hop.proxy_command.as_ref()));
            let command = command.map(|command| format!("  through the daemon's command {}", quoted(command)));
            let way = hops.concat() + &command.unwrap_or_default();
            format!("{}@{} port {}{way}  {keys}", host.user, host.address, host.port)
        }
    }
}

fn describe_step(text: &mut String, plan: &Plan, step: &PlannedStep) {
    let account = step.account.as_ref().map(|account| format!(" as {account}")).unwrap_or_default();
    let limit = if step.timeout_s == 0 { "no limit".to_owned() } else { format!("at most {} s", step.timeout_s) };
    let nice = if step.nice == 0 { String::new() } else { format!(", nice {}", step.nice) };
    let on_failure = format!("{:?}", step.on_failure).to_lowercase();
    let head = match &step.part {
        Part::Step => "  step".to_owned(),
        Part::Handler(of) => format!("  if {of} failed"),
        Part::Rollback { of, partial } => {
            format!("  to undo {of}{}", if *partial { ", also when it failed" } else { "" })
        }
    };
    push(text, &head, &format!("{}{account}, {limit}{nice}, on failure {on_failure}", step.name));
    if !step.args.is_empty() {
        push(text, "    args", &step.args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "));
    }
    for (name, value) in &step.env {
        push(text, "    env", &format!("{name} = {}", quoted(value)));
    }
    for (name, secret) in &step.secrets {
        push(text, "    secret", &format!("{name} = secret:{secret}"));
    }
    if let Some(when) = &step.when {
        let not_on: Vec<&str> = step.not_on.iter().map(HostName::as_str).collect();
        let not_on = if not_on.is_empty() { String::new() } else { format!("; not on {}", not_on.join(", ")) };
        push(text, "    when", &format!("{}{not_on}", visible(when)));
    }
    for line in step.files.iter().flat_map(|file| file.lines(&plan.texts)) {
        push(text, "    file", &visible_lines(&line));
    }
    for limit in step.limits() {
        push(text, "    limit", &limit);
    }
    push(text, "    script", &step.script.to_string());
    let script = plan.scripts.get(&step.script).map_or("", String::as_str);
    for line in script.lines() {
        writeln!(text, "      | {}", visible_lines(line)).expect("writing to a string cannot fail");
    }
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
                let stdin = program.stdin();
                let shown = String::from_utf8_lossy(&stdin).replace(runner_text(), RUNNER_STANDS_HERE);
                push(
                    text,
                    "bytes",
                    &format!("{host} {}: {} reads {} bytes", step.name, command_line(&program.command), stdin.len()),
                );
                for line in shown.lines() {
                    writeln!(text, "      > {}", visible_lines(line)).expect("writing to a string cannot fail");
                }
            }
        }
    }
    push(text, "bytes", "the runner, the same for every step:");
    for line in runner_text().lines() {
        writeln!(text, "      > {line}").expect("writing to a string cannot fail");
    }
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
