//! Public functions below the engine, with arguments that no caller should pass: lengths that do not fit, moduli
//! that are 0, indices out of range. The results have no meaning; that nothing panics is what the image shows.

use cipherlens_kernel::ckks::Scale;
use cipherlens_kernel::keys::{
    Half, KeyInfo, KeyReader, KeyRequest, KeySource, MappedKeys, RamKeys, Stream, StreamedKeys,
};
use cipherlens_kernel::keys::{expand_uniform, galois_element};
use cipherlens_kernel::layers::{Job, Phase, expand};
use cipherlens_kernel::math::{Backend, Detected, Modulus, NttTable, Portable, RowBlock, Term};
use cipherlens_kernel::math::{build_table, is_prime, primitive_root};
use cipherlens_kernel::params::{ParamSet, log2_q16, max_log_qp};
use cipherlens_kernel::program::{Instruction, Operation, Program};
use cipherlens_kernel::ring::{Basis, divide, extend, mixed_radix, tail_inverse};
use cipherlens_kernel::scratch::{Tables, Work, Workspace};
use cipherlens_kernel::wire::{BundleShape, CheckpointHeader, CiphertextHeader, FileKind, Header};
use cipherlens_kernel::wire::{KeyBundle, KeyDirectory, KeyEntry};
use cipherlens_kernel::wire::{load_words, slice_at, store_words, words_in_place};

/// Arguments from outside the image.
#[repr(C)]
pub struct Parts {
    bytes: &'static [u8],
    words: &'static [u32],
    requests: &'static [KeyRequest],
    bytes_out: &'static mut [u8],
    out: &'static mut [u32],
    work: &'static mut [u32],
    tables: &'static mut [u32],
    set: ParamSet,
    program: Program<'static>,
    instruction: Instruction<'static>,
    mapped: MappedKeys<'static>,
    ram: RamKeys<'static>,
    streamed: StreamedKeys<'static, crate::Device>,
    ciphertext: CiphertextHeader,
    checkpoint: CheckpointHeader,
    info: KeyInfo,
    entry: KeyEntry,
    phase: Phase,
    stream: Stream,
    seed: [u8; 32],
    id: [u8; 16],
    real: f64,
    signed: i64,
    p: u32,
    a: u32,
    b: u32,
    i: usize,
    j: usize,
    k: usize,
    flag: bool,
    /// Everything that comes back, folded together.
    result: u64,
}

impl Parts {
    fn fold(&mut self, value: u64) {
        self.result = self.result.rotate_left(5) ^ value;
    }

    /// Calls everything.
    #[inline(never)]
    pub fn call(&mut self) {
        self.arithmetic();
        self.passes(Portable);
        self.passes(Detected::new());
        for backend in Detected::all() {
            self.fold(backend.name().len() as u64);
        }
        self.files();
        self.program();
        self.rows();
    }

    fn arithmetic(&mut self) {
        let m = Modulus::new(self.p);
        let (a, b) = (self.a, self.b);
        let w = m.shoup(b);
        for value in [m.add(a, b), m.sub(a, b), m.neg(a), m.mul(a, b), m.pow(a, b), m.inv(a), m.reduce(a)] {
            self.fold(value.into());
        }
        for value in [m.mul_shoup(a, w), m.to_montgomery(a), m.reduce_signed(self.signed), m.centred(a) as u32] {
            self.fold(value.into());
        }
        self.fold(m.redc(self.result).into());
        self.fold(m.mul_shoup_signed(self.signed as i32, w).into());
        self.fold(is_prime(a).into());
        self.fold(primitive_root(&m, b).unwrap_or(0).into());
        self.fold(galois_element(a, b).into());
        self.fold(log2_q16(a).into());
        self.fold(max_log_qp(a).into());
        let built = build_table(self.out, &m, b).map_or(0, |table| table.n());
        self.fold(built as u64);
        expand_uniform(self.out, &self.seed, self.stream, &m);
        let scale = Scale::new(self.real).and_then(|s| s.product(s)).and_then(|s| s.rescaled(a));
        self.fold(scale.map_or(0, |s| s.log2().to_bits()));
    }

