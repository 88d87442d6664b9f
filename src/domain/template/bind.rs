//! Checks a task's values against a template's parameters. Floor 1.
//!
//! **Invariant:** pure. What is bound fits its parameter, every name that an argument or variable needs has a value,
//! and no value that a submitter chose steers the programs that scripts start.

use std::collections::{BTreeMap, BTreeSet};

use super::{Args, Param, ParamKind, RESERVED, Step, Template, placeholders};
use crate::base::ids::{ParamName, SecretName};
use crate::domain::problem::Problem;

/// Variables that change what programs load, run or read. Parameters reach scripts as variables, so a submitter who
/// could set one would run code that no approver reads in the plan.
const STEERING: &[&str] = &[
    "BASHOPTS",
    "CDPATH",
    "EDITOR",
    "ENV",
    "GIT_ASKPASS",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
    "GLOBIGNORE",
    "GZIP",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "PAGER",
    "PATH",
    "PROMPT_COMMAND",
    "PS4",
    "RSYNC_RSH",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "TAR_OPTIONS",
    "VISUAL",
];
/// The same, by how they begin.
const STEERING_PREFIXES: &[&str] = &[
    "ANSIBLE_",
    "BASH_",
    "DYLD_",
    "GIT_CONFIG",
    "LD_",
    "NODE_",
    "PERL5",
    "PYTHON",
    "SALT_",
    "SPOOLGATE_",
    "SSH_",
    "ZDOPS_",
];

/// Returns the secret that a value names: `secret:NAME`.
#[must_use]
pub fn secret_name(value: &str) -> Option<SecretName> {
    value.strip_prefix("secret:")?.parse().ok()
}

/// What a task's values came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Every parameter that has a value.
    pub values: BTreeMap<ParamName, String>,
    /// The secrets that parameters name.
    pub secrets: BTreeMap<ParamName, SecretName>,
}

/// Whether a variable that begins so changes what programs do.
#[must_use]
pub(super) fn steers_unported(name: &ParamName) -> bool {
    steers_programs(name) && !name.as_str().starts_with("ZDOPS_")
}

