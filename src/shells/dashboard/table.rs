//! A running task in numbers: steps by hosts, what stands where, and why hosts fail.
//!
//! **Invariant:** pure; counts every lane once. Hosts in the same state can be folded into one row, hosts that failed,
//! were lost or wait for somebody never are.

use std::collections::BTreeMap;

use crate::base::ids::GroupNo;
use crate::base::time::Timestamp;
use crate::domain::outcome::{Ending, Outcome};
use crate::domain::plan::{PlannedGroup, PlannedStep};
use crate::domain::run::lane::{Lane, Next};
use crate::domain::run::{Run, StepState, TaskState};
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::look::Mark;
use crate::shells::dashboard::words::{Lang, Words, names};

/// From how many hosts on those in the same state share a row.
const FOLD_FROM: usize = 60;
/// How many of the slowest hosts have a row of their own.
const SLOWEST: usize = 10;

/// A task in numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) steps: Vec<StepLine>,
    pub(super) lanes: Vec<LaneLine>,
    /// How many hosts stand so, by [`Mark::ALL`].
    pub(super) counts: [usize; Mark::ALL.len()],
    /// Why hosts fail, the most frequent first.
    pub(super) reasons: Vec<(String, Vec<usize>)>,
    /// How long it may still take, where that can be said.
    pub(super) left_ms: Option<i64>,
}

/// One step over all its hosts.
#[derive(Clone, Debug)]
pub(super) struct StepLine {
    pub(super) group: GroupNo,
    pub(super) name: String,
    pub(super) counts: [usize; Mark::ALL.len()],
    pub(super) p50_ms: Option<i64>,
    pub(super) max_ms: Option<i64>,
}

/// One host's way through its group.
#[derive(Clone, Debug)]
pub(super) struct LaneLine {
    pub(super) marks: Vec<Mark>,
    pub(super) mark: Mark,
    /// The step it is at, or was at last.
    pub(super) step: Option<usize>,
    /// How long that step took, or takes until now.
    pub(super) took_ms: Option<i64>,
}

/// Returns where a mark is counted.
pub(super) fn slot(mark: Mark) -> usize {
    Mark::ALL.iter().position(|known| *known == mark).unwrap_or(0)
}

impl Table {
    /// Counts a task as it stands at `now`.
    pub(super) fn of(run: &Run, now: Timestamp) -> Table {
        let mut table = Table::default();
        let mut first: BTreeMap<GroupNo, usize> = BTreeMap::new();
        let mut times: Vec<Vec<i64>> = Vec::new();
        let shown = shown_parts(run);
        for group in &run.plan.groups {
            first.insert(group.number, table.steps.len());
            let shown = &shown[&group.number];
            for (step, _) in group.steps.iter().zip(shown).filter(|(_, shown)| **shown) {
                let counts = [0; Mark::ALL.len()];
                let name = step.name.to_string();
                table.steps.push(StepLine { group: group.number, name, counts, p50_ms: None, max_ms: None });
                times.push(Vec::new());
            }
        }
        let mut reasons: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (n, lane) in run.lanes.iter().enumerate() {
            let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            let shown = &shown[&lane.group];
            let line = lane_line(lane, planned, shown, run, now);
            let at = first.get(&lane.group).copied().unwrap_or(0);
            let steps = lane.steps.iter().zip(shown).filter(|(_, shown)| **shown);
            for (column, (mark, (step, _))) in line.marks.iter().zip(steps).enumerate() {
                table.steps[at.saturating_add(column)].counts[slot(*mark)] =
                    table.steps[at.saturating_add(column)].counts[slot(*mark)].saturating_add(1);
                if let StepState::Ended(result) = &step.state {
                    times[at.saturating_add(column)].push(result.ended.0.saturating_sub(result.started.0));
                }
            }
            table.counts[slot(line.mark)] = table.counts[slot(line.mark)].saturating_add(1);
            if matches!(line.mark, Mark::Failed | Mark::Lost) {
                reasons.entry(reason(Lang::En.words(), lane)).or_default().push(n);
            }
            table.lanes.push(line);
        }
        for (step, mut times) in table.steps.iter_mut().zip(times) {
            times.sort_unstable();
            step.p50_ms = times.get(times.len() / 2).copied();
            step.max_ms = times.last().copied();
        }
        table.reasons = reasons.into_iter().collect();
        table.reasons.sort_by_key(|(_, lanes)| std::cmp::Reverse(lanes.len()));
        table
    }

    /// Returns how many hosts stand so.
    pub(super) fn count(&self, mark: Mark) -> usize {
        self.counts[slot(mark)]
    }
}

