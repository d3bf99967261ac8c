//! `agentkernel mcp serve` beside a bare MCP server made with the same SDK, both over standard input and output.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::measure::{Summary, Times};
use crate::process;
use crate::setup::{Setup, TURN};
use crate::table::{Table, seconds};

/// Calls that are not counted.
const WARM_UP: usize = 20;

/// Calls of one server before it is the other's turn.
const BATCH: usize = 50;

/// How long a call takes over standard input and output.
#[derive(Serialize)]
pub struct Serving {
    /// `add` of the bare server, which adds two numbers.
    echo: Summary,
    /// `execute` of `1+1`.
    execute: Summary,
    /// What `execute` takes beyond the bare call, by the medians.
    over_echo_seconds: f64,
    /// The same where sessions are kept on disk.
    kept: Option<Summary>,
}

/// A server, which ends with this.
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    id: u64,
    line: String,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("there is no pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("there is no pipe")?);
        let mut server = Server { child, stdin, stdout, id: 0, line: String::new() };
        let about = json!({ "name": "bench", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about });
        server.request("initialize", &hello)?;
        writeln!(server.stdin, "{}", json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(server)
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.id += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params });
        self.stdin.write_all(format!("{message}\n").as_bytes())?;
        self.line.clear();
        self.stdout.read_line(&mut self.line)?;
        let mut answer: Value = serde_json::from_str(&self.line)?;
        ensure!(answer["id"] == self.id, "the answer is to another request: {answer}");
        Ok(answer["result"].take())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server and the call that is measured.
struct Subject {
    server: Server,
    call: Value,
    field: &'static str,
    times: Times,
}

impl Subject {
    fn new(mut command: Command, tool: &str, arguments: Value, field: &'static str) -> Result<Self> {
        let call = json!({ "name": tool, "arguments": arguments });
        let mut subject =
            Subject { server: Server::start(&mut command)?, call, field, times: Times::default() };
        for _ in 0..WARM_UP {
            subject.call()?;
        }
        subject.times = Times::default();
        Ok(subject)
    }

    fn call(&mut self) -> Result<()> {
        let (server, call) = (&mut self.server, &self.call);
        let result = self.times.time(|| server.request("tools/call", call))?;
        ensure!(result["structuredContent"][self.field] == 2, "it gave {result}");
        Ok(())
    }
}

/// Calls the servers in turn.
pub fn measure(setup: &Setup) -> Result<Serving> {
    let command_line = process::CommandLine::build(setup)?;
    let directory = tempfile::tempdir()?;
    let mut bare = process::command(&std::env::current_exe()?);
    bare.args(["--serve", "stdio"]);
    let execute = |flags: &[&str]| {
        let mut command = command_line.mcp_serve();
        command.args(flags).current_dir(directory.path());
        Subject::new(command, "execute", json!({ "code": TURN }), "value")
    };
    let mut subjects = vec![Subject::new(bare, "add", json!({ "a": 1, "b": 1 }), "sum")?, execute(&[])?];
    if setup.kernel()?.info().host_owned_memory {
        subjects.push(execute(&["--sessions", "sessions"])?);
    }
    for _ in 0..setup.rounds(20, 2) {
        for subject in &mut subjects {
            for _ in 0..BATCH {
                subject.call()?;
            }
        }
    }
    let summary = |at: usize| subjects.get(at).map(|subject| subject.times.summary());
    let (echo, execute) = (summary(0).context("no times")?, summary(1).context("no times")?);
    let over_echo_seconds = execute.median_seconds - echo.median_seconds;
    Ok(Serving { echo, execute, over_echo_seconds, kept: summary(2) })
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("MCP over standard input and output, {} calls each", self.echo.rounds);
        let mut table = Table::new(title, &["", "min", "median"])
            .times("a bare server of the same SDK, two integers", &self.echo)
            .times(format!("agentkernel mcp serve, `{TURN}`"), &self.execute);
        if let Some(kept) = &self.kept {
            table = table.times("the same with --sessions", kept);
        }
        table.remark(format!("beyond the bare call: {}", seconds(self.over_echo_seconds))).fmt(f)
    }
}
