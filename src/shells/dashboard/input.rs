//! The bytes of a terminal: keys, pastes, clicks, and answers of the terminal, which are none of these.
//!
//! **Invariant:** pure. Whatever bytes come, in whatever pieces: a control sequence is a known key or it is nothing, and a
//! control string (an answer to whoever asked, perhaps a program that has ended) is nothing; no byte of them is ever typed
//! (ECMA-48 sections 5.4 and 5.6, xterm's control sequences).

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

const ESC: u8 = 0x1b;
const PASTE_END: &[u8] = b"\x1b[201~";
/// How much of a paste is taken.
const PASTE_BYTES_MAX: usize = 1 << 20;
/// How long a control sequence may be.
const SEQUENCE_BYTES_MAX: usize = 64;
/// How long a control string may be.
const STRING_BYTES_MAX: usize = 128 << 10;
/// How long the rest of a key may be on its way.
const REST_OF_KEY: Duration = Duration::from_millis(30);
/// The same for a sequence that has begun, which no key begins with alone.
const REST_OF_SEQUENCE: Duration = Duration::from_millis(300);
/// The same for a paste.
const REST_OF_PASTE: Duration = Duration::from_secs(5);

/// What came from a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Key(KeyEvent),
    /// What the terminal says was pasted.
    Paste(String),
    Mouse(MouseEvent),
    /// The column, from 0, that the terminal says its cursor stands in.
    Column(u16),
}

/// The bytes that came, as far as they are not yet whole.
#[derive(Debug, Default)]
pub(crate) struct Input {
    state: State,
    pending: Vec<u8>,
    /// Whether a read ended with an ESC: a key, or the beginning of a sequence whose rest is on its way.
    alone: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Keys,
    /// A paste that has not ended.
    Paste(Vec<u8>),
    /// A control string that has not ended, and how long it is.
    String(usize),
}

/// What stands at the beginning of some bytes.
enum Found {
    /// It is not whole.
    Open,
    /// So many bytes mean nothing.
    Nothing(usize),
    Event(usize, Arrived),
    Paste(usize),
    String(usize),
}

impl Input {
    /// Takes the bytes of one read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        // Of two reads only what begins a sequence belongs to the ESC at the end of the first.
        if std::mem::take(&mut self.alone) && !bytes.first().is_some_and(|byte| b"[]OPX^_".contains(byte)) {
            self.pending.clear();
            arrived.push(plain(KeyCode::Esc));
        }
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.pending.len() && self.step(&mut at, &mut arrived) {}
        self.pending.drain(..at);
        self.alone = matches!(self.state, State::Keys) && self.pending == [ESC];
        arrived
    }

    /// How long the rest of what has begun may be on its way; `None` when nothing has.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.state {
            State::Keys if self.pending.is_empty() => None,
            State::Keys if self.alone => Some(REST_OF_KEY),
            State::Keys | State::String(_) => Some(REST_OF_SEQUENCE),
            State::Paste(_) => Some(REST_OF_PASTE),
        }
    }

    /// Gives up on what has begun, when its rest did not come.
    pub(crate) fn give_up(&mut self) -> Option<Arrived> {
        let pending = std::mem::take(&mut self.pending);
        let alone = std::mem::take(&mut self.alone);
        match std::mem::take(&mut self.state) {
            State::Keys => alone.then(|| plain(KeyCode::Esc)),
            State::String(_) => None,
            State::Paste(mut text) => {
                text.extend(pending);
                Some(pasted(&text))
            }
        }
    }

    /// Takes what stands at `at`; `false` when it is not whole.
    fn step(&mut self, at: &mut usize, arrived: &mut Vec<Arrived>) -> bool {
        let rest = &self.pending[*at..];
        match &mut self.state {
            State::Keys => {
                let (length, event) = match key(rest) {
                    Found::Open => return false,
                    Found::Nothing(length) => (length, None),
                    Found::Event(length, event) => (length, Some(event)),
                    Found::Paste(length) => {
                        self.state = State::Paste(Vec::new());
                        (length, None)
                    }
                    Found::String(length) => {
                        self.state = State::String(0);
                        (length, None)
                    }
                };
                arrived.extend(event);
                *at = at.saturating_add(length);
                true
            }
            State::Paste(text) => {
                let end = memchr::memmem::find(rest, PASTE_END);
                // The end may have come in part.
                let taken = end.unwrap_or(rest.len().saturating_sub(PASTE_END.len().saturating_sub(1)));
                let room = PASTE_BYTES_MAX.saturating_sub(text.len());
                text.extend_from_slice(&rest[..taken.min(room)]);
                *at = at.saturating_add(taken);
                if end.is_some() {
                    *at = at.saturating_add(PASTE_END.len());
                    arrived.push(pasted(text));
                    self.state = State::Keys;
                }
                end.is_some()
            }
            State::String(length) => {
                let Some(end) = memchr::memchr2(0x07, ESC, rest) else {
                    *length = length.saturating_add(rest.len());
                    *at = at.saturating_add(rest.len());
                    if *length > STRING_BYTES_MAX {
                        self.state = State::Keys;
                    }
                    return true;
                };
                *at = at.saturating_add(end);
                match rest[end..] {
                    [ESC] => return false,
                    [0x07, ..] => *at = at.saturating_add(1),
                    [ESC, b'\\', ..] => *at = at.saturating_add(2),
                    // Another sequence ends it.
                    _ => {}
                }
                self.state = State::Keys;
                true
            }
        }
    }
}

