//! What people read: one catalogue a language.
//!
//! **Invariant:** pure. Every language has every text, because a catalogue without one does not compile; a text has the same
//! places to fill in in every language. Keys, verbs and states in files are never translated.

mod catalogue;
mod en;
pub(super) mod names;
mod zh;

pub(super) use catalogue::Words;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    En,
    Zh,
}

impl Lang {
    pub(super) const ALL: [Lang; 2] = [Lang::En, Lang::Zh];

    pub(super) fn word(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Zh => "zh",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Lang> {
        Lang::ALL.into_iter().find(|lang| {
            word == lang.word()
                || word.starts_with(&format!("{}_", lang.word()))
                || word.starts_with(&format!("{}-", lang.word()))
        })
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Lang::En => &en::WORDS,
            Lang::Zh => &zh::WORDS,
        }
    }
}

/// Puts values into the places of a text, in their order.
pub(super) fn fill(text: &str, values: &[&str]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut values = values.iter();
    for (n, piece) in text.split("{}").enumerate() {
        if n > 0 {
            filled.push_str(values.next().unwrap_or(&""));
        }
        filled.push_str(piece);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_there_with_the_same_places_in_both_languages() {
        for ((name, en), (_, zh)) in Lang::En.words().all().into_iter().zip(Lang::Zh.words().all()) {
            assert!(!en.is_empty() && !zh.is_empty(), "{name} is empty");
            assert_eq!(en.matches("{}").count(), zh.matches("{}").count(), "{name}: {en} / {zh}");
            let same = ["both_streams", "hint_editor"].contains(&name);
            assert_eq!(same, en == zh, "{name}: {en} / {zh}");
        }
    }

    #[test]
    fn places_are_filled_in_order() {
        assert_eq!(fill("{} of {}", &["1", "2"]), "1 of 2");
        assert_eq!(fill("none", &["x"]), "none");
        assert_eq!(fill("{}", &[]), "");
        assert_eq!(Lang::parse("zh_CN.UTF-8"), Some(Lang::Zh));
        assert_eq!(Lang::parse("zhx"), None);
    }
}
