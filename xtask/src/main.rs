//! Builds what the repository ships prebuilt: `cargo xtask guest`.

mod fuse;
mod guest;
mod manifest;
mod tools;
mod warm;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds what the repository ships prebuilt.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the interpreter component from guest-python/ and wit/.
    Guest {
        /// Where to write `python.wasm.zst` and `manifest.json` (default: guest-python/prebuilt).
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Only say whether the prebuilt one was made from the sources as they are.
        #[arg(long, conflicts_with = "out")]
        check: bool,
        /// Leave wasm-opt out: the build takes a tenth of the time, the result is slower.
        #[arg(long)]
        fast: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Guest { check: true, .. } => guest::check(),
        Command::Guest { out, fast, .. } => guest::build(out, fast),
    }
}
