//! The command line of AgentKernel. It uses the public API of `agentkernel-host` only.

mod arguments;
mod cache;
mod compose;
mod config;
mod doctor;
mod failure;
mod files;
mod grants;
mod hints;
mod input;
mod lasting;
mod llm;
mod output;
mod overlay;
mod repetition;
mod repl;
mod report;
mod rlm;
mod run;
mod servers;
mod session;
mod settings;
mod signals;
mod skill;
mod task;
mod terminal;
mod tool;
mod trust;
mod units;
mod warm;

use arguments::{Arguments, Command, Talk};
use clap::{CommandFactory, Parser};
use failure::Result;

/// The exit code of misuse.
const MISUSE: i32 = 2;

fn main() {
    let arguments = Arguments::parse();
    terminal::listen(arguments.command.talk());
    let result = match arguments.command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Rlm(arguments) => rlm::run(*arguments),
        Command::Repl(arguments) => repl::run(arguments),
        Command::Cache { action, engine, configuration } => cache::run(action, engine, configuration),
        Command::Tool { action } => tool::run(action),
        Command::Session { action } => session::run(action),
        Command::Task { action } => task::run(action),
        Command::Skill { action } => skill::run(action),
        Command::Compose(arguments) => compose::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "agentkernel", &mut script);
            terminal::say!("{}", String::from_utf8_lossy(&script).trim_end());
            Ok(0)
        }
    };
    // At once: what holds files or directories is closed, and unmapping the rest takes time.
    std::process::exit(code(result));
}

/// The exit code of a command; a failure is told.
fn code(result: Result<i32>) -> i32 {
    result.unwrap_or_else(|failure| {
        terminal::error(&failure.message, failure.hint.as_deref());
        MISUSE
    })
}

impl Command {
    fn talk(&self) -> Talk {
        match self {
            Command::Run(run) => run.talk,
            Command::Repl(repl) => repl.talk,
            Command::Rlm(rlm) => rlm.talk,
            Command::Compose(compose) => compose.talk,
            Command::Session { action } => action.talk(),
            Command::Task { action } => action.talk(),
            _ => Talk::default(),
        }
    }
}
