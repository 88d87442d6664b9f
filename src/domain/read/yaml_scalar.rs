//! What a plain YAML 1.1 scalar is: `yes` is true, `0123` is 83, `1:30` is 90. Floor 1.
//!
//! **Invariant:** pure, and the same answers as `PyYAML`'s resolver and constructor, whose patterns are narrower than the
//! YAML 1.1 documents say: `1e3` is text, `1.0e+3` is a number. What they refuse is refused (`0b_`, month 13).

use super::data::Data;

/// The longest whole number, in digits; Python's limit.
const DIGITS_MAX: usize = 4300;

/// Resolves a plain scalar.
///
/// # Errors
/// What would have been right, when it looks like a number or date and is none.
pub(in crate::domain) fn plain(text: &str) -> Result<Data, &'static str> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "=" | "<<" => return Err("quotes around = and <<"),
        _ => {
            if let Some(yes) = truth(text) {
                Data::Bool(yes)
            } else if is_float(text) {
                float(text).ok_or("a number")?
            } else if is_int(text) {
                int(text).ok_or("a whole number")?
            } else {
                match timestamp(text) {
                    Some(found) => Data::Time(found?),
                    None => Data::Text(text.to_owned()),
                }
            }
        }
    })
}

/// Reads a boolean as `!!bool` does too, which knows more ways to write one.
pub(in crate::domain) fn truth(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// Whether every byte is one of the digits that `ok` knows, or `_`.
fn all(text: &str, ok: fn(&u8) -> bool) -> bool {
    text.bytes().all(|byte| byte == b'_' || ok(&byte))
}

/// Whether text begins with a digit and holds digits and `_` only.
fn is_number_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && all(text, u8::is_ascii_digit)
}

/// Whether text is `(:[0-5]?[0-9])+` behind its first colon.
fn is_sixties(text: &str) -> bool {
    text.split(':').all(|part| match part.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [ten, digit] => matches!(ten, b'0'..=b'5') && digit.is_ascii_digit(),
        _ => false,
    })
}

fn is_int(text: &str) -> bool {
    let body = unsigned(text);
    let binary = |byte: &u8| matches!(byte, b'0' | b'1');
    let octal = |byte: &u8| matches!(byte, b'0'..=b'7');
    let prefixed = |prefix: &str, ok: fn(&u8) -> bool| {
        body.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && all(rest, ok))
    };
    let decimal = |text: &str| {
        text == "0" || (text.starts_with(|c: char| matches!(c, '1'..='9')) && all(text, u8::is_ascii_digit))
    };
    let sixties = || {
        let (head, rest) = body.split_once(':')?;
        Some(decimal(head) && head != "0" && is_sixties(rest))
    };
    prefixed("0b", binary)
        || prefixed("0x", u8::is_ascii_hexdigit)
        || prefixed("0", octal)
        || decimal(body)
        || sixties().unwrap_or(false)
}

/// Reads a whole number as `!!int` does; `None` when it is none.
pub(in crate::domain) fn int(text: &str) -> Option<Data> {
    let digits = text.replace('_', "");
    let sign = if digits.starts_with('-') { "-" } else { "" };
    let body = unsigned(&digits);
    let whole = if body == "0" {
        "0".to_owned()
    } else if let Some(bits) = body.strip_prefix("0b") {
        decimal(bits, 2)?
    } else if let Some(hex) = body.strip_prefix("0x") {
        decimal(hex, 16)?
    } else if body.starts_with('0') {
        decimal(body.strip_prefix("0o").unwrap_or(body), 8)?
    } else if body.contains(':') {
        let mut sum: i128 = 0;
        for part in body.split(':') {
            sum = sum.checked_mul(60)?.checked_add(i128::from(part.parse::<u64>().ok()?))?;
        }
        sum.to_string()
    } else {
        decimal(body, 10)?
    };
    Some(Data::Int(if whole == "0" { whole } else { format!("{sign}{whole}") }))
}

