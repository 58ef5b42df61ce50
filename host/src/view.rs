//! How pictures of any size become inputs of a network, and the answers one answer again.

use crate::datasets::Picture;
use serde::{Deserialize, Serialize};

/// How a network is shown a picture. What its training has fixed; a program carries it for whoever encrypts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Size.
    pub fit: Fit,
    /// Grey levels.
    pub contrast: Contrast,
}

/// How a picture of another size than the network's input is brought to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Squashed to the input's size, whatever its own.
    #[default]
    Resize,
    /// Cut into tiles at its own scale.
    Tile,
}

/// What happens to the levels of a picture before anything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contrast {
    /// Nothing.
    #[default]
    Plain,
    /// Stretched: with `low` the smallest level and `high` the smallest that at least 99.8 % of the values do not exceed,
    /// `sqrt(clamp((level - low) / (high - low), 0, 1))`, in levels, rounded, halves up.
    Stretch,
}

impl View {
    /// Whether it is that of networks that ask for nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// One input that shows a picture, to measure ranges on: all of it squashed, or the tile in its middle. `[width, height]`
    /// are the input's.
    pub fn sample(&self, picture: &Picture, [width, height]: [usize; 2]) -> Picture {
        let picture = self.contrast.apply(picture);
        let [_, high, wide] = picture.shape();
        match self.fit {
            Fit::Resize => picture.resized(width, height),
            Fit::Tile => {
                picture.window([wide.saturating_sub(width) / 2, high.saturating_sub(height) / 2], [width, height])
            }
        }
    }
}

impl Contrast {
    /// The whole picture with its levels changed.
    pub fn apply(self, picture: &Picture) -> Picture {
        match self {
            Self::Plain => picture.clone(),
            Self::Stretch => picture.mapped(&stretch(picture.pixels())),
        }
    }
}

/// What each level becomes.
fn stretch(pixels: &[u8]) -> [u8; 256] {
    let mut counts = [0usize; 256];
    pixels.iter().for_each(|&p| counts[usize::from(p)] += 1);
    let low = counts.iter().position(|&c| c > 0).unwrap_or(0);
    // ceil(0.998 n), exactly.
    let share = (998 * pixels.len()).div_ceil(1000);
    let mut sum = 0;
    let reached = counts.iter().position(|&c| {
        sum += c;
        sum >= share
    });
    let span = (reached.unwrap_or(low).max(low) - low).max(1) as f64;
    let level = |value: usize| {
        let part = (value.saturating_sub(low) as f64 / span).min(1.0);
        (part.sqrt() * 255.0 + 0.5).floor() as u8
    };
    std::array::from_fn(level)
}

/// Where the tiles of a picture lie: at every column of every row, row by row. Where tiles overlap, each takes its half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiling {
    /// Width and height of the picture, in pixels.
    pub picture: [usize; 2],
    /// Width and height of a tile: those of the network's input.
    pub tile: [usize; 2],
    /// How the picture is brought to tiles.
    pub fit: Fit,
    /// Left edges of tiles, ascending.
    pub columns: Vec<usize>,
    /// Upper edges of tiles, ascending.
    pub rows: Vec<usize>,
}

impl Tiling {
    /// One tile of the squashed picture, or the fewest tiles that cover it and share `overlap` pixels or more with their
    /// neighbours, evenly spread. A side shorter than a tile's is filled up with the last pixels. Sizes are width and height, not
    /// 0; `overlap` counts up to half a tile.
    pub fn new(fit: Fit, picture: [usize; 2], tile: [usize; 2], overlap: usize) -> Self {
        let edges = |axis: usize| match fit {
            Fit::Resize => vec![0],
            Fit::Tile => spread(picture[axis], tile[axis], overlap.min(tile[axis] / 2)),
        };
        Self { picture, tile, fit, columns: edges(0), rows: edges(1) }
    }

    /// Number of tiles.
    pub fn len(&self) -> usize {
        self.columns.len() * self.rows.len()
    }

