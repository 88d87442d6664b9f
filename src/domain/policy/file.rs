//! Reads `policy.toml`.
//!
//! **Invariant:** pure. Every field is known or a problem, with its line; roles are written out, so that a rule holds
//! only names and groups.

use std::collections::BTreeMap;

use super::Policy;
use super::freeze::{Freeze, Span};
use super::rule::{ApproveRule, AuditRule, ControlRule, RequireRule, SubmitRule};
use super::rules::{Rules, Unproved};
use super::scope::Scope;
use super::see::{Part, SeeRule};
use crate::base::time::{BadTime, Timestamp, Zone, parse_end, parse_time};
use crate::base::week::{WeekSpan, WeekTime};
use crate::domain::level::Level;
use crate::domain::problem::Problem;
use crate::domain::read::toml_table::{Fields, Sheet, Text};
use crate::domain::right::Right;
use crate::domain::submission::Schedule;

/// The most approvals a rule may ask for; more is a typing error that no task would survive.
const APPROVALS_MAX: u32 = 100;

type Roles = BTreeMap<String, Vec<String>>;

impl Policy {
    /// Reads `policy.toml`; wall-clock times in it are meant in `zone`.
    ///
    /// # Errors
    /// Every problem of the file, each with `file:line`.
    pub fn parse(file: &str, text: &str, zone: &Zone) -> Result<Policy, Vec<Problem>> {
        read(file, text, zone).map(|rules| Policy::Rules(Box::new(rules)))
    }
}

