#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::targets;

fuzz_target!(|data: &[u8]| targets::telephone_event(data));
