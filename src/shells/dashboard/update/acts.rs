//! Acts on tasks: from a key to a question, from the answer to an order.
//!
//! **Invariant:** pure. An order is what everybody's is: a file whose owner is the actor, which the daemon checks again.

use crate::base::ids::{HostName, StepName, TaskId};
use crate::domain::order::{Order, Which, Wish};
use crate::domain::run::lane::{Lane, Next};
use crate::domain::run::{Run, StepState, TaskState};
use crate::engine::DropBox;
use crate::shells::dashboard::can;
use crate::shells::dashboard::consequences::asking;
use crate::shells::dashboard::dialog::{Approval, Choose, Chosen, Confirm, Dialog};
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::look::{Mark, Tone};
use crate::shells::dashboard::message::Command;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::screen::ScreenEvent;
use crate::shells::dashboard::table::Table;
use crate::shells::dashboard::update::forms;
use crate::shells::dashboard::words::fill;

/// Opens the question of an act.
pub(super) fn begin(model: &mut Model, action: Action) -> Vec<Command> {
    if action == Action::New {
        forms::choose(model);
        return Vec::new();
    }
    let targets = model.targets().tasks();
    let Some(first) = targets.first().copied() else {
        model.ui.say(model.ui.look.words.no_task, Tone::Warn);
        return Vec::new();
    };
    if targets.len() == 1 && !model.world.runs().contains_key(&first) && action != Action::Approve {
        model.ui.say(model.ui.look.words.reading, Tone::Dim);
        return Vec::new();
    }
    let alone = matches!(
        action,
        Action::Hold | Action::Release | Action::Retry | Action::RetryUnknown | Action::Skip | Action::SameTemplate
    );
    if alone && targets.len() > 1 {
        model.ui.say(model.ui.look.words.one_at_a_time, Tone::Warn);
        return Vec::new();
    }
    match action {
        Action::Approve => approve(model, targets),
        Action::Reject => confirm(model, targets, Wish::Reject),
        Action::Withdraw => confirm(model, targets, Wish::Withdraw),
        Action::Cancel => cancel(model, targets),
        Action::Hold => {
            let held = model.world.run(first).is_some_and(|run| run.held().is_some());
            confirm(model, targets, if held { Wish::Release } else { Wish::Hold });
        }
        Action::Release => release(model, first),
        Action::Retry => {
            let hosts = model.targets().hosts;
            if hosts.is_empty() {
                retry_choices(model, first);
            } else {
                let which = Which::Hosts(hosts);
                let again = model.world.run(first).is_some_and(|run| can::runs_again(run, &which));
                confirm(model, targets, Wish::Retry { which, step: None, again });
            }
        }
        Action::RetryUnknown => {
            let well = |run: &Run| !run.lanes.iter().any(|lane| can::could_be_better(run, lane));
            if model.world.run(first).is_some_and(|run| can::has_begun(run) && well(run)) {
                model.ui.say(model.ui.look.words.all_well, Tone::Warn);
                return Vec::new();
            }
            confirm(model, targets, Wish::Retry { which: Which::Failed, step: None, again: true });
        }
        Action::Skip => skip(model, first),
        Action::SameTemplate => forms::same(model, first),
        _ => {}
    }
    Vec::new()
}

/// Cancels tasks, or the work on the hosts that are selected.
fn cancel(model: &mut Model, targets: Vec<TaskId>) {
    let hosts = model.targets().hosts;
    let words = model.ui.look.words;
    let whole = Wish::Cancel { hosts: Vec::new() };
    if let [id] = targets[..]
        && let Some(why) = model.world.run(id).and_then(|run| can::why_not(model.context(), run, &whole))
    {
        model.ui.say(why, Tone::Warn);
        return;
    }
    match (&targets[..], model.targets().host) {
        (&[id], Some(host)) if hosts.is_empty() => {
            let mut items = vec![
                (words.cancel_all.to_owned(), Chosen::Wish(id, whole)),
                (
                    fill(words.cancel_host, &[host.as_str()]),
                    Chosen::Wish(id, Wish::Cancel { hosts: vec![host.clone()] }),
                ),
            ];
            let lanes = model.world.run(id).into_iter().flat_map(|run| {
                let sliced = |lane: &&Lane| run.plan.group(lane.group).is_some_and(|group| group.batches.len() > 1);
                run.lanes.iter().filter(sliced)
            });
            for lane in lanes.filter(|lane| lane.host == host) {
                let label = fill(words.cancel_batch, &[&lane.batch.to_string(), &lane.group.to_string()]);
                let wish = Wish::CancelBatch { group: lane.group, batch: lane.batch };
                items.push((label, Chosen::Wish(id, wish)));
            }
            offer(model, words.cancel_what, items, words.no_task);
        }
        _ => confirm(model, targets, Wish::Cancel { hosts }),
    }
}

