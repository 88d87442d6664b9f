//! `audit verify`: whether what is recorded is what happened. Floor 4.
//!
//! **Invariant:** reads only, and says of everything that differs what was expected and what was found. What the daemon is
//! writing at the moment is looked at again before anything is said of it.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::adapters::spool::audit::{self, Cut, LastKnown, Verified};
use crate::adapters::spool::proof::{self, Finding, Proof};
use crate::base::text::visible;
use crate::domain::audit::Head;
use crate::domain::file_check::Difference;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::tasks;

/// How many findings are listed for people.
const LISTED_MAX: usize = 100;
/// How long the daemon is given to write what it has begun to, before it is looked at again.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Verify {
    /// A head kept elsewhere, as NUMBER:sha256:…; the chain must contain it.
    #[arg(long)]
    head: Option<String>,
    /// Verify only the chain, not journals, plans, records, history and logs.
    #[arg(long)]
    only_chain: bool,
}

impl Verify {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let known: Option<Head> = match &self.head {
            None => None,
            Some(text) => Some(
                text.parse().map_err(|wanted| Failure::new(Kind::Usage, format!("--head {text}: wanted {wanted}")))?,
            ),
        };
        let (mut chain, mut proof) = (audit::verify(&context.layout, known)?, Proof::default());
        if !self.only_chain {
            proof = proof::check(&context.layout, &chain, None)?;
        }
        let mut findings = of_chain(context, &chain, known)?;
        findings.append(&mut proof.findings);
        for pause in PAUSES {
            if findings.is_empty() || !tasks::daemon_runs(context)? {
                break;
            }
            std::thread::park_timeout(pause);
            chain = audit::verify(&context.layout, known)?;
            let again: Vec<_> = findings.iter().filter_map(|finding| finding.task).collect();
            findings = of_chain(context, &chain, known)?;
            if !self.only_chain {
                // Everything else is counted already.
                let only = if proof.more > 0 { None } else { Some(again.as_slice()) };
                let looked = proof::check(&context.layout, &chain, only)?;
                proof.more = looked.more;
                findings.extend(looked.findings);
            }
        }
        if !findings.is_empty() {
            return Err(failure(context, &findings, proof.more)?);
        }
        unacknowledged(context, &chain.cuts)?;
        self.say(context, &chain, &proof)
    }

    fn say(&self, context: &Context, chain: &Verified, proof: &Proof) -> Result<(), Failure> {
        let head = chain.head;
        if context.output.json {
            let cuts: Vec<u64> = chain.cuts.iter().map(|cut| cut.line.seq).collect();
            let mut value = json!({"ok": true, "lines": head.seq, "head": head.to_string(), "cuts": cuts});
            if !self.only_chain {
                value["tasks"] = proof.tasks.into();
                value["logs"] = proof.logs.into();
                value["logs_removed"] = proof.removed.into();
            }
            return context.output.object(value);
        }
        for cut in &chain.cuts {
            context.output.line(of_cut(cut))?;
        }
        context.output.line(format!("{} line(s), every link holds; the chain ends at {head}", head.seq))?;
        if self.only_chain {
            return Ok(());
        }
        let removed = match proof.removed {
            0 => String::new(),
            count => format!("; {count} more log(s) were removed by gc"),
        };
        context.output.line(format!(
            "{} task(s): their journals, plans, records, history and {} log(s) are what was recorded{removed}",
            proof.tasks, proof.logs
        ))
    }
}

