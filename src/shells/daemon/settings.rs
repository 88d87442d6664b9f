//! What a configuration means for the daemon. Floor 4.
//!
//! **Invariant:** pure, but for asking the system for a group and for how many files may be open.

use std::sync::Arc;

use crate::adapters::config::Config;
use crate::adapters::http::names::Names;
use crate::adapters::ssh::descriptors;
use crate::adapters::users;
use crate::domain::callback::CallbackKey;
use crate::shells::daemon::error::DaemonError;
use crate::shells::daemon::web::Serving;

/// Returns the group that may drop files, where the configuration names one.
pub(super) fn group_of(config: &Config) -> Result<Option<u32>, DaemonError> {
    let named = config.settings.group.as_ref();
    named.map(|name| users::gid_of(name).ok_or_else(|| DaemonError::NoGroup(name.clone()))).transpose()
}

/// Returns where scripts may say how far they are.
pub(super) fn callback(config: &Config, key: Option<&CallbackKey>) -> Option<(String, CallbackKey)> {
    config.settings.http.as_ref()?.callback.clone().zip(key.cloned())
}

/// Returns the names that HTTP is answered to.
pub(super) fn names(config: &Config) -> Names {
    config.settings.http.as_ref().map_or_else(Names::default, |http| Names::new(&http.listen, &http.names))
}

/// Returns what HTTP requests are answered from.
pub(super) fn serving(config: &Config) -> Serving {
    Serving { library: Arc::new(config.library.clone()), broken: None }
}

pub(super) fn say_notes(notes: &[String]) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// Lets as many hosts be at work at once as this process may open ways to; the others wait for their turn.
pub(super) fn fit_to_descriptors(config: &mut Config) {
    let (wanted, most) = (&mut config.library.defaults.hosts_in_flight, descriptors::ways());
    if *wanted > most {
        tracing::warn!(
            "this process may open too few files for {wanted} hosts at once: {most} (LimitNOFILE in its unit)"
        );
        *wanted = most;
    }
}
