//! What an act on tasks will do, as things stand.
//!
//! **Invariant:** pure; counts what the daemon will count when it obeys.

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::domain::order::{Which, Wish};
use crate::domain::run::Run;
use crate::domain::run::lane::Next;
use crate::shells::dashboard::can::is_sent;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::look::Mark;
use crate::shells::dashboard::table::Table;
use crate::shells::dashboard::words::fill;

/// Says what an act will do, as things stand.
pub(super) fn consequences(cx: Context<'_>, targets: &[TaskId], wish: &Wish) -> Vec<String> {
    let words = cx.words;
    let mut sentences = Vec::new();
    for run in targets.iter().filter_map(|id| cx.world.run(*id)) {
        let table = Table::of(run, cx.world.now());
        let running = table.count(Mark::Runs).to_string();
        let waiting = table.count(Mark::Waits).saturating_add(table.count(Mark::Asks)).to_string();
        let bad = table.count(Mark::Failed).saturating_add(table.count(Mark::Lost)).to_string();
        sentences.push(match wish {
            Wish::Approve { .. } | Wish::Acknowledge { .. } => continue,
            Wish::Reject => fill(words.will_reject, &[]),
            Wish::Withdraw => fill(words.will_withdraw, &[]),
            Wish::Cancel { hosts } if hosts.is_empty() => fill(words.will_cancel, &[&running, &waiting]),
            Wish::Cancel { hosts } => fill(words.will_cancel_hosts, &[&hosts.len().to_string()]),
            Wish::CancelBatch { group, batch } => {
                fill(words.will_cancel_hosts, &[&in_batch(run, *group, *batch).to_string()])
            }
            Wish::Hold => fill(words.will_hold, &[&running, &waiting]),
            Wish::Release => fill(words.will_release, &[]),
            Wish::Continue { group, batch } => {
                fill(words.will_continue, &[&batch.to_string(), &in_batch(run, *group, *batch).to_string()])
            }
            Wish::ReleaseStep { step, hosts } => {
                let at =
                    asking(run).iter().filter(|(name, _)| name == step).map(|(_, hosts)| hosts.len()).sum::<usize>();
                let count = if hosts.is_empty() { at } else { hosts.len() };
                fill(words.will_release_step, &[step.as_str(), &count.to_string()])
            }
            Wish::Retry { which: Which::Hosts(hosts), step: Some(step), again: true } => {
                fill(words.will_retry_twice, &[&hosts.len().to_string(), step.as_str()])
            }
            Wish::Retry { again: true, .. } => fill(words.will_retry_unknown, &[&bad]),
            Wish::Retry { which: Which::Failed, .. } => fill(words.will_retry, &[&bad]),
            Wish::Retry { which: Which::Unfinished, .. } => {
                let all = run.lanes.len().saturating_sub(table.count(Mark::Ok));
                fill(words.will_retry_unfinished, &[&all.to_string()])
            }
            Wish::Retry { which: Which::Hosts(hosts), step: None, .. } => {
                fill(words.will_retry_hosts, &[&hosts.len().to_string()])
            }
            Wish::Retry { which: Which::Hosts(hosts), step: Some(step), .. } => {
                fill(words.will_retry_from, &[&hosts.len().to_string(), step.as_str()])
            }
            Wish::Skip { step, hosts } => fill(words.will_skip, &[step.as_str(), &hosts.len().to_string()]),
        });
        if matches!(wish, Wish::Cancel { .. }) && !run.lanes.iter().any(is_sent) {
            sentences.push(words.nothing_begun.to_owned());
        }
    }
    sentences.dedup();
    sentences
}

/// How many hosts a batch has.
fn in_batch(run: &Run, group: GroupNo, batch: u32) -> usize {
    run.lanes.iter().filter(|lane| (lane.group, lane.batch) == (group, batch)).count()
}

/// The steps that wait for somebody, each with its hosts.
pub(super) fn asking(run: &Run) -> Vec<(StepName, Vec<HostName>)> {
    let mut found: Vec<(StepName, Vec<HostName>)> = Vec::new();
    for lane in &run.lanes {
        let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
        if let Next::Asks { step } = lane.next_step(planned, run.timed_at()) {
            let name = &planned[step].name;
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, hosts)) => hosts.push(lane.host.clone()),
                None => found.push((name.clone(), vec![lane.host.clone()])),
            }
        }
    }
    found
}
