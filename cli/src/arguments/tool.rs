//! Flags of tools by themselves.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use super::{Engine, Sandbox};

#[derive(Debug, Subcommand)]
pub enum ToolAction {
    /// List the tools, each with a line about it.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Show what a tool offers, or all about one of its functions or classes.
    Describe {
        /// The tool, or a part of it: `text`, `text.search`.
        name: String,
        /// How much is shown [default: a line each for a tool, all for a function or class].
        #[arg(long, value_enum)]
        detail: Option<Detail>,
        /// Print a JSON array of what is in it.
        #[arg(long, conflicts_with = "detail")]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Find functions by what they do.
    Search {
        /// Words, in any order.
        #[arg(required = true)]
        words: Vec<String>,
        /// How many are shown.
        #[arg(long, default_value_t = 10)]
        limit: u32,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Call a function, and print what it gives as JSON.
    Call {
        /// The function: `text.search`.
        name: String,
        /// Its arguments: a JSON array, or an object by name; `-` reads it from standard input.
        #[arg(value_name = "JSON|-", default_value = "[]", allow_hyphen_values = true)]
        arguments: String,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Say what a component imports and exports, and whether it can be a tool.
    Check {
        /// The components.
        #[arg(required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        engine: Engine,
    },
    /// Write stub files of the tools, for type checkers and editors.
    Stubs {
        /// Where; type checkers must look there (`MYPYPATH`, `stubPath`).
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: PathBuf,
        #[command(flatten)]
        sandbox: Sandbox,
    },
    /// Put the documentation of its WIT into a component, where programs see it as docstrings.
    Document {
        /// The component.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The WIT it was built from.
        #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
        wit: PathBuf,
        /// Where to write the result [default: over the component].
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
}

/// How much is said about a tool.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Detail {
    /// Names alone.
    Name,
    /// A line each.
    Summary,
    /// All that is needed to call it.
    Full,
}
