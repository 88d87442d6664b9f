//! A selection stays with what was selected, whatever happens around it.

use crossterm::event::KeyCode;

use crate::base::ids::{HostName, TaskId};
use crate::domain::outcome::{Ending, OutputFacts, StepResult};
use crate::domain::record::view as view_of;
use crate::domain::run::{Event, Ordered, Place, Recorded, Run, StepState, TaskState};
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::list::Item;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{HistoryWant, Message};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::screen::TaskScreen;
use crate::shells::dashboard::table::{HostRow, RowKey};
use crate::shells::dashboard::tests::stage::{NOW, accept, actor, hosts, key, keys, library, stage, start};
use crate::shells::dashboard::tests::{Dice, count};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

fn task(model: &Model) -> &TaskScreen {
    model.ui.screen().as_kind().expect("a task is shown")
}

/// The hosts that the selected row is about.
fn selected(model: &Model) -> Vec<HostName> {
    let run = &model.world.runs()[&task(model).id];
    let Some(key) = &task(model).selected else { return Vec::new() };
    let rows = task(model).host_rows();
    let row = rows.iter().find(|row| row.key() == *key).expect("the selected row is there");
    assert_eq!(task(model).host_rows()[task(model).list.at].key(), *key, "what is painted is what is selected");
    let lanes = match row {
        HostRow::Lane(lane) => vec![*lane],
        HostRow::Fold { lanes, .. } => lanes.clone(),
    };
    lanes.into_iter().map(|lane| run.lanes[lane].host.clone()).collect()
}

/// Moves until a row is selected, not of a fold.
fn select_host(model: &mut Model, dice: &mut Dice) -> HostName {
    for _ in 0..500 {
        keys(model, if dice.roll(2) == 0 { "j" } else { "k" });
        if matches!(task(model).selected, Some(RowKey::Lane(_))) && dice.roll(4) == 0 {
            break;
        }
    }
    let found = selected(model);
    assert_eq!(found.len(), 1);
    found[0].clone()
}

/// Something that may happen to a running task.
fn any_event(run: &Run, dice: &mut Dice) -> Option<Event> {
    let lane = usize::try_from(dice.roll(run.lanes.len() as u64)).unwrap();
    let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
    if let Some(open) = run.lanes[lane].open_step() {
        let step = run.step_name(lane, open)?.clone();
        let StepState::Open { attempt, since, .. } = run.lanes[lane].steps[open].state else { return None };
        let ending = dice.pick(&[0, 0, 0, 1, 9]);
        let ending = if ending == 9 { Ending::Lost("cut".to_owned()) } else { Ending::Exit(ending) };
        let result =
            StepResult { attempt, ending, started: since, ended: NOW, output: OutputFacts::default(), proved_by: None };
        return Some(Event::StepEnded { group, host, step, result });
    }
    let waits = run.lanes[lane].steps.iter().position(|step| matches!(step.state, StepState::Waiting))?;
    let step = run.step_name(lane, waits)?.clone();
    Some(Event::StepStarted { group, host, step, attempt: 1 })
}

#[test]
fn the_selection_stays_with_its_host_or_with_the_fold_that_holds_it() {
    let cases = count("SELECTIONS", 12);
    let mut dice = Dice(count("SEED", 0x005e_1ec7));
    println!("SELECTIONS={cases} SEED={:#x}", dice.0);
    let library = library(130);
    for case in 0..cases {
        let many = dice.pick(&[5, 58, 61, 130]);
        let file =
            serde_json::json!({"task_name": "many", "temp_id": 32, "hosts": {"1": hosts(many)}, "args": {"TAG": "v1"}});
        let mut run = accept(&library, 9, &file, &actor(1001, "alice"));
        start(&mut run);
        let mut model = stage((100, 30), Lang::En, Theme::Dark);
        update(&mut model, Message::Opened(Box::new(run)));
        keys(&mut model, ":task 9\n");
        if dice.roll(3) == 0 || many > 60 {
            // All hosts stand in one fold: it is opened.
            keys(&mut model, "l");
        }
        let host = select_host(&mut model, &mut dice);
        let mut now = NOW;
        for step in 0..120 {
            let what = format!("case {case} step {step}: {host} of {many}");
            let run = &model.world.runs()[&TaskId(9)];
            if let Some(event) = any_event(run, &mut dice) {
                let recorded = Recorded { at: NOW, event };
                if run.clone().apply(&recorded).is_ok() {
                    update(&mut model, Message::Events(TaskId(9), vec![recorded]));
                }
            }
            assert_eq!(model.world.why_unreadable(TaskId(9)), None, "{what}");
            now = now.plus_ms(i64::try_from(dice.roll(2_000)).unwrap());
            update(&mut model, Message::Tick(now));
            let found = selected(&model);
            assert!(found.contains(&host), "{what} is now {found:?}");
            // What acts are about is the host, or no host where it is folded away.
            if step % 40 == 0 {
                keys(&mut model, "c");
                let shown = view::as_text(&model);
                if found.len() == 1 {
                    assert!(shown.contains(&format!("only the work on {host}")), "{what}: {shown}");
                } else {
                    assert!(matches!(model.ui.dialog, Some(Dialog::Confirm(_))), "{what}: {shown}");
                    assert!(!shown.contains("only the work on"), "{what}: {shown}");
                }
                keys(&mut model, "\x1b");
            }
        }
    }
}

