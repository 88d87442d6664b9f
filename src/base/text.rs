//! Text that is safe to show, and text that must never be shown.
//!
//! **Invariant:** what [`visible`] returns holds no control, bidirectional or zero-width character, and no heap of accents on
//! one letter, so it can go to a terminal as it is.

use std::fmt;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, Script};
use icu_properties::{CodePointMapData, CodePointSetData};

/// How many accents in a row are shown; no language writes more on one letter.
const ACCENTS_MAX: usize = 4;

/// Returns `text` with every character that a terminal would obey or hide written as `<U+XXXX>`.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut accents = 0_usize;
    for c in text.chars() {
        accents = if is_accent(c) { accents.saturating_add(1) } else { 0 };
        if is_hidden(c) || accents > ACCENTS_MAX {
            use fmt::Write as _;
            write!(shown, "<U+{:04X}>", u32::from(c)).expect("writing to a string cannot fail");
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Like [`visible`], but keeps line feeds and tabs: for text that is shown as lines.
#[must_use]
pub fn visible_lines(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .map(|piece| match piece.strip_suffix(['\n', '\t']) {
            Some(body) => visible(body.strip_suffix('\r').unwrap_or(body)) + &piece[body.len()..],
            None => visible(piece),
        })
        .collect()
}

/// Whether a character is obeyed or hidden by a terminal instead of shown: C0 and C1 controls, bidirectional
/// overrides, zero-width characters, separators and tags (the general categories Cc, Cf, Zl and Zp of Unicode), and whatever
/// else is to be shown as nothing (`Default_Ignorable_Code_Point`).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let commands = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    commands || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character is put onto the one before it.
fn is_accent(c: char) -> bool {
    let category = |c| CodePointMapData::<GeneralCategory>::new().get(c);
    !c.is_ascii() && matches!(category(c), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
}

/// Returns the first word of a text whose letters come from alphabets that look alike, such as Latin and Cyrillic: it may pass
/// for another word. What East Asian languages write side by side is no such mix (UTS 39, section 5.2).
#[must_use]
pub fn mixed_alphabets(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && !is_accent(c));
    words.filter(|word| !word.is_ascii()).find(|word| {
        let script = |c| CodePointMapData::<Script>::new().get(c);
        let shared = |script: &Script| {
            let together = [Script::Han, Script::Hiragana, Script::Katakana, Script::Bopomofo, Script::Hangul];
            together.contains(script) || matches!(*script, Script::Common | Script::Inherited)
        };
        let mut alphabets = word.chars().map(script).filter(|script| !shared(script));
        let first = alphabets.next();
        alphabets.any(|other| Some(other) != first)
    })
}

/// A value that must never be printed; `Debug` and `Display` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    #[must_use]
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// Returns the value, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_written_out() {
        assert_eq!(visible("a\x1b[2Jb"), "a<U+001B>[2Jb");
        assert_eq!(visible("safe\u{202e}txt"), "safe<U+202E>txt");
        assert_eq!(visible("发布任务 ok"), "发布任务 ok");
        assert_eq!(visible("\u{9b}31m\u{200b}"), "<U+009B>31m<U+200B>");
        for c in
            ['\u{890}', '\u{891}', '\u{8e2}', '\u{110cd}', '\u{13430}', '\u{13440}', '\u{ad}', '\u{3164}', '\u{e0041}']
        {
            assert!(is_hidden(c) || is_accent(c), "U+{:04X}", u32::from(c));
        }
        assert_eq!(visible("e\u{301}\u{302}"), "e\u{301}\u{302}");
        assert_eq!(visible(&format!("e{}", "\u{301}".repeat(150))).matches("<U+0301>").count(), 146);
        assert_eq!(visible_lines("a\tb\r\nc\x07"), "a\tb\r\nc<U+0007>".replace('\r', ""));
    }

    #[test]
    fn letters_that_look_alike_are_found() {
        for (text, want) in [
            ("deploy web", None),
            ("发布web任务", None),
            ("データ移行DB", None),
            ("déjà vu", None),
            ("обновить", None),
            ("обновить web", None),
            ("dеploy web", Some("dеploy")),
            ("roll ρaypal", Some("ρaypal")),
        ] {
            assert_eq!(mixed_alphabets(text), want, "{text}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "******** ********");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
