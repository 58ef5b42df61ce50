//! Layouts: which tensor element each slot of a ciphertext holds.

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// An element of the tensor, by flat index.
    Element(u32),
    /// Zero.
    Zero,
    /// Some finite value that no later weight may touch.
    Garbage,
}

/// The layout of one tensor in one ciphertext of `n` slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What each slot holds.
    pub slots: Vec<Slot>,
}

impl Layout {
    /// The least power of two by which the layout repeats; `n` when it does not.
    pub fn period(&self) -> usize {
        let n = self.slots.len();
        let repeats = |p: usize| self.slots[..n - p].iter().zip(&self.slots[p..]).all(|(a, b)| a == b);
        let mut period = 1;
        while period < n && !repeats(period) {
            period *= 2;
        }
        period
    }

    /// The first slot of each of `len` elements, or none when one is missing.
    pub fn first_slots(&self, len: usize) -> Option<Vec<u32>> {
        let mut first = vec![u32::MAX; len];
        for (slot, content) in self.slots.iter().enumerate().rev() {
            if let Slot::Element(element) = *content {
                *first.get_mut(element as usize)? = slot as u32;
            }
        }
        (!first.contains(&u32::MAX)).then_some(first)
    }

    /// For each of `len` elements all slots that hold it, ascending.
    pub fn positions(&self, len: usize) -> Vec<Vec<u32>> {
        let mut positions = vec![Vec::new(); len];
        for (slot, content) in self.slots.iter().enumerate() {
            if let Slot::Element(element) = *content {
                positions[element as usize].push(slot as u32);
            }
        }
        positions
    }

    /// The layout of a slot-wise product: an element where both factors hold the same one.
    pub fn product(&self, other: &Self) -> Self {
        let slots = self.slots.iter().zip(&other.slots);
        Self {
            slots: slots
                .map(|pair| match pair {
                    (Slot::Element(a), Slot::Element(b)) if a == b => Slot::Element(*a),
                    (Slot::Zero, _) | (_, Slot::Zero) => Slot::Zero,
                    _ => Slot::Garbage,
                })
                .collect(),
        }
    }
}

/// Slots of a tensor's elements as multiples of a stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Number of elements along the axis.
    pub count: usize,
    /// Distance of neighbours in slots.
    pub stride: usize,
    /// Whether the slots behind the last element repeat the first ones.
    pub wraps: bool,
}

/// A raster: element `(c, y, x)` is at slot `channels[c] + y * row_stride + x * column_stride`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Slot of each channel's first element.
    pub channels: Vec<usize>,
    /// Distance of two rows.
    pub row_stride: usize,
    /// Distance of two columns.
    pub column_stride: usize,
}

/// An input whose slots the client filled for one stage: tile `i / inner` holds the column
/// `(diagonals * link + r) mod (diagonals * links)` of the stage's matrix at each inner position,
/// where `link = tile / tiles mod links` and `r = tile mod tiles`.
///
/// The columns are the taps of a convolution (inner = output position), or those of a dense stage (inner = 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skewed {
    /// The stage that it was made for.
    pub stage: usize,
    /// Slots of a tile, a power of two.
    pub inner: usize,
    /// Tiles of a link: maps of the output, padded to a power of two.
    pub tiles: usize,
    /// Partial sums of a result.
    pub links: usize,
    /// Columns read from each link.
    pub diagonals: usize,
}

/// A layout with what is known about its structure; strategies are built from it, then verified on the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// The layout.
    pub layout: Layout,
    /// The least power of two by which it repeats.
    pub period: usize,
    /// A grid that contains every element of one period, ascending by stride.
    pub axes: Vec<Axis>,
    /// Set when the tensor lies on a raster.
    pub raster: Option<Raster>,
    /// Set for an input packed for its first stage.
    pub skewed: Option<Skewed>,
    /// A name for the report.
    pub name: String,
}

impl Packing {
    /// Derives the structure of the layout of a tensor of that shape; none when an element is missing.
    pub fn new(layout: Layout, shape: &[usize], skewed: Option<Skewed>, name: String) -> Option<Self> {
        let period = layout.period();
        let first = layout.first_slots(shape.iter().product())?;
        let mut axes = grid(&first);
        axes.retain(|axis| axis.count > 1);
        axes.sort_by_key(|axis| axis.stride);
        merge(&mut axes);
        for axis in &mut axes {
            let end = axis.count * axis.stride;
            let at = |slot: usize| layout.slots[slot % layout.slots.len()];
            let start = first.iter().copied().min().unwrap_or(0) as usize;
            axis.wraps = at(start + end) == at(start) && at(start + end + axis.stride) == at(start + axis.stride);
        }
        let raster = raster(&first, shape);
        Some(Self { layout, period, axes, raster, skewed, name })
    }
}

