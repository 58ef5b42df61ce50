//! What every command shares: options, standard output, progress.

use super::error::{Code, Failure};
use anyhow::Result;
use cipherlens::datasets::data_folder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Global options.
#[derive(Debug)]
pub struct Context {
    /// One JSON object on standard output and nothing else.
    pub json: bool,
    /// Results only.
    pub quiet: bool,
    /// More detail.
    pub verbose: bool,
    /// Images side by side.
    pub threads: Option<usize>,
    /// Data folder.
    pub data: Option<PathBuf>,
    /// Passphrase of the secret key.
    pub passphrase_file: Option<PathBuf>,
}

impl Context {
    /// The data folder.
    pub fn data(&self) -> PathBuf {
        data_folder(self.data.as_deref())
    }

    /// Threads of one evaluation: unless asked, no more than four, since the passes of a phase are few.
    pub fn evaluation_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| self.threads().min(4))
    }

    /// Images to evaluate side by side.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Writes to standard output. Styles are dropped where it is no terminal or `NO_COLOR` is set.
    pub fn print(&self, text: &str) -> Result<()> {
        to_stdout(|out| out.write_all(text.as_bytes()))
    }

    /// The result of a command: `object` with `--json`, else `text`.
    pub fn result(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.print(&(serde_json::to_string(object)? + "\n")) } else { self.print(&text()) }
    }

    /// The result of a command whose product is a file: no text with `--quiet`.
    pub fn summary(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        self.result(object, || if self.quiet { String::new() } else { text() })
    }

    /// A remark on standard error; none with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            // Nothing is lost where standard error is gone.
            let _ = writeln!(anstream::stderr(), "note: {text}");
        }
    }

    /// A remark on standard error about a secret at risk; nothing hides it.
    pub fn warn(&self, text: &str) {
        let yellow = anstyle::AnsiColor::Yellow.on_default().bold();
        let _ = writeln!(anstream::stderr(), "{yellow}warning{yellow:#}: {text}");
    }

    /// Writes a file, at once or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8], secret: bool) -> Result<()> {
        cipherlens::files::write_atomic(path, bytes, secret).map_err(|error| {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            let hint = match parent {
                Some(folder) if !folder.is_dir() => format!("make the folder first: mkdir -p {}", folder.display()),
                _ => "name another place with room where you may write".into(),
            };
            Failure::new(Code::CannotWrite, format!("{error:#}")).hint(hint).into()
        })
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.json || self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }

    /// A progress bar on standard error; none where that is no terminal, with `--quiet` or `--json`.
    pub fn bar(&self, what: &'static str, len: usize) -> ProgressBar {
        let template = "{prefix:>12} {bar:32} {pos}/{len}  {elapsed} elapsed, {eta} left  {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
        ProgressBar::with_draw_target(Some(len as u64), self.target()).with_style(style).with_prefix(what)
    }

    /// A sign of life for work whose length is unknown.
    pub fn spinner(&self, what: &'static str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:>12} {spinner}").expect("the template is valid");
        let bar = ProgressBar::with_draw_target(None, self.target()).with_style(style).with_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// Writes to standard output; a reader that has gone away is no error.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::CannotWrite, format!("cannot write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}
