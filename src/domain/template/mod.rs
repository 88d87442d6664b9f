//! Templates: ordered steps with parameters, one TOML file each. Floor 1.
//!
//! A text goes through three hands: [`Template::parse`] reads the file, [`Template::bind`] checks a task's values
//! against the parameters, and [`fill`] puts them into arguments and variables, where nobody looks at them again.
//!
//! **Invariant:** pure. A [`Template`] is whole: script files are already read into it, names are unique, and
//! every problem of a file is reported at once.

pub mod bind;
mod file;
mod file_work;
mod step_context;
mod step_file;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, ParamName, SecretName, StepName, TemplateName, UserName};
use crate::domain::condition::Condition;
use crate::domain::delegate::Delegate;
use crate::domain::file_step::FileWork;
use crate::domain::level::Level;
use crate::domain::problem::Problem;
use crate::domain::submission::TemplateRef;

/// A template of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The digest of its file.
    pub file: Digest,
    /// Its number, unique in the catalogue (`temp_id`).
    pub id: u32,
    /// Its name, unique in the catalogue.
    pub name: TemplateName,
    /// One line for people.
    pub title: String,
    /// The parameters it takes, in the order people are asked for them.
    pub params: Vec<Param>,
    /// Whether parameters that are not declared are taken too, as strings (ported CODO templates need it).
    pub other_params: bool,
    /// How much its tasks can break at least.
    pub risk: Level,
    /// What becomes of a task whose time passed while it could not start.
    pub missed: Missed,
    /// Its steps in file order.
    pub steps: Vec<Step>,
    /// Groups whose hosts a task does not name.
    pub groups: BTreeMap<GroupNo, GroupHosts>,
    /// What variables for ported scripts begin with, beside `SPOOLGATE_`: `ZDOPS` for seed 003's.
    pub env_prefix: Option<ParamName>,
}

impl Template {
    /// Returns the groups that a task names hosts for, of each step one.
    pub fn named_groups(&self) -> impl Iterator<Item = GroupNo> {
        self.steps.iter().map(|step| step.group).filter(|group| !self.groups.contains_key(group))
    }
}

/// Where a group gets its hosts from, when not from the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupHosts {
    /// Its steps say so: this one host, once.
    Forced(HostName),
    /// The hosts that the task names for another group.
    SameAs(GroupNo),
}

/// What becomes of a task that was ready and could not start at its time, because the daemon was down or the clock
/// jumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It starts late, as CODO's do.
    Run,
    /// It waits until somebody releases it.
    #[default]
    Hold,
    /// It ends as expired.
    Expire,
}

impl Missed {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Missed::Run => "run",
            Missed::Hold => "hold",
            Missed::Expire => "expire",
        }
    }
}

/// What lets a step begin on a host that has come to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The step before it.
    #[default]
    Auto,
    /// A person who releases it.
    Manual,
    /// The task's time, or a person who releases it.
    Timed,
}

impl Trigger {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Trigger::Auto => "auto",
            Trigger::Manual => "manual",
            Trigger::Timed => "timed",
        }
    }
}

/// A parameter of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in tasks and in the environment.
    pub name: ParamName,
    /// What people see instead of the name (CODO's alias).
    pub label: String,
    /// What values it takes.
    pub kind: ParamKind,
    /// What the whole of a text must match.
    pub pattern: Option<Pattern>,
    /// The value when a task gives none.
    pub default: Option<String>,
    /// Whether a task must give it when there is no default.
    pub required: bool,
    /// Whether its value is the name of a secret, written `secret:NAME`; with these and no others, when there are any.
    pub secret: Option<Vec<SecretName>>,
}

/// A pattern for texts, in the syntax of the `regex` crates; it must match the whole of a text.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: regex_lite::Regex,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let regex = regex_lite::Regex::new(&format!(r"\A(?:{text})\z")).map_err(|error| error.to_string())?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Returns its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of a text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// What values a parameter takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text.
    String,
    /// The whole path of a file or directory, without `..`.
    Path,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// One of these.
    Enum(Vec<String>),
    /// A tag of this git repository; the plan holds the commit that it points at.
    Tag(String),
}

/// One thing done on each host of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique in the template.
    pub name: StepName,
    /// The group of hosts it runs on.
    pub group: GroupNo,
    /// Order inside one host: ascending; equal levels run in file order.
    pub level: u32,
    /// What it runs.
    pub work: StepWork,
    /// What a failure means for the rest of this host's steps.
    pub on_failure: OnFailure,
    /// What lets it begin.
    pub trigger: Trigger,
    /// Whether a host takes it at all; every host when `None`.
    pub when: Option<Condition>,
    /// What runs on a host when the step failed there. It never makes a failure good.
    pub handler: Option<StepWork>,
    /// What undoes the step on a host, after a later step with [`OnFailure::Rollback`] failed there.
    pub rollback: Option<Rollback>,
}

