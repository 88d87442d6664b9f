//! The dashboard in a real terminal (tmux), on a real daemon and a real sshd: people's keys, and what they did on disk.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::approval::event;
use crate::patience::InTime as _;
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, GROUP_ID, World, wait_at_most, wait_for};

/// How long a person takes from one key to the next; what comes faster counts as pasted.
const STROKE: Duration = Duration::from_millis(40);

/// Every terminal has a socket of its own.
static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// A terminal with a program in it.
pub(crate) struct Screen {
    socket: PathBuf,
    uid: u32,
}

impl Screen {
    /// Opens a terminal in which somebody runs a command of the shell; `spoolgate` is on its path.
    pub(crate) fn open(world: &World, uid: u32, (columns, rows): (u16, u16), command: &str) -> Screen {
        let dir = world.etc().parent().unwrap().join(format!("tmux-{uid}"));
        std::fs::create_dir_all(&dir).unwrap();
        chown(&dir, Some(uid), Some(GROUP_ID)).unwrap();
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let screen = Screen { socket: dir.join(format!("s{n}")), uid };
        let binary = Path::new(env!("CARGO_BIN_EXE_spoolgate")).parent().unwrap();
        let path = format!("{}:/usr/bin:/bin", binary.display());
        let size = [columns.to_string(), rows.to_string()];
        screen.tmux_with(
            &["-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1], command],
            &[
                ("PATH", path.as_str()),
                ("SPOOLGATE_CONFIG", world.etc().to_str().unwrap()),
                ("SPOOLGATE_STATE", world.state().to_str().unwrap()),
                ("LC_ALL", "C.UTF-8"),
                ("HOME", dir.to_str().unwrap()),
                ("SHELL", "/bin/sh"),
                ("NO_COLOR", ""),
            ],
        );
        screen.tmux(&["set-option", "-g", "escape-time", "0"]);
        screen
    }

    fn tmux_with(&self, args: &[&str], environment: &[(&str, &str)]) -> String {
        let mut command = Command::new("/usr/bin/tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(args).uid(self.uid).gid(GROUP_ID);
        command.env_remove("TMUX").envs(environment.iter().copied());
        let output = command.output_in_time().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn tmux(&self, args: &[&str]) -> String {
        self.tmux_with(args, &[])
    }

    pub(crate) fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the terminal shows a text.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> String {
        let begin = Instant::now();
        loop {
            let shown = self.text();
            if shown.contains(text) {
                return shown;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "no {text:?} on the screen:\n{shown}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Presses keys by their names, one after the other.
    pub(crate) fn keys(&self, keys: &[&str]) {
        for key in keys {
            std::thread::park_timeout(STROKE);
            self.tmux(&["send-keys", key]);
        }
    }

    /// Types a text key by key, as people do.
    pub(crate) fn types_slowly(&self, text: &str) {
        for c in text.chars() {
            std::thread::park_timeout(STROKE);
            self.types(&c.to_string());
        }
    }

    /// Sends a text at once, as a terminal does with what is pasted that knows no marks for it.
    pub(crate) fn types(&self, text: &str) {
        // Enter is a carriage return on every keyboard.
        self.tmux(&["send-keys", "-l", &text.replace('\n', "\r")]);
    }

    /// The program that has the terminal.
    pub(crate) fn foreground(&self) -> String {
        self.tmux(&["display-message", "-p", "#{pane_current_command}"]).trim().to_owned()
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen showed last:\n{}", self.text());
        }
        let _ = Command::new("/usr/bin/tmux").arg("-S").arg(&self.socket).arg("kill-server").output_in_time();
    }
}

const GATED: &str = "id = 901\nname = \"gated\"\ntitle = \"a step that waits\"\n[[step]]\nname = \"first\"\nscript = \"echo one\\n\"\n\
    [[step]]\nname = \"second\"\nscript = \"echo two\\n\"\ntrigger = \"manual\"\n";
const FLAKY: &str = "id = 902\nname = \"flaky\"\ntitle = \"fails once\"\n[[step]]\nname = \"try\"\n\
    script = \"[ -e $MARK ] || { touch $MARK; echo no luck >&2; exit 3; }\\n\"\n[[param]]\nname = \"MARK\"\nrequired = true\n";
const SLOW: &str = "id = 903\nname = \"slow\"\ntitle = \"takes a minute\"\nrisk = \"medium\"\n[[step]]\nname = \"wait\"\nscript = \"echo begun; sleep 61\\n\"\n";

pub(crate) fn world(sshd: &Sshd) -> World {
    let world = World::new(&[("web1", "127.0.0.1"), ("web2", "127.0.0.2")], Some(sshd));
    for (name, text) in [("gated", GATED), ("flaky", FLAKY), ("slow", SLOW)] {
        world.write_etc(&format!("templates/{name}.toml"), text);
    }
    world
}

pub(crate) fn drop_task(world: &World, name: &str, task: &serde_json::Value) -> u64 {
    world.drop_file("new", &format!("{name}.json"), task.to_string().as_bytes(), ALICE);
    world.task_of(name)
}

/// Approves the task whose dialog is open, by what the screen says.
pub(crate) fn approve_by_the_hints(screen: &Screen) {
    let shown = screen.shows("To approve, type ");
    let line = shown.lines().find(|line| line.contains("To approve, type ")).unwrap();
    let wanted = line.split("To approve, type ").nth(1).unwrap().split(" and Enter").next().unwrap();
    let phrase = wanted.trim_end_matches(',').rsplit(", ").next().unwrap();
    screen.types_slowly(phrase);
    screen.keys(&["Enter"]);
}

/// Every act, by keys alone.
fn acts_by_keys(size: (u16, u16)) {
    let sshd = Sshd::start();
    let mut world = world(&sshd);
    world.start();
    let hello =
        drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["web1", "web2"]}}));
    let screen = Screen::open(&world, 0, size, "spoolgate");
    screen.shows("say hello");

    screen.keys(&["a"]);
    screen.shows("exactly this will run");
    screen.shows("#!/bin/sh");
    approve_by_the_hints(&screen);
    event(&world, hello, "approved");
    assert_eq!(world.record(hello)["outcome"], "ok");
    screen.shows("approve 1: done");

    let unwanted =
        drop_task(&world, "unwanted", &json!({"task_name": "unwanted", "temp_id": 1, "hosts": {"1": ["web1"]}}));
    screen.shows("unwanted");
    screen.keys(&["g", "x", "Enter"]);
    screen.shows("A reason is needed");
    screen.types("不需要 not now");
    screen.keys(&["Enter"]);
    assert_eq!(event(&world, unwanted, "rejected")["reason"], "不需要 not now");

    let gated = drop_task(
        &world,
        "gated",
        &json!({"task_name": "gated one", "temp_id": 901, "hosts": {"1": ["web1", "web2"]}}),
    );
    screen.shows("gated one");
    screen.keys(&["g", "a"]);
    approve_by_the_hints(&screen);
    event(&world, gated, "started");
    screen.types(&format!(":task {gated}\n"));
    screen.shows("asks: second");
    screen.shows("asks 2");
    screen.keys(&["s"]);
    screen.shows("on all 2 host(s)");
    screen.keys(&["Enter"]);
    screen.shows("Step second starts on 2 host(s).");
    screen.keys(&["Enter"]);
    event(&world, gated, "steps_released");
    assert_eq!(world.record(gated)["outcome"], "ok");
    screen.keys(&["Escape"]);

    cancel_and_retry(&world, &screen);
    submit_by_keys(&world, &screen);
    screen.keys(&["q"]);
}

fn cancel_and_retry(world: &World, screen: &Screen) {
    let slow = drop_task(world, "slow", &json!({"task_name": "slow one", "temp_id": 903, "hosts": {"1": ["web1"]}}));
    screen.shows("slow one");
    screen.keys(&["g", "a"]);
    approve_by_the_hints(screen);
    event(world, slow, "step_started");
    screen.types(&format!(":task {slow}\n"));
    screen.shows("begun");
    screen.keys(&["c"]);
    screen.shows("CANCEL: what?");
    screen.keys(&["Enter"]);
    screen.shows("What runs on 1 host(s) is stopped");
    screen.types("took too long");
    screen.keys(&["Enter"]);
    assert_eq!(event(world, slow, "cancelled")["reason"], "took too long");
    assert_eq!(world.record(slow)["outcome"], "cancelled");
    screen.keys(&["Escape"]);

    let mark = world.etc().join("mark");
    let flaky = json!({"task_name": "flaky one", "temp_id": 902, "hosts": {"1": ["web1"]}, "args": {"MARK": mark}});
    let flaky = drop_task(world, "flaky", &flaky);
    screen.shows("flaky one");
    screen.keys(&["g", "a"]);
    approve_by_the_hints(screen);
    assert_eq!(world.record(flaky)["outcome"], "failed");
    screen.types(&format!(":task {flaky}\n"));
    screen.shows("exit 3");
    screen.keys(&["Enter"]);
    screen.shows("err|no luck");
    screen.keys(&["Escape", "r"]);
    screen.shows("RETRY: what?");
    screen.keys(&["Enter"]);
    screen.shows("1 host(s) start again");
    screen.keys(&["Enter"]);
    event(world, flaky, "retried");
    wait_for("the retry to end well", || (world.try_record(flaky)?["outcome"] == "ok").then_some(()));
    screen.keys(&["Escape"]);
}

fn submit_by_keys(world: &World, screen: &Screen) {
    screen.keys(&["n"]);
    screen.shows("which template?");
    let list = screen.text();
    let place = |name: &str| list.lines().position(|line| line.contains(name)).unwrap();
    let down = place("hello  ") - place("backup  ");
    screen.keys(&vec!["Down"; down]);
    screen.keys(&["Enter"]);
    screen.shows("NEW TASK  hello");
    screen.keys(&["C-u"]);
    screen.types("made here");
    screen.keys(&["Tab", "Tab"]);
    screen.types("web*, 50%");
    screen.shows("1 host(s), risk low");
    screen.keys(&["C-s"]);
    screen.shows("It is now task 6.");
    let made = world.events(6);
    assert_eq!((made[0]["by"]["uid"].as_u64(), made[0]["event"].as_str()), (Some(0), Some("accepted")));
    screen.shows("made here");
}

#[test]
fn every_act_is_done_by_keys_alone_on_eighty_columns() {
    acts_by_keys((80, 24));
}

#[test]
fn every_act_is_done_by_keys_alone_on_a_wide_screen() {
    acts_by_keys((160, 45));
}

#[test]
fn somebody_new_approves_by_what_the_screen_says() {
    let sshd = Sshd::start();
    let mut world = world(&sshd);
    world.start();
    let id = drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["web1"]}}));
    let begin = Instant::now();
    // They type the program's name. The board says what waits, and its last line which key does what.
    let screen = Screen::open(&world, BOB, (80, 24), "spoolgate");
    let board = screen.shows("NEW: waiting for approval (1)");
    let hints = board.lines().last().unwrap();
    let key = hints.split("  ").map(str::trim).find_map(|hint| hint.strip_suffix(" approve")).unwrap();
    screen.keys(&[key]);
    // The dialog says what will run and what to type.
    approve_by_the_hints(&screen);
    screen.shows("done 1");
    assert_eq!(world.record(id)["approvals"][0]["by"]["uid"], BOB);
    assert!(begin.elapsed() < Duration::from_mins(1), "it took {:?}", begin.elapsed());
}

