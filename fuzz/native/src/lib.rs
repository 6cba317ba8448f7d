//! The targets as a library, for libFuzzer's binaries.

pub mod targets;