impl Packing {
    /// A part of an input: it need not hold every element.
    pub fn part(layout: Layout, skewed: Skewed, name: String) -> Self {
        let period = layout.period();
        Self { layout, period, axes: Vec::new(), raster: None, skewed: Some(skewed), name }
    }
}

/// The nested arithmetic progressions of a sequence of slots; one axis over the whole span when it has none.
pub fn grid(slots: &[u32]) -> Vec<Axis> {
    let axis = |count, stride| Axis { count, stride, wraps: false };
    let mut axes = Vec::new();
    let mut starts = slots.to_vec();
    while starts.len() > 1 {
        let stride = i64::from(starts[1]) - i64::from(starts[0]);
        let follows = |pair: &[u32]| i64::from(pair[1]) - i64::from(pair[0]) == stride;
        let count = 1 + starts.windows(2).take_while(|pair| follows(pair)).count();
        if stride <= 0 || !starts.chunks(count).all(|run| run.windows(2).all(follows)) {
            let least = slots.iter().min().copied().unwrap_or(0);
            let span = slots.iter().max().map_or(0, |&most| (most - least) as usize + 1);
            return vec![axis(span, 1)];
        }
        axes.push(axis(count, stride as usize));
        starts = starts.into_iter().step_by(count).collect();
    }
    axes
}

/// Most axes that a packing keeps.
const MAX_AXES: usize = 4;

/// Joins axes that continue each other; where more than [`MAX_AXES`] remain, the shortest steps are joined into an
/// axis that spans them, gaps included.
fn merge(axes: &mut Vec<Axis>) {
    let mut index = 0;
    while index + 1 < axes.len() {
        let (inner, outer) = (axes[index], axes[index + 1]);
        if inner.stride * inner.count == outer.stride {
            axes[index].count *= outer.count;
            axes.remove(index + 1);
        } else {
            index += 1;
        }
    }
    while axes.len() > MAX_AXES {
        let (inner, outer) = (axes[0], axes[1]);
        axes[0].count = (outer.stride * (outer.count - 1)).div_ceil(inner.stride) + inner.count;
        axes.remove(1);
    }
}

/// Recognises `(c, y, x)` at `channels[c] + y * row_stride + x * column_stride`.
pub fn raster(slots: &[u32], shape: &[usize]) -> Option<Raster> {
    let &[_, height, width] = shape else { return None };
    let at = |index: usize| slots[index] as usize;
    let column_stride = if width > 1 { at(1).checked_sub(at(0))? } else { 1 };
    let row_stride = if height > 1 { at(width).checked_sub(at(0))? } else { width * column_stride };
    let channels: Vec<usize> = (0..slots.len()).step_by(height * width).map(at).collect();
    let expected =
        |i: usize| channels[i / (height * width)] + i / width % height * row_stride + i % width * column_stride;
    (0..slots.len()).all(|i| at(i) == expected(i)).then_some(Raster { channels, row_stride, column_stride })
}

/// Fills slots with the elements of a tensor; slots without element are zero.
pub fn encode(element: &[Option<u32>], tensor: &[f64]) -> Vec<f64> {
    element.iter().map(|e| e.map_or(0.0, |e| tensor[e as usize])).collect()
}

/// Reads the elements of a tensor from their slots.
pub fn decode(slot: &[u32], slots: &[f64]) -> Vec<f64> {
    slot.iter().map(|&s| slots[s as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_and_positions() {
        let slots = (0..16).map(|i| if i % 4 == 3 { Slot::Zero } else { Slot::Element(i % 4) }).collect();
        let layout = Layout { slots };
        assert_eq!(layout.period(), 4);
        assert_eq!(layout.first_slots(3), Some(vec![0, 1, 2]));
        assert_eq!(layout.first_slots(4), None);
        assert_eq!(layout.positions(3)[1], [1, 5, 9, 13]);
        assert_eq!(layout.product(&layout), layout);
    }

    #[test]
    fn encode_then_decode() {
        let element = [Some(1), None, Some(0), Some(1)];
        let slots = encode(&element, &[5.0, 7.0]);
        assert_eq!(slots, [7.0, 0.0, 5.0, 7.0]);
        assert_eq!(decode(&[2, 0], &slots), [5.0, 7.0]);
    }
}
