//! Builds the interpreter component.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::manifest::{Component, Manifest, sha256, sources};
use super::{fuse, tools, warm};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository").into()
}

/// Compares the committed manifest with the sources.
pub fn check() -> Result<()> {
    let root = root();
    let path = root.join("guest-python/prebuilt/manifest.json");
    let manifest: Manifest = serde_json::from_slice(&fs::read(&path)?)
        .with_context(|| format!("cannot understand `{}`", path.display()))?;
    let now = sources(&root)?;
    let changed: Vec<_> = now
        .keys()
        .chain(manifest.sources.keys())
        .filter(|name| now.get(*name) != manifest.sources.get(*name))
        .map(String::as_str)
        .collect();
    if !changed.is_empty() {
        bail!(
            "the prebuilt interpreter was not made from these sources: {}\nhint: run `cargo xtask guest`",
            changed.join(", ")
        );
    }
    println!("the prebuilt interpreter was made from the sources as they are");
    Ok(())
}

/// Builds the component into `out`.
pub fn build(out: Option<PathBuf>, fast: bool) -> Result<()> {
    let root = root();
    let out = out.unwrap_or_else(|| root.join("guest-python/prebuilt"));
    let work = root.join("target/guest");
    fs::create_dir_all(&work)?;

    let python = tools::python(&root)?;
    let original = step("building the component", || componentize(&root, &python, &work))?;
    let fused = step("fusing its modules", || fuse::fuse(&original))?;
    let optimized = match fast {
        true => fused.module,
        false => step("optimising (minutes)", || tools::optimize(&root, &fused.module))?,
    };
    let programs = fs::read_to_string(root.join("guest-python/rehearsal.txt"))?;
    let warm = step("rehearsing", || warm::warm(&optimized, fused.stack_top, &programs))?;
    let module = fuse::replace_memory(&optimized, &warm.memory)?;
    let (module, safepoints) = fuse::add_safepoints(&module)?;
    println!("{} loops have a safepoint", safepoints.loops);
    let module = fuse::add_gates(&module).context("while adding gates")?;
    let component = warm.notes.append_to(fuse::wrap(&original, &module)?)?;

    let compressed = step("compressing", || Ok(zstd::encode_all(component.as_slice(), 19)?))?;
    let manifest = Manifest {
        format: 1,
        cpython: warm.cpython,
        componentize_py: pinned(&root.join("guest-python/requirements.txt"), "componentize-py==")?,
        binaryen: match fast {
            true => None,
            false => Some(pinned(&root.join("guest-python/package.json"), "\"binaryen\": \"")?),
        },
        component: Component { sha256: sha256(&component), bytes: component.len() as u64 },
        sources: sources(&root)?,
    };
    fs::create_dir_all(&out)?;
    replace(&out.join("python.wasm.zst"), &compressed)?;
    replace(&out.join("manifest.json"), (serde_json::to_string_pretty(&manifest)? + "\n").as_bytes())?;
    println!(
        "{}: {:.1} MB, compressed {:.1} MB",
        out.display(),
        component.len() as f64 / 1e6,
        compressed.len() as f64 / 1e6
    );
    Ok(())
}

fn step<T>(name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("{name}");
    let start = Instant::now();
    let result = act().with_context(|| format!("while {name}"))?;
    println!("  {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

/// Links CPython and our Python into a pre-initialised component.
fn componentize(root: &Path, python: &Path, work: &Path) -> Result<Vec<u8>> {
    let output = work.join("original.wasm");
    let source = root.join("guest-python");
    tools::run(
        Command::new(python.join("bin/componentize-py"))
            .args(["--wit-path"])
            .arg(root.join("wit"))
            .args(["--world", "python", "componentize", "app", "--python-path"])
            .arg(&source)
            // For tzdata.
            .arg("--python-path")
            .arg(tools::packages(python)?)
            .arg("--output")
            .arg(&output)
            // Nothing of the caller's environment may shape the result.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&source),
        "see what componentize-py says above",
    )?;
    Ok(fs::read(output)?)
}

/// The version that `file` pins after `prefix`.
fn pinned(file: &Path, prefix: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let rest = text.split_once(prefix).with_context(|| format!("`{}` pins no version", file.display()))?.1;
    Ok(rest.split([' ', '"', '\n', '\\']).next().unwrap_or_default().to_owned())
}

/// Writes beside the place and renames, so that a reader sees the old file or the new.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path).with_context(|| format!("cannot replace `{}`", path.display()))
}
