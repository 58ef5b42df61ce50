//! Encoding of real vectors: N real slots to N integer coefficients and back, by one complex FFT of N/2 points.
//!
//! With xi = exp(2 pi i / 4N), slot j is the evaluation at xi^(5^j). The fold c_i = a_i - i a_(N-i) makes the
//! evaluations at all xi^(4k+1) a plain DFT: `a(xi^(4k+1)) = sum_i (c_i xi^i) exp(2 pi i k i / N)`. Its result z is
//! real, so even and odd z are real and imaginary parts of a DFT of M = N/2 points. With Y the inverse of that one,
//!
//! `N c_i = A_i Y_i + B_i conj(Y_(M-i))`, `Y_i = 2 (conj(A_i) c_i + B_(M-i) conj(c_(M-i)))`,
//! `B_i = e^(i rho) cos(phi)`, `A_i = i e^(i rho) sin(phi)`, `phi = pi i / N - pi/4`, `rho = pi/4 - 3 pi i / 2N`.
//!
//! Reference: eprint 2018/952; the DFT of real numbers by one of half the length and Stockham's FFT are textbook. Sums
//! and products stand in one order, without fused operations, and sines are `libm`'s: the same weights give the same
//! program on every machine.

use core::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_4, PI};
use std::array::from_fn;
use zeroize::Zeroizing;

/// Numbers that are computed side by side, in loops that become vector code.
const LANES: usize = 8;
type Lanes = [f64; LANES];

/// Some complex numbers.
#[derive(Clone, Copy)]
struct Complex {
    re: Lanes,
    im: Lanes,
}

impl Complex {
    /// Numbers `8 i ..`.
    #[inline(always)]
    fn load(from: &Halves<&[Lanes]>, i: usize) -> Self {
        Self { re: from.re[i], im: from.im[i] }
    }

    #[inline(always)]
    fn store(self, to: &mut Halves<&mut [Lanes]>, i: usize) {
        to.re[i] = self.re;
        to.im[i] = self.im;
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self { re: from_fn(|l| self.re[l] + b.re[l]), im: from_fn(|l| self.im[l] + b.im[l]) }
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self { re: from_fn(|l| self.re[l] - b.re[l]), im: from_fn(|l| self.im[l] - b.im[l]) }
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self {
            re: from_fn(|l| self.re[l] * b.re[l] - self.im[l] * b.im[l]),
            im: from_fn(|l| self.re[l] * b.im[l] + self.im[l] * b.re[l]),
        }
    }

    #[inline(always)]
    fn conjugate(self) -> Self {
        Self { re: self.re, im: self.im.map(|x| -x) }
    }

    /// `-i` times it.
    #[inline(always)]
    fn turned(self) -> Self {
        Self { re: self.im, im: self.re.map(|x| -x) }
    }
}

/// Real and imaginary parts.
struct Halves<T> {
    re: T,
    im: T,
}

impl<'a> Halves<&'a [Lanes]> {
    fn of(numbers: &'a [f64]) -> Self {
        let (re, im) = numbers.split_at(numbers.len() / 2);
        Self { re: re.as_chunks().0, im: im.as_chunks().0 }
    }

    /// Exchanged, which turns a DFT into its inverse.
    fn exchanged(self, exchange: bool) -> Self {
        if exchange { Self { re: self.im, im: self.re } } else { self }
    }

    /// Numbers `m - 8 i` downwards.
    #[inline(always)]
    fn mirrored(&self, m: usize, i: usize) -> Complex {
        let part = |x: &[Lanes]| {
            let end = m - LANES * i + 1;
            let x = &x.as_flattened()[end - LANES..end];
            from_fn(|l| x[LANES - 1 - l])
        };
        Complex { re: part(self.re), im: part(self.im) }
    }
}

impl<'a> Halves<&'a mut [Lanes]> {
    fn of_mut(numbers: &'a mut [f64]) -> Self {
        let (re, im) = numbers.split_at_mut(numbers.len() / 2);
        Self { re: re.as_chunks_mut().0, im: im.as_chunks_mut().0 }
    }

    fn exchanged(self, exchange: bool) -> Self {
        if exchange { Self { re: self.im, im: self.re } } else { self }
    }
}

