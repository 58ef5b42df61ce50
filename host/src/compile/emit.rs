//! Emit: the program blob from a scheduled and placed slot program.

use super::lower::Lowered;
use super::place::Placement;
use super::schedule::{Schedule, Scheduled};
use super::slots::{Diagonal, SlotOp, SlotOpKind};
use crate::encode::{EncodeError, Encoder};
use crate::meta::Meta;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::{KeyKind, KeyRequest};
use cipherlens_kernel::math::{Backend, Modulus};
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::format::{FLAG_IDENTITY, FLAG_RESCALE, SECTION_TABLE, SECTIONS, Section, form, opcode};
use cipherlens_kernel::program::{Program, Scratch, table_rows};
use cipherlens_kernel::wire::{FileKind, Header};
use std::collections::BTreeMap;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum WeightForm {
    /// Signed coefficients of 16 or 32 bits, expanded on the device (or once, into a cache).
    #[default]
    Compact,
    /// Ready for products: no work on the device, many times the flash.
    Ntt,
}

/// Why no blob was made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmitError {
    /// A weight cannot be encoded.
    #[error("layer {layer}: {source}")]
    Encode {
        /// The layer.
        layer: String,
        /// Why.
        source: EncodeError,
    },
    /// A coefficient exceeds 32 bits.
    #[error("layer {layer}: a weight needs more than 32 bits at the scale 2^{log_scale:.1}")]
    Wide {
        /// The layer.
        layer: String,
        /// log2 of the scale.
        log_scale: f64,
    },
    /// The blob outgrows 32-bit offsets.
    #[error("the program has {bytes} bytes; a program may have 4 GiB")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A scale that is no number of at least 1.
    #[error("layer {layer}: its scale is out of range")]
    Scale {
        /// The layer.
        layer: String,
    },
    /// The kernel's verifier refuses the blob: a defect of the compiler.
    #[error("the kernel refuses the compiled program: {0}")]
    Refused(cipherlens_kernel::program::ProgramError),
}

pub(super) fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(super) fn double(scale: Scale) -> [u32; 2] {
    let bits = scale.value().to_bits();
    [bits as u32, (bits >> 32) as u32]
}

struct Emitter<'a> {
    set: &'a ParamSet,
    encoder: &'a Encoder,
    weights: WeightForm,
    ring: crate::ring::Ring,
    tables: Vec<u8>,
    plaintexts: Vec<u8>,
    plain_count: u32,
    data: Vec<u8>,
    cache_rows: usize,
    keys: BTreeMap<KeyKind, usize>,
}

