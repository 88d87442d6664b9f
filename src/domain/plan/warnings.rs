//! What an approver should look at twice. Floor 1.
//!
//! **Invariant:** pure. A warning decides nothing; what it is about stands in the plan and its digest.

use super::Plan;
use crate::domain::inventory::Connection;

impl Plan {
    /// Returns what an approver should look at twice, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let keyless: Vec<&str> = self
            .hosts
            .iter()
            .filter(|(_, host)| {
                let keyless = host.host_keys.is_empty() || host.jump.iter().any(|hop| hop.host_keys.is_empty());
                host.connection == Connection::Ssh && keyless
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let mut warnings = Vec::new();
        if let Some(first) = keyless.first() {
            warnings.push(format!(
                "{} host(s), or hosts on the way to them, have no known key and will be refused, {first} first; add their keys to known_hosts",
                keyless.len()
            ));
        }
        for (name, value) in self.env.iter().chain(self.groups.iter().flat_map(|g| &g.steps).flat_map(|s| &s.env)) {
            if value.chars().any(crate::base::text::is_hidden) {
                warnings.push(format!("parameter {name} holds hidden characters"));
            }
        }
        for script in self.scripts.values() {
            if script.chars().any(|c| !matches!(c, '\n' | '\t' | '\r') && crate::base::text::is_hidden(c)) {
                warnings.push("a script holds hidden characters".to_owned());
            }
        }
        warnings
    }
}