/// Encoder for one ring degree.
///
/// Its arrays of complex numbers hold all real parts, then all imaginary ones, each with room for number M.
pub struct Encoder {
    log_n: u32,
    /// exp(-2 pi i k / M) for k in 0..M.
    roots: Vec<(f64, f64)>,
    /// Entry (i, j) of rows and columns: `roots[i j]`.
    twiddles: Vec<f64>,
    /// A and B of the module's documentation.
    straight: Vec<f64>,
    mirrored: Vec<f64>,
    /// Place of slot j, which is number (5^j - 1)/4 of z, in an array.
    place: Vec<u32>,
}

impl Encoder {
    /// Tables for N = 2^`log_n`.
    ///
    /// # Panics
    /// If N is below 128.
    pub fn new(log_n: u32) -> Self {
        assert!(log_n >= 7, "rows and columns have at least {LANES} numbers");
        let (n, m) = (1usize << log_n, 1usize << (log_n - 1));
        let polar = |radius: f64, angle: f64| (radius * libm::cos(angle), radius * libm::sin(angle));
        let roots: Vec<_> = (0..m).map(|k| polar(1.0, -2.0 * PI * k as f64 / m as f64)).collect();
        let array = |number: &dyn Fn(usize) -> (f64, f64)| {
            let mut numbers = vec![0.0; 2 * (m + LANES)];
            let (re, im) = numbers.split_at_mut(m + LANES);
            for (i, (re, im)) in re.iter_mut().zip(im).enumerate().take(m + 1) {
                (*re, *im) = number(i);
            }
            numbers
        };
        let columns = m >> ((log_n - 1) / 2);
        let phi = |i: usize| PI * i as f64 / n as f64 - FRAC_PI_4;
        let rho = |i: usize| FRAC_PI_4 - 1.5 * PI * i as f64 / n as f64;
        let mut power = 1usize;
        let place = |_| {
            let k = (power - 1) / 4;
            power = power * 5 % (4 * n);
            (k / 2 + k % 2 * (m + LANES)) as u32
        };
        Self {
            log_n,
            twiddles: array(&|i| if i < m { roots[i / columns * (i % columns)] } else { (0.0, 0.0) }),
            straight: array(&|i| polar(libm::sin(phi(i)), rho(i) + 2.0 * FRAC_PI_4)),
            mirrored: array(&|i| polar(libm::cos(phi(i)), rho(i))),
            roots,
            place: (0..n).map(place).collect(),
        }
    }

    /// Number of slots N.
    pub fn slots(&self) -> usize {
        1 << self.log_n
    }

    /// An array of M + 1 numbers.
    fn array(&self) -> Zeroizing<Vec<f64>> {
        Zeroizing::new(vec![0.0; self.slots() + 2 * LANES])
    }

    /// DFT of M numbers with kernel exp(+ or - 2 pi i k j / M), from `x` to the result, which is `x` or `y`.
    ///
    /// As a matrix of about as many rows as columns: down the columns, times the twiddles, down the columns of the
    /// transpose. So all loops run along rows.
    fn fft<'a>(&self, x: &'a mut [f64], y: &'a mut [f64], inverse: bool) -> &'a mut [f64] {
        let log_m = self.log_n - 1;
        let rows = 1usize << (log_m / 2);
        let (x, y) = self.fft_columns(x, y, rows, inverse);
        self.transpose(x, y, rows, inverse);
        self.fft_columns(y, x, (1 << log_m) / rows, inverse).0
    }

