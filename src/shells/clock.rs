//! The one place that asks what time it is. Floor 4.
//!
//! **Invariant:** everything below gets the time as a value.
#![expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]

use crate::base::time::Timestamp;

/// Returns the present time.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Returns a name that no other process gives at this time.
#[must_use]
pub(super) fn unique(word: &str) -> String {
    format!("{word}-{}-{}", now().0, std::process::id())
}
