//! Measures AgentKernel on this machine; `docs/benchmarks.md` says what and how.

mod command_line;
mod concurrency;
mod context;
mod cpu;
mod library;
mod machine;
mod mcp_server;
mod measure;
mod memory;
mod models;
mod output;
mod peers;
mod process;
mod serving;
mod sessions;
mod setup;
mod table;
mod tasks;
mod tools;

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use machine::Machine;
use process::Python;
use setup::{Arguments, Part, Setup};

/// All that was measured. A part that was not asked for is not there.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    library: Option<library::Library>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<Section<command_line::CommandLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Section<cpu::Cpu>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Section<output::Output>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<tools::Tools>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<context::Contexts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<models::Models>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<sessions::Sessions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<peers::Peers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<tasks::Tasks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<serving::Serving>,
}

/// A part that compares with Python, if there is one.
#[derive(Serialize)]
#[serde(untagged)]
enum Section<T> {
    Measured(T),
    Skipped { skipped: String },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(transport) = arguments.serve {
        return mcp_server::serve(transport);
    }
    let setup = Setup::new(arguments)?;
    let python = Python::find(&setup.python);
    let machine = Machine::examine(&setup, python.as_ref().ok())?;
    println!("{machine}");

    let library = part(&setup, Part::Library, library::measure)?;
    let report = Report {
        machine,
        library,
        command_line: section(&setup, Part::CommandLine, &python, command_line::measure)?,
        cpu: section(&setup, Part::Cpu, &python, cpu::measure)?,
        output: section(&setup, Part::Output, &python, output::measure)?,
        tools: part(&setup, Part::Tools, tools::measure)?,
        context: part(&setup, Part::Context, context::measure)?,
        models: part(&setup, Part::Models, models::measure)?,
        sessions: part(&setup, Part::Sessions, sessions::measure)?,
        peers: part(&setup, Part::Peers, peers::measure)?,
        tasks: part(&setup, Part::Tasks, tasks::measure)?,
        mcp: part(&setup, Part::Mcp, serving::measure)?,
    };
    if let Some(file) = &setup.json {
        write(file, &report)?;
    }
    Ok(())
}

/// Measures and prints a part, if it was asked for.
fn part<T: Display>(setup: &Setup, part: Part, measure: fn(&Setup) -> Result<T>) -> Result<Option<T>> {
    if !setup.wants(part) {
        return Ok(None);
    }
    note(part.name());
    let measured = measure(setup)?;
    println!("{measured}");
    Ok(Some(measured))
}

/// Measures and prints a part that compares with Python, or says why it cannot be measured.
fn section<T: Display>(
    setup: &Setup,
    part: Part,
    python: &Result<Python>,
    measure: fn(&Setup, &Python) -> Result<T>,
) -> Result<Option<Section<T>>> {
    if !setup.wants(part) {
        return Ok(None);
    }
    let name = part.name();
    match python {
        Ok(python) => {
            note(name);
            let measured = measure(setup, python)?;
            println!("{measured}");
            Ok(Some(Section::Measured(measured)))
        }
        Err(error) => {
            let skipped = format!("{error:#}");
            println!("{name}: skipped, there is nothing to compare with: {skipped}\n");
            Ok(Some(Section::Skipped { skipped }))
        }
    }
}

/// Says on standard error what takes so long.
fn note(name: &str) {
    eprintln!("measuring {name} ...");
}

fn write(file: &PathBuf, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write `{}`", file.display()))
}