/// Whether a variable of this name changes which code programs load or run (`PATH`, `LD_PRELOAD`, `BASH_ENV`), or is
/// one of our own. No submitter may choose its value.
#[must_use]
pub fn steers_programs(name: &ParamName) -> bool {
    let name = name.as_str();
    STEERING.contains(&name) || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Template {
    /// Checks the values that a task gives and fills in the defaults. What is returned holds every parameter that
    /// has a value, `true` and `false` in lower case.
    ///
    /// # Errors
    /// Every value that does not fit, every one that is missing, and every one that the template does not take. A value
    /// in the place of a secret's name is not repeated: it may be the secret.
    pub fn bind(&self, given: &BTreeMap<ParamName, String>) -> Result<Bound, Vec<Problem>> {
        let mut problems = Vec::new();
        let (mut bound, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for param in &self.params {
            match (given.get(&param.name).or(param.default.as_ref()), param.required) {
                (Some(value), _) if let Some(allowed) = &param.secret => match secret_name(value) {
                    Some(secret) if allowed.contains(&secret) => {
                        secrets.insert(param.name.clone(), secret);
                    }
                    found => {
                        let found = found.map_or("no name of a secret".to_owned(), |name| format!("secret:{name}"));
                        problems.push(Problem::new(format!("/args/{}", param.name), found, param.wanted()));
                    }
                },
                (Some(value), _) => match param.read(value) {
                    Ok(value) => {
                        bound.insert(param.name.clone(), value);
                    }
                    Err(wanted) => problems.push(Problem::new(format!("/args/{}", param.name), value, wanted)),
                },
                (None, true) => problems.push(Problem::new(
                    format!("/args/{}", param.name),
                    "nothing",
                    format!("{} for {}", param.wanted(), param.label),
                )),
                (None, false) => {}
            }
        }
        for (name, value) in given.iter().filter(|(name, _)| self.params.iter().all(|param| param.name != **name)) {
            match self.check_other(name, value) {
                Ok(()) => {
                    bound.insert(name.clone(), value.clone());
                }
                Err((found, wanted)) => problems.push(Problem::new(format!("/args/{name}"), found, wanted)),
            }
        }
        if self.other_params {
            problems.extend(self.missing_others(given));
        }
        if problems.is_empty() { Ok(Bound { values: bound, secrets }) } else { Err(problems) }
    }

    /// Checks a value whose name the template does not declare.
    fn check_other(&self, name: &ParamName, value: &str) -> Result<(), (String, String)> {
        if !self.other_params {
            let known = self.params.iter().map(|param| param.name.as_str()).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "no parameters".to_owned() } else { format!("one of {known}") };
            return Err((format!("the parameter {name}"), known));
        }
        if RESERVED.contains(&name.as_str()) || steers_programs(name) {
            return Err((
                format!("the parameter {name}"),
                "a name that does not steer the system or scripts".to_owned(),
            ));
        }
        if value.contains('\0') {
            return Err((value.to_owned(), "text without NUL".to_owned()));
        }
        Ok(())
    }

    /// Finds the undeclared names that steps use and nobody gave.
    fn missing_others(&self, given: &BTreeMap<ParamName, String>) -> Vec<Problem> {
        let works = self.steps.iter().flat_map(Step::works);
        let texts = works.flat_map(|work| {
            let args = if let Args::List(list) = &work.args { list.as_slice() } else { &[] };
            args.iter().chain(work.env.values())
        });
        let used: BTreeSet<ParamName> = texts.flat_map(|text| placeholders(text).unwrap_or_default()).collect();
        let declared = |name: &ParamName| self.params.iter().any(|param| param.name == *name);
        used.into_iter()
            .filter(|name| !declared(name) && !given.contains_key(name))
            .map(|name| Problem::new(format!("/args/{name}"), "nothing", "a value, since a step's arguments use it"))
            .collect()
    }
}

impl Param {
    /// Reads a value as this parameter takes it.
    ///
    /// # Errors
    /// What would have fitted.
    pub(super) fn read(&self, value: &str) -> Result<String, String> {
        let fits = match &self.kind {
            ParamKind::String => !value.contains('\0'),
            ParamKind::Path => is_whole_path(value),
            ParamKind::Int => value.parse::<i64>().is_ok(),
            ParamKind::Bool => {
                let lower = value.to_ascii_lowercase();
                if lower == "true" || lower == "false" {
                    return Ok(lower);
                }
                false
            }
            ParamKind::Enum(values) => values.iter().any(|allowed| allowed == value),
            // Whether the repository has it is looked up when the plan is made.
            ParamKind::Tag(_) => !value.is_empty() && !value.chars().any(|c| c.is_control() || c == ' '),
        };
        let fits = fits && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(value));
        if fits { Ok(value.to_owned()) } else { Err(self.wanted()) }
    }

    fn wanted(&self) -> String {
        if let Some(allowed) = &self.secret {
            let names: Vec<String> = allowed.iter().map(|name| format!("secret:{name}")).collect();
            return format!("one of {}", names.join(", "));
        }
        let matching = self.pattern.as_ref().map(|pattern| format!(" matching {}", pattern.text())).unwrap_or_default();
        match &self.kind {
            ParamKind::String => format!("text without NUL{matching}"),
            ParamKind::Path => format!("a whole path without ..{matching}"),
            ParamKind::Int => "a whole number".to_owned(),
            ParamKind::Bool => "true or false".to_owned(),
            ParamKind::Enum(values) => format!("one of {}", values.join(", ")),
            ParamKind::Tag(repository) => format!("a tag of {repository}{matching}"),
        }
    }
}

