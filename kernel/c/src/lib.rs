//! The functions of [`cipherlens_kernel::ffi`], and what a library without `std` has to bring along.

#![no_std]

pub use cipherlens_kernel::ffi::*;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    cipherlens_panic_is_reachable()
}

/// The mark that a reachable panic leaves in a linked image.
#[inline(never)]
#[cold]
fn cipherlens_panic_is_reachable() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Panics from 3 on.
#[cfg(feature = "deliberate-panic")]
#[unsafe(no_mangle)]
pub extern "C" fn cipherlens_deliberate_panic(i: usize) -> u8 {
    [3, 1, 4][i]
}
