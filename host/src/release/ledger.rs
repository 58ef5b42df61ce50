//! How many queries a key has answered, in a file beside it.
//!
//! The file is JSON with mode 0600. It is replaced at once or not at all, and a lock beside it makes processes take turns,
//! so that no two count the same query. A query is counted before its answer is shown. Who deletes the file, or copies
//! the key elsewhere, starts anew: the ledger guards against mistakes of the key holder, who could as well decrypt.

use super::{LEAST_STATISTICAL_BITS, Policy};
use crate::files::{hex, write_atomic};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why a query is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// There is no ledger yet, and nobody said how many queries it should allow.
    #[error("nothing was released under this key yet: declare how many queries it may answer")]
    Undeclared,
    /// The declared number is used up, or would be exceeded.
    #[error("the key has answered {used} of {queries} queries, and {asked} more are asked for")]
    Exhausted {
        /// Queries that were answered.
        used: u64,
        /// Queries that were declared.
        queries: u64,
        /// Queries asked for.
        asked: u64,
    },
    /// Another policy than the one that earlier releases followed.
    #[error(
        "{queries} queries at {statistical_bits} bits were declared for this key, which cannot be changed any more"
    )]
    Declared {
        /// Queries of the ledger.
        queries: u64,
        /// Statistical security of the ledger.
        statistical_bits: u32,
    },
    /// A policy that protects nothing.
    #[error("at least one query and {LEAST_STATISTICAL_BITS} to 128 bits of statistical security")]
    Policy,
    /// The ledger of another key.
    #[error("the ledger belongs to the key {0}")]
    OtherKey(String),
    /// Not a ledger.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system.
    #[error("{0}")]
    File(String),
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    key_id: String,
    statistical_bits: u32,
    queries: u64,
    used: u64,
}

/// The ledger of one key.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
    key_id: [u8; 16],
}