/// Writes digits of another base in decimal.
fn decimal(digits: &str, base: u32) -> Option<String> {
    const LIMB: u64 = 1_000_000_000;
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut limbs: Vec<u64> = vec![0];
    for c in digits.chars() {
        let mut carry = u64::from(c.to_digit(base)?);
        for limb in &mut limbs {
            let sum = limb.saturating_mul(u64::from(base)).saturating_add(carry);
            *limb = sum % LIMB;
            carry = sum / LIMB;
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let mut text = limbs.last().map(ToString::to_string).unwrap_or_default();
    for limb in limbs.iter().rev().skip(1) {
        text.push_str(&format!("{limb:09}"));
    }
    Some(text)
}

fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    let exponent = |text: &str| {
        let Some(rest) = text.strip_prefix(['e', 'E']) else { return text.is_empty() };
        rest.strip_prefix(['-', '+'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let fraction = |text: &str| {
        let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
        exponent(&text[end..])
    };
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    // A number that begins with its point may have no sign: `-.5` is text.
    if let Some(rest) = text.strip_prefix('.') {
        return rest.starts_with(|c: char| c.is_ascii_digit()) && fraction(rest);
    }
    let Some((whole, rest)) = body.split_once('.') else { return false };
    match whole.split_once(':') {
        None => is_number_word(whole) && fraction(rest),
        Some((head, sixties)) => is_number_word(head) && is_sixties(sixties) && all(rest, u8::is_ascii_digit),
    }
}

/// Reads a float as `!!float` does; `None` when it is none.
pub(in crate::domain) fn float(text: &str) -> Option<Data> {
    let lower = text.replace('_', "").to_lowercase();
    let sign = if lower.starts_with('-') { -1.0 } else { 1.0 };
    let body = unsigned(&lower);
    let value = match body {
        ".inf" => f64::INFINITY,
        ".nan" => return Some(Data::Float(f64::NAN)),
        _ if body.contains(':') => {
            let (mut sum, mut base) = (0.0, 1.0);
            for part in body.rsplit(':') {
                sum += part.parse::<f64>().ok()? * base;
                base *= 60.0;
            }
            sum
        }
        _ => body.parse().ok().filter(|_| body.starts_with(|c: char| c.is_ascii_digit() || c == '.'))?,
    };
    Some(Data::Float(sign * value))
}

/// Reads as many digits as `count` allows.
fn digits(text: &str, count: core::ops::RangeInclusive<usize>) -> Option<(u32, &str)> {
    let length = text.bytes().take(*count.end()).take_while(u8::is_ascii_digit).count();
    if length < *count.start() {
        return None;
    }
    Some((text[..length].parse().ok()?, &text[length..]))
}

/// Reads a date or a time; `None` when it looks like none, an error when there is no such day or time.
fn timestamp(text: &str) -> Option<Result<String, &'static str>> {
    const WANTED: &str = "a day and a time that exist, or quotes around it";
    let (year, rest) = digits(text, 4..=4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 1..=2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 1..=2)?;
    let exists = year > 0 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if rest.is_empty() {
        // A day alone is written with all its digits.
        return (text.len() == 10).then(|| if exists { Ok(text.to_owned()) } else { Err(WANTED) });
    }
    let rest = match rest.strip_prefix(['T', 't']) {
        Some(rest) => rest,
        None => rest.strip_prefix([' ', '\t'])?.trim_start_matches([' ', '\t']),
    };
    let (hour, rest) = digits(rest, 1..=2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2..=2)?;
    let (second, mut rest) = digits(rest.strip_prefix(':')?, 2..=2)?;
    let mut fraction = "";
    if let Some(behind) = rest.strip_prefix('.') {
        let end = behind.bytes().take_while(u8::is_ascii_digit).count();
        fraction = &behind[..end.min(6)];
        rest = &behind[end..];
    }
    let (offset, offset_exists) = offset(rest.trim_start_matches([' ', '\t']), rest)?;
    if !(exists && hour < 24 && minute < 60 && second < 60 && offset_exists) {
        return Some(Err(WANTED));
    }
    let fraction = match format!("{fraction:0<6}") {
        zero if zero == "000000" => String::new(),
        digits => format!(".{digits}"),
    };
    Some(Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}")))
}

/// Reads `Z`, `+8`, `-05:30`, or nothing; also says whether there is such an offset.
fn offset(text: &str, with_space: &str) -> Option<(String, bool)> {
    if text.is_empty() {
        // White space at the end belongs to no time.
        return with_space.is_empty().then(|| (String::new(), true));
    }
    if text == "Z" {
        return Some(("+00:00".to_owned(), true));
    }
    let sign = text.chars().next().filter(|c| matches!(c, '-' | '+'))?;
    let (hours, rest) = digits(&text[1..], 1..=2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2..=2)?,
        None => (0, rest),
    };
    if !rest.is_empty() {
        return None;
    }
    let minutes = hours.saturating_mul(60).saturating_add(minutes);
    let sign = if minutes == 0 { '+' } else { sign };
    Some((format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60), minutes < 24 * 60))
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what a scalar is and its text. The answers are `PyYAML`'s.
    #[track_caller]
    fn check(kind: &str, rows: &[(&str, &str)]) {
        for (text, want) in rows {
            let shown = match plain(text) {
                Ok(data) => format!("{} {}", data.kind(), data.text().unwrap()),
                Err(_) => "REFUSED".to_owned(),
            };
            let want = if kind.is_empty() { (*want).to_owned() } else { format!("{kind} {want}") };
            assert_eq!(shown, want, "{text}");
        }
    }

    #[test]
    fn plain_scalars_are_what_pyyaml_says() {
        check("true or false", &[("yes", "True"), ("Off", "False"), ("TRUE", "True"), ("no", "False")]);
        check("nothing", &[("", "None"), ("~", "None"), ("NULL", "None")]);
        check(
            "text",
            &[("y", "y"), ("yEs", "yEs"), ("n", "n"), ("08", "08"), ("1e3", "1e3"), ("-.5", "-.5"), ("1.5e3", "1.5e3")],
        );
        check(
            "text",
            &[("0o17", "0o17"), ("+", "+"), ("1:60", "1:60"), ("0:30", "0:30"), ("_1", "_1"), ("-.nan", "-.nan")],
        );
        check(
            "a number",
            &[("0123", "83"), ("0x1F", "31"), ("0b101", "5"), ("1_000", "1000"), ("-0", "0"), ("+12", "12")],
        );
        check(
            "a number",
            &[("1:30", "90"), ("190:20:30", "685230"), ("-1:30", "-90"), ("1:30.5", "90.5"), ("0_", "0")],
        );
        check(
            "a number",
            &[
                ("1.", "1.0"),
                (".5", "0.5"),
                ("1.5e+3", "1500.0"),
                ("-1_0.5", "-10.5"),
                (".inf", "inf"),
                ("-.INF", "-inf"),
            ],
        );
        check("a number", &[("0xffffffffffffffffffff", "1208925819614629174706175"), (".NaN", "nan"), ("00", "0")]);
        check("a date", &[("2026-11-21", "2026-11-21"), ("2026-1-2 3:04:05", "2026-01-02 03:04:05")]);
        check(
            "a date",
            &[
                ("2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.100000-05:00"),
                ("2001-12-14 21:59:43 Z", "2001-12-14 21:59:43+00:00"),
            ],
        );
        check(
            "text",
            &[("2026-1-2", "2026-1-2"), ("2026-11-21x", "2026-11-21x"), ("2026-11-21 10:00", "2026-11-21 10:00")],
        );
        check(
            "",
            &[
                ("2026-13-01", "REFUSED"),
                ("2025-02-29", "REFUSED"),
                ("=", "REFUSED"),
                ("0b_", "REFUSED"),
                ("0x_", "REFUSED"),
            ],
        );
    }
}
