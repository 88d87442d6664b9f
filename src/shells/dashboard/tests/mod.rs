//! The dashboard as a whole: every screen in every size, and any key at any time.

mod acts;
mod bursts;
mod forms;
mod named;
mod said;
mod selection;
mod stage;
mod states;

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::Zone;
use crate::domain::order::Wish;
use crate::domain::output::Stream;
use crate::domain::resolve::resolve;
use crate::domain::run::TaskState;
use crate::domain::wire::{read_order, read_task};
use crate::engine::DropBox;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::look::Theme;
use crate::shells::dashboard::message::{Anchor, Command, LogKey, LogLine, LogPage, LogPart, Message};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::view;
use crate::shells::dashboard::words::Lang;
use crate::shells::text::{cells, fit, shown};

use stage::{NOW, ctrl, key, keys, library, stage};

const SIZES: [(u16, u16); 5] = [(60, 15), (80, 24), (100, 30), (160, 45), (240, 60)];

fn page(key: LogKey) -> LogPage {
    let text: [(&[u8], Stream); 5] = [
        (b"Reading package lists...", Stream::Out),
        ("正在读取状态信息... 完成".as_bytes(), Stream::Out),
        (b"\x1b]0;pwned\x07\x1b[2Jtitle \x1b[1;31mred\x1b[0m and bell\x07", Stream::Err),
        (b"col\tcol\x08", Stream::Out),
        ("\u{202e}abc \u{9b}31m".as_bytes(), Stream::Err),
    ];
    let lines = text.iter().zip(0..).map(|((bytes, stream), n)| LogLine {
        offset: n * 50,
        stream: *stream,
        bytes: bytes.to_vec(),
        length: bytes.len() as u64,
        goes_on: n == 3,
    });
    LogPage {
        of: LogPart { key, stream: None },
        anchor: Anchor::End,
        length: 16 << 20,
        lines: lines.collect(),
        next: 250,
        number: Some(9_812_044),
        cut: Some(100),
    }
}

/// Two files of the configuration are wrong; where there is room, the help says all of it.
fn broken_configuration(model: &mut Model) {
    let wrong = "policy.toml:3: found the field whoo; wanted one of the fields who, templates and into";
    let more = "templates/publish.toml:9: found a step without a name; wanted one";
    let clock = model.world.clock(NOW);
    update(model, Message::Library(Err(vec![wrong.to_owned(), more.to_owned()])));
    assert_eq!(model.world.clock(NOW), clock, "the last good time zone stays");
    if model.ui.size.height > 24 {
        keys(model, "?");
    }
}

