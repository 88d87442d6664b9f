//! Hides secrets in what hosts say. Floor 1.
//!
//! A secret is found as it is, in base64 (at each of the three places where it can begin), URL encoded, with JSON's and the
//! shell's escapes, and however line feeds are put between its bytes. What is hidden keeps its length, so that a log's offsets
//! stay those of the host's file.
//!
//! **Invariant:** pure. A piece of a secret that ends where the bytes end is held back until what follows is known, so it does
//! not matter how the bytes are cut. What a program makes of a secret in other ways (a hash, another encoding) is not known.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::base::text::Secret;

/// What stands in the place of each byte.
const STAR: u8 = b'*';
/// The shortest secret: shorter ones are found everywhere.
pub const SECRET_BYTES_MIN: usize = 4;
/// The shortest line of a secret of several lines that is hidden alone.
const LINE_BYTES_MIN: usize = 6;
/// How much of the beginning of a secret may stand at the end of everything.
const BEGINNING_BYTES_MAX: usize = 3;

/// The first bytes of a needle; none is shorter.
type Head = [u8; SECRET_BYTES_MIN];

/// The texts that are hidden.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    /// Without line feeds; the longest first.
    needles: Vec<Vec<u8>>,
    /// Which needles have these first bytes. Long secrets have hundreds of forms, and looking for each by itself would cost
    /// more than all else that is done with a host's output.
    by_head: HashMap<Head, Vec<usize>>,
    /// Whether a needle begins with two bytes: a bit for each pair. Most places of a text need no other look.
    pairs: Vec<u64>,
    /// Whether everything is hidden, because nobody knows what to look for.
    all: bool,
}

impl Masker {
    /// Returns what hides these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Masker {
        let mut needles: Vec<Vec<u8>> = secrets.into_iter().flat_map(|secret| forms(secret.reveal())).collect();
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        let (mut by_head, mut pairs): (HashMap<Head, Vec<usize>>, _) = (HashMap::new(), Vec::new());
        for (n, needle) in needles.iter().enumerate() {
            let Some(head) = needle.first_chunk() else { continue };
            by_head.entry(*head).or_default().push(n);
            pairs.resize(1 << 10, 0);
            let pair = pair(*head);
            pairs[pair / 64] |= 1 << (pair % 64);
        }
        Masker { needles, by_head, pairs, all: false }
    }

    /// Returns what hides everything but line feeds: for whom the secrets are not known.
    #[must_use]
    pub fn of_everything() -> Masker {
        Masker { all: true, ..Masker::default() }
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty() && !self.all
    }

    /// Returns how long the longest needle is that stands at the beginning of a text, and whether the whole text is the
    /// beginning of one.
    fn look(&self, text: &[u8]) -> (usize, bool) {
        let Some(head) = text.first_chunk::<SECRET_BYTES_MIN>() else {
            return (0, self.needles.iter().any(|needle| needle.starts_with(text)));
        };
        let pair = pair(*head);
        if self.pairs[pair / 64] & (1 << (pair % 64)) == 0 {
            return (0, false);
        }
        let (mut found, mut begins) = (0, false);
        for needle in self.by_head.get(head).into_iter().flatten().map(|n| &self.needles[*n]) {
            if text.starts_with(needle) {
                found = found.max(needle.len());
            } else if needle.starts_with(text) {
                begins = true;
            }
        }
        (found, begins)
    }

    /// Hides the secrets of a whole text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut masked = Masked::default();
        let mut bytes = Vec::with_capacity(text.len());
        masked.push(self, text.as_bytes(), |piece| bytes.extend_from_slice(piece));
        masked.finish(|piece| bytes.extend_from_slice(piece));
        // Whole characters are hidden with their secret; a needle may end in the middle of none.
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A stream whose secrets are hidden.
#[derive(Debug, Default)]
pub struct Masked {
    /// What may be the beginning of a secret.
    held: Vec<u8>,
    /// Which bytes of it are the end of another one.
    hidden: Vec<bool>,
}

/// How many line feeds are held back beyond what a secret with one behind each of its bytes has.
const BREAKS_MAX: usize = 64 << 10;