fn read(file: &str, text: &str, zone: &Zone) -> Result<Rules, Vec<Problem>> {
    let sheet = Sheet::new(file, text);
    let mut fields = sheet.fields();
    let mut rules = Rules::default();
    let roles = read_roles(&mut fields);
    if let Some(risk) = fields.table("risk") {
        read_bounds(risk, &mut rules);
    }
    if let Some(word) = fields.string("unproved") {
        match Unproved::parse(&word.value) {
            Some(unproved) => rules.unproved = unproved,
            None => sheet.problem(&word.span, &word.value, "mark, one-more or refuse"),
        }
    }
    for table in fields.tables("submit") {
        rules.submit.extend(read_submit(table, &roles));
    }
    for table in fields.tables("approve") {
        rules.approve.extend(read_approve(table, &roles));
    }
    for table in fields.tables("require") {
        rules.require.push(read_require(table, &roles));
    }
    for table in fields.tables("control") {
        rules.control.extend(read_control(table, &roles));
    }
    for mut table in fields.tables("audit") {
        let (rule, who) = (rule_name(&table, "audit"), read_who(&mut table, &roles));
        table.finish();
        rules.audit.extend(who.map(|who| AuditRule { rule, who }));
    }
    for table in fields.tables("see") {
        rules.see.extend(read_see(table, &roles));
    }
    for table in fields.tables("freeze") {
        rules.freeze.extend(read_freeze(table, &roles, zone));
    }
    fields.finish();
    let problems = sheet.into_problems();
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn read_roles(fields: &mut Fields<'_>) -> Roles {
    let sheet = fields.sheet();
    let mut roles = Roles::new();
    for (name, mut table) in fields.named_tables("role") {
        let members = table.strings("members");
        if members.is_empty() {
            sheet.problem(&name.span, format!("the role {} without members", name.value), "members = [\"@group\", …]");
        }
        for member in members.iter().filter(|member| member.value.starts_with("role:")) {
            sheet.problem(&member.span, &member.value, "names and @groups: a role holds no roles");
        }
        table.finish();
        roles.insert(name.value, members.into_iter().map(|member| member.value).collect());
    }
    roles
}

/// Reads a list of people and writes roles out.
fn read_people(table: &mut Fields<'_>, key: &'static str, roles: &Roles) -> Vec<String> {
    let sheet = table.sheet();
    let mut people = Vec::new();
    for word in table.strings(key) {
        match word.value.strip_prefix("role:").map(|role| roles.get(role)) {
            None if word.value.is_empty() || word.value == "@" => {
                sheet.problem(&word.span, &word.value, "a name, an @group, a role:name or *");
            }
            None => people.push(word.value),
            Some(Some(members)) => people.extend(members.iter().cloned()),
            Some(None) => {
                let known = roles.keys().map(|role| format!("role:{role}")).collect::<Vec<_>>().join(", ");
                sheet.problem(&word.span, &word.value, format!("a role of this file: {known}"));
            }
        }
    }
    people
}

/// Reads `who`, which every rule that allows something must have.
fn read_who(table: &mut Fields<'_>, roles: &Roles) -> Option<Vec<String>> {
    let listed = table.has("who");
    let who = read_people(table, "who", roles);
    table.need("who", listed.then_some(who))
}

fn read_scope(table: &mut Fields<'_>, must: bool) -> Option<Scope> {
    let values = |texts: Vec<Text>| texts.into_iter().map(|text| text.value).collect::<Vec<_>>();
    let listed = table.has("templates");
    let templates = values(table.strings("templates"));
    let (tags, environments) = (values(table.strings("tags")), values(table.strings("environments")));
    let mut risk = Vec::new();
    for word in table.strings("risk") {
        match Level::parse(&word.value) {
            Some(level) => risk.push(level),
            None => table.sheet().problem(&word.span, &word.value, "low, medium or high"),
        }
    }
    if must {
        table.need("templates", listed.then_some(()))?;
    }
    Some(Scope { templates, tags, environments, risk })
}

/// Names a rule by its place.
fn rule_name(table: &Fields<'_>, kind: &str) -> String {
    format!("{} [[{kind}]]", table.sheet().pointer(table.span().start))
}

fn read_submit(mut table: Fields<'_>, roles: &Roles) -> Option<SubmitRule> {
    let rule = rule_name(&table, "submit");
    let (who, scope) = (read_who(&mut table, roles), read_scope(&mut table, true));
    let listed = table.has("into");
    let mut into = Vec::new();
    for word in table.strings("into") {
        match word.value.as_str() {
            "new" => into.push(Schedule::New),
            "ready" => into.push(Schedule::Ready),
            other => table.sheet().problem(&word.span, other, "new or ready"),
        }
    }
    table.need("into", listed.then_some(()))?;
    table.finish();
    Some(SubmitRule { rule, who: who?, scope: scope?, into })
}

fn read_approve(mut table: Fields<'_>, roles: &Roles) -> Option<ApproveRule> {
    let rule = rule_name(&table, "approve");
    let (who, scope) = (read_who(&mut table, roles), read_scope(&mut table, true));
    let approvals = table.integer("approvals", 1..=APPROVALS_MAX);
    let own = table.boolean("self").unwrap_or(false);
    let named = table.boolean("named").unwrap_or(false);
    table.finish();
    Some(ApproveRule { rule, who: who?, scope: scope?, approvals, own, named })
}

fn read_require(mut table: Fields<'_>, roles: &Roles) -> RequireRule {
    let rule = rule_name(&table, "require");
    let scope = read_scope(&mut table, false).unwrap_or_default();
    let approvals = table.integer("approvals", 1..=APPROVALS_MAX).unwrap_or(1);
    let of = read_people(&mut table, "of", roles);
    table.finish();
    RequireRule { rule, scope, approvals, of }
}

fn read_control(mut table: Fields<'_>, roles: &Roles) -> Option<ControlRule> {
    let rule = rule_name(&table, "control");
    let (who, scope) = (read_who(&mut table, roles), read_scope(&mut table, true));
    let mut acts = Vec::new();
    for word in table.strings("acts") {
        let controls = Right::ALL.into_iter().filter(|right| (Right::Cancel..=Right::Continue).contains(right));
        if let Some(right) = controls.clone().find(|right| right.word() == word.value) {
            acts.push(right);
        } else {
            let known = controls.map(Right::word).collect::<Vec<_>>().join(", ");
            table.sheet().problem(&word.span, &word.value, format!("one of {known}"));
        }
    }
    let own = table.boolean("own").unwrap_or(false);
    table.finish();
    Some(ControlRule { rule, who: who?, scope: scope?, acts, own })
}

fn read_see(mut table: Fields<'_>, roles: &Roles) -> Option<SeeRule> {
    let rule = rule_name(&table, "see");
    let (who, scope) = (read_who(&mut table, roles), read_scope(&mut table, true));
    let submitters = read_people(&mut table, "submitters", roles);
    let mut parts = Vec::new();
    for word in table.strings("parts") {
        match Part::parse(&word.value) {
            Some(part) => parts.push(part),
            None => table.sheet().problem(&word.span, &word.value, "plan, output or environment"),
        }
    }
    table.finish();
    Some(SeeRule { rule, who: who?, scope: scope?, submitters, parts })
}

fn read_freeze(mut table: Fields<'_>, roles: &Roles, zone: &Zone) -> Option<Freeze> {
    let name = table.string("name");
    let name = table.need("name", name);
    let scope = read_scope(&mut table, false);
    let (from, to) = (table.string("from"), table.string("to"));
    let (from, to) = (table.need("from", from), table.need("to", to));
    let except = read_people(&mut table, "except", roles);
    let sheet = table.sheet();
    table.finish();
    let (from, to) = (from?, to?);
    let span = Some(to.span.clone());
    let span = if let (Ok(from), Ok(to)) = (from.value.parse::<WeekTime>(), to.value.parse::<WeekTime>()) {
        if from == to {
            sheet.problem(
                span.as_ref().unwrap_or(&(0..0)),
                "a freeze from and to the same time",
                "two times of the week",
            );
        }
        Span::Weekly { span: WeekSpan { from, to }, zone: zone.clone() }
    } else {
        let read = |text: &Text, time: Result<Timestamp, BadTime>| {
            let wanted = |why| match why {
                BadTime::Malformed => {
                    "two days of the week with times, such as Fri 16:00, or two times, such as 2026-12-24 00:00"
                        .to_owned()
                }
                other => other.to_string(),
            };
            time.map_err(|why| sheet.problem(&text.span, &text.value, wanted(why))).ok()
        };
        let (start, end) = (read(&from, parse_time(&from.value, zone)), read(&to, parse_end(&to.value, zone)));
        let (start, end) = (start?, end?);
        if end <= start {
            sheet.problem(&to.span, &to.value, "a time after from");
        }
        Span::Once { from: start, to: end }
    };
    Some(Freeze { name: name?.value, scope: scope?, span, except })
}

fn read_bounds(mut table: Fields<'_>, rules: &mut Rules) {
    let bounds = &mut rules.bounds;
    let hosts = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    bounds.medium_hosts = table.integer("medium_hosts", 1..=u32::MAX).map_or(bounds.medium_hosts, hosts);
    bounds.high_hosts = table.integer("high_hosts", 1..=u32::MAX).map_or(bounds.high_hosts, hosts);
    if table.has("high_environments") {
        bounds.high_environments = table.strings("high_environments").into_iter().map(|text| text.value).collect();
    }
    table.finish();
}