    #[inline(never)]
    fn passes<B: Backend>(&mut self, backend: B) {
        let m = Modulus::new(self.p);
        let w = m.montgomery_factor();
        let (out, words, more) = (&mut *self.out, self.words, &*self.work);
        if let Some(table) = NttTable::new(words, m, self.i) {
            backend.forward(out, &table);
            backend.inverse(out, &table);
        }
        backend.add_assign(out, words, &m);
        backend.sub_assign(out, words, &m);
        backend.mul(out, words, more, &m);
        backend.mul_scalar(out, words, w, &m);
        backend.mul_scalar_add(out, words, w, &m);
        backend.mul_scalar_assign(out, w, &m);
        backend.mul_add(out, words, more, &m);
        backend.mul_redc(out, words, more, self.flag, &m);
        backend.redc_add(out, words, &m);
        let term = Term { shared: words, pair: [more, words] };
        let half = out.len() >> 1;
        if let Some((first, second)) = out.split_at_mut_checked(half) {
            backend.dot_pair([first, second], &[term; 3], self.flag, &m);
            backend.dot_pair([first, second], &[term; 15], self.flag, &m);
            backend.rotate_dot_pair([first, second], &[term; 7], Some((more, self.b)), self.a, self.flag, &m);
        }
        let block = RowBlock { rows: &[words, more, words], at: self.i };
        backend.matrix_product(out, &block, self.bytes.as_chunks().0, self.flag, &m);
        backend.sub_from_mul(out, words, w, &m);
        backend.automorphism(out, words, self.a);
        backend.garner_step(out, words, w, &m);
        backend.recompose(out, words, more, self.b, &m);
        backend.add_scalar_assign(out, self.b, &m);
        backend.expand_signed(out, self.bytes, self.flag, w, &m);
    }

    fn files(&mut self) {
        let (i, j, k) = (self.i, self.j, self.k);
        if let Ok(header) = Header::peek(self.bytes) {
            self.fold(header.kind.code().into());
            self.fold(header.check_digest(self.bytes, i).is_ok().into());
        }
        let written = Header::write(self.bytes_out, FileKind::Ciphertext, &self.id, i).is_ok();
        self.fold(written.into());
        let written =
            self.ciphertext.write(self.bytes_out, |a, b| a.iter_mut().zip(b).for_each(|(a, b)| *a ^= *b)).is_ok();
        self.fold(written.into());
        let written = self.checkpoint.write(self.bytes_out, |rows| {
            rows.iter_mut().for_each(|b| *b ^= 1);
            Ok::<(), cipherlens_kernel::wire::WireError>(())
        });
        self.fold(written.is_ok().into());
        self.fold(CheckpointHeader::read(self.bytes).map_or(0, |(_, rows)| rows.len()) as u64);
        let read = self.bytes.read(i as u64, self.bytes_out).is_ok();
        self.fold(read.into());
        self.fold(Header::read_front(self.bytes, FileKind::Keys).map_or(0, |(_, length)| length));
        self.fold(KeyDirectory::front_bytes(self.bytes, i as u64).unwrap_or(0) as u64);
        if let Ok(directory) = KeyDirectory::new_checked(self.bytes, i as u64) {
            self.fold(directory.place(&self.entry, j).map_or(0, |(at, len)| at ^ len) as u64);
            self.fold(directory.block_digest(&self.entry, j).map_or(0, |digest| digest[0]).into());
        }
        self.fold(words_in_place(self.bytes).map_or(0, <[u32]>::len) as u64);
        self.fold(slice_at(self.bytes, i, j).map_or(0, <[u8]>::len) as u64);
        load_words(self.out, self.bytes);
        store_words(self.bytes_out, self.out);

        let shape = BundleShape { log_n: self.a, special: i, digit: j, requests: self.requests };
        self.fold(shape.entries().fold(0, |sum: usize, e| sum ^ e.offset) as u64);
        self.fold((shape.file_bytes() ^ shape.block_bytes(k)) as u64);
        let finished = shape.finish(self.bytes_out, &self.id, &self.id, &self.seed).is_ok();
        self.fold(finished.into());

        if let Ok(bundle) = KeyBundle::new_checked(self.bytes) {
            self.fold(bundle.verify_block(&self.entry, i).is_ok().into());
            self.fold(bundle.block(&self.entry, i).map_or(0, <[u8]>::len) as u64);
            self.fold((bundle.digits(i) ^ RamKeys::words(&bundle)) as u64);
        }
        let half = if self.flag { Half::A } else { Half::B };
        let m = Modulus::new(self.p);
        let rows = self.mapped.rows(&self.info, half, i, j, &m, self.out).map_or(0, <[u32]>::len);
        let more = self.ram.rows(&self.info, half, i, j, &m, self.out).map_or(0, <[u32]>::len);
        let read = self.streamed.rows(&self.info, half, i, j, &m, self.out).map_or(0, <[u32]>::len);
        self.fold((rows ^ more ^ read) as u64);
        self.fold(self.streamed.find(self.info.kind, k).map_or(0, |found| found.block(i, j)) as u64);
        self.fold(self.ram.find(self.info.kind, k).map_or(0, |found| found.index) as u64);
    }

