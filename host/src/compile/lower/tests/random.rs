//! Programs of random networks.

use proptest::prelude::*;

use super::networks::{Builder, Random};
use super::{LowerOptions, Network, agrees};

/// A chain of random layers on a small image.
fn random_network(seed: u64) -> Network {
    let mut random = Random(seed | 1);
    for _ in 0..4 {
        random.next();
    }
    let side = 4 + random.below(5);
    let mut b = Builder::new("random", &[1 + random.below(3), side, side], random.next());
    for _ in 0..1 + random.below(4) {
        let shape = b.network.tensors[b.last()].shape.clone();
        let image = shape.len() == 3;
        match random.below(6) {
            0 | 1 if image && shape[1] >= 3 => {
                let (stride, pad) = (1 + random.below(2), random.below(2));
                let out = (shape[1] + 2 * pad - 3) / stride + 1;
                if random.below(4) == 0 {
                    b.conv(shape[0], 3, stride, pad, out, shape[0]);
                } else {
                    b.conv(1 + random.below(4), 3, stride, pad, out, 1);
                }
            }
            2 if image && shape[1] >= 2 => {
                b.pool(2);
            }
            3 => {
                b.dense(1 + random.below(20));
            }
            4 => {
                let input = b.last();
                let len = shape.iter().product::<usize>();
                let rows = (0..len).map(|r| vec![(r as u32, random.value())]).collect();
                let scale = b.term(input, rows, None);
                let turned = (0..len).map(|r| vec![(((r + 1) % len) as u32, random.value())]).collect();
                let turn = b.term(input, turned, None);
                b.affine("mix", shape, vec![scale, turn]);
            }
            _ => {
                b.square();
            }
        }
    }
    b.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_networks_agree(seed in any::<u64>(), precise in any::<bool>()) {
        let network = random_network(seed);
        agrees(&network, &LowerOptions { precise, ..LowerOptions::new(512, 2, 2) });
    }

    #[test]
    fn random_sparse_stages_agree(seed in any::<u64>(), rows in 1usize..64, cols in 1usize..64, density in 1usize..100) {
        let mut b = Builder::new("sparse", &[cols], seed);
        for (input, rows) in [(0, rows), (1, cols)] {
            let cols = b.network.tensors[input].len();
            let matrix = (0..rows)
                .map(|_| {
                    let chosen: Vec<u32> = (0..cols as u32).filter(|_| b.random.below(100) < density).collect();
                    chosen.into_iter().map(|c| (c, b.random.value())).collect()
                })
                .collect();
            let term = b.term(input, matrix, None);
            b.affine("sparse", vec![rows], vec![term]);
        }
        agrees(&b.finish(), &LowerOptions::new(64, 2, 1));
    }
}
