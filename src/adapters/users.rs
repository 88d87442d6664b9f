//! Asks the system's user database (NSS) who a number is. Floor 3.
//!
//! **Invariant:** read only; a number without a name is still somebody, called `uid-N`.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Group, Uid, User, getgrouplist};

use crate::base::ids::Actor;
use crate::domain::policy::Person;

/// Returns who a uid is.
#[must_use]
pub fn actor(uid: u32) -> Actor {
    let user = account(uid).map_or_else(|| format!("uid-{uid}"), |user| user.name);
    Actor { uid, user }
}

/// Returns the names of a user's groups; none when the system does not know the user.
#[must_use]
pub fn groups(uid: u32) -> BTreeSet<String> {
    let Some(user) = account(uid) else { return BTreeSet::new() };
    let Ok(name) = CString::new(user.name) else { return BTreeSet::new() };
    let ids = getgrouplist(&name, user.gid).unwrap_or_default();
    ids.into_iter().filter_map(|id| Group::from_gid(id).ok().flatten()).map(|group| group.name).collect()
}

/// Returns who a uid is, with their groups; `None` where the user database does not answer: a directory service that is
/// away for a moment is no reason to take anybody for gone. A uid without an account is `uid-N` and in no group.
#[must_use]
pub fn person(uid: u32) -> Option<Person> {
    let Some(user) = User::from_uid(Uid::from_raw(uid)).ok()? else {
        return Some(Person { actor: Actor { uid, user: format!("uid-{uid}") }, groups: BTreeSet::new() });
    };
    let name = CString::new(user.name.clone()).ok()?;
    let groups = getgrouplist(&name, user.gid).ok()?.into_iter().map(Group::from_gid);
    let groups: Result<Vec<Option<Group>>, _> = groups.collect();
    let groups = groups.ok()?.into_iter().flatten().map(|group| group.name).collect();
    Some(Person { actor: Actor { uid, user: user.name }, groups })
}

/// Returns the number of a user.
#[must_use]
pub fn uid_of(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// Returns the number of a group.
#[must_use]
pub fn gid_of(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// Returns the uid that this process acts with.
#[must_use]
pub fn current_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Returns the home directory of a user.
#[must_use]
pub fn home(uid: u32) -> Option<PathBuf> {
    account(uid).map(|user| user.dir)
}

fn account(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_where_the_system_knows_them() {
        assert_eq!(actor(0).user, "root");
        assert!(groups(0).contains("root"));
        assert_eq!(actor(4_000_000_000).user, "uid-4000000000");
        assert!(groups(4_000_000_000).is_empty());
        let nobody = person(4_000_000_000).map(|person| (person.actor.user, person.groups.len()));
        assert_eq!(nobody, Some(("uid-4000000000".to_owned(), 0)), "without an account, and not unknown");
        assert_eq!(gid_of("root"), Some(0));
        assert_eq!(gid_of("no-such-group-here"), None);
    }
}
