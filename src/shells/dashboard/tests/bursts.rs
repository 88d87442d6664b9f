//! Keys that nobody typed: pastes that no terminal marked as such, and programs that type.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::base::ids::TaskId;
use crate::domain::order::Wish;
use crate::domain::wire::read_order;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::input::Arrived;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{Command, Message};
use crate::shells::dashboard::messages;
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::pace::Pace;
use crate::shells::dashboard::tests::stage::{NOW, ctrl, keys, stage};
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;

/// A terminal in front of a model.
struct Desk {
    model: Model,
    pace: Pace,
    at: Duration,
}

impl Desk {
    fn open(text: &str) -> Desk {
        let mut model = stage((100, 30), Lang::En, Theme::Dark);
        keys(&mut model, text);
        Desk { model, pace: Pace::default(), at: Duration::ZERO }
    }

    /// Everything that comes with one look at the terminal, some time after the look before.
    fn look(&mut self, after_ms: u64, text: &str) -> Vec<Command> {
        self.at += Duration::from_millis(after_ms);
        let key = |c| match c {
            '\n' => KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE),
            '\t' => KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE),
            '^' => KeyEvent::new(KeyCode::Char('s'), KeyModifiers::CONTROL),
            c => KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE),
        };
        let arrived = text.chars().map(|c| (Arrived::Key(key(c)), self.at)).collect();
        let now = NOW.plus_ms(i64::try_from(self.at.as_millis()).unwrap());
        let mut commands = Vec::new();
        for message in messages(&mut self.pace, arrived) {
            update(&mut self.model, Message::Tick(now));
            commands.extend(update(&mut self.model, message));
        }
        commands
    }

    /// One key after the other.
    fn types(&mut self, every_ms: u64, text: &str) -> Vec<Command> {
        text.chars().flat_map(|c| self.look(every_ms, c.encode_utf8(&mut [0; 4]))).collect()
    }

    fn shown(&self) -> String {
        view::as_text(&self.model)
    }
}

fn approves(commands: &[Command]) -> bool {
    commands.iter().any(|command| match command {
        Command::Drop { bytes, .. } => {
            matches!(read_order(bytes, &crate::base::time::Zone::utc()).unwrap().wish, Wish::Approve { .. })
        }
        _ => false,
    })
}

/// Task 1 is approved by the number of its hosts, 3; task 2 is of high risk, and was read.
fn at_high_risk() -> Desk {
    let mut desk = Desk::open(":approve 2\n");
    update(&mut desk.model, Message::Previous(TaskId(2), None));
    desk.at = Duration::from_secs(4);
    update(&mut desk.model, Message::Tick(NOW.plus_ms(4_000)));
    keys(&mut desk.model, "^\t^\t^\t^\t");
    desk
}

#[test]
fn what_nobody_typed_approves_nothing() {
    for (text, every_ms) in [
        ("q\n1\n12\ngit-publish 12\n3\n", 0),
        ("3\n", 0),
        ("3\n", 1),
        ("3\n", 15),
        ("\n3\n", 0),
        ("\n\n3\n\n", 12),
        ("no 3\n3\n3\n3\n", 5),
        (":approve 1\n3\n", 0),
    ] {
        let mut desk = Desk::open(":approve 1\n");
        let at_once = if every_ms == 0 { desk.look(500, text) } else { desk.types(every_ms, text) };
        assert!(!approves(&at_once), "{text:?} every {every_ms} ms");
        assert!(desk.shown().contains("Pasting is not possible here"), "{text:?}: {}", desk.shown());
        // Line by line, as terminals do that wait after each.
        let mut desk = Desk::open(":approve 1\n");
        for line in text.split_inclusive('\n').filter(|line| line.len() > 1) {
            assert!(!approves(&desk.look(400, line)), "{line:?} of {text:?}");
        }
    }
    let mut desk = at_high_risk();
    assert!(!approves(&desk.look(500, "\t\t\t\t\tpublish 120\n")));
    assert!(!approves(&desk.types(8, "publish 120\n")));
    // What was pasted is gone: an Enter of somebody does not approve it.
    assert!(!approves(&desk.types(3_000, "\n")));
}

