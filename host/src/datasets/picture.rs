//! One image: decoding of PNG and JPEG, and resizing to what a network reads.

use image::codecs::png::PngEncoder;
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Most pixels of a picture: a guard against damaged headers and compression bombs.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Why bytes are not an image that a network can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The first bytes are those of no format that is read.
    #[error("neither a PNG nor a JPEG file")]
    Format,
    /// The content contradicts the format.
    #[error("damaged or cut image: {0}")]
    Damaged(String),
    /// A side of no pixels.
    #[error("the image is {width}x{height} pixels: it has no content")]
    Empty {
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
    /// More than [`MAX_PIXELS`].
    #[error("the image is {width}x{height} pixels; at most {MAX_PIXELS} pixels are read")]
    Huge {
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
    /// What lies behind transparent pixels is unknown.
    #[error("the image has transparent pixels; flatten it onto its background")]
    Transparent,
    /// A network that reads grey images got a colour image.
    #[error("a colour image where the network reads grey")]
    Colour,
    /// A mask is a colour image.
    #[error("the mask has colours; masks are grey: 255 for the foreground, 0 for the rest")]
    MaskColour,
    /// A network with neither one nor three channels.
    #[error("the network reads {0} channels; images have one or three")]
    Channels(usize),
}

/// An image of bytes. Shape of the pixels: `[height][width][channels]`, one channel (grey) or three (RGB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
    /// Whether a grey file was expanded to RGB.
    expanded: bool,
}

impl Picture {
    /// A grey image, row by row; a last row that is not whole is left out.
    pub fn grey(pixels: &[u8], width: usize) -> Self {
        let width = width.max(1);
        let height = pixels.len() / width;
        Self { width, height, channels: 1, pixels: pixels[..width * height].to_vec(), expanded: false }
    }

    /// A colour image, row by row, three bytes a pixel; a last row that is not whole is left out.
    pub fn rgb(pixels: &[u8], width: usize) -> Self {
        let width = width.max(1);
        let height = pixels.len() / (3 * width);
        Self { width, height, channels: 3, pixels: pixels[..3 * width * height].to_vec(), expanded: false }
    }

    /// Decodes a PNG or JPEG file, upright as its metadata say, for a network that reads `channels` channels. Grey is
    /// expanded to RGB where that is asked for; an alpha channel is dropped if it is opaque everywhere.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn decode(bytes: &[u8], channels: usize) -> Result<Self, PictureError> {
        let format = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            _ => return Err(PictureError::Format),
        };
        // The decoder paints what is missing of a JPEG grey and says nothing.
        if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
            return Err(PictureError::Damaged("the end of the image is missing".into()));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_PIXELS * 16);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(PictureError::Empty { width, height });
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(PictureError::Huge { width, height });
        }
        let grey = !decoder.color_type().has_color();
        let turn = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(turn);
        if image.color().has_alpha() && image.to_rgba8().pixels().any(|p| p.0[3] != u8::MAX) {
            return Err(PictureError::Transparent);
        }
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = match (channels, grey) {
            (1, true) => image.into_luma8().into_raw(),
            (1, false) => return Err(PictureError::Colour),
            (3, _) => image.into_rgb8().into_raw(),
            _ => return Err(PictureError::Channels(channels)),
        };
        Ok(Self { width, height, channels, pixels, expanded: grey && channels == 3 })
    }

    /// Whether a file is named as an image that can be read: PNG or JPEG.
    pub fn is_named(path: &Path) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        extension.is_some_and(|e| matches!(e.as_str(), "png" | "jpg" | "jpeg"))
    }

    /// A PNG file of the image.
    ///
    /// # Errors
    /// [`PictureError::Damaged`] if the image has no pixel.
    pub fn png(&self) -> Result<Vec<u8>, PictureError> {
        let (kind, mut bytes) =
            (if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 }, Vec::new());
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(&self.pixels, self.width as u32, self.height as u32, kind).map_err(damaged)?;
        Ok(bytes)
    }

    /// Width, in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Shape: `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Bytes, as the type says.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Whether a grey file was expanded to RGB.
    pub fn is_expanded(&self) -> bool {
        self.expanded
    }

    /// Values from 0 to 1. Shape: `[channels][height][width]`, flat.
    pub fn values(&self) -> Vec<f32> {
        let plane = |c| self.pixels.iter().skip(c).step_by(self.channels);
        (0..self.channels).flat_map(plane).map(|&p| f32::from(p) / 255.0).collect()
    }

    /// The picture with `level[p]` in place of each byte p.
    pub(crate) fn mapped(&self, level: &[u8; 256]) -> Self {
        Self { pixels: self.pixels.iter().map(|&p| level[usize::from(p)]).collect(), ..*self }
    }

    /// A part of the picture: `[width, height]` pixels from the corner `[x, y]` on; beyond the edges the last pixels go on.
    pub fn window(&self, [x, y]: [usize; 2], [width, height]: [usize; 2]) -> Self {
        let mut pixels = Vec::with_capacity(width * height * self.channels);
        for row in (y..y + height).map(|row| row.min(self.height - 1)) {
            for column in (x..x + width).map(|column| column.min(self.width - 1)) {
                pixels.extend_from_slice(&self.pixels[(row * self.width + column) * self.channels..][..self.channels]);
            }
        }
        Self { width, height, pixels, ..*self }
    }

    /// The same picture in `width` x `height` pixels, squashed where the sides have another ratio.
    ///
    /// Each pixel is the mean of the area that it covers, rounded to the nearest, halves up: going from 256 to 128,
    /// the mean of 2x2 pixels, exactly as the training scripts prepare their images. What remains is the JPEG
    /// decoder: over the lesion test images ours and Pillow's are 0.13 to 0.20 grey levels apart on average, at most 5.
    pub fn resized(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let (columns, rows) = (cover(self.width, width), cover(self.height, height));
        let area = (self.width * self.height) as u64;
        let mut pixels = Vec::with_capacity(width * height * self.channels);
        let mut line = vec![0u64; self.width * self.channels];
        for parts in &rows {
            line.fill(0);
            for &(y, weight) in parts {
                let row = &self.pixels[y * line.len()..][..line.len()];
                line.iter_mut().zip(row).for_each(|(sum, &p)| *sum += weight * u64::from(p));
            }
            for parts in &columns {
                for c in 0..self.channels {
                    let sum: u64 = parts.iter().map(|&(x, weight)| weight * line[x * self.channels + c]).sum();
                    pixels.push(((2 * sum + area) / (2 * area)) as u8);
                }
            }
        }
        Self { width, height, pixels, ..*self }
    }
}