#[test]
fn a_host_that_is_not_listed_any_more_leaves_nothing_selected() {
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    keys(&mut model, ":task 5\nF");
    // One failed, one is lost, four wait for somebody.
    keys(&mut model, "j");
    assert_eq!(selected(&model), ["web-0002".parse().unwrap()]);
    keys(&mut model, "j");
    let run = &model.world.runs()[&TaskId(5)];
    let step = run.step_name(4, 2).unwrap().clone();
    let (group, asks) = (run.lanes[4].group, run.lanes[4].host.clone());
    assert_eq!(selected(&model), std::slice::from_ref(&asks));
    let ordered =
        Ordered { by: actor(1002, "bob"), reason: None, rule: String::new(), order: run.accepted.drop.clone() };
    let place = Place { group, host: asks.clone(), step };
    let released = Event::StepsReleased { ordered, steps: vec![place] };
    let step = run.step_name(4, 2).unwrap().clone();
    let started = Event::StepStarted { group, host: asks.clone(), step, attempt: 1 };
    for event in [released, started] {
        update(&mut model, Message::Events(TaskId(5), vec![Recorded { at: NOW, event }]));
    }
    assert_eq!(model.world.why_unreadable(TaskId(5)), None);
    assert!(selected(&model).is_empty(), "it is {:?}", selected(&model));
    let before = model.ui.depth();
    keys(&mut model, "\n");
    assert_eq!(model.ui.depth(), before, "Enter opens nothing");
    // It is there again with the others, and whoever moves selects.
    keys(&mut model, "F");
    assert_eq!(selected(&model), [asks]);
    keys(&mut model, "k");
    assert_eq!(selected(&model).len(), 1);
}

#[test]
fn a_fold_stays_selected_while_its_hosts_go_on() {
    let library = library(130);
    let file =
        serde_json::json!({"task_name": "many", "temp_id": 32, "hosts": {"1": hosts(100)}, "args": {"TAG": "v1"}});
    let mut run = accept(&library, 9, &file, &actor(1001, "alice"));
    start(&mut run);
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    update(&mut model, Message::Opened(Box::new(run)));
    keys(&mut model, ":task 9\n");
    assert_eq!(selected(&model).len(), 100);
    for lane in 0..30 {
        let run = &model.world.runs()[&TaskId(9)];
        let (group, host, step) =
            (run.lanes[lane].group, run.lanes[lane].host.clone(), run.step_name(lane, 0).unwrap().clone());
        let event = Event::StepStarted { group, host, step, attempt: 1 };
        update(&mut model, Message::Events(TaskId(9), vec![Recorded { at: NOW, event }]));
        // Many hosts are counted a few times a second.
        update(&mut model, Message::Tick(NOW.plus_ms(100 + 100 * i64::try_from(lane).unwrap())));
        assert_eq!(selected(&model).len(), 99 - lane, "the hosts that wait");
    }
}

#[test]
fn a_task_that_was_planned_anew_has_its_own_hosts() {
    let library = library(130);
    let of = |many: std::ops::Range<usize>| {
        let file = serde_json::json!({"task_name": "x", "temp_id": 32, "hosts": {"1": &hosts(130)[many]}, "args": {"TAG": "v1"}});
        accept(&library, 9, &file, &actor(1001, "alice"))
    };
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    update(&mut model, Message::Opened(Box::new(of(0..8))));
    keys(&mut model, ":task 9\njjjj");
    let host = selected(&model);
    assert_eq!(host, ["web-0005".parse().unwrap()]);
    update(&mut model, Message::Opened(Box::new(of(2..10))));
    assert_eq!(selected(&model), host, "the host, and not the fifth of the others");
    keys(&mut model, "zz");
    keys(&mut model, "ll\n");
    assert_eq!(task(&model).shape.only, Some(vec![2]));
    update(&mut model, Message::Opened(Box::new(of(4..12))));
    assert_eq!(task(&model).shape.only, None, "which hosts the cell stood for is known no more");
}