/// A name, and how the screen is reached.
type Scene = (&'static str, fn(&mut Model));

/// Every screen, by the keys that lead to it from the board.
fn scenes() -> Vec<Scene> {
    vec![
        ("board", |_| {}),
        ("board-marks", |m| drop(keys(m, " j F"))),
        ("board-filter", |m| drop(keys(m, "/alice"))),
        ("board-empty", |m| {
            for id in 1..=6 {
                update(m, Message::Gone(TaskId(id)));
            }
            update(m, Message::Recent { all: 0, failed: 0, lines: Vec::new() });
            update(m, Message::Daemon(None));
        }),
        ("task-few", |m| drop(keys(m, ":task 5\n"))),
        ("task-many", |m| drop(keys(m, ":task 6\n"))),
        ("task-unfolded", |m| drop(keys(m, ":task 6\nGl"))),
        ("task-hosts", |m| drop(keys(m, ":task 6\nzF"))),
        ("task-map", |m| drop(keys(m, ":task 6\nzzlll"))),
        ("task-acts", |m| drop(keys(m, ":task 5\nzzz"))),
        ("log", |m| {
            keys(m, ":task 5\n\n");
            let wanted = m.wants().log.expect("a log was opened");
            let page = page(wanted.of.key);
            update(m, Message::Log(page));
        }),
        ("hosts", |m| drop(keys(m, "2jj"))),
        ("host", |m| drop(keys(m, "2j\n"))),
        ("history", |m| drop(keys(m, "3jjj"))),
        ("audit", |m| drop(keys(m, "4"))),
        ("templates", |m| drop(keys(m, "5"))),
        ("refused", |m| drop(keys(m, ":bad\nj"))),
        ("needs", |m| drop(keys(m, ":needs\nj"))),
        ("diff", |m| drop(keys(m, ":diff 1 7\n"))),
        ("requests", |m| {
            let commands = keys(m, ":cancel 5\nno longer\n");
            let Some(Command::Drop { request, .. }) = commands.first() else { panic!("nothing was sent") };
            update(m, Message::Dropped(*request, Ok("cancel-1.json".to_owned())));
            keys(m, "L");
        }),
        ("command", |m| drop(keys(m, ":re"))),
        ("help", |m| drop(keys(m, "?"))),
        ("configuration", broken_configuration),
        ("approve", |m| drop(keys(m, "aye"))),
        ("approve-params", |m| drop(keys(m, "a\t\t"))),
        ("approve-high", |m| drop(keys(m, ":approve 2\n"))),
        ("approve-own", |m| drop(keys(m, ":approve 3\n"))),
        ("approve-changed", |m| {
            keys(m, "a3");
            let mut other = library(130);
            other.defaults.user = "root".to_owned();
            update(m, Message::Library(Ok(Arc::new(other))));
        }),
        ("reject", |m| drop(keys(m, "x不需要"))),
        ("cancel-many", |m| drop(keys(m, "  c"))),
        ("release", |m| drop(keys(m, ":task 5\ns"))),
        ("cancel", |m| drop(keys(m, ":task 5\nc"))),
        ("retry", |m| drop(keys(m, ":task 5\nr"))),
        ("form", |m| drop(keys(m, "n\n名称\t"))),
        ("form-json", |m| {
            keys(m, "n\n");
            update(m, ctrl('t'));
        }),
        ("form-plan", |m| {
            keys(m, ":same 1\n");
            update(m, ctrl('t'));
            update(m, ctrl('t'));
        }),
        ("form-hosts", |m| drop(keys(m, "n\n\t\t\t\nweb-00"))),
    ]
}

fn frame(model: &Model) -> Buffer {
    let ScreenSize { width, height } = model.ui.size;
    let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width, height });
    view::draw(model, &mut buffer);
    buffer
}

/// Every character stands in as many cells as terminals give it, and none beyond the edge.
fn check_cells(buffer: &Buffer, what: &str) {
    for y in 0..buffer.area.height {
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            assert!(!symbol.chars().any(crate::base::text::is_hidden), "{what}: {symbol:?} at {x},{y}");
            let wide = cells(symbol);
            let alone = symbol.chars().filter(|c| crate::shells::text::cells::width(*c) > 0).count() == 1;
            assert!(alone, "{what}: {symbol:?} at {x},{y} are several characters");
            assert!(wide == 1 || wide == 2, "{what}: {symbol:?} at {x},{y} takes {wide} cells");
            if wide == 2 {
                assert!(x + 1 < buffer.area.width, "{what}: {symbol:?} is cut at the edge of line {y}");
                assert_eq!(buffer[(x + 1, y)].symbol(), " ", "{what}: something stands under {symbol:?}");
            }
            x += u16::try_from(wide).unwrap();
        }
    }
}

#[test]
fn every_screen_fits_in_every_size_and_language() {
    for lang in Lang::ALL {
        for (name, open) in scenes() {
            let mut text = String::new();
            for size in SIZES {
                let mut model = stage(size, lang, Theme::Dark);
                open(&mut model);
                let what = format!("{name} {} {size:?}", lang.word());
                let colour = frame(&model);
                check_cells(&colour, &what);
                model.ui.look.theme = Theme::Mono;
                let mono = frame(&model);
                assert_eq!(view::lines_of(&colour), view::lines_of(&mono), "{what}: the theme changes the text");
                assert!(
                    mono.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset),
                    "{what}: mono has a colour"
                );
                model.ui.look.ascii = false;
                model.ui.look.theme = if size.0 > 100 { Theme::Light } else { Theme::Safe };
                check_cells(&frame(&model), &what);
                text += &format!("== {}x{}\n{}\n", size.0, size.1, view::lines_of(&colour).join("\n"));
            }
            insta::assert_snapshot!(format!("{name}.{}", lang.word()), text);
        }
    }
}

