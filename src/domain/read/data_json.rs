//! JSON, as inventory scripts print it and as variables may be written. Floor 1.
//!
//! **Invariant:** pure; RFC 8259, bounded in depth, and every key once. Values keep their line. Numbers keep all their
//! digits. It is apart from the reader of task files because that one is bounded to what a task may hold.

use super::data::{Data, Node};

/// How deep values may nest.
const DEPTH_MAX: usize = 64;
/// The longest number, in bytes; Python's limit for whole numbers.
const NUMBER_BYTES_MAX: usize = 4300;

/// Why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::domain) struct BadJson {
    pub(in crate::domain) line: usize,
    pub(in crate::domain) wanted: &'static str,
}

/// Reads one JSON text.
///
/// # Errors
/// The first place where it is none.
pub(in crate::domain) fn read(text: &str) -> Result<Node, BadJson> {
    let mut reader = Reader { bytes: text.as_bytes(), text, at: 0, line: 1 };
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.at == text.len() { Ok(node) } else { reader.fail("nothing behind the JSON value") }
}

struct Reader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, wanted: &'static str) -> Result<T, BadJson> {
        Err(BadJson { line: self.line, wanted })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.line = self.line.saturating_add(usize::from(byte == b'\n'));
            self.at = self.at.saturating_add(1);
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at = self.at.saturating_add(if found { word.len() } else { 0 });
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, BadJson> {
        if depth > DEPTH_MAX {
            return self.fail("less depth");
        }
        self.skip_space();
        let line = self.line;
        let data = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Data::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ if self.takes("null") => Data::Null,
            _ if self.takes("true") => Data::Bool(true),
            _ if self.takes("false") => Data::Bool(false),
            _ => return self.fail("a JSON value"),
        };
        Ok(Node { line, data })
    }

    fn list(&mut self, depth: usize) -> Result<Data, BadJson> {
        self.at = self.at.saturating_add(1);
        let mut items = Vec::new();
        self.skip_space();
        if self.takes("]") {
            return Ok(Data::List(items));
        }
        loop {
            items.push(self.value(depth.saturating_add(1))?);
            self.skip_space();
            if self.takes("]") {
                return Ok(Data::List(items));
            }
            if !self.takes(",") {
                return self.fail("a comma or ]");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Data, BadJson> {
        self.at = self.at.saturating_add(1);
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        self.skip_space();
        if self.takes("}") {
            return Ok(Data::Map(pairs));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.fail("a key in double quotes");
            }
            let line = self.line;
            let name = self.string()?;
            if !names.insert(name.clone()) {
                return self.fail("each key once");
            }
            self.skip_space();
            if !self.takes(":") {
                return self.fail("a colon");
            }
            let value = self.value(depth.saturating_add(1))?;
            pairs.push((Node { line, data: Data::Text(name) }, value));
            self.skip_space();
            if self.takes("}") {
                return Ok(Data::Map(pairs));
            }
            if !self.takes(",") {
                return self.fail("a comma or }");
            }
        }
    }

    /// Finds the end of the string; serde knows its escapes.
    fn string(&mut self) -> Result<String, BadJson> {
        let begin = self.at;
        self.at = self.at.saturating_add(1);
        loop {
            match self.peek() {
                None | Some(b'\n') => return self.fail("a closing quote"),
                Some(b'\\') => self.at = self.at.saturating_add(2),
                Some(b'"') => break,
                Some(_) => self.at = self.at.saturating_add(1),
            }
        }
        self.at = self.at.saturating_add(1);
        let written = self.text.get(begin..self.at).unwrap_or_default();
        match serde_json::from_str(written) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("a string as JSON writes it"),
        }
    }

    fn number(&mut self) -> Result<Data, BadJson> {
        let more = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.bytes[self.at..].iter().take_while(|byte| more(byte)).count();
        let written = &self.text[self.at..self.at.saturating_add(length)];
        self.at = self.at.saturating_add(length);
        let digits = written.strip_prefix('-').unwrap_or(written);
        let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        let zero_first = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        if written.len() > NUMBER_BYTES_MAX || zero_first || digits.is_empty() {
            return self.fail("a number as JSON writes it");
        }
        if whole {
            return Ok(Data::Int(if digits == "0" { "0".to_owned() } else { written.to_owned() }));
        }
        match serde_json::from_str::<f64>(written) {
            Ok(value) => Ok(Data::Float(value)),
            Err(_) => self.fail("a number as JSON writes it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match read(text) {
            Ok(node) => node.data.text().unwrap(),
            Err(bad) => format!("{}: {}", bad.line, bad.wanted),
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn json_is_read_and_nothing_else() {
        check(
            r#" {"a":[1,-2.50,1e3,true,null,"\ud83d\ude00\n"],"b":{}} "#,
            r#"{"a":[1,-2.5,1000.0,true,null,"😀\n"],"b":{}}"#,
        );
        check("123456789012345678901234567890", "123456789012345678901234567890");
        check("-0", "0");
        check("{\n\"a\":1,\n\"a\":2}", "3: each key once");
        for bad in
            ["", "[1,]", "{,}", "01", "1.", ".5", "+1", "NaN", "'a'", "\"\t\"", "[1] 2", "\"a", "\"\\", "\"\\ud800\""]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&"[".repeat(100)).is_err());
    }
}