#[test]
fn sections_that_a_paste_runs_through_were_not_read() {
    let mut desk = Desk::open(":approve 2\n");
    update(&mut desk.model, Message::Previous(TaskId(2), None));
    update(&mut desk.model, Message::Tick(NOW.plus_ms(4_000)));
    desk.at = Duration::from_secs(4);
    let Some(Dialog::Approve(before)) = &desk.model.ui.dialog else { panic!("no dialog") };
    let (section, read) = (before.section, before.read);
    desk.look(500, "\t\t\t\t\t");
    let Some(Dialog::Approve(after)) = &desk.model.ui.dialog else { panic!("no dialog") };
    assert_eq!((after.section, after.read), (section, read));
}

#[test]
fn what_somebody_typed_approves() {
    let mut desk = Desk::open(":approve 1\n");
    assert!(approves(&desk.types(60, "3\n")));
    let mut desk = at_high_risk();
    assert!(approves(&desk.types(60, "publish 120\n")));
    // After a paste the field opens again.
    let mut desk = Desk::open(":approve 1\n");
    desk.look(500, "3\n");
    assert!(!approves(&desk.types(60, "3\n")), "it is shut for two seconds");
    desk.look(2_000, "");
    assert!(approves(&desk.types(60, "3\n")), "{}", desk.shown());
}

#[test]
fn a_wrong_try_shuts_the_field_for_a_moment_and_the_phrase_stays_on_the_screen() {
    let mut desk = Desk::open(":approve 1\n");
    desk.types(100, "4\n");
    let shown = desk.shown();
    assert!(
        shown.contains("To approve, type the number of hosts, 3, and Enter") && shown.contains("x This does not match"),
        "{shown}"
    );
    assert!(!approves(&desk.types(100, "3\n")), "it is shut for a second");
    let mut desk = Desk::open(":approve 1\n");
    desk.types(100, "4\n");
    update(&mut desk.model, Message::Tick(NOW.plus_ms(1_300)));
    let shown = desk.shown();
    assert!(
        shown.contains("To approve, type the number of hosts, 3, and Enter")
            && shown.contains(">  This does not match"),
        "{shown}"
    );
    desk.at = Duration::from_millis(1_300);
    assert!(approves(&desk.types(100, "3\n")));
}

#[test]
fn no_order_and_no_task_is_sent_out_of_a_paste() {
    // A text that is pasted over the board: its letters are keys.
    let mut desk = Desk::open(":task 5\n");
    assert!(desk.look(500, "c\nancel it\n\n\n").is_empty());
    let Some(Dialog::Confirm(confirm)) = &desk.model.ui.dialog else { panic!("{}", desk.shown()) };
    // Where a text may be pasted it stands there, and waits for somebody's Enter.
    assert_eq!(confirm.reason.text(), "ancel it");
    assert!(desk.shown().contains("it counts as pasted"), "{}", desk.shown());
    assert_eq!(desk.types(100, "\n").len(), 1);
    // Nor does it answer a question without a reason, or one with a phrase.
    for (open, text) in [(":task 5\n", "s\n\n\n"), (":task 5\n", "Rrun again\n\n"), ("  ", "x2\t\nwhy\n\n")] {
        let mut desk = Desk::open(open);
        assert!(desk.look(500, text).is_empty(), "{text:?}");
        assert!(desk.model.ui.dialog.is_some(), "{text:?}: {}", desk.shown());
    }
    let mut desk = Desk::open("n\n");
    assert!(update(&mut desk.model, ctrl('s')).is_empty(), "hosts are missing");
    keys(&mut desk.model, "web-0001");
    assert!(update(&mut desk.model, ctrl('s')).is_empty(), "the tag is missing");
    assert!(desk.look(500, "v2.9^").is_empty());
    assert!(desk.model.ui.said.as_ref().unwrap().0.contains("Press Ctrl-s again"), "{:?}", desk.model.ui.said);
    assert_eq!(desk.types(100, "^").len(), 1, "{:?}", desk.model.ui.said);
}