#[test]
fn the_submitter_sees_why_not_and_a_change_underneath_turns_the_dialog_red() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let task = json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}});
    let id = drop_task(&world, "hello", &task);
    let own = Screen::open(&world, ALICE, (80, 24), "spoolgate");
    own.shows("say hello");
    own.keys(&["a"]);
    own.shows("(two-person");
    own.types("yes");
    own.keys(&["Enter"]);
    let other = Screen::open(&world, BOB, (100, 30), "spoolgate");
    other.shows("say hello");
    other.keys(&["a"]);
    other.shows("To approve, type the number of hosts, 1");
    other.types_slowly("ye");
    let script = world.etc().join("templates/hello.sh");
    let text = std::fs::read_to_string(&script).unwrap() + "echo and more\n";
    std::fs::write(&script, text).unwrap();
    other.shows("CHANGED UNDERNEATH");
    // What was typed of the old plan is gone, and what differs stands there, line by line.
    other.shows("+ echo and more");
    other.types("s");
    other.keys(&["Enter"]);
    other.shows("x This does not match; type the text shown above.");
    // It opens again after a moment.
    other.shows(">  This does not match");
    approve_by_the_hints(&other);
    other.shows("done 1");
    let events = world.events(id);
    let stale = events.iter().position(|event| event["event"] == "stale").unwrap();
    let approved = events.iter().position(|event| event["event"] == "approved").unwrap();
    assert!(stale < approved, "{events:?}");
    assert_eq!(world.record(id)["outcome"], "ok");
    let log = world.state().join(format!("runs/{id}/output/here/hello.log"));
    assert!(std::fs::read_to_string(log).unwrap().ends_with("and more\n"));
}

