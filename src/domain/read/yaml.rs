//! YAML, as `PyYAML` reads it for Ansible. Floor 1.
//!
//! **Invariant:** pure. One document; bounded in depth and, aliases written out, in size, so that no few lines become
//! gigabytes. A key stands once in a mapping: Ansible takes the last one and warns, and a list of hosts that is
//! silently half of what was meant is worse than a refusal. Tags that make other objects are refused.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::data::{Data, Node};
use super::{data_json, yaml_scalar};
use crate::domain::problem::Problem;

/// How deep values may nest: sixteen levels of groups take less.
const DEPTH_MAX: usize = 64;
/// How many values one file may hold, aliases written out.
const VALUES_MAX: usize = 1_000_000;
/// How many bytes of text one file may hold, aliases written out.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// The tags that YAML itself defines.
const CORE: &str = "tag:yaml.org,2002:";

/// Reads one file: JSON when it is JSON, which numbers may tell apart, YAML otherwise; as Ansible does.
///
/// # Errors
/// The first thing wrong with it, with `file:line`.
pub(in crate::domain) fn read(file: &str, text: &str) -> Result<Node, Problem> {
    if text.starts_with("$ANSIBLE_VAULT;") {
        return Err(Problem::new(format!("{file}:1"), "a file encrypted by ansible-vault", "a file in clear text"));
    }
    if let Ok(node) = data_json::read(text) {
        return Ok(node);
    }
    let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some(at) = text.find(odd) {
        let line = text[..at].matches('\n').count().saturating_add(1);
        return Err(Problem::new(format!("{file}:{line}"), "a control character", "YAML without control characters"));
    }
    let mut composer =
        Composer { file, parser: Parser::new_from_str(text), anchors: BTreeMap::new(), values: 0, bytes: 0 };
    composer.document()
}

struct Composer<'a> {
    file: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    /// What anchors stand for; nothing while the value is still read.
    anchors: BTreeMap<usize, Option<Node>>,
    values: usize,
    bytes: usize,
}

