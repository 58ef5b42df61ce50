//! What only code that breaks a contract hands to the kernel: an error, or nothing done.

use crate::tiny;
use cipherlens::pool::Pool;
use cipherlens_kernel::batch::format::{BatchSection, INSTRUCTION_WORDS};
use cipherlens_kernel::batch::{BatchEngine, BatchProgram, BatchProgress};
use cipherlens_kernel::engine::{Engine, EngineError, Progress};
use cipherlens_kernel::keys::{Half, KeyError, KeyInfo, KeyKind, KeySource, MappedKeys, RamKeys, StreamedKeys};
use cipherlens_kernel::layers::{Job, PassError, Phase, Source};
use cipherlens_kernel::math::{Detected, Modulus, is_prime, primitive_root};
use cipherlens_kernel::parallel::Serial;
use cipherlens_kernel::params::{MAX_LIMBS, MAX_SPECIAL, ParamError, ParamSet, log2_q16, named};
use cipherlens_kernel::program::{Operation, ProgramError};
use cipherlens_kernel::scratch::{Tables, Work, Workspace};
use cipherlens_kernel::wire::{CheckpointHeader, CiphertextHeader, CiphertextView, WireError};
use cipherlens_tests::batch::{BatchRun, SET, drive, join, sections};
use cipherlens_tests::lab::{Run, arena, outputs};

/// A ciphertext file of zeros with this header.
fn file(header: CiphertextHeader) -> Vec<u8> {
    let mut bytes = vec![0; header.file_bytes()];
    header.write(&mut bytes, |_, _| ()).unwrap();
    bytes
}

