//! The words of an Ansible INI line: shell words, host patterns with ranges and ports, and values. Floor 1.
//!
//! **Invariant:** pure, and the same answers as ansible-core 2.19 except where a comment says otherwise.

use crate::domain::read::data::Data;
use crate::domain::read::python_literal;

/// The most hosts one pattern may stand for; bounds memory for a mistyped range.
const PATTERN_HOSTS_MAX: usize = 100_000;

/// Splits a line into words as Python's `shlex.split(line, comments=True)` does.
///
/// # Errors
/// What is wrong with the quoting.
pub(super) fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // A comment begins anywhere outside of quotes, even inside a word.
            '#' => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a closing '"),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a character after \\")?),
            // Python's shlex knows these four as white space, and no others.
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next().ok_or("a closing \"")? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            Some(c) => word.push(c),
            None => return Err("a closing \""),
        }
    }
}

/// Splits a host pattern into the names it stands for and the port behind it.
///
/// # Errors
/// What is wrong with a range, or that there is nothing before or after the colon.
pub(super) fn expand(pattern: &str) -> Result<(Vec<String>, Option<&str>), &'static str> {
    let (head, port) = split_port(pattern);
    if head.is_empty() {
        return Err("a host name");
    }
    if head.ends_with(':') && port.is_none() {
        return Err("a port after the colon");
    }
    let mut names = vec![head.to_owned()];
    while names.iter().any(|name| name.contains('[')) {
        let mut next = Vec::new();
        for name in &names {
            expand_first_range(name, &mut next)?;
        }
        names = next;
    }
    Ok((names, port))
}

/// Splits off a port; what is no host name or address keeps it, as `h2:abc` does. Brackets around everything before the port
/// are taken away, and then a port is looked for once more, as Ansible's patterns do: `[h:22]:33` is the port 22 of `h`.
fn split_port(pattern: &str) -> (&str, Option<&str>) {
    let (mut address, mut port) = (pattern, None);
    if let Some((head, digits)) = before_digits(pattern)
        && let Some(inner) = head.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && !inner.is_empty()
    {
        (address, port) = (inner, Some(digits));
    }
    if let Some((head, digits)) = before_digits(address)
        && is_whole(head)
    {
        (address, port) = (head, Some(digits));
    }
    if port.is_some() && is_address(address) { (address, port) } else { (pattern, None) }
}

/// Splits text at its last colon when nothing but digits is behind it.
fn before_digits(text: &str) -> Option<(&str, &str)> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.rsplit_once(':').filter(|(_, behind)| digits(behind))
}

/// Whether text has no colon outside of brackets and every bracket is closed.
fn is_whole(text: &str) -> bool {
    let mut inside = false;
    for c in text.chars() {
        match c {
            ']' if inside => inside = false,
            _ if inside => {}
            '[' => inside = true,
            ':' | ']' => return false,
            _ => {}
        }
    }
    !inside
}

/// Whether text, after its ranges are taken for digits, is an IPv4 or IPv6 address or a host name.
fn is_address(text: &str) -> bool {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((range, behind)) = after.split_once(']') else { return false };
        if !is_plain_range(range) {
            return false;
        }
        plain.push_str(before);
        plain.push('0');
        rest = behind;
    }
    plain.push_str(rest);
    let label = |label: &str| {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        label.starts_with(inside) && !label.ends_with(['_', '-']) && label.chars().all(|c| inside(c) || c == '-')
    };
    plain.parse::<core::net::Ipv6Addr>().is_ok() || plain.split('.').all(label)
}

fn is_plain_range(range: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let letter = |text: &str| text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bounds: Vec<&str> = range.split(':').collect();
    let both = |ok: &dyn Fn(&str) -> bool| ok(bounds[0]) && ok(bounds[1]);
    matches!(bounds.len(), 2 | 3)
        && (both(&digits) || both(&letter) || both(&hex))
        && bounds.get(2).is_none_or(|step| digits(step))
}

/// How long a name with ranges may be.
const NAME_BYTES_MAX: usize = 1000;

