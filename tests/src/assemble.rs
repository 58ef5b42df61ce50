//! An assembler for programs: every instruction and plaintext form, with the result in `f64` and the predicted
//! noise beside each register.

use crate::{Lcg, mean_square};
use cipherlens::encode::Encoder;
use cipherlens::noise::NoiseModel;
use cipherlens::ring::Ring;
use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::KeyKind;
use cipherlens_kernel::math::Backend;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::format::{
    FLAG_IDENTITY, FLAG_RESCALE, PARAM_WORDS, SECTION_TABLE, SECTIONS, Section, form, opcode,
};
use cipherlens_kernel::program::{Program, Scratch, table_rows};
use cipherlens_kernel::wire::{FileKind, Header, u32_at};
use std::collections::BTreeMap;

/// The sections of a program, to be changed and joined again.
pub type Sections = [Vec<u8>; SECTIONS];

/// Takes a program apart.
pub fn split<const N: usize>(bytes: &[u8]) -> [Vec<u8>; N] {
    std::array::from_fn(|i| {
        let at = SECTION_TABLE + 8 * i;
        let (start, len) = (u32_at(bytes, at).expect("a program"), u32_at(bytes, at + 4).expect("a program"));
        bytes[start as usize..][..len as usize].to_vec()
    })
}

/// Puts a program together, with a digest that matches.
pub fn join(sections: &Sections, fingerprint: &[u8; 16]) -> Vec<u8> {
    join_as(FileKind::Program, sections, fingerprint)
}

/// Puts a program of either kind together, with a digest that matches.
pub fn join_as(kind: FileKind, sections: &[Vec<u8>], fingerprint: &[u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; SECTION_TABLE + 8 * sections.len()];
    for (i, section) in sections.iter().enumerate() {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let record = [bytes.len() as u32, section.len() as u32];
        bytes[SECTION_TABLE + 8 * i..][..8].copy_from_slice(bytemuck::cast_slice(&record.map(u32::to_le)));
        bytes.extend_from_slice(section);
    }
    seal(&mut bytes, kind, fingerprint);
    bytes
}

/// Writes a header whose digest covers the whole file.
pub fn seal(bytes: &mut [u8], kind: FileKind, fingerprint: &[u8; 16]) {
    let end = bytes.len();
    Header::write(bytes, kind, fingerprint, end).expect("a whole file");
}

/// Word `i` of a section.
pub fn word(section: &[u8], i: usize) -> u32 {
    u32_at(section, 4 * i).expect("a word of the section")
}

