//! Data sets: where they lie, and images with labels read from them.
//!
//! The embedded drawn digits need no data folder. Everything else is read from the folder that `--data`
//! names, else `CIPHERLENS_DATA`, else `../shared/data`.

mod digits;
mod idx;

pub use digits::{Digits, calibration_images};
pub use idx::{Idx, IdxError};

use std::path::{Path, PathBuf};

/// Environment variable that names the data folder.
pub const DATA_VARIABLE: &str = "CIPHERLENS_DATA";
/// The data folder where neither an option nor the variable names one.
pub const DEFAULT_DATA: &str = "../shared/data";

/// Why a data set cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A folder or file of the data set is not there.
    #[error("no {what} at {}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file is there and is not what it should be.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdxError,
    },
    /// Images and labels do not belong together, or images have an unexpected shape.
    #[error("{}: {reason}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// The data folder: `option`, else the variable, else the default. It need not exist.
pub fn data_folder(option: Option<&Path>) -> PathBuf {
    resolve(option, std::env::var_os(DATA_VARIABLE).map(PathBuf::from))
}

fn resolve(option: Option<&Path>, variable: Option<PathBuf>) -> PathBuf {
    option
        .map(Path::to_path_buf)
        .or_else(|| variable.filter(|v| !v.as_os_str().is_empty()))
        .unwrap_or_else(|| DEFAULT_DATA.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_variable_and_that_over_the_default() {
        assert_eq!(resolve(Some(Path::new("a")), Some("b".into())), Path::new("a"));
        assert_eq!(resolve(None, Some("b".into())), Path::new("b"));
        assert_eq!(resolve(None, Some("".into())), Path::new(DEFAULT_DATA));
        assert_eq!(resolve(None, None), Path::new(DEFAULT_DATA));
    }
}
