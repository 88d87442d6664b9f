//! The form of a new task: what it keeps, what it says is wrong, and the file that it makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::time::Zone;
use crate::domain::resolve::resolve;
use crate::domain::submission::Hosts;
use crate::domain::template::{Catalogue, Template};
use crate::domain::wire::read_task;
use crate::engine::DropBox;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{Command, Message, NotEdited};
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
    let said = model.ui.said.clone().unwrap().0;
    assert!(said.contains("/args/TAG"), "{said}");
    keys(&mut model, "v2.9");
    let commands = submit(&mut model);
    let [Command::Drop { drop_box: DropBox::New, bytes, .. }] = &commands[..] else {
        panic!("{:?} {commands:?}", model.ui.said)
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
    let [Command::Drop { bytes, .. }] = &commands[..] else { panic!("{:?} {commands:?}", model.ui.said) };
    let sent: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(sent["args"], serde_json::json!({"TAG": "v1", "MODE": "safe", "OTHER": "keep me", "arg02": ""}));
}

/// A form that is ready to be sent.
fn ready(size: (u16, u16)) -> Model {
    let mut model = stage(size, Lang::En, Theme::Dark);
    keys(&mut model, "n\n");
    for text in ["", "web-0001", "v2.9"] {
        keys(&mut model, text);
        if text != "v2.9" {
            assert!(update(&mut model, ctrl('s')).is_empty());
        }
    }
    model
}

fn send(model: &mut Model) -> usize {
    let commands = update(model, ctrl('s'));
    let [Command::Drop { request, .. }] = &commands[..] else { panic!("{:?} {commands:?}", model.ui.said) };
    *request
}

#[test]
fn why_a_task_was_refused_stands_in_its_form_until_it_is_sent_again() {
    for size in [(60, 15), (80, 24), (160, 45)] {
        let mut model = ready(size);
        let request = send(&mut model);
        assert!(model.ui.dialog.is_none());
        let why = "/args/TAG: found v2.9; wanted a tag of mirrors/pay.git; ".to_owned() + &"/hosts:wrong ".repeat(9);
        update(&mut model, Message::Refused(request, why.clone()));
        let said = |model: &Model| view::as_text(model).contains("Refused: /args/TAG: found v2.9");
        assert!(said(&model), "{size:?}: {}", view::as_text(&model));
        // It is there while it is mended, and in full beside the plan.
        keys(&mut model, "x");
        assert!(said(&model), "{size:?}: {}", view::as_text(&model));
        update(&mut model, ctrl('t'));
        update(&mut model, ctrl('t'));
        let whole = view::as_text(&model).matches("/hosts:wrong").count();
        assert_eq!(whole, 9, "{size:?}: {}", view::as_text(&model));
        send(&mut model);
        assert!(!said(&model));
    }
}

#[test]
fn a_form_that_is_refused_while_something_else_is_asked_is_not_lost() {
    let mut model = ready((80, 24));
    let first = send(&mut model);
    keys(&mut model, "n\n");
    let second = {
        let mut form = ready((80, 24));
        std::mem::swap(&mut model.ui.dialog, &mut form.ui.dialog);
        send(&mut model)
    };
    keys(&mut model, "?");
    update(&mut model, Message::Refused(first, "the first reason".to_owned()));
    update(&mut model, Message::Dropped(second, Err("no space left on device".to_owned())));
    assert!(view::as_text(&model).contains("HELP"), "what is asked stays");
    for why in ["the first reason", "no space left on device"] {
        keys(&mut model, "\x1b\x1b");
        let shown = view::as_text(&model);
        assert!(shown.contains(&format!("Refused: {why}")) && shown.contains("web-0001"), "{shown}");
    }
}

#[test]
fn what_an_editor_did_not_do_is_said_in_the_form() {
    let program = || "/opt/my editor/ed".to_owned();
    for (why, want) in [
        (
            NotEdited::NotFound { variable: "VISUAL".to_owned(), program: program() },
            "$VISUAL names /opt/my editor/ed: there is no such program",
        ),
        (NotEdited::Words { variable: "EDITOR".to_owned(), command: "vi 'x".to_owned() }, "a quote is not closed"),
        (
            NotEdited::Started { program: program(), why: "Permission denied".to_owned() },
            "could not be started: Permission",
        ),
        (
            NotEdited::Ended { program: program(), how: "exit 1".to_owned() },
            "ended with exit 1: the text stays as it was",
        ),
        (NotEdited::Gone { program: program() }, "left no file"),
        (NotEdited::NotText { program: program() }, "not UTF-8"),
        (NotEdited::TooLong { program: program() }, "more than a task file may hold"),
        (NotEdited::Empty { program: program() }, "a full disk?"),
        (NotEdited::Unchanged { program: program() }, "changed nothing"),
        (
            NotEdited::File { path: "/tmp/x.json".to_owned(), why: "No space left on device".to_owned() },
            "/tmp/x.json: No space left on device",
        ),
    ] {
        for lang in Lang::ALL {
            let mut model = stage((100, 30), lang, Theme::Dark);
            keys(&mut model, "n\n名称");
            let commands = update(&mut model, ctrl('o'));
            let [Command::Edit(text)] = &commands[..] else { panic!("{commands:?}") };
            update(&mut model, Message::Edited(Err(why.clone())));
            let shown = view::as_text(&model);
            assert!(lang != Lang::En || shown.contains(want), "{shown}");
            // What was typed is there, in its fields.
            assert!(shown.contains("名称") && !text.is_empty() && shown.contains(why_program(&why)), "{shown}");
            keys(&mut model, "x");
            assert!(view::as_text(&model).contains(why_program(&why)), "it stays while somebody goes on");
        }
    }
}

/// A word of the reason in every language.
fn why_program(why: &NotEdited) -> &str {
    match why {
        NotEdited::Words { command, .. } => command,
        NotEdited::File { path, .. } => path,
        _ => "/opt/my editor/ed",
    }
}

#[test]
fn a_task_like_another_chooses_its_hosts_as_that_did() {
    let library = library(30);
    let file = serde_json::json!({"task_name": "x", "temp_id": 32, "hosts": {"1": "tag:web, !web-0001"},
        "args": {"TAG": "v1"}, "batches": ["10%", "90%"]});
    let run = stage::accept(&library, 9, &file, &stage::actor(1001, "alice"));
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    update(&mut model, Message::Library(Ok(Arc::new(library))));
    update(&mut model, Message::Opened(Box::new(run)));
    keys(&mut model, ":same 9\n");
    let commands = update(&mut model, ctrl('s'));
    let [Command::Drop { bytes, .. }] = &commands[..] else { panic!("{:?} {commands:?}", model.ui.said) };
    let sent: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!((&sent["hosts"], &sent["batches"]), (&file["hosts"], &file["batches"]));
}