impl Emitter<'_> {
    fn need(&mut self, kind: KeyKind, limbs: usize) {
        let entry = self.keys.entry(kind).or_insert(0);
        *entry = (*entry).max(limbs);
    }

    /// Adds a plaintext and returns its index.
    fn plain(
        &mut self,
        layer: &str,
        values: &[f64],
        scale: Scale,
        limbs: usize,
        special: bool,
    ) -> Result<u32, EmitError> {
        let error = |source| EmitError::Encode { layer: layer.into(), source };
        let rows = limbs + if special { self.set.special() } else { 0 };
        let index = self.plain_count;
        self.plain_count += 1;
        let uniform = values.iter().all(|v| *v == values[0]);
        let (form, offset, len, value) = if uniform {
            let value = libm::rint(values[0] * scale.value());
            if value.abs() >= (1u64 << 62) as f64 {
                return Err(error(EncodeError::TooLarge { scale: scale.value() }));
            }
            (form::SCALAR, 0, 0, value as i64)
        } else {
            let coefficients = self.encoder.encode(values, scale.value()).map_err(error)?;
            self.data.resize(self.data.len().next_multiple_of(64), 0);
            let start = self.data.len();
            let form = self.store(layer, &coefficients, scale, limbs, rows)?;
            (form, start, self.data.len() - start, 0)
        };
        let [lo, hi] = double(scale);
        let cache_row = self.cache_rows as u32;
        words(
            &mut self.plaintexts,
            &[
                form,
                limbs as u32,
                u32::from(special),
                offset as u32,
                len as u32,
                cache_row,
                lo,
                hi,
                value as u32,
                (value >> 32) as u32,
            ],
        );
        if form != form::SCALAR {
            self.cache_rows += rows;
        }
        Ok(index)
    }

    fn store(
        &mut self,
        layer: &str,
        coefficients: &[i64],
        scale: Scale,
        limbs: usize,
        rows: usize,
    ) -> Result<u32, EmitError> {
        if self.weights == WeightForm::Ntt {
            for t in 0..rows {
                let mut row = self.ring.transform(coefficients, limbs, t);
                let m: Modulus = self.ring.table(limbs, t).modulus;
                self.ring.backend.mul_scalar_assign(&mut row, m.montgomery_factor(), &m);
                words(&mut self.data, &row);
            }
            return Ok(form::NTT);
        }
        let largest = coefficients.iter().map(|c| c.unsigned_abs()).max().unwrap_or(0);
        if largest <= i16::MAX as u64 {
            self.data.extend(coefficients.iter().flat_map(|&c| (c as i16).to_le_bytes()));
            Ok(form::COMPACT16)
        } else if largest <= i32::MAX as u64 {
            self.data.extend(coefficients.iter().flat_map(|&c| (c as i32).to_le_bytes()));
            Ok(form::COMPACT32)
        } else {
            Err(EmitError::Wide { layer: layer.into(), log_scale: scale.log2() })
        }
    }

    /// The table of a linear transform, as the kernel's `Transform` reads it.
    fn transform(
        &mut self,
        op: &SlotOp,
        buffers: [&[u32]; 2],
        diagonals: &[Diagonal],
        scheduled: &Scheduled,
    ) -> Result<Vec<u32>, EmitError> {
        let n = self.set.n();
        let [sources, results] = buffers;
        let mut babies: Vec<(usize, u32)> = diagonals.iter().map(|d| (d.source, d.baby)).collect();
        babies.sort_unstable();
        babies.dedup();
        let mut giants: Vec<[u32; 3]> = Vec::new();
        let mut terms: Vec<u32> = Vec::new();
        for (i, d) in diagonals.iter().enumerate() {
            // rotate_g(P * rotate_b(x)) reads P at i + g: the diagonal is rotated right by g beforehand.
            let g = d.giant as usize;
            let rotated: Vec<f64> = (0..n).map(|k| d.values[(k + n - g) % n]).collect();
            let plain = self.plain(&op.layer, &rotated, scheduled.plain[d.source], scheduled.limbs, true)?;
            let baby = babies.binary_search(&(d.source, d.baby)).expect("collected above") as u32;
            terms.extend([baby, plain]);
            if diagonals.get(i + 1).is_none_or(|next| (next.result, next.giant) != (d.result, d.giant)) {
                giants.push([d.result as u32, d.giant, (terms.len() / 2) as u32]);
            }
        }
        let rotations = babies.iter().map(|b| b.1).chain(giants.iter().map(|g| g[1]));
        rotations.filter(|&r| r != 0).for_each(|r| self.need(KeyKind::Rotation(r), scheduled.limbs));
        let resting = giants.iter().filter(|g| g[1] == 0).count();
        let counts = [sources.len(), results.len(), babies.len(), resting, giants.len(), terms.len() / 2];
        let mut table = counts.map(|count| count as u32).to_vec();
        for (s, &buffer) in sources.iter().enumerate() {
            table.extend([buffer, babies.partition_point(|b| b.0 <= s) as u32]);
        }
        table.extend(results);
        table.extend(babies.iter().map(|b| b.1));
        table.extend(giants.iter().flatten());
        table.extend(terms);
        Ok(table)
    }
}

