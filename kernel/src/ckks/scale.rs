//! Exact scales.

/// The factor between a message and the integers that carry it: finite and at least 1.
///
/// The compiler plans every scale as an IEEE double; products and quotients of doubles round alike on every
/// target, so the kernel recomputes them and checks for equality. There is no tolerance.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Scale(f64);

impl Scale {
    /// A scale; none unless the value is finite and at least 1.
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value >= 1.0).then_some(Self(value))
    }

    /// The factor.
    pub const fn value(self) -> f64 {
        self.0
    }

    /// The factor in bits.
    pub fn log2(self) -> f64 {
        libm::log2(self.0)
    }

    /// Scale of a product; none if it is not finite.
    pub fn product(self, other: Self) -> Option<Self> {
        Self::new(self.0 * other.0)
    }

    /// Scale after a rescale by the prime `q`; none below 1.
    pub fn rescaled(self, q: u32) -> Option<Self> {
        Self::new(self.0 / f64::from(q))
    }
}
