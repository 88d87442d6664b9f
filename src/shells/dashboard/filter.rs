//! How a typed text chooses lines of a list.
//!
//! **Invariant:** pure.

/// Whether a text passes a filter: `!` in front turns it round.
pub(super) fn matches(text: &str, filter: &str) -> bool {
    match filter.strip_prefix('!') {
        Some(not) if !not.is_empty() => !text.to_lowercase().contains(not),
        _ => text.to_lowercase().contains(filter),
    }
}
