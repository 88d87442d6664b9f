//! What a terminal sends that nobody typed, and what becomes of a terminal that somebody else used meanwhile.

use serde_json::json;

use crate::approval::event;
use crate::dashboard::{Screen, approve_by_the_hints, drop_task, signal_dashboard, world};
use crate::sshd::Sshd;
use crate::world::{BOB, World, wait_for};

#[test]
fn a_paste_without_marks_approves_nothing() {
    let sshd = Sshd::start();
    let mut world = world(&sshd);
    world.start();
    let slow = json!({"task_name": "slow one", "temp_id": 903, "hosts": {"1": ["web1", "web2"]}});
    let id = drop_task(&world, "slow", &slow);
    let screen = Screen::open(&world, BOB, (80, 24), "spoolgate");
    screen.shows("slow one");
    let asks = "To approve, type the number of hosts, 2, and Enter";
    for paste in ["q\n1\n12\n2\n", "2\n", "\n2\n", "\t\t\t\t\t2\n"] {
        screen.keys(&["a"]);
        screen.shows(asks);
        screen.types(paste);
        let shown = screen.shows("x Pasting is not possible here: type it.");
        assert!(shown.contains(asks), "{shown}");
        screen.keys(&["Escape"]);
        screen.shows("NEW: waiting for approval (1)");
    }
    // The way to the dialog pasted with it, and a paste that the terminal has in a buffer of its own.
    screen.types("a2\n");
    screen.shows("x Pasting is not possible here");
    screen.keys(&["Escape"]);
    screen.shows("NEW: waiting for approval (1)");
    screen.keys(&["a"]);
    screen.shows(asks);
    screen.tmux(&["set-buffer", "2\r"]);
    screen.tmux(&["paste-buffer"]);
    screen.shows("x Pasting is not possible here");
    assert!(world.events(id).iter().all(|event| event["event"] != "approved"), "{:?}", world.events(id));
    screen.keys(&["Escape", "a"]);
    approve_by_the_hints(&screen);
    event(&world, id, "approved");
}

#[test]
fn what_is_pasted_behind_an_approve_command_does_not_answer_it() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let id = drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let screen = Screen::open(&world, BOB, (100, 50), "exec sh -i");
    screen.types(&format!("spoolgate approve {id}\n1\n1\n"));
    screen.shows(&format!("To approve task {id} (medium risk), type the number of its hosts:"));
    screen.types_slowly("no");
    screen.keys(&["Enter"]);
    screen.shows("not approved: \"no\" is not 1");
    assert!(world.events(id).iter().all(|event| event["event"] != "approved"), "{:?}", world.events(id));
    screen.types("clear; echo clear$((40 + 2))\n");
    screen.shows("clear42");
    screen.types(&format!("spoolgate approve {id}\n"));
    screen.shows("type the number of its hosts:");
    screen.types_slowly("1");
    screen.keys(&["Enter"]);
    event(&world, id, "approved");
}

#[test]
fn the_answers_of_a_terminal_are_no_keys() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let screen = Screen::open(&world, BOB, (80, 24), "spoolgate");
    let board = screen.shows("say hello");
    for answer in [
        "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
        "\x1b]11;rgb:ffff/ffff/ffff\x07",
        "\x1b]52;c;cm0gLXJmIC8K\x07",
        "\x1bP>|tmux 3.5a\x1b\\",
        "\x1b[>0;276;0c",
        "\x1b[?2026;2$y",
        "\x1b[4;600;800t",
    ] {
        // In two pieces, too.
        let half = answer.len() / 2;
        for piece in [answer, &answer[..half], &answer[half..]] {
            screen.types(piece);
        }
    }
    // A key that comes after them works, and they did nothing.
    screen.keys(&["?"]);
    screen.shows("HELP");
    screen.keys(&["Escape"]);
    screen.shows("NEW: waiting for approval");
    let minute = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    wait_for("the board as it was", || (minute(&screen.text()) == minute(&board)).then_some(()));
}

#[test]
fn a_dashboard_that_somebody_stops_paints_itself_again() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let screen = Screen::open(&world, BOB, (80, 24), "exec sh -i");
    screen.types("PS1='ready$ '; set -m\n");
    screen.shows("ready$");
    for signal in ["-STOP", "-TSTP"] {
        screen.types("clear; spoolgate top\n");
        screen.shows("say hello");
        signal_dashboard(&screen, signal);
        screen.shows("Stopped");
        // Enter is no line feed in a terminal that was left raw.
        screen.types("clear; fg");
        screen.keys(&["C-j"]);
        screen.shows("NEW: waiting for approval");
        // It reads keys and not lines.
        screen.keys(&["?"]);
        screen.shows("HELP");
        screen.keys(&["Escape"]);
        screen.shows("NEW: waiting for approval");
        screen.keys(&["q"]);
        wait_for("the shell", || (screen.foreground() == "sh").then_some(()));
    }
}

