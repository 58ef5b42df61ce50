//! Encoding of real vectors: N real slots to N integer coefficients and back, by one complex FFT.
//!
//! With xi = exp(2 pi i / 4N), slot j is the evaluation at xi^(5^j). The fold c_i = a_i - i a_(N-i) makes the
//! evaluations at all xi^(4k+1) a plain DFT: `a(xi^(4k+1)) = sum_i (c_i xi^i) exp(2 pi i k i / N)`. The inverse
//! transform gives c, whose real part is a.
//!
//! Reference: eprint 2018/952. The FFT is the textbook radix-2 one with twiddles from `libm`, so that the
//! same weights give the same program on every machine.

/// Encoder for one ring degree.
pub struct Encoder {
    log_n: u32,
    /// exp(2 pi i k / 4N) for k in 0..4N would do for all; kept for k in 0..N (twist) as (cos, sin).
    twist: Vec<(f64, f64)>,
    /// exp(2 pi i k / N) for k in 0..N/2.
    roots: Vec<(f64, f64)>,
    /// Position (5^j - 1)/4 of slot j.
    position: Vec<u32>,
}

impl Encoder {
    /// Tables for N = 2^`log_n`.
    pub fn new(log_n: u32) -> Self {
        let n = 1usize << log_n;
        let unit = |k: usize, order: usize| {
            let angle = 2.0 * core::f64::consts::PI * k as f64 / order as f64;
            (libm::cos(angle), libm::sin(angle))
        };
        let mut power = 1usize;
        let position = (0..n)
            .map(|_| {
                let k = (power - 1) / 4;
                power = power * 5 % (4 * n);
                k as u32
            })
            .collect();
        Self {
            log_n,
            twist: (0..n).map(|k| unit(k, 4 * n)).collect(),
            roots: (0..n / 2).map(|k| unit(k, n)).collect(),
            position,
        }
    }

    /// Number of slots N.
    pub fn slots(&self) -> usize {
        1 << self.log_n
    }

    /// In-place DFT with kernel exp(+ or - 2 pi i k j / N), decimation in time.
    fn fft(&self, data: &mut [(f64, f64)], inverse: bool) {
        let n = data.len();
        for i in 0..n {
            let j = i.reverse_bits() >> (usize::BITS - self.log_n);
            if i < j {
                data.swap(i, j);
            }
        }
        let mut half = 1;
        while half < n {
            let stride = n / (2 * half);
            for block in data.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), w) in low.iter_mut().zip(high).zip(self.roots.iter().step_by(stride)) {
                    let w = if inverse { (w.0, -w.1) } else { *w };
                    let t = (y.0 * w.0 - y.1 * w.1, y.0 * w.1 + y.1 * w.0);
                    let u = *x;
                    *x = (u.0 + t.0, u.1 + t.1);
                    *y = (u.0 - t.0, u.1 - t.1);
                }
            }
            half *= 2;
        }
    }

    /// Real coefficients whose slots are `values`. Shape: N to N; shorter input is padded with zeros.
    pub fn to_coefficients(&self, values: &[f64]) -> Vec<f64> {
        let n = self.slots();
        let mut data = vec![(0.0, 0.0); n];
        for (&value, &k) in values.iter().zip(&self.position) {
            data[k as usize] = (value, 0.0);
        }
        self.fft(&mut data, true);
        let scale = 1.0 / n as f64;
        data.iter().zip(&self.twist).map(|(d, w)| (d.0 * w.0 + d.1 * w.1) * scale).collect()
    }

    /// Slots of real coefficients. Shape: N to N.
    pub fn to_slots(&self, coefficients: &[f64]) -> Vec<f64> {
        let n = self.slots();
        let mut data: Vec<(f64, f64)> = (0..n)
            .map(|i| {
                let c = (coefficients[i], if i == 0 { 0.0 } else { -coefficients[n - i] });
                let w = self.twist[i];
                (c.0 * w.0 - c.1 * w.1, c.0 * w.1 + c.1 * w.0)
            })
            .collect();
        self.fft(&mut data, false);
        self.position.iter().map(|&k| data[k as usize].0).collect()
    }

    /// Integer coefficients of `values` at `scale`, rounded to nearest.
    ///
    /// # Errors
    /// [`EncodeError`] if a value is not finite or a coefficient does not fit 62 bits.
    pub fn encode(&self, values: &[f64], scale: f64) -> Result<Vec<i64>, EncodeError> {
        if let Some(slot) = values.iter().position(|v| !v.is_finite()) {
            return Err(EncodeError::NotFinite { slot });
        }
        self.to_coefficients(values)
            .into_iter()
            .map(|c| {
                let x = libm::rint(c * scale);
                if x.abs() < (1u64 << 62) as f64 { Ok(x as i64) } else { Err(EncodeError::TooLarge { scale }) }
            })
            .collect()
    }
}

/// Why values cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// A value is infinite or not a number.
    #[error("the value in slot {slot} is not a finite number")]
    NotFinite {
        /// The slot.
        slot: usize,
    },
    /// A value times the scale exceeds the integers.
    #[error("a value is too large for the scale {scale:e}")]
    TooLarge {
        /// The scale.
        scale: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots by the definition: a_0 + 2 sum a_i cos(pi i 5^j / 2N).
    fn by_definition(a: &[f64]) -> Vec<f64> {
        let n = a.len();
        let mut power = 1usize;
        (0..n)
            .map(|_| {
                let angle = |i: usize| core::f64::consts::PI * ((i * power) % (4 * n)) as f64 / (2 * n) as f64;
                let value = a[0] + 2.0 * (1..n).map(|i| a[i] * angle(i).cos()).sum::<f64>();
                power = power * 5 % (4 * n);
                value
            })
            .collect()
    }

    #[test]
    fn slots_match_the_definition() {
        let encoder = Encoder::new(7);
        let a: Vec<f64> = (0..128).map(|i| ((i * 37 % 101) as f64 - 50.0) / 7.0).collect();
        let slots = encoder.to_slots(&a);
        for (x, y) in slots.iter().zip(by_definition(&a)) {
            assert!((x - y).abs() < 1e-9);
        }
        for (x, y) in encoder.to_coefficients(&slots).iter().zip(&a) {
            assert!((x - y).abs() < 1e-10);
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let encoder = Encoder::new(11);
        assert_eq!(encoder.encode(&[f64::NAN], 1.0), Err(EncodeError::NotFinite { slot: 0 }));
        assert_eq!(encoder.encode(&[1e30], 1e9), Err(EncodeError::TooLarge { scale: 1e9 }));
    }
}
