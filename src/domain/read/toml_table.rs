//! Reads the tables of one TOML file field by field, so that every problem of the file is found at once.
//!
//! **Invariant:** pure. Reading never stops at the first problem, every problem points at `file:line`, and a field
//! that nobody asked for is one.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::base::limits;
use crate::domain::problem::Problem;

/// One TOML file and the problems found in it so far.
pub(crate) struct Sheet<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: RefCell<Vec<(usize, Problem)>>,
}

/// A piece of text and where it stands in its file.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// The text.
    pub(crate) value: String,
    /// Which bytes of the file it came from.
    pub(crate) span: Range<usize>,
}

/// A list of texts, or one text in its place.
#[derive(Clone, Debug)]
pub(crate) enum Texts {
    /// A list; empty when nothing was there.
    List(Vec<Text>),
    /// One string.
    One(Text),
}

/// A table whose fields are taken one by one; what is left at [`Fields::finish`] is unknown.
pub(crate) struct Fields<'a> {
    sheet: &'a Sheet<'a>,
    span: Range<usize>,
    table: DeTable<'a>,
    asked: Vec<&'static str>,
    absent: Vec<&'static str>,
}

impl<'a> Sheet<'a> {
    /// Makes a sheet; `file` is the name that problems carry.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Sheet<'a> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at.saturating_add(1))).collect();
        Sheet { file, text, lines, problems: RefCell::default() }
    }

    /// Returns the top-level table; what is not TOML becomes problems and the rest is read all the same.
    pub(crate) fn fields(&'a self) -> Fields<'a> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(&error.span().unwrap_or_default(), error.message(), "valid TOML");
        }
        Fields {
            sheet: self,
            span: document.span(),
            table: document.into_inner(),
            asked: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Returns `file:line` of a byte of the text.
    pub(crate) fn pointer(&self, offset: usize) -> String {
        format!("{}:{}", self.file, self.line(offset))
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= offset)
    }

    /// Notes a problem at `span`.
    pub(crate) fn problem(&self, span: &Range<usize>, found: impl AsRef<str>, wanted: impl Into<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < limits::PROBLEMS_MAX {
            problems.push((span.start, Problem::new(self.pointer(span.start), found, wanted)));
        }
    }

    /// Returns every problem, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(offset, _)| *offset);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

impl Text {
    /// Parses the text, noting a problem that says `wanted` when it is something else.
    pub(crate) fn parse<T: std::str::FromStr<Err: fmt::Display>>(&self, sheet: &Sheet<'_>) -> Option<T> {
        match self.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                sheet.problem(&self.span, &self.value, error.to_string().trim_start_matches("not "));
                None
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// Returns where the table begins.
    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Returns the sheet the table stands on.
    pub(crate) fn sheet(&self) -> &'a Sheet<'a> {
        self.sheet
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.asked.push(key);
        let value = self.table.remove(key);
        if value.is_none() {
            self.absent.push(key);
        }
        value
    }

    /// Returns the value that was taken as `key`, noting a problem when the table had none. A value of the wrong
    /// type has its own problem already.
    pub(crate) fn need<T>(&self, key: &'static str, value: Option<T>) -> Option<T> {
        if self.missed(key) {
            self.sheet.problem(&self.span, format!("no {key}"), format!("{key} = …"));
        }
        value
    }

    /// Whether `key` was asked for and was not there.
    pub(crate) fn missed(&self, key: &str) -> bool {
        self.absent.contains(&key)
    }

    /// Whether the table has a field `key` that was not taken yet.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes one of some words and returns what it stands for.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let (last, others) = words.split_last()?;
            let others = others.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            self.sheet.problem(&text.span, format!("{key} = {}", text.value), format!("{others} or {}", last.0));
        }
        found.map(|(_, value)| *value)
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, key: &'static str) -> Option<Text> {
        self.take(key).and_then(|value| string(self.sheet, key, value))
    }

    /// Takes a string, a number or a boolean as text.
    pub(crate) fn scalar(&mut self, key: &'static str) -> Option<Text> {
        self.take(key).and_then(|value| scalar(self.sheet, key, &value))
    }

    /// Takes a boolean.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        if value.get_ref().as_bool().is_none() {
            self.sheet.problem(&value.span(), describe(key, value.get_ref()), format!("{key} = true or false"));
        }
        value.get_ref().as_bool()
    }

    /// Takes a whole number within `range`.
    pub(crate) fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        let number = value.get_ref().as_integer().and_then(whole).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let wanted = format!("{key} = a whole number from {} to {}", range.start(), range.end());
            self.sheet.problem(&value.span(), describe(key, value.get_ref()), wanted);
        }
        number
    }

    /// Takes a list of strings; nothing there is an empty list.
    pub(crate) fn strings(&mut self, key: &'static str) -> Vec<Text> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                items.into_iter().filter_map(|item| string(self.sheet, "an element", item)).collect()
            }
            other => {
                self.sheet.problem(&span, describe(key, &other), format!("{key} = a list of strings"));
                Vec::new()
            }
        }
    }

    /// Takes a list of strings, or one string.
    pub(crate) fn texts_or_one(&mut self, key: &'static str) -> Texts {
        if self.table.get(key).is_some_and(|value| value.get_ref().as_str().is_some()) {
            self.string(key).map_or(Texts::List(Vec::new()), Texts::One)
        } else {
            Texts::List(self.strings(key))
        }
    }

    /// Takes a table of strings, numbers and booleans, all as text, sorted by name.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<(Text, Text)> {
        let Some(fields) = self.table(key) else { return Vec::new() };
        let sheet = fields.sheet;
        let pairs = fields.table.into_iter().filter_map(|(name, value)| {
            let name = Text { span: name.span(), value: name.into_inner().into_owned() };
            let value = scalar(sheet, &name.value, &value)?;
            Some((name, value))
        });
        pairs.collect()
    }

    /// Takes a table.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Fields<'a>> {
        self.take(key).and_then(|value| table(self.sheet, key, value))
    }

    /// Takes the tables `[key.NAME]`, sorted by name.
    pub(crate) fn named_tables(&mut self, key: &'static str) -> Vec<(Text, Fields<'a>)> {
        let Some(fields) = self.table(key) else { return Vec::new() };
        let sheet = self.sheet;
        let tables = fields.table.into_iter().filter_map(|(name, value)| {
            let name = Text { span: name.span(), value: name.into_inner().into_owned() };
            let mut fields = table(sheet, &format!("{key}.{}", name.value), value)?;
            fields.span = name.span.clone();
            Some((name, fields))
        });
        tables.collect()
    }

    /// Takes the tables `[[key]]`, in the order of the file.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Fields<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => items.into_iter().filter_map(|item| table(self.sheet, key, item)).collect(),
            other => {
                self.sheet.problem(&span, describe(key, &other), format!("tables that begin with [[{key}]]"));
                Vec::new()
            }
        }
    }

    /// Notes every field that nobody took.
    pub(crate) fn finish(self) {
        for (name, value) in &self.table {
            let dotted = value.get_ref().is_table() && name.get_ref().bytes().all(|byte| byte.is_ascii_digit());
            let wanted = if dotted {
                "a name with dots in quotes, such as [host.\"10.0.0.1\"]".to_owned()
            } else {
                format!("one of the fields {}", self.asked.join(", "))
            };
            self.sheet.problem(&name.span(), format!("the field {}", name.get_ref()), wanted);
        }
    }
}

