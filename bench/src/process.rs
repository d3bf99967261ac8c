//! Running other programs: the command line of AgentKernel, and the Python it is compared with.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::setup::Setup;

/// Says which Python this is.
const ABOUT: &str = "
import json, os, platform, sys, sysconfig
arguments = sysconfig.get_config_var('CONFIG_ARGS') or ''
print(json.dumps({
    'path': os.path.realpath(sys.executable),
    'version': platform.python_version(),
    'implementation': platform.python_implementation(),
    'compiler': platform.python_compiler(),
    'optimizations_enabled': '--enable-optimizations' in arguments,
}))";

/// A Python of this machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Python {
    /// The program itself, where `python3` may only be a script that looks for it.
    pub path: PathBuf,
    pub version: String,
    pub implementation: String,
    pub compiler: String,
    /// Whether it was configured with `--enable-optimizations`, which makes it faster.
    pub optimizations_enabled: bool,
}

impl Python {
    /// The Python that this command starts.
    pub fn find(program: &Path) -> Result<Self> {
        let name = program.display();
        let output = command(program)
            .args(["-I", "-c", ABOUT])
            .output()
            .with_context(|| format!("`{name}` cannot be started"))?;
        ensure!(output.status.success(), "`{name}` does not work: {}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("`{name}` is no Python that is known"))
    }

    /// Runs a script isolated: without `site`, variables and the script's directory.
    pub fn isolated(&self, script: &Path) -> Command {
        let mut command = command(&self.path);
        command.args(["-I", "-S"]).arg(script);
        command
    }

    /// Runs a script as people do.
    pub fn plain(&self, script: &Path) -> Command {
        let mut command = command(&self.path);
        command.arg(script);
        command
    }
}

/// The command line of AgentKernel.
pub struct CommandLine {
    program: PathBuf,
    flags: Vec<OsString>,
}

impl CommandLine {
    /// Builds it where it is not up to date; cargo puts it beside this program.
    pub fn build(setup: &Setup) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "-p", "agentkernel-cli"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.status().context("cargo cannot be started to build the command line")?;
        ensure!(status.success(), "the command line cannot be built");
        let mut program = std::env::current_exe()?;
        program.set_file_name(format!("agentkernel{}", std::env::consts::EXE_SUFFIX));
        ensure!(program.is_file(), "the command line is not at `{}`", program.display());

        let mut flags = Vec::new();
        if setup.portable {
            flags.push("--portable".into());
        }
        if let Some(guest) = &setup.guest {
            flags.extend(["--guest".into(), guest.into()]);
        }
        Ok(CommandLine { program, flags })
    }

    /// `agentkernel run SCRIPT`.
    pub fn run(&self, script: &Path) -> Command {
        let mut command = command(&self.program);
        command.arg("run").args(&self.flags).arg(script);
        command
    }

    /// `agentkernel mcp serve`.
    pub fn mcp_serve(&self) -> Command {
        let mut command = command(&self.program);
        command.args(["mcp", "serve", "--no-config"]).args(&self.flags);
        command
    }
}

/// A command without the variables that configure either side; both know where the cache is.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PYTHON") || text.starts_with("AGENTKERNEL_") && text != "AGENTKERNEL_CACHE_DIR" {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end, reading its standard output from a pipe as it comes; it must write
/// this many bytes. Returns the time from before its start to after its end.
pub fn time(command: &mut Command, bytes: usize) -> Result<Duration> {
    let mut buffer = vec![0; 1 << 16];
    let mut read = 0;
    let start = Instant::now();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut pipe = child.stdout.take().context("there is no pipe")?;
    loop {
        match pipe.read(&mut buffer)? {
            0 => break,
            length => read += length,
        }
    }
    let status = child.wait()?;
    let time = start.elapsed();
    if !status.success() || read != bytes {
        bail!("{command:?} wrote {read} bytes of {bytes} and ended with {status}");
    }
    Ok(time)
}
