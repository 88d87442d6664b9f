//! The one form of an order.
//!
//! **Invariant:** a field that the order does not take is a problem; to ignore it would be to do something else than what
//! was wanted.

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName};
use crate::base::limits;
use crate::domain::order::{FAILED, Order, UNFINISHED, Which, Wish};
use crate::domain::read::json::Value;
use crate::domain::right::Right;
use crate::domain::wire::fields::Fields;

/// Reads the fields of an order; the problems stay in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Order> {
    let word = fields.text("order", limits::NAME_BYTES_MAX);
    let right = word.as_deref().and_then(|word| Right::ALL.into_iter().find(|right| right.word() == word));
    // What was removed from the audit is no task's.
    let task = if right == Some(Right::Acknowledge) { Some(String::new()) } else { read_task_word(fields) };
    let reason = fields.text("reason", limits::TITLE_BYTES_MAX).map(|reason| reason.trim().to_owned());
    let Some(wish) = right.and_then(|right| read_wish(right, fields)) else {
        if right.is_none() {
            let known = Right::ALL.map(Right::word).join(", ");
            fields.wrong("order", word.as_deref().unwrap_or("nothing"), &format!("one of {known}"));
        }
        return None;
    };
    let silent = matches!(
        wish,
        Wish::Approve { .. }
            | Wish::Release
            | Wish::ReleaseStep { .. }
            | Wish::Retry { .. }
            | Wish::Withdraw
            | Wish::Continue { .. }
    );
    if reason.is_none() && !silent {
        fields.missing("reason", "why, for the record");
    }
    Some(Order { task: task?, wish, reason })
}

fn read_task_word(fields: &mut Fields<'_>) -> Option<String> {
    let word = fields.take("task").and_then(|node| match node.value {
        Value::Number(text) => Some(text),
        Value::String(word) if !word.is_empty() && word.len() <= limits::DROP_NAME_BYTES_MAX => Some(word),
        _ => None,
    });
    if word.is_none() {
        fields.missing("task", "the task's number or the name it was dropped under");
    }
    word
}

fn read_wish(right: Right, fields: &mut Fields<'_>) -> Option<Wish> {
    Some(match right {
        Right::Approve => {
            let text = fields.text("digest", limits::TITLE_BYTES_MAX);
            let digest = text.as_deref().and_then(|text| text.parse::<Digest>().ok());
            if digest.is_none() {
                let wanted = "the digest of the plan you saw: sha256: and 64 hexadecimal digits";
                fields.wrong("digest", text.as_deref().unwrap_or("nothing"), wanted);
            }
            let (start, until) = (fields.time("start"), fields.time("until"));
            if let (Some(start), Some(until)) = (start, until)
                && until <= start
            {
                fields.wrong("until", &until.to_string(), "a time after start");
            }
            Wish::Approve { digest: digest?, start, until }
        }
        Right::Reject => Wish::Reject,
        Right::Withdraw => Wish::Withdraw,
        Right::Cancel if fields.peek("batch").is_some() || fields.peek("group").is_some() => {
            let (group, batch) = (read_number(fields, "group"), read_number(fields, "batch"));
            Wish::CancelBatch { group: GroupNo(group?), batch: batch? }
        }
        Right::Cancel => Wish::Cancel { hosts: read_hosts(fields) },
        Right::Hold => Wish::Hold,
        Right::Release => {
            let hosts = read_hosts(fields);
            match read_step(fields) {
                Some(step) => Wish::ReleaseStep { step, hosts },
                None if hosts.is_empty() => Wish::Release,
                None => {
                    fields.missing("step", "the step to let begin on these hosts");
                    return None;
                }
            }
        }
        Right::Retry => {
            let which = match fields.peek("hosts") {
                None => Which::Failed,
                Some(Value::String(word)) if word == FAILED => Which::Failed,
                Some(Value::String(word)) if word == UNFINISHED => Which::Unfinished,
                Some(_) => Which::Hosts(read_hosts(fields)),
            };
            fields.take("hosts");
            let step = read_step(fields);
            Wish::Retry { which, step, again: fields.flag("again") }
        }
        Right::Skip => {
            let (step, hosts) = (read_step(fields), read_hosts(fields));
            if step.is_none() {
                fields.missing("step", "the step to go on without");
            }
            Wish::Skip { step: step?, hosts }
        }
        Right::Continue => {
            let (group, batch) = (read_number(fields, "group"), read_number(fields, "batch"));
            Wish::Continue { group: GroupNo(group?), batch: batch? }
        }
        Right::Acknowledge => Wish::Acknowledge { line: read_number(fields, "line")? },
    })
}