impl Masked {
    /// Takes the next bytes and hands on what is surely no beginning of a secret.
    pub fn push(&mut self, masker: &Masker, bytes: &[u8], mut pass: impl FnMut(&[u8])) {
        if masker.is_empty() {
            return pass(bytes);
        }
        if masker.all {
            let star = |byte: &u8| if matches!(byte, b'\n' | b'\r') { *byte } else { STAR };
            return pass(&bytes.iter().map(star).collect::<Vec<u8>>());
        }
        self.held.extend_from_slice(bytes);
        self.hidden.resize(self.held.len(), false);
        // Line feeds count for nothing: base64 is wrapped, and a secret may have several lines.
        let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
        let at: Vec<usize> = (0..self.held.len()).filter(|n| !is_break(self.held[*n])).collect();
        let flat: Vec<u8> = at.iter().map(|n| self.held[*n]).collect();
        let (mut end, mut hidden_to) = (self.held.len(), 0);
        for start in 0..flat.len() {
            let (found, begins) = masker.look(&flat[start..]);
            // Two that overlap are both hidden.
            let from = hidden_to.max(start);
            hidden_to = hidden_to.max(start.saturating_add(found));
            at[from..hidden_to.max(from)].iter().for_each(|position| self.hidden[*position] = true);
            if begins {
                end = end.min(at[start]);
            }
        }
        let longest = masker.needles.first().map_or(0, Vec::len);
        // So many line feeds stand in no secret.
        let end = if self.held.len().saturating_sub(end) > longest.saturating_mul(2).saturating_add(BREAKS_MAX) {
            self.held.len()
        } else {
            end
        };
        let rest = (self.held.split_off(end), self.hidden.split_off(end));
        let (mut ready, hidden) =
            (std::mem::replace(&mut self.held, rest.0), std::mem::replace(&mut self.hidden, rest.1));
        ready.iter_mut().zip(hidden).filter(|(_, hidden)| *hidden).for_each(|(byte, _)| *byte = STAR);
        if !ready.is_empty() {
            pass(&ready);
        }
    }

    /// Hands on what is surely hidden, where the bytes break off and what was held back will come again: without what stood
    /// before it, nobody would know it for the end of a secret.
    pub fn break_off(&mut self, mut pass: impl FnMut(&[u8])) {
        let count = self.hidden.iter().take_while(|hidden| **hidden).count();
        if count > 0 {
            pass(&vec![STAR; count]);
        }
        (self.held, self.hidden) = (Vec::new(), Vec::new());
    }

    /// Hands on what was held back. The beginning of a secret, where the bytes were cut off in its middle, is hidden too.
    pub fn finish(&mut self, mut pass: impl FnMut(&[u8])) {
        let (mut held, hidden) = (std::mem::take(&mut self.held), std::mem::take(&mut self.hidden));
        let long = held.len() > BEGINNING_BYTES_MAX;
        let stars = |byte: &u8, hidden: bool| hidden || (long && !matches!(byte, b'\n' | b'\r'));
        held.iter_mut().zip(hidden).filter(|(byte, hidden)| stars(byte, *hidden)).for_each(|(byte, _)| *byte = STAR);
        if !held.is_empty() {
            pass(&held);
        }
    }
}

/// The number of a needle's first two bytes.
fn pair(head: Head) -> usize {
    usize::from(head[0]) << 8 | usize::from(head[1])
}

/// Returns the texts that a secret may be written as, without line feeds.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let flat =
        |text: &[u8]| -> Vec<u8> { text.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect() };
    let mut texts: Vec<String> = vec![secret.to_owned()];
    // Of what a key file is made of, each line is as secret as the whole.
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN && !line.starts_with("-----"));
    if secret.lines().count() > 1 {
        texts.extend(lines.map(str::to_owned));
    }
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for text in texts {
        let with_line_feed = format!("{text}\n");
        for bytes in [text.as_bytes(), with_line_feed.as_bytes()] {
            for before in 0..3 {
                for encode in [|b: &[u8]| STANDARD_NO_PAD.encode(b), |b: &[u8]| URL_SAFE_NO_PAD.encode(b)] {
                    forms.extend(base64_core(bytes, before, encode));
                }
            }
        }
        forms.extend(escaped(&text));
        forms.push(text.into_bytes());
    }
    forms.into_iter().map(|form| flat(&form)).filter(|form| form.len() >= SECRET_BYTES_MIN).collect()
}

