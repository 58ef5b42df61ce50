//! Decoded instructions and plaintext descriptors.

use crate::ckks::Scale;
use crate::wire::u32_at;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instruction<'a> {
    /// Index of the layer that it belongs to.
    pub layer: usize,
    /// Buffer that it defines.
    pub dst: usize,
    /// Limbs of its operands; buffers with more are read at this level.
    pub limbs: usize,
    /// Whether it ends with a rescale, which drops the last limb.
    pub rescale: bool,
    /// Scale of the result.
    pub scale: Scale,
    /// What it computes.
    pub operation: Operation<'a>,
}

/// What an instruction computes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Operation<'a> {
    /// `sum over giant steps g of rotate_g(sum over baby steps b of plain_(g,b) * rotate_b(src))`.
    LinearTransform {
        /// Input buffer.
        src: usize,
        /// Baby steps, giant steps and terms.
        transform: Transform<'a>,
    },
    /// `sum of rotate_r(src)`, plus `src` itself if `identity`.
    RotateSum {
        /// Input buffer.
        src: usize,
        /// Rotations, little-endian words.
        rotations: &'a [u8],
        /// Whether the unrotated input is a summand.
        identity: bool,
    },
    /// `src * plain`.
    MulPlain {
        /// Input buffer.
        src: usize,
        /// Plaintext.
        plain: usize,
    },
    /// `src + plain`.
    AddPlain {
        /// Input buffer.
        src: usize,
        /// Plaintext.
        plain: usize,
    },
    /// `a + b`.
    Add {
        /// Input buffer.
        a: usize,
        /// Input buffer.
        b: usize,
    },
    /// `a * b`, relinearised.
    Mul {
        /// Input buffer.
        a: usize,
        /// Input buffer; the same as `a` for a square.
        b: usize,
    },
    /// `src`, rescaled.
    Rescale {
        /// Input buffer.
        src: usize,
    },
}

impl Operation<'_> {
    /// The buffers that it reads.
    pub fn sources(&self) -> [usize; 2] {
        match *self {
            Self::LinearTransform { src, .. }
            | Self::RotateSum { src, .. }
            | Self::MulPlain { src, .. }
            | Self::AddPlain { src, .. }
            | Self::Rescale { src } => [src, src],
            Self::Add { a, b } | Self::Mul { a, b } => [a, b],
        }
    }
}

/// The steps and terms of a linear transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform<'a> {
    babies: &'a [u8],
    giants: &'a [u8],
    terms: &'a [u8],
}

impl<'a> Transform<'a> {
    /// Reads `[babies, giants, terms, baby rotations.., (giant rotation, end of its terms).., (baby, plain)..]`.
    pub fn read(words: &'a [u8]) -> Option<Self> {
        let count = |i: usize| u32_at(words, i.wrapping_shl(2)).map(|c| c as usize);
        let (babies, giants, terms) = (count(0)?, count(1)?, count(2)?);
        let rest = words.get(12..)?;
        let (babies, rest) = rest.split_at_checked(babies.checked_mul(4)?)?;
        let (giants, rest) = rest.split_at_checked(giants.checked_mul(8)?)?;
        (rest.len() == terms.checked_mul(8)?).then_some(Self { babies, giants, terms: rest })
    }

    /// Number of baby steps.
    pub fn babies(&self) -> usize {
        self.babies.len() >> 2
    }

    /// Rotation of baby step `i`.
    pub fn baby(&self, i: usize) -> Option<u32> {
        u32_at(self.babies, i.checked_mul(4)?)
    }

    /// Number of giant steps.
    pub fn giants(&self) -> usize {
        self.giants.len() >> 3
    }

    /// Rotation of giant step `g` and the range of its terms.
    pub fn giant(&self, g: usize) -> Option<(u32, core::ops::Range<usize>)> {
        let at = g.checked_mul(8)?;
        let end = u32_at(self.giants, at.checked_add(4)?)? as usize;
        let start = match at.checked_sub(4) {
            Some(previous) => u32_at(self.giants, previous)? as usize,
            None => 0,
        };
        Some((u32_at(self.giants, at)?, start..end))
    }

    /// Number of terms.
    pub fn terms(&self) -> usize {
        self.terms.len() >> 3
    }

    /// Baby step and plaintext of term `i`.
    pub fn term(&self, i: usize) -> Option<(usize, usize)> {
        let at = i.checked_mul(8)?;
        Some((u32_at(self.terms, at)? as usize, u32_at(self.terms, at.checked_add(4)?)? as usize))
    }

    /// Giant steps that rotate: all, or all but the first.
    pub fn rotated_giants(&self) -> usize {
        let first_stays = self.giant(0).is_some_and(|(rotation, _)| rotation == 0);
        self.giants().wrapping_sub(usize::from(first_stays))
    }
}

/// How a plaintext is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainForm<'a> {
    /// One integer in all slots.
    Scalar(i64),
    /// Signed coefficients of 2 or 4 bytes.
    Compact {
        /// The coefficients.
        bytes: &'a [u8],
        /// Whether they take 4 bytes.
        wide: bool,
    },
    /// Rows in the Ntt domain and Montgomery form.
    Ntt {
        /// `[limbs (+ special)][N]` words.
        bytes: &'a [u8],
    },
}

/// A plaintext operand.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Plaintext<'a> {
    /// How it is stored.
    pub form: PlainForm<'a>,
    /// Limbs at which it is used.
    pub limbs: usize,
    /// Whether it is also needed modulo the special primes.
    pub special: bool,
    /// First row in the plaintext cache.
    pub cache_row: usize,
    /// Scale.
    pub scale: Scale,
}
