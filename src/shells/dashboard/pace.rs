//! How fast keys come: what people type, one after the other, and what is faster than people type, which was pasted or sent
//! by a program, whatever the terminal calls it.
//!
//! **Invariant:** pure: keys and the times at which they came in, a verdict on each out. A verdict depends on what came
//! together with a key and before it, never on how long it took to be dealt with.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Keys that come closer together than this were not pressed one by one: it would be fifty a second.
const FAST: Duration = Duration::from_millis(20);
/// So many keys in such a row are a burst; two may be pressed at once, or travel together.
const MANY: usize = 3;

/// How the last keys came.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Duration>,
    row: Row,
}

/// Keys that came closer together than people type.
#[derive(Clone, Debug, Default)]
struct Row {
    count: usize,
    /// Whether one of them may send something.
    sends: bool,
    /// The one key that all of them are, while there is one.
    same: Option<KeyEvent>,
}

impl Row {
    fn add(&mut self, key: KeyEvent) {
        self.same = if self.count == 0 { Some(key) } else { self.same.filter(|same| *same == key) };
        self.sends |= sends(key);
        self.count = self.count.saturating_add(1);
    }

    /// Gives all keys of the row the same verdict, as far as they came with this look and stand at the end.
    fn settle(&self, verdicts: &mut [bool]) {
        let begin = verdicts.len().saturating_sub(self.count);
        let burst = self.is_burst();
        verdicts[begin..].iter_mut().for_each(|verdict| *verdict = burst);
    }

    fn is_burst(&self) -> bool {
        // A key that is held down repeats.
        let held = self.same.is_some_and(moves);
        !held && (self.count >= MANY || (self.count > 1 && self.sends))
    }
}

/// Whether a key answers a question, so that not even two of them may come at once.
pub(super) fn sends(key: KeyEvent) -> bool {
    key.code == KeyCode::Enter || (key.code == KeyCode::Char('s') && key.modifiers.contains(KeyModifiers::CONTROL))
}

/// Whether a key only moves or deletes.
fn moves(key: KeyEvent) -> bool {
    use KeyCode::{Backspace, Char, Delete, Down, End, Home, Left, PageDown, PageUp, Right, Up};
    let held = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        Up | Down | Left | Right | Home | End | PageUp | PageDown | Backspace | Delete => true,
        Char('d' | 'u') => held,
        Char('j' | 'k') => !held,
        _ => false,
    }
}

impl Pace {
    /// Says of each of the keys that came with one look at the terminal whether it belongs to a burst.
    pub(super) fn judge(&mut self, keys: &[(KeyEvent, Duration)]) -> Vec<bool> {
        let mut verdicts = Vec::with_capacity(keys.len());
        for (key, at) in keys {
            if self.last.is_none_or(|last| at.saturating_sub(last) >= FAST) {
                self.row.settle(&mut verdicts);
                self.row = Row::default();
            }
            self.last = Some(*at);
            self.row.add(*key);
            verdicts.push(false);
        }
        self.row.settle(&mut verdicts);
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges keys that are written as people write them, each so many milliseconds after the one before; a space between
    /// them is a new look at the terminal. Returns those that are a burst, and dots for the others.
    fn bursts(looks: &str, gap: u64) -> String {
        let mut pace = Pace::default();
        let mut at = Duration::from_secs(9);
        let mut said = String::new();
        for look in looks.split(' ') {
            let keys: Vec<(KeyEvent, Duration)> = look
                .chars()
                .map(|c| {
                    let code = match c {
                        '⏎' => KeyCode::Enter,
                        '⇥' => KeyCode::Tab,
                        '↓' => KeyCode::Down,
                        c => KeyCode::Char(c),
                    };
                    at += Duration::from_millis(gap);
                    (KeyEvent::new(code, KeyModifiers::NONE), at)
                })
                .collect();
            let verdicts = pace.judge(&keys);
            said.extend(look.chars().zip(verdicts).map(|(c, burst)| if burst { c } else { '.' }));
        }
        said
    }

    #[test]
    fn what_is_faster_than_people_type_is_a_burst() {
        for (looks, gap, want) in [
            // Pasted at once, in one piece or in several, and a key at a time by a slow program.
            ("q⏎1⏎12⏎git-publish", 0, "q⏎1⏎12⏎git-publish"),
            ("q⏎ 1⏎ 12⏎", 0, "q⏎1⏎12⏎"),
            ("1⏎", 0, "1⏎"),
            ("⏎1", 0, "⏎1"),
            ("yes", 0, "yes"),
            ("y e s ⏎", 1, "..s⏎"),
            ("y e s ⏎", 12, "..s⏎"),
            ("1 ⏎", 19, ".⏎"),
            ("⇥⇥⇥⇥⇥high", 0, "⇥⇥⇥⇥⇥high"),
            ("⇥⇥⇥", 0, "⇥⇥⇥"),
            ("⏎⏎", 0, "⏎⏎"),
            // Typed; the fastest people press a key every 40 ms, and two at once now and then.
            ("y e s ⏎", 25, "...."),
            ("yes⏎", 60, "...."),
            ("12", 0, ".."),
            // Held down, and a link that stood still for a moment.
            ("↓ ↓ ↓ ↓ ↓", 16, "....."),
            ("↓↓↓↓↓↓ ↓↓↓", 0, "........."),
            ("jjjj", 0, "...."),
            ("↓↓↓x", 0, "↓↓↓x"),
        ] {
            assert_eq!(bursts(looks, gap), want, "{looks} every {gap} ms");
        }
    }

    #[test]
    fn a_pause_ends_a_burst() {
        let key = |c, ms| (KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE), Duration::from_millis(ms));
        let mut pace = Pace::default();
        let keys = [key('a', 0), key('b', 100), key('c', 101), key('d', 102), key('e', 300), key('f', 310)];
        assert_eq!(pace.judge(&keys), [false, true, true, true, false, false]);
        assert_eq!(pace.judge(&[key('g', 320)]), [true], "the third of a row that began before");
        assert_eq!(pace.judge(&[key('h', 400)]), [false]);
        assert!(pace.judge(&[]).is_empty());
    }
}
