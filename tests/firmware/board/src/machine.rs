//! The machine: entry, memory, stack, and a count of instructions, which is what its clock shows under QEMU's
//! `-icount shift=0`: one instruction is one nanosecond.
//!
//! What the processor reports ends the run: status 101 is a panic, 102 a fault, 103 the watchdog, 104 the end of the stack.

use core::ops::Range;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

/// The address of a symbol of the linker script.
macro_rules! address {
    ($symbol:ident) => {{
        unsafe extern "C" {
            static $symbol: u8;
        }
        (&raw const $symbol).expose_provenance()
    }};
}

#[cfg_attr(target_arch = "arm", path = "machine/cortex_m.rs")]
#[cfg_attr(target_arch = "aarch64", path = "machine/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "machine/riscv64.rs")]
mod processor;
mod semihosting;
#[cfg_attr(target_arch = "arm", path = "machine/cmsdk_watchdog.rs")]
#[cfg_attr(not(target_arch = "arm"), path = "machine/no_watchdog.rs")]
pub mod watchdog;

pub use processor::instructions;
pub use semihosting::{File, exit, print};

/// Memory that the linker script gives the application.
pub struct Memory {
    pub arena: &'static mut [u8],
    /// For the directory of streamed keys.
    pub directory: &'static mut [u8],
    pub job: &'static [u8],
    pub output: &'static mut [u8],
}

/// The bytes at these addresses.
///
/// # Safety
/// Nothing else may refer to them.
unsafe fn bytes(region: Range<usize>) -> &'static mut [u8] {
    // SAFETY: the addresses are RAM, which holds some value from the start; the caller answers for the rest.
    unsafe { core::slice::from_raw_parts_mut(with_exposed_provenance_mut(region.start), region.len()) }
}

/// What an unused byte of the stack holds.
const PAINT: u8 = 0xA5;

/// Writes bytes where nothing lives yet.
fn fill(region: Range<usize>, value: u8) {
    for at in region {
        // SAFETY: RAM of the linker script that no reference points to.
        unsafe { with_exposed_provenance_mut::<u8>(at).write_volatile(value) };
    }
}

/// Paints what lies below this function's frame, which is small.
#[inline(never)]
fn paint_stack() {
    let here = 0u8;
    fill(address!(__stack)..(&raw const here).addr().wrapping_sub(256), PAINT);
}

/// What `_start` calls, with the stack pointer at the top and floating point enabled.
extern "C" fn start() -> ! {
    fill(address!(__bss)..address!(__bss_end), 0);
    for (at, from) in (address!(__data)..address!(__data_end)).zip(address!(__data_source)..) {
        // SAFETY: the section and its first content, in the image.
        unsafe { with_exposed_provenance_mut::<u8>(at).write_volatile(with_exposed_provenance::<u8>(from).read()) };
    }
    paint_stack();
    processor::start_clock();
    // SAFETY: this function runs once, and these regions are apart and hold no variable.
    let memory = unsafe {
        Memory {
            arena: bytes(address!(__arena)..address!(__arena_end)),
            directory: bytes(address!(__directory)..address!(__directory_end)),
            job: bytes(address!(__job)..address!(__job_end)),
            output: bytes(address!(__output)..address!(__output_end)),
        }
    };
    exit(crate::main(memory))
}

/// Bytes of the stack that have been used; none if all of it.
pub fn used_stack() -> Option<usize> {
    let region = address!(__stack)..address!(__stack_top);
    // SAFETY: the stack is readable, and volatile reads may see what other frames hold.
    let unused = region.clone().take_while(|&at| unsafe { with_exposed_provenance::<u8>(at).read_volatile() } == PAINT);
    let unused = unused.count();
    (unused > 0).then_some(region.len().wrapping_sub(unused))
}

/// Bytes above the end of the stack in which an exception is one of the stack: more than what a frame of
/// [`overflow_stack`] and the registers that an exception saves take.
const STACK_MARGIN: usize = 1024;

/// What exceptions jump to, with the stack pointer at the top again: where it was, there may be no memory.
extern "C" fn fault(stack_pointer: usize) -> ! {
    exit(if stack_pointer < address!(__stack).wrapping_add(STACK_MARGIN) { 104 } else { 102 })
}

/// Takes stack until there is none.
#[inline(never)]
#[expect(unconditional_recursion, reason = "an exception ends it")]
pub fn overflow_stack(depth: u32) -> u32 {
    let mut frame = [depth; 64];
    let [first, ..] = *core::hint::black_box(&mut frame);
    overflow_stack(depth.wrapping_add(1)).wrapping_add(first)
}
