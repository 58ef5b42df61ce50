//! Stream: the order of work on rows of tensors, so that a row is used soon after it was made and then forgotten.
//!
//! Inputs come row by row, and everything that can be computed is computed before the next one. A linear layer either
//! makes a row when all source rows that it needs are there, or in shares: a part of the source rows adds to the row, which
//! is kept in their place. Dense layers take each source row as it comes; others take shares only where memory is short.

use super::levels::Levels;
use super::place::{Placement, place_steps};
use super::values::{Node, Term, ValueId, Values};

/// How the elements of a tensor lie: rows of an image, or parts of rows where these are large, in each the channels of
/// one position together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Number of rows, parts counted.
    pub rows: usize,
    /// Rows of the image, its width and its channels.
    height: usize,
    width: usize,
    channels: usize,
    /// Width of a part; the last one of a row may be narrower.
    part: usize,
}

/// Most bytes of a part of a row.
const PART_BYTES: usize = 64 << 20;

impl Rows {
    /// The rows of a tensor of this shape whose ciphertexts have up to `bytes` bytes; one row for what is no image.
    pub fn of(shape: &[usize], bytes: usize) -> Self {
        match *shape {
            [channels, height, width] => {
                let parts = (channels * width * bytes).div_ceil(PART_BYTES).clamp(1, width);
                let part = width.div_ceil(parts);
                Self { rows: height * width.div_ceil(part), height, width, channels, part }
            }
            _ => {
                let width = shape.iter().product();
                Self { rows: 1, height: 1, width, channels: 1, part: width }
            }
        }
    }

    /// Parts of each row of the image.
    fn parts(&self) -> usize {
        self.width.div_ceil(self.part)
    }

    /// Elements of a row.
    pub fn len(&self, row: usize) -> usize {
        self.part.min(self.width - row % self.parts() * self.part) * self.channels
    }

    /// Row of an element, and its place there.
    pub fn place(&self, element: usize) -> (usize, usize) {
        let (line, x) = (element / self.width, element % self.width);
        let (channel, y) = (line / self.height, line % self.height);
        (y * self.parts() + x / self.part, x % self.part * self.channels + channel)
    }

    /// The element at a place of a row.
    pub fn element(&self, row: usize, place: usize) -> usize {
        let (y, part) = (row / self.parts(), row % self.parts());
        let (x, channel) = (part * self.part + place / self.channels, place % self.channels);
        (channel * self.height + y) * self.width + x
    }
}

/// A row of a value.
pub type RowId = (ValueId, usize);

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An input row.
    Load(RowId),
    /// What some rows of a term's source add to a row.
    Linear {
        /// The row.
        to: RowId,
        /// Which term.
        term: usize,
        /// Rows of its source, ascending.
        rows: Vec<usize>,
        /// Whether the row holds something already.
        accumulate: bool,
    },
    /// A row of a product.
    Mul(RowId),
    /// A row of a division.
    Divide(RowId),
    /// A row of output number `.1`.
    Store(RowId, usize),
}

impl Step {
    /// The rows that it reads.
    pub fn reads(&self, values: &Values<'_>) -> Vec<RowId> {
        match self {
            Self::Load(_) => Vec::new(),
            Self::Linear { to, term, rows, .. } => {
                let Node::Linear { terms, .. } = &values.list[to.0].node else { return Vec::new() };
                rows.iter().map(|&row| (terms[*term].source, row)).collect()
            }
            Self::Mul((id, row)) | Self::Divide((id, row)) => {
                values.list[*id].sources().into_iter().map(|source| (source, *row)).collect()
            }
            Self::Store(row, _) => vec![*row],
        }
    }

    /// The row that it writes.
    pub fn writes(&self) -> Option<RowId> {
        match self {
            Self::Load(row) | Self::Linear { to: row, .. } | Self::Mul(row) | Self::Divide(row) => Some(*row),
            Self::Store(..) => None,
        }
    }
}

/// The order of work.
pub struct Stream {
    /// How each value lies.
    pub layouts: Vec<Rows>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Where each row lies.
    pub placement: Placement,
}

/// For each row of results, the rows of a term's source that it needs.
fn needs(term: &Term<'_>, to: Rows, from: Rows) -> Vec<Vec<usize>> {
    let mut needs = vec![vec![false; from.rows]; to.rows];
    for element in 0..term.matrix.rows {
        let row = to.place(element).0;
        for (column, _) in term.matrix.row(element) {
            needs[row][from.place(column).0] = true;
        }
    }
    let list = |flags: Vec<bool>| (0..flags.len()).filter(|&r| flags[r]).collect::<Vec<_>>();
    // A row of biases alone is made, too, when there is any source row.
    needs.into_iter().map(list).map(|rows| if rows.is_empty() { vec![0] } else { rows }).collect()
}

