//! The one place that asks what time it is. Floor 4.
//!
//! **Invariant:** everything below gets the time as a value.
#![expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]

use std::sync::LazyLock;
use std::time::Instant;

use crate::base::time::{Moment, Timestamp};

/// When this process asked first.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the present time.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Returns the present time on both clocks.
#[must_use]
pub(super) fn moment() -> Moment {
    Moment { wall: now(), steady_ms: i64::try_from(BEGIN.elapsed().as_millis()).unwrap_or(i64::MAX) }
}

/// Returns a name that no other process gives at this time.
#[must_use]
pub(super) fn unique(word: &str) -> String {
    format!("{word}-{}-{}", now().0, std::process::id())
}