impl Step {
    /// Returns everything that it may run: its own work, its handler's, its rollback's.
    pub fn works(&self) -> impl Iterator<Item = &StepWork> {
        let parts = [Some(&self.work), self.handler.as_ref(), self.rollback.as_ref().map(|rollback| &rollback.work)];
        parts.into_iter().flatten()
    }
}

/// What undoes a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// What it runs.
    pub work: StepWork,
    /// Whether it also runs when the step itself failed, perhaps half-way.
    pub partial: bool,
}

/// A script and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepWork {
    /// The files that it carries, in the place of a script of its own.
    pub files: Option<FileWork>,
    /// How much of a processor it may use, in percent of one; 0 = no limit. The host needs systemd.
    pub cpu_percent: u32,
    /// How much memory it may use, in MiB; 0 = no limit. The host needs systemd.
    pub memory_mib: u32,
    /// The engine that carries it out, in the place of a shell.
    pub engine: Option<Delegate>,
    /// The script's text; for an engine its playbook, or the name of its function.
    pub script: String,
    /// Its arguments.
    pub args: Args,
    /// Variables for its environment beside the parameters; `{NAME}` stands for a parameter's value.
    pub env: BTreeMap<ParamName, String>,
    /// Variables whose values are secrets.
    pub secrets: BTreeMap<ParamName, SecretName>,
    /// The account to run as (sudo); the connection's user when `None`.
    pub account: Option<UserName>,
    /// How long it may run, in seconds; 0 = no limit.
    pub timeout_s: u64,
    /// How long it may print nothing, in seconds; 0 = as long as it likes.
    pub idle_timeout_s: u64,
    /// How often it is started again after it failed by itself.
    pub retries: u32,
    /// How long to wait before that, in seconds.
    pub retry_delay_s: u64,
    /// Whether it may run twice without harm, so that a lost one may be started again.
    pub idempotent: bool,
    /// Added to the process's niceness, 0 to 19.
    pub nice: u8,
}

/// The arguments of a script, each one whole argv element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Args {
    /// Texts in which `{NAME}` stands for a parameter's value.
    List(Vec<String>),
    /// CODO's form: words between single spaces. A word that is a parameter's name stands for its value, and
    /// `FLOW_ID` anywhere for the task's number.
    Tokens(String),
}

/// What a failed step means for the steps after it on the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The host's later steps are skipped and the host has failed.
    Stop,
    /// The host's later steps run; the host has failed all the same.
    Continue,
    /// What the host's earlier steps did is undone, the last one first.
    Rollback,
}

impl OnFailure {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            OnFailure::Stop => "stop",
            OnFailure::Continue => "continue",
            OnFailure::Rollback => "rollback",
        }
    }
}

/// The templates by name; numbers are unique too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    templates: BTreeMap<TemplateName, Template>,
}

impl Catalogue {
    /// Puts templates together.
    ///
    /// # Errors
    /// Every number and every name that two templates share.
    pub fn assemble(templates: Vec<Template>) -> Result<Catalogue, Vec<Problem>> {
        let mut catalogue = Catalogue::default();
        let mut ids: BTreeMap<u32, TemplateName> = BTreeMap::new();
        let mut problems = Vec::new();
        for template in templates {
            if let Some(first) = ids.insert(template.id, template.name.clone()) {
                let found = format!("id {} in {first} and {}", template.id, template.name);
                problems.push(Problem::new("templates", found, "an id of its own for every template"));
            }
            // Rules and tokens mean a task's own script by this word.
            if template.name.as_str() == "script" {
                problems.push(Problem::new(
                    "templates",
                    "the name script",
                    "another name: rules mean scripts of tasks by it",
                ));
            }
            let id = template.id;
            if let Some(first) = catalogue.templates.insert(template.name.clone(), template) {
                let found = format!("the name {} with id {} and id {id}", first.name, first.id);
                problems.push(Problem::new("templates", found, "a name of its own for every template"));
            }
        }
        if problems.is_empty() { Ok(catalogue) } else { Err(problems) }
    }