    /// DFTs down the columns of a matrix of `rows` rows: the array with the result, and the other one.
    fn fft_columns<'a>(
        &self,
        mut x: &'a mut [f64],
        mut y: &'a mut [f64],
        rows: usize,
        inverse: bool,
    ) -> (&'a mut [f64], &'a mut [f64]) {
        let m = self.slots() / 2;
        // What is left to do are DFTs of `length` elements of `run` vectors each.
        let mut length = rows;
        while length > 1 {
            let (run, step) = (m / LANES / length, m / length);
            let from = Halves::<&[_]>::of(x).exchanged(inverse);
            let mut to = Halves::<&mut [_]>::of_mut(y).exchanged(inverse);
            if length == 2 {
                for i in 0..run {
                    let (a, b) = (Complex::load(&from, i), Complex::load(&from, i + run));
                    a.add(b).store(&mut to, i);
                    a.sub(b).store(&mut to, i + run);
                }
                length = 1;
            } else {
                let quarter = length / 4;
                for p in 0..quarter {
                    let [w1, w2, w3] = [1, 2, 3].map(|k| {
                        let (re, im) = self.roots[k * p * step];
                        Complex { re: [re; LANES], im: [im; LANES] }
                    });
                    for i in 0..run {
                        let [a, b, c, d] = from_fn(|k| Complex::load(&from, run * (p + k * quarter) + i));
                        let (even, odd) = (a.add(c), b.add(d));
                        let (u, v) = (a.sub(c), b.sub(d).turned());
                        let out = run * 4 * p + i;
                        even.add(odd).store(&mut to, out);
                        u.add(v).mul(w1).store(&mut to, out + run);
                        even.sub(odd).mul(w2).store(&mut to, out + 2 * run);
                        u.sub(v).mul(w3).store(&mut to, out + 3 * run);
                    }
                }
                length = quarter;
            }
            std::mem::swap(&mut x, &mut y);
        }
        (x, y)
    }

    /// The transpose of a matrix of `rows` rows, times the twiddles.
    fn transpose(&self, x: &[f64], y: &mut [f64], rows: usize, inverse: bool) {
        let from = Halves::<&[_]>::of(x).exchanged(inverse);
        let mut to = Halves::<&mut [_]>::of_mut(y).exchanged(inverse);
        let twiddles = Halves::<&[_]>::of(&self.twiddles);
        let (high, wide) = (rows / LANES, self.slots() / 2 / rows / LANES);
        for i in 0..high {
            for j in 0..wide {
                let tile: [Complex; LANES] = from_fn(|k| {
                    let at = (LANES * i + k) * wide + j;
                    Complex::load(&from, at).mul(Complex::load(&twiddles, at))
                });
                for l in 0..LANES {
                    let row = Complex { re: from_fn(|k| tile[k].re[l]), im: from_fn(|k| tile[k].im[l]) };
                    row.store(&mut to, (LANES * j + l) * high + i);
                }
            }
        }
    }

    /// Real coefficients whose slots are `values`. Shape: N to N; shorter input is padded with zeros.
    pub fn to_coefficients(&self, values: &[f64]) -> Vec<f64> {
        let n = self.slots();
        let m = n / 2;
        let (mut x, mut y) = (self.array(), self.array());
        for (&value, &place) in values.iter().zip(&self.place) {
            x[place as usize] = value;
        }
        let z = self.fft(&mut x, &mut y, false);
        // Number M is number 0 again.
        (z[m], z[m + LANES + m]) = (z[0], z[m + LANES]);
        let middle = (z[0] - z[m + LANES]) * FRAC_1_SQRT_2;
        let (z, straight, mirrored) = (Halves::of(z), Halves::of(&self.straight), Halves::of(&self.mirrored));
        let scale = 1.0 / n as f64;
        let mut out = Vec::with_capacity(n + 1);
        out.resize(n + 1, 0.0);
        for i in 0..m / LANES {
            let c = Complex::load(&z, i).mul(Complex::load(&straight, i));
            let c = c.add(z.mirrored(m, i).conjugate().mul(Complex::load(&mirrored, i)));
            let (low, high) = (LANES * i, n - LANES * i + 1);
            out[low..low + LANES].copy_from_slice(&c.re.map(|x| x * scale));
            let back: Lanes = from_fn(|l| -c.im[LANES - 1 - l] * scale);
            out[high - LANES..high].copy_from_slice(&back);
        }
        out[m] = middle * scale;
        out.truncate(n);
        out
    }

    /// Slots of real coefficients. Shape: N to N.
    pub fn to_slots(&self, coefficients: &[f64]) -> Vec<f64> {
        let n = self.slots();
        let m = n / 2;
        let (mut x, mut y) = (self.array(), self.array());
        // c, and c_M last.
        let (re, im) = x.split_at_mut(m + LANES);
        re[..=m].copy_from_slice(&coefficients[..=m]);
        for (x, a) in im[1..=m].iter_mut().zip(coefficients[m..].iter().rev()) {
            *x = -a;
        }
        {
            let (c, straight, mirrored) = (Halves::of(&x), Halves::of(&self.straight), Halves::of(&self.mirrored));
            let mut to = Halves::of_mut(&mut y);
            for i in 0..m / LANES {
                let a = Complex::load(&c, i).mul(Complex::load(&straight, i).conjugate());
                let b = c.mirrored(m, i).conjugate().mul(mirrored.mirrored(m, i));
                let sum = a.add(b);
                sum.add(sum).store(&mut to, i);
            }
        }
        let z = self.fft(&mut y, &mut x, true);
        self.place.iter().map(|&place| z[place as usize]).collect()
    }

    /// Integer coefficients of `values` at `scale`, rounded to nearest.
    ///
    /// # Errors
    /// [`EncodeError`] if a value is not finite or a coefficient does not fit 62 bits.
    pub fn encode(&self, values: &[f64], scale: f64) -> Result<Vec<i64>, EncodeError> {
        if let Some(slot) = values.iter().position(|v| !v.is_finite()) {
            return Err(EncodeError::NotFinite { slot });
        }
        let coefficients = Zeroizing::new(self.to_coefficients(values));
        let mut fits = true;
        let rounded = coefficients.iter().map(|&c| {
            fits &= (c * scale).abs() < (1u64 << 62) as f64;
            round(c * scale)
        });
        let rounded = rounded.collect();
        if fits { Ok(rounded) } else { Err(EncodeError::TooLarge { scale }) }
    }
}

