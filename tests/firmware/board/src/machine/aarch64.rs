//! AArch64 at EL1: floating point, and translation with one block of normal memory, because without translation all
//! memory is a device and unaligned accesses fault.

use core::arch::{asm, global_asm};

// The table maps the second GiB, where the RAM is, to itself, and nothing else. TCR: 4 KiB granule, 32 bits of
// address, write-back. MAIR: attribute 0 is normal memory. SCTLR: translation and caches.
global_asm!(
    ".section .text._start, \"ax\"",
    ".globl _start",
    "_start:",
    "mov x0, #(3 << 20)", "msr cpacr_el1, x0",
    "ldr x0, =__stack_top", "mov sp, x0",
    "ldr x0, =vectors", "msr vbar_el1, x0",
    "ldr x0, =translation", "msr ttbr0_el1, x0",
    "mov x0, #0xFF", "msr mair_el1, x0",
    "ldr x0, =0x803520", "msr tcr_el1, x0", "isb",
    "mrs x0, sctlr_el1", "ldr x1, =0x1005", "orr x0, x0, x1", "msr sctlr_el1, x0", "isb",
    "b {start}",
    ".balign 2048",
    "vectors:",
    ".rept 16", "b {fault}", ".balign 128", ".endr",
    ".section .rodata.translation, \"a\"",
    ".balign 32",
    "translation: .quad 0, 0x40000701, 0, 0",
    start = sym super::start,
    fault = sym super::fault,
);

/// Enables the cycle counter, 64 bits of it, at every exception level.
pub fn start_clock() {
    // SAFETY: nothing else uses the performance monitor.
    unsafe {
        asm!(
            "msr pmccfiltr_el0, xzr", "msr pmcntenset_el0, {counter}", "msr pmcr_el0, {enable}", "isb",
            counter = in(reg) 1u64 << 31, enable = in(reg) 0b100_0001u64, options(nostack),
        );
    }
}

/// Instructions since the start: QEMU's processor has a cycle per nanosecond.
pub fn instructions() -> u64 {
    let count;
    // SAFETY: reads a register.
    unsafe { asm!("isb", "mrs {}, pmccntr_el0", out(reg) count, options(nomem, nostack)) };
    count
}

/// A semihosting operation.
///
/// # Safety
/// The parameter is what the operation expects.
pub unsafe fn semihost(operation: usize, parameter: usize) {
    // SAFETY: the host reads memory and changes registers only.
    unsafe { asm!("hlt 0xF000", inout("x0") operation => _, inout("x1") parameter => _, options(nostack)) };
}
