//! Signed programs: another key, a changed program, a changed signature.

use crate::tiny;
use cipherlens::random::Random;
use cipherlens::signing::ProgramSigner;
use cipherlens_kernel::batch::BatchProgram;
use cipherlens_kernel::program::{Program, ProgramError};
use cipherlens_kernel::signature::{SignedError, check};
use cipherlens_kernel::wire::WireError;
use cipherlens_tests::Lcg;
use cipherlens_tests::batch::{join, sections};

#[test]
fn only_the_signed_bytes_under_the_right_key() {
    let mut random = Random::from_seed([61; 32]);
    let (signer, other) = (ProgramSigner::generate(&mut random), ProgramSigner::generate(&mut random));
    let (program, batch) = (tiny().bytes, join(&sections()));
    let (one, two) = (signer.sign(&program), signer.sign(&batch));
    let public = signer.public();
    assert!(Program::verify_signed(&program, &one, &public).is_ok());
    assert!(BatchProgram::verify_signed(&batch, &two, &public).is_ok());
    let refused = Some(SignedError::Signature);
    assert_eq!(Program::verify_signed(&program, &one, &other.public()).err(), refused);
    assert_eq!(Program::verify_signed(&program, &two, &public).err(), refused);
    assert_eq!(Program::verify_signed(&program, &other.sign(&program), &public).err(), refused);
    assert_eq!(BatchProgram::verify_signed(&batch, &one, &public).err(), refused);
    // The signature is looked at first: what is cut or damaged is not the signed file.
    for cut in (0..batch.len()).step_by(64) {
        assert_eq!(BatchProgram::verify_signed(&batch[..cut], &two, &public).err(), refused);
    }
    let (mut lcg, mut damaged) = (Lcg::new(62), program.clone());
    for bit in (0..128).map(|_| lcg.below(8 * program.len())) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Program::verify_signed(&damaged, &one, &public).err(), refused, "bit {bit}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    for bit in 0..512 {
        let mut signature = two;
        signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(check(&batch, &signature, &public), Err(SignedError::Signature), "bit {bit}");
    }
    for bit in 0..256 {
        let mut key = public;
        key[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&batch, &two, &key).is_err(), "bit {bit} of the key");
    }
    // Signed and yet no program.
    let error = Program::verify_signed(b"text", &signer.sign(b"text"), &public).err();
    assert_eq!(error, Some(SignedError::Program(ProgramError::File(WireError::Magic))));
}

/// The order of the group added to s: the same signature to a lax verifier, and refused by this one.
#[test]
fn signatures_are_not_malleable() {
    let signer = ProgramSigner::generate(&mut Random::from_seed([63; 32]));
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = signer.sign(b"bytes");
    let mut carry = 0;
    for (s, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*s) + u16::from(order) + carry;
        *s = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(check(b"bytes", &signature, &signer.public()), Err(SignedError::Signature));
}
