//! Flags of single programs: run, typed line by line, or made into a component.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{
    Changes, Configuration, Data, Engine, Granted, Lasting, Models, Repetition, Sandbox, Start, Talk,
    Telemetry,
};

/// `agentkernel run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "agentkernel run [OPTIONS] <SCRIPT|-> [ARGS]...\n       agentkernel run [OPTIONS] -c <CODE> [ARGS]...",
    after_help = "Exit codes: 0; 1 uncaught exception; N sys.exit(N); 2 misuse; 124 time or fuel limit; \
                  130 interrupted (KeyboardInterrupt too); 134 the interpreter failed; 137 memory limit."
)]
pub struct Run {
    /// Run this code in place of a script.
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub code: Option<String>,

    #[command(flatten)]
    pub sandbox: Sandbox,

    #[command(flatten)]
    pub models: Models,

    #[command(flatten)]
    pub data: Data,

    #[command(flatten)]
    pub tasks: Granted,

    #[command(flatten)]
    pub lasting: Lasting,

    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub start: Start,

    #[command(flatten)]
    pub repetition: Repetition,

    /// Print one JSON object with the outcome, in place of the program's output.
    #[arg(long, help_heading = None::<&str>)]
    pub json: bool,

    #[command(flatten)]
    pub talk: Talk,

    #[command(flatten)]
    pub telemetry: Telemetry,

    /// The script, `-` for standard input, and the program's arguments.
    #[arg(help_heading = None::<&'static str>, value_name = "SCRIPT|-", trailing_var_arg = true, allow_hyphen_values = true, value_hint = ValueHint::FilePath)]
    pub rest: Vec<OsString>,
}

/// `agentkernel repl`.
#[derive(Debug, Args)]
pub struct Repl {
    #[command(flatten)]
    pub sandbox: Sandbox,
    #[command(flatten)]
    pub models: Models,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub tasks: Granted,
    #[command(flatten)]
    pub lasting: Lasting,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub telemetry: Telemetry,
}

/// `agentkernel compose`.
#[derive(Debug, Args)]
#[command(
    after_help = "The component exports `wasi:cli/run`: `wasmtime run --dir .::/workspace FILE` runs it."
)]
pub struct Compose {
    /// The program.
    #[arg(value_name = "SCRIPT", value_hint = ValueHint::FilePath)]
    pub script: PathBuf,
    /// The component to write.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// A tool component, or a directory of them: `text.wasm` is imported as `tools.text`. Repeatable.
    #[arg(long = "tools", value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub tools: Vec<PathBuf>,
    /// A directory whose Python modules and packages the program can import. Repeatable.
    #[arg(long = "modules", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub modules: Vec<PathBuf>,
    /// End with the program's own exit code, not 1 for all but 0, which needs a host of WASI 0.2.12.
    #[arg(long)]
    pub exit_codes: bool,
    #[command(flatten)]
    pub talk: Talk,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub configuration: Configuration,
}
