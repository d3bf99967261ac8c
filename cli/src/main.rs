//! The command line of AgentKernel. It uses the public API of `agentkernel-host` only.

mod arguments;
mod cache;
mod config;
mod doctor;
mod failure;
mod hints;
mod repl;
mod report;
mod run;
mod settings;
mod terminal;
mod units;

use arguments::{Arguments, Command, Talk};
use clap::{CommandFactory, Parser};

/// The exit code of misuse.
const MISUSE: i32 = 2;

fn main() {
    let arguments = Arguments::parse();
    terminal::listen(arguments.command.talk());
    let result = match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Repl(arguments) => repl::run(arguments),
        Command::Cache { action, engine } => cache::run(action, &engine),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "agentkernel", &mut std::io::stdout());
            Ok(0)
        }
    };
    let code = result.unwrap_or_else(|failure| {
        terminal::error(&failure.message, failure.hint.as_deref());
        MISUSE
    });
    // At once: what holds files or directories is closed, and unmapping the rest takes time.
    std::process::exit(code);
}

impl Command {
    fn talk(&self) -> Talk {
        match self {
            Command::Run(run) => run.talk,
            Command::Repl(repl) => repl.talk,
            _ => Talk::default(),
        }
    }
}