#[test]
fn a_cell_of_the_map_keeps_its_hosts_when_the_screen_changes() {
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    keys(&mut model, ":task 6\nzz");
    for _ in 0..97 {
        update(&mut model, key(KeyCode::Right));
    }
    assert_eq!((task(&model).cell, task(&model).each), (97, 1));
    update(&mut model, Message::Resize(60, 15));
    assert!(task(&model).cell * task(&model).each <= 97 && (task(&model).cell + 1) * task(&model).each > 97);
}

#[test]
fn the_selected_task_of_the_board_is_never_another() {
    let mut dice = Dice(count("SEED", 0xb0a7d));
    println!("SEED={:#x}", dice.0);
    let library = library(3);
    let file = serde_json::json!({"task_name": "x", "temp_id": 32, "hosts": {"1": hosts(1)}, "args": {"TAG": "v1"}});
    let template = view_of(&accept(&library, 1, &file, &actor(1001, "alice")));
    for case in 0..60 {
        let mut model = stage((100, 30), Lang::En, Theme::Dark);
        for _ in 0..=dice.roll(20) {
            keys(&mut model, "j");
        }
        let Some(chosen) = model.targets().task else { continue };
        for step in 0..60 {
            let mut view = template.clone();
            view.id = TaskId(if dice.roll(5) == 0 { chosen.0 } else { 10 + dice.roll(40) });
            let state = dice.pick(&[TaskState::New, TaskState::New, TaskState::Ready, TaskState::Running]);
            let message = match dice.roll(6) {
                0 => Message::Gone(view.id),
                _ => Message::Stands(Box::new(view), state),
            };
            let what = format!("case {case} step {step}: {chosen} after {message:?}");
            update(&mut model, message);
            assert!([None, Some(chosen)].contains(&model.targets().task), "{what}: {:?}", model.targets().task);
            let shown = view::as_text(&model);
            let sign = shown.lines().find(|line| line.starts_with("> "));
            match (model.targets().task, sign) {
                (Some(id), Some(line)) => assert!(line.contains(&format!(" {id} ")), "{what}: {line}"),
                (None, Some(line)) => panic!("{what}: {line}"),
                _ => {}
            }
        }
    }
}

/// What was chosen of a plain list.
fn chosen_item(model: &mut Model) -> Option<Item> {
    model.on_screen(|screen, _| screen.list_mut()?.chosen.clone())
}

/// What the selected line of a plain list is about now.
fn item_at_selection(model: &mut Model) -> Option<Item> {
    model.on_screen(|screen, cx| {
        let at = screen.list_mut()?.at;
        screen.item(cx, at)
    })
}

#[test]
fn a_list_that_grows_above_keeps_what_is_selected() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    keys(&mut model, "3jjj");
    let (chosen, lines, all) = (model.targets().task, model.world.past().lines.clone(), model.world.past().count);
    let part = |start: usize, rows: usize, of: &str| Message::History {
        of: HistoryWant { filter: of.to_owned(), ..HistoryWant::default() },
        count: all + start,
        start: 0,
        lines: (0..start)
            .map(|n| {
                let mut line = lines[0].clone();
                line.id = TaskId(5_000 + n as u64);
                line
            })
            .chain(lines.iter().cloned())
            .take(rows)
            .collect(),
    };
    update(&mut model, part(2, 40, ""));
    assert_eq!(model.targets().task, chosen);
    // So many that it is in no part that is known: it comes with the part where it is looked for.
    update(&mut model, part(30, 20, ""));
    assert_eq!(model.targets().task, None);
    let wanted = model.wants().history.unwrap();
    let Message::History { of, count, lines, .. } = part(30, 100, "") else { unreachable!() };
    let lines = lines.into_iter().skip(wanted.start).take(wanted.rows).collect();
    update(&mut model, Message::History { of, count, start: wanted.start, lines });
    assert_eq!(model.targets().task, chosen);

    // The audit, whose oldest lines are forgotten, and requests.
    keys(&mut model, "4kkk");
    let (chosen, mut audit) = (chosen_item(&mut model), model.world.audit().to_vec());
    assert!(matches!(chosen, Some(Item::Entry(_))), "{chosen:?}");
    audit.drain(..5);
    update(&mut model, Message::Audit(audit));
    assert_eq!(item_at_selection(&mut model), chosen);

    // Refused files: the newest stands first.
    keys(&mut model, ":bad\nj");
    let (count, mut files) = (model.world.refused_count(), model.world.refused().to_vec());
    let name = files[1].refusal.name.clone();
    files.insert(0, files[0].clone());
    files[0].refusal.name = "newer.json".to_owned();
    update(&mut model, Message::Refusals { count: count + 1, files: Some(files) });
    let Some(Item::File(_, selected)) = item_at_selection(&mut model) else { panic!("no files") };
    assert_eq!(selected, name);
}