/// Says what is wrong with the chain itself.
fn of_chain(context: &Context, chain: &Verified, known: Option<Head>) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let mut find = |path: std::path::PathBuf, expected: String, found: String| {
        findings.push(Finding { path, task: None, difference: Difference { expected, found } });
    };
    let (dir, end) = (context.layout.audit(), chain.head.seq);
    if let Some((path, number, fault)) = &chain.broken {
        let path = std::path::PathBuf::from(format!("{}:{number}", path.display()));
        find(path, format!("the line that follows line {end}"), fault.to_string());
        return Ok(findings);
    }
    if let Some(known) = known.filter(|_| !chain.passes) {
        let found = format!("one that does not, and ends at line {end}: its end was cut off or written anew");
        find(dir.clone(), format!("a chain that passes through {known}"), found);
    }
    if chain.unfinished && !tasks::daemon_runs(context)? {
        let found = "an incomplete line, and no daemon that is writing it".to_owned();
        find(dir.clone(), format!("nothing after line {end}"), found);
    }
    match chain.last {
        LastKnown::Passes => {}
        LastKnown::Differs(last) => {
            let found = format!("one that does not, and ends at line {end}: lines were removed");
            find(dir, format!("a chain that passes through {last}, where the daemon wrote last that it ended"), found);
        }
        // Whoever kept a head elsewhere needs no other.
        LastKnown::Lost if known.is_some() || chain.head == Head::default() => {}
        LastKnown::Lost => {
            let found = format!("none: nobody can tell whether lines after line {end} were removed");
            find(context.layout.audit_head(), "where the chain ended last".to_owned(), found);
        }
    }
    Ok(findings)
}

/// Says everything that was found, and fails.
fn failure(context: &Context, findings: &[Finding], more: u64) -> Result<Failure, Failure> {
    if context.output.json {
        let value = |finding: &Finding| {
            let Difference { expected, found } = &finding.difference;
            json!({"file": finding.path, "task": finding.task, "expected": expected, "found": found})
        };
        let all: Vec<Value> = findings.iter().map(value).collect();
        context.output.object(json!({"ok": false, "findings": all, "more": more}))?;
    }
    let mut lines: Vec<String> = findings.iter().take(LISTED_MAX).map(line).collect();
    let rest = (findings.len() as u64).saturating_add(more).saturating_sub(lines.len() as u64);
    if rest > 0 {
        lines.push(format!("and {rest} more"));
    }
    let failure = Failure::new(Kind::Changed, lines.join("\n"));
    if tasks::daemon_runs(context)? {
        return Ok(failure);
    }
    Ok(failure.hint("what a killed daemon left unfinished the next one writes: start it, and verify again"))
}

fn line(finding: &Finding) -> String {
    let Difference { expected, found } = &finding.difference;
    format!("{}: expected {expected}, found {found}", visible(&finding.path.display().to_string()))
}

/// Fails while there are cuts of which nobody took note.
fn unacknowledged(context: &Context, cuts: &[Cut]) -> Result<(), Failure> {
    let open: Vec<&Cut> = cuts.iter().filter(|cut| cut.acknowledged.is_none()).collect();
    let Some(first) = open.first() else { return Ok(()) };
    if context.output.json {
        let value = |cut: &&Cut| json!({"line": cut.line.seq, "at": cut.line.entry.at, "what": cut.line.entry.detail});
        context.output.object(json!({"ok": false, "cuts": open.iter().map(value).collect::<Vec<_>>()}))?;
    }
    let said: Vec<String> = open.iter().map(|cut| of_cut(cut)).collect();
    let hint = format!("spoolgate audit acknowledge {} --reason …, when it is known who did it", first.line.seq);
    Err(Failure::new(Kind::Changed, said.join("\n")).hint(hint))
}

/// Says what was removed, and who took note of it.
fn of_cut(cut: &Cut) -> String {
    let entry = &cut.line.entry;
    let what = visible(entry.detail.as_deref().unwrap_or_default());
    let noted = cut.acknowledged.as_ref().map_or(String::new(), |line| {
        let by = line.entry.by.as_ref().map_or_else(|| "the daemon".to_owned(), ToString::to_string);
        let reason = visible(line.entry.detail.as_deref().unwrap_or_default());
        format!("; {by} took note of it at {}: {reason}", line.entry.at)
    });
    format!("line {}, noticed at {}: {what}{noted}", cut.line.seq, entry.at)
}
