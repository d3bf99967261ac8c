//! Flags of what is told of a run, and to whom.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// What is told of a run, and to whom.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct Telemetry {
    /// Write what happens, and when, into a file for Perfetto or chrome://tracing.
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_TRACE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub trace: Option<PathBuf>,
    /// Send spans to an OpenTelemetry collector over HTTP: `http://localhost:4318`, or `env` for the one that
    /// OTEL_EXPORTER_OTLP_ENDPOINT names.
    #[arg(long, value_name = "URL|env", env = "AGENTKERNEL_OTLP", hide_env = true)]
    pub otlp: Option<String>,
    /// Let both hold texts too: programs, output, arguments of tools, prompts and answers.
    #[arg(long, env = "AGENTKERNEL_TRACE_CONTENT", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub trace_content: bool,
}
