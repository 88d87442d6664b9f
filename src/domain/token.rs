//! HTTP tokens: which there are, what each of them may ask for, and how often.
//!
//! **Invariant:** pure. A token's secret is never here, only its SHA-256: it has 256 random bits, so nobody finds it from
//! that. A number is never given twice, because who did something is known by it.

use std::collections::BTreeSet;

use crate::base::digest::Digest;
use crate::base::ids::{Actor, TokenName, UserName};
use crate::base::time::{Timestamp, Zone, parse_time};
use crate::domain::problem::Problem;
use crate::domain::read::toml_table::{Fields, Sheet};

/// How secrets begin, so that they are found where they do not belong.
pub const SECRET_PREFIX: &str = "sgt_";
/// How many requests a minute a token is good for, unless it says otherwise.
pub const PER_MINUTE: u32 = 600;
/// The most it can say.
const PER_MINUTE_MAX: u32 = 1_000_000;

/// What a token may be used for. Nothing here approves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Submit tasks.
    Submit,
    /// See tasks and what they printed.
    Read,
    /// Cancel tasks.
    Cancel,
}

impl Verb {
    /// Every verb with its word.
    pub const WORDS: [(&'static str, Verb); 3] =
        [("submit", Verb::Submit), ("read", Verb::Read), ("cancel", Verb::Cancel)];

    /// Returns the word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Verb::WORDS.iter().find(|(_, verb)| *verb == self).map_or("", |(word, _)| word)
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its number, never given again.
    pub number: u32,
    /// Its name; policy knows it as `token:NAME`.
    pub name: TokenName,
    /// The digest of its secret.
    pub digest: Digest,
    /// What it may be used for.
    pub verbs: BTreeSet<Verb>,
    /// Which templates it may submit; `*` is every one, `script` a script of the task's own.
    pub templates: Vec<String>,
    /// Whether it may ask for tasks that skip approval.
    pub ready: bool,
    /// Who stands behind it; they do not approve what it submits.
    pub owner: Option<UserName>,
    /// How many requests a minute it is good for.
    pub per_minute: u32,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// From when on it is good for nothing.
    pub expires: Option<Timestamp>,
    /// When somebody revoked it.
    pub revoked: Option<Timestamp>,
}

impl Token {
    /// Returns who acts with it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::of_token(self.number, &self.name)
    }

    /// Whether it is good at a time.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }

    /// Whether it may submit this work, as policy names it.
    #[must_use]
    pub fn covers(&self, work: &str) -> bool {
        self.scope().covers(work)
    }

    /// Returns what limits the tasks that are submitted with it.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope {
            templates: self.templates.clone(),
            ready: self.ready,
            owner: self.owner.as_ref().map(ToString::to_string),
        }
    }

    /// Writes it as a table of `tokens.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let quoted = |words: Vec<&str>| {
            // What JSON writes in quotes, TOML reads.
            words.into_iter().map(|word| serde_json::Value::from(word).to_string()).collect::<Vec<_>>().join(", ")
        };
        let verbs = quoted(self.verbs.iter().map(|verb| verb.word()).collect());
        let templates = quoted(self.templates.iter().map(String::as_str).collect());
        let mut text = format!(
            "[[token]]\nnumber = {}\nname = \"{}\"\nsha256 = \"{}\"\nverbs = [{verbs}]\ntemplates = [{templates}]\nready = {}\nper_minute = {}\n",
            self.number,
            self.name,
            self.digest.hex(),
            self.ready,
            self.per_minute,
        );
        if let Some(owner) = &self.owner {
            text += &format!("owner = \"{owner}\"\n");
        }
        for (key, time) in [("created", self.created), ("expires", self.expires), ("revoked", self.revoked)] {
            if let Some(time) = time {
                text += &format!("{key} = \"{time}\"\n");
            }
        }
        text
    }
}

/// What limits tasks that come with a token, beside policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Which templates; `*` is every one, `script` a script of the task's own.
    pub templates: Vec<String>,
    /// Whether they may ask to skip approval.
    pub ready: bool,
    /// Who stands behind the token.
    pub owner: Option<String>,
}

