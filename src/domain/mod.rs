//! Floor 1: what tasks, templates, inventories and plans mean.
//!
//! **Invariant:** pure. Text or values come in, values go out; nothing here touches the world or knows the time.

pub mod arguments;
pub mod audit;
pub mod batch;
pub mod callback;
pub mod condition;
pub mod delegate;
pub mod drop_name;
pub mod file_check;
pub mod file_step;
pub mod hook;
pub mod inventory;
pub mod known_hosts;
pub mod level;
pub mod library;
pub mod mask;
pub mod needs;
pub mod order;
pub mod outcome;
pub mod output;
pub mod plan;
pub mod policy;
pub mod problem;
pub(crate) mod read;
pub mod record;
pub mod resolve;
pub mod right;
pub mod risk;
pub mod run;
pub mod runner;
pub(crate) mod script_text;
pub mod share;
pub mod ssh_config;
pub mod submission;
pub mod template;
pub mod token;
pub mod wire;
