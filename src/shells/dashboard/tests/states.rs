//! One word for one thing: where tasks and hosts stand, on every screen.

use crate::adapters::spool::Lack;
use crate::adapters::spool::reader::Serving;
use crate::base::ids::TaskId;
use crate::domain::outcome::{Ending, Outcome};
use crate::domain::policy::Part;
use crate::domain::run::{Event, Ordered};
use crate::shells::dashboard::eta::left_ms;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{LogPage, Message};
use crate::shells::dashboard::tests::stage::{self, NOW, accept, actor, apply, hosts, keys, library, stage};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

/// What stands beside a word on the first line that has it.
fn line(text: &str, with: &[&str]) -> String {
    let found = text.lines().find(|line| with.iter().all(|word| line.contains(word)));
    found.unwrap_or_else(|| panic!("no line with {with:?} in\n{text}")).to_owned()
}

#[test]
fn a_host_is_called_the_same_wherever_it_is_shown() {
    let library = library(3);
    let task =
        serde_json::json!({"task_name": "refused", "temp_id": 32, "hosts": {"1": hosts(2)}, "args": {"TAG": "v1"}});
    let mut rejected = accept(&library, 9, &task, &actor(1001, "alice"));
    let order = rejected.accepted.drop.clone();
    let by = actor(1002, "bob");
    apply(&mut rejected, 0, Event::Rejected(Ordered { by, reason: Some("no".to_owned()), rule: String::new(), order }));
    apply(&mut rejected, 0, Event::Closed { outcome: Outcome::Rejected });
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    update(&mut model, Message::Opened(Box::new(rejected)));
    for (task, word) in [(1, "wait"), (4, "wait"), (9, "skipped"), (5, "exit 100 publish")] {
        keys(&mut model, &format!(":task {task}\n"));
        let shown = line(&view::as_text(&model), &["web-0001"]);
        assert!(shown.contains(&format!("  {word}  ")), "task {task}: {shown}");
        keys(&mut model, ":host web-0001\n");
        if task == 9 {
            assert!(!view::as_text(&model).contains(" 9  refused"), "it has ended");
            continue;
        }
        let name = model.world.runs()[&TaskId(task)].plan.task_name.split(' ').next().unwrap().to_owned();
        let shown = line(&view::as_text(&model), &[&format!(" {task}  {name}")]);
        assert!(shown.ends_with(&format!(" {word}")), "task {task}: {shown}");
        model.ui.pop_all();
    }
    keys(&mut model, ":task 9\n\n");
    assert_eq!(model.ui.said.as_ref().unwrap().0, "This host was skipped: there is no log.");
}

#[test]
fn how_long_it_may_take_is_said_only_while_nobody_is_awaited() {
    let library = library(12);
    let file = |batches: serde_json::Value, gate: bool| {
        serde_json::json!({"task_name": "x", "script": "true\n", "hosts": {"1": hosts(12)}, "batches": batches,
            "batch_interval": 60, "batch_gate": gate})
    };
    let running = |batches: serde_json::Value, gate: bool| {
        let mut run = accept(&library, 9, &file(batches, gate), &actor(1001, "alice"));
        stage::start(&mut run);
        (0..4).for_each(|lane| stage::steps(&mut run, lane, 1, Some(&Ending::Exit(0))));
        run
    };
    // Each took about a second, long ago: it is not the time since that counts. Eight are left, ten at once.
    let mut run = running(serde_json::json!([12]), false);
    let left = left_ms(&run, NOW, 10).unwrap();
    assert!((900..1_500).contains(&left), "{left}");
    let one_by_one = left_ms(&run, NOW, 1).unwrap();
    assert!((7_000..9_000).contains(&one_by_one), "{one_by_one}");
    assert_eq!(left_ms(&run, NOW.plus_ms(3_600_000), 10), Some(left), "it does not grow by itself");
    let (by, order) = (actor(1002, "bob"), run.accepted.drop.clone());
    let ordered = Ordered { by, reason: Some("lunch".to_owned()), rule: String::new(), order };
    apply(&mut run, 0, Event::Held { ordered: Some(ordered), why: "lunch".to_owned() });
    assert_eq!(left_ms(&run, NOW, 10), None, "a person holds it");
    // The second batch comes after its interval, or when a person lets it begin.
    let paused = left_ms(&running(serde_json::json!([6, 6]), false), NOW, 10).unwrap();
    assert!((61_000..64_000).contains(&paused), "{paused}");
    assert_eq!(left_ms(&running(serde_json::json!([6, 6]), true), NOW, 10), None);
    let mut few = accept(&library, 9, &file(serde_json::json!([12]), false), &actor(1001, "alice"));
    stage::start(&mut few);
    assert_eq!(left_ms(&few, NOW, 10), None, "nothing is known yet");
}

#[test]
fn the_header_says_what_a_daemon_waits_for() {
    for (lang, said) in [
        (Lang::En, ["daemon up", "DISK FULL, DAEMON WAITS", "DAEMON WAITS", "DAEMON WAITS"]),
        (Lang::Zh, ["守护进程运行中", "磁盘已满，守护进程等待中", "守护进程等待中", "守护进程等待中"]),
    ] {
        let mut model = stage((80, 24), lang, Theme::Dark);
        for (lacks, said) in [None].into_iter().chain(Lack::ALL.map(Some)).zip(said) {
            let limited = lacks.map(|_| (2, "eve".to_owned()));
            update(&mut model, Message::Daemon(Some(Serving { pid: "4242".to_owned(), lacks, limited })));
            let first = view::as_text(&model).lines().next().unwrap_or_default().to_owned();
            assert!(first.contains(&format!("  {said}  ")), "{lacks:?}: {first}");
        }
    }
}

#[test]
fn a_task_that_one_may_not_see_says_who_may() {
    let task = serde_json::json!({"task_name": "payroll 工资", "temp_id": 32, "hosts": {"1": hosts(2)}, "args": {"TAG": "v1"}});
    let hidden = accept(&library(3), 60, &task, &actor(1001, "alice"));
    for (name, lang, me) in
        [("withheld-en", Lang::En, "bob"), ("withheld-zh", Lang::Zh, "bob"), ("withheld-own", Lang::En, "alice")]
    {
        let mut model = stage((80, 18), lang, Theme::Dark);
        if me == "alice" {
            model.world.seen_by(actor(1001, "alice"));
        }
        update(&mut model, Message::Stands(Box::new(crate::domain::record::view(&hidden)), hidden.state()));
        update(&mut model, Message::Withheld(TaskId(60), Part::Plan));
        keys(&mut model, ":task 60\n");
        insta::assert_snapshot!(name, view::as_text(&model));
    }
    // Of one whose plan is seen and not what it printed.
    let mut model = stage((80, 18), Lang::En, Theme::Dark);
    update(&mut model, Message::Withheld(TaskId(5), Part::Output));
    keys(&mut model, ":task 5\n\n");
    let wanted = model.wants().log.expect("a log is shown");
    let (of, anchor, lines) = (wanted.of, wanted.anchor, Vec::new());
    update(&mut model, Message::Log(LogPage { of, anchor, length: 0, lines, next: 0, number: None, cut: None }));
    assert!(view::as_text(&model).contains("You may not see what this task printed"), "{}", view::as_text(&model));
}
