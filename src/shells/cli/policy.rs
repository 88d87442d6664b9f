//! `policy`: what the rules say. Floor 4.
//!
//! **Invariant:** the same rules and the same decision as the daemon's, shown with every rule's opinion.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::{Args, Subcommand};

use crate::adapters::users;
use crate::base::ids::Actor;
use crate::domain::plan::resolve;
use crate::domain::policy::{Opinion, Person, Policy, Right, Subject};
use crate::domain::risk::Risk;
use crate::domain::submission::{Claims, Schedule};
use crate::domain::wire::read_task;
use crate::shells::ask_ssh;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::read_file;
use crate::shells::cli::{Context, tasks};

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub(super) struct PolicyVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say everything that is wrong with the policy file.
    Check,
    /// Say whether somebody may do something, and what every rule says of it.
    Explain {
        /// The user.
        who: String,
        #[arg(help = acts())]
        act: String,
        /// A task file, a task's number or name, or a template's name. Of a file, whoever owns it counts as its submitter, unless
        /// the question is whether somebody may submit it.
        what: String,
    },
}

impl PolicyVerb {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config().map_err(|failure| match (&self.verb, failure.kind) {
            // Here the configuration is what was asked about.
            (Verb::Check, Kind::Unavailable) => Failure { kind: Kind::Invalid, ..failure },
            _ => failure,
        })?;
        match self.verb {
            Verb::Check if context.output.json => {
                let strangers = config.library.policy.strangers(&config.library);
                context.output.object(serde_json::json!({"ok": true, "warnings": strangers}))
            }
            Verb::Check => {
                for stranger in config.library.policy.strangers(&config.library) {
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
                let (subject, risk) = subject(context, &config.library, &what, submits)?;
                explain(context, &config.library.policy, &person, &act, &subject, &risk)
            }
        }
    }
}

/// The acts of whoever submits.
const SUBMITS: [&str; 2] = ["submit", "submit-ready"];

/// Says what can be asked about.
fn acts() -> String {
    let words: Vec<&str> = SUBMITS.into_iter().chain(Right::ALL.map(Right::word)).collect();
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

/// Finds out what the task is that the question is about.
fn subject(
    context: &Context,
    library: &crate::domain::plan::Library,
    what: &str,
    submits: Option<&Person>,
) -> Result<(Subject, Risk), Failure> {
    let bounds = library.policy.bounds();
    if tasks::is_file(what) {
        let (shown, bytes) = read_file(Path::new(what))?;
        let owner = || std::fs::metadata(what).map(|meta| users::actor(meta.uid()));
        let submitter = submits.map_or_else(owner, |person| Ok(person.actor.clone()))?;
        let submission = read_task(&bytes, &library.zone).map_err(|bad| Failure::invalid(&shown, &bad.problems))?;
        let mut library = library.clone();
        ask_ssh::complete(&mut library, std::slice::from_ref(&submission));
        let plan = resolve(&submission, &library).map_err(|problems| Failure::invalid(&shown, &problems))?;
        let subject = Subject::of(&plan, &submitter, &submission.claims, &library.policy);
        return Ok((subject, Risk::of(&plan, &bounds)));
    }
    let is_template = what == "script" || library.catalogue.iter().any(|template| template.name.as_str() == what);
    if is_template {
        // A template alone says nothing about hosts and submitters; rules that look at them are left open.
        let nobody = Actor { uid: u32::MAX, user: String::new() };
        return Ok((Subject::unresolved(what.to_owned(), &nobody), Risk::default()));
    }
    let follower = tasks::open(context, what)?;
    let run = tasks::run_of(&follower)?;
    let claims: &Claims = &run.accepted.claims;
    Ok((Subject::of(&run.plan, &run.accepted.by, claims, &library.policy), Risk::of(&run.plan, &bounds)))
}

fn explain(
    context: &Context,
    policy: &Policy,
    person: &Person,
    act: &str,
    subject: &Subject,
    risk: &Risk,
) -> Result<(), Failure> {
    let (opinions, answer): (Vec<Opinion>, Result<String, String>) = match act {
        "submit" | "submit-ready" => {
            let into = if act == "submit" { Schedule::New } else { Schedule::Ready };
            let opinions = policy.submit_opinions(person, subject, into);
            let yes = opinions.iter().find(|opinion| opinion.objection.is_none()).map(|opinion| opinion.rule.clone());
            (opinions, yes.ok_or_else(|| format!("no rule lets {} {act} {}", person.actor.user, subject.work)))
        }
        word => {
            let right = Right::ALL
                .into_iter()
                .find(|right| right.word() == word)
                .ok_or_else(|| Failure::new(Kind::Usage, format!("{word} is no act")).hint(acts()))?;
            let answer = policy.allows(person, right, subject).map_err(|refusal| refusal.why);
            (policy.opinions(person, right, subject), answer)
        }
    };
    let needs = policy.needs(subject);
    if context.output.json {
        let opinions: Vec<_> =
            opinions.iter().map(|o| serde_json::json!({"rule": o.rule, "objection": o.objection})).collect();
        return context.output.object(serde_json::json!({
            "allowed": answer.is_ok(), "because": answer.unwrap_or_else(|why| why), "rules": opinions,
            "risk": risk, "needs": needs,
        }));
    }
    context.output.line(match &answer {
        Ok(rule) => format!("yes: {rule}"),
        Err(why) => format!("no: {why}"),
    })?;
    for opinion in &opinions {
        let objection = opinion.objection.as_deref().unwrap_or("allows it");
        context.output.line(format!("  {}: {objection}", opinion.rule))?;
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
