//! Templates: ordered steps with parameters, one TOML file each.
//!
//! **Invariant:** pure. A [`Template`] is whole: script files are already read into it, names are unique, and
//! every problem of a file is reported at once.

use std::collections::BTreeMap;

use crate::base::ids::{GroupNo, ParamName, StepName, TemplateName, UserName};

/// A template of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
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
    /// Its steps in file order.
    pub steps: Vec<Step>,
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
    /// The value when a task gives none.
    pub default: Option<String>,
    /// Whether a task must give it when there is no default.
    pub required: bool,
}

/// What values a parameter takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text.
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// One of these.
    Enum(Vec<String>),
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
    /// The script's text.
    pub script: String,
    /// Arguments; `{NAME}` stands for a parameter's value and stays inside its one argv element.
    pub args: Vec<String>,
    /// Variables for its environment beside the parameters; `{NAME}` as in `args`.
    pub env: BTreeMap<ParamName, String>,
    /// The account to run as (sudo); the connection's user when `None`.
    pub account: Option<UserName>,
    /// How long it may run, in seconds; 0 = no limit.
    pub timeout_s: u64,
    /// Added to the process's niceness, 0 to 19.
    pub nice: u8,
    /// What a failure means for the rest of this host's steps.
    pub on_failure: OnFailure,
}

/// What a failed step means for the steps after it on the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The host's later steps are skipped and the host has failed.
    Stop,
    /// The host's later steps run; the host has failed all the same.
    Continue,
}

/// The templates by name; numbers are unique too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    templates: BTreeMap<TemplateName, Template>,
}
