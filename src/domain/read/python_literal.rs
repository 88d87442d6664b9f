//! Python literals, as CODO's clients write them into strings: `str({1: '172.16.0.101'})`.
//!
//! **Invariant:** a reader of the literal grammar (dict, list, tuple, str, numbers, None, True, False), never an
//! evaluator; bounded like JSON. Source: The Python Language Reference, sections 2.4 and 6.2.

use std::collections::BTreeSet;

use super::json::{Member, Node, Value};
use crate::base::limits;

/// Why a text is not a literal, and after how many characters that showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLiteral {
    /// Counted from 1.
    pub(crate) column: usize,
    pub(crate) found: String,
    pub(crate) wanted: &'static str,
}

/// Reads a literal. Its values carry the place of the string that holds it.
pub(crate) fn read(text: &str, line: u32, column: u32) -> Result<Node, BadLiteral> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, line, column, values: 0 };
    reader.skip_space();
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.peek().is_some() { reader.fail("nothing after the literal") } else { Ok(node) }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: u32,
    column: u32,
    values: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at.saturating_add(ahead)).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r' | '\u{c}')) {
            self.at = self.at.saturating_add(1);
        }
    }

    fn fail<T>(&self, wanted: &'static str) -> Result<T, BadLiteral> {
        let found = match self.peek() {
            None => "the end of the string".to_owned(),
            Some(_) => self.chars[self.at..].iter().take(12).collect(),
        };
        Err(BadLiteral { column: self.at.saturating_add(1), found, wanted })
    }

    fn node(&self, value: Value) -> Node {
        Node { value, line: self.line, column: self.column }
    }

    fn value(&mut self, depth: usize) -> Result<Node, BadLiteral> {
        self.values = self.values.saturating_add(1);
        if depth > limits::NESTING_MAX || self.values > limits::VALUES_MAX {
            return self.fail("less depth and fewer values");
        }
        let value = match self.peek() {
            Some('{') => self.dict(depth)?,
            Some('[') => Value::Array(self.items(']', depth)?.0),
            Some('(') => self.tuple(depth)?,
            Some('-' | '+' | '.' | '0'..='9') => Value::Number(self.number()?),
            Some('\'' | '"') => Value::String(self.strings()?),
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            _ => return self.fail("a Python literal"),
        };
        Ok(self.node(value))
    }

    fn word(&mut self) -> Result<Value, BadLiteral> {
        let end = self.chars[self.at..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').count();
        let word: String = self.chars[self.at..self.at.saturating_add(end)].iter().collect();
        let value = match word.as_str() {
            "None" => Value::Null,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "null" | "true" | "false" => return self.fail("None, True or False, as Python writes them"),
            _ if matches!(self.peek_at(end), Some('\'' | '"')) => return Ok(Value::String(self.strings()?)),
            _ => return self.fail("a Python literal; names and calls are not evaluated"),
        };
        self.at = self.at.saturating_add(end);
        Ok(value)
    }

    fn dict(&mut self, depth: usize) -> Result<Value, BadLiteral> {
        self.at = self.at.saturating_add(1);
        let mut members: Vec<Member> = Vec::new();
        let mut names = BTreeSet::new();
        loop {
            self.skip_space();
            if self.peek() == Some('}') {
                self.at = self.at.saturating_add(1);
                return Ok(Value::Object(members));
            }
            let begin = self.at;
            let (Value::String(name) | Value::Number(name)) = self.value(depth.saturating_add(1))?.value else {
                self.at = begin;
                return self.fail("a string or a number as key");
            };
            if name.len() > limits::TITLE_BYTES_MAX {
                self.at = begin;
                return self.fail("a shorter key");
            }
            // `{1: …, '1': …}` names one group twice, whatever Python makes of it.
            if !names.insert(name.clone()) {
                self.at = begin;
                return self.fail("each key once");
            }
            self.skip_space();
            if self.peek() != Some(':') {
                return self.fail("a colon");
            }
            self.at = self.at.saturating_add(1);
            self.skip_space();
            let node = self.value(depth.saturating_add(1))?;
            members.push(Member { name, node });
            self.skip_space();
            match self.peek() {
                Some(',') => self.at = self.at.saturating_add(1),
                Some('}') => {}
                _ => return self.fail("a comma or }"),
            }
        }
    }

    /// Reads items up to `close`; also says whether a comma stood among them.
    fn items(&mut self, close: char, depth: usize) -> Result<(Vec<Node>, bool), BadLiteral> {
        self.at = self.at.saturating_add(1);
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.skip_space();
            if self.peek() == Some(close) {
                self.at = self.at.saturating_add(1);
                return Ok((items, comma));
            }
            items.push(self.value(depth.saturating_add(1))?);
            self.skip_space();
            match self.peek() {
                Some(',') => {
                    self.at = self.at.saturating_add(1);
                    comma = true;
                }
                Some(c) if c == close => {}
                _ => return self.fail("a comma or the closing bracket"),
            }
        }
    }

    /// `(x)` is `x` in brackets; a comma makes it a tuple.
    fn tuple(&mut self, depth: usize) -> Result<Value, BadLiteral> {
        let (mut items, comma) = self.items(')', depth)?;
        match (items.len(), comma) {
            (1, false) => Ok(items.remove(0).value),
            _ => Ok(Value::Array(items)),
        }
    }

    /// Reads a number and writes it as Python's `str()` would: whole numbers in decimal, others as they stand.
    fn number(&mut self) -> Result<String, BadLiteral> {
        let begin = self.at;
        let negative = self.peek() == Some('-');
        if matches!(self.peek(), Some('-' | '+')) {
            self.at = self.at.saturating_add(1);
        }
        let radix = match (self.peek(), self.peek_at(1)) {
            (Some('0'), Some('x' | 'X')) => 16,
            (Some('0'), Some('o' | 'O')) => 8,
            (Some('0'), Some('b' | 'B')) => 2,
            _ => 10,
        };
        let prefix = if radix == 10 { 0 } else { 2 };
        let more = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        let mut end = self.at.saturating_add(self.chars[self.at..].iter().take_while(|c| more(c)).count());
        // An exponent's sign belongs to the number.
        if radix == 10
            && matches!(self.chars[..end].last(), Some('e' | 'E'))
            && matches!(self.chars.get(end), Some('+' | '-'))
        {
            end = end.saturating_add(
                self.chars[end.saturating_add(1)..].iter().take_while(|c| more(c)).count().saturating_add(1),
            );
        }
        let text: String =
            self.chars[self.at.saturating_add(prefix.min(end.saturating_sub(self.at)))..end].iter().collect();
        let misplaced = text.starts_with('_') && prefix == 0 || text.ends_with('_') || text.contains("__");
        let digits = text.replace('_', "");
        let sign = if negative { "-" } else { "" };
        let whole = i128::from_str_radix(&digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
        let zeros_first =
            radix == 10 && digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0');
        let written = match whole {
            Some(0) => Some("0".to_owned()),
            Some(n) if !zeros_first => Some(format!("{sign}{n}")),
            None if radix == 10 && is_float(&digits) => Some(format!("{sign}{digits}")),
            _ => None,
        };
        if let Some(written) = written.filter(|_| !misplaced) {
            self.at = end;
            Ok(written)
        } else {
            self.at = begin;
            self.fail("a number")
        }
    }

    /// Reads one string, or several that stand side by side and are one.
    fn strings(&mut self) -> Result<String, BadLiteral> {
        let mut text = self.string()?;
        loop {
            let before = self.at;
            self.skip_space();
            let prefix = self.chars[self.at..].iter().take_while(|c| c.is_ascii_alphabetic()).count();
            if prefix <= 1 && matches!(self.peek_at(prefix), Some('\'' | '"')) {
                text.push_str(&self.string()?);
            } else {
                self.at = before;
                break;
            }
        }
        if text.contains('\0') {
            return self.fail("text without U+0000: no shell or file name can hold it");
        }
        if text.len() > limits::STRING_BYTES_MAX { self.fail("a shorter string") } else { Ok(text) }
    }

    fn string(&mut self) -> Result<String, BadLiteral> {
        let raw = match self.peek() {
            Some('r' | 'R') => true,
            Some('u' | 'U' | '\'' | '"') => false,
            _ => return self.fail("a string; bytes and formatted strings are not taken"),
        };
        if !matches!(self.peek(), Some('\'' | '"')) {
            self.at = self.at.saturating_add(1);
        }
        let Some(quote @ ('\'' | '"')) = self.peek() else { return self.fail("a quote") };
        let triple = self.peek_at(1) == Some(quote) && self.peek_at(2) == Some(quote);
        self.at = self.at.saturating_add(if triple { 3 } else { 1 });
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.fail("the closing quote"),
                Some('\n') if !triple => return self.fail("the closing quote before the line ends"),
                Some(c) if c == quote => {
                    let closes = !triple || (self.peek_at(1) == Some(quote) && self.peek_at(2) == Some(quote));
                    self.at = self.at.saturating_add(if closes && triple { 3 } else { 1 });
                    if closes {
                        return Ok(text);
                    }
                    text.push(c);
                }
                Some('\\') if raw => {
                    text.push('\\');
                    self.at = self.at.saturating_add(1);
                    if let Some(c) = self.peek() {
                        text.push(c);
                        self.at = self.at.saturating_add(1);
                    }
                }
                Some('\\') => self.escape(&mut text)?,
                Some(c) => {
                    text.push(c);
                    self.at = self.at.saturating_add(1);
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), BadLiteral> {
        self.at = self.at.saturating_add(1);
        let Some(c) = self.peek() else { return self.fail("a character after the backslash") };
        let simple = match c {
            '\n' => {
                self.at = self.at.saturating_add(1);
                return Ok(());
            }
            '\\' | '\'' | '"' => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => return self.code(1, 2, 16, text),
            'u' => return self.code(1, 4, 16, text),
            'U' => return self.code(1, 8, 16, text),
            '0'..='7' => {
                let digits = self.chars[self.at..].iter().take(3).take_while(|c| ('0'..='7').contains(*c)).count();
                return self.code(0, digits, 8, text);
            }
            'N' => return self.fail("a character or its number; names of characters are not looked up"),
            // Python keeps a backslash that begins no escape.
            other => {
                text.push('\\');
                other
            }
        };
        text.push(simple);
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn code(&mut self, skip: usize, digits: usize, radix: u32, text: &mut String) -> Result<(), BadLiteral> {
        let begin = self.at.saturating_add(skip);
        let written: String = self.chars.get(begin..begin.saturating_add(digits)).unwrap_or_default().iter().collect();
        let code = u32::from_str_radix(&written, radix).ok().filter(|_| !written.starts_with('+'));
        let Some(c) = code.and_then(char::from_u32) else { return self.fail("the number of a character") };
        text.push(c);
        self.at = begin.saturating_add(digits);
        Ok(())
    }
}

/// Whether digits are a Python float: `1.5`, `.5`, `5.`, `1e3`.
fn is_float(text: &str) -> bool {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let number_ok = match number.split_once('.') {
        Some((before, after)) => digits(before) && digits(after) && before.len().saturating_add(after.len()) > 0,
        None => !number.is_empty() && digits(number) && exponent.is_some(),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    number_ok && exponent_ok && text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a value as JSON, so that rows of a table can be read.
    fn shown(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.clone(),
            Value::String(s) => serde_json::to_string(s).unwrap(),
            Value::Array(items) => {
                format!("[{}]", items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join(","))
            }
            Value::Object(members) => {
                let members = members.iter().map(|member| {
                    format!("{}:{}", serde_json::to_string(&member.name).unwrap(), shown(&member.node.value))
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(read(text, 1, 1).map(|node| shown(&node.value)).as_deref(), Ok(want), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, column: usize) {
        let bad = read(text, 1, 1).expect_err(text);
        assert_eq!(bad.column, column, "{text}: {bad:?}");
    }

    #[test]
    fn the_seeds_literals_are_read() {
        check("{1: '172.16.0.101'}", r#"{"1":"172.16.0.101"}"#);
        check("{'group-1': ['杨红飞']}", r#"{"group-1":["杨红飞"]}"#);
        check("{'VERSION':'eeee', 'arg02': 'xxxx'}", r#"{"VERSION":"eeee","arg02":"xxxx"}"#);
        check("{'1': '10.0.0.1,10.0.0.2', 2: \"a\"}", r#"{"1":"10.0.0.1,10.0.0.2","2":"a"}"#);
    }

    #[test]
    fn strings_are_read_in_all_their_forms() {
        for (text, want) in [
            ("''", ""),
            ("\"\"", ""),
            ("'it\\'s'", "it's"),
            ("\"it's\"", "it's"),
            ("'''a'b''c'''", "a'b''c"),
            ("\"\"\"a\nb\"\"\"", "a\nb"),
            ("'a' 'b' \"c\"", "abc"),
            ("r'a\\nb'", "a\\nb"),
            ("r'a\\'b'", "a\\'b"),
            ("u'x'", "x"),
            ("'\\n\\t\\\\\\x41\\u53d1\\U0001F600\\101\\7'", "\n\t\\A发😀A\u{7}"),
            ("'a\\\nb'", "ab"),
            ("'\\d\\q'", "\\d\\q"),
            ("('a' 'b')", "ab"),
        ] {
            check(text, &serde_json::to_string(want).unwrap());
        }
    }

    #[test]
    fn numbers_are_written_as_python_prints_them() {
        for (text, want) in [
            ("0", "0"),
            ("-5", "-5"),
            ("+5", "5"),
            ("00", "0"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("0b101", "5"),
            ("0x_f", "15"),
            ("1.5", "1.5"),
            ("-.5", "-.5"),
            ("1e3", "1e3"),
            ("1E-3", "1E-3"),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            check(text, want);
        }
        for bad in ["01", "1__0", "1_", "0x", "0b2", "1e", "--1", "1.2.3", "1x", "-", ".", "1e400"] {
            refused(bad, 1);
        }
    }

    #[test]
    fn containers_nest_and_may_end_in_a_comma() {
        check("{}", "{}");
        check("[1, 2,]", "[1,2]");
        check("(1,)", "[1]");
        check("(1)", "1");
        check("()", "[]");
        check(" { 'a' : [ None , True , ( False , ) ] , } ", r#"{"a":[null,true,[false]]}"#);
    }

    #[test]
    fn nothing_is_evaluated() {
        refused("__import__('os')", 1);
        refused("1+1", 2);
        refused("{'a': b}", 7);
        refused("[x for x in y]", 2);
        refused("b'bytes'", 1);
        refused("f'{1}'", 1);
        refused("true", 1);
        refused("{'a': null}", 7);
        refused("{1, 2}", 3);
        refused("{1: 'a', '1': 'b'}", 10);
        refused("{'a': 1", 8);
        refused("'abc", 5);
        refused("'a\nb'", 3);
        refused("{} {}", 4);
        refused("", 1);
        refused("[1,,2]", 4);
        refused("'\\N{DASH}'", 3);
        refused("'\\xZZ'", 3);
        refused("'\\ud800'", 3);
        refused(&"[".repeat(40), 34);
    }

    #[test]
    fn what_pythons_repr_would_write_is_read_back() {
        let mut state = 42_u64;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % sides
        };
        for _ in 0..2_000 {
            let text: String = (0..roll(12))
                .map(|_| ['a', '\'', '"', '\\', '\n', '\t', '发', '\u{7f}', '{', ',', '\u{1F600}'][roll(11)])
                .collect();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut repr = String::from(quote);
            for c in text.chars() {
                match c {
                    '\\' => repr.push_str("\\\\"),
                    '\n' => repr.push_str("\\n"),
                    '\t' => repr.push_str("\\t"),
                    '\u{7f}' => repr.push_str("\\x7f"),
                    c if c == quote => repr.extend(['\\', c]),
                    c => repr.push(c),
                }
            }
            repr.push(quote);
            check(&repr, &serde_json::to_string(&text).unwrap());
        }
    }
}
