//! SSH to one host: connect, run a command with streams, close. Floor 3.
//!
//! **Invariant:** nothing is sent to a host that does not answer with a key it is known by; every wait has a limit;
//! one owner works with a session at a time. These three calls are all that is known of the library (libssh2)
//! outside this folder, so another one could stand beside it.
//!
//! What a host sends is read by a process of its own (`worker`), which has nothing but connections: no files, no keys, no way
//! to open another connection. This process opens the connection, holds the keys and signs with them.

mod agent;
mod connect;
pub mod descriptors;
mod dial;
mod error;
mod frame;
pub mod key_file;
mod login;
mod proxy;
mod session;
mod signing_key;
mod target;
mod tunnel;
pub mod worker;
mod workers;

pub use error::{LibraryError, SshError};
pub use frame::read_reports;
pub use session::Session;
pub use target::{Passphrase, Target};
pub use tunnel::Tunnel;
pub use workers::Workers;
