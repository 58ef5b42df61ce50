//! Arithmetic on compressed-row matrices.

use super::graph::SparseMatrix;

impl SparseMatrix {
    /// Builds a `rows x cols` matrix row by row; `fill` pushes the entries of a row with ascending columns.
    ///
    /// Entries equal to zero are left out.
    pub fn from_rows(rows: usize, cols: usize, mut fill: impl FnMut(usize, &mut Vec<(usize, f64)>)) -> Self {
        let mut matrix =
            Self { rows, cols, row_start: Vec::with_capacity(rows + 1), col: Vec::new(), value: Vec::new() };
        matrix.row_start.push(0);
        let mut row = Vec::new();
        for r in 0..rows {
            row.clear();
            fill(r, &mut row);
            debug_assert!(row.windows(2).all(|w| w[0].0 < w[1].0), "columns ascend");
            debug_assert!(row.iter().all(|&(c, _)| c < cols), "columns are in range");
            for &(c, v) in row.iter().filter(|&&(_, v)| v != 0.0) {
                matrix.col.push(c as u32);
                matrix.value.push(v);
            }
            matrix.row_start.push(matrix.col.len());
        }
        matrix
    }

    /// Builds a `rows x cols` matrix from `(row, column, value)` in any order; repeated places add up.
    ///
    /// # Panics
    /// If a place is outside the matrix.
    pub fn from_triplets(rows: usize, cols: usize, triplets: &[(usize, usize, f64)]) -> Self {
        let mut sorted = triplets.to_vec();
        sorted.sort_by_key(|&(r, c, _)| (r, c));
        assert!(sorted.iter().all(|&(r, c, _)| r < rows && c < cols), "place outside the matrix");
        let mut rest = sorted.as_slice();
        Self::from_rows(rows, cols, |row, out| {
            while let Some((&(r, c, v), tail)) = rest.split_first() {
                if r != row {
                    break;
                }
                match out.last_mut() {
                    Some(last) if last.0 == c => last.1 += v,
                    _ => out.push((c, v)),
                }
                rest = tail;
            }
        })
    }

    /// The `n x n` identity.
    pub fn identity(n: usize) -> Self {
        Self::diagonal(&vec![1.0; n])
    }

    /// The square matrix with these values on its diagonal.
    pub fn diagonal(values: &[f64]) -> Self {
        Self::from_rows(values.len(), values.len(), |r, out| out.push((r, values[r])))
    }

    /// Number of stored entries.
    pub fn nnz(&self) -> usize {
        self.value.len()
    }

    /// The entries of row `r` as `(column, value)`, columns ascending.
    pub fn row(&self, r: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.row_start[r]..self.row_start[r + 1];
        self.col[range.clone()].iter().map(|&c| c as usize).zip(self.value[range].iter().copied())
    }

