//! Errors as people and scripts see them: `error: what: why`, a hint, and a stable exit code.

use cipherlens::clear::EvaluateError;
use cipherlens::client::ClientError;
use cipherlens::compile::CompileError;
use cipherlens::compile::emit::EmitError;
use cipherlens::compile::import::ImportError;
use cipherlens::datasets::DataError;
use cipherlens::decrypt::DecryptError;
use cipherlens::encode::EncodeError;
use cipherlens::files::FileError;
use cipherlens::keys::sealed::SealError;
use cipherlens_kernel::engine::EngineError;
use cipherlens_kernel::keys::KeyError;
use cipherlens_kernel::program::ProgramError;
use cipherlens_kernel::wire::WireError;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

/// Exit codes, as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failure without a code of its own
  2  wrong usage: unknown option, model name or index
  3  an input file is missing, damaged, of the wrong kind or shape
  4  key, parameter set, program and ciphertext do not belong together
  5  the model is not supported, or a budget is too small for it
  6  a data set is missing
  7  the output cannot be written";

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Anything without a code of its own.
    Failure = 1,
    /// Arguments.
    Usage = 2,
    /// Input files.
    BadFile = 3,
    /// Things that do not belong together.
    Mismatch = 4,
    /// Model or budget.
    Unsupported = 5,
    /// Data sets.
    MissingData = 6,
    /// Outputs.
    CannotWrite = 7,
}

/// An error of the command itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// An error with its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Prints an error on standard error and gives its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let (code, hint) = classify(error);
    let (red, green) = (anstyle::AnsiColor::Red.on_default().bold(), anstyle::AnsiColor::Green.on_default());
    let mut stderr = anstream::stderr();
    // Nothing is left to do where even this fails.
    let _ = writeln!(stderr, "{red}error{red:#}: {}", message(error));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "{green}hint{green:#}: {hint}");
    }
    ExitCode::from(code as u8)
}

/// The chain of causes, without those that the message before already tells.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

type Verdict = (Code, Option<String>);

fn verdict(code: Code, hint: &str) -> Verdict {
    (code, (!hint.is_empty()).then(|| hint.into()))
}

/// Code and hint of the outermost error in the chain that has them.
fn classify(error: &anyhow::Error) -> Verdict {
    error.chain().find_map(of).unwrap_or((Code::Failure, None))
}