impl<'a> Composer<'a> {
    fn problem<T>(&self, line: usize, found: impl AsRef<str>, wanted: &str) -> Result<T, Problem> {
        Err(Problem::new(format!("{}:{line}", self.file), found, wanted))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let line = error.marker().line();
                self.problem(line, error.info(), "YAML")
            }
            None => self.problem(1, "the end of the file", "YAML"),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let empty = Node { line: 1, data: Data::Null };
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or(empty)),
                Event::DocumentStart(_) if root.is_some() => {
                    return self.problem(span.start.line(), "a second document", "one document a file");
                }
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                other => root = Some(self.node(other, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let line = span.start.line();
        if depth > DEPTH_MAX {
            return self.problem(line, "too much depth", "at most 64 levels");
        }
        let (anchor, data) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(1, text.len(), line)?;
                (anchor, self.scalar(&text, style, tag.as_deref(), line)?)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", line)?;
                self.begin(anchor, line)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span, depth.saturating_add(1))?);
                }
                (anchor, Data::List(items))
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", line)?;
                self.begin(anchor, line)?;
                (anchor, self.mapping(depth)?)
            }
            _ => return self.problem(line, "the end of a value", "a value"),
        };
        let node = Node { line, data };
        if anchor > 0 {
            self.anchors.insert(anchor, Some(node.clone()));
        }
        Ok(node)
    }

    fn begin(&mut self, anchor: usize, line: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        self.spend(1, 0, line)
    }

    fn spend(&mut self, values: usize, bytes: usize, line: usize) -> Result<(), Problem> {
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.values > VALUES_MAX || self.bytes > TEXT_BYTES_MAX {
            return self.problem(
                line,
                "too many values, aliases written out",
                "at most 1000000 values and 64 MiB of text",
            );
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Node, Problem> {
        match self.anchors.get(&anchor) {
            Some(Some(node)) => {
                let (values, bytes) = weight(node);
                let node = node.clone();
                self.spend(values, bytes, line)?;
                Ok(node)
            }
            Some(None) => self.problem(line, "an alias of what it stands in", "values that do not contain themselves"),
            None => self.problem(line, "an alias without an anchor", "&NAME before *NAME"),
        }
    }

    fn check_tag(&self, tag: Option<&Tag>, kind: &str, line: usize) -> Result<(), Problem> {
        let Some(tag) = tag else { return Ok(()) };
        let known = (tag.handle == CORE && tag.suffix == kind) || is_plain_tag(tag) || is_unsafe(tag);
        if known { Ok(()) } else { self.problem(line, format!("the tag {tag}"), WANTED_TAG) }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Data, Problem> {
        let wrong = |wanted: &'static str| Problem::new(format!("{}:{line}", self.file), shown(text), wanted);
        let Some(tag) = tag else {
            return match style {
                ScalarStyle::Plain => yaml_scalar::plain(text).map_err(wrong),
                _ => Ok(Data::Text(text.to_owned())),
            };
        };
        if is_unsafe(tag) {
            return yaml_scalar::plain(text).map_err(wrong);
        }
        if is_plain_tag(tag) {
            return Ok(Data::Text(text.to_owned()));
        }
        if tag.suffix == "vault" || tag.suffix == "vault-encrypted" {
            return self.problem(line, "a value encrypted by ansible-vault", "a value in clear text");
        }
        let data = match (tag.handle.as_str(), tag.suffix.as_str()) {
            (CORE, "str") => Some(Data::Text(text.to_owned())),
            (CORE, "null") => Some(Data::Null),
            (CORE, "bool") => yaml_scalar::truth(&text.to_lowercase()).map(Data::Bool),
            (CORE, "int") => yaml_scalar::int(text),
            (CORE, "float") => yaml_scalar::float(text),
            _ => return self.problem(line, format!("the tag {tag}"), WANTED_TAG),
        };
        data.ok_or_else(|| wrong("a value that its tag fits"))
    }

    fn mapping(&mut self, depth: usize) -> Result<Data, Problem> {
        let (mut own, mut merged) = (Vec::new(), Vec::new());
        let mut seen = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            if event == Event::MappingEnd {
                break;
            }
            if matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<") {
                let (event, span) = self.next()?;
                let value = self.node(event, span, depth.saturating_add(1))?;
                self.merge(value, &mut merged)?;
                continue;
            }
            let key = self.node(event, span, depth.saturating_add(1))?;
            if matches!(key.data, Data::List(_) | Data::Map(_)) {
                return self.problem(line, format!("{} as key", key.data.kind()), "text or a number as key");
            }
            if let Some(first) = seen.insert(identity(&key), line) {
                let wanted = format!("each key once; line {first} has it already");
                return self.problem(line, key.data.text().unwrap_or_default(), &wanted);
            }
            let (event, span) = self.next()?;
            own.push((key, self.node(event, span, depth.saturating_add(1))?));
        }
        if merged.is_empty() {
            return Ok(Data::Map(own));
        }
        // What is merged in comes first and yields; a key stays where it stood first.
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        let mut places = BTreeMap::new();
        for (key, value) in merged.into_iter().chain(own) {
            let place = *places.entry(identity(&key)).or_insert(pairs.len());
            if place < pairs.len() {
                pairs[place] = (key, value);
            } else {
                pairs.push((key, value));
            }
        }
        Ok(Data::Map(pairs))
    }

    /// Adds what `<<` names: a mapping, or several of which the first ones win.
    fn merge(&self, value: Node, merged: &mut Vec<(Node, Node)>) -> Result<(), Problem> {
        const WANTED: &str = "a mapping, or a list of mappings, behind <<";
        let line = value.line;
        match value.data {
            Data::Map(pairs) => merged.extend(pairs),
            Data::List(items) => {
                for item in items.into_iter().rev() {
                    let Data::Map(pairs) = item.data else { return self.problem(line, item.data.kind(), WANTED) };
                    merged.extend(pairs);
                }
            }
            other => return self.problem(line, other.kind(), WANTED),
        }
        Ok(())
    }
}

