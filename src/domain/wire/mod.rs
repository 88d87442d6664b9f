//! The forms a task file may have, and their one meaning.
//!
//! **Invariant:** pure, and strict: what JSON parsers disagree about is refused, unknown fields are refused, and all
//! problems of a file are reported at once, each with its JSON pointer, line and column.
//!
//! Two forms are known. A file with `title` and without `task_name` is an open-devops task; every other file is a
//! native one, of which CODO's form is a part. CODO writes `hosts`, `args` and `associated_user` as Python literals
//! inside strings; real JSON is taken in the same places.

mod fields;
mod json;
mod native;
mod open_devops;
mod python_literal;

use crate::base::time::Zone;
use crate::domain::problem::Problem;
use crate::domain::submission::Submission;

pub(crate) use fields::parse_seconds;

use fields::Fields;
use json::Value;

/// A file that is not a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Everything wrong with it; never empty.
    pub problems: Vec<Problem>,
    /// Whether the text only ends too early, as a file does that is still written.
    pub truncated: bool,
}

/// Reads a task file. Times without an offset are meant in `zone`.
///
/// # Errors
/// Every problem at once, as [`Problems`](crate::domain::problem::Problems) keeps them.
pub fn read_task(bytes: &[u8], zone: &Zone) -> Result<Submission, Unreadable> {
    let read = json::read(bytes);
    let Some(root) = read.root else {
        return Err(Unreadable { problems: read.problems.into_vec(), truncated: read.truncated });
    };
    let Value::Object(members) = root.value else {
        let problem = Problem::new("", root.value.kind(), "an object: {\"task_name\": …}").at(root.line, root.column);
        return Err(Unreadable { problems: vec![problem], truncated: false });
    };
    let has = |name: &str| members.iter().any(|member| member.name == name);
    let open_devops = has("title") && !has("task_name");
    let mut fields = Fields::new(members, read.problems, zone);
    let submission = if open_devops { open_devops::read(&mut fields) } else { native::read(&mut fields) };
    let problems = fields.finish();
    match submission {
        Some(submission) if problems.is_empty() => Ok(submission),
        _ => Err(Unreadable { problems, truncated: false }),
    }
}

#[cfg(test)]
mod tests;