fn of(error: &(dyn Error + 'static)) -> Option<Verdict> {
    macro_rules! cases {
        ($($kind:ty => $handle:expr),* $(,)?) => {
            $(if let Some(e) = error.downcast_ref::<$kind>() { return Some($handle(e)); })*
        };
    }
    cases! {
        Failure => |e: &Failure| (e.code, e.hint.clone()),
        WireError => wire,
        FileError => file,
        SealError => seal,
        ProgramError => program,
        KeyError => key,
        EngineError => engine,
        DecryptError => decrypt,
        ClientError => client,
        CompileError => compile,
        ImportError => import,
        EncodeError => |_: &EncodeError| verdict(Code::BadFile, "image values lie between 0 and 1"),
        EvaluateError => |_: &EvaluateError| verdict(Code::Unsupported, ""),
        DataError => data,
    }
    None
}

fn wire(error: &WireError) -> Verdict {
    match error {
        WireError::Set => verdict(Code::Mismatch, "`cipherlens inspect FILE` shows the parameter set of each file"),
        WireError::Magic => verdict(Code::BadFile, "Cipherlens files end in .clp, .clk, .clx, .clc, .cls or .clu"),
        WireError::Kind { .. } => verdict(Code::BadFile, "`cipherlens inspect FILE` says what a file is"),
        WireError::Version { .. } => verdict(Code::BadFile, "make the file again with this release"),
        _ => verdict(Code::BadFile, "the file was damaged or cut after it was written: copy it or make it again"),
    }
}

fn file(error: &FileError) -> Verdict {
    match error {
        FileError::Wire(error) => wire(error),
        _ => verdict(Code::Mismatch, ""),
    }
}

fn seal(error: &SealError) -> Verdict {
    match error {
        SealError::File(error) => file(error),
        SealError::Passphrase => verdict(Code::Mismatch, "there is no way to the key without its passphrase"),
        SealError::Memory(_) => verdict(Code::Failure, ""),
    }
}

fn program(error: &ProgramError) -> Verdict {
    match error {
        ProgramError::File(error) => wire(error),
        _ => verdict(Code::BadFile, "compile the model again"),
    }
}

fn key(error: &KeyError) -> Verdict {
    match error {
        KeyError::Missing { .. } => verdict(
            Code::Mismatch,
            "make evaluation keys for this program: cipherlens keygen --program PROGRAM --secret secret.cls --out DIR",
        ),
        KeyError::Damaged { .. } => wire(&WireError::Digest { offset: 0 }),
        KeyError::File(error) => wire(error),
        KeyError::Read { .. } => verdict(Code::BadFile, "the key file cannot be read to its end: check the disk"),
        _ => verdict(Code::Failure, ""),
    }
}

fn engine(error: &EngineError) -> Verdict {
    match error {
        EngineError::Key(error) => key(error),
        EngineError::Input(error) => wire(error),
        EngineError::KeySet => wire(&WireError::Set),
        EngineError::WrongKey => {
            verdict(Code::Mismatch, "`cipherlens inspect FILE` shows the key id of ciphertexts and evaluation keys")
        }
        EngineError::OtherProgram | EngineError::NotAnInput { .. } | EngineError::InputLevel { .. } => {
            verdict(Code::Mismatch, "encrypt the image again with `--program` naming this program")
        }
        EngineError::InputRange { .. } => verdict(Code::BadFile, "encrypt the image again"),
        EngineError::InputMissing { .. } => verdict(Code::Usage, "give every ciphertext of the input: --input A B ..."),
        _ => verdict(Code::Failure, ""),
    }
}

fn decrypt(error: &DecryptError) -> Verdict {
    match error {
        DecryptError::File(error) => file(error),
        DecryptError::WrongKey { .. } => verdict(
            Code::Mismatch,
            "use the secret key that the image was encrypted for; `cipherlens inspect` shows key ids",
        ),
    }
}

fn client(error: &ClientError) -> Verdict {
    match error {
        ClientError::KeySet { .. } => {
            verdict(Code::Mismatch, "a key serves programs of one parameter set: make another with `cipherlens keygen`")
        }
        ClientError::Shape { .. } => verdict(Code::BadFile, ""),
        ClientError::Encode(_) => verdict(Code::BadFile, "image values lie between 0 and 1"),
        ClientError::Decrypt(error) => decrypt(error),
        ClientError::OtherProgram { .. } => verdict(Code::Mismatch, "name the program that computed the ciphertext"),
        ClientError::NotAnOutput => {
            verdict(Code::Mismatch, "decrypt takes what `cipherlens run` writes, not an encrypted input")
        }
        ClientError::Meta(_) => verdict(Code::BadFile, "compile the model again"),
        _ => verdict(Code::Usage, ""),
    }
}

fn compile(error: &CompileError) -> Verdict {
    match error {
        CompileError::Calibration { .. } => verdict(Code::BadFile, "calibrate with images of the model's input shape"),
        CompileError::Lower { .. } | CompileError::Schedule(_) => {
            verdict(Code::Unsupported, "leave out --set for the smallest parameter set that suffices")
        }
        CompileError::Budget(_) => verdict(
            Code::Unsupported,
            "each of these would do as --ram and --flash; fewer or narrower layers need less",
        ),
        CompileError::Emit(EmitError::Refused(_)) => {
            verdict(Code::Failure, "this is a defect of the compiler: report it")
        }
        _ => verdict(Code::Unsupported, ""),
    }
}

fn import(error: &ImportError) -> Verdict {
    match error {
        ImportError::Read { .. } | ImportError::Decode { .. } | ImportError::Model { .. } => verdict(Code::BadFile, ""),
        ImportError::Initialiser { .. } => verdict(Code::BadFile, "export the model again"),
        _ => verdict(Code::Unsupported, ""),
    }
}

fn data(error: &DataError) -> Verdict {
    match error {
        DataError::Missing { .. } => {
            verdict(Code::MissingData, "name the data folder with --data DIR or CIPHERLENS_DATA")
        }
        DataError::NoImage { .. } => verdict(Code::Usage, ""),
        DataError::Row { .. } => {
            verdict(Code::BadFile, "labels.csv has the columns file, split (train, test) and label")
        }
        _ => verdict(Code::BadFile, "copy the data set again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_context_and_nesting() {
        let code = |e: anyhow::Error| classify(&e.context("reading a.clx")).0;
        assert_eq!(code(WireError::Magic.into()), Code::BadFile);
        assert_eq!(code(EngineError::Key(KeyError::File(WireError::Set)).into()), Code::Mismatch);
        assert_eq!(code(ClientError::Decrypt(DecryptError::File(WireError::Magic.into())).into()), Code::BadFile);
        assert_eq!(code(std::io::Error::other("x").into()), Code::Failure);
        assert_eq!(code(Failure::new(Code::CannotWrite, "x").into()), Code::CannotWrite);
    }

    #[test]
    fn a_cause_that_the_message_tells_is_not_repeated() {
        let error = anyhow::Error::new(WireError::Magic).context("a.clp");
        assert_eq!(message(&error), "a.clp: not a Cipherlens file");
        let told = anyhow::Error::new(WireError::Magic).context("a.clp is not a Cipherlens file");
        assert_eq!(message(&told), "a.clp is not a Cipherlens file");
    }
}
