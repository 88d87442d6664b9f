//! What screens and dialogs are computed from.
//!
//! **Invariant:** pure; nothing in it can be changed.

use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::words::Words;
use crate::shells::dashboard::world::World;

/// What is known, and how it is to be shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) world: &'a World,
    pub(super) size: ScreenSize,
    pub(super) words: &'static Words,
    /// Whether nothing may be asked of the daemon.
    pub(super) readonly: bool,
}
