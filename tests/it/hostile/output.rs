//! What hosts print, in front of a real terminal: four hundred ways to command it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::dashboard::{Screen, world};
use crate::sshd::Sshd;
use crate::world::wait_for;

/// Output that tries to command the terminal of whoever looks.
fn hostile() -> Vec<Vec<u8>> {
    let bodies: [&[u8]; 40] = [
        b"\x1b]0;pwned\x07",
        b"\x1b]2;pwned\x1b\\",
        b"\x1b]52;c;cHduZWQ=\x07",
        b"\x1b]8;;http://x/\x07link\x1b]8;;\x07",
        b"\x1b]4;1;?\x07",
        b"\x1b]10;?\x07",
        b"\x1b]9;note\x07",
        b"\x1b]777;notify;a;b\x07",
        b"\x1b]1337;File=:AAAA\x07",
        b"\x1b]0;never ended",
        b"\x1bP$q\"p\x1b\\",
        b"\x1bPq#0;2;0;0;0\x1b\\",
        b"\x1b_Gf=24;AAAA\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1bXstring\x1b\\",
        b"\x1b[2J",
        b"\x1b[6n",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[?1049h",
        b"\x1b[?25l",
        b"\x1b[?1000h",
        b"\x1b[?2004h",
        b"\x1b[5i",
        b"\x1b[21t",
        b"\x1b[8;1;1t",
        b"\x1b[3J",
        b"\x1b[1;1H",
        b"\x1b[999A",
        b"\x1b[!p",
        b"\x1bc",
        b"\x1b(0",
        b"\x1b#8",
        b"\x1bN\x1bO",
        b"\x1b=",
        b"\xc2\x9b2J",
        b"\xc2\x9d0;c1\xc2\x9c",
        b"\xc0\x9b31m\xff\xfe",
        b"\x07\x08\x0b\x0c\x0e\x0f\x7f",
        b"\xe2\x80\xae\xe2\x80\x8b\xef\xbb\xbf",
    ];
    let wraps: [(&[u8], &[u8]); 10] = [
        (b"", b""),
        (b"before ", b" after"),
        (b"\x1b[31m", b"\x1b[0m"),
        (b"\x1b", b""),
        (b"", b"\x1b"),
        (b"\x1b[", b"m"),
        (b"\r", b"\r"),
        (b"\xe5\x8f", b"\x91"),
        (b"\t", b"\t"),
        (b"\0", b"\0"),
    ];
    wraps.iter().flat_map(|(a, b)| bodies.iter().map(move |body| [a, *body, b, b"\n"].concat())).collect()
}

/// Takes our own sequences out of what was written to a terminal; what is left must be text.
fn without_ours(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("what is written is UTF-8");
    let mut rest = text.as_str();
    let mut left = String::new();
    while let Some(at) = rest.find('\x1b') {
        left.push_str(&rest[..at]);
        let sequence = &rest[at + 1..];
        let modes = [
            "[?1049h", "[?1049l", "[?2004h", "[?2004l", "[?25l", "[?25h", "[?2026h", "[?2026l", "[2J", "[6n",
            "[?1000l", "[?1002l", "[?1003l", "[?1015l", "[?1006l",
        ];
        if let Some(mode) = modes.iter().find(|mode| sequence.starts_with(**mode)) {
            rest = &sequence[mode.len()..];
            continue;
        }
        let body = sequence
            .strip_prefix('[')
            .unwrap_or_else(|| panic!("not ours: ESC {:?}", sequence.chars().take(12).collect::<String>()));
        let params = body.find(|c: char| !(c.is_ascii_digit() || c == ';')).unwrap_or(body.len());
        let last = body[params..].chars().next();
        assert!(matches!(last, Some('m' | 'H')), "not ours: ESC [ {:?}", body.chars().take(12).collect::<String>());
        rest = &body[params + 1..];
    }
    left + rest
}

#[test]
fn nothing_that_a_host_prints_reaches_the_terminal_as_a_command() {
    let sshd = Sshd::start();
    let mut world = world(&sshd);
    world.start();
    let corpus = world.etc().join("corpus");
    let items = hostile();
    assert_eq!(items.len(), 400);
    std::fs::write(&corpus, items.concat()).unwrap();
    let name = "odd \u{202e}\u{1b}]0;name\u{7} 任务";
    let script = format!("cat {0}; cat {0} >&2; exit 1", corpus.display());
    let task = json!({"task_name": name, "script": script, "hosts": {"1": ["web1"]}, "details": "\u{1b}[2Jnote"});
    world.drop_file("ready", "odd.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("odd");
    assert_eq!(world.record(id)["outcome"], "failed");
    let written = world.etc().parent().unwrap().join("tmux-0/written");
    let screen = Screen::open(&world, 0, (100, 30), "sleep 1; exec spoolgate top");
    screen.tmux(&["pipe-pane", "-o", &format!("cat > {}", written.display())]);
    screen.shows("odd <U+202E>");
    screen.keys(&["Enter"]);
    screen.shows("exit 1");
    screen.keys(&["Enter"]);
    screen.shows("FOLLOW on");
    screen.keys(&["g"]);
    screen.shows("<OSC>");
    for _ in 0..20 {
        screen.keys(&["C-d", "w", "NPage"]);
    }
    screen.keys(&["/"]);
    screen.types("pwned\n");
    screen.keys(&["n", "N", "Escape", "z", "z", "z", "Escape", "Escape", "a", "Escape", "3", "4", "?", "q", "d", "L"]);
    screen.types(":task 1\n");
    screen.keys(&["z", "z"]);
    screen.types(&format!(":same {id}\n"));
    screen.keys(&["C-t", "C-t", "Escape"]);
    let end = Instant::now();
    wait_for("the last frame", || (end.elapsed() > Duration::from_millis(700)).then_some(()));
    screen.tmux(&["pipe-pane"]);
    let bytes = std::fs::read(&written).unwrap();
    assert!(bytes.len() > 20_000, "only {} bytes were caught", bytes.len());
    let left = without_ours(&bytes);
    let odd: Vec<char> = left.chars().filter(|c| spoolgate::base::text::is_hidden(*c)).collect();
    assert!(odd.is_empty(), "{odd:?}");
}
