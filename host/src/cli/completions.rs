//! `completions`: scripts for shells.

use super::Cli;
use super::context::{Context, to_stdout};
use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, _: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "cipherlens", &mut script);
    to_stdout(|out| out.write_all(&script))
}