/// Says of each group which of its steps are shown: handlers and rollbacks only where a host needed them.
fn shown_parts(run: &Run) -> BTreeMap<GroupNo, Vec<bool>> {
    let of = |group: &PlannedGroup| (group.number, group.steps.iter().map(|step| step.part.is_step()).collect());
    let mut shown: BTreeMap<GroupNo, Vec<bool>> = run.plan.groups.iter().map(of).collect();
    let has_parts = run.plan.groups.iter().flat_map(|group| &group.steps).any(|step| !step.part.is_step());
    for lane in run.lanes.iter().filter(|_| has_parts) {
        if let Some(shown) = shown.get_mut(&lane.group) {
            shown.iter_mut().zip(&lane.steps).for_each(|(shown, step)| *shown |= step.is_shown());
        }
    }
    shown
}

fn lane_line(lane: &Lane, planned: &[PlannedStep], shown: &[bool], run: &Run, now: Timestamp) -> LaneLine {
    let next = lane.next_step(planned, run.timed_at());
    let done = run.state() == TaskState::Done;
    let over = done || lane.is_over(planned, run.timed_at());
    let mut line = LaneLine { marks: Vec::new(), mark: Mark::Waits, step: None, took_ms: None };
    for (n, (step, _)) in lane.steps.iter().zip(shown).enumerate().filter(|(_, (_, shown))| **shown) {
        let mark = match &step.state {
            StepState::Waiting if next == (Next::Asks { step: n }) && run.state() == TaskState::Running => {
                line.step = Some(n);
                Mark::Asks
            }
            StepState::Waiting if over || lane.stopped || !step.is_step() => Mark::Skipped,
            StepState::Waiting => Mark::Waits,
            StepState::Skipped(_) => Mark::Skipped,
            StepState::Open { since, unconfirmed, unreachable, .. } => {
                line.step = Some(n);
                line.took_ms = Some(now.0.saturating_sub(since.0));
                if unconfirmed.is_some() || unreachable.is_some() { Mark::Lost } else { Mark::Runs }
            }
            StepState::Ended(result) => {
                line.step = Some(n);
                line.took_ms = Some(result.ended.0.saturating_sub(result.started.0));
                Mark::of(result.ending.outcome())
            }
        };
        line.marks.push(mark);
    }
    let worst = line.marks.iter().copied().max().unwrap_or(Mark::Waits);
    // Of a task that has ended its record says what a host came to.
    let left = lane.stopped || (done && lane.outcome() == Outcome::Skipped);
    let all_done = line.marks.iter().all(|mark| matches!(mark, Mark::Ok | Mark::Skipped));
    line.mark = match worst {
        Mark::Failed | Mark::Lost | Mark::Runs | Mark::Asks => worst,
        _ if all_done && line.marks.contains(&Mark::Ok) && !left => Mark::Ok,
        _ if all_done => Mark::Skipped,
        _ => Mark::Waits,
    };
    // A retried step that runs again is no failure while it runs.
    if let (Mark::Failed, Some(_)) = (line.mark, lane.open_step()) {
        line.mark = Mark::Runs;
    }
    line
}

/// Returns how one lane of a task stands at `now`.
pub(super) fn line_of(run: &Run, n: usize, now: Timestamp) -> Option<LaneLine> {
    let lane = run.lanes.get(n)?;
    let group = run.plan.group(lane.group)?;
    Some(lane_line(lane, &group.steps, shown_parts(run).get(&lane.group)?, run, now))
}

/// Returns what is known of an ending beside its word.
pub(super) fn ending_detail(ending: &Ending) -> Option<&str> {
    match ending {
        Ending::NotAllDone(why)
        | Ending::Died(why)
        | Ending::Unreachable(why)
        | Ending::NotSent(why)
        | Ending::Lost(why)
        | Ending::KillUnconfirmed(why) => Some(why),
        _ => None,
    }
}

/// Says why a host failed; hosts with the same sentence count as one reason.
pub(super) fn reason(words: &Words, lane: &Lane) -> String {
    let bad = lane.steps.iter().rev().find_map(|step| match &step.state {
        StepState::Ended(result) if result.ending != Ending::Exit(0) => Some(&result.ending),
        _ => None,
    });
    match bad {
        Some(bad) => match ending_detail(bad) {
            // Numbers and names differ from host to host; the first words say what kind it is.
            Some(detail) => format!("{}: {}", names::ending(words, bad), detail.replace(lane.host.as_str(), "HOST")),
            None => names::ending(words, bad),
        },
        None => doubt(words, lane),
    }
}

/// Says why nobody knows how the step fares that is open on a host.
pub(super) fn doubt(words: &Words, lane: &Lane) -> String {
    let open = lane.open_step().map(|n| &lane.steps[n].state);
    let ended = matches!(open, Some(StepState::Open { unconfirmed: Some(_), .. }) | None);
    if ended { words.kill_unconfirmed.to_owned() } else { words.out_of_reach.to_owned() }
}

/// How rows of hosts are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Failures, then the slowest, then folded groups.
    #[default]
    Worst,
    /// As the plan names them.
    Plan,
    /// The slowest first.
    Slowest,
}

