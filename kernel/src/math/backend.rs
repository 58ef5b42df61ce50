//! Limb passes: the loops over one row of N residues that all time is spent in.
//!
//! [`Backend`] states what every pass computes and which ranges it takes and gives; [`Portable`] is the
//! oracle that any other backend must match bit for bit. This file is the only place that chooses one.

/// Calls a macro with the signatures of all limb passes, so that they are listed once: first those that are written
/// over [`vector::Vector`], then those for which the portable loops are compiled again.
macro_rules! with_passes {
    ($then:ident!($($args:tt)*)) => {
        $then! { $($args)*
            vector {
                forward(row: &mut [u32], table: &NttTable<'_>);
                inverse(row: &mut [u32], table: &NttTable<'_>);
                dot_pair(out: [&mut [u32]; 2], terms: &[Term<'_>], accumulate: bool, m: &Modulus);
                rotate_dot_pair(
                    out: [&mut [u32]; 2],
                    terms: &[Term<'_>],
                    addend: Option<(&[u32], u32)>,
                    g: u32,
                    accumulate: bool,
                    m: &Modulus
                );
                automorphism(dst: &mut [u32], src: &[u32], g: u32);
                recompose(dst: &mut [u32], digits: &[u32], weights: &[u32], centre: u32, m: &Modulus);
                matrix_product(out: &mut [u32], x: &RowBlock<'_>, weights: &[[u8; 4]], accumulate: bool, m: &Modulus);
            }
            plain {
                add_assign(dst: &mut [u32], src: &[u32], m: &Modulus);
                sub_assign(dst: &mut [u32], src: &[u32], m: &Modulus);
                mul(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus);
                mul_scalar(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus);
                mul_scalar_add(dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus);
                mul_scalar_assign(dst: &mut [u32], w: Shoup, m: &Modulus);
                mul_add(dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus);
                mul_redc(dst: &mut [u32], a: &[u32], b: &[u32], accumulate: bool, m: &Modulus);
                redc_add(dst: &mut [u32], src: &[u32], m: &Modulus);
                sub_from_mul(dst: &mut [u32], a: &[u32], w: Shoup, m: &Modulus);
                garner_step(dst: &mut [u32], digit: &[u32], w: Shoup, m: &Modulus);
                add_scalar_assign(dst: &mut [u32], c: u32, m: &Modulus);
                expand_signed(dst: &mut [u32], src: &[u8], wide: bool, w: Shoup, m: &Modulus);
            }
        }
    };
}

/// Implements [`Backend`] for a token type over a vector type, inside functions compiled for the features.
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
macro_rules! vector_backend {
    ($token:ident, $vector:ident, $label:literal, $features:literal) => {
        with_passes! { vector_backend!(@ $token, $vector, $label, $features;) }
    };
    (@ $token:ident, $vector:ident, $label:literal, $features:literal;
        vector { $($name:ident($($arg:ident: $ty:ty),*);)* }
        plain { $($plain:ident($($parg:ident: $pty:ty),*);)* }
    ) => {
        impl Backend for $token {
            fn name(&self) -> &'static str {
                $label
            }
            $(
                fn $name(&self, $($arg: $ty),*) {
                    #[target_feature(enable = $features)]
                    fn compiled($($arg: $ty),*) {
                        passes::$name::<$vector>($($arg),*)
                    }
                    // SAFETY: `self` is proof that the processor has these instructions.
                    #[allow(unused_unsafe, reason = "safe where the whole target has them")]
                    unsafe { compiled($($arg),*) }
                }
            )*
            $(
                fn $plain(&self, $($parg: $pty),*) {
                    #[target_feature(enable = $features)]
                    fn compiled($($parg: $pty),*) {
                        portable::$plain($($parg),*)
                    }
                    // SAFETY: `self` is proof that the processor has these instructions.
                    #[allow(unused_unsafe, reason = "safe where the whole target has them")]
                    unsafe { compiled($($parg),*) }
                }
            )*
        }
    };
}

mod portable;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code, reason = "instructions that were detected")]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[allow(unsafe_code, reason = "instructions that were detected")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[allow(unsafe_code, reason = "instructions of the target")]
mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[allow(unsafe_code, reason = "instructions of the target")]
mod simd128;

/// The passes that are written once over [`Vector`](vector::Vector).
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod passes {
    mod dot;
    mod matrix_product;
    mod ntt;
    pub(super) use dot::{automorphism, dot_pair, recompose, rotate_dot_pair};
    pub(super) use matrix_product::matrix_product;
    pub(super) use ntt::{forward, inverse};
}
#[cfg(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod vector;

use super::{Modulus, NttTable, Shoup};
pub use portable::Portable;

/// Most terms of a sum of products.
pub const MAX_DOT: usize = 64;

/// One term of two sums of products: a row times each of a pair of rows.
///
/// A digit with both halves of a key, or a plaintext with both components of a ciphertext. Either the shared row or
/// both others are in Montgomery form.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Term<'a> {
    /// The factor of both.
    pub shared: &'a [u32],
    /// The other factors.
    pub pair: [&'a [u32]; 2],
}

/// Words of each row that one call of [`Backend::matrix_product`] takes.
pub const PRODUCT_BLOCK: usize = 64;
/// Most rows of a matrix product.
pub const MAX_PRODUCT: usize = 256;
/// Bound of the weights of a matrix product: `MAX_PRODUCT` of them times words below p stay below `2^30 p`.
pub const MAX_WEIGHT: u32 = 1 << 22;

/// The same block of several rows.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RowBlock<'a> {
    /// The rows, at most [`MAX_PRODUCT`].
    pub rows: &'a [&'a [u32]],
    /// First word of the block.
    pub at: usize,
}

/// The limb passes. All rows of a call have the same length N, a power of two of at least 64; a call with
/// rows of other lengths leaves the result without meaning but in bounds.
pub trait Backend: Copy + Send + Sync {
    /// A short name for reports.
    fn name(&self) -> &'static str;

    /// In-place fold and forward transform. Domain: Coeff to Ntt. Range: `[0, p)` to `[0, p)`.
    fn forward(&self, row: &mut [u32], table: &NttTable<'_>);

    /// In-place inverse transform and unfold. Domain: Ntt to Coeff. Range: `[0, p)` to `[0, p)`.
    fn inverse(&self, row: &mut [u32], table: &NttTable<'_>);

    /// `dst += src`. Range: `[0, p)`.
    fn add_assign(&self, dst: &mut [u32], src: &[u32], m: &Modulus);

    /// `dst -= src`. Range: `[0, p)`.
    fn sub_assign(&self, dst: &mut [u32], src: &[u32], m: &Modulus);

    /// `dst = a * b`. Range: `[0, p)`.
    fn mul(&self, dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus);

    /// `dst = src * w`. Range: any word to `[0, p)`.
    fn mul_scalar(&self, dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus);

    /// `dst *= w`. Range: any word to `[0, p)`.
    fn mul_scalar_assign(&self, dst: &mut [u32], w: Shoup, m: &Modulus);

    /// `dst += a * b`. Range: `[0, p)`.
    fn mul_add(&self, dst: &mut [u32], a: &[u32], b: &[u32], m: &Modulus);

    /// `dst = a * b * 2^-32`, plus the old `dst` if `accumulate`: a product with a row in Montgomery form.
    /// Range: `[0, p)`.
    fn mul_redc(&self, dst: &mut [u32], a: &[u32], b: &[u32], accumulate: bool, m: &Modulus);

    /// `dst += src * 2^-32`. Range: `[0, p)`.
    fn redc_add(&self, dst: &mut [u32], src: &[u32], m: &Modulus);

    /// `dst += src * w`. Range: `dst` in `[0, p)`, any `src`.
    fn mul_scalar_add(&self, dst: &mut [u32], src: &[u32], w: Shoup, m: &Modulus);

    /// `out_i = sum shared_k * pair_k_i * 2^-32` for i = 0, 1, plus the old `out_i` if `accumulate`.
    /// At most [`MAX_DOT`] terms. Range: `[0, p)`.
    fn dot_pair(&self, out: [&mut [u32]; 2], terms: &[Term<'_>], accumulate: bool, m: &Modulus);

    /// [`dot_pair`](Self::dot_pair), plus a row times a constant in Montgomery form for i = 0, then the automorphism
    /// X -> X^g of both sums, g = 1 modulo 4; plus the old `out_i` if `accumulate`. Domain: Ntt. Range: `[0, p)`.
    fn rotate_dot_pair(
        &self,
        out: [&mut [u32]; 2],
        terms: &[Term<'_>],
        addend: Option<(&[u32], u32)>,
        g: u32,
        accumulate: bool,
        m: &Modulus,
    );

    /// `out_i = sum over k of weights_ki * x_k` for a block of [`PRODUCT_BLOCK`] words of each row `x_k`, plus the old
    /// `out_i` if `accumulate`. Shapes: `out` is `[columns][PRODUCT_BLOCK]`, `weights` is `[rows][columns]` of signed
    /// little-endian words of less than [`MAX_WEIGHT`]. Range: `[0, p)`.
    fn matrix_product(&self, out: &mut [u32], x: &RowBlock<'_>, weights: &[[u8; 4]], accumulate: bool, m: &Modulus);

    /// `dst = (a - dst) * w`. Range: `[0, p)`.
    fn sub_from_mul(&self, dst: &mut [u32], a: &[u32], w: Shoup, m: &Modulus);

    /// The automorphism X -> X^g of a row in the Ntt domain; g is 1 modulo 4.
    fn automorphism(&self, dst: &mut [u32], src: &[u32], g: u32);

    /// One step of Garner's algorithm: `dst = (dst - digit) * w` with words of `digit` below 2^30. Range: `[0, p)`.
    fn garner_step(&self, dst: &mut [u32], digit: &[u32], w: Shoup, m: &Modulus);

    /// `dst = sum digits_k * weights_k - centre`, where row `k` of `digits` is any row of words below 2^30
    /// and the weights are in Montgomery form; at most 4 rows. Range: result in `[0, p)`.
    fn recompose(&self, dst: &mut [u32], digits: &[u32], weights: &[u32], centre: u32, m: &Modulus);

    /// `dst += c`. Range: `[0, p)`.
    fn add_scalar_assign(&self, dst: &mut [u32], c: u32, m: &Modulus);

    /// `dst = src * w` for signed coefficients, 2 (`i16`) or 4 (`i32`) little-endian bytes each.
    fn expand_signed(&self, dst: &mut [u32], src: &[u8], wide: bool, w: Shoup, m: &Modulus);
}

macro_rules! dispatch {
    (
        vector { $($name:ident($($arg:ident: $ty:ty),*);)* }
        plain { $($plain:ident($($parg:ident: $pty:ty),*);)* }
    ) => {
        impl Backend for Detected {
            fn name(&self) -> &'static str {
                match self {
                    Self::Portable(b) => b.name(),
                    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
                    Self::Avx2(b) => b.name(),
                    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
                    Self::Avx512(b) => b.name(),
                    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
                    Self::Neon(b) => b.name(),
                    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                    Self::Simd128(b) => b.name(),
                }
            }
            dispatch! { @ $($name($($arg: $ty),*);)* $($plain($($parg: $pty),*);)* }
        }
    };
    (@ $($name:ident($($arg:ident: $ty:ty),*);)*) => {
        $(
            #[inline]
            fn $name(&self, $($arg: $ty),*) {
                match self {
                    Self::Portable(b) => b.$name($($arg),*),
                    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
                    Self::Avx2(b) => b.$name($($arg),*),
                    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
                    Self::Avx512(b) => b.$name($($arg),*),
                    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
                    Self::Neon(b) => b.$name($($arg),*),
                    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                    Self::Simd128(b) => b.$name($($arg),*),
                }
            }
        )*
    };
}

/// The backend chosen for this processor at run time.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Detected {
    /// Plain Rust.
    Portable(Portable),
    /// x86-64 with AVX2.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx2(avx2::Avx2),
    /// x86-64 with AVX-512 F, DQ, BW and VL.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    Avx512(avx512::Avx512),
    /// AArch64.
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(neon::Neon),
    /// WebAssembly with 128-bit SIMD.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(simd128::Simd128),
}

impl Detected {
    /// The fastest backend that this processor supports.
    pub fn new() -> Self {
        Self::all().last().copied().unwrap_or(Self::Portable(Portable))
    }

    /// Every backend that this processor supports, the portable one first and the fastest last.
    pub fn all() -> heapless::Vec<Self, 3> {
        let mut list = heapless::Vec::new();
        // At most three exist on any target.
        let mut add = |backend: Option<Self>| backend.map(|b| list.push(b));
        add(Some(Self::Portable(Portable)));
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        {
            add(avx2::Avx2::detect().map(Self::Avx2));
            add(avx512::Avx512::detect().map(Self::Avx512));
        }
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        add(Some(Self::Neon(neon::Neon::new())));
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        add(Some(Self::Simd128(simd128::Simd128::new())));
        list
    }
}

impl Default for Detected {
    fn default() -> Self {
        Self::new()
    }
}

with_passes!(dispatch!());
