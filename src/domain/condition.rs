//! Conditions of steps: `when = "host.vars.tier == 'web' and steps.check.code == 0"`. Floor 1.
//!
//! The language is minijinja's for expressions: no loops, no files, nothing that changes anything or makes long texts of short
//! ones, and a limit on the work. What is neither yes nor no is an error.
//! A condition knows the task's parameters by their names (as text; numbers and yes or no where they are declared so), `host` (`name`, `address`, `environment`, `tags`,
//! `vars`) and `steps`, what the host's earlier steps came to (`outcome`, `code`). A name that is not there is an error, never
//! quietly false; `… is defined` asks for it.
//!
//! **Invariant:** pure. The same condition of the same facts says the same everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, UndefinedBehavior, Value, filters, tests as jinja_tests};

use crate::base::ids::ParamName;
use crate::domain::outcome::Outcome;

/// How many instructions a condition may take.
const FUEL: u64 = 10_000;
/// How long a condition may be, in bytes.
const BYTES_MAX: usize = 2000;

/// The words that stand for something other than a parameter.
const WORDS: [&str; 2] = ["host", "steps"];

static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    // Empty: filters that make long texts of short ones would take memory that no fuel counts.
    let mut language = Environment::empty();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    language.add_filter("int", filters::int);
    language.add_filter("float", filters::float);
    language.add_filter("lower", filters::lower);
    language.add_filter("upper", filters::upper);
    language.add_filter("trim", filters::trim);
    language.add_filter("length", filters::length);
    language.add_filter("default", filters::default);
    language.add_test("defined", jinja_tests::is_defined);
    language.add_test("undefined", jinja_tests::is_undefined);
    language.add_test("none", jinja_tests::is_none);
    language.set_fuel(Some(FUEL));
    language
});

/// A condition that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    text: String,
    /// What it names, as far as that can be seen: `host.vars.tier`, `TAG`.
    names: BTreeSet<String>,
}

/// What a condition is asked about.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The task's parameters.
    pub params: &'a BTreeMap<ParamName, String>,
    /// What those of them are that are no texts.
    pub typed: &'a BTreeMap<ParamName, Typed>,
    /// The host's name.
    pub name: &'a str,
    /// Its address.
    pub address: &'a str,
    /// Its environment.
    pub environment: &'a str,
    /// Its tags, and the inventory's groups it is in.
    pub tags: &'a BTreeSet<String>,
    /// Its variables.
    pub vars: &'a BTreeMap<String, String>,
    /// What its earlier steps came to: name, outcome, exit code.
    pub steps: Vec<(&'a str, Outcome, Option<i32>)>,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Condition, String> {
        if text.trim().is_empty() || text.len() > BYTES_MAX {
            return Err(format!("an expression of 1 to {BYTES_MAX} bytes"));
        }
        if multiplies(text) {
            return Err("an expression without *: a text times a number is a long text".to_owned());
        }
        if let Some(filter) = filters_of(text).into_iter().find(|filter| !FILTERS.contains(&filter.as_str())) {
            return Err(format!("one of the filters {} in the place of {filter}", FILTERS.join(", ")));
        }
        let read = LANGUAGE.compile_expression(text).map_err(|error| {
            let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("an expression such as host.environment == 'prod'{detail}")
        })?;
        let names = read.undeclared_variables(true).into_iter().collect();
        Ok(Condition { text: text.to_owned(), names })
    }

    /// Returns its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the parameters that it names.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| name.split('.').next()).filter(|name| !WORDS.contains(name))
    }

    /// Whether it asks what earlier steps came to, so that it can only be answered while the task runs.
    #[must_use]
    pub fn needs_results(&self) -> bool {
        self.names.iter().any(|name| name.split('.').next() == Some("steps"))
    }

    /// Returns the variables of a host that it may ask for, of those that the host has.
    pub fn vars_of<'a>(&self, vars: &'a BTreeMap<String, String>) -> impl Iterator<Item = (&'a String, &'a String)> {
        let whole = self.names.iter().any(|name| matches!(name.as_str(), "host" | "host.vars"));
        let named: BTreeSet<&str> = self.names.iter().filter_map(|name| name.strip_prefix("host.vars.")).collect();
        let named: BTreeSet<String> =
            named.into_iter().filter_map(|name| name.split('.').next()).map(str::to_owned).collect();
        vars.iter().filter(move |(name, _)| whole || named.contains(*name))
    }

    /// Answers it.
    ///
    /// # Errors
    /// Why it has no answer: a name that is not there, or too much work.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, String> {
        let no_answer = |error: minijinja::Error| {
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("the condition {} has no answer on {}: {}{detail}", self.text, facts.name, error.kind())
        };
        let read = LANGUAGE.compile_expression(&self.text).map_err(no_answer)?;
        let answer = read.eval(facts.value()).map_err(no_answer)?;
        if answer.kind() == ValueKind::Bool {
            return Ok(answer.is_true());
        }
        Err(format!("the condition {} is not true or false on {}; add a comparison", self.text, facts.name))
    }
}

