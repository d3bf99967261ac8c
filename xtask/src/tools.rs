//! The pinned tools of other languages that the build runs, installed under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program to its end; its output is shown only if it fails.
pub fn run(command: &mut Command, hint: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start `{program}`\nhint: {hint}"))?;
    if !output.status.success() {
        bail!(
            "`{program}` failed ({})\n{}{}\nhint: {hint}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Installs once for each content of `lock`, into a folder of `target/tools` named after it.
fn installed(
    root: &Path,
    name: &str,
    lock: &Path,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let lock = fs::read(lock).with_context(|| format!("cannot read `{}`", lock.display()))?;
    let tools = root.join("target/tools");
    let directory = tools.join(format!("{name}-{}", &super::manifest::sha256(&lock)[..16]));
    let done = directory.join("installed");
    if !done.exists() {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        install(&directory)?;
        fs::write(done, "")?;
    }
    Ok(directory)
}

/// The Python packages of guest-python/requirements.txt: a virtual environment.
pub fn python(root: &Path) -> Result<PathBuf> {
    let requirements = root.join("guest-python/requirements.txt");
    installed(root, "python", &requirements, |directory| {
        println!("installing componentize-py");
        let hint = "the build needs python3 (3.9 or later) with venv and pip";
        run(Command::new("python3").args(["-m", "venv"]).arg(directory), hint)?;
        run(
            Command::new(directory.join("bin/pip"))
                .args(["install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r"])
                .arg(&requirements),
            "pip must reach a package index, or find the wheels with PIP_FIND_LINKS",
        )
    })
}

/// The folder of a virtual environment that its packages are in.
pub fn packages(environment: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(environment.join("lib"))? {
        let packages = entry?.path().join("site-packages");
        if packages.is_dir() {
            return Ok(packages);
        }
    }
    bail!("`{}` has no site-packages", environment.display())
}

/// wasm-opt of the npm package binaryen, as a command line to be completed.
pub fn wasm_opt(root: &Path) -> Result<Vec<PathBuf>> {
    let lock = root.join("guest-python/package-lock.json");
    let directory = installed(root, "node", &lock, |directory| {
        println!("installing binaryen");
        for file in ["package.json", "package-lock.json"] {
            fs::copy(root.join("guest-python").join(file), directory.join(file))?;
        }
        run(
            Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(directory),
            "the build needs Node.js 18 or later with npm; `--fast` does without",
        )
    })?;
    let script = directory.join("node_modules/binaryen/bin/wasm-opt");
    // The optimiser recurses deeply over the interpreter's largest function.
    Ok(vec!["node".into(), "--stack-size=60000".into(), script])
}

/// Features that the optimiser may use: those of the input, and none that wasmtime does not have on.
const FEATURES: &[&str] = &[
    "bulk-memory",
    "bulk-memory-opt",
    "sign-ext",
    "nontrapping-float-to-int",
    "mutable-globals",
    "simd",
    "multivalue",
    "reference-types",
    "extended-const",
    "tail-call",
];

/// Optimises a core module.
pub fn optimize(root: &Path, module: &[u8]) -> Result<Vec<u8>> {
    let command = wasm_opt(root)?;
    let work = root.join("target/guest");
    let (input, output) = (work.join("fused.wasm"), work.join("optimized.wasm"));
    fs::write(&input, module)?;
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).arg(&input);
    process.args(FEATURES.iter().map(|feature| format!("--enable-{feature}")));
    process.args(["-O3", "--directize"]);
    // Inlining here is worth 4 % at run time and costs users nothing; cranelift's own would make
    // their first start take five times as long.
    process.args(["-aimfs", "12", "-fimfs", "60", "-pii", "3"]);
    process.args(["-g", "-o"]).arg(&output);
    run(&mut process, "see what the optimiser says above")?;
    Ok(fs::read(output)?)
}
