//! Feeds one reader of `src/fuzzing.rs`, the one that FUZZ_TARGET names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spoolgate::fuzzing::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).expect("FUZZ_TARGET names a target of src/fuzzing.rs")
});

fuzz_target!(|bytes: &[u8]| (TARGET.read)(bytes));