/// Reads a number from 1, which must be there.
fn read_number<N: std::str::FromStr + PartialOrd + From<u8>>(fields: &mut Fields<'_>, name: &'static str) -> Option<N> {
    let wanted = "a whole number from 1";
    let Some(node) = fields.take(name) else {
        fields.missing(name, wanted);
        return None;
    };
    let word = match &node.value {
        Value::Number(word) | Value::String(word) => word.as_str(),
        other => other.kind(),
    };
    let number = word.parse().ok().filter(|number| *number >= N::from(1));
    if number.is_none() {
        fields.problem(format!("/{name}"), &node, word, wanted);
    }
    number
}

fn read_hosts(fields: &mut Fields<'_>) -> Vec<HostName> {
    fields.structure("hosts").map(|node| fields.hosts("/hosts", &node)).unwrap_or_default()
}

fn read_step(fields: &mut Fields<'_>) -> Option<crate::base::ids::StepName> {
    let text = fields.text("step", limits::NAME_BYTES_MAX)?;
    match text.parse() {
        Ok(step) => Some(step),
        Err(error) => {
            fields.wrong("step", &text, &error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::{Timestamp, Zone};
    use crate::domain::wire::read_order;

    #[test]
    fn orders_survive_being_written_and_read() {
        let digest = Digest::of(b"plan");
        let hosts = || vec!["web1".parse().expect("a name"), "数据库".parse().expect("a name")];
        let step = || "deploy".parse().expect("a name");
        let time = |ms| Some(Timestamp(ms));
        for wish in [
            Wish::Approve { digest, start: None, until: None },
            Wish::Approve { digest, start: time(1_700_000_000_000), until: time(1_700_000_001_000) },
            Wish::Reject,
            Wish::Withdraw,
            Wish::Cancel { hosts: Vec::new() },
            Wish::Cancel { hosts: hosts() },
            Wish::CancelBatch { group: GroupNo(2), batch: 3 },
            Wish::Hold,
            Wish::Release,
            Wish::Continue { group: GroupNo(1), batch: 2 },
            Wish::ReleaseStep { step: step(), hosts: Vec::new() },
            Wish::ReleaseStep { step: step(), hosts: hosts() },
            Wish::Retry { which: Which::Failed, step: None, again: false },
            Wish::Retry { which: Which::Unfinished, step: Some(step()), again: true },
            Wish::Retry { which: Which::Hosts(hosts()), step: None, again: false },
            Wish::Skip { step: step(), hosts: hosts() },
        ] {
            let order = Order { task: "291".to_owned(), wish, reason: Some("周五不发布".to_owned()) };
            assert_eq!(read_order(&order.write(), &Zone::utc()), Ok(order));
        }
        let about_no_task =
            Order { task: String::new(), wish: Wish::Acknowledge { line: 41 }, reason: Some("w".to_owned()) };
        assert_eq!(read_order(&about_no_task.write(), &Zone::utc()), Ok(about_no_task));
    }

    #[track_caller]
    fn check(text: &str, pointers: &[&str]) {
        let problems = read_order(text.as_bytes(), &Zone::utc()).expect_err(text).problems;
        let found: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(found, pointers, "{text}");
    }

    #[test]
    fn all_problems_of_an_order_are_reported() {
        check("{}", &["/task", "/order"]);
        check(r#"{"order":"approve","start":"soon"}"#, &["/task", "/digest", "/start"]);
        check(r#"{"order":"reject","task":1,"reason":"  "}"#, &["/reason"]);
        check(r#"{"order":"cancel","task":1,"reason":"y","batch":0}"#, &["/group", "/batch"]);
        check(r#"{"order":"cancel","task":1,"reason":"y","group":1,"batch":1,"hosts":["a"]}"#, &["/hosts"]);
        check(r#"{"order":"approve","task":1,"digest":"sha256:00"}"#, &["/digest"]);
        check(r#"{"order":"cancel","task":1,"by":"root"}"#, &["/reason", "/by"]);
        check(r#"{"order":"hold","task":1,"reason":"x","digest":"y"}"#, &["/digest"]);
        check(r#"{"order":"skip","task":1,"hosts":["a b"]}"#, &["/hosts", "/step"]);
        check(r#"{"order":"release","task":1,"hosts":["a"]}"#, &["/step"]);
        check(r#"{"order":"continue","task":1}"#, &["/group", "/batch"]);
        check(r#"{"order":"continue","task":1,"group":1,"batch":0}"#, &["/batch"]);
        check(r#"{"order":"acknowledge","task":1,"line":0}"#, &["/line", "/task"]);
        check(r#"{"order":"eat","task":1}"#, &["/order"]);
        check("[]", &[""]);
        let double = read_order(br#"{"order":"reject","order":"cancel","task":1,"reason":"x"}"#, &Zone::utc());
        assert!(double.is_err(), "two orders in one file");
        assert!(read_order(b"", &Zone::utc()).expect_err("empty").truncated);
    }
}
