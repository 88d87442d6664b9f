//! How much a task can break, as far as its plan shows.
//!
//! **Invariant:** pure, and only ever raised: whatever speaks for a higher level counts, nothing lowers it.

use crate::domain::level::Level;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::plan::Plan;

/// Where the levels begin; `[risk]` of `policy.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From how many hosts on a task is at least medium.
    pub medium_hosts: usize,
    /// From how many hosts on it is high.
    pub high_hosts: usize,
    /// Environments whose tasks are high.
    pub high_environments: BTreeSet<String>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        let production = ["prod", "production"].map(str::to_owned);
        Bounds { medium_hosts: 10, high_hosts: 100, high_environments: production.into() }
    }
}

/// A level, and everything that speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    /// The level.
    pub level: Level,
    /// Why it is not lower, one sentence each.
    pub reasons: Vec<String>,
}

impl Risk {
    /// Returns what an approver types, so that no habit can answer.
    #[must_use]
    pub fn phrase(&self, plan: &Plan) -> String {
        let hosts = plan.hosts.len();
        match self.level {
            Level::Low => "yes".to_owned(),
            Level::Medium => hosts.to_string(),
            Level::High => format!("{} {hosts}", plan.work_name()),
        }
    }

    /// Looks at a plan.
    #[must_use]
    pub fn of(plan: &Plan, bounds: &Bounds) -> Risk {
        let mut risk = Risk::default();
        match (&plan.template, plan.risk) {
            (None, level) => risk.raise(level.max(Level::Medium), "a script without a template"),
            (Some(_), Level::Low) => {}
            (Some(template), level) => risk.raise(level, &format!("the template {} says so", template.name)),
        }
        let hosts = plan.hosts.len();
        if hosts >= bounds.high_hosts {
            risk.raise(Level::High, &format!("{hosts} hosts"));
        } else if hosts >= bounds.medium_hosts {
            risk.raise(Level::Medium, &format!("{hosts} hosts"));
        }
        let environments: BTreeSet<&str> = plan.hosts.values().map(|host| host.environment.as_str()).collect();
        for environment in environments.into_iter().filter(|name| bounds.high_environments.contains(*name)) {
            risk.raise(Level::High, &format!("hosts of the environment {environment}"));
        }
        let warnings = plan.warnings().len();
        if warnings > 0 {
            risk.raise(Level::Medium, &format!("{warnings} warning(s)"));
        }
        risk
    }

    fn raise(&mut self, level: Level, reason: &str) {
        if level > Level::Low {
            self.level = self.level.max(level);
            self.reasons.push(format!("{reason}: {}", level.word()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::host::Connection;
    use crate::domain::known_hosts::HostKey;
    use crate::domain::plan::{PlannedHost, UsedTemplate};

    #[track_caller]
    fn check(template: Option<Level>, hosts: usize, environment: &str, want: Level) {
        let mut plan = Plan::empty_for_tests();
        plan.template = template.map(|_| UsedTemplate {
            file: crate::base::digest::Digest::of(b""),
            id: 1,
            name: "t".parse().expect("a name"),
        });
        plan.risk = template.unwrap_or_default();
        for n in 0..hosts {
            let host = PlannedHost {
                environment: environment.to_owned(),
                connection: Connection::Ssh,
                host_keys: [HostKey { algorithm: "ssh-ed25519".to_owned(), fingerprint: "SHA256:x".to_owned() }].into(),
                ..PlannedHost::local_for_tests()
            };
            plan.hosts.insert(format!("h{n}").parse().expect("a name"), host);
        }
        let risk = Risk::of(&plan, &Bounds::default());
        assert_eq!(risk.level, want, "{template:?} {hosts} {environment} {:?}", risk.reasons);
        assert_eq!(risk.reasons.is_empty(), want == Level::Low, "a level has its reasons");
    }

    #[test]
    fn everything_that_speaks_for_a_level_counts() {
        check(Some(Level::Low), 1, "test", Level::Low);
        check(Some(Level::Medium), 1, "", Level::Medium);
        check(Some(Level::High), 1, "", Level::High);
        check(None, 1, "", Level::Medium);
        check(Some(Level::Low), 9, "", Level::Low);
        check(Some(Level::Low), 10, "", Level::Medium);
        check(Some(Level::Low), 100, "", Level::High);
        check(Some(Level::Low), 1, "prod", Level::High);
        check(Some(Level::Low), 1, "production", Level::High);
        check(Some(Level::Low), 1, "product", Level::Low);
        // What runs here could change the record of it.
        let mut plan = Plan::empty_for_tests();
        plan.hosts.insert("here".parse().expect("a name"), PlannedHost::local_for_tests());
        assert!(plan.warnings().iter().any(|warning| warning.starts_with("here is this machine")));
    }
}