impl Scope {
    /// Whether this work is in it, as policy names it.
    #[must_use]
    pub fn covers(&self, work: &str) -> bool {
        self.templates.iter().any(|name| name == "*" || name == work)
    }
}

/// The tokens of `tokens.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(pub Vec<Token>);

impl Tokens {
    /// Reads `tokens.toml`; wall-clock times in it are meant in `zone`.
    ///
    /// # Errors
    /// Every problem of the file, each with `file:line`.
    pub fn parse(file: &str, text: &str, zone: &Zone) -> Result<Tokens, Vec<Problem>> {
        let sheet = Sheet::new(file, text);
        let mut fields = sheet.fields();
        let mut tokens: Vec<Token> = Vec::new();
        for table in fields.tables("token") {
            let span = table.span().clone();
            let Some(token) = read(table, zone) else { continue };
            let twice = |known: &Token| known.number == token.number;
            if tokens.iter().any(twice) {
                sheet.problem(
                    &span,
                    format!("number = {} twice", token.number),
                    "a number that no other token ever had",
                );
            }
            let live = |known: &Token| known.name == token.name && known.revoked.is_none() && token.revoked.is_none();
            if tokens.iter().any(live) {
                sheet.problem(
                    &span,
                    format!("the name {} twice", token.name),
                    "one token of a name that is not revoked",
                );
            }
            tokens.push(token);
        }
        fields.finish();
        let problems = sheet.into_problems();
        if problems.is_empty() { Ok(Tokens(tokens)) } else { Err(problems) }
    }

    /// Finds the token of a secret that is good at a time. Takes the same time whichever of them it is, or none: every
    /// digest is compared to its last byte.
    #[must_use]
    pub fn find(&self, secret: &str, now: Timestamp) -> Option<&Token> {
        let digest = Digest::of(secret.as_bytes());
        let mut found = None;
        for token in &self.0 {
            if token.digest.is_same(&digest) {
                found = Some(token);
            }
        }
        found.filter(|token| token.is_good(now))
    }

    /// Returns the number for the next token: chance, so that none is given again after a file was lost.
    #[must_use]
    pub fn next_number(&self, chance: [u8; 4]) -> u32 {
        let mut number = (u32::from_le_bytes(chance) & (u32::MAX >> 1)).max(1);
        while self.0.iter().any(|token| token.number == number) {
            number = (number % (u32::MAX >> 1)).saturating_add(1);
        }
        number
    }
}

fn read(mut table: Fields<'_>, zone: &Zone) -> Option<Token> {
    let sheet = table.sheet();
    let number = table.integer("number", 1..=i32::MAX.unsigned_abs());
    let number = table.need("number", number);
    let name = table.string("name");
    let name = table.need("name", name).and_then(|text| text.parse(sheet));
    let digest = table.string("sha256");
    let digest = table.need("sha256", digest).and_then(|text| {
        let digest = format!("sha256:{}", text.value).parse().ok();
        if digest.is_none() {
            sheet.problem(&text.span, "sha256 of another form", "64 lower-case hexadecimal digits");
        }
        digest
    });
    let mut verbs = BTreeSet::new();
    for word in table.strings("verbs") {
        match Verb::WORDS.iter().find(|(known, _)| *known == word.value) {
            Some((_, verb)) => drop(verbs.insert(*verb)),
            None => sheet.problem(&word.span, &word.value, "submit, read or cancel; no token approves"),
        }
    }
    let templates = table.strings("templates").into_iter().map(|text| text.value).collect();
    let ready = table.boolean("ready").unwrap_or(false);
    let owner = table.string("owner").and_then(|text| text.parse(sheet));
    let per_minute = table.integer("per_minute", 1..=PER_MINUTE_MAX).unwrap_or(PER_MINUTE);
    let mut time = |key: &'static str| {
        let text = table.string(key)?;
        let time = parse_time(&text.value, zone);
        if time.is_err() {
            sheet.problem(&text.span, &text.value, "a time: YYYY-MM-DD HH:MM:SS or RFC 3339");
        }
        time.ok()
    };
    let (created, expires, revoked) = (time("created"), time("expires"), time("revoked"));
    table.finish();
    Some(Token {
        number: number?,
        name: name?,
        digest: digest?,
        verbs,
        templates,
        ready,
        owner,
        per_minute,
        created,
        expires,
        revoked,
    })
}

