//! spoolgate.

pub mod adapters;
pub mod base;
pub mod domain;
pub mod engine;
