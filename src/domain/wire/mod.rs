//! The forms a task file may have, and their one meaning.
//!
//! **Invariant:** pure, and strict: what JSON parsers disagree about is refused, unknown fields are refused, and all
//! problems of a file are reported at once, each with its JSON pointer, line and column.
//!
//! Two forms of tasks are known. A file with `title` and without `task_name` is an open-devops task; every other file is a
//! native one, of which CODO's form is a part. CODO writes `hosts`, `args` and `associated_user` as Python literals
//! inside strings; real JSON is taken in the same places. Two more say what was pushed to
//! a git repository, or what a monitor saw, and leave it to the rules which task that is.

mod alert;
mod codo;
pub mod codo_template;
mod fields;
mod native;
mod open_devops;
mod order;
mod push;

use crate::base::time::Zone;
use crate::domain::hook::{Alert, Push};
use crate::domain::order::Order;
use crate::domain::problem::Problem;
use crate::domain::read::json;
use crate::domain::submission::Submission;

pub use codo::{CODO_BODY_BYTES_MAX, CodoBody, CodoRefusal, read_codo};
pub(crate) use fields::parse_seconds;

use crate::domain::read::json::Value;
use fields::Fields;

/// A file that is not a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Everything wrong with it; never empty.
    pub problems: Vec<Problem>,
    /// Whether the text only ends too early, as a file does that is still written.
    pub truncated: bool,
}

/// What a file in a task box may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A task.
    Task(Box<Submission>),
    /// What a git hook saw.
    Push(Box<Push>),
    /// What a monitor saw.
    Alert(Box<Alert>),
}

/// Reads a file of a task box: a task, or what a git hook or a monitor saw. Times without an offset are meant in `zone`.
///
/// # Errors
/// Every problem at once.
pub fn read_wish(bytes: &[u8], zone: &Zone) -> Result<Wish, Unreadable> {
    read_object(bytes, zone, "{\"task_name\": …}", |fields| {
        if fields.has(push::MARK) {
            return push::read(fields).map(|push| Wish::Push(Box::new(push)));
        }
        if fields.has(alert::MARK) {
            return alert::read(fields).map(|alert| Wish::Alert(Box::new(alert)));
        }
        task(fields).map(|task| Wish::Task(Box::new(task)))
    })
}

/// Reads a task file. Times without an offset are meant in `zone`.
///
/// # Errors
/// Every problem at once, as [`Problems`](crate::domain::problem::Problems) keeps them.
pub fn read_task(bytes: &[u8], zone: &Zone) -> Result<Submission, Unreadable> {
    read_object(bytes, zone, "{\"task_name\": …}", task)
}

fn task(fields: &mut Fields<'_>) -> Option<Submission> {
    if fields.has("title") && !fields.has("task_name") { open_devops::read(fields) } else { native::read(fields) }
}

/// Reads an order. Times without an offset are meant in `zone`.
///
/// # Errors
/// Every problem at once.
pub fn read_order(bytes: &[u8], zone: &Zone) -> Result<Order, Unreadable> {
    read_object(bytes, zone, "{\"order\": …}", order::read)
}

/// Reads a file that is one object, of which `read` takes the fields.
fn read_object<T>(
    bytes: &[u8],
    zone: &Zone,
    like: &str,
    read_fields: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, Unreadable> {
    let read = json::read(bytes);
    let Some(root) = read.root else {
        return Err(Unreadable { problems: read.problems.into_vec(), truncated: read.truncated });
    };
    let Value::Object(members) = root.value else {
        let problem = Problem::new("", root.value.kind(), format!("an object: {like}")).at(root.line, root.column);
        return Err(Unreadable { problems: vec![problem], truncated: false });
    };
    let mut fields = Fields::new(members, read.problems, zone);
    let value = read_fields(&mut fields);
    let problems = fields.finish();
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(Unreadable { problems, truncated: false }),
    }
}

#[cfg(test)]
mod tests;
