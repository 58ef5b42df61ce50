//! Opening files so that every error names the file.

use super::context::Context;
use super::error::{Code, Failure};
use super::passphrase;
use anyhow::{Context as _, Result};
use cipherlens::client::ClientError;
use cipherlens::files::{FileError, hex};
use cipherlens::keys::{PublicKey, SecretKey, sealed};
use cipherlens_kernel::params::ParamSet;
use cipherlens_kernel::program::Program;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unreadable(path, &error).into())
}

/// The failure to read a file.
pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::BadFile, format!("cannot read {}: {error}", path.display()))
}

/// The verified program in the bytes of `path`.
pub fn program<'b>(path: &Path, bytes: &'b [u8]) -> Result<Program<'b>> {
    Program::verify(bytes).with_context(|| path.display().to_string())
}

/// The bytes of a secret-key file, opened with the passphrase where it has one.
pub fn secret_bytes(path: &Path, context: &Context) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(read(path)?);
    if !sealed::is_sealed(&bytes) {
        return Ok(bytes);
    }
    let passphrase = passphrase::ask(&path.display().to_string(), false, context)?;
    sealed::open(&bytes, passphrase.as_bytes()).with_context(|| path.display().to_string())
}

/// The secret key in `path`; `set` is the program's.
pub fn secret_key(path: &Path, set: &ParamSet, context: &Context) -> Result<SecretKey> {
    let bytes = secret_bytes(path, context)?;
    let key = of_set(SecretKey::from_bytes(&bytes, Some(set)), path, set)?;
    warn_if_others_may_read(path, "secret key", context);
    Ok(key)
}

/// A remark where a secret file has a mode that lets others read it.
pub fn warn_if_others_may_read(path: &Path, what: &str, context: &Context) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
        if mode & 0o077 != 0 {
            let path = path.display();
            context.warn(&format!("others may read the {what} {path}; run: chmod 600 {path}"));
        }
    }
}

/// Makes a folder for keys.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| {
        let message = format!("cannot make the folder {}: {error}", path.display());
        Failure::new(Code::CannotWrite, message).hint("name another folder with --out").into()
    })
}

/// The public key in `path`; `set` is the program's.
pub fn public_key(path: &Path, set: &ParamSet) -> Result<PublicKey> {
    of_set(PublicKey::from_bytes(&read(path)?, Some(set)), path, set)
}

/// A set that is neither named nor the program's is another one.
fn of_set<K>(key: Result<K, FileError>, path: &Path, set: &ParamSet) -> Result<K> {
    let key = key.map_err(|error| match error {
        FileError::UnknownSet(other) => {
            anyhow::Error::new(ClientError::KeySet { key: hex(&other), program: set.name().into() })
        }
        error => error.into(),
    });
    key.with_context(|| path.display().to_string())
}

/// Names for `count` files: `path` itself for one, else `name.0.ext`, `name.1.ext`, ...
pub fn numbered(path: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.into()];
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    (0..count).map(|i| path.with_file_name(format!("{stem}.{i}{extension}"))).collect()
}

/// The ciphertexts that `paths` name, folders standing for the .clx files in them by their numbers: `in.2.clx` comes before
/// `in.10.clx`.
///
/// # Errors
/// A folder that cannot be read or holds none.
pub fn ciphertexts(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| unreadable(path, &error))?;
        let files = entries.iter().map(std::fs::DirEntry::path);
        let mut inside: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|e| e == "clx")).collect();
        if inside.is_empty() {
            return Err(Failure::new(Code::BadFile, format!("{} holds no ciphertext (.clx)", path.display())).into());
        }
        inside.sort_by_cached_key(|file| in_order(&file.file_name().unwrap_or_default().to_string_lossy()));
        found.append(&mut inside);
    }
    Ok(found)
}

/// A name as words and numbers, which orders as people count.
fn in_order(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(word);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, next) = after.split_at(digits);
        parts.push((text.into(), number.parse().unwrap_or(0)));
        rest = next;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_are_numbered_before_the_extension() {
        assert_eq!(numbered(Path::new("a/in.clx"), 1), [Path::new("a/in.clx")]);
        assert_eq!(numbered(Path::new("a/in.clx"), 2), [Path::new("a/in.0.clx"), Path::new("a/in.1.clx")]);
        assert_eq!(numbered(Path::new("in"), 2), [Path::new("in.0"), Path::new("in.1")]);
    }

    #[test]
    fn files_of_a_folder_are_ordered_by_their_numbers() {
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["in.10.1.clx", "in.2.0.clx", "in.10.0.clx", "in.tiles.json", "in.2.1.clx"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = ciphertexts(&[folder.path().into(), "other.clx".into()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
        assert_eq!(names, ["in.2.0.clx", "in.2.1.clx", "in.10.0.clx", "in.10.1.clx", "other.clx"]);
        std::fs::create_dir(folder.path().join("none")).unwrap();
        assert!(ciphertexts(&[folder.path().join("none")]).is_err());
    }
}