/// `x` rounded to nearest, ties to even, for `|x| < 2^62`; otherwise some number. No branch or call, so that loops become
/// vector code: adding 1.5 2^52 rounds a double below 2^51 and leaves it in the low bits.
#[inline(always)]
fn round(x: f64) -> i64 {
    const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;
    const HALF: f64 = (1u64 << 32) as f64;
    let integer = |shifted: f64| shifted.to_bits().wrapping_sub(ROUNDER.to_bits());
    let high = x * (1.0 / HALF) + ROUNDER;
    let low = x - (high - ROUNDER) * HALF;
    (integer(high) << 32).wrapping_add(integer(low + ROUNDER)) as i64
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
        for log_n in 7..=11 {
            let encoder = Encoder::new(log_n);
            let a: Vec<f64> = (0..1 << log_n).map(|i| ((i * 37 % 101) as f64 - 50.0) / 7.0).collect();
            let slots = encoder.to_slots(&a);
            for (x, y) in slots.iter().zip(by_definition(&a)) {
                assert!((x - y).abs() < 1e-8);
            }
            for (x, y) in encoder.to_coefficients(&slots).iter().zip(&a) {
                assert!((x - y).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn missing_slots_are_zero() {
        let encoder = Encoder::new(8);
        let mut values = vec![0.0; 256];
        values[..3].copy_from_slice(&[1.5, -2.0, 0.25]);
        assert_eq!(encoder.to_coefficients(&values[..3]), encoder.to_coefficients(&values));
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let mut x = 0.3f64;
        let exact: Vec<f64> = vec![0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 4_294_967_295.5, 2_147_483_648.5, 6_442_450_944.5];
        let spread = (0..4000).map(|i| {
            x = (x * 1.37 + 0.11) % 1.0;
            (x - 0.5) * libm::exp2(f64::from(i % 62) + 0.9)
        });
        for x in exact.into_iter().chain(spread).chain([((1u64 << 62) - 512) as f64]) {
            for x in [x, -x] {
                assert_eq!(round(x), libm::rint(x) as i64, "{x}");
            }
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let encoder = Encoder::new(11);
        assert_eq!(encoder.encode(&[f64::NAN], 1.0), Err(EncodeError::NotFinite { slot: 0 }));
        assert_eq!(encoder.encode(&[1e30], 1e9), Err(EncodeError::TooLarge { scale: 1e9 }));
    }
}
