//! Strategies for a convolution whose input lies on a raster.

use std::collections::HashSet;

use super::fold::{FoldAxis, offsets};
use super::graph::ConvGeometry;
use super::layout::{Axis, Packing, Raster, grid};
use super::strategy::{Site, Strategy, channel_step, gaps, interleave, interleaved_steps};

/// How many proposals are evaluated exactly.
const KEPT: usize = 12;

impl Site<'_> {
    /// Proposals for a convolution of a raster: positions stay where they are, channels are read like a dense
    /// matrix; output channels go to gaps of the raster, to neighbouring channels and to the input's replicas.
    ///
    /// Of several terms the convolution with the most channels leads. Terms on its raster are read alike, some with fewer
    /// channels; from others the weights go where they fit.
    pub fn convolution(&self) -> Vec<Strategy> {
        let Some((conv, input, raster)) = self.lead() else {
            return Vec::new();
        };
        let n = self.slots();
        let mut result = Vec::new();
        let taps = taps(&conv, raster);
        let mut push = |estimate: f64, name: String, channels: &[usize], fold: Vec<FoldAxis>, steps: &[i64]| {
            let slots = positions(&conv, raster, channels);
            let last = slots.iter().max().copied().unwrap_or(0);
            if last >= n {
                return;
            }
            let period = (last + 1).next_power_of_two().max(input.period);
            let mut preferred: Vec<u32> =
                steps.iter().flat_map(|&c| taps.iter().map(move |&t| c + t)).map(|d| self.wrap(d)).collect();
            let mut seen = HashSet::new();
            preferred.retain(|&d| seen.insert(d));
            let fold: Vec<FoldAxis> = fold.into_iter().filter(|axis| axis.count > 1).collect();
            let homes = self.repeat(slots.into_iter(), period);
            if collide(&homes, &offsets(&fold, n), n) {
                return;
            }
            let of_term = |term: usize| {
                if self.is_alike(term, &conv, input) { preferred.clone() } else { self.apart(term, &conv, channels) }
            };
            let preferred = (0..self.terms.len()).map(of_term).collect();
            result.push((estimate, Strategy { name, homes, fold, preferred }));
        };
        let [inputs, outputs] = [conv.input[0], conv.output[0]];
        if inputs == outputs && conv.groups > 1 {
            push(0.0, "depthwise".to_owned(), &raster.channels, Vec::new(), &[0]);
            if conv.kernel[0] <= conv.stride[0] && conv.kernel[1] <= conv.stride[1] && conv.pad == [0, 0] {
                let fold = vec![
                    self.fold_axis(raster.column_stride, conv.kernel[1]),
                    self.fold_axis(raster.row_stride, conv.kernel[0]),
                ];
                push(0.0, "folded window".to_owned(), &raster.channels, fold, &[0]);
            }
        }
        let step = channel_step(raster).unwrap_or_else(|| (conv.input[1] * raster.row_stride).next_power_of_two());
        let out = Raster {
            channels: Vec::new(),
            row_stride: raster.row_stride * conv.stride[0],
            column_stride: raster.column_stride * conv.stride[1],
        };
        let starts: Vec<u32> = raster.channels.iter().map(|&c| c as u32).collect();
        let mut axes = grid(&starts);
        let regular = conv.groups == 1 && axes.iter().map(|a| a.count).product::<usize>() == inputs;
        if axes.is_empty() || !regular {
            axes = vec![Axis { count: inputs, stride: step, wraps: false }];
        }
        for gaps in gaps(&out, conv.output[2]) {
            for shares in shares(&axes, outputs.max(inputs).next_power_of_two()) {
                let inside: usize = shares.iter().product();
                let fold: Vec<FoldAxis> =
                    axes.iter().zip(&shares).map(|(a, &s)| self.fold_axis(a.stride * s, a.count.div_ceil(s))).collect();
                let blocks = outputs.div_ceil(inside * gaps.len());
                if (blocks > 1 && blocks * input.period > n) || (!regular && fold[0].count > 1) {
                    continue;
                }
                let channels: Vec<usize> = (0..outputs)
                    .map(|m| {
                        let local = m / gaps.len();
                        gaps[m % gaps.len()]
                            + interleave(&axes, &shares, local % inside)
                            + local / inside * input.period
                    })
                    .collect();
                let steps: Vec<i64> = if regular {
                    interleaved_steps(&axes, &shares).map(|d| d.1).collect()
                } else {
                    let mut steps: Vec<i64> = raster
                        .channels
                        .iter()
                        .flat_map(|&from| channels.iter().map(move |&to| from as i64 - to as i64))
                        .collect();
                    steps.sort_by_key(|s| (s.abs(), *s));
                    steps.dedup();
                    steps
                };
                // An output in a gap reads from as far back.
                let steps: Vec<i64> = gaps.iter().flat_map(|&g| steps.iter().map(move |&s| s - g as i64)).collect();
                let spread = gaps.len().isqrt() + conv.kernel[1] - 1;
                let spread = spread * (gaps.len() / gaps.len().isqrt() + conv.kernel[0] - 1);
                let estimate = self.estimate(&axes, input.period, &shares, spread.max(taps.len()));
                push(
                    estimate,
                    format!("raster, {} channels in gaps, {shares:?} interleaved", gaps.len()),
                    &channels,
                    fold,
                    &steps,
                );
            }
        }
        result.sort_by(|a, b| a.0.total_cmp(&b.0));
        result.into_iter().take(KEPT).map(|r| r.1).collect()
    }
}