const WANTED_TAG: &str = "no tag, or one of !!str, !!int, !!float, !!bool, !!null, !!seq, !!map and !unsafe";

/// `!` alone: a scalar that is text.
fn is_plain_tag(tag: &Tag) -> bool {
    (tag.handle.is_empty() && tag.suffix == "!") || (tag.handle == "!" && tag.suffix.is_empty())
}

/// Ansible's mark for values that are no templates; nothing here is one.
fn is_unsafe(tag: &Tag) -> bool {
    tag.handle == "!" && tag.suffix == "unsafe"
}

/// Two keys with the same identity are one key: for Python `1`, `1.0` and `yes` are the same.
fn identity(key: &Node) -> (bool, String) {
    let text = key.data.text().unwrap_or_default();
    match key.data {
        Data::Bool(yes) => (false, i32::from(yes).to_string()),
        Data::Float(_) => (false, text.strip_suffix(".0").unwrap_or(&text).to_owned()),
        Data::Null | Data::Int(_) => (false, text),
        _ => (true, text),
    }
}

/// A scalar that is wrong; long ones may be anything.
fn shown(text: &str) -> &str {
    if text.len() <= 40 { text } else { "a long value" }
}

fn weight(node: &Node) -> (usize, usize) {
    let inside = |nodes: &mut dyn Iterator<Item = &Node>| {
        nodes
            .map(weight)
            .fold((1_usize, 0_usize), |(values, bytes), (v, b)| (values.saturating_add(v), bytes.saturating_add(b)))
    };
    match &node.data {
        Data::List(items) => inside(&mut items.iter()),
        Data::Map(pairs) => inside(&mut pairs.iter().flat_map(|(key, value)| [key, value])),
        Data::Text(text) | Data::Int(text) | Data::Time(text) => (1, text.len()),
        _ => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match read("f.yml", text) {
            Ok(node) => node.data.text().unwrap(),
            Err(problem) => problem.to_string(),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn documents_are_read_as_pyyaml_reads_them() {
        check("a: yes\nb: [1, '1', 0x10]\nc:\n", r#"{"a":true,"b":[1,"1",16],"c":null}"#);
        check("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n", r#"{"x":{"a":1,"b":2},"y":{"a":1,"b":3}}"#);
        check("y: {<<: [{a: 1}, {a: 2, c: 4}], z: 1}\n", r#"{"y":{"a":1,"c":4,"z":1}}"#);
        check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y"}"#);
        check("a: !!str 1\nb: !unsafe '{{ x }}'\nc: !!float 1\n", r#"{"a":"1","b":"{{ x }}","c":1.0}"#);
        check("", "None");
        check("{\"a\": 1e3}", "{\"a\":1000.0}");
    }

    #[test]
    fn what_is_dangerous_or_wrong_is_refused_with_its_line() {
        check("a: 1\nb: 2\na: 3\n", "f.yml:3: found a; wanted each key once; line 1 has it already");
        check("a: 1\n---\nb: 2\n", "f.yml:2: found a second document; wanted one document a file");
        check(
            "a:\n- !!python/object:os.system x\n",
            &format!("f.yml:2: found the tag tag:yaml.org,2002:!python/object:os.system; wanted {WANTED_TAG}"),
        );
        check(
            "a: &a [*a]\n",
            "f.yml:1: found an alias of what it stands in; wanted values that do not contain themselves",
        );
        check("a: !vault x\n", "f.yml:1: found a value encrypted by ansible-vault; wanted a value in clear text");
        check(
            "$ANSIBLE_VAULT;1.1;AES256\n3131\n",
            "f.yml:1: found a file encrypted by ansible-vault; wanted a file in clear text",
        );
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","));
        }
        assert!(read("f.yml", &bomb).unwrap_err().found.starts_with("too many values"));
        assert!(read("f.yml", &"[".repeat(10_000)).is_err());
        assert!(read("f.yml", "a:\n\tb: 1\n").is_err());
    }
}
