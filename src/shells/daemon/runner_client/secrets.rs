//! The secrets of a step that is sent, and of one that was. Floor 4.
//!
//! **Invariant:** what a step was sent with is noted, without the values, before it is sent: where the values are others now, nothing
//! that it prints is shown.

use std::collections::{BTreeMap, BTreeSet};

use super::{Begun, RunnerClient};
use crate::adapters::secrets::SecretError;
use crate::base::ids::SecretName;
use crate::base::text::Secret;
use crate::domain::mask::Masker;

impl RunnerClient<'_> {
    /// Reads the secrets of the task: those that the step gets, and all that are known to be hidden. A step that was sent
    /// before was sent with those of that time: where they are others now, nothing that it prints is shown.
    ///
    /// # Errors
    /// The first one that cannot be read, of a step that was not sent yet.
    pub(in crate::shells::daemon) fn read_secrets(&mut self) -> Result<(), SecretError> {
        if self.start.approved.plan().secret_names().next().is_none() {
            return Ok(());
        }
        let noted = self.log_path.with_extension("secrets");
        // What is noted is durable before anything is sent: without a note nothing was.
        let sent = self.start.resume && noted.exists();
        let values = match self.secret_values() {
            Err(error) if !sent => return Err(error),
            Err(error) => {
                // It is shown as stars or lost, and never started without them.
                self.begun = Begun::Yes;
                self.hide_everything(&error.to_string());
                return Ok(());
            }
            Ok(values) => values,
        };
        let own = self.start.approved.plan().secrets.iter().chain(&self.step.secrets);
        self.secrets = own.map(|(name, secret)| (name.clone(), values[secret].clone())).collect();
        if sent && !self.settings.secrets.are_noted(&noted, &values) {
            self.hide_everything("its secrets are others now");
            return Ok(());
        }
        if !sent {
            self.settings
                .secrets
                .note(&noted, &values)
                .map_err(|source| SecretError::Unreadable { path: noted.clone(), source })?;
        }
        self.masker = (*self.settings.secrets.masker()).clone();
        Ok(())
    }

    fn hide_everything(&mut self, why: &str) {
        tracing::error!(task = %self.start.task, host = %self.start.host, "what its step prints is not shown: {why}");
        self.masker = Masker::of_everything();
    }

    fn secret_values(&self) -> Result<BTreeMap<SecretName, Secret>, SecretError> {
        let plan = self.start.approved.plan();
        let all: BTreeSet<&SecretName> = plan.secret_names().collect();
        all.into_iter().map(|name| Ok((name.clone(), self.settings.secrets.read(name)?))).collect()
    }
}
