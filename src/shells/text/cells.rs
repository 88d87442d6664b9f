//! Cells: how many a character takes, which characters stand in one together, and where terminals do not agree.
//!
//! **Invariant:** pure. A cell holds one character that takes room and what is drawn over it, never two: what is written over
//! one cell of two characters leaves the other on the screen. No terminal gives a character more cells than are kept for it.

use unicode_width::UnicodeWidthChar as _;

/// Returns how many cells are kept for a character: as many as the terminal gives it that gives it most.
#[must_use]
pub(crate) fn width(c: char) -> usize {
    if c.is_ascii() {
        return usize::from(!c.is_ascii_control());
    }
    match c {
        c if is_disputed(c) => 1,
        c if is_disputed_wide(c) => 2,
        c => c.width().unwrap_or(0),
    }
}

/// Spacing marks and vowel signs that extend the character before them (`Grapheme_Extend`, UAX #44): terminals that ask the C
/// library give them a cell of their own, others draw them over the one before.
fn is_disputed(c: char) -> bool {
    matches!(
        c,
        '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{9be}' | '\u{9d7}' | '\u{b3e}' | '\u{b57}' | '\u{bbe}' | '\u{bd7}' |
        '\u{cc0}' | '\u{cc2}' | '\u{cc7}'..='\u{cc8}' | '\u{cca}'..='\u{ccb}' | '\u{cd5}'..='\u{cd6}' |
        '\u{d3e}' | '\u{d4e}' | '\u{d57}' | '\u{dcf}' | '\u{ddf}' | '\u{1715}' | '\u{1734}' | '\u{1b35}' |
        '\u{1b3b}' | '\u{1b3d}' | '\u{1b43}'..='\u{1b44}' | '\u{1baa}' | '\u{1bf2}'..='\u{1bf3}' | '\u{2d7f}' |
        '\u{a8fa}' | '\u{a953}' | '\u{a9c0}' | '\u{111c0}' | '\u{111c2}'..='\u{111c3}' | '\u{11235}' |
        '\u{1133e}' | '\u{1134d}' | '\u{11357}' | '\u{114b0}' | '\u{114bd}' | '\u{115af}' | '\u{116b6}' |
        '\u{1171e}' | '\u{11930}' | '\u{1193d}' | '\u{1193f}' | '\u{11941}' | '\u{11a84}'..='\u{11a89}' |
        '\u{11d46}' | '\u{13430}'..='\u{13438}' | '\u{1d165}'..='\u{1d166}' | '\u{1d16d}'..='\u{1d172}'
    )
}

/// Signs that some terminals draw in two cells and some in one: trigrams and hexagrams, circled numbers, tone marks.
fn is_disputed_wide(c: char) -> bool {
    matches!(
        c,
        '\u{17a4}' | '\u{2630}'..='\u{2637}' | '\u{268a}'..='\u{268f}' | '\u{302e}'..='\u{302f}' |
        '\u{3248}'..='\u{324f}' | '\u{16ff0}'..='\u{16ff1}' | '\u{1d300}'..='\u{1d356}' |
        '\u{1d360}'..='\u{1d376}'
    )
}

/// Whether nobody knows what a terminal makes of a character and its neighbours, so that it is painted alone, on cells that
/// were emptied before, and again whenever something changes beside it: whatever is not of a script whose characters stand
/// each for itself.
#[must_use]
pub(crate) fn is_delicate(c: char) -> bool {
    let calm = matches!(
        c,
        '\0'..='\u{2ff}'
            | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{58f}' | '\u{10a0}'..='\u{10ff}' | '\u{1e00}'..='\u{1fff}'
            | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{2070}'..='\u{20cf}' | '\u{2100}'..='\u{2bff}'
            | '\u{2e80}'..='\u{3029}' | '\u{3030}'..='\u{3098}' | '\u{309b}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff01}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
            | '\u{20000}'..='\u{3ffff}'
    );
    !calm || is_disputed(c) || is_disputed_wide(c)
}

/// Splits a text into what stands in one cell, or in two, each with how many they are: a character that takes room, and
/// what is drawn over it.
pub(crate) fn units(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let more = rest[first.len_utf8()..].char_indices().find(|(_, c)| width(*c) > 0);
        let end = more.map_or(rest.len(), |(at, _)| first.len_utf8().saturating_add(at));
        let (unit, left) = rest.split_at(end);
        rest = left;
        Some((unit, width(first)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_one_character_that_takes_room() {
        for (text, want) in [
            ("ab", vec![("a", 1), ("b", 1)]),
            ("发e\u{301}", vec![("发", 2), ("e\u{301}", 1)]),
            // Thai, Lao: the vowel follows its consonant.
            ("น\u{e33}ก", vec![("น", 1), ("\u{e33}", 1), ("ก", 1)]),
            ("ກ\u{eb3}", vec![("ກ", 1), ("\u{eb3}", 1)]),
            ("น\u{e49}", vec![("น\u{e49}", 1)]),
            // Devanagari: two consonants are one cluster.
            ("\u{915}\u{94d}\u{937}", vec![("\u{915}\u{94d}", 1), ("\u{937}", 1)]),
            // Bengali: a vowel sign that some terminals draw over its consonant.
            ("\u{995}\u{9be}", vec![("\u{995}", 1), ("\u{9be}", 1)]),
            ("\u{1100}\u{1161}\u{11a8}x", vec![("\u{1100}\u{1161}\u{11a8}", 2), ("x", 1)]),
            ("", vec![]),
        ] {
            assert_eq!(units(text).collect::<Vec<_>>(), want, "{text}");
            assert_eq!(units(text).map(|(_, wide)| wide).sum::<usize>(), text.chars().map(width).sum::<usize>());
        }
        assert_eq!(["发", "é", "─", "x", "Я"].map(|text| text.chars().any(is_delicate)), [false; 5]);
        assert_eq!(["น", "\u{995}", "\u{1f44d}", "e\u{301}", "☰"].map(|text| text.chars().any(is_delicate)), [true; 5]);
    }
}
