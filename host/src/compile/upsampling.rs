//! Strategies for maps of a finer raster than their input's: transposed convolutions, and what is merged with them.
//!
//! The bits of a slot's number are fields: column and row of the coarse position, and free bits, which hold channels and
//! unused gaps. The finer position takes the free bits next below the row's and the column's, so that the result is a
//! raster again; where there are none it takes others, which serves an output. Maps take what is left, from the top,
//! where rotations wrap around.

use std::collections::HashSet;

use super::layout::Raster;
use super::strategy::{Site, Strategy};

/// Neighbours of a coarse position that are tried as taps, along each axis.
const REACH: std::ops::RangeInclusive<i64> = -1..=1;

/// Where a coarse raster of `side` x `side` positions leaves bits of a slot's number free.
struct Fields {
    free: Vec<u32>,
    column: u32,
    row: u32,
}

impl Fields {
    fn of(raster: &Raster, side: usize, slots: usize) -> Option<Self> {
        let (row, column) = (raster.row_stride, raster.column_stride);
        let extent = side.next_power_of_two();
        if !row.is_power_of_two() || !column.is_power_of_two() || column * extent > row || row * extent > slots {
            return None;
        }
        let taken = (column * (extent - 1)) | (row * (extent - 1));
        let free = (0..slots.ilog2()).filter(|bit| taken >> bit & 1 == 0).collect();
        Some(Self { free, column: column.ilog2(), row: row.ilog2() })
    }

    /// Takes `count` free bits, the lowest first: those right below `field`, or else the highest.
    fn take(&mut self, count: u32, field: u32) -> Option<Vec<u32>> {
        let below: Vec<u32> = (field.saturating_sub(count)..field).collect();
        let adjacent = below.len() as u32 == count && below.iter().all(|bit| self.free.contains(bit));
        let first = self.free.len().checked_sub(count as usize)?;
        let bits = if adjacent { below } else { self.free[first..].to_vec() };
        self.free.retain(|bit| !bits.contains(bit));
        Some(bits)
    }
}

/// The number with bit i of `value` at `bits[i]`.
fn spread(value: usize, bits: &[u32]) -> usize {
    bits.iter().enumerate().map(|(i, &bit)| (value >> i & 1) << bit).sum()
}

impl Site<'_> {
    /// Proposals for an output whose side is a power of two times that of an input's raster.
    pub fn upsampled(&self) -> Vec<Strategy> {
        self.terms.iter().zip(&self.inputs).enumerate().filter_map(|(lead, _)| self.finer_than(lead)).take(1).collect()
    }

    /// The proposal that follows the raster of term `lead`.
    fn finer_than(&self, lead: usize) -> Option<Strategy> {
        let (term, raster) = (&self.terms[lead], self.inputs[lead].raster.as_ref()?);
        let &[maps, height, width] = self.shape else { return None };
        let area = term.matrix.cols / raster.channels.len();
        let side = area.isqrt();
        let ratio = height.checked_div(side)?;
        if side * side != area || height != width || height != side * ratio || ratio < 2 || !ratio.is_power_of_two() {
            return None;
        }
        let slots = self.slots();
        let mut fields = Fields::of(raster, side, slots)?;
        let columns = fields.take(ratio.ilog2(), fields.column)?;
        let rows = fields.take(ratio.ilog2(), fields.row)?;
        let map_bits = maps.next_power_of_two().ilog2() as usize;
        let first = fields.free.len().checked_sub(map_bits)?;
        let map_bits = fields.free[first..].to_vec();
        let phase = |m: usize, y: usize, x: usize| {
            spread(m, &map_bits) + spread(y % ratio, &rows) + spread(x % ratio, &columns)
        };
        let home = |m: usize, y: usize, x: usize| {
            y / ratio * raster.row_stride + x / ratio * raster.column_stride + phase(m, y, x)
        };
        let position = |row: usize| (row / (height * width), row / width % height, row % width);
        let homes = (0..self.rows()).map(|row| {
            let (m, y, x) = position(row);
            (home(m, y, x) as u32, row as u32)
        });
        let mut starts: Vec<usize> = (0..maps)
            .flat_map(|m| (0..ratio).flat_map(move |y| (0..ratio).map(move |x| (m, y, x))))
            .map(|(m, y, x)| phase(m, y, x))
            .collect();
        starts.sort_unstable();
        let preferred = self.inputs.iter().map(|input| {
            let Some(from) = &input.raster else { return Vec::new() };
            let mut seen = HashSet::new();
            let mut steps = Vec::new();
            let mut neighbours: Vec<(i64, i64)> = REACH.flat_map(|y| REACH.map(move |x| (y, x))).collect();
            neighbours.sort_by_key(|(y, x)| y.abs() + x.abs());
            for (y, x) in neighbours {
                let tap = y * from.row_stride as i64 + x * from.column_stride as i64;
                for &channel in &from.channels {
                    for &start in &starts {
                        let step = self.wrap(channel as i64 + tap - start as i64);
                        if seen.insert(step) {
                            steps.push(step);
                        }
                    }
                }
            }
            steps
        });
        let name = format!("{ratio} times finer");
        Some(Strategy { name, homes: homes.collect(), fold: Vec::new(), preferred: preferred.collect() })
    }
}