/// A token's allowance: so many at once, and so many a minute after that.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    left: f64,
    at: Timestamp,
}

impl Allowance {
    /// Returns a full one.
    #[must_use]
    pub fn full(per_minute: u32, now: Timestamp) -> Allowance {
        Allowance { left: f64::from(per_minute), at: now }
    }

    /// Takes one request from it; `false` when none is left.
    pub fn take(&mut self, per_minute: u32, now: Timestamp) -> bool {
        let is_left = self.is_left(per_minute, now);
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    /// Whether one is left.
    pub fn is_left(&mut self, per_minute: u32, now: Timestamp) -> bool {
        let rate = f64::from(per_minute);
        // A clock that was set back gives nothing and takes nothing.
        let passed = i32::try_from(now.0.saturating_sub(self.at.0).max(0)).unwrap_or(i32::MAX);
        self.left = (self.left + rate * f64::from(passed) / 60_000.0).min(rate);
        self.at = now;
        self.left >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            number: 3,
            name: "ci".parse().expect("a name"),
            digest: Digest::of(b"sgt_x"),
            verbs: BTreeSet::from([Verb::Submit, Verb::Read]),
            templates: vec!["git-publish".to_owned(), "odd \"name\"".to_owned()],
            ready: true,
            owner: Some("zhang".parse().expect("a name")),
            per_minute: 60,
            created: Some(Timestamp(1_000)),
            expires: Some(Timestamp(5_000)),
            revoked: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let gone = Token { number: 2, revoked: Some(Timestamp(7)), expires: None, ..token() };
        let text = gone.to_toml() + &token().to_toml();
        let tokens = Tokens::parse("tokens.toml", &text, &Zone::utc()).expect("read");
        assert_eq!(tokens, Tokens(vec![gone, token()]));
        assert_eq!([[2, 0, 0, 0], [0; 4], [255; 4]].map(|chance| tokens.next_number(chance)), [4, 1, u32::MAX >> 1]);
    }

    #[test]
    fn every_problem_is_found() {
        let text = "[[token]]\nnumber = 1\nname = \"a b\"\nsha256 = \"00\"\nverbs = [\"approve\"]\nready = 1\n\
                    expires = \"soon\"\nsecret = \"x\"\n";
        let problems = Tokens::parse("t", text, &Zone::utc()).expect_err("wrong");
        let lines: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(lines, ["t:3", "t:4", "t:5", "t:6", "t:7", "t:8"]);
        let twice = token().to_toml() + &token().to_toml();
        assert_eq!(Tokens::parse("t", &twice, &Zone::utc()).expect_err("twice").len(), 2);
    }

    #[test]
    fn a_secret_opens_what_it_was_made_for_and_only_in_its_time() {
        let tokens = Tokens(vec![token()]);
        let name = |secret: &str, at: i64| tokens.find(secret, Timestamp(at)).map(|token| token.name.to_string());
        assert_eq!(name("sgt_x", 4_999), Some("ci".to_owned()));
        for (secret, at) in [("sgt_x", 5_000), ("sgt_y", 1), ("", 1), (token().digest.hex().as_str(), 1)] {
            assert_eq!(name(secret, at), None, "{secret} at {at}");
        }
        let revoked = Tokens(vec![Token { revoked: Some(Timestamp(0)), ..token() }]);
        assert_eq!(revoked.find("sgt_x", Timestamp(1)), None);
        assert!(token().covers("git-publish") && !token().covers("hello") && !token().covers("script"));
    }

    #[test]
    fn an_allowance_runs_out_and_comes_back() {
        let mut allowance = Allowance::full(60, Timestamp(0));
        assert_eq!((0..100).filter(|_| allowance.take(60, Timestamp(0))).count(), 60);
        assert!(!allowance.take(60, Timestamp(999)));
        assert!(allowance.take(60, Timestamp(1_500)));
        assert!(!allowance.take(60, Timestamp(-5_000)), "a clock that was set back gives nothing");
    }
}
