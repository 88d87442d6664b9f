//! Templates of configuration files, filled in for each host. Floor 1.
//!
//! The language is minijinja's, a Jinja2, with its built-in filters; one file is one template. A name that is not there is an
//! error. Line ends are as Ansible's `template` has them: the one behind a block's tag goes, the file's last one stays.
//!
//! **Invariant:** pure. The same template of the same facts gives the same bytes; work and length are limited.

use std::collections::BTreeMap;
use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::base::digest::Digest;
use crate::base::limits;
use crate::domain::condition::Facts;

/// How many instructions one file may take.
const FUEL: u64 = 5_000_000;

/// Filled in texts by their digests, each once.
pub type Texts = BTreeMap<Digest, String>;

/// A template of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(String);

impl Source {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn parse(text: &str) -> Result<Source, String> {
        language().template_from_str(text).map_err(|error| said(&error))?;
        Ok(Source(text.to_owned()))
    }

    /// Fills it in.
    ///
    /// # Errors
    /// A name that is not there, too much work, or too long a text.
    pub fn fill(&self, facts: &Facts<'_>) -> Result<String, String> {
        let language = language();
        let template = language.template_from_str(&self.0).map_err(|error| said(&error))?;
        let mut text = Bounded::default();
        let filled = template.render_captured_to(facts.value(), &mut text).map(drop);
        if text.full {
            return Err(format!("it becomes longer than {} bytes", limits::RENDERED_BYTES_MAX));
        }
        filled.map_err(|error| {
            let value = facts.value();
            let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
            names.retain(|name| value.get_attr(name).is_ok_and(|value| value.is_undefined()));
            names.sort_unstable();
            let names = if names.is_empty() { String::new() } else { format!("; nobody gives {}", names.join(", ")) };
            format!("{}{names}", said(&error))
        })?;
        String::from_utf8(text.bytes).map_err(|error| error.to_string())
    }
}

fn language() -> Environment<'static> {
    let mut language = Environment::new();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    // The files are no HTML, whatever they are called.
    language.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    language.set_syntax(syntax.expect("the delimiters are the usual ones"));
    language.set_fuel(Some(FUEL));
    language
}

fn said(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", error.kind())
}

/// Takes so many bytes and no more.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > limits::RENDERED_BYTES_MAX {
            self.full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[track_caller]
    fn check(template: &str, want: Result<&str, &str>) {
        let params = BTreeMap::from([("PORT".parse().unwrap(), "80".to_owned())]);
        let vars = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let tags = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let facts = Facts {
            params: &params,
            typed: &BTreeMap::new(),
            name: "web1",
            address: "10.0.0.1",
            environment: "prod",
            tags: &tags,
            vars: &vars,
            steps: Vec::new(),
        };
        let filled = Source::parse(template).and_then(|source| source.fill(&facts));
        match want {
            Ok(want) => assert_eq!(filled.as_deref(), Ok(want), "{template}"),
            Err(want) => assert!(filled.as_ref().is_err_and(|why| why.contains(want)), "{template}: {filled:?}"),
        }
    }

    #[test]
    fn values_and_facts_of_the_host_are_filled_in() {
        check("listen {{ PORT }};\n", Ok("listen 80;\n"));
        check("{% for tag in host.tags %}\n{{ tag }}\n{% endfor %}\nend\n", Ok("a\nb\nend\n"));
        check("{% if host.vars.tier == 'web' %}{{ host.name }}<&>{% endif %}", Ok("web1<&>"));
        check("{{ PORT | default('1') }} {{ NOPE | default('1') }}", Ok("80 1"));
    }

    #[test]
    fn what_is_not_there_or_too_much_is_an_error() {
        check("a\n{{ NOPE }}", Err("line 2: undefined value; nobody gives NOPE"));
        check("{{ host.vars.nope }}", Err("undefined"));
        check("a\n{% if %}", Err("line 2"));
        check("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", Err("fuel"));
        check("{% for a in range(9999) %}{{ '0123456789' * 1000 }}{% endfor %}", Err("becomes longer"));
        check("{% include 'x' %}", Err(""));
    }
}