    /// Returns the template that a task names by number or by name.
    ///
    /// A name of digits only, as in `"temp_id": "32"`, is a name here: telling the two apart is the reader's work.
    #[must_use]
    pub fn find(&self, wanted: &TemplateRef) -> Option<&Template> {
        match wanted {
            TemplateRef::Name(name) => self.templates.get(name),
            TemplateRef::Id(id) => self.templates.values().find(|template| template.id == *id),
        }
    }

    /// Returns the git repositories that parameters name, each once.
    #[must_use]
    pub fn repositories(&self) -> BTreeSet<&str> {
        let params = self.templates.values().flat_map(|template| &template.params);
        params
            .filter_map(|param| match &param.kind {
                ParamKind::Tag(repository) => Some(repository.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Returns the templates in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        self.templates.values()
    }
}

/// The names that stand for the place a step runs at; no parameter has one of them.
pub const RESERVED: [&str; 3] = ["TASK", "HOST", "GROUP"];

/// A piece of a text with placeholders.
enum Piece<'a> {
    Literal(&'a str),
    Name(&'a str),
}

/// Splits a text into literal pieces and names; a brace that opens neither is an error.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        pieces.push(Piece::Literal(before));
        if let Some(behind) = after.strip_prefix('{') {
            pieces.push(Piece::Literal("{"));
            rest = behind;
            continue;
        }
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("{{{after}"))?;
        if name.parse::<ParamName>().is_err() {
            return Err(format!("{{{name}}}"));
        }
        pieces.push(Piece::Name(name));
        rest = behind;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

/// Returns the names that a text has placeholders for.
///
/// # Errors
/// The braces that are neither `{NAME}` nor `{{`.
pub(in crate::domain) fn placeholders(text: &str) -> Result<Vec<ParamName>, String> {
    let pieces = pieces(text)?;
    Ok(pieces.iter().filter_map(|piece| if let Piece::Name(name) = piece { name.parse().ok() } else { None }).collect())
}

/// Puts values into one argument or variable: `{NAME}` becomes the value, `{{` becomes `{`.
///
/// A text with a brace that is neither stays (a template has none); a value is never looked at again.
/// A name without a value becomes nothing; [`Template::bind`] has seen to it that there is none.
#[must_use]
pub fn fill(text: &str, values: &BTreeMap<ParamName, String>) -> String {
    let Ok(pieces) = pieces(text) else { return text.to_owned() };
    let mut filled = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => filled.push_str(literal),
            Piece::Name(name) => {
                let value = name.parse::<ParamName>().ok().and_then(|name| values.get(&name));
                filled.push_str(value.map_or("", String::as_str));
            }
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(id: u32, name: &str) -> Template {
        let text = format!("id = {id}\nname = \"{name}\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = \"true\"\n");
        Template::parse("t.toml", &text, &BTreeMap::new()).unwrap()
    }

    #[test]
    fn templates_are_found_by_number_and_by_name() {
        let catalogue = Catalogue::assemble(vec![template(2, "b"), template(1, "a")]).unwrap();
        assert_eq!(catalogue.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(catalogue.find(&TemplateRef::Id(2)).map(|t| t.name.as_str()), Some("b"));
        assert_eq!(catalogue.find(&TemplateRef::Name("a".parse().unwrap())).map(|t| t.id), Some(1));
        assert_eq!(catalogue.find(&TemplateRef::Id(3)), None);
    }

    #[test]
    fn numbers_and_names_are_unique() {
        let problems = Catalogue::assemble(vec![template(1, "a"), template(1, "b"), template(2, "a")]).unwrap_err();
        let shown: Vec<String> = problems.iter().map(|problem| problem.found.clone()).collect();
        assert_eq!(shown, ["id 1 in a and b", "the name a with id 1 and id 2"]);
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        let values = [("A", "1 2"), ("B", "{A}"), ("EMPTY", "")];
        let values = values.into_iter().map(|(name, value)| (name.parse().unwrap(), value.to_owned())).collect();
        assert_eq!(fill(text, &values), want, "{text}");
    }

    #[test]
    fn values_go_in_as_they_are() {
        check("", "");
        check("plain } text", "plain } text");
        check("--x={A}", "--x=1 2");
        check("{A}{A}", "1 21 2");
        check("{B}", "{A}");
        check("[{EMPTY}]", "[]");
        check("{{A}", "{A}");
        check("{{{A}}", "{1 2}");
    }

    #[test]
    fn a_brace_opens_a_name_or_is_doubled() {
        for bad in ["{", "{}", "{a b}", "{A", "${a-b}", "{{{"] {
            assert!(placeholders(bad).is_err(), "{bad}");
        }
        assert_eq!(placeholders("{A}{{B}{C}").map(|names| names.len()), Ok(2));
    }
}
