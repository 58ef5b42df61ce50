//! Declutter: the layers of a model become the fewest polynomial stages.
//!
//! Every layer is first written as an affine map or a product. Then
//! 1. scalings, shifts, permutations, pads, selections and concatenations join the maps next to them,
//! 2. quadratic activations are brought to `a x^2 + b x + c` and the square is completed:
//!    `a (x + b/2a)^2 + (c - b^2/4a)`, so that one square remains between two affine maps,
//! 3. neighbouring affine maps are multiplied where the caller has priced that, else where [`worth_merging`] says so,
//! 4. the factor of an average that stays a stage of its own moves into the next weights.

use super::graph::{Network, TensorId};
use super::import::ModelGraph;
use draft::Draft;

pub use activations::MAX_SHIFT;
pub use merge::worth_merging;

mod activations;
mod averages;
mod draft;
mod geometry;
mod layers;
mod matrices;
mod merge;
#[cfg(test)]
mod tests;

/// The most entries that one matrix of the network may have.
pub const MAX_NONZEROS: usize = 1 << 28;

/// Why a model was not decluttered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclutterError {
    /// A layer's matrix has too many entries.
    #[error(
        "layer {layer:?} needs a matrix of {nonzeros} entries, more than {MAX_NONZEROS}; use fewer channels, a smaller input or more groups"
    )]
    TooLarge {
        /// The layer.
        layer: String,
        /// The entries it needs.
        nonzeros: usize,
    },
    /// Folding constants overflowed.
    #[error("folding constants into layer {layer:?} overflows; check its weights and its batch normalisation")]
    NotFinite {
        /// The layer.
        layer: String,
    },
}

/// A model in stages whose neighbouring affine maps are not multiplied yet.
pub struct Stages {
    name: String,
    draft: Draft,
}

impl Stages {
    /// Brings a model into polynomial stages that compute the same function.
    ///
    /// # Errors
    /// Names the layer whose matrix is too large.
    pub fn new(model: &ModelGraph) -> Result<Self, DeclutterError> {
        let mut draft = Draft {
            tensors: model.tensors.clone(),
            inputs: model.inputs.clone(),
            outputs: model.outputs.clone(),
            stages: Vec::new(),
        };
        for node in &model.nodes {
            draft.lower(node)?;
        }
        draft.absorb();
        draft.unify_polynomials();
        draft.absorb();
        draft.complete_squares();
        draft.absorb();
        Ok(Self { name: model.name.clone(), draft })
    }

    /// The tensors between two affine maps that may become one.
    pub fn seams(&self) -> Vec<TensorId> {
        self.draft.seams()
    }

    /// The layers on both sides of a seam.
    pub fn layers(&self, seam: TensorId) -> String {
        let name = |stage: Option<&draft::DraftStage>| stage.map_or("", |s| s.name.as_str()).to_owned();
        let stages = &self.draft.stages;
        let (before, after) = (stages.iter().find(|s| s.output == seam), stages.iter().find(|s| s.reads(seam)));
        format!("{} + {}", name(before), name(after))
    }

    /// The seams that close by the rule of [`worth_merging`].
    pub fn usual(&self) -> Vec<TensorId> {
        self.draft.clone().merge_maps()
    }

    /// The network with these seams closed.
    ///
    /// # Errors
    /// Names the layer whose folded weights overflow.
    pub fn merged(&self, seams: &[TensorId]) -> Result<Network, DeclutterError> {
        let mut draft = self.draft.clone();
        for &seam in seams {
            draft.merge_at(seam);
        }
        draft.move_averages();
        draft.finish(self.name.clone())
    }
}

/// Brings a model into polynomial stages, merged by the rule of [`worth_merging`].
///
/// # Errors
/// Names the layer whose matrix is too large or whose folded weights overflow.
pub fn declutter(model: &ModelGraph) -> Result<Network, DeclutterError> {
    let mut stages = Stages::new(model)?;
    stages.draft.merge_maps();
    stages.draft.move_averages();
    stages.draft.finish(stages.name)
}
