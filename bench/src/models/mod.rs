//! Models: what a call costs beside its request, and questions about large texts.

mod calls;
mod runs;
mod server;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::setup::Setup;
use calls::Calls;
use runs::Runs;
use server::Server;

/// What asking models takes.
#[derive(Serialize)]
pub struct Models {
    calls: Calls,
    runs: Runs,
}

/// Measures all of it.
pub fn measure(setup: &Setup) -> Result<Models> {
    let server = Server::start()?;
    Ok(Models { calls: Calls::measure(setup, &server)?, runs: Runs::measure(setup, &server)? })
}

impl fmt::Display for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.calls, self.runs)
    }
}
