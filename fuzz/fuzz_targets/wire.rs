#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cipherlens_tests::targets::wire(data));
