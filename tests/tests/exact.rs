//! Layers on exact integers under TFHE against the integer reference and against ours.

use cipherlens::compile::CompileOptions;
use cipherlens::crosscheck::{Ladder, exact};
use cipherlens::models::by_name;
use cipherlens_tests::fixtures::digits;

#[test]
fn convolution_dense_layers_and_a_square_are_exact() {
    let digits = digits().images;
    let model = by_name("mnist").unwrap().graph();
    let calibration = digits.iter().take(64).cloned().collect();
    let ladder = Ladder::new(&model, &CompileOptions { calibration, ..Default::default() }).unwrap();
    let found = exact::run(&ladder, &digits[7]).unwrap();
    for layer in &found {
        println!("{}", layer.text());
        assert!(layer.holds(), "{}", layer.text());
    }
    // The convolution, both dense layers, and the small one.
    assert_eq!(found.iter().map(|l| l.elements).collect::<Vec<_>>(), [8 * 13 * 13, 100, 10, 1]);
}
