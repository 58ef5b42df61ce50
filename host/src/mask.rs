//! Masks: a decision for each pixel of a picture, and its outline.

use crate::datasets::{Picture, PictureError};
use serde::{Deserialize, Serialize};

/// Grey level from which a pixel of a mask file is foreground.
const THRESHOLD: u8 = 128;

/// Foreground or background for each pixel. As JSON the lengths of its runs, row by row, background first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Runs", try_from = "Runs")]
pub struct Mask {
    width: usize,
    pixels: Vec<bool>,
}

#[derive(Serialize, Deserialize)]
struct Runs {
    width: usize,
    runs: Vec<usize>,
}

impl From<Mask> for Runs {
    fn from(mask: Mask) -> Self {
        let mut runs = vec![0];
        let mut last = false;
        for &pixel in &mask.pixels {
            if pixel != last {
                runs.push(0);
                last = pixel;
            }
            if let Some(run) = runs.last_mut() {
                *run += 1;
            }
        }
        Self { width: mask.width, runs }
    }
}

impl TryFrom<Runs> for Mask {
    type Error = &'static str;

    fn try_from(Runs { width, runs }: Runs) -> Result<Self, Self::Error> {
        let pixels = runs.iter().try_fold(0usize, |sum, &run| sum.checked_add(run));
        let pixels = pixels.filter(|&p| width > 0 && p as u64 <= crate::datasets::MAX_PIXELS && p % width == 0);
        let mut mask = Vec::with_capacity(pixels.ok_or("the runs do not fill the rows of a mask")?);
        runs.iter().enumerate().for_each(|(i, &run)| mask.extend(std::iter::repeat_n(i % 2 == 1, run)));
        Ok(Self { width, pixels: mask })
    }
}

impl Mask {
    /// What the logits of pixels decide: foreground where one is positive. Shape: rows of `width` logits; a last row
    /// that is not whole is left out.
    pub fn of_logits(logits: &[f64], width: usize) -> Self {
        let width = width.max(1);
        let whole = logits.len() / width * width;
        Self { width, pixels: logits[..whole].iter().map(|&logit| logit > 0.0).collect() }
    }

    /// What a grey picture marks: levels from 128 of 255 are foreground. Of a colour picture the first channel counts.
    pub fn of_picture(picture: &Picture) -> Self {
        let [channels, _, width] = picture.shape();
        let levels = picture.pixels().iter().step_by(channels);
        Self { width, pixels: levels.map(|&level| level >= THRESHOLD).collect() }
    }

    /// Decodes a grey PNG or JPEG file, as [`of_picture`](Self::of_picture).
    ///
    /// # Errors
    /// [`PictureError`]; [`PictureError::Colour`] if the file is not grey.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        Ok(Self::of_picture(&Picture::decode(bytes, 1)?))
    }

    /// Width and height, in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.pixels.len() / self.width]
    }

    /// Decisions, row by row.
    pub fn pixels(&self) -> &[bool] {
        &self.pixels
    }

    /// Share of the pixels that are foreground; 0 of no pixel.
    pub fn share(&self) -> f64 {
        let hits = self.pixels.iter().filter(|&&p| p).count();
        hits as f64 / self.pixels.len().max(1) as f64
    }

    /// A grey picture: 255 for the foreground, 0 for the rest.
    pub fn picture(&self) -> Picture {
        let levels: Vec<u8> = self.pixels.iter().map(|&p| if p { u8::MAX } else { 0 }).collect();
        Picture::grey(&levels, self.width)
    }

    /// The mask in `width` x `height` pixels: foreground where it covers half of a pixel or more.
    pub fn resized(&self, width: usize, height: usize) -> Self {
        Self::of_picture(&self.picture().resized(width, height))
    }

    /// Foreground and background exchanged.
    pub fn inverted(&self) -> Self {
        Self { width: self.width, pixels: self.pixels.iter().map(|p| !p).collect() }
    }

    /// Distance of each pixel to the nearest one that is `ground`, in king's moves; of a mask without one, more than its
    /// sides.
    fn distances(&self, ground: bool) -> Vec<usize> {
        let [width, height] = self.size();
        let far = width + height;
        let mut found: Vec<usize> = self.pixels.iter().map(|&p| if p == ground { 0 } else { far }).collect();
        let mut step = |x: usize, y: usize, dx: isize, dy: isize| {
            let (i, j) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
            if i < width && j < height {
                found[y * width + x] = found[y * width + x].min(found[j * width + i] + 1);
            }
        };
        for y in 0..height {
            for x in 0..width {
                [(-1, 0), (-1, -1), (0, -1), (1, -1)].into_iter().for_each(|(dx, dy)| step(x, y, dx, dy));
            }
        }
        for y in (0..height).rev() {
            for x in (0..width).rev() {
                [(1, 0), (1, 1), (0, 1), (-1, 1)].into_iter().for_each(|(dx, dy)| step(x, y, dx, dy));
            }
        }
        found
    }
}

