//! The form of a new task: what it keeps, what it says is wrong, and the file that it makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::time::Zone;
use crate::domain::plan::resolve;
use crate::domain::submission::Hosts;
use crate::domain::template::{Catalogue, Template};
use crate::domain::wire::read_task;
use crate::engine::DropBox;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{Command, Message};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::tests::stage::{self, ctrl, hosts, keys, library, stage};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

#[test]
fn a_form_makes_the_file_that_the_daemon_takes() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    keys(&mut model, "n\n");
    let submit = |model: &mut Model| update(model, ctrl('s'));
    assert!(submit(&mut model).is_empty(), "hosts are missing");
    // The field that is wrong is the one that is typed in.
    keys(&mut model, "tag:web & !web-0001, 1%");
    assert!(submit(&mut model).is_empty(), "the tag is missing");
    let said = model.said.clone().unwrap().0;
    assert!(said.contains("/args/TAG"), "{said}");
    keys(&mut model, "v2.9");
    let commands = submit(&mut model);
    let [Command::Drop { drop_box: DropBox::New, bytes, .. }] = &commands[..] else {
        panic!("{:?} {commands:?}", model.said)
    };
    let submission = read_task(bytes, &Zone::utc()).unwrap();
    let named = |hosts: &Hosts| match hosts {
        Hosts::Named(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Hosts::Chosen(selector) => panic!("the form writes names, not {selector}"),
    };
    let names: Vec<String> = submission.hosts.values().flat_map(named).collect();
    assert_eq!(names, ["web-0002", "web-0003"]);
    assert!(resolve(&submission, &library(130)).is_ok());
}

#[test]
fn a_task_like_another_keeps_every_parameter_that_it_had() {
    let mut open = library(3);
    let text = stage::PUBLISH.replacen("[[param]]", "other_params = true\n[[param]]", 1);
    let template = Template::parse("publish.toml", &text, &BTreeMap::new()).unwrap();
    open.catalogue = Catalogue::assemble(vec![template]).unwrap();
    let args = serde_json::json!({"TAG": "v1", "OTHER": "keep me", "arg02": ""});
    let file = serde_json::json!({"task_name": "x", "temp_id": 32, "hosts": {"1": hosts(1)}, "args": args});
    let run = stage::accept(&open, 9, &file, &stage::actor(1001, "alice"));
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    update(&mut model, Message::Library(Ok(Arc::new(open))));
    update(&mut model, Message::Opened(Box::new(run)));
    keys(&mut model, ":same 9\n");
    let shown = view::as_text(&model);
    assert!(shown.contains("OTHER") && shown.contains("keep me") && shown.contains("arg02"), "{shown}");
    let commands = update(&mut model, ctrl('s'));
    let [Command::Drop { bytes, .. }] = &commands[..] else { panic!("{:?} {commands:?}", model.said) };
    let sent: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(sent["args"], serde_json::json!({"TAG": "v1", "MODE": "safe", "OTHER": "keep me", "arg02": ""}));
}
