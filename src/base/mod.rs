//! Floor 0: the words everything else is written in.
//!
//! **Invariant:** nothing here reads a file, a clock, the environment or the network.

pub mod count;
pub mod digest;
pub mod ids;
pub mod limits;
pub mod text;
pub mod time;
pub mod week;
