//! Baby-step giant-step split of a set of diagonals.

/// One diagonal: `diagonal = baby + giant mod n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Left rotation of the whole diagonal.
    pub diagonal: u32,
    /// Rotation before the product.
    pub baby: u32,
    /// Rotation after the product.
    pub giant: u32,
}

/// A split, sorted by `(giant, baby)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// The diagonals.
    pub steps: Vec<Step>,
    /// Distinct non-zero baby steps, ascending.
    pub babies: Vec<u32>,
    /// Distinct non-zero giant steps, ascending.
    pub giants: Vec<u32>,
}

impl Split {
    fn new(mut steps: Vec<Step>) -> Self {
        steps.sort_by_key(|step| (step.giant, step.baby));
        let distinct = |of: fn(&Step) -> u32| {
            let mut values: Vec<u32> = steps.iter().map(of).filter(|&v| v != 0).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let (babies, giants) = (distinct(|step| step.baby), distinct(|step| step.giant));
        Self { steps, babies, giants }
    }

    /// The same split of some of its diagonals, given in ascending order.
    pub fn restricted(&self, diagonals: &[u32]) -> Self {
        Self::new(self.steps.iter().filter(|s| diagonals.binary_search(&s.diagonal).is_ok()).copied().collect())
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// Counts distinct non-zero values mod `n` by stamping.
struct Distinct {
    stamp: Vec<u32>,
    round: u32,
}

impl Distinct {
    fn count(&mut self, values: impl Iterator<Item = usize>) -> usize {
        self.round += 1;
        let mut count = 0;
        for value in values {
            if value != 0 && self.stamp[value] != self.round {
                self.stamp[value] = self.round;
                count += 1;
            }
        }
        count
    }
}

fn build(diagonals: &[i64], n: usize, parts: impl Fn(i64) -> (i64, i64)) -> Split {
    let wrap = |value: i64| value.rem_euclid(n as i64) as u32;
    let steps = diagonals
        .iter()
        .map(|&d| {
            let (baby, giant) = parts(d);
            Step { diagonal: wrap(d), baby: wrap(baby), giant: wrap(giant) }
        })
        .collect();
    Split::new(steps)
}

/// Splits `diagonals` (left rotations below `n`, a power of two) so that `cost(babies, giants)`, a function of the
/// numbers of distinct non-zero steps, is least among the splits by a modulus.
pub fn split(diagonals: &[u32], n: usize, cost: impl Fn(usize, usize) -> f64) -> Split {
    let half = n as i64 / 2;
    let mut signed: Vec<i64> =
        diagonals.iter().map(|&d| if i64::from(d) >= half { i64::from(d) - n as i64 } else { i64::from(d) }).collect();
    signed.sort_unstable();
    if signed.len() < 2 {
        return build(&signed, n, |d| (d, 0));
    }
    let least = signed[0];
    let unit = signed.iter().fold(0, |g, &d| gcd(g, d - least)).max(1);
    let mut moduli: Vec<i64> = (0..).map(|j| unit << j).take_while(|&m| m <= n as i64).collect();
    if signed.len() <= 256 {
        moduli.extend((3..=signed.len().min(48) as i64).map(|k| unit * k));
    }
    moduli.push(2 * n as i64);
    // n is a power of two.
    let wrap = |value: i64| (value & (n as i64 - 1)) as usize;
    let mut small = Vec::new();
    let mut distinct = Distinct { stamp: vec![0; n], round: 0 };
    let mut best = (f64::INFINITY, 0, 0, false);
    for &modulus in &moduli {
        let centre = -(modulus / (2 * unit)) * unit;
        let mut origins = vec![0, centre, least, least.rem_euclid(unit)];
        origins.sort_unstable();
        origins.dedup();
        for &origin in &origins {
            small.clear();
            small.extend(signed.iter().map(|&d| (d - origin).rem_euclid(modulus) + origin));
            let low = distinct.count(small.iter().map(|&s| wrap(s)));
            let high = distinct.count(signed.iter().zip(&small).map(|(&d, &s)| wrap(d - s)));
            for (swapped, price) in [(false, cost(low, high)), (true, cost(high, low))] {
                if price < best.0 {
                    best = (price, modulus, origin, swapped);
                }
            }
        }
    }
    let (_, modulus, origin, swapped) = best;
    build(&signed, n, |d| {
        let small = (d - origin).rem_euclid(modulus) + origin;
        if swapped { (d - small, small) } else { (small, d - small) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(babies: usize, giants: usize) -> f64 {
        babies as f64 + 2.5 * giants as f64
    }

    fn check(diagonals: &[u32], n: usize) -> Split {
        let result = split(diagonals, n, price);
        let mut seen: Vec<u32> = result.steps.iter().map(|s| s.diagonal).collect();
        seen.sort_unstable();
        let mut expected = diagonals.to_vec();
        expected.sort_unstable();
        assert_eq!(seen, expected);
        for step in &result.steps {
            assert_eq!((step.baby + step.giant) as usize % n, step.diagonal as usize);
        }
        result
    }

    #[test]
    fn progression_is_balanced() {
        let diagonals: Vec<u32> = (0..25).collect();
        let result = check(&diagonals, 1024);
        assert_eq!((result.babies.len(), result.giants.len()), (8, 2));
    }

    #[test]
    fn taps_times_channels_factor() {
        let mut diagonals = Vec::new();
        for channel in 0..4u32 {
            for y in -1i32..=1 {
                for x in -1i32..=1 {
                    diagonals.push((channel * 256).wrapping_add_signed(y * 16 + x) & 1023);
                }
            }
        }
        let result = check(&diagonals, 1024);
        assert_eq!((result.babies.len(), result.giants.len()), (8, 3));
    }

    #[test]
    fn trivial_sets() {
        assert!(check(&[], 64).steps.is_empty());
        assert!(check(&[0], 64).babies.is_empty());
        assert_eq!(check(&[63], 64).babies, [63]);
    }
}