    /// Whether there is no tile.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether tiles cover the picture as [`new`](Self::new) lays them: what was read from a file may be anything.
    pub fn is_whole(&self) -> bool {
        let covers = |axis: usize, edges: &[usize]| {
            let (size, side) = (self.picture[axis], self.tile[axis]);
            let last = edges.last().copied().unwrap_or(usize::MAX);
            let steps = edges.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= side);
            let end = size.saturating_sub(side);
            size > 0 && side > 0 && edges.first() == Some(&0) && steps && (self.fit == Fit::Resize || last == end)
        };
        let [width, height] = self.picture.map(|side| side as u64);
        let one = self.fit == Fit::Tile || self.len() == 1;
        let small = width.checked_mul(height).is_some_and(|area| area <= crate::datasets::MAX_PIXELS);
        one && small && covers(0, &self.columns) && covers(1, &self.rows)
    }

    /// The tiles of a picture of the tiling's size.
    pub fn cut(&self, picture: &Picture) -> Vec<Picture> {
        let [width, height] = self.tile;
        match self.fit {
            Fit::Resize => vec![picture.resized(width, height)],
            Fit::Tile => {
                let corners = self.rows.iter().flat_map(|&y| self.columns.iter().map(move |&x| [x, y]));
                corners.map(|corner| picture.window(corner, self.tile)).collect()
            }
        }
    }

    /// The values of the picture's pixels from those of its tiles: of the tile in which a pixel lies deepest; of a
    /// squashed picture the four nearest, interpolated. Shape: rows of pixels, one vector per tile, to rows of pixels.
    ///
    /// # Panics
    /// If the number of tiles or of their values is not the tiling's.
    pub fn stitch(&self, tiles: &[Vec<f64>]) -> Vec<f64> {
        let ([width, height], [wide, high]) = (self.picture, self.tile);
        assert!(tiles.len() == self.len() && tiles.iter().all(|tile| tile.len() == wide * high), "the tiling's tiles");
        if self.fit == Fit::Resize {
            return enlarged(&tiles[0], self.tile, self.picture);
        }
        let (columns, rows) = (owners(&self.columns, width, wide), owners(&self.rows, height, high));
        let value = |&(row, y): &(usize, usize), &(column, x): &(usize, usize)| {
            tiles[row * self.columns.len() + column][y * wide + x]
        };
        rows.iter().flat_map(|row| columns.iter().map(move |column| value(row, column))).collect()
    }
}

/// Edges of the fewest tiles of `side` that cover `size` and share `overlap` or more.
fn spread(size: usize, side: usize, overlap: usize) -> Vec<usize> {
    let rest = size.saturating_sub(side);
    let steps = rest.div_ceil(side - overlap);
    (0..=steps).map(|i| (i * rest).checked_div(steps).unwrap_or(0)).collect()
}

/// The tile of each pixel of an axis, and its place in it: neighbours part in the middle of what they share.
fn owners(edges: &[usize], size: usize, side: usize) -> Vec<(usize, usize)> {
    let mut tile = 0;
    let owner = |i: usize| {
        while edges.get(tile + 1).is_some_and(|next| 2 * i >= next + edges[tile] + side) {
            tile += 1;
        }
        (tile, i - edges[tile])
    };
    (0..size).map(owner).collect()
}

