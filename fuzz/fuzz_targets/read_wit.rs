//! Bytes as a component, and as WIT.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agentkernel::fuzz::read(data));