#[test]
fn no_chinese_screen_says_in_english_what_it_can_say_in_chinese() {
    let pairs = Lang::En.words().all().into_iter().zip(Lang::Zh.words().all());
    let own = |text: &str| text.trim().len() > 9 && text.trim().contains(' ');
    let pieces: Vec<(&str, &str)> = pairs
        .filter(|((_, en), (_, zh))| en != zh)
        .flat_map(|((name, en), (_, zh))| {
            en.split(&['\n'][..]).flat_map(|line| line.split("{}")).map(move |en| (name, en, zh))
        })
        .filter(|(_, en, zh)| own(en) && !zh.contains(en.trim()))
        .map(|(name, en, _)| (name, en.trim()))
        .collect();
    assert!(pieces.len() > 150, "{}", pieces.len());
    // The form shows the plan as `spoolgate plan` prints it.
    for (scene, open) in scenes().into_iter().filter(|(name, _)| *name != "form-plan") {
        let mut model = stage((240, 60), Lang::Zh, Theme::Dark);
        open(&mut model);
        let shown = view::as_text(&model);
        let english: Vec<_> = pieces.iter().filter(|(_, piece)| shown.contains(piece)).collect();
        assert!(english.is_empty(), "{scene}: {english:?} in\n{shown}");
    }
}

#[test]
fn the_columns_of_lists_are_never_cut_from_eighty_cells_on() {
    for lang in Lang::ALL {
        for (open, line) in [("", 3), ("2", 3), ("3", 3), ("4", 3), ("5", 3)] {
            let mut model = stage((80, 24), lang, Theme::Dark);
            keys(&mut model, open);
            let lines = view::lines_of(&frame(&model));
            assert!(!lines[line].contains('~'), "{open} {}: {}", lang.word(), lines[line]);
            assert!(
                !lines[0].contains('~') && !lines[23].contains('~'),
                "{open} {}: {} / {}",
                lang.word(),
                lines[0],
                lines[23]
            );
        }
    }
}

#[test]
fn a_small_screen_says_what_it_needs() {
    let model = stage((59, 15), Lang::En, Theme::Dark);
    assert!(view::as_text(&model).starts_with("spoolgate needs at least 60x15"));
}

/// Numbers from a seed (`splitmix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

