//! Strategies for an affine stage: where its rows are computed, how their partial sums are folded, and
//! which diagonals to try first. A strategy is a proposal; [`super::cover`] verifies it on the layout.

use super::cost::CostModel;
use super::fold::FoldAxis;
use super::graph::AffineTerm;
use super::layout::{Axis, Packing, Raster, raster};

/// A proposal for one affine stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// What it is, for the report.
    pub name: String,
    /// Pairs of home slot and row.
    pub homes: Vec<(u32, u32)>,
    /// The grid of partial sums of each row; empty when there is nothing to fold.
    pub fold: Vec<FoldAxis>,
    /// For each term the diagonals to try first.
    pub preferred: Vec<Vec<u32>>,
}

/// What the proposals depend on.
pub struct Site<'a> {
    /// Index of the stage.
    pub stage: usize,
    /// Its summands.
    pub terms: &'a [AffineTerm],
    /// The packings of the terms' inputs.
    pub inputs: Vec<&'a Packing>,
    /// Shape of the output.
    pub shape: &'a [usize],
    /// Slots that a later product wants the output in, if any.
    pub target: Option<Vec<u32>>,
    /// Prices, for ranking.
    pub model: &'a CostModel,
    /// Limbs at which the stage starts.
    pub limbs: usize,
}

/// How many dense proposals are evaluated exactly.
const DENSE_KEPT: usize = 10;

