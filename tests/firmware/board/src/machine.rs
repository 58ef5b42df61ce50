//! The machine: entry, memory, stack, and a count of instructions, which is what its clock shows under QEMU's
//! `-icount shift=0`: one instruction is one nanosecond.

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

pub use processor::instructions;

/// Memory that the linker script gives the application.
pub struct Memory {
    pub arena: &'static mut [u8],
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

/// What exceptions jump to.
extern "C" fn fault() -> ! {
    exit(102)
}

/// Prints bytes on the semihosting host's console.
pub fn print(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: SYS_WRITEC reads one byte there.
        unsafe { processor::semihost(0x03, (&raw const *byte).expose_provenance()) };
    }
}

/// Ends the emulation with a status.
pub fn exit(status: u8) -> ! {
    // ADP_Stopped_ApplicationExit.
    let block = [0x20026, usize::from(status)];
    loop {
        // SAFETY: SYS_EXIT_EXTENDED reads two words there.
        unsafe { processor::semihost(0x20, (&raw const block).expose_provenance()) };
    }
}