pub(crate) fn signal_dashboard(screen: &Screen, name: &str) {
    // On this terminal: other tests have dashboards of the same user.
    let tty = screen.tmux(&["display-message", "-p", "#{pane_tty}"]);
    let tty = tty.trim().trim_start_matches("/dev/");
    let pids = Command::new("pgrep").args(["-t", tty, "-f", "^spoolgate top$"]).output_in_time().unwrap();
    let pid = String::from_utf8_lossy(&pids.stdout).trim().to_owned();
    assert!(!pid.contains('\n'), "several dashboards: {pid}");
    assert!(Command::new("kill").args([name, &pid]).status_in_time().unwrap().success());
}

/// Ways in which a dashboard may end.
const ENDS: [&str; 8] = ["quit", "ctrl-c", "term", "hup", "suspend", "resize", "kill", "panic"];

#[test]
fn the_terminal_is_left_as_it_was_found_however_it_ends() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let sessions: usize = std::env::var("SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(ENDS.len());
    eprintln!("SESSIONS={sessions}");
    let screen = Screen::open(&world, BOB, (80, 24), "exec sh -i");
    screen.types("PS1='ready$ '; set -m\n");
    screen.shows("ready$");
    for n in 0..sessions {
        let how = ENDS[n % ENDS.len()];
        screen.types(&format!("clear; stty -a > $HOME/before.{n}; echo go{n}\n"));
        screen.shows(&format!("go{n}"));
        let program = if how == "panic" { panicking() } else { "spoolgate top".to_owned() };
        screen.types(&format!("{program}\n"));
        screen.shows("say hello");
        end(&screen, how, n);
        // What is typed too early would be keys of the dashboard.
        wait_at_most(Duration::from_secs(30), &format!("the shell after {how} ({n})"), || {
            (screen.foreground() == "sh").then_some(())
        });
        screen.types(&format!("stty -a > $HOME/after && mv $HOME/after $HOME/after.{n} && echo end$(({n} + 0))\n"));
        screen.shows(&format!("end{n}"));
        let home = world.etc().parent().unwrap().join(format!("tmux-{BOB}"));
        let read = |name: &str| {
            let text = std::fs::read_to_string(home.join(format!("{name}.{n}"))).unwrap();
            // Its size is tmux's to change, which does so when it has time.
            text.split_once("line = ").unwrap().1.to_owned()
        };
        assert_eq!(read("before"), read("after"), "session {n}: {how}");
        // Neither the mouse nor pastes nor the other screen are left on, and the cursor is there.
        let flags = "#{mouse_any_flag} #{alternate_on} #{cursor_flag}";
        assert_eq!(screen.tmux(&["display-message", "-p", flags]).trim(), "0 0 1", "session {n}: {how}");
    }
}

