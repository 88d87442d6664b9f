//! Text that is safe to show, and text that must never be shown.
//!
//! **Invariant:** what [`visible`] returns holds no control, bidirectional or zero-width character, so it
//! can go to a terminal as it is.

use std::fmt;

/// Returns `text` with every character that a terminal would obey or hide written as `<U+XXXX>`.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
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
/// overrides, zero-width characters, separators and tags (Unicode 16, general categories Cc, Cf, Zl, Zp), and whatever else
/// is to be shown as nothing (`Default_Ignorable_Code_Point`).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180d}' | '\u{180f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
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
        assert_eq!(visible_lines("a\tb\r\nc\x07"), "a\tb\r\nc<U+0007>".replace('\r', ""));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "******** ********");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
