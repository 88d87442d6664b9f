//! A text that is being typed.
//!
//! **Invariant:** pure. The cursor stands on the edge of a character; what is shown of it is safe to show, and the cursor's
//! cell is where the terminal shows the next character.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::shells::text::{cells, shown};

/// A text of one line or of many, and where the next character goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    text: String,
    /// In bytes.
    cursor: usize,
    /// How many bytes it may have; what does not fit is not taken.
    most: Option<usize>,
}

impl Edit {
    pub(super) fn new(text: impl Into<String>) -> Edit {
        let text = text.into();
        Edit { cursor: text.len(), text, most: None }
    }

    /// Returns an empty text that stays as short as files may have it.
    pub(super) fn at_most(bytes: usize) -> Edit {
        Edit { most: Some(bytes), ..Edit::default() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Takes a key that writes or moves the cursor; `false` when it is another.
    pub(super) fn typed(&mut self, key: &KeyEvent) -> bool {
        let held = key.modifiers.contains(KeyModifiers::CONTROL);
        match (key.code, held) {
            (KeyCode::Char('w'), true) => self.delete_word(),
            (KeyCode::Char('u'), true) => self.delete_to_start(),
            (KeyCode::Char('a'), true) | (KeyCode::Home, _) => self.home(),
            (KeyCode::Char('e'), true) | (KeyCode::End, _) => self.end(),
            (KeyCode::Char(c), false) if !key.modifiers.contains(KeyModifiers::ALT) => {
                self.insert(c.encode_utf8(&mut [0; 4]));
            }
            (KeyCode::Backspace, _) => self.backspace(),
            (KeyCode::Delete, _) => self.delete(),
            (KeyCode::Left, _) => self.left(),
            (KeyCode::Right, _) => self.right(),
            _ => return false,
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Edit { most: self.most, ..Edit::default() };
    }

    pub(super) fn insert(&mut self, text: &str) {
        let room = self.most.map_or(text.len(), |most| most.saturating_sub(self.text.len()));
        let text = &text[..text.floor_char_boundary(room)];
        self.text.insert_str(self.cursor, text);
        self.cursor = self.cursor.saturating_add(text.len());
    }

    pub(super) fn backspace(&mut self) {
        if let Some(before) = self.before() {
            self.text.replace_range(before..self.cursor, "");
            self.cursor = before;
        }
    }

    pub(super) fn delete(&mut self) {
        if let Some(after) = self.after() {
            self.text.replace_range(self.cursor..after, "");
        }
    }

    /// Removes the word before the cursor.
    pub(super) fn delete_word(&mut self) {
        let head = self.text[..self.cursor].trim_end();
        let start = head
            .rfind(char::is_whitespace)
            .map_or(0, |at| at.saturating_add(head[at..].chars().next().map_or(1, char::len_utf8)));
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Removes what stands before the cursor in its line.
    pub(super) fn delete_to_start(&mut self) {
        let start = self.line_start();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.before().unwrap_or(self.cursor);
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.after().unwrap_or(self.cursor);
    }

    pub(super) fn home(&mut self) {
        self.cursor = self.line_start();
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.line_end();
    }

    /// Moves to the line above, as near to the same column as it has one; `false` when there is none.
    pub(super) fn up(&mut self) -> bool {
        let start = self.line_start();
        if start == 0 {
            return false;
        }
        let column = self.text[start..self.cursor].chars().count();
        self.cursor = start.saturating_sub(1);
        self.move_to_column(column);
        true
    }

    /// Moves to the line below; `false` when there is none.
    pub(super) fn down(&mut self) -> bool {
        let end = self.line_end();
        if end == self.text.len() {
            return false;
        }
        let column = self.text[self.line_start()..self.cursor].chars().count();
        self.cursor = end.saturating_add(1);
        self.move_to_column(column);
        true
    }

    fn move_to_column(&mut self, column: usize) {
        let (start, end) = (self.line_start(), self.line_end());
        self.cursor = self.text[start..end].char_indices().nth(column).map_or(end, |(at, _)| start.saturating_add(at));
    }

    /// Returns the line and the cell that the cursor stands at.
    pub(super) fn position(&self) -> (usize, usize) {
        let line = self.text[..self.cursor].matches('\n').count();
        // A tab is shown as four cells.
        (line, cells(&shown(&self.text[self.line_start()..self.cursor].replace('\t', "    "))))
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at.saturating_add(1))
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor.saturating_add(at))
    }

    fn before(&self) -> Option<usize> {
        self.text[..self.cursor].char_indices().next_back().map(|(at, _)| at)
    }

    fn after(&self) -> Option<usize> {
        self.text[self.cursor..].chars().next().map(|c| self.cursor.saturating_add(c.len_utf8()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_stands_where_the_cursor_was() {
        let mut edit = Edit::new("发布");
        edit.left();
        edit.insert("a");
        assert_eq!((edit.text(), edit.position()), ("发a布", (0, 3)));
        edit.backspace();
        edit.backspace();
        edit.backspace();
        assert_eq!(edit.text(), "布");
        edit.delete();
        assert_eq!(edit.text(), "");
        edit.insert("one two  three");
        edit.delete_word();
        assert_eq!(edit.text(), "one two  ");
        edit.delete_word();
        assert_eq!(edit.text(), "one ");
        edit.delete_to_start();
        assert_eq!(edit.text(), "");
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let mut edit = Edit::at_most(7);
        edit.insert("发布布");
        assert_eq!(edit.text(), "发布");
        edit.insert("ab");
        edit.clear();
        edit.insert(&"x".repeat(20));
        assert_eq!(edit.text(), "xxxxxxx");
    }

    #[test]
    fn lines_are_walked_up_and_down() {
        let mut edit = Edit::new("long line\nx\nmore");
        assert_eq!(edit.position(), (2, 4));
        assert!(edit.up() && edit.position() == (1, 1));
        assert!(edit.up() && edit.position() == (0, 1));
        assert!(!edit.up());
        edit.end();
        assert_eq!(edit.position(), (0, 9));
        assert!(edit.down() && edit.down() && !edit.down());
        edit.home();
        assert_eq!(edit.position(), (2, 0));
    }
}