/// Whether a path begins at the root and leads nowhere else on its way.
fn is_whole_path(path: &str) -> bool {
    let odd = |c: char| c.is_control();
    path.starts_with('/') && !path.contains(odd) && path.split('/').all(|part| !matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
        id = 1
        name = "t"
        title = "t"
        [[param]]
        name = "TAG"
        label = "版本"
        required = true
        [[param]]
        name = "COUNT"
        type = "int"
        default = 3
        [[param]]
        name = "FORCE"
        type = "bool"
        required = false
        [[param]]
        name = "WHERE"
        type = "enum"
        values = ["test", "prod"]
        default = "test"
        [[step]]
        name = "a"
        script = "true"
        args = ["{TAG}"]
    "#;

    #[track_caller]
    fn check(text: &str, given: &[(&str, &str)], want: &str) {
        let template = Template::parse("t.toml", text, &BTreeMap::new()).unwrap();
        let given = given.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect();
        let shown: Vec<String> = match template.bind(&given) {
            Ok(bound) => bound.values.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(shown.join(" "), want, "{given:?}");
    }

    #[test]
    fn values_are_checked_and_defaults_filled_in() {
        check(TEMPLATE, &[("TAG", "v1")], "COUNT=3 TAG=v1 WHERE=test");
        check(
            TEMPLATE,
            &[("TAG", ""), ("COUNT", "-7"), ("FORCE", "True"), ("WHERE", "prod")],
            "COUNT=-7 FORCE=true TAG= WHERE=prod",
        );
        check(
            TEMPLATE,
            &[("COUNT", "x"), ("FORCE", "yes"), ("WHERE", "moon"), ("OTHER", "1")],
            "/args/TAG: found nothing; wanted text without NUL for 版本 /args/COUNT: found x; wanted a whole number \
             /args/FORCE: found yes; wanted true or false /args/WHERE: found moon; wanted one of test, prod \
             /args/OTHER: found the parameter OTHER; wanted one of TAG, COUNT, FORCE, WHERE",
        );
    }

    #[test]
    fn texts_match_their_whole_pattern_and_paths_are_whole() {
        let text = "id = 1\nname = \"t\"\ntitle = \"t\"\n[[param]]\nname = \"V\"\npattern = \"v[0-9]+|head\"\n\
                    [[param]]\nname = \"DeployDir\"\ntype = \"path\"\n[[step]]\nname = \"a\"\nscript = \"true\"\n";
        check(text, &[("V", "v12"), ("DeployDir", "/srv/www")], "DeployDir=/srv/www V=v12");
        for bad in ["v12; id", "xv1", "", "head1"] {
            let want = format!("/args/V: found {bad}; wanted text without NUL matching v[0-9]+|head");
            check(text, &[("V", bad)], &want);
        }
        for bad in ["srv", "/srv/../etc", "./x", "/a/./b", ""] {
            check(
                text,
                &[("DeployDir", bad)],
                &format!("/args/DeployDir: found {bad}; wanted a whole path without .."),
            );
        }
    }

    #[test]
    fn other_parameters_may_not_steer_programs() {
        let open = "id = 1\nname = \"t\"\ntitle = \"t\"\nother_params = true\n[[step]]\nname = \"a\"\nscript = \"true\"\nargs = [\"{X}\"]\n";
        check(open, &[("X", "1"), ("GIT_URL", "u"), ("arg02", "2")], "GIT_URL=u X=1 arg02=2");
        let bad = [("LD_PRELOAD", "x"), ("PATH", "/tmp"), ("HOST", "h"), ("BASH_ENV", "x"), ("SPOOLGATE_TASK", "1")];
        for (name, value) in bad {
            let want = format!(
                "/args/{name}: found the parameter {name}; wanted a name that does not steer the system or scripts"
            );
            check(open, &[("X", "1"), (name, value)], &want);
        }
        check(open, &[], "/args/X: found nothing; wanted a value, since a step's arguments use it");
    }
}
