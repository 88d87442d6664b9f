//! Steps that carry files, as template files write them. Floor 1.
//!
//! **Invariant:** pure, and as strict as the rest of the file: every problem is noted on the sheet.

use std::collections::BTreeMap;

use super::step_context::{StepContext, check_placeholders};
use crate::base::limits;
use crate::domain::file_step::{FETCH, FileWork, INSTALL, Place, Source, is_mode, is_owner};
use crate::domain::read::toml_table::{Fields, Sheet, Text};

/// What a step may do with files, by its word.
pub(super) const WORDS: [&str; 3] = ["copy", "render", "fetch"];

/// Reads what a step does with files, if its table says one of [`WORDS`]; what runs on the host comes with it.
pub(super) fn read_file_work(table: &mut Fields<'_>, around: &StepContext<'_>) -> Option<(FileWork, &'static str)> {
    let sheet = table.sheet();
    let mut words: Vec<(&str, Text)> = WORDS.into_iter().filter_map(|word| Some((word, table.string(word)?))).collect();
    if words.len() > 1 {
        sheet.problem(&words[1].1.span, format!("{} and {}", words[0].0, words[1].0), "one of them a step");
    }
    let own = ["script", "file", "engine", "args"].into_iter().find(|key| table.has(key));
    let (word, value) = words.drain(..).next()?;
    if let Some(own) = own {
        sheet.problem(&value.span, format!("{word} and {own}"), "a step that carries files, or one that runs a script");
    }
    check_placeholders(sheet, &value, around, "secrets are in no name of a file");
    if word == "fetch" {
        let most_bytes = table.scalar("most_bytes").map_or(limits::FETCH_BYTES, |text| read_bytes(sheet, &text));
        return Some((FileWork::Fetch { path: value.value, most_bytes }, FETCH));
    }
    let to = read_place(table, around);
    let work = if word == "copy" {
        FileWork::Copy { from: value.value, to: to? }
    } else {
        let sources = read_sources(sheet, &value, around.scripts);
        FileWork::Render { sources, from: value.value, to: to? }
    };
    Some((work, INSTALL))
}

fn read_place(table: &mut Fields<'_>, around: &StepContext<'_>) -> Option<Place> {
    let sheet = table.sheet();
    let (to, mode, owner) = (table.string("to"), table.scalar("mode"), table.string("owner"));
    if let Some(mode) = mode.as_ref().filter(|mode| !is_mode(&mode.value)) {
        sheet.problem(&mode.span, &mode.value, "three or four octal digits as a text: \"0644\"");
    }
    if let Some(owner) = owner.as_ref().filter(|owner| !is_owner(&owner.value)) {
        sheet.problem(&owner.span, &owner.value, "USER, USER:GROUP or :GROUP");
    }
    let to = table.need("to", to)?;
    check_placeholders(sheet, &to, around, "secrets are in no name of a file");
    if !to.value.starts_with(['/', '{']) {
        sheet.problem(&to.span, &to.value, "the whole path of its place on the host");
    }
    Some(Place { path: to.value, mode: mode.map(|mode| mode.value), owner: owner.map(|owner| owner.value) })
}

/// Takes the template that is named, or every one beneath the folder that is.
fn read_sources(sheet: &Sheet<'_>, from: &Text, texts: &BTreeMap<String, String>) -> BTreeMap<String, Source> {
    let folder = format!("{}/", from.value.trim_end_matches('/'));
    let below = texts.iter().filter_map(|(name, text)| Some((name.strip_prefix(&folder)?.to_owned(), name, text)));
    let single = texts.get_key_value(&from.value).map(|(name, text)| (String::new(), name, text));
    let found: Vec<_> = single.into_iter().chain(below).collect();
    if found.is_empty() {
        let wanted = "a text of at most 512 KiB in the templates folder (*.j2, or in a folder of it), or such a folder";
        sheet.problem(&from.span, &from.value, wanted);
    }
    let mut sources = BTreeMap::new();
    for (below, name, text) in found {
        match Source::parse(text) {
            Ok(source) => drop(sources.insert(below, source)),
            Err(why) => sheet.problem(&from.span, format!("{name}: {why}"), "a template of Jinja2's language"),
        }
    }
    sources
}

/// Reads `1000`, `64KiB`, `20MiB` or `2GiB`.
fn read_bytes(sheet: &Sheet<'_>, text: &Text) -> u64 {
    let end = text.value.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.value.len());
    let (digits, unit) = text.value.split_at(end);
    let unit = match unit.trim() {
        "" => Some(1_u64),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let total = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
    total.filter(|total| (1..=1 << 40).contains(total)).unwrap_or_else(|| {
        sheet.problem(&text.span, &text.value, "a number of bytes, or with KiB, MiB, GiB: \"20MiB\"; at most 1024 GiB");
        1
    })
}
