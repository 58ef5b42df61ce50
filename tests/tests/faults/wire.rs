//! Writers and accessors of files: other lengths and numbers than the file has are refused, and nothing is written.

use cipherlens_kernel::engine::Engine;
use cipherlens_kernel::wire::{
    BundleShape, CheckpointHeader, CiphertextView, HEADER_BYTES, KEY_FRONT, KeyBundle, KeyDirectory, WireError,
};
use cipherlens_tests::assemble::tiny;
use cipherlens_tests::lab::{Run, arena};
use std::sync::LazyLock;

static RUN: LazyLock<Run> = LazyLock::new(|| Run::new(tiny().bytes, 91));

/// Gives a writer a byte less and a byte more than it needs.
fn exact_length(need: usize, mut write: impl FnMut(&mut [u8]) -> Result<(), WireError>) {
    for have in [0, HEADER_BYTES, need - 1, need + 1] {
        let mut bytes = vec![0xa5; have];
        assert_eq!(write(&mut bytes), Err(WireError::Truncated { need: need as u64, have: have as u64 }));
        assert!(bytes.iter().all(|&byte| byte == 0xa5));
    }
    assert_eq!(write(&mut vec![0; need]), Ok(()));
}

#[test]
fn writers_take_the_exact_length() {
    let header = CiphertextView::new_checked(&RUN.inputs[0]).unwrap().header;
    exact_length(header.file_bytes(), |bytes| header.write(bytes, |_, _| ()));

    let mut memory = arena(RUN.program().arena_bytes());
    let mut engine = Engine::new(RUN.program(), RUN.mapped(), bytemuck::cast_slice_mut(&mut memory)).unwrap();
    engine.set_input(&RUN.inputs[0]).unwrap();
    (0..20).for_each(|_| assert!(engine.step().is_ok()));
    let mut state = vec![0; engine.checkpoint_bytes().unwrap()];
    engine.checkpoint(&mut state).unwrap();
    let (header, _) = CheckpointHeader::read(&state).unwrap();
    exact_length(header.file_bytes(), |bytes| header.write(bytes, |_| Ok(())));

    let set = *RUN.program().set();
    let requests: Vec<_> = (0..RUN.program().keys()).filter_map(|i| RUN.program().key(i)).collect();
    let shape = BundleShape { log_n: set.log_n(), special: set.special(), digit: set.digit(), requests: &requests };
    exact_length(shape.file_bytes(), |bytes| shape.finish(bytes, &set.fingerprint(), &[1; 16], &[2; 32]));
}

#[test]
fn keys_and_blocks_that_are_not_there() {
    let bytes = &RUN.keys[..];
    let length = bytes.len() as u64;
    assert!(bytes.len() > KEY_FRONT);
    for other in [0, length - 64, length + 64, u64::MAX] {
        assert_eq!(KeyDirectory::new_checked(bytes, other).err(), Some(WireError::Field { offset: 8 }));
    }
    let directory = KeyDirectory::new_checked(bytes, length).unwrap();
    let bundle = KeyBundle::new_checked(bytes).unwrap();
    assert!(directory.entry(bundle.len()).is_none() && directory.entry(usize::MAX).is_none());
    for entry in (0..bundle.len()).filter_map(|i| bundle.entry(i)) {
        let blocks = entry.request.limbs + RUN.program().set().special();
        for t in [blocks, usize::MAX] {
            assert!(directory.place(&entry, t).is_none() && bundle.block(&entry, t).is_none());
            assert_eq!(bundle.verify_block(&entry, t), Err(WireError::Digest { offset: entry.offset as u64 }));
        }
        assert_eq!(bundle.verify_block(&entry, blocks - 1), Ok(()));
        let (offset, len) = directory.place(&entry, 0).unwrap();
        let mut damaged = bytes.to_vec();
        damaged[offset + len / 2] ^= 1;
        let found = KeyBundle::new_checked(&damaged).unwrap().verify_block(&entry, 0);
        assert_eq!(found, Err(WireError::Digest { offset: offset as u64 }));
    }
}
