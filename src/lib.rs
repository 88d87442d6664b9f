//! spoolgate: operations tasks as files, approved by digest, run once per host over SSH.
//!
//! A file dropped into the spool becomes a submission, a submission and the library (templates, inventory, policy)
//! become a plan, enough approvals of the plan's digest make it runnable, the engine says what happens when, adapters
//! do it, and events on disk are the truth of it. The map, floor by floor; a module imports only from floors below its
//! own, which a test keeps:
//!
//! | floor | module | holds |
//! | --- | --- | --- |
//! | 0 | [`base`] | words: ids, time, digests, limits, text that is safe to show |
//! | 1 | [`domain`] | meaning, pure: task files, templates, inventory, plans, policy, orders, the fold of events |
//! | 2 | [`engine`] | what happens next: facts in, effects out; no clock, no IO |
//! | 3 | [`adapters`] | one thing outside each: configuration, spool, watch, users, SSH, this machine, output logs |
//! | 4 | [`shells`] | what is started: the daemon's loop and the command line |
//!
//! Where to begin reading: [`domain::run`] (the transition table), [`engine`] (the contract), [`shells::daemon`] (the
//! loop).

// Release builds end where a sum overflows, and every number may come from outside.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod adapters;
pub mod base;
pub mod domain;
pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod shells;
