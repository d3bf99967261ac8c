//! Bytes as what a guest passes and gives; the first of them says in which way.

#![no_main]

use std::cell::RefCell;

use agentkernel::fuzz::{Callee, json};

thread_local! {
    static MIRROR: RefCell<Callee> = RefCell::new(Callee::new(include_bytes!("../../tests/tools/echo.wasm")));
    static RESULTS: RefCell<Callee> = RefCell::new({
        let component = wat::parse_str(include_str!("../../host/src/fuzz/results.wat"));
        Callee::new(&component.expect("the component is translated"))
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((way, data)) = data.split_first() else { return };
    match way % 3 {
        0 => json(data),
        1 => MIRROR.with_borrow_mut(|callee| callee.lower(data)),
        _ => RESULTS.with_borrow_mut(|callee| callee.lift(data)),
    }
});
