//! Orders: acts on a task, dropped as small JSON files into `orders/`.
//!
//! **Invariant:** an order says what is wanted, never who wants it; that is the file's owner.

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::limits;
use crate::base::time::{Timestamp, Zone, parse_time};
use crate::domain::problem::Problem;

/// An act on a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The task's number, or the name it was dropped under.
    pub task: String,
    /// What is wanted.
    pub act: Act,
}

/// What an order wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Let exactly the plan of this digest run.
    Approve {
        /// The plan the approver saw.
        digest: Digest,
        /// When it may start; the plan's own time when `None`.
        start: Option<Timestamp>,
    },
    /// Never run the task.
    Reject {
        /// Why, for the record.
        reason: String,
    },
    /// Stop the task: what runs is killed, what has not started never starts.
    Cancel {
        /// Why, for the record.
        reason: String,
    },
}

impl Act {
    /// Returns the word the file uses.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Act::Approve { .. } => "approve",
            Act::Reject { .. } => "reject",
            Act::Cancel { .. } => "cancel",
        }
    }
}

/// The file's form.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderFile {
    order: Option<String>,
    task: Option<TaskWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum TaskWord {
    Number(u64),
    Word(String),
}

impl Order {
    /// Reads an order file.
    ///
    /// # Errors
    /// Every problem of a readable file at once; a file that is not a JSON object of the known fields has one.
    pub fn read(bytes: &[u8], zone: &Zone) -> Result<Order, Vec<Problem>> {
        let file: OrderFile = serde_json::from_slice(bytes).map_err(|error| {
            let position = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let problem = Problem::new("", error.to_string(), "an object with order, task, digest, start, reason");
            vec![problem.at(position(error.line()), position(error.column()))]
        })?;
        let mut problems = Vec::new();
        let task = match file.task {
            Some(TaskWord::Number(id)) => id.to_string(),
            Some(TaskWord::Word(word)) if !word.is_empty() && word.len() <= limits::DROP_NAME_BYTES_MAX => word,
            _ => {
                problems.push(Problem::new("/task", "nothing", "the task's number or the name it was dropped under"));
                String::new()
            }
        };
        let act = match file.order.as_deref() {
            Some("approve") => read_approve(file.digest.as_deref(), file.start.as_deref(), zone, &mut problems),
            Some("reject") => read_reason(file.reason.as_deref(), &mut problems).map(|reason| Act::Reject { reason }),
            Some("cancel") => read_reason(file.reason.as_deref(), &mut problems).map(|reason| Act::Cancel { reason }),
            other => {
                problems.push(Problem::new("/order", other.unwrap_or("nothing"), "approve, reject or cancel"));
                None
            }
        };
        match act {
            Some(act) if problems.is_empty() => Ok(Order { task, act }),
            _ => Err(problems),
        }
    }

    /// Writes the order as a file, the form that [`Order::read`] takes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut file = OrderFile {
            order: Some(self.act.word().to_owned()),
            task: Some(TaskWord::Word(self.task.clone())),
            ..OrderFile::default()
        };
        match &self.act {
            Act::Approve { digest, start } => {
                file.digest = Some(digest.to_string());
                file.start = start.map(|start| start.to_string());
            }
            Act::Reject { reason } | Act::Cancel { reason } => file.reason = Some(reason.clone()),
        }
        serde_json::to_vec(&file).expect("strings serialise")
    }
}

fn read_approve(digest: Option<&str>, start: Option<&str>, zone: &Zone, problems: &mut Vec<Problem>) -> Option<Act> {
    let parsed = digest.and_then(|digest| digest.parse().ok());
    if parsed.is_none() {
        let wanted = "the digest of the plan you saw: sha256: and 64 hexadecimal digits";
        problems.push(Problem::new("/digest", digest.unwrap_or("nothing"), wanted));
    }
    let start = start.and_then(|text| match parse_time(text, zone) {
        Ok(time) => Some(time),
        Err(error) => {
            problems.push(Problem::new("/start", text, error.to_string()));
            None
        }
    });
    parsed.map(|digest| Act::Approve { digest, start })
}

fn read_reason(reason: Option<&str>, problems: &mut Vec<Problem>) -> Option<String> {
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty() && reason.len() <= limits::TITLE_BYTES_MAX);
    if reason.is_none() {
        let wanted = format!("why, in 1 to {} bytes", limits::TITLE_BYTES_MAX);
        problems.push(Problem::new("/reason", "nothing, or too much", wanted));
    }
    reason.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_being_written_and_read() {
        let digest = Digest::of(b"plan");
        for act in [
            Act::Approve { digest, start: None },
            Act::Approve { digest, start: Some(Timestamp(1_700_000_000_000)) },
            Act::Reject { reason: "周五不发布".to_owned() },
            Act::Cancel { reason: "wrong host".to_owned() },
        ] {
            let order = Order { task: "291".to_owned(), act };
            assert_eq!(Order::read(&order.write(), &Zone::utc()), Ok(order));
        }
    }

    #[track_caller]
    fn check(text: &str, pointers: &[&str]) {
        let problems = Order::read(text.as_bytes(), &Zone::utc()).expect_err(text);
        let found: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(found, pointers, "{text}");
    }

    #[test]
    fn all_problems_of_an_order_are_reported() {
        check("{}", &["/task", "/order"]);
        check(r#"{"order":"approve","start":"soon"}"#, &["/task", "/digest", "/start"]);
        check(r#"{"order":"reject","task":1,"reason":"  "}"#, &["/reason"]);
        check(r#"{"order":"approve","task":1,"digest":"sha256:00"}"#, &["/digest"]);
        check(r#"{"order":"approve","order":"cancel"}"#, &[""]);
        check(r#"{"order":"cancel","task":1,"by":"root"}"#, &[""]);
        check("", &[""]);
    }
}
