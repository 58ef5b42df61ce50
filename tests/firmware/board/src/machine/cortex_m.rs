//! Cortex-M: the vector table, the stack's limit, and SysTick for a clock.

use core::arch::{asm, global_asm};
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

// Stack pointer, reset, non-maskable interrupt, faults and supervisor calls, SysTick. The coprocessor access register
// enables the FPU.
//
// The stack's end: where the board names no guard, the limit that ARMv8-M has (`msr msplim, r0`, which an assembler for
// ARMv7-M does not know); else a region of the ARMv7-M memory protection unit, 64 KiB without access, over the default map.
global_asm!(
    ".section .start, \"a\"",
    ".globl __vectors",
    "__vectors:",
    ".word __stack_top, _start, {bite}",
    ".rept 12", ".word exception", ".endr",
    ".word {tick}",
    ".section .text._start, \"ax\"",
    ".globl _start", ".thumb_func",
    "_start:",
    "ldr r0, =0xE000ED88", "ldr r1, [r0]", "orr r1, r1, #0xF00000", "str r1, [r0]", "dsb", "isb",
    "ldr r1, =__stack_guard", "cmp r1, #0", "beq 1f",
    "ldr r0, =0xE000ED9C", "orr r1, r1, #0x10", "str r1, [r0]", "ldr r1, =0x1000001F", "str r1, [r0, #4]",
    "movs r1, #5", "str r1, [r0, #-8]", "dsb", "isb",
    "b {start}",
    "1: ldr r0, =__stack", ".inst.w 0xF380880A",
    "b {start}",
    ".thumb_func",
    "exception:",
    "mov r0, sp", "ldr r1, =__stack_top", "mov sp, r1", "b {fault}",
    fault = sym super::fault,
    bite = sym super::watchdog::bite,
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
pub unsafe fn semihost(operation: usize, parameter: usize) -> usize {
    let result;
    // SAFETY: the host changes registers, and memory only as the operation says.
    unsafe { asm!("bkpt 0xAB", inout("r0") operation => result, inout("r1") parameter => _, options(nostack)) };
    result
}