fn plain(code: KeyCode) -> Arrived {
    Arrived::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn pasted(text: &[u8]) -> Arrived {
    Arrived::Paste(String::from_utf8_lossy(text).into_owned())
}

/// Reads what stands at the beginning of some bytes.
fn key(bytes: &[u8]) -> Found {
    let ctrl =
        |c: u8| Found::Event(1, Arrived::Key(KeyEvent::new(KeyCode::Char(char::from(c)), KeyModifiers::CONTROL)));
    match bytes[0] {
        ESC => escape(bytes),
        b'\r' => Found::Event(1, plain(KeyCode::Enter)),
        b'\t' => Found::Event(1, plain(KeyCode::Tab)),
        0x7f => Found::Event(1, plain(KeyCode::Backspace)),
        0 => ctrl(b' '),
        c @ 0x01..=0x1a => ctrl(c.saturating_sub(1).saturating_add(b'a')),
        c @ 0x1c..=0x1f => ctrl(c.saturating_sub(0x1c).saturating_add(b'4')),
        _ => character(bytes),
    }
}

fn character(bytes: &[u8]) -> Found {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head.len(),
        Err(error) if error.valid_up_to() > 0 => error.valid_up_to(),
        Err(error) => return error.error_len().map_or(Found::Open, Found::Nothing),
    };
    match String::from_utf8_lossy(&head[..valid]).chars().next() {
        Some(c) if !c.is_control() => Found::Event(c.len_utf8(), typed(c, KeyModifiers::NONE)),
        Some(c) => Found::Nothing(c.len_utf8()),
        None => Found::Nothing(1),
    }
}

fn typed(c: char, modifiers: KeyModifiers) -> Arrived {
    let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
    Arrived::Key(KeyEvent::new(KeyCode::Char(c), modifiers | shift))
}

fn escape(bytes: &[u8]) -> Found {
    match bytes.get(1) {
        None => Found::Open,
        Some(b'[') => sequence(bytes),
        Some(b'O') => match bytes.get(2) {
            None => Found::Open,
            Some(last) => known(letter(*last), 3, KeyModifiers::NONE),
        },
        Some(b']' | b'P' | b'X' | b'^' | b'_') => Found::String(2),
        Some(&ESC) => Found::Event(1, plain(KeyCode::Esc)),
        Some(_) => match key(&bytes[1..]) {
            Found::Event(length, Arrived::Key(key)) => Found::Event(
                length.saturating_add(1),
                Arrived::Key(KeyEvent::new(key.code, key.modifiers | KeyModifiers::ALT)),
            ),
            Found::Nothing(length) => Found::Nothing(length.saturating_add(1)),
            other => other,
        },
    }
}

fn known(code: Option<KeyCode>, length: usize, modifiers: KeyModifiers) -> Found {
    code.map_or(Found::Nothing(length), |code| Found::Event(length, Arrived::Key(KeyEvent::new(code, modifiers))))
}

/// The key that a letter names at the end of a sequence.
fn letter(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'Z' => KeyCode::BackTab,
        b'P'..=b'S' => KeyCode::F(last.saturating_sub(b'P').saturating_add(1)),
        _ => return None,
    })
}

/// The key that a number names before a tilde.
fn numbered(number: u32) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(u8::try_from(number.saturating_sub(10)).ok()?),
        17..=21 => KeyCode::F(u8::try_from(number.saturating_sub(11)).ok()?),
        23 | 24 => KeyCode::F(u8::try_from(number.saturating_sub(12)).ok()?),
        _ => return None,
    })
}

/// The key that a code point names, as terminals send it that say which keys are held beside it.
fn coded(number: u32) -> Option<KeyCode> {
    Some(match number {
        9 => KeyCode::Tab,
        13 => KeyCode::Enter,
        27 => KeyCode::Esc,
        127 => KeyCode::Backspace,
        _ => KeyCode::Char(char::from_u32(number).filter(|c| !c.is_control())?),
    })
}

fn modifiers(number: u32) -> KeyModifiers {
    let bits = number.saturating_sub(1);
    [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL), (8, KeyModifiers::SUPER)]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(KeyModifiers::NONE, |all, (_, one)| all | one)
}