fn count(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Names of every kind that has ever shifted a column.
fn any_name(dice: &mut Dice) -> String {
    const PIECES: [&str; 27] = [
        "a",
        "Z",
        "7",
        " ",
        "-",
        "发",
        "布",
        "任务",
        "\u{1100}\u{1161}\u{11a8}",
        "각",
        "\u{1f468}\u{200d}\u{1f469}",
        "e\u{301}",
        "\u{301}",
        "\u{202e}",
        "\u{5d0}\u{5d1}",
        "\u{2764}\u{fe0f}",
        "\u{1f1e8}\u{1f1f3}",
        "\u{200b}",
        "─",
        "①",
        "\u{1f44d}\u{1f3fd}",
        "\u{a9}\u{fe0e}",
        "น\u{e33}",
        "\u{915}\u{94d}\u{937}",
        "\u{995}\u{9be}",
        "\u{302e}",
        "\u{1f1e8}",
    ];
    let length = dice.roll(24) + if dice.roll(500) == 0 { 4_000 } else { 0 };
    (0..length).map(|_| dice.pick(&PIECES)).collect()
}

#[test]
fn columns_stand_still_whatever_a_name_holds() {
    let cases = count("WIDTHS", 20_000);
    let mut dice = Dice(count("SEED", 0x0511));
    println!("WIDTHS={cases} SEED={:#x}", dice.0);
    let mut model = stage((100, 30), Lang::En, Theme::Dark);
    for case in 0..cases {
        let name = any_name(&mut dice);
        let text = shown(&name);
        let room = usize::try_from(dice.roll(40)).unwrap();
        assert_eq!(cells(&fit(&text, room)), room, "case {case}: {name:?} in {room}");
        if case % 50 == 0 {
            let mut standing = model.world.tasks()[&TaskId(1)].view.clone();
            standing.task_name = name.clone();
            update(&mut model, Message::Stands(Box::new(standing), TaskState::New));
            let buffer = frame(&model);
            check_cells(&buffer, &name);
            let lines = view::lines_of(&buffer);
            let column = |line: &str, word: &str| line.find(word).map(|at| cells(&line[..at]));
            assert_eq!(column(&lines[5], "alice"), column(&lines[3], "BY"), "case {case}: {name:?}\n{}", lines[5]);
        }
    }
}

/// Any key, paste, click or change of size.
fn any_message(dice: &mut Dice, model: &Model, phrase: &str) -> Message {
    const WORDS: [char; 40] = [
        'j', 'k', 'g', 'G', 'h', 'l', 'q', '1', '2', '3', '4', '5', '/', 'n', 'N', '&', 'F', ':', ' ', 'v', 'V', 'a',
        'x', 'u', 'p', 's', 'c', 'r', 'R', 'K', 'f', 'w', 'z', 'o', 't', 'd', 'y', 'e', 'L', '?',
    ];
    const CODES: [KeyCode; 14] = [
        KeyCode::Enter,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::PageDown,
        KeyCode::Backspace,
        KeyCode::Delete,
    ];
    match dice.roll(40) {
        0 => Message::Resize(u16::try_from(dice.roll(200)).unwrap() + 1, u16::try_from(dice.roll(60)).unwrap() + 1),
        1 => Message::Paste(any_name(dice)),
        2 => Message::Paste(phrase.to_owned()),
        3 => Message::Mouse(MouseEvent {
            kind: dice.pick(&[
                MouseEventKind::Down(MouseButton::Left),
                MouseEventKind::ScrollDown,
                MouseEventKind::ScrollUp,
            ]),
            column: u16::try_from(dice.roll(300)).unwrap(),
            row: u16::try_from(dice.roll(80)).unwrap(),
            modifiers: KeyModifiers::NONE,
        }),
        4 => Message::Tick(model.world.now().plus_ms(i64::try_from(dice.roll(5_000)).unwrap())),
        5 => ctrl(dice.pick(&['d', 'u', 't', 's', 'r', 'w', 'a', 'e', 'y', 'x', 'l'])),
        6 => match dice.roll(3) {
            0 => Message::Burst(KeyEvent::new(KeyCode::Char(dice.pick(&WORDS)), KeyModifiers::NONE)),
            1 => Message::Burst(KeyEvent::new(KeyCode::Char('s'), KeyModifiers::CONTROL)),
            _ => Message::Burst(KeyEvent::new(dice.pick(&CODES), KeyModifiers::NONE)),
        },
        7..14 => key(dice.pick(&CODES)),
        _ => key(KeyCode::Char(dice.pick(&WORDS))),
    }
}

#[test]
fn any_key_at_any_time_approves_nothing_but_what_was_typed_for() {
    let events = count("EVENTS", 12_000);
    let mut dice = Dice(count("SEED", 0xd1ce));
    println!("EVENTS={events} SEED={:#x}", dice.0);
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    let zone = Zone::utc();
    let (mut given, mut orders, mut eager) = (0, 0, false);
    for event in 0..events {
        if event % 150 == 0 {
            // Nobody leaves a form by chance: a new session begins.
            (model.ui.dialog, model.ui.prompt, model.ui.size) = (None, None, ScreenSize::new(80, 24));
            model.ui.pop_all();
        }
        let typed = match &model.ui.dialog {
            Some(Dialog::Approve(approval)) => Some((approval.field.text().trim().to_owned(), approval.id)),
            _ => None,
        };
        let before: Option<(Digest, String)> = typed.as_ref().and_then(|(_, id)| {
            let run = model.world.run(*id)?;
            Some((run.digest, model.world.risk(&run.plan).phrase(&run.plan)))
        });
        if dice.roll(40) == 0 && model.ui.dialog.is_none() && model.ui.prompt.is_none() {
            let id = TaskId(dice.roll(6) + 1);
            keys(&mut model, &format!(":approve {id}\n"));
            let phrase = model.world.run(id).map(|run| model.world.risk(&run.plan).phrase(&run.plan));
            keys(&mut model, &phrase.unwrap_or_default());
            eager = true;
            continue;
        }
        let phrase = before.as_ref().map_or("yes", |(_, phrase)| phrase.as_str());
        let message =
            if std::mem::take(&mut eager) { key(KeyCode::Enter) } else { any_message(&mut dice, &model, phrase) };
        let shown = format!("{message:?}");
        let typed_by_somebody = !matches!(message, Message::Burst(_) | Message::Paste(_));
        for command in update(&mut model, message) {
            match command {
                Command::Quit => {
                    model.ui.pop_all();
                    model.ui.said = None;
                }
                Command::Drop { .. } if !typed_by_somebody => panic!("event {event} {shown} sent something"),
                Command::Drop { drop_box: DropBox::Orders, bytes, .. } => {
                    orders += 1;
                    let order = read_order(&bytes, &zone).unwrap();
                    if let Wish::Approve { digest, .. } = order.wish {
                        given += 1;
                        let (text, id) =
                            typed.clone().unwrap_or_else(|| panic!("event {event} {shown}: no dialog was open"));
                        let (of, phrase) = before.clone().unwrap();
                        assert_eq!((order.task, digest, text), (id.to_string(), of, phrase), "event {event} {shown}");
                    }
                }
                _ => {}
            }
        }
        model.wants();
        if event % 20 == 0 {
            check_cells(&frame(&model), &shown);
        }
    }
    assert!(given > 0 && orders > given, "{given} approvals and {orders} orders: the keys never got there");
}

#[test]
fn an_approval_carries_the_digest_on_the_screen_and_a_change_clears_the_field() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    keys(&mut model, ":approve 1\nye");
    assert!(keys(&mut model, "\n").is_empty(), "half a phrase is none");
    update(&mut model, Message::Tick(NOW.plus_ms(1_000)));
    keys(&mut model, "3");
    let mut other = library(130);
    other.defaults.user = "root".to_owned();
    update(&mut model, Message::Library(Ok(Arc::new(other.clone()))));
    let Some(Dialog::Approve(approval)) = &model.ui.dialog else { panic!("it closed") };
    assert!(approval.field.text().is_empty() && approval.was.is_some() && approval.changed);
    let commands = keys(&mut model, "3\n");
    let [Command::Drop { bytes, .. }] = &commands[..] else { panic!("{commands:?}") };
    let Wish::Approve { digest, .. } = read_order(bytes, &Zone::utc()).unwrap().wish else { panic!("no approval") };
    let run = &model.world.runs()[&TaskId(1)];
    let submission = read_task(run.accepted.submission.as_bytes(), &other.zone).unwrap();
    assert_eq!(digest, resolve(&submission, &other).unwrap().digest());
    assert_ne!(digest, run.digest, "what stood there first was not what would run");
}