/// The right fingerprint of the parameter set and another ring degree: sizes follow from the degree, so it is compared too.
#[test]
fn ring_degrees_under_a_forged_fingerprint() {
    let run = Run::new(tiny().bytes, 111);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = Engine::new(run.program(), run.mapped(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    let header = CiphertextView::new_checked(&run.inputs[0]).unwrap().header;
    let set = Err(EngineError::Input(WireError::Set));
    for log_n in [11, 13] {
        assert_eq!(engine.set_input(&file(CiphertextHeader { log_n, ..header })), set);
    }
    let lower = file(CiphertextHeader { limbs: header.limbs - 1, seed: None, ..header });
    let (need, have) = (header.limbs, header.limbs - 1);
    assert_eq!(engine.set_input(&lower), Err(EngineError::InputLevel { index: 0, need, have }));

    engine.set_input(&run.inputs[0]).unwrap();
    (0..20).for_each(|_| assert!(engine.step().is_ok()));
    let mut state = vec![0; engine.checkpoint_bytes().unwrap()];
    engine.checkpoint(&mut state).unwrap();
    let header = CheckpointHeader { log_n: 11, ..CheckpointHeader::read(&state).unwrap().0 };
    let mut forged = vec![0; header.file_bytes()];
    header.write(&mut forged, |_| Ok::<(), WireError>(())).unwrap();
    assert_eq!(engine.resume(&forged), Err(EngineError::Checkpoint(WireError::Set)));
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs, "refusals change nothing");

    let run = BatchRun::new(112);
    let mut memory = arena(run.view().arena_bytes(1));
    let mut engine = run.engine(&mut memory, 1);
    let header = CiphertextView::new_checked(&run.inputs[0]).unwrap().header;
    assert_eq!(engine.set_input(&file(CiphertextHeader { log_n: 11, ..header })), set);
    assert!(drive(&mut engine, &run.inputs, &Serial).unwrap() == run.outputs);
}

/// An engine that stands inside a program, but has not yet built its tables, takes no input.
#[test]
fn inputs_after_a_checkpoint() {
    let run = Run::new(tiny().bytes, 113);
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = Engine::new(run.program(), run.mapped(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.set_input(&run.inputs[0]).unwrap();
    while engine.step().is_ok_and(|progress| !matches!(progress, Progress::Running { instruction: 1, .. })) {}
    let mut state = vec![0; engine.checkpoint_bytes().unwrap()];
    engine.checkpoint(&mut state).unwrap();
    let mut memory = arena(run.program().arena_bytes());
    let mut engine = Engine::new(run.program(), run.mapped(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.resume(&state).unwrap();
    assert_eq!(engine.set_input(&run.inputs[0]), Err(EngineError::Started));
    engine.run().unwrap();
    assert!(outputs(&engine).unwrap() == run.outputs);
}

/// A source of keys that gives a word less than it was asked for.
struct Short<'a>(MappedKeys<'a>, Half);

impl KeySource for Short<'_> {
    fn set(&self) -> [u8; 16] {
        self.0.set()
    }

    fn key_id(&self) -> [u8; 16] {
        self.0.key_id()
    }

    fn find(&self, kind: KeyKind, limbs: usize) -> Option<KeyInfo> {
        self.0.find(kind, limbs)
    }

    fn rows<'a>(
        &'a self,
        key: &KeyInfo,
        half: Half,
        block: usize,
        digits: usize,
        m: &Modulus,
        scratch: &'a mut [u32],
    ) -> Result<&'a [u32], KeyError> {
        let rows = self.0.rows(key, half, block, digits, m, scratch)?;
        Ok(if half == self.1 { &rows[..rows.len().min(digits * SET.n()) - 1] } else { rows })
    }
}

#[test]
fn sources_of_keys_that_give_too_little() {
    let (run, batch) = (Run::new(tiny().bytes, 114), BatchRun::new(115));
    for half in [Half::A, Half::B] {
        let mut memory = arena(run.program().arena_bytes());
        let keys = Short(run.mapped(), half);
        let mut engine = Engine::new(run.program(), keys, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        engine.set_input(&run.inputs[0]).unwrap();
        assert!(matches!(engine.run(), Err(EngineError::Key(KeyError::Damaged { .. }))));

        let mut memory = arena(batch.view().arena_bytes(1));
        let (keys, memory) = (Short(batch.mapped(), half), bytemuck::cast_slice_mut(&mut memory));
        let mut engine = BatchEngine::new(batch.view(), keys, memory, Detected::new(), 1).unwrap();
        // By single steps, which stay at the error.
        let error = loop {
            match engine.step() {
                Ok(BatchProgress::Inputs(wanted)) => wanted.for_each(|i| engine.set_input(&batch.inputs[i]).unwrap()),
                Ok(progress) => assert_ne!(progress, BatchProgress::Done),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, EngineError::Key(KeyError::Damaged { kind: KeyKind::Relin, .. })));
        assert_eq!(engine.step(), Err(error));
    }
}

/// Runs that go on in the middle of an instruction.
#[test]
fn a_run_after_single_steps() {
    let run = BatchRun::new(116);
    let pool = Pool::new(2).unwrap();
    for steps in [1, 2, 5, 11] {
        let mut memory = arena(run.view().arena_bytes(2));
        let mut engine = run.engine(&mut memory, 2);
        assert_eq!(engine.step(), Ok(BatchProgress::Inputs(0..4)));
        run.inputs[..4].iter().for_each(|input| engine.set_input(input).unwrap());
        (0..steps).for_each(|_| assert!(matches!(engine.step(), Ok(BatchProgress::Running { .. }))));
        assert!(drive(&mut engine, &run.inputs, &pool).unwrap() == run.outputs, "after {steps} steps");
    }
}

/// Numbers of keys that belong to other keys, blocks that are not there, digits that a block does not hold.
#[test]
fn keys_under_other_numbers() {
    let run = Run::new(tiny().bytes, 117);
    let (set, mapped) = (*run.program().set(), run.mapped());
    let mut directory = vec![0; run.program().key_directory_bytes()];
    let streamed = StreamedKeys::open(run.keys.as_slice(), &mut directory).unwrap();
    let requests: Vec<_> = (0..run.program().keys()).filter_map(|i| run.program().key(i)).collect();
    let m = set.modulus(set.limbs(), 0).unwrap();
    let mut scratch = vec![0; (set.digits(set.limbs()) + 9) * set.n()];
    for request in &requests {
        let key = mapped.find(request.kind, request.limbs).unwrap();
        assert_eq!(streamed.find(request.kind, request.limbs), Some(key));
        let digits = set.digits(key.limbs);
        let all = key.limbs + set.special();
        assert!(streamed.rows(&key, Half::B, 0, digits + 1, &m, &mut scratch).is_err(), "no block has them");
        let mut check = |info: KeyInfo, block: usize, digits: usize, good: bool| {
            let expected = if good { None } else { Some(KeyError::Damaged { kind: info.kind, block }) };
            assert_eq!(mapped.rows(&info, Half::B, block, digits, &m, &mut scratch).err(), expected, "mapped");
            assert_eq!(streamed.rows(&info, Half::B, block, digits, &m, &mut scratch).err(), expected, "streamed");
        };
        check(key, 0, digits, true);
        check(key, all, digits, false);
        check(KeyInfo { limbs: key.limbs + 1, ..key }, 0, digits, false);
        check(KeyInfo { index: requests.len(), ..key }, 0, digits, false);
        check(KeyInfo { kind: KeyKind::Rotation(4095), ..key }, 0, digits, false);
    }
    // All keys in memory, and one that is not among them.
    let mut words = vec![0; RamKeys::words(mapped.bundle())];
    let words_in_all = words.len();
    let expanded = RamKeys::expand(&run.keys, &set, &mut words).unwrap();
    let key = expanded.find(requests[0].kind, requests[0].limbs).unwrap();
    let far = KeyInfo { index: words_in_all, ..key };
    assert!(expanded.rows(&far, Half::B, 0, 1, &m, &mut scratch).is_err());
}

/// Phases handed to an instruction that does not have them.
#[test]
fn phases_of_other_instructions() {
    let tiny = tiny();
    let run = Run::new(tiny.bytes, 118);
    let program = run.program();
    let (set, limbs) = (*program.set(), program.limbs());
    let mut tables = vec![0; 4 * (limbs + set.special()) * set.n()];
    let tables = Tables::new(&mut tables, set.n(), limbs);
    let mut memory = arena(program.arena_bytes());
    let keys = run.mapped();
    let theirs = |operation: &Operation<'_>, phase| match phase {
        Phase::Rotations => matches!(operation, Operation::RotateSum { .. }),
        Phase::Tensor => matches!(operation, Operation::Mul { .. }),
        Phase::Inner(_) | Phase::GiantDivide(_) | Phase::Giant(_) => {
            matches!(operation, Operation::LinearTransform { .. })
        }
        Phase::MulPlain => matches!(operation, Operation::MulPlain { .. }),
        Phase::AddPlain => matches!(operation, Operation::AddPlain { .. }),
        _ => matches!(operation, Operation::Add { .. }),
    };
    let phases = [
        Phase::Rotations,
        Phase::Tensor,
        Phase::Inner(0),
        Phase::GiantDivide(0),
        Phase::Giant(0),
        Phase::MulPlain,
        Phase::AddPlain,
        Phase::Add,
    ];
    let mut refused = 0;
    for instruction in (0..program.instructions()).filter_map(|i| program.instruction(i)) {
        let job = Job::new(program, instruction, 0, 1);
        for phase in phases.into_iter().filter(|&phase| !theirs(&instruction.operation, phase)) {
            let work = Work::new(&mut memory, set.n());
            let mut ws = Workspace { set, backend: Detected::new(), tables: &tables, work };
            // Mod-ups come first and are the same for every key switch.
            let pass = if matches!(phase, Phase::Giant(_)) { set.digits(instruction.limbs) } else { 0 };
            let result = job.execute(phase, pass, &mut ws, &keys, &[]);
            assert!(matches!(result, Err(PassError::Plan(_))), "{phase:?} of {:?}: {result:?}", instruction.operation);
            refused += 1;
        }
        // A unit and a source that it does not have.
        let work = Work::new(&mut memory, set.n());
        let mut ws = Workspace { set, backend: Detected::new(), tables: &tables, work };
        for (phase, pass) in [(Phase::Load, usize::MAX >> 8), (Phase::Inverse(Source::Operand(9)), 0)] {
            let result = job.execute(phase, pass, &mut ws, &keys, &[]);
            assert!(matches!(result, Err(PassError::Plan(_))), "{phase:?}");
        }
    }
    assert!(refused > 20, "{refused} refused");
}

/// Parts that lie outside, when nothing is written.
#[test]
fn reads_outside_the_arena() {
    let mut memory = vec![0; 64];
    let mut work = Work::new(&mut memory, 16);
    for part in [(4, 1), (3, 2), (0, 5), (usize::MAX, 1), (1, usize::MAX)] {
        assert_eq!(work.parts([], [(0, 1), part]).map(|_| ()).map_err(|f| (f.row, f.rows)), Err(part));
    }
    assert!(work.parts([], [(0, 4), (1, 2)]).is_ok(), "reads may overlap");
}

/// A division that takes nothing away.
#[test]
fn divisions_by_nothing() {
    let mut sections = sections();
    // The second one, of two polynomials: its result has then the limbs of its operand, its scale is not verified.
    let line = &mut sections[BatchSection::Instructions as usize][6 * 4 * INSTRUCTION_WORDS..];
    let mut set = |word: usize, from: u32, to: u32| {
        let bytes = &mut line[4 * word..][..4];
        assert_eq!(bytes, from.to_le_bytes(), "word {word}");
        bytes.copy_from_slice(&to.to_le_bytes());
    };
    set(11, 2, 3);
    set(13, 1, 0);
    assert_eq!(BatchProgram::verify(&join(&sections)).err(), Some(ProgramError::Instruction { index: 6 }));
}

/// Numbers that only constants have elsewhere.
#[test]
fn parameters_at_run_time() {
    let (q, p) = (named::N12.q(), named::N12.p());
    let many = vec![q[0]; MAX_LIMBS.max(MAX_SPECIAL) + 1];
    let counts = |limbs, special| Err(ParamError::PrimeCount { limbs, special });
    assert_eq!(ParamSet::checked("x", 12, &[], p, 1), counts(0, p.len()));
    assert_eq!(ParamSet::checked("x", 12, &many[..MAX_LIMBS + 1], p, 1), counts(MAX_LIMBS + 1, p.len()));
    assert_eq!(ParamSet::checked("x", 12, q, &[], 1), counts(q.len(), 0));
    assert_eq!(ParamSet::checked("x", 12, q, &many[..MAX_SPECIAL + 1], 1), counts(q.len(), MAX_SPECIAL + 1));
    for digit in [0, MAX_SPECIAL + 1] {
        assert_eq!(ParamSet::checked("x", 12, q, p, digit), Err(ParamError::Digit { digit }));
    }
    for log_n in [10, 17] {
        assert_eq!(ParamSet::checked("x", log_n, q, p, 1), Err(ParamError::RingDegree { log_n }));
    }
    for name in ["", "ninechars", "n 12", "n\0"] {
        assert_eq!(ParamSet::checked(name, 12, q, p, 1), Err(ParamError::Name), "{name:?}");
    }
    assert_eq!([0, 1, 2].map(log2_q16), [0, 0, 1 << 16]);
    // The smallest composite number that passes for all bases, and a prime beyond it: not decided, so not taken.
    assert_eq!([3_215_031_751, 4_294_967_291].map(is_prime), [false; 2]);
    assert_eq!(primitive_root(&Modulus::new(7), 11), None);
    assert_eq!(Modulus::new(0).value(), 1, "a divisor that is one");
}