/// Writes the blob and checks it with the kernel's own verifier.
///
/// # Errors
/// [`EmitError`] names the layer whose weights do not fit.
pub fn emit(
    lowered: &Lowered,
    schedule: &Schedule,
    placement: &Placement,
    set: &ParamSet,
    weights: WeightForm,
    encoder: &Encoder,
    meta: &Meta,
) -> Result<Vec<u8>, EmitError> {
    let program = &lowered.program;
    let limbs = lowered.input_limbs.iter().chain(&lowered.levels).copied().max().unwrap_or(1);
    let mut e = Emitter {
        set,
        encoder,
        weights,
        ring: crate::ring::Ring::new(*set),
        tables: Vec::new(),
        plaintexts: Vec::new(),
        plain_count: 0,
        data: Vec::new(),
        cache_rows: 0,
        keys: BTreeMap::new(),
    };
    let mut layers: Vec<&str> = program.ops.iter().map(|op| op.layer.as_str()).collect();
    layers.dedup();
    let mut layer = 0;
    let mut instructions = Vec::new();
    for (op, s) in program.ops.iter().zip(&schedule.ops) {
        while layers[layer] != op.layer {
            layer += 1;
        }
        let buffer = |r: usize| placement.of[r] as u32;
        let mut flags = if s.rescale { FLAG_RESCALE } else { 0 };
        let plain_scale = s.plain.first().copied().unwrap_or(s.scale);
        let mut table: Vec<u32> = Vec::new();
        let (code, a, b, plain) = match &op.kind {
            SlotOpKind::LinearTransform { sources, diagonals, .. } => match diagonals.as_slice() {
                [d] if d.baby == 0 && d.giant == 0 => {
                    let plain = e.plain(&op.layer, &d.values, plain_scale, s.limbs, false)?;
                    (opcode::MUL_PLAIN, buffer(sources[0]), 0, plain)
                }
                _ => {
                    let buffers =
                        [sources, &op.results].map(|list| list.iter().map(|&r| buffer(r)).collect::<Vec<_>>());
                    table = e.transform(op, [&buffers[0], &buffers[1]], diagonals, s)?;
                    (opcode::LINEAR_TRANSFORM, 0, 0, 0)
                }
            },
            SlotOpKind::RotateSum { src, steps, .. } => {
                flags |= FLAG_IDENTITY;
                for &r in steps {
                    e.need(KeyKind::Rotation(r), s.limbs);
                }
                table.clone_from(steps);
                (opcode::ROTATE_SUM, buffer(*src), 0, 0)
            }
            SlotOpKind::AddPlain { src, values } => {
                (opcode::ADD_PLAIN, buffer(*src), 0, e.plain(&op.layer, values, plain_scale, s.limbs, false)?)
            }
            SlotOpKind::Add { a, b } => (opcode::ADD, buffer(*a), buffer(*b), 0),
            SlotOpKind::Mul { a, b, .. } => {
                e.need(KeyKind::Relin, s.limbs);
                (opcode::MUL, buffer(*a), buffer(*b), 0)
            }
        };
        let (offset, len) = (e.tables.len() as u32, table.len() as u32 * 4);
        words(&mut e.tables, &table);
        let [lo, hi] = double(s.scale);
        words(
            &mut instructions,
            &[code, layer as u32, buffer(op.results[0]), a, b, s.limbs as u32, flags, offset, len, plain, lo, hi],
        );
    }

    let mut sections: [Vec<u8>; SECTIONS] = Default::default();
    let keys: Vec<KeyRequest> = e.keys.iter().map(|(&kind, &limbs)| KeyRequest { kind, limbs }).collect();
    for key in &keys {
        words(&mut sections[Section::Manifest as usize], &[key.kind.code(), key.limbs as u32]);
    }
    for buffer in &placement.buffers {
        words(&mut sections[Section::Buffers as usize], &[buffer.row as u32, buffer.limbs as u32]);
    }
    for ((input, &limbs), &scale) in program.inputs.iter().zip(&lowered.input_limbs).zip(&schedule.inputs) {
        let [lo, hi] = double(scale);
        let record = [placement.of[input.register] as u32, limbs as u32, lo, hi];
        words(&mut sections[Section::Inputs as usize], &record);
    }
    for output in &program.outputs {
        let i =
            program.ops.iter().rposition(|op| op.results.contains(&output.register)).expect("an output is computed");
        let s = &schedule.ops[i];
        let [lo, hi] = double(s.scale);
        let record = [placement.of[output.register] as u32, (s.limbs - usize::from(s.rescale)) as u32, lo, hi];
        words(&mut sections[Section::Outputs as usize], &record);
    }
    for name in &layers {
        let text = &mut sections[Section::Text as usize];
        let at = text.len() as u32;
        text.extend_from_slice(name.as_bytes());
        words(&mut sections[Section::Names as usize], &[at, name.len() as u32]);
    }
    sections[Section::Instructions as usize] = instructions;
    sections[Section::Tables as usize] = e.tables;
    sections[Section::Plaintexts as usize] = e.plaintexts;
    sections[Section::Data as usize] = e.data;
    sections[Section::Meta as usize] = serde_json::to_vec(meta).expect("the metadata is plain data");
    let tables = table_rows(set, limbs);
    let params = |scratch_end: usize| {
        params(set, [limbs as u32, (tables + scratch_end) as u32, placement.rows as u32, e.cache_rows as u32])
    };
    // The scratch end is what the kernel computes for each instruction; a first blob with room for all is
    // read back to ask it.
    sections[Section::Params as usize] = params(u32::MAX as usize - tables);
    let draft = assemble(&sections, FileKind::Program, set)?;
    let view = Program::verify(&draft).map_err(EmitError::Refused)?;
    let end = (0..view.instructions())
        .filter_map(|i| view.instruction(i))
        .map(|i| Scratch::of(&i, set, placement.rows, 1).end)
        .max()
        .unwrap_or(placement.rows);
    sections[Section::Params as usize] = params(end);
    let bytes = assemble(&sections, FileKind::Program, set)?;
    Program::verify(&bytes).map_err(EmitError::Refused)?;
    Ok(bytes)
}