impl Order {
    pub(super) fn next(self) -> Order {
        match self {
            Order::Worst => Order::Plan,
            Order::Plan => Order::Slowest,
            Order::Slowest => Order::Worst,
        }
    }
}

/// What hosts are shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) order: Order,
    pub(super) failed_only: bool,
    /// Only these lanes.
    pub(super) only: Option<Vec<usize>>,
    /// Only hosts with this text in their names.
    pub(super) filter: String,
    /// Folds that were opened.
    pub(super) unfolded: std::collections::BTreeSet<RowKey>,
}

/// One row of the hosts of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostRow {
    Lane(usize),
    /// Several hosts in the same state.
    Fold {
        key: RowKey,
        lanes: Vec<usize>,
        open: bool,
    },
}

/// What a row is known by while its place changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    Lane(usize),
    Fold(GroupNo, Vec<Mark>),
}

impl RowKey {
    /// The lane, when it is one.
    pub(super) fn lane(&self) -> Option<usize> {
        match self {
            RowKey::Lane(lane) => Some(*lane),
            RowKey::Fold(..) => None,
        }
    }
}

impl HostRow {
    /// What the row is known by.
    pub(super) fn key(&self) -> RowKey {
        match self {
            HostRow::Lane(lane) => RowKey::Lane(*lane),
            HostRow::Fold { key, .. } => key.clone(),
        }
    }
}

/// Chooses the rows to show.
pub(super) fn host_rows(run: &Run, table: &Table, shape: &Shape) -> Vec<HostRow> {
    let bad = |lane: usize| matches!(table.lanes[lane].mark, Mark::Failed | Mark::Lost | Mark::Asks);
    let filter = shape.filter.to_lowercase();
    let named = |lane: &usize| filter.is_empty() || matches(run.lanes[*lane].host.as_str(), &filter);
    let mut lanes: Vec<usize> = match &shape.only {
        Some(only) => only.iter().copied().filter(|lane| *lane < table.lanes.len()).collect(),
        None => (0..table.lanes.len()).collect(),
    };
    lanes.retain(|lane| named(lane) && (!shape.failed_only || bad(*lane)));
    let time = |lane: usize| table.lanes[lane].took_ms.unwrap_or(-1);
    match shape.order {
        Order::Plan => {}
        Order::Slowest => lanes.sort_by_key(|lane| std::cmp::Reverse(time(*lane))),
        // What needs nobody stays where the plan has it, so that rows do not jump while hosts come to their end.
        Order::Worst => lanes.sort_by_key(|lane| !bad(*lane)),
    }
    if lanes.len() <= FOLD_FROM || shape.order != Order::Worst {
        return lanes.into_iter().map(HostRow::Lane).collect();
    }
    let mut running: Vec<usize> = lanes.iter().copied().filter(|lane| table.lanes[*lane].mark == Mark::Runs).collect();
    running.sort_by_key(|lane| std::cmp::Reverse(time(*lane)));
    running.truncate(SLOWEST);
    let alone: std::collections::BTreeSet<usize> = running.iter().copied().collect();
    let mut rows: Vec<HostRow> = lanes.iter().copied().filter(|lane| bad(*lane)).map(HostRow::Lane).collect();
    rows.extend(running.into_iter().map(HostRow::Lane));
    let mut folds: BTreeMap<(GroupNo, Vec<Mark>), Vec<usize>> = BTreeMap::new();
    for lane in lanes.into_iter().filter(|lane| !bad(*lane) && !alone.contains(lane)) {
        folds.entry((run.lanes[lane].group, table.lanes[lane].marks.clone())).or_default().push(lane);
    }
    for ((group, marks), mut lanes) in folds {
        lanes.sort_unstable();
        if let [lane] = lanes[..] {
            rows.push(HostRow::Lane(lane));
            continue;
        }
        let key = RowKey::Fold(group, marks);
        let open = shape.unfolded.contains(&key);
        let inner = if open { lanes.clone() } else { Vec::new() };
        rows.push(HostRow::Fold { key, lanes, open });
        rows.extend(inner.into_iter().map(HostRow::Lane));
    }
    rows
}

/// Returns the marks of a map of at most `room` cells, each the worst of as many lanes, and how many that is.
pub(super) fn heat(table: &Table, room: usize) -> (Vec<Mark>, usize) {
    let each = table.lanes.len().div_ceil(room.max(1)).max(1);
    // A host that is done hides none that still waits.
    let rank = |mark: Mark| if mark == Mark::Waits { Mark::Waits } else { mark };
    let cells = table
        .lanes
        .chunks(each)
        .map(|lanes| lanes.iter().map(|lane| lane.mark).max_by_key(|mark| rank(*mark)).unwrap_or(Mark::Waits));
    (cells.collect(), each)
}
