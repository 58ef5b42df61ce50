//! The state of an interrupted batch: which instruction comes next, and the ciphertexts that are still needed.

use cipherlens_kernel::batch::{BatchEngine, BatchProgram, Cells, Operation};
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::KeySource;
use cipherlens_kernel::math::Backend;
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, Header, WireError, array_at, load_words, store_words, u64_at};
use std::ops::Range;

/// Why a state cannot be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file.
    #[error(transparent)]
    File(#[from] WireError),
    /// It belongs to something else.
    #[error("the state is of another {0}")]
    Other(&'static str),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Between two instructions of a batch program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchState {
    /// Identity of the secret key.
    pub key_id: [u8; 16],
    /// What the inputs are known by.
    pub batch: [u8; 32],
}

/// Bytes before the rows.
const FRONT: usize = HEADER_BYTES + 16 + 16 + 32 + 16;

/// Rows that instructions from `position` on read before they write them, as ranges.
fn live(program: &BatchProgram<'_>, position: usize) -> Vec<Range<usize>> {
    // 0: not touched yet, 1: live, 2: written first.
    let mut rows = vec![0u8; program.rows()];
    let mark = |rows: &mut [u8], cells: &Cells, count: usize, what: u8| {
        for row in cells.range(count).into_iter().flatten() {
            if rows[row] == 0 {
                rows[row] = what;
            }
        }
    };
    for instruction in (position..program.instructions()).filter_map(|i| program.instruction(i)) {
        let count = instruction.count;
        match instruction.operation {
            Operation::Load { to, .. } => mark(&mut rows, &to, count, 2),
            Operation::Mul { a, b, to } => {
                mark(&mut rows, &a, count, 1);
                mark(&mut rows, &b, count, 1);
                mark(&mut rows, &to, count, 2);
            }
            Operation::Divide { from, to, .. } => {
                mark(&mut rows, &from, count, 1);
                mark(&mut rows, &to, count, 2);
            }
            Operation::Store { from, .. } => mark(&mut rows, &from, count, 1),
            Operation::Linear { groups: (first, number), from, to } => {
                for group in (first..first + number).filter_map(|g| program.group(g)) {
                    for &tap in group.taps {
                        mark(&mut rows, &Cells { row: u32::from_le_bytes(tap) as usize, ..from }, 1, 1);
                    }
                    let results = Cells { row: to.at(group.first, 0, 0), ..to };
                    mark(&mut rows, &results, group.columns, if group.accumulate { 1 } else { 2 });
                }
            }
        }
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in (0..rows.len()).filter(|&r| rows[r] == 1) {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

impl BatchState {
    /// The file of an engine's state; none in the middle of an instruction.
    ///
    /// # Errors
    /// As [`BatchEngine::rows`].
    pub fn save<K: KeySource, B: Backend>(
        &self,
        engine: &BatchEngine<'_, '_, K, B>,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(position) = engine.position() else { return Ok(None) };
        let program = engine.program();
        let n = program.set().n();
        let ranges = live(program, position);
        let rows: usize = ranges.iter().map(Range::len).sum();
        let mut bytes = Vec::with_capacity(FRONT + rows * n * 4);
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(program.fingerprint());
        bytes.extend(self.key_id);
        bytes.extend(self.batch);
        bytes.extend((position as u64).to_le_bytes());
        bytes.extend((rows as u64).to_le_bytes());
        for range in ranges {
            let words = engine.rows(range.start, range.len())?;
            let start = bytes.len();
            bytes.resize(start + words.len() * 4, 0);
            store_words(&mut bytes[start..], words);
        }
        let end = bytes.len();
        Header::write(&mut bytes, FileKind::BatchCheckpoint, &program.set().fingerprint(), end)?;
        Ok(Some(bytes))
    }

    /// Puts an engine into the state in a file.
    ///
    /// # Errors
    /// [`StateError`] for a damaged file, or one of another program, key or batch; the engine is as it was.
    pub fn restore<K: KeySource, B: Backend>(
        &self,
        engine: &mut BatchEngine<'_, '_, K, B>,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        let header = Header::read(bytes, FileKind::BatchCheckpoint)?;
        header.check_digest(bytes, bytes.len())?;
        let short = WireError::Truncated { need: FRONT as u64, have: bytes.len() as u64 };
        let field = |at: usize| array_at::<16>(bytes, at).ok_or(short);
        if field(HEADER_BYTES)? != engine.program().fingerprint() {
            return Err(StateError::Other("program"));
        }
        if field(HEADER_BYTES + 16)? != self.key_id {
            return Err(StateError::Other("key"));
        }
        if array_at::<32>(bytes, HEADER_BYTES + 32).ok_or(short)? != self.batch {
            return Err(StateError::Other("batch"));
        }
        let position = u64_at(bytes, HEADER_BYTES + 64).ok_or(short)? as usize;
        let ranges = live(engine.program(), position);
        let row = engine.program().set().n() * 4;
        let need = FRONT + ranges.iter().map(Range::len).sum::<usize>() * row;
        if bytes.len() != need {
            return Err(WireError::Truncated { need: need as u64, have: bytes.len() as u64 }.into());
        }
        let mut rest = &bytes[FRONT..];
        for range in ranges {
            let (words, after) = rest.split_at(range.len() * row);
            load_words(engine.rows_mut(range.start, range.len())?, words);
            rest = after;
        }
        Ok(engine.resume(position)?)
    }
}
