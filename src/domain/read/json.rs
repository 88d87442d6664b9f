//! A strict JSON reader that remembers where everything stood.
//!
//! **Invariant:** accepts only what every JSON parser reads the same way (RFC 8259 as I-JSON, RFC 7493, narrows it):
//! no duplicate names, no lone surrogates, no number that a double cannot hold, no byte order mark. Bounded in
//! depth, size and count.

use crate::base::limits;
use crate::domain::problem::{Problem, Problems};

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Counted from 1.
    pub(crate) line: u32,
    /// Counted from 1, in characters.
    pub(crate) column: u32,
}

/// A name in an object, its value, and where the name stood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) node: Node,
}

/// A JSON value, or what a Python literal says in its words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As written: digits are never rounded.
    Number(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

impl Value {
    /// Names the kind of value, with its article.
    pub(in crate::domain) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// What reading a text gave. With problems and a root the text could be read, and is wrong all the same.
pub(in crate::domain) struct Read {
    pub(in crate::domain) root: Option<Node>,
    pub(in crate::domain) problems: Problems,
    /// The text ends where more must come.
    pub(in crate::domain) truncated: bool,
}

/// Reads one JSON text.
pub(in crate::domain) fn read(bytes: &[u8]) -> Read {
    let fail = |problem: Problem, truncated| {
        let mut problems = Problems::default();
        problems.push(problem);
        Read { root: None, problems, truncated }
    };
    if bytes.is_empty() {
        return fail(Problem::new("", "an empty file", "a JSON object").at(1, 1), true);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return fail(Problem::new("", "a byte order mark", "UTF-8 without one").at(1, 1), false);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let (line, column) = position(good);
            let found = format!("bytes that are not UTF-8 at offset {}", error.valid_up_to());
            // A text may end in the middle of a character while it is written.
            return fail(Problem::new("", found, "UTF-8").at(line, column), error.error_len().is_none());
        }
    };
    let mut reader = Reader::new(text);
    let root = reader.document();
    match root {
        Ok(node) => Read { root: Some(node), problems: reader.problems, truncated: false },
        Err(Stop) => Read { root: None, problems: reader.problems, truncated: reader.truncated },
    }
}

/// Returns the line and column of a text's end.
fn position(text: &str) -> (u32, u32) {
    let line = text.matches('\n').count().saturating_add(1);
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The largest whole number that a double holds exactly.
const EXACT_MAX: u64 = 1 << 53;

/// Reading cannot go on; the problem is noted.
struct Stop;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
    pointer: String,
    values: usize,
    problems: Problems,
    truncated: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Reader<'a> {
        let problems = Problems::default();
        Reader { text, at: 0, line: 1, column: 1, pointer: String::new(), values: 0, problems, truncated: false }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at = self.at.saturating_add(c.len_utf8());
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(c)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.next();
        }
    }

    /// Notes a problem here and goes on.
    fn note(&mut self, found: impl AsRef<str>, wanted: &str) {
        self.problems.push(Problem::new(&self.pointer, found, wanted).at(self.line, self.column));
    }

    /// Notes that something else stands here, and stops.
    fn stop<T>(&mut self, wanted: &str) -> Result<T, Stop> {
        let found = match self.peek() {
            None => {
                self.truncated = true;
                "the end of the text".to_owned()
            }
            Some(_) => self.text[self.at..].chars().take(12).collect(),
        };
        self.note(found, wanted);
        Err(Stop)
    }

    fn document(&mut self) -> Result<Node, Stop> {
        self.skip_space();
        let root = self.value(0)?;
        self.skip_space();
        if self.peek().is_some() {
            return self.stop("nothing after the object");
        }
        Ok(root)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        self.values = self.values.saturating_add(1);
        if depth > limits::NESTING_MAX || self.values > limits::VALUES_MAX {
            self.note("too much", &format!("at most {} levels and {} values", limits::NESTING_MAX, limits::VALUES_MAX));
            return Err(Stop);
        }
        let (line, column) = (self.line, self.column);
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Value::String(self.string()?),
            Some('-' | '0'..='9') => Value::Number(self.number()?),
            Some('t') => self.word("true", Value::Bool(true))?,
            Some('f') => self.word("false", Value::Bool(false))?,
            Some('n') => self.word("null", Value::Null)?,
            _ => return self.stop("a JSON value"),
        };
        Ok(Node { value, line, column })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Stop> {
        for wanted in word.chars() {
            if self.peek() != Some(wanted) {
                return self.stop(&format!("{word}, or another JSON value"));
            }
            self.next();
        }
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stop> {
        self.next();
        let mut members: Vec<Member> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        self.skip_space();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some('"') {
                return self.stop("a name in double quotes");
            }
            let (line, column) = (self.line, self.column);
            let name = self.string()?;
            if name.len() > limits::TITLE_BYTES_MAX {
                // Every problem inside would carry the name.
                self.note(&name, &format!("a name of at most {} bytes", limits::TITLE_BYTES_MAX));
                return Err(Stop);
            }
            self.skip_space();
            if self.peek() != Some(':') {
                return self.stop("a colon");
            }
            self.next();
            self.skip_space();
            let outer = self.pointer.len();
            self.pointer.push('/');
            self.pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            if !names.insert(name.clone()) {
                let problem = Problem::new(&self.pointer, &name, "each name once").at(line, column);
                self.problems.push(problem);
            }
            let node = self.value(depth.saturating_add(1))?;
            self.pointer.truncate(outer);
            members.push(Member { name, node });
            self.skip_space();
            match self.peek() {
                Some(',') => drop(self.next()),
                Some('}') => {
                    self.next();
                    return Ok(Value::Object(members));
                }
                _ => return self.stop("a comma or }"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        self.next();
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Value::Array(items));
        }
        loop {
            self.skip_space();
            let outer = self.pointer.len();
            self.pointer.push_str(&format!("/{}", items.len()));
            items.push(self.value(depth.saturating_add(1))?);
            self.pointer.truncate(outer);
            self.skip_space();
            match self.peek() {
                Some(',') => drop(self.next()),
                Some(']') => {
                    self.next();
                    return Ok(Value::Array(items));
                }
                _ => return self.stop("a comma or ]"),
            }
        }
    }

    fn number(&mut self) -> Result<String, Stop> {
        let begin = self.at;
        let (line, column) = (self.line, self.column);
        if self.peek() == Some('-') {
            self.next();
        }
        let leading_zero = self.peek() == Some('0');
        let digits = self.digits()?;
        if leading_zero && digits > 1 {
            self.note("a leading zero", "a number without one");
        }
        let mut whole = true;
        if self.peek() == Some('.') {
            self.next();
            self.digits()?;
            whole = false;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.next();
            if matches!(self.peek(), Some('+' | '-')) {
                self.next();
            }
            self.digits()?;
            whole = false;
        }
        let text = self.text[begin..self.at].to_owned();
        let exact = text.trim_start_matches('-').parse::<u64>().is_ok_and(|n| n <= EXACT_MAX);
        let fits = if whole { exact } else { text.parse::<f64>().is_ok_and(f64::is_finite) };
        if !fits {
            let problem = Problem::new(&self.pointer, &text, "a number that every program reads alike; or a string");
            self.problems.push(problem.at(line, column));
        }
        Ok(text)
    }

    fn digits(&mut self) -> Result<usize, Stop> {
        let begin = self.at;
        while matches!(self.peek(), Some('0'..='9')) {
            self.next();
        }
        if begin == self.at { self.stop("a digit") } else { Ok(self.at.saturating_sub(begin)) }
    }

    fn string(&mut self) -> Result<String, Stop> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.stop("the string's closing quote"),
                Some('"') => {
                    self.next();
                    break;
                }
                Some('\\') => {
                    let c = self.escape()?;
                    text.push(c);
                }
                Some(c) if c < ' ' => {
                    self.note(c.to_string(), "control characters in a string written as escapes");
                    text.push(c);
                    self.next();
                }
                Some(c) => {
                    text.push(c);
                    self.next();
                }
            }
        }
        if text.contains('\0') {
            self.note("U+0000", "text without it: no shell or file name can hold it");
        }
        if text.len() > limits::STRING_BYTES_MAX {
            let found = format!("a string of {} bytes", text.len());
            self.note(found, &format!("at most {} bytes", limits::STRING_BYTES_MAX));
        }
        Ok(text)
    }

    fn escape(&mut self) -> Result<char, Stop> {
        self.next();
        let c = match self.peek() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode_escape(),
            _ => return self.stop("one of \" \\ / b f n r t u after a backslash"),
        };
        self.next();
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, Stop> {
        let first = self.four_digits()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let second = if first < 0xdc00 && self.text[self.at..].starts_with("\\u") {
            self.next();
            self.four_digits()?
        } else {
            0
        };
        if (0xdc00..0xe000).contains(&second) {
            let code = ((first & 0x3ff) << 10 | (second & 0x3ff)).saturating_add(0x1_0000);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.note(format!("\\u{first:04x}"), "a whole character: this is half of a surrogate pair");
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Result<u32, Stop> {
        self.next();
        let mut code = 0;
        for _ in 0..4 {
            match self.peek().and_then(|c| c.to_digit(16)) {
                Some(digit) => code = code << 4 | digit,
                None => return self.stop("four hexadecimal digits"),
            }
            self.next();
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, Vec<String>> {
        let read = read(text.as_bytes());
        match read.root {
            Some(node) if read.problems.is_empty() => Ok(node.value),
            _ => Err(read.problems.into_vec().iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn every_json_value_is_read() {
        for good in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.5",
            "1e3",
            "-12.5E-3",
            "9007199254740992",
            "\"\"",
            "[]",
            "{}",
            "[1, [2], {}]",
            "{\"a\": {\"b\": []}}",
            " \t\r\n1 ",
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
            "\"发布\"",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
        }
        assert_eq!(parse(r#""\ud83d\ude00 \u53d1""#), Ok(Value::String("😀 发".to_owned())));
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for bad in [
            "",
            " ",
            "{",
            "[",
            "\"",
            "{\"a\"}",
            "{\"a\":}",
            "{a: 1}",
            "{'a': 1}",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "Infinity",
            "nul",
            "tru",
            "1 2",
            "{} {}",
            "\"\t\"",
            "\"\n\"",
            "\"\u{0}\"",
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            r#""\x41""#,
            "9007199254740993",
            "12345678901234567890123",
            "1e400",
            "// c\n1",
            "\u{feff}1",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":1,\"a\":2}",
            r#"{"a":1,"\u0061":2}"#,
            "--1",
            "[",
            "\\",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(read(b"\"\xff\"").root.is_none());
        assert!(parse(&("[".repeat(40) + &"]".repeat(40))).is_err());
        assert!(parse(&format!("\"{}\"", "a".repeat(limits::STRING_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn only_a_text_that_ends_too_early_is_truncated() {
        let whole = r#"{"a": [1, "x\u00e9", {"b": true}], "c": "发布"}"#;
        assert!(parse(whole).is_ok());
        for end in 0..whole.len() {
            let read = read(&whole.as_bytes()[..end]);
            assert!(read.root.is_none() && read.truncated, "{:?}", &whole.as_bytes()[..end]);
        }
        for bad in ["}", "{]", "[1 2]", "{\"a\":1}x"] {
            assert!(!read(bad.as_bytes()).truncated, "{bad}");
        }
    }

    #[test]
    fn problems_say_where() {
        let found = parse("{\"a\": 1,\n  \"b\": [1, \"\\ud800\"],\n \"a\": 2}").unwrap_err();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("line 2, column 19: /b/1: "), "{found:?}");
        assert!(found[1].starts_with("line 3, column 2: /a: "), "{found:?}");
    }
}