/// A term of a linear layer.
type TermId = (ValueId, usize);

/// Whether the terms of a linear layer may add to a row in any order: each one defines all polynomials.
fn shareable(values: &Values<'_>, id: ValueId) -> bool {
    match &values.list[id].node {
        Node::Linear { terms, .. } => terms.iter().all(|t| values.list[t.source].polys == values.list[id].polys),
        _ => false,
    }
}

struct Scheduler<'v, 'a> {
    values: &'v Values<'a>,
    layouts: &'v [Rows],
    needs: &'v [Vec<Vec<Vec<usize>>>],
    /// In how many shares each term of a linear layer adds to a row.
    shares: &'v [Vec<usize>],
    steps: Vec<Step>,
    made: Vec<Vec<bool>>,
    /// Of each row of a linear layer: source rows that each term still waits for.
    left: Vec<Vec<Vec<usize>>>,
    started: Vec<Vec<bool>>,
    /// Source rows that have come and not been used.
    waiting: Vec<Vec<Vec<Vec<usize>>>>,
}

impl Scheduler<'_, '_> {
    /// Everything that follows from a new row.
    fn arrive(&mut self, (id, row): RowId) {
        self.made[id][row] = true;
        for output in (0..self.values.outputs.len()).filter(|&o| self.values.outputs[o] == id) {
            self.steps.push(Step::Store((id, row), output));
        }
        for next in id + 1..self.values.list.len() {
            match &self.values.list[next].node {
                Node::Mul(a, b) if [*a, *b].contains(&id) && self.made[*a][row] && self.made[*b][row] => {
                    self.steps.push(Step::Mul((next, row)));
                    self.arrive((next, row));
                }
                Node::Divide { source, .. } if *source == id => {
                    self.steps.push(Step::Divide((next, row)));
                    self.arrive((next, row));
                }
                Node::Linear { terms, .. } => {
                    for term in (0..terms.len()).filter(|&t| terms[t].source == id) {
                        self.feed(next, term, row);
                    }
                }
                _ => {}
            }
        }
    }

    /// A row of the source of a term has come.
    fn feed(&mut self, id: ValueId, term: usize, row: usize) {
        let needs = self.needs;
        for to in (0..self.layouts[id].rows).filter(|&to| needs[id][term][to].contains(&row)) {
            self.left[id][term][to] -= 1;
            let complete = (0..needs[id].len()).all(|t| self.left[id][t][to] == 0);
            if shareable(self.values, id) {
                let waiting = &mut self.waiting[id][term][to];
                waiting.push(row);
                let share = needs[id][term][to].len().div_ceil(self.shares[id][term]);
                if self.left[id][term][to] == 0 || waiting.len() >= share {
                    let rows = std::mem::take(waiting);
                    let accumulate = std::mem::replace(&mut self.started[id][to], true);
                    self.steps.push(Step::Linear { to: (id, to), term, rows, accumulate });
                }
            } else if complete {
                // The terms of most polynomials come first, because they define the row.
                let Node::Linear { terms, .. } = &self.values.list[id].node else { continue };
                let mut order: Vec<usize> = (0..terms.len()).collect();
                order.sort_by_key(|&t| std::cmp::Reverse(self.values.list[terms[t].source].polys));
                for (i, &term) in order.iter().enumerate() {
                    let rows = needs[id][term][to].clone();
                    self.steps.push(Step::Linear { to: (id, to), term, rows, accumulate: i > 0 });
                }
            }
            if complete {
                self.arrive((id, to));
            }
        }
    }
}

impl Stream {
    /// The order of work in which each row of a linear layer is made in some shares.
    fn new(
        values: &Values<'_>,
        levels: &Levels,
        layouts: &[Rows],
        needs: &[Vec<Vec<Vec<usize>>>],
        shares: &[Vec<usize>],
    ) -> Self {
        let mut scheduler = Scheduler {
            values,
            layouts,
            needs,
            shares,
            steps: Vec::new(),
            made: layouts.iter().map(|l| vec![false; l.rows]).collect(),
            left: needs.iter().map(|terms| terms.iter().map(|t| t.iter().map(Vec::len).collect()).collect()).collect(),
            started: layouts.iter().map(|l| vec![false; l.rows]).collect(),
            waiting: needs.iter().map(|terms| terms.iter().map(|t| vec![Vec::new(); t.len()]).collect()).collect(),
        };
        for (id, value) in values.list.iter().enumerate() {
            if matches!(value.node, Node::Input) {
                for row in 0..layouts[id].rows {
                    scheduler.steps.push(Step::Load((id, row)));
                    scheduler.arrive((id, row));
                }
            }
        }
        let steps = scheduler.steps;
        let placement = place_steps(values, levels, layouts, &steps);
        Self { layouts: layouts.to_vec(), steps, placement }
    }