/// Reads a control sequence.
fn sequence(bytes: &[u8]) -> Found {
    match bytes.get(2) {
        None => return Found::Open,
        // A Linux console's F1 to F5.
        Some(b'[') => {
            let code = bytes.get(3).map(|last| {
                matches!(last, b'A'..=b'E').then(|| KeyCode::F(last.saturating_sub(b'A').saturating_add(1)))
            });
            return code.map_or(Found::Open, |code| known(code, 4, KeyModifiers::NONE));
        }
        // A click as the oldest terminals tell it, in three bytes.
        Some(b'M') => {
            let Some([button, x, y]) = bytes.get(3..6) else { return Found::Open };
            let place = |byte: u8| u32::from(byte.saturating_sub(32));
            return mouse(6, place(*button), place(*x), place(*y), false);
        }
        Some(_) => {}
    }
    let body = &bytes[2..];
    let params = body.iter().position(|byte| !(0x30..=0x3f).contains(byte)).unwrap_or(body.len());
    let between = body[params..]
        .iter()
        .position(|byte| !(0x20..=0x2f).contains(byte))
        .unwrap_or(body.len().saturating_sub(params));
    let end = params.saturating_add(between);
    let Some(last) = body.get(end).copied() else {
        return if bytes.len() > SEQUENCE_BYTES_MAX { Found::Nothing(bytes.len()) } else { Found::Open };
    };
    if !(0x40..=0x7e).contains(&last) {
        return Found::Nothing(end.saturating_add(2));
    }
    let length = end.saturating_add(2).saturating_add(1);
    let (private, digits) = match body[..params].first() {
        Some(sign @ b'<'..=b'?') => (Some(*sign), &body[1..params]),
        _ => (None, &body[..params]),
    };
    let fields: Vec<&[u8]> = digits.split(|byte| *byte == b';').collect();
    let number = |n: usize| -> u32 {
        let field = fields.get(n).copied().unwrap_or_default();
        field
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .take(6)
            .fold(0, |sum, byte| sum.saturating_mul(10).saturating_add(u32::from(byte.saturating_sub(b'0'))))
    };
    // A key that is let go is no key.
    let gone = fields.get(1).is_some_and(|field| field.ends_with(b":3"));
    match (private, last) {
        _ if between > 0 || gone => Found::Nothing(length),
        (Some(b'<'), b'M' | b'm') => mouse(length, number(0), number(1), number(2), last == b'm'),
        (Some(_), _) => Found::Nothing(length),
        (None, b'M') => mouse(length, number(0).saturating_sub(32), number(1), number(2), false),
        (None, b'R') => Found::Event(length, Arrived::Column(u16::try_from(number(1).saturating_sub(1)).unwrap_or(0))),
        (None, b'~') => match number(0) {
            200 => Found::Paste(length),
            27 => known(coded(number(2)), length, modifiers(number(1))),
            n => known(numbered(n), length, modifiers(number(1))),
        },
        (None, b'u') => known(coded(number(0)), length, modifiers(number(1))),
        (None, last) => known(letter(last), length, modifiers(number(1))),
    }
}