/// The section of parameters: `limbs` in use, then three words of the kind of program.
pub(super) fn params(set: &ParamSet, [limbs, a, b, c]: [u32; 4]) -> Vec<u8> {
    let mut name = [0u8; 8];
    name[..set.name().len()].copy_from_slice(set.name().as_bytes());
    let half = |i: usize| u32::from_le_bytes(name[i..i + 4].try_into().expect("four bytes"));
    let mut out = Vec::new();
    let shape = [set.log_n(), set.digit() as u32, set.limbs() as u32, set.special() as u32];
    words(&mut out, &shape);
    words(&mut out, &[limbs, a, b, c, half(0), half(4)]);
    words(&mut out, set.q());
    words(&mut out, set.p());
    out
}

/// A program file of some kind.
pub(super) fn assemble(sections: &[Vec<u8>], kind: FileKind, set: &ParamSet) -> Result<Vec<u8>, EmitError> {
    let mut bytes = vec![0; SECTION_TABLE + 8 * sections.len()];
    for (i, section) in sections.iter().enumerate() {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let record = [bytes.len() as u32, section.len() as u32];
        let place = SECTION_TABLE + 8 * i;
        bytes[place..place + 4].copy_from_slice(&record[0].to_le_bytes());
        bytes[place + 4..place + 8].copy_from_slice(&record[1].to_le_bytes());
        bytes.extend_from_slice(section);
    }
    if bytes.len() > u32::MAX as usize {
        return Err(EmitError::TooLarge { bytes: bytes.len() });
    }
    let end = bytes.len();
    Header::write(&mut bytes, kind, &set.fingerprint(), end).expect("the buffer holds the file");
    Ok(bytes)
}