fn string(sheet: &Sheet<'_>, key: &str, value: Spanned<DeValue<'_>>) -> Option<Text> {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(value) => Some(Text { value: value.into_owned(), span }),
        other => {
            sheet.problem(&span, describe(key, &other), "a string in quotes");
            None
        }
    }
}

fn scalar(sheet: &Sheet<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Text> {
    let span = value.span();
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => whole(number).map_or_else(|| number.as_str().to_owned(), |n| n.to_string()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        other => {
            sheet.problem(&span, describe(key, other), "a string, a number, true or false");
            return None;
        }
    };
    Some(Text { value: text, span })
}

fn table<'a>(sheet: &'a Sheet<'a>, key: &str, value: Spanned<DeValue<'a>>) -> Option<Fields<'a>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Some(Fields { sheet, span, table, asked: Vec::new(), absent: Vec::new() }),
        other => {
            sheet.problem(&span, describe(key, &other), "a table");
            None
        }
    }
}

fn whole(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Says what a value is without repeating it whole.
fn describe(key: &str, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{key} = \"{text}\""),
        DeValue::Integer(number) => format!("{key} = {number}"),
        DeValue::Boolean(truth) => format!("{key} = {truth}"),
        other => format!("{key} of type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_found_with_its_line() {
        let text = "a = 1\nb = \"x\"\nc = [1, \"y\"]\n\n[d.one]\nport = 99999\n[d.two]\nuser = true\nmore = 1\n[[e]]\n";
        let sheet = Sheet::new("f.toml", text);
        let mut fields = sheet.fields();
        assert!(fields.string("a").is_none());
        assert!(fields.boolean("b").is_none());
        assert_eq!(fields.strings("c").len(), 1);
        for (_, mut table) in fields.named_tables("d") {
            table.integer("port", 1..=65535);
            table.string("user");
            table.finish();
        }
        for mut table in fields.tables("e") {
            let name = table.string("name");
            table.need("name", name);
            table.finish();
        }
        fields.finish();
        let found: Vec<String> = sheet.into_problems().iter().map(|p| format!("{}: {}", p.pointer, p.found)).collect();
        let want = [
            "f.toml:1: a = 1",
            "f.toml:2: b = \"x\"",
            "f.toml:3: an element = 1",
            "f.toml:6: port = 99999",
            "f.toml:8: user = true",
            "f.toml:9: the field more",
            "f.toml:10: no name",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn broken_toml_is_reported_beside_the_rest() {
        let sheet = Sheet::new("f.toml", "a = \nb = 1\nb = 2\nc = 0x1F\n");
        let mut fields = sheet.fields();
        assert_eq!(fields.scalar("c").map(|text| text.value), Some("31".to_owned()));
        drop(fields);
        let lines: Vec<String> = sheet.into_problems().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(lines, ["f.toml:1", "f.toml:3"]);
    }
}
