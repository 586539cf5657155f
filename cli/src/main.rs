//! The `nereid` command.
#![forbid(unsafe_code)]

mod backends;
mod flags;
mod log;
mod metrics;
mod security;
mod serve;
mod spin;
mod table;
mod without_effect;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Serves a Triton model repository.
#[derive(Parser)]
#[command(name = "nereid", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the models of one or more repositories. Flags are spelled as Triton spells them.
    Serve(flags::ServeFlags),
}

fn main() -> ExitCode {
    if let Some(refusal) = flags::refusal(std::env::args()) {
        eprintln!("error: {refusal}");
        return ExitCode::from(2);
    }
    match Arguments::parse().command {
        Command::Serve(flags) => serve::run(&flags),
    }
}
