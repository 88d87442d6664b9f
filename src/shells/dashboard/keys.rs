//! The keys: one table that makes them work, and their help, and their documentation.
//!
//! **Invariant:** pure. No key does harm by itself: what changes a task opens a dialog that says what will happen.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::shells::dashboard::words::Words;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Up,
    Down,
    HalfUp,
    HalfDown,
    First,
    Last,
    Left,
    Right,
    Open,
    Back,
    Quit,
    View(usize),
    NextPane,
    PreviousPane,
    Find,
    FindNext,
    FindPrevious,
    Keep,
    FailedOnly,
    CommandLine,
    Mark,
    MarkRange,
    ClearMarks,
    New,
    Approve,
    Reject,
    Withdraw,
    Hold,
    Release,
    Cancel,
    Retry,
    RetryUnknown,
    Skip,
    PreviousLog,
    NextLog,
    Follow,
    Wrap,
    Zoom,
    Order,
    SameTemplate,
    Diff,
    Copy,
    Export,
    Mouse,
    Requests,
    Help,
    Redraw,
    Suspend,
}

impl Action {
    /// Whether it changes a task, after a question.
    pub(super) fn is_act(self) -> bool {
        BINDINGS.iter().any(|binding| binding.action == self && binding.acts)
    }
}

/// Where a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Everywhere,
    /// Where tasks are listed or shown.
    Tasks,
    /// Where one task is shown.
    Task,
    /// Where lines are listed.
    Lists,
    /// In a log.
    Log,
}

/// One line of the table.
pub(super) struct Binding {
    pub(super) keys: &'static [Chord],
    pub(super) action: Action,
    pub(super) place: Place,
    /// What it does, in the reader's language.
    pub(super) what: fn(&Words) -> &'static str,
    /// Whether it changes a task, so that a read-only dashboard does not have it.
    pub(super) acts: bool,
}

/// A key with what is held down beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chord(KeyCode, bool);

const fn c(c: char) -> Chord {
    Chord(KeyCode::Char(c), false)
}

const fn ctrl(c: char) -> Chord {
    Chord(KeyCode::Char(c), true)
}

const fn k(code: KeyCode) -> Chord {
    Chord(code, false)
}