impl<'a> Site<'a> {
    /// The convolution with the most input channels, its input, and the raster of that.
    fn lead(&self) -> Option<(ConvGeometry, &'a Packing, &'a Raster)> {
        let terms = self.terms.iter().zip(&self.inputs);
        let shaped = terms.filter_map(|(term, input)| Some((term.conv?, *input, input.raster.as_ref()?)));
        let lead = shaped.max_by_key(|(conv, ..)| conv.input[0])?;
        (self.terms.len() == 1 || lead.0.groups == 1).then_some(lead)
    }

    /// Whether a term is the same convolution on the same raster, with the first of the channels.
    fn is_alike(&self, term: usize, conv: &ConvGeometry, input: &Packing) -> bool {
        let (Some(other), packing) = (self.terms[term].conv, self.inputs[term]) else { return false };
        let (Some(on), Some(raster)) = (&packing.raster, &input.raster) else { return false };
        ConvGeometry { input: conv.input, ..other } == *conv
            && packing.period == input.period
            && (on.row_stride, on.column_stride) == (raster.row_stride, raster.column_stride)
            && raster.channels.starts_with(&on.channels)
            && other.input[1..] == conv.input[1..]
    }

    /// Diagonals for a term with channels of its own, to outputs whose channels begin at `to`.
    fn apart(&self, term: usize, conv: &ConvGeometry, to: &[usize]) -> Vec<u32> {
        let Some(raster) = &self.inputs[term].raster else { return Vec::new() };
        let taps = taps(self.terms[term].conv.as_ref().unwrap_or(conv), raster);
        let mut seen = HashSet::new();
        let pairs = raster.channels.iter().flat_map(|&from| to.iter().map(move |&to| from as i64 - to as i64));
        let steps = pairs.flat_map(|c| taps.iter().map(move |&t| c + t)).map(|d| self.wrap(d));
        steps.filter(|&d| seen.insert(d)).collect()
    }
}

/// Powers of two up to the axis' count along each axis; along the last one up to `most`.
fn shares(axes: &[Axis], most: usize) -> Vec<Vec<usize>> {
    axes.iter().enumerate().fold(vec![Vec::new()], |all: Vec<Vec<usize>>, (index, axis)| {
        let bound = if index + 1 == axes.len() { most } else { axis.count };
        let powers = (0..=bound.ilog2()).map(|p| 1usize << p);
        all.iter().flat_map(|s| powers.clone().map(move |p| s.iter().copied().chain([p]).collect())).collect()
    })
}

/// Whether partial sums of two rows share a slot.
fn collide(homes: &[(u32, u32)], offsets: &[usize], n: usize) -> bool {
    let mut owner = vec![u32::MAX; n];
    homes.iter().any(|&(home, row)| {
        offsets.iter().any(|offset| {
            let owner = &mut owner[(home as usize + offset) % n];
            let other = *owner != u32::MAX && *owner != row;
            *owner = row;
            other
        })
    })
}

/// Slot distance of each tap from the home of its output position.
fn taps(conv: &ConvGeometry, raster: &Raster) -> Vec<i64> {
    let offset = |k: usize, pad: usize, stride: usize| (k as i64 - pad as i64) * stride as i64;
    (0..conv.kernel[0])
        .flat_map(|y| (0..conv.kernel[1]).map(move |x| (y, x)))
        .map(|(y, x)| offset(y, conv.pad[0], raster.row_stride) + offset(x, conv.pad[1], raster.column_stride))
        .collect()
}

/// Homes of all output elements for these channel starts.
fn positions(conv: &ConvGeometry, raster: &Raster, channels: &[usize]) -> Vec<usize> {
    let (row, column) = (conv.stride[0] * raster.row_stride, conv.stride[1] * raster.column_stride);
    let [_, height, width] = conv.output;
    channels
        .iter()
        .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| c + y * row + x * column)))
        .collect()
}