#[test]
fn high_risk_is_read_before_it_is_approved() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    keys(&mut model, ":approve 2\n");
    assert!(keys(&mut model, "publish 120\n").is_empty(), "three seconds have not passed");
    update(&mut model, Message::Tick(NOW.plus_ms(3_001)));
    assert!(keys(&mut model, "publish 120\n").is_empty(), "nothing was read to its end");
    update(&mut model, Message::Previous(TaskId(2), None));
    keys(&mut model, "^\t^\t^\t^");
    update(&mut model, Message::Paste("publish 120".to_owned()));
    assert!(keys(&mut model, "\n").is_empty(), "nothing is pasted");
    update(&mut model, Message::Tick(NOW.plus_ms(4_001)));
    assert_eq!(keys(&mut model, "publish 120\n").len(), 1);
}

#[test]
fn who_only_reads_changes_nothing() {
    let mut model = stage((80, 24), Lang::En, Theme::Dark);
    model.ui.readonly = true;
    for text in [
        "a",
        "x",
        "c",
        "n",
        "p",
        "s",
        "r",
        "R",
        "K",
        "u",
        "t",
        ":approve 1\n",
        ":cancel 5\nwhy\n",
        ":new publish\n",
        "5\n",
    ] {
        let sent = keys(&mut model, text).into_iter().any(|command| matches!(command, Command::Drop { .. }));
        assert!(!sent, "{text}");
        assert!(model.ui.dialog.is_none(), "{text} opened a dialog");
        model.ui.pop_all();
    }
}
