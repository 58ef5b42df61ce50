//! Decoded instructions and plaintext descriptors.

use crate::ckks::Scale;
use crate::wire::u32_at;
use core::ops::Range;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instruction<'a> {
    /// Index of the layer that it belongs to.
    pub layer: usize,
    /// Buffer that it defines; the first of them for a linear transform with several results.
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
    /// Each result is `sum over its giant steps g of rotate_g(sum over (source, baby step b) of
    /// plain_(g,source,b) * rotate_b(source))`.
    LinearTransform {
        /// Sources, results, baby steps, giant steps and terms.
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

impl<'a> Instruction<'a> {
    /// The buffers that it defines.
    pub fn results(&self) -> impl Iterator<Item = usize> + 'a {
        let (first, transform) = match self.operation {
            Operation::LinearTransform { transform } => (None, Some(transform)),
            _ => (Some(self.dst), None),
        };
        let outputs = transform.map_or(0, |t| t.outputs());
        let others = (0..outputs).filter_map(move |o| transform?.output(o));
        first.into_iter().chain(others)
    }

    /// Limbs of what it defines.
    pub fn result_limbs(&self) -> usize {
        self.limbs.wrapping_sub(usize::from(self.rescale))
    }
}

impl<'a> Operation<'a> {
    /// The buffers that it reads.
    pub fn sources(&self) -> impl Iterator<Item = usize> + 'a {
        let (operands, transform) = match *self {
            Self::LinearTransform { transform } => ([None, None], Some(transform)),
            Self::RotateSum { src, .. }
            | Self::MulPlain { src, .. }
            | Self::AddPlain { src, .. }
            | Self::Rescale { src } => ([Some(src), None], None),
            Self::Add { a, b } | Self::Mul { a, b } => ([Some(a), Some(b)], None),
        };
        let count = transform.map_or(0, |t| t.sources());
        let others = (0..count).filter_map(move |s| Some(transform?.source(s)?.0));
        operands.into_iter().flatten().chain(others)
    }

    /// The plaintexts that it uses.
    pub fn plaintexts(&self) -> impl Iterator<Item = usize> + 'a {
        let (operand, transform) = match *self {
            Self::LinearTransform { transform } => (None, Some(transform)),
            Self::MulPlain { plain, .. } | Self::AddPlain { plain, .. } => (Some(plain), None),
            Self::RotateSum { .. } | Self::Mul { .. } | Self::Add { .. } | Self::Rescale { .. } => (None, None),
        };
        let count = transform.map_or(0, |t| t.terms());
        let others = (0..count).filter_map(move |i| Some(transform?.term(i)?.1));
        operand.into_iter().chain(others)
    }
}

/// Words before the lists of a [`Transform`].
const TRANSFORM_WORDS: usize = 6;

/// The sources, results, steps and terms of a linear transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform<'a> {
    sources: &'a [u8],
    outputs: &'a [u8],
    babies: &'a [u8],
    /// Giant steps that do not rotate; they come first.
    resting: usize,
    giants: &'a [u8],
    terms: &'a [u8],
}

/// A giant step: one rotated part of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Giant {
    /// The result that it belongs to.
    pub output: usize,
    /// Its rotation; 0 for none.
    pub rotation: u32,
    /// Its terms, ascending by baby step.
    pub terms: Range<usize>,
}

impl<'a> Transform<'a> {
    /// Reads `[sources, results, babies, resting giants, giants, terms, (source buffer, end of its babies).., result
    /// buffer.., baby rotation.., (result, giant rotation, end of its terms).., (baby, plain)..]`.
    pub fn read(words: &'a [u8]) -> Option<Self> {
        let count = |i: usize| u32_at(words, i.wrapping_shl(2)).map(|c| c as usize);
        let mut rest = words.get(TRANSFORM_WORDS << 2..)?;
        let mut list = |records: usize, bytes: usize| {
            let (list, tail) = rest.split_at_checked(records.checked_mul(bytes)?)?;
            rest = tail;
            Some(list)
        };
        let transform = Self {
            sources: list(count(0)?, 8)?,
            outputs: list(count(1)?, 4)?,
            babies: list(count(2)?, 4)?,
            resting: count(3)?,
            giants: list(count(4)?, 12)?,
            terms: list(count(5)?, 8)?,
        };
        rest.is_empty().then_some(transform)
    }

    /// Number of source ciphertexts.
    pub fn sources(&self) -> usize {
        self.sources.len() >> 3
    }

    /// Buffer of source `s` and the range of its baby steps.
    pub fn source(&self, s: usize) -> Option<(usize, Range<usize>)> {
        let at = s.checked_mul(8)?;
        let end = |at: usize| u32_at(self.sources, at).map(|end| end as usize);
        let start = at.checked_sub(4).map_or(Some(0), end)?;
        Some((u32_at(self.sources, at)? as usize, start..end(at.checked_add(4)?)?))
    }

    /// Number of result ciphertexts.
    pub fn outputs(&self) -> usize {
        self.outputs.len() >> 2
    }

    /// Buffer of result `o`.
    pub fn output(&self, o: usize) -> Option<usize> {
        u32_at(self.outputs, o.checked_mul(4)?).map(|buffer| buffer as usize)
    }

    /// Number of baby steps of all sources.
    pub fn babies(&self) -> usize {
        self.babies.len() >> 2
    }

    /// Rotation of baby step `i`.
    pub fn baby(&self, i: usize) -> Option<u32> {
        u32_at(self.babies, i.checked_mul(4)?)
    }

    /// Number of giant steps of all results.
    pub fn giants(&self) -> usize {
        self.giants.len().checked_div(12).unwrap_or(0)
    }

    /// Giant step `g`: first those that do not rotate, at most one for each result, then the others by result.
    pub fn giant(&self, g: usize) -> Option<Giant> {
        let at = g.checked_mul(12)?;
        let word = |at: usize| u32_at(self.giants, at).map(|w| w as usize);
        let start = at.checked_sub(4).map_or(Some(0), word)?;
        let terms = start..word(at.checked_add(8)?)?;
        Some(Giant { output: word(at)?, rotation: u32_at(self.giants, at.checked_add(4)?)?, terms })
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

    /// The terms among `terms` whose baby step is not below `baby`.
    pub fn terms_from(&self, terms: &Range<usize>, baby: usize) -> Range<usize> {
        let (mut low, mut high) = (terms.start, terms.end);
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) >> 1);
            if self.term(middle).is_some_and(|(other, _)| other < baby) {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        low..terms.end
    }

    /// Giant steps that do not rotate.
    pub fn resting_giants(&self) -> usize {
        self.resting
    }

    /// Giant steps that rotate.
    pub fn rotated_giants(&self) -> usize {
        self.giants().saturating_sub(self.resting)
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

impl Plaintext<'_> {
    /// Rows in the Ntt form with `special` special primes.
    pub fn rows(&self, special: usize) -> usize {
        self.limbs.wrapping_add(if self.special { special } else { 0 })
    }

    /// Rows in the plaintext cache: none for a scalar.
    pub fn cache_rows(&self, special: usize) -> usize {
        if matches!(self.form, PlainForm::Scalar(_)) { 0 } else { self.rows(special) }
    }
}
