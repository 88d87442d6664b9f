//! `ls`: tasks in lines. Floor 4.
//!
//! **Invariant:** finished tasks are listed from the history's index, the others from their journals.

use std::collections::BTreeMap;

use clap::Args;
use unicode_width::UnicodeWidthChar as _;

use crate::adapters::config;
use crate::adapters::spool::past::{Past, Wanted};
use crate::adapters::spool::reader::{self, Follower};
use crate::base::ids::{HostName, TaskId};
use crate::base::text::visible;
use crate::base::time::Zone;
use crate::domain::outcome::Outcome;
use crate::domain::run::{Run, TaskState};
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::Failure;
use crate::shells::cli::tasks::{self, Known};

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Ls {
    /// Only tasks in these states.
    #[arg(long = "in", value_name = "STATE", value_delimiter = ',', value_parser = ["new", "ready", "running", "done"])]
    states: Vec<String>,
    /// Only tasks that this user submitted.
    #[arg(long)]
    by: Option<String>,
    /// How many finished tasks to list, newest first.
    #[arg(long, default_value_t = 20)]
    done: usize,
    /// Print tab-separated columns without a heading: number, state, name, task name, submitter, hosts ended of all,
    /// time (UTC), `held` or nothing, `unproved` or nothing.
    #[arg(long)]
    plain: bool,
}

/// One task in a line.
#[derive(Debug, serde::Serialize)]
struct Row {
    id: TaskId,
    state: &'static str,
    outcome: Option<Outcome>,
    name: String,
    task_name: String,
    submitter: String,
    accepted_at: crate::base::time::Timestamp,
    hosts: usize,
    /// Nothing where it is for others.
    hosts_ended: Option<usize>,
    approvals_missing: u32,
    /// Whether nothing more of it starts until somebody releases it.
    held: bool,
    /// Whether somebody else may have put its file where it lay.
    unproved: bool,
}

impl Row {
    /// How many hosts have ended, of how many.
    fn hosts(&self) -> String {
        format!("{}/{}", self.hosts_ended.map_or("-".to_owned(), |ended| ended.to_string()), self.hosts)
    }
}

impl Ls {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut rows = rows(context, self.done)?;
        rows.retain(|row| self.states.is_empty() || self.states.iter().any(|state| state == row.state));
        rows.retain(|row| self.by.as_ref().is_none_or(|by| *by == row.submitter));
        if context.output.json {
            return context.output.object(serde_json::json!({ "tasks": rows }));
        }
        let zone = config::time_zone(&context.dirs.config).unwrap_or_else(Zone::system);
        if !self.plain {
            let width = if context.output.is_terminal() { crossterm::terminal::size().ok() } else { None };
            for line in table(&rows, &zone, width.map(|(columns, _)| usize::from(columns))) {
                context.output.line(line)?;
            }
            return Ok(());
        }
        for row in &rows {
            let state = row.outcome.map_or(row.state, Outcome::word);
            let name = visible(&row.task_name);
            let (by, at, held) = (&row.submitter, row.accepted_at, if row.held { "held" } else { "" });
            let unproved = if row.unproved { "unproved" } else { "" };
            let hosts = row.hosts();
            context
                .output
                .line(format!("{}\t{state}\t{}\t{name}\t{by}\t{hosts}\t{at}\t{held}\t{unproved}", row.id, row.name))?;
        }
        Ok(())
    }
}

/// The least that is kept of names where there is little room.
const NAME_MIN: usize = 12;