    /// Bytes of all ciphertexts that lie in the arena.
    pub fn bytes(&self, levels: &Levels) -> usize {
        (self.placement.rows * levels.set.n()) << 2
    }

    /// The order of work that keeps an arena of `ram` bytes, or else takes least.
    pub fn within(values: &Values<'_>, levels: &Levels, ram: usize) -> Self {
        // Values between products and divisions have one layout, so all are cut for the largest ciphertexts.
        let most = 3 * levels.limbs[0] * levels.set.n() * 4;
        let layouts: Vec<Rows> = values.list.iter().map(|v| Rows::of(&v.shape, most)).collect();
        let needs: Vec<Vec<Vec<Vec<usize>>>> = (values.list.iter().enumerate())
            .map(|(id, value)| match &value.node {
                Node::Linear { terms, .. } => {
                    terms.iter().map(|t| self::needs(t, layouts[id], layouts[t.source])).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        let all = |&(id, term): &TermId| match &values.list[id].node {
            Node::Linear { terms, .. } => layouts[terms[term].source].rows,
            _ => 1,
        };
        let dense = |at: &TermId| needs[at.0][at.1].iter().all(|n| n.len() == all(at));
        let terms: Vec<TermId> = (0..needs.len())
            .filter(|&id| shareable(values, id))
            .flat_map(|id| (0..needs[id].len()).map(move |term| (id, term)))
            .collect();
        let mut shares: Vec<Vec<usize>> = needs.iter().map(|terms| vec![1; terms.len()]).collect();
        terms.iter().filter(|t| dense(t)).for_each(|t| shares[t.0][t.1] = all(t));
        let new = |shares: &[Vec<usize>]| Self::new(values, levels, &layouts, &needs, shares);
        let with = |shares: &[Vec<usize>], at: &TermId, number: usize| {
            let mut shares = shares.to_vec();
            shares[at.0][at.1] = number;
            (new(&shares), shares)
        };
        let mut best = new(&shares);
        while best.bytes(levels) > ram {
            // Twice the shares of one term, or the most.
            let moves = terms.iter().flat_map(|t| [2 * shares[t.0][t.1], all(t)].map(|more| (t, more.min(all(t)))));
            let tried = moves.filter(|&(t, more)| more > shares[t.0][t.1]).map(|(t, more)| with(&shares, t, more));
            let Some((found, changed)) =
                tried.min_by_key(|(s, _)| s.bytes(levels)).filter(|(s, _)| s.bytes(levels) < best.bytes(levels))
            else {
                break;
            };
            (best, shares) = (found, changed);
        }
        // Fewer shares where memory is left, first of the layers with most results, which every share reads and writes.
        let mut order: Vec<TermId> = terms.into_iter().filter(|t| !dense(t) && shares[t.0][t.1] > 1).collect();
        order.sort_by_key(|t| std::cmp::Reverse(values.list[t.0].len()));
        for term in order {
            while shares[term.0][term.1] > 1 {
                let (found, fewer) = with(&shares, &term, shares[term.0][term.1] / 2);
                if found.bytes(levels) > ram.max(best.bytes(levels)) {
                    break;
                }
                (best, shares) = (found, fewer);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_channels_of_a_position_together() {
        let rows = Rows::of(&[3, 2, 4], 1);
        assert_eq!((rows.rows, rows.len(0)), (2, 12));
        // Channel 2, row 1, x 3.
        assert_eq!(rows.place((2 * 2 + 1) * 4 + 3), (1, 11));
        let cut = Rows::of(&[3, 2, 5], PART_BYTES / 6);
        assert_eq!((cut.rows, [0, 1, 2, 3, 5].map(|row| cut.len(row))), (6, [6, 6, 3, 6, 3]));
        for rows in [rows, cut] {
            for element in 0..3 * rows.height * rows.width {
                let (row, place) = rows.place(element);
                assert!(place < rows.len(row));
                assert_eq!(rows.element(row, place), element);
            }
        }
        let flat = Rows::of(&[10], PART_BYTES);
        assert_eq!((flat.rows, flat.len(0), flat.place(7)), (1, 10, (0, 7)));
    }
}
