//! The command line of AgentKernel. It uses the public API of `agentkernel-host` only.

mod agent;
mod answer;
mod arguments;
mod cache;
mod changes;
mod compose;
mod config;
mod configure;
mod doctor;
mod failure;
mod files;
mod grants;
mod hints;
mod input;
mod lasting;
mod llm;
mod mcp;
mod output;
mod overlay;
mod repetition;
mod repl;
mod report;
mod rlm;
mod run;
mod sandbox;
mod schema;
mod servers;
mod session;
mod settings;
mod signals;
mod skill;
mod store;
mod task;
mod telemetry;
mod terminal;
mod tool;
mod trust;
mod units;
mod warm;

use arguments::{Arguments, Command, McpAction, SessionAction, Talk, TaskAction};
use clap::{CommandFactory, Parser};
use failure::Result;

/// The exit code of misuse.
const MISUSE: i32 = 2;

fn main() {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| misused(&error));
    let command = &arguments.command;
    let talk = command.talk();
    let result = telemetry::start(talk, command.telemetry()).and_then(|()| act(arguments.command));
    // At once: what holds files or directories is closed, and unmapping the rest takes time.
    exit(code(result, talk));
}

/// Ends the process, which was called otherwise than it can be.
fn misused(error: &clap::Error) -> ! {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    let is_program =
        first == "-c" || first == "-" || std::path::Path::new(&first).extension() == Some("py".as_ref());
    if is_program {
        let _ = error.print();
        terminal::hint("`agentkernel run` runs programs");
        std::process::exit(MISUSE);
    }
    error.exit()
}

/// Ends the process, once what is told of it is passed on and the servers that it has started have ended.
fn exit(code: i32) -> ! {
    agentkernel::end_servers();
    telemetry::finish();
    std::process::exit(code)
}

fn act(command: Command) -> Result<i32> {
    match command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Rlm(arguments) => rlm::run(*arguments),
        Command::Agent(arguments) => agent::run(*arguments),
        Command::Repl(arguments) => repl::run(arguments),
        Command::Cache { action, engine, configuration } => cache::run(action, engine, configuration),
        Command::Tool { action } => tool::run(action),
        Command::Session { action } => session::run(action),
        Command::Changes { action } => changes::run(action),
        Command::Task { action } => task::run(action),
        Command::Skill { action } => skill::run(action),
        Command::Mcp { action } => mcp::run(action),
        Command::Compose(arguments) => compose::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Config { action } => configure::run(action),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "agentkernel", &mut script);
            terminal::say!("{}", String::from_utf8_lossy(&script).trim_end());
            Ok(0)
        }
    }
}

/// The exit code of a command; a failure is told.
fn code(result: Result<i32>, talk: Talk) -> i32 {
    result.unwrap_or_else(|failure| {
        terminal::error(&failure.message, failure.hint.as_deref().filter(|_| !talk.quiet));
        MISUSE
    })
}

impl Command {
    fn talk(&self) -> Talk {
        match self {
            Command::Run(run) => run.talk,
            Command::Repl(repl) => repl.talk,
            Command::Rlm(rlm) => rlm.talk,
            Command::Agent(agent) => agent.talk,
            Command::Compose(compose) => compose.talk,
            Command::Session { action } => action.talk(),
            Command::Task { action } => action.talk(),
            Command::Mcp { action } => action.talk(),
            _ => Talk::default(),
        }
    }

    /// The flags of telemetry, of commands that run programs. A turn of a named session has no configuration but that of
    /// its `new`, which says nothing of this.
    fn telemetry(&self) -> Option<telemetry::Flags<'_>> {
        let flags = |telemetry, configuration| {
            Some(telemetry::Flags { telemetry, configuration: Some(configuration) })
        };
        match self {
            Command::Run(run) => flags(&run.telemetry, &run.sandbox.configuration),
            Command::Repl(repl) => flags(&repl.telemetry, &repl.sandbox.configuration),
            Command::Agent(agent) => flags(&agent.telemetry, &agent.sandbox.configuration),
            Command::Mcp { action: McpAction::Serve(serve) } => {
                flags(&serve.telemetry, &serve.sandbox.configuration)
            }
            Command::Rlm(rlm) if rlm.action.is_none() => flags(&rlm.telemetry, &rlm.sandbox.configuration),
            Command::Task { action: TaskAction::Work(work) } => {
                flags(&work.telemetry, &work.place.configuration)
            }
            Command::Session { action: SessionAction::Run(run) } => {
                Some(telemetry::Flags { telemetry: &run.telemetry, configuration: None })
            }
            _ => None,
        }
    }
}
