//! What the dashboard says, and for how long.

use crate::base::ids::TaskId;
use crate::shells::dashboard::export;
use crate::shells::dashboard::look::{Theme, Tone};
use crate::shells::dashboard::message::{Command, Message};
use crate::shells::dashboard::screen::{BoardScreen, TaskScreen};
use crate::shells::dashboard::tests::stage::{keys, stage};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

#[test]
fn a_task_that_is_not_there_leaves_the_board_on_the_screen() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    for command in [":show 5000\n", ":cancel 5000\n"] {
        keys(&mut model, command);
        assert!(model.ui.screen().is::<TaskScreen>() && model.wants().follow.contains(&TaskId(5000)), "{command}");
        update(&mut model, Message::Missing(TaskId(5000)));
        assert!(model.ui.screen().is::<BoardScreen>(), "{command}");
        assert_eq!(model.ui.said.as_ref().unwrap().0, "There is no task 5000.", "{command}");
    }
}

#[test]
fn what_was_said_of_one_key_is_over_with_the_next() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    keys(&mut model, ":approve 1\nno\n");
    assert_eq!(model.ui.said.as_ref().unwrap().0, model.ui.look.words.not_the_phrase);
    keys(&mut model, "\x1b");
    assert_eq!((model.ui.dialog.is_none(), &model.ui.said), (true, &None));
    keys(&mut model, "n\nx\x1b");
    assert_eq!(model.ui.said.as_ref().unwrap().0, model.ui.look.words.again_to_leave);
    keys(&mut model, "\x1b");
    assert_eq!((model.ui.dialog.is_none(), &model.ui.said), (true, &None));
}

#[test]
fn a_list_that_is_empty_says_why() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    for screen in ["1", "2", "4", ":bad\n"] {
        keys(&mut model, screen);
        keys(&mut model, "/no such word\n");
        let shown = view::as_text(&model);
        assert!(shown.contains(model.ui.look.words.nothing_matches), "{screen}: {shown}");
        keys(&mut model, "\x1b");
    }
}

#[test]
fn a_screen_is_written_into_a_file_of_its_own() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    let commands = keys(&mut model, "e");
    let [Command::Export { name, text }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(name, "spoolgate-20261121T033050Z.txt");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    assert_eq!(export(&path, text), Ok(path.display().to_string()));
    let again = export(&path, "other").unwrap_err();
    assert!(again.contains("exists") && std::fs::read_to_string(&path).unwrap() == *text, "{again}");
}

#[test]
fn what_is_said_is_seen_whatever_covers_its_line() {
    for size in [(60, 15), (80, 24), (160, 45)] {
        for open in ["?", ":approve 1\n", ":approve 2\n", "x", "n", "n\n", ""] {
            let mut model = stage(size, Lang::En, Theme::Dark);
            keys(&mut model, open);
            for said in ["approve 4: done", "reject 7: refused: no rule lets you"] {
                model.ui.say(said, Tone::Fail);
                let shown = view::as_text(&model);
                assert!(shown.contains(said), "{open:?} at {size:?}: {shown}");
            }
        }
    }
}
