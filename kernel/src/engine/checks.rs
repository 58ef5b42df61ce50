//! What every engine checks of the memory and keys that it is given.

use super::EngineError;
use crate::keys::{KeyError, KeyRequest, KeySource};
use crate::params::ParamSet;

/// The memory in words.
pub(crate) fn words_of(bytes: &mut [u8]) -> Result<&mut [u32], EngineError> {
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| EngineError::Misaligned)
}

/// Whether the keys are for the set and hold the manifest.
pub(crate) fn check_keys<K: KeySource>(
    keys: &K,
    set: &ParamSet,
    mut manifest: impl Iterator<Item = KeyRequest>,
) -> Result<(), EngineError> {
    if keys.set() != set.fingerprint() {
        return Err(EngineError::KeySet);
    }
    match manifest.find(|request| keys.find(request.kind, request.limbs).is_none()) {
        Some(KeyRequest { kind, limbs }) => Err(KeyError::Missing { kind, limbs }.into()),
        None => Ok(()),
    }
}
