//! Rotate-and-sum over a grid of partial sums, in rounds of hoisted rotations.

/// `count` partial sums at multiples of `stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldAxis {
    /// Distance of two partial sums in slots.
    pub stride: usize,
    /// Number of partial sums.
    pub count: usize,
    /// Whether the sum must span exactly `count` (a closed cycle), or may also add zero slots behind it.
    pub exact: bool,
}

/// Offsets of the partial sums of one chain.
pub fn offsets(axes: &[FoldAxis], n: usize) -> Vec<usize> {
    axes.iter().fold(vec![0], |sums, axis| {
        (0..axis.count).flat_map(|k| sums.iter().map(move |s| (s + k * axis.stride) % n)).collect()
    })
}

fn factors(mut count: usize) -> Vec<usize> {
    let mut result = Vec::new();
    let mut prime = 2;
    while count > 1 {
        while count.is_multiple_of(prime) {
            result.push(prime);
            count /= prime;
        }
        prime += 1;
    }
    result
}

/// The spans worth trying for `count` partial sums: the count itself and 7-smooth numbers a little above.
fn spans(axis: &FoldAxis) -> Vec<usize> {
    let smooth = |count: usize| factors(count).iter().all(|&p| p <= 7);
    let mut spans = vec![axis.count];
    if !axis.exact {
        spans.extend(
            (axis.count + 1..=axis.count.next_power_of_two())
                .filter(|&c| smooth(c) && (4 * c <= 5 * axis.count || c.is_power_of_two())),
        );
    }
    spans
}

/// Largest number of slots added in one round.
const MAX_RADIX: usize = 32;

/// Cheapest grouping of consecutive factors into rounds: cost and group lengths.
fn group(factors: &[(usize, usize)], cost: &impl Fn(usize) -> f64) -> Option<(f64, Vec<usize>)> {
    let mut best: Vec<Option<(f64, usize)>> = vec![None; factors.len() + 1];
    best[0] = Some((0.0, 0));
    for end in 1..=factors.len() {
        let mut radix = 1;
        for start in (0..end).rev() {
            radix *= factors[start].0;
            if radix > MAX_RADIX {
                break;
            }
            if let Some((before, _)) = best[start] {
                let total = before + cost(radix - 1);
                if best[end].is_none_or(|(least, _)| total < least) {
                    best[end] = Some((total, start));
                }
            }
        }
    }
    let total = best[factors.len()]?.0;
    let mut lengths = Vec::new();
    let mut end = factors.len();
    while end > 0 {
        let start = best[end]?.1;
        lengths.push(end - start);
        end = start;
    }
    lengths.reverse();
    Some((total, lengths))
}

/// Plans the rounds; each is a list of distinct non-zero left rotations. `cost(steps)` prices a round.
/// With `padded` the sum may run over slots behind the last partial sum, which must then be zero.
/// Returns none when a count has a prime factor above the largest radix.
pub fn rounds(axes: &[FoldAxis], n: usize, padded: bool, cost: impl Fn(usize) -> f64) -> Option<Vec<Vec<u32>>> {
    let options: Vec<Vec<usize>> =
        axes.iter().map(|axis| if padded { spans(axis) } else { vec![axis.count] }).collect();
    let mut least = f64::INFINITY;
    let mut best = None;
    let combinations: usize = options.iter().map(Vec::len).product();
    for mut index in 0..combinations {
        let mut list = Vec::new();
        for (axis, spans) in axes.iter().zip(&options) {
            let mut stride = axis.stride;
            for factor in factors(spans[index % spans.len()]) {
                list.push((factor, stride));
                stride *= factor;
            }
            index /= spans.len();
        }
        if let Some((total, lengths)) = group(&list, &cost)
            && total < least
        {
            least = total;
            best = Some((list, lengths));
        }
    }
    let (list, lengths) = best?;
    let mut rest = list.as_slice();
    let mut rounds = Vec::new();
    for length in lengths {
        let (now, later) = rest.split_at(length);
        rest = later;
        let steps = now.iter().fold(vec![0usize], |sums, &(count, stride)| {
            (0..count).flat_map(|k| sums.iter().map(move |s| (s + k * stride) % n)).collect()
        });
        rounds.push(steps[1..].iter().map(|&s| s as u32).collect());
    }
    Some(rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(rounds: &[Vec<u32>]) -> Vec<u32> {
        let mut all = rounds.iter().fold(vec![0], |sums: Vec<u32>, steps| {
            sums.iter().flat_map(|s| std::iter::once(*s).chain(steps.iter().map(move |r| s + r))).collect()
        });
        all.sort_unstable();
        all
    }

    #[test]
    fn radix_follows_the_price() {
        let axis = FoldAxis { stride: 32, count: 64, exact: true };
        let hoisted = rounds(&[axis], 8192, true, |steps| 3.0 + steps as f64).unwrap();
        assert_eq!(hoisted, [vec![32, 64, 96], vec![128, 256, 384], vec![512, 1024, 1536]]);
        let single = rounds(&[axis], 8192, true, |steps| 0.1 + steps as f64).unwrap();
        assert_eq!(single.len(), 6);
        for plan in [hoisted, single] {
            assert_eq!(span(&plan), (0..64).map(|k| 32 * k).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn a_large_prime_is_padded_or_refused() {
        let axes = [FoldAxis { stride: 1, count: 43, exact: false }];
        assert!(rounds(&axes, 8192, false, |s| s as f64).is_none());
        let plan = rounds(&axes, 8192, true, |steps| 3.0 + steps as f64).unwrap();
        assert!(span(&plan).len() >= 43);
    }
}
