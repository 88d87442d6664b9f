//! `token`: make, list and revoke HTTP tokens. Floor 4.
//!
//! **Invariant:** a secret is printed once, when it is made, and is nowhere else.

use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};

use crate::adapters::tokens::{self, TokensError};
use crate::adapters::users;
use crate::base::digest::Digest;
use crate::base::ids::{TokenName, UserName};
use crate::base::time::{Timestamp, Zone, parse_time};
use crate::domain::token::{PER_MINUTE, SECRET_PREFIX, Token, Tokens, Verb as Use};
use crate::domain::wire::parse_seconds;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::clock::now;

/// Arguments of `token`.
#[derive(Debug, Args)]
pub(in crate::shells) struct TokenVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a token and print its secret, once. In policy its name is token:NAME.
    Create(Create),
    /// List the tokens.
    List,
    /// Revoke a token.
    Revoke {
        /// Its name or number.
        token: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Its name.
    name: TokenName,
    /// What it is for: submit, read, cancel.
    #[arg(long = "for", value_delimiter = ',', default_value = "submit,read", value_name = "USES")]
    uses: Vec<String>,
    /// Which templates: names, `script`, or `*`.
    #[arg(long, value_delimiter = ',', required = true)]
    templates: Vec<String>,
    /// Let it ask to skip approval; policy decides.
    #[arg(long)]
    ready: bool,
    /// Whose tasks its submissions count as; they may not approve them [who creates it].
    #[arg(long)]
    owner: Option<UserName>,
    /// When it expires: a time, or a span such as 90d.
    #[arg(long, default_value = "365d")]
    expires: String,
    /// How many requests per minute it may make.
    #[arg(long, default_value_t = PER_MINUTE)]
    per_minute: u32,
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Failure {
        Failure::new(Kind::Unavailable, error.to_string())
    }
}

impl TokenVerb {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let zone = context.config()?.library.zone;
        match self.verb {
            Verb::Create(create) => create.run(context, &zone),
            Verb::List => list(context, &tokens::read(&context.dirs.config, &zone)?),
            Verb::Revoke { token } => revoke(context, &zone, &token),
        }
    }
}

impl Create {
    fn run(self, context: &Context, zone: &Zone) -> Result<(), Failure> {
        let usage = |why: String| Failure::new(Kind::Usage, why);
        let verbs = self.uses.iter().map(|word| {
            let known = Use::WORDS.iter().find(|(known, _)| known == word).map(|(_, verb)| *verb);
            known.ok_or_else(|| usage(format!("--for {word}: wanted submit, read or cancel; no token approves")))
        });
        let verbs = verbs.collect::<Result<_, _>>()?;
        let expires = end(&self.expires, zone)
            .ok_or_else(|| usage(format!("--expires {}: wanted a time, or a span such as 90d or 12h", self.expires)))?;
        let mut bytes = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let secret = format!("{SECRET_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let name = self.name.clone();
        let owner = self.owner.or_else(|| std::env::var("SUDO_USER").ok()?.parse().ok());
        let owner = owner.or_else(|| users::actor(users::current_uid()).user.parse().ok());
        let mut chance = [0; 4];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
        let made = tokens::change(&context.dirs.config, &context.dirs.state, zone, |tokens: &mut Tokens| {
            if tokens.0.iter().any(|token| token.name == self.name && token.revoked.is_none()) {
                return None;
            }
            let token = Token {
                number: tokens.next_number(chance),
                name: self.name,
                digest: Digest::of(secret.as_bytes()),
                verbs,
                templates: self.templates,
                ready: self.ready,
                owner,
                per_minute: self.per_minute,
                created: Some(now()),
                expires: Some(expires),
                revoked: None,
            };
            tokens.0.push(token.clone());
            Some(token)
        })?;
        let Some(token) = made else {
            let why = format!("there is a token {name} already");
            let hint = format!("choose another name, or first: spoolgate token revoke {name}");
            return Err(Failure::new(Kind::Usage, why).hint(hint));
        };
        context.output.say(format!("token {name} is good until {expires}; rules know it as {}", token.actor().user));
        if context.output.json {
            let said = serde_json::json!({"name": name, "number": token.number, "secret": secret, "expires": expires});
            return context.output.object(said);
        }
        context.output.line(secret)
    }
}

/// Reads until when: a time, or a span from now on.
fn end(text: &str, zone: &Zone) -> Option<Timestamp> {
    let span = match text.strip_suffix('d') {
        Some(days) => days.parse::<i64>().ok()?.checked_mul(86_400),
        None => parse_seconds(text).and_then(|seconds| i64::try_from(seconds).ok()),
    };
    match span {
        Some(seconds) => Some(now().plus_ms(seconds.checked_mul(1000)?)),
        None => parse_time(text, zone).ok(),
    }
}

fn list(context: &Context, tokens: &Tokens) -> Result<(), Failure> {
    let now = now();
    for token in &tokens.0 {
        let verbs: Vec<&str> = token.verbs.iter().map(|verb| verb.word()).collect();
        let states = if token.ready { "new,ready" } else { "new" };
        if context.output.json {
            context.output.object(serde_json::json!({
                "number": token.number, "name": token.name, "for": verbs, "templates": token.templates, "ready": token.ready, "owner": token.owner,
                "per_minute": token.per_minute, "created": token.created, "expires": token.expires,
                "revoked": token.revoked, "good": token.is_good(now),
            }))?;
            continue;
        }
        let standing = match (token.revoked, token.expires) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(end)) if end <= now => format!("expired {end}"),
            (None, Some(end)) => format!("good until {end}"),
            (None, None) => "good".to_owned(),
        };
        let (verbs, templates) = (verbs.join(","), token.templates.join(","));
        context.output.line(format!("{}\t{}\t{verbs}\t{templates}\t{states}\t{standing}", token.number, token.name))?;
    }
    Ok(())
}

fn revoke(context: &Context, zone: &Zone, word: &str) -> Result<(), Failure> {
    let found = tokens::change(&context.dirs.config, &context.dirs.state, zone, |tokens| {
        let number = word.parse::<u32>().ok();
        let meant = |token: &&mut Token| {
            token.revoked.is_none() && (token.name.as_str() == word || Some(token.number) == number)
        };
        let token = tokens.0.iter_mut().find(meant)?;
        token.revoked = Some(now());
        Some(token.name.clone())
    })?;
    let name = found.ok_or_else(|| {
        let why = format!("there is no token {word} that is not revoked");
        Failure::new(Kind::NotFound, why).hint("spoolgate token list")
    })?;
    context.output.line(format!("token {name} is revoked"))
}
