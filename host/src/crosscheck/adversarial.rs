//! Worst inputs: images within the range of pixels that bring the output's error, or a layer's values, as high as a
//! search without gradients gets them.

use super::normal::Normal;
use super::report::{Adversarial, Report};
use super::{CrosscheckError, Ladder};
use serde::Serialize;

/// What a search drives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Root mean square of the output's error, noisy against simulated.
    Error,
    /// Least head-room of all layers.
    Range,
}

/// How long to search.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// First inputs of each search: the images, plain and random ones.
    pub restarts: usize,
    /// Changes that are tried on each.
    pub moves: usize,
    /// What the random choices depend on.
    pub seed: u64,
}

impl Default for Search {
    fn default() -> Self {
        Self { restarts: 6, moves: 40, seed: 1 }
    }
}

/// The worst input that a search found.
#[derive(Debug, Clone)]
pub struct Worst {
    /// Its values, each 0 to 1.
    pub image: Vec<f32>,
    /// The goal's figure.
    pub figure: f64,
}

/// Seeds of the noise that an error is measured with: the same for every input, so that they can be compared.
const DRAWS: u64 = 2;

impl Ladder<'_> {
    /// Root mean square of the output's error on the noisy rung.
    pub fn output_error(&self, image: &[f32]) -> f64 {
        let (simulated, mut squares, mut count) = (self.simulated(image), 0.0, 0.0);
        for seed in 0..DRAWS {
            let noisy = self.noisy(image, seed);
            for output in &self.compiled.lowered.program.outputs {
                for &slot in &output.slot {
                    let error = noisy[output.register][slot as usize] - simulated[output.register][slot as usize];
                    squares += error * error;
                    count += 1.0;
                }
            }
        }
        (squares / f64::max(count, 1.0)).sqrt()
    }

    /// Least head-room of all registers, in bits, and the layer it is in.
    pub fn least_headroom(&self, image: &[f32]) -> (f64, &str) {
        let registers = self.simulated(image);
        let ops = self.compiled.lowered.program.ops.iter();
        let each = ops.flat_map(|op| op.results.iter().map(move |&r| (r, op.layer.as_str())));
        each.map(|(r, layer)| (self.room.headroom(r, &registers[r], &self.encoder), layer))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((f64::INFINITY, ""))
    }

    fn figure(&self, image: &[f32], goal: Goal) -> f64 {
        match goal {
            Goal::Error => self.output_error(image),
            Goal::Range => -self.least_headroom(image).0,
        }
    }

    /// Searches from the images, plain and random inputs: rectangles of one colour, turned over or noise are put in,
    /// and kept where the figure grows.
    pub fn worst(&self, images: &[Vec<f32>], shape: &[usize], goal: Goal, search: &Search) -> Option<Worst> {
        let len = images.first()?.len();
        let mut normal = Normal::new(search.seed);
        let mut worst: Option<Worst> = None;
        for restart in 0..search.restarts {
            let mut image: Vec<f32> = match restart {
                0 => vec![1.0; len],
                1 => vec![0.0; len],
                r if r % 2 == 0 => images[(r / 2) % images.len()].clone(),
                _ => (0..len).map(|_| normal.uniform() as f32).collect(),
            };
            let mut figure = self.figure(&image, goal);
            for _ in 0..search.moves {
                let mut other = image.clone();
                change(&mut other, shape, &mut normal);
                let found = self.figure(&other, goal);
                if found > figure {
                    (image, figure) = (other, found);
                }
            }
            if worst.as_ref().is_none_or(|w| figure > w.figure) {
                worst = Some(Worst { image, figure });
            }
        }
        worst
    }

    /// Searches for both goals and takes what is found through the ladder.
    ///
    /// # Errors
    /// As [`Ladder::run`].
    pub fn adversarial(
        &self,
        images: &[Vec<f32>],
        shape: &[usize],
        search: &Search,
    ) -> Result<Option<Adversarial>, CrosscheckError> {
        let both = [Goal::Error, Goal::Range].map(|goal| self.worst(images, shape, goal, search));
        let [Some(error), Some(range)] = both else { return Ok(None) };
        let mean = |of: &dyn Fn(&[f32]) -> f64| images.iter().map(|i| of(i)).sum::<f64>() / images.len() as f64;
        let ladder: Report = self.run(&[error.image.clone(), range.image.clone()], |_| ())?;
        Ok(Some(Adversarial {
            tried: 2 * search.restarts * (search.moves + 1),
            mean_error: mean(&|image| self.output_error(image)),
            worst_error: error.figure,
            mean_headroom_bits: mean(&|image| self.least_headroom(image).0),
            worst_headroom_bits: -range.figure,
            worst_layer: self.least_headroom(&range.image).1.to_owned(),
            ladder: Box::new(ladder),
        }))
    }
}

/// Changes a random rectangle of one channel or of all.
fn change(image: &mut [f32], shape: &[usize], normal: &mut Normal) {
    let [channels, height, width] = match *shape {
        [c, h, w] => [c, h, w],
        _ => [1, 1, image.len()],
    };
    let only = normal.below(channels + 1);
    let span = |normal: &mut Normal, of: usize| {
        let len = 1 + normal.below(of);
        let first = normal.below(of - len + 1);
        first..first + len
    };
    let (rows, columns, way) = (span(normal, height), span(normal, width), normal.below(4));
    let colour = normal.uniform() as f32;
    for c in (0..channels).filter(|&c| only == channels || only == c) {
        for y in rows.clone() {
            for pixel in &mut image[(c * height + y) * width..][columns.clone()] {
                *pixel = match way {
                    0 => colour,
                    1 => colour.round(),
                    2 => 1.0 - *pixel,
                    _ => normal.uniform().round() as f32,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_stay_within_the_range_of_pixels() {
        let mut normal = Normal::new(3);
        let mut image = vec![0.25f32; 3 * 8 * 6];
        for _ in 0..500 {
            change(&mut image, &[3, 8, 6], &mut normal);
            assert!(image.iter().all(|p| (0.0..=1.0).contains(p)));
        }
        assert!(image.iter().any(|&p| p != 0.25));
        change(&mut [0.0; 5], &[5], &mut normal);
    }
}