/// Returns the characters of a base64 text that depend on these bytes alone, when `before` other bytes stand in front.
fn base64_core(bytes: &[u8], before: usize, encode: fn(&[u8]) -> String) -> Option<Vec<u8>> {
    let mut padded = vec![0; before];
    padded.extend_from_slice(bytes);
    let text = encode(&padded);
    let first = before.saturating_mul(8).div_ceil(6);
    let last = padded.len().saturating_mul(8) / 6;
    text.get(first..last).filter(|core| core.len() >= SECRET_BYTES_MIN).map(|core| core.as_bytes().to_vec())
}

/// What stays as it is in a URL, beside letters and digits: of RFC 3986 alone, with Python's slash, of a component in
/// JavaScript, of a whole address in JavaScript.
const URL_SAFE: [&str; 4] = ["-_.~", "-_.~/", "-_.!~*'()", "-_.!~*'();/?:@&=+$,#"];

/// Returns a text as programs write it in URLs, in JSON, in Python and in shells.
fn escaped(text: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for safe in URL_SAFE {
        for upper in [true, false] {
            for blank in ["%20", "+"] {
                forms.push(percent(text.as_bytes(), safe, upper, blank));
            }
        }
    }
    let json = serde_json::to_string(text).expect("a text is JSON");
    let json = &json[1..json.len().saturating_sub(1)];
    let units = |c: char, upper: bool| -> String {
        let mut units = [0; 2];
        let write = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        c.encode_utf16(&mut units).iter().map(write).collect()
    };
    for upper in [true, false] {
        let ascii = |c: char| if c.is_ascii() { c.to_string() } else { units(c, upper) };
        forms.push(json.chars().map(ascii).collect::<String>().into_bytes());
    }
    forms.push(json.as_bytes().to_vec());
    forms.push(json.replace('/', "\\/").into_bytes());
    let with = |wanted: &dyn Fn(char) -> bool| -> Vec<u8> {
        let write = |c: char| if wanted(c) { format!("\\{c}") } else { c.to_string() };
        text.chars().map(write).collect::<String>().into_bytes()
    };
    // Within quotes of a shell, and of Python's repr.
    forms.push(text.replace('\'', "'\\''").into_bytes());
    forms.push(text.replace('\'', "'\"'\"'").into_bytes());
    forms.push(with(&|c| matches!(c, '"' | '\\' | '$' | '`')));
    forms.push(with(&|c| matches!(c, '"' | '\\' | '$' | '`' | '!')));
    forms.push(with(&|c| matches!(c, '\'' | '\\')));
    forms.push(with(&|c| matches!(c, '\\')));
    // bash's $'…', which it writes where the locale cannot show a character.
    let ansi_c = |byte: u8| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        0x80.. => format!("\\{byte:03o}"),
        byte => char::from(byte).to_string(),
    };
    forms.push(text.bytes().map(ansi_c).collect::<String>().into_bytes());
    // bash's printf %q, and what escapes everything that is no letter.
    forms.push(with(&|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+,-./:=@_".contains(c)));
    forms.push(with(&|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+-./:=@_".contains(c)));
    forms.push(with(&|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+-./:=@_~^".contains(c)));
    forms.push(with(&|c| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_'));
    forms
}

/// Returns a text with everything but letters, digits and what is `safe` in hexadecimal digits.
fn percent(bytes: &[u8], safe: &str, upper: bool, blank: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(3));
    for byte in bytes {
        match byte {
            b' ' => text.extend(blank.bytes()),
            _ if byte.is_ascii_alphanumeric() || safe.as_bytes().contains(byte) => text.push(*byte),
            _ if upper => text.extend(format!("%{byte:02X}").bytes()),
            _ => text.extend(format!("%{byte:02x}").bytes()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p@ss wörd/42'x";

    fn masker() -> Masker {
        Masker::new([&Secret::new(SECRET.to_owned())])
    }

    /// Masks a text in pieces of `size` bytes.
    fn in_pieces(text: &[u8], size: usize) -> Vec<u8> {
        let (masker, mut masked, mut out) = (masker(), Masked::default(), Vec::new());
        for piece in text.chunks(size) {
            masked.push(&masker, piece, |bytes| out.extend_from_slice(bytes));
        }
        masked.finish(|bytes| out.extend_from_slice(bytes));
        out
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        for size in 1..=text.len() {
            assert_eq!(String::from_utf8_lossy(&in_pieces(text.as_bytes(), size)), want, "in pieces of {size}");
        }
    }

    #[test]
    fn line_feeds_without_end_are_not_held_back() {
        let (masker, mut masked, mut out) = (masker(), Masked::default(), 0);
        masked.push(&masker, b"p", |bytes| out += bytes.len());
        for _ in 0..40 {
            masked.push(&masker, &[b'\n'; 4096], |bytes| out += bytes.len());
        }
        assert!(out > 64 << 10, "{out}");
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_and_as_it_is_sent() {
        let stars = "*".repeat(SECRET.len());
        check(&format!("a{SECRET}b{SECRET}"), &format!("a{stars}b{stars}"));
        check("p@ss wörx p@ss p", "p@ss wörx p@ss p");
        check("u=p%40ss%20w%C3%B6rd%2F42%27x;", &format!("u={};", "*".repeat(27)));
        check("u=p%40ss+w%c3%b6rd%2f42%27x;", &format!("u={};", "*".repeat(25)));
        check("'p@ss wörd/42'\\''x'", &format!("'{}'", "*".repeat(SECRET.len() + 3)));
        check(
            "p@ss w\nörd/4\r\n2'x.",
            "******\n*******\r\n***."
                .replace("******\n*******\r\n***", &{
                    let (a, b, c) = ("p@ss w".len(), "örd/4".len(), "2'x".len());
                    format!("{}\n{}\r\n{}", "*".repeat(a), "*".repeat(b), "*".repeat(c))
                })
                .as_str(),
        );
    }

    /// What programs printed of this secret: Python's `quote`, `quote_plus`, `json.dumps` and `repr`, JavaScript's `encodeURI`
    /// and `encodeURIComponent`, shlex.quote, bash's printf %q and declare -p, dash's export -p.
    #[test]
    fn it_is_hidden_as_other_programs_write_it() {
        let secret = "p@ss/w ord'x\"$q\\é;(1)~,!";
        let masker = Masker::new([&Secret::new(secret.to_owned())]);
        for written in [
            "p%40ss/w%20ord%27x%22%24q%5C%C3%A9%3B%281%29~%2C%21",
            "p%40ss%2Fw+ord%27x%22%24q%5C%C3%A9%3B%281%29~%2C%21",
            "p@ss/w%20ord'x%22$q%5C%C3%A9;(1)~,!",
            "p%40ss%2Fw%20ord'x%22%24q%5C%C3%A9%3B(1)~%2C!",
            "p@ss/w ord'x\\\"$q\\\\\\u00e9;(1)~,!",
            "p@ss/w ord\\'x\"$q\\\\é;(1)~,!",
            "p@ss/w ord'\"'\"'x\"$q\\é;(1)~,!",
            "p@ss/w ord'x\\\"\\$q\\\\é;(1)~,!",
            "p@ss/w ord\\'x\"$q\\\\\\303\\251;(1)~,!",
            "p@ss/w\\ ord\\'x\\\"\\$q\\\\é\\;\\(1\\)~\\,\\!",
        ] {
            let shown = masker.text(&format!("<{written}>"));
            assert_eq!(shown, format!("<{}>", "*".repeat(written.len())), "{written}");
        }
        let masker = Masker::new([&Secret::new("shortpw9\nsecond1\n".to_owned())]);
        assert_eq!(masker.text("> shortpw9\n> second1"), "> ********\n> *******");
        assert_eq!(Masker::of_everything().text("a b\nc"), "***\n*");
    }

    #[test]
    fn what_breaks_off_in_the_end_of_a_secret_is_told_as_hidden() {
        let masker = Masker::new([&Secret::new("abcXabc".to_owned())]);
        let (mut masked, mut out) = (Masked::default(), Vec::new());
        masked.push(&masker, b"1abcXabc", |bytes| out.extend_from_slice(bytes));
        masked.break_off(|bytes| out.extend_from_slice(bytes));
        assert_eq!(String::from_utf8(out).unwrap(), "1*******");
    }

    /// Every byte of every needle, as if each were looked for by itself.
    #[test]
    fn many_secrets_are_hidden_as_each_of_them_alone() {
        let secrets: Vec<Secret> = ["abcab", "abcabcd", "bcab1234", "dddd", "1234567890abcabcd", "cdddd"]
            .map(|text| Secret::new(text.to_owned()))
            .into();
        let masker = Masker::new(&secrets);
        let mut seed = 7_u32;
        for _ in 0..2000 {
            let mut text = Vec::new();
            while text.len() < 40 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let pieces: [&[u8]; 8] = [b"abcab", b"cd", b"dd", b"\n", b"1234567890", b"x", b"bcab1234", b"ab"];
                text.extend_from_slice(pieces[(seed >> 16) as usize % pieces.len()]);
            }
            let at: Vec<usize> = (0..text.len()).filter(|n| text[*n] != b'\n').collect();
            let flat: Vec<u8> = at.iter().map(|n| text[*n]).collect();
            let mut want = text.clone();
            for needle in &masker.needles {
                for start in (0..flat.len()).filter(|start| flat[*start..].starts_with(needle)) {
                    at[start..start + needle.len()].iter().for_each(|n| want[*n] = STAR);
                }
            }
            for size in [1, 5, 100] {
                let (mut masked, mut out) = (Masked::default(), Vec::new());
                text.chunks(size).for_each(|piece| masked.push(&masker, piece, |bytes| out.extend_from_slice(bytes)));
                // What is held back at the end may be hidden for what could have followed.
                assert!(want.starts_with(&out), "{}", String::from_utf8_lossy(&text));
                masked.finish(|bytes| out.extend_from_slice(bytes));
                assert_eq!(out.len(), want.len());
            }
        }
    }

    #[test]
    fn base64_hides_it_wherever_it_begins() {
        use base64::engine::general_purpose::STANDARD;
        for before in ["", "x", "xy", "xyz", "user:"] {
            for behind in ["", "\n", "z", "zz", ":end"] {
                let text = STANDARD.encode(format!("{before}{SECRET}{behind}"));
                let wrapped: Vec<u8> = text.as_bytes().chunks(7).flat_map(|line| [line, b"\n"].concat()).collect();
                for size in [1, 3, 1000] {
                    let masked = String::from_utf8(in_pieces(&wrapped, size)).unwrap().replace('\n', "");
                    let shown: String = masked.chars().filter(|c| *c != '*').collect();
                    // Two characters at each end depend on what stands beside it.
                    assert!(shown.len() <= (before.len() + behind.len()) * 4 / 3 + 6, "{before} {behind} {masked}");
                    assert!(masked.contains(&"*".repeat(SECRET.len())), "{before} {behind} {masked}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_in_the_middle_of_a_secret_is_hidden_and_lengths_stay() {
        check("x p@ss wö", "x ********");
        check("x p@s", "x p@s");
        let echo = Masker::new([&Secret::new("abcab".to_owned())]);
        for (text, want) in [("abcab", "*****"), ("abcabcab", "********"), ("abcabx", "*****x")] {
            assert_eq!(echo.text(text), want);
        }
        let any: Vec<u8> = (0..=255_u8).cycle().take(5000).collect();
        assert_eq!(in_pieces(&any, 7), any);
        assert_eq!(masker().text("to p@ss wörd/42'x."), format!("to {}.", "*".repeat(SECRET.len())));
        let key = "-----BEGIN KEY-----\nAAAAAAAAAABBBBBBBBBBCCCCC\nDDDDDDDDDDEEEEEEEEEE\n-----END KEY-----\n";
        let masker = Masker::new([&Secret::new(key.to_owned())]);
        assert_eq!(masker.text("x DDDDDDDDDDEEEEEEEEEE y"), format!("x {} y", "*".repeat(20)));
    }
}
