//! The tools that there are, and the files they are made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::manifest::sha256;

/// Where cargo builds them, relative to the repository as all paths here.
pub const TARGET: &str = "target/tools";

/// A crate that is built into a component.
pub struct Tool {
    /// As programs import it.
    pub name: String,
    /// The name of the crate.
    pub package: String,
    /// The folder of the crate; its WIT is in `wit`.
    pub folder: PathBuf,
    /// The folder of its workspace.
    pub workspace: PathBuf,
    /// The folders of libraries of the workspace that it uses.
    pub libraries: Vec<PathBuf>,
    /// Where it is committed.
    pub home: PathBuf,
}

/// Cargo, as if it were called from a shell: `cargo run` has set variables about this very program, and a
/// build script that asks for one of them (ring's does) would run again, and what depends on it be compiled again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The shipped tools and, if they are wanted, the components that tests call.
pub fn find(root: &Path, test_components: bool) -> Result<Vec<Tool>> {
    let mut found = in_workspace(root, "tools", "tools/prebuilt")?;
    if test_components {
        for workspace in ["tests/tools/echo", "tests/tools/fetch"] {
            found.extend(in_workspace(root, workspace, "tests/tools")?);
        }
    }
    Ok(found)
}

/// The part of `cargo metadata` that is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// `None` for a normal one.
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Package {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

fn in_workspace(root: &Path, workspace: &str, home: &str) -> Result<Vec<Tool>> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root.join(workspace))
        .output()
        .context("cannot start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed in `{workspace}`\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let packages = serde_json::from_slice::<Metadata>(&output.stdout)?.packages;
    let relative = |path: &Path| -> Result<PathBuf> {
        let inside = path.strip_prefix(root);
        Ok(inside.with_context(|| format!("`{}` is no part of the repository", path.display()))?.into())
    };
    let mut tools = Vec::new();
    for package in packages.iter().filter(|package| package.folder().join("wit").is_dir()) {
        let mut libraries = Vec::new();
        let mut work = vec![package];
        while let Some(user) = work.pop() {
            let used =
                user.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
            for path in used.filter_map(|dependency| dependency.path.as_deref()) {
                let folder = relative(path)?;
                if !libraries.contains(&folder) {
                    libraries.push(folder);
                    work.extend(packages.iter().filter(|library| library.folder() == path));
                }
            }
        }
        tools.push(Tool {
            name: package.name.replace('-', "_"),
            package: package.name.clone(),
            folder: relative(package.folder())?,
            workspace: workspace.into(),
            libraries,
            home: home.into(),
        });
    }
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tools)
}

impl Tool {
    /// The hashes of all that it is made of, as it is now.
    pub fn sources(&self, root: &Path) -> Result<BTreeMap<String, String>> {
        let mut work: Vec<PathBuf> =
            ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"].map(|file| self.workspace.join(file)).into();
        work.retain(|file| root.join(file).exists());
        work.push(self.folder.clone());
        work.extend(self.libraries.iter().cloned());
        let mut found = BTreeMap::new();
        while let Some(path) = work.pop() {
            let full = root.join(&path);
            if full.is_dir() {
                for entry in fs::read_dir(&full)? {
                    let name = entry?.file_name();
                    if name != "target" {
                        work.push(path.join(name));
                    }
                }
            } else {
                let bytes = fs::read(&full).with_context(|| format!("cannot read `{}`", path.display()))?;
                found.insert(path.to_string_lossy().replace('\\', "/"), sha256(&bytes));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_made_of_their_libraries_too() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let tools = find(root, true).unwrap();
        let sources =
            |name: &str| tools.iter().find(|tool| tool.name == name).unwrap().sources(root).unwrap();
        let sql = sources("sql");
        // `common` is used by `tabular`.
        for file in
            ["tools/sql/wit/sql.wit", "tools/data-analysis/tabular/Cargo.toml", "tools/common/Cargo.toml"]
        {
            assert!(sql.contains_key(file), "{file}");
        }
        assert!(sql.contains_key("tools/Cargo.lock") && !sql.contains_key("tools/text/Cargo.toml"));
        assert!(sources("echo").contains_key("tests/tools/echo/Cargo.lock"));
        assert!(tools.iter().all(|tool| tool.name != "common"), "a library is no tool");
    }
}
