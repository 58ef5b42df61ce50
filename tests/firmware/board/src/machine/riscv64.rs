//! RISC-V in machine mode, with floating point enabled.

use core::arch::{asm, global_asm};

// Execution begins in RAM, in the page below the stack. That page is closed for good (physical memory protection: 4 KiB,
// no access, locked), so that the stack cannot grow into it. mstatus.FS: floating point is in its initial state.
global_asm!(
    ".section .boot, \"ax\"",
    "tail _start",
    ".section .text._start, \"ax\"",
    ".globl _start",
    "_start:",
    "la sp, __stack_top",
    "la t0, trap", "csrw mtvec, t0",
    "li t0, 0x2000", "csrs mstatus, t0",
    "la t0, __boot", "srli t0, t0, 2", "ori t0, t0, 0x1FF", "csrw pmpaddr0, t0", "li t0, 0x98", "csrw pmpcfg0, t0",
    "call {start}",
    ".balign 4",
    "trap: mv a0, sp", "la sp, __stack_top", "call {fault}",
    start = sym super::start,
    fault = sym super::fault,
);

/// The counter runs from the start.
pub fn start_clock() {}

/// Instructions since the start.
pub fn instructions() -> u64 {
    let count;
    // SAFETY: reads a register.
    unsafe { asm!("csrr {}, minstret", out(reg) count, options(nomem, nostack)) };
    count
}

/// A semihosting operation.
///
/// # Safety
/// The parameter is what the operation expects.
pub unsafe fn semihost(operation: usize, parameter: usize) -> usize {
    let result;
    // SAFETY: the host changes registers, and memory only as the operation says.
    unsafe {
        // The three instructions that a debugger knows, uncompressed and on one page.
        asm!(
            ".balign 16", ".option push", ".option norvc",
            "slli x0, x0, 0x1f", "ebreak", "srai x0, x0, 7",
            ".option pop",
            inout("a0") operation => result, inout("a1") parameter => _, options(nostack),
        );
    }
    result
}
