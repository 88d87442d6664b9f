//! What the steps of a template's file are read against. Floor 1.
//!
//! **Invariant:** pure. A step sees the steps before it and no later one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Param, Step, placeholders};
use crate::domain::read::toml_table::{Sheet, Text};

/// What a step is read against.
pub(super) struct StepContext<'a> {
    pub(super) params: &'a [Param],
    pub(super) other_params: bool,
    /// The script files of the folder, by name.
    pub(super) scripts: &'a BTreeMap<String, String>,
    /// The steps before it.
    pub(super) before: &'a [Step],
}

/// Checks that every `{NAME}` of an argument or variable will have a value that may stand there.
pub(super) fn check_placeholders(sheet: &Sheet<'_>, text: &Text, around: &StepContext<'_>, no_secret: &str) {
    if text.value.contains('\0') {
        sheet.problem(&text.span, &text.value, "text without NUL");
    }
    let names = match placeholders(&text.value) {
        Ok(names) => names,
        Err(found) => return sheet.problem(&text.span, found, "{NAME} of a parameter, or {{ for a brace"),
    };
    for name in names.iter().collect::<BTreeSet<_>>() {
        let param = around.params.iter().find(|param| param.name == *name);
        let always = param.is_some_and(|param| param.required || param.default.is_some());
        if param.is_some_and(|param| param.secret.is_some()) {
            sheet.problem(&text.span, format!("the secret {{{name}}}"), no_secret);
        } else if param.is_some() && !always {
            sheet.problem(&text.span, format!("{{{name}}}"), format!("a default for {name}, or required = true"));
        } else if param.is_none() && !around.other_params {
            let known: Vec<&str> = around.params.iter().map(|param| param.name.as_str()).collect();
            sheet.problem(&text.span, format!("{{{name}}}"), format!("one of {}", known.join(", ")));
        }
    }
}
