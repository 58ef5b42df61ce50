//! The IDX format of MNIST: unsigned bytes in a few dimensions, plain or gzipped.

use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;

/// Why bytes are not an IDX file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file cannot be read, or its compression is damaged.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The first bytes are not those of an IDX file of unsigned bytes.
    #[error("not an IDX file of unsigned bytes")]
    Magic,
    /// The dimensions multiply to more than `MAX_BYTES` elements.
    #[error("the dimensions {0:?} are too large")]
    TooLarge(Vec<usize>),
    /// The content is shorter or longer than the dimensions say.
    #[error("the dimensions {shape:?} need {need} bytes, the file holds {have}")]
    Length {
        /// Dimensions.
        shape: Vec<usize>,
        /// Bytes needed.
        need: usize,
        /// Bytes there; counting stops one past `need`.
        have: usize,
    },
}

/// Most bytes that a file may unpack to: a guard against damaged headers and compression bombs.
pub const MAX_BYTES: usize = 1 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTE: u8 = 8;

/// An array of bytes with its dimensions, the first of which counts the items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Idx {
    /// Reads a file, gzipped or not.
    ///
    /// # Errors
    /// [`IdxError`].
    pub fn open(path: &Path) -> Result<Self, IdxError> {
        Self::parse(&std::fs::read(path)?)
    }

    /// Reads the bytes of a file, gzipped or not.
    ///
    /// # Errors
    /// [`IdxError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IdxError> {
        if bytes.starts_with(&GZIP) { Self::read(GzDecoder::new(bytes)) } else { Self::read(bytes) }
    }

    fn read(mut from: impl Read) -> Result<Self, IdxError> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic).map_err(|error| short(error, IdxError::Magic))?;
        let [0, 0, UNSIGNED_BYTE, rank @ 1..=4] = magic else {
            return Err(IdxError::Magic);
        };
        let mut shape = Vec::new();
        for _ in 0..rank {
            let mut dimension = [0; 4];
            from.read_exact(&mut dimension).map_err(|error| short(error, IdxError::Magic))?;
            shape.push(u32::from_be_bytes(dimension) as usize);
        }
        let need = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
        let Some(need) = need.filter(|&n| n <= MAX_BYTES) else {
            return Err(IdxError::TooLarge(shape));
        };
        let mut data = Vec::new();
        from.take(need as u64 + 1).read_to_end(&mut data)?;
        if data.len() != need {
            return Err(IdxError::Length { shape, need, have: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Dimensions of one item.
    pub fn item_shape(&self) -> &[usize] {
        self.shape.get(1..).unwrap_or(&[])
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of item `i`.
    pub fn item(&self, i: usize) -> Option<&[u8]> {
        let size = self.item_shape().iter().product::<usize>();
        let start = i.checked_mul(size)?;
        (i < self.len()).then(|| self.data.get(start..start + size)).flatten()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }
}

/// `replacement` where the data ends early, other errors as they are.
fn short(error: std::io::Error, replacement: IdxError) -> IdxError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { replacement } else { IdxError::Read(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn file(shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn plain_and_gzipped_files_are_the_same() {
        let plain = file(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).unwrap();
        let idx = Idx::parse(&plain).unwrap();
        assert_eq!(idx, Idx::parse(&encoder.finish().unwrap()).unwrap());
        assert_eq!((idx.len(), idx.item_shape()), (2, &[1, 3][..]));
        assert_eq!(idx.item(1), Some(&[4, 5, 6][..]));
        assert_eq!(idx.item(2), None);
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = file(&[2, 2], &[1, 2, 3, 4]);
        for cut in 0..good.len() {
            assert!(Idx::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(matches!(Idx::parse(&file(&[2, 2], &[0; 5])), Err(IdxError::Length { need: 4, have: 5, .. })));
        assert!(matches!(Idx::parse(&file(&[u32::MAX, u32::MAX], &[])), Err(IdxError::TooLarge(_))));
        assert!(matches!(Idx::parse(b"P5 28 28 255"), Err(IdxError::Magic)));
        assert!(matches!(Idx::parse(&[0x1f, 0x8b, 1, 2, 3]), Err(IdxError::Read(_) | IdxError::Magic)));
    }
}
