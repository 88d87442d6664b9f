//! `policy`: what the rules say. Floor 4.
//!
//! **Invariant:** the same rules and the same decision as the daemon's, shown with every rule's opinion.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::{Args, Subcommand};

use crate::adapters::users;
use crate::base::ids::Actor;
use crate::domain::policy::{Opinion, Part, Person, Policy, Readers, Subject};
use crate::domain::resolve::resolve;
use crate::domain::right::Right;
use crate::domain::risk::Risk;
use crate::domain::submission::Schedule;
use crate::domain::wire::read_task;
use crate::shells::ask_ssh;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::read_file;
use crate::shells::cli::tasks;

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub(in crate::shells) struct PolicyVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the policy file and list every problem.
    Check,
    /// Explain whether somebody may do something: what every rule says.
    Explain {
        /// The user.
        who: String,
        #[arg(help = acts())]
        act: String,
        /// A task file, a task's number or name, or a template's name. Of a file, whoever owns it counts as its submitter, unless
        /// the question is whether somebody may submit it. Of a template alone, rules that look at hosts or people stay open.
        what: String,
    },
}

impl PolicyVerb {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config().map_err(|failure| match (&self.verb, failure.kind) {
            // Here the configuration is what was asked about.
            (Verb::Check, Kind::Unavailable) => Failure { kind: Kind::Invalid, ..failure },
            _ => failure,
        })?;
        match self.verb {
            Verb::Check if context.output.json => {
                let policy = &config.library.policy;
                let strangers: Vec<String> = policy
                    .strangers(&config.library.catalogue, &config.library.inventory)
                    .into_iter()
                    .chain(unknown_people(policy))
                    .collect();
                context.output.object(serde_json::json!({"ok": true, "warnings": strangers}))
            }
            Verb::Check => {
                let policy = &config.library.policy;
                for stranger in policy
                    .strangers(&config.library.catalogue, &config.library.inventory)
                    .into_iter()
                    .chain(unknown_people(policy))
                {
                    context.output.say(format!("warning: {stranger}"));
                }
                context.output.line(match config.library.policy {
                    Policy::Personal { owner } => {
                        format!("personal mode: there is no policy.toml, so uid {owner} may do everything")
                    }
                    Policy::Rules(_) => "policy.toml: ok".to_owned(),
                })
            }
            Verb::Explain { who, act, what } => {
                let person = person(&who)?;
                let submits = SUBMITS.contains(&act.as_str()).then_some(&person);
                let asked = subject(context, &config.library, &what, submits)?;
                explain(context, &config.library.policy, &person, &act, &asked)
            }
        }
    }
}

/// The acts of whoever submits.
const SUBMITS: [&str; 2] = ["submit", "submit-ready"];

/// What can be asked of whether somebody sees it, with the parts that it means.
const SEES: [(&str, Part); 3] =
    [("see-plan", Part::Plan), ("see-output", Part::Output), ("see-environment", Part::Environment)];

/// Says what can be asked about.
fn acts() -> String {
    let sees = SEES.map(|(word, _)| word);
    let words: Vec<&str> = SUBMITS.into_iter().chain(Right::ALL.map(Right::word)).chain(sees).collect();
    format!("What: {}", words.join(", "))
}

fn person(who: &str) -> Result<Person, Failure> {
    if let Some(name) = who.strip_prefix("token:").and_then(|name| name.parse().ok()) {
        return Ok(Person { actor: Actor::of_token(0, &name), groups: BTreeSet::new() });
    }
    let uid = users::uid_of(who)
        .or_else(|| who.strip_prefix("uid-").unwrap_or(who).parse().ok())
        .ok_or_else(|| Failure::new(Kind::NotFound, format!("this system has no user {who}")))?;
    Ok(Person { actor: users::actor(uid), groups: users::groups(uid) })
}

