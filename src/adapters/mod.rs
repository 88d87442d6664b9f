//! Floor 3: each module wraps one thing outside and returns owned domain values.
//!
//! **Invariant:** adapters do not import each other, and decide nothing.

pub mod archive;
pub mod callback_key;
pub mod config;
pub mod fetched_file;
pub mod file_folder;
pub mod http;
pub mod local;
pub mod log_file;
pub mod output_log;
pub mod push;
pub mod random;
pub mod repo;
pub mod secrets;
pub mod service;
pub mod sources;
pub mod spool;
pub mod ssh;
pub mod strict_modes;
pub mod syslog;
pub mod tokens;
pub mod users;
pub mod watch;