    fn program(&mut self) {
        let (i, j, p) = (self.i, self.j, self.program);
        self.fold(p.key(i).map_or(0, |key| key.limbs) as u64);
        self.fold(p.buffer(i).map_or(0, |buffer| buffer.row) as u64);
        self.fold(p.output(i).map_or(0, |port| port.limbs) as u64);
        self.fold(p.plaintext(i).map_or(0, |plain| plain.cache_row) as u64);
        self.fold((p.layer_name(i).len() ^ p.meta().len()) as u64);
        self.fold((p.checkpoint_bytes() ^ p.key_directory_bytes()) as u64);
        self.fold((p.arena_bytes() ^ p.cache_bytes() ^ p.table_rows()) as u64);
        let instruction = if self.flag { self.instruction } else { p.instruction(i).unwrap_or(self.instruction) };
        self.fold(p.scratch(&instruction, j).for_worker(i, j, j).end as u64);
        self.fold(instruction.results().chain(instruction.operation.sources()).fold(0, |a, b| a ^ b) as u64);
        if let Operation::LinearTransform { transform } = instruction.operation {
            self.fold(transform.term(i).map_or(0, |(baby, plain)| baby ^ plain) as u64);
            self.fold(transform.giant(i).map_or(0, |g| transform.terms_from(&g.terms, j).len() ^ g.output) as u64);
            self.fold(transform.source(i).map_or(0, |(buffer, babies)| buffer ^ babies.len()) as u64);
            self.fold(transform.output(i).unwrap_or(0) as u64);
            self.fold(transform.baby(i).unwrap_or(0).into());
            self.fold(transform.rotated_giants() as u64);
            self.fold((transform.sources() ^ transform.outputs() ^ transform.resting_giants()) as u64);
        }
        let set = self.set;
        self.fold((set.digits(i) ^ set.n()) as u64);
        self.fold(set.modulus(i, j).map_or(0, |m| m.value()).into());
        self.fold(set.log_modulus(i, self.flag).to_bits());
        self.fold(set.name().len() as u64);
    }

    fn rows(&mut self) {
        let (i, j, k, limbs) = (self.i, self.j, self.k, self.a as usize);
        let job = Job::new(self.program, self.instruction, j, k);
        let tail = Basis::tail(&self.set, limbs, self.flag, self.k);
        let basis = Basis::digit(&self.set, limbs, i);
        let factor = basis.garner_factor(i, j).map_or(0, |w| w.value);
        let Self { work, tables, set, out, .. } = self;
        let mut tables = Tables::new(tables, i, j);
        let slot = tables.slot(k).map_or(0, |words| words.len()) as u64;
        let mut ws = Workspace { set: *set, backend: Detected::new(), tables: &tables, work: Work::new(work, k) };
        let mut done = slot;
        done ^= job.execute(self.phase, i, &mut ws, &self.mapped, out).is_ok() as u64;
        done ^= job.execute(self.phase, j, &mut ws, &self.ram, out).is_ok() as u64;
        done ^= job.phase(i).map_or(0, |(_, passes)| passes) as u64;
        done ^= mixed_radix(&mut ws, &basis, i).is_ok() as u64;
        done ^= extend(&mut ws, limbs, i, j, k, j).is_ok() as u64;
        done ^= tail_inverse(&mut ws, limbs, (self.flag, k), i, j, k).is_ok() as u64;
        done ^= divide(&mut ws, limbs, &tail, i, j, k, i).is_ok() as u64;
        if let Some(plain) = self.program.plaintext(i) {
            done ^= expand(&ws.set, ws.tables, ws.backend, &plain, limbs, k, out).is_ok() as u64;
        }
        self.fold(done ^ u64::from(factor));
    }
}