/// What a question is about.
struct Asked {
    subject: Subject,
    risk: Risk,
    /// A template alone says nothing about hosts and submitters; rules that look at them are left open.
    is_template: bool,
}

/// Finds out what the task is that the question is about.
fn subject(
    context: &Context,
    library: &crate::domain::library::Library,
    what: &str,
    submits: Option<&Person>,
) -> Result<Asked, Failure> {
    let bounds = library.policy.bounds();
    if tasks::is_file(what) {
        let (shown, bytes) = read_file(Path::new(what))?;
        let owner = || std::fs::metadata(what).map(|meta| users::actor(meta.uid()));
        let submitter = submits.map_or_else(owner, |person| Ok(person.actor.clone()))?;
        let submission = read_task(&bytes, &library.zone).map_err(|bad| Failure::invalid(&shown, &bad.problems))?;
        let mut library = library.clone();
        ask_ssh::complete(&mut library, std::slice::from_ref(&submission));
        let plan = resolve(&submission, &library).map_err(|problems| Failure::invalid(&shown, &problems))?;
        let subject = Subject::of(&plan, &submitter, &submission.claims, &library.policy.bounds());
        return Ok(Asked { subject, risk: Risk::of(&plan, &bounds), is_template: false });
    }
    // The audit is no task's, and what may be done with it no rule about tasks says.
    let is_template =
        what == "script" || what == "audit" || library.catalogue.iter().any(|template| template.name.as_str() == what);
    if is_template {
        let nobody = Actor { uid: u32::MAX, user: String::new() };
        let subject = Subject::unresolved(what.to_owned(), &nobody);
        return Ok(Asked { subject, risk: Risk::default(), is_template: true });
    }
    let follower = tasks::open(context, what)?;
    let run = tasks::run_of(&follower)?;
    let subject = run.subject(&library.policy);
    Ok(Asked { subject, risk: Risk::of(&run.plan, &bounds), is_template: false })
}

/// What the rules come to.
enum Verdict {
    Yes(String),
    /// It depends on what a template does not say.
    Perhaps(String),
    No(String),
}

/// Asks every rule that could allow an act.
fn verdict(policy: &Policy, person: &Person, act: &str, asked: &Asked) -> Result<(Vec<Opinion>, Verdict), Failure> {
    let subject = &asked.subject;
    let part = SEES.iter().find(|(word, _)| *word == act).map(|(_, part)| *part);
    let (opinions, answer): (Vec<Opinion>, Result<String, String>) = match (act, part) {
        ("submit" | "submit-ready", _) => {
            let into = if act == "submit" { Schedule::New } else { Schedule::Ready };
            let opinions = policy.submit_opinions(person, subject, into);
            let yes = opinions.iter().find(|opinion| opinion.objection.is_none()).map(|opinion| opinion.rule.clone());
            (opinions, yes.ok_or_else(|| format!("no rule lets {} {act} {}", person.actor.user, subject.work)))
        }
        (_, Some(part)) => {
            let of = groups_of(&subject.submitter);
            let answer = policy.may_see(person, &of, subject, part).map_err(|refusal| refusal.why);
            (policy.see_opinions(person, &of, subject, part), answer)
        }
        (word, None) => {
            let right = Right::ALL
                .into_iter()
                .find(|right| right.word() == word)
                .ok_or_else(|| Failure::new(Kind::Usage, format!("{word} is no act")).hint(acts()))?;
            let answer = policy.allows(person, right, subject).map_err(|refusal| refusal.why);
            (policy.opinions(person, right, subject), answer)
        }
    };
    let certain = opinions.iter().find(|opinion| opinion.objection.is_none() && !opinion.depends);
    let open = opinions.iter().find(|opinion| opinion.depends).filter(|_| asked.is_template && certain.is_none());
    let verdict = match (open, answer) {
        (Some(open), _) => Verdict::Perhaps(format!(
            "{} looks at the hosts or the people of a task; ask with a task file, or a task's number",
            open.rule
        )),
        (None, Ok(rule)) => Verdict::Yes(certain.map_or(rule, |opinion| opinion.rule.clone())),
        (None, Err(why)) => Verdict::No(why),
    };
    Ok((opinions, verdict))
}

