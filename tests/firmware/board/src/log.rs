//! defmt frames to the console of the semihosting host, byte by byte. There is one thread and interrupts do not log, so
//! nothing is locked. (`defmt-semihosting` guards its lock with panics.)

use crate::machine::print;
use core::cell::UnsafeCell;
use defmt::{Encoder, Logger, global_logger};

#[global_logger]
struct Semihosting;

struct Global(UnsafeCell<Encoder>);

// SAFETY: one thread.
unsafe impl Sync for Global {}

static ENCODER: Global = Global(UnsafeCell::new(Encoder::new()));

fn with(act: impl FnOnce(&mut Encoder)) {
    // SAFETY: the logger's methods do not nest, so this is the only reference.
    act(unsafe { &mut *ENCODER.0.get() });
}

// SAFETY: the encoder is called in the order of acquire, write and release.
unsafe impl Logger for Semihosting {
    fn acquire() {
        with(|encoder| encoder.start_frame(print));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        with(|encoder| encoder.end_frame(print));
    }

    unsafe fn write(bytes: &[u8]) {
        with(|encoder| encoder.write(bytes, print));
    }
}

/// A digest as two numbers, which defmt can format.
pub fn halves(digest: [u8; 32]) -> [u128; 2] {
    let (halves, _) = digest.as_chunks::<16>();
    [0, 1].map(|i| halves.get(i).map_or(0, |half| u128::from_be_bytes(*half)))
}
