//! Command line: arguments here, one file per subcommand.

mod accuracy;
mod batch;
mod bench;
mod compile;
mod completions;
mod context;
mod crosscheck;
mod decrypt;
mod demo;
mod encrypt;
mod error;
mod files;
mod holder;
mod inspect;
mod keygen;
mod passphrase;
mod picture;
mod release;
mod report;
mod run;
mod sign;
mod tiles;
mod units;

use clap::{Args, Parser, Subcommand};
use context::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Encrypted CNN inference: an image stays encrypted while the network reads it.
#[derive(Debug, Parser)]
#[command(name = "cipherlens", version, max_term_width = 100, after_help = error::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print one JSON object on standard output and nothing else
    #[arg(long, global = true)]
    json: bool,
    /// No progress bars, notes or summaries
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// More detail: layers, instructions
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Threads of an evaluation, images side by side in `accuracy` [default: one for each core; an evaluation takes at most 4]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder of the data sets [default: $CIPHERLENS_DATA, else ../shared/data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// File with the passphrase of the secret key, where it has one [default: $CIPHERLENS_PASSPHRASE, else asked for]
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one go on one image: compile, keys, encrypt, evaluate, decrypt, compare
    Demo(demo::Arguments),
    /// Turn an ONNX model into a program for the evaluator
    Compile(Box<compile::Arguments>),
    /// Make a secret key, and the evaluation keys and public key that go with it
    Keygen(keygen::Arguments),
    /// Sign a program, so that who runs it knows where it comes from
    Sign(sign::Arguments),
    /// Encrypt an image for a program
    Encrypt(encrypt::Arguments),
    /// Evaluate a program on encrypted input, with evaluation keys only
    Run(run::Arguments),
    /// Decrypt a result and print the decision, or write the mask
    Decrypt(decrypt::Arguments),
    /// A data set through the encrypted network, against the clear one
    Accuracy(accuracy::Arguments),
    /// Clear, simulated, noisy and encrypted evaluation side by side, layer by layer
    Crosscheck(crosscheck::Arguments),
    /// This machine's numbers: operations, and every model beside its predicted time
    Bench(bench::Arguments),
    /// Say what a file is, and check it
    Inspect(inspect::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Parses the command line, runs the command and maps its error to an exit code.
pub fn main() -> ExitCode {
    let Cli { global: Global { json, quiet, verbose, threads, data, passphrase_file }, command } = Cli::parse();
    let context = Context { json, quiet, verbose, threads: threads.map(usize::from), data, passphrase_file };
    let result = match command {
        Command::Demo(arguments) => demo::run(&arguments, &context),
        Command::Compile(arguments) => compile::run(&arguments, &context),
        Command::Keygen(arguments) => keygen::run(&arguments, &context),
        Command::Sign(arguments) => sign::run(&arguments, &context),
        Command::Encrypt(arguments) => encrypt::run(&arguments, &context),
        Command::Run(arguments) => run::run(&arguments, &context),
        Command::Decrypt(arguments) => decrypt::run(&arguments, &context),
        Command::Accuracy(arguments) => accuracy::run(&arguments, &context),
        Command::Crosscheck(arguments) => crosscheck::run(&arguments, &context),
        Command::Bench(arguments) => bench::run(&arguments, &context),
        Command::Inspect(arguments) => inspect::run(&arguments, &context),
        Command::Completions(arguments) => completions::run(&arguments, &context),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
