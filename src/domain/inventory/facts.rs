//! Projects, clusters and applications, and what a host knows of itself. Floor 1.
//!
//! Groups say what they are by a variable of their own, as in CODO's ancestors:
//!
//! ```ini
//! [shop-web:vars]
//! ZDOPS_APP = shop-web
//! [shop:children]
//! shop-web
//! [shop:vars]
//! ZDOPS_PROJECT = shop
//! ```
//!
//! **Invariant:** pure. A host is in an application when one of its groups says so, in however many groups it stands;
//! its variable is the one that Ansible's precedence leaves, and so one of them.

use std::collections::BTreeSet;

use super::Inventory;
use super::host::{Host, first};
use super::levels::Level;
use crate::base::ids::HostName;

/// What is known of a host beside how it is reached; empty where the inventory does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The project it belongs to.
    pub project: String,
    /// The cluster in it.
    pub cluster: String,
    /// The application on it.
    pub app: String,
    /// The environment: see [`Host::environment`].
    pub environment: String,
    /// Where it stands.
    pub location: String,
    /// The narrowest of application, cluster and project that is known: what it is (`app`) and its name.
    pub group: Option<(String, String)>,
}

impl Inventory {
    /// Returns what is known of a host beside how it is reached.
    #[must_use]
    pub fn facts(&self, host: &Host) -> Facts {
        let of = |level: Level| {
            let named = first(&host.vars, &level.variables());
            if !named.is_empty() {
                return named.to_owned();
            }
            let mut groups =
                self.levels.iter().filter(|((kind, _), hosts)| *kind == level && hosts.contains(&host.name));
            groups.next().map(|((_, name), _)| name.clone()).unwrap_or_default()
        };
        let [project, cluster, app] = Level::ALL.map(of);
        let named = [(Level::App, &app), (Level::Cluster, &cluster), (Level::Project, &project)];
        let group = named.into_iter().find(|(_, name)| !name.is_empty());
        let group = group.map(|(level, name)| (level.word().to_owned(), name.clone()));
        let (environment, location) = (host.environment().to_owned(), host.location().to_owned());
        Facts { project, cluster, app, environment, location, group }
    }

    /// Returns the hosts that a group puts into a project, cluster or application.
    pub(super) fn put_into(&self, level: Level, name: &str) -> Option<&BTreeSet<HostName>> {
        self.levels.get(&(level, name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "
[all:vars]
ZDOPS_SYSTEM_ENV=test
[bbs-web]
web1 ZDOPS_LOCATION=aliyun
both
[bbs-web:vars]
ZDOPS_APP=bbs-web
[bbs-api]
both
api1 env=prod
[bbs-api:vars]
ZDOPS_APP=bbs-api
[front:children]
bbs-web
[front:vars]
ZDOPS_CLUSTER = front
[bbs:children]
front
bbs-api
[bbs:vars]
project = bbs
[other]
lone
";

    #[track_caller]
    fn check(host: &str, want: &str) {
        let inventory = Inventory::assemble(vec![("a.ini".to_owned(), TREE.to_owned())]).unwrap();
        let facts = inventory.facts(&inventory.hosts[&host.parse().unwrap()]);
        let group = facts.group.map(|(kind, name)| format!("{kind}:{name}")).unwrap_or_default();
        let shown = [facts.project, facts.cluster, facts.app, facts.environment, facts.location, group].join("/");
        assert_eq!(shown, want, "{host}");
    }

    #[test]
    fn a_host_knows_its_place() {
        check("web1", "bbs/front/bbs-web/test/aliyun/app:bbs-web");
        check("api1", "bbs//bbs-api/test//app:bbs-api");
        check("both", "bbs/front/bbs-web/test//app:bbs-web");
        check("lone", "///test//");
    }

    #[test]
    fn a_host_in_two_applications_is_in_both_and_once_in_their_project() {
        let inventory = Inventory::assemble(vec![("a.ini".to_owned(), TREE.to_owned())]).unwrap();
        let names = |level, name| {
            let word = format!("{}:{name}", Level::word(level));
            let hosts = crate::domain::inventory::selector::select(&inventory, &word).unwrap_or_default();
            hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(Level::App, "bbs-web"), "both web1");
        assert_eq!(names(Level::App, "bbs-api"), "api1 both");
        assert_eq!(names(Level::Project, "bbs"), "api1 both web1");
        assert_eq!(names(Level::Project, ""), "");
    }
}
