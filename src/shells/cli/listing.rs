//! `hosts`: what there is to name in a task. Floor 4.
//!
//! **Invariant:** what is listed is what the daemon would resolve against, were it started now.

use crate::domain::inventory::host::Connection;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::Failure;

/// Lists the hosts of the inventory.
pub(in crate::shells) fn hosts(context: &Context) -> Result<(), Failure> {
    let library = context.config()?.library;
    let keys = |address: &str, port| library.known_hosts.keys_for(address, port).len();
    if context.output.json {
        let rows: Vec<_> = library
            .inventory
            .hosts
            .values()
            .map(|host| {
                let groups: Vec<_> = library.inventory.groups_of(&host.name).collect();
                serde_json::json!({
                    "name": host.name, "address": host.address, "port": host.port, "connection": host.connection,
                    "groups": groups, "tags": host.tags, "known_keys": keys(&host.address, host.port),
                })
            })
            .collect();
        return context.output.object(serde_json::json!({ "hosts": rows }));
    }
    for host in library.inventory.hosts.values() {
        let way = match host.connection {
            Connection::Local => "on this machine".to_owned(),
            Connection::Ssh => {
                let known = if keys(&host.address, host.port) == 0 { "  NO KNOWN KEY" } else { "" };
                format!("{}:{}{known}", host.address, host.port)
            }
        };
        let groups = library.inventory.groups_of(&host.name).collect::<Vec<_>>().join(" ");
        context.output.line(format!("{:<24} {way:<32} {groups}", host.name))?;
    }
    Ok(())
}