/// Reads a click or a turn of the wheel; what else a mouse does is nothing.
fn mouse(length: usize, button: u32, x: u32, y: u32, released: bool) -> Found {
    let kind = match button & !0b1_1100 {
        0 if !released => MouseEventKind::Down(MouseButton::Left),
        64 => MouseEventKind::ScrollUp,
        65 => MouseEventKind::ScrollDown,
        _ => return Found::Nothing(length),
    };
    let place = |n: u32| u16::try_from(n.saturating_sub(1)).unwrap_or(u16::MAX);
    let mouse = MouseEvent { kind, column: place(x), row: place(y), modifiers: KeyModifiers::NONE };
    Found::Event(length, Arrived::Mouse(mouse))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what came as people write it.
    fn words(arrived: &[Arrived]) -> String {
        let word = |one: &Arrived| match one {
            Arrived::Key(key) => {
                let held = |bit, word: &str| if key.modifiers.contains(bit) { word.to_owned() } else { String::new() };
                let held = held(KeyModifiers::CONTROL, "C-") + &held(KeyModifiers::ALT, "M-");
                match key.code {
                    KeyCode::Char(c) => format!("{held}{c}"),
                    KeyCode::F(n) => format!("{held}F{n}"),
                    code => format!("{held}{code:?}"),
                }
            }
            Arrived::Paste(text) => format!("paste({text})"),
            Arrived::Mouse(mouse) => format!("{:?}@{},{}", mouse.kind, mouse.column, mouse.row),
            Arrived::Column(column) => format!("column {column}"),
        };
        arrived.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    const KEYS: [(&[u8], &str); 24] = [
        (b"jG\r\t\x7f", "j G Enter Tab Backspace"),
        (b"\x03\x13\x1f\0", "C-c C-s C-7 C- "),
        ("发é".as_bytes(), "发 é"),
        (b"\x1b[A\x1bOB\x1b[1;5C\x1b[D", "Up Down C-Right Left"),
        (b"\x1b[H\x1b[4~\x1b[5~\x1b[6~\x1b[3~\x1b[Z", "Home End PageUp PageDown Delete BackTab"),
        (b"\x1bOP\x1b[[B\x1b[13~\x1b[24~\x1b[1;2S", "F1 F2 F3 F12 F4"),
        (b"\x1bx\x1b\r", "M-x M-Enter"),
        (b"\x1b[115;5u\x1b[27;5;99~\x1b[97;1:3u", "C-s C-c"),
        (b"\x1b[200~q\r1\r\x1b[31m\x1b[201~z", "paste(q\r1\r\x1b[31m) z"),
        (b"\x1b[<0;5;7M\x1b[<0;5;7m\x1b[<65;1;1M\x1b[M !!", "Down(Left)@4,6 ScrollDown@0,0 Down(Left)@0,0"),
        (b"\x1b[12;40R", "column 39"),
        // Answers of terminals to whoever asked: colours, names, clipboards, sizes, modes, states, focus.
        (b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\j", "j"),
        (b"\x1b]11;rgb:ffff/ffff/ffff\x07j", "j"),
        (b"\x1b]4;1;rgb:cd/00/00\x1b\\\x1b]10;rgb:0/0/0\x07", ""),
        (b"\x1b]52;c;cm0gLXJmIC8K\x07", ""),
        (b"\x1bP>|tmux 3.5a\x1b\\\x1bP1+r544e=787465\x1b\\", ""),
        (b"\x1bP1$r0m\x1b\\\x1b_Gi=31;OK\x1b\\k", "k"),
        (b"\x1b[?62;22;28c\x1b[>0;276;0c\x1b[=0c\x1b[c", ""),
        (b"\x1b[?2026;2$y\x1b[?0u\x1b[4;600;800t\x1b[0n\x1b[?997;1n\x1b[I\x1b[O", ""),
        // What begins and does not go on.
        (b"\x1b[12\x1b[A", "Up"),
        (b"\x1b]0;no end\x1b[Aj", "Up j"),
        (b"\xff\xc3(a\xc2\x9b", "( a"),
        (b"\x1b[\x01j", "C-a j"),
        (b"\x1b\x1b[A", "Esc Up"),
    ];

    #[test]
    fn bytes_are_keys_and_answers_are_nothing() {
        for (bytes, want) in KEYS {
            let mut input = Input::default();
            let arrived = input.feed(bytes);
            assert_eq!((words(&arrived).as_str(), input.patience()), (want, None), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn it_makes_no_difference_in_which_pieces_bytes_come() {
        // An ESC and a key in two reads are two keys: that pair alone is told by its time.
        for (bytes, want) in KEYS.into_iter().filter(|(_, want)| !want.contains("M-")) {
            for size in 1..bytes.len() {
                let mut input = Input::default();
                let arrived: Vec<Arrived> = bytes.chunks(size).flat_map(|piece| input.feed(piece)).collect();
                assert_eq!(words(&arrived), want, "{} by {size}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut input = Input::default();
        for (bytes, patience, want) in [
            (&b"\x1b"[..], REST_OF_KEY, "Esc"),
            (b"\x1b[1;", REST_OF_SEQUENCE, ""),
            (b"\x1b]11;rgb:ff", REST_OF_SEQUENCE, ""),
            (b"\xe5\x8f", REST_OF_SEQUENCE, ""),
            (b"\x1b[200~text", REST_OF_PASTE, "paste(text)"),
        ] {
            assert_eq!((words(&input.feed(bytes)).as_str(), input.patience()), ("", Some(patience)));
            assert_eq!(words(&Vec::from_iter(input.give_up())), want, "{}", bytes.escape_ascii());
            assert_eq!((words(&input.feed(b"j")).as_str(), input.patience()), ("j", None));
        }
        // A key after an ESC that came alone is a key of its own.
        assert!(input.feed(b"\x1b").is_empty());
        assert_eq!(words(&input.feed(b"rj")), "Esc r j");
        // Neither a string nor a paste grows for ever.
        input.feed(b"\x1b]");
        for _ in 0..40 {
            input.feed(&[b'x'; 4096]);
        }
        assert_eq!(words(&input.feed(b"j")), "j");
        input.feed(b"\x1b[200~");
        for _ in 0..300 {
            input.feed(&[b'x'; 4096]);
        }
        let Some(Arrived::Paste(text)) = input.feed(PASTE_END).pop() else { panic!("no paste") };
        assert_eq!(text.len(), PASTE_BYTES_MAX);
    }
}
