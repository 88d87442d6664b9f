//! What YAML, JSON and Python literals say, in one form, and how a value becomes the text of a variable. Floor 1.
//!
//! **Invariant:** pure. A scalar becomes what Python's `str` makes of it; a list or a dictionary becomes compact JSON, as
//! Python's `json.dumps` writes it with `separators=(",", ":")` and without escapes for letters outside of ASCII.

use super::json::{Node as LiteralNode, Value};

/// A value and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::domain) struct Node {
    pub(in crate::domain) line: usize,
    pub(in crate::domain) data: Data,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::domain) enum Data {
    Null,
    Bool(bool),
    /// A whole number of any length, in decimal.
    Int(String),
    Float(f64),
    Text(String),
    /// A date, or a date and a time with their offset, as `date.isoformat` writes it.
    Time(String),
    List(Vec<Node>),
    /// Pairs in the order of Python's dictionaries: where a key stood first.
    Map(Vec<(Node, Node)>),
}

impl Data {
    /// Names the kind of value, with its article.
    pub(in crate::domain) fn kind(&self) -> &'static str {
        match self {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Int(_) | Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::Time(_) => "a date",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// Whether Python takes it for false.
    pub(in crate::domain) fn is_falsy(&self) -> bool {
        match self {
            Data::Null => true,
            Data::Bool(yes) => !yes,
            Data::Int(digits) => digits == "0",
            Data::Float(value) => *value == 0.0,
            Data::Text(text) => text.is_empty(),
            Data::Time(_) => false,
            Data::List(items) => items.is_empty(),
            Data::Map(pairs) => pairs.is_empty(),
        }
    }

    /// Returns the text of a variable that holds this.
    ///
    /// # Errors
    /// What would have been right, when a list or mapping holds what JSON cannot say.
    pub(in crate::domain) fn text(&self) -> Result<String, &'static str> {
        let text = match self {
            Data::Null => "None".to_owned(),
            Data::Bool(true) => "True".to_owned(),
            Data::Bool(false) => "False".to_owned(),
            Data::Float(value) => python_float(*value),
            Data::Int(text) | Data::Text(text) => text.clone(),
            Data::Time(iso) => iso.replacen('T', " ", 1),
            Data::List(_) | Data::Map(_) => {
                let mut json = String::new();
                self.write_json(&mut json)?;
                json
            }
        };
        // No shell, file name or environment can hold it.
        if text.contains('\0') { Err("a value without U+0000") } else { Ok(text) }
    }

    fn write_json(&self, json: &mut String) -> Result<(), &'static str> {
        match self {
            Data::Null => json.push_str("null"),
            Data::Bool(yes) => json.push_str(if *yes { "true" } else { "false" }),
            Data::Int(digits) => json.push_str(digits),
            Data::Float(value) if value.is_finite() => json.push_str(&python_float(*value)),
            Data::Float(_) => return Err("numbers that JSON can hold inside of lists and mappings"),
            Data::Text(text) | Data::Time(text) => json.push_str(&quoted(text)),
            Data::List(items) => {
                json.push('[');
                for (n, item) in items.iter().enumerate() {
                    json.push_str(if n == 0 { "" } else { "," });
                    item.data.write_json(json)?;
                }
                json.push(']');
            }
            Data::Map(pairs) => {
                json.push('{');
                for (n, (key, value)) in pairs.iter().enumerate() {
                    json.push_str(if n == 0 { "" } else { "," });
                    let name = match &key.data {
                        Data::Text(text) => text.clone(),
                        Data::Null | Data::Bool(_) | Data::Int(_) | Data::Float(_) => {
                            let mut name = String::new();
                            key.data.write_json(&mut name)?;
                            name
                        }
                        _ => return Err("text or numbers as keys"),
                    };
                    json.push_str(&quoted(&name));
                    json.push(':');
                    value.data.write_json(json)?;
                }
                json.push('}');
            }
        }
        Ok(())
    }

    /// Takes over a Python literal.
    pub(in crate::domain) fn of_literal(node: LiteralNode) -> Data {
        let at = |data| Node { line: 0, data };
        match node.value {
            Value::Null => Data::Null,
            Value::Bool(yes) => Data::Bool(yes),
            Value::Number(written) => number(&written),
            Value::String(text) => Data::Text(text),
            Value::Array(items) => Data::List(items.into_iter().map(|item| at(Data::of_literal(item))).collect()),
            Value::Object(members) => {
                let pair = |member: crate::domain::read::json::Member| {
                    (at(Data::Text(member.name)), at(Data::of_literal(member.node)))
                };
                Data::Map(members.into_iter().map(pair).collect())
            }
        }
    }

    /// Returns the value that a mapping has under a name.
    pub(in crate::domain) fn get(&self, name: &str) -> Option<&Node> {
        let Data::Map(pairs) = self else { return None };
        pairs.iter().find(|(key, _)| matches!(&key.data, Data::Text(text) if text == name)).map(|(_, value)| value)
    }
}

/// Takes a number that another reader checked: digits, or a float.
fn number(written: &str) -> Data {
    if written.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
        Data::Int(written.to_owned())
    } else {
        written.parse().map_or_else(|_| Data::Text(written.to_owned()), Data::Float)
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Writes a float as Python's `repr` does.
pub(in crate::domain) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    let shown = format!("{value:?}");
    match shown.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &Data, want: &str) {
        assert_eq!(data.text().as_deref(), Ok(want), "{data:?}");
    }

    #[test]
    fn values_become_what_python_prints() {
        let at = |data| Node { line: 1, data };
        check(&Data::Bool(true), "True");
        check(&Data::Null, "None");
        check(&Data::Float(1e16), "1e+16");
        check(&Data::Float(-0.000_01), "-1e-05");
        check(&Data::Float(f64::INFINITY), "inf");
        check(&Data::Time("2026-11-21T01:02:03+08:00".to_owned()), "2026-11-21 01:02:03+08:00");
        let list = Data::List(vec![at(Data::Null), at(Data::Float(1.0)), at(Data::Text("发\u{7}\"".to_owned()))]);
        check(&list, "[null,1.0,\"发\\u0007\\\"\"]");
        check(&Data::Map(vec![(at(Data::Bool(true)), at(list))]), "{\"true\":[null,1.0,\"发\\u0007\\\"\"]}");
        assert!(Data::List(vec![at(Data::Float(f64::NAN))]).text().is_err());
        assert!(Data::Text("a\0b".to_owned()).text().is_err());
    }
}