/// The filters that there are.
const FILTERS: [&str; 7] = ["int", "float", "lower", "upper", "trim", "length", "default"];

/// Returns an expression without what stands in its texts.
fn outside_of_texts(text: &str) -> String {
    let (mut quote, mut escaped) = (None, false);
    let mut outside = String::new();
    for c in text.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None => outside.push(c),
        }
    }
    outside
}

/// Whether an expression has a `*` outside of its texts.
fn multiplies(text: &str) -> bool {
    outside_of_texts(text).contains('*')
}

/// Returns the names behind the bars of an expression.
fn filters_of(text: &str) -> Vec<String> {
    let outside = outside_of_texts(text);
    let name = |behind: &str| behind.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    outside.split('|').skip(1).map(name).collect()
}

/// Returns a parameter as a condition sees it: a number or a yes or no where it is declared as one.
fn typed(value: &str, kind: Option<Typed>) -> Value {
    match kind {
        Some(Typed::Int) => value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from),
        Some(Typed::Bool) => Value::from(value == "true"),
        None => Value::from(value),
    }
}

/// What a parameter is, where it is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Typed {
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
}

impl Typed {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Typed::Int => "int",
            Typed::Bool => "bool",
        }
    }
}

impl Facts<'_> {
    /// Returns them as the language sees them.
    pub(in crate::domain) fn value(&self) -> Value {
        let text = |text: &str| Value::from(text);
        let vars: BTreeMap<String, Value> = self.vars.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let host = BTreeMap::from([
            ("name", text(self.name)),
            ("address", text(self.address)),
            ("environment", text(self.environment)),
            ("tags", Value::from(self.tags.iter().map(|tag| text(tag)).collect::<Vec<_>>())),
            ("vars", Value::from(vars)),
        ]);
        let step = |(name, outcome, code): &(&str, Outcome, Option<i32>)| {
            let result = BTreeMap::from([("outcome", text(outcome.word())), ("code", Value::from(*code))]);
            ((*name).to_owned(), Value::from(result))
        };
        let steps: BTreeMap<String, Value> = self.steps.iter().map(step).collect();
        let kind = |name| self.typed.get(name).copied();
        let params = self.params.iter().map(|(name, value)| (name.to_string(), typed(value, kind(name))));
        let mut all: BTreeMap<String, Value> = params.collect();
        all.insert("host".to_owned(), Value::from(host));
        all.insert("steps".to_owned(), Value::from(steps));
        Value::from(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let params = BTreeMap::from([
            ("TAG".parse().unwrap(), "v1".to_owned()),
            ("N".parse().unwrap(), "7".to_owned()),
            ("FLAG".parse().unwrap(), "false".to_owned()),
        ]);
        let vars = BTreeMap::from([("tier".to_owned(), "web".to_owned())]);
        let facts = Facts {
            params: &params,
            typed: &BTreeMap::from([("N".parse().unwrap(), Typed::Int), ("FLAG".parse().unwrap(), Typed::Bool)]),
            name: "web1",
            address: "10.0.0.1",
            environment: "prod",
            tags: &BTreeSet::from(["a".to_owned()]),
            vars: &vars,
            steps: vec![("check", Outcome::Ok, Some(0)), ("pull-code", Outcome::Failed, Some(3))],
        };
        let shown = match Condition::parse(text).and_then(|condition| condition.holds(&facts)) {
            Ok(holds) => holds.to_string(),
            Err(why) => why,
        };
        assert_eq!(shown, want, "{text}");
    }

    #[test]
    fn conditions_know_parameters_the_host_and_its_steps() {
        check("TAG == 'v1'", "true");
        check("N > 6 and N < 8", "true");
        check("FLAG", "false");
        check("not FLAG and TAG|length == 2", "true");
        check(
            "TAG.startswith('v')",
            "the condition TAG.startswith('v') has no answer on web1: unknown method: string has no method named startswith",
        );
        check("host.environment == 'prod' and 'a' in host.tags", "true");
        check("host.vars.tier != 'web'", "false");
        check("host.vars.rack is defined", "false");
        check("steps.check.code == 0", "true");
        check("steps['pull-code'].outcome == 'failed'", "true");
        check("not steps.never is defined", "true");
        check("host.name in ['web1', 'web2']", "true");
    }

    #[test]
    fn what_is_not_there_is_an_error_and_no_no() {
        check("host.vars.rack == 'b'", "the condition host.vars.rack == 'b' has no answer on web1: undefined value");
        check("OTHER == 'x'", "the condition OTHER == 'x' has no answer on web1: undefined value");
        check("TAG", "the condition TAG is not true or false on web1; add a comparison");
        let long = "an expression without *: a text times a number is a long text";
        check("TAG * 1000000000 == ''", long);
        check("TAG != '*' and TAG != \"it's*\"", "true");
        for (gone, filter) in [
            ("TAG|replace('v', TAG) == ''", "replace"),
            ("'%2000000000d' | format(1) == ''", "format"),
            ("TAG|indent(2000000000) == ''", "indent"),
        ] {
            let wanted = "one of the filters int, float, lower, upper, trim, length, default in the place of";
            check(gone, &format!("{wanted} {filter}"));
        }
        check("'|replace' != TAG", "true");
        check(
            "range(9)|length == 9",
            "the condition range(9)|length == 9 has no answer on web1: unknown function: range is unknown",
        );
        let wanted = "an expression such as host.environment == 'prod'";
        check("TAG ==", &format!("{wanted} (unexpected end of input, expected expression)"));
        check("{% for x in y %}", &format!("{wanted} (unexpected `%`)"));
        check("", "an expression of 1 to 2000 bytes");
    }

    #[test]
    fn what_it_needs_is_known_before() {
        let vars = BTreeMap::from([("tier".to_owned(), "web".to_owned()), ("rack".to_owned(), "b".to_owned())]);
        let needs = |text: &str| {
            let condition = Condition::parse(text).unwrap();
            let params = condition.params().map(str::to_owned).collect::<BTreeSet<_>>();
            let vars = condition.vars_of(&vars).map(|(name, _)| name.clone()).collect::<Vec<_>>();
            format!("{params:?} {vars:?} {}", condition.needs_results())
        };
        assert_eq!(needs("TAG == host.vars.tier"), r#"{"TAG"} ["tier"] false"#);
        assert_eq!(needs("steps.a.code == 0"), "{} [] true");
        assert_eq!(needs("host.vars[TAG] == 'x'"), r#"{"TAG"} ["rack", "tier"] false"#);
    }
}
