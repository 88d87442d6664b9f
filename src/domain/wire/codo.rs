//! CODO's accept form: what its server said of a body, in its numbers and words.
//!
//! **Invariant:** pure. A body that CODO took is taken, with two exceptions that it ran wrongly: a group that the template
//! does not have is refused instead of dropped, and an address must be one instead of holding something like one.

use core::net::Ipv4Addr;
use std::collections::BTreeSet;

use crate::base::ids::HostName;
use crate::base::limits;
use crate::base::time::Zone;
use crate::domain::library::Library;
use crate::domain::problem::Problem;
use crate::domain::read::json::{self, Member, Node, Value};
use crate::domain::submission::TemplateRef;
use crate::domain::template::Template;
use crate::domain::wire::fields::Fields;
use crate::domain::wire::native;

/// How many hosts CODO takes in one group.
const HOSTS_MAX: usize = 100;

/// Why a body makes no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodoRefusal {
    /// CODO's number for it, or the HTTP status where CODO had none.
    pub code: i32,
    /// CODO's words.
    pub message: String,
    /// What exactly is wrong, where there is more to say.
    pub problems: Vec<Problem>,
}

/// A body that may become a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodoBody {
    /// The task file that it is.
    pub text: Vec<u8>,
    /// Its fields that nobody knows; CODO ignores them too.
    pub ignored: Vec<String>,
}

/// Reads a body as CODO's server does.
///
/// # Errors
/// The first row of CODO's table that it falls under; what CODO's server would have broken down over has the code 400.
pub fn read_codo(body: &[u8], library: &Library) -> Result<CodoBody, CodoRefusal> {
    let read = json::read(body);
    let problems = read.problems.into_vec();
    let Some(root) = read.root else { return Err(unreadable(problems)) };
    let Value::Object(members) = root.value else {
        let found = Problem::new("", root.value.kind(), "an object: {\"task_name\": …}").at(root.line, root.column);
        return Err(unreadable(vec![found]));
    };
    if !problems.is_empty() {
        return Err(unreadable(problems));
    }
    let missing = ["temp_id", "hosts", "task_name", "submitter"].iter().any(|name| is_empty(&members, name));
    if missing {
        return Err(refusal(6, "必要参数缺失"));
    }
    let ignored: Vec<String> = members
        .iter()
        .map(|member| member.name.clone())
        .filter(|name| !native::FIELDS.contains(&name.as_str()))
        .collect();
    check_hosts(members, library)?;
    let text = if ignored.is_empty() { body.to_vec() } else { without(body, &ignored) };
    Ok(CodoBody { text, ignored })
}

fn refusal(code: i32, message: &str) -> CodoRefusal {
    CodoRefusal { code, message: message.to_owned(), problems: Vec::new() }
}

fn unreadable(problems: Vec<Problem>) -> CodoRefusal {
    let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    CodoRefusal { code: 400, message, problems }
}

fn is_empty(members: &[Member], name: &str) -> bool {
    let value = members.iter().find(|member| member.name == name).map(|member| &member.node.value);
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

/// Takes the groups one after the other as CODO does, and stops at the first that is wrong.
fn check_hosts(members: Vec<Member>, library: &Library) -> Result<(), CodoRefusal> {
    let zone = Zone::utc();
    let mut fields = Fields::new(members, crate::domain::problem::Problems::default(), &zone);
    let temp_id = fields.take("temp_id");
    let groups = fields.structure("hosts").map(|node| groups_of(&node));
    let Some(Some(groups)) = groups else {
        // What is wrong with it, the reader of task files says in full.
        return Ok(());
    };
    let template = temp_id.and_then(|node| template_of(&node, library));
    let Some(template) = template else { return Ok(()) };
    let wanted: BTreeSet<u32> = template.named_groups().map(|group| group.0).collect();
    for group in &wanted {
        let hosts = groups.iter().find(|(number, _)| number == group).map_or(&[][..], |(_, hosts)| hosts);
        if hosts.is_empty() {
            return Err(refusal(-4, "The exec host cannot be empty"));
        }
        if hosts.len() > HOSTS_MAX {
            return Err(refusal(-4, "Too many hosts, please execute in groups"));
        }
        if !hosts.iter().all(|host| is_address(host, library)) {
            return Err(refusal(5, "ip格式有误"));
        }
    }
    // Hosts of a group that forces its own are no mistake there, and change nothing.
    let known = |number: &u32| template.steps.iter().any(|step| step.group.0 == *number);
    if groups.iter().any(|(number, _)| !known(number)) {
        return Err(refusal(-3, "Host groupings and template groupings mismatch"));
    }
    Ok(())
}

/// Whether it is an IPv4 address, or a name that the inventory knows.
fn is_address(host: &str, library: &Library) -> bool {
    host.parse::<Ipv4Addr>().is_ok()
        || host.parse::<HostName>().is_ok_and(|name| library.inventory.hosts.contains_key(&name))
}

fn template_of<'a>(node: &Node, library: &'a Library) -> Option<&'a Template> {
    let (Value::String(word) | Value::Number(word)) = &node.value else { return None };
    let by_number = word.parse().ok().map(TemplateRef::Id);
    let wanted = by_number.or_else(|| word.parse().ok().map(TemplateRef::Name))?;
    library.catalogue.find(&wanted)
}

/// Returns the hosts of each group; `None` when they are in no form that is known.
fn groups_of(node: &Node) -> Option<Vec<(u32, Vec<String>)>> {
    let Value::Object(members) = &node.value else { return None };
    members.iter().map(|member| Some((member.name.trim().parse().ok()?, words_of(&member.node)?))).collect()
}

fn words_of(node: &Node) -> Option<Vec<String>> {
    let split =
        |text: &str| text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
    match &node.value {
        Value::String(text) => Some(split(text)),
        Value::Array(items) => items
            .iter()
            .map(|item| if let Value::String(text) = &item.value { Some(text.trim().to_owned()) } else { None })
            .collect(),
        _ => None,
    }
}

/// Writes an object without some of its fields. It was read, so it is one.
fn without(body: &[u8], names: &[String]) -> Vec<u8> {
    let Ok(mut object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) else {
        return body.to_vec();
    };
    for name in names {
        object.remove(name);
    }
    serde_json::Value::Object(object).to_string().into_bytes()
}

/// How many bytes a body may have.
pub const CODO_BODY_BYTES_MAX: u64 = limits::HTTP_BODY_BYTES_MAX;
