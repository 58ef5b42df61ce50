//! Where passphrases come from: a file, the environment, or the terminal.

use super::context::Context;
use super::error::{Code, Failure};
use super::files;
use anyhow::Result;
use std::io::IsTerminal;
use zeroize::Zeroizing;

/// Holds a passphrase where neither file nor terminal is at hand.
pub const VARIABLE: &str = "CIPHERLENS_PASSPHRASE";

/// The passphrase for what `prompt` names; with `twice` a new one, which has to be typed again.
pub fn ask(prompt: &str, twice: bool, context: &Context) -> Result<Zeroizing<String>> {
    let found = if let Some(path) = &context.passphrase_file {
        let bytes = Zeroizing::new(files::read(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Failure::new(Code::BadFile, format!("{} is no text: it should hold a passphrase", path.display()))
        })?;
        Zeroizing::new(text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
    } else if let Ok(text) = std::env::var(VARIABLE) {
        Zeroizing::new(text)
    } else {
        typed(prompt, twice)?
    };
    if found.is_empty() {
        return Err(Failure::new(Code::Usage, "the passphrase is empty").into());
    }
    Ok(found)
}

fn typed(prompt: &str, twice: bool) -> Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        let message = format!("{prompt} needs a passphrase, and there is no terminal to ask for it");
        let hint = format!("name a file that holds it with --passphrase-file FILE, or set {VARIABLE}");
        return Err(Failure::new(Code::Usage, message).hint(hint).into());
    }
    let read = |prompt: String| -> Result<Zeroizing<String>> {
        let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
        typed.map_err(|error| Failure::new(Code::Failure, format!("cannot read from the terminal: {error}")).into())
    };
    let first = read(format!("Passphrase for {prompt}: "))?;
    if twice && read("The same again: ".into())? != first {
        return Err(Failure::new(Code::Usage, "the two passphrases differ").into());
    }
    Ok(first)
}
