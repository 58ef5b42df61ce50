//! AArch64 at EL1: floating point, and translation, because without it all memory is a device and unaligned accesses
//! fault. Code cannot be written; it lies below the stack and so ends its growth.

use core::arch::{asm, global_asm};

// The tables map 64 MB at the start of the second GiB to themselves, in blocks of 2 MB, and nothing else: after the device
// tree, which is left out, code to be read and executed, then RAM to be read and written. TCR: 4 KiB granule, 32 bits of
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
    ".rept 16", "mov x0, sp", "ldr x1, =__stack_top", "mov sp, x1", "b {fault}", ".balign 128", ".endr",
    ".section .rodata.translation, \"a\"",
    ".balign 4096",
    "blocks:",
    ".quad 0, 0x40200781",
    ".set block, 0x60000040400701", ".rept 30", ".quad block", ".set block, block + 0x200000", ".endr",
    ".fill 480, 8, 0",
    "translation: .quad 0, blocks + 3, 0, 0",
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
pub unsafe fn semihost(operation: usize, parameter: usize) -> usize {
    let result;
    // SAFETY: the host changes registers, and memory only as the operation says.
    unsafe { asm!("hlt 0xF000", inout("x0") operation => result, inout("x1") parameter => _, options(nostack)) };
    result
}