/// Writes tasks in columns, as wide as the terminal; the name is the one that verbs take.
fn table(rows: &[Row], zone: &Zone, width: Option<usize>) -> Vec<String> {
    let head = ["ID", "STATE", "NAME", "TASK", "BY", "HOSTS", "ACCEPTED"].map(str::to_owned);
    let narrow = width.is_some_and(|width| width < 120);
    let cells = |row: &Row| {
        let state = row.outcome.map_or(row.state, Outcome::word);
        let held = if row.held { ", held" } else { "" };
        let unproved = if row.unproved { ", unproved" } else { "" };
        let needs =
            if row.approvals_missing > 0 { format!(" (needs {})", row.approvals_missing) } else { String::new() };
        let at = row.accepted_at.in_zone(zone);
        // On a narrow terminal the day and the minute are enough.
        let at = if narrow { at.get(..16).unwrap_or(&at).to_owned() } else { at };
        [
            row.id.to_string(),
            format!("{state}{held}{unproved}{needs}"),
            visible(&row.name),
            visible(&row.task_name),
            row.submitter.clone(),
            row.hosts(),
            at,
        ]
    };
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let mut widths = [0; 7];
    for line in &lines {
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cells_of(cell).max(*width));
    }
    // What does not fit is taken from the task's title and from who submitted it; the name comes last.
    let mut over = width.map_or(0, |width| widths.iter().sum::<usize>().saturating_add(2 * 6).saturating_sub(width));
    for (column, least) in [(3, NAME_MIN), (4, 6), (3, 4), (4, 0), (2, NAME_MIN), (2, 4)] {
        let taken = over.min(widths[column].saturating_sub(least));
        widths[column] = widths[column].saturating_sub(taken);
        over = over.saturating_sub(taken);
    }
    let line = |line: &[String; 7]| {
        let kept = line.iter().zip(widths).filter(|(_, width)| *width > 0);
        let cells = kept.map(|(cell, width)| fit(cell, width)).collect::<Vec<_>>();
        cells.join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

fn cells_of(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

fn rows(context: &Context, done_max: usize) -> Result<Vec<Row>, Failure> {
    let mut past = Past::default();
    past.look(&context.layout)?;
    let mut rows: Vec<Row> = Vec::new();
    for line in past.part(&Wanted { rows: done_max, ..Wanted::default() }).lines {
        rows.push(Row {
            id: line.id,
            state: TaskState::Done.word(),
            outcome: Some(line.outcome),
            name: line.name.clone(),
            task_name: line.task_name.clone(),
            submitter: line.submitter.user.clone(),
            accepted_at: line.accepted_at,
            hosts: line.hosts,
            hosts_ended: Some(line.hosts_ended()),
            approvals_missing: 0,
            held: false,
            unproved: false,
        });
    }
    for id in reader::task_ids(&context.layout)?.into_iter().filter(|id| !past.has_ended(*id)) {
        // One task that cannot be read hides no other.
        match Follower::open(&context.layout, id) {
            Ok((follower, _)) => rows.extend(follower.run().map(row)),
            Err(error) if error.is_denied() => {
                rows.extend(tasks::known(context, id).map(|known| row_of_known(id, known)));
            }
            Err(error) => context.output.say(format!("task {id} cannot be read: {error}")),
        }
    }
    rows.sort_by_key(|row| row.id);
    Ok(rows)
}

fn row(run: &Run) -> Row {
    let (hosts_ended, hosts) = hosts(run);
    Row {
        id: run.id,
        state: run.state().word(),
        outcome: match run.stage {
            crate::domain::run::Stage::Done { outcome, .. } => Some(outcome),
            _ => None,
        },
        name: run.accepted.name.clone(),
        task_name: run.plan.task_name.clone(),
        submitter: run.accepted.by.user.clone(),
        accepted_at: run.accepted_at,
        hosts,
        hosts_ended: Some(hosts_ended),
        approvals_missing: run.approvals_missing(),
        held: run.held().is_some(),
        unproved: run.accepted.unproved,
    }
}

/// The line of a task of which no more than this may be seen.
fn row_of_known(id: TaskId, known: Known) -> Row {
    Row {
        id,
        state: known.state.word(),
        outcome: known.outcome,
        name: known.name,
        task_name: known.task_name,
        submitter: known.submitter.user,
        accepted_at: known.accepted_at,
        hosts: known.hosts,
        hosts_ended: None,
        approvals_missing: 0,
        held: false,
        unproved: known.unproved,
    }
}

/// Counts the hosts that have come to an end of their own, good or bad, and all of them. While a task runs, a host of two groups
/// has two ends to come to.
fn hosts(run: &Run) -> (usize, usize) {
    let done = run.state() == TaskState::Done;
    let mut hosts: BTreeMap<&HostName, bool> = BTreeMap::new();
    for lane in &run.lanes {
        let ended = lane.outcome() != Outcome::Skipped && (done || lane.open_step().is_none());
        let known = hosts.entry(&lane.host).or_insert(ended);
        *known = if done { *known || ended } else { *known && ended };
    }
    (hosts.values().filter(|ended| **ended).count(), hosts.len())
}

/// Cuts or pads a text to so many cells of a terminal, in which Chinese characters take two.
pub(in crate::shells) fn fit(text: &str, cells: usize) -> String {
    let width = |c: char| c.width().unwrap_or(0);
    let total: usize = text.chars().map(width).sum();
    let mut fitted = String::new();
    let mut used = 0_usize;
    let room = if total > cells { cells.saturating_sub(1) } else { cells };
    for c in text.chars() {
        if used.saturating_add(width(c)) > room {
            break;
        }
        fitted.push(c);
        used = used.saturating_add(width(c));
    }
    if total > cells {
        fitted.push('~');
        used = used.saturating_add(1);
    }
    fitted.extend(std::iter::repeat_n(' ', cells.saturating_sub(used)));
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_wide_as_the_terminal_and_names_what_verbs_take() {
        let row = |id: u64, name: &str, task_name: &str| Row {
            id: TaskId(id),
            state: "running",
            outcome: None,
            name: name.to_owned(),
            task_name: task_name.to_owned(),
            submitter: "a-user-with-a-name".to_owned(),
            accepted_at: crate::base::time::Timestamp(1_795_231_850_000),
            hosts: 10,
            hosts_ended: Some(6),
            approvals_missing: 0,
            held: id == 7,
            unproved: false,
        };
        let rows = [row(7, "nightly-backup", "夜间备份 of every database and every file"), row(1042, "pay", "发布")];
        for width in [60, 80, 100, 120, 200] {
            let lines = table(&rows, &Zone::utc(), Some(width));
            assert!(lines.iter().all(|line| cells_of(line) <= width), "{width}: {lines:#?}");
            assert!(
                lines[0].starts_with("ID    STATE          NAME") && lines[2].contains("pay"),
                "{width}: {lines:#?}"
            );
        }
        let wide = table(&rows, &Zone::utc(), None);
        assert!(
            wide[1].contains("nightly-backup  夜间备份 of every database and every file  a-user-with-a-name  6/10")
        );
        assert!(wide[1].ends_with("+00:00") && wide[1].contains("running, held "), "{wide:#?}");
        let narrow = table(&rows, &Zone::utc(), Some(80));
        assert!(narrow[1].contains("nightly-backup"), "{narrow:#?}");
    }

    #[test]
    fn chinese_names_keep_columns_straight() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("发布", 5), "发布 ");
        assert_eq!(fit("发布任务", 5), "发布~");
        assert_eq!(fit("发布任务", 6), "发布~ ");
        assert_eq!(fit("abcdef", 5), "abcd~");
    }
}
