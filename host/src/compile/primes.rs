//! Primes of a ring by size.

use cipherlens_kernel::math::is_prime;

/// Largest size, in half bits: primes are below 2^30.
pub const MOST: u32 = 60;

/// The largest primes that are 1 modulo 4N below each power of the square root of two.
#[derive(Debug, Clone)]
pub struct Primes {
    log_n: u32,
    below: Vec<Vec<u32>>,
}

impl Primes {
    /// As many primes of each size as a set of `count` primes can need.
    pub fn new(log_n: u32, count: usize) -> Self {
        let step = 4u32 << log_n;
        let below = (0..=MOST).map(|half_bits| {
            // 2^(half_bits / 2), rounded down, in integers.
            let bound = (1u64 << half_bits).isqrt() as u32;
            let last = bound / step * step + 1;
            let candidates = (0..last / step).map(|k| last - k * step).filter(|&c| c < bound.max(2));
            candidates.filter(|&c| is_prime(c)).take(count).collect()
        });
        Self { log_n, below: below.collect() }
    }

    /// log2 of the ring degree.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// Distinct primes of these sizes in half bits, each the largest that those before it left; none where the
    /// ring has too few.
    pub fn pick(&self, sizes: impl Iterator<Item = u32>) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        for size in sizes {
            let prime = self.below.get(size as usize)?.iter().find(|p| !taken.contains(*p))?;
            taken.push(*prime);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_largest_distinct_primes() {
        let primes = Primes::new(13, 4);
        let picked = primes.pick([52, 52, 60, 53].into_iter()).unwrap();
        assert_eq!(picked[..2], [67_043_329, 66_813_953]);
        assert!(picked[2] < 1 << 30 && picked[2] > (1 << 30) - (1 << 22));
        assert!((67_043_330..94_906_266).contains(&picked[3]));
        assert!(picked.iter().all(|p| p % (1 << 15) == 1 && is_prime(*p)));
        assert_eq!(primes.pick([61].into_iter()), None, "no prime of 2^30.5");
        assert_eq!(primes.pick([30].into_iter()), None, "none that small");
        assert_eq!(primes.pick([52; 5].into_iter()), None, "asked for four");
    }
}
