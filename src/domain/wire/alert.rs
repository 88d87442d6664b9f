//! The form in which a monitor's alert comes: what happened to which host. Which task that is, if any, is for the rules to
//! say.
//!
//! **Invariant:** every field is there, if only as an empty text.

use crate::base::limits;
use crate::domain::hook::Alert;
use crate::domain::wire::fields::Fields;

/// The field that tells this form from every other one.
pub(super) const MARK: &str = "alert";

/// Reads the fields of an alert; the problems stay in `fields`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Alert> {
    fields.take(MARK);
    let mut text = |name: &'static str| fields.text(name, limits::TITLE_BYTES_MAX);
    let (host, trigger) = (text("host"), text("trigger"));
    let [address, status, severity] = ["address", "status", "severity"].map(|name| text(name).unwrap_or_default());
    for (name, value) in [("host", &host), ("trigger", &trigger)] {
        if value.is_none() {
            fields.missing(name, "the name that the monitor gives it");
        }
    }
    Some(Alert { host: host?, address, trigger: trigger?, status, severity })
}