impl Ledger {
    /// The ledger beside the key file `key`: its name with `.queries` added.
    pub fn beside(key: &Path, key_id: [u8; 16]) -> Self {
        let mut name = key.as_os_str().to_owned();
        name.push(".queries");
        Self { path: name.into(), key_id }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counts `count` queries and returns the policy and the number of queries used, these included. The first call
    /// declares `queries`, and `bits` if not the default; later ones may repeat them.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing was counted.
    pub fn spend(&self, queries: Option<u64>, bits: Option<u32>, count: u64) -> Result<(Policy, u64), LedgerError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| LedgerError::File(format!("cannot {what}: {error}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let lock = self.path.with_added_extension("lock");
        let what = format!("lock {}", lock.display());
        // Released when it is dropped, or the process ends.
        let guard = options.open(&lock).map_err(|e| failed(&what, &e))?;
        guard.lock().map_err(|e| failed(&what, &e))?;

        let mut record = match self.read()? {
            Some(record) => record,
            None => {
                let queries = queries.ok_or(LedgerError::Undeclared)?;
                let statistical_bits = bits.unwrap_or(LEAST_STATISTICAL_BITS);
                if queries == 0 || !(LEAST_STATISTICAL_BITS..=128).contains(&statistical_bits) {
                    return Err(LedgerError::Policy);
                }
                Record { key_id: hex(&self.key_id), statistical_bits, queries, used: 0 }
            }
        };
        let Record { statistical_bits, queries: declared, used, .. } = record;
        if queries.is_some_and(|q| q != declared) || bits.is_some_and(|b| b != statistical_bits) {
            return Err(LedgerError::Declared { queries: declared, statistical_bits });
        }
        let exhausted = LedgerError::Exhausted { used, queries: declared, asked: count };
        record.used = used.checked_add(count).filter(|&used| used <= declared).ok_or(exhausted)?;
        let text = serde_json::to_vec(&record).map_err(|e| failed("write the ledger", &e))?;
        write_atomic(&self.path, &text, true).map_err(|e| LedgerError::File(format!("{e:#}")))?;
        // The new name has to survive a loss of power too, before the answer is shown.
        #[cfg(unix)]
        {
            let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let sync = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
            sync.map_err(|e| failed(&format!("sync {}", folder.display()), &e))?;
        }
        Ok((Policy { statistical_bits, queries: declared }, record.used))
    }

    fn read(&self) -> Result<Option<Record>, LedgerError> {
        let damaged = |why: String| LedgerError::Damaged { path: self.path.clone(), why };
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LedgerError::File(format!("cannot read {}: {error}", self.path.display()))),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if record.key_id != hex(&self.key_id) {
            return Err(LedgerError::OtherKey(record.key_id));
        }
        if record.queries == 0
            || record.used > record.queries
            || !(LEAST_STATISTICAL_BITS..=128).contains(&record.statistical_bits)
        {
            return Err(damaged("numbers that no ledger has".into()));
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(folder: &tempfile::TempDir) -> Ledger {
        Ledger::beside(&folder.path().join("secret.cls"), [7; 16])
    }

    #[test]
    fn counts_and_refuses() {
        let folder = tempfile::TempDir::new().unwrap();
        let ledger = ledger(&folder);
        assert!(ledger.path().ends_with("secret.cls.queries"));
        assert!(matches!(ledger.spend(None, None, 1), Err(LedgerError::Undeclared)));
        assert!(matches!(ledger.spend(Some(0), None, 1), Err(LedgerError::Policy)));
        assert!(matches!(ledger.spend(Some(5), Some(29), 1), Err(LedgerError::Policy)));
        assert!(!ledger.path().exists());
        let policy = Policy { statistical_bits: 40, queries: 5 };
        assert_eq!(ledger.spend(Some(5), Some(40), 1).unwrap(), (policy, 1));
        assert_eq!(ledger.spend(None, None, 3).unwrap(), (policy, 4));
        let before = std::fs::read(ledger.path()).unwrap();
        for (queries, bits) in [(Some(6), None), (Some(5), Some(30)), (None, Some(41))] {
            let error = ledger.spend(queries, bits, 1);
            assert!(matches!(error, Err(LedgerError::Declared { queries: 5, statistical_bits: 40 })));
        }
        for asked in [2, u64::MAX] {
            let error = ledger.spend(None, None, asked);
            assert!(matches!(error, Err(LedgerError::Exhausted { used: 4, queries: 5, .. })));
        }
        assert_eq!(std::fs::read(ledger.path()).unwrap(), before, "a refusal counts nothing");
        assert_eq!(ledger.spend(Some(5), Some(40), 1).unwrap().1, 5);
        assert!(matches!(ledger.spend(None, None, 1), Err(LedgerError::Exhausted { used: 5, asked: 1, .. })));
        #[cfg(unix)]
        for file in [ledger.path(), &ledger.path().with_added_extension("lock")] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_ledger_is_not_an_empty_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let ledger = ledger(&folder);
        ledger.spend(Some(5), None, 5).unwrap();
        let good = String::from_utf8(std::fs::read(ledger.path()).unwrap()).unwrap();
        for bad in [
            String::new(),
            good[..good.len() - 2].into(),
            good.replace("\"used\":5", "\"used\":6"),
            good.replace("\"used\":5", "\"used\":-1"),
            good.replace(":30", ":3"),
        ] {
            std::fs::write(ledger.path(), &bad).unwrap();
            assert!(matches!(ledger.spend(None, None, 1), Err(LedgerError::Damaged { .. })), "{bad}");
        }
        std::fs::write(ledger.path(), good).unwrap();
        let other = Ledger { key_id: [8; 16], ..ledger };
        assert!(matches!(other.spend(None, None, 1), Err(LedgerError::OtherKey(_))));
        std::fs::remove_file(other.path()).unwrap();
        std::fs::create_dir(other.path()).unwrap();
        assert!(matches!(other.spend(Some(9), None, 1), Err(LedgerError::File(_))));
    }

    /// Twelve at once for a budget of seven.
    #[test]
    fn concurrent_queries_are_all_counted() {
        let folder = tempfile::TempDir::new().unwrap();
        let ledger = ledger(&folder);
        let one = || ledger.spend(Some(7), None, 1).map(|(_, used)| used);
        let mut used: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(one)).collect();
            threads.into_iter().filter_map(|t| t.join().unwrap().ok()).collect()
        });
        used.sort_unstable();
        assert_eq!(used, [1, 2, 3, 4, 5, 6, 7]);
        assert!(matches!(one(), Err(LedgerError::Exhausted { used: 7, .. })));
    }
}
