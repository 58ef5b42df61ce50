//! The APB watchdog of Arm's Cortex-M System Design Kit (DDI 0479), which both Cortex-M boards have: not fed for its
//! period, it raises the non-maskable interrupt, and not served then either, it resets the processor.

use super::exit;
use core::ptr::with_exposed_provenance_mut;

/// Offset of the reload value; then of the control register (1: interrupt and counter, 2: reset) and of the register that
/// clears the interrupt and reloads the counter.
const LOAD: usize = 0;
const CONTROL: usize = 8;
const CLEAR: usize = 12;

fn write(register: usize, value: u32) {
    let at = address!(__watchdog).wrapping_add(register);
    // SAFETY: the device is there, and belongs to this module.
    unsafe { with_exposed_provenance_mut::<u32>(at).write_volatile(value) };
}

/// Starts it with a period in instructions, unless that is 0.
pub fn start(period: u32) {
    if period != 0 {
        let hertz = address!(__watchdog_clock) as u64;
        write(LOAD, (u64::from(period).wrapping_mul(hertz) / 1_000_000_000) as u32);
        write(CONTROL, 3);
    }
}

pub fn feed() {
    write(CLEAR, 1);
}

pub fn stop() {
    write(CONTROL, 0);
}

/// The non-maskable interrupt.
pub extern "C" fn bite() -> ! {
    exit(103)
}
