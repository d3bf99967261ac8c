//! The same functions over MCP, called by a Python of this machine with the official SDK.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::calls::{ADD, BYTES, Calls};
use crate::measure::{Summary, Times};
use crate::process;
use crate::setup::Setup;
use crate::table::{Table, seconds};

/// Calls the server that its first argument names, and prints an [`Answer`].
const CLIENT: &str = include_str!("mcp_client.py");

/// Says which SDK there is, and fails where there is none that will do.
const ABOUT: &str = "
from importlib.metadata import version
from mcp import Client
print(version('mcp'))";

/// A server over HTTP that runs, one that can be started, and a client for both.
pub struct Bench {
    sdk: String,
    protocol: String,
    http: Server,
    program: PathBuf,
    directory: tempfile::TempDir,
    /// Additions and bytes, over HTTP and over pipes.
    times: [[Times; 2]; 2],
    /// Additions over HTTP without the SDK.
    bare: Times,
}

/// A server, which ends with this.
struct Server {
    child: Child,
    address: String,
}

/// What the client prints.
#[derive(Deserialize)]
struct Answer {
    protocol: String,
    times: [Vec<f64>; 2],
    bare: Vec<f64>,
}

/// How long calls take over MCP, and how many times as long as those of a tool.
#[derive(Serialize)]
pub struct Mcp {
    python_sdk: String,
    protocol: String,
    calls: [Call; 2],
    /// Additions over HTTP by a client without the SDK: what is left of the time is the server's and HTTP's.
    bare_http: Summary,
    bare_http_ratio: f64,
}

#[derive(Serialize)]
struct Call {
    name: &'static str,
    tool: Summary,
    http: Summary,
    stdio: Summary,
    /// The ratios of the medians.
    http_ratio: f64,
    stdio_ratio: f64,
}

impl Bench {
    /// Starts the server, if this Python has the SDK.
    pub fn start(setup: &Setup) -> Result<Self> {
        let python = setup.python.display();
        let output = process::command(&setup.python)
            .args(["-c", ABOUT])
            .output()
            .with_context(|| format!("`{python}` cannot be started"))?;
        if !output.status.success() {
            bail!(
                "`{python}` has no `mcp` of version 2 or later; install it with `python3 -m venv env` and \
                 `env/bin/pip install mcp`, and run this with `--python env/bin/python`"
            );
        }
        let program = std::env::current_exe()?;
        let mut command = process::command(&program);
        let mut child = command.args(["--serve", "http"]).stdout(Stdio::piped()).spawn()?;
        let pipe = child.stdout.take().context("there is no pipe")?;
        let mut http = Server { child, address: String::new() };
        BufReader::new(pipe).read_line(&mut http.address)?;
        http.address.truncate(http.address.trim_end().len());
        ensure!(!http.address.is_empty(), "the MCP server did not start");
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("client.py"), CLIENT)?;
        Ok(Bench {
            sdk: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            protocol: String::new(),
            http,
            program,
            directory,
            times: Default::default(),
            bare: Times::default(),
        })
    }

    /// Calls over both, with a new client each.
    pub fn round(&mut self, setup: &Setup) -> Result<()> {
        let stdio = self.program.display().to_string();
        for (server, times) in [&self.http.address, &stdio].into_iter().zip(&mut self.times) {
            let output = process::command(&setup.python)
                .arg(self.directory.path().join("client.py"))
                .args([server, &setup.rounds(400, 20).to_string()])
                .output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "the MCP client ended with {}: {errors}", output.status);
            let answer: Answer = serde_json::from_slice(&output.stdout)?;
            self.protocol = answer.protocol;
            answer.bare.into_iter().for_each(|seconds| self.bare.push_seconds(seconds));
            for (all, new) in times.iter_mut().zip(answer.times) {
                new.into_iter().for_each(|seconds| all.push_seconds(seconds));
            }
        }
        Ok(())
    }

    /// What was measured, beside the calls of a tool in the same run.
    pub fn summary(&self, calls: &Calls) -> Mcp {
        let [http, stdio] = &self.times;
        let call = |position: usize, name| {
            let (tool, http, stdio) = (*calls.of(name), http[position].summary(), stdio[position].summary());
            Call { name, http_ratio: http.ratio(&tool), stdio_ratio: stdio.ratio(&tool), tool, http, stdio }
        };
        let bare_http = self.bare.summary();
        Mcp {
            bare_http_ratio: bare_http.ratio(calls.of(ADD)),
            bare_http,
            python_sdk: self.sdk.clone(),
            protocol: self.protocol.clone(),
            calls: [call(0, ADD), call(1, BYTES)],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Mcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            "",
            "tool median",
            "MCP over HTTP min",
            "median",
            "ratio",
            "MCP over stdio min",
            "median",
            "ratio",
        ];
        let mut table = Table::new("The same functions over MCP", &columns);
        for Call { name, tool, http, stdio, http_ratio, stdio_ratio } in &self.calls {
            let cells = [
                seconds(tool.median_seconds),
                seconds(http.min_seconds),
                seconds(http.median_seconds),
                format!("{http_ratio:.0}x"),
                seconds(stdio.min_seconds),
                seconds(stdio.median_seconds),
                format!("{stdio_ratio:.0}x"),
            ];
            table = table.row(*name, cells);
        }
        let bare = [
            seconds(self.calls[0].tool.median_seconds),
            seconds(self.bare_http.min_seconds),
            seconds(self.bare_http.median_seconds),
            format!("{:.0}x", self.bare_http_ratio),
        ];
        table
            .row("two integers, a client without the SDK", bare)
            .remark("ratio: how many times as long the call over MCP takes, by the medians")
            .remark(format!("protocol {}, Python SDK {}", self.protocol, self.python_sdk))
            .fmt(f)
    }
}
