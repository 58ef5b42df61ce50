//! Products of a matrix of small weights with rows of residues.
//!
//! A tile is a vector of words for several columns, whose sums of 64 bits stay in registers while all rows go by. Plain
//! loops and no closures, as in [`dot`](super::dot).

use super::super::vector::{Prime, Vector};
use super::super::{PRODUCT_BLOCK, RowBlock};
use crate::math::Modulus;

/// Factors that bring a sum to its residue.
#[derive(Clone, Copy)]
struct Residue<V> {
    prime: Prime<V>,
    /// 2^31 in all lanes: times p it makes every sum positive.
    half: V,
    /// 2^64 modulo p, which makes up for two Montgomery reductions.
    square: V,
}

impl<V: Vector> Residue<V> {
    /// Range: between `-2^31 p` and `2^31 p`, to `[0, p)`.
    #[inline(always)]
    fn of(&self, sum: V::Wide) -> V {
        let positive = V::wide_mul_add(sum, self.prime.p, self.half);
        let low = self.prime.redc(positive);
        self.prime.redc(V::wide_mul_add(V::wide_zero(), low, self.square))
    }
}

/// `R` columns of a block, from `column` on; the `FIRST` ones ask for the next block.
#[inline(always)]
fn tile<V: Vector, const R: usize, const FIRST: bool>(
    out: &mut [[u32; PRODUCT_BLOCK]],
    x: &RowBlock<'_>,
    weights: &[[u8; 4]],
    column: usize,
    accumulate: bool,
    residue: &Residue<V>,
) {
    let columns = out.len().max(1);
    let Some(out) = out.get_mut(column..).and_then(|out| out.first_chunk_mut::<R>()) else { return };
    let lanes = V::LANES.max(1);
    let mut from = 0usize;
    while from < PRODUCT_BLOCK {
        let to = from.wrapping_add(lanes);
        let (start, end) = (x.at.wrapping_add(from), x.at.wrapping_add(to));
        let next = start.wrapping_add(PRODUCT_BLOCK);
        let mut sums = [V::wide_zero(); R];
        for (row, weights) in x.rows.iter().zip(weights.chunks_exact(columns)) {
            let weights = weights.get(column..).and_then(|w| w.first_chunk::<R>());
            // Both are always there; to go on with the next row would make the compiler move all sums.
            let (Some(words), Some(weights)) = (row.get(start..end), weights) else { break };
            // The rows lie far apart; nothing but this brings their next blocks near.
            if FIRST && let Some(block) = row.get(next..).and_then(|row| row.first_chunk()) {
                V::prefetch(block);
            }
            let words = V::load(words);
            let odd = words.odd();
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum = V::wide_signed_mul_add(*sum, words, odd, V::splat(u32::from_le_bytes(w)));
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            let out = out.get_mut(from..to).unwrap_or_default();
            let sum = residue.of(sum);
            let sum = if accumulate { residue.prime.add(V::load(out), sum) } else { sum };
            sum.store(out);
        }
        from = to;
    }
}

#[inline(always)]
pub fn matrix_product<V: Vector>(
    out: &mut [u32],
    x: &RowBlock<'_>,
    weights: &[[u8; 4]],
    accumulate: bool,
    m: &Modulus,
) {
    let (out, _) = out.as_chunks_mut::<PRODUCT_BLOCK>();
    let residue = Residue {
        prime: Prime::<V>::new(m),
        half: V::splat(1 << 31),
        square: V::splat(m.to_montgomery(m.to_montgomery(1))),
    };
    let mut column = 0usize;
    while let Some(left) = out.len().checked_sub(column).filter(|&left| left > 0) {
        let most = left.min(V::COLUMNS);
        macro_rules! tiles {
            ($columns:literal) => {{
                if column == 0 {
                    tile::<V, $columns, true>(out, x, weights, column, accumulate, &residue);
                } else {
                    tile::<V, $columns, false>(out, x, weights, column, accumulate, &residue);
                }
                $columns
            }};
        }
        let done = match most {
            12.. => tiles!(12),
            8.. => tiles!(8),
            4.. => tiles!(4),
            2.. => tiles!(2),
            _ => tiles!(1),
        };
        column = column.wrapping_add(done);
    }
}
