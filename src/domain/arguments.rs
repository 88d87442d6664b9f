//! How much a program may be given to start with: Linux refuses what is longer, and a step would fail as if its script did (126).
//!
//! **Invariant:** pure, and on the safe side of what the kernel counts: every argument and every variable with the zero byte behind
//! it and the pointer to it. One of them may have 128 KiB (`MAX_ARG_STRLEN`, 32 pages), all of them together a quarter of the
//! stack's limit, which is 8 MiB where nobody changed it.

/// The longest argument, and the longest variable with its name and `=`, in bytes.
pub const ONE_BYTES_MAX: usize = (128 << 10) - 1;
/// How much all arguments and variables of a step may have together, in bytes, as they are counted here.
pub const ALL_BYTES_MAX: usize = (2 << 20) - RESERVE;
/// What is left for the environment of the account on the host, our own short variables, and the words before the script.
const RESERVE: usize = 128 << 10;
/// A pointer of the kernel's.
const POINTER: usize = 8;

/// Returns how long a variable is.
#[must_use]
pub fn variable(name: &str, value: &str) -> usize {
    name.len().saturating_add(1).saturating_add(value.len())
}

/// Returns how much one argument or variable of a length counts among all.
#[must_use]
pub fn counted(length: usize) -> usize {
    length.saturating_add(1).saturating_add(POINTER)
}
