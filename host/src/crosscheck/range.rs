//! Head-room: how near a layer's coefficients come to half the modulus, beyond which they wrap.

use crate::compile::lower::Lowered;
use crate::compile::schedule::Schedule;
use crate::encode::Encoder;
use cipherlens_kernel::params::ParamSet;
use serde::Serialize;

/// What the registers of a program may hold.
pub struct Room {
    /// log2 of the largest coefficient that a register holds without wrapping, in message units.
    bits: Vec<f64>,
    /// Largest absolute slot in calibration.
    calibrated: Vec<f64>,
}

/// What a layer's registers held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Largest absolute slot of any image.
    pub max_abs: f64,
    /// The same in calibration.
    pub calibrated_max_abs: f64,
    /// Bits between the largest coefficient and half the modulus; the value has wrapped where this is below 0.
    pub headroom_bits: f64,
}

impl Default for Range {
    fn default() -> Self {
        Self { max_abs: 0.0, calibrated_max_abs: 0.0, headroom_bits: f64::INFINITY }
    }
}

impl Range {
    /// Whether a value wrapped: what the layer decrypts to is then wrong.
    pub fn wraps(&self) -> bool {
        self.headroom_bits < 0.0
    }
}

/// Largest absolute value.
pub fn max_abs(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}

impl Room {
    /// The room of every register; `runs` are all registers for the calibration's images.
    pub fn new(lowered: &Lowered, schedule: &Schedule, set: &ParamSet, runs: &[Vec<Vec<f64>>]) -> Self {
        let mut bits = vec![f64::INFINITY; lowered.program.registers];
        for (op, s) in lowered.program.ops.iter().zip(&schedule.ops) {
            let left = s.limbs - usize::from(s.rescale);
            let room = set.log_modulus(left, false) - 1.0 - s.scale.log2();
            op.results.iter().for_each(|&r| bits[r] = room);
        }
        let of = |r: usize| runs.iter().map(|run| max_abs(&run[r])).fold(0.0, f64::max);
        Self { calibrated: (0..bits.len()).map(of).collect(), bits }
    }

    /// Bits of head-room that slots leave in a register; below 0 they wrap.
    pub fn headroom(&self, register: usize, slots: &[f64], encoder: &Encoder) -> f64 {
        // A coefficient is at most the mean absolute slot; most registers are far from where that matters.
        let bound = slots.iter().map(|v| v.abs()).sum::<f64>() / slots.len().max(1) as f64;
        let room = self.bits[register];
        if room - bound.log2() > 8.0 {
            room - bound.log2()
        } else {
            room - max_abs(&encoder.to_coefficients(slots)).log2()
        }
    }

    /// Adds the slots of a register to a layer's range.
    pub fn look(&self, register: usize, slots: &[f64], encoder: &Encoder, range: &mut Range) {
        range.max_abs = range.max_abs.max(max_abs(slots));
        range.calibrated_max_abs = range.calibrated_max_abs.max(self.calibrated[register]);
        range.headroom_bits = range.headroom_bits.min(self.headroom(register, slots, encoder));
    }
}
