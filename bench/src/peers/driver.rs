//! A peer's side: a Python process that drives it and prints what it found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::{Found, Rounds, STATES, Side, rows};
use crate::measure::Times;
use crate::process;
use crate::sessions::BURST;
use crate::setup::Setup;

/// What a driver prints.
#[derive(Deserialize)]
pub struct Printed {
    version: String,
    found: BTreeMap<String, PrintedRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PrintedRow {
    Seconds(Vec<f64>),
    Bytes(f64),
    Missing(String),
}

/// Fails where this Python does not have a package, and says what to do.
pub fn check_installed(setup: &Setup, package: &str) -> Result<()> {
    let python = setup.python.display();
    let about = format!("from importlib.metadata import version; version('{package}')");
    let output = process::command(&setup.python)
        .args(["-c", &about])
        .output()
        .with_context(|| format!("`{python}` cannot be started"))?;
    ensure!(
        output.status.success(),
        "`{python}` has no `{package}`; install it with `python3 -m venv env` and `env/bin/pip install {package}`, \
         and run this with `--python env/bin/python`"
    );
    Ok(())
}

/// Runs a peer's driver, which goes through the same rounds in its own process.
pub fn measure(setup: &Setup, script: &str, rounds: &Rounds) -> Result<Side> {
    let states: Vec<_> = STATES.iter().map(|kept| [kept.code, kept.expression, kept.expected]).collect();
    let Rounds { starts, turns, bursts, saves } = rounds;
    let plan = json!({
        "starts": starts, "turns": turns, "bursts": bursts, "burst": BURST, "saves": saves, "states": states,
    });
    let driver = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    // No compiled files beside the sources.
    let output = process::command(&setup.python).arg("-B").arg(driver).arg(plan.to_string()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{script}` ended with {}: {errors}", output.status);
    let printed = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{script}` printed something else"))?;
    side(printed)
}

/// A driver must say something to every row.
pub fn side(printed: Printed) -> Result<Side> {
    let Printed { version, found: mut all } = printed;
    let mut found = BTreeMap::new();
    for (name, _) in rows() {
        let row = all.remove(&name).with_context(|| format!("the driver says nothing of `{name}`"))?;
        let value = match row {
            PrintedRow::Bytes(bytes) => Found::Bytes(bytes),
            PrintedRow::Missing(why) => Found::Missing(why),
            PrintedRow::Seconds(all) => {
                ensure!(!all.is_empty(), "the driver has no times for `{name}`");
                let mut times = Times::default();
                all.into_iter().for_each(|seconds| times.push_seconds(seconds));
                Found::Time(times.summary())
            }
        };
        found.insert(name, value);
    }
    ensure!(all.is_empty(), "the driver says something of {:?}, which nobody asked for", all.keys());
    Ok(Side::Measured { version, found })
}
