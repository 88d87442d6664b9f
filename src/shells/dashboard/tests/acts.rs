//! What can be done with a task as it stands: the last line offers it, and any other key says why it cannot be.

use crossterm::event::KeyCode;

use crate::base::ids::TaskId;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::tests::stage::{actor, key, keys, stage};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

/// The last line of a wide screen that shows a task.
fn hints(task: u64) -> String {
    let mut model = stage((240, 60), Lang::En, Theme::Dark);
    keys(&mut model, &format!(":task {task}\n"));
    view::as_text(&model).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_last_line_offers_what_can_be_done() {
    for (task, yes, no) in [
        (1, &["a approve", "x reject", "p hold", "c cancel"][..], &["release", "retry", "withdraw"][..]),
        (4, &["x reject", "p hold", "c cancel"], &["approve", "release", "retry"]),
        (5, &["s release", "p hold", "c cancel", "r retry"], &["approve", "reject"]),
        (7, &["Enter log", "r retry", "z zoom"], &["approve", "reject", "release", "hold", "cancel"]),
    ] {
        let shown = hints(task);
        assert!(yes.iter().all(|word| shown.contains(word)), "task {task}: {shown}");
        assert!(!no.iter().any(|word| shown.contains(word)), "task {task}: {shown}");
    }
}

fn says(model: &mut Model, text: &str) -> String {
    model.ui.said = None;
    assert!(keys(model, text).is_empty(), "{text} sent something");
    assert!(model.ui.dialog.is_none(), "{text} opened a dialog");
    model.ui.said.as_ref().map_or_else(String::new, |(said, _)| said.clone())
}

#[test]
fn a_key_that_cannot_work_says_why() {
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    keys(&mut model, ":task 7\n");
    for (key, want) in [
        ("p", "Task 7 is done: it cannot be held now."),
        ("c", "Task 7 is done: it cannot be cancelled now."),
        ("a", "Task 7 is done: it cannot be approved now."),
        ("x", "Task 7 is done: it cannot be rejected now."),
        ("s", "Nothing in task 7 waits to be released."),
        ("K", "No host has stopped at a step that can be skipped."),
        (":withdraw 1\n", "You have not approved task 1: there is nothing to withdraw."),
        (":release 1\n", "Task 1 is not held."),
        (":retry 1\n", "The task has not started: there is nothing to retry."),
    ] {
        assert_eq!(says(&mut model, key), want, "{key}");
    }
    keys(&mut model, ":lang zh\n");
    assert_eq!(says(&mut model, "p"), "任务 7 处于“完成”状态，现在不能暂停。");
    assert_eq!(says(&mut model, ":reject 5\n"), "任务 5 处于“运行”状态，现在不能拒绝。");
}

#[test]
fn of_marked_tasks_those_are_asked_about_with_which_it_can_be_done() {
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    // Two new tasks and one that has ended.
    keys(&mut model, "  ");
    while model.targets().task != Some(TaskId(7)) {
        keys(&mut model, "j");
    }
    keys(&mut model, " x");
    let Some(Dialog::Confirm(confirm)) = &model.ui.dialog else { panic!("no question: {:?}", model.ui.said) };
    assert_eq!(confirm.targets, [TaskId(1), TaskId(2)]);
}

#[test]
fn the_last_line_offers_an_approval_only_to_whoever_may_give_it() {
    let mut model = stage((240, 60), Lang::En, Theme::Dark);
    keys(&mut model, ":task 3\n");
    // It is bob's own task.
    let own = view::as_text(&model);
    assert!(!own.lines().last().unwrap().contains("approve"), "{own}");
    model.world.seen_by(actor(1001, "alice"));
    keys(&mut model, "\x1b:task 1\n");
    let other = view::as_text(&model);
    assert!(!other.lines().last().unwrap().contains("approve"), "{other}");
}

#[test]
fn help_and_quit_are_in_sight_on_every_screen_of_every_width() {
    for width in [60, 61, 70, 80, 100, 140, 240] {
        for open in
            ["", ":task 5\n", ":task 6\n", ":task 5\n\n", "2", "3", "4", "5", ":bad\n", ":nothing\n", ":hold 7\n"]
        {
            for height in [15, 24] {
                let mut model = stage((width, height), Lang::En, Theme::Dark);
                keys(&mut model, open);
                let shown = view::as_text(&model);
                let last = shown.lines().last().unwrap();
                assert!(last.contains("? help") && last.contains("q quit"), "{open:?} at {width}x{height}: {shown}");
            }
        }
    }
}

#[test]
fn progress_of_steps_is_seen_at_every_width_and_help_is_never_cut() {
    for width in [60, 80, 100, 120, 139, 140, 160, 200, 240] {
        let mut model = stage((width, 40), Lang::En, Theme::Dark);
        keys(&mut model, ":task 6\n");
        let shown = view::as_text(&model);
        let line = shown.lines().find(|line| line.contains(" 1 backup")).unwrap();
        assert!(line.contains("[#"), "{width}: {shown}");
        keys(&mut model, "?");
        for _ in 0..12 {
            let shown = view::as_text(&model);
            assert!(!shown.lines().any(|line| line.contains('~')), "{width}: {shown}");
            keys(&mut model, "");
            update(&mut model, key(KeyCode::PageDown));
        }
    }
}