/// Opens the question whether a plan may run.
pub(super) fn approve(model: &mut Model, mut targets: Vec<TaskId>) {
    let is_new = |id: &TaskId| match (model.world.run(*id), model.world.tasks().get(id)) {
        (Some(run), _) => run.state() == TaskState::New,
        (None, task) => task.is_some_and(|task| task.state == TaskState::New),
    };
    let first = targets.first().and_then(|id| model.world.run(*id));
    let wish = |run: &Run| Wish::Approve { digest: run.digest, start: None, until: None };
    let why = first.and_then(|run| can::why_not(model.context(), run, &wish(run)));
    targets.retain(is_new);
    if targets.is_empty() {
        model.ui.say(why.unwrap_or_else(|| model.ui.look.words.reading.to_owned()), Tone::Warn);
        return;
    }
    let first = targets.remove(0);
    model.ui.queue = targets;
    model.ui.dialog = Some(Dialog::Approve(Approval::of(first, model.world.now())));
}

/// Opens the question whether something is to be done, with what it would do.
pub(super) fn confirm(model: &mut Model, mut targets: Vec<TaskId>, wish: Wish) {
    if model.ui.readonly {
        model.ui.say(model.ui.look.words.readonly, Tone::Warn);
        return;
    }
    // Of several, those are asked about with which it can be done.
    let reason = |id: &TaskId| model.world.run(*id).and_then(|run| can::why_not(model.context(), run, &wish));
    let why = targets.first().and_then(reason);
    targets.retain(|id| reason(id).is_none());
    if let (true, Some(why)) = (targets.is_empty(), why) {
        model.ui.say(why, Tone::Warn);
        return;
    }
    if let [only] = targets[..]
        && let Some(run) = model.world.run(only)
        && let Some(Err(why)) = model.world.may(wish.right(), run)
    {
        model.ui.say(why, Tone::Fail);
        return;
    }
    // What is marked is not always what is looked at.
    let marked = !model.targets().marked.is_empty();
    model.ui.dialog = Some(Dialog::Confirm(Confirm::of(wish, targets, marked)));
}

/// Lets go on what waits for somebody: a held task, a batch, a step.
fn release(model: &mut Model, id: TaskId) {
    let Some(run) = model.world.run(id) else { return };
    let words = model.ui.look.words;
    let mut items: Vec<(String, Chosen)> = Vec::new();
    if run.held().is_some() && run.state() != TaskState::Done {
        items.push((words.release_task.to_owned(), Chosen::Wish(id, Wish::Release)));
    }
    if let Some(wait) = run.batch_wait.filter(|wait| wait.gate && run.state() == TaskState::Running) {
        let wish = Wish::Continue { group: wait.group, batch: wait.batch };
        items.push((words.release_batch.to_owned(), Chosen::Wish(id, wish)));
    }
    if run.state() == TaskState::Running {
        for (step, hosts) in asking(run) {
            let label = fill(words.release_step, &[step.as_str(), &hosts.len().to_string()]);
            items.push((label, Chosen::Wish(id, Wish::ReleaseStep { step: step.clone(), hosts: hosts.clone() })));
            if let Some(host) = model.targets().host.filter(|host| hosts.contains(host) && hosts.len() > 1) {
                let label = fill(words.release_step_on, &[step.as_str(), host.as_str()]);
                items.push((label, Chosen::Wish(id, Wish::ReleaseStep { step, hosts: vec![host] })));
            }
        }
    }
    offer(model, words.release_what, items, &fill(words.nothing_waits, &[&id.to_string()]));
}

