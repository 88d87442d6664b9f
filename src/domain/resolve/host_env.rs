//! The variables that the inventory has for scripts on a host. Floor 1.
//!
//! Every script has `SPOOLGATE_ADDRESS`, and as far as the inventory says them `SPOOLGATE_PROJECT`, `SPOOLGATE_CLUSTER`,
//! `SPOOLGATE_APP`, `SPOOLGATE_ENVIRONMENT` and `SPOOLGATE_LOCATION`. A template with `env_prefix = "ZDOPS"` gets them under the
//! names that ZDOPS's scripts know, and every variable of the inventory that begins with `ZDOPS_` as it is. What is not known
//! is not set.
//!
//! **Invariant:** pure.

use std::collections::BTreeMap;

use crate::base::ids::ParamName;
use crate::domain::inventory::Inventory;
use crate::domain::inventory::host::Host;

/// Returns the variables of a host.
pub(super) fn variables(host: &Host, inventory: &Inventory, prefix: Option<&ParamName>) -> BTreeMap<ParamName, String> {
    let facts = inventory.facts(host);
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        if let Some(name) = name.parse::<ParamName>().ok().filter(|_| !value.is_empty() && !value.contains('\0')) {
            variables.insert(name, value.to_owned());
        }
    };
    let known = [
        ("PROJECT", &facts.project),
        ("CLUSTER", &facts.cluster),
        ("APP", &facts.app),
        ("ENVIRONMENT", &facts.environment),
        ("LOCATION", &facts.location),
    ];
    for (name, value) in known {
        set(&format!("SPOOLGATE_{name}"), value);
    }
    set("SPOOLGATE_ADDRESS", &host.address);
    let Some(prefix) = prefix else { return variables };
    for (name, value) in known {
        let name = if name == "ENVIRONMENT" { "SYSTEM_ENV" } else { name };
        set(&format!("{prefix}_{name}"), value);
    }
    set(&format!("{prefix}_HOSTNAME"), host.name.as_str());
    set(&format!("{prefix}_HOSTIP"), &host.address);
    if let Some((kind, name)) = &facts.group {
        set(&format!("{prefix}_GROUPTYPE"), kind);
        set(&format!("{prefix}_GROUPNAME"), name);
    }
    for (name, value) in host.vars.iter().filter(|(name, _)| name.starts_with(&format!("{prefix}_"))) {
        set(name, value);
    }
    variables
}
