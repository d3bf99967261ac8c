//! Builds the tool components that the repository ships prebuilt: `cargo xtask-tools`.

mod compilers;
mod manifest;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use compilers::{Compilers, Options};
use manifest::{Entry, Manifest, sha256};
use tools::{TARGET, Tool};

/// Builds the tool components that the repository ships prebuilt.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the tools of tools/, with the documentation of their WIT.
    Build {
        /// Only these (default: all).
        #[arg(value_name = "TOOL")]
        names: Vec<String>,
        /// Where to write the components and `manifest.json` (default: tools/prebuilt).
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Also build the components that tests call (into tests/tools if there is no `--out`).
        #[arg(long)]
        test_components: bool,
        #[command(flatten)]
        compilers: Options,
    },
    /// Say whether the prebuilt tools were made from the sources as they are.
    Check {
        /// Also look at the components that tests call.
        #[arg(long)]
        test_components: bool,
    },
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in xtask/tools");
    match Arguments::parse().action {
        Action::Build { names, out, test_components, compilers } => {
            let all = tools::find(root, test_components)?;
            let compilers = Compilers::choose(root, compilers)?;
            build(root, &all, &names, out.as_deref(), &compilers)
        }
        Action::Check { test_components } => check(root, &tools::find(root, test_components)?),
    }
}

/// Builds those of `all` that are named, or all, and writes them down in the manifests.
fn build(
    root: &Path,
    all: &[Tool],
    names: &[String],
    out: Option<&Path>,
    compilers: &Compilers,
) -> Result<()> {
    let wanted: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
    if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|tool| tool.name != **name)) {
        let known: Vec<_> = all.iter().map(|tool| tool.name.as_str()).collect();
        bail!("there is no tool `{unknown}`\nhint: there are {}", known.join(", "));
    }
    let agentkernel = command_line(root)?;
    let mut built: BTreeMap<PathBuf, BTreeMap<String, Entry>> = BTreeMap::new();
    for tool in all.iter().filter(|tool| wanted.is_empty() || wanted.contains(&tool.name)) {
        let directory = out.map_or_else(|| root.join(&tool.home), Path::to_path_buf);
        fs::create_dir_all(&directory)?;
        let start = Instant::now();
        // Before the build, so that what changes meanwhile counts as a change.
        let sources = tool.sources(root)?;
        let component = document(root, &agentkernel, tool, &compilers.build(root, tool)?)?;
        replace(&directory.join(format!("{}.wasm", tool.name)), &component)?;
        println!(
            "{}: {} KB, {:.1} s",
            tool.name,
            component.len().div_ceil(1000),
            start.elapsed().as_secs_f64()
        );
        let entry = Entry {
            rustc: compilers.version.clone(),
            sha256: sha256(&component),
            bytes: component.len() as u64,
            sources,
        };
        built.entry(directory).or_default().insert(tool.name.clone(), entry);
    }
    for (directory, entries) in built {
        let mut manifest = Manifest::read(&directory).unwrap_or_default();
        manifest.tools.retain(|name, _| all.iter().any(|tool| tool.name == *name));
        manifest.tools.extend(entries);
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        replace(&directory.join(Manifest::NAME), text.as_bytes())?;
    }
    Ok(())
}

/// Builds the command line, which puts documentation into components.
///
/// As a dependency of this program the host would be compiled once more, since its own dependencies
/// would have other features than they have there.
fn command_line(root: &Path) -> Result<PathBuf> {
    let status = tools::cargo()
        .args(["build", "--quiet", "--package", "agentkernel-cli"])
        .current_dir(root)
        .status()
        .context("cannot start `cargo build`")?;
    if !status.success() {
        bail!("the command line cannot be built, which puts documentation into components");
    }
    // Beside this program, as both were built by `cargo` in one workspace.
    Ok(std::env::current_exe()?.with_file_name(format!("agentkernel{}", std::env::consts::EXE_SUFFIX)))
}

/// The component with the comments of its WIT, which compilers leave out.
fn document(root: &Path, agentkernel: &Path, tool: &Tool, component: &Path) -> Result<Vec<u8>> {
    let output = root.join(TARGET).join("documented.wasm");
    let status = Command::new(agentkernel)
        .args(["tool", "document"])
        .arg(component)
        .arg("--wit")
        .arg(root.join(&tool.folder).join("wit"))
        .arg("--out")
        .arg(&output)
        .status()
        .with_context(|| format!("cannot start `{}`", agentkernel.display()))?;
    if !status.success() {
        bail!("`agentkernel tool document` failed for `{}`", tool.name);
    }
    Ok(fs::read(output)?)
}

/// Compares the manifests with the components and with the sources.
fn check(root: &Path, all: &[Tool]) -> Result<()> {
    let mut wrong = Vec::new();
    let mut homes: BTreeMap<&Path, Vec<&Tool>> = BTreeMap::new();
    for tool in all {
        homes.entry(&tool.home).or_default().push(tool);
    }
    for (home, tools) in homes {
        let directory = root.join(home);
        let manifest = Manifest::read(&directory)?;
        for name in manifest.tools.keys().filter(|name| tools.iter().all(|tool| tool.name != **name)) {
            wrong.push(format!("`{name}` is in the manifest alone"));
        }
        for tool in tools {
            let Some(entry) = manifest.tools.get(&tool.name) else {
                wrong.push(format!("`{}` is not in the manifest", tool.name));
                continue;
            };
            let component = fs::read(directory.join(format!("{}.wasm", tool.name)));
            if !component.is_ok_and(|bytes| sha256(&bytes) == entry.sha256) {
                wrong.push(format!("`{}.wasm` is not the component of the manifest", tool.name));
            }
            let now = tool.sources(root)?;
            let mut changed: Vec<_> = now
                .keys()
                .chain(entry.sources.keys())
                .filter(|name| now.get(*name) != entry.sources.get(*name))
                .map(String::as_str)
                .collect();
            changed.sort_unstable();
            changed.dedup();
            if !changed.is_empty() {
                wrong.push(format!(
                    "`{}` was not made from these sources: {}",
                    tool.name,
                    changed.join(", ")
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}\nhint: run `cargo xtask-tools build`", wrong.join("\n"));
    }
    println!("the prebuilt tools were made from the sources as they are");
    Ok(())
}

/// Writes beside the place and renames, so that a reader sees the old file or the new.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path).with_context(|| format!("cannot replace `{}`", path.display()))
}