fn groups_of(submitter: &Actor) -> BTreeSet<String> {
    if submitter.is_token() { BTreeSet::new() } else { users::groups(submitter.uid) }
}

/// Says whom the files of a task go to, and whether somebody is among them.
fn files(policy: &Policy, person: &Person, subject: &Subject) -> String {
    let reading = policy.readers(&groups_of(&subject.submitter), subject);
    let of = |readers: &Readers| match readers {
        Readers::Everybody => "whoever may look at the state".to_owned(),
        Readers::Group(group) => format!("the group {group}"),
        Readers::Nobody => "the daemon's user alone".to_owned(),
    };
    let is_among = |readers: &Readers| match readers {
        Readers::Everybody => true,
        Readers::Group(group) => person.groups.contains(group),
        Readers::Nobody => false,
    };
    let but = |readers: &Readers| if is_among(readers) { "" } else { ", and not to them" };
    let (task, output) = (&reading.task, &reading.output);
    format!(
        "files: the plan, the environment and the record go to {}{}; the output to {}{}",
        of(task),
        but(task),
        of(output),
        but(output)
    )
}

/// Returns the names in `[[see]]` rules that the system does not know, one sentence each.
fn unknown_people(policy: &Policy) -> Vec<String> {
    let is_known = |word: &str| match word.strip_prefix('@') {
        Some(group) => users::gid_of(group).is_some(),
        None => word == "*" || word.starts_with("token:") || word.starts_with("uid-") || users::uid_of(word).is_some(),
    };
    let unknown = policy.named_in_see().into_iter().filter(|(_, word)| !is_known(word));
    unknown
        .map(|(rule, word)| match word.strip_prefix('@') {
            Some(group) => format!("{rule}: this system has no group {group}"),
            None => format!("{rule}: this system has no user {word}"),
        })
        .collect()
}

fn explain(context: &Context, policy: &Policy, person: &Person, act: &str, asked: &Asked) -> Result<(), Failure> {
    let (opinions, verdict) = verdict(policy, person, act, asked)?;
    let (risk, needs) = (&asked.risk, policy.needs(&asked.subject));
    let files = SEES.iter().any(|(word, _)| *word == act).then(|| files(policy, person, &asked.subject));
    let (allowed, said, because) = match verdict {
        Verdict::Yes(rule) => (Some(true), "yes", rule),
        Verdict::Perhaps(why) => (None, "perhaps", why),
        Verdict::No(why) => (Some(false), "no", why),
    };
    if context.output.json {
        let opinions: Vec<_> =
            opinions.iter().map(|o| serde_json::json!({"rule": o.rule, "objection": o.objection})).collect();
        return context.output.object(serde_json::json!({
            "allowed": allowed, "because": because, "rules": opinions, "risk": risk, "needs": needs, "files": files,
        }));
    }
    context.output.line(format!("{said}: {because}"))?;
    for opinion in &opinions {
        let open = if opinion.depends && asked.is_template { "depends on the task" } else { "allows it" };
        let objection = opinion.objection.as_deref().unwrap_or(open);
        context.output.line(format!("  {}: {objection}", opinion.rule))?;
    }
    if let Some(files) = files {
        return context.output.line(files);
    }
    context.output.line(format!("risk {}", risk.level.word()))?;
    for reason in &risk.reasons {
        context.output.line(format!("  {reason}"))?;
    }
    for need in &needs {
        let of = if need.of.is_empty() { "whoever may approve".to_owned() } else { need.of.join(", ") };
        context.output.line(format!("needs {} approval(s) of {of}: {}", need.approvals, need.rule))?;
    }
    Ok(())
}
