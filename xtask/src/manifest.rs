//! What a prebuilt component was built from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Files and folders whose content shapes the interpreter component.
const SOURCES: &[&str] = &[
    "guest-python/app.py",
    "guest-python/_agentkernel",
    "guest-python/rehearsal.txt",
    "guest-python/requirements.txt",
    "guest-python/package.json",
    "guest-python/package-lock.json",
    "wit/kernel.wit",
    "xtask/src",
];

#[derive(Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    pub cpython: String,
    pub componentize_py: String,
    /// `None` for a build without it.
    pub binaryen: Option<String>,
    pub component: Component,
    /// Source path, relative to the repository, to the SHA-256 of its content.
    pub sources: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
pub struct Component {
    /// Of the component, decompressed.
    pub sha256: String,
    pub bytes: u64,
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hashes of all sources as they are now.
pub fn sources(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut work: Vec<PathBuf> = SOURCES.iter().map(PathBuf::from).collect();
    while let Some(path) = work.pop() {
        let full = root.join(&path);
        if full.is_dir() {
            for entry in std::fs::read_dir(&full)? {
                let name = entry?.file_name();
                if name != "__pycache__" {
                    work.push(path.join(name));
                }
            }
        } else {
            let bytes = std::fs::read(&full).with_context(|| format!("cannot read `{}`", path.display()))?;
            found.insert(path.to_string_lossy().replace('\\', "/"), sha256(&bytes));
        }
    }
    Ok(found)
}
