//! Stream: the order of work on rows of tensors, so that a row is used soon after it was made and then forgotten.
//!
//! Inputs come row by row, and everything that can be computed is computed before the next one. A linear layer either
//! *gathers*: a row of results is made when all source rows that it needs are there; or *scatters*: each source row adds
//! to all rows of results at once, which are kept instead. Dense layers scatter; others gather unless memory is short.

use super::levels::Levels;
use super::place::{Placement, place_steps};
use super::values::{Node, Term, ValueId, Values};

/// How the elements of a tensor lie: rows of an image, in each the channels of one position together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Number of rows.
    pub rows: usize,
    width: usize,
    channels: usize,
}

impl Rows {
    /// The rows of a tensor of this shape; one row for what is no image.
    pub fn of(shape: &[usize]) -> Self {
        match *shape {
            [channels, rows, width] => Self { rows, width, channels },
            _ => Self { rows: 1, width: shape.iter().product(), channels: 1 },
        }
    }

    /// Elements of a row.
    pub fn len(&self) -> usize {
        self.width * self.channels
    }

    /// Row of an element, and its place there.
    pub fn place(&self, element: usize) -> (usize, usize) {
        let (line, x) = (element / self.width, element % self.width);
        let (channel, row) = (line / self.rows, line % self.rows);
        (row, x * self.channels + channel)
    }

    /// The element at a place of a row.
    pub fn element(&self, row: usize, place: usize) -> usize {
        let (x, channel) = (place / self.channels, place % self.channels);
        (channel * self.rows + row) * self.width + x
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
    let list = |flags: Vec<bool>| (0..flags.len()).filter(|&r| flags[r]).collect();
    needs.into_iter().map(list).collect()
}

/// A linear layer, or the term of one.
type TermId = (ValueId, usize);

struct Scheduler<'v, 'a> {
    values: &'v Values<'a>,
    layouts: &'v [Rows],
    needs: &'v [Vec<Vec<Vec<usize>>>],
    scatter: &'v [TermId],
    steps: Vec<Step>,
    made: Vec<Vec<bool>>,
    /// Of each row of a linear layer: source rows that each term still waits for.
    left: Vec<Vec<Vec<usize>>>,
    started: Vec<Vec<bool>>,
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
                Node::Mul(a, b) if [*a, *b].contains(&id) => {
                    if self.made[*a][row] && self.made[*b][row] {
                        self.steps.push(Step::Mul((next, row)));
                        self.arrive((next, row));
                    }
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
        let scatter = self.scatter.contains(&(id, term));
        for to in (0..self.layouts[id].rows).filter(|&to| needs[id][term][to].contains(&row)) {
            self.left[id][term][to] -= 1;
            if scatter {
                let accumulate = std::mem::replace(&mut self.started[id][to], true);
                self.steps.push(Step::Linear { to: (id, to), term, rows: vec![row], accumulate });
            }
            if (0..needs[id].len()).any(|t| self.left[id][t][to] > 0) {
                continue;
            }
            if !scatter {
                // The terms of most polynomials come first, because they define the row.
                let Node::Linear { terms, .. } = &self.values.list[id].node else { continue };
                let mut order: Vec<usize> = (0..terms.len()).filter(|&t| !needs[id][t][to].is_empty()).collect();
                order.sort_by_key(|&t| std::cmp::Reverse(self.values.list[terms[t].source].polys));
                for (i, &term) in order.iter().enumerate() {
                    let rows = needs[id][term][to].clone();
                    self.steps.push(Step::Linear { to: (id, to), term, rows, accumulate: i > 0 });
                }
            }
            self.arrive((id, to));
        }
    }
}

impl Stream {
    /// The order of work with some terms scattering.
    fn new(
        values: &Values<'_>,
        levels: &Levels,
        layouts: &[Rows],
        needs: &[Vec<Vec<Vec<usize>>>],
        scatter: &[TermId],
    ) -> Self {
        let rows = |of: &dyn Fn(usize) -> bool| layouts.iter().map(|l| vec![of(0); l.rows]).collect::<Vec<_>>();
        let mut scheduler = Scheduler {
            values,
            layouts,
            needs,
            scatter,
            steps: Vec::new(),
            made: rows(&|_| false),
            left: needs.iter().map(|terms| terms.iter().map(|t| t.iter().map(Vec::len).collect()).collect()).collect(),
            started: rows(&|_| false),
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

    /// The order of work that keeps an arena of `ram` bytes, or else takes least.
    pub fn within(values: &Values<'_>, levels: &Levels, ram: usize) -> Self {
        let layouts: Vec<Rows> = values.list.iter().map(|v| Rows::of(&v.shape)).collect();
        let needs: Vec<Vec<Vec<Vec<usize>>>> = (values.list.iter().enumerate())
            .map(|(id, value)| match &value.node {
                Node::Linear { terms, .. } => {
                    terms.iter().map(|t| self::needs(t, layouts[id], layouts[t.source])).collect()
                }
                _ => Vec::new(),
            })
            .collect();
        let single: Vec<TermId> = (0..needs.len()).filter(|&id| needs[id].len() == 1).map(|id| (id, 0)).collect();
        let source = |id: ValueId| values.list[id].sources()[0];
        let dense = |&&(id, _): &&TermId| {
            layouts[source(id)].rows > 1 && needs[id][0].iter().all(|n| n.len() == layouts[source(id)].rows)
        };
        let mut scatter: Vec<TermId> = single.iter().filter(dense).copied().collect();
        let bytes = |stream: &Self| (stream.placement.rows * levels.set.n()) << 2;
        let new = |scatter: &[TermId]| Self::new(values, levels, &layouts, &needs, scatter);
        let mut best = new(&scatter);
        while bytes(&best) > ram {
            let others = single.iter().filter(|t| !scatter.contains(t));
            let tried = others.map(|&t| (t, new(&[scatter.as_slice(), &[t]].concat())));
            let Some((term, found)) = tried.min_by_key(|(_, s)| bytes(s)).filter(|(_, s)| bytes(s) < bytes(&best))
            else {
                break;
            };
            scatter.push(term);
            best = found;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_channels_of_a_position_together() {
        let rows = Rows::of(&[3, 2, 4]);
        assert_eq!((rows.rows, rows.len()), (2, 12));
        for element in 0..24 {
            let (row, place) = rows.place(element);
            assert_eq!(rows.element(row, place), element);
        }
        // Channel 2, row 1, x 3.
        assert_eq!(rows.place((2 * 2 + 1) * 4 + 3), (1, 11));
        let flat = Rows::of(&[10]);
        assert_eq!((flat.rows, flat.place(7)), (1, (0, 7)));
    }
}