impl Site<'_> {
    pub(super) fn slots(&self) -> usize {
        self.model.slots
    }

    pub(super) fn rows(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn wrap(&self, slot: i64) -> u32 {
        slot.rem_euclid(self.slots() as i64) as u32
    }

    pub(super) fn fold_axis(&self, stride: usize, count: usize) -> FoldAxis {
        FoldAxis { stride, count, exact: (stride * count).is_multiple_of(self.slots()) }
    }

    /// Homes for `slots` (one per row), repeated every `period` slots.
    pub(super) fn repeat(&self, slots: impl Iterator<Item = usize> + Clone, period: usize) -> Vec<(u32, u32)> {
        (0..self.slots() / period)
            .flat_map(|copy| slots.clone().enumerate().map(move |(row, slot)| (slot + copy * period, row)))
            .map(|(slot, row)| ((slot % self.slots()) as u32, row as u32))
            .collect()
    }

    /// Proposals that always work: one diagonal for each distance of a column from its row's home.
    pub fn generic(&self) -> Vec<Strategy> {
        let n = self.slots();
        let rows = self.rows();
        let mut result = Vec::new();
        let mut push = |name: &str, slots: Vec<usize>, period: usize| {
            let mut sorted = slots.clone();
            sorted.sort_unstable();
            if slots.len() != rows || sorted.windows(2).any(|w| w[0] == w[1]) || sorted.last().is_none_or(|&s| s >= n) {
                return;
            }
            let first: Vec<u32> = slots.iter().map(|&s| s as u32).collect();
            let sets = raster(&first, self.shape).map_or_else(|| vec![vec![0]], |r| gaps(&r, self.shape[2]));
            let last = sorted.last().copied().unwrap_or(0);
            for set in sets {
                let span = (last + set.iter().max().copied().unwrap_or(0) + 1).next_power_of_two().max(period);
                if span > n {
                    continue;
                }
                let name =
                    if set.len() > 1 { format!("{name}, {} copies in gaps", set.len()) } else { name.to_owned() };
                let homes = set.iter().flat_map(|&gap| self.repeat(slots.iter().map(move |s| s + gap), span)).collect();
                result.push(Strategy { name, homes, fold: Vec::new(), preferred: vec![Vec::new(); self.terms.len()] });
            }
        };
        if let Some(target) = &self.target {
            push("aligned with factor", target.iter().map(|&s| s as usize).collect(), n);
        }
        let period = self.inputs.iter().map(|p| p.period).max().unwrap_or(n);
        for (term, input) in self.terms.iter().zip(&self.inputs) {
            let Some(first) = input.layout.first_slots(term.matrix.cols) else {
                continue;
            };
            let columns = |row: usize| &term.matrix.col[term.matrix.row_start[row]..term.matrix.row_start[row + 1]];
            if term.matrix.cols == rows {
                push("in place", first.iter().map(|&s| s as usize).collect(), period);
            }
            let least =
                (0..rows).filter_map(|row| columns(row).iter().map(|&c| first[c as usize] as usize).min()).collect();
            push("at first column", least, period);
            if let (Some(raster), &[_, height, width]) = (&input.raster, self.shape)
                && let Some(slots) = self.rescaled(input, term.matrix.cols, raster, height, width)
            {
                push("on raster", slots, period);
            }
        }
        push("consecutive", (0..rows).collect(), period);
        result
    }

    /// The output's own raster at the input's pitch, when the sizes are in an integral ratio.
    fn rescaled(
        &self,
        input: &Packing,
        columns: usize,
        raster: &Raster,
        height: usize,
        width: usize,
    ) -> Option<Vec<usize>> {
        let channels = self.shape[0];
        let area = columns / raster.channels.len();
        let ratio = |a: usize, b: usize| (b > 0 && a.is_multiple_of(b)).then(|| a / b);
        let side = area.isqrt();
        if side * side != area || height != width {
            return None;
        }
        let row = ratio(raster.row_stride * side, height)?;
        let column = ratio(raster.column_stride * side, width)?;
        let mut starts = raster.channels.clone();
        let step = channel_step(raster).unwrap_or(input.period);
        while starts.len() < channels {
            starts.push(starts.last()? + step);
        }
        let starts = &starts[..channels];
        Some(
            starts
                .iter()
                .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| c + y * row + x * column)))
                .collect(),
        )
    }

    /// The proposal for which the client packed the input.
    pub fn skewed(&self) -> Vec<Strategy> {
        let Some(skewed) = self.inputs[0].skewed.filter(|s| s.stage == self.stage) else {
            return Vec::new();
        };
        if self.inputs.iter().any(|input| input.skewed != Some(skewed)) {
            return Vec::new();
        }
        let positions = self.terms[0].conv.map_or(1, |conv| conv.output[1] * conv.output[2]);
        let rows = self.rows() / positions;
        let sum = skewed.tiles * skewed.inner;
        let block = sum * skewed.links;
        let homes = (0..self.slots() / block)
            .flat_map(|copy| {
                (0..rows * skewed.inner).map(move |i| {
                    let row = i / skewed.inner * positions + i % skewed.inner % positions;
                    ((copy * block + i) as u32, row as u32)
                })
            })
            .collect();
        let diagonals = |d: i64| self.wrap(d * skewed.inner as i64);
        let count = skewed.diagonals as i64;
        let preferred: Vec<u32> = (0..2 * count).map(diagonals).collect();
        let fold = if skewed.links > 1 {
            vec![FoldAxis { stride: sum, count: skewed.links, exact: true }]
        } else {
            Vec::new()
        };
        vec![Strategy { name: "packed columns".to_owned(), homes, fold, preferred: vec![preferred; self.terms.len()] }]
    }

    /// Proposals for a dense matrix over a grid: each axis is read by `s` interleaved rows (`s` diagonals) whose
    /// partial sums are folded over the rest of the axis; what rows are left go to the input's replicas.
    pub fn dense(&self) -> Vec<Strategy> {
        let (n, rows) = (self.slots(), self.rows());
        let input = self.inputs[0];
        let axes = &input.axes;
        let alike = |other: &&Packing| (&other.axes, other.period) == (axes, input.period);
        if axes.is_empty() || !self.inputs.iter().all(alike) {
            return Vec::new();
        }
        let copies = n / input.period;
        let mut found: Vec<(f64, Vec<usize>, usize)> = Vec::new();
        let mut blocks = copies;
        loop {
            let need = rows.div_ceil(blocks);
            for free in 0..axes.len() {
                self.interleavings(axes.len(), free, need, &mut |shares| {
                    let fits = axes.iter().enumerate().all(|(j, axis)| {
                        let room = axes.get(j + 1).map_or(input.period, |next| next.stride);
                        shares[j] * axis.stride <= room.max(axis.stride)
                    });
                    if fits && !found.iter().any(|(_, s, b)| s == shares && *b == blocks) {
                        found.push((self.estimate(axes, input.period, shares, 1), shares.to_vec(), blocks));
                    }
                });
            }
            if blocks == 1 {
                break;
            }
            blocks /= 2;
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut kept: Vec<&(f64, Vec<usize>, usize)> = found.iter().take(DENSE_KEPT).collect();
        let mut seen: Vec<usize> = kept.iter().map(|k| k.2).collect();
        for candidate in &found {
            if !seen.contains(&candidate.2) {
                seen.push(candidate.2);
                kept.push(candidate);
            }
        }
        kept.into_iter().flat_map(|(_, shares, _)| self.interleaved(input, shares)).collect()
    }

    /// All ways to give each axis a number of interleaved rows with a product of at least `need`: powers
    /// of two, and the least that suffices for axis `free`.
    fn interleavings(&self, axes: usize, free: usize, need: usize, found: &mut impl FnMut(&[usize])) {
        let bits = need.next_power_of_two().ilog2() as usize;
        let mut powers = vec![0; axes];
        loop {
            let others: usize = powers.iter().map(|&p: &usize| 1usize << p).product();
            let mut shares: Vec<usize> = powers.iter().map(|&p| 1 << p).collect();
            shares[free] = need.div_ceil(others);
            found(&shares);
            let Some(next) = (0..axes).find(|&j| j != free && powers[j] < bits) else {
                break;
            };
            for (j, power) in powers.iter_mut().enumerate() {
                if j != free && j < next {
                    *power = 0;
                }
            }
            powers[next] += 1;
        }
    }

    /// A guess at the time for rows interleaved in that way, with `taps` diagonals for each pair of channels.
    pub(super) fn estimate(&self, axes: &[Axis], period: usize, shares: &[usize], taps: usize) -> f64 {
        let mut diagonals = taps;
        let mut links = 1;
        for (axis, &share) in axes.iter().zip(shares) {
            let count = axis.count.div_ceil(share);
            links *= count;
            let around = axis.wraps || axis.stride * axis.count >= period;
            diagonals *= match (share, around) {
                (1, _) | (_, true) => share,
                _ => share + share.min(axis.count) - 1,
            };
        }
        let (model, limbs) = (self.model, self.limbs);
        let price = |counts| model.microseconds(&counts);
        let linear = (0..8)
            .map(|g| {
                let (babies, giants) = (diagonals.div_ceil(1 << g) - 1, (1 << g) - 1);
                price(model.linear_transform(limbs, &[babies], &[giants], diagonals, true))
                    + model.keys_us(limbs, babies + giants)
                    + model.inner_us(limbs, giants)
            })
            .fold(f64::INFINITY, f64::min);
        let round = price(model.rotate_sum(limbs - 1, 3, false)) + model.keys_us(limbs - 1, 3);
        linear + libm::log2(links as f64) / 2.0 * round
    }

    fn interleaved(&self, input: &Packing, shares: &[usize]) -> Vec<Strategy> {
        let (n, rows) = (self.slots(), self.rows());
        let per_block: usize = shares.iter().product();
        let slot = |row: usize| interleave(&input.axes, shares, row % per_block) + row / per_block * input.period;
        let used = rows.div_ceil(per_block).next_power_of_two();
        let homes = self.repeat((0..rows).map(slot), (used * input.period).min(n));
        let axis = |j: usize| {
            let axis = &input.axes[j];
            self.fold_axis(axis.stride * shares[j], axis.count.div_ceil(shares[j]))
        };
        let open: Vec<FoldAxis> = (0..shares.len()).map(axis).collect();
        let mut variants = vec![open.clone()];
        let last = shares.len() - 1;
        let stride = open[last].stride;
        if input.period.is_multiple_of(stride) {
            let mut closed = open;
            closed[last] = FoldAxis { stride, count: input.period / stride, exact: true };
            if closed != variants[0] {
                variants.push(closed);
            }
        }
        let preferred: Vec<u32> = interleaved_steps(&input.axes, shares).map(|d| self.wrap(d.1)).collect();
        variants
            .into_iter()
            .map(|mut fold| {
                fold.retain(|axis| axis.count > 1);
                Strategy {
                    name: format!("{shares:?} rows interleaved, {used} blocks"),
                    homes: homes.clone(),
                    fold,
                    preferred: vec![preferred.clone(); self.terms.len()],
                }
            })
            .collect()
    }

    /// The proposal for sums over whole channels (global pooling).
    pub fn channel_sum(&self) -> Vec<Strategy> {
        let ([term], [input]) = (self.terms, self.inputs.as_slice()) else {
            return Vec::new();
        };
        let Some(raster) = &input.raster else { return Vec::new() };
        let rows = self.rows();
        if raster.channels.len() != rows || term.matrix.cols == rows {
            return Vec::new();
        }
        let area = term.matrix.cols / rows;
        let mut fold: Vec<FoldAxis> = Vec::new();
        let mut covered = 1;
        for axis in &input.axes {
            if covered < area {
                let count = axis.count.min(area / covered);
                fold.push(self.fold_axis(axis.stride, count));
                covered *= count;
            }
        }
        let homes = self.repeat(raster.channels.iter().copied(), input.period);
        vec![Strategy { name: "sum of each channel".to_owned(), homes, fold, preferred: vec![vec![0]] }]
    }

    /// The proposals in tiers: a later tier is tried when an earlier one has no solution.
    pub fn tiers(&self) -> Vec<Vec<Strategy>> {
        let is_dense = |term: &AffineTerm| 4 * term.matrix.value.len() > term.matrix.rows * term.matrix.cols;
        if self.terms.iter().all(is_dense) {
            let mut first = self.skewed();
            if first.is_empty() {
                first = self.dense();
            }
            return vec![first, self.generic()];
        }
        let mut shaped = self.convolution();
        shaped.extend(self.upsampled());
        if shaped.is_empty() || self.target.is_some() {
            shaped.extend(self.channel_sum());
            return vec![self.skewed(), shaped.into_iter().chain(self.generic()).collect()];
        }
        let first = self.skewed();
        if first.is_empty() { vec![shaped, self.generic()] } else { vec![first, shaped, self.generic()] }
    }
}