/// Least length of the longer side of a picture with an outline, in pixels.
const SHOWN: usize = 512;
/// Colour of an outline: no tissue has it.
const LINE: [u8; 3] = [0, 255, 230];
/// What surrounds it, so that it shows on bright grounds too.
const CASING: [u8; 3] = [0, 40, 60];

/// The picture in colours with the outline of a mask of its size drawn on it: a bright line inside the mask along its
/// edge, a dark one around it. Small pictures are enlarged by a whole factor to 512 pixels or more first; the line is a
/// 170th of the longer side wide. The border of the picture is no edge.
pub fn outlined(picture: &Picture, mask: &Mask) -> Picture {
    let [channels, height, width] = picture.shape();
    let factor = SHOWN.div_ceil(width.max(height));
    let [wide, high] = [width * factor, height * factor];
    let from = |i: usize| (i / wide / factor) * width + (i % wide) / factor;
    let large = Mask { width: wide, pixels: (0..wide * high).map(|i| mask.pixels[from(i)]).collect() };
    let line = (wide.max(high) / 170).max(2);
    let (inside, outside) = (large.distances(false), large.distances(true));
    let colour = |i: usize| {
        let pixel = &picture.pixels()[from(i) * channels..][..channels];
        match (inside[i], outside[i]) {
            (1.., _) if inside[i] <= line => LINE,
            (_, 1..) if outside[i] <= line.div_ceil(2) => CASING,
            _ => [pixel[0], pixel[channels / 2], pixel[channels - 1]],
        }
    };
    Picture::rgb(&(0..wide * high).flat_map(colour).collect::<Vec<u8>>(), wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disc(side: usize) -> Mask {
        let at = |i: usize| (i as f64 + 0.5) / side as f64 - 0.5;
        let inside = |i: usize| at(i % side).hypot(at(i / side)) - 0.3;
        Mask::of_logits(&(0..side * side).map(|i| -inside(i)).collect::<Vec<_>>(), side)
    }

    #[test]
    fn pictures_and_json_keep_a_mask() {
        for mask in [disc(33), disc(33).inverted(), Mask::of_logits(&[1.0, -1.0, 0.0, 2.0, 5.0], 2)] {
            assert_eq!(Mask::decode(&mask.picture().png().unwrap()).unwrap(), mask);
            let json = serde_json::to_string(&mask).unwrap();
            assert_eq!(serde_json::from_str::<Mask>(&json).unwrap(), mask);
        }
        assert_eq!(Mask::of_logits(&[1.0, -1.0, 0.0, 2.0, 5.0], 2).pixels(), [true, false, false, true]);
        for wrong in [r#"{"width":0,"runs":[1]}"#, r#"{"width":2,"runs":[1,2]}"#, r#"{"width":1,"runs":[99999999999]}"#]
        {
            assert!(serde_json::from_str::<Mask>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn levels_are_cut_at_half() {
        let mask = Mask::of_picture(&Picture::grey(&[0, 127, 128, 255], 2));
        assert_eq!(mask.pixels(), [false, false, true, true]);
        assert_eq!((mask.size(), mask.share()), ([2, 2], 0.5));
        // A pixel of which half is covered is foreground, as where the training scripts halve a mask.
        assert_eq!(mask.resized(1, 1).pixels(), [true]);
        assert_eq!(Mask::of_picture(&Picture::grey(&[255, 0, 0, 0], 2)).resized(1, 1).pixels(), [false]);
    }

    #[test]
    fn distances_are_kings_moves() {
        let mut mask = Mask::of_logits(&[1.0; 35], 7);
        mask.pixels[2 * 7 + 3] = false;
        let found = mask.distances(false);
        for (i, &d) in found.iter().enumerate() {
            assert_eq!(d, (i % 7).abs_diff(3).max((i / 7).abs_diff(2)));
        }
        assert!(mask.inverted().inverted().distances(true).iter().filter(|&&d| d > 0).count() == 1);
        assert!(Mask::of_logits(&[1.0; 4], 2).distances(false).iter().all(|&d| d >= 2));
    }

    #[test]
    fn an_outline_follows_the_edge_alone() {
        let mask = disc(128);
        let grey = Picture::grey(&vec![90; 128 * 128], 128);
        let drawn = outlined(&grey, &mask);
        assert_eq!(drawn.shape(), [3, 512, 512]);
        let at = |x: usize, y: usize| &drawn.pixels()[(y * 512 + x) * 3..][..3];
        // The disc ends 152 pixels from the middle.
        assert_eq!((at(256, 256), at(5, 5)), (&[90, 90, 90][..], &[90, 90, 90][..]));
        assert_eq!((at(256 + 151, 256), at(256 + 152, 256)), (&LINE[..], &CASING[..]));
        let all = outlined(&grey, &Mask::of_logits(&[1.0; 128 * 128], 128));
        assert!(all.pixels().iter().all(|&p| p == 90), "the border of the picture is no edge");
    }
}
