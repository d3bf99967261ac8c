//! The compilers that tools are built with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::tools::{TARGET, Tool, cargo};

const TRIPLE: &str = "wasm32-wasip2";

/// What `.ci/wasm-toolchain` makes.
const TOOLCHAIN: &str = "target/wasm-toolchain/bin";

#[derive(Args)]
pub struct Options {
    /// The Rust compiler (default: the installed one if it has the library of wasm32-wasip2, else that
    /// of `.ci/wasm-toolchain`).
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_WASM_RUSTC")]
    rustc: Option<PathBuf>,
    /// The C compiler (default: that of the WASI SDK at `WASI_SDK_PATH`, else that of `.ci/wasm-toolchain`).
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_WASM_CC", requires = "ar")]
    cc: Option<PathBuf>,
    /// The archiver that goes with it.
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_WASM_AR", requires = "cc")]
    ar: Option<PathBuf>,
}

pub struct Compilers {
    rustc: PathBuf,
    /// The version of the Rust compiler.
    pub version: String,
    /// A C compiler and its archiver, which few tools need.
    c: Option<(PathBuf, PathBuf)>,
}

impl Compilers {
    pub fn choose(root: &Path, options: Options) -> Result<Self> {
        let made = root.join(TOOLCHAIN);
        let rustc = match options.rustc {
            Some(given) => {
                let given = absolute(given)?;
                if !has_library(&given) {
                    bail!("`{}` is no Rust compiler with the library of {TRIPLE}", given.display());
                }
                given
            }
            None => [PathBuf::from("rustc"), made.join("rustc")]
                .into_iter()
                .find(|rustc| has_library(rustc))
                .with_context(|| {
                    format!(
                        "the installed Rust compiler has no library for {TRIPLE}\n\
                         hint: run `rustup target add {TRIPLE}` or, on Debian, `.ci/wasm-toolchain`"
                    )
                })?,
        };
        let version = print(&rustc, &["--version"]).unwrap_or_default();
        let version = version.split(' ').nth(1).context("`rustc --version` names no version")?.to_owned();
        let c = match (options.cc, options.ar, std::env::var_os("WASI_SDK_PATH")) {
            (Some(cc), Some(ar), _) => Some((absolute(cc)?, absolute(ar)?)),
            (_, _, Some(sdk)) => {
                let programs = absolute(sdk.into())?.join("bin");
                Some((programs.join("clang"), programs.join("llvm-ar")))
            }
            _ => Some((made.join("clang"), made.join("ar"))).filter(|(cc, _)| cc.exists()),
        };
        Ok(Self { rustc, version, c })
    }

    /// Builds a component, without documentation.
    pub fn build(&self, root: &Path, tool: &Tool) -> Result<PathBuf> {
        let target = root.join(TARGET);
        // Alone, so that what is built with it has no say in the features of its dependencies.
        let mut build = self.cargo(root, tool);
        build.args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            TRIPLE,
            "--package",
            &tool.package,
        ]);
        build.arg("--config").arg(without_paths(root, &self.fetch(root, tool)?)?);
        build.env("CARGO_TARGET_DIR", &target);
        if let Some((cc, ar)) = &self.c {
            build.env("CC_wasm32_wasip2", cc).env("AR_wasm32_wasip2", ar);
        }
        if !build.status().context("cannot start `cargo build`")?.success() {
            let hint = match &self.c {
                Some(_) => "see what cargo says above",
                None => "if it compiles C, set WASI_SDK_PATH or, on Debian, run `.ci/wasm-toolchain`",
            };
            bail!("`{}` cannot be built\nhint: {hint}", tool.name);
        }
        Ok(target.join(TRIPLE).join("release").join(format!("{}.wasm", tool.name)))
    }

    /// Downloads what the tool depends on; returns the folders that crates were unpacked in.
    fn fetch(&self, root: &Path, tool: &Tool) -> Result<Vec<PathBuf>> {
        let mut fetch = self.cargo(root, tool);
        fetch.args(["fetch", "--quiet", "--locked", "--target", TRIPLE]);
        if !fetch.status().context("cannot start `cargo fetch`")?.success() {
            bail!("what `{}` depends on cannot be downloaded", tool.name);
        }
        let home = match std::env::var_os("CARGO_HOME") {
            Some(home) => absolute(home.into())?,
            None => std::env::home_dir().context("there is no home directory")?.join(".cargo"),
        };
        let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten();
        Ok(registries.flatten().map(|registry| registry.path()).collect())
    }

    /// Cargo in the tool's workspace, where nothing of the caller's environment shapes the result.
    fn cargo(&self, root: &Path, tool: &Tool) -> Command {
        let mut cargo = cargo();
        // There it reads the workspace's own `.cargo/config.toml`.
        cargo.current_dir(root.join(&tool.workspace)).env("RUSTC", &self.rustc);
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CFLAGS", "TARGET_CFLAGS"] {
            cargo.env_remove(variable);
        }
        cargo
    }
}

/// Settings with which the component, in its messages of panics, has no path of this machine: it is the same
/// wherever it is built.
fn without_paths(root: &Path, registries: &[PathBuf]) -> Result<String> {
    let mut flags = vec![format!("--remap-path-prefix={}=agentkernel", root.display())];
    for registry in registries {
        flags.push(format!("--remap-path-prefix={}=crates", registry.display()));
    }
    // A list of strings is written in JSON as it is in TOML. Cargo puts it behind the workspace's own.
    Ok(format!("target.{TRIPLE}.rustflags={}", serde_json::to_string(&flags)?))
}

/// A path as it is from everywhere; a bare name, which is looked for in `PATH`, as it is.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    if path.components().count() == 1 {
        return Ok(path);
    }
    Ok(std::path::absolute(path)?)
}

fn has_library(rustc: &Path) -> bool {
    // The folder is named even if it is not there.
    print(rustc, &["--print", "target-libdir", "--target", TRIPLE])
        .is_some_and(|folder| Path::new(folder.trim_end()).is_dir())
}

/// What a compiler prints, if it can be run.
fn print(compiler: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(compiler).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