    /// `A x`; `x` has `cols` elements, the result has `rows`.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn matvec(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(x.len(), self.cols, "vector length");
        (0..self.rows).map(|r| self.row(r).map(|(c, v)| v * x[c]).sum()).collect()
    }

    /// `A B`, of shape `[A.rows][B.cols]`.
    ///
    /// # Panics
    /// If `A.cols` is not `B.rows`.
    pub fn multiply(&self, right: &Self) -> Self {
        assert_eq!(self.cols, right.rows, "inner dimension");
        if let Some(d) = right.as_diagonal() {
            let mut out = self.clone();
            out.value.iter_mut().zip(&out.col).for_each(|(v, &c)| *v *= d[c as usize]);
            return out.without_zeros();
        }
        if let Some(d) = self.as_diagonal() {
            let mut out = right.clone();
            for (r, d) in d.iter().enumerate() {
                out.value[right.row_start[r]..right.row_start[r + 1]].iter_mut().for_each(|v| *v *= d);
            }
            return out.without_zeros();
        }
        // Per column: the row that last touched it, and that row's sum.
        // Skewed, since columns a power of two apart (channels of an image) would share a cache set.
        let at = |c: usize| c + (c >> 10) * 4;
        let mut sums = vec![(usize::MAX, 0.0); at(right.cols) + 1];
        let mut touched = Vec::new();
        Self::from_rows(self.rows, right.cols, |r, out| {
            touched.clear();
            for (k, a) in self.row(r) {
                for (c, b) in right.row(k) {
                    let (seen, sum) = &mut sums[at(c)];
                    if *seen == r {
                        *sum += a * b;
                    } else {
                        (*seen, *sum) = (r, a * b);
                        touched.push(c);
                    }
                }
            }
            touched.sort_unstable();
            out.extend(touched.iter().map(|&c| (c, sums[at(c)].1)));
        })
    }

    /// Number of entries that [`SparseMatrix::multiply`] fills: exact up to 4096 rows, else from as many samples.
    ///
    /// # Panics
    /// If `A.cols` is not `B.rows`.
    pub fn product_nnz(&self, right: &Self) -> usize {
        const SAMPLES: usize = 4096;
        assert_eq!(self.cols, right.rows, "inner dimension");
        let mut seen = vec![usize::MAX; right.cols];
        let mut count = 0;
        let samples = self.rows.min(SAMPLES);
        for i in 0..samples {
            // An odd multiple far from the image width, so that borders are sampled like the rest.
            let r = if samples == self.rows { i } else { i * 0x9e37_79b1 % self.rows };
            for (k, _) in self.row(r) {
                for (c, _) in right.row(k) {
                    count += usize::from(std::mem::replace(&mut seen[c], i) != i);
                }
            }
        }
        (count as u128 * self.rows as u128 / samples.max(1) as u128) as usize
    }

    /// `A + B` of two matrices of one shape.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn add(&self, other: &Self) -> Self {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols), "shapes");
        Self::from_rows(self.rows, self.cols, |r, out| {
            let mut b = other.row(r).peekable();
            for (c, v) in self.row(r) {
                while let Some(entry) = b.next_if(|e| e.0 < c) {
                    out.push(entry);
                }
                out.push((c, v + b.next_if(|e| e.0 == c).map_or(0.0, |e| e.1)));
            }
            out.extend(b);
        })
    }

    /// Multiplies every entry by `factor`.
    pub fn scale_assign(&mut self, factor: f64) {
        self.value.iter_mut().for_each(|v| *v *= factor);
    }

    /// The diagonal (`[rows]`, zero where no entry is stored) if the matrix is square and has no other entry.
    pub fn as_diagonal(&self) -> Option<Vec<f64>> {
        if self.rows != self.cols || self.nnz() > self.rows {
            return None;
        }
        let mut diagonal = vec![0.0; self.rows];
        for (r, d) in diagonal.iter_mut().enumerate() {
            for (c, v) in self.row(r) {
                if c != r {
                    return None;
                }
                *d = v;
            }
        }
        Some(diagonal)
    }

    /// The value that all entries share, if they do and there is one.
    pub fn uniform_value(&self) -> Option<f64> {
        let &first = self.value.first()?;
        self.value.iter().all(|&v| v == first).then_some(first)
    }

    /// Whether no column has more than one entry (scalings, permutations, pads, selections without repetition).
    pub fn columns_are_single(&self) -> bool {
        let mut seen = vec![false; self.cols];
        self.nnz() <= self.cols && self.col.iter().all(|&c| !std::mem::replace(&mut seen[c as usize], true))
    }

    fn without_zeros(self) -> Self {
        if self.value.iter().all(|&v| v != 0.0) {
            return self;
        }
        Self::from_rows(self.rows, self.cols, |r, out| out.extend(self.row(r)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(m: &SparseMatrix) -> Vec<Vec<f64>> {
        (0..m.rows)
            .map(|r| {
                let mut row = vec![0.0; m.cols];
                m.row(r).for_each(|(c, v)| row[c] = v);
                row
            })
            .collect()
    }

    #[test]
    fn triplets_add_up_and_drop_zeros() {
        let m = SparseMatrix::from_triplets(2, 3, &[(1, 2, 4.0), (0, 1, 2.0), (1, 2, 1.0), (0, 0, 0.0)]);
        assert_eq!(dense(&m), [[0.0, 2.0, 0.0], [0.0, 0.0, 5.0]]);
        assert_eq!(m.nnz(), 2);
        assert_eq!(m.matvec(&[1.0, 2.0, 3.0]), [4.0, 15.0]);
    }

    #[test]
    fn product_and_sum_match_the_schoolbook() {
        let a = SparseMatrix::from_triplets(2, 3, &[(0, 0, 1.0), (0, 2, 2.0), (1, 1, -3.0)]);
        let b = SparseMatrix::from_triplets(3, 2, &[(0, 1, 5.0), (1, 0, 7.0), (2, 0, 1.0), (2, 1, -1.0)]);
        assert_eq!(dense(&a.multiply(&b)), [[2.0, 3.0], [-21.0, 0.0]]);
        assert_eq!(a.product_nnz(&b), 3);
        let c = SparseMatrix::from_triplets(2, 3, &[(0, 1, 4.0), (0, 2, -2.0), (1, 0, 1.0)]);
        assert_eq!(dense(&a.add(&c)), [[1.0, 4.0, 0.0], [1.0, -3.0, 0.0]]);
    }

    #[test]
    fn diagonals_take_the_short_way() {
        let d = SparseMatrix::diagonal(&[2.0, 0.0, -1.0]);
        let m = SparseMatrix::from_triplets(3, 3, &[(0, 1, 1.0), (1, 1, 1.0), (2, 0, 3.0)]);
        assert_eq!(dense(&d.multiply(&m)), [[0.0, 2.0, 0.0], [0.0; 3], [-3.0, 0.0, 0.0]]);
        assert_eq!(dense(&m.multiply(&d)), [[0.0; 3], [0.0; 3], [6.0, 0.0, 0.0]]);
        assert_eq!(d.as_diagonal(), Some(vec![2.0, 0.0, -1.0]));
        assert_eq!(m.as_diagonal(), None);
        assert!(d.columns_are_single() && !m.columns_are_single());
        assert_eq!(SparseMatrix::identity(3).uniform_value(), Some(1.0));
    }
}
