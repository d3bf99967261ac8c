//! What the measurements are made on and with.

use std::fmt;
use std::fs;

use agentkernel::{WASMTIME_VERSION, cpython_version};
use anyhow::Result;
use serde::Serialize;

use crate::process::Python;
use crate::setup::Setup;

/// What the measurements are made on and with.
#[derive(Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    system: String,
    /// Processes that were running or waiting to run over the last minute, where that is known.
    load: Option<f64>,
    agentkernel: String,
    wasmtime: &'static str,
    cpython: String,
    /// Whether the fast way was taken: memory of the host's own and the safepoint page.
    host_owned_memory: bool,
    page_scan: bool,
    /// Whether this is an optimised build.
    release: bool,
    quick: bool,
    python: Option<Python>,
}

impl Machine {
    /// Looks at this machine.
    pub fn examine(setup: &Setup, python: Option<&Python>) -> Result<Self> {
        let info = setup.kernel()?.info();
        Ok(Machine {
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: cores(),
            system: match fs::read_to_string("/proc/sys/kernel/osrelease") {
                Ok(release) => format!("Linux {}", release.trim()),
                Err(_) => std::env::consts::OS.to_owned(),
            },
            load: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
            agentkernel: env!("CARGO_PKG_VERSION").to_owned(),
            wasmtime: WASMTIME_VERSION,
            cpython: match &setup.guest {
                Some(guest) => format!("of {}", guest.display()),
                None => cpython_version(),
            },
            host_owned_memory: info.host_owned_memory,
            page_scan: info.page_scan,
            release: !cfg!(debug_assertions),
            quick: setup.quick,
            python: python.cloned(),
        })
    }
}

/// Processors that threads of this process run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, system, agentkernel, wasmtime, cpython, .. } = self;
        writeln!(f, "machine      {processor}, {cores} cores, {system}")?;
        if let Some(load) = self.load {
            writeln!(f, "load before  {load:.2}")?;
        }
        let memory = if self.host_owned_memory { "host-owned memory" } else { "portable" };
        let scan = if self.page_scan { "page scan" } else { "no page scan" };
        writeln!(f, "agentkernel  {agentkernel}: CPython {cpython}, wasmtime {wasmtime}; {memory}, {scan}")?;
        match &self.python {
            Some(python) => {
                let Python { path, version, implementation, compiler, .. } = python;
                let with = if python.optimizations_enabled { "with" } else { "without" };
                let path = path.display();
                writeln!(f, "python3      {implementation} {version} ({path})")?;
                writeln!(f, "             {compiler}, configured {with} --enable-optimizations")?;
            }
            None => writeln!(f, "python3      none")?,
        }
        if self.quick {
            writeln!(f, "few rounds (--quick): not to be compared")?;
        }
        if !self.release {
            writeln!(f, "a build without optimisation: the numbers say nothing, use `--release`")?;
        }
        Ok(())
    }
}