/// A program that shows the dashboard and dies of a broken invariant in the middle of it.
fn panicking() -> String {
    let me = std::env::current_exe().unwrap();
    format!("PANICKING=1 {} --exact dashboard::a_dashboard_that_panics --nocapture", me.display())
}

#[test]
fn a_dashboard_that_panics() {
    // Only the test above wants it to.
    if std::env::var_os("PANICKING").is_none() {
        return;
    }
    let dir = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let dirs = spoolgate::shells::Dirs { config: dir("SPOOLGATE_CONFIG"), state: dir("SPOOLGATE_STATE") };
    std::thread::spawn(|| {
        std::thread::park_timeout(Duration::from_secs(2));
        let broken = std::panic::catch_unwind(|| panic!("a broken invariant"));
        // As in a release, where a panic is the end.
        drop(broken);
        std::process::abort();
    });
    let _ = spoolgate::shells::entry::show_dashboard(&dirs);
}

fn end(screen: &Screen, how: &str, n: usize) {
    let signal = |name: &str| signal_dashboard(screen, name);
    match how {
        "quit" => screen.keys(&["m", "q"]),
        "ctrl-c" => screen.keys(&["C-c", "C-c"]),
        "term" => signal("-TERM"),
        "hup" => signal("-HUP"),
        "suspend" => {
            screen.keys(&["C-z"]);
            screen.shows("Stopped");
            screen.types("clear; fg\n");
            screen.shows("NEW: waiting for approval");
            screen.keys(&["q"]);
        }
        "resize" => {
            for k in 0..40_u16 {
                screen.resize(20 + (k * 37) % 180, 5 + (k * 11) % 50);
            }
            screen.resize(80, 24);
            // tmux tells the terminal its sizes a moment later, one after the other, and on a screen that is too small no
            // key does anything.
            wait_for("the end", || {
                let ended = screen.foreground() == "sh";
                if !ended {
                    screen.keys(&["q"]);
                    std::thread::park_timeout(Duration::from_millis(100));
                }
                ended.then_some(())
            });
            // One q too many may stand in the shell's line.
            screen.keys(&["C-u"]);
        }
        "kill" => {
            signal("-KILL");
            // The shell is there, and Enter is no line feed in a terminal that was left raw.
            screen.keys(&["C-j"]);
            screen.types(&format!("spoolgate reset-tty; echo sane{n}"));
            screen.keys(&["C-j"]);
            screen.shows(&format!("sane{n}"));
        }
        _ => drop(screen.shows("ready$")),
    }
}

