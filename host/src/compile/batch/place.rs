//! Memory plan: where each row of each value lies while it is needed.

use super::levels::Levels;
use super::stream::{RowId, Rows, Step};
use super::values::Values;
use std::collections::HashMap;

/// Places, in rows of N words.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// The first row of the first ciphertext of each row of a value.
    pub of: HashMap<RowId, usize>,
    /// Rows in all.
    pub rows: usize,
}

/// First fit in the order of the steps; a row's place is free again after the last step that reads it.
pub fn place_steps(values: &Values<'_>, levels: &Levels, layouts: &[Rows], steps: &[Step]) -> Placement {
    let mut last: HashMap<RowId, usize> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for row in step.reads(values).into_iter().chain(step.writes()) {
            last.insert(row, i);
        }
    }
    let mut ends: HashMap<usize, Vec<RowId>> = HashMap::new();
    for (&row, &i) in &last {
        ends.entry(i).or_default().push(row);
    }
    let size = |(id, row): RowId| layouts[id].len(row) * values.list[id].polys * levels.of(values, id);
    let mut placement = Placement::default();
    // What lies where, by first row.
    let mut taken: Vec<(usize, usize, RowId)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if let Some(row) = step.writes().filter(|row| !placement.of.contains_key(row)) {
            let need = size(row);
            let mut at = 0;
            let mut index = taken.len();
            for (k, &(start, len, _)) in taken.iter().enumerate() {
                if at + need <= start {
                    index = k;
                    break;
                }
                at = start + len;
            }
            taken.insert(index, (at, need, row));
            placement.of.insert(row, at);
            placement.rows = placement.rows.max(at + need);
        }
        for row in ends.get(&i).into_iter().flatten() {
            taken.retain(|(_, _, other)| other != row);
        }
    }
    placement
}