/// Bilinear interpolation between the centres of pixels, the outermost extended.
fn enlarged(values: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    let axis = |axis: usize| -> Vec<(usize, usize, f64)> {
        let (n, m) = (from[axis], to[axis]);
        let place = |i: usize| {
            let at = ((i as f64 + 0.5) * n as f64 / m as f64 - 0.5).clamp(0.0, (n - 1) as f64);
            let low = at as usize;
            (low, (low + 1).min(n - 1), at - low as f64)
        };
        (0..m).map(place).collect()
    };
    let (columns, rows) = (axis(0), axis(1));
    let mut out = Vec::with_capacity(to[0] * to[1]);
    for &(top, bottom, v) in &rows {
        for &(left, right, u) in &columns {
            let line = |y: usize| values[y * from[0] + left] * (1.0 - u) + values[y * from[0] + right] * u;
            out.push(line(top) * (1.0 - v) + line(bottom) * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(picture: &Picture) -> Vec<f64> {
        picture.pixels().iter().map(|&p| f64::from(p)).collect()
    }

    fn noise(width: usize, height: usize) -> Picture {
        let level = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8;
        Picture::grey(&(0..width * height).map(level).collect::<Vec<_>>(), width)
    }

    proptest! {
        #[test]
        fn stitched_tiles_are_the_picture(w in 1usize..90, h in 1usize..90, side in 1usize..40, high in 1usize..40, overlap in 0usize..50) {
            let picture = noise(w, h);
            let tiling = Tiling::new(Fit::Tile, [w, h], [side, high], overlap);
            prop_assert!(tiling.is_whole());
            let tiles = tiling.cut(&picture);
            prop_assert_eq!(tiles.len(), tiling.len());
            prop_assert!(tiles.iter().all(|t| t.shape() == [1, high, side]));
            let tiles: Vec<_> = tiles.iter().map(values).collect();
            prop_assert_eq!(tiling.stitch(&tiles), values(&picture));
            for (edges, side) in [(&tiling.columns, side), (&tiling.rows, high)] {
                let shared = overlap.min(side / 2);
                prop_assert!(edges.windows(2).all(|pair| pair[0] + side >= pair[1] + shared));
            }
        }

        #[test]
        fn a_squashed_picture_comes_back_in_its_size(w in 1usize..90, h in 1usize..90) {
            let tiling = Tiling::new(Fit::Resize, [w, h], [16, 16], 0);
            let tiles = tiling.cut(&Picture::grey(&vec![77; w * h], w));
            let back = tiling.stitch(&[values(&tiles[0])]);
            prop_assert!(tiling.is_whole() && back.len() == w * h && back.iter().all(|v| (v - 77.0).abs() < 1e-9));
        }
    }

    #[test]
    fn whole_tiles_do_not_overlap_and_others_part_in_the_middle() {
        let tiling = Tiling::new(Fit::Tile, [256, 512], [128, 128], 0);
        assert_eq!((tiling.columns, tiling.rows), (vec![0, 128], vec![0, 128, 256, 384]));
        let tiling = Tiling::new(Fit::Tile, [256, 100], [128, 128], 16);
        assert_eq!((&tiling.columns[..], &tiling.rows[..]), (&[0, 64, 128][..], &[0][..]));
        let owner: Vec<usize> = owners(&tiling.columns, 256, 128).iter().map(|o| o.0).collect();
        assert_eq!((owner[95], owner[96], owner[159], owner[160]), (0, 1, 1, 2));
        let same = Tiling::new(Fit::Resize, [16, 16], [16, 16], 0);
        let picture = noise(16, 16);
        assert_eq!(same.stitch(&[values(&picture)]), values(&picture), "no interpolation where sizes agree");
    }

    #[test]
    fn tilings_that_do_not_cover_are_told_apart() {
        let whole = Tiling::new(Fit::Tile, [300, 200], [128, 128], 0);
        let broken: [fn(&mut Tiling); 8] = [
            |t| t.columns.clear(),
            |t| t.columns[0] = 1,
            |t| t.rows.push(500),
            |t| t.columns = vec![0, 172],
            |t| t.columns.reverse(),
            |t| t.picture[0] = 0,
            |t| t.picture = [usize::MAX, 2],
            |t| t.fit = Fit::Resize,
        ];
        for (i, change) in broken.iter().enumerate() {
            let mut tiling = whole.clone();
            change(&mut tiling);
            assert!(!tiling.is_whole(), "{i}: {tiling:?}");
        }
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Tiling>(&json).unwrap(), whole);
    }

    #[test]
    fn contrast_is_stretched_as_in_training() {
        // 1,000 pixels: two above the 99.8 % that 110 bounds, the smallest 10.
        let mut pixels = vec![10u8; 1000];
        pixels[1..500].fill(35);
        pixels[500..998].fill(110);
        pixels[998..].fill(250);
        let picture = Contrast::Stretch.apply(&Picture::grey(&pixels, 10));
        let [low, middle, high, above] = [0, 1, 500, 999].map(|i| picture.pixels()[i]);
        assert_eq!((low, middle, high, above), (0, 128, 255, 255), "sqrt(1/4) of 255, rounded half up");
        let flat = Contrast::Stretch.apply(&Picture::grey(&[9; 16], 4));
        assert_eq!(flat.pixels(), [0; 16]);
        assert_eq!(Contrast::Plain.apply(&picture), picture);
    }
}
