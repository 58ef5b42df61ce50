//! Memory for the ciphertexts of a batch.

use memmap2::MmapMut;

/// Zeroed memory of `bytes` bytes, in large pages where the system has them: a linear layer reads from hundreds of places
/// at a time, more than small pages have translations for.
///
/// # Errors
/// If the system has not that much.
pub fn memory(bytes: usize) -> std::io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes.max(1))?;
    // Without them it is only slower.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}