/// Replaces the first `[begin:end:step]` of `name` by everything it stands for.
fn expand_first_range(name: &str, names: &mut Vec<String>) -> Result<(), &'static str> {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let Some((head, rest)) = name.split_once('[') else {
        names.push(name.to_owned());
        return Ok(());
    };
    let (range, tail) = rest.split_once(']').ok_or("a ] after the [")?;
    let (begin, end, step) = match range.split(':').collect::<Vec<_>>().as_slice() {
        [begin, end] => (*begin, *end, 1),
        // Python would count downwards with a negative step; that is refused.
        [begin, end, step] => (*begin, *end, step.parse().ok().filter(|&step| step > 0).ok_or("a step of 1 or more")?),
        _ => return Err("a range [begin:end] or [begin:end:step]"),
    };
    let begin = if begin.is_empty() { "0" } else { begin };
    if end.is_empty() {
        return Err("an end of the range");
    }
    let padded = begin.len() > 1 && begin.starts_with('0');
    if padded && begin.len() != end.len() {
        return Err("a begin and an end of the same length, since the begin has leading zeros");
    }
    // No name is as long, and each of the hosts would be.
    if name.len() > NAME_BYTES_MAX {
        return Err("a name of at most 1000 bytes");
    }
    let mut push = |middle: &str| {
        if names.len() == PATTERN_HOSTS_MAX {
            return Err("a range of at most 100000 hosts");
        }
        names.push(format!("{head}{middle}{tail}"));
        Ok(())
    };
    let letter = |text: &str| if text.len() == 1 { LETTERS.find(text) } else { None };
    if let (Some(first), Some(last)) = (letter(begin), letter(end)) {
        if first > last {
            return Err("a begin before the end of the range");
        }
        return (first..=last).step_by(step).try_for_each(|at| push(&LETTERS[at..=at]));
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| "whole numbers or single letters as bounds");
    let (first, last) = (number(begin)?, number(end)?);
    let width = if padded { begin.len() } else { 0 };
    // A range that counts down stands for no hosts, and that is no error.
    (first..=last).step_by(step).try_for_each(|n| push(&format!("{n:0width$}")))
}

/// Reads a value as Ansible does: a Python literal, a Python comment behind it or not, or else the text as it is.
///
/// What the bounded reader of literals does not know stays text too: sets, bytes, complex numbers, keys that are
/// neither text nor numbers, and keys that stand twice.
pub(super) fn value(written: &str) -> Data {
    let text = written.trim_start_matches([' ', '\t']);
    let begins = |c: char| matches!(c, '\'' | '"' | '[' | '{' | '(');
    if text.starts_with(begins)
        || text.strip_prefix(['r', 'R', 'u', 'U']).is_some_and(|rest| rest.starts_with(['\'', '"']))
    {
        return literal(text).unwrap_or_else(|| Data::Text(written.to_owned()));
    }
    let word = text.split_once('#').map_or(text, |(before, _)| before).trim();
    match word {
        "True" => Data::Bool(true),
        "False" => Data::Bool(false),
        "None" => Data::Null,
        _ => number(word).unwrap_or_else(|| Data::Text(written.to_owned())),
    }
}

fn literal(text: &str) -> Option<Data> {
    let bad = match python_literal::read(text, 1, 1) {
        Ok(node) => return Some(Data::of_literal(node)),
        Err(bad) => bad,
    };
    let (comment, _) = text.char_indices().nth(bad.column.saturating_sub(1)).filter(|(_, c)| *c == '#')?;
    python_literal::read(&text[..comment], 1, 1).ok().map(Data::of_literal)
}

/// Reads a Python number.
fn number(literal: &str) -> Option<Data> {
    let (sign, digits) = match literal.strip_prefix('-') {
        Some(rest) => ("-", rest.trim_start()),
        None => ("", literal.strip_prefix('+').unwrap_or(literal).trim_start()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    if radix != 10 {
        let body = without_underscores(lower[2..].strip_prefix('_').unwrap_or(&lower[2..]))?;
        let whole = u128::from_str_radix(&body, radix).ok().filter(|_| !body.starts_with('+'))?;
        return Some(signed(sign, whole.to_string()));
    }
    let body = without_underscores(&lower)?;
    if body.bytes().all(|byte| byte.is_ascii_digit()) {
        let stripped = body.trim_start_matches('0');
        if stripped.is_empty() {
            return Some(Data::Int("0".to_owned()));
        }
        // 007 is not a number in Python.
        return (stripped.len() == body.len()).then(|| signed(sign, body));
    }
    if !body.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-')) {
        return None;
    }
    let value: f64 = body.parse().ok()?;
    Some(Data::Float(if sign.is_empty() { value } else { -value }))
}

/// A whole number has no negative zero.
fn signed(sign: &str, digits: String) -> Data {
    Data::Int(if digits == "0" { digits } else { format!("{sign}{digits}") })
}

/// Takes out underscores, which may only stand between digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_hexdigit);
    let proper = |at: usize| bytes[at] != b'_' || (digit(at.checked_sub(1)) && digit(Some(at.saturating_add(1))));
    (!text.is_empty() && (0..bytes.len()).all(proper)).then(|| text.replace('_', ""))
}
