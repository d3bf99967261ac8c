//! Tools: how long calls take, beside the same functions over MCP, and how many tokens they cost.

mod calls;
mod mcp;
mod schema;
mod tokens;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::Section;
use crate::setup::Setup;
use calls::{Calls, First, Gathered, Start, Warm};

/// What tools take.
#[derive(Serialize)]
pub struct Tools {
    calls: Calls,
    first: First,
    start: Start,
    gathered: Gathered,
    mcp: Section<mcp::Mcp>,
    tokens: tokens::Tokens,
}

/// Measures all of it.
pub fn measure(setup: &Setup) -> Result<Tools> {
    let kernel = setup.builder().tool(calls::echo("echo")).build()?;
    let mut warm = Warm::new();
    let mut mcp = mcp::Bench::start(setup);
    // In turn, so that what the machine does meanwhile meets all.
    for _ in 0..setup.rounds(5, 1) {
        warm.round(setup, &kernel)?;
        if let Ok(mcp) = &mut mcp {
            mcp.round(setup)?;
        }
    }
    let calls = warm.summary();
    Ok(Tools {
        first: First::measure(setup, &kernel)?,
        start: Start::measure(setup)?,
        gathered: Gathered::measure(setup, &kernel)?,
        mcp: match mcp {
            Ok(mcp) => Section::Measured(mcp.summary(&calls)),
            Err(error) => Section::Skipped { skipped: format!("{error:#}") },
        },
        tokens: tokens::measure(setup)?,
        calls,
    })
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tools { calls, first, start, gathered, mcp, tokens } = self;
        writeln!(f, "{calls}")?;
        match mcp {
            Section::Measured(mcp) => writeln!(f, "{mcp}")?,
            Section::Skipped { skipped } => writeln!(f, "MCP: skipped: {skipped}\n")?,
        }
        writeln!(f, "{first}\n{start}\n{gathered}\n{tokens}")
    }
}