#[test]
fn an_editor_is_started_as_a_shell_would_and_says_what_it_did_not_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let editor = world.etc().join("my editor");
    let script = "#!/bin/sh\nfor last; do :; done\ncase $1 in\n  quit) exit 1;;\n  binary) printf '\\377' >\"$last\";;\n\
                  remove) rm \"$last\";;\n  'two words') sed -i 's/say it/say it twice/' \"$last\";;\nesac\n";
    std::fs::write(&editor, script).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (visual, want) in [
        (format!("'{}' quit", editor.display()), "ended with exit 1"),
        (format!("'{}' binary", editor.display()), "not UTF-8"),
        (format!("'{}' remove", editor.display()), "left no file"),
        (format!("'{}' nothing", editor.display()), "changed nothing"),
        ("no-such-editor -w".to_owned(), "$VISUAL names no-such-editor"),
        ("vi 'half".to_owned(), "a quote is not closed"),
        (format!("\"{}\" 'two words'", editor.display()), "say it twice"),
    ] {
        let screen = Screen::open(&world, BOB, (100, 30), "exec sh -i");
        screen.types(&format!("VISUAL={} spoolgate\n", shell_word(&visual)));
        screen.shows("There are no tasks.");
        screen.types(":new hello\n");
        screen.shows("NEW TASK");
        screen.keys(&["C-u"]);
        screen.types("say it");
        screen.keys(&["C-o"]);
        screen.shows(want);
        screen.shows("say it");
    }
}

/// Writes a text as one word of a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn what_stood_on_the_screen_before_is_gone_whatever_a_name_is_written_in() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let names = [
        "flags \u{1f1e8}\u{1f1f3}\u{1f1e9}\u{1f1ea} end",
        "น\u{e33}ท\u{e33}ค\u{e33}ส\u{e31}\u{e48}งก\u{e33} end",
        "ກ\u{eb3}ນ\u{eb3}ຄ\u{eb3} end",
        "\u{915}\u{94d}\u{937}\u{924}\u{94d}\u{930} \u{928}\u{94d}\u{924}\u{94d}\u{930} end",
        "\u{995}\u{9be}\u{9b0}\u{9cd}\u{995} \u{b95}\u{bbe} end",
        "\u{1f44d}\u{1f3fd} \u{2764}\u{fe0f} \u{1f468}\u{200d}\u{1f469} e\u{301} \u{2630} end",
        "发布\u{5d0}\u{5d1} \u{639}\u{631} end",
    ];
    for (n, name) in names.iter().enumerate() {
        let script = format!("#!/bin/sh\necho '{name}'\n# {}\n", names[(n + 1) % names.len()]);
        let task = json!({"task_name": name, "script": script, "hosts": {"1": ["here"]}, "details": name});
        drop_task(&world, &format!("odd{n}"), &task);
    }
    for size in [(80, 24), (160, 45)] {
        let screen = Screen::open(&world, BOB, size, "spoolgate");
        screen.shows("NEW: waiting for approval (7)");
        for keys in [
            &["j"][..],
            &["j", "j", "j"],
            &["a"],
            &["Down", "Down", "Down"],
            &["Tab"],
            &["Tab", "Tab", "Tab"],
            &["PgDn"],
            &["Escape"],
            &["Enter"],
            &["z", "z", "z"],
            &["Escape", "Escape"],
            &["k"],
            &["d"],
            &["2"],
            &["3"],
            &["1"],
            &["?"],
            &["Escape"],
            &["t"],
            &["C-t"],
            &["C-t"],
            &["Escape"],
            &["g"],
        ] {
            screen.keys(keys);
            stands_still(&screen);
            let shown = screen.text();
            // Everything is painted anew on an empty screen.
            screen.keys(&["C-l"]);
            stands_still(&screen);
            let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&shown), lines(&screen.text()), "after {keys:?} at {size:?}");
        }
        // What stands behind a name stands in its column.
        let board = screen.text();
        let cell = |line: &str, word: &str| screen_cell(line, word);
        let heading = board.lines().find_map(|line| cell(line, "BY"));
        if size.0 == 80 {
            for line in board.lines().filter(|line| line.contains("uid-61001")) {
                assert_eq!(cell(line, "uid-61001"), heading, "{board}");
            }
        }
    }
}

/// Waits until the terminal shows the same for a while.
fn stands_still(screen: &Screen) {
    let mut last = (screen.text(), std::time::Instant::now());
    wait_for("the screen to stand still", || {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        let text = screen.text();
        if text != last.0 {
            last = (text, std::time::Instant::now());
        }
        (last.1.elapsed() > std::time::Duration::from_millis(300)).then_some(())
    });
}

/// The column of a word, as wide as the C library says that characters are, as tmux does.
fn screen_cell(line: &str, word: &str) -> Option<usize> {
    let at = line.find(word)?;
    let wide = |c: char| match c {
        '\u{300}'..='\u{36f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{94d}' | '\u{9cd}' => 0,
        '\u{4e00}'..='\u{9fff}' | '\u{1f000}'..='\u{1faff}' => 2,
        _ => 1,
    };
    Some(line[..at].chars().map(wide).sum())
}