/// Changes word `i` of a section.
pub fn set_word(section: &mut [u8], i: usize, value: u32) {
    section[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn words(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

pub(crate) fn double(scale: Scale) -> [u32; 2] {
    let bits = scale.value().to_bits();
    [bits as u32, (bits >> 32) as u32]
}

/// How a plaintext is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One integer; the values must be equal.
    Scalar,
    /// 16-bit coefficients.
    Compact16,
    /// 32-bit coefficients.
    Compact32,
    /// Ready for products.
    Ntt,
}

/// A ciphertext buffer with what it should hold.
#[derive(Debug, Clone)]
pub struct Register {
    /// Its buffer.
    pub buffer: usize,
    /// Its limbs.
    pub limbs: usize,
    /// Its scale.
    pub scale: Scale,
    /// What an exact evaluation gives.
    pub values: Vec<f64>,
    /// Predicted variance of a slot's error, in integer units.
    pub variance: f64,
}

/// One diagonal: `values[i] * x[i + baby + giant]` to slot i of a result.
pub struct Diagonal {
    /// Which source is x.
    pub source: usize,
    /// Which result.
    pub result: usize,
    /// Rotation before the product.
    pub baby: u32,
    /// Rotation after it.
    pub giant: u32,
    /// Weights by output slot.
    pub values: Vec<f64>,
    /// How they are stored.
    pub form: Form,
}

/// An assembled program and what it should compute.
pub struct Assembled {
    /// The program file.
    pub bytes: Vec<u8>,
    /// Slots of each input.
    pub inputs: Vec<Vec<f64>>,
    /// The registers of the outputs.
    pub outputs: Vec<Register>,
}

/// Writes a program instruction by instruction; every result has a buffer of its own.
pub struct Assembler {
    set: ParamSet,
    limbs: usize,
    ring: Ring,
    encoder: Encoder,
    noise: NoiseModel,
    fresh: f64,
    rows: usize,
    cache_rows: usize,
    keys: BTreeMap<KeyKind, usize>,
    inputs: Vec<Vec<f64>>,
    plains: u32,
    sections: Sections,
}

impl Assembler {
    /// A program over the first `limbs` primes of `set`, with inputs under the public key if `public`.
    pub fn new(set: ParamSet, limbs: usize, public: bool) -> Self {
        let noise = NoiseModel::new(set);
        let fresh = if public { noise.fresh_public() } else { noise.fresh() };
        let mut sections: Sections = Default::default();
        words(&mut sections[Section::Names as usize], &[0, 4]);
        sections[Section::Text as usize] = b"test".to_vec();
        sections[Section::Meta as usize] = b"{}".to_vec();
        Self {
            set,
            limbs,
            ring: Ring::new(set),
            encoder: Encoder::new(set.log_n()),
            noise,
            fresh,
            rows: 0,
            cache_rows: 0,
            keys: BTreeMap::new(),
            inputs: Vec::new(),
            plains: 0,
            sections,
        }
    }

    fn section(&mut self, section: Section) -> &mut Vec<u8> {
        &mut self.sections[section as usize]
    }

    /// The prime that a rescale at `limbs` limbs drops.
    pub fn prime_at(&self, limbs: usize) -> u32 {
        self.set.q()[limbs - 1]
    }

    fn buffer(&mut self, limbs: usize) -> usize {
        let record = [self.rows as u32, limbs as u32];
        self.rows += 2 * limbs;
        let buffers = self.section(Section::Buffers);
        words(buffers, &record);
        buffers.len() / 8 - 1
    }

    fn key(&mut self, kind: KeyKind, limbs: usize) {
        let entry = self.keys.entry(kind).or_insert(0);
        *entry = limbs.max(*entry);
    }

    /// An input that holds `values`.
    pub fn input(&mut self, values: Vec<f64>, limbs: usize, log_scale: f64) -> Register {
        let scale = Scale::new(log_scale.exp2()).expect("a scale");
        let buffer = self.buffer(limbs);
        let [lo, hi] = double(scale);
        words(self.section(Section::Inputs), &[buffer as u32, limbs as u32, lo, hi]);
        self.inputs.push(values.clone());
        Register { buffer, limbs, scale, values, variance: self.fresh + self.noise.encoding() }
    }

    /// Stores a plaintext; returns its index and the variance of its rounding.
    fn plain(&mut self, values: &[f64], scale: Scale, limbs: usize, special: bool, kind: Form) -> (u32, f64) {
        let rows = limbs + if special { self.set.special() } else { 0 };
        let mut data = std::mem::take(self.section(Section::Data));
        data.resize(data.len().next_multiple_of(64), 0);
        let start = data.len();
        let exact = values[0] * scale.value();
        let coefficients = self.encoder.encode(values, scale.value()).expect("the weights fit");
        let (code, value) = match kind {
            Form::Scalar => (form::SCALAR, exact.round() as i64),
            Form::Compact16 => {
                data.extend(coefficients.iter().flat_map(|&c| i16::try_from(c).expect("16 bits").to_le_bytes()));
                (form::COMPACT16, 0)
            }
            Form::Compact32 => {
                data.extend(coefficients.iter().flat_map(|&c| i32::try_from(c).expect("32 bits").to_le_bytes()));
                (form::COMPACT32, 0)
            }
            Form::Ntt => {
                for t in 0..rows {
                    let mut row = self.ring.transform(&coefficients, limbs, t);
                    let m = self.ring.table(limbs, t).modulus;
                    self.ring.backend.mul_scalar_assign(&mut row, m.montgomery_factor(), &m);
                    words(&mut data, &row);
                }
                (form::NTT, 0)
            }
        };
        let (at, len) = if kind == Form::Scalar { (0, 0) } else { (start as u32, (data.len() - start) as u32) };
        *self.section(Section::Data) = data;
        let ([lo, hi], cache_row) = (double(scale), self.cache_rows as u32);
        let record =
            [code, limbs as u32, special.into(), at, len, cache_row, lo, hi, value as u32, (value >> 32) as u32];
        words(self.section(Section::Plaintexts), &record);
        if kind != Form::Scalar {
            self.cache_rows += rows;
        }
        self.plains += 1;
        let rounding = if kind == Form::Scalar { (exact - exact.round()).powi(2) } else { self.noise.encoding() };
        (self.plains - 1, rounding)
    }

    /// Adds an instruction; `variance` is that of its result before the rescale.
    #[allow(clippy::too_many_arguments, reason = "the words of an instruction")]
    fn push(
        &mut self,
        code: u32,
        operands: [u32; 2],
        limbs: usize,
        flags: u32,
        table: &[u32],
        plain: u32,
        result: (Scale, Vec<f64>, f64),
    ) -> Register {
        let (mut scale, values, mut variance) = result;
        let rescale = flags & FLAG_RESCALE != 0;
        if rescale {
            scale = scale.rescaled(self.prime_at(limbs)).expect("a scale");
            variance /= f64::from(self.prime_at(limbs)).powi(2);
        }
        if rescale || matches!(code, opcode::LINEAR_TRANSFORM | opcode::ROTATE_SUM | opcode::MUL) {
            variance += self.noise.division();
        }
        let left = limbs - usize::from(rescale);
        let dst = self.buffer(left);
        let offset = self.section(Section::Tables).len() as u32;
        words(self.section(Section::Tables), table);
        let [lo, hi] = double(scale);
        let [a, b] = operands;
        let record = [code, 0, dst as u32, a, b, limbs as u32, flags, offset, 4 * table.len() as u32, plain, lo, hi];
        words(self.section(Section::Instructions), &record);
        Register { buffer: dst, limbs: left, scale, values, variance }
    }

    /// `a + b` at the lower of their levels.
    pub fn add(&mut self, a: &Register, b: &Register) -> Register {
        let limbs = a.limbs.min(b.limbs);
        let values = a.values.iter().zip(&b.values).map(|(x, y)| x + y).collect();
        let operands = [a.buffer as u32, b.buffer as u32];
        self.push(opcode::ADD, operands, limbs, 0, &[], 0, (a.scale, values, a.variance + b.variance))
    }

    /// `a + values`.
    pub fn add_plain(&mut self, a: &Register, values: &[f64], form: Form) -> Register {
        let (plain, rounding) = self.plain(values, a.scale, a.limbs, false, form);
        let sum = a.values.iter().zip(values).map(|(x, y)| x + y).collect();
        self.push(
            opcode::ADD_PLAIN,
            [a.buffer as u32, 0],
            a.limbs,
            0,
            &[],
            plain,
            (a.scale, sum, a.variance + rounding),
        )
    }

    fn weighted(&self, a: &Register, values: &[f64], scale: Scale, rounding: f64) -> f64 {
        mean_square(values.iter().copied()) * scale.value().powi(2) * a.variance
            + rounding * mean_square(a.values.iter().copied()) * a.scale.value().powi(2)
    }

    /// `a * values`.
    pub fn mul_plain(&mut self, a: &Register, values: &[f64], log_scale: f64, form: Form, rescale: bool) -> Register {
        let scale = Scale::new(log_scale.exp2()).expect("a scale");
        let (plain, rounding) = self.plain(values, scale, a.limbs, false, form);
        let product = a.values.iter().zip(values).map(|(x, y)| x * y).collect();
        let variance = self.weighted(a, values, scale, rounding);
        let result = (a.scale.product(scale).expect("a scale"), product, variance);
        self.push(opcode::MUL_PLAIN, [a.buffer as u32, 0], a.limbs, flag(rescale), &[], plain, result)
    }

    /// `a * b`, relinearised, at the lower of their levels; a square where they are the same.
    pub fn mul(&mut self, a: &Register, b: &Register, rescale: bool) -> Register {
        let limbs = a.limbs.min(b.limbs);
        self.key(KeyKind::Relin, limbs);
        let size = |r: &Register| mean_square(r.values.iter().copied()) * r.scale.value().powi(2);
        let same = a.buffer == b.buffer;
        let cross = if same { 4.0 * size(a) * a.variance } else { size(a) * b.variance + size(b) * a.variance };
        let values = a.values.iter().zip(&b.values).map(|(x, y)| x * y).collect();
        let result = (a.scale.product(b.scale).expect("a scale"), values, cross + self.noise.key_switch(limbs));
        self.push(opcode::MUL, [a.buffer as u32, b.buffer as u32], limbs, flag(rescale), &[], 0, result)
    }

    /// `a`, rescaled.
    pub fn rescale(&mut self, a: &Register) -> Register {
        let result = (a.scale, a.values.clone(), a.variance);
        self.push(opcode::RESCALE, [a.buffer as u32, 0], a.limbs, FLAG_RESCALE, &[], 0, result)
    }

    /// The sum of `a` rotated by each of `steps`, and of `a` itself if `identity`, computed at `limbs` limbs.
    pub fn rotate_sum(&mut self, a: &Register, steps: &[u32], identity: bool, rescale: bool, limbs: usize) -> Register {
        let n = self.set.n();
        for &step in steps {
            self.key(KeyKind::Rotation(step), limbs);
        }
        let all: Vec<usize> = identity.then_some(0).into_iter().chain(steps.iter().map(|&s| s as usize)).collect();
        let values = (0..n).map(|i| all.iter().map(|s| a.values[(i + s) % n]).sum()).collect();
        let variance = all.len() as f64 * a.variance + steps.len() as f64 * self.noise.key_switch(limbs);
        let flags = flag(rescale) | if identity { FLAG_IDENTITY } else { 0 };
        self.push(opcode::ROTATE_SUM, [a.buffer as u32, 0], limbs, flags, steps, 0, (a.scale, values, variance))
    }

    /// A linear transform of one source by diagonals.
    pub fn linear_transform(
        &mut self,
        a: &Register,
        diagonals: &[Diagonal],
        log_scale: f64,
        rescale: bool,
    ) -> Register {
        self.block_transform(&[a], 1, diagonals, log_scale, rescale).remove(0)
    }

    /// A block matrix times several sources, at the lowest of their levels. `log_scale` is that of the weights of the first
    /// source.
    pub fn block_transform(
        &mut self,
        sources: &[&Register],
        results: usize,
        diagonals: &[Diagonal],
        log_scale: f64,
        rescale: bool,
    ) -> Vec<Register> {
        let n = self.set.n();
        let limbs = sources.iter().map(|s| s.limbs).min().expect("a source");
        let mut diagonals: Vec<&Diagonal> = diagonals.iter().collect();
        diagonals.sort_by_key(|d| (d.giant != 0, d.result, d.giant, d.source, d.baby));
        let product = Scale::new(log_scale.exp2()).and_then(|s| s.product(sources[0].scale)).expect("a scale");
        let mut babies: Vec<(usize, u32)> = diagonals.iter().map(|d| (d.source, d.baby)).collect();
        babies.sort_unstable();
        babies.dedup();
        let (mut giants, mut terms): (Vec<[u32; 3]>, Vec<u32>) = Default::default();
        let mut sums = vec![(vec![0.0; n], 0.0); results];
        for (i, d) in diagonals.iter().enumerate() {
            let a = sources[d.source];
            let scale = Scale::new(product.value() / a.scale.value()).expect("a scale");
            let giant = d.giant as usize;
            let rotated: Vec<f64> = (0..n).map(|k| d.values[(k + n - giant) % n]).collect();
            let (plain, rounding) = self.plain(&rotated, scale, limbs, true, d.form);
            let baby = babies.binary_search(&(d.source, d.baby)).expect("collected above");
            terms.extend([baby as u32, plain]);
            let (values, variance) = &mut sums[d.result];
            for (k, v) in values.iter_mut().enumerate() {
                *v += d.values[k] * a.values[(k + giant + d.baby as usize) % n];
            }
            let source = if d.baby == 0 { 0.0 } else { self.noise.key_switch(limbs) };
            let noisy = Register { variance: a.variance + source, ..a.clone() };
            *variance += self.weighted(&noisy, &d.values, scale, rounding);
            if diagonals.get(i + 1).is_none_or(|next| (next.result, next.giant) != (d.result, d.giant)) {
                giants.push([d.result as u32, d.giant, terms.len() as u32 / 2]);
                if d.giant != 0 {
                    *variance += self.noise.key_switch(limbs) + self.noise.division();
                }
            }
        }
        let rotations: Vec<u32> = babies.iter().map(|b| b.1).chain(giants.iter().map(|g| g[1])).collect();
        for &r in rotations.iter().filter(|&&r| r != 0) {
            self.key(KeyKind::Rotation(r), limbs);
        }
        let resting = giants.iter().filter(|g| g[1] == 0).count();
        let counts = [sources.len(), results, babies.len(), resting, giants.len(), terms.len() / 2];
        let mut table = counts.map(|count| count as u32).to_vec();
        for (s, source) in sources.iter().enumerate() {
            table.extend([source.buffer as u32, babies.partition_point(|b| b.0 <= s) as u32]);
        }
        let left = limbs - usize::from(rescale);
        // The first result's buffer is the next one; the others follow it.
        let first = self.section(Section::Buffers).len() as u32 / 8;
        table.extend(first..first + results as u32);
        table.extend(babies.iter().map(|b| b.1).chain(giants.into_iter().flatten()).chain(terms));
        let mut sums = sums.into_iter().map(|(values, variance)| (product, values, variance));
        let result = sums.next().expect("a result");
        let result = self.push(opcode::LINEAR_TRANSFORM, [0, 0], limbs, flag(rescale), &table, 0, result);
        let (scale, divisor) = (result.scale, product.value() / result.scale.value());
        let mut all = vec![result];
        for (_, values, variance) in sums {
            let variance = variance / divisor.powi(2) + self.noise.division();
            all.push(Register { buffer: self.buffer(left), limbs: left, scale, values, variance });
        }
        all
    }

    /// The program with these outputs.
    pub fn finish(mut self, outputs: &[&Register]) -> Assembled {
        for output in outputs {
            let [lo, hi] = double(output.scale);
            words(self.section(Section::Outputs), &[output.buffer as u32, output.limbs as u32, lo, hi]);
        }
        for (kind, limbs) in std::mem::take(&mut self.keys) {
            words(self.section(Section::Manifest), &[kind.code(), limbs as u32]);
        }
        let (set, fingerprint, tables) = (self.set, self.set.fingerprint(), table_rows(&self.set, self.limbs));
        let mut name = [0; 8];
        name[..set.name().len()].copy_from_slice(set.name().as_bytes());
        let fixed = [set.log_n(), set.digit() as u32, set.limbs() as u32, set.special() as u32, self.limbs as u32];
        // The arena gets its size from the kernel's own plan of each instruction.
        let (rows, cache_rows, draft) = (self.rows as u32, self.cache_rows as u32, u32::MAX / 2);
        let params = self.section(Section::Params);
        words(params, &fixed);
        words(params, &[draft, rows, cache_rows, word(&name, 0), word(&name, 1)]);
        assert_eq!(params.len(), 4 * PARAM_WORDS);
        words(params, set.q());
        words(params, set.p());
        let bytes = join(&self.sections, &fingerprint);
        let program = Program::verify(&bytes).expect("the assembler writes valid programs");
        let instructions = (0..program.instructions()).filter_map(|i| program.instruction(i));
        let end = instructions.map(|i| Scratch::of(&i, &set, self.rows, 1).end).max().unwrap_or(self.rows);
        set_word(self.section(Section::Params), 5, (tables + end) as u32);
        let bytes = join(&self.sections, &fingerprint);
        Assembled { bytes, inputs: self.inputs, outputs: outputs.iter().map(|&r| r.clone()).collect() }
    }
}

fn flag(rescale: bool) -> u32 {
    if rescale { FLAG_RESCALE } else { 0 }
}

/// `n` random weights that `form` can hold at a scale.
pub fn weights(lcg: &mut Lcg, n: usize, form: Form, log_scale: f64) -> Vec<f64> {
    // Coefficients of n values in [-1, 1) have the variance 1 / 6n; 2^12 leaves three bits above the deviation.
    let log_amplitude = 12.0 + 0.5 * (6.0 * n as f64).log2() - log_scale;
    match form {
        Form::Scalar => vec![lcg.unit(); n],
        Form::Compact16 => lcg.units(n).into_iter().map(|w| w * log_amplitude.min(0.0).exp2()).collect(),
        Form::Compact32 | Form::Ntt => lcg.units(n),
    }
}

/// A program with every instruction and plaintext form that the levels of `set` allow, on random values.
pub fn everything(set: ParamSet, limbs: usize, log_scale: f64, seed: u64) -> Assembled {
    let mut lcg = Lcg::new(seed);
    let n = set.n();
    let mut asm = Assembler::new(set, limbs, false);
    let x = asm.input(lcg.units(n), limbs, log_scale);
    let y = asm.input(lcg.units(n), limbs - 1, log_scale);
    let log_q = f64::from(set.q()[limbs - 1]).log2();
    let mut outputs = Vec::new();
    let forms = [Form::Compact16, Form::Ntt, Form::Scalar, Form::Compact32];
    let steps = [(0, 0), (3, 0), (0, 64), (5, 64), (3, 100)];
    let diagonals: Vec<Diagonal> = steps
        .iter()
        .zip(forms.iter().cycle())
        .map(|(&(baby, giant), &form)| Diagonal {
            source: 0,
            result: 0,
            baby,
            giant,
            values: weights(&mut lcg, n, form, log_q),
            form,
        })
        .collect();
    outputs.push(asm.linear_transform(&x, &diagonals, log_q, true));
    for form in forms {
        let values = weights(&mut lcg, n, form, log_q);
        let product = asm.mul_plain(&x, &values, log_q, form, false);
        // 16 bits do not hold coefficients at the scale of a ciphertext.
        let addend = if form == Form::Compact16 { Form::Compact32 } else { form };
        let rescaled = asm.rescale(&product);
        outputs.push(asm.add_plain(&rescaled, &values, addend));
    }
    let sum = asm.add(&x, &y);
    let rotated = asm.rotate_sum(&sum, &[1, 70], true, false, sum.limbs);
    let alone = asm.rotate_sum(&sum, &[9], false, false, sum.limbs);
    outputs.push(asm.mul(&rotated, &alone, true));
    outputs.push(asm.mul(&x, &x, false));
    let list: Vec<&Register> = outputs.iter().collect();
    asm.finish(&list)
}

/// A small program on n12 with every kind of instruction at two limbs and fewer.
pub fn tiny() -> Assembled {
    let (set, mut lcg) = (cipherlens_kernel::params::named::N12, Lcg::new(41));
    let n = set.n();
    let mut asm = Assembler::new(set, 2, false);
    let x = asm.input(lcg.units(n), 2, 18.0);
    let mut small = || lcg.units(n).into_iter().map(|w| w / 8.0).collect::<Vec<f64>>();
    let square = asm.mul(&x, &x, false);
    let diagonals = [(0, 0, Form::Compact16), (3, 0, Form::Scalar), (3, 64, Form::Compact16)];
    let diagonals = diagonals.map(|(baby, giant, form)| {
        let values = if form == Form::Scalar { vec![0.5; n] } else { small() };
        Diagonal { source: 0, result: 0, baby, giant, values, form }
    });
    let y = asm.linear_transform(&x, &diagonals, 17.0, true);
    let z = asm.mul_plain(&x, &small(), 18.0, Form::Compact16, false);
    let z = asm.add(&z, &square);
    let z = asm.rescale(&z);
    let y = asm.add_plain(&y, &vec![0.25; n], Form::Scalar);
    let y = asm.rotate_sum(&y, &[64], true, false, 1);
    asm.finish(&[&y, &z])
}

/// A block matrix from two sources of different levels and scales to three results: blocks that are empty, a result
/// without giant steps, one with nothing but giant steps, and a source whose baby steps do not rotate.
pub fn blocks(set: ParamSet, limbs: usize, log_scale: f64, seed: u64) -> Assembled {
    let mut lcg = Lcg::new(seed);
    let n = set.n();
    let mut asm = Assembler::new(set, limbs, false);
    let x = asm.input(lcg.units(n), limbs, log_scale);
    let y = asm.input(lcg.units(n), limbs - 1, log_scale + 1.0);
    let diagonals = [
        (0, 0, 0, 0, Form::Compact16),
        (0, 5, 0, 0, Form::Scalar),
        (1, 0, 0, 0, Form::Compact16),
        (0, 7, 2, 0, Form::Compact16),
        (0, 5, 0, 64, Form::Compact16),
        (1, 0, 0, 64, Form::Scalar),
        (1, 0, 1, 64, Form::Compact16),
        (0, 1, 1, 128, Form::Compact16),
        (0, 2, 1, 128, Form::Scalar),
        (0, 3, 1, 128, Form::Compact16),
        (0, 7, 1, 128, Form::Compact16),
    ];
    let diagonals = diagonals.map(|(source, baby, result, giant, form)| {
        let values =
            if form == Form::Scalar { vec![0.25; n] } else { lcg.units(n).into_iter().map(|w| w / 8.0).collect() };
        Diagonal { source, result, baby, giant, values, form }
    });
    let results = asm.block_transform(&[&x, &y], 3, &diagonals, 17.0, true);
    asm.finish(&results.iter().collect::<Vec<_>>())
}

/// One linear transform with more baby steps than are kept at a time, a giant step that has no term in the first group
/// of them, and scalars in each group.
pub fn two_groups() -> Assembled {
    let (set, mut lcg) = (cipherlens_kernel::params::named::N12, Lcg::new(43));
    let n = set.n();
    let mut asm = Assembler::new(set, 2, false);
    let x = asm.input(lcg.units(n), 2, 18.0);
    let diagonals = [
        (0, 0, Form::Compact16),
        (3, 0, Form::Scalar),
        (5, 0, Form::Compact16),
        (7, 0, Form::Compact16),
        (9, 0, Form::Scalar),
        (11, 0, Form::Compact16),
        (9, 64, Form::Compact16),
        (11, 64, Form::Scalar),
    ];
    let diagonals = diagonals.map(|(baby, giant, form)| {
        let values =
            if form == Form::Scalar { vec![0.25; n] } else { lcg.units(n).into_iter().map(|w| w / 8.0).collect() };
        Diagonal { source: 0, result: 0, baby, giant, values, form }
    });
    let y = asm.linear_transform(&x, &diagonals, 17.0, true);
    asm.finish(&[&y])
}