/// For each of `to` pixels the pixels of `from` that it covers with their weights, which sum to `from`.
fn cover(from: usize, to: usize) -> Vec<Vec<(usize, u64)>> {
    let part = |o: usize| {
        let (start, end) = (o * from, (o + 1) * from);
        let overlap = |i: usize| (i, (end.min((i + 1) * to) - start.max(i * to)) as u64);
        (start / to..end.div_ceil(to)).map(overlap).collect()
    };
    (0..to).map(part).collect()
}

fn damaged(error: ImageError) -> PictureError {
    match error {
        ImageError::Limits(e) if matches!(e.kind(), LimitErrorKind::DimensionError) => {
            PictureError::Damaged("the sides are too long".into())
        }
        other => PictureError::Damaged(other.to_string()),
    }
}

/// Whether the marker that ends an image follows its segments and scans.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut at = 2;
    loop {
        let Some(&[0xff, marker]) = bytes.get(at..at + 2) else { return false };
        match marker {
            END => return true,
            // Fill bytes, and markers without a segment.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == SCAN {
                    // Coded data: 0xff is followed by 0 there, or by the number of a restart.
                    let rest = bytes.get(at..).unwrap_or(&[]);
                    let next = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
                    let Some(skip) = rest.windows(2).position(next) else { return false };
                    at += skip;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{GrayImage, Rgb, RgbImage, RgbaImage};

    pub(crate) fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(image).unwrap();
        bytes
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]))
    }

    #[test]
    fn pixels_become_planes() {
        let image = RgbImage::from_raw(2, 1, vec![0, 51, 102, 153, 204, 255]).unwrap();
        let picture = Picture::decode(&png(image), 3).unwrap();
        assert_eq!((picture.shape(), picture.is_expanded()), ([3, 1, 2], false));
        assert_eq!(picture.values(), [0.0, 0.6, 0.2, 0.8, 0.4, 1.0]);
    }

    #[test]
    fn jpeg_is_decoded_closely() {
        let image = gradient(64, 48);
        let picture = Picture::decode(&jpeg(&image), 3).unwrap();
        assert_eq!(picture.shape(), [3, 48, 64]);
        let far = picture.pixels().iter().zip(image.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far < Some(12), "{far:?}");
    }

    #[test]
    fn halving_is_the_mean_of_four_rounded_half_up() {
        let picture = Picture::grey(&[1, 2, 10, 11, 2, 1, 10, 11], 4).resized(2, 1);
        assert_eq!(picture.pixels(), [2, 11]);
        let image = Picture::decode(&png(gradient(256, 256)), 3).unwrap();
        let half = image.resized(128, 128);
        for (y, x, c) in [(0, 0, 0), (17, 99, 1), (127, 127, 2)] {
            let at = |dy: usize, dx: usize| u32::from(image.pixels()[((2 * y + dy) * 256 + 2 * x + dx) * 3 + c]);
            let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1) + 2) / 4;
            assert_eq!(u32::from(half.pixels()[(y * 128 + x) * 3 + c]), mean);
        }
    }

    #[test]
    fn windows_go_on_beyond_the_edges_and_png_files_keep_pixels() {
        let picture = Picture::grey(&[1, 2, 3, 4, 5, 6], 3);
        assert_eq!(picture.window([1, 0], [2, 2]).pixels(), [2, 3, 5, 6]);
        assert_eq!(picture.window([2, 1], [2, 2]).pixels(), [6, 6, 6, 6]);
        assert_eq!(Picture::decode(&picture.png().unwrap(), 1).unwrap(), picture);
        let colour = Picture::rgb(gradient(9, 5).as_raw(), 9);
        assert_eq!(colour.window([0, 0], [9, 5]), colour);
        assert_eq!(Picture::decode(&colour.png().unwrap(), 3).unwrap(), colour);
        assert!(Picture::grey(&[], 3).png().is_err());
    }

    #[test]
    fn any_size_becomes_any_other_and_flat_stays_flat() {
        for (w, h) in [(1, 1), (7, 300), (129, 127), (640, 480)] {
            let picture = Picture::grey(&vec![93; w * h], w).resized(128, 128);
            assert_eq!(picture.shape(), [1, 128, 128]);
            assert!(picture.pixels().iter().all(|&p| p == 93), "{w}x{h}");
        }
        assert_eq!(Picture::grey(&[0, 90, 180], 3).resized(2, 1).pixels(), [30, 150]);
    }

    #[test]
    fn grey_is_expanded_and_opaque_alpha_dropped() {
        let grey = png(GrayImage::from_raw(2, 1, vec![7, 9]).unwrap());
        let picture = Picture::decode(&grey, 3).unwrap();
        assert_eq!((picture.pixels(), picture.is_expanded()), (&[7, 7, 7, 9, 9, 9][..], true));
        assert_eq!(Picture::decode(&grey, 1).unwrap().pixels(), [7, 9]);
        let opaque = png(RgbaImage::from_raw(1, 1, vec![1, 2, 3, 255]).unwrap());
        assert_eq!(Picture::decode(&opaque, 3).unwrap().pixels(), [1, 2, 3]);
        let clear = png(RgbaImage::from_raw(1, 1, vec![1, 2, 3, 254]).unwrap());
        assert!(matches!(Picture::decode(&clear, 3), Err(PictureError::Transparent)));
        assert!(matches!(Picture::decode(&opaque, 1), Err(PictureError::Colour)));
        assert!(matches!(Picture::decode(&opaque, 4), Err(PictureError::Channels(4))));
    }

    #[test]
    fn cut_files_are_refused_at_every_length() {
        let (png, jpeg) = (png(gradient(20, 20)), jpeg(&gradient(20, 20)));
        for bytes in [&png[..], &jpeg] {
            assert!(Picture::decode(bytes, 3).is_ok());
            for cut in 0..bytes.len() {
                // The last chunk of a PNG file says nothing but that it is the last.
                if bytes != png || cut < png.len() - 12 {
                    assert!(Picture::decode(&bytes[..cut], 3).is_err(), "cut at {cut} of {}", bytes.len());
                }
            }
        }
        let mut flipped = png.clone();
        flipped[60] ^= 0xff;
        assert!(matches!(Picture::decode(&flipped, 3), Err(PictureError::Damaged(_))));
        let mut trailer = jpeg.clone();
        trailer.extend(b"appended by a camera");
        assert!(Picture::decode(&trailer, 3).is_ok());
    }

    #[test]
    fn other_formats_and_sizes_are_refused() {
        assert!(matches!(Picture::decode(b"P6 1 1 255 abc", 3), Err(PictureError::Format)));
        assert!(matches!(Picture::decode(b"", 3), Err(PictureError::Format)));
        // A PNG header with other sides, and its checksum.
        let sides = |width: u32, height: u32| {
            let mut bytes = png(gradient(1, 1));
            bytes[16..20].copy_from_slice(&width.to_be_bytes());
            bytes[20..24].copy_from_slice(&height.to_be_bytes());
            let mut crc = flate2::Crc::new();
            crc.update(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
            bytes
        };
        assert!(matches!(Picture::decode(&sides(100_000, 100_000), 3), Err(PictureError::Huge { .. })));
        let empty = Picture::decode(&sides(0, 5), 3);
        assert!(matches!(empty, Err(PictureError::Empty { .. } | PictureError::Damaged(_))), "{empty:?}");
    }
}
