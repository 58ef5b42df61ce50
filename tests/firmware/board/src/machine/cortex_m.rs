//! Cortex-M: the vector table, and SysTick for a clock.

use core::arch::{asm, global_asm};
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

// Stack pointer, reset, faults and supervisor calls, SysTick. The coprocessor access register enables the FPU.
global_asm!(
    ".section .start, \"a\"",
    ".globl __vectors",
    "__vectors:",
    ".word __stack_top, _start",
    ".rept 13", ".word {fault}", ".endr",
    ".word {tick}",
    ".section .text._start, \"ax\"",
    ".globl _start", ".thumb_func",
    "_start:",
    "ldr r0, =0xE000ED88", "ldr r1, [r0]", "orr r1, r1, #0xF00000", "str r1, [r0]", "dsb", "isb",
    "b {start}",
    fault = sym super::fault,
    tick = sym tick,
    start = sym super::start,
);

/// Times that SysTick has counted down to 0.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

extern "C" fn tick() {
    ROUNDS.store(ROUNDS.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Control, reload value and current value of SysTick.
const SYSTICK: [usize; 3] = [0xE000_E010, 0xE000_E014, 0xE000_E018];
const RELOAD: u32 = 0x00FF_FFFF;

/// Starts SysTick at the processor's clock, with an interrupt whenever it has counted down.
pub fn start_clock() {
    for (register, value) in [(SYSTICK[1], RELOAD), (SYSTICK[2], 0), (SYSTICK[0], 0b111)] {
        // SAFETY: the register exists on every Cortex-M of this crate.
        unsafe { with_exposed_provenance_mut::<u32>(register).write_volatile(value) };
    }
}

/// Instructions since the start, to the next tick of the clock.
pub fn instructions() -> u64 {
    let hertz = address!(__clock) as u64;
    let (rounds, value) = loop {
        let rounds = ROUNDS.load(Relaxed);
        // SAFETY: as above.
        let value = unsafe { with_exposed_provenance_mut::<u32>(SYSTICK[2]).read_volatile() };
        if rounds == ROUNDS.load(Relaxed) {
            break (rounds, value);
        }
    };
    let ticks = u64::from(rounds) * (u64::from(RELOAD) + 1) + u64::from(RELOAD - (value & RELOAD));
    // The clock is a number of kilohertz that divides 10^6 times some thousand: exact for 25 and 32 MHz.
    ticks * (1_000_000_000 / 1000) / (hertz / 1000).max(1)
}

/// A semihosting operation.
///
/// # Safety
/// The parameter is what the operation expects.
pub unsafe fn semihost(operation: usize, parameter: usize) {
    // SAFETY: the host reads memory and changes registers only.
    unsafe { asm!("bkpt 0xAB", inout("r0") operation => _, inout("r1") parameter => _, options(nostack)) };
}
