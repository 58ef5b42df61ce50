//! Ciphertext files (`.clx`).
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 64 | 16 | key id |
//! | 80 | 16 | fingerprint of the program |
//! | 96 | 4 | role: 0 input, 1 output |
//! | 100 | 4 | index among the inputs or outputs |
//! | 104 | 4 | limbs |
//! | 108 | 4 | log2 N |
//! | 112 | 8 | scale (IEEE double) |
//! | 120 | 4 | form: 0 full, 1 seeded |
//! | 124 | 4 | zero |
//! | 128 | 32 | seed of c1 (zero in the full form) |
//! | 160 | | c0, then c1 in the full form: `[limbs][N]` words in the Ntt domain |

use super::{FileKind, HEADER_BYTES, Header, WireError, array_at, slice_at, u32_at, u64_at};
use crate::ckks::Scale;

const BODY: usize = 160;

/// Whether a ciphertext goes into a program or comes out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// An encrypted input.
    Input,
    /// A result.
    Output,
}

/// Everything in a ciphertext file but the polynomials.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CiphertextHeader {
    /// Fingerprint of the parameter set.
    pub set: [u8; 16],
    /// Identity of the secret key that decrypts it.
    pub key_id: [u8; 16],
    /// Fingerprint of the program that it belongs to.
    pub program: [u8; 16],
    /// Input or output.
    pub role: Role,
    /// Which one.
    pub index: u32,
    /// Number of limbs.
    pub limbs: usize,
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Scale.
    pub scale: Scale,
    /// Seed of c1, if it is not stored.
    pub seed: Option<[u8; 32]>,
}

impl CiphertextHeader {
    /// Bytes of one polynomial.
    fn poly_bytes(&self) -> usize {
        self.limbs.wrapping_mul(4usize.wrapping_shl(self.log_n))
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> usize {
        let polys = if self.seed.is_some() { 1 } else { 2 };
        BODY.wrapping_add(self.poly_bytes().wrapping_mul(polys))
    }

    /// Writes a file; `fill` gets the bytes of c0 and, in the full form, of c1.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if `bytes` is not exactly [`file_bytes`](Self::file_bytes) long.
    pub fn write(&self, bytes: &mut [u8], fill: impl FnOnce(&mut [u8], &mut [u8])) -> Result<(), WireError> {
        let need = self.file_bytes();
        let have = bytes.len();
        let short = WireError::Truncated { need: need as u64, have: have as u64 };
        if have != need {
            return Err(short);
        }
        let poly = self.poly_bytes();
        let (front, body) = bytes.split_at_mut_checked(BODY).ok_or(short)?;
        let fields = self
            .key_id
            .into_iter()
            .chain(self.program)
            .chain(match self.role {
                Role::Input => 0u32.to_le_bytes(),
                Role::Output => 1u32.to_le_bytes(),
            })
            .chain(self.index.to_le_bytes())
            .chain((self.limbs as u32).to_le_bytes())
            .chain(self.log_n.to_le_bytes())
            .chain(self.scale.value().to_bits().to_le_bytes())
            .chain(u32::from(self.seed.is_some()).to_le_bytes())
            .chain([0; 4])
            .chain(self.seed.unwrap_or_default());
        for (x, value) in front.iter_mut().skip(HEADER_BYTES).zip(fields) {
            *x = value;
        }
        let (c0, c1) = body.split_at_mut_checked(poly).ok_or(short)?;
        fill(c0, c1);
        Header::write(bytes, FileKind::Ciphertext, &self.set, need)
    }
}

/// A checked ciphertext file.
#[derive(Debug, Clone, Copy)]
pub struct CiphertextView<'a> {
    /// All fields.
    pub header: CiphertextHeader,
    /// Words of c0, little-endian.
    pub c0: &'a [u8],
    /// Words of c1; empty in the seeded form.
    pub c1: &'a [u8],
}

impl<'a> CiphertextView<'a> {
    /// Checks header, digest and every field.
    ///
    /// # Errors
    /// [`WireError`] for the first thing that is off.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        let head = Header::read(bytes, FileKind::Ciphertext)?;
        head.check_digest(bytes, bytes.len())?;
        let short = WireError::Truncated { need: BODY as u64, have: bytes.len() as u64 };
        let role = match u32_at(bytes, 96).ok_or(short)? {
            0 => Role::Input,
            1 => Role::Output,
            _ => return Err(WireError::Field { offset: 96 }),
        };
        let limbs = u32_at(bytes, 104).ok_or(short)? as usize;
        let log_n = u32_at(bytes, 108).ok_or(short)?;
        if limbs == 0 || limbs > crate::params::MAX_LIMBS {
            return Err(WireError::Field { offset: 104 });
        }
        if !(11..=16).contains(&log_n) {
            return Err(WireError::Field { offset: 108 });
        }
        let scale =
            Scale::new(f64::from_bits(u64_at(bytes, 112).ok_or(short)?)).ok_or(WireError::Field { offset: 112 })?;
        let seed = match u32_at(bytes, 120).ok_or(short)? {
            0 => None,
            1 => Some(array_at(bytes, 128).ok_or(short)?),
            _ => return Err(WireError::Field { offset: 120 }),
        };
        let header = CiphertextHeader {
            set: head.set,
            key_id: array_at(bytes, 64).ok_or(short)?,
            program: array_at(bytes, 80).ok_or(short)?,
            role,
            index: u32_at(bytes, 100).ok_or(short)?,
            limbs,
            log_n,
            scale,
            seed,
        };
        let need = header.file_bytes() as u64;
        if need != bytes.len() as u64 {
            return Err(WireError::Truncated { need, have: bytes.len() as u64 });
        }
        let poly = header.poly_bytes();
        let c0 = slice_at(bytes, BODY, poly).ok_or(short)?;
        let c1 = bytes.get(BODY.wrapping_add(poly)..).ok_or(short)?;
        Ok(Self { header, c0, c1 })
    }
}