#[test]
fn nothing_is_written_while_nothing_happens() {
    let mut world = World::new(&[], None);
    world.start();
    let written = world.etc().parent().unwrap().join("tmux-0/written");
    let screen = Screen::open(&world, 0, (80, 24), "spoolgate top");
    screen.shows("There are no tasks.");
    screen.keys(&["?"]);
    screen.shows("HELP");
    screen.keys(&["Escape"]);
    screen.shows("There are no tasks.");
    // The clock in the corner may move once a minute.
    let minute = || jiff_minute(&screen.text());
    let quiet = |before: &str| {
        screen.tmux(&["pipe-pane", "-o", &format!("cat > {}", written.display())]);
        let since = Instant::now();
        wait_for("some seconds to pass", || (since.elapsed() > Duration::from_secs(4)).then_some(()));
        screen.tmux(&["pipe-pane"]);
        (minute() == before).then(|| std::fs::metadata(&written).map_or(0, |meta| meta.len()))
    };
    let bytes = wait_for("four seconds of one minute", || quiet(&minute()));
    assert_eq!(bytes, 0, "{:?}", std::fs::read_to_string(&written));
}

fn jiff_minute(screen: &str) -> String {
    screen.lines().next().unwrap().split_whitespace().last().unwrap().to_owned()
}

#[test]
fn one_frame_is_printed_for_scripts_and_a_pipe_gets_no_dashboard() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let id = drop_task(&world, "hello", &json!({"task_name": "说 hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let frame = world.run(0, &["top", "--once", "--size", "100x20"]).ok();
    assert!(frame.contains("NEW: waiting for approval (1)") && frame.contains("说 hello"), "{frame}");
    assert_eq!(frame.lines().count(), 20);
    assert!(!frame.contains('\u{7}'), "a frame rings no bell");
    let frame = world.run(0, &["top", "--once", "--size", "80x24", "--lang", "zh", "--view", &id.to_string()]).ok();
    assert!(frame.contains("步骤") && frame.contains("here"), "{frame}");
    let none = world.run(0, &[]);
    assert_eq!(none.code, 2, "{none:?}");
    let none = world.run(0, &["top"]);
    assert!(none.code == 2 && none.err.contains("needs a terminal"), "{none:?}");
    let gone = world.run(0, &["top", "--once", "--view", "99"]);
    assert!(gone.code == 3 && gone.out.is_empty() && gone.err.contains("there is no task 99"), "{gone:?}");
    let small = world.run(0, &["top", "--once", "--size", "5x5"]);
    assert!(small.code == 2 && small.out.is_empty() && small.err.contains("60x15 or larger"), "{small:?}");
    let wrong = world.run(0, &["top", "--once", "--theme", "pink"]);
    assert!(wrong.code == 2 && wrong.err.contains("dark, light, mono or safe"), "{wrong:?}");
}

#[test]
fn an_order_that_is_refused_says_why_and_one_without_a_daemon_waits() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    world.start();
    let id = drop_task(&world, "hello", &json!({"task_name": "say hello", "temp_id": 1, "hosts": {"1": ["here"]}}));
    let screen = Screen::open(&world, BOB, (100, 30), "spoolgate");
    screen.shows("say hello");
    world.kill_daemon();
    screen.shows("NO DAEMON");
    screen.keys(&["x"]);
    screen.types("no");
    screen.keys(&["Enter"]);
    screen.shows("is in its box");
    world.start();
    event(&world, id, "rejected");
    screen.shows("reject 1: done");
    screen.keys(&["L"]);
    screen.shows("reject 1");
    // Bob controls nothing.
    screen.types(":hold 1\n");
    screen.shows("Task 1 is done: it cannot be held now.");
    let task = json!({"task_name": "one more", "temp_id": 1, "hosts": {"1": ["here"]}});
    let next = drop_task(&world, "next", &task);
    screen.types("1");
    screen.shows("one more");
    screen.types(&format!(":hold {next}\n"));
    screen.shows("no rule");
}