/// Slot of the `index`-th of the rows interleaved along the axes.
pub(super) fn interleave(axes: &[Axis], shares: &[usize], mut index: usize) -> usize {
    let mut slot = 0;
    for (axis, share) in axes.iter().zip(shares) {
        slot += index % share * axis.stride;
        index /= share;
    }
    slot
}

/// Distances at which interleaved rows read, forward ones first; each with the number of axes along which it
/// goes backward.
pub(super) fn interleaved_steps(axes: &[Axis], shares: &[usize]) -> impl Iterator<Item = (usize, i64)> {
    let mut steps = vec![(0usize, 0i64)];
    for (axis, &share) in axes.iter().zip(shares).rev() {
        let (share, count) = (share as i64, axis.count as i64);
        let reach = if count <= share { share.max(count) } else { share };
        let along: Vec<i64> = (0..reach).chain((1..share).map(|s| -s)).collect();
        steps = steps
            .iter()
            .flat_map(|&(behind, d)| {
                along.iter().map(move |&s| (behind + usize::from(s < 0), d + s * axis.stride as i64))
            })
            .collect();
    }
    steps.sort_by_key(|step| step.0);
    steps.into_iter()
}

/// The common distance of a raster's channels, if they have one.
pub(super) fn channel_step(raster: &Raster) -> Option<usize> {
    let step = raster.channels.get(1)?.checked_sub(raster.channels[0])?;
    raster.channels.windows(2).all(|w| w[0] + step == w[1]).then_some(step)
}

/// Sets of 1, 2, 4, ... unused slots beside each position of a raster, halving its pitch along columns and rows
/// in turn; each set contains the one before.
pub(super) fn gaps(raster: &Raster, width: usize) -> Vec<Vec<usize>> {
    let (mut row, mut column) = (raster.row_stride, raster.column_stride);
    let extent = width * column;
    let mut sets = vec![vec![0]];
    let mut turn = 0;
    let grow = |sets: &mut Vec<Vec<usize>>, offset: usize| {
        let last = sets.last().cloned().unwrap_or_default();
        let shifted = last.iter().map(|s| s + offset);
        let next = last.iter().copied().chain(shifted).collect();
        sets.push(next);
    };
    loop {
        let columns = column.is_multiple_of(2);
        let rows = row.is_multiple_of(2) && row / 2 >= extent;
        if sets.len() > 5 || !(columns || rows) {
            return sets;
        }
        if columns && (turn == 0 || !rows) {
            column /= 2;
            grow(&mut sets, column);
        } else {
            row /= 2;
            grow(&mut sets, row);
        }
        turn = 1 - turn;
    }
}