fn retry_choices(model: &mut Model, id: TaskId) {
    let Some(run) = model.world.run(id) else { return };
    let words = model.ui.look.words;
    let retry = |which, step, again| Chosen::Wish(id, Wish::Retry { which, step, again });
    let retry_all = |which| {
        let again = can::runs_again(run, &which);
        retry(which, None, again)
    };
    let mut items = Vec::new();
    let mut nothing = words.nothing_to_retry;
    if can::has_begun(run) {
        nothing = words.all_well;
        let table = Table::of(run, model.world.now());
        if table.count(Mark::Failed).saturating_add(table.count(Mark::Lost)) > 0 {
            items.push((words.retry_failed.to_owned(), retry_all(Which::Failed)));
        }
        if table.count(Mark::Ok) < run.lanes.len() {
            items.push((words.retry_unfinished.to_owned(), retry_all(Which::Unfinished)));
        }
        if let Some(host) = model.targets().host {
            items.push((fill(words.retry_host, &[host.as_str()]), retry_all(Which::Hosts(vec![host.clone()]))));
            let lane = run.lanes.iter().find(|lane| lane.host == host);
            let planned = lane.and_then(|lane| Some((lane, run.plan.group(lane.group)?)));
            for (n, step) in planned.iter().flat_map(|(_, group)| group.steps.iter().enumerate()) {
                let label = fill(words.retry_from, &[host.as_str(), step.name.as_str()]);
                let twice = lane.is_some_and(|lane| lane.done_from(n).is_some());
                items.push((label, retry(Which::Hosts(vec![host.clone()]), Some(step.name.clone()), twice)));
            }
        }
    }
    offer(model, words.retry_what, items, nothing);
}

/// Goes on without a step that failed or waits, on the selected host or on all that stand at it.
fn skip(model: &mut Model, id: TaskId) {
    let Some(run) = model.world.run(id) else { return };
    let words = model.ui.look.words;
    let mut stuck: Vec<(StepName, Vec<HostName>)> = Vec::new();
    let going = run.lanes.iter().filter(|_| run.state() == TaskState::Running);
    for lane in going {
        let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
        let Some(at) = lane.at(planned).filter(|at| !matches!(lane.steps[*at].state, StepState::Open { .. })) else {
            continue;
        };
        let bad = matches!(lane.steps[at].state, StepState::Ended(_))
            || matches!(lane.next_step(planned, run.timed_at()), Next::Asks { .. });
        if bad {
            match stuck.iter_mut().find(|(known, _)| *known == planned[at].name) {
                Some((_, hosts)) => hosts.push(lane.host.clone()),
                None => stuck.push((planned[at].name.clone(), vec![lane.host.clone()])),
            }
        }
    }
    let mut items = Vec::new();
    for (step, hosts) in stuck {
        if let Some(host) = model.targets().host.filter(|host| hosts.contains(host)) {
            let label = fill(words.skip_on, &[step.as_str(), host.as_str()]);
            items.push((label, Chosen::Wish(id, Wish::Skip { step: step.clone(), hosts: vec![host] })));
        }
        let label = fill(words.skip_all, &[step.as_str(), &hosts.len().to_string()]);
        items.push((label, Chosen::Wish(id, Wish::Skip { step, hosts })));
    }
    offer(model, words.skip_what, items, words.nothing_to_skip);
}

fn offer(model: &mut Model, title: &str, mut items: Vec<(String, Chosen)>, nothing: &str) {
    match items.len() {
        0 => model.ui.say(nothing, Tone::Warn),
        1 => {
            if let (_, Chosen::Wish(id, wish)) = items.remove(0) {
                confirm(model, vec![id], wish);
            }
        }
        _ => model.ui.dialog = Some(Dialog::Choose(Choose { title: title.to_owned(), items, at: 0 })),
    }
}

/// Makes the order of each task.
pub(super) fn send(model: &mut Model, targets: &[TaskId], wish: &Wish, reason: Option<&str>) -> Vec<Command> {
    let word = wish.right().word();
    model.on_screen(|screen, cx| screen.on_event(cx, &ScreenEvent::Ordered));
    targets
        .iter()
        .map(|id| {
            let request = model.world.request(Some(*id), format!("{word} {id}"));
            let order = Order { task: id.to_string(), wish: wish.clone(), reason: reason.map(str::to_owned) };
            Command::Drop { request, drop_box: DropBox::Orders, stem: word.to_owned(), bytes: order.write() }
        })
        .collect()
}
