//! One word for one thing: where tasks and hosts stand, on every screen.

use crate::base::ids::TaskId;
use crate::domain::run::{Event, Ordered, Outcome};
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::Message;
use crate::shells::dashboard::tests::stage::{accept, actor, apply, hosts, keys, library, stage};
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
        let name = model.runs[&TaskId(task)].plan.task_name.split(' ').next().unwrap().to_owned();
        let shown = line(&view::as_text(&model), &[&format!(" {task}  {name}")]);
        assert!(shown.ends_with(&format!(" {word}")), "task {task}: {shown}");
        model.screens.truncate(1);
    }
    keys(&mut model, ":task 9\n\n");
    assert_eq!(model.said.as_ref().unwrap().0, "This host was skipped: there is no log.");
}