impl Chord {
    /// Returns how people write the key.
    pub(super) fn word(self) -> String {
        match self.0 {
            KeyCode::Char(' ') => "Space".to_owned(),
            KeyCode::Char(c) if self.1 => format!("Ctrl-{c}"),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::Enter => "Enter".to_owned(),
            KeyCode::Esc => "Esc".to_owned(),
            KeyCode::Tab => "Tab".to_owned(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::F(n) => format!("F{n}"),
            other => format!("{other:?}"),
        }
    }
}

const fn bind(keys: &'static [Chord], action: Action, place: Place, what: fn(&Words) -> &'static str) -> Binding {
    Binding { keys, action, place, what, acts: false }
}

const fn act(keys: &'static [Chord], action: Action, place: Place, what: fn(&Words) -> &'static str) -> Binding {
    Binding { keys, action, place, what, acts: true }
}

/// Every key there is.
pub(super) const BINDINGS: &[Binding] = &[
    bind(&[c('j'), k(KeyCode::Down)], Action::Down, Place::Everywhere, |w| w.key_down),
    bind(&[c('k'), k(KeyCode::Up)], Action::Up, Place::Everywhere, |w| w.key_up),
    bind(&[ctrl('d'), k(KeyCode::PageDown)], Action::HalfDown, Place::Everywhere, |w| w.key_half_down),
    bind(&[ctrl('u'), k(KeyCode::PageUp)], Action::HalfUp, Place::Everywhere, |w| w.key_half_up),
    bind(&[c('g'), k(KeyCode::Home)], Action::First, Place::Everywhere, |w| w.key_first),
    bind(&[c('G'), k(KeyCode::End)], Action::Last, Place::Everywhere, |w| w.key_last),
    bind(&[c('h'), k(KeyCode::Left)], Action::Left, Place::Everywhere, |w| w.key_left),
    bind(&[c('l'), k(KeyCode::Right)], Action::Right, Place::Everywhere, |w| w.key_right),
    bind(&[k(KeyCode::Enter)], Action::Open, Place::Everywhere, |w| w.key_open),
    bind(&[k(KeyCode::Esc)], Action::Back, Place::Everywhere, |w| w.key_back),
    bind(&[c('q')], Action::Quit, Place::Everywhere, |w| w.key_quit),
    bind(&[c('1')], Action::View(0), Place::Everywhere, |w| w.board),
    bind(&[c('2')], Action::View(1), Place::Everywhere, |w| w.hosts),
    bind(&[c('3')], Action::View(2), Place::Everywhere, |w| w.history),
    bind(&[c('4')], Action::View(3), Place::Everywhere, |w| w.audit),
    bind(&[c('5')], Action::View(4), Place::Everywhere, |w| w.templates),
    bind(&[k(KeyCode::Tab)], Action::NextPane, Place::Everywhere, |w| w.key_next_pane),
    bind(&[k(KeyCode::BackTab)], Action::PreviousPane, Place::Everywhere, |w| w.key_previous_pane),
    bind(&[c('/')], Action::Find, Place::Everywhere, |w| w.key_find),
    bind(&[c('n')], Action::FindNext, Place::Log, |w| w.key_find_next),
    bind(&[c('N')], Action::FindPrevious, Place::Log, |w| w.key_find_previous),
    bind(&[c('&')], Action::Keep, Place::Log, |w| w.key_keep),
    bind(&[c('F')], Action::FailedOnly, Place::Lists, |w| w.key_failed_only),
    bind(&[c(':')], Action::CommandLine, Place::Everywhere, |w| w.key_command),
    bind(&[c(' ')], Action::Mark, Place::Lists, |w| w.key_mark),
    bind(&[c('v')], Action::MarkRange, Place::Lists, |w| w.key_range),
    bind(&[c('V')], Action::ClearMarks, Place::Lists, |w| w.key_clear_marks),
    act(&[c('n')], Action::New, Place::Lists, |w| w.key_new),
    act(&[c('a')], Action::Approve, Place::Tasks, |w| w.key_approve),
    act(&[c('x')], Action::Reject, Place::Tasks, |w| w.key_reject),
    act(&[c('u')], Action::Withdraw, Place::Tasks, |w| w.key_withdraw),
    act(&[c('p')], Action::Hold, Place::Tasks, |w| w.key_hold),
    act(&[c('s')], Action::Release, Place::Tasks, |w| w.key_release),
    act(&[c('c')], Action::Cancel, Place::Tasks, |w| w.key_cancel),
    act(&[c('r')], Action::Retry, Place::Tasks, |w| w.key_retry),
    act(&[c('R')], Action::RetryUnknown, Place::Tasks, |w| w.key_retry_unknown),
    act(&[c('K')], Action::Skip, Place::Tasks, |w| w.key_skip),
    bind(&[c('[')], Action::PreviousLog, Place::Log, |w| w.key_previous_log),
    bind(&[c(']')], Action::NextLog, Place::Log, |w| w.key_next_log),
    bind(&[c('f')], Action::Follow, Place::Log, |w| w.key_follow),
    bind(&[c('w')], Action::Wrap, Place::Log, |w| w.key_wrap),
    bind(&[c('z')], Action::Zoom, Place::Task, |w| w.key_zoom),
    bind(&[c('o')], Action::Order, Place::Lists, |w| w.key_order),
    act(&[c('t')], Action::SameTemplate, Place::Tasks, |w| w.key_same_template),
    bind(&[c('d')], Action::Diff, Place::Tasks, |w| w.key_diff),
    bind(&[c('y')], Action::Copy, Place::Everywhere, |w| w.key_copy),
    bind(&[c('e')], Action::Export, Place::Everywhere, |w| w.key_export),
    bind(&[c('m')], Action::Mouse, Place::Everywhere, |w| w.key_mouse),
    bind(&[c('L')], Action::Requests, Place::Everywhere, |w| w.key_requests),
    bind(&[c('?'), k(KeyCode::F(1))], Action::Help, Place::Everywhere, |w| w.key_help),
    bind(&[ctrl('l')], Action::Redraw, Place::Everywhere, |w| w.key_redraw),
    bind(&[ctrl('z')], Action::Suspend, Place::Everywhere, |w| w.key_suspend),
];

/// Returns what a key asks for in one of these places.
pub(super) fn action(key: &KeyEvent, places: &[Place], readonly: bool) -> Option<Action> {
    let held = key.modifiers.contains(KeyModifiers::CONTROL);
    if key.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER) {
        return None;
    }
    let chord = Chord(key.code, held);
    // The nearer place counts: `n` finds in a log and makes a task elsewhere.
    let here = BINDINGS.iter().filter(|binding| binding.keys.contains(&chord));
    here.filter(|binding| places.contains(&binding.place))
        .find(|binding| !(readonly && binding.acts))
        .map(|binding| binding.action)
}

/// Returns the first key of an action, as people write it.
pub(super) fn key_of(action: Action) -> String {
    let binding = BINDINGS.iter().find(|binding| binding.action == action);
    binding.and_then(|binding| binding.keys.first()).map_or_else(String::new, |chord| chord.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        let together = |a: Place, b: Place| {
            a == b
                || a == Place::Everywhere
                || b == Place::Everywhere
                || matches!(
                    (a, b),
                    (Place::Tasks, Place::Lists | Place::Task) | (Place::Lists | Place::Task, Place::Tasks)
                )
        };
        for (n, one) in BINDINGS.iter().enumerate() {
            for other in &BINDINGS[n + 1..] {
                let shared = one.keys.iter().any(|key| other.keys.contains(key));
                assert!(!(shared && together(one.place, other.place)), "{:?} and {:?}", one.action, other.action);
            }
        }
    }

    #[test]
    fn harmful_keys_are_gone_when_only_reading() {
        let key = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        let places = [Place::Everywhere, Place::Tasks, Place::Lists];
        for acting in ['a', 'x', 'c', 'p', 'r', 'R', 'n', 's', 'K', 'u', 't'] {
            assert!(action(&key(acting), &places, false).is_some(), "{acting}");
            assert_eq!(action(&key(acting), &places, true), None, "{acting}");
        }
        assert_eq!(action(&KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &places, false), None);
        assert_eq!(key_of(Action::Help), "?");
    }
}
