//! The secret key and its file.

use crate::files::FileError;
use crate::random::Random;
use crate::ring::Ring;
use cipherlens_kernel::math::Backend;
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::wire::{FileKind, HEADER_BYTES, Header, WireError, array_at, u32_at};
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// A uniform ternary secret. It exists only on the key holder's side; its memory is zeroed when it is dropped.
///
/// File (`.cls`), after the common header: key id (16 bytes), log2 N (4), set name (8), 4 zero bytes, then N
/// coefficients of one byte each. Files are written with mode 0600.
pub struct SecretKey {
    set: ParamSet,
    id: [u8; 16],
    coefficients: Zeroizing<Vec<i8>>,
    /// -s modulo each prime, once asked for.
    minus: Vec<OnceLock<Zeroizing<Vec<u32>>>>,
}

const BODY: usize = HEADER_BYTES + 32;

impl SecretKey {
    /// A fresh key.
    pub fn generate(set: ParamSet, random: &mut Random) -> Self {
        let mut coefficients = Zeroizing::new(vec![0; set.n()]);
        let id = random.bytes();
        random.ternary(&mut coefficients);
        Self::of(set, id, coefficients)
    }

    fn of(set: ParamSet, id: [u8; 16], coefficients: Zeroizing<Vec<i8>>) -> Self {
        Self { set, id, coefficients, minus: vec![OnceLock::new(); set.limbs() + set.special()] }
    }

    /// The parameter set.
    pub fn set(&self) -> &ParamSet {
        &self.set
    }

    /// The public identity that ties ciphertexts and evaluation keys to this key.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// -s modulo prime `t` of the extended basis at `limbs` limbs, in the Ntt domain and Montgomery form: what is added
    /// to a message or an error, times the uniform half. Computed once and zeroed with the key.
    pub(crate) fn minus(&self, ring: &Ring, limbs: usize, t: usize) -> &[u32] {
        self.minus[ring.index(limbs, t)].get_or_init(|| {
            let m = ring.table(limbs, t).modulus;
            let mut row = Zeroizing::new(ring.transform_small(&self.coefficients, limbs, t));
            ring.backend.mul_scalar_assign(&mut row, m.shoup(m.neg(m.montgomery_factor().value)), &m);
            row
        })
    }

    /// The bytes of a key file.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0; BODY + self.set.n()]);
        bytes[64..80].copy_from_slice(&self.id);
        bytes[80..84].copy_from_slice(&self.set.log_n().to_le_bytes());
        let name = self.set.name().as_bytes();
        bytes[84..84 + name.len()].copy_from_slice(name);
        for (b, &c) in bytes[BODY..].iter_mut().zip(self.coefficients.iter()) {
            *b = c as u8;
        }
        let end = bytes.len();
        Header::write(&mut bytes, FileKind::SecretKey, &self.set.fingerprint(), end)
            .expect("the buffer holds the file");
        bytes
    }

    /// Reads a key file. `custom` is the set to use if it is not a named one.
    ///
    /// # Errors
    /// A damaged file, an unknown parameter set, or a coefficient that is not -1, 0 or 1.
    pub fn from_bytes(bytes: &[u8], custom: Option<&ParamSet>) -> Result<Self, FileError> {
        let header = Header::read(bytes, FileKind::SecretKey)?;
        header.check_digest(bytes, bytes.len())?;
        let short = WireError::Truncated { need: BODY as u64, have: bytes.len() as u64 };
        let id = array_at(bytes, 64).ok_or(short)?;
        let log_n = u32_at(bytes, 80).ok_or(short)?;
        let set = crate::files::set_by_fingerprint(&header.set, custom)?;
        if log_n != set.log_n() || bytes.len() != BODY + set.n() {
            return Err(WireError::Field { offset: 80 }.into());
        }
        let coefficients: Zeroizing<Vec<i8>> = Zeroizing::new(bytes[BODY..].iter().map(|&b| b as i8).collect());
        if let Some(i) = coefficients.iter().position(|c| !(-1..=1).contains(c)) {
            return Err(WireError::Field { offset: (BODY + i) as u64 }.into());
        }
        Ok(Self::of(set, id, coefficients))
    }
}
