//! The languages that files are written in: JSON, TOML, YAML and Python's literals. Floor 1.
//!
//! JSON has two readers. [`json`] reads task files: bounded to what a task may hold, with the line and the column of every value.
//! [`data_json`] reads what inventory scripts print, which may be a hundred times as large and is what Python prints.
//!
//! **Invariant:** pure. What a text means for spoolgate is said elsewhere; every problem knows its place.

pub(in crate::domain) mod data;
pub(in crate::domain) mod data_json;
pub(crate) mod json;
pub(crate) mod python_literal;
pub(crate) mod toml_table;
pub(in crate::domain) mod yaml;
mod yaml_scalar;
