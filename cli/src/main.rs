//! The `nereid` command.
#![forbid(unsafe_code)]

mod backends;
mod check;
mod cloud;
mod demo;
mod ending;
mod flags;
mod init;
mod listeners;
mod log;
mod metrics;
mod repositories;
mod security;
mod serve;
mod spin;
mod supervisor;
mod table;
mod trace;
mod without_effect;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

// A request takes some fifty small allocations on its way.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    Serve(Box<flags::ServeFlags>),
    /// Judge the models of one or more repositories without starting them.
    Check(check::CheckFlags),
    /// Write a config.pbtxt to start from, for an .onnx, a .pt or a model.py.
    Init(init::InitFlags),
    /// Serve the number-plate example and show what it finds on a photo.
    Demo(demo::DemoFlags),
}

fn main() -> ExitCode {
    if let Some(refusal) = flags::refusal(std::env::args()) {
        eprintln!("error: {refusal}");
        return ExitCode::from(2);
    }
    match Arguments::parse().command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Check(flags) => check::run(&flags),
        Command::Init(flags) => init::run(&flags),
        Command::Demo(flags) => demo::run(flags),
    }
}
