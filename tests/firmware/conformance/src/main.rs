//! What every target must compute alike: all limb passes on all backends, and one encrypted inference. The image reads
//! a job from standard input and writes digests to standard output.

#![no_std]
#![no_main]
#![cfg_attr(target_os = "linux", no_builtins)]

mod job;
mod passes;
#[cfg(target_os = "linux")]
mod runtime;
mod system;

use core::fmt::Write;
use job::Job;
use passes::MEMORY_WORDS;

/// Words of the job and of the scratch: more than a program for N = 4096 needs.
const WORDS: usize = 2 << 20;

const _: () = assert!(WORDS >= MEMORY_WORDS);

/// Words at a fixed place that the only thread borrows once.
struct Static(core::cell::UnsafeCell<[u32; WORDS]>);

// SAFETY: an image has one thread.
unsafe impl Sync for Static {}

static JOB: Static = Static(core::cell::UnsafeCell::new([0; WORDS]));
static SCRATCH: Static = Static(core::cell::UnsafeCell::new([0; WORDS]));

/// Standard output.
struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        system::write(text.as_bytes());
        Ok(())
    }
}

/// Runs once, on an aligned stack.
fn main() {
    // SAFETY: this function runs once, so these are the only references.
    let (job, scratch) = unsafe { (&mut *JOB.0.get(), &mut *SCRATCH.0.get()) };
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(job);
    let mut len = 0;
    while let count @ 1.. = system::read(&mut bytes[len..]) {
        len += count;
    }
    let _ = match Job::read(&bytes[..len]) {
        Some(job) => job.run(scratch, &mut Output),
        None => writeln!(Output, "cannot read a job from {len} bytes"),
    };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Output, "{info}");
    system::exit(101)
}
